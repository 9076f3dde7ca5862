/* The option table: every option of every command, in the order of --help.  See option.h.  A row that is added here
 * is parsed, shown by --help and completed by shells; the manual page must get its entry (tests/test_options_cli.sh
 * compares). */
#include "cli/option.h"

#include <string.h>

const struct command_row command_table[COMMANDS] = {
    { "run", "[OPTION...] COMMAND [WORD...] [::: VALUE... | :::: FILE...]",
      "run a command for each line of standard input, or each VALUE or line of a FILE, many at a time" },
    { "pipe", "[OPTION...] COMMAND [WORD...] [:::: FILE...]",
      "cut standard input, or FILEs, into blocks at the ends of lines, and give each to a command's standard input" },
    { "call", "[OPTION...] LIB.so:FUNCTION [FILE...]",
      "call a C function for each line or record of standard input, or of FILEs" },
    { "bench", "[WORKLOAD...] [OPTION...]",
      "time workloads on every path and say what moving data and computing cost" },
    { "info", "", "version, what this build has, what this machine offers and what will hurt" },
    { "completion", "bash|zsh|fish", "print a script that teaches a shell to complete the words of parmap" },
    { "help", "[COMMAND]", "this text, or a command's" },
};

const char *const heading_names[HEADINGS] = { "Options", "Input", "Output", "Control", "Record", "Show", "Other" };
const char *const shell_names[SHELLS] = { "bash", "zsh", "fish" };

#define RUN (1u << COMMAND_RUN)
#define PIPE (1u << COMMAND_PIPE)
#define CALL (1u << COMMAND_CALL)
#define BENCH (1u << COMMAND_BENCH)
#define HELP (1u << COMMAND_HELP)
#define JOBS (RUN | PIPE)           /* those that start commands */
#define BATCH (RUN | PIPE | CALL)
#define EVERY ((1u << COMMANDS) - 1)

#define INPUT HEADING_INPUT
#define OUTPUT HEADING_OUTPUT
#define CONTROL HEADING_CONTROL
#define RECORD HEADING_RECORD
#define SHOW HEADING_SHOW
#define OTHER HEADING_OTHER
#define OF_BENCH HEADING_BENCH
#define AT(field) offsetof(struct settings, field)
#define BATCH_AT(field) offsetof(struct settings, batch.field)

/* name, letter, aliases, argument, default, help, values, heading, commands, setter, where */
const struct option option_table[] = {
    { "--path", 0, NULL, "PATH[,PATH...]", "all", "serial, openmp, shm, shm-copy, zmq",
      "serial openmp shm shm-copy zmq all", OF_BENCH, BENCH, set_path, 0 },
    { "--workers", 0, NULL, "N[,N...]", NULL, "workers of a pool; several values: each is timed [the usable CPUs]",
      NULL, OF_BENCH, BENCH, set_workers, 0 },
    { "--size", 0, NULL, "N", NULL, "items; k, M, G or Ki, Mi, Gi may follow [the workload's]", NULL, OF_BENCH, BENCH,
      set_size, 0 },
    { "--chunk", 0, NULL, "N", "0", "items a chunk; 0: the library's choice, and 1 for sleep and empty", NULL,
      OF_BENCH, BENCH, set_chunk, 0 },
    { "--runs", 0, NULL, "N", "5", "timed runs, after one that warms up", NULL, OF_BENCH, BENCH, set_runs, 0 },
    { "--input", 0, NULL, "FILE", NULL, "numbers for sum: .npy, or raw ones of type --dtype", NULL, OF_BENCH, BENCH,
      set_file, AT(input) },
    { "--dtype", 0, NULL, "TYPE", NULL, "f64, f32, i64, i32 or u8, for sum [f64]", "f64 f32 i64 i32 u8", OF_BENCH,
      BENCH, set_dtype, 0 },
    { "--numbers", 0, NULL, "N[,N...]", "2139079,1214759,1516637,1852285", "for factorize; more may follow as words",
      NULL, OF_BENCH, BENCH, set_numbers, 0 },
    { "--kill-every", 0, NULL, "MS", NULL, "kill a random worker that often during the timed runs", NULL, OF_BENCH,
      BENCH, set_kill_every, 0 },
    { "--format", 0, NULL, "FORMAT", "table", "table, csv or json", "table csv json", OF_BENCH, BENCH, set_format,
      0 },
    { "--output", 0, NULL, "FILE", NULL, "write there instead of standard output", NULL, OF_BENCH, BENCH, set_file,
      AT(output) },
    { "--plot", 0, NULL, "FILE", NULL, "draw cost and speed-up with gnuplot into FILE.svg or FILE.png", NULL,
      OF_BENCH, BENCH, set_plot, AT(plot) },

    { "--arg-file", 'a', NULL, "FILE", NULL, "read FILE (- is standard input); may be given again", NULL, INPUT, JOBS,
      set_arg_file, 0 },
    { "--null", '0', NULL, NULL, NULL, "records end with a zero byte, not with a newline", NULL, INPUT, BATCH,
      set_null, 0 },
    { "--delimiter", 'd', NULL, "BYTE", NULL, "records end with BYTE; \\n, \\t, \\0, \\xHH are understood [\\n]",
      NULL, INPUT, BATCH, set_delimiter, 0 },
    { "--max-args", 'n', "-N --max-replace-args", "N", NULL, "at most N arguments a command [1]", NULL, INPUT, RUN,
      set_most, BATCH_AT(most) },
    { "--max-lines", 'L', NULL, "N", NULL, "at most N lines a command", NULL, INPUT, RUN, set_most,
      BATCH_AT(most_lines) },
    { "--context", 'X', NULL, NULL, NULL, "as many arguments as fit; a word that has {} is repeated for each", NULL,
      INPUT, RUN, set_fill, 0 },
    { "--xargs", 'm', NULL, NULL, NULL, "as many arguments as fit, all in the place of {}", NULL, INPUT, RUN,
      set_fill, 0 },
    { "--max-chars", 's', NULL, "N", NULL, "at most N bytes a command line [as the system allows]", NULL, INPUT, RUN,
      set_most, BATCH_AT(most_chars) },
    { "--colsep", 'C', NULL, "RE", NULL,
      "what RE (an extended regular expression) matches divides columns {1} {2} ...", NULL, INPUT, RUN, set_colsep,
      0 },
    { "--header", 0, NULL, ":", NULL, "the first record names the columns: {name}", ":", INPUT, RUN | CALL,
      set_header, 0 },
    { "--csv", 0, NULL, NULL, NULL, "records are rows of CSV, in which quotes may enclose newlines", NULL, INPUT, RUN
      | CALL, set_flag, BATCH_AT(csv) },
    { "--link", 0, NULL, NULL, NULL, "read all sources in step; the default is every combination", NULL, INPUT, RUN,
      set_flag, BATCH_AT(link) },
    { "--shuf", 0, NULL, NULL, NULL, "in random order (see --seed)", NULL, INPUT, RUN, set_flag, BATCH_AT(shuffle) },
    { "--no-run-if-empty", 'r', NULL, NULL, NULL, "skip empty records", NULL, INPUT, RUN, set_flag,
      BATCH_AT(skip_empty) },
    { "--replace", 'I', NULL, "TEXT", NULL, "what stands for an argument [{}]", NULL, INPUT, RUN, set_text,
      BATCH_AT(replace) },
    { "--shell", 0, NULL, NULL, NULL,
      "the command is a line for sh, values are quoted; without a command each line is one", NULL, INPUT, RUN,
      set_flag, BATCH_AT(shell) },
    { "--shell", 0, NULL, NULL, NULL, "the command is a line for sh", NULL, INPUT, PIPE, set_flag, BATCH_AT(shell) },
    { "--block", 0, NULL, "SIZE", "1Mi", "bytes a block, up to the end of a record", NULL, INPUT, PIPE, set_bytes,
      BATCH_AT(block) },
    { "--records", 0, NULL, "N", NULL, "all records are N bytes long", NULL, INPUT, PIPE | CALL, set_bytes,
      BATCH_AT(record) },
    { "--recstart", 0, NULL, "TEXT", NULL, "a record starts with TEXT; escapes as of -d", NULL, INPUT, PIPE,
      set_marker, BATCH_AT(record_start) },
    { "--recend", 0, NULL, "TEXT", NULL, "a record ends with TEXT; escapes as of -d", NULL, INPUT, PIPE, set_marker,
      BATCH_AT(record_end) },
    { "--filter", 0, NULL, NULL, NULL, "commands live on and are fed block after block, one command a slot", NULL,
      INPUT, PIPE, set_flag, BATCH_AT(filter) },

    { "--group", 0, NULL, NULL, NULL, "each command's output in one piece (the default)", NULL, OUTPUT, JOBS,
      set_grouping, 0 },
    { "--line-buffer", 0, "--lb", NULL, NULL, "output as it comes, line by line", NULL, OUTPUT, JOBS, set_grouping,
      0 },
    { "--ungroup", 'u', NULL, NULL, NULL, "commands write where parmap does; output may mix", NULL, OUTPUT, JOBS,
      set_grouping, 0 },
    { "--keep-order", 'k', NULL, NULL, NULL, "output in the order of input (call always does)", NULL, OUTPUT, BATCH,
      set_flag, BATCH_AT(keep_order) },
    { "--tag", 0, NULL, NULL, NULL, "each line of output after the arguments and a tab", NULL, OUTPUT, JOBS, set_flag,
      BATCH_AT(tag) },
    { "--tagstring", 0, NULL, "TEXT", NULL, "the same with TEXT, in which {} and the like are replaced", NULL, OUTPUT,
      JOBS, set_text, BATCH_AT(tagstring) },
    { "--results", 0, NULL, "DIR|FILE.jsonl", NULL,
      "also store all output in a tree of files, or as a line of JSON a job", NULL, OUTPUT, JOBS, set_file,
      BATCH_AT(results) },
    { "--quiet", 0, NULL, NULL, NULL, "do not show the commands' output", NULL, OUTPUT, JOBS, set_flag,
      BATCH_AT(quiet) },
    { "--window", 0, NULL, "SIZE", "64Mi", "bytes of waiting output in memory; more waits in unnamed files", NULL,
      OUTPUT, JOBS, set_bytes, BATCH_AT(window) },
    { "--output", 0, NULL, "FILE", NULL, "write there instead of standard output", NULL, OUTPUT, CALL, set_file,
      BATCH_AT(output) },

    { "--jobs", 'j', "-P --max-procs", "N", NULL,
      "at once: N, N% of the CPUs, +N more than CPUs, 0 = most, or a FILE [100%]", NULL, CONTROL, BATCH, set_jobs,
      0 },
    { "--timeout", 0, NULL, "TIME", NULL, "end a job after 30, 1.5, 2m, 1h, 1d, or N% of the median run time", NULL,
      CONTROL, BATCH, set_timeout, 0 },
    { "--retries", 0, NULL, "N", "1", "a job that fails is run up to N times in all", NULL, CONTROL, BATCH,
      set_retries, 0 },
    { "--retry-delay", 0, NULL, "TIME[,xB]", NULL, "wait before a job is run again, each time B times as long", NULL,
      CONTROL, JOBS, set_retry_delay, 0 },
    { "--halt", 0, NULL, "WHEN", "never", "stop: now|soon,fail|success|done=N|N%",
      "never now,fail=1 soon,fail=1 now,success=1", CONTROL, JOBS, set_halt, 0 },
    { "--delay", 0, NULL, "TIME", NULL, "wait between two starts", NULL, CONTROL, JOBS, set_delay, 0 },
    { "--nice", 0, NULL, "N", NULL, "run jobs with niceness N, from -20 to 19", NULL, CONTROL, JOBS, set_nice, 0 },
    { "--load", 0, NULL, "N", NULL, "start nothing while the load average is above N, or N% of the CPUs", NULL,
      CONTROL, JOBS, set_load, 0 },
    { "--memfree", 0, NULL, "SIZE", NULL, "start nothing while less memory is available", NULL, CONTROL, JOBS,
      set_bytes, BATCH_AT(memfree) },
    { "--mem", 0, NULL, "SIZE", NULL, "refuse more memory to each process of a job", NULL, CONTROL, JOBS, set_bytes,
      BATCH_AT(memory) },
    { "--pin", 0, NULL, NULL, NULL, "each slot on a CPU of its own", NULL, CONTROL, BATCH, set_flag, BATCH_AT(pin) },
    { "--jobserver", 0, NULL, NULL, NULL, "take GNU make's tokens for jobs", NULL, CONTROL, BATCH, set_flag,
      BATCH_AT(jobserver) },
    { "--seed", 0, NULL, "N", NULL, "of --shuf and of the random streams of call [of the clock]", NULL, CONTROL,
      RUN | CALL, set_seed, 0 },
    { "--exit", 0, NULL, "HOW", "xargs", "status xargs: 123 when jobs failed; count: how many, 101 for more",
      "xargs count", CONTROL, JOBS, set_exit, 0 },

    { "--joblog", 0, NULL, "FILE", NULL, "a line for each job that ended", NULL, RECORD, JOBS, set_file,
      BATCH_AT(joblog) },
    { "--resume", 0, NULL, NULL, NULL, "run what the --joblog does not have", NULL, RECORD, JOBS,
      set_resume, 0 },
    { "--resume-failed", 0, NULL, NULL, NULL, "the same, and run again what failed", NULL, RECORD, JOBS, set_resume,
      0 },
    /* Not of pipe: the log has the commands, not their input. */
    { "--retry-failed", 0, NULL, NULL, NULL, "run again only what failed, as the --joblog has it", NULL, RECORD, RUN,
      set_resume, 0 },

    { "--bar", 0, NULL, NULL, NULL, "how much is done, as a bar", NULL, SHOW, BATCH, set_flag, BATCH_AT(bar) },
    { "--eta", 0, NULL, NULL, NULL, "how long the rest will take", NULL, SHOW, BATCH, set_flag, BATCH_AT(eta) },
    { "--progress", 0, NULL, NULL, NULL, "how many jobs wait, run and have ended", NULL, SHOW, BATCH, set_flag,
      BATCH_AT(progress) },
    { "--dry-run", 0, "--dryrun", NULL, NULL, "print the commands, and run none", NULL, SHOW, JOBS, set_flag,
      BATCH_AT(dry_run) },
    { "--verbose", 't', NULL, NULL, NULL, "print each command on standard error before it runs", NULL, SHOW, JOBS,
      set_flag, BATCH_AT(trace) },
    { "--interactive", 'p', NULL, NULL, NULL, "ask on the terminal before each command", NULL, SHOW, JOBS, set_flag,
      BATCH_AT(ask) },
    { "--stats", 0, NULL, NULL, NULL, "at the end, what ran, for how long, and what it took", NULL, SHOW, BATCH,
      set_flag, BATCH_AT(stats) },

    { "--man", 0, NULL, NULL, NULL, "a command's options in the language of its manual page", NULL, OTHER, HELP,
      set_man, 0 },
    { "--help", 'h', NULL, NULL, NULL, "show this text", NULL, OTHER, EVERY, set_help, 0 },
    { "--version", 'V', NULL, NULL, NULL, "show the version", NULL, OTHER, EVERY, set_version, 0 },
};
const size_t option_count = sizeof option_table / sizeof *option_table;

_Static_assert(sizeof option_table / sizeof *option_table <= MOST_OPTIONS, "settings.given has a place for each");

bool option_of(enum command command, const struct option *o)
{
    return command == COMMANDS ? o->commands == EVERY : (o->commands >> command & 1u) != 0;
}

bool option_takes_file(const struct option *o)
{
    return o->argument && (strstr(o->argument, "FILE") || o->letter == 'j');
}

size_t option_names(const struct option *o, struct option_name names[MOST_NAMES])
{
    struct option_name longs[MOST_NAMES];
    size_t n = 0, nlongs = 0;

    if (o->letter) snprintf(names[n++].text, sizeof names->text, "-%c", o->letter);
    snprintf(longs[nlongs++].text, sizeof longs->text, "%s", o->name);
    for (const char *at = o->aliases; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        struct option_name *to = length == 2 ? &names[n++] : &longs[nlongs++];

        snprintf(to->text, sizeof to->text, "%.*s", (int)length, at);
        at += length;
    }
    memcpy(names + n, longs, nlongs * sizeof *longs);
    return n + nlongs;
}

bool option_given(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < option_count; i++)
        if (s->given[i] && !strcmp(option_table[i].name, name)) return true;
    return false;
}

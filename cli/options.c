/* The option table, and parsing and help from it.  See options.h. */
#include "cli/options.h"
#include "cli/words.h"

#include <string.h>

const char *const path_names[PATHS] = { "serial", "openmp", "shm", "shm-copy", "zmq" };
const char *const dtype_names[DTYPES] = { "f64", "f32", "i64", "i32", "u8" };
const size_t dtype_sizes[DTYPES] = { 8, 4, 8, 4, 1 };
const char *const workload_names[WORKLOADS] = { "sum", "actions", "factorize", "sleep", "empty" };
static const char *const workload_help[WORKLOADS] = {
    "add up numbers (10,000,000 doubles, or --input)",
    "count actions that the compiler cannot remove (100,000,000)",
    "find all divisors of numbers by trial division (--numbers)",
    "blocking calls of 0.1 s (10), by default one worker each",
    "items that do nothing (1,000,000): what dispatch costs",
};
static const char *const format_names[FORMATS] = { "table", "csv", "json" };

static const struct {
    const char *name, *words, *help;
} commands[COMMANDS] = {
    { "bench", "[WORKLOAD...] [OPTION...]",
      "time workloads on every path and say what moving data and computing cost" },
    { "info", "", "version, what this build has, what this machine offers and what will hurt" },
    { "help", "[COMMAND]", "this text, or a command's" },
};

static int wrong(const char *option, const char *word, size_t length, const char *expected)
{
    complain("--%s: '%.*s' is not %s", option, (int)length, word, expected);
    return 2;
}

/* ---- One setter an option: 0, or 2 after a message ---- */

typedef int setter(struct settings *settings, const char *value);

/* Calls `one` for each word of a list with commas. */
static int each(struct settings *settings, const char *list, int (*one)(struct settings *, const char *, size_t))
{
    for (;;) {
        size_t length = strcspn(list, ",");
        int error = one(settings, list, length);

        if (error || list[length] == '\0') return error;
        list += length + 1;
    }
}

static int one_path(struct settings *s, const char *word, size_t length)
{
    int path = words_find(word, length, path_names, PATHS);

    if (length == 3 && memcmp(word, "all", 3) == 0) {
        for (int p = 0; p < PATHS; p++) s->paths[p] = true;
        s->all_paths = true;
        return 0;
    }
    if (path < 0) {
        const char *right[PATHS + 1];

        memcpy(right, path_names, sizeof path_names);
        right[PATHS] = "all";
        words_complain("path", word, length, right, PATHS + 1);
        return 2;
    }
    s->paths[path] = true;
    return 0;
}

static int set_path(struct settings *s, const char *value)
{
    memset(s->paths, 0, sizeof s->paths);
    s->all_paths = false;
    return each(s, value, one_path);
}

static int one_workers(struct settings *s, const char *word, size_t length)
{
    uint64_t n;

    if (!words_number(word, length, &n) || n < 1 || n > MOST_WORKERS)
        return wrong("workers", word, length, "a number of workers from 1 to 4095");
    for (unsigned i = 0; i < s->nworkers; i++)
        if (s->workers[i] == n) return 0;
    if (s->nworkers == MOST_WORKER_COUNTS)
        return wrong("workers", word, length, "among the first 32 values: give fewer");
    s->workers[s->nworkers++] = (unsigned)n;
    return 0;
}

static int set_workers(struct settings *s, const char *value)
{
    s->nworkers = 0;
    return each(s, value, one_workers);
}

static int one_number(struct settings *s, const char *word, size_t length)
{
    uint64_t n;

    if (!words_number(word, length, &n) || n < 1) return wrong("numbers", word, length, "a whole number from 1 on");
    if (s->nnumbers == MOST_NUMBERS) return wrong("numbers", word, length, "among the first 4096 numbers: give fewer");
    s->numbers[s->nnumbers++] = n;
    return 0;
}

static int set_numbers(struct settings *s, const char *value)
{
    s->nnumbers = 0;
    return each(s, value, one_number);
}

static int number(const char *option, const char *value, uint64_t from, uint64_t to, const char *expected,
                  uint64_t *out)
{
    if (!words_number(value, strlen(value), out) || *out < from || *out > to)
        return wrong(option, value, strlen(value), expected);
    return 0;
}

static int set_size(struct settings *s, const char *value)
{
    s->has_size = true;
    /* 2^48 items of 8 bytes still fit in size_t, and no machine here has more. */
    return number("size", value, 0, UINT64_C(1) << 48, "a number of items, such as 4000000, 100M or 64Ki", &s->size);
}

static int set_chunk(struct settings *s, const char *value)
{
    return number("chunk", value, 0, 1u << 24, "a number of items from 0 to 16777216", &s->chunk);
}

static int set_runs(struct settings *s, const char *value)
{
    return number("runs", value, 1, 1000, "a number of runs from 1 to 1000", &s->runs);
}

static int set_kill_every(struct settings *s, const char *value)
{
    return number("kill-every", value, 1, 3600000, "a number of milliseconds from 1 to 3600000", &s->kill_every_ms);
}

static int one_of(const char *what, const char *value, const char *const *names, size_t count, int *out)
{
    *out = words_find(value, strlen(value), names, count);
    if (*out >= 0) return 0;
    words_complain(what, value, strlen(value), names, count);
    return 2;
}

static int set_format(struct settings *s, const char *value)
{
    int found, error = one_of("format", value, format_names, FORMATS, &found);

    if (!error) s->format = (enum format)found;
    return error;
}

static int set_dtype(struct settings *s, const char *value)
{
    int found, error = one_of("dtype", value, dtype_names, DTYPES, &found);

    if (!error) s->dtype = (enum dtype)found;
    s->has_dtype = true;
    return error;
}

static int file_name(const char *option, const char *value, const char **out)
{
    *out = value;
    return *value ? 0 : wrong(option, value, 0, "the name of a file");
}

static int set_output(struct settings *s, const char *value) { return file_name("output", value, &s->output); }
static int set_input(struct settings *s, const char *value) { return file_name("input", value, &s->input); }

static int set_plot(struct settings *s, const char *value)
{
    size_t length = strlen(value);

    s->plot = value;
    if (length > 4 && (!strcmp(value + length - 4, ".svg") || !strcmp(value + length - 4, ".png"))) return 0;
    return wrong("plot", value, length, "a file name that ends in .svg or .png");
}

static int set_help(struct settings *s, const char *value) { (void)value; s->help = true; return 0; }
static int set_version(struct settings *s, const char *value) { (void)value; s->version = true; return 0; }

/* ---- The table ---- */

#define BENCH (1u << COMMAND_BENCH)
#define EVERY (~0u)

static const struct option {
    const char *name, *argument; /* NULL: takes none */
    const char *standard;        /* the default as a user would type it; NULL: none */
    const char *help;
    unsigned commands;           /* bits of those that have it */
    setter *set;
} options[] = {
    { "--path", "PATH[,PATH...]", "all", "serial, openmp, shm, shm-copy, zmq", BENCH, set_path },
    { "--workers", "N[,N...]", NULL, "workers of a pool; several values: each is timed [the usable CPUs]", BENCH,
      set_workers },
    { "--size", "N", NULL, "items; k, M, G or Ki, Mi, Gi may follow [the workload's]", BENCH, set_size },
    { "--chunk", "N", "0", "items a chunk; 0: the library's choice, and 1 for sleep and empty", BENCH, set_chunk },
    { "--runs", "N", "5", "timed runs, after one that warms up", BENCH, set_runs },
    { "--input", "FILE", NULL, "numbers for sum: .npy, or raw ones of type --dtype", BENCH, set_input },
    { "--dtype", "TYPE", NULL, "f64, f32, i64, i32 or u8, for sum [f64]", BENCH, set_dtype },
    { "--numbers", "N[,N...]", "2139079,1214759,1516637,1852285", "for factorize; more may follow as words", BENCH,
      set_numbers },
    { "--kill-every", "MS", NULL, "kill a random worker that often during the timed runs", BENCH, set_kill_every },
    { "--format", "FORMAT", "table", "table, csv or json", BENCH, set_format },
    { "--output", "FILE", NULL, "write there instead of standard output", BENCH, set_output },
    { "--plot", "FILE", NULL, "draw cost and speed-up with gnuplot into FILE.svg or FILE.png", BENCH, set_plot },
    { "--help", NULL, NULL, "show this text", EVERY, set_help },
    { "--version", NULL, NULL, "show the version", EVERY, set_version },
};
#define OPTIONS (sizeof options / sizeof *options)

static bool has_option(enum command command, const struct option *o)
{
    /* Before a command is named only those of every command are known. */
    return command == COMMANDS ? o->commands == EVERY : (o->commands >> command & 1u) != 0;
}

static const struct option *find_option(enum command command, const char *word, size_t length)
{
    const char *names[OPTIONS];
    size_t n = 0;

    for (size_t i = 0; i < OPTIONS; i++) {
        if (!has_option(command, &options[i])) continue;
        if (strlen(options[i].name) == length && !memcmp(options[i].name, word, length)) return &options[i];
        names[n++] = options[i].name;
    }
    words_complain("option", word, length, names, n);
    return NULL;
}

/* The option at argv[*at], with its argument from the same or the next word. */
static int parse_option(struct settings *s, int argc, char **argv, int *at)
{
    const char *word = argv[*at];
    size_t length = strcspn(word, "=");
    const struct option *o = find_option(s->command, word, length);

    if (!o) return 2;
    if (!o->argument) {
        if (!word[length]) return o->set(s, NULL);
        complain("%s takes no argument, but was given '%s'", o->name, word + length + 1);
        return 2;
    }
    if (word[length]) return o->set(s, word + length + 1);
    if (*at + 1 == argc) {
        complain("%s needs an argument: %s %s", o->name, o->name, o->argument);
        return 2;
    }
    return o->set(s, argv[++*at]);
}

static int parse_command(struct settings *s, const char *word, enum command *command)
{
    const char *names[COMMANDS];
    int found;

    (void)s;
    for (int c = 0; c < COMMANDS; c++) names[c] = commands[c].name;
    if (one_of("command", word, names, COMMANDS, &found)) return 2;
    *command = (enum command)found;
    return 0;
}

/* A plain word: the command, a workload of `bench`, what `help` is about. */
static int parse_word(struct settings *s, const char *word)
{
    int found;

    if (s->command == COMMANDS) return parse_command(s, word, &s->command);
    if (s->command == COMMAND_HELP) return parse_command(s, word, &s->about);
    if (s->command != COMMAND_BENCH) {
        complain("'%s' is not expected: parmap %s takes no words", word, commands[s->command].name);
        return 2;
    }
    if (one_of("workload", word, workload_names, WORKLOADS, &found)) return 2;
    for (unsigned i = 0; i < s->nworkloads; i++)
        if (s->workloads[i] == (unsigned)found) return 0;
    s->workloads[s->nworkloads++] = (unsigned)found;
    return 0;
}

static bool asked_for(const struct settings *s, const char *workload)
{
    for (unsigned i = 0; i < s->nworkloads; i++)
        if (!strcmp(workload_names[s->workloads[i]], workload)) return true;
    return false;
}

int options_parse(struct settings *s, int argc, char **argv)
{
    bool numbers = false; /* the words since --numbers were all numbers */

    memset(s, 0, sizeof *s);
    s->command = s->about = COMMANDS;
    for (size_t i = 0; i < OPTIONS; i++)
        if (options[i].standard) options[i].set(s, options[i].standard);
    for (int i = 1; i < argc; i++) {
        bool digit = argv[i][0] >= '0' && argv[i][0] <= '9';
        int error;

        if (argv[i][0] == '-' && argv[i][1]) {
            numbers = !strncmp(argv[i], "--numbers", 9);
            error = parse_option(s, argc, argv, &i);
        } else if (numbers && digit) {
            error = each(s, argv[i], one_number);
        } else {
            error = parse_word(s, argv[i]);
            numbers = false;
        }
        if (error) return error;
    }
    if (s->command == COMMAND_BENCH && s->nworkloads == 0) {
        parse_word(s, "sum");
        parse_word(s, "actions");
    }
    if (s->input && !asked_for(s, "sum")) {
        complain("--input is for the workload sum, which was not asked for");
        return 2;
    }
    if (s->input && s->has_size) {
        complain("--size does not go with --input: the file has its own size");
        return 2;
    }
    return 0;
}

/* ---- Help ---- */

void options_help(FILE *file, enum command command)
{
    if (command == COMMANDS || command == COMMAND_HELP) {
        fputs("Usage: parmap COMMAND [WORD...] [OPTION...]\n\nCommands:\n", file);
        for (int c = 0; c < COMMANDS; c++) fprintf(file, "  %-8s %s\n", commands[c].name, commands[c].help);
        command = COMMANDS;
    } else {
        fprintf(file, "Usage: parmap %s%s%s\n\n%s.\n", commands[command].name, *commands[command].words ? " " : "",
                commands[command].words, commands[command].help);
    }
    if (command == COMMAND_BENCH) {
        fputs("\nWorkloads [sum actions]:\n", file);
        for (int w = 0; w < WORKLOADS; w++) fprintf(file, "  %-10s %s\n", workload_names[w], workload_help[w]);
    }
    fputs("\nOptions:\n", file);
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];
        char left[64];

        if (!has_option(command, o)) continue;
        snprintf(left, sizeof left, "%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        fprintf(file, "  %-24s %s", left, o->help);
        if (o->standard) fprintf(file, " [%s]", o->standard);
        fputc('\n', file);
    }
    if (command == COMMANDS) fputs("\n'parmap help COMMAND' tells more.  See parmap(1).\n", file);
}

/* The command line of `parmap run`, `pipe` and `call`: every option by every name it has, what becomes of values,
 * where a command and sources begin, and what is refused.  The messages are looked at in test_options_cli.sh. */
#include "cli/option.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct settings s;
static const struct batch *const b = &s.batch;
static char *words[80], line_text[600];

/* The status of `parmap LINE`, whose words are divided by blanks; `_` is an empty word. */
static int parse(const char *line)
{
    int n = 0;

    options_free(&s);
    assert_true(strlen(line) < sizeof line_text);
    strcpy(line_text, line);
    words[n++] = "parmap";
    for (char *word = strtok(line_text, " "); word; word = strtok(NULL, " "))
        words[n++] = strcmp(word, "_") ? word : "";
    words[n] = NULL;
    return options_parse(&s, n, words);
}

static void accepted(const char *line)
{
    if (parse(line)) fail_msg("'parmap %s' is refused", line);
}

static void refused(const char *line)
{
    if (parse(line) != 2) fail_msg("'parmap %s' is accepted", line);
}

/* The words of the command, with a bar between two. */
static const char *command(void)
{
    static char text[600];

    *text = '\0';
    for (size_t i = 0; i < b->nwords; i++) {
        if (i) strcat(text, "|");
        strcat(text, b->words[i]);
    }
    return text;
}

/* The sources: "a|b" for words, "<file" for a file, "+" before a linked one, a blank between two. */
static const char *sources(void)
{
    static char text[600];

    *text = '\0';
    for (size_t i = 0; i < b->nsources; i++) {
        const struct batch_source *source = &b->sources[i];

        if (i) strcat(text, " ");
        if (source->linked) strcat(text, "+");
        if (source->file) strcat(strcat(text, "<"), source->file);
        for (size_t k = 0; k < source->nwords && !source->file; k++)
            strcat(strcat(text, k ? "|" : ""), source->words[k]);
    }
    return text;
}

/* ---- Every option ---- */

static const char *sample(const struct option *o)
{
    static const char *const samples[][2] = {
        { "--arg-file", "list" },   { "--delimiter", "," }, { "--max-args", "1" }, { "--max-lines", "2" },
        { "--max-chars", "100" },   { "--colsep", "," },    { "--header", ":" },   { "--replace", "@" },
        { "--block", "64Ki" },      { "--records", "8" },   { "--recstart", ">" }, { "--recend", "\\n" },
        { "--tagstring", "{}" },    { "--results", "dir" }, { "--window", "1M" },  { "--output", "out" },
        { "--jobs", "50%" },        { "--timeout", "2m" },  { "--retries", "3" },  { "--retry-delay", "1,x2" },
        { "--halt", "now,fail=1" }, { "--delay", "0.5" },   { "--nice", "-5" },    { "--load", "4" },
        { "--memfree", "1G" },      { "--mem", "1G" },      { "--seed", "7" },     { "--exit", "count" },
        { "--joblog", "log" },
    };

    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        if (!strcmp(samples[i][0], o->name)) return samples[i][1];
    fail_msg("%s: no sample value in this test", o->name);
    return NULL;
}

static void accepts(enum command of, const struct option *o, const char *how, const char *name, const char *value)
{
    static const char *const rest[] = { "echo", "cat", "lib.so:f" };
    const char *with = !strcmp(o->name, "--retry-delay")      ? "--retries 2"
                       : o->set == set_resume                 ? "--joblog log"
                                                              : "";
    char line[300], told[100];

    snprintf(told, sizeof told, how, name, value);
    snprintf(line, sizeof line, "%s %s %s %s", command_table[of].name, with, told, rest[of]);
    accepted(line);
    if (!s.given[o - option_table]) fail_msg("'parmap %s' did not meet %s", line, o->name);
    assert_string_equal(command(), rest[of]);
}

static void every_option_by_every_name(void **state)
{
    size_t met = 0;

    (void)state;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        struct option_name names[MOST_NAMES];
        size_t n = option_names(o, names);

        assert_true(n >= 1 && n <= MOST_NAMES);
        for (enum command c = COMMAND_RUN; c <= COMMAND_CALL; c++) {
            for (size_t k = 0; k < n && option_of(c, o); k++, met++) {
                bool letter = names[k].text[1] != '-';

                if (!o->argument) accepts(c, o, "%s", names[k].text, NULL);
                else {
                    accepts(c, o, "%s %s", names[k].text, sample(o));
                    accepts(c, o, letter ? "%s%s" : "%s=%s", names[k].text, sample(o));
                }
            }
        }
    }
    assert_true(met > 150);
}

/* No option hides another, and none can be left out of completions by mistake. */
static void names_are_unambiguous(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_count; i++) {
        for (size_t k = i + 1; k < option_count; k++) {
            struct option_name one[MOST_NAMES], other[MOST_NAMES];
            size_t n = option_names(&option_table[i], one), m = option_names(&option_table[k], other);

            if (!(option_table[i].commands & option_table[k].commands)) continue;
            for (size_t x = 0; x < n; x++)
                for (size_t y = 0; y < m; y++) assert_string_not_equal(one[x].text, other[y].text);
        }
    }
}

/* ---- Values ---- */

static void defaults(void **state)
{
    (void)state;
    accepted("run echo");
    assert_int_equal(s.command, COMMAND_RUN);
    assert_int_equal(b->delimiter, '\n');
    assert_true(b->nsources == 0 && b->most == 0 && !b->fill && !b->colsep && !b->replace && !b->shell);
    assert_true(b->grouping == OUTPUT_GROUP && b->window == 64 << 20 && b->block == 1 << 20);
    assert_true(!b->jobs && b->tries == 1 && b->halt == HALT_NEVER && b->timeout.value == 0 && !b->has_seed);
    assert_true(!b->count_failures && b->resume == RESUME_NO);
}

static void values_of_input(void **state)
{
    (void)state;
    accepted("run -0 echo");
    assert_int_equal(b->delimiter, 0);
    static const struct {
        const char *word;
        char byte;
    } delimiters[] = {
        { ",", ',' },    { "\\n", '\n' },  { "\\t", '\t' },   { "\\r", '\r' },
        { "\\0", '\0' }, { "\\\\", '\\' }, { "\\x1f", 0x1f }, { "\\xFF", (char)0xff },
    };
    for (size_t i = 0; i < sizeof delimiters / sizeof *delimiters; i++) {
        char line[40];

        snprintf(line, sizeof line, "run -d %s echo", delimiters[i].word);
        accepted(line);
        assert_int_equal(b->delimiter, delimiters[i].byte);
    }
    accepted("run -n 3 --max-chars 2k echo");
    assert_true(b->most == 3 && b->most_chars == 2000);
    accepted("run -L 4 echo -L5");
    assert_true(b->most_lines == 4);
    accepted("run -X echo");
    assert_true(b->fill == FILL_CONTEXT);
    accepted("run --xargs -n1 echo");
    assert_true(b->fill == FILL_ARGUMENTS && b->most == 1);
    accepted("run -C a\\tb\\\\t[,;] --header : --link --shuf -rI% --shell echo");
    assert_string_equal(b->colsep, "a\tb\\\\t[,;]"); /* \\t is a backslash and a t */
    assert_string_equal(b->replace, "%");
    assert_true(b->header && b->link && b->shuffle && b->skip_empty && b->shell && !b->csv);
    accepted("pipe --recstart > --recend a\\n\\x0a\\\\ --block 10M cat");
    assert_string_equal(b->record_start, ">");
    assert_string_equal(b->record_end, "a\n\n\\");
    assert_true(b->block == 10000000);
    accepted("call --records 64 --output out lib.so:f");
    assert_true(b->record == 64 && s.output == NULL);
    assert_string_equal(b->output, "out");
}

static void values_of_output(void **state)
{
    (void)state;
    accepted("run --lb -k --tag --tagstring x --results r.jsonl --quiet --window 1Gi echo");
    assert_true(b->grouping == OUTPUT_LINES && b->keep_order && b->tag && b->quiet && b->window == 1 << 30);
    assert_string_equal(b->tagstring, "x");
    assert_string_equal(b->results, "r.jsonl");
    accepted("run -u echo");
    assert_true(b->grouping == OUTPUT_UNGROUPED);
    accepted("run --group echo");
    assert_true(b->grouping == OUTPUT_GROUP);
}

static void times(void **state)
{
    static const struct {
        const char *word;
        double seconds;
    } all[] = {
        { "30", 30 },   { "1.5", 1.5 },  { ".25", 0.25 },   { "2.", 2 },      { "30s", 30 },    { "2m", 120 },
        { "1h", 3600 }, { "1d", 86400 }, { "1h30m", 5400 }, { "1.5h", 5400 }, { "1d1", 86401 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char line[80];

        snprintf(line, sizeof line, "run --timeout %s --delay=%s echo", all[i].word, all[i].word);
        accepted(line);
        assert_true(b->timeout.value == all[i].seconds && !b->timeout.percent && b->delay == all[i].seconds);
    }
    accepted("run --timeout 250% echo");
    assert_true(b->timeout.value == 250 && b->timeout.percent);
    accepted("run --retries 4 --retry-delay 1m echo");
    assert_true(b->tries == 4 && b->retry_delay == 60 && b->retry_factor == 1);
    accepted("run --retries 4 --retry-delay 0.5,x2.5 echo");
    assert_true(b->retry_delay == 0.5 && b->retry_factor == 2.5);
}

static void values_of_control(void **state)
{
    (void)state;
    accepted("run --halt soon,fail=10% echo");
    assert_true(b->halt == HALT_SOON && b->halt_what == HALT_FAIL && b->halt_at.percent && b->halt_at.value == 10);
    accepted("run --halt now,success=3 echo");
    assert_true(b->halt == HALT_NOW && b->halt_what == HALT_SUCCESS && !b->halt_at.percent && b->halt_at.value == 3);
    accepted("run --halt now,done=1 --halt never echo");
    assert_true(b->halt == HALT_NEVER);
    accepted("run --nice -20 --load 2.5 --memfree 1Gi --mem 2G --pin --jobserver --seed 9 --exit=count echo");
    assert_true(b->nice == -20 && b->load == 2.5 && b->memfree == 1 << 30 && b->memory == 2000000000);
    assert_true(b->pin && b->jobserver && b->has_seed && b->seed == 9 && b->count_failures);
    accepted("run --nice 19 --load 100% --exit=xargs echo");
    assert_true(b->nice == 19 && b->load >= 1 && !b->count_failures);
    accepted("run --joblog l --resume echo");
    assert_true(b->resume == RESUME);
    accepted("run --results d --joblog l --resume-failed echo");
    assert_true(b->resume == RESUME_FAILED);
    accepted("run --joblog l --retry-failed"); /* the commands are in the log */
    assert_true(b->resume == RETRY_FAILED && b->nwords == 0);
    assert_string_equal(b->joblog, "l");
    accepted("run --bar --eta --progress --dry-run -tp --stats echo");
    assert_true(b->bar && b->eta && b->progress && b->dry_run && b->trace && b->ask && b->stats);
}

static void number_of_jobs(void **state)
{
    struct rlimit limit;
    unsigned most;
    FILE *file;

    (void)state;
    assert_int_equal(batch_jobs(NULL, 6), 6);
    assert_int_equal(batch_jobs("4", 6), 4);
    assert_int_equal(batch_jobs("+2", 6), 8);
    assert_int_equal(batch_jobs("+0", 6), 6);
    assert_int_equal(batch_jobs("50%", 6), 3);
    assert_int_equal(batch_jobs("200%", 6), 12);
    assert_int_equal(batch_jobs("1%", 6), 1);
    assert_int_equal(batch_jobs("65536", 6), 65536);
    for (const char *const *w =
             (const char *const[]){ "", "x", "0%", "+", "%", "+5%", "-1", "65537", "1.5", "4 ", NULL };
         *w; w++)
        assert_int_equal(batch_jobs(*w, 6), 0);
    most = batch_jobs("0", 6);
    assert_false(getrlimit(RLIMIT_NOFILE, &limit));
    assert_true(most >= 1 && most <= BATCH_MOST_JOBS && most <= limit.rlim_cur);

    assert_false(chdir(getenv("TMPDIR")));
    assert_non_null(file = fopen("jobs", "w"));
    fputs(" +3 \n", file);
    fclose(file);
    assert_int_equal(batch_jobs("jobs", 6), 9);
    accepted("run -j jobs echo");
    assert_string_equal(b->jobs, "jobs");
    assert_non_null(file = fopen("jobs", "w"));
    fputs("many\n", file);
    fclose(file);
    assert_int_equal(batch_jobs("jobs", 6), 0);
    refused("run -j jobs echo");
    assert_false(unlink("jobs"));
    refused("run -j jobs echo");
    assert_false(mkfifo("jobs", 0600)); /* without a writer: nobody waits for one */
    assert_int_equal(batch_jobs("jobs", 6), 0);
    assert_false(unlink("jobs"));
}

/* ---- Words ---- */

static void a_command_begins_at_the_first_word(void **state)
{
    (void)state;
    accepted("run -kj4 grep -k --jobs 9 -- {} x");
    assert_string_equal(command(), "grep|-k|--jobs|9|--|{}|x");
    assert_string_equal(b->jobs, "4");
    accepted("run -j 4 -- -odd --name");
    assert_string_equal(command(), "-odd|--name");
    accepted("run - -k");
    assert_string_equal(command(), "-|-k");
    assert_false(b->keep_order);
    accepted("run --shell");
    assert_true(b->nwords == 0 && b->shell);
}

static void run_need_not_be_said(void **state)
{
    (void)state;
    accepted("echo -n x");
    assert_int_equal(s.command, COMMAND_RUN);
    assert_string_equal(command(), "echo|-n|x");
    accepted("-kj2 --tag pipe");
    assert_int_equal(s.command, COMMAND_RUN);
    assert_string_equal(command(), "pipe"); /* behind an option it is a program */
    accepted("-- bench");
    assert_string_equal(command(), "bench");
    accepted("./benhc");
    accepted("nothing-of-the-kind");
    assert_int_equal(s.command, COMMAND_RUN);
    refused("benhc");
    accepted("--help");
    assert_true(s.help && s.command == COMMANDS);
    accepted("--help anything");
    assert_true(s.help && s.command == COMMANDS);
    accepted("--help pipe");
    assert_true(s.help && s.command == COMMAND_PIPE);
    accepted("run -k --help");
    assert_true(s.help && s.command == COMMAND_RUN);
}

/* A program that is there is run although its name resembles one of ours; a folder and a plain file are no programs. */
static void a_program_in_the_path_is_meant(void **state)
{
    const char *path = getenv("PATH");
    char *before = path ? strdup(path) : NULL;
    int fd;

    (void)state;
    assert_false(chdir(getenv("TMPDIR")));
    assert_false(mkdir("bin", 0700));
    assert_true((fd = open("bin/benhc", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) >= 0);
    close(fd);
    assert_false(mkdir("bin/pip", 0700));
    setenv("PATH", "/nowhere:bin", 1);
    refused("benhc");
    refused("pip");
    assert_false(chmod("bin/benhc", 0700));
    accepted("benhc --fast");
    assert_string_equal(command(), "benhc|--fast");
    assert_false(chdir("bin"));
    setenv("PATH", "/nowhere:", 1); /* an empty part is the working directory */
    accepted("benhc");
    setenv("PATH", "", 1);
    accepted("benhc");
    assert_false(unlink("benhc") || rmdir("pip") || chdir("..") || rmdir("bin"));
    if (before) setenv("PATH", before, 1);
    else unsetenv("PATH");
    free(before);
}

static void sources_follow(void **state)
{
    (void)state;
    accepted("echo {} x ::: a -k b");
    assert_string_equal(command(), "echo|{}|x");
    assert_string_equal(sources(), "a|-k|b");
    assert_false(b->keep_order);
    accepted("-a one -a - echo ::: a b :::+ c d :::: two three ::::+ four :::");
    assert_string_equal(sources(), "<one <- a|b +c|d <two <three +<four ");
    assert_true(b->sources[7 - 1].file && b->sources[7].words && b->sources[7].nwords == 0);
    accepted("-a one echo :::+ a");
    assert_string_equal(sources(), "<one +a");
    accepted("run --shell ::: x");
    assert_true(b->nwords == 0 && b->nsources == 1);
    accepted("pipe -a one wc -l :::: two three");
    assert_string_equal(command(), "wc|-l");
    assert_string_equal(sources(), "<one <two <three");
    refused("echo ::::");
    refused("echo :::: ::: a");
    refused("echo :::+ a");
    refused("echo ::::+ a");
    refused("-a - echo :::: -");
    refused("pipe wc ::: a");
    refused("pipe -a one wc ::::+ two");
}

static void call_takes_options_anywhere(void **state)
{
    (void)state;
    accepted("call -j2 ./lib.so:count one --output out two -- -three");
    assert_string_equal(command(), "./lib.so:count|one|two|-three");
    assert_string_equal(b->output, "out");
    accepted("call a:b.so:f");
    for (const char *const *w = (const char *const[]){ "call", "call lib.so", "call lib.so:", "call :f",
                                                       "call lib.so:1f", "call lib.so:f-g", NULL };
         *w; w++)
        refused(*w);
}

/* ---- What is refused ---- */

static void wrong_values(void **state)
{
    static const struct {
        const char *options, *values;
    } all[] = {
        { "--arg-file", "_" },
        { "-d", "_ ab \\q \\x1 \\xg0 \\" },
        { "-n", "0 x -1 _ 1.5" },
        { "-L", "0 x" },
        { "-s", "0 x" },
        { "-C", "( [ x* _ a|" },
        { "--header", "x _ 1" },
        { "-I", "_" },
        { "--tagstring", "_" },
        { "--results", "_" },
        { "--window", "0 x 1T -1 2000000000G" },
        { "--memfree", "x 0" },
        { "--mem", "x 0" },
        { "-j", "x -1 1.5 1e3 70000 % _" },
        { "--timeout", "0 x 1x 1e9 inf nan 0x1 100% 50% % -1 _ 1,2 m 99999999999" },
        { "--retries", "0 x -1 1000001" },
        { "--retries=2 --retry-delay", "x 1,2 1,x 1,x0.5 1,x2z 1,y2 _ -1" },
        { "--halt", "x now now, now,fail now,fail= now,fail=0 now,fail=x now,fail=0% now,fail=101% later,fail=1 "
                    "soon,bad=1 never,fail=1 _" },
        { "--delay", "x -1 _ 1,x2" },
        { "--nice", "20 -21 x _ --5" },
        { "--load", "0 x -1 0% _ 4x" },
        { "--seed", "x -1 _" },
        { "--exit", "x _" },
        { "--joblog", "_" },
    };
    static const char *const lines[] = {
        "pipe --block 0 cat", "pipe --block x cat", "pipe --records 0 cat", "pipe --recstart _ cat",
        "pipe --recend \\0 cat", "pipe --recend a\\q cat", "call --records x l.so:f", "call --output _ l.so:f",
        "run", "pipe", "pipe --shell", "run -k", "run --retry-delay 1 echo", "run --csv=1 echo", "run -Z echo",
        "run -kZ echo", "run --job 4 echo", "run --keep echo", "run -n", "run --jobs", "run --block 1M cat",
        "call -X l.so:f", "pipe -n3 cat", "completion", "completion sh", "help --man",
    };
    char list[200], line[300];

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char *saved = NULL;

        strcpy(list, all[i].values);
        for (char *value = strtok_r(list, " ", &saved); value; value = strtok_r(NULL, " ", &saved)) {
            snprintf(line, sizeof line, "run %s %s echo", all[i].options, value);
            refused(line);
        }
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) refused(lines[i]);
}

static void contradictions(void **state)
{
    static const char *const all[] = {
        "run -X -n 2",
        "run -m -N3",
        "run -X -m",
        "run -X -L1",
        "run -m -L1",
        "run -n1 -L1",
        "run --csv -0",
        "run --csv -d,",
        "run --csv -C,",
        "run -0 -d,",
        "run --group --lb",
        "run --group -u",
        "run --lb -u",
        "run -u -k",
        "run -uk",
        "run -u --tag",
        "run -u --tagstring x",
        "run -u --results d",
        "run -u --quiet",
        "run --resume",
        "run --resume-failed",
        "run --retry-failed --results d",
        "run --joblog l --resume --resume-failed",
        "run --joblog l --resume --retry-failed",
        "run --joblog l --resume-failed --retry-failed",
        "pipe --filter -k",
        "pipe --records 8 --recend x",
        "pipe --records 8 --recstart x",
        "pipe --records 8 -0",
        "pipe --records 8 -d,",
        "pipe --recend x -0",
        "pipe --recstart x -0",
        "pipe --recend x -d,",
        "pipe --recstart x -d,",
        "call --records 8 --csv",
        "call --records 8 --header :",
    };
    char line[100];

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(line, sizeof line, "%s %s", all[i], all[i][0] == 'c' ? "lib.so:f" : "cat");
        refused(line);
    }
    accepted("pipe --filter --shell cat");
    accepted("pipe --recstart x --recend y cat");
    accepted("run --lb -k --tag cat");
}

static void the_rest(void **state)
{
    (void)state;
    accepted("completion zsh");
    assert_true(s.command == COMMAND_COMPLETION && s.shell == SHELL_ZSH);
    accepted("help --man run");
    assert_true(s.man && s.about == COMMAND_RUN);
    accepted("bench factorize --numbers 12 97 100 sum --runs 1");
    assert_true(s.nnumbers == 3 && s.numbers[2] == 100 && s.nworkloads == 2 && s.runs == 1);
    refused("bench --numbers 12 sum 97");
    options_free(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_by_every_name),
        cmocka_unit_test(names_are_unambiguous),
        cmocka_unit_test(defaults),
        cmocka_unit_test(values_of_input),
        cmocka_unit_test(values_of_output),
        cmocka_unit_test(times),
        cmocka_unit_test(values_of_control),
        cmocka_unit_test(number_of_jobs),
        cmocka_unit_test(a_command_begins_at_the_first_word),
        cmocka_unit_test(run_need_not_be_said),
        cmocka_unit_test(a_program_in_the_path_is_meant),
        cmocka_unit_test(sources_follow),
        cmocka_unit_test(call_takes_options_anywhere),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(the_rest),
    };

    return PM_TEST_MAIN("options_batch", tests);
}

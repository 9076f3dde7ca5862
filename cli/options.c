/* Parsing by the option table: which word is an option, which its argument, which begins a command or a source.  See
 * options.h and option.h.  What a value may be is told beside what it sets: options_bench.c, options_batch.c. */
#include "cli/option.h"
#include "cli/words.h"

#include <pmap/pmap.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct parser {
    struct settings *settings;
    char **argv;
    int argc, at;      /* the next word */
    bool words_only;   /* after -- */
    bool numbers;      /* the words since --numbers were all numbers */
    bool implicit;     /* `run` was not said */
};

/* ---- What setters need ---- */

int option_wrong(const struct option *o, const char *word, size_t length, const char *expected)
{
    complain("%s: '%.*s' is not %s", o->name, (int)length, word, expected);
    return 2;
}

int option_choice(const char *what, const char *value, const char *const *names, size_t count)
{
    int found = words_find(value, strlen(value), names, count);

    if (found < 0) words_complain(what, value, strlen(value), names, count);
    return found;
}

int option_command(const char *word, enum command *command)
{
    const char *names[COMMANDS];
    int found;

    for (int c = 0; c < COMMANDS; c++) names[c] = command_table[c].name;
    found = option_choice("command", word, names, COMMANDS);
    if (found < 0) return 2;
    *command = (enum command)found;
    return 0;
}

int set_flag(struct settings *s, const struct option *o, const char *value)
{
    (void)value;
    *(bool *)((char *)s + o->at) = true;
    return 0;
}

int set_text(struct settings *s, const struct option *o, const char *value)
{
    if (!*value) return option_wrong(o, value, 0, "a text of at least one letter");
    *(const char **)((char *)s + o->at) = value;
    return 0;
}

int set_file(struct settings *s, const struct option *o, const char *value)
{
    if (!*value) return option_wrong(o, value, 0, "the name of a file");
    *(const char **)((char *)s + o->at) = value;
    return 0;
}

#define SET(name) int set_##name(struct settings *s, const struct option *o, const char *value) \
    { (void)o; (void)value; s->name = true; return 0; }
SET(help)
SET(version)
SET(man)

/* ---- Options ---- */

static bool names_option(const struct option *o, const char *word, size_t length)
{
    struct option_name names[MOST_NAMES];
    size_t n = option_names(o, names);

    for (size_t i = 0; i < n; i++)
        if (strlen(names[i].text) == length && !memcmp(names[i].text, word, length)) return true;
    return false;
}

/* The row of a name such as --jobs or -j, or NULL. */
static const struct option *find_option(enum command command, const char *word, size_t length)
{
    for (size_t i = 0; i < option_count; i++)
        if (option_of(command, &option_table[i]) && names_option(&option_table[i], word, length))
            return &option_table[i];
    return NULL;
}

static int unknown_option(enum command command, const char *word, size_t length)
{
    const char *names[MOST_OPTIONS];
    size_t n = 0;

    for (size_t i = 0; i < option_count; i++)
        if (option_of(command, &option_table[i])) names[n++] = option_table[i].name;
    words_complain("option", word, length, names, n);
    return 2;
}

static int set(struct parser *p, const struct option *o, const char *value)
{
    p->settings->given[o - option_table] = true;
    p->numbers = o->set == set_numbers;
    return o->set(p->settings, o, value);
}

/* With its argument from the next word.  `name`: as it was typed. */
static int set_by_next(struct parser *p, const struct option *o, const char *name, size_t length)
{
    if (p->at < p->argc) return set(p, o, p->argv[p->at++]);
    complain("%.*s needs an argument: %.*s %s", (int)length, name, (int)length, name, o->argument);
    return 2;
}

static int long_option(struct parser *p, const char *word)
{
    size_t length = strcspn(word, "=");
    const struct option *o = find_option(p->settings->command, word, length);

    if (!o) return unknown_option(p->settings->command, word, length);
    if (o->argument) return word[length] ? set(p, o, word + length + 1) : set_by_next(p, o, word, length);
    if (!word[length]) return set(p, o, NULL);
    complain("%s takes no argument, but was given '%s'", o->name, word + length + 1);
    return 2;
}

/* -kj4: letters, of which the last may have an argument, attached or in the next word. */
static int letters(struct parser *p, const char *word)
{
    for (const char *at = word + 1; *at; at++) {
        const char name[3] = { '-', *at, '\0' };
        const struct option *o = find_option(p->settings->command, name, 2);
        int error;

        /* -runs is more likely to be meant as --runs than as letters. */
        if (!o && at == word + 1) return unknown_option(p->settings->command, word, strlen(word));
        if (!o) return unknown_option(p->settings->command, name, 2);
        if (o->argument) return at[1] ? set(p, o, at + 1) : set_by_next(p, o, name, 2);
        error = set(p, o, NULL);
        if (error) return error;
    }
    return 0;
}

/* ---- Words ---- */

static bool separates(const char *word)
{
    return !strcmp(word, ":::") || !strcmp(word, ":::+") || !strcmp(word, "::::") || !strcmp(word, "::::+");
}

/* What a separator and the words behind it name. */
static int parse_source(struct parser *p)
{
    const char *separator = p->argv[p->at++];
    bool file = separator[3] == ':', linked = separator[strlen(separator) - 1] == '+';
    struct batch_source source = { .words = p->argv + p->at, .linked = linked };

    if (p->settings->command == COMMAND_PIPE && (!file || linked)) {
        complain("'%s' is not expected: parmap pipe reads whole files, which are named behind '::::'", separator);
        return 2;
    }
    if (linked && p->settings->batch.nsources == 0) {
        complain("'%s' has no source before it to be read in step with", separator);
        return 2;
    }
    for (; p->at < p->argc && !separates(p->argv[p->at]); p->at++) source.nwords++;
    if (!file) return batch_source_add(p->settings, source);
    if (source.nwords == 0) {
        complain("'%s' needs the name of a file behind it", separator);
        return 2;
    }
    for (size_t i = 0; i < source.nwords; i++) {
        int error = batch_source_add(p->settings, (struct batch_source){ .file = source.words[i], .linked = linked });

        if (error) return error;
    }
    return 0;
}

/* The rest of the line: the words of a command, whose options are not ours, and sources. */
static int parse_rest(struct parser *p)
{
    struct batch *batch = &p->settings->batch;
    int error = 0;

    batch->words = p->argv + p->at;
    for (; p->at < p->argc && !separates(p->argv[p->at]); p->at++) batch->nwords++;
    while (!error && p->at < p->argc) error = parse_source(p);
    return error;
}

/* Would a shell find a program of this name? */
static bool is_program(const char *word)
{
    const char *path = getenv("PATH");
    char file[4096];
    struct stat st;

    if (strchr(word, '/')) return true;
    for (const char *at = path ? path : "/bin:/usr/bin";; at++) {
        size_t length = strcspn(at, ":");
        int wrote = snprintf(file, sizeof file, "%.*s/%s", (int)(length ? length : 1), length ? at : ".", word);

        if (wrote > 0 && (size_t)wrote < sizeof file && !access(file, X_OK) && !stat(file, &st) && S_ISREG(st.st_mode))
            return true;
        at += length;
        if (!*at) return false;
    }
}

/* The first word: a command of ours; or one that is run, unless it is a slip of the pen for one of ours. */
static int first_word(struct parser *p)
{
    const char *word = p->argv[p->at], *names[COMMANDS];
    int found;

    for (int c = 0; c < COMMANDS; c++) names[c] = command_table[c].name;
    found = words_find(word, strlen(word), names, COMMANDS);
    if (found >= 0) {
        p->settings->command = (enum command)found;
        p->at++;
        return 0;
    }
    if (words_nearest(word, strlen(word), names, COMMANDS) >= 0 && !is_program(word)) {
        words_complain("command", word, strlen(word), names, COMMANDS);
        return 2;
    }
    p->settings->command = COMMAND_RUN;
    p->implicit = true;
    return 0; /* the word is met again, as the first of its command */
}

static int parse_word(struct parser *p)
{
    struct settings *s = p->settings;
    const char *word = p->argv[p->at];
    int shell;

    switch (s->command) {
    case COMMANDS: return first_word(p);
    case COMMAND_RUN:
    case COMMAND_PIPE: return parse_rest(p);
    case COMMAND_CALL:
        /* Options may stand between the files.  Those behind us are read, so that their places are free for words. */
        if (!s->batch.words) s->batch.words = p->argv + p->at;
        s->batch.words[s->batch.nwords++] = p->argv[p->at++];
        return 0;
    case COMMAND_BENCH:
        p->at++;
        p->numbers = p->numbers && word[0] >= '0' && word[0] <= '9';
        return bench_word(s, word, p->numbers);
    case COMMAND_HELP: p->at++; return option_command(word, &s->about);
    case COMMAND_COMPLETION:
        p->at++;
        shell = option_choice("shell", word, shell_names, SHELLS);
        if (shell >= 0) s->shell = (enum shell)shell;
        return shell >= 0 ? 0 : 2;
    case COMMAND_INFO: break;
    }
    complain("'%s' is not expected: parmap %s takes no words", word, command_table[s->command].name);
    return 2;
}

static int parse_option(struct parser *p)
{
    const char *word = p->argv[p->at];
    size_t length = word[1] == '-' ? strcspn(word, "=") : 2;

    /* `parmap -j4 PROGRAM`: all options but --help and --version are of `run`. */
    if (p->settings->command == COMMANDS && !find_option(COMMANDS, word, length)) {
        p->settings->command = COMMAND_RUN;
        p->implicit = true;
    }
    p->at++;
    return word[1] == '-' ? long_option(p, word) : letters(p, word);
}

static int check(struct settings *s)
{
    if (s->help || s->version) return 0;
    switch (s->command) {
    case COMMAND_RUN:
    case COMMAND_PIPE:
    case COMMAND_CALL: return batch_check(s);
    case COMMAND_BENCH: return bench_check(s);
    case COMMAND_COMPLETION:
        if (s->shell < SHELLS) return 0;
        complain("completion needs the name of a shell: bash, zsh or fish");
        return 2;
    case COMMAND_HELP:
        if (!s->man || s->about < COMMANDS) return 0;
        complain("--man needs the name of a command: parmap help --man run");
        return 2;
    case COMMAND_INFO:
    case COMMANDS: break;
    }
    return 0;
}

int options_parse(struct settings *s, int argc, char **argv)
{
    struct parser p = { .settings = s, .argv = argv, .argc = argc, .at = 1 };

    memset(s, 0, sizeof *s);
    s->command = s->about = COMMANDS;
    s->shell = SHELLS;
    s->batch.delimiter = '\n';
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].standard) option_table[i].set(s, &option_table[i], option_table[i].standard);
    while (p.at < argc) {
        const char *word = argv[p.at];
        bool option = !p.words_only && word[0] == '-' && word[1];
        int error = 0;

        if (option && !strcmp(word, "--")) {
            p.words_only = true;
            p.at++;
            /* `parmap -- PROGRAM` */
            if (s->command == COMMANDS) s->command = COMMAND_RUN, p.implicit = true;
        } else if (option) {
            error = parse_option(&p);
        } else {
            error = parse_word(&p);
        }
        if (error) return error;
    }
    /* Who does not name `run` asks for help about the program. */
    if (s->help && p.implicit) s->command = COMMANDS;
    return check(s);
}

const char *options_command_name(enum command command) { return command_table[command].name; }

void options_free(struct settings *s)
{
    free(s->batch.sources);
    s->batch.sources = NULL;
    s->batch.nsources = 0;
}

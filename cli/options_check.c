/* What options of `parmap run`, `pipe` and `call` do not go together, what one needs of another, and what words are
 * missing.  See option.h.  Called once, when all words are read. */
#include "cli/option.h"
#include "cli/words.h"

#include <string.h>

static const struct {
    const char *one, *other, *why;
} clashes[] = {
    { "--context", "--xargs", "{} is either repeated or filled" },
    { "--context", "--max-lines", "one fills a command, one counts lines" },
    { "--xargs", "--max-lines", "one fills a command, one counts lines" },
    { "--max-args", "--max-lines", "one counts arguments, one lines" },
    { "--csv", "--null", "a row of CSV ends with a newline" },
    { "--csv", "--delimiter", "a row of CSV ends with a newline" },
    { "--csv", "--colsep", "columns of CSV are divided by commas" },
    { "--csv", "--records", "rows of CSV end with a newline, and are not of one size" },
    { "--header", "--records", "records of one size have no names" },
    { "--null", "--delimiter", "each says how a record ends" },
    { "--null", "--records", "records of one size have no end" },
    { "--delimiter", "--records", "records of one size have no end" },
    { "--recstart", "--records", "records of one size have no start" },
    { "--recend", "--records", "records of one size have no end" },
    { "--null", "--recstart", "each says how records are divided" },
    { "--null", "--recend", "each says how a record ends" },
    { "--delimiter", "--recstart", "each says how records are divided" },
    { "--delimiter", "--recend", "each says how a record ends" },
    { "--filter", "--keep-order", "a filter's output belongs to no block" },
    { "--filter", "--group", "a filter's output comes as long as the input does" },
    { "--filter", "--retries", "a filter is fed once" },
    { "--filter", "--resume", "a filter is no job of one block that could be left out" },
    { "--filter", "--resume-failed", "a filter is no job of one block that could be run again" },
    { "--filter", "--jobserver", "a filter would keep its token as long as the input lasts" },
    { "--filter", "--dry-run", "how many filters there are depends on how fast they are" },
    { "--group", "--line-buffer", "output is passed on either whole or by lines" },
    { "--group", "--ungroup", "output is passed on either by parmap or not" },
    { "--line-buffer", "--ungroup", "output is passed on either by parmap or not" },
    { "--ungroup", "--keep-order", "parmap does not see ungrouped output" },
    { "--ungroup", "--tag", "parmap does not see ungrouped output" },
    { "--ungroup", "--tagstring", "parmap does not see ungrouped output" },
    { "--ungroup", "--results", "parmap does not see ungrouped output" },
    { "--ungroup", "--quiet", "parmap does not see ungrouped output" },
    { "--resume", "--resume-failed", "each says what to do with jobs that failed" },
    { "--resume", "--retry-failed", "each says what to run again" },
    { "--resume-failed", "--retry-failed", "each says what to run again" },
};

static const struct {
    const char *option, *needs;
} needs[] = {
    { "--resume", "--joblog" },
    { "--resume-failed", "--joblog" },
    { "--retry-failed", "--joblog" },
    { "--retry-delay", "--retries" },
};

/* "--context (-X)": whoever typed the letter may not know the name. */
static const char *label(char text[40], const char *name)
{
    const struct option *o = option_table;

    while (o < option_table + option_count && strcmp(o->name, name)) o++;
    if (o < option_table + option_count && o->letter) snprintf(text, 40, "%s (-%c)", name, o->letter);
    else snprintf(text, 40, "%s", name);
    return text;
}

static int clash(const char *one, const char *other, const char *why)
{
    char first[40], second[40];

    complain("%s does not go with %s: %s", label(first, one), label(second, other), why);
    return 2;
}

static int check_options(const struct settings *s)
{
    for (size_t i = 0; i < sizeof clashes / sizeof *clashes; i++)
        if (option_given(s, clashes[i].one) && option_given(s, clashes[i].other))
            return clash(clashes[i].one, clashes[i].other, clashes[i].why);
    /* -n 1 is the default, and so contradicts nothing. */
    if (s->batch.fill && s->batch.most > 1)
        return clash(s->batch.fill == FILL_CONTEXT ? "--context" : "--xargs", "--max-args",
                     "one fills a command, one counts arguments");
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        if (!option_given(s, needs[i].option) || option_given(s, needs[i].needs)) continue;
        complain("%s needs %s", needs[i].option, needs[i].needs);
        return 2;
    }
    return 0;
}

static int check_sources(const struct batch *b)
{
    size_t standard_input = 0;

    for (size_t i = 0; i < b->nsources; i++)
        if (b->sources[i].file && !strcmp(b->sources[i].file, "-")) standard_input++;
    if (standard_input <= 1) return 0;
    complain("'-': standard input can be read by one source only, and %zu name it", standard_input);
    return 2;
}

/* LIB.so:FUNCTION, where the file's name may have a colon too. */
static int check_function(const struct batch *b)
{
    const char *word = b->nwords ? b->words[0] : NULL, *colon = word ? strrchr(word, ':') : NULL;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    if (!word) {
        complain("call needs a function: LIB.so:FUNCTION");
        return 2;
    }
    if (colon && colon > word && colon[1] && !strchr("0123456789", colon[1]) && !colon[1 + strspn(colon + 1, letters)])
        return 0;
    complain("'%s' is not a library and a function of it: LIB.so:FUNCTION", word);
    return 2;
}

int batch_check(const struct settings *s)
{
    const struct batch *b = &s->batch;
    int error = check_options(s);

    if (!error) error = check_sources(b);
    if (error) return error;
    if (s->command == COMMAND_CALL) return check_function(b);
    /* What to retry is in the log, command and all. */
    if (b->nwords || b->resume == RETRY_FAILED || (b->shell && s->command == COMMAND_RUN)) return 0;
    complain(s->command == COMMAND_RUN ? "no command was given (with --shell each line may be a command)"
                                       : "no command was given to feed blocks to");
    return 2;
}

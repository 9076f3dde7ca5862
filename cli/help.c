/* Texts from the option table: --help, and the list of options in the manual page's language.  See options.h. */
#include "cli/option.h"

#include <string.h>

static const char *const workload_help[WORKLOADS] = {
    "add up numbers (10,000,000 doubles, or --input)",
    "count actions that the compiler cannot remove (100,000,000)",
    "find all divisors of numbers by trial division (--numbers)",
    "blocking calls of 0.1 s (10), by default one worker each",
    "items that do nothing (1,000,000): what dispatch costs",
};

static const char run_words[] =
    "\nWithout an option that says otherwise each line of input is one argument, whatever is in it; no shell sees it.\n"
    "In the words of COMMAND are replaced: {} the argument, {.} without its suffix, {/} without its directory, {//} \n"
    "its directory, {/.} without both, {#} the job's number, {%} its slot's, {2} {2.} ... of the second column\n"
    "or source, {name} with --header.  Without any of them the argument comes last.\n"
    "Sources: ::: VALUE... or :::: FILE..., combined in every way; :::+ and ::::+ go in step with the one before.\n";

static void usage(FILE *file, enum command command)
{
    const struct command_row *c = &command_table[command];

    fprintf(file, "Usage: parmap %s%s%s\n", c->name, *c->words ? " " : "", c->words);
    if (command == COMMAND_RUN) fprintf(file, "   or: parmap %s\n", c->words);
    fprintf(file, "\n%s.\n", c->help);
    if (command == COMMAND_RUN) fputs(run_words, file);
    if (command != COMMAND_BENCH) return;
    fputs("\nWorkloads [sum actions]:\n", file);
    for (int w = 0; w < WORKLOADS; w++) fprintf(file, "  %-10s %s\n", workload_names[w], workload_help[w]);
}

/* All letters, but of the long names only the first: the others are for those who know them already. */
static void line(FILE *file, const struct option *o)
{
    struct option_name names[MOST_NAMES];
    size_t n = option_names(o, names);
    char left[80] = "";

    for (size_t i = 0; i < n && names[i].text[1] != '-'; i++) {
        strcat(left, names[i].text);
        strcat(left, ", ");
    }
    if (!*left) strcat(left, "    ");
    snprintf(left + strlen(left), sizeof left - strlen(left), "%s%s%s", o->name, o->argument ? " " : "",
             o->argument ? o->argument : "");
    fprintf(file, "  %-30s %s", left, o->help);
    if (o->standard) fprintf(file, " [%s]", o->standard);
    fputc('\n', file);
}

void options_help(FILE *file, enum command command)
{
    enum heading heading = HEADINGS;

    if (command == COMMANDS || command == COMMAND_HELP) {
        fputs("Usage: parmap COMMAND [WORD...] [OPTION...]\n"
              "   or: parmap [OPTION...] PROGRAM [WORD...]     the same as parmap run\n"
              "\nCommands:\n", file);
        for (int c = 0; c < COMMANDS; c++) fprintf(file, "  %-10s %s\n", command_table[c].name, command_table[c].help);
    } else {
        usage(file, command);
    }
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];

        if (!option_of(command, o)) continue;
        if (o->heading != heading) fprintf(file, "\n%s:\n", heading_names[heading = o->heading]);
        line(file, o);
    }
    if (command == COMMANDS || command == COMMAND_HELP)
        fputs("\n'parmap help COMMAND' tells more.  See parmap(1).\n", file);
}

/* ---- The manual page ---- */

static bool upper(char c) { return c >= 'A' && c <= 'Z'; }

/* Hyphens that are typed must not become typographic ones; backslashes are roff's own. */
static void roff(FILE *file, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '-') fputs("\\-", file);
        else if (text[i] == '\\') fputs("\\e", file);
        else fputc(text[i], file);
    }
}

/* PATH[,PATH...]: what stands for something else is in italics. */
static void roff_argument(FILE *file, const char *argument)
{
    bool italic = false;

    for (; *argument; argument++) {
        if (upper(*argument) != italic) fputs((italic = !italic) ? "\\fI" : "\\fR", file);
        roff(file, argument, 1);
    }
}

void options_man(FILE *file, enum command command)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        struct option_name names[MOST_NAMES];
        size_t n = option_names(o, names);

        if (!option_of(command, o)) continue;
        fputs(".TP\n.B ", file);
        for (size_t k = 0; k < n; k++) {
            if (k) fputs("\\fR, \\fB", file);
            roff(file, names[k].text, strlen(names[k].text));
        }
        if (o->argument) {
            fputc(' ', file);
            roff_argument(file, o->argument);
        }
        fputc('\n', file);
        roff(file, o->help, strlen(o->help));
        if (o->standard) {
            fputs(" [", file);
            roff(file, o->standard, strlen(o->standard));
            fputc(']', file);
        }
        fputc('\n', file);
    }
}

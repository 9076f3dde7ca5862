/* The rows of the option table, for those that read it: parsing (options.c), help and the man page's list (help.c),
 * shell completions (completion.c).  The table is in options_table.c; the setters are beside what they set. */
#ifndef CLI_OPTION_H
#define CLI_OPTION_H

#include "cli/options.h"

struct option;

/* Stores the value of an option: 0, or 2 after a message that names the wrong word and what was expected. */
typedef int setter(struct settings *settings, const struct option *option, const char *value);

enum heading { HEADING_BENCH, HEADING_INPUT, HEADING_OUTPUT, HEADING_CONTROL, HEADING_RECORD, HEADING_SHOW,
               HEADING_OTHER, HEADINGS };

struct option {
    const char *name;          /* with its hyphens: "--jobs" */
    char letter;               /* 'j' for -j, or 0 */
    const char *aliases;       /* further names and letters, a blank between two: "-P --max-procs"; NULL: none */
    const char *argument;      /* NULL: takes none */
    const char *standard;      /* the default as a user would type it; NULL: none */
    const char *help;
    const char *values;        /* the words it takes, for completion; NULL: see option_takes_file() */
    enum heading heading;
    unsigned commands;         /* bits of those that have it */
    setter *set;
    size_t at;                 /* where in struct settings, for setters that serve several options */
};

struct command_row {
    const char *name, *words, *help;
};

#define MOST_ALIASES 4

extern const struct option option_table[];
extern const size_t option_count;              /* at most MOST_OPTIONS */
extern const struct command_row command_table[COMMANDS];
extern const char *const heading_names[HEADINGS];
extern const char *const shell_names[SHELLS];

/* Before a command is named only the options of every command are known. */
bool option_of(enum command command, const struct option *option);
bool option_takes_file(const struct option *option);

/* All names of an option, the letters first: "-j", "-P", "--jobs", "--max-procs".  Returns how many. */
struct option_name {
    char text[24];
};
#define MOST_NAMES (MOST_ALIASES + 2)
size_t option_names(const struct option *option, struct option_name names[MOST_NAMES]);

/* Was it given on the command line? */
bool option_given(const struct settings *settings, const char *name);

/* ---- For setters ---- */

/* "parmap: --jobs: 'WORD' is not EXPECTED".  2. */
int option_wrong(const struct option *option, const char *word, size_t length, const char *expected);
/* The index of the value among the names, or -1 after a message with the nearest of them. */
int option_choice(const char *what, const char *value, const char *const *names, size_t count);
/* The same for a command's name. */
int option_command(const char *word, enum command *command);
setter set_flag, set_text, set_file; /* to the bool or the const char * that is `at`; a text may not be empty */
setter set_help, set_version, set_man;

/* options_bench.c */
setter set_path, set_workers, set_size, set_chunk, set_runs, set_dtype, set_numbers, set_kill_every, set_format;
setter set_plot;
/* A workload; number: one more of the words behind --numbers. */
int bench_word(struct settings *settings, const char *word, bool number);
int bench_check(struct settings *settings); /* 2 after a message: what was given contradicts itself */

/* options_batch.c */
setter set_arg_file, set_null, set_delimiter, set_colsep, set_header, set_most, set_fill;
setter set_grouping, set_bytes, set_marker, set_jobs, set_timeout, set_retries, set_retry_delay, set_halt;
setter set_delay, set_nice, set_load, set_seed, set_exit, set_resume;
int batch_source_add(struct settings *settings, struct batch_source source); /* 2 after a message: no memory */

/* options_check.c: what does not go together, what is missing.  2 after a message that names both. */
int batch_check(const struct settings *settings);

#endif

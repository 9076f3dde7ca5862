/* The command line: what was asked for, and the texts about it.  All of it comes from one table, which knows every
 * option's names, argument, default and help.  Used by main.c and by what carries out a command; must not start
 * anything. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum path { PATH_SERIAL, PATH_OPENMP, PATH_SHM, PATH_SHM_COPY, PATH_ZMQ, PATHS };
enum dtype { DTYPE_F64, DTYPE_F32, DTYPE_I64, DTYPE_I32, DTYPE_U8, DTYPES };
enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON, FORMATS };
enum command { COMMAND_RUN, COMMAND_PIPE, COMMAND_CALL,
               COMMAND_BENCH, COMMAND_INFO, COMMAND_COMPLETION, COMMAND_HELP, COMMANDS };
enum shell { SHELL_BASH, SHELL_ZSH, SHELL_FISH, SHELLS };

#define WORKLOADS 5
#define MOST_WORKERS 4095u /* as pmap_options.workers says */
#define MOST_WORKER_COUNTS 32
#define MOST_NUMBERS 4096
#define MOST_OPTIONS 96 /* rows of the table */

extern const char *const path_names[PATHS];
extern const char *const dtype_names[DTYPES];
extern const size_t dtype_sizes[DTYPES];
extern const char *const workload_names[WORKLOADS];

struct settings {
    enum command command, about;      /* about: the command that `help` was asked for; COMMANDS = none */
    bool help, version, man;          /* man: the list of options as parmap.1 has it */
    enum shell shell;                 /* of `completion`; SHELLS = none was named */
    bool given[MOST_OPTIONS];         /* on the command line, by row of the table */

    struct batch batch;               /* run, pipe, call */

    /* bench */
    unsigned workloads[WORKLOADS];    /* indexes, in the order given */
    unsigned nworkloads;
    bool paths[PATHS], all_paths;     /* all_paths: nobody named them, so one that is not built in may be left out */
    unsigned workers[MOST_WORKER_COUNTS], nworkers; /* 0 of them: the workload's default */
    bool has_size, has_dtype;
    uint64_t size, chunk, runs, kill_every_ms;      /* chunk 0 = the library's; kill_every_ms 0 = never */
    enum dtype dtype;
    enum format format;
    const char *output, *plot, *input;              /* NULL = not given */
    uint64_t numbers[MOST_NUMBERS];
    size_t nnumbers;
};

/* 0, or 2 after a message on stderr that names the wrong word and the right ones.  Some words of argv are changed
 * in place (escapes such as \n in separators); the settings point into argv. */
int options_parse(struct settings *settings, int argc, char **argv);
void options_free(struct settings *settings);

const char *options_command_name(enum command command);

/* The usage of one command, or of the program when command is COMMANDS. */
void options_help(FILE *file, enum command command);

/* The options of one command in the man page's language. */
void options_man(FILE *file, enum command command);

/* A script that teaches a shell to complete the words of parmap. */
void options_completion(FILE *file, enum shell shell);

#endif

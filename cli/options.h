/* The option table: the one place that knows every option's name, argument, default and help text. Parsing and --help
 * read it. Used by main.c and by what carries out a command; must not start anything. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum path { PATH_SERIAL, PATH_OPENMP, PATH_SHM, PATH_SHM_COPY, PATH_ZMQ, PATHS };
enum dtype { DTYPE_F64, DTYPE_F32, DTYPE_I64, DTYPE_I32, DTYPE_U8, DTYPES };
enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON, FORMATS };
enum command { COMMAND_BENCH, COMMAND_INFO, COMMAND_HELP, COMMANDS };

#define WORKLOADS 5
#define MOST_WORKERS 4095u /* as pmap_options.workers says */
#define MOST_WORKER_COUNTS 32
#define MOST_NUMBERS 4096

extern const char *const path_names[PATHS];
extern const char *const dtype_names[DTYPES];
extern const size_t dtype_sizes[DTYPES];
extern const char *const workload_names[WORKLOADS];

struct settings {
    enum command command, about;      /* about: the command that `help` was asked for; COMMANDS = none */
    bool help, version;
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

/* 0, or 2 after a message on stderr that names the wrong word and the right ones. */
int options_parse(struct settings *settings, int argc, char **argv);

/* The usage of one command, or of the program when command is COMMANDS. */
void options_help(FILE *file, enum command command);

#endif

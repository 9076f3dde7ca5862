/* `parmap bench` and `parmap info`: carried out for main.c. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/options.h"

/* The exit status: 0, 1 after a message, or 128 + the signal that ended it. */
int bench(const struct settings *settings);
int info(void);

/* Flushes; a closed pipe or a full disk shows here.  0, or -1 after a message that names the file. */
int written(FILE *file, const char *name);

#endif

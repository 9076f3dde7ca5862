/* Numbers from a file, memory-mapped: NumPy's .npy (format 1.0 to 3.0) or raw numbers of one type.
 * Used by bench.c, which opens it once, before any runner is forked, so that all inherit the same mapping. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include "cli/options.h"

struct input {
    void *map;          /* NULL for an empty file */
    size_t map_bytes;
    const void *data;   /* the first number; in a strange .npy it may be badly aligned for its type */
    size_t items;
    enum dtype dtype;
};

/* 0, or -1 after a message on stderr that names the file, the byte, and what was expected there. */
int input_open(struct input *input, const struct settings *settings);
void input_close(struct input *input);

#endif

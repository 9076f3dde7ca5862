/* Blocks: pieces of some size, cut where records end, of standard input or of files, one file after the other.  Used by job.c and filter.c; knows
 * nothing of commands.
 *
 * A block never has bytes of two files, nor a part of a record: it ends behind the last record that ends within its size, and behind the
 * first one where that alone is longer.  Where it ends depends on the bytes and the size only, not on how they arrive: so the same input gives
 * the same blocks, be it a file or a pipe, which --resume goes by. */
#ifndef CLI_BLOCKS_H
#define CLI_BLOCKS_H

#include "cli/batch.h"

/* Bytes of a record; one that is longer, and than --block, is an error. */
#define BLOCKS_MOST_RECORD ((size_t)1 << 30)

struct input_block {
    const char *data; /* read-only: it may be a file's own pages.  Another process that shortens the file takes them away */
    size_t bytes;     /* at least 1 */
};

struct blocks;

/* The batch must live as long.  NULL after a message that names the file which cannot be read. */
struct blocks *blocks_open(const struct batch *batch);

/* 1: *block is the next, to be given back; 0: the end; -1 after a message; 2: it would have to wait for a pipe or a terminal: then poll blocks_fd()
 * for reading and call it again.  After 0 and -1 every further call says the same.  Never waits, but for a disk. */
int blocks_next(struct blocks *blocks, struct input_block **block);
int blocks_fd(const struct blocks *blocks);

/* How many blocks are out that have memory of their own, those that came through a pipe.  Who takes blocks bounds them by that. */
size_t blocks_held(const struct blocks *blocks);

void blocks_give_back(struct blocks *blocks, struct input_block *block); /* NULL: nothing */
void blocks_close(struct blocks *blocks);                          /* all blocks have been given back.  NULL: nothing */

#endif

/* A job that has ended before its turn: all that is left of it as one compact block, in memory while there is room in
 * the window, else appended to the store's file.  Used by output.c; knows nothing of turns and of printing. */
#ifndef CLI_BLOCK_H
#define CLI_BLOCK_H

#include "cli/journal.h"
#include "cli/store.h"

/* The lengths of its parts: extents of both streams, command, tag, data of both streams, in this order behind this
 * head. */
struct block_head {
    struct entry entry;              /* command is not valid */
    size_t command_bytes, tag_bytes; /* with the zero byte; 0 = none */
    size_t extents[2], data[2];
};

/* A block as pieces again. */
struct block {
    struct block_head head;
    struct entry entry;    /* with its command, "" if that was not kept */
    const char *tag;       /* or NULL */
    struct piece piece[2];
    struct extent *extents;
    void *memory;          /* to be freed */
};

/* What a block is known by: its address, or 4 x its offset in the file + 1; never 0, 2 or 3 in the two last bits. */
#define BLOCK_FILED 1u

/* Folds a job up; command and tag may be NULL.  What the pieces have in memory is copied, their extents become the
 * block's.  *word: how to find it.  0, or -1 after a message. */
int block_fold(struct store *store, const struct entry *entry, const char *command, const char *tag,
               struct piece piece[2], uint64_t *word);
int block_unfold(struct store *store, uint64_t word, struct block *block); /* 0, or -1 after a message */
void block_free(struct store *store, uint64_t word, struct block *block);  /* block NULL: only its memory */

#endif

/* Bytes that wait: in memory as long as all of them together stay below the window, beyond it appended to one unnamed
 * file.  A piece is bytes that belong together (one stream of one job): first extents of the file, then what is in
 * memory. Used by output.c and results.c; knows nothing of jobs and of what the bytes are. One thread. */
#ifndef CLI_STORE_H
#define CLI_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
    uint64_t offset, bytes;
};

struct piece {
    char *data;
    size_t used, room;
    struct extent *extents;     /* in front of data */
    size_t nextents, extents_room;
    uint64_t spilled;           /* bytes of all extents */
};

struct store {
    uint64_t window;  /* bytes of memory */
    uint64_t memory;  /* what is in use of it, with malloc's own part */
    int fd;           /* -1 until the first byte goes there */
    uint64_t end;     /* how long the file is, with the tail */
    uint64_t live;    /* bytes of it that have not been freed */
    /* its last bytes, which are not written yet: most records are far smaller than a write is worth */
    char *tail;
    size_t tail_used;
    char *cache;      /* what was read last: records are read back much in the order in which they were written */
    uint64_t cache_at;
    size_t cached;
    /* bytes not freed of each segment of the file, so that its disk space can be given back in the middle */
    uint32_t *held;
    size_t segments;
};

void store_init(struct store *store, uint64_t window);
void store_close(struct store *store);

/* Is there no room in memory for so many bytes more? */
bool store_over(const struct store *store, uint64_t bytes);
/* malloc() and free() that count.  store_alloc() is NULL when there is no memory, without a message. */
void *store_alloc(struct store *store, size_t bytes);
void store_release(struct store *store, void *memory);

/* Appends to the file; what several calls append lies one behind the other, from what store->end was before the first.
 * 0, or -1 after a message (a full disk, no file there). */
int store_write(struct store *store, const void *data, size_t bytes);
int store_read(struct store *store, uint64_t offset, void *to, size_t bytes); /* 0, or -1 after a message */
/* when all is free the file is cut to nothing */
void store_free(struct store *store, uint64_t offset, uint64_t bytes);

/* 0, or -1 after a message.  While memory is beyond the window, a piece keeps at most store_most() bytes in it. */
int piece_append(struct store *store, struct piece *piece, const char *data, size_t bytes);
uint64_t piece_bytes(const struct piece *piece);
/* Calls use() with all of its bytes, in order; stops when that returns other than 0, and returns it; -1 after a
 * message. */
typedef int piece_use(void *arg, const char *data, size_t bytes);
int piece_each(struct store *store, const struct piece *piece, piece_use *use, void *arg);
/* forgets its bytes, keeps a moderate buffer for the next */
void piece_clear(struct store *store, struct piece *piece);
void piece_free(struct store *store, struct piece *piece);
size_t store_most(const struct store *store);

#endif

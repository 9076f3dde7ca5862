/* Bytes that wait, in memory and in one unnamed file.  See store.h. */
#include "cli/store.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAIL ((size_t)256 << 10)
#define SEGMENT ((uint64_t)1 << 20)
#define KEPT_ROOM ((size_t)64 << 10) /* what a piece without bytes may hold for the next ones */

static const char *directory(void)
{
    const char *name = getenv("TMPDIR");

    return name && *name ? name : "/tmp";
}

static int failed(const char *what)
{
    complain("output that waits cannot be %s in %s: %s", what, directory(), strerror(errno));
    return -1;
}

void store_init(struct store *s, uint64_t window)
{
    memset(s, 0, sizeof *s);
    s->window = window;
    s->fd = -1;
}

void store_close(struct store *s)
{
    if (s->fd >= 0) close(s->fd);
    free(s->tail);
    free(s->cache);
    free(s->held);
    store_init(s, s->window);
}

size_t store_most(const struct store *s)
{
    uint64_t share = s->window / 64;

    return share > KEPT_ROOM ? (size_t)share : KEPT_ROOM;
}

bool store_over(const struct store *s, uint64_t bytes) { return s->memory + bytes > s->window; }

/* What malloc really takes: the rounded size and a word before it. */
static size_t cost(void *memory) { return memory ? malloc_usable_size(memory) + sizeof(size_t) : 0; }

void *store_alloc(struct store *s, size_t bytes)
{
    void *memory = malloc(bytes);

    s->memory += cost(memory);
    return memory;
}

void store_release(struct store *s, void *memory)
{
    s->memory -= cost(memory);
    free(memory);
}

/* ---- The file ---- */

static int open_file(struct store *s)
{
    char name[4096];

    /* Not every file system has files without a name; there one has it for as long as two calls take. */
    s->fd = open(directory(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (s->fd < 0 && snprintf(name, sizeof name, "%s/parmap-XXXXXX", directory()) < (int)sizeof name) {
        s->fd = mkostemp(name, O_CLOEXEC);
        if (s->fd >= 0) unlink(name);
    }
    if (s->fd < 0) return failed("kept");
    if (!s->tail) s->tail = malloc(TAIL);
    if (!s->cache) s->cache = malloc(TAIL);
    if (s->tail && s->cache) return 0;
    errno = ENOMEM;
    return failed("kept");
}

static int write_at(struct store *s, const char *data, size_t bytes, uint64_t offset)
{
    while (bytes) {
        ssize_t n = pwrite(s->fd, data, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("kept");
        data += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int write_tail(struct store *s)
{
    if (write_at(s, s->tail, s->tail_used, s->end - s->tail_used)) return -1;
    s->tail_used = 0;
    return 0;
}

/* The bytes [offset, offset + bytes) become used or free, segment by segment. */
static void count(struct store *s, uint64_t offset, uint64_t bytes, bool used)
{
    uint64_t written = s->end - s->tail_used;

    while (bytes) {
        size_t segment = (size_t)(offset / SEGMENT);
        uint64_t n = SEGMENT - offset % SEGMENT;

        if (n > bytes) n = bytes;
        if (used) s->held[segment] += (uint32_t)n;
        else s->held[segment] -= (uint32_t)n;
        /* Nothing is ever written behind the end of the file, so this segment stays empty.  A refusal costs disk space
         * only. */
        if (!used && s->held[segment] == 0 && written >= (segment + 1) * SEGMENT)
            (void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(segment * SEGMENT),
                            (off_t)SEGMENT);
        offset += n;
        bytes -= n;
    }
}

static int room_for_segments(struct store *s, uint64_t end)
{
    size_t need = (size_t)((end + SEGMENT - 1) / SEGMENT), room = s->segments ? s->segments : 64;
    uint32_t *held;

    if (need <= s->segments) return 0;
    while (room < need) room *= 2;
    held = realloc(s->held, room * sizeof *held);
    if (!held) return failed("kept");
    memset(held + s->segments, 0, (room - s->segments) * sizeof *held);
    s->held = held;
    s->segments = room;
    return 0;
}

int store_write(struct store *s, const void *data, size_t bytes)
{
    if (!bytes) return 0;
    if (s->fd < 0 && open_file(s)) return -1;
    if (room_for_segments(s, s->end + bytes)) return -1;
    if (s->tail_used + bytes > TAIL && write_tail(s)) return -1;
    if (bytes > TAIL / 2) {
        if (write_tail(s) || write_at(s, data, bytes, s->end)) return -1;
    } else {
        memcpy(s->tail + s->tail_used, data, bytes);
        s->tail_used += bytes;
    }
    s->end += bytes;
    s->live += bytes;
    count(s, s->end - bytes, bytes, true);
    return 0;
}

static int read_at(struct store *s, char *to, size_t bytes, uint64_t offset)
{
    while (bytes) {
        ssize_t n = pread(s->fd, to, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO; /* it was written, and nobody else has the file */
        if (n <= 0) return failed("read back");
        to += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int store_read(struct store *s, uint64_t offset, void *buffer, size_t bytes)
{
    char *to = buffer;

    while (bytes) {
        uint64_t written = s->end - s->tail_used;
        size_t n = bytes;

        if (offset >= written) {
            memcpy(to, s->tail + (offset - written), n);
            return 0;
        }
        if (n > written - offset) n = (size_t)(written - offset);
        if (n >= TAIL) {
            if (read_at(s, to, n, offset)) return -1;
        } else {
            if (offset < s->cache_at || offset >= s->cache_at + s->cached) {
                size_t most = written - offset < TAIL ? (size_t)(written - offset) : TAIL;

                s->cached = 0;
                if (read_at(s, s->cache, most, offset)) return -1;
                s->cache_at = offset;
                s->cached = most;
            }
            if (n > s->cache_at + s->cached - offset) n = (size_t)(s->cache_at + s->cached - offset);
            memcpy(to, s->cache + (offset - s->cache_at), n);
        }
        to += n;
        bytes -= n;
        offset += n;
    }
    return 0;
}

void store_free(struct store *s, uint64_t offset, uint64_t bytes)
{
    if (!bytes) return;
    s->live -= bytes;
    count(s, offset, bytes, false);
    if (s->live) return;
    if (s->end > s->tail_used) (void)ftruncate(s->fd, 0); /* a refusal costs disk space; the bytes are written over */
    s->end = s->tail_used = s->cached = 0;
}

/* ---- Pieces ---- */

uint64_t piece_bytes(const struct piece *p) { return p->spilled + p->used; }

/* Appends to the file and remembers where. */
static int spill(struct store *s, struct piece *p, const char *data, size_t bytes)
{
    uint64_t offset = s->end;

    if (!bytes) return 0;
    if (store_write(s, data, bytes)) return -1;
    p->spilled += bytes;
    if (p->nextents && p->extents[p->nextents - 1].offset + p->extents[p->nextents - 1].bytes == offset) {
        p->extents[p->nextents - 1].bytes += bytes;
        return 0;
    }
    if (p->nextents == p->extents_room) {
        size_t room = p->extents_room ? 2 * p->extents_room : 4;
        struct extent *extents = realloc(p->extents, room * sizeof *extents);

        if (!extents) return failed("kept");
        p->extents = extents;
        p->extents_room = room;
    }
    p->extents[p->nextents++] = (struct extent){ offset, bytes };
    return 0;
}

int piece_append(struct store *s, struct piece *p, const char *data, size_t bytes)
{
    if (bytes > p->room - p->used) {
        size_t need = p->used + bytes, room = p->room ? 2 * p->room : 4096;
        char *grown;

        if (room < need) room = need;
        if (need > store_most(s) && store_over(s, room - p->room)) {
            if (spill(s, p, p->data, p->used)) return -1;
            p->used = 0;
            if (bytes >= KEPT_ROOM / 2) return spill(s, p, data, bytes);
            room = p->room > bytes ? p->room : KEPT_ROOM;
        }
        if (room > p->room) {
            s->memory -= cost(p->data);
            grown = realloc(p->data, room);
            if (!grown) {
                s->memory += cost(p->data);
                errno = ENOMEM;
                return failed("kept");
            }
            s->memory += cost(grown);
            p->data = grown;
            p->room = room;
        }
    }
    memcpy(p->data + p->used, data, bytes);
    p->used += bytes;
    return 0;
}

int piece_each(struct store *s, const struct piece *p, piece_use *use, void *arg)
{
    char *buffer = NULL;
    int error = 0;

    for (size_t i = 0; i < p->nextents && !error; i++) {
        struct extent left = p->extents[i];
        /* In large pieces, which do not go through the cache. */
        size_t most = p->spilled < 4 * TAIL ? (size_t)p->spilled : 4 * TAIL;

        while (left.bytes && !error) {
            size_t n = left.bytes < most ? (size_t)left.bytes : most;

            if (!buffer) buffer = malloc(most);
            if (!buffer) {
                errno = ENOMEM;
                return failed("read back");
            }
            error = store_read(s, left.offset, buffer, n);
            if (!error) error = use(arg, buffer, n);
            left.offset += n;
            left.bytes -= n;
        }
    }
    free(buffer);
    return !error && p->used ? use(arg, p->data, p->used) : error;
}

void piece_clear(struct store *s, struct piece *p)
{
    for (size_t i = 0; i < p->nextents; i++) store_free(s, p->extents[i].offset, p->extents[i].bytes);
    p->nextents = p->used = 0;
    p->spilled = 0;
    if (p->room <= KEPT_ROOM) return;
    store_release(s, p->data);
    p->data = NULL;
    p->room = 0;
}

void piece_free(struct store *s, struct piece *p)
{
    piece_clear(s, p);
    store_release(s, p->data);
    free(p->extents);
    memset(p, 0, sizeof *p);
}

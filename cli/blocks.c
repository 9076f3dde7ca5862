/* Cuts files and pipes into blocks.  See blocks.h.
 *
 * A regular file is mapped, and a block is a place in the mapping: nothing is copied.  But the cuts are looked for with pread(), not in the
 * mapping, because a file that somebody shortens meanwhile would end us there with SIGBUS, where pread() just says so.
 * What comes through a pipe is read into a buffer a block; what is behind the cut moves to the next buffer. */
#include "cli/blocks.h"
#include "cli/cuts.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)      /* a pipe that we read from is made so large, where that is allowed */
#define READ_MOST ((size_t)1 << 20) /* behind a block's size, where a long record goes on */
#define WINDOW ((size_t)2 * CUTS_MOST_BYTES) /* bytes of a file that are looked at together */
#define ROOM_MOST ((size_t)64 << 20) /* of a new buffer; it grows when it is filled */
#define IDLE_MOST 16

struct mapping { /* of one file, as long as the file is read or has a block out */
    char *base;
    size_t bytes, uses;
};

struct own {
    struct input_block block; /* first: what the user has is this */
    struct mapping *mapping;
    char *buffer;       /* no mapping: its memory */
    size_t room;
    struct own *next;   /* idle ones */
};

struct blocks {
    const struct batch *batch;
    struct cuts cuts;
    size_t size;                    /* of a block; with --records a multiple of that */
    size_t longest;
    size_t turn;                    /* of the source that is read next */
    int result;                     /* when over: what every further call says, 0 or -1 */
    bool over;

    /* The file that is being read */
    int fd;                         /* -1: none is */
    const char *name;
    bool standard;
    uint64_t at, end;               /* offsets: of the next block; mapped: of the file's end */
    struct mapping *mapping;        /* NULL: it is read */
    struct own *filling;            /* what was read and not given yet: `used` bytes of it */
    size_t used, searched;          /* no marker of a cut begins before `searched` */
    bool ended;

    size_t held, idles;
    struct own *idle;
    char window[WINDOW];
};

static int too_long(const struct blocks *b)
{
    complain("%s: the record that begins at byte %llu is longer than %zu bytes, the limit; is the delimiter right?", b->name,
             (unsigned long long)b->at, b->longest);
    return -1;
}

/* ---- Mapped files ---- */

/* The part of the file from `from` to `to`, at most a window, into b->window.  0 or -1. */
static int look(struct blocks *b, uint64_t from, uint64_t to)
{
    size_t want = (size_t)(to - from), got = 0;
    while (got < want) {
        ssize_t n = pread(b->fd, b->window + got, want - got, (off_t)(from + got));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            complain("%s: cannot be read: %s", b->name, n < 0 ? strerror(errno) : "it has become shorter");
            return -1;
        }
        got += (size_t)n;
    }
    return 0;
}

/* How long the next block of a mapped file is, that is not the last.  0: an error, told. */
static size_t measure(struct blocks *b)
{
    size_t overlap = b->cuts.bytes - 1;
    uint64_t limit = b->at + b->size, high = limit + b->cuts.behind < b->end ? limit + b->cuts.behind : b->end;
    size_t part = 4096 + b->cuts.bytes; /* near the block's end there mostly is one */
    for (;;) {
        uint64_t low = high - b->at > part ? high - part : b->at;
        if (look(b, low, high)) return 0;
        size_t cut = cuts_last(&b->cuts, b->window, (size_t)(high - low), (size_t)(limit - low));
        if (cut) return (size_t)(low - b->at) + cut;
        if (low == b->at) break;
        high = low + b->cuts.bytes;
        part = WINDOW;
    }
    for (uint64_t low = b->size < b->cuts.front ? b->at : limit + 1 - b->cuts.front; low < b->end; low += WINDOW - overlap) {
        uint64_t to = b->end - low > WINDOW ? low + WINDOW : b->end;
        if (look(b, low, to)) return 0;
        const char *found = cuts_first(&b->cuts, b->window, (size_t)(to - low));
        size_t cut = found ? (size_t)(low - b->at) + (size_t)(found - b->window) : 0;
        if (cut && cut <= b->longest) return cut;
        if (to - b->at > b->longest) return too_long(b), (size_t)0;
        if (to == b->end) break;
    }
    return (size_t)(b->end - b->at);
}

static int no_memory(void)
{
    complain("not enough memory for a block");
    return -1;
}

static void unuse(struct mapping *m)
{
    if (!m || --m->uses) return;
    (void)munmap(m->base, m->bytes);
    free(m);
}

static int next_mapped(struct blocks *b, struct own **out)
{
    size_t bytes = (size_t)(b->end - b->at);
    if (bytes == 0) return 0;
    if (bytes > b->size) bytes = b->batch->record ? b->size : measure(b);
    if (bytes == 0) return -1;
    struct own *o = calloc(1, sizeof *o);
    if (!o) return no_memory();
    o->block = (struct input_block){b->mapping->base + b->at, bytes};
    o->mapping = b->mapping;
    o->mapping->uses++;
    b->at += bytes;
    *out = o;
    return 1;
}

/* Maps the open file if it can be; else it is read. */
static void map(struct blocks *b)
{
    struct stat st;
    off_t at = b->standard ? lseek(b->fd, 0, SEEK_CUR) : 0;
    b->at = at > 0 ? (uint64_t)at : 0;
    /* A regular file of no size may be one of /proc, whose size shows when it is read. */
    if (fstat(b->fd, &st) || !S_ISREG(st.st_mode) || st.st_size == 0 || at < 0) return;
    struct mapping *m = calloc(1, sizeof *m);
    if (!m) return;
    m->bytes = (size_t)st.st_size;
    m->base = mmap(NULL, m->bytes, PROT_READ, MAP_SHARED, b->fd, 0);
    if (m->base == MAP_FAILED) {
        free(m);
        return;
    }
    (void)madvise(m->base, m->bytes, MADV_SEQUENTIAL);
    m->uses = 1;
    b->mapping = m;
    b->end = b->at < (uint64_t)st.st_size ? (uint64_t)st.st_size : b->at;
}

/* ---- Pipes ---- */

static void drop(struct own *o)
{
    free(o->buffer);
    free(o);
}

static struct own *new_own(struct blocks *b)
{
    struct own *o = b->idle;
    if (o) {
        b->idle = o->next;
        b->idles--;
        return o;
    }
    o = calloc(1, sizeof *o);
    if (o) o->room = b->size < ROOM_MOST ? b->size + b->cuts.behind + 1 : ROOM_MOST;
    if (o && (o->buffer = malloc(o->room))) return o;
    free(o);
    return NULL;
}

static int grow(struct own *o)
{
    char *larger = realloc(o->buffer, 2 * o->room);
    if (!larger) return no_memory();
    o->buffer = larger;
    o->room *= 2;
    return 0;
}

/* Reads once, up to `want` bytes in the buffer.  1: more is there, or the end; 2: it would have to wait; -1. */
static int more(struct blocks *b, size_t want)
{
    struct pollfd p = {b->fd, POLLIN, 0};
    if (!b->filling && !(b->filling = new_own(b))) return no_memory();
    struct own *o = b->filling;
    if (o->room == b->used && grow(o)) return -1;
    if (want > o->room) want = o->room;
    if (poll(&p, 1, 0) <= 0) return 2;
    ssize_t n = read(b->fd, o->buffer + b->used, want - b->used);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 2;
    if (n < 0) {
        complain("%s: cannot be read: %s", b->name, strerror(errno));
        return -1;
    }
    b->used += (size_t)n;
    b->ended = n == 0;
    return 1;
}

/* How long the block is that the buffer begins with; 0: that is not known yet. */
static size_t cut_buffer(struct blocks *b)
{
    const struct cuts *c = &b->cuts;
    if (b->used <= b->size) return b->ended ? b->used : 0;
    if (b->batch->record) return b->size;
    if (b->used < b->size + c->behind && !b->ended) return 0;
    size_t from = b->searched;
    if (from == 0) {
        size_t cut = cuts_last(c, b->filling->buffer, b->used, b->size);
        if (cut) return cut;
        if (b->size + 1 > c->front) from = b->size + 1 - c->front;
    }
    const char *found = cuts_first(c, b->filling->buffer + from, b->used - from);
    if (found) return (size_t)(found - b->filling->buffer);
    b->searched = b->used + 1 > from + c->bytes ? b->used + 1 - c->bytes : from;
    return b->ended ? b->used : 0;
}

/* The buffer becomes a block; what is behind the cut goes to the next buffer. */
static int split(struct blocks *b, size_t bytes, struct own **out)
{
    struct own *o = b->filling, *next = NULL;
    size_t rest = b->used - bytes;
    if (rest) {
        next = new_own(b);
        while (next && next->room < rest)
            if (grow(next)) return -1;
        if (!next) return no_memory();
        memcpy(next->buffer, o->buffer + bytes, rest);
    }
    o->block = (struct input_block){o->buffer, bytes};
    b->filling = next;
    b->used = rest;
    b->searched = 0;
    b->at += bytes;
    b->held++;
    *out = o;
    return 1;
}

static int next_read(struct blocks *b, struct own **out)
{
    for (;;) {
        /* One byte more than a block tells whether it is the last, which may end as it likes. */
        size_t enough = b->size + (b->cuts.behind ? b->cuts.behind : 1), bytes = b->used ? cut_buffer(b) : 0;
        if (bytes > b->longest) return too_long(b);
        if (bytes) return split(b, bytes, out);
        if (b->ended) return 0;
        if (b->used > b->longest + b->cuts.behind) return too_long(b);
        int got = more(b, b->used < enough ? enough : b->used + READ_MOST);
        if (got != 1) return got;
    }
}

/* ---- Files ---- */

static size_t sources(const struct blocks *b) { return b->batch->nsources ? b->batch->nsources : 1; }
static const char *source(const struct blocks *b, size_t i) { return b->batch->nsources ? b->batch->sources[i].file : "-"; }

static void close_file(struct blocks *b)
{
    /* Who goes on with our standard input finds it read, however we did that. */
    if (b->standard && b->mapping) (void)lseek(b->fd, (off_t)b->at, SEEK_SET);
    unuse(b->mapping);
    b->mapping = NULL;
    if (b->fd > STDIN_FILENO) (void)close(b->fd);
    b->fd = -1;
}

static int unreadable(const char *name, int error)
{
    complain("%s: cannot be read: %s", name, strerror(error));
    return -1;
}

static int open_file(struct blocks *b, const char *name)
{
    struct stat st = {.st_mode = 0};
    b->standard = strcmp(name, "-") == 0;
    b->name = b->standard ? "standard input" : name;
    /* Non-blocking, or else that of a FIFO would wait for its writer; poll() does. */
    b->fd = b->standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (b->fd < 0) return unreadable(b->name, errno);
    if (fstat(b->fd, &st) == 0 && S_ISDIR(st.st_mode)) return unreadable(b->name, EISDIR);
    b->ended = false;
    b->used = b->searched = 0;
    map(b);
    if (!b->mapping && S_ISFIFO(st.st_mode)) (void)fcntl(b->fd, F_SETPIPE_SZ, PIPE_BYTES);
    return 0;
}

int blocks_next(struct blocks *b, struct input_block **block)
{
    struct own *own = NULL;
    while (!b->over) {
        if (b->fd < 0 && b->turn == sources(b)) {
            b->over = true;
            break;
        }
        int got = b->fd < 0 ? open_file(b, source(b, b->turn++)) : 0;
        if (got == 0) got = b->mapping ? next_mapped(b, &own) : next_read(b, &own);
        if (got == 1) *block = &own->block;
        if (got > 0) return got;
        close_file(b);
        b->over = got < 0;
        b->result = got;
    }
    return b->result;
}

int blocks_fd(const struct blocks *b) { return b->mapping ? -1 : b->fd; }
size_t blocks_held(const struct blocks *b) { return b->held; }

void blocks_give_back(struct blocks *b, struct input_block *block)
{
    struct own *o = (struct own *)block;
    if (!o) return;
    if (o->mapping) {
        unuse(o->mapping);
        free(o);
        return;
    }
    b->held--;
    /* New memory costs as much as to read into it; but what one long record has taken is not kept. */
    if (b->idles < IDLE_MOST && o->room / 2 <= b->size) {
        o->next = b->idle;
        b->idle = o;
        b->idles++;
    } else drop(o);
}

/* ---- Open and close ---- */

struct blocks *blocks_open(const struct batch *batch)
{
    struct blocks *b = calloc(1, sizeof *b);
    if (!b) {
        (void)no_memory();
        return NULL;
    }
    b->batch = batch;
    b->fd = -1;
    b->size = batch->block;
    if (batch->record) b->size = batch->record > batch->block ? batch->record : batch->block - batch->block % batch->record;
    b->longest = b->size > BLOCKS_MOST_RECORD ? b->size : BLOCKS_MOST_RECORD;
    if (batch->record > BLOCKS_MOST_RECORD) {
        complain("--records: at most %zu bytes a record", BLOCKS_MOST_RECORD);
        goto fail;
    }
    if (cuts_make(&b->cuts, batch)) goto fail;
    /* Better told now than when the first files have been worked on. */
    for (size_t i = 0; i < sources(b); i++)
        if (strcmp(source(b, i), "-") != 0 && access(source(b, i), R_OK) != 0) {
            (void)unreadable(source(b, i), errno);
            goto fail;
        }
    return b;
fail:
    blocks_close(b);
    return NULL;
}

void blocks_close(struct blocks *b)
{
    if (!b) return;
    close_file(b);
    if (b->filling) drop(b->filling);
    for (struct own *o; (o = b->idle);) {
        b->idle = o->next;
        drop(o);
    }
    cuts_free(&b->cuts);
    free(b);
}

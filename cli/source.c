/* Reads words, files and standard input record by record.  See source.h.
 *
 * A file is read in blocks into one buffer, and records are given where they lie in it: no copy and no allocation a record.
 *
 *     buffer           start         scanned           end            room
 *       | given already  | no delimiter |  not looked at  |    free     |
 *
 * Only when no whole record is left, what remains of it moves to the buffer's begin before the next block is read behind it: less than a
 * record a block.  `scanned` remembers how far the search for the delimiter came, so that a long record that arrives in small pieces is
 * searched once and not once a piece. */
#include "cli/source.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOT_INLINE __attribute__((noinline)) /* so that a search without quotes saves no registers for it */
#define BLOCK ((size_t)256 << 10)
#define MOST_ROOM (SOURCE_MOST + BLOCK) /* with a delimiter behind the longest record, there is never less to read than a byte */

/* Where a search in comma-separated values stands. */
enum place { COLUMN_BEGIN, PLAIN, QUOTED, QUOTE_IN_QUOTED };

struct source {
    const char *name;
    uint64_t count;
    char *const *words;
    size_t nwords;
    int fd;             /* -1: words */
    char delimiter, csv;
    enum { MORE, END, FAILED } state; /* of reading: END, all of the file is in the buffer */
    enum place place;                 /* at `scanned` */
    bool found;                       /* the delimiter is there */
    bool zeros;                       /* something that was read has a zero byte that need not be a delimiter */
    char *buffer;
    size_t start, scanned, end, room;
};

struct source *source_words(char *const *words, size_t n)
{
    struct source *s = calloc(1, sizeof *s);

    if (!s) {
        complain("not enough memory");
        return NULL;
    }
    s->name = "command line";
    s->words = words;
    s->nwords = n;
    s->fd = -1;
    return s;
}

struct source *source_file(const char *file, char delimiter, char csv)
{
    bool standard = strcmp(file, "-") == 0;
    struct source *s = calloc(1, sizeof *s);
    struct stat st;

    if (!s || !(s->buffer = malloc(BLOCK))) {
        complain("%s: not enough memory", file);
        free(s);
        return NULL;
    }
    s->name = standard ? "standard input" : file;
    s->delimiter = delimiter;
    s->csv = csv;
    s->room = BLOCK;
    do
        s->fd = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    while (s->fd < 0 && errno == EINTR); /* of a FIFO that waits for its writer */
    /* That a directory cannot be read would else be known only when the first jobs run. */
    if (s->fd >= 0 && !fstat(s->fd, &st) && S_ISDIR(st.st_mode)) errno = EISDIR;
    else if (s->fd >= 0) return s;
    complain("%s: cannot be read: %s", s->name, strerror(errno));
    source_close(s);
    return NULL;
}

void source_close(struct source *s)
{
    if (!s) return;
    if (s->fd > STDIN_FILENO) close(s->fd);
    free(s->buffer);
    free(s);
}

static int failed(struct source *s, const char *what)
{
    complain("%s: record %llu: %s", s->name, (unsigned long long)s->count + 1, what);
    s->state = FAILED;
    return -1;
}

/* Where the record's delimiter is in [from, end), no quotes around it; NULL: not there. */
static NOT_INLINE const char *csv_end(const char *from, const char *end, char delimiter, char csv, enum place *place)
{
    for (const char *p = from; p < end; p++) {
        if (*place == QUOTED) {
            p = memchr(p, '"', (size_t)(end - p));
            if (!p) return NULL;
            *place = QUOTE_IN_QUOTED; /* the quotes' end, unless another one follows */
        } else if (*p == delimiter) {
            return p;
        } else if (*p == '"' && *place != PLAIN) {
            *place = QUOTED;
        } else {
            *place = *p == csv ? COLUMN_BEGIN : PLAIN;
        }
    }
    return NULL;
}

/* The end of the record that begins at `start`, if it is in the buffer; else the next call goes on behind what this one saw. */
static const char *find_end(struct source *s)
{
    const char *from = s->buffer + s->scanned, *end = s->buffer + s->end, *found;

    if (s->found) return from;
    if (s->csv) found = csv_end(from, end, s->delimiter, s->csv, &s->place);
    else found = memchr(from, s->delimiter, s->end - s->scanned);
    s->found = found;
    s->scanned = found ? (size_t)(found - s->buffer) : s->end;
    return found;
}

/* Room for at least a byte more: what is over is dropped, or the buffer grows. */
static int make_room(struct source *s)
{
    size_t room = s->room;
    char *larger;

    if (s->start > 0) {
        memmove(s->buffer, s->buffer + s->start, s->end - s->start);
        s->scanned -= s->start;
        s->end -= s->start;
        s->start = 0;
    }
    /* Small reads into what a long record has left free would make it many: so more already when half is full. */
    if (s->end <= room / 2) return 0;
    if (room == MOST_ROOM) return 0;
    room = room < MOST_ROOM / 2 ? 2 * room : MOST_ROOM;
    larger = realloc(s->buffer, room);
    if (!larger) return failed(s, "not enough memory to hold it");
    s->buffer = larger;
    s->room = room;
    return 0;
}

/* Reads once.  0, or -1 after a message. */
static int more(struct source *s)
{
    ssize_t got;

    if (s->end - s->start > SOURCE_MOST) return failed(s, "longer than 1 GiB, the limit; is the delimiter right?");
    if (make_room(s)) return -1;
    do
        got = read(s->fd, s->buffer + s->end, s->room - s->end);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) { /* somebody made our standard input non-blocking: wait as if it were not */
        struct pollfd p = { .fd = s->fd, .events = POLLIN };

        poll(&p, 1, -1);
        return 0;
    }
    if (got < 0) return failed(s, strerror(errno));
    if (got == 0) s->state = END;
    if ((s->delimiter || s->csv) && !s->zeros) s->zeros = memchr(s->buffer + s->end, 0, (size_t)got);
    s->end += (size_t)got;
    return 0;
}

int source_next(struct source *s, struct record *record)
{
    const char *end;

    if (s->fd < 0) {
        if (s->count == s->nwords) return 0;
        record->text = s->words[s->count++];
        record->bytes = strlen(record->text);
        return 1;
    }
    if (s->state == FAILED) return -1;
    while (!(end = find_end(s))) {
        if (s->state == MORE && !more(s)) continue;
        if (s->state == FAILED) return -1;
        if (s->start == s->end) return 0;
        if (s->place == QUOTED) return failed(s, "its quotes (\") are not closed");
        end = s->buffer + s->end;
        break;
    }
    record->text = s->buffer + s->start;
    record->bytes = (size_t)(end - record->text);
    if (record->bytes > SOURCE_MOST) return failed(s, "longer than 1 GiB, the limit; is the delimiter right?");
    s->start += record->bytes + (end < s->buffer + s->end);
    s->scanned = s->start;
    s->found = false;
    s->place = COLUMN_BEGIN;
    s->count++;
    if (s->csv && s->delimiter == '\n' && record->bytes > 0 && end[-1] == '\r') record->bytes--;
    return 1;
}

size_t source_some(struct source *s, struct record *list, size_t most)
{
    size_t n = 0;

    /* Of a record that is searched in pieces, source_next() remembers how far. */
    if (s->fd < 0 || s->csv || s->state == FAILED || s->scanned != s->start) return 0;
    for (const char *at = s->buffer + s->start, *end = s->buffer + s->end, *found; n < most; at = found + 1) {
        found = memchr(at, s->delimiter, (size_t)(end - at));
        if (!found || (size_t)(found - at) > SOURCE_MOST) break;
        list[n++] = (struct record){ at, (size_t)(found - at) };
        s->start = s->scanned = (size_t)(found + 1 - s->buffer);
    }
    s->count += n;
    return n;
}

bool source_clean(const struct source *s) { return !s->zeros; }

bool source_ready(struct source *s)
{
    struct pollfd p = { .fd = s->fd, .events = POLLIN };

    if (s->fd < 0) return true;
    /* Even a file that always has more, such as /dev/zero, ends this: SOURCE_MOST is an error. */
    while (s->state == MORE && !find_end(s)) {
        if (poll(&p, 1, 0) <= 0) return false;
        if (more(s)) break; /* source_next() says so without waiting */
    }
    return true;
}

int source_fd(const struct source *s) { return s->fd; }
const char *source_name(const struct source *s) { return s->name; }
uint64_t source_count(const struct source *s) { return s->count; }

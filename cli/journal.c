/* Writes the job log.  See journal.h; reading one is journal_read.c. */
#include "cli/journal_log.h"
#include "cli/sink.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS 400 /* bytes that all columns but Command take at most */

int journal_error(struct journal *j, const char *what)
{
    if (!j->failed) complain("%s: cannot be %s: %s", j->name, what, strerror(errno));
    j->failed = true;
    return -1;
}

/* ---- The checksum ---- */

#define PRIME 59 /* 2^64 - 59 is the largest prime of 64 bits, and 2^64 leaves 59 */

static uint64_t remainder_of(unsigned __int128 number)
{
    /* Twice is enough: the first time leaves less than 60 * 2^64. */
    for (int i = 0; i < 2; i++) number = (number >> 64) * PRIME + (uint64_t)number;
    if (number >> 64) number = (number >> 64) * PRIME + (uint64_t)number;
    return (uint64_t)number >= (uint64_t)-PRIME ? (uint64_t)number + PRIME : (uint64_t)number;
}

static uint64_t word_at(const char *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

uint64_t journal_check(uint64_t check, const char *data, size_t bytes)
{
    typedef unsigned __int128 u128;
    uint64_t tail = 0;
    size_t i = 0;

    /* Four words a step: the four products do not wait for each other. */
    for (; bytes - i >= 32; i += 32)
        check = remainder_of((u128)check * ((uint64_t)PRIME * PRIME * PRIME * PRIME) +
                             (u128)word_at(data + i) * ((uint64_t)PRIME * PRIME * PRIME) +
                             (u128)word_at(data + i + 8) * ((uint64_t)PRIME * PRIME) +
                             (u128)word_at(data + i + 16) * PRIME + word_at(data + i + 24));
    for (; bytes - i >= 8; i += 8) check = remainder_of((u128)check * PRIME + word_at(data + i));
    if (i == bytes) return check;
    for (size_t k = i; k < bytes; k++) tail = tail << 8 | (unsigned char)data[k];
    return remainder_of(((u128)check << (8 * (bytes - i))) + tail);
}

/* ---- Lines ---- */

static char *number(char *to, uint64_t value)
{
    char digits[20];
    size_t n = 0;

    do digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (n) *to++ = digits[--n];
    return to;
}

/* Three decimals, at least `width` wide.  printf() would take longer than all the rest of a job's output. */
static char *seconds(char *to, double value, int width)
{
    uint64_t ms = value > 0 && value < 1e15 ? (uint64_t)(value * 1000 + 0.5) : 0;
    char text[32], *end = number(text, ms / 1000);

    *end++ = '.';
    *end++ = (char)('0' + ms / 100 % 10);
    *end++ = (char)('0' + ms / 10 % 10);
    *end++ = (char)('0' + ms % 10);
    for (long pad = width - (end - text); pad > 0; pad--) *to++ = ' ';
    memcpy(to, text, (size_t)(end - text));
    return to + (end - text);
}

static char *column(char *to, uint64_t value)
{
    *to++ = '\t';
    return number(to, value);
}

static char *escaped(char *to, const char *text)
{
    for (; *text; text++) {
        char c = *text;

        if (c == '\t' || c == '\n' || c == '\\') {
            *to++ = '\\';
            c = c == '\t' ? 't' : c == '\n' ? 'n' : '\\';
        }
        *to++ = c;
    }
    return to;
}

static int make_room(struct journal *j, size_t bytes)
{
    size_t room = j->room ? j->room : 64u << 10;
    char *buffer;

    if (j->used + bytes <= j->room) return 0;
    while (room < j->used + bytes) room *= 2;
    buffer = realloc(j->buffer, room);
    if (!buffer) {
        errno = ENOMEM;
        return journal_error(j, "written");
    }
    j->buffer = buffer;
    j->room = room;
    return 0;
}

int journal_add(struct journal *j, const struct entry *e, uint64_t outpos, uint64_t check)
{
    static const char hex[] = "0123456789abcdef";
    char *at;

    if (j->failed || make_room(j, NUMBERS + 2 * strlen(e->command))) return -1;
    at = number(j->buffer + j->used, e->seq);
    memcpy(at, "\t:\t", 3);
    at = seconds(at + 3, e->start, 0);
    *at++ = '\t';
    at = seconds(at, e->runtime, 10);
    at = column(at, e->sent);
    at = column(at, e->received);
    *at++ = '\t';
    if (e->exit_value < 0) *at++ = '-';
    at = number(at, (uint64_t)llabs((long long)e->exit_value));
    at = column(at, (uint64_t)(e->signal < 0 ? 0 : e->signal));
    *at++ = '\t';
    at = escaped(at, e->command);
    *at++ = '\t';
    at = seconds(at, e->user, 0);
    *at++ = '\t';
    at = seconds(at, e->system, 0);
    at = column(at, e->maxrss);
    *at++ = '\t';
    if (outpos == UINT64_MAX) *at++ = '-';
    else at = number(at, outpos);
    *at++ = '\t';
    for (int shift = 60; shift >= 0; shift -= 4) *at++ = hex[check >> shift & 15];
    *at++ = '\n';
    j->used = (size_t)(at - j->buffer);
    j->last = outpos;
    return 0;
}

size_t journal_pending(const struct journal *j) { return j->used; }

int journal_flush(struct journal *j)
{
    size_t done, used = j->used;
    int error = 0;

    if (j->failed) return -1;
    if (!used) return 0;
    j->used = 0;
    j->new_lines = true;
    if (sink_write(j->fd, j->buffer, used, &done)) {
        const char *newline = memrchr(j->buffer, '\n', done);

        error = journal_error(j, "written");
        done = newline ? (size_t)(newline - j->buffer) + 1 : 0;
        /* Where this fails too, the next --resume cuts it. */
        if (j->regular && ftruncate(j->fd, (off_t)(j->size + done))) complain("%s: ends in half a line", j->name);
    }
    j->size += done;
    return error;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int sync_both(struct journal *j)
{
    if (!j->new_lines) return 0;
    j->new_lines = false;
    /* The output first: a log that is ahead of it costs the check at --resume and jobs that run again. */
    if (j->out_regular && fdatasync(j->out) && errno != EINVAL && errno != EROFS) {
        complain("output: cannot be brought to disk: %s", strerror(errno));
        j->failed = true;
        return -1;
    }
    if (j->regular && fdatasync(j->fd) && errno != EINVAL && errno != EROFS) return journal_error(j, "brought to disk");
    return 0;
}

int journal_sync(struct journal *j)
{
    double time;

    if (!j || j->failed) return j ? -1 : 0;
    if (!j->new_lines) return 0;
    time = now();
    if (time - j->synced < 1) return 0;
    j->synced = time;
    return sync_both(j);
}

/* ---- All of it ---- */

uint64_t journal_position(const struct journal *j)
{
    struct stat st;
    off_t at;

    if (!j->out_regular) return UINT64_MAX;
    if (j->out_append) return fstat(j->out, &st) ? UINT64_MAX : (uint64_t)st.st_size;
    at = lseek(j->out, 0, SEEK_CUR);
    return at < 0 ? UINT64_MAX : (uint64_t)at;
}

int journal_base(struct journal *j, uint64_t position)
{
    struct timespec t;
    struct entry begin = { .seq = 0, .command = "# output begins" };

    if (position == j->last) return 0;
    clock_gettime(CLOCK_REALTIME, &t);
    begin.start = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    return journal_add(j, &begin, position, 0);
}

/* Empties the log and writes its first line. */
static int begin(struct journal *j)
{
    static const char head[] = JOURNAL_HEAD, begins[] = JOURNAL_HEAD_BEGIN;
    char *at;

    if (j->regular && ftruncate(j->fd, 0)) return journal_error(j, "emptied");
    j->size = 0;
    if (make_room(j, NUMBERS)) return -1;
    memcpy(j->buffer, head, sizeof head - 1);
    at = j->buffer + sizeof head - 1;
    j->last = journal_position(j);
    if (j->last != 0) {
        memcpy(at, begins, sizeof begins - 1);
        at += sizeof begins - 1;
        if (j->last == UINT64_MAX) *at++ = '-';
        else at = number(at, j->last);
    }
    *at++ = '\n';
    j->used = (size_t)(at - j->buffer);
    return 0;
}

static int open_files(struct journal *j, const struct batch *batch, int out)
{
    struct stat st;
    int flags = fcntl(out, F_GETFL);

    j->out = out;
    j->out_named = batch->output != NULL;
    j->out_append = flags >= 0 && (flags & O_APPEND);
    j->out_regular = batch->grouping != OUTPUT_UNGROUPED && fstat(out, &st) == 0 && S_ISREG(st.st_mode);
    j->fd = open(j->name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0) return journal_error(j, "opened");
    if (fstat(j->fd, &st)) return journal_error(j, "read");
    j->regular = S_ISREG(st.st_mode);
    j->size = j->regular ? (uint64_t)st.st_size : 0;
    if (!j->regular || flock(j->fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK) return journal_error(j, "locked");
    complain("%s: another parmap writes this log", j->name);
    j->failed = true;
    return -1;
}

struct journal *journal_open(const struct batch *batch, int out)
{
    struct journal *j = calloc(1, sizeof *j);
    uint64_t position;

    if (!j) {
        complain("%s: no memory", batch->joblog);
        return NULL;
    }
    j->name = batch->joblog;
    j->last = UINT64_MAX;
    if (open_files(j, batch, out)) goto fail;
    if (batch->resume != RESUME_NO && j->regular) {
        if (journal_read(j, batch)) goto fail;
    }
    if ((batch->resume == RESUME_NO || j->size == 0) && begin(j)) goto fail;
    /* On disk before any output: else a run that is killed with the first bytes written leaves the next no way to tell
     * whose they are. */
    position = journal_position(j);
    if (position != UINT64_MAX && journal_base(j, position)) goto fail;
    if (journal_flush(j)) goto fail;
    return j;
fail:
    journal_close(j);
    return NULL;
}

int journal_close(struct journal *j)
{
    int error = 0;

    if (!j) return 0;
    if (!j->failed && j->fd >= 0) error = sync_both(j);
    if (j->fd >= 0 && close(j->fd) && !error) error = journal_error(j, "written");
    for (size_t i = 0; i < j->nfailures; i++) free(j->failures[i].command);
    free(j->failures);
    free(j->done);
    free(j->buffer);
    free(j);
    return error;
}

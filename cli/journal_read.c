/* Reads the job log of an earlier run, mends what a kill, a full disk or a power failure has left of it, and cuts log
 * and output to where they agree.  See journal.h; used by journal.c.  Changes nothing before it has seen that the files
 * are what they should be. */
#include "cli/journal_log.h"
#include "cli/results_left.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENOUGH_BYTES ((uint64_t)64 << 20) /* of output that agrees: what lies further back was on the disk long ago */
#define ENOUGH_LINES 1000

/* One line of the log. */
struct line {
    const char *text;
    size_t bytes;         /* without the newline */
    size_t seq;
    bool ok;              /* exit value and signal are 0 */
    bool ours;            /* with the columns behind Command, which is escaped */
    const char *command;
    size_t command_bytes;
    uint64_t outpos;      /* UINT64_MAX: not told */
    uint64_t received;
    uint64_t check;
};

/* ---- One line ---- */

/* Whole numbers without a sign; with a point in them where `real`, and blanks in front as GNU parallel has them. */
static bool is_number(const char *text, size_t bytes, bool real)
{
    size_t i = 0, digits = 0;

    while (real && i < bytes && text[i] == ' ') i++;
    for (; i < bytes; i++) {
        if (text[i] >= '0' && text[i] <= '9') digits++;
        else if (!real || text[i] != '.') return false;
        else real = false;
    }
    return digits > 0 && digits <= 20;
}

static bool read_number(const char *text, size_t bytes, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < bytes; i++)
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(*number, 10u, number) ||
            __builtin_add_overflow(*number, (uint64_t)(text[i] - '0'), number))
            return false;
    return bytes > 0;
}

static bool read_hex(const char *text, size_t bytes, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] >= '0' && text[i] <= '9') *number = *number << 4 | (uint64_t)(text[i] - '0');
        else if (text[i] >= 'a' && text[i] <= 'f') *number = *number << 4 | (uint64_t)(text[i] - 'a' + 10);
        else return false;
    }
    return bytes == 16;
}

/* The columns behind Command, from the end backwards: Utime Stime Maxrss Outpos Check. */
static bool read_ours(struct line *l)
{
    const char *end = l->text + l->bytes, *column[5], *at = end;
    size_t bytes[5];
    uint64_t maxrss;

    for (int i = 4; i >= 0; i--) {
        const char *tab = memrchr(l->command, '\t', (size_t)(at - l->command));

        if (!tab) return false;
        column[i] = tab + 1;
        bytes[i] = (size_t)(at - column[i]);
        at = tab;
    }
    if (!is_number(column[0], bytes[0], true) || !is_number(column[1], bytes[1], true)) return false;
    if (!read_number(column[2], bytes[2], &maxrss) || !read_hex(column[4], bytes[4], &l->check)) return false;
    if (bytes[3] == 1 && *column[3] == '-') l->outpos = UINT64_MAX;
    else if (!read_number(column[3], bytes[3], &l->outpos) || l->outpos > INT64_MAX) return false;
    l->command_bytes = (size_t)(at - l->command);
    return memchr(l->command, '\t', l->command_bytes) == NULL;
}

/* old: the log is one of GNU parallel's, where lines need not have our columns. */
static bool read_line(struct line *l, const char *text, size_t bytes, bool old)
{
    const char *column[9], *at = text, *end = text + bytes;
    size_t length[9];
    uint64_t seq, exit_value, signal, other;
    bool negative;

    *l = (struct line){ .text = text, .bytes = bytes, .outpos = UINT64_MAX };
    for (int i = 0; i < 8; i++) {
        const char *tab = memchr(at, '\t', (size_t)(end - at));

        if (!tab) return false;
        column[i] = at;
        length[i] = (size_t)(tab - at);
        at = tab + 1;
    }
    l->command = at;
    l->command_bytes = (size_t)(end - at);
    negative = length[6] > 1 && *column[6] == '-';
    if (!read_number(column[0], length[0], &seq) || seq > JOURNAL_MOST_SEQ || length[1] == 0) return false;
    if (!is_number(column[2], length[2], true) || !is_number(column[3], length[3], true)) return false;
    if (!read_number(column[4], length[4], &other) || !read_number(column[5], length[5], &l->received)) return false;
    if (!read_number(column[6] + negative, length[6] - negative, &exit_value)) return false;
    if (!read_number(column[7], length[7], &signal)) return false;
    l->seq = (size_t)seq;
    l->ok = exit_value == 0 && signal == 0;
    l->ours = read_ours(l);
    if (!l->ours && old) {
        l->outpos = UINT64_MAX;
        l->command_bytes = (size_t)(end - l->command);
    }
    return l->ours || (old && seq > 0);
}

/* The line that ends in front of `end`, a newline's successor; the first line, the head, begins at `first`. */
static bool line_before(struct line *l, const char *first, const char *end, bool old)
{
    const char *newline;

    if (end <= first) return false;
    newline = memrchr(first, '\n', (size_t)(end - 1 - first));
    newline = newline ? newline + 1 : first;
    return read_line(l, newline, (size_t)(end - 1 - newline), old);
}

/* ---- The whole log ---- */

struct log {
    const char *map;
    size_t bytes;        /* of the file */
    const char *first;   /* behind the head */
    const char *end;     /* behind the last good line that is kept */
    bool old;
    uint64_t base;       /* how long the output was when the first run began; UINT64_MAX: not told */
};

/* The head: 1 there is one, 0 the file is empty or holds the beginning of ours, -1 it is no log. */
static int read_head(struct journal *j, struct log *log)
{
    static const char ours[] = JOURNAL_HEAD, old[] = JOURNAL_HEAD_OLD, begins[] = JOURNAL_HEAD_BEGIN;
    const char *newline = memchr(log->map, '\n', log->bytes), *at = log->map + sizeof ours - 1;
    size_t length = newline ? (size_t)(newline - log->map) : log->bytes;

    log->first = log->map + length + 1;
    log->base = UINT64_MAX;
    if (!newline && memcmp(log->map, ours, length < sizeof ours - 1 ? length : sizeof ours - 1) == 0) return 0;
    if (newline && length == sizeof old - 1 && memcmp(log->map, old, length) == 0) return log->old = true;
    if (newline && length >= sizeof ours - 1 && memcmp(log->map, ours, sizeof ours - 1) == 0) {
        log->base = 0;
        if (at == newline) return 1;
        if ((size_t)(newline - at) > sizeof begins - 1 && memcmp(at, begins, sizeof begins - 1) == 0) {
            at += sizeof begins - 1;
            if (*at == '-') log->base = UINT64_MAX;
            if (*at == '-' || read_number(at, (size_t)(newline - at), &log->base)) return 1;
        }
    }
    complain("%s: line 1: is not the head of a job log, which begins with 'Seq<tab>Host<tab>Starttime'", j->name);
    return -1;
}

/* Finds the end of the good lines.  Bad ones may only be the last of all: those were being written. */
static int find_end(struct journal *j, struct log *log)
{
    const char *at = log->first, *stop = log->map + log->bytes, *bad = NULL;
    size_t number = 1, bad_number = 0;
    struct line l;

    while (at < stop) {
        const char *newline = memchr(at, '\n', (size_t)(stop - at));

        number++;
        if (newline && read_line(&l, at, (size_t)(newline - at), log->old)) {
            if (bad) {
                int shown = (int)((const char *)memchr(bad, '\n', (size_t)(stop - bad)) - bad);

                complain("%s: line %zu: is no line of a job log, and others follow: '%.*s'", j->name, bad_number,
                         shown < 200 ? shown : 200, bad);
                return -1;
            }
        } else if (!bad) {
            bad = at;
            bad_number = number;
        }
        at = newline ? newline + 1 : stop;
    }
    log->end = bad ? bad : at;
    return 0;
}

/* ---- Does the output hold what the log tells? ---- */

struct outputs {
    int fd;             /* to read; -1: only its length is known */
    uint64_t bytes;
    char *buffer;
};

#define PART ((size_t)1 << 20)

/* 1 the bytes are those that the log tells of, 0 they are not, -1 they cannot be read. */
static int agrees(struct outputs *out, uint64_t from, uint64_t to, uint64_t expected)
{
    uint64_t check = 0;

    if (out->fd < 0) return 1;
    while (from < to) {
        ssize_t n = pread(out->fd, out->buffer, to - from < PART ? (size_t)(to - from) : PART, (off_t)from);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -1 : 0;
        check = journal_check(check, out->buffer, (size_t)n);
        from += (uint64_t)n;
    }
    return check == expected;
}

struct agreement {
    const char *end;    /* of the log */
    uint64_t position;  /* of the output; UINT64_MAX: nothing is known about it */
    uint64_t bytes;
    size_t lines;       /* with output that agreed, up to here without a miss */
    bool any, missed;   /* some line's output agreed; some did not */
};

/* Goes back from the end of the log until enough lines agree without a miss. */
static int find_agreement(struct log *log, struct outputs *out, struct agreement *a)
{
    struct line l, before;
    const char *at;

    for (at = log->end; line_before(&l, log->first, at, log->old); at = l.text) {
        bool first = !line_before(&before, log->first, l.text, log->old);
        uint64_t from = first ? log->base : before.outpos;
        int same;

        if (l.outpos == UINT64_MAX) break; /* output went elsewhere: nothing to compare from here back */
        if (l.outpos > out->bytes) {
            a->end = NULL;
            continue;
        }
        if (l.seq == 0) { /* here a run began, with an output that is not told of before */
            if (!a->end) *a = (struct agreement){ at, l.outpos, 0, 0, a->any, a->missed };
            return 0;
        }
        same = from > l.outpos ? 0 : agrees(out, from, l.outpos, l.check);
        if (same < 0) return -1;
        if (!same) {
            a->missed = true;
            a->end = NULL;
            continue;
        }
        if (!a->end) *a = (struct agreement){ at, l.outpos, 0, 0, a->any, a->missed };
        if (l.outpos == from) continue;
        a->any = true;
        a->bytes += l.outpos - from;
        if (++a->lines >= ENOUGH_LINES || a->bytes >= ENOUGH_BYTES) return 0;
    }
    if (a->end) return 0;
    a->end = at;
    a->position = at > log->first ? UINT64_MAX : log->base;
    return 0;
}

static int cut_log(struct journal *j, const struct log *log)
{
    uint64_t bytes = (uint64_t)(log->end - log->map);

    return bytes < log->bytes && ftruncate(j->fd, (off_t)bytes) ? journal_error(j, "cut") : 0;
}

/* Cuts the output behind the last line that agrees with it, and lets the log end there. */
static int agree(struct journal *j, struct log *log)
{
    struct outputs out = { .fd = -1 };
    struct agreement a = { .position = UINT64_MAX };
    struct stat st;
    char path[64];
    int error;

    if (fstat(j->out, &st)) return journal_error(j, "compared with the output");
    out.bytes = (uint64_t)st.st_size;
    out.buffer = malloc(PART);
    if (!out.buffer) {
        errno = ENOMEM;
        return journal_error(j, "compared with the output");
    }
    /* Standard output is open for writing only.  Where it may not be read, its length has to do. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", j->out);
    out.fd = open(path, O_RDONLY | O_CLOEXEC);
    error = find_agreement(log, &out, &a);
    if (out.fd >= 0) close(out.fd);
    free(out.buffer);
    if (error) return journal_error(j, "compared with the output");
    if (a.missed && !a.any) {
        complain("%s: tells of another output than this one: append to the same file, or begin with another log",
                 j->name);
        return -1;
    }
    log->end = a.end;
    /* The log first: an output that is ahead of it is cut the next time. */
    if (cut_log(j, log)) return -1;
    if (a.position < out.bytes && ftruncate(j->out, (off_t)a.position)) {
        complain("output: cannot be cut to what %s tells of: %s", j->name, strerror(errno));
        return -1;
    }
    if (a.position <= out.bytes && !j->out_append && lseek(j->out, (off_t)a.position, SEEK_SET) < 0)
        return journal_error(j, "followed");
    return 0;
}

/* ---- And --results? ---- */

/* The results of the last jobs may be lost although the log tells of them.  What it tells behind the last job from which on all are there is cut
 * off, and run again.  Where none is there, this log was written without --results. */
static int agree_with_results(struct journal *j, struct log *log, const char *name)
{
    struct results_left left;
    struct line l;
    const char *end = NULL, *at;
    size_t agreed = 0;
    int error = 0;

    if (results_left_open(&left, name)) return -1;
    for (at = log->end; !error && agreed < ENOUGH_LINES && line_before(&l, log->first, at, log->old); at = l.text) {
        if (l.seq == 0 || journal_done(j, l.seq)) continue; /* of each job its last line counts */
        error = journal_set_done(j, l.seq, true);
        if (!results_left_has(&left, l.seq, l.received)) {
            end = NULL;
        } else {
            if (!end) end = at;
            agreed++;
        }
    }
    results_left_close(&left);
    if (j->done) memset(j->done, 0, j->done_words * sizeof *j->done); /* that was only for this */
    if (agreed) log->end = end ? end : at;
    return error;
}

/* ---- All of it ---- */

/* The command as it was: ours is escaped, GNU parallel writes a zero byte for a newline. */
static char *plain(const struct line *l)
{
    char *text = malloc(l->command_bytes + 1), *to = text;

    for (size_t i = 0; text && i < l->command_bytes; i++) {
        char c = l->command[i];

        if (l->ours && c == '\\' && i + 1 < l->command_bytes) {
            c = l->command[++i];
            c = c == 't' ? '\t' : c == 'n' ? '\n' : c;
        }
        *to++ = c ? c : '\n';
    }
    if (text) *to = 0;
    return text;
}

static int read_lines(struct journal *j, const struct log *log, const struct batch *batch)
{
    struct line l = { .outpos = log->base };

    for (const char *at = log->first; at < log->end; at = l.text + l.bytes + 1) {
        read_line(&l, at, (size_t)((const char *)memchr(at, '\n', (size_t)(log->end - at)) - at), log->old);
        if (l.seq == 0) continue;
        if (journal_set_done(j, l.seq, l.ok || batch->resume == RESUME)) return -1;
        if (batch->resume == RETRY_FAILED && journal_add_run(j, l.seq, !l.ok, l.ok ? NULL : plain(&l))) return -1;
    }
    j->last = l.outpos;
    journal_keep_failures(j);
    return 0;
}

int journal_read(struct journal *j, const struct batch *batch)
{
    struct log log = { .bytes = (size_t)j->size };
    int error;

    if (j->size == 0) return 0;
    log.map = mmap(NULL, log.bytes, PROT_READ, MAP_PRIVATE, j->fd, 0);
    if (log.map == MAP_FAILED) return journal_error(j, "read");
    error = read_head(j, &log);
    if (error <= 0) {
        j->size = 0; /* it was killed when it had not run anything yet */
    } else {
        error = find_end(j, &log);
        if (!error && batch->results) error = agree_with_results(j, &log, batch->results);
        if (!error && j->out_regular && (j->out_append || j->out_named)) error = agree(j, &log);
        if (!error) error = cut_log(j, &log);
        if (!error) error = read_lines(j, &log, batch);
        j->size = (uint64_t)(log.end - log.map);
    }
    munmap((void *)(uintptr_t)log.map, log.bytes);
    return error;
}

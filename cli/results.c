/* What each job wrote, in files.  See results.h. */
#include "cli/results.h"
#include "cli/sink.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct results {
    const char *name;
    bool json;
    int fd;           /* the directory, or the file */
    struct sink sink; /* json: to the file */
};

static int failed(const struct results *r, const char *what, const char *part)
{
    complain("%s%s%s: cannot be %s: %s", r->name, part ? "/" : "", part ? part : "", what, strerror(errno));
    return -1;
}

/* ---- A directory ---- */

static int to_file(void *arg, const char *data, size_t bytes)
{
    return sink_write(*(int *)arg, data, bytes, NULL);
}

static int add_file(struct results *r, struct store *store, size_t seq, const char *name, const struct piece *piece)
{
    char path[64], unfinished[64];
    int fd, error;

    snprintf(path, sizeof path, "%zu/%s", seq, name);
    snprintf(unfinished, sizeof unfinished, "%zu/.%s", seq, name);
    fd = openat(r->fd, unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return failed(r, "made", path);
    error = piece_each(store, piece, to_file, &fd);
    if (close(fd)) error = -1;
    if (!error && renameat(r->fd, unfinished, r->fd, path) == 0) return 0;
    failed(r, "written", path);
    unlinkat(r->fd, unfinished, 0);
    return -1;
}

static int add_files(struct results *r, struct store *store, size_t seq, const struct piece *out,
                     const struct piece *err)
{
    char path[32];

    snprintf(path, sizeof path, "%zu", seq);
    if (mkdirat(r->fd, path, 0777) && errno != EEXIST) return failed(r, "made", path);
    return add_file(r, store, seq, "stdout", out) || add_file(r, store, seq, "stderr", err) ? -1 : 0;
}

/* ---- JSON ---- */

/* Where a reader of UTF-8 is in a character; bytes come in pieces. */
struct utf8 {
    unsigned left;            /* bytes that must follow */
    unsigned char low, high;  /* what the next of them may be */
    bool wrong;
};

static int check_utf8(void *arg, const char *data, size_t bytes)
{
    struct utf8 *u = arg;

    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)data[i];

        if (u->left) {
            if (c < u->low || c > u->high) return u->wrong = true;
            u->left--;
            u->low = 0x80;
            u->high = 0xbf;
        } else if (c >= 0x80) {
            if (c < 0xc2 || c > 0xf4) return u->wrong = true;
            u->left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            /* No longer form than needed, no halves of surrogate pairs, nothing above U+10FFFF. */
            u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
            u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        }
    }
    return 0;
}

static int put_text(void *arg, const char *data, size_t bytes)
{
    struct sink *sink = arg;
    size_t from = 0;
    char code[8];

    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)data[i];
        static const char short_forms[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *found;

        if (c >= ' ' && c != '"' && c != '\\' && c != 0x7f) continue;
        found = c ? strchr(short_forms, c) : NULL;
        if (found) snprintf(code, sizeof code, "\\%c", letters[found - short_forms]);
        else snprintf(code, sizeof code, "\\u%04x", c);
        if (sink_put(sink, data + from, i - from) || sink_put(sink, code, strlen(code))) return -1;
        from = i + 1;
    }
    return sink_put(sink, data + from, bytes - from);
}

struct base64 {
    struct sink *sink;
    unsigned char rest[3]; /* bytes that do not make three yet */
    unsigned n;
};

static int put_three(struct base64 *b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = (unsigned)b->rest[0] << 16 | (unsigned)b->rest[1] << 8 | b->rest[2];
    char text[4];

    for (unsigned i = 0; i < 4; i++) text[i] = i <= b->n ? digits[bits >> (18 - 6 * i) & 63] : '=';
    memset(b->rest, 0, sizeof b->rest);
    b->n = 0;
    return sink_put(b->sink, text, sizeof text);
}

static int put_base64(void *arg, const char *data, size_t bytes)
{
    struct base64 *b = arg;

    for (size_t i = 0; i < bytes; i++) {
        b->rest[b->n++] = (unsigned char)data[i];
        if (b->n == 3 && put_three(b)) return -1;
    }
    return 0;
}

/* "key": the bytes as text where they are UTF-8, else "key_base64". */
static int put_member(struct results *r, struct store *store, const char *key, const struct piece *piece)
{
    struct utf8 utf8 = { 0 };
    struct base64 base64 = { .sink = &r->sink };
    char head[64];

    if (piece_each(store, piece, check_utf8, &utf8) && !utf8.wrong) return -1;
    utf8.wrong |= utf8.left > 0;
    snprintf(head, sizeof head, ", \"%s%s\": \"", key, utf8.wrong ? "_base64" : "");
    if (sink_put(&r->sink, head, strlen(head))) return -1;
    if (!utf8.wrong) {
        if (piece_each(store, piece, put_text, &r->sink)) return -1;
    } else {
        if (piece_each(store, piece, put_base64, &base64)) return -1;
        if (base64.n && put_three(&base64)) return -1;
    }
    return sink_put(&r->sink, "\"", 1);
}

static int add_line(struct results *r, struct store *store, const struct entry *e, const struct piece *out,
                    const struct piece *err)
{
    struct piece command = { .data = (char *)(uintptr_t)e->command, .used = strlen(e->command) };
    char text[160];

    snprintf(text, sizeof text, "{\"seq\": %zu", e->seq);
    if (sink_put(&r->sink, text, strlen(text)) || put_member(r, store, "command", &command)) return -1;
    snprintf(text, sizeof text, ", \"start\": %.3f, \"runtime\": %.3f, \"exit\": %d, \"signal\": %d", e->start,
             e->runtime, e->exit_value, e->signal);
    if (sink_put(&r->sink, text, strlen(text))) return -1;
    if (put_member(r, store, "stdout", out) || put_member(r, store, "stderr", err)) return -1;
    return sink_put(&r->sink, "}\n", 2);
}

/* The last line of the first `bytes` bytes of the file: where it begins, and the job it is of; 0 when that cannot be
 * read. -1: no reading. */
static int64_t last_line(int fd, int64_t bytes, size_t *seq)
{
    char buffer[4096];
    int64_t begin = bytes - 1; /* its own newline is not the one in front of it */
    uintmax_t number = 0;
    ssize_t n;

    *seq = 0;
    for (bool found = false; begin > 0 && !found;) {
        int64_t from = begin > (int64_t)sizeof buffer ? begin - (int64_t)sizeof buffer : 0;
        char *newline;

        n = pread(fd, buffer, (size_t)(begin - from), (off_t)from);
        if (n != begin - from) return -1;
        newline = memrchr(buffer, '\n', (size_t)n);
        found = newline != NULL;
        begin = found ? from + (newline - buffer) + 1 : from;
    }
    n = pread(fd, buffer, 40, (off_t)begin);
    if (n < 0) return -1;
    buffer[n] = 0;
    if (sscanf(buffer, "{\"seq\": %" SCNuMAX ",", &number) == 1) *seq = (size_t)number;
    return begin;
}

/* Lines are written before the journal's, in the same order: so the file is ahead of it, if anything, at its end. */
static int mend(struct results *r, const struct journal *journal)
{
    struct stat st;
    int64_t end;

    if (fstat(r->fd, &st)) return failed(r, "read", NULL);
    if (!S_ISREG(st.st_mode)) return 0;
    for (end = st.st_size; end > 0;) {
        char last = 0;
        size_t seq;
        int64_t begin = last_line(r->fd, end, &seq);

        if (begin < 0 || pread(r->fd, &last, 1, (off_t)(end - 1)) != 1) return failed(r, "read", NULL);
        if (last == '\n' && seq && journal_done(journal, seq)) break;
        if (last == '\n' && !seq) {
            complain("%s: its last line is none of a job's results", r->name);
            return -1;
        }
        end = begin;
    }
    return end < st.st_size && ftruncate(r->fd, (off_t)end) ? failed(r, "cut", NULL) : 0;
}

bool results_is_json(const char *name)
{
    size_t length = strlen(name);

    return length >= 6 && strcmp(name + length - 6, ".jsonl") == 0;
}

struct results *results_open(const struct batch *batch, const struct journal *journal)
{
    struct results *r = calloc(1, sizeof *r);
    bool go_on = journal && batch->resume != RESUME_NO;

    if (!r) {
        complain("no memory for results");
        return NULL;
    }
    r->name = batch->results;
    r->json = results_is_json(r->name);
    if (r->json) {
        r->fd = open(r->name, (go_on ? O_RDWR : O_WRONLY | O_TRUNC) | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (r->fd < 0) failed(r, "written", NULL);
        if (r->fd >= 0 && sink_open(&r->sink, r->fd, r->name) == 0 && (!go_on || mend(r, journal) == 0)) return r;
    } else {
        if (mkdir(r->name, 0777) && errno != EEXIST) {
            failed(r, "made", NULL);
            r->fd = -1;
        } else {
            r->fd = open(r->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (r->fd < 0) failed(r, "opened", NULL);
        }
        if (r->fd >= 0) return r;
    }
    results_close(r);
    return NULL;
}

int results_add(struct results *r, struct store *store, const struct entry *entry, const struct piece *out,
                const struct piece *err)
{
    return r->json ? add_line(r, store, entry, out, err) : add_files(r, store, entry->seq, out, err);
}

int results_flush(struct results *r) { return r->json ? sink_flush(&r->sink) : 0; }

void results_close(struct results *r)
{
    if (!r) return;
    sink_close(&r->sink);
    if (r->fd >= 0) close(r->fd);
    free(r);
}

/* Where the blocks of `parmap call` come from: mapped files, cut at places that need no look at what is in them (the worker finds the first
 * record itself; only CSV is looked through for quotes), and what cannot be mapped, read into the slots and cut at the ends of records.
 * See call.h.  Mappings are made before the workers are forked, so that these have them. */
#include "cli/call.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ ((uint64_t)64 << 10) /* at least so much at once */

struct call_source {
    const struct call_run *run;
    struct call_input *input;
    size_t inputs, current;
    char *headers;               /* area for those of what is read; never overwritten, as blocks under way use them */
    uint64_t headers_bytes;
    /* Of the input that is read: */
    bool filling, ended, broken; /* broken: ended by an error */
    uint64_t have;               /* bytes in the slot that comes next */
    struct call_scan scan;
    char *rest;                  /* what was read behind the last block */
    uint64_t rest_bytes, rest_room;
};

/* ---- Opening ---- */

static bool no_input(const char *name, const char *why)
{
    complain("%s: %s", name, why);
    return false;
}

/* A file that cannot be mapped for want of address space or mappings is read. */
static bool open_input(struct call_input *in)
{
    bool standard = !strcmp(in->name, "-");
    int fd = standard ? STDIN_FILENO : open(in->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    off_t at = 0;
    void *data;

    if (fd < 0 || fstat(fd, &st)) {
        int error = errno;

        if (fd >= 0 && !standard) close(fd);
        return no_input(standard ? "standard input" : in->name, strerror(error));
    }
    in->device = st.st_dev;
    in->inode = st.st_ino;
    if (standard) at = lseek(fd, 0, SEEK_CUR);
    if (S_ISREG(st.st_mode) && at >= 0 && at < st.st_size) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data != MAP_FAILED) {
            in->data = data;
            in->size = (uint64_t)st.st_size;
            in->at = (uint64_t)at;
        }
    }
    /* Files are opened again in their turn: there may be more of them than descriptors.  Who writes to a FIFO would take a reader's leaving
     * for the end. */
    if (!standard && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) in->fd = fd;
    else if (!standard) close(fd);
    if (S_ISDIR(st.st_mode)) return no_input(standard ? "standard input" : in->name, "is a directory");
    return true;
}

struct call_source *call_source_open(const struct call_run *run)
{
    static char standard[] = "-";
    static char *only[] = { standard };
    bool named = run->batch->nwords > 1;
    size_t n = named ? run->batch->nwords - 1 : 1, standards = 0;
    char **names = named ? run->batch->words + 1 : only;
    struct call_source *s = calloc(1, sizeof *s);
    bool good = true;

    if (!s || !(s->input = calloc(n, sizeof *s->input))) {
        complain("not enough memory for the list of files");
        free(s);
        return NULL;
    }
    s->run = run;
    s->headers = run->shared;
    for (; s->inputs < n; s->inputs++) {
        struct call_input *in = &s->input[s->inputs];

        *in = (struct call_input){ .name = names[s->inputs], .index = (unsigned)s->inputs, .fd = -1 };
        if (!strcmp(in->name, "-") && ++standards > 1) good = no_input("-", "standard input can be read once only");
        else if (!open_input(in)) good = false; /* all that are missing are named */
    }
    if (good) return s;
    call_source_close(s);
    return NULL;
}

void call_source_close(struct call_source *s)
{
    if (!s) return;
    for (struct call_input *in = s->input; in < s->input + s->inputs; in++) {
        if (in->fd > STDERR_FILENO) close(in->fd);
        if (in->data && !strcmp(in->name, "-")) (void)lseek(STDIN_FILENO, (off_t)in->at, SEEK_SET); /* as if it had been read */
        if (in->data) munmap((void *)(uintptr_t)in->data, in->size);
    }
    free(s->input);
    free(s->rest);
    free(s);
}

bool call_source_has(const struct call_source *s, dev_t device, ino_t inode)
{
    for (const struct call_input *in = s->input; in < s->input + s->inputs; in++)
        if (in->data && in->device == device && in->inode == inode) return true;
    return false;
}

bool call_source_changed(const struct call_source *s)
{
    bool changed = false;

    for (const struct call_input *in = s->input; in < s->input + s->inputs; in++) {
        struct stat st;

        if (!in->data || (strcmp(in->name, "-") ? stat(in->name, &st) : fstat(STDIN_FILENO, &st))) continue;
        if (st.st_dev != in->device || st.st_ino != in->inode || (uint64_t)st.st_size >= in->size) continue;
        complain("%s: has shrunk from %llu to %llu bytes while it was read", in->name, (unsigned long long)in->size,
                 (unsigned long long)st.st_size);
        changed = true;
    }
    return changed;
}

int call_source_fd(const struct call_source *s) { return s->current < s->inputs ? s->input[s->current].fd : -1; }

uint64_t call_source_left(const struct call_source *s)
{
    const struct call_input *in = s->current < s->inputs ? &s->input[s->current] : NULL;

    return in && in->data ? in->size - in->at : 0;
}

uint64_t call_source_all(const struct call_source *s)
{
    uint64_t all = 0;

    for (const struct call_input *in = s->input; in < s->input + s->inputs; in++) {
        if (!in->data) return 0;
        all += in->size;
    }
    return all;
}

/* ---- Records of a text whose first byte begins one ---- */

static void scan_to(struct call_scan *scan, const struct batch *batch, const char *text, uint64_t to, bool final)
{
    const char *d;
    uint64_t from;

    if (batch->csv) {
        call_csv_scan(scan, text, to, to, final);
        return;
    }
    if (batch->record) {
        scan->last = to - to % batch->record;
        if (scan->last >= scan->from) scan->first = (scan->from + batch->record - 1) / batch->record * batch->record;
        return;
    }
    from = scan->from > scan->at + 1 ? scan->from - 1 : scan->at;
    if (!scan->first && from < to && (d = memchr(text + from, batch->delimiter, to - from)))
        scan->first = (uint64_t)(d - text) + 1;
    if (to > scan->at && (d = memrchr(text + scan->at, batch->delimiter, to - scan->at))) scan->last = (uint64_t)(d - text) + 1;
    scan->at = to;
}

/* The header is a record without its delimiter. */
static uint64_t header_bytes(const struct batch *batch, const char *text, uint64_t end)
{
    if (end && text[end - 1] == batch->delimiter) end--;
    else return end;
    return batch->csv && end && text[end - 1] == '\r' ? end - 1 : end;
}

/* ---- Mapped files ---- */

static void begin_mapped(struct call_input *in, const struct batch *batch)
{
    bool open = false;
    uint64_t end;

    in->begun = true;
    if (batch->header) {
        if (batch->csv) {
            end = call_csv_end(in->data, in->at, in->size, &open);
        } else {
            const char *d = memchr(in->data + in->at, batch->delimiter, in->size - in->at);

            end = d ? (uint64_t)(d - in->data) : in->size;
        }
        if (end < in->size) end++;
        in->header = in->data + in->at;
        in->header_bytes = header_bytes(batch, in->header, end - in->at);
        in->at = end;
    }
    in->scan = CALL_NONE; /* here begins a record, for certain */
}

static void take_mapped(struct call_input *in, const struct call_run *run, struct call_slot *slot, uint64_t bytes)
{
    const struct batch *batch = run->batch;
    uint64_t end;

    if (run->even) bytes = run->even - in->at % run->even;
    if (batch->record) bytes = (bytes + batch->record - 1) / batch->record * batch->record;
    end = bytes < in->size - in->at ? in->at + bytes : in->size;
    slot->text = in->data;
    slot->bytes = in->size;
    slot->offset = 0;
    slot->begin = in->at;
    slot->end = end;
    slot->scan = in->scan;
    slot->quoted = in->quoted;
    if (batch->csv) {
        struct call_scan scan = { .at = in->scan == CALL_NONE ? in->at : in->scan, .quoted = in->quoted, .from = CALL_NONE };

        call_csv_scan(&scan, in->data, end, in->size, true);
        in->scan = scan.at;
        in->quoted = scan.quoted;
    } else if (!batch->record) {
        in->scan = end;
    }
    in->at = end;
}

/* ---- What is read ---- */

static bool begin_read(struct call_source *s, struct call_input *in)
{
    in->begun = true;
    if (!strcmp(in->name, "-")) in->fd = STDIN_FILENO;
    else if (in->fd < 0) in->fd = open(in->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (in->fd < 0) return no_input(in->name, strerror(errno));
    (void)fcntl(in->fd, F_SETPIPE_SZ, 1 << 20); /* fewer reads, where it is a pipe and we may */
    s->ended = s->filling = s->broken = false;
    s->rest_bytes = s->have = 0;
    return true;
}

static bool keep_rest(struct call_source *s, const char *rest, uint64_t bytes)
{
    if (bytes > s->rest_room) {
        char *larger = realloc(s->rest, bytes);

        if (!larger) return no_input(s->input[s->current].name, "not enough memory for its next record");
        s->rest = larger;
        s->rest_room = bytes;
    }
    if (bytes) memcpy(s->rest, rest, bytes);
    s->rest_bytes = bytes;
    return true;
}

/* The first `cut` bytes are a block, or the header. */
static enum call_took give(struct call_source *s, struct call_input *in, struct call_slot *slot, uint64_t cut)
{
    const struct batch *batch = s->run->batch;

    if (!keep_rest(s, slot->in + cut, s->have - cut)) return CALL_ERROR;
    s->filling = false;
    if (batch->header && !in->header) {
        in->header_bytes = header_bytes(batch, slot->in, cut);
        if (in->header_bytes > s->run->area - s->headers_bytes) {
            no_input(in->name, "its header is too long");
            return CALL_ERROR;
        }
        in->header = memcpy(s->headers + s->headers_bytes, slot->in, in->header_bytes);
        s->headers_bytes += in->header_bytes;
        in->taken += cut;
        return CALL_LATER;
    }
    slot->text = slot->in;
    slot->bytes = slot->end = cut;
    slot->offset = in->taken;
    slot->begin = 0;
    slot->scan = CALL_NONE;
    slot->quoted = false;
    in->taken += cut;
    return CALL_BLOCK_TAKEN;
}

/* False: nothing is there yet. */
static bool fill(struct call_source *s, struct call_input *in, struct call_slot *slot, uint64_t bytes)
{
    struct pollfd poll_in = { .fd = in->fd, .events = POLLIN };
    uint64_t room = s->run->area - s->have, want = bytes > s->have + READ ? bytes - s->have : READ;
    ssize_t got;

    if (room == 0) {
        s->ended = s->broken = true;
        return no_input(in->name, "a record is too long for the memory that there is"), true;
    }
    if (poll(&poll_in, 1, 0) <= 0) return false;
    got = read(in->fd, slot->in + s->have, want < room ? want : room); /* of one that is closed too: that tells the error */
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return false;
    s->ended = got <= 0;
    s->broken = got < 0;
    if (got > 0) s->have += (uint64_t)got;
    if (got < 0) no_input(strcmp(in->name, "-") ? in->name : "standard input", strerror(errno));
    return true;
}

static enum call_took take_read(struct call_source *s, struct call_input *in, struct call_slot *slot, uint64_t bytes, bool idle)
{
    const struct call_run *run = s->run;
    bool header = run->batch->header && !in->header;

    if (!s->filling) { /* the slot is another one, with the rest in it */
        s->filling = true;
        s->scan = (struct call_scan){ .from = header ? 1 : run->even ? run->even - in->taken % run->even : CALL_NONE };
        s->have = s->rest_bytes;
        if (s->have) memcpy(slot->in, s->rest, s->have);
        s->rest_bytes = 0;
    }
    if (run->even) bytes = s->scan.from;
    for (;;) {
        uint64_t cut;

        scan_to(&s->scan, run->batch, slot->in, s->have, s->ended);
        cut = header || run->even ? s->scan.first : s->have >= bytes ? s->scan.last : 0;
        if (cut) return give(s, in, slot, cut);
        if (s->broken) return s->scan.last && !header ? give(s, in, slot, s->scan.last) : CALL_ERROR; /* whole records only */
        if (s->ended) return s->have ? give(s, in, slot, s->have) : CALL_END;
        if (fill(s, in, slot, bytes)) continue;
        if (idle && !header && !run->even && s->scan.last) return give(s, in, slot, s->scan.last);
        return CALL_LATER;
    }
}

/* ---- All of them, one after the other ---- */

enum call_took call_source_take(struct call_source *s, struct call_slot *slot, uint64_t bytes, bool idle)
{
    while (s->current < s->inputs) {
        struct call_input *in = &s->input[s->current];
        enum call_took took = CALL_BLOCK_TAKEN;

        if (in->data) {
            if (!in->begun) begin_mapped(in, s->run->batch);
            if (in->at == in->size || in->lost) took = CALL_END;
            else take_mapped(in, s->run, slot, bytes);
        } else {
            if (!in->begun && !begin_read(s, in)) took = CALL_ERROR;
            else took = take_read(s, in, slot, bytes, idle);
            if (took == CALL_LATER && !s->filling) continue; /* that was the header */
        }
        if (took == CALL_BLOCK_TAKEN) {
            slot->input = in;
            slot->header = in->header;
            slot->header_bytes = in->header_bytes;
        }
        if (took == CALL_BLOCK_TAKEN || took == CALL_LATER) return took;
        if (in->fd > STDERR_FILENO) close(in->fd);
        in->fd = -1;
        s->current++;
        s->filling = false;
        s->rest_bytes = 0;
        if (took == CALL_ERROR) return took;
    }
    return CALL_END;
}

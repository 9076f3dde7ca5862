/* What jobs write: collected, and printed when it is their turn.  See output.h.
 *
 * A job that has ended before its turn becomes one compact block (block.h).  The table knows one word of each seq from
 * `next` on: where that block is. */
#include "cli/output.h"
#include "cli/block.h"
#include "cli/results.h"
#include "cli/sink.h"
#include "cli/store.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDLE_STREAMS 64         /* that are kept for the next job with their buffers */
#define JOURNAL_PART (64u << 10) /* bytes of log lines that may wait for the output to be flushed */

struct stream {
    struct output *output;
    size_t seq;
    bool in_table;          /* its word of the table leads here */
    struct piece piece[2];  /* what has not been printed */
    struct piece whole[2];  /* printed line by line and wanted by --results as well: everything */
    uint64_t complete[2];   /* bytes of piece up to its last newline; line by line only */
    bool middle[2];         /* the tag of the line that is being printed is out already */
    uint64_t received;
    char *tag;
    size_t tag_bytes, tag_room;
    struct stream *next, **link; /* of those that run; next: of the idle ones */
};

/* A word of the table, by its two last bits: 0 = the job has not ended, else a block (block.h), a stream (line by line:
 * runs), or skipped. */
enum { IS_STREAM = 2, IS_SKIPPED = 3, KINDS = 3 };

struct output {
    const struct batch *batch;
    struct journal *journal;
    struct results *results;
    struct store store;
    struct sink out, err;
    struct sink *to[2];   /* by stream; both are `out` where descriptors 1 and 2 are one file */
    bool failed;
    bool lines;           /* line by line */
    bool positioned;      /* how long the output is has a meaning */
    size_t next, waiting; /* in order: whose turn it is; how many have ended behind it */
    uint64_t *table;      /* [seq & (room - 1)] for next <= seq < next + room */
    size_t room;
    struct stream *running, *idle;
    size_t idles;
};

static int fail(struct output *o)
{
    o->failed = true;
    return -1;
}

static int no_memory(struct output *o)
{
    complain("no memory for the output of jobs");
    return fail(o);
}

/* ---- Printing ---- */

struct print {
    struct output *o;
    int stream; /* 0 or 1 */
    const char *tag;
    size_t tag_bytes;
    bool *middle;
    uint64_t most; /* no more than so many bytes */
};

/* Someone else may have written to the same file (a message of ours, where 2>&1): then the log has to say where our
 * part goes on. */
static int find_position(struct output *o)
{
    uint64_t position;

    if (!o->positioned || o->to[1] == &o->err || o->out.used) return 0;
    position = journal_position(o->journal);
    if (position == o->out.position) return 0;
    o->out.position = position;
    o->out.check = 0;
    return journal_base(o->journal, position);
}

static int print(void *arg, const char *data, size_t bytes)
{
    struct print *p = arg;
    struct sink *sink = p->o->to[p->stream];

    if (bytes > p->most) bytes = (size_t)p->most;
    p->most -= bytes;
    if (!p->tag) return sink_put(sink, data, bytes);
    while (bytes) {
        const char *newline = memchr(data, '\n', bytes);
        size_t n = newline ? (size_t)(newline - data) + 1 : bytes;

        if (!*p->middle && (sink_put(sink, p->tag, p->tag_bytes) || sink_put(sink, "\t", 1))) return -1;
        if (sink_put(sink, data, n)) return -1;
        *p->middle = !newline;
        data += n;
        bytes -= n;
    }
    return 0;
}

/* Prints the first `most` bytes of a piece.  What goes to descriptor 2 follows what went to 1 before: else the two
 * would be seen in the wrong order where both lead to one terminal. */
static int print_piece(struct print *p, const struct piece *piece)
{
    struct output *o = p->o;

    if (o->failed || find_position(o)) return fail(o);
    if (!p->most) return 0;
    if (o->to[p->stream] == &o->err && sink_flush(&o->out)) return fail(o);
    if (piece_each(&o->store, piece, print, p)) return fail(o);
    return o->to[p->stream] == &o->err && sink_flush(&o->err) ? fail(o) : 0;
}

static struct print to_print(struct output *o, struct stream *s, int stream)
{
    return (struct print){ o, stream, s->tag_bytes ? s->tag : NULL, s->tag_bytes ? s->tag_bytes - 1 : 0,
                           &s->middle[stream], UINT64_MAX };
}

/* Writes it all down: what is left of its output, its results, its line of the log. */
static int finish(struct output *o, const struct entry *entry, struct print print_it[2], const struct piece *piece,
                  const struct piece *whole)
{
    for (int i = 0; i < 2 && !o->batch->quiet; i++) {
        print_it[i].most = piece_bytes(&piece[i]);
        if (print_it[i].most && print_piece(&print_it[i], &piece[i])) return -1;
    }
    if (o->results && results_add(o->results, &o->store, entry, &whole[0], &whole[1])) return fail(o);
    if (!o->journal || o->failed) return o->failed ? -1 : 0;
    if (journal_add(o->journal, entry, o->positioned ? o->out.position : UINT64_MAX, o->out.check)) return fail(o);
    o->out.check = 0;
    return journal_pending(o->journal) > JOURNAL_PART ? output_flush(o) : 0;
}

int output_flush(struct output *o)
{
    if (o->failed) return -1;
    if (sink_flush(&o->out) || sink_flush(&o->err) || (o->results && results_flush(o->results))) return fail(o);
    /* Behind the output, never before: what the log tells must be there. */
    return o->journal && journal_flush(o->journal) ? fail(o) : 0;
}

/* ---- Jobs that run ---- */

static bool has_turn(const struct output *o, size_t seq) { return !o->batch->keep_order || seq <= o->next; }

/* The word of a job whose turn is still to come; NULL after a message. */
static uint64_t *word_of(struct output *o, size_t seq)
{
    if (seq - o->next >= o->room) {
        size_t room = o->room ? o->room : 1024;
        uint64_t *table;

        while (seq - o->next >= room) room *= 2;
        table = calloc(room, sizeof *table);
        if (!table) {
            no_memory(o);
            return NULL;
        }
        for (size_t i = o->next; i < o->next + o->room; i++) table[i & (room - 1)] = o->table[i & (o->room - 1)];
        free(o->table);
        o->table = table;
        o->room = room;
    }
    return &o->table[seq & (o->room - 1)];
}

static void stream_free(struct output *o, struct stream *s)
{
    for (int i = 0; i < 2; i++) {
        piece_free(&o->store, &s->piece[i]);
        piece_free(&o->store, &s->whole[i]);
    }
    free(s->tag);
    free(s);
}

/* The stream of a job that has ended, kept for another job. */
static void retire(struct output *o, struct stream *s)
{
    if (!s) return;
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    if (s->in_table) *word_of(o, s->seq) = 0;
    if (o->idles >= IDLE_STREAMS) {
        stream_free(o, s);
        return;
    }
    for (int i = 0; i < 2; i++) {
        piece_clear(&o->store, &s->piece[i]);
        piece_clear(&o->store, &s->whole[i]);
    }
    s->next = o->idle;
    o->idle = s;
    o->idles++;
}

static int set_tag(struct stream *s, const char *tag)
{
    s->tag_bytes = tag ? strlen(tag) + 1 : 0;
    if (s->tag_bytes > s->tag_room) {
        free(s->tag);
        s->tag_room = 0;
        s->tag = malloc(s->tag_bytes);
        if (!s->tag) return -1;
        s->tag_room = s->tag_bytes;
    }
    if (tag) memcpy(s->tag, tag, s->tag_bytes);
    return 0;
}

struct stream *output_begin(struct output *o, size_t seq, const char *tag)
{
    struct stream *s = o->idle;
    uint64_t *word = NULL;

    if (o->lines && o->batch->keep_order && seq >= o->next && !(word = word_of(o, seq))) return NULL;
    if (s) {
        o->idle = s->next;
        o->idles--;
    } else {
        s = calloc(1, sizeof *s);
    }
    if (!s || set_tag(s, tag)) {
        if (s) stream_free(o, s);
        no_memory(o);
        return NULL;
    }
    s->output = o;
    s->seq = seq;
    s->received = 0;
    s->in_table = word != NULL;
    memset(s->complete, 0, sizeof s->complete);
    memset(s->middle, 0, sizeof s->middle);
    s->link = &o->running;
    s->next = o->running;
    if (s->next) s->next->link = &s->next;
    o->running = s;
    if (word) *word = (uint64_t)(uintptr_t)s | IS_STREAM;
    return s;
}

void output_discard(struct stream *s)
{
    if (s) retire(s->output, s);
}

struct copy {
    struct store *store;
    struct piece *to;
    uint64_t skip;
};

static int copy(void *arg, const char *data, size_t bytes)
{
    struct copy *c = arg;
    size_t n = c->skip < bytes ? (size_t)c->skip : bytes;

    c->skip -= n;
    return n < bytes ? piece_append(c->store, c->to, data + n, bytes - n) : 0;
}

/* Prints the whole lines of a stream that has its turn now, and keeps the beginning of the next. */
static int print_lines(struct output *o, struct stream *s, int i)
{
    struct print p = to_print(o, s, i);
    struct piece rest = { 0 };
    struct copy to_rest = { &o->store, &rest, s->complete[i] };

    if (!s->complete[i]) return 0;
    p.most = s->complete[i];
    s->complete[i] = 0;
    if (print_piece(&p, &s->piece[i])) return -1;
    if (piece_each(&o->store, &s->piece[i], copy, &to_rest)) return fail(o);
    piece_free(&o->store, &s->piece[i]);
    s->piece[i] = rest;
    return 0;
}

/* The turn has come to a job that still runs. */
static int go_live(struct output *o, struct stream *s)
{
    for (int i = 0; i < 2; i++) {
        struct copy to_whole = { &o->store, &s->whole[i], 0 };

        if (o->results && piece_each(&o->store, &s->piece[i], copy, &to_whole)) return fail(o);
        if (print_lines(o, s, i)) return -1;
    }
    return 0;
}

/* Prints whole lines at once, from where they lie but for the first, whose beginning may wait in the piece. */
static int take_live(struct output *o, struct stream *s, int i, const char *data, size_t bytes)
{
    const char *newline = memrchr(data, '\n', bytes);

    if (newline) {
        size_t first = (size_t)((const char *)memchr(data, '\n', bytes) - data) + 1;
        size_t lines = (size_t)(newline - data) + 1;
        struct piece direct = { 0 };
        struct print p = to_print(o, s, i);

        if (piece_bytes(&s->piece[i])) {
            if (piece_append(&o->store, &s->piece[i], data, first)) return fail(o);
            s->complete[i] = piece_bytes(&s->piece[i]);
            if (print_lines(o, s, i)) return -1;
            data += first;
            bytes -= first;
            lines -= first;
        }
        direct.data = (char *)(uintptr_t)data;
        direct.used = lines;
        if (lines && print_piece(&p, &direct)) return -1;
        data += lines;
        bytes -= lines;
    }
    return bytes && piece_append(&o->store, &s->piece[i], data, bytes) ? fail(o) : 0;
}

void output_take(struct stream *s, int number, const char *data, size_t bytes)
{
    struct output *o = s->output;
    int i = number == 2;
    const char *newline;

    if (i == 0) s->received += bytes;
    if (o->failed || !bytes || (o->batch->quiet && !o->results)) return;
    if (o->lines && has_turn(o, s->seq)) {
        if (o->results && piece_append(&o->store, &s->whole[i], data, bytes)) fail(o);
        else if (!o->batch->quiet) take_live(o, s, i, data, bytes);
        return;
    }
    newline = o->lines ? memrchr(data, '\n', bytes) : NULL;
    if (newline) s->complete[i] = piece_bytes(&s->piece[i]) + (size_t)(newline - data) + 1;
    if (piece_append(&o->store, &s->piece[i], data, bytes)) fail(o);
}

/* ---- Jobs that wait ---- */

static int keep(struct output *o, struct stream *s, const struct entry *entry)
{
    struct piece none[2] = { { .data = NULL } };
    uint64_t *word = word_of(o, entry->seq);
    bool named = o->journal || o->results;

    if (!word) return -1;
    if (block_fold(&o->store, entry, named ? entry->command : NULL, s && s->tag_bytes ? s->tag : NULL,
                   s ? s->piece : none, word))
        return fail(o);
    if (s) s->in_table = false; /* its word is the block's */
    o->waiting++;
    return 0;
}

/* A job that waited has its turn: prints and frees it. */
static int release(struct output *o, uint64_t word)
{
    bool middle[2] = { false, false };
    struct block b;
    struct print p[2];
    int error = block_unfold(&o->store, word, &b);

    if (!error) {
        for (int i = 0; i < 2; i++)
            p[i] = (struct print){ o, i, b.tag, b.tag ? b.head.tag_bytes - 1 : 0, &middle[i], 0 };
        error = finish(o, &b.entry, p, b.piece, b.piece);
    }
    block_free(&o->store, word, &b);
    return error ? fail(o) : 0;
}

/* The job whose turn it was is done with: prints those that waited for it. */
static int pass_turn(struct output *o)
{
    for (;;) {
        uint64_t *word, value;

        o->next++;
        if (!o->room) return 0;
        word = &o->table[o->next & (o->room - 1)];
        value = *word;
        if (!value) return 0;
        if ((value & KINDS) == IS_STREAM) return go_live(o, (struct stream *)(uintptr_t)(value - IS_STREAM));
        *word = 0;
        if (value == IS_SKIPPED) continue;
        o->waiting--;
        if (release(o, value)) return -1;
    }
}

int output_end(struct output *o, struct stream *s, const struct entry *entry)
{
    static const struct piece none[2];
    struct entry e = *entry;
    struct print p[2] = { { .o = o }, { .o = o, .stream = 1 } };
    bool ordered = o->batch->keep_order && o->batch->grouping != OUTPUT_UNGROUPED;
    int error = o->failed ? -1 : 0;

    if (s) {
        e.received = s->received;
        for (int i = 0; i < 2; i++) p[i] = to_print(o, s, i);
    }
    if (!error && ordered && !has_turn(o, e.seq)) {
        error = keep(o, s, &e);
        retire(o, s);
        return error;
    }
    if (!error) error = finish(o, &e, p, s ? s->piece : none, !s ? none : o->lines ? s->whole : s->piece);
    retire(o, s);
    if (!error && ordered && e.seq == o->next) error = pass_turn(o);
    return error;
}

int output_skip(struct output *o, size_t seq)
{
    uint64_t *word;

    if (o->failed) return -1;
    if (!o->batch->keep_order || o->batch->grouping == OUTPUT_UNGROUPED || seq < o->next) return 0;
    if (seq == o->next) return pass_turn(o);
    word = word_of(o, seq);
    if (!word) return -1;
    *word = IS_SKIPPED;
    return 0;
}

bool output_error(const struct output *o) { return o->failed; }
size_t output_waiting(const struct output *o) { return o->waiting; }

/* ---- All of it ---- */

struct output *output_open(const struct batch *batch, struct journal *journal)
{
    struct output *o = calloc(1, sizeof *o);
    struct stat out, err;

    if (!o) {
        complain("no memory for the output of jobs");
        return NULL;
    }
    o->batch = batch;
    o->journal = journal;
    o->lines = batch->grouping == OUTPUT_LINES;
    o->next = 1;
    store_init(&o->store, batch->window);
    o->to[0] = o->to[1] = &o->out;
    if (sink_open(&o->out, STDOUT_FILENO, batch->output ? batch->output : "standard output") ||
        sink_open(&o->err, STDERR_FILENO, "standard error"))
        goto fail;
    if (fstat(STDOUT_FILENO, &out) || fstat(STDERR_FILENO, &err) || !S_ISREG(out.st_mode) || out.st_dev != err.st_dev ||
        out.st_ino != err.st_ino)
        o->to[1] = &o->err;
    if (journal) {
        o->out.position = journal_position(journal);
        o->positioned = o->out.position != UINT64_MAX;
        o->out.checked = batch->grouping != OUTPUT_UNGROUPED;
    }
    if (batch->results && !(o->results = results_open(batch, journal))) goto fail;
    return o;
fail:
    o->failed = true; /* there is nothing to write */
    output_close(o);
    return NULL;
}

void output_tell(struct output *o, void (*before)(void *user, bool whole), void *user)
{
    struct sink *sinks[] = { &o->out, &o->err };

    for (size_t i = 0; i < 2; i++) {
        if (!isatty(sinks[i]->fd)) continue;
        sinks[i]->before = before;
        sinks[i]->user = user;
    }
}

int output_close(struct output *o)
{
    int error;

    if (!o) return 0;
    error = output_flush(o);
    for (size_t i = 0; i < o->room; i++)
        if (o->table[i] && (o->table[i] & KINDS) < IS_STREAM) block_free(&o->store, o->table[i], NULL);
    while (o->running) retire(o, o->running);
    while (o->idle) {
        struct stream *s = o->idle;

        o->idle = s->next;
        stream_free(o, s);
    }
    results_close(o->results);
    sink_close(&o->out);
    sink_close(&o->err);
    store_close(&o->store);
    free(o->table);
    free(o);
    return error;
}

/* The blocks of `parmap call` that are under way, in a ring: what is done of each, who died over it and what is still to do; printed in the
 * order of the input.  See call.h.
 *
 * A block is one piece until a record of it dies.  What is before that record is done and stays, the piece behind it comes next:
 *
 *     [begin ........ bad | next ........ end)   ->   bad has failed;  [next, end)
 *
 * With NAME_block the worker's sums have died with it, so that what is before is done once more:  [begin, bad)  [next, end) */
#include "cli/call.h"
#include "cli/words.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SMALLEST 256u
#define LARGEST ((uint64_t)1 << 20)
#define BRIEF 300000             /* ns: below that a block costs more than it should */
#define LONG 10000000
#define MUCH ((uint64_t)2 << 20) /* output of a block */
#define KEEP ((uint64_t)4 << 20) /* bytes of an area that stay memory */
#define PATIENCE 10u             /* deaths before anything was begun */

#define R memory_order_relaxed

struct todo {
    uint64_t begin, end, scan;
    bool quoted, behind_dead;    /* behind_dead: a record before it has died and counts */
    unsigned attempt;
};

struct block {
    struct call_blocks *blocks;
    struct call_slot *slot;
    uint32_t index;
    enum { BLOCK_RUNNING, BLOCK_FULL, BLOCK_ENDED } state; /* full: it goes on when its output has been printed */
    pmap_future *future;
    struct todo *todo;           /* a stack */
    size_t todos, todo_room;
    struct call_failure *failure;
    size_t failures, failure_room;
    uint64_t records, out, whole; /* done; written; its bytes */
    unsigned futile, block_deaths;
    uint64_t slow;               /* CALL_NONE, or the record that was killed for its slowness */
    bool cut;                    /* it ended before its end */
};

struct call_blocks {
    const struct call_run *run;
    pmap_pool *pool;
    int out;
    const char *out_name;
    struct block *block;
    unsigned head, count, running;
    uint64_t size;
    int64_t limit;               /* --timeout in ns */
    bool error, cut;             /* cut: nothing behind what was printed last is printed */
    uint64_t number;             /* records before the head's, in `input` */
    const struct call_input *input, *unreadable;
    struct call_totals totals;
};

/* ---- Room ---- */

struct call_blocks *call_blocks_open(const struct call_run *run, pmap_pool *pool, int out, const char *out_name)
{
    struct call_blocks *b = calloc(1, sizeof *b);

    if (!b || !(b->block = calloc(run->slots, sizeof *b->block))) {
        complain("not enough memory for %u blocks", run->slots);
        free(b);
        return NULL;
    }
    b->run = run;
    b->pool = pool;
    b->out = out;
    b->out_name = out_name;
    b->size = SMALLEST;
    b->limit = (int64_t)(run->batch->timeout.value * 1e9);
    for (uint32_t i = 0; i < run->slots; i++)
        b->block[i] = (struct block){ .blocks = b, .slot = &run->slot[i], .index = i, .slow = CALL_NONE };
    return b;
}

void call_blocks_close(struct call_blocks *b)
{
    if (!b) return;
    for (unsigned i = 0; i < b->run->slots; i++) {
        free(b->block[i].todo);
        free(b->block[i].failure);
    }
    free(b->block);
    free(b);
}

static void broken(struct call_blocks *b, const char *why)
{
    if (!b->error) complain("%s", why);
    b->error = true;
}

static bool todo_add(struct block *k, struct todo todo)
{
    if (todo.begin >= todo.end && !todo.behind_dead) return true;
    if (k->todos == k->todo_room) {
        size_t room = k->todo_room ? 2 * k->todo_room : 8;
        struct todo *larger = realloc(k->todo, room * sizeof *larger);

        if (!larger) return broken(k->blocks, "not enough memory for what a death has left"), false;
        k->todo = larger;
        k->todo_room = room;
    }
    k->todo[k->todos++] = todo;
    return true;
}

static void failure_add(struct block *k, const struct call_failure *failure)
{
    if (k->failures == k->failure_room) {
        size_t room = k->failure_room ? 2 * k->failure_room : 32;
        struct call_failure *larger = realloc(k->failure, room * sizeof *larger);

        if (!larger) {
            broken(k->blocks, "not enough memory for the list of failures");
            return;
        }
        k->failure = larger;
        k->failure_room = room;
    }
    k->failure[k->failures++] = *failure;
}

/* ---- A piece's start and end ---- */

static void ended(pmap_future *future, void *arg);

static void go_on(struct block *k)
{
    struct call_blocks *b = k->blocks;
    struct call_slot *s = k->slot;
    pmap_submit_options options = PMAP_SUBMIT_OPTIONS_INIT;

    k->state = BLOCK_ENDED;
    while (k->todos && !b->error) {
        struct todo t = k->todo[--k->todos];

        k->records += t.behind_dead;
        if (t.begin >= t.end) continue;
        if (atomic_load_explicit(&b->run->control->stop, R)) {
            k->cut = true;
            continue;
        }
        s->begin = t.begin;
        s->end = t.end;
        s->scan = t.scan;
        s->quoted = t.quoted;
        s->attempt = t.attempt;
        s->out_from = k->out;
        s->place[0] = (struct call_place){ .phase = CALL_IDLE, .begin = t.begin, .next = CALL_NONE, .out = k->out };
        atomic_store_explicit(&s->turn, 0, R);
        options.arg = (void *)(uintptr_t)b->run;
        options.once = 1; /* what is run again after a death is decided here */
        options.done = ended;
        options.done_arg = k;
        k->slow = CALL_NONE;
        if (pmap_submit(b->pool, call_worker_piece, &k->index, sizeof k->index, &options, &k->future)) {
            broken(b, pmap_error());
            return;
        }
        k->state = BLOCK_RUNNING;
        b->running++;
        return;
    }
}

/* Blocks of about a millisecond: shorter ones cost, longer ones leave workers idle at the end. */
static void adapt(struct call_blocks *b, const struct block *k)
{
    int64_t ns = k->slot->ns;

    if (k->out > MUCH || ns > LONG) {
        if (k->whole <= b->size) b->size = k->whole / 2 > SMALLEST ? k->whole / 2 : SMALLEST;
    } else if (ns < BRIEF && k->out < MUCH / 4 && 2 * k->whole > b->size && b->size < LARGEST) {
        b->size *= 2;
    }
}

static void commit(struct block *k, const struct call_place *p, uint64_t records)
{
    for (uint32_t i = 0; i < p->failures; i++) {
        struct call_failure f = k->slot->failure[i];

        if (f.number) f.number += k->records;
        failure_add(k, &f);
    }
    k->records += records;
    k->out = p->out;
}

static enum call_cause cause_of(const pmap_failure *f, bool slow)
{
    if (slow || !f) return CALL_TIMEOUT;
    switch (f->cause) {
    case PMAP_CAUSE_EXIT: return CALL_EXIT;
    case PMAP_CAUSE_MEMORY: return CALL_MEMORY;
    case PMAP_CAUSE_TIMEOUT: return CALL_TIMEOUT;
    default: return CALL_SIGNAL;
    }
}

/* The worker died, or was killed for its slowness: who is to blame?  True: the record at p->begin has failed, as *failure says; else it
 * is to be run again, for the attempt-th time. */
static bool blame(struct block *k, const struct call_place *p, uint64_t records, const pmap_failure *f, struct call_failure *failure,
                  unsigned *attempt)
{
    bool slow = k->slow != CALL_NONE, first = records == 0, search = p->phase == CALL_SEARCH;

    *failure = (struct call_failure){ .begin = p->begin, .cause = cause_of(f, slow), .value = f ? f->value : 0,
                                      .number = k->records + records + 1, .attempts = first ? k->slot->attempt + 1 : 1 };
    *attempt = first ? k->slot->attempt : 0;
    if (p->phase == CALL_BLOCK) {
        failure->number = 0;
        failure->begin = k->slot->begin;
        failure->attempts = ++k->block_deaths;
        return failure->attempts >= k->blocks->run->batch->tries;
    }
    if (search || (p->phase == CALL_RECORD && atomic_load_explicit(&p->next, R) == CALL_NONE)) { /* it looked for the record's end */
        if (failure->cause != CALL_SIGNAL || failure->value != SIGBUS) return false;
        failure->cause = CALL_LOST;
        return true;
    }
    if (p->phase == CALL_IDLE || (slow && k->slow != p->begin)) return false; /* it had gone on before it was killed */
    *attempt = failure->attempts;
    return failure->attempts >= k->blocks->run->batch->tries;
}

static void died(struct block *k, const struct call_place *p, uint64_t records, const pmap_failure *f)
{
    struct call_slot *s = k->slot;
    struct todo same = { s->begin, s->end, s->scan, s->quoted, false, s->attempt }, rest = same;
    struct call_failure failure;
    unsigned attempt;
    bool guilty = blame(k, p, records, f, &failure, &attempt);

    k->blocks->totals.died++;
    k->futile = guilty || attempt > s->attempt || p->phase == CALL_BLOCK ? 0 : k->futile + 1;
    if (k->futile > PATIENCE) {
        broken(k->blocks, "workers die again and again before they begin a record");
        return;
    }
    rest.attempt = attempt;
    if (p->begin != s->begin) {
        rest.begin = p->begin;
        rest.scan = CALL_NONE;
    }
    if (guilty) {
        failure_add(k, &failure);
        if (failure.cause == CALL_LOST) {
            s->input->lost = true;
            rest.begin = rest.end; /* what is behind it cannot be read either */
        } else if (p->phase == CALL_RECORD) {
            rest = (struct todo){ .begin = atomic_load_explicit(&p->next, R), .end = s->end, .scan = CALL_NONE, .behind_dead = true };
        }
    }
    if (guilty || p->phase != CALL_BLOCK) k->block_deaths = 0;
    if (p->phase == CALL_IDLE || (p->phase == CALL_BLOCK && !guilty)) {
        todo_add(k, same); /* of NAME_block's death too: it is about sums that have died with it */
    } else if (k->blocks->run->block && p->phase == CALL_RECORD) {
        todo_add(k, rest);
        same.end = p->begin;
        if (records) todo_add(k, same); /* a stack: this comes first */
    } else {
        commit(k, p, records);
        todo_add(k, rest);
    }
}

static void ended(pmap_future *future, void *arg)
{
    struct block *k = arg;
    struct call_blocks *b = k->blocks;
    struct call_slot *s = k->slot;
    uint64_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
    struct call_place *p = &s->place[turn & 1];
    uint64_t records = turn ? turn - 1 - (p->phase == CALL_DONE && b->run->block) : 0;
    int error = pmap_future_get(future, 0, NULL, NULL);

    b->running--;
    if (error && error != PMAP_EITEMS && error != PMAP_ECANCELLED) {
        broken(b, pmap_error());
    } else if (!error || p->phase == CALL_DONE) {
        bool whole = p->begin >= s->end || p->begin >= s->bytes;

        k->block_deaths = 0;
        commit(k, p, records);
        if (whole && !k->todos) adapt(b, k);
        if (!whole) todo_add(k, (struct todo){ .begin = p->begin, .end = s->end, .scan = CALL_NONE });
    } else {
        died(k, p, records, pmap_future_failure(future));
    }
    pmap_future_free(future);
    k->future = NULL;
    if (k->out > b->run->most_out && k->todos) k->state = BLOCK_FULL;
    else go_on(k);
}

/* ---- The ring ---- */

static struct block *block_at(const struct call_blocks *b, unsigned i) { return &b->block[(b->head + i) % b->run->slots]; }

struct call_slot *call_blocks_slot(struct call_blocks *b) { return b->count < b->run->slots ? block_at(b, b->count)->slot : NULL; }

void call_blocks_add(struct call_blocks *b)
{
    struct block *k = block_at(b, b->count++);
    struct call_slot *s = k->slot;

    k->todos = k->failures = 0;
    k->records = k->out = 0;
    k->futile = k->block_deaths = 0;
    k->cut = false;
    k->whole = s->end - s->begin;
    todo_add(k, (struct todo){ .begin = s->begin, .end = s->end, .scan = s->scan, .quoted = s->quoted });
    go_on(k);
}

unsigned call_blocks_count(const struct call_blocks *b) { return b->count; }
unsigned call_blocks_running(const struct call_blocks *b) { return b->running; }
uint64_t call_blocks_size(const struct call_blocks *b) { return b->size; }
bool call_blocks_error(const struct call_blocks *b) { return b->error; }
const struct call_totals *call_blocks_totals(const struct call_blocks *b) { return &b->totals; }

int call_blocks_deadline(struct call_blocks *b)
{
    int64_t least = INT64_MAX, now;
    struct timespec t;

    if (b->limit <= 0 || b->running == 0) return -1;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    for (unsigned i = 0; i < b->count; i++) {
        struct block *k = block_at(b, i);
        uint64_t turn = atomic_load_explicit(&k->slot->turn, memory_order_acquire);
        const struct call_place *p = &k->slot->place[turn & 1];
        int64_t started = atomic_load_explicit(&p->started, R), left;
        uint64_t begin = p->begin;

        if (k->state != BLOCK_RUNNING || k->slow != CALL_NONE) continue;
        /* While the turn is the same the worker has not touched this place. */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&k->slot->turn, R) != turn) started = 0;
        left = started ? started + b->limit - now : b->limit;
        if (left > 0) {
            if (left < least) least = left;
            continue;
        }
        k->slow = begin;
        if (pmap_future_kill(k->future) < 0) broken(b, pmap_error());
    }
    return least == INT64_MAX ? -1 : (int)(least / 1000000 < 3600000 ? least / 1000000 + 1 : 3600000);
}

/* ---- Printing ---- */

static bool print(struct call_blocks *b, const char *text, uint64_t bytes)
{
    while (bytes) {
        ssize_t n = write(b->out, text, bytes < SSIZE_MAX ? bytes : SSIZE_MAX);

        if (n < 0 && errno == EAGAIN) (void)poll(&(struct pollfd){ .fd = b->out, .events = POLLOUT }, 1, -1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) {
            call_show_hide();
            if (!b->error) complain("%s: cannot be written: %s", b->out_name, strerror(errno));
            b->error = true;
            return false;
        }
        text += n;
        bytes -= (uint64_t)n;
        b->totals.bytes_out += (uint64_t)n;
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct call_failure *x = a, *y = b;

    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Memory that a large block has needed goes back; the next ones will rarely need so much. */
static void trim(char *area, uint64_t used)
{
    if (used > KEEP) (void)madvise(area + KEEP, used - KEEP, MADV_REMOVE);
}

static void finish(struct call_blocks *b, struct block *k)
{
    struct call_slot *s = k->slot;

    if (k->failures > 1) qsort(k->failure, k->failures, sizeof *k->failure, by_number);
    for (size_t i = 0; i < k->failures; i++) {
        enum call_cause cause = k->failure[i].cause;

        if (cause == CALL_LOST) {
            if (b->unreadable != s->input) call_report(b->run->batch, s, b->number, &k->failure[i]); /* once a file is enough */
            b->unreadable = s->input;
            b->totals.unreadable++;
            continue;
        }
        call_report(b->run->batch, s, b->number, &k->failure[i]);
        if (cause == CALL_CODE || cause == CALL_QUOTE || cause == CALL_LARGE) b->totals.failed++;
        else b->totals.lost++;
    }
    b->number += k->records;
    b->totals.records += k->records;
    b->totals.bytes_in += k->whole;
    b->totals.blocks++;
    if (s->text == s->in) trim(s->in, s->bytes);
    if (k->cut) b->cut = true;
}

void call_blocks_print(struct call_blocks *b)
{
    while (b->count) {
        struct block *k = block_at(b, 0);
        struct call_slot *s = k->slot;

        if (k->state == BLOCK_RUNNING) return;
        if (s->input != b->input) {
            b->input = s->input;
            b->number = b->run->batch->header ? 1 : 0;
        }
        if (!b->error && !b->cut) print(b, s->out, k->out);
        trim(s->out, k->out);
        k->out = 0;
        if (k->state == BLOCK_FULL) {
            go_on(k);
            if (k->state == BLOCK_RUNNING) return;
            continue;
        }
        if (!b->cut) finish(b, k);
        b->head = (b->head + 1) % b->run->slots;
        b->count--;
    }
}

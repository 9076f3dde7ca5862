/* What a worker of `parmap call` does with a piece of a block: finds its records, calls the function, keeps what that writes.  See call.h.
 * Before each record it notes in the slot where it is, so that after its death the program knows whom to blame and where to go on. */
#include "cli/call.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define R memory_order_relaxed
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

struct worker {
    parmap_call call;            /* first: the function's handle is this */
    const struct call_run *run;
    struct call_slot *slot;
    uint64_t turn, at;           /* of the piece: see struct call_slot; the record's offset in the text */
    uint64_t out;                /* how far the slot's output is */
    uint32_t failures;
    bool timed;
    bool large;                  /* the output would exceed the area */
    const char *record;          /* NULL: NAME_block is called */
    uint64_t bytes;
    bool split;                  /* `fields` are this record's */
    bool seeded;                 /* `random` is this call's */
    bool unusual;                /* `large`, `seeded` or `text` is set */
    struct call_fields fields, names;
    const char *named;           /* the header that `names` are of */
    uint64_t random;
    char text[CALL_TEXT];
};

/* The function's handle is the first member. */
static struct worker *worker_of(parmap_call *call) { return (struct worker *)(void *)call; }

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- What a function may ask ---- */

static void do_write(parmap_call *call, const void *data, size_t bytes)
{
    struct worker *w = worker_of(call);

    if (bytes > w->run->area - w->out || w->large) {
        w->large = w->unusual = true;
        return;
    }
    if (bytes) memcpy(w->slot->out + w->out, data, bytes);
    w->out += bytes;
}

static void do_error(parmap_call *call, const char *format, va_list list)
{
    (void)vsnprintf(worker_of(call)->text, CALL_TEXT, format, list);
    worker_of(call)->unusual = true;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* SplitMix64, started at a hash of the seed, the file and the place in it. */
static uint64_t do_random(parmap_call *call)
{
    struct worker *w = worker_of(call);

    if (!w->seeded) w->random = mix(mix(mix(w->run->seed + GOLDEN) ^ mix(w->slot->input->index + GOLDEN)) ^ (call->offset * GOLDEN + 1));
    w->seeded = w->unusual = true;
    w->random += GOLDEN;
    return mix(w->random);
}

static const char *do_header(parmap_call *call, size_t *bytes)
{
    const struct worker *w = worker_of(call);

    if (bytes) *bytes = w->slot->header_bytes;
    return w->slot->header;
}

/* Without memory a row has no fields; that is the record's failure. */
static void no_memory(struct worker *w)
{
    w->large = w->unusual = true;
    w->fields.count = 0;
}

static size_t do_fields(parmap_call *call)
{
    struct worker *w = worker_of(call);

    if (!w->record || !w->run->batch->csv) return 0;
    if (!w->split && !call_csv_split(&w->fields, w->record, w->bytes)) no_memory(w);
    w->split = true;
    return w->fields.count;
}

static const char *do_field(parmap_call *call, size_t index, size_t *bytes)
{
    const struct worker *w = worker_of(call);
    size_t count = do_fields(call);

    if (bytes) *bytes = index < count ? w->fields.field[index].bytes : 0;
    return index < count ? w->fields.text + w->fields.field[index].at : NULL;
}

static size_t do_column(parmap_call *call, const char *name)
{
    struct worker *w = worker_of(call);

    if (!w->slot->header || !w->run->batch->csv) return (size_t)-1;
    if (w->named != w->slot->header) {
        w->named = NULL;
        if (!call_csv_split(&w->names, w->slot->header, w->slot->header_bytes)) return (size_t)-1;
        w->named = w->slot->header;
    }
    for (size_t i = 0; i < w->names.count; i++)
        if (!strcmp(w->names.text + w->names.field[i].at, name)) return i;
    return (size_t)-1;
}

/* ---- A worker's life ---- */

/* Worker i on the i-th of the CPUs that the program may use. */
static void pin(unsigned worker)
{
    cpu_set_t may, one;
    unsigned left;

    if (sched_getaffinity(0, sizeof may, &may) || CPU_COUNT(&may) == 0) return; /* more CPUs than fit: it stays as it is */
    left = worker % (unsigned)CPU_COUNT(&may);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &may) || left-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

int call_worker_init(unsigned worker, void **state, void *arg)
{
    const struct call_run *run = arg;
    struct worker *w = calloc(1, sizeof *w);

    if (!w) return 1;
    w->run = run;
    w->call = (parmap_call){ .size = sizeof(parmap_call), .worker = worker, .write = do_write, .error = do_error, .random = do_random,
                             .header = do_header, .fields = do_fields, .field = do_field, .column = do_column };
    *state = w;
    if (run->batch->pin) pin(worker);
    return run->init ? run->init(worker, &w->call.state) : 0;
}

int call_worker_exit(unsigned worker, void **state, void *arg)
{
    const struct call_run *run = arg;
    struct worker *w = *state;

    if (run->exit) run->exit(worker, w->call.state);
    free(w->fields.field);
    free(w->fields.text);
    free(w->names.field);
    free(w->names.text);
    free(w);
    return 0;
}

/* ---- A piece ---- */

static inline __attribute__((always_inline)) struct call_place *note(struct call_slot *slot, uint64_t turn, enum call_phase phase, uint64_t at,
                                                                     const struct worker *w)
{
    struct call_place *place = &slot->place[turn & 1];

    place->begin = at;
    atomic_store_explicit(&place->next, CALL_NONE, R);
    place->out = w->out;
    place->failures = w->failures;
    place->phase = phase;
    if (w->timed) atomic_store_explicit(&place->started, 0, R);
    atomic_store_explicit(&slot->turn, turn, memory_order_release);
    return place;
}

static void failed(struct worker *w, uint64_t number, enum call_cause cause, int value, unsigned attempts)
{
    struct call_failure *f = &w->slot->failure[w->failures++];

    *f = (struct call_failure){ .number = number, .begin = w->at, .cause = cause, .value = value, .attempts = attempts };
    if (cause == CALL_CODE) memcpy(f->text, w->text, CALL_TEXT);
}

/* Where the first record of the piece begins; behind slot->end when none does.  It looks no further than that: many pieces may lie in one
 * record of gigabytes. */
static uint64_t first_record(const struct call_slot *s, const struct batch *batch)
{
    const char *delimiter;

    if (s->scan == CALL_NONE) return s->begin;
    if (!s->quoted && s->scan == s->begin && s->text[s->begin - 1] == batch->delimiter) return s->begin;
    if (batch->csv) {
        bool open = s->quoted;

        return call_csv_end(s->text, s->scan, s->end, &open) + 1;
    }
    delimiter = memchr(s->text + s->begin, batch->delimiter, s->end - s->begin);
    return delimiter ? (uint64_t)(delimiter - s->text) + 1 : s->end;
}

/* The size of a record that is no line; *next: the one behind it. */
static inline uint64_t find_end(const struct call_slot *s, const struct batch *batch, uint64_t at, uint64_t *next, bool *open)
{
    uint64_t end = s->bytes;

    if (batch->record) {
        if (batch->record < end - at) end = at + batch->record;
        *next = end;
        return end - at;
    }
    end = call_csv_end(s->text, at, s->bytes, open);
    *next = end < s->bytes ? end + 1 : end;
    if (end > at && s->text[end - 1] == '\r' && end < s->bytes) end--;
    return end - at;
}

static void clean(struct worker *w)
{
    w->seeded = w->large = w->unusual = false;
    w->text[0] = 0;
}

/* w->record was called and something is to be said or done about that; or, not `called`, this is not its first attempt. */
static __attribute__((noinline)) void again(struct worker *w, struct call_place *place, int code, bool called, unsigned attempt)
{
    const struct call_run *run = w->run;

    for (;; called = false) {
        if (!called) {
            clean(w);
            w->split = false;
            w->call.attempt = attempt;
            if (w->timed) atomic_store_explicit(&place->started, now(), R);
            code = run->record(&w->call, w->record, w->bytes);
        }
        if (!code && !w->large) break;
        w->out = place->out;
        if (++attempt < run->batch->tries) continue;
        failed(w, w->turn, w->large ? CALL_LARGE : CALL_CODE, code, attempt);
        break;
    }
    w->call.attempt = 0;
    clean(w);
}

/* The piece's records from w->at on.  `lines` is known when this is compiled: they have the shortest way, as millions a second come. */
static inline __attribute__((always_inline)) void records(struct worker *w, const struct call_run *run, bool lines)
{
    struct call_slot *const slot = w->slot;
    const struct batch *const batch = run->batch;
    parmap_record_fn *const record = run->record;
    const char *const text = slot->text;
    const uint64_t bytes = slot->bytes, end = slot->end < bytes ? slot->end : bytes, offset = slot->offset, most_out = run->most_out;
    const char delimiter = batch->delimiter;
    uint64_t at = w->at, turn = 0;
    unsigned attempt = slot->attempt;

    while (at < end && !atomic_load_explicit(&run->control->stop, R)) {
        struct call_place *place = note(slot, ++turn, CALL_RECORD, at, w);
        uint64_t size, next;
        bool open = false;
        int code = 0;

        if (lines) {
            const char *found = memchr(text + at, delimiter, bytes - at);

            size = found ? (uint64_t)(found - text) - at : bytes - at;
            next = at + size + (found != NULL);
        } else {
            size = find_end(slot, batch, at, &next, &open);
            w->record = text + at;
            w->bytes = size;
            w->split = false;
        }
        atomic_store_explicit(&place->next, next, R);
        w->call.offset = offset + at;
        if (w->timed) atomic_store_explicit(&place->started, now(), R);
        if (__builtin_expect(!open && !attempt, 1)) code = record(&w->call, text + at, size);
        if (__builtin_expect(code != 0 || w->unusual || open || attempt, 0)) {
            w->at = at;
            w->turn = turn;
            w->record = text + at;
            w->bytes = size;
            if (open) failed(w, turn, CALL_QUOTE, 0, 1);
            else again(w, place, code, !attempt, attempt);
            attempt = 0;
        }
        at = next;
        if (w->out > most_out || w->failures == CALL_FAILURES - 1) break; /* one place is for NAME_block's */
    }
    w->at = at;
    w->turn = turn;
}

static void end_of_block(struct worker *w)
{
    struct call_place *place = note(w->slot, ++w->turn, CALL_BLOCK, w->at, w);
    int code;

    w->record = NULL;
    w->call.offset = w->slot->offset + w->slot->begin;
    if (w->timed) atomic_store_explicit(&place->started, now(), R);
    code = w->run->block(&w->call);
    if (code || w->large) {
        w->out = place->out;
        failed(w, 0, w->large ? CALL_LARGE : CALL_CODE, code, 1);
    }
    clean(w);
}

int call_worker_piece(pmap_task *task, const void *in, size_t bytes)
{
    struct worker *w = pmap_task_state(task);
    const struct call_run *run = pmap_task_arg(task);
    struct call_slot *slot = &run->slot[*(const uint32_t *)in];
    int64_t begun = now();

    (void)bytes;
    w->slot = slot;
    w->out = slot->out_from;
    w->failures = 0;
    w->timed = run->batch->timeout.value > 0;
    w->call.file = slot->input->name;
    slot->place[0].phase = CALL_SEARCH;
    w->at = first_record(slot, run->batch);
    if (run->batch->csv || run->batch->record) records(w, run, false);
    else records(w, run, true);
    if (run->block) end_of_block(w);
    slot->ns = now() - begun;
    note(slot, ++w->turn, CALL_DONE, w->at, w);
    return 0;
}

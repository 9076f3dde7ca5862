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
    bool said;                   /* there is something to clean behind it */
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
        w->large = true;
        return;
    }
    if (bytes) memcpy(w->slot->out + w->out, data, bytes);
    w->out += bytes;
}

static void do_error(parmap_call *call, const char *format, va_list list)
{
    (void)vsnprintf(worker_of(call)->text, CALL_TEXT, format, list);
    worker_of(call)->said = true;
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
    w->seeded = w->said = true; /* said: to be cleaned behind the call */
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
    w->large = true;
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

static inline struct call_place *note(struct worker *w, enum call_phase phase)
{
    struct call_slot *slot = w->slot;
    struct call_place *place = &slot->place[++w->turn & 1];

    place->begin = w->at;
    atomic_store_explicit(&place->next, CALL_NONE, R);
    place->out = w->out;
    place->failures = w->failures;
    place->phase = phase;
    if (w->timed) atomic_store_explicit(&place->started, 0, R);
    atomic_store_explicit(&slot->turn, w->turn, memory_order_release);
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

/* The record's size; *next: the one behind it. */
static inline uint64_t find_end(const struct call_slot *s, const struct batch *batch, uint64_t at, uint64_t *next, bool *open)
{
    uint64_t end = s->bytes;

    if (!batch->record && !batch->csv) { /* lines have the shortest way */
        const char *delimiter = memchr(s->text + at, batch->delimiter, end - at);

        if (delimiter) end = (uint64_t)(delimiter - s->text);
        *next = end + (delimiter != NULL);
        return end - at;
    }
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
    w->seeded = w->large = w->said = false;
    w->text[0] = 0;
}

/* The first call of w->record has failed, or this is not the first attempt. */
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
            if (!code && !w->large) break;
        }
        w->out = place->out;
        if (++attempt < run->batch->tries) continue;
        failed(w, w->turn, w->large ? CALL_LARGE : CALL_CODE, code, attempt);
        break;
    }
    w->call.attempt = 0;
    clean(w);
}

static inline void one(struct worker *w, const struct call_run *run, struct call_slot *slot, unsigned attempt)
{
    struct call_place *place = note(w, CALL_RECORD);
    uint64_t next;
    bool open = false;

    w->bytes = find_end(slot, run->batch, w->at, &next, &open);
    w->record = slot->text + w->at;
    w->call.offset = slot->offset + w->at;
    w->split = false;
    atomic_store_explicit(&place->next, next, R);
    if (__builtin_expect(open || attempt, 0)) {
        if (open) failed(w, w->turn, CALL_QUOTE, 0, 1);
        else again(w, place, 0, false, attempt);
    } else {
        int code;

        if (w->timed) atomic_store_explicit(&place->started, now(), R);
        code = run->record(&w->call, w->record, w->bytes);
        if (__builtin_expect(code || w->large, 0)) again(w, place, code, true, 0);
        else if (w->said) clean(w);
    }
    w->at = next;
}

static void end_of_block(struct worker *w)
{
    struct call_place *place = note(w, CALL_BLOCK);
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
    uint64_t end = slot->end < slot->bytes ? slot->end : slot->bytes;
    int64_t begun = now();
    unsigned attempt = slot->attempt;

    (void)bytes;
    w->slot = slot;
    w->out = slot->out_from;
    w->turn = w->failures = 0;
    w->timed = run->batch->timeout.value > 0;
    w->call.file = slot->input->name;
    slot->place[0].phase = CALL_SEARCH;
    w->at = first_record(slot, run->batch);
    /* One place for a failure is the block end's. */
    while (w->at < end && w->out <= run->most_out && w->failures < CALL_FAILURES - 1) {
        if (atomic_load_explicit(&run->control->stop, R)) break;
        one(w, run, slot, attempt);
        attempt = 0;
    }
    if (run->block) end_of_block(w);
    slot->ns = now() - begun;
    note(w, CALL_DONE);
    return 0;
}

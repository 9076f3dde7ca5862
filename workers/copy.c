/* Private memory of the caller: copied through a few banks in the arena.  Each block of the input is a job of its own over one bank, so
 * the caller copies the next block in, and the one before out, while the workers compute; healing, stealing and failures are
 * those of any job. */
#include <errno.h>
#include <string.h>

#include "shm/size.h"
#include "workers/processes.h"

#define BANKS 4u
#define BANK_BYTES (512u << 10) /* small enough to stay in a cache between the copy and its use */

struct copy {
    struct pm_processes *p;
    const struct pm_work *work;
    struct pm_result *result;
    struct pm_failures failures;
    bool in, out;               /* what is copied */
    uint64_t block;             /* items */
    size_t in_room, bank;       /* bytes of a bank's input part, and in all */
    char *banks;
    double item_ns;
    struct { struct pm_ticket ticket; uint64_t at, items; } open[BANKS];
    unsigned first, n;          /* of open[] */
};

static bool fits(struct pm_processes *p, const struct pm_work *work)
{
    (void)p, (void)work;
    return true;
}

static size_t input_bytes(const struct copy *c, uint64_t at, uint64_t items)
{
    size_t from = at * c->work->in_size, to = (at + items) * c->work->in_size;
    if (to > c->work->in_bytes) to = c->work->in_bytes;
    return to - from;
}

/* Finishes the oldest block: waits, copies its results out, reads its job out. */
static int finish(struct copy *c)
{
    const struct pm_work *work = c->work;
    unsigned b = c->first;
    struct pm_ticket *ticket = &c->open[b].ticket;
    struct pm_cost cost = {0};
    int e = pm_ticket_wait(c->p, ticket);
    c->first = (c->first + 1) % BANKS;
    c->n--;
    if (e == -ECANCELED && !pm_job_finished(ticket->job)) return e;
    if (c->out) {
        int64_t t = pm_now();
        memcpy(work->out + c->open[b].at * work->out_size, c->banks + b * c->bank + c->in_room, c->open[b].items * work->out_size);
        c->result->cost.out += pm_now() - t;
        c->result->cost.bytes += c->open[b].items * work->out_size;
    }
    pm_ticket_close(c->p, ticket, &c->failures, c->open[b].at, &cost);
    struct pm_cost *all = &c->result->cost;
    all->compute += cost.compute;
    all->dispatch += cost.dispatch;
    all->items += cost.items;
    all->chunks += cost.chunks;
    all->steals += cost.steals;
    all->deaths += cost.deaths;
    all->retries += cost.retries;
    if (cost.items) c->item_ns = (double)cost.compute / (double)cost.items;
    return e;
}

static int begin(struct copy *c, uint64_t at, uint64_t items)
{
    const struct pm_work *work = c->work;
    unsigned b = (c->first + c->n) % BANKS;
    char *bank = c->banks + b * c->bank;
    struct pm_work part = *work;
    part.count = items;
    part.first = work->first + at;
    part.item_ns = c->item_ns;
    part.begun = pm_now();
    part.want_cost = true; /* for item_ns */
    if (work->in) {
        part.in = work->in + at * work->in_size;
        part.in_bytes = input_bytes(c, at, items);
    }
    if (c->in) {
        int64_t t = pm_now();
        memcpy(bank, part.in, part.in_bytes);
        c->result->cost.in += pm_now() - t;
        c->result->cost.bytes += part.in_bytes;
        part.in = bank;
    }
    if (work->out) part.out = c->out ? bank + c->in_room : work->out + at * work->out_size;
    c->open[b].at = at;
    c->open[b].items = items;
    /* Other threads may hold all descriptors: then finish what is ours first, never wait for theirs while holding some. */
    int e = pm_ticket_open(c->p, &part, &c->open[b].ticket, c->n == 0);
    while (e == -EAGAIN && c->n) {
        e = finish(c);
        if (!e) e = pm_ticket_open(c->p, &part, &c->open[b].ticket, c->n == 0);
    }
    if (!e) c->n++;
    return e;
}

/* How many items a block has: what fits a bank, in whole chunks of the caller's size, and enough blocks to overlap. */
static void shape(struct copy *c)
{
    const struct pm_work *work = c->work;
    size_t each = (c->in ? work->in_size : 0) + (c->out ? work->out_size : 0), in = 0;
    c->block = each < BANK_BYTES ? BANK_BYTES / each : 1;
    if (work->chunk && c->block % work->chunk) c->block = (c->block / work->chunk + 1) * work->chunk;
    if (c->block > work->count) c->block = work->count;
    (void)pm_size_up(c->in ? c->block * work->in_size : 0, 64, &in);
    c->in_room = in;
    (void)pm_size_up(in + (c->out ? c->block * work->out_size : 0), 64, &c->bank);
}

/* The caller copies beside the workers, on a CPU of its own where there is one: what was hidden so behind their computing took nobody's
 * time, and the parts add up to workers x wall. */
static void hide(struct pm_cost *cost, int64_t hidden)
{
    int64_t copied = cost->in + cost->out;
    if (hidden > copied) hidden = copied;
    int64_t in = copied ? (int64_t)((double)hidden * (double)cost->in / (double)copied) : 0;
    cost->in -= in;
    cost->out -= hidden - in;
}

static int run(struct pm_processes *p, const struct pm_work *work, struct pm_result *result)
{
    struct copy c = {.p = p, .work = work, .result = result, .item_ns = work->item_ns};
    c.in = work->in && !pm_arena_has(&p->arena, work->in, work->in_bytes);
    c.out = work->out && !pm_arena_has(&p->arena, work->out, work->out_size * work->count);
    shape(&c);
    int e = 0;
    bool usual = c.bank <= BANK_BYTES + 4096;
    pthread_mutex_lock(&p->lock);
    if (usual && p->banks) {
        c.banks = p->banks; /* of an earlier call: already mapped everywhere */
        p->banks = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    uint64_t blocks = work->count / c.block + (work->count % c.block != 0);
    size_t few = blocks < BANKS ? (size_t)blocks : BANKS; /* large ones are not kept: no more of them than there are blocks */
    if (!c.banks) c.banks = pm_heap_alloc(p->heap, usual ? BANKS * (BANK_BYTES + 4096) : few * c.bank, &e);
    uint64_t at = 0;
    while (!e && at < work->count && !(work->stop && c.failures.total)) {
        uint64_t items = c.block < work->count - at ? c.block : work->count - at;
        if (c.n == BANKS) e = finish(&c);
        if (!e) e = begin(&c, at, items);
        if (!e) at += items;
    }
    if (at < work->count) pm_failures_add(&c.failures, at, work->count - at, PM_CANCEL, 0, 0, NULL);
    while (c.n) {
        int f = finish(&c);
        if (!e) e = f;
    }
    pthread_mutex_lock(&p->lock);
    if (usual && !p->banks && c.banks) {
        p->banks = c.banks;
        c.banks = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    if (c.banks) (void)pm_heap_free(p->heap, c.banks);
    struct pm_cost *cost = &result->cost;
    cost->wall = pm_now() - work->begun;
    int64_t rest = cost->wall * atomic_load(&p->board->wanted) - cost->in - cost->compute - cost->out - cost->dispatch;
    cost->idle = rest > 0 ? rest : 0;
    if (rest < 0) hide(cost, -rest);
    cost->failed = c.failures.total;
    int t = pm_failures_take(&c.failures, &result->failures, &result->nfailures);
    return e ? e : t;
}

const struct pm_channel pm_channel_copy = {"shm-copy", fits, run};

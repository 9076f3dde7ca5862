/* What a body sees while it runs, and what it may say: where it is, and which item failed.
 * Used by the trampolines of pmap/; made by workers/claim.c, tasks.c and serial.c. */
#ifndef PM_WORKERS_RUN_H
#define PM_WORKERS_RUN_H

#include <stdatomic.h>

#include "shm/event.h"
#include "workers/executor.h"

struct pm_job;

/* Where a worker is.  Shared, written by its worker only, read by the supervisor after the worker's death and at deadlines.
 * All relaxed: the death itself, seen through the kernel, orders them. */
struct pm_spot {
    _Atomic uint64_t from;    /* where its chunk was begun or resumed */
    _Atomic uint64_t item;    /* of its job, stored BEFORE the item runs, so that a death names it */
    _Atomic int64_t deadline; /* on the monotonic clock; 0 = none */
    _Atomic uint32_t exact;   /* 1: `item` is the very item that runs; 0: one of its chunk; 2: a task that is over, as its entry says */
    _Atomic uint32_t again;   /* how often `item` has been run before in this claim, because it said so */
    _Atomic uint32_t chunk;   /* of the round */
    _Atomic uint32_t round;   /* ZeroMQ channel: that round; there a worker may hold chunks that it has not begun */
    _Atomic uint32_t job;     /* descriptor + 1; 0 = in no job */
    _Atomic uint32_t task;    /* entry + 1 that it holds or reaches for (tasks.h); 0 = none */
    char text[PM_TEXT];       /* the function's own words on a failure */
};

struct pm_run {
    struct pm_spot *spot;
    struct pm_job *job;       /* NULL in the serial executor */
    const void *self;         /* body.self */
    const char *in;           /* item i is at in + i * in_size */
    char *out;
    size_t in_size, in_bytes, out_size;
    void *arg;
    void *state;              /* what the init hook has left for this worker */
    uint64_t first;           /* the caller's index of item 0 */
    uint64_t seed;
    int64_t timeout_ns;
    unsigned worker, attempt, retries;
    bool once;
    const _Atomic uint32_t *stop; /* not 0: nothing more is wanted */
    void (*fail)(struct pm_run *run, uint64_t item, uint64_t count, int value, unsigned attempts);
};

/* What is the same for all of a job's items. */
static inline void pm_run_take(struct pm_run *run, const struct pm_work *work)
{
    run->self = work->body.self;
    run->in = work->in;
    run->out = work->out;
    run->in_size = work->in_size;
    run->in_bytes = work->in_bytes;
    run->out_size = work->out_size;
    run->first = work->first;
    run->seed = work->seed;
    run->timeout_ns = work->timeout_ns;
    run->retries = work->retries;
    run->once = work->once;
}

static inline bool pm_run_stopped(const struct pm_run *run) { return atomic_load_explicit(run->stop, memory_order_relaxed) != 0; }

/* "The item that I run now is this one." */
static inline void pm_run_at(struct pm_run *run, uint64_t item)
{
    struct pm_spot *spot = run->spot;
    if (run->timeout_ns) atomic_store_explicit(&spot->deadline, pm_now() + run->timeout_ns, memory_order_relaxed);
    /* Release: whoever reads this item after our death also sees the results of the items before it. */
    atomic_store_explicit(&spot->item, item, memory_order_release);
    if (!atomic_load_explicit(&spot->exact, memory_order_relaxed))
        atomic_store_explicit(&spot->exact, 1, memory_order_relaxed);
}

#endif

/* One round of a job as a participant reads it, and the few steps on heads and words that workers, the caller's side and the supervisor
 * have in common.  Internal to the files of the protocol: job.c, claim.c, repair.c, and the ZeroMQ channel. */
#ifndef PM_WORKERS_ROUND_H
#define PM_WORKERS_ROUND_H

#include "workers/job.h"

struct pm_view {
    uint64_t head;
    uint64_t first, items, grain;
    uint32_t round, chunks, ranges, last, lone;
};

/* Reads head and parameters together; false when the head moved meanwhile (try again).  The acquire loads keep the second look at
 * the head behind the parameters: a sequence lock. */
static inline bool pm_round_read(const struct pm_job *job, uint64_t head, struct pm_view *v)
{
    const struct pm_round *p = &job->round[pm_word_round(head) & 1u];
    v->head = head;
    v->round = pm_word_round(head);
    v->first = atomic_load_explicit(&p->first, memory_order_acquire);
    v->items = atomic_load_explicit(&p->items, memory_order_acquire);
    v->grain = atomic_load_explicit(&p->grain, memory_order_acquire);
    v->chunks = atomic_load_explicit(&p->chunks, memory_order_acquire);
    v->ranges = atomic_load_explicit(&p->ranges, memory_order_acquire);
    v->last = atomic_load_explicit(&p->last, memory_order_acquire);
    v->lone = atomic_load_explicit(&p->lone, memory_order_acquire);
    return atomic_load_explicit(job->head, memory_order_relaxed) == head;
}

static inline uint64_t pm_chunk_first(const struct pm_view *v, uint32_t chunk) { return v->first + chunk * v->grain; }

static inline uint64_t pm_chunk_end(const struct pm_view *v, uint32_t chunk)
{
    uint64_t end = pm_chunk_first(v, chunk) + v->grain, last = v->first + v->items;
    return end < last ? end : last;
}

/* Plans what comes after `at` items into round[round & 1]; false when nothing does. */
bool pm_round_plan(struct pm_job *job, uint64_t at, uint32_t round);

/* Every chunk of the round is terminal: opens the next round, or finishes the job, as `owner`. */
void pm_round_move(struct pm_board *board, struct pm_job *job, const struct pm_view *v, uint32_t owner);

/* Is every word of the round terminal?  Turns FREE into CANCELLED on the way when `cancel` is set. */
bool pm_round_settled(struct pm_job *job, const struct pm_view *v, bool cancel);

/* A stopped job: cancels what is free; whoever finds nothing claimed any more finishes it. */
void pm_job_settle(struct pm_job *job, uint64_t head);

/* A worker's own: the job's constants, under a claim; running [lo, hi) of a chunk, one item at a time when `careful`, up to the first
 * item that was not run; and its account of the job, begun anew when it is about another. */
void pm_worker_prepare(struct pm_worker *me, struct pm_job *job);
uint64_t pm_worker_items(struct pm_worker *me, struct pm_job *job, uint64_t lo, uint64_t hi, bool careful);
struct pm_tally *pm_tally_enter(struct pm_worker *me, struct pm_job *job, int64_t now);

/* The offset of a chunk that goes back to FREE although its worker had not begun it: its dispatcher still knows the right one.
 * ZeroMQ channel only, whose chunks are shorter than that. */
#define PM_OFFSET_KEPT 0xffffffu

/* Enters a failure in the job's log, and stops the job where its caller wants that. */
void pm_job_fail(struct pm_board *board, struct pm_job *job, uint64_t item, uint64_t count, enum pm_cause cause, int value,
                 unsigned attempts, const char *text);

#endif

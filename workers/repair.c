/* What the supervisor does to a job when the kernel has confirmed a worker's death: gives back what it held, and decides
 * whether the item it was at is run again or has failed.  DESIGN.md has the protocol. */
#include "workers/job.h"

#include <limits.h>

#include "workers/round.h"

#define R memory_order_relaxed

/* The deaths that the suspect has on its account now.  `another`: it is not the item at which the chunk was resumed, and begins with its own
 * count; but a first death in a whole-chunk call charges the chunk, and run item by item that then names the item, which inherits it. */
static unsigned charge_of(bool another, bool bulk_from_start, unsigned attempt, unsigned ran)
{
    bool inherits = bulk_from_start && attempt == 1;
    unsigned charge = another && !inherits ? ran : attempt + ran;
    return charge < PM_ATTEMPTS ? charge : PM_ATTEMPTS; /* more than any `retries` */
}

/* The word that takes the place of CLAIMED by the dead for chunk c; enters what failed in the log. */
static uint64_t verdict(struct pm_board *board, struct pm_job *job, const struct pm_view *v, uint32_t c, uint64_t w,
                        const struct pm_death *death)
{
    struct pm_spot *spot = &board->slot[death->slot].spot;
    const struct pm_work *work = &job->work;
    uint64_t lo = pm_chunk_first(v, c), hi = pm_chunk_end(v, c);
    uint64_t from = atomic_load_explicit(&spot->from, R), item = atomic_load_explicit(&spot->item, memory_order_acquire);
    bool exact = atomic_load_explicit(&spot->exact, R) != 0;
    unsigned attempt = pm_word_attempt(w), ran = 1 + atomic_load_explicit(&spot->again, R); /* runs of the item in this claim */
    if (from < lo || from >= hi || item < from || item >= hi || atomic_load_explicit(&spot->chunk, R) != c) {
        from = item = lo; /* the worker overwrote its own spot: the chunk runs again from its start */
        exact = false;
    }
    bool bulk = work->how == PM_HOW_BULK;
    bool begun = exact || bulk;
    if (work->once ? !begun : !death->charged) {
        atomic_fetch_add_explicit(&job->retries, 1, R);
        return pm_word(PM_FREE, item == from ? attempt : 0, (uint32_t)(item - lo), v->round);
    }
    if (work->once && (bulk || hi - item == 1)) { /* what a whole-chunk function had done already nobody knows */
        uint64_t first = bulk && !exact ? from : item;
        pm_job_fail(board, job, first, hi - first, death->cause, death->value, 1, NULL);
        return pm_word(PM_DONE, 0, 0, v->round);
    }
    unsigned charge = charge_of(exact && item != from, bulk && from == lo, attempt, ran);
    bool known = exact || hi - from == 1 || charge == PM_ATTEMPTS; /* else a chunk that never says where it is would die for ever */
    if (work->once || (known && charge > work->retries)) {
        pm_job_fail(board, job, item, 1, death->cause, death->value, charge, NULL);
        if (item + 1 == hi) return pm_word(PM_DONE, 0, 0, v->round);
        return pm_word(PM_FREE, 0, (uint32_t)(item + 1 - lo), v->round);
    }
    atomic_fetch_add_explicit(&job->retries, 1, R);
    return pm_word(PM_FREE, charge, (uint32_t)(item - lo), v->round);
}

/* The same in the ZeroMQ channel, where the results of a chunk are lost with its worker.  So the chunk runs again from its first item, without
 * those that are in the failure log; the offset names the item that is suspected, whose attempts are counted, and a chunk is
 * never DONE here.  A worker holds chunks that it has not begun: they are not charged. */
static uint64_t verdict_resent(struct pm_board *board, struct pm_job *job, const struct pm_view *v, uint32_t c, uint64_t w,
                               const struct pm_death *death)
{
    struct pm_spot *spot = &board->slot[death->slot].spot;
    const struct pm_work *work = &job->work;
    uint64_t lo = pm_chunk_first(v, c), hi = pm_chunk_end(v, c);
    uint64_t from = atomic_load_explicit(&spot->from, R), item = atomic_load_explicit(&spot->item, memory_order_acquire);
    bool exact = atomic_load_explicit(&spot->exact, R) != 0, bulk = work->how == PM_HOW_BULK;
    unsigned attempt = pm_word_attempt(w), ran = 1 + atomic_load_explicit(&spot->again, R); /* runs of the item in this claim */
    if (atomic_load_explicit(&spot->job, R) != job->index + 1 || atomic_load_explicit(&spot->round, R) != v->round ||
        atomic_load_explicit(&spot->chunk, R) != c)
        return pm_word(PM_FREE, attempt, PM_OFFSET_KEPT, v->round);
    if (from < lo || from >= hi || item < lo || item >= hi) {
        from = item = lo; /* the worker overwrote its own spot */
        exact = false;
    }
    if (work->once && (exact || bulk)) { /* what ran before it is lost too and must not run again */
        pm_job_fail(board, job, lo, hi - lo, death->cause, death->value, 1, NULL);
        return pm_word(PM_DONE, 0, 0, v->round);
    }
    atomic_fetch_add_explicit(&job->retries, 1, R);
    if (!death->charged || work->once) return pm_word(PM_FREE, item == from ? attempt : 0, (uint32_t)(item - lo), v->round);
    unsigned charge = charge_of(exact && item != from, bulk && from == lo, attempt, ran);
    if ((exact || hi - lo == 1 || charge == PM_ATTEMPTS) && charge > work->retries) {
        pm_job_fail(board, job, item, 1, death->cause, death->value, charge, NULL);
        return pm_word(PM_FREE, 0, 0, v->round);
    }
    return pm_word(PM_FREE, charge, (uint32_t)(item - lo), v->round);
}

unsigned pm_job_repair(struct pm_board *board, struct pm_job *job, const struct pm_death *death)
{
    uint32_t owner = pm_owner(death->slot, death->gen);
    uint64_t head = atomic_load(job->head);
    enum pm_state state = pm_word_state(head);
    if (state == PM_FINISHED) pm_event_notify(&job->done, INT_MAX); /* it may have died before it could tell */
    if (state != PM_OPEN && state != PM_MOVING && state != PM_CANCELLED) return 0;
    /* Before any word changes: whoever sees a changed word must also see that ranges and `left` are no longer to be trusted. */
    atomic_fetch_add(&job->deaths, 1);
    struct pm_view v;
    do head = atomic_load(job->head);
    while (!pm_round_read(job, head, &v));
    unsigned held = 0;
    /* A chunk that is claimed keeps its round from ending, so if the dead worker holds one it is in this round. */
    for (uint32_t c = 0; c < v.chunks; c++) {
        uint64_t w = atomic_load(&job->word[c]);
        if (pm_word_round(w) != v.round || pm_word_state(w) != PM_CLAIMED || pm_word_owner(w) != owner) continue;
        uint64_t next = job->work.resent ? verdict_resent(board, job, &v, c, w, death) : verdict(board, job, &v, c, w, death);
        atomic_compare_exchange_strong(&job->word[c], &w, next);
        held++;
    }
    uint64_t moving = pm_word(PM_MOVING, 0, owner, v.round);
    atomic_compare_exchange_strong(job->head, &moving, pm_word(PM_OPEN, 0, 0, v.round));
    pm_job_settle(job, atomic_load(job->head));
    return held;
}

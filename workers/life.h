/* How a worker's life begins and ends, on its own side: the init hook, when its time is over, the exit hook.  The supervisor's side of it,
 * who is replaced and when, is seats.c. */
#ifndef PM_WORKERS_LIFE_H
#define PM_WORKERS_LIFE_H

#include "workers/job.h"

/* Begins: runs the init hook, if there is one.  Does not return when that refuses. */
void pm_tenure_begin(struct pm_worker *me);

/* Something of the caller's may run here from now on: makes ready for it, the first time. */
void pm_tenure_prepare(struct pm_worker *me);
static inline void pm_tenure_first(struct pm_worker *me)
{
    if (__builtin_expect(!me->tenure.ran, 0)) pm_tenure_prepare(me);
}

/* Nothing found: how long to wait for work, -1 = for ever, 0 = it has been idle for long enough, and is to leave now. */
int64_t pm_tenure_patience(struct pm_worker *me);

/* Ends: runs the exit hook, which has PM_EXIT_NS, and the process.  The worker holds nothing. */
#define PM_EXIT_NS INT64_C(1000000000)
_Noreturn void pm_tenure_end(struct pm_worker *me);

void pm_tenure_flush(const struct pm_worker *me); /* writes out what the function has printed */

bool pm_tenure_spent(struct pm_worker *me, int64_t now); /* of one that is limited */

/* Between chunks: is this worker to leave?  Then it takes nothing more. */
static inline bool pm_tenure_ends(struct pm_worker *me, int64_t now)
{
    if (me->index < atomic_load_explicit(&me->board->wanted, memory_order_relaxed) && (!me->tenure.limited || !pm_tenure_spent(me, now)))
        return false;
    me->tenure.over = true;
    return true;
}

#endif

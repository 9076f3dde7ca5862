/* Time-outs of waits that have more than one step, and the slices in which they sleep.  Used by the objects of shm/
 * that processes wait at.
 *
 * A notifier may be killed between its change and its wake-up, or the one that it woke before it could go on.  Nobody
 * is told of that, so no sleep on an event count lasts longer than a slice: then the sleeper looks for itself.  A
 * wake-up lost by a death costs a slice, not the wait. */
#ifndef PM_SHM_DEADLINE_H
#define PM_SHM_DEADLINE_H

#include <errno.h>

#include "shm/event.h"

#define PM_SLICE_NS INT64_C(50000000)
#define PM_NEVER INT64_MAX

/* The point in time at which a wait of timeout_ns that begins now is over: negative = never, 0 = it is over. */
static inline int64_t pm_deadline(int64_t timeout_ns)
{
    if (timeout_ns < 0) return PM_NEVER;
    int64_t now = pm_now();
    return timeout_ns >= PM_NEVER - now ? PM_NEVER : now + timeout_ns;
}

/* What is left of it, as a time-out: negative = for ever, 0 = it is over. */
static inline int64_t pm_deadline_left(int64_t deadline)
{
    if (deadline == PM_NEVER) return -1;
    int64_t left = deadline - pm_now();
    return left > 0 ? left : 0;
}

/* Sleeps while the event's seq == key, for one slice at most: 0 it changed; -EAGAIN the slice is over; -ETIMEDOUT the
 * deadline is. */
static inline int pm_event_slice(struct pm_event *event, uint32_t key, int64_t deadline)
{
    int64_t left = pm_deadline_left(deadline);
    if (left == 0) return -ETIMEDOUT;
    int e = pm_event_wait(event, key, left < 0 || left > PM_SLICE_NS ? PM_SLICE_NS : left);
    if (e != -ETIMEDOUT) return e;
    return pm_deadline_left(deadline) == 0 ? -ETIMEDOUT : -EAGAIN;
}

#endif

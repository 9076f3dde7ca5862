/* A condition that threads of all processes wait for while a lock (shm/lock.h) is free for others to change what it
 * guards.
 *
 * It is an event count.  A wait may end without a notify, as everywhere; here it also does so once a slice when the
 * lock is free, because a notifier may die before it notifies: a waiter that looks for itself needs nobody.  If it
 * dies while it holds the lock, a waiter takes the lock, and is told of the death by the lock. */
#ifndef PM_SHM_CONDITION_H
#define PM_SHM_CONDITION_H

#include "shm/event.h"
#include "shm/lock.h"

struct pm_condition { /* all zero is one that nobody waits for */
    struct pm_event event;
};

/* Lets go of the lock, however often it is held, sleeps, takes it again as often.  0, -ETIMEDOUT, -EOWNERDEAD (held,
 * its last owner died with it): in all cases the lock is held again, which may take longer than the time-out.
 * -EPERM: the caller does not hold it. */
int pm_condition_wait(struct pm_condition *condition, struct pm_lock *lock, int64_t timeout_ns);

static inline void pm_condition_notify(struct pm_condition *condition, int n) { pm_event_notify(&condition->event, n); }

#endif

/* The semaphore of shm/semaphore.h.  Takers look at the permits in turn and take the first that is free, a dead
 * holder's included. */
#include "shm/semaphore.h"

#include <errno.h>

#include "shm/deadline.h"

static _Thread_local unsigned last; /* the permit that this thread took last, of any semaphore: where it looks first */

int pm_semaphore_init(struct pm_semaphore *s, unsigned permits)
{
    s->permits = permits;
    int e = 0;
    for (unsigned i = 0; i < permits && !e; i++) e = pm_lock_init(&s->permit[i].lock, false);
    return e;
}

static int take_one(struct pm_semaphore *s)
{
    for (unsigned n = 0, i = last % s->permits; n < s->permits; n++, i = i + 1 == s->permits ? 0 : i + 1) {
        int e = pm_lock_acquire(&s->permit[i].lock, 0);
        if (e == -ETIMEDOUT || e == -EDEADLK) continue; /* another's, or one that the caller has already */
        if (e && e != -EOWNERDEAD) return e;
        last = i;
        return 0;
    }
    return -EAGAIN;
}

int pm_semaphore_acquire(struct pm_semaphore *s, int64_t timeout_ns)
{
    int e = take_one(s);
    if (e != -EAGAIN || timeout_ns == 0) return e == -EAGAIN ? -ETIMEDOUT : e;
    int64_t deadline = pm_deadline(timeout_ns);
    for (;;) {
        uint32_t key = pm_event_key(&s->freed); /* before looking: else a wake-up is lost */
        e = take_one(s);
        if (e != -EAGAIN) return e;
        e = pm_event_slice(&s->freed, key, deadline); /* a dead holder wakes nobody: see shm/deadline.h */
        if (e && e != -EAGAIN) return e;
    }
}

int pm_semaphore_release(struct pm_semaphore *s)
{
    for (unsigned n = 0, i = last % s->permits; n < s->permits; n++, i = i + 1 == s->permits ? 0 : i + 1)
        if (pm_lock_release(&s->permit[i].lock) == 0) {
            pm_event_notify(&s->freed, 1);
            return 0;
        }
    return -EPERM;
}

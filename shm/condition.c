/* The condition of shm/condition.h. */
#include "shm/condition.h"

#include <errno.h>

#include "shm/deadline.h"

int pm_condition_wait(struct pm_condition *condition, struct pm_lock *lock, int64_t timeout_ns)
{
    uint32_t key = pm_event_key(&condition->event); /* while the lock is held: what is changed behind it changes the key */
    int64_t deadline = pm_deadline(timeout_ns);
    unsigned depth = pm_lock_release_all(lock);
    if (depth == 0) return -EPERM;
    int e, held = -ETIMEDOUT;
    while ((e = pm_event_slice(&condition->event, key, deadline)) == -EAGAIN) {
        held = pm_lock_acquire(lock, 0);
        if (held != -ETIMEDOUT) break;
    }
    if (e == -EAGAIN) e = 0; /* for no reason: the caller looks whether what it waits for has come true */
    if (held == -ETIMEDOUT) held = pm_lock_acquire(lock, -1);
    if (held && held != -EOWNERDEAD) return held;
    while (--depth) (void)pm_lock_acquire(lock, 0);
    return held ? held : e;
}

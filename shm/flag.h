/* A flag that threads of all processes wait for: what the public event is.  It has no owner, so a death leaves it as
 * it was; a setter killed before it has woken the waiters costs them a slice (shm/deadline.h). */
#ifndef PM_SHM_FLAG_H
#define PM_SHM_FLAG_H

#include <stdbool.h>

#include "shm/deadline.h"

struct pm_flag { /* all zero is a flag that is not set */
    struct pm_event changed;
    _Atomic uint32_t set;
};

/* acquire: pairs with the release in pm_flag_put(); what was written before setting is seen behind waiting */
static inline bool pm_flag_is_set(struct pm_flag *flag) { return atomic_load_explicit(&flag->set, memory_order_acquire) != 0; }

static inline void pm_flag_put(struct pm_flag *flag, bool set)
{
    atomic_store_explicit(&flag->set, set, memory_order_release);
    if (set) pm_event_notify(&flag->changed, INT32_MAX);
}

/* 0, or -ETIMEDOUT.  timeout_ns < 0 = for ever, 0 = only look. */
static inline int pm_flag_wait(struct pm_flag *flag, int64_t timeout_ns)
{
    if (pm_flag_is_set(flag)) return 0;
    int64_t deadline = pm_deadline(timeout_ns);
    for (;;) {
        uint32_t key = pm_event_key(&flag->changed); /* before looking: else a wake-up is lost */
        if (pm_flag_is_set(flag)) return 0;
        int e = pm_event_slice(&flag->changed, key, deadline);
        if (e != -EAGAIN) return e; /* 0: it was set meanwhile, even if it is clear again */
    }
}

#endif

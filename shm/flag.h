/* A flag that threads of all processes wait for: what the public event is.  It has no owner, so a death leaves it as
 * it was; a setter killed before it has woken the waiters costs them a slice (shm/deadline.h). */
#ifndef PM_SHM_FLAG_H
#define PM_SHM_FLAG_H

#include <stdbool.h>

#include "shm/deadline.h"

struct pm_flag { /* all zero is a flag that is not set */
    struct pm_event changed;
    _Atomic uint32_t state; /* how often it was set or cleared: odd when it is set */
};

/* acquire: pairs with pm_flag_put(); what was written before setting is seen behind waiting */
static inline uint32_t pm_flag_state(struct pm_flag *flag) { return atomic_load_explicit(&flag->state, memory_order_acquire); }
static inline bool pm_flag_is_set(struct pm_flag *flag) { return pm_flag_state(flag) % 2 != 0; }

static inline void pm_flag_put(struct pm_flag *flag, bool set)
{
    /* Written even if it stays as it was: who clears what two have set sees what both had written before. */
    uint32_t state = pm_flag_state(flag), next;
    do next = (state % 2 != 0) == set ? state : state + 1;
    while (!atomic_compare_exchange_weak_explicit(&flag->state, &state, next, memory_order_acq_rel, memory_order_acquire));
    if (set) pm_event_notify(&flag->changed, INT32_MAX);
}

/* 0, or -ETIMEDOUT.  timeout_ns < 0 = for ever, 0 = only look. */
static inline int pm_flag_wait(struct pm_flag *flag, int64_t timeout_ns)
{
    uint32_t state = pm_flag_state(flag);
    if (state % 2 != 0) return 0;
    int64_t deadline = pm_deadline(timeout_ns);
    for (;;) {
        uint32_t key = pm_event_key(&flag->changed); /* before looking: else a wake-up is lost */
        if (pm_flag_state(flag) != state) return 0; /* it was set meanwhile, even if it is clear again */
        /* A wake-up says nothing: it may be the late one of a setter whose setting an earlier wait has seen. */
        int e = pm_event_slice(&flag->changed, key, deadline);
        if (e && e != -EAGAIN) return e;
    }
}

#endif

/* The one sleeping primitive: an event count on a futex, for processes and threads alike.
 *
 *     waiter                                  notifier
 *     key = pm_event_key(e)                   change the state
 *     look at the state: nothing to do        pm_event_notify(e, n)
 *     pm_event_wait(e, key, timeout)
 *
 * The key is taken BEFORE looking: a notify in between changes it and the wait returns at once, so no wake-up is lost.
 * Nobody sleeps: notify is one atomic add and one load, no system call.  A waiter that is killed in its sleep leaves `sleepers` too
 * high by one, which costs later notifies a system call, never a wake-up.
 * All accesses are sequentially consistent: the waiter's (sleepers++, read seq) against the notifier's (seq++, read sleepers) is
 * the store-buffer pattern, which weaker orderings allow to miss.  The futex is not PRIVATE: it crosses processes. */
#ifndef PM_SHM_EVENT_H
#define PM_SHM_EVENT_H

#include <stdatomic.h>
#include <stdint.h>

struct pm_event {
    _Atomic uint32_t seq;      /* changed by every notify */
    _Atomic uint32_t sleepers; /* about to sleep or asleep */
};

/* The clock and the two futex calls, replaceable so that tests need no luck.  Set before any thread or process uses them. */
struct pm_calls {
    int64_t (*now_ns)(void);                                                       /* CLOCK_MONOTONIC */
    int (*futex_wait)(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns); /* 0 or -errno; timeout < 0 = none */
    int (*futex_wake)(_Atomic uint32_t *word, int n);
};
extern struct pm_calls pm_calls;

static inline int64_t pm_now(void) { return pm_calls.now_ns(); }

static inline uint32_t pm_event_key(struct pm_event *event) { return atomic_load_explicit(&event->seq, memory_order_seq_cst); }

/* Sleeps while seq == key: 0 when it changed, -ETIMEDOUT.  timeout_ns < 0 = no limit.  Signals do not end it. */
int pm_event_wait(struct pm_event *event, uint32_t key, int64_t timeout_ns);

/* Spins while seq == key, at most `ns`: 1 when it changed, else 0. */
int pm_event_spin(struct pm_event *event, uint32_t key, int64_t ns);

/* Changes seq and wakes at most n sleepers. */
void pm_event_notify(struct pm_event *event, int n);

/* Orders everything before it against everything behind it, stores against later loads included. */
static inline void pm_full_barrier(void)
{
#if defined(__SANITIZE_THREAD__)
    static _Atomic uint32_t any; /* ThreadSanitizer does not know fences */
    atomic_fetch_add(&any, 1);
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    static _Atomic uint32_t any;
    atomic_fetch_add(&any, 1);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void pm_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif

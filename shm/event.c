/* The event count of shm/event.h: the real clock and futex calls, and the waiting and waking on top of them.
 * Used by workers/ for every sleep; must not know what is waited for. */
#include "shm/event.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The kernel's FUTEX_WAIT takes a time from now, on CLOCK_MONOTONIC. */
static int real_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000)};
    long r = syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT, expected, timeout_ns < 0 ? NULL : &t, NULL, 0);
    return r < 0 ? -errno : 0;
}

static int real_wake(_Atomic uint32_t *word, int n)
{
    long r = syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, n, NULL, NULL, 0);
    return r < 0 ? -errno : (int)r;
}

struct pm_calls pm_calls = {real_now, real_wait, real_wake};

int pm_event_wait(struct pm_event *event, uint32_t key, int64_t timeout_ns)
{
    int64_t end = -1;
    if (timeout_ns >= 0) {
        int64_t now = pm_now();
        end = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    }

    /* First be counted, then look: a notifier that does not see us counted has changed seq before we look. */
    atomic_fetch_add_explicit(&event->sleepers, 1, memory_order_seq_cst);
    int error = 0;
    while (atomic_load_explicit(&event->seq, memory_order_seq_cst) == key) {
        int64_t left = -1;
        if (timeout_ns >= 0) {
            left = end - pm_now();
            if (left <= 0) {
                error = -ETIMEDOUT;
                break;
            }
        }
        int r = pm_calls.futex_wait(&event->seq, key, left);
        /* Woken, or the word had changed, or a signal, or the time is over: the loop's own questions decide which.
         * Anything else (a filter that forbids futexes) would make this loop spin, so it ends it. */
        if (r != 0 && r != -EAGAIN && r != -EINTR && r != -ETIMEDOUT) {
            error = r;
            break;
        }
    }
    atomic_fetch_sub_explicit(&event->sleepers, 1, memory_order_seq_cst);
    return error;
}

int pm_event_spin(struct pm_event *event, uint32_t key, int64_t ns)
{
    if (atomic_load_explicit(&event->seq, memory_order_seq_cst) != key) return 1;
    if (ns <= 0) return 0;
    int64_t end = -1;
    for (;;) {
        /* The clock costs as much as many looks, so it is read once for 64 of them, the first time when 64 were in vain; and a pause
         * may take a hundred cycles, so there are many looks to each. */
        for (int i = 0; i < 64; i++) {
            if (i % 32 == 31) pm_pause();
            if (atomic_load_explicit(&event->seq, memory_order_seq_cst) != key) return 1;
        }
        int64_t now = pm_now();
        if (end < 0) end = ns > INT64_MAX - now ? INT64_MAX : now + ns;
        if (now >= end) return 0;
    }
}

void pm_event_notify(struct pm_event *event, int n)
{
    atomic_fetch_add_explicit(&event->seq, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&event->sleepers, memory_order_seq_cst) != 0) pm_calls.futex_wake(&event->seq, n);
}

/* The robust lock of shm/lock.h.  Used by all objects that processes hold; must not know what is guarded. */
#include "shm/lock.h"

#include <errno.h>
#include <time.h>

#include "shm/deadline.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

/* ThreadSanitizer follows pthread_mutex_timedlock() only. */
#if defined(__SANITIZE_THREAD__)
#undef HAVE_PTHREAD_MUTEX_CLOCKLOCK
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef HAVE_PTHREAD_MUTEX_CLOCKLOCK
#endif
#endif

int pm_lock_init(struct pm_lock *lock, bool recursive)
{
    pthread_mutexattr_t a;
    int e = pthread_mutexattr_init(&a);
    if (e) return -e;
    e = pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    if (!e) e = pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    if (!e) e = pthread_mutexattr_settype(&a, recursive ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_ERRORCHECK);
    if (!e) e = pthread_mutex_init(&lock->mutex, &a);
    (void)pthread_mutexattr_destroy(&a);
    return -e;
}

#ifdef HAVE_PTHREAD_MUTEX_CLOCKLOCK

static int wait_for(pthread_mutex_t *mutex, int64_t timeout_ns)
{
    int64_t at = pm_deadline(timeout_ns);
    struct timespec t = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &t);
}

#else

/* Older C libraries wait by the time of day only.  In slices, so that the time of day, when it is set, moves the end
 * of one of these only. */
static int wait_for(pthread_mutex_t *mutex, int64_t timeout_ns)
{
    int64_t deadline = pm_deadline(timeout_ns);
    for (;;) {
        int64_t left = pm_deadline_left(deadline);
        if (left == 0) return ETIMEDOUT;
        if (left < 0 || left > PM_SLICE_NS) left = PM_SLICE_NS;
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += (time_t)((t.tv_nsec + left) / 1000000000);
        t.tv_nsec = (long)((t.tv_nsec + left) % 1000000000);
        int e = pthread_mutex_timedlock(mutex, &t);
        if (e != ETIMEDOUT) return e;
    }
}

#endif

int pm_lock_acquire(struct pm_lock *lock, int64_t timeout_ns)
{
    int e = timeout_ns < 0 ? pthread_mutex_lock(&lock->mutex) : pthread_mutex_trylock(&lock->mutex);
    if (e == EBUSY && timeout_ns > 0) e = wait_for(&lock->mutex, timeout_ns);
    /* Killed before the next line, its taker has died as an owner too, and the next one is told. */
    if (e == EOWNERDEAD) (void)pthread_mutex_consistent(&lock->mutex);
    return e == EBUSY ? -ETIMEDOUT : -e;
}

int pm_lock_release(struct pm_lock *lock) { return -pthread_mutex_unlock(&lock->mutex); }

unsigned pm_lock_release_all(struct pm_lock *lock)
{
    unsigned n = 0;
    while (pthread_mutex_unlock(&lock->mutex) == 0) n++; /* until it is not the caller's: whoever may have it then */
    return n;
}

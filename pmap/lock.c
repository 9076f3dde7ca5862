/* The lock that processes and threads share: see shm/lock.h for how it outlives its owners. */
#include "pmap/lock.h"

#include <errno.h>

#include "pmap/pool.h"

int pmap_lock_open(pmap_lock **lock, const pmap_lock_options *given)
{
    static const char what[] = "pmap_lock_open";
    pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
    if (!lock) return pm_error(PMAP_EINVAL, "%s: lock is NULL", what);
    *lock = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    pmap_lock *l = pm_shared_open(o.pool, sizeof *l, PM_KIND_LOCK, what, &e);
    if (!l) return e;
    e = pm_lock_init(&l->lock, o.recursive != 0);
    if (e) return pm_shared_undo(&l->shared, e, what);
    *lock = l;
    return 0;
}

int pmap_lock_close(pmap_lock *lock)
{
    static const char what[] = "pmap_lock_close";
    if (!lock) return 0;
    int e = pm_shared_check(lock, PM_KIND_LOCK, what);
    if (e) return e;
    (void)pm_lock_release_all(&lock->lock); /* the thread's list of locks must not lead through memory that goes */
    return pm_shared_close(&lock->shared, PM_KIND_LOCK, what);
}

int pm_lock_result(int e, const char *what)
{
    switch (-e) {
    case ETIMEDOUT: return pm_error(PMAP_ETIMEDOUT, "%s: somebody else has held it for all of the time-out", what);
    case EOWNERDEAD: return pm_error(PMAP_EOWNERDEAD, "%s: you hold it, but its last owner died while it held it: repair what it guards", what);
    case EDEADLK: return pm_error(PMAP_EDEADLOCK, "%s: the calling thread holds it already, and would wait for itself", what);
    case EPERM: return pm_error(PMAP_EPERM, "%s: the calling thread does not hold it", what);
    default: return pm_error_system(e, what);
    }
}

int pmap_lock_acquire(pmap_lock *lock, double timeout_s)
{
    static const char what[] = "pmap_lock_acquire";
    int64_t timeout_ns;
    int e = pm_shared_begin(lock, PM_KIND_LOCK, timeout_s, &timeout_ns, what);
    if (e) return e;
    e = pm_lock_acquire(&lock->lock, timeout_ns);
    return e ? pm_lock_result(e, what) : 0;
}

int pmap_lock_release(pmap_lock *lock)
{
    static const char what[] = "pmap_lock_release";
    int e = pm_shared_check(lock, PM_KIND_LOCK, what);
    if (e) return e;
    e = pm_lock_release(&lock->lock);
    return e ? pm_lock_result(e, what) : 0;
}

/* The read-write lock that processes and threads share: see shm/rwlock.h for how it outlives readers and writers. */
#include "shm/rwlock.h"

#include "pmap/lock.h"
#include "pmap/pool.h"

#define READERS 32u /* when the caller does not say; ThreadSanitizer follows no more than 64 locks a thread */

struct pmap_rwlock {
    struct pm_shared shared;
    alignas(64) struct pm_rwlock rwlock; /* ends with the readers' places */
};

int pmap_rwlock_open(pmap_rwlock **rwlock, const pmap_rwlock_options *given)
{
    static const char what[] = "pmap_rwlock_open";
    pmap_rwlock_options o = PMAP_RWLOCK_OPTIONS_INIT;
    if (!rwlock) return pm_error(PMAP_EINVAL, "%s: rwlock is NULL", what);
    *rwlock = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    if (o.readers == 0) o.readers = READERS;
    if (o.readers > PM_READERS) return pm_error(PMAP_EINVAL, "%s: %u readers asked for; at most %u", what, o.readers, PM_READERS);
    pmap_rwlock *l = pm_shared_open(o.pool, offsetof(pmap_rwlock, rwlock) + pm_rwlock_bytes(o.readers), PM_KIND_RWLOCK, what, &e);
    if (!l) return e;
    e = pm_rwlock_init(&l->rwlock, o.readers);
    if (e) return pm_shared_undo(&l->shared, e, what);
    *rwlock = l;
    return 0;
}

int pmap_rwlock_close(pmap_rwlock *rwlock)
{
    static const char what[] = "pmap_rwlock_close";
    if (!rwlock) return 0;
    int e = pm_shared_check(rwlock, PM_KIND_RWLOCK, what);
    if (e) return e;
    while (pm_rwlock_release(&rwlock->rwlock) == 0) continue; /* as in pmap_lock_close() */
    return pm_shared_close(&rwlock->shared, PM_KIND_RWLOCK, what);
}

static int hold(pmap_rwlock *rwlock, double timeout_s, int (*take)(struct pm_rwlock *, int64_t), const char *what)
{
    int64_t timeout_ns;
    int e = pm_shared_begin(rwlock, PM_KIND_RWLOCK, timeout_s, &timeout_ns, what);
    if (e) return e;
    e = take(&rwlock->rwlock, timeout_ns);
    return e ? pm_lock_result(e, what) : 0;
}

int pmap_rwlock_read(pmap_rwlock *rwlock, double timeout_s) { return hold(rwlock, timeout_s, pm_rwlock_read, "pmap_rwlock_read"); }
int pmap_rwlock_write(pmap_rwlock *rwlock, double timeout_s) { return hold(rwlock, timeout_s, pm_rwlock_write, "pmap_rwlock_write"); }

int pmap_rwlock_release(pmap_rwlock *rwlock)
{
    static const char what[] = "pmap_rwlock_release";
    int e = pm_shared_check(rwlock, PM_KIND_RWLOCK, what);
    if (e) return e;
    e = pm_rwlock_release(&rwlock->rwlock);
    return e ? pm_lock_result(e, what) : 0;
}

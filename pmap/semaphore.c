/* The semaphore that processes and threads share: see shm/semaphore.h for how permits of the dead come back. */
#include "shm/semaphore.h"

#include <errno.h>

#include "pmap/lock.h"
#include "pmap/pool.h"

struct pmap_semaphore {
    struct pm_shared shared;
    alignas(64) struct pm_semaphore semaphore; /* ends with the permits */
};

int pmap_semaphore_open(pmap_semaphore **semaphore, const pmap_semaphore_options *given)
{
    static const char what[] = "pmap_semaphore_open";
    pmap_semaphore_options o = PMAP_SEMAPHORE_OPTIONS_INIT;
    if (!semaphore) return pm_error(PMAP_EINVAL, "%s: semaphore is NULL", what);
    *semaphore = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    if (o.permits == 0) o.permits = 1;
    if (o.permits > PM_PERMITS) return pm_error(PMAP_EINVAL, "%s: %u permits asked for; at most %u", what, o.permits, PM_PERMITS);
    pmap_semaphore *s = pm_shared_open(o.pool, offsetof(pmap_semaphore, semaphore) + pm_semaphore_bytes(o.permits), PM_KIND_SEMAPHORE, what, &e);
    if (!s) return e;
    e = pm_semaphore_init(&s->semaphore, o.permits);
    if (e) return pm_shared_undo(&s->shared, e, what);
    *semaphore = s;
    return 0;
}

int pmap_semaphore_close(pmap_semaphore *semaphore)
{
    static const char what[] = "pmap_semaphore_close";
    if (!semaphore) return 0;
    int e = pm_shared_check(semaphore, PM_KIND_SEMAPHORE, what);
    if (e) return e;
    while (pm_semaphore_release(&semaphore->semaphore) == 0) continue; /* as in pmap_lock_close() */
    return pm_shared_close(&semaphore->shared, PM_KIND_SEMAPHORE, what);
}

int pmap_semaphore_acquire(pmap_semaphore *semaphore, double timeout_s)
{
    static const char what[] = "pmap_semaphore_acquire";
    int64_t timeout_ns;
    int e = pm_shared_begin(semaphore, PM_KIND_SEMAPHORE, timeout_s, &timeout_ns, what);
    if (e) return e;
    e = pm_semaphore_acquire(&semaphore->semaphore, timeout_ns);
    return e ? pm_lock_result(e, what) : 0;
}

int pmap_semaphore_release(pmap_semaphore *semaphore)
{
    static const char what[] = "pmap_semaphore_release";
    int e = pm_shared_check(semaphore, PM_KIND_SEMAPHORE, what);
    if (e) return e;
    e = pm_semaphore_release(&semaphore->semaphore);
    return e ? pm_lock_result(e, what) : 0;
}

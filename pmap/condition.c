/* The condition that processes and threads share: see shm/condition.h for why its waits end by themselves now and
 * then. */
#include "shm/condition.h"

#include <errno.h>
#include <limits.h>

#include "pmap/lock.h"
#include "pmap/pool.h"

struct pmap_condition {
    struct pm_shared shared;
    alignas(64) struct pm_condition condition;
};

int pmap_condition_open(pmap_condition **condition, const pmap_condition_options *given)
{
    int e = 0;
    if (!condition) return pm_error(PMAP_EINVAL, "pmap_condition_open: condition is NULL");
    *condition = pm_shared_open_plain(given, sizeof **condition, PM_KIND_CONDITION, "pmap_condition_open", &e);
    return e;
}

int pmap_condition_close(pmap_condition *condition)
{
    return condition ? pm_shared_close(&condition->shared, PM_KIND_CONDITION, "pmap_condition_close") : 0;
}

int pmap_condition_wait(pmap_condition *condition, pmap_lock *lock, double timeout_s)
{
    static const char what[] = "pmap_condition_wait";
    int64_t timeout_ns;
    int e = pm_shared_begin(condition, PM_KIND_CONDITION, timeout_s, &timeout_ns, what);
    if (!e) e = pm_shared_check(lock, PM_KIND_LOCK, what);
    if (e) return e;
    e = pm_condition_wait(&condition->condition, &lock->lock, timeout_ns);
    if (e == -ETIMEDOUT) return pm_error(PMAP_ETIMEDOUT, "%s: nobody has notified within %g s; the lock is held again", what, timeout_s);
    return e ? pm_lock_result(e, what) : 0;
}

int pmap_condition_notify(pmap_condition *condition, unsigned waiters)
{
    int e = pm_shared_check(condition, PM_KIND_CONDITION, "pmap_condition_notify");
    if (!e) pm_condition_notify(&condition->condition, waiters == 0 || waiters > INT_MAX ? INT_MAX : (int)waiters);
    return e;
}

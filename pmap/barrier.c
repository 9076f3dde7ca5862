/* The barrier that processes and threads share: see shm/barrier.h for how a dead party is noticed. */
#include "shm/barrier.h"

#include <errno.h>

#include "pmap/pool.h"
#include "pmap/shared.h"

struct pmap_barrier {
    struct pm_shared shared;
    alignas(64) struct pm_barrier barrier; /* ends with the table of its members */
};

int pmap_barrier_open(pmap_barrier **barrier, const pmap_barrier_options *given)
{
    static const char what[] = "pmap_barrier_open";
    pmap_barrier_options o = PMAP_BARRIER_OPTIONS_INIT;
    if (!barrier) return pm_error(PMAP_EINVAL, "%s: barrier is NULL", what);
    *barrier = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    if (o.parties == 0 || o.parties > PM_PARTIES)
        return pm_error(PMAP_EINVAL, "%s: %u parties; expected 1 to %u", what, o.parties, PM_PARTIES);
    pmap_barrier *b = pm_shared_open(o.pool, offsetof(pmap_barrier, barrier) + pm_barrier_bytes(o.parties), PM_KIND_BARRIER, what, &e);
    if (!b) return e;
    e = pm_barrier_init(&b->barrier, o.parties);
    if (e) return pm_shared_undo(&b->shared, e, what);
    *barrier = b;
    return 0;
}

int pmap_barrier_close(pmap_barrier *barrier)
{
    return barrier ? pm_shared_close(&barrier->shared, PM_KIND_BARRIER, "pmap_barrier_close") : 0;
}

static int result(int e, const char *what)
{
    switch (-e) {
    case 0: return 0;
    case EPIPE: return pm_error(PMAP_EBROKEN, "%s: the barrier is broken: a party died, or somebody aborted it", what);
    case ETIMEDOUT: return pm_error(PMAP_ETIMEDOUT, "%s: not all parties have arrived in time; this one has not either", what);
    case EUSERS: return pm_error(PMAP_EINVAL, "%s: more threads have used the barrier and still live than it has room for", what);
    default: return pm_error_system(e, what);
    }
}

int pmap_barrier_wait(pmap_barrier *barrier, double timeout_s, unsigned *index)
{
    static const char what[] = "pmap_barrier_wait";
    int64_t timeout_ns;
    unsigned before = 0;
    int e = pm_shared_begin(barrier, PM_KIND_BARRIER, timeout_s, &timeout_ns, what);
    if (e) return e;
    e = pm_barrier_wait(&barrier->barrier, timeout_ns, &before);
    if (!e && index) *index = before;
    return result(e, what);
}

static int simple(pmap_barrier *barrier, int (*call)(struct pm_barrier *), const char *what)
{
    int e = pm_shared_check(barrier, PM_KIND_BARRIER, what);
    return e ? e : result(call(&barrier->barrier), what);
}

int pmap_barrier_join(pmap_barrier *barrier) { return simple(barrier, pm_barrier_join, "pmap_barrier_join"); }
int pmap_barrier_abort(pmap_barrier *barrier) { return simple(barrier, pm_barrier_abort, "pmap_barrier_abort"); }
int pmap_barrier_reset(pmap_barrier *barrier) { return simple(barrier, pm_barrier_reset, "pmap_barrier_reset"); }

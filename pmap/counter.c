/* Counters that processes and threads share: one number, and one number a worker.  Each change is one atomic
 * instruction, so a death leaves it made or not made, and there is nothing to repair. */
#include <stdatomic.h>

#include "pmap/pool.h"
#include "pmap/shared.h"

#define MOST 65536u

/* Unsigned inside: there an overflow wraps and is no error. */
struct pmap_counter {
    struct pm_shared shared;
    alignas(64) _Atomic uint64_t value;
};

struct share {
    alignas(64) _Atomic uint64_t value; /* a cache line of its own: workers do not wait for each other's */
};

struct pmap_accumulator {
    struct pm_shared shared;
    unsigned shares; /* constant */
    struct share share[];
};

int pmap_counter_open(pmap_counter **counter, const pmap_counter_options *given)
{
    static const char what[] = "pmap_counter_open";
    pmap_counter_options o = PMAP_COUNTER_OPTIONS_INIT;
    if (!counter) return pm_error(PMAP_EINVAL, "%s: counter is NULL", what);
    *counter = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    pmap_counter *c = pm_shared_open(o.pool, sizeof *c, PM_KIND_COUNTER, what, &e);
    if (!c) return e;
    atomic_init(&c->value, (uint64_t)o.first);
    *counter = c;
    return 0;
}

int pmap_counter_close(pmap_counter *counter)
{
    return counter ? pm_shared_close(&counter->shared, PM_KIND_COUNTER, "pmap_counter_close") : 0;
}

/* acq_rel and acquire: who sees a count also sees what was written before it was counted */
int pmap_counter_add(pmap_counter *counter, int64_t n, int64_t *value)
{
    int e = pm_shared_check(counter, PM_KIND_COUNTER, "pmap_counter_add");
    if (e) return e;
    uint64_t before = atomic_fetch_add_explicit(&counter->value, (uint64_t)n, memory_order_acq_rel);
    if (value) *value = (int64_t)(before + (uint64_t)n);
    return 0;
}

int pmap_counter_get(const pmap_counter *counter, int64_t *value)
{
    static const char what[] = "pmap_counter_get";
    int e = pm_shared_check(counter, PM_KIND_COUNTER, what);
    if (e) return e;
    if (!value) return pm_error(PMAP_EINVAL, "%s: value is NULL", what);
    *value = (int64_t)atomic_load_explicit(&counter->value, memory_order_acquire);
    return 0;
}

int pmap_accumulator_open(pmap_accumulator **accumulator, const pmap_accumulator_options *given)
{
    static const char what[] = "pmap_accumulator_open";
    pmap_accumulator_options o = PMAP_ACCUMULATOR_OPTIONS_INIT;
    if (!accumulator) return pm_error(PMAP_EINVAL, "%s: accumulator is NULL", what);
    *accumulator = NULL;
    int e = pm_shared_options(&o, sizeof o, given, what);
    if (e) return e;
    if (o.shares == 0) o.shares = o.pool ? pmap_pool_workers(o.pool) : pmap_cpus();
    if (o.shares > MOST) return pm_error(PMAP_EINVAL, "%s: %u shares asked for; at most %u", what, o.shares, MOST);
    pmap_accumulator *a = pm_shared_open(o.pool, sizeof *a + o.shares * sizeof a->share[0], PM_KIND_ACCUMULATOR, what, &e);
    if (!a) return e;
    a->shares = o.shares;
    *accumulator = a;
    return 0;
}

int pmap_accumulator_close(pmap_accumulator *accumulator)
{
    return accumulator ? pm_shared_close(&accumulator->shared, PM_KIND_ACCUMULATOR, "pmap_accumulator_close") : 0;
}

static int check_share(const pmap_accumulator *a, unsigned share, const char *what)
{
    int e = pm_shared_check(a, PM_KIND_ACCUMULATOR, what);
    if (e || share < a->shares) return e;
    return pm_error(PMAP_EINVAL, "%s: share %u of %u", what, share, a->shares);
}

int pmap_accumulator_add(pmap_accumulator *accumulator, unsigned share, int64_t n)
{
    int e = check_share(accumulator, share, "pmap_accumulator_add");
    if (!e) (void)atomic_fetch_add_explicit(&accumulator->share[share].value, (uint64_t)n, memory_order_release);
    return e;
}

int pmap_accumulator_share(const pmap_accumulator *accumulator, unsigned share, int64_t *value)
{
    static const char what[] = "pmap_accumulator_share";
    int e = check_share(accumulator, share, what);
    if (e) return e;
    if (!value) return pm_error(PMAP_EINVAL, "%s: value is NULL", what);
    *value = (int64_t)atomic_load_explicit(&accumulator->share[share].value, memory_order_acquire);
    return 0;
}

int pmap_accumulator_get(const pmap_accumulator *accumulator, int64_t *value)
{
    static const char what[] = "pmap_accumulator_get";
    int e = pm_shared_check(accumulator, PM_KIND_ACCUMULATOR, what);
    if (e) return e;
    if (!value) return pm_error(PMAP_EINVAL, "%s: value is NULL", what);
    uint64_t sum = 0;
    for (unsigned i = 0; i < accumulator->shares; i++) sum += atomic_load_explicit(&accumulator->share[i].value, memory_order_acquire);
    *value = (int64_t)sum;
    return 0;
}

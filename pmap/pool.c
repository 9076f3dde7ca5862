/* A pool's life: open, close, terminate, memory, and what happens to it in a forked child. */
#include "pmap/pool.h"

#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/event.h"
#include "shm/heap.h"
#include "shm/process.h"
#include "pmap/future.h"
#include "pmap/objects.h"
#include "pmap/options.h"
#include "workers/cpus.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#define MOST_WORKERS 4095u
#define DEFAULT_SPIN_NS INT64_C(20000)
#define DEFAULT_MOST 8u        /* workers that a pool of processes may grow to, when neither it nor the machine is larger */

/* ---- Forked children ---- */

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static pmap_pool *pools;     /* of this process, */
static pmap_pool *inherited; /* and those of its parent that a forked child may close to free its part */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER; /* a pool has left the list, or a helper is done with it */
static unsigned forks; /* how many forks lie between this process and the one that loaded the library */

static void before_fork(void)
{
    if (pm_supervising) return;
    pthread_mutex_lock(&pools_lock);
    pthread_mutex_lock(&pm_failures_lock);
}

static void after_fork_parent(void)
{
    if (pm_supervising) return;
    pthread_mutex_unlock(&pm_failures_lock);
    pthread_mutex_unlock(&pools_lock);
}

static void after_fork_child(void)
{
    if (pm_supervising) return;
    forks++;
    while (pools) {
        pmap_pool *p = pools;
        p->ops->forked(p->executor);
        pools = p->next;
        p->next = inherited;
        inherited = p;
    }
    /* Who waited or waits is not here.  By hand: the functions for it would be pages that a new supervisor does not have. */
    ended = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pm_failures_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pools_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void watch_forks(void) { (void)pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

static bool foreign(const pmap_pool *pool) { return pool->forks != forks; }

int pm_pool_enter(pmap_pool *pool, const char *what)
{
    if (!pool) return pm_error(PMAP_EINVAL, "%s: pool is NULL", what);
    if (foreign(pool))
        return pm_error(PMAP_EFORK, "%s: the pool was opened by another process; open one of your own after a fork, none in a worker's "
                        "function", what);
    if (pm_inside == pool->executor)
        return pm_error(PMAP_EFORK, "%s: called by a function that this pool runs; open a pool of its own for that", what);
    if (!(atomic_fetch_add(&pool->calls, 1) & PM_CLOSED)) return 0;
    pm_pool_leave(pool);
    return pm_error(PMAP_ECLOSED, "%s: the pool is closed or being closed", what);
}

void pm_pool_leave(pmap_pool *pool)
{
    /* Count and bit are one word: either this call was over before the pool was closed, and touches it no more; or it takes itself
     * off under the lock, behind which the closing thread frees the pool. */
    unsigned calls = atomic_load(&pool->calls);
    while (!(calls & (PM_CLOSED | PM_WATCHED)))
        if (atomic_compare_exchange_weak(&pool->calls, &calls, calls - 1)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_sub(&pool->calls, 1);
    pthread_cond_broadcast(&pool->quiet);
    pthread_mutex_unlock(&pool->lock);
}

void pm_pool_hold(pmap_pool *pool) { atomic_fetch_add(&pool->holders, 1); }

/* Lock and condition are not destroyed: in a forked child a thread that is not there may hold the one, and they own nothing. */
void pm_pool_release(pmap_pool *pool)
{
    if (atomic_fetch_sub(&pool->holders, 1) == 1) free(pool);
}

static unsigned under_way(pmap_pool *pool) { return atomic_load(&pool->calls) & ~(PM_CLOSED | PM_WATCHED); }

/* ---- Open ---- */

static size_t default_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? 2 * (size_t)pages * (size_t)page : (size_t)1 << 30;
}

/* A libgomp that has run a parallel region hangs in a forked child that runs another (gcc bug 60035), unless its threads are put away
 * before the fork.  LLVM's runtime needs no such help and aborts when given it. */
static void quieten_openmp(void)
{
    if (pm_process_named()) return;
    void *pause_all = dlsym(RTLD_DEFAULT, "omp_pause_resource_all"), *inside = dlsym(RTLD_DEFAULT, "omp_in_parallel");
    int (*pause_fn)(int);
    int (*inside_fn)(void);
    if (!pause_all || !inside) return;
    memcpy(&pause_fn, &pause_all, sizeof pause_fn);
    memcpy(&inside_fn, &inside, sizeof inside_fn);
    if (!inside_fn()) (void)pause_fn(2 /* omp_pause_hard */);
}

static bool seconds_ok(double s) { return s >= 0 && !isinf(s); }

static int64_t to_ns(double s) { return s > 1e9 ? INT64_C(1000000000) * 1000000000 : s > 0 && s < 1e-9 ? 1 : (int64_t)(s * 1e9); }

/* The part about workers' lives. */
static int check_life(pmap_options *o, unsigned cpus)
{
    unsigned workers = o->workers ? o->workers : cpus;
    const char *what = o->recycle_items ? "recycle_items" : o->recycle_bytes ? "recycle_bytes" : o->recycle_s > 0 ? "recycle_s" :
                       o->most_workers ? "most_workers" : o->min_workers ? "min_workers" : o->idle_s > 0 ? "idle_s" :
                       o->jobserver ? "jobserver" : NULL;
    size_t most = SIZE_MAX / 2; /* beyond that it was a negative number */
    if (o->recycle_items > most || o->recycle_bytes > most)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: %s is %zu; expected 0 (never) to %zu", o->recycle_items > most ? "recycle_items" : "recycle_bytes",
                        o->recycle_items > most ? o->recycle_items : o->recycle_bytes, most);
    if (!seconds_ok(o->recycle_s) || !seconds_ok(o->idle_s))
        return pm_error(PMAP_EINVAL, "pmap_pool_open: %s is %g; expected 0 (never) or more seconds", seconds_ok(o->idle_s) ? "recycle_s" : "idle_s",
                        seconds_ok(o->idle_s) ? o->recycle_s : o->idle_s);
    if (what && o->executor != PMAP_PROCESSES)
        return pm_error(PMAP_ENOTSUP, "pmap_pool_open: %s needs PMAP_PROCESSES: threads and the calling thread are not the pool's to end", what);
    if (o->most_workers > MOST_WORKERS || (o->most_workers && o->most_workers < workers))
        return pm_error(PMAP_EINVAL, "pmap_pool_open: most_workers is %u; expected %u (workers) to %u", o->most_workers, workers, MOST_WORKERS);
    if (!o->most_workers) {
        o->most_workers = workers > cpus ? workers : cpus;
        if (o->most_workers < DEFAULT_MOST) o->most_workers = DEFAULT_MOST;
    }
    if (o->min_workers > o->most_workers)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: min_workers is %u, more than most_workers, %u", o->min_workers, o->most_workers);
    return 0;
}

static void init_quiet(pmap_pool *pool)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->quiet, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static int check_options(const pmap_options *given, pmap_options *o)
{
    static const pmap_options init = PMAP_OPTIONS_INIT;
    *o = init;
    int e = pm_options(o, sizeof *o, offsetof(pmap_options, executor), given, "pmap_pool_open", "PMAP_OPTIONS_INIT");
    if (e) return e;
    if (o->workers > MOST_WORKERS)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: %u workers asked for; at most %u", o->workers, MOST_WORKERS);
    if ((int)o->executor < 0 || (int)o->executor > PMAP_SERIAL)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: executor %d; expected PMAP_PROCESSES, PMAP_THREADS or PMAP_SERIAL", (int)o->executor);
    if ((int)o->channel < 0 || (int)o->channel > PMAP_ZMQ)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: channel %d; expected PMAP_SHM or PMAP_ZMQ", (int)o->channel);
    if (o->channel == PMAP_ZMQ && o->executor != PMAP_PROCESSES)
        return pm_error(PMAP_EINVAL, "pmap_pool_open: the ZeroMQ channel is for processes only");
#ifndef HAVE_ZMQ
    if (o->channel == PMAP_ZMQ) return pm_error(PMAP_ENOTSUP, "pmap_pool_open: this libpmap was built without ZeroMQ");
#endif
    if (o->spin_us < -1) return pm_error(PMAP_EINVAL, "pmap_pool_open: spin_us is %d; expected -1 or more", o->spin_us);
    return 0;
}

int pmap_pool_open(pmap_pool **out, const pmap_options *given)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const struct pm_executor_ops *const executors[] = {&pm_processes, &pm_threads, &pm_serial};
    pmap_options o;
    char text[200] = "";
    if (!out) return pm_error(PMAP_EINVAL, "pmap_pool_open: pool is NULL");
    *out = NULL;
    unsigned cpus = pm_cpus();
    int e = check_options(given, &o);
    if (!e) e = check_life(&o, cpus);
    if (!e && o.executor == PMAP_PROCESSES && pm_depth >= PMAP_NESTED)
        e = pm_error(PMAP_ENOTSUP, "pmap_pool_open: this process is a worker inside %u pools already; at most PMAP_NESTED (%d) pools of processes "
                     "may lie one in the other", pm_depth, PMAP_NESTED);
    if (e) return e;
    (void)pthread_once(&once, watch_forks);
    struct pm_setup setup = {.workers = o.workers ? o.workers : cpus, .most = o.most_workers, .cpus = cpus, .memory = o.memory ? o.memory : default_memory(),
                             .spin_ns = o.spin_us < 0 ? 0 : o.spin_us ? o.spin_us * INT64_C(1000) : cpus > 1 ? DEFAULT_SPIN_NS : 0,
                             .keep_fds = o.keep_fds != 0, .huge = !o.no_huge_pages, .zmq = o.channel == PMAP_ZMQ, .jobserver = o.jobserver != 0,
                             .life = {.init = o.init, .exit = o.exit, .arg = o.hook_arg, .items = o.recycle_items, .bytes = o.recycle_bytes,
                                      .age_ns = to_ns(o.recycle_s), .idle_ns = to_ns(o.idle_s),
                                      .least = o.min_workers ? o.min_workers : 1}};
    if (o.executor == PMAP_SERIAL) setup.workers = 1;
    pmap_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return pm_error(PMAP_ENOMEM, "pmap_pool_open: not enough memory");
    pthread_mutex_init(&pool->lock, NULL);
    init_quiet(pool);
    atomic_store(&pool->holders, 1);
    pool->ops = executors[o.executor];
    atomic_store(&pool->workers, setup.workers);
    pool->most = setup.most;
    pool->rationed = setup.jobserver;
    pool->maps_only = setup.zmq;
    pool->spin_ns = setup.workers < cpus ? setup.spin_ns : 0;
    pool->forks = forks;
    e = -ENOMEM;
    if (o.executor == PMAP_PROCESSES) {
        quieten_openmp();
        pool->objects = pm_objects_now();
    }
    if (o.executor != PMAP_PROCESSES || pool->objects) e = pm_futures_init(pool);
    if (!e) e = pool->ops->open(&pool->executor, &setup, text, sizeof text);
    if (e) {
        pm_futures_close(pool, false);
        pm_objects_free(pool->objects);
        pm_pool_release(pool);
        if (e == -ENOMEM) return pm_error(PMAP_ENOMEM, "pmap_pool_open: %s", text[0] ? text : "not enough memory");
        if (e == -EOPNOTSUPP) return pm_error(PMAP_ENOTSUP, "pmap_pool_open: %s", text);
        return pm_error(PMAP_ESYSTEM, "pmap_pool_open: %s", text[0] ? text : strerror(-e));
    }
    pthread_mutex_lock(&pools_lock);
    pool->next = pools;
    pools = pool;
    pthread_mutex_unlock(&pools_lock);
    *out = pool;
    return 0;
}

/* ---- Close ---- */

/* With pools_lock held: is it in the list?  Nothing of the pool is looked at: it may have been freed. */
static pmap_pool **listed(pmap_pool **list, const pmap_pool *pool)
{
    while (*list && *list != pool) list = &(*list)->next;
    return *list ? list : NULL;
}

static void free_pool(pmap_pool *pool)
{
    pm_futures_close(pool, false);
    pool->ops->close(pool->executor);
    pm_failures_forget(pool);
    pm_objects_free(pool->objects);
    pm_pool_release(pool);
}

/* In a forked child: the parent's workers are none of its business. */
static bool abandon(pmap_pool *pool)
{
    pthread_mutex_lock(&pools_lock);
    pmap_pool **at = listed(&inherited, pool);
    if (at) *at = pool->next;
    pthread_mutex_unlock(&pools_lock);
    if (!at) return false;
    pm_futures_close(pool, true);
    pool->ops->abandon(pool->executor);
    pm_failures_forget(pool);
    pm_objects_free(pool->objects);
    pm_pool_release(pool);
    return true;
}

/* Another thread ends this pool: makes it hurry, if so wanted, and waits until it is done. */
static void help(pmap_pool *pool, bool drop, int64_t grace_ns) /* enters with pools_lock, leaves without */
{
    pool->helpers++;
    pthread_mutex_unlock(&pools_lock);
    if (drop) {
        pm_futures_cancel(pool);
        (void)pool->ops->end(pool->executor, grace_ns);
    }
    pthread_mutex_lock(&pools_lock);
    pool->helpers--;
    pthread_cond_broadcast(&ended);
    while (listed(&pools, pool) && pool->closing) pthread_cond_wait(&ended, &pools_lock); /* a new pool at this place is not closing */
    pthread_mutex_unlock(&pools_lock);
}

/* 0, PMAP_EFORK or PMAP_ESYSTEM.  A pool is closed once, by the first who says so; to whoever comes later it is as if it had been NULL. */
static int end(pmap_pool *pool, const char *what, bool drop, int64_t grace_ns)
{
    if (!pool || abandon(pool)) return 0;
    pthread_mutex_lock(&pools_lock);
    if (!listed(&pools, pool)) {
        pthread_mutex_unlock(&pools_lock);
        return 0;
    }
    if (pm_inside == pool->executor) { /* it would wait for the call that it is in */
        pthread_mutex_unlock(&pools_lock);
        return pm_error(PMAP_EFORK, "%s: called by a function that this pool runs", what);
    }
    if (pool->closing) {
        help(pool, drop, grace_ns);
        return 0;
    }
    pool->closing = true;
    pthread_mutex_unlock(&pools_lock);
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_or(&pool->calls, PM_CLOSED);
    while (!drop && under_way(pool)) pthread_cond_wait(&pool->quiet, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    if (drop) pm_futures_cancel(pool);
    else (void)pm_futures_drain(pool, what, -1);
    int e = pool->ops->end(pool->executor, drop ? grace_ns : -1);
    pthread_mutex_lock(&pool->lock);
    while (under_way(pool)) pthread_cond_wait(&pool->quiet, &pool->lock); /* the executor has ended */
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_lock(&pools_lock);
    while (pool->helpers) pthread_cond_wait(&ended, &pools_lock);
    pmap_pool **at = listed(&pools, pool);
    if (at) *at = pool->next;
    pthread_cond_broadcast(&ended);
    pthread_mutex_unlock(&pools_lock);
    free_pool(pool);
    return e ? pm_error(PMAP_ESYSTEM, "%s: the supervisor did not end in time and was killed", what) : 0;
}

int pmap_pool_wait(pmap_pool *pool, double timeout_s)
{
    int e = pm_pool_enter(pool, "pmap_pool_wait"), late = 0;
    if (e) return e;
    bool ever = timeout_s < 0 || timeout_s > 1e9;
    if (timeout_s != timeout_s) e = pm_error(PMAP_EINVAL, "pmap_pool_wait: timeout_s is not a number");
    int64_t at = pm_now() + (ever || e ? 0 : to_ns(timeout_s));
    if (!e) e = pm_futures_drain(pool, "pmap_pool_wait", timeout_s);
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
    pthread_mutex_lock(&pool->lock);
    pool->waiters++;
    atomic_fetch_or(&pool->calls, PM_WATCHED);
    pthread_cond_broadcast(&pool->quiet); /* for others who wait: this is no call to wait for */
    while (!e && under_way(pool) > pool->waiters && late != ETIMEDOUT)
        late = ever ? pthread_cond_wait(&pool->quiet, &pool->lock) : pthread_cond_timedwait(&pool->quiet, &pool->lock, &until);
    unsigned rest = under_way(pool) - pool->waiters;
    if (--pool->waiters == 0) atomic_fetch_and(&pool->calls, ~PM_WATCHED);
    pthread_mutex_unlock(&pool->lock);
    pm_pool_leave(pool);
    if (!e && rest) e = pm_error(PMAP_ETIMEDOUT, "pmap_pool_wait: %u call%s still under way after %g s", rest, rest == 1 ? "" : "s", timeout_s);
    return e;
}

int pmap_pool_close(pmap_pool *pool) { return end(pool, "pmap_pool_close", false, 0); }

int pmap_pool_terminate(pmap_pool *pool, double grace_s)
{
    if (!seconds_ok(grace_s))
        return pm_error(PMAP_EINVAL, "pmap_pool_terminate: grace_s is %g; expected 0 or more seconds", grace_s);
    return end(pool, "pmap_pool_terminate", true, to_ns(grace_s));
}

int pm_broken(pmap_pool *pool, const char *what)
{
    char text[200] = "";
    pool->ops->why(pool->executor, text, sizeof text);
    return pm_error(PMAP_EBROKEN, "%s: %s", what, text);
}

int pmap_pool_resize(pmap_pool *pool, unsigned workers)
{
    int e = pm_pool_enter(pool, "pmap_pool_resize");
    if (e) return e;
    if (!pool->ops->resize)
        e = pm_error(PMAP_ENOTSUP, "pmap_pool_resize: needs PMAP_PROCESSES; this is a pool of %s", pool->ops == &pm_threads ? "threads" : "one thread");
    else if (workers < 1 || workers > pool->most)
        e = pm_error(PMAP_EINVAL, "pmap_pool_resize: workers is %u; expected 1 to %u (options->most_workers)", workers, pool->most);
    else {
        pthread_mutex_lock(&pool->futures->errands); /* a broadcast wants the workers that it began with */
        e = pool->ops->resize(pool->executor, workers);
        if (!e) atomic_store(&pool->workers, workers);
        pthread_mutex_unlock(&pool->futures->errands);
        if (e == -EPIPE) e = pm_broken(pool, "pmap_pool_resize");
        else if (e) e = pm_error_system(e, "pmap_pool_resize");
    }
    pm_pool_leave(pool);
    return e;
}

unsigned pmap_pool_workers(const pmap_pool *pool) { return pool ? atomic_load(&pool->workers) : 0; }

unsigned pmap_pool_pids(const pmap_pool *pool, int *pids, unsigned most)
{
    return pool && (pids || !most) ? pool->ops->pids(pool->executor, pids, most) : 0;
}

/* ---- Memory ---- */

void *pmap_alloc(pmap_pool *pool, size_t bytes)
{
    int e = pm_pool_enter(pool, "pmap_alloc");
    if (e) return NULL;
    void *p = pm_heap_alloc(pool->ops->heap(pool->executor), bytes, &e);
    if (!p) (void)pm_error(PMAP_ENOMEM, "pmap_alloc: %zu bytes are more than this machine, a limit or the pool's `memory` leaves", bytes);
    pm_pool_leave(pool);
    return p;
}

void pmap_free(pmap_pool *pool, void *memory)
{
    if (!memory || pm_pool_enter(pool, "pmap_free")) return;
    if (pm_heap_free(pool->ops->heap(pool->executor), memory))
        (void)pm_error(PMAP_EINVAL, "pmap_free: %p was not returned by pmap_alloc() of this pool, or is free already", memory);
    pm_pool_leave(pool);
}

unsigned pmap_cpus(void) { return pm_cpus(); }

/* The end of a pool: closed twice and by several threads at once, a close that another thread makes hurry, a wait with a time-out. */
#include "pmap/pool.h"
#include "tests/paths.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct held { /* in pmap_alloc() memory */
    _Atomic int inside, let_go;
};

static int hold(pmap_task *task, const void *item, void *result)
{
    struct held *held = pmap_task_arg(task);
    (void)item, (void)result;
    atomic_store(&held->inside, 1);
    PM_HOLD(task, &held->let_go);
    return 0;
}

struct thread {
    pmap_pool *pool;
    struct held *held;
    int value;
    pthread_t id;
    atomic_bool over;
};

static void *call(void *arg)
{
    struct thread *t = arg;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = t->held;
    t->value = pmap_map(t->pool, hold, NULL, 2, 0, NULL, 0, &options);
    atomic_store(&t->over, true);
    return NULL;
}

static void *close_it(void *arg)
{
    struct thread *t = arg;
    t->value = pmap_pool_close(t->pool);
    return NULL;
}

static void *wait_for_it(void *arg)
{
    struct thread *t = arg;
    t->value = pmap_pool_wait(t->pool, 20);
    return NULL;
}

static void start(struct thread *t, void *(*function)(void *)) { assert_int_equal(pthread_create(&t->id, NULL, function, t), 0); }
static bool is_inside(void *arg) { return atomic_load(&((struct held *)arg)->inside) != 0; }

static struct thread begin_call(pmap_pool *pool)
{
    struct thread t = {.pool = pool, .held = pmap_alloc(pool, sizeof *t.held)};
    assert_non_null(t.held);
    memset(t.held, 0, sizeof *t.held);
    return t;
}

static void twice(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_pool_close(pool), 0);
    EXPECT(pmap_pool_close(pool), 0);
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    pool = pm_path_open(path, 2);
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    EXPECT(pmap_pool_terminate(pool, 1), 0);
    EXPECT(pmap_pool_close(pool), 0);
    EXPECT(pmap_pool_terminate(pool, -1), PMAP_EINVAL);
    EXPECT(pmap_pool_close(NULL), 0);
}

static bool refuses(void *arg)
{
    pmap_stats_t stats = {.size = sizeof stats};
    return pmap_stats(arg, &stats) == PMAP_ECLOSED;
}

/* Many threads close one pool: it is closed once, and all return when it has ended. */
static void all_at_once(const struct pm_path *path)
{
    for (int round = 0; round < 5; round++) {
        struct thread t[4];
        pmap_pool *pool = pm_path_open(path, 2);
        for (int i = 0; i < 4; i++) {
            t[i] = (struct thread){.pool = pool};
            start(&t[i], close_it);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(t[i].id, NULL);
            EXPECT(t[i].value, 0);
        }
    }
}

/* A close waits for a call that does not end; another thread loses its patience. */
static void made_to_hurry(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct thread caller = begin_call(pool), closer = {.pool = pool}, other = {.pool = pool};
    start(&caller, call);
    assert_true(pm_test_wait_until(is_inside, caller.held, 10000));
    start(&closer, close_it);
    assert_true(pm_test_wait_until(refuses, pool, 10000));
    start(&other, close_it);
    double t = seconds();
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    if (seconds() - t > 10) fail_msg("%s: terminate took %g s", path->name, seconds() - t);
    pthread_join(caller.id, NULL);
    pthread_join(closer.id, NULL);
    pthread_join(other.id, NULL);
    EXPECT(caller.value, PMAP_ECANCELLED);
    EXPECT(closer.value, 0);
    EXPECT(other.value, 0);
}

/* The same with tasks under way: a close waits for them, and a terminate does not. */
static int hold_task(pmap_task *task, const void *in, size_t bytes)
{
    (void)in, (void)bytes;
    return hold(task, NULL, NULL);
}

static void tasks_made_to_hurry(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct thread task = begin_call(pool), closer = {.pool = pool};
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.arg = task.held;
    for (int i = 0; i < 4; i++) EXPECT(pmap_submit(pool, hold_task, NULL, 0, &o, NULL), 0);
    assert_true(pm_test_wait_until(is_inside, task.held, 10000));
    start(&closer, close_it);
    assert_true(pm_test_wait_until(refuses, pool, 10000));
    if (path->executor == PMAP_THREADS) atomic_store(&task.held->let_go, 1); /* a thread cannot be ended: it ends itself */
    double t = seconds();
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    if (seconds() - t > 10) fail_msg("%s: terminate took %g s", path->name, seconds() - t);
    pthread_join(closer.id, NULL);
    EXPECT(closer.value, 0);
}

static void waits(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_pool_wait(pool, 0), 0);
    EXPECT(pmap_pool_wait(pool, -1), 0);
    EXPECT(pmap_pool_wait(pool, NAN), PMAP_EINVAL);
    EXPECT(pmap_pool_wait(NULL, 0), PMAP_EINVAL);
    struct thread caller = begin_call(pool), waiter[2] = {{.pool = pool}, {.pool = pool}};
    start(&caller, call);
    assert_true(pm_test_wait_until(is_inside, caller.held, 10000));
    EXPECT(pmap_pool_wait(pool, 0), PMAP_ETIMEDOUT);
    EXPECT_TEXT("1 call still under way");
    double t = seconds();
    EXPECT(pmap_pool_wait(pool, 0.05), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.05);
    start(&waiter[0], wait_for_it);
    start(&waiter[1], wait_for_it);
    EXPECT(pmap_pool_wait(pool, 0.01), PMAP_ETIMEDOUT);
    assert_false(atomic_load(&caller.over)); /* nothing was changed */
    atomic_store(&caller.held->let_go, 1);
    EXPECT(pmap_pool_wait(pool, INFINITY), 0);
    pthread_join(caller.id, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_join(waiter[i].id, NULL);
        EXPECT(waiter[i].value, 0);
    }
    EXPECT(caller.value, 0);
    pmap_free(pool, caller.held);
    pm_path_close(pool);
}

/* Bounded: wait, and when that was in vain terminate. */
static void waits_then_terminates(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct thread caller = begin_call(pool);
    start(&caller, call);
    assert_true(pm_test_wait_until(is_inside, caller.held, 10000));
    EXPECT(pmap_pool_wait(pool, 0.01), PMAP_ETIMEDOUT);
    EXPECT(pmap_pool_terminate(pool, 0.1), 0);
    pthread_join(caller.id, NULL);
    EXPECT(caller.value, PMAP_ECANCELLED);
}

/* A function that closes the pool which runs it would wait for itself. */
static int closes_its_own(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    pmap_pool *mine = *(pmap_pool **)pmap_task_arg(task);
    return pmap_pool_close(mine) == PMAP_EFORK && pmap_pool_terminate(mine, 0) == PMAP_EFORK ? 0 : 1;
}

static int task_closes_its_own(pmap_task *task, const void *in, size_t bytes)
{
    (void)in, (void)bytes;
    return closes_its_own(task, NULL, NULL);
}

static void by_a_function_of_its_own(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    pmap_submit_options s = PMAP_SUBMIT_OPTIONS_INIT;
    m.arg = s.arg = &pool;
    EXPECT(pmap_map(pool, closes_its_own, NULL, 3, 0, NULL, 0, &m), 0);
    EXPECT(pmap_apply(pool, task_closes_its_own, NULL, 0, NULL, NULL, &s), 0);
    pm_path_close(pool);
}

/* The first task starts a pool's threads, while another thread ends them. */
static int nothing(pmap_task *task, const void *in, size_t bytes)
{
    (void)task, (void)in, (void)bytes;
    return 0;
}

static void *give_first(void *arg)
{
    struct thread *t = arg;
    atomic_store(&t->over, true); /* it is about to */
    t->value = pmap_submit(t->pool, nothing, NULL, 0, NULL, NULL);
    return NULL;
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_true(f && fscanf(f, "%zu", &pages) == 1);
    (void)fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void ended_at_the_first_task(const struct pm_path *path)
{
    size_t before = 0;
    for (unsigned round = 0; round < 150; round++) {
        if (round == 10) before = address_space();
        struct thread t = {.pool = pm_path_open(path, 4)};
        atomic_fetch_add(&t.pool->holders, 1); /* a program may not call with a pool that is no more: a late call finds it closed here */
        assert_int_equal(pthread_create(&t.id, NULL, give_first, &t), 0);
        while (!atomic_load(&t.over)) sched_yield();
        for (unsigned i = 0; i < round * 200; i++) __asm__ __volatile__("" ::: "memory"); /* to meet it at another point */
        EXPECT(pmap_pool_terminate(t.pool, 0), 0);
        pthread_join(t.id, NULL);
        if (atomic_fetch_sub(&t.pool->holders, 1) == 1) free(t.pool);
        if (t.value && t.value != PMAP_ECANCELLED && t.value != PMAP_ECLOSED) fail_msg("%s: %d", path->name, t.value);
    }
    size_t after = address_space(); /* a thread that nobody has joined keeps its stack, of 8 MiB as a rule */
    if (after > before + ((size_t)200 << 20)) fail_msg("%s: threads were left behind: %zu MiB", path->name, (after - before) >> 20);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"twice", twice, PM_ON_ALL},
        {"all at once", all_at_once, PM_ON_ALL},
        {"made to hurry", made_to_hurry, PM_ON_ALL},
        {"tasks made to hurry", tasks_made_to_hurry, PM_ON_THREADS | PM_ON_SHM},
        {"ended at the first task", ended_at_the_first_task, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
        {"waits", waits, PM_ON_ALL},
        {"waits, then terminates", waits_then_terminates, PM_ON_ALL},
        {"by a function of its own", by_a_function_of_its_own, PM_ON_SERIAL | PM_ON_THREADS},
    };
    return PM_PATHS_MAIN("close", tests);
}

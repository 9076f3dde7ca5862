/* A pool that grows and shrinks: while idle, while calls run, while workers die; what it refuses. */
#include "tests/together.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define N 3000u

static int twice(pmap_task *task, const void *item, void *result)
{
    uint32_t x;
    (void)task;
    memcpy(&x, item, 4);
    x *= 2;
    memcpy(result, &x, 4);
    return 0;
}

static int who(pmap_task *task, const void *item, void *result)
{
    uint32_t seen = pmap_task_worker(task);
    (void)item;
    struct timespec t = {.tv_nsec = 200000};
    (void)nanosleep(&t, NULL); /* the others get some too */
    memcpy(result, &seen, 4);
    return 0;
}

static void resize(pmap_pool *pool, unsigned n)
{
    EXPECT(pmap_pool_resize(pool, n), 0);
    assert_int_equal(pmap_pool_workers(pool), n);
}

static void right(pmap_pool *pool, const struct pm_path *path)
{
    static uint32_t in[N], out[N];
    uint32_t *a = path->in_arena ? pmap_alloc(pool, sizeof in) : in, *b = path->in_arena ? pmap_alloc(pool, sizeof out) : out;
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.retries = 30;
    assert_true(a && b);
    for (uint32_t i = 0; i < N; i++) a[i] = i + 1, b[i] = 0;
    EXPECT(pmap_map(pool, twice, a, N, 4, b, 4, &map), 0);
    for (uint32_t i = 0; i < N; i++) assert_int_equal(b[i], 2 * (i + 1));
    if (a != in) pmap_free(pool, a);
    if (b != out) pmap_free(pool, b);
}

struct gone {
    int pids[8];
    unsigned from, n;
};

static bool have_left(void *arg)
{
    struct gone *g = arg;
    for (unsigned i = g->from; i < g->n; i++)
        if (kill(g->pids[i], 0) == 0) return false;
    return true;
}

static void up_and_down(const struct pm_path *path)
{
    static const unsigned sizes[] = {1, 4, 2, 8, 1, 1, 7, 3};
    pmap_pool *pool = pm_path_open(path, 3);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pmap_stats stats = {.size = sizeof stats};
        pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
        static uint32_t seen[64];
        struct gone g = {.from = sizes[i]};
        g.n = pmap_pool_pids(pool, g.pids, 8);
        resize(pool, sizes[i]);
        right(pool, path);
        expect_there(pool, sizes[i]);
        /* One that has not yet woken up to leave might take part once more. */
        if (!pm_test_wait_until(have_left, &g, 5000)) fail_msg("%s: more than %u workers are still there", path->name, sizes[i]);
        map.chunk = 1;
        map.stats = &stats;
        EXPECT(pmap_map(pool, who, NULL, 64, 0, seen, 4, &map), 0);
        assert_int_equal(stats.workers, sizes[i]);
        assert_int_equal(stats.deaths, 0);
        double parts = stats.transfer_in_s + stats.compute_s + stats.transfer_out_s + stats.dispatch_s + stats.idle_s;
        double wall = stats.wall_s * sizes[i];
        if (parts > 1.1 * wall) fail_msg("%s: %u workers, parts %g, wall %g", path->name, sizes[i], parts, wall);
    }
    pm_path_close(pool);
}

/* Those too many leave, whether they are awake or asleep. */
static void they_do_leave(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 6);
    struct gone g = {.from = 2, .n = 6};
    right(pool, path);
    assert_int_equal(pmap_pool_pids(pool, g.pids, 8), 6);
    resize(pool, 2);
    if (!pm_test_wait_until(have_left, &g, 5000)) fail_msg("%s: too many are still there", path->name);
    assert_int_equal(there(pool), 2);
    right(pool, path);
    pm_path_close(pool);
}

/* ---- While a call runs ---- */

struct caller {
    pmap_pool *pool;
    const struct pm_path *path;
    atomic_bool over;
    unsigned rounds;
    pthread_t thread;
};

static void *call(void *arg)
{
    struct caller *c = arg;
    for (unsigned i = 0; i < c->rounds; i++) right(c->pool, c->path);
    atomic_store(&c->over, true);
    return NULL;
}

static void while_calls_run(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct caller c = {.pool = pool, .path = path, .rounds = 30};
    uint32_t random = 7;
    assert_int_equal(pthread_create(&c.thread, NULL, call, &c), 0);
    while (!atomic_load(&c.over)) {
        random = random * 1664525u + 1013904223u;
        resize(pool, 1 + (random >> 16) % 8);
        sched_yield();
    }
    pthread_join(c.thread, NULL);
    pm_path_close(pool);
}

/* New workers join a call that runs. */
static void new_ones_join(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct meeting_call c;
    begin_meeting(&c, pool, 4);
    resize(pool, 4);
    end_meeting(&c);
    pm_path_close(pool);
}

static void while_workers_die(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct caller c = {.pool = pool, .path = path, .rounds = 20};
    uint32_t random = 11;
    assert_int_equal(pthread_create(&c.thread, NULL, call, &c), 0);
    while (!atomic_load(&c.over)) {
        int pids[8];
        random = random * 1664525u + 1013904223u;
        resize(pool, 1 + (random >> 16) % 6);
        unsigned n = pmap_pool_pids(pool, pids, 8), i = (random >> 8) % n;
        if (random % 4 == 0 && pids[i] > 0) (void)kill(pids[i], SIGKILL);
        (void)usleep(300); /* no wait: else they would be killed before they have done anything */
    }
    pthread_join(c.thread, NULL);
    right(pool, path);
    pm_path_close(pool);
}

/* The pool ends while it grows. */
static void close_at_once(const struct pm_path *path)
{
    for (int round = 0; round < 10; round++) {
        pmap_pool *pool = pm_path_open(path, 1);
        resize(pool, 8);
        if (round % 3 == 0) resize(pool, 2);
        if (round % 2) pm_path_close(pool);
        else EXPECT(pmap_pool_terminate(pool, 0), 0);
    }
}

static void the_most(const struct pm_path *path)
{
    pmap_options o = pm_path_options(path, 2);
    pmap_pool *pool;
    o.most_workers = 300;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    resize(pool, 40);
    expect_there(pool, 40);
    right(pool, path);
    EXPECT(pmap_pool_resize(pool, 301), PMAP_EINVAL);
    EXPECT_TEXT("1 to 300");
    EXPECT(pmap_pool_resize(pool, 0), PMAP_EINVAL);
    EXPECT_TEXT("workers is 0");
    resize(pool, 1);
    right(pool, path);
    pm_path_close(pool);
}

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_pool_resize(pool, 3), PMAP_ENOTSUP);
    EXPECT_TEXT("needs PMAP_PROCESSES");
    pm_path_close(pool);
    EXPECT(pmap_pool_resize(NULL, 3), PMAP_EINVAL);
}

/* No process more is allowed for a while: the pool goes on with what it has, and grows when it may. */
static int forks_fail(void *arg)
{
    const struct pm_path *path = arg;
    pmap_options o = pm_path_options(path, 1);
    pmap_pool *pool;
    uint32_t in[100] = {0}, out[100];
    struct rlimit no, before;
    if (pmap_pool_open(&pool, &o)) return 1;
    int pids[4];
    if (pmap_pool_pids(pool, pids, 4) != 1) return 2;
    if (pmap_map(pool, twice, in, 100, 4, out, 4, NULL)) return 2; /* what the channel needs of threads is there */
    char name[64];
    FILE *f;
    int supervisor = 0;
    (void)snprintf(name, sizeof name, "/proc/%d/stat", pids[0]);
    if (!(f = fopen(name, "re")) || fscanf(f, "%*d (%*[^)]) %*c %d", &supervisor) != 1) return 3;
    (void)fclose(f);
    if (prlimit(supervisor, RLIMIT_NPROC, NULL, &before)) return 4;
    no = before;
    no.rlim_cur = 0;
    if (prlimit(supervisor, RLIMIT_NPROC, &no, NULL)) return 4;
    if (pmap_pool_resize(pool, 3)) return 5;
    if (pmap_map(pool, twice, in, 100, 4, out, 4, NULL)) return 6;
    bool limited = geteuid() != 0; /* root's processes are not counted */
    if (limited && there(pool) != 1) return 7;
    if (prlimit(supervisor, RLIMIT_NPROC, &before, NULL)) return 8;
    if (!pm_test_wait_until(are_there, &(struct so_many){pool, 3}, 5000)) return 9;
    if (pmap_map(pool, twice, in, 100, 4, out, 4, NULL)) return 10;
    return pmap_pool_close(pool) ? 11 : 0;
}

static void a_fork_that_fails(const struct pm_path *path)
{
    assert_int_equal(pm_test_run_child(forks_fail, (void *)(uintptr_t)path, 20000), 0);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"up and down", up_and_down, PM_ON_PROCESSES},
        {"they do leave", they_do_leave, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"while calls run", while_calls_run, PM_ON_PROCESSES},
        {"new ones join", new_ones_join, PM_ON_PROCESSES},
        {"while workers die", while_workers_die, PM_ON_PROCESSES},
        {"close at once", close_at_once, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"the most", the_most, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"refused", refused, PM_ON_SERIAL | PM_ON_THREADS},
        {"a fork that fails", a_fork_that_fails, PM_ON_PROCESSES & ~PM_ON_COPY},
    };
    return PM_PATHS_MAIN("resize", tests);
}

/* A program that sleeps in poll(2) and calls nothing else is told of every death that only it can mend, and is left asleep otherwise. */
#include "tests/futures.h"

#include <sys/mman.h>

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR) continue;
    return n == 1 && (p.revents & POLLIN);
}

/* It does not keep the program's loop busy; but a ring may come late, such as the one of each new supervisor. */
static void expect_quiet(pmap_pool *pool, int fd)
{
    for (double end = seconds() + 2; readable(fd, 0) && seconds() < end;) EXPECT(pmap_pool_poll(pool, 0), 0);
    assert_false(readable(fd, 0));
}

static void counted(pmap_future *future, void *arg)
{
    EXPECT(pmap_future_get(future, 0, NULL, NULL), 0);
    ++*(unsigned *)arg;
}

static bool has_ended(void *arg) { return parent_of(*(const pid_t *)arg) == 0; }

static void kill_supervisor(pmap_pool *pool)
{
    pid_t pid = supervisor_of(pool);
    assert_int_equal(kill(pid, SIGKILL), 0);
    if (!pm_test_wait_until(has_ended, &pid, 10000)) fail_msg("supervisor %d does not end", (int)pid);
}

/* Its worker was in a task, with others behind it: all come to their end by nothing but the turns of the program's loop. */
static void supervisor_dies(const struct pm_path *path)
{
    enum { N = 20 };
    pmap_pool *pool = pm_path_open(path, 1);
    int fd = pmap_pool_fd(pool);
    assert_true(fd >= 0);
    for (int round = 0; round < 3; round++) {
        struct gate *g = new_gate(pool);
        pmap_submit_options o = with_arg(g);
        unsigned calls = 0;
        o.done = counted;
        o.done_arg = &calls;
        for (int i = 0; i < N; i++) EXPECT(pmap_submit(pool, gate_fn, NULL, 0, &o, NULL), 0);
        await_inside(g, 1);
        expect_quiet(pool, fd);
        kill_supervisor(pool);
        for (int turns = 0; calls < N; turns++) {
            if (!readable(fd, 10000)) fail_msg("round %d: %u of %d callbacks after %d turns, and the descriptor is not readable", round, calls, N, turns);
            assert_true(pmap_pool_poll(pool, 0) >= 0);
            open_gate(g);
        }
        expect_quiet(pool, fd);
        pmap_free(pool, g);
    }
    check_close(pool, path, "supervisor killed under poll");
    assert_int_equal(pm_test_reap(5000), 0);
}

/* Nothing was given in: there is nothing to wait for, but workers are there again for what comes. */
static void supervisor_dies_idle(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    int fd = pmap_pool_fd(pool);
    assert_true(fd >= 0);
    for (int round = 0; round < 3; round++) {
        kill_supervisor(pool);
        if (!readable(fd, 10000)) fail_msg("round %d: the descriptor is not readable", round);
        EXPECT(pmap_pool_poll(pool, 0), 0);
        (void)all_workers(pool);
        expect_quiet(pool, fd);
    }
    check_orderly(pool, path, "supervisor killed while idle");
    check_close(pool, path, "supervisor killed while idle");
    assert_int_equal(pm_test_reap(5000), 0);
}

/* A pool whose init hook fails, but not before the program sleeps. */
static int refuse_late(unsigned worker, void **state, void *arg)
{
    (void)worker, (void)state;
    for (double end = seconds() + LONG_S; !atomic_load((_Atomic uint64_t *)arg) && seconds() < end;) sched_yield();
    return 5;
}

static void broken(const struct pm_path *path)
{
    _Atomic uint64_t *go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(go, MAP_FAILED);
    pmap_options o = pm_path_options(path, 2);
    pmap_pool *pool;
    o.init = refuse_late;
    o.hook_arg = (void *)go;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    int fd = pmap_pool_fd(pool);
    assert_true(fd >= 0);
    pmap_future *f = give_square(pool, 3);
    assert_false(readable(fd, 0));
    atomic_store(go, 1);
    if (!readable(fd, 10000)) fail_msg("the pool is broken, and the descriptor is not readable");
    EXPECT(pmap_pool_poll(pool, 0), PMAP_EBROKEN);
    EXPECT_TEXT("returned 5");
    EXPECT(pmap_pool_fd(pool), PMAP_EBROKEN);
    pmap_future_free(f);
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    (void)munmap((void *)go, 4096);
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"supervisor dies", supervisor_dies, PM_ON_SHM},
        {"supervisor dies idle", supervisor_dies_idle, PM_ON_SHM},
        {"broken", broken, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("poll_deaths", tests);
}

/* A pool's life: terminate, close with calls under way, half an open, memory. */
#include "tests/paths.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void workers_end_with_the_pool(const struct pm_path *path)
{
    int pids[3] = {0};
    pmap_pool *pool = pm_path_open(path, 3);
    EXPECT(pm_small_map(pool), 0);
    assert_int_equal(pmap_pool_pids(pool, pids, 3), 3);
    for (int i = 0; i < 3; i++) assert_int_equal(kill(pids[i], 0), 0);
    int one[2] = {-7, -7};
    assert_int_equal(pmap_pool_pids(pool, one, 1), 3);
    assert_int_equal(one[0], pids[0]);
    assert_int_equal(one[1], -7); /* no more than asked for */
    pm_path_close(pool);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kill(pids[i], 0), -1);
        assert_int_equal(errno, ESRCH);
    }
}

static void two_pools(const struct pm_path *path)
{
    pmap_pool *a = pm_path_open(path, 2), *b = pm_path_open(path, 3);
    for (int i = 0; i < 10; i++) {
        EXPECT(pm_small_map(a), 0);
        EXPECT(pm_small_map(b), 0);
    }
    void *of_a = pmap_alloc(a, 100);
    pmap_free(b, of_a); /* the wrong pool: ignored, and said */
    EXPECT_TEXT("pmap_free");
    pm_path_close(a);
    EXPECT(pm_small_map(b), 0);
    pmap_pool *c = pm_path_open(path, 1);
    pm_path_close(b);
    EXPECT(pm_small_map(c), 0);
    pm_path_close(c);
}

/* ---- Calls under way ---- */

struct held { /* in pmap_alloc() memory */
    _Atomic int inside, let_go;
};

static int hold(pmap_task *task, const void *item, void *result)
{
    (void)item;
    struct held *held = pmap_task_arg(task);
    atomic_store(&held->inside, 1);
    PM_HOLD(task, &held->let_go);
    *(char *)result = 1;
    return 0;
}

static int never_end(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    atomic_store(&((struct held *)pmap_task_arg(task))->inside, 1);
    for (;;) pause();
    return 0;
}

/* SIGTERM and all else that can be is blocked and ignored. */
static int never_end_and_hear_nothing(pmap_task *task, const void *item, void *result)
{
    sigset_t all;
    sigfillset(&all);
    (void)signal(SIGTERM, SIG_IGN);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
    return never_end(task, item, result);
}

struct call {
    pmap_pool *pool;
    pmap_item_fn *function;
    struct held *held;
    char *out;
    size_t n;
    int value;
};

static void *call(void *arg)
{
    struct call *c = arg;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = c->held;
    c->value = pmap_map(c->pool, c->function, NULL, c->n, 0, c->out, 1, &options);
    return NULL;
}

static bool is_inside(void *arg) { return atomic_load(&((struct held *)arg)->inside) != 0; }

/* A thread with a call of `n` items under way. */
static struct call begin_call(pmap_pool *pool, pmap_item_fn *function, size_t n, char *out)
{
    struct call c = {.pool = pool, .function = function, .n = n, .out = out, .held = pmap_alloc(pool, sizeof *c.held)};
    assert_non_null(c.held);
    memset(c.held, 0, sizeof *c.held);
    return c;
}

static void terminate_with(const struct pm_path *path, pmap_item_fn *function, double grace)
{
    static char out[1000];
    pmap_pool *pool = pm_path_open(path, 2);
    struct call c = begin_call(pool, function, sizeof out, out);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, call, &c), 0);
    assert_true(pm_test_wait_until(is_inside, c.held, 10000));
    double from = seconds();
    EXPECT(pmap_pool_terminate(pool, grace), 0);
    double took = seconds() - from;
    pthread_join(thread, NULL);
    assert_int_equal(c.value, PMAP_ECANCELLED);
    if (took > grace + 8) fail_msg("with a grace of %g s it took %g s", grace, took);
}

static void terminate_ends_calls(const struct pm_path *path)
{
    terminate_with(path, hold, 0);
    terminate_with(path, hold, 5); /* it looks at pmap_task_cancelled(): no need to wait that long, but it may */
}

static void terminate_kills_what_does_not_end(const struct pm_path *path)
{
    terminate_with(path, never_end, 0);
    terminate_with(path, never_end, 0.3);
    terminate_with(path, never_end_and_hear_nothing, 0);
}

static void *close_it(void *arg)
{
    struct call *c = arg;
    c->value = pmap_pool_close(c->pool);
    return NULL;
}

/* Close waits for the call; what comes meanwhile is refused. */
static void close_waits_for_calls(const struct pm_path *path)
{
    char out[8] = {0};
    pmap_pool *pool = pm_path_open(path, 2);
    struct call c = begin_call(pool, hold, sizeof out, out), closing = {.pool = pool};
    pthread_t caller, closer;
    assert_int_equal(pthread_create(&caller, NULL, call, &c), 0);
    assert_true(pm_test_wait_until(is_inside, c.held, 10000));
    assert_int_equal(pthread_create(&closer, NULL, close_it, &closing), 0);
    int e = 0;
    for (double end = seconds() + 10; e == 0 && seconds() < end;) {
        pmap_stats_t stats = {.size = sizeof stats};
        e = pmap_stats(pool, &stats);
    }
    assert_int_equal(e, PMAP_ECLOSED);
    EXPECT_TEXT("pmap_stats: the pool is closed");
    EXPECT(pm_small_map(pool), PMAP_ECLOSED);
    assert_null(pmap_alloc(pool, 8));
    EXPECT_TEXT("pmap_alloc");
    atomic_store(&c.held->let_go, 1);
    pthread_join(caller, NULL);
    pthread_join(closer, NULL);
    EXPECT(c.value, 0);
    EXPECT(closing.value, 0);
    for (size_t i = 0; i < sizeof out; i++) assert_int_equal(out[i], 1);
}

/* ---- Half an open ---- */


static const struct pm_path *limited_path;
static unsigned limit;

/* 0 = as it should be, else the line. */
static int open_with_few_processes(void *arg)
{
    (void)arg;
    struct rlimit few = {limit, limit};
    uid_t other = 100000u + (uid_t)getpid(); /* whose processes are none but this test's, also where it runs twice at once */
    if (geteuid() == 0 && (setgid(other) || setuid(other))) return 77;
    if (geteuid() == 0 || setrlimit(RLIMIT_NPROC, &few)) return 77;
    unsetenv("TMPDIR"); /* that of the tests is closed to others */
    pmap_options options = pm_path_options(limited_path, 6);
    pmap_pool *pool = NULL;
    int e = pmap_pool_open(&pool, &options);
    if (e) {
        fprintf(stderr, "    limit %u: %s\n", limit, pmap_error());
        return e == PMAP_ESYSTEM && !pool && strstr(pmap_error(), "fork") ? 0 : 2;
    }
    if (pm_small_map(pool)) return 3;
    return pmap_pool_close(pool) ? 4 : 0;
}

static void a_fork_that_fails_half_way(const struct pm_path *path)
{
    limited_path = path;
    for (limit = 1; limit <= 10; limit++) {
        int status = pm_test_run_child(open_with_few_processes, NULL, 20000);
        if (status == 77 << 8) skip();
        if (status) fail_msg("limit %u: wait status %#x", limit, (unsigned)status);
    }
}

/* ---- Memory ---- */

static size_t arena_bytes(void) /* as the kernel counts them for all memfds "pmap" that are open here */
{
    size_t sum = 0;
    for (int fd = 0; fd < 200; fd++) {
        char link[64], target[64] = "";
        struct stat status;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, target, sizeof target - 1) > 0 && strstr(target, "memfd:pmap") && fstat(fd, &status) == 0)
            sum += (size_t)status.st_blocks * 512;
    }
    return sum;
}

static void memory_is_taken_and_given_back(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    size_t before = arena_bytes();
    for (int i = 0; i < 3; i++) {
        char *p = pmap_alloc(pool, 64 * MIB);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (2 * MIB), 0);
        assert_true(arena_bytes() >= before + 64 * MIB);
        memset(p, 1, 64 * MIB);
        pmap_free(pool, p);
        if (arena_bytes() > before + 4 * MIB) fail_msg("%zu MiB before, %zu MiB after", before / MIB,
                                                       arena_bytes() / MIB);
    }
    pm_path_close(pool);
    assert_int_equal(arena_bytes(), 0);
}

static void odd_amounts(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    char *none = pmap_alloc(pool, 0), *none_too = pmap_alloc(pool, 0), *one = pmap_alloc(pool, 1);
    assert_true(none && none_too && one && none != none_too);
    assert_int_equal(((uintptr_t)none | (uintptr_t)none_too | (uintptr_t)one) % 64, 0);
    *one = 5;
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX / 2, (size_t)1 << 50, SIZE_MAX - 63, SIZE_MAX - 4096};
    for (size_t i = 0; i < 5; i++) {
        char text[32];
        assert_null(pmap_alloc(pool, huge[i]));
        snprintf(text, sizeof text, "%zu", huge[i]);
        EXPECT_TEXT("pmap_alloc");
        EXPECT_TEXT(text);
    }
    assert_null(pmap_alloc(NULL, 1));
    EXPECT_TEXT("pmap_alloc");
    assert_int_equal(*one, 5);
    pmap_free(pool, NULL);
    pmap_free(pool, none);
    pmap_free(pool, none_too);
    pmap_free(pool, one);
    pm_path_close(pool);
}

static void wrong_frees_are_said_and_ignored(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    static char not_ours[64];
    char *p = pmap_alloc(pool, 1000), *q = pmap_alloc(pool, 1000);
    assert_true(p && q);
    memset(q, 3, 1000);
    void *wrong[] = {not_ours, p + 64, p + 1, (void *)(uintptr_t)8};
    for (size_t i = 0; i < 4; i++) {
        char text[40];
        pmap_free(pool, wrong[i]);
        snprintf(text, sizeof text, "pmap_free: %p", wrong[i]);
        EXPECT_TEXT(text);
    }
    pmap_free(pool, p);
    EXPECT(pmap_pool_open(NULL, NULL), PMAP_EINVAL); /* another text */
    pmap_free(pool, p);
    EXPECT_TEXT("or is free already");
    for (size_t i = 0; i < 1000; i++) assert_int_equal(q[i], 3);
    EXPECT(pm_small_map(pool), 0);
    pm_path_close(pool);
}

static int look_at_memory(pmap_task *task, const void *item, void *result)
{
    (void)item;
    char **memory = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    char before = memory[i][i];
    memory[i][i] = (char)(before + 1);
    *(char *)result = before;
    return 0;
}

/* Allocated long after the workers were forked, and they see it at the same address. */
static void workers_see_what_is_allocated_later(const struct pm_path *path)
{
    enum { N = 100 };
    pmap_pool *pool = pm_path_open(path, 3);
    for (int round = 0; round < 3; round++) {
        char **memory = pmap_alloc(pool, N * sizeof *memory), out[N];
        for (size_t i = 0; i < N; i++) {
            memory[i] = pmap_alloc(pool, i % 10 ? i + 1 : 3 * MIB);
            assert_non_null(memory[i]);
            memory[i][i] = (char)i;
        }
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.arg = memory;
        EXPECT(pmap_map(pool, look_at_memory, NULL, N, 0, out, 1, &options), 0);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(out[i], i);
            assert_int_equal(memory[i][i], i + 1);
            pmap_free(pool, memory[i]);
        }
        pmap_free(pool, memory);
    }
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"workers end with the pool", workers_end_with_the_pool, PM_ON_PROCESSES},
    {"two pools", two_pools, PM_ON_ALL},
    {"terminate ends calls", terminate_ends_calls, PM_ON_ALL},
    {"terminate kills what does not end", terminate_kills_what_does_not_end, PM_ON_PROCESSES},
    {"close waits for calls", close_waits_for_calls, PM_ON_ALL},
    /* Not over ZeroMQ: libzmq aborts a program in which it cannot start its threads, and the supervisor tries again and again to use up
     * what is left. */
    {"a fork that fails half-way", a_fork_that_fails_half_way, PM_ON_SHARED},
    {"memory is taken and given back", memory_is_taken_and_given_back, PM_ON_ALL},
    {"odd amounts", odd_amounts, PM_ON_ALL},
    {"wrong frees are said and ignored", wrong_frees_are_said_and_ignored, PM_ON_ALL},
    {"workers see what is allocated later", workers_see_what_is_allocated_later, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("pool", tests); }

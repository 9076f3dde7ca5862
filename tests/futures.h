/* What the tests of futures share: tasks that answer, tasks that wait at a gate until the test opens it, and one call that gives them in.
 * Used by test_future, test_future_deaths and test_wait. */
#ifndef PM_TESTS_FUTURES_H
#define PM_TESTS_FUTURES_H

#include "tests/deaths.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#define PM_ON_FUTURES (PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM)
#define LONG_S 20.0 /* longer than anything here takes */

/* Lies in pmap_alloc() memory. */
struct gate {
    _Atomic uint32_t open, inside, ran; /* tasks that are behind the gate's front, that have gone through */
    _Atomic int pid;                    /* of the last that came to it */
    _Atomic uint32_t runs[64];
};

static inline struct gate *new_gate(pmap_pool *pool)
{
    struct gate *g = pmap_alloc(pool, sizeof *g);
    if (!g) fail_msg("no memory for a gate: %s", pmap_error());
    memset(g, 0, sizeof *g);
    return g;
}

static inline void open_gate(struct gate *g) { atomic_store(&g->open, 1); }

/* Comes to the gate, and waits there; the result is the input. */
static inline int gate_fn(pmap_task *task, const void *in, size_t bytes)
{
    struct gate *g = pmap_task_arg(task);
    atomic_store(&g->pid, (int)getpid());
    atomic_fetch_add(&g->inside, 1);
    double end = seconds() + LONG_S;
    while (!atomic_load(&g->open)) {
        struct timespec t = {.tv_nsec = 100000};
        if (pmap_task_cancelled(task)) return 77;
        if (seconds() > end) return 78;
        nanosleep(&t, NULL);
    }
    atomic_fetch_add(&g->ran, 1);
    void *out = pmap_task_result(task, bytes);
    if (!out) return 79;
    if (bytes) memcpy(out, in, bytes);
    return 0;
}

/* Every byte of the result is one of the input plus 1. */
static inline int plus_one_fn(pmap_task *task, const void *in, size_t bytes)
{
    const unsigned char *from = in;
    unsigned char *out = pmap_task_result(task, bytes);
    if (!out) return 1;
    for (size_t i = 0; i < bytes; i++) out[i] = (unsigned char)(from[i] + 1);
    return 0;
}

static inline int square_fn(pmap_task *task, const void *in, size_t bytes)
{
    uint64_t x, *out = pmap_task_result(task, sizeof x);
    if (!out || bytes != sizeof x) return 1;
    memcpy(&x, in, sizeof x);
    *out = x * x;
    return 0;
}

static inline int count_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)in, (void)bytes;
    atomic_fetch_add(&((struct gate *)pmap_task_arg(task))->ran, 1);
    return 0;
}

static inline pmap_submit_options with_arg(void *arg)
{
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.arg = arg;
    return o;
}

static inline pmap_future *give(pmap_pool *pool, pmap_work_fn *fn, const void *in, size_t bytes, const pmap_submit_options *o)
{
    pmap_future *f = NULL;
    EXPECT(pmap_submit(pool, fn, in, bytes, o, &f), 0);
    assert_non_null(f);
    return f;
}

static inline pmap_future *give_square(pmap_pool *pool, uint64_t x) { return give(pool, square_fn, &x, sizeof x, NULL); }

static inline void expect_square(pmap_future *f, uint64_t x)
{
    const void *result;
    size_t bytes;
    uint64_t y;
    EXPECT(pmap_future_get(f, LONG_S, &result, &bytes), 0);
    assert_int_equal(bytes, sizeof y);
    memcpy(&y, result, sizeof y);
    if (y != x * x) fail_msg("the square of %llu is not %llu", (unsigned long long)x, (unsigned long long)y);
}

struct at_gate {
    struct gate *gate;
    uint32_t n;
};

static inline bool are_inside(void *arg)
{
    struct at_gate *a = arg;
    return atomic_load(&a->gate->inside) >= a->n;
}

static inline void await_inside(struct gate *g, uint32_t n)
{
    struct at_gate a = {g, n};
    if (!pm_test_wait_until(are_inside, &a, 10000)) fail_msg("%u tasks are at the gate, of %u", atomic_load(&g->inside), n);
}

static inline bool have_run(void *arg)
{
    struct at_gate *a = arg;
    return atomic_load(&a->gate->ran) >= a->n;
}

/* Bytes that all of this process's arenas have committed. */
static inline size_t arena_bytes(void)
{
    size_t bytes = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], to[300];
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        ssize_t n = readlink(path, to, sizeof to - 1);
        struct stat st;
        to[n > 0 ? n : 0] = 0;
        if (strstr(to, "/memfd:pmap") && stat(path, &st) == 0) bytes += (size_t)st.st_blocks * 512;
    }
    closedir(d);
    return bytes;
}

#endif

/* Workers of the ZeroMQ channel that die, hang or lose their connection: the results of a chunk are lost with its worker, so it is sent
 * again whole, and yet nothing runs too often or is listed twice. */
#include "tests/zmq.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct trap { /* in pmap_alloc() memory */
    size_t at[2];
    atomic_int runs[2];
};

static void trapped(pmap_task *task, size_t index)
{
    struct trap *trap = pmap_task_arg(task);
    for (int i = 0; i < 2; i++)
        if (index == trap->at[i]) {
            atomic_fetch_add(&trap->runs[i], 1);
            raise(SIGKILL);
        }
}

static int square_or_die(pmap_task *task, const void *item, void *result)
{
    trapped(task, pmap_task_index(task));
    return square(task, item, result);
}

static int squares_or_die(pmap_task *task, const void *items, size_t count, void *results)
{
    for (size_t i = 0; i < count; i++) trapped(task, pmap_task_index(task) + i);
    return squares(task, items, count, results);
}

/* Two bad items of one chunk: each runs retries + 1 times, each fails, and all else is right. */
static void poison(void **state)
{
    (void)state;
    enum { N = 20000 };
    pmap_pool *pool = open_pool(2);
    struct trap *trap = pmap_alloc(pool, sizeof *trap);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    int *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++) in[i] = i;
    m.arg = trap;
    m.chunk = 1000;
    static const size_t places[][2] = {{7777, 7780}, {7000, 7999}, {0, N - 1}};
    for (int k = 0; k < 6; k++) {
        size_t n = 0;
        *trap = (struct trap){{places[k / 2][0], places[k / 2][1]}, {0, 0}};
        memset(out, 0xee, N * sizeof *out);
        int e = k & 1 ? pmap_chunks(pool, squares_or_die, in, N, sizeof *in, out, sizeof *out, &m)
                      : pmap_map(pool, square_or_die, in, N, sizeof *in, out, sizeof *out, &m);
        assert_int_equal(e, PMAP_EITEMS);
        const pmap_failure *f = pmap_failures(pool, &n);
        assert_int_equal(n, 2);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(f[i].item, trap->at[i]);
            assert_int_equal(f[i].cause, PMAP_CAUSE_SIGNAL);
            assert_int_equal(f[i].value, SIGKILL);
            assert_int_equal(f[i].attempts, 3);
            /* In a chunk function the first death is the chunk's, and the call that dies at the one may not reach the other. */
            if (k & 1) assert_in_range(atomic_load(&trap->runs[i]), 2, 3);
            else assert_int_equal(atomic_load(&trap->runs[i]), 3);
        }
        for (int i = 0; i < N; i++)
            if ((size_t)i != trap->at[0] && (size_t)i != trap->at[1]) assert_int_equal(out[i], expected(i));
    }
    free(in);
    free(out);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int die_once(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) % 500 == 250 && pmap_task_attempt(task) == 0) raise(SIGKILL);
    return square(task, item, result);
}

static int fail_or_die_once(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) % 100 == 3) return 9;
    return die_once(task, item, result);
}

/* A chunk that runs again passes over what has failed already: nothing is listed twice. */
static void deaths_behind_failures(void **state)
{
    (void)state;
    enum { N = 5000 };
    pmap_pool *pool = open_pool(2);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    struct pmap_stats s = {.size = sizeof s};
    int *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    size_t n = 0;
    for (int i = 0; i < N; i++) in[i] = i;
    m.chunk = 500;
    m.stats = &s;
    assert_int_equal(pmap_map(pool, fail_or_die_once, in, N, sizeof *in, out, sizeof *out, &m), PMAP_EITEMS);
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, N / 100);
    assert_int_equal(s.failed, N / 100);
    assert_true(s.deaths >= N / 500);
    for (size_t i = 0; i < n; i++) assert_true(f[i].item == 100 * i + 3 && f[i].cause == PMAP_CAUSE_CODE && f[i].value == 9);
    for (int i = 0; i < N; i++)
        if (i % 100 != 3) assert_int_equal(out[i], expected(i));
    free(in);
    free(out);
    assert_int_equal(pmap_pool_close(pool), 0);
}

struct killer {
    pmap_pool *pool;
    atomic_bool end;
    atomic_int *run, next; /* items run; when to kill again */
    unsigned kills;
};

static bool moved_on(void *arg)
{
    struct killer *k = arg;
    return atomic_load(k->run) >= atomic_load(&k->next) || atomic_load(&k->end);
}

static void *kill_workers(void *arg)
{
    struct killer *k = arg;
    int pids[8];
    for (unsigned i = 0; !atomic_load(&k->end); i++) {
        unsigned n = pmap_pool_pids(k->pool, pids, 8);
        int pid = pids[i % n];
        if (pid > 0 && kill(pid, SIGKILL) == 0) k->kills++;
        /* Paced by what the workers do, not by time: else under a sanitizer none would live long enough to do anything. */
        atomic_store(&k->next, atomic_load(k->run) + 400);
        (void)pm_test_wait_until(moved_on, k, 1000);
    }
    return NULL;
}

static int slow_square(pmap_task *task, const void *item, void *result)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    for (long end = t.tv_nsec + 5000, now = t.tv_nsec; now >= t.tv_nsec && now < end;) {
        struct timespec u;
        clock_gettime(CLOCK_MONOTONIC, &u);
        now = u.tv_nsec;
    }
    (void)atomic_fetch_add((atomic_int *)pmap_task_arg(task), 1);
    return square(task, item, result);
}

static void kills_from_outside(void **state)
{
    (void)state;
    enum { N = 40000 };
    struct killer k = {.pool = open_pool(2)};
    pthread_t thread;
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    int *in = malloc(N * sizeof *in), *out = calloc(N, sizeof *out);
    for (int i = 0; i < N; i++) in[i] = i;
    k.run = m.arg = pmap_alloc(k.pool, sizeof *k.run);
    atomic_store(k.run, 0);
    m.retries = 30;
    m.chunk = 100;
    assert_int_equal(pthread_create(&thread, NULL, kill_workers, &k), 0);
    int e = pmap_map(k.pool, slow_square, in, N, sizeof *in, out, sizeof *out, &m);
    atomic_store(&k.end, true);
    if (e) print_error("%s; %u kills\n", pmap_error(), k.kills);
    pthread_join(thread, NULL);
    assert_int_equal(e, 0);
    assert_true(k.kills > 0);
    for (int i = 0; i < N; i++) assert_int_equal(out[i], expected(i));
    free(in);
    free(out);
    assert_int_equal(pmap_pool_close(k.pool), 0);
}

static int close_everything(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) == 3) (void)close_range(3, ~0u, 0);
    return square(task, item, result);
}

static int close_the_connection(pmap_task *task, const void *item, void *result)
{
    struct stat status;
    for (int fd = 3; pmap_task_index(task) == 3 && fd < 64; fd++)
        if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) (void)close(fd);
    return square(task, item, result);
}

static int end_the_thread(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) == 3) pthread_exit(NULL);
    return square(task, item, result);
}

static int never_return(pmap_task *task, const void *item, void *result)
{
    while (pmap_task_index(task) == 3) pause();
    return square(task, item, result);
}

static int stop_and_wait(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) == 3) raise(SIGSTOP);
    return square(task, item, result);
}

static int no_core(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) == 3) abort();
    return square(task, item, result);
}

static void functions_that_end_their_worker(void **state)
{
    (void)state;
    static const struct { pmap_item_fn *fn; int cause; double timeout; } bad[] = {
        {close_everything, PMAP_CAUSE_SIGNAL, 0}, {close_the_connection, PMAP_CAUSE_SIGNAL, 0}, {end_the_thread, PMAP_CAUSE_EXIT, 0},
        {never_return, PMAP_CAUSE_TIMEOUT, 0.2},
        {stop_and_wait, PMAP_CAUSE_TIMEOUT, 0.2}, {no_core, PMAP_CAUSE_SIGNAL, 0}};
    int in[20], out[20];
    pmap_pool *pool = open_pool(2);
    for (int i = 0; i < 20; i++) in[i] = i;
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
        size_t n = 0;
        m.retries = 1;
        m.chunk = 1;
        m.timeout_s = bad[k].timeout;
        assert_int_equal(pmap_map(pool, bad[k].fn, in, 20, sizeof in[0], out, sizeof out[0], &m), PMAP_EITEMS);
        const pmap_failure *f = pmap_failures(pool, &n);
        assert_int_equal(n, 1);
        assert_int_equal(f[0].item, 3);
        assert_int_equal(f[0].attempts, 2);
        assert_int_equal(f[0].cause, bad[k].cause);
        for (int i = 0; i < 20; i++)
            if (i != 3) assert_int_equal(out[i], expected(i));
    }
    assert_int_equal(pmap_pool_close(pool), 0);
}

static void once_is_once(void **state)
{
    (void)state;
    enum { N = 2000 };
    pmap_pool *pool = open_pool(2);
    struct trap *trap = pmap_alloc(pool, sizeof *trap);
    *trap = (struct trap){{77, 1500}, {0, 0}};
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    int *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    size_t n = 0;
    for (int i = 0; i < N; i++) in[i] = i;
    m.arg = trap;
    m.once = 1;
    m.chunk = 100;
    assert_int_equal(pmap_map(pool, square_or_die, in, N, sizeof *in, out, sizeof *out, &m), PMAP_EITEMS);
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, 2);
    assert_true(f[0].item == 77 && f[0].count == 1 && f[1].item == 1500 && f[1].count == 1);
    assert_true(atomic_load(&trap->runs[0]) == 1 && atomic_load(&trap->runs[1]) == 1);
    for (int i = 0; i < N; i++)
        if (i != 77 && i != 1500) assert_int_equal(out[i], expected(i));
    free(in);
    free(out);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int kill_supervisor(pmap_task *task, const void *item, void *result)
{
    atomic_int *done = pmap_task_arg(task);
    if (pmap_task_index(task) == 10 && atomic_fetch_add(done, 1) == 0) {
        (void)kill(getppid(), SIGKILL);
        for (;;) pause(); /* ends with it */
    }
    return square(task, item, result);
}

static void another_supervisor(void **state)
{
    (void)state;
    enum { N = 400 };
    pmap_pool *pool = open_pool(2);
    atomic_int *done = pmap_alloc(pool, sizeof *done);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    int in[N], out[N];
    atomic_store(done, 0);
    m.arg = done;
    for (int i = 0; i < N; i++) in[i] = i;
    assert_int_equal(pmap_map(pool, kill_supervisor, in, N, sizeof in[0], out, sizeof out[0], &m), 0);
    for (int i = 0; i < N; i++) assert_int_equal(out[i], expected(i));
    assert_int_equal(pmap_pool_close(pool), 0);
    assert_int_equal(pm_test_reap(2000), 0); /* the first one's workers are this program's now */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(poison),
        cmocka_unit_test(deaths_behind_failures),
        cmocka_unit_test(kills_from_outside),
        cmocka_unit_test(functions_that_end_their_worker),
        cmocka_unit_test(once_is_once),
        cmocka_unit_test(another_supervisor),
    };
    return PM_TEST_MAIN("zmq_deaths", tests);
}

/* The ZeroMQ channel through the public calls: results, deaths, ends, and messages from strangers.  The last read the handle's insides (only
 * fields, no internal function) to speak to the pool's own socket.  Uses libzmq. */
#include "tests/harness.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "pmap/pool.h"
#include "workers/processes.h"
#include "workers/zmq.h"

static pmap_pool *open_pool(unsigned workers)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool = NULL;
    o.channel = PMAP_ZMQ;
    o.workers = workers;
    assert_int_equal(pmap_pool_open(&pool, &o), 0);
    return pool;
}

static struct pm_processes *inside(pmap_pool *pool) { return (struct pm_processes *)(void *)pool->executor; }

static size_t pool_directories(void)
{
    size_t n = 0;
    DIR *d = opendir(getenv("TMPDIR"));
    for (struct dirent *e; d && (e = readdir(d));) n += strncmp(e->d_name, "pmap-", 5) == 0;
    if (d) closedir(d);
    return n;
}

/* ---- Results ---- */

static int square(pmap_task *task, const void *item, void *result)
{
    int x;
    memcpy(&x, item, sizeof x);
    x = x * x + (int)(pmap_task_index(task) & 1);
    memcpy(result, &x, sizeof x);
    return 0;
}

static int squares(pmap_task *task, const void *items, size_t count, void *results)
{
    const int *x = items;
    int *y = results;
    for (size_t i = 0; i < count; i++) y[i] = x[i] * x[i] + (int)((pmap_task_index(task) + i) & 1);
    return 0;
}

static int expected(int i) { return i * i + (i & 1); }

static void maps(void **state)
{
    (void)state;
    enum { N = 40000 };
    pmap_pool *pool = open_pool(3);
    int *memory[2][2] = {{malloc(N * sizeof(int)), malloc(N * sizeof(int))}, {pmap_alloc(pool, N * sizeof(int)), pmap_alloc(pool, N * sizeof(int))}};
    static const size_t counts[] = {0, 1, 2, 7, N};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < N; i++) memory[k][0][i] = i;
    for (int k = 0; k < 4; k++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            int *in = memory[k & 1][0], *out = memory[k / 2][1];
            memset(out, 0xee, N * sizeof *out);
            assert_int_equal(pmap_map(pool, square, in, counts[c], sizeof *in, out, sizeof *out, NULL), 0);
            for (int i = 0; i < N; i++) assert_int_equal(out[i], i < (int)counts[c] ? expected(i) : (int)0xeeeeeeee);
            memset(out, 0xee, N * sizeof *out);
            assert_int_equal(pmap_chunks(pool, squares, in, counts[c], sizeof *in, out, sizeof *out, NULL), 0);
            for (int i = 0; i < (int)counts[c]; i++) assert_int_equal(out[i], expected(i));
        }
    free(memory[0][0]);
    free(memory[0][1]);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int count_range(pmap_task *task, size_t first, size_t last)
{
    atomic_int *seen = pmap_task_arg(task);
    for (size_t i = first; i < last; i++) atomic_fetch_add(&seen[i], 1);
    return 0;
}

static int add_up(pmap_task *task, const void *items, size_t count, void *result)
{
    (void)task;
    const double *x = items;
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += x[i];
    memcpy(result, &sum, sizeof sum);
    return 0;
}

static void combine(void *acc, const void *partial, void *arg)
{
    (void)arg;
    *(double *)acc += *(const double *)partial;
}

static void ranges_and_reductions(void **state)
{
    (void)state;
    enum { N = 100000 };
    pmap_pool *pool = open_pool(2);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    atomic_int *seen = pmap_alloc(pool, (N + 10) * sizeof *seen);
    memset(seen, 0, (N + 10) * sizeof *seen);
    m.arg = seen;
    assert_int_equal(pmap_for(pool, count_range, 5, N, &m), 0);
    for (int i = 0; i < N + 10; i++) assert_int_equal(atomic_load(&seen[i]), i >= 5 && i < N);
    m.chunk = 1; /* more than one round */
    assert_int_equal(pmap_for(pool, count_range, 5, N, &m), 0);
    for (int i = 0; i < N + 10; i++) assert_int_equal(atomic_load(&seen[i]), 2 * (i >= 5 && i < N));
    double *x = malloc(N * sizeof *x), acc = 1, serial = 1;
    for (int i = 0; i < N; i++) x[i] = 1.0 / (i + 1);
    assert_int_equal(pmap_reduce(pool, add_up, combine, x, N, sizeof *x, &acc, sizeof acc, NULL), 0);
    pmap_pool *reference;
    pmap_options o = PMAP_OPTIONS_INIT;
    o.executor = PMAP_SERIAL;
    assert_int_equal(pmap_pool_open(&reference, &o), 0);
    assert_int_equal(pmap_reduce(reference, add_up, combine, x, N, sizeof *x, &serial, sizeof serial, NULL), 0);
    assert_memory_equal(&acc, &serial, sizeof acc);
    free(x);
    assert_int_equal(pmap_pool_close(reference), 0);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int invert(pmap_task *task, const void *item, void *result)
{
    size_t n = *(size_t *)pmap_task_arg(task);
    const unsigned char *in = item;
    unsigned char *out = result;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)~in[i];
    return 0;
}

static void item_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 3, 16, 4096, 65537, 1 << 20, 10 << 20};
    pmap_pool *pool = open_pool(2);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t size = sizes[s], count = size > 1000000 ? 5 : 50, bytes = size * count;
        pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
        m.arg = &size;
        m.arg_size = sizeof size;
        unsigned char *in = malloc(bytes + 1), *out = malloc(bytes);
        for (size_t i = 0; i <= bytes; i++) in[i] = (unsigned char)(i * 31 + i / 251);
        for (int shift = 0; shift < 2; shift++) { /* also from an odd address */
            assert_int_equal(pmap_map(pool, invert, in + shift, count, size, out, size, &m), 0);
            for (size_t i = 0; i < bytes; i++)
                if (out[i] != (unsigned char)~in[i + (size_t)shift]) fail_msg("size %zu: byte %zu is wrong", size, i);
        }
        free(in);
        free(out);
    }
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int aligned(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)result;
    return (uintptr_t)item % 16 ? 1 : 0;
}

static void items_lie_as_their_type_wants(void **state)
{
    (void)state;
    pmap_pool *pool = open_pool(2);
    char *in = malloc(64 * 65536); /* 16-aligned */
    memset(in, 0, 64 * 65536);
    assert_int_equal(pmap_map(pool, aligned, in, 64, 65536, NULL, 0, NULL), 0);
    assert_int_equal(pmap_map(pool, aligned, in, 4096, 16, NULL, 0, NULL), 0);
    free(in);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static void costs_add_up(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    pmap_pool *pool = open_pool(2);
    struct pmap_stats s = {.size = sizeof s};
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    m.stats = &s;
    int *in = calloc(N, sizeof *in), *out = calloc(N, sizeof *out);
    assert_int_equal(pmap_map(pool, square, in, N, sizeof *in, out, sizeof *out, &m), 0);
    double sum = s.transfer_in_s + s.compute_s + s.transfer_out_s + s.dispatch_s + s.idle_s, all = s.workers * s.wall_s;
    if (!(sum > 0.95 * all && sum < 1.05 * all))
        fail_msg("in %g + compute %g + out %g + dispatch %g + idle %g = %g s, not %u x %g s", s.transfer_in_s, s.compute_s, s.transfer_out_s,
                 s.dispatch_s, s.idle_s, sum, s.workers, s.wall_s);
    assert_int_equal(s.bytes_copied, 2 * N * sizeof(int));
    assert_int_equal(s.items, N);
    assert_true(s.chunks >= 2 && s.compute_s > 0);
    free(in);
    free(out);
    assert_int_equal(pmap_pool_close(pool), 0);
}

/* ---- Deaths ---- */

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

/* ---- Ends ---- */

static int fail_at_100(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    return pmap_task_index(task) == 100 ? 5 : 0;
}

static void stop_on_error(void **state)
{
    (void)state;
    enum { N = 1000000 };
    pmap_pool *pool = open_pool(2);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    size_t n = 0, cancelled = 0;
    char *in = calloc(N, 1);
    m.on_error = PMAP_ON_ERROR_STOP;
    m.chunk = 50;
    assert_int_equal(pmap_map(pool, fail_at_100, in, N, 1, NULL, 0, &m), PMAP_EITEMS);
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_true(n >= 2);
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        if (f[i].cause == PMAP_CAUSE_CANCELLED) cancelled += f[i].count;
        else found = f[i].item == 100 && f[i].value == 5;
    }
    assert_true(found && cancelled > N / 2);
    assert_int_equal(pmap_for(pool, count_range, 0, 0, NULL), 0);
    free(in);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static void unused_pools(void **state)
{
    (void)state;
    size_t before = pool_directories();
    for (int i = 0; i < 3; i++) {
        pmap_pool *pool = open_pool(2);
        assert_int_equal(pool_directories(), before + 1);
        assert_int_equal(pmap_pool_close(pool), 0);
        assert_int_equal(pool_directories(), before);
    }
}

struct mapper {
    pmap_pool *pool;
    int error;
    bool right;
    atomic_int *started;
};

static void *map_many(void *arg)
{
    enum { N = 3000 };
    struct mapper *me = arg;
    int *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    me->right = true;
    for (int i = 0; i < N; i++) in[i] = i;
    for (int k = 0; k < 20 && me->right; k++) {
        me->error = pmap_map(me->pool, square, in, N, sizeof *in, out, sizeof *out, NULL);
        for (int i = 0; i < N; i++) me->right = me->right && out[i] == expected(i);
    }
    free(in);
    free(out);
    return NULL;
}

static void several_threads(void **state)
{
    (void)state;
    struct mapper m[3];
    pthread_t thread[3];
    pmap_pool *pool = open_pool(2);
    for (int i = 0; i < 3; i++) {
        m[i] = (struct mapper){.pool = pool};
        assert_int_equal(pthread_create(&thread[i], NULL, map_many, &m[i]), 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 3; i++) assert_true(m[i].error == 0 && m[i].right);
    assert_int_equal(pmap_pool_close(pool), 0);
}

static int hang(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    atomic_fetch_add((atomic_int *)pmap_task_arg(task), 1);
    while (pause() < 0) continue;
    return 0;
}

static void *map_hanging(void *arg)
{
    struct mapper *me = arg;
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    char in[8] = {0};
    m.arg = me->started;
    m.chunk = 1;
    me->error = pmap_map(me->pool, hang, in, 8, 1, NULL, 0, &m);
    return NULL;
}

static bool two_started(void *arg) { return atomic_load((atomic_int *)arg) >= 2; }

static void terminated(void **state)
{
    (void)state;
    struct mapper m = {.pool = open_pool(2), .error = 1};
    pthread_t thread;
    m.started = pmap_alloc(m.pool, sizeof *m.started);
    atomic_store(m.started, 0);
    assert_int_equal(pthread_create(&thread, NULL, map_hanging, &m), 0);
    assert_true(pm_test_wait_until(two_started, m.started, 10000));
    assert_int_equal(pmap_pool_terminate(m.pool, 0.05), 0);
    pthread_join(thread, NULL);
    assert_int_equal(m.error, PMAP_ECANCELLED);
}

static int application(void *arg)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    int in[100] = {0}, out[100];
    o.channel = PMAP_ZMQ;
    o.workers = 2;
    if (pmap_pool_open(&pool, &o)) return 1;
    if (pmap_map(pool, square, in, 100, sizeof in[0], out, sizeof out[0], NULL)) return 2;
    if (arg) (void)kill(getpid(), SIGKILL);
    return 0; /* without closing it */
}

static void applications_that_vanish(void **state)
{
    (void)state;
    size_t before = pool_directories();
    for (int i = 0; i < 10; i++) {
        int status = pm_test_run_child(application, i & 1 ? &before : NULL, 10000);
        assert_int_equal(status, i & 1 ? SIGKILL : 0);
        assert_int_equal(pool_directories(), before);
    }
}

/* ---- Strangers ---- */

struct stranger {
    pmap_pool *pool;
    void *context, *socket;
    uint64_t want;
};

static void connect_as(struct stranger *s, const void *id, size_t bytes)
{
    int zero = 0;
    s->context = zmq_ctx_new();
    s->socket = zmq_socket(s->context, ZMQ_DEALER);
    assert_non_null(s->socket);
    assert_int_equal(zmq_setsockopt(s->socket, ZMQ_ROUTING_ID, id, bytes), 0);
    assert_int_equal(zmq_setsockopt(s->socket, ZMQ_LINGER, &zero, sizeof zero), 0);
    assert_int_equal(zmq_connect(s->socket, inside(s->pool)->board->zmq), 0);
}

static void leave(struct stranger *s)
{
    zmq_close(s->socket);
    zmq_ctx_term(s->context);
}

/* Strangers are heard only while a call is under way: asks for one, which must be right, until all they said was dropped. */
static bool map_and_count(void *arg)
{
    struct stranger *s = arg;
    int in[500], out[500];
    for (int i = 0; i < 500; i++) in[i] = i;
    assert_int_equal(pmap_map(s->pool, square, in, 500, sizeof in[0], out, sizeof out[0], NULL), 0);
    for (int i = 0; i < 500; i++) assert_int_equal(out[i], expected(i));
    return atomic_load(&inside(s->pool)->zmq->dropped) >= s->want;
}

/* Sends all kinds of what nobody asked for; returns how many messages. */
static unsigned babble(struct stranger *s, uint32_t owner)
{
    struct pm_processes *p = inside(s->pool);
    unsigned n = 0;
    unsigned char noise[3000];
    struct pm_frame f = {.magic = PM_FRAME_MAGIC, .version = PM_FRAME_VERSION, .kind = PM_FRAME_RESULT, .nonce = p->board->zmq_nonce,
                         .serial = atomic_load(&p->board->job[0].serial), .owner = owner, .round = 1, .items = 15, .reached = 15, .bytes = 60,
                         .suspect = PM_FRAME_SUSPECT_NONE};
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)(i * 7919 >> 3);
    for (size_t bytes = 0; bytes < sizeof noise; bytes += 97, n++) assert_true(zmq_send(s->socket, noise, bytes, 0) >= 0);
    for (size_t cut = 0; cut < sizeof f; cut++, n++) { /* truncated, alone or with bytes behind */
        assert_true(zmq_send(s->socket, &f, cut, cut & 1 ? ZMQ_SNDMORE : 0) >= 0);
        if (cut & 1) assert_true(zmq_send(s->socket, noise, 60, 0) >= 0);
    }
    for (int parts = 1; parts < 8; parts++, n++) /* a replayed result, with too few and too many parts */
        for (int i = 0; i < parts; i++)
            assert_true(zmq_send(s->socket, i ? (void *)noise : &f, i ? 60 : sizeof f, i + 1 < parts ? ZMQ_SNDMORE : 0) >= 0);
    f.nonce ^= 1;
    assert_true(zmq_send(s->socket, &f, sizeof f, ZMQ_SNDMORE) >= 0 && zmq_send(s->socket, noise, 60, 0) >= 0);
    f.nonce ^= 1, f.kind = PM_FRAME_BYE;
    assert_true(zmq_send(s->socket, &f, sizeof f, 0) >= 0);
    f.kind = PM_FRAME_HELLO, f.owner ^= 1;
    assert_true(zmq_send(s->socket, &f, sizeof f, 0) >= 0);
    return n + 3;
}

static void messages_from_strangers(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    (void)map_and_count(&s); /* binds */
    s.want = atomic_load(&inside(s.pool)->zmq->dropped);
    connect_as(&s, "stranger", 8);
    s.want += babble(&s, 0x001001);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000));
    leave(&s);
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

static uint32_t owner_of(pmap_pool *pool, unsigned slot)
{
    return pm_owner(slot, atomic_load(&inside(pool)->board->slot[slot].gen));
}

struct change {
    pmap_pool *pool;
    uint32_t before;
};

static bool changed(void *arg)
{
    struct change *c = arg;
    return owner_of(c->pool, 0) != c->before;
}

/* Somebody with the pool's secret takes the name of a worker that is yet to be born: even what comes under a known name is judged, and
 * the pool does without that worker. */
static void a_stolen_name(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    int pids[2];
    (void)map_and_count(&s);
    struct change c = {s.pool, owner_of(s.pool, 0)};
    unsigned char id[PM_FRAME_ID] = {'P'};
    uint32_t next = c.before + 1;
    memcpy(id + 1, &next, sizeof next);
    memcpy(id + 5, &inside(s.pool)->board->zmq_nonce, sizeof(uint64_t));
    connect_as(&s, id, sizeof id);
    s.want = atomic_load(&inside(s.pool)->zmq->dropped) + 1;
    assert_true(zmq_send(s.socket, "here", 4, 0) >= 0);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000)); /* so it has that name now */
    assert_int_equal(pmap_pool_pids(s.pool, pids, 2), 2);
    assert_int_equal(kill(pids[0], SIGKILL), 0);
    assert_true(pm_test_wait_until(changed, &c, 10000));
    assert_int_equal(owner_of(s.pool, 0), next);
    s.want += babble(&s, next);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000));
    leave(&s);
    assert_true(map_and_count(&s));
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps), cmocka_unit_test(ranges_and_reductions), cmocka_unit_test(item_sizes),
        cmocka_unit_test(items_lie_as_their_type_wants), cmocka_unit_test(costs_add_up), cmocka_unit_test(poison),
        cmocka_unit_test(deaths_behind_failures), cmocka_unit_test(kills_from_outside),
        cmocka_unit_test(functions_that_end_their_worker), cmocka_unit_test(once_is_once), cmocka_unit_test(another_supervisor),
        cmocka_unit_test(stop_on_error), cmocka_unit_test(unused_pools), cmocka_unit_test(several_threads),
        cmocka_unit_test(terminated), cmocka_unit_test(applications_that_vanish), cmocka_unit_test(messages_from_strangers),
        cmocka_unit_test(a_stolen_name),
    };
    return PM_TEST_MAIN("zmq", tests);
}

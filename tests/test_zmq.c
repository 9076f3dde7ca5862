/* The ZeroMQ channel through the public calls: results, costs and ends.  Its deaths are in test_zmq_deaths.c, what strangers say to it in
 * test_zmq_strangers.c. */
#include "tests/zmq.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static size_t pool_directories(void)
{
    size_t n = 0;
    DIR *d = opendir(getenv("TMPDIR"));
    for (struct dirent *e; d && (e = readdir(d));) n += strncmp(e->d_name, "pmap-", 5) == 0;
    if (d) closedir(d);
    return n;
}

/* ---- Results ---- */

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps),
        cmocka_unit_test(ranges_and_reductions),
        cmocka_unit_test(item_sizes),
        cmocka_unit_test(items_lie_as_their_type_wants),
        cmocka_unit_test(costs_add_up),
        cmocka_unit_test(stop_on_error),
        cmocka_unit_test(unused_pools),
        cmocka_unit_test(several_threads),
        cmocka_unit_test(terminated),
        cmocka_unit_test(applications_that_vanish),
    };
    return PM_TEST_MAIN("zmq", tests);
}

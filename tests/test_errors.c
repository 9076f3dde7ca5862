/* Items that fail: code, text and item are kept, the others are done; stop stops; numbers and texts are pinned. */
#include "tests/paths.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail_every_97th(pmap_task *task, const void *item, void *result)
{
    uint32_t x;
    memcpy(&x, item, 4);
    size_t i = pmap_task_index(task);
    if (i % 97 == 13) {
        if (i % 2) pmap_task_error(task, "item %zu holds %u", i, x);
        return (int)(i % 5) + 1;
    }
    x = ~x;
    memcpy(result, &x, 4);
    return 0;
}

static void errors_keep_code_text_and_item(const struct pm_path *path)
{
    enum { N = 20000 };
    static const size_t chunks[] = {0, 1, 6, 40, 97, 1000, N};
    static const unsigned workers[] = {1, 2, 7};
    for (size_t w = 0; w < 3; w++) {
        pmap_pool *pool = pm_path_open(path, workers[w]);
        uint32_t *in = pm_path_alloc(path, pool, N * 4), *out = pm_path_alloc(path, pool, N * 4);
        for (uint32_t i = 0; i < N; i++) in[i] = i * 11;
        for (size_t c = 0; c < 7; c++) {
            pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
            pmap_stats_t stats = {.size = sizeof stats};
            options.chunk = chunks[c];
            options.stats = &stats;
            memset(out, 0, N * 4);
            EXPECT(pmap_map(pool, fail_every_97th, in, N, 4, out, 4, &options), PMAP_EITEMS);
            EXPECT_TEXT("pmap_map: 207 failures, the first: item 13:");
            size_t count;
            const pmap_failure *f = pmap_failures(pool, &count);
            assert_int_equal(count, 207);
            assert_int_equal(stats.failed, 207);
            for (size_t k = 0; k < count; k++) {
                size_t i = 13 + 97 * k;
                char text[64];
                assert_int_equal(f[k].item, i);
                assert_int_equal(f[k].count, 1);
                assert_int_equal(f[k].cause, PMAP_CAUSE_CODE);
                assert_int_equal(f[k].value, (int)(i % 5) + 1);
                assert_int_equal(f[k].attempts, 1);
                snprintf(text, sizeof text, "item %zu holds %zu", i, i * 11);
                if (i % 2) assert_non_null(strstr(f[k].text, text));
                else assert_null(strstr(f[k].text, "holds"));
                snprintf(text, sizeof text, "item %zu:", i);
                assert_ptr_equal(strstr(f[k].text, text), f[k].text);
            }
            for (uint32_t i = 0; i < N; i++)
                if (i % 97 != 13) assert_int_equal(out[i], ~(i * 11));
        }
        EXPECT(pmap_map(pool, fail_every_97th, in, 13, 4, out, 4, NULL), 0); /* what failed before is forgotten */
        size_t count = 9;
        assert_null(pmap_failures(pool, &count));
        assert_int_equal(count, 0);
        pm_path_free(path, pool, in);
        pm_path_free(path, pool, out);
        pm_path_close(pool);
    }
}

static int fail_all(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item, (void)result;
    return 1;
}

static void all_may_fail(const struct pm_path *path)
{
    enum { N = 70000 };
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_map(pool, fail_all, NULL, N, 0, NULL, 0, NULL), PMAP_EITEMS);
    size_t count;
    const pmap_failure *f = pmap_failures(pool, &count);
    assert_int_equal(count, N);
    for (size_t i = 0; i < N; i++) assert_int_equal(f[i].item, i);
    pm_path_close(pool);
}

/* More than are listed: the rest is counted. */
static void more_failures_than_are_listed(const struct pm_path *path)
{
    enum { LISTED = 1 << 20, N = LISTED + 1000 };
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_stats_t stats = {.size = sizeof stats};
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.stats = &stats;
    EXPECT(pmap_map(pool, fail_all, NULL, N, 0, NULL, 0, &options), PMAP_EITEMS);
    size_t count;
    assert_non_null(pmap_failures(pool, &count));
    assert_int_equal(count, LISTED);
    assert_int_equal(stats.failed, N);
    EXPECT(pmap_map(pool, fail_all, NULL, 1, 0, NULL, 0, &options), PMAP_EITEMS); /* no old entry turns up */
    assert_non_null(pmap_failures(pool, &count));
    assert_int_equal(count, 1);
    assert_int_equal(stats.failed, 1);
    pm_path_close(pool);
}

/* ---- Stop ---- */

struct count {
    _Atomic uint64_t ran, after; /* items run, and items begun by this worker after a failure was long past */
};

static int fail_at_5000(pmap_task *task, const void *item, void *result)
{
    (void)item;
    struct count *count = pmap_task_arg(task);
    atomic_fetch_add(&count->ran, 1);
    *(char *)result = 1;
    return pmap_task_index(task) == 5000 ? 4 : 0;
}

static void stop_stops_soon(const struct pm_path *path)
{
    enum { N = 4000000 };
    static const size_t chunks[] = {0, 1, 100};
    pmap_pool *pool = pm_path_open(path, 2);
    struct count *count = pmap_alloc(pool, sizeof *count);
    char *out = pm_path_alloc(path, pool, N);
    assert_non_null(count);
    for (size_t c = 0; c < 3; c++) {
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.on_error = PMAP_ON_ERROR_STOP;
        options.chunk = chunks[c];
        options.arg = count;
        atomic_store(&count->ran, 0);
        memset(out, 0, N);
        EXPECT(pmap_map(pool, fail_at_5000, NULL, N, 0, out, 1, &options), PMAP_EITEMS);
        size_t failures, cancelled = 0, end = 0;
        const pmap_failure *f = pmap_failures(pool, &failures);
        bool found = false;
        for (size_t k = 0; k < failures; k++) {
            assert_true(f[k].item >= end); /* sorted, and no span in another */
            end = f[k].item + f[k].count;
            if (f[k].cause == PMAP_CAUSE_CODE) {
                assert_int_equal(f[k].item, 5000);
                assert_int_equal(f[k].value, 4);
                assert_false(found);
                found = true;
                continue;
            }
            assert_int_equal(f[k].cause, PMAP_CAUSE_CANCELLED);
            assert_non_null(strstr(f[k].text, "not run"));
            cancelled += f[k].count;
            for (size_t i = f[k].item; i < end; i++)
                if (out[i] && path->in_arena) fail_msg("item %zu is said to be cancelled and has been run", i);
        }
        assert_true(found);
        assert_true(end <= N);
        /* Each was run once or listed.  Over ZeroMQ the results of a chunk that was stopped half-way are lost: run, and listed. */
        if (path->bit == PM_ON_ZMQ) assert_true(cancelled + atomic_load(&count->ran) >= N);
        else assert_int_equal(cancelled + atomic_load(&count->ran), N);
        if (cancelled < N / 4) fail_msg("%zu of %d items were still run", (size_t)N - cancelled, N);
    }
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static int fail_last(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    return pmap_task_index(task) == *(size_t *)pmap_task_arg(task);
}

static void stop_at_the_only_or_last_item(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t n = 1; n <= 50; n++) {
        size_t last = n - 1, count;
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.on_error = PMAP_ON_ERROR_STOP;
        options.arg = &last;
        options.arg_size = sizeof last;
        options.chunk = n % 3;
        EXPECT(pmap_map(pool, fail_last, NULL, n, 0, NULL, 0, &options), PMAP_EITEMS);
        const pmap_failure *f = pmap_failures(pool, &count);
        assert_true(count >= 1 && f[count - 1].item + f[count - 1].count == n);
        EXPECT(pmap_map(pool, fail_last, NULL, last, 0, NULL, 0, &options), 0); /* the pool is as before */
    }
    pm_path_close(pool);
}

/* ---- Whose failures ---- */

struct one {
    pmap_pool *pool;
    size_t bad, found;
    int value;
};

static void *fail_in_a_thread(void *arg)
{
    struct one *one = arg;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = &one->bad;
    options.arg_size = sizeof one->bad;
    one->value = pmap_map(one->pool, fail_last, NULL, 1000, 0, NULL, 0, &options);
    size_t count;
    const pmap_failure *f = pmap_failures(one->pool, &count);
    one->found = count == 1 ? f->item : SIZE_MAX;
    return NULL;
}

static void each_thread_has_its_own(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2), *other = pm_path_open(path, 1);
    struct one mine = {.pool = pool, .bad = 7};
    fail_in_a_thread(&mine);
    assert_int_equal(mine.found, 7);
    char text[300];
    snprintf(text, sizeof text, "%s", pmap_error());
    struct one one[8];
    pthread_t thread[8];
    for (size_t i = 0; i < 8; i++) {
        one[i] = (struct one){.pool = pool, .bad = 100 + i};
        assert_int_equal(pthread_create(&thread[i], NULL, fail_in_a_thread, &one[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) pthread_join(thread[i], NULL);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(one[i].value, PMAP_EITEMS);
        assert_int_equal(one[i].found, 100 + i);
    }
    size_t count;
    const pmap_failure *f = pmap_failures(pool, &count); /* those of this thread are still there */
    assert_int_equal(count, 1);
    assert_int_equal(f->item, 7);
    assert_string_equal(pmap_error(), text);
    assert_null(pmap_failures(other, &count)); /* and another pool has none */
    pm_path_close(other);
    pm_path_close(pool);
}

/* ---- Numbers and words ---- */

static void numbers_never_change(const struct pm_path *path)
{
    (void)path;
    static const struct {
        int is, pinned;
        const char *words;
    } all[] = {
        {PMAP_OK, 0, "no error"}, {PMAP_EINVAL, -1, "an argument is wrong"}, {PMAP_ENOMEM, -2, "not enough memory"},
        {PMAP_EITEMS, -3, "some items failed"}, {PMAP_ECLOSED, -4, "the pool or queue is closed"},
        {PMAP_EFORK, -5, "the pool belongs to another process"}, {PMAP_EBROKEN, -6, "workers die without any progress"},
        {PMAP_EFUNCTION, -7, "the function was loaded after the pool opened"}, {PMAP_EOVERLAP, -8,
                                                                                "input and output overlap"},
        {PMAP_EOVERFLOW, -9, "a size does not fit in size_t"}, {PMAP_ENOTSUP, -10,
                                                                "not supported by this executor or build"},
        {PMAP_ESYSTEM, -11, "the operating system refused something"},
        {PMAP_ECANCELLED, -12, "cancelled, or the pool was terminated"}, {PMAP_ETIMEDOUT, -13, "the time to wait is over"},
        {PMAP_EOWNERDEAD, -14, "the last owner died while it held the lock"}, {PMAP_ETOOBIG, -15, "larger than was agreed"},
        {PMAP_EPERM, -16, "held by another, or not held by the caller"}, {PMAP_EDEADLOCK, -17, "the caller would wait for itself"},
        {PMAP_ESOURCE, -18, "the source of inputs failed"}, {PMAP_ENOENT, -19, "no such program or file"},
        {PMAP_EACCES, -20, "the program or file may not be used"}, {PMAP_ESTATUS, -21, "a command failed"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_int_equal(all[i].is, all[i].pinned);
        assert_string_equal(pmap_strerror(all[i].pinned), all[i].words);
    }
    assert_string_equal(pmap_strerror(-22), "unknown error number");
    assert_string_equal(pmap_strerror(1), "unknown error number");
    assert_int_equal(PMAP_RETRY, -1);
    assert_int_equal(PMAP_CAUSE_CODE, 1);
    assert_int_equal(PMAP_CAUSE_SIGNAL, 2);
    assert_int_equal(PMAP_CAUSE_EXIT, 3);
    assert_int_equal(PMAP_CAUSE_TIMEOUT, 4);
    assert_int_equal(PMAP_CAUSE_MEMORY, 5);
    assert_int_equal(PMAP_CAUSE_CANCELLED, 6);
}

static void *no_text_yet(void *arg)
{
    *(bool *)arg = pmap_error()[0] == 0;
    return NULL;
}

static void a_new_thread_has_no_error(const struct pm_path *path)
{
    (void)path;
    bool empty = false;
    pthread_t thread;
    EXPECT(pmap_pool_open(NULL, NULL), PMAP_EINVAL);
    assert_int_equal(pthread_create(&thread, NULL, no_text_yet, &empty), 0);
    pthread_join(thread, NULL);
    assert_true(empty);
    EXPECT_TEXT("pmap_pool_open");
}

static const struct pm_path_test tests[] = {
    {"a new thread has no error", a_new_thread_has_no_error, PM_ON_NONE},
    {"numbers never change", numbers_never_change, PM_ON_NONE},
    {"errors keep code, text and item", errors_keep_code_text_and_item, PM_ON_ALL},
    {"all may fail", all_may_fail, PM_ON_ALL},
    {"more failures than are listed", more_failures_than_are_listed, PM_ON_SHM | PM_ON_SERIAL},
    {"stop stops soon", stop_stops_soon, PM_ON_ALL},
    {"stop at the only or last item", stop_at_the_only_or_last_item, PM_ON_ALL},
    {"each thread has its own", each_thread_has_its_own, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("errors", tests); }

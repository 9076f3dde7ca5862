/* pmap_reduce: the same bits whoever does the work; combined in order; all or nothing. */
#include "tests/paths.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rounds at every addition, so that another grouping or order would show. */
static int sum(pmap_task *task, const void *items, size_t count, void *result)
{
    (void)task;
    const double *x = items;
    double s = 0;
    for (size_t i = 0; i < count; i++) s += x[i];
    memcpy(result, &s, sizeof s);
    return 0;
}

static void add(void *acc, const void *partial, void *arg)
{
    double a, b;
    (void)arg;
    memcpy(&a, acc, sizeof a);
    memcpy(&b, partial, sizeof b);
    a += b;
    memcpy(acc, &a, sizeof a);
}

static double nth(size_t i) { return sin((double)i) * pow(10, (double)(i % 17) - 8); }

/* What pmap.h promises, written down once more: at most 1024 blocks of equal size, in order. */
static double expected_sum(const double *x, size_t n, size_t unit)
{
    double acc = 0.25;
    if (!unit) unit = n / 1024 + (n % 1024 != 0);
    for (size_t from = 0; from < n; from += unit) {
        double s = 0;
        for (size_t i = from; i < n && i < from + unit; i++) s += x[i];
        acc += s;
    }
    return acc;
}

static void the_same_bits(const struct pm_path *path)
{
    static const unsigned workers[] = {1, 2, 3, 7};
    static const size_t counts[] = {0, 1, 2, 1023, 1024, 1025, 300007}, chunks[] = {0, 1, 1000};
    for (size_t w = 0; w < 4; w++) {
        pmap_pool *pool = pm_path_open(path, workers[w]);
        for (size_t c = 0; c < 7; c++)
            for (size_t k = 0; k < 3; k++) {
                if (path->bit == PM_ON_ZMQ && chunks[k] == 1 && counts[c] > 2000) continue; /* a message an item */
                double *x = pm_path_alloc(path, pool, counts[c] * 8), acc = 0.25, expected;
                for (size_t i = 0; i < counts[c]; i++) x[i] = nth(i);
                pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
                options.chunk = chunks[k];
                EXPECT(pmap_reduce(pool, sum, add, x, counts[c], 8, &acc, 8, &options), 0);
                expected = expected_sum(x, counts[c], chunks[k]);
                if (memcmp(&acc, &expected, sizeof acc))
                    fail_msg("%u workers, %zu items, chunk %zu: %a, not %a", workers[w], counts[c], chunks[k], acc,
                             expected);
                pm_path_free(path, pool, x);
            }
        pm_path_close(pool);
    }
}

/* x -> a x + b: composing is associative and does not commute. */
struct affine {
    uint64_t a, b;
};

static int compose_block(pmap_task *task, const void *items, size_t count, void *result)
{
    const struct affine *f = items;
    struct affine all = {1, 0};
    for (size_t i = 0; i < count; i++) all = (struct affine){all.a * f[i].a, all.b * f[i].a + f[i].b};
    if (count && f[0].b != pmap_task_index(task) * 3) return 1;
    *(struct affine *)result = all;
    return 0;
}

static void compose(void *acc, const void *partial, void *arg)
{
    struct affine *x = acc;
    const struct affine *y = partial;
    ++*(unsigned *)arg; /* in the calling thread: the caller's own memory will do */
    *x = (struct affine){x->a * y->a, x->b * y->a + y->b};
}

static void in_order_and_in_the_calling_thread(const struct pm_path *path)
{
    enum { N = 12345 };
    pmap_pool *pool = pm_path_open(path, 3);
    struct affine *f = pm_path_alloc(path, pool, N * sizeof *f), acc = {7, 9}, expected = acc;
    for (size_t i = 0; i < N; i++) {
        f[i] = (struct affine){2 * i + 1, i * 3};
        expected = (struct affine){expected.a * f[i].a, expected.b * f[i].a + f[i].b};
    }
    unsigned combined = 0;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = &combined;
    EXPECT(pmap_reduce(pool, compose_block, compose, f, N, sizeof *f, &acc, sizeof acc, &options), 0);
    assert_int_equal(acc.a, expected.a);
    assert_int_equal(acc.b, expected.b);
    assert_true(combined > 1 && combined <= 1024);
    pm_path_free(path, pool, f);
    pm_path_close(pool);
}

static int not_5003(pmap_task *task, const void *items, size_t count, void *result)
{
    (void)items;
    memset(result, 0, 8);
    size_t first = pmap_task_index(task);
    return first <= 5003 && 5003 < first + count ? 6 : 0;
}

static void a_failed_block_leaves_acc_as_it_was(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    double acc = 1.5;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.chunk = 100;
    EXPECT(pmap_reduce(pool, not_5003, add, NULL, 9950, 0, &acc, 8, &options), PMAP_EITEMS);
    assert_true(acc == 1.5);
    size_t count;
    const pmap_failure *f = pmap_failures(pool, &count);
    assert_int_equal(count, 1);
    assert_int_equal(f->item, 5000);
    assert_int_equal(f->count, 100);
    assert_int_equal(f->value, 6);
    assert_non_null(strstr(f->text, "items 5000 to 5099"));
    options.chunk = 5000; /* the failed block is the last and a short one */
    EXPECT(pmap_reduce(pool, not_5003, add, NULL, 9950, 0, &acc, 8, &options), PMAP_EITEMS);
    f = pmap_failures(pool, &count);
    assert_int_equal(count, 1);
    assert_int_equal(f->item, 5000);
    assert_int_equal(f->count, 4950);
    assert_true(acc == 1.5);
    pm_path_close(pool);
}

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    double x = 1, acc = 2;
    EXPECT(pmap_reduce(pool, NULL, add, &x, 1, 8, &acc, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("partial is NULL");
    EXPECT(pmap_reduce(pool, sum, NULL, &x, 1, 8, &acc, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("combine is NULL");
    EXPECT(pmap_reduce(pool, sum, add, &x, 1, 8, NULL, 8, NULL), PMAP_EINVAL);
    EXPECT(pmap_reduce(pool, sum, add, &x, 1, 8, &acc, 0, NULL), PMAP_EINVAL);
    EXPECT(pmap_reduce(pool, sum, add, NULL, 1, 8, &acc, 8, NULL), PMAP_EINVAL);
    EXPECT(pmap_reduce(pool, sum, add, &x, SIZE_MAX / 2, 8, &acc, 8, NULL), PMAP_EOVERFLOW);
    EXPECT(pmap_reduce(pool, sum, add, NULL, 1024, 0, &acc, SIZE_MAX / 2, NULL), PMAP_EOVERFLOW);
    EXPECT(pmap_reduce(pool, sum, add, NULL, 1, 0, &acc, SIZE_MAX / 4, NULL), PMAP_ENOMEM);
    EXPECT(pmap_reduce(pool, sum, add, NULL, 0, 8, &acc, 8, NULL), 0);
    assert_true(acc == 2);
    EXPECT(pmap_reduce(pool, sum, add, &x, 1, 8, &acc, 8, NULL), 0);
    assert_true(acc == 3);
    pm_path_close(pool);
}

static int random_block(pmap_task *task, const void *items, size_t count, void *result)
{
    (void)items, (void)count;
    uint64_t r = pmap_task_random(task);
    memcpy(result, &r, 8);
    return 0;
}

static void xor_into(void *acc, const void *partial, void *arg)
{
    uint64_t a, b;
    (void)arg;
    memcpy(&a, acc, 8);
    memcpy(&b, partial, 8);
    a = a * 3 ^ b;
    memcpy(acc, &a, 8);
}

static void random_numbers_are_the_blocks_own(const struct pm_path *path)
{
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.seed = 42;
    options.chunk = 10;
    uint64_t first = 0;
    for (unsigned workers = 1; workers <= 3; workers++) {
        pmap_pool *pool = pm_path_open(path, workers);
        uint64_t acc = 1;
        EXPECT(pmap_reduce(pool, random_block, xor_into, NULL, 5000, 0, &acc, 8, &options), 0);
        if (workers == 1) first = acc;
        assert_int_equal(acc, first);
        assert_int_equal(acc, UINT64_C(0xc3590b0c77ee87c8));
        pm_path_close(pool);
    }
}

static const struct pm_path_test tests[] = {
    {"the same bits", the_same_bits, PM_ON_ALL},
    {"in order and in the calling thread", in_order_and_in_the_calling_thread, PM_ON_ALL},
    {"a failed block leaves acc as it was", a_failed_block_leaves_acc_as_it_was, PM_ON_ALL},
    {"refused", refused, PM_ON_ALL},
    {"random numbers are the block's own", random_numbers_are_the_blocks_own, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("reduce", tests); }

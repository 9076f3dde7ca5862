/* pmap_starmap: values side by side and in every combination, in Python's order, wherever the columns lie; what it refuses, whom it blames,
 * and what it copies. */
#include "tests/paths.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Three columns of unlike sizes: a uint32_t, a double, three bytes. */
struct seen {
    uint32_t a;
    double b;
    unsigned char c[3];
    uint64_t index;
};

static int tell(pmap_task *task, const void *const *values, void *result)
{
    struct seen s = {0};
    memcpy(&s.a, values[0], sizeof s.a);
    memcpy(&s.b, values[1], sizeof s.b);
    memcpy(s.c, values[2], sizeof s.c);
    s.index = pmap_task_index(task);
    memcpy(result, &s, sizeof s);
    return 0;
}

/* The columns, private memory and pool memory in turn, so that every path meets both. */
struct table {
    pmap_pool *pool;
    pmap_column column[3];
    void *own[3], *shared[3];
};

static uint32_t a_of(size_t i) { return (uint32_t)(i * 2654435761u); }
static double b_of(size_t i) { return 0.5 * (double)i + 1; }
static unsigned char c_of(size_t i, size_t byte) { return (unsigned char)(i * 7 + byte); }

static struct table make_table(pmap_pool *pool, size_t na, size_t nb, size_t nc, unsigned in_pool)
{
    static const size_t sizes[3] = {4, 8, 3};
    const size_t counts[3] = {na, nb, nc};
    struct table t = {.pool = pool};
    for (unsigned k = 0; k < 3; k++) {
        bool shared = in_pool >> k & 1;
        void *data = shared ? (t.shared[k] = pmap_alloc(pool, counts[k] * sizes[k])) : (t.own[k] = malloc(counts[k] * sizes[k] + 1));
        assert_non_null(data);
        for (size_t i = 0; i < counts[k]; i++) {
            uint32_t a = a_of(i);
            double b = b_of(i);
            unsigned char c[3] = {c_of(i, 0), c_of(i, 1), c_of(i, 2)};
            const void *value = k == 0 ? (void *)&a : k == 1 ? (void *)&b : c;
            memcpy((char *)data + i * sizes[k], value, sizes[k]);
        }
        t.column[k] = (pmap_column){data, sizes[k], counts[k]};
    }
    return t;
}

static void free_table(struct table *t)
{
    for (unsigned k = 0; k < 3; k++) {
        free(t->own[k]);
        pmap_free(t->pool, t->shared[k]);
    }
}

static void expect_seen(const struct seen *s, size_t i, size_t a, size_t b, size_t c)
{
    if (s->index != i || s->a != a_of(a) || memcmp(&(double){b_of(b)}, &s->b, 8) != 0 || s->c[0] != c_of(c, 0) || s->c[1] != c_of(c, 1) ||
        s->c[2] != c_of(c, 2))
        fail_msg("item %zu: index %zu, not the values %zu, %zu, %zu", i, (size_t)s->index, a, b, c);
}

static const size_t chunks[] = {0, 1, 7, 1000};

static void side_by_side(const struct pm_path *path)
{
    enum { N = 5000 };
    static const size_t counts[] = {1, 2, 40, N};
    pmap_pool *pool = pm_path_open(path, 3);
    struct seen *out = pm_path_alloc(path, pool, N * sizeof *out);
    for (unsigned k = 0; k < 16; k++) {
        size_t n = counts[k / 4];
        struct table t = make_table(pool, n, n, n, k % 8);
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.chunk = chunks[k % 4];
        memset(out, 0xee, n * sizeof *out);
        EXPECT(pmap_starmap(pool, tell, PMAP_ZIP, t.column, 3, out, sizeof *out, &o), 0);
        for (size_t i = 0; i < n; i++) expect_seen(&out[i], i, i, i, i);
        free_table(&t);
    }
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

/* The last column changes fastest, as in Python's itertools.product. */
static void every_combination(const struct pm_path *path)
{
    static const size_t shapes[][3] = {{1, 1, 1}, {3, 4, 5}, {1, 7, 1}, {2, 1, 300}, {20, 30, 25}};
    pmap_pool *pool = pm_path_open(path, 3);
    struct seen *out = pm_path_alloc(path, pool, 15000 * sizeof *out);
    for (unsigned k = 0; k < 20; k++) {
        const size_t *n = shapes[k / 4];
        struct table t = make_table(pool, n[0], n[1], n[2], k % 8);
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.chunk = chunks[k % 4];
        memset(out, 0xee, n[0] * n[1] * n[2] * sizeof *out);
        EXPECT(pmap_starmap(pool, tell, PMAP_PRODUCT, t.column, 3, out, sizeof *out, &o), 0);
        size_t i = 0;
        for (size_t a = 0; a < n[0]; a++)
            for (size_t b = 0; b < n[1]; b++)
                for (size_t c = 0; c < n[2]; c++, i++) expect_seen(&out[i], i, a, b, c);
        free_table(&t);
    }
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static int add_all(pmap_task *task, const void *const *values, void *result)
{
    (void)task;
    uint64_t sum = 0;
    for (int k = 0; k < PMAP_COLUMNS; k++) sum = sum * 2 + *(const unsigned char *)values[k];
    memcpy(result, &sum, sizeof sum);
    return 0;
}

/* As many columns as there may be, of two values each but for 16 constant ones: the result is the item's number in binary. */
static void the_most_columns(const struct pm_path *path)
{
    static const unsigned char bits[2] = {0, 1};
    enum { ITEMS = 1 << 16 };
    pmap_column column[PMAP_COLUMNS + 1];
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t *out = pm_path_alloc(path, pool, ITEMS * sizeof *out);
    for (int k = 0; k <= PMAP_COLUMNS; k++) column[k] = (pmap_column){bits, 1, k < PMAP_COLUMNS - 16 ? 1 : 2};
    EXPECT(pmap_starmap(pool, add_all, PMAP_PRODUCT, column, PMAP_COLUMNS, out, sizeof *out, NULL), 0);
    for (uint64_t i = 0; i < ITEMS; i++) assert_int_equal(out[i], i);
    EXPECT(pmap_starmap(pool, add_all, PMAP_PRODUCT, column, PMAP_COLUMNS + 1, out, sizeof *out, NULL), PMAP_EINVAL);
    EXPECT_TEXT("33 columns");
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static int must_not_run(pmap_task *task, const void *const *values, void *result)
{
    (void)task, (void)values, (void)result;
    return 1;
}

static int only_the_first(pmap_task *task, const void *const *values, void *result)
{
    (void)task;
    return values[0] && !values[1] && !values[2] && !result ? 0 : 2;
}

static void empty_columns(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t four[4] = {1, 2, 3, 4}, out[4];
    size_t n = 1;
    pmap_column zip[] = {{NULL, 4, 0}, {four, 4, 0}}, product[] = {{four, 4, SIZE_MAX / 8}, {NULL, 4, 0}, {four, 1, SIZE_MAX / 2}};
    product[0].count = 4, product[2].count = 4;
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, zip, 2, out, 4, NULL), 0);
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_PRODUCT, product, 3, out, 4, NULL), 0);
    assert_null(pmap_failures(pool, &n));
    assert_int_equal(n, 0);
    /* Values without bytes, and no result. */
    pmap_column none[] = {{four, 4, 4}, {NULL, 0, 4}, {NULL, 0, 4}};
    EXPECT(pmap_starmap(pool, only_the_first, PMAP_ZIP, none, 3, NULL, 0, NULL), 0);
    EXPECT(pmap_starmap(pool, only_the_first, PMAP_PRODUCT, none, 3, NULL, 0, NULL), 0);
    pm_path_close(pool);
}

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t v[8] = {0}, out[16];
    pmap_column two[] = {{v, 4, 4}, {v, 4, 3}}, ok[] = {{v, 4, 2}, {v, 4, 2}};
    EXPECT(pmap_starmap(NULL, must_not_run, PMAP_ZIP, ok, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pool");
    EXPECT(pmap_starmap(pool, NULL, PMAP_ZIP, ok, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pmap_starmap: function is NULL");
    EXPECT(pmap_starmap(pool, must_not_run, (pmap_star)2, ok, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("kind is 2");
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, NULL, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, ok, 0, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("0 columns");
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, two, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("column 0 has 4 values and column 1 has 3");
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, ok, 2, NULL, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("out is NULL");
    pmap_column missing[] = {{v, 4, 2}, {NULL, 4, 2}};
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, missing, 2, out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("column 1: data is NULL");
    pmap_column large[] = {{v, 1, SIZE_MAX / 2}, {v, 1, 2}, {v, 1, 2}};
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_PRODUCT, large, 3, NULL, 0, NULL), PMAP_EOVERFLOW);
    EXPECT_TEXT("columns 0 to 2");
    pmap_column wide[] = {{v, 8, SIZE_MAX / 4}};
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_PRODUCT, wide, 1, NULL, 0, NULL), PMAP_EOVERFLOW);
    EXPECT_TEXT("column 0: count");
    pmap_column outside[] = {{v, 1, 1}, {v, 1, SIZE_MAX - 64}};
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_PRODUCT, outside, 2, NULL, 0, NULL), PMAP_EOVERFLOW);
    EXPECT_TEXT("column 1 runs past");
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_PRODUCT, ok, 2, out, SIZE_MAX / 2, NULL), PMAP_EOVERFLOW);
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, ok, 2, v + 1, 4, NULL), PMAP_EOVERLAP);
    EXPECT_TEXT("column 0");
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.retries = 99;
    EXPECT(pmap_starmap(pool, must_not_run, PMAP_ZIP, ok, 2, out, 4, &o), PMAP_EINVAL);
    EXPECT_TEXT("retries is 99");
    pm_path_close(pool);
}

/* ---- Blame ---- */

struct guilt { /* in pmap_alloc() memory */
    size_t item;
    atomic_uint runs;
    int how; /* 0: a code; 1: dies; 2: PMAP_RETRY until the third time */
};

static int tell_or_fail(pmap_task *task, const void *const *values, void *result)
{
    struct guilt *g = pmap_task_arg(task);
    if (pmap_task_index(task) == g->item) {
        unsigned run = atomic_fetch_add(&g->runs, 1);
        if (g->how == 1) raise(SIGKILL);
        if (g->how == 0) return 17;
        if (run < 2) return PMAP_RETRY;
    }
    return tell(task, values, result);
}

/* In the middle of a chunk: what resumes there, and what runs again, is given the right values. */
static void blame(const struct pm_path *path, int how)
{
    static const size_t items[] = {0, 777, 999, 1000, 5999};
    pmap_pool *pool = pm_path_open(path, 2);
    struct table t = make_table(pool, 10, 20, 30, 5);
    struct seen *out = pm_path_alloc(path, pool, 6000 * sizeof *out);
    struct guilt *g = pmap_alloc(pool, sizeof *g);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    assert_non_null(g);
    o.chunk = 1000;
    o.arg = g;
    for (size_t k = 0; k < 5; k++) {
        size_t n = 0;
        *g = (struct guilt){.item = items[k], .how = how};
        memset(out, 0xee, 6000 * sizeof *out);
        EXPECT(pmap_starmap(pool, tell_or_fail, PMAP_PRODUCT, t.column, 3, out, sizeof *out, &o), how == 2 ? 0 : PMAP_EITEMS);
        const pmap_failure *f = pmap_failures(pool, &n);
        assert_int_equal(n, how != 2);
        assert_int_equal(atomic_load(&g->runs), how == 0 ? 1 : 3);
        if (n) {
            assert_int_equal(f->item, items[k]);
            assert_int_equal(f->count, 1);
            assert_int_equal(f->cause, how ? PMAP_CAUSE_SIGNAL : PMAP_CAUSE_CODE);
            assert_int_equal(f->value, how ? SIGKILL : 17);
        }
        for (size_t i = 0; i < 6000; i++)
            if (n == 0 || i != items[k]) expect_seen(&out[i], i, i / 600, i / 30 % 20, i % 30);
    }
    pmap_free(pool, g);
    free_table(&t);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static void a_code(const struct pm_path *path) { blame(path, 0); }
static void a_death(const struct pm_path *path) { blame(path, 1); }
static void a_retry(const struct pm_path *path) { blame(path, 2); }

/* ---- Costs ---- */

static int take_both(pmap_task *task, const void *const *values, void *result)
{
    (void)task, (void)result;
    return *(const char *)values[0] == 1 && *(const char *)values[1] == 1 ? 0 : 1;
}

/* Two columns of 4 MiB, one of them private: it is copied once, whatever the number of combinations, and the other never. */
static void what_is_copied(const struct pm_path *path)
{
    enum { SIZE = 1 << 16, COUNT = 64 };
    pmap_pool *pool = pm_path_open(path, 2);
    char *own = malloc(SIZE * COUNT), *shared = pmap_alloc(pool, SIZE * COUNT);
    assert_true(own && shared);
    memset(own, 1, SIZE * COUNT);
    memset(shared, 1, SIZE * COUNT);
    pmap_column column[] = {{own, SIZE, COUNT}, {shared, SIZE, COUNT}};
    pmap_stats_t s = {.size = sizeof s};
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.stats = &s;
    EXPECT(pmap_starmap(pool, take_both, PMAP_PRODUCT, column, 2, NULL, 0, &o), 0);
    bool copies = path->executor == PMAP_PROCESSES;
    assert_int_equal(s.items, COUNT * COUNT);
    assert_int_equal(s.bytes_copied, copies ? SIZE * COUNT : 0);
    if (copies) assert_true(s.transfer_in_s > 0);
    double sum = s.transfer_in_s + s.compute_s + s.transfer_out_s + s.dispatch_s + s.idle_s, all = s.workers * s.wall_s;
    if (!(sum > 0.95 * all && sum < 1.05 * all)) fail_msg("the parts add up to %g s, not to %u x %g s", sum, s.workers, s.wall_s);
    column[0] = column[1];
    EXPECT(pmap_starmap(pool, take_both, PMAP_PRODUCT, column, 2, NULL, 0, &o), 0);
    assert_int_equal(s.bytes_copied, 0);
    free(own);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"side by side", side_by_side, PM_ON_ALL},
    {"every combination", every_combination, PM_ON_ALL},
    {"the most columns", the_most_columns, PM_ON_ALL},
    {"empty columns", empty_columns, PM_ON_ALL},
    {"refused", refused, PM_ON_ALL},
    {"a code", a_code, PM_ON_ALL},
    {"a death", a_death, PM_ON_PROCESSES},
    {"a retry", a_retry, PM_ON_ALL},
    {"what is copied", what_is_copied, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("starmap", tests); }

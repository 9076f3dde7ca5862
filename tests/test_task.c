/* What a function is told and may say: index, worker, attempt, item, cancelled, the random stream. */
#include "tests/paths.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct told {
    uint64_t index, random[3];
    uint32_t worker, attempt;
};

static int tell(pmap_task *task, const void *item, void *result)
{
    (void)item;
    struct told *t = result;
    *t = (struct told){.index = pmap_task_index(task), .worker = pmap_task_worker(task),
                       .attempt = pmap_task_attempt(task)};
    for (int i = 0; i < 3; i++) t->random[i] = pmap_task_random(task);
    return pmap_task_cancelled(task) ? 1 : 0;
}

static void index_worker_and_attempt(const struct pm_path *path)
{
    enum { N = 5000 };
    pmap_pool *pool = pm_path_open(path, 3);
    struct told *out = pm_path_alloc(path, pool, N * sizeof *out);
    EXPECT(pmap_map(pool, tell, NULL, N, 0, out, sizeof *out, NULL), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(out[i].index, i);
        assert_int_equal(out[i].attempt, 0);
        assert_true(out[i].worker < pmap_pool_workers(pool));
    }
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

/* ---- Random ---- */

static int tell_chunk(pmap_task *task, const void *items, size_t count, void *results)
{
    struct told *t = results;
    size_t first = pmap_task_index(task);
    (void)items;
    for (size_t k = 0; k < count; k++) {
        pmap_task_item(task, first + k);
        t[k].index = pmap_task_index(task);
        for (int i = 0; i < 3; i++) t[k].random[i] = pmap_task_random(task);
    }
    return 0;
}

/* The published SplitMix64 step, from a start that is a hash of seed and index; see pmap.h. */
static uint64_t step(uint64_t *s)
{
    uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t undo_shift(uint64_t z, unsigned by)
{
    uint64_t x = z;
    for (unsigned i = 0; i < 64 / by; i++) x = z ^ (x >> by);
    return x;
}

/* The state that gave this output: the step can be run backwards. */
static uint64_t state_of(uint64_t output)
{
    uint64_t z = undo_shift(output, 31) * UINT64_C(0x319642b2d24d8ec3);
    z = undo_shift(z, 27) * UINT64_C(0x96de1b173f119089);
    return undo_shift(z, 30);
}

/* Never to change: programs rely on getting the same numbers from the next release. */
#define PIN_0_0 UINT64_C(0x28f9feaebd831d6c)
#define PIN_1_0 UINT64_C(0xd674436882ba51d9)
#define PIN_1_999 UINT64_C(0xe9133137abe347cf)

static void the_random_stream(const struct pm_path *path)
{
    enum { N = 2000 };
    static const unsigned workers[] = {1, 2, 3, 7};
    static const size_t chunks[] = {0, 1, 17, N};
    static struct told first[N];
    bool have = false;
    for (size_t w = 0; w < 4; w++) {
        pmap_pool *pool = pm_path_open(path, workers[w]);
        struct told *out = pm_path_alloc(path, pool, N * sizeof *out);
        for (size_t c = 0; c < 8; c++) {
            pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
            options.seed = 1;
            options.chunk = chunks[c % 4];
            memset(out, 0, N * sizeof *out);
            if (c < 4) EXPECT(pmap_map(pool, tell, NULL, N, 0, out, sizeof *out, &options), 0);
            else EXPECT(pmap_chunks(pool, tell_chunk, NULL, N, 0, out, sizeof *out, &options), 0);
            if (!have) memcpy(first, out, sizeof first);
            have = true;
            for (size_t i = 0; i < N; i++) {
                assert_int_equal(out[i].index, i);
                assert_memory_equal(out[i].random, first[i].random, sizeof out[i].random);
            }
        }
        pm_path_free(path, pool, out);
        pm_path_close(pool);
    }
    assert_int_equal(first[0].random[0], PIN_1_0);
    assert_int_equal(first[999].random[0], PIN_1_999);
    for (size_t i = 0; i < N; i++) { /* successive numbers are successive SplitMix64 steps */
        uint64_t s = state_of(first[i].random[0]);
        assert_int_equal(step(&s), first[i].random[1]);
        assert_int_equal(step(&s), first[i].random[2]);
        if (i) assert_int_not_equal(first[i].random[0], first[i - 1].random[0]);
    }
    pmap_pool *pool = pm_path_open(path, 2);
    struct told *out = pm_path_alloc(path, pool, sizeof *out);
    EXPECT(pmap_map(pool, tell, NULL, 1, 0, out, sizeof *out, NULL), 0); /* seed 0 */
    assert_int_equal(out->random[0], PIN_0_0);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

/* ---- PMAP_RETRY ---- */

struct tries {
    _Atomic uint32_t calls, attempts; /* bit a of `attempts`: called as attempt a */
    _Atomic uint64_t random;
    _Atomic uint32_t other_random;
};

/* Item i succeeds at attempt i % 6.  What it sees it writes to memory that all workers share on every path. */
static int try_often(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    struct tries *t = (struct tries *)pmap_task_arg(task) + pmap_task_index(task);
    uint64_t random = pmap_task_random(task);
    if (atomic_fetch_add(&t->calls, 1) && random != t->random) t->other_random = 1;
    t->random = random;
    atomic_fetch_or(&t->attempts, 1u << pmap_task_attempt(task));
    if (pmap_task_attempt(task) < pmap_task_index(task) % 6) {
        pmap_task_error(task, "not yet %u", pmap_task_attempt(task));
        return PMAP_RETRY;
    }
    return 0;
}

static int try_chunk(pmap_task *task, const void *items, size_t count, void *results)
{
    if (count != 1) return 9;
    return try_often(task, items, results);
}

static void retries_are_counted(const struct pm_path *path)
{
    enum { N = 600 };
    pmap_pool *pool = pm_path_open(path, 2);
    for (int retries = 0; retries <= 7; retries++) {
        for (int whole = 0; whole < 2; whole++) {
            struct tries *out = pmap_alloc(pool, N * sizeof *out);
            assert_non_null(out);
            memset(out, 0, N * sizeof *out);
            pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
            options.retries = retries;
            options.arg = out;
            if (whole) options.chunk = 1; /* a chunk of one is called like an item */
            int expected = retries < 5 ? PMAP_EITEMS : 0;
            if (whole) EXPECT(pmap_chunks(pool, try_chunk, NULL, N, 0, NULL, 0, &options), expected);
            else EXPECT(pmap_map(pool, try_often, NULL, N, 0, NULL, 0, &options), expected);
            size_t count, next = 0;
            const pmap_failure *f = pmap_failures(pool, &count);
            for (unsigned i = 0; i < N; i++) {
                unsigned wanted = i % 6, calls = wanted < (unsigned)retries ? wanted + 1 : (unsigned)retries + 1;
                bool failed = wanted > (unsigned)retries;
                if (failed) {
                    char text[32];
                    snprintf(text, sizeof text, "not yet %d", retries);
                    assert_true(next < count);
                    assert_int_equal(f[next].item, i);
                    assert_int_equal(f[next].value, PMAP_RETRY);
                    assert_int_equal(f[next].cause, PMAP_CAUSE_CODE);
                    assert_int_equal(f[next].attempts, calls);
                    assert_non_null(strstr(f[next].text, text));
                    next++;
                }
                assert_int_equal(out[i].calls, calls);
                assert_int_equal(out[i].attempts, (1u << calls) - 1);
                assert_int_equal(out[i].other_random, 0);
            }
            assert_int_equal(next, count);
            pmap_free(pool, out);
        }
    }
    pm_path_close(pool);
}

static void once_means_no_retry(const struct pm_path *path)
{
    enum { N = 60 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct tries *out = pmap_alloc(pool, N * sizeof *out);
    assert_non_null(out);
    memset(out, 0, N * sizeof *out);
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.retries = 9;
    options.once = 1;
    options.arg = out;
    EXPECT(pmap_map(pool, try_often, NULL, N, 0, NULL, 0, &options), PMAP_EITEMS);
    size_t count;
    const pmap_failure *f = pmap_failures(pool, &count);
    assert_int_equal(count, 50);
    for (size_t i = 0; i < count; i++) assert_int_equal(f[i].attempts, 1);
    pmap_free(pool, out);
    pm_path_close(pool);
}

/* ---- Texts ---- */

static int say_long(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    char text[400];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    if (pmap_task_index(task) % 2 == 0) {
        pmap_task_error(task, "of an item that did not fail");
        return 0;
    }
    if (pmap_task_index(task) == 1) {
        pmap_task_error(task, "%s", text);
        return 1;
    }
    return 2;
}

static void texts_are_cut_and_not_mixed_up(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.chunk = 4;
    EXPECT(pmap_map(pool, say_long, NULL, 4, 0, NULL, 0, &options), PMAP_EITEMS);
    size_t count, x = 0;
    const pmap_failure *f = pmap_failures(pool, &count);
    assert_int_equal(count, 2);
    for (const char *p = f[0].text; *p; p++)
        if (*p == 'x') x++;
    assert_int_equal(x, 111);
    assert_null(strstr(f[1].text, "did not fail"));
    assert_null(strstr(f[1].text, "xx"));
    pm_path_close(pool);
}

/* ---- pmap_task_item ---- */

static int jump(pmap_task *task, size_t first, size_t last)
{
    size_t *wrong = pmap_task_arg(task);
    for (size_t i = first; i < last; i++) {
        pmap_task_item(task, i);
        if (pmap_task_index(task) != i) ++*wrong;
    }
    pmap_task_item(task, last);      /* not in this piece: ignored */
    pmap_task_item(task, first - 1);
    pmap_task_item(task, (size_t)-1);
    if (pmap_task_index(task) != last - 1) ++*wrong;
    return 0;
}

static void an_item_outside_the_piece_is_ignored(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    size_t *wrong = pmap_alloc(pool, sizeof *wrong);
    assert_non_null(wrong);
    *wrong = 0;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = wrong;
    EXPECT(pmap_for(pool, jump, 0, 5000, &options), 0);
    EXPECT(pmap_for(pool, jump, 1000, 1001, &options), 0);
    EXPECT(pmap_for(pool, jump, SIZE_MAX - 5000, SIZE_MAX, &options), 0);
    assert_int_equal(*wrong, 0);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"index, worker and attempt", index_worker_and_attempt, PM_ON_ALL},
    {"the random stream", the_random_stream, PM_ON_ALL},
    {"retries are counted", retries_are_counted, PM_ON_ALL},
    {"once means no retry", once_means_no_retry, PM_ON_ALL},
    {"texts are cut and not mixed up", texts_are_cut_and_not_mixed_up, PM_ON_ALL},
    {"an item outside the piece is ignored", an_item_outside_the_piece_is_ignored, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("task", tests); }

/* pmap_chunks: every item once, in pieces of the size that was asked for, and a failing piece is taken apart. */
#include "tests/paths.h"

#include <stdio.h>
#include <string.h>

struct seen { /* one result an item */
    uint32_t value, count, place, attempt;
};

static int look(pmap_task *task, const void *items, size_t count, void *results)
{
    const uint32_t *in = items;
    struct seen *out = results;
    size_t most = *(const size_t *)pmap_task_arg(task);
    if (count == 0 || (most && count > most)) return 9;
    for (size_t i = 0; i < count; i++)
        out[i] = (struct seen){in[i] + (uint32_t)(pmap_task_index(task) + i), (uint32_t)count, (uint32_t)i,
                               pmap_task_attempt(task)};
    return 0;
}

static void every_item_once(const struct pm_path *path)
{
    static const size_t chunks[] = {0, 1, 6, 40, 50, (size_t)1 << 24};
    pmap_pool *pool = pm_path_open(path, 3);
    for (size_t n = 0; n <= 5000; n = n < 2 ? n + 1 : n < 40 ? n * 20 : n * 10 + 1)
        for (size_t c = 0; c < 6; c++) {
            uint32_t *in = pm_path_alloc(path, pool, n * 4);
            struct seen *out = pm_path_alloc(path, pool, n * sizeof *out);
            pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
            options.chunk = chunks[c];
            options.arg = &options.chunk;
            options.arg_size = sizeof options.chunk;
            for (uint32_t i = 0; i < n; i++) in[i] = i * 3;
            memset(out, 0xff, n * sizeof *out);
            EXPECT(pmap_chunks(pool, look, in, n, 4, out, sizeof *out, &options), 0);
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(out[i].value, i * 4);
                assert_int_equal(out[i].attempt, 0);
                assert_true(i >= out[i].place && i - out[i].place + out[i].count <= n);
                if (out[i].place) assert_int_equal(out[i].place, out[i - 1].place + 1);
                if (chunks[c] && out[i].place == 0 && i + chunks[c] <= n) assert_int_equal(out[i].count, chunks[c]);
            }
            pm_path_free(path, pool, in);
            pm_path_free(path, pool, out);
        }
    pm_path_close(pool);
}

/* Fails as a whole when one of its items is bad, as a function would that sums its chunk. */
static int bad_items(pmap_task *task, const void *items, size_t count, void *results)
{
    const uint32_t *in = items;
    uint32_t *out = results;
    int code = 0;
    for (size_t i = 0; i < count; i++) {
        out[i] = ~in[i];
        if (in[i] % 1000 == 777) {
            pmap_task_error(task, "bad %u", in[i]);
            code = 5;
        }
    }
    return code;
}

static void a_failing_chunk_is_taken_apart(const struct pm_path *path)
{
    enum { N = 10000 };
    static const size_t chunks[] = {0, 1, 6, 64, 777, N};
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t *in = pm_path_alloc(path, pool, N * 4), *out = pm_path_alloc(path, pool, N * 4);
    for (uint32_t i = 0; i < N; i++) in[i] = i;
    for (size_t c = 0; c < 6; c++) {
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.chunk = chunks[c];
        memset(out, 0, N * 4);
        EXPECT(pmap_chunks(pool, bad_items, in, N, 4, out, 4, &options), PMAP_EITEMS);
        size_t count;
        const pmap_failure *f = pmap_failures(pool, &count);
        assert_int_equal(count, 10);
        for (size_t i = 0; i < count; i++) {
            char text[32];
            snprintf(text, sizeof text, "bad %zu", f[i].item);
            assert_int_equal(f[i].item, i * 1000 + 777);
            assert_int_equal(f[i].count, 1);
            assert_int_equal(f[i].cause, PMAP_CAUSE_CODE);
            assert_int_equal(f[i].value, 5);
            assert_non_null(strstr(f[i].text, text));
        }
        for (uint32_t i = 0; i < N; i++)
            if (i % 1000 != 777) assert_int_equal(out[i], ~i);
    }
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

/* `once`: a chunk that failed is not run again to find out who it was; all of it has failed. */
static void once_fails_the_whole_chunk(const struct pm_path *path)
{
    enum { N = 100 };
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t *in = pm_path_alloc(path, pool, N * 4), *out = pm_path_alloc(path, pool, N * 4);
    for (uint32_t i = 0; i < N; i++) in[i] = i + 740; /* 777 is item 37 */
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.chunk = 10;
    options.once = 1;
    EXPECT(pmap_chunks(pool, bad_items, in, N, 4, out, 4, &options), PMAP_EITEMS);
    size_t count;
    const pmap_failure *f = pmap_failures(pool, &count);
    assert_int_equal(count, 1);
    assert_int_equal(f->item, 30);
    assert_int_equal(f->count, 10);
    assert_int_equal(f->attempts, 1);
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static void chunk_sizes_that_are_refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t in = 0, out;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.chunk = ((size_t)1 << 24) + 1;
    EXPECT(pmap_chunks(pool, bad_items, &in, 1, 4, &out, 4, &options), PMAP_EINVAL);
    EXPECT_TEXT("chunk is 16777217");
    options.chunk = (size_t)-1; /* what -1 becomes */
    EXPECT(pmap_chunks(pool, bad_items, &in, 1, 4, &out, 4, &options), PMAP_EINVAL);
    EXPECT(pmap_chunks(pool, NULL, &in, 1, 4, &out, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pmap_chunks");
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"every item once", every_item_once, PM_ON_ALL},
    {"a failing chunk is taken apart", a_failing_chunk_is_taken_apart, PM_ON_ALL},
    {"once fails the whole chunk", once_fails_the_whole_chunk, PM_ON_ALL},
    {"chunk sizes that are refused", chunk_sizes_that_are_refused, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("chunks", tests); }

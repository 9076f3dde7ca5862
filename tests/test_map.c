/* pmap_map: order and values, whatever the path, the workers, the chunk and the place of the memory. */
#include "tests/paths.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static int times_three(pmap_task *task, const void *item, void *result)
{
    uint32_t x;
    memcpy(&x, item, sizeof x); /* tests put items at odd addresses */
    uint64_t y = 3u * (uint64_t)x + pmap_task_index(task);
    memcpy(result, &y, sizeof y);
    return 0;
}

static void map_and_check(const struct pm_path *path, pmap_pool *pool, size_t n, size_t chunk, size_t shift)
{
    if (path->bit == PM_ON_ZMQ && chunk && chunk < 10 && n > 10000) n = 10000; /* one message a chunk, 20 us each */
    char *in = pm_path_alloc(path, pool, n * 4 + shift), *out = pm_path_alloc(path, pool, n * 8 + shift + 8);
    for (size_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)(i * 2654435761u);
        memcpy(in + shift + i * 4, &x, 4);
    }
    memset(out, 0x5a, n * 8 + shift + 8);
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.chunk = chunk;
    EXPECT(pmap_map(pool, times_three, in + shift, n, 4, out + shift, 8, &options), 0);
    for (size_t i = 0; i < n; i++) {
        uint64_t y, expected = 3u * (uint64_t)(uint32_t)(i * 2654435761u) + i;
        memcpy(&y, out + shift + i * 8, 8);
        if (y != expected) fail_msg("%zu items, chunk %zu: result %zu is %llu, not %llu", n, chunk, i,
                                    (unsigned long long)y,
                                    (unsigned long long)expected);
    }
    /* nothing behind the end */
    for (size_t i = 0; i < 8; i++) assert_int_equal((unsigned char)out[shift + n * 8 + i], 0x5a);
    size_t failures = 1;
    assert_null(pmap_failures(pool, &failures));
    assert_int_equal(failures, 0);
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
}

static void order_and_values(const struct pm_path *path)
{
    static const size_t chunks[] = {0, 1, 6, 40, 50}, counts[] = {0, 1, 2, 3, 40, 1000, 100000};
    static const unsigned workers[] = {1, 2, 3, 7};
    for (size_t w = 0; w < 4; w++) {
        pmap_pool *pool = pm_path_open(path, workers[w]);
        for (size_t c = 0; c < 5; c++)
            for (size_t n = 0; n < 7; n++) map_and_check(path, pool, counts[n], chunks[c], 0);
        pm_path_close(pool);
    }
}

static void memory_at_odd_addresses(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t shift = 1; shift < 8; shift += 2) {
        map_and_check(path, pool, 40, 0, shift);
        map_and_check(path, pool, 100001, 7, shift);
    }
    pm_path_close(pool);
}

/* A round is a window of 2^17 - 1 chunks: one less, exactly, one more, and several of them. */
static void more_chunks_than_a_round_holds(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 3);
    for (size_t n = 131070; n <= 131072; n++) map_and_check(path, pool, n, 1, 0);
    map_and_check(path, pool, 600000, 1, 0);
    pm_path_close(pool);
}

/* ---- Input and output in different places ---- */

static void one_side_private(const struct pm_path *path)
{
    enum { N = 200000 };
    pmap_pool *pool = pm_path_open(path, 2);
    uint32_t *private_in = malloc(N * 4), *shared_in = pmap_alloc(pool, N * 4);
    uint64_t *private_out = malloc(N * 8), *shared_out = pmap_alloc(pool, N * 8);
    assert_true(private_in && shared_in && private_out && shared_out);
    for (uint32_t i = 0; i < N; i++) private_in[i] = shared_in[i] = i * 7;
    EXPECT(pmap_map(pool, times_three, private_in, N, 4, shared_out, 8, NULL), 0);
    EXPECT(pmap_map(pool, times_three, shared_in, N, 4, private_out, 8, NULL), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(shared_out[i], (uint64_t)i * 22);
        assert_int_equal(private_out[i], (uint64_t)i * 22);
    }
    free(private_in);
    free(private_out);
    pm_path_close(pool);
}

static void constant_input(const struct pm_path *path)
{
    static const uint32_t in[5] = {1, 2, 3, 4, 5}; /* read-only memory of the program */
    uint64_t out[5] = {0};
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_map(pool, times_three, in, 5, 4, out, 8, NULL), 0);
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(out[i], 3 * in[i] + i);
    pm_path_close(pool);
}

static int only_out(pmap_task *task, const void *item, void *result)
{
    if (item) return 1;
    *(unsigned char *)result = (unsigned char)(pmap_task_index(task) * 5);
    return 0;
}

static int only_in(pmap_task *task, const void *item, void *result)
{
    if (result) return 1;
    return *(const unsigned char *)item == (unsigned char)(pmap_task_index(task) * 5) ? 0 : 2;
}

static int neither(pmap_task *task, const void *item, void *result)
{
    (void)task;
    return item || result ? 3 : 0;
}

static void without_input_or_output(const struct pm_path *path)
{
    enum { N = 3000 };
    pmap_pool *pool = pm_path_open(path, 3);
    unsigned char *bytes = pm_path_alloc(path, pool, N);
    EXPECT(pmap_map(pool, only_out, NULL, N, 0, bytes, 1, NULL), 0);
    for (size_t i = 0; i < N; i++) assert_int_equal(bytes[i], (unsigned char)(i * 5));
    EXPECT(pmap_map(pool, only_in, bytes, N, 1, NULL, 0, NULL), 0);
    EXPECT(pmap_map(pool, neither, NULL, N, 0, NULL, 0, NULL), 0);
    pm_path_free(path, pool, bytes);
    pm_path_close(pool);
}

static int odd_sizes(pmap_task *task, const void *item, void *result)
{
    const unsigned char *x = item;
    memset(result, x[0] ^ x[1] ^ x[2] ^ (int)(pmap_task_index(task) & 0xff), 7);
    return 0;
}

static void sizes_that_are_no_power_of_two(const struct pm_path *path)
{
    enum { N = 250001 };
    pmap_pool *pool = pm_path_open(path, 2);
    unsigned char *in = pm_path_alloc(path, pool, N * 3), *out = pm_path_alloc(path, pool, N * 7);
    for (size_t i = 0; i < N * 3; i++) in[i] = (unsigned char)(i * 31);
    EXPECT(pmap_map(pool, odd_sizes, in, N, 3, out, 7, NULL), 0);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < 7; k++)
            if (out[i * 7 + k] != (unsigned char)(in[i * 3] ^ in[i * 3 + 1] ^ in[i * 3 + 2] ^ (i & 0xff)))
                fail_msg("item %zu", i);
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static int add_one(pmap_task *task, const void *item, void *result)
{
    (void)task;
    uint64_t x;
    memcpy(&x, item, 8);
    x++;
    memcpy(result, &x, 8);
    return 0;
}

static void the_same_place(const struct pm_path *path)
{
    size_t n = path->bit == PM_ON_ZMQ ? 10000 : 150000; /* `once` sends an item a message */
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t *a = pm_path_alloc(path, pool, n * 8);
    pmap_map_options once = PMAP_MAP_OPTIONS_INIT;
    once.once = 1;
    for (uint64_t i = 0; i < n; i++) a[i] = i;
    EXPECT(pmap_map(pool, add_one, a, n, 8, a, 8, &once), 0);
    for (uint64_t i = 0; i < n; i++) assert_int_equal(a[i], i + 1);
    pm_path_free(path, pool, a);
    pm_path_close(pool);
}

static void overlap_is_refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    char *a = pm_path_alloc(path, pool, 4096);
    memset(a, 1, 4096);
    EXPECT(pmap_map(pool, add_one, a, 100, 8, a + 8, 8, NULL), PMAP_EOVERLAP);
    EXPECT_TEXT("pmap_map");
    EXPECT(pmap_map(pool, add_one, a + 799, 100, 8, a, 8, NULL), PMAP_EOVERLAP);
    EXPECT(pmap_map(pool, add_one, a, 100, 8, a, 16, NULL), PMAP_EOVERLAP); /* the same place, but not the same size */
    EXPECT(pmap_map(pool, add_one, a, 100, 8, a + 800, 8, NULL), 0);         /* side by side */
    EXPECT(pmap_map(pool, add_one, a + 800, 100, 8, a, 8, NULL), 0);
    for (size_t i = 1600; i < 4096; i++) assert_int_equal(a[i], 1);
    pm_path_free(path, pool, a);
    pm_path_close(pool);
}

/* ---- Arguments that are wrong ---- */

static void wrong_arguments(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t a = 41, b = 0;
    EXPECT(pmap_map(NULL, add_one, &a, 1, 8, &b, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pool");
    EXPECT(pmap_map(pool, NULL, &a, 1, 8, &b, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("function");
    EXPECT(pmap_map(pool, add_one, NULL, 1, 8, &b, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("in is NULL");
    EXPECT(pmap_map(pool, add_one, &a, 1, 8, NULL, 8, NULL), PMAP_EINVAL);
    EXPECT_TEXT("out is NULL");
    EXPECT(pmap_map(pool, add_one, &a, SIZE_MAX / 4, 8, &b, 8, NULL), PMAP_EOVERFLOW);
    EXPECT_TEXT("in_size");
    EXPECT(pmap_map(pool, add_one, &a, SIZE_MAX / 4, 1, &b, 8, NULL), PMAP_EOVERFLOW);
    EXPECT_TEXT("out_size");
    EXPECT(pmap_map(pool, add_one, &a, SIZE_MAX, 1, NULL, 0, NULL), PMAP_EOVERFLOW); /* runs past the address space */
    EXPECT(pmap_map(pool, add_one, NULL, 0, 8, NULL, 8, NULL), 0);                   /* nothing of anything */
    EXPECT(pmap_map(pool, add_one, &a, 1, 8, &b, 8, NULL), 0);                       /* all that has harmed nothing */
    assert_int_equal(b, 42);
    pm_path_close(pool);
}

/* ---- Large ---- */

static int turn_round(pmap_task *task, const void *item, void *result)
{
    size_t bytes = *(const size_t *)pmap_task_arg(task) / 8;
    const uint64_t *from = item;
    uint64_t *to = result;
    for (size_t i = 0; i < bytes; i++) to[i] = ~from[i];
    return 0;
}

/* 100 MiB as one item, and the first 20 of them as 20. */
static void a_hundred_mebibytes(const struct pm_path *path)
{
    size_t sizes[] = {100 * MIB, MIB}, counts[] = {1, 20};
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t *in = pm_path_alloc(path, pool, 100 * MIB), *out = pm_path_alloc(path, pool, 100 * MIB);
    for (size_t i = 0; i < 100 * MIB / 8; i++) in[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t s = 0; s < 2; s++) {
        size_t bytes = counts[s] * sizes[s], wrong = 0;
        memset(out, 0, bytes);
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.arg = &sizes[s];
        options.arg_size = sizeof sizes[s];
        EXPECT(pmap_map(pool, turn_round, in, counts[s], sizes[s], out, sizes[s], &options), 0);
        for (size_t i = 0; i < bytes / 8; i++) wrong += out[i] != ~in[i];
        assert_int_equal(wrong, 0);
    }
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

/* ---- Several threads ---- */

#define CALLERS 20 /* more than the 16 jobs that a pool has open at once */
#define CALLS 3

struct caller {
    const struct pm_path *path;
    pmap_pool *pool;
    unsigned number;
    int wrong;
    char text[200];
};

static void *call_often(void *arg)
{
    struct caller *c = arg;
    for (unsigned call = 0; call < CALLS; call++) {
        size_t n = 500 + 4000 * (c->number % 7) + call;
        uint32_t *in = malloc(n * 4);
        uint64_t *out = calloc(n, 8);
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.chunk = c->number % 5 * (c->path->bit == PM_ON_ZMQ ? 20 : 1); /* a message each */
        for (uint32_t i = 0; i < n; i++) in[i] = i ^ c->number;
        int e = pmap_map(c->pool, times_three, in, n, 4, out, 8, &options);
        if (e) {
            c->wrong++;
            strncpy(c->text, pmap_error(), sizeof c->text - 1);
        }
        for (uint32_t i = 0; i < n; i++) c->wrong += out[i] != 3u * (uint64_t)(i ^ c->number) + i;
        free(in);
        free(out);
    }
    return NULL;
}

static void calls_from_many_threads(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 3);
    pthread_t thread[CALLERS];
    struct caller caller[CALLERS];
    for (unsigned i = 0; i < CALLERS; i++) {
        caller[i] = (struct caller){.path = path, .pool = pool, .number = i};
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &caller[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < CALLERS; i++)
        if (caller[i].wrong) fail_msg("thread %u: %d wrong, %s", i, caller[i].wrong, caller[i].text);
    pm_path_close(pool);
}

/* ---- arg ---- */

static int add_arg(pmap_task *task, const void *item, void *result)
{
    (void)item;
    const uint64_t *arg = pmap_task_arg(task);
    *(uint64_t *)result = arg[0] + arg[99] + pmap_task_index(task);
    return 0;
}

static int tell_arg(pmap_task *task, const void *item, void *result)
{
    (void)item;
    void *arg = pmap_task_arg(task);
    memcpy(result, &arg, sizeof arg);
    return 0;
}

static void arg_by_copy_and_as_a_pointer(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    /* after the pool opened: the workers lack it */
    uint64_t *out = pm_path_alloc(path, pool, 1000 * 8), *arg = malloc(100 * 8);
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    for (uint64_t round = 1; round <= 3; round++) {
        for (uint64_t i = 0; i < 100; i++) arg[i] = round * 1000 + i;
        options.arg = arg;
        options.arg_size = 100 * 8;
        EXPECT(pmap_map(pool, add_arg, NULL, 1000, 0, out, 8, &options), 0);
        for (uint64_t i = 0; i < 1000; i++) assert_int_equal(out[i], round * 2000 + 99 + i);
    }
    options.arg_size = 0;
    options.arg = arg + 3;
    EXPECT(pmap_map(pool, tell_arg, NULL, 1000, 0, out, 8, &options), 0);
    for (uint64_t i = 0; i < 1000; i++) assert_int_equal(out[i], (uintptr_t)(arg + 3));
    options.arg = NULL;
    options.arg_size = 5;
    EXPECT(pmap_map(pool, tell_arg, NULL, 1000, 0, out, 8, &options), PMAP_EINVAL);
    EXPECT_TEXT("arg_size");
    free(arg);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"order and values", order_and_values, PM_ON_ALL},
    {"memory at odd addresses", memory_at_odd_addresses, PM_ON_ALL},
    /* a message each */
    {"more chunks than a round holds", more_chunks_than_a_round_holds, PM_ON_ALL & ~(unsigned)PM_ON_ZMQ},
    {"one side private", one_side_private, PM_ON_ALL},
    {"constant input", constant_input, PM_ON_ALL},
    {"without input or output", without_input_or_output, PM_ON_ALL},
    {"sizes that are no power of two", sizes_that_are_no_power_of_two, PM_ON_ALL},
    {"the same place", the_same_place, PM_ON_ALL},
    {"overlap is refused", overlap_is_refused, PM_ON_ALL},
    {"wrong arguments", wrong_arguments, PM_ON_ALL},
    {"a hundred mebibytes", a_hundred_mebibytes, PM_ON_ALL},
    {"calls from many threads", calls_from_many_threads, PM_ON_ALL},
    {"arg by copy and as a pointer", arg_by_copy_and_as_a_pointer, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("map", tests); }

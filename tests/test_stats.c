/* pmap_stats: the five parts add up to workers x wall, and what is counted is right. */
#include "tests/paths.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void burn_ns(long ns)
{
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < ns);
}

static int burn(pmap_task *task, const void *item, void *result)
{
    (void)item;
    burn_ns(20000);
    *(uint64_t *)result = pmap_task_index(task);
    return 0;
}

static int quick(pmap_task *task, const void *item, void *result)
{
    (void)item;
    *(uint64_t *)result = pmap_task_index(task);
    return 0;
}

static double parts(const pmap_stats_t *s)
{
    return s->transfer_in_s + s->compute_s + s->transfer_out_s + s->dispatch_s + s->idle_s;
}

/* Within 5 %.  Other programs may take the CPU between two readings of the clock, so a noisy machine has some tries. */
static void the_parts_add_up(const struct pm_path *path)
{
    enum { N = 3000, TRIES = 8 };
    static const unsigned workers[] = {1, 2, 5};
    for (size_t w = 0; w < 3; w++) {
        pmap_pool *pool = pm_path_open(path, workers[w]);
        uint64_t *in = pm_path_alloc(path, pool, 100 * N * 8), *out = pm_path_alloc(path, pool, 100 * N * 8);
        memset(in, 0, 100 * N * 8);
        for (int work = 0; work < 2; work++) {
            pmap_stats_t stats;
            double off = 1;
            for (int i = 0; i < TRIES && off > 0.05; i++) {
                pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
                stats = (pmap_stats_t){.size = sizeof stats};
                options.stats = &stats;
                EXPECT(pmap_map(pool, work ? burn : quick, in, work ? N : 100 * N, 8, out, 8, &options), 0);
                assert_int_equal(stats.workers, pm_path_workers(path, workers[w]));
                assert_true(stats.wall_s > 0 && stats.compute_s > 0 &&
                            stats.compute_s <= stats.workers * stats.wall_s * 1.05);
                assert_true(stats.transfer_in_s >= 0 && stats.transfer_out_s >= 0 && stats.dispatch_s >= 0 &&
                            stats.idle_s >= 0);
                off = parts(&stats) / (stats.workers * stats.wall_s) - 1;
                if (off < 0) off = -off;
            }
            if (off > 0.05)
                fail_msg("%s: %u workers x %g s, but in %g + compute %g + out %g + dispatch %g + idle %g s",
                         work ? "burn" : "quick",
                         stats.workers, stats.wall_s, stats.transfer_in_s, stats.compute_s, stats.transfer_out_s,
                         stats.dispatch_s,
                         stats.idle_s);
            /* a part of it is extrapolated where calls are short */
            if (work) assert_true(stats.compute_s >= N * 20e-6 * 0.9);
        }
        pm_path_free(path, pool, in);
        pm_path_free(path, pool, out);
        pm_path_close(pool);
    }
}

static int fail_or_retry(pmap_task *task, const void *item, void *result)
{
    (void)item;
    memset(result, 0, 16);
    size_t i = pmap_task_index(task);
    return i % 100 == 7 ? 3 : 0;
}

static void what_is_counted(const struct pm_path *path)
{
    enum { N = 10000 };
    pmap_pool *pool = pm_path_open(path, 2);
    char *in = pm_path_alloc(path, pool, N * 24), *out = pm_path_alloc(path, pool, N * 16);
    memset(in, 0, N * 24);
    pmap_stats_t stats = {.size = sizeof stats}, total = {.size = sizeof total};
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.stats = &stats;
    options.chunk = 10;
    uint64_t bytes = 0;
    double wall = 0;
    for (uint64_t call = 1; call <= 3; call++) {
        EXPECT(pmap_map(pool, fail_or_retry, in, N, 24, out, 16, &options), PMAP_EITEMS);
        assert_int_equal(stats.items, N - N / 100); /* those that were done */
        assert_int_equal(stats.chunks, N / 10);
        assert_int_equal(stats.failed, N / 100);
        assert_int_equal(stats.deaths, 0);
        if (path->bit == PM_ON_COPY) assert_int_equal(stats.bytes_copied, N * (24 + 16));
        else if (path->bit == PM_ON_ZMQ) assert_true(stats.bytes_copied >= N * (24 + 16));
        else assert_int_equal(stats.bytes_copied, 0);
        if (path->executor == PMAP_SERIAL) assert_int_equal(stats.steals, 0);
        bytes += stats.bytes_copied;
        wall += stats.wall_s;
        EXPECT(pmap_stats(pool, &total), 0); /* the sum of all calls */
        assert_int_equal(total.items, call * (N - N / 100));
        assert_int_equal(total.chunks, call * N / 10);
        assert_int_equal(total.failed, call * N / 100);
        assert_int_equal(total.bytes_copied, bytes);
        assert_true(total.wall_s > wall * 0.999999 && total.wall_s < wall * 1.000001);
    }
    memset(&stats, 0x5a, sizeof stats); /* a call of nothing also fills it */
    stats.size = sizeof stats;
    EXPECT(pmap_map(pool, fail_or_retry, in, 0, 24, out, 16, &options), 0);
    assert_int_equal(stats.items + stats.chunks + stats.failed + stats.bytes_copied, 0);
    EXPECT(pmap_stats(pool, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pmap_stats");
    total.size = 0;
    EXPECT(pmap_stats(pool, &total), PMAP_EINVAL);
    EXPECT(pmap_stats(NULL, &stats), PMAP_EINVAL);
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    pm_path_close(pool);
}

static int burn_long(pmap_task *task, size_t first, size_t last)
{
    (void)task, (void)first, (void)last;
    burn_ns(1000000);
    return 0;
}

/* One chunk, and nobody asks what it costs: whoever sleeps or spins meanwhile, the pool's total has it. */
static void a_lone_chunk(const struct pm_path *path)
{
    static const int spin_us[] = {-1, 100, 1000000};
    enum { CALLS = 10 };
    for (size_t s = 0; s < 3; s++) {
        pmap_options o = PMAP_OPTIONS_INIT;
        pmap_pool *pool;
        pmap_stats_t total = {.size = sizeof total};
        o.executor = path->executor;
        o.workers = 1;
        o.spin_us = spin_us[s];
        EXPECT(pmap_pool_open(&pool, &o), 0);
        for (int i = 0; i < CALLS; i++) EXPECT(pmap_for(pool, burn_long, 0, 1, NULL), 0);
        EXPECT(pmap_stats(pool, &total), 0);
        if (total.compute_s < CALLS * 0.00099 || total.compute_s > total.wall_s * 1.0001)
            fail_msg("spin_us %d: computed for %g s of %g s, in %d calls of 1 ms", spin_us[s], total.compute_s, total.wall_s, CALLS);
        double off = parts(&total) / total.wall_s - 1;
        if (off < -0.05 || off > 0.05) fail_msg("spin_us %d: %g s in parts, %g s in all", spin_us[s], parts(&total), total.wall_s);
        assert_int_equal(total.items, CALLS);
        assert_int_equal(total.chunks, CALLS);
        pm_path_close(pool);
    }
}

static const struct pm_path_test tests[] = {
    {"the parts add up", the_parts_add_up, PM_ON_ALL},
    {"what is counted", what_is_counted, PM_ON_ALL},
    {"a lone chunk", a_lone_chunk, PM_ON_SHM},
};

int main(void) { return PM_PATHS_MAIN("stats", tests); }

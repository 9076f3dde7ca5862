/* Options: what is refused, with which words; structs of older and newer programs; the version. */
#include "tests/paths.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

static int zero(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item;
    *(char *)result = 0;
    return 0;
}

static void open_fails(const pmap_options *options, int error, const char *words)
{
    pmap_pool *pool = (pmap_pool *)&pool;
    EXPECT(pmap_pool_open(&pool, options), error);
    assert_null(pool);
    EXPECT_TEXT("pmap_pool_open");
    EXPECT_TEXT(words);
}

static void pools_that_are_refused(const struct pm_path *path)
{
    (void)path;
    const pmap_options init = PMAP_OPTIONS_INIT;
    pmap_options o = init;
    EXPECT(pmap_pool_open(NULL, &o), PMAP_EINVAL);
    EXPECT_TEXT("pool is NULL");
    o.size = 0;
    open_fails(&o, PMAP_EINVAL, "PMAP_OPTIONS_INIT");
    o.size = 4097;
    open_fails(&o, PMAP_EINVAL, "4097");
    o = init;
    o.workers = 4096;
    open_fails(&o, PMAP_EINVAL, "4096");
    o.workers = (unsigned)-1;
    open_fails(&o, PMAP_EINVAL, "4095");
    o = init;
    o.executor = (pmap_executor)3;
    open_fails(&o, PMAP_EINVAL, "executor 3");
    o.executor = (pmap_executor)-1;
    open_fails(&o, PMAP_EINVAL, "executor");
    o = init;
    o.channel = (pmap_channel)2;
    open_fails(&o, PMAP_EINVAL, "channel 2");
    o = init;
    o.channel = PMAP_ZMQ;
    o.executor = PMAP_THREADS;
    open_fails(&o, PMAP_EINVAL, "ZeroMQ");
    o.executor = PMAP_SERIAL;
    open_fails(&o, PMAP_EINVAL, "ZeroMQ");
#ifndef HAVE_ZMQ
    o.executor = PMAP_PROCESSES;
    open_fails(&o, PMAP_ENOTSUP, "without ZeroMQ");
#endif
    o = init;
    o.spin_us = -2;
    open_fails(&o, PMAP_EINVAL, "spin_us is -2");
}

static void one_map(pmap_pool *pool)
{
    char out[100];
    memset(out, 1, sizeof out);
    EXPECT(pmap_map(pool, zero, NULL, sizeof out, 0, out, 1, NULL), 0);
    for (size_t i = 0; i < sizeof out; i++) assert_int_equal(out[i], 0);
}

static void every_option_on_every_path(const struct pm_path *path)
{
    for (unsigned which = 0; which < 7; which++) {
        pmap_options o = pm_path_options(path, 2);
        if (which == 1) o.spin_us = -1;
        if (which == 2) o.spin_us = 1000;
        if (which == 3) o.keep_fds = 1;
        if (which == 4) o.no_huge_pages = 1;
        if (which == 5) o.memory = (size_t)64 << 20;
        if (which == 6) o.memory = 1;
        pmap_pool *pool;
        EXPECT(pmap_pool_open(&pool, &o), 0);
        one_map(pool);
        pm_path_close(pool);
    }
}

static void workers_by_default(const struct pm_path *path)
{
    pmap_options o = pm_path_options(path, 0);
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    assert_int_equal(pmap_pool_workers(pool), pm_path_workers(path, pmap_cpus()));
    assert_true(pmap_cpus() >= 1);
    one_map(pool);
    pm_path_close(pool);
}

static void no_options_at_all(const struct pm_path *path)
{
    (void)path;
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, NULL), 0);
    assert_int_equal(pmap_pool_workers(pool), pmap_cpus());
    int pid = 0;
    assert_int_equal(pmap_pool_pids(pool, &pid, 1), pmap_cpus());
    assert_true(pid > 0);
    one_map(pool);
    pm_path_close(pool);
    EXPECT(pmap_pool_close(NULL), 0);
    EXPECT(pmap_pool_terminate(NULL, 0), 0);
    assert_int_equal(pmap_pool_workers(NULL), 0);
    assert_int_equal(pmap_pool_pids(NULL, &pid, 1), 0);
}

/* A program built with an older header has a shorter struct: the rest is as it was then.  A newer one's has more. */
static void structs_of_other_versions(const struct pm_path *path)
{
    struct {
        pmap_options o;
        char more[64];
    } longer = {.o = PMAP_OPTIONS_INIT};
    memset(longer.more, 0xff, sizeof longer.more);
    longer.o = pm_path_options(path, 2);
    longer.o.size = sizeof longer;
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, &longer.o), 0);
    one_map(pool);

    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    char out;
    m.size = offsetof(pmap_map_options, timeout_s); /* what lies behind is not looked at */
    m.timeout_s = -5;
    m.retries = -5;
    EXPECT(pmap_map(pool, zero, NULL, 1, 0, &out, 1, &m), 0);
    m.size = 3;
    EXPECT(pmap_map(pool, zero, NULL, 1, 0, &out, 1, &m), PMAP_EINVAL);
    EXPECT_TEXT("PMAP_MAP_OPTIONS_INIT");
    m.size = 5000;
    EXPECT(pmap_map(pool, zero, NULL, 1, 0, &out, 1, &m), PMAP_EINVAL);

    struct {
        pmap_stats_t s;
        char behind[16];
    } stats = {.s = {.size = offsetof(pmap_stats_t, compute_s)}};
    memset((char *)&stats + offsetof(pmap_stats_t, compute_s), 0x5a, sizeof stats - offsetof(pmap_stats_t, compute_s));
    EXPECT(pmap_stats(pool, &stats.s), 0);
    for (size_t i = offsetof(pmap_stats_t, compute_s); i < sizeof stats; i++) assert_int_equal(((char *)&stats)[i],
                                                                                               0x5a);
    stats.s.size = sizeof stats;
    EXPECT(pmap_stats(pool, &stats.s), 0);
    for (size_t i = 0; i < sizeof stats.behind; i++) assert_int_equal(stats.behind[i], 0x5a);
    pm_path_close(pool);
}

static void map_fails(pmap_pool *pool, const pmap_map_options *m, int error, const char *words)
{
    char out = 7;
    EXPECT(pmap_map(pool, zero, NULL, 1, 0, &out, 1, m), error);
    EXPECT_TEXT("pmap_map");
    EXPECT_TEXT(words);
    assert_int_equal(out, 7); /* before any work */
}

static void map_options_that_are_refused(const struct pm_path *path)
{
    const pmap_map_options init = PMAP_MAP_OPTIONS_INIT;
    pmap_map_options m = init;
    pmap_pool *pool = pm_path_open(path, 2);
    m.timeout_s = -1;
    map_fails(pool, &m, PMAP_EINVAL, "timeout_s is -1");
    m.timeout_s = (double)NAN;
    map_fails(pool, &m, PMAP_EINVAL, "timeout_s");
    m.timeout_s = (double)INFINITY;
    map_fails(pool, &m, PMAP_EINVAL, "timeout_s");
    m = init;
    m.retries = -1;
    map_fails(pool, &m, PMAP_EINVAL, "retries is -1");
    m.retries = 31;
    map_fails(pool, &m, PMAP_EINVAL, "retries is 31");
    m = init;
    m.on_error = (pmap_on_error)2;
    map_fails(pool, &m, PMAP_EINVAL, "on_error is 2");
    m = init;
    m.stats = &(pmap_stats_t){.size = 0};
    map_fails(pool, &m, PMAP_EINVAL, "stats->size");
    m = init;
    m.timeout_s = 1e300; /* longer than any clock: no limit */
    if (path->executor != PMAP_PROCESSES) map_fails(pool, &m, PMAP_ENOTSUP, "PMAP_PROCESSES");
    else {
        char out = 7;
        EXPECT(pmap_map(pool, zero, NULL, 1, 0, &out, 1, &m), 0);
        assert_int_equal(out, 0);
    }
    one_map(pool);
    EXPECT(pmap_pool_terminate(pool, -1), PMAP_EINVAL);
    EXPECT_TEXT("grace_s");
    EXPECT(pmap_pool_terminate(pool, (double)NAN), PMAP_EINVAL);
    one_map(pool); /* still there */
    pm_path_close(pool);
}

static void the_version(const struct pm_path *path)
{
    (void)path;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", PMAP_VERSION_MAJOR, PMAP_VERSION_MINOR, PMAP_VERSION_PATCH);
    assert_string_equal(text, PMAP_VERSION);
    assert_string_equal(pmap_version(), PMAP_VERSION);
}

static const struct pm_path_test tests[] = {
    {"pools that are refused", pools_that_are_refused, PM_ON_NONE},
    {"every option on every path", every_option_on_every_path, PM_ON_ALL},
    {"workers by default", workers_by_default, PM_ON_ALL},
    {"no options at all", no_options_at_all, PM_ON_SHM},
    {"structs of other versions", structs_of_other_versions, PM_ON_ALL},
    {"map options that are refused", map_options_that_are_refused, PM_ON_ALL},
    {"the version", the_version, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("options", tests); }

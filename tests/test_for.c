/* pmap_for: pieces that cover a range exactly once, and bookkeeping that does not grow with it. */
#include "tests/paths.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)

/* What the pieces tell: in pmap_alloc() memory on every path, since a range has no result of its own. */
struct told {
    _Atomic uint64_t items, sum, calls, wrong, longest;
    size_t first, last;
    _Atomic unsigned char visits[];
};

static int tell(pmap_task *task, size_t first, size_t last)
{
    struct told *told = pmap_task_arg(task);
    if (first >= last || first < told->first || last > told->last ||
        pmap_task_index(task) != first) atomic_fetch_add(&told->wrong, 1);
    for (size_t i = first; i < last; i++) atomic_fetch_add_explicit(&told->visits[i - told->first], 1,
                                                                    memory_order_relaxed);
    uint64_t longest = atomic_load(&told->longest);
    while (last - first > longest && !atomic_compare_exchange_weak(&told->longest, &longest, last - first)) continue;
    atomic_fetch_add(&told->items, last - first);
    return 0;
}

static void cover(pmap_pool *pool, size_t first, size_t last, size_t chunk)
{
    struct told *told = pmap_alloc(pool, sizeof *told + (last - first));
    assert_non_null(told);
    memset(told, 0, sizeof *told + (last - first));
    told->first = first;
    told->last = last;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = told;
    options.chunk = chunk;
    EXPECT(pmap_for(pool, tell, first, last, &options), 0);
    assert_int_equal(atomic_load(&told->wrong), 0);
    assert_int_equal(atomic_load(&told->items), last - first);
    for (size_t i = 0; i < last - first; i++) assert_int_equal(told->visits[i], 1);
    if (chunk) assert_int_equal(atomic_load(&told->longest), last - first < chunk ? last - first : chunk);
    pmap_free(pool, told);
}

static void every_index_once(const struct pm_path *path)
{
    static const size_t chunks[] = {0, 1, 7, 1000, (size_t)1 << 24};
    pmap_pool *pool = pm_path_open(path, 3);
    for (size_t c = 0; c < 5; c++) {
        cover(pool, 0, 0, chunks[c]);
        cover(pool, 5, 5, chunks[c]);
        cover(pool, 0, 1, chunks[c]);
        cover(pool, 17, 5017, chunks[c]);
        cover(pool, SIZE_MAX - 3000, SIZE_MAX, chunks[c]);
        cover(pool, 1, path->bit == PM_ON_ZMQ ? 20001 : 200001, chunks[c]); /* there a chunk is a message */
    }
    pm_path_close(pool);
}

/* More single items than a round holds. */
static void three_hundred_thousand_chunks_of_one(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    cover(pool, 100, 300100, 1);
    pm_path_close(pool);
}

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_for(pool, tell, 5, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pmap_for: first 5");
    EXPECT(pmap_for(pool, NULL, 0, 4, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pmap_for");
    EXPECT(pmap_for(NULL, tell, 0, 4, NULL), PMAP_EINVAL);
    pm_path_close(pool);
}

static int fail_some(pmap_task *task, size_t first, size_t last)
{
    (void)task;
    for (size_t i = first; i < last; i++)
        if (i == 1000 || i == 1234567) return 3;
    return 0;
}

/* Failures are named in the caller's numbers, which begin at `first`. */
static void failures_are_counted_from_the_callers_first(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    static const size_t chunks[] = {0, 1, 1000};
    for (size_t c = 0; c < 3; c++) {
        if (path->bit == PM_ON_ZMQ && chunks[c] == 1) continue; /* more than a million messages */
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.chunk = chunks[c];
        EXPECT(pmap_for(pool, fail_some, 900, 1300000, &options), PMAP_EITEMS);
        size_t count;
        const pmap_failure *f = pmap_failures(pool, &count);
        assert_int_equal(count, 2);
        assert_int_equal(f[0].item, 1000);
        assert_int_equal(f[1].item, 1234567);
        assert_int_equal(f[1].count, 1);
        assert_non_null(strstr(f[1].text, "item 1234567"));
    }
    pm_path_close(pool);
}

/* ---- 10^9 items ---- */

static int add_up(pmap_task *task, size_t first, size_t last)
{
    struct told *told = pmap_task_arg(task);
    uint64_t sum = 0;
    for (size_t i = first; i < last; i++) sum += i;
    atomic_fetch_add_explicit(&told->sum, sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&told->items, last - first, memory_order_relaxed);
    atomic_fetch_add_explicit(&told->calls, 1, memory_order_relaxed);
    return 0;
}

/* Sum of the lines of /proc/<who>/smaps_rollup that begin so, in bytes; 0 where there is no such file. */
static size_t rollup(int who, const char *begins)
{
    char path[64], line[200];
    size_t kib, sum = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", who);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, begins, strlen(begins)) == 0 && sscanf(strchr(line, ':') + 1, "%zu",
                                                                 &kib) == 1) sum += kib * KIB;
    fclose(file);
    return sum;
}

/* Memory of the pool's shared object that is in use, whoever maps it: as the kernel counts the file's pages. */
static size_t arena_bytes(void)
{
    char line[400];
    size_t sum = 0, kib;
    bool ours = false;
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        if (strchr("0123456789abcdef", line[0]) && strchr(line, '-')) ours = strstr(line, "/memfd:pmap") != NULL;
        else if (ours && sscanf(line, "Rss: %zu", &kib) == 1) sum += kib * KIB;
    }
    fclose(file);
    return sum;
}

static void a_thousand_million_items(const struct pm_path *path)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    /* what a sanitizer keeps for itself would be counted, too: only the values are looked at */
    const size_t n = 50000000;
    const bool look_at_memory = false;
#else
    const size_t n = 1000000000;
    const bool look_at_memory = true;
#endif
    enum { WORKERS = 2 };
    size_t chunks[] = {0, path->bit == PM_ON_ZMQ ? 100000 : 3000};
    pmap_pool *pool = pm_path_open(path, WORKERS);
    size_t before = arena_bytes();
    for (size_t c = 0; c < 2; c++) {
        struct told *told = pmap_alloc(pool, sizeof *told);
        assert_non_null(told);
        memset(told, 0, sizeof *told);
        pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
        options.arg = told;
        options.chunk = chunks[c];
        EXPECT(pmap_for(pool, add_up, 0, n, &options), 0);
        assert_int_equal(atomic_load(&told->items), n);
        assert_int_equal(atomic_load(&told->sum), (uint64_t)n * (n - 1) / 2);
        pmap_free(pool, told);
        int pids[WORKERS] = {0};
        unsigned processes = pmap_pool_pids(pool, pids, WORKERS);
        assert_int_equal(processes, path->executor == PMAP_PROCESSES ? WORKERS : 0);
        for (unsigned i = 0; i < processes && look_at_memory; i++) {
            size_t own = rollup(pids[i], "Private_Clean") + rollup(pids[i], "Private_Dirty");
            assert_true(own > 0);
            if (own > 1024 * KIB) fail_msg("worker %u has %zu KiB of private memory", i, own / KIB);
        }
    }
    size_t after = arena_bytes();
    if (look_at_memory && after > before + 16384 * KIB) fail_msg("the arena grew from %zu to %zu KiB", before / KIB,
                                                                 after / KIB);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"every index once", every_index_once, PM_ON_ALL},
    {"300,000 chunks of one", three_hundred_thousand_chunks_of_one, PM_ON_ALL & ~(unsigned)PM_ON_ZMQ},
    {"refused", refused, PM_ON_ALL},
    {"failures are counted from the caller's first", failures_are_counted_from_the_callers_first, PM_ON_ALL},
    /* without input the copying path is the other */
    {"10^9 items", a_thousand_million_items, PM_ON_ALL & ~(unsigned)PM_ON_COPY},
};

int main(void) { return PM_PATHS_MAIN("for", tests); }

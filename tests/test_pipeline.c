/* Pipelines: download - resize - upload on threads, processes and the caller's own thread; the order of results; how far the source is
 * pulled ahead; time-outs, forks and close at any time. */
#include "tests/pipeline.h"

static void the_notes(const struct pm_path *path)
{
    (void)path;
    for (size_t l = 0; l < LAYOUTS; l++)
        for (int unordered = 0; unordered < 2 && possible(&layouts[l]); unordered++) {
            struct shared *s = share(1000);
            pmap_pipeline *p = open_notes(&layouts[l], s, unordered, PMAP_ON_ERROR_COLLECT);
            for (size_t i = 0; i < STAGES; i++)
                assert_int_equal(pmap_pool_workers(pmap_pipeline_pool(p, i)), layouts[l].executor[i] == PMAP_SERIAL ? 1 : 3 + i);
            assert_null(pmap_pipeline_pool(p, STAGES));
            all_right(p, s, !unordered);
            pmap_pipeline_close(p);
            for (int i = 0; i < STAGES; i++) assert_int_equal(s->begun[i], 1000);
            assert_int_equal(s->pulled, 1000);
            share_end(s);
        }
}

static void one_stage(const struct pm_path *path)
{
    struct shared *s = share(500);
    pmap_stage stage = {.function = negate, .workers = 2, .executor = path->executor};
    pmap_pipeline *p = open_stages(&stage, 1, s, NULL);
    const void *result;
    size_t bytes;
    for (uint64_t i = 0; i < s->most; i++) {
        EXPECT(pmap_pipeline_next(p, 30, &result, &bytes), 1);
        assert_int_equal(bytes, sizeof(uint64_t));
        assert_int_equal(*(const uint64_t *)result, ~i);
    }
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

static void no_items(const struct pm_path *path)
{
    struct shared *s = share(0);
    pmap_stage stage[2] = {{.function = negate, .workers = 1, .executor = path->executor}, {.function = negate, .workers = 1, .executor = path->executor}};
    pmap_pipeline *p = open_stages(stage, 2, s, NULL);
    expect_end(p);
    assert_null(pmap_pipeline_failure(p));
    pmap_pipeline_close(p);
    share_end(s);
}

/* An endless source, and close wherever the program stands: before the first, between two, with items under way. */
static void closed_in_the_middle(const struct pm_path *path)
{
    (void)path;
    static const uint64_t taken[] = {0, 1, 50};
    for (size_t l = 0; l < LAYOUTS; l++)
        for (size_t t = 0; t < sizeof taken / sizeof taken[0] && possible(&layouts[l]); t++) {
            struct shared *s = share(UINT64_MAX);
            pmap_pipeline *p = open_notes(&layouts[l], s, t % 2, PMAP_ON_ERROR_COLLECT);
            for (uint64_t i = 0; i < taken[t]; i++) (void)next_right(p, s);
            pmap_pipeline_close(p);
            if (taken[t] == 0) assert_int_equal(s->pulled, 0);
            share_end(s);
        }
    pmap_pipeline_close(NULL);
}

/* The last stage waits at its gate: everything before it fills up to its bounds, and then the source is left alone.  That all queues do fill
 * shows that what finishes is passed on although the last stage takes nothing more. */
static void back_pressure(const struct pm_path *path)
{
    const uint64_t sum = 3 + 4 + 5;
    for (int unordered = 0; unordered < 2; unordered++) {
        struct shared *s = share(200);
        struct layout l = {"", {path->executor, path->executor, path->executor}};
        pmap_stage stage[STAGES];
        pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
        o.unordered = unordered;
        notes_stages(&l, s, stage);
        for (unsigned i = 0; i < STAGES; i++) stage[i].workers = 1, stage[i].queue = 3 + i;
        atomic_store(&s->gate, 0);
        pmap_pipeline *p = open_stages(stage, STAGES, s, &o);
        for (double begin = seconds(); s->pulled < sum && seconds() - begin < 20;) EXPECT(pmap_pipeline_next(p, 0.01, NULL, NULL), PMAP_ETIMEDOUT);
        for (int i = 0; i < 5; i++) EXPECT(pmap_pipeline_next(p, 0.01, NULL, NULL), PMAP_ETIMEDOUT);
        assert_int_equal(s->pulled, sum);
        atomic_store(&s->gate, UINT64_MAX);
        all_right(p, s, true); /* one worker a stage: in order in any case */
        if (s->ahead > sum + 1) fail_msg("the source was %llu items ahead; the queues hold %llu", (unsigned long long)s->ahead, (unsigned long long)sum);
        pmap_pipeline_close(p);
        share_end(s);
    }
}

static int big_source(void *arg, const void **in, size_t *bytes)
{
    static char page[MIB];
    struct shared *s = arg;
    if (s->pulled == s->most) return 0;
    memset(page, (int)(s->pulled++ & 0x7f), sizeof page);
    *in = page;
    *bytes = sizeof page;
    return 1;
}

static long resident_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %ld", &kib) == 1) break;
    fclose(file);
    return kib;
}

/* Each stage has memory for a few items only, many times as many pass through, and the program's own memory does not grow. */
static void constant_memory(const struct pm_path *path)
{
    struct shared *s = share(30);
    pmap_options pool = PMAP_OPTIONS_INIT;
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    pmap_stage stage = {.function = copy, .workers = 2, .executor = path->executor, .result_max = MIB, .queue = 4};
    pool.memory = 12 * (size_t)MIB;
    o.pool = &pool;
    pmap_pipeline *p = NULL;
    EXPECT(pmap_pipeline_open((pmap_stage[]){stage, stage, stage}, 3, big_source, s, &o, &p), 0);
    long before = 0;
    for (uint64_t i = 0; i < s->most; i++) {
        const void *result;
        size_t bytes;
        EXPECT(pmap_pipeline_next(p, 30, &result, &bytes), 1);
        assert_int_equal(bytes, MIB);
        assert_int_equal(((const char *)result)[0], i & 0x7f);
        assert_int_equal(((const char *)result)[MIB - 1], i & 0x7f);
        if (i == s->most / 4) before = resident_kib();
    }
    assert_true(resident_kib() < before + 8 * 1024);
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

/* The window in bytes bounds a stage as well: with room for two items in each the source is at most that far ahead, and one waits before each. */
static void window_in_bytes(const struct pm_path *path)
{
    struct shared *s = share(30);
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    o.window_bytes = 4 * (size_t)MIB;
    pmap_stage stage = {.function = copy, .workers = 2, .executor = path->executor, .result_max = MIB};
    pmap_pipeline *p = NULL;
    EXPECT(pmap_pipeline_open((pmap_stage[]){stage, stage}, 2, big_source, s, &o, &p), 0);
    for (uint64_t i = 0; i < s->most; i++) {
        EXPECT(pmap_pipeline_next(p, 30, NULL, NULL), 1);
        assert_true(s->pulled - i <= 2 * (2 + 1) + 1);
    }
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

/* ---- Time, end, arguments ---- */

static void time_out_loses_nothing(const struct pm_path *path)
{
    struct shared *s = share(100);
    struct layout l = {"", {path->executor, path->executor, path->executor}};
    size_t late = 0;
    atomic_store(&s->gate, 0);
    pmap_pipeline *p = open_notes(&l, s, false, PMAP_ON_ERROR_COLLECT);
    EXPECT(pmap_pipeline_next(p, 0, NULL, NULL), PMAP_ETIMEDOUT);
    EXPECT(pmap_pipeline_next(p, 0.002, NULL, NULL), PMAP_ETIMEDOUT);
    EXPECT_TEXT("pmap_pipeline_next: ");
    atomic_store(&s->gate, UINT64_MAX);
    double begin = seconds();
    for (uint64_t i = 0; i < s->most;) {
        int e = pmap_pipeline_next(p, i % 3 ? 0 : 1e-5, NULL, NULL);
        if (e == PMAP_ETIMEDOUT) late++;
        else EXPECT(e, 1);
        if (e == 1) assert_int_equal(pmap_pipeline_index(p), i++);
        assert_true(seconds() - begin < 30);
    }
    print_message("    %zu time-outs in between\n", late); /* how many is a matter of the machine; there were two before */
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

/* Items that would take for ever: close ends them with their workers. */
static void closed_while_stuck(const struct pm_path *path)
{
    struct shared *s = share(UINT64_MAX);
    struct layout l = {"", {path->executor, path->executor, path->executor}};
    atomic_store(&s->gate, 0);
    pmap_pipeline *p = open_notes(&l, s, false, PMAP_ON_ERROR_COLLECT);
    for (double begin = seconds(); !atomic_load(&s->begun[2]) && seconds() - begin < 20;) EXPECT(pmap_pipeline_next(p, 0.01, NULL, NULL), PMAP_ETIMEDOUT);
    double begin = seconds();
    pmap_pipeline_close(p);
    assert_true(seconds() - begin < 10);
    share_end(s);
}

static int in_child(void *arg)
{
    pmap_pipeline *p = arg;
    if (pmap_pipeline_next(p, 1, NULL, NULL) != PMAP_EFORK) return 1;
    pmap_pipeline_close(p);
    return 0;
}

/* A forked child may not use it, may free its copy, and does no harm. */
static void forked(const struct pm_path *path)
{
    (void)path;
    const struct layout *l = possible(mixed) ? mixed : all_threads;
    struct shared *s = share(200);
    pmap_pipeline *p = open_notes(l, s, false, PMAP_ON_ERROR_COLLECT);
    for (uint64_t i = 0; i < 20; i++) assert_int_equal(next_right(p, s), i);
    assert_int_equal(pm_test_run_child(in_child, p, 10000), 0);
    for (uint64_t i = 20; i < 200; i++) assert_int_equal(next_right(p, s), i);
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

static const struct pm_path_test tests[] = {
    {"download - resize - upload", the_notes, PM_ON_NONE},
    {"one stage", one_stage, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"no items", no_items, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"closed in the middle", closed_in_the_middle, PM_ON_NONE},
    {"back-pressure", back_pressure, PM_ON_THREADS | PM_ON_SHM},
    {"constant memory", constant_memory, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"window in bytes", window_in_bytes, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"a time-out loses nothing", time_out_loses_nothing, PM_ON_THREADS | PM_ON_SHM},
    {"closed while stuck", closed_while_stuck, PM_ON_SHM},
    {"forked", forked, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("pipeline", tests); }

/* What goes wrong in pipelines: items that fail, by policy; the source's errors; want of memory; deaths of workers and supervisors; arguments. */
#include "tests/pipeline.h"
#include "tests/ways.h"

#include <math.h>

/* ---- Failures ---- */

/* An item that fails in a stage comes out in its turn, and later stages never see it. */
static void failures_collected(const struct pm_path *path)
{
    struct shared *s = share(60);
    struct layout l = {"", {path->executor, path->executor, path->executor}};
    for (unsigned i = 0; i < STAGES; i++) s->bad[i] = 10 + 10 * i;
    pmap_pipeline *p = open_notes(&l, s, false, PMAP_ON_ERROR_COLLECT);
    for (uint64_t i = 0; i < s->most; i++) {
        unsigned stage = (unsigned)(i / 10) - 1;
        if (i % 10 || stage >= STAGES) {
            assert_int_equal(next_right(p, s), i);
            continue;
        }
        EXPECT(pmap_pipeline_next(p, 30, NULL, NULL), PMAP_EITEMS);
        const pmap_failure *f = pmap_pipeline_failure(p);
        assert_non_null(f);
        assert_int_equal(pmap_pipeline_index(p), i);
        assert_int_equal(f->item, i);
        assert_int_equal(f->cause, PMAP_CAUSE_CODE);
        assert_int_equal(f->value, 40 + stage);
        assert_non_null(strstr(f->text, "no way through stage"));
        EXPECT_TEXT("pmap_pipeline_next: ");
    }
    expect_end(p);
    pmap_pipeline_close(p);
    for (unsigned i = 0; i < STAGES; i++) assert_int_equal(s->begun[i], s->most - i);
    share_end(s);
}

static void failures_stop(const struct pm_path *path)
{
    for (unsigned stage = 0; stage < STAGES; stage++)
        for (int unordered = 0; unordered < 2; unordered++) {
            struct shared *s = share(UINT64_MAX);
            struct layout l = {"", {path->executor, path->executor, path->executor}};
            int e = 1;
            s->bad[stage] = 25;
            pmap_pipeline *p = open_notes(&l, s, unordered, PMAP_ON_ERROR_STOP);
            for (uint64_t i = 0; e == 1 && i < 1000; i++) {
                e = pmap_pipeline_next(p, 30, NULL, NULL);
                if (!unordered) EXPECT(e, i < 25 ? 1 : PMAP_EITEMS);
            }
            EXPECT(e, PMAP_EITEMS);
            assert_int_equal(pmap_pipeline_index(p), 25);
            assert_int_equal(pmap_pipeline_failure(p)->value, 40 + (int)stage);
            expect_end(p);
            pmap_pipeline_close(p);
            share_end(s);
        }
}

static int troubles(pmap_task *task, const void *in, size_t bytes)
{
    (void)in;
    (void)bytes;
    size_t i = pmap_task_index(task);
    if (i == 3) raise(SIGKILL);
    for (double begin = seconds(); i == 5 && seconds() - begin < 20;) doze();
    if (i == 7) return pmap_task_result(task, PAGE + 1) ? 9 : 0;
    memcpy(pmap_task_result(task, sizeof i), &i, sizeof i);
    return 0;
}

/* Deaths, deadlines and results that are too large keep their cause on the way through the later stages; and `retries` -1 means none. */
static void causes(const struct pm_path *path)
{
    static const struct { uint64_t item; int error; pmap_cause cause; int value; } expected[] = {
        {3, PMAP_EITEMS, PMAP_CAUSE_SIGNAL, SIGKILL}, {5, PMAP_EITEMS, PMAP_CAUSE_TIMEOUT, 0}, {7, PMAP_ETOOBIG, PMAP_CAUSE_SIZE, 0}};
    struct shared *s = share(20);
    pmap_stage first = {.function = troubles, .workers = 2, .executor = path->executor, .result_max = PAGE, .timeout_s = 0.3, .retries = -1};
    pmap_stage then = {.function = copy, .workers = 2, .executor = path->executor};
    pmap_pipeline *p = open_stages((pmap_stage[]){first, then, then}, 3, s, NULL);
    size_t k = 0;
    for (uint64_t i = 0; i < s->most; i++) {
        const void *result;
        size_t bytes;
        int e = pmap_pipeline_next(p, 30, &result, &bytes);
        assert_int_equal(pmap_pipeline_index(p), i);
        if (k < 3 && i == expected[k].item) {
            const pmap_failure *f = pmap_pipeline_failure(p);
            EXPECT(e, expected[k].error);
            assert_non_null(f);
            assert_int_equal(f->item, i);
            assert_int_equal(f->cause, expected[k].cause);
            assert_int_equal(f->attempts, 1);
            if (expected[k].value) assert_int_equal(f->value, expected[k].value);
            k++;
            continue;
        }
        EXPECT(e, 1);
        assert_int_equal(bytes, sizeof i);
        assert_memory_equal(result, &i, sizeof i);
    }
    expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

/* All that came before the source's error comes out, then the error, once. */
static void source_error(const struct pm_path *path)
{
    for (int unordered = 0; unordered < 2; unordered++) {
        struct shared *s = share(77);
        struct layout l = {"", {path->executor, path->executor, path->executor}};
        s->error = -5;
        pmap_pipeline *p = open_notes(&l, s, unordered, PMAP_ON_ERROR_COLLECT);
        for (uint64_t i = 0; i < 77; i++) (void)next_right(p, s);
        EXPECT(pmap_pipeline_next(p, 30, NULL, NULL), PMAP_ESOURCE);
        EXPECT_TEXT("pmap_pipeline_next: the source ended with -5 at item 77");
        assert_null(pmap_pipeline_failure(p));
        expect_end(p);
        pmap_pipeline_close(p);
        share_end(s);
    }
}

static int null_source(void *arg, const void **in, size_t *bytes)
{
    int r = source(arg, in, bytes);
    if (((struct shared *)arg)->pulled == 5) *in = NULL;
    return r;
}

/* A source that gives nothing and says it is something: the error is the same however many stages there are. */
static void source_gives_null(const struct pm_path *path)
{
    for (size_t stages = 1; stages <= 3; stages++) {
        struct shared *s = share(100);
        pmap_stage stage = {.function = negate, .workers = 1, .executor = path->executor};
        pmap_pipeline *p = NULL;
        int e = 0, told = 0;
        EXPECT(pmap_pipeline_open((pmap_stage[]){stage, stage, stage}, stages, null_source, s, NULL, &p), 0);
        for (int i = 0; i < 10; i++) {
            e = pmap_pipeline_next(p, 30, NULL, NULL);
            if (e >= 0) continue;
            EXPECT(e, PMAP_EINVAL);
            EXPECT_TEXT("the source gave NULL with 8 bytes as item 4");
            told++;
        }
        assert_int_equal(told, 1);
        expect_end(p);
        pmap_pipeline_close(p);
        share_end(s);
    }
}

/* A stage whose memory cannot hold one item says so, and the stages before it have no part in that. */
static void no_memory(const struct pm_path *path)
{
    struct shared *s = share(10);
    pmap_options pool = PMAP_OPTIONS_INIT;
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    pool.memory = 8 * (size_t)MIB;
    o.pool = &pool;
    pmap_stage small = {.function = negate, .workers = 1, .executor = path->executor}, large = small;
    large.result_max = (size_t)64 * MIB;
    for (int at = 0; at < 3; at++) {
        pmap_stage stage[3] = {small, small, small};
        stage[at] = large;
        pmap_pipeline *p = open_stages(stage, 3, s, &o);
        for (int again = 0; again < 2; again++) {
            EXPECT(pmap_pipeline_next(p, 30, NULL, NULL), PMAP_ENOMEM);
            EXPECT_TEXT("no memory for 67108864 bytes of result");
        }
        pmap_pipeline_close(p);
    }
    share_end(s);
}

/* ---- Deaths ---- */

static void workers_killed(const struct pm_path *path)
{
    (void)path;
    for (int unordered = 0; unordered < 2; unordered++) {
        struct shared *s = share(300);
        pmap_stage stage[STAGES];
        pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
        o.unordered = unordered;
        notes_stages(all_processes, s, stage);
        for (int i = 0; i < STAGES; i++) stage[i].retries = 30;
        pmap_pipeline *p = open_stages(stage, STAGES, s, &o);
        for (uint64_t i = 0; i < s->most; i++) {
            uint64_t index = next_right(p, s);
            if (!unordered) assert_int_equal(index, i);
            int pids[8];
            unsigned n = pmap_pool_pids(pmap_pipeline_pool(p, i / 10 % STAGES), pids, 8);
            if (i % 10 == 0 && pids[i / 30 % n] > 0) (void)kill(pids[i / 30 % n], SIGKILL);
        }
        expect_end(p);
        pmap_pipeline_close(p);
        share_end(s);
    }
}

static void supervisors_killed(const struct pm_path *path)
{
    (void)path;
    struct shared *s = share(300);
    pmap_stage stage[STAGES];
    notes_stages(all_processes, s, stage);
    for (int i = 0; i < STAGES; i++) stage[i].retries = 30;
    pmap_pipeline *p = open_stages(stage, STAGES, s, NULL);
    for (uint64_t i = 0; i < s->most; i++) {
        assert_int_equal(next_right(p, s), i);
        if (i % 100 == 50) assert_int_equal(kill(supervisor_of(pmap_pipeline_pool(p, i / 100)), SIGKILL), 0);
    }
    expect_end(p);
    pmap_pipeline_close(p);
    assert_int_equal(pm_test_reap(5000), 0);
    share_end(s);
}

static const struct way *way_of_now;

static int deadly(pmap_task *task, const void *in, size_t bytes)
{
    struct shared *s = pmap_task_arg(task);
    if (pmap_task_index(task) == 3) {
        atomic_fetch_add(&s->flag, 1);
        way_of_now->die();
    }
    return negate(task, in, bytes);
}

/* One item, in one stage of three, dies in every way there is: that one fails, with its cause, and comes out in its turn. */
static void every_way_of_dying(const struct pm_path *path)
{
    for (size_t w = 0; w < WAYS; w++) {
        struct shared *s = share(8);
        pmap_stage stage[3];
        unsigned attempts = w % 2 ? 2 : 1, at = (unsigned)(w % 3);
        way_of_now = &ways[w];
        for (unsigned i = 0; i < 3; i++) stage[i] = (pmap_stage){.function = negate, .workers = 1, .executor = path->executor};
        stage[at].function = deadly;
        stage[at].arg = s;
        stage[at].timeout_s = ways[w].timeout_s;
        stage[at].retries = attempts > 1 ? 1 : -1;
        pmap_pipeline *p = open_stages(stage, 3, s, NULL);
        for (uint64_t i = 0; i < s->most; i++) {
            const void *result;
            size_t bytes;
            int e = pmap_pipeline_next(p, 30, &result, &bytes);
            const pmap_failure *f = pmap_pipeline_failure(p);
            assert_int_equal(pmap_pipeline_index(p), i);
            if (i == 3) {
                if (e != PMAP_EITEMS || !f || f->item != i || f->cause != ways[w].cause || f->value != ways[w].value || f->attempts != attempts)
                    fail_msg("%s in stage %u: %d: %s", ways[w].name, at, e, f ? f->text : pmap_error());
                continue;
            }
            if (e != 1) fail_msg("%s in stage %u: innocent item %d: %d %s", ways[w].name, at, (int)i, e, pmap_error());
            assert_null(f);
            assert_int_equal(bytes, sizeof i);
            uint64_t expected = ~i;
            assert_memory_equal(result, &expected, sizeof expected);
        }
        expect_end(p);
        assert_int_equal(atomic_load(&s->flag), attempts);
        pmap_pipeline_close(p);
        share_end(s);
    }
}

static int die(pmap_task *task, const void *in, size_t bytes)
{
    (void)task;
    (void)in;
    (void)bytes;
    raise(SIGKILL);
    return 0;
}

/* A stage that nothing survives: each item comes out as a failure, or the stage is given up; never a hang. */
static void stage_of_deaths(const struct pm_path *path)
{
    struct shared *s = share(40);
    pmap_stage good = {.function = negate, .workers = 1, .executor = path->executor}, bad = good;
    bad.function = die;
    bad.retries = -1;
    pmap_pipeline *p = open_stages((pmap_stage[]){good, bad, good}, 3, s, NULL);
    int e = PMAP_EITEMS;
    uint64_t i = 0;
    for (; i < s->most && (e = pmap_pipeline_next(p, 30, NULL, NULL)) == PMAP_EITEMS; i++) assert_int_equal(pmap_pipeline_failure(p)->value, SIGKILL);
    if (i < s->most) EXPECT(e, PMAP_EBROKEN);
    else expect_end(p);
    pmap_pipeline_close(p);
    share_end(s);
}

/* ---- Arguments ---- */

static void refused(const pmap_stage *stage, size_t n, pmap_source_fn *from, const pmap_pipeline_options *o, int error, const char *words)
{
    pmap_pipeline *p = (pmap_pipeline *)(uintptr_t)1;
    EXPECT(pmap_pipeline_open(stage, n, from, NULL, o, &p), error);
    EXPECT_TEXT("pmap_pipeline_open: ");
    EXPECT_TEXT(words);
    assert_null(p);
}

static void arguments(const struct pm_path *path)
{
    (void)path;
    const pmap_stage good = {.function = negate, .workers = 1, .executor = PMAP_THREADS};
    pmap_stage s[2] = {good, good};
    pmap_options pool = PMAP_OPTIONS_INIT;
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    EXPECT(pmap_pipeline_open(s, 2, source, NULL, NULL, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pipeline is NULL");
    refused(NULL, 2, source, NULL, PMAP_EINVAL, "0 stages");
    refused(s, 0, source, NULL, PMAP_EINVAL, "0 stages");
    refused(s, 5000, source, NULL, PMAP_EINVAL, "5000 stages");
    refused(s, 2, NULL, NULL, PMAP_EINVAL, "source is NULL");
#define WITH(field, value, error, words) \
    do { \
        s[1].field = (value); \
        refused(s, 2, source, NULL, error, words); \
        EXPECT_TEXT("stage 1"); \
        s[1] = good; \
    } while (0)
    WITH(function, NULL, PMAP_EINVAL, "function is NULL");
    WITH(workers, 5000, PMAP_EINVAL, "5000 workers");
    WITH(executor, (pmap_executor)7, PMAP_EINVAL, "executor 7");
    WITH(queue, 1000000, PMAP_EINVAL, "queue is 1000000");
    WITH(timeout_s, -1, PMAP_EINVAL, "timeout_s is -1");
    WITH(timeout_s, 1, PMAP_ENOTSUP, "timeout_s");
    WITH(retries, -2, PMAP_EINVAL, "retries is -2");
    WITH(retries, 31, PMAP_EINVAL, "retries is 31");
#undef WITH
    o.size = 1;
    refused(s, 2, source, &o, PMAP_EINVAL, "options->size is 1");
    o = (pmap_pipeline_options)PMAP_PIPELINE_OPTIONS_INIT;
    o.on_error = (pmap_on_error)9;
    refused(s, 2, source, &o, PMAP_EINVAL, "on_error is 9");
    o.on_error = PMAP_ON_ERROR_COLLECT;
    o.pool = &pool;
    pool.size = 1;
    refused(s, 2, source, &o, PMAP_EINVAL, "options->pool->size is 1");
    pool = (pmap_options)PMAP_OPTIONS_INIT;
    pool.spin_us = -5;
    refused(s, 2, source, &o, PMAP_EINVAL, "spin_us is -5");
    EXPECT(pmap_pipeline_next(NULL, 0, NULL, NULL), PMAP_EINVAL);
    EXPECT_TEXT("pipeline is NULL");
    struct shared *shared = share(1);
    pmap_pipeline *p = open_stages(s, 2, shared, NULL);
    EXPECT(pmap_pipeline_next(p, NAN, NULL, NULL), PMAP_EINVAL);
    EXPECT_TEXT("timeout_s is not a number");
    EXPECT(pmap_pipeline_next(p, 30, NULL, NULL), 1); /* nothing was lost */
    pmap_pipeline_close(p);
    share_end(shared);
    assert_int_equal(pmap_pipeline_index(NULL), 0);
    assert_null(pmap_pipeline_failure(NULL));
    assert_null(pmap_pipeline_pool(NULL, 0));
}

static const struct pm_path_test tests[] = {
    {"failures are collected", failures_collected, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"a failure stops it", failures_stop, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"causes", causes, PM_ON_SHM},
    {"every way of dying", every_way_of_dying, PM_ON_SHM},
    {"source error", source_error, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"the source gives NULL", source_gives_null, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"no memory", no_memory, PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM},
    {"workers killed again and again", workers_killed, PM_ON_SHM},
    {"supervisors killed", supervisors_killed, PM_ON_SHM},
    {"a stage of deaths", stage_of_deaths, PM_ON_SHM},
    {"arguments", arguments, PM_ON_NONE},
};

int main(void)
{
    no_core();
    return PM_PATHS_MAIN("pipeline_errors", tests);
}

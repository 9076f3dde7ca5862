/* Streams: what comes out, in which order, inputs of any size and from anywhere, and what an error of the source or of an item does.  How a stream
 * flows and ends is in test_imap_flow.c, deaths are in test_imap_deaths.c. */
#include "tests/stream.h"

#define MIB ((size_t)1 << 20)

/* ---- Values and order ---- */

static void counts(const struct pm_path *path)
{
    static const size_t n[] = {0, 1, 2, 40, 512, 513, 5000};
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered)
        for (size_t k = 0; k < sizeof n / sizeof n[0]; k++) stream_orderly(pool, ordered, n[k], NULL);
    pm_path_close(pool);
}

static void many(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered) stream_orderly(pool, ordered, ordered ? 200000 : 50000, NULL);
    pm_path_close(pool);
}

static void more_workers_than_items(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 5);
    for EACH_ORDER(ordered)
        for (size_t n = 1; n < 5; n++) stream_orderly(pool, ordered, n, NULL);
    pm_path_close(pool);
}

/* What a function is told depends on the item alone. */
static int told(pmap_task *task, const void *in, size_t bytes)
{
    uint64_t x = pmap_task_random(task) ^ pmap_task_random(task);
    if (bytes != 8 || pmap_task_attempt(task) || *(int *)pmap_task_arg(task) != 5 || pmap_task_cancelled(task)) return 1;
    if (number_in(in, bytes) != input_of(pmap_task_index(task))) return 2;
    return answer(task, x);
}

static void randomness(const struct pm_path *path)
{
    enum { N = 300 };
    static uint64_t expected[N];
    static bool known;
    int five = 5;
    pmap_pool *pool = pm_path_open(path, 3);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    int *arg = pmap_alloc(pool, sizeof *arg);
    assert_non_null(arg);
    *arg = five;
    o.arg = arg;
    o.seed = 42;
    for EACH_ORDER(ordered) {
        struct numbers source = numbers(N);
        pmap_stream *s = stream_open(pool, ordered, told, pull_number, &source, &o);
        const void *result;
        size_t bytes;
        while (pmap_stream_next(s, 30, &result, &bytes) == 1) {
            size_t i = pmap_stream_index(s);
            assert_true(i < N && bytes == 8);
            if (!known) expected[i] = number_in(result, bytes);
            if (number_in(result, bytes) != expected[i]) fail_msg("item %zu has another random number than before", i);
        }
        assert_null(pmap_stream_failure(s));
        pmap_stream_close(s);
        known = true;
    }
    pmap_free(pool, arg);
    pm_path_close(pool);
}

/* ---- Inputs of any size, anywhere ---- */

struct sized {
    char *memory;            /* 10 MiB and a bit */
    size_t pulled;
};
static const size_t sizes[] = {0, 1, 63, 64, 65, 4095, 4096, 70000, MIB + 1, 10 * MIB, 3, 0, 128};
#define SIZES (sizeof sizes / sizeof sizes[0])

static unsigned char byte_at(size_t item, size_t k) { return (unsigned char)(item * 131 + k * 7 + (k >> 11)); }

static int pull_sized(void *arg, const void **in, size_t *bytes)
{
    struct sized *s = arg;
    if (s->pulled == SIZES) return 0;
    size_t n = sizes[s->pulled];
    for (size_t k = 0; k < n; k++) s->memory[k] = (char)byte_at(s->pulled, k);
    s->pulled++;
    *in = n ? s->memory : NULL;
    *bytes = n;
    return 1;
}

static int turn_round(pmap_task *task, const void *in, size_t bytes)
{
    const char *from = in;
    char *to = pmap_task_result(task, bytes);
    if (!to) return 1;
    if (bytes > 64 && (uintptr_t)in % 64) return 2; /* aligned, says the header */
    for (size_t k = 0; k < bytes; k++) to[k] = from[bytes - 1 - k];
    return 0;
}

static void input_sizes(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered) {
        struct sized source = {.memory = malloc(10 * MIB)};
        pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
        o.result_max = 10 * MIB;
        assert_non_null(source.memory);
        struct reader r = reader(stream_open(pool, ordered, turn_round, pull_sized, &source, &o), ordered, SIZES);
        while (r.handed < SIZES) {
            const unsigned char *result;
            size_t bytes;
            EXPECT(pmap_stream_next(r.stream, 30, (const void **)&result, &bytes), 1);
            size_t i = came(&r);
            assert_int_equal(bytes, sizes[i]);
            for (size_t k = 0; k < bytes; k++)
                if (result[bytes - 1 - k] != byte_at(i, k)) fail_msg("item %zu of %zu bytes is wrong at %zu", i, bytes, k);
        }
        read_end(&r);
        reader_close(&r);
        free(source.memory);
    }
    pm_path_close(pool);
}

static int pull_large(void *arg, const void **in, size_t *bytes)
{
    struct sized *s = arg;
    if (s->pulled == 3) return 0;
    memset(s->memory, 'a' + (int)s->pulled++, 100 * MIB);
    *in = s->memory;
    *bytes = 100 * MIB;
    return 1;
}

static int copy_large(pmap_task *task, const void *in, size_t bytes)
{
    void *to = pmap_task_result(task, bytes);
    if (to) memcpy(to, in, bytes);
    return to ? 0 : 1;
}

static void a_hundred_mebibytes(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct sized source = {.memory = malloc(100 * MIB)};
    char *want = malloc(100 * MIB);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    o.result_max = 100 * MIB;
    o.window = 2;
    assert_true(source.memory && want);
    struct reader r = reader(stream_open(pool, true, copy_large, pull_large, &source, &o), true, 3);
    while (r.handed < 3) {
        const void *result;
        size_t bytes;
        EXPECT(pmap_stream_next(r.stream, 60, &result, &bytes), 1);
        memset(want, 'a' + (int)came(&r), 100 * MIB);
        assert_int_equal(bytes, 100 * MIB);
        if (memcmp(result, want, bytes) != 0) fail_msg("item %zu is wrong", r.handed - 1);
    }
    read_end(&r);
    reader_close(&r);
    free(source.memory);
    free(want);
    pm_path_close(pool);
}

struct places {
    char *memory;
    size_t n, each, pulled;
};

static int pull_place(void *arg, const void **in, size_t *bytes)
{
    struct places *p = arg;
    if (p->pulled == p->n) return 0;
    *in = p->memory + p->each * p->pulled++;
    *bytes = p->each;
    return 1;
}

static int where(pmap_task *task, const void *in, size_t bytes)
{
    return bytes == 4096 ? answer(task, (uint64_t)(uintptr_t)in) : 1;
}

/* pmap_alloc() memory is not copied; other memory is. */
static void no_copy_in_the_arena(const struct pm_path *path)
{
    enum { N = 100 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct places p = {.memory = pm_path_alloc(path, pool, N * 4096), .n = N, .each = 4096};
    memset(p.memory, 1, N * 4096);
    struct reader r = reader(stream_open(pool, true, where, pull_place, &p, NULL), true, N);
    for (size_t k = 0; k < N; k++) {
        const void *result;
        size_t bytes;
        EXPECT(pmap_stream_next(r.stream, 30, &result, &bytes), 1);
        bool same = number_in(result, bytes) == (uint64_t)(uintptr_t)(p.memory + 4096 * came(&r));
        assert_int_equal(same, path->in_arena);
    }
    read_end(&r);
    reader_close(&r);
    pm_path_free(path, pool, p.memory);
    pm_path_close(pool);
}

/* ---- Errors of the source ---- */

static void source_error(const struct pm_path *path)
{
    static const size_t at[] = {0, 1, 7, 8, 9, 1000};
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered)
        for (size_t k = 0; k < 2 * sizeof at / sizeof at[0]; k++) {
            struct numbers source = numbers(NEVER);
            pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
            size_t n = at[k / 2];
            bool null = k % 2;
            char name[40];
            o.window = 8;
            *(null ? &source.null_at : &source.error_at) = n;
            struct reader r = reader(stream_open(pool, ordered, compute, pull_number, &source, &o), ordered, n);
            for (size_t i = 0; i < n; i++) (void)read_right(&r); /* first all that came before it */
            EXPECT(pmap_stream_next(r.stream, 30, NULL, NULL), null ? PMAP_EINVAL : PMAP_ESOURCE);
            (void)snprintf(name, sizeof name, "item %zu", n);
            EXPECT_TEXT(name);
            EXPECT_TEXT(null ? "NULL" : "-1234");
            read_end(&r); /* told once */
            reader_close(&r);
        }
    pm_path_close(pool);
}

/* ---- Errors of items ---- */

static int fussy(pmap_task *task, const void *in, size_t bytes)
{
    size_t i = pmap_task_index(task);
    pmap_task_error(task, "words that nobody needs");
    if (i % 10 == 3) {
        pmap_task_error(task, "item %zu is no good", i);
        return 70 + (int)(i % 100);
    }
    if (i % 10 == 5) return pmap_task_result(task, 1000) ? 1 : 2; /* 64 were agreed */
    if (i % 10 == 7) return PMAP_RETRY;
    if (i % 10 == 8 && pmap_task_attempt(task) < 2) return PMAP_RETRY;
    return compute(task, in, bytes);
}

static void check_failure(struct reader *r, int error)
{
    size_t i = pmap_stream_index(r->stream);
    const pmap_failure *f = pmap_stream_failure(r->stream);
    char words[60], name[40];
    (void)snprintf(words, sizeof words, "item %zu is no good", i);
    (void)snprintf(name, sizeof name, "item %zu:", i);
    if (i % 10 != 3 && i % 10 != 5 && i % 10 != 7) {
        assert_int_equal(error, 1);
        assert_null(f);
        return;
    }
    assert_non_null(f);
    assert_int_equal(f->item, i);
    assert_int_equal(f->count, 1);
    assert_non_null(strstr(f->text, name));
    assert_non_null(strstr(pmap_error(), name));
    if (i % 10 != 7) assert_null(strstr(f->text, "nobody needs"));
    if (i % 10 == 5) {
        assert_int_equal(error, PMAP_ETOOBIG);
        assert_int_equal(f->cause, PMAP_CAUSE_SIZE);
        assert_int_equal(f->value, 1000);
    } else {
        assert_int_equal(error, PMAP_EITEMS);
        assert_int_equal(f->cause, PMAP_CAUSE_CODE);
        assert_int_equal(f->value, i % 10 == 7 ? PMAP_RETRY : 70 + (int)(i % 100));
        assert_int_equal(f->attempts, i % 10 == 7 ? 3 : 1);
        if (i % 10 == 3) assert_non_null(strstr(f->text, words));
    }
}

static void failing_items(const struct pm_path *path)
{
    enum { N = 205 };
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered) {
        struct numbers source = numbers(N);
        struct reader r = reader(stream_open(pool, ordered, fussy, pull_number, &source, NULL), ordered, N);
        while (r.handed < N) {
            const void *result;
            size_t bytes;
            int e = pmap_stream_next(r.stream, 30, &result, &bytes);
            size_t i = came(&r);
            if (e == 1) assert_int_equal(number_in(result, bytes), right(input_of(i)));
            else assert_true(result == NULL && bytes == 0);
            check_failure(&r, e);
        }
        read_end(&r);
        assert_null(pmap_stream_failure(r.stream));
        reader_close(&r);
    }
    pm_path_close(pool);
}

/* Whatever is queued or has come out of the source by then, an error of it included. */
static void stop_after_a_failure(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered)
        for (size_t end = 4; end < 40; end += 7) {
            struct numbers source = numbers(NEVER);
            pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
            source.error_at = end;
            o.window = 16;
            o.on_error = PMAP_ON_ERROR_STOP;
            struct reader r = reader(stream_open(pool, ordered, fussy, pull_number, &source, &o), ordered, end);
            int e;
            while ((e = pmap_stream_next(r.stream, 30, NULL, NULL)) == 1) (void)came(&r);
            assert_true(e == PMAP_EITEMS || e == PMAP_ETOOBIG);
            size_t i = came(&r), pulled = source.pulled;
            if (ordered) assert_int_equal(i, 3);
            check_failure(&r, e);
            read_end(&r);
            assert_int_equal(source.pulled, pulled);
            reader_close(&r);
        }
    stream_orderly(pool, true, 100, NULL);
    pm_path_close(pool);
}

/* ---- Refused ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct numbers source = numbers(1);
    pmap_stream *s = (pmap_stream *)&source;
    for EACH_ORDER(ordered) {
        int (*imap)(pmap_pool *, pmap_work_fn *, pmap_source_fn *, void *, const pmap_stream_options *, pmap_stream **) =
            ordered ? pmap_imap : pmap_imap_unordered;
        pmap_stream_options good = PMAP_STREAM_OPTIONS_INIT, o = good;
        EXPECT(imap(pool, compute, pull_number, &source, NULL, NULL), PMAP_EINVAL);
        EXPECT(imap(NULL, compute, pull_number, &source, NULL, &s), PMAP_EINVAL);
        assert_null(s);
        EXPECT(imap(pool, NULL, pull_number, &source, NULL, &s), PMAP_EINVAL);
        EXPECT(imap(pool, compute, NULL, &source, NULL, &s), PMAP_EINVAL);
        EXPECT_TEXT(ordered ? "pmap_imap: source" : "pmap_imap_unordered: source");
        o.size = 3;
        EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_EINVAL);
        o = good, o.window = 524289;
        EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_EINVAL);
        o = good, o.on_error = (pmap_on_error)2;
        EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_EINVAL);
        o = good, o.retries = 31;
        EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_EINVAL);
        o = good, o.timeout_s = -1;
        EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_EINVAL);
        o = good, o.timeout_s = 1;
        if (path->executor != PMAP_PROCESSES) EXPECT(imap(pool, compute, pull_number, &source, &o, &s), PMAP_ENOTSUP);
        assert_null(s);
    }
    EXPECT(pmap_stream_next(NULL, 0, NULL, NULL), PMAP_EINVAL);
    assert_int_equal(pmap_stream_index(NULL), 0);
    assert_null(pmap_stream_failure(NULL));
    assert_int_equal(source.pulled, 0);
    pm_path_close(pool);
}

static void not_over_zeromq(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct numbers source = numbers(1);
    pmap_stream *s = (pmap_stream *)&source;
    EXPECT(pmap_imap(pool, compute, pull_number, &source, NULL, &s), PMAP_ENOTSUP);
    EXPECT_TEXT("ZeroMQ");
    assert_null(s);
    EXPECT(pmap_imap_unordered(pool, compute, pull_number, &source, NULL, &s), PMAP_ENOTSUP);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"counts", counts, ON_STREAMS},
    {"many", many, ON_STREAMS},
    {"more workers than items", more_workers_than_items, ON_STREAMS},
    {"randomness", randomness, ON_STREAMS},
    {"input sizes", input_sizes, ON_STREAMS},
    {"a hundred mebibytes", a_hundred_mebibytes, ON_STREAMS},
    {"no copy in the arena", no_copy_in_the_arena, ON_STREAMS | PM_ON_COPY},
    {"source error", source_error, ON_STREAMS},
    {"failing items", failing_items, ON_STREAMS},
    {"stop after a failure", stop_after_a_failure, ON_STREAMS},
    {"refused", refused, ON_STREAMS},
    {"not over ZeroMQ", not_over_zeromq, PM_ON_ZMQ},
};

int main(void) { return PM_PATHS_MAIN("imap", tests); }

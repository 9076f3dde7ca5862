/* Streams: what comes out, in which order, how far the source is pulled ahead, what an error of the source or of an item does, and that a
 * stream can be closed at any moment.  Deaths are in test_imap_deaths.c. */
#include "tests/stream.h"

#include <pthread.h>

#define MIB ((size_t)1 << 20)

static const bool both[] = {true, false};
#define EACH_ORDER(ordered) (size_t o_ = 0; o_ < 2; o_++) for (bool ordered = both[o_], once_ = true; once_; once_ = false)

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

/* ---- The window ---- */

static void endless_source(const struct pm_path *path)
{
    static const size_t windows[] = {1, 2, 7, 0};
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered)
        for (size_t w = 0; w < 4; w++) {
            pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
            o.window = windows[w];
            size_t most = o.window ? o.window : 256 * pm_path_workers(path, 2), n = 3 * most + 5, ahead = 0;
            struct numbers source = numbers(NEVER);
            struct reader r = reader(stream_open(pool, ordered, compute, pull_number, &source, &o), ordered, n + most);
            assert_int_equal(source.pulled, 0); /* not before the first result is asked for */
            for (size_t k = 0; k < n; k++) {
                (void)read_right(&r);
                size_t now = source.pulled - k; /* before this one was handed out */
                if (now > ahead) ahead = now;
            }
            if (ahead > most) fail_msg("the source was pulled %zu ahead, the window is %zu", ahead, most);
            assert_int_equal(ahead, most); /* and it is used */
            reader_close(&r);
        }
    pm_path_close(pool);
}

struct blocks { /* a source of 1 MiB items, one buffer for all of them */
    char *buffer;
    size_t n, pulled;
};

static int pull_block(void *arg, const void **in, size_t *bytes)
{
    struct blocks *b = arg;
    if (b->pulled == b->n) return 0;
    memset(b->buffer, (int)(b->pulled % 251), MIB);
    b->pulled++;
    *in = b->buffer;
    *bytes = MIB;
    return 1;
}

static int check_block(pmap_task *task, const void *in, size_t bytes)
{
    const unsigned char *p = in;
    struct hold *h = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    if (i >= h->first && i < h->last)
        for (double end = seconds() + 20; !atomic_load(&h->go) && seconds() < end;) (void)poll(NULL, 0, 1);
    for (size_t k = 0; k < bytes; k += 4096)
        if (p[k] != i % 251) return 1;
    return bytes == MIB && p[MIB - 1] == i % 251 ? answer(task, i) : 2;
}

/* 60 MiB through a pool that has not even a third of that; where it can be, the first item is held until the others have had their turn. */
static void window_in_bytes(const struct pm_path *path)
{
    enum { N = 60, MOST = 8 };
    bool hold = path->bit & ON_HELD;
    pmap_options po = pm_path_options(path, 2);
    pmap_pool *pool;
    po.memory = 20 * MIB;
    EXPECT(pmap_pool_open(&pool, &po), 0);
    for EACH_ORDER(ordered) {
        struct hold *h = hold_new(pool, 0, hold ? 1 : 0);
        struct blocks b = {.buffer = malloc(MIB), .n = N};
        pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
        o.window_bytes = MOST * MIB;
        o.arg = h;
        assert_non_null(b.buffer);
        struct reader r = reader(stream_open(pool, ordered, check_block, pull_block, &b, &o), ordered, N);
        if (hold && ordered)
            for (int k = 0; k < 5; k++) {
                EXPECT(pmap_stream_next(r.stream, 0.01, NULL, NULL), PMAP_ETIMEDOUT);
                if (b.pulled > MOST + 1) fail_msg("%zu MiB were pulled behind a slow head, %d are allowed", b.pulled, MOST + 1);
            }
        while (r.handed < N) {
            const void *result;
            size_t bytes, before = r.handed;
            if (r.handed == N - 1 || ordered) atomic_store(&h->go, 1);
            EXPECT(pmap_stream_next(r.stream, 30, &result, &bytes), 1);
            assert_int_equal(number_in(result, bytes), came(&r));
            /* One more than fits may be pulled, which is still the source's. */
            if (b.pulled - before > MOST + 1) fail_msg("%zu MiB are pulled, not handed out", b.pulled - before);
        }
        if (hold && !ordered) assert_int_equal(pmap_stream_index(r.stream), 0);
        read_end(&r);
        reader_close(&r);
        free(b.buffer);
        pmap_free(pool, h);
    }
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

/* ---- Waiting ---- */

static void timeout_loses_nothing(const struct pm_path *path)
{
    enum { N = 60 };
    pmap_pool *pool = pm_path_open(path, 2);
    for EACH_ORDER(ordered) {
        struct hold *h = hold_new(pool, 20, 22); /* both workers' */
        struct numbers source = numbers(N);
        pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
        o.arg = h;
        struct reader r = reader(stream_open(pool, ordered, held, pull_number, &source, &o), ordered, N);
        while (r.handed < 20) (void)read_right(&r);
        const void *result = &r;
        size_t bytes = 1;
        for (int k = 0; k < 20; k++) {
            double begin_s = seconds(), wait = k % 3 ? 0 : 0.003;
            EXPECT(pmap_stream_next(r.stream, wait, &result, &bytes), PMAP_ETIMEDOUT);
            assert_true(result == NULL && bytes == 0);
            assert_null(pmap_stream_failure(r.stream));
            if (wait > 0) assert_true(seconds() - begin_s >= wait);
        }
        atomic_store(&h->go, 1);
        while (r.handed < N) (void)read_right(&r);
        read_end(&r);
        reader_close(&r);
        pmap_free(pool, h);
    }
    pm_path_close(pool);
}

static void fast_before_slow(const struct pm_path *path)
{
    enum { N = 700 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct hold *h = hold_new(pool, 0, 1);
    struct numbers source = numbers(N);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    o.arg = h;
    struct reader r = reader(stream_open(pool, false, held, pull_number, &source, &o), false, N);
    while (r.handed < N - 1) assert_true(read_right(&r) > 0);
    EXPECT(pmap_stream_next(r.stream, 0, NULL, NULL), PMAP_ETIMEDOUT);
    atomic_store(&h->go, 1);
    assert_int_equal(read_right(&r), 0);
    read_end(&r);
    reader_close(&r);
    pmap_free(pool, h);
    pm_path_close(pool);
}

/* ---- The end ---- */

static int some_work(pmap_task *task, const void *in, size_t bytes)
{
    for (size_t n = 0; n < 20000; n++) __asm__ __volatile__("" ::: "memory");
    return compute(task, in, bytes);
}

/* With work that runs, is queued, is finished and not handed out, is pulled and not given in. */
static void close_at_any_moment(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_stream_close(NULL);
    for EACH_ORDER(ordered)
        for (size_t k = 0; k < 60; k++) {
            struct numbers source = numbers(k % 4 ? NEVER : 20);
            pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
            o.window = k % 5 ? 16 : 300;
            if (k % 7 == 0) o.window_bytes = 40;
            if (k % 2) o.result_max = 5000;
            struct reader r = reader(stream_open(pool, ordered, some_work, pull_number, &source, &o), ordered, 400);
            for (size_t i = 0; i < k % 20; i++) (void)read_right(&r);
            if (k % 3 == 0 && pmap_stream_next(r.stream, 0, NULL, NULL) == 1) (void)came(&r);
            reader_close(&r);
        }
    stream_orderly(pool, true, 1000, NULL);
    stream_orderly(pool, false, 1000, NULL);
    struct numbers source = numbers(NEVER); /* and behind that the pool, with what the stream has left queued */
    struct reader r = reader(stream_open(pool, true, some_work, pull_number, &source, NULL), true, 1000);
    (void)read_right(&r);
    reader_close(&r);
    double begin_s = seconds();
    pm_path_close(pool);
    assert_true(seconds() - begin_s < 10);
}

struct waiter {
    pmap_pool *pool;
    struct hold *hold;
    bool ordered;
    int said;
};

static void *wait_in_next(void *arg)
{
    struct waiter *w = arg;
    struct numbers source = numbers(NEVER);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    pmap_stream *s = NULL;
    o.arg = w->hold;
    w->said = (w->ordered ? pmap_imap : pmap_imap_unordered)(w->pool, held, pull_number, &source, &o, &s);
    while (w->said >= 0 && (w->said = pmap_stream_next(s, -1, NULL, NULL)) == 1) continue;
    pmap_stream_close(s); /* whether or not the pool has ended by now */
    return NULL;
}

/* Another thread ends the pool; what runs there would never end by itself. */
static void terminate_while_one_waits(const struct pm_path *path)
{
    for EACH_ORDER(ordered) {
        pthread_t thread;
        struct waiter w = {.pool = pm_path_open(path, 2), .ordered = ordered};
        w.hold = hold_new(w.pool, 10, NEVER);
        assert_int_equal(pthread_create(&thread, NULL, wait_in_next, &w), 0);
        assert_true(pm_test_wait_until(flag_is_set, &w.hold->begun, 10000));
        double begin_s = seconds();
        EXPECT(pmap_pool_terminate(w.pool, 0), 0);
        assert_true(seconds() - begin_s < 10);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(w.said == PMAP_ECANCELLED || w.said == PMAP_ECLOSED);
    }
}

/* The pool has ended first: the stream can still be given back, and says what has become of it. */
static void closed_behind_its_pool(const struct pm_path *path)
{
    for EACH_ORDER(ordered) {
        pmap_pool *pool = pm_path_open(path, 2);
        struct numbers source = numbers(NEVER);
        struct reader r = reader(stream_open(pool, ordered, compute, pull_number, &source, NULL), ordered, 1000);
        for (int k = 0; k < 5; k++) (void)read_right(&r);
        if (ordered) pm_path_close(pool);
        else EXPECT(pmap_pool_terminate(pool, 0), 0);
        EXPECT(pmap_stream_next(r.stream, -1, NULL, NULL), PMAP_ECLOSED);
        assert_null(pmap_stream_failure(r.stream));
        reader_close(&r);
    }
}

/* ---- Together ---- */

static void two_in_one_thread(const struct pm_path *path)
{
    enum { N = 3000 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct numbers one = numbers(N), two = numbers(N);
    struct reader a = reader(stream_open(pool, true, compute, pull_number, &one, NULL), true, N);
    struct reader b = reader(stream_open(pool, false, some_work, pull_number, &two, NULL), false, N);
    for (size_t k = 0; k < N; k++) {
        (void)read_right(&a);
        if (k % 3 == 0) (void)read_right(&b);
    }
    read_end(&a);
    while (b.handed < N) (void)read_right(&b);
    read_end(&b);
    reader_close(&a);
    reader_close(&b);
    pm_path_close(pool);
}

struct user {
    pmap_pool *pool;
    bool ordered, maps;
    _Atomic uint64_t *stop;
    const char *wrong;
};

static int double_it(pmap_task *task, const void *item, void *result)
{
    (void)task;
    *(uint64_t *)result = 2 * *(const uint64_t *)item;
    return 0;
}

/* Without cmocka, whose assertions belong to the main thread. */
static void *use(void *arg)
{
    enum { N = 2000 };
    struct user *u = arg;
    struct numbers source = numbers(N);
    static const uint64_t in[64] = {7, 8, 9};
    uint64_t out[64];
    while (u->maps && !atomic_load(u->stop)) {
        if (pmap_map(u->pool, double_it, in, 64, 8, out, 8, NULL) || out[2] != 18) u->wrong = "a map";
        if (u->wrong) return NULL;
    }
    if (u->maps) return NULL;
    pmap_stream *s;
    const void *result;
    size_t bytes, n = 0;
    if ((u->ordered ? pmap_imap : pmap_imap_unordered)(u->pool, compute, pull_number, &source, NULL, &s)) u->wrong = "open";
    for (; !u->wrong && pmap_stream_next(s, 30, &result, &bytes) == 1; n++)
        if (number_in(result, bytes) != right(input_of(pmap_stream_index(s)))) u->wrong = "a result";
    if (!u->wrong && n != N) u->wrong = "too few results";
    pmap_stream_close(s);
    return NULL;
}

static void several_threads(const struct pm_path *path)
{
    enum { USERS = 4 };
    pmap_pool *pool = pm_path_open(path, 2);
    pthread_t thread[USERS];
    _Atomic uint64_t stop = 0;
    struct user user[USERS];
    for (int i = 0; i < USERS; i++) user[i] = (struct user){.pool = pool, .ordered = i & 1, .maps = i == 3, .stop = &stop};
    for (int i = 0; i < USERS; i++) assert_int_equal(pthread_create(&thread[i], NULL, use, &user[i]), 0);
    stream_orderly(pool, true, 2000, NULL);
    for (int i = 0; i < USERS; i++) {
        if (user[i].maps) atomic_store(&stop, 1);
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (user[i].wrong) fail_msg("thread %d: %s", i, user[i].wrong);
    }
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
    {"endless source", endless_source, ON_STREAMS},
    {"window in bytes", window_in_bytes, ON_STREAMS},
    {"input sizes", input_sizes, ON_STREAMS},
    {"a hundred mebibytes", a_hundred_mebibytes, ON_STREAMS},
    {"no copy in the arena", no_copy_in_the_arena, ON_STREAMS | PM_ON_COPY},
    {"source error", source_error, ON_STREAMS},
    {"failing items", failing_items, ON_STREAMS},
    {"stop after a failure", stop_after_a_failure, ON_STREAMS},
    {"time-out loses nothing", timeout_loses_nothing, ON_HELD},
    {"fast before slow", fast_before_slow, ON_HELD},
    {"close at any moment", close_at_any_moment, ON_STREAMS},
    {"terminate while one waits", terminate_while_one_waits, ON_HELD},
    {"closed behind its pool", closed_behind_its_pool, ON_STREAMS},
    {"two in one thread", two_in_one_thread, ON_STREAMS},
    {"several threads", several_threads, ON_STREAMS},
    {"refused", refused, ON_STREAMS},
    {"not over ZeroMQ", not_over_zeromq, PM_ON_ZMQ},
};

int main(void) { return PM_PATHS_MAIN("imap", tests); }

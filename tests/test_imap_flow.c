/* Streams: how far the source is pulled ahead, waiting for the next result, several at once, and that a stream can be closed at any moment. */
#include "tests/stream.h"

#include <pthread.h>

#define MIB ((size_t)1 << 20)

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
static const struct pm_path_test tests[] = {
    {"endless source", endless_source, ON_STREAMS},
    {"window in bytes", window_in_bytes, ON_STREAMS},
    {"time-out loses nothing", timeout_loses_nothing, ON_HELD},
    {"fast before slow", fast_before_slow, ON_HELD},
    {"close at any moment", close_at_any_moment, ON_STREAMS},
    {"terminate while one waits", terminate_while_one_waits, ON_HELD},
    {"closed behind its pool", closed_behind_its_pool, ON_STREAMS},
    {"two in one thread", two_in_one_thread, ON_STREAMS},
    {"several threads", several_threads, ON_STREAMS},
};

int main(void) { return PM_PATHS_MAIN("imap_flow", tests); }

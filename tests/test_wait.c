/* Several futures: any, all, the first error, in the order in which they finish; callbacks, and the descriptor in a loop of poll(2). */
#include "tests/futures.h"

#include <sys/eventfd.h>

#define MIB ((size_t)1 << 20)

/* A gate of its own for each of some futures. */
struct row {
    struct gate *gate[8];
    pmap_future *f[8];
    size_t n;
};

static struct row open_row(pmap_pool *pool, size_t n)
{
    struct row r = {.n = n};
    for (size_t i = 0; i < n; i++) {
        r.gate[i] = new_gate(pool);
        pmap_submit_options o = with_arg(r.gate[i]);
        r.f[i] = give(pool, gate_fn, NULL, 0, &o);
    }
    return r;
}

static void close_row(struct row *r)
{
    for (size_t i = 0; i < r->n; i++) open_gate(r->gate[i]);
    for (size_t i = 0; i < r->n; i++) {
        EXPECT(pmap_future_get(r->f[i], LONG_S, NULL, NULL), 0);
        pmap_future_free(r->f[i]);
    }
}

static int code_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)task, (void)bytes;
    return *(const int *)in;
}

/* ---- pmap_wait ---- */

static void any_and_all(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 3);
    struct row r = open_row(pool, 3);
    EXPECT(pmap_wait(r.f, 3, PMAP_ANY, 0), PMAP_ETIMEDOUT);
    double t = seconds();
    EXPECT(pmap_wait(r.f, 3, PMAP_ALL, 0.05), PMAP_ETIMEDOUT);
    t = seconds() - t;
    if (t < 0.05 || t > 5) fail_msg("a time-out of 0.05 s took %.3f s", t);
    open_gate(r.gate[1]);
    EXPECT(pmap_wait(r.f, 3, PMAP_ANY, LONG_S), 0);
    assert_int_equal(pmap_future_done(r.f[1]), 1);
    assert_int_equal(pmap_future_done(r.f[0]) + pmap_future_done(r.f[2]), 0);
    EXPECT(pmap_wait(r.f, 3, PMAP_ANY, 0), 0);
    EXPECT(pmap_wait(r.f, 3, PMAP_ALL, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_wait(r.f, 3, PMAP_FIRST_ERROR, 0), PMAP_ETIMEDOUT);
    open_gate(r.gate[0]);
    open_gate(r.gate[2]);
    EXPECT(pmap_wait(r.f, 3, PMAP_ALL, -1), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(pmap_future_done(r.f[i]), 1);
    EXPECT(pmap_wait(r.f, 3, PMAP_FIRST_ERROR, 0), 0); /* none, and all have finished */
    close_row(&r);
    pm_path_close(pool);
}

static void first_error(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 3);
    struct row r = open_row(pool, 2);
    int good = 0, bad = 9;
    pmap_future *f[4] = {r.f[0], r.f[1], give(pool, code_fn, &good, sizeof good, NULL), give(pool, code_fn, &bad, sizeof bad, NULL)};
    EXPECT(pmap_wait(f, 4, PMAP_FIRST_ERROR, LONG_S), 0);
    assert_int_equal(pmap_future_done(f[3]), 1);
    assert_int_equal(pmap_future_done(f[0]), 0);
    EXPECT(pmap_future_get(f[3], 0, NULL, NULL), PMAP_EITEMS);
    pmap_future_free(f[2]);
    pmap_future_free(f[3]);
    close_row(&r);
    f[0] = give(pool, code_fn, &good, sizeof good, NULL);
    assert_true(pmap_future_cancel(f[0]) >= 0); /* cancelled counts as failed */
    EXPECT(pmap_wait(f, 1, PMAP_FIRST_ERROR, LONG_S), 0);
    pmap_future_free(f[0]);
    pm_path_close(pool);
}

static void serial_waits(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    pmap_future *f[6];
    int codes[6] = {0, 0, 5, 0, 0, 0};
    for (int i = 0; i < 6; i++) f[i] = give(pool, code_fn, &codes[i], sizeof(int), NULL);
    EXPECT(pmap_wait(f, 6, PMAP_ANY, -1), 0);
    assert_true(pmap_future_get(f[0], 0, NULL, NULL) == 0);
    EXPECT(pmap_wait(f + 1, 5, PMAP_FIRST_ERROR, -1), 0);
    EXPECT(pmap_future_get(f[2], 0, NULL, NULL), PMAP_EITEMS);
    EXPECT(pmap_wait(f, 6, PMAP_ALL, -1), 0);
    for (int i = 0; i < 6; i++) pmap_future_free(f[i]);
    pm_path_close(pool);
}

static void lists(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2), *other = pm_path_open(path, 1);
    pmap_future *f[5] = {give_square(pool, 3), NULL, NULL, NULL, NULL}, *one;
    pmap_completed *c = (pmap_completed *)(void *)&c;
    f[1] = f[2] = f[0];
    f[3] = give_square(pool, 4);
    f[4] = give_square(other, 5);
    EXPECT(pmap_wait(f, 4, PMAP_ALL, LONG_S), 0); /* twice in the list counts once */
    EXPECT(pmap_wait(f, 5, PMAP_ALL, LONG_S), PMAP_EINVAL);
    EXPECT_TEXT("another pool's");
    EXPECT(pmap_as_completed(f, 5, &c), PMAP_EINVAL);
    assert_null(c);
    EXPECT(pmap_wait(NULL, 1, PMAP_ALL, 0), PMAP_EINVAL);
    EXPECT(pmap_wait(f, 4, (pmap_when)4, 0), PMAP_EINVAL);
    EXPECT(pmap_wait(f, 4, PMAP_ALL, NAN), PMAP_EINVAL);
    EXPECT(pmap_wait(f, 0, PMAP_ALL, 0), 0);
    EXPECT(pmap_wait(NULL, 0, PMAP_ANY, -1), 0);
    one = NULL;
    EXPECT(pmap_wait(&one, 1, PMAP_ANY, 0), PMAP_EINVAL);
    EXPECT(pmap_as_completed(&one, 1, &c), PMAP_EINVAL);
    EXPECT(pmap_as_completed(f, 4, NULL), PMAP_EINVAL);
    EXPECT(pmap_as_completed(NULL, 0, &c), 0);
    EXPECT(pmap_completed_next(c, -1, &one), 0);
    assert_null(one);
    EXPECT(pmap_completed_next(c, -1, NULL), PMAP_EINVAL);
    EXPECT(pmap_completed_next(NULL, -1, &one), PMAP_EINVAL);
    pmap_completed_free(c);
    pmap_completed_free(NULL);
    EXPECT(pmap_as_completed(f, 4, &c), 0);
    pmap_future *first, *second;
    EXPECT(pmap_completed_next(c, LONG_S, &first), 0);
    EXPECT(pmap_completed_next(c, LONG_S, &second), 0);
    assert_ptr_equal(first == f[0] ? second : first, f[3]);
    assert_true(first != second);
    EXPECT(pmap_completed_next(c, LONG_S, &one), 0);
    assert_null(one);
    pmap_completed_free(c);
    pmap_future_free(f[0]);
    pmap_future_free(f[3]);
    expect_square(f[4], 5);
    pmap_future_free(f[4]);
    pm_path_close(other);
    pm_path_close(pool);
}

/* ---- In the order in which they finish ---- */

static void order_of_completion(const struct pm_path *path)
{
    static const size_t order[] = {2, 0, 3, 1};
    pmap_pool *pool = pm_path_open(path, 4);
    struct row r = open_row(pool, 4);
    pmap_completed *c, *rest;
    pmap_future *f;
    EXPECT(pmap_as_completed(r.f, 4, &c), 0);
    EXPECT(pmap_as_completed(r.f, 4, &rest), 0); /* two that want to know of the same ones */
    for (size_t i = 0; i < 4; i++) {
        EXPECT(pmap_completed_next(c, 0.001, &f), PMAP_ETIMEDOUT);
        assert_null(f);
        open_gate(r.gate[order[i]]);
        EXPECT(pmap_completed_next(c, LONG_S, &f), 0);
        assert_ptr_equal(f, r.f[order[i]]);
        if (i == 1) {
            EXPECT(pmap_completed_next(rest, LONG_S, &f), 0);
            assert_ptr_equal(f, r.f[2]);
            pmap_completed_free(rest); /* with one finished and two not, none of which was handed out */
        }
    }
    EXPECT(pmap_completed_next(c, 0, &f), 0);
    assert_null(f);
    pmap_completed_free(c);
    close_row(&r);
    pm_path_close(pool);
}

static void freed_as_they_come(const struct pm_path *path)
{
    enum { N = 3000 };
    static pmap_future *f[N];
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_completed *c;
    uint64_t sum = 0, y;
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < N; i++) f[i] = give_square(pool, i);
        EXPECT(pmap_as_completed(f, N, &c), 0);
        for (size_t left = N; left--;) {
            pmap_future *one;
            const void *result;
            EXPECT(pmap_completed_next(c, LONG_S, &one), 0);
            assert_non_null(one);
            EXPECT(pmap_future_get(one, 0, &result, NULL), 0);
            memcpy(&y, result, sizeof y);
            sum += y;
            pmap_future_free(one);
        }
        pmap_completed_free(c);
    }
    assert_int_equal(sum, 2 * (uint64_t)(N - 1) * N * (2 * N - 1) / 6);
    pm_path_close(pool);
}

/* ---- Callbacks ---- */

struct chain {
    pmap_pool *pool;
    pmap_future *mine;
    unsigned called, left, wrong;
    bool frees, keeps;
};

static void chained(pmap_future *future, void *arg)
{
    struct chain *c = arg;
    const void *result;
    uint64_t y = 0;
    c->called++;
    if (pmap_future_get(future, 0, &result, NULL) || pmap_future_arg(future) != c) c->wrong++;
    else memcpy(&y, result, sizeof y);
    if (y != 49) c->wrong++;
    if (c->frees) pmap_future_free(future);
    if (c->left == 0) return;
    c->left--;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    uint64_t x = 7;
    o.done = chained;
    o.done_arg = c;
    if (pmap_submit(c->pool, square_fn, &x, sizeof x, &o, c->keeps ? &c->mine : NULL)) c->wrong++;
}

static void callbacks(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for (int way = 0; way < 4; way++) { /* detached or not, freed in the callback or behind it */
        struct chain c = {.pool = pool, .left = 200, .frees = way & 1, .keeps = way & 2};
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        uint64_t x = 7;
        o.done = chained;
        o.done_arg = &c;
        EXPECT(pmap_submit(pool, square_fn, &x, sizeof x, &o, c.keeps ? &c.mine : NULL), 0);
        assert_int_equal(c.called, 0); /* never but from pmap_pool_poll() */
        double end = seconds() + LONG_S;
        while (c.called < 201 && seconds() < end) {
            unsigned before = c.called;
            pmap_future *mine = c.mine;
            int n = pmap_pool_poll(pool, -1);
            assert_int_equal(n, 1); /* one at a time: each gives in the next */
            assert_int_equal(c.called, before + 1);
            if (c.keeps && !c.frees) pmap_future_free(mine);
        }
        assert_int_equal(c.called, 201);
        assert_int_equal(c.wrong, 0);
        assert_int_equal(pmap_pool_poll(pool, -1), 0); /* nothing is pending: it does not wait */
    }
    pm_path_close(pool);
}

static void counted(pmap_future *future, void *arg)
{
    (void)future;
    ++*(unsigned *)arg;
}

static void freed_with_a_callback_due(const struct pm_path *path)
{
    enum { N = 400 };
    pmap_pool *pool = pm_path_open(path, 2);
    unsigned calls = 0;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.done = counted;
    o.done_arg = &calls;
    size_t before = 0;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < N; i++) {
            pmap_future *f = give(pool, square_fn, &i, sizeof i, &o);
            if (i % 3 == 0) EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), 0);
            if (i % 7 == 0) (void)pmap_future_cancel(f);
            pmap_future_free(f); /* finished, cancelled, or neither */
        }
        double end = seconds() + LONG_S;
        while (calls < (unsigned)(round + 1) * N && seconds() < end) assert_true(pmap_pool_poll(pool, 1) >= 0);
        assert_int_equal(calls, (round + 1) * N);
        if (round == 0) before = arena_bytes();
    }
    assert_in_range(arena_bytes(), before, before + 65536); /* all entries came back; positions of the ring are used once round */
    pm_path_close(pool);
}

static void poll_times_out(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct row r = open_row(pool, 1);
    double t = seconds();
    assert_int_equal(pmap_pool_poll(pool, 0), 0);
    assert_int_equal(pmap_pool_poll(pool, 0.05), 0);
    t = seconds() - t;
    if (t < 0.05 || t > 5) fail_msg("a time-out of 0.05 s took %.3f s", t);
    EXPECT(pmap_pool_poll(pool, NAN), PMAP_EINVAL);
    close_row(&r);
    pm_path_close(pool);
}

/* ---- The descriptor ---- */

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR) continue;
    return n == 1 && (p.revents & POLLIN);
}

/* A ring may be on its way while the program knows already that the task has finished. */
static bool becomes_quiet(pmap_pool *pool, int fd)
{
    for (double end = seconds() + 2; readable(fd, 0) && seconds() < end;) (void)pmap_pool_poll(pool, 0);
    return !readable(fd, 0);
}

static void a_loop_of_poll(const struct pm_path *path)
{
    enum { N = 1500 };
    pmap_pool *pool = pm_path_open(path, 2);
    unsigned calls = 0, given = 0, turns = 0;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.done = counted;
    o.done_arg = &calls;
    uint64_t x = 3;
    for (; given < 5; given++) EXPECT(pmap_submit(pool, square_fn, &x, sizeof x, &o, NULL), 0); /* before anybody asks for the descriptor */
    int fd = pmap_pool_fd(pool);
    assert_true(fd >= 0);
    assert_int_equal(pmap_pool_fd(pool), fd);
    double end = seconds() + LONG_S;
    while (calls < N && seconds() < end) {
        if (!readable(fd, 10000)) fail_msg("%u of %u callbacks, and the descriptor is not readable", calls, given);
        turns++;
        assert_true(pmap_pool_poll(pool, 0) >= 0);
        for (unsigned k = 0; k < 3 && given < N; k++, given++) EXPECT(pmap_submit(pool, square_fn, &x, sizeof x, &o, NULL), 0);
    }
    assert_int_equal(calls, N);
    if (path->executor != PMAP_SERIAL) assert_true(becomes_quiet(pool, fd)); /* it does not keep a loop busy */
    pmap_future *f = give_square(pool, 4); /* without a callback too */
    assert_true(readable(fd, 10000));
    expect_square(f, 4);
    pmap_future_free(f);
    if (path->executor != PMAP_SERIAL) {
        assert_true(becomes_quiet(pool, fd));
        struct row r = open_row(pool, 3); /* two at work, one waits */
        assert_false(readable(fd, 0));
        assert_int_equal(pmap_future_cancel(r.f[2]), 1);
        assert_true(readable(fd, 0)); /* for another thread that sits in poll(2) */
        r.n = 2;
        pmap_future_free(r.f[2]);
        close_row(&r);
        assert_true(becomes_quiet(pool, fd));
    }
    if (path->executor == PMAP_THREADS) { /* there the descriptor is the bell itself */
        /* As a thread does that was stopped between making up its mind to ring and ringing. */
        assert_int_equal(eventfd_write(fd, 1), 0);
        assert_true(readable(fd, 0));
        assert_true(becomes_quiet(pool, fd));
    }
    pm_path_close(pool);
}

/* ---- Many ---- */

static void many_outstanding(const struct pm_path *path)
{
    size_t n = path->executor == PMAP_SERIAL ? 30000 : 200000;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    n /= 10;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    n /= 10;
#endif
#endif
    pmap_options o = pm_path_options(path, 2);
    o.memory = 256 * MIB;
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    pmap_future **f = calloc(n, sizeof *f);
    assert_non_null(f);
    struct gate *g = new_gate(pool);
    pmap_submit_options s = with_arg(g);
    size_t fds = pm_test_entries("/proc/self/fd"), before = arena_bytes();
    if (path->executor != PMAP_SERIAL) /* the workers are held up, so that all are outstanding at once */
        for (int i = 0; i < 2; i++) EXPECT(pmap_submit(pool, gate_fn, NULL, 0, &s, NULL), 0);
    double t = seconds();
    for (uint64_t i = 0; i < n; i++) f[i] = give_square(pool, i);
    double submit = seconds() - t;
    size_t took = arena_bytes() - before, each = took / n;
    if (took > 264 * n + 2 * MIB) fail_msg("%zu futures take %zu bytes of the pool's memory, expected 256 each and a place in the ring", n, took);
    open_gate(g);
    t = seconds();
    EXPECT(pmap_wait(f, n, PMAP_ALL, LONG_S), 0);
    double wait = seconds() - t;
    for (uint64_t i = 0; i < n; i++) {
        expect_square(f[i], i);
        pmap_future_free(f[i]);
    }
    print_message("    %s: %zu outstanding: %.2f us to give one in, %.2f us to wait for it, %zu bytes\n", path->name, n, submit * 1e6 / (double)n,
                  wait * 1e6 / (double)n, each);
    size_t full = arena_bytes();
    for (uint64_t i = 0; i < n / 4; i++) f[i] = give_square(pool, i);
    for (uint64_t i = 0; i < n / 4; i++) pmap_future_free(f[i]);
    EXPECT(pmap_apply(pool, square_fn, &(uint64_t){2}, 8, NULL, NULL, NULL), 0);
    assert_in_range(arena_bytes(), full, full + 2 * n + 65536); /* positions of the ring */
    assert_in_range(pm_test_entries("/proc/self/fd"), fds, fds + 1); /* the eventfd of a thread pool comes with the first task */
    free(f);
    pm_path_close(pool);
}

struct waiter {
    pmap_pool *pool;
    pmap_future **f;
    size_t n;
    int error;
};

static void *waits_for_all(void *arg)
{
    struct waiter *w = arg;
    w->error = pmap_wait(w->f, w->n, PMAP_ALL, LONG_S);
    return NULL;
}

static void several_waiters(const struct pm_path *path)
{
    enum { N = 200, THREADS = 4 };
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_future *f[N];
    struct waiter w[THREADS];
    pthread_t thread[THREADS];
    for (uint64_t i = 0; i < N; i++) f[i] = give_square(pool, i);
    for (size_t i = 0; i < THREADS; i++) {
        w[i] = (struct waiter){pool, f + 10 * i, N - 10 * i, -1};
        assert_int_equal(pthread_create(&thread[i], NULL, waits_for_all, &w[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (size_t i = 0; i < THREADS; i++) EXPECT(w[i].error, 0);
    for (uint64_t i = 0; i < N; i++) {
        expect_square(f[i], i);
        pmap_future_free(f[i]);
    }
    pm_path_close(pool);
}

/* ---- One thread runs, another waits with a time-out, on a serial pool ---- */

static void *gets_one(void *arg)
{
    struct waiter *w = arg;
    w->error = pmap_future_get(w->f[0], LONG_S, NULL, NULL);
    return NULL;
}

static void time_out_beside_another_thread(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct row r = open_row(pool, 2);
    struct waiter w = {pool, r.f, 1, -1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, gets_one, &w), 0);
    await_inside(r.gate[0], 1);
    double t = seconds();
    EXPECT(pmap_future_get(r.f[1], 0.05, NULL, NULL), PMAP_ETIMEDOUT);
    if (seconds() - t > 5) fail_msg("a time-out of 0.05 s took %.3f s", seconds() - t);
    open_gate(r.gate[0]);
    pthread_join(thread, NULL);
    EXPECT(w.error, 0);
    close_row(&r);
    pm_path_close(pool);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"any and all", any_and_all, PM_ON_THREADS | PM_ON_SHM},
        {"first error", first_error, PM_ON_THREADS | PM_ON_SHM},
        {"waits of a serial pool", serial_waits, PM_ON_SERIAL},
        {"lists", lists, PM_ON_FUTURES},
        {"order of completion", order_of_completion, PM_ON_THREADS | PM_ON_SHM},
        {"freed as they come", freed_as_they_come, PM_ON_FUTURES},
        {"callbacks", callbacks, PM_ON_FUTURES},
        {"freed with a callback due", freed_with_a_callback_due, PM_ON_FUTURES},
        {"poll times out", poll_times_out, PM_ON_THREADS | PM_ON_SHM},
        {"a loop of poll", a_loop_of_poll, PM_ON_FUTURES},
        {"many outstanding", many_outstanding, PM_ON_FUTURES},
        {"several waiters", several_waiters, PM_ON_FUTURES},
        {"time-out beside another thread", time_out_beside_another_thread, PM_ON_SERIAL},
    };
    return PM_PATHS_MAIN("wait", tests);
}

/* Futures one at a time: values of all sizes, time-outs, cancel, failures by code, detached tasks, several threads, and that nothing
 * grows.  Deaths are test_future_deaths.c's, several futures at once test_wait.c's. */
#include "tests/futures.h"

#define MIB ((size_t)1 << 20)

/* ---- Values ---- */

static void one_size(pmap_pool *pool, size_t bytes, bool in_arena)
{
    unsigned char *in = in_arena ? pmap_alloc(pool, bytes) : malloc(bytes + 1);
    const unsigned char *out;
    const void *result;
    size_t n = 99;
    assert_non_null(in);
    for (size_t i = 0; i < bytes; i++) in[i] = (unsigned char)(i * 7 + i / 251);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.result_max = bytes;
    pmap_future *f = give(pool, plus_one_fn, in, bytes, &o);
    if (!in_arena) memset(in, 0xee, bytes); /* it was copied */
    EXPECT(pmap_future_get(f, LONG_S, &result, &n), 0);
    assert_int_equal(n, bytes);
    out = result;
    for (size_t i = 0; i < bytes; i++)
        if (out[i] != (unsigned char)(i * 7 + i / 251 + 1)) fail_msg("byte %zu of %zu is %u", i, bytes, out[i]);
    EXPECT(pmap_future_get(f, 0, NULL, NULL), 0); /* as often as wanted */
    assert_null(pmap_future_failure(f));
    pmap_future_free(f);
    if (in_arena) pmap_free(pool, in);
    else free(in);
}

static void sizes(const struct pm_path *path)
{
    static const size_t all[] = {0, 1, 63, 64, 65, 128, 4096, 100001, 10 * MIB};
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        one_size(pool, all[i], false);
        one_size(pool, all[i], true);
    }
    pm_path_close(pool);
}

static int ends_fn(pmap_task *task, const void *in, size_t bytes)
{
    const char *from = in;
    char *out = pmap_task_result(task, bytes);
    if (!out || from[0] != 'a' || from[bytes - 1] != 'z') return 1;
    out[0] = 'A';
    out[bytes - 1] = 'Z';
    return 0;
}

static void a_hundred_mebibytes(const struct pm_path *path)
{
    size_t bytes = 100 * MIB, n;
    pmap_options o = pm_path_options(path, 1);
    o.memory = 300 * MIB;
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    char *in = malloc(bytes);
    assert_non_null(in);
    in[0] = 'a';
    in[bytes - 1] = 'z';
    pmap_submit_options s = PMAP_SUBMIT_OPTIONS_INIT;
    s.result_max = bytes;
    pmap_future *f = give(pool, ends_fn, in, bytes, &s);
    free(in);
    const void *result;
    EXPECT(pmap_future_get(f, LONG_S, &result, &n), 0);
    assert_int_equal(n, bytes);
    assert_int_equal(((const char *)result)[0], 'A');
    assert_int_equal(((const char *)result)[bytes - 1], 'Z');
    pmap_future_free(f);
    pm_path_close(pool);
}

struct asked {
    size_t first, last;
    int code;
};

static int asks_fn(pmap_task *task, const void *in, size_t bytes)
{
    const struct asked *a = in;
    (void)bytes;
    (void)pmap_task_result(task, a->first);
    void *out = pmap_task_result(task, a->last);
    if (out) memset(out, 'x', a->last);
    return a->code;
}

static void result_too_large(const struct pm_path *path)
{
    static const struct {
        size_t max, first, last;
        int code, error;
        size_t value;
    } cases[] = {
        {100, 1, 101, 0, PMAP_ETOOBIG, 101}, {100, 101, 100, 0, 0, 100}, {0, 64, 65, 0, PMAP_ETOOBIG, 65},   {0, 65, 64, 0, 0, 64},
        {64, 0, 65, 5, PMAP_ETOOBIG, 65},    {100, 5, 0, 0, 0, 0},       {65, 0, SIZE_MAX, 0, PMAP_ETOOBIG, INT32_MAX},
    };
    pmap_pool *pool = pm_path_open(path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asked a = {cases[i].first, cases[i].last, cases[i].code};
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        size_t n = 99;
        o.result_max = cases[i].max;
        pmap_future *f = give(pool, asks_fn, &a, sizeof a, &o);
        EXPECT(pmap_future_get(f, LONG_S, NULL, &n), cases[i].error);
        assert_int_equal(n, cases[i].error ? 0 : cases[i].value);
        const pmap_failure *failure = pmap_future_failure(f);
        assert_int_equal(failure != NULL, cases[i].error != 0);
        if (failure) {
            assert_int_equal(failure->cause, PMAP_CAUSE_SIZE);
            assert_int_equal(failure->value, cases[i].value);
            assert_int_equal(failure->item, i);
            assert_int_equal(failure->attempts, 1);
        }
        pmap_future_free(f);
    }
    pm_path_close(pool);
}

struct place {
    uintptr_t in, out;
    char more[32];
};

static int places_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)bytes;
    struct place *p = pmap_task_result(task, sizeof *p);
    if (!p) return 1;
    p->in = (uintptr_t)in;
    p->out = (uintptr_t)p;
    return 0;
}

/* A struct with vectors or long doubles in it is at home in both. */
static void alignment(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    for (size_t bytes = 1; bytes < 200; bytes += 47) {
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        const void *result;
        char in[200] = "";
        o.result_max = bytes > 64 ? 100 : 64;
        pmap_future *f = give(pool, places_fn, in, bytes, &o);
        EXPECT(pmap_future_get(f, LONG_S, &result, NULL), 0);
        const struct place *p = result;
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(p->in % 64, 0);
        assert_int_equal(p->out % 64, 0);
        pmap_future_free(f);
    }
    pm_path_close(pool);
}

/* ---- Waiting for it ---- */

static void time_outs(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    pmap_future *f = give(pool, gate_fn, "abc", 4, &o);
    const void *result = "";
    size_t n = 5;
    await_inside(g, 1);
    EXPECT(pmap_future_get(f, 0, &result, &n), PMAP_ETIMEDOUT);
    assert_null(result);
    assert_int_equal(n, 0);
    double t = seconds();
    EXPECT(pmap_future_get(f, 0.05, NULL, NULL), PMAP_ETIMEDOUT);
    t = seconds() - t;
    if (t < 0.05 || t > 5) fail_msg("a time-out of 0.05 s took %.3f s", t);
    EXPECT_TEXT("0.05");
    EXPECT(pmap_future_get(f, NAN, NULL, NULL), PMAP_EINVAL);
    assert_int_equal(pmap_future_done(f), 0);
    assert_null(pmap_future_failure(f));
    open_gate(g);
    EXPECT(pmap_future_get(f, -1, &result, &n), 0);
    assert_int_equal(n, 4);
    assert_string_equal(result, "abc");
    assert_int_equal(pmap_future_done(f), 1);
    pmap_future_free(f);
    pmap_free(pool, g);
    pm_path_close(pool);
}

static void done_index_arg(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t i = 0; i < 5; i++) {
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        int mine;
        uint64_t x = i;
        o.done_arg = &mine;
        pmap_future *f = give(pool, square_fn, &x, sizeof x, &o);
        assert_int_equal(pmap_future_index(f), i);
        assert_ptr_equal(pmap_future_arg(f), &mine);
        for (double end = seconds() + LONG_S; pmap_future_done(f) == 0 && seconds() < end;) sched_yield(); /* a serial pool runs it there */
        assert_int_equal(pmap_future_done(f), 1);
        expect_square(f, i);
        pmap_future_free(f);
    }
    pm_path_close(pool);
}

/* ---- What is asked wrongly, and what a pool cannot do ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    pmap_future *f = (pmap_future *)(void *)&pool;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    char byte = 0;
    EXPECT(pmap_submit(NULL, square_fn, NULL, 0, NULL, &f), PMAP_EINVAL);
    assert_null(f);
    EXPECT(pmap_submit(pool, NULL, NULL, 0, NULL, &f), PMAP_EINVAL);
    EXPECT(pmap_submit(pool, square_fn, NULL, 8, NULL, &f), PMAP_EINVAL);
    EXPECT(pmap_apply(pool, square_fn, NULL, 8, NULL, NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_apply(pool, NULL, NULL, 0, NULL, NULL, NULL), PMAP_EINVAL);
    o.size = 1;
    EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_EINVAL);
    o = (pmap_submit_options)PMAP_SUBMIT_OPTIONS_INIT;
    o.timeout_s = -1;
    EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_EINVAL);
    o.timeout_s = NAN;
    EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_EINVAL);
    o.timeout_s = 0;
    for (o.retries = -1; o.retries <= 31; o.retries += 32) EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_EINVAL);
    o.retries = 0;
    o.result_max = SIZE_MAX / 2;
    EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_ENOMEM);
    o.result_max = 0;
    EXPECT(pmap_submit(pool, square_fn, &byte, SIZE_MAX / 2, &o, &f), PMAP_ENOMEM);
    assert_null(f);
    if (path->executor != PMAP_PROCESSES) {
        o.timeout_s = 1;
        EXPECT(pmap_submit(pool, square_fn, NULL, 0, &o, &f), PMAP_ENOTSUP);
    }
    EXPECT(pmap_future_get(NULL, 0, NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_future_done(NULL), PMAP_EINVAL);
    EXPECT(pmap_future_cancel(NULL), PMAP_EINVAL);
    EXPECT(pmap_future_kill(NULL), PMAP_EINVAL);
    assert_null(pmap_future_failure(NULL));
    pmap_future_free(NULL);
    f = give_square(pool, 12); /* and all that has left it as it was */
    expect_square(f, 12);
    assert_int_equal(pmap_future_index(f), 0);
    pmap_future_free(f);
    pm_path_close(pool);
}

static void not_over_zmq(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    pmap_future *f;
    EXPECT(pmap_submit(pool, square_fn, NULL, 0, NULL, &f), PMAP_ENOTSUP);
    EXPECT_TEXT("ZeroMQ");
    assert_null(f);
    EXPECT(pmap_apply(pool, square_fn, NULL, 0, NULL, NULL, NULL), PMAP_ENOTSUP);
    EXPECT(pmap_pool_poll(pool, 0), 0);
    pm_path_close(pool);
}

static pmap_pool *pool_of_the_test;

static int submits_fn(pmap_task *task, const void *in, size_t bytes)
{
    pmap_future *f;
    (void)in, (void)bytes;
    int e = pmap_submit(pool_of_the_test, square_fn, NULL, 0, NULL, &f);
    if (e) pmap_task_error(task, "%s", pmap_error());
    return -e;
}

static void from_a_function_of_the_pool(const struct pm_path *path)
{
    pool_of_the_test = NULL;
    pmap_options o = pm_path_options(path, 1);
    EXPECT(pmap_pool_open(&pool_of_the_test, &o), 0);
    EXPECT(pmap_apply(pool_of_the_test, submits_fn, NULL, 0, NULL, NULL, NULL), PMAP_EITEMS);
    /* A process that was forked before the handle was stored has none at all. */
    EXPECT_TEXT(path->executor == PMAP_PROCESSES ? "pool is NULL" : "called by a function that this pool runs");
    pm_path_close(pool_of_the_test);
}

/* ---- Taken back ---- */

static void cancel(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    pmap_future *first = give(pool, gate_fn, "a", 1, &o), *f[4];
    for (uint64_t i = 0; i < 4; i++) f[i] = give_square(pool, i + 2);
    if (path->executor != PMAP_SERIAL) {
        await_inside(g, 1);
        assert_int_equal(pmap_future_cancel(first), 0); /* it runs */
    }
    assert_int_equal(pmap_future_cancel(f[1]), 1);
    assert_int_equal(pmap_future_cancel(f[1]), 1);
    assert_int_equal(pmap_future_kill(f[2]), 0);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(pmap_future_done(f[i]), 1);
        EXPECT(pmap_future_get(f[i], 0, NULL, NULL), PMAP_ECANCELLED);
        const pmap_failure *failure = pmap_future_failure(f[i]);
        assert_non_null(failure);
        assert_int_equal(failure->cause, PMAP_CAUSE_CANCELLED);
        assert_int_equal(failure->item, i + 1);
    }
    open_gate(g);
    expect_square(f[0], 2);
    expect_square(f[3], 5);
    EXPECT(pmap_future_get(first, LONG_S, NULL, NULL), 0);
    assert_int_equal(pmap_future_cancel(first), 0); /* too late */
    EXPECT(pmap_future_kill(first), 0);
    EXPECT(pmap_future_get(first, 0, NULL, NULL), 0);
    for (int i = 0; i < 4; i++) pmap_future_free(f[i]);
    pmap_future_free(first);
    pm_path_close(pool);
}

static void kill_what_cannot_be_killed(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    pmap_future *f = give(pool, gate_fn, "a", 1, &o);
    await_inside(g, 1);
    EXPECT(pmap_future_kill(f), PMAP_ENOTSUP);
    EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), PMAP_ECANCELLED); /* it has seen that it is cancelled, and said that it has failed */
    assert_int_equal(pmap_future_failure(f)->cause, PMAP_CAUSE_CANCELLED);
    pmap_future_free(f);
    pm_path_close(pool);
}

/* ---- Failures ---- */

static int code_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)bytes;
    int code;
    memcpy(&code, in, sizeof code);
    pmap_task_error(task, "attempt %u says %d", pmap_task_attempt(task), code);
    return code == PMAP_RETRY && pmap_task_attempt(task) == 3 ? 0 : code;
}

static void codes_and_retries(const struct pm_path *path)
{
    static const struct {
        int code, retries, once, error;
        unsigned attempts;
        const char *text;
    } cases[] = {
        {7, 2, 0, PMAP_EITEMS, 1, "attempt 0 says 7"},   {1, 0, 1, PMAP_EITEMS, 1, "attempt 0 says 1"},
        {PMAP_RETRY, 3, 0, 0, 0, NULL},                  {PMAP_RETRY, 2, 0, PMAP_EITEMS, 3, "attempt 2 says -1"},
        {PMAP_RETRY, 0, 0, PMAP_EITEMS, 1, "attempt 0"}, {PMAP_RETRY, 9, 1, PMAP_EITEMS, 1, "attempt 0"},
    };
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        o.retries = cases[i].retries;
        o.once = cases[i].once;
        pmap_future *f = give(pool, code_fn, &cases[i].code, sizeof(int), &o);
        EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), cases[i].error);
        const pmap_failure *failure = pmap_future_failure(f);
        assert_int_equal(failure != NULL, cases[i].error != 0);
        if (failure) {
            char item[40];
            snprintf(item, sizeof item, "item %zu:", i);
            assert_int_equal(failure->cause, PMAP_CAUSE_CODE);
            assert_int_equal(failure->value, cases[i].code);
            assert_int_equal(failure->attempts, cases[i].attempts);
            assert_int_equal(failure->item, i);
            assert_non_null(strstr(failure->text, cases[i].text));
            assert_non_null(strstr(failure->text, item));
        }
        pmap_future_free(f);
    }
    pm_path_close(pool);
}

static void apply(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    char in[300], out[300] = "";
    size_t n = sizeof out;
    memset(in, 'k', sizeof in);
    EXPECT(pmap_apply(pool, plus_one_fn, in, sizeof in, out, &n, NULL), 0);
    assert_int_equal(n, sizeof in);
    for (size_t i = 0; i < n; i++) assert_int_equal(out[i], 'l');
    n = 10;
    EXPECT(pmap_apply(pool, plus_one_fn, in, 20, out, &n, NULL), PMAP_ETOOBIG);
    EXPECT(pmap_apply(pool, plus_one_fn, in, 20, NULL, NULL, NULL), 0);
    n = 7;
    EXPECT(pmap_apply(pool, plus_one_fn, NULL, 0, out, &n, NULL), 0);
    assert_int_equal(n, 0);
    int code = 5;
    EXPECT(pmap_apply(pool, code_fn, &code, sizeof code, out, &n, NULL), PMAP_EITEMS);
    EXPECT_TEXT("says 5");
    for (uint64_t i = 0, y; i < 300; i++) {
        n = sizeof y;
        EXPECT(pmap_apply(pool, square_fn, &i, sizeof i, &y, &n, NULL), 0);
        assert_int_equal(y, i * i);
    }
    pm_path_close(pool);
}

/* ---- Nobody asks for it ---- */

static void called(pmap_future *future, void *arg)
{
    assert_int_equal(pmap_future_done(future), 1);
    ++*(unsigned *)arg;
}

static void detached(const struct pm_path *path)
{
    enum { N = 3000 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    unsigned calls = 0;
    for (unsigned i = 0; i < N; i++) {
        o.done = i % 3 ? NULL : called;
        o.done_arg = &calls;
        EXPECT(pmap_submit(pool, count_fn, NULL, 0, &o, NULL), 0);
    }
    double end = seconds() + LONG_S;
    while (calls < N / 3 && seconds() < end) assert_true(pmap_pool_poll(pool, 1) >= 0);
    assert_int_equal(calls, N / 3);
    struct at_gate all = {g, N};
    if (path->executor != PMAP_SERIAL && !pm_test_wait_until(have_run, &all, 10000)) fail_msg("%u of %u ran", atomic_load(&g->ran), N);
    for (unsigned i = 0; i < 100; i++) EXPECT(pmap_submit(pool, count_fn, NULL, 0, &o, NULL), 0);
    pm_path_close(pool);
}

static int writes_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)task;
    return write(*(const int *)in, "x", 1) == 1 && bytes == sizeof(int) ? 0 : 1;
}

static void close_finishes_what_is_queued(const struct pm_path *path)
{
    int pipes[2];
    char text[400];
    assert_int_equal(pipe(pipes), 0);
    pmap_options o = pm_path_options(path, 2);
    o.keep_fds = 1;
    pmap_pool *pool;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    for (int i = 0; i < 300; i++) EXPECT(pmap_submit(pool, writes_fn, &pipes[1], sizeof(int), NULL, NULL), 0);
    pm_path_close(pool);
    assert_int_equal(read(pipes[0], text, sizeof text), 300);
    close(pipes[0]);
    close(pipes[1]);
}

static void freed_before_they_finish(const struct pm_path *path)
{
    enum { N = 500 };
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    char in[200];
    memset(in, 1, sizeof in);
    o.result_max = 300;
    pmap_future *first = give(pool, gate_fn, in, sizeof in, &o);
    for (int i = 0; i < N; i++) pmap_future_free(give(pool, count_fn, in, sizeof in, &o));
    open_gate(g);
    EXPECT(pmap_future_get(first, LONG_S, NULL, NULL), 0);
    pmap_future_free(first);
    pmap_future *last = give(pool, count_fn, in, sizeof in, &o); /* tasks begin in the order in which they were given in */
    EXPECT(pmap_future_get(last, LONG_S, NULL, NULL), 0);
    assert_int_equal(atomic_load(&g->ran), N + 2);
    pmap_future_free(last);
    size_t before = arena_bytes();
    for (int i = 0; i < N; i++) pmap_future_free(give(pool, count_fn, in, sizeof in, &o)); /* their entries, their payloads */
    EXPECT(pmap_apply(pool, count_fn, NULL, 0, NULL, NULL, &o), 0);
    assert_int_equal(arena_bytes(), before);
    pm_path_close(pool);
}

/* ---- Used again ---- */

static void nothing_grows(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    size_t before = 0, fds = 0;
    for (uint64_t i = 0; i < 5000; i++) {
        pmap_future *f = give_square(pool, i);
        if (i % 7 == 0) (void)pmap_future_cancel(f);
        else expect_square(f, i);
        pmap_future_free(f);
        if (i != 100) continue;
        before = arena_bytes();
        fds = pm_test_entries("/proc/self/fd");
    }
    assert_in_range(arena_bytes(), before, before + 65536); /* positions of the ring, used once round */
    assert_int_equal(pm_test_entries("/proc/self/fd"), fds);
    pm_path_close(pool);
}

/* Announced, cancelled and given back while nobody passes the announcement. */
static void cancelled_while_all_are_busy(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    pmap_future *first = path->executor == PMAP_SERIAL ? NULL : give(pool, gate_fn, NULL, 0, &o);
    if (first) await_inside(g, 1);
    size_t before = 0;
    for (int i = 0; i < 40000; i++) {
        pmap_future *f = give(pool, count_fn, NULL, 0, &o);
        assert_int_equal(pmap_future_cancel(f), 1);
        pmap_future_free(f);
        if (i == 100) before = arena_bytes();
    }
    assert_in_range(arena_bytes(), before, before + 3 * 65536); /* 40000 positions of the ring are 160 kB; entries would be 10 MB */
    open_gate(g);
    EXPECT(pmap_apply(pool, count_fn, NULL, 0, NULL, NULL, &o), 0);
    assert_int_equal(atomic_load(&g->ran), first ? 2 : 1);
    pmap_future_free(first);
    pm_path_close(pool);
}

/* ---- Together ---- */

struct client {
    pmap_pool *pool;
    uint64_t from;
    unsigned wrong;
};

static void *submits_and_gets(void *arg)
{
    struct client *c = arg;
    for (uint64_t i = 0; i < 1500; i++) {
        uint64_t x = c->from + i, y = 0;
        pmap_future *f[2] = {NULL, NULL};
        const void *result;
        for (int k = 0; k < 2; k++) {
            uint64_t in = x + (uint64_t)k;
            if (pmap_submit(c->pool, square_fn, &in, sizeof in, NULL, &f[k])) c->wrong++;
        }
        for (int k = 1; k >= 0; k--) {
            if (pmap_future_get(f[k], LONG_S, &result, NULL)) c->wrong++;
            else memcpy(&y, result, sizeof y);
            if (y != (x + (uint64_t)k) * (x + (uint64_t)k)) c->wrong++;
            pmap_future_free(f[k]);
        }
    }
    return NULL;
}

static int double_fn(pmap_task *task, const void *item, void *result)
{
    (void)task;
    uint64_t x;
    memcpy(&x, item, sizeof x);
    x *= 2;
    memcpy(result, &x, sizeof x);
    return 0;
}

static void *maps(void *arg)
{
    struct client *c = arg;
    enum { N = 2000 };
    static uint64_t in[N], out[N];
    for (int round = 0; round < 40; round++) {
        for (uint64_t i = 0; i < N; i++) in[i] = i + (uint64_t)round;
        if (pmap_map(c->pool, double_fn, in, N, 8, out, 8, NULL)) c->wrong++;
        for (uint64_t i = 0; i < N; i++) c->wrong += out[i] != 2 * in[i];
    }
    return NULL;
}

static void several_threads_and_maps(const struct pm_path *path)
{
    enum { N = 4 };
    pmap_pool *pool = pm_path_open(path, 3);
    struct client c[N];
    pthread_t thread[N];
    for (unsigned i = 0; i < N; i++) {
        c[i] = (struct client){pool, i * 1000000u, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, i ? submits_and_gets : maps, &c[i]), 0);
    }
    for (unsigned i = 0; i < N; i++) pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < N; i++) assert_int_equal(c[i].wrong, 0);
    pm_path_close(pool);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"sizes", sizes, PM_ON_FUTURES},
        {"a hundred mebibytes", a_hundred_mebibytes, PM_ON_FUTURES},
        {"result too large", result_too_large, PM_ON_FUTURES},
        {"alignment", alignment, PM_ON_FUTURES},
        {"time-outs", time_outs, PM_ON_THREADS | PM_ON_SHM},
        {"done, index, arg", done_index_arg, PM_ON_FUTURES},
        {"refused", refused, PM_ON_FUTURES},
        {"not over ZeroMQ", not_over_zmq, PM_ON_ZMQ},
        {"from a function of the pool", from_a_function_of_the_pool, PM_ON_FUTURES},
        {"cancel", cancel, PM_ON_FUTURES},
        {"kill what cannot be killed", kill_what_cannot_be_killed, PM_ON_THREADS},
        {"codes and retries", codes_and_retries, PM_ON_FUTURES},
        {"apply", apply, PM_ON_FUTURES},
        {"detached", detached, PM_ON_FUTURES},
        {"close finishes what is queued", close_finishes_what_is_queued, PM_ON_FUTURES},
        {"freed before they finish", freed_before_they_finish, PM_ON_FUTURES},
        {"nothing grows", nothing_grows, PM_ON_FUTURES},
        {"cancelled while all are busy", cancelled_while_all_are_busy, PM_ON_FUTURES},
        {"several threads, and maps", several_threads_and_maps, PM_ON_FUTURES},
    };
    return PM_PATHS_MAIN("future", tests);
}

/* A function with a state, fed one value at a time: what it answers, and that a step which fails, dies or is waited for in vain changes
 * nothing that it should not. */
#include "tests/stream.h"

#include <limits.h>
#include <pthread.h>

struct least {
    int least, steps;
};

/* The running minimum. */
static int minimum(pmap_task *task, void *state, const void *in, size_t bytes)
{
    struct least *s = state;
    int x, *room = pmap_task_result(task, sizeof x);
    if (bytes != sizeof x || !room) return 99;
    memcpy(&x, in, sizeof x);
    if (s->steps == 0 || x < s->least) s->least = x;
    s->steps++;
    memcpy(room, &s->least, sizeof x);
    return 0;
}

static pmap_coroutine *open_minimum(pmap_pool *pool, const pmap_submit_options *options)
{
    struct least start = {0, 0};
    pmap_coroutine *c = NULL;
    EXPECT(pmap_coroutine_open(pool, minimum, &start, sizeof start, options, &c), 0);
    start.least = INT_MIN; /* it has its own copy */
    assert_non_null(c);
    return c;
}

static int feed(pmap_coroutine *c, int x)
{
    const void *result;
    size_t bytes;
    EXPECT(pmap_coroutine_send(c, &x, sizeof x, 30, &result, &bytes), 0);
    assert_int_equal(bytes, sizeof x);
    memcpy(&x, result, sizeof x);
    return x;
}

static void running_minimum(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_coroutine *c = open_minimum(pool, NULL);
    assert_int_equal(feed(c, 10), 10);
    assert_int_equal(feed(c, 4), 4);
    assert_int_equal(feed(c, 22), 4);
    assert_int_equal(feed(c, -1), -1);
    const struct least *s = pmap_coroutine_state(c);
    assert_true(s->least == -1 && s->steps == 4);
    pmap_coroutine_close(c);
    pmap_coroutine_close(NULL);
    pm_path_close(pool);
}

/* Each has its own state, and the pool does other things in between. */
static void several(const struct pm_path *path)
{
    enum { N = 20 };
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_coroutine *c[N];
    for (int i = 0; i < N; i++) c[i] = open_minimum(pool, NULL);
    for (int x = 50; x > 0; x--)
        for (int i = 0; i < N; i++) assert_int_equal(feed(c[i], x * (i + 1)), x * (i + 1));
    stream_orderly(pool, true, 100, NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(feed(c[i], INT_MAX), i + 1);
        pmap_coroutine_close(c[i]);
    }
    pm_path_close(pool);
}

/* ---- State and values of any size ---- */

#define BIG 100001u

struct big {
    unsigned char byte[BIG];
};

/* Adds the input to the state and answers with all of it. */
static int add_up(pmap_task *task, void *state, const void *in, size_t bytes)
{
    struct big *s = state;
    const unsigned char *x = in;
    unsigned char *room = pmap_task_result(task, BIG);
    if (!room || *(int *)pmap_task_arg(task) != 77) return 99;
    if (pmap_task_attempt(task) == 0) {
        memset(s->byte, 0xee, BIG); /* a half done step, which nobody may ever see */
        memset(room, 0xee, BIG);
        return PMAP_RETRY;
    }
    for (size_t k = 0; k < bytes; k++) s->byte[k] = (unsigned char)(s->byte[k] + x[k]);
    memcpy(room, s->byte, BIG);
    return 0;
}

static void large_states(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    struct big *state = calloc(1, BIG);
    pmap_coroutine *c;
    const void *result;
    size_t bytes;
    int *arg = pmap_alloc(pool, sizeof *arg);
    assert_true(state && arg);
    *arg = 77;
    o.arg = arg;
    o.result_max = BIG;
    for (size_t k = 0; k < BIG; k++) state->byte[k] = (unsigned char)(k % 100);
    EXPECT(pmap_coroutine_open(pool, add_up, state, BIG, &o, &c), 0);
    EXPECT(pmap_coroutine_send(c, "", 0, 30, &result, &bytes), 0);
    assert_int_equal(bytes, BIG);
    assert_memory_equal(result, state, BIG);
    for (int twice = 1; twice <= 6; twice++) { /* what it has answered is what it is fed next: the state doubles */
        EXPECT(pmap_coroutine_send(c, result, bytes, 30, &result, &bytes), 0);
        assert_int_equal(bytes, BIG);
        for (size_t k = 0; k < BIG; k++)
            if (((const struct big *)result)->byte[k] != (unsigned char)(k % 100 << twice)) fail_msg("byte %zu after %d steps", k, twice);
    }
    assert_memory_equal(pmap_coroutine_state(c), result, BIG);
    pmap_coroutine_close(c);
    pmap_free(pool, arg);
    free(state);
    pm_path_close(pool);
}

static int count_calls(pmap_task *task, void *state, const void *in, size_t bytes)
{
    _Atomic uint64_t *calls = pmap_task_arg(task);
    (void)in;
    return state && bytes ? 99 : answer(task, atomic_fetch_add(calls, 1));
}

static void no_state_no_input(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    _Atomic uint64_t *calls = pmap_alloc(pool, sizeof *calls);
    pmap_coroutine *c;
    const void *result;
    size_t bytes;
    atomic_store(calls, 0);
    o.arg = (void *)(uintptr_t)calls;
    EXPECT(pmap_coroutine_open(pool, count_calls, NULL, 0, &o, &c), 0);
    for (uint64_t k = 0; k < 5; k++) {
        EXPECT(pmap_coroutine_send(c, NULL, 0, 30, &result, &bytes), 0);
        assert_int_equal(number_in(result, bytes), k);
    }
    pmap_coroutine_close(c);
    pmap_free(pool, (void *)(uintptr_t)calls);
    pm_path_close(pool);
}

/* ---- Steps that fail ---- */

/* Writes to its state first, whatever comes then. */
static int fail_on_odd(pmap_task *task, void *state, const void *in, size_t bytes)
{
    int x, *s = state, *room = pmap_task_result(task, sizeof x);
    memcpy(&x, in, bytes < sizeof x ? bytes : sizeof x);
    *s += x;
    if (x == 7) return pmap_task_result(task, 4096) ? 1 : 0;
    if (x % 2) {
        pmap_task_error(task, "%d is odd", x);
        return 21;
    }
    memcpy(room, s, sizeof x);
    return 0;
}

static void failing_steps(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    int state = 100, odd = 3, large = 7, even = 2;
    const void *result = &state;
    size_t bytes = 1;
    pmap_coroutine *c;
    EXPECT(pmap_coroutine_open(pool, fail_on_odd, &state, sizeof state, NULL, &c), 0);
    for (int k = 1; k <= 3; k++) {
        EXPECT(pmap_coroutine_send(c, &odd, sizeof odd, 30, &result, &bytes), PMAP_EITEMS);
        EXPECT_TEXT("3 is odd");
        assert_true(result == NULL && bytes == 0);
        EXPECT(pmap_coroutine_send(c, &large, sizeof large, 30, &result, &bytes), PMAP_ETOOBIG);
        assert_int_equal(*(const int *)pmap_coroutine_state(c), 100 + 2 * (k - 1));
        EXPECT(pmap_coroutine_send(c, &even, sizeof even, 30, &result, &bytes), 0);
        assert_int_equal(*(const int *)result, 100 + 2 * k);
    }
    pmap_coroutine_close(c);
    pm_path_close(pool);
}

struct fate {
    _Atomic uint64_t runs, deaths; /* executions; how many of the next ones die */
    bool hang;
};

static int mortal(pmap_task *task, void *state, const void *in, size_t bytes)
{
    struct fate *f = pmap_task_arg(task);
    uint64_t *sum = state;
    *sum += number_in(in, bytes);
    atomic_fetch_add(&f->runs, 1);
    if (atomic_load(&f->deaths)) {
        atomic_fetch_sub(&f->deaths, 1);
        if (f->hang) for (;;) (void)poll(NULL, 0, 1000);
        raise(SIGSEGV);
    }
    return answer(task, *sum);
}

static void dying_steps(const struct pm_path *path)
{
    for (int hang = 0; hang < 2; hang++) {
        pmap_pool *pool = pm_path_open(path, 2);
        struct fate *f = pmap_alloc(pool, sizeof *f);
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        pmap_coroutine *c;
        uint64_t start = 1000, one = 1, runs = 0;
        const void *result;
        size_t bytes;
        memset(f, 0, sizeof *f);
        f->hang = hang;
        o.arg = f;
        o.timeout_s = hang ? 0.03 : 0;
        EXPECT(pmap_coroutine_open(pool, mortal, &start, sizeof start, &o, &c), 0);
        for (uint64_t deaths = 0; deaths < 3; deaths++) { /* 2 retries: in vain, and then the answer */
            atomic_store(&f->deaths, deaths);
            EXPECT(pmap_coroutine_send(c, &one, sizeof one, 30, &result, &bytes), 0);
            assert_int_equal(number_in(result, bytes), 1001 + deaths);
            assert_int_equal(atomic_load(&f->runs), runs += deaths + 1);
        }
        atomic_store(&f->deaths, 3);
        EXPECT(pmap_coroutine_send(c, &one, sizeof one, 30, &result, &bytes), PMAP_EITEMS);
        EXPECT_TEXT(hang ? "time-out" : "SIGSEGV");
        assert_int_equal(number_in(pmap_coroutine_state(c), 8), 1003);
        EXPECT(pmap_coroutine_send(c, &one, sizeof one, 30, &result, &bytes), 0);
        assert_int_equal(number_in(result, bytes), 1004);
        pmap_coroutine_close(c);
        pmap_free(pool, f);
        pm_path_close(pool);
    }
}

/* ---- Waiting ---- */

static int slow_step(pmap_task *task, void *state, const void *in, size_t bytes)
{
    struct hold *h = pmap_task_arg(task);
    uint64_t *sum = state;
    *sum += number_in(in, bytes);
    atomic_fetch_add(&h->begun, 1);
    PM_HOLD(task, &h->go);
    return answer(task, *sum);
}

static void wait_on(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct hold *h = hold_new(pool, 0, 0);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    uint64_t start = 5, two = 2;
    pmap_coroutine *c;
    const void *result = &start;
    size_t bytes = 1;
    o.arg = h;
    EXPECT(pmap_coroutine_open(pool, slow_step, &start, sizeof start, &o, &c), 0);
    EXPECT(pmap_coroutine_send(c, &two, sizeof two, 0.001, &result, &bytes), PMAP_ETIMEDOUT);
    assert_true(result == NULL && bytes == 0);
    EXPECT(pmap_coroutine_send(c, &two, sizeof two, -1, &result, &bytes), PMAP_EPERM);
    EXPECT(pmap_coroutine_send(c, NULL, 0, 0, &result, &bytes), PMAP_ETIMEDOUT);
    assert_int_equal(number_in(pmap_coroutine_state(c), 8), 5);
    stream_orderly(pool, true, 50, NULL); /* its other worker has nothing to do with it */
    atomic_store(&h->go, 1);
    EXPECT(pmap_coroutine_send(c, NULL, 0, -1, &result, &bytes), 0);
    assert_int_equal(number_in(result, bytes), 7);
    EXPECT(pmap_coroutine_send(c, &two, sizeof two, -1, &result, &bytes), 0);
    assert_int_equal(number_in(result, bytes), 9);
    assert_int_equal(atomic_load(&h->begun), 2);
    atomic_store(&h->go, 0);
    EXPECT(pmap_coroutine_send(c, &two, sizeof two, 0, &result, &bytes), PMAP_ETIMEDOUT);
    atomic_store(&h->go, 1);
    pmap_coroutine_close(c); /* with a step that runs, or has not begun */
    stream_orderly(pool, true, 50, NULL);
    pmap_free(pool, h);
    pm_path_close(pool);
}

struct sender {
    pmap_coroutine *coroutine;
    int said;
};

static void *send_one(void *arg)
{
    struct sender *s = arg;
    uint64_t one = 1;
    s->said = pmap_coroutine_send(s->coroutine, &one, sizeof one, -1, NULL, NULL);
    pmap_coroutine_close(s->coroutine);
    return NULL;
}

static void terminate_while_one_waits(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct hold *h = hold_new(pool, 0, 0);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    uint64_t start = 0;
    struct sender s;
    pmap_coroutine *other;
    pthread_t thread;
    o.arg = h;
    EXPECT(pmap_coroutine_open(pool, slow_step, &start, sizeof start, &o, &s.coroutine), 0);
    EXPECT(pmap_coroutine_open(pool, slow_step, &start, sizeof start, &o, &other), 0);
    assert_int_equal(pthread_create(&thread, NULL, send_one, &s), 0);
    assert_true(pm_test_wait_until(flag_is_set, &h->begun, 10000));
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* The step may have ended well when it was told, on processes too, before it was killed. */
    assert_true(s.said == PMAP_ECANCELLED || s.said == 0);
    EXPECT(pmap_coroutine_send(other, &start, sizeof start, -1, NULL, NULL), PMAP_ECLOSED);
    assert_null(pmap_coroutine_state(other));
    pmap_coroutine_close(other);
}

/* ---- Refused ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    int x = 0;
    pmap_coroutine *c = (pmap_coroutine *)&x;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    EXPECT(pmap_coroutine_open(pool, minimum, &x, sizeof x, NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_coroutine_open(NULL, minimum, &x, sizeof x, NULL, &c), PMAP_EINVAL);
    assert_null(c);
    EXPECT(pmap_coroutine_open(pool, NULL, &x, sizeof x, NULL, &c), PMAP_EINVAL);
    EXPECT(pmap_coroutine_open(pool, minimum, NULL, sizeof x, NULL, &c), PMAP_EINVAL);
    EXPECT(pmap_coroutine_open(pool, minimum, &x, SIZE_MAX / 2, NULL, &c), PMAP_EOVERFLOW);
    EXPECT(pmap_coroutine_open(pool, minimum, &x, SIZE_MAX, NULL, &c), PMAP_EOVERFLOW);
    o.retries = -1;
    EXPECT(pmap_coroutine_open(pool, minimum, &x, sizeof x, &o, &c), PMAP_EINVAL);
    assert_null(c);
    EXPECT(pmap_coroutine_send(NULL, &x, sizeof x, 0, NULL, NULL), PMAP_EINVAL);
    assert_null(pmap_coroutine_state(NULL));
    c = open_minimum(pool, NULL);
    EXPECT(pmap_coroutine_send(c, NULL, 4, 0, NULL, NULL), PMAP_EINVAL);
    assert_int_equal(feed(c, 3), 3);
    pmap_coroutine_close(c);
    pm_path_close(pool);
}

static void not_over_zeromq(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    int x = 0;
    pmap_coroutine *c;
    EXPECT(pmap_coroutine_open(pool, minimum, &x, sizeof x, NULL, &c), PMAP_ENOTSUP);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"running minimum", running_minimum, ON_STREAMS},
    {"several", several, ON_STREAMS},
    {"large states", large_states, ON_STREAMS},
    {"no state, no input", no_state_no_input, ON_STREAMS},
    {"failing steps", failing_steps, ON_STREAMS},
    {"dying steps", dying_steps, PM_ON_SHM},
    {"wait on", wait_on, ON_HELD},
    {"terminate while one waits", terminate_while_one_waits, ON_HELD},
    {"refused", refused, ON_STREAMS},
    {"not over ZeroMQ", not_over_zeromq, PM_ON_ZMQ},
};

int main(void)
{
    no_core();
    return PM_PATHS_MAIN("coroutine", tests);
}

/* Once on every worker: exactly once, results by worker, and what a worker that fails or dies over it does to the others: nothing. */
#include "tests/stream.h"

#include <pthread.h>

#define WORKERS 4u

struct told {
    uint64_t worker, pid, index, in;
};

struct tally {
    _Atomic uint64_t runs[WORKERS], deaths[WORKERS], begun, go;
    bool hang, held;
};

static struct tally *tally_new(pmap_pool *pool)
{
    struct tally *t = pmap_alloc(pool, sizeof *t);
    assert_non_null(t);
    memset(t, 0, sizeof *t);
    return t;
}

static int tell(pmap_task *task, const void *in, size_t bytes)
{
    struct tally *t = pmap_task_arg(task);
    unsigned i = pmap_task_worker(task);
    struct told *room = pmap_task_result(task, sizeof *room);
    if (!room || i >= WORKERS) return 99;
    atomic_fetch_add(&t->runs[i], 1);
    if (atomic_load(&t->deaths[i])) {
        atomic_fetch_sub(&t->deaths[i], 1);
        if (t->hang) for (;;) (void)poll(NULL, 0, 1000);
        raise(SIGSEGV);
    }
    atomic_fetch_add(&t->begun, 1);
    if (t->held)
        PM_HOLD(task, &t->go);
    *room = (struct told){i, (uint64_t)getpid(), pmap_task_index(task), number_in(in, bytes)};
    return 0;
}

static int cast(pmap_pool *pool, struct tally *t, uint64_t value, struct told *told, pmap_submit_options *o)
{
    pmap_submit_options init = PMAP_SUBMIT_OPTIONS_INIT;
    if (!o) o = &init;
    o->arg = t;
    memset(told, 0xff, WORKERS * sizeof *told);
    return pmap_broadcast(pool, tell, &value, sizeof value, told, sizeof *told, o);
}

static void once_on_each(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, WORKERS);
    unsigned workers = pm_path_workers(path, WORKERS);
    struct tally *t = tally_new(pool);
    struct told told[WORKERS];
    int pids[WORKERS];
    for (uint64_t round = 1; round <= 300; round++) {
        EXPECT(cast(pool, t, round, told, NULL), 0);
        unsigned known = pmap_pool_pids(pool, pids, WORKERS);
        for (unsigned i = 0; i < workers; i++) {
            if (told[i].worker != i || told[i].in != round || told[i].index != i) fail_msg("worker %u in round %d", i, (int)round);
            assert_int_equal(atomic_load(&t->runs[i]), round);
            if (known) assert_int_equal(told[i].pid, pids[i]);
        }
    }
    pmap_free(pool, t);
    pm_path_close(pool);
}

/* Among a stream and a map, whose work it is kept from by nobody for long. */
static void among_other_work(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, WORKERS);
    unsigned workers = pm_path_workers(path, WORKERS);
    struct tally *t = tally_new(pool);
    struct told told[WORKERS];
    struct numbers source = numbers(2000);
    struct reader r = reader(stream_open(pool, false, compute, pull_number, &source, NULL), false, 2000);
    for (size_t k = 0; k < 2000; k++) {
        (void)read_right(&r);
        if (k % 20) continue;
        EXPECT(cast(pool, t, k, told, NULL), 0);
        for (unsigned i = 0; i < workers; i++) assert_true(told[i].worker == i && told[i].in == k);
    }
    read_end(&r);
    reader_close(&r);
    for (unsigned i = 0; i < workers; i++) assert_int_equal(atomic_load(&t->runs[i]), 100);
    pmap_free(pool, t);
    pm_path_close(pool);
}

/* ---- Results ---- */

static int short_or_long(pmap_task *task, const void *in, size_t bytes)
{
    size_t n = pmap_task_worker(task) * 300;
    (void)in, (void)bytes;
    char *room = pmap_task_result(task, n);
    if (!room) return 0;
    memset(room, 'a' + (int)pmap_task_worker(task), n);
    return 0;
}

/* Zeroes behind a shorter one; one that is too large is a failure. */
static void result_sizes(const struct pm_path *path)
{
    enum { EACH = 700 };
    pmap_pool *pool = pm_path_open(path, WORKERS);
    unsigned workers = pm_path_workers(path, WORKERS);
    char results[WORKERS][EACH];
    size_t n;
    memset(results, 1, sizeof results);
    EXPECT(pmap_broadcast(pool, short_or_long, NULL, 0, results, EACH, NULL), workers == WORKERS ? PMAP_EITEMS : 0);
    for (unsigned i = 0; i < workers && i < 3; i++)
        for (size_t k = 0; k < EACH; k++)
            if (results[i][k] != (k < i * 300 ? 'a' + (int)i : 0)) fail_msg("worker %u, byte %zu: %d", i, k, results[i][k]);
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, workers == WORKERS);
    if (n) assert_true(f[0].item == 3 && f[0].cause == PMAP_CAUSE_SIZE && f[0].value == 900);
    EXPECT(pmap_broadcast(pool, compute, NULL, 0, NULL, 0, NULL), 0); /* whose answer nobody wants */
    pm_path_close(pool);
}

static int third_fails(pmap_task *task, const void *in, size_t bytes)
{
    if (pmap_task_worker(task) % 3 == 0) {
        pmap_task_error(task, "worker %u is tired", pmap_task_worker(task));
        return 40 + (int)pmap_task_worker(task);
    }
    return compute(task, in, bytes);
}

static void failures(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, WORKERS);
    unsigned workers = pm_path_workers(path, WORKERS);
    uint64_t in = 17, out[WORKERS] = {0};
    size_t n;
    EXPECT(pmap_broadcast(pool, third_fails, &in, sizeof in, out, sizeof out[0], NULL), PMAP_EITEMS);
    EXPECT_TEXT("is tired");
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, workers == WORKERS ? 2 : 1);
    for (size_t k = 0; k < n; k++) {
        char words[40];
        (void)snprintf(words, sizeof words, "worker %zu is tired", 3 * k);
        assert_true(f[k].item == 3 * k && f[k].count == 1 && f[k].cause == PMAP_CAUSE_CODE && f[k].value == 40 + 3 * (int)k);
        assert_int_equal(f[k].attempts, 1);
        if (!strstr(f[k].text, words)) fail_msg("\"%s\" without \"%s\"", f[k].text, words);
    }
    for (unsigned i = 0; i < workers; i++)
        if (i % 3) assert_int_equal(out[i], right(17));
    EXPECT(pmap_broadcast(pool, compute, &in, sizeof in, out, sizeof out[0], NULL), 0);
    assert_null(pmap_failures(pool, &n));
    pm_path_close(pool);
}

/* ---- Deaths ---- */

static void deaths(const struct pm_path *path)
{
    for (int hang = 0; hang < 2; hang++) {
        pmap_pool *pool = open_pool(path, WORKERS);
        struct tally *t = tally_new(pool);
        struct told told[WORKERS];
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        size_t n;
        t->hang = hang;
        o.timeout_s = hang ? 0.04 : 0;
        atomic_store(&t->deaths[0], 1);
        atomic_store(&t->deaths[2], 2);
        EXPECT(cast(pool, t, 5, told, &o), 0); /* done again by those that have taken their places */
        for (unsigned i = 0; i < WORKERS; i++) assert_true(told[i].worker == i && told[i].in == 5);
        assert_int_equal(atomic_load(&t->runs[0]), 2);
        assert_int_equal(atomic_load(&t->runs[1]), 1);
        assert_int_equal(atomic_load(&t->runs[2]), 3);
        atomic_store(&t->deaths[1], 3); /* too often */
        o.once = 1;
        atomic_store(&t->deaths[3], 1);
        EXPECT(cast(pool, t, 6, told, &o), PMAP_EITEMS);
        const pmap_failure *f = pmap_failures(pool, &n);
        assert_int_equal(n, 2);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(f[k].item, 1 + 2 * k);
            assert_int_equal(f[k].attempts, 1);
            assert_int_equal(f[k].cause, hang ? PMAP_CAUSE_TIMEOUT : PMAP_CAUSE_SIGNAL);
            assert_int_equal(f[k].value, hang ? 0 : SIGSEGV);
        }
        assert_true(told[0].in == 6 && told[2].in == 6);
        for (unsigned i = 0; i < WORKERS; i++) atomic_store(&t->deaths[i], 0);
        EXPECT(cast(pool, t, 7, told, NULL), 0);
        pmap_free(pool, t);
        check_orderly(pool, path, "after a broadcast");
        check_close(pool, path, "after a broadcast");
    }
}

/* ---- Threads of the application ---- */

struct caster {
    pmap_pool *pool;
    struct tally *tally;
    unsigned workers, first;
    int said;
};

static void *cast_often(void *arg)
{
    struct caster *c = arg;
    struct told told[WORKERS];
    for (uint64_t k = 0; k < 50 && !c->said; k++) {
        c->said = cast(c->pool, c->tally, c->first + k, told, NULL);
        for (unsigned i = 0; !c->said && i < c->workers; i++)
            if (told[i].worker != i || told[i].in != c->first + k) c->said = 1;
    }
    return NULL;
}

static void several_threads(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, WORKERS);
    struct caster c[3];
    pthread_t thread[3];
    struct tally *t = tally_new(pool);
    for (unsigned k = 0; k < 3; k++) {
        c[k] = (struct caster){pool, t, pm_path_workers(path, WORKERS), 1000 * k, 0};
        assert_int_equal(pthread_create(&thread[k], NULL, cast_often, &c[k]), 0);
    }
    stream_orderly(pool, true, 500, NULL);
    for (unsigned k = 0; k < 3; k++) {
        assert_int_equal(pthread_join(thread[k], NULL), 0);
        assert_int_equal(c[k].said, 0);
    }
    for (unsigned i = 0; i < c[0].workers; i++) assert_int_equal(atomic_load(&t->runs[i]), 150);
    pmap_free(pool, t);
    pm_path_close(pool);
}

struct killer {
    pmap_pool *pool;
    struct tally *tally;
    bool supervisor;
    const char *wrong;
};

static bool all_begun(void *arg) { return atomic_load(&((struct tally *)arg)->begun) >= WORKERS; }

static void *kill_while_it_runs(void *arg)
{
    struct killer *k = arg;
    int pids[WORKERS];
    if (!pm_test_wait_until(all_begun, k->tally, 10000)) k->wrong = "not all have begun";
    if (pmap_pool_pids(k->pool, pids, WORKERS) != WORKERS || pids[1] <= 0) k->wrong = "no pids";
    if (!k->wrong) (void)kill(k->supervisor ? parent_of(pids[1]) : pids[1], SIGKILL);
    k->tally->held = false;
    atomic_store(&k->tally->go, 1);
    return NULL;
}

static void killed_while_it_runs(const struct pm_path *path)
{
    for (int supervisor = 0; supervisor < 2; supervisor++) {
        pmap_pool *pool = open_pool(path, WORKERS);
        struct killer k = {.pool = pool, .tally = tally_new(pool), .supervisor = supervisor};
        struct told told[WORKERS];
        pthread_t thread;
        k.tally->held = true;
        assert_int_equal(pthread_create(&thread, NULL, kill_while_it_runs, &k), 0);
        EXPECT(cast(pool, k.tally, 9, told, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (k.wrong) fail_msg("%s", k.wrong);
        for (unsigned i = 0; i < WORKERS; i++) assert_true(told[i].worker == i && told[i].in == 9);
        pmap_free(pool, k.tally);
        check_close(pool, path, "after a kill in a broadcast");
        assert_int_equal(pm_test_reap(5000), 0);
    }
}

static void *cast_one(void *arg)
{
    struct caster *c = arg;
    struct told told[WORKERS];
    c->said = cast(c->pool, c->tally, 1, told, NULL);
    return NULL;
}

static void terminate_while_it_runs(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, WORKERS);
    struct caster c = {pool, tally_new(pool), WORKERS, 0, 0};
    pthread_t thread;
    c.tally->held = true;
    assert_int_equal(pthread_create(&thread, NULL, cast_one, &c), 0);
    assert_true(pm_test_wait_until(all_begun, c.tally, 10000));
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(c.said == PMAP_ECANCELLED || c.said == 0); /* they are told, and may end well before they are killed */
}

/* ---- Refused ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t x = 1, out[2];
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    EXPECT(pmap_broadcast(NULL, compute, &x, 8, out, 8, NULL), PMAP_EINVAL);
    EXPECT(pmap_broadcast(pool, NULL, &x, 8, out, 8, NULL), PMAP_EINVAL);
    EXPECT(pmap_broadcast(pool, compute, NULL, 8, out, 8, NULL), PMAP_EINVAL);
    EXPECT(pmap_broadcast(pool, compute, &x, 8, NULL, 8, NULL), PMAP_EINVAL);
    o.retries = 31;
    EXPECT(pmap_broadcast(pool, compute, &x, 8, out, 8, &o), PMAP_EINVAL);
    pm_path_close(pool);
}

static void not_over_zeromq(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t x = 1, out[2];
    EXPECT(pmap_broadcast(pool, compute, &x, 8, out, 8, NULL), PMAP_ENOTSUP);
    pm_path_close(pool);
}

static const struct pm_path_test tests[] = {
    {"once on each", once_on_each, ON_STREAMS},
    {"among other work", among_other_work, ON_STREAMS},
    {"result sizes", result_sizes, ON_STREAMS},
    {"failures", failures, ON_STREAMS},
    {"deaths", deaths, PM_ON_SHM},
    {"several threads", several_threads, ON_STREAMS},
    {"killed while it runs", killed_while_it_runs, PM_ON_SHM},
    {"terminate while it runs", terminate_while_it_runs, ON_HELD},
    {"refused", refused, ON_STREAMS},
    {"not over ZeroMQ", not_over_zeromq, PM_ON_ZMQ},
};

int main(void)
{
    no_core();
    return PM_PATHS_MAIN("broadcast", tests);
}

/* Workers and supervisors that die while a stream is read: exactly the guilty item fails, named with its cause, all others are right and
 * come in their order, and the pool goes on. */
#include "tests/stream.h"
#include "tests/ways.h"

/* As in deaths.h, with the function of a stream; the large answer of each item goes through the pool's memory. */
static int dangerous(pmap_task *task, const void *in, size_t bytes)
{
    size_t i = pmap_task_index(task);
    uint64_t *room = pmap_task_result(task, 4096);
    if (!room) return 98;
    room[0] = room[511] = one_item(task, i, number_in(in, bytes));
    return 0;
}

static struct plan *plan_new(pmap_pool *pool, size_t n)
{
    struct plan *p = pmap_alloc(pool, sizeof *p + n * sizeof p->runs[0]);
    assert_non_null(p);
    memset(p, 0, sizeof *p + n * sizeof p->runs[0]);
    p->count = n;
    return p;
}

static pmap_stream_options options_for(struct plan *p, double timeout_s)
{
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    o.arg = p;
    o.result_max = 4096;
    o.timeout_s = timeout_s;
    o.window = 64;
    return o;
}

/* The next result is right: 1; or it is a failure: its error. */
static int read_any(struct reader *r)
{
    const uint64_t *result;
    size_t bytes;
    int e = pmap_stream_next(r->stream, 30, (const void **)&result, &bytes);
    if (e != 1 && e != PMAP_EITEMS) fail_msg("%d after %zu results: %s", e, r->handed, pmap_error());
    size_t i = came(r);
    if (e != 1) return e;
    uint64_t expected = right(input_of(i));
    if (bytes != 4096 || result[0] != expected || result[511] != expected) fail_msg("item %zu is wrong", i);
    return e;
}

/* ---- A poison item in three ---- */

static void die_so(const struct pm_path *path, pmap_pool *pool, const struct way *way, bool ordered, int retries, int once)
{
    enum { N = 120 };
    struct plan *p = plan_new(pool, N);
    struct numbers source = numbers(N);
    pmap_stream_options o = options_for(p, way->timeout_s);
    unsigned attempts = once ? 1 : (unsigned)retries + 1;
    o.retries = retries;
    o.once = once;
    p->die = way->die;
    p->from = 17;
    p->step = 90;
    p->upto = N;
    struct reader r = reader(stream_open(pool, ordered, dangerous, pull_number, &source, &o), ordered, N);
    while (r.handed < N) {
        int e = read_any(&r);
        size_t i = pmap_stream_index(r.stream);
        const pmap_failure *f = pmap_stream_failure(r.stream);
        char name[32];
        (void)snprintf(name, sizeof name, "item %zu:", i);
        if (!poisoned(p, i)) {
            if (e != 1) fail_msg("%s %s: innocent item %zu failed: %s", path->name, way->name, i, pmap_error());
            continue;
        }
        if (e == 1 || !f) fail_msg("%s %s: poison item %zu did not fail", path->name, way->name, i);
        if (f->item != i || f->count != 1 || f->cause != way->cause || f->value != way->value || f->attempts != attempts || !strstr(f->text, name))
            fail_msg("%s %s: cause %d value %d attempts %u, expected %d %d %u: %s", path->name, way->name, (int)f->cause, f->value, f->attempts,
                     (int)way->cause, way->value, attempts, f->text);
    }
    read_end(&r);
    for (size_t i = 0; i < N; i++) {
        unsigned runs = atomic_load(&p->runs[i]);
        if (runs != (poisoned(p, i) ? attempts : 1)) fail_msg("%s %s: item %zu ran %u times", path->name, way->name, i, runs);
    }
    reader_close(&r);
    pmap_free(pool, p);
}

static void every_way(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 3);
    for (size_t w = 0; w < WAYS; w++) {
        die_so(path, pool, &ways[w], true, (int)(w % 3), 0);
        die_so(path, pool, &ways[w], false, (int)((w + 1) % 3), 0);
        die_so(path, pool, &ways[w], w & 1, 2, 1);
    }
    stream_orderly(pool, true, 1000, NULL);
    check_close(pool, path, "after every way of dying");
}

/* The first death ends the stream, where that is wanted. */
static void stop_at_a_death(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 2);
    for (int ordered = 0; ordered < 2; ordered++) {
        struct plan *p = plan_new(pool, 1000);
        struct numbers source = numbers(NEVER);
        pmap_stream_options o = options_for(p, 0);
        o.on_error = PMAP_ON_ERROR_STOP;
        o.retries = 0;
        p->die = by_segv;
        p->from = 40;
        p->step = 1000;
        p->upto = 1000;
        p->spin = 5000000; /* milliseconds an item: unordered, the others go on until the death is known */
        struct reader r = reader(stream_open(pool, ordered, dangerous, pull_number, &source, &o), ordered, 900);
        while (read_any(&r) == 1) continue;
        assert_int_equal(pmap_stream_index(r.stream), 40);
        read_end(&r);
        reader_close(&r);
        stream_orderly(pool, ordered, 500, NULL); /* `p` stays: what ran when the stream ended may still do so */
    }
    check_close(pool, path, "after a stop");
}

/* ---- Kills from outside ---- */

static void kill_some(pmap_pool *pool, bool supervisor)
{
    int pids[2] = {0, 0};
    unsigned n = pmap_pool_pids(pool, pids, 2);
    if (supervisor) (void)kill(supervisor_of(pool), SIGKILL);
    else for (unsigned i = 0; i < n; i++)
        if (pids[i] > 0) (void)kill(pids[i], SIGKILL);
}

/* Every so many results all workers are killed, or their supervisor, with whom they go. */
static void kills(const struct pm_path *path, bool supervisor, size_t every)
{
    enum { N = 3000 };
    pmap_pool *pool = open_pool(path, 2);
    for (int ordered = 0; ordered < 2; ordered++) {
        struct plan *p = plan_new(pool, N);
        struct numbers source = numbers(N);
        pmap_stream_options o = options_for(p, 0);
        o.retries = 30;
        p->spin = 5000;
        struct reader r = reader(stream_open(pool, ordered, dangerous, pull_number, &source, &o), ordered, N);
        while (r.handed < N) {
            if (r.handed % every == every / 2) kill_some(pool, supervisor);
            if (read_any(&r) != 1) fail_msg("%s: %s", path->name, pmap_error());
        }
        read_end(&r);
        reader_close(&r);
        pmap_free(pool, p);
    }
    stream_orderly(pool, true, 500, NULL);
    check_orderly(pool, path, "after kills in a stream");
    check_close(pool, path, "after kills in a stream");
    assert_int_equal(pm_test_reap(5000), 0); /* this program adopts the workers of a supervisor that was killed */
}

static void workers_killed(const struct pm_path *path) { kills(path, false, 100); }
static void supervisor_killed(const struct pm_path *path) { kills(path, true, 500); }

/* More deaths than `retries` allows: the item is listed as killed, and no other. */
static void killed_too_often(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 1);
    struct hold *h = hold_new(pool, 5, 6);
    struct numbers source = numbers(20);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    o.arg = h;
    struct reader r = reader(stream_open(pool, true, held, pull_number, &source, &o), true, 20);
    while (r.handed < 5) (void)read_right(&r);
    for (int k = 0; k < 3; k++) {
        int e;
        for (double end = seconds() + 10; !atomic_exchange(&h->begun, 0);) {
            e = pmap_stream_next(r.stream, 0.001, NULL, NULL);
            if (e != PMAP_ETIMEDOUT || seconds() > end) fail_msg("%d: %s", e, pmap_error());
        }
        kill_some(pool, false);
    }
    EXPECT(pmap_stream_next(r.stream, 30, NULL, NULL), PMAP_EITEMS);
    assert_int_equal(came(&r), 5);
    const pmap_failure *f = pmap_stream_failure(r.stream);
    assert_non_null(f);
    assert_int_equal(f->cause, PMAP_CAUSE_SIGNAL);
    assert_int_equal(f->value, SIGKILL);
    assert_int_equal(f->attempts, 3);
    while (r.handed < 20) (void)read_right(&r);
    read_end(&r);
    reader_close(&r);
    check_close(pool, path, "killed too often");
}

/* ---- While one waits, and while one closes ---- */

struct killer {
    pmap_pool *pool;
    struct hold *hold;
    uint64_t seen;           /* how often the item has been begun */
    const char *wrong;
};

static bool begun_again(void *arg)
{
    struct killer *k = arg;
    return atomic_load(&k->hold->begun) > k->seen;
}

/* Kills whoever has begun the item, three times, then the supervisor, then lets it end. */
static void *kill_the_busy(void *arg)
{
    struct killer *k = arg;
    for (; k->seen < 4 && !k->wrong; k->seen++) {
        if (!pm_test_wait_until(begun_again, k, 10000)) k->wrong = "the item was not begun again";
        int pids[1];
        if (k->wrong || pmap_pool_pids(k->pool, pids, 1) != 1 || pids[0] <= 0) break;
        pid_t supervisor = parent_of(pids[0]);
        if (k->seen == 3 && supervisor > 1) (void)kill(supervisor, SIGKILL);
        else (void)kill(pids[0], SIGKILL);
    }
    if (!k->wrong && !pm_test_wait_until(begun_again, k, 10000)) k->wrong = "the item was not begun the last time";
    atomic_store(&k->hold->go, 1);
    return NULL;
}

static void killed_while_one_waits(const struct pm_path *path)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        pmap_pool *pool = open_pool(path, 1);
        struct killer k = {.pool = pool, .hold = hold_new(pool, 3, 4)};
        struct numbers source = numbers(20);
        pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
        pthread_t thread;
        o.arg = k.hold;
        o.retries = 30;
        struct reader r = reader(stream_open(pool, ordered, held, pull_number, &source, &o), ordered, 20);
        assert_int_equal(pthread_create(&thread, NULL, kill_the_busy, &k), 0);
        while (r.handed < 20) (void)read_right(&r);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (k.wrong) fail_msg("%s: %s", path->name, k.wrong);
        read_end(&r);
        reader_close(&r);
        check_close(pool, path, "killed while one waits");
        assert_int_equal(pm_test_reap(5000), 0);
    }
}

/* Closed while its items die and are run again: they leave nothing. */
static void close_while_they_die(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 2);
    for (size_t k = 0; k < 40; k++) {
        struct plan *p = plan_new(pool, 100);
        struct numbers source = numbers(100);
        pmap_stream_options o = options_for(p, k % 2 ? 0.02 : 0);
        p->die = k % 2 ? by_loop : by_segv;
        p->from = k % 9;
        p->step = 7;
        p->upto = 100;
        struct reader r = reader(stream_open(pool, k % 4 < 2, dangerous, pull_number, &source, &o), k % 4 < 2, 100);
        for (size_t i = 0; i < k % 5; i++) (void)read_any(&r);
        reader_close(&r);
    } /* every `p` stays: what ran when its stream was closed may still do so */
    check_orderly(pool, path, "after closes");
    check_close(pool, path, "after closes");
}

static const struct pm_path_test tests[] = {
    {"every way of dying", every_way, PM_ON_SHM},
    {"stop at a death", stop_at_a_death, PM_ON_SHM},
    {"workers killed", workers_killed, PM_ON_SHM},
    {"supervisor killed", supervisor_killed, PM_ON_SHM},
    {"killed too often", killed_too_often, PM_ON_SHM},
    {"killed while one waits", killed_while_one_waits, PM_ON_SHM},
    {"close while they die", close_while_they_die, PM_ON_SHM},
};

int main(void)
{
    no_core();
    return PM_PATHS_MAIN("imap_deaths", tests);
}

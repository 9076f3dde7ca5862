/* Workers killed from outside, at any time: in a job at random moments, all at once, idle, just started, stopped, by one another, and while
 * the pool closes.  The results stay right, nothing is lost, and an innocent item fails only when it met more deaths than `retries`. */
#include "tests/deaths.h"

#include <pthread.h>
#include <sched.h>

static uint64_t seed = 88172645463325252u;

static uint64_t dice(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A call in a thread of its own, so that the test can interfere. */
struct runner {
    struct trial *t;
    enum call call;
    pmap_map_options o;
    struct pmap_stats stats;
    int error;
    atomic_bool done;
    size_t listed;
    pthread_t thread;
};

static void *run_thread(void *arg)
{
    struct runner *r = arg;
    r->error = call(r->t, r->call, &r->o);
    (void)pmap_failures(r->t->pool, &r->listed); /* belongs to this thread */
    atomic_store(&r->done, true);
    return NULL;
}

static void start(struct runner *r, struct trial *t, enum call c, pmap_map_options o)
{
    *r = (struct runner){.t = t, .call = c, .o = o, .stats.size = sizeof r->stats};
    r->o.stats = &r->stats;
    assert_int_equal(pthread_create(&r->thread, NULL, run_thread, r), 0);
}

static bool is_done(void *arg) { return atomic_load(&((struct runner *)arg)->done); }

static void join(struct runner *r, const char *what)
{
    if (!pm_test_wait_until(is_done, r, 30000)) fail_msg("%s %s %s: no end within 30 s", r->t->path->name, call_names[r->call], what);
    pthread_join(r->thread, NULL);
    if (r->error || r->listed) fail_msg("%s %s %s: returned %d, %zu listed", r->t->path->name, call_names[r->call], what, r->error, r->listed);
    for (size_t i = 0; i < r->t->count; i++) {
        unsigned runs = atomic_load(&r->t->plan->runs[i]);
        if (result_of(r->t, r->call, i) != right(input_of(i))) fail_msg("%s %s: item %zu is wrong", r->t->path->name, what, i);
        if (runs < 1 || runs > (unsigned)r->o.retries + 1) fail_msg("%s %s: item %zu ran %u times", r->t->path->name, what, i, runs);
    }
}

static void pause_us(long us)
{
    struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL); /* the moment of a kill: any will do */
}

static unsigned kill_workers(pmap_pool *pool, int signal, bool all)
{
    int pids[64];
    unsigned n = pmap_pool_pids(pool, pids, 64), killed = 0, one = (unsigned)(dice() % n);
    for (unsigned i = 0; i < n; i++)
        if (pids[i] > 0 && (all || i == one) && kill(pids[i], signal) == 0) killed++;
    return killed;
}

/* One at a time, at random moments; short items, so that many kills fall between a claim and its commit. */
static void at_random_moments(const struct pm_path *path)
{
    struct trial t = begin(path, 3, 8000);
    unsigned all = 0;
    t.plan->spin = 20000;
    for (int c = 0; c < CALLS; c++)
        for (int round = 0; round < 4; round++) {
            static const size_t chunks[] = {0, 1, 7, 1000};
            struct runner run;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.retries = 30;
            o.chunk = chunks[round];
            clear(&t);
            start(&run, &t, (enum call)c, o);
            unsigned kills = 0;
            while (!is_done(&run) && kills < 30) {
                pause_us((long)(dice() % 3000));
                kills += kill_workers(t.pool, SIGKILL, false);
            }
            join(&run, "random kills");
            all += kills;
        }
    /* One job may be over before this thread gets a CPU; not most of them. */
    if (all < 5 * CALLS * 4 / 2) fail_msg("only %u kills: the jobs are too short for this test", all);
    finish(&t, "random kills");
}

static void all_at_once(const struct pm_path *path)
{
    struct trial t = begin(path, 4, 5000);
    t.plan->spin = 50000;
    unsigned rounds = 0;
    for (int c = 0; rounds < 40; c = (c + 1) % CALLS) {
        struct runner run;
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.retries = 30;
        clear(&t);
        double begin_s = seconds();
        start(&run, &t, (enum call)c, o);
        for (unsigned k = 0; k < 20 && !is_done(&run); k++) {
            pause_us((long)(dice() % 10000));
            if (kill_workers(t.pool, SIGKILL, true)) rounds++;
        }
        join(&run, "all at once");
        if (seconds() - begin_s > 20) fail_msg("%s: took %.1f s", path->name, seconds() - begin_s);
    }
    finish(&t, "all at once");
}

/* ---- Idle and just started ---- */

struct replaced {
    pmap_pool *pool;
    int old[64], now[64];
    unsigned n;
};

static bool are_replaced(void *arg)
{
    struct replaced *x = arg;
    x->n = pmap_pool_pids(x->pool, x->now, 64);
    for (unsigned i = 0; i < x->n; i++)
        if (x->now[i] <= 0 || x->now[i] == x->old[i]) return false;
    return true;
}

static void while_idle(const struct pm_path *path)
{
    static const int with[] = {SIGKILL, SIGTERM, SIGSEGV, SIGINT, SIGHUP};
    pmap_pool *pool = open_pool(path, 2);
    for (unsigned round = 0; round < 10; round++) {
        struct replaced x = {.pool = pool};
        struct all_there a = all_workers(pool);
        memcpy(x.old, a.pids, sizeof x.old);
        kill_workers(pool, with[round % 5], true);
        if (!pm_test_wait_until(are_replaced, &x, 10000)) fail_msg("%s: idle workers killed by %d are not replaced", path->name, with[round % 5]);
        check_orderly(pool, path, "idle");
    }
    check_close(pool, path, "idle");
}

/* A new pid is killed as soon as it shows, before or just after it reaches its loop; now and then a job is under way. */
static void in_its_start(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 2000);
    t.plan->spin = 20000;
    for (unsigned round = 0; round < 6; round++) {
        struct runner run;
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.retries = 30;
        clear(&t);
        int seen[2], now[2];
        (void)pmap_pool_pids(t.pool, seen, 2);
        bool busy = round % 2;
        if (busy) start(&run, &t, MAP, o);
        double end_s = seconds() + 10;
        unsigned kills = 0;
        (void)kill_workers(t.pool, SIGKILL, true);
        while (kills < 10 && seconds() < end_s) { /* no pause: a start is short */
            (void)pmap_pool_pids(t.pool, now, 2);
            for (int i = 0; i < 2; i++)
                if (now[i] > 0 && now[i] != seen[i]) {
                    (void)kill(now[i], SIGKILL);
                    seen[i] = now[i];
                    kills++;
                }
            sched_yield();
        }
        if (kills < 10) fail_msg("%s: only %u starts within 10 s", path->name, kills);
        if (busy) join(&run, "start");
        check_orderly(t.pool, path, "start");
    }
    finish(&t, "start");
}

static void while_closing(const struct pm_path *path)
{
    for (unsigned round = 0; round < 20; round++) {
        pmap_pool *pool = open_pool(path, 3);
        struct all_there a = all_workers(pool);
        struct trial t = begin_on(path, pool, 100);
        assert_int_equal(call(&t, MAP, NULL), 0);
        give_back(&t);
        pid_t killer = fork();
        if (killer == 0) {
            pause_us((long)(round * 30));
            for (unsigned i = 0; i < a.n; i++) (void)kill(a.pids[i], SIGKILL);
            _exit(0);
        }
        check_close(pool, path, "killed while closing");
        (void)pm_test_reap(5000);
    }
}

/* ---- Stopped ---- */

/* A stopped idle worker holds nothing where work is taken: the others do it all.  Where work is sent (ZeroMQ) it may have been sent a piece,
 * which waits for it: without a deadline nobody takes it away, and the job goes on when it does.  In both cases it leaves at close only
 * by force, when a second is over. */
static void stopped_while_idle(const struct pm_path *path)
{
    for (unsigned which = 0; which < 2; which++) {
        struct trial t = begin(path, 2, 5000);
        struct all_there a = all_workers(t.pool);
        assert_int_equal(call(&t, MAP, NULL), 0); /* they are in their loops */
        clear(&t);
        assert_int_equal(kill(a.pids[which], SIGSTOP), 0);
        double begin_s = seconds();
        struct runner run;
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        start(&run, &t, MAP, o);
        if (path->bit == PM_ON_ZMQ) {
            (void)pm_test_wait_until(is_done, &run, 500);
            assert_int_equal(kill(a.pids[which], SIGCONT), 0);
        }
        join(&run, "a stopped worker");
        if (seconds() - begin_s > 15) fail_msg("%s: the job took %.1f s", path->name, seconds() - begin_s);
        give_back(&t);
        check_orderly(t.pool, path, "a stopped worker");
        (void)kill(a.pids[which], SIGSTOP);
        check_close(t.pool, path, "a stopped worker");
    }
}

/* ---- One another ---- */

static int kill_another(pmap_task *task, const void *item, void *result)
{
    struct plan *p = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    unsigned run = atomic_fetch_add(&p->runs[i], 1);
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15) + run * UINT64_C(0xbf58476d1ce4e5b9);
    unsigned victim = (unsigned)((x ^ (x >> 29)) % p->workers);
    /* The pids are shared memory, kept fresh by the test: the worker cannot ask the pool.  Alone, it kills itself, twice an item. */
    int pid = p->workers == 1 ? (run < 2 ? getpid() : 0) : ((_Atomic int *)p->pids)[victim];
    if (pid > 1 && (p->workers == 1 || pid != getpid())) (void)kill(pid, SIGKILL);
    for (int n = 0; n < 200000; n++) __asm__ __volatile__("" ::: "memory"); /* so that others are met at work */
    uint64_t in;
    memcpy(&in, item, sizeof in);
    in = right(in);
    memcpy(result, &in, sizeof in);
    return 0;
}

static void *run_killers(void *arg)
{
    struct runner *r = arg;
    struct trial *t = r->t;
    r->error = pmap_map(t->pool, kill_another, t->in, t->count, 8, t->out, 8, &r->o);
    (void)pmap_failures(t->pool, &r->listed);
    atomic_store(&r->done, true);
    return NULL;
}

static void one_another(const struct pm_path *path)
{
#if defined(__SANITIZE_ADDRESS__)
    static const unsigned sizes[] = {1, 2}; /* a fork there takes as long as a hundred elsewhere */
#else
    static const unsigned sizes[] = {1, 2, 5, 13};
#endif
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        struct trial t = begin(path, sizes[k], 200);
        t.plan->workers = sizes[k];
        struct runner run = {.t = &t, .stats.size = sizeof run.stats};
        pmap_map_options init = PMAP_MAP_OPTIONS_INIT;
        run.o = init;
        run.o.retries = 30;
        run.o.arg = t.plan;
        run.o.stats = &run.stats;
        int pids[64];
        unsigned n = pmap_pool_pids(t.pool, pids, 64);
        for (unsigned i = 0; i < n; i++) atomic_store((_Atomic int *)&t.plan->pids[i], pids[i]);
        assert_int_equal(pthread_create(&run.thread, NULL, run_killers, &run), 0);
        double end_s = seconds() + 30;
        while (!is_done(&run) && seconds() < end_s) {
            n = pmap_pool_pids(t.pool, pids, 64);
            for (unsigned i = 0; i < n; i++) atomic_store((_Atomic int *)&t.plan->pids[i], pids[i]);
            pause_us(100);
        }
        join(&run, "killing one another");
        /* More workers may be done before one kill has reached another. */
        if (sizes[k] == 1 && run.stats.deaths < 400) fail_msg("%s: %u deaths", path->name, (unsigned)run.stats.deaths);
        print_message("    %s, %u workers: %u deaths, %u retries\n", path->name, sizes[k], (unsigned)run.stats.deaths, (unsigned)run.stats.retries);
        finish(&t, "killing one another");
    }
}

/* ---- With large messages ---- */

#define MIB ((size_t)1 << 20)
enum { BLOCKS = 32 };

struct large {
    pmap_pool *pool;
    char *in, *out;
    int error;
    atomic_bool done;
};

static int flip_block(pmap_task *task, const void *item, void *result)
{
    (void)task;
    const uint64_t *from = item;
    uint64_t *to = result;
    for (size_t i = 0; i < MIB / 8; i++) to[i] = ~from[i];
    return 0;
}

static void *map_large(void *arg)
{
    struct large *l = arg;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.retries = 30;
    o.chunk = 1;
    l->error = pmap_map(l->pool, flip_block, l->in, BLOCKS, MIB, l->out, MIB, &o);
    atomic_store(&l->done, true);
    return NULL;
}

static bool is_mapped(void *arg) { return atomic_load(&((struct large *)arg)->done); }

/* A message of 1 MiB takes longer than a kill takes to come: many end in the middle of one, in either direction. */
static void a_large_message_in_flight(const struct pm_path *path)
{
    struct large l = {.pool = open_pool(path, 2)};
    unsigned kills = 0, rounds = 0;
    l.in = pm_path_alloc(path, l.pool, BLOCKS * MIB);
    l.out = pm_path_alloc(path, l.pool, BLOCKS * MIB);
    for (; rounds < 10 && kills < 20; rounds++) {
        pthread_t thread;
        for (size_t i = 0; i < BLOCKS; i++) memset(l.in + i * MIB, (int)(i + rounds), MIB);
        memset(l.out, 0, BLOCKS * MIB);
        atomic_store(&l.done, false);
        assert_int_equal(pthread_create(&thread, NULL, map_large, &l), 0);
        for (int k = 0; k < 10 && !is_mapped(&l); k++) {
            pause_us((long)(dice() % 2000));
            kills += kill_workers(l.pool, SIGKILL, false);
        }
        if (!pm_test_wait_until(is_mapped, &l, 30000)) fail_msg("%s: no end within 30 s", path->name);
        pthread_join(thread, NULL);
        EXPECT(l.error, 0);
        for (size_t i = 0; i < BLOCKS; i++) {
            char expected = (char)~(i + rounds), *block = l.out + i * MIB; /* all its bytes are the same, and so is one of them */
            if (*block != expected || memcmp(block, block + 1, MIB - 1)) fail_msg("%s: item %zu is wrong after %u kills", path->name, i, kills);
        }
    }
    if (kills == 0) fail_msg("%s: no kill in %u rounds", path->name, rounds);
    pm_path_free(path, l.pool, l.in);
    pm_path_free(path, l.pool, l.out);
    check_orderly(l.pool, path, "large messages");
    check_close(l.pool, path, "large messages");
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"at random moments", at_random_moments, PM_ON_PROCESSES},
        {"all at once", all_at_once, PM_ON_PROCESSES},
        {"while idle", while_idle, PM_ON_PROCESSES},
        {"in its start", in_its_start, PM_ON_PROCESSES},
        {"while closing", while_closing, PM_ON_PROCESSES},
        {"stopped while idle", stopped_while_idle, PM_ON_PROCESSES},
        {"one another", one_another, PM_ON_PROCESSES},
        {"a large message in flight", a_large_message_in_flight, PM_ON_PROCESSES},
    };
    return PM_PATHS_MAIN("kill", tests);
}

/* The supervisor dies or is stopped: while idle, in the middle of jobs, together with its workers, while the pool closes.  Jobs go on,
 * results are right, and the pool still closes. */
#include "tests/deaths.h"

#include <pthread.h>

struct runner {
    struct trial *t;
    enum call call;
    pmap_map_options o;
    int error;
    atomic_bool done;
    pthread_t thread;
};

static void *run_thread(void *arg)
{
    struct runner *r = arg;
    r->error = call(r->t, r->call, &r->o);
    atomic_store(&r->done, true);
    return NULL;
}

static bool is_done(void *arg) { return atomic_load(&((struct runner *)arg)->done); }

static void start(struct runner *r, struct trial *t, enum call c, int retries)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    *r = (struct runner){.t = t, .call = c, .o = o};
    r->o.retries = retries;
    assert_int_equal(pthread_create(&r->thread, NULL, run_thread, r), 0);
}

struct runs {
    struct runner *run;
    size_t item;
    uint32_t times;
};

static bool has_run(void *arg)
{
    struct runs *r = arg;
    return atomic_load(&r->run->t->plan->runs[r->item]) >= r->times || is_done(r->run);
}

static void await_runs(struct runner *run, size_t item, uint32_t times)
{
    struct runs r = {run, item, times};
    if (!pm_test_wait_until(has_run, &r, 30000)) fail_msg("%s: item %zu was not run %u times", run->t->path->name, item, times);
}

static void join(struct runner *r, const char *what)
{
    struct expected x = {.most_runs = (unsigned)r->o.retries + 1};
    if (!pm_test_wait_until(is_done, r, 30000)) fail_msg("%s %s %s: no end within 30 s", r->t->path->name, call_names[r->call], what);
    pthread_join(r->thread, NULL);
    check_exact(r->t, r->call, r->error, &x, what);
}

/* What it leaves has come to this program, as it would come to init. */
static bool has_ended(void *arg) { return parent_of(*(pid_t *)arg) == 0; }

static void kill_supervisor(pmap_pool *pool, bool workers_too)
{
    struct all_there a = all_workers(pool);
    pid_t pid = supervisor_of(pool);
    assert_int_equal(kill(pid, SIGKILL), 0);
    for (unsigned i = 0; i < a.n && workers_too; i++) (void)kill(a.pids[i], SIGKILL);
    if (!pm_test_wait_until(has_ended, &pid, 5000)) fail_msg("supervisor %d does not end", (int)pid);
}

static void idle(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 2);
    for (int round = 0; round < 8; round++) {
        kill_supervisor(pool, round % 2);
        check_orderly(pool, path, "supervisor killed while idle");
    }
    kill_supervisor(pool, false);
    check_close(pool, path, "supervisor killed before close");
    assert_int_equal(pm_test_reap(5000), 0);
}

static void in_a_job(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 12000);
    t.plan->spin = 30000;
    for (int c = 0; c < CALLS; c++)
        for (int round = 0; round < 2; round++) {
            struct runner run;
            clear(&t);
            start(&run, &t, (enum call)c, 30);
            unsigned kills = 0;
            await_runs(&run, 0, 1);
            for (; kills < 3 && !is_done(&run); kills++) kill_supervisor(t.pool, round);
            join(&run, "supervisor killed in a job");
            if (kills == 0) fail_msg("%s: the job was over before the supervisor was killed", path->name);
        }
    finish(&t, "supervisor killed in a job");
    assert_int_equal(pm_test_reap(5000), 0);
}

/* A deadline that is running when the supervisor dies is the next one's to keep. */
static void forever(void)
{
    for (;;) __asm__ __volatile__("" ::: "memory");
}

static void keeps_deadlines(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 20);
    t.plan->die = forever;
    t.plan->from = 7, t.plan->step = 1, t.plan->upto = 8;
    struct runner run;
    start(&run, &t, MAP, 3);
    await_runs(&run, 7, 1);
    kill_supervisor(t.pool, false);
    /* no deadline in this call: the item is ended by hand */
    await_runs(&run, 7, 2);
    t.plan->step = 0;
    struct all_there a = all_workers(t.pool);
    for (unsigned i = 0; i < a.n; i++) (void)kill(a.pids[i], SIGKILL);
    join(&run, "an endless item outlives the supervisor");
    clear(&t);
    t.plan->step = 1;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.timeout_s = 0.1;
    o.retries = 1;
    kill_supervisor(t.pool, false);
    int e = call(&t, MAP, &o);
    struct expected x = {.cause = PMAP_CAUSE_TIMEOUT, .attempts = 2, .most_runs = 2, .most_poison_runs = 2};
    check_exact(&t, MAP, e, &x, "a deadline with the new supervisor");
    finish(&t, "deadlines");
    assert_int_equal(pm_test_reap(5000), 0);
}

/* Nobody is there to replace workers, but nobody needs to: jobs without deaths go on.  Continued, it closes as ever. */
static void stopped_and_continued(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 2000);
    pid_t pid = supervisor_of(t.pool);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    for (int c = 0; c < CALLS; c++) {
        struct runner run;
        clear(&t);
        start(&run, &t, (enum call)c, 2);
        join(&run, "supervisor stopped");
    }
    assert_int_equal(kill(pid, SIGCONT), 0);
    finish(&t, "supervisor stopped");
}

/* A stopped supervisor cannot close the pool: it is killed when its time is over, and the call says so. */
static void stopped_for_good(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 2000);
    int e = call(&t, MAP, NULL);
    check_exact(&t, MAP, e, &(struct expected){.most_runs = 1}, "before");
    give_back(&t);
    assert_int_equal(kill(supervisor_of(t.pool), SIGSTOP), 0);
    double begin_s = seconds();
    EXPECT(pmap_pool_close(t.pool), PMAP_ESYSTEM);
    double took = seconds() - begin_s;
    if (took > 10) fail_msg("%s: close took %.1f s", path->name, took);
    assert_int_equal(pm_test_reap(5000), 0);
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"idle", idle, PM_ON_PROCESSES},
        {"in a job", in_a_job, PM_ON_PROCESSES},
        {"keeps deadlines", keeps_deadlines, PM_ON_PROCESSES},
        {"stopped and continued", stopped_and_continued, PM_ON_PROCESSES},
        {"stopped for good", stopped_for_good, PM_ON_PROCESSES},
    };
    return PM_PATHS_MAIN("supervisor", tests);
}

/* The application ends in every way there is, at any moment: nothing is left of its pools, no process, no name, no directory, soon.
 * More than 200 applications over all paths.  Each runs in a child under a guard that adopts what it leaves (tests/harness.h). */
#include "tests/deaths.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>

struct app {
    const struct pm_path *path;
    void (*end)(struct app *app);
    unsigned when; /* a number that varies from one application to the next */
    bool busy;
    struct trial t;
};

/* ---- In the application: cmocka's assertions are not for here ---- */

static void spend(double s)
{
    for (double end = seconds() + s; seconds() < end;) sched_yield();
}

static void *long_map(void *arg)
{
    struct app *a = arg;
    (void)call(&a->t, MAP, NULL);
    return NULL;
}

/* An item that ignores all it can, and has a child in a session of its own. */
static void stubborn(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGTERM, SIG_IGN);
    if (fork() == 0) {
        setsid();
        for (;;) pause();
    }
    for (;;) __asm__ __volatile__("" ::: "memory");
}

static int application(void *arg)
{
    struct app *a = arg;
    pmap_options o = pm_path_options(a->path, 2);
    o.memory = (size_t)64 << 20;
    size_t n = 100000;
    a->t = (struct trial){.path = a->path, .count = n};
    if (pmap_pool_open(&a->t.pool, &o)) return 90;
    a->t.plan = pmap_alloc(a->t.pool, sizeof *a->t.plan + (n + 2) * 12);
    a->t.in = pm_path_alloc(a->path, a->t.pool, n * 8);
    a->t.out = pm_path_alloc(a->path, a->t.pool, n * 8);
    if (!a->t.plan || !a->t.in || !a->t.out) return 91;
    memset(a->t.plan, 0, sizeof *a->t.plan + (n + 2) * 12);
    memset(a->t.in, 0, n * 8);
    a->t.plan->count = n;
    a->t.plan->spin = 1000000; /* a minute of work */
    a->t.plan->step = a->when % 4 == 3;
    a->t.plan->upto = 1;
    a->t.plan->die = stubborn;
    if (a->busy) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, long_map, a)) return 92;
        for (double end = seconds() + 10; !atomic_load(&a->t.plan->runs[0]) && seconds() < end;) sched_yield();
        spend(1e-4 * (a->when % 7));
    }
    a->end(a);
    return 93; /* returned from its main() */
}

static void by_kill(struct app *a)
{
    (void)a;
    (void)kill(getpid(), SIGKILL);
}

static void by_exit(struct app *a)
{
    (void)a;
    exit(3);
}

static void by_exit_now(struct app *a)
{
    (void)a;
    _exit(4);
}

static void by_abort(struct app *a)
{
    (void)a;
    abort();
}

static void by_term(struct app *a)
{
    (void)a;
    (void)raise(SIGTERM);
}

static void by_return(struct app *a) { (void)a; }

static void by_exec(struct app *a)
{
    (void)a;
    execl("/bin/true", "true", (char *)NULL);
    execl("/usr/bin/true", "true", (char *)NULL);
    _exit(94);
}

/* A forked child that outlives it must not keep the pool's processes alive. */
static void by_kill_with_a_child(struct app *a)
{
    int pids[2];
    (void)pmap_pool_pids(a->t.pool, pids, 2);
    pid_t supervisor = parent_of(pids[0]);
    if (fork() == 0) {
        for (double end = seconds() + 1.5; parent_of(supervisor) && seconds() < end;) sched_yield();
        _exit(0);
    }
    (void)kill(getpid(), SIGKILL);
}

/* ---- In the test ---- */

static const struct ending {
    const char *name;
    void (*end)(struct app *a);
    bool exits;
    int value; /* status or signal */
} endings[] = {
    {"SIGKILL", by_kill, false, SIGKILL}, {"exit", by_exit, true, 3},       {"_exit", by_exit_now, true, 4},
    {"abort", by_abort, false, SIGABRT},  {"SIGTERM", by_term, false, SIGTERM}, {"return", by_return, true, 93},
    {"exec", by_exec, true, 0},           {"SIGKILL with a child", by_kill_with_a_child, false, SIGKILL},
};
#define ENDINGS (sizeof endings / sizeof endings[0])

static void no_directory_left(const char *what)
{
    const char *base = getenv("TMPDIR");
    DIR *d = opendir(base ? base : "/tmp");
    if (!d) fail_msg("%s: $TMPDIR is gone", what);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "pmap", 4) == 0) {
            char name[256];
            (void)snprintf(name, sizeof name, "%.200s", e->d_name);
            closedir(d);
            fail_msg("%s: %s was left in $TMPDIR", what, name);
        }
    closedir(d);
}

static void run_application(struct app *a, const struct ending *e, const char *what)
{
    a->end = e->end;
    int status = pm_test_run_child(application, a, 20000);
    bool right_end = status >= 0 && (e->exits ? WIFEXITED(status) && WEXITSTATUS(status) == e->value
                                              : WIFSIGNALED(status) && WTERMSIG(status) == e->value);
    if (!right_end) fail_msg("%s %s, %s: the application ended with status %#x", a->path->name, e->name, what, (unsigned)status);
    no_directory_left(e->name);
}

static void in_a_job(const struct pm_path *path)
{
    unsigned rounds = path->bit == PM_ON_SHM ? 9 : 3;
    for (unsigned n = 0; n < rounds * ENDINGS; n++) {
        struct app a = {.path = path, .when = n / (unsigned)ENDINGS, .busy = true};
        run_application(&a, &endings[n % ENDINGS], "in a job");
    }
}

static void idle(const struct pm_path *path)
{
    for (unsigned n = 0; n < 2 * ENDINGS; n++) {
        struct app a = {.path = path};
        run_application(&a, &endings[n % ENDINGS], "idle");
    }
}

/* A timer ends it anywhere: while it opens a pool, maps, closes. */
static int open_map_close(void *arg)
{
    struct app *a = arg;
    struct itimerval t = {.it_value.tv_usec = 200 + 397 * (long)a->when};
    uint64_t in[64] = {0}, out[64];
    struct plan *p = calloc(1, sizeof *p + 64 * sizeof(uint32_t)); /* private: the workers count in their own copies */
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    pmap_options o = pm_path_options(a->path, 2);
    m.arg = p;
    o.memory = (size_t)64 << 20;
    if (!p || setitimer(ITIMER_REAL, &t, NULL)) return 90;
    for (;;) {
        pmap_pool *pool;
        if (pmap_pool_open(&pool, &o)) return 91;
        if (pmap_map(pool, item_fn, in, 64, 8, out, 8, &m)) return 92;
        if (pmap_pool_close(pool)) return 93;
    }
}

static void at_any_moment(const struct pm_path *path)
{
    for (unsigned n = 0; n < 30; n++) {
        struct app a = {.path = path, .when = n};
        int status = pm_test_run_child(open_map_close, &a, 20000);
        if (status < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM) fail_msg("%s: status %#x", path->name, (unsigned)status);
        no_directory_left("at any moment");
    }
}

/* ---- Ctrl-C ---- */

static void by_group(struct app *a)
{
    (void)a;
    (void)kill(0, SIGINT);
    for (;;) pause();
}

static int own_group(void *arg)
{
    if (setpgid(0, 0)) return 95;
    return application(arg);
}

static void interrupted(const struct pm_path *path)
{
    for (unsigned n = 0; n < 5; n++) {
        struct app a = {.path = path, .when = n, .busy = true, .end = by_group};
        int status = pm_test_run_child(own_group, &a, 20000);
        if (status < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGINT) fail_msg("%s: status %#x", path->name, (unsigned)status);
        no_directory_left("SIGINT");
    }
}

static atomic_int caught;
static void catch (int signal)
{
    (void)signal;
    atomic_fetch_add(&caught, 1);
}

static void *press_often(void *done)
{
    while (!atomic_load((atomic_bool *)done)) {
        (void)kill(0, SIGINT);
        struct timespec t = {.tv_nsec = 2000000};
        nanosleep(&t, NULL);
    }
    return NULL;
}

/* An application that handles SIGINT keeps its workers: the terminal's signal is for it alone. */
static int handles_it(void *arg)
{
    const struct pm_path *path = arg;
    struct sigaction act = {.sa_handler = catch};
    atomic_bool done = false;
    pthread_t thread;
    enum { N = 20000 };
    if (setpgid(0, 0) || sigaction(SIGINT, &act, NULL)) return 1;
    pmap_pool *pool;
    pmap_options o = pm_path_options(path, 2);
    if (pmap_pool_open(&pool, &o)) return 2;
    struct plan *p = pmap_alloc(pool, sizeof *p + N * sizeof(uint32_t));
    uint64_t *in = pm_path_alloc(path, pool, N * 8), *out = pm_path_alloc(path, pool, N * 8);
    memset(p, 0, sizeof *p + N * sizeof(uint32_t));
    p->spin = 20000;
    for (size_t i = 0; i < N; i++) in[i] = input_of(i);
    struct pmap_stats stats = {.size = sizeof stats};
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    m.arg = p;
    m.stats = &stats;
    if (pthread_create(&thread, NULL, press_often, &done)) return 3;
    int e = pmap_map(pool, item_fn, in, N, 8, out, 8, &m);
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    if (e) return 4;
    if (stats.deaths) return 5;
    for (size_t i = 0; i < N; i++)
        if (out[i] != right(in[i])) return 6;
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    if (pmap_pool_close(pool)) return 7;
    return atomic_load(&caught) > 5 ? 0 : 8;
}

static void interrupted_but_handled(const struct pm_path *path)
{
    struct pm_path copy = *path;
    int status = pm_test_run_child(handles_it, &copy, 20000);
    if (status < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("%s: status %#x", path->name, (unsigned)status);
}

/* ---- Threads ---- */

struct opener {
    const struct pm_path *path;
    pmap_pool *pool;
};

static void *open_and_exit(void *arg)
{
    struct opener *o = arg;
    o->pool = open_pool(o->path, 2);
    return NULL;
}

static void opener_exits(const struct pm_path *path)
{
    for (int round = 0; round < 5; round++) {
        struct opener o = {.path = path};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, open_and_exit, &o), 0);
        pthread_join(thread, NULL);
        struct all_there a = all_workers(o.pool), b;
        check_orderly(o.pool, path, "the opening thread has ended");
        b = all_workers(o.pool);
        assert_memory_equal(a.pids, b.pids, 2 * sizeof *a.pids); /* nobody died with it */
        check_close(o.pool, path, "the opening thread has ended");
    }
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"in a job", in_a_job, PM_ON_PROCESSES},
        {"idle", idle, PM_ON_PROCESSES},
        {"at any moment", at_any_moment, PM_ON_PROCESSES},
        {"interrupted", interrupted, PM_ON_PROCESSES},
        {"interrupted but handled", interrupted_but_handled, PM_ON_PROCESSES},
        {"opener exits", opener_exits, PM_ON_PROCESSES},
    };
    return PM_PATHS_MAIN("application", tests);
}

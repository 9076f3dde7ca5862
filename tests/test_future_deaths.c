/* Futures whose workers die: every way of dying inside a task, kills that the program asks for, time-outs, workers and supervisors killed while tasks
 * are outstanding, a broken pool, terminate, the program's own end, fork. */
#include "tests/futures.h"
#include "tests/ways.h"

#include <sys/wait.h>

/* ---- Every way of dying ---- */

struct death {
    uint32_t way, deaths, slot; /* dies the first `deaths` times; runs are counted in the gate */
};

static int dies_fn(pmap_task *task, const void *in, size_t bytes)
{
    const struct death *d = in;
    struct gate *g = pmap_task_arg(task);
    unsigned before = atomic_fetch_add(&g->runs[d->slot], 1);
    pmap_task_error(task, "said before it died");
    if (before < d->deaths) ways[d->way].die();
    unsigned *out = pmap_task_result(task, sizeof *out);
    if (!out || bytes != sizeof *d) return 1;
    *out = pmap_task_attempt(task);
    return 0;
}

static int silent_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)task, (void)in, (void)bytes;
    return 3;
}

static void check_death(pmap_future *f, const struct way *w, unsigned attempts, const _Atomic uint32_t *runs)
{
    EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), PMAP_EITEMS);
    unsigned ran = atomic_load(runs);
    const pmap_failure *failure = pmap_future_failure(f);
    char item[40];
    assert_non_null(failure);
    snprintf(item, sizeof item, "item %zu:", pmap_future_index(f));
    if (failure->cause != w->cause || failure->value != w->value || failure->attempts != attempts || ran != attempts || failure->item != pmap_future_index(f) ||
        !strstr(failure->text, item))
        fail_msg("%s: cause %d value %d attempts %u, ran %u times: %s; expected %d %d %u", w->name, (int)failure->cause, failure->value, failure->attempts, ran,
                 failure->text, (int)w->cause, w->value, attempts);
    char signal[20];
    snprintf(signal, sizeof signal, "SIG%s", w->cause == PMAP_CAUSE_SIGNAL ? sigabbrev_np(w->value) : "");
    if (w->cause == PMAP_CAUSE_SIGNAL && !strstr(failure->text, signal)) fail_msg("%s: no %s in: %s", w->name, signal, failure->text);
}

static void every_way_of_dying(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    for (uint32_t w = 0; w < WAYS; w++)
        for (int retries = 0; retries <= 2; retries++)
            for (int once = 0; once <= (retries == 2); once++) {
                struct death d = {w, 99, 0}, heals = {w, (uint32_t)retries, 1};
                pmap_submit_options o = with_arg(g);
                atomic_store(&g->runs[0], 0);
                atomic_store(&g->runs[1], 0);
                o.retries = retries;
                o.once = once;
                o.timeout_s = ways[w].timeout_s;
                pmap_future *before = give_square(pool, 5), *f = give(pool, dies_fn, &d, sizeof d, &o), *behind = give_square(pool, 6);
                check_death(f, &ways[w], once ? 1 : (unsigned)retries + 1, &g->runs[0]);
                expect_square(before, 5);
                expect_square(behind, 6);
                pmap_future_free(f);
                pmap_future_free(before);
                pmap_future_free(behind);
                if (once) continue;
                const void *result;
                f = give(pool, dies_fn, &heals, sizeof heals, &o); /* one death fewer than it is allowed */
                EXPECT(pmap_future_get(f, LONG_S, &result, NULL), 0);
                assert_int_equal(*(const unsigned *)result, retries);
                pmap_future_free(f);
            }
    for (int i = 0; i < 4; i++) { /* on both workers: what the dead have said is not theirs */
        pmap_future *f = give(pool, silent_fn, NULL, 0, NULL);
        EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), PMAP_EITEMS);
        assert_null(strstr(pmap_future_failure(f)->text, "said before"));
        pmap_future_free(f);
    }
    check_orderly(pool, path, "after deaths in tasks");
    check_close(pool, path, "after deaths in tasks");
}

static int retries_fn(pmap_task *task, const void *in, size_t bytes)
{
    (void)in, (void)bytes;
    return pmap_task_attempt(task) < 3 ? PMAP_RETRY : 0;
}

static int item_dies_once_fn(pmap_task *task, const void *item, void *result)
{
    struct gate *g = pmap_task_arg(task);
    (void)item, (void)result;
    if (pmap_task_index(task) == 0 && atomic_fetch_add(&g->ran, 1) == 0) (void)raise(SIGKILL);
    return 0;
}

/* Neither what a task was charged with nor what it said is the next map's. */
static void a_map_behind_a_task(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    o.retries = 3;
    m.retries = 1;
    m.arg = g;
    EXPECT(pmap_apply(pool, retries_fn, NULL, 0, NULL, NULL, &o), 0);
    EXPECT(pmap_map(pool, item_dies_once_fn, NULL, 1, 0, NULL, 0, &m), 0);
    pm_path_close(pool);
}

/* ---- A callback is told of every end ---- */

struct told {
    pmap_future *future;
    int error;
    pmap_cause cause;
    unsigned calls;
};

static void tell(pmap_future *future, void *arg)
{
    struct told *t = arg;
    t->calls++;
    t->error = pmap_future_get(future, 0, NULL, NULL);
    const pmap_failure *f = pmap_future_failure(future);
    t->cause = f ? f->cause : 0;
    pmap_future_free(future);
}

enum { GOOD, CODE, LARGE, CANCELLED, DEATH, TIMED_OUT, KILLED, ENDS };

static int ends_so_fn(pmap_task *task, const void *in, size_t bytes)
{
    int how;
    if (bytes != sizeof how) return 1;
    memcpy(&how, in, sizeof how);
    if (how == CODE) return 7;
    if (how == LARGE) return pmap_task_result(task, 100000) ? 2 : 0;
    if (how == DEATH) (void)raise(SIGSEGV);
    while (how == TIMED_OUT) pause();
    return how == KILLED ? gate_fn(task, in, bytes) : 0;
}

static void callbacks_of_failures(const struct pm_path *path)
{
    static const struct { int error; pmap_cause cause; } expected[ENDS] = {
        [GOOD] = {0, 0}, [CODE] = {PMAP_EITEMS, PMAP_CAUSE_CODE}, [LARGE] = {PMAP_ETOOBIG, PMAP_CAUSE_SIZE},
        [CANCELLED] = {PMAP_ECANCELLED, PMAP_CAUSE_CANCELLED}, [DEATH] = {PMAP_EITEMS, PMAP_CAUSE_SIGNAL},
        [TIMED_OUT] = {PMAP_EITEMS, PMAP_CAUSE_TIMEOUT}, [KILLED] = {PMAP_ECANCELLED, PMAP_CAUSE_CANCELLED}};
    int ends = path->executor == PMAP_PROCESSES ? ENDS : DEATH;
    struct told told[ENDS] = {{0}};
    pmap_pool *pool = pm_path_open(path, 1);
    struct gate *g = new_gate(pool);
    for (int how = 0; how < ends; how++) {
        struct told *t = &told[how];
        pmap_submit_options o = with_arg(g), gated = with_arg(g);
        o.retries = 0;
        o.timeout_s = how == TIMED_OUT ? 0.05 : 0;
        o.done = tell;
        o.done_arg = t;
        atomic_store(&g->inside, 0);
        atomic_store(&g->open, path->executor == PMAP_SERIAL);
        pmap_future *before = how == CANCELLED ? give(pool, gate_fn, NULL, 0, &gated) : NULL;
        t->future = give(pool, ends_so_fn, &how, sizeof how, &o);
        if (how == CANCELLED) assert_int_equal(pmap_future_cancel(t->future), 1);
        if (how == KILLED) {
            await_inside(g, 1);
            EXPECT(pmap_future_kill(t->future), 0);
        }
        for (double end = seconds() + LONG_S; !t->calls && seconds() < end;) assert_true(pmap_pool_poll(pool, 1) >= 0);
        if (t->calls != 1 || t->error != expected[how].error || t->cause != expected[how].cause)
            fail_msg("%s, end %d: %u calls, %d, cause %d", path->name, how, t->calls, t->error, (int)t->cause);
        open_gate(g);
        if (before) EXPECT(pmap_future_get(before, LONG_S, NULL, NULL), 0);
        pmap_future_free(before);
    }
    pm_path_close(pool);
    for (int how = 0; how < ends; how++) assert_int_equal(told[how].calls, 1);
}

/* ---- Kills that the program asks for ---- */

static void kill_what_runs(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool), *other = new_gate(pool);
    pmap_submit_options o = with_arg(g), p = with_arg(other);
    o.once = 1; /* a kill is not charged to anybody, and not retried */
    for (int round = 0; round < 10; round++) {
        atomic_store(&g->inside, 0);
        pmap_future *f = give(pool, gate_fn, "x", 1, &o);
        await_inside(g, 1);
        pmap_future *neighbour = give(pool, gate_fn, "y", 1, &p), *behind[20];
        for (uint64_t i = 0; i < 20; i++) behind[i] = give_square(pool, i);
        double t = seconds();
        EXPECT(pmap_future_kill(f), 0);
        EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), PMAP_ECANCELLED);
        if (seconds() - t > 10) fail_msg("a kill took %.1f s", seconds() - t);
        assert_int_equal(pmap_future_failure(f)->cause, PMAP_CAUSE_CANCELLED);
        EXPECT(pmap_future_kill(f), 0);
        open_gate(other);
        EXPECT(pmap_future_get(neighbour, LONG_S, NULL, NULL), 0);
        atomic_store(&other->open, 0);
        for (uint64_t i = 0; i < 20; i++) {
            expect_square(behind[i], i);
            pmap_future_free(behind[i]);
        }
        pmap_future_free(f);
        pmap_future_free(neighbour);
    }
    check_orderly(pool, path, "after kills");
    check_close(pool, path, "after kills");
}

static int spins_fn(pmap_task *task, const void *in, size_t bytes)
{
    uint32_t n, *out = pmap_task_result(task, sizeof n);
    (void)bytes;
    memcpy(&n, in, sizeof n);
    for (uint32_t i = 0; i < n; i++) __asm__ __volatile__("" ::: "memory");
    *out = n;
    return pmap_task_attempt(task) > 0 ? 50 : 0; /* charged with a death that was none of its own */
}

/* Each is killed at about the time when it ends; those behind it are run by whoever is killed too late. */
static void kill_races_with_the_end(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    unsigned killed = 0, finished = 0;
    double end = seconds() + 1.2;
    for (uint32_t round = 0; round < 1000 && seconds() < end; round++) {
        pmap_future *f[4];
        uint32_t n[4] = {20000 + round % 50 * 400, 3000, 3000, 3000};
        for (int i = 0; i < 4; i++) f[i] = give(pool, spins_fn, &n[i], sizeof n[i], NULL);
        for (double until = seconds() + 1e-6 * (round % 37); seconds() < until;) continue;
        EXPECT(pmap_future_kill(f[0]), 0);
        for (int i = 0; i < 4; i++) {
            const void *result = NULL;
            int e = pmap_future_get(f[i], LONG_S, &result, NULL);
            if (i == 0 && e == PMAP_ECANCELLED) killed++;
            else if (e || *(const uint32_t *)result != n[i]) fail_msg("round %u, task %d: %d %s", round, i, e, pmap_error());
            else if (i == 0) finished++;
            pmap_future_free(f[i]);
        }
    }
    print_message("    %s: %u killed, %u were faster\n", path->name, killed, finished);
    assert_true(killed > 0);
    check_orderly(pool, path, "after kills");
    check_close(pool, path, "after kills");
}

static void timed_out_beside_others(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g), slow = with_arg(g);
    struct death d = {.deaths = 99};
    while (ways[d.way].die != by_loop) d.way++;
    slow.timeout_s = 1000;
    pmap_future *patient = give(pool, gate_fn, "p", 1, &slow), *f[10];
    await_inside(g, 1);
    o.timeout_s = 0.03;
    o.retries = 0;
    double t = seconds();
    for (int i = 0; i < 10; i++) f[i] = give(pool, dies_fn, &d, sizeof d, &o);
    for (int i = 0; i < 10; i++) {
        EXPECT(pmap_future_get(f[i], LONG_S, NULL, NULL), PMAP_EITEMS);
        assert_int_equal(pmap_future_failure(f[i])->cause, PMAP_CAUSE_TIMEOUT);
        pmap_future_free(f[i]);
    }
    t = seconds() - t;
    if (t < 0.3 || t > 15) fail_msg("ten tasks of 0.03 s each, one behind the other, took %.2f s", t);
    open_gate(g);
    EXPECT(pmap_future_get(patient, LONG_S, NULL, NULL), 0);
    pmap_future_free(patient);
    check_close(pool, path, "after time-outs");
}

/* ---- Kills from outside ---- */

static void check_all(pmap_pool *pool, pmap_future **f, size_t n, const char *what)
{
    int e = pmap_wait(f, n, PMAP_ALL, LONG_S);
    if (e) fail_msg("%s: pmap_wait: %d %s", what, e, pmap_error());
    for (uint64_t i = 0; i < n; i++) {
        expect_square(f[i], i);
        pmap_future_free(f[i]);
    }
    (void)pool;
}

static void workers_killed(const struct pm_path *path)
{
    enum { N = 10000 };
    static pmap_future *f[N];
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_apply(pool, square_fn, &(uint64_t){1}, 8, NULL, NULL, NULL), 0);
    for (int round = 0; round < 3; round++) { /* idle */
        struct all_there a = all_workers(pool);
        for (unsigned i = 0; i <= (unsigned)round % 2; i++) (void)kill(a.pids[i], SIGKILL);
        for (uint64_t i = 0; i < 10; i++) f[i] = give_square(pool, i);
        check_all(pool, f, 10, "killed while idle");
    }
    for (int round = 0; round < 3; round++) { /* with much in the queue, again and again */
        pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
        o.retries = 30; /* each kill is charged to the task that it meets */
        for (uint64_t i = 0; i < N; i++) {
            f[i] = give(pool, square_fn, &i, sizeof i, &o);
            if (i % 500) continue;
            int pids[2];
            (void)pmap_pool_pids(pool, pids, 2);
            for (int k = 0; k < 2; k++)
                if (pids[k] > 0 && (k == 0 || round > 0)) (void)kill(pids[k], SIGKILL);
        }
        check_all(pool, f, N, "killed with 10,000 queued");
    }
    check_orderly(pool, path, "after kills");
    check_close(pool, path, "after kills");
}

static void a_stopped_worker_holds_up_nobody(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_apply(pool, square_fn, &(uint64_t){1}, 8, NULL, NULL, NULL), 0);
    struct all_there a = all_workers(pool);
    for (int i = 0; i < 2; i++) {
        (void)kill(a.pids[i], SIGSTOP);
        pmap_future *f[3];
        for (uint64_t k = 0; k < 3; k++) f[k] = give_square(pool, k);
        check_all(pool, f, 3, "with a worker stopped");
        (void)kill(a.pids[i], SIGCONT);
    }
    check_close(pool, path, "after stops");
}

static bool has_ended(void *arg) { return parent_of(*(const pid_t *)arg) == 0; }

static void supervisor_killed(const struct pm_path *path)
{
    enum { N = 200 };
    pmap_future *f[N];
    pmap_pool *pool = pm_path_open(path, 2);
    for (int way = 0; way < 5; way++) {
        struct gate *g = new_gate(pool);
        pmap_submit_options o = with_arg(g);
        unsigned calls = 0;
        pmap_future *held = give(pool, gate_fn, "h", 1, &o);
        struct all_there there = {.pool = pool}; /* the last round may have ended before anybody noticed */
        for (double until = seconds() + LONG_S; !(are_all_there(&there) && atomic_load(&g->inside)) && seconds() < until;)
            if (pmap_future_done(held)) fail_msg("way %d: what is held has ended: %d %s", way, pmap_future_get(held, 0, NULL, NULL), pmap_error());
        for (uint64_t i = 0; i < N; i++) f[i] = give_square(pool, i);
        pid_t supervisor = supervisor_of(pool);
        assert_int_equal(kill(supervisor, SIGKILL), 0);
        open_gate(g);
        if (!pm_test_wait_until(has_ended, &supervisor, 10000)) fail_msg("way %d: the supervisor lives", way);
        double end = seconds() + LONG_S;
        if (way == 0) EXPECT(pmap_future_get(held, LONG_S, NULL, NULL), 0);
        if (way == 1) EXPECT(pmap_wait(f, N, PMAP_ANY, LONG_S), 0);
        while (way == 2 && pmap_future_done(held) == 0 && seconds() < end) continue; /* one who never waits */
        while (way == 3 && pmap_future_get(held, 0, NULL, NULL) && seconds() < end) continue;
        while (way == 4 && pmap_future_done(f[N - 1]) == 0 && seconds() < end) calls += (unsigned)pmap_pool_poll(pool, 0);
        check_all(pool, f, N, "supervisor killed");
        EXPECT(pmap_future_get(held, LONG_S, NULL, NULL), 0);
        pmap_future_free(held);
        pmap_free(pool, g);
        assert_int_equal(calls, 0);
    }
    check_orderly(pool, path, "after kills of the supervisor");
    check_close(pool, path, "after kills of the supervisor");
    assert_int_equal(pm_test_reap(5000), 0);
}

/* ---- Terminate, and the end of the program ---- */

static int sleeps_fn(pmap_task *task, const void *in, size_t bytes)
{
    struct timespec t = {.tv_sec = 1};
    (void)in, (void)bytes;
    while (!pmap_task_cancelled(task) && nanosleep(&t, NULL)) continue;
    return 0;
}

struct getter {
    pmap_future **f;
    size_t n;
    int error, waits;
    _Atomic pid_t tid;
};

static bool all_wait(void *arg)
{
    struct getter *g = arg;
    for (int i = 0; i < 3; i++) {
        pid_t tid = atomic_load(&g[i].tid);
        if (!tid || !pm_test_is_asleep(&tid)) return false;
    }
    return true;
}

static void *gets(void *arg)
{
    struct getter *g = arg;
    atomic_store(&g->tid, (pid_t)syscall(SYS_gettid));
    g->error = g->waits ? pmap_wait(g->f, g->n, PMAP_ALL, LONG_S) : pmap_future_get(g->f[0], LONG_S, NULL, NULL);
    return NULL;
}

static void terminated(const struct pm_path *path)
{
    enum { N = 100 };
    pmap_future *f[N];
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *gate = new_gate(pool);
    pmap_submit_options o = with_arg(gate);
    f[0] = give(pool, gate_fn, NULL, 0, &o); /* runs until it is ended, or sees that it is cancelled */
    for (int i = 1; i < N; i++) f[i] = give(pool, sleeps_fn, NULL, 0, NULL);
    await_inside(gate, 1);
    struct getter g[3] = {{f, 1, 0, 0, 0}, {f + N - 1, 1, 0, 0, 0}, {f, N, 0, 1, 0}};
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&thread[i], NULL, gets, &g[i]), 0);
    assert_true(pm_test_wait_until(all_wait, g, 10000)); /* one that did not yet would be told PMAP_ECLOSED */
    double begin_s = seconds();
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    if (seconds() - begin_s > 10) fail_msg("%s: terminate took %.1f s", path->name, seconds() - begin_s);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 3; i++) {
        if (g[i].error != PMAP_ECANCELLED) fail_msg("%s: getter %d: %d", path->name, i, g[i].error);
    }
}

struct program {
    const struct pm_path *path;
    int how;
};

static int program(void *arg)
{
    const struct program *p = arg;
    pmap_options o = pm_path_options(p->path, 2);
    pmap_pool *pool;
    pmap_future *f;
    if (pmap_pool_open(&pool, &o)) return 90;
    for (int i = 0; i < 1000; i++)
        if (pmap_submit(pool, sleeps_fn, NULL, 0, NULL, i % 2 ? &f : NULL)) return 91;
    if (p->how == 0) return 5; /* from main, as it were */
    if (p->how == 1) exit(5);
    if (p->how == 2) _exit(5);
    (void)kill(getpid(), SIGKILL);
    return 92;
}

static void program_ends(const struct pm_path *path)
{
    for (int how = 0; how < 4; how++) {
        struct program p = {path, how};
        int status = pm_test_run_child(program, &p, 10000);
        bool right = how < 3 ? WIFEXITED(status) && WEXITSTATUS(status) == 5 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        if (!right) fail_msg("%s: ended in way %d: status %x", path->name, how, (unsigned)status);
    }
}

static void forked(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    pmap_submit_options o = with_arg(g);
    o.result_max = 200;
    pmap_future *f = give(pool, gate_fn, "f", 1, &o), *finished = give_square(pool, 3);
    if (path->executor == PMAP_SERIAL) open_gate(g);
    expect_square(finished, 3);
    pid_t pid = fork();
    if (pid == 0) {
        pmap_completed *c;
        int e = pmap_future_get(f, -1, NULL, NULL) != PMAP_EFORK || pmap_future_done(finished) != PMAP_EFORK || pmap_future_cancel(f) != PMAP_EFORK ||
                pmap_future_kill(f) != PMAP_EFORK || pmap_wait(&f, 1, PMAP_ALL, -1) != PMAP_EFORK || pmap_as_completed(&f, 1, &c) != PMAP_EFORK ||
                pmap_pool_poll(pool, -1) != PMAP_EFORK || pmap_pool_fd(pool) != PMAP_EFORK || pmap_future_failure(finished);
        pmap_future_free(f);
        _exit(e || pmap_pool_close(pool) ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_gate(g);
    EXPECT(pmap_future_get(f, LONG_S, NULL, NULL), 0);
    pmap_future_free(f);
    pmap_future_free(finished);
    pm_path_close(pool);
}

/* ---- A pool that cannot work ---- */

#define OTHER_USER 54323u /* whose processes are none but this test's */

/* The supervisor can fork no more, and its workers are killed.  0 = as it should be, 77 where that cannot be made, else the line. */
static int broken_program(void *arg)
{
    const struct program *p = arg;
    if (geteuid() == 0 && (setgid(OTHER_USER) || setuid(OTHER_USER))) return 77;
    if (geteuid() == 0) return 77;
    unsetenv("TMPDIR"); /* that of the tests is closed to others */
    pmap_options o = pm_path_options(p->path, 2);
    pmap_pool *pool;
    pmap_future *f[3] = {NULL, NULL, NULL}, *one;
    pmap_completed *c;
    if (pmap_pool_open(&pool, &o)) return __LINE__;
    if (pmap_apply(pool, square_fn, &(uint64_t){1}, 8, NULL, NULL, NULL)) return __LINE__;
    struct all_there a = {.pool = pool};
    if (!pm_test_wait_until(are_all_there, &a, 10000)) return __LINE__;
    struct rlimit none = {1, 1};
    if (prlimit(parent_of(a.pids[0]), RLIMIT_NPROC, &none, NULL)) return 77;
    for (int i = 0; i < 3; i++)
        if (pmap_submit(pool, sleeps_fn, NULL, 0, NULL, &f[i])) return __LINE__;
    for (int i = 0; i < 2; i++) (void)kill(a.pids[i], SIGKILL);
    if (pmap_as_completed(f, 3, &c)) return __LINE__;
    if (pmap_future_get(f[0], LONG_S, NULL, NULL) != PMAP_EBROKEN) return __LINE__;
    if (pmap_future_done(f[1]) != PMAP_EBROKEN) return __LINE__;
    if (pmap_wait(f, 3, PMAP_ANY, LONG_S) != PMAP_EBROKEN) return __LINE__;
    if (pmap_completed_next(c, LONG_S, &one) != PMAP_EBROKEN) return __LINE__;
    if (pmap_pool_poll(pool, LONG_S) != PMAP_EBROKEN) return __LINE__;
    if (pmap_apply(pool, square_fn, &(uint64_t){1}, 8, NULL, NULL, NULL) != PMAP_EBROKEN) return __LINE__;
    if (pmap_future_cancel(f[2]) != 1 || pmap_future_get(f[2], 0, NULL, NULL) != PMAP_ECANCELLED) return __LINE__;
    pmap_completed_free(c);
    pmap_future_free(f[0]);
    double t = seconds();
    return pmap_pool_close(pool) || seconds() - t > 10 ? __LINE__ : 0;
}

static void broken(const struct pm_path *path)
{
    struct program p = {path, 0};
    int status = pm_test_run_child(broken_program, &p, 20000);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    if (status) fail_msg("status %x: line %d", (unsigned)status, status < 0 ? 0 : 256 + WEXITSTATUS(status));
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"every way of dying", every_way_of_dying, PM_ON_SHM},
        {"a map behind a task", a_map_behind_a_task, PM_ON_SHM},
        {"callbacks of failures", callbacks_of_failures, PM_ON_FUTURES},
        {"kill what runs", kill_what_runs, PM_ON_SHM},
        {"kill races with the end", kill_races_with_the_end, PM_ON_SHM},
        {"timed out beside others", timed_out_beside_others, PM_ON_SHM},
        {"workers killed", workers_killed, PM_ON_SHM},
        {"a stopped worker holds up nobody", a_stopped_worker_holds_up_nobody, PM_ON_SHM},
        {"supervisor killed", supervisor_killed, PM_ON_SHM},
        {"terminated", terminated, PM_ON_THREADS | PM_ON_SHM},
        {"program ends", program_ends, PM_ON_FUTURES},
        {"forked", forked, PM_ON_FUTURES},
        {"broken", broken, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("future_deaths", tests);
}

/* Functions that end their worker in every way there is, on every path and through every kind of map: exactly the guilty item fails,
 * named with its cause, all others are right, nothing runs too often, and the pool goes on. */
#include "tests/ways.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A whole-chunk function that dies has to be run again item by item before its guilty item is known: twice at least. */
static unsigned attempts_of(enum call c, size_t chunk, int retries)
{
    unsigned n = (unsigned)retries + 1;
    return c != MAP && chunk != 1 && n < 2 ? 2 : n;
}

static struct expected after(enum call c, size_t chunk, int retries, pmap_cause cause, int value)
{
    unsigned n = attempts_of(c, chunk, retries);
    return (struct expected){.cause = cause, .value = value, .attempts = n, .most_poison_runs = n, .most_runs = c == MAP ? 1 : n};
}

static void every_way_of_dying(const struct pm_path *path)
{
    for (size_t w = 0; w < WAYS; w++) {
        struct trial t = begin(path, 2, 200);
        for (int c = 0; c < CALLS; c++) {
            clear(&t);
            t.plan->die = ways[w].die;
            t.plan->from = 77, t.plan->step = 1, t.plan->upto = 78;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.retries = c == FOR ? 1 : 2;
            o.timeout_s = ways[w].timeout_s;
            o.chunk = c == MAP ? 0 : 5; /* a chunk of whole calls has the sum of its items' time */
            int e = call(&t, (enum call)c, &o);
            struct expected x = after((enum call)c, o.chunk, o.retries, ways[w].cause, ways[w].value);
            check_exact(&t, (enum call)c, e, &x, ways[w].name);
        }
        finish(&t, ways[w].name);
    }
}

/* ---- Poison among a million ---- */

static void poison_among_a_million(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 1000000);
    for (int c = 0; c < CALLS; c++)
        for (int big = 0; big < 2; big++) {
            clear(&t);
            t.plan->die = by_segv;
            t.plan->from = 654321, t.plan->step = 1, t.plan->upto = 654322;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.chunk = big ? 100000 : 0;
            int e = call(&t, (enum call)c, &o);
            struct expected x = after((enum call)c, o.chunk, o.retries, PMAP_CAUSE_SIGNAL, SIGSEGV);
            check_exact(&t, (enum call)c, e, &x, big ? "poison, chunk 100000" : "poison, chunk tuned");
        }
    finish(&t, "poison among a million");
}

static void many_poisons(const struct pm_path *path)
{
#if defined(__SANITIZE_ADDRESS__)
    enum { MANY = 2000 }; /* a fork there takes as long as a hundred elsewhere */
#else
    enum { MANY = 4000 };
#endif
    static const struct { const char *name; size_t count, from, step, upto, chunk; int retries; } cases[] = {
        {"one in a hundred", MANY, 50, 100, MANY, 0, 2},
        {"one in a hundred, chunk 1000", MANY, 50, 100, MANY, 1000, 2},
        {"adjacent", 1000, 500, 1, 510, 100, 2},
        {"adjacent across chunks", 1000, 495, 1, 505, 100, 1},
        {"the first", 1000, 0, 1, 1, 100, 2},
        {"the last", 1000, 999, 1, 1000, 100, 2},
        {"the first and the last", 1000, 0, 999, 1000, 0, 2},
        {"the first and the last, one chunk", 1000, 0, 999, 1000, 1000, 2},
        {"without retries", 1000, 5, 100, 1000, 50, 0},
        {"the most retries", 100, 42, 1, 43, 10, 30},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct trial t = begin(path, 2, cases[k].count);
        for (int c = 0; c < CALLS; c++) {
            clear(&t);
            t.plan->die = by_kill;
            t.plan->from = cases[k].from, t.plan->step = cases[k].step, t.plan->upto = cases[k].upto;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.chunk = cases[k].chunk;
            o.retries = cases[k].retries;
            double begin_s = seconds();
            int e = call(&t, (enum call)c, &o);
            double took = seconds() - begin_s;
            struct expected x = after((enum call)c, 1, o.retries, PMAP_CAUSE_SIGNAL, SIGKILL);
            if (took > 15) fail_msg("%s %s %s: took %.1f s", path->name, call_names[c], cases[k].name, took);
            if (o.retries == 0 && c != MAP) { /* the first of a chunk's poisons dies in the whole call too, the others do not */
                x.attempts = 2;
                x.most_runs = x.most_poison_runs = 2;
            }
            check_exact(&t, (enum call)c, e, &x, cases[k].name);
        }
        finish(&t, cases[k].name);
    }
}

#if defined(__SANITIZE_ADDRESS__)
#define CRASHES 100 /* each death there takes ten times and more as long */
#define POISONED 50
#else
#define CRASHES 500
#define POISONED 100
#endif

/* Nothing but deaths: every item is reported, and the time is bounded. */
static void all_poison(const struct pm_path *path)
{
    static const struct { const char *name; enum call call; size_t count, chunk; int retries; } cases[] = {
        {"all poison", MAP, POISONED, 0, 2},
        {"all poison, chunk 100", MAP, POISONED, 100, 2},
        {"all poison, chunk function", CHUNKS, POISONED, 1, 2},
        {"crash loop", FOR, CRASHES, 1, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct trial t = begin(path, 2, path->bit == PM_ON_SHM ? cases[k].count : cases[k].count / 5); /* a death costs up to 2 ms */
        t.plan->die = by_exit_now;
        t.plan->from = 0, t.plan->step = 1, t.plan->upto = t.count;
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.chunk = cases[k].chunk;
        o.retries = cases[k].retries;
        double begin_s = seconds();
        int e = call(&t, cases[k].call, &o);
        double took = seconds() - begin_s;
        struct expected x = after(cases[k].call, 1, o.retries, PMAP_CAUSE_EXIT, 1);
        check_exact(&t, cases[k].call, e, &x, cases[k].name);
        if (took > 30) fail_msg("%s %s: took %.1f s", path->name, cases[k].name, took);
        print_message("    %s %s: %.2f s\n", path->name, cases[k].name, took);
        finish(&t, cases[k].name);
    }
}

/* ---- Once, stop ---- */

static void once(const struct pm_path *path)
{
    for (int c = 0; c < CALLS; c++)
        for (size_t chunk = 0; chunk <= 100; chunk += 50) {
            struct trial t = begin(path, 2, 1000);
            t.plan->die = by_segv;
            t.plan->from = 33, t.plan->step = 200, t.plan->upto = 1000;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.once = 1;
            o.chunk = chunk;
            assert_int_equal(call(&t, (enum call)c, &o), PMAP_EITEMS);
            const pmap_failure **of = listed(&t, "once");
            size_t bad = 0;
            for (size_t i = 0; i < t.count; i++) {
                if (atomic_load(&t.plan->runs[i]) > 1) fail_msg("%s %s: item %zu ran %u times", path->name, call_names[c], i, t.plan->runs[i]);
                if (poisoned(t.plan, i) && (!of[i] || of[i]->cause != PMAP_CAUSE_SIGNAL || of[i]->value != SIGSEGV))
                    fail_msg("%s %s: poison item %zu is not listed with SIGSEGV", path->name, call_names[c], i);
                if (of[i]) bad++;
                else if (result_of(&t, (enum call)c, i) != right(input_of(i))) fail_msg("%s %s: item %zu is wrong", path->name, call_names[c], i);
            }
            free(of);
            if (c == MAP && path->bit != PM_ON_ZMQ && bad != 5) fail_msg("%s: %zu items failed, expected the 5 guilty", path->name, bad);
            if (chunk && bad > 5 * chunk) fail_msg("%s %s: %zu items failed of 5 chunks of %zu", path->name, call_names[c], bad, chunk);
            finish(&t, "once");
        }
}

static void stop_at_the_first(const struct pm_path *path)
{
    for (int c = 0; c < CALLS; c++)
        for (int round = 0; round < 6; round++) {
            struct trial t = begin(path, 2, 50000);
            t.plan->die = by_segv;
            t.plan->from = 999, t.plan->step = 10000, t.plan->upto = 50000;
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.on_error = PMAP_ON_ERROR_STOP;
            o.retries = round % 3;
            o.chunk = round % 2 ? 100 : 0;
            assert_int_equal(call(&t, (enum call)c, &o), PMAP_EITEMS);
            const pmap_failure **of = listed(&t, "stop");
            size_t guilty = 0;
            for (size_t i = 0; i < t.count; i++) {
                if (of[i] && of[i]->cause == PMAP_CAUSE_SIGNAL) {
                    guilty++;
                    if (!poisoned(t.plan, i) || of[i]->value != SIGSEGV) fail_msg("%s: innocent item %zu: %s", path->name, i, of[i]->text);
                } else if (of[i] && of[i]->cause != PMAP_CAUSE_CANCELLED) {
                    fail_msg("%s: item %zu: %s", path->name, i, of[i]->text);
                } else if (!of[i] && result_of(&t, (enum call)c, i) != right(input_of(i))) {
                    fail_msg("%s %s: item %zu is neither right nor listed", path->name, call_names[c], i);
                }
            }
            free(of);
            if (guilty < 1 || guilty > 5) fail_msg("%s %s: %zu guilty items", path->name, call_names[c], guilty);
            give_back(&t);
            if (round == 0) check_orderly(t.pool, t.path, "stop");
            check_close(t.pool, t.path, "stop");
        }
}

/* ---- What a function leaves behind ---- */

/* A child that outlives the item, in the worker's group or in a session of its own; its pid is told. */
static int leave_a_child(pmap_task *task, const void *item, void *result)
{
    struct plan *p = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    int out = 0;
    memcpy(&out, item, sizeof out);
    if (i < 4) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i % 2) setsid();
            pid_t next = fork(); /* and that one has a child too */
            if (next == 0 && i % 2) setsid();
            if (next > 0) atomic_store((_Atomic int *)&p->pids[4 + i], next);
            for (;;) pause();
        }
        p->pids[i] = pid;
        while (!atomic_load((_Atomic int *)&p->pids[4 + i])) sched_yield();
        if (i / 2) by_kill(); /* two of them lose their parent at once, and so twice: retries is 0 */
    }
    memcpy(result, &out, sizeof out);
    return 0;
}

static bool is_gone(void *arg) { return parent_of(*(int *)arg) == 0; }

static void grandchildren(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 100);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = t.plan;
    o.retries = 0;
    assert_int_equal(pmap_map(t.pool, leave_a_child, t.in, 100, 8, t.out, 8, &o), PMAP_EITEMS);
    int pids[8];
    memcpy(pids, t.plan->pids, sizeof pids);
    for (int i = 0; i < 8; i++) assert_true(pids[i] > 0);
    if (!pm_test_wait_until(is_gone, &pids[2], 5000)) fail_msg("%s: what a dead worker's group held still runs", path->name);
    finish(&t, "grandchildren");
    for (int i = 0; i < 8; i++)
        if (!pm_test_wait_until(is_gone, &pids[i], 5000)) {
            kill(pids[i], SIGKILL);
            fail_msg("%s: child %d of a worker outlives the pool%s", path->name, i, i % 2 ? " (it has a session of its own)" : "");
        }
}

static int leave_one(pmap_task *task, size_t first, size_t last)
{
    struct plan *p = pmap_task_arg(task);
    (void)first, (void)last;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        for (;;) pause();
    }
    p->pids[0] = pid;
    return 0;
}

/* Keeps the process from ending when it has been killed, as the return of much memory does. */
struct slow {
    pid_t pid;
    _Atomic int seized, ended; /* -1: tracing is not allowed here */
};

static void *die_slowly(void *arg)
{
    struct slow *s = arg;
    bool may = ptrace(PTRACE_SEIZE, s->pid, NULL, (void *)PTRACE_O_TRACEEXIT) == 0;
    atomic_store(&s->seized, may ? 1 : -1);
    int status = 0;
    if (!may) return NULL;
    while (waitpid(s->pid, &status, __WALL) < 0 && errno == EINTR) continue;
    (void)poll(NULL, 0, 400); /* so long does it die */
    atomic_store(&s->ended, 1);
    (void)ptrace(PTRACE_DETACH, s->pid, NULL, NULL);
    return NULL;
}

static bool is_seized(void *arg) { return atomic_load((_Atomic int *)arg) != 0; }

static void a_child_that_dies_slowly(const struct pm_path *path)
{
    struct trial t = begin(path, 1, 1);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = t.plan;
    EXPECT(pmap_for(t.pool, leave_one, 0, 1, &o), 0);
    struct slow s = {.pid = t.plan->pids[0]};
    pthread_t thread;
    assert_true(s.pid > 0);
    assert_int_equal(pthread_create(&thread, NULL, die_slowly, &s), 0);
    assert_true(pm_test_wait_until(is_seized, &s.seized, 10000));
    finish(&t, "a child that dies slowly"); /* closes the pool */
    bool waited = atomic_load(&s.ended) != 0, left = parent_of(s.pid) != 0;
    pthread_join(thread, NULL);
    if (atomic_load(&s.seized) < 0) skip();
    if (!waited || left) fail_msg("%s: the pool's close did not wait for the end of a worker's child", path->name);
}

/* ---- Memory ---- */

static int needs_memory(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    size_t bytes = (size_t)1 << 40;
    struct rlimit small = {(rlim_t)8 << 30, (rlim_t)8 << 30};
    if (pmap_task_index(task) != 7) return 0;
    (void)setrlimit(RLIMIT_AS, &small);
    void *volatile p = malloc(bytes);
    if (!p) {
        pmap_task_error(task, "no %zu bytes", bytes);
        return 12;
    }
    free(p);
    return 0;
}

static void malloc_that_fails(const struct pm_path *path)
{
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* the sanitizer ends a process whose memory is limited */
#endif
    struct trial t = begin(path, 2, 10);
    size_t n;
    assert_int_equal(pmap_map(t.pool, needs_memory, t.in, 10, 8, t.out, 8, NULL), PMAP_EITEMS);
    const pmap_failure *f = pmap_failures(t.pool, &n);
    assert_int_equal(n, 1);
    assert_int_equal(f->item, 7);
    assert_int_equal(f->cause, PMAP_CAUSE_CODE);
    assert_int_equal(f->value, 12);
    assert_int_equal(f->attempts, 1);
    assert_non_null(strstr(f->text, "no 1099511627776 bytes"));
    finish(&t, "malloc that fails");
}

static int small_application(void *arg)
{
    (void)arg;
    struct rlimit small = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    if (setrlimit(RLIMIT_AS, &small)) return 10;
    pmap_pool *pool = NULL;
    int e = pmap_pool_open(&pool, NULL);
    if (e) return e == PMAP_ENOMEM ? 0 : 11; /* a clean refusal is an answer too */
    if (pmap_alloc(pool, (size_t)1 << 30)) return 12;
    if (!strstr(pmap_error(), "pmap_alloc")) return 13;
    uint64_t in[100], out[100];
    for (size_t i = 0; i < 100; i++) in[i] = input_of(i);
    struct plan *p = pmap_alloc(pool, sizeof *p + sizeof(uint32_t) * 100);
    if (!p) return 14;
    memset(p, 0, sizeof *p + sizeof(uint32_t) * 100);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = p;
    if (pmap_map(pool, item_fn, in, 100, 8, out, 8, &o)) return 15;
    for (size_t i = 0; i < 100; i++)
        if (out[i] != right(in[i])) return 16;
    return pmap_pool_close(pool) ? 17 : 0;
}

static void little_address_space(const struct pm_path *path)
{
    (void)path;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their shadow memory alone needs more */
#else
    int status = pm_test_run_child(small_application, NULL, 20000);
    assert_true(status >= 0 && WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
#endif
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"every way of dying", every_way_of_dying, PM_ON_PROCESSES},
        {"poison among a million", poison_among_a_million, PM_ON_PROCESSES},
        {"many poisons", many_poisons, PM_ON_PROCESSES},
        {"all poison", all_poison, PM_ON_PROCESSES},
        {"once", once, PM_ON_PROCESSES},
        {"stop at the first", stop_at_the_first, PM_ON_PROCESSES},
        {"grandchildren", grandchildren, PM_ON_PROCESSES},
        {"a child that dies slowly", a_child_that_dies_slowly, PM_ON_PROCESSES},
        {"malloc that fails", malloc_that_fails, PM_ON_PROCESSES},
        {"little address space", little_address_space, PM_ON_NONE},
    };
    return PM_PATHS_MAIN("deaths", tests);
}

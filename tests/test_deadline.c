/* Items that take longer than their time-out: ended, named, and nobody else.  Where a deadline races with the end of its item, the
 * item is right or has timed out, never both and never wrong. */
#include "tests/deaths.h"

#include <pthread.h>

static void endless(void)
{
    for (;;) __asm__ __volatile__("" ::: "memory");
}

static void asleep(void)
{
    struct timespec t = {.tv_sec = 1000};
    while (nanosleep(&t, &t)) continue;
}

static void deaf(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    asleep();
}

static void stopped(void) { raise(SIGSTOP); }

/* ---- A hundred of them ---- */

static void hundred(const struct pm_path *path)
{
    static void (*const how[])(void) = {endless, asleep, deaf, stopped};
    for (int c = 0; c < CALLS; c++)
        for (int retries = 0; retries < 3; retries += 2) {
            if (retries && c != MAP) continue; /* once is enough for what takes seconds */
            struct trial t = begin(path, 2, 1000);
            t.plan->die = how[(c + retries) % 4];
            t.plan->from = 5, t.plan->step = 10, t.plan->upto = path->bit == PM_ON_SHM ? 1000 : 300; /* one supervisor ends them all */
            pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
            o.timeout_s = 0.01;
            o.retries = retries;
            o.chunk = 1;
            double begin_s = seconds();
            int e = call(&t, (enum call)c, &o);
            double took = seconds() - begin_s;
            unsigned n = (unsigned)retries + 1;
            struct expected x = {.cause = PMAP_CAUSE_TIMEOUT, .attempts = n, .most_runs = n, .most_poison_runs = n};
            check_exact(&t, (enum call)c, e, &x, "a hundred endless items");
            if (took > 15) fail_msg("%s %s: took %.1f s", path->name, call_names[c], took);
            finish(&t, "a hundred endless items");
        }
}

/* In chunks: the whole call has the sum of its items' time, then the items run one by one. */
static void in_big_chunks(const struct pm_path *path)
{
    for (int c = 0; c < CALLS; c++) {
        struct trial t = begin(path, 2, 1000);
        t.plan->die = endless;
        t.plan->from = 111, t.plan->step = 300, t.plan->upto = 1000;
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.timeout_s = 0.02;
        o.retries = 1;
        o.chunk = 10;
        int e = call(&t, (enum call)c, &o);
        struct expected x = {.cause = PMAP_CAUSE_TIMEOUT, .attempts = 2, .most_runs = 2, .most_poison_runs = 2};
        check_exact(&t, (enum call)c, e, &x, "endless items in chunks");
        finish(&t, "endless items in chunks");
    }
}

/* ---- The race ---- */

#define TIMEOUT_S 0.03

/* Every fifth item ends within a few microseconds of its deadline, before or behind it; the others are short. */
static int close_call(pmap_task *task, const void *item, void *result)
{
    struct plan *p = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    double begin_s = seconds();
    atomic_fetch_add(&p->runs[i], 1);
    if (poisoned(p, i)) {
        double away = ((double)(pmap_task_random(task) % 400) - 320) * 1e-6;
        while (seconds() - begin_s < TIMEOUT_S + away) continue;
    }
    uint64_t in;
    memcpy(&in, item, sizeof in);
    in = right(in);
    memcpy(result, &in, sizeof in);
    return 0;
}

static void race(const struct pm_path *path)
{
    struct trial t = begin(path, 2, path->bit == PM_ON_SHM ? 600 : 200);
    t.plan->from = 3, t.plan->step = 5, t.plan->upto = t.count;
    size_t late = 0, in_time = 0;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.timeout_s = TIMEOUT_S;
    o.retries = 1;
    o.arg = t.plan;
    o.chunk = 10; /* an innocent item follows directly on the late one, in the same chunk */
    int e = pmap_map(t.pool, close_call, t.in, t.count, 8, t.out, 8, &o);
    const pmap_failure **of = listed(&t, "race");
    for (size_t i = 0; i < t.count; i++) {
        unsigned runs = atomic_load(&t.plan->runs[i]);
        if (of[i] && !poisoned(t.plan, i)) fail_msg("%s: innocent item %zu: %s", path->name, i, of[i]->text);
        if (of[i] && (of[i]->cause != PMAP_CAUSE_TIMEOUT || of[i]->attempts != 2)) fail_msg("%s: item %zu: %s", path->name, i, of[i]->text);
        if (!of[i] && t.out[i] != right(t.in[i])) fail_msg("%s: item %zu is neither right nor timed out", path->name, i);
        /* An item is killed only for itself; its neighbour may be hit by the kill that came too late for it, and is not charged. */
        if (runs < 1 || (runs > 3 && path->bit != PM_ON_ZMQ)) fail_msg("%s: item %zu ran %u times", path->name, i, runs);
        if (poisoned(t.plan, i) && of[i]) late++;
        if (poisoned(t.plan, i) && !of[i]) in_time++;
    }
    free(of);
    print_message("    %s: %zu in time, %zu late\n", path->name, in_time, late);
    assert_int_equal(e, late ? PMAP_EITEMS : 0);
    if (in_time == 0) fail_msg("%s: no item was in time: the race was not run", path->name);
    finish(&t, "race");
}

/* ---- From outside, and others ---- */

/* A worker that somebody stops in an item with a deadline: it is ended, and the item done by another. */
static int stop_once(pmap_task *task, const void *item, void *result)
{
    struct plan *p = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    if (atomic_fetch_add(&p->runs[i], 1) == 0 && i == 50) {
        atomic_store(&p->flag, (uint64_t)getpid());
        endless();
    }
    uint64_t in;
    memcpy(&in, item, sizeof in);
    in = right(in);
    memcpy(result, &in, sizeof in);
    return 0;
}

static void *stopper(void *flag)
{
    if (pm_test_wait_until(flag_is_set, flag, 10000)) (void)kill((pid_t)atomic_load((_Atomic uint64_t *)flag), SIGSTOP);
    return NULL;
}

static void stopped_from_outside(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 100);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stopper, &t.plan->flag), 0);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.timeout_s = 0.3;
    o.arg = t.plan;
    EXPECT(pmap_map(t.pool, stop_once, t.in, t.count, 8, t.out, 8, &o), 0);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&t.plan->runs[50]), 2);
    for (size_t i = 0; i < t.count; i++) assert_int_equal(t.out[i], right(t.in[i]));
    finish(&t, "stopped from outside");
}

static int nap(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item, (void)result;
    struct timespec t = {.tv_nsec = 150000000};
    nanosleep(&t, NULL);
    return 0;
}

struct other {
    pmap_pool *pool;
    int error;
};

static void *without_deadline(void *arg)
{
    struct other *o = arg;
    o->error = pmap_map(o->pool, nap, NULL, 8, 0, NULL, 0, NULL);
    return NULL;
}

/* A deadline is its job's own: long items of another job on the same pool are left alone. */
static void other_jobs(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 300);
    struct other o = {t.pool, -1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, without_deadline, &o), 0);
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    m.timeout_s = 0.05;
    m.retries = 1;
    t.plan->die = endless;
    t.plan->from = 9, t.plan->step = 100, t.plan->upto = 300;
    int e = call(&t, MAP, &m);
    struct expected x = {.cause = PMAP_CAUSE_TIMEOUT, .attempts = 2, .most_runs = 1, .most_poison_runs = 2};
    check_exact(&t, MAP, e, &x, "with another job");
    pthread_join(thread, NULL);
    assert_int_equal(o.error, 0);
    finish(&t, "with another job");
}

static void once(const struct pm_path *path)
{
    struct trial t = begin(path, 2, 200);
    t.plan->die = endless;
    t.plan->from = 0, t.plan->step = 20, t.plan->upto = 200;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.timeout_s = 0.03;
    o.once = 1;
    int e = call(&t, MAP, &o);
    struct expected x = {.cause = PMAP_CAUSE_TIMEOUT, .attempts = 1, .most_runs = 1, .most_poison_runs = 1};
    check_exact(&t, MAP, e, &x, "once");
    finish(&t, "once");
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"a hundred", hundred, PM_ON_PROCESSES},
        {"in big chunks", in_big_chunks, PM_ON_PROCESSES},
        {"race", race, PM_ON_PROCESSES},
        {"stopped from outside", stopped_from_outside, PM_ON_PROCESSES},
        {"other jobs", other_jobs, PM_ON_PROCESSES},
        {"once", once, PM_ON_PROCESSES},
    };
    return PM_PATHS_MAIN("deadline", tests);
}

/* A worker stopped behind every single instruction of its work and killed there: nothing may be lost, and nothing done twice but the one
 * item that it held.  The test is its tracer: an item of the job waits on a flag in shared memory; from there a first worker is
 * single-stepped until it has nothing left to do, which lists the instructions; then, job for job, a worker is killed just before each of them,
 * and behind k steps for k all along the way.  Skipped where the system does not allow ptrace, and on other processors than x86-64.
 *
 * Four stretches: the end of an item, its commit, the next claims and bodies, stealing (two workers, the other waits in an item); the
 * move of the head to the next round (one worker, tuned chunks); the job's end; and that behind a death, where the words are scanned. */
#include "tests/deaths.h"
#include "tests/step.h"

#define BUDGET_S 6.0 /* a stretch */
#define MOST_PCS 65536u

struct stretch {
    const char *name;
    unsigned workers;
    size_t count, chunk;
    size_t at[2];     /* items that wait; whoever waits at the first is stepped from there */
    unsigned most;    /* instructions; 0: until it sleeps */
    bool after_death; /* the waiting item's worker is killed once before */
};

static uintptr_t seen[MOST_PCS], first_met[MOST_PCS]; /* a hash table; and the same in the order of execution */
static size_t distinct;

static void note(uintptr_t pc)
{
    size_t h = (size_t)(pc * UINT64_C(0x9e3779b97f4a7c15) >> 48) % MOST_PCS;
    while (seen[h] && seen[h] != pc) h = (h + 1) % MOST_PCS;
    if (seen[h] || distinct >= MOST_PCS / 2) return;
    seen[h] = pc;
    first_met[distinct++] = pc;
}

/* ---- The job ---- */

struct hold {
    _Atomic uint32_t pid[2]; /* who waits at at[0], at[1] */
    _Atomic uint32_t go[2];
    _Atomic uint32_t die;    /* whoever comes to at[0] now dies */
    size_t at[2];
    struct plan plan;        /* ends with the counters */
};

static int held_item(pmap_task *task, const void *item, void *result)
{
    struct hold *h = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    atomic_fetch_add(&h->plan.runs[i], 1);
    for (unsigned k = 0; k < 2; k++)
        if (i == h->at[k] && !atomic_load(&h->go[k])) {
            if (k == 0 && atomic_exchange(&h->die, 0)) raise(SIGKILL);
            atomic_store(&h->pid[k], (uint32_t)getpid());
            while (!atomic_load(&h->go[k])) {
                struct timespec t = {.tv_nsec = 100000};
                if (k) nanosleep(&t, NULL); /* it must not take the CPU from the one that is stepped */
            }
        }
    uint64_t in;
    memcpy(&in, item, sizeof in);
    in = right(in);
    memcpy(result, &in, sizeof in);
    return 0;
}

struct job {
    pmap_pool *pool;
    struct hold *hold;
    const struct stretch *s;
    uint64_t *in, *out;
    bool measure; /* note what is stepped over */
    int error;
    atomic_bool done;
};

static void *run_job(void *arg)
{
    struct job *j = arg;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = j->hold;
    o.chunk = j->s->chunk;
    j->error = pmap_map(j->pool, held_item, j->in, j->s->count, 8, j->out, 8, &o);
    atomic_store(&j->done, true);
    return NULL;
}

static bool job_is_done(void *arg) { return atomic_load(&((struct job *)arg)->done); }

static bool all_wait(void *arg)
{
    struct job *j = arg;
    return atomic_load(&j->hold->pid[0]) && (j->s->workers == 1 || atomic_load(&j->hold->pid[1]));
}

/* Steps a worker, that spins, over its k first instructions from the flag on.  Returns how many it made; *slept when it had nothing to do. */
static unsigned step(struct job *j, pid_t pid, unsigned k, bool *slept)
{
    unsigned n = 0;
    *slept = false;
    int s = 1;
    while (n < k) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) break;
        s = stopped(pid);
        if (s != 1) {
            *slept = s == 0;
            break;
        }
        n++;
        if (j->measure) note(pc_of(pid));
    }
    return n;
}

/* One job whose worker is killed behind k instructions, or before it executes `pc` for the first time.  True when it fell asleep before that:
 * there is no more to step through. */
static bool one_kill(struct job *j, unsigned k, uintptr_t pc, unsigned *made)
{
    struct hold *h = j->hold;
    memset(h, 0, sizeof *h + j->s->count * sizeof(uint32_t));
    memset(j->out, 0, j->s->count * 8);
    memcpy(h->at, j->s->at, sizeof h->at);
    atomic_store(&h->die, j->s->after_death);
    atomic_store(&j->done, false);
    ticks(0); /* blocked here, and so in the thread */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_job, j), 0);
    if (!pm_test_wait_until(all_wait, j, 10000)) fail_msg("%s: the items that wait were not met within 10 s", j->s->name);
    pid_t pid = (pid_t)atomic_load(&h->pid[0]);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) fail_msg("ptrace of %d: %s", (int)pid, strerror(errno));
    bool slept;
    cpu_set_t before;
    (void)sched_getaffinity(0, sizeof before, &before);
    share_a_cpu(pid);
    ticks(10000);
    if (stopped(pid) != 1) fail_msg("%s: worker %d did not stop", j->s->name, (int)pid);
    atomic_store(&h->go[0], 1);
    *made = 0;
    if (pc) slept = !run_to(pid, pc);
    else *made = step(j, pid, k, &slept);
    ticks(0);
    (void)sched_setaffinity(0, sizeof before, &before);
    (void)kill(pid, SIGKILL);
    int status; /* a tracer sees the end first; then the parent, the supervisor, does */
    while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status)) continue;
    atomic_store(&h->go[0], 1);
    atomic_store(&h->go[1], 1);
    if (!pm_test_wait_until(job_is_done, j, 10000)) fail_msg("%s: killed behind %u instructions: the job does not end", j->s->name, *made);
    pthread_join(thread, NULL);
    if (j->error) fail_msg("%s: killed behind %u instructions: %d %s", j->s->name, *made, j->error, pmap_error());
    size_t again = 0;
    for (size_t i = 0; i < j->s->count; i++) {
        unsigned runs = atomic_load(&h->plan.runs[i]), first = j->s->after_death && i == j->s->at[0];
        if (j->out[i] != right(j->in[i])) fail_msg("%s: killed behind %u instructions: item %zu is wrong", j->s->name, *made, i);
        if (runs < 1 + first || runs > 2 + first) fail_msg("%s: killed behind %u instructions: item %zu ran %u times", j->s->name, *made, i, runs);
        again += runs - 1 - first;
    }
    if (again > 1) fail_msg("%s: killed behind %u instructions: %zu items ran twice, expected the one it held", j->s->name, *made, again);
    return slept;
}

static void every_instruction(const struct pm_path *path, const struct stretch *s)
{
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* what is stepped through must be the code that is shipped: a sanitizer's checks are most of its own */
#endif
    if (!may_trace()) skip();
    struct job j = {.s = s};
    pmap_options o = pm_path_options(path, s->workers);
    o.spin_us = -1; /* to be stepped through spinning would be long */
    EXPECT(pmap_pool_open(&j.pool, &o), 0);
    j.hold = pmap_alloc(j.pool, sizeof *j.hold + s->count * sizeof(uint32_t));
    j.in = pm_path_alloc(path, j.pool, s->count * 8);
    j.out = pm_path_alloc(path, j.pool, s->count * 8);
    assert_non_null(j.hold);
    for (size_t i = 0; i < s->count; i++) j.in[i] = input_of(i);
    memset(seen, 0, sizeof seen);
    distinct = 0;
    unsigned made, length, steps = 0, traps = 0, met = 0;
    double t = seconds();
    j.measure = true;
    if (!one_kill(&j, s->most ? s->most : 1000000, 0, &length) && !s->most) fail_msg("%s: %u instructions and still at work", s->name, length);
    j.measure = false;
    for (; traps < distinct && seconds() - t < 2 * BUDGET_S; traps++)
        if (!one_kill(&j, 0, first_met[traps], &made)) met++;
    /* The same instruction again, in a later chunk: as many places as the time allows. */
    double end = seconds() + BUDGET_S;
    unsigned stride = length / 61 + 1;
    for (unsigned k = 1; k <= length && seconds() < end; k += stride, steps++) (void)one_kill(&j, k, 0, &made);
    print_message("    %s, %s: %u instructions long, %zu different ones; killed before %u of these, and behind %u steps, in %.1f s\n", path->name, s->name,
                  length, distinct, met, steps, seconds() - t);
    if (met < distinct * 9 / 10) fail_msg("%s: only %u of %zu instructions were met", s->name, met, distinct);
    pm_path_free(path, j.pool, j.in);
    pm_path_free(path, j.pool, j.out);
    pmap_free(j.pool, j.hold);
    check_orderly(j.pool, path, s->name);
    check_close(j.pool, path, s->name);
}

/* Ranges [0, 3) and [3, 6): 0 waits and is stepped over its commit, 1 and 2 and what it can steal of 4 and 5, while 3 waits. */
static void commit_claim_steal(const struct pm_path *path)
{
    static const struct stretch s = {.name = "commit, claim, body, steal", .workers = 2, .count = 6, .chunk = 1, .at = {0, 3}};
    every_instruction(path, &s);
}

/* One worker, 300 items: the first round is 16 of one item; behind the last of these the head moves to the next. */
static void next_round(const struct pm_path *path)
{
    static const struct stretch s = {.name = "next round", .workers = 1, .count = 300, .chunk = 0, .at = {15, 999}, .most = 3000};
    every_instruction(path, &s);
}

static void end_of_the_job(const struct pm_path *path)
{
    static const struct stretch s = {.name = "end of the job", .workers = 1, .count = 300, .chunk = 0, .at = {299, 999}};
    every_instruction(path, &s);
}

static void end_after_a_death(const struct pm_path *path)
{
    static const struct stretch s = {.name = "scan and end after a death", .workers = 1, .count = 4, .chunk = 1, .at = {2, 999}, .after_death = true};
    every_instruction(path, &s);
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"commit claim steal", commit_claim_steal, PM_ON_SHM},
        {"next round", next_round, PM_ON_SHM},
        {"end of the job", end_of_the_job, PM_ON_SHM},
        {"end after a death", end_after_a_death, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("step", tests);
}

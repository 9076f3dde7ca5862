/* A worker stopped behind every single instruction from the end of one task to its sleep behind the last of four, and killed there: each task
 * comes to its end, with its own result or its own words, and none runs again but the one that the worker held.  As test_step.c, which does
 * this for jobs: first the worker is single-stepped all the way, which lists the instructions; then, tasks for tasks, it is killed just
 * before each of them, and behind k steps for k all along the way. */
#include "tests/futures.h"
#include "tests/step.h"

#define TASKS 4u
#define BUDGET_S 3.0 /* for the steps, behind the instructions, which have twice that */
#define MOST_PCS 65536u

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

struct hold {
    _Atomic uint32_t pid, go;
    _Atomic uint32_t runs[TASKS];
};

struct input {
    uint32_t index, fails;
    char letters[200];
};
#define SHORT 60u /* bytes of it that lie in the entry, where the words of a failure are written over them */

static const char words[] = "words of a task that has failed, longer than the 64 bytes of a small result: sixty-four and a few";

static int task_fn(pmap_task *task, const void *in, size_t bytes)
{
    struct hold *h = pmap_task_arg(task);
    const struct input *i = in;
    for (size_t k = 0; k < bytes - offsetof(struct input, letters); k++)
        if (i->letters[k] != 'p') return 66; /* it is not what was given in */
    if (i->index >= TASKS) return 67;
    atomic_fetch_add(&h->runs[i->index], 1);
    if (i->index == 0) {
        atomic_store(&h->pid, (uint32_t)getpid());
        while (!atomic_load(&h->go)) continue;
    }
    if (i->fails) {
        pmap_task_error(task, "%s", words);
        return 9;
    }
    uint64_t *out = pmap_task_result(task, sizeof *out);
    if (!out) return 68;
    *out = i->index + 100;
    return 0;
}

struct series {
    pmap_pool *pool;
    struct hold *hold;
    int fd;
    bool measure;
};

static bool it_waits(void *arg) { return atomic_load(&((struct series *)arg)->hold->pid) != 0; }

/* Steps it over its k first instructions, or to `pc`; how many, and whether it fell asleep. */
static unsigned drive(struct series *s, pid_t pid, unsigned k, uintptr_t pc, bool *slept)
{
    unsigned n = 0;
    *slept = pc && !run_to(pid, pc);
    if (pc) return 0;
    while (n < k) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) break;
        int e = stopped(pid);
        *slept = e == 0;
        if (e != 1) break;
        n++;
        if (s->measure) note(pc_of(pid));
    }
    return n;
}

static void check(struct series *s, pmap_future **f, unsigned made)
{
    unsigned again = 0;
    int e = pmap_wait(f, TASKS, PMAP_ALL, 10);
    if (e) fail_msg("killed behind %u instructions: %d %s", made, e, pmap_error());
    for (uint32_t i = 0; i < TASKS; i++) {
        const void *result;
        unsigned runs = atomic_load(&s->hold->runs[i]);
        e = pmap_future_get(f[i], 0, &result, NULL);
        const pmap_failure *failure = pmap_future_failure(f[i]);
        bool fails = i == 2, right = fails ? e == PMAP_EITEMS && failure->cause == PMAP_CAUSE_CODE && failure->value == 9 && strstr(failure->text, words)
                                           : e == 0 && *(const uint64_t *)result == i + 100;
        if (!right) fail_msg("killed behind %u instructions: task %u: %d %s", made, i, e, e ? pmap_error() : "wrong");
        if (runs < 1 || runs > 2) fail_msg("killed behind %u instructions: task %u ran %u times", made, i, runs);
        again += runs - 1;
        pmap_future_free(f[i]);
    }
    if (again > 1) fail_msg("killed behind %u instructions: %u tasks ran twice", made, again);
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    while ((e = poll(&p, 1, 10000)) < 0 && errno == EINTR) continue;
    if (e != 1) fail_msg("killed behind %u instructions: the descriptor is not readable", made);
    assert_int_equal(pmap_pool_poll(s->pool, 0), 0);
}

/* True when it fell asleep before it came to the place. */
static bool one_kill(struct series *s, unsigned k, uintptr_t pc, unsigned *made)
{
    pmap_future *f[TASKS];
    pmap_submit_options o = with_arg(s->hold);
    memset(s->hold, 0, sizeof *s->hold);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct input in = {.index = i, .fails = i == 2};
        memset(in.letters, 'p', sizeof in.letters);
        f[i] = give(s->pool, task_fn, &in, i == 1 ? sizeof in : SHORT, &o);
    }
    if (!pm_test_wait_until(it_waits, s, 10000)) fail_msg("the first task was not begun within 10 s");
    pid_t pid = (pid_t)atomic_load(&s->hold->pid);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) fail_msg("ptrace of %d: %s", (int)pid, strerror(errno));
    bool slept;
    cpu_set_t before;
    (void)sched_getaffinity(0, sizeof before, &before);
    share_a_cpu(pid);
    ticks(10000);
    if (stopped(pid) != 1) fail_msg("worker %d did not stop", (int)pid);
    atomic_store(&s->hold->go, 1);
    *made = drive(s, pid, k, pc, &slept);
    ticks(0);
    (void)sched_setaffinity(0, sizeof before, &before);
    (void)kill(pid, SIGKILL);
    int status; /* a tracer sees the end first; then the parent, the supervisor, does */
    while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status)) continue;
    check(s, f, *made);
    return slept;
}

static void every_instruction(const struct pm_path *path)
{
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* what is stepped through must be the code that is shipped: a sanitizer's checks are most of its own */
#endif
    if (!may_trace()) skip();
    struct series s = {.measure = true};
    pmap_options o = pm_path_options(path, 1);
    o.spin_us = -1; /* to be stepped through spinning would be long */
    EXPECT(pmap_pool_open(&s.pool, &o), 0);
    s.hold = pmap_alloc(s.pool, sizeof *s.hold);
    assert_non_null(s.hold);
    s.fd = pmap_pool_fd(s.pool); /* so that the bell is rung as well */
    assert_true(s.fd >= 0);
    memset(seen, 0, sizeof seen);
    distinct = 0;
    unsigned made, length, steps = 0, traps = 0, met = 0;
    double t = seconds();
    if (!one_kill(&s, 1000000, 0, &length)) fail_msg("%u instructions and still at work", length);
    s.measure = false;
    for (; traps < distinct && seconds() - t < 2 * BUDGET_S; traps++)
        if (!one_kill(&s, 0, first_met[traps], &made)) met++;
    double end = seconds() + BUDGET_S;
    unsigned stride = length / 61 + 1;
    for (unsigned k = 1; k <= length && seconds() < end; k += stride, steps++) (void)one_kill(&s, k, 0, &made);
    print_message("    %s: %u instructions long, %zu different ones; killed before %u of these, and behind %u steps, in %.1f s\n", path->name, length,
                  distinct, met, steps, seconds() - t);
    /* A slow machine comes to fewer of them in its time; but those that it comes to must be met. */
    if (met < traps * 9 / 10 || traps < 50) fail_msg("only %u of %u instructions were met", met, traps);
    check_orderly(s.pool, path, "after kills");
    check_close(s.pool, path, "after kills");
}

int main(int argc, char **argv)
{
    (void)argc;
    /* All symbols are bound before the workers are forked; else each of them looks them up once, which is most of the instructions. */
    if (!getenv("LD_BIND_NOW") && setenv("LD_BIND_NOW", "1", 1) == 0) (void)execv("/proc/self/exe", argv);
    no_core();
    static const struct pm_path_test tests[] = {{"every instruction of a task", every_instruction, PM_ON_SHM}};
    return PM_PATHS_MAIN("future_step", tests);
}

/* A worker stopped at every place of its way and killed there.  First it is single-stepped all the way, which lists the instructions; then, one
 * round of work after the other, a worker is killed just before each of them, and behind k steps for k all along the way: the same
 * instruction again, in a later turn.  Used by test_step for jobs and by test_future_step for tasks; what a round is, and what must be so
 * behind it, is theirs.  See step.h for how it is done. */
#ifndef PM_TESTS_PLACES_H
#define PM_TESTS_PLACES_H

#include "tests/deaths.h"
#include "tests/step.h"

#define MOST_PCS 65536u

struct way {
    const char *name;
    /* One round, with a call of walk_and_kill(), and its checks. */
    void (*round)(struct way *way);
    void *arg;
    unsigned most;                            /* instructions; 0: until it sleeps */
    double budget_s;                          /* for the steps, behind the instructions, which have twice that */
    /* Of the round: */
    bool measure;                             /* note what is stepped over */
    unsigned k;                               /* kill behind so many steps, */
    uintptr_t pc;                             /* or where it is about to execute this; 0: that is not asked for */
    unsigned made;                            /* steps */
    bool slept;                               /* it had nothing more to do before it came there */
    uintptr_t seen[MOST_PCS], met[MOST_PCS];  /* a hash table; and the same in the order of execution */
    size_t distinct;
};

static void note_place(struct way *w, uintptr_t pc)
{
    size_t h = (size_t)(pc * UINT64_C(0x9e3779b97f4a7c15) >> 48) % MOST_PCS;
    while (w->seen[h] && w->seen[h] != pc) h = (h + 1) % MOST_PCS;
    if (w->seen[h] || w->distinct >= MOST_PCS / 2) return;
    w->seen[h] = pc;
    w->met[w->distinct++] = pc;
}

static void walk(struct way *w, pid_t pid)
{
    w->made = 0;
    w->slept = w->pc && !run_to(pid, w->pc);
    while (!w->pc && w->made < w->k) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) break;
        int state = stopped(pid);
        w->slept = state == 0;
        if (state != 1) break;
        w->made++;
        if (w->measure) note_place(w, pc_of(pid));
    }
}

/* Of a worker that spins until *go is set, from where its way begins.  ticks(0) comes before the round's threads are made: they must not get the
 * signals. */
static void walk_and_kill(struct way *w, pid_t pid, _Atomic uint32_t *go)
{
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) fail_msg("ptrace of %d: %s", (int)pid, strerror(errno));
    if (stopped(pid) != 1) fail_msg("%s: worker %d did not stop", w->name, (int)pid);
    cpu_set_t before;
    (void)sched_getaffinity(0, sizeof before, &before);
    share_a_cpu(pid);
    ticks(10000);
    atomic_store(go, 1);
    walk(w, pid);
    ticks(0);
    (void)sched_setaffinity(0, sizeof before, &before);
    (void)kill(pid, SIGKILL);
    int status; /* a tracer sees the end first; then the parent, the supervisor, does */
    while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status)) continue;
}

static void kill_at_every_place(struct way *w)
{
    unsigned steps = 0, traps = 0, met = 0;
    double t = seconds();
    w->measure = true;
    w->k = w->most ? w->most : 1000000;
    w->round(w);
    if (!w->slept && !w->most) fail_msg("%s: %u instructions and still at work", w->name, w->made);
    unsigned length = w->made, stride = length / 61 + 1;
    w->measure = false;
    for (; traps < w->distinct && seconds() - t < 2 * w->budget_s; traps++) {
        w->pc = w->met[traps];
        w->round(w);
        met += !w->slept;
    }
    double end = seconds() + w->budget_s;
    w->pc = 0;
    for (w->k = 1; w->k <= length && seconds() < end; w->k += stride, steps++) w->round(w);
    print_message("    %s: %u instructions long, %zu different ones; killed before %u of these, and behind %u steps, in %.1f s\n", w->name, length,
                  w->distinct, met, steps, seconds() - t);
    /* A slow machine comes to fewer of them in its time; but those that it comes to must be met. */
    if (met < traps * 9 / 10 || traps < 50) fail_msg("%s: only %u of %u instructions were met", w->name, met, traps);
}

#endif

/* What the tests share that stop a process behind single instructions and kill it there: the test is its tracer.
 * Used by test_step for workers in their jobs, and by the tests of locks for whatever a process does with an object.
 * On other processors than x86-64 there is no pc_of(). */
#ifndef PM_TESTS_STEP_H
#define PM_TESTS_STEP_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"

static inline uintptr_t pc_of(pid_t pid)
{
#if defined(__x86_64__)
    struct { unsigned long r[27]; } regs; /* user_regs_struct; rip is the 17th */
    return ptrace(PTRACE_GETREGS, pid, NULL, &regs) ? 0 : regs.r[16];
#else
    (void)pid;
    return 0;
#endif
}

static inline void tick(int signal) { (void)signal; }

/* A signal now and then ends a waitpid() for a worker that sleeps in a system call. */
static inline void ticks(long every_us)
{
    struct sigaction a = {.sa_handler = tick};
    struct itimerval t = {.it_interval.tv_usec = every_us, .it_value.tv_usec = every_us};
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    (void)sigaction(SIGALRM, &a, NULL);
    (void)setitimer(ITIMER_REAL, &t, NULL);
    (void)pthread_sigmask(every_us ? SIG_UNBLOCK : SIG_BLOCK, &alarm_only, NULL);
}

/* One stop of a traced worker: 1 it has stopped, 0 it sleeps in a system call, -1 it has ended.  One that only waits for a CPU does not sleep. */
static inline int stopped(pid_t pid)
{
    int status;
    for (unsigned interrupted = 0; interrupted < 3;) {
        pid_t got = waitpid(pid, &status, __WALL);
        if (got == pid) return WIFSTOPPED(status) ? 1 : -1;
        if (errno != EINTR) return -1;
        interrupted += pm_test_is_asleep(&pid);
    }
    return 0;
}

/* Tracer and traced take turns: on one CPU a turn costs a fifth. */
static inline void share_a_cpu(pid_t pid)
{
    cpu_set_t mine, one;
    if (sched_getaffinity(0, sizeof mine, &mine)) return;
    CPU_ZERO(&one);
    for (size_t c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &mine)) {
            CPU_SET(c, &one);
            break;
        }
    (void)sched_setaffinity(pid, sizeof one, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

/* Lets it run until it is about to execute the instruction at `pc`; false when it did not come there.  It is killed
 * next, so that the instruction under the trap need not be put back. */
static inline bool run_to(pid_t pid, uintptr_t pc)
{
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
    if (errno || ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)((text & ~0xffL) | 0xcc))) return false;
    return ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && stopped(pid) == 1;
}

static inline bool may_trace(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    bool may = ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
    if (!may) print_message("    ptrace is not allowed here (%s): the test is skipped\n", strerror(errno));
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, __WALL);
    return may;
}

/* ---- One operation, killed behind each of its instructions ---- */

struct stepped {
    const char *name;
    void (*before)(void *arg);               /* in the child, at full speed; may be NULL */
    void (*begin)(void *arg);                /* in the test, when the child has done that; may be NULL */
    void (*operation)(void *arg);            /* in the child; run once in the test before, so that all symbols are bound */
    void (*wake)(void *arg);                 /* when it sleeps for the first time; NULL: the series ends there */
    void (*check)(void *arg, unsigned k);    /* after the child has been killed and reaped */
    void *arg;
};

struct step_flags {
    _Atomic uint32_t ready, go, done;
};

struct step_count {
    unsigned instructions, calls; /* of the whole operation; system calls among them */
};

static inline bool step_is_ready(void *arg) { return atomic_load(&((struct step_flags *)arg)->ready) != 0; }

static inline bool at_system_call(pid_t pid)
{
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)pc_of(pid), NULL);
    return !errno && (text & 0xffff) == 0x050f;
}

/* Kills it behind k instructions; true when it had come to the end of the operation, or sleeps, before. */
static inline bool step_and_kill(const struct stepped *s, struct step_flags *flags, unsigned k, struct step_count *count)
{
    memset(flags, 0, sizeof *flags);
    pid_t pid = fork();
    if (pid == 0) {
        if (s->before) s->before(s->arg);
        atomic_store(&flags->ready, 1);
        while (!atomic_load(&flags->go)) continue;
        s->operation(s->arg);
        atomic_store(&flags->done, 1);
        for (;;) pause();
    }
    assert_true(pid > 0);
    if (!pm_test_wait_until(step_is_ready, flags, 10000)) fail_msg("%s: the child did not start", s->name);
    if (s->begin) s->begin(s->arg);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) fail_msg("ptrace of %d: %s", (int)pid, strerror(errno));
    if (stopped(pid) != 1) fail_msg("%s: the child did not stop", s->name);
    cpu_set_t before;
    (void)sched_getaffinity(0, sizeof before, &before);
    share_a_cpu(pid);
    ticks(10000);
    atomic_store(&flags->go, 1);
    bool over = false, woken = false;
    *count = (struct step_count){0};
    while (!over && count->instructions < k) {
        count->calls += at_system_call(pid);
        int state = ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) ? -1 : stopped(pid);
        if (state == 0 && s->wake && !woken) { /* the step that it is in ends when it is woken */
            s->wake(s->arg);
            woken = true;
            state = stopped(pid);
        }
        over = state != 1 || atomic_load(&flags->done);
        count->instructions++;
    }
    ticks(0);
    (void)sched_setaffinity(0, sizeof before, &before);
    (void)kill(pid, SIGKILL);
    int status;
    while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status)) continue;
    s->check(s->arg, k);
    return over;
}

static inline unsigned common_divisor(unsigned a, unsigned b) { return b ? common_divisor(b, a % b) : a; }

/* Behind every instruction, or behind as many of them, evenly spread, as $PM_STEP_S seconds allow (1.5 when it is not
 * set).  Skips the test where that cannot be done. */
static inline struct step_count kill_everywhere(const struct stepped *s)
{
    struct step_count whole = {0}, count;
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* what is stepped through must be the code that is shipped */
#endif
    if (!may_trace()) skip();
    struct step_flags *flags = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(flags, MAP_FAILED);
    (void)step_and_kill(s, flags, 1000000, &whole);
    const char *budget = getenv("PM_STEP_S");
    double end = seconds() + (budget ? atof(budget) : 1.5);
    unsigned kills = 0, n = whole.instructions, stride = n * 5 / 8 + 1; /* all of them in the end, but far apart at first */
    while (common_divisor(stride, n) != 1) stride++;
    for (unsigned k = stride % n; kills < n && seconds() < end; k = (k + stride) % n, kills++) (void)step_and_kill(s, flags, k, &count);
    print_message("    %s: %u instructions, %u of them system calls; killed behind %u of them\n", s->name, whole.instructions, whole.calls, kills);
    (void)munmap(flags, 4096);
    return whole;
}

#endif

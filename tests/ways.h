/* Every way in which a function can end its worker, and what the pool then says of the item.  Used by the tests of deaths in maps, futures,
 * streams and pipelines (test_deaths, test_future_deaths, test_imap_deaths, test_pipeline_errors). */
#ifndef PM_TESTS_WAYS_H
#define PM_TESTS_WAYS_H

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "tests/deaths.h"

/* What a sanitizer would report instead. */
#define UNCHECKED __attribute__((no_sanitize("undefined", "address"), noinline, unused))

static volatile uintptr_t nowhere = 64;
static volatile int zero;
static volatile int sink;

UNCHECKED static void by_segv(void) { *(volatile int *)nowhere = 1; }
UNCHECKED static void by_abort(void) { abort(); }

UNCHECKED static void by_fpe(void)
{
    sink = 1 / zero;
    raise(SIGFPE); /* where a division by zero does not trap */
}

UNCHECKED static int dig(int depth)
{
    volatile char hole[4096];
    hole[0] = (char)depth;
    hole[sizeof hole - 1] = 1;
    return depth == zero - 1 ? 0 : dig(depth + 1) + hole[0]; /* in principle it ends */
}

static inline void by_stack(void)
{
    struct rlimit small = {2 << 20, RLIM_INFINITY}, now; /* also where the limit is none */
    if (getrlimit(RLIMIT_STACK, &now) == 0) small.rlim_max = now.rlim_max;
    (void)setrlimit(RLIMIT_STACK, &small);
    sink = dig(0);
}

/* Takes memory until there is no more, and gives up as most programs do.  The limit is the worker's own: nothing else runs short. */
static inline void by_want_of_memory(void)
{
    struct rlimit limit;
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%ld", &pages) != 1 || getrlimit(RLIMIT_AS, &limit)) _exit(92);
    fclose(file);
    limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (32 << 20);
    if (limit.rlim_cur > limit.rlim_max) limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_AS, &limit)) _exit(93);
    for (int i = 0; i < 4096; i++) {
        volatile char *p = malloc(1 << 20);
        if (!p) abort();
        p[0] = p[1 << 19] = 1;
    }
    _exit(94);
}

UNCHECKED static void by_bus(void) /* as where a file system is full */
{
    int fd = memfd_create("bus", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 4096)) _exit(90);
    volatile char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED || ftruncate(fd, 0)) _exit(91);
    *p = 1;
}

static inline void by_ill(void) { raise(SIGILL); }
static inline void by_exit(void) { exit(0); }
static inline void by_exit_now(void) { _exit(1); }
static inline void by_thread_exit(void) { pthread_exit(NULL); }

static inline void *stay(void *unused)
{
    (void)unused;
    for (;;) pause();
    return NULL;
}

static inline void by_thread_exit_beside_another(void) /* which would keep the process alive */
{
    pthread_t other;
    if (pthread_create(&other, NULL, stay, NULL)) _exit(95);
    pthread_exit(NULL);
}

static inline void by_kill(void) { kill(getpid(), SIGKILL); }
static inline void by_stop(void) { raise(SIGSTOP); }

static inline void by_loop(void)
{
    for (;;) __asm__ __volatile__("" ::: "memory");
}

static inline void by_stubborn_loop(void)
{
    signal(SIGTERM, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    by_loop();
}

static const struct way {
    const char *name;
    void (*die)(void);
    pmap_cause cause;
    int value;
    double timeout_s;
} ways[] = {
    {"SIGSEGV", by_segv, PMAP_CAUSE_SIGNAL, SIGSEGV, 0},
    {"SIGABRT", by_abort, PMAP_CAUSE_SIGNAL, SIGABRT, 0},
    {"SIGFPE", by_fpe, PMAP_CAUSE_SIGNAL, SIGFPE, 0},
    {"stack overflow", by_stack, PMAP_CAUSE_SIGNAL, SIGSEGV, 0},
#if !defined(__SANITIZE_ADDRESS__) /* whose malloc() does not return when there is no memory */
    {"want of memory", by_want_of_memory, PMAP_CAUSE_SIGNAL, SIGABRT, 0},
#endif
    {"SIGBUS", by_bus, PMAP_CAUSE_SIGNAL, SIGBUS, 0},
    {"SIGILL", by_ill, PMAP_CAUSE_SIGNAL, SIGILL, 0},
    {"exit(0)", by_exit, PMAP_CAUSE_EXIT, 0, 0},
    {"_exit(1)", by_exit_now, PMAP_CAUSE_EXIT, 1, 0},
    {"pthread_exit", by_thread_exit, PMAP_CAUSE_EXIT, 0, 0},
    {"pthread_exit beside a thread", by_thread_exit_beside_another, PMAP_CAUSE_EXIT, 0, 0},
    {"SIGKILL", by_kill, PMAP_CAUSE_SIGNAL, SIGKILL, 0},
    {"SIGSTOP", by_stop, PMAP_CAUSE_TIMEOUT, 0, 0.05},
    {"endless loop", by_loop, PMAP_CAUSE_TIMEOUT, 0, 0.05},
    {"SIGTERM ignored", by_stubborn_loop, PMAP_CAUSE_TIMEOUT, 0, 0.05},
};
#define WAYS (sizeof ways / sizeof ways[0])

#endif

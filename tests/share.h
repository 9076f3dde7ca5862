/* What the tests of locks and counters share: children that begin together, pieces of shared memory, deaths in all
 * forms. */
#ifndef PM_TESTS_SHARE_H
#define PM_TESTS_SHARE_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmap/pmap.h"
#include "tests/paths.h"

/* Shared with children; zero. */
static inline void *shared_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

/* The function in a child; its value is the exit status. */
static inline pid_t start(int (*function)(void *arg), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka's handlers would jump back into the tests */
        signal(SIGABRT, SIG_DFL);
        _exit(function(arg));
    }
    assert_true(pid > 0);
    return pid;
}

static inline int end_of(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

static inline void kill_and_reap(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)end_of(pid);
}

static inline void wait_asleep(pid_t pid)
{
    if (!pm_test_wait_until(pm_test_is_asleep, &pid, 10000)) fail_msg("process %d does not fall asleep", (int)pid);
}

static inline bool is_set(void *word) { return atomic_load((_Atomic uint32_t *)word) != 0; }
static inline void wait_set(_Atomic uint32_t *word)
{
    if (!pm_test_wait_until(is_set, word, 10000)) fail_msg("a flag was not set within 10 s");
}

/* ---- How a holder may end ---- */
enum { BY_EXIT, BY_SIGNAL, BY_EXEC, BY_THREAD, DEATHS };
static const char *const death_names[] = {"exit", "SIGKILL", "exec", "the end of its thread"};

struct dying {
    int death;
    void (*hold)(void *arg);
    void *arg;
    _Atomic uint32_t *held; /* set when it holds and, if it lives on, has ended otherwise */
};

static inline void *holding_thread(void *arg)
{
    struct dying *d = arg;
    d->hold(d->arg);
    return NULL;
}

static inline int die_holding(void *arg)
{
    struct dying *d = arg;
    if (d->death == BY_THREAD) { /* its process lives on */
        pthread_t thread;
        if (pthread_create(&thread, NULL, holding_thread, d)) return 1;
        pthread_join(thread, NULL);
        atomic_store(d->held, 1);
        for (;;) pause();
    }
    d->hold(d->arg);
    atomic_store(d->held, 1);
    if (d->death == BY_SIGNAL) raise(SIGKILL);
    if (d->death == BY_EXEC) execlp("sleep", "sleep", "1000", (char *)NULL); /* lives on too */
    return 0;
}

/* Somebody takes what `hold` takes and ends that way.  kill_and_reap() what is returned. */
static inline pid_t died_holding(int death, void (*hold)(void *arg), void *arg)
{
    static _Atomic uint32_t *held;
    if (!held) held = shared_memory(4096);
    atomic_store(held, 0);
    struct dying d = {.death = death, .hold = hold, .arg = arg, .held = held};
    pid_t pid = start(die_holding, &d);
    wait_set(held);
    return pid;
}

/* For a second children do `work`, which must never return, and are killed and replaced one after the other, wherever
 * they are.  How many were killed. */
static inline unsigned storm_of_kills(int (*work)(void *arg), void *arg)
{
    enum { N = 3 };
    pid_t pids[N];
    unsigned kills = 0;
    for (unsigned i = 0; i < N; i++) pids[i] = start(work, arg);
    for (double end = seconds() + 1; seconds() < end; kills++) {
        struct timespec t = {.tv_nsec = 10000 + (long)(kills * 7919 % 400) * 1000};
        unsigned i = kills % N;
        nanosleep(&t, NULL); /* nothing is waited for: how far they come is chance anyway */
        (void)kill(pids[i], SIGKILL);
        int status = end_of(pids[i]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            fail_msg("after %u kills: process %u ended by itself: %#x", kills, i, (unsigned)status);
        pids[i] = start(work, arg);
    }
    for (unsigned i = 0; i < N; i++) kill_and_reap(pids[i]);
    return kills;
}

/* ---- Many at once ---- */

struct crew {
    void (*work)(void *arg, unsigned index);
    void *arg;
    unsigned index;
};

static inline int crew_child(void *arg)
{
    struct crew *c = arg;
    c->work(c->arg, c->index);
    return 0;
}

static inline void *crew_thread(void *arg) { return (void *)(intptr_t)crew_child(arg); }

static inline int crew_item(pmap_task *task, const void *item, void *result)
{
    struct crew *c = pmap_task_arg(task);
    (void)item;
    (void)result;
    c->work(c->arg, (unsigned)pmap_task_index(task));
    return 0;
}

#define MOST_CREW 16u

static inline void crew_of_processes(unsigned n, void (*work)(void *arg, unsigned index), void *arg)
{
    pid_t pids[MOST_CREW];
    struct crew c = {work, arg, 0};
    for (c.index = 0; c.index < n; c.index++) pids[c.index] = start(crew_child, &c);
    for (unsigned i = 0; i < n; i++) {
        int status = end_of(pids[i]);
        if (status) fail_msg("process %u ended with status %#x", i, (unsigned)status);
    }
}

static inline void crew_of_threads(unsigned n, void (*work)(void *arg, unsigned index), void *arg)
{
    pthread_t threads[MOST_CREW];
    struct crew c[MOST_CREW];
    for (unsigned i = 0; i < n; i++) {
        c[i] = (struct crew){work, arg, i};
        assert_int_equal(pthread_create(&threads[i], NULL, crew_thread, &c[i]), 0);
    }
    for (unsigned i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

/* n items, one a chunk, on the pool's workers; `arg` must be shared with them. */
static inline void crew_of_workers(pmap_pool *pool, unsigned n, void (*work)(void *arg, unsigned index), void *arg)
{
    struct crew c = {work, arg, 0};
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = &c;
    o.arg_size = sizeof c;
    o.chunk = 1;
    EXPECT(pmap_map(pool, crew_item, NULL, n, 0, NULL, 0, &o), 0);
}

#endif

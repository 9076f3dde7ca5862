/* A board in an arena with threads in the place of processes, for the tests of the protocol (workers/DESIGN.md):
 * test_job.c and test_repair.c.  A thread that dies is one that leaves in the middle of an item; it is confirmed dead when it has
 * been joined.  Needs workers/ and shm/ only; the thread sanitizer sees all of it. */
#ifndef PM_TESTS_SCENE_H
#define PM_TESTS_SCENE_H

#include "tests/harness.h"
#include "workers/failures.h"
#include "workers/job.h"
#include "workers/round.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define FEWER 10
#else
#define FEWER 1
#endif

#define SLOTS 6
#define MOST_ITEMS (PM_WINDOW + 40000u) /* two rounds of single items */

enum { DIE_NEVER, DIE_ONCE, DIE_POISON };

/* One scene: a board, its threads, and what the body saw.  Static, because bodies carry no pointer of their own here.
 * */
static struct {
    struct pm_arena arena;
    struct pm_board *board;
    struct pm_job *job;
    struct pm_worker *worker; /* one a slot */
    pthread_t thread[SLOTS];
    unsigned threads;
    struct pm_event died;
    _Atomic bool dead[SLOTS];
    _Atomic uint32_t begun[MOST_ITEMS], done[MOST_ITEMS];
    _Atomic uint64_t ran, stop_at, wrong;
    int die;
    uint64_t poison, fail_every, serial;
} s;

static uint64_t hash(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void maybe_die(struct pm_run *run, uint64_t i, uint32_t before)
{
    bool now = s.die == DIE_ONCE ? before == 0 && hash(i) % 61 == 0 : s.die == DIE_POISON && i == s.poison;
    if (!now) return;
    atomic_store(&s.dead[run->worker], true);
    pm_event_notify(&s.died, INT_MAX);
    pthread_exit(NULL);
}

static uint64_t by_items(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    for (uint64_t i = lo; i < hi; i++) {
        if (pm_run_stopped(run)) return i;
        pm_run_at(run, i);
        maybe_die(run, i, atomic_fetch_add(&s.begun[i], 1));
        if (atomic_fetch_add(&s.ran, 1) + 1 == atomic_load(&s.stop_at)) pm_job_stop(s.board, s.job);
        if (s.fail_every && i % s.fail_every == 0) (run->fail)(run, i, 1, 5, 1);
        atomic_fetch_add(&s.done[i], 1);
    }
    return hi;
}

static void open_scene(unsigned cpus)
{
    memset(&s, 0, sizeof s);
    assert_int_equal(pm_arena_open(&s.arena, pm_board_bytes(SLOTS), 1 << 21, false), 0);
    assert_int_equal(pm_board_open(&s.board, &s.arena, SLOTS, SLOTS, cpus, 0), 0);
    s.job = &s.board->job[3];
    size_t words = (size_t)((char *)(void *)s.job->word - s.arena.base);
    assert_int_equal(pm_arena_commit(&s.arena, words, (PM_WINDOW + 1) * sizeof(uint64_t)), 0);
    s.job->words = PM_WINDOW;
    s.worker = aligned_alloc(128, (SLOTS * sizeof *s.worker + 127) / 128 * 128);
    assert_non_null(s.worker);
    for (unsigned i = 0; i < SLOTS; i++) {
        atomic_store(&s.board->slot[i].gen, 1);
        pm_worker_init(&s.worker[i], s.board, i);
    }
}

static void close_scene(void)
{
    free(s.worker);
    pm_arena_close(&s.arena);
}

static struct pm_work work_of(uint64_t count, uint64_t chunk)
{
    return (struct pm_work){.body.run = by_items, .how = PM_HOW_ITEMS, .count = count, .chunk = chunk, .retries = 2};
}

static uint32_t open_job(const struct pm_work *work)
{
    for (uint64_t i = 0; i < work->count; i++) s.begun[i] = s.done[i] = 0;
    atomic_store(&s.ran, 0);
    return pm_job_open(s.board, s.job, work, NULL, ++s.serial);
}

static void *take_part(void *arg)
{
    struct pm_worker *me = arg;
    for (;;) {
        uint32_t key = pm_event_key(&s.board->work);
        bool worked = pm_job_work(me, s.job);
        if (pm_job_finished(s.job)) break;
        if (!worked) (void)pm_event_wait(&s.board->work, key, -1);
    }
    pm_board_wake_all(s.board);
    return NULL;
}

static void start(unsigned i)
{
    atomic_store(&s.dead[i], false);
    pm_worker_init(&s.worker[i], s.board, i);
    assert_int_equal(pthread_create(&s.thread[i], NULL, take_part, &s.worker[i]), 0);
}

static void bury(unsigned i)
{
    struct pm_slot *slot = &s.board->slot[i];
    struct pm_death death = {.slot = i, .gen = atomic_load(&slot->gen), .cause = PM_SIGNAL, .value = 11,
                             .charged = true};
    pthread_join(s.thread[i], NULL);
    for (unsigned j = 0; j < PM_JOBS; j++) (void)pm_job_repair(s.board, &s.board->job[j], &death);
    atomic_store(&slot->gen, death.gen + 1);
    start(i);
    pm_board_wake_all(s.board);
}

/* The open job with that many threads, to its end; dead ones are buried and replaced. */
static void run_to_the_end(unsigned threads)
{
    for (unsigned i = 0; i < threads; i++) start(i);
    while (!pm_job_finished(s.job)) {
        uint32_t key = pm_event_key(&s.died), done = pm_event_key(&s.job->done);
        bool any = false;
        for (unsigned i = 0; i < threads; i++)
            if (atomic_load(&s.dead[i])) {
                bury(i);
                any = true;
            }
        if (any || pm_job_finished(s.job)) continue;
        (void)done;
        (void)pm_event_wait(&s.died, key, s.die == DIE_NEVER ? 10000000 : 1000000);
    }
    pm_board_wake_all(s.board);
    for (unsigned i = 0; i < threads; i++) pthread_join(s.thread[i], NULL);
}

static void all_done_once(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (atomic_load(&s.done[i]) != 1) fail_msg("item %llu was done %u times", (unsigned long long)i,
                                                   atomic_load(&s.done[i]));
}

static inline int failures_of(struct pm_job *job, struct pm_failure **list, size_t *n)
{
    struct pm_failures all = {0};
    pm_job_failures(job, &all, 0);
    return pm_failures_take(&all, list, n);
}

static void no_failures(void)
{
    struct pm_failure *f;
    size_t n;
    assert_int_equal(failures_of(s.job, &f, &n), 0);
    assert_int_equal(n, 0);
}

#endif

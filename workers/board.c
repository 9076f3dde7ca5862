/* Lays the board out in the arena, and wakes its workers. */
#include "workers/board.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "shm/size.h"
#include "workers/tasks.h"

#define PAGE 4096u
#define SMALL (64u << 10)

struct layout {
    size_t ranges, slots, tallies, words, logs, tasks, end, range_each;
};

static size_t up(size_t n) { return (n + PAGE - 1) & ~(size_t)(PAGE - 1); }

static unsigned spread_of(unsigned workers, unsigned cpus)
{
    /* More ranges than CPUs would only be more places to steal from: workers beyond that share. */
    unsigned n = workers < cpus ? workers : cpus;
    return n < 256 ? n : 256;
}

static size_t slot_bytes(unsigned workers) { return up(sizeof(struct pm_slot) * workers); }
static size_t tally_bytes(unsigned workers) { return up(sizeof(struct pm_tally) * PM_JOBS * workers); }

static struct layout lay(unsigned most)
{
    struct layout l;
    l.range_each = sizeof(struct pm_line) * (most < 256 ? most : 256);
    l.ranges = up(sizeof(struct pm_board));
    l.slots = l.ranges + up(l.range_each * PM_JOBS);
    l.tallies = l.slots + slot_bytes(most);
    l.words = l.tallies + tally_bytes(most);
    l.logs = l.words + up(sizeof(uint64_t) * (PM_WINDOW + 1)) * PM_JOBS;
    l.tasks = l.logs + up(sizeof(struct pm_failure) * PM_LOG) * PM_JOBS;
    l.end = l.tasks + pm_tasks_bytes(most);
    return l;
}

size_t pm_board_bytes(unsigned most) { return lay(most).end; }

/* Commits the pages that `bytes` at `from` need beyond those that `had` needed. */
static int commit_more(struct pm_arena *arena, size_t from, size_t had, size_t bytes)
{
    return bytes > had ? pm_arena_commit(arena, from + had, bytes - had) : 0;
}

static int commit_workers(struct pm_arena *arena, const struct layout *l, unsigned had, unsigned workers)
{
    int e = commit_more(arena, l->slots, slot_bytes(had), slot_bytes(workers));
    if (e) return e;
    e = commit_more(arena, l->tallies, tally_bytes(had), tally_bytes(workers));
    if (e && slot_bytes(workers) > slot_bytes(had))
        pm_arena_release(arena, l->slots + slot_bytes(had), slot_bytes(workers) - slot_bytes(had));
    return e;
}

static int64_t clock_cost(void)
{
    int64_t t = pm_now(), least = INT64_MAX;
    for (int i = 0; i < 8; i++) {
        int64_t u = pm_now();
        if (u - t < least) least = u - t;
        t = u;
    }
    return least;
}

int pm_board_open(struct pm_board **out, struct pm_arena *arena, unsigned workers, unsigned most, unsigned cpus, int64_t spin_ns)
{
    struct layout l = lay(most);
    if (arena->control < l.end) return -ENOMEM;
    /* Words are committed as jobs need them, log entries when written.  What the first workers need is one piece with the rest if the gaps are small. */
    size_t whole = l.tallies + tally_bytes(workers);
    int e = pm_arena_commit(arena, 0, whole <= SMALL ? whole : l.slots);
    if (!e && whole > SMALL) e = commit_workers(arena, &l, 0, workers);
    if (e) return e;
    struct pm_board *b = (struct pm_board *)(void *)arena->base;
    atomic_store(&b->workers, workers);
    atomic_store(&b->wanted, workers);
    atomic_store(&b->spread, spread_of(workers, cpus));
    b->most = most;
    b->cpus = cpus;
    b->spin_ns = spin_ns;
    b->clock_ns = clock_cost();
    b->arena = *arena;
    b->arena.fd = -1;
    b->tasks_at = l.tasks;
    b->slot = (struct pm_slot *)(void *)(arena->base + l.slots);
    for (unsigned j = 0; j < PM_JOBS; j++) {
        struct pm_job *job = &b->job[j];
        job->index = j;
        job->board = b;
        job->spread = spread_of(workers, cpus);
        job->head = &b->head[j];
        atomic_store(&job->serial, j + 1); /* and PM_JOBS more for each call: never the same twice */
        job->range = (struct pm_line *)(void *)(arena->base + l.ranges + j * l.range_each);
        job->tally = (struct pm_tally *)(void *)(arena->base + l.tallies) + j;
        job->word = (_Atomic uint64_t *)(void *)(arena->base + l.words + j * up(sizeof(uint64_t) * (PM_WINDOW + 1)));
        job->log = (struct pm_failure *)(void *)(arena->base + l.logs + j * up(sizeof(struct pm_failure) * PM_LOG));
    }
    *out = b;
    return 0;
}

int pm_board_resize(struct pm_board *b, struct pm_arena *arena, unsigned workers)
{
    struct layout l = lay(b->most);
    unsigned had = atomic_load(&b->workers);
    if (workers > b->most) return -EINVAL;
    int e = workers > had ? commit_workers(arena, &l, had, workers) : 0;
    if (e) return e;
    if (workers > had) atomic_store(&b->workers, workers); /* before `wanted`: whoever sees that may touch the slot */
    atomic_store(&b->spread, spread_of(workers, b->cpus));
    atomic_store(&b->wanted, workers);
    return 0;
}

/* Number and shortest are one word: two, changed one after the other, would be those of different moments when one ends as another begins. */
#define TIMED_BITS 21 /* more than jobs and tasks together; the rest is the time, in units of 1024 ns */
#define TIMED_MASK ((UINT64_C(1) << TIMED_BITS) - 1)
_Static_assert(PM_JOBS + PM_TASKS <= TIMED_MASK, "all may have a deadline");

bool pm_board_time(struct pm_board *b, int64_t timeout_ns)
{
    uint64_t units = (uint64_t)timeout_ns >> 10, most = UINT64_MAX >> TIMED_BITS, w = atomic_load(&b->timed), next;
    units = units < 1 ? 1 : units < most ? units : most;
    bool shorter;
    do {
        shorter = !(w & TIMED_MASK) || units < w >> TIMED_BITS;
        next = (w & TIMED_MASK) + 1;
        next |= (shorter ? units : w >> TIMED_BITS) << TIMED_BITS;
    } while (!atomic_compare_exchange_weak(&b->timed, &w, next));
    return shorter;
}

void pm_board_untime(struct pm_board *b)
{
    uint64_t w = atomic_load(&b->timed);
    while (!atomic_compare_exchange_weak(&b->timed, &w, (w & TIMED_MASK) > 1 ? w - 1 : 0)) continue;
}

int64_t pm_board_shortest(struct pm_board *b) { return (int64_t)(atomic_load(&b->timed) >> TIMED_BITS << 10); }

void pm_board_wake(struct pm_board *b, uint32_t chunks)
{
    uint32_t n = chunks < b->cpus ? chunks : b->cpus;
    pm_event_notify(&b->work, n < 1 ? 1 : (int)n);
}

bool pm_board_busy(struct pm_board *b)
{
    for (uint64_t rest = atomic_load(&b->used); rest; rest &= rest - 1) {
        enum pm_state s = pm_word_state(atomic_load(&b->head[__builtin_ctzll(rest)]));
        if (s == PM_OPEN || s == PM_MOVING || s == PM_CANCELLED) return true;
    }
    struct pm_tasks *tasks = atomic_load(&b->tasks);
    return tasks && pm_task_waiting(tasks);
}

void pm_board_wake_all(struct pm_board *b) { pm_event_notify(&b->work, INT_MAX); }

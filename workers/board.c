/* Lays the board out in the arena, and wakes its workers. */
#include "workers/board.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "shm/size.h"
#include "workers/tasks.h"

#define PAGE 4096u

struct layout {
    size_t slots, ranges, tallies, words, logs, tasks, end, range_each, tally_each;
};

static size_t up(size_t n) { return (n + PAGE - 1) & ~(size_t)(PAGE - 1); }

static unsigned spread_of(unsigned workers, unsigned cpus)
{
    /* More ranges than CPUs would only be more places to steal from: workers beyond that share. */
    unsigned n = workers < cpus ? workers : cpus;
    return n < 256 ? n : 256;
}

static struct layout lay(unsigned workers)
{
    struct layout l;
    l.range_each = sizeof(struct pm_line) * (workers < 256 ? workers : 256);
    l.tally_each = sizeof(struct pm_tally) * workers;
    l.slots = up(sizeof(struct pm_board));
    l.ranges = l.slots + up(sizeof(struct pm_slot) * workers);
    l.tallies = l.ranges + up(l.range_each * PM_JOBS);
    l.words = l.tallies + up(l.tally_each * PM_JOBS);
    l.logs = l.words + up(sizeof(uint64_t) * (PM_WINDOW + 1)) * PM_JOBS;
    l.tasks = l.logs + up(sizeof(struct pm_failure) * PM_LOG) * PM_JOBS;
    l.end = l.tasks + pm_tasks_bytes(workers);
    return l;
}

size_t pm_board_bytes(unsigned workers) { return lay(workers).end; }

int pm_board_open(struct pm_board **out, struct pm_arena *arena, unsigned workers, unsigned cpus, int64_t spin_ns)
{
    struct layout l = lay(workers);
    if (arena->control < l.end) return -ENOMEM;
    int e = pm_arena_commit(arena, 0, l.words); /* words are committed as jobs need them, log entries when written */
    if (e) return e;
    struct pm_board *b = (struct pm_board *)(void *)arena->base;
    b->workers = workers;
    b->cpus = cpus;
    b->spread = spread_of(workers, cpus);
    b->spin_ns = spin_ns;
    b->arena = *arena;
    b->arena.fd = -1;
    b->tasks_at = l.tasks;
    b->slot = (struct pm_slot *)(void *)(arena->base + l.slots);
    for (unsigned j = 0; j < PM_JOBS; j++) {
        struct pm_job *job = &b->job[j];
        job->index = j;
        job->head = &b->head[j];
        atomic_store(&job->serial, j + 1); /* and PM_JOBS more for each call: never the same twice */
        job->workers = workers;
        job->spread = b->spread;
        job->range = (struct pm_line *)(void *)(arena->base + l.ranges + j * l.range_each);
        job->tally = (struct pm_tally *)(void *)(arena->base + l.tallies + j * l.tally_each);
        job->word = (_Atomic uint64_t *)(void *)(arena->base + l.words + j * up(sizeof(uint64_t) * (PM_WINDOW + 1)));
        job->log = (struct pm_failure *)(void *)(arena->base + l.logs + j * up(sizeof(struct pm_failure) * PM_LOG));
    }
    *out = b;
    return 0;
}

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

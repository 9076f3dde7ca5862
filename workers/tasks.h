/* Tasks: work that arrives one by one (futures, streams, pipelines), beside the jobs of board.h whose items are all known.  The same
 * law holds: an entry's word is the truth, everything else here is a hint that may be stale, doubled or lost.
 *
 *     FREE(turn) -> CLAIMED(slot, gen) -> DONE | FAILED            by a worker
 *     CLAIMED(dead) -> FREE(attempt) | FAILED                      by the supervisor, after the kernel has confirmed the death
 *     FREE -> CANCELLED                                            by the application
 *
 * A terminal entry is the application's alone: it fills it again with the next turn.  How a worker finds FREE entries: the ring of
 * announcements, in the order of submission; its own errand; and orphans, which a death left behind.
 *
 *     a worker                                          its death in between
 *     spot.task = entry                                 nothing was taken; a spurious orphan at worst
 *     CAS next: position -> position + 1                announced no more, FREE: the supervisor makes it an orphan
 *     CAS word FREE -> CLAIMED(me)                      FREE again with one attempt more, and an orphan; or FAILED
 *     run; write the result; store DONE or FAILED       terminal: the supervisor hands in the hint that it is finished
 *     finished hint; notify; spot.task = 0
 *
 * The hints of finished entries go through a ring of each worker's own.  One that is full sets `lost`, and the application
 * looks at all entries once.  So no list here is ever half linked, and nobody waits for a position. */
#ifndef PM_WORKERS_TASKS_H
#define PM_WORKERS_TASKS_H

#include <stdalign.h>

#include "shm/arena.h"
#include "shm/event.h"
#include "shm/word.h"
#include "workers/executor.h"
#include "workers/run.h"

#define PM_TASKS (1u << 20)     /* entries: tasks that are queued, run, or finished and not yet given back */
#define PM_POSITIONS (1u << 21) /* of the ring: more than entries, so that announcements of cancelled ones have room */
#define PM_INLINE 64u           /* bytes of input, and of result, that lie in the entry */
#define PM_HINTS 1024u

struct pm_entry {
    alignas(64) _Atomic uint64_t word;
    /* What follows is written by the application while the word is terminal, or where marked by the owner of a claim. */
    int (*run)(struct pm_run *run, struct pm_entry *entry); /* 0, or the code with which it failed */
    void (*function)(void);
    const void *in;
    char *out;
    size_t in_bytes, out_max;
    size_t out_bytes;           /* claim: of the result; above out_max when it was too large */
    void *arg;
    uint64_t index, seed;
    int64_t timeout_ns;
    _Atomic uint32_t doomed;    /* the application: this turn is to be ended while it runs */
    uint8_t retries, once;
    uint8_t cause, attempts;    /* claim, or supervisor: of a failure */
    int32_t value;
    _Atomic uint32_t errand;    /* worker + 1: for that worker only; 0 = for any */
    uint64_t position;          /* of its announcement: the application's own */
    alignas(64) char small[PM_INLINE]; /* input */
    char result[PM_INLINE];     /* result; of a failed task `small` and this are the function's own words */
};
_Static_assert(sizeof(struct pm_entry) == 256, "an entry is four cache lines");
_Static_assert(2 * PM_INLINE >= PM_TEXT, "a failure's text fits");

/* Hints of one producer, read by the application. */
struct pm_hints {
    alignas(128) _Atomic uint32_t tail; /* the worker; of a dead one the supervisor */
    _Atomic uint32_t lost;              /* set by the producer, taken by the application */
    alignas(64) _Atomic uint32_t head;  /* the application */
    alignas(64) _Atomic uint32_t entry[PM_HINTS];
    alignas(64) _Atomic uint32_t orphan; /* entry + 1 that this worker's death left; the supervisor sets it, any worker takes it */
    _Atomic uint32_t errand;             /* entry + 1 for this worker alone, or that was; the application sets it */
};

struct pm_tasks {
    alignas(128) _Atomic uint64_t tail; /* the application: positions announced */
    alignas(128) _Atomic uint64_t next; /* workers: positions taken */
    alignas(128) _Atomic uint32_t orphans, errands; /* how many are marked somewhere */
    alignas(128) struct pm_event done;  /* threads of the application sleep here; notified for each finished task */
    _Atomic uint32_t bell;              /* the application: it wants its descriptor to become readable */
    _Atomic uint64_t retries;           /* the supervisor: tasks run again, and failed by deaths */
    _Atomic uint32_t workers;           /* the application: that have hints; never falls */
    struct pm_event *work;              /* where the workers sleep */
    struct pm_entry *entry;
    _Atomic uint32_t *ring;
    struct pm_hints *hints;             /* one a worker */
    int bell_fd;                        /* of workers that are threads; -1: the supervisor rings */
};

/* Bytes of arena that the tables for at most so many workers need; and makes them at `at`, in memory that is new, for `workers` of them.  The
 * entries and the ring are not committed.  0 or -errno. */
size_t pm_tasks_bytes(unsigned most);
int pm_tasks_open(struct pm_tasks **tasks, struct pm_arena *arena, size_t at, unsigned workers, unsigned most, struct pm_event *work);
int pm_tasks_grow(struct pm_tasks *tasks, struct pm_arena *arena, unsigned workers); /* there may be so many from now on */

/* ---- The application ---- */

/* The entry, filled and not FREE, becomes FREE with this turn; `position` of the ring is committed. */
void pm_task_announce(struct pm_tasks *tasks, uint32_t index, uint32_t turn);
void pm_task_errand(struct pm_tasks *tasks, uint32_t index, uint32_t turn, unsigned worker);
static inline bool pm_task_terminal(const struct pm_entry *entry, uint32_t turn)
{
    return pm_word_terminal(atomic_load_explicit(&((struct pm_entry *)(uintptr_t)entry)->word, memory_order_acquire), turn);
}
bool pm_task_cancel(struct pm_tasks *tasks, uint32_t index, uint32_t turn); /* true: it will never run (again) */

/* ---- A worker, be it a process, a thread or the caller ---- */
struct pm_hand {
    struct pm_tasks *tasks;
    struct pm_hints *hints;
    struct pm_spot *spot;
    _Atomic uint64_t *progress;
    unsigned index;
    uint32_t owner;
    void (*ring)(struct pm_hand *hand); /* makes the application's descriptor readable */
    _Atomic uint32_t stop;              /* what the function's task says about "cancelled": the turn is doomed */
    struct pm_run run;
};
void pm_hand_init(struct pm_hand *hand, struct pm_tasks *tasks, unsigned index, uint32_t owner, struct pm_spot *spot,
                  _Atomic uint64_t *progress);

/* Runs one task: true; false when there is none. */
bool pm_task_work(struct pm_hand *hand);

/* Is anything waiting to be run? */
bool pm_task_waiting(struct pm_tasks *tasks);

/* ---- The supervisor ---- */
struct pm_death;
/* Gives back what a worker held that the kernel has confirmed dead. */
void pm_task_repair(struct pm_tasks *tasks, const struct pm_death *death, struct pm_spot *spot);

#endif

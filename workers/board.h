/* The board: everything that a pool's processes (or threads) share to run jobs.  It lies at the front of the arena, at one
 * address everywhere; each field says who writes it.  The private handles are elsewhere (worker.h, processes.c, seats.h).
 *
 *   arena:  board | ranges of each job | slots | tallies of each slot | words of each job | failure logs | ...  heap
 *
 * Slots and tallies are laid out for the most workers that the pool may ever have, and committed for those that it has had. */
#ifndef PM_WORKERS_BOARD_H
#define PM_WORKERS_BOARD_H

#include <stdalign.h>

#include "shm/arena.h"
#include "shm/event.h"
#include "shm/word.h"
#include "workers/ahead.h"
#include "workers/executor.h"
#include "workers/run.h"

#define PM_JOBS 16u            /* jobs open at once; more wait for a descriptor */
#define PM_LOG (1u << 20)      /* most failures listed a job */

struct pm_tasks;               /* tasks.h: the other kind of work */

/* Where a worker is in its life: written by it, read by the supervisor when it has ended. */
enum pm_stage {
    PM_STARTING = 0,
    PM_IN_INIT,    /* its init hook runs */
    PM_REFUSED,    /* the init hook returned a code, which is in `code` */
    PM_WORKING,    /* it has reached its loop */
    PM_LEAVING,    /* from here on it holds nothing, whatever becomes of it: its end is no death */
    PM_RESTING     /* the same, and it is not to be replaced before there is work again */
};

/* One worker.  `gen` and `pid` are written by the supervisor (pid by the worker too, the same value: first thing, so that a
 * supervisor that takes over after the death of the first knows whom to wait for). */
struct pm_slot {
    alignas(128) _Atomic uint32_t gen;
    _Atomic int32_t pid;       /* 0 = nobody */
    _Atomic uint64_t born;     /* CLOCK_BOOTTIME in ns when it was forked: tells it from a later process of the same pid */
    _Atomic uint32_t stage;    /* enum pm_stage */
    _Atomic uint32_t used;     /* the worker: something of the caller's may have run in it */
    _Atomic int32_t code;      /* the worker: with PM_REFUSED */
    alignas(128) struct pm_spot spot; /* the worker */
    _Atomic uint64_t progress; /* the worker: chunks committed since the pool opened */
};

/* What one worker spent on one job; written by it, read when the job is finished.  Nanoseconds. */
struct pm_tally {
    alignas(128) _Atomic uint64_t serial; /* of the job that this is about */
    _Atomic int64_t enter, leave;         /* first entry, last exit */
    _Atomic int64_t away;                 /* between an exit and the next entry */
    _Atomic int64_t inside, compute;      /* in the job; of that in the function */
    _Atomic int64_t in, out;              /* transfer */
    _Atomic uint64_t items, chunks, steals, bytes;
};

struct pm_line {
    alignas(64) _Atomic uint64_t v;
};

/* The parameters of a round.  Written by the opener or by the owner of MOVING, double-buffered by parity, read under a sequence
 * lock on the head. */
struct pm_round {
    _Atomic uint64_t first, items, grain; /* items [first, first + items) of the job, `grain` a chunk */
    _Atomic uint32_t chunks, ranges;
    _Atomic uint32_t last;                /* nothing comes after this one */
    _Atomic uint32_t lone;                /* the only chunk of its job, and nobody has asked what it costs */
};

struct pm_job {
    /* Read by every worker that looks for work. */
    alignas(128) struct pm_round round[2];
    _Atomic uint64_t serial;            /* never used twice in a pool; constant while the job is open, as what is `constant` below */
    _Atomic uint32_t deaths;            /* the supervisor: workers that died while this job was open */
    _Atomic uint32_t strays;            /* anyone: ranges and `left` have lost something without a death; the words know */
    _Atomic uint32_t stop;              /* anyone: nothing more is to be started */

    /* Counted down by workers that leave the round. */
    alignas(128) _Atomic uint64_t left; /* round:32 | chunks not yet accounted for */
    _Atomic uint64_t busy_ns, busy_items; /* what tuning goes by */

    /* The caller's side waits here. */
    alignas(128) struct pm_event done;

    /* Constant while the job is open: written by the opener while the head is closed, as far as it changes from one job to the next. */
    alignas(128) void *arg;             /* for the function: the pointer as it was, or a copy in the arena */
    struct pm_work work;

    /* Constant while the pool lives, but for what the opener notes now and then. */
    alignas(128) uint32_t index, spread; /* descriptor's number; ranges at most, as of the opening */
    struct pm_board *board;
    _Atomic uint64_t *head;             /* of board->head: state and round, see DESIGN.md */
    uint32_t words;                     /* the opener: committed, so many chunks a round may have */
    uint32_t renewed;                   /* the opener: the round in which all ranges were last written */
    struct pm_line *range;
    _Atomic uint64_t *word;
    struct pm_tally *tally;             /* worker s: tally[s * PM_JOBS], so that those of a worker lie together */
    struct pm_failure *log;
    alignas(128) _Atomic uint64_t logged; /* entries claimed, may exceed PM_LOG */
    _Atomic uint64_t retries;           /* chunks and items run again */
};

struct pm_board {
    alignas(128) struct pm_event work;  /* workers sleep here: jobs opened, rounds opened, deaths, stop */
    _Atomic uint64_t head[PM_JOBS];     /* with the event, so that who is woken by the one has the other with it */
    /* On a line of their own: idle workers spin on the one above. */
    alignas(128) _Atomic uint64_t used; /* the caller's side: bit j = job j has been open at some time */
    _Atomic uint32_t stop; /* the caller's side: workers end when nothing is open */
    _Atomic uint32_t broken;            /* the supervisor: workers die without progress */
    _Atomic int32_t broken_cause;       /* a wait status, or -errno of fork; or what the init hook returned */
    _Atomic uint32_t broken_hook;       /* 0; PM_IN_INIT: that worker died in the init hook; PM_REFUSED: it returned a code */
    _Atomic uint32_t broken_worker;
    _Atomic uint64_t deaths;            /* the supervisor: since the pool opened */
    _Atomic uint64_t rescues;           /* the caller's side: a job stood still and all slept; never in tests */
    _Atomic uint64_t timed;             /* the caller's side: of what has a deadline; see pm_board_time() */
    _Atomic uint32_t wanted;            /* the caller's side: slots below this one have a worker, those above lose theirs */
    _Atomic uint32_t workers;           /* the caller's side: slots that are committed, at least `wanted`; never falls */
    _Atomic uint32_t spread;            /* the caller's side: ranges of a job to come */
    _Atomic uint32_t look;              /* 1: the application has sent an order to look that has not been taken */
    _Atomic uint32_t resting;           /* the supervisor: workers that come back when it is told that there is work */
    uint32_t most, cpus;                /* slots that the layout has room for */
    int64_t spin_ns, clock_ns;          /* how long idle workers spin; what reading the clock costs */
    struct pm_life life;                /* constant */
    struct pm_arena arena;              /* as the workers see it */
    char zmq[108];                      /* where they connect; "" = the shared-memory channel */
    uint64_t zmq_nonce;                 /* who knows it belongs to this pool */
    _Atomic uint32_t zmq_bound;         /* the caller's side: they may connect now */

    struct pm_ahead ahead;              /* the caller's side: new memory to map */

    struct pm_job job[PM_JOBS];
    struct pm_tasks *_Atomic tasks;      /* the caller's side, at the first task: tasks.h */
    size_t tasks_at;                    /* where in the arena they will be */
    struct pm_slot *slot;

    _Atomic uint32_t tokens;            /* the supervisor: of make's, that the pool has; see jobserver.h */
    char token[PM_SLOTS];
};

/* Bytes of arena that a board for at most so many workers needs; and makes it there, with the memory of `workers` of them.  0 or -errno. */
size_t pm_board_bytes(unsigned most);
int pm_board_open(struct pm_board **board, struct pm_arena *arena, unsigned workers, unsigned most, unsigned cpus, int64_t spin_ns);

/* From now on the pool is to have so many workers, at most `most`.  Commits what more of them need; wakes nobody.  One thread of the
 * caller's side at a time.  0 or -errno, and then nothing is changed. */
int pm_board_resize(struct pm_board *board, struct pm_arena *arena, unsigned workers);

/* Wakes as many workers as CPUs can serve; each of them wakes another while there is more to do than awake workers. */
void pm_board_wake(struct pm_board *board, uint32_t chunks);
void pm_board_wake_all(struct pm_board *board);

/* One more job or task whose items may take so long, or one fewer.  True: no other is as short, so the supervisor is to be told; it looks once
 * in each shortest time, which is often enough for all that take longer.  Any thread. */
bool pm_board_time(struct pm_board *board, int64_t timeout_ns);
void pm_board_untime(struct pm_board *board);
int64_t pm_board_shortest(struct pm_board *board); /* at most so long; 0 = nothing has a deadline */

/* Is any job neither closed nor finished, or any task waiting? */
bool pm_board_busy(struct pm_board *board);

#endif

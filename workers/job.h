/* A job on the board: opened and closed by the caller's side, worked on by workers, mended by the supervisor.  DESIGN.md is the
 * protocol; this is all of it, for processes and threads alike. */
#ifndef PM_WORKERS_JOB_H
#define PM_WORKERS_JOB_H

#include "workers/board.h"

/* ---- The caller's side.  One thread at a time per descriptor. ---- */

/* Opens a job on a closed descriptor: from here on workers take it.  The words are committed.  Does not wake anybody; returns
 * how many chunks its first round has. */
uint32_t pm_job_open(struct pm_board *board, struct pm_job *job, const struct pm_work *work, void *arg, uint64_t serial);
bool pm_job_finished(const struct pm_job *job);
void pm_job_close(struct pm_job *job); /* of a finished job: the descriptor may be used again */

/* After it is finished, before it is closed: adds what failed and what was never run, with `base` added to the items. */
struct pm_failures;
void pm_job_failures(struct pm_job *job, struct pm_failures *to, uint64_t base);
void pm_job_cost(const struct pm_job *job, struct pm_cost *cost, int64_t end); /* adds to *cost, wall excepted */

/* ---- Anyone: ends the job soon.  Nothing FREE is started any more; what is CLAIMED finishes or dies. ---- */
void pm_job_stop(struct pm_board *board, struct pm_job *job);

/* ---- A worker ---- */
struct pm_tenure {            /* how long it may stay: workers/life.c */
    bool over;                /* it takes nothing more, and leaves as soon as it holds nothing */
    bool limited;             /* by items, memory or age */
    bool ran;                 /* something of the caller's may have, in this process */
    uint64_t items;           /* run so far */
    int64_t born, idle_from;  /* idle_from: 0 = it is not idle */
    int64_t look_at;          /* when to ask for its memory again */
    uint64_t memory;          /* when its life began */
};

struct pm_worker {
    struct pm_board *board;
    struct pm_slot *slot;
    unsigned index;
    uint32_t owner;           /* (slot, gen) */
    uint32_t batch;           /* chunks a pop */
    uint32_t tick;
    bool polite;              /* it makes room for others: room.h */
    bool spun;                /* it has seen that there is something new in the moment when it was announced */
    uint32_t spare_lo, spare_hi, spare_round; /* loot of spare_job that could not be published */
    struct pm_job *spare_job;
    struct pm_tenure tenure;
    uint64_t random;
    uint64_t serial;          /* of the job that `run` was made for */
    double share;             /* of a batch that was spent in the function, when last measured */
    struct pm_run run;
};

void pm_worker_init(struct pm_worker *me, struct pm_board *board, unsigned index);

/* Works on a job until there is nothing more to take in it; false when there was nothing at all. */
bool pm_job_work(struct pm_worker *me, struct pm_job *job);

/* ---- The supervisor ---- */
struct pm_death {
    unsigned slot;
    uint32_t gen;
    enum pm_cause cause;
    int value;
    bool charged; /* false: it was killed for an item that was no longer running; nobody is to blame */
};

/* Gives back what a worker held that the kernel has confirmed dead.  Returns how many chunks. */
unsigned pm_job_repair(struct pm_board *board, struct pm_job *job, const struct pm_death *death);

#endif

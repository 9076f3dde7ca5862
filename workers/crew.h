/* Threads of the application that run tasks: what PMAP_THREADS has for work that arrives one by one, where an OpenMP team, which lives for
 * one call only, cannot serve.  Used by threads.c and, with no thread at all, by serial.c, whose caller runs the tasks itself. */
#ifndef PM_WORKERS_CREW_H
#define PM_WORKERS_CREW_H

#include <pthread.h>

#include "workers/desk.h"

struct pm_mate;

struct pm_crew {
    struct pm_desk desk;
    struct pm_event work;             /* they sleep here */
    struct pm_mate *mate;             /* one a worker */
    unsigned workers;
    unsigned started;                 /* threads to be joined */
    const struct pm_executor *executor; /* for pm_inside */
    struct pm_life life;              /* its hooks run in each thread, at its begin and end */
    void *state;                      /* without threads: of whoever helps */
    atomic_int code;                  /* what an init hook returned; not 0: the pool is broken */
    atomic_uint refused;              /* that of this worker */
    atomic_bool ended;
    pthread_mutex_t lock;             /* guards the tables and threads while they are made and ended, and whoever helps */
};

void pm_crew_init(struct pm_crew *crew, const struct pm_executor *executor, const struct pm_setup *setup);

/* A worker's init hook has returned a code; and what there is to say of it. */
void pm_crew_refuse(struct pm_crew *crew, unsigned worker, int code);
void pm_crew_why(const struct pm_crew *crew, char *text, size_t bytes);

/* Makes the tables at `at` of the arena when they are not there yet, and starts the threads when `threads` is set.  NULL with *error. */
struct pm_desk *pm_crew_desk(struct pm_crew *crew, struct pm_arena *arena, size_t at, bool threads, int *error);

/* The calling thread runs one task as worker 0: true; false when there is none, or when some thread is in one already. */
bool pm_crew_help(struct pm_crew *crew);

void pm_crew_end(struct pm_crew *crew);   /* waits for the tasks that run; starts no more */
void pm_crew_close(struct pm_crew *crew); /* in a forked child too, where the threads are not */

#endif

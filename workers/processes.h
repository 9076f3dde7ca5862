/* The application's private handle of a pool of processes, and the steps of one job that its channels share. */
#ifndef PM_WORKERS_PROCESSES_H
#define PM_WORKERS_PROCESSES_H

#include <pthread.h>

#include "shm/heap.h"
#include "shm/process.h"
#include "workers/desk.h"
#include "workers/failures.h"
#include "workers/job.h"
#include "workers/supervisor.h"

struct pm_bank;
struct pm_zmq;

struct pm_processes {
    struct pm_setup setup;
    struct pm_arena arena;
    struct pm_heap *heap;
    struct pm_board *board;
    struct pm_process supervisor;
    atomic_bool alone;              /* of a pool that ends: it has no workers any more, and goes */
    int pidfd, control;
    int watch;                      /* an epoll set of the bell and of what tells the supervisor's end; -1: nobody has asked for it */
    bool watched;                   /* the latter is in it */
    bool named;                     /* the supervisor has a name in /dev/shm: pm_process_named() */
    int jobserver[2];               /* -1: none.  Kept here too, for when there is no supervisor to give tokens back */
    bool one_only;                  /* there is a jobserver that gives us nothing */
    atomic_bool ending;

    _Atomic uint32_t taken;         /* descriptors in use */
    struct pm_event freed;          /* a descriptor was given back */
    _Atomic uint32_t waiting;       /* callers that wait for one */

    pthread_mutex_t lock;           /* guards what follows, and the starting of supervisors */
    struct pm_desk desk;            /* opened at the first task */
    char *banks;                    /* of the copying channel, kept between calls; NULL while in use or never used */
    struct pm_zmq *zmq;
};

/* A job that this process has opened. */
struct pm_ticket {
    struct pm_job *job;
    void *arg; /* the copy in the arena, or NULL */
    bool timed;
};

/* Takes a descriptor (blocks while all are in use, unless `wait` is false: -EAGAIN), opens the job and wakes workers.  0 or -errno. */
int pm_ticket_open(struct pm_processes *p, const struct pm_work *work, struct pm_ticket *ticket, bool wait);
/* Waits until the job is finished; starts a new supervisor if the old one dies meanwhile.  -EPIPE: the pool is broken;
 * -ECANCELED: the pool was ended and the job with it. */
int pm_ticket_wait(struct pm_processes *p, struct pm_ticket *ticket);
/* Reads the job out (items count from work->first of the call: `base` is added) and gives the descriptor back. */
void pm_ticket_close(struct pm_processes *p, struct pm_ticket *ticket, struct pm_failures *failures, uint64_t base,
                    struct pm_cost *cost);

/* Is the supervisor there?  Starts another when it has died.  0, -ECANCELED when the pool is ending, -errno. */
int pm_processes_check(struct pm_processes *p);

/* Makes the supervisor look at the board again.  Not while the pool ends. */
void pm_processes_look(struct pm_processes *p);

/* A way for bytes to get to the workers and back.  The first that fits carries a call. */
struct pm_channel {
    const char *name;
    bool (*fits)(struct pm_processes *p, const struct pm_work *work);
    int (*run)(struct pm_processes *p, const struct pm_work *work, struct pm_result *result);
};
extern const struct pm_channel pm_channel_inplace, pm_channel_copy, pm_channel_zmq;

#endif

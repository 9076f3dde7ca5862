/* The supervisor's private side of the slots: one seat a slot, in which one worker process after the other sits.  Seats are filled when they are
 * due, left empty while their workers rest, are too many, or make gives no token for them; and what a worker held that ended in one is mended.
 * Used by supervisor.c, in its one thread; knows nothing of the application. */
#ifndef PM_WORKERS_SEATS_H
#define PM_WORKERS_SEATS_H

#include <sys/types.h>

#include "workers/job.h"

struct pm_seat {
    pid_t pid;
    int64_t forked, due, delay;
    bool away;                     /* left for want of work; not replaced until there is some */
    bool doomed;                   /* killed for a deadline of this item */
    bool ended;                    /* killed because the application wants the task that it was at to end */
    uint64_t item;
    int64_t deadline;
};

struct pm_seats {
    struct pm_board *board;
    struct pm_seat *seat;
    int fd[4], jobserver[2];       /* the supervisor's, -1 = none: workers get none of them */
    bool others_stay;              /* descriptors that are not ours: workers have them too */
    bool named;                    /* each worker has a name in /dev/shm, whatever has run in it */
    bool rationed;                 /* by tokens of make's: one worker without, and one more for each */
    pid_t self;
    unsigned alive, early;         /* workers; deaths in a row before the loop */
    unsigned init_deaths;          /* in a row */
    uint64_t seen_progress;
    unsigned barren;               /* deaths in a row without a chunk committed or a failure settled */
    uint64_t oom_kills;            /* counted when `settled`: not on the way of a pool that is opened and closed at once */
    bool settled;
    bool closing;                  /* nobody is started any more, and who exits has done so in order */
};

/* Starts all that are wanted at the beginning: 0, or -errno of fork when there is not one worker. */
int pm_seats_begin(struct pm_seats *seats);

/* One turn: calls back who rests when there is work, starts one worker that is due, gives back tokens that nobody needs. */
void pm_seats_fill(struct pm_seats *seats);
int64_t pm_seats_due(const struct pm_seats *seats); /* when the next worker is to be started, or INT64_MAX */

/* Gives back what a dead worker held; its slot is nobody's. */
void pm_seat_mend(struct pm_seats *seats, const struct pm_death *death);

/* Reaps who has ended; `how` as of waitpid(): WNOHANG, or 0 to wait for one. */
void pm_seats_reap(struct pm_seats *seats, int how);
void pm_seats_kill(struct pm_seats *seats); /* all workers and what is in their groups */

#endif

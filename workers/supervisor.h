/* The supervisor: a small process of one thread that forks the workers, reaps them, repairs what they held, enforces deadlines and
 * starts them again.  So the library adds no thread and no signal handler to the application. */
#ifndef PM_WORKERS_SUPERVISOR_H
#define PM_WORKERS_SUPERVISOR_H

#include <sys/types.h>

#include "workers/board.h"

/* What the application says over the control socket. */
struct pm_order {
    enum { PM_ORDER_LOOK = 1, PM_ORDER_CLOSE = 2, PM_ORDER_END = 3 } what; /* LOOK: a job with deadlines was opened */
    int64_t grace_ns;                                    /* CLOSE: how long what runs may go on */
    uint32_t task, turn;                                                  /* END: this task, while it runs */
};

/* What it answers when the first workers are forked; and once more, when it was to close and nobody is left but itself. */
struct pm_answer {
    int error; /* 0 or -errno of fork when there is not one worker */
    unsigned forked;
};

struct pm_seat; /* the supervisor's private side of a slot: seats.h */
size_t pm_seats_bytes(unsigned workers);

/* What the supervisor is told by the fork. */
struct pm_charge {
    struct pm_board *board;
    const struct pm_setup *setup;
    struct pm_seat *seats;
    int control;         /* its end of a SOCK_SEQPACKET pair, whose other end only the application has */
    int jobserver[2];    /* -1: none */
    bool rationed;       /* no more workers than one and one a token */
    pid_t application;
    bool named;          /* it has a name in /dev/shm, and so have its workers: pm_process_named() */
    bool takeover;       /* a supervisor died before; its workers are to be ended and mended first */
};

/* Called in the forked child; never returns.  `seats`: pm_seats_bytes() of zeroed memory that the application allocated before the
 * fork, because the child of a program with threads had better not call malloc(). */
_Noreturn void pm_supervise(const struct pm_charge *charge);

#endif

/* The private side of a command, shared by what copies its options (command_plan.c), starts it (command_launch.c),
 * moves it on (command_step.c), tells of it (command_status.c), the public calls (command.c) and the engine for many
 * (commands.c). */
#ifndef PM_PMAP_COMMAND_H
#define PM_PMAP_COMMAND_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "pmap/pmap.h"

/* What was asked for: a copy of the caller's options with all that they point to, but the input, in one block. */
struct pm_plan {
    size_t count;
    pmap_command_options *each; /* complete, whatever size the caller's had; no zero in grace_s and most_output */
};

/* command_plan.c: checks and copies.  0, or a negative PMAP_E* with its text set for `what`. */
int pm_plan_make(struct pm_plan **plan, const char *what, const pmap_command_options *options, size_t count);

struct pm_member { /* one process of a command */
    pid_t pid;            /* 0 = not started */
    int pidfd;            /* negative where there are none */
    bool ended;           /* it has, and is still a zombie, which keeps its number, and so its group's, its own */
    bool lost;            /* it has, and somebody else has waited for it: nothing may be sent to that number any more */
    pmap_cause stopped;   /* PMAP_CAUSE_TIMEOUT or _CANCELLED: it was terminated while it ran; 0 = it was not */
    int status;           /* a wait status; -1 = not known */
    struct rusage usage;
    int64_t end_ns;
};

struct pm_capture {
    char *data;
    size_t size, room;
    bool cut;             /* there was more than the bound */
};

struct pmap_command {
    struct pm_plan *plan;
    pid_t owner;          /* the process that it belongs to */
    int error;            /* it could not be started, or its output not be kept: PMAP_E* */
    char *text;           /* of that; NULL = no memory even for it */
    bool over;            /* reaped; nothing changes any more */

    int fd[3];            /* this process's ends of its pipes; negative = none, or taken */
    bool fed;             /* all of its input is known: once written, its pipe is closed */
    const char *input;
    size_t input_bytes, written;
    struct pm_capture out[2]; /* of 1 and of 2; with options->output what it has not been given yet */
    bool fresh;           /* there is something of that */
    bool full;            /* so much that nothing more is read before it has been given */

    int64_t start_ns, timeout_ns, grace_ns;     /* timeout_ns: INT64_MAX = none */
    int64_t kill_ns;      /* terminated: SIGKILL is due then; INT64_MAX = it is not */
    bool killed;
    int64_t late_ns;      /* all processes have ended: that is how long pipes are waited for; INT64_MAX = not yet */
    int64_t look_ns, pause_ns; /* where no descriptor tells: when to look again, and how long after that */

    int epoll;            /* that watches its descriptors, edge by edge; negative = none */
    uint64_t key;         /* under which */
    bool pipes_watched;   /* what it writes, too */
    int64_t watch_ns;     /* when the rest of them is to be put in; INT64_MAX = all are */
    bool more;            /* a step has stopped before all was read that was there: to be stepped again at once */
    uint32_t place;       /* in the table of commands.c */
    bool alone;           /* its spawner waits for it, and nobody else moves it on; under the set's lock */
    uint64_t signals;     /* for it, while a spawner launches it: bit signal - 1; under the set's lock */
    pmap_command *next, *previous; /* in a list of commands.c */

    size_t count;
    struct pollfd *polls; /* count + 3, for pm_command_pause() */
    struct pm_member member[];
};

/* command_launch.c: a command that is not started; takes the plan.  NULL: no memory, and the plan is freed. */
pmap_command *pm_command_new(struct pm_plan *plan);
void pm_command_free(pmap_command *command);
/* Starts it: 0, or its ->error, with text; then it is over. */
int pm_command_launch(pmap_command *command, const char *what);
void pm_command_fail(pmap_command *command, int error); /* it is over, with this thread's error text */

/* command_step.c: does all that can be done now.  True when the command is over. */
bool pm_command_step(pmap_command *command);
void pm_command_deliver(pmap_command *command); /* gives options->output what there is; step behind it when it was full */
int64_t pm_command_due(const pmap_command *command); /* when to step at the latest, whatever descriptors say */
/* Sleeps until there is something to do, or end_ns; INT64_MAX = no limit. */
void pm_command_pause(pmap_command *command, int64_t end_ns);
/* Sleeps for a while, and not beyond due_ns: has the process ended?  Knows no command, which another thread may change
 * meanwhile: its pidfd stays open. */
bool pm_command_ends_soon(int pidfd, int64_t due_ns);
bool pm_command_writes_much(const pmap_command *command); /* are its pipes as good as full? */
/* From now on an event with this key, when there is something to do, or pm_command_due() says when to look. */
void pm_command_watch(pmap_command *command, int epoll, uint64_t key, bool lazily); /* what it writes only when it has not ended soon */
void pm_command_shut(pmap_command *command, int *fd);
void pm_command_stop(pmap_command *command, pmap_cause why); /* SIGTERM, later SIGKILL */
int pm_command_send(pmap_command *command, int signal);      /* 0 or -errno */
int pm_command_end(pmap_command *command, int64_t limit_ns); /* kills, waits, reaps: 0 or -ETIMEDOUT */

/* command_group.c: does a process of this group still run?  The leader must not have been reaped.  False where
 * that cannot be told. */
bool pm_group_runs(pid_t group);

/* After now by so many seconds, in ns; seconds < 0 or too far: INT64_MAX. */
int64_t pm_after(int64_t now_ns, double seconds);

#endif

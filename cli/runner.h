/* One path of one workload, in a process of its own: what it is told and what it answers, over a socketpair.
 * bench.c starts runners and talks to them; it opens no pool itself. */
#ifndef CLI_RUNNER_H
#define CLI_RUNNER_H

#include "cli/workload.h"

#include <sys/types.h>

struct part_costs { /* milliseconds over all workers, as pmap_stats has them */
    double transfer_in, compute, transfer_out, dispatch, idle;
};

struct sample { /* one run */
    double wall_ms;
    struct part_costs cost;
    uint64_t bytes_copied, deaths, retries;
    struct value result;
    bool right; /* by the workload's own check */
};

struct answer {
    enum { ANSWER_READY, ANSWER_SAMPLE, ANSWER_FAILED, ANSWER_NOT_BUILT_IN } kind;
    struct sample sample;
    char text[600];
};

enum order { ORDER_WARM_UP = 'w', ORDER_RUN = 'r' }; /* an end of file ends the runner */

struct runner {
    pid_t pid;       /* 0 = not running */
    int fd;          /* ours of the socketpair, or -1 */
    unsigned workload;
    enum path path;
    unsigned workers;
    uint64_t items;
};

/* Forks a runner.  The child never returns from here.  `others` are closed in the child.  0, or -1 with errno set. */
int runner_start(struct runner *runner, const struct settings *settings, const struct input *file,
                 const struct runner *others, unsigned nothers);

#endif

/* Who runs when: starts the runners of a workload, lets them run in turn with every other asleep, and ends them all.
 * Used by bench.c. This process has no pool and no thread, and stays small, so that forking from it is cheap and
 * clean. */
#ifndef CLI_ORDER_H
#define CLI_ORDER_H

#include "cli/report.h"

#define MOST_RUNNERS (1 + PATHS * MOST_WORKER_COUNTS)

struct order_of_runs {
    const struct settings *settings;
    const struct input *file;        /* NULL = none */
    int signals;                     /* a signalfd for SIGCHLD and for what ends the program */
    int stopped;                     /* the signal that did, or 0 */
    bool alone;                      /* this process had no child before: every child it finds is of its making */
    struct runner runners[MOST_RUNNERS];
    unsigned nrunners;
};

int order_open(struct order_of_runs *o, const struct settings *settings,
               const struct input *file); /* 0, or -1 after a message */

/* Runs one workload.  Writes at most MOST_RUNNERS results and how many.  0, or -1 after a message (none if stopped).
 * Nothing that it started runs any more when it returns. */
int order_workload(struct order_of_runs *o, unsigned workload, struct result *results, unsigned *count);
void order_close(struct order_of_runs *o);

#endif

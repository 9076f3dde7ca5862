/* A private, growing list of failures: what a path that runs several jobs for one call collects. */
#ifndef PM_WORKERS_FAILURES_H
#define PM_WORKERS_FAILURES_H

#include "workers/executor.h"

struct pm_failures {
    struct pm_failure *list;
    size_t n, room;
    uint64_t total;  /* also those that found no room */
    bool no_memory;
};

void pm_failures_add(struct pm_failures *f, uint64_t item, uint64_t count, enum pm_cause cause, int value, unsigned attempts,
                     const char *text);
/* Adds a list whose items count from `first`. */
void pm_failures_join(struct pm_failures *f, const struct pm_failure *list, size_t n, uint64_t first);
/* Hands the list over, sorted by item, neighbouring cancelled spans made one: 0 or -ENOMEM. */
int pm_failures_take(struct pm_failures *f, struct pm_failure **list, size_t *n);

#endif

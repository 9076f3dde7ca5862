/* What the executors inside the application's own process (serial, threads) answer alike: they have no processes and no descriptors, and
 * all memory is theirs to see.  Used by serial.c and threads.c, in their tables of operations. */
#ifndef PM_WORKERS_LOCAL_H
#define PM_WORKERS_LOCAL_H

#include <errno.h>

#include "workers/executor.h"

static inline void pm_local_forked(struct pm_executor *e) { (void)e; }

static inline int pm_local_kill(struct pm_executor *e, uint32_t task, uint32_t turn)
{
    (void)e, (void)task, (void)turn;
    return -EOPNOTSUPP;
}

static inline bool pm_local_shares(struct pm_executor *e, const void *p, size_t bytes)
{
    (void)e, (void)p, (void)bytes;
    return true;
}

static inline unsigned pm_local_pids(struct pm_executor *e, int *pids, unsigned most)
{
    (void)e, (void)pids, (void)most;
    return 0;
}

#endif

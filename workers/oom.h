/* How often the kernel has killed for want of memory in this cgroup: tells such a death from any other SIGKILL. */
#ifndef PM_WORKERS_OOM_H
#define PM_WORKERS_OOM_H

#include <stdint.h>

uint64_t pm_oom_kills(void); /* 0 where it cannot be known */

#endif

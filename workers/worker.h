/* The life of a worker process, from its fork to its _exit. */
#ifndef PM_WORKERS_WORKER_H
#define PM_WORKERS_WORKER_H

#include <sys/types.h>

#include "workers/board.h"

/* Called in the forked child; never returns.  `parent` is the supervisor. */
_Noreturn void pm_worker_main(struct pm_board *board, unsigned index, pid_t parent);

#endif

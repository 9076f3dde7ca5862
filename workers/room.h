/* Room for a worker that was woken and cannot run: it waits in the queue of a CPU on which another of the pool works, while another CPU is idle
 * (the caller's, who slept a moment later).  The kernel finds that out at a tick, some milliseconds later; so whoever works there
 * goes elsewhere.  Used by claim.c, by workers that are processes and no more than there are CPUs. */
#ifndef PM_WORKERS_ROOM_H
#define PM_WORKERS_ROOM_H

#include "workers/job.h"

#define PM_ROOM_NS INT64_C(60000) /* a worker that was woken is there by then */

/* A look at the slots; and at a few of the workers that are not in a job, by system calls. */
void pm_room_make(struct pm_worker *me);

#endif

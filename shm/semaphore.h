/* A semaphore whose permits come back when their holder dies: each permit is a robust lock (shm/lock.h) of its own,
 * so the kernel says whose are free again.  A permit belongs to the thread that took it.  Nothing else is the truth:
 * the event count only saves waiting. */
#ifndef PM_SHM_SEMAPHORE_H
#define PM_SHM_SEMAPHORE_H

#include <stdalign.h>
#include <stddef.h>

#include "shm/event.h"
#include "shm/lock.h"

#define PM_PERMITS 1024u /* most: a thread that holds them all is below the kernel's limit of 2048 locks */

struct pm_permit {
    alignas(64) struct pm_lock lock;
};

struct pm_semaphore {
    struct pm_event freed;
    uint32_t permits; /* constant */
    struct pm_permit permit[];
};

static inline size_t pm_semaphore_bytes(unsigned permits) { return sizeof(struct pm_semaphore) + permits * sizeof(struct pm_permit); }
int pm_semaphore_init(struct pm_semaphore *semaphore, unsigned permits); /* 0, -errno */

int pm_semaphore_acquire(struct pm_semaphore *semaphore, int64_t timeout_ns); /* 0, -ETIMEDOUT */
int pm_semaphore_release(struct pm_semaphore *semaphore);                     /* 0, -EPERM: the caller holds none */

#endif

/* The inside of pmap_lock, for the condition, and the words for what its waits return. */
#ifndef PM_PMAP_LOCK_H
#define PM_PMAP_LOCK_H

#include "pmap/shared.h"
#include "shm/lock.h"

struct pmap_lock {
    struct pm_shared shared;
    alignas(64) struct pm_lock lock;
};

/* The public error, with its text, for a -errno of something that is held: lock, semaphore, read-write lock. */
int pm_lock_result(int error, const char *what);

#endif

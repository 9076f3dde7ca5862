/* A read-write lock whose holders may die: readers share, writers exclude all.
 *
 *   reader[i]   a robust lock (shm/lock.h) each: a reader holds one, whichever it finds free; a writer holds all
 *   gate        a robust lock: held by a writer from its first step to its last
 *   intent      hint: a writer holds the gate.  Readers then come through the gate, so that a writer is not kept out for ever
 *   dirty       set by a writer that holds all, cleared by it before it lets go of any: set by a dead one it says that what is
 *               guarded may be half changed
 *
 * The reader's locks are the truth: who holds one excludes writers, who holds all excludes everybody; and the kernel
 * tells whose holder died. A dead reader has changed nothing, so its lock is just free.  A dead writer leaves
 * `dirty`: a reader that gets a lock and sees it gives that back, and whoever comes first through the gate takes all
 * of them and is told to repair. */
#ifndef PM_SHM_RWLOCK_H
#define PM_SHM_RWLOCK_H

#include <stdalign.h>
#include <stddef.h>

#include "shm/lock.h"

#define PM_READERS 1024u /* most: as PM_PERMITS */

struct pm_reader {
    alignas(64) struct pm_lock lock;
};

struct pm_rwlock {
    struct pm_lock gate;
    _Atomic uint32_t intent, dirty;
    uint32_t readers; /* constant */
    struct pm_reader reader[];
};

static inline size_t pm_rwlock_bytes(unsigned readers) { return sizeof(struct pm_rwlock) + readers * sizeof(struct pm_reader); }
int pm_rwlock_init(struct pm_rwlock *rwlock, unsigned readers); /* 0, -errno */

/* 0: held for reading.  -EOWNERDEAD: held for WRITING, because a writer died: repair.  -ETIMEDOUT; -EDEADLK: the
 * caller holds it for writing, or all of the readers' places. */
int pm_rwlock_read(struct pm_rwlock *rwlock, int64_t timeout_ns);

/* 0 or -EOWNERDEAD: held for writing.  -ETIMEDOUT; -EDEADLK: the caller holds it, one way or the other. */
int pm_rwlock_write(struct pm_rwlock *rwlock, int64_t timeout_ns);

int pm_rwlock_release(struct pm_rwlock *rwlock); /* 0, -EPERM: the caller does not hold it */

#endif

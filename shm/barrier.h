/* A barrier whose parties may die: the others then get an error instead of waiting for ever.
 *
 *   lock      a robust lock (shm/lock.h): guards all that follows, for a few instructions at a time
 *   state     era:32 | phase:31 | broken:1.  A phase ends when all have arrived; broken stays until somebody starts the next era
 *   party[i]  the member (shm/member.h) that it is; and the state in which it has arrived, plus 1
 *
 * How many have arrived is counted in the parties, so a death under the lock leaves nothing half done: a store each
 * makes a party known, arrives, ends the phase.  Who takes the lock first looks whether all have arrived, and ends
 * the phase for the dead one. A party is known from its first use on.  Waiters ask the kernel, once a slice, about
 * parties that have not arrived.  Another thread that arrives takes the place of a dead party that nobody has noticed
 * yet, else of one that has not arrived in this phase. */
#ifndef PM_SHM_BARRIER_H
#define PM_SHM_BARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/event.h"
#include "shm/lock.h"
#include "shm/member.h"

#define PM_PARTIES 1024u

struct pm_party {
    _Atomic uint32_t owner;   /* 0 = nobody yet */
    _Atomic uint64_t arrived; /* in which state, plus 1; 0 = not */
};

struct pm_barrier {
    struct pm_lock lock;
    struct pm_event moved; /* the state was changed */
    _Atomic uint64_t state;
    uint32_t parties;      /* constant */
    struct pm_party party[PM_PARTIES];
    struct pm_members members;
};

/* Members of a barrier: more than parties, because others may take their places. */
static inline unsigned pm_barrier_members(unsigned parties) { return parties < 1024 ? 4 * parties + 28 : PM_MEMBERS; }
static inline size_t pm_barrier_bytes(unsigned parties) { return sizeof(struct pm_barrier) + pm_barrier_members(parties) * sizeof(uint64_t); }

int pm_barrier_init(struct pm_barrier *barrier, unsigned parties); /* 0, -errno */

/* All of them: 0; -EPIPE the barrier is broken; -EUSERS more living threads use it than there is room for. */
int pm_barrier_join(struct pm_barrier *barrier); /* makes the caller known as a party; does not wait */

/* Waits until all parties have arrived; *index: how many had before the caller.  -ETIMEDOUT: it has not arrived, and
 * the others wait on. */
int pm_barrier_wait(struct pm_barrier *barrier, int64_t timeout_ns, unsigned *index);

int pm_barrier_abort(struct pm_barrier *barrier); /* breaks it */
int pm_barrier_reset(struct pm_barrier *barrier); /* breaks it for those who wait, then begins anew: whole, without any party known */

#endif

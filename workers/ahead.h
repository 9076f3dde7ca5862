/* Mapping ahead: idle workers map new pages of the heap into their page tables while the application still commits or fills them, so that the
 * first map over them does not pay for page faults.  The application tells of every larger piece that it commits, in the heap's lock (so one
 * thread at a time); a worker follows in steps between two looks for work.
 *
 * An extent is one word, so a worker sees all of one or all of another, and what it sees has been committed: pages beyond would be taken
 * from the system by looking at them.  Memory given back is struck out first.  A worker in the middle of a step may then still take one step
 * of pages again; they stay with the arena until the heap commits that place anew or the pool is closed. */
#ifndef PM_WORKERS_AHEAD_H
#define PM_WORKERS_AHEAD_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"

#define PM_EXTENTS 16u

struct pm_ahead {
    alignas(128) _Atomic uint32_t n;      /* extents announced since the pool opened; the last ones are kept */
    _Atomic uint64_t extent[PM_EXTENTS];  /* offset in the arena << 32 | length, both in units of 64 KiB; 0: given back */
};

/* The application.  Returns whether there is something new to map: small pieces are not worth waking anybody. */
bool pm_ahead_add(struct pm_ahead *ahead, size_t offset, size_t bytes);
void pm_ahead_strike(struct pm_ahead *ahead, size_t offset, size_t bytes); /* before it is given back */

/* A worker: how far it has come. */
struct pm_ahead_mark {
    uint32_t seen, units; /* extents done with, and units of the one behind them */
};

struct pm_ahead_mark pm_ahead_now(struct pm_ahead *ahead); /* nothing that is known by now is mapped */
/* Maps a step; false: there is nothing to map. */
bool pm_ahead_step(struct pm_ahead *ahead, const struct pm_arena *arena, struct pm_ahead_mark *mark);

#endif

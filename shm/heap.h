/* The heap: which bytes of the arena's data part are in use.  Its books are private to the application and outside shared memory, so a wild
 * write in a worker cannot break them; workers never allocate.  Constant time for any mix of sizes: two-level segregated fit
 * (Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic memory allocator for real-time systems", 2004).
 * Any thread of the owning process; one mutex inside. */
#ifndef PM_SHM_HEAP_H
#define PM_SHM_HEAP_H

#include "shm/arena.h"

struct pm_heap;

int pm_heap_open(struct pm_heap **heap, struct pm_arena *arena); /* manages [control, size); 0 or -ENOMEM */
void pm_heap_close(struct pm_heap *heap);                        /* NULL is allowed; does not touch the arena */

/* 64-byte aligned, 2 MiB aligned from 2 MiB on; pages committed.  NULL with *error = -ENOMEM or -EINVAL. */
void *pm_heap_alloc(struct pm_heap *heap, size_t bytes, int *error);

/* 0, or -EINVAL when p was not returned by pm_heap_alloc() or was freed already (nothing is changed).  NULL is allowed. */
int pm_heap_free(struct pm_heap *heap, void *p);

/* Bytes in live blocks, and bytes of committed pages. */
void pm_heap_usage(struct pm_heap *heap, size_t *used, size_t *committed);

#endif

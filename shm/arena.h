/* The arena: one sealed memfd, mapped once before the first fork, so that it has one address in every process of a
 * pool. It knows pages: which are reserved, committed, given back.  Which bytes are in use is shm/heap.h's business.
 *
 * Layout: [0, control) ordinary pages for words, slots and descriptors; [control, size) is asked for huge pages.
 * The whole reservation is sparse; nothing is committed by opening it, so a later commit needs no message to anybody.
 * Works without /dev/shm: a memfd has no name. */
#ifndef PM_SHM_ARENA_H
#define PM_SHM_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct pm_arena {
    char *base;     /* the same in every process */
    size_t size;    /* bytes reserved */
    size_t control; /* bytes of the control part, at the front; a multiple of 2 MiB */
    int fd;         /* close-on-exec; workers close it: nothing they do needs it */
    /* Called with each piece of the data part that is committed, and of what is given back before it is; by the thread that does it.  NULL */
    void (*tell)(void *to, size_t offset, size_t bytes, bool there);
    void *to;
    _Atomic size_t unasked; /* bytes committed since the machine was last asked what it has; any thread, relaxed */
};

/* Reserves `control` (rounded up to 2 MiB) plus `reserve` bytes; a reservation that RLIMIT_AS, RLIMIT_FSIZE or the
 * kernel refuses is halved until it fits, down to 16 MiB of data.  base is aligned to 2 MiB.  0, -ENOMEM, or another
 * -errno. */
int pm_arena_open(struct pm_arena *arena, size_t control, size_t reserve, bool huge);
void pm_arena_close(struct pm_arena *arena); /* unmaps and closes; safe on a zeroed struct and after a failed open */

/* Commits the pages of [offset, offset+bytes), which must not be committed yet: afterwards touching them cannot fail
 * for want of memory.  Refuses (-ENOMEM) what the machine or the cgroup does not have free, before taking it, so that
 * the OOM killer is not woken.  On an error all of them are given back. */
int pm_arena_commit(struct pm_arena *arena, size_t offset, size_t bytes);

/* Gives whole pages inside [offset, offset+bytes) back to the system; they read as zero when committed again. */
void pm_arena_release(struct pm_arena *arena, size_t offset, size_t bytes);

/* Maps the pages of [offset, offset+bytes) into the calling process's page tables, so that later reads do not fault. */
void pm_arena_populate(const struct pm_arena *arena, size_t offset, size_t bytes);

static inline bool pm_arena_has(const struct pm_arena *arena, const void *p, size_t bytes)
{
    size_t at = (size_t)((const char *)p - arena->base); /* wraps to something huge when p is below base */
    return at < arena->size && bytes <= arena->size - at;
}

/* Bytes that could still be committed: free memory and swap, or less under a cgroup limit (v1 or v2), less a small
 * reserve. */
size_t pm_arena_available(void);

/* Does the machine have so many?  It is asked once a MiB only, as counted in *unasked: from many threads and processes at once, so roughly. */
bool pm_arena_affords(_Atomic size_t *unasked, size_t bytes);

#endif

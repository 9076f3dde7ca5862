/* What the objects have in common that processes share (locks, counters, ...): where they lie, whether a pointer is
 * one, options, time-outs. The public handle is the object itself, in shared memory, so that a worker or a forked
 * child uses it by the pointer it was given. */
#ifndef PM_PMAP_SHARED_H
#define PM_PMAP_SHARED_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "pmap/pmap.h"

enum pm_kind { PM_KIND_LOCK = 0x706d0001, PM_KIND_SEMAPHORE, PM_KIND_EVENT, PM_KIND_CONDITION, PM_KIND_BARRIER, PM_KIND_RWLOCK,
               PM_KIND_COUNTER, PM_KIND_ACCUMULATOR };

/* The first member of every such object.  Constant while it is open. */
struct pm_shared {
    uint32_t kind;   /* 0 once it is closed */
    size_t bytes;
    pmap_pool *pool; /* whose memory it lies in; NULL: a mapping of its own */
};

/* `bytes` of zeroed shared memory that begin with struct pm_shared, in the pool's memory or, when that is NULL, in a
 * mapping that children forked later share.  NULL: *error is what the public call returns. */
void *pm_shared_open(pmap_pool *pool, size_t bytes, enum pm_kind kind, const char *what, int *error);

/* The whole of opening an object that zeroed memory is, and whose options say no more than `pool`. */
struct pm_plain_options {
    size_t size;
    pmap_pool *pool;
};
void *pm_shared_open_plain(const void *given, size_t bytes, enum pm_kind kind, const char *what, int *error);

/* For an object that pm_shared_open() made and whose own part could not be made, for that -errno: the public error. */
int pm_shared_undo(struct pm_shared *shared, int error, const char *what);

/* Gives the memory back: a mapping is unmapped in this process only.  The public error. */
int pm_shared_close(struct pm_shared *shared, enum pm_kind kind, const char *what);

/* Seconds as the caller gave them: negative = for ever (-1), else nanoseconds.  0, PMAP_EINVAL (not a number). */
int pm_seconds(double timeout_s, int64_t *timeout_ns, const char *what);

/* 0, or PMAP_EINVAL with the text set. */
int pm_shared_refuse(const char *what);
static inline int pm_shared_check(const void *object, enum pm_kind kind, const char *what)
{
    const struct pm_shared *shared = object;
    return shared && shared->kind == kind ? 0 : pm_shared_refuse(what);
}

/* What each call that may wait begins with: that object, and `timeout_s` as nanoseconds. */
static inline int pm_shared_begin(const void *object, enum pm_kind kind, double timeout_s, int64_t *timeout_ns, const char *what)
{
    int e = pm_shared_check(object, kind, what);
    return e ? e : pm_seconds(timeout_s, timeout_ns, what);
}

/* Fills *full, which holds the defaults, from what the caller gave (NULL: nothing).  0, PMAP_EINVAL. */
int pm_shared_options(void *full, size_t full_size, const void *given, const char *what);

#endif

/* Streams inside: what pipeline.c makes its stages of. */
#ifndef PM_PMAP_IMAP_H
#define PM_PMAP_IMAP_H

#include "pmap/future.h"

#define PM_LATER 2 /* nothing now, and this is not the end */

/* One input for a stream. */
struct pm_feed {
    const void *in;
    size_t bytes;
    uint64_t index;
    const pmap_failure *failure; /* not NULL: it has failed before it came here, and comes out as that failure */
};
typedef int pm_feed_fn(void *arg, struct pm_feed *feed); /* 1, 0 at the end, PM_LATER, or negative */

/* `next`: the public call that hands out its results, which errors then name. */
int pm_stream_open(pmap_pool *pool, const char *what, const char *next, pmap_work_fn *function, pm_feed_fn *feed, void *arg,
                   const pmap_stream_options *options, bool ordered, pmap_stream **stream);

/* Feeds it as much as its window takes: 0, or a negative error.  Does not wait, in a thread that has entered the pool. */
int pm_stream_pull(pmap_stream *stream);

/* The next result if there is one: 1, 0 at the end, PM_LATER, or a negative error.  As pm_stream_pull(), and pulls first. */
int pm_stream_take(pmap_stream *stream, const void **result, size_t *bytes);

#endif

/* What the two tests of the queue share. */
#ifndef PM_TESTS_QUEUE_H
#define PM_TESTS_QUEUE_H

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/paths.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREADS_ONLY
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || defined(THREADS_ONLY)
#define FEWER 10u
#else
#define FEWER 1u
#endif

static inline void *shared_new(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static inline pmap_queue *open_queue(size_t items, size_t most, pmap_pool *pool)
{
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    pmap_queue *q;
    o.items = items;
    o.message_bytes = most;
    o.pool = pool;
    EXPECT(pmap_queue_open(&q, &o), 0);
    return q;
}

#endif

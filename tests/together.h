/* How many workers of a pool are there, and a call that ends only when so many of them take part in it.  Used by the tests of pools that grow and
 * shrink: test_resize, test_jobserver, test_life, test_life_tasks. */
#ifndef PM_TESTS_TOGETHER_H
#define PM_TESTS_TOGETHER_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/paths.h"

#define MOST_THERE 64u

static inline unsigned there(pmap_pool *pool)
{
    int pids[MOST_THERE];
    unsigned n = pmap_pool_pids(pool, pids, MOST_THERE), alive = 0;
    for (unsigned i = 0; i < n && i < MOST_THERE; i++) alive += pids[i] > 0;
    return alive;
}

struct so_many {
    pmap_pool *pool;
    unsigned workers;
};

static inline bool are_there(void *arg)
{
    struct so_many *s = arg;
    return there(s->pool) == s->workers;
}

static inline void expect_there(pmap_pool *pool, unsigned workers)
{
    struct so_many s = {pool, workers};
    if (!pm_test_wait_until(are_there, &s, 20000)) fail_msg("%u workers, expected %u", there(pool), workers);
}

/* Lies in pmap_alloc() memory. */
struct meeting {
    _Atomic unsigned seen; /* bit i: worker i has come */
    unsigned workers;      /* expected */
};

/* Each of its items ends only when all are there: so nobody can have done the work before the last one came. */
static inline int meet(pmap_task *task, const void *item, void *result)
{
    struct meeting *m = pmap_task_arg(task);
    (void)item, (void)result;
    atomic_fetch_or(&m->seen, 1u << pmap_task_worker(task));
    for (int i = 0; i < 20000 && (unsigned)__builtin_popcount(atomic_load(&m->seen)) < m->workers; i++) (void)usleep(500);
    return (unsigned)__builtin_popcount(atomic_load(&m->seen)) < m->workers;
}

struct meeting_call {
    pmap_pool *pool;
    struct meeting *meeting;
    pthread_t thread;
    int error;
};

static inline void *call_meeting(void *arg)
{
    struct meeting_call *c = arg;
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.arg = c->meeting;
    map.chunk = 1;
    c->error = pmap_map(c->pool, meet, NULL, 8, 0, NULL, 0, &map);
    return NULL;
}

static inline bool somebody_came(void *meeting) { return atomic_load(&((struct meeting *)meeting)->seen) != 0; }

/* In a thread of its own; returns when the first worker has come. */
static inline void begin_meeting(struct meeting_call *c, pmap_pool *pool, unsigned workers)
{
    *c = (struct meeting_call){.pool = pool, .meeting = pmap_alloc(pool, sizeof *c->meeting)};
    assert_non_null(c->meeting);
    *c->meeting = (struct meeting){.workers = workers};
    assert_int_equal(pthread_create(&c->thread, NULL, call_meeting, c), 0);
    assert_true(pm_test_wait_until(somebody_came, c->meeting, 5000));
}

static inline void end_meeting(struct meeting_call *c)
{
    pthread_join(c->thread, NULL);
    EXPECT(c->error, 0);
    pmap_free(c->pool, c->meeting);
}

#endif

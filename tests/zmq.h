/* What the tests of the ZeroMQ channel share: its pool, and functions whose results show which item they are of.
 * Used by tests/test_zmq*.c only. */
#ifndef PM_TESTS_ZMQ_H
#define PM_TESTS_ZMQ_H

#include <string.h>

#include "pmap/pmap.h"
#include "tests/harness.h"

static inline pmap_pool *open_pool(unsigned workers)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool = NULL;
    o.channel = PMAP_ZMQ;
    o.workers = workers;
    assert_int_equal(pmap_pool_open(&pool, &o), 0);
    return pool;
}

static inline int square(pmap_task *task, const void *item, void *result)
{
    int x;
    memcpy(&x, item, sizeof x);
    x = x * x + (int)(pmap_task_index(task) & 1);
    memcpy(result, &x, sizeof x);
    return 0;
}

static inline int squares(pmap_task *task, const void *items, size_t count, void *results)
{
    const int *x = items;
    int *y = results;
    for (size_t i = 0; i < count; i++) y[i] = x[i] * x[i] + (int)((pmap_task_index(task) + i) & 1);
    return 0;
}

static inline int expected(int i) { return i * i + (i & 1); }

#endif

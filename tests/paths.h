/* The ways in which a map can be run, as a table, so that every test of the library runs over all of them: the serial
 * reference, OpenMP threads, and processes with shared memory in place, with copies, and with ZeroMQ where that is
 * built in.  Used by the tests of pmap/ only.
 *
 *     static void order(const struct pm_path *path) { ... }
 *     static const struct pm_path_test tests[] = {{"order", order, PM_ON_ALL}, ...};
 *     int main(void) { return PM_PATHS_MAIN("map", tests); }
 *
 * makes the cmocka tests "order [serial]", "order [threads]", ...  The environment PMAP_TEST_PATHS=serial,threads
 * narrows the table (the thread sanitizer cannot follow other processes). */
#ifndef PM_TESTS_PATHS_H
#define PM_TESTS_PATHS_H

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "pmap/pmap.h"
#include "tests/harness.h"

enum { PM_ON_SERIAL = 1, PM_ON_THREADS = 2, PM_ON_SHM = 4, PM_ON_COPY = 8, PM_ON_ZMQ = 16 };
#define PM_ON_SHARED (PM_ON_SHM | PM_ON_COPY)            /* workers that share the arena */
#define PM_ON_PROCESSES (PM_ON_SHARED | PM_ON_ZMQ)
#define PM_ON_PARALLEL (PM_ON_THREADS | PM_ON_PROCESSES) /* more workers than one */
#define PM_ON_ALL (PM_ON_SERIAL | PM_ON_PARALLEL)
#define PM_ON_NONE 0                                     /* once, without a path: the body gets NULL */

struct pm_path {
    const char *name;
    unsigned bit;           /* one of PM_ON_... */
    pmap_executor executor;
    pmap_channel channel;
    bool in_arena;          /* pm_path_alloc() gives pmap_alloc() memory */
};

struct pm_path_test {
    const char *name;
    void (*body)(const struct pm_path *path);
    unsigned on;
};

int pm_paths_main(const char *name, const struct pm_path_test *tests, size_t n);
#define PM_PATHS_MAIN(name, tests) pm_paths_main((name), (tests), sizeof(tests) / sizeof((tests)[0]))

/* The path of that bit, or NULL where it is not built in or was narrowed away: the test then says skip(). */
const struct pm_path *pm_path(unsigned bit);

/* A pool of this path, which must open. */
pmap_pool *pm_path_open(const struct pm_path *path, unsigned workers);
void pm_path_close(pmap_pool *pool); /* which must succeed */
pmap_options pm_path_options(const struct pm_path *path, unsigned workers);
unsigned pm_path_workers(const struct pm_path *path, unsigned workers); /* how many such a pool has: 1 for serial */

/* Memory of the kind that this path is about; never NULL. */
void *pm_path_alloc(const struct pm_path *path, pmap_pool *pool, size_t bytes);
void pm_path_free(const struct pm_path *path, pmap_pool *pool, void *memory);

/* A map over a few hundred numbers: 0 when it and its results are right, else what it returned, or 1.  It asserts
 * nothing, so an application in a child may use it. */
int pm_small_map(pmap_pool *pool);
int pm_twice(pmap_task *task, const void *item, void *result); /* its function: of a uint32_t */

/* In a function: works until *go, an atomic in pmap_alloc() memory, is not 0, or the task is cancelled, or the test has failed anyway.  It looks
 * as a function does that can be cancelled: nobody wakes it, not even the test that has ended its pool. */
#define PM_HOLD(task, go) \
    for (double end_ = seconds() + 20; !atomic_load(go) && !pmap_task_cancelled(task) && seconds() < end_;) (void)poll(NULL, 0, 1)

/* The call's value, and when it is another one also pmap_error(), which cmocka's message alone would not show. */
void pm_expect(int value, int expected, const char *file, int line);
#define EXPECT(call, expected) pm_expect((call), (expected), __FILE__, __LINE__)
/* pmap_error() has these words in it. */
void pm_expect_text(const char *words, const char *file, int line);
#define EXPECT_TEXT(words) pm_expect_text((words), __FILE__, __LINE__)

/* In a child of the test, which must not use cmocka: says what is wrong and where, and returns 1, its exit status. */
#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "    %s:%d: %s; pmap_error(): %s\n", __FILE__, __LINE__, #condition, pmap_error()); \
            return 1; \
        } \
    } while (0)

/* In a worker, a thread or a child whose function has nothing to return: says so and aborts. */
#define MUST_NOT(condition) \
    do { \
        if (condition) { \
            fprintf(stderr, "    %s:%d: %s; pmap_error(): %s\n", __FILE__, __LINE__, #condition, pmap_error()); \
            abort(); \
        } \
    } while (0)

#endif

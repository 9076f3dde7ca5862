/* The private side of a pool handle and what the public calls share: checks, errors, running one piece of work. */
#ifndef PM_PMAP_POOL_H
#define PM_PMAP_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "pmap/pmap.h"
#include "workers/executor.h"

struct pm_futures; /* future.h */
struct pm_objects; /* objects.h */

#define PM_CLOSED 0x80000000u
#define PM_WATCHED 0x40000000u /* somebody waits for the last call to end */

struct pmap_pool {
    const struct pm_executor_ops *ops;
    struct pm_executor *executor;
    struct pm_objects *objects; /* what was loaded when the workers were forked */
    atomic_uint workers;
    bool rationed;              /* by make's jobserver */
    unsigned most, forks;       /* `forks`: of this process when the pool was opened */
    int64_t spin_ns;            /* how long a thread that waits for a task spins first */
    bool maps_only;             /* the ZeroMQ channel: nobody would send a task while the program is elsewhere */
    struct pm_futures *futures;
    bool closing;               /* one thread ends it; under pools_lock in pool.c, as is the next */
    unsigned helpers;           /* others that do so too, and still look at it */

    atomic_uint calls;          /* under way; and the bits PM_CLOSED and PM_WATCHED */
    atomic_uint holders;        /* the pool itself, and every stream and coroutine: the last one frees this struct */
    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t quiet;       /* no call is under way, and somebody wants to know; on the monotonic clock */
    unsigned waiters;           /* in pmap_pool_wait(): they are calls, too */
    struct pm_cost total;

    struct pmap_pool *next;     /* of all pools of this process, for forked children */
};

/* error.c: sets the calling thread's text and returns `error`. */
int pm_error(int error, const char *format, ...) PMAP_PRINTF(2, 3);
int pm_broken(pmap_pool *pool, const char *what); /* PMAP_EBROKEN, with the cause */
int pm_error_system(int error, const char *doing); /* from a -errno of the layers below */

/* May this process use the pool for `what`?  0, PMAP_EFORK, PMAP_EINVAL, PMAP_ECLOSED. */
int pm_pool_enter(pmap_pool *pool, const char *what);
void pm_pool_leave(pmap_pool *pool);

/* For handles that a program may give back behind the pool's end, as a thread must that was told in a stream that another has terminated the
 * pool: the struct stays for as long as they do, and pm_pool_enter() says that it is closed. */
void pm_pool_hold(pmap_pool *pool);
void pm_pool_release(pmap_pool *pool);

/* map.c: checks the caller's options and fills the parts of *work that they decide. */
int pm_map_begin(pmap_pool *pool, const char *what, const pmap_map_options *options, pmap_map_options *full, struct pm_work *work);
/* Runs it between pm_pool_enter and pm_pool_leave; keeps the failures; `unit` items of the caller are one of the work's, of `count`. */
int pm_map_run(pmap_pool *pool, const char *what, struct pm_work *work, const pmap_map_options *full, uint64_t unit,
               uint64_t count);
/* pmap_map() in a thread that has entered the pool already. */
int pm_map_items(pmap_pool *pool, const char *what, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out,
                 size_t out_size, const pmap_map_options *options);
int pm_map_check(const char *what, const void *in, size_t count, size_t in_size, const void *out, size_t out_size);

/* failure.c */
/* Failures count items from 0; the caller counts from `first`, and `unit` of its items (`count` in all) are one of ours. */
void pm_failures_keep(pmap_pool *pool, struct pm_failure *list, size_t n, uint64_t first, uint64_t unit, uint64_t count);
/* The text of one of them, which is about `count` items from `first`. */
void pm_failure_say(char *line, size_t bytes, const struct pm_failure *f, uint64_t first, uint64_t count);
void pm_failures_forget(pmap_pool *pool);
unsigned long pm_failures_thread(void);                                 /* under which the calling thread's are kept */
void pm_failures_adopt(pmap_pool *pool, unsigned long thread);          /* the calling thread's are the same from now on */
void pm_failures_forget_thread(pmap_pool *pool, unsigned long thread);
extern pthread_mutex_t pm_failures_lock; /* of all the lists; for who forks */

#endif

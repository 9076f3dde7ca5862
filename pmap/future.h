/* Futures inside: what pool.c, wait.c, imap.c and the others that give in work one by one need of them. */
#ifndef PM_PMAP_FUTURE_H
#define PM_PMAP_FUTURE_H

#include "pmap/pool.h"
#include "workers/desk.h"

enum pm_future_state { PM_UNUSED = 0, PM_PENDING, PM_NOTICED };

/* Somebody who wants to be told: see wait.c. */
struct pm_watch {
    struct pm_watch *next;                 /* of the same future */
    struct pm_watch *done;                 /* of those whose future has finished */
    struct pmap_completed *completed;
    pmap_future *future;
};

struct pmap_future {
    pmap_pool *pool;
    uint32_t entry, turn;
    uint8_t state;
    bool detached;            /* nobody has its handle */
    bool timed, errand;
    int64_t timeout_ns;
    uint64_t index;
    void *in, *out;           /* blocks of the pool's heap; NULL where the entry has room */
    pmap_done_fn *done;
    void *done_arg;
    struct pm_watch *watch;
    struct pm_async *async;   /* a whole map, async.c; NULL for a single task */
    pmap_failure failure;
    char *text;
    bool due;                 /* its callback is to be called */
    pmap_future *next;        /* of those */
    uint64_t stamp;           /* of the last list that it was found in: wait.c */
};

#define PM_FUTURE_BLOCK 4096u

struct pm_futures {
    pthread_mutex_t lock;     /* guards all of it, and the desk */
    pthread_mutex_t errands;  /* one broadcast at a time; taken before the other */
    struct pm_desk *_Atomic desk; /* set once */
    pmap_future *block[PM_TASKS / PM_FUTURE_BLOCK]; /* by entry */
    uint64_t submitted, pending, detached;          /* `detached`: of those that are pending */
    pmap_future *due, *due_last;
    uint64_t seen;            /* finished ones noticed so far */
    uint64_t stamp;
    bool watched;             /* the program has asked for the descriptor */
};

/* wait.c: futures whose end somebody waits for, in the order in which they end. */
struct pmap_completed {
    pmap_pool *pool;
    struct pm_watch *watch;
    size_t left;              /* not handed out yet */
    size_t n;                 /* of `watch` */
    struct pm_watch *ready, *ready_last;
};

/* futures.c */
int pm_futures_init(pmap_pool *pool);
int pm_futures_open(pmap_pool *pool, const char *what); /* makes the desk ready: 0, PMAP_ENOTSUP, ... */
/* Waits for everything that was given in, as pm_futures_wait() below. */
int pm_futures_drain(pmap_pool *pool, const char *what, double timeout_s);
void pm_futures_cancel(pmap_pool *pool);     /* terminate: nothing queued is started any more */
void pm_futures_close(pmap_pool *pool, bool forked); /* frees all futures */

void pm_completed_add(struct pm_watch *watch);    /* its future has finished; under the lock */
void pm_completed_forget(struct pm_watch *watch); /* its future is freed before it has; under the lock */
void pm_futures_ring(pmap_pool *pool);            /* makes the descriptor readable */
/* Before looking for what has finished: what finishes from here on makes it readable again, and what did is forgotten. */
void pm_futures_arm(pmap_pool *pool);

/* What one task is to be. */
struct pm_order_of_work {
    int (*run)(struct pm_run *run, struct pm_entry *entry);
    void (*function)(void);
    const void *in;
    size_t bytes;
    uint64_t index;           /* UINT64_MAX = the pool's count */
    unsigned errand;          /* worker + 1; 0 = any */
    struct pm_watch *watch;   /* told when it has finished, or NULL */
    pmap_submit_options options;
};

/* Under the lock: an entry and its future; that it has finished. */
int pm_future_take(pmap_pool *pool, const char *what, pmap_future **future);
void pm_future_notice(pmap_pool *pool, pmap_future *future);

/* async.c */
int pm_async_outcome(struct pm_async *async, pmap_failure *failure, char **text);
void pm_async_free(struct pm_async *async, bool forked);
/* A future that no worker will ever take, and its end. */
int pm_future_reserve(pmap_pool *pool, const char *what, struct pm_async *async, pmap_future **future);
void pm_future_settle(pmap_future *future, bool done);
/* One that has failed already, as `failure` says, in place of one that would be submitted. */
int pm_future_failed(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, const pmap_failure *failure, pmap_future **future);

int pm_submit_options(pmap_pool *pool, const char *what, const pmap_submit_options *given, pmap_submit_options *full);
int pm_submit_check(pmap_pool *pool, const char *what, const struct pm_order_of_work *order); /* have the workers this function? */
int pm_submit(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, pmap_future **future); /* behind that */

/* Under the lock: takes note of everything that has finished; returns how many that were. */
size_t pm_futures_notice(pmap_pool *pool);
bool pm_future_finished(pmap_future *future); /* any thread; without the lock */
static inline bool pm_future_ready(void *future) { return pm_future_finished(future); } /* for pm_futures_wait() */
int pm_future_result(pmap_future *future, const char *what, const void **result, size_t *bytes); /* of a finished one */
void pm_future_words(const pmap_future *future, char *text); /* the function's own, of one that has failed: PM_TEXT bytes */
void pm_future_drop(pmap_future *future);     /* gives it back in whatever state it is; without the lock */
void pm_future_release(pmap_future *future);  /* of a finished one, under the lock */

/* Blocks until `ready(arg)`, at most timeout_s seconds (< 0 = for ever): 0, PMAP_ETIMEDOUT, PMAP_EBROKEN, PMAP_ECANCELLED.  Without the lock. */
int pm_futures_wait(pmap_pool *pool, const char *what, bool (*ready)(void *arg), void *arg, double timeout_s);

#endif

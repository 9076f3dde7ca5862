/* pmap: a parallel map over processes that costs what threads cost and survives the death of its workers.
 *
 * This header reads from the simplest call to the most advanced.  Each comment gives shapes and units, who owns what
 * until when, which thread may call, whether the call blocks, and every error it returns.  pmap(7) is the overview.
 *
 * Caveats, honestly:
 *  - A function runs at least once an item and, when workers die, up to retries + 1 times, but for a whole chunk that is run again
 *    item by item after a failed call (pmap_chunks, pmap_for), and for ZeroMQ, where the finished items of a chunk are lost with its
 *    worker and run again: it must not care (see `once`).
 *  - Workers are forked when the pool opens.  They see the program's memory as it was then; later changes reach them
 *    only through pmap_alloc() memory, through `arg`, and through a call's input.
 *  - Input in pmap_alloc() memory is shared, not copied.  A function that writes to its input, or past its result,
 *    does what such a function does with threads.
 *  - libgomp does not survive a fork after a parallel region (gcc bug 60035): a forked child must not use PMAP_THREADS after its parent
 *    did.  Processes are safe: the pool puts libgomp's threads away before it forks.
 *  - A worker keeps no descriptor of the application but 1 and 2 (option `keep_fds`); its standard input is /dev/null.
 */
#ifndef PMAP_PMAP_H
#define PMAP_PMAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PMAP_API __attribute__((visibility("default")))
#define PMAP_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define PMAP_API
#define PMAP_PRINTF(f, a)
#endif

/* ---- Version: the header's, and the library's that runs ---- */
#define PMAP_VERSION_MAJOR 0
#define PMAP_VERSION_MINOR 1
#define PMAP_VERSION_PATCH 0
#define PMAP_VERSION "0.1.0"

/* The version of the library that runs, such as "0.1.0".  Static text.  Any thread; does not block; cannot fail. */
PMAP_API const char *pmap_version(void);

/* ---- Errors: negative, and their numbers never change ---- */
enum {
    PMAP_OK = 0,
    PMAP_EINVAL = -1,      /* an argument is wrong; the text names it, its value and what was expected */
    PMAP_ENOMEM = -2,      /* not enough memory, or a limit on it (RLIMIT_AS, RLIMIT_FSIZE, cgroup) */
    PMAP_EITEMS = -3,      /* the call ran, some items failed: pmap_failures() lists them; all other results are right */
    PMAP_ECLOSED = -4,     /* the pool is closed or being closed; the queue is closed */
    PMAP_EFORK = -5,       /* a forked child, or a function that the pool runs, used it: the pool belongs to its opener */
    PMAP_EBROKEN = -6,     /* workers die without any progress, or the init hook fails, the text gives the last cause; or a party of a barrier
                              has died */
    PMAP_EFUNCTION = -7,   /* the function is in an object loaded after the pool opened: the workers do not have it */
    PMAP_EOVERLAP = -8,    /* input and output overlap without being the same place and size */
    PMAP_EOVERFLOW = -9,   /* count times size does not fit in size_t */
    PMAP_ENOTSUP = -10,    /* this executor or build cannot do that (a deadline on threads, ZeroMQ not built in or not there, pools too deep) */
    PMAP_ESYSTEM = -11,    /* the operating system refused something; the text names the call and the reason */
    PMAP_ECANCELLED = -12, /* the call was ended by pmap_pool_terminate() in another thread; a future was cancelled or killed */
    PMAP_ETIMEDOUT = -13,  /* the time given to a wait is over; nothing was changed */
    PMAP_EOWNERDEAD = -14, /* you hold the lock, but its last owner died with it: repair what it guards */
    PMAP_ETOOBIG = -15,    /* a message or result is larger than was agreed; the text gives both sizes */
    PMAP_EPERM = -16,      /* the object is held by another, or not held by the caller */
    PMAP_EDEADLOCK = -17,  /* the caller holds it already: it would wait for itself */
    PMAP_ESOURCE = -18,    /* the caller's source of inputs reported an error */
    PMAP_ENOENT = -19,     /* the program or file to run does not exist */
    PMAP_EACCES = -20,     /* the program or file to run may not be run or opened */
    PMAP_ESTATUS = -21     /* a command ended with another status than 0, or by a signal; the text names it */
};

/* A few words on an error number, such as "some items failed".  Static text, never NULL.  Any thread; does not block. */
PMAP_API const char *pmap_strerror(int error);

/* The full text of the last error that a pmap call returned to the calling thread: what, where, what was expected.
 * Valid until this thread's next failing call.  "" when there was none.  Does not block. */
PMAP_API const char *pmap_error(void);

/* ---- A pool ---- */
typedef struct pmap_pool pmap_pool;

typedef enum { PMAP_PROCESSES = 0, PMAP_THREADS = 1, PMAP_SERIAL = 2 } pmap_executor;
typedef enum { PMAP_SHM = 0, PMAP_ZMQ = 1 } pmap_channel;

/* Run once in each worker, before its first item and after its last.  `worker` is its number, *state its own: what init leaves
 * there functions get from pmap_task_state(), and exit gets it back.  init returns 0, or a code of its own: then the pool is
 * PMAP_EBROKEN.  What exit returns is ignored. */
typedef int pmap_hook_fn(unsigned worker, void **state, void *arg);

typedef struct pmap_options {
    size_t size;             /* set by PMAP_OPTIONS_INIT */
    unsigned workers;        /* 0 = the CPUs this process may use: min(affinity, cgroup quota); at most 4095 */
    pmap_executor executor;  /* processes, OpenMP threads, or the caller's own thread */
    pmap_channel channel;    /* of processes: shared memory, or ZeroMQ over ipc, which needs libzmq: see pmap_pool_open() */
    size_t memory;           /* bytes of address space set aside for pmap_alloc(); 0 = twice the machine's memory */
    int spin_us;             /* how long idle workers and waiting callers spin before they sleep: 0 = 20 where CPUs are
                                spare, -1 = never */
    int keep_fds;            /* 1 = workers keep the descriptors that are open when the pool opens */
    int no_huge_pages;       /* 1 = never ask for huge pages */

    /* A worker's life.  The hooks run in every kind of pool; all that follows them needs processes. */
    pmap_hook_fn *init;      /* when a worker begins, also one that replaces another, and each thread that runs tasks; NULL = none */
    pmap_hook_fn *exit;      /* when it leaves in order, not when it dies; it has one second (in pmap_pool_terminate(): the grace) */
    void *hook_arg;          /* handed to both; a worker sees the memory behind it as it was when the pool opened */
    size_t recycle_items;    /* a worker is replaced after so many items or tasks; 0 = never.  Tuned chunks are not longer than that */
    size_t recycle_bytes;    /* ... after its private memory has grown by so much */
    double recycle_s;        /* ... at the first chunk that ends when it is so old.  All three are checked between chunks */
    unsigned most_workers;   /* up to which pmap_pool_resize() may go; 0 = the largest of `workers`, the CPUs and 8 */
    unsigned min_workers;    /* so many stay however long they are idle; 0 = 1 */
    double idle_s;           /* the others leave when there was no work for so long, and come back when there is; 0 = they stay */
    int jobserver;           /* 1 = run no more workers than GNU make gives tokens for; see pmap_pool_open(3) */
} pmap_options;
#define PMAP_OPTIONS_INIT { sizeof(pmap_options), 0, PMAP_PROCESSES, PMAP_SHM, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0.0, 0 }

/* A function that a process pool runs may open pools of its own.  So many pools of processes may be around a process, one in the other. */
#define PMAP_NESTED 4

/* Opens a pool and forks its workers.  `options` may be NULL: processes, shared memory, as many workers as CPUs.
 * On success *pool is the caller's until pmap_pool_close() or pmap_pool_terminate(); on error *pool is NULL and nothing is
 * left behind.  Any thread, which may exit before the pool is closed.  Blocks for about three forks.
 * Flushes stdout and stderr, so that what they hold is not written twice.
 * The init hook of processes runs after this has returned: when it fails the pool's calls are PMAP_EBROKEN and name it.  That of threads and
 * of a serial pool runs before this returns; it fails in the same way.
 * The first pool with PMAP_ZMQ loads libzmq, which then stays in the process: no program is linked with it.  Where it cannot be loaded that
 * is PMAP_ENOTSUP, with the dynamic linker's reason in the text; a program linked with -static never can.  A fork in another thread waits
 * until it is loaded.
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ENOTSUP (also: more than PMAP_NESTED pools one in the other), PMAP_ESYSTEM. */
PMAP_API int pmap_pool_open(pmap_pool **pool, const pmap_options *options);

/* Waits until everything that was given in has finished and no call of any thread is under way on the pool, at most timeout_s seconds (0 =
 * only asks, negative = without limit); the pool stays open.  With it a close is bounded: wait so long, then pmap_pool_terminate().  Any thread of the opening process.
 * Errors: PMAP_ETIMEDOUT, PMAP_EINVAL, PMAP_EBROKEN, PMAP_ECANCELLED, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_pool_wait(pmap_pool *pool, double timeout_s);

/* Finishes calls of other threads that are under way, then ends the workers and frees all of the pool, its pmap_alloc() memory included.
 * NULL is allowed, and so is a pool that is closed or being closed: then it waits until that has come to its end, and returns 0.  (A pool that
 * is opened later may lie at the same address.)  Any thread of the process that opened the pool; no other call on it may start later.
 * Blocks until the running calls end, a second at most for the workers, and 3 s at most until what their functions have started and left behind
 * has died of its SIGKILL.  In a forked child it frees that child's own part and leaves the parent's pool alone.
 * Errors: PMAP_ESYSTEM when a worker could not be ended (the memory is freed all the same); PMAP_EFORK: a function that a pool of threads or
 * a serial pool runs wanted to close it. */
PMAP_API int pmap_pool_close(pmap_pool *pool);

/* As pmap_pool_close(), but calls under way in other threads end with PMAP_ECANCELLED: nothing new is started, and what
 * runs has grace_s seconds (0 = none) before it is killed.  Blocks for grace_s and a little more (at most those 3 s); threads and the
 * calling thread cannot be killed: those pools wait for the items that run.  Makes a pmap_pool_close() that waits in another thread hurry.
 * Errors: PMAP_EINVAL (grace_s), PMAP_ESYSTEM, PMAP_EFORK. */
PMAP_API int pmap_pool_terminate(pmap_pool *pool, double grace_s);

/* From now on the pool has so many workers, 1 to options->most_workers; also while calls run.  Does not wait: new workers join calls that
 * run as soon as they are forked; those too many leave when their chunk is done (ZeroMQ: within half a second).  A pmap_broadcast() that is
 * under way comes to its end first.  When a fork fails it is tried again.  Any thread of the opening process.
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ECLOSED, PMAP_EFORK, PMAP_EBROKEN, PMAP_ENOTSUP (not a pool of processes), PMAP_ESYSTEM;
 * the pool is then as it was. */
PMAP_API int pmap_pool_resize(pmap_pool *pool, unsigned workers);

/* How many workers the pool is to have: those of the options, or of the last pmap_pool_resize().  Any thread; does not block. */
PMAP_API unsigned pmap_pool_workers(const pmap_pool *pool);

/* ---- Memory that the workers share ---- */

/* `bytes` of memory at the same address in all workers, aligned to 64 bytes (to 2 MiB from 2 MiB on), not set to zero
 * unless it is new.  Its pages are committed here, so that a lack of memory is an error now and never a SIGBUS later.
 * Valid until pmap_free() or the pool's end.  On error NULL, with pmap_error() set.  bytes = 0 gives a valid pointer.
 * Any thread of the opening process; blocks only for the kernel's work.  Also serves thread and serial pools.
 * Errors (as pmap_error() text): PMAP_ENOMEM, PMAP_EINVAL, PMAP_EFORK, PMAP_ECLOSED. */
PMAP_API void *pmap_alloc(pmap_pool *pool, size_t bytes);

/* Gives memory back to the pool, and its pages to the system.  NULL is allowed.  No call may be using it.  A pointer that
 * pmap_alloc() did not return is ignored, and pmap_error() says so.  Any thread of the opening process. */
PMAP_API void pmap_free(pmap_pool *pool, void *memory);

/* ---- What a function is told, and may say: valid only during the call ---- */
typedef struct pmap_task pmap_task;

/* Values that a function returns: 0 done; > 0 this item failed, with the caller's own code; PMAP_RETRY: run it again, at
 * most `retries` times, then it has failed with that value. */
#define PMAP_RETRY (-1)

typedef int pmap_item_fn(pmap_task *task, const void *item, void *result);                       /* one call an item */
typedef int pmap_chunk_fn(pmap_task *task, const void *items, size_t count, void *results);      /* one call a chunk */
typedef int pmap_range_fn(pmap_task *task, size_t first, size_t last);                           /* [first, last), no input */
typedef void pmap_combine_fn(void *acc, const void *partial, void *arg);

PMAP_API size_t pmap_task_index(const pmap_task *task);        /* the item's index; a chunk's or range's first */
PMAP_API unsigned pmap_task_worker(const pmap_task *task);     /* 0 .. workers - 1 */
PMAP_API unsigned pmap_task_attempt(const pmap_task *task);    /* 0 the first time */
PMAP_API void *pmap_task_arg(const pmap_task *task);           /* options->arg, or the copy of it that the workers share */
PMAP_API void *pmap_task_state(const pmap_task *task);         /* what the init hook left for this worker; NULL without one */
PMAP_API int pmap_task_cancelled(const pmap_task *task);       /* 1 = the result is no longer wanted: return soon */

/* For chunk and range functions: "I am now at item `index`".  A death or a deadline then names that item exactly, and
 * pmap_task_random() starts that item's stream.  In a reduction only the latter: there a chunk lives or fails as a whole. */
PMAP_API void pmap_task_item(pmap_task *task, size_t index);

/* The next 64 random bits of a stream that depends on (options->seed, item index) only: the same for any number of workers,
 * any path and any retry.  SplitMix64 (Steele, Lea, Flood 2014) started at a hash of the two. */
PMAP_API uint64_t pmap_task_random(pmap_task *task);

/* A text for pmap_failures(), up to 111 bytes, for when the function then returns > 0 or PMAP_RETRY. */
PMAP_API void pmap_task_error(pmap_task *task, const char *format, ...) PMAP_PRINTF(2, 3);

/* ---- The maps ---- */
typedef enum { PMAP_ON_ERROR_COLLECT = 0, PMAP_ON_ERROR_STOP = 1 } pmap_on_error;

struct pmap_stats;

typedef struct pmap_map_options {
    size_t size;             /* set by PMAP_MAP_OPTIONS_INIT */
    void *arg;               /* for pmap_task_arg() */
    size_t arg_size;         /* > 0: processes get a copy of these bytes; 0: all get the pointer as it is */
    size_t chunk;            /* items a chunk, at most 16777216; 0 = tuned from the measured time an item */
    double timeout_s;        /* seconds an item may take (a chunk: so much for each of its items), then its worker is killed;
                                0 = no limit; processes only */
    int retries;             /* how often an item is run again after its worker died, timed out or it said PMAP_RETRY: at most 30 */
    pmap_on_error on_error;  /* go on and collect all failures, or start nothing more after the first */
    int once;                /* 1 = never run an item twice: what a death interrupts has failed */
    uint64_t seed;           /* for pmap_task_random() */
    struct pmap_stats *stats;/* filled before the call returns, also with PMAP_EITEMS; NULL = not wanted */
} pmap_map_options;
#define PMAP_MAP_OPTIONS_INIT { sizeof(pmap_map_options), 0, 0, 0, 0.0, 2, PMAP_ON_ERROR_COLLECT, 0, 0, 0 }

/* All four maps: `options` may be NULL.  They block until every item is done or has failed.  Any thread of the process that
 * opened the pool; several threads may map on one pool at once.  `in` and `out` may be anywhere: in pmap_alloc() memory they
 * cost no copy, elsewhere they are copied through it.  They may be the same place when in_size == out_size (then mark the
 * call `once` unless the function can run twice on its own result); any other overlap is refused.  Results of failed items
 * are undefined.  Memory stays the caller's; it must not change while the call runs.
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_EITEMS, PMAP_ECLOSED, PMAP_EFORK, PMAP_EBROKEN, PMAP_EFUNCTION, PMAP_EOVERLAP,
 * PMAP_EOVERFLOW, PMAP_ENOTSUP, PMAP_ESYSTEM, PMAP_ECANCELLED. */

/* out[i] = function(in[i]) for count items.  out may be NULL when out_size is 0, and in when in_size is 0. */
PMAP_API int pmap_map(pmap_pool *pool, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out,
                      size_t out_size, const pmap_map_options *options);

/* The same, one call a chunk.  The function must accept any count from 1 to the chunk size: when a call for several items fails, by
 * its code or its death, these items run again one at a time, so that exactly the guilty one fails (not with `once`). */
PMAP_API int pmap_chunks(pmap_pool *pool, pmap_chunk_fn *function, const void *in, size_t count, size_t in_size, void *out,
                         size_t out_size, const pmap_map_options *options);

/* function(first', last') over pieces of [first, last) that cover it exactly once. */
PMAP_API int pmap_for(pmap_pool *pool, pmap_range_fn *function, size_t first, size_t last, const pmap_map_options *options);

/* acc = combine(...combine(combine(acc, p0), p1)..., pN), pK = partial(chunk K), in chunk order.  Chunk borders depend on
 * `count` alone (at most 1024 chunks of equal size, however large; options->chunk overrides), so the result has the same bits on every path, with any number of
 * workers and any deaths.  combine runs in the calling thread.  A failed chunk makes the call PMAP_EITEMS and acc unchanged. */
PMAP_API int pmap_reduce(pmap_pool *pool, pmap_chunk_fn *partial, pmap_combine_fn *combine, const void *in, size_t count,
                         size_t in_size, void *acc, size_t acc_size, const pmap_map_options *options);

/* A column of values for pmap_starmap(): value j is at data + j * size.  data may be NULL when size or count is 0: the function gets NULL. */
typedef struct pmap_column {
    const void *data;
    size_t size, count;
} pmap_column;

/* ZIP: item i is value i of each column, which must all be as long.  PRODUCT: every combination, the last column changing fastest, as in
 * Python's itertools.product: item i of columns a, b is a[i / b.count], b[i % b.count]. */
typedef enum { PMAP_ZIP = 0, PMAP_PRODUCT = 1 } pmap_star;

#define PMAP_COLUMNS 32 /* at most */

/* values[k] points to column k's value of this item; the array and the values are valid during the call. */
typedef int pmap_star_fn(pmap_task *task, const void *const *values, void *result);

/* out[i] = function(one value of each column).  Only the columns' own bytes are ever stored or copied, not the combinations: columns in
 * pmap_alloc() memory are used where they are, others are copied there once for the call.  No column may overlap `out`.
 * In all else as pmap_map(): options, failures (an item's index says which values: see above), threads, blocking.
 * Errors: the maps'; PMAP_EINVAL also when the columns of a ZIP are not as long, PMAP_EOVERFLOW when the number of combinations does not
 * fit in size_t. */
PMAP_API int pmap_starmap(pmap_pool *pool, pmap_star_fn *function, pmap_star kind, const pmap_column *columns, size_t ncolumns, void *out,
                          size_t out_size, const pmap_map_options *options);

/* ---- What failed ---- */
typedef enum {
    PMAP_CAUSE_CODE = 1,    /* the function returned `value` */
    PMAP_CAUSE_SIGNAL = 2,  /* its worker was ended by signal `value` */
    PMAP_CAUSE_EXIT = 3,    /* its worker exited with status `value` inside the function */
    PMAP_CAUSE_TIMEOUT = 4, /* it ran longer than timeout_s and was killed */
    PMAP_CAUSE_MEMORY = 5,  /* the kernel ended its worker for want of memory */
    PMAP_CAUSE_CANCELLED = 6, /* it was never run, as the call stopped before; or it was ended while it ran */
    PMAP_CAUSE_SIZE = 7       /* its result was larger than agreed: `value` bytes */
} pmap_cause;

typedef struct pmap_failure {
    size_t item;       /* the first item that this is about */
    size_t count;      /* 1, or more where a whole chunk failed (reduce, `once`, cancelled) */
    pmap_cause cause;
    int value;
    unsigned attempts; /* how often it was run */
    const char *text;  /* such as "item 777: its worker was ended by SIGSEGV (Segmentation fault), 3 attempts" */
} pmap_failure;

/* The failures of the calling thread's last map on this pool, by item, or NULL with *count = 0.  At most 1,048,576 are listed;
 * pmap_stats counts all.  The pool's until the calling thread's next map on it, or its end.  Does not block. */
PMAP_API const pmap_failure *pmap_failures(pmap_pool *pool, size_t *count);

/* ---- Futures: work given in one by one ----
 * For processes with the shared-memory channel, threads and the serial executor; a pool with the ZeroMQ channel takes maps only
 * (PMAP_ENOTSUP).  On threads no task can be ended from outside.  A serial pool runs a task in the thread that waits for one, asks whether
 * one is done, or polls.  Tasks begin in the order in which they were given in, behind maps that run on the pool. */
typedef struct pmap_future pmap_future;

/* Works on `bytes` bytes of input, 64-byte aligned unless they lie in pmap_alloc() memory and are used there.  Returns as the functions of the maps do. */
typedef int pmap_work_fn(pmap_task *task, const void *in, size_t bytes);

/* Room for the task's result of `bytes` bytes, 64-byte aligned, not set to zero; the last call counts, and without one the result is empty.  NULL when that is
 * more than `result_max`: the task then fails with PMAP_CAUSE_SIZE, whatever it returns.  In a map NULL. */
PMAP_API void *pmap_task_result(pmap_task *task, size_t bytes);

/* Called by pmap_pool_poll() in the thread that called that, once, when the future has finished.  It may submit, and may free the future. */
typedef void pmap_done_fn(pmap_future *future, void *arg);

typedef struct pmap_submit_options {
    size_t size;             /* set by PMAP_SUBMIT_OPTIONS_INIT */
    void *arg;               /* for pmap_task_arg(): the pointer as it is */
    size_t result_max;       /* most bytes of the result; up to 64 cost nothing; 0 = 64 */
    double timeout_s;        /* seconds it may run, then its worker is killed; 0 = no limit; processes only */
    int retries;             /* as in pmap_map_options */
    int once;
    uint64_t seed;           /* for pmap_task_random(), with the task's index */
    pmap_done_fn *done;      /* callback, or NULL */
    void *done_arg;          /* for it, and for pmap_future_arg() */
} pmap_submit_options;
#define PMAP_SUBMIT_OPTIONS_INIT { sizeof(pmap_submit_options), 0, 0, 0.0, 2, 0, 0, 0, 0 }

/* Gives in one task and returns at once.  The input is copied, unless it lies in pmap_alloc() memory: that must not change before the
 * task has finished.  *future is the caller's until pmap_future_free() or the pool's end; future = NULL: nobody will ask for the result
 * (a callback still gets it).  A future costs 256 bytes of the pool's memory and about 160 of the program's, and what input and
 * result have beyond 64 bytes each; at most 1,048,576 may exist at once.  Any thread of the process that opened the pool.
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ENOTSUP, PMAP_EFUNCTION, PMAP_ECLOSED, PMAP_EFORK, PMAP_ESYSTEM. */
PMAP_API int pmap_submit(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, const pmap_submit_options *options,
                         pmap_future **future);

/* The same, and waits for it: the result is copied to `result`, whose size *result_bytes gives before and the result's size after; both may be
 * NULL.  Blocks.  Errors: those of pmap_submit() and pmap_future_get(); PMAP_ETOOBIG also when there is no room for the result. */
PMAP_API int pmap_apply(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, void *result, size_t *result_bytes,
                        const pmap_submit_options *options);

/* Waits until it has finished, at most timeout_s seconds (0 = look only, negative = for ever), and gives its result: *result, which is the
 * future's, and *bytes; either may be NULL.  Any thread, as often as wanted.
 * Errors: PMAP_ETIMEDOUT, PMAP_EITEMS (it failed: pmap_future_failure() says how), PMAP_ETOOBIG (its result was larger than result_max),
 * PMAP_ECANCELLED (cancelled, killed, or the pool was terminated), PMAP_EBROKEN, PMAP_EINVAL, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_future_get(pmap_future *future, double timeout_s, const void **result, size_t *bytes);

PMAP_API int pmap_future_done(pmap_future *future);           /* 1 = finished, failed or cancelled; 0; or an error.  Does not block */
PMAP_API size_t pmap_future_index(const pmap_future *future); /* its number: the pool's tasks count from 0; a stream's do so too */
PMAP_API void *pmap_future_arg(const pmap_future *future);    /* options->done_arg */

/* What ended a future that has finished and is no success: item = its index, cause, signal or code, text.  Else NULL.  The
 * future's.  Does not block. */
PMAP_API const pmap_failure *pmap_future_failure(pmap_future *future);

/* Takes back what has not begun: 1; too late: 0; or an error.  Does not block. */
PMAP_API int pmap_future_cancel(pmap_future *future);

/* The same, and ends it if it runs: its worker is killed and replaced, no other task is charged.  Returns at once; the future then finishes with
 * PMAP_ECANCELLED, or with its result if it was faster.  (One marked `once` that its worker had taken up just then fails: it must not run
 * again.)  On threads what runs sees pmap_task_cancelled() and is not ended, a map of pmap_map_async() goes on: PMAP_ENOTSUP. */
PMAP_API int pmap_future_kill(pmap_future *future);

/* Gives the future back, with its result.  One that has not finished goes on, and nobody will know its result.  NULL is allowed.  Not
 * while another thread uses it. */
PMAP_API void pmap_future_free(pmap_future *future);

/* Several futures of one pool; the same one may be in the list twice, and counts once. */
typedef enum { PMAP_ANY = 1, PMAP_ALL = 2, PMAP_FIRST_ERROR = 3 } pmap_when;

/* Waits until any of them has finished, all have, or the first has failed (or all have finished), at most timeout_s seconds
 * (negative = for ever).  Errors: PMAP_ETIMEDOUT, PMAP_EINVAL, PMAP_ENOMEM, PMAP_EBROKEN, PMAP_ECANCELLED, PMAP_ECLOSED, PMAP_EFORK.  That
 * one has failed is no error of this call. */
PMAP_API int pmap_wait(pmap_future *const *list, size_t n, pmap_when when, double timeout_s);

/* Hands out the futures of a list in the order in which they finish.  *completed is the caller's until pmap_completed_free(), which must
 * come before any of its futures that has not been handed out is freed, and before the pool's end. */
typedef struct pmap_completed pmap_completed;
PMAP_API int pmap_as_completed(pmap_future *const *list, size_t n, pmap_completed **completed);
/* The next one, waiting at most timeout_s seconds; *future = NULL when all have been handed out.  Errors as pmap_wait(). */
PMAP_API int pmap_completed_next(pmap_completed *completed, double timeout_s, pmap_future **future);
PMAP_API void pmap_completed_free(pmap_completed *completed); /* NULL is allowed */

/* A descriptor for poll(), epoll, libuv or GLib: readable when a future has finished since the last pmap_pool_poll(), when the pool is broken
 * while something is pending, and when the supervisor has died: pmap_pool_poll() then starts another.  So a program that does nothing but
 * sleep there and poll misses nothing.  The pool's: do not read or close it.
 * Errors: PMAP_ENOTSUP, PMAP_ENOMEM, PMAP_EBROKEN, PMAP_ECANCELLED, PMAP_ESYSTEM, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_pool_fd(pmap_pool *pool);

/* Calls the callbacks of all futures that have finished, waiting for the first at most timeout_s seconds (0 = not at all, negative = for
 * as long as anything is pending).  Returns how many it called, or an error, behind which it has called them, too.
 * Errors: those of pmap_wait(); of a program that has asked for the descriptor also PMAP_ESYSTEM: the supervisor has died, and no other
 * can be started now.  It is tried again with the next call, of which the descriptor does not tell. */
PMAP_API int pmap_pool_poll(pmap_pool *pool, double timeout_s);

/* ---- Streams: inputs of any size, as many as come ---- */
typedef struct pmap_stream pmap_stream;

/* Yields the next input: 1 with *in and *bytes set, 0 at the end, or a negative number for an error.  The input is the source's until its next
 * call, when it has been copied; in pmap_alloc() memory it is not copied and must stay until its result has been handed out.
 * Called by pmap_stream_next() in the calling thread; it may block. */
typedef int pmap_source_fn(void *source_arg, const void **in, size_t *bytes);

typedef struct pmap_stream_options {
    size_t size;             /* set by PMAP_STREAM_OPTIONS_INIT */
    void *arg;               /* these as in pmap_submit_options */
    size_t result_max;
    double timeout_s;
    int retries;
    int once;
    uint64_t seed;
    size_t window;           /* most items given in and not handed out yet; 0 = 256 a worker; at most 524288 */
    size_t window_bytes;     /* most bytes of their inputs and `result_max`, one item always fits; 0 = 64 MiB */
    pmap_on_error on_error;  /* go on after a failure, or let the stream end */
} pmap_stream_options;
#define PMAP_STREAM_OPTIONS_INIT { sizeof(pmap_stream_options), 0, 0, 0.0, 2, 0, 0, 0, 0, PMAP_ON_ERROR_COLLECT }

/* Opens a stream of function(input) for each input of the source: results in the order of the inputs, or in the order in which they finish.
 * Nothing is pulled before the first pmap_stream_next().  *stream is the caller's until pmap_stream_close(), which may come behind the
 * pool's end; one thread at a time.  Does not block.  Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ENOTSUP, PMAP_EFUNCTION, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_imap(pmap_pool *pool, pmap_work_fn *function, pmap_source_fn *source, void *source_arg, const pmap_stream_options *options,
                       pmap_stream **stream);
PMAP_API int pmap_imap_unordered(pmap_pool *pool, pmap_work_fn *function, pmap_source_fn *source, void *source_arg,
                                 const pmap_stream_options *options, pmap_stream **stream);

/* The next result: 1, with *result (the stream's until its next call) and *bytes; 0 at the end.  Waits at most timeout_s seconds (negative
 * = for ever) behind the source.  Errors: of this item alone PMAP_EITEMS and PMAP_ETOOBIG, after which the stream goes on (unless on_error says
 * otherwise); PMAP_ETIMEDOUT, nothing is lost; PMAP_ESOURCE, told once, when all results before it have been handed out; PMAP_EBROKEN,
 * PMAP_ECANCELLED, PMAP_ENOMEM, PMAP_EINVAL, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_stream_next(pmap_stream *stream, double timeout_s, const void **result, size_t *bytes);

PMAP_API size_t pmap_stream_index(const pmap_stream *stream);                  /* which input the last result belongs to, from 0 */
PMAP_API const pmap_failure *pmap_stream_failure(const pmap_stream *stream);   /* of the last one, or NULL */
/* At any time: what has not begun never will, what runs is told (pmap_task_cancelled()) and waited for.  NULL is allowed. */
PMAP_API void pmap_stream_close(pmap_stream *stream);

/* ---- Pipelines: what one stage makes of an input is the next one's input ---- */
typedef struct pmap_pipeline pmap_pipeline;

typedef struct pmap_stage {
    pmap_work_fn *function;
    unsigned workers;        /* of this stage; 0 = the CPUs this process may use */
    pmap_executor executor;  /* processes for computing, threads for waiting */
    size_t queue;            /* most items in this stage, waiting, worked on, or waiting for the next; 0 = 4 a worker */
    size_t result_max;       /* these as in pmap_submit_options */
    void *arg;
    double timeout_s;
    int retries;             /* unlike there 0 means 2; -1 = none */
    int once;
} pmap_stage;

typedef struct pmap_pipeline_options {
    size_t size;             /* set by PMAP_PIPELINE_OPTIONS_INIT */
    int unordered;           /* 1 = results as they finish, in all stages; else in the order of the inputs */
    size_t window_bytes;     /* of each stage, as in pmap_stream_options */
    pmap_on_error on_error;  /* go on after an item has failed, or let the pipeline end */
    const pmap_options *pool;/* for the stages' pools: all but workers and executor; NULL = PMAP_OPTIONS_INIT */
} pmap_pipeline_options;
#define PMAP_PIPELINE_OPTIONS_INIT { sizeof(pmap_pipeline_options), 0, 0, PMAP_ON_ERROR_COLLECT, 0 }

/* Opens a pool for each stage.  Inputs come from the source as in pmap_imap(); an item that fails in a stage takes no part in the next ones
 * and comes out as a failure in its turn.  `stages` and `options` are copied.  *pipeline is the caller's until pmap_pipeline_close(); one thread
 * at a time.  Errors: those of pmap_pool_open() and pmap_imap(). */
PMAP_API int pmap_pipeline_open(const pmap_stage *stages, size_t count, pmap_source_fn *source, void *source_arg,
                                const pmap_pipeline_options *options, pmap_pipeline **pipeline);

/* The next result, as pmap_stream_next(); it also passes on between the stages what has finished, so that they work for as long as the
 * program asks, and stop at their bounds when it does not. */
PMAP_API int pmap_pipeline_next(pmap_pipeline *pipeline, double timeout_s, const void **result, size_t *bytes);
PMAP_API size_t pmap_pipeline_index(const pmap_pipeline *pipeline);                /* which input the last result belongs to */
PMAP_API const pmap_failure *pmap_pipeline_failure(const pmap_pipeline *pipeline); /* of the last one, or NULL */
/* A stage's pool, for pmap_pool_pids() and the like; NULL: no such stage.  It must not be closed. */
PMAP_API pmap_pool *pmap_pipeline_pool(const pmap_pipeline *pipeline, size_t stage);
PMAP_API void pmap_pipeline_close(pmap_pipeline *pipeline); /* at any time: what is under way is dropped.  NULL is allowed */

/* ---- More ways to give in work ---- */

/* function(in) once on every worker: results[i] is worker i's, the first result_size bytes of it, zeroes where it is shorter.  Blocks.  A worker
 * that dies over it does it again when it has been replaced (option retries).  Failures are listed by pmap_failures(), item = worker.
 * Of the options `done` and `result_max` are not used.  Not in a pool with the option jobserver (PMAP_ENOTSUP), which may never have all of them.
 * Errors: those of pmap_submit(), PMAP_EITEMS, PMAP_EBROKEN, PMAP_ECANCELLED. */
PMAP_API int pmap_broadcast(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, void *results, size_t result_size,
                            const pmap_submit_options *options);

/* pmap_map() as a future, which has no result of its own: out holds them when it has finished.  in, out and options->stats are the
 * call's until then.  pmap_future_get() returns what the map does, and pmap_failures() in that thread then lists what failed.  All executors and
 * channels: a thread that exists as long as the map does runs it.  It cannot be cancelled (0) or killed (PMAP_ENOTSUP).
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ENOTSUP, PMAP_EOVERLAP, PMAP_EOVERFLOW, PMAP_ESYSTEM, PMAP_ECLOSED, PMAP_EFORK. */
PMAP_API int pmap_map_async(pmap_pool *pool, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out,
                            size_t out_size, const pmap_map_options *options, pmap_future **future);

/* A function with a state, fed one value at a time and answering after each.  Each step runs on whatever worker is free, on a copy of the
 * state; a step that fails or dies has changed nothing, and is run again (option retries). */
typedef struct pmap_coroutine pmap_coroutine;
typedef int pmap_step_fn(pmap_task *task, void *state, const void *in, size_t bytes);
/* `state` is copied.  Of the options `done` is not used.  *coroutine is the caller's until pmap_coroutine_close(), which may come behind
 * the pool's end; one thread at a time.  Errors: those of pmap_submit(), PMAP_EOVERFLOW. */
PMAP_API int pmap_coroutine_open(pmap_pool *pool, pmap_step_fn *function, const void *state, size_t state_bytes,
                                 const pmap_submit_options *options, pmap_coroutine **coroutine);
/* Feeds it one value and waits at most timeout_s seconds (negative = for ever) for its answer (pmap_task_result()), which is the
 * coroutine's until the next call.  After PMAP_ETIMEDOUT in = NULL waits on; a new value then is PMAP_EPERM.
 * Errors: those of pmap_submit() and pmap_future_get(). */
PMAP_API int pmap_coroutine_send(pmap_coroutine *coroutine, const void *in, size_t bytes, double timeout_s, const void **result,
                                 size_t *result_bytes);
/* As the last successful step has left it; NULL behind the pool's end. */
PMAP_API const void *pmap_coroutine_state(const pmap_coroutine *coroutine);
PMAP_API void pmap_coroutine_close(pmap_coroutine *coroutine);              /* waits for a step that runs.  NULL is allowed */

/* ---- What it cost ---- */
typedef struct pmap_stats {
    size_t size;              /* set it to sizeof(struct pmap_stats) */
    unsigned workers;
    double wall_s;            /* of the call; the five parts below add up to workers x wall_s, unless the pool was just resized */
    double transfer_in_s;     /* copying or receiving input, over all workers; on shm-copy the caller's copies, as far as no computing hid them */
    double compute_s;         /* inside the function */
    double transfer_out_s;
    double dispatch_s;        /* claims, messages, wake-ups */
    double idle_s;            /* asleep or waiting for work */
    uint64_t bytes_copied;    /* both directions */
    uint64_t items, failed;   /* done; failed or not run */
    uint64_t chunks, steals;
    uint64_t deaths, retries; /* workers that died during the call; items or chunks that were run again because of that */
} pmap_stats_t;

/* What all calls on this pool so far cost together, as one sum.  Calls of less than 50 us whose options asked for no stats are not
 * looked into: their time counts as idle.  Any thread; does not block.  Set stats->size first.
 * Errors: PMAP_EINVAL, PMAP_EFORK, PMAP_ECLOSED. */
PMAP_API int pmap_stats(pmap_pool *pool, struct pmap_stats *stats);

/* ---- Locks, and what else processes and threads share ----
 * All these objects work between the threads of all processes that have them, with or without a pool, and outlive
 * whoever dies at any instruction while it uses them.  What they have in common:
 *
 * Where they lie: options.pool NULL: in a mapping of their own, which children forked later share (not across exec).
 * Else in the pool's memory: its workers, which run already, use them by the pointer that they get through `arg`.
 * Open and close: any thread; *object is NULL on an error.  Errors: PMAP_EINVAL, PMAP_ENOMEM; with a pool PMAP_EFORK,
 * PMAP_ECLOSED. close gives the memory back: a mapping in the calling process only, so each process closes its own;
 * an object of a pool is closed by the process that opened it, before the pool.  The calling thread lets go of it
 * first; no other thread of the process may hold it, wait at it or use it.  NULL is allowed.  Errors: PMAP_EINVAL,
 * PMAP_EFORK, PMAP_ECLOSED. Holding: a lock, a permit, a read-write lock is held by the thread that took it, and only
 * that thread can let go of it.  A thread that ends, by return, exit, a signal or otherwise, and a process that calls
 * exec, are a dead holder.  A forked child holds nothing of its parent's. A thread may hold at most 2048 of them.
 * Waiting: every wait has a time-out in seconds: negative = for ever, 0 = do not wait.  Signals do not end a wait.
 * All processes must be in one PID namespace.  Not from signal handlers.  Every call returns PMAP_EINVAL for a
 * pointer that is NULL or another object. */

/* Mutual exclusion. */
typedef struct pmap_lock pmap_lock;
typedef struct pmap_lock_options {
    size_t size;             /* set by PMAP_LOCK_OPTIONS_INIT */
    pmap_pool *pool;         /* in whose memory; NULL = a mapping of its own */
    int recursive;           /* 1 = its owner may take it again, and lets go of it as often */
} pmap_lock_options;
#define PMAP_LOCK_OPTIONS_INIT { sizeof(pmap_lock_options), 0, 0 }

PMAP_API int pmap_lock_open(pmap_lock **lock, const pmap_lock_options *options);
PMAP_API int pmap_lock_close(pmap_lock *lock);

/* 0: the caller holds it.  PMAP_EOWNERDEAD: the caller holds it too, but the last owner died while it did: what it
 * guards may be half changed. Repair that and go on; it is said once, and again if the repairer dies.
 * PMAP_ETIMEDOUT; PMAP_EDEADLOCK: the caller holds it already and it is not recursive; PMAP_EINVAL; PMAP_ESYSTEM
 * (taken again four thousand million times).  No system call when it is free. */
PMAP_API int pmap_lock_acquire(pmap_lock *lock, double timeout_s);

/* PMAP_EPERM: the calling thread does not hold it; PMAP_EINVAL.  Does not block; no system call when nobody waits. */
PMAP_API int pmap_lock_release(pmap_lock *lock);

/* At most `permits` holders at a time.  A dead holder's permits come back, within 0.05 s for those that wait. */
typedef struct pmap_semaphore pmap_semaphore;
typedef struct pmap_semaphore_options {
    size_t size;             /* set by PMAP_SEMAPHORE_OPTIONS_INIT */
    pmap_pool *pool;
    unsigned permits;        /* 0 = 1; at most 1024 */
} pmap_semaphore_options;
#define PMAP_SEMAPHORE_OPTIONS_INIT { sizeof(pmap_semaphore_options), 0, 0 }

PMAP_API int pmap_semaphore_open(pmap_semaphore **semaphore, const pmap_semaphore_options *options);
PMAP_API int pmap_semaphore_close(pmap_semaphore *semaphore);

/* Takes a permit.  PMAP_ETIMEDOUT, PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_semaphore_acquire(pmap_semaphore *semaphore, double timeout_s);

/* Gives one back.  PMAP_EPERM: the calling thread holds none, and there are never more than `permits`; PMAP_EINVAL. */
PMAP_API int pmap_semaphore_release(pmap_semaphore *semaphore);

/* A flag to wait for.  Nobody holds it, so a death changes nothing. */
typedef struct pmap_event pmap_event;
typedef struct pmap_event_options {
    size_t size;             /* set by PMAP_EVENT_OPTIONS_INIT */
    pmap_pool *pool;
} pmap_event_options;
#define PMAP_EVENT_OPTIONS_INIT { sizeof(pmap_event_options), 0 }

PMAP_API int pmap_event_open(pmap_event **event, const pmap_event_options *options); /* not set */
PMAP_API int pmap_event_close(pmap_event *event);
PMAP_API int pmap_event_set(pmap_event *event);    /* wakes all who wait, also when it is cleared at once.  PMAP_EINVAL */
PMAP_API int pmap_event_clear(pmap_event *event);  /* PMAP_EINVAL */
PMAP_API int pmap_event_is_set(pmap_event *event); /* 1 or 0; PMAP_EINVAL */
PMAP_API int pmap_event_wait(pmap_event *event, double timeout_s); /* 0: it is or was set.  PMAP_ETIMEDOUT, PMAP_EINVAL, PMAP_ESYSTEM */

/* To wait until what a lock guards has changed. */
typedef struct pmap_condition pmap_condition;
typedef struct pmap_condition_options {
    size_t size;             /* set by PMAP_CONDITION_OPTIONS_INIT */
    pmap_pool *pool;
} pmap_condition_options;
#define PMAP_CONDITION_OPTIONS_INIT { sizeof(pmap_condition_options), 0 }

PMAP_API int pmap_condition_open(pmap_condition **condition, const pmap_condition_options *options);
PMAP_API int pmap_condition_close(pmap_condition *condition);

/* Lets go of the lock, which the caller holds (however often), waits, takes it again (as often).  Call it in a loop
 * that looks whether what the caller waits for is true: it may return 0 for no reason, and does so now and then, so
 * that a notifier's death is no hang.  0, PMAP_ETIMEDOUT and PMAP_EOWNERDEAD (as pmap_lock_acquire() says) return
 * with the lock held, for which they wait longer than timeout_s if they must. PMAP_EPERM: the caller does not hold
 * the lock; PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_condition_wait(pmap_condition *condition, pmap_lock *lock, double timeout_s);

/* Wakes so many of those who wait, 0 = all.  With or without the lock held.  PMAP_EINVAL. */
PMAP_API int pmap_condition_notify(pmap_condition *condition, unsigned waiters);

/* Nobody goes on before `parties` threads have arrived, again and again. */
typedef struct pmap_barrier pmap_barrier;
typedef struct pmap_barrier_options {
    size_t size;             /* set by PMAP_BARRIER_OPTIONS_INIT */
    pmap_pool *pool;
    unsigned parties;        /* 1 to 1024 */
} pmap_barrier_options;
#define PMAP_BARRIER_OPTIONS_INIT { sizeof(pmap_barrier_options), 0, 0 }

PMAP_API int pmap_barrier_open(pmap_barrier **barrier, const pmap_barrier_options *options);
PMAP_API int pmap_barrier_close(pmap_barrier *barrier);

/* Arrives, and waits for the others.  *index (may be NULL): how many had arrived before, so one of them gets 0.
 * PMAP_ETIMEDOUT: the caller has not arrived, and the others wait on.  PMAP_EBROKEN: a party that had not arrived has
 * died, or pmap_barrier_abort() was called: so it is for all, until pmap_barrier_reset().  A thread is known as a
 * party from its first call on; a death is noticed within about 0.1 s, unless another thread arrives in its place
 * before.  A process that calls exec cannot be told from a slow one.  Uses /proc.  PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_barrier_wait(pmap_barrier *barrier, double timeout_s, unsigned *index);

/* Makes the caller known as a party before it first waits.  PMAP_EBROKEN, PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_barrier_join(pmap_barrier *barrier);

/* Breaks it: PMAP_EBROKEN for all.  PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_barrier_abort(pmap_barrier *barrier);

/* Makes it whole again, with no party known; who waits gets PMAP_EBROKEN.  PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_barrier_reset(pmap_barrier *barrier);

/* Many readers or one writer.  Writers that wait keep later readers out. */
typedef struct pmap_rwlock pmap_rwlock;
typedef struct pmap_rwlock_options {
    size_t size;             /* set by PMAP_RWLOCK_OPTIONS_INIT */
    pmap_pool *pool;
    unsigned readers;        /* at a time, more wait; a writer's cost grows with it: 0 = 32; at most 1024 */
} pmap_rwlock_options;
#define PMAP_RWLOCK_OPTIONS_INIT { sizeof(pmap_rwlock_options), 0, 0 }

PMAP_API int pmap_rwlock_open(pmap_rwlock **rwlock, const pmap_rwlock_options *options);
PMAP_API int pmap_rwlock_close(pmap_rwlock *rwlock);

/* 0: held for reading.  PMAP_EOWNERDEAD: a writer died while it held it, and the caller now holds it FOR WRITING:
 * repair what it guards.  A dead reader is not worth mentioning.  PMAP_ETIMEDOUT; PMAP_EDEADLOCK: the caller holds it
 * for writing.  A thread may hold it for reading several times, but waits for itself when a writer came in between.
 * PMAP_EINVAL, PMAP_ESYSTEM. */
PMAP_API int pmap_rwlock_read(pmap_rwlock *rwlock, double timeout_s);

/* 0 or, as above, PMAP_EOWNERDEAD: held for writing.  PMAP_ETIMEDOUT; PMAP_EDEADLOCK: the caller holds it, for
 * reading or writing. */
PMAP_API int pmap_rwlock_write(pmap_rwlock *rwlock, double timeout_s);
PMAP_API int pmap_rwlock_release(pmap_rwlock *rwlock); /* PMAP_EPERM: the calling thread does not hold it; PMAP_EINVAL */

/* A number.  Each call is one atomic instruction: a death leaves it done or not done.  Overflow wraps.  None of these
 * blocks. */
typedef struct pmap_counter pmap_counter;
typedef struct pmap_counter_options {
    size_t size;             /* set by PMAP_COUNTER_OPTIONS_INIT */
    pmap_pool *pool;
    int64_t first;           /* its value at the start */
} pmap_counter_options;
#define PMAP_COUNTER_OPTIONS_INIT { sizeof(pmap_counter_options), 0, 0 }

PMAP_API int pmap_counter_open(pmap_counter **counter, const pmap_counter_options *options);
PMAP_API int pmap_counter_close(pmap_counter *counter);
/* *value, which may be NULL: the sum.  PMAP_EINVAL. */
PMAP_API int pmap_counter_add(pmap_counter *counter, int64_t n, int64_t *value);
PMAP_API int pmap_counter_get(const pmap_counter *counter, int64_t *value); /* PMAP_EINVAL */

/* A number in shares, one for each worker, on a cache line each: adding is as fast with many workers as with one.  A
 * dead worker's share stays. */
typedef struct pmap_accumulator pmap_accumulator;
typedef struct pmap_accumulator_options {
    size_t size;             /* set by PMAP_ACCUMULATOR_OPTIONS_INIT */
    pmap_pool *pool;
    unsigned shares;         /* 0 = the pool's workers, without a pool the CPUs; at most 65536 */
} pmap_accumulator_options;
#define PMAP_ACCUMULATOR_OPTIONS_INIT { sizeof(pmap_accumulator_options), 0, 0 }

PMAP_API int pmap_accumulator_open(pmap_accumulator **accumulator, const pmap_accumulator_options *options);
PMAP_API int pmap_accumulator_close(pmap_accumulator *accumulator);

/* To share 0 .. shares - 1, such as pmap_task_worker().  Right also when several add to one.  PMAP_EINVAL. */
PMAP_API int pmap_accumulator_add(pmap_accumulator *accumulator, unsigned share, int64_t n);
PMAP_API int pmap_accumulator_share(const pmap_accumulator *accumulator, unsigned share, int64_t *value); /* PMAP_EINVAL */

/* The sum of all; exact when nobody adds meanwhile.  PMAP_EINVAL. */
PMAP_API int pmap_accumulator_get(const pmap_accumulator *accumulator, int64_t *value);

/* ---- A queue between processes and threads, with or without a pool ---- */

/* A bounded queue of messages of any size up to a limit.  It is used by the thread that opened it, by all other
 * threads, by processes forked after it was opened, and, when it lies in a pool's memory (option `pool`), by that
 * pool's workers, which get the pointer through `arg` (with arg_size 0): the pointer is the same in all of them.
 * Anybody may put and get.
 *
 * A process or thread that is killed at any instruction inside these calls loses and doubles no message that was
 * put, and blocks nobody: a put has happened or not, a message is got or still there.  Messages of one thread arrive
 * in its order; those of several threads about in the order of their puts.  A message that was given back
 * (pmap_queue_cancel(), a death while it was read) comes again, and then later than its turn. Nobody waits for a
 * slow or stopped one, but for what it holds: one slot.  All must be in one PID namespace. */
typedef struct pmap_queue pmap_queue;

typedef struct pmap_queue_options {
    size_t size;             /* set by PMAP_QUEUE_OPTIONS_INIT */
    size_t items;            /* messages it holds at most, 1 to 16777216; 0 = 64 */
    size_t message_bytes;    /* of a message at most; 0 = 65536.  Address space until it is used; but in a pool's memory items
                                times so much is taken at once */
    size_t bytes;            /* in it at most, over all messages; 0 = no limit.  Each thread that puts at the same moment may
                                exceed it by one message.  With a limit each put looks at every slot */
    unsigned participants;   /* threads, in all processes together, that use it at the same time, at most 4095; 0 = 256.  One
                                that has ended does not count */
    int spin_us;             /* how long who waits spins before it sleeps: 0 = 20 where CPUs are spare, -1 = never */
    pmap_pool *pool;         /* in whose memory; NULL = a mapping of its own, which processes forked later share */
} pmap_queue_options;
#define PMAP_QUEUE_OPTIONS_INIT { sizeof(pmap_queue_options), 0, 0, 0, 0, 0, 0 }

/* Opens a queue; `options` may be NULL.  On success *queue is the caller's until pmap_queue_free(), on error NULL.
 * Does not block. Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_EOVERFLOW; with a pool also PMAP_EFORK, PMAP_ECLOSED. */
PMAP_API int pmap_queue_open(pmap_queue **queue, const pmap_queue_options *options);

/* No more puts, from anybody: they are refused, also those that wait.  Gets go on until the queue is empty, then end
 * with PMAP_ECLOSED; one that is held by another is waited for, as it may come back.  Any participant, any number of
 * times; does not block.  Errors: PMAP_EINVAL. */
PMAP_API int pmap_queue_close(pmap_queue *queue);

/* Lets go of the memory: a mapping of its own in the calling process only, so each may do so for itself, and the
 * last one's end frees it; in a pool's memory for all, by the process that opened the pool, when nobody uses it any
 * more and before the pool is closed.  NULL is allowed.  Does not close it for others.  Errors: PMAP_EINVAL,
 * PMAP_EFORK and PMAP_ECLOSED (of the pool). */
PMAP_API int pmap_queue_free(pmap_queue *queue);

/* For all that follow: any thread of any process that shares the queue, but no signal handler.  timeout_s: seconds
 * to wait; 0 = do not wait, negative = as long as it takes.  Who waits makes no busy loop but for spin_us.  Errors
 * of all: PMAP_EINVAL; of those with a time-out PMAP_ETIMEDOUT, and PMAP_ENOMEM when more threads than
 * `participants` use the queue. */

/* Puts a copy of the message; waits while the queue is full.  bytes may be 0. Errors: PMAP_ECLOSED, PMAP_ETOOBIG
 * (more than message_bytes, or bytes), PMAP_ENOMEM (no memory for it), and those above. */
PMAP_API int pmap_queue_put(pmap_queue *queue, const void *message, size_t bytes, double timeout_s);

/* Takes the next message into `message`, which has `room` bytes, and its size into *bytes (which may be NULL); waits
 * while the queue is empty. Errors: PMAP_ECLOSED (closed and empty), PMAP_ETOOBIG (it has *bytes, more than room,
 * and stays where it is), and those above. */
PMAP_API int pmap_queue_get(pmap_queue *queue, void *message, size_t room, size_t *bytes, double timeout_s);

/* The same without a copy.  reserve gives room for at most `bytes`, aligned to 64, in which the caller writes the
 * message; commit puts it, with its real size.  peek gives the next message where it lies; release is its get.
 * Between the two the message is held by the calling thread alone; when that dies, the reserved one was never put,
 * and the peeked one comes again, to another: so who processes a message before it releases it gets every one done
 * in spite of deaths.  cancel gives back either: never put, or never got. Errors of reserve as of pmap_queue_put(),
 * of peek as of pmap_queue_get(); of the others PMAP_EPERM (the calling thread does not hold it) and PMAP_EINVAL
 * (not such a place; more than was reserved).  commit, release and cancel do not block. */
PMAP_API int pmap_queue_reserve(pmap_queue *queue, size_t bytes, void **place, double timeout_s);
PMAP_API int pmap_queue_commit(pmap_queue *queue, void *place, size_t bytes);
PMAP_API int pmap_queue_peek(pmap_queue *queue, void **place, size_t *bytes, double timeout_s);
PMAP_API int pmap_queue_release(pmap_queue *queue, void *place);
PMAP_API int pmap_queue_cancel(pmap_queue *queue, void *place);

/* "I am through with one message that I got" (or released): by the thread that got it, once for each.  Does not block.
 * Errors: PMAP_EPERM (it has got none that is not done). */
PMAP_API int pmap_queue_task_done(pmap_queue *queue);

/* Waits until every message that was put has been got and reported done.  Several may. Errors: PMAP_ETIMEDOUT;
 * PMAP_EOWNERDEAD: all are done but those that threads had got which ended without reporting; the text says how
 * many, and from now on they count as done. */
PMAP_API int pmap_queue_join(pmap_queue *queue, double timeout_s);

/* How many messages wait in it just now; 0 also for what is no queue.  Looks at every slot; does not block. */
PMAP_API size_t pmap_queue_count(pmap_queue *queue);

/* ---- For tools: what this build and this machine offer ---- */

/* A line "name: value" for each thing worth knowing (CPUs by affinity and quota, huge pages, pidfd, limits, channels built in)
 * and "warning: ..." for what will hurt, into text (cut at bytes, always ended).  Returns the length it needs.  Any thread.  Loads libzmq, where
 * PMAP_ZMQ is built in, to tell its version, or that it is not there. */
PMAP_API size_t pmap_machine(char *text, size_t bytes);

/* The CPUs this process may use: min(affinity, cgroup v1 or v2 quota rounded up), at least 1.  Any thread; reads /proc, for the quota at most once
 * a second. */
PMAP_API unsigned pmap_cpus(void);

/* The process ids of the pool's workers as they are now, at most `most` of them, into pids; 0 for a worker that is being
 * replaced.  Returns how many workers there are; 0 for a pool without processes.  For kill tests and monitors.  Any thread. */
PMAP_API unsigned pmap_pool_pids(const pmap_pool *pool, int *pids, unsigned most);

/* ---- Commands: other programs ----
 *
 * None of this needs a pool.  Different commands may be used by different threads at once; one command, or one
 * pmap_commands, by one thread at a time.  They belong to the process that started them: in a forked child every
 * call gives PMAP_EFORK, and the close calls let go of that child's part only.
 *
 * A program starts with all signals at their default and none blocked, in a process group of its own, and has no
 * descriptor but 0, 1 and 2 (and `keep`).  Starting it costs the same whatever this process's size.  No thread
 * watches it, but for the spawners of pmap_commands: what has to happen in time (its output read, its time-out kept)
 * happens while a call on it is under way, pmap_command_poll() included. */
typedef enum {
    PMAP_IO_DEFAULT = 0, /* in: /dev/null, or a pipe when there is `input`; out, err: PMAP_IO_INHERIT */
    PMAP_IO_INHERIT = 1, /* what this process has there; /dev/null where it has nothing */
    PMAP_IO_NULL = 2,    /* /dev/null */
    PMAP_IO_FD = 3,      /* the descriptor `fd`, which stays the caller's */
    PMAP_IO_FILE = 4,    /* the file `path`: in: read; out, err: made where there is none, and emptied */
    PMAP_IO_APPEND = 5,  /* out, err: the same, but written at its end */
    PMAP_IO_PIPE = 6,    /* a pipe to this process: captured, unless pmap_command_fd() takes it */
    PMAP_IO_STDOUT = 7   /* err: where out goes */
} pmap_io;

typedef struct pmap_redirect {
    pmap_io to;
    int fd;
    const char *path;
} pmap_redirect;

/* Called with what a command has written to stream 1 or 2, in the thread and during the call that waits for it or polls
 * it, in the order of the stream; `user` is the option.  It must not call pmap_command*() with that command or its set.
 * The bytes are valid only meanwhile. */
typedef void pmap_output_fn(void *user, int stream, const char *data, size_t bytes);

typedef struct pmap_command_options {
    size_t size;               /* set by PMAP_COMMAND_OPTIONS_INIT */
    const char *const *argv;   /* ends with NULL.  argv[0] is looked for in PATH (of `env`), unless it has a slash */
    const char *shell;         /* a line for /bin/sh -c; argv, if any, is then $0, $1, ... of it.  NULL = no shell */
    const char *const *env;    /* "NAME=value", ends with NULL; NULL = this process's environment */
    const char *cwd;           /* its working directory, from which relative names of programs count; NULL = this process's */
    pmap_redirect in, out, err;
    const void *input;         /* input_bytes for its standard input; must stay as they are until it has ended */
    size_t input_bytes;
    size_t most_output;        /* bytes captured of out, and of err: if it writes more, its pipe is closed and it has failed with
                                  PMAP_ETOOBIG; 0 = 256 MiB */
    double timeout_s;          /* seconds after its start it is terminated: SIGTERM, after grace_s SIGKILL; 0 = no limit */
    double grace_s;            /* 0 = 2 s; negative = none, SIGKILL at once */
    const int *keep;           /* `keeps` further open descriptors above 2 that it gets, under their numbers */
    size_t keeps;
    int same_group;            /* 1 = in this process's group: Control-C reaches it, and it is ended without what it has started */
    void *user;                /* for pmap_command_user() */
    pmap_output_fn *output;    /* gets what would be captured, piece by piece; nothing is captured then.  NULL = capture */
    unsigned cpu;              /* 1 + the CPU that it may run on; 0 = where this process may */
    uint64_t memory;           /* bytes of memory that each of its processes may have for its own (RLIMIT_DATA); 0 = as this process */
    int tied;                  /* 1 = it gets SIGKILL when the thread that started it ends: a spawner, or the caller; so also when this
                                  process is killed */
} pmap_command_options;
#define PMAP_COMMAND_OPTIONS_INIT { sizeof(pmap_command_options), 0, 0, 0, 0, { PMAP_IO_DEFAULT, 0, 0 }, { PMAP_IO_DEFAULT, 0, 0 }, \
                                    { PMAP_IO_DEFAULT, 0, 0 }, 0, 0, 0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct pmap_command pmap_command;

/* Starts a program.  On success it runs, and *command is the caller's until pmap_command_close(); on error *command
 * is NULL and nothing runs.  Options are copied, but for the bytes of `input`.  Blocks until the kernel has begun
 * the program, and for as long as open(2) does. Any thread.  Errors, with the name of what is meant in the text:
 * PMAP_ENOENT (program, interpreter, directory or file), PMAP_EACCES, PMAP_EINVAL, PMAP_ENOMEM, PMAP_ESYSTEM. */
PMAP_API int pmap_command_start(pmap_command **command, const pmap_command_options *options);

/* Starts `count` programs as one command, each one's output being the next one's input; options[count], of which all
 * but the first leave `in` and all but the last leave `out` at PMAP_IO_DEFAULT or PMAP_IO_PIPE.  timeout_s, grace_s,
 * most_output, same_group, input and user are the first one's.  What PMAP_IO_PIPE captures of err is captured of all
 * together.  Everything else as pmap_command_start(). */
PMAP_API int pmap_command_chain(pmap_command **command, const pmap_command_options *options, size_t count);

/* Starts it, waits for its end, and checks how that was: pmap_command_start(), _wait() and _check() in one.  What
 * was captured is read from *command, which is the caller's to close unless it is NULL: it is NULL when it could not
 * be started.  `command` may be NULL: then it is closed here.  Blocks until it has ended; with timeout_s no longer
 * than that, the grace and a little more.
 * Errors: those of the three. */
PMAP_API int pmap_command_run(const pmap_command_options *options, pmap_command **command);

/* Feeds and captures what can be without blocking, keeps its time-out: 1 it has ended, 0 it has not.  Errors:
 * PMAP_EINVAL, PMAP_EFORK. */
PMAP_API int pmap_command_poll(pmap_command *command);

/* Waits for its end, at most timeout_s seconds (negative = no limit), feeding `input` and then closing its standard
 * input, and capturing what it writes, all at once, so that no full pipe stops it.  It has ended when all its
 * processes have and its pipes are at their end, or grace_s later when others, which it left behind, still have them
 * open.  Its own time-out ends it meanwhile. Returns 0 however it ended: see pmap_command_check().
 * Errors: PMAP_ETIMEDOUT (it goes on, and so may the call), PMAP_EINVAL, PMAP_EFORK, PMAP_ESYSTEM. */
PMAP_API int pmap_command_wait(pmap_command *command, double timeout_s);

/* pmap_command_wait() with bytes for its standard input that are known only now; they must stay as they are until it
 * has ended.  `in` must be PMAP_IO_PIPE, and nothing must have been given before; after PMAP_ETIMEDOUT go on with
 * pmap_command_wait(). */
PMAP_API int pmap_command_communicate(pmap_command *command, const void *input, size_t bytes, double timeout_s);

/* What was captured so far of stream 1 (out) or 2 (err), with a zero byte behind it; never NULL.  bytes may be
 * NULL.  Valid until the next call that waits for or closes the command.  Does not block. */
PMAP_API const char *pmap_command_output(const pmap_command *command, int stream, size_t *bytes);

/* Takes the pipe of stream 0, 1 or 2 out of the command: the descriptor (blocking, close-on-exec) is the caller's to
 * use and close, and nothing of that stream is fed or captured any more.  Errors (negative): PMAP_EINVAL when there
 * is no such pipe, or no more. */
PMAP_API int pmap_command_fd(pmap_command *command, int stream);

/* Ends it: SIGTERM to all processes of its groups, and SIGKILL to what is left of them grace_s later, in the call
 * that then waits. Nothing happens when it has ended.  Does not block.  Errors: PMAP_EINVAL, PMAP_EFORK. */
PMAP_API int pmap_command_terminate(pmap_command *command);

/* Sends any signal to all processes of its groups, SIGKILL at once for example.  Does not block.
 * Errors: PMAP_EINVAL (no such signal), PMAP_EFORK, PMAP_EPERM (it has become another user). */
PMAP_API int pmap_command_signal(pmap_command *command, int signal);

typedef struct pmap_status {
    size_t size;        /* set it to sizeof(pmap_status) */
    pmap_cause cause;   /* 0: it runs.  PMAP_CAUSE_EXIT, _SIGNAL, _TIMEOUT (its time-out), _CANCELLED (pmap_command_terminate(), or never
                           started by pmap_commands) */
    int value;          /* the exit status, or the signal; of the last two the signal that ended it, 0 if it exited by itself */
    int code;           /* all in one number: the exit status, 128 + signal, 124 after its time-out; -1: not known, because it runs, or
                           the program waited for it itself or ignores SIGCHLD and the kernel (before 6.15) keeps no status then */
    int pid;
    double wall_s;      /* from its start to its end, or to now */
    double user_s, system_s; /* CPU time of it and of those that it waited for; 0 until the command has ended */
    uint64_t maxrss;    /* most memory in bytes; the kernel counts this process's at the start too, so it is never less than that */
} pmap_status;

/* How it stands.  index: of a chain's processes; -1 = of the whole: the rightmost that has failed, where an end by
 * SIGPIPE of any but the last is no failure, else the last; with the times summed and the largest maxrss.  Set
 * status->size first.  Does not block.
 * Errors: PMAP_EINVAL. */
PMAP_API int pmap_command_status(const pmap_command *command, int index, pmap_status *status);

/* Was all well?  0, or what went wrong with names in the text: PMAP_ESTATUS (another status than 0, a signal, its
 * time-out), PMAP_ETOOBIG, PMAP_ENOMEM (for what it wrote); of one that pmap_commands could not start the error of
 * the start, or PMAP_ECANCELLED. PMAP_EINVAL when it has not ended, or when part of `input` was no memory that can be
 * read, such as a mapping of a file that has become shorter; PMAP_ESYSTEM when it could not be written.  Does not block. */
PMAP_API int pmap_command_check(const pmap_command *command);

/* options->user.  NULL for NULL. */
PMAP_API void *pmap_command_user(const pmap_command *command);

/* Kills what still runs of it, and frees it: no zombie is left.  NULL is allowed.  Blocks until the kernel has ended
 * them.
 * Errors: PMAP_ESYSTEM when that takes more than 10 s (a process that the kernel cannot end now is left to it). */
PMAP_API int pmap_command_close(pmap_command *command);

/* ---- Many commands, a bounded number at once ---- */
typedef struct pmap_commands pmap_commands;

typedef struct pmap_commands_options {
    size_t size;       /* set by PMAP_COMMANDS_OPTIONS_INIT */
    unsigned at_once;  /* how many run at once; 0 = one a CPU */
    unsigned spawners; /* threads that start them, wait for their ends, and feed and capture meanwhile, at most 64: a start blocks for a
                          quarter of a millisecond and more, so short commands need one a CPU.  0 = all that is done in the calls */
    int jobserver;     /* 1 = one command, and one more for each token that GNU make gives; make sees to it that this program
                          may ask: a recipe with + or $(MAKE) in it.  No limit where make offers none */
} pmap_commands_options;
#define PMAP_COMMANDS_OPTIONS_INIT { sizeof(pmap_commands_options), 0, 0, 0 }

/* options may be NULL.  *commands is the caller's until pmap_commands_close(); NULL on error.  Does not block.
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_ESYSTEM. */
PMAP_API int pmap_commands_open(pmap_commands **commands, const pmap_commands_options *options);

/* Starts a command, or queues it where at_once run already: options[count], a chain when count > 1.  They are
 * copied, but for the bytes of `input`.  What is wrong with a start is told by pmap_command_check() of the command,
 * when it is handed back. Blocks only for the start, where there is no spawner.  The queue is not bounded: see
 * pmap_commands_count().
 * Errors: PMAP_EINVAL, PMAP_ENOMEM, PMAP_EFORK. */
PMAP_API int pmap_commands_add(pmap_commands *commands, const pmap_command_options *options, size_t count);

/* Hands back the next command that has ended (or could not be started), the caller's to look at and to close;
 * *command is NULL when none is left.  Meanwhile starts, feeds and captures all, and keeps their time-outs, unless
 * there are spawners, which do so at any time.  Those keep ends back for 5 ms at most while more is queued.  Waits at
 * most timeout_s seconds (negative = no limit).
 * Errors: PMAP_ETIMEDOUT, PMAP_EINVAL, PMAP_EFORK, PMAP_ESYSTEM. */
PMAP_API int pmap_commands_next(pmap_commands *commands, double timeout_s, pmap_command **command);

/* How many were added and not handed back yet.  Does not block. */
PMAP_API size_t pmap_commands_count(pmap_commands *commands);

/* From now on at_once run at once, 0 = one a CPU.  More are started at once, or in the next pmap_commands_next() where there is
 * no spawner; with fewer, those that run go on.  Does not block.  Errors: PMAP_EINVAL, PMAP_EFORK. */
PMAP_API int pmap_commands_resize(pmap_commands *commands, unsigned at_once);

/* Takes back what has not been started: pmap_commands_next() hands it back with PMAP_ECANCELLED.  What runs goes on.  Does not block.
 * Errors: PMAP_EINVAL, PMAP_EFORK. */
PMAP_API int pmap_commands_unqueue(pmap_commands *commands);

/* pmap_command_signal() to all that run.  Does not block.  Errors: PMAP_EINVAL (no such signal), PMAP_EFORK. */
PMAP_API int pmap_commands_signal(pmap_commands *commands, int signal);

/* A descriptor that is readable when pmap_commands_next() has something to do, for poll(2) and the like: then call it with
 * timeout_s = 0 until it gives PMAP_ETIMEDOUT or no command.  What is due at a time (a time-out, the grace behind it) does not make it
 * readable: pmap_commands_next() at least every so often keeps those.  It stays the set's.  Errors (negative): PMAP_EINVAL,
 * PMAP_EFORK. */
PMAP_API int pmap_commands_fd(pmap_commands *commands);

/* Starts nothing more, and terminates what runs (pmap_command_terminate()); pmap_commands_next() then hands them all
 * back. New ones may be added.  Does not block.  Errors: PMAP_EINVAL, PMAP_EFORK. */
PMAP_API int pmap_commands_cancel(pmap_commands *commands);

/* Kills what still runs, and frees all that was not handed back.  NULL is allowed.  Blocks until the kernel has
 * ended them.
 * Errors: PMAP_ESYSTEM as of pmap_command_close(). */
PMAP_API int pmap_commands_close(pmap_commands *commands);

#ifdef __cplusplus
}
#endif
#endif

/* What the public library asks of whatever runs chunks somewhere.  One table of operations per executor: serial (the reference),
 * threads (OpenMP), processes; the process executor has channels of its own behind it (workers/processes.h).
 * This layer knows no user function: it calls body.run for [lo, hi) items of a job, and pmap/ supplies that trampoline. */
#ifndef PM_WORKERS_EXECUTOR_H
#define PM_WORKERS_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pm_heap;
struct pm_desk;
struct pm_run;   /* workers/run.h: what a body sees while it runs */
struct pm_executor;

#define PM_SELF 32 /* bytes a body may carry to the workers */

struct pm_body {
    /* Runs items [lo, hi) of the job; returns the first that it did not run (hi, or less when the job was stopped).
     * Marks where it is and reports items that fail (workers/run.h). */
    uint64_t (*run)(struct pm_run *run, uint64_t lo, uint64_t hi);
    unsigned char self[PM_SELF];
};

enum pm_how {
    PM_HOW_ITEMS = 0, /* the body marks each item as it comes to it */
    PM_HOW_BULK = 1   /* it does not: after a death it is called with one item at a time */
};

struct pm_work {
    /* What every worker reads for its first chunk comes first, in two cache lines. */
    struct pm_body body;
    const char *in;      /* item i is at in + i * in_size; in_bytes in all, the last item may be short; NULL: no input */
    char *out;           /* result i is at out + i * out_size */
    size_t in_size, in_bytes, out_size;
    uint64_t first;      /* the caller's index of item 0 */
    uint64_t seed;
    int64_t timeout_ns;  /* per item; 0 = none */
    enum pm_how how;
    uint8_t retries;
    bool stop, once, want_cost;
    bool resent;         /* results travel with their chunk: those of a chunk that was not committed are lost with its worker */

    uint64_t count;      /* items */
    uint64_t chunk;      /* items a chunk; 0 = tuned */
    int64_t begun;       /* pm_now() of the call; 0: nobody asks what it costs, and a pool of processes looks at the clock when it waits anyway */
    double item_ns;      /* what an item is known to take; 0 = not known */
    const void *arg;     /* arg_size bytes to hand over, or the pointer itself when arg_size is 0 */
    size_t arg_size;
    int64_t copied_ns;   /* what the call has spent before on copying input for the workers, and how much */
    uint64_t copied;
};

enum pm_cause { PM_CODE = 1, PM_SIGNAL, PM_EXIT, PM_TIMEOUT, PM_MEMORY, PM_CANCEL, PM_LARGE };

#define PM_TEXT 112

struct pm_failure { /* one entry of a failure log */
    uint64_t item, count;
    uint8_t cause;
    uint8_t attempts;
    uint16_t ready; /* written last: an entry whose writer died before is skipped */
    int32_t value;
    char text[PM_TEXT]; /* the function's own words, or "" */
};

struct pm_cost { /* nanoseconds, over all workers */
    int64_t wall, in, compute, out, dispatch, idle;
    uint64_t bytes, items, chunks, steals, failed, deaths, retries;
};

struct pm_result {
    struct pm_failure *failures; /* malloc'ed, sorted by item; the caller frees it */
    size_t nfailures;
    struct pm_cost cost;
    bool cancelled;              /* the executor was terminated meanwhile */
    char text[200];              /* what to add to the error's text, or "" */
};

/* A caller's hook, run once in each worker: 0, or a code of its own. */
typedef int pm_hook(unsigned worker, void **state, void *arg);

/* How a worker's life begins and ends; zero = not wanted.  The executors for threads and the caller's thread know the hooks only. */
struct pm_life {
    pm_hook *init, *exit;
    void *arg;
    uint64_t items;         /* it is replaced when it has run so many, */
    uint64_t bytes;         /* when its private memory has grown by so much, */
    int64_t age_ns;         /* or when it is so old */
    int64_t idle_ns;        /* it leaves after so long without work, unless it is one of the first `least` */
    unsigned least;
};

struct pm_setup {
    unsigned workers;       /* as asked, already at least 1 */
    unsigned most;          /* of processes: so many it may have after pm_executor_ops.resize */
    unsigned cpus;
    size_t memory;          /* for the arena's data part */
    int64_t spin_ns;        /* 0 = never */
    int bell;               /* an eventfd that becomes readable when a task has finished and somebody wants to know that way */
    bool keep_fds, huge, zmq;
    bool jobserver;         /* of make is to be asked how many may run */
    struct pm_life life;
};

struct pm_executor_ops {
    const char *name;
    int (*open)(struct pm_executor **executor, const struct pm_setup *setup, char *text, size_t bytes);
    /* The side of tasks (desk.h) where work is given in one by one; makes ready what runs them.  NULL with *error: -EOPNOTSUPP, -errno. */
    struct pm_desk *(*desk)(struct pm_executor *executor, int *error);
    /* While a thread waits for a task: the serial executor runs one, 1; processes look whether the supervisor lives when `late`.  0 when
     * there is nothing to do, -EPIPE: broken, -ECANCELED: ended. */
    int (*attend)(struct pm_executor *executor, bool late);
    /* For a program that sleeps in a loop of its own: a descriptor that is readable when the desk's bell is, and when the supervisor has died,
     * instead of which this starts another.  -EPIPE: broken, -ECANCELED, -errno: it cannot be started.  NULL: the bell is enough. */
    int (*watch)(struct pm_executor *executor);
    int (*kill)(struct pm_executor *executor, uint32_t task, uint32_t turn); /* ends it while it runs; -EOPNOTSUPP */
    void (*timed)(struct pm_executor *executor, int64_t timeout_ns, int change); /* one more (1) or fewer (-1) task has this deadline; NULL */
    /* Blocks until all is done, failed or cancelled.  0 = the job ran (look at failures), or -errno with result->text set.
     * -EPIPE: broken, workers die without progress.  Several threads may call at once. */
    int (*run)(struct pm_executor *executor, const struct pm_work *work, struct pm_result *result);
    /* Ends the workers; runs under way return with result->cancelled, at the latest when grace_ns is over.  Blocks no longer than
     * that and a little.  0 or -errno. */
    int (*end)(struct pm_executor *executor, int64_t grace_ns);
    void (*close)(struct pm_executor *executor);               /* after end, when no run is under way: frees everything */
    void (*forked)(struct pm_executor *executor);              /* in a forked child, at once: lets go of descriptors; async-signal-safe */
    void (*abandon)(struct pm_executor *executor);             /* in a forked child: frees this process's part only */
    struct pm_heap *(*heap)(struct pm_executor *executor);
    bool (*shares)(struct pm_executor *executor, const void *p, size_t bytes); /* do the workers see it without a copy? */
    unsigned (*pids)(struct pm_executor *executor, int *pids, unsigned most);
    /* Processes only, else NULL: from now on so many workers.  Does not wait for them.  0, -ECANCELED, -EPIPE, -errno. */
    int (*resize)(struct pm_executor *executor, unsigned workers);
    void (*rouse)(struct pm_executor *executor); /* a task was given in: workers that rest are to come back.  NULL: they never do */
    void (*why)(struct pm_executor *executor, char *text, size_t bytes); /* behind -EPIPE: what broke it */
};

/* The executor whose function the calling thread runs just now: a call from there on the same one would wait for itself. */
extern _Thread_local const struct pm_executor *pm_inside;

/* How many pools of processes this process is a worker in, one inside the other. */
extern unsigned pm_depth;

/* This process is a supervisor, or a worker that begins: it has one thread, and none of the library's locks is held.  What the library does around
 * a fork is not needed there, and would cost each worker copied pages. */
extern bool pm_supervising;

extern const struct pm_executor_ops pm_serial, pm_threads, pm_processes;

#endif

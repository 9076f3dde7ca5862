/* The process executor, seen from the application: its table of operations, its opening and end.  A job on the board is ticket.c's, the
 * supervisor's life control.c's, the workers are seats.c's and worker.c's. */
#include "workers/processes.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/fd.h"
#include "workers/control.h"
#include "workers/jobserver.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include "workers/zmq.h"
#include "workers/zmq_lib.h"
#endif

#define MS INT64_C(1000000)
#define OWN_BYTES ((size_t)16 << 20) /* what calls need of the heap beside the caller's `memory`: banks, arguments, partials */
#define EXTRA_NS (5000 * MS)    /* what a supervisor may take beyond the grace before it is killed itself */
#define CLOSE_NS (1000 * MS)    /* what idle workers may take to leave */

static struct pm_processes *mine(struct pm_executor *e) { return (struct pm_processes *)(void *)e; }

/* ---- Open, end, close ---- */

static void processes_close(struct pm_executor *e)
{
    struct pm_processes *p = mine(e);
#ifdef HAVE_ZMQ
    pm_zmq_close(p);
#endif
    if (p->setup.bell >= 0) close(p->setup.bell);
    pm_desk_close(&p->desk);
    if (p->board) pm_jobserver_give(pm_board_tokens(p->board), p->jobserver, 0); /* of a supervisor that was killed */
    pm_jobserver_close(p->jobserver);
    pm_heap_close(p->heap);
    pm_arena_close(&p->arena);
    (void)pm_control_bury(p, (int)(EXTRA_NS / MS)); /* last: it ends while we take down the rest */
    if (p->watch >= 0) close(p->watch);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* The arena's news of the heap's pages, under the heap's lock. */
static void moved(void *board, size_t offset, size_t bytes, bool there)
{
    struct pm_board *b = board;
    if (!there) pm_ahead_strike(&b->ahead, offset, bytes);
    else if (pm_ahead_add(&b->ahead, offset, bytes) && b->workers <= b->cpus) pm_board_wake_all(b);
}

static int processes_open(struct pm_executor **out, const struct pm_setup *setup, char *text, size_t bytes)
{
#ifdef HAVE_ZMQ
    /* Before the fork: no worker has to do it, which would be once for each and its successors. */
    int loaded = setup->zmq ? pm_libzmq_load(text, bytes) : 0;
    if (loaded < 0) return loaded;
#endif
    struct pm_processes *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    p->setup = *setup;
    p->pidfd = p->control = p->watch = p->arena.fd = p->jobserver[0] = p->jobserver[1] = -1;
    p->setup.bell = pm_fd_above_stdio(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (setup->jobserver) p->one_only = pm_jobserver_find(getenv("MAKEFLAGS"), p->jobserver) == PM_OFFER_UNREACHABLE;
    pthread_mutex_init(&p->lock, NULL);
    const char *what = "reserving shared memory";
    int e = p->setup.bell < 0 ? -EMFILE : 0;
    if (e) what = "eventfd";
    else e = pm_arena_open(&p->arena, pm_board_bytes(setup->most), setup->memory + OWN_BYTES, setup->huge);
    if (!e) e = pm_heap_open(&p->heap, &p->arena);
    if (!e) {
        what = "committing the pool's bookkeeping";
        e = pm_board_open(&p->board, &p->arena, setup->workers, setup->most, setup->cpus, setup->spin_ns);
        if (!e) p->board->life = setup->life;
        if (!e && !setup->zmq) { /* there workers wait for frames */
            p->arena.to = p->board;
            p->arena.tell = moved;
        }
    }
#ifdef HAVE_ZMQ
    if (!e && setup->zmq) {
        what = "binding the ZeroMQ socket";
        e = pm_zmq_open(p);
    }
#endif
    if (!e) {
        what = "forking the workers";
        e = pm_control_start(p, false);
    }
    if (e) {
        (void)snprintf(text, bytes, "%s: %s", what, strerror(-e));
        processes_close((struct pm_executor *)(void *)p);
        return e;
    }
    *out = (struct pm_executor *)(void *)p;
    return 0;
}

/* Why the pool is broken. */
static void processes_why(struct pm_executor *e, char *text, size_t bytes)
{
    struct pm_processes *p = mine(e);
    int cause = atomic_load(&p->board->broken_cause), n;
    uint32_t hook = atomic_load(&p->board->broken_hook);
    if (hook) n = snprintf(text, bytes, "the init hook of worker %u ", (unsigned)atomic_load(&p->board->broken_worker));
    else n = snprintf(text, bytes, "workers die without any progress; %s", cause < 0 ? "" : "the last ");
    text += n;
    bytes -= (size_t)n;
    if (hook == PM_REFUSED) (void)snprintf(text, bytes, "returned %d", cause);
    else if (cause < 0) (void)snprintf(text, bytes, "fork: %s", strerror(-cause));
    else if (WIFSIGNALED(cause)) (void)snprintf(text, bytes, "was ended by signal %d (%s)", WTERMSIG(cause), strsignal(WTERMSIG(cause)));
    else (void)snprintf(text, bytes, "exited with status %d", WEXITSTATUS(cause));
}

static int processes_resize(struct pm_executor *e, unsigned workers)
{
    struct pm_processes *p = mine(e);
    int error = pm_processes_check(p);
    if (error) return error;
    if (atomic_load(&p->board->broken)) return -EPIPE;
    pthread_mutex_lock(&p->lock);
    if (atomic_load(&p->ending)) error = -ECANCELED;
    if (!error && p->desk.tasks) error = pm_tasks_grow(p->desk.tasks, &p->arena, workers); /* first: no worker is without its hints */
    if (!error) error = pm_board_resize(p->board, &p->arena, workers);
    pthread_mutex_unlock(&p->lock);
    if (error) return error;
    pm_processes_look(p);
    pm_board_wake_all(p->board); /* who is to leave looks at it when it wakes up */
    return 0;
}

static int processes_end(struct pm_executor *e, int64_t grace_ns)
{
    struct pm_processes *p = mine(e);
    if (grace_ns > INT64_MAX / 4) grace_ns = INT64_MAX / 4;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->ending, true);
    for (unsigned j = 0; j < PM_JOBS; j++)
        if (atomic_load(&p->board->used) & UINT64_C(1) << j) pm_job_stop(p->board, &p->board->job[j]);
    atomic_store(&p->board->stop, 1);
#ifdef HAVE_ZMQ
    pm_zmq_bye(p);
#endif
    pm_board_wake_all(p->board); /* first: the supervisor then finds the order and deaths at once, in fewer turns */
    (void)pm_control_order(p, (struct pm_order){.what = PM_ORDER_CLOSE, .grace_ns = grace_ns >= 0 ? grace_ns : CLOSE_NS});
    int64_t ms = ((grace_ns > 0 ? grace_ns : 0) + EXTRA_NS) / MS;
    int result = pm_control_finish(p, ms > INT32_MAX ? INT32_MAX : (int)ms);
    pm_event_notify(&p->freed, INT_MAX);
    pthread_mutex_unlock(&p->lock);
    return result;
}

static void processes_forked(struct pm_executor *e)
{
    struct pm_processes *p = mine(e);
    if (pm_control_starting(p)) return;
    /* Without this the supervisor would not see the application go while a forked child lives. */
    if (p->control >= 0) close(p->control);
    if (p->pidfd >= 0) close(p->pidfd);
    if (p->watch >= 0) close(p->watch);
    if (p->setup.bell >= 0) close(p->setup.bell);
    p->setup.bell = -1;
    pm_jobserver_close(p->jobserver);
    p->control = p->pidfd = p->watch = -1;
}

static void processes_abandon(struct pm_executor *e)
{
    struct pm_processes *p = mine(e);
#ifdef HAVE_ZMQ
    pm_zmq_abandon(p);
#endif
    pm_desk_close(&p->desk);
    pm_heap_close(p->heap);
    pm_arena_close(&p->arena);
    free(p);
}

/* ---- Tasks ---- */

static struct pm_desk *processes_desk(struct pm_executor *e, int *error)
{
    struct pm_processes *p = mine(e);
    struct pm_tasks *tasks = NULL;
    *error = 0;
    pthread_mutex_lock(&p->lock);
    if (!*error && !p->desk.tasks) {
        *error = pm_tasks_open(&tasks, &p->arena, p->board->tasks_at, p->board->workers, p->setup.most, &p->board->work);
        if (!*error) {
            pm_desk_open(&p->desk, tasks, &p->arena, p->setup.bell);
            atomic_store(&p->board->tasks, tasks); /* the workers look for tasks from now on */
        }
    }
    pthread_mutex_unlock(&p->lock);
    return *error ? NULL : &p->desk;
}

static void processes_rouse(struct pm_executor *e)
{
    struct pm_processes *p = mine(e);
    if (atomic_load(&p->board->resting)) pm_processes_look(p);
}

static int processes_attend(struct pm_executor *e, bool late)
{
    struct pm_processes *p = mine(e);
    if (late) {
        struct pm_tasks *tasks = atomic_load(&p->board->tasks);
        (void)pm_processes_check(p);
        processes_rouse(e); /* should an order have been lost with a supervisor */
        /* Who was woken for a task may have been stopped before it took it; the others sleep. */
        if (tasks && pm_task_waiting(tasks)) pm_board_wake_all(p->board);
    }
    return atomic_load(&p->board->broken) ? -EPIPE : atomic_load(&p->ending) && pm_control_over(p) ? -ECANCELED : 0;
}

static int processes_watch(struct pm_executor *e)
{
    struct pm_processes *p = mine(e);
    int error = pm_processes_check(p);
    if (error) return error;
    if (atomic_load(&p->board->broken)) return -EPIPE;
    pthread_mutex_lock(&p->lock);
    int fd = pm_control_watch(p);
    pthread_mutex_unlock(&p->lock);
    return fd;
}

static int processes_kill(struct pm_executor *e, uint32_t task, uint32_t turn)
{
    struct pm_processes *p = mine(e);
    pthread_mutex_lock(&p->lock);
    (void)pm_control_order(p, (struct pm_order){.what = PM_ORDER_END, .task = task, .turn = turn});
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static void processes_timed(struct pm_executor *e, int64_t timeout_ns, int change)
{
    struct pm_processes *p = mine(e);
    if (change < 0) pm_board_untime(p->board);
    else if (pm_board_time(p->board, timeout_ns)) pm_processes_look(p);
}

/* ---- The table ---- */

/* The lines that opening a job writes are at the workers: asked for now, they are here when they are needed. */
static void expect(struct pm_processes *p)
{
    uint32_t taken = atomic_load_explicit(&p->taken, memory_order_relaxed);
    if (!(~taken & ((1u << PM_JOBS) - 1))) return;
    struct pm_job *job = &p->board->job[__builtin_ctz(~taken)];
    __builtin_prefetch(job->head, 1);
    __builtin_prefetch(&job->round, 1);
    __builtin_prefetch(&job->serial, 1);
}

static int processes_run(struct pm_executor *e, const struct pm_work *work, struct pm_result *result)
{
    static const struct pm_channel *const channels[] = {
#ifdef HAVE_ZMQ
        &pm_channel_zmq,
#endif
        &pm_channel_inplace, &pm_channel_copy};
    struct pm_processes *p = mine(e);
    size_t i = 0;
    expect(p);
    while (i + 1 < sizeof channels / sizeof channels[0] && !channels[i]->fits(p, work)) i++;
    struct pm_work timed;
    if (!work->begun && channels[i] != &pm_channel_inplace) { /* those have work of their own to do first */
        timed = *work;
        timed.begun = pm_now();
        work = &timed;
    }
    int error = channels[i]->run(p, work, result);
    if (error == -EPIPE) processes_why(e, result->text, sizeof result->text);
    if (error == -ECANCELED || (error == 0 && atomic_load(&p->ending))) {
        result->cancelled = true;
        error = 0;
    }
    return error;
}

static struct pm_heap *processes_heap(struct pm_executor *e) { return mine(e)->heap; }

static bool processes_shares(struct pm_executor *e, const void *at, size_t bytes) { return pm_arena_has(&mine(e)->arena, at, bytes); }

static unsigned processes_pids(struct pm_executor *e, int *pids, unsigned most)
{
    struct pm_board *b = mine(e)->board;
    unsigned n = atomic_load(&b->wanted);
    for (unsigned i = 0; i < n && i < most; i++) pids[i] = atomic_load(&b->slot[i].pid);
    return n;
}

const struct pm_executor_ops pm_processes = {
    .name = "processes", .open = processes_open, .desk = processes_desk, .attend = processes_attend, .watch = processes_watch,
    .kill = processes_kill,
    .timed = processes_timed, .run = processes_run, .end = processes_end, .close = processes_close,
    .forked = processes_forked, .abandon = processes_abandon, .heap = processes_heap,
    .shares = processes_shares, .pids = processes_pids, .resize = processes_resize,
    .rouse = processes_rouse, .why = processes_why,
};

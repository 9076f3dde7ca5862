/* OpenMP threads as workers: the same board, claims and rounds as the processes, in one address space, so that ThreadSanitizer sees
 * the protocol at work.  Nobody dies here alone, so there is no supervisor and there are no deadlines.
 * One call at a time: an OpenMP team is the caller's for as long as it runs. */
#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shm/heap.h"
#include "workers/crew.h"
#include "workers/failures.h"
#include "workers/job.h"
#include "workers/local.h"

#define SPIN_NS 20000

struct threads {
    struct pm_arena arena;
    struct pm_heap *heap;
    struct pm_board *board;
    struct pm_worker *worker;
    pthread_mutex_t lock; /* one call at a time */
    uint64_t serial;
    struct pm_crew crew;  /* for tasks */
    atomic_bool ended;
    struct pm_life life;
    bool *begun;          /* whose init hook has returned 0 */
};

static struct threads *mine(struct pm_executor *e) { return (struct threads *)(void *)e; }

static void threads_close(struct pm_executor *e)
{
    struct threads *t = mine(e);
    pm_crew_close(&t->crew);
    pm_heap_close(t->heap);
    pm_arena_close(&t->arena);
    pthread_mutex_destroy(&t->lock);
    free(t->begun);
    free(t->worker);
    free(t);
}

/* In threads of a team, but which of them serves a worker later is OpenMP's affair. */
static void run_init(struct threads *t)
{
    int n = (int)t->board->workers;
#pragma omp parallel for num_threads(n) schedule(static, 1)
    for (int i = 0; i < n; i++) {
        int code = t->life.init((unsigned)i, &t->worker[i].run.state, t->life.arg);
        t->begun[i] = code == 0;
        if (code) pm_crew_refuse(&t->crew, (unsigned)i, code);
    }
}

static void run_exit(struct threads *t)
{
    int n = (int)t->board->workers;
#pragma omp parallel for num_threads(n) schedule(static, 1)
    for (int i = 0; i < n; i++)
        if (t->begun[i]) (void)t->life.exit((unsigned)i, &t->worker[i].run.state, t->life.arg);
}

static void threads_end_and_close(struct pm_executor *e)
{
    if (mine(e)->life.exit) run_exit(mine(e));
    threads_close(e);
}

static int threads_open(struct pm_executor **out, const struct pm_setup *setup, char *text, size_t bytes)
{
    struct threads *t = calloc(1, sizeof *t);
    (void)text, (void)bytes;
    if (!t) return -ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    pm_crew_init(&t->crew, (struct pm_executor *)(void *)t, setup);
    t->worker = aligned_alloc(64, (setup->workers * sizeof *t->worker + 63) / 64 * 64);
    t->begun = calloc(setup->workers, sizeof *t->begun);
    t->life = setup->life;
    int e = t->worker && t->begun ? 0 : -ENOMEM;
    if (!e) e = pm_arena_open(&t->arena, pm_board_bytes(setup->workers), setup->memory + ((size_t)16 << 20), setup->huge);
    if (!e) e = pm_heap_open(&t->heap, &t->arena);
    if (!e) e = pm_board_open(&t->board, &t->arena, setup->workers, setup->workers, setup->cpus, setup->spin_ns);
    if (!e) e = pm_arena_commit(&t->arena, (size_t)((char *)(void *)t->board->job[0].word - t->arena.base), (PM_WINDOW + 1u) * 8);
    if (e) {
        threads_close((struct pm_executor *)(void *)t);
        return e;
    }
    for (unsigned i = 0; i < setup->workers; i++) {
        atomic_store(&t->board->slot[i].gen, 1);
        pm_worker_init(&t->worker[i], t->board, i);
        t->begun[i] = true;
    }
    if (t->life.init) run_init(t);
    t->board->job[0].words = PM_WINDOW;
    *out = (struct pm_executor *)(void *)t;
    return 0;
}

/* One thread of the team. */
static void take_part(struct threads *t, struct pm_job *job, unsigned index)
{
    struct pm_board *board = t->board;
    const struct pm_executor *outer = pm_inside;
    pm_inside = (const struct pm_executor *)(const void *)t;
    for (;;) {
        uint32_t key = pm_event_key(&board->work);
        bool worked = pm_job_work(&t->worker[index], job);
        if (pm_job_finished(job)) break;
        if (worked || (board->workers <= board->cpus && pm_event_spin(&board->work, key, SPIN_NS))) continue;
        (void)pm_event_wait(&board->work, key, -1);
    }
    pm_inside = outer;
    pm_board_wake_all(board); /* the others of the team sleep on this event, not on the caller's */
}

static int threads_run(struct pm_executor *e, const struct pm_work *work, struct pm_result *result)
{
    struct threads *t = mine(e);
    struct pm_failures failures = {0};
    void *arg;
    if (work->timeout_ns) return -EOPNOTSUPP;
    if (atomic_load(&t->crew.code)) {
        pm_crew_why(&t->crew, result->text, sizeof result->text);
        return -EPIPE;
    }
    pthread_mutex_lock(&t->lock);
    struct pm_job *job = &t->board->job[0];
    memcpy(&arg, &work->arg, sizeof arg);
    (void)pm_job_open(t->board, job, work, arg, ++t->serial);
    if (atomic_load(&t->ended)) pm_job_stop(t->board, job);
#pragma omp parallel num_threads((int)t->board->workers)
    take_part(t, job, (unsigned)omp_get_thread_num());
    int64_t end = pm_now();
    pm_job_failures(job, &failures, 0);
    pm_job_cost(job, &result->cost, end);
    result->cost.wall = end - work->begun;
    result->cancelled = atomic_load(&t->ended);
    pm_job_close(job);
    pthread_mutex_unlock(&t->lock);
    result->cost.failed = failures.total;
    return pm_failures_take(&failures, &result->failures, &result->nfailures);
}

static int threads_end(struct pm_executor *e, int64_t grace_ns)
{
    struct threads *t = mine(e);
    (void)grace_ns; /* a thread cannot be killed: what runs finishes its item */
    atomic_store(&t->ended, true);
    if (atomic_load(&t->board->used) & 1) pm_job_stop(t->board, &t->board->job[0]);
    pm_crew_end(&t->crew);
    return 0;
}

static struct pm_desk *threads_desk(struct pm_executor *e, int *error)
{
    struct threads *t = mine(e);
    return pm_crew_desk(&t->crew, &t->arena, t->board->tasks_at, true, error);
}

static int threads_attend(struct pm_executor *e, bool late)
{
    (void)late;
    return atomic_load(&mine(e)->crew.code) ? -EPIPE : atomic_load(&mine(e)->ended) ? -ECANCELED : 0;
}

static void threads_why(struct pm_executor *e, char *text, size_t bytes) { pm_crew_why(&mine(e)->crew, text, bytes); }

static struct pm_heap *threads_heap(struct pm_executor *e) { return mine(e)->heap; }

const struct pm_executor_ops pm_threads = {
    .name = "threads", .open = threads_open, .desk = threads_desk, .attend = threads_attend, .kill = pm_local_kill,
    .run = threads_run, .end = threads_end, .close = threads_end_and_close, .forked = pm_local_forked,
    .abandon = threads_close, .heap = threads_heap, .shares = pm_local_shares, .pids = pm_local_pids,
    .why = threads_why,
};

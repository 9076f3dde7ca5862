/* One job of a pool of processes, on the application's side: a descriptor taken, the job opened, waited for, read out.  Used by the channels; the
 * job itself is job.c's. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "shm/size.h"
#include "workers/control.h"
#include "workers/processes.h"

#define PAGE 4096u
#define SHORT_NS 50000          /* a call that short is not looked into, unless its caller wants to know */
#define TICK INT64_C(20000000)  /* between two looks at the supervisor while a caller waits */
#define RESCUE_FROM 5           /* ticks without an end after which sleepers are woken to look again; doubles */

static int take_descriptor(struct pm_processes *p, bool wait, unsigned *index)
{
    for (;;) {
        uint32_t key = pm_event_key(&p->freed), taken = atomic_load(&p->taken);
        if (atomic_load(&p->ending)) return -ECANCELED;
        while (~taken & ((1u << PM_JOBS) - 1)) {
            unsigned j = (unsigned)__builtin_ctz(~taken);
            if (!atomic_compare_exchange_weak(&p->taken, &taken, taken | 1u << j)) continue;
            *index = j;
            return 0;
        }
        if (!wait) return -EAGAIN;
        atomic_fetch_add(&p->waiting, 1);
        if (atomic_load(&p->taken) == taken) (void)pm_event_wait(&p->freed, key, -1); /* ends with another thread's job, or the pool */
        atomic_fetch_sub(&p->waiting, 1);
    }
}

static void give_descriptor(struct pm_processes *p, unsigned index)
{
    atomic_fetch_and(&p->taken, ~(1u << index));
    if (atomic_load(&p->waiting)) pm_event_notify(&p->freed, 1);
}

/* Words enough for any round that may be planned for this job. */
static int commit_words(struct pm_processes *p, unsigned index, const struct pm_work *work)
{
    struct pm_job *job = &p->board->job[index];
    uint64_t chunks = work->chunk > 1 ? work->count / work->chunk + 1 : work->count;
    uint32_t need = chunks < PM_WINDOW ? (uint32_t)chunks : PM_WINDOW;
    if (need <= job->words) return 0;
    /* Only what is not there yet: if that fails, all that was to be committed is given back. */
    size_t at = (size_t)((char *)(void *)job->word - p->arena.base), had = 0, end;
    if (job->words) (void)pm_size_up((job->words + 1u) * sizeof(uint64_t), PAGE, &had);
    (void)pm_size_up((need + 1u) * sizeof(uint64_t), PAGE, &end);
    int e = end > had ? pm_arena_commit(&p->arena, at + had, end - had) : 0;
    if (!e) job->words = need;
    return e;
}

int pm_ticket_open(struct pm_processes *p, const struct pm_work *work, struct pm_ticket *ticket, bool wait)
{
    unsigned index = 0;
    *ticket = (struct pm_ticket){.timed = work->timeout_ns > 0};
    int e = take_descriptor(p, wait, &index);
    if (e) return e;
    void *arg;
    memcpy(&arg, &work->arg, sizeof arg); /* without a size the workers get the pointer as it is */
    e = commit_words(p, index, work);
    if (!e && work->arg_size) {
        arg = ticket->arg = pm_heap_alloc(p->heap, work->arg_size, &e);
        if (arg) memcpy(arg, work->arg, work->arg_size);
    }
    if (e) {
        give_descriptor(p, index);
        return e;
    }
    struct pm_board *board = p->board;
    ticket->job = &board->job[index];
    bool shorter = ticket->timed && pm_board_time(board, work->timeout_ns);
    uint32_t chunks = pm_job_open(board, ticket->job, work, arg, atomic_load_explicit(&ticket->job->serial, memory_order_relaxed) + PM_JOBS);
    /* As late as may be, but before any worker begins: a caller that lost its CPU in between would miss what they did meanwhile. */
    if (!work->begun) ticket->job->work.begun = pm_now();
    pm_board_wake(board, chunks);
    if (atomic_load(&p->ending) || atomic_load(&board->broken)) pm_job_stop(board, ticket->job); /* else whoever ends it sees this job */
    /* `resting` behind the notify, which is a full barrier: the supervisor looks for jobs behind its own change of it. */
    else if (shorter || atomic_load(&board->resting)) pm_processes_look(p);
    return 0;
}

/* A job that stands still although workers sleep: a worker that should have woken the next was stopped or killed.  Wakes all, and makes
 * them search the words when even that was not enough. */
static void look_again(struct pm_processes *p, struct pm_job *job, unsigned tick, uint64_t *before)
{
    uint64_t now = 0;
    for (unsigned i = 0; i < p->board->workers; i++) now += atomic_load_explicit(&p->board->slot[i].progress, memory_order_relaxed);
    bool still = now == *before && tick > RESCUE_FROM, all_asleep = true;
    *before = now;
    if (!still) return;
    for (unsigned i = 0; i < p->board->workers; i++)
        if (atomic_load(&p->board->slot[i].spot.job)) all_asleep = false;
    if (all_asleep) {
        atomic_fetch_add(&job->strays, 1);
        atomic_fetch_add(&p->board->rescues, 1);
    }
    pm_board_wake_all(p->board);
}

/* Spins on the head itself: that changes a cache line's way earlier than the event. */
static bool spin(struct pm_job *job, int64_t ns)
{
    int64_t end = -1, now;
    do {
        for (int i = 0; i < 64; i++) {
            if (pm_word_state(atomic_load_explicit(job->head, memory_order_acquire)) == PM_FINISHED) return true;
            if (i % 32 == 31) pm_pause();
        }
        now = pm_now();
        if (end < 0) end = now + ns;
    } while (now < end);
    return false;
}

int pm_ticket_wait(struct pm_processes *p, struct pm_ticket *ticket)
{
    struct pm_job *job = ticket->job;
    struct pm_board *board = p->board;
    bool may_spin = board->spin_ns > 0 && atomic_load(&board->wanted) < board->cpus;
    uint64_t before = 0;
    unsigned next = RESCUE_FROM;
    for (unsigned tick = 0;;) {
        uint32_t key = pm_event_key(&job->done);
        if (pm_job_finished(job)) break;
        if (may_spin && tick == 0 && spin(job, board->spin_ns)) break;
        if (pm_event_wait(&job->done, key, TICK) == 0) continue;
        int e = pm_processes_check(p);
        if (e == -ECANCELED && pm_control_over(p) && !pm_job_finished(job)) return e;
        if (++tick < next) continue;
        look_again(p, job, tick, &before);
        if (next < 50) next *= 2;
        else next += 50;
    }
    return atomic_load(&board->broken) && atomic_load(&job->stop) ? -EPIPE : atomic_load(&p->ending) ? -ECANCELED : 0;
}

void pm_ticket_close(struct pm_processes *p, struct pm_ticket *ticket, struct pm_failures *failures, uint64_t base,
                    struct pm_cost *cost)
{
    struct pm_job *job = ticket->job;
    struct pm_board *board = p->board;
    pm_job_failures(job, failures, base);
    int64_t end = pm_now();
    cost->wall = end - job->work.begun;
    if (job->work.want_cost || cost->wall > SHORT_NS) pm_job_cost(job, cost, end);
    else cost->idle = cost->wall * atomic_load(&board->wanted); /* to look would bring the workers' cache lines here, and take as long as the call */
    if (ticket->timed) pm_board_untime(board);
    pm_job_close(job);
    if (ticket->arg) (void)pm_heap_free(p->heap, ticket->arg);
    give_descriptor(p, job->index);
}

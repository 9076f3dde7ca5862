/* A worker process: looks for open jobs, works on them, sleeps.  It ends by _exit only, so that nothing of the application's (atexit,
 * stdio buffers, destructors) runs twice, and with its supervisor at the latest. */
#include "workers/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/size.h"
#include "workers/life.h"
#include "workers/tasks.h"
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include "workers/zmq.h"
#endif

#define R memory_order_relaxed

unsigned pm_depth;
bool pm_supervising;

static void settle_in(struct pm_board *board, unsigned index, pid_t parent)
{
    struct pm_slot *slot = &board->slot[index];
    /* Bound to the forking thread: safe because the supervisor has only one. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0); /* it died before that took hold */
    atomic_store(&slot->pid, getpid());
    (void)prctl(PR_SET_NAME, "pmap-worker");
}

static bool work_once(struct pm_worker *me, uint64_t used)
{
    bool worked = false;
    for (uint64_t rest = used; rest && !me->tenure.over; rest &= rest - 1)
        worked |= pm_job_work(me, &me->board->job[__builtin_ctzll(rest)]);
    return worked;
}

/* A worker does not write to the application's descriptor itself: the function may have closed its own, and opened another file in its place. */
static pid_t supervisor;
static void ring(struct pm_hand *hand)
{
    (void)hand;
    if (getppid() == supervisor) (void)kill(supervisor, SIGUSR1); /* else it is dead, and so are we in a moment */
}

/* Tasks are looked for behind jobs, whose callers wait. */
static bool task_once(struct pm_worker *me, struct pm_hand *hand)
{
    struct pm_tasks *tasks = atomic_load_explicit(&me->board->tasks, memory_order_acquire);
    if (!tasks || me->tenure.over) return false;
    if (!hand->tasks) {
        pm_hand_init(hand, tasks, me->index, me->owner, &me->slot->spot, &me->slot->progress);
        hand->ring = ring;
        hand->run.state = me->run.state;
    }
    if (!pm_task_work(hand)) return false;
    me->tenure.items++;
    (void)pm_tenure_ends(me, me->tenure.limited ? pm_now() : 0);
    return true;
}

/* All that a worker process has of its own. */
struct self {
    struct pm_worker me;
    struct pm_hand hand;
    struct pm_ahead_mark ahead;
};

/* pthread_exit() in a function or hook would leave the process to the other threads in it, which the function, OpenMP or libzmq has started: a
 * worker that never answers, and that nobody sees to have died. */
static void ended_by_caller(void *me)
{
    pm_tenure_flush(me);
    _exit(0);
}

static void guarded(struct self *self, void (*part)(struct self *))
{
    pthread_cleanup_push(ended_by_caller, &self->me);
    part(self);
    pthread_cleanup_pop(0);
}

static void loop(struct self *self)
{
    struct pm_worker *me = &self->me;
    struct pm_board *board = me->board;
    /* Between jobs one CPU is the application's: a worker that spins on it would slow the caller down.  While a job is open its
     * caller sleeps, and the next round is at most a chunk away. */
    bool may_spin = board->spin_ns > 0 && me->index + 1 < board->cpus;
    me->polite = board->workers <= board->cpus;
    for (;;) {
        uint32_t key = pm_event_key(&board->work); /* before looking: else a wake-up is lost */
        if (pm_tenure_ends(me, 0)) return; /* before it begins anything: the pool may have shrunk while it slept */
        uint64_t used = atomic_load(&board->used);
        if (!me->tenure.ran && (used || atomic_load_explicit(&board->tasks, R))) { /* the guard is not for nothing: two pages */
            pm_tenure_first(me);
            guarded(self, loop);
            return;
        }
        bool worked = work_once(me, used) || task_once(me, &self->hand);
        if (me->tenure.over) return; /* it holds nothing here */
        if (worked) {
            me->tenure.idle_from = 0;
            continue;
        }
        if (atomic_load(&board->stop)) return;
        bool in_job = board->spin_ns > 0 && atomic_load_explicit(&board->wanted, R) <= board->cpus;
        /* One that has just been forked sleeps first: those that are still to come need the CPU. */
        bool spin = (may_spin && me->tenure.ran) || (in_job && pm_board_busy(board));
        if (spin && pm_event_spin(&board->work, key, board->spin_ns)) {
            me->spun = true;
            __builtin_prefetch(&board->job[0].round); /* most likely that, and its lines are not here */
            __builtin_prefetch(&board->job[0].serial);
            continue;
        }
        if (pm_ahead_step(&board->ahead, &board->arena, &self->ahead)) continue;
        pm_tenure_flush(me);
        int64_t patience = pm_tenure_patience(me);
        if (patience == 0) return;
        (void)pm_event_wait(&board->work, key, patience);
    }
}

/* Its whole life.  Does not return. */
static void live(struct self *self)
{
    struct pm_worker *me = &self->me;
    pm_tenure_begin(me);
    /* What a program allocates first, right behind the opening, is older than a worker that has just been forked for that.  One that replaces
     * another begins with what comes: it may not live long. */
    if (atomic_load_explicit(&me->slot->gen, R) > 1) self->ahead = pm_ahead_now(&me->board->ahead);
#ifdef HAVE_ZMQ
    if (me->board->zmq[0]) {
        pm_zmq_serve(me);
        pm_tenure_end(me);
    }
#endif
    atomic_store(&me->slot->stage, PM_WORKING);
    loop(self);
    pm_tenure_end(me);
}

_Noreturn void pm_worker_main(struct pm_board *board, unsigned index, pid_t parent)
{
    struct self self;
    pm_supervising = false;
    pm_depth++;
    settle_in(board, index, parent);
    supervisor = parent;
    pm_worker_init(&self.me, board, index);
    self.hand.tasks = NULL; /* it is made when there are tasks */
    self.ahead = (struct pm_ahead_mark){0};
    if (board->life.init || board->life.exit || board->zmq[0]) guarded(&self, live);
    else live(&self);
    abort();
}

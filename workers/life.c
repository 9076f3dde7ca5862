/* A worker's own part of its life; see life.h.  It decides to leave, and does so between chunks only: the kernel need not be asked whether it
 * still writes, and nothing of what it did is in doubt. */
#include "workers/life.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shm/process.h"

#define R memory_order_relaxed
#define LOOK_NS INT64_C(1000000) /* between two looks at its memory: one takes some microseconds */

/* Bytes that belong to this process alone; what it shares with the pool is not its to give back.  0 where /proc is missing. */
static uint64_t private_memory(void)
{
    char text[96], *at = text;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    (void)strtoull(at, &at, 10);
    unsigned long long resident = strtoull(at, &at, 10), shared = strtoull(at, &at, 10);
    return resident > shared ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void pm_tenure_flush(const struct pm_worker *me)
{
    /* fflush() alone locks and unlocks, which costs a new worker four copied pages; and the look at stdout maps one more. */
    if (me->tenure.ran && __fpending(stdout)) (void)fflush(stdout);
}

void pm_tenure_prepare(struct pm_worker *me)
{
    me->tenure.ran = true;
    atomic_store_explicit(&me->slot->used, 1, R);
    (void)setpgid(0, 0); /* what the caller's code starts ends with this worker */
    pm_process_free_signals();
    /* Raising is allowed to anyone: when memory runs out the kernel ends a worker, not the application. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, "500", 3) < 0) { /* nothing to be done: it is only a preference */
    }
    close(fd);
}

void pm_tenure_begin(struct pm_worker *me)
{
    const struct pm_life *life = &me->board->life;
    struct pm_slot *slot = me->slot;
    if (life->init) {
        pm_tenure_first(me);
        atomic_store(&slot->stage, PM_IN_INIT);
        int code = life->init(me->index, &me->run.state, life->arg);
        if (code) {
            atomic_store(&slot->code, code);
            atomic_store(&slot->stage, PM_REFUSED);
            pm_tenure_flush(me);
            _exit(1);
        }
        atomic_store(&slot->stage, PM_STARTING);
    }
    me->tenure.limited = life->items || life->bytes || life->age_ns;
    if (life->age_ns) me->tenure.born = pm_now();
    if (life->bytes) me->tenure.memory = private_memory();
}

bool pm_tenure_spent(struct pm_worker *me, int64_t now)
{
    const struct pm_life *life = &me->board->life;
    struct pm_tenure *t = &me->tenure;
    if (life->items && t->items >= life->items) return true;
    if (life->age_ns && now - t->born >= life->age_ns) return true;
    if (!life->bytes || now < t->look_at) return false;
    t->look_at = now + LOOK_NS;
    return private_memory() >= t->memory + life->bytes;
}

int64_t pm_tenure_patience(struct pm_worker *me)
{
    const struct pm_life *life = &me->board->life;
    struct pm_tenure *t = &me->tenure;
    if (!life->idle_ns || me->index < life->least) return -1;
    int64_t now = pm_now();
    if (t->idle_from == 0 || pm_board_busy(me->board)) t->idle_from = now; /* a job of others may need it yet */
    int64_t rest = t->idle_from + life->idle_ns - now;
    return rest > 0 ? rest : 0;
}

/* Not to be blocked, ignored or caught: the hook is the caller's code.  When the pool closes the supervisor sees to that instead. */
static void limit_exit(const struct pm_board *board)
{
    timer_t timer;
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec in = {.it_value = {.tv_sec = PM_EXIT_NS / 1000000000, .tv_nsec = PM_EXIT_NS % 1000000000}};
    if (atomic_load(&board->stop) || timer_create(CLOCK_MONOTONIC, &kill_me, &timer)) return;
    (void)timer_settime(timer, 0, &in, NULL);
}

_Noreturn void pm_tenure_end(struct pm_worker *me)
{
    struct pm_board *board = me->board;
    bool rests = !me->tenure.over && !atomic_load(&board->stop);
    atomic_store_explicit(&me->slot->spot.job, 0, R);
    atomic_store_explicit(&me->slot->spot.task, 0, R);
    atomic_store(&me->slot->stage, rests ? PM_RESTING : PM_LEAVING);
    pm_event_notify(&board->work, 1); /* a wake-up that has come to this one was meant for somebody who stays */
    if (board->life.exit) {
        pm_tenure_first(me);
        limit_exit(board);
        (void)board->life.exit(me->index, &me->run.state, board->life.arg);
    }
    pm_tenure_flush(me);
    _exit(0);
}

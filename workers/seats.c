/* The supervisor's seats; see seats.h.  A worker is dead when waitid says so, and never before: the supervisor is the workers' parent, so no pid
 * it signals can have been reused, and this needs no pidfd for them. */
#include "workers/seats.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/process.h"
#include "workers/jobserver.h"
#include "workers/oom.h"
#include "workers/tasks.h"
#include "workers/worker.h"

#define R memory_order_relaxed
#define MS INT64_C(1000000)
#define FIRST_DELAY MS             /* of a worker that died at once */
#define LONGEST_DELAY (250 * MS)
#define HEALTHY_NS (20 * MS)       /* who lived that long is started again at once */
#define START_STREAK 20u           /* deaths before the loop was reached, with nobody alive, that break the pool */
#define INIT_DEATHS 3u             /* deaths in the init hook, in a row, that break the pool; */
#define INIT_KILLS 20u             /* by SIGKILL, which may come from outside and by chance */

size_t pm_seats_bytes(unsigned workers) { return workers * sizeof(struct pm_seat); }

static int64_t boot_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- Starting workers ---- */

/* In a new worker: the supervisor's, which has no others unless the application's are to stay. */
static void close_all(struct pm_seats *s)
{
    /* Not close_range(): syscall() lies where other code of a worker's beginning does, and is not one more piece to map. */
    if (!s->others_stay && syscall(SYS_close_range, 3, ~0u, 0) == 0) return;
    for (size_t k = 0; k < sizeof s->fd / sizeof *s->fd; k++)
        if (s->fd[k] >= 0) close(s->fd[k]);
    pm_jobserver_close(s->jobserver);
}

static int start(struct pm_seats *s, unsigned i)
{
    struct pm_slot *slot = &s->board->slot[i];
    struct pm_seat *seat = &s->seat[i];
    uint32_t gen = (atomic_load(&slot->gen) + 1) & 0xfffu;
    atomic_store(&slot->stage, PM_STARTING);
    atomic_store_explicit(&slot->used, 0, R);
    atomic_store(&slot->born, (uint64_t)boot_ns());
    atomic_store(&slot->gen, gen ? gen : 1);
    atomic_store_explicit(&slot->spot.job, 0, R);
    atomic_store_explicit(&slot->spot.deadline, 0, R);
    atomic_store_explicit(&slot->spot.again, 0, R);
    slot->spot.text[0] = 0; /* what it has said before it died must not turn up at another item */
    pid_t pid = fork();
    if (pid == 0) {
        close_all(s);
        pm_worker_main(s->board, i, s->self);
    }
    if (pid < 0) return -errno;
    atomic_store(&slot->pid, pid);
    seat->pid = pid;
    seat->forked = pm_now();
    seat->doomed = seat->ended = false;
    s->alive++;
    return 0;
}

static void back_off(struct pm_seat *seat, int64_t now)
{
    seat->delay = seat->delay ? (2 * seat->delay < LONGEST_DELAY ? 2 * seat->delay : LONGEST_DELAY) : FIRST_DELAY;
    seat->due = now + seat->delay;
}

static uint64_t progress(const struct pm_seats *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->board->workers; i++) n += atomic_load_explicit(&s->board->slot[i].progress, R);
    /* A retry is progress too: each uses up one of a finite number, and an item that kills its worker is no fault of the workers'. */
    for (unsigned j = 0; j < PM_JOBS; j++)
        n += atomic_load_explicit(&s->board->job[j].logged, R) + atomic_load_explicit(&s->board->job[j].retries, R);
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (tasks) n += atomic_load_explicit(&tasks->retries, R);
    return n;
}

/* Nobody can work: every job ends with what it has.  `hook`: PM_IN_INIT or PM_REFUSED when the init hook of worker i is why, else 0. */
static void give_up(struct pm_seats *s, int cause, uint32_t hook, unsigned i)
{
    if (atomic_load(&s->board->broken)) return; /* the first cause is the one to tell */
    atomic_store(&s->board->broken_cause, cause);
    atomic_store(&s->board->broken_hook, hook);
    atomic_store(&s->board->broken_worker, i);
    atomic_store(&s->board->broken, 1);
    for (unsigned j = 0; j < PM_JOBS; j++)
        if (atomic_load(&s->board->used) & UINT64_C(1) << j) pm_job_stop(s->board, &s->board->job[j]);
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (!tasks) return;
    uint32_t asked = 1;
    atomic_compare_exchange_strong(&tasks->bell, &asked, 2); /* who sleeps at the descriptor is told, too */
    pm_event_notify(&tasks->done, INT_MAX);
}

/* Is this seat to have a worker? */
static bool wanted(const struct pm_seats *s, unsigned i)
{
    return i < atomic_load(&s->board->wanted) && !s->seat[i].away && !atomic_load(&s->board->broken) && !atomic_load(&s->board->stop);
}

/* It stays away until there is work.  Whoever opens a job looks at `resting` behind that; we look for jobs behind this, in every turn. */
static void rest(struct pm_seats *s, unsigned i)
{
    s->seat[i].away = true;
    atomic_fetch_add(&s->board->resting, 1);
}

static void call_back(struct pm_seats *s)
{
    if (atomic_load(&s->board->resting) == 0 || !pm_board_busy(s->board)) return;
    atomic_store(&s->board->resting, 0);
    for (unsigned i = 0; i < s->board->workers; i++) s->seat[i].away = false;
}

static bool may_run_one_more(struct pm_seats *s)
{
    return !s->rationed || s->alive <= atomic_load_explicit(&s->board->tokens, R) || pm_jobserver_take(pm_board_tokens(s->board), s->jobserver);
}

/* Tokens stand for workers; one that is about to be replaced keeps its own. */
static void give_back(struct pm_seats *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->board->workers && s->rationed; i++) n += s->seat[i].pid || wanted(s, i);
    if (s->rationed) pm_jobserver_give(pm_board_tokens(s->board), s->jobserver, n ? n - 1 : 0);
}

static void restart_due(struct pm_seats *s)
{
    int64_t now = pm_now();
    for (unsigned i = 0; i < s->board->workers && !s->closing; i++) {
        struct pm_seat *seat = &s->seat[i];
        if (seat->pid || seat->due > now || !wanted(s, i)) continue;
        if (!may_run_one_more(s)) {
            rest(s, i);
            continue;
        }
        int e = start(s, i);
        if (e == 0) return; /* one a turn: an order to close, or a deadline, is not kept waiting by many forks */
        back_off(seat, now);
        if (s->alive == 0 && ++s->early > START_STREAK) give_up(s, e, 0, i);
        return;
    }
}

int pm_seats_begin(struct pm_seats *s)
{
    atomic_store(&s->board->resting, 0);
    for (unsigned i = 0; i < atomic_load(&s->board->wanted); i++) {
        if (!may_run_one_more(s)) {
            rest(s, i);
            continue;
        }
        int e = start(s, i);
        if (e == 0) continue;
        if (s->alive == 0) return e;
        back_off(&s->seat[i], pm_now()); /* fewer for now; the rest as soon as the system lets them be */
    }
    return 0;
}

void pm_seats_fill(struct pm_seats *s)
{
    call_back(s);
    restart_due(s);
    give_back(s);
}

int64_t pm_seats_due(const struct pm_seats *s)
{
    int64_t at = INT64_MAX;
    for (unsigned i = 0; i < s->board->workers && !s->closing && s->alive < s->board->workers; i++)
        if (!s->seat[i].pid && s->seat[i].due < at && wanted(s, i)) at = s->seat[i].due;
    return at;
}

/* ---- Deaths ---- */

static struct pm_death why(struct pm_seats *s, unsigned i, int status)
{
    struct pm_seat *seat = &s->seat[i];
    struct pm_slot *slot = &s->board->slot[i];
    struct pm_death d = {.slot = i, .gen = atomic_load(&slot->gen), .charged = true};
    if (WIFSIGNALED(status)) {
        d.cause = PM_SIGNAL;
        d.value = WTERMSIG(status);
        bool ours = seat->doomed || seat->ended; /* reading the count of others takes as long as a fork */
        uint64_t kills = d.value == SIGKILL && !ours && s->settled ? pm_oom_kills() : 0;
        if (kills > s->oom_kills) {
            s->oom_kills = kills;
            d.cause = PM_MEMORY;
        }
    } else {
        d.cause = PM_EXIT;
        d.value = WEXITSTATUS(status);
    }
    if (seat->doomed && d.cause == PM_SIGNAL && d.value == SIGKILL) {
        /* It may have finished that item just before the kill, and have been innocently at the next. */
        d.charged = atomic_load_explicit(&slot->spot.item, R) == seat->item &&
                    atomic_load_explicit(&slot->spot.deadline, R) == seat->deadline;
        d.cause = PM_TIMEOUT;
        d.value = 0;
    }
    if (seat->ended) d.charged = false; /* unless the task is the one meant, which its entry says */
    return d;
}

void pm_seat_mend(struct pm_seats *s, const struct pm_death *death)
{
    struct pm_slot *slot = &s->board->slot[death->slot];
    for (unsigned j = 0; j < PM_JOBS; j++) (void)pm_job_repair(s->board, &s->board->job[j], death);
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (tasks) pm_task_repair(tasks, death, &slot->spot);
    atomic_store(&slot->pid, 0);
    atomic_fetch_add(&s->board->deaths, 1);
}

/* An init hook that fails fails again: without this, workers would be started and die for ever. */
static void judge_init(struct pm_seats *s, unsigned i, int status)
{
    struct pm_slot *slot = &s->board->slot[i];
    uint32_t stage = atomic_load(&slot->stage);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (stage == PM_REFUSED) give_up(s, atomic_load(&slot->code), stage, i);
    if (stage == PM_WORKING) s->init_deaths = 0;
    if (stage == PM_IN_INIT && ++s->init_deaths >= (killed ? INIT_KILLS : INIT_DEATHS)) give_up(s, status, stage, i);
}

/* It held nothing when it ended, so there is nothing to mend and nobody to charge.  It may have been killed in its exit hook: no matter. */
static void see_off(struct pm_seats *s, unsigned i)
{
    struct pm_slot *slot = &s->board->slot[i];
    s->seat[i].delay = s->seat[i].due = 0;
    s->early = s->init_deaths = 0;
    if (atomic_load(&slot->stage) == PM_RESTING && !s->closing) rest(s, i);
    atomic_store(&slot->pid, 0);
}

static void bury(struct pm_seats *s, unsigned i, int status)
{
    struct pm_seat *seat = &s->seat[i];
    struct pm_slot *slot = &s->board->slot[i];
    int64_t now = pm_now();
    uint32_t stage = atomic_load(&slot->stage);
    bool reached_loop = stage >= PM_WORKING, leaving = stage >= PM_LEAVING || (s->closing && WIFEXITED(status));
    if (atomic_load_explicit(&slot->used, R)) (void)kill(-seat->pid, SIGKILL); /* what the function started and left behind */
    struct pm_death death = why(s, i, status);
    seat->pid = 0;
    s->alive--;
    if (leaving) {
        see_off(s, i);
        return;
    }
    bool busy = pm_board_busy(s->board);
    pm_seat_mend(s, &death);
    uint64_t p = progress(s);
    if (!seat->doomed) s->barren = busy && p == s->seen_progress ? s->barren + 1 : 0;
    s->seen_progress = p;
    /* A SIGKILL from outside says nothing about whether workers can start; too many of them are `barren`. */
    if (reached_loop) s->early = 0;
    else if (death.cause != PM_SIGNAL || death.value != SIGKILL) s->early++;
    bool healthy = reached_loop && (seat->doomed || now - seat->forked > HEALTHY_NS || s->barren < s->board->workers);
    if (healthy) seat->delay = 0, seat->due = now;
    else back_off(seat, now);
    judge_init(s, i, status);
    if ((s->early > START_STREAK && s->alive == 0) || s->barren > 50 + 10 * s->board->workers) give_up(s, status, 0, i);
    pm_board_wake_all(s->board);
}

/* What waitpid() would tell. */
static int status_of(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED ? W_EXITCODE(info->si_status, 0) : info->si_status | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

/* First all that names the dead one, its group and its slot above all, and then the reaping: from there on the number may be another process's,
 * which a kill by whoever has read the slot would hit. */
void pm_seats_reap(struct pm_seats *s, int how)
{
    siginfo_t info = {.si_pid = 0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | how) == 0 && info.si_pid > 0) {
        pid_t pid = info.si_pid;
        bool unused = false; /* a worker that never ran anything of the caller's; else it may be something adopted */
        for (unsigned i = 0; i < s->board->workers; i++)
            if (s->seat[i].pid == pid) {
                unused = !atomic_load_explicit(&s->board->slot[i].used, R);
                bury(s, i, status_of(&info));
                break;
            }
        if (s->named || !unused) pm_process_unname(pid);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
        if (how == 0) return;
        info.si_pid = 0;
    }
}

void pm_seats_kill(struct pm_seats *s)
{
    for (unsigned i = 0; i < s->board->workers; i++)
        if (s->seat[i].pid) {
            (void)kill(s->seat[i].pid, SIGKILL);
            (void)kill(-s->seat[i].pid, SIGKILL);
        }
}

/* The supervisor process.  A worker is dead when waitpid says so, and never before: the supervisor is the workers' parent, so no pid it
 * signals can have been reused, and this needs no pidfd for them.  For the application it polls a pidfd and the control
 * socket: death and exec close the latter. */
#include "workers/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/process.h"
#include "workers/job.h"
#include "workers/jobserver.h"
#include "workers/oom.h"
#include "workers/tasks.h"
#include "workers/worker.h"
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include "workers/zmq.h"
#endif

#define R memory_order_relaxed
#define MS INT64_C(1000000)
#define FIRST_DELAY MS             /* of a worker that died at once */
#define LONGEST_DELAY (250 * MS)
#define HEALTHY_NS (20 * MS)       /* who lived that long is started again at once */
#define START_STREAK 20u           /* deaths before the loop was reached, with nobody alive, that break the pool */
#define INIT_DEATHS 3u             /* deaths in the init hook, in a row, that break the pool; */
#define INIT_KILLS 20u             /* by SIGKILL, which may come from outside and by chance */
#define SETTLE_NS (5 * MS)
#define SLICE_NS 100000            /* the least that the kernel takes */
#define ADOPTED_ROUNDS 100
#define ORPHAN_CHECK (100 * MS)    /* where the application has no pidfd */

struct pm_seat { /* the supervisor's private side of a slot */
    pid_t pid;
    int64_t forked, due, delay;
    bool away;                     /* left for want of work; not replaced until there is some */
    bool doomed;                   /* killed for a deadline of this item */
    bool ended;                    /* killed because the application wants the task that it was at to end */
    uint64_t item;
    int64_t deadline;
};

struct supervisor {
    struct pm_board *board;
    const struct pm_setup *setup;
    struct pm_seat *seat;
    int control, appfd, childfd, jobserver[2];
    bool rationed;                 /* by tokens of make's: one worker without, and one more for each */
    pid_t application, self;
    unsigned alive, early;         /* workers; deaths in a row before the loop */
    unsigned init_deaths;          /* in a row */
    uint64_t seen_progress;
    unsigned barren;               /* deaths in a row without a chunk committed or a failure settled */
    uint64_t oom_kills;            /* counted when `settled`: not on the way of a pool that is opened and closed at once */
    bool settled;
    int64_t born;
    bool closing;
    int64_t end;                   /* of the grace when closing */
};

size_t pm_seats_bytes(unsigned workers) { return workers * sizeof(struct pm_seat); }

static int64_t boot_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- Starting workers ---- */

static int start(struct supervisor *s, unsigned i)
{
    struct pm_slot *slot = &s->board->slot[i];
    struct pm_seat *seat = &s->seat[i];
    uint32_t gen = (atomic_load(&slot->gen) + 1) & 0xfffu;
    atomic_store(&slot->stage, PM_STARTING);
    atomic_store(&slot->born, (uint64_t)boot_ns());
    atomic_store(&slot->gen, gen ? gen : 1);
    atomic_store_explicit(&slot->spot.job, 0, R);
    atomic_store_explicit(&slot->spot.deadline, 0, R);
    atomic_store_explicit(&slot->spot.again, 0, R);
    slot->spot.text[0] = 0; /* what it has said before it died must not turn up at another item */
    pid_t pid = fork();
    if (pid == 0) {
        close(s->control);
        close(s->childfd);
        if (s->appfd >= 0) close(s->appfd);
        close(s->setup->bell);
        pm_jobserver_close(s->jobserver);
        pm_worker_main(s->board, i, s->self);
    }
    if (pid < 0) return -errno;
    (void)setpgid(pid, pid); /* here too: a kill of its group must not depend on who is faster */
    atomic_store(&slot->pid, pid);
    seat->pid = pid;
    seat->forked = pm_now();
    seat->doomed = seat->ended = false;
    s->alive++;
    return 0;
}

static uint64_t progress(const struct supervisor *s)
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
static void give_up(struct supervisor *s, int cause, uint32_t hook, unsigned i)
{
    if (atomic_load(&s->board->broken)) return; /* the first cause is the one to tell */
    atomic_store(&s->board->broken_cause, cause);
    atomic_store(&s->board->broken_hook, hook);
    atomic_store(&s->board->broken_worker, i);
    atomic_store(&s->board->broken, 1);
    for (unsigned j = 0; j < PM_JOBS; j++)
        if (atomic_load(&s->board->used) & UINT64_C(1) << j) pm_job_stop(s->board, &s->board->job[j]);
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (tasks) pm_event_notify(&tasks->done, INT_MAX);
}

/* Is this seat to have a worker? */
static bool wanted(const struct supervisor *s, unsigned i)
{
    return i < atomic_load(&s->board->wanted) && !s->seat[i].away && !atomic_load(&s->board->broken) && !atomic_load(&s->board->stop);
}

/* It stays away until there is work.  Whoever opens a job looks at `resting` behind that; we look for jobs behind this, in every turn. */
static void rest(struct supervisor *s, unsigned i)
{
    s->seat[i].away = true;
    atomic_fetch_add(&s->board->resting, 1);
}

static void call_back(struct supervisor *s)
{
    if (atomic_load(&s->board->resting) == 0 || !pm_board_busy(s->board)) return;
    atomic_store(&s->board->resting, 0);
    for (unsigned i = 0; i < s->board->workers; i++) s->seat[i].away = false;
}

static bool may_run_one_more(struct supervisor *s)
{
    return !s->rationed || s->alive <= atomic_load_explicit(&s->board->tokens, R) || pm_jobserver_take(s->board, s->jobserver);
}

/* Tokens stand for workers; one that is about to be replaced keeps its own. */
static void give_back(struct supervisor *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->board->workers && s->rationed; i++) n += s->seat[i].pid || wanted(s, i);
    if (s->rationed) pm_jobserver_give(s->board, s->jobserver, n ? n - 1 : 0);
}

static void restart_due(struct supervisor *s)
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
        seat->delay = seat->delay ? (2 * seat->delay < LONGEST_DELAY ? 2 * seat->delay : LONGEST_DELAY) : FIRST_DELAY;
        seat->due = now + seat->delay;
        if (s->alive == 0 && ++s->early > START_STREAK) give_up(s, e, 0, i);
        return;
    }
}

/* ---- Deaths ---- */

static struct pm_death why(struct supervisor *s, unsigned i, int status)
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

static void mend(struct supervisor *s, const struct pm_death *death)
{
    struct pm_slot *slot = &s->board->slot[death->slot];
    for (unsigned j = 0; j < PM_JOBS; j++) (void)pm_job_repair(s->board, &s->board->job[j], death);
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (tasks) pm_task_repair(tasks, death, &slot->spot);
    atomic_store(&slot->pid, 0);
    atomic_fetch_add(&s->board->deaths, 1);
}

/* An init hook that fails fails again: without this, workers would be started and die for ever. */
static void judge_init(struct supervisor *s, unsigned i, int status)
{
    struct pm_slot *slot = &s->board->slot[i];
    uint32_t stage = atomic_load(&slot->stage);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (stage == PM_REFUSED) give_up(s, atomic_load(&slot->code), stage, i);
    if (stage == PM_WORKING) s->init_deaths = 0;
    if (stage == PM_IN_INIT && ++s->init_deaths >= (killed ? INIT_KILLS : INIT_DEATHS)) give_up(s, status, stage, i);
}

/* It held nothing when it ended, so there is nothing to mend and nobody to charge.  It may have been killed in its exit hook: no matter. */
static void see_off(struct supervisor *s, unsigned i)
{
    struct pm_slot *slot = &s->board->slot[i];
    s->seat[i].delay = s->seat[i].due = 0;
    s->early = s->init_deaths = 0;
    if (atomic_load(&slot->stage) == PM_RESTING && !s->closing) rest(s, i);
    atomic_store(&slot->pid, 0);
}

static void bury(struct supervisor *s, unsigned i, int status)
{
    struct pm_seat *seat = &s->seat[i];
    struct pm_slot *slot = &s->board->slot[i];
    int64_t now = pm_now();
    uint32_t stage = atomic_load(&slot->stage);
    bool reached_loop = stage >= PM_WORKING, leaving = stage >= PM_LEAVING || (s->closing && WIFEXITED(status));
    (void)kill(-seat->pid, SIGKILL); /* what the function started and left behind */
    struct pm_death death = why(s, i, status);
    seat->pid = 0;
    s->alive--;
    if (leaving) {
        see_off(s, i);
        return;
    }
    bool busy = pm_board_busy(s->board);
    mend(s, &death);
    uint64_t p = progress(s);
    if (!seat->doomed) s->barren = busy && p == s->seen_progress ? s->barren + 1 : 0;
    s->seen_progress = p;
    /* A SIGKILL from outside says nothing about whether workers can start; too many of them are `barren`. */
    if (reached_loop) s->early = 0;
    else if (death.cause != PM_SIGNAL || death.value != SIGKILL) s->early++;
    bool healthy = reached_loop && (seat->doomed || now - seat->forked > HEALTHY_NS || s->barren < s->board->workers);
    seat->delay = healthy ? 0 : seat->delay ? (2 * seat->delay < LONGEST_DELAY ? 2 * seat->delay : LONGEST_DELAY) : FIRST_DELAY;
    seat->due = now + seat->delay;
    judge_init(s, i, status);
    if ((s->early > START_STREAK && s->alive == 0) || s->barren > 50 + 10 * s->board->workers) give_up(s, status, 0, i);
    pm_board_wake_all(s->board);
}

static void reap(struct supervisor *s, int how)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, how)) > 0) {
        for (unsigned i = 0; i < s->board->workers; i++)
            if (s->seat[i].pid == pid) {
                bury(s, i, status);
                break;
            }
        if (how == 0) return;
    }
}

/* The application wants this turn of a task to end while it runs.  Who has it by now is told by its word. */
static void end_task(struct supervisor *s, uint32_t index, uint32_t turn)
{
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (!tasks || index >= PM_TASKS) return;
    uint64_t w = atomic_load(&tasks->entry[index].word);
    unsigned i = pm_word_owner(w) >> 12;
    if (pm_word_state(w) != PM_CLAIMED || pm_word_round(w) != turn || i >= s->board->workers) return;
    if (!s->seat[i].pid || pm_word_owner(w) != pm_owner(i, atomic_load(&s->board->slot[i].gen))) return;
    s->seat[i].ended = true;
    (void)kill(s->seat[i].pid, SIGKILL);
}

static void strike(const struct supervisor *s)
{
    uint64_t one = 1;
    if (write(s->setup->bell, &one, sizeof one) < 0) { /* its counter is full: readable all the same */
    }
}

/* A worker that has finished a task, or a death, has found that the application waits for its descriptor. */
static void ring(struct supervisor *s)
{
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    uint32_t asked = 2;
    if (tasks && atomic_compare_exchange_strong(&tasks->bell, &asked, 0)) strike(s);
}

/* Looks for items past their deadline; returns when to look again, or -1. */
static int64_t enforce(struct supervisor *s)
{
    int64_t shortest = pm_board_shortest(s->board);
    if (shortest == 0) return -1;
    int64_t now = pm_now(), next = now + shortest;
    for (unsigned i = 0; i < s->board->workers; i++) {
        struct pm_seat *seat = &s->seat[i];
        struct pm_spot *spot = &s->board->slot[i].spot;
        int64_t deadline = atomic_load_explicit(&spot->deadline, R);
        if (!seat->pid || seat->doomed || !deadline) continue;
        if (deadline > now) {
            if (deadline < next) next = deadline;
            continue;
        }
        seat->item = atomic_load_explicit(&spot->item, R);
        seat->deadline = deadline;
        seat->doomed = true;
        (void)kill(seat->pid, SIGKILL); /* the work is given to another only when waitpid has confirmed the end */
    }
    return next;
}

/* ---- The end ---- */

static void kill_all(struct supervisor *s)
{
    for (unsigned i = 0; i < s->board->workers; i++)
        if (s->seat[i].pid) {
            (void)kill(s->seat[i].pid, SIGKILL);
            (void)kill(-s->seat[i].pid, SIGKILL);
        }
}

/* What functions started, and what left their group and outlived them, has become ours: it ends with the pool. */
static void kill_adopted(void)
{
    for (int round = 0; round < ADOPTED_ROUNDS; round++) {
        int pid, fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
        char list[4096];
        ssize_t n = fd >= 0 ? read(fd, list, sizeof list - 1) : 0;
        if (fd >= 0) close(fd);
        list[n > 0 ? n : 0] = 0;
        /* Each is followed by a blank: a number that is not was cut at the end of the buffer, and would be somebody else's. */
        for (char *at = list, *end; (pid = (int)strtol(at, &end, 10)) > 0 && *end == ' '; at = end) (void)kill(pid, SIGKILL);
        /* A child of theirs comes to us when they are reaped, hence again; without that file we only reap what is dead. */
        do pid = waitpid(-1, NULL, WNOHANG); /* never blocking: who came to us meanwhile has not been killed yet */
        while (pid > 0 || (pid < 0 && errno == EINTR));
        if (pid < 0 || fd < 0) return;
        (void)poll(NULL, 0, 1);
    }
}

static _Noreturn void leave(struct supervisor *s, int status)
{
    kill_all(s);
    for (unsigned i = 0; i < s->board->workers; i++)
        while (s->seat[i].pid && waitpid(s->seat[i].pid, NULL, 0) < 0 && errno == EINTR) {
        }
    kill_adopted();
    pm_jobserver_give(s->board, s->jobserver, 0);
#ifdef HAVE_ZMQ
    pm_zmq_remove(s->board); /* the application may have died before it could */
#endif
    _exit(status);
}

/* ---- The beginning ---- */

/* The workers of a supervisor that died: PR_SET_PDEATHSIG has ended them, and this makes sure before anything is mended. */
static void take_over(struct supervisor *s)
{
    for (unsigned i = 0; i < s->board->workers; i++) {
        struct pm_slot *slot = &s->board->slot[i];
        struct pm_process old;
        pid_t pid = atomic_load(&slot->pid);
        if (pid == 0) continue;
        long hz = sysconf(_SC_CLK_TCK);
        int64_t born = (int64_t)(atomic_load(&slot->born) / (uint64_t)(1000000000 / hz));
        bool there = pm_process_of(pid, &old) == 0, other = there && old.start != 0 && llabs((int64_t)old.start - born) >= hz;
        if (there && !other) {
            int fd = pm_process_watch(&old);
            (void)pm_process_signal(&old, fd, SIGKILL);
            (void)pm_process_wait(&old, fd, -1);
            if (fd >= 0) close(fd);
        }
        /* A pid is not given out again while it is a group's: where another has it now, nothing is left of the worker's, and the group is that
         * other one's. */
        if (!other) (void)kill(-pid, SIGKILL);
        struct pm_death death = {.slot = i, .gen = atomic_load(&slot->gen), .cause = PM_SIGNAL, .value = SIGKILL, .charged = true};
        mend(s, &death);
    }
    pm_board_wake_all(s->board);
}

/* Keeps those of keep[n], which are above 2 or -1. */
static void close_all_but(const int *keep, int n, bool others_stay)
{
    int null = open("/dev/null", O_RDWR);
    if (null > 0) (void)dup2(null, 0);
    for (int fd = 1; null >= 0 && fd <= 2; fd++) /* a number that the application has closed must not become something else's */
        if (fcntl(fd, F_GETFD) < 0) (void)dup2(null, fd);
    if (others_stay) {
        if (null > 2) close(null);
        return;
    }
    for (unsigned from = 3;;) {
        unsigned next = ~0u; /* the lowest to be kept that is not behind us */
        for (int i = 0; i < n; i++)
            if (keep[i] >= (int)from && (unsigned)keep[i] < next) next = (unsigned)keep[i];
        if (next > from) (void)close_range(from, next == ~0u ? next : next - 1, 0);
        if (next == ~0u) return;
        from = next + 1;
    }
}

/* A deadline is due while all CPUs are busy, with the very items that it is to end: so little work must not wait until their slices are
 * over.  A short slice of its own lets a task take a CPU from one with a longer slice (Linux 6.12; older kernels ignore it), and gives it no
 * more time than others.  Workers have the usual one again. */
static void be_prompt(void)
{
    struct { /* struct sched_attr, its first version */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER || a.nice < 0) return; /* the reset would end that too */
    a.flags |= 1 /* SCHED_FLAG_RESET_ON_FORK */;
    a.runtime = SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &a, 0);
}

static void settle_in(struct supervisor *s)
{
    sigset_t all;
    struct sigaction dfl = {.sa_handler = SIG_DFL}; /* the workers inherit this */
    for (int n = 1; n < NSIG; n++) (void)sigaction(n, &dfl, NULL);
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL); /* only SIGKILL ends a supervisor; it ends with the application */
    (void)setpgid(0, 0);                        /* Ctrl-C on a terminal is the application's affair */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_NAME, "pmap-supervisor");
    be_prompt();
    close_all_but((const int[]){s->control, s->setup->bell, s->jobserver[0], s->jobserver[1]}, 4, s->setup->keep_fds);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigaddset(&child, SIGUSR1); /* from workers: the bell */
    s->childfd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    struct pm_process app = {.pid = s->application};
    s->appfd = pm_process_watch(&app);
    if (getppid() != s->application) _exit(1); /* it died before we could watch it: that pid is somebody else's */
}

static void orders(struct supervisor *s, short events)
{
    struct pm_order order;
    ssize_t n;
    while ((n = recv(s->control, &order, sizeof order, MSG_DONTWAIT)) > 0)
        if (n == sizeof order && order.what == PM_ORDER_CLOSE) {
            s->closing = true;
            s->end = pm_now() + order.grace_ns;
        } else if (n == sizeof order && order.what == PM_ORDER_END) {
            end_task(s, order.task, order.turn);
        } else {
            atomic_store(&s->board->look, 0); /* behind taking it: what is changed from here on sends another */
        }
    bool gone = n == 0 || (events & POLLHUP) || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (gone) leave(s, 1);
}

static int64_t when(const struct supervisor *s, int64_t deadline)
{
    int64_t at = deadline < 0 ? INT64_MAX : deadline;
    for (unsigned i = 0; i < s->board->workers && !s->closing && s->alive < s->board->workers; i++)
        if (!s->seat[i].pid && s->seat[i].due < at && wanted(s, i)) at = s->seat[i].due;
    if (s->closing && s->end < at) at = s->end;
    if (!s->settled && s->born + SETTLE_NS < at) at = s->born + SETTLE_NS;
    if (s->appfd < 0 && pm_now() + ORPHAN_CHECK < at) at = pm_now() + ORPHAN_CHECK;
    return at;
}

static void run(struct supervisor *s)
{
    struct pollfd p[4] = {{s->control, POLLIN, 0}, {s->childfd, POLLIN, 0}, {s->appfd, POLLIN, 0}, {-1, POLLIN, 0}};
    int64_t deadline = enforce(s);
    for (;;) {
        int64_t at = when(s, deadline), wait = at == INT64_MAX ? -1 : at - pm_now();
        if (wait < 0 && at != INT64_MAX) wait = 0;
        struct timespec t = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
        /* A token that comes while there is work brings back somebody who rests. */
        p[3].fd = s->rationed && atomic_load(&s->board->resting) && !s->closing && pm_board_busy(s->board) ? s->jobserver[0] : -1;
        (void)ppoll(p, 4, at == INT64_MAX ? NULL : &t, NULL);
        if (p[2].revents || (s->appfd < 0 && getppid() != s->application)) leave(s, 1);
        if (p[0].revents) orders(s, p[0].revents);
        if (p[1].revents) {
            struct signalfd_siginfo info;
            while (read(s->childfd, &info, sizeof info) > 0) {
            }
            reap(s, WNOHANG);
        }
        ring(s);
        if (s->closing && s->alive && pm_now() >= s->end) {
            kill_all(s);
            while (s->alive) reap(s, 0); /* mends, so that callers see their jobs end */
        }
        if (s->closing && s->alive == 0) leave(s, 0);
        if (!s->settled && pm_now() >= s->born + SETTLE_NS) {
            s->oom_kills = pm_oom_kills();
            s->settled = true;
        }
        call_back(s);
        restart_due(s);
        give_back(s);
        deadline = enforce(s);
    }
}

_Noreturn void pm_supervise(const struct pm_charge *charge)
{
    struct pm_board *board = charge->board;
    int control = charge->control;
    bool takeover = charge->takeover;
    struct supervisor s = {.board = board, .setup = charge->setup, .seat = charge->seats, .control = control,
                           .jobserver = {charge->jobserver[0], charge->jobserver[1]}, .rationed = charge->rationed,
                           .application = charge->application, .self = getpid(), .born = pm_now()};
    struct pm_answer answer = {0, 0};
    settle_in(&s);
    if (s.childfd < 0) {
        answer.error = -EMFILE;
        (void)send(control, &answer, sizeof answer, MSG_NOSIGNAL);
        _exit(1);
    }
    if (takeover) take_over(&s);
#ifdef HAVE_ZMQ
    if (!takeover && board->zmq[0]) answer.error = pm_zmq_make(board);
    if (answer.error) {
        (void)send(control, &answer, sizeof answer, MSG_NOSIGNAL);
        _exit(1);
    }
#endif
    atomic_store(&board->resting, 0);
    atomic_store(&board->look, 0);
    for (unsigned i = 0; i < atomic_load(&board->wanted); i++) {
        if (!may_run_one_more(&s)) {
            rest(&s, i);
            continue;
        }
        int e = start(&s, i);
        if (e == 0) continue;
        if (s.alive == 0) {
            answer.error = e;
            pm_jobserver_give(board, s.jobserver, 0);
            (void)send(control, &answer, sizeof answer, MSG_NOSIGNAL);
            _exit(1);
        }
        s.seat[i].delay = FIRST_DELAY; /* fewer for now; the rest as soon as the system lets them be */
        s.seat[i].due = pm_now() + FIRST_DELAY;
    }
    answer.forked = s.alive;
    (void)send(control, &answer, sizeof answer, MSG_NOSIGNAL);
    if (takeover) {
        pm_board_wake_all(board);
        strike(&s); /* the one before may have died between taking the wish and fulfilling it */
    }
    run(&s);
    _exit(0);
}

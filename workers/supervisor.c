/* The supervisor process: its beginning, its loop, the application's orders, deadlines, its end.  The workers are seats.c's.  For the application
 * it polls a pidfd and the control socket: death and exec close the latter. */
#include "workers/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/process.h"
#include "workers/jobserver.h"
#include "workers/oom.h"
#include "workers/seats.h"
#include "workers/tasks.h"
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include "workers/zmq.h"
#endif

#define R memory_order_relaxed
#define MS INT64_C(1000000)
#define SETTLE_NS (5 * MS)
#define SLICE_NS 100000            /* the least that the kernel takes */
#define ADOPTED_NS (3000 * MS)     /* a large process takes long to die, and so does any where the CPUs are busy; the application waits for longer */
#define ORPHAN_CHECK (100 * MS)    /* where the application has no pidfd */

struct supervisor {
    struct pm_board *board;
    const struct pm_setup *setup;
    struct pm_seats seats;
    int control, appfd, childfd;
    pid_t application;
    int64_t born;
    int64_t end;                   /* of the grace when closing */
    bool prompt;                   /* see be_prompt() */
};

/* ---- While it runs ---- */

/* The application wants this turn of a task to end while it runs.  Who has it by now is told by its word. */
static void end_task(struct supervisor *s, uint32_t index, uint32_t turn)
{
    struct pm_tasks *tasks = atomic_load(&s->board->tasks);
    if (!tasks || index >= PM_TASKS) return;
    uint64_t w = atomic_load(&tasks->entry[index].word);
    unsigned i = pm_word_owner(w) >> 12;
    if (pm_word_state(w) != PM_CLAIMED || pm_word_round(w) != turn || i >= s->board->workers) return;
    if (!s->seats.seat[i].pid || pm_word_owner(w) != pm_owner(i, atomic_load(&s->board->slot[i].gen))) return;
    s->seats.seat[i].ended = true;
    (void)kill(s->seats.seat[i].pid, SIGKILL);
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

/* A deadline is due, or a worker dies, while all CPUs are busy, with the very items that it is to end: so little work must not wait until their
 * slices are over.  A short slice of its own lets a task take a CPU from one with a longer slice (Linux 6.12; older kernels ignore it), and gives it no
 * more time than others.  Workers have the usual one again.  Set when one of the two has happened for the first time. */
static void be_prompt(struct supervisor *s)
{
    if (s->prompt) return;
    s->prompt = true;
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

/* Looks for items past their deadline; returns when to look again, or -1. */
static int64_t enforce(struct supervisor *s)
{
    int64_t shortest = pm_board_shortest(s->board);
    if (shortest == 0) return -1;
    be_prompt(s);
    int64_t now = pm_now(), next = now + shortest;
    for (unsigned i = 0; i < s->board->workers; i++) {
        struct pm_seat *seat = &s->seats.seat[i];
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

/* What functions started, and what left their group and outlived them, has become ours: it ends with the pool. */
static void kill_adopted(void)
{
    for (int64_t end = pm_now() + ADOPTED_NS; pm_now() < end;) {
        int pid, fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
        char list[4096];
        ssize_t n = fd >= 0 ? read(fd, list, sizeof list - 1) : 0;
        if (fd >= 0) close(fd);
        list[n > 0 ? n : 0] = 0;
        bool may = n <= 0; /* what runs as somebody else is not ours to end, and not waited for */
        /* Each is followed by a blank: a number that is not was cut at the end of the buffer, and would be somebody else's. */
        for (char *at = list, *behind; (pid = (int)strtol(at, &behind, 10)) > 0 && *behind == ' '; at = behind)
            if (kill(pid, SIGKILL) == 0) may = true;
        /* A child of theirs comes to us when they are reaped, hence again; without that file we only reap what is dead. */
        do {
            pid = waitpid(-1, NULL, WNOHANG); /* never blocking: who came to us meanwhile has not been killed yet */
            if (pid > 0) pm_process_unname(pid);
        } while (pid > 0 || (pid < 0 && errno == EINTR));
        if (pid < 0 || fd < 0 || !may) return;
        (void)poll(NULL, 0, 1);
    }
}

static _Noreturn void leave(struct supervisor *s, int status)
{
    pm_seats_kill(&s->seats);
    for (unsigned i = 0; i < s->board->workers; i++) {
        pid_t pid = s->seats.seat[i].pid;
        while (pid && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
        if (pid) pm_process_unname(pid);
    }
    siginfo_t info;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) kill_adopted(); /* else there is nobody, as nearly always */
    pm_jobserver_give(pm_board_tokens(s->board), s->seats.jobserver, 0);
#ifdef HAVE_ZMQ
    pm_zmq_remove(s->board); /* the application may have died before it could */
#endif
    if (status == 0) (void)send(s->control, &(struct pm_answer){0, 0}, sizeof(struct pm_answer), MSG_NOSIGNAL | MSG_DONTWAIT);
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
        bool there = pm_process_of(pid, &old) == 0;
        bool other = pid == s->seats.self || (there && old.start != 0 && llabs((int64_t)old.start - born) >= hz);
        if (there && !other) {
            int fd = pm_process_watch(&old);
            (void)pm_process_signal(&old, fd, SIGKILL);
            (void)pm_process_wait(&old, fd, -1);
            if (fd >= 0) close(fd);
        }
        /* A pid is not given out again while it is a group's: where another has it now, nothing is left of the worker's, and the group is that
         * other one's. */
        if (!other) {
            (void)kill(-pid, SIGKILL);
            pm_process_unname(pid);
        }
        struct pm_death death = {.slot = i, .gen = atomic_load(&slot->gen), .cause = PM_SIGNAL, .value = SIGKILL, .charged = true};
        pm_seat_mend(&s->seats, &death);
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

static void settle_in(struct supervisor *s)
{
    /* All signals are blocked since the fork, and stay so: only SIGKILL ends a supervisor; it ends with the application. */
    (void)setpgid(0, 0);                        /* Ctrl-C on a terminal is the application's affair */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_NAME, "pmap-supervisor");
    close_all_but((const int[]){s->control, s->setup->bell, s->seats.jobserver[0], s->seats.jobserver[1]}, 4, s->setup->keep_fds);
    s->childfd = pm_process_signals(SIGCHLD, SIGUSR1 /* from workers: the bell */);
    struct pm_process app = {.pid = s->application};
    s->appfd = pm_process_watch(&app);
    const int own[] = {s->control, s->setup->bell, s->childfd, s->appfd};
    memcpy(s->seats.fd, own, sizeof own);
    if (getppid() != s->application) _exit(1); /* it died before we could watch it: that pid is somebody else's */
}

/* One a turn: where there are more, poll() says so again. */
static void obey(struct supervisor *s, short events)
{
    struct pm_order order;
    ssize_t n = recv(s->control, &order, sizeof order, MSG_DONTWAIT);
    if (n == sizeof order && order.what == PM_ORDER_CLOSE) {
        s->seats.closing = true;
        s->end = pm_now() + order.grace_ns;
    } else if (n == sizeof order && order.what == PM_ORDER_END) {
        end_task(s, order.task, order.turn);
    } else if (n > 0) {
        atomic_store(&s->board->look, 0); /* behind taking it: what is changed from here on sends another */
    }
    bool gone = n == 0 || (events & POLLHUP) || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (gone) leave(s, 1);
}

static int64_t when(const struct supervisor *s, int64_t deadline)
{
    int64_t at = pm_seats_due(&s->seats);
    if (deadline >= 0 && deadline < at) at = deadline;
    if (s->seats.closing && s->end < at) at = s->end;
    if (!s->seats.settled && s->born + SETTLE_NS < at) at = s->born + SETTLE_NS;
    if (s->appfd < 0 && pm_now() + ORPHAN_CHECK < at) at = pm_now() + ORPHAN_CHECK;
    return at;
}

static _Noreturn void run(struct supervisor *s)
{
    struct pollfd p[4] = {{s->control, POLLIN, 0}, {s->childfd, POLLIN, 0}, {s->appfd, POLLIN, 0}, {-1, POLLIN, 0}};
    int64_t deadline = enforce(s);
    for (;;) {
        int64_t at = when(s, deadline), wait = at == INT64_MAX ? -1 : at - pm_now();
        if (wait < 0 && at != INT64_MAX) wait = 0;
        struct timespec t = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
        /* A token that comes while there is work brings back somebody who rests. */
        p[3].fd = s->seats.rationed && atomic_load(&s->board->resting) && !s->seats.closing && pm_board_busy(s->board) ? s->seats.jobserver[0] : -1;
        (void)ppoll(p, 4, at == INT64_MAX ? NULL : &t, NULL);
        if (p[2].revents || (s->appfd < 0 && getppid() != s->application)) leave(s, 1);
        if (p[0].revents) obey(s, p[0].revents);
        if (p[1].revents) {
            struct signalfd_siginfo info[4]; /* there are two kinds */
            if (!s->seats.closing) be_prompt(s);
            if (read(s->childfd, info, sizeof info) < 0) { /* there are none: poll() says so again when there are */
            }
            pm_seats_reap(&s->seats, WNOHANG);
        }
        pm_seats_fill(&s->seats);
        ring(s); /* behind all that may end a task or break the pool */
        if (s->seats.closing && s->seats.alive && pm_now() >= s->end) {
            pm_seats_kill(&s->seats);
            while (s->seats.alive) pm_seats_reap(&s->seats, 0); /* mends, so that callers see their jobs end */
        }
        if (s->seats.closing && s->seats.alive == 0) leave(s, 0);
        if (!s->seats.settled && pm_now() >= s->born + SETTLE_NS) {
            s->seats.oom_kills = pm_oom_kills();
            s->seats.settled = true;
        }
        deadline = enforce(s);
    }
}

_Noreturn void pm_supervise(const struct pm_charge *charge)
{
    struct pm_board *board = charge->board;
    struct supervisor s = {.board = board, .setup = charge->setup, .control = charge->control, .application = charge->application,
                           .born = pm_now(),
                           .seats = {.board = board, .seat = charge->seats, .self = getpid(), .named = charge->named,
                                     .others_stay = charge->setup->keep_fds, .rationed = charge->rationed,
                                     .jobserver = {charge->jobserver[0], charge->jobserver[1]}}};
    struct pm_answer answer = {0, 0};
    pm_supervising = true;
    settle_in(&s);
    if (s.childfd < 0) answer.error = -EMFILE;
    else if (charge->takeover) take_over(&s);
#ifdef HAVE_ZMQ
    else if (board->zmq[0]) answer.error = pm_zmq_make(board);
#endif
    atomic_store(&board->look, 0);
    if (!answer.error) {
        answer.error = pm_seats_begin(&s.seats);
        if (answer.error) pm_jobserver_give(pm_board_tokens(board), s.seats.jobserver, 0);
    }
    answer.forked = s.seats.alive;
    (void)send(s.control, &answer, sizeof answer, MSG_NOSIGNAL);
    if (answer.error) _exit(1);
    if (charge->takeover) {
        pm_board_wake_all(board);
        strike(&s); /* the one before may have died between taking the wish and fulfilling it */
    }
    run(&s);
}

/* See control.h. */
#include "workers/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/fd.h"
#include "workers/processes.h"

#define MS INT64_C(1000000)
#define ORDER_S 1               /* how long an order waits for a supervisor that takes none */

/* Readable when it has ended: its other end of the socket is closed then, too, unless a child that the application forked at the wrong moment
 * has it. */
static int end_of(const struct pm_processes *p) { return p->pidfd >= 0 ? p->pidfd : p->control; }

static int watch_end(struct pm_processes *p)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (p->watch < 0 || p->watched || p->supervisor.pid == 0) return 0;
    if (epoll_ctl(p->watch, EPOLL_CTL_ADD, end_of(p), &event) < 0) return -errno;
    p->watched = true;
    return 0;
}

/* It must have ended. */
static void reap(struct pm_processes *p)
{
    /* By hand: a descriptor that is closed stays in the set while another process has a copy of it. */
    if (p->watched) (void)epoll_ctl(p->watch, EPOLL_CTL_DEL, end_of(p), NULL);
    p->watched = false;
    /* An application that waits for all children may have had it: its end is certain all the same, but the pid may be another child's by now, of
     * which only the pidfd does not speak. */
    siginfo_t info;
    int got = -1;
    if (p->supervisor.pid && p->pidfd >= 0)
        while ((got = waitid((idtype_t)3 /* P_PIDFD */, (id_t)p->pidfd, &info, WEXITED)) < 0 && errno == EINTR) {
        }
    if (p->supervisor.pid && got < 0 && (p->pidfd < 0 || errno == EINVAL)) /* no pidfds, or no such wait: before Linux 5.4 */
        while (waitpid(p->supervisor.pid, NULL, 0) < 0 && errno == EINTR) {
        }
    if (p->supervisor.pid && p->named) pm_process_unname(p->supervisor.pid);
    /* Forgotten first, closed then: the numbers may be another thread's at once, whose fork would close them in its child as this pool's. */
    int pidfd = p->pidfd, control = p->control;
    p->pidfd = p->control = -1;
    if (pidfd >= 0) close(pidfd);
    if (control >= 0) close(control);
    p->supervisor.pid = 0;
}

/* Its own end, which is that of a process with all its memory, is not waited for here: the application has something to take down meanwhile. */
static bool says_so(const struct pm_processes *p, int64_t end)
{
    struct pollfd f[2] = {{p->control, POLLIN, 0}, {p->pidfd, POLLIN, 0}};
    struct pm_answer answer;
    int n = 0;
    if (p->pidfd < 0) return false; /* the socket alone may never tell of its end: see end_of() */
    do {
        int64_t left = end - pm_now();
        n = poll(f, 2, left > 0 ? (int)((left + MS - 1) / MS) : 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && f[0].revents && recv(p->control, &answer, sizeof answer, MSG_DONTWAIT) == sizeof answer;
}

int pm_control_bury(struct pm_processes *p, int timeout_ms)
{
    int e = 0;
    if (p->supervisor.pid == 0) return 0;
    if (pm_process_wait(&p->supervisor, p->pidfd, timeout_ms) < 0) {
        (void)pm_process_signal(&p->supervisor, p->pidfd, SIGKILL); /* its workers go with it */
        e = -ETIMEDOUT;
    }
    reap(p);
    return e;
}

int pm_control_finish(struct pm_processes *p, int timeout_ms)
{
    int64_t end = pm_now() + timeout_ms * MS;
    if (pm_control_over(p)) return 0;
    if (says_so(p, end)) {
        atomic_store(&p->alone, true);
        return 0;
    }
    int64_t left = end - pm_now();
    return pm_control_bury(p, left > 0 ? (int)((left + MS - 1) / MS) : 0);
}

bool pm_control_over(const struct pm_processes *p) { return p->supervisor.pid == 0 || atomic_load(&p->alone); }

/* Whose supervisor this thread forks just now: that child, unlike all others, needs the descriptors. */
static _Thread_local const struct pm_processes *forking;

int pm_control_start(struct pm_processes *p, bool takeover)
{
    int pair[2];
    sigset_t all, old;
    struct pm_answer answer = {-EPIPE, 0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = ORDER_S}, sizeof(struct timeval));
    pair[0] = pm_fd_above_stdio(pair[0]);
    pair[1] = pm_fd_above_stdio(pair[1]);
    if (pair[0] < 0 || pair[1] < 0) {
        if (pair[0] >= 0) close(pair[0]);
        if (pair[1] >= 0) close(pair[1]);
        return -EMFILE;
    }
    /* What is buffered now would be written again by every process that flushes.  Not fflush(NULL): it would wait for a thread
     * that is blocked in reading some other stream. */
    (void)fflush(stdout);
    (void)fflush(stderr);
    struct pm_seat *seats = calloc(1, pm_seats_bytes(p->setup.most));
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of the application runs in the child */
    forking = p;
    p->named = pm_process_named();
    pid_t application = getpid(), pid = seats ? fork() : -1;
    if (pid == 0) {
        close(pair[0]);
        if (p->watch >= 0) close(p->watch);
        struct pm_charge charge = {.board = p->board, .setup = &p->setup, .seats = seats, .control = pair[1],
                                   .jobserver = {p->jobserver[0], p->jobserver[1]}, .rationed = p->jobserver[0] >= 0 || p->one_only,
                                   .application = application, .named = p->named, .takeover = takeover};
        pm_supervise(&charge);
    }
    int e = !seats ? -ENOMEM : pid < 0 ? -errno : 0;
    forking = NULL;
    free(seats); /* the supervisor has its own copy */
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(pair[1]);
    if (e) {
        close(pair[0]);
        return e;
    }
    p->control = pair[0];
    p->supervisor = (struct pm_process){.pid = pid}; /* our child: its pid is not reused before we reap it */
    p->pidfd = pm_process_watch(&p->supervisor);
    if (p->pidfd < 0 && pm_process_of(pid, &p->supervisor) < 0) p->supervisor = (struct pm_process){.pid = pid};
    ssize_t n;
    while ((n = recv(p->control, &answer, sizeof answer, 0)) < 0 && errno == EINTR) {
    }
    if (n == sizeof answer && answer.error == 0) {
        (void)watch_end(p); /* should there be no memory for that, pm_control_watch() tries again */
        return 0;
    }
    if (n == sizeof answer) e = answer.error;
    else e = -EPIPE; /* it died before it could say anything */
    reap(p);
    return e;
}

bool pm_control_starting(const struct pm_processes *p) { return p == forking; }

int pm_processes_check(struct pm_processes *p)
{
    if (atomic_load(&p->ending)) return -ECANCELED;
    int e = 0;
    pthread_mutex_lock(&p->lock);
    if (!atomic_load(&p->ending) && (p->supervisor.pid == 0 || pm_process_ended(&p->supervisor, p->pidfd))) {
        reap(p);
        e = pm_control_start(p, true);
        pm_board_wake_all(p->board);
    }
    pthread_mutex_unlock(&p->lock);
    return e;
}

bool pm_control_order(struct pm_processes *p, struct pm_order o)
{
    return p->control >= 0 && send(p->control, &o, sizeof o, MSG_NOSIGNAL) > 0; /* full: waits, but not longer than ORDER_S */
}

/* Only makes it look at the board again.  One on its way is enough: it looks when it has taken that out, which is later than now.  Under the
 * lock: another thread may be about to close the socket of a supervisor that has died.  Not while the pool ends, for which that is held. */
void pm_processes_look(struct pm_processes *p)
{
    if (atomic_load(&p->ending) || atomic_exchange(&p->board->look, 1)) return;
    pthread_mutex_lock(&p->lock);
    if (!pm_control_order(p, (struct pm_order){.what = PM_ORDER_LOOK})) atomic_store(&p->board->look, 0);
    pthread_mutex_unlock(&p->lock);
}

/* ---- The descriptor of a program that sleeps in a loop of its own ---- */

static int watch_bell(struct pm_processes *p)
{
    struct epoll_event event = {.events = EPOLLIN};
    int e = 0, fd = pm_fd_above_stdio(epoll_create1(EPOLL_CLOEXEC));
    if (fd < 0) return -EMFILE;
    if (epoll_ctl(fd, EPOLL_CTL_ADD, p->setup.bell, &event) < 0) e = -errno;
    if (e) close(fd);
    else p->watch = fd;
    return e;
}

int pm_control_watch(struct pm_processes *p)
{
    int error = p->watch < 0 ? watch_bell(p) : 0;
    if (!error) error = watch_end(p);
    return error ? error : p->watch;
}

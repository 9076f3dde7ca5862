/* Moves a running command on: bytes in and out, deaths, its time-out.  All of it without blocking, in whatever call
 * comes along:
 *
 *     running -> [terminated, by timeout_s or a call: SIGTERM] -> [grace over: SIGKILL] -> all processes have ended
 *             -> [pipes that others still have open: at most grace_s] -> reaped: over
 *
 * A process that has ended stays a zombie until the command is over.  So its number, which is its group's too, is
 * nobody else's, and what is left of the group can be signalled.  When the program ignores SIGCHLD, or waits for any
 * child, there is no such zombie: then nothing is sent any more, and the status is what the kernel remembers behind the
 * pidfd, if it does.
 * Used by command.c and commands.c; sets no error text. */
#include "pmap/command.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/event.h"
#include "shm/process.h"
#include "shm/size.h"

#define SCRATCH 16384u
#define PIPE_STANDARD 65536u      /* what the kernel gives */
#define PIPE_LARGE (256 << 10)    /* a tenth less CPU time to feed wc; 1 MiB is no better */
#define A_STEP ((size_t)1 << 20)  /* bytes a stream in one step: then time-outs have their turn */
#define LOOK_NS INT64_C(10000000) /* how often to look at most, where nothing tells */
#define BRIEF_NS INT64_C(3000000) /* a command that ends before is read when it has: its pipes need no watching, nor does
                                   * the end itself where its spawner stays for so long */
#define SCAN_NS INT64_C(50000000) /* the same for /proc */
#define PIDFD 3                   /* waitid()'s P_PIDFD, which older headers lack */

void pm_command_shut(pmap_command *c, int *fd)
{
    if (*fd < 0) return;
    /* Closing alone does not take it out of the set while a forked child has it too. */
    bool watched = c->pipes_watched || (fd != &c->fd[1] && fd != &c->fd[2]);
    if (c->epoll >= 0 && watched) (void)epoll_ctl(c->epoll, EPOLL_CTL_DEL, *fd, NULL);
    (void)close(*fd);
    *fd = -1;
}

/* ---- Bytes ---- */

/* A write to a pipe without a reader raises SIGPIPE, in this very thread: it is blocked meanwhile and taken away again,
 * unless one was waiting before. */
static ssize_t write_quietly(int fd, const char *data, size_t bytes)
{
    static const struct timespec now = {0, 0};
    sigset_t broken, before, waiting;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &broken, &before);
    (void)sigpending(&waiting);
    ssize_t n = write(fd, data, bytes);
    int saved = errno;
    if (n < 0 && saved == EPIPE && !sigismember(&waiting, SIGPIPE))
        while (sigtimedwait(&broken, NULL, &now) < 0 && errno == EINTR) continue;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}

/* A part of the input could not be handed over, though the command wanted it. */
static void starve(pmap_command *c, int e)
{
    if (c->error) return;
    c->error = e == EFAULT ? PMAP_EINVAL : PMAP_ESYSTEM;
    if (asprintf(&c->text, "byte %zu of a command's input cannot be written: %s%s", c->written, strerror(e),
                 e == EFAULT ? "; is it a mapping of a file that has become shorter?" : "") < 0)
        c->text = NULL;
}

static void feed(pmap_command *c)
{
    if (c->fd[0] < 0 || !c->fed) return;
    /* Each time that a full pipe has room again costs two processes a turn.  Where this is refused, it is as large as it is. */
    if (c->written == 0 && c->input_bytes > PIPE_STANDARD) (void)fcntl(c->fd[0], F_SETPIPE_SZ, PIPE_LARGE);
    while (c->written < c->input_bytes) {
        size_t some = pm_size_min(c->input_bytes - c->written, A_STEP);
        ssize_t n = write_quietly(c->fd[0], c->input + c->written, some);
        if (n >= 0) {
            c->written += (size_t)n;
            if ((size_t)n < some) return; /* full; or the rest cannot be read, as the next write tells */
        } else if (errno == EAGAIN) return;
        else if (errno != EINTR) {
            if (errno != EPIPE) starve(c, errno); /* EPIPE: it wants no more */
            break;
        }
    }
    pm_command_shut(c, &c->fd[0]);
}

/* Appends what was read: `into` bytes of it are in their place already, the rest is in scratch.  False: no memory. */
static bool append(struct pm_capture *out, size_t into, const char *scratch, size_t rest)
{
    size_t need = out->size + into + rest + 1;
    if (need > out->room) {
        size_t room = pm_size_max(pm_size_max(need, 256), out->room > SIZE_MAX / 2 ? SIZE_MAX : 2 * out->room);
        char *data = realloc(out->data, room);
        if (!data && !(data = realloc(out->data, room = need))) return false;
        out->data = data;
        out->room = room;
    }
    if (rest) memcpy(out->data + out->size + into, scratch, rest);
    out->size += into + rest;
    out->data[out->size] = 0;
    return true;
}

static void drain(pmap_command *c, int stream)
{
    struct pm_capture *out = &c->out[stream - 1];
    int *fd = &c->fd[stream];
    size_t most = c->plan->each[0].most_output;
    char scratch[SCRATCH];
    bool pieces = c->plan->each[0].output != NULL;
    for (size_t done = 0; *fd >= 0;) {
        if (pieces && out->size >= A_STEP) {
            c->full = true;
            return;
        }
        if (done >= A_STEP) {
            c->more = true; /* nobody tells of it again */
            return;
        }
        size_t space = out->room ? out->room - out->size - 1 : 0; /* one is for the zero */
        struct iovec to[2] = {{out->data ? out->data + out->size : scratch, space}, {scratch, sizeof scratch}};
        ssize_t n = readv(*fd, to, 2);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            pm_command_shut(c, fd);
            return;
        }
        size_t keep = pieces ? (size_t)n : pm_size_min((size_t)n, most - out->size), into = pm_size_min(keep, space);
        done += (size_t)n;
        c->fresh |= pieces;
        out->cut = keep < (size_t)n;
        bool kept = append(out, into, scratch, keep - into);
        if (!kept && !c->error) c->error = PMAP_ENOMEM;
        if (!kept || out->cut) pm_command_shut(c, fd); /* its next write ends it */
    }
}

void pm_command_deliver(pmap_command *c)
{
    const pmap_command_options *o = &c->plan->each[0];
    if (!c->fresh) return;
    c->fresh = false;
    for (int k = 0; k < 2; k++) {
        if (c->out[k].size) o->output(o->user, k + 1, c->out[k].data, c->out[k].size);
        c->out[k].size = 0;
        if (c->out[k].data) c->out[k].data[0] = 0;
    }
}

/* ---- Deaths ---- */

/* As waitid(), with what it has used: 0 it runs, 1 it has ended, -1 it is nobody to wait for. */
static int wait_for(const struct pm_member *m, int options, siginfo_t *info, struct rusage *usage)
{
    bool exact = m->pidfd >= 0;
    for (;;) {
        memset(info, 0, sizeof *info);
        long r = syscall(SYS_waitid, exact ? PIDFD : P_PID, exact ? m->pidfd : m->pid, info,
                         WEXITED | WNOHANG | options, usage);
        if (r == 0) return info->si_pid != 0;
        if (errno == EINVAL && exact) exact = false; /* Linux 5.3 */
        else if (errno != EINTR) return -1;
    }
}

/* What the kernel (6.15) remembers of one that nobody could wait for; -1: nothing. */
static int remembered(int pidfd)
{
    struct { /* struct pidfd_info, its first version */
        uint64_t mask, cgroup;
        uint32_t ids[11];
        int32_t exit_code;
    } info = {.mask = 8 /* PIDFD_INFO_EXIT */};
    if (pidfd < 0 || ioctl(pidfd, _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, sizeof info), &info) != 0) return -1;
    return info.mask & 8 ? info.exit_code : -1;
}

/* Has all of it ended? */
static bool look(pmap_command *c)
{
    bool all = true;
    for (size_t i = 0; i < c->count; i++) {
        struct pm_member *m = &c->member[i];
        siginfo_t info;
        if (m->pid == 0 || m->ended) continue;
        int r = wait_for(m, WNOWAIT, &info, NULL);
        if (r == 0) {
            all = false;
            continue;
        }
        m->ended = true;
        m->end_ns = pm_now();
        if (r < 0) {
            m->lost = true;
            m->status = remembered(m->pidfd);
        }
        if (c->epoll >= 0 && m->pidfd >= 0) (void)epoll_ctl(c->epoll, EPOLL_CTL_DEL, m->pidfd, NULL);
    }
    return all;
}

static void reap(pmap_command *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct pm_member *m = &c->member[i];
        siginfo_t info;
        if (m->pid && !m->lost) {
            if (wait_for(m, 0, &info, &m->usage) == 1)
                m->status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
            else m->lost = true;
        }
        if (m->pidfd >= 0) (void)close(m->pidfd); /* out of the epoll set since it ended */
        m->pidfd = -1;
    }
    c->over = true;
}

/* ---- Signals ---- */

int pm_command_send(pmap_command *c, int signal)
{
    int error = 0;
    if (c->over) return 0;
    (void)look(c); /* so that nothing is sent to the number of one that was lost */
    for (size_t i = 0; i < c->count; i++) {
        const struct pm_member *m = &c->member[i];
        struct pm_process process = {.pid = m->pid};
        if (m->pid == 0 || m->lost) continue;
        int r = 0;
        if (!c->plan->each[0].same_group) r = kill(-m->pid, signal) == 0 ? 0 : -errno;
        else if (!m->ended) r = pm_process_signal(&process, m->pidfd, signal);
        if (r != 0 && r != -ESRCH) error = r;
    }
    return error;
}

void pm_command_stop(pmap_command *c, pmap_cause why)
{
    (void)look(c);
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].pid && !c->member[i].ended && !c->member[i].stopped) c->member[i].stopped = why;
    if (c->kill_ns != INT64_MAX) return; /* it has been told, and its grace is not made longer */
    int64_t now = pm_now();
    c->kill_ns = c->grace_ns > INT64_MAX - 1 - now ? INT64_MAX - 1 : now + c->grace_ns;
    c->pause_ns = 0;
    if (c->grace_ns == 0) return;
    (void)pm_command_send(c, SIGTERM);
    (void)pm_command_send(c, SIGCONT); /* one that is stopped would not see it */
}

static bool groups_run(const pmap_command *c)
{
    if (c->plan->each[0].same_group) return false;
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].pid && !c->member[i].lost && pm_group_runs(c->member[i].pid)) return true;
    return false;
}

/* ---- When to look ---- */

static void look_later(pmap_command *c, int64_t now, int64_t most)
{
    c->pause_ns = c->pause_ns ? 2 * c->pause_ns : 100000;
    if (c->pause_ns > most) c->pause_ns = most;
    c->look_ns = now + c->pause_ns;
}

static bool unseen(const pmap_command *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].pid && !c->member[i].ended && c->member[i].pidfd < 0) return true;
    return false;
}

/* ---- Watched by an epoll set ---- */

static bool put_in(const pmap_command *c, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events | EPOLLET, .data = {.u64 = c->key}};
    return fd < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) == 0 || errno == EEXIST;
}

static bool put_in_ends(const pmap_command *c)
{
    bool all = !c->fed || put_in(c, c->fd[0], EPOLLOUT);
    for (size_t i = 0; i < c->count; i++)
        if (!c->member[i].ended) all &= put_in(c, c->member[i].pidfd, EPOLLIN);
    return all;
}

/* What it writes; and again what had no room in the set.  As long as there is none it is looked at now and then. */
static void watch_rest(pmap_command *c, int64_t now)
{
    bool all = put_in(c, c->fd[1], EPOLLIN) && put_in(c, c->fd[2], EPOLLIN);
    c->pipes_watched = true; /* one of them may be */
    all &= put_in_ends(c);
    c->watch_ns = all ? INT64_MAX : now + LOOK_NS;
}

void pm_command_watch(pmap_command *c, int epoll, uint64_t key, bool lazily)
{
    c->epoll = epoll;
    c->key = key;
    if (!lazily) watch_rest(c, c->start_ns);
    else if (!put_in_ends(c) || c->fd[1] >= 0 || c->fd[2] >= 0) c->watch_ns = c->start_ns + BRIEF_NS;
}

/* ---- All together ---- */

bool pm_command_step(pmap_command *c)
{
    if (c->over) return true;
    c->more = c->full = false;
    feed(c);
    drain(c, 1);
    drain(c, 2);
    bool all = look(c);
    int64_t now = pm_now();
    if (all && c->late_ns == INT64_MAX) {
        c->late_ns = c->grace_ns > INT64_MAX - 1 - now ? INT64_MAX - 1 : now + c->grace_ns;
        pm_command_shut(c, &c->fd[0]);
        drain(c, 1); /* what it wrote between the look at its pipes and the look at its end */
        drain(c, 2);
    }
    bool done = all && c->fd[1] < 0 && c->fd[2] < 0;
    if (!done && c->kill_ns == INT64_MAX && now >= c->timeout_ns) pm_command_stop(c, PMAP_CAUSE_TIMEOUT);
    if (!c->killed && now >= c->kill_ns) {
        (void)pm_command_send(c, SIGKILL);
        c->killed = true;
    }
    c->look_ns = INT64_MAX;
    /* Pipes that are open behind its end: a process it left has them, or one that is just being started, which lets go
     * of them in a moment. */
    if (c->watch_ns != INT64_MAX && !done && (all || now >= c->watch_ns)) watch_rest(c, now);
    if (!all) {
        if (unseen(c)) look_later(c, now, LOOK_NS);
        return false;
    }
    if (!done && !c->killed && (c->full || now < c->late_ns)) return false;
    pm_command_shut(c, &c->fd[1]);
    pm_command_shut(c, &c->fd[2]);
    if (c->kill_ns != INT64_MAX && !c->killed && groups_run(c)) {
        look_later(c, now, SCAN_NS);
        return false;
    }
    reap(c);
    return true;
}

int64_t pm_command_due(const pmap_command *c)
{
    int64_t due = c->more ? 0 : c->look_ns < c->watch_ns ? c->look_ns : c->watch_ns;
    if (c->kill_ns == INT64_MAX && c->timeout_ns < due) due = c->timeout_ns;
    if (!c->killed && c->kill_ns < due) due = c->kill_ns;
    if ((c->fd[1] >= 0 || c->fd[2] >= 0) && !c->full && c->late_ns < due) due = c->late_ns;
    return due;
}

/* The descriptors that tell of this command, into c->polls. */
static nfds_t polled(pmap_command *c)
{
    nfds_t n = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->member[i].pidfd >= 0 && !c->member[i].ended)
            c->polls[n++] = (struct pollfd){c->member[i].pidfd, POLLIN, 0};
    if (c->fd[0] >= 0 && c->fed) c->polls[n++] = (struct pollfd){c->fd[0], POLLOUT, 0};
    for (int k = 1; k <= 2; k++)
        if (c->fd[k] >= 0) c->polls[n++] = (struct pollfd){c->fd[k], POLLIN, 0};
    return n;
}

void pm_command_pause(pmap_command *c, int64_t end_ns)
{
    int64_t due = pm_command_due(c), left;
    if (end_ns < due) due = end_ns;
    left = due == INT64_MAX ? INT64_MAX : due - pm_now();
    if (left <= 0) return;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    (void)ppoll(c->polls, polled(c), left == INT64_MAX ? NULL : &t,
                NULL); /* a signal: the caller looks and comes back */
}

bool pm_command_ends_soon(int pidfd, int64_t due_ns)
{
    struct pollfd ended = {pidfd, POLLIN, 0};
    int64_t left = due_ns - pm_now();
    struct timespec t = {.tv_nsec = left < 0 ? 0 : left < BRIEF_NS ? (long)left : (long)BRIEF_NS};
    return ppoll(&ended, 1, &t, NULL) > 0;
}

bool pm_command_writes_much(const pmap_command *c)
{
    for (int i = 1, n; i <= 2; i++)
        if (c->fd[i] >= 0 && ioctl(c->fd[i], FIONREAD, &n) == 0 && n >= (int)PIPE_STANDARD / 2) return true;
    return false;
}

int pm_command_end(pmap_command *c, int64_t limit_ns)
{
    int64_t end = pm_now() + limit_ns;
    (void)pm_command_send(c, SIGKILL);
    c->kill_ns = 0;
    c->killed = true;
    while (!pm_command_step(c)) {
        if (pm_now() >= end) return -ETIMEDOUT;
        pm_command_pause(c, end);
    }
    return 0;
}

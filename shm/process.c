/* Process identity and death: see shm/process.h.  Used by workers/ (supervisor, executor) and by tests.
 * Must not reap: who forked a process decides when its status is collected. */
#include "shm/process.h"

#include "shm/event.h"
#include "shm/fd.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

static _Atomic bool refused;

void pm_process_refuse_pidfd(bool refuse) { atomic_store_explicit(&refused, refuse, memory_order_relaxed); }

struct stat_line {
    char state;
    int cpu;
    long threads;
    uint64_t start;
};

/* Reads /proc/<pid>/stat: 0, or -errno when there is none.  The name in it may hold blanks and brackets, so the fields
 * are counted from the last bracket: field 3 (state) follows it. */
static int read_stat(pid_t pid, struct stat_line *line)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd;
    while ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        if (errno != EINTR) return -errno;
    ssize_t n;
    while ((n = read(fd, text, sizeof text - 1)) < 0 && errno == EINTR) continue;
    int error = n < 0 ? -errno : 0;
    close(fd);
    if (error) return error; /* ESRCH: it went away between open and read */
    text[n] = 0;

    const char *p = strrchr(text, ')');
    if (!p || p[1] != ' ' || !p[2]) return -EINVAL;
    p += 2;
    line->state = *p;
    for (int field = 4; field <= 39; field++) {
        p = strchr(p, ' ');
        if (!p) return -EINVAL;
        p++;
        if (field == 20) line->threads = strtol(p, NULL, 10);
        if (field == 22) line->start = strtoull(p, NULL, 10);
        if (field == 39) line->cpu = (int)strtol(p, NULL, 10);
    }
    return 0;
}

#define SIGNALS 64 /* of the kernel, those of the C library among them; its set of them is one word on all machines of ours */

/* A sanitizer's books are a stopped parent's: such a child must not write in them. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

/* These are system calls of their own because the C library's functions for them are more pages that a new process has to map. */
IN_CHILD static void set_default(int signal)
{
    static const struct {
        void *handler; /* SIG_DFL */
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } defaults = {0};
    (void)syscall(SYS_rt_sigaction, signal, &defaults, NULL, sizeof defaults.mask);
}

IN_CHILD void pm_process_free_signals(void)
{
    uint64_t none = 0;
    for (int n = 1; n <= SIGNALS; n++) set_default(n);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

int pm_process_signals(int one, int other)
{
    uint64_t set = UINT64_C(1) << (one - 1) | UINT64_C(1) << (other - 1);
    set_default(one);
    set_default(other);
    long fd = syscall(SYS_signalfd4, -1, &set, sizeof set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : (int)fd;
}

int pm_process_queue(pid_t pid)
{
    struct stat_line line;
    return read_stat(pid, &line) == 0 && line.state == 'R' ? line.cpu : -1;
}

/* Not snprintf(): that would be half a dozen page faults in a supervisor that does nothing else of the kind. */
static char *put_number(char *at, unsigned long n)
{
    char digits[24];
    int k = 0;
    do
        digits[k++] = (char)('0' + n % 10);
    while (n /= 10);
    while (k) *at++ = digits[--k];
    return at;
}

static int count(struct dl_phdr_info *info, size_t size, void *to)
{
    (void)size;
    *(struct pm_loads *)to = (struct pm_loads){info->dlpi_adds, info->dlpi_subs};
    return 1;
}

struct pm_loads pm_process_loads(void)
{
    struct pm_loads l = {0, 0};
    (void)dl_iterate_phdr(count, &l);
    return l;
}

bool pm_process_named(void)
{
    static _Atomic uint64_t known; /* 2 x how many objects had ever been loaded when this was looked up last, + the answer */
    uint64_t loads = pm_process_loads().loads, was = known;
    if (was && was / 2 == loads) return was % 2 != 0;
    bool named = dlsym(RTLD_DEFAULT, "__kmpc_fork_call") != NULL;
    known = 2 * loads + named;
    return named;
}

void pm_process_unname(pid_t pid)
{
    char path[80] = "/dev/shm/__KMP_REGISTERED_LIB_", *at = path + strlen(path);
    at = put_number(at, (unsigned long)pid);
    *at++ = '_';
    *put_number(at, getuid()) = 0;
    (void)unlink(path);
}

static bool pid_exists(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

int pm_process_of(pid_t pid, struct pm_process *process)
{
    *process = (struct pm_process){0};
    if (pid <= 0) return -ESRCH;
    struct stat_line line;
    if (read_stat(pid, &line) == 0) {
        *process = (struct pm_process){.pid = pid, .start = line.start};
        return 0;
    }
    if (!pid_exists(pid)) return -ESRCH;
    process->pid = pid; /* no /proc, or it is hidden from us */
    return 0;
}

/* Is this pid still this process, as far as can be told?  `line`, when read, is filled and *known set. */
static bool same(const struct pm_process *process, struct stat_line *line, bool *known)
{
    *known = read_stat(process->pid, line) == 0;
    if (!*known) return pid_exists(process->pid);
    return process->start == 0 || process->start == line->start;
}

int pm_process_watch(const struct pm_process *process)
{
    if (process->pid <= 0) return -ESRCH;
    if (atomic_load_explicit(&refused, memory_order_relaxed)) return -ENOSYS;
    int fd = (int)syscall(SYS_pidfd_open, process->pid, 0u);
    fd = pm_fd_above_stdio(fd < 0 ? -errno : fd);
    if (fd < 0) return fd;
    if (process->start == 0) return fd; /* a caller who knows that it cannot have been reused, or cannot tell */
    /* The pid may have been reused before the call.  From here on it cannot be: so ask now whose it is. */
    struct stat_line line;
    bool known;
    if (!same(process, &line, &known)) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}

/* 1 it has ended, 0 it has not, -1 this pidfd cannot tell.  Waits until `end` (negative = for ever, 0 = not at all). */
static int poll_pidfd(int pidfd, int64_t end)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        int ms = -1;
        if (end >= 0) {
            int64_t left = end == 0 ? 0 : end - pm_now();
            left = left <= 0 ? 0 : (left + 999999) / 1000000; /* rounded up, so that the last bit is no busy loop */
            ms = left > INT_MAX ? INT_MAX : (int)left;
        }
        int n = poll(&p, 1, ms);
        if (n > 0) return p.revents & POLLNVAL ? -1 : 1;
        if (n < 0 && errno != EINTR) return -1;
        if (n == 0 && (end == 0 || (end > 0 && pm_now() >= end))) return 0;
    }
}

static bool ended_without_pidfd(const struct pm_process *process)
{
    struct stat_line line;
    bool known;
    if (!same(process, &line, &known)) return true;
    if (known) {
        /* A zombie has ended, unless only its first thread has: then others still run. */
        return (line.state == 'Z' || line.state == 'X') && line.threads <= 1;
    }
    /* Without /proc only a child's own parent can tell a zombie.  WNOWAIT leaves the status where it is. */
    siginfo_t info = {0};
    int r = waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
    return r == 0 && info.si_pid == process->pid;
}

bool pm_process_ended(const struct pm_process *process, int pidfd)
{
    if (process->pid <= 0) return true;
    int r = pidfd >= 0 ? poll_pidfd(pidfd, 0) : -1;
    return r >= 0 ? r == 1 : ended_without_pidfd(process);
}

bool pm_thread_ended(pid_t tid, uint64_t start, uint64_t mask)
{
    struct stat_line line;
    if (tid <= 0) return true;
    if (read_stat(tid, &line)) {
        /* No such file: it has ended, or there is no /proc for us (then even a zombie looks alive, until it is reaped). */
        struct pm_process process = {.pid = tid};
        return ended_without_pidfd(&process);
    }
    uint64_t bits = line.start & mask;
    if (line.start && !bits) bits = 1;
    return (start && bits != start) || line.state == 'Z' || line.state == 'X';
}

int pm_process_wait(const struct pm_process *process, int pidfd, int timeout_ms)
{
    if (process->pid <= 0) return 0;
    int64_t end = timeout_ms > 0 ? pm_now() + (int64_t)timeout_ms * 1000000 : timeout_ms;
    int r = pidfd >= 0 ? poll_pidfd(pidfd, end) : -1;
    if (r >= 0) return r == 1 ? 0 : -ETIMEDOUT;

    /* Nothing tells us: ask again and again, at first soon, then every 10 ms. */
    int64_t pause = 100000;
    while (!ended_without_pidfd(process)) {
        if (end >= 0) {
            int64_t left = end == 0 ? 0 : end - pm_now();
            if (left <= 0) return -ETIMEDOUT;
            if (pause > left) pause = left;
        }
        struct timespec t = {.tv_sec = 0, .tv_nsec = (long)pause};
        nanosleep(&t, NULL);
        pause = pause * 2 > 10000000 ? 10000000 : pause * 2;
    }
    return 0;
}

int pm_process_signal(const struct pm_process *process, int pidfd, int signal)
{
    if (pm_process_ended(process, pidfd)) return -ESRCH;
    if (pidfd >= 0) {
        if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0u) == 0) return 0;
        if (errno != ENOSYS && errno != EBADF) return -errno;
        if (ended_without_pidfd(process)) return -ESRCH;
    }
    return kill(process->pid, signal) == 0 ? 0 : -errno;
}

/* See pmap/spawn.h.  clone(CLONE_VM | CLONE_VFORK): the child runs in this process's memory, on a stack of its own,
 * while the calling thread stands still until the child has called execve() or ended.  So nothing is copied however
 * large this process is, and the child hands its error back by storing it.  posix_spawn() does the same and costs the
 * same; it cannot say whether it was the directory or the program that was missing, gives no pidfd before the pid could
 * be reused, and keeps descriptors only one by one.
 *
 * What the child may do: raw system calls and stores into struct child.  It shares errno, stdio and locks with a
 * stopped thread and with others that run.
 *
 * All signals are blocked here before the clone, so that no handler of the program runs in the child, in our memory;
 * the child makes all of them default before it unblocks them.
 *
 * Where vfork is emulated by fork (valgrind, qemu), the error is stored where nobody sees it: the program then seems to
 * have started, and to have exited with status 127. */
#include "pmap/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/fd.h"
#include "shm/process.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

#define STACK 32768u

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifdef THREAD_SANITIZER
/* The sanitizer takes every clone() for a fork() and loses itself in a child that shares its memory. */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

/* A sanitizer's books about stacks and locks are the stopped thread's: the child's functions must not write in them. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

struct child {
    const struct pm_spawn *spawn;
    const char *program; /* paths to try, each ended by a zero, the last by two */
    /* Written by the child, read behind the clone: the kernel lets this thread run only afterwards. */
    int error;
    enum pm_spawn_stage stage;
};

IN_CHILD static long close_from_to(unsigned first, unsigned last)
{
    return first > last ? 0 : syscall(SYS_close_range, first, last, 0u);
}

/* Without close_range() (before 5.9, or refused): marks what /proc lists as close-on-exec, which unlike closing leaves
 * the list as it is.  Without /proc too, the first 65536 numbers. */
IN_CHILD static void mark_all(void)
{
    struct entry { /* of getdents64() */
        uint64_t inode;
        int64_t offset;
        uint16_t length;
        uint8_t type;
        char name[];
    };
    _Alignas(8) char buffer[2048];
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), n;
    if (fd < 0)
        for (int i = 3; i < 65536; i++) (void)syscall(SYS_fcntl, i, F_SETFD, FD_CLOEXEC);
    while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            const struct entry *e = (const struct entry *)(buffer + at);
            int number = 0;
            for (const char *p = e->name; *p >= '0' && *p <= '9'; p++) number = number * 10 + (*p - '0');
            if (number > 2) (void)syscall(SYS_fcntl, number, F_SETFD, FD_CLOEXEC);
            at += e->length;
        }
}

/* Everything above 2 goes but what is kept. */
IN_CHILD static void shut_others(const struct pm_spawn *s)
{
    unsigned next = 3;
    long r = 0;
    for (size_t i = 0; i < s->nkeep && r == 0; i++) {
        unsigned keep = (unsigned)s->keep[i];
        if (keep > next) r = close_from_to(next, keep - 1);
        next = keep + 1;
    }
    if (r == 0) r = close_from_to(next, UINT_MAX);
    if (r != 0) mark_all();
    for (size_t i = 0; i < s->nkeep; i++) (void)syscall(SYS_fcntl, s->keep[i], F_SETFD, 0);
}

/* Puts the three in their places.  One that is itself 0, 1 or 2 moves up first, so that none is overwritten before it
 * was used. */
IN_CHILD static int place(const struct pm_spawn *s)
{
    long from[3];
    for (int i = 0; i < 3; i++) {
        from[i] = s->fd[i];
        if (from[i] >= 0 && from[i] <= 2 && from[i] != i) {
            from[i] = syscall(SYS_fcntl, from[i], F_DUPFD_CLOEXEC, 3);
            if (from[i] < 0) return errno;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (i == 2 && s->fd[2] == PM_SPAWN_AS_1) from[2] = 1;
        /* dup3() refuses equal numbers, and there only the flag is in the way. */
        long r = from[i] == i ? syscall(SYS_fcntl, i, F_SETFD, 0) : syscall(SYS_dup3, (int)from[i], i, 0);
        if (r < 0) return errno;
    }
    return 0;
}

IN_CHILD static int run_program(struct child *c)
{
    int error = ENOENT;
    for (const char *p = c->program; *p; p++) {
        (void)syscall(SYS_execve, p, c->spawn->argv, c->spawn->env);
        /* What is missing may be further on in the path; a directory that may not be looked into is told if nothing
         * else is found. */
        if (errno == EACCES) error = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT)
            return errno;
        while (*p) p++;
    }
    return error;
}

IN_CHILD static int limit(const struct pm_spawn *s)
{
    unsigned long mask[PM_SPAWN_CPUS / (8 * sizeof(unsigned long))];
    if (s->cpu) {
        for (size_t i = 0; i < sizeof mask / sizeof *mask; i++) ((volatile unsigned long *)mask)[i] = 0; /* no memset() in here */
        mask[(s->cpu - 1) / (8 * sizeof *mask)] = 1ul << (s->cpu - 1) % (8 * sizeof *mask);
        if (syscall(SYS_sched_setaffinity, 0, sizeof mask, mask) < 0) return errno;
    }
    if (s->memory) {
        uint64_t both[2] = {s->memory, s->memory}; /* soft, hard */
        if (syscall(SYS_prlimit64, 0, RLIMIT_DATA, both, NULL) < 0) return errno;
    }
    if (s->parent) {
        if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return errno;
        if (syscall(SYS_getppid) != s->parent) return ESRCH; /* killed just before */
    }
    return 0;
}

IN_CHILD static int child_main(void *arg)
{
    struct child *c = arg;
    const struct pm_spawn *s = c->spawn;
    c->stage = PM_SPAWN_FDS;
    c->error = place(s);
    if (c->error == 0) {
        shut_others(s); /* soon: other commands' pipes are among them, whose ends are waited for */
        c->stage = PM_SPAWN_CWD;
        if (s->cwd && syscall(SYS_chdir, s->cwd) != 0) c->error = errno;
    }
    if (c->error == 0) {
        c->stage = PM_SPAWN_LIMITS;
        c->error = limit(s);
    }
    if (c->error == 0) {
        c->stage = PM_SPAWN_EXEC;
        if (s->group) (void)syscall(SYS_setpgid, 0, 0);
        pm_process_free_signals();
        c->error = run_program(c);
    }
    (void)syscall(SYS_exit_group, 127);
    return 127;
}

/* The paths to try, behind the child's stack: {stack | paths}. */
static char *prepare(const struct pm_spawn *s)
{
    const char *name = s->argv[0], *path = strchr(name, '/') || !name[0] ? "" : s->path;
    size_t all = strlen(name) + 3, length;
    for (const char *p = path; *p; p += length + (p[length] == ':')) {
        length = strcspn(p, ":");
        all += length + strlen(name) + 3;
    }
    char *block = malloc(STACK + all + 2);
    if (!block) return NULL;
    char *to = block + STACK;
    if (!*path) to = stpcpy(to, name) + 1;
    for (const char *p = path; *p; p += length + (p[length] == ':')) {
        length = strcspn(p, ":");
        memcpy(to, p, length);
        to += length;
        if (length) *to++ = '/'; /* an empty one means the current directory */
        to = stpcpy(to, name) + 1;
    }
    *to = 0;
    return block;
}

int pm_spawn(const struct pm_spawn *spawn, pid_t *pid, int *pidfd, enum pm_spawn_stage *stage)
{
    sigset_t all, before;
    *stage = PM_SPAWN_FORK;
    *pidfd = -1;
    char *block = prepare(spawn);
    if (!block) return -ENOMEM;
    struct child child = {.spawn = spawn, .program = block + STACK};

    /* A child that never becomes a program ends without a signal: nobody is to see it.  execve() makes that SIGCHLD. */
    int flags = CLONE_VM | CLONE_VFORK, saved = errno;
    char *stack = block + (STACK - ((uintptr_t)block & 63u));
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    *pid = clone(child_main, stack, flags | CLONE_PIDFD, &child, pidfd);
    if (*pid < 0 && errno != EAGAIN && errno != ENOMEM) {
        *pidfd = -1; /* refused, by a filter or an emulation: the rest works without */
        *pid = clone(child_main, stack, flags, &child, NULL);
    }
    int error = *pid < 0 ? errno : child.error;
    if (*pid >= 0 && error) {
        /* It never became a program, and is waited for as only this call knows it. */
        *stage = child.stage;
        while (waitpid(*pid, NULL, __WALL) < 0 && errno == EINTR) continue;
        if (*pidfd >= 0) (void)close(*pidfd);
        *pidfd = -1;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(block);
    if (error == 0) *pidfd = pm_fd_above_stdio(*pidfd);
    errno = saved;
    return -error;
}

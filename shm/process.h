/* Who a process is, and when it has ended: a pid is reused, (pid, start time) is not.  Uses pidfds where the kernel gives them; where
 * pidfd_open is refused (valgrind, strict seccomp, kernels before 5.3) it falls back to kill(pid, 0) and the start time. */
#ifndef PM_SHM_PROCESS_H
#define PM_SHM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pm_process {
    pid_t pid;      /* 0 = nobody */
    uint64_t start; /* field 22 of /proc/<pid>/stat, in clock ticks; 0 where /proc is missing */
};

int pm_process_of(pid_t pid, struct pm_process *process); /* 0, -ESRCH */

/* A close-on-exec pidfd, or -ENOSYS / -EPERM where there are none, or -ESRCH when it has ended. */
int pm_process_watch(const struct pm_process *process);

/* Has it ended (a zombie counts as ended: it runs no instruction any more)?  pidfd may be negative. */
bool pm_process_ended(const struct pm_process *process, int pidfd);

/* Has this one thread ended, whatever the rest of its process does?  `start` is as above, in those bits of it that are set in `mask`, 0 when it
 * is not known (one whose bits are all 0 is kept as 1).  Never says so of a living thread. */
bool pm_thread_ended(pid_t tid, uint64_t start, uint64_t mask);

/* How often the dynamic linker has ever loaded and unloaded an object in this process. */
struct pm_loads {
    uint64_t loads, unloads;
};
struct pm_loads pm_process_loads(void);

/* The CPU on which it runs or whose queue it is in; -1 when it sleeps, or that is not known. */
int pm_process_queue(pid_t pid);

/* For a child in which all signals were blocked until now: all handlers at their defaults, no signal blocked.  It may be one that shares the
 * memory of its parent (pmap/spawn.c): system calls only. */
void pm_process_free_signals(void);

/* A descriptor for these two, which are blocked: no handler has them and nobody ignores them any more.  Or -errno. */
int pm_process_signals(int one, int other);

/* A forked child has ended: takes away the name in /dev/shm that LLVM's OpenMP run-time gives each one of a program that uses it, and that only
 * exit() would take away.  A later process with that pid would not get through its fork(). */
void pm_process_unname(pid_t pid);
bool pm_process_named(void); /* does the next forked child get such a name? */

/* Waits for its end, at most timeout_ms (negative = for ever): 0, or -ETIMEDOUT.  Does not reap. */
int pm_process_wait(const struct pm_process *process, int pidfd, int timeout_ms);

/* Sends a signal to exactly this process: 0, -ESRCH when it has ended.  Never signals a reused pid when it can tell. */
int pm_process_signal(const struct pm_process *process, int pidfd, int signal);

/* Tests: make pidfd_open() look refused in this process. */
void pm_process_refuse_pidfd(bool refuse);

#endif

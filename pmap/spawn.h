/* Starts one program as a child of this process, at a cost that does not grow with this process's memory.
 * Used by pmap/command_launch.c, which has opened what the child's 0, 1 and 2 shall be.  Knows no pmap_command and no
 * error text. */
#ifndef PM_PMAP_SPAWN_H
#define PM_PMAP_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PM_SPAWN_CPUS 8192u /* most that a machine has */
#define PM_SPAWN_AS_1 (-1) /* of fd[2]: what 1 is */

struct pm_spawn {
    const char *const *argv; /* argv[0] is looked for in `path`, unless it has a slash */
    const char *const *env;
    const char *path;        /* directories, with colons between */
    const char *cwd;         /* NULL = as it is */
    int fd[3];               /* what becomes 0, 1, 2: open descriptors of any number, or PM_SPAWN_AS_1 */
    const int *keep;         /* more descriptors that the program gets, under their numbers: ascending, above 2, open */
    size_t nkeep;
    bool group;              /* a process group of its own */
    unsigned cpu;            /* 1 + the one that it may run on; 0 = any */
    uint64_t memory;         /* RLIMIT_DATA in bytes; 0 = as it is */
    pid_t parent;            /* this process: it gets SIGKILL when the calling thread ends; 0 = it does not */
};

enum pm_spawn_stage { PM_SPAWN_FORK, PM_SPAWN_LIMITS, PM_SPAWN_CWD, PM_SPAWN_FDS, PM_SPAWN_EXEC };

/* Returns when the program runs: 0 with *pid and *pidfd (above 2, close-on-exec; negative where there are none), or
 * -errno with *stage saying of what; then there is no child.  The program has all signals at their default and none
 * blocked, and no descriptor but those.  Any thread.  Blocks until the kernel has read the program's head.  A script
 * without "#!" is no program. */
int pm_spawn(const struct pm_spawn *spawn, pid_t *pid, int *pidfd, enum pm_spawn_stage *stage);

#endif

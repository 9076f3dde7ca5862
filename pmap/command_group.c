/* Whether a process group still runs, for commands that were terminated: what is left of a group whose leader has ended
 * keeps its grace.  The kernel counts the leader's zombie as a member, so only /proc can tell.  Read only after a
 * time-out or terminate. */
#include "pmap/command.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool runs_in(int proc, const char *pid, pid_t group)
{
    char path[32], text[512], state;
    int of;
    (void)snprintf(path, sizeof path, "%.20s/stat", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    text[n < 0 ? 0 : n] = 0;
    const char *after = strrchr(text, ')'); /* the name before it may hold anything */
    return after && sscanf(after + 1, " %c %*d %d", &state, &of) == 2 && of == group && state != 'Z' && state != 'X';
}

bool pm_group_runs(pid_t group)
{
    bool found = false;
    DIR *proc = opendir("/proc");
    if (!proc) return false;
    for (struct dirent *e; !found && (e = readdir(proc));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9') found = runs_in(dirfd(proc), e->d_name, group);
    (void)closedir(proc);
    return found;
}

/* Reads oom_kill from memory.events (cgroup v2) or memory.oom_control (v1) of the process's own cgroup, else from /proc/vmstat, which
 * counts for the whole machine. */
#include "workers/oom.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* Not through stdio: the supervisor of a program with threads had better not call malloc(). */
static bool read_file(const char *path, char *to, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n, used = 0;
    if (fd < 0) return false;
    while ((size_t)used + 1 < bytes && (n = read(fd, to + used, bytes - 1 - (size_t)used)) > 0) used += n;
    close(fd);
    to[used] = 0;
    return true;
}

static int64_t count_in(const char *path)
{
    char text[8192], *at = text;
    if (!read_file(path, text, sizeof text)) return -1;
    if (strncmp(text, "oom_kill ", 9) != 0) {
        at = strstr(text, "\noom_kill ");
        if (!at) return -1;
        at++;
    }
    return strtoll(at + 9, NULL, 10);
}

uint64_t pm_oom_kills(void)
{
    char groups[4096], path[640], *next;
    int64_t found = -1;
    if (!read_file("/proc/self/cgroup", groups, sizeof groups)) groups[0] = 0;
    for (char *line = groups; line && *line && found < 0; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *group = strrchr(line, ':');
        if (!group) continue;
        if (strncmp(line, "0::", 3) == 0)
            (void)snprintf(path, sizeof path, "/sys/fs/cgroup%.500s/memory.events", group + 1);
        else if (strstr(line, ":memory:"))
            (void)snprintf(path, sizeof path, "/sys/fs/cgroup/memory%.500s/memory.oom_control", group + 1);
        else
            continue;
        found = count_in(path);
    }
    if (found < 0) found = count_in("/proc/vmstat");
    return found < 0 ? 0 : (uint64_t)found;
}

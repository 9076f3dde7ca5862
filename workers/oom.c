/* Reads oom_kill from memory.events (cgroup v2) or memory.oom_control (v1) of the process's own cgroup, else from /proc/vmstat, which
 * counts for the whole machine. */
#include "workers/oom.h"

#include <stdio.h>
#include <string.h>

static int64_t count_in(const char *path)
{
    char line[128];
    unsigned long long n;
    int64_t found = -1;
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    while (found < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "oom_kill %llu", &n) == 1) found = (int64_t)n;
    fclose(f);
    return found;
}

uint64_t pm_oom_kills(void)
{
    char line[512], path[640];
    int64_t found = -1;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && found < 0 && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *group = strrchr(line, ':');
        if (!group) continue;
        if (strncmp(line, "0::", 3) == 0)
            (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.events", group + 1);
        else if (strstr(line, ":memory:"))
            (void)snprintf(path, sizeof path, "/sys/fs/cgroup/memory%s/memory.oom_control", group + 1);
        else
            continue;
        found = count_in(path);
    }
    if (f) fclose(f);
    if (found < 0) found = count_in("/proc/vmstat");
    return found < 0 ? 0 : (uint64_t)found;
}

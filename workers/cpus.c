/* CPUs = min(affinity, cgroup v1 or v2 quota).  A quota on any cgroup above counts, so the path is walked up to the root. */
#include "workers/cpus.h"

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUOTA_S 1 /* so old may a quota be: reading it takes half as long as a fork, and a pool keeps for its life what it has read */

static unsigned affinity(void)
{
    for (int n = 1024; n <= 1 << 20; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (!set) return 1;
        size_t bytes = CPU_ALLOC_SIZE((size_t)n);
        int e = sched_getaffinity(0, bytes, set), count = e ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (count > 0) return (unsigned)count; /* a mask that is too small is refused: try a larger */
    }
    return 1;
}

static double least(double a, double b) { return b <= 0 ? a : a <= 0 || b < a ? b : a; }

/* cpu.max: "max 100000" or "150000 100000". */
static double quota_v2(const char *folder)
{
    char path[1100], quota[32];
    double period, result = 0;
    (void)snprintf(path, sizeof path, "%s/cpu.max", folder);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%31s %lf", quota, &period) == 2 && period > 0 && strcmp(quota, "max") != 0) result = atof(quota) / period;
    fclose(f);
    return result;
}

static double number_in(const char *folder, const char *name)
{
    char path[1100];
    double n = 0;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%lf", &n) != 1) n = 0;
    fclose(f);
    return n;
}

static double quota_v1(const char *folder)
{
    double quota = number_in(folder, "cpu.cfs_quota_us"), period = number_in(folder, "cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : 0;
}

static double walk_up(const char *mount, const char *group, double (*read)(const char *))
{
    char folder[1000];
    double result = 0;
    size_t stop = strlen(mount);
    (void)snprintf(folder, sizeof folder, "%s%s", mount, group);
    for (;;) {
        result = least(result, read(folder));
        char *slash = strrchr(folder, '/');
        if (!slash || strlen(folder) <= stop) return result;
        *slash = 0;
        if (strlen(folder) < stop) return least(result, read(mount));
    }
}

/* Is "cpu" one of the comma-separated controllers? */
static int has_cpu(const char *list)
{
    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, "cpu", 3) == 0 && (p[3] == ',' || p[3] == 0)) return 1;
    return 0;
}

double pm_cpus_quota(const char *root, const char *groups)
{
    char line[1024], mount[512];
    double result = 0;
    FILE *f = fopen(groups, "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        list++;
        if (!*list) {
            (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
            result = least(result, walk_up(mount, group, quota_v2));
        } else if (has_cpu(list)) {
            (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
            result = least(result, walk_up(mount, group, quota_v1));
        }
    }
    if (f) fclose(f);
    return result;
}

struct pm_cpus pm_cpus_read(void) { return (struct pm_cpus){affinity(), pm_cpus_quota("", "/proc/self/cgroup")}; }

/* In whole CPUs, UINT32_MAX where there is none, as of the last second. */
static uint32_t quota(void)
{
    static _Atomic uint64_t known; /* the second in which it was read, and the quota, which is never 0 */
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    uint64_t old = atomic_load_explicit(&known, memory_order_relaxed);
    uint32_t now = (uint32_t)t.tv_sec;
    if ((uint32_t)old && now - (uint32_t)(old >> 32) <= QUOTA_S) return (uint32_t)old;
    double cpus = ceil(pm_cpus_quota("", "/proc/self/cgroup"));
    uint32_t n = cpus >= 1 && cpus < UINT32_MAX ? (uint32_t)cpus : UINT32_MAX;
    atomic_store_explicit(&known, (uint64_t)now << 32 | n, memory_order_relaxed);
    return n;
}

unsigned pm_cpus(void)
{
    unsigned a = affinity(), q = quota();
    return q < a ? q : a;
}

/* How many CPUs this process may really use. */
#ifndef PM_WORKERS_CPUS_H
#define PM_WORKERS_CPUS_H

struct pm_cpus {
    unsigned affinity; /* CPUs in the affinity mask */
    double quota;      /* CPUs' worth of time by the cgroups above this process; 0 = no limit */
};

struct pm_cpus pm_cpus_read(void);
unsigned pm_cpus(void); /* min(affinity, quota rounded up), at least 1 */

/* The quota below `root` (normally "") for a process whose /proc/self/cgroup reads as the file `groups`: for tests. */
double pm_cpus_quota(const char *root, const char *groups);

#endif

/* What this build has, what this machine offers, and what will hurt: for `parmap info` and bug reports. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "pmap/pool.h"
#include "shm/process.h"
#include "workers/cpus.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include "workers/zmq_lib.h"
#endif

struct page {
    char *text;
    size_t bytes, used;
};

static void line(struct page *p, const char *format, ...) PMAP_PRINTF(2, 3);
static void line(struct page *p, const char *format, ...)
{
    char one[300];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(one, sizeof one - 1, format, list);
    va_end(list);
    size_t length = n < 0 ? 0 : (size_t)n < sizeof one - 2 ? (size_t)n : sizeof one - 2;
    one[length++] = '\n';
    for (size_t i = 0; i < length; i++, p->used++)
        if (p->used + 1 < p->bytes) p->text[p->used] = one[i];
}

static void first_line(const char *path, char *to, size_t bytes)
{
    to[0] = 0;
    FILE *f = fopen(path, "re");
    if (!f) return;
    if (!fgets(to, (int)bytes, f)) to[0] = 0;
    to[strcspn(to, "\n")] = 0;
    fclose(f);
}

static void limit(struct page *p, const char *name, int which, unsigned long long unit, const char *unit_name)
{
    struct rlimit r;
    if (getrlimit((__rlimit_resource_t)which, &r) < 0) return;
    if (r.rlim_cur == RLIM_INFINITY) line(p, "limit on %s: none", name);
    else line(p, "limit on %s: %llu%s", name, (unsigned long long)r.rlim_cur / unit, unit_name);
}

static void cpus(struct page *p)
{
    struct pm_cpus c = pm_cpus_read();
    unsigned n = pm_cpus();
    line(p, "cpus: %u", n);
    line(p, "cpus by affinity: %u of %ld", c.affinity, sysconf(_SC_NPROCESSORS_ONLN));
    if (c.quota > 0) line(p, "cpus by cgroup quota: %.2f", c.quota);
    else line(p, "cpus by cgroup quota: no limit");
    if (n == 1) line(p, "warning: one CPU: nothing runs in parallel here, and nobody spins");
    if (c.quota > 0 && c.quota < c.affinity)
        line(p, "warning: the cgroup's quota is below the CPUs that can be seen: more workers than %u would be stopped in every period", n);
}

static void memory(struct page *p)
{
    char huge[100];
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    line(p, "memory: %ld MiB, pages of %ld bytes", pages / (1048576 / page), page);
    first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", huge, sizeof huge);
    line(p, "huge pages for shared memory: %s", huge[0] ? huge : "unknown");
    if (!strstr(huge, "[advise]") && !strstr(huge, "[always]") && !strstr(huge, "[within_size]"))
        line(p, "warning: shared memory has small pages: first touches cost a fault every 4 KiB (writing `advise` to "
                "/sys/kernel/mm/transparent_hugepage/shmem_enabled as root mends that); idle workers map ahead meanwhile");
    limit(p, "address space", RLIMIT_AS, 1048576, " MiB");
    limit(p, "file size, which also bounds shared memory", RLIMIT_FSIZE, 1048576, " MiB");
}

static void channels(struct page *p)
{
#ifdef HAVE_ZMQ
    char why[200];
    if (pm_libzmq_load(why, sizeof why) == 0) {
        int major, minor, patch;
        pm_libzmq.version(&major, &minor, &patch);
        line(p, "channels: shm, shm-copy, zmq (libzmq %d.%d.%d)", major, minor, patch);
    } else {
        line(p, "channels: shm, shm-copy (zmq is built in, but libzmq is not there)");
        line(p, "warning: %s", why);
    }
#else
    line(p, "channels: shm, shm-copy (built without ZeroMQ)");
#endif
}

size_t pmap_machine(char *text, size_t bytes)
{
    struct page p = {text, bytes, 0};
    struct utsname u;
    struct pm_process self;
    struct rlimit r;
    line(&p, "libpmap: %s", PMAP_VERSION);
    if (uname(&u) == 0) line(&p, "kernel: %s %s", u.release, u.machine);
    channels(&p);
    cpus(&p);
    memory(&p);
    int fd = pm_process_of(getpid(), &self) == 0 ? pm_process_watch(&self) : -1;
    line(&p, "pidfd: %s", fd >= 0 ? "yes" : "refused");
    if (fd < 0) line(&p, "warning: without pidfds the supervisor looks every 100 ms whether the application is still there");
    else close(fd);
    limit(&p, "processes", RLIMIT_NPROC, 1, "");
    limit(&p, "open files", RLIMIT_NOFILE, 1, "");
    if (getrlimit(RLIMIT_NPROC, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < 2 * pm_cpus() + 2)
        line(&p, "warning: the limit on processes leaves too few for a pool of %u workers", pm_cpus());
    if (bytes) text[p.used < bytes ? p.used : bytes - 1] = 0;
    return p.used;
}

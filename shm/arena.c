/* The arena of shm/arena.h: reserving, committing and giving back pages, and what the machine could still commit.
 * Used by shm/heap.c and workers/; must not know which bytes are in use. */
#include "shm/arena.h"

#include "shm/fd.h"
#include "shm/size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MIB ((size_t)1 << 20)
#define HUGE_PAGE (2 * MIB)
#define LEAST_DATA (16 * MIB)  /* below this a halved reservation is of no use */
#define SMALL ((size_t)64 << 10)
#define PATH_BYTES 1024        /* paths of control groups: short, since a caller's thread may have a small stack */
#define ASK_EVERY MIB          /* so much committed at once, or in small pieces: ask the machine first */

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static size_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    size_t bytes;
    return pages > 0 && pm_size_mul((size_t)pages, page_size(), &bytes) ? bytes : 0;
}

/* ---- Reserving ---- */

static int memfd_open(void)
{
    int fd = memfd_create("pmap", MFD_CLOEXEC | MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING);
    if (fd < 0 && errno == EINVAL) fd = memfd_create("pmap", MFD_CLOEXEC | MFD_ALLOW_SEALING); /* before Linux 6.3 */
    return pm_fd_above_stdio(fd < 0 ? -errno : fd);
}

/* A mapping of `size` bytes of fd, aligned to 2 MiB: where the last one was if that is free again, or where the system likes it; else room is
 * found for one huge page more, and what is too much is given back. */
static char *map_aligned(int fd, size_t size)
{
    static _Atomic(char *) last;
    char *base = mmap(last, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) return NULL;
    if (((uintptr_t)base & (HUGE_PAGE - 1)) == 0) {
        last = base;
        return base;
    }
    munmap(base, size);
    size_t room;
    if (!pm_size_add(size, HUGE_PAGE, &room)) return NULL;
    char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t front = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1));
    base = p + front;
    if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(p, room);
        return NULL;
    }
    if (front) munmap(p, front);
    munmap(base + size, HUGE_PAGE - front);
    last = base;
    return base;
}

static int try_open(struct pm_arena *arena, size_t control, size_t data)
{
    int fd = memfd_open();
    if (fd < 0) return fd;
    int error = 0;
    size_t size = control + data;
    /* Sealed, no process can make it shorter: that would be a SIGBUS in all the others. */
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0) error = -errno;
    char *base = error ? NULL : map_aligned(fd, size);
    if (!base) {
        close(fd);
        return error ? error : -ENOMEM;
    }
    *arena = (struct pm_arena){.base = base, .size = size, .control = control, .fd = fd};
    return 0;
}

/* The largest size that RLIMIT_FSIZE lets a file have: asking for more is not only refused, it is a SIGXFSZ. */
static size_t file_limit(void)
{
    struct rlimit limit;
    uint64_t most = PTRDIFF_MAX;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < most) most = limit.rlim_cur;
    return (size_t)most;
}

/* Would the system put huge pages into a memfd that asks for them?  Where it would not, asking costs and brings
 * nothing. */
static bool system_gives_huge_pages(void)
{
    static _Atomic int known; /* 1 = no, 2 = yes: as it was when the first arena was made; asking takes a tenth of a fork */
    char text[128] = "";
    if (known) return known == 2;
    int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    bool gives = n > 0 && !strstr(text, "[never]") && !strstr(text, "[deny]");
    known = gives + 1;
    return gives;
}

int pm_arena_open(struct pm_arena *arena, size_t control, size_t reserve, bool huge)
{
    *arena = (struct pm_arena){.fd = -1};
    size_t data = reserve, most = file_limit() & ~(HUGE_PAGE - 1);
    if (data == 0) data = pm_size_max(2 * machine_memory(), 64 * MIB);
    if (!pm_size_up(control, HUGE_PAGE, &control) || !pm_size_up(data, HUGE_PAGE, &data)) return -ENOMEM;
    if (control > most) return -ENOMEM;

    size_t least = pm_size_min(data, LEAST_DATA);
    data = pm_size_min(data, most - control);
    if (data < least) return -ENOMEM;
    int error;
    while ((error = try_open(arena, control, data)) == -ENOMEM || error == -EFBIG || error == -EINVAL) {
        if (data == least) return -ENOMEM;
        data = pm_size_max(data / 2 & ~(HUGE_PAGE - 1), least);
    }
    if (error) return error;

    /* All of these are advice, set before any fork so that children inherit it.  DONTDUMP is needed: the kernel would
     * fill the holes of a sparse file to write them into the core file of a crashed worker. */
    madvise(arena->base, arena->size, MADV_DONTDUMP);
    if (system_gives_huge_pages()) { /* else it would be two mappings instead of one to copy at each fork */
        madvise(arena->base, control, MADV_NOHUGEPAGE);
        if (huge) madvise(arena->base + control, arena->size - control, MADV_HUGEPAGE);
    }
    return 0;
}

void pm_arena_close(struct pm_arena *arena)
{
    if (arena->base) {
        munmap(arena->base, arena->size);
        if (arena->fd >= 0) close(arena->fd);
    }
    *arena = (struct pm_arena){.fd = -1};
}

/* ---- Pages ---- */

/* Commits [lo, hi), which lies within one huge page.  The data part is about to be written by the application: populating it costs less
 * than a fault for every page later (256 MiB of small pages: 281 ms, against 94 ms and then 394 ms), and taking all of a huge page
 * at once is what makes the kernel use one.  Of the control part only small pieces are, which are used at once: of large ones no page is cleared or
 * mapped before it is used. */
static int commit_piece(struct pm_arena *arena, size_t lo, size_t hi)
{
    if (lo >= arena->control || hi - lo <= SMALL) {
        int r;
        do
            r = madvise(arena->base + lo, hi - lo, MADV_POPULATE_WRITE);
        while (r < 0 && (errno == EINTR || errno == EAGAIN));
        if (r == 0) return 0;
        if (errno != EINVAL) return -ENOMEM; /* EINVAL: before Linux 5.14 */
    }
    while (fallocate(arena->fd, 0, (off_t)lo, (off_t)(hi - lo)) < 0) {
        if (errno == EINTR) continue;
        return errno == ENOSPC || errno == EFBIG ? -ENOMEM : -errno;
    }
    return 0;
}

int pm_arena_commit(struct pm_arena *arena, size_t offset, size_t bytes)
{
    if (offset > arena->size || bytes > arena->size - offset) return -EINVAL;
    if (bytes == 0) return 0;
    size_t mask = page_size() - 1;
    size_t lo = offset & ~mask, hi = pm_size_min((offset + bytes + mask) & ~mask, arena->size);

    if (!pm_arena_affords(&arena->unasked, hi - lo)) return -ENOMEM;
    /* In steps of a huge page: a signal makes fallocate() undo what it did and start again, so one long call might
     * never end. */
    for (size_t at = lo; at < hi;) {
        size_t next = pm_size_min((at & ~(HUGE_PAGE - 1)) + HUGE_PAGE, hi);
        int error = commit_piece(arena, at, next);
        if (error) {
            pm_arena_release(arena, lo, next - lo);
            return error;
        }
        if (arena->tell && at >= arena->control) arena->tell(arena->to, at, next - at, true);
        at = next;
    }
    return 0;
}

void pm_arena_release(struct pm_arena *arena, size_t offset, size_t bytes)
{
    if (offset > arena->size || bytes > arena->size - offset) return;
    size_t mask = page_size() - 1;
    size_t lo = (offset + mask) & ~mask, hi = (offset + bytes) & ~mask;
    if (lo >= hi) return;
    if (arena->tell && lo >= arena->control) arena->tell(arena->to, lo, hi - lo, false);
    int r;
    do
        r = fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)lo, (off_t)(hi - lo));
    while (r < 0 && errno == EINTR);
    if (r < 0) madvise(arena->base + lo, hi - lo, MADV_REMOVE);
}

void pm_arena_populate(const struct pm_arena *arena, size_t offset, size_t bytes)
{
    if (offset > arena->size || bytes > arena->size - offset || bytes == 0) return;
    size_t mask = page_size() - 1;
    size_t lo = offset & ~mask, hi = pm_size_min((offset + bytes + mask) & ~mask, arena->size);
    /* a refusal only means that reads fault, as they would anyway */
    madvise(arena->base + lo, hi - lo, MADV_POPULATE_READ);
}

/* ---- What there is ---- */

/* The text of a small file in /proc or /sys, or false.  Cut at `bytes` - 1. */
static bool read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t have = 0;
    while (have < bytes - 1) {
        ssize_t n = read(fd, text + have, bytes - 1 - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        have += (size_t)n;
    }
    close(fd);
    text[have] = 0;
    return have > 0;
}

/* The number behind `key` at the start of a line, or 0. */
static uint64_t number_after(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, length) == 0) return strtoull(line + length, NULL, 10);
    }
    return 0;
}

static bool file_number(const char *directory, const char *name, uint64_t *value)
{
    char path[PATH_BYTES + 64], text[64], *end;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!read_text(path, text, sizeof text)) return false;
    *value = strtoull(text, &end, 10);
    return end != text; /* "max" is no number: no limit */
}

/* What one group leaves: its limit less its use, where cached file pages do not count as use, since the kernel drops
 * them. */
static uint64_t group_available(const char *directory, bool v2)
{
    uint64_t limit, use;
    if (!file_number(directory, v2 ? "memory.max" : "memory.limit_in_bytes", &limit) ||
        !file_number(directory, v2 ? "memory.current" : "memory.usage_in_bytes", &use))
        return UINT64_MAX;
    if (limit >= (uint64_t)INT64_MAX / 2) return UINT64_MAX; /* how v1 writes "no limit" */
    char path[PATH_BYTES + 64], text[4096];
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    if (read_text(path, text, sizeof text)) {
        uint64_t cache = v2 ? number_after(text, "inactive_file ") + number_after(text, "active_file ")
                            : number_after(text, "total_inactive_file ") + number_after(text, "total_active_file ");
        use -= cache < use ? cache : use;
    }
    return use < limit ? limit - use : 0;
}

/* This process's group in the hierarchy that is mounted at `mount` and shows the groups below `root`, and all groups
 * above it. */
static uint64_t groups_available(const char *mount, const char *root, const char *group, bool v2)
{
    char directory[PATH_BYTES];
    size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
    /* not below it: the mount's top is all there is to see */
    if (strncmp(group, root, skip) != 0 || (skip && group[skip] && group[skip] != '/')) group += strlen(group);
    else group += skip;
    int n = snprintf(directory, sizeof directory, "%s%s", mount, group);
    if (n < 0 || (size_t)n >= sizeof directory) return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    size_t top = strlen(mount);
    while (strlen(directory) >= top) {
        uint64_t here = group_available(directory, v2);
        if (here < least) least = here;
        char *slash = strrchr(directory, '/');
        if (!slash) break;
        *slash = 0;
    }
    return least;
}

/* The path of this process's group from the text of /proc/self/cgroup ("4:memory:/a/b" or "0::/a/b"), or false. */
static bool own_group(const char *text, bool v2, char *group, size_t bytes)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        const char *names = strchr(line, ':');
        const char *path = names ? strchr(++names, ':') : NULL;
        if (!path) return false;
        bool wanted = v2 ? path == names : false;
        for (const char *p = names; !v2 && p < path; p += strcspn(p, ",:") + 1)
            if (strncmp(p, "memory", 6) == 0 && (p[6] == ',' || p[6] == ':')) wanted = true;
        if (wanted) {
            snprintf(group, bytes, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
            return true;
        }
    }
    return false;
}

/* The least of all memory limits of control groups on this process. */
static uint64_t cgroup_available(void)
{
    char groups[2048], group[PATH_BYTES], line[3 * PATH_BYTES];
    if (!read_text("/proc/self/cgroup", groups, sizeof groups)) return UINT64_MAX;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts) return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    while (fgets(line, sizeof line, mounts)) {
        /* id parent major:minor root mount options [fields] - type source super-options */
        char root[PATH_BYTES], mount[PATH_BYTES], type[32], options[512];
        const char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %1023s %1023s", root, mount) != 2 ||
            sscanf(dash + 3, "%31s %*s %511s", type, options) != 2)
            continue;
        bool v2 = strcmp(type, "cgroup2") == 0;
        if (!v2 && (strcmp(type, "cgroup") != 0 || !strstr(options, "memory"))) continue;
        if (!own_group(groups, v2, group, sizeof group)) continue;
        uint64_t here = groups_available(mount, root, group, v2);
        if (here < least) least = here;
    }
    fclose(mounts);
    return least;
}

bool pm_arena_affords(_Atomic size_t *unasked, size_t bytes)
{
    if (atomic_fetch_add_explicit(unasked, bytes, memory_order_relaxed) + bytes < ASK_EVERY) return true;
    bool enough = bytes <= pm_arena_available();
    /* Where it is not, the next one is asked about too, however small. */
    atomic_store_explicit(unasked, enough ? 0 : ASK_EVERY, memory_order_relaxed);
    return enough;
}

size_t pm_arena_available(void)
{
    char text[2048];
    uint64_t available = UINT64_MAX, total = machine_memory();
    if (read_text("/proc/meminfo", text, sizeof text)) {
        uint64_t kib = number_after(text, "MemAvailable:") + number_after(text, "SwapFree:");
        if (kib) available = kib * 1024;
    }
    uint64_t group = cgroup_available();
    if (group < available) available = group;
    if (available == UINT64_MAX) return SIZE_MAX / 2; /* nothing to go by: the kernel will have to refuse */
    /* Something is left for page tables, stacks and the rest of the system. */
    uint64_t keep = total / 64 < 256 * MIB ? total / 64 : 256 * MIB;
    /* in a small group the reserve is small too */
    if (keep > available / 8 && group == available) keep = available / 8;
    return available > keep ? (size_t)(available - keep) : 0;
}

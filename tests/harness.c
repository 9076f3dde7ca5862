/* See tests/harness.h.  Plain system calls only, so that it works under address, undefined and thread sanitizers and
 * under valgrind. */
#include "tests/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/asan.h"

#define GRACE_MS 2000

static char scratch[64]; /* $TMPDIR of this run */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

size_t pm_test_entries(const char *folder)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

bool pm_test_wait_until(bool (*condition)(void *arg), void *arg, int ms)
{
    int64_t end = now_ms() + ms;
    for (;;) {
        bool over = now_ms() >= end; /* taken first: a condition that comes true at the very end still counts */
        if (condition(arg)) return true;
        if (over) return false;
        pause_ms(1);
    }
}

/* ---- Processes, as /proc shows them ---- */

struct seen {
    pid_t pid, parent;
    unsigned long long start; /* with the pid it names a process for good */
    char state, name[32];
};

static bool look_at(pid_t pid, struct seen *seen)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    const char *open_bracket = strchr(text, '('), *close_bracket = strrchr(text, ')');
    long parent;
    if (!open_bracket || !close_bracket) return false;
    if (sscanf(close_bracket + 2, "%c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &seen->state,
               &parent, &seen->start) != 3)
        return false;
    seen->pid = pid;
    seen->parent = (pid_t)parent;
    snprintf(seen->name, sizeof seen->name, "%.*s", (int)(close_bracket - open_bracket - 1), open_bracket + 1);
    return true;
}

bool pm_test_is_asleep(void *pid)
{
    struct seen seen;
    return look_at(*(pid_t *)pid, &seen) && seen.state == 'S';
}

/* The processes below `top`, at most `most`, parents before children.  Without `dead`, zombies are left out. */
static size_t descendants(pid_t top, struct seen *list, size_t most, bool deep, bool dead)
{
    size_t count = 0;
    for (size_t next = 0;; next++) {
        pid_t parent = next == 0 ? top : list[next - 1].pid;
        DIR *proc = opendir("/proc");
        if (!proc) return count;
        for (struct dirent *entry; (entry = readdir(proc)) && count < most;) {
            struct seen seen;
            long pid = strtol(entry->d_name, NULL, 10);
            if (pid <= 0 || !look_at((pid_t)pid, &seen) || seen.parent != parent) continue;
            if (dead || seen.state != 'Z') list[count++] = seen;
        }
        closedir(proc);
        if (!deep || next >= count) return count;
    }
}

/* Reaps children until there are none or the time is over; *reaped counts the dead.  Returns how many still run. */
static size_t reap_all(int ms, size_t *reaped, bool say)
{
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, &before);
    int64_t end = now_ms() + ms;
    size_t alive = 0;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
            if (errno == EINTR) continue;
            break; /* ECHILD: all done */
        }
        if (info.si_pid > 0) {
            struct seen seen;
            if (say && look_at(info.si_pid, &seen))
                print_error("    child %ld (%s) was never reaped\n", (long)info.si_pid, seen.name);
            waitpid(info.si_pid, NULL, __WALL);
            ++*reaped;
            continue;
        }
        int64_t left = end - now_ms();
        if (left <= 0) {
            struct seen list[256];
            alive = descendants(getpid(), list, 256, false, false);
            for (size_t i = 0; i < alive && say; i++)
                print_error("    child %ld (%s) still runs, state %c\n", (long)list[i].pid, list[i].name, list[i].state);
            if (alive == 0) alive = 1; /* waitid says so */
            break;
        }
        /* A blocked SIGCHLD ends this early.  The limit is for a signal that merged with an earlier one, or went to
         * another thread. */
        struct timespec t = {.tv_nsec = (left < 20 ? left : 20) * 1000000};
        sigtimedwait(&child, NULL, &t);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return alive;
}

size_t pm_test_reap(int ms)
{
    size_t reaped = 0;
    return reap_all(ms, &reaped, false);
}

static void kill_descendants(pid_t top)
{
    for (int round = 0; round < 100; round++) {
        struct seen list[256];
        size_t n = descendants(top, list, 256, true, false);
        if (n == 0) return;
        for (size_t i = 0; i < n; i++) kill(list[i].pid, SIGKILL);
        pause_ms(5); /* what a dying parent was just forking is found in the next round */
    }
}

/* ---- The watchdog ---- */

static void print_file(pid_t pid, const char *task, const char *name)
{
    char path[320], text[2048];
    snprintf(path, sizeof path, "/proc/%ld/task/%s/%s", (long)pid, task, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return;
    text[n] = 0;
    fprintf(stderr, "    %s: %s%s", name, text, text[n - 1] == '\n' ? "" : "\n");
}

static void print_process(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    DIR *tasks = opendir(path);
    if (!tasks) return;
    for (struct dirent *entry; (entry = readdir(tasks));) {
        if (entry->d_name[0] == '.') continue;
        fprintf(stderr, "  process %ld thread %s\n", (long)pid, entry->d_name);
        print_file(pid, entry->d_name, "stat");
        print_file(pid, entry->d_name, "wchan");
        print_file(pid, entry->d_name, "syscall");
        print_file(pid, entry->d_name, "stack");
    }
    closedir(tasks);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static bool is_traced(pid_t pid)
{
    char path[64], line[128];
    long tracer = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "TracerPid: %ld", &tracer) == 1) break;
    fclose(file);
    return tracer != 0;
}

/* Lives as long as the test program.  It asks /proc, which works where pidfd_open does not and whatever descriptors
 * children inherit. */
static void watch(pid_t test, const char *name, int limit_s)
{
    struct seen first, seen;
    int64_t end = now_ms() + (int64_t)limit_s * 1000;
    bool there = look_at(test, &first);
    while (there && look_at(test, &seen) && seen.start == first.start && seen.state != 'Z' && seen.state != 'X') {
        if (now_ms() < end || is_traced(test)) {
            pause_ms(50);
            continue;
        }
        fprintf(stderr, "[  FAILED  ] %s: no end within %d s.  What it was doing:\n", name, limit_s);
        struct seen list[256];
        size_t n = descendants(test, list, 256, true, true);
        print_process(test);
        for (size_t i = 0; i < n; i++) print_process(list[i].pid);
        /* it starts nothing more, and still adopts what its children leave, so that all are found below it */
        kill(test, SIGSTOP);
        kill_descendants(test);
        kill(test, SIGKILL);
        break;
    }
    if (scratch[0]) nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The watchdog is no child of the program, which may wait for any child and count them: its parent ends at once. */
static void start_watchdog(const char *name)
{
    const char *text = getenv("PM_TEST_LIMIT");
    int limit = text ? atoi(text) : 120;
    pid_t test = getpid();
    fflush(NULL);
    pid_t between = fork();
    if (between == 0) {
        if (fork() == 0) {
            setsid();
            prctl(PR_SET_NAME, "test-watchdog");
            close(0);
            close(1);
            watch(test, name, limit > 0 ? limit : 120);
        }
        _exit(0);
    }
    if (between > 0) waitpid(between, NULL, 0);
}

/* ---- Nothing left ---- */

#define NAMES 4096
struct names {
    size_t count;
    char *name[NAMES];
};
static struct names fds_before, shm_before;
static size_t maps_before;

static void list_directory(const char *path, struct names *names)
{
    names->count = 0;
    DIR *directory = opendir(path);
    if (!directory) return;
    char own[16];
    snprintf(own, sizeof own, "%d", dirfd(directory));
    bool fds = strcmp(path, "/proc/self/fd") == 0;
    for (struct dirent *entry; (entry = readdir(directory)) && names->count < NAMES;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (fds && strcmp(entry->d_name, own) == 0) continue;
        names->name[names->count] = strdup(entry->d_name);
        if (names->name[names->count]) names->count++;
    }
    closedir(directory);
}

static void free_names(struct names *names)
{
    while (names->count) free(names->name[--names->count]);
}

static bool has_name(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->name[i], name) == 0) return true;
    return false;
}

/* Prints what is in `path` now and was not in `before`; returns how many. */
static size_t new_names(const char *path, const struct names *before, const char *what)
{
    static struct names now; /* too large for a stack */
    size_t more = 0;
    list_directory(path, &now);
    for (size_t i = 0; i < now.count; i++) {
        /* LLVM's OpenMP run-time leaves a name of its own here, not ours to count. */
        if (has_name(before, now.name[i]) || strstr(now.name[i], "__KMP_REGISTERED_LIB_")) continue;
        char full[PATH_MAX], target[PATH_MAX];
        snprintf(full, sizeof full, "%s/%s", path, now.name[i]);
        ssize_t n = readlink(full, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        print_error("    %s left: %s %s\n", what, now.name[i], target);
        more++;
    }
    free_names(&now);
    return more;
}

static size_t pmap_mappings(bool say)
{
    char line[PATH_MAX + 128];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps) return 0;
    while (fgets(line, sizeof line, maps)) {
        if (!strstr(line, "/memfd:pmap")) continue;
        count++;
        if (say) print_error("    mapping left: %s", line);
    }
    fclose(maps);
    return count;
}

static void nothing_left(void **state)
{
    (void)state;
    static const struct names none;
    size_t dead = 0, alive = reap_all(GRACE_MS, &dead, true);
    if (alive) {
        size_t killed = 0;
        kill_descendants(getpid());
        reap_all(GRACE_MS, &killed, false);
    }
    size_t fds = new_names("/proc/self/fd", &fds_before, "descriptor");
    size_t shm = new_names("/dev/shm", &shm_before, "name in /dev/shm");
    size_t files = scratch[0] ? new_names(scratch, &none, "file in $TMPDIR") : 0;
    size_t maps = pmap_mappings(false);
    maps = maps > maps_before ? pmap_mappings(true) - maps_before : 0;
    free_names(&fds_before);
    free_names(&shm_before);
    if (alive || dead || fds || shm || files || maps)
        fail_msg("left behind: %zu running children, %zu unreaped, %zu descriptors, %zu names in /dev/shm, %zu files in $TMPDIR, "
                 "%zu mappings", alive, dead, fds, shm, files, maps);
}

/* Tests ask for more memory than there is.  Should that ever not be refused, the kernel must end the test and nobody
 * else. */
static void be_first_to_go(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, "500", 3) != 3) print_error("    oom_score_adj could not be raised\n");
    close(fd);
}

/* LLVM's OpenMP run-time gives each forked child of a program that uses it a name in /dev/shm, and ends the child when there is one already:
 * of one with its pid that was killed, as many are here.  Called before the run-time's own handler, which is set up when it is first used. */
static void unname(long pid)
{
    char path[80];
    (void)snprintf(path, sizeof path, "/dev/shm/__KMP_REGISTERED_LIB_%ld_%ld", pid, (long)getuid());
    (void)unlink(path);
}

static void unname_child(void) { unname((long)getpid()); }

static void unname_the_dead(void)
{
    static struct names now; /* too large for a stack */
    long pid;
    list_directory("/dev/shm", &now);
    for (size_t i = 0; i < now.count; i++)
        if (sscanf(now.name[i], "__KMP_REGISTERED_LIB_%ld_", &pid) == 1 && kill((pid_t)pid, 0) && errno == ESRCH) unname(pid);
    free_names(&now);
}

/* Before any other handler is registered: then it is the last one before a fork and the first one behind it, and the others may allocate. */
__attribute__((constructor)) static void begin(void) { pm_test_asan_watch_forks(); }

int pm_test_main(const char *name, const struct CMUnitTest *tests, size_t n)
{
    const char *base = getenv("TMPDIR");
    /* short: sockets go there */
    snprintf(scratch, sizeof scratch, "%s/pmt-XXXXXX", base && strlen(base) < 32 ? base : "/tmp");
    if (!mkdtemp(scratch)) scratch[0] = 0;
    (void)pthread_atfork(NULL, NULL, unname_child);
    start_watchdog(name);
    if (scratch[0]) setenv("TMPDIR", scratch, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    be_first_to_go();

    struct CMUnitTest *all = calloc(n + 1, sizeof *all);
    if (!all) return 1;
    memcpy(all, tests, n * sizeof *all);
    all[n] = (struct CMUnitTest)cmocka_unit_test(nothing_left);
    list_directory("/proc/self/fd", &fds_before);
    list_directory("/dev/shm", &shm_before);
    maps_before = pmap_mappings(false);
    int failed = _cmocka_run_group_tests(name, all, n + 1, NULL, NULL);
    free(all);
    unname_the_dead();
    if (scratch[0]) nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failed != 0;
}

/* ---- Applications in a child ---- */

struct outcome { /* two of one type: no padding, which valgrind would report when it is written */
    size_t left;
    ssize_t status;
};

static void run_application(int (*function)(void *arg), void *arg)
{
    /* cmocka's handlers would jump back into the tests. */
    static const int handled[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT};
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++) signal(handled[i], SIG_DFL);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    int value = function(arg);
    fflush(NULL);
    _exit(value);
}

/* The guard stands between the test and the application, and adopts what the application leaves: so its orphans do not
 * mix with the test's own children. */
static void guard(int (*function)(void *arg), void *arg, int timeout_ms, int result)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, &before);
    struct outcome outcome = {.status = -ECHILD};
    pid_t pid = fork();
    if (pid == 0) {
        close(result);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        run_application(function, arg);
    }
    int64_t end = now_ms() + timeout_ms;
    int status;
    pid_t ended = 0;
    while (pid > 0 && (ended = waitpid(pid, &status, WNOHANG)) == 0) {
        int64_t left = end - now_ms();
        if (left <= 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            outcome.status = -ETIMEDOUT;
            break;
        }
        struct timespec t = {.tv_nsec = (left < 20 ? left : 20) * 1000000};
        sigtimedwait(&child, NULL, &t);
    }
    if (ended > 0) outcome.status = status;
    size_t reaped = 0;
    outcome.left = reap_all(GRACE_MS, &reaped, false);
    if (outcome.left) {
        reap_all(0, &reaped, true); /* once more, to name them */
        kill_descendants(getpid());
        reap_all(GRACE_MS, &reaped, false); /* the test must not inherit their remains */
    }
    ssize_t n = write(result, &outcome, sizeof outcome);
    _exit(n == (ssize_t)sizeof outcome ? 0 : 1);
}

int pm_test_run_child(int (*function)(void *arg), void *arg, int timeout_ms)
{
    int ends[2];
    struct outcome outcome = {.status = -ECHILD};
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        guard(function, arg, timeout_ms, ends[1]);
    }
    close(ends[1]);
    if (pid > 0) {
        int ignored;
        while (waitpid(pid, &ignored, 0) < 0 && errno == EINTR) continue;
        /* Read after the guard's end: it wrote before, or never will, whoever else may still hold the other end. */
        if (poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, 0) <= 0 ||
            read(ends[0], &outcome, sizeof outcome) != (ssize_t)sizeof outcome)
            outcome = (struct outcome){.status = -EPIPE};
    }
    close(ends[0]);
    if (outcome.left) fail_msg("the child left %zu processes running", outcome.left);
    return (int)outcome.status;
}

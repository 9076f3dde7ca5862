/* Pools together with what applications do: forks, OpenMP, threads that come and go, SIGCHLD, closed descriptors.  Most
 * tests run an application of their own in a child, so that what it breaks is its own. */
#include "tests/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct pm_path *here; /* of the running test, for the children */

static void application_on(const struct pm_path *path, int (*application)(void *), int timeout_ms)
{
    here = path;
    int status = pm_test_run_child(application, NULL, timeout_ms);
    if (status) fail_msg("wait status %#x%s", (unsigned)status, status == -ETIMEDOUT ? ": it hung" : "");
}

static pmap_pool *open_pool(unsigned workers)
{
    pmap_options options = pm_path_options(here, workers);
    pmap_pool *pool;
    return pmap_pool_open(&pool, &options) ? NULL : pool;
}

static int status_of(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return status;
}

/* ---- Forks of the application ---- */

static int use_in_a_child(pmap_pool *pool, void *memory)
{
    char item = 1, result;
    pmap_stats_t stats = {.size = sizeof stats};
    NEED(pmap_map(pool, pm_twice, &item, 0, 4, &result, 4, NULL) == PMAP_EFORK);
    NEED(strstr(pmap_error(), "pmap_map: the pool was opened by another process"));
    NEED(pmap_for(pool, NULL, 0, 1, NULL) == PMAP_EFORK);
    NEED(pmap_stats(pool, &stats) == PMAP_EFORK);
    NEED(pmap_alloc(pool, 100) == NULL && strstr(pmap_error(), "pmap_alloc"));
    pmap_free(pool, memory);
    NEED(strstr(pmap_error(), "pmap_free"));
    NEED(pmap_pool_workers(pool) == pm_path_workers(here, 2));
    return 0;
}

static int child_uses_closes_and_opens(void *arg)
{
    (void)arg;
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    void *memory = pmap_alloc(pool, 1000);
    memset(memory, 7, 1000);
    /* libgomp's threads do not survive a fork, and it does not notice: a child of a process that has run a parallel
     * region hangs in its own (gcc bug 60035).  No library can change that, so a child opens no pool of threads here.
     * */
    int hows = here->executor == PMAP_THREADS ? 4 : 5;
    for (int how = 0; how < hows; how++) {
        NEED(pm_small_map(pool) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            int e = use_in_a_child(pool, memory);
            if (e || how == 0) _exit(e);
            if (how == 1) exit(0);
            if (how == 2 && pmap_pool_terminate(pool, 0)) _exit(2);
            if (how >= 3 && pmap_pool_close(pool)) _exit(3);
            if (how == 4) { /* a pool of its own */
                pool = open_pool(2);
                if (!pool || pm_small_map(pool) || pmap_pool_close(pool)) _exit(4);
            }
            _exit(0);
        }
        NEED(pid > 0 && status_of(pid) == 0);
        NEED(pm_small_map(pool) == 0);
        for (size_t i = 0; i < 1000; i++) NEED(((char *)memory)[i] == 7);
    }
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void a_forked_child(const struct pm_path *path) { application_on(path, child_uses_closes_and_opens, 20000); }

/* A child that lives on must not keep the parent's pool from noticing its end. */
static int closed_while_a_child_lives(void *arg)
{
    (void)arg;
    int ends[2];
    char c;
    pmap_pool *pool = open_pool(2);
    NEED(pool && pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        _exit(read(ends[0], &c, 1) == 0 ? 0 : 1);
    }
    NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    close(ends[1]);
    NEED(status_of(pid) == 0);
    return 0;
}

static void a_child_outlives_the_pool(const struct pm_path *path) { application_on(path, closed_while_a_child_lives,
                                                                                   20000); }

static atomic_bool enough;

static void *map_for_ever(void *pool)
{
    int wrong = 0;
    while (!atomic_load(&enough)) wrong |= pm_small_map(pool);
    return (void *)(intptr_t)wrong;
}

static int fork_while_another_thread_maps(void *arg)
{
    (void)arg;
    pmap_pool *pool = open_pool(2);
    pthread_t thread;
    void *wrong;
    NEED(pool && pthread_create(&thread, NULL, map_for_ever, pool) == 0);
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(pm_small_map(pool) == PMAP_EFORK && pmap_pool_close(pool) == 0 ? 0 : 1);
        NEED(pid > 0 && status_of(pid) == 0);
    }
    atomic_store(&enough, true);
    pthread_join(thread, &wrong);
    NEED(!wrong);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void forks_during_a_call(const struct pm_path *path) { application_on(path, fork_while_another_thread_maps,
                                                                             30000); }

/* ---- OpenMP ---- */

static int with_openmp(pmap_task *task, const void *item, void *result)
{
    (void)item;
    uint64_t sum = 0, n = 1000 + pmap_task_index(task);
#pragma omp parallel for num_threads(2) reduction(+ : sum)
    for (uint64_t i = 0; i < n; i++) sum += i;
    memcpy(result, &sum, 8);
    return 0;
}

static int openmp_everywhere(void *arg)
{
    (void)arg;
    int threads = 0;
#pragma omp parallel num_threads(3) reduction(+ : threads)
    threads++;
    NEED(threads >= 1);
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    int pids[2] = {0, 0};
    NEED(pmap_pool_pids(pool, pids, 2) <= 2);
    for (int round = 0; round < 3; round++) {
        uint64_t out[40];
        NEED(pmap_map(pool, with_openmp, NULL, 40, 0, out, 8, NULL) == 0);
        for (uint64_t i = 0; i < 40; i++) NEED(out[i] == (1000 + i) * (999 + i) / 2);
        threads = 0;
#pragma omp parallel num_threads(3) reduction(+ : threads)
        threads++;
        NEED(threads >= 1);
    }
    NEED(pmap_pool_close(pool) == 0);
    for (int i = 0; i < 2; i++) { /* LLVM's run-time gives each forked child a name */
        char name[80];
        (void)snprintf(name, sizeof name, "/dev/shm/__KMP_REGISTERED_LIB_%d_%d", pids[i], (int)getuid());
        NEED(pids[i] <= 0 || pids[i] == getpid() || access(name, F_OK));
    }
    return 0;
}

static void openmp_before_during_and_after(const struct pm_path *path) { application_on(path, openmp_everywhere,
                                                                                        20000); }

/* ---- Threads ---- */

static void *open_in_a_thread(void *to)
{
    *(pmap_pool **)to = open_pool(2);
    return NULL;
}

static bool workers_are_there(pmap_pool *pool)
{
    int pids[2];
    unsigned n = pmap_pool_pids(pool, pids, 2);
    for (unsigned i = 0; i < n && i < 2; i++)
        if (pids[i] <= 0 || kill(pids[i], 0)) return false;
    return true;
}

static int opened_by_a_thread_that_ends(void *arg)
{
    (void)arg;
    pmap_pool *pool = NULL;
    pthread_t thread;
    pmap_stats_t stats = {.size = sizeof stats};
    NEED(pthread_create(&thread, NULL, open_in_a_thread, &pool) == 0);
    pthread_join(thread, NULL);
    NEED(pool);
    for (int i = 0; i < 20; i++) {
        NEED(pm_small_map(pool) == 0);
        NEED(workers_are_there(pool));
    }
    NEED(pmap_stats(pool, &stats) == 0);
    NEED(stats.deaths == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

/* Bit n - 1: signal n.  From a line of /proc/PID/status. */
static unsigned long long signals_of(int pid, const char *line)
{
    char path[40], text[128];
    unsigned long long mask = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(text, sizeof text, f))
        if (strncmp(text, line, strlen(line)) == 0) mask = strtoull(text + strlen(line), NULL, 16);
    if (f) fclose(f);
    return mask;
}

/* A worker without work blocks a signal, which then comes with the first work, and costs a worker at most. */
static int signals_before_work(void *arg)
{
    (void)arg;
    const unsigned long long term = 1ull << (SIGTERM - 1);
    pmap_pool *pool = open_pool(2);
    int pids[2];
    NEED(pool && pmap_pool_pids(pool, pids, 2) == 2);
    for (int i = 0; i < 2; i++) {
        NEED(signals_of(pids[i], "SigBlk:") & term);
        NEED(kill(pids[i], SIGTERM) == 0);
        NEED(signals_of(pids[i], "ShdPnd:") & term);
    }
    for (int i = 0; i < 20; i++) NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void signals_to_idle_workers(const struct pm_path *path) { application_on(path, signals_before_work, 20000); }

static void opened_by_a_thread_that_exits(const struct pm_path *path) { application_on(path,
        opened_by_a_thread_that_ends, 20000); }

static void *open_use_close(void *arg)
{
    (void)arg;
    for (int i = 0; i < 8; i++) {
        pmap_pool *pool = open_pool(2);
        if (!pool || pm_small_map(pool) || pmap_pool_close(pool)) return &enough;
    }
    return NULL;
}

static int pools_in_threads(void *arg)
{
    (void)arg;
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) NEED(pthread_create(&thread[i], NULL, open_use_close, NULL) == 0);
    void *wrong, *any = NULL;
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &wrong);
        if (wrong) any = wrong;
    }
    NEED(!any);
    return 0;
}

static void pools_opened_by_threads_at_once(const struct pm_path *path)
{
#if defined(__SANITIZE_ADDRESS__)
    /* This sanitizer's malloc() does not survive a fork while another thread is in it, and libzmq allocates in the worker. */
    if (path->bit == PM_ON_ZMQ) skip();
#endif
    application_on(path, pools_in_threads, 30000);
}

/* ---- Pools in functions ---- */

/* The handle, at the same address in the workers as here, travels as the pointer `arg`. */
static int map_inside(pmap_task *task, const void *item, void *result)
{
    (void)item;
    int e = pm_small_map(pmap_task_arg(task));
    memcpy(result, &e, sizeof e);
    return 0;
}

static int nested(void *arg)
{
    (void)arg;
    int out[10] = {0};
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = pool;
    NEED(pmap_map(pool, map_inside, NULL, 10, 0, out, sizeof out[0], &options) == 0);
    for (int i = 0; i < 10; i++) NEED(out[i] == PMAP_EFORK);
    NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void nested_use_is_refused(const struct pm_path *path) { application_on(path, nested, 5000); }

static int own_pool_inside(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item;
    pmap_options options = pm_path_options(here, 2);
    pmap_pool *pool;
    int e = pmap_pool_open(&pool, &options);
    if (!e) {
        e = pm_small_map(pool);
        if (pmap_pool_close(pool) && !e) e = 99;
    }
    memcpy(result, &e, sizeof e);
    return 0;
}

/* It may work or be refused by name; it may neither hang nor leave anything. */
static int a_pool_in_a_function(void *arg)
{
    (void)arg;
    int out[6];
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    NEED(pmap_map(pool, own_pool_inside, NULL, 6, 0, out, sizeof out[0], NULL) == 0);
    for (int i = 0; i < 6; i++) NEED(out[i] == 0 || out[i] == PMAP_EFORK || out[i] == PMAP_ENOTSUP);
    NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void a_pool_of_its_own_in_a_function(const struct pm_path *path) { application_on(path, a_pool_in_a_function,
                                                                                         20000); }

static int twice_as_task(pmap_task *task, const void *in, size_t bytes)
{
    void *out = pmap_task_result(task, 4);
    return out && bytes == 4 ? pm_twice(task, in, out) : 1;
}

static int pull_one_of_50(void *arg, const void **in, size_t *bytes)
{
    uint32_t *next = arg;
    if (++*next > 50) return 0;
    *in = next;
    *bytes = 4;
    return 1;
}

/* Futures, streams and maps as futures, where the channel has them. */
static int small_tasks(pmap_pool *pool)
{
    uint32_t x = 21, y = 0, in[50], out[50], next = 0;
    size_t bytes = 4;
    pmap_future *f;
    pmap_stream *s;
    const void *result;
    for (uint32_t i = 0; i < 50; i++) in[i] = i;
    NEED(pmap_map_async(pool, pm_twice, in, 50, 4, out, 4, NULL, &f) == 0);
    if (here->channel == PMAP_SHM) {
        for (int i = 0; i < 20; i++) NEED(pmap_apply(pool, twice_as_task, &x, 4, &y, &bytes, NULL) == 0 && y == 42);
        NEED(pmap_imap(pool, twice_as_task, pull_one_of_50, &next, NULL, &s) == 0);
        for (uint32_t i = 1; i <= 50; i++) NEED(pmap_stream_next(s, -1, &result, &bytes) == 1 && *(const uint32_t *)result == 2 * i);
        NEED(pmap_stream_next(s, -1, NULL, NULL) == 0);
        pmap_stream_close(s);
    }
    NEED(pmap_future_get(f, 20, NULL, NULL) == 0 && out[49] == 98);
    pmap_future_free(f);
    return 0;
}

/* ---- SIGCHLD and wait() ---- */

static int kill_one_and_go_on(pmap_pool *pool)
{
    int pids[2] = {0, 0};
    NEED(pm_small_map(pool) == 0);
    unsigned n = pmap_pool_pids(pool, pids, 2);
    if (n) NEED(pids[0] > 0 && kill(pids[0], SIGKILL) == 0);
    for (int i = 0; i < 5; i++) NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static int sigchld_ignored(void *arg)
{
    (void)arg;
    signal(SIGCHLD, SIG_IGN);
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    NEED(small_tasks(pool) == 0);
    int e = kill_one_and_go_on(pool);
    struct sigaction now;
    NEED(sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN); /* the application's, untouched */
    return e;
}

static void sigchld_is_ignored(const struct pm_path *path) { application_on(path, sigchld_ignored, 20000); }

static void *wait_for_everything(void *arg)
{
    (void)arg;
    while (!atomic_load(&enough)) {
        int status;
        struct timespec t = {.tv_nsec = 200000};
        if (wait(&status) < 0) nanosleep(&t, NULL); /* no children just now */
    }
    return NULL;
}

static int waits_for_everything(void *arg)
{
    (void)arg;
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, wait_for_everything, NULL) == 0);
    for (int i = 0; i < 5; i++) {
        pmap_pool *pool = open_pool(2);
        NEED(pool);
        NEED(kill_one_and_go_on(pool) == 0);
    }
    atomic_store(&enough, true);
    pthread_join(thread, NULL);
    return 0;
}

static void the_application_waits_for_everything(const struct pm_path *path) { application_on(path,
        waits_for_everything, 30000); }

static void count_signal(int n) { (void)n; }

/* A storm of signals that interrupt every system call. */
static int interrupted(void *arg)
{
    (void)arg;
    struct sigaction action = {.sa_handler = count_signal}; /* without SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec often = {.it_interval.tv_nsec = 300000, .it_value.tv_nsec = 300000};
    NEED(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        pmap_pool *pool = open_pool(2);
        NEED(pool);
        NEED(small_tasks(pool) == 0);
        NEED(kill_one_and_go_on(pool) == 0);
    }
    return 0;
}

static void a_storm_of_signals(const struct pm_path *path) { application_on(path, interrupted, 30000); }

/* ---- Descriptors ---- */

static int nothing_on_0_to_2(void *arg)
{
    (void)arg;
    int report = fcntl(2, F_DUPFD_CLOEXEC, 20);
    for (int fd = 0; fd < 3; fd++) close(fd);
    pmap_pool *pool = open_pool(2);
    if (!pool || pm_small_map(pool)) return 2;
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) >= 0) { /* what an application then prints would go there */
            char link[64], target[100] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            if (readlink(link, target, sizeof target - 1) < 0) return 3;
            dprintf(report, "    descriptor %d is %s\n", fd, target);
            return 4;
        }
    return pmap_pool_close(pool) ? 5 : 0;
}

static void descriptors_0_to_2_closed(const struct pm_path *path) { application_on(path, nothing_on_0_to_2, 20000); }

struct fd_seen {
    int same_pipe, input_is_null, above_2;
};

struct fd_asked {
    int fd;
    uint64_t device, inode;
};

static int look_at_descriptors(pmap_task *task, const void *item, void *result)
{
    (void)item;
    const struct fd_asked *asked = pmap_task_arg(task);
    struct stat status, null;
    struct fd_seen seen = {0};
    seen.same_pipe = fstat(asked->fd, &status) == 0 && status.st_dev == asked->device && status.st_ino == asked->inode;
    seen.input_is_null = fstat(0, &status) == 0 && stat("/dev/null", &null) == 0 && status.st_rdev == null.st_rdev;
    for (int fd = 3; fd < 200; fd++) seen.above_2 += fcntl(fd, F_GETFD) >= 0;
    memcpy(result, &seen, sizeof seen);
    return 0;
}

static int descriptors_in_workers(void *arg)
{
    (void)arg;
    int ends[2];
    struct stat status;
    NEED(pipe(ends) == 0 && fstat(ends[0], &status) == 0); /* not close-on-exec */
    for (int keep = 0; keep < 2; keep++) {
        struct fd_seen out[20];
        struct fd_asked asked = {ends[0], status.st_dev, status.st_ino};
        pmap_options options = pm_path_options(here, 2);
        pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
        pmap_pool *pool;
        options.keep_fds = keep;
        NEED(pmap_pool_open(&pool, &options) == 0);
        map.arg = &asked;
        map.arg_size = sizeof asked;
        NEED(pmap_map(pool, look_at_descriptors, NULL, 20, 0, out, sizeof out[0], &map) == 0);
        for (int i = 0; i < 20; i++) {
            NEED(out[i].same_pipe == keep);
            NEED(out[i].input_is_null);
            if (!keep && here->channel == PMAP_SHM) NEED(out[i].above_2 == 0);
        }
        NEED(pmap_pool_close(pool) == 0);
    }
    return 0;
}

static void keep_fds(const struct pm_path *path) { application_on(path, descriptors_in_workers, 20000); }

static int close_everything(pmap_task *task, const void *item, void *result)
{
    (void)task;
    for (int fd = 0; fd < 1024; fd++) close(fd);
    return pm_twice(task, item, result);
}

static int close_everything_as_task(pmap_task *task, const void *in, size_t bytes)
{
    for (int fd = 0; fd < 1024; fd++) close(fd);
    return twice_as_task(task, in, bytes);
}

static int functions_that_close_all(void *arg)
{
    (void)arg;
    enum { N = 300 };
    uint32_t in[N], out[N];
    pmap_pool *pool = open_pool(2);
    NEED(pool);
    for (uint32_t i = 0; i < N; i++) in[i] = i;
    NEED(pmap_map(pool, close_everything, in, N, 4, out, 4, NULL) == 0);
    for (uint32_t i = 0; i < N; i++) NEED(out[i] == 2 * i);
    for (uint32_t i = 0, y; i < 20; i++) {
        size_t bytes = sizeof y;
        NEED(pmap_apply(pool, close_everything_as_task, &i, 4, &y, &bytes, NULL) == 0 && y == 2 * i);
    }
    NEED(small_tasks(pool) == 0);
    NEED(pm_small_map(pool) == 0);
    NEED(pmap_pool_close(pool) == 0);
    return 0;
}

static void a_function_closes_all_descriptors(const struct pm_path *path) { application_on(path,
        functions_that_close_all, 20000); }

/* What was in the stdio buffers when the pool opened is written once. */
static int print_once(void *arg)
{
    (void)arg;
    char name[200], text[100] = "";
    snprintf(name, sizeof name, "%s/printed", getenv("TMPDIR"));
    NEED(freopen(name, "we", stdout));
    printf("once\n");
    pmap_pool *pool = open_pool(3);
    NEED(pool && pm_small_map(pool) == 0 && pmap_pool_close(pool) == 0);
    fflush(stdout);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    NEED(fd >= 0 && read(fd, text, sizeof text - 1) == 5 && strcmp(text, "once\n") == 0);
    close(fd);
    remove(name);
    return 0;
}

static void buffers_are_written_once(const struct pm_path *path) { application_on(path, print_once, 20000); }

static const struct pm_path_test tests[] = {
    {"a forked child", a_forked_child, PM_ON_ALL},
    {"a child outlives the pool", a_child_outlives_the_pool, PM_ON_ALL},
    {"forks during a call", forks_during_a_call, PM_ON_SERIAL | PM_ON_PROCESSES},
    {"OpenMP before, during and after", openmp_before_during_and_after, PM_ON_ALL},
    {"opened by a thread that exits", opened_by_a_thread_that_exits, PM_ON_ALL},
    {"signals to idle workers", signals_to_idle_workers, PM_ON_SHM}, /* over ZeroMQ they begin at once */
    {"pools opened by threads at once", pools_opened_by_threads_at_once, PM_ON_ALL},
    {"nested use is refused", nested_use_is_refused, PM_ON_ALL},
    {"a pool of its own in a function", a_pool_of_its_own_in_a_function, PM_ON_ALL},
    {"SIGCHLD is ignored", sigchld_is_ignored, PM_ON_ALL},
    {"the application waits for everything", the_application_waits_for_everything, PM_ON_PROCESSES},
    {"a storm of signals", a_storm_of_signals, PM_ON_ALL},
    {"descriptors 0 to 2 closed", descriptors_0_to_2_closed, PM_ON_ALL},
    {"keep_fds", keep_fds, PM_ON_PROCESSES},
    {"a function closes all descriptors", a_function_closes_all_descriptors, PM_ON_SHARED},
    {"buffers are written once", buffers_are_written_once, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("fork", tests); }

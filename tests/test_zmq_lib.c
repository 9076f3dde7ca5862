/* That libzmq is loaded by who needs it and by nobody else, that its lack has a name, and that nobody is forked while it is loaded.
 *
 * What a process has loaded cannot be taken from it: each test is a new process, this program with a word as its argument, and finds the
 * libzmq that the test has put into LD_LIBRARY_PATH before any other. */
#include "tests/zmq.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "tests/paths.h"

/* The file that is found first. */
static char *place(const char *end)
{
    static char path[4096];
    const char *base = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/lib%s", base ? base : "/tmp", end);
    return path;
}
#define FILE_NAME "/" LIBZMQ_SONAME

static bool loaded(void)
{
    void *library = dlopen(LIBZMQ_SONAME, RTLD_LAZY | RTLD_NOLOAD);
    if (library) (void)dlclose(library);
    return library != NULL;
}

static int open_with(pmap_pool **pool, pmap_executor executor, pmap_channel channel)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    o.workers = 2;
    o.executor = executor;
    o.channel = channel;
    return pmap_pool_open(pool, &o);
}

static int map_with(pmap_executor executor, pmap_channel channel)
{
    pmap_pool *pool;
    int e = open_with(&pool, executor, channel);
    if (e) return e;
    e = pm_small_map(pool);
    int c = pmap_pool_close(pool);
    return e ? e : c;
}

/* ---- Who needs it ---- */

static int by_need(void)
{
    NEED(!loaded());
    NEED(map_with(PMAP_SERIAL, PMAP_SHM) == 0 && map_with(PMAP_THREADS, PMAP_SHM) == 0 && map_with(PMAP_PROCESSES, PMAP_SHM) == 0);
    NEED(!loaded());
    NEED(map_with(PMAP_PROCESSES, PMAP_ZMQ) == 0);
    NEED(loaded()); /* and stays when the pool is closed */
    NEED(map_with(PMAP_PROCESSES, PMAP_ZMQ) == 0);
    return 0;
}

/* ---- It is not there ---- */

static int missing(void)
{
    pmap_pool *pool = (pmap_pool *)(void *)&pool;
    char text[8192];
    int fd = creat(place(FILE_NAME), 0600); /* an empty file is no library */
    NEED(fd >= 0);
    close(fd);
    NEED(open_with(&pool, PMAP_PROCESSES, PMAP_ZMQ) == PMAP_ENOTSUP);
    NEED(pool == NULL && strstr(pmap_error(), LIBZMQ_SONAME) && strstr(pmap_error(), "too short"));
    (void)pmap_machine(text, sizeof text);
    NEED(strstr(text, "warning: the ZeroMQ channel needs libzmq"));
    NEED(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* nothing was forked for it */
    NEED(map_with(PMAP_PROCESSES, PMAP_SHM) == 0);
    NEED(!loaded());
    NEED(unlink(place(FILE_NAME)) == 0); /* installed meanwhile */
    NEED(map_with(PMAP_PROCESSES, PMAP_ZMQ) == 0);
    (void)pmap_machine(text, sizeof text);
    NEED(strstr(text, "libzmq ") && !strstr(text, "needs libzmq"));
    return 0;
}

/* ---- Threads ---- */

static void *map_over_zmq(void *result)
{
    *(int *)result = map_with(PMAP_PROCESSES, PMAP_ZMQ);
    return NULL;
}

static int at_once(void)
{
    enum { N = 4 };
    pthread_t thread[N];
    int result[N];
    for (int i = 0; i < N; i++) NEED(pthread_create(&thread[i], NULL, map_over_zmq, &result[i]) == 0);
    for (int i = 0; i < N; i++) (void)pthread_join(thread[i], NULL);
    for (int i = 0; i < N; i++) NEED(result[i] == 0);
    return 0;
}

/* The library is a named pipe: who loads it waits until somebody opens the other end, and reads until that is closed. */
static bool somebody_loads(void *fd)
{
    *(int *)fd = open(place(FILE_NAME), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return *(int *)fd >= 0;
}

struct forker {
    _Atomic int go;
    _Atomic pid_t tid;
    _Atomic int forked;
    int status;
};

static void *fork_a_user(void *arg)
{
    struct forker *f = arg;
    while (!atomic_load(&f->go)) (void)sched_yield(); /* which is no sleep */
    atomic_store(&f->tid, gettid());
    pid_t pid = fork();
    if (pid == 0) _exit(map_with(PMAP_PROCESSES, PMAP_ZMQ) ? 1 : 0);
    atomic_store(&f->forked, 1);
    f->status = -1;
    if (pid > 0) (void)waitpid(pid, &f->status, 0);
    return NULL;
}

static bool sleeps_or_has_forked(void *arg)
{
    struct forker *f = arg;
    pid_t tid = atomic_load(&f->tid);
    return atomic_load(&f->forked) || (tid && pm_test_is_asleep(&tid));
}

/* The forking thread waits for the loading one; its child finds nothing half done, and can load the library itself. */
static int no_fork_meanwhile(void)
{
    pthread_t loading, forking;
    struct forker f = {0};
    int result = 0, fd = -1;
    NEED(map_with(PMAP_PROCESSES, PMAP_SHM) == 0 && mkfifo(place(FILE_NAME), 0600) == 0);
    NEED(pthread_create(&forking, NULL, fork_a_user, &f) == 0); /* first: glibc makes no thread while it loads */
    NEED(pthread_create(&loading, NULL, map_over_zmq, &result) == 0);
    NEED(pm_test_wait_until(somebody_loads, &fd, 20000));
    atomic_store(&f.go, 1);
    NEED(pm_test_wait_until(sleeps_or_has_forked, &f, 20000));
    NEED(!atomic_load(&f.forked));
    NEED(unlink(place(FILE_NAME)) == 0);
    close(fd);
    (void)pthread_join(loading, NULL);
    (void)pthread_join(forking, NULL);
    NEED(result == PMAP_ENOTSUP); /* what it read was no library */
    NEED(f.status == 0);
    return 0;
}

/* ---- The table ---- */

static const struct {
    const char *name;
    int (*body)(void);
} bodies[] = {{"by_need", by_need}, {"missing", missing}, {"at_once", at_once}, {"no_fork_meanwhile", no_fork_meanwhile}};

static int become(void *name)
{
    const char *path = getenv("LD_LIBRARY_PATH");
    char all[8192], *argv[] = {"test_zmq_lib", name, NULL};
    (void)snprintf(all, sizeof all, "%s%s%s", place(""), path && *path ? ":" : "", path ? path : "");
    if (setenv("LD_LIBRARY_PATH", all, 1) == 0) (void)execv("/proc/self/exe", argv);
    return 2;
}

static void alone(void **state)
{
    assert_int_equal(mkdir(place(""), 0700), 0);
    int status = pm_test_run_child(become, *state, 60000);
    (void)unlink(place(FILE_NAME)); /* where it failed */
    assert_int_equal(rmdir(place("")), 0);
    assert_int_equal(status, 0);
}

#define TEST(function) {#function, alone, NULL, NULL, #function}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {TEST(by_need), TEST(missing), TEST(at_once), TEST(no_fork_meanwhile)};
    for (size_t i = 0; argc > 1 && i < sizeof bodies / sizeof *bodies; i++)
        if (strcmp(argv[1], bodies[i].name) == 0) return bodies[i].body();
    return PM_TEST_MAIN("zmq_lib", tests);
}

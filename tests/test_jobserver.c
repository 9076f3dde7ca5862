/* The tokens of GNU make: the pool has no more workers than it got, takes more when there are more and work, and gives all back at its end,
 * also after the death of a worker, of the supervisor, and of the application. */
#include "tests/together.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int make_pipe[2];

static int tokens_in(int fd)
{
    int n = -1;
    assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
    return n;
}

struct level {
    int fd, tokens;
};

static bool so_many(void *arg)
{
    struct level *l = arg;
    return tokens_in(l->fd) == l->tokens;
}

static void expect_tokens(int n)
{
    struct level l = {make_pipe[0], n};
    if (!pm_test_wait_until(so_many, &l, 5000)) fail_msg("%d tokens are with make instead of %d", tokens_in(make_pipe[0]), n);
}

/* As make would: a pipe, and its numbers in the environment. */
static void offer(const char *tokens)
{
    char flags[100];
    assert_int_equal(pipe(make_pipe), 0);
    assert_int_equal(write(make_pipe[1], tokens, strlen(tokens)), strlen(tokens));
    (void)snprintf(flags, sizeof flags, "k -j8 --jobserver-auth=%d,%d -- A=b", make_pipe[0], make_pipe[1]);
    assert_int_equal(setenv("MAKEFLAGS", flags, 1), 0);
}

/* The very bytes are back, in any order. */
static void take_back(const char *tokens)
{
    char got[64] = "";
    expect_tokens((int)strlen(tokens));
    if (*tokens) assert_int_equal(read(make_pipe[0], got, sizeof got), strlen(tokens));
    for (const char *t = tokens; *t; t++) {
        char *at = strchr(got, *t);
        if (!at) fail_msg("token '%c' is missing", *t);
        *at = '.';
    }
    int flags = fcntl(make_pipe[0], F_GETFL);
    assert_int_equal(flags & O_NONBLOCK, 0); /* make's own description is as it was */
    (void)close(make_pipe[0]);
    (void)close(make_pipe[1]);
    (void)unsetenv("MAKEFLAGS");
}

static pmap_pool *open_with(const struct pm_path *path, unsigned workers)
{
    pmap_options o = pm_path_options(path, workers);
    pmap_pool *pool = NULL;
    o.jobserver = 1;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    assert_int_equal(pmap_pool_workers(pool), workers);
    return pool;
}

static int number(pmap_task *task, const void *item, void *result)
{
    uint32_t i = (uint32_t)pmap_task_index(task);
    (void)item;
    memcpy(result, &i, 4);
    return 0;
}

static void right(pmap_pool *pool)
{
    static uint32_t out[500];
    EXPECT(pmap_map(pool, number, NULL, 500, 0, out, 4, NULL), 0);
    for (uint32_t i = 0; i < 500; i++) assert_int_equal(out[i], i);
}

static void fewer_tokens(const struct pm_path *path)
{
    offer("+a");
    pmap_pool *pool = open_with(path, 4);
    assert_int_equal(there(pool), 3);
    expect_tokens(0);
    right(pool);
    assert_int_equal(there(pool), 3);
    EXPECT(pmap_pool_resize(pool, 2), 0);
    expect_tokens(1);
    EXPECT(pmap_pool_resize(pool, 3), 0);
    expect_tokens(0);
    pm_path_close(pool);
    take_back("+a");
}

static void no_token(const struct pm_path *path)
{
    offer("");
    pmap_pool *pool = open_with(path, 4);
    assert_int_equal(there(pool), 1);
    right(pool);
    pm_path_close(pool);
    take_back("");
}

static void more_than_needed(const struct pm_path *path)
{
    offer("abcdefgh");
    pmap_pool *pool = open_with(path, 3);
    assert_int_equal(there(pool), 3);
    expect_tokens(6);
    right(pool);
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    take_back("abcdefgh");
}

/* Tokens come while a call runs. */
static void tokens_come(const struct pm_path *path)
{
    offer("");
    pmap_pool *pool = open_with(path, 4);
    struct meeting_call c;
    begin_meeting(&c, pool, 3);
    assert_int_equal(write(make_pipe[1], "xy", 2), 2);
    end_meeting(&c);
    pm_path_close(pool);
    take_back("xy");
}

static void deaths(const struct pm_path *path)
{
    offer("12");
    pmap_pool *pool = open_with(path, 3);
    int pids[3];
    for (int round = 0; round < 5; round++) {
        assert_int_equal(pmap_pool_pids(pool, pids, 3), 3);
        for (int i = 0; i < 3; i++)
            if (pids[i] > 0) (void)kill(pids[i], SIGKILL);
        right(pool);
    }
    pm_path_close(pool);
    take_back("12");
}

static int parent_of(int pid)
{
    char name[64];
    int parent = 0;
    (void)snprintf(name, sizeof name, "/proc/%d/stat", pid);
    FILE *f = fopen(name, "re");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) != 1) parent = 0;
    if (f) (void)fclose(f);
    return parent;
}

static void supervisor_dies(const struct pm_path *path)
{
    for (int then_use = 0; then_use < 2; then_use++) {
        offer("12345");
        pmap_pool *pool = open_with(path, 3);
        int pid;
        expect_tokens(3);
        assert_int_equal(pmap_pool_pids(pool, &pid, 1), 3);
        int supervisor = parent_of(pid);
        assert_true(supervisor > 1 && supervisor != getpid());
        assert_int_equal(kill(supervisor, SIGKILL), 0);
        if (then_use) right(pool);
        (void)pmap_pool_close(pool);
        assert_int_equal(pm_test_reap(5000), 0);
        take_back("12345");
    }
}

/* The next supervisor has the tokens of the first, and no more. */
static void supervisor_is_replaced(const struct pm_path *path)
{
    offer("1");
    pmap_pool *pool = open_with(path, 4);
    int pid;
    for (int round = 0; round < 2; round++) {
        siginfo_t info;
        assert_int_equal(pmap_pool_pids(pool, &pid, 1), 4);
        int supervisor = parent_of(pid);
        assert_true(supervisor > 1 && supervisor != getpid());
        assert_int_equal(kill(supervisor, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)supervisor, &info, WEXITED | WNOWAIT), 0);
        right(pool);
        expect_tokens(0);
        expect_there(pool, 2);
    }
    EXPECT(pmap_pool_resize(pool, 1), 0);
    expect_tokens(1);
    EXPECT(pmap_pool_resize(pool, 3), 0);
    expect_tokens(0);
    pm_path_close(pool);
    assert_int_equal(pm_test_reap(5000), 0);
    take_back("1");
}

static int hold_and_die(void *arg)
{
    pmap_options o = pm_path_options(arg, 3);
    pmap_pool *pool;
    uint32_t out[100];
    o.jobserver = 1;
    if (pmap_pool_open(&pool, &o) || pmap_map(pool, number, NULL, 100, 0, out, 4, NULL)) return 1;
    if (tokens_in(make_pipe[0]) != 0) return 2;
    return kill(getpid(), SIGKILL);
}

static void application_dies(const struct pm_path *path)
{
    offer("ab");
    int status = pm_test_run_child(hold_and_die, (void *)(uintptr_t)path, 10000);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    take_back("ab");
}

static void idle_ones_give_back(const struct pm_path *path)
{
    offer("abc");
    pmap_options o = pm_path_options(path, 4);
    pmap_pool *pool = NULL;
    o.jobserver = 1;
    o.idle_s = 0.01;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    right(pool);
    expect_tokens(3);
    right(pool);
    pm_path_close(pool);
    take_back("abc");
}

static void a_fifo(const struct pm_path *path)
{
    char name[200], flags[300];
    (void)snprintf(name, sizeof name, "%s/make-fifo", getenv("TMPDIR"));
    assert_int_equal(mkfifo(name, 0600), 0);
    make_pipe[0] = open(name, O_RDWR);
    make_pipe[1] = open(name, O_RDWR);
    assert_true(make_pipe[0] >= 0 && make_pipe[1] >= 0);
    assert_int_equal(write(make_pipe[1], "+-", 2), 2);
    (void)snprintf(flags, sizeof flags, " -j --jobserver-auth=fifo:%s --no-print-directory", name);
    assert_int_equal(setenv("MAKEFLAGS", flags, 1), 0);
    pmap_pool *pool = open_with(path, 4);
    assert_int_equal(there(pool), 3);
    right(pool);
    pm_path_close(pool);
    assert_int_equal(unlink(name), 0);
    take_back("+-");
}

/* Without the option nothing is taken; without an offer nothing is limited; an offer that does not reach us means one at a time. */
static void not_asked(const struct pm_path *path)
{
    offer("abc");
    pmap_pool *pool = pm_path_open(path, 3);
    expect_tokens(3);
    pm_path_close(pool);
    take_back("abc");
    assert_int_equal(setenv("MAKEFLAGS", "-j3 A=--jobserver-auth", 1), 0);
    pool = open_with(path, 3);
    assert_int_equal(there(pool), 3);
    pm_path_close(pool);
    static const char *const unreachable[] = {"-j4 --jobserver-auth=901,902", "--jobserver-fds=-2,-2", "--jobserver-auth=fifo:/nowhere/fifo",
                                              "--jobserver-auth=0", "--jobserver-auth=fifo:/dev/null"};
    for (size_t i = 0; i < sizeof unreachable / sizeof *unreachable; i++) {
        assert_int_equal(setenv("MAKEFLAGS", unreachable[i], 1), 0);
        pool = open_with(path, 3);
        assert_int_equal(there(pool), 1);
        right(pool);
        pm_path_close(pool);
    }
    (void)unsetenv("MAKEFLAGS");
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"fewer tokens", fewer_tokens, PM_ON_SHM | PM_ON_ZMQ},
        {"no token", no_token, PM_ON_SHM | PM_ON_ZMQ},
        {"more than needed", more_than_needed, PM_ON_SHM | PM_ON_ZMQ},
        {"tokens come", tokens_come, PM_ON_SHM | PM_ON_ZMQ},
        {"deaths", deaths, PM_ON_SHM | PM_ON_ZMQ},
        {"supervisor dies", supervisor_dies, PM_ON_SHM | PM_ON_ZMQ},
        {"supervisor is replaced", supervisor_is_replaced, PM_ON_SHM | PM_ON_ZMQ},
        {"application dies", application_dies, PM_ON_SHM | PM_ON_ZMQ},
        {"idle ones give back", idle_ones_give_back, PM_ON_SHM | PM_ON_ZMQ},
        {"a fifo", a_fifo, PM_ON_SHM},
        {"not asked", not_asked, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("jobserver", tests);
}

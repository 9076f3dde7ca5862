/* The process executor where the public calls do not lead: what is on the board when a supervisor takes over. */
#include "tests/harness.h"
#include "workers/processes.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pm_processes *try_one(void)
{
    const struct pm_setup setup = {.workers = 1, .most = 1, .cpus = 1, .memory = 1 << 20};
    struct pm_executor *executor;
    char text[200];
    return pm_processes.open(&executor, &setup, text, sizeof text) == 0 ? (struct pm_processes *)(void *)executor : NULL;
}

static struct pm_processes *open_one(void)
{
    struct pm_processes *p = try_one();
    assert_non_null(p);
    return p;
}

static void close_one(struct pm_processes *p)
{
    assert_int_equal(pm_processes.end((struct pm_executor *)(void *)p, -1), 0);
    pm_processes.close((struct pm_executor *)(void *)p);
}

static bool reaped(void *pid) { return waitpid(*(pid_t *)pid, NULL, WNOHANG) == *(pid_t *)pid; }

/* Kills it, and waits for its worker, which has come to this program. */
static void kill_supervisor(struct pm_processes *p)
{
    pid_t worker = atomic_load(&p->board->slot[0].pid);
    assert_true(worker > 0);
    assert_int_equal(kill(p->supervisor.pid, SIGKILL), 0);
    assert_int_equal(pm_process_wait(&p->supervisor, p->pidfd, 5000), 0);
    if (!pm_test_wait_until(reaped, &worker, 5000)) fail_msg("worker %d outlives its supervisor", (int)worker);
}

/* In a process group of its own, as a shell's job is; answers each byte. */
static pid_t stranger(int ask[2], int answer[2])
{
    assert_int_equal(pipe(ask), 0);
    assert_int_equal(pipe(answer), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        (void)setpgid(0, 0);
        (void)close(ask[1]);
        (void)close(answer[0]);
        while (read(ask[0], &c, 1) == 1 && write(answer[1], &c, 1) == 1) continue;
        _exit(0);
    }
    assert_true(pid > 0);
    (void)close(ask[0]);
    (void)close(answer[1]);
    return pid;
}

static bool answers(int ask, int answer)
{
    char c = 'a';
    return write(ask, &c, 1) == 1 && read(answer, &c, 1) == 1;
}

/* The pool was idle for long after its supervisor had died: the worker's pid is somebody else's by now, who leads a group. */
static void a_pid_that_is_another_process_now(void **state)
{
    (void)state;
    int ask[2], answer[2];
    (void)signal(SIGPIPE, SIG_IGN);
    struct pm_processes *p = open_one();
    pid_t pid = stranger(ask, answer);
    assert_true(answers(ask[1], answer[0])); /* it has its group */
    kill_supervisor(p);
    atomic_store(&p->board->slot[0].pid, pid);
    atomic_store(&p->board->slot[0].born, 0);
    assert_int_equal(pm_processes_check(p), 0);
    if (!answers(ask[1], answer[0])) fail_msg("the new supervisor has killed a process that is not the pool's");
    (void)close(ask[1]);
    (void)close(answer[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close_one(p);
}

/* The next child has this pid, where the system lets us say so.  Only for who is alone with his children: any other process would have it as
 * well, and whoever still means the one before would kill that. */
static bool next_pid(pid_t pid)
{
    FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "we");
    if (!f) return false;
    bool said = fprintf(f, "%d", (int)pid - 1) > 0;
    return fclose(f) == 0 && said;
}

enum { NOT_ALLOWED = 77 };

/* The first process of a world of its own: whatever it starts has numbers that nobody else has. */
static int other_child(void *unused)
{
    (void)unused;
    int ask[2], answer[2], status = -1;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL)) return NOT_ALLOWED;
    struct pm_processes *p = try_one();
    if (!p) return 1;
    pid_t old = p->supervisor.pid;
    if (p->pidfd < 0) return NOT_ALLOWED;
    if (kill(old, SIGKILL) || waitpid(old, NULL, 0) != old) return 2;
    while (waitpid(-1, NULL, 0) > 0) continue; /* its worker, in whose group that number lives on */
    if (!next_pid(old)) return NOT_ALLOWED;
    pid_t pid = stranger(ask, answer);
    if (pid != old) return 3;
    if (pm_processes_check(p)) return 4;
    if (!answers(ask[1], answer[0])) return 5;
    (void)close(ask[1]);
    (void)close(answer[0]);
    if (waitpid(pid, &status, 0) != pid || status) return 6;
    if (pm_processes.end((struct pm_executor *)(void *)p, -1)) return 7;
    pm_processes.close((struct pm_executor *)(void *)p);
    return 0;
}

static int in_a_world_of_its_own(void *arg)
{
    int status;
    if (geteuid() != 0 && unshare(CLONE_NEWUSER)) return NOT_ALLOWED;
    if (unshare(CLONE_NEWPID | CLONE_NEWNS)) return NOT_ALLOWED;
    pid_t pid = fork();
    if (pid == 0) _exit(other_child(arg));
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return 10;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 11;
}

/* The program waits for all its children, and the next one it starts has the dead supervisor's pid: that one is neither waited for nor reaped. */
static void a_pid_that_is_another_child_now(void **state)
{
    (void)state;
    int status = pm_test_run_child(in_a_world_of_its_own, NULL, 20000);
    assert_true(status >= 0 && WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- For a program that sleeps in poll(2) ---- */

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    while ((n = poll(&p, 1, 5000)) < 0 && errno == EINTR) continue;
    return n == 1 && (p.revents & POLLIN);
}

/* Each new supervisor rings once. */
static bool is_quiet(void *arg)
{
    struct pm_processes *p = arg;
    struct pollfd now = {.fd = p->watch, .events = POLLIN};
    uint64_t count;
    (void)!read(p->setup.bell, &count, sizeof count);
    return poll(&now, 1, 0) == 0;
}

/* With and without a pidfd; the descriptor is the same for as long as the pool is open. */
static void the_end_of_the_supervisor_is_readable(void **state)
{
    (void)state;
    for (int refuse = 0; refuse < 2; refuse++) {
        pm_process_refuse_pidfd(refuse);
        struct pm_processes *p = open_one();
        struct pm_executor *e = (struct pm_executor *)(void *)p;
        if (refuse) assert_true(p->pidfd < 0);
        int fd = pm_processes.watch(e);
        assert_true(fd > 2);
        for (int round = 0; round < 3; round++) {
            if (!pm_test_wait_until(is_quiet, p, 5000)) fail_msg("round %d: readable without an end", round);
            kill_supervisor(p);
            if (!readable(fd)) fail_msg("round %d%s: not readable", round, refuse ? ", no pidfd" : "");
            assert_int_equal(pm_processes.watch(e), fd);
        }
        pm_process_refuse_pidfd(false);
        close_one(p);
    }
}

/* ---- Memory ---- */

static uint64_t nothing(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    (void)run, (void)lo;
    return hi;
}

static int run_items(struct pm_processes *p, uint64_t count)
{
    struct pm_work work = {.body.run = nothing, .count = count, .chunk = 1, .begun = pm_now()};
    struct pm_result result = {0};
    int e = pm_processes.run((struct pm_executor *)(void *)p, &work, &result);
    assert_int_equal(result.nfailures, 0);
    return e;
}

static blkcnt_t taken(int fd)
{
    struct stat s;
    assert_int_equal(fstat(fd, &s), 0);
    return s.st_blocks;
}

/* A job of so many chunks that there is no memory for their words is refused, and leaves those of smaller jobs where they are. */
static void no_memory_for_more_words(void **state)
{
    (void)state;
    struct pm_processes *p = open_one();
    assert_int_equal(run_items(p, 2000), 0);
    int fd = p->arena.fd;
    blkcnt_t before = taken(fd);
    p->arena.fd = -1; /* so that the next pages cannot be had */
    assert_true(run_items(p, 100000) < 0);
    p->arena.fd = fd;
    assert_int_equal(taken(fd), before);
    assert_int_equal(run_items(p, 2000), 0);
    assert_int_equal(run_items(p, 100000), 0);
    assert_true(taken(fd) > before);
    close_one(p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pid_that_is_another_process_now),
        cmocka_unit_test(a_pid_that_is_another_child_now),
        cmocka_unit_test(no_memory_for_more_words),
        cmocka_unit_test(the_end_of_the_supervisor_is_readable),
    };
    return PM_TEST_MAIN("processes", tests);
}

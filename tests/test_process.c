/* shm/process.h, each test with pidfds and again with pidfd_open refused. */
#include "shm/process.h"
#include "tests/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static bool refuse; /* the mode under test */

static int with_pidfd(void **state)
{
    (void)state;
    refuse = false;
    pm_process_refuse_pidfd(false);
    return 0;
}

static int without_pidfd(void **state)
{
    (void)state;
    refuse = true;
    pm_process_refuse_pidfd(true);
    return 0;
}

static int allow_pidfd(void **state)
{
    (void)state;
    pm_process_refuse_pidfd(false);
    return 0;
}

/* A child that lives until `hold` is closed here, and has said that it runs. */
struct child {
    struct pm_process process;
    int hold, pidfd;
};

static void *wait_for_eof(void *arg)
{
    char byte;
    while (read(*(int *)arg, &byte, 1) < 0 && errno == EINTR) continue;
    _exit(7);
}

static void child_main(int hold, int ready, const char *name, bool leader_leaves)
{
    static int fd;
    fd = hold;
    signal(SIGTERM, SIG_DFL);
    if (name) prctl(PR_SET_NAME, name);
    pthread_t thread;
    if (leader_leaves && pthread_create(&thread, NULL, wait_for_eof, &fd) != 0) _exit(1);
    if (write(ready, "r", 1) != 1) _exit(1);
    close(ready);
    if (leader_leaves) pthread_exit(NULL);
    wait_for_eof(&fd);
}

static struct child start(const char *name, bool leader_leaves)
{
    int hold[2], ready[2];
    char byte;
    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        close(ready[0]);
        child_main(hold[0], ready[1], name, leader_leaves);
    }
    assert_true(pid > 0);
    close(hold[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    struct child child = {.hold = hold[1]};
    assert_int_equal(pm_process_of(pid, &child.process), 0);
    child.pidfd = pm_process_watch(&child.process);
    if (refuse) assert_int_equal(child.pidfd, -ENOSYS);
    if (child.pidfd >= 0) assert_int_equal(fcntl(child.pidfd, F_GETFD), FD_CLOEXEC);
    return child;
}

static int reap(struct child *child)
{
    int status = -1;
    close(child->hold);
    if (child->pidfd >= 0) close(child->pidfd);
    assert_int_equal(waitpid(child->process.pid, &status, 0), child->process.pid);
    return status;
}

static void identity_is_pid_and_start(void **state)
{
    (void)state;
    struct pm_process me, again;
    assert_int_equal(pm_process_of(getpid(), &me), 0);
    assert_int_equal(me.pid, getpid());
    assert_true(me.start > 0);
    assert_int_equal(pm_process_of(getpid(), &again), 0);
    assert_true(me.start == again.start);
    assert_false(pm_process_ended(&me, -1));
    assert_int_equal(pm_process_signal(&me, -1, 0), 0);

    assert_int_equal(pm_process_of(0, &again), -ESRCH);
    assert_int_equal(again.pid, 0);
    assert_int_equal(pm_process_of(-1, &again), -ESRCH);
    assert_int_equal(pm_process_of(0x7ffffff0, &again), -ESRCH);
}

static void nobody_has_ended(void **state)
{
    (void)state;
    struct pm_process nobody = {0};
    assert_int_equal(pm_process_watch(&nobody), -ESRCH);
    assert_true(pm_process_ended(&nobody, -1));
    assert_int_equal(pm_process_wait(&nobody, -1, -1), 0);
    assert_int_equal(pm_process_signal(&nobody, -1, SIGKILL), -ESRCH); /* kill(0) would be our whole group */
}

static void a_name_with_brackets_does_not_mislead(void **state)
{
    (void)state;
    struct child plain = start(NULL, false), odd = start(") Z 1 (a b) 0", false);
    assert_true(odd.process.start >= plain.process.start);
    assert_true(odd.process.start < plain.process.start + 1000000);
    assert_false(pm_process_ended(&odd.process, -1));
    reap(&odd);
    reap(&plain);
}

static void the_end_is_seen_and_not_reaped(void **state)
{
    (void)state;
    struct child child = start(NULL, false);
    assert_false(pm_process_ended(&child.process, child.pidfd));
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 0), -ETIMEDOUT);
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 15), -ETIMEDOUT);
    assert_int_equal(pm_process_signal(&child.process, child.pidfd, SIGKILL), 0);
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 20000), 0);
    /* Now a zombie. */
    assert_true(pm_process_ended(&child.process, child.pidfd));
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, -1), 0);
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 0), 0);
    assert_int_equal(pm_process_signal(&child.process, child.pidfd, SIGKILL), -ESRCH);
    struct pm_process zombie;
    assert_int_equal(pm_process_of(child.process.pid, &zombie), 0);
    assert_true(zombie.start == child.process.start);
    int status = reap(&child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* Now gone. */
    assert_true(pm_process_ended(&child.process, -1));
    assert_int_equal(pm_process_signal(&child.process, -1, SIGKILL), -ESRCH);
    assert_true(pm_process_watch(&child.process) < 0);
}

static void a_wait_without_limit_ends_with_the_process(void **state)
{
    (void)state;
    struct child child = start(NULL, false);
    close(child.hold);
    child.hold = -1;
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, -1), 0);
    int status = reap(&child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void a_reused_pid_is_told_from_the_old_process(void **state)
{
    (void)state;
    struct child child = start(NULL, false);
    struct pm_process old = {.pid = child.process.pid, .start = child.process.start - 1};
    assert_true(pm_process_ended(&old, -1));
    assert_int_equal(pm_process_wait(&old, -1, -1), 0);
    assert_int_equal(pm_process_watch(&old), refuse ? -ENOSYS : child.pidfd >= 0 ? -ESRCH : child.pidfd);
    assert_int_equal(pm_process_signal(&old, -1, SIGKILL), -ESRCH);
    assert_false(pm_process_ended(&child.process, child.pidfd)); /* the one that has the pid now was not hit */
    /* A start of 0 is "not known": the pid alone must do. */
    struct pm_process unknown = {.pid = child.process.pid};
    assert_false(pm_process_ended(&unknown, -1));
    int status = reap(&child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static bool leader_is_zombie(void *arg)
{
    char path[40], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", *(pid_t *)arg);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 && strstr(text, ") Z ");
}

static void a_process_whose_first_thread_left_still_runs(void **state)
{
    (void)state;
    struct child child = start(NULL, true);
    assert_true(pm_test_wait_until(leader_is_zombie, &child.process.pid, 20000));
    assert_false(pm_process_ended(&child.process, child.pidfd));
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 5), -ETIMEDOUT);
    assert_int_equal(pm_process_signal(&child.process, child.pidfd, SIGKILL), 0);
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 20000), 0);
    int status = reap(&child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_stopped_process_has_not_ended(void **state)
{
    (void)state;
    struct child child = start(NULL, false);
    int status;
    assert_int_equal(pm_process_signal(&child.process, child.pidfd, SIGSTOP), 0);
    assert_int_equal(waitpid(child.process.pid, &status, WUNTRACED), child.process.pid);
    assert_true(WIFSTOPPED(status));
    assert_false(pm_process_ended(&child.process, child.pidfd));
    assert_int_equal(pm_process_signal(&child.process, child.pidfd, SIGKILL), 0);
    assert_int_equal(pm_process_wait(&child.process, child.pidfd, 20000), 0);
    reap(&child);
}

static void a_bad_descriptor_falls_back(void **state)
{
    (void)state;
    struct child child = start(NULL, false);
    int closed = dup(child.hold);
    close(closed);
    assert_false(pm_process_ended(&child.process, closed));
    assert_int_equal(pm_process_signal(&child.process, closed, SIGKILL), 0);
    assert_int_equal(pm_process_wait(&child.process, closed, 20000), 0);
    assert_true(pm_process_ended(&child.process, closed));
    reap(&child);
}

/* In an empty root directory: there is no /proc. */
static int without_proc(void *arg)
{
    (void)arg;
    const char *empty = getenv("TMPDIR");
    if (geteuid() != 0) unshare(CLONE_NEWUSER); /* may be forbidden: then chroot() is, too */
    if (!empty || chroot(empty) != 0 || chdir("/") != 0) return 77;
    pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    struct pm_process process;
    int status = 0, wrong = 0;
    wrong |= (pm_process_of(pid, &process) != 0 || process.pid != pid || process.start != 0) << 0;
    wrong |= (pm_process_ended(&process, -1) || pm_process_wait(&process, -1, 5) != -ETIMEDOUT) << 1;
    wrong |= (pm_process_signal(&process, -1, SIGKILL) != 0) << 2;
    wrong |= (pm_process_wait(&process, -1, 20000) != 0) << 3;
    wrong |= (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) << 4; /* nobody has reaped it */
    wrong |= (!pm_process_ended(&process, -1) || pm_process_of(pid, &process) != -ESRCH) << 5;
    return wrong;
}

static void without_proc_a_parent_still_sees_its_children_end(void **state)
{
    (void)state;
    int status = pm_test_run_child(without_proc, NULL, 30000);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define BOTH(test) \
    {#test, test, with_pidfd, allow_pidfd, NULL}, { #test "_refused", test, without_pidfd, allow_pidfd, NULL }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH(identity_is_pid_and_start),
        BOTH(nobody_has_ended),
        BOTH(a_name_with_brackets_does_not_mislead),
        BOTH(the_end_is_seen_and_not_reaped),
        BOTH(a_wait_without_limit_ends_with_the_process),
        BOTH(a_reused_pid_is_told_from_the_old_process),
        BOTH(a_process_whose_first_thread_left_still_runs),
        BOTH(a_stopped_process_has_not_ended),
        BOTH(a_bad_descriptor_falls_back),
        cmocka_unit_test(without_proc_a_parent_still_sees_its_children_end),
    };
    return PM_TEST_MAIN("process", tests);
}

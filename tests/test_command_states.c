/* Commands of programs in odd states: SIGCHLD ignored, no standard streams, no descriptors, no pidfds, forked, killed.
 * Sets in themselves are in test_commands.c. */
#include "tests/commands.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- In children that make their state odd; these return what is wrong, 0 when nothing is ---- */

static bool writes(pmap_command_options *o, const char *text)
{
    pmap_command *c;
    bool right = pmap_command_run(o, &c) == 0 && strcmp(pmap_command_output(c, 1, NULL), text) == 0;
    if (!right) fprintf(stderr, "%s; it wrote: %s\n", pmap_error(), pmap_command_output(c, 1, NULL));
    return pmap_command_close(c) == 0 && right;
}

/* From here on this system call, when its first argument has any of those bits, gives ENOSYS; bits = 0: always. */
static int refuse(uint32_t call, uint32_t bits)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])), /* its lower half */
        BPF_JUMP(bits ? BPF_JMP | BPF_JSET | BPF_K : BPF_JMP | BPF_JGE | BPF_K, bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -1 : 0;
}

/* Where there are no pidfds (old kernels, emulations, strict filters) everything works, only later. */
static int no_pidfds(void *arg)
{
    pmap_command *c;
    pmap_commands *set;
    pmap_status s = {.size = sizeof s};
    if (refuse(SYS_clone, 0x1000 /* CLONE_PIDFD */)) return 77;
    pmap_commands_options p = PMAP_COMMANDS_OPTIONS_INIT;
    p.at_once = 2;
    p.spawners = arg ? 1 : 0;
    pmap_command_options o = options(ARGV("sh", "-c", "sleep 0.02; exit 5")), slow = options(ARGV("sleep", "1000"));
    o.out.to = PMAP_IO_NULL; /* so that nothing at all tells of its end */
    slow.timeout_s = 0.05;
    if (pmap_command_run(&o, &c) != PMAP_ESTATUS || pmap_command_status(c, -1, &s) || s.code != 5 ||
        pmap_command_close(c))
        return 1;
    if (pmap_command_run(&slow, &c) != PMAP_ESTATUS || pmap_command_status(c, -1, &s) || s.code != 124 ||
        pmap_command_close(c))
        return 2;
    slow.same_group = 1;
    if (pmap_command_run(&slow, &c) != PMAP_ESTATUS || pmap_command_status(c, -1, &s) || s.code != 124 ||
        pmap_command_close(c))
        return 3;
    if (pmap_commands_open(&set, &p)) return 4;
    for (int i = 0; i < 6; i++)
        if (pmap_commands_add(set, i % 2 ? &o : &slow, 1)) return 5;
    for (int i = 0; i < 6; i++)
        if (pmap_commands_next(set, 30, &c) || pmap_command_check(c) != PMAP_ESTATUS || pmap_command_close(c)) return 6;
    return pmap_commands_close(set) ? 7 : 0;
}

static int no_descriptors(void *arg)
{
    int first = dup(2), high = fcntl(2, F_DUPFD, 700); /* both would be inherited */
    (void)arg;
    pmap_command_options o = options(ARGV("ls", "/proc/self/fd")); /* which opens the directory as 3 */
    for (int round = 0; round < 2; round++) {
        if (!writes(&o, "0\n1\n2\n3\n")) return 1 + round;
        const int keep[] = {high, first};
        char with[40];
        (void)snprintf(with, sizeof with, "0\n1\n2\n3\n%s700\n", first == 3 ? "4\n" : "");
        if (first > 4) (void)snprintf(with, sizeof with, "0\n1\n2\n3\n%d\n700\n", first);
        o.keep = keep;
        o.keeps = 2;
        if (!writes(&o, with)) return 3 + round;
        o.keeps = 0;

        if (refuse(SYS_close_range, 0)) break; /* again where the kernel has none */
    }
    return 0;
}

static int clean_signals(void *arg)
{
    sigset_t all;
    (void)arg;
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 1; i <= 64; i++)
        if (i != SIGCHLD) (void)signal(i, SIG_IGN);
    pmap_command_options o = options(ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"));
    return !writes(&o, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static int no_streams(void *arg)
{
    (void)arg;
    (void)close(0);
    (void)close(1);
    (void)close(2);
    pmap_command_options o = options(ARGV("sh", "-c", "cat; echo error >&2; exec ls /proc/self/fd"));
    if (!writes(&o, "0\n1\n2\n3\n")) return 1;
    o = options(ARGV("cat"));
    o.input = "text";
    o.input_bytes = 4;
    o.err.to = PMAP_IO_PIPE;
    if (!writes(&o, "text")) return 2;
    o.out.to = PMAP_IO_INHERIT; /* of what is not there: /dev/null, not whatever comes to have that number */
    if (pmap_command_run(&o, NULL) != 0) return 3;
    pmap_commands *set;
    pmap_command *c = NULL;
    o.out.to = PMAP_IO_PIPE;
    if (pmap_commands_open(&set, NULL) || pmap_commands_add(set, &o, 1) || pmap_commands_next(set, 20, &c) || !c)
        return 4;
    if (strcmp(pmap_command_output(c, 1, NULL), "text") != 0 || pmap_command_close(c) || pmap_commands_close(set))
        return 5;
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 6;
    return 0;
}

/* Nobody can wait for the child then, but its end is seen, and its status where the kernel remembers it. */
static int children_ignored(void *arg)
{
    pmap_command *c;
    pmap_status s = {.size = sizeof s};
    if (arg) (void)signal(SIGCHLD, SIG_IGN);
    pmap_command_options o = options(ARGV("sh", "-c", "echo text; exit 3"));
    if (pmap_command_run(&o, &c) != PMAP_ESTATUS || strcmp(pmap_command_output(c, 1, NULL), "text\n") != 0) return 1;
    if (pmap_command_status(c, -1, &s) || s.cause != PMAP_CAUSE_EXIT || (s.code != 3 && s.code != -1)) return 2;
    if (pmap_command_close(c)) return 3;
    if (!arg) return 0;
    o.argv = ARGV("/nowhere");
    if (pmap_command_start(&c, &o) != PMAP_ENOENT) return 4;
    o.argv = ARGV("sleep", "1000");
    o.timeout_s = 0.05;
    if (pmap_command_run(&o, &c) != PMAP_ESTATUS || pmap_command_status(c, -1, &s) || s.cause != PMAP_CAUSE_TIMEOUT)
        return 5;
    return pmap_command_close(c) ? 6 : 0;
}

/* There are no descriptors for a set: refused, and the program's own are as they were. */
static int none_left_to_open(void *arg)
{
    int lowest = dup(2);
    (void)arg;
    (void)close(lowest);
    for (rlim_t more = 0; more < 2; more++) { /* for neither of the two that a set needs, and for one of them */
        struct rlimit few = {(rlim_t)lowest + more, (rlim_t)lowest + 2};
        pmap_commands *set = (pmap_commands *)(void *)&few;
        if (setrlimit(RLIMIT_NOFILE, &few)) return 4;
        if (pmap_commands_open(&set, NULL) != PMAP_ESYSTEM || set) return 1;
        for (int fd = 0; fd <= 2; fd++)
            if (fcntl(fd, F_GETFD) < 0) return 2;
        if (fcntl(lowest, F_GETFD) >= 0) return 3;
    }
    return 0;
}

/* Somebody waits for any child, as programs do that know of no other children. */
static int waited_by_others(void *arg)
{
    pmap_command *c;
    (void)arg;
    pmap_command_options o = options(ARGV("true"));
    if (pmap_command_start(&c, &o) || wait(NULL) <= 0 || pmap_command_wait(c, 20)) return 1;
    return pmap_command_close(c) ? 2 : 0;
}

static void odd_programs(const struct pm_path *path)
{
    (void)path;
    assert_int_equal(pm_test_run_child(no_descriptors, NULL, 20000), 0);
    int without = pm_test_run_child(no_pidfds, NULL, 20000);
    if (without != 77 << 8) { /* filters may be refused */
        assert_int_equal(without, 0);
        assert_int_equal(pm_test_run_child(no_pidfds, "", 20000), 0);
    }
    assert_int_equal(pm_test_run_child(clean_signals, NULL, 20000), 0);
    assert_int_equal(pm_test_run_child(no_streams, NULL, 20000), 0);
    assert_int_equal(pm_test_run_child(children_ignored, NULL, 20000), 0);
    assert_int_equal(pm_test_run_child(children_ignored, "", 20000), 0);
    assert_int_equal(pm_test_run_child(waited_by_others, NULL, 20000), 0);
    assert_int_equal(pm_test_run_child(none_left_to_open, NULL, 20000), 0);
}

/* A forked child has no part in its parent's commands, closes them without harm, and may have its own. */
static void forked(const struct pm_path *path)
{
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* its malloc() does not survive a fork while another thread is in it, and the set has threads */
#endif
    pmap_command *c, *own;
    pmap_commands *set = open_set(2, 1);
    int status;
    (void)path;
    pmap_command_options o = options(ARGV("cat")), t = options(ARGV("true"));
    o.in.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_start(&c, &o), 0);
    add(set, options(ARGV("sleep", "1000")));
    pid_t pid = fork();
    if (pid == 0) {
        bool right = pmap_command_poll(c) == PMAP_EFORK && pmap_command_wait(c, 1) == PMAP_EFORK &&
                     pmap_command_terminate(c) == PMAP_EFORK && pmap_command_close(c) == 0 &&
                     pmap_commands_cancel(set) == PMAP_EFORK && pmap_commands_next(set, 1, &own) == PMAP_EFORK &&
                     pmap_commands_close(set) == 0 && pmap_command_run(&t, NULL) == 0;
        _exit(right ? 0 : 1);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    EXPECT(pmap_command_communicate(c, "still there", 11, 20), 0);
    assert_string_equal(pmap_command_output(c, 1, NULL), "still there");
    EXPECT(pmap_command_close(c), 0);
    EXPECT(pmap_commands_next(set, 0, &c), PMAP_ETIMEDOUT);
    EXPECT(pmap_commands_close(set), 0);
}

/* A program that starts a command that is tied to it, tells its number, and is killed. */
static int tie(void *arg)
{
    int *pid = arg;
    pmap_command *c;
    pmap_command_options o = options(ARGV("sleep", "1000"));
    pmap_status s = {.size = sizeof s};
    o.tied = 1;
    if (pmap_command_start(&c, &o) || pmap_command_status(c, -1, &s)) return 1;
    *pid = s.pid;
    (void)raise(SIGKILL);
    return 2;
}

static bool has_ended(void *arg) { return kill(*(int *)arg, 0) < 0 && errno == ESRCH; }

static void tied(const struct pm_path *path)
{
    (void)path;
    int *pid = mmap(NULL, sizeof *pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(pid != MAP_FAILED);
    assert_int_equal(pm_test_run_child(tie, pid, 20000), SIGKILL);
    assert_true(*pid > 0);
    if (!pm_test_wait_until(has_ended, pid, 5000)) fail_msg("sleep %d has outlived what it was tied to", *pid);
    munmap(pid, sizeof *pid);
}

static const struct pm_path_test tests[] = {
    {"tied", tied, PM_ON_NONE},
    {"odd_programs", odd_programs, PM_ON_NONE},
    {"forked", forked, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("command_states", tests); }

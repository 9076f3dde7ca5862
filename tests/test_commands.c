/* Many commands at once, and commands of programs in odd states: SIGCHLD ignored, no standard streams, no pidfds,
 * forked. */
#include "tests/command.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pmap_commands *open_set(unsigned at_once, unsigned spawners)
{
    pmap_commands *set;
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    o.at_once = at_once;
    o.spawners = spawners;
    EXPECT(pmap_commands_open(&set, &o), 0);
    return set;
}

static void add(pmap_commands *set, pmap_command_options o) { EXPECT(pmap_commands_add(set, &o, 1), 0); }

/* The next one, which must come. */
static pmap_command *next(pmap_commands *set)
{
    pmap_command *c;
    EXPECT(pmap_commands_next(set, 60, &c), 0);
    assert_non_null(c);
    return c;
}

static void none_left(pmap_commands *set)
{
    pmap_command *c = (pmap_command *)set;
    assert_int_equal(pmap_commands_count(set), 0);
    EXPECT(pmap_commands_next(set, 60, &c), 0);
    assert_null(c);
    EXPECT(pmap_commands_close(set), 0);
}

static void ten_sleeps(unsigned at_once, double least, double most)
{
    pmap_commands *set = open_set(at_once, 0);
    double t = now_s();
    for (int i = 0; i < 10; i++) add(set, options(ARGV("sleep", "0.1")));
    assert_int_equal(pmap_commands_count(set), 10);
    for (int i = 0; i < 10; i++) {
        pmap_command *c = next(set);
        EXPECT(pmap_command_check(c), 0);
        EXPECT(pmap_command_close(c), 0);
    }
    t = now_s() - t;
    assert_true(t >= least);
    if (t >= most) fail_msg("ten sleeps of 0.1 s, %u at once, took %g s", at_once, t);
    none_left(set);
}

static void bounded(const struct pm_path *path)
{
    (void)path;
    ten_sleeps(10, 0.1, 0.9); /* all together; one after the other it would be 1 s */
    ten_sleeps(4, 0.3, 10);   /* the bound is kept: three rounds */
}

/* Each is handed back once, with its own output. */
static void all_outputs(unsigned spawners)
{
    enum { N = 200 };
    static int number[N], seen[N];
    char word[16];
    pmap_commands *set = open_set(4, spawners);
    for (int i = 0; i < N; i++) {
        (void)snprintf(word, sizeof word, "%d", number[i] = i);
        pmap_command_options o = options(ARGV("printf", "%s", word)); /* both are gone when it is started */
        o.user = &number[i];
        seen[i] = 0;
        add(set, o);
        word[0] = '?';
    }
    for (int i = 0; i < N; i++) {
        pmap_command *c = next(set);
        EXPECT(pmap_command_check(c), 0);
        int n = *(int *)pmap_command_user(c);
        (void)snprintf(word, sizeof word, "%d", n);
        assert_string_equal(pmap_command_output(c, 1, NULL), word);
        assert_int_equal(seen[n]++, 0);
        EXPECT(pmap_command_close(c), 0);
    }
    none_left(set);
}

static void many(const struct pm_path *path)
{
    (void)path;
    all_outputs(0);
    all_outputs(2);
}

static void all_kinds(unsigned spawners)
{
    pmap_commands *set = open_set(3, spawners);
    pmap_command_options o[2] = {options(ARGV("cat")), options(ARGV("tr", "a-z", "A-Z"))};
    static char big[200000];
    int wrong = 0, chain = 0, late = 0;
    memset(big, 'x', sizeof big);
    o[0].input = big;
    o[0].input_bytes = sizeof big;
    o[0].user = &chain;
    pmap_command_options absent = options(ARGV("/nowhere/at-all")), slow = options(ARGV("sleep", "1000"));
    absent.user = &wrong;
    slow.user = &late;
    slow.timeout_s = 0.05;
    for (int i = 0; i < 5; i++) {
        EXPECT(pmap_commands_add(set, o, 2), 0);
        add(set, absent);
        add(set, slow);
    }
    EXPECT(pmap_commands_add(set, o, 0), PMAP_EINVAL);
    for (int i = 0; i < 15; i++) {
        pmap_command *c = next(set);
        size_t n;
        int *what = pmap_command_user(c), error = pmap_command_check(c);
        ++*what;
        EXPECT(error, what == &chain ? 0 : what == &wrong ? PMAP_ENOENT : PMAP_ESTATUS);
        if (what == &wrong) EXPECT_TEXT("/nowhere/at-all");
        if (what == &late) expect_status(c, -1, PMAP_CAUSE_TIMEOUT, SIGTERM, 124);
        const char *out = pmap_command_output(c, 1, &n);
        if (what == &chain) assert_true(n == sizeof big && out[0] == 'X' && out[n - 1] == 'X');
        EXPECT(pmap_command_close(c), 0);
    }
    assert_true(wrong == 5 && chain == 5 && late == 5);
    none_left(set);
}

static void kinds(const struct pm_path *path)
{
    (void)path;
    all_kinds(0);
    all_kinds(2);
}

/* Ends that pipes tell of: much that is written at once, a pipe that a process left behind keeps open, and more commands than ever before. */
static void all_pipes(unsigned spawners)
{
    enum { BIG = 30000000, N = 150 };
    pmap_commands *set = open_set(N, spawners);
    pmap_command_options big = options(ARGV("head", "-c", "30000000", "/dev/zero")), left = options(ARGV("sh", "-c", "sleep 0.1 & echo text"));
    int bigs = 0, lefts = 0;
    big.user = &bigs;
    left.user = &lefts;
    left.grace_s = 30; /* the pipe's end is waited for, not the grace */
    double t = now_s();
    for (int i = 0; i < N; i++) add(set, i % 50 ? left : big);
    for (int i = 0; i < N; i++) {
        pmap_command *c = next(set);
        size_t n;
        int *what = pmap_command_user(c);
        ++*what;
        EXPECT(pmap_command_check(c), 0);
        const char *out = pmap_command_output(c, 1, &n);
        if (what == &bigs) assert_int_equal(n, BIG);
        else assert_string_equal(out, "text\n");
        EXPECT(pmap_command_close(c), 0);
    }
    assert_true(bigs == N / 50 && lefts == N - N / 50);
    if (now_s() - t > 20) fail_msg("%u spawners: %g s", spawners, now_s() - t);
    none_left(set);
    assert_int_equal(pm_test_reap(5000), 0); /* the sleeps have become this program's, which is their reaper */
}

static void pipes(const struct pm_path *path)
{
    (void)path;
    all_pipes(0);
    all_pipes(2);
}

/* A start that blocks keeps its spawner, and nobody else: time-outs are kept, output is read, ends are handed back. */
static void a_start_that_blocks(const struct pm_path *path)
{
    char fifo[PATH_MAX];
    (void)path;
    pmap_commands *set = open_set(3, 1);
    pmap_command_options slow = options(ARGV("sleep", "1000")), stuck = options(ARGV("cat")), big = options(ARGV("head", "-c", "300000", "/dev/zero"));
    assert_int_equal(mkfifo(in_scratch(fifo, "fifo"), 0600), 0);
    slow.timeout_s = 0.1;
    slow.user = &slow;
    big.user = &big;
    stuck.in = (pmap_redirect){.to = PMAP_IO_FILE, .path = fifo}; /* whose opening waits for a writer */
    add(set, slow);
    add(set, big);
    add(set, stuck);
    for (int i = 0; i < 2; i++) {
        size_t n;
        pmap_command *c = next(set);
        if (pmap_command_user(c) == &slow) expect_status(c, -1, PMAP_CAUSE_TIMEOUT, SIGTERM, 124);
        else assert_ptr_equal(pmap_command_user(c), &big);
        (void)pmap_command_output(c, 1, &n);
        if (pmap_command_user(c) == &big) assert_int_equal(n, 300000);
        EXPECT(pmap_command_close(c), 0);
    }
    pmap_command *c;
    EXPECT(pmap_commands_next(set, 0.05, &c), PMAP_ETIMEDOUT);
    int fd = open(fifo, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    EXPECT(pmap_commands_next(set, 0.05, &c), PMAP_ETIMEDOUT); /* it runs, and reads */
    assert_int_equal(close(fd), 0);
    c = next(set);
    EXPECT(pmap_command_check(c), 0);
    EXPECT(pmap_command_close(c), 0);
    none_left(set);
    assert_int_equal(unlink(fifo), 0);
}

static void cancel_and_close(unsigned spawners)
{
    pmap_commands *set = open_set(2, spawners);
    pmap_command *c;
    int ended[3] = {0, 0, 0};
    add(set, options(ARGV("sleep", "1000")));
    add(set, options(ARGV("true")));
    c = next(set); /* the first to end, not the first to start */
    EXPECT(pmap_command_check(c), 0);
    EXPECT(pmap_command_close(c), 0);
    EXPECT(pmap_commands_next(set, 0.02, &c), PMAP_ETIMEDOUT);
    assert_null(c);
    for (int i = 0; i < 5; i++) add(set, options(ARGV("sleep", "1001")));
    EXPECT(pmap_commands_cancel(set), 0);
    while (pmap_commands_next(set, 60, &c) == 0 && c) {
        int error = pmap_command_check(c);
        ended[error == PMAP_ESTATUS ? 0 : error == PMAP_ECANCELLED ? 1 : 2]++;
        EXPECT(pmap_command_close(c), 0);
    }
    assert_true(ended[0] + ended[1] == 6 && ended[0] >= 1 && ended[1] >= 4 && ended[2] == 0);
    for (int i = 0; i < 5; i++) add(set, options(ARGV("sleep", "1002"))); /* it can go on, and be closed at any time */
    EXPECT(pmap_commands_close(set), 0);
}

static void cancelling(const struct pm_path *path)
{
    pmap_commands *set;
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    (void)path;
    cancel_and_close(0);
    cancel_and_close(2);
    EXPECT(pmap_commands_open(NULL, NULL), PMAP_EINVAL);
    o.spawners = 1000;
    EXPECT(pmap_commands_open(&set, &o), PMAP_EINVAL);
    EXPECT(pmap_commands_open(&set, NULL), 0);
    EXPECT(pmap_commands_next(set, 0, NULL), PMAP_EINVAL);
    none_left(set);
    EXPECT(pmap_commands_close(NULL), 0);
    assert_int_equal(pmap_commands_count(NULL), 0);
}

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

/* ---- Output by pieces, limits, a set that changes its size and is watched from outside ---- */

struct pieces {
    size_t bytes[3];
    uint64_t sum[3];
};

static void take_piece(void *user, int stream, const char *data, size_t bytes)
{
    struct pieces *p = user;
    for (size_t i = 0; i < bytes; i++) p->sum[stream] = p->sum[stream] * 31 + (unsigned char)data[i];
    p->bytes[stream] += bytes;
}

static void by_pieces(const struct pm_path *path)
{
    (void)path;
    struct pieces p = {{0}, {0}}, expected = {{0}, {0}};
    pmap_commands *set = open_set(2, 1);
    pmap_command_options o = options(ARGV("sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i + 1)); done; echo end >&2"));
    o.err.to = PMAP_IO_PIPE;
    o.output = take_piece;
    o.user = &p;
    o.most_output = 10; /* nothing is kept, so nothing is too much */
    add(set, o);
    pmap_command *c = next(set);
    EXPECT(pmap_command_check(c), 0);
    assert_string_equal(pmap_command_output(c, 1, NULL), "");
    EXPECT(pmap_command_close(c), 0);
    none_left(set);
    char line[32];
    for (int i = 0; i < 30000; i++) take_piece(&expected, 1, line, (size_t)sprintf(line, "line %d\n", i));
    take_piece(&expected, 2, "end\n", 4);
    assert_memory_equal(&p, &expected, sizeof p);
}

static void limits(const struct pm_path *path)
{
    (void)path;
    cpu_set_t mine;
    unsigned last = 0;
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    for (unsigned i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &mine)) last = i;
    char expected[64], *text;
    pmap_command_options o = options(ARGV("sed", "-n", "s/^Cpus_allowed_list:[ \t]*//p", "/proc/self/status"));
    o.cpu = last + 1;
    text = output_of(&o);
    (void)snprintf(expected, sizeof expected, "%u\n", last);
    assert_string_equal(text, expected);
    free(text);

    o = options(ARGV("sh", "-c", "ulimit -d"));
    o.memory = 512 << 20;
    text = output_of(&o);
    assert_string_equal(text, "524288\n"); /* KiB */
    free(text);

    pmap_command *c;
    o = options(ARGV("true"));
    o.cpu = 8192; /* no machine of ours has it */
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o.cpu = 8193; /* nor has any */
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    assert_null(c);
}

static int wait_readable(pmap_commands *set)
{
    struct pollfd p = {.fd = pmap_commands_fd(set), .events = POLLIN};
    return poll(&p, 1, 20000);
}

static void resized(const struct pm_path *path)
{
    (void)path;
    for (unsigned spawners = 0; spawners < 2; spawners++) {
        pmap_commands *set = open_set(1, spawners);
        pmap_command *c;
        int gate[2];
        assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
        pmap_command_options first = options(ARGV("cat")); /* runs until the gate is shut */
        first.in = (pmap_redirect){.to = PMAP_IO_FD, .fd = gate[0]};
        add(set, first);
        add(set, options(ARGV("true")));
        EXPECT(pmap_commands_next(set, 0.05, &c), PMAP_ETIMEDOUT); /* the second waits for the first */
        EXPECT(pmap_commands_resize(set, 2), 0);
        for (c = NULL; !c;) { /* by its descriptor alone it gets there */
            assert_int_equal(wait_readable(set), 1);
            int e = pmap_commands_next(set, 0, &c);
            assert_true(e == 0 || e == PMAP_ETIMEDOUT);
        }
        EXPECT(pmap_command_close(c), 0);
        EXPECT(pmap_commands_resize(set, 1), 0);
        add(set, options(ARGV("true")));
        EXPECT(pmap_commands_next(set, 0.05, &c), PMAP_ETIMEDOUT);
        assert_int_equal(close(gate[1]), 0);
        assert_int_equal(close(gate[0]), 0);
        for (int i = 0; i < 2; i++) EXPECT(pmap_command_close(next(set)), 0);
        none_left(set);
    }
    for (unsigned spawners = 0; spawners < 2; spawners++) { /* more than a pipe holds and one look reads */
        pmap_commands *set = open_set(2, spawners);
        pmap_command *c = NULL;
        size_t n;
        add(set, options(ARGV("head", "-c", "30000000", "/dev/zero")));
        while (!c) {
            if (wait_readable(set) != 1) fail_msg("%u spawners: nothing tells that there is output to be read", spawners);
            int e = pmap_commands_next(set, 0, &c);
            assert_true(e == 0 || e == PMAP_ETIMEDOUT);
        }
        EXPECT(pmap_command_check(c), 0);
        (void)pmap_command_output(c, 1, &n);
        assert_int_equal(n, 30000000);
        EXPECT(pmap_command_close(c), 0);
        none_left(set);
    }
    EXPECT(pmap_commands_resize(NULL, 1), PMAP_EINVAL);
    EXPECT(pmap_commands_fd(NULL), PMAP_EINVAL);
}

static void taken_back(const struct pm_path *path)
{
    (void)path;
    for (unsigned spawners = 0; spawners < 2; spawners++) {
        pmap_commands *set = open_set(1, spawners);
        pmap_command *c;
        char name[PATH_MAX];
        pmap_command_options first = options(ARGV("sh", "-c", "trap 'echo told; exit 7' USR1; : >\"$0\"; while :; do :; done",
                                                  in_scratch(name, "it_runs")));
        add(set, first);
        add(set, options(ARGV("true")));
        double end = now_s() + 20;
        while (access(name, F_OK) != 0 && now_s() < end) EXPECT(pmap_commands_next(set, 0.001, &c), PMAP_ETIMEDOUT);
        EXPECT(pmap_commands_unqueue(set), 0);
        c = next(set);
        EXPECT(pmap_command_check(c), PMAP_ECANCELLED);
        EXPECT(pmap_command_close(c), 0);
        EXPECT(pmap_commands_signal(set, SIGUSR1), 0);
        c = next(set);
        expect_status(c, -1, PMAP_CAUSE_EXIT, 7, 7);
        assert_string_equal(pmap_command_output(c, 1, NULL), "told\n");
        EXPECT(pmap_command_close(c), 0);
        EXPECT(pmap_commands_signal(set, 0), PMAP_EINVAL);
        none_left(set);
        assert_int_equal(unlink(name), 0);
    }
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

/* As make would: three tokens besides the one that everybody has; so four of ten commands run at once, and in the end all tokens are back. */
static void rationed(const struct pm_path *path)
{
    (void)path;
    for (unsigned spawners = 0; spawners < 2; spawners++) {
        int tokens[2], n = -1;
        char flags[100], dir[PATH_MAX];
        pmap_commands *set;
        pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
        assert_int_equal(pipe(tokens), 0);
        assert_int_equal(write(tokens[1], "abc", 3), 3);
        (void)snprintf(flags, sizeof flags, " -j4 --jobserver-auth=%d,%d", tokens[0], tokens[1]);
        assert_int_equal(setenv("MAKEFLAGS", flags, 1), 0);
        o.at_once = 10;
        o.spawners = 2 * spawners;
        o.jobserver = 1;
        EXPECT(pmap_commands_open(&set, &o), 0);
        assert_int_equal(unsetenv("MAKEFLAGS"), 0);
        assert_int_equal(mkdir(in_scratch(dir, "at_work"), 0700), 0);
        /* Each counts how many there are while it is there. */
        for (int i = 0; i < 10; i++)
            add(set, options(ARGV("sh", "-c", ": >\"$0/$$\"; sleep 0.05; ls \"$0\" | wc -l; rm \"$0/$$\"", dir)));
        int most = 0;
        for (int i = 0; i < 10; i++) {
            pmap_command *c = next(set);
            int there = atoi(pmap_command_output(c, 1, NULL));
            if (there > most) most = there;
            EXPECT(pmap_command_check(c), 0);
            EXPECT(pmap_command_close(c), 0);
        }
        assert_in_range(most, 2, 4);
        none_left(set);
        assert_int_equal(ioctl(tokens[0], FIONREAD, &n), 0);
        assert_int_equal(n, 3);
        assert_int_equal(rmdir(dir), 0);
        assert_int_equal(close(tokens[0]) | close(tokens[1]), 0);
    }
}

static const struct pm_path_test tests[] = {
    {"rationed", rationed, PM_ON_NONE},
    {"taken back", taken_back, PM_ON_NONE},
    {"tied", tied, PM_ON_NONE},
    {"by pieces", by_pieces, PM_ON_NONE},
    {"limits", limits, PM_ON_NONE},
    {"resized", resized, PM_ON_NONE},
    {"bounded", bounded, PM_ON_NONE},
    {"many", many, PM_ON_NONE},
    {"kinds", kinds, PM_ON_NONE},
    {"pipes", pipes, PM_ON_NONE},
    {"a start that blocks", a_start_that_blocks, PM_ON_NONE},
    {"cancelling", cancelling, PM_ON_NONE},
    {"odd_programs", odd_programs, PM_ON_NONE},
    {"forked", forked, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("commands", tests); }

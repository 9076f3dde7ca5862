/* Sets of commands: many at once, all kinds of ends, output by pieces, limits, tokens of make, and sets that are changed,
 * cancelled and watched. */
#include "tests/commands.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static void ten_sleeps(unsigned at_once, double least, double most)
{
    pmap_commands *set = open_set(at_once, 0);
    double t = seconds();
    for (int i = 0; i < 10; i++) add(set, options(ARGV("sleep", "0.1")));
    assert_int_equal(pmap_commands_count(set), 10);
    for (int i = 0; i < 10; i++) {
        pmap_command *c = next(set);
        EXPECT(pmap_command_check(c), 0);
        EXPECT(pmap_command_close(c), 0);
    }
    t = seconds() - t;
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
    double t = seconds();
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
    if (seconds() - t > 20) fail_msg("%u spawners: %g s", spawners, seconds() - t);
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
        double end = seconds() + 20;
        while (access(name, F_OK) != 0 && seconds() < end) EXPECT(pmap_commands_next(set, 0.001, &c), PMAP_ETIMEDOUT);
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
    {"by pieces", by_pieces, PM_ON_NONE},
    {"limits", limits, PM_ON_NONE},
    {"resized", resized, PM_ON_NONE},
    {"bounded", bounded, PM_ON_NONE},
    {"many", many, PM_ON_NONE},
    {"kinds", kinds, PM_ON_NONE},
    {"pipes", pipes, PM_ON_NONE},
    {"a start that blocks", a_start_that_blocks, PM_ON_NONE},
    {"cancelling", cancelling, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("commands", tests); }

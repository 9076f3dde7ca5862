/* One command: how it is started, what it is given, what is captured of it, how it is ended, and what it says of its
 * end.  Chains too.
 * tests/test_commands.c is about many at once. */
#include "tests/command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG (10u << 20)

/* ---- Starting ---- */

static int start(const char *const *argv, const char *cwd)
{
    pmap_command *c = (pmap_command *)argv; /* must be overwritten */
    pmap_command_options o = options(argv);
    o.cwd = cwd;
    int error = pmap_command_start(&c, &o);
    if (error == 0) EXPECT(pmap_command_close(c), 0);
    else assert_null(c);
    return error;
}

static void start_errors(const struct pm_path *path)
{
    char plain[PATH_MAX], broken[PATH_MAX], bare[PATH_MAX], directories[PATH_MAX + 40];
    (void)path;
    EXPECT(start(ARGV("/nowhere/at-all"), NULL), PMAP_ENOENT);
    EXPECT_TEXT("/nowhere/at-all");
    EXPECT(start(ARGV("no-such-program-anywhere", "x"), NULL), PMAP_ENOENT);
    EXPECT_TEXT("no-such-program-anywhere");
    EXPECT(start(ARGV(""), NULL), PMAP_ENOENT);
    EXPECT(start(ARGV("true"), "/nowhere"), PMAP_ENOENT);
    EXPECT_TEXT("directory '/nowhere'");
    EXPECT(start(ARGV("/"), NULL), PMAP_EACCES);
    write_file(in_scratch(plain, "plain"), "text\n", 0644);
    EXPECT(start(ARGV(plain), NULL), PMAP_EACCES);
    EXPECT_TEXT("plain");
    EXPECT(start(ARGV("true"), plain), PMAP_ESYSTEM);
    EXPECT_TEXT("Not a directory");
    write_file(in_scratch(broken, "broken"), "#!/nowhere/sh\n", 0755);
    EXPECT(start(ARGV(broken), NULL), PMAP_ENOENT);
    EXPECT_TEXT("interpreter");
    write_file(in_scratch(bare, "bare"), "echo no head\n", 0755);
    EXPECT(start(ARGV(bare), NULL), PMAP_ESYSTEM); /* no shell unless one is asked for */
    EXPECT(start(ARGV("./bare"), getenv("TMPDIR")), PMAP_ESYSTEM);

    /* What may not be run is told only when nothing else in the path can be. */
    (void)snprintf(directories, sizeof directories, "PATH=%s:/bin:/usr/bin", getenv("TMPDIR"));
    const char *const env[] = {directories, NULL}, *const empty[] = {"PATH=/nowhere", NULL};
    write_file(in_scratch(bare, "true"), "#!/nowhere\n", 0644);
    pmap_command_options o = options(ARGV("true"));
    o.env = env;
    EXPECT(pmap_command_run(&o, NULL), 0);
    o.argv = ARGV("plain");
    EXPECT(pmap_command_run(&o, NULL), PMAP_EACCES);
    o.argv = ARGV("true");
    o.env = empty;
    EXPECT(pmap_command_run(&o, NULL), PMAP_ENOENT);
    assert_int_equal(unlink(plain) | unlink(broken) | unlink(bare) | unlink(in_scratch(bare, "bare")), 0);
}

static void wrong_options(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    EXPECT(pmap_command_start(NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_command_start(&c, NULL), PMAP_EINVAL);
    pmap_command_options o = PMAP_COMMAND_OPTIONS_INIT;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o = options(ARGV("true"));
    o.size = 3;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o = options(ARGV("true"));
    o.timeout_s = -1;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o = options(ARGV("true"));
    o.grace_s = NAN;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o = options(ARGV("true"));
    o.out.to = PMAP_IO_FILE;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o.out.to = PMAP_IO_STDOUT;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o.out = (pmap_redirect){PMAP_IO_FD, 987654, NULL};
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    EXPECT_TEXT("987654");
    o = options(ARGV("true"));
    o.input = "x";
    o.in.to = PMAP_IO_NULL;
    EXPECT(pmap_command_start(&c, &o), PMAP_EINVAL);
    o = options(ARGV("true"));
    o.in = (pmap_redirect){PMAP_IO_FILE, 0, "/nowhere/file"};
    EXPECT(pmap_command_start(&c, &o), PMAP_ENOENT);
    EXPECT_TEXT("/nowhere/file");
    pmap_command_options two[2] = {options(ARGV("true")), options(ARGV("true"))};
    EXPECT(pmap_command_chain(&c, two, 0), PMAP_EINVAL);
    two[0].out.to = PMAP_IO_NULL;
    EXPECT(pmap_command_chain(&c, two, 2), PMAP_EINVAL);
    EXPECT(pmap_command_wait(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_command_check(NULL), PMAP_EINVAL);
    EXPECT(pmap_command_close(NULL), 0);
    assert_null(pmap_command_user(NULL));
    assert_string_equal(pmap_command_output(NULL, 1, NULL), "");
}

static void surroundings(const struct pm_path *path)
{
    char *text, directory[PATH_MAX];
    (void)path;
    const char *const env[] = {"A=one", "B=two words", NULL}, *const none[] = {NULL};
    pmap_command_options o = options(ARGV("/usr/bin/env"));
    o.env = env;
    assert_string_equal(text = output_of(&o), "A=one\nB=two words\n");
    free(text);
    o.env = none;
    assert_string_equal(text = output_of(&o), "");
    free(text);
    assert_int_equal(setenv("PM_TEST_WORD", "now", 1), 0);
    o = options(ARGV("sh", "-c", "echo $PM_TEST_WORD"));
    assert_string_equal(text = output_of(&o), "now\n");
    free(text);
    o = options(ARGV("/bin/pwd"));
    o.cwd = "/usr/bin";
    assert_non_null(realpath("/usr/bin", directory));
    assert_string_equal(strtok(text = output_of(&o), "\n"), directory);
    free(text);
    o = options(ARGV("name", "a b", "$c"));
    o.shell = "echo \"$0/$1/$2\" | cat";
    assert_string_equal(text = output_of(&o), "name/a b/$c\n");
    free(text);
    o = options(ARGV("sh", "-c", "ps -o pgid= -p $$; echo $$")); /* a group of its own */
    text = output_of(&o);
    char *end;
    long group = strtol(text, &end, 10), self = strtol(end, NULL, 10);
    if (group) assert_int_equal(group, self); /* 0: there is no ps here */
    free(text);
}

/* ---- Redirections ---- */

static void redirections(const struct pm_path *path)
{
    char file[PATH_MAX], *text;
    (void)path;
    in_scratch(file, "file");
    pmap_command_options o = options(ARGV("sh", "-c", "echo out; echo err >&2"));
    o.out = (pmap_redirect){PMAP_IO_FILE, 0, file};
    o.err.to = PMAP_IO_STDOUT;
    EXPECT(pmap_command_run(&o, NULL), 0);
    o.out.to = PMAP_IO_APPEND;
    o.err.to = PMAP_IO_NULL;
    EXPECT(pmap_command_run(&o, NULL), 0);
    o = options(ARGV("cat"));
    o.in = (pmap_redirect){PMAP_IO_FILE, 0, file};
    assert_string_equal(text = output_of(&o), "out\nerr\nout\n");
    free(text);
    o.in = (pmap_redirect){PMAP_IO_FD, open(file, O_RDONLY | O_CLOEXEC), NULL};
    assert_string_equal(text = output_of(&o), "out\nerr\nout\n");
    free(text);
    assert_int_equal(close(o.in.fd), 0);
    o.in.to = PMAP_IO_DEFAULT; /* nothing, and no wait for a terminal */
    assert_string_equal(text = output_of(&o), "");
    free(text);

    /* Both streams captured, apart; and exchanged, which must not make one of the other's copy. */
    pmap_command *c;
    size_t n;
    o = options(ARGV("sh", "-c", "echo out; echo err >&2"));
    o.err.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_run(&o, &c), 0);
    assert_string_equal(pmap_command_output(c, 1, &n), "out\n");
    assert_int_equal(n, 4);
    assert_string_equal(pmap_command_output(c, 2, &n), "err\n");
    EXPECT(pmap_command_close(c), 0);
    o = options(ARGV("sh", "-c", "exec \"$0\" \"$@\" 3>&1 1>&2 2>&3", "sh", "-c", "echo out; echo err >&2"));
    o.err.to = PMAP_IO_NULL;
    assert_string_equal(text = output_of(&o), "err\n");
    free(text);
    assert_int_equal(unlink(file), 0);
}

static int exchanged(void *arg)
{
    int ends[2];
    char text[32] = "";
    (void)arg;
    if (pipe(ends) || dup2(ends[1], 2) != 2) return 1;
    pmap_command_options o = options(ARGV("sh", "-c", "echo out; echo err >&2"));
    o.out = (pmap_redirect){PMAP_IO_FD, 2, NULL};
    o.err = (pmap_redirect){PMAP_IO_FD, 1, NULL};
    if (dup2(open("/dev/null", O_WRONLY), 1) != 1 || pmap_command_run(&o, NULL) != 0) return 2;
    return read(ends[0], text, sizeof text) != 4 || strcmp(text, "out\n") != 0 ? 3 : 0;
}

static void crossing(const struct pm_path *path)
{
    (void)path;
    assert_int_equal(pm_test_run_child(exchanged, NULL, 10000), 0);
}

/* ---- Bytes ---- */

static void big_both_ways(const struct pm_path *path)
{
    char *in = malloc(BIG);
    pmap_command *c;
    size_t n;
    (void)path;
    assert_non_null(in);
    for (size_t i = 0; i < BIG; i++) in[i] = (char)(i * 2654435761u >> 13);
    pmap_command_options o = options(ARGV("tee", "/dev/stderr"));
    o.input = in;
    o.input_bytes = BIG;
    o.err.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_run(&o, &c), 0);
    for (int k = 1; k <= 2; k++) {
        const char *out = pmap_command_output(c, k, &n);
        assert_int_equal(n, BIG);
        assert_memory_equal(out, in, BIG);
        assert_int_equal(out[n], 0);
    }
    EXPECT(pmap_command_close(c), 0);

    o.argv = ARGV("cat"); /* the same with input that comes later, and waits that are too short */
    o.input = NULL;
    o.input_bytes = 0;
    o.in.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_start(&c, &o), 0);
    EXPECT(pmap_command_poll(c), 0);
    int error = pmap_command_communicate(c, in, BIG, 0);
    for (int i = 0; error == PMAP_ETIMEDOUT && i < 20000; i++) error = pmap_command_wait(c, 0.0005);
    EXPECT(error, 0);
    EXPECT(pmap_command_check(c), 0);
    const char *out = pmap_command_output(c, 1, &n);
    assert_int_equal(n, BIG);
    assert_memory_equal(out, in, BIG);
    EXPECT(pmap_command_communicate(c, in, BIG, 0), PMAP_EINVAL);
    EXPECT(pmap_command_close(c), 0);
    free(in);
}

static void reader_gone(const struct pm_path *path)
{
    static char in[1 << 20];
    sigset_t waiting;
    (void)path;
    pmap_command_options o = options(ARGV("head", "-c", "3"));
    memset(in, 'x', sizeof in);
    o.input = in;
    o.input_bytes = sizeof in;
    char *text = output_of(&o); /* no SIGPIPE, or this would be the end */
    assert_string_equal(text, "xxx");
    free(text);
    assert_int_equal(sigpending(&waiting), 0);
    assert_false(sigismember(&waiting, SIGPIPE));
}

/* Large input has a larger pipe, where the system gives this process one. */
static void large_pipe(const struct pm_path *path)
{
    static char in[1 << 20];
    pmap_command *c;
    int own[2];
    (void)path;
    assert_int_equal(pipe(own), 0);
    int standard = fcntl(own[1], F_GETPIPE_SZ), larger = fcntl(own[1], F_SETPIPE_SZ, 4 * standard);
    assert_int_equal(close(own[0]) | close(own[1]), 0);
    for (int large = 0; large < 2; large++) {
        pmap_command_options o = options(ARGV("sleep", "60"));
        o.input = in;
        o.input_bytes = large ? sizeof in : 1000000 / 16;
        EXPECT(pmap_command_start(&c, &o), 0);
        EXPECT(pmap_command_poll(c), 0);
        int fd = pmap_command_fd(c, 0);
        if (!large) EXPECT(fd, PMAP_EINVAL); /* all of it went in, and the pipe was closed */
        else if (larger > 0) assert_true(fcntl(fd, F_GETPIPE_SZ) > standard);
        if (fd >= 0) assert_int_equal(close(fd), 0);
        EXPECT(pmap_command_close(c), 0);
    }
}

/* Input that somebody has taken away: a mapping of a file that was made shorter. */
static void lost_input(const struct pm_path *path)
{
    pmap_command *c;
    int fd = memfd_create("input", MFD_CLOEXEC);
    (void)path;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, BIG), 0);
    void *in = mmap(NULL, BIG, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(in, MAP_FAILED);
    for (off_t left = 0; left <= 1 << 20; left += 1 << 20) {
        assert_int_equal(ftruncate(fd, left), 0);
        pmap_command_options o = options(ARGV("wc", "-c"));
        o.input = in;
        o.input_bytes = BIG;
        EXPECT(pmap_command_run(&o, &c), PMAP_EINVAL);
        EXPECT_TEXT(left ? "byte 1048576 of" : "byte 0 of");
        EXPECT_TEXT("shorter");
        assert_int_equal(atoi(pmap_command_output(c, 1, NULL)), left);
        EXPECT(pmap_command_close(c), 0);
    }
    assert_int_equal(munmap(in, BIG) | close(fd), 0);
}

static void bounded_output(const struct pm_path *path)
{
    pmap_command *c;
    size_t n;
    (void)path;
    pmap_command_options o = options(ARGV("yes"));
    o.most_output = 100001;
    EXPECT(pmap_command_run(&o, &c), PMAP_ETOOBIG);
    EXPECT_TEXT("100001");
    assert_int_equal(strlen(pmap_command_output(c, 1, &n)), 100001);
    assert_int_equal(n, 100001);
    EXPECT(pmap_command_close(c), 0);
    o = options(ARGV("printf", "12345"));
    o.most_output = 5; /* just enough */
    char *text = output_of(&o);
    assert_string_equal(text, "12345");
    free(text);
}

static void taken_pipes(const struct pm_path *path)
{
    pmap_command *c;
    char text[8] = "";
    (void)path;
    pmap_command_options o = options(ARGV("cat"));
    o.in.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_start(&c, &o), 0);
    int in = pmap_command_fd(c, 0), out = pmap_command_fd(c, 1);
    assert_true(in > 2 && out > 2);
    EXPECT(pmap_command_fd(c, 1), PMAP_EINVAL);
    EXPECT(pmap_command_fd(c, 2), PMAP_EINVAL);
    assert_int_equal(write(in, "ping", 4), 4);
    assert_int_equal(read(out, text, sizeof text), 4); /* it blocks until there is something */
    assert_string_equal(text, "ping");
    EXPECT(pmap_command_wait(c, 0), PMAP_ETIMEDOUT);
    assert_int_equal(close(in), 0);
    EXPECT(pmap_command_wait(c, 20), 0);
    EXPECT(pmap_command_check(c), 0);
    assert_int_equal(read(out, text, sizeof text), 0);
    assert_int_equal(close(out), 0);
    EXPECT(pmap_command_close(c), 0);
}

/* ---- Ends ---- */

static void statuses(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    pmap_command_options o = options(ARGV("sh", "-c", "exit 7"));
    o.user = &o;
    EXPECT(pmap_command_run(&o, &c), PMAP_ESTATUS);
    EXPECT_TEXT("'sh -c exit 7' exited with status 7");
    assert_ptr_equal(pmap_command_user(c), &o);
    expect_status(c, -1, PMAP_CAUSE_EXIT, 7, 7);
    EXPECT(pmap_command_poll(c), 1);
    EXPECT(pmap_command_wait(c, 0), 0);
    EXPECT(pmap_command_terminate(c), 0);
    EXPECT(pmap_command_signal(c, SIGKILL), 0); /* nobody is there any more */
    expect_status(c, 0, PMAP_CAUSE_EXIT, 7, 7);
    EXPECT(pmap_command_close(c), 0);

    o.argv = ARGV("sh", "-c", "kill -9 $$");
    EXPECT(pmap_command_run(&o, &c), PMAP_ESTATUS);
    EXPECT_TEXT("SIGKILL");
    expect_status(c, -1, PMAP_CAUSE_SIGNAL, SIGKILL, 137);
    EXPECT(pmap_command_close(c), 0);

    pmap_status s = {.size = sizeof s};
    o.argv = ARGV("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo \"$i\"");
    EXPECT(pmap_command_start(&c, &o), 0);
    EXPECT(pmap_command_check(c), PMAP_EINVAL);
    EXPECT(pmap_command_status(c, 0, &s), 0);
    assert_true(s.cause == 0 && s.code == -1 && s.pid > 1);
    EXPECT(pmap_command_wait(c, -1), 0);
    EXPECT(pmap_command_status(c, -1, &s), 0);
    assert_true(s.user_s + s.system_s > 0 && s.wall_s > 0 && s.maxrss > 100000);
    EXPECT(pmap_command_status(c, 1, &s), PMAP_EINVAL);
    s.size = 0;
    EXPECT(pmap_command_status(c, 0, &s), PMAP_EINVAL);
    EXPECT(pmap_command_close(c), 0);
}

static void short_waits(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    pmap_command_options o = options(ARGV("sleep", "1000"));
    EXPECT(pmap_command_start(&c, &o), 0);
    EXPECT(pmap_command_poll(c), 0);
    double t = seconds();
    EXPECT(pmap_command_wait(c, 0.05), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.05);
    EXPECT(pmap_command_wait(c, NAN), PMAP_EINVAL);
    EXPECT(pmap_command_signal(c, 0), PMAP_EINVAL);
    EXPECT(pmap_command_signal(c, SIGSTOP), 0);
    EXPECT(pmap_command_terminate(c), 0); /* a stopped one too */
    EXPECT(pmap_command_wait(c, 20), 0);
    expect_status(c, -1, PMAP_CAUSE_CANCELLED, SIGTERM, 143);
    EXPECT(pmap_command_check(c), PMAP_ESTATUS);
    EXPECT(pmap_command_close(c), 0);
    EXPECT(pmap_command_start(&c, &o), 0); /* closing kills */
    t = seconds();
    EXPECT(pmap_command_close(c), 0);
    assert_true(seconds() - t < 5);
}

/* A group that does not care about SIGTERM, with a grandchild: all of it is gone after the grace. */
static void timeout_kills_the_group(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    pmap_command_options o = options(ARGV("sh", "-c", "trap '' TERM; sleep 1000 & echo $!; sleep 1001; wait"));
    o.timeout_s = 0.2;
    o.grace_s = 0.1;
    double t = seconds();
    EXPECT(pmap_command_run(&o, &c), PMAP_ESTATUS);
    EXPECT_TEXT("time-out of 0.2 s");
    assert_true(seconds() - t >= 0.3);
    expect_status(c, -1, PMAP_CAUSE_TIMEOUT, SIGKILL, 124);
    pid_t grandchild = (pid_t)strtol(pmap_command_output(c, 1, NULL), NULL, 10);
    assert_true(grandchild > 1);
    assert_int_equal(pm_test_reap(5000), 0);
    assert_int_equal(kill(grandchild, 0), -1);
    EXPECT(pmap_command_close(c), 0);

    o.argv = ARGV("sleep", "1000"); /* no grace: SIGKILL at once */
    o.grace_s = -1;
    EXPECT(pmap_command_run(&o, &c), PMAP_ESTATUS);
    expect_status(c, -1, PMAP_CAUSE_TIMEOUT, SIGKILL, 124);
    EXPECT(pmap_command_close(c), 0);
}

/* What is left of a group keeps its grace when its leader ends at once. */
static void grace_is_for_all(const struct pm_path *path)
{
    static const char line[] = "(trap 'sleep 0.1; echo cleaned >file; exit' TERM; echo ready; exec >/dev/null; "
                               "while :; do sleep 0.01; done) & exec sleep 1000";
    pmap_command *c;
    char file[PATH_MAX], *text;
    (void)path;
    pmap_command_options o = options(NULL);
    o.shell = line;
    o.cwd = getenv("TMPDIR");
    o.grace_s = 20;
    o.err.to = PMAP_IO_NULL; /* the shell says what became of its children */
    EXPECT(pmap_command_start(&c, &o), 0);
    for (int i = 0; i < 10000 && !*pmap_command_output(c, 1, NULL); i++)
        EXPECT(pmap_command_wait(c, 0.001), PMAP_ETIMEDOUT);
    assert_string_equal(pmap_command_output(c, 1, NULL), "ready\n");
    EXPECT(pmap_command_terminate(c), 0);
    EXPECT(pmap_command_wait(c, 30), 0);
    expect_status(c, -1, PMAP_CAUSE_CANCELLED, SIGTERM, 143);
    EXPECT(pmap_command_close(c), 0);
    o = options(ARGV("cat", in_scratch(file, "file")));
    assert_string_equal(text = output_of(&o), "cleaned\n");
    free(text);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(pm_test_reap(5000), 0);
}

/* Somebody in the background keeps the pipe open: the command ends grace_s after its own end, with all that was
 * written. */
static void left_behind(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    pmap_command_options o = options(NULL);
    o.shell = "sleep 1000 & echo $!";
    o.grace_s = 0.1;
    EXPECT(pmap_command_run(&o, &c), 0);
    pid_t left = (pid_t)strtol(pmap_command_output(c, 1, NULL), NULL, 10);
    EXPECT(pmap_command_close(c), 0);
    assert_int_equal(kill(left, SIGKILL), 0); /* it is not our command's any more, and lives */
    assert_int_equal(pm_test_reap(5000), 0);
}

/* ---- Chains ---- */

static void chains(const struct pm_path *path)
{
    pmap_command *c;
    (void)path;
    pmap_command_options o[3] = {options(ARGV("yes")), options(ARGV("cat")), options(ARGV("head", "-n", "2"))};
    EXPECT(pmap_command_chain(&c, o, 3), 0);
    EXPECT(pmap_command_wait(c, 30), 0);
    EXPECT(pmap_command_check(c), 0); /* an end by SIGPIPE is how it should be */
    assert_string_equal(pmap_command_output(c, 1, NULL), "y\ny\n");
    expect_status(c, 0, PMAP_CAUSE_SIGNAL, SIGPIPE, 128 + SIGPIPE);
    expect_status(c, 2, PMAP_CAUSE_EXIT, 0, 0);
    expect_status(c, -1, PMAP_CAUSE_EXIT, 0, 0);
    EXPECT(pmap_command_close(c), 0);

    pmap_command_options p[3] = {options(ARGV("cat")), options(ARGV("sh", "-c", "cat; echo oops >&2; exit 3")),
                                 options(ARGV("tr", "a-z", "A-Z"))};
    p[0].input = "text";
    p[0].input_bytes = 4;
    p[0].err.to = p[1].err.to = PMAP_IO_PIPE;
    EXPECT(pmap_command_chain(&c, p, 3), 0);
    EXPECT(pmap_command_wait(c, 30), 0);
    EXPECT(pmap_command_check(c), PMAP_ESTATUS);
    EXPECT_TEXT("exited with status 3");
    assert_string_equal(pmap_command_output(c, 1, NULL), "TEXT");
    assert_string_equal(pmap_command_output(c, 2, NULL), "oops\n");
    expect_status(c, -1, PMAP_CAUSE_EXIT, 3, 3);
    EXPECT(pmap_command_close(c), 0);

    p[2].argv = ARGV("/nowhere/at-all"); /* those before it are ended again */
    p[0].argv = ARGV("sleep", "1000");
    EXPECT(pmap_command_chain(&c, p, 3), PMAP_ENOENT);
    assert_null(c);

    p[0].timeout_s = 0.1; /* all of a chain has one time-out */
    p[2].argv = ARGV("cat");
    EXPECT(pmap_command_chain(&c, p, 3), 0);
    EXPECT(pmap_command_wait(c, 30), 0);
    pmap_status s = {.size = sizeof s}; /* the last one may have seen the end of its input before the signal */
    EXPECT(pmap_command_status(c, -1, &s), 0);
    assert_true(s.cause == PMAP_CAUSE_TIMEOUT && s.code == 124);
    expect_status(c, 0, PMAP_CAUSE_TIMEOUT, SIGTERM, 124);
    EXPECT(pmap_command_close(c), 0);
    assert_int_equal(pm_test_reap(5000), 0); /* the shell's children */
}

static void three_times_openssl(const struct pm_path *path)
{
    static char data[3][100000];
    pmap_command *c[3];
    (void)path;
    if (system("command -v openssl >/dev/null 2>&1") != 0) skip();
    for (int i = 0; i < 3; i++) {
        memset(data[i], 'a' + i, sizeof data[i]);
        pmap_command_options o[2] = {options(ARGV("openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "pass:word")),
                                     options(ARGV("openssl", "dgst", "-sha256", "-binary"))};
        o[0].input = data[i];
        o[0].input_bytes = sizeof data[i];
        EXPECT(pmap_command_chain(&c[i], o, 2), 0);
    }
    size_t n;
    for (int i = 0; i < 3; i++) {
        EXPECT(pmap_command_wait(c[i], 60), 0);
        EXPECT(pmap_command_check(c[i]), 0);
        (void)pmap_command_output(c[i], 1, &n);
        assert_int_equal(n, 32);
    }
    assert_memory_not_equal(pmap_command_output(c[0], 1, NULL), pmap_command_output(c[1], 1, NULL), 32);
    for (int i = 0; i < 3; i++) EXPECT(pmap_command_close(c[i]), 0);
}

/* ---- From several threads ---- */

static void *runs(void *arg)
{
    char word[32];
    for (int i = 0; i < 15; i++) {
        (void)snprintf(word, sizeof word, "%d of %d", i, *(int *)arg);
        pmap_command *c;
        pmap_command_options o = options(ARGV("printf", "%s", word));
        bool right = pmap_command_run(&o, &c) == 0 && strcmp(pmap_command_output(c, 1, NULL), word) == 0;
        if (pmap_command_close(c) != 0 || !right) return arg;
    }
    return NULL;
}

static void threads(const struct pm_path *path)
{
    pthread_t thread[4];
    int number[4];
    void *wrong;
    (void)path;
    for (int i = 0; i < 4; i++) {
        number[i] = i;
        assert_int_equal(pthread_create(&thread[i], NULL, runs, &number[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], &wrong), 0);
        assert_null(wrong);
    }
}

static const struct pm_path_test tests[] = {
    {"start_errors", start_errors, PM_ON_NONE},
    {"wrong_options", wrong_options, PM_ON_NONE},
    {"surroundings", surroundings, PM_ON_NONE},
    {"redirections", redirections, PM_ON_NONE},
    {"crossing", crossing, PM_ON_NONE},
    {"big_both_ways", big_both_ways, PM_ON_NONE},
    {"reader_gone", reader_gone, PM_ON_NONE},
    {"large_pipe", large_pipe, PM_ON_NONE},
    {"lost_input", lost_input, PM_ON_NONE},
    {"bounded_output", bounded_output, PM_ON_NONE},
    {"taken_pipes", taken_pipes, PM_ON_NONE},
    {"statuses", statuses, PM_ON_NONE},
    {"short_waits", short_waits, PM_ON_NONE},
    {"timeout_kills_the_group", timeout_kills_the_group, PM_ON_NONE},
    {"grace_is_for_all", grace_is_for_all, PM_ON_NONE},
    {"left_behind", left_behind, PM_ON_NONE},
    {"chains", chains, PM_ON_NONE},
    {"three_times_openssl", three_times_openssl, PM_ON_NONE},
    {"threads", threads, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("command", tests); }

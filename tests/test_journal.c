/* The job log: what is written, and what --resume makes of logs and outputs that were cut, damaged, or written by
 * others. */
#include "cli/journal.h"
#include "cli/output.h"
#include "tests/redirect.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
#define JOBS 12

static char log_name[4096], out_name[4096];

static int names(void **state)
{
    const char *directory = getenv("TMPDIR");

    (void)state;
    snprintf(log_name, sizeof log_name, "%s/log", directory);
    snprintf(out_name, sizeof out_name, "%s/out", directory);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(log_name);
    unlink(out_name);
    return 0;
}

/* What job `seq` prints: with lengths that no simple step fits; every third nothing. */
static size_t text_of(size_t seq, char *text)
{
    size_t n = 0;

    if (seq % 3 == 0) return 0;
    for (size_t i = 0; i < seq % 4; i++) n += (size_t)sprintf(text + n, "job %zu line %zu\n", seq, i);
    return n + (size_t)sprintf(text + n, "%zu end", seq);
}

static struct batch a_batch(void)
{
    return (struct batch){ .joblog = log_name, .window = 1 << 20, .keep_order = true };
}

/* Runs the jobs up to `last` that are not done.  Returns how many it ran, or -1 when the files are refused. */
static int run(const struct batch *batch, size_t last)
{
    struct journal *journal = journal_open(batch, STDOUT_FILENO);
    struct output *output = journal ? output_open(batch, journal) : NULL;
    int ran = 0;

    if (!output) {
        journal_close(journal);
        return -1;
    }
    for (size_t seq = 1; seq <= last; seq++) {
        char text[512];
        struct entry entry = { .seq = seq, .start = 1700000000.5, .runtime = 0.25, .command = "a command" };
        struct stream *stream;

        if (journal_done(journal, seq)) {
            output_skip(output, seq);
            continue;
        }
        stream = output_begin(output, seq, NULL);
        output_take(stream, 1, text, text_of(seq, text));
        if (output_end(output, stream, &entry)) break;
        ran++;
    }
    if (output_close(output)) ran = -1;
    journal_close(journal);
    return ran;
}

static int run_to(const char *name, int flags, const struct batch *batch, size_t last)
{
    struct redirected saved = redirect(name, flags, false);
    int ran = run(batch, last);

    restore(saved);
    return ran;
}

/* What an undisturbed run leaves. */
struct files {
    char *log, *out;
    size_t log_bytes, out_bytes;
};

static struct files undisturbed(const char *before)
{
    struct batch batch = a_batch();
    struct files f;

    spew(out_name, before, strlen(before));
    assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), JOBS);
    f.log = slurp(log_name, &f.log_bytes);
    f.out = slurp(out_name, &f.out_bytes);
    return f;
}

static void free_files(struct files *f)
{
    free(f->log);
    free(f->out);
}

static size_t count_lines(const char *text, size_t bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < bytes; i++) n += text[i] == '\n';
    return n;
}

static void resume(const struct files *f, size_t log_bytes, size_t out_bytes, const char *what, size_t at, int most)
{
    struct batch batch = a_batch();
    int ran;

    spew(log_name, f->log, log_bytes);
    spew(out_name, f->out, out_bytes);
    batch.resume = RESUME;
    ran = run_to(out_name, O_APPEND, &batch, JOBS);
    if (ran < 0 || ran > most) fail_msg("%s at %zu: ran %d jobs, expected at most %d", what, at, ran, most);
    expect_file(out_name, f->out, f->out_bytes, what, at);
    expect_file(log_name, f->log, f->log_bytes, what, at); /* times are always the same here */
}

static void a_log_cut_anywhere(void **state)
{
    (void)state;
    for (int before = 0; before < 2; before++) {
        struct files f = undisturbed(before ? "what was there before\n" : "");
        size_t head = (size_t)((char *)memchr(f.log, '\n', f.log_bytes) - f.log) + 1;

        /* The last lines at every byte.  A head that is not whole was never followed by output. */
        for (size_t cut = head; cut <= f.log_bytes; cut += cut < f.log_bytes - 250 ? 23 : 1)
            resume(&f, cut, f.out_bytes, "log cut", cut, JOBS + 1 - (int)count_lines(f.log, cut));
        free_files(&f);
    }
}

static void a_head_cut_anywhere(void **state)
{
    static const char before[] = "what was there before\n";
    struct files f = undisturbed(before);
    size_t head = (size_t)((char *)memchr(f.log, '\n', f.log_bytes) - f.log) + 1;

    (void)state;
    for (size_t cut = 0; cut <= head; cut += 3) resume(&f, cut, sizeof before - 1, "head cut", cut, JOBS);
    free_files(&f);
}

static void an_output_cut_anywhere(void **state)
{
    static const char before[] = "what was there before\n";
    struct files f = undisturbed(before);

    (void)state;
    for (size_t cut = sizeof before - 1; cut <= f.out_bytes; cut += 1 + cut % 2)
        resume(&f, f.log_bytes, cut, "output cut", cut, JOBS);
    free_files(&f);
}

static void both_cut_anywhere(void **state)
{
    struct files f = undisturbed("");
    size_t head = (size_t)((char *)memchr(f.log, '\n', f.log_bytes) - f.log) + 1;

    (void)state;
    for (size_t cut = head; cut <= f.log_bytes; cut += 67)
        for (size_t out = 0; out <= f.out_bytes; out += 29) resume(&f, cut, out, "log and output cut", cut, JOBS);
    free_files(&f);
}

/* A damaged byte costs the jobs from it on; the bytes of the jobs before it must be there to show that this is the
 * right file. */
static void damaged_output(void **state)
{
    struct files f = undisturbed("");
    char text[512];
    size_t first = text_of(1, text);

    (void)state;
    for (size_t i = first; i < f.out_bytes; i += 7) {
        struct files bad = f;

        bad.out = malloc(f.out_bytes);
        assert_non_null(bad.out);
        memcpy(bad.out, f.out, f.out_bytes);
        bad.out[i] = (char)(bad.out[i] ^ (1 << i % 8));
        spew(out_name, bad.out, f.out_bytes);
        spew(log_name, f.log, f.log_bytes);
        struct batch batch = a_batch();
        batch.resume = RESUME;
        int ran = run_to(out_name, O_APPEND, &batch, JOBS);
        if (ran <= 0 || ran >= JOBS) fail_msg("damage at %zu: ran %d jobs", i, ran);
        expect_file(out_name, f.out, f.out_bytes, "damage", i);
        free(bad.out);
    }
    free_files(&f);
}

static void another_file_is_left_alone(void **state)
{
    static const char diary[] = "Dear diary, this is a text that is long enough, and it is none that any of these jobs has ever written. "
                                "It must not be cut, whatever the log may say about an output that was somewhere else, ever, at all.\n";
    struct files f = undisturbed("");
    struct batch batch = a_batch();

    (void)state;
    batch.resume = RESUME;
    spew(out_name, diary, sizeof diary - 1);
    assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), -1);
    expect_file(out_name, diary, sizeof diary - 1, "diary", 0);
    expect_file(log_name, f.log, f.log_bytes, "log", 0);
    free_files(&f);
}

/* > instead of >>: nothing can be compared, only what is not logged runs. */
static void output_that_begins_anew(void **state)
{
    struct files f = undisturbed("");
    struct batch batch = a_batch();
    char text[512];
    size_t n = text_of(JOBS - 1, text), cut = f.log_bytes - 1, bytes;
    char *log;

    (void)state;
    batch.resume = RESUME;
    /* without the last two lines, and in the middle of one */
    cut = (size_t)((char *)memrchr(f.log, '\n', cut) - f.log);
    spew(log_name, f.log, cut - 3);
    assert_int_equal(run_to(out_name, O_TRUNC, &batch, JOBS), 2);
    n += text_of(JOBS, text + n);
    expect_file(out_name, text, n, "new output", 0);
    /* And from there on it is compared with that one. */
    log = slurp(log_name, &bytes);
    spew(log_name, log, bytes - 3);
    assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), 1);
    expect_file(out_name, text, n, "new output", 1);
    free(log);
    free_files(&f);
}

/* A run in a process of its own that is killed when its log has grown to some length, until one gets through. */
enum { MANY = 3000, KILLS = 40 };

struct growth {
    uint64_t log_bytes;
    pid_t pid;
};

static bool has_grown(void *arg)
{
    struct growth *g = arg;
    struct stat st;
    siginfo_t ended = { .si_pid = 0 };

    if (stat(log_name, &st) == 0 && (uint64_t)st.st_size >= g->log_bytes) return true;
    return waitid(P_PID, (id_t)g->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == g->pid;
}

static size_t text_of_many(size_t seq, char *text)
{
    size_t n = seq % 7 == 0 ? 0 : seq % 101 == 0 ? 70000 : seq * 37 % 500;

    for (size_t i = 0; i < n; i++) text[i] = (char)(' ' + (seq + i / 3) % 90);
    return n;
}

/* Jobs end in pairs the wrong way round, so that there is always something that waits. */
static int run_many(const struct batch *batch)
{
    static char text[80000];
    struct journal *journal = journal_open(batch, STDOUT_FILENO);
    struct output *output = journal ? output_open(batch, journal) : NULL;
    int error = !output;

    for (size_t i = 1; i <= MANY && !error; i++) {
        size_t seq = i % 2 && i < MANY ? i + 1 : i % 2 ? i : i - 1;
        struct entry entry = { .seq = seq, .command = "of many" };
        struct stream *stream;

        if (journal_done(journal, seq)) {
            error = output_skip(output, seq);
            continue;
        }
        stream = output_begin(output, seq, NULL);
        output_take(stream, 1, text, text_of_many(seq, text));
        error = output_end(output, stream, &entry);
        if (i % 5 == 0 && !error) error = output_flush(output) || journal_sync(journal);
    }
    error |= output_close(output);
    error |= journal_close(journal);
    return error;
}

static void killed_at_any_moment(void **state)
{
    struct batch batch = a_batch();
    struct redirected saved;
    struct growth growth = { 0, 0 };
    static char text[80000];
    size_t bytes, at = 0, kills = 0;
    bool again = true;
    char *got;

    (void)state;
    spew(out_name, "before\n", 7);
    batch.resume = RESUME;
    while (again) {
        int status;

        saved = redirect(out_name, O_APPEND, false);
        growth.pid = fork();
        if (growth.pid == 0) _exit(run_many(&batch) ? 1 : 0);
        restore(saved);
        assert_true(growth.pid > 0);
        growth.log_bytes += MANY * 70 / KILLS;
        if (kills < KILLS) {
            assert_true(pm_test_wait_until(has_grown, &growth, 20000));
            kill(growth.pid, SIGKILL);
            kills++;
        }
        assert_int_equal(waitpid(growth.pid, &status, 0), growth.pid);
        again = WIFSIGNALED(status);
        assert_true(again || status == 0);
    }
    assert_true(kills > KILLS / 2);
    got = slurp(out_name, &bytes);
    assert_memory_equal(got, "before\n", 7);
    at = 7;
    for (size_t seq = 1; seq <= MANY; seq++) {
        size_t n = text_of_many(seq, text);

        if (at + n > bytes || memcmp(got + at, text, n)) fail_msg("job %zu is not where it should be", seq);
        at += n;
    }
    assert_true(at == bytes);
    free(got);
    got = slurp(log_name, &bytes);
    assert_true(count_lines(got, bytes) == MANY + 1); /* each job once */
    free(got);
}

static void damage_in_the_middle_is_an_error(void **state)
{
    static const char *const bad[] = { "", "\t", "5\t:\t1\t1\t0\t0\t0\t0\n", "x\t:\t1\t1\t0\t0\t0\t0\tc\t0\t0\t0\t-\t0123456789abcdef",
                                       "5\t:\t1\t1\t0\t0\tx\t0\tc\t0\t0\t0\t-\t0123456789abcdef", "5\t:\t1\t1\t0\t0\t0\t0\tc\t0\t0\t0\t-\t0123" };
    struct files f = undisturbed("");
    struct batch batch = a_batch();
    char *second = (char *)memchr(f.log, '\n', f.log_bytes) + 1, text[8192];

    (void)state;
    batch.resume = RESUME;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int head = (int)(second - f.log);
        size_t n = (size_t)snprintf(text, sizeof text, "%.*s%s\n%s", head, f.log, bad[i], second);

        spew(log_name, text, n);
        assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), -1);
        expect_file(log_name, text, n, "refused log", i);
        expect_file(out_name, f.out, f.out_bytes, "refused output", i);
        /* The same at the end is cut. */
        n = (size_t)snprintf(text, sizeof text, "%s%s\n%s", f.log, bad[i], i % 2 ? "\n" : "");
        spew(log_name, text, n);
        assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), 0);
        expect_file(log_name, f.log, f.log_bytes, "mended log", i);
    }
    spew(log_name, "no log at all\n", 14);
    assert_int_equal(run_to(out_name, O_APPEND, &batch, JOBS), -1);
    free_files(&f);
}

static struct journal *open_quietly(const struct batch *batch)
{
    struct redirected saved = redirect("/dev/null", 0, false);
    struct journal *journal = journal_open(batch, STDOUT_FILENO);

    restore(saved);
    return journal;
}

static void one_log_one_run(void **state)
{
    struct batch batch = a_batch();
    struct journal *journal = open_quietly(&batch);

    (void)state;
    assert_non_null(journal);
    assert_null(open_quietly(&batch));
    batch.resume = RESUME;
    assert_null(open_quietly(&batch));
    assert_int_equal(journal_close(journal), 0);
    journal = open_quietly(&batch);
    assert_non_null(journal);
    assert_int_equal(journal_close(journal), 0);
}

static void what_is_done(void **state)
{
    static const char log[] = HEAD "\tUtime\tStime\tMaxrss\tOutpos\tCheck\tOutbegin=-\n"
                                   "1\t:\t1.000\t     0.000\t0\t0\t0\t0\tone\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "2\t:\t1.000\t     0.000\t0\t0\t1\t0\ttwo\\n\\t\\\\\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "3\t:\t1.000\t     0.000\t0\t0\t0\t9\tthree\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "4\t:\t1.000\t     0.000\t0\t0\t7\t0\tfour\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "100000\t:\t1.000\t     0.000\t0\t0\t0\t0\tfar\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "4\t:\t2.000\t     0.000\t0\t0\t0\t0\tfour\t0.000\t0.000\t0\t-\t0000000000000000\n"
                                   "1\t:\t2.000\t     0.000\t0\t0\t-1\t0\tone\t0.000\t0.000\t0\t-\t0000000000000000\n";
    struct batch batch = a_batch();
    struct journal *journal;
    size_t at = 0, seq;
    const char *command;

    (void)state;
    spew(log_name, log, sizeof log - 1);
    batch.resume = RESUME;
    journal = open_quietly(&batch);
    assert_non_null(journal);
    for (size_t i = 0; i < 10; i++) assert_int_equal(journal_done(journal, i), i >= 1 && i <= 4);
    assert_true(journal_done(journal, 100000));
    assert_false(journal_done(journal, 99999) || journal_done(journal, 1000000000));
    journal_close(journal);

    batch.resume = RESUME_FAILED;
    journal = open_quietly(&batch);
    assert_non_null(journal);
    for (size_t i = 0; i < 10; i++) assert_int_equal(journal_done(journal, i), i == 4);
    assert_true(journal_done(journal, 100000));
    journal_close(journal);

    batch.resume = RETRY_FAILED;
    journal = open_quietly(&batch);
    assert_non_null(journal);
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 1);
    assert_true(seq == 1 && strcmp(command, "one") == 0);
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 1);
    assert_true(seq == 2 && strcmp(command, "two\n\t\\") == 0);
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 1);
    assert_true(seq == 3 && strcmp(command, "three") == 0);
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 0);
    journal_close(journal);
}

/* As GNU parallel 20221122 writes them: tabs of the command as they are, a zero byte for a newline. */
static void logs_of_gnu_parallel(void **state)
{
    static const char log[] = HEAD "\n"
                                   "1\t:\t1795322905.495\t     0.003\t0\t6\t0\t0\tprintf \"a\\tb\\\\\\\\c\\n\"\n"
                                   "3\tserver.example\t1795322905.501\t     0.004\t0\t0\t127\t0\techo 'a\tb'\0y\n";
    struct batch batch = a_batch();
    struct journal *journal;
    size_t at = 0, seq, bytes;
    const char *command;
    char *text;

    (void)state;
    spew(log_name, log, sizeof log - 1);
    batch.resume = RETRY_FAILED;
    journal = open_quietly(&batch);
    assert_non_null(journal);
    assert_true(journal_done(journal, 1) && !journal_done(journal, 2) && !journal_done(journal, 3));
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 1);
    assert_true(seq == 3 && strcmp(command, "echo 'a\tb'\ny") == 0);
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 0);
    journal_close(journal);

    /* Gone on with: our lines behind theirs, and what is cut of them. */
    batch.resume = RESUME;
    assert_int_equal(run_to(out_name, O_APPEND, &batch, 4), 2);
    text = slurp(log_name, &bytes);
    assert_memory_equal(text, log, sizeof log - 1);
    for (size_t cut = sizeof log - 1; cut < bytes; cut++) {
        spew(log_name, text, cut);
        journal = open_quietly(&batch);
        assert_non_null(journal);
        assert_true(journal_done(journal, 1) && journal_done(journal, 3) && !journal_done(journal, 4));
        journal_close(journal);
    }
    free(text);
}

static void commands_of_any_kind(void **state)
{
    static const char *const commands[] = { "", "\t", "\n\n\\n\\", "a\tb\tc\td\te\tf\tg\th\ti\tj\tk", "\xff\xfe\x80 no UTF-8 \x01\x7f",
                                            "0\t0\t0\t-\t0000000000000000", "\\t\\\\n", "\r\v\f" };
    const size_t n = sizeof commands / sizeof *commands;
    struct batch batch = a_batch();
    struct journal *journal = open_quietly(&batch);
    size_t at = 0, seq;
    const char *command;
    char *large = malloc(200001);

    (void)state;
    assert_non_null(journal);
    assert_non_null(large);
    memset(large, '\t', 200000);
    large[200000] = 0;
    for (size_t i = 0; i <= n; i++) {
        struct entry entry = { .seq = i + 1, .exit_value = 3, .command = i < n ? commands[i] : large };

        assert_int_equal(journal_add(journal, &entry, UINT64_MAX, 0), 0);
    }
    assert_int_equal(journal_flush(journal), 0);
    assert_int_equal(journal_close(journal), 0);
    batch.resume = RETRY_FAILED;
    journal = open_quietly(&batch);
    assert_non_null(journal);
    for (size_t i = 0; i <= n; i++) {
        assert_int_equal(journal_failed(journal, &at, &seq, &command), 1);
        assert_true(seq == i + 1);
        assert_string_equal(command, i < n ? commands[i] : large);
    }
    assert_int_equal(journal_failed(journal, &at, &seq, &command), 0);
    journal_close(journal);
    free(large);
}

static void a_line_of_the_log(void **state)
{
    static const char line[] = HEAD "\tUtime\tStime\tMaxrss\tOutpos\tCheck\tOutbegin=-\n"
                                    "7\t:\t1700000000.123\t    12.346\t3\t4\t0\t15\tx\\ty\t1.500\t0.001\t4096\t77\t00000000000000ff\n";
    struct batch batch = a_batch();
    struct journal *journal = open_quietly(&batch);
    struct entry entry = { 7, 1700000000.1234, 12.3456, 3, 4, 0, 15, 1.5, 0.0011, 4096, "x\ty" };

    (void)state;
    assert_non_null(journal);
    assert_int_equal(journal_add(journal, &entry, 77, 255), 0);
    assert_int_equal(journal_flush(journal), 0);
    assert_int_equal(journal_sync(journal), 0);
    assert_int_equal(journal_close(journal), 0);
    expect_file(log_name, line, sizeof line - 1, "line", 0);
}

static void a_full_disk(void **state)
{
    struct batch batch = a_batch();

    (void)state;
    batch.joblog = "/dev/full";
    assert_null(open_quietly(&batch));
    batch.joblog = "/nowhere/log";
    assert_null(open_quietly(&batch));
}

/* A child, because the limit cannot be taken back: half a line is cut off again, and what was complete stays. */
static int limited(void *arg)
{
    struct batch batch = a_batch();
    struct journal *journal = open_quietly(&batch);
    struct entry entry = { .seq = 1, .command = "c" };
    struct redirected saved;
    int error;

    (void)arg;
    if (!journal) return 1;
    signal(SIGXFSZ, SIG_IGN);
    for (; entry.seq <= 10; entry.seq++) journal_add(journal, &entry, UINT64_MAX, 0);
    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 600, 600 })) return 2;
    saved = redirect("/dev/null", 0, false);
    error = journal_flush(journal) == -1 && journal_add(journal, &entry, UINT64_MAX, 0) == -1 &&
            journal_flush(journal) == -1;
    journal_close(journal);
    restore(saved);
    return error ? 0 : 3;
}

static void a_log_that_cannot_grow(void **state)
{
    size_t bytes;
    char *text;

    (void)state;
    assert_int_equal(pm_test_run_child(limited, NULL, 20000), 0);
    text = slurp(log_name, &bytes);
    assert_true(bytes > 400 && bytes <= 600 && text[bytes - 1] == '\n');
    free(text);
}

static void the_check_does_not_mind_pieces(void **state)
{
    enum { BYTES = 300 };
    char data[BYTES];
    unsigned __int128 number = 0;

    (void)state;
    for (size_t i = 0; i < BYTES; i++) data[i] = (char)(i * i * 37 + 255 - i);
    for (size_t n = 0; n <= BYTES; n++) {
        if (n) number = (number * 256 + (unsigned char)data[n - 1]) % ((((unsigned __int128)1) << 64) - 59);
        assert_true(journal_check(0, data, n) == (uint64_t)number);
        for (size_t cut = 0; cut <= n; cut += 1 + n / 50)
            assert_true(journal_check(journal_check(0, data, cut), data + cut, n - cut) == (uint64_t)number);
    }
    memset(data, 0xff, BYTES);
    number = 0;
    for (size_t n = 0; n < BYTES; n++) number = (number * 256 + 255) % ((((unsigned __int128)1) << 64) - 59);
    assert_true(journal_check(0, data, BYTES) == (uint64_t)number);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names, remove_files)
    static const struct CMUnitTest tests[] = {
        TEST(the_check_does_not_mind_pieces),
        TEST(a_line_of_the_log),
        TEST(a_log_cut_anywhere),
        TEST(a_head_cut_anywhere),
        TEST(an_output_cut_anywhere),
        TEST(both_cut_anywhere),
        TEST(damaged_output),
        TEST(another_file_is_left_alone),
        TEST(output_that_begins_anew),
        TEST(killed_at_any_moment),
        TEST(damage_in_the_middle_is_an_error),
        TEST(one_log_one_run),
        TEST(what_is_done),
        TEST(logs_of_gnu_parallel),
        TEST(commands_of_any_kind),
        TEST(a_full_disk),
        TEST(a_log_that_cannot_grow),
    };
    return PM_TEST_MAIN("journal", tests);
}

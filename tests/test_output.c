/* What becomes of the output of jobs: grouping, order, tags, what waits in a bounded memory, results, and what happens
 * when it cannot be written. */
#include "cli/output.h"
#include "tests/redirect.h"

#include <dirent.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)

static char directory[3000], out_name[4096], err_name[4096], log_name[4096], results_name[4096];

static int names(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "%s", getenv("TMPDIR"));
    snprintf(out_name, sizeof out_name, "%s/out", directory);
    snprintf(err_name, sizeof err_name, "%s/err", directory);
    snprintf(log_name, sizeof log_name, "%s/log", directory);
    snprintf(results_name, sizeof results_name, "%s/results.jsonl", directory);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(out_name);
    unlink(err_name);
    unlink(log_name);
    unlink(results_name);
    return 0;
}

/* Descriptors 1 and 2 are files of their own. */
static struct redirected to_files(void)
{
    int out = open(out_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open(err_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct redirected saved = redirect_to(out, err);

    close(out);
    close(err);
    return saved;
}

static int end(struct output *output, struct stream *stream, size_t seq)
{
    struct entry entry = { .seq = seq, .command = "a command" };

    return output_end(output, stream, &entry);
}

static void take(struct stream *stream, int number, const char *text)
{
    output_take(stream, number, text, strlen(text));
}

static void expect(const char *out, const char *err)
{
    expect_file(out_name, out, strlen(out), out, 0);
    expect_file(err_name, err, strlen(err), err, 0);
}

/* Two jobs at once, the second ends first. */
static void two_jobs(const struct batch *batch, const char *tag)
{
    struct redirected saved = to_files();
    struct output *output = output_open(batch, NULL);
    struct stream *a = output_begin(output, 1, tag ? "A" : NULL), *b = output_begin(output, 2, tag ? "B" : NULL);
    int error;

    take(a, 1, "a1\na");
    take(b, 1, "b1\n\nb2");
    take(a, 2, "aerr\n");
    take(a, 1, "2\na3");
    take(b, 2, "berr");
    take(b, 1, "!\nb3");
    error = end(output, b, 2);
    take(a, 1, "?");
    error |= end(output, a, 1);
    error |= output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
}

static void grouped(void **state)
{
    struct batch batch = { .window = MIB };

    (void)state;
    two_jobs(&batch, NULL);
    expect("b1\n\nb2!\nb3a1\na2\na3?", "berraerr\n");
    two_jobs(&batch, "tag");
    expect("B\tb1\nB\t\nB\tb2!\nB\tb3A\ta1\nA\ta2\nA\ta3?", "B\tberrA\taerr\n");
    batch.keep_order = true;
    for (batch.window = 0; batch.window < 2; batch.window++) {
        two_jobs(&batch, NULL);
        expect("a1\na2\na3?b1\n\nb2!\nb3", "aerr\nberr");
        two_jobs(&batch, "tag");
        expect("A\ta1\nA\ta2\nA\ta3?B\tb1\nB\t\nB\tb2!\nB\tb3", "A\taerr\nB\tberr");
    }
}

/* As GNU parallel: a last line without an end gets none. */
static void line_by_line(void **state)
{
    struct batch batch = { .window = MIB, .grouping = OUTPUT_LINES };

    (void)state;
    two_jobs(&batch, NULL);
    expect("a1\nb1\n\na2\nb2!\nb3a3?", "aerr\nberr");
    two_jobs(&batch, "tag");
    expect("A\ta1\nB\tb1\nB\t\nA\ta2\nB\tb2!\nB\tb3A\ta3?", "A\taerr\nB\tberr");
    batch.keep_order = true;
    two_jobs(&batch, NULL);
    expect("a1\na2\na3?b1\n\nb2!\nb3", "aerr\nberr");
    batch.quiet = true;
    two_jobs(&batch, NULL);
    expect("", "");
}

/* The job whose turn it is prints while it runs; the next one does from when its turn comes. */
static void live_in_order(void **state)
{
    struct batch batch = { .window = 0, .grouping = OUTPUT_LINES, .keep_order = true };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    struct stream *job[4];
    char *seen[4], *large = malloc(MIB);
    size_t bytes[4], n = 0;
    int error = 0;

    (void)state;
    memset(large, 'x', MIB);
    for (size_t i = 0; i < 4; i++) job[i] = output_begin(output, i + 1, NULL);
    for (size_t i = 4; i-- > 0;) {
        char text[32];

        snprintf(text, sizeof text, "job %zu\nand", i + 1);
        take(job[i], 1, text);
    }
    output_take(job[1], 1, large, MIB); /* a line that is longer than what stays in memory */
    error |= output_flush(output);
    seen[0] = slurp(out_name, &bytes[0]);
    error |= end(output, job[2], 3);
    error |= end(output, job[0], 1);
    error |= output_flush(output);
    seen[1] = slurp(out_name, &bytes[1]);
    take(job[1], 1, "\n2!");
    error |= output_flush(output);
    seen[2] = slurp(out_name, &bytes[2]);
    error |= end(output, job[1], 2);
    output_discard(job[3]);
    job[3] = output_begin(output, 4, NULL);
    take(job[3], 1, "again\n");
    error |= output_flush(output);
    seen[3] = slurp(out_name, &bytes[3]);
    error |= end(output, job[3], 4);
    error |= output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
    assert_string_equal(seen[0], "job 1\n");
    assert_string_equal(seen[1], "job 1\nandjob 2\n");
    n = strlen("job 1\nandjob 2\nand");
    assert_true(bytes[2] == n + MIB + 1 && memcmp(seen[2] + n, large, MIB) == 0);
    assert_string_equal(seen[2] + n + MIB, "\n");
    /* What job 4 had printed in its turn before it was to run again cannot be taken back. */
    assert_string_equal(seen[3] + n + MIB, "\n2!job 3\nandjob 4\nagain\n");
    for (int i = 0; i < 4; i++) free(seen[i]);
    free(large);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Bytes of job `seq`, from byte `at`: so that every byte tells where it belongs. */
static void fill(char *to, size_t seq, int number, size_t at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) to[i] = (char)((seq * 31 + (at + i) * 7 + (at + i) / 251 + (size_t)number) | 1);
}

enum { SHUFFLED = 400, AT_ONCE = 40 };

static size_t size_of(size_t seq, int number)
{
    uint64_t seed = seq * 2 + (size_t)number;

    for (int i = 0; i < 5; i++) next_random(&seed);
    return next_random(&seed) % (seq % 50 == 0 ? 700000 : seq % 5 == 0 ? 20000 : 100) * (number == 2 ? seq % 3 == 0 : 1);
}

/* Many jobs at once that write and end in any order: the output is byte for byte that of one after the other, whatever
 * the window. */
static void shuffled(uint64_t window, enum batch_output grouping)
{
    struct batch batch = { .window = window, .keep_order = true, .grouping = grouping };
    struct { struct stream *stream; size_t seq, at[2]; } job[AT_ONCE] = { 0 };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    size_t begun = 0, ended = 0;
    uint64_t seed = window + 1;
    static char buffer[70000];
    int error = 0;

    while (ended < SHUFFLED && !error) {
        size_t k = next_random(&seed) % AT_ONCE, left[2];
        int number = (int)(next_random(&seed) % 2);
        size_t n = next_random(&seed) % 40 == 0 ? sizeof buffer : next_random(&seed) % 3000;

        if (!job[k].stream) {
            if (begun == SHUFFLED) continue;
            job[k].seq = ++begun;
            job[k].stream = output_begin(output, begun, NULL);
            job[k].at[0] = job[k].at[1] = 0;
            continue;
        }
        for (int i = 0; i < 2; i++) left[i] = size_of(job[k].seq, i + 1) - job[k].at[i];
        if (!left[0] && !left[1]) {
            error = end(output, job[k].stream, job[k].seq);
            job[k].stream = NULL;
            ended++;
            continue;
        }
        if (n > left[number]) n = left[number];
        fill(buffer, job[k].seq, number + 1, job[k].at[number], n);
        output_take(job[k].stream, number + 1, buffer, n);
        job[k].at[number] += n;
    }
    error |= output_waiting(output) > 0;
    error |= output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
    for (int number = 1; number <= 2; number++) {
        size_t bytes, at = 0;
        char *got = slurp(number == 1 ? out_name : err_name, &bytes), *expected;

        for (size_t seq = 1; seq <= SHUFFLED; seq++) {
            size_t n = size_of(seq, number);

            assert_true(at + n <= bytes);
            expected = malloc(n + 1);
            fill(expected, seq, number, 0, n);
            if (memcmp(got + at, expected, n))
                fail_msg("window %zu: stream %d of job %zu differs", (size_t)window, number, seq);
            free(expected);
            at += n;
        }
        assert_true(at == bytes);
        free(got);
    }
}

static void any_order_any_window(void **state)
{
    static const uint64_t windows[] = { 0, 100000, 2 << 20, 1 << 30 };

    (void)state;
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        shuffled(windows[i], OUTPUT_GROUP);
        shuffled(windows[i], OUTPUT_LINES);
    }
}

/* The file without a name that this process has open, and how many bytes it has; -1: none. */
static int64_t spilled(void)
{
    DIR *fds = opendir("/proc/self/fd");
    struct dirent *entry;
    int64_t bytes = -1;

    while ((entry = readdir(fds))) {
        struct stat st;

        if (fstatat(dirfd(fds), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0)
            bytes = st.st_size;
    }
    closedir(fds);
    return bytes;
}

/* Bytes that malloc() has given out; 0 where a sanitizer's does not tell. */
static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* What a slow first job holds up stays within the window and a little, the file is empty when nothing waits any more,
 * and no job is lost. */
static void small_ones_behind_a_slow_first(void **state)
{
    enum { JOBS = 200000 };
    struct batch batch = { .window = 4 * MIB, .keep_order = true, .joblog = log_name };
    struct redirected saved = to_files();
    struct journal *journal = journal_open(&batch, STDOUT_FILENO);
    struct output *output = output_open(&batch, journal);
    struct stream *slow = output_begin(output, 1, NULL);
    size_t before = in_use(), most, bytes, waiting, at = 0;
    int64_t file, file_after;
    int error = 0;
    char *text, expected[64];

    (void)state;
    for (size_t seq = 2; seq <= JOBS && !error; seq++) {
        struct stream *s = output_begin(output, seq, NULL);

        snprintf(expected, sizeof expected, "output of %9zu\n", seq);
        take(s, 1, expected);
        error = end(output, s, seq);
    }
    most = in_use() - before;
    waiting = output_waiting(output);
    file = spilled();
    take(slow, 1, "slow\n");
    error |= end(output, slow, 1);
    file_after = spilled();
    error |= output_close(output);
    error |= journal_close(journal);
    restore(saved);
    assert_int_equal(error, 0);
    assert_true(waiting == JOBS - 1);
    assert_true(file > 10 * (int64_t)MIB && file_after == 0);
    if (before) assert_true(most > 3 * MIB && most < 4 * MIB + 16 * (size_t)JOBS + MIB);
    text = slurp(out_name, &bytes);
    assert_memory_equal(text, "slow\n", 5);
    at = 5;
    for (size_t seq = 2; seq <= JOBS; seq++, at += strlen(expected)) {
        snprintf(expected, sizeof expected, "output of %9zu\n", seq);
        if (memcmp(text + at, expected, strlen(expected))) fail_msg("job %zu is not where it should be", seq);
    }
    assert_true(at == bytes);
    free(text);
}

/* Jobs that run and write a lot are spilled too, each beyond its share. */
static void large_ones_at_once(void **state)
{
    enum { LARGE = 8, PART = 50000, PARTS = 200 };
    struct batch batch = { .window = MIB, .keep_order = true };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    struct stream *job[LARGE];
    static char part[PART];
    size_t before = in_use(), most, bytes;
    int error = 0;
    char *text;

    (void)state;
    for (size_t k = 0; k < LARGE; k++) job[k] = output_begin(output, k + 1, NULL);
    for (size_t i = 0; i < PARTS; i++)
        for (size_t k = 0; k < LARGE; k++) {
            fill(part, k + 1, 1, i * PART, PART);
            output_take(job[k], 1, part, PART);
        }
    most = in_use() - before;
    for (size_t k = LARGE; k-- > 0;) error |= end(output, job[k], k + 1);
    error |= output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
    if (before) assert_true(most < 3 * MIB);
    text = slurp(out_name, &bytes);
    assert_true(bytes == (size_t)LARGE * PARTS * PART);
    for (size_t k = 0; k < LARGE; k++)
        for (size_t i = 0; i < PARTS; i++) {
            fill(part, k + 1, 1, i * PART, PART);
            assert_memory_equal(text + (k * PARTS + i) * PART, part, PART);
        }
    free(text);
}

/* A line whose parts lie in memory and at several places of the file has one tag. */
static void tags_of_what_was_spilled(void **state)
{
    enum { LINES = 3000, WIDTH = 1000 };
    struct batch batch = { .window = 0 };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    struct stream *a = output_begin(output, 1, "T"), *b = output_begin(output, 2, "U");
    size_t bytes;
    char line[WIDTH], *text;
    int error;

    (void)state;
    memset(line, '.', WIDTH);
    line[WIDTH - 1] = '\n';
    for (size_t i = 0; i < LINES; i++) {
        output_take(a, 1, line, 300);
        output_take(b, 1, line, WIDTH);
        output_take(a, 1, line + 300, WIDTH - 300);
    }
    error = end(output, a, 1) | end(output, b, 2) | output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
    text = slurp(out_name, &bytes);
    assert_true(bytes == (size_t)2 * LINES * (WIDTH + 2));
    for (size_t i = 0; i < 2 * (size_t)LINES; i++) {
        const char *at = text + i * (WIDTH + 2);

        if (memcmp(at, i < LINES ? "T\t" : "U\t", 2) || memcmp(at + 2, line, WIDTH)) fail_msg("line %zu", i);
    }
    free(text);
}

/* Again and again: filled, emptied, and filled from its beginning with other bytes. */
static void the_file_is_used_again(void **state)
{
    enum { ROUNDS = 4, JOBS = 260, WIDTH = 1000 }; /* a little more than is read back at once */
    struct batch batch = { .window = 0, .keep_order = true };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    size_t bytes;
    int64_t least = 1 << 30, left = 0;
    static char part[WIDTH];
    char *text;
    int error = 0;

    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t seq = (round + 1) * JOBS; seq > round * JOBS && !error; seq--) {
            struct stream *s = output_begin(output, seq, NULL);

            fill(part, seq, 1, 0, WIDTH);
            output_take(s, 1, part, WIDTH);
            if (seq == round * JOBS + 1 && spilled() < least) least = spilled();
            error = end(output, s, seq);
        }
        left += spilled();
    }
    error |= output_close(output);
    restore(saved);
    assert_int_equal(error, 0);
    assert_true(least > JOBS * WIDTH / 2 && left == 0);
    text = slurp(out_name, &bytes);
    assert_true(bytes == (size_t)ROUNDS * JOBS * WIDTH);
    for (size_t seq = 1; seq <= (size_t)ROUNDS * JOBS; seq++) {
        fill(part, seq, 1, 0, WIDTH);
        if (memcmp(text + (seq - 1) * WIDTH, part, WIDTH)) fail_msg("job %zu", seq);
    }
    free(text);
}

static void nowhere_to_spill(void **state)
{
    struct batch batch = { .window = 0, .keep_order = true };
    struct redirected saved = to_files();
    struct output *output = output_open(&batch, NULL);
    struct stream *a = output_begin(output, 1, NULL), *b = output_begin(output, 2, NULL);
    int ended, closed;
    bool error;
    char *text;
    size_t bytes;

    (void)state;
    setenv("TMPDIR", "/nowhere", 1);
    take(b, 1, "b\n");
    ended = end(output, b, 2);
    error = output_error(output);
    take(a, 1, "a\n");
    end(output, a, 1);
    closed = output_close(output);
    restore(saved);
    setenv("TMPDIR", directory, 1);
    assert_true(ended == -1 && closed == -1 && error);
    text = slurp(err_name, &bytes);
    assert_non_null(strstr(text, "/nowhere: No such file or directory\n"));
    free(text);
}

/* Prints to a descriptor where that must fail: the message comes once, and the log does not tell of what was not
 * written. */
static void expect_failure(int out, const char *message, bool flush)
{
    struct batch batch = { .window = MIB, .joblog = log_name };
    int err = open(err_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct redirected saved = redirect_to(out, err);
    struct journal *journal = journal_open(&batch, STDOUT_FILENO);
    struct output *output = output_open(&batch, journal);
    static const char part[400] = "some output that goes nowhere";
    size_t seq, bytes;
    int closed;
    char *text;

    close(err);
    for (seq = 1; seq < 1000; seq++) {
        struct stream *s = output_begin(output, seq, NULL);

        output_take(s, 1, part, sizeof part);
        if (end(output, s, seq) || (flush && output_flush(output))) break;
    }
    closed = output_close(output);
    journal_close(journal);
    restore(saved);
    assert_true(seq < 1000 && closed == -1);
    text = slurp(err_name, &bytes);
    assert_string_equal(text, message);
    free(text);
    text = slurp(log_name, &bytes);
    assert_true(bytes > 20 && memchr(text, '\n', bytes) == text + bytes - 1); /* the head alone */
    free(text);
}

static void cannot_be_written(void **state)
{
    int full = open("/dev/full", O_WRONLY), closed[2];

    (void)state;
    expect_failure(full, "parmap: standard output: cannot be written: No space left on device\n", false);
    expect_failure(full, "parmap: standard output: cannot be written: No space left on device\n", true);
    close(full);
    assert_int_equal(pipe2(closed, O_CLOEXEC), 0);
    close(closed[0]);
    signal(SIGPIPE, SIG_IGN);
    expect_failure(closed[1], "parmap: standard output: cannot be written: Broken pipe\n", true);
    close(closed[1]);
}

/* A reader in another process that is slower than we are, at the other end of a non-blocking pipe. */
static void non_blocking(void **state)
{
    enum { BYTES = 3000000 };
    struct batch batch = { .window = MIB };
    struct redirected saved;
    struct output *output;
    struct stream *s;
    int ends[2], status, error;
    char *text = malloc(BYTES);
    pid_t reader;

    (void)state;
    assert_non_null(text);
    fill(text, 1, 1, 0, BYTES);
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    reader = fork();
    assert_true(reader >= 0);
    if (reader == 0) {
        struct pollfd readable = { .fd = ends[0], .events = POLLIN };
        char buffer[777];
        size_t at = 0;
        ssize_t n;

        close(ends[1]);
        while (poll(&readable, 1, 20000) > 0 && (n = read(ends[0], buffer, sizeof buffer)) > 0) {
            if (at + (size_t)n > BYTES || memcmp(buffer, text + at, (size_t)n)) _exit(1);
            at += (size_t)n;
        }
        _exit(at == BYTES ? 0 : 2);
    }
    saved = redirect_to(ends[1], STDERR_FILENO);
    output = output_open(&batch, NULL);
    s = output_begin(output, 1, NULL);
    output_take(s, 1, text, 5);
    error = end(output, s, 1) || output_flush(output);
    s = output_begin(output, 2, NULL);
    output_take(s, 1, text + 5, BYTES - 5);
    error |= end(output, s, 2);
    error |= output_close(output);
    restore(saved);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(error, 0);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(status, 0);
    free(text);
}

/* Standard error into the same file: what it gets there counts as output, and what others write between is told in the
 * log. */
static void both_in_one_file(void **state)
{
    struct batch batch = { .window = MIB, .joblog = log_name };
    struct redirected saved = redirect(out_name, O_APPEND, true);
    struct journal *journal = journal_open(&batch, STDOUT_FILENO);
    struct output *output = output_open(&batch, journal);
    struct stream *s = output_begin(output, 1, NULL);
    bool done[4];
    int error;

    (void)state;
    take(s, 2, "error\n");
    take(s, 1, "output\n");
    error = end(output, s, 1);
    error |= output_flush(output);
    error |= write(STDERR_FILENO, "message\n", 8) != 8;
    s = output_begin(output, 2, NULL);
    take(s, 2, "more\n");
    error |= end(output, s, 2);
    s = output_begin(output, 3, NULL);
    take(s, 1, "last\n");
    error |= end(output, s, 3);
    error |= output_close(output);
    error |= journal_close(journal);
    batch.resume = RESUME;
    error |= ftruncate(STDOUT_FILENO, 26 + 3); /* in the middle of "last" */
    journal = journal_open(&batch, STDOUT_FILENO);
    for (size_t i = 0; i < 4; i++) done[i] = journal && journal_done(journal, i);
    journal_close(journal);
    restore(saved);
    assert_int_equal(error, 0);
    assert_true(!done[0] && done[1] && done[2] && !done[3]);
    expect_file(out_name, "output\nerror\nmessage\nmore\n", 26, "one file", 0);
}

static void skipped_and_unfinished(void **state)
{
    struct batch batch = { .window = MIB, .keep_order = true, .joblog = log_name };
    struct redirected saved = to_files();
    struct journal *journal = journal_open(&batch, STDOUT_FILENO);
    struct output *output = output_open(&batch, journal);
    struct stream *s;
    int error = 0;
    size_t bytes;
    char *text;

    (void)state;
    error |= output_skip(output, 2) | output_skip(output, 3) | output_skip(output, 1);
    for (size_t seq = 8; seq >= 4; seq--) {
        char line[16];

        if (seq == 7) continue; /* never ends */
        s = output_begin(output, seq, NULL);
        snprintf(line, sizeof line, "%zu\n", seq);
        take(s, 1, line);
        error |= end(output, s, seq);
    }
    s = output_begin(output, 7, NULL);
    take(s, 1, "7\n");
    error |= output_waiting(output) != 1;
    error |= output_close(output);
    error |= journal_close(journal);
    restore(saved);
    assert_int_equal(error, 0);
    expect("4\n5\n6\n", "");
    text = slurp(log_name, &bytes);
    assert_true(strstr(text, "\n4\t") && strstr(text, "\n5\t") && strstr(text, "\n6\t"));
    assert_true(!strstr(text, "\n7\t") && !strstr(text, "\n8\t"));
    free(text);
}

static void ungrouped(void **state)
{
    struct batch batch = { .grouping = OUTPUT_UNGROUPED, .keep_order = true, .joblog = log_name };
    struct redirected saved = to_files();
    struct journal *journal = journal_open(&batch, STDOUT_FILENO);
    struct output *output = output_open(&batch, journal);
    int error = end(output, NULL, 2) | end(output, NULL, 1);
    size_t bytes;
    char *text, *two, *one;

    (void)state;
    error |= output_close(output);
    error |= journal_close(journal);
    restore(saved);
    assert_int_equal(error, 0);
    text = slurp(log_name, &bytes);
    two = strstr(text, "\n2\t");
    one = strstr(text, "\n1\t");
    assert_true(two && one && two < one && strstr(one, "\t-\t0000000000000000\n"));
    free(text);
}

static void results_in_a_directory(void **state)
{
    struct batch batch = { .window = 0, .keep_order = true, .results = results_name };
    struct redirected saved;
    struct output *output;
    struct stream *a, *b;
    static const char *const files[] = { "1/stdout", "1/stderr", "2/stdout", "2/stderr", "3/stdout", "3/stderr" };
    static const char *const texts[] = { "one\n", "", "two", "error\n", "", "" };
    int error;

    (void)state;
    snprintf(results_name, sizeof results_name, "%s/results", directory);
    for (int round = 0; round < 3; round++) {
        batch.quiet = round == 1;
        batch.grouping = round == 2 ? OUTPUT_LINES : OUTPUT_GROUP;
        saved = to_files();
        output = output_open(&batch, NULL);
        a = output_begin(output, 1, "tag");
        b = output_begin(output, 2, "tag");
        take(a, 1, "on");
        take(b, 1, "tw");
        take(b, 1, "o");
        take(b, 2, "err");
        error = end(output, NULL, 3);
        take(a, 1, "e\n");
        error |= end(output, a, 1);
        take(b, 2, "or\n");
        error |= end(output, b, 2);
        error |= output_close(output);
        restore(saved);
        assert_int_equal(error, 0);
        if (batch.quiet) expect("", "");
        else expect("tag\tone\ntag\ttwo", "tag\terror\n");
        for (int i = 0; i < 6; i++) {
            char name[5000];

            snprintf(name, sizeof name, "%s/%s", results_name, files[i]);
            expect_file(name, texts[i], strlen(texts[i]), files[i], (size_t)round);
            unlink(name);
            *strrchr(name, '/') = 0;
            rmdir(name); /* fails, rightly, when a temporary name is left in it: nothing_left sees that */
        }
        rmdir(results_name);
    }
}

#define OBJECT(seq, command, out, err) \
    "{\"seq\": " #seq ", \"command\": \"" command "\", \"start\": 1.500, " \
    "\"runtime\": 0.250, \"exit\": 3, \"signal\": 0, " out ", " err "}\n"

static int job_with_results(struct output *output, size_t seq, const char *command, const char *out, size_t bytes,
                            const char *err)
{
    struct entry entry = { .seq = seq, .start = 1.5, .runtime = 0.25, .exit_value = 3, .command = command };
    struct stream *s = output_begin(output, seq, NULL);

    output_take(s, 1, out, bytes);
    take(s, 2, err);
    return output_end(output, s, &entry);
}

static void results_as_json(void **state)
{
    static const char expected[] =
        OBJECT(1, "a \\\"quoted\\\" \\\\ command\\n\\u0001\\u007f", "\"stdout\": \"one\\n\\u0000\\ttwo\"", "\"stderr\": \"\"")
        OBJECT(2, "c", "\"stdout\": \"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"stderr_base64\": \"/w==\"")
        OBJECT(3, "c", "\"stdout_base64\": \"7aCA\"", "\"stderr_base64\": \"w6TD\"")
        OBJECT(4, "c", "\"stdout\": \"\"", "\"stderr_base64\": \"4ICAYQ==\"");
    struct batch batch = { .window = MIB, .joblog = log_name, .results = results_name };
    struct redirected saved;
    struct journal *journal;
    struct output *output;
    int error;

    (void)state;
    for (size_t cut = 0; cut < sizeof expected; cut++) {
        /* First all of it, then resumed with the file cut at every byte behind what the log knows, which is the first
         * two. */
        const char *third = strstr(expected, "{\"seq\": 3");

        if (cut == 1) batch.resume = RESUME;
        if (cut && cut < (size_t)(third - expected)) continue;
        if (cut) spew(results_name, expected, cut);
        if (cut) batch.joblog = log_name;
        saved = to_files();
        if (cut) {
            struct batch fresh = { .joblog = log_name };
            struct entry entry = { .seq = 1, .command = "" };

            journal = journal_open(&fresh, STDOUT_FILENO);
            journal_add(journal, &entry, UINT64_MAX, 0);
            entry.seq = 2;
            journal_add(journal, &entry, UINT64_MAX, 0);
            journal_flush(journal);
            journal_close(journal);
        }
        journal = journal_open(&batch, STDOUT_FILENO);
        output = output_open(&batch, journal);
        error = !output;
        if (output && !cut) error |= job_with_results(output, 1, "a \"quoted\" \\ command\n\001\x7f", "one\n\0\ttwo", 9, "");
        if (output && !cut) error |= job_with_results(output, 2, "c", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xff");
        if (output) error |= job_with_results(output, 3, "c", "\xed\xa0\x80", 3, "\xc3\xa4\xc3");
        if (output) error |= job_with_results(output, 4, "c", "", 0, "\xe0\x80\x80" "a");
        error |= output_close(output);
        error |= journal_close(journal);
        restore(saved);
        assert_int_equal(error, 0);
        expect_file(results_name, expected, sizeof expected - 1, "results", cut);
    }
}

static void results_that_cannot_be(void **state)
{
    struct batch batch = { .window = MIB, .results = "/nowhere/results" };
    struct redirected saved = to_files();
    struct output *directory_output = output_open(&batch, NULL), *file_output;

    (void)state;
    batch.results = "/nowhere/results.jsonl";
    file_output = output_open(&batch, NULL);
    restore(saved);
    assert_true(!directory_output && !file_output);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names, remove_files)
    static const struct CMUnitTest tests[] = {
        TEST(grouped),
        TEST(line_by_line),
        TEST(live_in_order),
        TEST(any_order_any_window),
        TEST(small_ones_behind_a_slow_first),
        TEST(large_ones_at_once),
        TEST(tags_of_what_was_spilled),
        TEST(the_file_is_used_again),
        TEST(nowhere_to_spill),
        TEST(cannot_be_written),
        TEST(non_blocking),
        TEST(both_in_one_file),
        TEST(skipped_and_unfinished),
        TEST(ungrouped),
        TEST(results_in_a_directory),
        TEST(results_as_json),
        TEST(results_that_cannot_be),
    };
    return PM_TEST_MAIN("output", tests);
}

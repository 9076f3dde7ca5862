/* Where output is written: to what is full or has no reader, to a slow reader that does not block, and with standard error
 * into the same file. */
#include "tests/output.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        OUTPUT_TEST(cannot_be_written),
        OUTPUT_TEST(non_blocking),
        OUTPUT_TEST(both_in_one_file),
    };
    return PM_TEST_MAIN("sink", tests);
}

/* What becomes of the output of jobs: grouping, order, tags, whatever the window, and jobs that are skipped or never end.
 * What waits is in test_store.c, what is written where in test_sink.c and test_results.c. */
#include "tests/output.h"

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        OUTPUT_TEST(grouped),
        OUTPUT_TEST(line_by_line),
        OUTPUT_TEST(live_in_order),
        OUTPUT_TEST(any_order_any_window),
        OUTPUT_TEST(skipped_and_unfinished),
        OUTPUT_TEST(ungrouped),
    };
    return PM_TEST_MAIN("output", tests);
}

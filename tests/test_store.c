/* Output that waits: what stays in a bounded memory, what is spilled to a file without a name and comes back from it, and
 * where there is no place for one. */
#include "tests/output.h"

#include <dirent.h>
#include <malloc.h>

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        OUTPUT_TEST(small_ones_behind_a_slow_first),
        OUTPUT_TEST(large_ones_at_once),
        OUTPUT_TEST(tags_of_what_was_spilled),
        OUTPUT_TEST(the_file_is_used_again),
        OUTPUT_TEST(nowhere_to_spill),
    };
    return PM_TEST_MAIN("store", tests);
}

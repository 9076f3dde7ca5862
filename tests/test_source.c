/* Records of words, files, pipes and standard input: where each begins and ends, whatever is in it and however it arrives. */
#include "cli/source.h"
#include "tests/cli.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

/* Takes the next record, which must be these bytes. */
static void expect(struct source *s, const void *text, size_t bytes)
{
    struct record r;

    assert_int_equal(source_next(s, &r), 1);
    assert_int_equal(r.bytes, bytes);
    assert_memory_equal(r.text, text, bytes);
}
#define EXPECT(s, literal) expect(s, literal, sizeof(literal) - 1)

/* Nothing more, however often one asks. */
static void expect_end(struct source *s)
{
    struct record r;

    for (int i = 0; i < 3; i++) assert_int_equal(source_next(s, &r), 0);
    assert_true(source_ready(s));
    source_close(s);
}

static struct source *opened(const char *file, char delimiter, char csv)
{
    struct source *s = source_file(file, delimiter, csv);

    assert_non_null(s);
    return s;
}
#define LINES(literal) opened(FILE_OF(literal), '\n', 0)
#define CSV(literal) opened(FILE_OF(literal), '\n', ',')

static void words(void **state)
{
    char *list[] = {"a b", "", "c\nd"};
    struct source *s = source_words(list, 3);

    (void)state;
    assert_non_null(s);
    assert_true(source_ready(s));
    EXPECT(s, "a b");
    EXPECT(s, "");
    EXPECT(s, "c\nd");
    assert_int_equal(source_count(s), 3);
    assert_string_equal(source_name(s), "command line");
    expect_end(s);
    expect_end(source_words(NULL, 0));
    source_close(NULL);
}

static void lines(void **state)
{
    struct source *s = LINES("one\ntwo  three \n");

    (void)state;
    EXPECT(s, "one");
    EXPECT(s, "two  three ");
    assert_int_equal(source_count(s), 2);
    expect_end(s);

    s = LINES("no newline at the end\nlast");
    EXPECT(s, "no newline at the end");
    EXPECT(s, "last");
    expect_end(s);

    expect_end(LINES(""));

    s = LINES("\n\nx\n\n");
    EXPECT(s, "");
    EXPECT(s, "");
    EXPECT(s, "x");
    EXPECT(s, "");
    expect_end(s);

    s = LINES("a\0b\0\n\xff\xfe\xc3(\r\n"); /* bytes are bytes; a \r belongs to the line */
    EXPECT(s, "a\0b\0");
    EXPECT(s, "\xff\xfe\xc3(\r");
    expect_end(s);
}

static void delimiters(void **state)
{
    struct source *s = opened(FILE_OF("a\nb\0\0c"), '\0', 0);

    (void)state;
    EXPECT(s, "a\nb");
    EXPECT(s, "");
    EXPECT(s, "c");
    expect_end(s);

    s = opened(FILE_OF("a;b\n;"), ';', 0);
    EXPECT(s, "a");
    EXPECT(s, "b\n");
    expect_end(s);

    s = opened(FILE_OF("a\xff" "b"), '\xff', 0);
    EXPECT(s, "a");
    EXPECT(s, "b");
    expect_end(s);
}

static void csv(void **state)
{
    struct source *s = CSV("a,\"b\nc\"\r\n\"x \"\"y\"\"\n,z\",\"\"\n5\" pipe,6\"\n\n\"last\"");
    struct record r;

    (void)state;
    EXPECT(s, "a,\"b\nc\"");
    EXPECT(s, "\"x \"\"y\"\"\n,z\",\"\"");
    EXPECT(s, "5\" pipe,6\""); /* these quotes do not begin a column */
    EXPECT(s, "");
    EXPECT(s, "\"last\"");
    expect_end(s);

    s = opened(FILE_OF("a;\"b\nc\"\n,\"d\n"), '\n', ';'); /* of columns that a semicolon parts */
    EXPECT(s, "a;\"b\nc\"");
    EXPECT(s, ",\"d");
    expect_end(s);

    s = CSV("whole\na,\"never closed\nb\n");
    EXPECT(s, "whole");
    listen_to_errors();
    assert_int_equal(source_next(s, &r), -1);
    HEARD("data.", "record 2", "not closed");
    listen_to_errors();
    assert_int_equal(source_next(s, &r), -1);
    assert_string_equal(heard(), ""); /* said once */
    source_close(s);
}

/* What is there already, many at once: the same records in the same order, and never one of which the end is not there. */
static void many_at_once(void **state)
{
    struct source *s = LINES("a\n\nccc\ndd\ne");
    struct record list[4];

    (void)state;
    assert_int_equal(source_some(s, list, 4), 0); /* nothing has been read */
    EXPECT(s, "a");
    assert_int_equal(source_some(s, list, 2), 2);
    assert_int_equal(list[0].bytes, 0);
    assert_true(list[1].bytes == 3 && memcmp(list[1].text, "ccc", 3) == 0);
    assert_int_equal(source_count(s), 3);
    assert_true(source_ready(s)); /* which finds the next one's end */
    assert_int_equal(source_some(s, list, 4), 0);
    EXPECT(s, "dd");
    assert_int_equal(source_some(s, list, 4), 0); /* the last has no delimiter */
    EXPECT(s, "e");
    assert_int_equal(source_some(s, list, 4), 0);
    expect_end(s);

    s = CSV("a\nb\n");
    EXPECT(s, "a");
    assert_int_equal(source_some(s, list, 4), 0); /* quotes are not for this */
    EXPECT(s, "b");
    expect_end(s);
}

static void clean(void **state)
{
    static const struct {
        char delimiter, csv;
        bool clean;
    } cases[] = {{'\n', 0, false}, {0, 0, true}, {0, ',', false}}; /* in quotes even a delimiter may be in a value */

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct source *s = opened(FILE_OF("a\0b\n"), cases[i].delimiter, cases[i].csv);
        struct record r;

        assert_int_equal(source_next(s, &r), 1);
        assert_int_equal(source_clean(s), cases[i].clean);
        source_close(s);
    }
}

static void long_line(void **state)
{
    size_t bytes = 5u << 20;
    char *text = malloc(2 * bytes + 2);
    struct source *s;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 2 * bytes + 2);
    text[3] = text[3 + bytes] = '\n'; /* a short one, a long one, another long one without an end */
    s = opened(file_of(text, 2 * bytes + 2), '\n', 0);
    expect(s, text, 3);
    expect(s, text + 4, bytes - 1);
    expect(s, text + 4 + bytes, bytes - 2);
    expect_end(s);
    free(text);
}

/* The longest record that there may be, and behind it a longer one.  The file has holes, and takes no room on the disk. */
static void too_long(void **state)
{
    const char *name = FILE_OF("first");
    unsigned long long available = 0;
    FILE *memory = fopen("/proc/meminfo", "re");
    struct source *s;
    struct record r;
    char line[128];
    int fd;

    (void)state;
    while (memory && fgets(line, sizeof line, memory))
        if (sscanf(line, "MemAvailable: %llu kB", &available) == 1) break;
    if (memory) fclose(memory);
    if (available < 3u << 20) skip();
    fd = open(name, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\n", 1, SOURCE_MOST), 1);
    assert_return_code(ftruncate(fd, (off_t)3 * SOURCE_MOST), 0);
    close(fd);
    s = opened(name, '\n', 0);
    assert_int_equal(source_next(s, &r), 1);
    assert_int_equal(r.bytes, SOURCE_MOST);
    assert_memory_equal(r.text, "first\0", 6);
    listen_to_errors();
    assert_int_equal(source_next(s, &r), -1);
    HEARD("data.", "record 2:", "1 GiB");
    assert_int_equal(source_next(s, &r), -1);
    source_close(s);
}

/* So many that the ends of blocks meet every part of a record. */
static void million(void **state)
{
    size_t n = 1000000, bytes = 0;
    char *text = malloc(n * 8);
    struct source *s;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) bytes += (size_t)sprintf(text + bytes, "%zu\n", i);
    s = opened(file_of(text, bytes), '\n', 0);
    for (size_t i = 0; i < n; i++) {
        char number[16];

        expect(s, number, (size_t)sprintf(number, "%zu", i));
    }
    assert_int_equal(source_count(s), n);
    expect_end(s);
    free(text);
}

static void interrupted(int number) { (void)number; }

static bool is_empty(void *pipe_end)
{
    int n;

    return ioctl(*(int *)pipe_end, FIONREAD, &n) == 0 && n == 0;
}

/* A pipe that a child fills byte by byte, while signals interrupt the reading. */
static void byte_by_byte(void **state)
{
    static const char text[] = "one\n\ntwo three\n\"a\nb\",c\n0123456789";
    struct sigaction act = { .sa_handler = interrupted }, before;
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };

    (void)state;
    assert_return_code(sigaction(SIGALRM, &act, &before), 0);
    for (int as_csv = 0; as_csv < 2; as_csv++) {
        int ends[2], status;
        char name[32];
        struct source *s;
        pid_t child;

        assert_return_code(pipe2(ends, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
            for (size_t i = 0; i < sizeof text - 1; i++) /* the next byte comes when the reader has taken this one */
                if (write(ends[1], text + i, 1) != 1 || !pm_test_wait_until(is_empty, &ends[1], 20000)) _exit(1);
            _exit(0);
        }
        close(ends[1]);
        snprintf(name, sizeof name, "/proc/self/fd/%d", ends[0]);
        s = opened(name, '\n', as_csv ? ',' : 0);
        close(ends[0]);
        setitimer(ITIMER_REAL, &often, NULL);
        EXPECT(s, "one");
        EXPECT(s, "");
        EXPECT(s, "two three");
        if (as_csv) {
            EXPECT(s, "\"a\nb\",c");
        } else {
            EXPECT(s, "\"a");
            EXPECT(s, "b\",c");
        }
        EXPECT(s, "0123456789");
        setitimer(ITIMER_REAL, &never, NULL);
        expect_end(s);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    sigaction(SIGALRM, &before, NULL);
}

/* ready() is exact: true only where next() does not wait. */
static void ready(void **state)
{
    int ends[2], keep = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
    struct source *s;
    struct record r;

    (void)state;
    assert_true(keep >= 0);
    assert_return_code(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    s = opened("-", '\n', 0);
    assert_string_equal(source_name(s), "standard input");
    assert_int_equal(source_fd(s), STDIN_FILENO);
    assert_false(source_ready(s));
    assert_int_equal(write(ends[1], "ha", 2), 2);
    assert_false(source_ready(s)); /* half a record */
    assert_int_equal(write(ends[1], "lf\nb\nc", 6), 6);
    assert_true(source_ready(s));
    EXPECT(s, "half");
    assert_true(source_ready(s));
    EXPECT(s, "b");
    assert_false(source_ready(s));
    close(ends[1]);
    assert_true(source_ready(s));
    EXPECT(s, "c");
    assert_true(source_ready(s));
    expect_end(s);
    assert_int_equal(fcntl(STDIN_FILENO, F_GETFD) >= 0, true); /* stays open: it is not ours */

    /* One that somebody made non-blocking is waited for all the same. */
    assert_return_code(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    s = opened("-", '\n', 0);
    assert_false(source_ready(s));
    {
        pid_t reader = getpid(), child = fork();
        int status;

        if (child == 0) {
            bool waits = pm_test_wait_until(pm_test_is_asleep, &reader, 20000);

            _exit(!waits || write(ends[1], "late", 4) != 4);
        }
        close(ends[1]);
        assert_int_equal(source_next(s, &r), 1);
        assert_int_equal(r.bytes, 4);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    expect_end(s);
    dup2(keep, STDIN_FILENO);
    close(keep);
}

static void unreadable(void **state)
{
    struct source *s;
    struct record r;

    (void)state;
    listen_to_errors();
    s = source_file("/nonexistent/file", '\n', 0);
    HEARD("/nonexistent/file", "No such file");
    assert_null(s);
    listen_to_errors();
    s = source_file("/tmp", '\n', 0);
    HEARD("/tmp", "Is a directory");
    assert_null(s);
    if (geteuid() != 0) {
        const char *name = FILE_OF("secret");

        assert_return_code(chmod(name, 0), 0);
        listen_to_errors();
        s = source_file(name, '\n', 0);
        HEARD(name, "Permission denied");
        assert_null(s);
    }
    /* One that opens and cannot be read: the process's own memory, at address 0. */
    s = opened("/proc/self/mem", '\n', 0);
    listen_to_errors();
    assert_int_equal(source_next(s, &r), -1);
    HEARD("/proc/self/mem", "record 1", "Input/output error");
    assert_int_equal(source_next(s, &r), -1);
    source_close(s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CLI_TEST(words),
        CLI_TEST(lines),
        CLI_TEST(delimiters),
        CLI_TEST(csv),
        CLI_TEST(many_at_once),
        CLI_TEST(clean),
        CLI_TEST(long_line),
        CLI_TEST(too_long),
        CLI_TEST(million),
        CLI_TEST(byte_by_byte),
        CLI_TEST(ready),
        CLI_TEST(unreadable),
    };
    return PM_TEST_MAIN("source", tests);
}

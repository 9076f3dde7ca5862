/* What tests of the program's parts share: files with given bytes, and the messages that go to standard error.  Included by one source of
 * a program, as the functions are its own. */
#ifndef PM_TESTS_CLI_H
#define PM_TESTS_CLI_H

#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file in $TMPDIR with these bytes.  The name is valid until the end of the test, which must be listed with CLI_TEST(). */
static char file_names[64][256];
static unsigned file_count;
static inline const char *file_of(const void *bytes, size_t n)
{
    char *name = file_names[file_count];
    int fd;

    assert_true(file_count < sizeof file_names / sizeof *file_names);
    snprintf(name, sizeof *file_names, "%s/data.XXXXXX", getenv("TMPDIR"));
    fd = mkstemp(name);
    assert_true(fd >= 0);
    file_count++;
    for (const char *p = bytes; n > 0;) {
        ssize_t wrote = write(fd, p, n);

        assert_true(wrote > 0);
        p += wrote;
        n -= (size_t)wrote;
    }
    assert_return_code(close(fd), 0);
    return name;
}

static inline int drop_files(void **state)
{
    (void)state;
    while (file_count > 0) unlink(file_names[--file_count]);
    return 0;
}
#define CLI_TEST(function) cmocka_unit_test_teardown(function, drop_files)
#define FILE_OF(literal) file_of(literal, sizeof(literal) - 1)

/* Between the two, standard error goes to a file; heard() says what came, and is valid until the next listen(). */
static int hearing = -1;
static inline void listen_to_errors(void)
{
    char name[256];
    int fd;

    snprintf(name, sizeof name, "%s/heard.XXXXXX", getenv("TMPDIR"));
    fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_return_code(unlink(name), 0);
    fflush(stderr);
    hearing = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_true(hearing >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO);
    close(fd);
}

static inline const char *heard(void)
{
    static char text[4096];
    ssize_t n;

    fflush(stderr);
    n = pread(STDERR_FILENO, text, sizeof text - 1, 0);
    dup2(hearing, STDERR_FILENO);
    close(hearing);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

/* heard() is one message, with all of these in it; the list ends with NULL. */
static inline void heard_all(const char *const *words)
{
    const char *text = heard();

    if (strncmp(text, "parmap: ", 8) != 0 || !strchr(text, '\n') || strchr(text, '\n')[1]) fail_msg("not one message: '%s'", text);
    for (; *words; words++)
        if (!strstr(text, *words)) fail_msg("no '%s' in '%s'", *words, text);
}
#define HEARD(...) heard_all((const char *const[]){__VA_ARGS__, NULL})

#endif

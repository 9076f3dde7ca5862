/* Files as wholes, and descriptors 1 and 2 as a command line would redirect them, for tests of what the program writes.
 * Between redirect() and restore() nothing may fail: cmocka's message would be lost. */
#ifndef PM_TESTS_REDIRECT_H
#define PM_TESTS_REDIRECT_H

#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static inline char *slurp(const char *name, size_t *bytes)
{
    int fd = open(name, O_RDONLY);
    struct stat st;
    char *text;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    text = calloc(1, (size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
    close(fd);
    *bytes = (size_t)st.st_size;
    return text;
}

static inline void spew(const char *name, const char *text, size_t bytes)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), (ssize_t)bytes);
    close(fd);
}

/* Descriptors 1 and 2 as a command line would have them. */
struct redirected {
    int out, err;
};

static inline struct redirected redirect_to(int out, int err)
{
    struct redirected saved = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };

    assert_true(out >= 0 && err >= 0 && saved.out >= 0 && saved.err >= 0);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    return saved;
}

static inline struct redirected redirect(const char *name, int flags, bool both)
{
    int out = open(name, O_WRONLY | O_CREAT | flags, 0600), err = both ? dup(out) : open("/dev/null", O_WRONLY);
    struct redirected saved = redirect_to(out, err);

    close(out);
    close(err);
    return saved;
}

static inline void restore(struct redirected saved)
{
    dup2(saved.out, STDOUT_FILENO);
    dup2(saved.err, STDERR_FILENO);
    close(saved.out);
    close(saved.err);
}

static inline void expect_file(const char *name, const char *text, size_t bytes, const char *what, size_t at)
{
    size_t n;
    char *got = slurp(name, &n);

    if (n != bytes || memcmp(got, text, n))
        fail_msg("%s at %zu: %zu bytes instead of %zu, or others", what, at, n, bytes);
    free(got);
}

#endif

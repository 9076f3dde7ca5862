/* What the tests of commands share: short ways to say what to run and to look at how it ended. */
#ifndef PM_TESTS_COMMAND_H
#define PM_TESTS_COMMAND_H

#include "tests/paths.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Its output is captured. */
static inline pmap_command_options options(const char *const *argv)
{
    pmap_command_options o = PMAP_COMMAND_OPTIONS_INIT;
    o.argv = argv;
    o.out.to = PMAP_IO_PIPE;
    return o;
}

/* What a command that must succeed writes; to be freed. */
static inline char *output_of(const pmap_command_options *o)
{
    pmap_command *c;
    EXPECT(pmap_command_run(o, &c), 0);
    char *text = strdup(pmap_command_output(c, 1, NULL));
    assert_non_null(text);
    EXPECT(pmap_command_close(c), 0);
    return text;
}

static inline void expect_status(const pmap_command *c, int index, pmap_cause cause, int value, int code)
{
    pmap_status s = {.size = sizeof s};
    EXPECT(pmap_command_status(c, index, &s), 0);
    assert_int_equal(s.cause, cause);
    assert_int_equal(s.value, value);
    assert_int_equal(s.code, code);
}

/* The name of a file in this program's own directory, into text[PATH_MAX]. */
static inline char *in_scratch(char *text, const char *name)
{
    (void)snprintf(text, PATH_MAX, "%s/%s", getenv("TMPDIR"), name);
    return text;
}

static inline void write_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

#endif

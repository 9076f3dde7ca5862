/* What the tests of what jobs write share: the names of files, descriptors 1 and 2 in files of their own, and short ways to
 * give output to jobs and to compare what came of it.  Included by one source of a program, as the names are its own. */
#ifndef PM_TESTS_OUTPUT_H
#define PM_TESTS_OUTPUT_H

#include "cli/output.h"
#include "tests/redirect.h"

#define MIB ((size_t)1 << 20)

static char directory[3000], out_name[4096], err_name[4096], log_name[4096], results_name[4096];

static inline int names(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "%s", getenv("TMPDIR"));
    snprintf(out_name, sizeof out_name, "%s/out", directory);
    snprintf(err_name, sizeof err_name, "%s/err", directory);
    snprintf(log_name, sizeof log_name, "%s/log", directory);
    snprintf(results_name, sizeof results_name, "%s/results.jsonl", directory);
    return 0;
}

static inline int remove_files(void **state)
{
    (void)state;
    unlink(out_name);
    unlink(err_name);
    unlink(log_name);
    unlink(results_name);
    return 0;
}

/* Descriptors 1 and 2 are files of their own. */
static inline struct redirected to_files(void)
{
    int out = open(out_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open(err_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct redirected saved = redirect_to(out, err);

    close(out);
    close(err);
    return saved;
}

static inline int end(struct output *output, struct stream *stream, size_t seq)
{
    struct entry entry = { .seq = seq, .command = "a command" };

    return output_end(output, stream, &entry);
}

static inline void take(struct stream *stream, int number, const char *text)
{
    output_take(stream, number, text, strlen(text));
}

static inline void expect(const char *out, const char *err)
{
    expect_file(out_name, out, strlen(out), out, 0);
    expect_file(err_name, err, strlen(err), err, 0);
}

/* Bytes of job `seq`, from byte `at`: so that every byte tells where it belongs. */
static inline void fill(char *to, size_t seq, int number, size_t at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) to[i] = (char)((seq * 31 + (at + i) * 7 + (at + i) / 251 + (size_t)number) | 1);
}

/* A test with these names, whose files are gone when it is over. */
#define OUTPUT_TEST(name) cmocka_unit_test_setup_teardown(name, names, remove_files)

#endif

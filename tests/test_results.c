/* Results in a directory and as JSON, also when the run is resumed, and where they cannot be written. */
#include "tests/output.h"

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
    static const struct CMUnitTest tests[] = {
        OUTPUT_TEST(results_in_a_directory),
        OUTPUT_TEST(results_as_json),
        OUTPUT_TEST(results_that_cannot_be),
    };
    return PM_TEST_MAIN("results", tests);
}

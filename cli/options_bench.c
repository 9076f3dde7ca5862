/* The options and words of `parmap bench`: what their values may be.  See option.h. */
#include "cli/option.h"
#include "cli/words.h"

#include <string.h>

const char *const path_names[PATHS] = { "serial", "openmp", "shm", "shm-copy", "zmq" };
const char *const dtype_names[DTYPES] = { "f64", "f32", "i64", "i32", "u8" };
const size_t dtype_sizes[DTYPES] = { 8, 4, 8, 4, 1 };
const char *const workload_names[WORKLOADS] = { "sum", "actions", "factorize", "sleep", "empty" };
static const char *const format_names[FORMATS] = { "table", "csv", "json" };

/* Calls `one` for each word of a list with commas. */
static int each(struct settings *settings, const struct option *o, const char *list,
                int (*one)(struct settings *, const struct option *, const char *, size_t))
{
    for (;;) {
        size_t length = strcspn(list, ",");
        int error = one(settings, o, list, length);

        if (error || list[length] == '\0') return error;
        list += length + 1;
    }
}

static int one_path(struct settings *s, const struct option *o, const char *word, size_t length)
{
    int path = words_find(word, length, path_names, PATHS);

    (void)o;
    if (length == 3 && memcmp(word, "all", 3) == 0) {
        for (int p = 0; p < PATHS; p++) s->paths[p] = true;
        s->all_paths = true;
        return 0;
    }
    if (path < 0) {
        const char *right[PATHS + 1];

        memcpy(right, path_names, sizeof path_names);
        right[PATHS] = "all";
        words_complain("path", word, length, right, PATHS + 1);
        return 2;
    }
    s->paths[path] = true;
    return 0;
}

int set_path(struct settings *s, const struct option *o, const char *value)
{
    memset(s->paths, 0, sizeof s->paths);
    s->all_paths = false;
    return each(s, o, value, one_path);
}

static int one_workers(struct settings *s, const struct option *o, const char *word, size_t length)
{
    uint64_t n;

    if (!words_number(word, length, &n) || n < 1 || n > MOST_WORKERS)
        return option_wrong(o, word, length, "a number of workers from 1 to 4095");
    for (unsigned i = 0; i < s->nworkers; i++)
        if (s->workers[i] == n) return 0;
    if (s->nworkers == MOST_WORKER_COUNTS)
        return option_wrong(o, word, length, "among the first 32 values: give fewer");
    s->workers[s->nworkers++] = (unsigned)n;
    return 0;
}

int set_workers(struct settings *s, const struct option *o, const char *value)
{
    s->nworkers = 0;
    return each(s, o, value, one_workers);
}

static int one_number(struct settings *s, const struct option *o, const char *word, size_t length)
{
    uint64_t n;

    if (!words_number(word, length, &n) || n < 1) return option_wrong(o, word, length, "a whole number from 1 on");
    if (s->nnumbers == MOST_NUMBERS) return option_wrong(o, word, length, "among the first 4096 numbers: give fewer");
    s->numbers[s->nnumbers++] = n;
    return 0;
}

int set_numbers(struct settings *s, const struct option *o, const char *value)
{
    s->nnumbers = 0;
    return each(s, o, value, one_number);
}

static int number(const struct option *o, const char *value, uint64_t from, uint64_t to, const char *expected,
                  uint64_t *out)
{
    if (!words_number(value, strlen(value), out) || *out < from || *out > to)
        return option_wrong(o, value, strlen(value), expected);
    return 0;
}

int set_size(struct settings *s, const struct option *o, const char *value)
{
    s->has_size = true;
    /* 2^48 items of 8 bytes still fit in size_t, and no machine here has more. */
    return number(o, value, 0, UINT64_C(1) << 48, "a number of items, such as 4000000, 100M or 64Ki", &s->size);
}

int set_chunk(struct settings *s, const struct option *o, const char *value)
{
    return number(o, value, 0, 1u << 24, "a number of items from 0 to 16777216", &s->chunk);
}

int set_runs(struct settings *s, const struct option *o, const char *value)
{
    return number(o, value, 1, 1000, "a number of runs from 1 to 1000", &s->runs);
}

int set_kill_every(struct settings *s, const struct option *o, const char *value)
{
    return number(o, value, 1, 3600000, "a number of milliseconds from 1 to 3600000", &s->kill_every_ms);
}

int set_format(struct settings *s, const struct option *o, const char *value)
{
    int found = option_choice("format", value, format_names, FORMATS);

    (void)o;
    if (found < 0) return 2;
    s->format = (enum format)found;
    return 0;
}

int set_dtype(struct settings *s, const struct option *o, const char *value)
{
    int found = option_choice("dtype", value, dtype_names, DTYPES);

    (void)o;
    if (found < 0) return 2;
    s->dtype = (enum dtype)found;
    s->has_dtype = true;
    return 0;
}

int set_plot(struct settings *s, const struct option *o, const char *value)
{
    size_t length = strlen(value);

    s->plot = value;
    if (length > 4 && (!strcmp(value + length - 4, ".svg") || !strcmp(value + length - 4, ".png"))) return 0;
    return option_wrong(o, value, length, "a file name that ends in .svg or .png");
}

int bench_word(struct settings *s, const char *word, bool is_number)
{
    int found;

    if (is_number)
        for (size_t i = 0; i < option_count; i++)
            if (option_table[i].set == set_numbers) return each(s, &option_table[i], word, one_number);
    found = option_choice("workload", word, workload_names, WORKLOADS);
    if (found < 0) return 2;
    for (unsigned i = 0; i < s->nworkloads; i++)
        if (s->workloads[i] == (unsigned)found) return 0;
    s->workloads[s->nworkloads++] = (unsigned)found;
    return 0;
}

static bool asked_for(const struct settings *s, const char *workload)
{
    for (unsigned i = 0; i < s->nworkloads; i++)
        if (!strcmp(workload_names[s->workloads[i]], workload)) return true;
    return false;
}

int bench_check(struct settings *s)
{
    if (s->nworkloads == 0) {
        bench_word(s, "sum", false);
        bench_word(s, "actions", false);
    }
    if (s->input && !asked_for(s, "sum")) {
        complain("--input is for the workload sum, which was not asked for");
        return 2;
    }
    if (s->input && s->has_size) {
        complain("--size does not go with --input: the file has its own size");
        return 2;
    }
    return 0;
}

/* The options of `parmap run`, `pipe` and `call`: what their values may be.  See option.h and batch.h.  What does not
 * go together is in options_check.c. */
#include "cli/option.h"
#include "cli/words.h"

#include <pmap/pmap.h>

#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONGEST_TIME 1e9 /* seconds: 31 years */

static int wrong(const struct option *o, const char *value, const char *expected)
{
    return option_wrong(o, value, strlen(value), expected);
}

/* ---- Reading values ---- */

/* 12 or 1.5, nothing else that strtod() would take.  Moves *at behind it. */
static bool read_real(const char **at, double *real)
{
    size_t whole = strspn(*at, "0123456789"), part = 0;

    if ((*at)[whole] == '.') part = 1 + strspn(*at + whole + 1, "0123456789");
    if (whole + part == 0 || (whole == 0 && part == 1) || whole + part > 40) return false;
    *real = strtod(*at, NULL);
    *at += whole + part;
    return true;
}

/* 30, 1.5, 2m, 1h30m: seconds, up to the end of the text or a comma. */
static bool read_time(const char **at, double *seconds)
{
    static const char units[] = "smhd";
    static const double times[] = { 1, 60, 3600, 86400 };

    *seconds = 0;
    do {
        const char *unit;
        double part;

        if (!read_real(at, &part)) return false;
        unit = **at ? strchr(units, **at) : NULL;
        *seconds += part * times[unit ? unit - units : 0];
        if (!unit) break;
        ++*at;
    } while (**at && **at != ',');
    return *seconds <= LONGEST_TIME && (!**at || **at == ',');
}

static bool read_percent(const char *value, double *percent)
{
    return read_real(&value, percent) && !strcmp(value, "%");
}

/* The byte at *at, which may be written as an escape; -1: as none that we know.  Moves *at behind it. */
static int read_byte(const char **at)
{
    static const char letters[] = "ntr0\\", bytes[] = "\n\t\r\0\\";
    const char *found;
    int byte = (unsigned char)*(*at)++;
    char digits[3];

    if (byte != '\\') return byte;
    found = **at ? strchr(letters, **at) : NULL;
    if (found) {
        ++*at;
        return (unsigned char)bytes[found - letters];
    }
    if (**at != 'x' || strspn(*at + 1, "0123456789abcdefABCDEF") < 2) return -1;
    memcpy(digits, *at + 1, 2);
    digits[2] = '\0';
    *at += 3;
    return (int)strtol(digits, NULL, 16);
}

/* ---- Input ---- */

int batch_source_add(struct settings *s, struct batch_source source)
{
    struct batch *b = &s->batch;
    struct batch_source *more = reallocarray(b->sources, b->nsources + 1, sizeof *more);

    if (!more) {
        complain("not enough memory for the list of sources");
        return 2;
    }
    b->sources = more;
    more[b->nsources++] = source;
    return 0;
}

int set_arg_file(struct settings *s, const struct option *o, const char *value)
{
    if (!*value) return wrong(o, value, "the name of a file");
    return batch_source_add(s, (struct batch_source){ .file = value });
}

int set_null(struct settings *s, const struct option *o, const char *value)
{
    (void)o;
    (void)value;
    s->batch.delimiter = '\0';
    return 0;
}

int set_delimiter(struct settings *s, const struct option *o, const char *value)
{
    const char *at = value;
    int byte = *value ? read_byte(&at) : -1;

    if (byte < 0 || *at) return wrong(o, value, "one byte, such as , or \\n, \\t, \\r, \\0, \\\\, \\x1f");
    s->batch.delimiter = (char)byte;
    return 0;
}

/* Escapes are replaced in place: it is a word of argv, which belongs to the program and is never longer afterwards. */
int set_marker(struct settings *s, const struct option *o, const char *value)
{
    char *to = (char *)(uintptr_t)value;
    const char *at = value;

    if (!*value) return wrong(o, value, "a text of at least one letter");
    while (*at) {
        const char *before = at;
        int byte = read_byte(&at);

        if (byte <= 0)
            return option_wrong(o, before, strlen(before),
                                "a text whose escapes are \\n, \\t, \\r, \\\\ or \\x01 to \\xff");
        *to++ = (char)byte;
    }
    *to = '\0';
    *(const char **)((char *)s + o->at) = value;
    return 0;
}

/* \t is replaced in place by a tab, which is what people mean and POSIX leaves open. */
static void expand_tabs(char *text)
{
    char *to = text;

    for (const char *at = text; *at;) {
        if (at[0] == '\\' && at[1] == 't') {
            *to++ = '\t';
            at += 2;
            continue;
        }
        if (at[0] == '\\' && at[1]) *to++ = *at++;
        *to++ = *at++;
    }
    *to = '\0';
}

int set_colsep(struct settings *s, const struct option *o, const char *value)
{
    char why[200];
    regex_t regex;
    int error;
    bool empty;

    if (!*value) return wrong(o, value, "a regular expression of at least one letter");
    expand_tabs((char *)(uintptr_t)value);
    error = regcomp(&regex, value, REG_EXTENDED);
    if (error) {
        regerror(error, &regex, why, sizeof why);
        complain("%s: '%s' is not an extended regular expression: %s", o->name, value, why);
        return 2;
    }
    empty = !regexec(&regex, "", 0, NULL, 0);
    regfree(&regex);
    if (empty) return wrong(o, value, "a regular expression that divides columns: it matches an empty text");
    s->batch.colsep = value;
    return 0;
}

int set_header(struct settings *s, const struct option *o, const char *value)
{
    if (strcmp(value, ":")) return wrong(o, value, "':' (the first record is the header)");
    s->batch.header = true;
    return 0;
}

int set_most(struct settings *s, const struct option *o, const char *value)
{
    uint64_t n;

    if (!words_number(value, strlen(value), &n) || n < 1 || n > SIZE_MAX / 2)
        return wrong(o, value, "a whole number from 1 on");
    *(size_t *)((char *)s + o->at) = (size_t)n;
    return 0;
}

int set_fill(struct settings *s, const struct option *o, const char *value)
{
    (void)value;
    s->batch.fill = o->letter == 'X' ? FILL_CONTEXT : FILL_ARGUMENTS;
    return 0;
}

int set_bytes(struct settings *s, const struct option *o, const char *value)
{
    uint64_t n;

    /* Sums of sizes must not wrap, nor a file's offset. */
    if (!words_number(value, strlen(value), &n) || n < 1 || n > UINT64_C(1) << 60)
        return wrong(o, value, "a number of bytes from 1 on, such as 4096, 10M or 64Ki");
    *(uint64_t *)((char *)s + o->at) = n;
    return 0;
}

/* ---- Output ---- */

int set_grouping(struct settings *s, const struct option *o, const char *value)
{
    (void)value;
    s->batch.grouping = o->letter == 'u' ? OUTPUT_UNGROUPED : !strcmp(o->name, "--group") ? OUTPUT_GROUP : OUTPUT_LINES;
    return 0;
}

/* ---- Control ---- */

int set_jobs(struct settings *s, const struct option *o, const char *value)
{
    static const char expected[] = "a number up to 65536, N%, +N, 0 or the name of a file that can be read "
                                   "and says one of these";

    if (!batch_jobs(value, pmap_cpus())) return wrong(o, value, expected);
    s->batch.jobs = value;
    return 0;
}

int set_timeout(struct settings *s, const struct option *o, const char *value)
{
    struct batch_amount amount = { 0 };
    const char *at = value;

    amount.percent = read_percent(value, &amount.value);
    if (amount.percent ? amount.value <= 100 : !read_time(&at, &amount.value) || *at || amount.value <= 0)
        return wrong(o, value, "a time such as 30, 1.5, 2m, 1h or 1d, or more than 100% of the median");
    s->batch.timeout = amount;
    return 0;
}

int set_retries(struct settings *s, const struct option *o, const char *value)
{
    uint64_t n;

    if (!words_number(value, strlen(value), &n) || n < 1 || n > 1000000)
        return wrong(o, value, "how often a job is run in all, from 1 to 1000000");
    s->batch.tries = (unsigned)n;
    return 0;
}

int set_retry_delay(struct settings *s, const struct option *o, const char *value)
{
    static const char expected[] = "a time, and perhaps a factor from 1 on: 2, 1.5,x2 or 1m,x1.5";
    double delay, factor = 1;
    const char *at = value;

    if (!read_time(&at, &delay)) return wrong(o, value, expected);
    if (*at) {
        if (at[1] != 'x') return wrong(o, value, expected);
        at += 2;
        if (!read_real(&at, &factor) || *at || factor < 1 || factor > 1000) return wrong(o, value, expected);
    }
    s->batch.retry_delay = delay;
    s->batch.retry_factor = factor;
    return 0;
}

int set_halt(struct settings *s, const struct option *o, const char *value)
{
    static const char *const whens[] = { "never", "soon", "now" }, *const whats[] = { "fail", "success", "done" };
    size_t when_length = strcspn(value, ","), what_length;
    int when = words_find(value, when_length, whens, 3), what;
    const char *at = value + when_length;
    struct batch_amount amount = { 0 };
    uint64_t n;

    if (when < 0) return option_wrong(o, value, when_length, "never, now or soon, as in now,fail=1");
    s->batch.halt = (enum batch_halt_when)when;
    if (when == HALT_NEVER) return *at ? wrong(o, value, "never, which has nothing behind it") : 0;
    if (!*at) return wrong(o, value, "complete: expected fail, success or done behind it, as in now,fail=1");
    what_length = strcspn(++at, "=");
    what = words_find(at, what_length, whats, 3);
    if (what < 0) return option_wrong(o, at, what_length, "fail, success or done, as in now,fail=1");
    at += what_length;
    if (!*at) return wrong(o, value, "complete: expected a number of jobs behind it, as in now,fail=1");
    at++;
    amount.percent = read_percent(at, &amount.value);
    if (!amount.percent) {
        if (!words_number(at, strlen(at), &n) || n < 1) return wrong(o, at, "a number of jobs from 1 on, or N%");
        amount.value = (double)n;
    } else if (amount.value <= 0 || amount.value > 100) {
        return wrong(o, at, "above 0% and up to 100%");
    }
    s->batch.halt_what = (enum batch_halt_what)what;
    s->batch.halt_at = amount;
    return 0;
}

int set_delay(struct settings *s, const struct option *o, const char *value)
{
    const char *at = value;

    if (!read_time(&at, &s->batch.delay) || *at) return wrong(o, value, "a time such as 0.1, 30 or 2m");
    return 0;
}

int set_nice(struct settings *s, const struct option *o, const char *value)
{
    bool minus = value[0] == '-';
    const char *digits = value + (minus || value[0] == '+');
    uint64_t n;

    if (!words_number(digits, strlen(digits), &n) || n > (minus ? 20 : 19))
        return wrong(o, value, "a niceness from -20 to 19");
    s->batch.nice = minus ? -(int)n : (int)n;
    return 0;
}

int set_load(struct settings *s, const struct option *o, const char *value)
{
    const char *at = value;
    double load;

    if (read_percent(value, &load)) load = load * pmap_cpus() / 100;
    else if (!read_real(&at, &load) || *at) load = 0;
    if (load <= 0) return wrong(o, value, "a load average above 0, such as 4 or 80%");
    s->batch.load = load;
    return 0;
}

int set_seed(struct settings *s, const struct option *o, const char *value)
{
    if (!words_number(value, strlen(value), &s->batch.seed)) return wrong(o, value, "a whole number below 2^64");
    s->batch.has_seed = true;
    return 0;
}

int set_exit(struct settings *s, const struct option *o, const char *value)
{
    static const char *const hows[] = { "xargs", "count" };
    int found = words_find(value, strlen(value), hows, 2);

    if (found < 0) return wrong(o, value, "xargs or count");
    s->batch.count_failures = found == 1;
    return 0;
}

/* ---- Record ---- */

int set_resume(struct settings *s, const struct option *o, const char *value)
{
    (void)value;
    s->batch.resume = !strcmp(o->name, "--resume") ? RESUME
                      : !strcmp(o->name, "--resume-failed") ? RESUME_FAILED : RETRY_FAILED;
    return 0;
}

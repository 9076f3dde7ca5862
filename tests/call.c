/* Functions for `parmap call` that tests/test_call.sh builds and uses: what they do is in the records. */
#define _GNU_SOURCE /* sched_getaffinity */
#include <pmap/call.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *record, size_t bytes, const char *word)
{
    size_t n = strlen(word);

    return bytes >= n && memcmp(record, word, n) == 0;
}

/* Dies, hangs, exits or fails where a record begins with a word that says so. */
static int obey(parmap_call *call, const char *record, size_t bytes)
{
    static const char half[] = "half of a record's output, which nobody must see";
    sigset_t none;

    sigemptyset(&none);
    parmap_write(call, half, sizeof half - 1);
    if (is(record, bytes, "abort")) abort();
    if (is(record, bytes, "kill")) raise(SIGKILL);
    if (is(record, bytes, "exit")) _exit(3);
    if (is(record, bytes, "hang")) for (;;) sigsuspend(&none);
    if (is(record, bytes, "twice")) abort();
    if (is(record, bytes, "fail")) parmap_error(call, "as it was told: %.*s", (int)bytes, record);
    return 7;
}

int nothing(parmap_call *call, const char *record, size_t bytes)
{
    (void)call;
    (void)record;
    (void)bytes;
    return 0;
}

/* The record again, with a newline.  Those that begin with a word of obey() are not copied, but "twice" and "once" at the second attempt. */
int copy(parmap_call *call, const char *record, size_t bytes)
{
    static const char *const words[] = { "abort", "kill", "exit", "hang", "fail" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (is(record, bytes, words[i])) return obey(call, record, bytes);
    if ((is(record, bytes, "twice") || is(record, bytes, "once")) && parmap_attempt(call) == 0) return obey(call, record, bytes);
    if (is(record, bytes, "gate")) { /* until the FIFO that GATE names has had a writer, and has none any more */
        char byte;
        int fd = open(getenv("GATE"), O_RDONLY);

        while (read(fd, &byte, 1) == 1) continue;
        close(fd);
    }
    parmap_write(call, record, bytes);
    parmap_write(call, "\n", 1);
    return 0;
}

/* 1000 bytes for every one. */
int much(parmap_call *call, const char *record, size_t bytes)
{
    char text[1000];

    for (size_t i = 0; i < bytes; i++) {
        memset(text, record[i], sizeof text);
        parmap_write(call, text, sizeof text);
    }
    return 0;
}

int where(parmap_call *call, const char *record, size_t bytes)
{
    char text[400];

    parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%s %llu %.*s\n", parmap_file(call),
                                              (unsigned long long)parmap_offset(call), (int)bytes, record));
    return 0;
}

int chance(parmap_call *call, const char *record, size_t bytes)
{
    char text[80];
    unsigned long long first = parmap_random(call), second = parmap_random(call);

    (void)record;
    (void)bytes;
    if (first == second) return 1;
    parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%016llx%016llx\n", first, second));
    return 0;
}

/* [field][field]... with newlines and carriage returns as ~ and ^, behind the column that the header calls "name". */
int fields(parmap_call *call, const char *record, size_t bytes)
{
    size_t count = parmap_fields(call), n;
    const char *named = parmap_field(call, parmap_column(call, "name"), &n);

    (void)record;
    (void)bytes;
    if (parmap_field(call, count, NULL)) return 1;
    if (parmap_header(call, NULL)) {
        if (named) parmap_write(call, named, n);
        parmap_write(call, ":", 1);
    }
    for (size_t i = 0; i < count; i++) {
        const char *text = parmap_field(call, i, &n);

        if (strlen(text) != n) return 2;
        parmap_write(call, "[", 1);
        for (size_t j = 0; j < n; j++) parmap_write(call, text[j] == '\n' ? "~" : text[j] == '\r' ? "^" : text + j, 1);
        parmap_write(call, "]", 1);
    }
    parmap_write(call, "\n", 1);
    return 0;
}

/* Counts records and adds up their numbers by blocks. */
struct count {
    unsigned long long records, sum;
};

int count_init(unsigned worker, void **state)
{
    (void)worker;
    *state = calloc(1, sizeof(struct count));
    return !*state;
}

int count(parmap_call *call, const char *record, size_t bytes)
{
    struct count *c = parmap_state(call);
    char text[24] = "";

    if (is(record, bytes, "abort")) abort();
    if (bytes >= sizeof text) return 1;
    memcpy(text, record, bytes);
    c->records++;
    c->sum += strtoull(text, NULL, 10);
    return 0;
}

int count_block(parmap_call *call)
{
    struct count *c = parmap_state(call);
    char text[80];

    parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%llu %llu\n", c->records, c->sum));
    *c = (struct count){ 0, 0 };
    return 0;
}

void count_exit(unsigned worker, void *state)
{
    (void)worker;
    free(state);
}

int unready(parmap_call *call, const char *record, size_t bytes) { return nothing(call, record, bytes); }
int unready_init(unsigned worker, void **state)
{
    (void)worker;
    (void)state;
    return 5;
}

int ending(parmap_call *call, const char *record, size_t bytes) { return copy(call, record, bytes); }
int ending_block(parmap_call *call)
{
    parmap_write(call, "never", 5);
    abort();
}

/* Which CPUs its worker may use, and which worker that is. */
int placed(parmap_call *call, const char *record, size_t bytes)
{
    char text[80];
    cpu_set_t may;

    (void)record;
    (void)bytes;
    if (sched_getaffinity(0, sizeof may, &may)) return 1;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may)) parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%u %zu\n", parmap_worker(call), cpu));
    return 0;
}

/* Says in the file "trace" when it begins and ends.  A record "meet N" waits until N have begun. */
int traced(parmap_call *call, const char *record, size_t bytes)
{
    int trace = open("trace", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666), turns = 2000, begun = 0, wanted = 0;
    char text[1000];

    (void)call;
    if (trace < 0 || write(trace, "+\n", 2) != 2) return 1;
    if (bytes > 5 && is(record, bytes, "meet ")) wanted = atoi(record + 5);
    do {
        ssize_t n = pread(trace, text, sizeof text, 0);

        begun = 0;
        for (ssize_t i = 0; i < n; i++) begun += text[i] == '+';
        (void)usleep(10000); /* the work, or between two looks */
    } while (begun < wanted && turns-- > 0);
    if (write(trace, "-\n", 2) != 2) return 1;
    (void)close(trace);
    return begun < wanted;
}

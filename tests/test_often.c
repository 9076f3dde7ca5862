/* A pool opened, used and ended ten thousand times: descriptors, threads, processes, mappings and memory are the same at the end as soon after
 * the beginning.  A program that opens a pool for each request it serves does so all day. */
#include "tests/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* Ten thousand where a round costs a tenth of a millisecond to two milliseconds.  Over ZeroMQ one costs four to nine (contexts, sockets and their
 * threads in three processes), and what it leaves would be whole descriptors, threads or names: three hundred show those as well.  A sanitizer
 * takes ten times as long, and keeps freed memory back, so that how much is resident says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHECKED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define CHECKED 1
#endif
#endif
#ifdef CHECKED
enum { OFTEN = 300, OFTEN_ZMQ = 60, USED = 10 };
#else
enum { CHECKED = 0, OFTEN = 10000, OFTEN_ZMQ = 300, USED = 50 };
#endif
#define WARM 20u  /* what a C library, an OpenMP runtime or libzmq sets up once is there by then */
#define MOST_S 25 /* a machine that is ten times slower does what it can in that time: the program is bounded (tests/harness.h) */

struct held {
    size_t fds, threads, mappings, children;
    size_t resident_kib, address_kib; /* private memory; address space */
};

static size_t lines(const char *path)
{
    size_t n = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    for (int c; (c = getc(file)) != EOF;) n += c == '\n';
    fclose(file);
    return n;
}

static size_t kib(const char *what)
{
    char line[128];
    size_t n = 0, length = strlen(what);
    FILE *file = fopen("/proc/self/status", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, what, length) == 0 && sscanf(line + length, ": %zu", &n) == 1) break;
    fclose(file);
    return n;
}

/* This program adopts what its children leave (tests/harness.c): whatever is not its child is nobody's. */
static size_t children(void)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

static struct held look(void)
{
    return (struct held){pm_test_entries("/proc/self/fd"), pm_test_entries("/proc/self/task"), lines("/proc/self/maps"), children(), kib("RssAnon"), kib("VmSize")};
}

/* Threads of libgomp's or libzmq's are told to end, and the kernel has not always done so when the call that told them returns. */
static bool threads_are(void *n) { return pm_test_entries("/proc/self/task") <= *(size_t *)n; }

static void compare(const struct pm_path *path, unsigned round, struct held before)
{
    (void)pm_test_wait_until(threads_are, &before.threads, 2000);
    struct held now = look();
    if (now.fds != before.fds || now.threads != before.threads || now.children)
        fail_msg("%s, round %u: %zu descriptors, %zu threads, children: %zu; before %zu, %zu, none", path->name, round, now.fds, now.threads, now.children,
                 before.fds, before.threads);
    if (now.mappings > before.mappings + 6) /* malloc's own come and go */
        fail_msg("%s, round %u: %zu mappings, before %zu", path->name, round, now.mappings, before.mappings);
    if (CHECKED) return;
    /* Of ten thousand rounds none may keep as much as fifty bytes.  malloc's arenas of 64 MiB of addresses each are made for threads. */
    if (now.resident_kib > before.resident_kib + 512) fail_msg("%s, round %u: %zu KiB, before %zu", path->name, round, now.resident_kib, before.resident_kib);
    if (now.address_kib > before.address_kib + (256 << 10))
        fail_msg("%s, round %u: %zu KiB of addresses, before %zu", path->name, round, now.address_kib, before.address_kib);
}

static int answers(pmap_task *task, const void *in, size_t bytes)
{
    void *out = pmap_task_result(task, bytes);
    if (!out) return 1;
    memcpy(out, in, bytes);
    return 0;
}

/* All that makes a pool hold more than its workers: the arena's pages, a list of failures, the tables of tasks, a descriptor, a thread. */
static void use(const struct pm_path *path, pmap_pool *pool, unsigned round)
{
    EXPECT(pm_small_map(pool), 0);
    void *memory = pmap_alloc(pool, 100000);
    assert_non_null(memory);
    if (round % 4 == 0) pmap_free(pool, memory);
    if (path->bit == PM_ON_ZMQ) return;
    int x = (int)round, y = 0;
    size_t bytes = sizeof y;
    EXPECT(pmap_apply(pool, answers, &x, sizeof x, &y, &bytes, NULL), 0);
    assert_int_equal(x, y);
    pmap_future *f;
    EXPECT(pmap_submit(pool, answers, &x, sizeof x, NULL, &f), 0);
    if (round % 3 == 0) pmap_future_free(f); /* else it ends with the pool */
    assert_true(pmap_pool_fd(pool) >= 0);
}

static void ten_thousand_times(const struct pm_path *path)
{
    unsigned times = path->bit == PM_ON_ZMQ ? OFTEN_ZMQ : OFTEN, i = 0;
    struct held before = {0};
    double end = seconds() + MOST_S;
    for (; i < times && (i < times / 10 || seconds() < end); i++) {
        pmap_pool *pool = pm_path_open(path, 1 + i % 2);
        if (i < WARM || i % USED == 0) use(path, pool, i);
        if (i % 3) pm_path_close(pool);
        else EXPECT(pmap_pool_terminate(pool, 0), 0);
        if (i == WARM) before = look();
        if (i > WARM && i % (times / 10) == 0) compare(path, i, before);
    }
    compare(path, i, before);
    if (i < times) print_message("    %s: only %u times in %d s\n", path->name, i, MOST_S);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"open, use, close", ten_thousand_times, PM_ON_ALL & ~PM_ON_COPY}, /* whose maps are those of the other: private memory */
    };
    return PM_PATHS_MAIN("often", tests);
}

/* The stream sides of `targets`: empty tasks one by one through pmap_imap() and pmap_imap_unordered(), and through Python's
 * Pool.imap_unordered() with chunks of one.  Uses <pmap/pmap.h> and nothing below. */
#include "tests/targets_peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS 400000u
#define FIRST 20000u    /* not timed: until then the workers have found their pace */

static int same(pmap_task *task, const void *in, size_t bytes)
{
    memcpy(pmap_task_result(task, bytes), in, bytes);
    return 0;
}

struct counter {
    uint64_t next, end;
};

static int count_up(void *arg, const void **in, size_t *bytes)
{
    struct counter *c = arg;
    if (++c->next > c->end) return 0;
    *in = &c->next;
    *bytes = sizeof c->next;
    return 1;
}

/* ns an item. */
static double stream_run(const struct side *side)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    pmap_stream *stream;
    struct counter source = {0, ITEMS + FIRST};
    const void *result;
    size_t bytes;
    uint64_t sum = 0, n = 0;
    double begin = 0;
    o.workers = WORKERS;
    if (pmap_pool_open(&pool, &o)) side_fail("pmap_pool_open: %s", pmap_error());
    if ((side->unordered ? pmap_imap_unordered : pmap_imap)(pool, same, count_up, &source, NULL, &stream)) side_fail("%s", pmap_error());
    while (pmap_stream_next(stream, 60, &result, &bytes) == 1) {
        sum += *(const uint64_t *)result;
        if (++n == FIRST) begin = now_ns();
    }
    double took = now_ns() - begin;
    if (n != source.end || sum != n * (n + 1) / 2) side_fail("a stream: %llu results, or wrong ones: %s", (unsigned long long)n, pmap_error());
    pmap_stream_close(stream);
    if (pmap_pool_close(pool)) side_fail("pmap_pool_close: %s", pmap_error());
    return took / ITEMS;
}

static const char *ready(const struct side *side)
{
    (void)side;
    return NULL;
}

static const char *python_setup(const struct side *side)
{
    (void)side;
    return system("python3 -c pass >/dev/null 2>&1") == 0 ? NULL : "not installed (python3)";
}

static double python_run(const struct side *side)
{
    static const char script[] =
        "python3 -c \"\n"
        "import multiprocessing, time\n"
        "def f(x): return x\n"
        "n = 20000\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    list(pool.imap_unordered(f, range(1000), chunksize=1))\n"
        "    t = time.perf_counter_ns()\n"
        "    s = sum(pool.imap_unordered(f, range(n), chunksize=1))\n"
        "    print((time.perf_counter_ns() - t) / n, s)\n\"";
    double ns, sum;
    (void)side;
    FILE *out = popen(script, "re");
    int got = out ? fscanf(out, "%lf %lf", &ns, &sum) : 0;
    if (out) pclose(out);
    if (got != 2 || sum != 199990000.0) side_fail("python3 gave no sum, or a wrong one");
    return ns;
}

const struct side imap_pmap = {.setup = ready, .run = stream_run};
const struct side imap_unordered_pmap = {.setup = ready, .run = stream_run, .unordered = 1};
const struct side imap_python = {.setup = python_setup, .run = python_run};

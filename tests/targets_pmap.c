/* The pmap sides of `targets`: one pool in one process, the workload of a row, its result checked.
 * Uses <pmap/pmap.h> and nothing below. */
#include "tests/targets_peers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_WORKERS 1024
#define KILL_ITEMS 200000u
#define KILL_MS 5
#define MANY_ITEMS 100000u
#define BIG_ITEMS ((size_t)1000000000)

static pmap_pool *pool;
static char remark[100];

static const char *note(void) { return remark; }

static void check(int error, const char *what)
{
    if (error) side_fail("%s: %s: %s", what, pmap_strerror(error), pmap_error());
}

static const char *open_pool(const struct side *side)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    o.workers = side->workers ? side->workers : WORKERS;
    o.spin_us = side->spin_us;
    o.no_huge_pages = side->no_huge_pages;
    check(pmap_pool_open(&pool, &o), "pmap_pool_open");
    return NULL;
}

void side_end(void)
{
    if (pool) check(pmap_pool_close(pool), "pmap_pool_close");
    pool = NULL;
}

static void *arena_new(size_t bytes)
{
    void *p = pmap_alloc(pool, bytes);
    if (!p) side_fail("pmap_alloc: %s", pmap_error());
    return p;
}

/* ---- sum, fresh, private ---- */

static double *data;

static int partial(pmap_task *task, const void *items, size_t count, void *result)
{
    (void)task;
    *(double *)result = sum_block(items, count);
    return 0;
}

static void combine(void *acc, const void *part, void *arg)
{
    (void)arg;
    *(double *)acc += *(const double *)part;
}

static double timed_sum(const double *x)
{
    double total = 0, t = now_ns();
    check(pmap_reduce(pool, partial, combine, x, SUM_ITEMS, sizeof *x, &total, sizeof total, NULL), "pmap_reduce");
    t = now_ns() - t;
    if (total != filled_sum(SUM_ITEMS)) side_fail("pmap_reduce: %.17g instead of %.17g", total, filled_sum(SUM_ITEMS));
    return t;
}

static const char *sum_setup(const struct side *side)
{
    (void)open_pool(side);
    data = arena_new(SUM_BYTES);
    fill(data, SUM_ITEMS);
    return NULL;
}

static const char *private_setup(const struct side *side)
{
    (void)open_pool(side);
    data = malloc(SUM_BYTES);
    if (!data) return "no memory";
    fill(data, SUM_ITEMS);
    return NULL;
}

static double sum_run(const struct side *side)
{
    (void)side;
    return timed_sum(data);
}

static double fresh_run(const struct side *side)
{
    (void)side;
    double *x = arena_new(SUM_BYTES);
    fill(x, SUM_ITEMS);
    double t = timed_sum(x);
    pmap_free(pool, x);
    return t;
}

const struct side sum_pmap = {.setup = sum_setup, .run = sum_run};
const struct side private_pmap = {.setup = private_setup, .run = sum_run};
const struct side fresh_pmap = {.setup = open_pool, .run = fresh_run};
const struct side fresh_small_pmap = {.setup = open_pool, .run = fresh_run, .no_huge_pages = 1};

/* ---- actions, empty, the smallest map ---- */

static _Atomic uint64_t *done; /* in the arena: what the functions have counted */

static const char *counter_setup(const struct side *side)
{
    (void)open_pool(side);
    done = arena_new(sizeof *done);
    return NULL;
}

static int act(pmap_task *task, size_t first, size_t last)
{
    actions(first, last);
    atomic_fetch_add((_Atomic uint64_t *)pmap_task_arg(task), last - first);
    return 0;
}

static double timed_actions(size_t n, size_t chunk)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = (void *)done;
    o.chunk = chunk;
    atomic_store(done, 0);
    double t = now_ns();
    check(pmap_for(pool, act, 0, n, &o), "pmap_for");
    t = now_ns() - t;
    if (atomic_load(done) != n) side_fail("pmap_for: %llu of %zu items done", (unsigned long long)atomic_load(done), n);
    return t;
}

static double actions_run(const struct side *side)
{
    (void)side;
    return timed_actions(ACTIONS, 0);
}

static double timed_empty(size_t n)
{
    struct pmap_stats stats = {.size = sizeof stats};
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.chunk = 1;
    o.stats = &stats;
    double t = now_ns();
    check(pmap_for(pool, nothing, 0, n, &o), "pmap_for");
    t = now_ns() - t;
    if (stats.items != n || stats.chunks != n)
        side_fail("pmap_for: %llu items in %llu chunks", (unsigned long long)stats.items,
                  (unsigned long long)stats.chunks);
    return t;
}

static double empty_run(const struct side *side)
{
    (void)side;
    return timed_empty(EMPTY_ITEMS) / EMPTY_ITEMS;
}

static void smallest(void)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.chunk = 1;
    check(pmap_for(pool, nothing, 0, 1, &o), "pmap_for");
}

static double wake_run(const struct side *side) { return batches(side->spin_us > 0 ? 2000 : 200, smallest); }

static int no_work(pmap_task *task, const void *in, size_t bytes)
{
    (void)task, (void)in, (void)bytes;
    return 0;
}

static void one_future(void)
{
    pmap_future *future;
    check(pmap_submit(pool, no_work, NULL, 0, NULL, &future), "pmap_submit");
    check(pmap_future_get(future, -1, NULL, NULL), "pmap_future_get");
    pmap_future_free(future);
}

static double future_run(const struct side *side) { return batches(side->spin_us > 0 ? 2000 : 200, one_future); }

const struct side actions_pmap = {.setup = counter_setup, .run = actions_run};
const struct side empty_pmap = {.setup = open_pool, .run = empty_run};
const struct side wake_pmap = {.setup = open_pool, .run = wake_run, .spin_us = -1};
const struct side spin_pmap = {.setup = open_pool, .run = wake_run, .workers = 1, .spin_us = 1000};
const struct side future_pmap = {.setup = open_pool, .run = future_run, .spin_us = -1};
const struct side future_spin_pmap = {.setup = open_pool, .run = future_run, .workers = 1, .spin_us = 1000};

/* ---- zmq ---- */

static double *frames, answers[FRAMES];

static int first_double(pmap_task *task, const void *items, size_t count, void *results)
{
    (void)task;
    for (size_t i = 0; i < count; i++) memcpy((double *)results + i, (const char *)items + i * FRAME, sizeof(double));
    return 0;
}

static const char *zmq_setup(const struct side *side)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    (void)side;
    o.workers = 1;
    o.channel = PMAP_ZMQ;
    int error = pmap_pool_open(&pool, &o);
    if (error == PMAP_ENOTSUP) return "not built (libpmap without ZeroMQ)";
    check(error, "pmap_pool_open");
    frames = frames_new();
    return NULL;
}

static double zmq_run(const struct side *side)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    (void)side;
    o.chunk = 1;
    memset(answers, 0, sizeof answers);
    double t = now_ns();
    check(pmap_chunks(pool, first_double, frames, FRAMES, FRAME, answers, sizeof *answers, &o), "pmap_chunks");
    t = now_ns() - t;
    for (unsigned i = 0; i < FRAMES; i++)
        if (answers[i] != (double)(i + 1)) side_fail("zmq: frame %u answered %g", i + 1, answers[i]);
    return t;
}

const struct side zmq_pmap = {.setup = zmq_setup, .run = zmq_run};

/* ---- open ---- */

static void open_close(void)
{
    pmap_pool *p;
    pmap_options o = PMAP_OPTIONS_INIT;
    o.workers = WORKERS;
    check(pmap_pool_open(&p, &o), "pmap_pool_open");
    check(pmap_pool_close(p), "pmap_pool_close");
}

static double open_run(const struct side *side)
{
    (void)side;
    return batches(2, open_close);
}

const struct side open_pmap = {.run = open_run};

/* ---- kill, many: items of 10 us, or empty ones ---- */

static uint64_t *in, *out;

static uint64_t expected(uint64_t x) { return x * UINT64_C(2654435761) + 1; }

static int ten_us_item(pmap_task *task, const void *item, void *result)
{
    uint64_t x = *(const uint64_t *)item;
    (void)task;
    actions(0, ten_us);
    *(uint64_t *)result = expected(x);
    return 0;
}

static const char *items_setup(const struct side *side)
{
    (void)open_pool(side);
    in = arena_new(KILL_ITEMS * sizeof *in);
    out = arena_new(KILL_ITEMS * sizeof *out);
    for (uint64_t i = 0; i < KILL_ITEMS; i++) in[i] = i;
    return NULL;
}

static double timed_items(size_t n, uint64_t *deaths)
{
    struct pmap_stats stats = {.size = sizeof stats};
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.retries = 30; /* the kills are not the items' fault */
    o.stats = &stats;
    memset(out, 0, n * sizeof *out);
    double t = now_ns();
    check(pmap_map(pool, ten_us_item, in, n, sizeof *in, out, sizeof *out, &o), "pmap_map");
    t = now_ns() - t;
    for (size_t i = 0; i < n; i++)
        if (out[i] != expected(i)) side_fail("pmap_map: item %zu is %llu", i, (unsigned long long)out[i]);
    *deaths = stats.deaths;
    return t;
}

static atomic_bool over;

/* Between asking for the pids and the signal a worker may end; its pid is not given out again so soon. */
static void *killer(void *unused)
{
    uint64_t random = (uint64_t)getpid() | 1;
    while (poll(NULL, 0, KILL_MS) == 0 && !atomic_load(&over)) {
        int pids[MOST_WORKERS];
        unsigned n = pmap_pool_pids(pool, pids, MOST_WORKERS);
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        unsigned i = n ? (unsigned)(random >> 33) % n : 0;
        if (n && pids[i] > 0) (void)kill(pids[i], SIGKILL);
    }
    return unused;
}

static double quiet_run(const struct side *side)
{
    uint64_t deaths;
    (void)side;
    double t = timed_items(KILL_ITEMS, &deaths);
    if (deaths) side_fail("%llu workers died in the quiet run", (unsigned long long)deaths);
    return t;
}

static double kill_run(const struct side *side)
{
    pthread_t thread;
    uint64_t deaths;
    (void)side;
    atomic_store(&over, false);
    if (pthread_create(&thread, NULL, killer, NULL)) side_fail("pthread_create failed");
    double t = timed_items(KILL_ITEMS, &deaths);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    if (deaths == 0) side_fail("nobody was killed");
    snprintf(remark, sizeof remark, "%llu deaths in the last run", (unsigned long long)deaths);
    return t;
}

static double many_run(const struct side *side)
{
    uint64_t deaths;
    return side->empty ? timed_empty(MANY_ITEMS) : timed_items(MANY_ITEMS, &deaths);
}

const struct side quiet_pmap = {.setup = items_setup, .run = quiet_run};
const struct side kill_pmap = {.setup = items_setup, .run = kill_run, .note = note};
const struct side few_pmap = {.setup = items_setup, .run = many_run};
const struct side many_pmap = {.setup = items_setup, .run = many_run, .workers = 1000};
const struct side few_empty_pmap = {.setup = open_pool, .run = many_run, .empty = 1};
const struct side many_empty_pmap = {.setup = open_pool, .run = many_run, .workers = 1000, .empty = 1};

/* ---- timeout ---- */

static int endless(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item;
    while (!result) actions(0, ten_us); /* there are no results: for ever */
    return 0;
}

static double timeout_run(const struct side *side)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    size_t n;
    (void)side;
    o.timeout_s = ENDLESS_MS * 1e-3;
    o.retries = 0;
    double t = now_ns();
    int error = pmap_map(pool, endless, NULL, ENDLESS, 0, NULL, 0, &o);
    t = now_ns() - t;
    if (error != PMAP_EITEMS) side_fail("pmap_map: %d %s", error, pmap_error());
    const pmap_failure *failure = pmap_failures(pool, &n);
    if (n != ENDLESS) side_fail("%zu of %u items have failed", n, ENDLESS);
    for (size_t i = 0; i < n; i++)
        if (failure[i].cause != PMAP_CAUSE_TIMEOUT) side_fail("%s", failure[i].text);
    snprintf(remark, sizeof remark, "%.3f times the %u ms that the time-outs take", t * 1e-6 / TIMEOUTS_MS, TIMEOUTS_MS);
    return t;
}

const struct side timeout_pmap = {.setup = open_pool, .run = timeout_run, .note = note};

/* ---- life ---- */

#define LIVES 400u

static const char *recycle_setup(const struct side *side)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    (void)side;
    o.workers = WORKERS;
    o.recycle_items = 1;
    check(pmap_pool_open(&pool, &o), "pmap_pool_open");
    return NULL;
}

static int my_pid(pmap_task *task, const void *item, void *result)
{
    (void)task, (void)item;
    *(int *)result = getpid();
    return 0;
}

static double recycle_run(const struct side *side)
{
    static int pids[LIVES];
    (void)side;
    double t = now_ns();
    check(pmap_map(pool, my_pid, NULL, LIVES, 0, pids, sizeof *pids, NULL), "pmap_map");
    t = now_ns() - t;
    for (unsigned i = 0; i < LIVES; i++)
        for (unsigned j = 0; j < i; j++)
            if (pids[i] == pids[j]) side_fail("worker %d has run items %u and %u", pids[i], j, i);
    return t / LIVES;
}

const struct side recycle_pmap = {.setup = recycle_setup, .run = recycle_run};

/* ---- memory ---- */

/* Pages that the pool's memfd has. */
static double arena_bytes(void)
{
    for (int fd = 3; fd < 64; fd++) {
        char path[64], name[64] = "";
        struct stat s;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, name, sizeof name - 1) < 0 || strncmp(name, "/memfd:", 7)) continue;
        if (fstat(fd, &s)) side_fail("fstat: %s", strerror(errno));
        return (double)s.st_blocks * 512;
    }
    side_fail("the pool has no memfd");
}

/* Not from smaps_rollup: to the kernel a page of the arena that only one worker has touched is private as well. */
static double private_bytes(int pid)
{
    char path[64], line[512];
    double kib, sum = 0;
    bool arena = false;
    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    FILE *file = fopen(path, "re");
    if (!file) side_fail("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) arena = strstr(line, " /memfd:") != NULL;
        else if (arena) continue;
        else if (sscanf(line, "Private_Clean: %lf", &kib) == 1 || sscanf(line, "Private_Dirty: %lf", &kib) == 1)
            sum += kib * 1024;
    }
    fclose(file);
    if (sum == 0) side_fail("%s has no private memory at all", path);
    return sum;
}

static double most_words, most_private;

static void sample(void)
{
    int pids[WORKERS];
    unsigned n = pmap_pool_pids(pool, pids, WORKERS);
    double b = arena_bytes();
    if (b > most_words) most_words = b;
    for (unsigned i = 0; i < n && i < WORKERS; i++) {
        double p = private_bytes(pids[i]);
        if (p > most_private) most_private = p;
    }
}

static void *sampler(void *unused)
{
    while (poll(NULL, 0, 10) == 0 && !atomic_load(&over)) sample();
    return unused;
}

/* Tuned, and in a million chunks, which is more than one window of them. */
static void watch_big(void)
{
    pthread_t thread;
    atomic_store(&over, false);
    most_words = most_private = 0;
    if (pthread_create(&thread, NULL, sampler, NULL)) side_fail("pthread_create failed");
    (void)timed_actions(BIG_ITEMS, 0);
    double t = timed_actions(BIG_ITEMS, 1000);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    sample();
    snprintf(remark, sizeof remark, "10^6 chunks took %.0f ms", t * 1e-6);
}

static double words_run(const struct side *side)
{
    (void)side;
    watch_big();
    return most_words;
}

static double worker_memory_run(const struct side *side)
{
    (void)side;
    watch_big();
    return most_private;
}

const struct side words_pmap = {.setup = counter_setup, .run = words_run, .note = note};
const struct side worker_memory_pmap = {.setup = counter_setup, .run = worker_memory_run};

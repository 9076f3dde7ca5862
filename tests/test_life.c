/* A worker's life: hooks and the state that they leave, hooks that fail, workers that are replaced after so many items, so much memory or so
 * long, workers that leave for want of work, pools inside pools. */
#include "tests/together.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* What the hooks and functions write down; shared with all processes, for the workers of pools that are not open yet. */
static struct notes {
    _Atomic unsigned inits, exits, mixed, items;
    _Atomic unsigned pids; /* of pid[] */
    _Atomic int pid[4096]; /* who has run something, in order of its first item */
    int code, die, hang;   /* what the init hook is to do; a signal; the exit hook is to stay */
} *notes;

static void clear_notes(void) { memset((void *)notes, 0, sizeof *notes); }

struct state {
    unsigned worker, items;
    int pid;
};

static int begin(unsigned worker, void **state, void *arg)
{
    struct notes *n = arg;
    atomic_fetch_add(&n->inits, 1);
    if (n->die == -1) _exit(3);
    if (n->die) raise(n->die);
    if (n->code) return n->code;
    struct state *mine = calloc(1, sizeof *mine);
    if (!mine) return 99;
    mine->worker = worker;
    mine->pid = getpid();
    *state = mine;
    return 0;
}

static int end(unsigned worker, void **state, void *arg)
{
    struct notes *n = arg;
    struct state *mine = *state;
    if (n->hang)
        for (;;) (void)sleep(100);
    if (mine->worker != worker || mine->pid != getpid()) atomic_fetch_add(&n->mixed, 1);
    atomic_fetch_add(&n->exits, 1);
    free(mine);
    return 0;
}

static pmap_options with_hooks(const struct pm_path *path, unsigned workers)
{
    pmap_options o = pm_path_options(path, workers);
    o.init = begin;
    o.exit = end;
    o.hook_arg = notes;
    return o;
}

static pmap_pool *open_with(const pmap_options *o)
{
    pmap_pool *pool = NULL;
    EXPECT(pmap_pool_open(&pool, o), 0);
    assert_non_null(pool);
    return pool;
}

/* The result tells who has run it. */
static int note_me(pmap_task *task, const void *item, void *result)
{
    struct state *mine = pmap_task_state(task);
    if (!mine || mine->worker != pmap_task_worker(task) || mine->pid != getpid()) return 7;
    if (mine->items++ == 0) atomic_store(&notes->pid[atomic_fetch_add(&notes->pids, 1) % 4096], getpid());
    atomic_fetch_add(&notes->items, 1);
    memcpy(result, item, 4);
    return 0;
}

static int run_notes(pmap_pool *pool, const struct pm_path *path, uint32_t n, const pmap_map_options *map)
{
    uint32_t *in = pm_path_alloc(path, pool, n * 4), *out = pm_path_alloc(path, pool, n * 4);
    for (uint32_t i = 0; i < n; i++) in[i] = i * 3 + 1, out[i] = 0;
    int e = pmap_map(pool, note_me, in, n, 4, out, 4, map);
    for (uint32_t i = 0; !e && i < n; i++)
        if (out[i] != i * 3 + 1) fail_msg("%s: item %u is %u", path->name, i, out[i]);
    pm_path_free(path, pool, in);
    pm_path_free(path, pool, out);
    return e;
}

static bool inits_are(void *arg) { return atomic_load(&notes->inits) >= *(unsigned *)arg; }

/* ---- Hooks ---- */

static void hooks(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 2);
    unsigned workers = pm_path_workers(path, 2);
    pmap_pool *pool = open_with(&o);
    EXPECT(run_notes(pool, path, 1000, NULL), 0);
    assert_true(pm_test_wait_until(inits_are, &workers, 5000));
    pm_path_close(pool);
    assert_int_equal(atomic_load(&notes->inits), workers);
    assert_int_equal(atomic_load(&notes->exits), workers);
    assert_int_equal(atomic_load(&notes->mixed), 0);
    assert_in_range(atomic_load(&notes->pids), 1, workers);
}

static int no_state(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    return pmap_task_state(task) != NULL;
}

static void without_hooks(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    EXPECT(pmap_map(pool, no_state, NULL, 100, 0, NULL, 0, NULL), 0);
    pm_path_close(pool);
}

static int die_once(pmap_task *task, const void *item, void *result)
{
    (void)item, (void)result;
    if (pmap_task_index(task) == 5 && pmap_task_attempt(task) == 0) raise(SIGSEGV);
    return pmap_task_state(task) ? 0 : 1;
}

static void a_new_worker_begins_too(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 2);
    pmap_pool *pool = open_with(&o);
    EXPECT(pmap_map(pool, die_once, NULL, 100, 0, NULL, 0, NULL), 0);
    unsigned three = 3;
    assert_true(pm_test_wait_until(inits_are, &three, 5000));
    pm_path_close(pool);
    assert_int_equal(atomic_load(&notes->inits), 3);
    assert_int_equal(atomic_load(&notes->exits), 2); /* who died did not leave in order */
}

/* ---- Hooks that fail ---- */

static void expect_broken(const struct pm_path *path, const char *words, unsigned most)
{
    pmap_options o = with_hooks(path, 2);
    pmap_pool *pool = open_with(&o);
    EXPECT(run_notes(pool, path, 100, NULL), PMAP_EBROKEN);
    EXPECT_TEXT("the init hook of worker ");
    EXPECT_TEXT(words);
    EXPECT(run_notes(pool, path, 100, NULL), PMAP_EBROKEN); /* and it stays so */
    EXPECT_TEXT(words);
    if (path->executor == PMAP_PROCESSES) EXPECT(pmap_pool_resize(pool, 3), PMAP_EBROKEN);
    assert_in_range(atomic_load(&notes->inits), 1, most); /* no storm */
    assert_int_equal(atomic_load(&notes->items), 0);
    double t = seconds();
    pm_path_close(pool);
    assert_true(seconds() - t < 10);
    assert_int_equal(atomic_load(&notes->exits), 0);
}

static void init_returns(const struct pm_path *path)
{
    clear_notes();
    notes->code = 42;
    expect_broken(path, "returned 42", 2);
    clear_notes();
    notes->code = -1;
    expect_broken(path, "returned -1", 2);
}

static void init_dies(const struct pm_path *path)
{
    clear_notes();
    notes->die = SIGSEGV;
    expect_broken(path, "was ended by signal 11", 5);
    clear_notes();
    notes->die = -1;
    expect_broken(path, "exited with status 3", 5);
    clear_notes();
    notes->die = SIGKILL;
    expect_broken(path, "was ended by signal 9", 25);
}

/* The exit hook never returns: bounded when the pool closes, and when a worker is replaced. */
static void exit_hangs(const struct pm_path *path)
{
    clear_notes();
    notes->hang = 1;
    pmap_options o = with_hooks(path, 1);
    o.recycle_items = 10;
    pmap_pool *pool = open_with(&o);
    double t = seconds();
    EXPECT(run_notes(pool, path, 15, NULL), 0);
    if (seconds() - t > 15) fail_msg("%s: %.1f s", path->name, seconds() - t);
    t = seconds();
    pm_path_close(pool);
    if (seconds() - t > 10) fail_msg("%s: close took %.1f s", path->name, seconds() - t);
    assert_int_equal(atomic_load(&notes->inits), 2);
    double least = 1000; /* a machine that is busy may make one slow, or two; the hook's second would make all slow */
    for (int i = 0; i < 5 && least > 0.9; i++) {
        pool = open_with(&o);
        t = seconds();
        EXPECT(pmap_pool_terminate(pool, 0), 0);
        t = seconds() - t;
        if (t < least) least = t;
    }
    if (least > 0.9) fail_msg("%s: terminate took %.1f s", path->name, least);
}

/* ---- Recycling ---- */

static void after_every_item(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 2);
    o.recycle_items = 1;
    pmap_pool *pool = open_with(&o);
    struct pmap_stats stats = {.size = sizeof stats};
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.retries = 0; /* whoever leaves charges nobody */
    map.stats = &stats;
    EXPECT(run_notes(pool, path, 100, &map), 0);
    assert_int_equal(stats.deaths, 0);
    assert_int_equal(stats.retries, 0);
    assert_int_equal(atomic_load(&notes->items), 100);
    assert_int_equal(atomic_load(&notes->pids), 100); /* each by another */
    map.once = 1;
    EXPECT(run_notes(pool, path, 50, &map), 0);
    assert_int_equal(atomic_load(&notes->items), 150);
    pm_path_close(pool); /* while some are on their way */
    assert_int_equal(atomic_load(&notes->mixed), 0);
    assert_in_range(atomic_load(&notes->exits), 150, 152);
}

/* Each worker runs at least N items, and less than a chunk more. */
static void after_n_items(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 3);
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    o.recycle_items = 100;
    pmap_pool *pool = open_with(&o);
    EXPECT(run_notes(pool, path, 5000, &map), 0);
    assert_in_range(atomic_load(&notes->pids), 25, 53); /* 5000 / 199 to 5000 / 100 and those that are still there */
    unsigned before = atomic_load(&notes->pids);
    map.chunk = 300;
    EXPECT(run_notes(pool, path, 3000, &map), 0);
    assert_in_range(atomic_load(&notes->pids) - before, 7, 10);
    pm_path_close(pool);
}

/* Replaced workers, and a pool that ends in the middle of it. */
static void close_early(const struct pm_path *path)
{
    for (int round = 0; round < 8; round++) {
        clear_notes();
        pmap_options o = with_hooks(path, 2);
        o.recycle_items = 1;
        pmap_pool *pool = open_with(&o);
        if (round % 4) EXPECT(run_notes(pool, path, (uint32_t)round, NULL), 0);
        if (round % 2) pm_path_close(pool);
        else EXPECT(pmap_pool_terminate(pool, 0.5), 0);
    }
}

static int leak(pmap_task *task, const void *item, void *result)
{
    (void)item;
    struct state *mine = pmap_task_state(task);
    char *lost = malloc(MIB);
    if (!lost) return 1;
    memset(lost, 1, MIB);
    __asm__ __volatile__("" ::"r"(lost) : "memory");
    if (mine->items++ == 0) atomic_fetch_add(&notes->pids, 1);
    *(unsigned *)result = mine->items;
    double until = seconds() + 0.0015; /* memory is looked at about once a millisecond */
    while (seconds() < until) continue;
    return 0;
}

static void after_bytes(const struct pm_path *path)
{
    clear_notes();
    static unsigned out[100];
    pmap_options o = with_hooks(path, 2);
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    o.recycle_bytes = 10 * MIB;
    map.chunk = 1;
    pmap_pool *pool = open_with(&o);
    EXPECT(pmap_map(pool, leak, NULL, 50, 0, out, sizeof *out, &map), 0);
    for (int i = 0; i < 50; i++) assert_in_range(out[i], 1, 16);
    assert_in_range(atomic_load(&notes->pids), 4, 50);
    /* What the pool shares is nobody's growth. */
    char *memory = pmap_alloc(pool, 64 * MIB);
    assert_non_null(memory);
    memset(memory, 1, 64 * MIB);
    unsigned before = atomic_load(&notes->inits);
    pmap_free(pool, memory);
    EXPECT(run_notes(pool, path, 2000, NULL), 0);
    assert_in_range(atomic_load(&notes->inits), before, before + 2);
    pm_path_close(pool);
}

static int spend_a_ms(pmap_task *task, const void *item, void *result)
{
    double until = seconds() + 0.001;
    while (seconds() < until) continue;
    return note_me(task, item, result);
}

static void after_age(const struct pm_path *path)
{
    clear_notes();
    static uint32_t in[200], out[200];
    pmap_options o = with_hooks(path, 2);
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    o.recycle_s = 0.02;
    map.chunk = 1;
    double t = seconds();
    pmap_pool *pool = open_with(&o);
    EXPECT(pmap_map(pool, spend_a_ms, in, 200, 4, out, 4, &map), 0);
    unsigned lives = 2 + (unsigned)(2 * (seconds() - t) / o.recycle_s);
    assert_in_range(atomic_load(&notes->pids), 3, lives); /* of two workers; 100 ms and more */
    pm_path_close(pool);
}

/* Workers are replaced, die, and are killed for deadlines, all at once: every item is right, or failed for its own fault. */
static int mishap(pmap_task *task, const void *item, void *result)
{
    size_t i = pmap_task_index(task);
    if (i % 50 == 7 && pmap_task_attempt(task) == 0) raise(SIGSEGV);
    if (i % 100 == 13)
        for (;;) pause();
    memcpy(result, item, 4);
    return 0;
}

static void with_deaths(const struct pm_path *path)
{
    clear_notes();
    static uint32_t in[200], out[200];
    pmap_options o = with_hooks(path, 3);
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    o.recycle_items = 3;
    map.timeout_s = 0.1;
    map.retries = 1;
    pmap_pool *pool = open_with(&o);
    for (uint32_t i = 0; i < 200; i++) in[i] = i + 1, out[i] = 0;
    EXPECT(pmap_map(pool, mishap, in, 200, 4, out, 4, &map), PMAP_EITEMS);
    size_t n = 0;
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f[i].item, 100 * i + 13);
        assert_int_equal(f[i].cause, PMAP_CAUSE_TIMEOUT);
        assert_int_equal(f[i].attempts, 2);
    }
    for (uint32_t i = 0; i < 200; i++)
        if (i % 100 != 13) assert_int_equal(out[i], i + 1);
    pm_path_close(pool);
}

/* Several threads map on a pool whose workers come and go. */
struct mapper {
    pmap_pool *pool;
    const struct pm_path *path;
    int error;
};

static void *map_often(void *arg)
{
    struct mapper *m = arg;
    uint32_t in[40], out[40];
    for (int round = 0; round < 4 && !m->error; round++) {
        for (uint32_t i = 0; i < 40; i++) in[i] = i + 1;
        m->error = pmap_map(m->pool, note_me, in, 40, 4, out, 4, NULL);
        for (uint32_t i = 0; i < 40 && !m->error; i++)
            if (out[i] != i + 1) m->error = 1;
    }
    return NULL;
}

static void several_callers(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 3);
    o.recycle_items = 2;
    pmap_pool *pool = open_with(&o);
    struct mapper m[3];
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) {
        m[i] = (struct mapper){pool, path, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, map_often, &m[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], NULL);
        EXPECT(m[i].error, 0);
    }
    assert_int_equal(atomic_load(&notes->items), 480);
    pm_path_close(pool);
}

/* ---- Idle ---- */

static void idle_workers_leave(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 4);
    o.idle_s = 0.02;
    o.min_workers = 2;
    pmap_pool *pool = open_with(&o);
    static uint32_t in[100], out[100];
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.chunk = 1;
    for (int round = 0; round < 3; round++) {
        expect_there(pool, 2);
        assert_int_equal(pmap_pool_workers(pool), 4);
        unsigned inits = 2 * (unsigned)round + 6;
        EXPECT(pmap_map(pool, spend_a_ms, in, 100, 4, out, 4, &map), 0);
        if (!pm_test_wait_until(inits_are, &inits, 5000)) fail_msg("%s: nobody came back", path->name);
    }
    pm_path_close(pool);
    assert_int_equal(atomic_load(&notes->mixed), 0);
    assert_int_equal(atomic_load(&notes->inits), atomic_load(&notes->exits));
}

static void idle_again_and_again(const struct pm_path *path)
{
    clear_notes();
    pmap_options o = with_hooks(path, 3);
    o.idle_s = 0.0005; /* they leave and come back while maps begin and end */
    pmap_pool *pool = open_with(&o);
    for (int round = 0; round < 30; round++) {
        EXPECT(run_notes(pool, path, 20, NULL), 0);
        if (round % 3 == 0) (void)usleep(600); /* no wait for anything: only to meet them at another point */
    }
    assert_int_equal(atomic_load(&notes->items), 600);
    pm_path_close(pool);
}

/* ---- Refused ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool;
    pmap_options o = pm_path_options(path, 2), all[7];
    bool processes = path->executor == PMAP_PROCESSES;
    for (int i = 0; i < 7; i++) all[i] = o;
    all[0].recycle_items = 5, all[1].recycle_bytes = 5, all[2].recycle_s = 5, all[3].most_workers = 5, all[4].min_workers = 1;
    all[5].idle_s = 5, all[6].jobserver = 1;
    static const char *const names[] = {"recycle_items", "recycle_bytes", "recycle_s", "most_workers", "min_workers", "idle_s", "jobserver"};
    for (int i = 0; i < 7 && !processes; i++) {
        EXPECT(pmap_pool_open(&pool, &all[i]), PMAP_ENOTSUP);
        EXPECT_TEXT(names[i]);
        EXPECT_TEXT("needs PMAP_PROCESSES");
    }
    all[0].recycle_items = (size_t)-1, all[1].recycle_bytes = (size_t)-5, all[2].recycle_s = -1, all[5].idle_s = -0.5;
    all[3].most_workers = 1, all[4].min_workers = 9;
    for (int i = 0; i < 6; i++) {
        if (!processes && (i == 3 || i == 4)) continue;
        EXPECT(pmap_pool_open(&pool, &all[i]), PMAP_EINVAL);
        EXPECT_TEXT(names[i]);
        assert_null(pool);
    }
    o.most_workers = 4096;
    EXPECT(pmap_pool_open(&pool, &o), processes ? PMAP_EINVAL : PMAP_ENOTSUP);
}

/* ---- Pools in pools ---- */

struct nest {
    int depth, bottom; /* so many pools are opened; the error of the innermost open is to be this */
};

static int descend(pmap_task *task, const void *item, void *result)
{
    struct nest nest;
    memcpy(&nest, pmap_task_arg(task), sizeof nest);
    (void)item;
    *(int *)result = 0;
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    o.workers = 2;
    o.memory = MIB;
    int e = pmap_pool_open(&pool, &o);
    if (--nest.depth == 0 || e) {
        if (!e) (void)pmap_pool_close(pool);
        return e == nest.bottom && (!e || strstr(pmap_error(), "PMAP_NESTED")) ? 0 : 50;
    }
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    int below[2];
    map.arg = &nest;
    map.arg_size = sizeof nest;
    e = pmap_map(pool, descend, NULL, nest.depth == 1 ? 2 : 1, 0, below, sizeof *below, &map);
    int c = pmap_pool_close(pool);
    return e || c ? 60 + nest.depth : 0;
}

static void nested(const struct pm_path *path)
{
    struct nest nest = {PMAP_NESTED - 1, 0};
    int out[2];
    pmap_pool *pool = pm_path_open(path, 1);
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.arg = &nest;
    map.arg_size = sizeof nest;
    bool process = path->executor == PMAP_PROCESSES; /* threads and the caller are in no pool of processes */
    EXPECT(pmap_map(pool, descend, NULL, 1, 0, out, sizeof *out, &map), 0);
    nest.depth = process ? PMAP_NESTED : PMAP_NESTED + 1;
    nest.bottom = PMAP_ENOTSUP;
    EXPECT(pmap_map(pool, descend, NULL, 1, 0, out, sizeof *out, &map), 0);
    pm_path_close(pool);
}

/* A worker with a pool of its own is killed, and one that leaves forgets it: the inner workers end too. */
static int open_and_go(pmap_task *task, const void *item, void *result)
{
    (void)item;
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    int pid = 0;
    o.workers = 1;
    o.memory = MIB;
    if (pmap_pool_open(&pool, &o) || pmap_pool_pids(pool, &pid, 1) != 1) return 1;
    *(int *)result = pid;
    if (pmap_task_index(task) == 0 && pmap_task_attempt(task) == 0) raise(SIGKILL);
    return 0;
}

static bool is_gone(void *arg) { return kill(*(int *)arg, 0) < 0 && errno == ESRCH; }

static void inner_pools_end(const struct pm_path *path)
{
    int out[4] = {0};
    pmap_options o = pm_path_options(path, 2);
    o.recycle_items = 1;
    pmap_pool *pool = open_with(&o);
    EXPECT(pmap_map(pool, open_and_go, NULL, 4, 0, out, sizeof *out, NULL), 0);
    for (int i = 0; i < 4; i++) {
        assert_true(out[i] > 0);
        if (!pm_test_wait_until(is_gone, &out[i], 5000)) fail_msg("%s: worker %d of an inner pool lives on", path->name, out[i]);
    }
    pm_path_close(pool);
}

/* ---- What the application does ---- */

static void again_and_again(const struct pm_path *path)
{
    size_t fds = 0;
    int times = path->bit == PM_ON_ZMQ ? 40 : 100;
    for (int i = 0; i < times; i++) {
        clear_notes();
        pmap_options o = with_hooks(path, 2);
        o.recycle_items = 1;
        pmap_pool *pool = open_with(&o);
        if (i % 20 == 0) EXPECT(run_notes(pool, path, 3, NULL), 0);
        EXPECT(i % 2 ? pmap_pool_close(pool) : pmap_pool_terminate(pool, 0), 0);
        if (i == 30) fds = pm_test_entries("/proc/self/fd");
    }
    assert_int_equal(pm_test_entries("/proc/self/fd"), fds);
}

/* SIGCHLD ignored, no standard input, and workers that come and go: as a child of its own, whose status tells. */
static int odd_application(void *arg)
{
    const struct pm_path *path = arg;
    signal(SIGCHLD, SIG_IGN);
    close(0);
    clear_notes();
    pmap_options o = with_hooks(path, 2);
    o.recycle_items = 2;
    pmap_pool *pool;
    uint32_t in[100] = {0}, out[100];
    if (pmap_pool_open(&pool, &o)) return 1;
    if (pmap_map(pool, note_me, in, 100, 4, out, 4, NULL)) return 2;
    if (pmap_pool_resize(pool, 3) || pmap_map(pool, note_me, in, 100, 4, out, 4, NULL)) return 3;
    return pmap_pool_close(pool) ? 4 : atomic_load(&notes->items) == 200 ? 0 : 5;
}

static void in_an_odd_application(const struct pm_path *path)
{
    assert_int_equal(pm_test_run_child(odd_application, (void *)(uintptr_t)path, 20000), 0);
}

/* The application ends without closing; hooks or not, nobody stays. */
static int ends_abruptly(void *arg)
{
    const struct pm_path *path = arg;
    pmap_options o = with_hooks(path, 2);
    o.recycle_items = 1;
    pmap_pool *pool;
    uint32_t in[20] = {0}, out[20];
    if (pmap_pool_open(&pool, &o) || pmap_map(pool, note_me, in, 20, 4, out, 4, NULL)) return 1;
    _exit(0);
}

static void without_close(const struct pm_path *path)
{
    clear_notes();
    assert_int_equal(pm_test_run_child(ends_abruptly, (void *)(uintptr_t)path, 20000), 0);
}

int main(void)
{
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (notes == MAP_FAILED) return 1;
    static const struct pm_path_test tests[] = {
        {"hooks", hooks, PM_ON_ALL},
        {"without hooks", without_hooks, PM_ON_ALL},
        {"a new worker begins too", a_new_worker_begins_too, PM_ON_PROCESSES},
        {"init returns a code", init_returns, PM_ON_ALL},
        {"init dies", init_dies, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"exit hangs", exit_hangs, PM_ON_SHM},
        {"after every item", after_every_item, PM_ON_PROCESSES},
        {"after n items", after_n_items, PM_ON_PROCESSES},
        {"close early", close_early, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"after bytes", after_bytes, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"after age", after_age, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"with deaths", with_deaths, PM_ON_PROCESSES},
        {"several callers", several_callers, PM_ON_PROCESSES},
        {"idle workers leave", idle_workers_leave, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"idle again and again", idle_again_and_again, PM_ON_PROCESSES},
        {"refused", refused, PM_ON_ALL},
        {"nested", nested, PM_ON_SERIAL | PM_ON_SHM | PM_ON_ZMQ},
        {"inner pools end", inner_pools_end, PM_ON_PROCESSES},
        {"again and again", again_and_again, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"in an odd application", in_an_odd_application, PM_ON_PROCESSES},
        {"without close", without_close, PM_ON_PROCESSES},
    };
    return PM_PATHS_MAIN("life", tests);
}

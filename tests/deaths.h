/* What the tests of deaths share: a job whose every result is known and whose executions are counted in shared memory, so that a test can
 * say exactly which items may have failed, and that nothing ran too often.  Used by test_deaths, test_kill, test_application,
 * test_deadline, test_supervisor and test_step. */
#ifndef PM_TESTS_DEATHS_H
#define PM_TESTS_DEATHS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pmap/pmap.h"
#include "tests/paths.h"

/* Lies in pmap_alloc() memory: the workers and the test see one. */
struct plan {
    void (*die)(void);
    size_t from, step, upto;          /* items from, from + step, ... below upto are poisoned; step 0: none */
    size_t spin;                      /* how much an item computes */
    size_t first, count;
    int pids[64];
    unsigned workers;
    _Atomic uint64_t scratch, flag, begun;
    _Atomic uint32_t runs[];          /* executions begun, by item */
};

struct trial {
    const struct pm_path *path;
    pmap_pool *pool;
    struct plan *plan;
    size_t count;
    uint64_t *in, *out;
};

static inline uint64_t input_of(size_t i) { return (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) + 1; }
static inline uint64_t right(uint64_t in) { return (in ^ (in >> 31)) * 3 + 7; }

static inline bool poisoned(const struct plan *p, size_t i) { return p->step && i >= p->from && i < p->upto && (i - p->from) % p->step == 0; }

/* One item: counted, perhaps poisoned, and computed. */
static inline uint64_t one_item(pmap_task *task, size_t i, uint64_t in)
{
    struct plan *p = pmap_task_arg(task);
    atomic_fetch_add(&p->runs[i], 1);
    if (poisoned(p, i)) p->die();
    for (size_t n = 0; n < p->spin; n++) __asm__ __volatile__("" ::: "memory");
    return right(in);
}

static inline int item_fn(pmap_task *task, const void *item, void *result)
{
    uint64_t in;
    memcpy(&in, item, sizeof in);
    uint64_t out = one_item(task, pmap_task_index(task), in);
    memcpy(result, &out, sizeof out);
    return 0;
}

static inline int chunk_fn(pmap_task *task, const void *items, size_t count, void *results)
{
    size_t first = pmap_task_index(task);
    for (size_t i = 0; i < count; i++) {
        uint64_t in;
        memcpy(&in, (const char *)items + i * sizeof in, sizeof in);
        uint64_t out = one_item(task, first + i, in);
        memcpy((char *)results + i * sizeof out, &out, sizeof out);
    }
    return 0;
}

/* pmap_for has no output: results go to shared memory behind the counters. */
static inline uint64_t *for_results(struct plan *p) { return (uint64_t *)(void *)(p->runs + ((p->count + 1) & ~(size_t)1)); }

static inline int range_fn(pmap_task *task, size_t first, size_t last)
{
    struct plan *p = pmap_task_arg(task);
    for (size_t i = first; i < last; i++) for_results(p)[i] = one_item(task, i, input_of(i));
    return 0;
}

static inline pmap_pool *open_pool(const struct pm_path *path, unsigned workers)
{
    pmap_options o = pm_path_options(path, workers);
    o.memory = (size_t)256 << 20;
    pmap_pool *pool = NULL;
    if (pmap_pool_open(&pool, &o)) fail_msg("%s: pmap_pool_open: %s", path->name, pmap_error());
    return pool;
}

static inline struct trial begin_on(const struct pm_path *path, pmap_pool *pool, size_t count)
{
    struct trial t = {.path = path, .pool = pool, .count = count};
    size_t bytes = count * sizeof(uint64_t);
    t.plan = pmap_alloc(pool, sizeof *t.plan + (count + 2) * sizeof(uint32_t) + bytes);
    t.in = pm_path_alloc(path, pool, bytes);
    t.out = pm_path_alloc(path, pool, bytes);
    if (!t.plan || !t.in || !t.out) fail_msg("%s: no memory for %zu items: %s", path->name, count, pmap_error());
    memset(t.plan, 0, sizeof *t.plan + (count + 2) * sizeof(uint32_t) + bytes);
    t.plan->count = count;
    memset(t.out, 0, bytes);
    for (size_t i = 0; i < count; i++) t.in[i] = input_of(i);
    return t;
}

static inline struct trial begin(const struct pm_path *path, unsigned workers, size_t count) { return begin_on(path, open_pool(path, workers), count); }

static inline void clear(struct trial *t)
{
    for (size_t i = 0; i < t->count; i++) {
        atomic_store_explicit(&t->plan->runs[i], 0, memory_order_relaxed);
        for_results(t->plan)[i] = 0;
        t->out[i] = 0;
    }
}

static inline void give_back(struct trial *t)
{
    pm_path_free(t->path, t->pool, t->in);
    pm_path_free(t->path, t->pool, t->out);
    pmap_free(t->pool, t->plan);
}

enum call { MAP, CHUNKS, FOR, CALLS };
static const char *const call_names[] = {"pmap_map", "pmap_chunks", "pmap_for"};

static inline int call(struct trial *t, enum call c, const pmap_map_options *given)
{
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    if (given) o = *given;
    if (!o.arg) o.arg = t->plan;
    switch (c) {
    case MAP: return pmap_map(t->pool, item_fn, t->in, t->count, sizeof *t->in, t->out, sizeof *t->out, &o);
    case CHUNKS: return pmap_chunks(t->pool, chunk_fn, t->in, t->count, sizeof *t->in, t->out, sizeof *t->out, &o);
    default: return pmap_for(t->pool, range_fn, 0, t->count, &o);
    }
}

static inline uint64_t result_of(const struct trial *t, enum call c, size_t i)
{
    return c == FOR ? for_results(t->plan)[i] : t->out[i];
}

/* The failures of the last call by item, NULL where there is none.  free() it.  Fails when an item is listed twice or is not one. */
static inline const pmap_failure **listed(const struct trial *t, const char *what)
{
    const pmap_failure **of = calloc(t->count, sizeof *of);
    size_t n = 0;
    const pmap_failure *f = pmap_failures(t->pool, &n);
    if (!of) fail_msg("no memory");
    for (size_t k = 0; k < n; k++) {
        if (f[k].item + f[k].count > t->count || f[k].count == 0)
            fail_msg("%s %s: a failure of items %zu + %zu, of %zu", t->path->name, what, f[k].item, f[k].count, t->count);
        for (size_t i = f[k].item; i < f[k].item + f[k].count; i++) {
            if (of[i]) fail_msg("%s %s: item %zu is listed twice", t->path->name, what, i);
            of[i] = &f[k];
        }
    }
    return of;
}

struct expected {
    pmap_cause cause;
    int value;
    unsigned attempts;
    unsigned most_runs;       /* of an innocent item */
    unsigned most_poison_runs;
};

/* Exactly the poisoned items have failed, as expected; every other result is right; nothing ran too often. */
static inline void check_exact(const struct trial *t, enum call c, int error, const struct expected *e, const char *what)
{
    const char *r = t->path->name, *n = call_names[c];
    const pmap_failure **of = listed(t, what);
    size_t bad = 0, most = e->most_runs;
    /* Where results travel with their chunk they are lost with its worker: the chunk's other items run again at each of its deaths. */
    if (t->path->bit == PM_ON_ZMQ && t->plan->step)
        most = 1 + e->most_poison_runs * ((t->plan->upto - t->plan->from + t->plan->step - 1) / t->plan->step);
    for (size_t i = 0; i < t->count; i++) {
        bool poison = poisoned(t->plan, i);
        unsigned runs = atomic_load(&t->plan->runs[i]);
        if (!poison && of[i]) fail_msg("%s %s %s: innocent item %zu failed: %s (%d: %s)", r, n, what, i, of[i]->text, error, pmap_error());
        if (!poison && result_of(t, c, i) != right(input_of(i))) fail_msg("%s %s %s: item %zu is wrong; %d %s", r, n, what, i, error, pmap_error());
        if (runs == 0) fail_msg("%s %s %s: item %zu never ran; %d %s", r, n, what, i, error, pmap_error());
        if (runs > (poison ? e->most_poison_runs : most)) fail_msg("%s %s %s: item %zu ran %u times", r, n, what, i, runs);
        if (!poison) continue;
        bad++;
        if (!of[i]) fail_msg("%s %s %s: poison item %zu is not listed; %d %s", r, n, what, i, error, pmap_error());
        if (of[i]->count != 1 || of[i]->cause != e->cause || of[i]->value != e->value || of[i]->attempts != e->attempts)
            fail_msg("%s %s %s: item %zu: cause %d value %d attempts %u count %zu, expected %d %d %u 1: %s", r, n, what, i, (int)of[i]->cause,
                     of[i]->value, of[i]->attempts, of[i]->count, (int)e->cause, e->value, e->attempts, of[i]->text);
        char name[32];
        snprintf(name, sizeof name, "item %zu:", i);
        if (!strstr(of[i]->text, name)) fail_msg("%s %s %s: the text does not name item %zu: %s", r, n, what, i, of[i]->text);
    }
    free(of);
    if (error != (bad ? PMAP_EITEMS : 0)) fail_msg("%s %s %s: returned %d: %s", r, n, what, error, pmap_error());
}

/* Every item is right, or is listed with the cause of a kill.  Returns how many are listed. */
static inline size_t check_right_or_listed(const struct trial *t, enum call c, const char *what)
{
    const pmap_failure **of = listed(t, what);
    size_t bad = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (of[i]) bad++;
        else if (result_of(t, c, i) != right(input_of(i))) fail_msg("%s %s: item %zu is neither right nor listed", t->path->name, what, i);
    }
    free(of);
    return bad;
}

/* The pool still does an orderly map. */
static inline void check_orderly(pmap_pool *pool, const struct pm_path *path, const char *what)
{
    struct trial t = begin_on(path, pool, 1000);
    for (int c = 0; c < CALLS; c++) {
        clear(&t);
        int e = call(&t, (enum call)c, NULL);
        check_exact(&t, (enum call)c, e, &(struct expected){.most_runs = 1}, what);
    }
    give_back(&t);
}

static inline void check_close(pmap_pool *pool, const struct pm_path *path, const char *what)
{
    double begin_s = seconds();
    int e = pmap_pool_close(pool);
    if (e) fail_msg("%s %s: close: %d %s", path->name, what, e, pmap_error());
    if (seconds() - begin_s > 10) fail_msg("%s %s: close took %.1f s", path->name, what, seconds() - begin_s);
}

/* An orderly map, an orderly end. */
static inline void finish(struct trial *t, const char *what)
{
    give_back(t);
    check_orderly(t->pool, t->path, what);
    check_close(t->pool, t->path, what);
}

/* ---- Processes ---- */

/* Parent of a process, 0 when it is gone. */
static inline pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *at = strrchr(text, ')'), state;
    long parent;
    return at && sscanf(at + 2, "%c %ld", &state, &parent) == 2 && state != 'Z' && state != 'X' ? (pid_t)parent : 0;
}

struct all_there {
    pmap_pool *pool;
    int pids[64];
    unsigned n;
};

static inline bool are_all_there(void *arg)
{
    struct all_there *a = arg;
    a->n = pmap_pool_pids(a->pool, a->pids, 64);
    for (unsigned i = 0; i < a->n; i++) {
        pid_t parent = a->pids[i] > 0 ? parent_of(a->pids[i]) : 0;
        if (parent && parent != getpid()) continue;
        /* Ours: its supervisor has died, and it is about to.  If no call has noticed that yet, this one does. */
        (void)pmap_pool_resize(a->pool, pmap_pool_workers(a->pool));
        return false;
    }
    return true;
}

/* The pids of all workers once all are there. */
static inline struct all_there all_workers(pmap_pool *pool)
{
    struct all_there a = {.pool = pool};
    if (!pm_test_wait_until(are_all_there, &a, 10000)) fail_msg("not all workers are there after 10 s");
    return a;
}

static inline pid_t supervisor_of(pmap_pool *pool)
{
    struct all_there a = all_workers(pool);
    pid_t s = parent_of(a.pids[0]);
    if (s <= 1) fail_msg("worker %d has the parent %d", a.pids[0], (int)s);
    return s;
}

static inline bool flag_is_set(void *flag) { return atomic_load((_Atomic uint64_t *)flag) != 0; }

static inline void no_core(void)
{
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
}

#endif

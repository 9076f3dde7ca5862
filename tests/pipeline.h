/* What the tests of pipelines share: download - resize - upload, a source that counts how far it is ahead, and what must come out.  Used by
 * tests/test_pipeline*.c only. */
#ifndef PM_TESTS_PIPELINE_H
#define PM_TESTS_PIPELINE_H

#include <sys/mman.h>

#include "tests/deaths.h"

/* ---- What the stages do ---- */

enum { PAGE = 200, HALF = PAGE / 2, STAGES = 3, MIB = 1 << 20 };

struct report { /* what upload says of an item */
    uint64_t index, sum;
};

/* What stages, source and test share: in memory that every later fork has too. */
struct shared {
    _Atomic uint64_t begun[STAGES]; /* calls */
    _Atomic uint64_t gate;          /* items that the last stage may do */
    _Atomic uint64_t flag;
    uint64_t bad[STAGES];           /* the item that fails in this stage */
    uint64_t pulled, most;          /* by the source; it gives so many */
    uint64_t handed, ahead;         /* results so far; most that the source was ahead of them */
    int error;                      /* that the source ends with */
};

static inline struct shared *share(uint64_t items)
{
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(s, MAP_FAILED);
    for (int i = 0; i < STAGES; i++) s->bad[i] = UINT64_MAX;
    atomic_store(&s->gate, UINT64_MAX);
    s->most = items;
    return s;
}

static inline void share_end(struct shared *s) { munmap(s, sizeof *s); }

static inline int source(void *arg, const void **in, size_t *bytes)
{
    struct shared *s = arg;
    static uint64_t item;
    if (s->pulled == s->most) return s->error;
    item = s->pulled++;
    if (s->pulled - s->handed > s->ahead) s->ahead = s->pulled - s->handed;
    *in = &item;
    *bytes = sizeof item;
    return 1;
}

static inline unsigned char byte_of(uint64_t item, size_t k) { return (unsigned char)(item * 7 + k); }

static inline uint64_t sum_of(uint64_t item)
{
    uint64_t sum = 0;
    for (size_t k = 0; k < PAGE; k += 2) sum += byte_of(item, k);
    return sum;
}

static inline void doze(void) /* what a network takes */
{
    struct timespec t = {.tv_nsec = 50000};
    nanosleep(&t, NULL);
}

/* Counted; code 40 + stage for the bad item. */
static inline int begin_item(pmap_task *task, unsigned stage)
{
    struct shared *s = pmap_task_arg(task);
    atomic_fetch_add(&s->begun[stage], 1);
    if (pmap_task_index(task) != s->bad[stage]) return 0;
    pmap_task_error(task, "no way through stage %u", stage);
    return 40 + (int)stage;
}

static inline int download(pmap_task *task, const void *in, size_t bytes)
{
    uint64_t item;
    int bad = begin_item(task, 0);
    if (bad || bytes != sizeof item) return bad ? bad : 1;
    memcpy(&item, in, sizeof item);
    unsigned char *page = pmap_task_result(task, PAGE);
    doze();
    for (size_t k = 0; k < PAGE; k++) page[k] = byte_of(item, k);
    return item == pmap_task_index(task) ? 0 : 2;
}

static inline int resize(pmap_task *task, const void *in, size_t bytes)
{
    int bad = begin_item(task, 1);
    if (bad || bytes != PAGE) return bad ? bad : 1;
    unsigned char *half = pmap_task_result(task, HALF);
    for (size_t k = 0; k < HALF; k++) half[k] = ((const unsigned char *)in)[2 * k];
    return 0;
}

static inline bool gate_is_open(pmap_task *task)
{
    struct shared *s = pmap_task_arg(task);
    return pmap_task_index(task) < atomic_load(&s->gate);
}

static inline int upload(pmap_task *task, const void *in, size_t bytes)
{
    int bad = begin_item(task, 2);
    if (bad || bytes != HALF) return bad ? bad : 1;
    for (double begin = seconds(); !gate_is_open(task);) {
        if (seconds() - begin > 20) return 3;
        doze();
    }
    struct report r = {.index = pmap_task_index(task)};
    for (size_t k = 0; k < HALF; k++) r.sum += ((const unsigned char *)in)[k];
    doze();
    memcpy(pmap_task_result(task, sizeof r), &r, sizeof r);
    return 0;
}

static inline int negate(pmap_task *task, const void *in, size_t bytes)
{
    uint64_t item;
    if (bytes != sizeof item) return 1;
    memcpy(&item, in, sizeof item);
    item = ~item;
    memcpy(pmap_task_result(task, sizeof item), &item, sizeof item);
    return 0;
}

static inline int copy(pmap_task *task, const void *in, size_t bytes)
{
    void *out = pmap_task_result(task, bytes);
    if (!out) return 1;
    memcpy(out, in, bytes);
    return 0;
}

/* ---- Which stages there are ---- */

struct layout {
    const char *name;
    pmap_executor executor[STAGES];
};

static const struct layout layouts[] = {
    {"threads - processes - threads", {PMAP_THREADS, PMAP_PROCESSES, PMAP_THREADS}},
    {"all processes", {PMAP_PROCESSES, PMAP_PROCESSES, PMAP_PROCESSES}},
    {"all threads", {PMAP_THREADS, PMAP_THREADS, PMAP_THREADS}},
    {"a serial stage", {PMAP_THREADS, PMAP_SERIAL, PMAP_PROCESSES}},
    {"all serial", {PMAP_SERIAL, PMAP_SERIAL, PMAP_SERIAL}},
};
#define LAYOUTS (sizeof layouts / sizeof layouts[0])
static const struct layout *const mixed = &layouts[0], *const all_processes = &layouts[1], *const all_threads = &layouts[2];

/* PMAP_TEST_PATHS may leave out processes: what cannot run then is skipped. */
static inline bool possible(const struct layout *l)
{
    for (int i = 0; i < STAGES; i++)
        if (!pm_path(l->executor[i] == PMAP_PROCESSES ? PM_ON_SHM : l->executor[i] == PMAP_THREADS ? PM_ON_THREADS : PM_ON_SERIAL)) return false;
    return true;
}

static inline void notes_stages(const struct layout *l, struct shared *s, pmap_stage stage[STAGES])
{
    static pmap_work_fn *const functions[STAGES] = {download, resize, upload};
    for (unsigned i = 0; i < STAGES; i++)
        stage[i] = (pmap_stage){.function = functions[i], .workers = 3 + i, .executor = l->executor[i], .result_max = i == 2 ? 0 : PAGE, .arg = s};
}

static inline pmap_pipeline *open_stages(const pmap_stage *stage, size_t n, struct shared *s, const pmap_pipeline_options *o)
{
    pmap_pipeline *p = NULL;
    EXPECT(pmap_pipeline_open(stage, n, source, s, o, &p), 0);
    assert_non_null(p);
    return p;
}

static inline pmap_pipeline *open_notes(const struct layout *l, struct shared *s, bool unordered, pmap_on_error on_error)
{
    pmap_stage stage[STAGES];
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    o.unordered = unordered;
    o.on_error = on_error;
    notes_stages(l, s, stage);
    return open_stages(stage, STAGES, s, &o);
}

/* ---- What comes out ---- */

/* The next result, which must be right: the item it is of. */
static inline uint64_t next_right(pmap_pipeline *p, struct shared *s)
{
    const void *result;
    struct report r = {0};
    size_t bytes;
    EXPECT(pmap_pipeline_next(p, 30, &result, &bytes), 1);
    assert_int_equal(bytes, sizeof r);
    memcpy(&r, result, sizeof r);
    assert_int_equal(r.index, pmap_pipeline_index(p));
    assert_int_equal(r.sum, sum_of(r.index));
    assert_null(pmap_pipeline_failure(p));
    s->handed++;
    return r.index;
}

static inline void expect_end(pmap_pipeline *p)
{
    const void *result = p;
    size_t bytes = 1;
    for (int again = 0; again < 2; again++) EXPECT(pmap_pipeline_next(p, 30, &result, &bytes), 0);
    assert_null(result);
    assert_int_equal(bytes, 0);
}

/* All of them, each once, in their order when that was wanted; then the end. */
static inline void all_right(pmap_pipeline *p, struct shared *s, bool ordered)
{
    bool *seen = calloc(s->most, sizeof *seen);
    assert_non_null(seen);
    for (uint64_t i = 0; i < s->most; i++) {
        uint64_t index = next_right(p, s);
        if (ordered) assert_int_equal(index, i);
        assert_true(index < s->most && !seen[index]);
        seen[index] = true;
    }
    free(seen);
    expect_end(p);
}

#endif

/* A pool that ends while it has much to do: every call that comes too late is refused, large data in flight is finished
 * or dropped, what is queued is run by a close and by a terminate it is not; and what has finished before costs no
 * memory.  Closes as such are in test_close.c. */
#include "tests/futures.h"
#include "tests/stream.h"

#include <sys/mman.h>

#define MIB ((size_t)1 << 20)

/* ---- Too late ---- */

static int hold_item(pmap_task *task, const void *item, void *result)
{
    struct hold *h = pmap_task_arg(task);
    (void)item, (void)result;
    atomic_fetch_add(&h->begun, 1);
    for (double end = seconds() + 20; !atomic_load(&h->go) && seconds() < end;) (void)poll(NULL, 0, 1);
    return 0;
}

struct thread {
    pmap_pool *pool;
    struct hold *hold;
    int value;
    pthread_t id;
};

static void *map_held(void *arg)
{
    struct thread *t = arg;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = t->hold;
    t->value = pmap_map(t->pool, hold_item, NULL, 2, 0, NULL, 0, &o);
    return NULL;
}

static void *close_it(void *arg)
{
    struct thread *t = arg;
    t->value = pmap_pool_close(t->pool);
    return NULL;
}

static bool is_closing(void *pool)
{
    pmap_stats_t stats = {.size = sizeof stats};
    return pmap_stats(pool, &stats) == PMAP_ECLOSED;
}

static int any_item(pmap_task *task, const void *item, void *result) { return (void)task, (void)item, (void)result, 0; }
static int any_range(pmap_task *task, size_t first, size_t last) { return (void)task, (void)first, (void)last, 0; }
static int any_step(pmap_task *task, void *state, const void *in, size_t n) { return (void)task, (void)state, (void)in, (void)n, 0; }
static void any_sum(void *acc, const void *partial, void *arg) { (void)acc, (void)partial, (void)arg; }

static int any_chunk(pmap_task *task, const void *items, size_t count, void *results)
{
    return (void)task, (void)items, (void)count, (void)results, 0;
}

static int any_star(pmap_task *task, const void *const *values, void *result)
{
    return (void)task, (void)values, (void)result, 0;
}

static void refuse_all(pmap_pool *pool)
{
    uint64_t x = 1, y[2];
    size_t bytes = sizeof y;
    pmap_future *f;
    pmap_stream *s;
    pmap_coroutine *c;
    struct numbers source = numbers(1);
    pmap_column column = {&x, 8, 1};
    EXPECT(pmap_map(pool, any_item, &x, 1, 8, y, 8, NULL), PMAP_ECLOSED);
    EXPECT_TEXT("pmap_map: the pool is closed");
    EXPECT(pmap_chunks(pool, any_chunk, &x, 1, 8, y, 8, NULL), PMAP_ECLOSED);
    EXPECT(pmap_for(pool, any_range, 0, 1, NULL), PMAP_ECLOSED);
    EXPECT(pmap_reduce(pool, any_chunk, any_sum, &x, 1, 8, y, 8, NULL), PMAP_ECLOSED);
    EXPECT(pmap_starmap(pool, any_star, PMAP_ZIP, &column, 1, y, 8, NULL), PMAP_ECLOSED);
    EXPECT(pmap_map_async(pool, any_item, &x, 1, 8, y, 8, NULL, &f), PMAP_ECLOSED);
    EXPECT(pmap_submit(pool, compute, &x, 8, NULL, &f), PMAP_ECLOSED);
    assert_null(f);
    EXPECT(pmap_apply(pool, compute, &x, 8, y, &bytes, NULL), PMAP_ECLOSED);
    EXPECT(pmap_broadcast(pool, compute, &x, 8, y, 8, NULL), PMAP_ECLOSED);
    EXPECT(pmap_imap(pool, compute, pull_number, &source, NULL, &s), PMAP_ECLOSED);
    EXPECT(pmap_imap_unordered(pool, compute, pull_number, &source, NULL, &s), PMAP_ECLOSED);
    assert_null(s);
    EXPECT(pmap_coroutine_open(pool, any_step, &x, 8, NULL, &c), PMAP_ECLOSED);
    assert_null(c);
    EXPECT(pmap_pool_fd(pool), PMAP_ECLOSED);
    EXPECT(pmap_pool_poll(pool, 0), PMAP_ECLOSED);
    EXPECT(pmap_pool_wait(pool, 0), PMAP_ECLOSED);
    EXPECT(pmap_pool_resize(pool, 1), PMAP_ECLOSED);
    assert_null(pmap_alloc(pool, 8));
    EXPECT_TEXT("pmap_alloc: the pool is closed");
}

static void too_late(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct thread caller = {.pool = pool, .hold = hold_new(pool, 0, 0)}, closer = {.pool = pool};
    assert_int_equal(pthread_create(&caller.id, NULL, map_held, &caller), 0);
    assert_true(pm_test_wait_until(flag_is_set, &caller.hold->begun, 10000));
    assert_int_equal(pthread_create(&closer.id, NULL, close_it, &closer), 0);
    assert_true(pm_test_wait_until(is_closing, pool, 10000));
    refuse_all(pool); /* the pool is there for as long as the call that is held */
    atomic_store(&caller.hold->go, 1);
    pthread_join(caller.id, NULL);
    pthread_join(closer.id, NULL);
    EXPECT(caller.value, 0);
    EXPECT(closer.value, 0);
}

/* ---- Large data in flight ---- */

enum { BLOCKS = 16 };

struct large {
    pmap_pool *pool;
    _Atomic uint64_t *begun;
    char *in, *out;
    int value;
    pthread_t id;
};

static int copy_block(pmap_task *task, const void *item, void *result)
{
    atomic_fetch_add((_Atomic uint64_t *)pmap_task_arg(task), 1);
    memcpy(result, item, MIB);
    return 0;
}

static void *map_large(void *arg)
{
    struct large *l = arg;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = (void *)l->begun;
    o.chunk = 1;
    l->value = pmap_map(l->pool, copy_block, l->in, BLOCKS, MIB, l->out, MIB, &o);
    return NULL;
}

/* Private memory: all of it travels.  A close waits for it; a terminate does not. */
static void large_maps(const struct pm_path *path)
{
    struct large l = {.in = malloc(BLOCKS * MIB), .out = malloc(BLOCKS * MIB)};
    assert_true(l.in && l.out);
    for (size_t i = 0; i < BLOCKS; i++) memset(l.in + i * MIB, (int)i + 1, MIB);
    for (int end = 0; end < 2; end++) {
        memset(l.out, 0, BLOCKS * MIB);
        l.pool = pm_path_open(path, 2);
        l.begun = (_Atomic uint64_t *)pmap_alloc(l.pool, sizeof *l.begun);
        assert_non_null(l.begun);
        atomic_store(l.begun, 0);
        assert_int_equal(pthread_create(&l.id, NULL, map_large, &l), 0);
        assert_true(pm_test_wait_until(flag_is_set, l.begun, 10000));
        double from = seconds();
        EXPECT(end ? pmap_pool_terminate(l.pool, 0) : pmap_pool_close(l.pool), 0);
        if (seconds() - from > 10) fail_msg("%s: the end took %.1f s", path->name, seconds() - from);
        pthread_join(l.id, NULL);
        if (end && l.value == PMAP_ECANCELLED) continue;
        EXPECT(l.value, 0);
        assert_memory_equal(l.in, l.out, BLOCKS * MIB);
    }
    free(l.in);
    free(l.out);
}

static int copy_task(pmap_task *task, const void *in, size_t bytes)
{
    void *out = pmap_task_result(task, bytes);
    if (!out) return 1;
    memcpy(out, in, bytes);
    atomic_fetch_add((_Atomic uint64_t *)pmap_task_arg(task), 1);
    return 0;
}

/* Zero, and shared with the workers of pools that are opened later: behind the pool's end it can still be read. */
static _Atomic uint64_t *shared_count(void)
{
    void *p = mmap(NULL, sizeof(_Atomic uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void large_tasks(const struct pm_path *path)
{
    _Atomic uint64_t *ran = shared_count();
    char *in = calloc(1, 2 * MIB);
    assert_non_null(in);
    for (int end = 0; end < 2; end++) {
        pmap_pool *pool = pm_path_open(path, 2);
        pmap_submit_options o = with_arg((void *)ran);
        o.result_max = 2 * MIB;
        atomic_store(ran, 0);
        for (int i = 0; i < BLOCKS; i++) EXPECT(pmap_submit(pool, copy_task, in, 2 * MIB, &o, NULL), 0);
        double from = seconds();
        EXPECT(end ? pmap_pool_terminate(pool, 0) : pmap_pool_close(pool), 0);
        if (seconds() - from > 10) fail_msg("%s: the end took %.1f s", path->name, seconds() - from);
        if (!end) assert_int_equal(atomic_load(ran), BLOCKS);
    }
    free(in);
    (void)munmap((void *)ran, sizeof *ran);
}

/* ---- Queued work ---- */

static int count_task_in(_Atomic uint64_t *ran) { return atomic_fetch_add(ran, 1), 0; }

static int count_task(pmap_task *task, const void *in, size_t bytes)
{
    (void)in, (void)bytes;
    return count_task_in((_Atomic uint64_t *)pmap_task_arg(task));
}

/* All workers are held, or there is none but the caller: not one of the others has begun, and none ever will.  They are so many that those who
 * are held notice the end before all of them have been taken back. */
static void queued_is_not_run(const struct pm_path *path)
{
    _Atomic uint64_t *ran = shared_count();
    pmap_pool *pool = pm_path_open(path, 2);
    struct gate *g = new_gate(pool);
    pmap_submit_options gated = with_arg(g), o = with_arg((void *)ran);
    if (path->executor != PMAP_SERIAL) {
        for (int i = 0; i < 2; i++) EXPECT(pmap_submit(pool, gate_fn, NULL, 0, &gated, NULL), 0);
        await_inside(g, 2);
    }
    for (int i = 0; i < 20000; i++) EXPECT(pmap_submit(pool, count_task, NULL, 0, &o, NULL), 0);
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    assert_int_equal(atomic_load(ran), 0);
    (void)munmap((void *)ran, sizeof *ran);
}

/* The same with a stream that is given back. */
struct counted {
    struct hold *hold;
    _Atomic uint64_t *ran;
};

static int count_or_hold(pmap_task *task, const void *in, size_t bytes)
{
    struct counted *c = pmap_task_arg(task);
    struct hold *h = c->hold;
    if (pmap_task_index(task) >= 2) return count_task_in(c->ran);
    atomic_fetch_add(&h->begun, 1);
    for (double end = seconds() + 20; !pmap_task_cancelled(task) && seconds() < end;) (void)poll(NULL, 0, 1);
    return compute(task, in, bytes);
}

static bool two_have_begun(void *hold) { return atomic_load(&((struct hold *)hold)->begun) == 2; }

static void queued_in_a_stream_is_not_run(const struct pm_path *path)
{
    enum { N = 20000 };
    _Atomic uint64_t *ran = shared_count();
    pmap_pool *pool = pm_path_open(path, 2);
    struct counted *c = pmap_alloc(pool, sizeof *c);
    struct numbers source = numbers(N);
    pmap_stream_options o = PMAP_STREAM_OPTIONS_INIT;
    assert_non_null(c);
    *c = (struct counted){hold_new(pool, 0, 2), ran};
    o.arg = c;
    o.window = N;
    pmap_stream *s = stream_open(pool, true, count_or_hold, pull_number, &source, &o);
    for (double end = seconds() + 20; source.pulled < N && seconds() < end;)
        EXPECT(pmap_stream_next(s, 0, NULL, NULL), PMAP_ETIMEDOUT);
    assert_true(pm_test_wait_until(two_have_begun, c->hold, 10000));
    pmap_stream_close(s);
    assert_int_equal(atomic_load(ran), 0);
    pm_path_close(pool);
    assert_int_equal(atomic_load(ran), 0);
    (void)munmap((void *)ran, sizeof *ran);
}

/* ---- Memory ---- */

/* Results that are read and given back, and maps of private memory: the pool's memory is what it was. */
static void finished_work_costs_nothing(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    _Atomic uint64_t *ran = (_Atomic uint64_t *)pmap_alloc(pool, sizeof *ran);
    char *in = calloc(8, MIB), *out = malloc(8 * MIB);
    size_t before = 0;
    assert_true(ran && in && out);
    for (int round = 0; round < 5; round++) {
        pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
        m.arg = (void *)ran;
        EXPECT(pmap_map(pool, copy_block, in, 8, MIB, out, MIB, &m), 0);
        if (path->bit & PM_ON_FUTURES) {
            pmap_submit_options o = with_arg((void *)ran);
            pmap_future *f[3];
            o.result_max = 4 * MIB;
            for (int i = 0; i < 3; i++) f[i] = give(pool, copy_task, in, 4 * MIB, &o);
            for (int i = 0; i < 3; i++) EXPECT(pmap_future_get(f[i], LONG_S, NULL, NULL), 0);
            for (int i = 0; i < 3; i++) pmap_future_free(f[i]);
        }
        if (round == 1) before = arena_bytes();
    }
    if (arena_bytes() > before + MIB) fail_msg("%s: %zu KiB, before %zu", path->name, arena_bytes() / 1024, before / 1024);
    free(in);
    free(out);
    pm_path_close(pool);
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"too late", too_late, PM_ON_ALL},
        {"large maps", large_maps, PM_ON_ALL},
        {"large tasks", large_tasks, PM_ON_FUTURES},
        {"queued work is not run", queued_is_not_run, PM_ON_FUTURES},
        {"queued in a stream is not run", queued_in_a_stream_is_not_run, ON_HELD},
        {"finished work costs nothing", finished_work_costs_nothing, PM_ON_ALL},
    };
    return PM_PATHS_MAIN("close_busy", tests);
}

/* Workers that die in every way there is outside the function: in their start, while idle, as they leave; and in the
 * middle of large messages.  What a function does to its worker is in test_deaths.c, kills at single instructions in
 * test_step.c. */
#include "tests/together.h"
#include "tests/ways.h"

#include <sched.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)

static bool hangs(const struct way *w) { return w->timeout_s > 0; }
static bool ends_a_thread(const struct way *w) { return w->die == by_thread_exit || w->die == by_thread_exit_beside_another; }

/* ---- In their start, and as they leave ---- */

static int die_in_hook(unsigned worker, void **state, void *arg)
{
    (void)worker, (void)state;
    ((const struct way *)arg)->die();
    return 0;
}

static pmap_pool *open_with(const struct pm_path *path, pmap_hook_fn *init, pmap_hook_fn *leave, const struct way *w)
{
    pmap_options o = pm_path_options(path, 2);
    pmap_pool *pool;
    o.init = init;
    o.exit = leave;
    o.hook_arg = (void *)(uintptr_t)w;
    EXPECT(pmap_pool_open(&pool, &o), 0);
    return pool;
}

/* Whoever hangs there is waited for, and ended with the pool; whatever else it does breaks the pool, which says how. */
static void in_their_start(const struct pm_path *path)
{
    for (size_t k = 0; k < WAYS; k++) {
        const struct way *w = &ways[k];
        pmap_pool *pool = open_with(path, die_in_hook, NULL, w);
        if (!hangs(w)) {
            char words[60];
            (void)snprintf(words, sizeof words, w->cause == PMAP_CAUSE_SIGNAL ? "was ended by signal %d" : "exited with status %d",
                           w->value);
            int e = pm_small_map(pool);
            if (e != PMAP_EBROKEN) fail_msg("%s, %s in its start: %d %s", path->name, w->name, e, pmap_error());
            EXPECT_TEXT("the init hook of worker ");
            EXPECT_TEXT(words);
        }
        double from = seconds();
        EXPECT(pmap_pool_terminate(pool, 0), 0);
        if (seconds() - from > 10) fail_msg("%s, %s in its start: terminate took %.1f s", path->name, w->name, seconds() - from);
    }
}

/* Nothing depends on it any more: the pool closes as ever.  (A hook that hangs: test_life.c.) */
static void as_they_leave(const struct pm_path *path)
{
    for (size_t k = 0; k < WAYS; k++) {
        if (hangs(&ways[k])) continue;
        pmap_pool *pool = open_with(path, NULL, die_in_hook, &ways[k]);
        EXPECT(pm_small_map(pool), 0);
        check_close(pool, path, ways[k].name);
    }
}

/* And where one leaves in the middle of a call and is replaced, whom that call does not miss. */
static void as_they_are_replaced(const struct pm_path *path)
{
    for (size_t k = 0; k < WAYS; k++) {
        if (hangs(&ways[k])) continue;
        pmap_options o = pm_path_options(path, 2);
        pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
        struct pmap_stats stats = {.size = sizeof stats};
        uint32_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
        pmap_pool *pool;
        o.exit = die_in_hook;
        o.hook_arg = (void *)(uintptr_t)&ways[k];
        o.recycle_items = 2;
        EXPECT(pmap_pool_open(&pool, &o), 0);
        m.retries = 0;
        m.stats = &stats;
        EXPECT(pmap_map(pool, pm_twice, in, 8, 4, out, 4, &m), 0);
        for (uint32_t i = 0; i < 8; i++) assert_int_equal(out[i], 2 * in[i]);
        assert_int_equal(stats.retries, 0);
        check_close(pool, path, ways[k].name);
    }
}

/* ---- While idle ---- */

struct mine { /* in pmap_alloc() memory: a thread of each worker dies when the application says so, long behind its item */
    void (*die)(void);
    _Atomic uint32_t go;
    _Atomic int pid[MOST_THERE];
};

static void *die_later(void *arg)
{
    struct mine *m = arg;
    for (double end = seconds() + 20; !atomic_load(&m->go) && seconds() < end;) (void)poll(NULL, 0, 1);
    m->die();
    return NULL;
}

static int lay_mine(pmap_task *task, const void *item, void *result)
{
    struct mine *m = pmap_task_arg(task);
    unsigned i = pmap_task_worker(task);
    pthread_t thread;
    (void)item, (void)result;
    if (atomic_load(&m->pid[i]) == getpid()) return 0;
    if (pthread_create(&thread, NULL, die_later, m) || pthread_detach(thread)) return 1;
    atomic_store(&m->pid[i], getpid());
    return 0;
}

struct fate {
    pmap_pool *pool;
    struct mine *mine;
};

static bool have_others(void *arg) /* each that has died has another in its place */
{
    struct fate *f = arg;
    int pids[MOST_THERE];
    unsigned n = pmap_pool_pids(f->pool, pids, MOST_THERE);
    for (unsigned i = 0; i < n; i++)
        if (pids[i] <= 0 || pids[i] == atomic_load(&f->mine->pid[i])) return false;
    return true;
}

static void while_idle(const struct pm_path *path)
{
    pmap_pool *pool = open_pool(path, 2);
    for (size_t k = 0; k < WAYS; k++) {
        if (hangs(&ways[k]) || ends_a_thread(&ways[k])) continue;
        struct fate f = {pool, pmap_alloc(pool, sizeof *f.mine)};
        pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
        assert_non_null(f.mine);
        memset(f.mine, 0, sizeof *f.mine);
        f.mine->die = ways[k].die;
        m.arg = f.mine;
        m.chunk = 1;
        EXPECT(pmap_map(pool, lay_mine, NULL, 50, 0, NULL, 0, &m), 0);
        atomic_store(&f.mine->go, 1);
        if (!pm_test_wait_until(have_others, &f, 10000)) fail_msg("%s, %s while idle: not replaced", path->name, ways[k].name);
        check_orderly(pool, path, ways[k].name);
        pmap_free(pool, f.mine);
    }
    check_close(pool, path, "deaths while idle");
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"in their start", in_their_start, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"as they leave", as_they_leave, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"as they are replaced", as_they_are_replaced, PM_ON_PROCESSES & ~PM_ON_COPY},
        {"while idle", while_idle, PM_ON_PROCESSES & ~PM_ON_COPY},
    };
    return PM_PATHS_MAIN("deaths_when", tests);
}

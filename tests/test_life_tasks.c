/* A worker's life with work that is given in one by one: states, workers that are replaced, rest, or are too many; broadcasts; waiting for all
 * that is pending. */
#include "tests/together.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ON_TASKS (PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM)
#define N 300u

static struct notes {
    _Atomic unsigned inits, exits;
    int code;
} *notes;

struct state {
    unsigned worker;
    _Atomic unsigned inside, items; /* `inside`: two at once would be wrong */
};

static int begin(unsigned worker, void **state, void *arg)
{
    struct notes *n = arg;
    struct state *mine = calloc(1, sizeof *mine);
    atomic_fetch_add(&n->inits, 1);
    if (!mine || n->code) {
        free(mine);
        return n->code ? n->code : 99;
    }
    mine->worker = worker;
    *state = mine;
    return 0;
}

static int end(unsigned worker, void **state, void *arg)
{
    struct notes *n = arg;
    struct state *mine = *state;
    if (mine->worker == worker) atomic_fetch_add(&n->exits, 1);
    free(mine);
    return 0;
}

static pmap_pool *open_with(const struct pm_path *path, pmap_options *o)
{
    pmap_pool *pool = NULL;
    memset((void *)notes, 0, offsetof(struct notes, code));
    o->executor = path->executor;
    o->init = begin;
    o->exit = end;
    o->hook_arg = notes;
    EXPECT(pmap_pool_open(&pool, o), 0);
    assert_non_null(pool);
    return pool;
}

/* Answers how many items this worker has run. */
static int count(pmap_task *task, const void *in, size_t bytes)
{
    struct state *mine = pmap_task_state(task);
    if (!mine || mine->worker != pmap_task_worker(task) || bytes != sizeof(unsigned)) return 7;
    if (atomic_fetch_add(&mine->inside, 1)) return 8;
    unsigned answer[2] = {0, atomic_fetch_add(&mine->items, 1) + 1};
    memcpy(&answer[0], in, sizeof answer[0]);
    memcpy(pmap_task_result(task, sizeof answer), answer, sizeof answer);
    atomic_fetch_sub(&mine->inside, 1);
    return 0;
}

static void submit_all(pmap_pool *pool, pmap_future **f, unsigned n)
{
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    o.retries = 0; /* whoever leaves charges nobody */
    for (unsigned i = 0; i < n; i++) EXPECT(pmap_submit(pool, count, &i, sizeof i, &o, &f[i]), 0);
}

static unsigned collect_all(pmap_future **f, unsigned n) /* the largest count of a worker's items */
{
    unsigned most = 0;
    for (unsigned i = 0; i < n; i++) {
        const void *result;
        size_t bytes;
        unsigned answer[2];
        EXPECT(pmap_future_get(f[i], 20, &result, &bytes), 0);
        assert_int_equal(bytes, sizeof answer);
        memcpy(answer, result, sizeof answer);
        assert_int_equal(answer[0], i);
        if (answer[1] > most) most = answer[1];
        pmap_future_free(f[i]);
    }
    return most;
}

static void states(const struct pm_path *path)
{
    static pmap_future *f[N];
    pmap_options o = PMAP_OPTIONS_INIT;
    o.workers = 3;
    pmap_pool *pool = open_with(path, &o);
    submit_all(pool, f, N);
    (void)collect_all(f, N);
    pm_path_close(pool);
    assert_int_equal(atomic_load(&notes->inits), atomic_load(&notes->exits));
}

/* A map and tasks at the same time: nobody sees another's state in use. */
static int in_map(pmap_task *task, const void *item, void *result)
{
    struct state *mine = pmap_task_state(task);
    (void)item, (void)result;
    if (!mine || atomic_fetch_add(&mine->inside, 1)) return 8;
    (void)usleep(20);
    atomic_fetch_sub(&mine->inside, 1);
    return 0;
}

static void *map_many(void *pool)
{
    long e = 0;
    for (int i = 0; i < 10 && !e; i++) e = pmap_map(pool, in_map, NULL, 50, 0, NULL, 0, NULL);
    return (void *)e;
}

static void beside_maps(const struct pm_path *path)
{
    static pmap_future *f[N];
    pmap_options o = PMAP_OPTIONS_INIT;
    pthread_t thread;
    void *value;
    o.workers = 2;
    pmap_pool *pool = open_with(path, &o);
    assert_int_equal(pthread_create(&thread, NULL, map_many, pool), 0);
    submit_all(pool, f, N);
    (void)collect_all(f, N);
    pthread_join(thread, &value);
    EXPECT((int)(long)value, 0);
    pm_path_close(pool);
}

static void refused(const struct pm_path *path)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_future *f;
    unsigned zero = 0;
    notes->code = 5;
    o.workers = 2;
    pmap_pool *pool = open_with(path, &o);
    EXPECT(pmap_submit(pool, count, &zero, sizeof zero, NULL, &f), 0);
    EXPECT(pmap_future_get(f, 20, NULL, NULL), PMAP_EBROKEN);
    EXPECT_TEXT("the init hook of worker ");
    EXPECT_TEXT("returned 5");
    EXPECT(pmap_pool_terminate(pool, 0), 0);
    notes->code = 0;
}

static void replaced(const struct pm_path *path)
{
    static pmap_future *f[N];
    pmap_options o = PMAP_OPTIONS_INIT;
    o.workers = 2;
    o.recycle_items = 5;
    pmap_pool *pool = open_with(path, &o);
    submit_all(pool, f, 100);
    assert_int_equal(collect_all(f, 100), 5);
    pm_path_close(pool);
    assert_in_range(atomic_load(&notes->inits), 20, 22);
}

static int who(pmap_task *task, const void *in, size_t bytes)
{
    unsigned n = pmap_task_worker(task);
    (void)in, (void)bytes;
    memcpy(pmap_task_result(task, sizeof n), &n, sizeof n);
    return 0;
}

/* Who rests is called for a broadcast, and when tasks wait. */
static void rest_and_broadcast(const struct pm_path *path)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    static pmap_future *f[N];
    o.workers = 4;
    o.idle_s = 0.01;
    pmap_pool *pool = open_with(path, &o);
    for (int round = 0; round < 3; round++) {
        unsigned answers[4] = {9, 9, 9, 9};
        expect_there(pool, 1); /* the others rest */
        EXPECT(pmap_broadcast(pool, who, NULL, 0, answers, sizeof *answers, NULL), 0);
        for (unsigned i = 0; i < 4; i++) assert_int_equal(answers[i], i);
        expect_there(pool, 1); /* the others rest */
        submit_all(pool, f, 50);
        (void)collect_all(f, 50);
    }
    pm_path_close(pool);
}

/* Broadcasts go to as many as there are, while that changes; tasks go on. */
struct resizer {
    pmap_pool *pool;
    atomic_bool over;
    int error;
};

static void *resize_often(void *arg)
{
    struct resizer *r = arg;
    for (unsigned i = 0; !atomic_load(&r->over) && !r->error; i++) r->error = pmap_pool_resize(r->pool, 1 + i * 5 % 8);
    return NULL;
}

static void resize_and_broadcast(const struct pm_path *path)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    static pmap_future *f[N];
    pthread_t thread;
    o.workers = 2;
    pmap_pool *pool = open_with(path, &o);
    struct resizer r = {.pool = pool};
    submit_all(pool, f, 10); /* the tables are there before the pool grows */
    (void)collect_all(f, 10);
    EXPECT(pmap_pool_resize(pool, 6), 0);
    unsigned answers[8];
    EXPECT(pmap_broadcast(pool, who, NULL, 0, answers, sizeof *answers, NULL), 0);
    for (unsigned i = 0; i < 6; i++) assert_int_equal(answers[i], i);
    assert_int_equal(pthread_create(&thread, NULL, resize_often, &r), 0);
    for (int round = 0; round < 10; round++) {
        memset(answers, 0xff, sizeof answers);
        EXPECT(pmap_broadcast(pool, who, NULL, 0, answers, sizeof *answers, NULL), 0);
        for (unsigned i = 0; i < 8; i++) assert_true(answers[i] == i || answers[i] == 0xffffffffu);
        assert_int_equal(answers[0], 0);
        submit_all(pool, f, 30);
        (void)collect_all(f, 30);
    }
    atomic_store(&r.over, true);
    pthread_join(thread, NULL);
    EXPECT(r.error, 0);
    pm_path_close(pool);
}

static int hold(pmap_task *task, const void *in, size_t bytes)
{
    _Atomic int *go = pmap_task_arg(task);
    (void)in, (void)bytes;
    PM_HOLD(task, go);
    return 0;
}

static void wait_for_pending(const struct pm_path *path)
{
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_submit_options s = PMAP_SUBMIT_OPTIONS_INIT;
    o.workers = 2;
    pmap_pool *pool = open_with(path, &o);
    _Atomic int *go = pmap_alloc(pool, sizeof *go);
    assert_non_null(go);
    atomic_store(go, path->executor == PMAP_SERIAL); /* there the wait itself runs it */
    s.arg = (void *)go;
    EXPECT(pmap_submit(pool, hold, NULL, 0, &s, NULL), 0);
    if (path->executor != PMAP_SERIAL) EXPECT(pmap_pool_wait(pool, 0.05), PMAP_ETIMEDOUT);
    atomic_store(go, 1);
    EXPECT(pmap_pool_wait(pool, 20), 0);
    EXPECT(pmap_pool_wait(pool, 0), 0);
    pm_path_close(pool);
}

/* Deaths and replacements at once. */
static int die_sometimes(pmap_task *task, const void *in, size_t bytes)
{
    if (pmap_task_index(task) % 10 == 3 && pmap_task_attempt(task) == 0) raise(SIGKILL);
    return count(task, in, bytes);
}

static void with_deaths(const struct pm_path *path)
{
    static pmap_future *f[N];
    pmap_options o = PMAP_OPTIONS_INIT;
    pmap_submit_options s = PMAP_SUBMIT_OPTIONS_INIT;
    o.workers = 3;
    o.recycle_items = 3;
    pmap_pool *pool = open_with(path, &o);
    s.retries = 1;
    for (unsigned i = 0; i < 100; i++) EXPECT(pmap_submit(pool, die_sometimes, &i, sizeof i, &s, &f[i]), 0);
    assert_in_range(collect_all(f, 100), 1, 3);
    pm_path_close(pool);
}

int main(void)
{
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (notes == MAP_FAILED) return 1;
    static const struct pm_path_test tests[] = {
        {"states", states, ON_TASKS},
        {"beside maps", beside_maps, ON_TASKS},
        {"refused", refused, ON_TASKS},
        {"replaced", replaced, PM_ON_SHM},
        {"rest and broadcast", rest_and_broadcast, PM_ON_SHM},
        {"resize and broadcast", resize_and_broadcast, PM_ON_SHM},
        {"wait for pending", wait_for_pending, ON_TASKS},
        {"with deaths", with_deaths, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("life_tasks", tests);
}

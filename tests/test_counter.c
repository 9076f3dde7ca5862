/* The counter and the accumulator: five workers count to 500,000, and what a dead one has counted stays counted. */
#include "tests/share.h"

#define FIVE 5u
#define TIMES 100000

struct counts {
    pmap_counter *counter;
    pmap_accumulator *accumulator;
    _Atomic uint32_t ready;
};

static void open_counts(struct counts *c, pmap_pool *pool, unsigned shares)
{
    pmap_counter_options co = PMAP_COUNTER_OPTIONS_INIT;
    pmap_accumulator_options ao = PMAP_ACCUMULATOR_OPTIONS_INIT;
    memset(c, 0, sizeof *c);
    co.pool = ao.pool = pool;
    co.first = -7;
    ao.shares = shares;
    EXPECT(pmap_counter_open(&c->counter, &co), 0);
    EXPECT(pmap_accumulator_open(&c->accumulator, &ao), 0);
}

static void close_counts(struct counts *c)
{
    EXPECT(pmap_counter_close(c->counter), 0);
    EXPECT(pmap_accumulator_close(c->accumulator), 0);
}

static void check_counts(struct counts *c, int64_t expected)
{
    int64_t value = 0;
    EXPECT(pmap_counter_get(c->counter, &value), 0);
    assert_int_equal(value, expected - 7);
    EXPECT(pmap_accumulator_get(c->accumulator, &value), 0);
    assert_int_equal(value, expected);
}

static void count_up(void *arg, unsigned index)
{
    struct counts *c = arg;
    for (int i = 0; i < TIMES; i++)
        MUST_NOT(pmap_counter_add(c->counter, 1, NULL) || pmap_accumulator_add(c->accumulator, index, 1));
}

static void five_workers_count(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, FIVE);
    struct counts *c = pmap_alloc(pool, sizeof *c);
    assert_non_null(c);
    open_counts(c, pool, FIVE);
    crew_of_workers(pool, FIVE, count_up, c);
    check_counts(c, FIVE * TIMES);
    for (unsigned i = 0; i < FIVE; i++) {
        int64_t share;
        EXPECT(pmap_accumulator_share(c->accumulator, i, &share), 0);
        assert_int_equal(share, TIMES);
    }
    close_counts(c);
    pmap_free(pool, c);
    pm_path_close(pool);
}

static void five_without_a_pool(const struct pm_path *path)
{
    struct counts *c = shared_memory(sizeof *c);
    open_counts(c, NULL, FIVE);
    if (path->bit == PM_ON_THREADS) crew_of_threads(FIVE, count_up, c);
    else crew_of_processes(FIVE, count_up, c);
    check_counts(c, FIVE * TIMES);
    close_counts(c);
    (void)munmap(c, sizeof *c);
}

static void values_and_wrong_use(const struct pm_path *path)
{
    (void)path;
    struct counts c;
    int64_t value;
    open_counts(&c, NULL, 2);
    EXPECT(pmap_counter_add(c.counter, 10, &value), 0);
    assert_int_equal(value, 3);
    EXPECT(pmap_counter_add(c.counter, -5, &value), 0);
    assert_int_equal(value, -2);
    EXPECT(pmap_counter_add(c.counter, INT64_MAX, NULL), 0);
    EXPECT(pmap_counter_add(c.counter, 3, &value), 0); /* wraps */
    assert_true(value == INT64_MIN);
    EXPECT(pmap_accumulator_add(c.accumulator, 0, -3), 0);
    EXPECT(pmap_accumulator_add(c.accumulator, 1, 5), 0);
    EXPECT(pmap_accumulator_get(c.accumulator, &value), 0);
    assert_int_equal(value, 2);
    EXPECT(pmap_accumulator_share(c.accumulator, 0, &value), 0);
    assert_int_equal(value, -3);
    EXPECT(pmap_accumulator_add(c.accumulator, 2, 1), PMAP_EINVAL);
    EXPECT(pmap_accumulator_share(c.accumulator, 2, &value), PMAP_EINVAL);
    EXPECT(pmap_accumulator_share(c.accumulator, 0, NULL), PMAP_EINVAL);
    EXPECT(pmap_accumulator_get(c.accumulator, NULL), PMAP_EINVAL);
    EXPECT(pmap_accumulator_get(NULL, &value), PMAP_EINVAL);
    EXPECT(pmap_accumulator_add(NULL, 0, 1), PMAP_EINVAL);
    EXPECT(pmap_counter_get(c.counter, NULL), PMAP_EINVAL);
    EXPECT(pmap_counter_get(NULL, &value), PMAP_EINVAL);
    EXPECT(pmap_counter_add((pmap_counter *)(void *)c.accumulator, 1, NULL), PMAP_EINVAL);
    close_counts(&c);
    pmap_accumulator_options o = PMAP_ACCUMULATOR_OPTIONS_INIT;
    o.shares = 65537;
    EXPECT(pmap_accumulator_open(&c.accumulator, &o), PMAP_EINVAL);
    EXPECT(pmap_accumulator_open(NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_counter_open(NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_counter_close(NULL), 0);
    EXPECT(pmap_accumulator_close(NULL), 0);
    EXPECT(pmap_accumulator_open(&c.accumulator, NULL), 0); /* a share for each CPU */
    EXPECT(pmap_accumulator_add(c.accumulator, pmap_cpus() - 1, 1), 0);
    EXPECT(pmap_accumulator_add(c.accumulator, pmap_cpus(), 1), PMAP_EINVAL);
    EXPECT(pmap_accumulator_close(c.accumulator), 0);
}

/* Counts in both, one behind the other, until it is killed. */
static _Noreturn int count_for_ever(void *arg)
{
    struct counts *c = arg;
    for (int64_t n = 1;; n++) {
        MUST_NOT(pmap_accumulator_add(c->accumulator, 0, 1) || pmap_counter_add(c->counter, 1, NULL));
        if (n == 1000) atomic_store(&c->ready, 1);
    }
}

static void what_the_dead_counted_stays(const struct pm_path *path)
{
    (void)path;
    struct counts *c = shared_memory(sizeof *c);
    open_counts(c, NULL, 1);
    int64_t sum = 0, value, before = 0;
    for (int round = 0; round < 50; round++) {
        atomic_store(&c->ready, 0);
        pid_t pid = start(count_for_ever, c);
        wait_set(&c->ready);
        kill_and_reap(pid);
        EXPECT(pmap_accumulator_get(c->accumulator, &sum), 0);
        EXPECT(pmap_counter_get(c->counter, &value), 0);
        value += 7;
        assert_true(sum >= before + 1000);
        /* Each death may have come between the two. */
        if (sum < value || sum > value + round + 1) fail_msg("after %d deaths: %ld and %ld", round + 1, (long)sum, (long)value);
        before = sum;
    }
    close_counts(c);
    (void)munmap(c, sizeof *c);
}

/* Ten items count themselves, and five die behind that: they are run again, and count again. */
static int count_and_die(pmap_task *task, const void *item, void *result)
{
    pmap_accumulator *a = pmap_task_arg(task);
    (void)item;
    (void)result;
    if (pmap_accumulator_add(a, pmap_task_worker(task), 1)) return 1;
    if (pmap_task_index(task) % 2 && pmap_task_attempt(task) == 0) raise(SIGKILL);
    return 0;
}

static void a_dead_worker_s_share_stays(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_accumulator_options o = PMAP_ACCUMULATOR_OPTIONS_INIT;
    pmap_map_options m = PMAP_MAP_OPTIONS_INIT;
    pmap_accumulator *a;
    int64_t sum, share[2];
    o.pool = pool; /* two shares */
    EXPECT(pmap_accumulator_open(&a, &o), 0);
    m.arg = a;
    m.chunk = 1;
    EXPECT(pmap_map(pool, count_and_die, NULL, 10, 0, NULL, 0, &m), 0);
    EXPECT(pmap_accumulator_get(a, &sum), 0);
    assert_int_equal(sum, 15);
    for (unsigned i = 0; i < 2; i++) EXPECT(pmap_accumulator_share(a, i, &share[i]), 0);
    assert_int_equal(share[0] + share[1], 15);
    EXPECT(pmap_accumulator_close(a), 0);
    pm_path_close(pool);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"five workers count", five_workers_count, PM_ON_ALL},
        {"five without a pool", five_without_a_pool, PM_ON_THREADS | PM_ON_SHM},
        {"values and wrong use", values_and_wrong_use, PM_ON_THREADS},
        {"what the dead counted stays", what_the_dead_counted_stays, PM_ON_SHM},
        {"a dead worker's share stays", a_dead_worker_s_share_stays, PM_ON_SHARED},
    };
    return PM_PATHS_MAIN("counter", tests);
}

/* Five workers add one to a number 100,000 times each: wrong without a lock, right with a lock, a counter, an accumulator.
 * With an argument it also prints by how much it went wrong, which is another figure each time. */
#include <pmap/pmap.h>
#include <stdio.h>

enum { WORKERS = 5, TIMES = 100000 };

struct shared {
    volatile long wrong, right;
    pmap_barrier *together;
    pmap_lock *lock;
    pmap_counter *counter;
    pmap_accumulator *accumulator;
};

static int add(pmap_task *task, const void *item, void *result)
{
    struct shared *s = pmap_task_arg(task);
    (void)item;
    (void)result;
    for (int i = 0; i < TIMES; i++) {
        long before = s->wrong; /* all five see 0 the first time, and all five store 1 */
        if (i == 0 && pmap_barrier_wait(s->together, 10, NULL)) return 1;
        s->wrong = before + 1;

        if (pmap_lock_acquire(s->lock, -1)) return 2;
        s->right++;
        pmap_lock_release(s->lock);

        pmap_counter_add(s->counter, 1, NULL);
        pmap_accumulator_add(s->accumulator, pmap_task_worker(task), 1);
    }
    return 0;
}

int main(int argc, char **argv)
{
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    options.workers = WORKERS;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    pmap_barrier_options barrier = {sizeof barrier, pool, WORKERS};
    pmap_lock_options lock = {sizeof lock, pool, 0};
    pmap_counter_options counter = {sizeof counter, pool, 0};
    pmap_accumulator_options accumulator = {sizeof accumulator, pool, WORKERS};
    struct shared *s = pmap_alloc(pool, sizeof *s);
    if (!s || pmap_barrier_open(&s->together, &barrier) || pmap_lock_open(&s->lock, &lock) || pmap_counter_open(&s->counter, &counter) ||
        pmap_accumulator_open(&s->accumulator, &accumulator))
        return fprintf(stderr, "%s\n", pmap_error()), 1;
    s->wrong = s->right = 0;

    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.arg = s;
    map.chunk = 1; /* an item each */
    map.once = 1;  /* a second run would count twice */
    if (pmap_map(pool, add, NULL, WORKERS, 0, NULL, 0, &map)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    int64_t counted, accumulated;
    pmap_counter_get(s->counter, &counted);
    pmap_accumulator_get(s->accumulator, &accumulated);
    printf("expected: %d\n", WORKERS * TIMES);
    printf("without a lock: %s\n", s->wrong < WORKERS * TIMES ? "fewer" : "all");
    if (argc > 1 && argv[1]) printf("that is: %ld\n", s->wrong);
    printf("with a lock: %ld\n", s->right);
    printf("with a counter: %ld\n", (long)counted);
    printf("with an accumulator: %ld\n", (long)accumulated);
    return pmap_pool_close(pool) != PMAP_OK; /* and all that lies in it */
}

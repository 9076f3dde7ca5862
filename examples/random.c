/* Pi by throwing darts: each item's random stream depends on the seed and its index only, so 1 and 3 workers agree. */
#include <pmap/pmap.h>
#include <stdio.h>

static int throw_darts(pmap_task *task, const void *item, void *result)
{
    int inside = 0;
    for (int i = 0; i < 1000; i++) {
        double x = (double)(pmap_task_random(task) >> 11) * 0x1p-53, y = (double)(pmap_task_random(task) >> 11) * 0x1p-53;
        inside += x * x + y * y < 1;
    }
    *(int *)result = inside;
    (void)item;
    return 0;
}

static long count(unsigned workers)
{
    static int inside[1000];
    long sum = 0;
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    options.workers = workers;
    map.seed = 42;
    if (pmap_pool_open(&pool, &options)) return -1;
    if (pmap_map(pool, throw_darts, NULL, 1000, 0, inside, sizeof *inside, &map)) return -2;
    for (int i = 0; i < 1000; i++) sum += inside[i];
    return pmap_pool_close(pool) ? -3 : sum;
}

int main(void)
{
    long one = count(1), three = count(3);
    if (one < 0 || three < 0) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("pi is about %.2f; 1 and 3 workers agree: %s\n", 4e-6 * (double)one, one == three ? "yes" : "no");
    return 0;
}

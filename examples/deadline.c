/* One item never ends.  Its deadline kills its worker; the other items are not disturbed. */
#include <pmap/pmap.h>
#include <stdio.h>

static int work(pmap_task *task, const void *item, void *result)
{
    volatile int for_ever = *(const int *)item == 3;
    while (for_ever) continue;
    *(int *)result = (int)pmap_task_index(task) * 10;
    return 0;
}

int main(void)
{
    int in[] = { 0, 1, 2, 3, 4, 5 }, out[6];
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.timeout_s = 0.1;
    options.retries = 0;
    if (pmap_map(pool, work, in, 6, sizeof *in, out, sizeof *out, &options) != PMAP_EITEMS) return 1;
    size_t count;
    const pmap_failure *failure = pmap_failures(pool, &count);
    for (size_t i = 0; i < count; i++)
        printf("item %zu: %s\n", failure[i].item, failure[i].cause == PMAP_CAUSE_TIMEOUT ? "ran too long" : failure[i].text);
    printf("%d %d %d . %d %d\n", out[0], out[1], out[2], out[4], out[5]);
    return pmap_pool_terminate(pool, 0.5) != PMAP_OK; /* never waits longer than that for a function to end */
}

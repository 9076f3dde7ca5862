/* Python's starmap over zip() and product(): powers of numbers side by side, then a multiplication table. */
#include <pmap/pmap.h>
#include <stdio.h>

static int power(pmap_task *task, const void *const *values, void *result)
{
    int base = *(const int *)values[0], exponent = *(const int *)values[1];
    int *power = result;
    (void)task;
    for (*power = 1; exponent > 0; exponent--) *power *= base;
    return 0;
}

static int times(pmap_task *task, const void *const *values, void *result)
{
    (void)task;
    *(int *)result = *(const int *)values[0] * *(const int *)values[1];
    return 0;
}

int main(void)
{
    int base[] = {2, 3, 10}, exponent[] = {5, 2, 3}, out[9];
    pmap_column columns[] = {{base, sizeof *base, 3}, {exponent, sizeof *exponent, 3}};
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    if (pmap_starmap(pool, power, PMAP_ZIP, columns, 2, out, sizeof *out, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("%d %d %d\n", out[0], out[1], out[2]);

    if (pmap_starmap(pool, times, PMAP_PRODUCT, columns, 2, out, sizeof *out, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < 9; i++) printf("%d%c", out[i], i % 3 == 2 ? '\n' : ' ');
    return pmap_pool_close(pool) != PMAP_OK;
}

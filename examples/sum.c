/* Sums ten million numbers in memory that the workers share: nothing is copied.  One item is a block of 10,000 numbers. */
#include <pmap/pmap.h>
#include <stdio.h>

enum { BLOCK = 10000, BLOCKS = 1000 };

static int sum_block(pmap_task *task, const void *item, void *result)
{
    const double *x = item;
    double sum = 0;
    (void)task;
    for (int i = 0; i < BLOCK; i++) sum += x[i];
    *(double *)result = sum;
    return 0;
}

int main(void)
{
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double *x = pmap_alloc(pool, sizeof(double) * BLOCK * BLOCKS);
    double *sums = pmap_alloc(pool, sizeof(double) * BLOCKS);
    if (!x || !sums) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < BLOCK * BLOCKS; i++) x[i] = i % 10;

    if (pmap_map(pool, sum_block, x, BLOCKS, sizeof(double) * BLOCK, sums, sizeof(double), NULL))
        return fprintf(stderr, "%s\n", pmap_error()), 1;
    double total = 0;
    for (int b = 0; b < BLOCKS; b++) total += sums[b];
    printf("sum: %.0f\n", total);
    pmap_free(pool, sums);
    pmap_free(pool, x);
    return pmap_pool_close(pool) != PMAP_OK;
}

/* Sums ten million numbers in memory that the workers share: nothing is copied.  One item is a block of 10,000 numbers.  Serial, on
 * threads and on processes, with the time of each. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <time.h>

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

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(const char *name, pmap_executor executor)
{
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    options.executor = executor;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double *x = pmap_alloc(pool, sizeof(double) * BLOCK * BLOCKS);
    double *sums = pmap_alloc(pool, sizeof(double) * BLOCKS);
    if (!x || !sums) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < BLOCK * BLOCKS; i++) x[i] = i % 10;

    double begin = now(), total = 0;
    if (pmap_map(pool, sum_block, x, BLOCKS, sizeof(double) * BLOCK, sums, sizeof(double), NULL))
        return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int b = 0; b < BLOCKS; b++) total += sums[b];
    printf("%s: sum %.0f, %.3f s\n", name, total, now() - begin);
    pmap_free(pool, sums);
    pmap_free(pool, x);
    return pmap_pool_close(pool) != PMAP_OK;
}

int main(void)
{
    return run("serial", PMAP_SERIAL) || run("threads", PMAP_THREADS) || run("processes", PMAP_PROCESSES);
}

/* A parallel loop: marks the primes below 200,000 in shared memory that the workers reach through `arg`. */
#include <pmap/pmap.h>
#include <stdio.h>

static int mark(pmap_task *task, size_t first, size_t last)
{
    char *prime = pmap_task_arg(task);
    for (size_t n = first; n < last; n++) {
        prime[n] = n > 1;
        for (size_t d = 2; d * d <= n && prime[n]; d++) prime[n] = n % d != 0;
    }
    return 0;
}

int main(void)
{
    enum { N = 200000 };
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    char *prime = pmap_alloc(pool, N);
    if (!prime) return fprintf(stderr, "%s\n", pmap_error()), 1;

    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.arg = prime;
    if (pmap_for(pool, mark, 0, N, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    int primes = 0;
    for (int n = 0; n < N; n++) primes += prime[n];
    printf("primes below %d: %d\n", N, primes);
    return pmap_pool_close(pool) != PMAP_OK;
}

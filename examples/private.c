/* Input and output in ordinary malloc() memory: it works the same and is copied; the statistics say how much. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <stdlib.h>

static int halves(pmap_task *task, const void *items, size_t count, void *results)
{
    const double *in = items;
    double *out = results;
    for (size_t i = 0; i < count; i++) out[i] = in[i] / 2;
    (void)task;
    return 0;
}

int main(void)
{
    enum { N = 1000000 };
    double *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    pmap_pool *pool;
    if (!in || !out || pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < N; i++) in[i] = i;

    struct pmap_stats stats = { .size = sizeof stats };
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.stats = &stats;
    if (pmap_chunks(pool, halves, in, N, sizeof *in, out, sizeof *out, &options))
        return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("half of %.0f is %.1f; %llu items", in[N - 1], out[N - 1], (unsigned long long)stats.items);
    stats.size = sizeof stats; /* and the whole pool's, here of one call */
    if (pmap_stats(pool, &stats)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf(", at least 16 MB copied: %s\n", stats.bytes_copied >= 2 * N * sizeof *in ? "yes" : "no");
    free(in);
    free(out);
    return pmap_pool_close(pool) != PMAP_OK;
}

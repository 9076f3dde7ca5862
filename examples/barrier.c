/* Four workers smooth a row of numbers in steps: nobody begins a step before all have finished the last one. */
#include <pmap/pmap.h>
#include <stdio.h>

enum { WORKERS = 4, N = 1000, STEPS = 100 };

struct rows {
    pmap_barrier *barrier;
    double row[2][N];
};

static int smooth(pmap_task *task, const void *item, void *result)
{
    struct rows *r = pmap_task_arg(task);
    size_t part = pmap_task_index(task), first = part * N / WORKERS, last = (part + 1) * N / WORKERS;
    (void)item;
    (void)result;
    for (int step = 0; step < STEPS; step++) {
        const double *from = r->row[step % 2];
        double *to = r->row[(step + 1) % 2];
        for (size_t i = first; i < last; i++) to[i] = (from[i ? i - 1 : N - 1] + 2 * from[i] + from[i + 1 < N ? i + 1 : 0]) / 4;
        if (pmap_barrier_wait(r->barrier, 10, NULL)) return 1; /* a worker died, or is too slow */
    }
    return 0;
}

int main(void)
{
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    options.workers = WORKERS;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    struct rows *r = pmap_alloc(pool, sizeof *r);
    pmap_barrier_options barrier = {sizeof barrier, pool, WORKERS};
    if (!r || pmap_barrier_open(&r->barrier, &barrier)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < N; i++) r->row[0][i] = i == N / 2 ? N : 0;

    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    map.arg = r;
    map.chunk = 1; /* a part each */
    if (pmap_map(pool, smooth, NULL, WORKERS, 0, NULL, 0, &map)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double sum = 0, *row = r->row[STEPS % 2];
    for (int i = 0; i < N; i++) sum += row[i];
    printf("sum %.0f, top %.2f, even: %s\n", sum, row[N / 2], row[N / 2 - 9] == row[N / 2 + 9] ? "yes" : "no");
    return pmap_barrier_close(r->barrier) || pmap_pool_close(pool);
}

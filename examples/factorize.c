/* The factors of four numbers: the same map serially, on threads and on processes, which is one option of the pool. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NUMBERS = 4 };

struct factors { int count, factor[20]; };

static int factorize(pmap_task *task, const void *item, void *result)
{
    int number = *(const int *)item;
    struct factors *f = result;
    memset(f, 0, sizeof *f);
    for (int i = 1; i <= number; i++) {
        if (number % i) continue;
        if (f->count == 20) return pmap_task_error(task, "%d has more than 20 factors", number), 1;
        f->factor[f->count++] = i;
    }
    return 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(const char *name, pmap_executor executor, struct factors *out)
{
    static const int in[NUMBERS] = { 2139079, 1214759, 1516637, 1852285 };
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    pmap_pool *pool;
    options.executor = executor;
    map.chunk = 1; /* a few large items: each by itself */
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double begin = now();
    int error = pmap_map(pool, factorize, in, NUMBERS, sizeof *in, out, sizeof *out, &map);
    if (error) fprintf(stderr, "%s\n", pmap_error());
    else printf("%s: %.3f s\n", name, now() - begin);
    pmap_pool_close(pool);
    return error;
}

int main(void)
{
    static struct factors serial[NUMBERS], threads[NUMBERS], processes[NUMBERS];
    if (run("serial", PMAP_SERIAL, serial) || run("threads", PMAP_THREADS, threads) || run("processes", PMAP_PROCESSES, processes)) return 1;
    for (int n = 0; n < NUMBERS; n++)
        for (int i = 0; i < serial[n].count; i++) printf("%d%s", serial[n].factor[i], i + 1 < serial[n].count ? " " : "\n");
    int same = !memcmp(serial, threads, sizeof serial) && !memcmp(serial, processes, sizeof serial);
    printf("all three agree: %s\n", same ? "yes" : "no");
    return 0;
}

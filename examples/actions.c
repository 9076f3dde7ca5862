/* do_n_actions: a loop that only counts, cut into eight items; serial, on threads and on processes, with the time of each. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <time.h>

enum { ITEMS = 8, ACTIONS = 5000000 };

static int do_n_actions(pmap_task *task, const void *item, void *result)
{
    long n = *(const long *)item, done = 0;
    (void)task;
    for (long i = 0; i < n; i++) {
        done++;
        __asm__ volatile("" : "+r"(done)); /* else the compiler would see that done becomes n */
    }
    *(long *)result = done;
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
    long in[ITEMS], out[ITEMS], total = 0;
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    options.executor = executor;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < ITEMS; i++) in[i] = ACTIONS;

    double begin = now();
    int error = pmap_map(pool, do_n_actions, in, ITEMS, sizeof *in, out, sizeof *out, NULL);
    double end = now();
    for (int i = 0; i < ITEMS; i++) total += out[i];
    if (error) fprintf(stderr, "%s\n", pmap_error());
    else printf("%s: %ld actions, %.3f s\n", name, total, end - begin);
    pmap_pool_close(pool);
    return error;
}

int main(void)
{
    return run("serial", PMAP_SERIAL) || run("threads", PMAP_THREADS) || run("processes", PMAP_PROCESSES);
}

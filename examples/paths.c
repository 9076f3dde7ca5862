/* The same function over every executor and channel: the program is written once, what runs it is an option. */
#include <pmap/pmap.h>
#include <stdio.h>

static int cube(pmap_task *task, const void *item, void *result)
{
    long x = *(const long *)item;
    *(long *)result = pmap_task_cancelled(task) ? 0 : x * x * x;
    return 0;
}

static void run(const char *name, pmap_executor executor, pmap_channel channel)
{
    static long in[1000], out[1000];
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    options.executor = executor;
    options.channel = channel;
    options.workers = 2;
    int error = pmap_pool_open(&pool, &options);
    for (long i = 0; i < 1000; i++) in[i] = i;
    if (!error) error = pmap_map(pool, cube, in, 1000, sizeof *in, out, sizeof *out, NULL);
    long sum = 0;
    for (long i = 0; i < 1000; i++) sum += out[i], out[i] = 0;
    if (error == PMAP_ENOTSUP) printf("%s: not in this build\n", name); /* ZeroMQ is optional */
    else printf("%s: %ld%s\n", name, sum, error ? ", and failed" : "");
    pmap_pool_close(pool);
}

int main(void)
{
    run("serial", PMAP_SERIAL, PMAP_SHM);
    run("threads", PMAP_THREADS, PMAP_SHM);
    run("processes", PMAP_PROCESSES, PMAP_SHM);
    run("processes over ZeroMQ", PMAP_PROCESSES, PMAP_ZMQ);
    return 0;
}

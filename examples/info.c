/* What the library says about itself, this machine and a pool; and how to reach one worker from outside. */
#include <pmap/pmap.h>
#include <signal.h>
#include <stdio.h>

static int who(pmap_task *task, const void *items, size_t count, void *results)
{
    for (size_t i = 0; i < count; i++) {
        pmap_task_item(task, pmap_task_index(task) + i); /* so that a death here would name item i */
        ((unsigned *)results)[i] = pmap_task_worker(task);
    }
    (void)items;
    return 0;
}

int main(void)
{
    char text[8192];
    size_t length = pmap_machine(text, sizeof text);
    unsigned worker[100], known = 1;
    int pids[2];
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    options.workers = 2;
    printf("header %s, library %s\n", PMAP_VERSION, pmap_version());
    printf("CPUs: %s; about the machine: %s\n", pmap_cpus() > 0 ? "some" : "none", length > 20 ? "plenty" : "nothing");
    printf("%s\n", pmap_pool_open(&pool, NULL) ? pmap_error() : "a pool of as many workers as CPUs");
    pmap_pool_close(pool);
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("workers: %u, processes: %u\n", pmap_pool_workers(pool), pmap_pool_pids(pool, pids, 2));
    if (pids[0] > 0) kill(pids[0], SIGKILL); /* the pool replaces it, and the map does not notice */
    int error = pmap_chunks(pool, who, NULL, 100, 0, worker, sizeof *worker, NULL);
    for (int i = 0; i < 100; i++) known &= worker[i] < 2;
    printf("after a kill: %s, workers known: %s\n", error ? pmap_error() : "ok", known ? "yes" : "no");
    return pmap_pool_close(pool) != PMAP_OK;
}

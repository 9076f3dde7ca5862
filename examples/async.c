/* Five slow system calls run as futures while the main program goes on computing: they cost the time of one. */
#include <pmap/pmap.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

static int slow_call(pmap_task *task, const void *in, size_t bytes)
{
    (void)task, (void)in, (void)bytes;
    return poll(NULL, 0, 300); /* 0.3 s; 0: done */
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    enum { CALLS = 5 };
    pmap_future *call[CALLS];
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    options.workers = CALLS;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double begin = now();
    for (int i = 0; i < CALLS; i++)
        if (pmap_submit(pool, slow_call, NULL, 0, NULL, &call[i])) return fprintf(stderr, "%s\n", pmap_error()), 1;

    unsigned steps = 0; /* of what the main program computes meanwhile */
    while (pmap_wait(call, CALLS, PMAP_ALL, 0) == PMAP_ETIMEDOUT) steps++;
    double took = now() - begin;

    int failed = 0;
    for (int i = 0; i < CALLS; i++) {
        failed += pmap_future_get(call[i], -1, NULL, NULL) != PMAP_OK;
        pmap_future_free(call[i]);
    }
    printf("%d calls of 0.3 s, %d failed, in less than 1.2 s: %s\n", CALLS, failed, took < 1.2 ? "yes" : "no");
    printf("the main program computed meanwhile: %s\n", steps > 10 ? "yes" : "no");
    return pmap_pool_close(pool) != PMAP_OK;
}

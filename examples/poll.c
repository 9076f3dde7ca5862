/* A pool in a program that has a loop of its own: one descriptor says when something has finished, and callbacks run where the loop calls
 * pmap_pool_poll(), in no other thread.  Each callback gives in the next task of its chain. */
#include <pmap/pmap.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

struct chain {
    pmap_pool *pool;
    unsigned long long value;
    int steps;
};

/* One step of the Collatz sequence. */
static int step(pmap_task *task, const void *in, size_t bytes)
{
    unsigned long long n, *next = pmap_task_result(task, sizeof *next);
    if (!next || bytes != sizeof n) return 1;
    memcpy(&n, in, sizeof n);
    *next = n % 2 ? 3 * n + 1 : n / 2;
    return 0;
}

static void done(pmap_future *future, void *arg);

static int go_on(struct chain *c)
{
    pmap_submit_options options = PMAP_SUBMIT_OPTIONS_INIT;
    options.done = done;
    options.done_arg = c;
    return pmap_submit(c->pool, step, &c->value, sizeof c->value, &options, NULL); /* only the callback will know of it */
}

static void done(pmap_future *future, void *arg)
{
    struct chain *c = arg;
    const void *result;
    if (pmap_future_get(future, 0, &result, NULL)) return;
    memcpy(&c->value, result, sizeof c->value);
    c->steps++;
    if (c->value != 1 && go_on(c)) fprintf(stderr, "%s\n", pmap_error());
}

int main(void)
{
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    struct chain chain[3] = { { pool, 27, 0 }, { pool, 97, 0 }, { pool, 871, 0 } };
    struct pollfd fds = { .fd = pmap_pool_fd(pool), .events = POLLIN };
    for (int i = 0; i < 3; i++)
        if (go_on(&chain[i])) return fprintf(stderr, "%s\n", pmap_error()), 1;
    while (chain[0].value + chain[1].value + chain[2].value > 3) {
        if (poll(&fds, 1, 10000) <= 0) return 1; /* sockets, timers and the like would be here too */
        if (pmap_pool_poll(pool, 0) < 0) return fprintf(stderr, "%s\n", pmap_error()), 1;
    }
    printf("steps from 27: %d, from 97: %d, from 871: %d\n", chain[0].steps, chain[1].steps, chain[2].steps);
    return pmap_pool_close(pool) != PMAP_OK;
}

/* Once on every worker: each gets an errand of its own, and one that dies over it does it again when it has been replaced. */
#include <stdlib.h>
#include <string.h>

#include "pmap/future.h"
#include "pmap/task.h"

/* The result of worker i, or what it failed with. */
static int collect(pmap_pool *pool, pmap_future *f, unsigned i, char *results, size_t result_size, struct pm_failure *failures, size_t *n)
{
    const void *result;
    size_t bytes;
    int e = pm_futures_wait(pool, "pmap_broadcast", pm_future_ready, f, -1);
    if (e) return e;
    e = pm_future_result(f, "pmap_broadcast", &result, &bytes);
    if (e == 0 && result_size) {
        memcpy(results + i * result_size, result, bytes < result_size ? bytes : result_size);
        if (bytes < result_size) memset(results + i * result_size + bytes, 0, result_size - bytes);
    } else if (e == PMAP_EITEMS || e == PMAP_ETOOBIG) {
        struct pm_failure *to = &failures[(*n)++];
        *to = (struct pm_failure){.item = i, .count = 1, .cause = (uint8_t)f->failure.cause, .value = f->failure.value,
                                  .attempts = (uint8_t)f->failure.attempts};
        pm_future_words(f, to->text);
        e = 0;
    }
    return e;
}

static int broadcast(pmap_pool *pool, struct pm_order_of_work *order, char *results, size_t result_size)
{
    unsigned workers = pmap_pool_workers(pool);
    pmap_future **list = calloc(workers, sizeof *list);
    struct pm_failure *failures = calloc(workers, sizeof *failures);
    size_t n = 0;
    int e = list && failures ? 0 : pm_error(PMAP_ENOMEM, "pmap_broadcast: not enough memory");
    for (unsigned i = 0; !e && i < workers; i++) {
        order->errand = i + 1;
        order->index = i;
        e = pm_submit(pool, "pmap_broadcast", order, &list[i]);
    }
    for (unsigned i = 0; i < workers; i++) {
        if (!list || !list[i]) continue;
        int one = collect(pool, list[i], i, results, result_size, failures, &n);
        if (!e) e = one;
        pm_future_drop(list[i]);
    }
    if (!e) {
        pm_failures_keep(pool, failures, n, 0, 1, workers);
        if (n) e = pm_error(PMAP_EITEMS, "pmap_broadcast: %zu of %u workers failed, the first: %s", n, workers,
                            pmap_failures(pool, NULL) ? pmap_failures(pool, NULL)->text : "(no memory to list it)");
    }
    free(failures);
    free(list);
    return e;
}

int pmap_broadcast(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, void *results, size_t result_size,
                   const pmap_submit_options *options)
{
    struct pm_order_of_work order = {.run = pm_call_work, .function = (void (*)(void))function, .in = in, .bytes = bytes};
    int e = pm_pool_enter(pool, "pmap_broadcast");
    if (e) return e;
    if (!function) e = pm_error(PMAP_EINVAL, "pmap_broadcast: function is NULL");
    else if (!in && bytes) e = pm_error(PMAP_EINVAL, "pmap_broadcast: in is NULL, but %zu bytes of input were expected", bytes);
    else if (!results && result_size) e = pm_error(PMAP_EINVAL, "pmap_broadcast: results is NULL, but result_size is %zu", result_size);
    else if (pool->rationed) e = pm_error(PMAP_ENOTSUP, "pmap_broadcast: with the option jobserver there may never be all of the workers");
    if (!e) e = pm_submit_options(pool, "pmap_broadcast", options, &order.options);
    if (!e) e = pm_submit_check(pool, "pmap_broadcast", &order);
    if (!e) {
        order.options.result_max = result_size;
        order.options.done = NULL;
        pthread_mutex_lock(&pool->futures->errands); /* a worker has one errand at a time */
        e = broadcast(pool, &order, results, result_size);
        pthread_mutex_unlock(&pool->futures->errands);
    }
    pm_pool_leave(pool);
    return e;
}

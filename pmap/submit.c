/* Giving in: a task is checked, its input copied where that must be, and announced to the workers.  Used by every call that gives in work one
 * by one. */
#include "pmap/future.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pmap/objects.h"
#include "pmap/options.h"
#include "pmap/task.h"
#include "shm/heap.h"

#define MOST_RETRIES 30

int pm_submit_options(pmap_pool *pool, const char *what, const pmap_submit_options *given, pmap_submit_options *o)
{
    static const pmap_submit_options init = PMAP_SUBMIT_OPTIONS_INIT;
    *o = init;
    int e = pm_options(o, sizeof *o, offsetof(pmap_submit_options, timeout_s), given, what, "PMAP_SUBMIT_OPTIONS_INIT");
    if (e) return e;
    if (!(o->timeout_s >= 0) || isinf(o->timeout_s))
        return pm_error(PMAP_EINVAL, "%s: timeout_s is %g; expected 0 or more seconds", what, o->timeout_s);
    if (o->retries < 0 || o->retries > MOST_RETRIES)
        return pm_error(PMAP_EINVAL, "%s: retries is %d; expected 0 to %d", what, o->retries, MOST_RETRIES);
    if (o->timeout_s > 0 && !pool->ops->timed)
        return pm_error(PMAP_ENOTSUP, "%s: timeout_s needs PMAP_PROCESSES: a thread cannot be ended from outside", what);
    return 0;
}

int pm_submit_check(pmap_pool *pool, const char *what, const struct pm_order_of_work *order)
{
    if (pool->maps_only) return pm_error(PMAP_ENOTSUP, "%s: a pool with the ZeroMQ channel takes maps only", what);
    if (pool->objects) {
        const void *code;
        memcpy(&code, &order->function, sizeof code);
        if (!pm_objects_have(pool->objects, code))
            return pm_error(PMAP_EFUNCTION, "%s: the function at %p is in an object that was loaded after the pool opened, which the workers do "
                            "not have; load it before pmap_pool_open()", what, code);
    }
    return pm_futures_open(pool, what);
}

/* Input that does not fit in an entry, and room for a result that may not. */
static int payload(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, void **in, void **out)
{
    struct pm_heap *heap = pool->ops->heap(pool->executor);
    int e = 0;
    *in = *out = NULL;
    if (order->bytes > PM_INLINE && !pm_arena_has(pool->futures->desk->arena, order->in, order->bytes)) {
        *in = pm_heap_alloc(heap, order->bytes, &e);
        if (!*in) return pm_error(PMAP_ENOMEM, "%s: no memory for %zu bytes of input", what, order->bytes);
        memcpy(*in, order->in, order->bytes);
    }
    if (order->options.result_max > PM_INLINE) {
        *out = pm_heap_alloc(heap, order->options.result_max, &e);
        if (!*out) {
            (void)pm_heap_free(heap, *in);
            return pm_error(PMAP_ENOMEM, "%s: no memory for %zu bytes of result", what, order->options.result_max);
        }
    }
    return 0;
}

static void fill(struct pm_entry *e, const struct pm_order_of_work *order, const pmap_future *f)
{
    e->run = order->run;
    e->function = order->function;
    e->arg = order->options.arg;
    e->index = f->index;
    e->seed = order->options.seed;
    e->timeout_ns = f->timeout_ns;
    e->retries = (uint8_t)(order->options.once ? 0 : order->options.retries);
    e->once = order->options.once != 0;
    atomic_store_explicit(&e->errand, order->errand, memory_order_relaxed);
    atomic_store_explicit(&e->doomed, 0, memory_order_relaxed);
    e->in_bytes = order->bytes;
    if (f->in || order->bytes > PM_INLINE) {
        e->in = f->in ? f->in : order->in;
    } else {
        if (order->bytes) memcpy(e->small, order->in, order->bytes);
        e->in = e->small;
    }
    e->out = f->out ? f->out : e->result;
    e->out_max = f->out ? order->options.result_max : PM_INLINE;
}

int pm_submit(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, pmap_future **out)
{
    struct pm_futures *f = pool->futures;
    pmap_future *one = NULL;
    void *in, *result;
    int e = payload(pool, what, order, &in, &result);
    if (e) return e;
    double ns = order->options.timeout_s * 1e9;
    pthread_mutex_lock(&f->lock);
    if (f->detached) (void)pm_futures_notice(pool); /* nobody else may ever ask for them */
    e = pm_future_take(pool, what, &one);
    if (!e) {
        one->index = order->index == UINT64_MAX ? f->submitted : order->index;
        one->timeout_ns = ns > 4e18 ? INT64_C(4000000000000000000) : ns > 0 && ns < 1 ? 1 : (int64_t)ns;
        one->timed = one->timeout_ns > 0;
        one->in = in;
        one->out = result;
        one->done = order->options.done;
        one->done_arg = order->options.done_arg;
        one->errand = order->errand != 0;
        one->detached = !out;
        one->watch = order->watch;
        if (order->watch) order->watch->future = one;
        fill(&f->desk->tasks->entry[one->entry], order, one);
        if (one->timed) pool->ops->timed(pool->executor, one->timeout_ns, 1);
        f->submitted++;
        f->pending++;
        if (one->detached) f->detached++;
        if (order->errand) pm_task_errand(f->desk->tasks, one->entry, one->turn, order->errand - 1);
        else pm_task_announce(f->desk->tasks, one->entry, one->turn);
        if (pool->ops->rouse) pool->ops->rouse(pool->executor);
        if (f->watched && pool->ops == &pm_serial) pm_futures_ring(pool); /* who then polls runs it */
    }
    pthread_mutex_unlock(&f->lock);
    if (e) {
        (void)pm_heap_free(pool->ops->heap(pool->executor), in);
        (void)pm_heap_free(pool->ops->heap(pool->executor), result);
    } else if (out) {
        *out = one;
    }
    return e;
}

int pmap_submit(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, const pmap_submit_options *options, pmap_future **future)
{
    struct pm_order_of_work order = {.run = pm_call_work, .function = (void (*)(void))function, .in = in, .bytes = bytes, .index = UINT64_MAX};
    if (future) *future = NULL;
    int e = pm_pool_enter(pool, "pmap_submit");
    if (e) return e;
    if (!function) e = pm_error(PMAP_EINVAL, "pmap_submit: function is NULL");
    else if (!in && bytes) e = pm_error(PMAP_EINVAL, "pmap_submit: in is NULL, but %zu bytes of input were expected", bytes);
    if (!e) e = pm_submit_options(pool, "pmap_submit", options, &order.options);
    if (!e) e = pm_submit_check(pool, "pmap_submit", &order);
    if (!e) e = pm_submit(pool, "pmap_submit", &order, future);
    pm_pool_leave(pool);
    return e;
}

int pmap_apply(pmap_pool *pool, pmap_work_fn *function, const void *in, size_t bytes, void *result, size_t *result_bytes,
               const pmap_submit_options *options)
{
    struct pm_order_of_work order = {.run = pm_call_work, .function = (void (*)(void))function, .in = in, .bytes = bytes, .index = UINT64_MAX};
    pmap_future *f = NULL;
    const void *from = NULL;
    size_t n = 0, room = result && result_bytes ? *result_bytes : 0;
    if (result_bytes) *result_bytes = 0;
    int e = pm_pool_enter(pool, "pmap_apply");
    if (e) return e;
    if (!function) e = pm_error(PMAP_EINVAL, "pmap_apply: function is NULL");
    else if (!in && bytes) e = pm_error(PMAP_EINVAL, "pmap_apply: in is NULL, but %zu bytes of input were expected", bytes);
    if (!e) e = pm_submit_options(pool, "pmap_apply", options, &order.options);
    if (!e) e = pm_submit_check(pool, "pmap_apply", &order);
    if (!e && order.options.result_max < room) order.options.result_max = room;
    if (!e) e = pm_submit(pool, "pmap_apply", &order, &f);
    if (!e) e = pm_futures_wait(pool, "pmap_apply", pm_future_ready, f, -1);
    if (!e) e = pm_future_result(f, "pmap_apply", &from, &n);
    if (!e && n > room) e = result ? pm_error(PMAP_ETOOBIG, "pmap_apply: its result has %zu bytes, and there is room for %zu", n, room) : 0;
    if (!e && room) memcpy(result, from, n);
    if (!e && result_bytes) *result_bytes = n;
    if (f) pm_future_drop(f);
    pm_pool_leave(pool); /* from here on a thread that closes the pool may free it */
    return e;
}

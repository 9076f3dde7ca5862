/* A function with a state that is fed values one at a time and answers after each, in whatever worker is free.  The state lies in the
 * pool's memory twice: a step works on a copy, which becomes the state when the step has succeeded.  So a step that dies or fails has
 * changed nothing, and may run again. */
#include <stdlib.h>
#include <string.h>

#include "pmap/future.h"
#include "pmap/task.h"
#include "shm/heap.h"
#include "shm/size.h"

/* In the pool's memory; written by the application between two steps. */
struct step {
    pmap_step_fn *function;
    void *arg;
    size_t bytes;
    unsigned current;
    char *state[2];
};

struct pmap_coroutine {
    pmap_pool *pool;
    struct pm_order_of_work order;
    struct step *step;
    pmap_future *last;       /* whose result the caller looks at */
    pmap_future *running;    /* a step whose wait was over before it was */
};

/* In the worker. */
static int call_step(pmap_task *task, const void *in, size_t bytes)
{
    const struct step *s = pmap_task_arg(task);
    char *next = s->state[1 - s->current];
    memcpy(next, s->state[s->current], s->bytes);
    task->run->arg = s->arg;
    int code = s->function(task, next, in, bytes);
    task->run->arg = (void *)(uintptr_t)s;
    return code;
}

int pmap_coroutine_open(pmap_pool *pool, pmap_step_fn *function, const void *state, size_t state_bytes, const pmap_submit_options *options,
                        pmap_coroutine **out)
{
    struct pm_order_of_work order = {.run = pm_call_work, .function = (void (*)(void))function, .index = UINT64_MAX};
    size_t each = 0, bytes = 0;
    if (!out) return pm_error(PMAP_EINVAL, "pmap_coroutine_open: coroutine is NULL");
    *out = NULL;
    int e = pm_pool_enter(pool, "pmap_coroutine_open");
    if (e) return e;
    pmap_coroutine *c = calloc(1, sizeof *c);
    if (!function) e = pm_error(PMAP_EINVAL, "pmap_coroutine_open: function is NULL");
    else if (!state && state_bytes) e = pm_error(PMAP_EINVAL, "pmap_coroutine_open: state is NULL, but state_bytes is %zu", state_bytes);
    else if (!pm_size_up(state_bytes, 64, &each) || !pm_size_mul(each, 2, &bytes) || !pm_size_add(bytes, 64 + sizeof(struct step), &bytes))
        e = pm_error(PMAP_EOVERFLOW, "pmap_coroutine_open: a state of %zu bytes does not fit twice in size_t", state_bytes);
    else if (!c) e = pm_error(PMAP_ENOMEM, "pmap_coroutine_open: not enough memory");
    if (!e) e = pm_submit_options(pool, "pmap_coroutine_open", options, &order.options);
    if (!e) e = pm_submit_check(pool, "pmap_coroutine_open", &order);
    if (!e) {
        int error = 0;
        struct step *s = pm_heap_alloc(pool->ops->heap(pool->executor), bytes, &error);
        if (s) {
            char *at = (char *)s + (sizeof *s + 63) / 64 * 64;
            *s = (struct step){.function = function, .arg = order.options.arg, .bytes = state_bytes, .state = {at, at + each}};
            if (state_bytes) memcpy(at, state, state_bytes);
            order.function = (void (*)(void))call_step;
            order.options.arg = s;
            order.options.done = NULL;
            *c = (pmap_coroutine){.pool = pool, .order = order, .step = s};
            pm_pool_hold(pool);
            *out = c;
        } else {
            e = pm_error(PMAP_ENOMEM, "pmap_coroutine_open: no memory for a state of %zu bytes", state_bytes);
        }
    }
    if (e) free(c);
    pm_pool_leave(pool);
    return e;
}

static int send(pmap_coroutine *c, const void *in, size_t bytes, double timeout_s, const void **result, size_t *result_bytes)
{
    int e = 0;
    if (c->running && in) return pm_error(PMAP_EPERM, "pmap_coroutine_send: the step before has not finished; wait for it with in = NULL");
    if (!c->running) {
        c->order.in = in;
        c->order.bytes = bytes;
        e = pm_submit(c->pool, "pmap_coroutine_send", &c->order, &c->running);
        if (e) return e;
    }
    e = pm_futures_wait(c->pool, "pmap_coroutine_send", pm_future_ready, c->running, timeout_s);
    if (e) return e;
    if (c->last) pm_future_drop(c->last); /* not before: the last answer may be what this step was fed */
    c->last = c->running;
    c->running = NULL;
    e = pm_future_result(c->last, "pmap_coroutine_send", result, result_bytes);
    if (!e) c->step->current = 1 - c->step->current;
    return e;
}

int pmap_coroutine_send(pmap_coroutine *c, const void *in, size_t bytes, double timeout_s, const void **result, size_t *result_bytes)
{
    if (result) *result = NULL;
    if (result_bytes) *result_bytes = 0;
    if (!c) return pm_error(PMAP_EINVAL, "pmap_coroutine_send: coroutine is NULL");
    if (!in && bytes) return pm_error(PMAP_EINVAL, "pmap_coroutine_send: in is NULL, but %zu bytes of input were expected", bytes);
    int e = pm_pool_enter(c->pool, "pmap_coroutine_send");
    if (e) return e;
    e = send(c, in, bytes, timeout_s, result, result_bytes);
    pm_pool_leave(c->pool);
    return e;
}

const void *pmap_coroutine_state(const pmap_coroutine *c)
{
    if (!c || pm_pool_enter(c->pool, "pmap_coroutine_state")) return NULL; /* it lies in the pool's memory */
    const void *state = c->step->state[c->step->current];
    pm_pool_leave(c->pool);
    return state;
}

void pmap_coroutine_close(pmap_coroutine *c)
{
    if (!c) return;
    if (pm_pool_enter(c->pool, "pmap_coroutine_close") == 0) {
        if (c->running) { /* it works on the memory that is to be freed */
            struct pm_tasks *tasks = c->pool->futures->desk->tasks;
            if (!pm_task_cancel(tasks, c->running->entry, c->running->turn))
                (void)pm_futures_wait(c->pool, "pmap_coroutine_close", pm_future_ready, c->running, -1);
            pm_future_drop(c->running);
        }
        if (c->last) pm_future_drop(c->last);
        (void)pm_heap_free(c->pool->ops->heap(c->pool->executor), c->step);
        pm_pool_leave(c->pool);
    }
    pm_pool_release(c->pool);
    free(c);
}

/* Futures: a task is given in, runs in some worker, and is asked for its result.  The tables are workers/tasks.h; here is what the
 * application keeps of each: payloads, callbacks, failures.  wait.c waits for several. */
#include "pmap/future.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/objects.h"
#include "pmap/task.h"
#include "shm/heap.h"

#define MOST_RETRIES 30
#define TICK INT64_C(20000000) /* ns between two looks at the supervisor while a thread waits */

/* ---- The pool's part ---- */

int pm_futures_init(pmap_pool *pool)
{
    pool->futures = calloc(1, sizeof *pool->futures);
    if (!pool->futures) return -ENOMEM;
    pthread_mutex_init(&pool->futures->lock, NULL);
    pthread_mutex_init(&pool->futures->errands, NULL);
    return 0;
}

static pmap_future *at(struct pm_futures *f, uint32_t entry)
{
    pmap_future *block = f->block[entry / PM_FUTURE_BLOCK];
    return block ? &block[entry % PM_FUTURE_BLOCK] : NULL;
}

void pm_futures_close(pmap_pool *pool, bool forked)
{
    struct pm_futures *f = pool->futures;
    if (!f) return;
    for (uint32_t i = 0; f->desk && i < f->desk->high; i++) {
        pmap_future *one = at(f, i);
        if (!one || one->state == PM_UNUSED) continue;
        pm_async_free(one->async, forked);
        free(one->text);
    }
    for (size_t i = 0; i < sizeof f->block / sizeof f->block[0]; i++) free(f->block[i]);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->errands);
    free(f);
    pool->futures = NULL;
}

void pm_futures_cancel(pmap_pool *pool)
{
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; f->desk && i < f->desk->high; i++) {
        pmap_future *one = at(f, i);
        if (!one || one->state != PM_PENDING || pm_task_cancel(f->desk->tasks, i, one->turn)) continue;
        atomic_store(&f->desk->tasks->entry[i].doomed, one->turn); /* it runs: it may see that, and is not run again */
    }
    if (f->desk) pm_event_notify(&f->desk->tasks->done, INT32_MAX);
    pthread_mutex_unlock(&f->lock);
}

static bool nothing_pending(void *arg)
{
    pmap_pool *pool = arg;
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    (void)pm_futures_notice(pool);
    bool none = f->pending == 0;
    pthread_mutex_unlock(&f->lock);
    return none;
}

int pm_futures_drain(pmap_pool *pool, const char *what, double timeout_s)
{
    return pool->futures->desk ? pm_futures_wait(pool, what, nothing_pending, pool, timeout_s) : 0;
}

/* ---- Giving in ---- */

int pm_submit_options(pmap_pool *pool, const char *what, const pmap_submit_options *given, pmap_submit_options *o)
{
    static const pmap_submit_options init = PMAP_SUBMIT_OPTIONS_INIT;
    *o = init;
    if (given) {
        if (given->size < offsetof(pmap_submit_options, timeout_s) || given->size > 4096)
            return pm_error(PMAP_EINVAL, "%s: options->size is %zu; start from PMAP_SUBMIT_OPTIONS_INIT", what, given->size);
        memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    }
    if (!(o->timeout_s >= 0) || isinf(o->timeout_s))
        return pm_error(PMAP_EINVAL, "%s: timeout_s is %g; expected 0 or more seconds", what, o->timeout_s);
    if (o->retries < 0 || o->retries > MOST_RETRIES)
        return pm_error(PMAP_EINVAL, "%s: retries is %d; expected 0 to %d", what, o->retries, MOST_RETRIES);
    if (o->timeout_s > 0 && !pool->ops->timed)
        return pm_error(PMAP_ENOTSUP, "%s: timeout_s needs PMAP_PROCESSES: a thread cannot be ended from outside", what);
    return 0;
}

int pm_futures_open(pmap_pool *pool, const char *what)
{
    int e = 0;
    if (pool->futures->desk) return 0;
    struct pm_desk *desk = pool->ops->desk(pool->executor, &e);
    if (e) return pm_error_system(e, what);
    atomic_store(&pool->futures->desk, desk);
    return 0;
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

/* An entry and its future, under the lock. */
static int take(pmap_pool *pool, const char *what, pmap_future **out)
{
    struct pm_futures *f = pool->futures;
    uint32_t entry, turn;
    int e = pm_desk_take(f->desk, &entry, &turn);
    if (e == -EAGAIN) return pm_error(PMAP_ENOMEM, "%s: %u futures are outstanding; free some first", what, PM_TASKS);
    if (e) return pm_error(PMAP_ENOMEM, "%s: no memory for one more task", what);
    if (!at(f, entry)) f->block[entry / PM_FUTURE_BLOCK] = calloc(PM_FUTURE_BLOCK, sizeof(pmap_future));
    pmap_future *one = at(f, entry);
    if (!one) {
        pm_desk_give(f->desk, entry);
        return pm_error(PMAP_ENOMEM, "%s: no memory for one more future", what);
    }
    *one = (pmap_future){.pool = pool, .entry = entry, .turn = turn, .state = PM_PENDING};
    *out = one;
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
    e = take(pool, what, &one);
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

/* ---- A future whose work is done elsewhere ---- */

#define NOBODY 0xffffffu /* owner of an entry that no worker may take */

int pm_future_reserve(pmap_pool *pool, const char *what, struct pm_async *async, pmap_future **out)
{
    struct pm_futures *f = pool->futures;
    pmap_future *one = NULL;
    int e = pm_futures_open(pool, what);
    if (e) return e;
    pthread_mutex_lock(&f->lock);
    e = take(pool, what, &one);
    if (!e) {
        struct pm_entry *entry = &f->desk->tasks->entry[one->entry];
        entry->errand = 0;
        entry->out = entry->result;
        entry->out_bytes = entry->out_max = 0;
        atomic_store(&entry->word, pm_word(PM_CLAIMED, 0, NOBODY, one->turn));
        one->index = f->submitted++;
        one->async = async;
        f->pending++;
        *out = one;
    }
    pthread_mutex_unlock(&f->lock);
    return e;
}

static void notice(pmap_pool *pool, pmap_future *one);

void pm_future_settle(pmap_future *one, bool done)
{
    pmap_pool *pool = one->pool;
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    atomic_store(&f->desk->tasks->entry[one->entry].word, pm_word(done ? PM_DONE : PM_FAILED, 0, NOBODY, one->turn));
    notice(pool, one);
    if (f->watched) pm_futures_ring(pool);
    pthread_mutex_unlock(&f->lock);
    pm_event_notify(&f->desk->tasks->done, INT32_MAX);
}

int pm_future_failed(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, const pmap_failure *failure, pmap_future **out)
{
    int e = pm_future_reserve(pool, what, NULL, out);
    if (e) return e;
    pmap_future *one = *out;
    one->index = order->index;
    one->watch = order->watch;
    if (one->watch) one->watch->future = one;
    one->failure = *failure;
    one->text = strdup(failure->text);
    one->failure.text = one->text ? one->text : "(no memory for the text)";
    pm_future_settle(one, false);
    return 0;
}

/* ---- Noticing what has finished ---- */

/* Is the pool's handle the caller's to use, and the future one of it? */
static int enter(pmap_future *f, const char *what)
{
    if (!f) return pm_error(PMAP_EINVAL, "%s: future is NULL", what);
    return pm_pool_enter(f->pool, what);
}

bool pm_future_finished(pmap_future *f)
{
    return pm_task_terminal(&f->pool->futures->desk->tasks->entry[f->entry], f->turn);
}

void pm_future_release(pmap_future *one)
{
    pmap_pool *pool = one->pool;
    struct pm_heap *heap = pool->ops->heap(pool->executor);
    (void)pm_heap_free(heap, one->in);
    (void)pm_heap_free(heap, one->out);
    pm_async_free(one->async, false);
    free(one->text);
    one->async = NULL;
    one->text = NULL;
    one->in = one->out = NULL;
    one->state = PM_UNUSED;
    pm_desk_give(pool->futures->desk, one->entry);
}

static void notice(pmap_pool *pool, pmap_future *one)
{
    struct pm_futures *f = pool->futures;
    if (one->state != PM_PENDING) return;
    one->state = PM_NOTICED;
    f->pending--;
    f->seen++;
    if (one->timed) pool->ops->timed(pool->executor, one->timeout_ns, -1);
    if (one->errand) atomic_fetch_sub(&f->desk->tasks->errands, 1);
    for (struct pm_watch *w = one->watch, *next; w; w = next) {
        next = w->next;
        pm_completed_add(w);
    }
    one->watch = NULL;
    if (one->done) {
        one->due = true;
        one->next = NULL;
        if (f->due) f->due_last->next = one;
        else f->due = one;
        f->due_last = one;
        if (f->watched) pm_futures_ring(pool);
    } else if (one->detached) {
        pm_future_release(one);
    }
    if (one->detached) f->detached--;
}

size_t pm_futures_notice(pmap_pool *pool)
{
    struct pm_futures *f = pool->futures;
    uint64_t before = f->seen;
    uint32_t entry;
    while (f->desk && pm_desk_finished(f->desk, &entry)) {
        pmap_future *one = at(f, entry);
        if (one && one->state == PM_PENDING && pm_future_finished(one)) notice(pool, one);
    }
    return (size_t)(f->seen - before);
}

/* ---- Waiting for one ---- */

int pm_futures_wait(pmap_pool *pool, const char *what, bool (*ready)(void *arg), void *arg, double timeout_s)
{
    if (isnan(timeout_s)) return pm_error(PMAP_EINVAL, "%s: timeout_s is not a number", what);
    if (ready(arg)) return 0;
    struct pm_event *done = &pool->futures->desk->tasks->done;
    int64_t begin = pm_now(), limit = timeout_s >= 0 && timeout_s <= 4e9 ? (int64_t)(timeout_s * 1e9) : INT64_MAX;
    for (bool late = limit == 0;;) { /* who only looks must find that the supervisor has died, too */
        uint32_t key = pm_event_key(done); /* before looking: else a wake-up is lost */
        if (ready(arg)) return 0;
        int e = pool->ops->attend(pool->executor, late);
        if (e < 0 && ready(arg)) return 0;
        if (e == -EPIPE) return pm_broken(pool, what);
        if (e < 0) return pm_error(PMAP_ECANCELLED, "%s: the pool was terminated meanwhile", what);
        int64_t left = limit == INT64_MAX ? TICK : limit - (pm_now() - begin);
        if (left <= 0) return ready(arg) ? 0 : pm_error(PMAP_ETIMEDOUT, "%s: not finished within %g s", what, timeout_s);
        if (e == 1 || (pool->spin_ns && pm_event_spin(done, key, pool->spin_ns < left ? pool->spin_ns : left))) continue;
        late = pm_event_wait(done, key, left < TICK ? left : TICK) < 0;
    }
}

/* ---- What a program asks of a future ---- */

static bool one_ready(void *arg) { return pm_future_finished(arg); }

void pm_future_words(const pmap_future *f, char *text)
{
    const struct pm_entry *e = &f->pool->futures->desk->tasks->entry[f->entry];
    memcpy(text, (const char *)e + offsetof(struct pm_entry, small), PM_TEXT);
    text[PM_TEXT - 1] = 0;
}

static void describe(pmap_future *f, const struct pm_entry *e, enum pm_state state)
{
    enum { LINE = 256 };
    struct pm_failure inner = {.item = f->index, .count = 1, .cause = e->cause, .attempts = e->attempts, .value = e->value};
    if (state == PM_CANCELLED) inner = (struct pm_failure){.item = f->index, .count = 1, .cause = PM_CANCEL};
    else pm_future_words(f, inner.text);
    if (!f->text) f->text = malloc(LINE);
    if (f->text) pm_failure_say(f->text, LINE, &inner, f->index, 1);
    f->failure = (pmap_failure){.item = f->index, .count = 1, .cause = (pmap_cause)inner.cause, .value = inner.value,
                                .attempts = inner.attempts, .text = f->text ? f->text : "(no memory for the text)"};
}

/* Of a finished one: 0, or the error that it ended with, of which `what` tells the caller; NULL: nobody asked for that. */
static int outcome(pmap_future *f, const char *what)
{
    struct pm_futures *all = f->pool->futures;
    struct pm_entry *e = &all->desk->tasks->entry[f->entry];
    enum pm_state state = pm_word_state(atomic_load_explicit(&e->word, memory_order_acquire));
    pthread_mutex_lock(&all->lock);
    notice(f->pool, f);
    if (state != PM_DONE && !f->failure.text && !f->async) describe(f, e, state);
    int error = f->async ? pm_async_outcome(f->async, &f->failure, &f->text) : 0;
    pthread_mutex_unlock(&all->lock);
    if (state == PM_DONE || f->async) return error;
    if (!what) return PMAP_EITEMS;
    if (f->failure.cause == PMAP_CAUSE_CANCELLED) return pm_error(PMAP_ECANCELLED, "%s: %s", what, f->failure.text);
    if (f->failure.cause == PMAP_CAUSE_SIZE) return pm_error(PMAP_ETOOBIG, "%s: %s", what, f->failure.text);
    return pm_error(PMAP_EITEMS, "%s: %s", what, f->failure.text);
}

int pm_future_result(pmap_future *f, const char *what, const void **result, size_t *bytes)
{
    int e = outcome(f, what);
    const struct pm_entry *entry = &f->pool->futures->desk->tasks->entry[f->entry];
    if (e) return e;
    if (result) *result = f->out ? f->out : entry->result;
    if (bytes) *bytes = entry->out_bytes < entry->out_max ? entry->out_bytes : entry->out_max;
    return 0;
}

int pmap_future_get(pmap_future *f, double timeout_s, const void **result, size_t *bytes)
{
    if (result) *result = NULL;
    if (bytes) *bytes = 0;
    int e = enter(f, "pmap_future_get");
    if (e) return e;
    e = pm_futures_wait(f->pool, "pmap_future_get", one_ready, f, timeout_s);
    if (!e) e = pm_future_result(f, "pmap_future_get", result, bytes);
    pm_pool_leave(f->pool);
    return e;
}

int pmap_future_done(pmap_future *f)
{
    int e = enter(f, "pmap_future_done");
    if (e) return e;
    if (!pm_future_finished(f)) e = f->pool->ops->attend(f->pool->executor, true); /* who asks again and again never waits */
    pmap_pool *pool = f->pool;
    bool done = pm_future_finished(f);
    if (!done && e == -EPIPE) e = pm_broken(pool, "pmap_future_done");
    else if (!done && e < 0) e = pm_error(PMAP_ECANCELLED, "pmap_future_done: the pool was terminated meanwhile");
    else e = done;
    pm_pool_leave(pool);
    return e;
}

const pmap_failure *pmap_future_failure(pmap_future *f)
{
    if (enter(f, "pmap_future_failure")) return NULL;
    bool failed = pm_future_finished(f) && outcome(f, NULL) != 0;
    pm_pool_leave(f->pool);
    return failed ? &f->failure : NULL;
}

size_t pmap_future_index(const pmap_future *f) { return f ? (size_t)f->index : 0; }
void *pmap_future_arg(const pmap_future *f) { return f ? f->done_arg : NULL; }

static void finish_now(pmap_future *f)
{
    struct pm_futures *all = f->pool->futures;
    pthread_mutex_lock(&all->lock);
    notice(f->pool, f);
    if (all->watched) pm_futures_ring(f->pool);
    pthread_mutex_unlock(&all->lock);
    pm_event_notify(&all->desk->tasks->done, INT32_MAX); /* other threads may wait for it */
}

int pmap_future_cancel(pmap_future *f)
{
    int e = enter(f, "pmap_future_cancel");
    if (e) return e;
    bool cancelled = pm_task_cancel(f->pool->futures->desk->tasks, f->entry, f->turn);
    if (cancelled) finish_now(f);
    pm_pool_leave(f->pool);
    return cancelled;
}

int pmap_future_kill(pmap_future *f)
{
    int e = enter(f, "pmap_future_kill");
    if (e) return e;
    struct pm_tasks *tasks = f->pool->futures->desk->tasks;
    if (pm_task_cancel(tasks, f->entry, f->turn)) {
        finish_now(f);
    } else if (!pm_future_finished(f) && f->async) {
        e = pm_error(PMAP_ENOTSUP, "pmap_future_kill: a whole map cannot be ended from outside, but by pmap_pool_terminate()");
    } else if (!pm_future_finished(f)) {
        /* First the mark: whoever repairs after the kill then knows that it was meant. */
        atomic_store(&tasks->entry[f->entry].doomed, f->turn);
        if (pm_task_cancel(tasks, f->entry, f->turn)) finish_now(f); /* its worker had died just before */
        else e = f->pool->ops->kill(f->pool->executor, f->entry, f->turn);
        if (e) e = pm_error(PMAP_ENOTSUP, "pmap_future_kill: a thread cannot be ended from outside; its task is told that it is cancelled");
    }
    pm_pool_leave(f->pool);
    return e;
}

void pm_future_drop(pmap_future *f)
{
    struct pm_futures *all = f->pool->futures;
    pmap_pool *pool = f->pool;
    pthread_mutex_lock(&all->lock);
    if (f->state == PM_PENDING && pm_future_finished(f)) notice(pool, f);
    if (f->detached || f->state == PM_UNUSED) { /* a callback's, whose handle nobody has */
        pthread_mutex_unlock(&all->lock);
        return;
    }
    f->detached = true; /* its result is of no use to anybody; a callback that is due still gets it */
    for (struct pm_watch *w = f->watch; w; w = w->next) pm_completed_forget(w);
    f->watch = NULL;
    if (f->state == PM_PENDING) all->detached++;
    else if (!f->due) pm_future_release(f);
    pthread_mutex_unlock(&all->lock);
}

void pmap_future_free(pmap_future *f)
{
    if (!f || enter(f, "pmap_future_free")) return;
    pmap_pool *pool = f->pool;
    pm_future_drop(f);
    pm_pool_leave(pool);
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
    if (!e) e = pm_futures_wait(pool, "pmap_apply", one_ready, f, -1);
    if (!e) e = pm_future_result(f, "pmap_apply", &from, &n);
    if (!e && n > room) e = result ? pm_error(PMAP_ETOOBIG, "pmap_apply: its result has %zu bytes, and there is room for %zu", n, room) : 0;
    if (!e && room) memcpy(result, from, n);
    if (!e && result_bytes) *result_bytes = n;
    if (f) pm_future_drop(f);
    pm_pool_leave(pool); /* from here on a thread that closes the pool may free it */
    return e;
}

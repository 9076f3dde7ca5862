/* The futures of a pool, all together: the table of what the application keeps of each, noticing what has finished, and waiting for it.  The
 * other side of it is workers/tasks.h.  Used by all that give in work or ask for it; knows no function and no payload. */
#include "pmap/future.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shm/heap.h"

#define TICK INT64_C(20000000) /* ns between two looks at the supervisor while a thread waits */

/* ---- The table ---- */

int pm_futures_init(pmap_pool *pool)
{
    pool->futures = calloc(1, sizeof *pool->futures);
    if (!pool->futures) return -ENOMEM;
    pthread_mutex_init(&pool->futures->lock, NULL);
    pthread_mutex_init(&pool->futures->errands, NULL);
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

static pmap_future *at(struct pm_futures *f, uint32_t entry)
{
    pmap_future *block = f->block[entry / PM_FUTURE_BLOCK];
    return block ? &block[entry % PM_FUTURE_BLOCK] : NULL;
}

int pm_future_take(pmap_pool *pool, const char *what, pmap_future **out)
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

/* ---- Noticing what has finished ---- */

void pm_future_notice(pmap_pool *pool, pmap_future *one)
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
        if (one && one->state == PM_PENDING && pm_future_finished(one)) pm_future_notice(pool, one);
    }
    return (size_t)(f->seen - before);
}

/* ---- Waiting ---- */

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

/* ---- Taking all back ---- */

void pm_futures_cancel(pmap_pool *pool)
{
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    /* First all that has not begun: what runs and is told that it may end would make room for the next. */
    for (int told = 0; told < 2; told++)
        for (uint32_t i = 0; f->desk && i < f->desk->high; i++) {
            pmap_future *one = at(f, i);
            if (!one || one->state != PM_PENDING || pm_task_cancel(f->desk->tasks, i, one->turn) || !told) continue;
            atomic_store(&f->desk->tasks->entry[i].doomed, one->turn); /* it runs: it may see that, and is not run again */
        }
    if (f->desk) pm_event_notify(&f->desk->tasks->done, INT32_MAX);
    pthread_mutex_unlock(&f->lock);
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
    e = pm_future_take(pool, what, &one);
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

void pm_future_settle(pmap_future *one, bool done)
{
    pmap_pool *pool = one->pool;
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    atomic_store(&f->desk->tasks->entry[one->entry].word, pm_word(done ? PM_DONE : PM_FAILED, 0, NOBODY, one->turn));
    pm_future_notice(pool, one);
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

/* What a program does with one future: asks whether and how it has finished, takes it back, kills it while it runs, gives it back.  Giving in is
 * submit.c's, all futures of a pool together are futures.c's. */
#include "pmap/future.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Asking ---- */

static int enter(pmap_future *f, const char *what)
{
    if (!f) return pm_error(PMAP_EINVAL, "%s: future is NULL", what);
    return pm_pool_enter(f->pool, what);
}

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
    pm_future_notice(f->pool, f);
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
    e = pm_futures_wait(f->pool, "pmap_future_get", pm_future_ready, f, timeout_s);
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

/* ---- Ending ---- */

static void finish_now(pmap_future *f)
{
    struct pm_futures *all = f->pool->futures;
    pthread_mutex_lock(&all->lock);
    pm_future_notice(f->pool, f);
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
    if (f->state == PM_PENDING && pm_future_finished(f)) pm_future_notice(pool, f);
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

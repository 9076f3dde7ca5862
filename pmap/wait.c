/* Waiting for several futures, in the order in which they finish, and the callbacks and the descriptor of a program that has an event loop
 * of its own.  Nothing here runs in a thread that the program did not send here. */
#include "pmap/future.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- In the order in which they finish ---- */

void pm_completed_add(struct pm_watch *w)
{
    struct pmap_completed *c = w->completed;
    w->done = NULL;
    if (c->ready) c->ready_last->done = w;
    else c->ready = w;
    c->ready_last = w;
}

void pm_completed_forget(struct pm_watch *w) { w->completed->left--; }

static int check_list(const char *what, pmap_future *const *list, size_t n)
{
    if (!list && n) return pm_error(PMAP_EINVAL, "%s: list is NULL, but %zu futures were expected", what, n);
    for (size_t i = 0; i < n; i++) {
        if (!list[i]) return pm_error(PMAP_EINVAL, "%s: future %zu of %zu is NULL", what, i, n);
        if (list[i]->pool != list[0]->pool)
            return pm_error(PMAP_EINVAL, "%s: future %zu of %zu is another pool's than the first", what, i, n);
    }
    return 0;
}

/* One watch a future, however often it is in the list. */
static int watch(struct pmap_completed *c, const char *what, pmap_future *const *list, size_t n)
{
    struct pm_futures *f = c->pool->futures;
    c->watch = calloc(n, sizeof *c->watch);
    if (!c->watch) return pm_error(PMAP_ENOMEM, "%s: no memory to watch %zu futures", what, n);
    pthread_mutex_lock(&f->lock);
    (void)pm_futures_notice(c->pool);
    uint64_t stamp = ++f->stamp;
    for (size_t i = 0; i < n; i++) {
        if (list[i]->stamp == stamp) continue;
        list[i]->stamp = stamp;
        struct pm_watch *w = &c->watch[c->left++];
        *w = (struct pm_watch){.completed = c, .future = list[i]};
        if (list[i]->state == PM_NOTICED) {
            pm_completed_add(w);
        } else {
            w->next = list[i]->watch;
            list[i]->watch = w;
        }
    }
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static void unwatch(struct pmap_completed *c, size_t n)
{
    struct pm_futures *f = c->pool->futures;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < n; i++) {
        pmap_future *one = c->watch[i].future;
        if (!one || c->watch[i].completed != c || one->state != PM_PENDING) continue;
        for (struct pm_watch **at = &one->watch; *at; at = &(*at)->next)
            if (*at == &c->watch[i]) {
                *at = c->watch[i].next;
                break;
            }
    }
    pthread_mutex_unlock(&f->lock);
    free(c->watch);
}

static bool some_ready(void *arg)
{
    struct pmap_completed *c = arg;
    pthread_mutex_lock(&c->pool->futures->lock);
    if (!c->ready) (void)pm_futures_notice(c->pool);
    bool ready = c->ready || c->left == 0;
    pthread_mutex_unlock(&c->pool->futures->lock);
    return ready;
}

/* The next one that has finished, or NULL at the end. */
static int next(struct pmap_completed *c, const char *what, double timeout_s, pmap_future **future)
{
    struct pm_futures *f = c->pool->futures;
    *future = NULL;
    int e = c->left ? pm_futures_wait(c->pool, what, some_ready, c, timeout_s) : 0;
    if (e) return e;
    pthread_mutex_lock(&f->lock);
    struct pm_watch *w = c->ready;
    if (w) {
        c->ready = w->done;
        c->left--;
        *future = w->future;
    }
    pthread_mutex_unlock(&f->lock);
    return 0;
}

int pmap_as_completed(pmap_future *const *list, size_t n, pmap_completed **out)
{
    if (!out) return pm_error(PMAP_EINVAL, "pmap_as_completed: completed is NULL");
    *out = NULL;
    int e = check_list("pmap_as_completed", list, n);
    if (e) return e;
    pmap_completed *c = calloc(1, sizeof *c);
    if (!c) return pm_error(PMAP_ENOMEM, "pmap_as_completed: not enough memory");
    if (n) {
        e = pm_pool_enter(list[0]->pool, "pmap_as_completed");
        if (!e) {
            c->pool = list[0]->pool;
            c->n = n;
            e = watch(c, "pmap_as_completed", list, n);
            if (!e) pm_pool_hold(c->pool);
            pm_pool_leave(c->pool);
        }
    }
    if (e) free(c);
    else *out = c;
    return e;
}

int pmap_completed_next(pmap_completed *c, double timeout_s, pmap_future **future)
{
    if (!c || !future) return pm_error(PMAP_EINVAL, "pmap_completed_next: %s is NULL", c ? "future" : "completed");
    *future = NULL;
    if (!c->n) return 0;
    int e = pm_pool_enter(c->pool, "pmap_completed_next");
    if (e) return e;
    e = next(c, "pmap_completed_next", timeout_s, future);
    pm_pool_leave(c->pool);
    return e;
}

void pmap_completed_free(pmap_completed *c)
{
    if (!c) return;
    if (c->n && pm_pool_enter(c->pool, "pmap_completed_free") == 0) {
        unwatch(c, c->n);
        pm_pool_leave(c->pool);
    } else {
        free(c->watch); /* the pool has ended, and its futures with it */
    }
    if (c->n) pm_pool_release(c->pool);
    free(c);
}

/* ---- Any, all, the first error ---- */

static bool failed(pmap_future *f)
{
    return pm_word_state(atomic_load(&f->pool->futures->desk->tasks->entry[f->entry].word)) != PM_DONE;
}

int pmap_wait(pmap_future *const *list, size_t n, pmap_when when, double timeout_s)
{
    int e = check_list("pmap_wait", list, n);
    if ((int)when < PMAP_ANY || when > PMAP_FIRST_ERROR)
        return pm_error(PMAP_EINVAL, "pmap_wait: when is %d; expected PMAP_ANY, PMAP_ALL or PMAP_FIRST_ERROR", (int)when);
    if (e || n == 0) return e;
    struct pmap_completed c = {.pool = list[0]->pool, .n = n};
    e = pm_pool_enter(c.pool, "pmap_wait");
    if (e) return e;
    e = watch(&c, "pmap_wait", list, n);
    if (!e) {
        int64_t begin = pm_now();
        for (pmap_future *one = NULL; c.left;) {
            double left = timeout_s < 0 ? -1 : timeout_s - (double)(pm_now() - begin) * 1e-9;
            e = next(&c, "pmap_wait", timeout_s >= 0 && left < 0 ? 0 : left, &one);
            if (e || !one || when == PMAP_ANY || (when == PMAP_FIRST_ERROR && failed(one))) break;
        }
        unwatch(&c, n);
    }
    pm_pool_leave(c.pool);
    return e;
}

/* ---- Callbacks and the descriptor ---- */

void pm_futures_ring(pmap_pool *pool)
{
    uint64_t one = 1;
    if (write(pool->futures->desk->bell, &one, sizeof one) < 0) { /* its counter is full: readable all the same */
    }
}

int pmap_pool_fd(pmap_pool *pool)
{
    int e = pm_pool_enter(pool, "pmap_pool_fd");
    if (e) return e;
    e = pm_futures_open(pool, "pmap_pool_fd");
    if (!e) {
        struct pm_futures *f = pool->futures;
        pthread_mutex_lock(&f->lock);
        if (!f->watched) {
            f->watched = true;
            atomic_store(&f->desk->tasks->bell, 1);
            bool ready = pm_futures_notice(pool) || f->due;
            if (ready || (f->pending && pool->ops == &pm_serial)) pm_futures_ring(pool); /* on a serial pool who polls runs what is pending */
        }
        e = pool->ops->watch ? pool->ops->watch(pool->executor) : f->desk->bell;
        pthread_mutex_unlock(&f->lock);
        if (e == -EPIPE) e = pm_broken(pool, "pmap_pool_fd");
        else if (e < 0) e = pm_error_system(e, "pmap_pool_fd");
    }
    pm_pool_leave(pool);
    return e;
}

static bool some_due(void *arg)
{
    pmap_pool *pool = arg;
    struct pm_futures *f = pool->futures;
    pthread_mutex_lock(&f->lock);
    (void)pm_futures_notice(pool);
    bool due = f->due || f->pending == 0;
    pthread_mutex_unlock(&f->lock);
    return due;
}

void pm_futures_arm(pmap_pool *pool)
{
    struct pm_futures *f = pool->futures;
    uint64_t count;
    if (!f->watched) return;
    /* Also when nobody seems to have rung: who rings takes the wish first and writes then, so a ring may come late, behind the last call
     * of this.  Left in, it would keep the program's loop busy until something else finishes. */
    if (read(f->desk->bell, &count, sizeof count) < 0) { /* it was not readable */
    }
    atomic_store(&f->desk->tasks->bell, 1);
}

static int run_due(pmap_pool *pool, int *error)
{
    struct pm_futures *f = pool->futures;
    int n = 0, fd = 0;
    pthread_mutex_lock(&f->lock);
    pm_futures_arm(pool);
    bool watched = f->watched;
    if (watched && pool->ops->watch) fd = pool->ops->watch(pool->executor); /* it may be readable for want of a supervisor */
    if (fd < 0 && (f->pending || (fd != -EPIPE && fd != -ECANCELED))) *error = fd;
    f->watched = false; /* what is noticed here needs no ringing */
    (void)pm_futures_notice(pool);
    f->watched = watched;
    pmap_future *list = f->due; /* not what falls due meanwhile: callbacks that give in more would keep this call for ever */
    f->due = NULL;
    for (pmap_future *one; (one = list) != NULL; n++) {
        list = one->next;
        one->due = false;
        pmap_done_fn *done = one->done;
        void *arg = one->done_arg;
        bool detached = one->detached;
        pthread_mutex_unlock(&f->lock);
        done(one, arg); /* may give in more, and may free this one */
        pthread_mutex_lock(&f->lock);
        if (detached) pm_future_release(one);
    }
    if (watched && f->pending && pool->ops == &pm_serial) pm_futures_ring(pool);
    pthread_mutex_unlock(&f->lock);
    return n;
}

int pmap_pool_poll(pmap_pool *pool, double timeout_s)
{
    int e = pm_pool_enter(pool, "pmap_pool_poll"), n = 0;
    if (e) return e;
    e = pm_futures_open(pool, "pmap_pool_poll");
    if (!e) {
        int error = 0;
        e = pm_futures_wait(pool, "pmap_pool_poll", some_due, pool, timeout_s);
        if (e == PMAP_ETIMEDOUT) e = 0;
        n = run_due(pool, &error);
        if (!e && error == -EPIPE) e = pm_broken(pool, "pmap_pool_poll");
        else if (!e && error) e = pm_error_system(error, "pmap_pool_poll: starting another supervisor");
    }
    pm_pool_leave(pool);
    return e ? e : n;
}

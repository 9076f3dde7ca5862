/* Streams: a source is pulled, its inputs are worked on, results come out in order or as they finish.  What is under way is bounded in items
 * and in bytes, so neither an endless source nor a slow head makes memory grow.  Made of futures; the source and everything here run in
 * the thread that asks for the next result. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pmap/imap.h"
#include "pmap/options.h"
#include "pmap/task.h"

#define WINDOW_A_WORKER 256u
#define WINDOW_BYTES ((size_t)64 << 20)
#define MOST_WINDOW (PM_TASKS / 2)
#define BRISK_NS 5000        /* an item: below that a wake-up costs more than the item */
#define LONGEST_NAP 200000   /* ns */
#define PM_NO_INPUT 1        /* it gave NULL with a size: no error number of a source is positive */

struct item {
    struct pm_watch watch;   /* unordered: how its end is heard of */
    pmap_future *future;
    size_t bytes;
};

struct pmap_stream {
    pmap_pool *pool;
    const char *what;        /* the call that hands out, for errors */
    struct pm_order_of_work order;
    pm_feed_fn *feed;
    void *feed_arg;
    pmap_source_fn *source;  /* of a stream that the program has opened */
    void *source_arg;
    bool ordered, stop;
    size_t window, window_bytes;
    struct item *item;
    uint32_t *spare;         /* unordered: free places of item[] */
    size_t head, count, bytes; /* ordered: item[head...]; under way */
    struct pmap_completed completed;
    bool ended;              /* the source has */
    int error;               /* that it ended with, or PM_NO_INPUT; told once */
    struct pm_feed next;     /* pulled, and there was no room yet */
    bool has_next;
    uint64_t pulled, handed;
    int64_t begun;
    pmap_future *shown;      /* whose result the caller looks at */
    uint64_t index;
};

/* ---- Open ---- */

static int check(pmap_pool *pool, const char *what, const pmap_stream_options *given, pmap_stream_options *o, struct pm_order_of_work *order)
{
    static const pmap_stream_options init = PMAP_STREAM_OPTIONS_INIT;
    pmap_submit_options s = PMAP_SUBMIT_OPTIONS_INIT;
    *o = init;
    int e = pm_options(o, sizeof *o, offsetof(pmap_stream_options, timeout_s), given, what, "PMAP_STREAM_OPTIONS_INIT");
    if (e) return e;
    if (o->window > MOST_WINDOW) return pm_error(PMAP_EINVAL, "%s: window is %zu; at most %u items", what, o->window, MOST_WINDOW);
    if ((int)o->on_error < 0 || (int)o->on_error > PMAP_ON_ERROR_STOP)
        return pm_error(PMAP_EINVAL, "%s: on_error is %d; expected PMAP_ON_ERROR_COLLECT or PMAP_ON_ERROR_STOP", what, (int)o->on_error);
    s.arg = o->arg;
    s.result_max = o->result_max;
    s.timeout_s = o->timeout_s;
    s.retries = o->retries;
    s.once = o->once;
    s.seed = o->seed;
    return pm_submit_options(pool, what, &s, &order->options);
}

static int make(pmap_pool *pool, const char *what, const struct pm_order_of_work *order, const pmap_stream_options *o, bool ordered,
                pmap_stream **out)
{
    pmap_stream *s = calloc(1, sizeof *s);
    size_t window = o->window ? o->window : (size_t)WINDOW_A_WORKER * pmap_pool_workers(pool);
    if (window > MOST_WINDOW) window = MOST_WINDOW;
    if (s) {
        s->item = calloc(window, sizeof *s->item);
        if (!ordered) s->spare = calloc(window, sizeof *s->spare);
    }
    if (!s || !s->item || (!ordered && !s->spare)) {
        if (s) free(s->item);
        free(s);
        return pm_error(PMAP_ENOMEM, "%s: no memory for a window of %zu items", what, window);
    }
    s->pool = s->completed.pool = pool;
    pm_pool_hold(pool);
    s->order = *order;
    s->ordered = ordered;
    s->stop = o->on_error == PMAP_ON_ERROR_STOP;
    s->window = window;
    s->window_bytes = o->window_bytes ? o->window_bytes : WINDOW_BYTES;
    for (size_t i = 0; !ordered && i < window; i++) s->spare[i] = (uint32_t)i;
    s->begun = pm_now();
    *out = s;
    return 0;
}

/* The program's source as a feed. */
static int feed_source(void *arg, struct pm_feed *feed)
{
    pmap_stream *s = arg;
    int r = s->source(s->source_arg, &feed->in, &feed->bytes);
    feed->index = s->pulled;
    return r > 0 ? 1 : r;
}

int pm_stream_open(pmap_pool *pool, const char *what, const char *next, pmap_work_fn *function, pm_feed_fn *feed, void *feed_arg,
                   const pmap_stream_options *options, bool ordered, pmap_stream **out)
{
    pmap_stream_options o;
    struct pm_order_of_work order = {.run = pm_call_work, .function = (void (*)(void))function};
    int e = pm_pool_enter(pool, what);
    if (e) return e;
    if (!function) e = pm_error(PMAP_EINVAL, "%s: function is NULL", what);
    if (!e) e = check(pool, what, options, &o, &order);
    if (!e) e = pm_submit_check(pool, what, &order);
    if (!e) e = make(pool, what, &order, &o, ordered, out);
    if (!e) {
        (*out)->what = next;
        (*out)->feed = feed;
        (*out)->feed_arg = feed_arg;
    }
    pm_pool_leave(pool);
    return e;
}

static int open_on_source(pmap_pool *pool, const char *what, pmap_work_fn *function, pmap_source_fn *source, void *source_arg,
                          const pmap_stream_options *options, bool ordered, pmap_stream **out)
{
    if (!out) return pm_error(PMAP_EINVAL, "%s: stream is NULL", what);
    *out = NULL;
    if (!source) return pm_error(PMAP_EINVAL, "%s: source is NULL", what);
    int e = pm_stream_open(pool, what, "pmap_stream_next", function, feed_source, NULL, options, ordered, out);
    if (e) return e;
    (*out)->feed_arg = *out;
    (*out)->source = source;
    (*out)->source_arg = source_arg;
    return 0;
}

int pmap_imap(pmap_pool *pool, pmap_work_fn *function, pmap_source_fn *source, void *source_arg, const pmap_stream_options *options,
              pmap_stream **stream)
{
    return open_on_source(pool, "pmap_imap", function, source, source_arg, options, true, stream);
}

int pmap_imap_unordered(pmap_pool *pool, pmap_work_fn *function, pmap_source_fn *source, void *source_arg, const pmap_stream_options *options,
                        pmap_stream **stream)
{
    return open_on_source(pool, "pmap_imap_unordered", function, source, source_arg, options, false, stream);
}

/* ---- Pulling the source ---- */

static struct item *place(pmap_stream *s)
{
    return &s->item[s->ordered ? (s->head + s->count) % s->window : s->spare[s->window - s->count - 1]];
}

static int give_in(pmap_stream *s)
{
    struct item *item = place(s);
    s->order.in = s->next.in;
    s->order.bytes = s->next.bytes;
    s->order.index = s->next.index;
    if (!s->ordered) {
        item->watch = (struct pm_watch){.completed = &s->completed};
        s->order.watch = &item->watch;
    }
    int e = s->next.failure ? pm_future_failed(s->pool, s->what, &s->order, s->next.failure, &item->future)
                            : pm_submit(s->pool, s->what, &s->order, &item->future);
    if (e) return e;
    item->bytes = s->next.bytes + s->order.options.result_max;
    s->bytes += item->bytes;
    s->count++;
    s->pulled++;
    s->has_next = false;
    return 0;
}

/* Want of memory while something is under way is one more bound. */
int pm_stream_pull(pmap_stream *s)
{
    while (s->count < s->window && (s->has_next || !s->ended)) {
        if (!s->has_next) {
            s->next = (struct pm_feed){0};
            int r = s->feed(s->feed_arg, &s->next);
            if (r == PM_LATER) break;
            s->error = r < 0 ? r : r > 0 && !s->next.in && s->next.bytes ? PM_NO_INPUT : 0;
            s->ended = r <= 0 || s->error;
            s->has_next = !s->ended;
            if (s->ended) break;
        }
        if (s->count && s->bytes + s->next.bytes + s->order.options.result_max > s->window_bytes) break;
        int e = give_in(s);
        if (e == PMAP_ENOMEM && s->count) break;
        if (e) return e;
    }
    return 0;
}

/* ---- Handing out ---- */

static bool ready(void *arg)
{
    pmap_stream *s = arg;
    if (s->ordered) return pm_future_finished(s->item[s->head].future);
    pthread_mutex_lock(&s->pool->futures->lock);
    if (!s->completed.ready) (void)pm_futures_notice(s->pool);
    bool some = s->completed.ready != NULL;
    pthread_mutex_unlock(&s->pool->futures->lock);
    return some;
}

/* Short items: the thread sleeps until about half of its window is done instead of being woken for each. */
static void nap(pmap_stream *s)
{
    if (s->pool->spin_ns || s->handed < s->window || s->count < s->window / 2 || s->pool->ops == &pm_serial || ready(s)) return;
    int64_t each = (pm_now() - s->begun) / (int64_t)s->handed, ns = each * (int64_t)(s->count / 2);
    if (each > BRISK_NS) return;
    struct timespec t = {.tv_nsec = ns < LONGEST_NAP ? ns : LONGEST_NAP};
    (void)nanosleep(&t, NULL); /* a signal ends it early, which does no harm */
}

static struct item *take(pmap_stream *s)
{
    struct item *item;
    if (s->ordered) {
        item = &s->item[s->head];
        s->head = (s->head + 1) % s->window;
    } else {
        pthread_mutex_lock(&s->pool->futures->lock);
        struct pm_watch *w = s->completed.ready;
        s->completed.ready = w->done;
        pthread_mutex_unlock(&s->pool->futures->lock);
        item = (struct item *)(void *)((char *)w - offsetof(struct item, watch));
        s->spare[s->window - s->count] = (uint32_t)(item - s->item);
    }
    s->count--;
    s->bytes -= item->bytes;
    return item;
}

/* What has not begun never will; what runs stays in item[] until the stream is closed. */
static void drop_all(pmap_stream *s)
{
    /* First all that has not begun: what runs and is told that it may end would make room for the next. */
    for (int told = 0; told < 2; told++)
        for (size_t i = 0; i < s->window; i++) {
            pmap_future *f = s->item[i].future;
            if (!f) continue;
            struct pm_tasks *tasks = s->pool->futures->desk->tasks;
            if (pm_task_cancel(tasks, f->entry, f->turn)) {
                pm_future_drop(f);
                s->item[i].future = NULL;
            } else if (told) { /* it runs, or has: it may see that it is not wanted, and is not run again */
                atomic_store(&tasks->entry[f->entry].doomed, f->turn);
            }
        }
    s->completed.ready = NULL;
    s->count = s->bytes = 0;
    s->ended = true;
    s->error = 0; /* of a source that is not wanted any more */
    s->has_next = false;
}

int pm_stream_take(pmap_stream *s, const void **result, size_t *bytes)
{
    if (s->shown) pm_future_drop(s->shown);
    s->shown = NULL;
    int e = pm_stream_pull(s);
    if (e) return e;
    if (s->count == 0) {
        if (!s->ended || s->has_next) return PM_LATER;
        int error = s->error;
        s->error = 0;
        if (error == PM_NO_INPUT)
            return pm_error(PMAP_EINVAL, "%s: the source gave NULL with %zu bytes as item %llu", s->what, s->next.bytes,
                            (unsigned long long)s->pulled);
        if (error) return pm_error(PMAP_ESOURCE, "%s: the source ended with %d at item %llu", s->what, error, (unsigned long long)s->pulled);
        return 0;
    }
    if (!ready(s)) return PM_LATER;
    struct item *item = take(s);
    s->shown = item->future;
    s->index = s->shown->index;
    item->future = NULL;
    s->handed++;
    e = pm_future_result(s->shown, s->what, result, bytes);
    if (e && s->stop) drop_all(s);
    return e ? e : 1;
}

static int next(pmap_stream *s, double timeout_s, const void **result, size_t *bytes)
{
    int e = pm_stream_take(s, result, bytes);
    if (e != PM_LATER) return e;
    if (timeout_s < 0 || timeout_s > 0.01) nap(s);
    e = pm_futures_wait(s->pool, s->what, ready, s, timeout_s);
    return e ? e : pm_stream_take(s, result, bytes);
}

int pmap_stream_next(pmap_stream *s, double timeout_s, const void **result, size_t *bytes)
{
    if (result) *result = NULL;
    if (bytes) *bytes = 0;
    if (!s) return pm_error(PMAP_EINVAL, "pmap_stream_next: stream is NULL");
    int e = pm_pool_enter(s->pool, "pmap_stream_next");
    if (e) return e;
    e = next(s, timeout_s, result, bytes);
    pm_pool_leave(s->pool);
    return e;
}

size_t pmap_stream_index(const pmap_stream *s) { return s ? (size_t)s->index : 0; }

const pmap_failure *pmap_stream_failure(const pmap_stream *s)
{
    if (!s || !s->shown || pm_pool_enter(s->pool, "pmap_stream_failure")) return NULL; /* futures end with their pool */
    const pmap_failure *failure = pmap_future_failure(s->shown);
    pm_pool_leave(s->pool);
    return failure;
}

static bool none_runs(void *arg)
{
    const pmap_stream *s = arg;
    for (size_t i = 0; i < s->window; i++)
        if (s->item[i].future && !pm_future_finished(s->item[i].future)) return false;
    return true;
}

void pmap_stream_close(pmap_stream *s)
{
    if (!s) return;
    if (pm_pool_enter(s->pool, "pmap_stream_close") == 0) {
        if (s->shown) pm_future_drop(s->shown);
        drop_all(s);
        if (!none_runs(s)) (void)pm_futures_wait(s->pool, "pmap_stream_close", none_runs, s, -1);
        for (size_t i = 0; i < s->window; i++)
            if (s->item[i].future) pm_future_drop(s->item[i].future);
        pm_pool_leave(s->pool);
    }
    pm_pool_release(s->pool);
    free(s->item);
    free(s->spare);
    free(s);
}

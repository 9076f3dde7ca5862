/* Pipelines: a chain of streams, each with a pool of its own, whose source is the stream before it.  All passing on is done by the thread that
 * asks for results; it sleeps on the pools' descriptors together. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/imap.h"
#include "pmap/options.h"

#define ITEMS_A_WORKER 4u
#define MOST_QUEUE (PM_TASKS / 2)
#define TICK_MS 20 /* between two looks at the supervisors */

struct stage {
    struct pmap_pipeline *pipeline;
    pmap_pool *pool;
    pmap_stream *stream;
    int fd;
};

struct pmap_pipeline {
    pmap_source_fn *source;
    void *source_arg;
    uint64_t pulled;
    int source_error;
    int trouble;             /* that a stage was in when it was asked for more; not told yet */
    char why[256];           /* in words */
    size_t count;
    struct pollfd *poll;
    struct stage stage[];
};

/* ---- Between the stages ---- */

/* Noted with its words: a result that is there is handed out first, and may be a failure with words of its own. */
static void in_trouble(struct pmap_pipeline *p, int error)
{
    p->trouble = error;
    snprintf(p->why, sizeof p->why, "%s", pmap_error());
}

static int feed_first(void *arg, struct pm_feed *feed)
{
    struct stage *stage = arg;
    struct pmap_pipeline *p = stage->pipeline;
    int r = p->source(p->source_arg, &feed->in, &feed->bytes);
    if (r > 0) feed->index = p->pulled++;
    else p->source_error = r;
    return r > 0 ? 1 : r;
}

/* What the stage before has ready.  An item's failure is an item, and the source's error comes behind all items.  Anything else is told at once,
 * and asking again is allowed: want of memory may pass. */
static int feed_from_before(void *arg, struct pm_feed *feed)
{
    struct stage *stage = arg;
    pmap_stream *before = stage[-1].stream;
    int r = pm_stream_take(before, &feed->in, &feed->bytes);
    feed->index = pmap_stream_index(before);
    if (r >= 0) return r;
    feed->failure = pmap_stream_failure(before);
    if (feed->failure) return 1;
    if (r == PMAP_ESOURCE) return stage->pipeline->source_error;
    in_trouble(stage->pipeline, r);
    return PM_LATER;
}

/* ---- Open and close ---- */

void pmap_pipeline_close(pmap_pipeline *p)
{
    if (!p) return;
    for (size_t i = p->count; i > 0; i--) {
        struct stage *s = &p->stage[i - 1];
        if (s->pool) (void)pmap_pool_terminate(s->pool, 0); /* first: else the stream would wait for what runs */
        pmap_stream_close(s->stream);
    }
    free(p->poll);
    free(p);
}

static int open_stage(struct stage *s, size_t i, const pmap_stage *want, const pmap_pipeline_options *o, bool last)
{
    char what[64], why[400];
    pmap_options pool = PMAP_OPTIONS_INIT;
    pmap_stream_options stream = PMAP_STREAM_OPTIONS_INIT;
    if (o->pool) {
        if (o->pool->size < offsetof(pmap_options, executor) || o->pool->size > 4096)
            return pm_error(PMAP_EINVAL, "pmap_pipeline_open: options->pool->size is %zu; start from PMAP_OPTIONS_INIT", o->pool->size);
        memcpy(&pool, o->pool, o->pool->size < sizeof pool ? o->pool->size : sizeof pool);
    }
    snprintf(what, sizeof what, "pmap_pipeline_open: stage %zu", i);
    if (want->retries < -1) return pm_error(PMAP_EINVAL, "%s: retries is %d; expected -1 or more", what, want->retries);
    if (want->queue > MOST_QUEUE) return pm_error(PMAP_EINVAL, "%s: queue is %zu; at most %u items", what, want->queue, MOST_QUEUE);
    pool.workers = want->workers;
    pool.executor = want->executor;
    int e = pmap_pool_open(&s->pool, &pool);
    if (e) {
        snprintf(why, sizeof why, "%s", pmap_error());
        return pm_error(e, "%s: %s", what, why);
    }
    stream.arg = want->arg;
    stream.result_max = want->result_max;
    stream.timeout_s = want->timeout_s;
    stream.retries = want->retries == 0 ? 2 : want->retries < 0 ? 0 : want->retries;
    stream.once = want->once;
    stream.window = want->queue ? want->queue : ITEMS_A_WORKER * (size_t)pmap_pool_workers(s->pool);
    stream.window_bytes = o->window_bytes;
    stream.on_error = last ? o->on_error : PMAP_ON_ERROR_COLLECT;
    e = pm_stream_open(s->pool, what, "pmap_pipeline_next", want->function, i == 0 ? feed_first : feed_from_before, s, &stream, !o->unordered,
                       &s->stream);
    if (e) return e;
    s->fd = pmap_pool_fd(s->pool);
    return s->fd < 0 ? s->fd : 0;
}

int pmap_pipeline_open(const pmap_stage *stages, size_t count, pmap_source_fn *source, void *source_arg, const pmap_pipeline_options *options,
                       pmap_pipeline **out)
{
    pmap_pipeline_options o = PMAP_PIPELINE_OPTIONS_INIT;
    if (!out) return pm_error(PMAP_EINVAL, "pmap_pipeline_open: pipeline is NULL");
    *out = NULL;
    if (!stages || !count || count > 4096) return pm_error(PMAP_EINVAL, "pmap_pipeline_open: %zu stages; expected 1 to 4096", stages ? count : 0);
    if (!source) return pm_error(PMAP_EINVAL, "pmap_pipeline_open: source is NULL");
    int e = pm_options(&o, sizeof o, offsetof(pmap_pipeline_options, window_bytes), options, "pmap_pipeline_open",
                       "PMAP_PIPELINE_OPTIONS_INIT");
    if (e) return e;
    pmap_pipeline *p = calloc(1, sizeof *p + count * sizeof p->stage[0]);
    if (p) p->poll = calloc(count, sizeof *p->poll);
    if (!p || !p->poll) {
        free(p);
        return pm_error(PMAP_ENOMEM, "pmap_pipeline_open: not enough memory");
    }
    p->source = source;
    p->source_arg = source_arg;
    p->count = count;
    for (size_t i = 0; i < count; i++) p->stage[i].pipeline = p;
    for (size_t i = 0; !e && i < count; i++) {
        e = open_stage(&p->stage[i], i, &stages[i], &o, i + 1 == count);
        p->poll[i] = (struct pollfd){.fd = p->stage[i].fd, .events = POLLIN};
    }
    if (!e) {
        *out = p;
        return 0;
    }
    char why[400]; /* closing what is open has words of its own */
    snprintf(why, sizeof why, "%s", pmap_error());
    pmap_pipeline_close(p);
    return pm_error(e, "%s", why);
}

/* ---- Next ---- */

/* A serial stage works here and now: 1.  Else 0, or why there will be no more. */
static int attend(struct pmap_pipeline *p, bool late)
{
    int worked = 0;
    for (size_t i = 0; i < p->count; i++) {
        pmap_pool *pool = p->stage[i].pool;
        /* Readable, and nothing has finished: that is how a supervisor's death shows, and it stays so until there is another. */
        if (p->poll[i].revents && pool->ops->watch) (void)pool->ops->watch(pool->executor);
        p->poll[i].revents = 0;
        int e = pool->ops->attend(pool->executor, late);
        if (e == -EPIPE) {
            char what[60];
            (void)snprintf(what, sizeof what, "pmap_pipeline_next: stage %zu", i);
            return pm_broken(pool, what);
        }
        if (e < 0) return pm_error(PMAP_ECANCELLED, "pmap_pipeline_next: the pool of stage %zu was terminated", i);
        worked |= e;
    }
    return worked;
}

/* The next result if there is one.  The last stage pulls those before it as far as it has room; where it has none, they still go on. */
static int take(struct pmap_pipeline *p, const void **result, size_t *bytes)
{
    int e = pm_stream_take(p->stage[p->count - 1].stream, result, bytes);
    for (size_t i = p->count - 1; e == PM_LATER && i > 0; i--) {
        int r = pm_stream_pull(p->stage[i - 1].stream);
        if (r) in_trouble(p, r);
    }
    if (!p->trouble || (e && e != PM_LATER)) return e;
    e = p->trouble;
    p->trouble = 0;
    return pm_error(e, "%s", p->why);
}

static int next(struct pmap_pipeline *p, double timeout_s, const void **result, size_t *bytes)
{
    int64_t begin = pm_now(), limit = timeout_s >= 0 && timeout_s <= 4e9 ? (int64_t)(timeout_s * 1e9) : INT64_MAX;
    for (bool late = false;;) {
        int e = take(p, result, bytes);
        if (e != PM_LATER) return e;
        /* From here on what finishes makes a descriptor readable; what has finished before is seen by looking once more. */
        for (size_t i = 0; i < p->count; i++) pm_futures_arm(p->stage[i].pool);
        e = take(p, result, bytes);
        if (e != PM_LATER) return e;
        e = attend(p, late);
        if (e < 0) return e;
        if (e == 1) continue;
        int64_t left = limit == INT64_MAX ? INT64_MAX : limit - (pm_now() - begin);
        if (left <= 0) return pm_error(PMAP_ETIMEDOUT, "pmap_pipeline_next: nothing finished within %g s", timeout_s);
        late = poll(p->poll, (nfds_t)p->count, left < TICK_MS * INT64_C(1000000) ? (int)(left / 1000000) + 1 : TICK_MS) == 0;
    }
}

int pmap_pipeline_next(pmap_pipeline *p, double timeout_s, const void **result, size_t *bytes)
{
    if (result) *result = NULL;
    if (bytes) *bytes = 0;
    if (!p) return pm_error(PMAP_EINVAL, "pmap_pipeline_next: pipeline is NULL");
    if (isnan(timeout_s)) return pm_error(PMAP_EINVAL, "pmap_pipeline_next: timeout_s is not a number");
    size_t entered = 0;
    int e = 0;
    while (!e && entered < p->count) {
        e = pm_pool_enter(p->stage[entered].pool, "pmap_pipeline_next");
        if (!e) entered++;
    }
    if (!e) e = next(p, timeout_s, result, bytes);
    while (entered > 0) pm_pool_leave(p->stage[--entered].pool);
    return e;
}

size_t pmap_pipeline_index(const pmap_pipeline *p) { return p ? pmap_stream_index(p->stage[p->count - 1].stream) : 0; }

const pmap_failure *pmap_pipeline_failure(const pmap_pipeline *p)
{
    return p ? pmap_stream_failure(p->stage[p->count - 1].stream) : NULL;
}

pmap_pool *pmap_pipeline_pool(const pmap_pipeline *p, size_t stage) { return p && stage < p->count ? p->stage[stage].pool : NULL; }

/* The maps: check, describe the work, let the executor run it, report. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/objects.h"
#include "pmap/options.h"
#include "pmap/pool.h"
#include "pmap/task.h"
#include "shm/event.h"
#include "shm/size.h"

#define MOST_CHUNK ((size_t)1 << 24)
#define MOST_RETRIES 30

_Static_assert(sizeof(struct pm_call) <= PM_SELF, "a call travels in body.self");

int pm_map_check(const char *what, const void *in, size_t count, size_t in_size, const void *out, size_t out_size)
{
    size_t in_bytes, out_bytes;
    if (!pm_size_mul(count, in_size, &in_bytes))
        return pm_error(PMAP_EOVERFLOW, "%s: count %zu times in_size %zu does not fit in size_t", what, count, in_size);
    if (!pm_size_mul(count, out_size, &out_bytes))
        return pm_error(PMAP_EOVERFLOW, "%s: count %zu times out_size %zu does not fit in size_t", what, count, out_size);
    if (!in && in_bytes) return pm_error(PMAP_EINVAL, "%s: in is NULL, but %zu bytes of input were expected", what, in_bytes);
    if (!out && out_bytes) return pm_error(PMAP_EINVAL, "%s: out is NULL, but %zu bytes of results were expected", what, out_bytes);
    uintptr_t a = (uintptr_t)in, b = (uintptr_t)out;
    if ((in_bytes && a + in_bytes < a) || (out_bytes && b + out_bytes < b))
        return pm_error(PMAP_EOVERFLOW, "%s: input or output runs past the end of the address space", what);
    bool overlap = in_bytes && out_bytes && a < b + out_bytes && b < a + in_bytes;
    if (overlap && !(a == b && in_size == out_size))
        return pm_error(PMAP_EOVERLAP, "%s: in [%p, +%zu) and out [%p, +%zu) overlap; only the very same place and item size may", what, in,
                        in_bytes, out, out_bytes);
    return 0;
}

int pm_map_begin(pmap_pool *pool, const char *what, const pmap_map_options *given, pmap_map_options *o, struct pm_work *work)
{
    static const pmap_map_options init = PMAP_MAP_OPTIONS_INIT;
    *o = init;
    int e = pm_options(o, sizeof *o, offsetof(pmap_map_options, chunk), given, what, "PMAP_MAP_OPTIONS_INIT");
    if (e) return e;
    if (o->chunk > MOST_CHUNK) return pm_error(PMAP_EINVAL, "%s: chunk is %zu; at most %zu items", what, o->chunk, MOST_CHUNK);
    if (!(o->timeout_s >= 0) || isinf(o->timeout_s))
        return pm_error(PMAP_EINVAL, "%s: timeout_s is %g; expected 0 or more seconds", what, o->timeout_s);
    if (o->retries < 0 || o->retries > MOST_RETRIES)
        return pm_error(PMAP_EINVAL, "%s: retries is %d; expected 0 to %d", what, o->retries, MOST_RETRIES);
    if ((int)o->on_error < 0 || (int)o->on_error > PMAP_ON_ERROR_STOP)
        return pm_error(PMAP_EINVAL, "%s: on_error is %d; expected PMAP_ON_ERROR_COLLECT or PMAP_ON_ERROR_STOP", what, (int)o->on_error);
    if (!o->arg && o->arg_size) return pm_error(PMAP_EINVAL, "%s: arg is NULL, but arg_size is %zu", what, o->arg_size);
    if (o->timeout_s > 0 && pool->ops != &pm_processes)
        return pm_error(PMAP_ENOTSUP, "%s: timeout_s needs PMAP_PROCESSES: %s cannot be ended from outside", what,
                        pool->ops == &pm_threads ? "a thread" : "the calling thread");
    if (o->stats && o->stats->size < offsetof(struct pmap_stats, wall_s))
        return pm_error(PMAP_EINVAL, "%s: stats->size is %zu; set it to sizeof(struct pmap_stats)", what, o->stats->size);
    double ns = o->timeout_s * 1e9;
    *work = (struct pm_work){.chunk = o->chunk, .arg = o->arg, .arg_size = o->arg_size, .retries = (uint8_t)o->retries,
                             .timeout_ns = ns > 4e18 ? INT64_C(4000000000000000000) : ns > 0 && ns < 1 ? 1 : (int64_t)ns,
                             .stop = o->on_error == PMAP_ON_ERROR_STOP, .once = o->once != 0, .want_cost = o->stats != NULL, .seed = o->seed};
    if (work->once) work->retries = 0;
    return 0;
}

static void report(pmap_pool *pool, const struct pm_cost *c, struct pmap_stats *to)
{
    struct pmap_stats s = {.size = to->size, .workers = pmap_pool_workers(pool), .wall_s = (double)c->wall * 1e-9,
                           .transfer_in_s = (double)c->in * 1e-9, .compute_s = (double)c->compute * 1e-9,
                           .transfer_out_s = (double)c->out * 1e-9, .dispatch_s = (double)c->dispatch * 1e-9,
                           .idle_s = (double)c->idle * 1e-9, .bytes_copied = c->bytes, .items = c->items, .chunks = c->chunks,
                           .steals = c->steals, .failed = c->failed, .deaths = c->deaths, .retries = c->retries};
    memcpy(to, &s, to->size < sizeof s ? to->size : sizeof s);
}

static void add_up(pmap_pool *pool, const struct pm_cost *c)
{
    struct pm_cost *t = &pool->total;
    pthread_mutex_lock(&pool->lock);
    t->wall += c->wall, t->in += c->in, t->compute += c->compute, t->out += c->out, t->dispatch += c->dispatch, t->idle += c->idle;
    t->bytes += c->bytes, t->items += c->items, t->chunks += c->chunks, t->steals += c->steals, t->failed += c->failed;
    t->deaths += c->deaths, t->retries += c->retries;
    pthread_mutex_unlock(&pool->lock);
}

int pmap_stats(pmap_pool *pool, struct pmap_stats *stats)
{
    if (!stats || stats->size < offsetof(struct pmap_stats, wall_s))
        return pm_error(PMAP_EINVAL, "pmap_stats: stats is NULL or stats->size is not sizeof(struct pmap_stats)");
    int e = pm_pool_enter(pool, "pmap_stats");
    if (e) return e;
    pthread_mutex_lock(&pool->lock);
    struct pm_cost total = pool->total;
    pthread_mutex_unlock(&pool->lock);
    report(pool, &total, stats);
    pm_pool_leave(pool);
    return 0;
}

/* What was done in the caller's items: all but what failed.  Not what the workers counted, for those that died cannot have. */
static void count_items(struct pm_result *result, uint64_t done, uint64_t unit, uint64_t count)
{
    uint64_t failed = 0, all = done;
    for (size_t i = 0; i < result->nfailures; i++) failed += result->failures[i].count;
    if (failed < result->cost.failed) failed = result->cost.failed; /* more than can be listed */
    done -= done < failed ? done : failed;
    result->cost.items = done == all ? count : done * unit < count ? done * unit : count;
    if (all == 0) result->cost.items = 0;
    result->cost.failed = failed * unit;
}

int pm_map_run(pmap_pool *pool, const char *what, struct pm_work *work, const pmap_map_options *o, uint64_t unit, uint64_t count)
{
    struct pm_result result = {0};
    const void *code;
    memcpy(&code, work->body.self, sizeof code);
    if (pool->objects && !pm_objects_have(pool->objects, code))
        return pm_error(PMAP_EFUNCTION, "%s: the function at %p is in an object that was loaded after the pool opened, which the workers do "
                        "not have; load it before pmap_pool_open()", what, code);
    pm_failures_keep(pool, NULL, 0, 0, 1, 0);
    work->begun = work->want_cost || pool->ops != &pm_processes ? pm_now() : 0;
    int e = work->count ? pool->ops->run(pool->executor, work, &result) : 0;
    /* The caller copied while the workers had nothing to do. */
    result.cost.wall += work->copied_ns;
    result.cost.in += work->copied_ns;
    result.cost.idle += work->copied_ns * (pool->workers - 1);
    result.cost.bytes += work->copied;
    pm_failures_keep(pool, result.failures, result.nfailures, work->first, unit, count);
    size_t n = result.nfailures;
    count_items(&result, e ? 0 : work->count, unit, count);
    if (o->stats) report(pool, &result.cost, o->stats);
    add_up(pool, &result.cost);
    free(result.failures);
    if (e == -EPIPE) return pm_error(PMAP_EBROKEN, "%s: %s", what, result.text);
    if (e) return pm_error_system(e, what);
    if (result.cancelled) return pm_error(PMAP_ECANCELLED, "%s: the pool was terminated meanwhile", what);
    if (n == 0) return 0;
    const pmap_failure *first = pmap_failures(pool, NULL);
    return pm_error(PMAP_EITEMS, "%s: %zu failure%s, the first: %s", what, n, n == 1 ? "" : "s", first ? first->text : "(no memory to list it)");
}

static int run_map_inside(pmap_pool *pool, const char *what, struct pm_call call, enum pm_how how,
                          uint64_t (*body)(struct pm_run *, uint64_t, uint64_t), const void *in, size_t first, size_t count, size_t in_size,
                          void *out, size_t out_size, const pmap_map_options *options)
{
    pmap_map_options full;
    struct pm_work work;
    int e = 0;
    if (!call.fn.item) e = pm_error(PMAP_EINVAL, "%s: function is NULL", what);
    if (!e) e = pm_map_check(what, in, count, in_size, out, out_size);
    if (!e) e = pm_map_begin(pool, what, options, &full, &work);
    if (!e) {
        memcpy(work.body.self, &call, sizeof call);
        work.body.run = body;
        work.how = how;
        work.count = count;
        work.first = first;
        work.in = in_size ? in : NULL;
        work.out = out_size ? out : NULL;
        work.in_size = in_size;
        work.in_bytes = count * in_size;
        work.out_size = out_size;
        e = pm_map_run(pool, what, &work, &full, 1, count);
    }
    return e;
}

static int run_map(pmap_pool *pool, const char *what, struct pm_call call, enum pm_how how,
                   uint64_t (*body)(struct pm_run *, uint64_t, uint64_t), const void *in, size_t first, size_t count, size_t in_size,
                   void *out, size_t out_size, const pmap_map_options *options)
{
    int e = pm_pool_enter(pool, what);
    if (e) return e;
    e = run_map_inside(pool, what, call, how, body, in, first, count, in_size, out, out_size, options);
    pm_pool_leave(pool);
    return e;
}

int pm_map_items(pmap_pool *pool, const char *what, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out,
                 size_t out_size, const pmap_map_options *options)
{
    return run_map_inside(pool, what, (struct pm_call){.fn.item = function}, PM_HOW_ITEMS, pm_call_items, in, 0, count, in_size, out,
                          out_size, options);
}

int pmap_map(pmap_pool *pool, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out, size_t out_size,
             const pmap_map_options *options)
{
    return run_map(pool, "pmap_map", (struct pm_call){.fn.item = function}, PM_HOW_ITEMS, pm_call_items, in, 0, count, in_size, out,
                   out_size, options);
}

int pmap_chunks(pmap_pool *pool, pmap_chunk_fn *function, const void *in, size_t count, size_t in_size, void *out, size_t out_size,
                const pmap_map_options *options)
{
    return run_map(pool, "pmap_chunks", (struct pm_call){.fn.chunk = function}, PM_HOW_BULK, pm_call_chunk, in, 0, count, in_size, out,
                   out_size, options);
}

int pmap_for(pmap_pool *pool, pmap_range_fn *function, size_t first, size_t last, const pmap_map_options *options)
{
    if (first > last) return pm_error(PMAP_EINVAL, "pmap_for: first %zu is greater than last %zu", first, last);
    return run_map(pool, "pmap_for", (struct pm_call){.fn.range = function}, PM_HOW_BULK, pm_call_range, NULL, first, last - first, 0, NULL,
                   0, options);
}

/* A map over several columns of values: item i is one value of each, side by side (zip) or in every combination (product).  What the
 * workers need to find the values lies in the arena for the length of the call: the description below, and a copy of each column
 * that they cannot see where it is.  Everything else is pmap_map()'s. */
#include <errno.h>
#include <string.h>

#include "pmap/pool.h"
#include "pmap/task.h"
#include "shm/event.h"
#include "shm/heap.h"
#include "shm/size.h"

#define WHAT "pmap_starmap"

/* In the arena, written before the workers hear of it. */
struct pm_star {
    bool product;
    size_t n;
    pmap_column column[PMAP_COLUMNS]; /* where the workers see them */
};

_Static_assert(sizeof(struct pm_call) <= PM_SELF, "a call travels in body.self");

/* ---- The workers' side: from an item to its values ---- */

/* Items come one after another, so the next one's values are a step away; only the first of a piece takes divisions. */
struct place {
    const struct pm_star *star;
    uint64_t item;
    size_t at[PMAP_COLUMNS];
    const void *values[PMAP_COLUMNS];
};

static void point(struct place *p, size_t k, size_t at)
{
    const pmap_column *c = &p->star->column[k];
    p->at[k] = at;
    p->values[k] = c->data ? (const char *)c->data + at * c->size : NULL;
}

static void go_to(struct place *p, uint64_t item)
{
    uint64_t rest = item;
    p->item = item;
    for (size_t k = p->star->n; k-- > 0;) {
        size_t count = p->star->column[k].count;
        point(p, k, p->star->product ? rest % count : item);
        rest /= count;
    }
}

static void step(struct place *p)
{
    p->item++;
    for (size_t k = p->star->n; k-- > 0;) {
        size_t next = p->at[k] + 1;
        bool wraps = p->star->product && next == p->star->column[k].count;
        point(p, k, wraps ? 0 : next);
        if (p->star->product && !wraps) return;
    }
}

static int call_star(pmap_task *task, uint64_t item, void *state)
{
    struct place *p = state;
    const struct pm_call *call = task->run->self;
    uint64_t index = task->run->first + item;
    if (index == p->item + 1) step(p);
    else if (index != p->item) go_to(p, index);
    return call->fn.star(task, p->values, pm_task_output(task->run, item));
}

static uint64_t body(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    const struct pm_call *call = run->self;
    struct place p;
    if (lo >= hi) return hi;
    p.star = call->star;
    go_to(&p, run->first + lo);
    return pm_call_each(run, lo, hi, call_star, &p);
}

/* ---- The caller's side ---- */

static int check_column(const pmap_column *c, size_t k, const void *out, size_t out_bytes)
{
    size_t bytes;
    uintptr_t a = (uintptr_t)c->data, b = (uintptr_t)out;
    if (!pm_size_mul(c->count, c->size, &bytes))
        return pm_error(PMAP_EOVERFLOW, WHAT ": column %zu: count %zu times size %zu does not fit in size_t", k, c->count, c->size);
    if (!c->data && bytes) return pm_error(PMAP_EINVAL, WHAT ": column %zu: data is NULL, but %zu bytes were expected", k, bytes);
    if (bytes && a + bytes < a) return pm_error(PMAP_EOVERFLOW, WHAT ": column %zu runs past the end of the address space", k);
    if (bytes && out_bytes && a < b + out_bytes && b < a + bytes)
        return pm_error(PMAP_EOVERLAP, WHAT ": column %zu in [%p, +%zu) and out [%p, +%zu) overlap", k, c->data, bytes, out, out_bytes);
    return 0;
}

/* How many items there are. */
static int count_items(pmap_star kind, const pmap_column *columns, size_t n, size_t *count)
{
    *count = columns[0].count;
    for (size_t k = 1; k < n && kind == PMAP_ZIP; k++)
        if (columns[k].count != *count)
            return pm_error(PMAP_EINVAL, WHAT ": column 0 has %zu values and column %zu has %zu; with PMAP_ZIP all must be as long", *count, k,
                            columns[k].count);
    if (kind == PMAP_ZIP) return 0;
    for (size_t k = 0; k < n; k++)
        if (columns[k].count == 0) *count = 0; /* nothing, however long the others are */
    for (size_t k = 1; k < n && *count; k++)
        if (!pm_size_mul(*count, columns[k].count, count))
            return pm_error(PMAP_EOVERFLOW, WHAT ": the number of combinations of columns 0 to %zu does not fit in size_t", k);
    return 0;
}

static int check(pmap_star_fn *function, pmap_star kind, const pmap_column *columns, size_t n, void *out, size_t out_size, size_t *count)
{
    if (!function) return pm_error(PMAP_EINVAL, WHAT ": function is NULL");
    if ((int)kind < 0 || (int)kind > PMAP_PRODUCT) return pm_error(PMAP_EINVAL, WHAT ": kind is %d; expected PMAP_ZIP or PMAP_PRODUCT", (int)kind);
    if (!columns || n < 1 || n > PMAP_COLUMNS)
        return pm_error(PMAP_EINVAL, WHAT ": %zu columns at %p; expected 1 to %d", n, (const void *)columns, PMAP_COLUMNS);
    int e = count_items(kind, columns, n, count);
    if (!e) e = pm_map_check(WHAT, NULL, *count, 0, out, out_size);
    for (size_t k = 0; k < n && !e; k++) e = check_column(&columns[k], k, out, *count * out_size);
    return e;
}

/* The copies that are needed; where `to` has no room yet (NULL) only counts their bytes.  False: they do not fit in size_t. */
static bool lay_out(pmap_pool *pool, const pmap_column *columns, size_t n, struct pm_star *to, size_t *bytes)
{
    if (!pm_size_up(sizeof *to, 64, bytes)) return false;
    for (size_t k = 0; k < n; k++) {
        size_t need = columns[k].count * columns[k].size, end;
        bool seen = need == 0 || pool->ops->shares(pool->executor, columns[k].data, need);
        if (to) to->column[k] = columns[k];
        if (seen) continue;
        if (to) to->column[k].data = memcpy((char *)to + *bytes, columns[k].data, need);
        if (!pm_size_up(need, 64, &end) || !pm_size_add(*bytes, end, bytes)) return false;
    }
    return true;
}

static int run(pmap_pool *pool, pmap_star_fn *function, pmap_star kind, const pmap_column *columns, size_t n, size_t count, void *out,
               size_t out_size, struct pm_work *work, const pmap_map_options *full)
{
    struct pm_heap *heap = pool->ops->heap(pool->executor);
    int64_t begun = pm_now();
    size_t bytes;
    int e = 0;
    if (count == 0) n = 0; /* nobody will look at them */
    if (!lay_out(pool, columns, n, NULL, &bytes)) return pm_error(PMAP_EOVERFLOW, WHAT ": the columns together do not fit in size_t");
    struct pm_star *star = pm_heap_alloc(heap, bytes, &e);
    if (!star) return pm_error(PMAP_ENOMEM, WHAT ": no memory for %zu bytes of columns", bytes);
    star->product = kind == PMAP_PRODUCT;
    star->n = n;
    (void)lay_out(pool, columns, n, star, &bytes);
    size_t own = (sizeof *star + 63) / 64 * 64;
    if (bytes > own) { /* there were copies */
        for (size_t k = 0; k < n; k++)
            if (star->column[k].data != columns[k].data) work->copied += columns[k].count * columns[k].size;
        work->copied_ns = pm_now() - begun;
    }
    struct pm_call call = {.fn.star = function, .star = star};
    memcpy(work->body.self, &call, sizeof call);
    work->body.run = body;
    work->how = PM_HOW_ITEMS;
    work->count = count;
    work->out = out_size ? out : NULL;
    work->out_size = out_size;
    e = pm_map_run(pool, WHAT, work, full, 1, count);
    (void)pm_heap_free(heap, star);
    return e;
}

int pmap_starmap(pmap_pool *pool, pmap_star_fn *function, pmap_star kind, const pmap_column *columns, size_t ncolumns, void *out,
                 size_t out_size, const pmap_map_options *options)
{
    pmap_map_options full;
    struct pm_work work;
    size_t count = 0;
    int e = pm_pool_enter(pool, WHAT);
    if (e) return e;
    e = check(function, kind, columns, ncolumns, out, out_size, &count);
    if (!e) e = pm_map_begin(pool, WHAT, options, &full, &work);
    if (!e) e = run(pool, function, kind, columns, ncolumns, count, out, out_size, &work, &full);
    pm_pool_leave(pool);
    return e;
}

/* Reductions with the same bits on every path: the input is cut into blocks by its count alone, each block gives one partial, and the
 * partials are combined in block order by the caller.  (Per-worker accumulators would depend on who did what, and die with their worker.) */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/pool.h"
#include "pmap/task.h"
#include "shm/heap.h"
#include "shm/size.h"

#define BLOCKS 1024u /* enough for 256 CPUs to balance, few enough to combine in microseconds */

static int reduce(pmap_pool *pool, pmap_chunk_fn *partial, pmap_combine_fn *combine, const void *in, size_t count, size_t in_size,
                  void *acc, size_t acc_size, struct pm_work *work, const pmap_map_options *full)
{
    size_t unit = full->chunk ? full->chunk : count / BLOCKS + (count % BLOCKS != 0 || count == 0), bytes, in_stride;
    size_t blocks = count / unit + (count % unit != 0);
    struct pm_call call = {.fn.chunk = partial, .unit = unit, .count = count};
    if (!pm_size_mul(blocks, acc_size, &bytes))
        return pm_error(PMAP_EOVERFLOW, "pmap_reduce: %zu partials of %zu bytes do not fit in size_t", blocks, acc_size);
    if (!pm_size_mul(unit, in_size, &in_stride))
        return pm_error(PMAP_EOVERFLOW, "pmap_reduce: a block of %zu items of %zu bytes does not fit in size_t", unit, in_size);
    int e = 0;
    struct pm_heap *heap = pool->ops->heap(pool->executor);
    char *partials = pm_heap_alloc(heap, bytes, &e);
    if (!partials) return pm_error(PMAP_ENOMEM, "pmap_reduce: no memory for %zu partials of %zu bytes", blocks, acc_size);
    memcpy(work->body.self, &call, sizeof call);
    work->body.run = pm_call_blocks;
    work->how = PM_HOW_ITEMS;
    work->count = blocks;
    work->chunk = full->chunk ? 1 : 0;
    work->in = in_size ? in : NULL;
    work->in_size = in_stride;
    work->in_bytes = count * in_size;
    if (__builtin_mul_overflow(work->timeout_ns, (int64_t)unit, &work->timeout_ns)) work->timeout_ns = INT64_MAX / 4; /* a block's time */
    work->out = partials;
    work->out_size = acc_size;
    e = pm_map_run(pool, "pmap_reduce", work, full, unit, count);
    if (e == 0)
        for (size_t b = 0; b < blocks; b++) combine(acc, partials + b * acc_size, full->arg);
    (void)pm_heap_free(heap, partials);
    return e;
}

int pmap_reduce(pmap_pool *pool, pmap_chunk_fn *partial, pmap_combine_fn *combine, const void *in, size_t count, size_t in_size, void *acc,
                size_t acc_size, const pmap_map_options *options)
{
    pmap_map_options full;
    struct pm_work work;
    int e = pm_pool_enter(pool, "pmap_reduce");
    if (e) return e;
    if (!partial || !combine) e = pm_error(PMAP_EINVAL, "pmap_reduce: %s is NULL", partial ? "combine" : "partial");
    else if (!acc || !acc_size) e = pm_error(PMAP_EINVAL, "pmap_reduce: acc is NULL or acc_size is 0");
    if (!e) e = pm_map_check("pmap_reduce", in, count, in_size, NULL, 0);
    if (!e) e = pm_map_begin(pool, "pmap_reduce", options, &full, &work);
    if (!e) e = reduce(pool, partial, combine, in, count, in_size, acc, acc_size, &work, &full);
    pm_pool_leave(pool);
    return e;
}

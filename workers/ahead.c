/* Which memory is worth mapping ahead, and the steps in which a worker does it: workers/ahead.h. */
#include "workers/ahead.h"

#include "shm/size.h"

#define UNIT ((size_t)64 << 10)
#define LEAST ((size_t)512 << 10) /* announced at all; the arena commits in pieces of up to a huge page */
#define STEP 64u                  /* units mapped between two looks for work */

static uint32_t start_of(uint64_t extent) { return (uint32_t)(extent >> 32); }
static uint32_t length_of(uint64_t extent) { return (uint32_t)extent; }

bool pm_ahead_add(struct pm_ahead *ahead, size_t offset, size_t bytes)
{
    if (bytes < LEAST) return false;
    uint32_t n = atomic_load_explicit(&ahead->n, memory_order_relaxed);
    uint64_t start = (offset + UNIT - 1) / UNIT, length = (offset + bytes) / UNIT - start, last = 0;
    if (n) last = atomic_load_explicit(&ahead->extent[(n - 1) % PM_EXTENTS], memory_order_relaxed);
    if (last && start_of(last) + length_of(last) == start) { /* the last one grows: a long commit is one extent */
        atomic_store_explicit(&ahead->extent[(n - 1) % PM_EXTENTS], last + length, memory_order_release);
    } else {
        atomic_store_explicit(&ahead->extent[n % PM_EXTENTS], start << 32 | length, memory_order_release);
        atomic_store_explicit(&ahead->n, n + 1, memory_order_release);
    }
    return true;
}

void pm_ahead_strike(struct pm_ahead *ahead, size_t offset, size_t bytes)
{
    for (unsigned i = 0; i < PM_EXTENTS; i++) {
        uint64_t extent = atomic_load_explicit(&ahead->extent[i], memory_order_relaxed);
        size_t start = start_of(extent) * UNIT, length = length_of(extent) * UNIT;
        if (start < offset + bytes && offset < start + length) atomic_store(&ahead->extent[i], 0);
    }
}

struct pm_ahead_mark pm_ahead_now(struct pm_ahead *ahead)
{
    struct pm_ahead_mark mark = {.seen = atomic_load_explicit(&ahead->n, memory_order_acquire)};
    if (mark.seen) { /* the last one may still grow */
        mark.seen--;
        mark.units = length_of(atomic_load_explicit(&ahead->extent[mark.seen % PM_EXTENTS], memory_order_acquire));
    }
    return mark;
}

bool pm_ahead_step(struct pm_ahead *ahead, const struct pm_arena *arena, struct pm_ahead_mark *mark)
{
    uint32_t n = atomic_load_explicit(&ahead->n, memory_order_acquire);
    if (n - mark->seen > PM_EXTENTS) *mark = (struct pm_ahead_mark){.seen = n - PM_EXTENTS};
    while (mark->seen != n) {
        uint64_t extent = atomic_load_explicit(&ahead->extent[mark->seen % PM_EXTENTS], memory_order_acquire);
        if (mark->units < length_of(extent)) {
            uint32_t units = length_of(extent) - mark->units;
            if (units > STEP) units = STEP;
            pm_arena_populate(arena, (start_of(extent) + mark->units) * UNIT, units * UNIT);
            mark->units += units;
            return true;
        }
        if (mark->seen + 1 == n) break; /* it may still grow */
        mark->seen++;
        mark->units = 0;
    }
    return false;
}

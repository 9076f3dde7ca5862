/* Checked sizes: products and sums that say when they do not fit.  Used by every layer; must not include any of them. */
#ifndef PM_SHM_SIZE_H
#define PM_SHM_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool pm_size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool pm_size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* n rounded up to a multiple of the power of two `unit`; false when that does not fit. */
static inline bool pm_size_up(size_t n, size_t unit, size_t *out)
{
    if (!pm_size_add(n, unit - 1, out)) return false;
    *out &= ~(unit - 1);
    return true;
}

static inline size_t pm_size_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t pm_size_max(size_t a, size_t b) { return a > b ? a : b; }

#endif

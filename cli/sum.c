/* The workload `sum`: adds up numbers with pmap_reduce(). Its kernel has eight accumulators, so that memory and not
 * the latency of one addition bounds it, and adds in an order that depends on the chunk alone, so that all paths give
 * the same bits. */
#include "cli/workload.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD 1000 /* generated input repeats after that many items */

struct total { /* a partial, and the result */
    union {
        double f64;
        uint64_t u64; /* of integers: modulo 2^64, for signed ones in two's complement */
    } of;
};

#define KERNEL(name, type, wide, field)                                                                       \
    static int name(pmap_task *task, const void *items, size_t count, void *result)                          \
    {                                                                                                         \
        const type *x = items;                                                                                \
        wide a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;                                          \
        size_t i = 0;                                                                                         \
        (void)task;                                                                                           \
        for (; count - i >= 8; i += 8) {                                                                      \
            a += (wide)x[i], b += (wide)x[i + 1], c += (wide)x[i + 2], d += (wide)x[i + 3];                   \
            e += (wide)x[i + 4], f += (wide)x[i + 5], g += (wide)x[i + 6], h += (wide)x[i + 7];               \
        }                                                                                                     \
        for (; i < count; i++) a += (wide)x[i];                                                               \
        ((struct total *)result)->of.field = ((a + b) + (c + d)) + ((e + f) + (g + h));                       \
        return 0;                                                                                             \
    }
KERNEL(sum_f64, double, double, f64)
KERNEL(sum_f32, float, double, f64)
KERNEL(sum_i64, int64_t, uint64_t, u64)
KERNEL(sum_i32, int32_t, uint64_t, u64)
KERNEL(sum_u8, uint8_t, uint64_t, u64)

static pmap_chunk_fn *const kernels[DTYPES] = { sum_f64, sum_f32, sum_i64, sum_i32, sum_u8 };

static void add_f64(void *acc, const void *partial, void *arg)
{
    (void)arg;
    ((struct total *)acc)->of.f64 += ((const struct total *)partial)->of.f64;
}

static void add_u64(void *acc, const void *partial, void *arg)
{
    (void)arg;
    ((struct total *)acc)->of.u64 += ((const struct total *)partial)->of.u64;
}

static bool real(enum dtype dtype) { return dtype == DTYPE_F64 || dtype == DTYPE_F32; }
static enum dtype type_of(const struct job *job) { return job->file ? job->file->dtype : job->settings->dtype; }
static size_t item_bytes(enum dtype dtype) { return dtype_sizes[dtype]; }

/* One item, as a real number or a whole one modulo 2^64.  memcpy, because a file may hold it at any address. */
static void item(const void *data, enum dtype dtype, size_t i, long double *number, uint64_t *whole)
{
    union { double f64; float f32; int64_t i64; int32_t i32; uint8_t u8; } x;

    memcpy(&x, (const char *)data + i * dtype_sizes[dtype], dtype_sizes[dtype]);
    switch (dtype) {
    case DTYPE_F64: *number = x.f64; break;
    case DTYPE_F32: *number = x.f32; break;
    case DTYPE_I64: *whole = (uint64_t)x.i64; break;
    case DTYPE_I32: *whole = (uint64_t)x.i32; break;
    default: *whole = x.u8;
    }
}

/* Item i of the generated input: tenths, which no binary fraction is, so that another order of additions gives other
 * bits. */
static void fill(void *memory, enum dtype dtype, size_t items)
{
    for (size_t i = 0; i < items; i++) {
        size_t k = i % PERIOD;

        switch (dtype) {
        case DTYPE_F64: ((double *)memory)[i] = (double)k / 10; break;
        case DTYPE_F32: ((float *)memory)[i] = (float)k / 10; break;
        case DTYPE_I64: ((int64_t *)memory)[i] = (int64_t)k - PERIOD / 4; break;
        case DTYPE_I32: ((int32_t *)memory)[i] = (int32_t)k - PERIOD / 4; break;
        default: ((uint8_t *)memory)[i] = (uint8_t)k; break;
        }
    }
}

struct known { /* what the sum must be; of reals, within `slack` */
    struct total result;
    double slack;
    uint64_t whole;
    long double sum, magnitude;
};

static void know(struct known *known, const void *data, enum dtype dtype, size_t from, size_t to, uint64_t times)
{
    for (size_t i = from; i < to; i++) {
        long double number = 0;
        uint64_t whole = 0;

        item(data, dtype, i, &number, &whole);
        known->sum += number * (long double)times;
        known->magnitude += fabsl(number) * (long double)times;
        known->whole += whole * times;
    }
}

static int prepare(struct job *job)
{
    enum dtype dtype = type_of(job);
    size_t size = dtype_sizes[dtype], items = (size_t)job->items;
    bool own = job->in_place || !job->file || (uintptr_t)job->file->data % size != 0;
    struct known *known = calloc(1, sizeof *known);

    job->out = workload_place(job, sizeof(struct total));
    if (!known || !job->out) return PMAP_ENOMEM;
    job->expected = known;
    if (own) {
        void *memory = workload_place(job, items * size);

        if (!memory) return PMAP_ENOMEM;
        if (job->file && items) memcpy(memory, job->file->data, items * size);
        else if (!job->file) fill(memory, dtype, items);
        job->in = memory;
    } else {
        job->in = job->file->data;
    }
    /* Generated input repeats, so one period is enough to know its sum. */
    if (job->file) {
        know(known, job->in, dtype, 0, items, 1);
    } else if (items) {
        know(known, job->in, dtype, 0, items < PERIOD ? items : PERIOD, items < PERIOD ? 1 : items / PERIOD);
        if (items >= PERIOD) know(known, job->in, dtype, 0, items % PERIOD, 1);
    }
    known->slack = (double)(known->magnitude * 1e-10L);
    return 0;
}

static int run(struct job *job, const pmap_map_options *options)
{
    enum dtype dtype = type_of(job);

    memset(job->out, 0, sizeof(struct total)); /* bits of 0.0 and of 0 */
    return pmap_reduce(job->pool, kernels[dtype], real(dtype) ? add_f64 : add_u64, job->in, (size_t)job->items,
                       dtype_sizes[dtype], job->out, sizeof(struct total), options);
}

static bool check(struct job *job, const struct pmap_stats *stats, struct value *result)
{
    const struct known *known = job->expected;
    const struct total *total = job->out;
    enum dtype dtype = type_of(job);

    (void)stats;
    result->bits = total->of.u64; /* a double's bits too: the members share their place */
    result->kind = real(dtype) ? VALUE_F64 : dtype == DTYPE_U8 ? VALUE_U64 : VALUE_I64;
    if (!real(dtype)) return total->of.u64 == known->whole;
    /* A file may hold infinities and NaN, or overflow on the way: then only the comparison of bits with the serial
     * path is left. */
    if (!isfinite(total->of.f64) || !isfinite((double)known->magnitude)) return !isfinite((double)known->magnitude);
    return fabsl((long double)total->of.f64 - known->sum) <= known->slack;
}

const struct workload workload_sum = { "sum", item_bytes, true, 0, prepare, run, check };

/* Smallest and largest of a million numbers in one reduction: the same result, bit for bit, with any number of workers. */
#include <pmap/pmap.h>
#include <stdio.h>

struct range { unsigned least, most; };

static int range_of(pmap_task *task, const void *items, size_t count, void *result)
{
    const unsigned *x = items;
    struct range r = { x[0], x[0] };
    for (size_t i = 1; i < count; i++) {
        if (x[i] < r.least) r.least = x[i];
        if (x[i] > r.most) r.most = x[i];
    }
    *(struct range *)result = r;
    (void)task;
    return 0;
}

static void widen(void *acc, const void *partial, void *arg)
{
    struct range *a = acc;
    const struct range *p = partial;
    if (p->least < a->least) a->least = p->least;
    if (p->most > a->most) a->most = p->most;
    (void)arg;
}

int main(void)
{
    static unsigned x[1000000];
    struct range r = { 1000000, 0 };
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (unsigned i = 0; i < 1000000; i++) x[i] = 7 + i * 7919 % 900001;
    int error = pmap_reduce(pool, range_of, widen, x, 1000000, sizeof *x, &r, sizeof r, NULL);
    if (error) return fprintf(stderr, "%s: %s\n", pmap_strerror(error), pmap_error()), 1;
    printf("from %u to %u\n", r.least, r.most);
    return pmap_pool_close(pool) != PMAP_OK;
}

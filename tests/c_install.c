/* The smallest C user of an INSTALLED pmap; CI compiles it with what pkg-config says, and runs it. */
#include <pmap/pmap.h>
#include <stdio.h>

static int twice(pmap_task *task, const void *item, void *result)
{
    (void)task;
    *(int *)result = *(const int *)item * 2;
    return 0;
}

int main(void)
{
    int in[3] = { 1, 2, 3 }, out[3];
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL) || pmap_map(pool, twice, in, 3, sizeof *in, out, sizeof *out, NULL)) return 1;
    printf("%d %d %d\n", out[0], out[1], out[2]);
    return pmap_pool_close(pool) || out[2] != 6;
}

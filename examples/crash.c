/* Item 777 crashes its worker each time.  Exactly that item fails, with its cause; all other results are right. */
#include <pmap/pmap.h>
#include <signal.h>
#include <stdio.h>

static int square(pmap_task *task, const void *item, void *result)
{
    int x = *(const int *)item;
    if (x == 777) raise(SIGSEGV);
    *(int *)result = x * x;
    (void)task;
    return 0;
}

int main(void)
{
    enum { N = 10000 };
    static int in[N], out[N];
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < N; i++) in[i] = i;

    int error = pmap_map(pool, square, in, N, sizeof *in, out, sizeof *out, NULL);
    printf("the map says: %s\n", error == PMAP_EITEMS ? "some items failed" : pmap_strerror(error));
    size_t count;
    const pmap_failure *failure = pmap_failures(pool, &count);
    for (size_t i = 0; i < count; i++)
        printf("item %zu: signal %s, run %u times\n", failure[i].item,
               failure[i].cause == PMAP_CAUSE_SIGNAL && failure[i].value == SIGSEGV ? "SIGSEGV" : "?", failure[i].attempts);
    int right = 0;
    for (int i = 0; i < N; i++) right += i != 777 && out[i] == i * i;
    printf("right: %d of %d\n", right, N);
    return pmap_pool_close(pool) != PMAP_OK;
}

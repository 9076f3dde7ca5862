/* The running minimum: a function with a state is fed one value at a time and answers after each. */
#include <pmap/pmap.h>
#include <limits.h>
#include <stdio.h>

static int minimum(pmap_task *task, void *state, const void *in, size_t bytes)
{
    int *least = state, *answer = pmap_task_result(task, sizeof *answer);
    (void)bytes;
    if (*(const int *)in < *least) *least = *(const int *)in;
    *answer = *least;
    return 0;
}

int main(void)
{
    const int values[] = { 10, 4, 22, -1 }, none = INT_MAX;
    pmap_pool *pool;
    pmap_coroutine *coroutine;
    if (pmap_pool_open(&pool, NULL) || pmap_coroutine_open(pool, minimum, &none, sizeof none, NULL, &coroutine))
        return fprintf(stderr, "%s\n", pmap_error()), 1;

    for (int i = 0; i < 4; i++) {
        const void *answer;
        if (pmap_coroutine_send(coroutine, &values[i], sizeof values[i], -1, &answer, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
        printf("send %d: %d\n", values[i], *(const int *)answer);
    }
    pmap_coroutine_close(coroutine);
    return pmap_pool_close(pool) != PMAP_OK;
}

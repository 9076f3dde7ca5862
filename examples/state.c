/* A worker's state: the init hook makes what every item needs and no item should pay for, functions find it with pmap_task_state(),
 * the exit hook puts it away.  A worker is replaced after 50 items, and the new one makes its own. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LIMIT 100000

struct sieve { /* which numbers are prime: slow to make, quick to use */
    unsigned served;
    char composite[LIMIT + 1];
};

static int make_sieve(unsigned worker, void **state, void *arg)
{
    struct sieve *s = calloc(1, sizeof *s);
    if (!s) return 1; /* any code but 0 makes the pool PMAP_EBROKEN, and its calls say so */
    for (int i = 2; i * i <= LIMIT; i++)
        for (int j = i * i; !s->composite[i] && j <= LIMIT; j += i) s->composite[j] = 1;
    *state = s;
    (void)worker, (void)arg;
    return 0;
}

static int put_away(unsigned worker, void **state, void *arg)
{
    unsigned *served = arg; /* memory that workers and application share */
    (void)worker;
    __atomic_fetch_add(served, ((struct sieve *)*state)->served, __ATOMIC_RELAXED);
    free(*state);
    return 0;
}

static int is_prime(pmap_task *task, const void *item, void *result)
{
    struct sieve *s = pmap_task_state(task);
    int n = *(const int *)item;
    s->served++;
    *(int *)result = n > 1 && !s->composite[n];
    return 0;
}

int main(void)
{
    static int in[1000], out[1000];
    int primes = 0;
    unsigned *served = mmap(NULL, sizeof *served, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    if (served == MAP_FAILED) return 1;
    options.workers = 2;
    options.init = make_sieve;
    options.exit = put_away;
    options.hook_arg = served;
    options.recycle_items = 50;
    for (int i = 0; i < 1000; i++) in[i] = 99000 + i;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    if (pmap_map(pool, is_prime, in, 1000, sizeof *in, out, sizeof *out, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < 1000; i++) primes += out[i];
    if (pmap_pool_close(pool)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("primes from 99000 to 99999: %d; items that the exit hooks have counted: %u\n", primes, *served);
    return 0;
}

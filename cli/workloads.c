/* The workloads other than `sum`, and the table of all.  See workload.h. */
#include "cli/workload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t no_bytes(enum dtype dtype) { (void)dtype; return 0; }
static size_t number_bytes(enum dtype dtype) { (void)dtype; return sizeof(uint64_t); }
static int prepare_nothing(struct job *job) { (void)job; return 0; }

void *workload_place(struct job *job, size_t bytes)
{
    return job->in_place ? pmap_alloc(job->pool, bytes) : aligned_alloc(64, (bytes + 64) & ~(size_t)63);
}

/* ---- actions: a loop that counts, and that no compiler can shorten ---- */

static int do_actions(pmap_task *task, const void *items, size_t count, void *result)
{
    uint64_t done = 0;

    (void)task;
    (void)items;
    for (size_t i = 0; i < count; i++) {
        done++;
        __asm__ volatile("" : "+r"(done)); /* done may have changed here, as far as the compiler knows */
    }
    *(uint64_t *)result = done;
    return 0;
}

static void add(void *acc, const void *partial, void *arg)
{
    (void)arg;
    *(uint64_t *)acc += *(const uint64_t *)partial;
}

static int prepare_actions(struct job *job)
{
    job->out = workload_place(job, sizeof(uint64_t));
    return job->out ? 0 : PMAP_ENOMEM;
}

static int run_actions(struct job *job, const pmap_map_options *options)
{
    *(uint64_t *)job->out = 0;
    return pmap_reduce(job->pool, do_actions, add, NULL, (size_t)job->items, 0, job->out, sizeof(uint64_t), options);
}

static bool check_actions(struct job *job, const struct pmap_stats *stats, struct value *result)
{
    (void)stats;
    *result = (struct value){ VALUE_U64, *(const uint64_t *)job->out };
    return result->bits == job->items;
}

static const struct workload actions = { "actions", no_bytes, false, 0, prepare_actions, run_actions, check_actions };

/* ---- factorize: all divisors of a number, by trying every smaller one ---- */

struct divisors {
    uint64_t count, sum;
};

static int factorize(pmap_task *task, const void *item, void *result)
{
    uint64_t n = *(const uint64_t *)item;
    struct divisors *found = result;

    (void)task;
    *found = (struct divisors){ 0, 0 };
    for (uint64_t i = 1; i <= n; i++)
        if (n % i == 0) found->count++, found->sum += i;
    return 0;
}

/* The same from pairs (i, n / i), for the check. */
static struct divisors divisors_of(uint64_t n)
{
    struct divisors found = { 0, 0 };

    for (uint64_t i = 1; i <= n / i; i++) {
        if (n % i) continue;
        found.count += i == n / i ? 1 : 2;
        found.sum += i == n / i ? i : i + n / i;
    }
    return found;
}

static int prepare_factorize(struct job *job)
{
    size_t n = (size_t)job->items;
    uint64_t *in = workload_place(job, n * sizeof *in);
    struct divisors *expected = malloc((n + 1) * sizeof *expected);

    job->in = in;
    job->out = workload_place(job, n * sizeof(struct divisors));
    job->expected = expected;
    if (!in || !job->out || !expected) return PMAP_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        in[i] = job->settings->numbers[i % job->settings->nnumbers];
        expected[i] = i < job->settings->nnumbers ? divisors_of(in[i]) : expected[i - job->settings->nnumbers];
    }
    return 0;
}

static int run_factorize(struct job *job, const pmap_map_options *options)
{
    memset(job->out, 0, (size_t)job->items * sizeof(struct divisors));
    return pmap_map(job->pool, factorize, job->in, (size_t)job->items, sizeof(uint64_t), job->out,
                    sizeof(struct divisors), options);
}

/* The result is how many divisors were found; each number's count and sum are checked. */
static bool check_factorize(struct job *job, const struct pmap_stats *stats, struct value *result)
{
    const struct divisors *found = job->out, *expected = job->expected;
    bool right = true;

    (void)stats;
    *result = (struct value){ VALUE_U64, 0 };
    for (size_t i = 0; i < job->items; i++) {
        result->bits += found[i].count;
        right = right && found[i].count == expected[i].count && found[i].sum == expected[i].sum;
    }
    return right;
}

static const struct workload factorizing = { "factorize", number_bytes, false, 0, prepare_factorize, run_factorize,
                                             check_factorize };

/* ---- sleep: calls that block for 0.1 s. Each marks its item in shared memory, which a second attempt may do again
 * ---- */

static int sleep_range(pmap_task *task, size_t first, size_t last)
{
    char *done = pmap_task_arg(task);

    for (size_t i = first; i < last; i++) {
        struct timespec left = { 0, 100000000 };

        pmap_task_item(task, i);
        while (nanosleep(&left, &left) < 0 && errno == EINTR) {}
        done[i] = 1;
    }
    return 0;
}

static int prepare_sleep(struct job *job)
{
    job->out = pmap_alloc(job->pool, (size_t)job->items); /* on every path: the workers write to it */
    return job->out ? 0 : PMAP_ENOMEM;
}

static int run_sleep(struct job *job, const pmap_map_options *options)
{
    pmap_map_options with = *options;

    with.arg = job->out;
    memset(job->out, 0, (size_t)job->items);
    return pmap_for(job->pool, sleep_range, 0, (size_t)job->items, &with);
}

static bool check_sleep(struct job *job, const struct pmap_stats *stats, struct value *result)
{
    const char *done = job->out;

    (void)stats;
    *result = (struct value){ VALUE_U64, 0 };
    for (size_t i = 0; i < job->items; i++) result->bits += (uint64_t)done[i];
    return result->bits == job->items;
}

static const struct workload sleeping = { "sleep", no_bytes, false, 1, prepare_sleep, run_sleep, check_sleep };

/* ---- empty: nothing but dispatch ---- */

static int nothing(pmap_task *task, size_t first, size_t last)
{
    (void)task;
    (void)first;
    (void)last;
    return 0;
}

static int run_empty(struct job *job, const pmap_map_options *options)
{
    return pmap_for(job->pool, nothing, 0, (size_t)job->items, options);
}

/* A function that does nothing leaves nothing to count but the pool's own figure, and a killed worker may take its
 * share of that to the grave. That the call returned 0, so that every item was done, is all that can be said then. */
static bool check_empty(struct job *job, const struct pmap_stats *stats, struct value *result)
{
    bool counted = stats->deaths == 0;

    *result = (struct value){ VALUE_U64, counted ? stats->items : job->items };
    return result->bits == job->items;
}

static const struct workload empty = { "empty", no_bytes, false, 1, prepare_nothing, run_empty, check_empty };

/* ---- The table, in the order of workload_names ---- */

const struct workload *const workloads[WORKLOADS] = { &workload_sum, &actions, &factorizing, &sleeping, &empty };

uint64_t workload_items(unsigned index, const struct settings *settings, const struct input *file)
{
    static const uint64_t standard[WORKLOADS] = { 10000000, 100000000, 0, 10, 1000000 };

    if (workloads[index]->takes_input && file) return file->items;
    if (settings->has_size) return settings->size;
    return workloads[index] == &factorizing ? settings->nnumbers : standard[index];
}

unsigned workload_workers(unsigned index, uint64_t items)
{
    if (workloads[index] != &sleeping || items == 0) return pmap_cpus();
    return items < MOST_WORKERS ? (unsigned)items : MOST_WORKERS;
}

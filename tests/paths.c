/* See tests/paths.h. */
#include "tests/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

static const struct pm_path all[] = {
    {"serial", PM_ON_SERIAL, PMAP_SERIAL, PMAP_SHM, false},
    {"threads", PM_ON_THREADS, PMAP_THREADS, PMAP_SHM, true},
    {"shm", PM_ON_SHM, PMAP_PROCESSES, PMAP_SHM, true},
    {"shm-copy", PM_ON_COPY, PMAP_PROCESSES, PMAP_SHM, false},
#ifdef HAVE_ZMQ
    {"zmq", PM_ON_ZMQ, PMAP_PROCESSES, PMAP_ZMQ, false},
#endif
};
#define PATHS (sizeof all / sizeof all[0])

static bool wanted(const struct pm_path *path)
{
    const char *list = getenv("PMAP_TEST_PATHS");
    size_t n = strlen(path->name);
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, path->name, n) == 0 && (p[n] == ',' || p[n] == 0)) return true;
    return !list || !*list;
}

const struct pm_path *pm_path(unsigned bit)
{
    for (size_t i = 0; i < PATHS; i++)
        if (all[i].bit == bit && wanted(&all[i])) return &all[i];
    return NULL;
}

/* A test and a path: what cmocka hands to run_bound(). */
struct bound {
    const struct pm_path_test *test;
    const struct pm_path *path;
    char name[120];
};

static void run_bound(void **state)
{
    const struct bound *bound = *state;
    bound->test->body(bound->path);
}

int pm_paths_main(const char *name, const struct pm_path_test *tests, size_t n)
{
    size_t count = 0;
    struct bound *bound = calloc(n * PATHS, sizeof *bound);
    struct CMUnitTest *list = calloc(n * PATHS, sizeof *list);
    if (!bound || !list) return 1;
    for (size_t t = 0; t < n; t++)
        for (size_t p = 0; p < (tests[t].on ? PATHS : 1); p++) {
            if (tests[t].on && (!(tests[t].on & all[p].bit) || !wanted(&all[p]))) continue;
            struct bound *b = &bound[count];
            b->test = &tests[t];
            b->path = tests[t].on ? &all[p] : NULL;
            snprintf(b->name, sizeof b->name, tests[t].on ? "%s [%s]" : "%s", tests[t].name, all[p].name);
            list[count++] = (struct CMUnitTest){.name = b->name, .test_func = run_bound, .initial_state = b};
        }
    int failed = pm_test_main(name, list, count);
    free(bound);
    free(list);
    return failed;
}

pmap_options pm_path_options(const struct pm_path *path, unsigned workers)
{
    pmap_options options = PMAP_OPTIONS_INIT;
    options.workers = workers;
    options.executor = path->executor;
    options.channel = path->channel;
    return options;
}

unsigned pm_path_workers(const struct pm_path *path,
                         unsigned workers) { return path->executor == PMAP_SERIAL ? 1 : workers; }

pmap_pool *pm_path_open(const struct pm_path *path, unsigned workers)
{
    pmap_options options = pm_path_options(path, workers);
    pmap_pool *pool = NULL;
    EXPECT(pmap_pool_open(&pool, &options), 0);
    assert_non_null(pool);
    assert_int_equal(pmap_pool_workers(pool), pm_path_workers(path, workers));
    return pool;
}

void pm_path_close(pmap_pool *pool) { EXPECT(pmap_pool_close(pool), 0); }

void *pm_path_alloc(const struct pm_path *path, pmap_pool *pool, size_t bytes)
{
    void *memory = path->in_arena ? pmap_alloc(pool, bytes) : malloc(bytes ? bytes : 1);
    if (!memory) fail_msg("no memory for %zu bytes: %s", bytes, pmap_error());
    return memory;
}

void pm_path_free(const struct pm_path *path, pmap_pool *pool, void *memory)
{
    if (path->in_arena) pmap_free(pool, memory);
    else free(memory);
}

int pm_twice(pmap_task *task, const void *item, void *result)
{
    (void)task;
    uint32_t x;
    memcpy(&x, item, 4);
    x *= 2;
    memcpy(result, &x, 4);
    return 0;
}

int pm_small_map(pmap_pool *pool)
{
    enum { N = 500 };
    uint32_t in[N], out[N];
    for (uint32_t i = 0; i < N; i++) in[i] = i + 1;
    int e = pmap_map(pool, pm_twice, in, N, 4, out, 4, NULL);
    for (uint32_t i = 0; !e && i < N; i++)
        if (out[i] != 2 * (i + 1)) return 1;
    return e;
}

void pm_expect(int value, int expected, const char *file, int line)
{
    if (value == expected) return;
    print_error("    %d (%s) instead of %d (%s); pmap_error(): %s\n", value, pmap_strerror(value), expected,
                pmap_strerror(expected),
                pmap_error());
    _fail(file, line);
}

void pm_expect_text(const char *words, const char *file, int line)
{
    if (strstr(pmap_error(), words)) return;
    print_error("    pmap_error() is \"%s\", without \"%s\"\n", pmap_error(), words);
    _fail(file, line);
}

/* shm/heap.h: blocks never overlap and keep their bytes, wrong frees change nothing, memory goes back, and it stays
 * fast. */
#include "shm/heap.h"
#include "tests/harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define IDLE (4 * MIB) /* what may stay committed without being used */

static struct pm_arena arena;
static struct pm_heap *heap;

static void open_heap(size_t bytes)
{
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, bytes, true), 0);
    assert_int_equal(pm_heap_open(&heap, &arena), 0);
}

static void close_heap(void)
{
    pm_heap_close(heap);
    pm_arena_close(&arena);
}

static size_t used(void)
{
    size_t u, c;
    pm_heap_usage(heap, &u, &c);
    return u;
}

static size_t committed(void)
{
    size_t u, c;
    struct stat status;
    pm_heap_usage(heap, &u, &c);
    assert_int_equal(fstat(arena.fd, &status), 0);
    assert_true(c == (size_t)status.st_blocks * 512); /* the books say what the kernel says */
    return c;
}

static void *get(size_t bytes)
{
    int error = 0;
    void *p = pm_heap_alloc(heap, bytes, &error);
    if (!p) fail_msg("allocation of %zu bytes: error %d", bytes, error);
    return p;
}

static void refused(size_t bytes)
{
    int error = 0;
    assert_null(pm_heap_alloc(heap, bytes, &error));
    assert_int_equal(error, -ENOMEM);
}

static void blocks_are_aligned_and_apart(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 4096, 65536, 65537, 1 << 20, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5000000};
    enum { N = sizeof sizes / sizeof sizes[0] };
    char *p[N];
    open_heap(64 * MIB);
    assert_int_equal(committed(), 0);
    for (size_t i = 0; i < N; i++) {
        p[i] = get(sizes[i]);
        assert_int_equal((uintptr_t)p[i] % (sizes[i] >= 2 * MIB ? 2 * MIB : 64), 0);
        assert_true(p[i] >= arena.base + arena.control);
        assert_true(pm_arena_has(&arena, p[i], sizes[i]));
        memset(p[i], (int)i + 1, sizes[i]);
    }
    size_t before = committed();
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < sizes[i]; j += 61) assert_int_equal(p[i][j], i + 1);
    assert_int_equal(committed(), before); /* writing and reading committed nothing that the books do not know */
    size_t sum = 64; /* the empty one */
    for (size_t i = 0; i < N; i++) sum += (sizes[i] + 63) & ~(size_t)63;
    assert_int_equal(used(), sum);
    for (size_t i = 0; i < N; i++) assert_int_equal(pm_heap_free(heap, p[(i * 5 + 3) % N]), 0);
    assert_int_equal(used(), 0);
    assert_true(committed() <= IDLE);
    close_heap();
}

static void wrong_frees_change_nothing(void **state)
{
    (void)state;
    open_heap(16 * MIB);
    char *a = get(100), *b = get(100), *large = get(3 * MIB), local[64];
    size_t u = used(), c = committed();
    assert_int_equal(pm_heap_free(heap, NULL), 0);
    assert_int_equal(pm_heap_free(heap, local), -EINVAL);
    assert_int_equal(pm_heap_free(heap, a + 1), -EINVAL);
    assert_int_equal(pm_heap_free(heap, a + 64), -EINVAL); /* within a block, aligned */
    assert_int_equal(pm_heap_free(heap, large + 2 * MIB), -EINVAL);
    assert_int_equal(pm_heap_free(heap, arena.base), -EINVAL);                  /* the control part */
    assert_int_equal(pm_heap_free(heap, arena.base + arena.size - 64), -EINVAL); /* never allocated */
    assert_int_equal(pm_heap_free(heap, arena.base + arena.size), -EINVAL);
    assert_int_equal(pm_heap_free(heap, arena.base - 64), -EINVAL);
    assert_int_equal(used(), u);
    assert_int_equal(committed(), c);

    assert_int_equal(pm_heap_free(heap, a), 0);
    u = used();
    assert_int_equal(pm_heap_free(heap, a), -EINVAL); /* twice */
    assert_int_equal(pm_heap_free(heap, b), 0);       /* joins with both neighbours: nodes are re-used */
    assert_int_equal(pm_heap_free(heap, a), -EINVAL);
    assert_int_equal(pm_heap_free(heap, b), -EINVAL);
    assert_int_equal(used(), u - 128);
    assert_int_equal(pm_heap_free(heap, large), 0);
    assert_int_equal(used(), 0);
    close_heap();
}

static void all_of_it_can_be_one_block(void **state)
{
    (void)state;
    open_heap(16 * MIB);
    refused(16 * MIB + 1);
    refused(SIZE_MAX);
    refused(SIZE_MAX - 62);
    refused(SIZE_MAX / 2 + 1);
    for (int i = 0; i < 3; i++) {
        char *all = get(16 * MIB);
        assert_ptr_equal(all, arena.base + arena.control);
        assert_int_equal(committed(), 16 * MIB);
        all[0] = all[16 * MIB - 1] = 1;
        refused(0);
        refused(1);
        refused(2 * MIB);
        assert_int_equal(pm_heap_free(heap, all), 0);
        assert_int_equal(committed(), 0); /* large: at once */
        all = get(16 * MIB);
        assert_int_equal(all[0] + all[16 * MIB - 1], 0); /* and new again */
        assert_int_equal(pm_heap_free(heap, all), 0);
    }
    /* A gap of exactly the size is found, although its class also holds smaller ones. */
    char *a = get(2 * MIB), *b = get(7 * MIB + 64), *c = get(7 * MIB - 64 - MIB);
    (void)a;
    (void)c;
    assert_int_equal(pm_heap_free(heap, b), 0);
    assert_ptr_equal(get(7 * MIB + 64), b);
    close_heap();
}

static void freed_neighbours_become_one(void **state)
{
    (void)state;
    enum { N = 256 };
    static char *p[N];
    static const size_t strides[] = {1, 3, 85, 127, 255}; /* orders of freeing: each prime to 256 */
    open_heap(16 * MIB);
    for (size_t s = 0; s < sizeof strides / sizeof strides[0]; s++) {
        for (size_t i = 0; i < N; i++) p[i] = get(64 * KIB);
        refused(1);
        for (size_t i = 0; i < N; i++) assert_int_equal(pm_heap_free(heap, p[i * strides[s] % N]), 0);
        assert_true(committed() <= IDLE);
        char *all = get(16 * MIB);
        assert_int_equal(pm_heap_free(heap, all), 0);
    }
    close_heap();
}

static void a_loop_commits_once(void **state)
{
    (void)state;
    open_heap(64 * MIB);
    static const size_t sizes[] = {1, 64 * KIB, 100000, 512 * KIB, MIB - 64};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        assert_int_equal(pm_heap_free(heap, get(sizes[s])), 0);
        size_t before = committed(), asked = atomic_load(&arena.unasked);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(pm_heap_free(heap, get(sizes[s])), 0);
            assert_true(atomic_load(&arena.unasked) == asked); /* changed by every commit */
        }
        assert_int_equal(committed(), before);
    }
    close_heap();
}

static void small_blocks_give_their_pages_back(void **state)
{
    (void)state;
    enum { N = 40000 };
    static char *p[N];
    open_heap(64 * MIB);
    for (size_t i = 0; i < N; i++) p[i] = get(1000);
    size_t peak = committed();
    assert_true(peak >= N * KIB && peak <= N * KIB + 64 * KIB);
    for (size_t i = 0; i < N; i += 2) assert_int_equal(pm_heap_free(heap, p[i]), 0);
    assert_int_equal(committed(), peak); /* every page still holds a block */
    for (size_t i = 1; i < N; i += 2) assert_int_equal(pm_heap_free(heap, p[i]), 0);
    assert_true(committed() <= IDLE);
    assert_int_equal(used(), 0);
    close_heap();
}

static void pages_shared_with_a_live_block_stay(void **state)
{
    (void)state;
    open_heap(64 * MIB);
    char *before = get(100), *middle = get(MIB + 100), *after = get(100);
    memset(before, 1, 100);
    memset(middle, 2, MIB + 100);
    memset(after, 3, 100);
    assert_int_equal(pm_heap_free(heap, middle), 0);
    for (int i = 0; i < 100; i++) assert_true(before[i] == 1 && after[i] == 3);
    assert_int_equal(committed(), 128 * KIB); /* the first and the last unit */
    close_heap();
}

static void a_refusal_leaves_the_books_as_they_were(void **state)
{
    (void)state;
    open_heap(16 * MIB);
    char *first = get(100);
    size_t u = used(), c = committed();
    int fd = arena.fd, error = 0;
    arena.fd = -1; /* now every commit is refused, by both ways of doing it */
    assert_int_equal(mprotect(arena.base + arena.control, arena.size - arena.control, PROT_READ), 0);
    assert_null(pm_heap_alloc(heap, MIB / 2, &error));
    assert_int_equal(error, -EBADF);
    assert_null(pm_heap_alloc(heap, 3 * MIB, &error));
    char *second = get(100); /* needs no page */
    arena.fd = fd;
    assert_int_equal(mprotect(arena.base + arena.control, arena.size - arena.control, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(pm_heap_free(heap, second), 0);
    assert_int_equal(used(), u);
    assert_int_equal(committed(), c);
    assert_int_equal(pm_heap_free(heap, first), 0);
    assert_int_equal(pm_heap_free(heap, get(16 * MIB)), 0);
    close_heap();
}

static void more_than_the_machine_has_is_refused(void **state)
{
    (void)state;
    open_heap(0);
    size_t all = arena.size - arena.control;
    if (pm_arena_available() >= all) {
        close_heap();
        skip();
    }
    refused(all);
    assert_int_equal(used(), 0);
    assert_int_equal(committed(), 0);
    assert_int_equal(pm_heap_free(heap, get(3 * MIB)), 0);
    close_heap();
}

/* ---- A long mixed life ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static size_t mixed_size(uint64_t *seed)
{
    uint64_t r = next_random(seed);
    /* mostly to 4 KiB, some 64 KiB, few 1 MiB */
    unsigned shift = (unsigned)(r % 100 < 97 ? r % 13 : r % 100 < 99 ? 16 : 20);
    return (size_t)(next_random(seed) % ((uint64_t)1 << shift)) + 8;
}

/* Each block carries its own address and size at both ends: an overlap destroys one of them. */
static void mark(char *p, size_t bytes)
{
    uint64_t tag = (uint64_t)(uintptr_t)p ^ (uint64_t)bytes << 40;
    memcpy(p, &tag, 8);
    memcpy(p + bytes - 8, &tag, 8);
}

static bool marked(const char *p, size_t bytes)
{
    uint64_t tag = (uint64_t)(uintptr_t)p ^ (uint64_t)bytes << 40, a, b;
    memcpy(&a, p, 8);
    memcpy(&b, p + bytes - 8, 8);
    return b == tag && (a == tag || bytes < 16); /* short ones: the ends overlap, the second was written last */
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void a_million_mixed_calls_do_not_degrade_it(void **state)
{
    (void)state;
    enum { SLOTS = 4000, CALLS = 1000000, TENTH = CALLS / 10 };
    static char *p[SLOTS];
    static size_t size[SLOTS];
    uint64_t seed = 88172645463325252u;
    int64_t tenth[10];
    open_heap(512 * MIB);
    size_t live = 0;
    for (int t = -1; t < 10; t++) { /* one tenth more before, to fill it */
        int64_t start = cpu_ns();
        for (int i = 0; i < TENTH; i++) {
            size_t s = (size_t)(next_random(&seed) % SLOTS);
            if (p[s]) {
                if (!marked(p[s], size[s])) fail_msg("block %p of %zu bytes was overwritten", (void *)p[s], size[s]);
                assert_int_equal(pm_heap_free(heap, p[s]), 0);
                live -= (size[s] + 63) & ~(size_t)63;
                p[s] = NULL;
            } else {
                size[s] = mixed_size(&seed);
                p[s] = get(size[s]);
                mark(p[s], size[s]);
                live += (size[s] + 63) & ~(size_t)63;
            }
        }
        if (t >= 0) tenth[t] = cpu_ns() - start;
        assert_int_equal(used(), live);
        assert_true(committed() <= 4 * live + IDLE); /* nor does it spread over more and more pages */
    }
    print_message("    first tenth %lld ns a call, last tenth %lld\n", (long long)(tenth[0] / TENTH), (long long)(tenth[9] / TENTH));
    assert_true(tenth[9] < 5 * tenth[0]);
    for (size_t s = 0; s < SLOTS; s++) {
        if (p[s]) assert_true(marked(p[s], size[s]));
        assert_int_equal(pm_heap_free(heap, p[s]), 0);
        p[s] = NULL;
    }
    assert_int_equal(used(), 0);
    assert_true(committed() <= IDLE);
    size_t all = arena.size - arena.control;
    if (pm_arena_available() > all) assert_int_equal(pm_heap_free(heap, get(all)), 0); /* one block again */
    close_heap();
}

static void *thread_main(void *arg)
{
    enum { SLOTS = 64, CALLS = 10000 };
    char *p[SLOTS] = {0};
    size_t size[SLOTS] = {0};
    uint64_t seed = (uint64_t)(uintptr_t)arg * 7919 + 1;
    intptr_t wrong = 0;
    for (int i = 0; i < CALLS; i++) {
        size_t s = (size_t)(next_random(&seed) % SLOTS);
        int error;
        if (p[s]) {
            wrong += !marked(p[s], size[s]) || pm_heap_free(heap, p[s]) != 0;
            p[s] = NULL;
        } else {
            size[s] = mixed_size(&seed);
            p[s] = pm_heap_alloc(heap, size[s], &error);
            if (p[s])
                mark(p[s], size[s]);
            else
                wrong++;
        }
    }
    for (size_t s = 0; s < SLOTS; s++) wrong += pm_heap_free(heap, p[s]) != 0;
    return (void *)wrong;
}

static void threads_may_share_it(void **state)
{
    (void)state;
    pthread_t threads[4];
    open_heap(256 * MIB);
    for (uintptr_t i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(used(), 0);
    close_heap();
}

/* ---- Without memory for the books ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static int fill_without_memory(void *arg)
{
    (void)arg;
    size_t pages = 0, count = 0, most = 1000000;
    FILE *file = fopen("/proc/self/statm", "re");
    void **all = malloc(most * sizeof *all);
    if (!file || !all || fscanf(file, "%zu", &pages) != 1) return 2;
    fclose(file);
    struct rlimit limit = {pages * (size_t)sysconf(_SC_PAGESIZE), RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return 3;
    int error = 0;
    while (count < most && (all[count] = pm_heap_alloc(heap, 64, &error))) count++;
    if (count == most || error != -ENOMEM || used() != count * 64) return 4;
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_AS, &limit) != 0) return 5;
    for (int i = 0; i < 2000; i++) {
        void *more = pm_heap_alloc(heap, 64, &error); /* with memory again, it goes on */
        if (!more || pm_heap_free(heap, more) != 0) return 6;
    }
    while (count) /* none was lost or broken */
        if (pm_heap_free(heap, all[--count]) != 0) return 7;
    free(all);
    return used() == 0 ? 0 : 8;
}

static void no_memory_for_the_books_is_an_error(void **state)
{
    (void)state;
#ifdef SANITIZED
    skip(); /* the sanitizers' malloc() does not live with such a limit */
#endif
    const char *preload = getenv("LD_PRELOAD");
    if (preload && strstr(preload, "vgpreload")) skip();
    open_heap(128 * MIB);
    int status = pm_test_run_child(fill_without_memory, NULL, 30000);
    close_heap();
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_apart),
        cmocka_unit_test(wrong_frees_change_nothing),
        cmocka_unit_test(all_of_it_can_be_one_block),
        cmocka_unit_test(freed_neighbours_become_one),
        cmocka_unit_test(a_loop_commits_once),
        cmocka_unit_test(small_blocks_give_their_pages_back),
        cmocka_unit_test(pages_shared_with_a_live_block_stay),
        cmocka_unit_test(a_refusal_leaves_the_books_as_they_were),
        cmocka_unit_test(more_than_the_machine_has_is_refused),
        cmocka_unit_test(a_million_mixed_calls_do_not_degrade_it),
        /* before threads: each leaves malloc() a reserve of address space */
        cmocka_unit_test(no_memory_for_the_books_is_an_error),
        cmocka_unit_test(threads_may_share_it),
    };
    return PM_TEST_MAIN("heap", tests);
}

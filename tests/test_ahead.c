/* Mapping ahead: what is announced, what a reader maps of it, that memory given back is not looked at again, and that a pool's idle workers
 * have new memory in their page tables without anybody's asking. */
#include "tests/harness.h"
#include "workers/ahead.h"
#include "workers/processes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/heap.h"

#define MIB ((size_t)1 << 20)

static struct pm_arena arena;
static struct pm_ahead ahead;

static void moved(void *to, size_t offset, size_t bytes, bool there)
{
    if (there) (void)pm_ahead_add(to, offset, bytes);
    else pm_ahead_strike(to, offset, bytes);
}

static void open_arena(void)
{
    memset(&ahead, 0, sizeof ahead);
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 256 * MIB, false), 0);
    arena.tell = moved;
    arena.to = &ahead;
}

static size_t held(void)
{
    struct stat s;
    assert_int_equal(fstat(arena.fd, &s), 0);
    return (size_t)s.st_blocks * 512;
}

static unsigned steps(struct pm_ahead_mark *mark)
{
    unsigned n = 0;
    while (pm_ahead_step(&ahead, &arena, mark) && n < 1000) n++;
    return n;
}

static void follows_a_commit(void **state)
{
    (void)state;
    open_arena();
    struct pm_ahead_mark early = pm_ahead_now(&ahead), late;
    assert_int_equal(steps(&early), 0);
    assert_int_equal(pm_arena_commit(&arena, 2 * MIB, 6 * MIB), 0);
    assert_int_equal(steps(&early), 2); /* 4 MiB, and the rest */
    assert_int_equal(steps(&early), 0);
    late = pm_ahead_now(&ahead); /* of a worker that was forked meanwhile: it does not map what is old */
    assert_int_equal(steps(&late), 0);
    assert_int_equal(pm_arena_commit(&arena, 8 * MIB, 2 * MIB), 0); /* right behind it */
    assert_int_equal(atomic_load(&ahead.n), 1);
    assert_int_equal(steps(&early), 1);
    assert_int_equal(steps(&late), 1);
    assert_int_equal(pm_arena_commit(&arena, 12 * MIB, 2 * MIB), 0); /* somewhere else */
    assert_int_equal(atomic_load(&ahead.n), 2);
    assert_int_equal(steps(&early), 1);
    assert_int_equal(steps(&late), 1);
    pm_arena_close(&arena);
}

static void small_pieces_wake_nobody(void **state)
{
    (void)state;
    open_arena();
    struct pm_ahead_mark mark = pm_ahead_now(&ahead);
    assert_int_equal(pm_arena_commit(&arena, 0, 2 * MIB), 0); /* the control part */
    for (size_t at = 2 * MIB; at < 4 * MIB; at += 64 << 10) assert_int_equal(pm_arena_commit(&arena, at, 64 << 10), 0);
    assert_int_equal(steps(&mark), 0);
    pm_arena_close(&arena);
}

static void what_is_given_back_stays_away(void **state)
{
    (void)state;
    open_arena();
    struct pm_ahead_mark none = pm_ahead_now(&ahead), half = none;
    assert_int_equal(pm_arena_commit(&arena, 2 * MIB, 16 * MIB), 0);
    assert_int_equal(pm_arena_commit(&arena, 32 * MIB, 4 * MIB), 0);
    assert_true(pm_ahead_step(&ahead, &arena, &half));
    pm_arena_release(&arena, 4 * MIB, 12 * MIB);
    size_t before = held();
    assert_int_equal(steps(&half), 1); /* the other one is still there */
    assert_int_equal(steps(&none), 1);
    assert_int_equal(held(), before);
    pm_arena_close(&arena);
}

/* Who was busy for long maps the last extents only. */
static void old_ones_are_forgotten(void **state)
{
    (void)state;
    open_arena();
    struct pm_ahead_mark mark = pm_ahead_now(&ahead);
    for (size_t i = 0; i < 40; i++) assert_int_equal(pm_arena_commit(&arena, 2 * MIB + i * 4 * MIB, MIB), 0);
    size_t before = held();
    assert_int_equal(steps(&mark), PM_EXTENTS);
    assert_int_equal(held(), before);
    pm_arena_close(&arena);
}

/* Pages of the arena in a worker's page tables, in KiB. */
static bool has_mapped(void *pid)
{
    char name[64], line[256];
    long kib = 0;
    (void)snprintf(name, sizeof name, "/proc/%d/status", *(int *)pid);
    FILE *f = fopen(name, "re");
    if (!f) return false;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "RssShmem: %ld", &kib) == 1) break;
    (void)fclose(f);
    return kib >= 32 << 10;
}

static void workers_follow(void **state)
{
    (void)state;
    const struct pm_setup setup = {.workers = 1, .most = 1, .cpus = 2, .memory = 256 * MIB};
    struct pm_executor *executor;
    char text[200];
    int e, pid;
    assert_int_equal(pm_processes.open(&executor, &setup, text, sizeof text), 0);
    assert_int_equal(pm_processes.pids(executor, &pid, 1), 1);
    struct pm_heap *heap = pm_processes.heap(executor);
    void *p = pm_heap_alloc(heap, 32 * MIB, &e);
    assert_non_null(p);
    bool known = madvise(p, 4096, 22 /* MADV_POPULATE_READ */) == 0 || errno != EINVAL;
    if (known && !pm_test_wait_until(has_mapped, &pid, 10000)) fail_msg("worker %d has not mapped what was allocated", pid);
    assert_int_equal(pm_heap_free(heap, p), 0);
    assert_int_equal(pm_processes.end(executor, -1), 0);
    pm_processes.close(executor);
    if (!known) skip();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_a_commit),
        cmocka_unit_test(small_pieces_wake_nobody),
        cmocka_unit_test(what_is_given_back_stays_away),
        cmocka_unit_test(old_ones_are_forgotten),
        cmocka_unit_test(workers_follow),
    };
    return PM_TEST_MAIN("ahead", tests);
}

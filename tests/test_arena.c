/* shm/arena.h: what is reserved, committed and given back, as the kernel counts it; and limits, which are errors and
 * never signals. */
#include "shm/arena.h"
#include "tests/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* Bytes that the kernel has allocated for the arena. */
static size_t taken(const struct pm_arena *arena)
{
    struct stat status;
    assert_int_equal(fstat(arena->fd, &status), 0);
    return (size_t)status.st_blocks * 512;
}

static void an_open_arena_is_sealed_aligned_and_empty(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 5, 40 * MIB + 1, true), 0);
    assert_int_equal(arena.control, 2 * MIB);
    assert_int_equal(arena.size, 44 * MIB);
    assert_int_equal((uintptr_t)arena.base % (2 * MIB), 0);
    assert_int_equal(fcntl(arena.fd, F_GETFD), FD_CLOEXEC);
    int seals = fcntl(arena.fd, F_GET_SEALS), wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    assert_int_equal(seals & wanted, wanted);
    assert_int_equal(ftruncate(arena.fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    char link[64], target[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", arena.fd);
    assert_true(readlink(link, target, sizeof target - 1) > 0);
    assert_non_null(strstr(target, "memfd:pmap"));
    assert_int_equal(taken(&arena), 0);

    assert_true(pm_arena_has(&arena, arena.base, arena.size));
    assert_true(pm_arena_has(&arena, arena.base + arena.size - 1, 1));
    assert_false(pm_arena_has(&arena, arena.base + arena.size - 1, 2));
    assert_false(pm_arena_has(&arena, arena.base + arena.size, 0));
    assert_false(pm_arena_has(&arena, arena.base - 1, 1));
    pm_arena_close(&arena);
}

static void close_is_safe_on_what_is_not_open(void **state)
{
    (void)state;
    struct pm_arena zeroed = {0}, arena;
    pm_arena_close(&zeroed);
    assert_int_not_equal(fcntl(0, F_GETFD), -1); /* a zeroed fd is not ours to close */
    assert_int_equal(pm_arena_open(&arena, SIZE_MAX - 5, 1, false), -ENOMEM);
    pm_arena_close(&arena);
    assert_int_equal(pm_arena_open(&arena, 1, SIZE_MAX - 5, false), -ENOMEM);
    pm_arena_close(&arena);
    assert_int_equal(pm_arena_open(&arena, 1, 2 * MIB, false), 0);
    pm_arena_close(&arena);
    pm_arena_close(&arena);
}

static void the_default_is_twice_the_memory(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 0, true), 0);
    size_t memory = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), data = arena.size - arena.control;
    struct rlimit space;
    getrlimit(RLIMIT_AS, &space);
    if (space.rlim_cur == RLIM_INFINITY) assert_true(data >= 64 * MIB);
    assert_true(data <= 2 * memory + 2 * MIB || data == 64 * MIB);
    assert_int_equal(taken(&arena), 0);
    pm_arena_close(&arena);
}

static void commit_and_release(bool huge)
{
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 32 * MIB, huge), 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    assert_int_equal(pm_arena_commit(&arena, 10, 1), 0);
    assert_int_equal(taken(&arena), page);
    assert_int_equal(pm_arena_commit(&arena, 2 * page - 1, 2), 0); /* two pages for two bytes */
    assert_int_equal(taken(&arena), 3 * page);
    assert_int_equal(pm_arena_commit(&arena, 0, 0), 0);

    /* From the middle of a huge page to the middle of another: pieces of both kinds. */
    size_t from = 5 * MIB, bytes = 8 * MIB + page;
    assert_int_equal(pm_arena_commit(&arena, from, bytes), 0);
    assert_int_equal(taken(&arena), 3 * page + bytes);
    memset(arena.base + from, 0x5a, bytes);
    assert_int_equal(taken(&arena), 3 * page + bytes); /* writing took nothing more */

    /* Only whole pages inside are given back; the rest keeps its bytes. */
    pm_arena_release(&arena, from + 1, 2 * page);
    assert_int_equal(taken(&arena), 2 * page + bytes);
    assert_int_equal(arena.base[from + page - 1], 0x5a);
    assert_int_equal(arena.base[from + 2 * page], 0x5a);
    pm_arena_release(&arena, from, bytes);
    assert_int_equal(taken(&arena), 3 * page);
    assert_int_equal(pm_arena_commit(&arena, from, bytes), 0);
    for (size_t i = 0; i < bytes; i += 512) assert_int_equal(arena.base[from + i], 0);

    assert_int_equal(pm_arena_commit(&arena, arena.size, 1), -EINVAL);
    assert_int_equal(pm_arena_commit(&arena, arena.size + 1, 0), -EINVAL);
    assert_int_equal(pm_arena_commit(&arena, 0, arena.size + 1), -EINVAL);
    assert_int_equal(pm_arena_commit(&arena, 4096, SIZE_MAX), -EINVAL);
    pm_arena_release(&arena, 4096, SIZE_MAX); /* refused: nothing happens */
    assert_int_equal(taken(&arena), 3 * page + bytes);
    pm_arena_close(&arena);
}

static void pages_are_committed_and_given_back(void **state)
{
    (void)state;
    commit_and_release(false);
}

static void the_same_with_huge_pages(void **state)
{
    (void)state;
    commit_and_release(true);
}

static void a_child_shares_what_is_committed_later(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 16 * MIB, false), 0);
    int go[2];
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char *address = NULL;
        close(arena.fd); /* workers do: the mapping is enough */
        if (read(go[0], &address, sizeof address) != sizeof address || strcmp(address, "hello") != 0) _exit(1);
        strcpy(address, "there");
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(pm_arena_commit(&arena, 6 * MIB, 100), 0);
    char *address = arena.base + 6 * MIB;
    strcpy(address, "hello");
    assert_int_equal(write(go[1], &address, sizeof address), sizeof address);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_string_equal(address, "there");
    close(go[0]);
    close(go[1]);
    pm_arena_close(&arena);
}

static void what_the_machine_does_not_have_is_refused(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 0, true), 0);
    size_t available = pm_arena_available(), all = arena.size - arena.control;
    assert_true(available > 0);
    if (available >= all) { /* plenty of swap, or a reservation cut by a limit */
        pm_arena_close(&arena);
        skip();
    }
    assert_int_equal(pm_arena_commit(&arena, arena.control, all), -ENOMEM);
    assert_int_equal(taken(&arena), 0);
    assert_int_equal(pm_arena_commit(&arena, arena.control, 4096), 0); /* a small one still works */
    assert_int_equal(pm_arena_commit(&arena, arena.control + 4096, 2 * MIB), 0);
    pm_arena_close(&arena);
}

static void a_failed_commit_gives_all_back(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 16 * MIB, true), 0);
    size_t size = arena.size;
    /* Unmapping a hole makes MADV_POPULATE_WRITE fail there, after pieces before it were taken. */
    assert_int_equal(munmap(arena.base + 8 * MIB, 4096), 0);
    int error = pm_arena_commit(&arena, 2 * MIB, 16 * MIB);
    if (error == 0) { /* a kernel without MADV_POPULATE_WRITE: fallocate() does not mind the hole */
        pm_arena_close(&arena);
        skip();
    }
    assert_int_equal(error, -ENOMEM);
    assert_int_equal(taken(&arena), 0);
    assert_int_equal(arena.size, size);
    pm_arena_close(&arena);
}

static _Atomic int ticks;
static void on_tick(int number)
{
    (void)number;
    atomic_fetch_add(&ticks, 1);
}

static void signals_do_not_stop_a_commit(void **state)
{
    (void)state;
    const char *preloaded = getenv("LD_PRELOAD");
    if (preloaded && strstr(preloaded, "vgpreload")) skip(); /* valgrind delivers a storm of signals late, some behind the test */
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 64 * MIB, false), 0);
    struct sigaction action = {.sa_handler = on_tick}, before;
    sigaction(SIGALRM, &action, &before);
    struct itimerval timer = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int rounds = 0, error = 0;
    while (error == 0 && rounds < 1000 && (atomic_load(&ticks) < 20 || rounds < 3)) {
        error = pm_arena_commit(&arena, 2 * MIB, 64 * MIB);
        if (taken(&arena) != 64 * MIB) error = -EIO;
        pm_arena_release(&arena, 2 * MIB, 64 * MIB);
        rounds++;
    }
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(error, 0);
    assert_true(atomic_load(&ticks) > 0);
    pm_arena_close(&arena);
}

/* ---- Limits, each in a child of its own ---- */

static int under_file_limit(void *arg)
{
    size_t limit = *(size_t *)arg;
    struct rlimit r = {limit, limit};
    struct pm_arena arena;
    if (setrlimit(RLIMIT_FSIZE, &r) != 0) return 2;
    int error = pm_arena_open(&arena, 2 * MIB, (size_t)1 << 30, true);
    if (limit < 18 * MIB) return error == -ENOMEM ? 0 : 3;
    if (error || arena.size != limit / (2 * MIB) * (2 * MIB)) return 4;
    error = pm_arena_commit(&arena, arena.size - 2 * MIB, 2 * MIB);
    arena.base[arena.size - 1] = 1;
    pm_arena_close(&arena);
    return error ? 5 : 0;
}

static void a_file_size_limit_is_no_signal(void **state)
{
    (void)state;
    static const size_t limits[] = {0, 4096, 18 * MIB - 1, 18 * MIB, 33 * MIB};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        size_t limit = limits[i];
        assert_int_equal(pm_test_run_child(under_file_limit, &limit, 20000), 0);
    }
}

static int under_space_limit(void *arg)
{
    size_t more = *(size_t *)arg, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%zu", &pages) != 1) return 2;
    fclose(file);
    size_t limit = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    struct rlimit r = {limit, limit};
    struct pm_arena arena;
    if (setrlimit(RLIMIT_AS, &r) != 0) return 3;
    int error = pm_arena_open(&arena, 2 * MIB, (size_t)4 << 30, true);
    if (more < 16 * MIB) return error == -ENOMEM ? 0 : 4;
    if (error) return 5;
    size_t data = arena.size - arena.control;
    pm_arena_close(&arena);
    return data < more && data >= more / 4 ? 0 : 6;
}

static void an_address_space_limit_halves_the_reservation(void **state)
{
    (void)state;
    const char *preload = getenv("LD_PRELOAD");
    if (preload && strstr(preload, "vgpreload")) skip(); /* valgrind itself could not go on */
    static const size_t more[] = {8 * MIB, 200 * MIB, 1000 * MIB};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        size_t bytes = more[i];
        assert_int_equal(pm_test_run_child(under_space_limit, &bytes, 20000), 0);
    }
}

/* ---- Populate: counted in page faults of a child whose page tables are empty ---- */

struct reader {
    struct pm_arena *arena;
    bool populate;
};

/* Not checked by sanitizers: touching their shadow of it would fault too. */
__attribute__((noinline, no_sanitize("address"), no_sanitize("thread"))) static int read_all(const volatile char *p)
{
    int sum = 0;
    for (size_t at = 0; at < 64 * MIB; at += 4096) sum += p[at];
    return sum;
}

static int count_faults(void *arg)
{
    struct reader *reader = arg;
    struct rusage before, after;
    if (reader->populate) pm_arena_populate(reader->arena, 2 * MIB, 64 * MIB);
    getrusage(RUSAGE_SELF, &before);
    int sum = read_all(reader->arena->base + 2 * MIB);
    getrusage(RUSAGE_SELF, &after);
    long faults = after.ru_minflt - before.ru_minflt;
    return sum != 0 ? 255 : faults > 250 ? 250 : (int)faults;
}

static void populated_pages_do_not_fault(void **state)
{
    (void)state;
    struct pm_arena arena;
    assert_int_equal(pm_arena_open(&arena, 2 * MIB, 64 * MIB, false), 0);
    assert_int_equal(pm_arena_commit(&arena, 2 * MIB, 64 * MIB), 0);
    struct reader without = {&arena, false}, with = {&arena, true};
    int many = pm_test_run_child(count_faults, &without, 20000), few = pm_test_run_child(count_faults, &with, 20000);
    bool known = madvise(arena.base, 4096, 22 /* MADV_POPULATE_READ */) == 0 || errno != EINVAL;
    pm_arena_populate(&arena, arena.size, 1); /* outside, and nothing: no effect */
    pm_arena_populate(&arena, 0, 0);
    pm_arena_close(&arena);
    assert_true(WIFEXITED(many) && WIFEXITED(few));
    if (!known) skip();
    assert_true(WEXITSTATUS(many) >= 100 && WEXITSTATUS(many) != 255);
    assert_true(WEXITSTATUS(few) <= 30);
}

static void available_is_within_the_machine(void **state)
{
    (void)state;
    size_t memory = 0, swap = 0;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "MemTotal: %zu", &memory);
        sscanf(line, "SwapTotal: %zu", &swap);
    }
    fclose(file);
    size_t available = pm_arena_available();
    assert_true(available > 0);
    assert_true(available < (memory + swap) * 1024);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_arena_is_sealed_aligned_and_empty),
        cmocka_unit_test(close_is_safe_on_what_is_not_open),
        cmocka_unit_test(the_default_is_twice_the_memory),
        cmocka_unit_test(pages_are_committed_and_given_back),
        cmocka_unit_test(the_same_with_huge_pages),
        cmocka_unit_test(a_child_shares_what_is_committed_later),
        cmocka_unit_test(what_the_machine_does_not_have_is_refused),
        cmocka_unit_test(a_failed_commit_gives_all_back),
        cmocka_unit_test(signals_do_not_stop_a_commit),
        cmocka_unit_test(a_file_size_limit_is_no_signal),
        cmocka_unit_test(an_address_space_limit_halves_the_reservation),
        cmocka_unit_test(populated_pages_do_not_fault),
        cmocka_unit_test(available_is_within_the_machine),
    };
    return PM_TEST_MAIN("arena", tests);
}

/* A worker makes room for another that waits behind it, and for nobody else. */
#include "tests/harness.h"
#include "workers/room.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/process.h"

static struct pm_slot slot[2];
static struct pm_board board;
static struct pm_worker worker;

static cpu_set_t all;
static int first; /* of the CPUs that this program may use */

/* Two slots, and this process is worker 0. */
static bool two_cpus(void)
{
    memset(slot, 0, sizeof slot);
    board.slot = slot;
    atomic_store(&board.wanted, 2);
    worker.board = &board;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (first = 0; !CPU_ISSET((unsigned)first, &all);) first++;
    return CPU_COUNT(&all) > 1;
}

static void only(pid_t pid, int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)cpu, &one);
    assert_int_equal(sched_setaffinity(pid, sizeof one, &one), 0);
}

static bool waits_there(void *pid) { return pm_process_queue(*(pid_t *)pid) == first; }
static bool sleeps(void *pid) { return pm_process_queue(*(pid_t *)pid) < 0; }

/* A process on that CPU, which works or sleeps. */
static pid_t start(bool working)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        while (working) __asm__ __volatile__("" ::: "memory");
        for (;;) pause();
    }
    only(pid, first);
    if (!pm_test_wait_until(working ? waits_there : sleeps, &pid, 10000)) fail_msg("process %d is not there", (int)pid);
    return pid;
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* How often of 20 times this process is elsewhere afterwards. */
static unsigned moved(void)
{
    unsigned n = 0;
    for (int i = 0; i < 20; i++) {
        cpu_set_t then;
        only(0, first);
        assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0); /* it may go anywhere, and stays */
        pm_room_make(&worker);
        n += sched_getcpu() != first;
        assert_int_equal(sched_getaffinity(0, sizeof then, &then), 0);
        assert_true(CPU_EQUAL(&then, &all));
    }
    return n;
}

static void goes_for_one_that_waits(void **state)
{
    (void)state;
    if (!two_cpus()) skip();
    pid_t pid = start(true);
    atomic_store(&slot[1].pid, pid);
    unsigned n = moved();
    if (n < 15) fail_msg("a worker went elsewhere %u times of 20", n);
    atomic_store(&slot[1].spot.job, 1); /* that one has its part of the work */
    n = moved();
    if (n > 5) fail_msg("a worker went elsewhere %u times of 20, for one that works", n);
    end(pid);
}

static void stays_for_one_that_sleeps(void **state)
{
    (void)state;
    if (!two_cpus()) skip();
    pid_t pid = start(false);
    atomic_store(&slot[1].pid, pid);
    unsigned n = moved();
    if (n > 5) fail_msg("a worker went elsewhere %u times of 20", n);
    end(pid);
    atomic_store(&slot[1].pid, pid); /* which is nobody now */
    assert_true(moved() <= 5);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_for_one_that_waits),
        cmocka_unit_test(stays_for_one_that_sleeps),
    };
    return PM_TEST_MAIN("room", tests);
}

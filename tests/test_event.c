/* shm/event.h: no system call when nobody sleeps, no wake-up lost, bounded waits; with the real calls and with counted,
 * false ones.  And the flag on top of it, shm/flag.h. */
#include "shm/event.h"
#include "shm/flag.h"
#include "tests/harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pm_calls real;
static struct pm_event event;
static int64_t fake_time;
static int waits, wakes, last_wake, clocks;
static int wait_result;      /* what the false futex_wait returns */
static bool wait_changes;    /* it changes seq, as a notifier would */
static int64_t last_timeout;

static int64_t fake_now(void)
{
    clocks++;
    return fake_time;
}

static int fake_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    waits++;
    last_timeout = timeout_ns;
    assert_ptr_equal(word, &event.seq);
    assert_int_equal(expected, 7);
    assert_int_equal(atomic_load(&event.sleepers), 1);
    if (wait_changes && waits == 3) atomic_store(&event.seq, 8);
    fake_time += 10;
    return wait_result;
}

static int fake_wake(_Atomic uint32_t *word, int n)
{
    assert_ptr_equal(word, &event.seq);
    wakes++;
    last_wake = n;
    return 0;
}

static int set_fake(void **state)
{
    (void)state;
    real = pm_calls;
    pm_calls = (struct pm_calls){fake_now, fake_wait, fake_wake};
    memset(&event, 0, sizeof event);
    atomic_store(&event.seq, 7);
    fake_time = 1000;
    waits = wakes = clocks = wait_result = 0;
    wait_changes = false;
    return 0;
}

static int set_real(void **state)
{
    (void)state;
    pm_calls = real;
    return 0;
}

static void notify_without_sleepers_makes_no_call(void **state)
{
    (void)state;
    pm_event_notify(&event, 1);
    assert_int_equal(atomic_load(&event.seq), 8);
    assert_int_equal(wakes, 0);
    atomic_store(&event.sleepers, 1);
    pm_event_notify(&event, 3);
    assert_int_equal(wakes, 1);
    assert_int_equal(last_wake, 3);
}

static void a_notify_before_the_wait_is_not_lost(void **state)
{
    (void)state;
    uint32_t key = pm_event_key(&event);
    pm_event_notify(&event, 1);
    assert_int_equal(pm_event_wait(&event, key, -1), 0);
    assert_int_equal(waits, 0);
    assert_int_equal(atomic_load(&event.sleepers), 0);
}

static void signals_and_false_wakeups_do_not_end_a_wait(void **state)
{
    (void)state;
    static const int results[] = {0, -EINTR, -EAGAIN};
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&event.seq, 7);
        waits = 0;
        wait_result = results[i];
        wait_changes = true;
        assert_int_equal(pm_event_wait(&event, 7, -1), 0);
        assert_int_equal(waits, 3);
        assert_true(last_timeout < 0);
        assert_int_equal(atomic_load(&event.sleepers), 0);
    }
}

static void a_wait_ends_at_its_time(void **state)
{
    (void)state;
    wait_result = -EINTR; /* each costs 10 ns of the false time; the time left shrinks accordingly */
    assert_int_equal(pm_event_wait(&event, 7, 35), -ETIMEDOUT);
    assert_int_equal(waits, 4);
    assert_int_equal(last_timeout, 5);
    assert_int_equal(atomic_load(&event.sleepers), 0);

    waits = 0;
    assert_int_equal(pm_event_wait(&event, 7, 0), -ETIMEDOUT);
    assert_int_equal(waits, 0);

    wait_changes = true; /* the longest time must not overflow into the past */
    assert_int_equal(pm_event_wait(&event, 7, INT64_MAX), 0);
    assert_int_equal(waits, 3);
}

static void a_refused_futex_is_reported(void **state)
{
    (void)state;
    wait_result = -ENOSYS;
    assert_int_equal(pm_event_wait(&event, 7, -1), -ENOSYS);
    assert_int_equal(waits, 1);
    assert_int_equal(atomic_load(&event.sleepers), 0);
}

static int64_t moving_now(void)
{
    clocks++;
    return fake_time += 1000;
}

static void spinning_makes_no_call_and_ends(void **state)
{
    (void)state;
    pm_calls.now_ns = moving_now;
    assert_int_equal(pm_event_spin(&event, 6, 1000), 1);
    assert_int_equal(clocks, 0);
    assert_int_equal(pm_event_spin(&event, 7, 0), 0);
    assert_int_equal(clocks, 0);
    assert_int_equal(pm_event_spin(&event, 7, 5000), 0);
    assert_int_equal(clocks, 6); /* one at the start, then one for each microsecond of false time */
    assert_int_equal(waits + wakes, 0);
    assert_int_equal(atomic_load(&event.sleepers), 0);
}

/* ---- The flag ---- */

static struct pm_flag flag;

/* While the waiter sleeps: first the wake-up of one who had set the flag before this wait, and lost his CPU before he woke; then a pulse. */
static int late_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    (void)expected;
    (void)timeout_ns;
    assert_ptr_equal(word, &flag.changed.seq);
    if (++waits == 1) pm_event_notify(&flag.changed, INT32_MAX);
    else {
        pm_flag_put(&flag, true);
        pm_flag_put(&flag, false);
    }
    return 0;
}

static int late_wake(_Atomic uint32_t *word, int n) { return (void)word, (void)n, 0; }

static void a_late_wakeup_sets_no_flag(void **state)
{
    (void)state;
    pm_calls.futex_wait = late_wait;
    pm_calls.futex_wake = late_wake;
    assert_int_equal(pm_flag_wait(&flag, 1000000000), 0);
    assert_int_equal(waits, 2); /* not the first, which was about nothing; the second although the flag is clear again */
    assert_int_equal(pm_flag_is_set(&flag), 0);
}

static void setting_and_clearing_twice_is_once(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        for (int twice = 0; twice < 2; twice++) {
            pm_flag_put(&flag, i % 2 == 0);
            assert_int_equal(pm_flag_is_set(&flag), i % 2 == 0);
        }
        assert_int_equal(pm_flag_wait(&flag, 0), i % 2 == 0 ? 0 : -ETIMEDOUT);
    }
}

/* ---- The real calls, between two processes ---- */

struct shared {
    struct pm_event ping, pong;
    _Atomic uint32_t turn;
};
#define ROUNDS 5000u

static int answer(struct shared *shared, struct pm_event *mine, struct pm_event *other, uint32_t odd)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        for (;;) {
            uint32_t key = pm_event_key(mine);
            if (atomic_load(&shared->turn) == 2 * i + odd) break;
            if (pm_event_wait(mine, key, INT64_C(20000000000)) != 0) return 1; /* a lost wake-up */
        }
        atomic_store(&shared->turn, 2 * i + odd + 1);
        pm_event_notify(other, 1);
    }
    return 0;
}

static void two_processes_never_lose_a_wakeup(void **state)
{
    (void)state;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) _exit(answer(shared, &shared->pong, &shared->ping, 1));
    assert_true(pid > 0);
    int mine = answer(shared, &shared->ping, &shared->pong, 0), status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(mine, 0);
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&shared->turn), 2 * ROUNDS);
    assert_int_equal(atomic_load(&shared->ping.sleepers) + atomic_load(&shared->pong.sleepers), 0);
    munmap(shared, sizeof *shared);
}

static bool has_sleeper(void *arg)
{
    return atomic_load(&((struct pm_event *)arg)->sleepers) > 0;
}

static void on_signal(int number) { (void)number; }

static void *sleeper(void *arg)
{
    return (void *)(intptr_t)pm_event_wait(arg, 0, INT64_C(20000000000));
}

static void a_real_signal_does_not_end_a_wait(void **state)
{
    (void)state;
    static struct pm_event quiet;
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sleeper, &quiet), 0);
    assert_true(pm_test_wait_until(has_sleeper, &quiet, 10000));
    for (int i = 0; i < 10; i++) pthread_kill(thread, SIGUSR1);
    pm_event_notify(&quiet, 1);
    void *result;
    pthread_join(thread, &result);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal((intptr_t)result, 0);
}

static void a_killed_sleeper_costs_no_wakeup(void **state)
{
    (void)state;
    struct pm_event *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) _exit(pm_event_wait(shared, 0, -1) != 0);
    assert_true(pm_test_wait_until(has_sleeper, shared, 10000));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(atomic_load(&shared->sleepers), 1); /* too high by the dead one */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sleeper, shared), 0);
    pm_event_notify(shared, 1);
    void *result;
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, 0);
    munmap(shared, sizeof *shared);
}

static void a_real_wait_ends_at_its_time(void **state)
{
    (void)state;
    struct pm_event quiet = {0};
    int64_t start = pm_now();
    assert_int_equal(pm_event_wait(&quiet, 0, 5000000), -ETIMEDOUT);
    assert_true(pm_now() - start >= 5000000);
    assert_int_equal(pm_event_spin(&quiet, 0, 100000), 0);
    assert_int_equal(pm_event_spin(&quiet, 1, 100000), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(notify_without_sleepers_makes_no_call, set_fake, set_real),
        cmocka_unit_test_setup_teardown(a_notify_before_the_wait_is_not_lost, set_fake, set_real),
        cmocka_unit_test_setup_teardown(signals_and_false_wakeups_do_not_end_a_wait, set_fake, set_real),
        cmocka_unit_test_setup_teardown(a_wait_ends_at_its_time, set_fake, set_real),
        cmocka_unit_test_setup_teardown(a_refused_futex_is_reported, set_fake, set_real),
        cmocka_unit_test_setup_teardown(spinning_makes_no_call_and_ends, set_fake, set_real),
        cmocka_unit_test_setup_teardown(a_late_wakeup_sets_no_flag, set_fake, set_real),
        cmocka_unit_test_setup_teardown(setting_and_clearing_twice_is_once, set_fake, set_real),
        cmocka_unit_test(two_processes_never_lose_a_wakeup),
        cmocka_unit_test(a_real_signal_does_not_end_a_wait),
        cmocka_unit_test(a_killed_sleeper_costs_no_wakeup),
        cmocka_unit_test(a_real_wait_ends_at_its_time),
    };
    return PM_TEST_MAIN("event", tests);
}

/* What every test program shares: a hard time limit, a check that nothing is left behind, and helpers that wait with a
 * bound. Used by tests only; needs cmocka and nothing of pmap, so that it can judge any layer.
 *
 *     static const struct CMUnitTest tests[] = {cmocka_unit_test(...), ...};
 *     int main(void) { return PM_TEST_MAIN("event", tests); }
 *
 * The program is under a watchdog process: after PM_TEST_LIMIT seconds (environment; default 120) it prints what the
 * threads and children of the program are doing, kills them all, and the program fails.  A program under a debugger has
 * no limit. $TMPDIR is a directory of the program's own while it runs.
 * The last test of the group is "nothing_left": no child process (a dead one that nobody reaped counts: in a real
 * application it would stay a zombie), no descriptor, no name in /dev/shm, no mapping of a memfd "pmap", no file in
 * $TMPDIR more than at the start. */
#ifndef PM_TESTS_HARNESS_H
#define PM_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Runs the tests and "nothing_left"; for main() to return. */
int pm_test_main(const char *name, const struct CMUnitTest *tests, size_t n);
#define PM_TEST_MAIN(name, tests) pm_test_main((name), (tests), sizeof(tests) / sizeof((tests)[0]))

/* Now, by a clock that nobody sets. */
double seconds(void);

/* How many names a folder has, "." and ".." among them: "/proc/self/fd" before and after, for example. */
size_t pm_test_entries(const char *folder);

/* Asks `condition` again and again until it is true or `ms` milliseconds are over; returns what it said last. */
bool pm_test_wait_until(bool (*condition)(void *arg), void *arg, int ms);

/* Does this process or thread (a pid_t) sleep in the kernel?  A condition for the above, where no event tells that somebody waits: of one that
 * sleeps nowhere but there. */
bool pm_test_is_asleep(void *pid);

/* Runs `function` in a child as an application of its own: default signals, no core file; its value is the exit status.
 * Returns the wait status, or -ETIMEDOUT after `timeout_ms`, when it was killed.  Whatever the child leaves running
 * must be gone 2 s after its end: else the calling test fails, after killing it.  The function must not use cmocka's
 * assertions. */
int pm_test_run_child(int (*function)(void *arg), void *arg, int timeout_ms);

/* For tests that make orphans on purpose (kill a supervisor): this program adopts them, as init would.  Waits at most
 * `ms` until every child has ended, and reaps them; returns how many still run. */
size_t pm_test_reap(int ms);

#endif

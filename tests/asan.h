/* Forks of programs with threads under the address sanitizer.  See asan.c. */
#ifndef PM_TESTS_ASAN_H
#define PM_TESTS_ASAN_H

/* From now on a fork() waits until no other thread is in the sanitizer's allocator.  Nothing where it is not the sanitizer's. */
void pm_test_asan_watch_forks(void);

#endif

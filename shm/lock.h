/* A lock in shared memory whose owner may die at any instruction, for threads of all processes that map it.
 *
 * It is a robust mutex of the C library: each thread has a list of those that it holds, and when a thread ends, by
 * whatever cause, or calls exec, the kernel walks the list and marks them.  So the kernel itself says that the owner
 * is dead, at once and without anybody asking; a waiter is woken, gets the lock, and is told.  Uncontended it costs
 * no system call.
 *
 * "Told" is once: the lock is whole again as soon as it is taken.  A taker that dies in turn is told of by the next.
 * Owners are threads: a forked child holds nothing of what its parent does. While a thread holds it the memory must
 * stay mapped: the thread's list leads through it.  The kernel walks 2048 locks a thread, so nobody may hold more.
 * All users must live in one PID namespace. */
#ifndef PM_SHM_LOCK_H
#define PM_SHM_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct pm_lock {
    pthread_mutex_t mutex;
};

int pm_lock_init(struct pm_lock *lock, bool recursive); /* before anybody else sees it: 0, -errno */

/* timeout_ns < 0 = for ever, 0 = only if it is free.  0, or -EOWNERDEAD: held too, but the last owner died with it.
 * -ETIMEDOUT; -EDEADLK: the caller holds it already and it is not recursive.  Signals do not end it. */
int pm_lock_acquire(struct pm_lock *lock, int64_t timeout_ns);

/* 0, or -EPERM when the caller does not hold it. */
int pm_lock_release(struct pm_lock *lock);

/* Lets go of it however often it is held; returns how often that was: 0 = the caller does not hold it. */
unsigned pm_lock_release_all(struct pm_lock *lock);

#endif

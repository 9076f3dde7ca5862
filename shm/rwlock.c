/* The read-write lock of shm/rwlock.h. */
#include "shm/rwlock.h"

#include <errno.h>
#include <stdatomic.h>

#include "shm/deadline.h"

#define R memory_order_relaxed /* the robust locks order everything that matters */

static _Thread_local unsigned last; /* the reader's lock that this thread held last, of any: where it looks first */

int pm_rwlock_init(struct pm_rwlock *l, unsigned readers)
{
    l->readers = readers;
    int e = pm_lock_init(&l->gate, false);
    for (unsigned i = 0; i < readers && !e; i++) e = pm_lock_init(&l->reader[i].lock, false);
    return e;
}

/* A place among the readers: 0; -EAGAIN all are taken, *other is one that is not the caller's; -EDEADLK all are the
 * caller's. */
static int take_place(struct pm_rwlock *l, unsigned *other)
{
    int result = -EDEADLK;
    for (unsigned n = 0, i = last % l->readers; n < l->readers; n++, i = i + 1 == l->readers ? 0 : i + 1) {
        int e = pm_lock_acquire(&l->reader[i].lock, 0);
        if (e == 0 || e == -EOWNERDEAD) {
            last = i;
            return 0;
        }
        if (e == -ETIMEDOUT) {
            *other = i;
            result = -EAGAIN;
        } else if (e != -EDEADLK) return e;
    }
    return result;
}

/* The gate is held.  Takes all the readers' places, or none. */
static int exclude(struct pm_rwlock *l, int64_t deadline)
{
    atomic_store_explicit(&l->intent, 1, R);
    for (unsigned i = 0; i < l->readers; i++) {
        int e = pm_lock_acquire(&l->reader[i].lock, pm_deadline_left(deadline));
        if (e == 0 || e == -EOWNERDEAD) continue;
        while (i--) (void)pm_lock_release(&l->reader[i].lock);
        atomic_store_explicit(&l->intent, 0, R);
        return e;
    }
    /* From here on a death is one that the next is told of. */
    return atomic_exchange_explicit(&l->dirty, 1, R) ? -EOWNERDEAD : 0;
}

/* What remains of a time-out, which may have been 0: then each step is still tried once. */
static int pass_gate(struct pm_rwlock *l, int64_t timeout_ns)
{
    int e = pm_lock_acquire(&l->gate, timeout_ns);
    return e == -EOWNERDEAD ? 0 : e; /* `dirty` says whether that matters */
}

int pm_rwlock_read(struct pm_rwlock *l, int64_t timeout_ns)
{
    unsigned other = 0;
    if (!atomic_load_explicit(&l->intent, R) && take_place(l, &other) == 0) {
        /* Nobody but a dead writer can have left this while somebody else holds a place. */
        if (!atomic_load_explicit(&l->dirty, R)) return 0;
        (void)pm_lock_release(&l->reader[last].lock);
    }
    int64_t deadline = pm_deadline(timeout_ns);
    int e = pass_gate(l, timeout_ns);
    if (e) return e;
    if (atomic_load_explicit(&l->dirty, R)) {
        e = exclude(l, deadline);
        if (e != -EOWNERDEAD) (void)pm_lock_release(&l->gate);
        return e; /* with the gate */
    }
    atomic_store_explicit(&l->intent, 0, R); /* a dead writer's */
    e = take_place(l, &other);
    if (e == -EAGAIN) {
        e = pm_lock_acquire(&l->reader[other].lock, pm_deadline_left(deadline));
        if (e == -EOWNERDEAD) e = 0;
        if (!e) last = other;
    }
    (void)pm_lock_release(&l->gate);
    return e;
}

int pm_rwlock_write(struct pm_rwlock *l, int64_t timeout_ns)
{
    int64_t deadline = pm_deadline(timeout_ns);
    int e = pass_gate(l, timeout_ns);
    if (e) return e;
    e = exclude(l, deadline);
    if (e && e != -EOWNERDEAD) (void)pm_lock_release(&l->gate);
    return e;
}

static int release_writer(struct pm_rwlock *l)
{
    int e = pm_lock_acquire(&l->reader[0].lock, 0);
    if (e != -EDEADLK) { /* it is not the caller's */
        if (e != -ETIMEDOUT) (void)pm_lock_release(&l->reader[0].lock);
        return -EPERM;
    }
    atomic_store_explicit(&l->dirty, 0, R);
    atomic_store_explicit(&l->intent, 0, R);
    for (unsigned i = 0; i < l->readers; i++) (void)pm_lock_release(&l->reader[i].lock);
    return pm_lock_release(&l->gate);
}

int pm_rwlock_release(struct pm_rwlock *l)
{
    /* Set only while a writer holds it, or held it when it died: no reader does then. */
    if (atomic_load_explicit(&l->dirty, R)) return release_writer(l);
    for (unsigned n = 0, i = last % l->readers; n < l->readers; n++, i = i + 1 == l->readers ? 0 : i + 1)
        if (pm_lock_release(&l->reader[i].lock) == 0) return 0;
    return -EPERM;
}

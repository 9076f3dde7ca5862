/* libzmq's functions, as a table that is filled when the first pool needs them.  Linked, libzmq and the thirty libraries below it (Kerberos,
 * sodium, ...) would be loaded and relocated by every program that uses pmap, and be in the page tables of every worker, for a channel that
 * few pools have.  Used by zmq.c and zmq_worker.c, which call pm_libzmq.send() for zmq_send(), and by what tells about the machine.
 * Built when HAVE_ZMQ. */
#ifndef PM_WORKERS_ZMQ_LIB_H
#define PM_WORKERS_ZMQ_LIB_H

#include <stddef.h>
#include <zmq.h>

#define PM_LIBZMQ_CALLS(X) \
    X(bind) X(close) X(connect) X(ctx_new) X(ctx_set) X(ctx_term) X(msg_close) X(msg_data) X(msg_init) X(msg_init_data) X(msg_init_size) \
    X(msg_more) X(msg_recv) X(msg_send) X(msg_size) X(poll) X(send) X(setsockopt) X(socket) X(version)

#define PM_LIBZMQ_FIELD(name) __typeof__(zmq_##name) *name;
struct pm_libzmq {
    PM_LIBZMQ_CALLS(PM_LIBZMQ_FIELD)
};

/* To be called behind a pm_libzmq_load() that returned 0, in this process or in one that it comes from by fork. */
extern struct pm_libzmq pm_libzmq;

/* Loads libzmq unless this process has it.  Any thread, never a worker for the pool that it belongs to: that pool's opener has.
 * 0, or -EOPNOTSUPP with a text that has the dynamic linker's words; the next call tries again. */
int pm_libzmq_load(char *text, size_t bytes);

/* Around what takes locks in libzmq or in the libraries below it, and so must not be under way in one thread while another forks: making a
 * context.  Loading is inside of it, and so is, from the first load on, every fork() of this process. */
void pm_libzmq_lock(void);
void pm_libzmq_unlock(void);

#endif

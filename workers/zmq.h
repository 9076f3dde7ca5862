/* The ZeroMQ channel of the process executor: a ROUTER in the application, a DEALER in each worker, over ipc in a directory of the pool's own.
 * It carries bytes only.  What is whose stands in the chunks' words, as in the other channels; here the application
 * claims for a worker, sends the input, and commits what comes back.  Needs libzmq (zmq_lib.h); built when HAVE_ZMQ. */
#ifndef PM_WORKERS_ZMQ_H
#define PM_WORKERS_ZMQ_H

#include <pthread.h>
#include <sys/types.h>

#include "workers/board.h"
#include "workers/frame.h"

struct pm_processes;
struct pm_worker;

#define PM_ZMQ_LARGEST ((size_t)1 << 30) /* bytes of a part: an item that is larger is refused */
#define PM_ZMQ_QUEUE 64                  /* messages a connection may hold */
#define PM_ZMQ_CREDIT 2u                 /* chunks a worker has at once: one computes while the next is on its way */

struct pm_zmq_held {
    struct pm_frame question;
    uint64_t word;     /* what the chunk's word says as long as this is true */
};

struct pm_zmq_peer {
    uint32_t owner;    /* 0 = nobody has said HELLO */
    unsigned n;        /* of held[] */
    bool gone;         /* it cannot be reached any more: what it holds comes back when it is dead */
    struct pm_zmq_held held[PM_ZMQ_CREDIT];
    int64_t probe_at, probe_gap;
    uint32_t lead;     /* as its last answer asked for */
};

/* The application's private side.  One call at a time. */
struct pm_zmq {
    pthread_mutex_t lock; /* guards all but the counters */
    void *context, *socket;
    struct pm_zmq_peer *peer; /* one a slot */
    uint32_t *suspect;        /* of each chunk of the round that was given back; see PM_OFFSET_KEPT */
    dev_t device;             /* of the file that is the socket's name: see zmq_socket.c */
    ino_t inode;
    int64_t name_at;          /* when to look again whether it still is */
    _Atomic uint32_t lent;    /* parts that libzmq still has in the caller's memory */
    _Atomic uint64_t dropped; /* messages that were nobody's answer to anything: garbage, late, twice */
};

/* Bytes of input of `items` items from `lo` on. */
static inline size_t pm_zmq_input(const struct pm_work *work, uint64_t lo, uint64_t items)
{
    size_t from = lo * work->in_size, to = (lo + items) * work->in_size;
    if (!work->in) return 0;
    if (to > work->in_bytes) to = work->in_bytes;
    return to > from ? to - from : 0;
}

/* What an item must be aligned to.  A type's alignment divides its size, and the caller's own memory has it: more than both is not needed. */
static inline size_t pm_zmq_alignment(const struct pm_work *work)
{
    uintptr_t bits = (uintptr_t)work->in | work->in_size | PM_FRAME_ALIGN;
    return bits & (~bits + 1);
}

/* Before the first fork: writes the endpoint on the board.  Its directory is made by the supervisor, so that there is always somebody
 * to remove it; the socket itself by the first call, so that no context is ever carried over a fork.  0 or -errno. */
int pm_zmq_make(struct pm_board *board);
int pm_zmq_open(struct pm_processes *p);
void pm_zmq_close(struct pm_processes *p);   /* safe after a failed open, and when there is none */
void pm_zmq_abandon(struct pm_processes *p); /* in a forked child: frees its memory, touches no socket and no file */
void pm_zmq_bye(struct pm_processes *p);     /* the pool is ending: tells workers that wait; never blocks */
void pm_zmq_remove(struct pm_board *board);  /* the socket file and its directory; any process */

int pm_zmq_bind(struct pm_processes *p); /* makes and binds it unless this process has; 0 or -errno */
void pm_zmq_note_name(struct pm_zmq *z, const struct pm_board *board);      /* just bound */
bool pm_zmq_has_name(const struct pm_zmq *z, const struct pm_board *board); /* still? */

/* A worker's loop; returns when the pool ends. */
void pm_zmq_serve(struct pm_worker *me);

/* libzmq's calls, and again when a signal has interrupted them: a part that is not sent would leave half a message behind, which the next
 * one is taken for a part of. */
#define PM_ZMQ_AGAIN(call) ({ int r_; do r_ = (call); while (r_ < 0 && errno == EINTR); r_; })

/* Could libzmq start its threads just now?  It aborts where it cannot. */
bool pm_zmq_threads(void);

#endif

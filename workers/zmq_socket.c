/* The application's socket of a ZeroMQ pool: made in the process that uses it, bound under a name, closed.  Used by zmq.c, the supervisor and
 * processes.c.
 *
 * The name is a path in a directory of the pool's own, under which workers find the socket.  Only this user can reach it, but another program
 * of this user may bind it, too (which takes it away without an error), and a program that tidies up may remove it.  So the
 * application remembers which file is its own. */
#include "workers/zmq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workers/processes.h"
#include "workers/zmq_lib.h"

/* ---- The name ---- */

static const char *path_of(const struct pm_board *board) { return board->zmq + sizeof "ipc://" - 1; }

static void directory_of(const struct pm_board *board, char *directory)
{
    (void)snprintf(directory, sizeof board->zmq, "%s", path_of(board));
    *strrchr(directory, '/') = 0;
}

void pm_zmq_remove(struct pm_board *board)
{
    char directory[sizeof board->zmq];
    if (!board->zmq[0]) return;
    (void)unlink(path_of(board));
    directory_of(board, directory);
    (void)rmdir(directory);
}

int pm_zmq_make(struct pm_board *board)
{
    char directory[sizeof board->zmq];
    directory_of(board, directory);
    return mkdir(directory, 0700) < 0 ? -errno : 0; /* so nobody else can connect; exclusive, so nobody else has made it */
}

void pm_zmq_note_name(struct pm_zmq *z, const struct pm_board *board)
{
    struct stat status = {0};
    (void)lstat(path_of(board), &status);
    z->device = status.st_dev;
    z->inode = status.st_ino;
}

bool pm_zmq_has_name(const struct pm_zmq *z, const struct pm_board *board)
{
    struct stat status;
    return lstat(path_of(board), &status) == 0 && status.st_dev == z->device && status.st_ino == z->inode;
}

/* ---- The socket ---- */

int pm_zmq_open(struct pm_processes *p)
{
    const char *base = getenv("TMPDIR");
    struct pm_zmq *z = p->zmq = calloc(1, sizeof *z);
    if (!z) return -ENOMEM;
    pthread_mutex_init(&z->lock, NULL);
    z->peer = calloc(p->board->most, sizeof *z->peer);
    z->suspect = calloc(PM_WINDOW, sizeof *z->suspect);
    if (!z->peer || !z->suspect) return -ENOMEM;
    if (getrandom(&p->board->zmq_nonce, sizeof p->board->zmq_nonce, 0) != sizeof p->board->zmq_nonce) return -EIO;
    /* The path with all that belongs to it must fit a socket's address. */
    if (!base || base[0] != '/' || strlen(base) > 70) base = "/tmp";
    (void)snprintf(p->board->zmq, sizeof p->board->zmq, "ipc://%.70s/pmap-%016llx/s", base, (unsigned long long)p->board->zmq_nonce);
    return 0;
}

void pm_zmq_abandon(struct pm_processes *p)
{
    if (!p->zmq) return;
    free(p->zmq->peer);
    free(p->zmq->suspect);
    free(p->zmq);
    p->zmq = NULL;
}

void pm_zmq_close(struct pm_processes *p)
{
    if (!p->zmq) return;
    if (p->zmq->socket) (void)pm_libzmq.close(p->zmq->socket); /* linger is 0: nothing to wait for */
    while (p->zmq->context && pm_libzmq.ctx_term(p->zmq->context) < 0 && errno == EINTR) {
    }
    pthread_mutex_destroy(&p->zmq->lock);
    pm_zmq_abandon(p);
    pm_zmq_remove(p->board);
}

static void set(void *socket, int option, int value) { (void)pm_libzmq.setsockopt(socket, option, &value, sizeof value); }

static int make_socket(struct pm_zmq *z, void **socket)
{
    pm_libzmq_lock();
    bool can = z->context || pm_zmq_threads();
    if (can && !z->context) z->context = pm_libzmq.ctx_new();
    if (z->context) (void)pm_libzmq.ctx_set(z->context, ZMQ_IO_THREADS, 1);
    *socket = z->context ? pm_libzmq.socket(z->context, ZMQ_ROUTER) : NULL;
    int e = *socket ? 0 : can ? -errno : -EAGAIN;
    pm_libzmq_unlock();
    return e;
}

int pm_zmq_bind(struct pm_processes *p)
{
    struct pm_zmq *z = p->zmq;
    int64_t largest = (int64_t)PM_ZMQ_LARGEST;
    if (z->socket) return 0;
    void *socket;
    int e = make_socket(z, &socket);
    if (e) return e;
    (void)pm_libzmq.setsockopt(socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    set(socket, ZMQ_LINGER, 0);
    set(socket, ZMQ_SNDHWM, PM_ZMQ_QUEUE);
    set(socket, ZMQ_RCVHWM, PM_ZMQ_QUEUE);
    set(socket, ZMQ_ROUTER_MANDATORY, 1);
    set(socket, ZMQ_ROUTER_HANDOVER, 0);
    if (PM_ZMQ_AGAIN(pm_libzmq.bind(socket, p->board->zmq)) < 0) {
        e = -errno;
        (void)pm_libzmq.close(socket);
        return e;
    }
    z->socket = socket;
    pm_zmq_note_name(z, p->board);
    atomic_store(&p->board->zmq_bound, 1);
    pm_board_wake_all(p->board);
    return 0;
}

/* What raw libzmq does with the frames that pmap's ZeroMQ channel carries.  It is loaded by the one side that needs it: linked, it and the
 * libraries below it would be in every side, and make each fork dearer, of the peers and of pmap alike. */
#include "tests/targets_peers.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_ZMQ
#include <zmq.h>

#define CALLS(X) \
    X(bind) X(connect) X(ctx_new) X(msg_close) X(msg_data) X(msg_init) X(msg_init_data) X(msg_recv) X(msg_send) X(recv) X(send) \
    X(socket)
#define FIELD(name) __typeof__(zmq_##name) *name;
static struct {
    CALLS(FIELD)
} libzmq;

static void load(void)
{
    void *library = dlopen(LIBZMQ_SONAME, RTLD_NOW), *function;
#define FIND(name) \
    if (!library || !(function = dlsym(library, "zmq_" #name))) side_fail("libzmq: %s", dlerror()); \
    memcpy(&libzmq.name, &function, sizeof function);
    CALLS(FIND)
}

#define CREDIT 4u

static void *router;
static double *frames;
static char endpoint[64], identity[256];
static int identity_bytes;

static void zmq_partner(void)
{
    void *context = libzmq.ctx_new(), *dealer = libzmq.socket(context, ZMQ_DEALER);
    if (libzmq.connect(dealer, endpoint) || libzmq.send(dealer, "here", 4, 0) != 4) _exit(1);
    for (;;) {
        zmq_msg_t m;
        double first;
        libzmq.msg_init(&m);
        if (libzmq.msg_recv(&m, dealer, 0) != (int)FRAME) _exit(1);
        memcpy(&first, libzmq.msg_data(&m), sizeof first);
        libzmq.msg_close(&m);
        if (libzmq.send(dealer, &first, sizeof first, 0) != sizeof first) _exit(1);
    }
}

static const char *zmq_setup(const struct side *side)
{
    char hello[8];
    (void)side;
    load();
    /* An abstract name: nothing to remove. */
    snprintf(endpoint, sizeof endpoint, "ipc://@pmap-targets-%ld", (long)getpid());
    partner_new(zmq_partner); /* before there is a context here: contexts do not survive a fork */
    router = libzmq.socket(libzmq.ctx_new(), ZMQ_ROUTER);
    if (!router || libzmq.bind(router, endpoint)) side_fail("zmq_bind: %s", strerror(errno));
    identity_bytes = libzmq.recv(router, identity, sizeof identity, 0);
    if (identity_bytes <= 0 || libzmq.recv(router, hello, sizeof hello, 0) != 4) side_fail("zmq: no partner");
    frames = frames_new();
    return NULL;
}

static void keep(void *memory, void *hint) { (void)memory, (void)hint; }

/* Without a copy in this process: libzmq sends from where the frames lie. */
static double zmq_run(const struct side *side)
{
    (void)side;
    double t = now_ns();
    for (unsigned sent = 0, got = 0; got < FRAMES;) {
        for (; sent < FRAMES && sent - got < CREDIT; sent++) {
            zmq_msg_t m;
            libzmq.msg_init_data(&m, (char *)frames + sent * FRAME, FRAME, keep, NULL);
            if (libzmq.send(router, identity, (size_t)identity_bytes, ZMQ_SNDMORE) < 0 || libzmq.msg_send(&m, router, 0) < 0)
                side_fail("zmq_send: %s", strerror(errno));
        }
        char who[256];
        double first = 0;
        if (libzmq.recv(router, who, sizeof who, 0) < 0 || libzmq.recv(router, &first, sizeof first, 0) != sizeof first)
            side_fail("zmq_recv: %s", strerror(errno));
        if (first != (double)++got) side_fail("zmq: frame %u answered %g", got, first);
    }
    return now_ns() - t;
}
const struct side zmq_raw = {.setup = zmq_setup, .run = zmq_run};
#else
static const char *zmq_setup(const struct side *side)
{
    (void)side;
    return "not built (libzmq)";
}
static double zmq_run(const struct side *side)
{
    (void)side;
    return 0;
}
const struct side zmq_raw = {.setup = zmq_setup, .run = zmq_run};
#endif

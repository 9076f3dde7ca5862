/* The queue's sides of `targets`: one producer process, one consumer process, which is the side itself.  Each run is
 * an order to the producer through a queue of its own; the time is the consumer's, from its order to the last
 * message, every message looked at. */
#include "tests/targets_peers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE ((size_t)65536)
#define LARGE_MESSAGES (SUM_BYTES / LARGE)
#define SMALL ((size_t)8)
#define SMALL_MESSAGES 1000000u

static pmap_queue *orders, *messages;
static pid_t producer;
static size_t size, count;
static char buffer[LARGE];

static void produce(void)
{
    char message[LARGE];
    uint64_t order;
    memset(message, 1, sizeof message);
    while (pmap_queue_get(orders, &order, sizeof order, NULL, -1) == 0)
        for (uint64_t i = 0; i < count; i++) {
            memcpy(message, &i, sizeof i);
            if (pmap_queue_put(messages, message, size, -1)) return;
        }
}

static const char *queue_setup(const struct side *side)
{
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    size = side->empty ? SMALL : LARGE;
    count = side->empty ? SMALL_MESSAGES : LARGE_MESSAGES;
    if (pmap_queue_open(&orders, NULL)) side_fail("pmap_queue_open: %s", pmap_error());
    o.items = side->empty ? 1024 : 16;
    o.message_bytes = size;
    if (pmap_queue_open(&messages, &o)) side_fail("pmap_queue_open: %s", pmap_error());
    pid_t parent = getpid();
    producer = fork();
    if (producer < 0) side_fail("fork failed");
    if (producer == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) produce();
        _exit(0);
    }
    return NULL;
}

static double queue_run(const struct side *side)
{
    uint64_t order = 1, number;
    size_t bytes;
    (void)side;
    double t = now_ns();
    if (pmap_queue_put(orders, &order, sizeof order, 10)) side_fail("pmap_queue_put: %s", pmap_error());
    for (uint64_t i = 0; i < count; i++) {
        if (pmap_queue_get(messages, buffer, sizeof buffer, &bytes, 10)) side_fail("pmap_queue_get: %s", pmap_error());
        memcpy(&number, buffer, sizeof number);
        if (number != i || bytes != size || (size == LARGE && buffer[LARGE - 1] != 1))
            side_fail("message %ju is wrong", (uintmax_t)i);
    }
    t = now_ns() - t;
    return side->empty ? t / (double)count : t;
}

void queue_end(void)
{
    if (producer <= 0) return;
    (void)pmap_queue_close(orders);
    (void)waitpid(producer, NULL, 0);
    (void)pmap_queue_free(messages);
    (void)pmap_queue_free(orders);
    producer = 0;
}

const struct side queue_pmap = {.setup = queue_setup, .run = queue_run};
const struct side queue_small_pmap = {.setup = queue_setup, .run = queue_run, .empty = 1};

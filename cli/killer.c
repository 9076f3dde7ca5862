/* Kills workers. See killer.h. Between pmap_pool_pids() and kill() a worker may end and, in theory, its pid be reused;
 * pids are handed out in turn, so that takes a whole cycle of them within a microsecond. */
#include "cli/killer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void kill_one(struct killer *k)
{
    static int pids[4096];
    unsigned n = pmap_pool_pids(k->pool, pids, sizeof pids / sizeof *pids);

    if (n == 0) return;
    k->random = k->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth's MMIX generator */
    for (unsigned i = 0, at = (unsigned)(k->random >> 33) % n; i < n; i++, at = (at + 1) % n) {
        if (pids[at] <= 0) continue;
        kill(pids[at], SIGKILL);
        return;
    }
}

static void *body(void *argument)
{
    struct killer *k = argument;
    struct pollfd stop = { k->stop, POLLIN, 0 };

    for (;;) {
        int got = poll(&stop, 1, k->every_ms);

        if (got > 0) return NULL;
        if (got == 0) kill_one(k);
    }
}

int killer_start(struct killer *k, const pmap_pool *pool, uint64_t every_ms)
{
    struct timespec now;
    int error;

    clock_gettime(CLOCK_MONOTONIC, &now);
    k->pool = pool;
    k->every_ms = (int)every_ms;
    k->random = (uint64_t)now.tv_nsec ^ (uint64_t)getpid();
    k->stop = eventfd(0, EFD_CLOEXEC);
    if (k->stop < 0) return -errno;
    error = pthread_create(&k->thread, NULL, body, k);
    if (error) close(k->stop);
    return -error;
}

void killer_stop(struct killer *k)
{
    eventfd_write(k->stop, 1);
    pthread_join(k->thread, NULL);
    close(k->stop);
}

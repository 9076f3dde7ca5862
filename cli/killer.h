/* A thread that sends SIGKILL to a random worker of a pool again and again, for --kill-every.  Used by runner.c. */
#ifndef CLI_KILLER_H
#define CLI_KILLER_H

#include <pmap/pmap.h>
#include <pthread.h>
#include <stdint.h>

struct killer {
    pthread_t thread;
    int stop; /* an eventfd */
    const pmap_pool *pool;
    int every_ms;
    uint64_t random;
};

int killer_start(struct killer *killer, const pmap_pool *pool, uint64_t every_ms); /* 0, or -errno */
void killer_stop(struct killer *killer); /* no signal is sent after it returns */

#endif

/* A queue of size one between two processes.  The producer waits until each message is done, so that what the two
 * print is always in the same order. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void produce(pmap_queue *queue)
{
    for (int i = 0; i < 5; i++) {
        printf("put %d\n", i);
        fflush(stdout);
        if (pmap_queue_put(queue, &i, sizeof i, -1) || pmap_queue_join(queue, -1)) _exit(1);
    }
    pmap_queue_close(queue);
    _exit(0);
}

int main(void)
{
    pmap_queue_options options = PMAP_QUEUE_OPTIONS_INIT;
    pmap_queue *queue;
    int n, status = -1;
    options.items = 1;
    if (pmap_queue_open(&queue, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    if (fork() == 0) produce(queue);
    while (pmap_queue_get(queue, &n, sizeof n, NULL, -1) == PMAP_OK) {
        printf("got %d\n", n);
        fflush(stdout);
        pmap_queue_task_done(queue);
    }
    wait(&status);
    pmap_queue_free(queue);
    return status;
}

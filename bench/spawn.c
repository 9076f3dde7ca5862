/* The bare limit for commands that end at once: COUNT times posix_spawn() of /bin/true and waitpid(), by so many
 * threads, with nothing read, written or recorded.  Each of a machine's CPUs starts one after the other; no program
 * that starts commands is faster for longer than it skips something of this.  batch.sh builds and runs it.
 *
 *     spawn COUNT THREADS */
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define MOST_THREADS 1024

extern char **environ;
static atomic_long left;

static void *spawn(void *arg)
{
    char program[] = "/bin/true", number[] = "12345", *argv[] = {program, number, NULL};
    while (atomic_fetch_sub(&left, 1) > 0) {
        pid_t pid;
        int status, error = posix_spawn(&pid, program, NULL, NULL, argv, environ);
        if (error || waitpid(pid, &status, 0) != pid || status != 0) {
            fprintf(stderr, "spawn: %s: %s\n", program, error ? strerror(error) : "it failed");
            exit(1);
        }
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread[MOST_THREADS];
    long threads = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: spawn COUNT THREADS\n");
        return 2;
    }
    left = strtol(argv[1], NULL, 10);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, spawn, NULL)) {
            fprintf(stderr, "spawn: no thread\n");
            return 1;
        }
    for (long i = 0; i < threads; i++) (void)pthread_join(thread[i], NULL);
    return 0;
}

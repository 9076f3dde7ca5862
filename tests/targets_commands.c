/* The command sides of `targets`: pmap's commands, and posix_spawn() with waitpid(), in processes with 1 GiB of memory
 * of their own.  Uses <pmap/pmap.h> and nothing below. */
#include "tests/targets_peers.h"

#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB ((size_t)1 << 30)
#define MANY 1000 /* commands a run, over WORKERS threads */

static const char *const program[] = {"/bin/true", NULL};

static const char *big_setup(const struct side *side)
{
    double *ballast = huge_new(GIB, side->huge_pages);
    memset(ballast, 1, GIB);
    return NULL;
}

static void spawn_once(void)
{
    pid_t pid;
    int status;
    int error = posix_spawn(&pid, program[0], NULL, NULL, (char *const *)(uintptr_t)program, environ);
    if (error) side_fail("posix_spawn: %s", strerror(error));
    if (waitpid(pid, &status, 0) != pid || status != 0) side_fail("waitpid: status %d, %s", status, strerror(errno));
}

static void command_once(void)
{
    pmap_command_options o = PMAP_COMMAND_OPTIONS_INIT;
    o.argv = program;
    if (pmap_command_run(&o, NULL)) side_fail("pmap_command_run: %s", pmap_error());
}

static double one_spawn(const struct side *side)
{
    (void)side;
    return batches(3, spawn_once);
}

static double one_command(const struct side *side)
{
    (void)side;
    return batches(3, command_once);
}

static void *spawn_many(void *arg)
{
    for (int i = 0; i < MANY / WORKERS; i++) spawn_once();
    return arg;
}

static double many_spawns(const struct side *side)
{
    pthread_t thread[WORKERS];
    (void)side;
    double t = now_ns();
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&thread[i], NULL, spawn_many, NULL)) side_fail("pthread_create");
    for (int i = 0; i < WORKERS; i++) (void)pthread_join(thread[i], NULL);
    return (now_ns() - t) / MANY;
}

/* With what a batch tool wants of each: both streams captured, a time-out, its status. */
static double many_commands(const struct side *side)
{
    pmap_commands_options p = PMAP_COMMANDS_OPTIONS_INIT;
    pmap_command_options o = PMAP_COMMAND_OPTIONS_INIT;
    pmap_commands *set;
    pmap_command *c;
    int done = 0;
    p.spawners = side->workers;
    p.at_once = 2 * WORKERS;
    o.argv = program;
    o.out.to = o.err.to = PMAP_IO_PIPE;
    o.timeout_s = 60;
    double t = now_ns();
    if (pmap_commands_open(&set, &p)) side_fail("pmap_commands_open: %s", pmap_error());
    for (int i = 0; i < MANY; i++)
        if (pmap_commands_add(set, &o, 1)) side_fail("pmap_commands_add: %s", pmap_error());
    while (pmap_commands_next(set, -1, &c) == 0 && c) {
        if (pmap_command_check(c) || pmap_command_close(c)) side_fail("a command: %s", pmap_error());
        done++;
    }
    if (pmap_commands_close(set) || done != MANY) side_fail("pmap_commands: %d of %d", done, MANY);
    return (now_ns() - t) / MANY;
}

const struct side command_spawn = {.setup = big_setup, .run = one_spawn};
const struct side command_pmap = {.setup = big_setup, .run = one_command};
const struct side commands_spawn = {.run = many_spawns};
const struct side commands_pmap = {.run = many_commands, .workers = WORKERS};
const struct side commands_alone = {.run = many_commands};

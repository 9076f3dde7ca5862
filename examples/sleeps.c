/* Ten commands that sleep for 0.1 s, all at once, and what they take together. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
    pmap_commands *commands;
    pmap_commands_options options = PMAP_COMMANDS_OPTIONS_INIT;
    options.at_once = 10;
    if (pmap_commands_open(&commands, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    double start = now();
    pmap_command_options sleep = PMAP_COMMAND_OPTIONS_INIT;
    sleep.argv = (const char *const[]){"sleep", "0.1", NULL};
    for (int i = 0; i < 10; i++)
        if (pmap_commands_add(commands, &sleep, 1)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    pmap_command *ended;
    int well = 0;
    while (pmap_commands_next(commands, -1, &ended) == 0 && ended) {
        well += pmap_command_check(ended) == 0;
        pmap_command_close(ended);
    }
    double seconds = now() - start;
    printf("%d sleeps took ten times the time of one: %s\n", well, seconds < 1 ? "no" : "yes");
    if (isatty(1)) printf("Finished in %.3f seconds\n", seconds); /* which no test can foresee */
    return pmap_commands_close(commands) != PMAP_OK;
}

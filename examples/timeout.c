/* A sleep of 10 s that is given 0.1 s.  The time-out really ends it, with all that it has started. */
#include <pmap/pmap.h>
#include <signal.h>
#include <stdio.h>

int main(void)
{
    pmap_command *command;
    pmap_command_options options = PMAP_COMMAND_OPTIONS_INIT;
    options.argv = (const char *const[]){"sleep", "10", NULL};
    options.timeout_s = 0.1;
    int error = pmap_command_run(&options, &command);
    if (error != PMAP_ESTATUS) return fprintf(stderr, "%d: %s\n", error, pmap_error()), 1;
    puts(pmap_error());

    pmap_status status = {.size = sizeof status};
    pmap_command_status(command, -1, &status);
    printf("ended by SIGTERM: %s; as one number: %d\n", status.value == SIGTERM ? "yes" : "no", status.code);
    printf("sooner than in 5 s: %s\n", status.wall_s < 5 ? "yes" : "no");
    return pmap_command_close(command) != PMAP_OK;
}

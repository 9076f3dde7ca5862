/* Two children: one says hello, and what it says is captured; while the other runs, this program goes on working. */
#include <pmap/pmap.h>
#include <stdio.h>

int main(void)
{
    pmap_command *command;
    pmap_command_options hello = PMAP_COMMAND_OPTIONS_INIT;
    hello.argv = (const char *const[]){"echo", "Hello from the child!", NULL};
    hello.out.to = PMAP_IO_PIPE;
    if (pmap_command_run(&hello, &command)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    fputs(pmap_command_output(command, 1, NULL), stdout);
    pmap_command_close(command);

    pmap_command_options sleep = PMAP_COMMAND_OPTIONS_INIT;
    sleep.argv = (const char *const[]){"sleep", "0.3", NULL};
    if (pmap_command_start(&command, &sleep)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    int said = 0;
    while (!pmap_command_poll(command))
        if (!said++) puts("Working...");
        else (void)pmap_command_wait(command, 0.01); /* or whatever there is to do */
    pmap_status status = {.size = sizeof status};
    pmap_command_status(command, -1, &status);
    printf("Exit status %d\n", status.code);
    return pmap_command_close(command) != PMAP_OK;
}

/* parmap: the program.  Reads the command line and hands over to what carries it out, or prints a text. */
#include "cli/batch.h"
#include "cli/bench.h"
#include "cli/words.h"

#include <pmap/pmap.h>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* A standard descriptor that is closed would be given to the next file opened, and that file would get our messages.
 * Opened the wrong way round, so that writing to it is an error and not silence. */
static int fill_standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct settings settings;
    int error;

    if (fill_standard_descriptors()) return 1;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error to report, not a reason to vanish */
    error = options_parse(&settings, argc, argv);
    if (error) {
        fprintf(stderr, "try: parmap help%s%s\n", settings.command < COMMAND_INFO ? " " : "",
                settings.command < COMMAND_INFO ? options_command_name(settings.command) : "");
        return error;
    }
    if (settings.version) {
        printf("parmap %s\n", PMAP_VERSION);
    } else if (settings.help) {
        options_help(stdout, settings.command);
    } else {
        switch (settings.command) {
        case COMMAND_RUN: return batch_run(&settings.batch);
        case COMMAND_PIPE: return batch_pipe(&settings.batch);
        case COMMAND_CALL: return batch_call(&settings.batch);
        case COMMAND_BENCH: return bench(&settings);
        case COMMAND_INFO: return info();
        case COMMAND_COMPLETION: options_completion(stdout, settings.shell); break;
        case COMMAND_HELP:
            if (settings.man) options_man(stdout, settings.about);
            else options_help(stdout, settings.about);
            break;
        case COMMANDS: options_help(stderr, COMMANDS); return 2;
        }
    }
    return written(stdout, "standard output") ? 1 : 0;
}

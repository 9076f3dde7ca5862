/* The public calls on one command: checks, and waiting.  What a command is made of is in command.h; what happens to it
 * in command_step.c. */
#include "pmap/command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmap/pool.h"
#include "shm/event.h"

#define END_NS INT64_C(10000000000)

/* May this process use it for `what`? */
static int enter(const pmap_command *c, const char *what)
{
    if (!c) return pm_error(PMAP_EINVAL, "%s: command is NULL", what);
    if (c->owner != getpid()) return pm_error(PMAP_EFORK, "%s: the command was started by another process", what);
    return 0;
}

static int start(pmap_command **command, const char *what, const pmap_command_options *options, size_t count)
{
    struct pm_plan *plan;
    if (!command) return pm_error(PMAP_EINVAL, "%s: command is NULL", what);
    *command = NULL;
    int error = pm_plan_make(&plan, what, options, count);
    if (error) return error;
    pmap_command *c = pm_command_new(plan);
    if (!c) return pm_error(PMAP_ENOMEM, "%s: not enough memory", what);
    error = pm_command_launch(c, what);
    if (error) pm_command_free(c);
    else *command = c;
    return error;
}

int pmap_command_start(pmap_command **command, const pmap_command_options *options)
{
    return start(command, "pmap_command_start", options, 1);
}

int pmap_command_chain(pmap_command **command, const pmap_command_options *options, size_t count)
{
    return start(command, "pmap_command_chain", options, count);
}

int pmap_command_poll(pmap_command *c)
{
    int error = enter(c, "pmap_command_poll");
    return error ? error : pm_command_step(c);
}

static int wait_for_end(pmap_command *c, const char *what, double timeout_s)
{
    if (isnan(timeout_s)) return pm_error(PMAP_EINVAL, "%s: timeout_s is not a number", what);
    int64_t end = timeout_s < 0 ? INT64_MAX : pm_after(pm_now(), timeout_s);
    c->fed = true;
    while (!pm_command_step(c)) {
        bool full = c->full;
        pm_command_deliver(c);
        if (full) continue;
        if (end != INT64_MAX && pm_now() >= end)
            return pm_error(PMAP_ETIMEDOUT, "%s: it has not ended within %g s", what, timeout_s);
        pm_command_pause(c, end);
    }
    pm_command_deliver(c);
    return 0;
}

int pmap_command_wait(pmap_command *c, double timeout_s)
{
    int error = enter(c, "pmap_command_wait");
    return error ? error : wait_for_end(c, "pmap_command_wait", timeout_s);
}

int pmap_command_communicate(pmap_command *c, const void *input, size_t bytes, double timeout_s)
{
    int error = enter(c, "pmap_command_communicate");
    if (error) return error;
    if (bytes && !input) return pm_error(PMAP_EINVAL, "pmap_command_communicate: input is NULL, bytes is %zu", bytes);
    if (c->plan->each[0].in.to != PMAP_IO_PIPE || c->fed)
        return pm_error(PMAP_EINVAL, "pmap_command_communicate: options->in was not PMAP_IO_PIPE, or its input was "
                                     "given or ended before");
    c->input = input;
    c->input_bytes = bytes;
    return wait_for_end(c, "pmap_command_communicate", timeout_s);
}

int pmap_command_run(const pmap_command_options *options, pmap_command **command)
{
    pmap_command *c = NULL;
    if (command) *command = NULL;
    int error = start(&c, "pmap_command_run", options, 1);
    if (error) return error;
    error = wait_for_end(c, "pmap_command_run", -1);
    if (!error) error = pmap_command_check(c);
    if (command) *command = c;
    else (void)pmap_command_close(c);
    return error;
}

const char *pmap_command_output(const pmap_command *c, int stream, size_t *bytes)
{
    const struct pm_capture *out = c && (stream == 1 || stream == 2) ? &c->out[stream - 1] : NULL;
    if (bytes) *bytes = out ? out->size : 0;
    return out && out->data ? out->data : "";
}

int pmap_command_fd(pmap_command *c, int stream)
{
    int error = enter(c, "pmap_command_fd");
    if (error) return error;
    if (stream < 0 || stream > 2 || c->fd[stream] < 0)
        return pm_error(PMAP_EINVAL, "pmap_command_fd: the command has no pipe for stream %d, or no more", stream);
    int fd = c->fd[stream], flags = fcntl(fd, F_GETFL);
    c->fd[stream] = -1;
    if (flags >= 0) (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    return fd;
}

int pmap_command_terminate(pmap_command *c)
{
    int error = enter(c, "pmap_command_terminate");
    if (!error && !pm_command_step(c)) pm_command_stop(c, PMAP_CAUSE_CANCELLED);
    return error;
}

int pmap_command_signal(pmap_command *c, int signal)
{
    int error = enter(c, "pmap_command_signal");
    if (error) return error;
    if (signal < 1 || signal > 64) return pm_error(PMAP_EINVAL, "pmap_command_signal: there is no signal %d", signal);
    error = pm_command_send(c, signal);
    if (error == -EPERM) return pm_error(PMAP_EPERM, "pmap_command_signal: the command runs as another user");
    return error ? pm_error_system(error, "pmap_command_signal") : 0;
}

void *pmap_command_user(const pmap_command *c) { return c ? c->plan->each[0].user : NULL; }

int pmap_command_close(pmap_command *c)
{
    int error = 0;
    if (!c) return 0;
    if (c->owner != getpid()) c->epoll = -1; /* this process has copies of the descriptors, and nothing else of it */
    else if (!c->over && pm_command_end(c, END_NS) != 0)
        error = pm_error(PMAP_ESYSTEM, "pmap_command_close: the kernel has not ended process %ld within 10 s",
                         (long)c->member[0].pid);
    pm_command_free(c);
    return error;
}

/* Starts the processes of a command: opens what their standard streams are redirected to, and the pipes between them
 * and to this process, and hands each to pm_spawn().  Everything it opens is close-on-exec and above 2; what only a
 * child needs is closed here. */
#include "pmap/command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmap/pool.h"
#include "pmap/spawn.h"
#include "shm/event.h"
#include "shm/fd.h"

#define END_NS INT64_C(10000000000)

int64_t pm_after(int64_t now_ns, double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9) return INT64_MAX;
    return now_ns + (int64_t)ceil(seconds * 1e9);
}

pmap_command *pm_command_new(struct pm_plan *plan)
{
    const pmap_command_options *first = plan->each;
    pmap_command *c = calloc(1, sizeof *c + plan->count * sizeof *c->member);
    struct pollfd *polls = malloc((plan->count + 3) * sizeof *polls);
    if (!c || !polls) {
        free(polls);
        free(c);
        free(plan);
        return NULL;
    }
    c->plan = plan;
    c->owner = getpid();
    c->count = plan->count;
    c->polls = polls;
    c->epoll = -1;
    c->input = first->input;
    c->input_bytes = first->input_bytes;
    c->fed = first->input != NULL;
    c->grace_ns = first->grace_s < 0 ? 0 : pm_after(0, first->grace_s);
    c->timeout_ns = c->kill_ns = c->late_ns = c->look_ns = c->watch_ns = INT64_MAX;
    for (int i = 0; i < 3; i++) c->fd[i] = -1;
    for (size_t i = 0; i < c->count; i++) c->member[i] = (struct pm_member){.pidfd = -1, .status = -1};
    return c;
}

void pm_command_free(pmap_command *c)
{
    for (int i = 0; i < 3; i++) pm_command_shut(c, &c->fd[i]);
    for (size_t i = 0; i < c->count; i++) pm_command_shut(c, &c->member[i].pidfd);
    for (int i = 0; i < 2; i++) free(c->out[i].data);
    free(c->text);
    free(c->polls);
    free(c->plan);
    free(c);
}

void pm_command_fail(pmap_command *c, int error)
{
    c->error = error;
    c->text = strdup(pmap_error());
    c->over = true;
}

/* ---- Redirections ---- */

struct ends { /* of one process */
    int fd[3];
    bool ours[3]; /* to be closed here when it has started */
};

struct wires { /* of the whole command */
    int link;  /* the reading end of the pipe from the process before */
    int err;   /* the writing end of the pipe that captures err, which all share */
};

/* Closes *fd behind what was begun with it. */
static void drop(int *fd)
{
    if (*fd >= 0) (void)close(*fd);
    *fd = -1;
}

static int refused(int e, const char *what, const char *doing, const char *name)
{
    int code = e == ENOENT ? PMAP_ENOENT : e == EACCES ? PMAP_EACCES : e == ENOMEM ? PMAP_ENOMEM : PMAP_ESYSTEM;
    return pm_error(code, "%s: %s '%s': %s", what, doing, name, strerror(e));
}

static int open_file(const char *what, const char *path, int flags, int *fd)
{
    int got;
    do got = open(path, flags | O_CLOEXEC, 0666);
    while (got < 0 && errno == EINTR);
    *fd = pm_fd_above_stdio(got < 0 ? -errno : got);
    return *fd < 0 ? refused(-*fd, what, "cannot open", path) : 0;
}

static int open_pipe(const char *what, int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) return pm_error(PMAP_ESYSTEM, "%s: pipe2: %s", what, strerror(errno));
    for (int i = 0; i < 2; i++) ends[i] = pm_fd_above_stdio(ends[i]);
    if (ends[0] >= 0 && ends[1] >= 0) return 0;
    int e = ends[0] < 0 ? -ends[0] : -ends[1];
    drop(&ends[0]);
    drop(&ends[1]);
    return pm_error(PMAP_ESYSTEM, "%s: pipe2: %s", what, strerror(e));
}

/* A pipe of which this process keeps one end. */
static int open_own(pmap_command *c, const char *what, int stream, int *fd)
{
    int ends[2], error = open_pipe(what, ends);
    if (error) return error;
    c->fd[stream] = ends[stream == 0 ? 1 : 0];
    *fd = ends[stream == 0 ? 0 : 1];
    (void)fcntl(c->fd[stream], F_SETFL, O_NONBLOCK); /* of this end only: the child's is another open file */
    return 0;
}

static int redirect(pmap_command *c, const char *what, const pmap_redirect *r, int stream, struct wires *wires,
                    struct ends *ends)
{
    static const int writes = O_WRONLY | O_CREAT;
    int *fd = &ends->fd[stream];
    pmap_io to = r->to;
    if (to == PMAP_IO_DEFAULT) to = stream != 0 ? PMAP_IO_INHERIT : c->input ? PMAP_IO_PIPE : PMAP_IO_NULL;
    if (to == PMAP_IO_INHERIT && fcntl(stream, F_GETFD) < 0) to = PMAP_IO_NULL;
    ends->ours[stream] = to != PMAP_IO_INHERIT && to != PMAP_IO_FD && to != PMAP_IO_STDOUT;
    switch (to) {
    case PMAP_IO_FD: *fd = r->fd; return 0;
    case PMAP_IO_FILE: return open_file(what, r->path, stream == 0 ? O_RDONLY : writes | O_TRUNC, fd);
    case PMAP_IO_APPEND: return open_file(what, r->path, writes | O_APPEND, fd);
    case PMAP_IO_STDOUT: *fd = PM_SPAWN_AS_1; return 0;
    case PMAP_IO_PIPE:
        if (stream != 2) return open_own(c, what, stream, fd);
        ends->ours[2] = false; /* closed when the last process has it */
        if (wires->err < 0) {
            int error = open_own(c, what, 2, &wires->err);
            if (error) return error;
        }
        *fd = wires->err;
        return 0;
    case PMAP_IO_NULL: return open_file(what, "/dev/null", O_RDWR, fd);
    case PMAP_IO_DEFAULT:
    case PMAP_IO_INHERIT:
    default: *fd = stream; return 0;
    }
}

static int open_ends(pmap_command *c, const char *what, size_t i, struct wires *wires, struct ends *ends)
{
    const pmap_command_options *o = &c->plan->each[i];
    int error, next[2];
    if (i > 0) {
        ends->fd[0] = wires->link;
        ends->ours[0] = true;
        wires->link = -1;
    } else if ((error = redirect(c, what, &o->in, 0, wires, ends))) return error;
    if (i + 1 < c->count) {
        if ((error = open_pipe(what, next))) return error;
        wires->link = next[0];
        ends->fd[1] = next[1];
        ends->ours[1] = true;
    } else if ((error = redirect(c, what, &o->out, 1, wires, ends))) return error;
    return redirect(c, what, &o->err, 2, wires, ends);
}

/* ---- Programs ---- */

static const char *path_of(const char *const *env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
    return "/bin:/usr/bin"; /* as execvp() does */
}

static int tell(const char *what, int e, enum pm_spawn_stage stage, const pmap_command_options *o, const char *name)
{
    switch (stage) {
    case PM_SPAWN_LIMITS:
        if (e == EINVAL && o->cpu)
            return pm_error(PMAP_EINVAL, "%s: options->cpu is %u: the CPU %u is none that '%s' may use", what, o->cpu, o->cpu - 1, name);
        return refused(e, what, "cannot set the limits of", name);
    case PM_SPAWN_CWD: return refused(e, what, "cannot enter the directory", o->cwd);
    case PM_SPAWN_EXEC:
        if (e == ENOENT && name[0] == '/' && access(name, F_OK) == 0)
            return pm_error(PMAP_ENOENT, "%s: cannot run '%s': its interpreter does not exist", what, name);
        if (e == ENOEXEC)
            return pm_error(PMAP_ESYSTEM,
                            "%s: cannot run '%s': neither a program for this machine nor a script with #!", what, name);
        return refused(e, what, "cannot run", name);
    case PM_SPAWN_FDS: return refused(e, what, "cannot redirect the streams of", name);
    case PM_SPAWN_FORK:
    default: return refused(e, what, "cannot start a process for", name);
    }
}

static int start_one(const char *what, const pmap_command_options *o, const struct ends *ends, struct pm_member *m)
{
    size_t n = 0;
    while (o->argv && o->argv[n]) n++;
    const char **line = NULL;
    if (o->shell) { /* sh -c LINE $0 $1 ... */
        line = calloc(n + 5, sizeof *line);
        if (!line) return pm_error(PMAP_ENOMEM, "%s: not enough memory", what);
        line[0] = "/bin/sh";
        line[1] = "-c";
        line[2] = o->shell;
        line[3] = "sh";
        if (n) memcpy(line + 3, o->argv, n * sizeof *line);
    }
    const char *const *env = o->env ? o->env : (const char *const *)environ;
    static const char *const none[] = {NULL};
    if (!env) env = none; /* after clearenv() */
    struct pm_spawn s = {.argv = line ? line : o->argv, .env = env, .path = path_of(env), .cwd = o->cwd};
    s.keep = o->keep;
    s.nkeep = o->keeps;
    s.group = !o->same_group;
    s.cpu = o->cpu;
    s.memory = o->memory;
    s.parent = o->tied ? getpid() : 0;
    for (int k = 0; k < 3; k++) s.fd[k] = ends->fd[k];
    enum pm_spawn_stage stage;
    pid_t pid;
    int error = pm_spawn(&s, &pid, &m->pidfd, &stage);
    if (error) error = tell(what, -error, stage, o, s.argv[0]);
    else m->pid = pid;
    free(line);
    return error;
}

int pm_command_launch(pmap_command *c, const char *what)
{
    struct wires wires = {-1, -1};
    int error = 0;
    c->start_ns = pm_now();
    for (size_t i = 0; i < c->count && !error; i++) {
        struct ends ends = {{-1, -1, -1}, {false, false, false}};
        error = open_ends(c, what, i, &wires, &ends);
        if (!error) {
            c->plan->each[i].same_group = c->plan->each[0].same_group;
            error = start_one(what, &c->plan->each[i], &ends, &c->member[i]);
        }
        for (int k = 0; k < 3; k++)
            if (ends.ours[k]) drop(&ends.fd[k]);
        if (c->member[i].pid && c->member[i].pidfd < 0) c->look_ns = c->start_ns;
    }
    drop(&wires.link);
    drop(&wires.err);
    if (error) {
        (void)pm_command_end(c, END_NS); /* those of a chain that run already */
        pm_command_fail(c, error);
        return error;
    }
    double timeout = c->plan->each[0].timeout_s;
    if (timeout > 0) c->timeout_ns = pm_after(c->start_ns, timeout);
    return 0;
}

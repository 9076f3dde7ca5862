/* The process of one path: opens its pool, places its input, and runs when it is told to.  See runner.h. */
#include "cli/runner.h"
#include "cli/killer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool processes(enum path path) { return path == PATH_SHM || path == PATH_SHM_COPY || path == PATH_ZMQ; }

static void answer(int fd, const struct answer *a)
{
    /* When the parent has gone there is nobody to run for. */
    if (send(fd, a, sizeof *a, MSG_NOSIGNAL) != (ssize_t)sizeof *a) _exit(1);
}

/* Tells why a pmap call failed, with its first failed item if it names some. */
static _Noreturn void fail(int fd, pmap_pool *pool, int error)
{
    static struct answer a;
    const pmap_failure *list;
    size_t count = 0;

    a.kind = error == PMAP_ENOTSUP ? ANSWER_NOT_BUILT_IN : ANSWER_FAILED;
    list = pool && error == PMAP_EITEMS ? pmap_failures(pool, &count) : NULL;
    snprintf(a.text, sizeof a.text, "%s%s%s%s%s", pmap_strerror(error), *pmap_error() ? ": " : "", pmap_error(),
             list && count ? "; first: " : "", list && count ? list[0].text : "");
    answer(fd, &a);
    pmap_pool_terminate(pool, 0);
    _exit(0);
}

static pmap_pool *open_pool(const struct runner *r, int fd)
{
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_pool *pool;
    int error;

    options.workers = r->workers;
    options.executor = r->path == PATH_SERIAL ? PMAP_SERIAL : r->path == PATH_OPENMP ? PMAP_THREADS : PMAP_PROCESSES;
    options.channel = r->path == PATH_ZMQ ? PMAP_ZMQ : PMAP_SHM;
    error = pmap_pool_open(&pool, &options);
    if (error) fail(fd, NULL, error);
    return pool;
}

/* One run, timed from outside of the library by the runner's own clock. */
static void run(const struct runner *r, struct job *job, enum order order, int fd)
{
    const struct workload *w = workloads[r->workload];
    const struct settings *s = job->settings;
    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    struct pmap_stats stats = { .size = sizeof stats };
    uint64_t kill_ms = order == ORDER_RUN && processes(r->path) ? s->kill_every_ms : 0;
    static struct answer a; /* static, so that what lies between its members is zero and never undefined on the wire */
    struct killer killer;
    double began;
    int error;

    options.chunk = (size_t)(s->chunk ? s->chunk : w->chunk);
    options.stats = &stats;
    if (s->kill_every_ms)
        options.retries = 30; /* the kills are ours: no item shall fail because it was hit a third time */
    if (kill_ms && killer_start(&killer, job->pool, kill_ms)) fail(fd, NULL, PMAP_ESYSTEM);
    began = now_ms();
    error = w->run(job, &options);
    a.sample.wall_ms = now_ms() - began;
    if (kill_ms) killer_stop(&killer);
    if (error) fail(fd, job->pool, error);

    a.kind = ANSWER_SAMPLE;
    a.sample.cost = (struct part_costs){ stats.transfer_in_s * 1e3, stats.compute_s * 1e3, stats.transfer_out_s * 1e3,
                                         stats.dispatch_s * 1e3, stats.idle_s * 1e3 };
    /* Before and behind what the library timed, and it may lose its CPU there: the workers have nothing to do. */
    a.sample.cost.idle += r->workers * (a.sample.wall_ms - stats.wall_s * 1e3);
    a.sample.bytes_copied = stats.bytes_copied;
    a.sample.deaths = stats.deaths;
    a.sample.retries = stats.retries;
    a.sample.right = w->check(job, &stats, &a.sample.result);
    answer(fd, &a);
}

static _Noreturn void body(const struct runner *r, const struct settings *settings, const struct input *file, int fd)
{
    static struct answer ready;
    struct job job = { .in_place = r->path == PATH_SHM, .settings = settings, .items = r->items };
    char order;
    int error;

    if (workloads[r->workload]->takes_input) job.file = file;
    job.pool = open_pool(r, fd);
    error = workloads[r->workload]->prepare(&job);
    if (error) fail(fd, job.pool, error);
    ready.kind = ANSWER_READY;
    answer(fd, &ready);
    while (recv(fd, &order, 1, 0) == 1) run(r, &job, (enum order)order, fd);
    pmap_pool_close(job.pool);
    _exit(0); /* not exit(): what the parent's stdio buffers held is the parent's to write */
}

int runner_start(struct runner *r, const struct settings *settings, const struct input *file,
                 const struct runner *others, unsigned nothers)
{
    static const int ours[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGPIPE };
    pid_t parent = getpid();
    sigset_t none;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return -1;
    r->pid = fork();
    if (r->pid < 0) {
        int error = errno;

        close(pair[0]);
        close(pair[1]);
        r->pid = 0;
        errno = error;
        return -1;
    }
    if (r->pid > 0) {
        close(pair[1]);
        r->fd = pair[0];
        return 0;
    }
    /* The parent has one thread, so its death and no other is what this signal tells. If it has died already: leave. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    setpgid(0, 0); /* Ctrl-C goes to the parent alone, which ends its runners in order */
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) signal(ours[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close(pair[0]);
    for (unsigned i = 0; i < nothers; i++)
        if (others[i].fd >= 0) close(others[i].fd);
    body(r, settings, file, pair[1]);
}

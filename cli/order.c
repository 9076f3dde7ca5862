/* Runs all paths of a workload in turn.  See order.h. */
#include "cli/order.h"
#include "cli/family.h"
#include "cli/summary.h"
#include "cli/words.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ASLEEP_MS 2000.0 /* how long a path may take to fall asleep */
#define ENDED_MS 5000.0  /* and a runner to close its pool */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static const char *name_of(const struct runner *r)
{
    static char name[80];

    snprintf(name, sizeof name, "%s on %s with %u worker%s", workload_names[r->workload], path_names[r->path],
             r->workers, r->workers == 1 ? "" : "s");
    return name;
}

static void progress(const char *format, const char *text, uint64_t run, uint64_t runs)
{
    if (!isatty(STDERR_FILENO)) return;
    fputs("\r\033[K", stderr);
    if (format) fprintf(stderr, format, text, (unsigned long long)run, (unsigned long long)runs);
    fflush(stderr);
}

int order_open(struct order_of_runs *o, const struct settings *settings, const struct input *file)
{
    *o = (struct order_of_runs){ .settings = settings, .file = file };
    o->alone = waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
    /* What a runner that dies leaves behind then comes to this process, which can end it and see that it has ended. */
    if (o->alone) prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_DFL); /* if it was ignored, the kernel would forget how our children end */
    return 0;
}

/* SIGCHLD and the signals that end the program arrive in a descriptor while runners live; else they do what they
 * always do. */
static int signals_watch(struct order_of_runs *o)
{
    static const int watched[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        struct sigaction old;

        /* Ignored, as under nohup, stays ignored. */
        if (!sigaction(watched[i], NULL, &old) && old.sa_handler != SIG_IGN) sigaddset(&set, watched[i]);
    }
    o->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (o->signals < 0) {
        complain("signalfd: %s", strerror(errno));
        return -1;
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    return 0;
}

static void signals_unwatch(struct order_of_runs *o)
{
    sigset_t none;

    close(o->signals);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Waits until fd (or nothing, -1) is readable, a signal has come, or `ms` have passed (-1 = for ever). */
static void rest(struct order_of_runs *o, int fd, int ms)
{
    struct pollfd fds[2] = { { o->signals, POLLIN, 0 }, { fd, POLLIN, 0 } };
    struct signalfd_siginfo got;

    poll(fds, 2, ms);
    while (read(o->signals, &got, sizeof got) == (ssize_t)sizeof got)
        if (got.ssi_signo != SIGCHLD && !o->stopped) o->stopped = (int)got.ssi_signo;
}

static bool ended(const struct runner *r)
{
    siginfo_t who = { 0 };

    return waitid(P_PID, (id_t)r->pid, &who, WEXITED | WNOHANG | WNOWAIT) < 0 || who.si_pid != 0;
}

/* Reaps a runner that has ended, and says so unless it ended well. */
static int reap(struct runner *r)
{
    int status = 0;
    pid_t got = waitpid(r->pid, &status, 0);

    r->pid = 0;
    if (got < 0) complain("%s: its process has ended and its status is lost", name_of(r));
    else if (WIFSIGNALED(status))
        complain("%s: its process was ended by signal %d (%s)", name_of(r), WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status)) complain("%s: its process ended with status %d", name_of(r), WEXITSTATUS(status));
    else return 0;
    return -1;
}

/* 0 with the answer; -1 when the runner has died, which is reported, or the program was stopped. */
static int listen_to(struct order_of_runs *o, struct runner *r, struct answer *answer)
{
    for (;;) {
        bool over = ended(r); /* looked at before reading: what it sent before its end is still read below */
        ssize_t got = recv(r->fd, answer, sizeof *answer, MSG_DONTWAIT);

        if (got == (ssize_t)sizeof *answer) return 0;
        if (o->stopped) return -1;
        if (over) {
            progress(NULL, NULL, 0, 0);
            if (!reap(r)) complain("%s: its process has ended too early", name_of(r));
            return -1;
        }
        /* An end of file comes before the end of the process: wait for that alone then. */
        rest(o, got == 0 ? -1 : r->fd, -1);
    }
}

/* Only when the path is fully asleep may another be timed: libgomp's threads, for one, go on spinning after a region.
 */
static int wait_asleep(struct order_of_runs *o, const struct runner *r)
{
    double until = now_ms() + ASLEEP_MS;
    unsigned looks = 0;

    while (looks < 2 && !o->stopped) {
        looks = family_asleep(r->pid) ? looks + 1 : 0;
        if (looks == 2) break;
        if (now_ms() > until) {
            complain("%s: still busy %.0f s after its run, which may disturb the next path", name_of(r),
                     ASLEEP_MS / 1e3);
            break;
        }
        rest(o, -1, 1);
    }
    return o->stopped ? -1 : 0;
}

/* One answer, and then sleep.  0, 1 = this build has no such path, or -1. */
static int turn(struct order_of_runs *o, struct runner *r, struct answer *answer)
{
    if (listen_to(o, r, answer)) return -1;
    if (answer->kind == ANSWER_NOT_BUILT_IN && o->settings->all_paths) {
        complain("%s is left out: %s", name_of(r), answer->text);
        return 1;
    }
    if (answer->kind != ANSWER_READY && answer->kind != ANSWER_SAMPLE) {
        progress(NULL, NULL, 0, 0);
        complain("%s: %s", name_of(r), answer->text);
        return -1;
    }
    return wait_asleep(o, r);
}

static int timed(struct order_of_runs *o, struct runner *r, enum order order, struct sample *sample)
{
    char word = (char)order;
    struct answer answer;

    /* A runner that has died cannot be told, but listen_to() then says how it died. */
    (void)send(r->fd, &word, 1, MSG_NOSIGNAL);
    if (turn(o, r, &answer)) return -1;
    *sample = answer.sample;
    return 0;
}

/* Ends all runners, in order or at once, and whatever they left. */
static int end_all(struct order_of_runs *o, bool orderly)
{
    double until = now_ms() + (orderly ? ENDED_MS : 0);
    bool bad = false;

    for (unsigned i = 0; i < o->nrunners; i++)
        if (o->runners[i].fd >= 0) close(o->runners[i].fd);
    for (unsigned i = 0; i < o->nrunners; i++) {
        struct runner *r = &o->runners[i];

        r->fd = -1;
        if (!r->pid) continue;
        while (orderly && !o->stopped && !ended(r) && now_ms() < until) rest(o, -1, 10);
        if (orderly && ended(r)) {
            if (reap(r)) bad = true;
        } else {
            if (orderly && !o->stopped) {
                complain("%s: its pool did not close within %.0f s", name_of(r), ENDED_MS / 1e3);
                bad = true;
            }
            kill(r->pid, SIGKILL);
            waitpid(r->pid, NULL, 0);
            r->pid = 0;
        }
    }
    o->nrunners = 0;
    /* A pool whose application died cleans up by itself; after a second nobody is asked any more. */
    until = now_ms() + 1000;
    while (o->alone) {
        pid_t got = waitpid(-1, NULL, WNOHANG);

        if (got > 0) continue;
        if (got < 0 || now_ms() > until + ENDED_MS) break;
        if (now_ms() > until) family_kill(getpid());
        rest(o, -1, 10);
    }
    return bad ? -1 : 0;
}

static int add_runner(struct order_of_runs *o, unsigned workload, enum path path, unsigned workers)
{
    struct runner *r = &o->runners[o->nrunners];
    struct answer answer;
    int got;

    *r = (struct runner){ .fd = -1, .workload = workload, .path = path, .workers = workers };
    r->items = workload_items(workload, o->settings, o->file);
    progress("%s: preparing", name_of(r), 0, 0);
    fflush(NULL); /* or the child, whose pool flushes stdio when it opens, would write our buffers a second time */
    if (runner_start(r, o->settings, o->file, o->runners, o->nrunners)) {
        complain("%s: cannot be started: %s", name_of(r), strerror(errno));
        return -1;
    }
    o->nrunners++;
    got = turn(o, r, &answer);
    if (got <= 0) return got;
    close(r->fd);
    waitpid(r->pid, NULL, 0); /* it has said why, and leaves */
    r->pid = 0;
    r->fd = -1;
    o->nrunners--;
    return 0;
}

/* Serial comes first: it is the reference, for speed where it was asked for, and for the bits of real numbers in any
 * case. */
static int add_all(struct order_of_runs *o, unsigned workload, bool *hidden)
{
    const struct settings *s = o->settings;
    unsigned standard = workload_workers(workload, workload_items(workload, s, o->file));

    *hidden = !s->paths[PATH_SERIAL] && workloads[workload]->takes_input;
    if ((s->paths[PATH_SERIAL] || *hidden) && add_runner(o, workload, PATH_SERIAL, 1)) return -1;
    for (int path = PATH_SERIAL + 1; path < PATHS; path++)
        for (unsigned i = 0; s->paths[path] && (i < s->nworkers || i == 0); i++)
            if (add_runner(o, workload, (enum path)path, s->nworkers ? s->workers[i] : standard)) return -1;
    return 0;
}

/* A warm-up of all, then run by run each path in turn, so that a noisy machine is fair to all. */
static int run_all(struct order_of_runs *o, struct sample *samples, struct sample *warm, bool hidden)
{
    uint64_t runs = o->settings->runs;

    for (uint64_t run = 0; run <= runs; run++)
        for (unsigned i = 0; i < o->nrunners; i++) {
            struct runner *r = &o->runners[i];

            if (run && hidden && i == 0) continue; /* only its bits are wanted */
            progress(run ? "%s: run %llu of %llu" : "%s: warm-up", name_of(r), run, runs);
            if (timed(o, r, run ? ORDER_RUN : ORDER_WARM_UP, run ? &samples[i * runs + run - 1] : &warm[i])) return -1;
        }
    return 0;
}

int order_workload(struct order_of_runs *o, unsigned workload, struct result *results, unsigned *count)
{
    struct sample *samples = calloc(MOST_RUNNERS * (size_t)o->settings->runs, sizeof *samples); /* touched as used */
    static struct sample warm[MOST_RUNNERS];
    bool hidden = false;
    int error;

    *count = 0;
    if (!samples) {
        complain("not enough memory for %llu runs", (unsigned long long)o->settings->runs);
        return -1;
    }
    if (signals_watch(o)) {
        free(samples);
        return -1;
    }
    error = add_all(o, workload, &hidden) || run_all(o, samples, warm, hidden) ? -1 : 0;
    progress(NULL, NULL, 0, 0);
    for (unsigned i = hidden ? 1 : 0; !error && i < o->nrunners; i++)
        summarise(&results[(*count)++], &o->runners[i], &samples[i * o->settings->runs], &warm[i], &warm[0].result,
                  o->settings, o->file);
    for (unsigned i = 0; i < *count; i++)
        results[i].speedup = results[i].median > 0 ? results[0].median / results[i].median : 0;
    if (end_all(o, !error)) error = -1;
    if (o->stopped) error = -1;
    signals_unwatch(o);
    free(samples);
    return error;
}

void order_close(struct order_of_runs *o)
{
    if (o->alone) prctl(PR_SET_CHILD_SUBREAPER, 0);
}

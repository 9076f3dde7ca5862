/* `parmap run`: one command for each group of arguments.  The library's pmap_commands starts and watches them; this is what goes in, what comes
 * out, and what is done about a job that fails:
 *
 *     arguments -> a job -> [its time: a retry, --delay, --load] -> the set -> ended -> [again] -> output, log
 *
 * One thread, one loop, one wait: for the set, for input where a job could be started, and for signals. */
#include "cli/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "cli/words.h"

#define FLUSH_S 0.01
#define TICK_MS 250 /* the longest sleep: time-outs of commands are kept in pmap_commands_next() */

double run_clock(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(struct run *r)
{
    r->broken = true;
    r->stopping = STOP_NOW;
}

/* ---- In ---- */

/* The job that is to be started next: 1; 0: there is none, or none yet. -1 after a message. */
static int choose(struct run *r, double now, double *again, struct job **job)
{
    if (r->retries && r->retries->due <= now) {
        *job = r->retries;
        r->retries = (*job)->next;
        return 1;
    }
    if (r->retries && r->retries->due < *again) *again = r->retries->due;
    if (r->read_all) return 0;
    return job_next(r, job);
}

static int begin(struct run *r, struct job *job)
{
    const struct batch *b = r->batch;
    if (b->dry_run || (b->ask && !progress_ask(r, job))) {
        int e = b->dry_run ? progress_dry(r, job) : 0;
        if (!e) e = output_skip(r->output, job->seq);
        job_free(r, job);
        return e;
    }
    int e = job_start(r, job);
    if (e) job_free(r, job);
    return e;
}

/* Starts what can be started now.  *again: when there may be more to do, whatever else happens. */
static void fill(struct run *r, double *again)
{
    double now = run_clock();
    r->hungry = false;
    control_look(r, now);
    if (r->filters) {
        if (filters_feed(r, now, again)) fail(r);
        return;
    }
    while (r->stopping == STOP_NOT && control_room(r, now, again)) {
        struct job *job = NULL;
        int got = choose(r, now, again, &job);
        if (got == 0) return;
        if (got < 0) { /* no fault of the jobs before it: they run as if the input ended here */
            r->broken = r->read_all = true;
            return;
        }
        if (begin(r, job)) {
            fail(r);
            return;
        }
        if (r->batch->delay > 0) now = run_clock();
    }
}

/* ---- Out ---- */

/* Takes back what has ended.  The set keeps time-outs meanwhile. */
static size_t drain(struct run *r)
{
    pmap_command *command;
    size_t n = 0;
    int e;
    for (; (e = pmap_commands_next(r->set, 0, &command)) == 0 && command; n++)
        if (job_ended(r, command)) fail(r);
    if (e != 0 && e != PMAP_ETIMEDOUT) {
        complain("%s", pmap_error());
        fail(r);
    }
    if (output_error(r->output)) fail(r);
    return n;
}

/* Where one job after the other ends, what they wrote is written together, soon. */
static void flush(struct run *r, size_t ended, double *again)
{
    double now = run_clock();
    if (ended && now < r->last_flush + FLUSH_S) {
        if (r->last_flush + FLUSH_S < *again) *again = r->last_flush + FLUSH_S;
        return;
    }
    r->last_flush = now;
    if (output_flush(r->output) || (r->journal && journal_sync(r->journal))) fail(r);
    progress_show(r, now, false);
}

/* ---- Signals ---- */

static const int heard[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP};

static int open_signals(sigset_t *before)
{
    sigset_t set, children;
    struct sigaction old;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof heard / sizeof *heard; i++)
        /* What the program was started to ignore (nohup, a shell's background job) stays ignored. */
        if (sigaction(heard[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaddset(&set, heard[i]);
    (void)sigprocmask(SIG_BLOCK, &set, before);
    /* Nobody hears SIGCHLD, but this thread would be woken for each to find that out. */
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &children, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* First: what runs may end.  Second, and when the terminal has gone: it is ended. */
static void interrupt(struct run *r, int signal)
{
    bool first = r->signal == 0 && signal != SIGHUP;
    if (r->signal == 0) r->signal = signal;
    progress_hide(r);
    size_t running = r->in_set < r->at_once ? r->in_set : r->at_once; /* those that wait for a place are taken back */
    if (first && running) complain("%s: starting no more, waiting for %zu to end; again: they are ended", strsignal(signal), running);
    if (!first) r->stopping = STOP_NOW;
    else if (r->stopping == STOP_NOT) r->stopping = STOP_SOON;
}

/* The jobs are in groups of their own, so a terminal stops only us. */
static void stop_for_now(struct run *r)
{
    sigset_t set, before;
    progress_hide(r);
    (void)pmap_commands_signal(r->set, SIGTSTP);
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    (void)raise(SIGTSTP); /* pending: it takes effect when it is unblocked */
    (void)sigprocmask(SIG_UNBLOCK, &set, &before);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    (void)pmap_commands_signal(r->set, SIGCONT);
}

static void hear(struct run *r, int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info) switch ((int)info.ssi_signo) {
        case SIGUSR1: control_more(r, 1); break;
        case SIGUSR2: control_more(r, -1); break;
        case SIGTSTP: stop_for_now(r); break;
        default: interrupt(r, (int)info.ssi_signo);
        }
}

/* ---- The loop ---- */

static void wait_some(struct run *r, int signals, double again)
{
    struct pollfd p[4] = {{signals, POLLIN, 0}, {pmap_commands_fd(r->set), POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}};
    double now = run_clock(), ms = TICK_MS;
    if (r->hungry) p[2].fd = r->reader ? args_fd(r->reader) : blocks_fd(r->blocks);
    if (r->filters) p[3].fd = filters_fd(r);
    if (again < now + ms / 1000) ms = again > now ? (again - now) * 1000 + 1 : 0;
    (void)poll(p, 4, (int)ms);
    if (p[0].revents) hear(r, signals);
}

/* What was decided meanwhile takes effect once. */
static void stop(struct run *r, enum stopping *stopped)
{
    if (*stopped == r->stopping) return;
    *stopped = r->stopping;
    (void)pmap_commands_unqueue(r->set);
    if (r->stopping == STOP_NOW) (void)pmap_commands_cancel(r->set);
}

static void loop(struct run *r, int signals)
{
    enum stopping stopped = STOP_NOT;
    r->begun = run_clock();
    for (;;) {
        double again = 1e300;
        fill(r, &again);
        stop(r, &stopped);
        if (r->in_set == 0 && (r->stopping != STOP_NOT || (r->read_all && !r->retries))) break;
        size_t ended = drain(r);
        flush(r, ended, &again);
        if (ended && r->in_set < r->at_once) again = 0; /* there are places: fill them, then wait */
        if (r->stopping == stopped) wait_some(r, signals, again);
    }
    if (output_flush(r->output)) fail(r);
    progress_show(r, run_clock(), true);
}

/* ---- Open and close ---- */

static int open_words(struct run *r)
{
    static char values[] = "{}", number[] = "{#}";
    const struct batch *b = r->batch;
    r->shell = b->shell || b->resume == RETRY_FAILED;
    r->most_bytes = r->shell ? TEMPLATE_MOST_WORD : template_most();
    if (b->most_chars && b->most_chars < r->most_bytes) r->most_bytes = b->most_chars;
    if (b->resume == RETRY_FAILED) return 0;
    if (r->pipe) {
        r->blocks = blocks_open(b);
        if (r->blocks) r->words = template_make_plain(b, b->words, b->nwords);
    } else {
        r->reader = args_open(b);
        if (r->reader) r->words = template_make(b, b->words, b->nwords, true, r->reader);
    }
    if (!r->words || (b->filter && filters_open(r))) return -1;
    r->limit = template_limit(r->words, r->most_bytes);
    if (b->tag || b->tagstring) {
        r->tag_batch = *b;
        r->tag_batch.shell = false;
        r->tag_batch.fill = FILL_NONE;
        r->tag_word[0] = b->tagstring ? (char *)(uintptr_t)b->tagstring : r->pipe ? number : values;
        r->tag = r->pipe ? template_make_plain(&r->tag_batch, r->tag_word, 1) : template_make(&r->tag_batch, r->tag_word, 1, false, r->reader);
        if (!r->tag) return -1;
    }
    return 0;
}

static int open_all(struct run *r)
{
    const struct batch *b = r->batch;
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    if (b->ask && !progress_can_ask()) return -1;
    if (control_begin(r)) return -1;
    if (b->joblog && !(r->journal = journal_open(b, STDOUT_FILENO))) return -1;
    if (!(r->output = output_open(b, r->journal))) return -1;
    progress_begin(r);
    o.at_once = r->at_once;
    o.spawners = r->at_once < r->cpus ? r->at_once : r->cpus;
    if (o.spawners > 64) o.spawners = 64;
    if (r->filters) o.spawners = 0; /* they are started within the call: see filter.c */
    o.jobserver = b->jobserver;
    if (pmap_commands_open(&r->set, &o)) {
        complain("%s", pmap_error());
        return -1;
    }
    return 0;
}

static void close_all(struct run *r)
{
    for (struct job *job; (job = r->retries);) {
        r->retries = job->next;
        job_free(r, job);
    }
    if (pmap_commands_close(r->set)) complain("%s", pmap_error());
    if (r->output && output_close(r->output)) r->broken = true;
    if (r->journal && journal_close(r->journal)) r->broken = true;
    template_free(r->words);
    template_free(r->tag);
    args_close(r->reader);
    filters_close(r);
    blocks_close(r->blocks);
    control_end(r);
}

static void say_stats(const struct run *r)
{
    double wall = run_clock() - r->begun;
    fprintf(stderr, "parmap: %zu jobs in %.3f s (%.0f a second), %zu failed, %zu at most at once\n", r->done, wall, wall > 0 ? (double)r->done / wall : 0,
            r->failed, (size_t)r->at_once);
}

static int carry_out(const struct batch *batch, bool pipe)
{
    static struct run run;
    struct run *r = &run;
    sigset_t before;
    r->pipe = pipe;
    r->batch = batch;
    r->own_status = -1;
    int error = open_words(r); /* which may wait for input, and ends with Ctrl-C then */
    int signals = open_signals(&before);
    if (signals < 0) complain("signalfd: %s", strerror(errno));
    if (signals < 0 || error || open_all(r)) {
        close_all(r);
        return 1;
    }
    loop(r, signals);
    bool worked = !r->broken;
    close_all(r);
    if (batch->stats) say_stats(r);
    if (fflush(stdout) && worked) {
        complain("standard output: %s", strerror(errno));
        r->broken = true;
    }
    (void)close(signals);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return control_status(r);
}

int batch_run(const struct batch *batch) { return carry_out(batch, false); }

int batch_pipe(const struct batch *batch)
{
    struct batch b = *batch;
    if (b.filter && b.grouping == OUTPUT_GROUP) b.grouping = OUTPUT_LINES; /* they end with the input only */
    return carry_out(&b, true);
}

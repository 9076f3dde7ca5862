/* Many commands, a bounded number of them at once: a queue, those that run, and those that have ended, in the order of
 * their ends. One epoll set watches all that run; each event, and each time that is due, is one pm_command_step().
 *
 *     queue -> launch, in the caller's thread or a spawner's -> running -> ended -> handed back
 *
 * Spawners: a start keeps its thread waiting until the kernel has begun the program, so one thread starts one command
 * after the other however many CPUs there are.  A spawner does nothing but start; bytes, ends and times are the
 * business of the thread that calls pmap_commands_next().  `lock` guards everything here but the epoll wait and the
 * launch itself; a command that is being launched is in no list and belongs to its spawner. */
#include "pmap/command.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pmap/pool.h"
#include "shm/event.h"
#include "shm/fd.h"

#define MOST_SPAWNERS 64u
#define EVENTS 64
#define END_NS INT64_C(10000000000)

struct list {
    pmap_command *first, *last;
    size_t n;
};

struct pmap_commands {
    pid_t owner;
    int epoll;
    int wake; /* an eventfd in it: a spawner has something to tell that no descriptor of the command's will */
    pthread_mutex_t lock;
    pthread_cond_t work; /* spawners: something to start and room for it, or stop */
    struct list queue, running, ended;
    size_t starting; /* being launched by spawners */
    unsigned at_once;
    unsigned cancels; /* how often all was cancelled */
    int64_t due_ns;   /* no running command is due earlier; INT64_MAX = none is */
    bool stop;
    unsigned nthreads;
    pthread_t thread[MOST_SPAWNERS];
};

static void append(struct list *list, pmap_command *c)
{
    c->next = NULL;
    c->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
    list->n++;
}

static void unlink_from(struct list *list, pmap_command *c)
{
    *(c->previous ? &c->previous->next : &list->first) = c->next;
    *(c->next ? &c->next->previous : &list->last) = c->previous;
    list->n--;
}

/* ---- With the lock held ---- */

static void retire(pmap_commands *s, pmap_command *c)
{
    c->epoll = -1; /* all its descriptors are closed */
    append(&s->ended, c);
    if (s->nthreads) (void)pthread_cond_signal(&s->work);
}

static void move_on(pmap_commands *s, pmap_command *c)
{
    if (c->over) return; /* a second event of one that has ended meanwhile */
    if (pm_command_step(c)) {
        unlink_from(&s->running, c);
        retire(s, c);
    } else if (pm_command_due(c) < s->due_ns) s->due_ns = pm_command_due(c);
}

/* Takes in what was launched; `cancels` as it was before.  True when that changes until when pmap_commands_next() may
 * sleep. */
static bool admit(pmap_commands *s, pmap_command *c, unsigned cancels)
{
    int error = c->over ? 0 : pm_command_watch(c, s->epoll);
    if (error) {
        (void)pm_command_end(c, END_NS);
        pm_command_fail(c, pm_error_system(error, "pmap_commands_next: epoll_ctl"));
    }
    if (c->over) {
        retire(s, c);
        return true;
    }
    if (cancels != s->cancels) pm_command_stop(c, PMAP_CAUSE_CANCELLED);
    append(&s->running, c);
    int64_t due = pm_command_due(c);
    if (due >= s->due_ns) return false;
    s->due_ns = due;
    return true;
}

static bool room(const pmap_commands *s) { return s->queue.n > 0 && s->running.n + s->starting < s->at_once; }

/* Starts the first of the queue, and lets go of the lock meanwhile.  Returns what admit() does. */
static bool launch_one(pmap_commands *s)
{
    pmap_command *c = s->queue.first;
    unsigned cancels = s->cancels;
    unlink_from(&s->queue, c);
    s->starting++;
    (void)pthread_mutex_unlock(&s->lock);
    (void)pm_command_launch(c, "pmap_commands_next"); /* an error stays in the command */
    (void)pthread_mutex_lock(&s->lock);
    s->starting--;
    return admit(s, c, cancels);
}

static void sweep(pmap_commands *s)
{
    s->due_ns = INT64_MAX;
    for (pmap_command *c = s->running.first, *next; c; c = next) {
        next = c->next;
        move_on(s, c);
    }
}

/* ---- Spawners ---- */

static void tell(const pmap_commands *s)
{
    uint64_t one = 1;
    ssize_t n = write(s->wake, &one, sizeof one); /* full means that it has been told */
    (void)n;
}

static void *spawner(void *arg)
{
    pmap_commands *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (!room(s)) {
            (void)pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        if (launch_one(s)) tell(s);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Ends the spawners; one in the middle of a launch finishes it first. */
static void end_spawners(pmap_commands *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    (void)pthread_cond_broadcast(&s->work);
    (void)pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->nthreads; i++) (void)pthread_join(s->thread[i], NULL);
    s->nthreads = 0;
}

/* No signal of the program is handled by a thread that it does not know. */
static int start_spawners(pmap_commands *s, unsigned n)
{
    sigset_t all, before;
    int error = 0;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; s->nthreads < n && !error; s->nthreads += !error)
        error = pthread_create(&s->thread[s->nthreads], NULL, spawner, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* ---- The calls ---- */

static int enter(const pmap_commands *s, const char *what)
{
    if (!s) return pm_error(PMAP_EINVAL, "%s: commands is NULL", what);
    if (s->owner != getpid()) return pm_error(PMAP_EFORK, "%s: the commands belong to another process", what);
    return 0;
}

static void let_go(pmap_commands *s)
{
    if (s->wake >= 0) (void)close(s->wake);
    if (s->epoll >= 0) (void)close(s->epoll);
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

int pmap_commands_open(pmap_commands **commands, const pmap_commands_options *options)
{
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    if (!commands) return pm_error(PMAP_EINVAL, "pmap_commands_open: commands is NULL");
    *commands = NULL;
    if (options) {
        if (options->size < offsetof(pmap_commands_options, spawners) || options->size > 4096)
            return pm_error(PMAP_EINVAL,
                            "pmap_commands_open: options->size is %zu; start from PMAP_COMMANDS_OPTIONS_INIT",
                            options->size);
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    if (o.spawners > MOST_SPAWNERS)
        return pm_error(PMAP_EINVAL, "pmap_commands_open: %u spawners asked for; at most %u", o.spawners,
                        MOST_SPAWNERS);
    pmap_commands *s = calloc(1, sizeof *s);
    if (!s) return pm_error(PMAP_ENOMEM, "pmap_commands_open: not enough memory");
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->work, NULL);
    s->owner = getpid();
    s->epoll = s->wake = -1;
    s->at_once = o.at_once ? o.at_once : pmap_cpus();
    s->due_ns = INT64_MAX;

    struct epoll_event e = {.events = EPOLLIN};
    int error = s->epoll = pm_fd_above_stdio((s->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ? -errno : s->epoll);
    if (error >= 0)
        error = s->wake = pm_fd_above_stdio((s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ? -errno : s->wake);
    if (error >= 0) error = epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &e) ? -errno : 0;
    if (error >= 0) error = -start_spawners(s, o.spawners);
    if (error < 0) {
        end_spawners(s);
        let_go(s);
        return pm_error_system(error, "pmap_commands_open");
    }
    *commands = s;
    return 0;
}

int pmap_commands_add(pmap_commands *s, const pmap_command_options *options, size_t count)
{
    struct pm_plan *plan;
    int error = enter(s, "pmap_commands_add");
    if (!error) error = pm_plan_make(&plan, "pmap_commands_add", options, count);
    if (error) return error;
    pmap_command *c = pm_command_new(plan);
    if (!c) return pm_error(PMAP_ENOMEM, "pmap_commands_add: not enough memory");
    c->fed = true; /* nobody can give it more */
    (void)pthread_mutex_lock(&s->lock);
    append(&s->queue, c);
    if (s->nthreads) (void)pthread_cond_signal(&s->work);
    else if (room(s)) (void)launch_one(s);
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

/* Sleeps until something happens, something is due, or end_ns; then deals with it.  Comes and goes with the lock. */
static int wait_some(pmap_commands *s, int64_t end_ns)
{
    struct epoll_event events[EVENTS];
    int64_t due = s->due_ns < end_ns ? s->due_ns : end_ns, left = due == INT64_MAX ? -1 : due - pm_now();
    int ms = due == INT64_MAX ? -1 : 0; /* rounded up, so that the last bit is no busy loop */
    if (left > 0) ms = left / 1000000 >= INT_MAX ? INT_MAX : (int)((left + 999999) / 1000000);
    (void)pthread_mutex_unlock(&s->lock);
    int n = epoll_wait(s->epoll, events, EVENTS, ms), error = n < 0 && errno != EINTR ? -errno : 0;
    (void)pthread_mutex_lock(&s->lock);
    for (int i = 0; i < n; i++) {
        uint64_t told;
        if (events[i].data.ptr) move_on(s, events[i].data.ptr);
        else if (read(s->wake, &told, sizeof told) < 0 && errno != EAGAIN) error = -errno;
    }
    if (pm_now() >= s->due_ns) sweep(s);
    return error;
}

int pmap_commands_next(pmap_commands *s, double timeout_s, pmap_command **command)
{
    int error = enter(s, "pmap_commands_next");
    if (error) return error;
    if (!command || isnan(timeout_s))
        return pm_error(PMAP_EINVAL, "pmap_commands_next: %s",
                        command ? "timeout_s is not a number" : "command is NULL");
    *command = NULL;
    int64_t end = timeout_s < 0 ? INT64_MAX : pm_after(pm_now(), timeout_s);
    (void)pthread_mutex_lock(&s->lock);
    for (;;) {
        /* First fill the places, so that none is empty while the caller looks at what has ended. */
        while (!s->nthreads && room(s)) (void)launch_one(s);
        if (s->ended.first || s->queue.n + s->running.n + s->starting == 0) break;
        if ((error = wait_some(s, end)) < 0) {
            error = pm_error_system(error, "pmap_commands_next: epoll_wait");
            break;
        }
        if (!s->ended.first && end != INT64_MAX && pm_now() >= end) {
            error = pm_error(PMAP_ETIMEDOUT, "pmap_commands_next: none of %zu has ended within %g s",
                             s->running.n + s->starting, timeout_s);
            break;
        }
    }
    if (!error && s->ended.first) {
        *command = s->ended.first;
        unlink_from(&s->ended, *command);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return error;
}

int pmap_commands_resize(pmap_commands *s, unsigned at_once)
{
    int error = enter(s, "pmap_commands_resize");
    if (error) return error;
    (void)pthread_mutex_lock(&s->lock);
    s->at_once = at_once ? at_once : pmap_cpus();
    if (s->nthreads) (void)pthread_cond_broadcast(&s->work);
    else if (room(s)) tell(s); /* who polls the descriptor comes to start them */
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

int pmap_commands_fd(pmap_commands *s)
{
    int error = enter(s, "pmap_commands_fd");
    return error ? error : s->epoll;
}

size_t pmap_commands_count(pmap_commands *s)
{
    if (!s || s->owner != getpid()) return 0;
    (void)pthread_mutex_lock(&s->lock);
    size_t n = s->queue.n + s->starting + s->running.n + s->ended.n;
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

/* With the lock held. */
static void unqueue(pmap_commands *s)
{
    if (s->queue.first) tell(s); /* there is something to hand back */
    for (pmap_command *c; (c = s->queue.first);) {
        unlink_from(&s->queue, c);
        pm_command_fail(c, pm_error(PMAP_ECANCELLED, "'%s' was cancelled before it was started",
                                    c->plan->each[0].shell ? c->plan->each[0].shell : c->plan->each[0].argv[0]));
        retire(s, c);
    }
}

int pmap_commands_unqueue(pmap_commands *s)
{
    int error = enter(s, "pmap_commands_unqueue");
    if (error) return error;
    (void)pthread_mutex_lock(&s->lock);
    unqueue(s);
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

int pmap_commands_signal(pmap_commands *s, int signal)
{
    int error = enter(s, "pmap_commands_signal");
    if (error) return error;
    if (signal < 1 || signal >= NSIG) return pm_error(PMAP_EINVAL, "pmap_commands_signal: there is no signal %d", signal);
    (void)pthread_mutex_lock(&s->lock);
    for (pmap_command *c = s->running.first; c; c = c->next) (void)pm_command_send(c, signal);
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

int pmap_commands_cancel(pmap_commands *s)
{
    int error = enter(s, "pmap_commands_cancel");
    if (error) return error;
    (void)pthread_mutex_lock(&s->lock);
    s->cancels++;
    unqueue(s);
    for (pmap_command *c = s->running.first; c; c = c->next) pm_command_stop(c, PMAP_CAUSE_CANCELLED);
    tell(s);
    s->due_ns = 0; /* the next wait sweeps all, and learns when their grace is over */
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

static void free_all(struct list *list)
{
    for (pmap_command *c; (c = list->first);) {
        unlink_from(list, c);
        pm_command_free(c);
    }
}

int pmap_commands_close(pmap_commands *s)
{
    int error = 0;
    if (!s) return 0;
    if (s->owner != getpid()) {
        /* No spawner is here, the lock may be held by one, and the lists be in the middle of a change. */
        (void)close(s->wake);
        (void)close(s->epoll);
        return 0;
    }
    end_spawners(s);
    /* First tell all, then wait for one after the other. */
    for (pmap_command *c = s->running.first; c; c = c->next) (void)pm_command_send(c, SIGKILL);
    for (pmap_command *c = s->running.first; c; c = c->next)
        if (pm_command_end(c, END_NS) != 0)
            error = pm_error(PMAP_ESYSTEM, "pmap_commands_close: the kernel has not ended process %ld within 10 s",
                             (long)c->member[0].pid);
    free_all(&s->queue);
    free_all(&s->running);
    free_all(&s->ended);
    let_go(s);
    return error;
}

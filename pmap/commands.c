/* Many commands, a bounded number of them at once: a queue, those that run, and those that have ended, in the order of
 * their ends. One epoll set watches all that run; each event, and each time that is due, is one pm_command_step().
 *
 *     queue -> launch, in the caller's thread or a spawner's -> running -> ended -> handed back
 *
 * Spawners: a start keeps its thread waiting until the kernel has begun the program, so one thread starts one command
 * after the other however many CPUs there are.  Where all places are taken a spawner stays with the command that it has
 * started, for 3 ms at most: a short one costs no more switches between threads than posix_spawn() and waitpid() do.
 * Else it waits for events: who learns of an end starts the next command itself, and nobody else has to be woken for
 * that.  Events are edges, so each wakes one thread.  pmap_commands_next() is told of ends, a few at a time while there is more to start; it waits for events
 * itself where there is no spawner, or where all of them are in launches, which may block (a redirection to a FIFO).
 *
 * `lock` guards everything here but the waits and the launch itself; a command that is being launched belongs to its
 * spawner, but for its place in a list and `signals`.  A thread may come out of the wait with an event of a command that
 * another has dealt with meanwhile, and that was freed: so events name a place in a table and whose turn there it is. */
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

#include "pmap/command_list.h"
#include "pmap/options.h"
#include "pmap/pool.h"
#include "shm/event.h"
#include "shm/fd.h"
#include "workers/jobserver.h"

#define MOST_SPAWNERS 64u
#define EVENTS 64
#define END_NS INT64_C(10000000000)
#define WAKE UINT64_MAX          /* the key of the eventfd */
#define TOKEN (UINT64_MAX - 1)   /* of make's jobserver */
#define MOST_TOKENS 1024u
#define TICK INT64_C(20000000)   /* between two looks of pmap_commands_next() whether anybody waits for events */
#define HASTY 64u                /* commands, after one that wrote as much as its pipe takes while nobody looked */
#define KEEP_NS INT64_C(5000000) /* so long it is not told of an end while there is more to start, */
#define KEEP 16u                 /* unless there are so many: it would take a CPU from what starts and runs */

struct place { /* of a command that runs */
    pmap_command *command; /* NULL = it is free */
    uint32_t turn;         /* counts its commands */
    uint32_t next;         /* of the free ones */
};

struct pmap_commands {
    pid_t owner;
    int epoll;
    int wake; /* an eventfd in it, for what no descriptor of a command tells */
    int outside;      /* the same for who polls pmap_commands_fd() where there are spawners; negative = nobody does */
    pthread_mutex_t lock;
    pthread_cond_t told; /* for pmap_commands_next(); on the monotonic clock */
    struct pm_command_list queue, starting, running, ended; /* `starting`: being launched */
    struct place *place;
    uint32_t places, free; /* `free`: the first of them; places = none */
    unsigned at_once;
    unsigned watching; /* threads that wait for events */
    unsigned hasty;    /* so many commands are watched from the start */
    unsigned alone;    /* spawners that wait for the command that they have just started, and for nothing else */
    unsigned cancels; /* how often all was cancelled */
    int64_t due_ns;   /* no running command is due earlier; INT64_MAX = none is */
    int64_t keep_ns;  /* when ends that were not told are to be told; INT64_MAX = all were */
    bool waiting;     /* for `told` */
    bool fresh;       /* some that runs has something for its output function */
    bool stop;
    int error;        /* why spawners cannot wait for events */
    int jobserver[2]; /* to take tokens from and give them to; -1 = there is none */
    bool rationed;
    _Atomic uint32_t ntokens;
    char token[MOST_TOKENS];
    unsigned nthreads;
    pthread_t thread[MOST_SPAWNERS];
};

/* ---- With the lock held ---- */

static struct pm_tokens tokens(pmap_commands *s) { return (struct pm_tokens){&s->ntokens, s->token, MOST_TOKENS}; }

static bool room(pmap_commands *s)
{
    size_t n = s->running.n + s->starting.n;
    if (s->queue.n == 0 || n >= s->at_once) return false;
    return !s->rationed || n <= s->ntokens || pm_jobserver_take(tokens(s), s->jobserver);
}

/* Tokens that nothing will use soon go back to make; and whoever waits for events is told when there is one again. */
static void ration(pmap_commands *s)
{
    if (!s->rationed) return;
    size_t n = s->running.n + s->starting.n + s->queue.n;
    if (n > s->at_once) n = s->at_once;
    pm_jobserver_give(tokens(s), s->jobserver, n ? (unsigned)n - 1 : 0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = TOKEN}};
    if (n > s->ntokens + 1 && s->jobserver[0] >= 0) (void)epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->jobserver[0], &e);
}

/* Places for one command more than there are now, as far as they can run at once: 0, or -ENOMEM. */
static int make_places(pmap_commands *s)
{
    size_t most = s->queue.n + s->starting.n + s->running.n + 1, n = s->places ? 2 * (size_t)s->places : 16;
    if (most > s->at_once) most = s->at_once;
    if (most <= s->places) return 0;
    if (n > UINT32_MAX) return -ENOMEM;
    struct place *more = realloc(s->place, n * sizeof *more);
    if (!more) return -ENOMEM;
    for (uint32_t i = s->places; i < n; i++) more[i] = (struct place){.next = i + 1 < n ? i + 1 : (uint32_t)n};
    s->place = more; /* the list of free ones ended with the number of places, which is the first new one now */
    s->places = (uint32_t)n;
    return 0;
}

static void poke(int fd)
{
    uint64_t one = 1;
    ssize_t n = fd >= 0 ? write(fd, &one, sizeof one) : 0; /* full means that it has been told */
    (void)n;
}

/* Makes a thread that waits for events look again; and who polls for them where there is no spawner. */
static void call_one(const pmap_commands *s)
{
    if (s->watching || !s->nthreads) poke(s->wake);
}

static void retire(pmap_commands *s, pmap_command *c)
{
    c->epoll = -1; /* all its descriptors are closed */
    pm_command_append(&s->ended, c);
    if (s->keep_ns == INT64_MAX) s->keep_ns = pm_now() + KEEP_NS;
}

static void tell_ends(pmap_commands *s)
{
    if (!s->fresh && (s->keep_ns == INT64_MAX || (s->queue.n > 0 && s->ended.n < KEEP && pm_now() < s->keep_ns))) return;
    s->keep_ns = INT64_MAX;
    if (s->waiting) (void)pthread_cond_signal(&s->told);
    poke(s->outside);
}

/* True when it is over, and may be gone as soon as the lock is. */
static bool move_on(pmap_commands *s, pmap_command *c)
{
    bool over = pm_command_step(c);
    if (over) {
        struct place *p = &s->place[c->place];
        *p = (struct place){.turn = p->turn + 1, .next = s->free};
        s->free = c->place;
        pm_command_unlink(&s->running, c);
        retire(s, c);
    } else {
        if (pm_command_due(c) < s->due_ns) s->due_ns = pm_command_due(c);
        s->fresh |= c->fresh;
    }
    return over;
}

static void event(pmap_commands *s, uint64_t key)
{
    const struct place *p = &s->place[(uint32_t)key];
    if (p->command && p->turn == key >> 32) (void)move_on(s, p->command); /* else it has ended meanwhile */
}

/* May the spawner that has started it wait for this one alone?  Most commands end soon, and this way it costs no event
 * set and wakes nobody else.  Not while a place is free, as who fills it is looked for among those that wait for
 * events; nor where others run whose events nobody would see. */
static bool may_stay(const pmap_commands *s, const pmap_command *c)
{
    if (!s->nthreads || s->rationed || s->hasty || c->count != 1 || c->member[0].pidfd < 0 || c->fd[0] >= 0) return false;
    return s->watching || (s->running.n == s->alone && s->starting.n + s->running.n + 1 >= s->at_once);
}

/* Waits for a while; true when it is over.  Comes and goes with the lock.  Nobody else steps it, so its pidfd stays open. */
static bool stay(pmap_commands *s, pmap_command *c)
{
    int pidfd = c->member[0].pidfd;
    int64_t due = pm_command_due(c);
    c->alone = true;
    s->alone++;
    (void)pthread_mutex_unlock(&s->lock);
    bool ended = pm_command_ends_soon(pidfd, due);
    (void)pthread_mutex_lock(&s->lock);
    s->alone--;
    c->alone = false;
    return ended && move_on(s, c);
}

/* Takes in what was launched; `cancels` as it was before. */
static void admit(pmap_commands *s, pmap_command *c, unsigned cancels)
{
    if (c->over) {
        retire(s, c);
        return;
    }
    struct place *p = &s->place[s->free];
    c->place = s->free;
    s->free = p->next;
    p->command = c;
    uint64_t key = (uint64_t)p->turn << 32 | c->place;
    bool alone = may_stay(s, c);
    /* Without spawners the program may sleep at the set's descriptor, and then nobody looks when it is due. */
    if (!alone) pm_command_watch(c, s->epoll, key, s->nthreads > 0 && !s->hasty);
    s->hasty -= s->hasty > 0;
    if (cancels != s->cancels) pm_command_stop(c, PMAP_CAUSE_CANCELLED);
    for (int signal = 1; c->signals && signal <= 64; signal++)
        if (c->signals >> (signal - 1) & 1) (void)pm_command_send(c, signal);
    pm_command_append(&s->running, c);
    if (alone && stay(s, c)) return;
    if (alone && pm_command_writes_much(c)) s->hasty = HASTY;
    if (alone) pm_command_watch(c, s->epoll, key, false); /* which tells of what has happened before, too */
    int64_t due = pm_command_due(c);
    if (due >= s->due_ns) return;
    s->due_ns = due;
    call_one(s); /* those sleep for too long */
}

/* Starts the first of the queue, and lets go of the lock meanwhile. */
static void launch_one(pmap_commands *s)
{
    pmap_command *c = s->queue.first;
    unsigned cancels = s->cancels;
    pm_command_unlink(&s->queue, c);
    pm_command_append(&s->starting, c);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pm_command_launch(c, "pmap_commands_next"); /* an error stays in the command */
    (void)pthread_mutex_lock(&s->lock);
    pm_command_unlink(&s->starting, c);
    admit(s, c, cancels);
}

/* Those that are due; and finds out when the next one is. */
static void sweep(pmap_commands *s, int64_t now)
{
    s->due_ns = INT64_MAX;
    for (pmap_command *c = s->running.first, *next; c; c = next) {
        next = c->next;
        if (c->alone) continue; /* its spawner looks itself when it is due */
        int64_t due = pm_command_due(c);
        if (due <= now) (void)move_on(s, c);
        else if (due < s->due_ns) s->due_ns = due;
    }
}

/* Sleeps until something happens, something is due, or end_ns; then deals with it.  Comes and goes with the lock. */
static int wait_some(pmap_commands *s, int64_t end_ns)
{
    struct epoll_event events[EVENTS];
    int64_t due = s->due_ns < end_ns ? s->due_ns : end_ns;
    if (s->keep_ns < due) due = s->keep_ns;
    int64_t left = due == INT64_MAX ? -1 : due - pm_now();
    int ms = due == INT64_MAX ? -1 : 0; /* rounded up, so that the last bit is no busy loop */
    if (left > 0) ms = left / 1000000 >= INT_MAX ? INT_MAX : (int)((left + 999999) / 1000000);
    ration(s);
    s->watching++;
    (void)pthread_mutex_unlock(&s->lock);
    int n = epoll_wait(s->epoll, events, EVENTS, ms), error = n < 0 && errno != EINTR ? -errno : 0;
    (void)pthread_mutex_lock(&s->lock);
    s->watching--;
    for (int i = 0; i < n; i++) {
        uint64_t told;
        if (events[i].data.u64 == TOKEN) continue; /* room() takes it, if nobody else has */
        if (events[i].data.u64 != WAKE) event(s, events[i].data.u64);
        else if (read(s->wake, &told, sizeof told) < 0 && errno != EAGAIN) error = -errno;
    }
    int64_t now = pm_now();
    if (now >= s->due_ns) sweep(s, now);
    return error;
}

/* ---- Spawners ---- */

static void *spawner(void *arg)
{
    pmap_commands *s = arg;
    int error;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->stop && !s->error) {
        if (room(s)) launch_one(s);
        else if ((error = wait_some(s, INT64_MAX)) < 0) s->error = error; /* never back to 0 */
        tell_ends(s);
    }
    s->keep_ns = 0; /* an error is to be told at once */
    tell_ends(s);
    call_one(s); /* of the others, which does the same */
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Ends the spawners; one in the middle of a launch finishes it first. */
static void end_spawners(pmap_commands *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    call_one(s);
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
    pm_jobserver_give(tokens(s), s->jobserver, 0);
    pm_jobserver_close(s->jobserver);
    if (s->outside >= 0) (void)close(s->outside);
    if (s->wake >= 0) (void)close(s->wake);
    if (s->epoll >= 0) (void)close(s->epoll);
    free(s->place);
    (void)pthread_cond_destroy(&s->told);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static int open_jobserver(pmap_commands *s)
{
    struct epoll_event e = {.events = EPOLLONESHOT, .data = {.u64 = TOKEN}};
    enum pm_offer offer = pm_jobserver_find(getenv("MAKEFLAGS"), s->jobserver);
    s->rationed = offer != PM_OFFER_NONE;
    return s->jobserver[0] >= 0 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->jobserver[0], &e) ? -errno : 0;
}

int pmap_commands_open(pmap_commands **commands, const pmap_commands_options *options)
{
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    if (!commands) return pm_error(PMAP_EINVAL, "pmap_commands_open: commands is NULL");
    *commands = NULL;
    int error = pm_options(&o, sizeof o, offsetof(pmap_commands_options, spawners), options, "pmap_commands_open", "PMAP_COMMANDS_OPTIONS_INIT");
    if (error) return error;
    if (o.spawners > MOST_SPAWNERS)
        return pm_error(PMAP_EINVAL, "pmap_commands_open: %u spawners asked for; at most %u", o.spawners,
                        MOST_SPAWNERS);
    pmap_commands *s = calloc(1, sizeof *s);
    if (!s) return pm_error(PMAP_ENOMEM, "pmap_commands_open: not enough memory");
    (void)pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->told, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    s->owner = getpid();
    s->epoll = s->wake = s->outside = s->jobserver[0] = s->jobserver[1] = -1;
    s->at_once = o.at_once ? o.at_once : pmap_cpus();
    s->due_ns = s->keep_ns = INT64_MAX;

    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data = {.u64 = WAKE}};
    error = s->epoll = pm_fd_above_stdio((s->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ? -errno : s->epoll);
    if (error >= 0)
        error = s->wake = pm_fd_above_stdio((s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ? -errno : s->wake);
    if (error >= 0) error = epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &e) ? -errno : 0;
    if (error >= 0 && o.jobserver) error = open_jobserver(s);
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
    error = make_places(s);
    if (!error) pm_command_append(&s->queue, c);
    if (!error && room(s)) {
        if (s->nthreads) call_one(s);
        else launch_one(s);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (!error) return 0;
    pm_command_free(c);
    return pm_error(PMAP_ENOMEM, "pmap_commands_add: not enough memory");
}

/* Until an end is told, or end_ns; comes and goes with the lock.  Where no spawner waits for events, as all of them are in
 * launches, the caller does: those come back, or block for long. */
static int wait_for_spawners(pmap_commands *s, int64_t end_ns)
{
    int64_t now = pm_now(), until = now + TICK < end_ns ? now + TICK : end_ns;
    bool sure = s->watching && s->queue.n == 0 && s->starting.n == 0 && end_ns == INT64_MAX; /* they will stay there */
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
    s->waiting = true;
    int late = until <= now ? ETIMEDOUT : sure ? pthread_cond_wait(&s->told, &s->lock) : pthread_cond_timedwait(&s->told, &s->lock, &t);
    s->waiting = false;
    if (s->error) return s->error;
    return late && !s->watching && !s->ended.first ? wait_some(s, until + TICK < end_ns ? until + TICK : end_ns) : 0;
}

/* Output functions are called by pmap_commands_next() alone, never in a spawner. */
static void deliver(pmap_commands *s)
{
    while (s->fresh) {
        s->fresh = false;
        for (pmap_command *c = s->running.first, *next; c; c = next) {
            bool full = c->full;
            next = c->next;
            pm_command_deliver(c);
            if (full) (void)move_on(s, c); /* there is room for more of it now */
        }
    }
}

/* Before looking at what it told of: what comes behind that tells again. */
static void hush(const pmap_commands *s)
{
    uint64_t told;
    ssize_t n = s->outside >= 0 ? read(s->outside, &told, sizeof told) : 0;
    (void)n;
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
    hush(s);
    for (;;) {
        deliver(s);
        /* First fill the places, so that none is empty while the caller looks at what has ended. */
        while (!s->nthreads && room(s)) launch_one(s);
        if (s->ended.first || s->queue.n + s->running.n + s->starting.n == 0) break;
        if ((error = s->nthreads ? wait_for_spawners(s, end) : wait_some(s, end)) < 0) {
            error = pm_error_system(error, "pmap_commands_next: epoll_wait");
            break;
        }
        if (!s->ended.first && end != INT64_MAX && pm_now() >= end) {
            if (s->due_ns == 0) call_one(s); /* more was there than one step reads, and no event tells of it again */
            error = pm_error(PMAP_ETIMEDOUT, "pmap_commands_next: none of %zu has ended within %g s",
                             s->running.n + s->starting.n, timeout_s);
            break;
        }
    }
    if (!error && s->ended.first) {
        *command = s->ended.first;
        pm_command_unlink(&s->ended, *command);
        if (!s->ended.first) s->keep_ns = INT64_MAX;
        pm_command_deliver(*command);
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
    int64_t most = (int64_t)(s->queue.n + s->starting.n + s->running.n);
    while (!error && s->places < (most < s->at_once ? most : s->at_once)) error = make_places(s);
    if (error) s->at_once = s->places; /* as many as there is memory for */
    if (room(s)) call_one(s); /* who polls the descriptor comes to start them */
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

int pmap_commands_fd(pmap_commands *s)
{
    int error = enter(s, "pmap_commands_fd");
    if (error || !s->nthreads) return error ? error : s->epoll;
    (void)pthread_mutex_lock(&s->lock);
    if (s->outside < 0) {
        int fd = pm_fd_above_stdio((fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ? -errno : fd);
        if (fd < 0) error = pm_error_system(fd, "pmap_commands_fd");
        else s->outside = fd;
        if (s->ended.first || s->fresh) poke(s->outside);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return error ? error : s->outside;
}

size_t pmap_commands_count(pmap_commands *s)
{
    if (!s || s->owner != getpid()) return 0;
    (void)pthread_mutex_lock(&s->lock);
    size_t n = s->queue.n + s->starting.n + s->running.n + s->ended.n;
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

/* With the lock held. */
static void unqueue(pmap_commands *s)
{
    for (pmap_command *c; (c = s->queue.first);) {
        pm_command_unlink(&s->queue, c);
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
    call_one(s);
    tell_ends(s);
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
    for (pmap_command *c = s->starting.first; c; c = c->next) c->signals |= UINT64_C(1) << (signal - 1); /* it may run already */
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
    s->due_ns = 0; /* the next wait sweeps, and learns when their grace is over */
    call_one(s);
    tell_ends(s);
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

int pmap_commands_close(pmap_commands *s)
{
    int error = 0;
    if (!s) return 0;
    if (s->owner != getpid()) {
        /* No spawner is here, the lock may be held by one, and the lists be in the middle of a change. */
        pm_jobserver_close(s->jobserver);
        if (s->outside >= 0) (void)close(s->outside);
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
    pm_command_free_all(&s->queue);
    pm_command_free_all(&s->running);
    pm_command_free_all(&s->ended);
    let_go(s);
    return error;
}

/* `parmap call`: a C function for every record of files, run by a pool of processes.  Looks up the function, makes the memory that is shared
 * with the workers, and turns the wheel: cut blocks, give them in, print what is done.  See call.h for how the parts work together. */
#include "cli/call.h"
#include "cli/words.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_WORKERS 4095u
#define SLOTS_A_WORKER 4u
#define LARGEST_AREA ((uint64_t)64 << 30)
#define SMALLEST_AREA ((uint64_t)16 << 20)
#define ALL_AREAS ((uint64_t)8 << 40)     /* of address space */
#define MOST_OUT ((uint64_t)16 << 20)     /* of a block: the program then prints that first */
#define EVEN ((uint64_t)1 << 20)
#define TINY 32u                          /* bytes: perhaps a record */

/* ---- The function ---- */

static int open_library(struct call_run *run, char *path)
{
    char here[4096];
    bool there = access(path, F_OK) == 0;

    /* A name without a slash would be looked for where the system's libraries are. */
    if (there && !strchr(path, '/') && snprintf(here, sizeof here, "./%s", path) < (int)sizeof here) path = here;
    run->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (run->library) return 0;
    complain("the library cannot be loaded: %s", dlerror());
    return there ? 126 : 127;
}

static void *optional(const struct call_run *run, const char *hook)
{
    char name[512];

    if (snprintf(name, sizeof name, "%s_%s", run->function, hook) >= (int)sizeof name) return NULL;
    return dlsym(run->library, name);
}

static int find_function(struct call_run *run)
{
    const char *word = run->batch->words[0], *colon = strrchr(word, ':'); /* checked with the command line */
    char *path = strndup(word, (size_t)(colon - word));
    int error = path ? open_library(run, path) : 1;

    if (!path) complain("not enough memory for a name");
    run->function = colon + 1;
    /* POSIX promises that an object pointer holds a function's address; C does not, so it goes through an integer. */
    if (!error) {
        run->record = (parmap_record_fn *)(uintptr_t)dlsym(run->library, run->function);
        run->init = (parmap_init_fn *)(uintptr_t)optional(run, "init");
        run->block = (parmap_block_fn *)(uintptr_t)optional(run, "block");
        run->exit = (parmap_exit_fn *)(uintptr_t)optional(run, "exit");
        if (!run->record) {
            complain("%s has no function %s", path, run->function);
            error = 126;
        }
    }
    free(path);
    return error;
}

/* ---- Shared memory ---- */

static uint64_t pages(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

/* Address space, of which memory becomes what is used: headers, slots, and two areas for each.  Less of it where there is a limit. */
static bool make_room(struct call_run *run, unsigned workers)
{
    uint64_t slots, fixed;
    char *at;

    run->slots = SLOTS_A_WORKER * workers > 8 ? SLOTS_A_WORKER * workers : 8;
    slots = pages(run->slots * sizeof *run->slot);
    fixed = pages(sizeof *run->control) + slots;
    for (run->area = LARGEST_AREA; run->area * (2 * run->slots + 1) > ALL_AREAS;) run->area /= 2;
    for (;; run->area /= 2) {
        if (run->area < SMALLEST_AREA) {
            complain("not enough memory for %u blocks", run->slots);
            return false;
        }
        run->shared_bytes = fixed + run->area * (2 * run->slots + 1);
        run->shared = mmap(NULL, run->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (run->shared != MAP_FAILED) break;
    }
    at = run->shared + run->area; /* the first one is for headers */
    run->control = (struct call_control *)(void *)at;
    run->slot = (struct call_slot *)(void *)(at + pages(sizeof *run->control));
    at += fixed;
    for (unsigned i = 0; i < run->slots; i++) {
        run->slot[i].out = at + 2 * i * run->area;
        run->slot[i].in = run->slot[i].out + run->area;
    }
    run->most_out = run->area / 4 < MOST_OUT ? run->area / 4 : MOST_OUT;
    return true;
}

/* ---- Output ---- */

/* Not into what is read: it would grow as fast as it is read, or lose what was not read yet. */
static int open_output(const struct batch *batch, const struct call_source *source)
{
    int fd = batch->output ? open(batch->output, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : STDOUT_FILENO;
    const char *name = batch->output ? batch->output : "standard output";
    struct stat st = { 0 };

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && call_source_has(source, st.st_dev, st.st_ino)) {
        complain("%s: is an input too", name);
    } else if (fd >= 0 && batch->output && S_ISREG(st.st_mode) && ftruncate(fd, 0)) {
        complain("%s: cannot be emptied: %s", name, strerror(errno));
    } else if (fd >= 0) {
        return fd;
    } else {
        complain("%s: cannot be written: %s", name, strerror(errno));
    }
    if (fd > STDERR_FILENO) close(fd);
    return -1;
}

/* ---- Signals: the first one lets what runs come to the end of its record, the second one ends it ---- */

static volatile sig_atomic_t interrupts, interrupted_by;
static int interrupt_fd = -1;

static void interrupt(int signal)
{
    int error = errno;
    uint64_t one = 1;
    ssize_t n = write(interrupt_fd, &one, sizeof one);

    (void)n; /* the counter is full: somebody wakes anyway */
    interrupts++;
    interrupted_by = signal;
    errno = error;
}

static bool catch_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = interrupt }, old;

    interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupt_fd < 0) return complain("eventfd: %s", strerror(errno)), false;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) /* who started us may want one ignored */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL);
    return true;
}

static void forget_signals(void)
{
    uint64_t n;

    if (read(interrupt_fd, &n, sizeof n) < 0) return; /* nothing was there */
}

/* ---- The wheel ---- */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct wheel {
    const struct call_run *run;
    pmap_pool *pool;
    unsigned workers;
    struct call_source *source;
    struct call_blocks *blocks;
    bool ended, waiting;         /* the input has; it has nothing yet */
    bool bad_input;
    double begun;
    uint64_t all;                /* bytes of all inputs, 0 = not known */
};

static void cut(struct wheel *w)
{
    struct call_slot *slot;

    w->waiting = false;
    while (!w->ended && !w->waiting && (slot = call_blocks_slot(w->blocks))) {
        uint64_t size = call_blocks_size(w->blocks), left = call_source_left(w->source) / (2 * w->workers);

        /* Towards the end, and in a small file from the beginning, all are to have something. */
        if (left && left < size) size = left > TINY ? left : TINY;
        switch (call_source_take(w->source, slot, size, call_blocks_running(w->blocks) < w->workers)) {
        case CALL_BLOCK_TAKEN: call_blocks_add(w->blocks); break;
        case CALL_LATER: w->waiting = true; break;
        case CALL_END: w->ended = true; break;
        case CALL_ERROR: w->bad_input = true; break;
        }
    }
}

/* How long to sleep, in ms: until something has exceeded its time, or is to be shown. */
static int nap(struct wheel *w)
{
    double show = call_show(w->run->batch, call_blocks_totals(w->blocks), w->all, seconds() - w->begun, false);
    int deadline = call_blocks_deadline(w->blocks), ms = (int)(show * 1000) + 1;

    if (show < 0) return deadline;
    return deadline < 0 || ms < deadline ? ms : deadline;
}

/* False after a message: the pool is of no use. */
static bool turn(struct wheel *w)
{
    struct pollfd fds[3] = { { .fd = interrupt_fd, .events = POLLIN }, { .fd = pmap_pool_fd(w->pool), .events = POLLIN } };

    if (fds[1].fd < 0) { /* its workers may have refused already */
        complain("%s", pmap_error());
        return false;
    }
    while (!call_blocks_error(w->blocks)) {
        if (interrupts) {
            atomic_store_explicit(&w->run->control->stop, true, memory_order_relaxed);
            w->ended = true;
        }
        if (interrupts > 1) return true;
        cut(w);
        call_blocks_print(w->blocks);
        if (w->ended && call_blocks_count(w->blocks) == 0) return true;
        if (!w->ended && !w->waiting && call_blocks_slot(w->blocks)) continue; /* printing has made room */
        fds[2] = (struct pollfd){ .fd = w->waiting ? call_source_fd(w->source) : -1, .events = POLLIN };
        (void)poll(fds, 3, nap(w)); /* -1 with EINTR: the signal is seen above */
        if (fds[0].revents) forget_signals();
        if (pmap_pool_poll(w->pool, 0) < 0) {
            complain("%s", pmap_error());
            return false;
        }
    }
    return true;
}

static int status(const struct wheel *w)
{
    const struct call_totals *t = call_blocks_totals(w->blocks);

    if (call_blocks_error(w->blocks) || w->bad_input || t->unreadable || (!interrupts && call_blocks_count(w->blocks))) return 1;
    if (interrupts) return 128 + (int)interrupted_by;
    return t->lost ? 125 : t->failed ? 123 : 0;
}

static int run_all(const struct call_run *run, struct call_source *source, int out, unsigned workers)
{
    const struct batch *batch = run->batch;
    struct wheel w = { .run = run, .workers = workers, .source = source, .begun = seconds(), .all = call_source_all(source) };
    pmap_options options = PMAP_OPTIONS_INIT;
    int result = 1;

    options.workers = workers;
    options.init = call_worker_init;
    options.exit = call_worker_exit;
    options.hook_arg = (void *)(uintptr_t)run;
    options.jobserver = batch->jobserver;
    if (pmap_pool_open(&w.pool, &options)) {
        complain("%s", pmap_error());
        return 1;
    }
    w.blocks = call_blocks_open(run, w.pool, out, batch->output ? batch->output : "standard output");
    if (w.blocks) {
        bool turned = turn(&w);

        result = turned ? status(&w) : 1;
        call_show(batch, call_blocks_totals(w.blocks), w.all, seconds() - w.begun, true);
        if (call_source_changed(source)) result = 1;
        if (batch->stats) call_show_stats(call_blocks_totals(w.blocks), workers, seconds() - w.begun);
    }
    if (result == 1 || interrupts > 1) pmap_pool_terminate(w.pool, 0);
    else if (pmap_pool_close(w.pool)) complain("%s", pmap_error());
    call_blocks_close(w.blocks);
    return result;
}

int batch_call(const struct batch *batch)
{
    struct call_run run = { .batch = batch, .shared = MAP_FAILED };
    struct call_source *source = NULL;
    unsigned workers = batch_jobs(batch->jobs, pmap_cpus());
    int out = -1, result = 1;

    if (batch->timeout.percent) {
        complain("call knows no median: --timeout must be a time");
        return 2;
    }
    if (workers < 1) workers = pmap_cpus();
    if (workers > MOST_WORKERS) workers = MOST_WORKERS;
    result = find_function(&run);
    if (result) goto out;
    result = 1;
    run.seed = batch->seed;
    if (!batch->has_seed && getrandom(&run.seed, sizeof run.seed, 0) != sizeof run.seed) run.seed = (uint64_t)(seconds() * 1e9);
    run.even = run.block ? EVEN : 0;
    if (!make_room(&run, workers)) goto out;
    source = call_source_open(&run);
    if (!source) goto out;
    out = open_output(batch, source);
    if (out < 0 || !catch_signals()) goto out;
    result = run_all(&run, source, out, workers);
    if (batch->output && close(out) && !result) {
        complain("%s: cannot be written: %s", batch->output, strerror(errno));
        result = 1;
    }
out:
    call_source_close(source);
    if (run.shared != MAP_FAILED) munmap(run.shared, run.shared_bytes);
    return result; /* the library stays loaded: it may have left functions for the program's end */
}

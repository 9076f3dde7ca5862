/* The reference executor: the caller's own thread, no words, no workers.  Every other path must give what this one gives. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "shm/heap.h"
#include "shm/word.h"
#include "workers/crew.h"
#include "workers/executor.h"
#include "workers/failures.h"
#include "workers/local.h"
#include "workers/run.h"

struct serial {
    struct pm_arena arena;
    struct pm_heap *heap;
    pthread_mutex_t lock;  /* one call at a time */
    _Atomic uint32_t stop; /* the call that runs is to end */
    struct pm_crew crew;   /* without threads: who waits for a task runs it */
    atomic_bool ended;
    struct pm_life life;
    void *state;           /* of the one worker, which is whoever calls */
};

struct serial_run {
    struct pm_run run;
    struct pm_spot spot;
    struct serial *serial;
    const struct pm_work *work;
    struct pm_failures failures;
};

_Thread_local const struct pm_executor *pm_inside;

static struct serial *mine(struct pm_executor *e) { return (struct serial *)(void *)e; }

static void fail(struct pm_run *run, uint64_t item, uint64_t count, int value, unsigned attempts)
{
    struct serial_run *r = (struct serial_run *)(void *)run;
    pm_failures_add(&r->failures, item, count, PM_CODE, value, attempts, r->spot.text);
    r->spot.text[0] = 0;
    if (r->work->stop) atomic_store(&r->serial->stop, 1);
}

static void serial_close(struct pm_executor *e)
{
    pm_crew_close(&mine(e)->crew);
    pm_heap_close(mine(e)->heap);
    pm_arena_close(&mine(e)->arena);
    pthread_mutex_destroy(&mine(e)->lock);
    free(e);
}

static void serial_end_and_close(struct pm_executor *e)
{
    struct serial *s = mine(e);
    if (s->life.exit && atomic_load(&s->crew.code) == 0) (void)s->life.exit(0, &s->state, s->life.arg);
    serial_close(e);
}

static int serial_open(struct pm_executor **out, const struct pm_setup *setup, char *text, size_t bytes)
{
    struct serial *s = calloc(1, sizeof *s);
    (void)text, (void)bytes;
    if (!s) return -ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    pm_crew_init(&s->crew, (struct pm_executor *)(void *)s, setup);
    int e = pm_arena_open(&s->arena, pm_tasks_bytes(1), setup->memory + ((size_t)16 << 20), setup->huge);
    if (!e) e = pm_heap_open(&s->heap, &s->arena);
    if (e) {
        serial_close((struct pm_executor *)(void *)s);
        return e;
    }
    s->life = setup->life;
    int code = s->life.init ? s->life.init(0, &s->state, s->life.arg) : 0;
    if (code) pm_crew_refuse(&s->crew, 0, code);
    s->crew.state = s->state;
    *out = (struct pm_executor *)(void *)s;
    return 0;
}

static int serial_run(struct pm_executor *e, const struct pm_work *work, struct pm_result *result)
{
    struct serial_run r = {.serial = mine(e), .work = work};
    if (atomic_load(&r.serial->crew.code)) {
        pm_crew_why(&r.serial->crew, result->text, sizeof result->text);
        return -EPIPE;
    }
    pthread_mutex_lock(&r.serial->lock);
    atomic_store(&r.serial->stop, 0);
    if (atomic_load(&r.serial->ended)) atomic_store(&r.serial->stop, 1);
    r.run.spot = &r.spot;
    r.run.state = r.serial->state;
    r.run.stop = &r.serial->stop;
    r.run.fail = fail;
    pm_run_take(&r.run, work);
    memcpy(&r.run.arg, &work->arg, sizeof r.run.arg); /* the function may write to its own copy or to the caller's object */
    const struct pm_executor *outer = pm_inside;
    pm_inside = e;
    uint64_t at = 0, chunk = work->chunk ? work->chunk : PM_CHUNK;
    while (at < work->count && !pm_run_stopped(&r.run)) {
        uint64_t end = chunk < work->count - at ? at + chunk : work->count;
        uint64_t reached = work->body.run(&r.run, at, end);
        result->cost.chunks++;
        at = reached;
        if (reached < end) break;
    }
    pm_inside = outer;
    if (at < work->count) pm_failures_add(&r.failures, at, work->count - at, PM_CANCEL, 0, 0, NULL);
    result->cost.wall = pm_now() - work->begun;
    result->cost.compute = result->cost.wall;
    result->cost.items = at;
    result->cost.failed = r.failures.total;
    result->cancelled = atomic_load(&r.serial->ended);
    pthread_mutex_unlock(&r.serial->lock);
    return pm_failures_take(&r.failures, &result->failures, &result->nfailures);
}

static int serial_end(struct pm_executor *e, int64_t grace_ns)
{
    (void)grace_ns;
    atomic_store(&mine(e)->ended, true);
    atomic_store(&mine(e)->stop, 1);
    pm_crew_end(&mine(e)->crew);
    return 0;
}

static struct pm_desk *serial_desk(struct pm_executor *e, int *error)
{
    return pm_crew_desk(&mine(e)->crew, &mine(e)->arena, 0, false, error);
}

static int serial_attend(struct pm_executor *e, bool late)
{
    struct serial *s = mine(e);
    (void)late;
    if (atomic_load(&s->crew.code)) return -EPIPE;
    if (s->life.init && pm_inside == e) return 0;
    if (s->life.init && pthread_mutex_trylock(&s->lock)) return 0; /* the state is in use by a map; a later look will do */
    bool worked = pm_crew_help(&s->crew);
    if (s->life.init) pthread_mutex_unlock(&s->lock);
    return worked ? 1 : atomic_load(&s->ended) ? -ECANCELED : 0;
}

static void serial_why(struct pm_executor *e, char *text, size_t bytes) { pm_crew_why(&mine(e)->crew, text, bytes); }

static struct pm_heap *serial_heap(struct pm_executor *e) { return mine(e)->heap; }

const struct pm_executor_ops pm_serial = {
    .name = "serial", .open = serial_open, .desk = serial_desk, .attend = serial_attend, .kill = pm_local_kill,
    .run = serial_run, .end = serial_end, .close = serial_end_and_close, .forked = pm_local_forked,
    .abandon = serial_close, .heap = serial_heap, .shares = pm_local_shares, .pids = pm_local_pids,
    .why = serial_why,
};

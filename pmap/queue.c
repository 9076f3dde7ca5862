/* The public queue: options, time-outs and words for what shm/queue.c says.  The handle is the queue itself, in
 * shared memory, so it is the same pointer in every process that shares it. */
#include <errno.h>
#include <string.h>

#include "pmap/pool.h"
#include "pmap/shared.h"
#include "shm/heap.h"
#include "shm/queue.h"
#include "workers/cpus.h"

#define ITEMS 64u
#define MESSAGE_BYTES ((size_t)64 << 10)
#define PARTICIPANTS 256u
#define SPIN_NS INT64_C(20000)
#define TOO_LARGE "pmap_queue_open: items times message_bytes does not fit in size_t"

static struct pm_queue *inside(pmap_queue *queue) { return (struct pm_queue *)(void *)queue; }

static int check(pmap_queue *queue, const char *what)
{
    if (!queue || inside(queue)->kind != PM_QUEUE_KIND)
        return pm_error(PMAP_EINVAL, "%s: the queue is NULL, freed, or none", what);
    return 0;
}

static int check_wait(pmap_queue *queue, double timeout_s, int64_t *timeout_ns, const char *what)
{
    *timeout_ns = 0;
    int e = pm_seconds(timeout_s, timeout_ns, what);
    return e ? e : check(queue, what);
}

/* What the layer below says, but -EMSGSIZE, whose text needs the sizes. */
static int report(pmap_queue *queue, int e, const char *what, double timeout_s)
{
    const struct pm_queue *q = inside(queue);
    switch (-e) {
    case 0: return 0;
    case ETIMEDOUT: return pm_error(PMAP_ETIMEDOUT, "%s: not within %g s", what, timeout_s);
    case EPIPE: return pm_error(PMAP_ECLOSED, "%s: the queue is closed", what);
    case EUSERS: return pm_error(PMAP_ENOMEM, "%s: %u threads use the queue already; see the option `participants`", what, q->participants);
    case ENOMEM: return pm_error(PMAP_ENOMEM, "%s: not enough memory for the message", what);
    case EINVAL: return pm_error(PMAP_EINVAL, "%s: no place that was given, or more bytes than reserved", what);
    case EPERM: return pm_error(PMAP_EPERM, "%s: the calling thread does not hold that message", what);
    default: return pm_error_system(e, what);
    }
}

/* ---- Open and free ---- */

static int check_options(const pmap_queue_options *given, pmap_queue_options *o)
{
    static const pmap_queue_options init = PMAP_QUEUE_OPTIONS_INIT;
    *o = init;
    int e = pm_shared_options(o, sizeof *o, given, "pmap_queue_open");
    if (e) return e;
    if (o->items > PM_QUEUE_ITEMS)
        return pm_error(PMAP_EINVAL, "pmap_queue_open: %zu items asked for; at most %u", o->items, PM_QUEUE_ITEMS);
    if (o->participants > PM_MEMBERS)
        return pm_error(PMAP_EINVAL, "pmap_queue_open: %u participants asked for; at most %u", o->participants, PM_MEMBERS);
    if (o->spin_us < -1)
        return pm_error(PMAP_EINVAL, "pmap_queue_open: spin_us is %d; expected -1 or more", o->spin_us);
    return 0;
}

/* In the arena of the pool, where workers that run already have it at the same address. */
static int open_in_pool(struct pm_queue **q, pmap_pool *pool, const struct pm_queue_setup *setup)
{
    size_t bytes;
    int e = pm_pool_enter(pool, "pmap_queue_open");
    if (e) return e;
    e = pm_queue_bytes(setup, &bytes);
    void *memory = e ? NULL : pm_heap_alloc(pool->ops->heap(pool->executor), bytes, &e);
    if (!memory && e == -EOVERFLOW) e = pm_error(PMAP_EOVERFLOW, TOO_LARGE);
    else if (!memory) e = pm_error(PMAP_ENOMEM, "pmap_queue_open: the pool's memory does not have %zu bytes", bytes);
    else {
        *q = pm_queue_init(memory, setup);
        (*q)->keeper = pool;
    }
    pm_pool_leave(pool);
    return e;
}

int pmap_queue_open(pmap_queue **queue, const pmap_queue_options *options)
{
    pmap_queue_options o;
    struct pm_queue *q = NULL;
    if (!queue) return pm_error(PMAP_EINVAL, "pmap_queue_open: queue is NULL");
    *queue = NULL;
    int e = check_options(options, &o);
    if (e) return e;
    struct pm_queue_setup setup = {.items = o.items ? o.items : ITEMS,
                                   .most = o.message_bytes ? o.message_bytes : MESSAGE_BYTES,
                                   .window = o.bytes,
                                   .members = o.participants ? o.participants : PARTICIPANTS};
    if (o.spin_us > 0) setup.spin_ns = o.spin_us * INT64_C(1000);
    else if (o.spin_us == 0 && pm_cpus() > 1) setup.spin_ns = SPIN_NS;
    if (o.pool) e = open_in_pool(&q, o.pool, &setup);
    else {
        e = pm_queue_map(&q, &setup);
        if (e == -EOVERFLOW) e = pm_error(PMAP_EOVERFLOW, TOO_LARGE);
        else if (e) e = pm_error(PMAP_ENOMEM, "pmap_queue_open: no address space for %zu items of %zu bytes", setup.items, setup.most);
    }
    *queue = (pmap_queue *)q;
    return e;
}

int pmap_queue_free(pmap_queue *queue)
{
    if (!queue) return 0;
    int e = check(queue, "pmap_queue_free");
    if (e) return e;
    pmap_pool *pool = inside(queue)->keeper;
    if (!pool) {
        pm_queue_unmap(inside(queue)); /* other processes keep it */
        return 0;
    }
    e = pm_pool_enter(pool, "pmap_queue_free");
    if (e) return e;
    inside(queue)->kind = 0;
    (void)pm_heap_free(pool->ops->heap(pool->executor), queue);
    pm_pool_leave(pool);
    return 0;
}

int pmap_queue_close(pmap_queue *queue)
{
    int e = check(queue, "pmap_queue_close");
    if (!e) pm_queue_close(inside(queue));
    return e;
}

/* ---- Messages ---- */

static int too_big(pmap_queue *queue, size_t bytes, const char *what)
{
    const struct pm_queue *q = inside(queue);
    return pm_error(PMAP_ETOOBIG, "%s: a message of %zu bytes; this queue takes %zu", what, bytes,
                    q->window && q->window < q->most ? q->window : q->most);
}

int pmap_queue_put(pmap_queue *queue, const void *message, size_t bytes, double timeout_s)
{
    static const char what[] = "pmap_queue_put";
    int64_t ns;
    int e = check_wait(queue, timeout_s, &ns, what);
    if (e) return e;
    if (!message && bytes) return pm_error(PMAP_EINVAL, "%s: message is NULL and has %zu bytes", what, bytes);
    e = pm_queue_put(inside(queue), message, bytes, ns);
    return e == -EMSGSIZE ? too_big(queue, bytes, what) : report(queue, e, what, timeout_s);
}

int pmap_queue_get(pmap_queue *queue, void *message, size_t room, size_t *bytes, double timeout_s)
{
    static const char what[] = "pmap_queue_get";
    int64_t ns;
    size_t own = 0, *n = bytes ? bytes : &own;
    *n = 0;
    int e = check_wait(queue, timeout_s, &ns, what);
    if (e) return e;
    if (!message && room) return pm_error(PMAP_EINVAL, "%s: message is NULL and room %zu", what, room);
    e = pm_queue_get(inside(queue), message, room, n, ns);
    if (e == -EMSGSIZE)
        return pm_error(PMAP_ETOOBIG, "%s: the next message has %zu bytes, there is room for %zu", what, *n, room);
    return report(queue, e, what, timeout_s);
}

int pmap_queue_reserve(pmap_queue *queue, size_t bytes, void **place, double timeout_s)
{
    static const char what[] = "pmap_queue_reserve";
    int64_t ns;
    int e = check_wait(queue, timeout_s, &ns, what);
    if (e) return e;
    if (!place) return pm_error(PMAP_EINVAL, "%s: place is NULL", what);
    *place = NULL;
    e = pm_queue_reserve(inside(queue), bytes, ns, place);
    return e == -EMSGSIZE ? too_big(queue, bytes, what) : report(queue, e, what, timeout_s);
}

int pmap_queue_commit(pmap_queue *queue, void *place, size_t bytes)
{
    int e = check(queue, "pmap_queue_commit");
    return e ? e : report(queue, pm_queue_commit(inside(queue), place, bytes), "pmap_queue_commit", 0);
}

int pmap_queue_peek(pmap_queue *queue, void **place, size_t *bytes, double timeout_s)
{
    static const char what[] = "pmap_queue_peek";
    int64_t ns;
    int e = check_wait(queue, timeout_s, &ns, what);
    if (e) return e;
    if (!place || !bytes) return pm_error(PMAP_EINVAL, "%s: place or bytes is NULL", what);
    *place = NULL;
    *bytes = 0;
    return report(queue, pm_queue_peek(inside(queue), ns, place, bytes), what, timeout_s);
}

int pmap_queue_release(pmap_queue *queue, void *place)
{
    int e = check(queue, "pmap_queue_release");
    return e ? e : report(queue, pm_queue_release(inside(queue), place), "pmap_queue_release", 0);
}

int pmap_queue_cancel(pmap_queue *queue, void *place)
{
    int e = check(queue, "pmap_queue_cancel");
    return e ? e : report(queue, pm_queue_cancel(inside(queue), place), "pmap_queue_cancel", 0);
}

/* ---- Tasks ---- */

int pmap_queue_task_done(pmap_queue *queue)
{
    static const char what[] = "pmap_queue_task_done";
    int e = check(queue, what);
    if (e) return e;
    e = pm_queue_task_done(inside(queue));
    if (e == -EPERM) return pm_error(PMAP_EPERM, "%s: the calling thread has got no message that is not done", what);
    return report(queue, e, what, 0);
}

int pmap_queue_join(pmap_queue *queue, double timeout_s)
{
    static const char what[] = "pmap_queue_join";
    int64_t ns;
    size_t lost = 0;
    int e = check_wait(queue, timeout_s, &ns, what);
    if (e) return e;
    e = pm_queue_join(inside(queue), ns, &lost);
    if (e == -EOWNERDEAD)
        return pm_error(PMAP_EOWNERDEAD, "%s: %zu message%s got by threads that ended before they were done; all others are done",
                        what, lost, lost == 1 ? " was" : "s were");
    return report(queue, e, what, timeout_s);
}

size_t pmap_queue_count(pmap_queue *queue)
{
    return check(queue, "pmap_queue_count") ? 0 : pm_queue_count(inside(queue));
}

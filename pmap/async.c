/* A whole map as a future.  It is run by a thread of its own that exists for as long as the map does: so it works on every executor and
 * channel in exactly the way the blocking call does.  This is the one place where the library starts a thread for the caller's side. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/future.h"

struct pm_async {
    pmap_pool *pool;
    pmap_future *future;
    pthread_t thread;
    pmap_item_fn *function;
    const void *in;
    void *out;
    size_t count, in_size, out_size;
    pmap_map_options options;
    void *arg;               /* a copy, where arg_size says so */
    int error;
    char text[512];
    unsigned long kept;      /* under which its failures are kept */
};

static void *run(void *arg)
{
    struct pm_async *a = arg;
    pmap_pool *pool = a->pool;
    a->error = pm_map_items(pool, "pmap_map_async", a->function, a->in, a->count, a->in_size, a->out, a->out_size, &a->options);
    (void)snprintf(a->text, sizeof a->text, "%s", a->error ? pmap_error() : "");
    a->kept = pm_failures_thread();
    pm_future_settle(a->future, a->error == 0);
    pm_pool_leave(pool); /* entered for it by pmap_map_async(): an orderly close waits for that */
    return NULL;
}

/* Of a finished one, in the thread that asks: the error as that of a blocking call, with its text and its failures. */
int pm_async_outcome(struct pm_async *a, pmap_failure *failure, char **text)
{
    pm_failures_adopt(a->pool, a->kept);
    if (a->error == 0) return 0;
    const pmap_failure *first = a->error == PMAP_EITEMS ? pmap_failures(a->pool, NULL) : NULL;
    if (!*text) {
        *text = strdup(first ? first->text : a->text);
        *failure = first ? *first : (pmap_failure){.count = a->count, .cause = PMAP_CAUSE_CANCELLED};
        failure->text = *text ? *text : "(no memory for the text)";
    }
    return pm_error(a->error, "%s", a->text);
}

void pm_async_free(struct pm_async *a, bool forked)
{
    if (!a) return;
    /* It has settled its future: at most a few instructions are left.  Nobody had that, so that it frees itself: it is not joined. */
    if (!forked) (void)(pthread_equal(a->thread, pthread_self()) ? pthread_detach(a->thread) : pthread_join(a->thread, NULL));
    pm_failures_forget_thread(a->pool, a->kept);
    free(a->arg);
    free(a);
}

static int start(struct pm_async *a)
{
    sigset_t all, old;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the application's own threads */
    int e = pthread_create(&a->thread, NULL, run, a);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e ? pm_error(PMAP_ESYSTEM, "pmap_map_async: pthread_create: %s", strerror(e)) : 0;
}

static int copy_options(struct pm_async *a, const pmap_map_options *given)
{
    pmap_map_options init = PMAP_MAP_OPTIONS_INIT;
    struct pm_work work;
    int e = pm_map_begin(a->pool, "pmap_map_async", given, &a->options, &work);
    if (e) return e;
    a->options.size = init.size;
    if (!a->options.arg_size) return 0;
    a->arg = malloc(a->options.arg_size);
    if (!a->arg) return pm_error(PMAP_ENOMEM, "pmap_map_async: no memory for an argument of %zu bytes", a->options.arg_size);
    memcpy(a->arg, a->options.arg, a->options.arg_size);
    a->options.arg = a->arg;
    return 0;
}

int pmap_map_async(pmap_pool *pool, pmap_item_fn *function, const void *in, size_t count, size_t in_size, void *out, size_t out_size,
                   const pmap_map_options *options, pmap_future **future)
{
    if (!future) return pm_error(PMAP_EINVAL, "pmap_map_async: future is NULL");
    *future = NULL;
    int e = pm_pool_enter(pool, "pmap_map_async");
    if (e) return e;
    struct pm_async *a = calloc(1, sizeof *a);
    if (a) *a = (struct pm_async){.pool = pool, .function = function, .in = in, .out = out, .count = count, .in_size = in_size, .out_size = out_size};
    if (!a) e = pm_error(PMAP_ENOMEM, "pmap_map_async: not enough memory");
    else if (!function) e = pm_error(PMAP_EINVAL, "pmap_map_async: function is NULL");
    if (!e) e = pm_map_check("pmap_map_async", in, count, in_size, out, out_size);
    if (!e) e = copy_options(a, options);
    if (!e) e = pm_future_reserve(pool, "pmap_map_async", a, future);
    if (!e) {
        a->future = *future;
        e = start(a);
        if (!e) return 0; /* the thread leaves the pool */
        (*future)->async = NULL;
        pm_future_settle(*future, false);
        pm_future_drop(*future);
        *future = NULL;
    }
    if (a) free(a->arg);
    free(a);
    pm_pool_leave(pool);
    return e;
}

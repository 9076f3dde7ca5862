/* The failures of each thread's last map on each pool, with their texts. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/pool.h"

#define LINE 256

struct listed { /* by the call that it is about; several threads may have asked for that one */
    pmap_failure *list;
    char *texts;
    size_t n;
    unsigned users;
};

struct kept {
    pmap_pool *pool;
    unsigned long thread;
    struct listed *listed;
    struct kept *next;
};

/* Not pthread_self(): that is used again when a thread has ended, and the next one would inherit failures. */
static unsigned long this_thread(void)
{
    static atomic_ulong last;
    static _Thread_local unsigned long id;
    if (!id) id = atomic_fetch_add(&last, 1) + 1;
    return id;
}

pthread_mutex_t pm_failures_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept *_Atomic all; /* written under the lock; looked at without it to see that there is nothing */

void pm_failure_say(char *line, size_t bytes, const struct pm_failure *f, uint64_t first, uint64_t count)
{
    char which[64], what[128];
    const char *name;
    if (count == 1) (void)snprintf(which, sizeof which, "item %llu", (unsigned long long)first);
    else (void)snprintf(which, sizeof which, "items %llu to %llu", (unsigned long long)first, (unsigned long long)(first + count - 1));
    switch (f->cause) {
    case PM_SIGNAL:
        name = sigabbrev_np(f->value);
        (void)snprintf(what, sizeof what, "its worker was ended by SIG%s (%s)", name ? name : "?", strsignal(f->value));
        break;
    case PM_EXIT: (void)snprintf(what, sizeof what, "its worker exited with status %d", f->value); break;
    case PM_TIMEOUT: (void)snprintf(what, sizeof what, "it ran longer than its time-out"); break;
    case PM_MEMORY: (void)snprintf(what, sizeof what, "its worker was killed for want of memory"); break;
    case PM_LARGE: (void)snprintf(what, sizeof what, "its result of %d bytes is larger than result_max", f->value); break;
    case PM_CANCEL:
        (void)snprintf(line, bytes, f->attempts ? "%s: ended while it ran" : "%s: not run, it was cancelled before", which);
        return;
    default: (void)snprintf(what, sizeof what, "the function returned %d", f->value); break;
    }
    (void)snprintf(line, bytes, "%s: %s%s%s, %u attempt%s", which, what, f->text[0] ? ": " : "", f->text, f->attempts,
                   f->attempts == 1 ? "" : "s");
}

static void drop(struct kept *k)
{
    struct listed *l = k->listed;
    if (l && --l->users == 0) {
        free(l->list);
        free(l->texts);
        free(l);
    }
    free(k);
}

static void forget(pmap_pool *pool, unsigned long thread)
{
    if (!atomic_load(&all)) return; /* nothing of this thread's or pool's either */
    pthread_mutex_lock(&pm_failures_lock);
    struct kept *rest = NULL;
    for (struct kept *k = all, *next; k; k = next) {
        next = k->next;
        if (k->pool == pool && (!thread || k->thread == thread)) {
            drop(k);
        } else {
            k->next = rest;
            rest = k;
        }
    }
    all = rest;
    pthread_mutex_unlock(&pm_failures_lock);
}

unsigned long pm_failures_thread(void) { return this_thread(); }

void pm_failures_adopt(pmap_pool *pool, unsigned long thread)
{
    if (thread == this_thread()) return;
    forget(pool, this_thread());
    struct kept *mine = calloc(1, sizeof *mine);
    if (!mine) return; /* the call's own error still says that items failed */
    *mine = (struct kept){.pool = pool, .thread = this_thread()};
    pthread_mutex_lock(&pm_failures_lock);
    for (struct kept *k = all; k && !mine->listed; k = k->next)
        if (k->pool == pool && k->thread == thread) mine->listed = k->listed;
    if (mine->listed) {
        mine->listed->users++;
        mine->next = all;
        all = mine;
    } else {
        free(mine);
    }
    pthread_mutex_unlock(&pm_failures_lock);
}

void pm_failures_forget_thread(pmap_pool *pool, unsigned long thread) { forget(pool, thread); }

void pm_failures_forget(pmap_pool *pool) { forget(pool, 0); }

void pm_failures_keep(pmap_pool *pool, struct pm_failure *list, size_t n, uint64_t base, uint64_t unit, uint64_t count)
{
    forget(pool, this_thread());
    if (n == 0) return;
    struct kept *k = calloc(1, sizeof *k);
    struct listed *l = k ? calloc(1, sizeof *l) : NULL;
    if (l) {
        *l = (struct listed){.list = calloc(n, sizeof *l->list), .texts = calloc(n, LINE), .n = n, .users = 1};
        k->listed = l;
    }
    if (!l || !l->list || !l->texts) { /* the call's own error still says that items failed */
        if (k) drop(k);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct pm_failure *f = &list[i];
        uint64_t first = f->item * unit, end = f->item + f->count > count / unit ? count : (f->item + f->count) * unit;
        pm_failure_say(l->texts + i * LINE, LINE, f, base + first, end - first);
        l->list[i] = (pmap_failure){.item = base + first, .count = end - first, .cause = (pmap_cause)f->cause, .value = f->value,
                                    .attempts = f->attempts, .text = l->texts + i * LINE};
    }
    k->pool = pool;
    k->thread = this_thread();
    pthread_mutex_lock(&pm_failures_lock);
    k->next = all;
    all = k;
    pthread_mutex_unlock(&pm_failures_lock);
}

const pmap_failure *pmap_failures(pmap_pool *pool, size_t *count)
{
    const pmap_failure *list = NULL;
    size_t n = 0;
    pthread_mutex_lock(&pm_failures_lock);
    for (struct kept *k = all; k && !list; k = k->next)
        if (k->pool == pool && k->thread == this_thread()) {
            list = k->listed->list;
            n = k->listed->n;
        }
    pthread_mutex_unlock(&pm_failures_lock);
    if (count) *count = n;
    return list;
}

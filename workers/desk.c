/* Entries for the application: taken, given back, and found again when they are finished. */
#include "workers/desk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define R memory_order_relaxed
#define STEP 4096u           /* entries committed at once: 1 MiB */
#define POSITION_STEP 16384u /* positions: 64 KiB */

void pm_desk_open(struct pm_desk *d, struct pm_tasks *tasks, struct pm_arena *arena, int bell)
{
    memset(d, 0, sizeof *d);
    d->scan = UINT32_MAX;
    d->tasks = tasks;
    d->arena = arena;
    d->bell = bell;
}

void pm_desk_close(struct pm_desk *d)
{
    free(d->link);
    free(d->turn);
    memset(d, 0, sizeof *d);
}

static int grow_lists(struct pm_desk *d)
{
    uint32_t n = d->capacity ? 2 * d->capacity : 256;
    uint32_t *link = realloc(d->link, n * sizeof *link);
    if (link) d->link = link;
    uint32_t *turn = realloc(d->turn, n * sizeof *turn);
    if (turn) d->turn = turn;
    if (!link || !turn) return -ENOMEM;
    memset(d->turn + d->capacity, 0, (n - d->capacity) * sizeof *turn);
    d->capacity = n;
    return 0;
}

static int commit(struct pm_desk *d, const void *at, size_t bytes)
{
    return pm_arena_commit(d->arena, (size_t)((const char *)at - d->arena->base), bytes);
}

static int fresh(struct pm_desk *d, uint32_t *index)
{
    if (d->high == PM_TASKS) return -EAGAIN;
    int e = d->high == d->capacity ? grow_lists(d) : 0;
    if (!e && d->high == d->committed) {
        /* A program that submits one thing now and then does not pay for a megabyte. */
        uint32_t n = d->committed < STEP ? (d->committed ? d->committed : STEP / 64) : STEP;
        e = commit(d, &d->tasks->entry[d->committed], n * sizeof(struct pm_entry));
        if (!e) d->committed += n;
    }
    if (!e) *index = d->high++;
    return e;
}

/* Memory for the position that comes next; the ring is gone round once with it. */
static int room(struct pm_desk *d)
{
    uint64_t at = atomic_load_explicit(&d->tasks->tail, R);
    if (at < d->positions || d->positions == PM_POSITIONS) return 0;
    int e = commit(d, (const void *)&d->tasks->ring[d->positions], POSITION_STEP * sizeof(uint32_t));
    if (!e) d->positions += POSITION_STEP;
    return e;
}

/* Announcements at the front of the ring whose tasks have ended without having been run need no worker to pass them.  So a program that gives
 * in and takes back while all workers are busy does not use up the entries. */
static void pass(struct pm_desk *d)
{
    struct pm_tasks *t = d->tasks;
    uint64_t at = atomic_load_explicit(&t->next, memory_order_acquire);
    while (at != atomic_load_explicit(&t->tail, R)) {
        uint32_t k = atomic_load_explicit(&t->ring[at % PM_POSITIONS], R);
        if (k >= d->high || !pm_task_terminal(&t->entry[k], d->turn[k])) return;
        if (atomic_compare_exchange_strong_explicit(&t->next, &at, at + 1, memory_order_acq_rel, memory_order_acquire)) at++;
    }
}

int pm_desk_take(struct pm_desk *d, uint32_t *index, uint32_t *turn)
{
    int e = room(d);
    if (e) return e;
    if (!d->free && d->limbo) pass(d);
    if (!d->free && d->limbo && d->tasks->entry[d->limbo - 1].position < atomic_load_explicit(&d->tasks->next, memory_order_acquire)) {
        d->free = d->limbo;
        d->limbo = d->link[d->limbo - 1];
        d->link[d->free - 1] = 0;
    }
    if (d->free) { /* the one that was used last is still in the caches */
        *index = d->free - 1;
        d->free = d->link[*index];
    } else {
        e = fresh(d, index);
        if (e) return e;
    }
    *turn = ++d->turn[*index];
    if (*turn == 0) *turn = d->turn[*index] = 1;
    d->tasks->entry[*index].position = atomic_load_explicit(&d->tasks->tail, R);
    return 0;
}

void pm_desk_give(struct pm_desk *d, uint32_t index)
{
    /* Announced, cancelled, and not passed yet: used again now it would be announced twice. */
    struct pm_entry *e = &d->tasks->entry[index];
    bool passed = atomic_load_explicit(&e->errand, R) || e->position >= atomic_load_explicit(&d->tasks->tail, R);
    if (!passed && e->position >= atomic_load_explicit(&d->tasks->next, memory_order_acquire)) pass(d);
    if (passed || e->position < atomic_load_explicit(&d->tasks->next, memory_order_acquire)) {
        d->link[index] = d->free;
        d->free = index + 1;
        return;
    }
    d->link[index] = 0;
    if (d->limbo) d->link[d->limbo_last - 1] = index + 1;
    else d->limbo = index + 1;
    d->limbo_last = index + 1;
}

bool pm_desk_finished(struct pm_desk *d, uint32_t *index)
{
    struct pm_tasks *t = d->tasks;
    for (unsigned i = 0; i < t->workers; i++) {
        struct pm_hints *h = &t->hints[i];
        uint32_t head = atomic_load_explicit(&h->head, R);
        if (atomic_load_explicit(&h->lost, R) && atomic_exchange(&h->lost, 0)) d->scan = 0;
        while (head != atomic_load_explicit(&h->tail, memory_order_acquire)) {
            uint32_t k = atomic_load_explicit(&h->entry[head % PM_HINTS], R);
            atomic_store_explicit(&h->head, ++head, memory_order_release);
            if (k >= d->high) continue; /* nothing that a worker wrote is believed */
            *index = k;
            return true;
        }
    }
    while (d->scan < d->high) {
        uint32_t k = d->scan++;
        if (!pm_task_terminal(&t->entry[k], d->turn[k])) continue;
        *index = k;
        return true;
    }
    d->scan = UINT32_MAX;
    return false;
}

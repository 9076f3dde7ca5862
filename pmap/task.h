/* What a user's function is told, inside: the task behind pmap_task, and the bodies that call the function for [lo, hi). */
#ifndef PM_PMAP_TASK_H
#define PM_PMAP_TASK_H

#include "pmap/pmap.h"
#include "workers/run.h"
#include "workers/tasks.h"

struct pm_star; /* starmap.c */

struct pmap_task {
    struct pm_run *run;
    uint64_t lo, hi;    /* items of the job that this call is for */
    uint64_t index;     /* the caller's index of the current item */
    unsigned attempt;
    struct pm_entry *entry; /* of a task that was given in by itself; NULL in a map */
    bool seeded;
    uint64_t random;
};

/* Travels to the workers in body.self. */
struct pm_call {
    union {
        pmap_item_fn *item;
        pmap_chunk_fn *chunk;
        pmap_range_fn *range;
        pmap_star_fn *star;
    } fn;
    uint64_t unit, count; /* reduce: items a block, items in all */
    const struct pm_star *star; /* starmap: its columns, in memory that the workers share */
};

/* What every body that runs item by item has in common: `one` calls the function for one item, again for the same one when that said so. */
uint64_t pm_call_each(struct pm_run *run, uint64_t lo, uint64_t hi, int (*one)(pmap_task *task, uint64_t item, void *state), void *state);
char *pm_task_output(const struct pm_run *run, uint64_t item); /* where its result goes, or NULL */

uint64_t pm_call_items(struct pm_run *run, uint64_t lo, uint64_t hi);  /* PM_HOW_ITEMS */
uint64_t pm_call_chunk(struct pm_run *run, uint64_t lo, uint64_t hi);  /* PM_HOW_BULK */
uint64_t pm_call_range(struct pm_run *run, uint64_t lo, uint64_t hi);  /* PM_HOW_BULK */
uint64_t pm_call_blocks(struct pm_run *run, uint64_t lo, uint64_t hi); /* PM_HOW_ITEMS, an item is a block */
int pm_call_work(struct pm_run *run, struct pm_entry *entry);          /* one task */

#endif

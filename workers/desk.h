/* The application's private side of tasks.h: which entries are free, what was announced, what has finished.  Nothing of it lies in shared
 * memory, so a wild write in a worker cannot break it.  Not locked: its user holds a lock. */
#ifndef PM_WORKERS_DESK_H
#define PM_WORKERS_DESK_H

#include "workers/tasks.h"

struct pm_desk {
    struct pm_tasks *tasks;
    struct pm_arena *arena;
    uint32_t high, committed;       /* entries that have been used, that have memory */
    uint32_t positions;             /* of the ring that have memory */
    uint32_t free;                  /* list through link[] of entries that may be used at once; entry + 1 */
    uint32_t limbo, limbo_last;     /* cancelled ones, by position, until the workers have passed their announcement */
    uint32_t *link;                 /* entry -> entry + 1 */
    uint32_t *turn;                 /* of each entry */
    uint32_t capacity;              /* of the two */
    int bell;                       /* readable when a task has finished and that was asked for */
    uint32_t scan;                  /* where the search that a lost hint made necessary goes on; >= high: none is going on */
};

void pm_desk_open(struct pm_desk *desk, struct pm_tasks *tasks, struct pm_arena *arena, int bell);
void pm_desk_close(struct pm_desk *desk);

/* An entry to be filled; its index, and the turn that it will have.  -ENOMEM, or -EAGAIN when PM_TASKS are in use. */
int pm_desk_take(struct pm_desk *desk, uint32_t *index, uint32_t *turn);
void pm_desk_give(struct pm_desk *desk, uint32_t index); /* of a terminal entry, or of one that was never announced */

/* The next entry of which a hint says that it has finished: true; false when there is none.  May name one twice, or one that is not finished. */
bool pm_desk_finished(struct pm_desk *desk, uint32_t *index);

#endif

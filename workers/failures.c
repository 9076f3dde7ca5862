/* The growing list of failures; see failures.h. */
#include "workers/failures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "workers/board.h"

static void put(struct pm_failures *f, const struct pm_failure *one)
{
    f->total++;
    if (f->n == PM_LOG || f->no_memory) return;
    if (f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 16;
        struct pm_failure *p = realloc(f->list, room * sizeof *p);
        if (!p) {
            f->no_memory = true;
            return;
        }
        f->list = p;
        f->room = room;
    }
    f->list[f->n++] = *one;
}

void pm_failures_add(struct pm_failures *f, uint64_t item, uint64_t count, enum pm_cause cause, int value, unsigned attempts,
                     const char *text)
{
    struct pm_failure one = {.item = item, .count = count, .cause = (uint8_t)cause, .attempts = (uint8_t)attempts, .ready = 1,
                             .value = value};
    if (text) strncpy(one.text, text, PM_TEXT - 1);
    put(f, &one);
}

void pm_failures_join(struct pm_failures *f, const struct pm_failure *list, size_t n, uint64_t first)
{
    for (size_t i = 0; i < n; i++) {
        struct pm_failure one = list[i];
        one.item += first;
        put(f, &one);
    }
}

static int by_item(const void *a, const void *b)
{
    const struct pm_failure *x = a, *y = b;
    return x->item < y->item ? -1 : x->item > y->item;
}

int pm_failures_take(struct pm_failures *f, struct pm_failure **list, size_t *n)
{
    size_t kept = 0;
    if (f->n) qsort(f->list, f->n, sizeof *f->list, by_item);
    for (size_t i = 0; i < f->n; i++) {
        struct pm_failure *last = kept ? &f->list[kept - 1] : NULL;
        if (last && last->cause == PM_CANCEL && f->list[i].cause == PM_CANCEL && last->item + last->count == f->list[i].item)
            last->count += f->list[i].count;
        else
            f->list[kept++] = f->list[i];
    }
    *list = f->list;
    *n = kept;
    int e = f->no_memory ? -ENOMEM : 0;
    memset(f, 0, sizeof *f);
    return e;
}

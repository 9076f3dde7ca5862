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

/* By item; what was never run comes behind what failed at the same item. */
static int by_item(const void *a, const void *b)
{
    const struct pm_failure *x = a, *y = b;
    if (x->item != y->item) return x->item < y->item ? -1 : 1;
    return (x->cause == PM_CANCEL) - (y->cause == PM_CANCEL);
}

/* The sorted list made right: each failed item once (a worker that died right after it had reported one makes it be run and reported
 * again), spans that were never run joined, and no failed item inside one. */
static size_t tidy(const struct pm_failure *in, size_t n, struct pm_failure *out)
{
    size_t kept = 0;
    uint64_t done = 0; /* all items before this are in the list */
    struct pm_failure span = {.cause = PM_CANCEL, .ready = 1};
    uint64_t end = 0;  /* of the span that is not in the list yet; its start is span.item */
    for (size_t i = 0; i <= n; i++) {
        bool cancel = i < n && in[i].cause == PM_CANCEL;
        uint64_t at = i < n ? in[i].item : UINT64_MAX;
        if (span.item < end && (!cancel || at > end)) { /* what lies before this entry */
            uint64_t stop = at < end ? at : end;
            span.count = stop - span.item;
            if (span.count) out[kept++] = span;
            span.item = stop;
        }
        if (i == n) break;
        uint64_t after = at + in[i].count;
        if (cancel) {
            if (span.item >= end) span.item = at > done ? at : done;
            if (after > end) end = after;
        } else if (kept == 0 || at >= done) {
            out[kept++] = in[i];
            done = after;
            if (span.item < end && span.item < after) span.item = after;
        }
    }
    return kept;
}

int pm_failures_take(struct pm_failures *f, struct pm_failure **list, size_t *n)
{
    *list = NULL;
    *n = 0;
    if (f->n) {
        qsort(f->list, f->n, sizeof *f->list, by_item);
        *list = malloc((2 * f->n + 1) * sizeof **list); /* a span is cut at most once for each failed item */
        if (*list) *n = tidy(f->list, f->n, *list);
        else f->no_memory = true;
        free(f->list);
    }
    int e = f->no_memory ? -ENOMEM : 0;
    memset(f, 0, sizeof *f);
    return e;
}

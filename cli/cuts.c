/* Looks for markers.  See cuts.h. */
#include "cli/cuts.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

size_t cuts_last(const struct cuts *c, const char *data, size_t bytes, size_t most)
{
    /* The marker's last byte is looked for, up to where it is when the cut is at `most`. */
    size_t n = c->bytes, end = most + c->behind < bytes ? most + c->behind : bytes;
    while (end >= n) {
        const char *last = memrchr(data, c->marker[n - 1], end);
        if (!last || (size_t)(last - data) + 1 < n) return 0;
        const char *begin = last + 1 - n;
        if (n == 1 || memcmp(begin, c->marker, n) == 0) return (size_t)(begin - data) + c->front;
        end = (size_t)(last - data);
    }
    return 0;
}

const char *cuts_first(const struct cuts *c, const char *data, size_t bytes)
{
    const char *found = memmem(data, bytes, c->marker, c->bytes);
    return found ? found + c->front : NULL;
}

int cuts_make(struct cuts *c, const struct batch *batch)
{
    const char *start = batch->record_start ? batch->record_start : "", *end = batch->record_end;
    if (!end) end = batch->record_start ? "" : NULL; /* else the delimiter, which may be a zero byte */
    c->front = end ? strlen(end) : 1;
    c->behind = strlen(start);
    c->bytes = c->front + c->behind;
    if (c->bytes > CUTS_MOST_BYTES) {
        complain("--recend, --recstart: together at most %u bytes", CUTS_MOST_BYTES);
        return -1;
    }
    c->marker = malloc(c->bytes + 1);
    if (!c->marker) {
        complain("not enough memory");
        return -1;
    }
    memcpy(c->marker, end ? end : &batch->delimiter, c->front);
    memcpy(c->marker + c->front, start, c->behind + 1);
    return 0;
}

void cuts_free(struct cuts *c) { free(c->marker); }

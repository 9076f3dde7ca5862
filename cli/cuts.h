/* Where records may be parted.  Used by blocks.c.
 *
 * A marker is what stands around a cut: the end of a record, and the start of the next where --recstart says how that looks.
 *
 *     ... record \n | record ...        --recend '\n' (or -d): the marker is the end, the cut behind it
 *     ... record | >record ...          --recstart '>': the marker is the start, the cut before it */
#ifndef CLI_CUTS_H
#define CLI_CUTS_H

#include "cli/batch.h"

#define CUTS_MOST_BYTES 32768u

struct cuts {
    char *marker;
    size_t bytes;
    size_t front, behind; /* of them so many are before the cut, and behind it */
};

int cuts_make(struct cuts *cuts, const struct batch *batch); /* 0, or -1 after a message */
void cuts_free(struct cuts *cuts);

/* The last cut in data[0 .. bytes) with at least one byte and at most `most` before it: with how many; 0: there is none. */
size_t cuts_last(const struct cuts *cuts, const char *data, size_t bytes, size_t most);
/* The first cut whose marker is whole in data[0 .. bytes): the byte behind it; NULL: there is none. */
const char *cuts_first(const struct cuts *cuts, const char *data, size_t bytes);

#endif

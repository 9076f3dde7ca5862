/* What an earlier run has left under --results.  A log may reach the disk before the results that it tells of, and a
 * power failure take these with it.  Used by journal_read.c, to see how far the two agree. */
#ifndef CLI_RESULTS_LEFT_H
#define CLI_RESULTS_LEFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct results_left {
    const char *name;
    uint64_t *line;   /* FILE.jsonl: bit by seq, of jobs whose line is there, whole; NULL for a directory */
    size_t words;
};

/* Nothing is there: that is no error, and it has nothing.  0, or -1 after a message. */
int results_left_open(struct results_left *left, const char *name);
/* All that job `seq` has written, which were so many bytes to its standard output. */
bool results_left_has(const struct results_left *left, size_t seq, uint64_t received);
void results_left_close(struct results_left *left);

#endif

/* --results: what each job wrote, in files of its own (DIR/SEQ/stdout, DIR/SEQ/stderr) or as one JSON object a line of
 * FILE.jsonl. Used by output.c, which calls it when a job's output has its turn. */
#ifndef CLI_RESULTS_H
#define CLI_RESULTS_H

#include "cli/batch.h"
#include "cli/journal.h"
#include "cli/store.h"

struct results;

bool results_is_json(const char *name); /* as its ending tells */

/* Makes the directory or the file.  With resume, FILE.jsonl is gone on with: a half-written last line is cut off, and
 * so are last lines of jobs that will be run again because the journal does not know them.  NULL after a message. */
struct results *results_open(const struct batch *batch, const struct journal *journal);
/* The files of a job appear under their names when they are complete.  0, or -1 after a message. */
int results_add(struct results *results, struct store *store, const struct entry *entry, const struct piece *out,
                const struct piece *err);
int results_flush(struct results *results); /* 0, or -1 after a message */
void results_close(struct results *results);

#endif

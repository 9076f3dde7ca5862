/* What jobs write: collected while they run, printed whole, line by line, or in the order of the jobs, and meanwhile
 * kept in a bounded part of memory and beyond it in one unnamed file.  Used by run.c and pipe.c; records each job in
 * the journal at the moment that its output has been written, so that the two never disagree. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "cli/batch.h"
#include "cli/journal.h"

struct output; /* of the whole run */
struct stream; /* of one running job */

/* Writes to descriptor 1 and 2 as the batch says.  journal may be NULL.  NULL after a message (no memory, no directory
 * for --results). */
struct output *output_open(const struct batch *batch, struct journal *journal);

/* Who shows a line of his own on the terminal is told before anything is written there: does it end a line? */
void output_tell(struct output *output, void (*before)(void *user, bool whole), void *user);

/* A job begins (with every attempt anew). `seq` from 1; `tag`: what --tag puts before each line, NULL = nothing;
 * copied.  NULL: no memory. */
struct stream *output_begin(struct output *output, size_t seq, const char *tag);
/* It has written; stream 1 or 2.  For pmap_command_options.output: called while pmap_commands_next() runs. */
void output_take(struct stream *stream, int number, const char *data, size_t bytes);
/* It will be run again, with a stream of its own: takes the stream, and what it wrote is forgotten (but for lines that
 * were printed already, line by line).  NULL is allowed. */
void output_discard(struct stream *stream);

/* It has ended for good: prints its output when it is its turn, else keeps it. The journal's entry is written behind
 * it.  Takes the stream, which is NULL where nothing was captured (ungrouped, not started).  0, or -1 when
 * output_error() has become true. */
int output_end(struct output *output, struct stream *stream, const struct entry *entry);
/* A job that is not run at all (logged by an earlier run, or skipped): its turn passes. */
int output_skip(struct output *output, size_t seq);

/* Writes what is buffered, output first, journal behind it.  Called before each wait. 0 or -1. */
int output_flush(struct output *output);

/* A write has failed (a full disk, a closed pipe): the message has been printed, nothing more is written or logged. */
bool output_error(const struct output *output);

size_t output_waiting(const struct output *output); /* jobs that have ended and wait for their turn */

/* Flushes and ends all; the journal is still the caller's to close.  Of jobs that wait for one that never ended in an
 * order, nothing is printed or logged, so that --resume runs them.  0 or -1. NULL is allowed. */
int output_close(struct output *output);

#endif

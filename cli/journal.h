/* The job log: one line a job in GNU parallel's columns, then what --resume needs to go on as if nothing had happened.
 *
 *     Seq Host Starttime JobRuntime Send Receive Exitval Signal Command Utime Stime Maxrss Outpos Check
 *
 * Tabs, newlines and backslashes in Command are written \t \n \\.  Outpos is how long standard output was behind the job's output, when
 * that is a file, else -; Check a checksum of the job's own output bytes. A line is written behind the output that it tells of.  So
 * after a kill, a full disk or a power failure the file of output is at most ahead of the log, or has lost what the log tells: resume
 * checks the one against the other from the end backwards, and cuts both to where they agree.
 * Used by output.c (which writes it) and run.c (which opens it and asks what is done). */
#ifndef CLI_JOURNAL_H
#define CLI_JOURNAL_H

#include "cli/batch.h"

struct journal;

struct entry {
    size_t seq;
    double start, runtime;         /* seconds since 1970; seconds */
    uint64_t sent, received;       /* bytes to its input, from its output */
    int exit_value, signal;
    double user, system;           /* seconds */
    uint64_t maxrss;               /* bytes */
    const char *command;           /* as text, not escaped */
};

/* Opens batch->joblog; without resume it is begun anew, with resume read, mended and gone on with.  out: the descriptor of the output, 1.  When it
 * is a regular file that is written at its end (>>), or was named by --output, it is cut to where log and output agree; otherwise only the
 * log's own end is mended.  NULL after a message that names file, line and what is wrong; also when another parmap has the log open (lock). */
struct journal *journal_open(const struct batch *batch, int out);

/* Is this job not to be run (again)?  As --resume, --resume-failed or --retry-failed say. */
bool journal_done(const struct journal *journal, size_t seq);
/* --retry-failed: the failed jobs of the log, as commands: 1 with *seq and *command (a shell line as logged), 0 at the end. */
int journal_failed(struct journal *journal, size_t *at, size_t *seq, const char **command);

/* Adds a line, buffered: outpos as above, UINT64_MAX = not a file; check over the job's output bytes.  0 or -1 after a message. */
int journal_add(struct journal *journal, const struct entry *entry, uint64_t outpos, uint64_t check);
int journal_flush(struct journal *journal);      /* writes the buffer; the caller has written the output before */
int journal_sync(struct journal *journal, int out); /* fdatasync() of the output, then of the log; at most once a second, and at the end */
int journal_close(struct journal *journal);

/* The checksum, in pieces: start with 0. */
uint64_t journal_check(uint64_t check, const char *data, size_t bytes);

#endif

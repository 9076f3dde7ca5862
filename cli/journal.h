/* The job log: one line a job in GNU parallel's columns, then what --resume needs to go on as if nothing had happened.
 *
 *     Seq Host Starttime JobRuntime Send Receive Exitval Signal Command Utime Stime Maxrss Outpos Check
 *
 * Tabs, newlines and backslashes in Command are written \t \n \\.  Outpos is how long standard output was behind the
 * job's output, when that is a file, else -; Check a checksum of the bytes of output between the line before and this
 * one: so each line can be checked, also where jobs print line by line.  The head has one word more, Outbegin=N, where
 * the output was not empty at the start, and Outbegin=- where it is no file; where a later run goes on with another
 * output, a line with Seq 0 says how long that was. A line is written behind the output that it tells of.  So after a
 * kill, a full disk or a power failure the file of output is at most ahead of the log, or has lost what the log tells:
 * resume checks the one against the other from the end backwards, and cuts both to where they agree. Used by output.c
 * (which writes it) and run.c (which opens it and asks what is done). */
#ifndef CLI_JOURNAL_H
#define CLI_JOURNAL_H

#include "cli/batch.h"

struct journal;

struct entry {
    size_t seq;
    double start, runtime;         /* seconds since 1970; seconds */
    uint64_t sent, received;       /* bytes to its input, from its output; output_end() fills in received */
    int exit_value, signal;
    double user, system;           /* seconds */
    uint64_t maxrss;               /* bytes */
    const char *command;           /* as text, not escaped */
};

/* Opens batch->joblog; without resume it is begun anew, with resume read, mended and gone on with.  out: the descriptor
 * of the output, 1.  When it is a regular file that is written at its end (>>), or was named by --output, it is cut to
 * where log and output agree; otherwise only the log's own end is mended.  A file in which nothing agrees is another
 * one: that is an error, and it is left alone.  NULL after a message that names file, line and what is wrong; also when
 * another parmap has the log open (lock). */
struct journal *journal_open(const struct batch *batch, int out);

/* Is this job not to be run (again)?  As --resume, --resume-failed or --retry-failed say. */
bool journal_done(const struct journal *journal, size_t seq);
/* --retry-failed: the failed jobs of the log, as commands: 1 with *seq and *command (a shell line as logged), 0 at the
 * end. */
int journal_failed(struct journal *journal, size_t *at, size_t *seq, const char **command);

/* How long the output is now: where the next byte of ours will be.  UINT64_MAX: it is no file, or jobs write to it
 * themselves. */
uint64_t journal_position(const struct journal *journal);
/* The output has become so long by what is no job's.  0 or -1. */
int journal_base(struct journal *journal, uint64_t position);

/* Adds a line, buffered: outpos as above, UINT64_MAX = not a file; check over the output since the line before.  0 or
 * -1 after a message. */
int journal_add(struct journal *journal, const struct entry *entry, uint64_t outpos, uint64_t check);
size_t journal_pending(const struct journal *journal); /* bytes in the buffer */
/* Writes the buffer; the caller has written the output before.  0, or -1 after a message, which comes once; a half line
 * is cut off again. */
int journal_flush(struct journal *journal);
/* fdatasync() of the output, then of the log, at most once a second, when there is something new.  0 or -1 after a
 * message. */
int journal_sync(struct journal *journal);
/* Writes nothing that is still buffered (the output that it tells of may be missing): flush before.  The same sync.
 * NULL is allowed. */
int journal_close(struct journal *journal);

/* The checksum, in pieces, however they are cut; start with 0.  The bytes are taken as one number, the first being the
 * highest digit to base 256, and the remainder of its division by 2^64 - 59 is kept. */
uint64_t journal_check(uint64_t check, const char *data, size_t bytes);

#endif

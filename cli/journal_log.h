/* What the parts of the job log share: journal.c writes, journal_read.c reads and mends what an earlier run has left,
 * journal_done.c remembers what it tells. */
#ifndef CLI_JOURNAL_LOG_H
#define CLI_JOURNAL_LOG_H

#include "cli/journal.h"

#define JOURNAL_HEAD_OLD "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand" /* GNU */
#define JOURNAL_HEAD JOURNAL_HEAD_OLD "\tUtime\tStime\tMaxrss\tOutpos\tCheck"
/* Behind it where the output did not begin empty: how long it was, or - where it is no file.  It stands in the head
 * because a head is there or not: were it a line of its own that is lost, --resume would cut what was in the file
 * before. */
#define JOURNAL_HEAD_BEGIN "\tOutbegin="
#define JOURNAL_MOST_SEQ ((size_t)1 << 34) /* a higher number is damage: nobody waits for so many jobs */

struct journal_failure {
    size_t seq, line;  /* line: in the order of the log */
    bool failed;
    char *command;     /* NULL when it has not failed */
};

struct journal {
    const char *name;
    int fd, out;
    bool regular;      /* the log is a file: locked, cut, synced */
    bool out_regular, out_append, out_named;
    char *buffer;
    size_t used, room;
    uint64_t size;     /* how long the log is, all of whole lines */
    uint64_t last;     /* Outpos of the last line; UINT64_MAX: none */
    bool failed;
    bool new_lines;    /* since the last sync */
    double synced;

    uint64_t *done;    /* bit by seq */
    size_t done_words;
    struct journal_failure *failures; /* --retry-failed: by seq, one each */
    size_t nfailures, failures_room;
};

/* Reads, mends and cuts the log and the output.  0, or -1 after a message.  Sets size, last, done, failures. */
int journal_read(struct journal *journal, const struct batch *batch);

/* For each line of the log, from the first on: the run of that seq is done, or is not after all.  0, or -1 after a message. */
int journal_set_done(struct journal *journal, size_t seq, bool done);
/* Likewise, for --retry-failed: takes `command`, which is NULL for a run that has not failed, or when there was no memory
 * for it. */
int journal_add_run(struct journal *journal, size_t seq, bool failed, char *command);
/* Behind the last line: of each seq the last line counts; of those only the failed ones are kept. */
void journal_keep_failures(struct journal *journal);

int journal_error(struct journal *journal, const char *what); /* prints it with errno, once; -1 */

#endif

/* What the parts of `parmap run` and `pipe` share: run.c has the loop, job.c makes, starts and judges jobs, control.c says when and how many,
 * filter.c feeds filters, progress.c tells the user. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <pmap/pmap.h>

#include "cli/args.h"
#include "cli/batch.h"
#include "cli/blocks.h"
#include "cli/journal.h"
#include "cli/output.h"
#include "cli/template.h"

#define RUN_SLOTS 65536u
#define RUN_MEDIANS 1001u

struct job {
    size_t seq;
    unsigned slot;         /* from 1; 0 where nobody asks for slots */
    unsigned tries;        /* begun so far */
    char **argv;           /* one block; with a shell the line alone */
    size_t bytes;          /* of it */
    char *tag;             /* NULL = none */
    struct stream *stream; /* NULL = its output is not ours */
    uint64_t received;
    struct input_block *block; /* pipe: its standard input */
    int input;             /* of a filter: the reading end of its pipe, while it is started */
    uint64_t sent;         /* bytes to its standard input */
    double due;            /* of a retry: when, by the clock since boot */
    struct job *next;
};

enum stopping {
    STOP_NOT,
    STOP_SOON, /* nothing is started any more */
    STOP_NOW   /* what runs is ended */
};

struct run {
    const struct batch *batch;
    struct args_reader *reader;    /* NULL: the failed jobs of the log are run again */
    struct blocks *blocks;         /* pipe */
    struct filters *filters;       /* pipe --filter */
    size_t log_at;
    struct template *words, *tag;
    struct batch tag_batch;        /* what the tag's template goes by, and its word: they live as long as it */
    char *tag_word[1];
    bool shell, pipe;
    size_t most_bytes;             /* of a command line */
    struct args_limit limit;       /* -X, -m: the same */
    struct output *output;
    struct journal *journal;
    pmap_commands *set;
    struct job *ready;             /* made, and waits for its time */
    struct job *retries;           /* by due time */
    size_t seq;                    /* of the last job made */
    bool read_all;
    bool hungry;                   /* a job could be started if there were input */

    /* How many */
    unsigned at_once, cpus, possible; /* possible: more would fail for want of descriptors */
    int extra;                     /* SIGUSR1 less SIGUSR2 */
    bool one_by_one;               /* a job goes into the set only when it can start at once: it is told its slot, or waits for a time */
    size_t in_set, set_bytes;      /* jobs that are in it, and the bytes of their command lines */
    uint8_t *slots;                /* taken ones; NULL where nobody asks */
    double last_start, last_look, last_flush;

    /* What has come of it */
    size_t done, failed, succeeded, skipped;
    unsigned worst;                /* the exit status so far */
    enum stopping stopping;
    int own_status;                /* --halt: of the job that decided; -1 = none did */
    int signal;                    /* that ended the run */
    bool broken;                   /* an error of our own, told already */
    double begun, last_shown;
    bool line_shown;               /* on a terminal, to be written over */
    bool in_line;                  /* a job has left a line on the terminal without its end */
    float median_of[RUN_MEDIANS]; /* running times of the last jobs that went well: what --timeout N% goes by */
    size_t medians;
    bool median_known;
    double median;
};

double run_clock(void); /* seconds since boot */

/* job.c.  All: 0, or -1 after a message. */
int job_next(struct run *r, struct job **job);      /* 1: made; 0: there are no more, or it would have to wait for input: r->hungry */
int job_filter(struct run *r, struct job **job);    /* made, for its own input */
int job_start(struct run *r, struct job *job);
int job_ended(struct run *r, pmap_command *command); /* takes both */
void job_free(struct run *r, struct job *job);

/* control.c */
int control_begin(struct run *r);
void control_end(struct run *r);
unsigned control_slot(struct run *r);                /* takes the lowest free one; 0 where nobody asks */
void control_slot_back(struct run *r, unsigned slot);
unsigned control_cpu(const struct run *r, unsigned slot); /* --pin: 1 + the CPU, else 0 */
bool control_room(struct run *r, double now, double *again); /* may one more be started?  *again: when to ask again at the latest */
void control_more(struct run *r, int change);        /* SIGUSR1, SIGUSR2 */
void control_look(struct run *r, double now);        /* -j FILE */
double control_timeout(struct run *r);               /* seconds; 0 = none */
void control_judge(struct run *r, const pmap_status *status, int error, bool ok); /* a job has ended for good: --halt, exit status */
int control_status(const struct run *r);             /* of the program */

/* filter.c */
int filters_open(struct run *r);                     /* 0, or -1 after a message */
void filters_close(struct run *r);
int filters_fd(const struct run *r);                 /* to be polled for reading: then feed */
int filters_feed(struct run *r, double now, double *again); /* what can be without waiting.  0, or -1 after a message */
bool filters_ended(struct run *r, struct job *job);  /* true: before its input did */

/* progress.c */
void progress_begin(struct run *r);
void progress_show(struct run *r, double now, bool last);
void progress_hide(struct run *r);             /* before anything else is written to a terminal */
bool progress_can_ask(void);                               /* false after a message */
bool progress_ask(struct run *r, const struct job *job);   /* -p: true = run it */
void progress_trace(struct run *r, const struct job *job); /* -t */
int progress_dry(struct run *r, const struct job *job);          /* --dry-run */

#endif

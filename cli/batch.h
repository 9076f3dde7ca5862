/* What `parmap run`, `pipe` and `call` were asked for.  Filled by the option table (options_batch.c), read by all others; nobody
 * changes it later.  Strings are argv's own. */
#ifndef CLI_BATCH_H
#define CLI_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where arguments come from: the words behind ::: or the records of a file behind :::: or -a. */
struct batch_source {
    char **words;          /* NULL: a file */
    size_t nwords;
    const char *file;      /* "-" = standard input */
    bool linked;           /* :::+ or ::::+: read in step with the source before it; the shorter ends both */
};

enum batch_output { OUTPUT_GROUP, OUTPUT_LINES, OUTPUT_UNGROUPED };
enum batch_halt_when { HALT_NEVER, HALT_SOON, HALT_NOW };
enum batch_halt_what { HALT_FAIL, HALT_SUCCESS, HALT_DONE };

/* A number of something, or a share of what there is. */
struct batch_amount {
    double value;
    bool percent;
};

struct batch {
    /* The work.  run: the command's words, with replacement strings in them, and where arguments come from. pipe: the command's words.
     * call: LIB.so:function, then files. */
    char **words;
    size_t nwords;
    struct batch_source *sources; /* none: records of standard input */
    size_t nsources;

    /* Input */
    char delimiter;        /* behind each record: '\n'; -0: 0 */
    bool csv, header, link, shuffle, skip_empty;
    const char *colsep;    /* an extended regular expression; NULL = records have one column */
    size_t most;           /* -n, -N: arguments of a command; 0 = 1 */
    size_t most_lines;     /* -L */
    enum { FILL_NONE, FILL_ARGUMENTS, FILL_CONTEXT } fill; /* -m, -X: as many arguments as fit */
    size_t most_chars;     /* -s: bytes of a command line; 0 = the system's limit */
    const char *replace;   /* -I: what stands for {} */
    bool shell;            /* the command is a line for sh, values in it quoted */

    /* Blocks of pipe, records of call */
    uint64_t block;        /* bytes */
    uint64_t record;       /* --records N: all are N bytes long; 0 = they end with the delimiter */
    const char *record_start, *record_end; /* --recstart, --recend; NULL = the delimiter */
    bool filter;           /* long-lived commands, fed block after block */
    const char *output;    /* a file instead of standard output */

    /* Output */
    enum batch_output grouping;
    bool keep_order, tag, quiet;
    const char *tagstring; /* a template; NULL = the arguments */
    const char *results;   /* a directory, or FILE.jsonl */
    uint64_t window;       /* bytes of output that wait in memory; what is more goes to unnamed files */

    /* Control */
    const char *jobs;      /* as typed: N, N%, +N, 0 or a file; NULL = one a CPU */
    struct batch_amount timeout; /* seconds, or % of the median; 0 = none */
    unsigned tries;        /* --retries: how often a job that fails is run in all; at least 1 */
    double retry_delay, retry_factor;
    enum batch_halt_when halt;
    enum batch_halt_what halt_what;
    struct batch_amount halt_at;
    double delay;          /* seconds between starts */
    int nice;
    double load;           /* nothing is started while the load average is above; 0 = no limit */
    uint64_t memfree;      /* nothing is started while less memory is available; 0 = no limit */
    uint64_t memory;       /* bytes that a job may have; 0 = no limit */
    bool pin, jobserver;
    bool has_seed;
    uint64_t seed;
    bool count_failures;   /* --exit=count */

    /* Record */
    const char *joblog;
    enum { RESUME_NO, RESUME, RESUME_FAILED, RETRY_FAILED } resume;

    /* Show */
    bool bar, eta, progress, dry_run, trace, ask, stats;
};

#define BATCH_MOST_JOBS 65536u

/* jobs.c: how many at once `jobs` says on a machine with that many CPUs; for "0" as many as the limits of this process allow.
 * From 1 to BATCH_MOST_JOBS.  A file is read anew by each call, so that it may change meanwhile; 0 = it cannot be read, or says
 * nothing of the kind: the caller keeps the number that it has (the command line was checked, so that it has one). */
unsigned batch_jobs(const char *jobs, unsigned cpus);

/* run.c (run and pipe), call.c: carry it out.  The exit status of the program. */
int batch_run(const struct batch *batch);
int batch_pipe(const struct batch *batch);
int batch_call(const struct batch *batch);

#endif

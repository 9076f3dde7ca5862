/* The jobs of `parmap run`: made of arguments, started, and judged when they have ended: run again, or their output and their line in the log
 * handed on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/run.h"
#include "cli/words.h"

#define LONGEST_DELAY_S 3600.0
#define BLOCKS_AHEAD 2 /* of pipes, that are read while others are worked on */

void job_free(struct run *r, struct job *job)
{
    if (!job) return;
    control_slot_back(r, job->slot);
    output_discard(job->stream);
    blocks_give_back(r->blocks, job->block);
    free(job->argv);
    free(job->tag);
    free(job);
}

static double since_1970(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- Made ---- */

/* What --tag puts before its lines: the values, or --tagstring. */
static int make_tag(struct run *r, struct job *job, const struct args *args)
{
    char **words;
    size_t bytes;
    int error = template_fill(r->tag, args, job->seq, job->slot, &words, &bytes);
    if (error) return error;
    job->tag = malloc(bytes + 1);
    char *to = job->tag;
    for (size_t i = 0; to && words[i]; i++) {
        if (i) *to++ = ' ';
        to = stpcpy(to, words[i]);
    }
    if (to) *to = 0;
    free(words);
    if (job->tag) return 0;
    complain("job %zu: not enough memory for its tag", job->seq);
    return -1;
}

static int make(struct run *r, const struct args *args, struct job *job)
{
    int error = template_fill(r->words, args, job->seq, job->slot, &job->argv, &job->bytes);
    if (error) return -1;
    if (r->batch->most_chars && job->bytes > r->most_bytes) {
        complain("job %zu: its command line has %zu bytes; at most %zu are possible", job->seq, job->bytes, r->most_bytes);
        return -1;
    }
    return r->tag ? make_tag(r, job, args) : 0;
}

/* --retry-failed: the log's own line, for a shell. */
static int from_log(struct run *r, struct job *job)
{
    const char *line;
    if (journal_failed(r->journal, &r->log_at, &job->seq, &line) == 0) return 0;
    job->bytes = strlen(line) + 1;
    job->argv = malloc(2 * sizeof *job->argv + job->bytes);
    if (!job->argv) return -1;
    job->argv[0] = memcpy(job->argv + 2, line, job->bytes);
    job->argv[1] = NULL;
    return 1;
}

/* What the next job is to be about: arguments, or its standard input.  As args_next() says. */
static int take(struct run *r, struct job *job, struct args *args)
{
    if (r->reader) return args_next(r->reader, args, false, r->batch->fill ? &r->limit : NULL);
    int got = blocks_next(r->blocks, &job->block);
    if (got == 1) job->sent = job->block->bytes;
    return got;
}

int job_next(struct run *r, struct job **out)
{
    /* Blocks wait in memory: for their jobs, and for jobs that are to be run again. */
    if (r->blocks && blocks_held(r->blocks) >= r->at_once + BLOCKS_AHEAD) return 0;
    for (;;) {
        struct args args = {.rows = 0};
        struct job *job = calloc(1, sizeof *job);
        int got;
        if (!job) {
            complain("not enough memory for a job");
            return -1;
        }
        if (r->reader || r->blocks) {
            got = take(r, job, &args);
            if (got == 2) {
                r->hungry = true;
                free(job);
                return 0;
            }
            if (got > 0) {
                job->seq = ++r->seq;
                if (r->batch->resume && journal_done(r->journal, job->seq)) {
                    r->skipped++;
                    got = output_skip(r->output, job->seq);
                    args_free(&args);
                    job_free(r, job);
                    if (got) return -1;
                    continue;
                }
                job->slot = control_slot(r);
                got = make(r, &args, job) ? -1 : 1;
                args_free(&args);
            }
        } else got = from_log(r, job);
        if (got > 0) {
            *out = job;
            return 1;
        }
        r->read_all = true;
        job_free(r, job);
        return got;
    }
}

int job_filter(struct run *r, struct job **out)
{
    struct args args = {.rows = 0};
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        complain("not enough memory for a job");
        return -1;
    }
    job->seq = ++r->seq;
    job->slot = control_slot(r);
    if (make(r, &args, job)) {
        job_free(r, job);
        return -1;
    }
    *out = job;
    return 0;
}

/* ---- Started ---- */

static void take_output(void *user, int number, const char *data, size_t bytes)
{
    struct job *job = user;
    if (number == 1) job->received += bytes;
    output_take(job->stream, number, data, bytes);
}

int job_start(struct run *r, struct job *job)
{
    const struct batch *b = r->batch;
    pmap_command_options o = PMAP_COMMAND_OPTIONS_INIT;
    if (r->shell) o.shell = job->argv[0];
    else o.argv = (const char *const *)job->argv;
    o.user = job;
    o.timeout_s = control_timeout(r);
    o.cpu = control_cpu(r, job->slot);
    o.memory = b->memory;
    o.tied = 1;
    if (r->filters) {
        o.in.to = PMAP_IO_FD;
        o.in.fd = job->input;
    } else if (job->block) {
        o.input = job->block->data;
        o.input_bytes = job->block->bytes;
    }
    if (b->grouping != OUTPUT_UNGROUPED) {
        o.out.to = o.err.to = PMAP_IO_PIPE;
        o.output = take_output;
        job->received = 0;
        job->stream = output_begin(r->output, job->seq, job->tag);
        if (!job->stream) {
            complain("job %zu: not enough memory for its output", job->seq);
            return -1;
        }
    }
    progress_trace(r, job);
    job->tries++;
    r->last_start = run_clock();
    int error = pmap_commands_add(r->set, &o, 1);
    if (error) {
        complain("job %zu: %s", job->seq, pmap_error());
        return -1;
    }
    r->in_set++;
    r->set_bytes += job->bytes;
    return 0;
}

/* ---- Ended ---- */

/* Puts it back with a delay that grows. */
static void again(struct run *r, struct job *job)
{
    double delay = r->batch->retry_delay;
    for (unsigned i = 1; i < job->tries && delay < LONGEST_DELAY_S; i++) delay *= r->batch->retry_factor;
    job->due = run_clock() + (delay < LONGEST_DELAY_S ? delay : LONGEST_DELAY_S);
    output_discard(job->stream);
    job->stream = NULL;
    struct job **at = &r->retries;
    while (*at && (*at)->due <= job->due) at = &(*at)->next;
    job->next = *at;
    *at = job;
}

/* What a shell would say of it. */
static int could_not(int error)
{
    return error == PMAP_ENOENT ? 127 : error == PMAP_EACCES || error == PMAP_ESYSTEM ? 126 : 1;
}

static int hand_on(struct run *r, struct job *job, const pmap_status *status, int error)
{
    const struct batch *b = r->batch;
    struct entry entry = {.seq = job->seq, .start = since_1970() - status->wall_s, .runtime = status->wall_s,
                          .sent = job->sent, .received = job->received, .user = status->user_s, .system = status->system_s, .maxrss = status->maxrss};
    if (error && error != PMAP_ESTATUS) entry.exit_value = could_not(error);
    else if (status->cause == PMAP_CAUSE_TIMEOUT) entry.exit_value = -1; /* GNU parallel's way */
    else if (status->cause == PMAP_CAUSE_EXIT) entry.exit_value = status->value;
    if (status->cause != PMAP_CAUSE_EXIT) entry.signal = status->value;
    char *text = r->journal || b->results ? template_show(job->argv, r->shell) : NULL;
    if ((r->journal || b->results) && !text) {
        complain("job %zu: not enough memory for its line in the log", job->seq);
        return -1;
    }
    entry.command = text ? text : "";
    struct stream *stream = job->stream;
    job->stream = NULL;
    int e = output_end(r->output, stream, &entry);
    free(text);
    return e;
}

int job_ended(struct run *r, pmap_command *command)
{
    struct job *job = pmap_command_user(command);
    pmap_status status = {.size = sizeof status};
    int error = pmap_command_check(command);
    (void)pmap_command_status(command, -1, &status);
    r->in_set--;
    r->set_bytes -= job->bytes;
    if (error && error != PMAP_ESTATUS && error != PMAP_ECANCELLED) {
        progress_hide(r);
        complain("job %zu: %s", job->seq, pmap_error());
    }
    (void)pmap_command_close(command);

    bool early = r->filters && filters_ended(r, job);
    if (early && (!error || error == PMAP_ESTATUS))
        complain("filter %zu ended before its input did: the %llu bytes that it was given may be lost", job->seq,
                 (unsigned long long)job->sent);

    /* Taken back, or ended by us because the run ends: it is as if it had not been begun, and --resume runs it. */
    if (error == PMAP_ECANCELLED || (error && r->stopping == STOP_NOW && status.cause == PMAP_CAUSE_CANCELLED)) {
        job_free(r, job);
        return 0;
    }
    bool retry = error && r->stopping == STOP_NOT && job->tries < r->batch->tries && error != PMAP_ENOENT && error != PMAP_EACCES;
    if (retry) {
        again(r, job);
        return 0;
    }
    int e = hand_on(r, job, &status, error);
    control_judge(r, &status, error, error == 0 && !early);
    job_free(r, job);
    return e;
}

/* `parmap pipe --filter`: commands that live on, one a slot, fed block after block.  A filter is a job like any other, with its output, time-out,
 * line in the log and verdict; only its standard input is a pipe of ours.  run.c's loop calls here to feed.
 *
 *     blocks -> the next filter that has taken all of its last block -> [no filter has room: one more is started, up to -j]
 *
 * So there are never more filters than there was work for, and a slow one gets less.  When the input has ended, so do their inputs; run.c then
 * waits for their ends. */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cli/words.h"

#define PIPE_BYTES (256 << 10) /* where that is allowed: fewer turns, as for the library's input */

struct filter {
    int fd;                      /* its input's writing end, non-blocking; -1: closed */
    struct input_block *block;   /* of which it has got `written` bytes; NULL: it wants the next one */
    size_t written;
    uint64_t given;              /* bytes of all its blocks */
    bool early;                  /* it has closed its input before we did */
};

struct filters {
    int epoll;                   /* readable when a filter may be written to again */
    struct input_block *next;    /* that no filter has room for yet */
    struct filter *each;         /* [seq - 1] of its job */
    size_t n, room, last;        /* last: that was given a block */
    size_t open;                 /* whose input is */
};

int filters_open(struct run *r)
{
    struct filters *f = calloc(1, sizeof *f);
    if (f && (f->epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0) {
        r->filters = f;
        return 0;
    }
    complain("--filter: %s", strerror(errno));
    free(f);
    return -1;
}

static void shut(struct run *r, struct filter *filter)
{
    blocks_give_back(r->blocks, filter->block);
    filter->block = NULL;
    if (filter->fd < 0) return;
    (void)close(filter->fd); /* its only descriptor: epoll forgets it */
    filter->fd = -1;
    r->filters->open--;
}

void filters_close(struct run *r)
{
    struct filters *f = r->filters;
    if (!f) return;
    for (size_t i = 0; i < f->n; i++) shut(r, &f->each[i]);
    blocks_give_back(r->blocks, f->next);
    (void)close(f->epoll);
    free(f->each);
    free(f);
    r->filters = NULL;
}

int filters_fd(const struct run *r) { return r->filters->epoll; }

/* ---- Starting ---- */

static int make_room(struct filters *f)
{
    size_t room = f->room ? 2 * f->room : 8;
    if (f->n < f->room) return 0;
    struct filter *larger = realloc(f->each, room * sizeof *larger);
    if (!larger) {
        complain("not enough memory for a filter");
        return -1;
    }
    f->each = larger;
    f->room = room;
    return 0;
}

/* A pipe whose writing end does not block and tells of room. */
static int open_pipe(struct filters *f, int ends[2])
{
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
    if (pipe2(ends, O_CLOEXEC) == 0) {
        (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
        if (fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 && epoll_ctl(f->epoll, EPOLL_CTL_ADD, ends[1], &e) == 0) return 0;
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    complain("--filter: a pipe: %s", strerror(errno));
    return -1;
}

static int start(struct run *r)
{
    struct filters *f = r->filters;
    struct job *job;
    int ends[2];
    if (make_room(f) || job_filter(r, &job)) return -1;
    if (open_pipe(f, ends)) {
        job_free(r, job);
        return -1;
    }
    job->input = ends[0];
    /* The set has room and no spawners: it is started within the call, and our copy of its end can be closed. */
    int error = job_start(r, job);
    (void)close(ends[0]);
    if (error) {
        job_free(r, job);
        (void)close(ends[1]);
        return -1;
    }
    f->each[f->n++] = (struct filter){.fd = ends[1]};
    f->open++;
    return 0;
}

/* ---- Feeding ---- */

/* Writes what goes in of its block.  0, or -1 after a message. */
static int feed(struct run *r, size_t i)
{
    struct filter *filter = &r->filters->each[i];
    while (filter->block) {
        size_t left = filter->block->bytes - filter->written;
        ssize_t n = write(filter->fd, filter->block->data + filter->written, left < PIPE_BYTES ? left : PIPE_BYTES);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n < 0 && errno == EPIPE) {
            filter->early = true;
            shut(r, filter);
        } else if (n < 0 && errno != EINTR) {
            complain("filter %zu: its input cannot be written: %s", i + 1, strerror(errno));
            return -1;
        }
        if (n > 0 && (filter->written += (size_t)n) == filter->block->bytes) {
            blocks_give_back(r->blocks, filter->block);
            filter->block = NULL;
        }
    }
    return 0;
}

static int feed_all(struct run *r)
{
    struct filters *f = r->filters;
    struct epoll_event told[16];
    while (epoll_wait(f->epoll, told, 16, 0) == 16) continue; /* forgotten, and all are tried */
    for (size_t i = 0; i < f->n; i++)
        if (feed(r, i)) return -1;
    return 0;
}

/* The next one that wants a block, or f->n. */
static size_t wanting(const struct filters *f)
{
    for (size_t k = 1; k <= f->n; k++) {
        size_t i = (f->last + k) % f->n;
        if (f->each[i].fd >= 0 && !f->each[i].block) return i;
    }
    return f->n;
}

static int give(struct run *r, size_t i)
{
    struct filters *f = r->filters;
    struct filter *filter = &f->each[i];
    f->last = i;
    filter->block = f->next;
    filter->written = 0;
    filter->given += f->next->bytes;
    f->next = NULL;
    return feed(r, i);
}

/* The next block, so that no filter is started for nothing.  1, or 0: there is none, or none yet; -1 after a message. */
static int next_block(struct run *r)
{
    struct filters *f = r->filters;
    if (f->next) return 1;
    int got = blocks_next(r->blocks, &f->next);
    if (got == 0) r->read_all = true;
    if (got == 2) r->hungry = true;
    return got == 2 ? 0 : got;
}

int filters_feed(struct run *r, double now, double *again)
{
    struct filters *f = r->filters;
    if (feed_all(r)) return -1;
    while (!r->read_all && r->stopping == STOP_NOT) {
        int got = next_block(r);
        if (got < 0) return -1;
        if (got == 0) break;
        size_t i = wanting(f);
        if (i < f->n) {
            if (give(r, i)) return -1;
        } else if (f->n < r->at_once && control_room(r, now, again)) {
            if (start(r)) return -1;
        } else {
            if (f->open || f->n < r->at_once) break;
            complain("no filter is left; the rest of the input was not read");
            r->stopping = STOP_SOON;
        }
    }
    /* No more blocks: each one's input ends when it has got what it was given. */
    for (size_t i = 0; i < f->n && (r->read_all || r->stopping != STOP_NOT); i++)
        if (!f->each[i].block) shut(r, &f->each[i]);
    return 0;
}

bool filters_ended(struct run *r, struct job *job)
{
    struct filter *filter = &r->filters->each[job->seq - 1];
    bool early = filter->early || filter->fd >= 0;
    job->sent = filter->given;
    shut(r, filter);
    return early && r->stopping != STOP_NOW;
}

/* A buffered descriptor.  See sink.h. */
#include "cli/sink.h"
#include "cli/journal.h"
#include "cli/words.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)256 << 10)
#define LARGE ((size_t)64 << 10) /* is written from where it lies */

int sink_write(int fd, const char *data, size_t bytes, size_t *done)
{
    size_t at = 0;
    int error = 0;

    while (at < bytes && !error) {
        ssize_t n = write(fd, data + at, bytes - at);
        struct pollfd writable = { .fd = fd, .events = POLLOUT };

        if (n >= 0) at += (size_t)n;
        else if (errno == EAGAIN) (void)poll(&writable, 1, -1); /* someone else has made it non-blocking */
        else if (errno != EINTR) error = -1;
    }
    if (done) *done = at;
    return error;
}

int sink_open(struct sink *s, int fd, const char *name)
{
    memset(s, 0, sizeof *s);
    s->fd = fd;
    s->name = name;
    s->buffer = malloc(BUFFER);
    if (s->buffer) return 0;
    complain("%s: no memory for its buffer", name);
    return -1;
}

void sink_close(struct sink *s)
{
    free(s->buffer);
    s->buffer = NULL;
    s->used = 0;
}

static int send_all(struct sink *s, const char *data, size_t bytes)
{
    if (s->failed) return -1;
    if (s->before) s->before(s->user, data[bytes - 1] == '\n');
    if (sink_write(s->fd, data, bytes, NULL) == 0) return 0;
    complain("%s: cannot be written: %s", s->name, strerror(errno));
    s->failed = true;
    return -1;
}

int sink_flush(struct sink *s)
{
    size_t used = s->used;

    s->used = 0;
    return used ? send_all(s, s->buffer, used) : s->failed ? -1 : 0;
}

int sink_put(struct sink *s, const char *data, size_t bytes)
{
    if (s->checked) s->check = journal_check(s->check, data, bytes);
    s->position += bytes;
    if (bytes == 0) return s->failed ? -1 : 0;
    if (bytes >= LARGE) return sink_flush(s) ? -1 : send_all(s, data, bytes);
    if (s->used + bytes > BUFFER && sink_flush(s)) return -1;
    memcpy(s->buffer + s->used, data, bytes);
    s->used += bytes;
    return 0;
}

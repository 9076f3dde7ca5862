/* A descriptor that is written to in large pieces, and how long it has become.  Used by output.c for standard output
 * and error, and by results.c; must not know what is written. */
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sink {
    int fd;
    const char *name;  /* for messages */
    char *buffer;
    size_t used;
    uint64_t position; /* bytes in all, with those in the buffer; output.c starts it where the file ends */
    uint64_t check;    /* journal_check() of what was put since the owner set it to 0 */
    bool checked;      /* is anybody interested in it? */
    bool failed;       /* a write has: the message has been printed, and nothing more is written */
    void (*before)(void *user, bool whole); /* called before a write, which ends a line or not; NULL: nobody asks */
    void *user;
};

/* 0, or -1 after a message; the descriptor stays the caller's */
int sink_open(struct sink *sink, int fd, const char *name);
void sink_close(struct sink *sink);                         /* forgets what was not flushed */
int sink_put(struct sink *sink, const char *data, size_t bytes); /* 0 or -1 */
int sink_flush(struct sink *sink);                               /* 0 or -1; blocks as long as a reader does not read */

/* All of it, whatever signals, short writes and O_NONBLOCK do.  0, or -1 with errno; *done: bytes written (may be
 * NULL). */
int sink_write(int fd, const char *data, size_t bytes, size_t *done);

#endif

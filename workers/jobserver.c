/* Finds make's jobserver, and moves tokens between it and the board; see jobserver.h.  MAKEFLAGS has --jobserver-auth=R,W (descriptors of a
 * pipe) or --jobserver-auth=fifo:PATH; before GNU make 4.2 it was --jobserver-fds=R,W.  The last one counts. */
#include "workers/jobserver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/fd.h"

#define R memory_order_relaxed
#define MOST_PATH 4096

static const char *last_of(const char *text, const char *name)
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, name)); at++)
        if (at == text || at[-1] == ' ') found = at + strlen(name);
    return found;
}

/* An open file description of our own: O_NONBLOCK on the one that make gave would change it for all who have it. */
static int open_fifo(const char *path, int how)
{
    struct stat s;
    int fd = pm_fd_above_stdio(open(path, how | O_NONBLOCK | O_CLOEXEC));
    if (fd < 0 || (fstat(fd, &s) == 0 && S_ISFIFO(s.st_mode))) return fd;
    (void)close(fd);
    return -1;
}

static int open_number(int number, int how)
{
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", number);
    return number < 0 ? -1 : open_fifo(path, how);
}

enum pm_offer pm_jobserver_find(const char *text, int fd[2])
{
    char path[MOST_PATH];
    int in, out;
    fd[0] = fd[1] = -1;
    const char *at = text ? last_of(text, "--jobserver-auth=") : NULL;
    if (!at && text) at = last_of(text, "--jobserver-fds=");
    if (!at) return PM_OFFER_NONE;
    if (strncmp(at, "fifo:", 5) == 0) {
        size_t n = strcspn(at + 5, " ");
        if (n == 0 || n >= sizeof path) return PM_OFFER_UNREACHABLE;
        memcpy(path, at + 5, n);
        path[n] = 0;
        fd[0] = open_fifo(path, O_RDONLY); /* first: a writer that does not block needs a reader */
        fd[1] = open_fifo(path, O_WRONLY);
    } else if (sscanf(at, "%d,%d", &in, &out) == 2) {
        fd[0] = open_number(in, O_RDONLY);
        fd[1] = open_number(out, O_WRONLY);
    }
    if (fd[0] >= 0 && fd[1] >= 0) return PM_OFFER_TOKENS;
    pm_jobserver_close(fd);
    return PM_OFFER_UNREACHABLE;
}

void pm_jobserver_close(int fd[2])
{
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0) (void)close(fd[i]);
        fd[i] = -1;
    }
}

bool pm_jobserver_take(struct pm_tokens tokens, const int fd[2])
{
    unsigned n = atomic_load_explicit(tokens.n, R);
    char token;
    if (fd[0] < 0 || n >= tokens.room) return false;
    ssize_t got;
    while ((got = read(fd[0], &token, 1)) < 0 && errno == EINTR) {
    }
    if (got != 1) return false;
    tokens.token[n] = token;
    atomic_store_explicit(tokens.n, n + 1, R);
    return true;
}

void pm_jobserver_give(struct pm_tokens tokens, const int fd[2], unsigned keep)
{
    for (unsigned n; fd[1] >= 0 && (n = atomic_load_explicit(tokens.n, R)) > keep;) {
        /* Noted first: who dies in between has kept one, which is better than giving one twice. */
        atomic_store_explicit(tokens.n, n - 1, R);
        ssize_t put;
        while ((put = write(fd[1], &tokens.token[n - 1], 1)) < 0 && errno == EINTR) {
        }
        if (put == 1) continue;
        if (errno == EAGAIN) atomic_store_explicit(tokens.n, n, R); /* full, which make's pipe never is: later */
        return;
    }
}

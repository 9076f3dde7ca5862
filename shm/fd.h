/* Descriptors that stay out of the way of 0, 1 and 2: an application that has closed those must not find the arena under its next
 * printf().  Used wherever this library opens one that lives longer than a call. */
#ifndef PM_SHM_FD_H
#define PM_SHM_FD_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The same open file at a number above 2, close-on-exec; fd itself when it is there already.  Negative values (-errno) pass. */
static inline int pm_fd_above_stdio(int fd)
{
    if (fd < 0 || fd > 2) return fd;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, 3), e = errno;
    (void)close(fd);
    return up < 0 ? -e : up;
}

/* For as long as a library that does not care opens descriptors: puts /dev/null where the application has closed 0, 1 or 2.  Returns
 * which, as bits. */
static inline unsigned pm_fd_hold_stdio(void)
{
    unsigned held = 0;
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        int got = open("/dev/null", O_RDWR | O_CLOEXEC); /* the lowest free number: this one, unless another thread is quicker */
        if (got == fd) held |= 1u << fd;
        else if (got >= 0) (void)close(got);
    }
    return held;
}

static inline void pm_fd_release_stdio(unsigned held)
{
    for (int fd = 0; fd <= 2; fd++)
        if (held & 1u << fd) (void)close(fd);
}

#endif

/* The text of -j as a number.  See batch.h.  Used when the command line is checked, and by what starts jobs. */
#include "cli/batch.h"
#include "cli/words.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A job takes two pipes' ends, a pidfd and, when its output is much, two files.  Some descriptors are for the rest. */
#define DESCRIPTORS_PER_JOB 5
#define DESCRIPTORS_ELSE 64

static unsigned bounded(uint64_t n)
{
    return n < 1 ? 1 : n > BATCH_MOST_JOBS ? BATCH_MOST_JOBS : (unsigned)n;
}

static unsigned as_many_as_possible(void)
{
    struct rlimit limit;
    uint64_t n = BATCH_MOST_JOBS;

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur != RLIM_INFINITY)
        n = limit.rlim_cur > DESCRIPTORS_ELSE ? (limit.rlim_cur - DESCRIPTORS_ELSE) / DESCRIPTORS_PER_JOB : 1;
    if (!getrlimit(RLIMIT_NPROC, &limit) && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < n) n = limit.rlim_cur;
    return bounded(n);
}

/* N, N%, +N or 0; 0 = the text is none of them. */
static unsigned from_text(const char *text, size_t length, unsigned cpus)
{
    bool more = length && text[0] == '+', percent = length && text[length - 1] == '%';
    uint64_t n;

    if (!words_number(text + more, length - more - percent, &n) || n > BATCH_MOST_JOBS || (more && percent)) return 0;
    if (more) return bounded(n + cpus);
    if (percent) return n ? bounded((n * cpus + 50) / 100) : 0;
    return n ? (unsigned)n : as_many_as_possible();
}

static unsigned from_file(const char *name, unsigned cpus)
{
    char text[64];
    size_t from = 0;
    ssize_t got;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO with nobody behind it must not stop us */

    if (fd < 0) return 0;
    got = read(fd, text, sizeof text);
    close(fd);
    while (got > 0 && strchr(" \t\n", text[got - 1])) got--;
    while (got > 0 && from < (size_t)got && strchr(" \t", text[from])) from++;
    return got > 0 && (size_t)got < sizeof text ? from_text(text + from, (size_t)got - from, cpus) : 0;
}

unsigned batch_jobs(const char *jobs, unsigned cpus)
{
    unsigned n = jobs ? from_text(jobs, strlen(jobs), cpus) : bounded(cpus);

    return n ? n : from_file(jobs, cpus);
}

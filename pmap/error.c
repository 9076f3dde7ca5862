/* Error numbers in words, and the calling thread's last error in full. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pmap/pool.h"

static _Thread_local char text[512];

int pm_error(int error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error;
}

int pm_error_system(int e, const char *doing)
{
    switch (-e) {
    case ENOMEM: return pm_error(PMAP_ENOMEM, "%s: not enough memory", doing);
    case EOPNOTSUPP: return pm_error(PMAP_ENOTSUP, "%s: this pool cannot do that", doing);
    case ECANCELED: return pm_error(PMAP_ECANCELLED, "%s: the pool was terminated", doing);
    default: return pm_error(PMAP_ESYSTEM, "%s: %s", doing, strerror(-e));
    }
}

const char *pmap_error(void) { return text; }

const char *pmap_strerror(int error)
{
    switch (error) {
    case PMAP_OK: return "no error";
    case PMAP_EINVAL: return "an argument is wrong";
    case PMAP_ENOMEM: return "not enough memory";
    case PMAP_EITEMS: return "some items failed";
    case PMAP_ECLOSED: return "the pool or queue is closed";
    case PMAP_EFORK: return "the pool belongs to another process";
    case PMAP_EBROKEN: return "workers die without any progress";
    case PMAP_EFUNCTION: return "the function was loaded after the pool opened";
    case PMAP_EOVERLAP: return "input and output overlap";
    case PMAP_EOVERFLOW: return "a size does not fit in size_t";
    case PMAP_ENOTSUP: return "not supported by this executor or build";
    case PMAP_ESYSTEM: return "the operating system refused something";
    case PMAP_ECANCELLED: return "cancelled, or the pool was terminated";
    case PMAP_ETIMEDOUT: return "the time to wait is over";
    case PMAP_EOWNERDEAD: return "the last owner died while it held the lock";
    case PMAP_ETOOBIG: return "larger than was agreed";
    case PMAP_EPERM: return "held by another, or not held by the caller";
    case PMAP_EDEADLOCK: return "the caller would wait for itself";
    case PMAP_ESOURCE: return "the source of inputs failed";
    case PMAP_ENOENT: return "no such program or file";
    case PMAP_EACCES: return "the program or file may not be used";
    case PMAP_ESTATUS: return "a command failed";
    default: return "unknown error number";
    }
}

const char *pmap_version(void) { return PMAP_VERSION; }

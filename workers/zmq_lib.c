/* Loads libzmq when it is first needed.  See zmq_lib.h.
 *
 * It is never unloaded: libzmq's own threads may still be on their way out of its code when a context has ended, and the libraries below it
 * leave functions for exit() and for the ends of threads behind, which would be called where nothing is mapped any more. */
#include "workers/zmq_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

struct pm_libzmq pm_libzmq;

/* A fork copies what other threads have half done:
 *
 *     thread A                          thread B
 *     dlopen: libzmq is in the list,
 *             not yet relocated
 *                                       fork -> child: dlopen finds libzmq in the list, takes it for loaded,
 *                                                      and its first call jumps to nowhere
 *     zmq_ctx_new: a lock is taken
 *                                       fork -> child: zmq_ctx_new waits for that lock for ever
 *
 * Hence B's fork waits for A, whoever forks: the child is a supervisor, a worker that opens pools of its own, or the application's.  The child
 * has one thread, the one that took the lock, and unlocks its copy. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

void pm_libzmq_lock(void) { (void)pthread_mutex_lock(&making); }
void pm_libzmq_unlock(void) { (void)pthread_mutex_unlock(&making); }

static void watch_forks(void) { (void)pthread_atfork(pm_libzmq_lock, pm_libzmq_unlock, pm_libzmq_unlock); }

#define CALL(name) {"zmq_" #name, offsetof(struct pm_libzmq, name)},
static const struct {
    const char *name;
    size_t at;
} calls[] = {PM_LIBZMQ_CALLS(CALL)};

/* All or none: a table with holes is never seen. */
static bool fill(void *library)
{
    struct pm_libzmq all;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *function = dlsym(library, calls[i].name);
        if (!function) return false;
        memcpy((char *)&all + calls[i].at, &function, sizeof function);
    }
    pm_libzmq = all;
    return true;
}

/* A program linked with -static has no interpreter, but a C library of its own.  dlopen() would load another for libzmq, and the first thread
 * that libzmq makes with that one is a crash. */
static int find_interpreter(struct dl_phdr_info *program, size_t size, void *found)
{
    (void)size;
    for (int i = 0; i < program->dlpi_phnum; i++)
        if (program->dlpi_phdr[i].p_type == PT_INTERP) *(bool *)found = true;
    return 1; /* the first object is the program */
}

static const char *load(void)
{
    bool can = false;
    (void)dl_iterate_phdr(find_interpreter, &can);
    if (!can) return "a program that is linked statically cannot load it";
    /* Now: bound lazily, each forked worker would look up its own.  Local: a program's own names are not libzmq's affair. */
    void *library = dlopen(LIBZMQ_SONAME, RTLD_NOW | RTLD_LOCAL);
    return library && fill(library) ? NULL : dlerror();
}

int pm_libzmq_load(char *text, size_t bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static bool loaded;
    (void)pthread_once(&once, watch_forks);
    pm_libzmq_lock();
    const char *why = loaded ? NULL : load();
    loaded = !why;
    if (why) (void)snprintf(text, bytes, "the ZeroMQ channel needs libzmq: %s", why);
    pm_libzmq_unlock();
    return why ? -EOPNOTSUPP : 0;
}

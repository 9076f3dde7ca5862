/* Makes the address sanitizer's allocator safe for fork(), as the C library's own is.
 *
 * That of gcc 12 is not: a child that was forked while another thread had one of its locks waits for that lock for ever at its next malloc() or
 * free().  A pool's workers are forked from programs with threads, so it is the sanitizer that would hang there, not pmap.  Hence a fork waits
 * here until no thread is inside, and whoever wants to go in waits for the fork. */
#include "tests/asan.h"

#ifdef __SANITIZE_ADDRESS__

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

static pthread_rwlock_t inside = PTHREAD_RWLOCK_INITIALIZER;

static void enter(void) { (void)pthread_rwlock_rdlock(&inside); }
static void leave(void) { (void)pthread_rwlock_unlock(&inside); }

static void before_fork(void) { (void)pthread_rwlock_wrlock(&inside); }
static void in_child(void) { inside = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER; } /* whoever waited for it is not here */

void pm_test_asan_watch_forks(void) { (void)pthread_atfork(before_fork, leave, in_child); }

/* What a program shows goes before what its libraries have, for all of them. */
#pragma GCC visibility push(default)
#define WRAP(type, name, parameters, arguments)                                                                                                 \
    type __interceptor_##name parameters;                                                                                                       \
    type name parameters;                                                                                                                       \
    type name parameters                                                                                                                        \
    {                                                                                                                                           \
        enter();                                                                                                                                \
        type result = __interceptor_##name arguments;                                                                                           \
        leave();                                                                                                                                \
        return result;                                                                                                                          \
    }

WRAP(void *, malloc, (size_t n), (n))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *p, size_t n), (p, n))
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP(void *, memalign, (size_t alignment, size_t n), (alignment, n))
WRAP(void *, aligned_alloc, (size_t alignment, size_t n), (alignment, n))
WRAP(int, posix_memalign, (void **p, size_t alignment, size_t n), (p, alignment, n))
WRAP(char *, strdup, (const char *s), (s))
WRAP(int, pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *x), (t, a, f, x))

void __interceptor_free(void *p);
void free(void *p)
{
    enter();
    __interceptor_free(p);
    leave();
}

/* And C++'s, which libzmq uses; the sanitizer's library has them under these names alone. */
#define WRAP_NEW(symbol, parameters, arguments)                                                                                                 \
    void *symbol parameters;                                                                                                                    \
    void *symbol parameters                                                                                                                     \
    {                                                                                                                                           \
        static void *(*_Atomic real)parameters;                                                                                                 \
        if (!real) real = (void *(*)parameters)(uintptr_t)dlsym(RTLD_NEXT, #symbol);                                                            \
        enter();                                                                                                                                \
        void *result = real arguments;                                                                                                          \
        leave();                                                                                                                                \
        return result;                                                                                                                          \
    }
#define WRAP_DELETE(symbol, parameters, arguments)                                                                                              \
    void symbol parameters;                                                                                                                     \
    void symbol parameters                                                                                                                      \
    {                                                                                                                                           \
        static void (*_Atomic real)parameters;                                                                                                  \
        if (!real) real = (void (*)parameters)(uintptr_t)dlsym(RTLD_NEXT, #symbol);                                                             \
        enter();                                                                                                                                \
        real arguments;                                                                                                                         \
        leave();                                                                                                                                \
    }
WRAP_NEW(_Znwm, (size_t n), (n))
WRAP_NEW(_ZnwmRKSt9nothrow_t, (size_t n, const void *nothrow), (n, nothrow))
WRAP_DELETE(_ZdlPv, (void *p), (p))
WRAP_DELETE(_ZdlPvm, (void *p, size_t n), (p, n))
WRAP_DELETE(_ZdlPvRKSt9nothrow_t, (void *p, const void *nothrow), (p, nothrow))
#pragma GCC visibility pop
#else
void pm_test_asan_watch_forks(void) {}
#endif

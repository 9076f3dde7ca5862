/* A function takes a lock and calls another that takes it again: its owner may, if it is recursive.  A plain lock says so instead of waiting
 * for ever.  And one that a process dies with tells whoever comes next. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int inner(pmap_lock *lock)
{
    int error = pmap_lock_acquire(lock, -1);
    if (error) return error;
    return pmap_lock_release(lock);
}

static int outer(pmap_lock *lock)
{
    int error = pmap_lock_acquire(lock, -1);
    if (error) return error;
    int in = inner(lock); /* held once more, or not */
    error = pmap_lock_release(lock);
    return in ? in : error;
}

int main(void)
{
    pmap_lock *plain, *recursive;
    pmap_lock_options options = PMAP_LOCK_OPTIONS_INIT;
    if (pmap_lock_open(&plain, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    options.recursive = 1;
    if (pmap_lock_open(&recursive, &options)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    printf("recursive: %s\n", pmap_strerror(outer(recursive)));
    printf("plain: %s\n", pmap_strerror(outer(plain)));

    pid_t child = fork();
    if (child == 0) _exit(pmap_lock_acquire(recursive, -1)); /* and never lets go of it */
    if (child < 0 || waitpid(child, NULL, 0) != child) return 1;
    printf("after a death: %s\n", pmap_strerror(pmap_lock_acquire(recursive, -1)));
    printf("repaired: %s\n", pmap_strerror(pmap_lock_release(recursive)));
    printf("and again: %s\n", pmap_strerror(outer(recursive)));
    return pmap_lock_close(plain) || pmap_lock_close(recursive);
}

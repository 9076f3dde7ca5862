/* A worker stopped at every place between the end of one task and its sleep behind the last of four, and killed there (tests/places.h): each task
 * comes to its end, with its own result or its own words, and none runs again but the one that the worker held. */
#include "tests/futures.h"
#include "tests/places.h"

#define TASKS 4u

struct hold {
    _Atomic uint32_t pid, go;
    _Atomic uint32_t runs[TASKS];
};

struct input {
    uint32_t index, fails;
    char letters[200];
};
#define SHORT 60u /* bytes of it that lie in the entry, where the words of a failure are written over them */

static const char words[] = "words of a task that has failed, longer than the 64 bytes of a small result: sixty-four and a few";

static int task_fn(pmap_task *task, const void *in, size_t bytes)
{
    struct hold *h = pmap_task_arg(task);
    const struct input *i = in;
    for (size_t k = 0; k < bytes - offsetof(struct input, letters); k++)
        if (i->letters[k] != 'p') return 66; /* it is not what was given in */
    if (i->index >= TASKS) return 67;
    atomic_fetch_add(&h->runs[i->index], 1);
    if (i->index == 0) {
        atomic_store(&h->pid, (uint32_t)getpid());
        while (!atomic_load(&h->go)) continue;
    }
    if (i->fails) {
        pmap_task_error(task, "%s", words);
        return 9;
    }
    uint64_t *out = pmap_task_result(task, sizeof *out);
    if (!out) return 68;
    *out = i->index + 100;
    return 0;
}

struct series {
    pmap_pool *pool;
    struct hold *hold;
    int fd;
};

static bool it_waits(void *arg) { return atomic_load(&((struct series *)arg)->hold->pid) != 0; }

static void check(struct series *s, pmap_future **f, unsigned made)
{
    unsigned again = 0;
    int e = pmap_wait(f, TASKS, PMAP_ALL, 10);
    if (e) fail_msg("killed behind %u instructions: %d %s", made, e, pmap_error());
    for (uint32_t i = 0; i < TASKS; i++) {
        const void *result;
        unsigned runs = atomic_load(&s->hold->runs[i]);
        e = pmap_future_get(f[i], 0, &result, NULL);
        const pmap_failure *failure = pmap_future_failure(f[i]);
        bool fails = i == 2, right = fails ? e == PMAP_EITEMS && failure->cause == PMAP_CAUSE_CODE && failure->value == 9 && strstr(failure->text, words)
                                           : e == 0 && *(const uint64_t *)result == i + 100;
        if (!right) fail_msg("killed behind %u instructions: task %u: %d %s", made, i, e, e ? pmap_error() : "wrong");
        if (runs < 1 || runs > 2) fail_msg("killed behind %u instructions: task %u ran %u times", made, i, runs);
        again += runs - 1;
        pmap_future_free(f[i]);
    }
    if (again > 1) fail_msg("killed behind %u instructions: %u tasks ran twice", made, again);
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    while ((e = poll(&p, 1, 10000)) < 0 && errno == EINTR) continue;
    if (e != 1) fail_msg("killed behind %u instructions: the descriptor is not readable", made);
    assert_int_equal(pmap_pool_poll(s->pool, 0), 0);
}

static void four_tasks(struct way *w)
{
    struct series *s = w->arg;
    pmap_future *f[TASKS];
    pmap_submit_options o = with_arg(s->hold);
    memset(s->hold, 0, sizeof *s->hold);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct input in = {.index = i, .fails = i == 2};
        memset(in.letters, 'p', sizeof in.letters);
        f[i] = give(s->pool, task_fn, &in, i == 1 ? sizeof in : SHORT, &o);
    }
    if (!pm_test_wait_until(it_waits, s, 10000)) fail_msg("the first task was not begun within 10 s");
    walk_and_kill(w, (pid_t)atomic_load(&s->hold->pid), &s->hold->go);
    check(s, f, w->made);
}

static void every_instruction(const struct pm_path *path)
{
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* what is stepped through must be the code that is shipped: a sanitizer's checks are most of its own */
#endif
    if (!may_trace()) skip();
    struct series s;
    pmap_options o = pm_path_options(path, 1);
    o.spin_us = -1; /* to be stepped through spinning would be long */
    EXPECT(pmap_pool_open(&s.pool, &o), 0);
    s.hold = pmap_alloc(s.pool, sizeof *s.hold);
    assert_non_null(s.hold);
    s.fd = pmap_pool_fd(s.pool); /* so that the bell is rung as well */
    assert_true(s.fd >= 0);
    static struct way w;
    w = (struct way){.name = "four tasks", .round = four_tasks, .arg = &s, .budget_s = 3.0};
    kill_at_every_place(&w);
    check_orderly(s.pool, path, "after kills");
    check_close(s.pool, path, "after kills");
}

int main(int argc, char **argv)
{
    (void)argc;
    /* All symbols are bound before the workers are forked; else each of them looks them up once, which is most of the instructions. */
    if (!getenv("LD_BIND_NOW") && setenv("LD_BIND_NOW", "1", 1) == 0) (void)execv("/proc/self/exe", argv);
    no_core();
    static const struct pm_path_test tests[] = {{"every instruction of a task", every_instruction, PM_ON_SHM}};
    return PM_PATHS_MAIN("future_step", tests);
}

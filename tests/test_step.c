/* A worker stopped at every place of its work in a job and killed there (tests/places.h): nothing may be lost, and nothing done twice but the one
 * item that it held.  An item of the job waits on a flag in shared memory: there its way begins.  Skipped where the system does not allow
 * ptrace, and on other processors than x86-64.
 *
 * Four stretches: the end of an item, its commit, the next claims and bodies, stealing (two workers, the other waits in an item); the
 * move of the head to the next round (one worker, tuned chunks); the job's end; and that behind a death, where the words are scanned. */
#include "tests/places.h"

struct stretch {
    const char *name;
    unsigned workers;
    size_t count, chunk;
    size_t at[2];     /* items that wait; whoever waits at the first is stepped from there */
    unsigned most;    /* instructions; 0: until it sleeps */
    bool after_death; /* the waiting item's worker is killed once before */
};

/* ---- The job ---- */

struct hold {
    _Atomic uint32_t pid[2]; /* who waits at at[0], at[1] */
    _Atomic uint32_t go[2];
    _Atomic uint32_t die;    /* whoever comes to at[0] now dies */
    size_t at[2];
    struct plan plan;        /* ends with the counters */
};

static int held_item(pmap_task *task, const void *item, void *result)
{
    struct hold *h = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    atomic_fetch_add(&h->plan.runs[i], 1);
    for (unsigned k = 0; k < 2; k++)
        if (i == h->at[k] && !atomic_load(&h->go[k])) {
            if (k == 0 && atomic_exchange(&h->die, 0)) raise(SIGKILL);
            atomic_store(&h->pid[k], (uint32_t)getpid());
            while (!atomic_load(&h->go[k])) {
                struct timespec t = {.tv_nsec = 100000};
                if (k) nanosleep(&t, NULL); /* it must not take the CPU from the one that is stepped */
            }
        }
    uint64_t in;
    memcpy(&in, item, sizeof in);
    in = right(in);
    memcpy(result, &in, sizeof in);
    return 0;
}

struct job {
    pmap_pool *pool;
    struct hold *hold;
    const struct stretch *s;
    uint64_t *in, *out;
    int error;
    atomic_bool done;
};

static void *run_job(void *arg)
{
    struct job *j = arg;
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = j->hold;
    o.chunk = j->s->chunk;
    j->error = pmap_map(j->pool, held_item, j->in, j->s->count, 8, j->out, 8, &o);
    atomic_store(&j->done, true);
    return NULL;
}

static bool job_is_done(void *arg) { return atomic_load(&((struct job *)arg)->done); }

static bool all_wait(void *arg)
{
    struct job *j = arg;
    return atomic_load(&j->hold->pid[0]) && (j->s->workers == 1 || atomic_load(&j->hold->pid[1]));
}

static void check(const struct way *w, const struct job *j)
{
    size_t again = 0;
    if (j->error) fail_msg("%s: killed behind %u instructions: %d %s", w->name, w->made, j->error, pmap_error());
    for (size_t i = 0; i < j->s->count; i++) {
        unsigned runs = atomic_load(&j->hold->plan.runs[i]), first = j->s->after_death && i == j->s->at[0];
        if (j->out[i] != right(j->in[i])) fail_msg("%s: killed behind %u instructions: item %zu is wrong", w->name, w->made, i);
        if (runs < 1 + first || runs > 2 + first) fail_msg("%s: killed behind %u instructions: item %zu ran %u times", w->name, w->made, i, runs);
        again += runs - 1 - first;
    }
    if (again > 1) fail_msg("%s: killed behind %u instructions: %zu items ran twice, expected the one it held", w->name, w->made, again);
}

/* One job, one of whose workers is killed. */
static void one_job(struct way *w)
{
    struct job *j = w->arg;
    struct hold *h = j->hold;
    memset(h, 0, sizeof *h + j->s->count * sizeof(uint32_t));
    memset(j->out, 0, j->s->count * 8);
    memcpy(h->at, j->s->at, sizeof h->at);
    atomic_store(&h->die, j->s->after_death);
    atomic_store(&j->done, false);
    ticks(0); /* blocked here, and so in the thread */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_job, j), 0);
    if (!pm_test_wait_until(all_wait, j, 10000)) fail_msg("%s: the items that wait were not met within 10 s", w->name);
    walk_and_kill(w, (pid_t)atomic_load(&h->pid[0]), &h->go[0]);
    atomic_store(&h->go[0], 1);
    atomic_store(&h->go[1], 1);
    if (!pm_test_wait_until(job_is_done, j, 10000)) fail_msg("%s: killed behind %u instructions: the job does not end", w->name, w->made);
    pthread_join(thread, NULL);
    check(w, j);
}

static void every_instruction(const struct pm_path *path, const struct stretch *s)
{
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* what is stepped through must be the code that is shipped: a sanitizer's checks are most of its own */
#endif
    if (!may_trace()) skip();
    struct job j = {.s = s};
    pmap_options o = pm_path_options(path, s->workers);
    o.spin_us = -1; /* to be stepped through spinning would be long */
    EXPECT(pmap_pool_open(&j.pool, &o), 0);
    j.hold = pmap_alloc(j.pool, sizeof *j.hold + s->count * sizeof(uint32_t));
    j.in = pm_path_alloc(path, j.pool, s->count * 8);
    j.out = pm_path_alloc(path, j.pool, s->count * 8);
    assert_non_null(j.hold);
    for (size_t i = 0; i < s->count; i++) j.in[i] = input_of(i);
    static struct way w;
    w = (struct way){.name = s->name, .round = one_job, .arg = &j, .most = s->most, .budget_s = 6.0};
    kill_at_every_place(&w);
    pm_path_free(path, j.pool, j.in);
    pm_path_free(path, j.pool, j.out);
    pmap_free(j.pool, j.hold);
    check_orderly(j.pool, path, s->name);
    check_close(j.pool, path, s->name);
}

/* Ranges [0, 3) and [3, 6): 0 waits and is stepped over its commit, 1 and 2 and what it can steal of 4 and 5, while 3 waits. */
static void commit_claim_steal(const struct pm_path *path)
{
    static const struct stretch s = {.name = "commit, claim, body, steal", .workers = 2, .count = 6, .chunk = 1, .at = {0, 3}};
    every_instruction(path, &s);
}

/* One worker, 300 items: the first round is 16 of one item; behind the last of these the head moves to the next. */
static void next_round(const struct pm_path *path)
{
    static const struct stretch s = {.name = "next round", .workers = 1, .count = 300, .chunk = 0, .at = {15, 999}, .most = 3000};
    every_instruction(path, &s);
}

static void end_of_the_job(const struct pm_path *path)
{
    static const struct stretch s = {.name = "end of the job", .workers = 1, .count = 300, .chunk = 0, .at = {299, 999}};
    every_instruction(path, &s);
}

static void end_after_a_death(const struct pm_path *path)
{
    static const struct stretch s = {.name = "scan and end after a death", .workers = 1, .count = 4, .chunk = 1, .at = {2, 999}, .after_death = true};
    every_instruction(path, &s);
}

int main(void)
{
    no_core();
    static const struct pm_path_test tests[] = {
        {"commit claim steal", commit_claim_steal, PM_ON_SHM},
        {"next round", next_round, PM_ON_SHM},
        {"end of the job", end_of_the_job, PM_ON_SHM},
        {"end after a death", end_after_a_death, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("step", tests);
}

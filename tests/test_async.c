/* Maps as futures: what they return is what pmap_map() does, on every executor and channel; several at once, mixed with tasks in every
 * kind of wait; closed, terminated and forked over. */
#include "tests/stream.h"

#include <pthread.h>
#include <sys/wait.h>

struct job {
    pmap_pool *pool;
    const struct pm_path *path;
    uint64_t *in, *out;
    size_t n;
    pmap_future *future;
};

static int item_of(pmap_task *task, const void *item, void *result)
{
    uint64_t in, out;
    memcpy(&in, item, 8);
    out = right(in);
    memcpy(result, &out, 8);
    return pmap_task_arg(task) && *(uint64_t *)pmap_task_arg(task) != 4711 ? 9 : 0;
}

/* Items 5, 15, ... fail with their index. */
static int some_fail(pmap_task *task, const void *item, void *result)
{
    size_t i = pmap_task_index(task);
    if (i % 10 != 5) return item_of(task, item, result);
    pmap_task_error(task, "item %zu has words", i);
    return (int)i;
}

static int held_item(pmap_task *task, const void *item, void *result)
{
    struct hold *h = pmap_task_arg(task);
    uint64_t in, out;
    if (pmap_task_index(task) == 0) {
        atomic_fetch_add(&h->begun, 1);
        PM_HOLD(task, &h->go);
    }
    memcpy(&in, item, 8);
    out = right(in);
    memcpy(result, &out, 8);
    return 0;
}

static struct job job_new(const struct pm_path *path, pmap_pool *pool, size_t n)
{
    struct job j = {pool, path, pm_path_alloc(path, pool, n * 8), pm_path_alloc(path, pool, n * 8), n, NULL};
    for (size_t i = 0; i < n; i++) j.in[i] = input_of(i);
    memset(j.out, 0, n * 8);
    return j;
}

static void job_start(struct job *j, pmap_item_fn *function, const pmap_map_options *o)
{
    EXPECT(pmap_map_async(j->pool, function, j->in, j->n, 8, j->out, 8, o, &j->future), 0);
    assert_non_null(j->future);
}

static void job_right(const struct job *j)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->out[i] != right(input_of(i))) fail_msg("item %zu is wrong", i);
}

static void job_free(struct job *j)
{
    pm_path_free(j->path, j->pool, j->in);
    pm_path_free(j->path, j->pool, j->out);
}

/* ---- Results ---- */

static void counts(const struct pm_path *path)
{
    static const size_t n[] = {0, 1, 40, 30000};
    pmap_pool *pool = pm_path_open(path, 2);
    for (size_t k = 0; k < sizeof n / sizeof n[0]; k++) {
        struct job j = job_new(path, pool, n[k]);
        pmap_stats_t stats = {.size = sizeof stats};
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        uint64_t arg = 4711;
        const void *result = &j;
        size_t bytes = 1;
        o.stats = &stats;
        o.arg = &arg;
        o.arg_size = sizeof arg;
        job_start(&j, item_of, &o);
        arg = 0; /* it has its own copy, and of the options too */
        o = (pmap_map_options){0};
        for (int twice = 0; twice < 2; twice++) {
            EXPECT(pmap_future_get(j.future, -1, &result, &bytes), 0);
            assert_int_equal(bytes, 0); /* `out` has it all */
            assert_int_equal(pmap_future_done(j.future), 1);
        }
        job_right(&j);
        assert_null(pmap_future_failure(j.future));
        assert_int_equal(stats.items, n[k]);
        pmap_future_free(j.future);
        job_free(&j);
    }
    pm_path_close(pool);
}

static void in_place(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct job j = job_new(path, pool, 1000);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.once = 1;
    EXPECT(pmap_map_async(pool, item_of, j.in, j.n, 8, j.in, 8, &o, &j.future), 0);
    EXPECT(pmap_future_get(j.future, -1, NULL, NULL), 0);
    memcpy(j.out, j.in, j.n * 8);
    job_right(&j);
    pmap_future_free(j.future);
    job_free(&j);
    pm_path_close(pool);
}

/* ---- Failures ---- */

static void check_list(pmap_pool *pool, size_t items)
{
    size_t n;
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_int_equal(n, items / 10);
    for (size_t k = 0; k < n; k++) {
        char words[40];
        (void)snprintf(words, sizeof words, "item %zu has words", f[k].item);
        if (f[k].item != 10 * k + 5 || f[k].value != (int)f[k].item || f[k].cause != PMAP_CAUSE_CODE || !strstr(f[k].text, words))
            fail_msg("failure %zu: item %zu, value %d: %s", k, f[k].item, f[k].value, f[k].text);
    }
}

static void *get_elsewhere(void *arg)
{
    struct job *j = arg;
    size_t n;
    if (pmap_failures(j->pool, &n) || n) return "a thread that has done nothing has failures";
    if (pmap_future_get(j->future, -1, NULL, NULL) != PMAP_EITEMS) return "pmap_future_get";
    if (!strstr(pmap_error(), "5 has words")) return "pmap_error";
    if (!pmap_failures(j->pool, &n) || n != j->n / 10) return "the list";
    return NULL;
}

static void failures(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct job a = job_new(path, pool, 200), b = job_new(path, pool, 50), good = job_new(path, pool, 30);
    pthread_t thread;
    void *wrong;
    job_start(&a, some_fail, NULL);
    job_start(&b, some_fail, NULL);
    job_start(&good, item_of, NULL);
    EXPECT(pmap_future_get(a.future, -1, NULL, NULL), PMAP_EITEMS);
    check_list(pool, 200); /* in the thread that has asked, of the one that it asked for */
    for (int twice = 0; twice < 2; twice++) {
        EXPECT(pmap_future_get(b.future, -1, NULL, NULL), PMAP_EITEMS);
        EXPECT_TEXT("pmap_map_async: 5 failures, the first: item 5:");
        check_list(pool, 50);
        EXPECT(pmap_future_get(a.future, 0, NULL, NULL), PMAP_EITEMS);
        check_list(pool, 200);
    }
    assert_int_equal(pthread_create(&thread, NULL, get_elsewhere, &a), 0); /* and there too */
    assert_int_equal(pthread_join(thread, &wrong), 0);
    if (wrong) fail_msg("%s", (const char *)wrong);
    check_list(pool, 200);
    const pmap_failure *f = pmap_future_failure(a.future);
    assert_true(f && f->item == 5 && f->value == 5 && f->cause == PMAP_CAUSE_CODE && strstr(f->text, "item 5 has words"));
    for (size_t i = 0; i < a.n; i++)
        if (i % 10 != 5) assert_int_equal(a.out[i], right(input_of(i)));
    EXPECT(pmap_future_get(good.future, -1, NULL, NULL), 0);
    assert_null(pmap_failures(pool, NULL));
    pmap_future_free(a.future);
    pmap_future_free(b.future);
    pmap_future_free(good.future);
    job_free(&a);
    job_free(&b);
    job_free(&good);
    pm_path_close(pool);
}

static int dies(pmap_task *task, const void *item, void *result)
{
    if (pmap_task_index(task) == 77) raise(SIGSEGV);
    return item_of(task, item, result);
}

static void a_death(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct job j = job_new(path, pool, 300);
    size_t n;
    job_start(&j, dies, NULL);
    EXPECT(pmap_future_get(j.future, -1, NULL, NULL), PMAP_EITEMS);
    const pmap_failure *f = pmap_failures(pool, &n);
    assert_true(n == 1 && f->item == 77 && f->cause == PMAP_CAUSE_SIGNAL && f->value == SIGSEGV && f->attempts == 3);
    j.out[77] = right(input_of(77));
    job_right(&j);
    pmap_future_free(j.future);
    job_free(&j);
    pm_path_close(pool);
}

/* ---- Several ---- */

static void several_at_once(const struct pm_path *path)
{
    enum { N = 40 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct job j[N];
    pmap_future *list[N], *one;
    pmap_completed *completed;
    size_t handed = 0;
    for (int k = 0; k < N; k++) {
        j[k] = job_new(path, pool, 100);
        job_start(&j[k], k % 4 ? item_of : some_fail, NULL);
        list[k] = j[k].future;
        assert_true(k == 0 || pmap_future_index(list[k]) > pmap_future_index(list[k - 1]));
    }
    EXPECT(pmap_wait(list, N, PMAP_ANY, 30), 0);
    EXPECT(pmap_wait(list, N, PMAP_FIRST_ERROR, 30), 0);
    EXPECT(pmap_as_completed(list, N, &completed), 0);
    for (; pmap_completed_next(completed, 30, &one) == 0 && one; handed++) {
        int k = 0;
        while (list[k] != one) k++;
        EXPECT(pmap_future_get(one, 0, NULL, NULL), k % 4 ? 0 : PMAP_EITEMS);
        if (k % 4) job_right(&j[k]);
        else check_list(pool, 100);
    }
    assert_int_equal(handed, N);
    pmap_completed_free(completed);
    for (int k = 0; k < N; k++) {
        pmap_future_free(list[k]);
        job_free(&j[k]);
    }
    pm_path_close(pool);
}

static void count_done(pmap_future *future, void *arg)
{
    const void *result;
    size_t bytes;
    if (pmap_future_get(future, 0, &result, &bytes) == 0 && number_in(result, bytes) == right(7)) ++*(int *)arg;
}

/* Maps and tasks in one wait, one list, one poll. */
static void mixed(const struct pm_path *path)
{
    enum { N = 12 };
    pmap_pool *pool = pm_path_open(path, 2);
    struct job j[N];
    pmap_future *list[2 * N], *one;
    pmap_completed *completed;
    pmap_submit_options o = PMAP_SUBMIT_OPTIONS_INIT;
    uint64_t seven = 7;
    int called = 0, polled = 0;
    size_t handed = 0;
    o.done = count_done;
    o.done_arg = &called;
    for (size_t k = 0; k < N; k++) {
        j[k] = job_new(path, pool, 64);
        job_start(&j[k], item_of, NULL);
        list[2 * k] = j[k].future;
        EXPECT(pmap_submit(pool, compute, &seven, sizeof seven, k % 2 ? &o : NULL, &list[2 * k + 1]), 0);
    }
    EXPECT(pmap_as_completed(list, 2 * N, &completed), 0);
    for (; handed < N && pmap_completed_next(completed, 30, &one) == 0 && one; handed++) EXPECT(pmap_future_get(one, 0, NULL, NULL), 0);
    EXPECT(pmap_wait(list, 2 * N, PMAP_ALL, 30), 0);
    while (pmap_completed_next(completed, 0, &one) == 0 && one) handed++;
    assert_int_equal(handed, 2 * N);
    pmap_completed_free(completed);
    while (called < N / 2) {
        int n = pmap_pool_poll(pool, 30);
        assert_true(n > 0);
        polled += n;
    }
    assert_int_equal(polled, N / 2); /* maps have no callback */
    assert_int_equal(pmap_pool_poll(pool, -1), 0);
    for (size_t k = 0; k < N; k++) {
        job_right(&j[k]);
        pmap_future_free(list[2 * k]);
        pmap_future_free(list[2 * k + 1]);
        job_free(&j[k]);
    }
    pm_path_close(pool);
}

/* The descriptor becomes readable when a map ends, as it does for tasks. */
static void descriptor(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct pollfd fd = {pmap_pool_fd(pool), POLLIN, 0};
    assert_true(fd.fd >= 0);
    for (int round = 0; round < 20; round++) {
        struct job j = job_new(path, pool, 100);
        job_start(&j, item_of, NULL);
        if (poll(&fd, 1, 10000) != 1) fail_msg("not readable after 10 s, round %d", round);
        EXPECT(pmap_future_get(j.future, 10, NULL, NULL), 0);
        assert_int_equal(pmap_pool_poll(pool, 0), 0);
        job_right(&j);
        pmap_future_free(j.future);
        job_free(&j);
    }
    pm_path_close(pool);
}

/* ---- Waiting ---- */

static struct job start_held(const struct pm_path *path, pmap_pool *pool, struct hold *h)
{
    struct job j = job_new(path, pool, 50);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = h;
    job_start(&j, held_item, &o);
    assert_true(pm_test_wait_until(flag_is_set, &h->begun, 10000));
    return j;
}

static void wait_and_look(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct hold *h = hold_new(pool, 0, 1);
    struct job j = start_held(path, pool, h);
    assert_int_equal(pmap_future_done(j.future), 0);
    EXPECT(pmap_future_get(j.future, 0, NULL, NULL), PMAP_ETIMEDOUT);
    EXPECT(pmap_future_get(j.future, 0.005, NULL, NULL), PMAP_ETIMEDOUT);
    EXPECT(pmap_wait(&j.future, 1, PMAP_ALL, 0.005), PMAP_ETIMEDOUT);
    pmap_completed *completed;
    pmap_future *one;
    EXPECT(pmap_as_completed(&j.future, 1, &completed), 0);
    EXPECT(pmap_completed_next(completed, 0, &one), PMAP_ETIMEDOUT);
    EXPECT(pmap_completed_next(completed, 0.005, &one), PMAP_ETIMEDOUT);
    assert_null(one);
    assert_int_equal(pmap_future_cancel(j.future), 0); /* it cannot be */
    EXPECT(pmap_future_kill(j.future), PMAP_ENOTSUP);
    EXPECT_TEXT("a whole map cannot be ended");
    assert_null(pmap_future_failure(j.future));
    atomic_store(&h->go, 1);
    EXPECT(pmap_completed_next(completed, 20, &one), 0);
    assert_ptr_equal(one, j.future);
    pmap_completed_free(completed);
    EXPECT(pmap_future_get(j.future, -1, NULL, NULL), 0);
    EXPECT(pmap_future_kill(j.future), 0);
    job_right(&j);
    pmap_future_free(j.future);
    job_free(&j);
    pmap_free(pool, h);
    pm_path_close(pool);
}

static size_t mappings(void)
{
    size_t n = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    for (int c; file && (c = getc(file)) != EOF;) n += c == '\n';
    if (file) fclose(file);
    return n;
}

/* Given back while it runs: it goes on, and nobody hears of it. */
static void give_back_early(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct hold *h = hold_new(pool, 0, 1);
    struct job j = start_held(path, pool, h);
    pmap_future_free(j.future);
    struct job k = job_new(path, pool, 100);
    for (int i = 0; i < 100; i++) { /* some have finished by then, some have not begun */
        EXPECT(pmap_map_async(pool, item_of, k.in, k.n, 8, k.out, 8, NULL, &k.future), 0);
        pmap_future_free(k.future);
    }
    atomic_store(&h->go, 1);
    pm_path_close(pool); /* waits for all of them */
    if (path->in_arena) return;
    job_right(&j);
    job_right(&k);
    free(j.in), free(j.out), free(k.in), free(k.out);
}

static bool few_mappings(void *before) { return mappings() < *(size_t *)before + 60; }

/* Their threads are not left behind: what there is after the first time, stacks that are kept for reuse among it, is there after the second. */
static void given_back_early(const struct pm_path *path)
{
    give_back_early(path);
    size_t before = mappings();
    give_back_early(path);
    if (!pm_test_wait_until(few_mappings, &before, 5000)) fail_msg("%zu mappings before, %zu behind: stacks of threads are left", before, mappings());
}

/* ---- The end of the pool ---- */

static void close_finishes_it(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct job j = {pool, path, malloc(50000 * 8), malloc(50000 * 8), 50000, NULL}; /* not the pool's: looked at behind its end */
    assert_true(j.in && j.out);
    for (size_t i = 0; i < j.n; i++) j.in[i] = input_of(i);
    job_start(&j, item_of, NULL);
    pm_path_close(pool);
    job_right(&j);
    free(j.in);
    free(j.out);
}

struct getter {
    pmap_future *future;
    _Atomic pid_t tid;
};

static void *get_it(void *arg)
{
    struct getter *g = arg;
    atomic_store(&g->tid, (pid_t)syscall(SYS_gettid));
    return (void *)(intptr_t)pmap_future_get(g->future, -1, NULL, NULL);
}

/* Futures end with their pool: who asks for one then must be in the call by now. */
static bool is_waiting(void *arg)
{
    struct getter *g = arg;
    pid_t tid = atomic_load(&g->tid);
    return tid && pm_test_is_asleep(&tid);
}

static void terminate_ends_it(const struct pm_path *path)
{
    for (int waiting = 0; waiting < 2; waiting++) {
        pmap_pool *pool = pm_path_open(path, 2);
        struct hold *h = hold_new(pool, 0, 1);
        struct job j = start_held(path, pool, h);
        struct getter g = {.future = j.future};
        pthread_t thread;
        void *said = NULL;
        if (waiting) {
            assert_int_equal(pthread_create(&thread, NULL, get_it, &g), 0);
            assert_true(pm_test_wait_until(is_waiting, &g, 10000));
        }
        double begin_s = seconds();
        EXPECT(pmap_pool_terminate(pool, 0), 0);
        assert_true(seconds() - begin_s < 10);
        if (waiting) assert_int_equal(pthread_join(thread, &said), 0);
        if (waiting && (intptr_t)said != PMAP_ECANCELLED) fail_msg("pmap_future_get: %d", (int)(intptr_t)said);
        if (!path->in_arena) {
            free(j.in);
            free(j.out);
        }
    }
}

/* ---- A fork of the application meanwhile ---- */

static int fork_meanwhile(void *arg)
{
    const struct pm_path *path = arg;
    pmap_options po = pm_path_options(path, 2);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    pmap_pool *pool;
    static uint64_t in[50], out[50];
    pmap_future *f;
    int status = -1;
    if (pmap_pool_open(&pool, &po)) return 90;
    struct hold *h = pmap_alloc(pool, sizeof *h);
    if (!h) return 91;
    memset(h, 0, sizeof *h);
    o.arg = h;
    for (size_t i = 0; i < 50; i++) in[i] = input_of(i);
    if (pmap_map_async(pool, held_item, in, 50, 8, out, 8, &o, &f)) return 92;
    if (!pm_test_wait_until(flag_is_set, &h->begun, 10000)) return 93;
    pid_t pid = fork();
    if (pid == 0) {
        if (pmap_future_get(f, 0, NULL, NULL) != PMAP_EFORK || pmap_future_done(f) != PMAP_EFORK) _exit(1);
        if (pmap_map_async(pool, item_of, in, 50, 8, out, 8, NULL, &f) != PMAP_EFORK) _exit(2);
        if (pmap_pool_close(pool)) _exit(3);
        if (pmap_pool_open(&pool, &po) || pmap_map_async(pool, item_of, in, 50, 8, out, 8, NULL, &f)) _exit(4);
        if (pmap_future_get(f, 20, NULL, NULL) || out[3] != right(input_of(3)) || pmap_pool_close(pool)) _exit(5);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (status) return 94;
    atomic_store(&h->go, 1);
    if (pmap_future_get(f, 20, NULL, NULL)) return 95;
    for (size_t i = 0; i < 50; i++)
        if (out[i] != right(input_of(i))) return 96;
    return pmap_pool_close(pool) ? 97 : 0;
}

static void a_fork_meanwhile(const struct pm_path *path)
{
    struct pm_path copy = *path;
    int status = pm_test_run_child(fork_meanwhile, &copy, 30000);
    if (status) fail_msg("%s: wait status %#x", path->name, (unsigned)status);
}

/* ---- Refused ---- */

static void refused(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    uint64_t in[8] = {0}, out[8];
    pmap_future *f = (pmap_future *)in;
    pmap_map_options good = PMAP_MAP_OPTIONS_INIT, o = good;
    EXPECT(pmap_map_async(pool, item_of, in, 8, 8, out, 8, NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_map_async(NULL, item_of, in, 8, 8, out, 8, NULL, &f), PMAP_EINVAL);
    assert_null(f);
    EXPECT(pmap_map_async(pool, NULL, in, 8, 8, out, 8, NULL, &f), PMAP_EINVAL);
    EXPECT(pmap_map_async(pool, item_of, NULL, 8, 8, out, 8, NULL, &f), PMAP_EINVAL);
    EXPECT(pmap_map_async(pool, item_of, in, SIZE_MAX, 8, out, 8, NULL, &f), PMAP_EOVERFLOW);
    EXPECT(pmap_map_async(pool, item_of, in, 4, 8, in + 1, 8, NULL, &f), PMAP_EOVERLAP);
    o.retries = 31;
    EXPECT(pmap_map_async(pool, item_of, in, 8, 8, out, 8, &o, &f), PMAP_EINVAL);
    o = good, o.timeout_s = 1;
    if (path->executor != PMAP_PROCESSES) EXPECT(pmap_map_async(pool, item_of, in, 8, 8, out, 8, &o, &f), PMAP_ENOTSUP);
    assert_null(f);
    pm_path_close(pool);
}

#define ON_TASKS (PM_ON_THREADS | PM_ON_SHM | PM_ON_SERIAL)

static const struct pm_path_test tests[] = {
    {"counts", counts, PM_ON_ALL},
    {"in place", in_place, PM_ON_ALL},
    {"failures", failures, PM_ON_ALL},
    {"a death", a_death, PM_ON_PROCESSES},
    {"several at once", several_at_once, PM_ON_ALL},
    {"mixed", mixed, ON_TASKS},
    {"descriptor", descriptor, PM_ON_ALL},
    {"wait and look", wait_and_look, PM_ON_ALL},
    {"given back early", given_back_early, PM_ON_ALL},
    {"close finishes it", close_finishes_it, PM_ON_ALL},
    {"terminate ends it", terminate_ends_it, PM_ON_ALL},
    {"a fork meanwhile", a_fork_meanwhile, PM_ON_PROCESSES},
    {"refused", refused, PM_ON_ALL},
};

int main(void)
{
    no_core();
    return PM_PATHS_MAIN("async", tests);
}

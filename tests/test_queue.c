/* The queue: order, wrap, sizes, waits, close and tasks; between forked processes, threads, and workers of a pool
 * that ran before the queue was opened.  test_queue_deaths.c has the deaths. */
#include "tests/queue.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_PRODUCERS 4u
#define MOST_EACH 4000u
#define MOST_BYTES 2000u

/* ---- Messages that tell what they are ---- */

struct message {
    uint32_t producer, number, bytes;
    unsigned char rest[MOST_BYTES];
};
#define HEAD offsetof(struct message, rest)

static size_t make(struct message *m, uint32_t producer, uint32_t number)
{
    uint32_t rest = (number * 7919u + producer * 31u) % (MOST_BYTES - 1u);
    if (number % 5 == 0) rest = number % 10 ? MOST_BYTES : 0;
    m->producer = producer;
    m->number = number;
    m->bytes = rest;
    memset(m->rest, (int)(number + producer), rest);
    return HEAD + rest;
}

static bool is_whole(const struct message *m, size_t bytes)
{
    if (bytes < HEAD || bytes != HEAD + m->bytes || m->producer >= MOST_PRODUCERS || m->number >= MOST_EACH)
        return false;
    for (uint32_t i = 0; i < m->bytes; i++)
        if (m->rest[i] != (unsigned char)(m->number + m->producer)) return false;
    return true;
}

/* ---- A party: producers and consumers, each a process, a thread or a worker ---- */

struct party {
    pmap_queue *queue;
    unsigned producers, consumers, each;
    bool in_place;                    /* reserve and commit, peek and release */
    _Atomic uint32_t role, finished, bad, disorder;
    _Atomic int error;
    _Atomic uint8_t got[MOST_PRODUCERS][MOST_EACH];
};

static int put_one(struct party *p, uint32_t producer, uint32_t number)
{
    struct message m;
    size_t bytes = make(&m, producer, number);
    if (!p->in_place) return pmap_queue_put(p->queue, &m, bytes, 60);
    void *place;
    int e = pmap_queue_reserve(p->queue, sizeof m, &place, 60);
    if (e) return e;
    if (number % 3 == 0) { /* thought better of it */
        memset(place, 0xee, sizeof m);
        e = pmap_queue_cancel(p->queue, place);
        if (!e) e = pmap_queue_reserve(p->queue, sizeof m, &place, 60);
        if (e) return e;
    }
    memcpy(place, &m, bytes);
    return pmap_queue_commit(p->queue, place, bytes);
}

static int get_one(struct party *p, struct message *m, size_t *bytes)
{
    if (!p->in_place) return pmap_queue_get(p->queue, m, sizeof *m, bytes, 60);
    void *place;
    int e = pmap_queue_peek(p->queue, &place, bytes, 60);
    if (e) return e;
    memcpy(m, place, *bytes);
    return pmap_queue_release(p->queue, place);
}

static void fail_party(struct party *p, int e)
{
    int none = 0;
    (void)atomic_compare_exchange_strong(&p->error, &none, e);
    (void)pmap_queue_close(p->queue);
}

static void produce(struct party *p, uint32_t producer)
{
    for (uint32_t i = 0; i < p->each; i++) {
        int e = put_one(p, producer, i);
        if (e) fail_party(p, e);
        if (e) break;
    }
    if (atomic_fetch_add(&p->finished, 1) + 1 == p->producers) (void)pmap_queue_close(p->queue);
}

static void consume(struct party *p)
{
    struct message m;
    uint32_t next[MOST_PRODUCERS] = {0};
    size_t bytes;
    int e;
    while ((e = get_one(p, &m, &bytes)) == 0) {
        if (!is_whole(&m, bytes)) {
            atomic_fetch_add(&p->bad, 1);
            continue;
        }
        if (m.number < next[m.producer]) atomic_fetch_add(&p->disorder, 1);
        if (p->consumers == 1 && m.number != next[m.producer]) atomic_fetch_add(&p->disorder, 1);
        next[m.producer] = m.number + 1;
        atomic_fetch_add(&p->got[m.producer][m.number], 1);
        if ((e = pmap_queue_task_done(p->queue))) break;
    }
    if (e != PMAP_ECLOSED) fail_party(p, e);
}

static void take_part(struct party *p)
{
    unsigned role = atomic_fetch_add(&p->role, 1);
    if (role < p->producers) produce(p, role);
    else consume(p);
}

static void *thread_takes_part(void *arg)
{
    take_part(arg);
    return NULL;
}

static int worker_takes_part(pmap_task *task, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++) take_part(pmap_task_arg(task));
    return 0;
}

enum kind { FORKED, THREADS, WORKERS };

static void run_party(struct party *p, enum kind kind, pmap_pool *pool)
{
    unsigned n = p->producers + p->consumers;
    pthread_t thread[16];
    pid_t pid[16];
    if (kind == WORKERS) {
        pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
        o.arg = p;
        o.chunk = 1;
        EXPECT(pmap_for(pool, worker_takes_part, 0, n, &o), 0);
    }
    for (unsigned i = 0; i < n && kind == THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, thread_takes_part, p), 0);
    for (unsigned i = 0; i < n && kind == FORKED; i++)
        if ((pid[i] = fork()) == 0) {
            take_part(p);
            _exit(0);
        }
    for (unsigned i = 0; i < n && kind == FORKED; i++) {
        int status = -1;
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    for (unsigned i = 0; i < n && kind == THREADS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    EXPECT(atomic_load(&p->error), 0);
    assert_int_equal(atomic_load(&p->bad), 0);
    assert_int_equal(atomic_load(&p->disorder), 0);
    for (unsigned k = 0; k < p->producers; k++)
        for (unsigned i = 0; i < p->each; i++)
            if (atomic_load(&p->got[k][i]) != 1)
                fail_msg("message %u of producer %u was got %u times", i, k, atomic_load(&p->got[k][i]));
    EXPECT(pmap_queue_join(p->queue, 0), 0);
}

static void parties(enum kind kind, pmap_pool *pool)
{
    static const struct { unsigned producers, consumers, items, each; bool in_place; } shapes[] = {
        {1, 1, 1, 500, false}, {1, 1, 2, 500, true}, {1, 1, 7, 2000, false}, {2, 1, 3, 1000, false},
        {1, 3, 5, 2000, false}, {3, 3, 4, 1000, true}, {4, 2, 64, 4000, false}, {4, 3, 1, 100, false},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct party *p = pool ? pmap_alloc(pool, sizeof *p) : shared_new(sizeof *p);
        assert_non_null(p);
        memset(p, 0, sizeof *p);
        p->queue = open_queue(shapes[s].items, sizeof(struct message), pool);
        p->producers = shapes[s].producers;
        p->consumers = shapes[s].consumers;
        p->each = shapes[s].each / FEWER;
        p->in_place = shapes[s].in_place;
        run_party(p, kind, pool);
        EXPECT(pmap_queue_free(p->queue), 0);
        if (pool) pmap_free(pool, p);
        else munmap(p, sizeof *p);
    }
}

static void in_processes(const struct pm_path *path)
{
    (void)path;
#ifdef THREADS_ONLY
    skip();
#endif
    parties(FORKED, NULL);
}

static void in_threads(const struct pm_path *path)
{
    (void)path;
    parties(THREADS, NULL);
}

/* The workers run before the queue is opened. */
static void in_workers(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 7);
    parties(WORKERS, pool);
    pm_path_close(pool);
}

/* ---- One thread ---- */

static void sizes(const struct pm_path *path)
{
    (void)path;
    enum { MOST = 1000 };
    unsigned char in[MOST + 1], out[MOST + 1];
    size_t n = 99;
    pmap_queue *q = open_queue(3, MOST, NULL);
    for (size_t bytes = 0; bytes <= MOST; bytes++) {
        memset(in, (int)bytes, sizeof in);
        memset(out, 0xff, sizeof out);
        EXPECT(pmap_queue_put(q, bytes ? in : NULL, bytes, 0), 0);
        assert_int_equal(pmap_queue_count(q), 1);
        EXPECT(pmap_queue_get(q, out, bytes, &n, 0), 0); /* room for exactly that */
        assert_int_equal(n, bytes);
        assert_memory_equal(out, in, bytes);
    }
    EXPECT(pmap_queue_put(q, in, MOST + 1, 0), PMAP_ETOOBIG);
    EXPECT_TEXT("1001");
    EXPECT_TEXT("1000");
    /* A message that does not fit stays, and stays the next. */
    EXPECT(pmap_queue_put(q, in, 10, 0), 0);
    EXPECT(pmap_queue_put(q, in, 5, 0), 0);
    EXPECT(pmap_queue_get(q, out, 9, &n, 0), PMAP_ETOOBIG);
    assert_int_equal(n, 10);
    assert_int_equal(pmap_queue_count(q), 2);
    EXPECT(pmap_queue_get(q, out, 10, &n, 0), 0);
    assert_int_equal(n, 10);
    EXPECT(pmap_queue_get(q, NULL, 0, &n, 0), PMAP_ETOOBIG);
    EXPECT(pmap_queue_get(q, out, sizeof out, NULL, 0), 0);
    EXPECT(pmap_queue_free(q), 0);
}

static void refused(const struct pm_path *path)
{
    (void)path;
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    pmap_queue *q = open_queue(2, 8, NULL);
    char c[64] = "";
    size_t n;
    void *place, *other;
    EXPECT(pmap_queue_open(NULL, &o), PMAP_EINVAL);
    EXPECT(pmap_queue_put(NULL, c, 1, 0), PMAP_EINVAL);
    EXPECT(pmap_queue_put(q, NULL, 1, 0), PMAP_EINVAL);
    EXPECT(pmap_queue_put(q, c, 1, (double)NAN), PMAP_EINVAL);
    EXPECT(pmap_queue_get(q, NULL, 1, &n, 0), PMAP_EINVAL);
    EXPECT(pmap_queue_reserve(q, 1, NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_queue_peek(q, NULL, &n, 0), PMAP_EINVAL);
    EXPECT(pmap_queue_task_done(q), PMAP_EPERM);
    EXPECT(pmap_queue_reserve(q, 4, &place, 0), 0);
    EXPECT(pmap_queue_commit(q, place, 5), PMAP_EINVAL);
    EXPECT(pmap_queue_commit(q, (char *)place + 1, 4), PMAP_EINVAL);
    EXPECT(pmap_queue_commit(q, c, 4), PMAP_EINVAL);
    EXPECT(pmap_queue_release(q, place), PMAP_EPERM); /* reserved, not peeked */
    EXPECT(pmap_queue_commit(q, place, 3), 0);
    EXPECT(pmap_queue_commit(q, place, 3), PMAP_EPERM);
    EXPECT(pmap_queue_cancel(q, place), PMAP_EPERM);
    EXPECT(pmap_queue_peek(q, &other, &n, 0), 0);
    assert_int_equal(n, 3);
    EXPECT(pmap_queue_cancel(q, other), 0);
    EXPECT(pmap_queue_peek(q, &other, &n, 0), 0);
    EXPECT(pmap_queue_release(q, other), 0);
    EXPECT(pmap_queue_release(q, other), PMAP_EPERM);
    EXPECT(pmap_queue_task_done(q), 0);
    EXPECT(pmap_queue_task_done(q), PMAP_EPERM);
    EXPECT(pmap_queue_free(q), 0);
    EXPECT(pmap_queue_free(NULL), 0);
    assert_int_equal(pmap_queue_count(NULL), 0);
    EXPECT(pmap_queue_close(NULL), PMAP_EINVAL);
    o.items = SIZE_MAX / 2;
    EXPECT(pmap_queue_open(&q, &o), PMAP_EINVAL);
    assert_null(q);
    o.items = 1u << 20;
    o.message_bytes = SIZE_MAX / 4;
    EXPECT(pmap_queue_open(&q, &o), PMAP_EOVERFLOW);
    o.items = o.message_bytes = 0;
    o.participants = 5000;
    EXPECT(pmap_queue_open(&q, &o), PMAP_EINVAL);
    o.participants = 0;
    o.spin_us = -2;
    EXPECT(pmap_queue_open(&q, &o), PMAP_EINVAL);
    o.size = 3;
    EXPECT(pmap_queue_open(&q, &o), PMAP_EINVAL);
}

static void waits_end(const struct pm_path *path)
{
    (void)path;
    pmap_queue *q = open_queue(2, 8, NULL);
    int x = 1;
    double t = seconds();
    EXPECT(pmap_queue_get(q, &x, sizeof x, NULL, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_queue_get(q, &x, sizeof x, NULL, 0.05), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.05);
    EXPECT(pmap_queue_put(q, &x, sizeof x, 0), 0);
    EXPECT(pmap_queue_put(q, &x, sizeof x, -1), 0);
    t = seconds();
    EXPECT(pmap_queue_put(q, &x, sizeof x, 0), PMAP_ETIMEDOUT); /* back-pressure */
    EXPECT(pmap_queue_put(q, &x, sizeof x, 0.05), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.05);
    assert_true(seconds() - t < 30);
    assert_int_equal(pmap_queue_count(q), 2);
    EXPECT(pmap_queue_join(q, 0.02), PMAP_ETIMEDOUT);
    EXPECT(pmap_queue_free(q), 0);
}

static void a_window_in_bytes(const struct pm_path *path)
{
    (void)path;
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    pmap_queue *q;
    char c[1000] = "";
    void *place;
    o.items = 10;
    o.message_bytes = 1000;
    o.bytes = 900;
    EXPECT(pmap_queue_open(&q, &o), 0);
    EXPECT(pmap_queue_put(q, c, 901, 0), PMAP_ETOOBIG);
    EXPECT(pmap_queue_put(q, c, 600, 0), 0);
    EXPECT(pmap_queue_put(q, c, 301, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_queue_put(q, c, 300, 0), 0);
    EXPECT(pmap_queue_put(q, c, 1, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_queue_put(q, c, 0, 0), 0);
    EXPECT(pmap_queue_get(q, c, sizeof c, NULL, 0), 0);
    EXPECT(pmap_queue_reserve(q, 600, &place, 0), 0);
    EXPECT(pmap_queue_put(q, c, 100, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_queue_commit(q, place, 500), 0);
    EXPECT(pmap_queue_put(q, c, 100, 0), 0);
    EXPECT(pmap_queue_free(q), 0);
}

static size_t resident(void)
{
    unsigned long size, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%lu %lu", &size, &pages) != 2) pages = 0;
    if (file) fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t mappings(void)
{
    size_t n = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    for (int c; file && (c = fgetc(file)) != EOF;) n += c == '\n';
    if (file) fclose(file);
    return n;
}

static void large_messages_cost_what_is_used(const struct pm_path *path)
{
    (void)path;
    size_t before = resident(), maps, n;
    const size_t big = (size_t)8 << 20;
    for (int i = 0; i < 2; i++) EXPECT(pmap_queue_free(open_queue(64, (size_t)1 << 30, NULL)), 0);
    maps = mappings();
    for (int i = 0; i < 200; i++) EXPECT(pmap_queue_free(open_queue(64, (size_t)1 << 30, NULL)), 0);
    assert_true(mappings() <= maps + 2);
    pmap_queue *q = open_queue(64, (size_t)1 << 30, NULL); /* 64 GiB of address space */
    for (int i = 0; i < 200; i++) {
        EXPECT(pmap_queue_put(q, "small", 6, 0), 0);
        EXPECT(pmap_queue_get(q, &(char[8]){0}, 8, &n, 0), 0);
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(THREADS_ONLY)
    assert_true(resident() < before + ((size_t)4 << 20));
#endif
    (void)before;
    char *in = malloc(big), *out = calloc(1, big);
    for (size_t i = 0; i < big; i++) in[i] = (char)(i * 7 + i / 4096);
    EXPECT(pmap_queue_put(q, in, big, 0), 0);
    EXPECT(pmap_queue_get(q, out, big, &n, 0), 0);
    assert_int_equal(n, big);
    assert_memory_equal(in, out, big);
    free(in);
    free(out);
    EXPECT(pmap_queue_free(q), 0);
}

/* ---- Those who wait ---- */

struct waiter {
    pmap_queue *queue;
    int what, result;
    _Atomic uint32_t inside, over;
    pthread_t thread;
};

static void *wait_for_it(void *arg)
{
    struct waiter *w = arg;
    char c[8] = "";
    atomic_store(&w->inside, 1);
    if (w->what == 0) w->result = pmap_queue_get(w->queue, c, sizeof c, NULL, -1);
    else w->result = w->what == 1 ? pmap_queue_put(w->queue, c, 1, -1) : pmap_queue_join(w->queue, -1);
    atomic_store(&w->over, 1);
    return NULL;
}

static bool is_inside(void *arg) { return atomic_load(&((struct waiter *)arg)->inside) != 0; }
static bool is_over(void *arg) { return atomic_load(&((struct waiter *)arg)->over) != 0; }

static void begin_waiting(struct waiter *w, pmap_queue *q, int what)
{
    memset(w, 0, sizeof *w);
    w->queue = q;
    w->what = what;
    assert_int_equal(pthread_create(&w->thread, NULL, wait_for_it, w), 0);
    assert_true(pm_test_wait_until(is_inside, w, 10000));
}

static void expect_end(struct waiter *w, int result)
{
    if (!pm_test_wait_until(is_over, w, 10000)) fail_msg("a waiter does not end");
    pthread_join(w->thread, NULL);
    assert_int_equal(w->result, result);
}

static void close_ends_waits(const struct pm_path *path)
{
    (void)path;
    struct waiter get, put;
    char c[8];
    pmap_queue *q = open_queue(2, 8, NULL);
    begin_waiting(&get, q, 0);
    EXPECT(pmap_queue_close(q), 0);
    expect_end(&get, PMAP_ECLOSED);
    EXPECT(pmap_queue_close(q), 0);
    EXPECT(pmap_queue_put(q, "x", 1, -1), PMAP_ECLOSED);
    EXPECT(pmap_queue_free(q), 0);

    q = open_queue(2, 8, NULL);
    EXPECT(pmap_queue_put(q, "a", 1, 0), 0);
    EXPECT(pmap_queue_put(q, "b", 1, 0), 0);
    begin_waiting(&put, q, 1);
    EXPECT(pmap_queue_close(q), 0);
    expect_end(&put, PMAP_ECLOSED);
    EXPECT(pmap_queue_get(q, c, 8, NULL, 0), 0);
    assert_int_equal(c[0], 'a');
    /* The last one is held: it may come back, so nobody is told that there is no more. */
    void *place;
    size_t n;
    EXPECT(pmap_queue_peek(q, &place, &n, 0), 0);
    EXPECT(pmap_queue_get(q, c, 8, NULL, 0), PMAP_ETIMEDOUT);
    begin_waiting(&get, q, 0);
    EXPECT(pmap_queue_cancel(q, place), 0);
    expect_end(&get, 0);
    EXPECT(pmap_queue_get(q, c, 8, NULL, -1), PMAP_ECLOSED);
    EXPECT(pmap_queue_free(q), 0);
}

static void join_waits_for_tasks(const struct pm_path *path)
{
    (void)path;
    struct waiter join;
    char c[8];
    pmap_queue *q = open_queue(4, 8, NULL);
    EXPECT(pmap_queue_join(q, 0), 0);
    for (int i = 0; i < 3; i++) EXPECT(pmap_queue_put(q, "x", 1, 0), 0);
    begin_waiting(&join, q, 2);
    for (int i = 0; i < 3; i++) {
        EXPECT(pmap_queue_get(q, c, 8, NULL, 0), 0);
        EXPECT(pmap_queue_join(q, 0), PMAP_ETIMEDOUT);
        assert_false(atomic_load(&join.over));
        EXPECT(pmap_queue_task_done(q), 0);
    }
    expect_end(&join, 0);
    EXPECT(pmap_queue_free(q), 0);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"sizes", sizes, PM_ON_NONE},
        {"refused", refused, PM_ON_NONE},
        {"waits end", waits_end, PM_ON_NONE},
        {"a window in bytes", a_window_in_bytes, PM_ON_NONE},
        {"large messages cost what is used", large_messages_cost_what_is_used, PM_ON_NONE},
        {"close ends waits", close_ends_waits, PM_ON_NONE},
        {"join waits for tasks", join_waits_for_tasks, PM_ON_NONE},
        {"in processes", in_processes, PM_ON_NONE},
        {"in threads", in_threads, PM_ON_NONE},
        {"in workers", in_workers, PM_ON_THREADS | PM_ON_SHM}, /* over ZeroMQ a chunk may lie behind one that waits */
    };
    return PM_PATHS_MAIN("queue", tests);
}

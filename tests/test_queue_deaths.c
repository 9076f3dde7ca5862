/* The queue when those who use it die: threads that end in the middle, processes killed behind every instruction of
 * a put and a get, a storm of kills, and a worker of a pool. */
#include "tests/queue.h"
#include "tests/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PRODUCERS 2u

/* ---- Threads that end in the middle ---- */

struct holder {
    pmap_queue *queue;
    int what, result;
    pthread_t thread;
};

static void *hold_and_end(void *arg)
{
    struct holder *w = arg;
    void *place;
    size_t n;
    char c[8];
    if (w->what == 0) w->result = pmap_queue_reserve(w->queue, 8, &place, 0);
    else if (w->what == 1) w->result = pmap_queue_peek(w->queue, &place, &n, 0);
    else w->result = pmap_queue_get(w->queue, c, 8, NULL, 0);
    return NULL;
}

static void threads_that_end(const struct pm_path *path)
{
    (void)path;
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    struct holder w;
    char c[8] = "";
    o.items = 1; /* the slot that it holds is the only one */
    o.participants = 3; /* so entries of the dead are used again */
    EXPECT(pmap_queue_open(&w.queue, &o), 0);
    for (int i = 0; i < 20; i++)
        for (w.what = 0; w.what < 3; w.what++) {
            if (w.what) EXPECT(pmap_queue_put(w.queue, &(char){(char)i}, 1, 20), 0);
            assert_int_equal(pthread_create(&w.thread, NULL, hold_and_end, &w), 0);
            pthread_join(w.thread, NULL);
            EXPECT(w.result, 0);
            if (w.what == 0) EXPECT(pmap_queue_put(w.queue, &(char){(char)i}, 1, 20), 0);
            if (w.what == 2) { /* got and never done */
                EXPECT(pmap_queue_join(w.queue, 20), PMAP_EOWNERDEAD);
                EXPECT_TEXT("1 message was got");
            } else {
                EXPECT(pmap_queue_get(w.queue, c, 8, NULL, 20), 0);
                assert_int_equal(c[0], i);
                EXPECT(pmap_queue_task_done(w.queue), 0);
            }
            EXPECT(pmap_queue_join(w.queue, 0), 0);
        }
    EXPECT(pmap_queue_free(w.queue), 0);
}

/* ---- Killed behind every instruction ---- */

struct scene {
    pmap_queue *queue;
    _Atomic uint32_t returned; /* the operation of this child has */
    unsigned round;
    char buffer[64];           /* where the child gets to */
    unsigned there, not_there;
};

static void join_in(void *arg) { (void)pmap_queue_task_done(((struct scene *)arg)->queue); }

static void put_stepped(void *arg)
{
    struct scene *s = arg;
    int e = pmap_queue_put(s->queue, "stepped", 8, 0);
    atomic_store(&s->returned, e == 0 ? 1 : 2);
}

static void check_put(void *arg, unsigned k)
{
    struct scene *s = arg;
    char c[64];
    /* The queue has one slot: is it blocked by the dead one? */
    int e = pmap_queue_get(s->queue, c, sizeof c, NULL, 0);
    bool there = e == 0;
    if (there && strcmp(c, "stepped")) fail_msg("killed behind %u instructions: the message is \"%.8s\"", k, c);
    if (!there && atomic_load(&s->returned) == 1) fail_msg("killed behind %u instructions: a message is lost", k);
    if (atomic_load(&s->returned) == 2) fail_msg("the put failed");
    if ((e = pmap_queue_put(s->queue, "mine", 5, 20)))
        fail_msg("killed behind %u instructions: a put is blocked: %d %s", k, e, pmap_error());
    if ((e = pmap_queue_get(s->queue, c, sizeof c, NULL, 20)) || strcmp(c, "mine"))
        fail_msg("killed behind %u instructions: get: %d %s", k, e, c);
    if (pmap_queue_get(s->queue, c, sizeof c, NULL, 0) != PMAP_ETIMEDOUT)
        fail_msg("killed behind %u instructions: a message is doubled", k);
    there ? s->there++ : s->not_there++;
    atomic_store(&s->returned, 0);
}

static void fill_one(void *arg)
{
    struct scene *s = arg;
    memset(s->buffer, 0, sizeof s->buffer);
    if (pmap_queue_put(s->queue, "wanted", 7, 20)) fail_msg("%s", pmap_error());
}

static void get_stepped(void *arg)
{
    struct scene *s = arg;
    int e = pmap_queue_get(s->queue, s->buffer, sizeof s->buffer, NULL, 20);
    atomic_store(&s->returned, e == 0 ? 1 : 2);
}

static void check_get(void *arg, unsigned k)
{
    struct scene *s = arg;
    char c[64] = "";
    if (atomic_load(&s->returned) == 2) fail_msg("the get failed");
    /* This put needs the only slot: it waits when the message is still there, and then, as it is tried again, is not
     * blocked. */
    int e = pmap_queue_put(s->queue, "mine", 5, 0);
    bool there = e != 0;
    if (there) {
        if ((e = pmap_queue_get(s->queue, c, sizeof c, NULL, 20)) || strcmp(c, "wanted"))
            fail_msg("killed behind %u instructions: get: %d \"%s\"", k, e, c);
        if (atomic_load(&s->returned) == 1) fail_msg("killed behind %u instructions: a message is doubled", k);
        if ((e = pmap_queue_put(s->queue, "mine", 5, 20)))
            fail_msg("killed behind %u instructions: a put is blocked: %d", k, e);
    } else if (strcmp(s->buffer, "wanted"))
        fail_msg("killed behind %u instructions: the message is neither there nor got", k);
    if ((e = pmap_queue_get(s->queue, c, sizeof c, NULL, 20)) || strcmp(c, "mine"))
        fail_msg("killed behind %u instructions: get: %d %s", k, e, c);
    e = pmap_queue_join(s->queue, 0); /* what the dead one had got counts as done, once it is known to be dead */
    if (e == PMAP_ETIMEDOUT) {
        while (pmap_queue_task_done(s->queue) == 0) continue;
        e = pmap_queue_join(s->queue, 20);
    }
    if (e && e != PMAP_EOWNERDEAD) fail_msg("killed behind %u instructions: join: %d %s", k, e, pmap_error());
    if (e == PMAP_EOWNERDEAD && there && atomic_load(&s->returned))
        fail_msg("killed behind %u instructions: join: %s", k, pmap_error());
    there ? s->there++ : s->not_there++;
    atomic_store(&s->returned, 0);
}

static void stepped_series(const char *name, void (*before)(void *), void (*begin)(void *), void (*operation)(void *),
                           void (*check)(void *, unsigned))
{
#ifdef THREADS_ONLY
    skip();
#endif
    struct scene *s = shared_new(sizeof *s);
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    o.items = 1;
    o.message_bytes = 64;
    o.participants = 40; /* entries of the dead are used again and again */
    o.spin_us = -1;
    EXPECT(pmap_queue_open(&s->queue, &o), 0);
    if (begin) begin(s);
    operation(s); /* binds the symbols */
    check(s, 0);
    const struct stepped stepped = {.name = name, .before = before, .begin = begin, .operation = operation, .check = check,
                                    .arg = s};
    (void)kill_everywhere(&stepped);
    assert_true(s->there > 1); /* both ends of the operation were seen */
    assert_true(s->not_there > 1);
    EXPECT(pmap_queue_free(s->queue), 0);
    munmap(s, sizeof *s);
}

static void killed_in_put(const struct pm_path *path)
{
    (void)path;
    stepped_series("put", join_in, NULL, put_stepped, check_put);
}

static void killed_in_first_put(const struct pm_path *path)
{
    (void)path;
    stepped_series("first put", NULL, NULL, put_stepped, check_put);
}

static void killed_in_get(const struct pm_path *path)
{
    (void)path;
    stepped_series("get", join_in, fill_one, get_stepped, check_get);
}

/* ---- A storm ---- */

#define STORM_EACH 200000u
struct storm {
    pmap_queue *queue;
    _Atomic uint32_t next[MOST_PRODUCERS];               /* of each producer's: the number to put next */
    _Atomic uint8_t begun[MOST_PRODUCERS][STORM_EACH], put[MOST_PRODUCERS][STORM_EACH];
    _Atomic uint8_t got[MOST_PRODUCERS][STORM_EACH], unsure[MOST_PRODUCERS][STORM_EACH];
    struct { uint32_t producer, number; } buffer[2];     /* of each consumer */
    _Atomic uint32_t stop, bad;
};

static void storm_role(struct storm *s, unsigned role)
{
    unsigned char m[300];
    uint32_t head[2];
    while (role < 2 && !atomic_load(&s->stop)) {
        uint32_t i = atomic_fetch_add(&s->next[role], 1);
        if (i >= STORM_EACH) break;
        size_t bytes = sizeof head + i % (sizeof m - sizeof head);
        head[0] = role;
        head[1] = i;
        memset(m, (int)i, sizeof m);
        memcpy(m, head, sizeof head);
        atomic_store(&s->begun[role][i], 1);
        if (pmap_queue_put(s->queue, m, bytes, -1)) atomic_fetch_add(&s->bad, 1);
        atomic_store(&s->put[role][i], 1);
    }
    while (role >= 2) {
        void *place;
        size_t n;
        int e = pmap_queue_peek(s->queue, &place, &n, -1);
        if (e == PMAP_ECLOSED) break;
        memcpy(head, place, sizeof head);
        unsigned char *rest = place;
        for (size_t k = sizeof head; k < n; k++)
            if (rest[k] != (unsigned char)head[1]) atomic_fetch_add(&s->bad, 1);
        if (e || head[0] >= 2 || head[1] >= STORM_EACH || n != sizeof head + head[1] % (sizeof m - sizeof head))
            atomic_fetch_add(&s->bad, 1);
        /* Between here and `got` a death leaves it open whether it was got. */
        s->buffer[role - 2].producer = head[0];
        s->buffer[role - 2].number = head[1] + 1;
        atomic_signal_fence(memory_order_seq_cst);
        if (pmap_queue_release(s->queue, place)) atomic_fetch_add(&s->bad, 1);
        atomic_fetch_add(&s->got[head[0]][head[1]], 1);
        s->buffer[role - 2].number = 0;
    }
}

static pid_t storm_start(struct storm *s, unsigned role)
{
    pid_t pid = fork();
    if (pid == 0) {
        storm_role(s, role);
        _exit(0);
    }
    return pid;
}

static void storm_end(struct storm *s, unsigned role)
{
    if (role < 2 || !s->buffer[role - 2].number) return;
    atomic_store(&s->unsure[s->buffer[role - 2].producer][s->buffer[role - 2].number - 1], 1);
    s->buffer[role - 2].number = 0;
}

struct role_end {
    pid_t pid;
    int status;
};

static bool has_role_ended(void *arg)
{
    struct role_end *e = arg;
    return waitpid(e->pid, &e->status, WNOHANG) == e->pid;
}

static void storm(const struct pm_path *path)
{
    (void)path;
#ifdef THREADS_ONLY
    skip();
#endif
    struct storm *s = shared_new(sizeof *s);
    pmap_queue_options o = PMAP_QUEUE_OPTIONS_INIT;
    pid_t pid[4];
    unsigned kills = 0, random = 12345;
    o.items = 3;
    o.message_bytes = 300;
    o.participants = 16;
    EXPECT(pmap_queue_open(&s->queue, &o), 0);
    for (unsigned i = 0; i < 4; i++) pid[i] = storm_start(s, i);
    double end = seconds() + 1.5;
    while (seconds() < end) {
        random = random * 1664525u + 1013904223u;
        unsigned role = random >> 16 & 3;
        struct timespec t = {.tv_nsec = (long)(random >> 18 & 0xfff) * 400};
        nanosleep(&t, NULL); /* the rate of the storm; nothing is waited for */
        (void)kill(pid[role], SIGKILL);
        assert_int_equal(waitpid(pid[role], NULL, 0), pid[role]);
        storm_end(s, role);
        pid[role] = storm_start(s, role);
        kills++;
    }
    atomic_store(&s->stop, 1);
    for (unsigned i = 0; i < 4; i++) {
        struct role_end end_of = {pid[i], -1}; /* producers end, then consumers when all is drained */
        if (!pm_test_wait_until(has_role_ended, &end_of, 20000)) fail_msg("role %u does not end after the storm", i);
        assert_int_equal(end_of.status, 0);
        if (i == 1) EXPECT(pmap_queue_close(s->queue), 0);
    }
    size_t put = 0, unsure = 0, doubtful = 0;
    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; i < STORM_EACH; i++) {
            unsigned got = atomic_load(&s->got[k][i]);
            bool maybe = atomic_load(&s->unsure[k][i]) != 0;
            if (got > 1 && !maybe) fail_msg("message %u of %u was got %u times", i, k, got);
            if (got > 2) fail_msg("message %u of %u was got %u times", i, k, got);
            if (atomic_load(&s->put[k][i]) && got == 0 && !maybe) fail_msg("message %u of %u is lost", i, k);
            if (got && !atomic_load(&s->begun[k][i])) fail_msg("message %u of %u was never put", i, k);
            put += atomic_load(&s->put[k][i]);
            unsure += maybe;
            doubtful += atomic_load(&s->begun[k][i]) && !atomic_load(&s->put[k][i]);
        }
    assert_int_equal(atomic_load(&s->bad), 0);
    print_message("    %u kills, %zu messages put; %zu puts and %zu gets ended by a death\n", kills, put, doubtful,
                  unsure);
    assert_true(put > 100);
    assert_true(unsure <= kills);
    EXPECT(pmap_queue_free(s->queue), 0);
    munmap(s, sizeof *s);
}

/* A worker dies while it holds a message; its item runs again and finds the message. */
static int hold_and_die(pmap_task *task, size_t first, size_t last)
{
    pmap_queue *q = pmap_task_arg(task);
    void *place;
    size_t n;
    for (size_t i = first; i < last; i++) {
        int e = pmap_queue_peek(q, &place, &n, 20);
        if (e) return 1;
        if (pmap_task_attempt(task) == 0) raise(SIGKILL);
        if (pmap_queue_release(q, place) || pmap_queue_task_done(q)) return 2;
    }
    return 0;
}

static void a_worker_dies(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_queue *q = open_queue(4, 8, pool);
    pmap_map_options o = PMAP_MAP_OPTIONS_INIT;
    o.arg = q;
    o.chunk = 1;
    for (int i = 0; i < 3; i++) EXPECT(pmap_queue_put(q, &i, sizeof i, 0), 0);
    EXPECT(pmap_for(pool, hold_and_die, 0, 3, &o), 0);
    EXPECT(pmap_queue_join(q, 20), 0);
    assert_int_equal(pmap_queue_count(q), 0);
    EXPECT(pmap_queue_free(q), 0);
    pm_path_close(pool);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"threads that end", threads_that_end, PM_ON_NONE},
        {"a worker dies", a_worker_dies, PM_ON_SHM},
        {"killed in put", killed_in_put, PM_ON_NONE},
        {"killed in first put", killed_in_first_put, PM_ON_NONE},
        {"killed in get", killed_in_get, PM_ON_NONE},
        {"storm", storm, PM_ON_NONE},
    };
    return PM_PATHS_MAIN("queue_deaths", tests);
}

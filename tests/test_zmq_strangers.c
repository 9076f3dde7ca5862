/* Foreign, damaged and replayed messages on the socket of the ZeroMQ channel: dropped and counted, and every call's results are right.
 * Reads the handle's insides (only fields, no internal function) to speak to the pool's own socket.  Uses libzmq. */
#include "tests/zmq.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "pmap/pool.h"
#include "workers/processes.h"
#include "workers/zmq.h"

static struct pm_processes *inside(pmap_pool *pool) { return (struct pm_processes *)(void *)pool->executor; }

struct stranger {
    pmap_pool *pool;
    void *context, *socket;
    uint64_t want;
};

static void connect_as(struct stranger *s, const void *id, size_t bytes)
{
    int zero = 0;
    s->context = zmq_ctx_new();
    s->socket = zmq_socket(s->context, ZMQ_DEALER);
    assert_non_null(s->socket);
    assert_int_equal(zmq_setsockopt(s->socket, ZMQ_ROUTING_ID, id, bytes), 0);
    assert_int_equal(zmq_setsockopt(s->socket, ZMQ_LINGER, &zero, sizeof zero), 0);
    assert_int_equal(zmq_connect(s->socket, inside(s->pool)->board->zmq), 0);
}

static void leave(struct stranger *s)
{
    zmq_close(s->socket);
    zmq_ctx_term(s->context);
}

/* Strangers are heard only while a call is under way: asks for one, which must be right, until all they said was dropped. */
static bool map_and_count(void *arg)
{
    struct stranger *s = arg;
    int in[500], out[500];
    for (int i = 0; i < 500; i++) in[i] = i;
    assert_int_equal(pmap_map(s->pool, square, in, 500, sizeof in[0], out, sizeof out[0], NULL), 0);
    for (int i = 0; i < 500; i++) assert_int_equal(out[i], expected(i));
    return atomic_load(&inside(s->pool)->zmq->dropped) >= s->want;
}

/* Sends all kinds of what nobody asked for; returns how many messages. */
static unsigned babble(struct stranger *s, uint32_t owner)
{
    struct pm_processes *p = inside(s->pool);
    unsigned n = 0;
    unsigned char noise[3000];
    struct pm_frame f = {.magic = PM_FRAME_MAGIC, .version = PM_FRAME_VERSION, .kind = PM_FRAME_RESULT, .nonce = p->board->zmq_nonce,
                         .serial = atomic_load(&p->board->job[0].serial), .owner = owner, .round = 1, .items = 15, .reached = 15, .bytes = 60,
                         .suspect = PM_FRAME_SUSPECT_NONE};
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)(i * 7919 >> 3);
    for (size_t bytes = 0; bytes < sizeof noise; bytes += 97, n++) assert_true(zmq_send(s->socket, noise, bytes, 0) >= 0);
    for (size_t cut = 0; cut < sizeof f; cut++, n++) { /* truncated, alone or with bytes behind */
        assert_true(zmq_send(s->socket, &f, cut, cut & 1 ? ZMQ_SNDMORE : 0) >= 0);
        if (cut & 1) assert_true(zmq_send(s->socket, noise, 60, 0) >= 0);
    }
    for (int parts = 1; parts < 8; parts++, n++) /* a replayed result, with too few and too many parts */
        for (int i = 0; i < parts; i++)
            assert_true(zmq_send(s->socket, i ? (void *)noise : &f, i ? 60 : sizeof f, i + 1 < parts ? ZMQ_SNDMORE : 0) >= 0);
    f.nonce ^= 1;
    assert_true(zmq_send(s->socket, &f, sizeof f, ZMQ_SNDMORE) >= 0 && zmq_send(s->socket, noise, 60, 0) >= 0);
    f.nonce ^= 1, f.kind = PM_FRAME_BYE;
    assert_true(zmq_send(s->socket, &f, sizeof f, 0) >= 0);
    f.kind = PM_FRAME_HELLO, f.owner ^= 1;
    assert_true(zmq_send(s->socket, &f, sizeof f, 0) >= 0);
    return n + 3;
}

static void messages_from_strangers(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    (void)map_and_count(&s); /* binds */
    s.want = atomic_load(&inside(s.pool)->zmq->dropped);
    connect_as(&s, "stranger", 8);
    s.want += babble(&s, 0x001001);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000));
    leave(&s);
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

static uint32_t owner_of(pmap_pool *pool, unsigned slot)
{
    return pm_owner(slot, atomic_load(&inside(pool)->board->slot[slot].gen));
}

struct change {
    pmap_pool *pool;
    uint32_t before;
};

static bool changed(void *arg)
{
    struct change *c = arg;
    return owner_of(c->pool, 0) != c->before;
}

/* Somebody with the pool's secret takes the name of a worker that is yet to be born: even what comes under a known name is judged, and
 * the pool does without that worker. */
static void a_stolen_name(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    int pids[2];
    (void)map_and_count(&s);
    struct change c = {s.pool, owner_of(s.pool, 0)};
    unsigned char id[PM_FRAME_ID] = {'P'};
    uint32_t next = c.before + 1;
    memcpy(id + 1, &next, sizeof next);
    memcpy(id + 5, &inside(s.pool)->board->zmq_nonce, sizeof(uint64_t));
    connect_as(&s, id, sizeof id);
    s.want = atomic_load(&inside(s.pool)->zmq->dropped) + 1;
    assert_true(zmq_send(s.socket, "here", 4, 0) >= 0);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000)); /* so it has that name now */
    assert_int_equal(pmap_pool_pids(s.pool, pids, 2), 2);
    assert_int_equal(kill(pids[0], SIGKILL), 0);
    assert_true(pm_test_wait_until(changed, &c, 10000));
    assert_int_equal(owner_of(s.pool, 0), next);
    s.want += babble(&s, next);
    assert_true(pm_test_wait_until(map_and_count, &s, 20000));
    leave(&s);
    assert_true(map_and_count(&s));
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

/* Another program of this user binds the name as well, which takes it from the pool, or tidies it away: workers that come later find the pool
 * all the same. */
static void bind_too(struct stranger *s)
{
    int zero = 0;
    s->context = zmq_ctx_new();
    s->socket = zmq_socket(s->context, ZMQ_ROUTER);
    assert_non_null(s->socket);
    assert_int_equal(zmq_setsockopt(s->socket, ZMQ_LINGER, &zero, sizeof zero), 0);
    assert_int_equal(zmq_bind(s->socket, inside(s->pool)->board->zmq), 0);
}

static void tidy_away(struct stranger *s)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s", inside(s->pool)->board->zmq + strlen("ipc://"));
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = 0;
    assert_int_equal(rmdir(path), 0);
}

static void a_name_that_is_taken(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    (void)map_and_count(&s);
    for (int round = 0; round < 4; round++) {
        int pids[2];
        if (round % 2) tidy_away(&s);
        else bind_too(&s);
        (void)map_and_count(&s); /* who is connected stays so */
        assert_int_equal(pmap_pool_pids(s.pool, pids, 2), 2);
        for (int i = 0; i < 2; i++)
            if (pids[i] > 0) (void)kill(pids[i], SIGKILL);
        for (int i = 0; i < 5; i++) (void)map_and_count(&s);
        if (round % 2 == 0) leave(&s);
    }
    (void)map_and_count(&s);
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

/* A message that is larger than any of the pool's may be: its sender is cut off by what the first bytes announce, and nothing is allocated for it. */
static bool cut_off(void *arg)
{
    zmq_msg_t event;
    (void)zmq_msg_init(&event);
    bool came = zmq_msg_recv(&event, arg, ZMQ_DONTWAIT) >= 0;
    (void)zmq_msg_close(&event);
    return came;
}

static void a_message_that_is_too_large(void **state)
{
    (void)state;
    struct stranger s = {.pool = open_pool(2)};
    size_t bytes = PM_ZMQ_LARGEST + 1;
    zmq_msg_t message;
    (void)map_and_count(&s);
    connect_as(&s, "large", 5);
    void *large = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *monitor = zmq_socket(s.context, ZMQ_PAIR);
    assert_true(large != MAP_FAILED && monitor);
    assert_int_equal(zmq_socket_monitor(s.socket, "inproc://monitor", ZMQ_EVENT_DISCONNECTED), 0);
    assert_int_equal(zmq_connect(monitor, "inproc://monitor"), 0);
    assert_int_equal(zmq_msg_init_data(&message, large, bytes, NULL, NULL), 0);
    assert_true(zmq_msg_send(&message, s.socket, 0) >= 0);
    assert_true(pm_test_wait_until(cut_off, monitor, 10000));
    for (int i = 0; i < 5; i++) (void)map_and_count(&s);
    assert_int_equal(zmq_socket_monitor(s.socket, NULL, 0), 0);
    zmq_close(monitor);
    leave(&s);
    (void)munmap(large, bytes);
    assert_int_equal(pmap_pool_close(s.pool), 0);
}

/* The way to the socket is open to this user alone. */
static void other_users_have_no_way_in(void **state)
{
    (void)state;
    pmap_pool *pool = open_pool(1);
    struct stranger s = {.pool = pool};
    struct stat status;
    char path[200];
    (void)map_and_count(&s);
    (void)snprintf(path, sizeof path, "%s", inside(pool)->board->zmq + strlen("ipc://"));
    *strrchr(path, '/') = 0;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(status.st_uid, geteuid());
    assert_int_equal(pmap_pool_close(pool), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_from_strangers),
        cmocka_unit_test(a_stolen_name),
        cmocka_unit_test(a_name_that_is_taken),
        cmocka_unit_test(a_message_that_is_too_large),
        cmocka_unit_test(other_users_have_no_way_in),
    };
    return PM_TEST_MAIN("zmq_strangers", tests);
}

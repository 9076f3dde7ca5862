/* shm/member.h: numbers of threads and processes, their deaths, and what happens to the entries of the dead. */
#include "shm/member.h"
#include "tests/harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 8u

static struct pm_members *new_table(unsigned size)
{
    struct pm_members *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(m, MAP_FAILED);
    assert_true(pm_members_bytes(size) <= 65536);
    pm_members_init(m, size);
    return m;
}

static uint32_t number(struct pm_members *m)
{
    uint32_t x = 0;
    assert_int_equal(pm_member_join(m, &x), 0);
    assert_int_not_equal(x, 0);
    assert_true(x < 1u << 24);
    return x;
}

static void a_thread_keeps_its_number(void **state)
{
    (void)state;
    struct pm_members *m[20];
    uint32_t mine[20];
    for (int i = 0; i < 20; i++) { /* more than a thread remembers */
        m[i] = new_table(SIZE);
        mine[i] = number(m[i]);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(number(m[i]), mine[i]);
        assert_false(pm_member_dead(m[i], mine[i]));
        assert_int_equal(pm_member_tid(m[i], mine[i]), getpid());
        assert_int_equal(pm_member_next_dead(m[i], 0), 0);
        pm_members_init(m[i], SIZE); /* another table at the same place: what the thread remembers is not believed */
        assert_int_equal(number(m[i]), mine[i]);
        munmap(m[i], 65536);
    }
}

/* A child that has joined and told its number, then pauses. */
struct child {
    struct pm_members *m;
    _Atomic uint32_t number;
};

static bool has_joined(void *arg) { return atomic_load(&((struct child *)arg)->number) != 0; }

static pid_t start(struct child *c, struct pm_members *m)
{
    c->m = m;
    atomic_store(&c->number, 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t x;
        if (pm_member_join(m, &x)) _exit(1);
        atomic_store(&c->number, x);
        for (;;) pause();
    }
    assert_true(pid > 0);
    assert_true(pm_test_wait_until(has_joined, c, 10000));
    return pid;
}

struct dying {
    struct pm_members *m;
    uint32_t number;
};

static bool is_dead(void *arg)
{
    struct dying *d = arg;
    return pm_member_dead(d->m, d->number);
}

static void a_forked_child_is_another(void **state)
{
    (void)state;
    struct pm_members *m = new_table(SIZE);
    struct child *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t mine = number(m);
    pid_t pid = start(c, m);
    uint32_t theirs = atomic_load(&c->number);
    assert_int_not_equal(theirs, mine);
    assert_int_equal(pm_member_tid(m, theirs), pid);

    kill(pid, SIGSTOP); /* slow is not dead */
    int status;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_false(pm_member_dead(m, theirs));
    assert_int_equal(pm_member_next_dead(m, 0), 0);

    kill(pid, SIGKILL); /* a zombie is */
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(pm_member_dead(m, theirs));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(pm_member_dead(m, theirs));
    assert_false(pm_member_dead(m, mine));
    assert_int_equal(pm_member_next_dead(m, 0), theirs);
    assert_int_equal(pm_member_next_dead(m, theirs), 0);

    /* Not used again before it is mended; then as another generation, under which the old number stays dead. */
    pid = start(c, m);
    uint32_t second = atomic_load(&c->number);
    assert_int_not_equal(second >> 12, theirs >> 12);
    pm_member_mended(m, theirs);
    pm_member_mended(m, theirs); /* somebody was quicker: nothing */
    assert_int_equal(pm_member_next_dead(m, 0), 0);
    pid_t other = start(c, m);
    uint32_t third = atomic_load(&c->number);
    assert_int_equal(third >> 12, theirs >> 12);
    assert_int_not_equal(third, theirs);
    assert_true(pm_member_dead(m, theirs));
    assert_int_equal(pm_member_tid(m, theirs), 0);
    pm_member_mended(m, theirs); /* late: the entry is another's by now */
    assert_false(pm_member_dead(m, third));
    assert_int_equal(pm_member_tid(m, third), other);
    kill(pid, SIGKILL);
    kill(other, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(waitpid(other, NULL, 0), other);
    munmap(c, sizeof *c);
    munmap(m, 65536);
}

static void a_full_table_says_so(void **state)
{
    (void)state;
    struct pm_members *m = new_table(2);
    struct child *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t a = start(c, m), b = start(c, m);
    uint32_t x, last = atomic_load(&c->number);
    assert_int_equal(pm_member_join(m, &x), -EUSERS);
    kill(b, SIGKILL);
    assert_int_equal(waitpid(b, NULL, 0), b);
    assert_int_equal(pm_member_join(m, &x), -EUSERS); /* dead, but not mended */
    assert_int_equal(pm_member_next_dead(m, 0), last);
    pm_member_mended(m, last);
    assert_int_equal(number(m) >> 12, last >> 12);
    assert_true(pm_member_dead(m, 7u << 12 | 1)); /* no such entry */
    kill(a, SIGKILL);
    assert_int_equal(waitpid(a, NULL, 0), a);
    munmap(c, sizeof *c);
    munmap(m, 65536);
}

/* ---- Threads ---- */

struct thread {
    struct pm_members *m;
    uint32_t number;
};

static void *join_and_end(void *arg)
{
    struct thread *t = arg;
    if (pm_member_join(t->m, &t->number)) t->number = 0;
    return NULL;
}

static uint32_t by_a_thread(struct pm_members *m)
{
    struct thread t = {.m = m};
    pthread_t id;
    assert_int_equal(pthread_create(&id, NULL, join_and_end, &t), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    /* Joined is a little earlier than gone. */
    struct dying d = {m, t.number};
    if (t.number) assert_true(pm_test_wait_until(is_dead, &d, 10000));
    return t.number;
}

/* Also all generations of an entry: the numbers go round and never become 0. */
static void an_ended_thread_is_dead(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    const int rounds = 100;
#else
    const int rounds = 4200;
#endif
    struct pm_members *m = new_table(2);
    uint32_t mine = number(m), before = 0;
    for (int i = 0; i < rounds; i++) {
        uint32_t x = by_a_thread(m);
        assert_int_not_equal(x, 0);
        assert_int_not_equal(x & 0xfff, 0);
        assert_int_not_equal(x, before);
        assert_int_equal(pm_member_next_dead(m, 0), x);
        pm_member_mended(m, x);
        assert_true(pm_member_dead(m, x));
        before = x;
    }
    assert_int_equal(number(m), mine);
    munmap(m, 65536);
}

static void *stay(void *arg)
{
    for (;;) pause();
    return arg;
}

/* The first thread of a process may end before the others: as a member it is dead, although its process is not. */
static int first_thread_ends(void *arg)
{
    struct child *c = arg;
    uint32_t x;
    if (pm_member_join(c->m, &x)) return 1;
    atomic_store(&c->number, x);
    pthread_t id;
    if (pthread_create(&id, NULL, stay, NULL)) return 1;
    pthread_exit(NULL);
}

static void a_first_thread_that_ended_is_dead(void **state)
{
    (void)state;
    struct child *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    c->m = new_table(SIZE);
    pid_t pid = fork();
    if (pid == 0) _exit(first_thread_ends(c));
    assert_true(pm_test_wait_until(has_joined, c, 10000));
    struct dying d = {c->m, atomic_load(&c->number)};
    assert_true(pm_test_wait_until(is_dead, &d, 10000));
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* the process lives */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    munmap(c->m, 65536);
    munmap(c, sizeof *c);
}

/* Many join, end, are mended by several at once, all the time. */
#define CROWD 6
struct crowd {
    struct pm_members *m;
    _Atomic uint32_t holder[256]; /* of an entry: the number that lives in it */
    _Atomic uint32_t doubled, rounds;
};

static void *one_life(void *arg)
{
    struct crowd *c = arg;
    uint32_t x;
    while (pm_member_join(c->m, &x)) /* full of the dead */
        for (uint32_t d = 0; (d = pm_member_next_dead(c->m, d));) {
            uint32_t held = d;
            (void)atomic_compare_exchange_strong(&c->holder[d >> 12], &held, 0);
            pm_member_mended(c->m, d);
        }
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&c->holder[x >> 12], &nobody, x)) atomic_fetch_add(&c->doubled, 1);
    if (pm_member_dead(c->m, x)) atomic_fetch_add(&c->doubled, 1);
    return NULL;
}

static void *many_lives(void *arg)
{
    struct crowd *c = arg;
    while (atomic_fetch_sub(&c->rounds, 1) - 1 < 1u << 31) {
        pthread_t id;
        if (pthread_create(&id, NULL, one_life, c)) break;
        pthread_join(id, NULL);
    }
    return NULL;
}

static void several_mend_at_once(void **state)
{
    (void)state;
    static struct crowd c;
    memset(&c, 0, sizeof c);
    c.m = new_table(CROWD + 2);
    atomic_store(&c.rounds, 1000);
    pthread_t id[CROWD];
    for (int i = 0; i < CROWD; i++) assert_int_equal(pthread_create(&id[i], NULL, many_lives, &c), 0);
    for (int i = 0; i < CROWD; i++) assert_int_equal(pthread_join(id[i], NULL), 0);
    assert_int_equal(atomic_load(&c.doubled), 0);
    munmap(c.m, 65536);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_keeps_its_number), cmocka_unit_test(a_forked_child_is_another),
        cmocka_unit_test(a_full_table_says_so),      cmocka_unit_test(an_ended_thread_is_dead),
        cmocka_unit_test(several_mend_at_once),      cmocka_unit_test(a_first_thread_that_ended_is_dead),
    };
    return PM_TEST_MAIN("member", tests);
}

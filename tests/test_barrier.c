/* The barrier: nobody goes on before all have arrived; who dies before is an error for the others, and never a hang. */
#include "tests/share.h"
#include "tests/step.h"

#define ROUNDS 50u

struct hall {
    pmap_barrier *barrier;
    unsigned parties;
    _Atomic uint32_t arrived, firsts, flag;
};

static void open_hall(struct hall *h, pmap_pool *pool, unsigned parties)
{
    pmap_barrier_options o = PMAP_BARRIER_OPTIONS_INIT;
    memset(h, 0, sizeof *h);
    o.pool = pool;
    o.parties = h->parties = parties;
    EXPECT(pmap_barrier_open(&h->barrier, &o), 0);
}

static void meet(void *arg, unsigned index)
{
    struct hall *h = arg;
    (void)index;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned before = 99;
        atomic_fetch_add(&h->arrived, 1);
        MUST_NOT(pmap_barrier_wait(h->barrier, 20, &before));
        MUST_NOT(before >= h->parties);
        if (before == 0) atomic_fetch_add(&h->firsts, 1);
        MUST_NOT(atomic_load(&h->arrived) < (i + 1) * h->parties); /* somebody is missing */
        MUST_NOT(pmap_barrier_wait(h->barrier, 20, NULL));
    }
}

static void all_meet(const struct pm_path *path)
{
    struct hall *h = shared_memory(sizeof *h);
    for (unsigned parties = 1; parties <= 4; parties += 3) {
        open_hall(h, NULL, parties);
        if (path->bit == PM_ON_THREADS) crew_of_threads(parties, meet, h);
        else crew_of_processes(parties, meet, h);
        assert_int_equal(atomic_load(&h->firsts), ROUNDS);
        EXPECT(pmap_barrier_close(h->barrier), 0);
    }
    (void)munmap(h, sizeof *h);
}

static void workers_meet(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct hall *h = pmap_alloc(pool, sizeof *h);
    assert_non_null(h);
    open_hall(h, pool, 2);
    for (int i = 0; i < 3; i++) { /* which workers they are may change from map to map */
        atomic_store(&h->arrived, 0);
        crew_of_workers(pool, 2, meet, h);
    }
    EXPECT(pmap_barrier_close(h->barrier), 0);
    pmap_free(pool, h);
    pm_path_close(pool);
}

static int wait_long(void *arg)
{
    int e = pmap_barrier_wait(arg, 20, NULL);
    return e == 0 ? 40 : e == PMAP_EBROKEN ? 41 : 42;
}

static void wrong_use_and_time(const struct pm_path *path)
{
    (void)path;
    pmap_barrier_options o = PMAP_BARRIER_OPTIONS_INIT;
    pmap_barrier *b;
    EXPECT(pmap_barrier_open(&b, &o), PMAP_EINVAL);
    o.parties = 1025;
    EXPECT(pmap_barrier_open(&b, &o), PMAP_EINVAL);
    EXPECT(pmap_barrier_open(NULL, &o), PMAP_EINVAL);
    o.parties = 2;
    EXPECT(pmap_barrier_open(&b, &o), 0);
    EXPECT(pmap_barrier_wait(NULL, 0, NULL), PMAP_EINVAL);
    EXPECT(pmap_barrier_wait(b, 0, NULL), PMAP_ETIMEDOUT);
    double t = seconds();
    EXPECT(pmap_barrier_wait(b, 0.12, NULL), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.12);
    EXPECT(pmap_barrier_wait(b, 0, NULL), PMAP_ETIMEDOUT); /* once or twice in vain: it has not arrived */
    EXPECT(pmap_barrier_abort(b), 0);
    EXPECT(pmap_barrier_wait(b, 0, NULL), PMAP_EBROKEN);
    EXPECT(pmap_barrier_join(b), PMAP_EBROKEN);
    EXPECT(pmap_barrier_reset(b), 0);
    EXPECT(pmap_barrier_join(b), 0);
    EXPECT(pmap_barrier_wait(b, 0, NULL), PMAP_ETIMEDOUT);
    EXPECT(pmap_barrier_close(b), 0);
    EXPECT(pmap_barrier_close(NULL), 0);
}

static void abort_and_reset_end_waits(const struct pm_path *path)
{
    (void)path;
    struct hall *h = shared_memory(sizeof *h);
    open_hall(h, NULL, 3);
    for (int reset = 0; reset < 2; reset++) {
        pid_t pids[2];
        for (int i = 0; i < 2; i++) wait_asleep(pids[i] = start(wait_long, h->barrier));
        EXPECT(reset ? pmap_barrier_reset(h->barrier) : pmap_barrier_abort(h->barrier), 0);
        for (int i = 0; i < 2; i++) assert_int_equal(WEXITSTATUS(end_of(pids[i])), 41);
        EXPECT(pmap_barrier_reset(h->barrier), 0);
    }
    crew_of_processes(3, meet, h);
    EXPECT(pmap_barrier_close(h->barrier), 0);
    (void)munmap(h, sizeof *h);
}

static void join_it(void *arg)
{
    MUST_NOT(pmap_barrier_join(arg));
}

/* A party that is known dies before it arrives; exec looks like slowness, so that ends by the time-out. */
static void a_dead_party_is_an_error(const struct pm_path *path)
{
    (void)path;
    for (int death = 0; death < DEATHS; death++) {
        struct hall h;
        open_hall(&h, NULL, 2);
        pid_t dead = died_holding(death, join_it, h.barrier);
        int e = pmap_barrier_wait(h.barrier, death == BY_EXEC ? 0.2 : 20, NULL);
        if (e != (death == BY_EXEC ? PMAP_ETIMEDOUT : PMAP_EBROKEN)) fail_msg("%s: %d %s", death_names[death], e, pmap_error());
        kill_and_reap(dead);
        EXPECT(pmap_barrier_reset(h.barrier), 0);
        pid_t other = start(wait_long, h.barrier);
        EXPECT(pmap_barrier_wait(h.barrier, 20, NULL), 0);
        assert_int_equal(WEXITSTATUS(end_of(other)), 40);
        EXPECT(pmap_barrier_close(h.barrier), 0);
    }
}

static int meet_once_and_hang(void *arg)
{
    struct hall *h = arg;
    if (pmap_barrier_wait(h->barrier, 20, NULL)) return 1;
    atomic_store(&h->flag, 1);
    for (;;) pause();
}

static int meet_and_wait(void *arg)
{
    struct hall *h = arg;
    if (pmap_barrier_wait(h->barrier, 20, NULL)) return 1;
    if (pmap_barrier_wait(h->barrier, 0.12, NULL) != PMAP_ETIMEDOUT) return 2; /* slow, not dead */
    atomic_store(&h->arrived, 1);
    return wait_long(h->barrier);
}

static void it_dies_while_others_wait(const struct pm_path *path)
{
    (void)path;
    struct hall *h = shared_memory(sizeof *h);
    open_hall(h, NULL, 2);
    pid_t pid = start(meet_once_and_hang, h), waiter = start(meet_and_wait, h);
    wait_set(&h->flag);
    wait_set(&h->arrived);
    wait_asleep(waiter);
    kill_and_reap(pid);
    assert_int_equal(WEXITSTATUS(end_of(waiter)), 41);
    EXPECT(pmap_barrier_close(h->barrier), 0);
    (void)munmap(h, sizeof *h);
}

static void another_takes_the_place(const struct pm_path *path)
{
    (void)path;
    struct hall h;
    open_hall(&h, NULL, 2);
    for (int i = 0; i < 100; i++) { /* more threads than the table of members holds at a time */
        kill_and_reap(died_holding(BY_EXIT, join_it, h.barrier));
        pid_t other = start(wait_long, h.barrier);
        int e = pmap_barrier_wait(h.barrier, 20, NULL), status = WEXITSTATUS(end_of(other));
        if (e == PMAP_EBROKEN) EXPECT(pmap_barrier_reset(h.barrier), 0); /* it was noticed before the other came */
        else EXPECT(e, 0);
        assert_int_equal(status, e ? 41 : 40);
    }
    EXPECT(pmap_barrier_close(h.barrier), 0);
}

static void arrive(void *arg)
{
    int e = pmap_barrier_wait(((struct hall *)arg)->barrier, 20, NULL);
    MUST_NOT(e && e != PMAP_EBROKEN);
}

static pid_t partner;

static void begin_with_partner(void *arg) { wait_asleep(partner = start(wait_long, ((struct hall *)arg)->barrier)); }
static void join_first(void *arg) { join_it(((struct hall *)arg)->barrier); }

/* It was known, so the partner goes on or is told, whatever anybody else does. */
static void the_partner_ends(void *arg, unsigned k)
{
    int status = WEXITSTATUS(end_of(partner));
    if (status != 40 && status != 41) fail_msg("killed behind %u instructions: the partner %d", k, status);
    EXPECT(pmap_barrier_reset(((struct hall *)arg)->barrier), 0);
}

/* Killed before it was known nobody can miss it: the test arrives in its place. */
static void with_another_it_ends(void *arg, unsigned k)
{
    int e = pmap_barrier_wait(((struct hall *)arg)->barrier, 0, NULL);
    if (e && e != PMAP_EBROKEN && e != PMAP_ETIMEDOUT) fail_msg("killed behind %u instructions: %d %s", k, e, pmap_error());
    the_partner_ends(arg, k);
}

static void every_instruction(const struct pm_path *path)
{
    (void)path;
    struct hall *h = shared_memory(sizeof *h);
    open_hall(h, NULL, 1);
    arrive(h);
    EXPECT(pmap_barrier_close(h->barrier), 0);
    open_hall(h, NULL, 2);
    struct stepped known = {"the last to arrive", join_first, begin_with_partner, arrive, NULL, the_partner_ends, h};
    struct stepped new = {"with its first call", NULL, begin_with_partner, arrive, NULL, with_another_it_ends, h};
    (void)kill_everywhere(&known);
    (void)kill_everywhere(&new);
    EXPECT(pmap_barrier_close(h->barrier), 0);
    (void)munmap(h, sizeof *h);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"all meet", all_meet, PM_ON_THREADS | PM_ON_SHM},
        {"workers meet", workers_meet, PM_ON_SHM | PM_ON_THREADS},
        {"wrong use and time", wrong_use_and_time, PM_ON_THREADS},
        {"abort and reset end waits", abort_and_reset_end_waits, PM_ON_SHM},
        {"a dead party is an error", a_dead_party_is_an_error, PM_ON_SHM},
        {"it dies while others wait", it_dies_while_others_wait, PM_ON_SHM},
        {"another takes the place", another_takes_the_place, PM_ON_SHM},
        {"every instruction", every_instruction, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("barrier", tests);
}

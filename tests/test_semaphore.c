/* The semaphore: never more holders than permits, and never fewer permits for the death of a holder. */
#include "tests/share.h"
#include "tests/step.h"

struct room {
    pmap_semaphore *door;
    _Atomic uint32_t inside, most, entries;
};

static void go_in_and_out(void *arg, unsigned index)
{
    struct room *r = arg;
    (void)index;
    for (int i = 0; i < 5000; i++) {
        MUST_NOT(pmap_semaphore_acquire(r->door, 20));
        uint32_t inside = atomic_fetch_add(&r->inside, 1) + 1, most = atomic_load(&r->most);
        while (inside > most && !atomic_compare_exchange_weak(&r->most, &most, inside)) continue;
        atomic_fetch_add(&r->entries, 1);
        atomic_fetch_sub(&r->inside, 1);
        MUST_NOT(pmap_semaphore_release(r->door));
    }
}

static void open_room(struct room *r, pmap_pool *pool, unsigned permits)
{
    pmap_semaphore_options o = PMAP_SEMAPHORE_OPTIONS_INIT;
    memset(r, 0, sizeof *r);
    o.pool = pool;
    o.permits = permits;
    EXPECT(pmap_semaphore_open(&r->door, &o), 0);
}

static void five_go_in_and_out(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 5);
    struct room *r = pmap_alloc(pool, sizeof *r);
    assert_non_null(r);
    for (unsigned permits = 1; permits <= 3; permits++) {
        open_room(r, pool, permits);
        crew_of_workers(pool, 5, go_in_and_out, r);
        assert_int_equal(atomic_load(&r->entries), 25000);
        assert_in_range(atomic_load(&r->most), 1, permits);
        EXPECT(pmap_semaphore_close(r->door), 0);
    }
    pmap_free(pool, r);
    pm_path_close(pool);
}

static void five_without_a_pool(const struct pm_path *path)
{
    struct room *r = shared_memory(sizeof *r);
    open_room(r, NULL, 2);
    if (path->bit == PM_ON_THREADS) crew_of_threads(5, go_in_and_out, r);
    else crew_of_processes(5, go_in_and_out, r);
    assert_int_equal(atomic_load(&r->entries), 25000);
    assert_in_range(atomic_load(&r->most), 1, 2);
    EXPECT(pmap_semaphore_close(r->door), 0);
    (void)munmap(r, sizeof *r);
}

static void *not_mine(void *arg)
{
    EXPECT(pmap_semaphore_release(arg), PMAP_EPERM);
    EXPECT(pmap_semaphore_acquire(arg, 0), PMAP_ETIMEDOUT);
    double t = seconds();
    EXPECT(pmap_semaphore_acquire(arg, 0.12), PMAP_ETIMEDOUT); /* longer than a slice */
    assert_true(seconds() - t >= 0.12);
    return NULL;
}

static void wrong_use_has_a_name(const struct pm_path *path)
{
    (void)path;
    pmap_semaphore_options o = PMAP_SEMAPHORE_OPTIONS_INIT;
    pmap_semaphore *s;
    pthread_t thread;
    EXPECT(pmap_semaphore_open(NULL, &o), PMAP_EINVAL);
    o.permits = 1025;
    EXPECT(pmap_semaphore_open(&s, &o), PMAP_EINVAL);
    assert_null(s);
    o.permits = 3;
    EXPECT(pmap_semaphore_open(&s, &o), 0);
    EXPECT(pmap_semaphore_release(s), PMAP_EPERM); /* there would be four */
    for (int i = 0; i < 3; i++) EXPECT(pmap_semaphore_acquire(s, i - 1), 0);
    EXPECT(pmap_semaphore_acquire(s, 0), PMAP_ETIMEDOUT);
    assert_int_equal(pthread_create(&thread, NULL, not_mine, s), 0);
    pthread_join(thread, NULL);
    EXPECT(pmap_semaphore_release(s), 0);
    EXPECT(pmap_semaphore_acquire(s, 0), 0);
    for (int i = 0; i < 3; i++) EXPECT(pmap_semaphore_release(s), 0);
    EXPECT(pmap_semaphore_release(s), PMAP_EPERM);
    EXPECT(pmap_semaphore_acquire(s, -1), 0);
    EXPECT(pmap_semaphore_close(s), 0);
    EXPECT(pmap_semaphore_close(NULL), 0);
    EXPECT(pmap_semaphore_acquire(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_semaphore_release(NULL), PMAP_EINVAL);
}

static void take_two(void *arg)
{
    for (int i = 0; i < 2; i++)
        MUST_NOT(pmap_semaphore_acquire(arg, -1));
}

static int take_one_and_leave(void *arg)
{
    return pmap_semaphore_acquire(arg, 20) ? 1 : pmap_semaphore_release(arg) ? 2 : 0;
}

static void permits_of_the_dead_come_back(const struct pm_path *path)
{
    (void)path;
    for (int death = 0; death < DEATHS; death++) {
        struct room r;
        open_room(&r, NULL, 2);
        pid_t pid = died_holding(death, take_two, r.door);
        for (int i = 0; i < 2; i++) {
            int e = pmap_semaphore_acquire(r.door, 10);
            if (e) fail_msg("%s: %d %s", death_names[death], e, pmap_error());
        }
        EXPECT(pmap_semaphore_acquire(r.door, 0), PMAP_ETIMEDOUT); /* not more than there were */
        pid_t waiter = start(take_one_and_leave, r.door);
        wait_asleep(waiter);
        EXPECT(pmap_semaphore_release(r.door), 0);
        assert_int_equal(end_of(waiter), 0);
        kill_and_reap(pid);
        EXPECT(pmap_semaphore_close(r.door), 0);
    }
}

static int hold_for_ever(void *arg)
{
    take_two(arg);
    for (;;) pause();
    return 0;
}

static void a_waiter_gets_it_by_the_death(const struct pm_path *path)
{
    (void)path;
    struct room r;
    open_room(&r, NULL, 2);
    pid_t holder = start(hold_for_ever, r.door);
    wait_asleep(holder);
    pid_t waiter = start(take_one_and_leave, r.door);
    wait_asleep(waiter);
    kill_and_reap(holder);
    assert_int_equal(end_of(waiter), 0);
    EXPECT(pmap_semaphore_close(r.door), 0);
}

static void in_and_out_once(void *arg)
{
    struct room *r = arg;
    MUST_NOT(pmap_semaphore_acquire(r->door, 20) || pmap_semaphore_release(r->door));
}

static void all_are_there(void *arg, unsigned k)
{
    struct room *r = arg;
    for (int i = 0; i < 2; i++)
        if (pmap_semaphore_acquire(r->door, 10)) fail_msg("killed behind %u instructions: permit %d is lost", k, i);
    if (pmap_semaphore_acquire(r->door, 0) != PMAP_ETIMEDOUT) fail_msg("killed behind %u instructions: a permit too many", k);
    for (int i = 0; i < 2; i++) EXPECT(pmap_semaphore_release(r->door), 0);
}

static void take_both(void *arg) { take_two(((struct room *)arg)->door); }
static void release_one(void *arg) { (void)pmap_semaphore_release(((struct room *)arg)->door); }

static void release_and_check(void *arg, unsigned k)
{
    while (pmap_semaphore_release(((struct room *)arg)->door) == 0) continue;
    all_are_there(arg, k);
}

static void every_instruction(const struct pm_path *path)
{
    (void)path;
    struct room *r = shared_memory(sizeof *r);
    open_room(r, NULL, 2);
    in_and_out_once(r);
    struct stepped s = {"acquire, release", NULL, NULL, in_and_out_once, NULL, all_are_there, r};
    struct step_count n = kill_everywhere(&s);
    assert_int_equal(n.calls, 0);
    struct stepped sleeper = {"with a wait", NULL, take_both, in_and_out_once, release_one, release_and_check, r};
    (void)kill_everywhere(&sleeper);
    EXPECT(pmap_semaphore_close(r->door), 0);
    (void)munmap(r, sizeof *r);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"five go in and out", five_go_in_and_out, PM_ON_THREADS | PM_ON_SHM},
        {"five without a pool", five_without_a_pool, PM_ON_THREADS | PM_ON_SHM},
        {"wrong use has a name", wrong_use_has_a_name, PM_ON_THREADS},
        {"permits of the dead come back", permits_of_the_dead_come_back, PM_ON_SHM},
        {"a waiter gets it by the death", a_waiter_gets_it_by_the_death, PM_ON_SHM},
        {"every instruction", every_instruction, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("semaphore", tests);
}

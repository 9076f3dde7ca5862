/* The lock: exclusion over processes, threads and a pool's workers, each wrong use by its name, and every way in
 * which an owner may end. The guarded thing is a pair of numbers that differ only while somebody changes them: who
 * finds them different must have been told. */
#include <math.h>

#include "tests/share.h"
#include "tests/step.h"

#define FIVE 5u
#define TIMES 100000

struct pair {
    pmap_lock *lock;
    long a, b;                 /* plain: the lock must order them */
    _Atomic uint32_t told;
};

/* ---- The race ---- */

static void count_up(void *arg, unsigned index)
{
    struct pair *p = arg;
    (void)index;
    for (int i = 0; i < TIMES; i++) {
        MUST_NOT(pmap_lock_acquire(p->lock, -1));
        p->a++;
        MUST_NOT(pmap_lock_release(p->lock));
    }
}

static void five_workers_count(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, FIVE);
    pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
    struct pair *p = pmap_alloc(pool, sizeof *p);
    assert_non_null(p);
    memset(p, 0, sizeof *p);
    o.pool = pool;
    EXPECT(pmap_lock_open(&p->lock, &o), 0);
    crew_of_workers(pool, FIVE, count_up, p);
    assert_int_equal(p->a, FIVE * TIMES);
    EXPECT(pmap_lock_close(p->lock), 0);
    EXPECT(pmap_lock_acquire(p->lock, 0), PMAP_EINVAL); /* its memory is still the pool's */
    pmap_free(pool, p);
    pm_path_close(pool);
}

static void five_without_a_pool(const struct pm_path *path)
{
    for (int recursive = 0; recursive < 2; recursive++) {
        pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
        struct pair *p = shared_memory(sizeof *p);
        o.recursive = recursive;
        EXPECT(pmap_lock_open(&p->lock, &o), 0);
        if (path->bit == PM_ON_THREADS) crew_of_threads(FIVE, count_up, p);
        else crew_of_processes(FIVE, count_up, p);
        assert_int_equal(p->a, FIVE * TIMES);
        EXPECT(pmap_lock_close(p->lock), 0);
        (void)munmap(p, sizeof *p);
    }
}

/* ---- Wrong use ---- */

static void *use_another_s(void *arg)
{
    pmap_lock *lock = arg;
    EXPECT(pmap_lock_release(lock), PMAP_EPERM);
    EXPECT(pmap_lock_acquire(lock, 0), PMAP_ETIMEDOUT);
    double t = seconds();
    EXPECT(pmap_lock_acquire(lock, 0.02), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.02);
    return NULL;
}

static void wrong_use_has_a_name(const struct pm_path *path)
{
    pmap_lock *lock = NULL, *recursive;
    pthread_t thread;
    (void)path;
    pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
    EXPECT(pmap_lock_open(NULL, NULL), PMAP_EINVAL);
    o.size = 3;
    EXPECT(pmap_lock_open(&lock, &o), PMAP_EINVAL);
    assert_null(lock);
    o.size = sizeof o;
    EXPECT(pmap_lock_open(&lock, NULL), 0);
    o.recursive = 1;
    EXPECT(pmap_lock_open(&recursive, &o), 0);
    EXPECT(pmap_lock_release(lock), PMAP_EPERM);
    EXPECT(pmap_lock_release(recursive), PMAP_EPERM);
    EXPECT(pmap_lock_acquire(lock, -1), 0);
    EXPECT(pmap_lock_acquire(lock, -1), PMAP_EDEADLOCK);
    EXPECT(pmap_lock_acquire(lock, 0), PMAP_EDEADLOCK);
    EXPECT(pmap_lock_acquire(lock, 0.5), PMAP_EDEADLOCK);
    for (int i = 0; i < 3; i++) EXPECT(pmap_lock_acquire(recursive, i - 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, use_another_s, lock), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, use_another_s, recursive), 0);
        pthread_join(thread, NULL);
        EXPECT(pmap_lock_release(recursive), 0);
    }
    EXPECT(pmap_lock_release(recursive), PMAP_EPERM);
    EXPECT(pmap_lock_release(lock), 0);
    EXPECT(pmap_lock_acquire(lock, (double)NAN), PMAP_EINVAL);
    EXPECT(pmap_lock_acquire(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_lock_release((pmap_lock *)(void *)&(char[256]){0}), PMAP_EINVAL);
    EXPECT(pmap_lock_acquire(lock, 1e300), 0);
    EXPECT(pmap_lock_close(lock), 0); /* lets go of it first */
    EXPECT(pmap_lock_acquire(recursive, -1), 0);
    EXPECT(pmap_lock_close(recursive), 0);
    EXPECT(pmap_lock_close(NULL), 0);
}

/* ---- Dead owners ---- */

static void take(void *arg)
{
    MUST_NOT(pmap_lock_acquire(arg, -1));
}

static void take_three_times(void *arg)
{
    for (int i = 0; i < 3; i++) take(arg);
}

static void a_dead_owner_is_told_once(const struct pm_path *path)
{
    (void)path;
    for (int recursive = 0; recursive < 2; recursive++)
        for (int death = 0; death < DEATHS; death++) {
            pmap_lock *lock;
            pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
            o.recursive = recursive;
            EXPECT(pmap_lock_open(&lock, &o), 0);
            pid_t pid = died_holding(death, recursive ? take_three_times : take, lock);
            int e = pmap_lock_acquire(lock, 10);
            if (e != PMAP_EOWNERDEAD) fail_msg("%s: %d %s", death_names[death], e, pmap_error());
            EXPECT_TEXT("died");
            if (!recursive) EXPECT(pmap_lock_acquire(lock, 0), PMAP_EDEADLOCK);
            EXPECT(pmap_lock_release(lock), 0);
            EXPECT(pmap_lock_release(lock), PMAP_EPERM);
            EXPECT(pmap_lock_acquire(lock, 0), 0); /* once */
            EXPECT(pmap_lock_release(lock), 0);
            kill_and_reap(pid);
            EXPECT(pmap_lock_close(lock), 0);
        }
}

static void take_over_and_die(void *arg)
{
    MUST_NOT(pmap_lock_acquire(arg, -1) != PMAP_EOWNERDEAD);
}

static void a_dead_repairer_is_told_too(const struct pm_path *path)
{
    (void)path;
    pmap_lock *lock;
    EXPECT(pmap_lock_open(&lock, NULL), 0);
    kill_and_reap(died_holding(BY_EXIT, take, lock));
    for (int i = 0; i < 3; i++) kill_and_reap(died_holding(i % 2, take_over_and_die, lock));
    EXPECT(pmap_lock_acquire(lock, -1), PMAP_EOWNERDEAD);
    EXPECT(pmap_lock_close(lock), 0);
}

static int wait_for_it(void *arg)
{
    int e = pmap_lock_acquire(arg, 20);
    return e == PMAP_EOWNERDEAD ? 42 : e == 0 ? 43 : 1;
}

static void a_waiter_is_woken_by_the_death(const struct pm_path *path)
{
    (void)path;
    pmap_lock *lock;
    EXPECT(pmap_lock_open(&lock, NULL), 0);
    EXPECT(pmap_lock_acquire(lock, 0), 0);
    pid_t waiter = start(wait_for_it, lock);
    wait_asleep(waiter);
    pid_t child = start(wait_for_it, lock); /* dies in its sleep: the other is not forgotten for that */
    wait_asleep(child);
    kill_and_reap(child);
    EXPECT(pmap_lock_release(lock), 0);
    assert_int_equal(WEXITSTATUS(end_of(waiter)), 43);
    EXPECT(pmap_lock_acquire(lock, 5), PMAP_EOWNERDEAD); /* the waiter exited with it */
    EXPECT(pmap_lock_release(lock), 0);
    EXPECT(pmap_lock_close(lock), 0);
}

static int child_of_an_owner(void *arg)
{
    if (pmap_lock_release(arg) != PMAP_EPERM) return 1;
    if (pmap_lock_acquire(arg, 0) != PMAP_ETIMEDOUT) return 2;
    if (pmap_lock_close(arg)) return 3;
    return 0;
}

static void a_forked_child_holds_nothing(const struct pm_path *path)
{
    (void)path;
    for (int recursive = 0; recursive < 2; recursive++) {
        pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
        pmap_lock *lock;
        o.recursive = recursive;
        EXPECT(pmap_lock_open(&lock, &o), 0);
        EXPECT(pmap_lock_acquire(lock, 0), 0);
        assert_int_equal(end_of(start(child_of_an_owner, lock)), 0);
        EXPECT(pmap_lock_release(lock), 0); /* still the parent's */
        EXPECT(pmap_lock_acquire(lock, 0), 0);
        EXPECT(pmap_lock_close(lock), 0);
    }
}

/* ---- A worker of a pool dies with it ---- */

static int die_once(pmap_task *task, const void *item, void *result)
{
    struct pair *p = *(struct pair *const *)item;
    (void)result;
    int e = pmap_lock_acquire(p->lock, -1);
    if (e == PMAP_EOWNERDEAD) {
        atomic_fetch_add(&p->told, 1);
        p->b = p->a;
    } else if (e) return 1;
    if (p->a != p->b) return 2;
    p->a++;
    if (pmap_task_index(task) % 10 == 3 && pmap_task_attempt(task) == 0) raise(SIGKILL);
    p->b++;
    return pmap_lock_release(p->lock) ? 3 : 0;
}

static void workers_die_holding_it(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct pair *p = pmap_alloc(pool, sizeof *p), *in[40];
    pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
    o.pool = pool;
    memset(p, 0, sizeof *p);
    EXPECT(pmap_lock_open(&p->lock, &o), 0);
    for (unsigned i = 0; i < 40; i++) in[i] = p;
    EXPECT(pmap_map(pool, die_once, in, 40, sizeof in[0], NULL, 0, NULL), 0);
    /* Each death is told, if only to whoever comes next. */
    assert_int_equal(atomic_load(&p->told), 4);
    assert_true(p->a == p->b && p->a >= 40 && p->a <= 44);
    EXPECT(pmap_lock_close(p->lock), 0);
    pmap_free(pool, p);
    pm_path_close(pool);
}

/* ---- A kill at any time, and at every instruction ---- */

/* Takes it, checks, changes both numbers.  Aborts when they differ and nobody said so. */
static void change(void *arg)
{
    struct pair *p = arg;
    int e = pmap_lock_acquire(p->lock, 20);
    if (e == PMAP_EOWNERDEAD) p->b = p->a;
    else MUST_NOT(e);
    MUST_NOT(p->a != p->b);
    p->a++;
    p->b++;
    MUST_NOT(pmap_lock_release(p->lock));
}

static _Noreturn int change_for_ever(void *arg)
{
    for (;;) change(arg);
}

static void a_storm_of_kills(const struct pm_path *path)
{
    (void)path;
    struct pair *p = shared_memory(sizeof *p);
    EXPECT(pmap_lock_open(&p->lock, NULL), 0);
    unsigned kills = storm_of_kills(change_for_ever, p);
    change(p);
    change(p);
    print_message("    %u kills, %ld changes\n", kills, p->a);
    assert_true(p->a == p->b && p->a > 2);
    EXPECT(pmap_lock_close(p->lock), 0);
    (void)munmap(p, sizeof *p);
}

static void after_the_kill(void *arg, unsigned k)
{
    struct pair *p = arg;
    int e = pmap_lock_acquire(p->lock, 10);
    if (e != 0 && e != PMAP_EOWNERDEAD) fail_msg("killed behind %u instructions: %d %s", k, e, pmap_error());
    if (e == PMAP_EOWNERDEAD) p->b = p->a;
    if (p->a != p->b) fail_msg("killed behind %u instructions: half changed, and nobody says so", k);
    EXPECT(pmap_lock_release(p->lock), 0);
}

static void every_instruction_when_free(const struct pm_path *path)
{
    (void)path;
    for (int recursive = 0; recursive < 2; recursive++) {
        struct pair *p = shared_memory(sizeof *p);
        pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
        o.recursive = recursive;
        EXPECT(pmap_lock_open(&p->lock, &o), 0);
        change(p);
        struct stepped s = {recursive ? "recursive" : "plain", NULL, NULL, change, NULL, after_the_kill, p};
        struct step_count n = kill_everywhere(&s);
        assert_int_equal(n.calls, 0); /* uncontended: no system call */
        EXPECT(pmap_lock_close(p->lock), 0);
        (void)munmap(p, sizeof *p);
    }
}

static void hold_it(void *arg) { EXPECT(pmap_lock_acquire(((struct pair *)arg)->lock, 10), 0); }
static void let_it_go(void *arg) { EXPECT(pmap_lock_release(((struct pair *)arg)->lock), 0); }

static void let_go_and_take(void *arg, unsigned k)
{
    (void)pmap_lock_release(((struct pair *)arg)->lock); /* unless it was let go of to wake the victim */
    after_the_kill(arg, k);
}

static void every_instruction_of_a_waiter(const struct pm_path *path)
{
    (void)path;
    struct pair *p = shared_memory(sizeof *p);
    EXPECT(pmap_lock_open(&p->lock, NULL), 0);
    change(p);
    struct stepped s = {"a waiter", NULL, hold_it, change, let_it_go, let_go_and_take, p};
    struct step_count n = kill_everywhere(&s);
    assert_true(n.calls >= 1); /* it slept */
    EXPECT(pmap_lock_close(p->lock), 0);
    (void)munmap(p, sizeof *p);
}

/* The victim lets go while another process waits for it. */
static pid_t waiting;

static int change_once(void *arg)
{
    change(arg);
    return 0;
}

static void half_change(void *arg)
{
    struct pair *p = arg;
    MUST_NOT(pmap_lock_acquire(p->lock, 10));
    p->a++;
}

static void begin_to_wait(void *arg)
{
    waiting = start(change_once, arg);
    wait_asleep(waiting);
}

static void change_the_rest(void *arg)
{
    struct pair *p = arg;
    p->b++;
    MUST_NOT(pmap_lock_release(p->lock));
}

static void both_are_right(void *arg, unsigned k)
{
    int status = end_of(waiting);
    if (status) fail_msg("killed behind %u instructions: the waiter ended with %#x", k, (unsigned)status);
    after_the_kill(arg, k);
}

static void every_instruction_of_a_waker(const struct pm_path *path)
{
    (void)path;
    struct pair *p = shared_memory(sizeof *p);
    EXPECT(pmap_lock_open(&p->lock, NULL), 0);
    half_change(p);
    change_the_rest(p);
    struct stepped s = {"a release with a waiter", half_change, begin_to_wait, change_the_rest, NULL, both_are_right, p};
    struct step_count n = kill_everywhere(&s);
    assert_true(n.calls == 1); /* it woke */
    EXPECT(pmap_lock_close(p->lock), 0);
    (void)munmap(p, sizeof *p);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"five workers count", five_workers_count, PM_ON_ALL},
        {"five without a pool", five_without_a_pool, PM_ON_THREADS | PM_ON_SHM},
        {"wrong use has a name", wrong_use_has_a_name, PM_ON_THREADS},
        {"a dead owner is told once", a_dead_owner_is_told_once, PM_ON_SHM},
        {"a dead repairer is told too", a_dead_repairer_is_told_too, PM_ON_SHM},
        {"a waiter is woken", a_waiter_is_woken_by_the_death, PM_ON_SHM},
        {"a forked child holds nothing", a_forked_child_holds_nothing, PM_ON_SHM},
        {"workers die holding it", workers_die_holding_it, PM_ON_SHARED},
        {"a storm of kills", a_storm_of_kills, PM_ON_SHM},
        {"every instruction when free", every_instruction_when_free, PM_ON_SHM},
        {"every instruction of a waiter", every_instruction_of_a_waiter, PM_ON_SHM},
        {"every instruction of a waker", every_instruction_of_a_waker, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("lock", tests);
}

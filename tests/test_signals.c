/* What is waited for without being held: the event and the condition.  No wake-up is lost, and a setter's or
 * notifier's death is no hang. */
#include "tests/share.h"
#include "tests/step.h"

#define MANY 300

struct scene {
    pmap_event *event, *other;
    pmap_lock *lock;
    pmap_condition *condition;
    long value; /* guarded by the lock */
    _Atomic uint32_t count, told;
};

static struct scene *open_scene(int recursive)
{
    struct scene *s = shared_memory(sizeof *s);
    pmap_lock_options o = PMAP_LOCK_OPTIONS_INIT;
    o.recursive = recursive;
    EXPECT(pmap_event_open(&s->event, NULL), 0);
    EXPECT(pmap_event_open(&s->other, NULL), 0);
    EXPECT(pmap_lock_open(&s->lock, &o), 0);
    EXPECT(pmap_condition_open(&s->condition, NULL), 0);
    return s;
}

static void close_scene(struct scene *s)
{
    EXPECT(pmap_event_close(s->event), 0);
    EXPECT(pmap_event_close(s->other), 0);
    EXPECT(pmap_lock_close(s->lock), 0);
    EXPECT(pmap_condition_close(s->condition), 0);
    (void)munmap(s, sizeof *s);
}

static void events_say_what_they_are(const struct pm_path *path)
{
    (void)path;
    struct scene *s = open_scene(0);
    assert_int_equal(pmap_event_is_set(s->event), 0);
    EXPECT(pmap_event_wait(s->event, 0), PMAP_ETIMEDOUT);
    double t = seconds();
    EXPECT(pmap_event_wait(s->event, 0.12), PMAP_ETIMEDOUT);
    assert_true(seconds() - t >= 0.12);
    EXPECT(pmap_event_set(s->event), 0);
    assert_int_equal(pmap_event_is_set(s->event), 1);
    for (int i = -1; i < 2; i++) EXPECT(pmap_event_wait(s->event, i), 0);
    EXPECT(pmap_event_clear(s->event), 0);
    EXPECT(pmap_event_wait(s->event, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_event_open(NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_event_set(NULL), PMAP_EINVAL);
    EXPECT(pmap_event_clear((pmap_event *)(void *)s->lock), PMAP_EINVAL);
    EXPECT(pmap_event_is_set(NULL), PMAP_EINVAL);
    EXPECT(pmap_event_wait(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_event_close(NULL), 0);
    close_scene(s);
}

/* Two answer each other: each sets the other's event and waits for its own.  A lost wake-up would cost a slice, and
 * 300 of them 15 s; a wait that ends for nothing leaves the other alone at the end. */
static void ping_pong(void *arg, unsigned index)
{
    struct scene *s = arg;
    pmap_event *mine = index ? s->event : s->other, *his = index ? s->other : s->event;
    for (int i = 0; i < MANY; i++) {
        MUST_NOT(index == 0 && pmap_event_set(his));
        MUST_NOT(pmap_event_wait(mine, 20) || pmap_event_clear(mine));
        MUST_NOT(index == 1 && pmap_event_set(his));
    }
}

static void two_answer_each_other(const struct pm_path *path)
{
    struct scene *s = open_scene(0);
    double t = seconds();
    if (path->bit == PM_ON_THREADS) crew_of_threads(2, ping_pong, s);
    else crew_of_processes(2, ping_pong, s);
    if (seconds() - t > 10) fail_msg("%d rounds took %.1f s: wake-ups are lost", MANY, seconds() - t);
    close_scene(s);
}

static int wait_for_the_event(void *arg) { return pmap_event_wait(((struct scene *)arg)->event, 20) != 0; }

static void a_pulse_wakes_all(const struct pm_path *path)
{
    (void)path;
    struct scene *s = open_scene(0);
    pid_t pids[3];
    for (int i = 0; i < 3; i++) wait_asleep(pids[i] = start(wait_for_the_event, s));
    EXPECT(pmap_event_set(s->event), 0);
    EXPECT(pmap_event_clear(s->event), 0); /* whoever has not looked yet goes on all the same */
    for (int i = 0; i < 3; i++) assert_int_equal(end_of(pids[i]), 0);
    close_scene(s);
}

/* ---- The condition ---- */

static void produce_and_consume(void *arg, unsigned index)
{
    struct scene *s = arg;
    for (int i = 0; i < MANY; i++) {
        MUST_NOT(pmap_lock_acquire(s->lock, 20));
        while ((s->value != 0) == (index == 0)) MUST_NOT(pmap_condition_wait(s->condition, s->lock, 20)); /* 0 fills, the others empty */
        s->value = index == 0 ? 1 : 0;
        MUST_NOT(pmap_condition_notify(s->condition, 0) || pmap_lock_release(s->lock));
    }
}

static void a_place_for_one(const struct pm_path *path)
{
    struct scene *s = open_scene(path->bit == PM_ON_SHM);
    double t = seconds();
    if (path->bit == PM_ON_THREADS) crew_of_threads(2, produce_and_consume, s);
    else crew_of_processes(2, produce_and_consume, s);
    if (seconds() - t > 10) fail_msg("%d values took %.1f s: wake-ups are lost", MANY, seconds() - t);
    assert_int_equal(s->value, 0);
    close_scene(s);
}

static void conditions_say_what_they_are(const struct pm_path *path)
{
    (void)path;
    struct scene *s = open_scene(1);
    EXPECT(pmap_condition_open(NULL, NULL), PMAP_EINVAL);
    EXPECT(pmap_condition_wait(s->condition, s->lock, 0), PMAP_EPERM);
    EXPECT(pmap_condition_wait(NULL, s->lock, 0), PMAP_EINVAL);
    EXPECT(pmap_condition_wait(s->condition, NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_condition_notify(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_condition_notify(s->condition, 1), 0); /* nobody waits */
    for (int i = 0; i < 3; i++) EXPECT(pmap_lock_acquire(s->lock, 0), 0);
    EXPECT(pmap_condition_wait(s->condition, s->lock, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_condition_wait(s->condition, s->lock, 0.01), PMAP_ETIMEDOUT);
    for (int i = 0; i < 3; i++) EXPECT(pmap_lock_release(s->lock), 0); /* held as often as before */
    EXPECT(pmap_lock_release(s->lock), PMAP_EPERM);
    EXPECT(pmap_condition_close(NULL), 0);
    close_scene(s);
}

static int wait_for_a_value(void *arg)
{
    struct scene *s = arg;
    int e = pmap_lock_acquire(s->lock, 20);
    if (e) return 1;
    while (s->value == 0) {
        e = pmap_condition_wait(s->condition, s->lock, 20);
        if (e == PMAP_EOWNERDEAD) {
            atomic_fetch_add(&s->told, 1);
            s->value = 99;
        } else if (e) return 2;
    }
    return pmap_lock_release(s->lock) ? 3 : 0;
}

static void die_with_the_lock(void *arg)
{
    MUST_NOT(pmap_lock_acquire(((struct scene *)arg)->lock, 20));
}

/* Nobody notifies, and nobody else takes the lock: one of those who wait finds out. */
static void a_notifier_dies_with_the_lock(const struct pm_path *path)
{
    (void)path;
    for (int death = 0; death < DEATHS; death++) {
        struct scene *s = open_scene(death % 2);
        pid_t pids[2];
        for (int i = 0; i < 2; i++) wait_asleep(pids[i] = start(wait_for_a_value, s));
        pid_t dead = died_holding(death, die_with_the_lock, s);
        for (int i = 0; i < 2; i++) assert_int_equal(end_of(pids[i]), 0);
        assert_int_equal(atomic_load(&s->told), 1);
        kill_and_reap(dead);
        close_scene(s);
    }
}

static void give_a_value(void *arg)
{
    struct scene *s = arg;
    int e = pmap_lock_acquire(s->lock, 20);
    MUST_NOT(e && e != PMAP_EOWNERDEAD);
    s->value = 1;
    MUST_NOT(pmap_lock_release(s->lock) || pmap_condition_notify(s->condition, 1) || pmap_event_set(s->event));
}

static pid_t value_waiter, event_waiter;

static void begin_waiting(void *arg)
{
    struct scene *s = arg;
    s->value = 0;
    (void)pmap_event_clear(s->event);
    wait_asleep(value_waiter = start(wait_for_a_value, s));
    wait_asleep(event_waiter = start(wait_for_the_event, s));
}

/* Wherever the notifier was killed: what it had changed the waiters find, and what it had not somebody else can. */
static void all_go_on(void *arg, unsigned k)
{
    struct scene *s = arg;
    int e = pmap_lock_acquire(s->lock, 10);
    if (e && e != PMAP_EOWNERDEAD) fail_msg("killed behind %u instructions: %d %s", k, e, pmap_error());
    bool given = s->value != 0;
    EXPECT(pmap_lock_release(s->lock), 0);
    if (!given) give_a_value(s);
    if (!pmap_event_is_set(s->event)) EXPECT(pmap_event_set(s->event), 0);
    int a = end_of(value_waiter), b = end_of(event_waiter);
    if (a || b) fail_msg("killed behind %u instructions: the waiters ended with %#x and %#x", k, (unsigned)a, (unsigned)b);
}

static void every_instruction_of_a_notifier(const struct pm_path *path)
{
    (void)path;
    struct scene *s = open_scene(0);
    give_a_value(s);
    struct stepped step = {"change, notify, set", NULL, begin_waiting, give_a_value, NULL, all_go_on, s};
    (void)kill_everywhere(&step);
    close_scene(s);
}

static void on_a_pool(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 2);
    struct scene *s = pmap_alloc(pool, sizeof *s);
    assert_non_null(s);
    memset(s, 0, sizeof *s);
    pmap_lock_options lo = PMAP_LOCK_OPTIONS_INIT;
    pmap_event_options eo = PMAP_EVENT_OPTIONS_INIT;
    pmap_condition_options co = PMAP_CONDITION_OPTIONS_INIT;
    lo.pool = eo.pool = co.pool = pool;
    EXPECT(pmap_lock_open(&s->lock, &lo), 0);
    EXPECT(pmap_event_open(&s->event, &eo), 0);
    EXPECT(pmap_event_open(&s->other, &eo), 0);
    EXPECT(pmap_condition_open(&s->condition, &co), 0);
    crew_of_workers(pool, 2, produce_and_consume, s);
    crew_of_workers(pool, 2, ping_pong, s);
    EXPECT(pmap_condition_close(s->condition), 0);
    EXPECT(pmap_event_close(s->other), 0);
    EXPECT(pmap_event_close(s->event), 0);
    EXPECT(pmap_lock_close(s->lock), 0);
    pmap_free(pool, s);
    pm_path_close(pool);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"events say what they are", events_say_what_they_are, PM_ON_THREADS},
        {"two answer each other", two_answer_each_other, PM_ON_THREADS | PM_ON_SHM},
        {"a pulse wakes all", a_pulse_wakes_all, PM_ON_SHM},
        {"a place for one", a_place_for_one, PM_ON_THREADS | PM_ON_SHM},
        {"conditions say what they are", conditions_say_what_they_are, PM_ON_THREADS},
        {"a notifier dies with the lock", a_notifier_dies_with_the_lock, PM_ON_SHM},
        {"every instruction of a notifier", every_instruction_of_a_notifier, PM_ON_SHM},
        {"on a pool", on_a_pool, PM_ON_SHM | PM_ON_THREADS},
    };
    return PM_PATHS_MAIN("signals", tests);
}

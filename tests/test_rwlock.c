/* The read-write lock: readers share, a writer is alone, a dead reader is nothing, a dead writer is told to whoever
 * comes first. */
#include "tests/share.h"
#include "tests/step.h"

struct pair {
    pmap_rwlock *lock;
    long a, b; /* plain: they differ only while a writer changes them */
    _Atomic uint32_t readers, together;
};

static void open_pair(struct pair *p, pmap_pool *pool, unsigned readers)
{
    pmap_rwlock_options o = PMAP_RWLOCK_OPTIONS_INIT;
    memset(p, 0, sizeof *p);
    o.pool = pool;
    o.readers = readers;
    EXPECT(pmap_rwlock_open(&p->lock, &o), 0);
}

static void write_once(void *arg)
{
    struct pair *p = arg;
    int e = pmap_rwlock_write(p->lock, 20);
    if (e == PMAP_EOWNERDEAD) p->b = p->a;
    else MUST_NOT(e);
    MUST_NOT(p->a != p->b);
    p->a++;
    p->b++;
    MUST_NOT(pmap_rwlock_release(p->lock));
}

static void read_once(void *arg)
{
    struct pair *p = arg;
    int e = pmap_rwlock_read(p->lock, 20);
    if (e == PMAP_EOWNERDEAD) p->b = p->a; /* held for writing */
    else MUST_NOT(e);
    MUST_NOT(p->a != p->b);
    MUST_NOT(pmap_rwlock_release(p->lock));
}

static void read_and_write(void *arg, unsigned index)
{
    for (unsigned i = 0; i < 1000; i++) (i + index) % 8 == 0 ? write_once(arg) : read_once(arg);
}

static void five_read_and_write(const struct pm_path *path)
{
    pmap_pool *pool = pm_path_open(path, 5);
    struct pair *p = pmap_alloc(pool, sizeof *p);
    assert_non_null(p);
    for (unsigned readers = 0; readers <= 2; readers++) { /* 32, 1 and 2 places */
        open_pair(p, pool, readers);
        crew_of_workers(pool, 5, read_and_write, p);
        assert_int_equal(p->a, 5 * 125);
        assert_int_equal(p->b, 5 * 125);
        EXPECT(pmap_rwlock_close(p->lock), 0);
    }
    pmap_free(pool, p);
    pm_path_close(pool);
}

static void *as_another(void *arg)
{
    struct pair *p = arg;
    EXPECT(pmap_rwlock_release(p->lock), PMAP_EPERM);
    EXPECT(pmap_rwlock_write(p->lock, 0), PMAP_ETIMEDOUT);
    EXPECT(pmap_rwlock_write(p->lock, 0.02), PMAP_ETIMEDOUT);
    int e = pmap_rwlock_read(p->lock, 0.02);
    if (e == 0) EXPECT(pmap_rwlock_release(p->lock), 0);
    EXPECT(pmap_rwlock_release(p->lock), PMAP_EPERM);
    return (void *)(intptr_t)e;
}

static int by_another(struct pair *p)
{
    pthread_t thread;
    void *value;
    assert_int_equal(pthread_create(&thread, NULL, as_another, p), 0);
    pthread_join(thread, &value);
    return (int)(intptr_t)value;
}

static void wrong_use_has_a_name(const struct pm_path *path)
{
    (void)path;
    struct pair p;
    pmap_rwlock_options o = PMAP_RWLOCK_OPTIONS_INIT;
    o.readers = 1025;
    EXPECT(pmap_rwlock_open(&p.lock, &o), PMAP_EINVAL);
    EXPECT(pmap_rwlock_open(NULL, NULL), PMAP_EINVAL);
    open_pair(&p, NULL, 2);
    EXPECT(pmap_rwlock_release(p.lock), PMAP_EPERM);
    EXPECT(pmap_rwlock_write(p.lock, 0), 0);
    EXPECT(pmap_rwlock_write(p.lock, -1), PMAP_EDEADLOCK);
    EXPECT(pmap_rwlock_read(p.lock, -1), PMAP_EDEADLOCK);
    assert_int_equal(by_another(&p), PMAP_ETIMEDOUT);
    EXPECT(pmap_rwlock_release(p.lock), 0);
    EXPECT(pmap_rwlock_read(p.lock, -1), 0);
    EXPECT(pmap_rwlock_write(p.lock, -1), PMAP_EDEADLOCK);
    assert_int_equal(by_another(&p), 0); /* there is a second place */
    EXPECT(pmap_rwlock_read(p.lock, 0), 0);
    EXPECT(pmap_rwlock_read(p.lock, -1), PMAP_EDEADLOCK); /* all places are the caller's */
    assert_int_equal(by_another(&p), PMAP_ETIMEDOUT);
    EXPECT(pmap_rwlock_release(p.lock), 0);
    EXPECT(pmap_rwlock_release(p.lock), 0);
    EXPECT(pmap_rwlock_release(p.lock), PMAP_EPERM);
    EXPECT(pmap_rwlock_read(NULL, 0), PMAP_EINVAL);
    EXPECT(pmap_rwlock_write(p.lock, 0), 0);
    EXPECT(pmap_rwlock_close(p.lock), 0);
    EXPECT(pmap_rwlock_close(NULL), 0);
}

static void hold_reading(void *arg)
{
    MUST_NOT(pmap_rwlock_read(arg, 20));
}

static void hold_writing(void *arg)
{
    MUST_NOT(pmap_rwlock_write(arg, 20));
}

static void a_dead_reader_is_nothing(const struct pm_path *path)
{
    (void)path;
    for (int death = 0; death < DEATHS; death++) {
        struct pair p;
        open_pair(&p, NULL, 1);
        pid_t pid = died_holding(death, hold_reading, p.lock);
        EXPECT(pmap_rwlock_read(p.lock, 10), 0);
        EXPECT(pmap_rwlock_release(p.lock), 0);
        kill_and_reap(pid);
        pid = died_holding(death, hold_reading, p.lock);
        EXPECT(pmap_rwlock_write(p.lock, 10), 0);
        EXPECT(pmap_rwlock_release(p.lock), 0);
        kill_and_reap(pid);
        EXPECT(pmap_rwlock_close(p.lock), 0);
    }
}

static void a_dead_writer_is_told_once(const struct pm_path *path)
{
    (void)path;
    for (int death = 0; death < DEATHS; death++)
        for (int reader = 0; reader < 2; reader++) {
            struct pair p;
            open_pair(&p, NULL, 3);
            pid_t pid = died_holding(death, hold_writing, p.lock);
            int e = reader ? pmap_rwlock_read(p.lock, 10) : pmap_rwlock_write(p.lock, 10);
            if (e != PMAP_EOWNERDEAD) fail_msg("%s, reader %d: %d %s", death_names[death], reader, e, pmap_error());
            assert_int_equal(by_another(&p), PMAP_ETIMEDOUT); /* held for writing either way */
            EXPECT(pmap_rwlock_release(p.lock), 0);
            EXPECT(pmap_rwlock_read(p.lock, 0), 0); /* once */
            EXPECT(pmap_rwlock_release(p.lock), 0);
            EXPECT(pmap_rwlock_write(p.lock, 0), 0);
            EXPECT(pmap_rwlock_release(p.lock), 0);
            kill_and_reap(pid);
            EXPECT(pmap_rwlock_close(p.lock), 0);
        }
}

static int write_in_time(void *arg)
{
    int e = pmap_rwlock_write(arg, 20);
    return e ? 1 : pmap_rwlock_release(arg) ? 2 : 0;
}

static void a_waiting_writer_keeps_readers_out(const struct pm_path *path)
{
    (void)path;
    struct pair p;
    open_pair(&p, NULL, 2);
    EXPECT(pmap_rwlock_read(p.lock, 0), 0);
    pid_t writer = start(write_in_time, p.lock);
    wait_asleep(writer);
    assert_int_equal(by_another(&p), PMAP_ETIMEDOUT);
    EXPECT(pmap_rwlock_release(p.lock), 0);
    assert_int_equal(end_of(writer), 0);
    EXPECT(pmap_rwlock_read(p.lock, 0), 0);
    writer = start(write_in_time, p.lock);
    wait_asleep(writer);
    kill_and_reap(writer); /* in its wait: nobody is kept out for that */
    assert_int_equal(by_another(&p), 0);
    EXPECT(pmap_rwlock_close(p.lock), 0);
}

static _Noreturn int read_and_write_for_ever(void *arg)
{
    for (unsigned i = 0;; i++) i % 4 == 0 ? write_once(arg) : read_once(arg);
}

static void a_storm_of_kills(const struct pm_path *path)
{
    (void)path;
    struct pair *p = shared_memory(sizeof *p);
    open_pair(p, NULL, 4);
    unsigned kills = storm_of_kills(read_and_write_for_ever, p);
    read_once(p);
    write_once(p);
    print_message("    %u kills, %ld changes\n", kills, p->a);
    assert_int_equal(p->a, p->b);
    EXPECT(pmap_rwlock_close(p->lock), 0);
    (void)munmap(p, sizeof *p);
}

static void read_then_write(void *arg, unsigned k)
{
    (void)k;
    read_once(arg); /* these abort when something is half changed and nobody says so, or when it takes 20 s */
    write_once(arg);
}

static void every_instruction(const struct pm_path *path)
{
    (void)path;
    struct pair *p = shared_memory(sizeof *p);
    open_pair(p, NULL, 2);
    read_once(p);
    write_once(p);
    struct stepped r = {"read", NULL, NULL, read_once, NULL, read_then_write, p};
    struct stepped w = {"write", NULL, NULL, write_once, NULL, read_then_write, p};
    struct step_count n = kill_everywhere(&r);
    assert_int_equal(n.calls, 0);
    n = kill_everywhere(&w);
    assert_int_equal(n.calls, 0);
    EXPECT(pmap_rwlock_close(p->lock), 0);
    (void)munmap(p, sizeof *p);
}

int main(void)
{
    static const struct pm_path_test tests[] = {
        {"five read and write", five_read_and_write, PM_ON_THREADS | PM_ON_SHM},
        {"wrong use has a name", wrong_use_has_a_name, PM_ON_THREADS},
        {"a dead reader is nothing", a_dead_reader_is_nothing, PM_ON_SHM},
        {"a dead writer is told once", a_dead_writer_is_told_once, PM_ON_SHM},
        {"a waiting writer keeps readers out", a_waiting_writer_keeps_readers_out, PM_ON_SHM},
        {"a storm of kills", a_storm_of_kills, PM_ON_SHM},
        {"every instruction", every_instruction, PM_ON_SHM},
    };
    return PM_PATHS_MAIN("rwlock", tests);
}

/* The protocol of workers/tasks.h where threads or processes would meet by luck only: one thread plays both sides. */
#include "tests/harness.h"
#include "workers/desk.h"
#include "workers/job.h"

#include <string.h>

#define WORKERS 2u

static struct {
    struct pm_arena arena;
    struct pm_event work;
    struct pm_tasks *tasks;
    struct pm_desk desk;
    struct pm_spot spot[WORKERS];
    struct pm_hand hand[WORKERS];
    _Atomic uint64_t progress;
    unsigned ran[WORKERS];  /* by which worker */
    unsigned again;         /* so many times more an entry is given in as soon as its word says that it is done */
    uint32_t index, turn;
} s;

static int count(struct pm_run *run, struct pm_entry *entry)
{
    (void)entry;
    s.ran[run->worker]++;
    return 0;
}

/* The next errand of this worker, as pmap/ fills it. */
static void give(unsigned worker)
{
    assert_int_equal(pm_desk_take(&s.desk, &s.index, &s.turn), 0);
    struct pm_entry *e = &s.tasks->entry[s.index];
    e->run = count;
    e->retries = 2;
    atomic_store(&e->errand, worker + 1);
    pm_task_errand(s.tasks, s.index, s.turn, worker);
}

/* The last step of a worker in a task: the application has its end already, and goes on at once. */
static void application(struct pm_hand *hand)
{
    assert_true(pm_task_terminal(&s.tasks->entry[s.index], s.turn));
    atomic_fetch_sub(&s.tasks->errands, 1);
    pm_desk_give(&s.desk, s.index);
    if (s.again) {
        s.again--;
        give(hand->index);
    }
    atomic_store(&s.tasks->bell, 1);
}

static int set_up(void **state)
{
    (void)state;
    memset(&s, 0, sizeof s);
    assert_int_equal(pm_arena_open(&s.arena, pm_tasks_bytes(WORKERS), 1 << 21, false), 0);
    assert_int_equal(pm_tasks_open(&s.tasks, &s.arena, 0, WORKERS, WORKERS, &s.work), 0);
    pm_desk_open(&s.desk, s.tasks, &s.arena, -1);
    for (unsigned i = 0; i < WORKERS; i++) {
        pm_hand_init(&s.hand[i], s.tasks, i, pm_owner(i, 1), &s.spot[i], &s.progress);
        s.hand[i].ring = application;
    }
    atomic_store(&s.tasks->bell, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pm_desk_close(&s.desk);
    pm_arena_close(&s.arena);
    return 0;
}

/* The same entry is the same worker's next errand before it has come out of the last one. */
static void one_errand_after_the_other(void **state)
{
    (void)state;
    s.again = 3;
    give(1);
    uint32_t first = s.index;
    assert_false(pm_task_work(&s.hand[0])); /* not meant */
    for (unsigned n = 1; n <= 4; n++) {
        if (!pm_task_work(&s.hand[1])) fail_msg("errand %u of 4 is lost", n);
        assert_int_equal(s.ran[1], n);
        assert_int_equal(s.index, first);
    }
    assert_false(pm_task_work(&s.hand[1]));
    assert_int_equal(s.ran[0], 0);
    assert_false(pm_task_waiting(s.tasks));
}

/* Its worker dies over it, in any stage: who replaces that one runs it, and no other. */
static void an_errand_outlives_its_worker(void **state)
{
    (void)state;
    for (unsigned claimed = 0; claimed < 2; claimed++) {
        struct pm_death death = {.slot = 1, .gen = 1, .cause = PM_SIGNAL, .value = 9, .charged = true};
        unsigned before = s.ran[1];
        give(1);
        struct pm_entry *e = &s.tasks->entry[s.index];
        atomic_store(&s.spot[1].task, s.index + 1);
        if (claimed) atomic_store(&e->word, pm_word(PM_CLAIMED, 0, pm_owner(1, 1), s.turn));
        pm_task_repair(s.tasks, &death, &s.spot[1]);
        assert_int_equal(pm_word_state(atomic_load(&e->word)), PM_FREE);
        assert_int_equal(pm_word_attempt(atomic_load(&e->word)), claimed);
        assert_false(pm_task_work(&s.hand[0]));
        assert_true(pm_task_work(&s.hand[1]));
        assert_int_equal(s.ran[1], before + 1);
        assert_false(pm_task_work(&s.hand[1]));
    }
}

/* What was taken back is no errand any more, although its mark is still there. */
static void a_cancelled_errand(void **state)
{
    (void)state;
    give(0);
    assert_true(pm_task_cancel(s.tasks, s.index, s.turn));
    assert_false(pm_task_work(&s.hand[0]));
    assert_int_equal(s.ran[0], 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_errand_after_the_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_errand_outlives_its_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_errand, set_up, tear_down),
    };
    return PM_TEST_MAIN("tasks", tests);
}

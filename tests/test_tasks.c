/* The table of tasks by itself, without a pool: what must hold at one instant of the protocol that a pool seldom meets. */
#include <string.h>

#include "shm/heap.h"
#include "tests/harness.h"
#include "workers/job.h"
#include "workers/tasks.h"

static struct pm_arena arena;
static struct pm_tasks *tasks;
static struct pm_event work;
static struct pm_spot spot;
static _Atomic uint64_t progress;
static unsigned runs, sent;

static int run(struct pm_run *r, struct pm_entry *e)
{
    (void)r, (void)e;
    runs++;
    return 0;
}

static void errand(uint32_t turn)
{
    struct pm_entry *e = &tasks->entry[0];
    e->run = run;
    atomic_store(&e->errand, 1);
    sent++;
    pm_task_errand(tasks, 0, turn, 0);
}

/* The application, the moment that it is told of an end: it has seen it, has used the entry again, and sends the same worker there. */
static void again(struct pm_hand *hand)
{
    (void)hand;
    errand(2);
}

static void open_tasks(struct pm_hand *hand)
{
    assert_int_equal(pm_arena_open(&arena, 2 * pm_tasks_bytes(1), 16 << 20, false), 0);
    assert_int_equal(pm_tasks_open(&tasks, &arena, 0, 1, 1, &work), 0);
    assert_int_equal(pm_arena_commit(&arena, (size_t)((char *)tasks->entry - arena.base), 4096), 0);
    runs = sent = 0;
    spot = (struct pm_spot){0};
    pm_hand_init(hand, tasks, 0, pm_owner(0, 1), &spot, &progress);
    hand->ring = again;
}

static void an_errand_behind_an_errand(void **state)
{
    (void)state;
    struct pm_hand hand;
    open_tasks(&hand);
    atomic_store(&tasks->bell, 1);
    errand(1);
    assert_true(pm_task_work(&hand));
    assert_int_equal(sent, 2);
    assert_true(pm_task_work(&hand)); /* the second was not wiped away with the mark of the first */
    assert_int_equal(runs, 2);
    (void)pm_task_work(&hand); /* at most a look at what is over */
    assert_int_equal(runs, 2);
    assert_int_equal(atomic_load(&tasks->hints[0].errand), 0);
    pm_arena_close(&arena);
}

/* The same where the worker has died over the first, behind its commit. */
static void an_errand_behind_a_death(void **state)
{
    (void)state;
    struct pm_hand hand;
    struct pm_death death = {.slot = 0, .gen = 1, .cause = PM_SIGNAL, .value = 9, .charged = true};
    open_tasks(&hand);
    errand(1);
    atomic_store(&tasks->entry[0].word, pm_word(PM_DONE, 0, pm_owner(0, 1), 1));
    atomic_store(&spot.task, 1);
    pm_task_repair(tasks, &death, &spot);
    assert_int_equal(atomic_load(&tasks->hints[0].errand), 0);
    /* Claimed: the mark stays, for the next worker in this place. */
    errand(2);
    atomic_store(&tasks->entry[0].word, pm_word(PM_CLAIMED, 0, pm_owner(0, 1), 2));
    atomic_store(&spot.task, 1);
    death.charged = false;
    pm_task_repair(tasks, &death, &spot);
    assert_true(pm_task_work(&hand));
    assert_int_equal(runs, 1);
    pm_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_errand_behind_an_errand),
        cmocka_unit_test(an_errand_behind_a_death),
    };
    return PM_TEST_MAIN("tasks", tests);
}

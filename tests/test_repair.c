/* The protocol of workers/DESIGN.md when workers die: what a repair gives back, and that nothing is lost or done
 * twice. */
#include "tests/scene.h"

static uint64_t in_bulk(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    for (uint64_t i = lo; i < hi; i++) maybe_die(run, i, atomic_fetch_add(&s.begun[i], 1));
    for (uint64_t i = lo; i < hi; i++) atomic_fetch_add(&s.done[i], 1);
    return hi;
}

/* ---- Deaths by hand: what the dead left behind is put there word by word ---- */

static struct pm_death death_of(unsigned slot)
{
    return (struct pm_death){.slot = slot, .gen = 1, .cause = PM_SIGNAL, .value = 11, .charged = true};
}

static void claim_by_hand(unsigned slot, uint32_t chunk, unsigned attempt, uint64_t from, uint64_t item, uint32_t exact)
{
    struct pm_spot *spot = &s.board->slot[slot].spot;
    uint32_t round = pm_word_round(atomic_load(s.job->head));
    atomic_store(&s.job->word[chunk], pm_word(PM_CLAIMED, attempt, pm_owner(slot, 1), round));
    atomic_store(&spot->from, from);
    atomic_store(&spot->item, item);
    atomic_store(&spot->exact, exact);
    atomic_store(&spot->chunk, chunk);
}

static void expect_word(uint32_t chunk, enum pm_state state, unsigned attempt, uint32_t offset)
{
    uint64_t w = atomic_load(&s.job->word[chunk]);
    assert_int_equal(pm_word_state(w), state);
    if (state != PM_FREE) return;
    assert_int_equal(pm_word_attempt(w), attempt);
    assert_int_equal(pm_word_offset(w), offset);
}

/* A new job of 100 items in 10 chunks. */
static void scene_of_ten_chunks(enum pm_how how, uint8_t retries, bool once)
{
    struct pm_work work = work_of(100, 10);
    work.how = how;
    work.retries = retries;
    work.once = once;
    if (how == PM_HOW_BULK) work.body.run = in_bulk;
    open_job(&work);
}

static void expect_failure(uint64_t item, uint64_t count, unsigned attempts)
{
    struct pm_failure *f;
    size_t n;
    assert_int_equal(failures_of(s.job, &f, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(f->item, item);
    assert_int_equal(f->count, count);
    assert_int_equal(f->cause, PM_SIGNAL);
    assert_int_equal(f->value, 11);
    assert_int_equal(f->attempts, attempts);
    free(f);
}

/* Chunk 4 or 9 of ten was held, in such a state; what its word must say then, and what, if anything, must have failed. */
struct held {
    enum pm_how how;
    uint8_t retries;
    bool once, late;     /* late: killed for an item that was over */
    uint32_t chunk;
    unsigned attempt;
    uint64_t from, item;
    uint32_t exact;
    enum pm_state state; /* expected */
    unsigned attempts;
    uint32_t offset;
    uint64_t failed, count;
    unsigned runs;       /* of what failed; 0 = nothing did */
};

static void repair_of(const struct held *h)
{
    struct pm_death death = death_of(5);
    death.charged = !h->late;
    scene_of_ten_chunks(h->how, h->retries, h->once);
    claim_by_hand(5, h->chunk, h->attempt, h->from, h->item, h->exact);
    assert_int_equal(pm_job_repair(s.board, s.job, &death), 1);
    expect_word(h->chunk, h->state, h->attempts, h->offset);
    assert_int_equal(atomic_load(&s.job->deaths), 1);
    assert_int_equal(atomic_load(&s.job->retries), h->runs ? 0 : 1);
    run_to_the_end(2);
    /* What it had done before it died is not done again, and what failed is not run. */
    for (uint64_t i = 0; i < 100; i++) {
        bool before = i / 10 == h->chunk && (h->state == PM_DONE || i % 10 < h->offset);
        assert_int_equal(atomic_load(&s.done[i]), before ? 0 : 1);
    }
    if (h->runs) expect_failure(h->failed, h->count, h->runs);
    else no_failures();
    pm_job_close(s.job);
}

static void a_chunk_resumes_at_the_item_of_the_death(void **state)
{
    (void)state;
    open_scene(2);
    /* At its first death: the item runs again. */
    repair_of(&(struct held){.retries = 2, .chunk = 4, .from = 40, .item = 47, .exact = 1,
                             .state = PM_FREE, .attempts = 1, .offset = 7});
    /* The third death at one item: it has failed, and the chunk goes on behind it. */
    repair_of(&(struct held){.retries = 2, .chunk = 4, .attempt = 2, .from = 47, .item = 47, .exact = 1,
                             .state = PM_FREE, .offset = 8, .failed = 47, .count = 1, .runs = 3});
    /* The last of its chunk: nothing is left to resume. */
    repair_of(&(struct held){.chunk = 9, .from = 90, .item = 99, .exact = 1,
                             .state = PM_DONE, .failed = 99, .count = 1, .runs = 1});
    /* Another item than the one that was retried: it begins with its own count. */
    repair_of(&(struct held){.retries = 2, .chunk = 4, .attempt = 2, .from = 43, .item = 45, .exact = 1,
                             .state = PM_FREE, .attempts = 1, .offset = 5});
    /* Killed for an item that was over: nobody is charged. */
    repair_of(&(struct held){.late = true, .chunk = 4, .from = 40, .item = 45, .exact = 1, .state = PM_FREE, .offset = 5});
    /* Once: what a death interrupts has failed. */
    repair_of(&(struct held){.once = true, .chunk = 4, .from = 40, .item = 45, .exact = 1,
                             .state = PM_FREE, .offset = 6, .failed = 45, .count = 1, .runs = 1});
    close_scene();
}

static void a_chunk_function_is_charged_as_a_whole(void **state)
{
    (void)state;
    open_scene(2);
    repair_of(&(struct held){.how = PM_HOW_BULK, .retries = 2, .chunk = 4, .from = 40, .item = 40,
                             .state = PM_FREE, .attempts = 1});
    repair_of(&(struct held){.how = PM_HOW_BULK, .once = true, .chunk = 4, .from = 40, .item = 40,
                             .state = PM_DONE, .failed = 40, .count = 10, .runs = 1});
    close_scene();
}

static void only_what_the_dead_held_is_given_back(void **state)
{
    (void)state;
    open_scene(2);
    struct pm_death death = death_of(5);
    scene_of_ten_chunks(PM_HOW_ITEMS, 2, false);
    uint32_t round = pm_word_round(atomic_load(s.job->head));
    uint64_t living = pm_word(PM_CLAIMED, 0, pm_owner(4, 1), round), next_life = pm_word(PM_CLAIMED, 0, pm_owner(5, 2),
                                                                                         round),
             old = pm_word(PM_CLAIMED, 0, pm_owner(5, 1), round - 1), done = pm_word(PM_DONE, 0, pm_owner(5, 1), round);
    atomic_store(&s.job->word[0], living);
    atomic_store(&s.job->word[1], next_life);
    atomic_store(&s.job->word[2], old);
    atomic_store(&s.job->word[3], done);
    assert_int_equal(pm_job_repair(s.board, s.job, &death), 0);
    assert_int_equal(atomic_load(&s.job->word[0]), living);
    assert_int_equal(atomic_load(&s.job->word[1]), next_life);
    assert_int_equal(atomic_load(&s.job->word[2]), old);
    assert_int_equal(atomic_load(&s.job->word[3]), done);
    pm_job_close(s.job); /* a closed job has nothing to give back */
    assert_int_equal(pm_job_repair(s.board, s.job, &death), 0);
    close_scene();
}

/* What the dead wrote over its own spot leads nowhere: the chunk runs again from its start. */
static void a_spot_that_makes_no_sense(void **state)
{
    (void)state;
    static const uint64_t nonsense[] = {0, 39, 50, 99, 1000, UINT64_MAX, UINT64_MAX - 5};
    open_scene(2);
    struct pm_death death = death_of(5);
    for (size_t i = 0; i < 49; i++) {
        uint64_t from = nonsense[i % 7], item = nonsense[i / 7];
        scene_of_ten_chunks(PM_HOW_ITEMS, 2, false);
        claim_by_hand(5, 4, 0, from, item, i % 2);
        if (i % 3 == 0) atomic_store(&s.board->slot[5].spot.chunk, 77);
        assert_int_equal(pm_job_repair(s.board, s.job, &death), 1);
        expect_word(4, PM_FREE, 1, 0);
        run_to_the_end(2);
        all_done_once(100);
        no_failures();
        pm_job_close(s.job);
    }
    close_scene();
}

/* Died between pop and claim: the range says that the chunk is somebody's, its word says FREE. */
static void popped_and_never_claimed(void **state)
{
    (void)state;
    open_scene(2);
    struct pm_death death = death_of(1);
    for (uint32_t lost = 1; lost <= 5; lost++) {
        scene_of_ten_chunks(PM_HOW_ITEMS, 2, false);
        uint32_t round = pm_word_round(atomic_load(s.job->head));
        uint64_t own = pm_range_first(1, s.job->spread, 10, round);
        atomic_store(&s.job->range[1].v, pm_range(pm_range_lo(own) + lost, pm_range_hi(own), round));
        (void)pm_job_repair(s.board, s.job, &death);
        run_to_the_end(1);
        all_done_once(100);
        pm_job_close(s.job);
    }
    close_scene();
}

/* Died after the last commit and before the count, or while it prepared the next round. */
static void died_at_the_end_of_a_round(void **state)
{
    (void)state;
    open_scene(2);
    struct pm_death death = death_of(5);
    for (int moving = 0; moving < 2; moving++) {
        struct pm_work work = work_of(PM_WINDOW + 100u, 1); /* two rounds */
        open_job(&work);
        uint64_t head = atomic_load(s.job->head);
        uint32_t round = pm_word_round(head);
        for (uint32_t i = 0; i < PM_WINDOW; i++) {
            atomic_store(&s.job->word[i], pm_word(PM_DONE, 0, pm_owner(5, 1), round));
            atomic_store(&s.done[i], 1);
        }
        for (uint32_t i = 0; i < s.job->spread; i++) atomic_store(&s.job->range[i].v, pm_range(3, 3, round));
        if (moving) atomic_store(s.job->head, pm_word(PM_MOVING, 0, pm_owner(5, 1), round));
        assert_int_equal(pm_job_repair(s.board, s.job, &death), 0);
        assert_int_equal(atomic_load(s.job->head), head);
        run_to_the_end(2);
        all_done_once(PM_WINDOW + 100u);
        pm_job_close(s.job);
    }
    close_scene();
}

/* A stopped job waits for what is claimed; when its owner dies, the repair lets it end. */
static void died_in_a_stopped_job(void **state)
{
    (void)state;
    open_scene(2);
    struct pm_death death = death_of(5);
    scene_of_ten_chunks(PM_HOW_ITEMS, 2, false);
    claim_by_hand(5, 4, 0, 40, 43, 1);
    pm_job_stop(s.board, s.job);
    assert_false(pm_job_finished(s.job));
    assert_int_equal(pm_job_repair(s.board, s.job, &death), 1);
    assert_true(pm_job_finished(s.job));
    struct pm_failure *f;
    size_t n;
    uint64_t cancelled = 0;
    assert_int_equal(failures_of(s.job, &f, &n), 0);
    for (size_t k = 0; k < n; k++) cancelled += f[k].count;
    assert_int_equal(cancelled, 97); /* all but the three that it had done */
    free(f);
    pm_job_close(s.job);
    close_scene();
}

/* ---- Deaths of threads ---- */

/* One item in 61 takes its worker along the first time. */
static void many_die(void **state)
{
    (void)state;
    static const uint64_t chunks[] = {0, 1, 10, 100};
    open_scene(4);
    s.die = DIE_ONCE;
    uint64_t count = 6000 / FEWER, deaths = 0;
    for (uint64_t i = 0; i < count; i++) deaths += hash(i) % 61 == 0;
    for (size_t c = 0; c < 4; c++) {
        struct pm_work work = work_of(count, chunks[c]);
        struct pm_cost cost = {0};
        open_job(&work);
        run_to_the_end(4);
        all_done_once(count);
        for (uint64_t i = 0; i < count; i++) assert_int_equal(atomic_load(&s.begun[i]), hash(i) % 61 == 0 ? 2 : 1);
        no_failures();
        pm_job_cost(s.job, &cost, pm_now());
        assert_int_equal(cost.deaths, deaths);
        assert_int_equal(cost.retries, deaths);
        pm_job_close(s.job);
    }
    close_scene();
}

static void a_poison_item(void **state)
{
    (void)state;
    static const uint64_t chunks[] = {0, 1, 64, 3000};
    open_scene(4);
    s.die = DIE_POISON;
    s.poison = 1777;
    for (unsigned bulk = 0; bulk < 2; bulk++)
        for (size_t c = 0; c < 4; c++)
            for (uint8_t retries = 0; retries < 4; retries++) {
                struct pm_work work = work_of(3000, chunks[c]);
                work.retries = retries;
                if (bulk) {
                    work.how = PM_HOW_BULK;
                    work.body.run = in_bulk;
                }
                open_job(&work);
                run_to_the_end(3);
                for (uint64_t i = 0; i < 3000; i++)
                    if (i != s.poison) assert_true(atomic_load(&s.done[i]) >= 1 && (bulk ||
                                                                                    atomic_load(&s.done[i]) == 1));
                assert_int_equal(atomic_load(&s.done[s.poison]), 0);
                struct pm_failure *f;
                size_t n;
                assert_int_equal(failures_of(s.job, &f, &n), 0);
                assert_int_equal(n, 1);
                assert_int_equal(f->item, s.poison);
                assert_int_equal(f->count, 1);
                assert_int_equal(f->cause, PM_SIGNAL);
                if (!bulk) assert_int_equal(atomic_load(&s.begun[s.poison]), retries + 1);
                free(f);
                pm_job_close(s.job);
            }
    close_scene();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_chunk_resumes_at_the_item_of_the_death),
    cmocka_unit_test(a_chunk_function_is_charged_as_a_whole),
    cmocka_unit_test(only_what_the_dead_held_is_given_back),
    cmocka_unit_test(a_spot_that_makes_no_sense),
    cmocka_unit_test(popped_and_never_claimed),
    cmocka_unit_test(died_at_the_end_of_a_round),
    cmocka_unit_test(died_in_a_stopped_job),
    cmocka_unit_test(many_die),
    cmocka_unit_test(a_poison_item),
};

int main(void) { return PM_TEST_MAIN("repair", tests); }

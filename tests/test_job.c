/* The protocol of workers/DESIGN.md without deaths: claims, steals, rounds, stop. */
#include "tests/scene.h"

/* ---- Without deaths ---- */

static void every_item_once(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 5, 40, 1000, PM_WINDOW - 1, PM_WINDOW, PM_WINDOW + 1, MOST_ITEMS};
    static const uint64_t chunks[] = {0, 1, 6, 65535, PM_CHUNK};
    open_scene(4);
    for (unsigned threads = 1; threads <= SLOTS; threads += threads == 1 ? 2 : 3)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
                struct pm_work work = work_of(counts[c], chunks[k]);
                struct pm_cost cost = {0};
                if (counts[c] > 1000 && threads != 3) continue; /* a second is enough for this */
                uint32_t opened = open_job(&work);
                uint64_t all = (counts[c] + chunks[k] - 1) / (chunks[k] ? chunks[k] : 1);
                if (chunks[k]) assert_int_equal(opened, all < PM_WINDOW ? all : PM_WINDOW);
                run_to_the_end(threads);
                all_done_once(counts[c]);
                no_failures();
                pm_job_cost(s.job, &cost, pm_now());
                assert_int_equal(cost.items, counts[c]);
                if (chunks[k]) assert_int_equal(cost.chunks, all);
                assert_int_equal(cost.deaths + cost.retries + cost.failed, 0);
                pm_job_close(s.job);
                assert_false(pm_board_busy(s.board));
            }
    close_scene();
}

/* A worker alone takes the ranges of the others, each whole, since nobody has touched them. */
static void ranges_of_sleepers_are_taken_whole(void **state)
{
    (void)state;
    open_scene(SLOTS);
    struct pm_work work = work_of(6000, 1);
    struct pm_cost cost = {0};
    open_job(&work);
    run_to_the_end(1);
    all_done_once(6000);
    pm_job_cost(s.job, &cost, pm_now());
    assert_int_equal(cost.steals, SLOTS - 1);
    pm_job_close(s.job);
    close_scene();
}

/* Nothing is reset between jobs: words and ranges of older rounds must never be taken for new ones. */
static void one_job_after_another(void **state)
{
    (void)state;
    open_scene(2);
    for (uint64_t i = 0; i < 400 / FEWER; i++) {
        uint64_t count = 1 + hash(i) % (i % 10 ? 300 : 3000);
        struct pm_work work = work_of(count, hash(i + 1) % 5);
        open_job(&work);
        run_to_the_end(1 + (unsigned)(i % 3));
        all_done_once(count);
        pm_job_close(s.job);
    }
    close_scene();
}

/* When the rounds of a descriptor run out it starts over, and what lies in its words then must not look like work done.
 * */
static void rounds_start_over(void **state)
{
    (void)state;
    open_scene(2);
    struct pm_work work = work_of(5000, 1);
    static const uint32_t befores[] = {0xdffffffeu, 0xdfffffffu, 0xe0000000u, 0xe0000001u, 0xefffffffu, 0xf0000000u,
                                       0xffffffe0u};
    for (size_t k = 0; k < sizeof befores / sizeof befores[0]; k++) {
        for (uint32_t round = 1; round < 3; round++)
            for (uint32_t i = 0; i < 5000; i++)
                if (i % 2 == round - 1) atomic_store(&s.job->word[i], pm_word(PM_DONE, 0, 1, round));
        s.job->renewed = befores[k] - 5; /* as it would be after so many rounds */
        for (uint32_t i = 0; i < s.job->spread; i++) atomic_store(&s.job->range[i].v, pm_range(9, 9, befores[k]));
        atomic_store(s.job->head, pm_word(PM_FREE, 0, 0, befores[k]));
        open_job(&work);
        if (befores[k] > 0xf0000000u) assert_int_equal(pm_word_round(atomic_load(s.job->head)), 1);
        run_to_the_end(2);
        all_done_once(5000);
        pm_job_close(s.job);
    }
    close_scene();
}

/* ---- Stop ---- */

static void stop_at_any_moment(void **state)
{
    (void)state;
    open_scene(4);
    for (uint64_t i = 0; i < 300 / FEWER; i++) {
        uint64_t count = 1 + hash(i) % 5000, chunk = hash(i + 7) % 9;
        struct pm_work work = work_of(count, chunk);
        open_job(&work);
        uint64_t at = 1 + hash(i * 3) % count;
        atomic_store(&s.stop_at, at);
        if (i % 50 == 0) pm_job_stop(s.board, s.job); /* before anybody has begun */
        run_to_the_end(1 + (unsigned)(i % 4));
        struct pm_failure *f;
        size_t n;
        uint64_t cancelled = 0, end = 0;
        assert_int_equal(failures_of(s.job, &f, &n), 0);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(f[k].cause, PM_CANCEL);
            assert_true(k == 0 || f[k].item >= end);
            end = f[k].item + f[k].count;
            for (uint64_t item = f[k].item; item < end; item++) assert_int_equal(atomic_load(&s.done[item]), 0);
            cancelled += f[k].count;
        }
        free(f);
        assert_true(end <= count);
        assert_int_equal(cancelled + atomic_load(&s.ran), count);
        for (uint64_t item = 0; item < count; item++) assert_true(atomic_load(&s.done[item]) <= 1);
        pm_job_close(s.job);
    }
    close_scene();
}

static void the_first_failure_stops(void **state)
{
    (void)state;
    open_scene(4);
    s.fail_every = 1000;
    struct pm_work work = work_of(MOST_ITEMS, 10);
    work.stop = true;
    open_job(&work);
    run_to_the_end(3);
    struct pm_failure *f;
    size_t n;
    assert_int_equal(failures_of(s.job, &f, &n), 0);
    uint64_t failed = 0, cancelled = 0;
    for (size_t k = 0; k < n; k++) {
        if (f[k].cause == PM_CODE) failed++;
        else cancelled += f[k].count;
    }
    free(f);
    assert_in_range(failed, 1, 3); /* one a thread at most */
    assert_int_equal(cancelled + atomic_load(&s.ran), MOST_ITEMS);
    pm_job_close(s.job);
    close_scene();
}

/* ---- Deadlines ---- */

static void *begin_and_end(void *arg)
{
    int64_t timeout_ns = *(int64_t *)arg;
    for (int i = 0; i < 200000 / FEWER && !atomic_load(&s.wrong); i++) {
        (void)pm_board_time(s.board, timeout_ns);
        int64_t shortest = pm_board_shortest(s.board);
        if (shortest <= 0 || shortest > timeout_ns) atomic_fetch_add(&s.wrong, 1);
        pm_board_untime(s.board);
    }
    return NULL;
}

/* While one has a deadline the supervisor never sees none, nor a longer one, whatever begins and ends beside it. */
static void the_shortest_deadline(void **state)
{
    (void)state;
    static int64_t times[] = {5000000, 70000, INT64_MAX};
    pthread_t thread[3];
    open_scene(2);
    assert_int_equal(pm_board_shortest(s.board), 0);
    assert_true(pm_board_time(s.board, 1));
    assert_in_range(pm_board_shortest(s.board), 1, 2000);
    assert_false(pm_board_time(s.board, 5000));
    pm_board_untime(s.board);
    pm_board_untime(s.board);
    assert_int_equal(pm_board_shortest(s.board), 0);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(pthread_create(&thread[i], NULL, begin_and_end, &times[i]), 0);
    for (unsigned i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(pm_board_shortest(s.board), 0);
    close_scene();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_item_once),
    cmocka_unit_test(ranges_of_sleepers_are_taken_whole),
    cmocka_unit_test(the_shortest_deadline),
    cmocka_unit_test(one_job_after_another),
    cmocka_unit_test(rounds_start_over),
    cmocka_unit_test(stop_at_any_moment),
    cmocka_unit_test(the_first_failure_stops),
};

int main(void) { return PM_TEST_MAIN("job", tests); }

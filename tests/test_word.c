/* shm/word.h: every field comes back as it went in, none spills into another, and what is of an older round counts as
 * untouched. */
#include "shm/word.h"
#include "tests/harness.h"

static const uint32_t rounds[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
#define ROUNDS (sizeof rounds / sizeof rounds[0])

static void words_keep_their_fields_apart(void **state)
{
    (void)state;
    static const uint32_t owners[] = {0, 1, 0xfff, 0x1000, 0xfff000, 0xabcdef, 0xffffff};
    for (unsigned s = PM_FREE; s <= PM_FINISHED; s++)
        for (unsigned attempt = 0; attempt <= PM_ATTEMPTS; attempt++)
            for (size_t o = 0; o < sizeof owners / sizeof owners[0]; o++)
                for (size_t r = 0; r < ROUNDS; r++) {
                    uint64_t w = pm_word((enum pm_state)s, attempt, owners[o], rounds[r]);
                    assert_int_equal(pm_word_state(w), s);
                    assert_int_equal(pm_word_attempt(w), attempt);
                    assert_int_equal(pm_word_owner(w), owners[o]);
                    assert_int_equal(pm_word_offset(w), owners[o]);
                    assert_int_equal(pm_word_round(w), rounds[r]);
                }
    /* The layout itself: it is what a dump of shared memory shows. */
    assert_true(pm_word(PM_FINISHED, 31, 0xffffff, 0xffffffff) == UINT64_MAX);
    assert_true(pm_word(PM_CLAIMED, 2, 0x345678, 0x9abcdef0) == UINT64_C(0x223456789abcdef0));
    /* Too large values are cut, never spilled. */
    assert_true(pm_word(PM_FREE, 32, 0x1000000, 5) == 5);
}

static void owners_are_slot_and_generation(void **state)
{
    (void)state;
    assert_int_equal(pm_owner(0, 0), 0);
    assert_int_equal(pm_owner(PM_SLOTS, 0xfff), 0xffffff);
    assert_int_equal(pm_owner(1, 2), 0x1002);
    assert_int_equal(pm_owner(3, 0x1002), pm_owner(3, 2)); /* generations wrap inside their own field */
    assert_int_not_equal(pm_owner(3, 1), pm_owner(3, 2));
    assert_int_not_equal(pm_owner(1, 0), pm_owner(2, 0));
}

static void free_and_terminal(void **state)
{
    (void)state;
    for (unsigned s = PM_FREE; s <= PM_CANCELLED; s++) {
        uint64_t w = pm_word((enum pm_state)s, 3, 9, 41);
        bool ended = s == PM_DONE || s == PM_FAILED || s == PM_CANCELLED;
        assert_int_equal(pm_word_free(w, 41), s == PM_FREE);
        assert_int_equal(pm_word_terminal(w, 41), ended);
        /* In a later round it is as if nobody had touched it.  In an earlier one it must look taken: whoever asks was preempted, and
         * would claim a chunk of this round for one that is over. */
        for (size_t r = 0; r < ROUNDS; r++) {
            if (rounds[r] == 41) continue;
            assert_int_equal(pm_word_free(w, rounds[r]), rounds[r] > 41);
            assert_false(pm_word_terminal(w, rounds[r]));
        }
    }
    /* Zeroed memory is free in every round that there is. */
    for (size_t r = 0; r < ROUNDS; r++) assert_true(pm_word_free(0, rounds[r]));
}

static void ranges_keep_their_fields_apart(void **state)
{
    (void)state;
    static const uint32_t ends[] = {0, 1, 255, 256, PM_WINDOW - 1, PM_WINDOW};
    for (size_t a = 0; a < 6; a++)
        for (size_t b = 0; b < 6; b++)
            for (size_t r = 0; r < ROUNDS; r++) {
                uint64_t range = pm_range(ends[a], ends[b], rounds[r]);
                assert_int_equal(pm_range_lo(range), ends[a]);
                assert_int_equal(pm_range_hi(range), ends[b]);
                assert_true(pm_range_of(range, rounds[r]));
                assert_false(pm_range_of(range, rounds[r] + 1));
                assert_false(pm_range_newer(range, rounds[r]));
                assert_false(pm_range_newer(range, rounds[r] + 1));
                assert_true(pm_range_newer(range, rounds[r] - 1)); /* whoever was preempted must leave it alone */
            }
    assert_true(pm_range(0x40001, 0x40002, 3) == pm_range(1, 2, 3));
}

static void first_ranges_cover_all_chunks_once(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 3, 7, 64, 1000, PM_WINDOW - 1, PM_WINDOW};
    static const uint32_t parts[] = {1, 2, 3, 5, 64, 1000, 4095};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            uint32_t at = 0, least = UINT32_MAX, most = 0;
            for (uint32_t i = 0; i < parts[p]; i++) {
                uint64_t range = pm_range_first(i, parts[p], counts[c], 77);
                assert_int_equal(pm_range_lo(range), at);
                assert_true(pm_range_of(range, 77));
                at = pm_range_hi(range);
                uint32_t length = at - pm_range_lo(range);
                if (length < least) least = length;
                if (length > most) most = length;
            }
            assert_int_equal(at, counts[c]);
            assert_true(most - least <= 1);
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_keep_their_fields_apart),
        cmocka_unit_test(owners_are_slot_and_generation),
        cmocka_unit_test(free_and_terminal),
        cmocka_unit_test(ranges_keep_their_fields_apart),
        cmocka_unit_test(first_ranges_cover_all_chunks_once),
    };
    return PM_TEST_MAIN("word", tests);
}

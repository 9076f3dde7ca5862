/* shm/size.h at its edges. */
#include "shm/size.h"
#include "tests/harness.h"

static void products_say_when_they_do_not_fit(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(pm_size_mul(0, SIZE_MAX, &out));
    assert_true(out == 0);
    assert_true(pm_size_mul(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_true(pm_size_mul(SIZE_MAX / 8, 8, &out));
    assert_true(out == SIZE_MAX - 7);
    assert_false(pm_size_mul(SIZE_MAX / 8 + 1, 8, &out));
    assert_false(pm_size_mul(SIZE_MAX, SIZE_MAX, &out));
}

static void sums_say_when_they_do_not_fit(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(pm_size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(pm_size_add(SIZE_MAX, 1, &out));
    assert_false(pm_size_add(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &out));
}

static void rounding_up(void **state)
{
    (void)state;
    size_t out = 1;
    assert_true(pm_size_up(0, 64, &out) && out == 0);
    assert_true(pm_size_up(1, 64, &out) && out == 64);
    assert_true(pm_size_up(64, 64, &out) && out == 64);
    assert_true(pm_size_up(65, 64, &out) && out == 128);
    assert_true(pm_size_up(7, 1, &out) && out == 7);
    assert_true(pm_size_up(SIZE_MAX - 63, 64, &out) && out == SIZE_MAX - 63);
    assert_false(pm_size_up(SIZE_MAX - 62, 64, &out));
}

static void least_and_most(void **state)
{
    (void)state;
    assert_true(pm_size_min(1, SIZE_MAX) == 1 && pm_size_min(SIZE_MAX, 1) == 1);
    assert_true(pm_size_max(1, SIZE_MAX) == SIZE_MAX && pm_size_max(SIZE_MAX, 1) == SIZE_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_say_when_they_do_not_fit),
        cmocka_unit_test(sums_say_when_they_do_not_fit),
        cmocka_unit_test(rounding_up),
        cmocka_unit_test(least_and_most),
    };
    return PM_TEST_MAIN("size", tests);
}

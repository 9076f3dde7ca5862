/* workers/failures.h: the list that a call with several jobs collects. */
#include "workers/failures.h"
#include "tests/harness.h"
#include "workers/board.h"

#include <stdlib.h>
#include <string.h>

static void an_empty_list(void **state)
{
    (void)state;
    struct pm_failures f = {0};
    struct pm_failure *list = (struct pm_failure *)&f;
    size_t n = 7;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(n, 0);
    free(list);
}

static void sorted_by_item(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct pm_failures f = {0};
    for (uint64_t i = 0; i < N; i++)
        pm_failures_add(&f, i * 7919 % N, 1, PM_CODE, (int)(i % 100), (unsigned)(i % 31), i % 2 ? "odd" : NULL);
    assert_int_equal(f.total, N);
    struct pm_failure *list;
    size_t n;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(n, N);
    for (uint64_t i = 0; i < N; i++) {
        assert_int_equal(list[i].item, i);
        assert_int_equal(list[i * 7919 % N].value, (int)(i % 100));
        assert_int_equal(list[i * 7919 % N].attempts, i % 31);
        assert_string_equal(list[i * 7919 % N].text, i % 2 ? "odd" : "");
    }
    free(list);
    assert_int_equal(f.n + f.total + f.room, 0); /* it may be used again */
    assert_null(f.list);
}

static void neighbouring_cancelled_spans_become_one(void **state)
{
    (void)state;
    struct pm_failures f = {0};
    pm_failures_add(&f, 30, 10, PM_CANCEL, 0, 0, NULL);
    pm_failures_add(&f, 10, 10, PM_CANCEL, 0, 0, NULL);
    pm_failures_add(&f, 20, 10, PM_CANCEL, 0, 0, NULL);
    pm_failures_add(&f, 40, 1, PM_CODE, 5, 1, NULL);
    pm_failures_add(&f, 41, 1, PM_CODE, 5, 1, NULL);
    pm_failures_add(&f, 42, 8, PM_CANCEL, 0, 0, NULL);
    pm_failures_add(&f, 51, 1, PM_CANCEL, 0, 0, NULL); /* 50 lies between */
    struct pm_failure *list;
    size_t n;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(list[0].item, 10);
    assert_int_equal(list[0].count, 30);
    assert_int_equal(list[1].item, 40);
    assert_int_equal(list[2].item, 41);
    assert_int_equal(list[3].item, 42);
    assert_int_equal(list[3].count, 8);
    assert_int_equal(list[4].item, 51);
    free(list);
}

static void lists_are_joined_behind_a_base(void **state)
{
    (void)state;
    struct pm_failures f = {0};
    const struct pm_failure part[2] = {{.item = 1, .count = 1, .cause = PM_SIGNAL, .value = 11}, {.item = 5,
            .count = 2, .cause = PM_CODE}};
    pm_failures_join(&f, part, 2, 1000);
    pm_failures_join(&f, part, 2, 0);
    pm_failures_join(&f, NULL, 0, 77);
    struct pm_failure *list;
    size_t n;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(list[0].item, 1);
    assert_int_equal(list[1].item, 5);
    assert_int_equal(list[2].item, 1001);
    assert_int_equal(list[2].cause, PM_SIGNAL);
    assert_int_equal(list[3].item, 1005);
    assert_int_equal(list[3].count, 2);
    free(list);
}

static void texts_are_cut(void **state)
{
    (void)state;
    struct pm_failures f = {0};
    char text[300];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    pm_failures_add(&f, 0, 1, PM_CODE, 1, 1, text);
    struct pm_failure *list;
    size_t n;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(strlen(list[0].text), PM_TEXT - 1);
    free(list);
}

static void no_more_than_the_log_are_listed(void **state)
{
    (void)state;
    struct pm_failures f = {0};
    for (uint64_t i = 0; i < PM_LOG + 5; i++) pm_failures_add(&f, i, 1, PM_CODE, 1, 1, NULL);
    assert_int_equal(f.total, PM_LOG + 5);
    struct pm_failure *list;
    size_t n;
    assert_int_equal(pm_failures_take(&f, &list, &n), 0);
    assert_int_equal(n, PM_LOG);
    free(list);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_empty_list),
    cmocka_unit_test(sorted_by_item),
    cmocka_unit_test(neighbouring_cancelled_spans_become_one),
    cmocka_unit_test(lists_are_joined_behind_a_base),
    cmocka_unit_test(texts_are_cut),
    cmocka_unit_test(no_more_than_the_log_are_listed),
};

int main(void) { return PM_TEST_MAIN("failures", tests); }

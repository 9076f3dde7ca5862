/* The message header of the ZeroMQ channel: what is taken, and that everything else is not, for every length and every damaged byte.
 * A worked example of a whole question and answer is the first test. */
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

#include "workers/frame.h"

#define NONCE UINT64_C(0x1122334455667788)

static struct pm_frame question(void)
{
    return (struct pm_frame){.magic = PM_FRAME_MAGIC, .version = PM_FRAME_VERSION, .kind = PM_FRAME_CHUNK, .nonce = NONCE, .serial = 7,
                             .bytes = 80, .owner = 0x003001, .job = 2, .round = 9, .chunk = 4, .attempt = 1, .items = 10, .suspect = 3};
}

static struct pm_frame answer(void)
{
    struct pm_frame f = question();
    f.kind = PM_FRAME_RESULT;
    f.bytes = 40;
    f.suspect = PM_FRAME_SUSPECT_NONE;
    f.reached = 10;
    return f;
}

static void takes_its_own(void **state)
{
    (void)state;
    struct pm_frame q = question(), a = answer(), got;
    uint32_t skips[2] = {3, 8}, out[2] = {0, 0};
    unsigned char wire[1 + sizeof q + sizeof skips]; /* at an odd address: nothing may count on alignment */
    q.skips = 2;
    memcpy(wire + 1, &q, sizeof q);
    memcpy(wire + 1 + sizeof q, skips, sizeof skips);
    assert_int_equal(pm_frame_get(&got, wire + 1, sizeof q + sizeof skips, NONCE), 0);
    assert_memory_equal(&got, &q, sizeof q);
    assert_true(pm_frame_skips(&got, wire + 1, out));
    assert_memory_equal(out, skips, sizeof skips);
    assert_int_equal(pm_frame_get(&got, &a, sizeof a, NONCE), 0);
    assert_true(pm_frame_answers(&a, &q, 4, 40));
    a.reached = 5; /* of a stopped job */
    a.bytes = 20;
    assert_true(pm_frame_answers(&a, &q, 4, 20));
}

static void refuses_other_lengths(void **state)
{
    (void)state;
    struct pm_frame q = question(), got;
    unsigned char *wire = malloc(4 * sizeof q);
    assert_non_null(wire);
    memset(wire, 0, 4 * sizeof q);
    memcpy(wire, &q, sizeof q);
    for (size_t n = 0; n < 4 * sizeof q; n++) assert_int_equal(pm_frame_get(&got, wire, n, NONCE) == 0, n == sizeof q);
    free(wire);
}

static void refuses_other_pools_and_versions(void **state)
{
    (void)state;
    struct pm_frame got, f = question();
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE + 1) < 0);
    f.magic++;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.version++;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.kind = 0;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.kind = PM_FRAME_BYE + 1;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.suspect = f.items;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.reached = f.items + 1;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.lead = PM_FRAME_ALIGN;
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
    f = question(), f.skips = UINT32_MAX; /* times four it does not fit in 32 bits */
    assert_true(pm_frame_get(&got, &f, sizeof f, NONCE) < 0);
}

static void refuses_wrong_skips(void **state)
{
    (void)state;
    struct { struct pm_frame f; uint32_t skip[2]; } wire = {question(), {8, 3}};
    uint32_t out[2];
    wire.f.skips = 2;
    assert_false(pm_frame_skips(&wire.f, &wire, out)); /* they descend */
    wire.skip[1] = 8;
    assert_false(pm_frame_skips(&wire.f, &wire, out)); /* twice the same */
    wire.skip[1] = 10;
    assert_false(pm_frame_skips(&wire.f, &wire, out)); /* behind the chunk */
    wire.skip[1] = 9;
    assert_true(pm_frame_skips(&wire.f, &wire, out));
}

/* Every byte of an answer counts, but those of fields that an answer does not use. */
static void refuses_every_damaged_answer(void **state)
{
    (void)state;
    struct pm_frame q = question(), got;
    for (size_t i = 0; i < sizeof q; i++) {
        struct pm_frame a = answer();
        unsigned char wire[sizeof a];
        memcpy(wire, &a, sizeof a);
        wire[i] ^= 0x15;
        bool unused = (i >= offsetof(struct pm_frame, suspect) && i < offsetof(struct pm_frame, reached)) ||
                      i >= offsetof(struct pm_frame, lead); /* a wish, which cannot do harm */
        bool taken = pm_frame_get(&got, wire, sizeof wire, NONCE) == 0 && pm_frame_answers(&got, &q, 4, 40);
        if (!unused) assert_false(taken);
    }
    struct pm_frame a = answer();
    assert_false(pm_frame_answers(&a, &q, 4, 39));
    assert_false(pm_frame_answers(&a, &q, 8, 40));
    assert_false(pm_frame_answers(&a, &q, SIZE_MAX / 2, 40)); /* overflows */
}

static void knows_its_workers(void **state)
{
    (void)state;
    unsigned char id[PM_FRAME_ID + 1] = {0};
    uint32_t owner = 0;
    pm_frame_id(id, 0xabc123, NONCE);
    assert_true(pm_frame_owner(id, PM_FRAME_ID, NONCE, &owner));
    assert_int_equal(owner, 0xabc123);
    assert_false(pm_frame_owner(id, PM_FRAME_ID, NONCE + 1, &owner));
    for (size_t n = 0; n <= sizeof id; n++) assert_int_equal(pm_frame_owner(id, n, NONCE, &owner), n == PM_FRAME_ID);
    id[0] = 0;
    assert_false(pm_frame_owner(id, PM_FRAME_ID, NONCE, &owner));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_its_own), cmocka_unit_test(refuses_other_lengths),
        cmocka_unit_test(refuses_other_pools_and_versions), cmocka_unit_test(refuses_wrong_skips),
        cmocka_unit_test(refuses_every_damaged_answer), cmocka_unit_test(knows_its_workers),
    };
    return PM_TEST_MAIN("frame", tests);
}

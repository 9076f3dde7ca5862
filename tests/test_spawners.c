/* The spawners of pmap_commands: each waits for a while for the command that it has started, and for nothing else.  No
 * end, output, time-out or signal may be lost meanwhile, of that command or of another. */
#include "tests/commands.h"

#include <signal.h>
#include <sys/wait.h>

#define LARGE 300000 /* more than a pipe holds: it ends only when it is read */

enum { BRIEF, WRITES_MUCH, LEAVES_A_WRITER, HANGS, SHORTLY, KINDS };

/* One of each kind after the other, so that every spawner comes to wait for every kind, beside every other. */
static void mixed(unsigned at_once, unsigned spawners)
{
    enum { ROUNDS = 8 };
    static const int kinds[KINDS] = {BRIEF, WRITES_MUCH, LEAVES_A_WRITER, HANGS, SHORTLY};
    pmap_commands *set = open_set(at_once, spawners);
    const char *const *line[KINDS] = {ARGV("echo", "brief"), ARGV("head", "-c", "300000", "/dev/zero"), NULL,
                                      ARGV("sleep", "1000"), ARGV("sleep", "0.01")};
    int seen[KINDS] = {0};
    for (int i = 0; i < ROUNDS * KINDS; i++) {
        pmap_command_options o = options(line[i % KINDS]);
        o.user = (void *)(uintptr_t)&kinds[i % KINDS];
        if (kinds[i % KINDS] == LEAVES_A_WRITER) o.shell = "(sleep 0.01; echo late) & echo early"; /* and its pipe open */
        if (kinds[i % KINDS] == HANGS) o.timeout_s = i % 2 ? 0.001 : 0.02; /* waited for alone, and afterwards */
        add(set, o);
    }
    for (int i = 0; i < ROUNDS * KINDS; i++) {
        pmap_command *c = next(set);
        int kind = *(const int *)pmap_command_user(c);
        size_t bytes;
        const char *text = pmap_command_output(c, 1, &bytes);
        assert_int_equal(pmap_command_check(c), kind == HANGS ? PMAP_ESTATUS : 0);
        if (kind == HANGS) expect_status(c, 0, PMAP_CAUSE_TIMEOUT, SIGTERM, 124);
        if (kind == BRIEF) assert_string_equal(text, "brief\n");
        if (kind == LEAVES_A_WRITER) assert_string_equal(text, "early\nlate\n");
        if (kind == WRITES_MUCH) assert_int_equal(bytes, LARGE);
        seen[kind]++;
        EXPECT(pmap_command_close(c), 0);
    }
    for (int k = 0; k < KINDS; k++) assert_int_equal(seen[k], ROUNDS);
    assert_int_equal(pmap_commands_count(set), 0);
    EXPECT(pmap_commands_close(set), 0);
    for (int i = 0; i < ROUNDS; i++) assert_true(waitpid(-1, NULL, 0) > 0); /* the writers, which came to us */
}

static void kinds(const struct pm_path *path)
{
    (void)path;
    mixed(1, 1);
    mixed(2, 2); /* each spawner has its own, and nobody waits for events */
    mixed(3, 2); /* one of them waits for events */
    mixed(8, 2);
    mixed(8, 8);
}

/* Those that end are told of and followed by others while one goes on beside them, and that one is ended when asked. */
static void beside_a_long_one(const struct pm_path *path)
{
    int longer = 0;
    (void)path;
    for (unsigned spawners = 1; spawners <= 2; spawners++) {
        pmap_commands *set = open_set(2, spawners);
        pmap_command_options o = options(ARGV("sleep", "1000"));
        o.user = &longer;
        add(set, o);
        for (int i = 0; i < 100; i++) add(set, options(ARGV("true")));
        for (int i = 0; i < 100; i++) {
            pmap_command *c = next(set);
            EXPECT(pmap_command_check(c), 0);
            assert_null(pmap_command_user(c));
            EXPECT(pmap_command_close(c), 0);
        }
        EXPECT(pmap_commands_signal(set, SIGKILL), 0);
        pmap_command *c = next(set);
        assert_ptr_equal(pmap_command_user(c), &longer);
        expect_status(c, 0, PMAP_CAUSE_SIGNAL, SIGKILL, 128 + SIGKILL);
        EXPECT(pmap_command_close(c), 0);
        EXPECT(pmap_commands_close(set), 0);
    }
}

/* As soon as they are started, whoever waits for them. */
static void ended_at_once(const struct pm_path *path)
{
    (void)path;
    for (int i = 0; i < 30; i++) {
        pmap_commands *set = open_set(2, 2);
        int ended = 0;
        pmap_command *c;
        for (int k = 0; k < 4; k++) add(set, options(ARGV("sleep", "1000")));
        for (volatile int k = 0; k < i * 20000; k++) continue; /* at different points of the starts */
        if (i % 3 == 0) EXPECT(pmap_commands_cancel(set), 0);
        else if (i % 3 == 1) EXPECT(pmap_commands_resize(set, 4), 0);
        for (; i % 3 == 0 && pmap_commands_next(set, 60, &c) == 0 && c; ended++) {
            int error = pmap_command_check(c);
            assert_true(error == PMAP_ESTATUS || error == PMAP_ECANCELLED);
            EXPECT(pmap_command_close(c), 0);
        }
        assert_int_equal(ended, i % 3 == 0 ? 4 : 0);
        EXPECT(pmap_commands_close(set), 0); /* which ends the others */
    }
}

static const struct pm_path_test tests[] = {
    {"kinds", kinds, PM_ON_NONE},
    {"beside a long one", beside_a_long_one, PM_ON_NONE},
    {"ended at once", ended_at_once, PM_ON_NONE},
};

int main(void) { return PM_PATHS_MAIN("spawners", tests); }

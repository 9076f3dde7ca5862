/* What the tests of sets of commands share: short ways to open one, to fill it, to take what has ended and to see that
 * nothing is left. */
#ifndef PM_TESTS_COMMANDS_H
#define PM_TESTS_COMMANDS_H

#include "tests/command.h"

static inline pmap_commands *open_set(unsigned at_once, unsigned spawners)
{
    pmap_commands *set;
    pmap_commands_options o = PMAP_COMMANDS_OPTIONS_INIT;
    o.at_once = at_once;
    o.spawners = spawners;
    EXPECT(pmap_commands_open(&set, &o), 0);
    return set;
}

static inline void add(pmap_commands *set, pmap_command_options o) { EXPECT(pmap_commands_add(set, &o, 1), 0); }

/* The next one, which must come. */
static inline pmap_command *next(pmap_commands *set)
{
    pmap_command *c;
    EXPECT(pmap_commands_next(set, 60, &c), 0);
    assert_non_null(c);
    return c;
}

static inline void none_left(pmap_commands *set)
{
    pmap_command *c = (pmap_command *)set;
    assert_int_equal(pmap_commands_count(set), 0);
    EXPECT(pmap_commands_next(set, 60, &c), 0);
    assert_null(c);
    EXPECT(pmap_commands_close(set), 0);
}

#endif

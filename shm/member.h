/* The members of a shared object: who takes part in it, and who of them has died.
 *
 * A member is a thread, of any process that maps the object.  It has an entry in a table inside the object, which it takes at its first use of
 * it, by one compare-and-swap that also names it; from then on a 24-bit number (slot:12 | gen:12, as in shm/word.h, never 0) stands for it in
 * the words that it owns.  Whoever finds a word of a member that does not move asks pm_member_dead(); the kernel answers (shm/process.h: thread id and
 * start time; a zombie is dead; a stopped or slow one is not).  A thread that ends in the middle is as dead as a killed process.
 *
 *   entry   gen:12 | start:28 | used:1 | tid:23
 *           FREE(gen) -> USED(gen, tid, start)       its member, at its first use
 *           USED(gen, dead) -> FREE(gen + 1)         pm_member_mended(), by whoever has mended all that the dead one owned
 *
 * So an entry is used again only when its last owner is confirmed dead AND nothing is named after it any more; a number whose entry has gone
 * on to another generation stands for a dead member that was mended.  `start` is the low 28 bits of the start time (31 days of
 * clock ticks), never 0 when it is known: with the thread id it cannot be mistaken for a later thread's.
 *
 * What a thread remembers (its number) is private, thread-local, and void in a forked child, which is another member with an entry of its
 * own.  It only saves a search: the table is the truth.  Nothing here blocks, locks or allocates; a member killed anywhere in it leaves a USED entry
 * that is found dead, or nothing.  All members must live in one PID namespace. */
#ifndef PM_SHM_MEMBER_H
#define PM_SHM_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PM_MEMBERS 4095u /* most entries of a table */

/* Lies in the shared object; all zero is an empty table, but for `size`. */
struct pm_members {
    uint32_t size;          /* entries; constant */
    _Atomic uint32_t top;   /* no entry from here on was ever used; grows; relaxed, a hint that is never too low for a published owner */
    _Atomic uint64_t entry[];
};

/* Bytes of a table of `size` entries, 1 to PM_MEMBERS. */
static inline size_t pm_members_bytes(unsigned size) { return sizeof(struct pm_members) + size * sizeof(uint64_t); }

void pm_members_init(struct pm_members *members, unsigned size); /* before anybody else sees it */

/* The calling thread's number in *owner; takes an entry at the first use.  0, or -EUSERS when every entry is used: mend the dead (below), then
 * try again; if nobody is dead there are too many members. */
int pm_member_join(struct pm_members *members, uint32_t *owner);

/* Has the member with this number ended, as the kernel says?  A few microseconds: for waiters, not for every call. */
bool pm_member_dead(struct pm_members *members, uint32_t owner);

/* The next dead member that nobody has mended yet, behind `after` (0 = from the start); 0 = no more.  Asks the kernel about each one:
 *
 *     for (uint32_t x = 0; (x = pm_member_next_dead(m, x));) { mend every word of x by compare-and-swap; pm_member_mended(m, x); }
 *
 * Several may do so at once: each word is one compare-and-swap from the value that names x, and only one of them frees the entry. */
uint32_t pm_member_next_dead(struct pm_members *members, uint32_t after);

/* No word names this dead member any more: its entry is free.  Of no effect when somebody else was quicker. */
void pm_member_mended(struct pm_members *members, uint32_t owner);

/* Which thread this number stands for; 0 when its entry has gone on to another.  For messages and tests. */
int32_t pm_member_tid(const struct pm_members *members, uint32_t owner);

#endif

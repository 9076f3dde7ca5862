/* Chunk words and ranges: how ownership is written in 64 bits, so that one compare-and-swap takes it, names the owner and
 * refuses the stale.  Pure functions on integers; used by workers/.
 *
 *   word   state:3 | attempt:5 | owner:24 | round:32       the truth about one chunk
 *          owner = slot:12 | gen:12 while CLAIMED or MOVING; in a FREE word the same 24 bits hold the offset of the item to resume at
 *   range  lo:18 | hi:18 | round:28                        a hint: chunks of this round that nobody has popped
 *
 * Every descriptor counts its rounds (one round = one window of one job) and never repeats one, so a word or range of an older
 * round simply means "not touched yet in this one": opening a round resets nothing, and a compare-and-swap by a worker that
 * was preempted in an older round fails by itself. */
#ifndef PM_SHM_WORD_H
#define PM_SHM_WORD_H

#include <stdbool.h>
#include <stdint.h>

enum pm_state {
    PM_FREE = 0,      /* of a head: closed */
    PM_CLAIMED = 1,   /* of a head: OPEN */
    PM_DONE = 2,
    PM_FAILED = 3,    /* the whole chunk; a single bad item is in the failure log and its chunk is DONE */
    PM_CANCELLED = 4,
    PM_OPEN = 5,      /* heads only: the round may be worked on */
    PM_MOVING = 6,    /* heads only: its owner prepares the next round */
    PM_FINISHED = 7   /* heads only: every chunk of the job is terminal */
};

#define PM_SLOTS 4095u            /* most workers of a pool */
#define PM_WINDOW 131071u         /* most chunks of a round: 1 MiB of words */
#define PM_CHUNK (1u << 24)       /* most items of a chunk */
#define PM_ATTEMPTS 31u

static inline uint64_t pm_word(enum pm_state state, unsigned attempt, uint32_t owner, uint32_t round)
{
    return ((uint64_t)state << 61) | ((uint64_t)(attempt & 31u) << 56) | ((uint64_t)(owner & 0xffffffu) << 32) | round;
}
static inline enum pm_state pm_word_state(uint64_t w) { return (enum pm_state)(w >> 61); }
static inline unsigned pm_word_attempt(uint64_t w) { return (unsigned)(w >> 56) & 31u; }
static inline uint32_t pm_word_owner(uint64_t w) { return (uint32_t)(w >> 32) & 0xffffffu; }
static inline uint32_t pm_word_offset(uint64_t w) { return pm_word_owner(w); }
static inline uint32_t pm_word_round(uint64_t w) { return (uint32_t)w; }
static inline uint32_t pm_owner(unsigned slot, unsigned gen) { return (slot & 0xfffu) << 12 | (gen & 0xfffu); }

/* May this word be claimed in `round`?  FREE in it, or left over from an OLDER one.  A newer one must look taken: the worker that asks was
 * preempted, and its compare-and-swap would succeed.  Rounds do not wrap: see pm_job_open(). */
static inline bool pm_word_free(uint64_t w, uint32_t round)
{
    return pm_word_round(w) < round || (pm_word_round(w) == round && pm_word_state(w) == PM_FREE);
}
static inline bool pm_word_terminal(uint64_t w, uint32_t round)
{
    enum pm_state s = pm_word_state(w);
    return pm_word_round(w) == round && (s == PM_DONE || s == PM_FAILED || s == PM_CANCELLED);
}

/* A range has room for 28 bits of its round; pm_job_open() renews all of a job's ranges long before half of that is used up, so
 * that older and newer can be told apart. */
static inline uint64_t pm_range(uint32_t lo, uint32_t hi, uint32_t round)
{
    return (uint64_t)(lo & 0x3ffffu) << 46 | (uint64_t)(hi & 0x3ffffu) << 28 | (round & 0xfffffffu);
}
static inline uint32_t pm_range_lo(uint64_t r) { return (uint32_t)(r >> 46); }
static inline uint32_t pm_range_hi(uint64_t r) { return (uint32_t)(r >> 28) & 0x3ffffu; }
static inline bool pm_range_of(uint64_t r, uint32_t round) { return (r & 0xfffffffu) == (round & 0xfffffffu); }
static inline bool pm_range_newer(uint64_t r, uint32_t round) { return ((r - round) & 0xfffffffu) - 1u < 0x7ffffffu; }

/* What range `index` of `ranges` holds of `chunks` when a round begins. */
static inline uint64_t pm_range_first(uint32_t index, uint32_t ranges, uint32_t chunks, uint32_t round)
{
    return pm_range((uint32_t)((uint64_t)chunks * index / ranges), (uint32_t)((uint64_t)chunks * (index + 1u) / ranges), round);
}

#endif

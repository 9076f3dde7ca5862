/* The table of members of shm/member.h.  Used by the objects that processes share without a pool: queues, locks, counters.
 * Must not know what a member owns: mending is the object's business. */
#include "shm/member.h"

#include "shm/process.h"
#include "shm/word.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TID_BITS 23 /* Linux has at most 2^22 */
#define START_BITS 28
#define USED (UINT64_C(1) << TID_BITS)
#define TID_MASK (USED - 1)
#define START_MASK ((UINT64_C(1) << START_BITS) - 1)
#define START_SHIFT (TID_BITS + 1)
#define GEN_SHIFT (START_SHIFT + START_BITS)
#define GEN_MASK 0xfffu

static pid_t tid_of(uint64_t e) { return (pid_t)(e & TID_MASK); }
static uint64_t start_of(uint64_t e) { return e >> START_SHIFT & START_MASK; }

/* Generation 0 is how a table begins; it is used as 1, so that no number is 0. */
static uint32_t gen_of(uint64_t e) { return e >> GEN_SHIFT ? (uint32_t)(e >> GEN_SHIFT) : 1; }

static uint32_t slot_of(uint32_t owner) { return owner >> 12; }
static bool names(uint64_t e, uint32_t owner) { return (e & USED) && gen_of(e) == (owner & GEN_MASK); }

/* ---- What a thread remembers ---- */

#define REMEMBERED 8u

struct memory {
    const struct pm_members *members;
    uint64_t entry; /* as this thread has written it */
    uint32_t owner, forks;
};

static _Thread_local struct memory remembered[REMEMBERED];
static uint32_t forks; /* between the process that loaded this and this one; changed only in a child that has one thread */

static void forked(void) { forks++; }
static void watch_forks(void) { (void)pthread_atfork(NULL, NULL, forked); }

static struct memory *memory_of(const struct pm_members *members)
{
    return &remembered[((uintptr_t)members >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> 61];
}

/* ---- Joining ---- */

void pm_members_init(struct pm_members *members, unsigned size)
{
    members->size = size;
    atomic_init(&members->top, 0);
    for (unsigned i = 0; i < size; i++) atomic_init(&members->entry[i], 0);
}

/* Entries of this very thread have this in all bits below the generation. */
static uint64_t identity(void)
{
    struct pm_process p = {0};
    pid_t tid = (pid_t)syscall(SYS_gettid);
    (void)pm_process_of(tid, &p); /* a thread is found under its own number too; without /proc the start stays 0 */
    uint64_t start = p.start & START_MASK;
    if (p.start && !start) start = 1;
    return start << START_SHIFT | USED | ((uint64_t)tid & TID_MASK);
}

/* Makes `top` at least n.  Before the entry is taken: then every member that was ever published is below it. */
static void raise_top(struct pm_members *members, uint32_t n)
{
    uint32_t top = atomic_load_explicit(&members->top, memory_order_relaxed);
    while (top < n && !atomic_compare_exchange_weak_explicit(&members->top, &top, n, memory_order_acq_rel, memory_order_relaxed)) continue;
}

static int __attribute__((noinline)) take_entry(struct pm_members *members, struct memory *memory)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, watch_forks);
    const uint64_t self = identity(), below = (UINT64_C(1) << GEN_SHIFT) - 1;
    uint32_t top = atomic_load_explicit(&members->top, memory_order_relaxed);
    uint32_t slot = members->size;
    uint64_t e = 0;
    /* This thread may have one already and have forgotten it for another object's sake.  Without a start time nobody could tell it from a dead
     * one's. */
    for (uint32_t i = 0; start_of(self) && i < top && slot == members->size; i++) {
        e = atomic_load_explicit(&members->entry[i], memory_order_relaxed);
        if ((e & below) == self) slot = i;
    }
    for (uint32_t i = 0; i < members->size && slot == members->size; i++) {
        e = atomic_load_explicit(&members->entry[i], memory_order_relaxed);
        if (e & USED) continue;
        uint64_t mine = (uint64_t)gen_of(e) << GEN_SHIFT | self;
        raise_top(members, i + 1);
        /* acquire: behind the mending of all that the last owner left */
        if (!atomic_compare_exchange_strong_explicit(&members->entry[i], &e, mine, memory_order_acq_rel, memory_order_relaxed)) continue;
        e = mine;
        slot = i;
    }
    if (slot == members->size) return -EUSERS;
    *memory = (struct memory){.members = members, .entry = e, .owner = pm_owner(slot, gen_of(e)), .forks = forks};
    return 0;
}

int pm_member_join(struct pm_members *members, uint32_t *owner)
{
    struct memory *m = memory_of(members);
    /* The entry itself is looked at too: another table may lie where one was closed. */
    if (m->members != members || m->forks != forks || slot_of(m->owner) >= members->size ||
        atomic_load_explicit(&members->entry[slot_of(m->owner)], memory_order_relaxed) != m->entry) {
        int e = take_entry(members, m);
        if (e) return e;
    }
    *owner = m->owner;
    return 0;
}

/* ---- Deaths ---- */

static bool ended(uint64_t e) { return pm_thread_ended(tid_of(e), start_of(e), START_MASK); }

bool pm_member_dead(struct pm_members *members, uint32_t owner)
{
    if (slot_of(owner) >= members->size) return true; /* nobody ever had that number */
    uint64_t e = atomic_load_explicit(&members->entry[slot_of(owner)], memory_order_acquire);
    return !names(e, owner) || ended(e);
}

uint32_t pm_member_next_dead(struct pm_members *members, uint32_t after)
{
    uint32_t top = atomic_load_explicit(&members->top, memory_order_acquire);
    for (uint32_t i = after ? slot_of(after) + 1 : 0; i < top && i < members->size; i++) {
        uint64_t e = atomic_load_explicit(&members->entry[i], memory_order_acquire);
        if ((e & USED) && ended(e)) return pm_owner(i, gen_of(e));
    }
    return 0;
}

void pm_member_mended(struct pm_members *members, uint32_t owner)
{
    if (slot_of(owner) >= members->size) return;
    uint64_t e = atomic_load_explicit(&members->entry[slot_of(owner)], memory_order_relaxed);
    uint64_t next = gen_of(e) == GEN_MASK ? 1 : gen_of(e) + 1;
    if (!names(e, owner)) return;
    /* release: the mending comes before; one of several succeeds */
    (void)atomic_compare_exchange_strong_explicit(&members->entry[slot_of(owner)], &e, next << GEN_SHIFT, memory_order_release,
                                                  memory_order_relaxed);
}

int32_t pm_member_tid(const struct pm_members *members, uint32_t owner)
{
    if (slot_of(owner) >= members->size) return 0;
    uint64_t e = atomic_load_explicit(&members->entry[slot_of(owner)], memory_order_acquire);
    return names(e, owner) ? tid_of(e) : 0;
}

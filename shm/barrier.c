/* The barrier of shm/barrier.h. */
#include "shm/barrier.h"

#include <errno.h>
#include <limits.h>

#include "shm/deadline.h"

#define R memory_order_relaxed /* under the lock */
#define BROKEN UINT64_C(1)
#define PHASE UINT64_C(2)
#define ERA (UINT64_C(1) << 32)
#define LOOKS 8u /* parties that a waiter asks about in a slice */

int pm_barrier_init(struct pm_barrier *b, unsigned parties)
{
    b->parties = parties;
    pm_members_init(&b->members, pm_barrier_members(parties));
    return pm_lock_init(&b->lock, false);
}

static unsigned arrived(struct pm_barrier *b, uint64_t state)
{
    unsigned n = 0;
    for (unsigned i = 0; i < b->parties; i++) n += atomic_load_explicit(&b->party[i].arrived, R) == state + 1;
    return n;
}

/* release: what was written before arriving is seen behind the phase; pairs with outcome() */
static void move(struct pm_barrier *b, uint64_t state)
{
    atomic_store_explicit(&b->state, state, memory_order_release);
    pm_event_notify(&b->moved, INT_MAX);
}

static uint64_t next_phase(uint64_t state) { return (state & ~(ERA - 1)) | ((state + PHASE) & (ERA - 1)); }

/* Takes the lock.  When all have arrived and the phase has not ended, the last one died in between: ends it. */
static int enter(struct pm_barrier *b, uint64_t *state)
{
    int e = pm_lock_acquire(&b->lock, -1); /* held for a few instructions, and never by the dead */
    if (e && e != -EOWNERDEAD) return e;
    *state = atomic_load_explicit(&b->state, R);
    if (!(*state & BROKEN) && arrived(b, *state) == b->parties) {
        *state = next_phase(*state);
        move(b, *state);
    }
    return 0;
}

/* The calling thread's number among the members. */
static int member(struct pm_barrier *b, uint32_t *owner)
{
    int e = pm_member_join(&b->members, owner);
    if (e != -EUSERS) return e;
    /* A party's number stays dead when its entry is given to another: nothing has to be mended. */
    for (uint32_t x = 0; (x = pm_member_next_dead(&b->members, x));) pm_member_mended(&b->members, x);
    return pm_member_join(&b->members, owner);
}

/* The place of this member, which it takes when it has none: an empty one, a dead party's, or that of one who has not
 * arrived. */
static struct pm_party *place_of(struct pm_barrier *b, uint32_t owner, uint64_t state)
{
    struct pm_party *empty = NULL, *dead = NULL, *other = NULL;
    for (unsigned i = 0; i < b->parties; i++)
        if (atomic_load_explicit(&b->party[i].owner, R) == owner) return &b->party[i];
    for (unsigned i = 0; i < b->parties && !empty; i++) {
        struct pm_party *p = &b->party[i];
        uint32_t o = atomic_load_explicit(&p->owner, R);
        if (o == 0) empty = p;
        else if (atomic_load_explicit(&p->arrived, R) == state + 1) continue;
        else if (!other) other = p;
        if (o && !dead && pm_member_dead(&b->members, o)) dead = p;
    }
    struct pm_party *p = empty ? empty : dead ? dead : other;
    if (p) atomic_store_explicit(&p->owner, owner, R);
    return p;
}

/* How it went for one who arrived in state `mine`: 0, -EPIPE, or -EAGAIN: it goes on. */
static int outcome(struct pm_barrier *b, uint64_t mine)
{
    uint64_t now = atomic_load_explicit(&b->state, memory_order_acquire);
    if (now == mine) return -EAGAIN;
    if (now / ERA != mine / ERA) return -EPIPE; /* began anew: nobody knows any more */
    return (now & ~BROKEN) == mine ? -EPIPE : 0;
}

/* Has a party died that is still missing?  Looks at a few parties from `from` on. */
static bool is_hopeless(struct pm_barrier *b, uint64_t mine, unsigned from)
{
    for (unsigned n = 0; n < LOOKS && n < b->parties; n++) {
        struct pm_party *p = &b->party[(from + n) % b->parties];
        uint32_t owner = atomic_load_explicit(&p->owner, R);
        if (owner == 0 || atomic_load_explicit(&p->arrived, R) == mine + 1 || !pm_member_dead(&b->members, owner)) continue;
        /* Another may have taken its place meanwhile, or it had arrived when it died. */
        if (atomic_load_explicit(&p->owner, R) == owner && atomic_load_explicit(&p->arrived, R) != mine + 1) return true;
    }
    return false;
}

/* What a waiter does once a slice: a dead party may have left the phase without its end, or is never going to arrive. */
static void look_after(struct pm_barrier *b, uint64_t mine, unsigned from)
{
    uint64_t state;
    bool hopeless = is_hopeless(b, mine, from);
    if (!hopeless && arrived(b, mine) < b->parties) return;
    if (enter(b, &state)) return;
    if (hopeless && state == mine) move(b, state | BROKEN);
    (void)pm_lock_release(&b->lock);
}

int pm_barrier_join(struct pm_barrier *b)
{
    uint32_t owner;
    uint64_t state;
    int e = member(b, &owner);
    if (!e) e = enter(b, &state);
    if (e) return e;
    if (state & BROKEN) e = -EPIPE;
    else if (!place_of(b, owner, state)) e = -EUSERS;
    (void)pm_lock_release(&b->lock);
    return e;
}

/* Takes the arrival back, unless the phase has ended. */
static int withdraw(struct pm_barrier *b, struct pm_party *place, uint64_t mine)
{
    uint64_t state;
    int e = enter(b, &state);
    if (e) return e;
    e = outcome(b, mine);
    if (e == -EAGAIN) {
        atomic_store_explicit(&place->arrived, 0, R);
        e = -ETIMEDOUT;
    }
    (void)pm_lock_release(&b->lock);
    return e;
}

int pm_barrier_wait(struct pm_barrier *b, int64_t timeout_ns, unsigned *index)
{
    int64_t deadline = pm_deadline(timeout_ns);
    uint32_t owner;
    uint64_t mine;
    int e = member(b, &owner);
    if (!e) e = enter(b, &mine);
    if (e) return e;
    struct pm_party *place = mine & BROKEN ? NULL : place_of(b, owner, mine);
    if (!place) {
        (void)pm_lock_release(&b->lock);
        return mine & BROKEN ? -EPIPE : -EUSERS;
    }
    unsigned before = *index = arrived(b, mine);
    atomic_store_explicit(&place->arrived, mine + 1, R);
    if (before + 1 == b->parties) move(b, next_phase(mine));
    (void)pm_lock_release(&b->lock);
    for (unsigned looks = before;; looks++) {
        uint32_t key = pm_event_key(&b->moved); /* before looking: else a wake-up is lost */
        e = outcome(b, mine);
        if (e != -EAGAIN) return e;
        e = pm_event_slice(&b->moved, key, deadline);
        if (e == -ETIMEDOUT) return withdraw(b, place, mine);
        if (e == -EAGAIN) look_after(b, mine, looks * LOOKS);
        else if (e) return e;
    }
}

int pm_barrier_abort(struct pm_barrier *b)
{
    uint64_t state;
    int e = enter(b, &state);
    if (e) return e;
    if (!(state & BROKEN)) move(b, state | BROKEN);
    return pm_lock_release(&b->lock);
}

int pm_barrier_reset(struct pm_barrier *b)
{
    uint64_t state;
    int e = enter(b, &state);
    if (e) return e;
    /* Broken first: killed in the middle, it is broken still, and the next reset does the rest. */
    atomic_store_explicit(&b->state, state | BROKEN, memory_order_release);
    for (unsigned i = 0; i < b->parties; i++) {
        atomic_store_explicit(&b->party[i].owner, 0, R);
        atomic_store_explicit(&b->party[i].arrived, 0, R);
    }
    move(b, (state & ~(ERA - 1)) + ERA);
    return pm_lock_release(&b->lock);
}

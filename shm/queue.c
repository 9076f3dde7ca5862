/* The queue of shm/queue.h, which has the protocol.  Used by pmap/queue.c and by its own test; must not know what a
 * message means, nor keep anything private to a process but what shm/member.c remembers. */
#include "shm/queue.h"

#include "shm/arena.h"
#include "shm/deadline.h"
#include "shm/size.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define SLICE_FIRST INT64_C(2000000)
#define SLICE_MOST INT64_C(100000000)

enum state { FREE = 0, WRITING = 1, READY = 2, READING = 3 };

#define SEQ_BITS 38
#define SEQ_MASK ((UINT64_C(1) << SEQ_BITS) - 1)
#define COUNT_BITS 40
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

static uint64_t word_of(enum state state, uint32_t owner, uint64_t seq)
{
    return (uint64_t)state << 62 | (uint64_t)owner << SEQ_BITS | (seq & SEQ_MASK);
}
static enum state state_of(uint64_t w) { return (enum state)(w >> 62); }
static uint32_t owner_of(uint64_t w) { return (uint32_t)(w >> SEQ_BITS) & 0xffffffu; }
static uint64_t seq_of(uint64_t w) { return w & SEQ_MASK; }
static uint64_t place_of(size_t slot, uint64_t seq) { return (uint64_t)slot << SEQ_BITS | seq; }

static struct pm_members *members_of(struct pm_queue *q) { return (void *)((char *)q + q->members_at); }
static struct pm_queue_record *record_of(struct pm_queue *q, uint32_t owner)
{
    return (struct pm_queue_record *)(void *)((char *)q + q->records_at) + (owner >> 12);
}
static struct pm_queue_slot *slots_of(struct pm_queue *q) { return (void *)((char *)q + q->slots_at); }
static char *payload_of(struct pm_queue *q, size_t slot) { return (char *)q + q->payload_at + slot * q->stride; }

/* Every step of a message.  Release: what its owner wrote comes before; acquire: what the last owner wrote is seen.
 * Sequentially consistent for the sake of one: WRITING against `closed`, see claim_free(). */
static bool move(struct pm_queue_slot *slot, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&slot->word, &from, to, memory_order_seq_cst, memory_order_relaxed);
}

/* ---- Making one ---- */

static int lay_out(const struct pm_queue_setup *s, struct pm_queue *q)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t at = sizeof *q, records, slots, payload;
    memset(q, 0, sizeof *q);
    q->kind = PM_QUEUE_KIND;
    q->participants = s->members;
    q->items = s->items;
    q->most = s->most;
    q->window = s->window;
    q->spin_ns = s->spin_ns;
    q->sparse = s->sparse;
    q->members_at = at;
    if (!pm_size_up(at + pm_members_bytes(s->members), 64, &q->records_at)) return -EOVERFLOW;
    records = s->members * sizeof(struct pm_queue_record);
    if (!pm_size_up(q->records_at + records, 64, &q->slots_at)) return -EOVERFLOW;
    if (!pm_size_mul(s->items, sizeof(struct pm_queue_slot), &slots)) return -EOVERFLOW;
    if (!pm_size_add(q->slots_at, slots, &at) || !pm_size_up(at, s->sparse ? page : 64, &q->payload_at) ||
        !pm_size_up(s->most ? s->most : 1, 64, &q->stride) || !pm_size_mul(s->items, q->stride, &payload) ||
        !pm_size_add(q->payload_at, payload, &at) || !pm_size_up(at, page, &q->size))
        return -EOVERFLOW;
    return q->size > PTRDIFF_MAX ? -EOVERFLOW : 0;
}

int pm_queue_bytes(const struct pm_queue_setup *setup, size_t *bytes)
{
    struct pm_queue q;
    int e = lay_out(setup, &q);
    *bytes = q.size;
    return e;
}

struct pm_queue *pm_queue_init(void *memory, const struct pm_queue_setup *setup)
{
    struct pm_queue *q = memory;
    (void)lay_out(setup, q); /* the caller has asked for the size, which says whether it fits */
    pm_members_init(members_of(q), setup->members);
    if (setup->sparse) return q; /* new memory: all words are FREE(0), all records nobody's */
    for (unsigned i = 0; i < setup->members; i++) memset(record_of(q, i << 12), 0, sizeof(struct pm_queue_record));
    for (size_t i = 0; i < setup->items; i++) memset(&slots_of(q)[i], 0, sizeof(struct pm_queue_slot));
    return q;
}

int pm_queue_map(struct pm_queue **queue, const struct pm_queue_setup *setup)
{
    struct pm_queue_setup s = *setup;
    size_t bytes;
    *queue = NULL;
    s.sparse = true;
    int e = pm_queue_bytes(&s, &bytes);
    if (e) return e;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return -ENOMEM;
    (void)madvise(p, bytes, MADV_DONTDUMP); /* a core file would fill the holes */
    *queue = pm_queue_init(p, &s);
    return 0;
}

void pm_queue_unmap(struct pm_queue *q)
{
    if (q) munmap(q, q->size);
}

/* ---- Deaths ---- */

static void tell_freed(struct pm_queue *q)
{
    /* With a window the first to be told may need more bytes than were freed. */
    pm_event_notify(&q->writable, q->window ? INT_MAX : 1);
    if (pm_queue_closed(q)) pm_event_notify(&q->readable, INT_MAX); /* it may have been the last one */
}

static bool mend_word(struct pm_queue *q, struct pm_queue_slot *slot, uint64_t w)
{
    enum state to = state_of(w) == WRITING ? FREE : READY;
    if (!move(slot, w, word_of(to, 0, seq_of(w)))) return false; /* somebody else did it */
    if (to == FREE) tell_freed(q);
    else pm_event_notify(&q->readable, 1);
    return true;
}

static bool is_owned(uint64_t w) { return state_of(w) == WRITING || state_of(w) == READING; }

bool pm_queue_mend(struct pm_queue *q)
{
    struct pm_queue_slot *slots = slots_of(q);
    uint32_t alive = 0; /* the last one that was found alive: it may own several */
    bool any = false;
    for (size_t i = 0; i < q->items; i++) {
        uint64_t w = atomic_load_explicit(&slots[i].word, memory_order_acquire);
        if (!is_owned(w) || owner_of(w) == alive) continue;
        if (!pm_member_dead(members_of(q), owner_of(w))) alive = owner_of(w);
        else if (mend_word(q, &slots[i], w)) any = true;
    }
    return any;
}

/* The same, but not more often than all waiters together should ask. */
static bool mend_now_and_then(struct pm_queue *q)
{
    int64_t now = pm_now(), asked = atomic_load_explicit(&q->asked, memory_order_relaxed);
    if (asked && now - asked < PM_QUEUE_ASK_NS) return false;
    atomic_store_explicit(&q->asked, now, memory_order_relaxed);
    return pm_queue_mend(q);
}

/* Every entry is used: frees those of the dead, when no word names them any more. */
static bool make_room(struct pm_queue *q)
{
    struct pm_queue_slot *slots = slots_of(q);
    bool any = false;
    for (uint32_t x = 0; (x = pm_member_next_dead(members_of(q), x)) != 0; any = true) {
        for (size_t i = 0; i < q->items; i++) {
            uint64_t w = atomic_load_explicit(&slots[i].word, memory_order_acquire);
            if (is_owned(w) && owner_of(w) == x) (void)mend_word(q, &slots[i], w);
        }
        pm_member_mended(members_of(q), x);
    }
    return any;
}

static int join_members(struct pm_queue *q, uint32_t *me)
{
    int e = pm_member_join(members_of(q), me);
    /* As long as others take what was freed. */
    while (e == -EUSERS && make_room(q)) e = pm_member_join(members_of(q), me);
    return e;
}

/* ---- Waiting ---- */

struct request {
    int (*attempt)(struct pm_queue *q, struct request *r); /* -EAGAIN: not now */
    uint32_t me;
    bool slept; /* a slice is over: time to ask about others */
    size_t slot, bytes, lost;
};

static int64_t least(int64_t a, int64_t left) { return left >= 0 && left < a ? left : a; }

/* Attempts until it succeeds or the time is over.  A whole attempt comes after every sleep, also the last one: who
 * was woken and leaves without a look would take the wake-up with it. */
static int attempt_until(struct pm_queue *q, struct pm_event *event, int64_t timeout_ns, struct request *r)
{
    int e = r->attempt(q, r);
    if (e != -EAGAIN) return e;
    int64_t end = pm_deadline(timeout_ns), left, slice = SLICE_FIRST;
    for (;;) {
        uint32_t key = pm_event_key(event); /* before the look: else a wake-up is lost */
        e = r->attempt(q, r);
        if (e != -EAGAIN) return e;
        if (mend_now_and_then(q)) continue;
        if ((left = pm_deadline_left(end)) == 0) return -ETIMEDOUT;
        r->slept = false;
        if (q->spin_ns && pm_event_spin(event, key, least(q->spin_ns, left))) continue;
        e = pm_event_wait(event, key, least(slice, pm_deadline_left(end)));
        if (e && e != -ETIMEDOUT) return e; /* no futexes here */
        r->slept = e == -ETIMEDOUT;
        slice = slice * 2 < SLICE_MOST ? slice * 2 : SLICE_MOST;
    }
}

/* ---- Putting ---- */

/* Bytes in it and about to be in it, but for those that others are claiming at this moment. */
static size_t bytes_in(struct pm_queue *q)
{
    size_t sum = 0;
    for (size_t i = 0; i < q->items; i++) {
        struct pm_queue_slot *slot = &slots_of(q)[i];
        if (state_of(atomic_load_explicit(&slot->word, memory_order_acquire)) != FREE)
            sum += atomic_load_explicit(&slot->bytes, memory_order_relaxed);
    }
    return sum;
}

/* Gives back a slot that the caller owns. */
static int step_back(struct pm_queue *q, struct pm_queue_slot *slot, uint64_t w)
{
    return mend_word(q, slot, w) ? 0 : -EPERM;
}

static int claim_free(struct pm_queue *q, struct request *r)
{
    if (pm_queue_closed(q)) return -EPIPE;
    size_t in = q->window ? bytes_in(q) : 0;
    if (in && r->bytes > q->window - pm_size_min(in, q->window)) return -EAGAIN;
    struct pm_queue_slot *slots = slots_of(q);
    uint64_t t = atomic_load_explicit(&q->tail, memory_order_relaxed);
    size_t i = t % q->items;
    for (size_t k = 0; k < q->items; k++, i = i + 1 == q->items ? 0 : i + 1) {
        uint64_t w = atomic_load_explicit(&slots[i].word, memory_order_relaxed);
        if (state_of(w) != FREE) continue;
        uint64_t mine = word_of(WRITING, r->me, seq_of(w) + 1);
        if (!move(&slots[i], w, mine)) continue;
        /* close:   closed = 1 ; a getter looks: every word FREE?         The getter that has seen `closed` sees our
         * WRITING and waits for us, put:     word = WRITING ; closed?                              or we see
         * `closed` and step back: no message comes after the end. */
        if (pm_queue_closed(q)) {
            (void)step_back(q, &slots[i], mine);
            return -EPIPE;
        }
        atomic_store_explicit(&slots[i].bytes, r->bytes, memory_order_relaxed);
        if (atomic_load_explicit(&q->tail, memory_order_relaxed) < t + k + 1)
            atomic_store_explicit(&q->tail, t + k + 1, memory_order_relaxed);
        r->slot = i;
        return 0;
    }
    return -EAGAIN;
}

/* Commits the pages under the first `bytes` of the payload of a slot that the caller owns, so that a lack of memory
 * is an error and no SIGBUS.  Before Linux 5.14 nothing can be asked: then writing to them does it. */
static int commit_pages(struct pm_queue *q, size_t i, size_t bytes)
{
    struct pm_queue_slot *slot = &slots_of(q)[i];
    size_t have = atomic_load_explicit(&slot->committed, memory_order_relaxed);
    if (!q->sparse || bytes <= have) return 0;
    uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    uintptr_t payload = (uintptr_t)payload_of(q, i);
    uintptr_t from = (payload + have) & ~mask, to = (payload + bytes + mask) & ~mask;
    if (!pm_arena_affords(&q->unasked, to - from)) return -ENOMEM;
    int r;
    do r = madvise((void *)from, to - from, MADV_POPULATE_WRITE);
    while (r < 0 && (errno == EINTR || errno == EAGAIN));
    if (r < 0 && errno != EINVAL) return -ENOMEM;
    atomic_store_explicit(&slot->committed, bytes, memory_order_relaxed);
    return 0;
}

int pm_queue_reserve(struct pm_queue *q, size_t bytes, int64_t timeout_ns, void **payload)
{
    struct request r = {.attempt = claim_free, .bytes = bytes};
    if (bytes > q->most || (q->window && bytes > q->window)) return -EMSGSIZE;
    int e = join_members(q, &r.me);
    if (!e) e = attempt_until(q, &q->writable, timeout_ns, &r);
    if (e) return e;
    e = commit_pages(q, r.slot, bytes);
    if (e) {
        struct pm_queue_slot *slot = &slots_of(q)[r.slot];
        (void)step_back(q, slot, atomic_load_explicit(&slot->word, memory_order_relaxed));
        return e;
    }
    *payload = payload_of(q, r.slot);
    return 0;
}

/* The slot whose payload this is, which the calling thread must own in one of two states. */
static int own_slot(struct pm_queue *q, const void *payload, enum state a, enum state b, uint32_t *me, size_t *index,
                    uint64_t *word)
{
    uintptr_t first = (uintptr_t)payload_of(q, 0), p = (uintptr_t)payload;
    if (p < first || (p - first) % q->stride || (p - first) / q->stride >= q->items) return -EINVAL;
    *index = (p - first) / q->stride;
    *word = atomic_load_explicit(&slots_of(q)[*index].word, memory_order_relaxed);
    if (pm_member_join(members_of(q), me)) return -EPERM; /* it would have joined when it claimed */
    return owner_of(*word) == *me && (state_of(*word) == a || state_of(*word) == b) ? 0 : -EPERM;
}

int pm_queue_commit(struct pm_queue *q, void *payload, size_t bytes)
{
    uint32_t me;
    uint64_t w;
    size_t i;
    int e = own_slot(q, payload, WRITING, WRITING, &me, &i, &w);
    if (e) return e;
    struct pm_queue_slot *slot = &slots_of(q)[i];
    struct pm_queue_record *record = record_of(q, me);
    size_t reserved = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
    if (bytes > reserved) return -EINVAL;
    atomic_store_explicit(&slot->bytes, bytes, memory_order_relaxed);
    uint64_t before = atomic_load_explicit(&record->last, memory_order_relaxed);
    atomic_store_explicit(&slot->before, before, memory_order_relaxed);
    if (!move(slot, w, word_of(READY, 0, seq_of(w)))) return -EPERM;
    atomic_store_explicit(&record->last, place_of(i, seq_of(w)), memory_order_relaxed);
    pm_event_notify(&q->readable, 1);
    if (q->window && bytes < reserved) pm_event_notify(&q->writable, INT_MAX);
    return 0;
}

int pm_queue_put(struct pm_queue *q, const void *message, size_t bytes, int64_t timeout_ns)
{
    void *p;
    int e = pm_queue_reserve(q, bytes, timeout_ns, &p);
    if (e) return e;
    if (bytes) memcpy(p, message, bytes);
    return pm_queue_commit(q, p, bytes);
}

/* ---- Getting ---- */

/* From a READY slot to the first READY message of the same producer.  `before` is read after a word that said READY
 * and before a compare-and-swap from that same word: if it succeeds, nobody has written to the slot meanwhile; if
 * not, what was read here is not used. */
static size_t first_of_its_producer(struct pm_queue *q, size_t i, uint64_t *w)
{
    struct pm_queue_slot *slots = slots_of(q);
    for (size_t hops = 0; hops < q->items; hops++) {
        uint64_t before = atomic_load_explicit(&slots[i].before, memory_order_relaxed);
        size_t b = before >> SEQ_BITS;
        if (!seq_of(before) || b >= q->items) break; /* its first */
        uint64_t earlier = atomic_load_explicit(&slots[b].word, memory_order_acquire);
        if (state_of(earlier) != READY || seq_of(earlier) != seq_of(before)) break;
        i = b;
        *w = earlier;
    }
    return i;
}

/* The first READY slot from the head on: 1, with what is known of it; 0 when there is none; -EPIPE when none can
 * come any more. */
static int find_ready(struct pm_queue *q, size_t *slot, uint64_t *word, uint64_t *new_head)
{
    struct pm_queue_slot *slots = slots_of(q);
    bool closed = pm_queue_closed(q), empty = true, passed = false;
    uint64_t h = atomic_load_explicit(&q->head, memory_order_relaxed), w = 0;
    uint64_t t = h + 1;
    size_t i = h % q->items;
    if (state_of(atomic_load_explicit(&slots[i].word, memory_order_relaxed)) != READY) {
        /* Something slow, or nothing.  When putters have gone round once since, what is oldest begins where they are
         * now. */
        t = atomic_load_explicit(&q->tail, memory_order_relaxed);
        if (t > h && t - h > q->items) h = t - q->items;
        i = h % q->items;
    }
    *new_head = h;
    for (size_t k = 0; k < q->items; k++, i = i + 1 == q->items ? 0 : i + 1) {
        w = atomic_load_explicit(&slots[i].word, memory_order_seq_cst);
        if (state_of(w) != FREE) empty = false;
        if (state_of(w) == WRITING && !passed) {
            passed = true; /* the head waits here, getters do not */
            if (h + k < t) *new_head = h + k;
        }
        if (state_of(w) != READY) continue;
        /* Never ahead of the tail: from there on it is the last round's. */
        if (!passed && h + k < t) *new_head = h + k + 1;
        *slot = i;
        *word = w;
        return 1;
    }
    return closed && empty ? -EPIPE : 0;
}

static int claim_ready(struct pm_queue *q, struct request *r)
{
    for (;;) {
        uint64_t w, head = 0;
        size_t found;
        int e = find_ready(q, &found, &w, &head);
        if (e <= 0) return e ? e : -EAGAIN;
        size_t i = first_of_its_producer(q, found, &w);
        if (!move(&slots_of(q)[i], w, word_of(READING, r->me, seq_of(w)))) continue; /* another has it */
        if (i == found) atomic_store_explicit(&q->head, head, memory_order_relaxed);
        r->slot = i;
        r->bytes = atomic_load_explicit(&slots_of(q)[i].bytes, memory_order_relaxed);
        return 0;
    }
}

int pm_queue_peek(struct pm_queue *q, int64_t timeout_ns, void **payload, size_t *bytes)
{
    struct request r = {.attempt = claim_ready};
    int e = join_members(q, &r.me);
    if (!e) e = attempt_until(q, &q->readable, timeout_ns, &r);
    if (e) return e;
    *payload = payload_of(q, r.slot);
    *bytes = r.bytes;
    return 0;
}

/* One more message, or one less, that the caller has got and not reported done. */
static bool account(struct pm_queue *q, uint32_t me, bool more)
{
    struct pm_queue_record *record = record_of(q, me);
    uint64_t open = atomic_load_explicit(&record->open, memory_order_relaxed), n = open & COUNT_MASK;
    if (open >> COUNT_BITS != me) { /* the last owner of the entry, long dead */
        if (n) (void)atomic_fetch_add_explicit(&q->abandoned, (uint32_t)n, memory_order_relaxed);
        n = 0;
    }
    if (more) n = n == COUNT_MASK ? n : n + 1;
    else if (n-- == 0) return false;
    atomic_store_explicit(&record->open, (uint64_t)me << COUNT_BITS | n, memory_order_release);
    return true;
}

int pm_queue_release(struct pm_queue *q, void *payload)
{
    uint32_t me;
    uint64_t w;
    size_t i;
    int e = own_slot(q, payload, READING, READING, &me, &i, &w);
    if (e) return e;
    (void)account(q, me, true); /* before the slot is FREE: at no time does a joiner see neither */
    if (!move(&slots_of(q)[i], w, word_of(FREE, 0, seq_of(w)))) return -EPERM;
    tell_freed(q);
    return 0;
}

int pm_queue_cancel(struct pm_queue *q, void *payload)
{
    uint32_t me;
    uint64_t w;
    size_t i;
    int e = own_slot(q, payload, WRITING, READING, &me, &i, &w);
    return e ? e : step_back(q, &slots_of(q)[i], w);
}

int pm_queue_get(struct pm_queue *q, void *message, size_t room, size_t *bytes, int64_t timeout_ns)
{
    void *p;
    int e = pm_queue_peek(q, timeout_ns, &p, bytes);
    if (e) return e;
    if (*bytes > room) {
        (void)pm_queue_cancel(q, p);
        return -EMSGSIZE;
    }
    if (*bytes) memcpy(message, p, *bytes);
    return pm_queue_release(q, p);
}

/* ---- The rest ---- */

void pm_queue_close(struct pm_queue *q)
{
    atomic_store_explicit(&q->closed, 1, memory_order_seq_cst);
    pm_event_notify(&q->writable, INT_MAX);
    pm_event_notify(&q->readable, INT_MAX);
}

bool pm_queue_closed(struct pm_queue *q) { return atomic_load_explicit(&q->closed, memory_order_seq_cst) != 0; }

size_t pm_queue_count(struct pm_queue *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->items; i++)
        n += state_of(atomic_load_explicit(&slots_of(q)[i].word, memory_order_acquire)) == READY;
    return n;
}

int pm_queue_task_done(struct pm_queue *q)
{
    uint32_t me;
    int e = join_members(q, &me);
    if (e) return e;
    if (!account(q, me, false)) return -EPERM;
    pm_event_notify(&q->finished, INT_MAX);
    return 0;
}

/* Is every message that was put got and done?  With `forgive`, what dead members have not done counts as done, from
 * now on. */
static bool all_done(struct pm_queue *q, bool ask, bool forgive, size_t *lost)
{
    for (size_t i = 0; i < q->items && !forgive; i++) {
        enum state s = state_of(atomic_load_explicit(&slots_of(q)[i].word, memory_order_seq_cst));
        if (s == READY || s == READING) return false;
    }
    /* Behind the slots: who freed one had raised it before. */
    uint32_t top = atomic_load_explicit(&members_of(q)->top, memory_order_relaxed);
    for (uint32_t m = 0; m < top; m++) {
        _Atomic uint64_t *open = &record_of(q, m << 12)->open;
        uint64_t n = atomic_load_explicit(open, memory_order_acquire);
        if (!(n & COUNT_MASK)) continue;
        if (!ask || !pm_member_dead(members_of(q), (uint32_t)(n >> COUNT_BITS))) return false;
        if (forgive && atomic_compare_exchange_strong_explicit(open, &n, n & ~COUNT_MASK, memory_order_acq_rel,
                                                               memory_order_relaxed))
            *lost += n & COUNT_MASK;
    }
    return true;
}

static int see_all_done(struct pm_queue *q, struct request *r)
{
    /* One slot may be filled behind the look while the message of the next is finished before it.  Every put ends
     * with a change of this key: if it has not changed, whatever was filled meanwhile was not yet put. */
    uint32_t key = pm_event_key(&q->readable);
    if (!all_done(q, r->slept, false, &r->lost) || pm_event_key(&q->readable) != key) return -EAGAIN;
    if (r->slept) (void)all_done(q, true, true, &r->lost);
    r->lost += atomic_exchange_explicit(&q->abandoned, 0, memory_order_relaxed);
    return r->lost ? -EOWNERDEAD : 0;
}

int pm_queue_join(struct pm_queue *q, int64_t timeout_ns, size_t *lost)
{
    struct request r = {.attempt = see_all_done, .slept = timeout_ns == 0};
    int e = attempt_until(q, &q->finished, timeout_ns, &r);
    *lost = r.lost;
    return e;
}

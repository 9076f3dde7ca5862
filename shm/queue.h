/* A bounded queue of messages between threads and processes that survives the death of any of them at any
 * instruction.
 *
 * The law (workers/DESIGN.md has it for chunks): words are truth, everything else is a hint.  A slot's word is
 *
 *   state:2 | owner:24 | seq:38          owner: shm/member.h; seq counts the uses of the slot
 *
 *   FREE(s) -> WRITING(p, s+1) -> READY(s+1) -> READING(c, s+1) -> FREE(s+1)
 *              claim              put           claim              get
 *
 * and each arrow is one compare-and-swap, which only one can win and which a stalled one loses, as seq never comes
 * back.  A put has happened at WRITING -> READY, behind which the bytes lie in the slot; a get at READING -> FREE,
 * before which they were copied out.  So a death never loses or doubles a message: whoever waits, and sees that the
 * owner of a word is dead (the kernel says so), mends it:
 *
 *   WRITING(dead) -> FREE     it was never put
 *   READING(dead) -> READY    it was never got
 *
 * again by one compare-and-swap each, so several may do so at once and may die in the middle.  Nothing is taken from
 * the living, however slow.
 *
 * Order.  `head` and `tail` say where to begin to look; who finds a slot taken looks at the next, so nobody waits
 * for a slow one.  Slots are thus filled and emptied in ring order, about.  What is exact is the order of each
 * producer: a message carries the place of its producer's last one before it, and who finds that one still READY
 * takes it first.  (Positions alone do not give that: a consumer passes a slot that is being written, and finds the
 * next message of the same producer READY a moment later.)  A slow producer's message is passed by at most one round
 * of the ring for each round that its slot was WRITING.  A message whose receiver died, or gave it back, comes
 * again, later.
 *
 * Waiting: two event counts (shm/event.h).  Who commits or frees tells one sleeper; no system call when nobody
 * sleeps.  A death between the commit and the telling, or that of the one who was told, loses the wake-up: so sleeps
 * are slices, of 100 ms at most, after which one looks again, and asks the kernel about the owners of words
 * (PM_QUEUE_ASK_NS apart at least, all waiters together).
 *
 * Accounts.  Which messages were got and not yet reported done is written by each member in its own record, before
 * the get happens: so join never ends too early, and knows the messages that a dead one took with it.
 *
 * The window in bytes is summed over the slots when a put claims: a counter would drift with deaths.
 *
 * The struct and all behind it lie in shared memory at one address in all processes.  No pointers in it but
 * `keeper`, which only the opener follows. */
#ifndef PM_SHM_QUEUE_H
#define PM_SHM_QUEUE_H

#include <stdalign.h>

#include "shm/event.h"
#include "shm/member.h"

#define PM_QUEUE_ITEMS (1u << 24)         /* most slots */
#define PM_QUEUE_KIND 0x70717565u
#define PM_QUEUE_ASK_NS INT64_C(1000000)  /* how often the kernel is asked who has died */

struct pm_queue_slot {
    alignas(64) _Atomic uint64_t word; /* the truth */
    /* Written by who is WRITING, relaxed: the word publishes them. */
    _Atomic uint64_t before;           /* the place of its message before this one, slot:26 | seq:38 */
    _Atomic size_t bytes;              /* the message's length */
    _Atomic size_t committed;          /* bytes of the payload whose pages are there; grows */
};

struct pm_queue_record {               /* a member's own; read by joiners */
    alignas(64) _Atomic uint64_t open; /* owner:24 | messages got and not done:40.  Release; the joiner acquires */
    _Atomic uint64_t last;             /* the place of its last message; nobody else reads it; relaxed */
};

struct pm_queue {
    /* Constant once it is open. */
    uint32_t kind;                     /* PM_QUEUE_KIND; 0 = freed */
    unsigned participants;             /* members at most */
    size_t items, most, stride;        /* slots; bytes of a message at most; distance of two payloads */
    size_t window;                     /* bytes in it at most; 0 = no limit */
    size_t size;                       /* bytes of all of it */
    size_t members_at, records_at, slots_at, payload_at; /* offsets from here */
    int64_t spin_ns;
    bool sparse;                       /* pages of payloads are committed when they are used */
    void *keeper;                      /* its opener's: whose memory this is; NULL = a mapping of its own */

    alignas(64) _Atomic uint64_t tail; /* hint, written by putters: position = slot + k * items */
    alignas(64) _Atomic uint64_t head; /* hint, written by getters */
    alignas(64) struct pm_event readable; /* a message is READY; the queue was closed */
    alignas(64) struct pm_event writable; /* a slot is FREE; closed */
    alignas(64) struct pm_event finished; /* a message is done */
    _Atomic uint32_t closed;           /* sequentially consistent, against WRITING: see claim_free() */
    _Atomic uint32_t abandoned;        /* messages of dead members whose records have new owners; relaxed */
    _Atomic int64_t asked;             /* when the kernel was asked last; relaxed hint */
    _Atomic size_t unasked;            /* bytes committed since the machine was asked what it has; relaxed hint */
};

struct pm_queue_setup {
    size_t items, most, window;
    unsigned members;                  /* threads that take part at once */
    int64_t spin_ns;                   /* how long waiters spin before they sleep */
    bool sparse;
};

/* How many bytes such a queue takes: 0, or -EOVERFLOW. */
int pm_queue_bytes(const struct pm_queue_setup *setup, size_t *bytes);
/* Makes one in `memory`, which is 64-byte aligned, before anybody else sees it.  Without `sparse` its pages are
 * committed. */
struct pm_queue *pm_queue_init(void *memory, const struct pm_queue_setup *setup);

/* One in a sparse anonymous mapping of its own, shared with the processes that are forked later: 0, -EOVERFLOW,
 * -ENOMEM.  There is no descriptor and no name: the memory ends with the last process that has it mapped. */
int pm_queue_map(struct pm_queue **queue, const struct pm_queue_setup *setup);
void pm_queue_unmap(struct pm_queue *queue); /* in this process */

/* All below: any thread of any process that shares it.  timeout_ns: 0 = do not wait, < 0 = no limit.  Besides what
 * they say, the four that wait return -ETIMEDOUT, -EUSERS (more members than there is room for), -EPIPE (closed; for
 * getters: and empty). */

/* Room for a message of `bytes`, the caller's to write until commit or cancel: 0, -EMSGSIZE, -ENOMEM (its pages). */
int pm_queue_reserve(struct pm_queue *queue, size_t bytes, int64_t timeout_ns, void **payload);
/* The next message, the caller's until release (got) or cancel (comes again); given back by its death. */
int pm_queue_peek(struct pm_queue *queue, int64_t timeout_ns, void **payload, size_t *bytes);

/* By the thread that reserved or peeked: 0, -EINVAL (no such place, or larger than reserved), -EPERM (not its own,
 * or no more). */
int pm_queue_commit(struct pm_queue *queue, void *payload, size_t bytes);
int pm_queue_release(struct pm_queue *queue, void *payload);
int pm_queue_cancel(struct pm_queue *queue, void *payload); /* never put; or never got */

int pm_queue_put(struct pm_queue *queue, const void *message, size_t bytes, int64_t timeout_ns);
/* -EMSGSIZE: it has *bytes, more than `room`, and stays where it is. */
int pm_queue_get(struct pm_queue *queue, void *message, size_t room, size_t *bytes, int64_t timeout_ns);

void pm_queue_close(struct pm_queue *queue); /* puts are refused from now on; what is in it can be got */
bool pm_queue_closed(struct pm_queue *queue);
size_t pm_queue_count(struct pm_queue *queue); /* messages READY just now */

/* The calling thread is through with one message that it got: 0, -EPERM when it has none. */
int pm_queue_task_done(struct pm_queue *queue);
/* Waits until every message was got and done: 0; -EOWNERDEAD when all the rest is, and *lost messages were got by
 * members that died before they were done with them (they count as done from now on). */
int pm_queue_join(struct pm_queue *queue, int64_t timeout_ns, size_t *lost);

/* Mends what dead members left: true when there was anything.  Waiters do so by themselves. */
bool pm_queue_mend(struct pm_queue *queue);

#endif

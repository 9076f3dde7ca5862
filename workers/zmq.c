/* The application's side of the ZeroMQ channel: claims chunks for workers, sends them their input, and commits what comes back when every
 * field of it is as expected.  Whatever else arrives is dropped and counted.
 *
 * What dies is not this file's affair: the supervisor gives the words back, and this side, which looks at the words of what it has handed out
 * whenever somebody has died (and 100 times a second), forgets what is no longer so and hands it out again. */
#include "workers/zmq.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/fd.h"
#include "workers/control.h"
#include "workers/processes.h"
#include "workers/round.h"
#include "workers/zmq_lib.h"

#define MS INT64_C(1000000)
#define TICK_MS 10                  /* between two looks at the words while nothing arrives */
#define CHECK_NS (20 * MS)          /* between two looks at the supervisor */
#define NAME_NS (200 * MS)          /* between two looks at the socket's name */
#define PROBE_NS (100 * MS)         /* silence after which a worker is sent a probe; doubles */
#define CHUNK_BYTES ((size_t)1 << 20)
#define LEND_BYTES ((size_t)64 << 10) /* parts from this size on are sent from the caller's memory, without a copy */
#define RETURN_NS (2000 * MS)       /* what libzmq may take to let go of them when all is done */
#define CHUNKS_A_WORKER 32u         /* at least, where there are items enough */
#define MOST_ITEMS (UINT64_C(1) << 20)
#define APPLICATION 0xfff000u       /* as owner of a round that moves: no worker has generation 0 */

/* One call. */
struct call {
    struct pm_processes *p;
    struct pm_zmq *z;
    struct pm_job *job;
    const struct pm_work *work;
    struct pm_view v;
    uint32_t cursor;       /* chunks of the round before it are handed out, or were not free when it passed */
    unsigned out, turn;    /* chunks handed out; the worker to serve first */
    uint64_t deaths;       /* of the board, when last looked at */
    int64_t in_ns, out_ns;
    uint64_t bytes;
    int error;
};

/* ---- Sending ---- */

static struct pm_frame frame_to(const struct pm_processes *p, enum pm_frame_kind kind, uint32_t owner)
{
    return (struct pm_frame){.magic = PM_FRAME_MAGIC, .version = PM_FRAME_VERSION, .kind = (uint16_t)kind,
                             .nonce = p->board->zmq_nonce, .owner = owner, .suspect = PM_FRAME_SUSPECT_NONE};
}

/* Names the receiver of the parts that follow; false when there is no way to it, and then nothing may follow. */
static bool address(struct pm_processes *p, uint32_t owner)
{
    unsigned char id[PM_FRAME_ID];
    pm_frame_id(id, owner, p->board->zmq_nonce);
    return PM_ZMQ_AGAIN(pm_libzmq.send(p->zmq->socket, id, sizeof id, ZMQ_SNDMORE | ZMQ_DONTWAIT)) >= 0;
}

static bool send_frame(struct pm_processes *p, enum pm_frame_kind kind, uint32_t owner)
{
    struct pm_frame f = frame_to(p, kind, owner);
    return address(p, owner) && PM_ZMQ_AGAIN(pm_libzmq.send(p->zmq->socket, &f, sizeof f, ZMQ_DONTWAIT)) >= 0;
}

static void say_bye(struct pm_processes *p)
{
    for (unsigned i = 0; i < p->board->workers && p->zmq->socket; i++)
        (void)send_frame(p, PM_FRAME_BYE, pm_owner(i, atomic_load(&p->board->slot[i].gen)));
}

void pm_zmq_bye(struct pm_processes *p)
{
    /* A call that is under way says it itself when it ends. */
    if (!p->zmq || pthread_mutex_trylock(&p->zmq->lock)) return;
    say_bye(p);
    pthread_mutex_unlock(&p->zmq->lock);
}

/* A worker that lives and cannot be reached: its function has closed the connection.  The supervisor then sees a death. */
static void end_worker(struct pm_processes *p, uint32_t owner)
{
    struct pm_slot *slot = &p->board->slot[owner >> 12];
    struct pm_process process;
    pid_t pid = atomic_load(&slot->pid);
    if (pid <= 0 || pm_process_of(pid, &process) < 0) return;
    int fd = pm_process_watch(&process);
    /* Looked at again behind the pidfd: then it is still that worker's, or the signal goes to nobody. */
    if (atomic_load(&slot->pid) == pid && (atomic_load(&slot->gen) & 0xfffu) == (owner & 0xfffu))
        (void)pm_process_signal(&process, fd, SIGKILL);
    if (fd >= 0) close(fd);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The header with the items of [lo, lo + f->items) that are in the failure log already, each once. */
static int make_header(struct call *c, struct pm_frame *f, uint64_t lo, zmq_msg_t *part)
{
    uint64_t logged = f->suspect == PM_FRAME_SUSPECT_NONE ? 0 : atomic_load_explicit(&c->job->logged, memory_order_acquire);
    uint32_t *skip = NULL, n = 0, room = 0;
    for (uint64_t i = 0; i < logged && i < PM_LOG; i++) {
        const struct pm_failure *e = &c->job->log[i];
        if (!__atomic_load_n(&e->ready, __ATOMIC_ACQUIRE)) continue;
        uint64_t a = e->item > lo ? e->item : lo, b = e->item + e->count;
        for (; a < b && a < lo + f->items; a++) {
            if (n == room) {
                room = room ? 2 * room : 16;
                uint32_t *more = realloc(skip, room * sizeof *more);
                if (!more) {
                    free(skip);
                    return -ENOMEM;
                }
                skip = more;
            }
            skip[n++] = (uint32_t)(a - lo);
        }
    }
    if (n) qsort(skip, n, sizeof *skip, by_number);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || skip[kept - 1] != skip[i]) skip[kept++] = skip[i];
    f->skips = kept;
    int e = pm_libzmq.msg_init_size(part, sizeof *f + kept * sizeof *skip) < 0 ? -ENOMEM : 0;
    if (!e) {
        memcpy(pm_libzmq.msg_data(part), f, sizeof *f);
        if (kept) memcpy((char *)pm_libzmq.msg_data(part) + sizeof *f, skip, kept * sizeof *skip);
    }
    free(skip);
    return e;
}

static void returned(void *data, void *lent)
{
    (void)data;
    atomic_fetch_sub((_Atomic uint32_t *)lent, 1);
}

/* The caller's bytes as a part of a message. */
static int make_data(struct pm_zmq *z, const char *bytes, size_t n, zmq_msg_t *part)
{
    if (n < LEND_BYTES) {
        if (pm_libzmq.msg_init_size(part, n) < 0) return -ENOMEM;
        memcpy(pm_libzmq.msg_data(part), bytes, n);
        return 0;
    }
    /* Only read: libzmq asks for a writable pointer and gives it to returned(). */
    if (pm_libzmq.msg_init_data(part, (void *)(uintptr_t)bytes, n, returned, &z->lent) < 0) return -ENOMEM;
    atomic_fetch_add(&z->lent, 1);
    return 0;
}

static void let_go(struct call *c, struct pm_zmq_peer *peer, unsigned i)
{
    peer->held[i] = peer->held[--peer->n];
    c->out--;
    c->cursor = 0; /* that chunk may be free again, wherever it is */
}

/* Compares what a worker is thought to hold with the words.  A word may still name it although it is dead and the supervisor has been through
 * the words: then it was claimed for it behind the supervisor's back, and nobody else will ever give it back. */
static void look_at(struct call *c, unsigned s)
{
    struct pm_slot *slot = &c->p->board->slot[s];
    struct pm_zmq_peer *peer = &c->z->peer[s];
    /* Set when the words have been mended; read before the words are. */
    bool dead = atomic_load(&slot->pid) == 0 || peer->owner != pm_owner(s, atomic_load(&slot->gen));
    for (unsigned i = 0; i < peer->n;) {
        const struct pm_zmq_held *h = &peer->held[i];
        _Atomic uint64_t *word = &c->job->word[h->question.chunk];
        uint64_t w = h->word;
        uint64_t free_again = pm_word(PM_FREE, h->question.attempt, PM_OFFSET_KEPT, c->v.round);
        if (!dead && atomic_load(word) == w) {
            i++;
            continue;
        }
        if (dead) (void)atomic_compare_exchange_strong(word, &w, free_again);
        let_go(c, peer, i);
    }
    if (dead) *peer = (struct pm_zmq_peer){0};
}

/* Claims a chunk for a worker and sends it.  0: done, or it was not free; -EHOSTUNREACH: not this worker; -ENOMEM. */
static int hand_out(struct call *c, struct pm_zmq_peer *peer, uint32_t chunk)
{
    struct pm_job *job = c->job;
    uint64_t w = atomic_load(&job->word[chunk]), lo = pm_chunk_first(&c->v, chunk);
    zmq_msg_t head, data;
    if (!pm_word_free(w, c->v.round)) return 0;
    struct pm_frame f = frame_to(c->p, PM_FRAME_CHUNK, peer->owner);
    f.serial = atomic_load_explicit(&job->serial, memory_order_relaxed);
    f.job = job->index;
    f.round = c->v.round;
    f.chunk = chunk;
    f.items = (uint32_t)(pm_chunk_end(&c->v, chunk) - lo);
    f.bytes = pm_zmq_input(c->work, lo, f.items);
    const char *in = f.bytes ? c->work->in + lo * c->work->in_size : NULL;
    /* A message lies where libzmq happens to put it.  The bytes before the input, which are the caller's too, move it to where the
     * worker can use it without a copy. */
    if (f.bytes >= LEND_BYTES && pm_zmq_alignment(c->work) > 8 && lo * c->work->in_size >= peer->lead) f.lead = peer->lead;
    bool before = pm_word_round(w) == c->v.round; /* then somebody has died over it, or before it began it */
    f.attempt = before ? pm_word_attempt(w) : 0;
    if (!before) c->z->suspect[chunk] = PM_FRAME_SUSPECT_NONE;
    else if (pm_word_offset(w) != PM_OFFSET_KEPT) c->z->suspect[chunk] = pm_word_offset(w);
    f.suspect = c->z->suspect[chunk];
    struct pm_zmq_held held = {f, pm_word(PM_CLAIMED, f.attempt, peer->owner, c->v.round)};
    int e = make_header(c, &f, lo, &head);
    if (e) return e;
    if (f.bytes && make_data(c->z, in - f.lead, f.bytes + f.lead, &data) < 0) {
        (void)pm_libzmq.msg_close(&head);
        return -ENOMEM;
    }
    uint64_t expected = w;
    if (!atomic_compare_exchange_strong(&job->word[chunk], &expected, held.word)) {
        e = -EAGAIN;
    } else if (!address(c->p, peer->owner)) {
        expected = held.word;
        (void)atomic_compare_exchange_strong(&job->word[chunk], &expected, w); /* not sent: as if never claimed */
        e = -EHOSTUNREACH;
    }
    if (e) {
        (void)pm_libzmq.msg_close(&head);
        if (f.bytes) (void)pm_libzmq.msg_close(&data);
        return e == -EAGAIN ? 0 : e;
    }
    /* These two are queued, or dropped together when the peer has just gone: then the word tells. */
    int flags = f.bytes ? ZMQ_SNDMORE : 0;
    if (PM_ZMQ_AGAIN(pm_libzmq.msg_send(&head, c->z->socket, flags)) < 0) (void)pm_libzmq.msg_close(&head);
    if (f.bytes && PM_ZMQ_AGAIN(pm_libzmq.msg_send(&data, c->z->socket, 0)) < 0) (void)pm_libzmq.msg_close(&data);
    if (peer->n == 0) {
        peer->probe_gap = PROBE_NS;
        peer->probe_at = pm_now() + PROBE_NS;
    }
    peer->held[peer->n++] = held;
    c->out++;
    c->bytes += f.bytes;
    return 0;
}

/* One chunk for everybody, then the next: so that no worker gets its second while another has none. */
static void hand_out_all(struct call *c)
{
    unsigned workers = c->p->board->workers, credit = c->work->once || c->p->board->life.items ? 1 : PM_ZMQ_CREDIT;
    for (unsigned full = 1; full <= credit; full++)
        for (unsigned i = 0; i < workers && c->cursor < c->v.chunks; i++) {
            struct pm_zmq_peer *peer = &c->z->peer[(c->turn + i) % workers];
            while (peer->owner && !peer->gone && peer->n < full && c->cursor < c->v.chunks) {
                int e = hand_out(c, peer, c->cursor);
                if (e == -EHOSTUNREACH) {
                    end_worker(c->p, peer->owner);
                    peer->gone = true;
                } else if (e) {
                    c->error = e;
                    pm_job_stop(c->p->board, c->job);
                    return;
                } else {
                    c->cursor++;
                }
            }
        }
    c->turn = (c->turn + 1) % workers;
}

/* ---- Receiving ---- */

static bool greet(struct call *c, struct pm_zmq_peer *peer, uint32_t owner)
{
    if (peer->owner == owner) return false;
    look_at(c, owner >> 12); /* an earlier one, dead for certain */
    peer->owner = owner;
    return true;
}

/* A result: is it exactly what was asked for, by whom it was asked of, and still wanted? */
static bool commit(struct call *c, struct pm_zmq_peer *peer, const struct pm_frame *f, const void *data, size_t bytes)
{
    unsigned i = 0;
    size_t out_size = c->work->out ? c->work->out_size : 0;
    while (i < peer->n && peer->held[i].question.chunk != f->chunk) i++;
    if (peer->owner != f->owner || i == peer->n || !pm_frame_answers(f, &peer->held[i].question, out_size, bytes)) return false;
    struct pm_zmq_held held = peer->held[i];
    _Atomic uint64_t *word = &c->job->word[f->chunk];
    if (atomic_load(word) != held.word) {
        let_go(c, peer, i);
        return false;
    }
    uint64_t lo = pm_chunk_first(&c->v, f->chunk);
    if (bytes) memcpy(c->work->out + lo * out_size, data, bytes);
    c->bytes += bytes;
    uint64_t end = f->reached == f->items ? pm_word(PM_DONE, f->attempt, f->owner, f->round)
                                          : pm_word(PM_CANCELLED, f->attempt, f->reached, f->round);
    if (!atomic_compare_exchange_strong(word, &held.word, end)) {
        let_go(c, peer, i);
        return false;
    }
    peer->lead = f->lead;
    peer->held[i] = peer->held[--peer->n];
    c->out--;
    peer->probe_gap = PROBE_NS;
    peer->probe_at = pm_now() + PROBE_NS;
    struct pm_slot *slot = &c->p->board->slot[f->owner >> 12]; /* nobody else writes this in a pool of this channel */
    (void)atomic_fetch_add_explicit(&slot->progress, 1, memory_order_relaxed);
    return true;
}

/* Judges one message by its parts: who it is from, its header, its bytes.  False: dropped. */
static bool judge(struct call *c, zmq_msg_t *part, unsigned n)
{
    struct pm_board *board = c->p->board;
    struct pm_frame f;
    uint32_t owner;
    if (n < 2 || n > 3) return false;
    const void *from = pm_libzmq.msg_data(&part[0]);
    if (!pm_frame_owner(from, pm_libzmq.msg_size(&part[0]), board->zmq_nonce, &owner)) return false;
    unsigned slot = owner >> 12;
    if (slot >= board->workers || owner != pm_owner(slot, atomic_load(&board->slot[slot].gen))) return false;
    if (pm_frame_get(&f, pm_libzmq.msg_data(&part[1]), pm_libzmq.msg_size(&part[1]), board->zmq_nonce) < 0) return false;
    if (f.owner != owner) return false;
    if (f.kind == PM_FRAME_HELLO) return n == 2 && greet(c, &c->z->peer[slot], owner);
    if (f.kind != PM_FRAME_RESULT || (n == 3) != (f.bytes > 0)) return false;
    if (n == 2) return commit(c, &c->z->peer[slot], &f, NULL, 0);
    return commit(c, &c->z->peer[slot], &f, pm_libzmq.msg_data(&part[2]), pm_libzmq.msg_size(&part[2]));
}

static bool receive(struct call *c)
{
    zmq_msg_t part[4]; /* the last takes all that should not be there */
    unsigned n = 0, made = 0;
    bool more = true;
    while (more) {
        unsigned at = n < 3 ? n : 3;
        if (made <= at) (void)pm_libzmq.msg_init(&part[made++]);
        if (PM_ZMQ_AGAIN(pm_libzmq.msg_recv(&part[at], c->z->socket, ZMQ_DONTWAIT)) < 0) break;
        more = pm_libzmq.msg_more(&part[at]) != 0;
        n++;
    }
    if (n && !judge(c, part, n)) atomic_fetch_add(&c->z->dropped, 1);
    while (made) (void)pm_libzmq.msg_close(&part[--made]);
    return n > 0;
}

/* ---- The loop ---- */

/* What a worker held that is no longer alive has been given back by the supervisor: the words say so. */
static void look(struct call *c, int64_t now)
{
    for (unsigned s = 0; s < c->p->board->workers; s++) {
        struct pm_zmq_peer *peer = &c->z->peer[s];
        if (peer->owner) look_at(c, s);
        if (peer->n == 0 || peer->gone || now < peer->probe_at) continue;
        peer->probe_gap *= 2; /* so a worker that computes for long finds a few of them, not thousands */
        peer->probe_at = now + peer->probe_gap;
        if (send_frame(c->p, PM_FRAME_PROBE, peer->owner)) continue;
        end_worker(c->p, peer->owner);
        peer->gone = true;
    }
}

/* Has somebody taken the socket's name?  Workers that have come since are with him, or with nobody: who has not said HELLO is ended, and the
 * one that takes its place comes here.  The rest do not need the name. */
static void keep_name(struct call *c, int64_t now)
{
    struct pm_zmq *z = c->z;
    struct pm_board *board = c->p->board;
    if (now < z->name_at) return;
    z->name_at = now + NAME_NS;
    if (pm_zmq_has_name(z, board)) return;
    (void)pm_zmq_make(board); /* that may be gone, too */
    if (PM_ZMQ_AGAIN(pm_libzmq.bind(z->socket, board->zmq)) < 0) return;
    pm_zmq_note_name(z, board);
    for (unsigned s = 0; s < board->workers; s++) {
        uint32_t owner = pm_owner(s, atomic_load(&board->slot[s].gen));
        if (z->peer[s].owner != owner) end_worker(c->p, owner);
    }
}

static void read_round(struct call *c)
{
    while (!pm_round_read(c->job, atomic_load(c->job->head), &c->v)) continue;
    c->cursor = 0;
}

/* Hands out what can be handed out, and brings the job on when there is nothing more. */
static void advance(struct call *c)
{
    struct pm_job *job = c->job;
    uint64_t head = atomic_load(job->head);
    if (atomic_load(&job->stop)) {
        if (pm_word_state(head) == PM_OPEN) pm_job_stop(c->p->board, job);
        else pm_job_settle(job, head);
        return;
    }
    if (pm_word_state(head) != PM_OPEN) return;
    hand_out_all(c);
    if (c->out || c->cursor < c->v.chunks) return;
    if (pm_round_settled(job, &c->v, false)) {
        pm_round_move(c->p->board, job, &c->v, APPLICATION);
        if (pm_job_finished(job)) return;
        read_round(c);
        hand_out_all(c);
    } else {
        c->cursor = 0; /* something was given back meanwhile, or is about to be */
    }
}

/* Until the job is finished: 0, -ECANCELED when the pool ended under it. */
static int carry(struct call *c)
{
    struct pm_board *board = c->p->board;
    int64_t looked = 0, checked = pm_now();
    read_round(c);
    while (!pm_job_finished(c->job)) {
        bool busy = false;
        int64_t t = pm_now();
        for (unsigned n = 0; n < PM_ZMQ_QUEUE && receive(c); n++) busy = true;
        int64_t now = pm_now();
        if (busy) c->out_ns += now - t;
        uint64_t deaths = atomic_load(&board->deaths);
        if (deaths != c->deaths || now - looked >= TICK_MS * MS) look(c, looked = now);
        keep_name(c, now);
        c->deaths = deaths;
        t = pm_now();
        advance(c);
        if (busy) c->in_ns += pm_now() - t;
        if (now - checked >= CHECK_NS) {
            checked = now;
            int e = pm_processes_check(c->p);
            if (e == -ECANCELED && pm_control_over(c->p) && !pm_job_finished(c->job)) return e;
        }
        if (busy || pm_job_finished(c->job)) continue;
        zmq_pollitem_t item = {.socket = c->z->socket, .events = ZMQ_POLLIN};
        (void)pm_libzmq.poll(&item, 1, TICK_MS);
    }
    return atomic_load(&board->broken) && atomic_load(&c->job->stop) ? -EPIPE : atomic_load(&c->p->ending) ? -ECANCELED : 0;
}

/* The call may not return while libzmq could read the caller's memory: messages to a worker that died are freed a little later.  Should that
 * not come to pass, the socket goes, and with it all it holds; workers connect again to the next, and who does not is ended. */
static void take_back(struct call *c)
{
    struct pm_zmq *z = c->z;
    int64_t end = pm_now() + RETURN_NS;
    while (atomic_load(&z->lent) && pm_now() < end) {
        zmq_pollitem_t item = {.socket = z->socket, .events = ZMQ_POLLIN};
        if (!receive(c)) (void)pm_libzmq.poll(&item, 1, 1);
    }
    if (atomic_load(&z->lent) == 0) return;
    (void)pm_libzmq.close(z->socket);
    while (pm_libzmq.ctx_term(z->context) < 0 && errno == EINTR) {
    }
    z->socket = z->context = NULL;
}

/* ---- One call ---- */

static bool fits(struct pm_processes *p, const struct pm_work *work)
{
    (void)work;
    return p->zmq != NULL;
}

/* Items a chunk: about CHUNK_BYTES, enough chunks for all workers, not more than a worker may run, and never a part that is too large. */
static uint64_t shape(const struct pm_work *work, unsigned workers, uint64_t most)
{
    size_t in = work->in ? work->in_size : 0, out = work->out ? work->out_size : 0, larger = in > out ? in : out;
    uint64_t chunk = work->chunk, share = work->count / ((uint64_t)workers * CHUNKS_A_WORKER);
    if (chunk == 0) {
        chunk = in + out ? CHUNK_BYTES / (in + out) : work->count;
        if (chunk > share) chunk = share;
        if (most && chunk > most) chunk = most;
    }
    if (work->once && work->how == PM_HOW_ITEMS) chunk = 1; /* a death must not take finished items with it */
    if (chunk > MOST_ITEMS) chunk = MOST_ITEMS;
    if (larger && chunk > PM_ZMQ_LARGEST / larger) chunk = PM_ZMQ_LARGEST / larger;
    return chunk ? chunk : 1;
}

/* The parts are of the workers' time.  What the application did while all workers were busy kept nobody waiting, and is left out. */
static void account(struct call *c, const struct pm_cost *job, struct pm_cost *cost)
{
    int64_t wall = pm_now() - c->work->begun, own = c->in_ns + c->out_ns;
    int64_t room = wall * atomic_load(&c->p->board->wanted) - job->in - job->compute - job->out - job->dispatch;
    double share = own <= room ? 1.0 : room > 0 ? (double)room / (double)own : 0.0;
    *cost = *job;
    cost->wall = wall;
    cost->in += (int64_t)(share * (double)c->in_ns);
    cost->out += (int64_t)(share * (double)c->out_ns);
    cost->bytes = c->bytes;
    cost->idle = own < room ? room - own : 0;
}

static int run_locked(struct pm_processes *p, const struct pm_work *work, struct pm_result *result)
{
    struct call c = {.p = p, .z = p->zmq, .work = work};
    struct pm_ticket ticket;
    struct pm_failures failures = {0};
    struct pm_cost cost = {0};
    struct pm_work part = *work;
    if ((work->in && work->in_size > PM_ZMQ_LARGEST) || (work->out && work->out_size > PM_ZMQ_LARGEST)) return -EMSGSIZE;
    int e = pm_zmq_bind(p);
    if (e) return e;
    part.resent = true;
    part.want_cost = true;
    part.chunk = shape(work, atomic_load(&p->board->wanted), p->board->life.items);
    e = pm_ticket_open(p, &part, &ticket, true);
    if (e) return e;
    c.job = ticket.job;
    e = carry(&c);
    take_back(&c);
    for (unsigned i = 0; i < p->board->workers; i++) p->zmq->peer[i].n = 0;
    if (e == -ECANCELED && !pm_job_finished(c.job)) return e; /* the pool is gone and the descriptor with it */
    pm_ticket_close(p, &ticket, &failures, 0, &cost);
    account(&c, &cost, &result->cost);
    result->cost.failed = failures.total;
    int t = pm_failures_take(&failures, &result->failures, &result->nfailures);
    return e ? e : c.error ? c.error : t;
}

static int run(struct pm_processes *p, const struct pm_work *work, struct pm_result *result)
{
    pthread_mutex_lock(&p->zmq->lock);
    unsigned held = pm_fd_hold_stdio(); /* libzmq takes the lowest free numbers */
    int e = run_locked(p, work, result);
    if (atomic_load(&p->ending)) say_bye(p);
    pm_fd_release_stdio(held);
    pthread_mutex_unlock(&p->zmq->lock);
    return e;
}

const struct pm_channel pm_channel_zmq = {"zmq", fits, run};

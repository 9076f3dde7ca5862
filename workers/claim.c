/* A worker's side of a job: pop, claim, run, commit, steal, scan, and move the job to its next round.  No lock, no system call and no
 * malloc on the way.  DESIGN.md has the protocol and its orderings. */
#include "workers/job.h"

#include <limits.h>
#include <string.h>

#include "workers/life.h"
#include "workers/room.h"
#include "workers/round.h"

#define R memory_order_relaxed
#define MOST 64u            /* chunks a pop; only while they are short */
#define BATCH_NS 1500       /* what a pop should be worth */
#define ONE_NS 60           /* what popping, claiming and committing a single chunk takes */

static void run_fail(struct pm_run *run, uint64_t item, uint64_t count, int value, unsigned attempts)
{
    struct pm_worker *me = (struct pm_worker *)(void *)((char *)run - offsetof(struct pm_worker, run));
    pm_job_fail(me->board, run->job, item, count, PM_CODE, value, attempts, run->spot->text);
    run->spot->text[0] = 0;
}

void pm_worker_init(struct pm_worker *me, struct pm_board *board, unsigned index)
{
    memset(me, 0, sizeof *me);
    me->board = board;
    me->slot = &board->slot[index];
    me->index = index;
    me->owner = pm_owner(index, atomic_load_explicit(&me->slot->gen, R));
    me->random = (index + 1u) * UINT64_C(0x9e3779b97f4a7c15);
    me->share = 1.0;
    me->run.spot = &me->slot->spot;
    me->run.worker = index;
    me->run.fail = run_fail;
}

/* The job's constants, once a job.  Called under a claim: they cannot change while one is held. */
static inline void prepare(struct pm_worker *me, struct pm_job *job)
{
    uint64_t serial = atomic_load_explicit(&job->serial, R);
    if (me->serial == serial) return;
    me->serial = serial;
    me->run.job = job;
    me->run.stop = &job->stop;
    me->run.arg = job->arg;
    pm_run_take(&me->run, &job->work);
}

/* Runs [lo, hi) of a claimed chunk; returns the first item that was not run. */
static inline uint64_t run_items(struct pm_worker *me, struct pm_job *job, uint64_t lo, uint64_t hi, bool careful)
{
    const struct pm_work *work = &job->work;
    struct pm_spot *spot = &me->slot->spot;
    if (work->how == PM_HOW_BULK && careful) {
        for (uint64_t i = lo; i < hi; i++) {
            if (pm_run_stopped(&me->run)) return i;
            if (i > lo) me->run.attempt = 0; /* only the first of them is known to have died */
            pm_run_at(&me->run, i);
            if (work->body.run(&me->run, i, i + 1) == i) return i;
        }
        return hi;
    }
    if (work->timeout_ns && work->how != PM_HOW_ITEMS) {
        int64_t budget;
        if (__builtin_mul_overflow(work->timeout_ns, (int64_t)(hi - lo), &budget)) budget = INT64_MAX / 2;
        atomic_store_explicit(&spot->deadline, pm_now() + budget, R);
    }
    return work->body.run(&me->run, lo, hi);
}

/* The same for the ZeroMQ channel's workers, who are told which chunk to run. */
void pm_worker_prepare(struct pm_worker *me, struct pm_job *job) { prepare(me, job); }

uint64_t pm_worker_items(struct pm_worker *me, struct pm_job *job, uint64_t lo, uint64_t hi, bool careful)
{
    return run_items(me, job, lo, hi, careful);
}

/* What one visit to a round has brought. */
struct visit {
    uint32_t chunks;
    uint64_t items, steals;
    int64_t compute, now; /* `now`: when the clock was last read */
};

/* Claims, runs and commits one chunk: 1 when it was this worker that did.  With `body`, notes there when the body began and ended.
 *
 * The commit is a store, not a compare-and-swap: the word says CLAIMED by this worker, and nobody but it may change such a word before the
 * kernel has confirmed its death (rule 3).  Whoever reads `deaths`, `stop`, the head or other words behind commits has a full barrier
 * in between. */
static inline unsigned do_chunk(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, uint32_t c, int64_t body[2])
{
    uint64_t w = atomic_load_explicit(&job->word[c], R);
    if (!pm_word_free(w, v->round)) return 0;
    unsigned attempt = 0;
    uint32_t offset = 0;
    if (pm_word_round(w) == v->round) {
        attempt = pm_word_attempt(w);
        offset = pm_word_offset(w);
    }
    uint64_t lo = pm_chunk_first(v, c) + offset, hi = pm_chunk_end(v, c);
    struct pm_spot *spot = &me->slot->spot;
    /* Before the claim: a death right behind it then finds where the chunk is to be resumed. */
    atomic_store_explicit(&spot->from, lo, R);
    atomic_store_explicit(&spot->item, lo, R);
    atomic_store_explicit(&spot->exact, 0, R);
    atomic_store_explicit(&spot->chunk, c, R);
    uint64_t mine = pm_word(PM_CLAIMED, attempt, me->owner, v->round);
    if (!atomic_compare_exchange_strong_explicit(&job->word[c], &w, mine, memory_order_acquire, R)) return 0;
    prepare(me, job);
    me->run.attempt = attempt;
    if (body) body[0] = pm_now();
    uint64_t reached = run_items(me, job, lo, hi, attempt > 0 || offset > 0);
    if (body) body[1] = pm_now();
    if (me->run.timeout_ns) atomic_store_explicit(&spot->deadline, 0, R);
    uint64_t end = reached == hi ? pm_word(PM_DONE, attempt, me->owner, v->round)
                                 : pm_word(PM_CANCELLED, attempt, (uint32_t)(reached - pm_chunk_first(v, c)), v->round);
    atomic_store_explicit(&job->word[c], end, memory_order_release); /* pairs with the acquire of whoever judges the round */
    atomic_store_explicit(&me->slot->progress, atomic_load_explicit(&me->slot->progress, R) + 1, R);
    return reached == hi;
}

/* ---- Where chunks come from ---- */

static bool pop(struct pm_line *line, const struct pm_view *v, uint32_t index, uint32_t most, uint32_t *lo, uint32_t *hi)
{
    uint64_t x = atomic_load_explicit(&line->v, R);
    for (;;) {
        if (pm_range_newer(x, v->round)) return false; /* this worker was preempted: its round is over */
        uint64_t now = pm_range_of(x, v->round) ? x : pm_range_first(index, v->ranges, v->chunks, v->round);
        uint32_t a = pm_range_lo(now), b = pm_range_hi(now);
        if (a >= b || b > v->chunks) return false;
        uint32_t n = (b - a) / 4; /* never most of what is left */
        if (n > most) n = most;
        if (n < 1) n = 1;
        if (atomic_compare_exchange_weak_explicit(&line->v, &x, pm_range(a + n, b, v->round), R, R)) {
            *lo = a;
            *hi = a + n;
            return true;
        }
    }
}

/* An untouched range is taken whole (its worker may sleep for long), else the upper half of what is left. */
static bool rob(struct pm_line *line, const struct pm_view *v, uint32_t index, uint32_t *lo, uint32_t *hi)
{
    uint64_t x = atomic_load_explicit(&line->v, R);
    for (;;) {
        if (pm_range_newer(x, v->round)) return false;
        bool touched = pm_range_of(x, v->round);
        uint64_t now = touched ? x : pm_range_first(index, v->ranges, v->chunks, v->round);
        uint32_t a = pm_range_lo(now), b = pm_range_hi(now);
        if (a >= b || b > v->chunks) return false;
        uint32_t cut = touched ? a + (b - a) / 2 : a;
        uint64_t rest = touched ? pm_range(a, cut, v->round) : pm_range(b, b, v->round);
        if (atomic_compare_exchange_weak_explicit(&line->v, &x, rest, R, R)) {
            *lo = cut;
            *hi = b;
            return true;
        }
    }
}

static uint32_t next_random(struct pm_worker *me)
{
    me->random ^= me->random << 13;
    me->random ^= me->random >> 7;
    me->random ^= me->random << 17;
    return (uint32_t)(me->random >> 32);
}

static bool steal(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, uint32_t own, uint32_t *lo, uint32_t *hi)
{
    uint32_t start = next_random(me) % v->ranges;
    for (uint32_t i = 0; i < v->ranges; i++) {
        uint32_t victim = (start + i) % v->ranges, a, b;
        if (victim == own || !rob(&job->range[victim], v, victim, &a, &b)) continue;
        *lo = a;
        *hi = a + 1;
        if (b - a > 1) {
            /* The rest becomes this worker's range, for others to steal from.  Where workers share a range another may
             * have filled it meanwhile: then the loot stays private; should its owner die, the words bring it back. */
            uint64_t x = atomic_load_explicit(&job->range[own].v, R);
            bool empty = pm_range_of(x, v->round) && pm_range_lo(x) >= pm_range_hi(x);
            if (!empty || !atomic_compare_exchange_strong_explicit(&job->range[own].v, &x, pm_range(a + 1, b, v->round), R, R)) {
                me->spare_lo = a + 1;
                me->spare_hi = b;
                me->spare_round = v->round;
                me->spare_job = job;
            }
        }
        return true;
    }
    return false;
}

static bool take(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, uint32_t *lo, uint32_t *hi, struct visit *visit)
{
    uint32_t own = me->index % v->ranges;
    if (me->spare_round == v->round && me->spare_job == job && me->spare_lo < me->spare_hi) {
        *lo = me->spare_lo++;
        *hi = *lo + 1;
        return true;
    }
    if (pop(&job->range[own], v, own, me->batch, lo, hi)) return true;
    if (!steal(me, job, v, own, lo, hi)) return false;
    visit->steals++;
    visit->now = pm_now(); /* the search was no computing */
    return true;
}

/* ---- Rounds ---- */

/* Takes n off what is left of the round; true when that was the last. */
static bool settle_count(struct pm_job *job, uint32_t round, uint32_t n)
{
    uint64_t x = atomic_load_explicit(&job->left, R);
    while ((uint32_t)(x >> 32) == round && n)
        if (atomic_compare_exchange_weak(&job->left, &x, x - n)) return (uint32_t)x == n;
    return false;
}

/* After a death ranges and `left` may have lost something: the words know.  Takes what is free, from a random start; true when every
 * word is terminal. */
static bool scan(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, struct visit *visit)
{
    uint32_t before = visit->chunks, start = next_random(me) % v->chunks;
    bool all = true;
    for (uint32_t i = 0; i < v->chunks; i++) {
        uint32_t c = start + i < v->chunks ? start + i : start + i - v->chunks;
        uint64_t w = atomic_load_explicit(&job->word[c], memory_order_seq_cst);
        if (pm_word_free(w, v->round)) {
            int64_t body[2] = {0, 0};
            if (do_chunk(me, job, v, c, body)) {
                visit->chunks++;
                visit->items += pm_chunk_end(v, c) - pm_chunk_first(v, c);
                me->tenure.items += pm_chunk_end(v, c) - pm_chunk_first(v, c);
            }
            visit->compute += body[1] - body[0];
            if (atomic_load_explicit(&job->stop, R) || pm_tenure_ends(me, body[1])) return false;
            w = atomic_load_explicit(&job->word[c], memory_order_seq_cst);
        }
        if (!pm_word_terminal(w, v->round)) all = false;
    }
    visit->now = pm_now();
    if (visit->chunks == before) return all;
    /* Others went on while this worker was busy.  The barrier: of two that finish together at least one sees all words terminal. */
    pm_full_barrier();
    return settle_count(job, v->round, visit->chunks - before) || pm_round_settled(job, v, false);
}

/* Every chunk of the round is terminal: open the next round, or finish.  One owner; if it dies, repair opens the round again and somebody scans. */
void pm_round_move(struct pm_board *board, struct pm_job *job, const struct pm_view *v, uint32_t owner)
{
    uint64_t head = v->head;
    if (v->last) {
        if (atomic_compare_exchange_strong(job->head, &head, pm_word(PM_FINISHED, 0, 0, v->round)))
            pm_event_notify(&job->done, INT_MAX);
        return;
    }
    if (!atomic_compare_exchange_strong(job->head, &head, pm_word(PM_MOVING, 0, owner, v->round))) return;
    if (!atomic_load(&job->stop) && pm_round_plan(job, v->first + v->items, v->round + 1)) {
        atomic_store(job->head, pm_word(PM_OPEN, 0, 0, v->round + 1));
        uint32_t chunks = atomic_load_explicit(&job->round[(v->round + 1) & 1u].chunks, R);
        pm_board_wake(board, chunks);
        if (atomic_load(&job->stop)) pm_job_stop(board, job); /* whoever stopped it may have met MOVING */
    } else {
        atomic_store(job->head, pm_word(PM_FINISHED, 0, 0, v->round));
        pm_event_notify(&job->done, INT_MAX);
    }
}

/* A batch of popped chunks.  Reading the clock costs as much as a claim: so once a batch.  What share of it was spent in the function is
 * measured on every 16th batch of several chunks; a chunk that is long enough to be alone is all function but for its claim. */
static void do_batch(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, uint32_t lo, uint32_t hi, struct visit *visit)
{
    uint32_t n = hi - lo;
    bool timed = n > 1 && (me->tick++ & 15u) == 0;
    int64_t body[2] = {0, 0};
    uint64_t before = visit->items;
    for (uint32_t c = lo; c < hi; c++) {
        if (!do_chunk(me, job, v, c, timed && c == lo ? body : NULL)) continue;
        visit->items += pm_chunk_end(v, c) - pm_chunk_first(v, c);
        visit->chunks++;
    }
    me->tenure.items += visit->items - before;
    int64_t t = pm_now(), took = t - visit->now;
    visit->now = t;
    if (timed && took > 0) {
        int64_t in_body = body[1] - body[0] - me->board->clock_ns;
        double share = (double)(in_body > 0 ? in_body : 0) * n / (double)took;
        me->share = share < 1 ? share : 1;
    }
    visit->compute += n == 1 ? (took > ONE_NS ? took - ONE_NS : took / 2) : (int64_t)((double)took * me->share);
    if (took < BATCH_NS && n == me->batch && me->batch < MOST && !me->board->life.items) me->batch *= 2;
    if (took > 4 * BATCH_NS && me->batch > 1) me->batch /= 2;
}

/* One round, as far as its ranges go for this worker. */
static void work_round(struct pm_worker *me, struct pm_job *job, const struct pm_view *v, struct visit *visit)
{
    uint32_t lo = 0, hi = 0;
    bool chain = me->board->workers > me->board->cpus;
    int64_t look_at = me->polite ? visit->now + PM_ROOM_NS : INT64_MAX;
    me->batch = 1;
    while (take(me, job, v, &lo, &hi, visit)) {
        if (chain && visit->chunks == 0 && v->chunks > 1 && atomic_load_explicit(&me->board->work.sleepers, R))
            pm_event_notify(&me->board->work, 1); /* more workers than CPUs: each that finds work wakes one more */
        do_batch(me, job, v, lo, hi, visit);
        if (visit->now >= look_at) {
            pm_room_make(me);
            visit->now = pm_now();
            look_at = INT64_MAX;
        }
        if (atomic_load_explicit(&job->stop, R) || pm_tenure_ends(me, visit->now)) return;
    }
}

/* It leaves with loot that only it knows of.  The words have it: whoever finds nothing more to take looks there. */
static void leave_spare(struct pm_worker *me, struct pm_job *job, const struct pm_view *v)
{
    if (me->spare_round != v->round || me->spare_job != job || me->spare_lo >= me->spare_hi) return;
    atomic_fetch_add(&job->strays, 1);
    pm_board_wake_all(me->board); /* also who has looked before this and sleeps */
}

static void add(_Atomic uint64_t *to, uint64_t n) { atomic_store_explicit(to, atomic_load_explicit(to, R) + n, R); }
static void add_ns(_Atomic int64_t *to, int64_t n) { atomic_store_explicit(to, atomic_load_explicit(to, R) + n, R); }

struct pm_tally *pm_tally_enter(struct pm_worker *me, struct pm_job *job, int64_t now)
{
    struct pm_tally *t = &job->tally[me->index * PM_JOBS];
    uint64_t serial = atomic_load_explicit(&job->serial, R);
    if (atomic_load_explicit(&t->serial, R) == serial) {
        int64_t away = now - atomic_load_explicit(&t->leave, R);
        atomic_store_explicit(&t->away, atomic_load_explicit(&t->away, R) + (away > 0 ? away : 0), R);
        atomic_store_explicit(&t->leave, now, R); /* a death in this visit leaves its time unaccounted for, not counted twice */
        return t;
    }
    atomic_store_explicit(&t->enter, now, R);
    atomic_store_explicit(&t->leave, now, R);
    atomic_store_explicit(&t->away, 0, R);
    atomic_store_explicit(&t->inside, 0, R);
    atomic_store_explicit(&t->compute, 0, R);
    atomic_store_explicit(&t->in, 0, R);
    atomic_store_explicit(&t->out, 0, R);
    atomic_store_explicit(&t->items, 0, R);
    atomic_store_explicit(&t->chunks, 0, R);
    atomic_store_explicit(&t->steals, 0, R);
    atomic_store_explicit(&t->bytes, 0, R);
    atomic_store_explicit(&t->serial, serial, memory_order_release);
    return t;
}

/* Before the round can move: whoever sees the job finished sees the tally whole. */
static void account(struct pm_job *job, const struct pm_view *v, struct pm_tally *tally, const struct visit *visit, int64_t begin)
{
    add(&tally->items, visit->items);
    add(&tally->chunks, visit->chunks);
    add(&tally->steals, visit->steals);
    add_ns(&tally->compute, visit->compute);
    add_ns(&tally->inside, visit->now - begin);
    atomic_store_explicit(&tally->leave, visit->now, R);
    if (visit->chunks == 0 || v->last) return; /* there is nothing left to tune */
    atomic_fetch_add_explicit(&job->busy_ns, (uint64_t)visit->compute, R);
    atomic_fetch_add_explicit(&job->busy_items, visit->items, R);
}

/* A lone chunk, whose worker and caller both spin: two looks at the clock and the tally would take as long as all the rest.  It began when it
 * was announced, and nobody asks when it ended, unless its caller sleeps by then.  False: there is nothing done that would be finished. */
static bool work_lone(struct pm_worker *me, struct pm_job *job, const struct pm_view *v)
{
    if (!do_chunk(me, job, v, 0, NULL)) return false; /* not popped: who finds it in its range does not get it */
    me->tenure.items += v->items;
    if (atomic_load(&job->done.sleepers)) { /* `begun` was written before it went to sleep */
        int64_t begin = job->work.begun, now = pm_now();
        struct visit visit = {.chunks = 1, .items = v->items, .compute = now - begin, .now = now};
        account(job, v, pm_tally_enter(me, job, begin), &visit, begin);
    }
    pm_round_move(me->board, job, v, me->owner);
    return true;
}

bool pm_job_work(struct pm_worker *me, struct pm_job *job)
{
    bool worked = false, spun = me->spun;
    struct pm_view v;
    me->spun = false; /* whatever comes behind this job has waited for it */
    /* Sequentially consistent, before the head is read: whoever wants to start the rounds over looks for it. */
    atomic_store(&me->slot->spot.job, job->index + 1);
    for (;;) {
        uint64_t head = atomic_load(job->head);
        if (pm_word_state(head) == PM_OPEN) { /* lines that come from the caller's CPU: all at once, not one after another */
            __builtin_prefetch(&job->arg);
            __builtin_prefetch((const char *)&job->arg + 64);
            __builtin_prefetch((const char *)&job->arg + 128);
        }
        if (pm_word_state(head) == PM_CANCELLED) pm_job_settle(job, head);
        if (pm_word_state(head) != PM_OPEN) break;
        if (!pm_round_read(job, head, &v)) continue;
        if (atomic_load(&job->stop)) {
            pm_job_stop(me->board, job);
            break;
        }
        if (me->tenure.over) break;
        if (v.lone && spun && !me->tenure.limited && work_lone(me, job, &v)) {
            worked = true;
            continue;
        }
        spun = false;
        int64_t begin = pm_now();
        struct visit visit = {.now = begin};
        struct pm_tally *tally = pm_tally_enter(me, job, begin);
        work_round(me, job, &v, &visit);
        account(job, &v, tally, &visit, begin);
        if (v.last && v.chunks == 1 && visit.chunks == 1) { /* the only chunk of the job: no need to count */
            pm_round_move(me->board, job, &v, me->owner);
            worked = true;
            continue;
        }
        pm_full_barrier(); /* commits before the looks at `left`, `deaths`, `stop` and the head */
        bool end = settle_count(job, v.round, visit.chunks), stop = atomic_load(&job->stop) != 0;
        if (me->tenure.over) leave_spare(me, job, &v);
        else if (!end && !stop && (atomic_load(&job->deaths) || atomic_load(&job->strays))) {
            struct visit more = {.now = visit.now};
            end = scan(me, job, &v, &more);
            account(job, &v, tally, &more, visit.now);
            visit.chunks += more.chunks;
            stop = atomic_load(&job->stop) != 0;
        }
        if (end) pm_round_move(me->board, job, &v, me->owner);
        if (stop) continue; /* this worker may have held the last claim: it looks at the head again, and settles */
        if (visit.chunks == 0) break;
        worked = true;
        if (me->tenure.over) break;
    }
    atomic_store_explicit(&me->slot->spot.job, 0, memory_order_release);
    return worked;
}

/* A job's life on the caller's side: opened, its rounds planned, stopped, read out, closed.  DESIGN.md has the protocol;
 * claim.c is the workers' side of it, repair.c the supervisor's. */
#include "workers/job.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "workers/failures.h"
#include "workers/round.h"

#define R memory_order_relaxed

/* Rounds do not wrap: a closed job starts over with cleared words when its rounds run out and no worker is in it (after 2^28 more of
 * them one must have left).  Ranges know 28 bits of their round and are renewed long before half of those are used up. */
#define LAST_ROUND 0xe0000000u
#define RENEW_ROUNDS (1u << 25)

/* ---- Planning ----
 * The caller's chunk size, or tuned: a short pilot with chunks of one item, then rounds that grow with what is known of the time an item
 * takes, and shrink again at the end together with their chunks, so that no worker is left alone with a long one.
 * A change of rounds costs a microsecond or two; there are about ten. */
#define PILOT 16u            /* items a range in the first round */
#define ALWAYS_SINGLE 256u   /* items a range below which dispatch costs less than guessing */
#define GROWTH 16u
#define CHUNKS_A_RANGE 128u
#define SHORTEST_NS 4000.0   /* chunks: dispatch is below 1 % */
#define LONGEST_NS 500000.0  /* what may be lost at the end of a round, and to a death */
#define TAIL_NS 200000.0     /* a rest below this is one round */
#define TUNED_CHUNKS 16384u

static void plan_tuned(struct pm_job *job, uint64_t at, uint64_t rest, uint64_t *items, uint64_t *grain)
{
    uint64_t ranges = job->spread, done = atomic_load_explicit(&job->busy_items, R);
    double ns = job->work.item_ns;
    *items = rest;
    *grain = 1;
    if (job->work.count <= ALWAYS_SINGLE * ranges) return;
    if (done) {
        ns = (double)atomic_load_explicit(&job->busy_ns, R) / (double)done;
        if (*items / GROWTH > at) *items = at * GROWTH;
    } else if (ns <= 0) {
        if (*items > PILOT * ranges) *items = PILOT * ranges;
        return;
    }
    if (ns < 0.01) ns = 0.01;
    if (*items == rest && (double)rest * ns / (double)ranges > TAIL_NS) *items = rest - rest / 8;
    double chunks = ranges < TUNED_CHUNKS / CHUNKS_A_RANGE ? (double)(ranges * CHUNKS_A_RANGE) : TUNED_CHUNKS;
    double want = (double)*items * ns / chunks;
    if (want < SHORTEST_NS) want = SHORTEST_NS;
    if (want > LONGEST_NS) want = LONGEST_NS;
    double g = want / ns;
    *grain = g < 1 ? 1 : g > PM_CHUNK ? PM_CHUNK : (uint64_t)g;
    uint64_t most = job->board->life.items; /* a worker that may run few takes no more at once */
    if (most && *grain > most) *grain = most;
    if (*items / *grain >= TUNED_CHUNKS) *items = *grain * TUNED_CHUNKS;
}

bool pm_round_plan(struct pm_job *job, uint64_t at, uint32_t round)
{
    uint64_t rest = job->work.count - at, items = rest, grain = job->work.chunk;
    if (rest == 0) return false;
    if (grain == 0)
        plan_tuned(job, at, rest, &items, &grain);
    else if (items >= grain * PM_WINDOW)
        items = grain * PM_WINDOW;
    uint32_t chunks = (uint32_t)(grain == 1 ? items : (items + grain - 1) / grain); /* a division takes as long as a claim */
    struct pm_round *p = &job->round[round & 1u];
    atomic_store_explicit(&p->first, at, R);
    atomic_store_explicit(&p->items, items, R);
    atomic_store_explicit(&p->grain, grain, R);
    atomic_store_explicit(&p->chunks, chunks, R);
    atomic_store_explicit(&p->ranges, chunks < job->spread ? chunks : job->spread, R);
    atomic_store_explicit(&p->last, items == rest, R);
    atomic_store_explicit(&p->lone, items == job->work.count && chunks == 1 && !job->work.want_cost, R);
    atomic_store_explicit(&job->left, (uint64_t)round << 32 | chunks, R);
    return true;
}

/* ---- Open, finished, close ---- */

static bool empty_of_workers(struct pm_board *board, const struct pm_job *job)
{
    for (unsigned s = 0; s < board->workers; s++)
        if (atomic_load(&board->slot[s].spot.job) == job->index + 1) return false;
    return true;
}

static uint32_t next_round(struct pm_board *board, struct pm_job *job)
{
    uint32_t last = pm_word_round(atomic_load_explicit(job->head, R));
    bool over = last >= LAST_ROUND && empty_of_workers(board, job);
    if (over) {
        for (uint32_t i = 0; i < job->words; i++) atomic_store_explicit(&job->word[i], 0, R);
        last = 0;
        atomic_store(job->head, pm_word(PM_FREE, 0, 0, 0)); /* a worker that comes now reads this round or a later one */
    }
    if (over || last - job->renewed >= RENEW_ROUNDS) {
        uint32_t n = board->most < 256 ? board->most : 256; /* all that there may ever be */
        for (uint32_t i = 0; i < n; i++) atomic_store_explicit(&job->range[i].v, pm_range(0, 0, last), R);
        job->renewed = last;
    }
    return last + 1;
}

uint32_t pm_job_open(struct pm_board *board, struct pm_job *job, const struct pm_work *work, void *arg, uint64_t serial)
{
    uint32_t round = next_round(board, job);
    uint32_t spread = atomic_load_explicit(&board->spread, R);
    atomic_store_explicit(&job->serial, serial, R);
    /* Written only when it changes: else its line goes from one CPU's cache to the other's and back in every call, and a call of the same
     * function again costs as much as those lines do. */
    if (memcmp(&job->work, work, offsetof(struct pm_work, count)) != 0) memcpy(&job->work, work, offsetof(struct pm_work, count));
    memcpy((char *)&job->work + offsetof(struct pm_work, count), (const char *)work + offsetof(struct pm_work, count),
           sizeof *work - offsetof(struct pm_work, count)); /* on lines that no worker looks at */
    if (job->arg != arg) job->arg = arg;
    if (job->spread != spread) job->spread = spread;
    if (atomic_load_explicit(&job->deaths, R)) atomic_store_explicit(&job->deaths, 0, R);
    if (atomic_load_explicit(&job->strays, R)) atomic_store_explicit(&job->strays, 0, R);
    if (atomic_load_explicit(&job->stop, R)) atomic_store_explicit(&job->stop, 0, R);
    if (atomic_load_explicit(&job->busy_ns, R)) atomic_store_explicit(&job->busy_ns, 0, R);
    if (atomic_load_explicit(&job->busy_items, R)) atomic_store_explicit(&job->busy_items, 0, R);
    if (atomic_load_explicit(&job->retries, R)) atomic_store_explicit(&job->retries, 0, R);
    if (atomic_load_explicit(&job->logged, R)) atomic_store_explicit(&job->logged, 0, R);
    (void)pm_round_plan(job, 0, round); /* the caller's side opens no job of nothing */
    uint32_t chunks = atomic_load_explicit(&job->round[round & 1u].chunks, R);
    /* Release: a worker that does not see this yet has taken its key before the notify that follows. */
    atomic_store_explicit(job->head, pm_word(PM_OPEN, 0, 0, round), memory_order_release);
    uint64_t bit = UINT64_C(1) << job->index;
    if (!(atomic_load_explicit(&board->used, R) & bit)) atomic_fetch_or(&board->used, bit);
    return chunks;
}

bool pm_job_finished(const struct pm_job *job)
{
    uint64_t head = atomic_load_explicit(job->head, memory_order_acquire);
    return pm_word_state(head) == PM_FINISHED;
}

void pm_job_close(struct pm_job *job)
{
    /* The head stays FINISHED, which to workers is as good as closed: a store would have to fetch its line once more. */
    uint64_t logged = atomic_load_explicit(&job->logged, R);
    for (uint64_t i = 0; i < logged && i < PM_LOG; i++) /* so that a later job does not take an old entry for its own */
        __atomic_store_n(&job->log[i].ready, 0, __ATOMIC_RELAXED);
}

/* ---- Stop ---- */

bool pm_round_settled(struct pm_job *job, const struct pm_view *v, bool cancel)
{
    bool all = true;
    for (uint32_t i = 0; i < v->chunks; i++) {
        uint64_t w = atomic_load_explicit(&job->word[i], memory_order_seq_cst);
        while (cancel && pm_word_free(w, v->round)) {
            uint64_t keep = pm_word_round(w) == v->round ? w : pm_word(PM_FREE, 0, 0, v->round);
            uint64_t gone = pm_word(PM_CANCELLED, pm_word_attempt(keep), pm_word_offset(keep), v->round);
            if (atomic_compare_exchange_strong(&job->word[i], &w, gone)) w = gone;
        }
        if (!pm_word_terminal(w, v->round)) all = false;
    }
    return all;
}

void pm_job_settle(struct pm_job *job, uint64_t head)
{
    struct pm_view v;
    if (pm_word_state(head) != PM_CANCELLED || !pm_round_read(job, head, &v)) return;
    if (!pm_round_settled(job, &v, true)) return;
    if (atomic_compare_exchange_strong(job->head, &head, pm_word(PM_FINISHED, 0, 0, v.round)))
        pm_event_notify(&job->done, INT_MAX);
}

void pm_job_stop(struct pm_board *board, struct pm_job *job)
{
    atomic_store(&job->stop, 1);
    uint64_t head = atomic_load(job->head);
    /* A head that is MOVING needs nothing: its owner looks at `stop` after it has opened the next round, and so does
     * whoever enters the round that a repair opens again. */
    while (pm_word_state(head) == PM_OPEN) {
        uint64_t cancelled = pm_word(PM_CANCELLED, 0, 0, pm_word_round(head));
        if (atomic_compare_exchange_strong(job->head, &head, cancelled)) head = cancelled;
    }
    pm_job_settle(job, head);
    pm_board_wake_all(board);
}

/* ---- Failures ---- */

void pm_job_fail(struct pm_board *board, struct pm_job *job, uint64_t item, uint64_t count, enum pm_cause cause, int value,
                 unsigned attempts, const char *text)
{
    uint64_t at = atomic_fetch_add_explicit(&job->logged, 1, R);
    if (at < PM_LOG) {
        struct pm_failure *f = &job->log[at];
        f->item = item;
        f->count = count;
        f->cause = (uint8_t)cause;
        f->value = value;
        f->attempts = (uint8_t)attempts;
        size_t n = text ? strnlen(text, PM_TEXT - 1) : 0;
        if (n) memcpy(f->text, text, n);
        f->text[n] = 0;
        __atomic_store_n(&f->ready, 1, __ATOMIC_RELEASE); /* a writer that dies before this leaves an entry that is skipped */
    }
    if (job->work.stop) pm_job_stop(board, job);
}

void pm_job_failures(struct pm_job *job, struct pm_failures *to, uint64_t base)
{
    uint64_t logged = atomic_load_explicit(&job->logged, memory_order_acquire);
    struct pm_view v;
    for (uint64_t i = 0; i < logged && i < PM_LOG; i++)
        if (__atomic_load_n(&job->log[i].ready, __ATOMIC_ACQUIRE)) pm_failures_join(to, &job->log[i], 1, base);
    if (logged > PM_LOG) to->total += logged - PM_LOG;
    if (!atomic_load_explicit(&job->stop, R)) return;
    /* What a stopped job never ran: its cancelled chunks, and all rounds that were not opened. */
    (void)pm_round_read(job, atomic_load(job->head), &v);
    for (uint32_t i = 0; i < v.chunks; i++) {
        uint64_t w = atomic_load_explicit(&job->word[i], memory_order_acquire);
        if (pm_word_state(w) != PM_CANCELLED) continue;
        uint64_t from = pm_chunk_first(&v, i) + (job->work.resent ? 0 : pm_word_offset(w)), end = pm_chunk_end(&v, i);
        if (from < end) pm_failures_add(to, base + from, end - from, PM_CANCEL, 0, 0, NULL);
    }
    uint64_t rest = v.first + v.items;
    if (rest < job->work.count) pm_failures_add(to, base + rest, job->work.count - rest, PM_CANCEL, 0, 0, NULL);
}

/* ---- Costs ---- */

void pm_job_cost(const struct pm_job *constant, struct pm_cost *cost, int64_t end)
{
    struct pm_job *job = (struct pm_job *)(uintptr_t)constant;
    uint64_t serial = atomic_load_explicit(&job->serial, R);
    unsigned slots = atomic_load(&job->board->workers), wanted = atomic_load(&job->board->wanted), told = 0;
    int64_t wall = end - job->work.begun;
    for (unsigned s = 0; s < slots; s++) {
        struct pm_tally *t = &job->tally[s * PM_JOBS];
        if (atomic_load_explicit(&t->serial, memory_order_acquire) != serial) {
            if (s < wanted) cost->idle += wall;
            continue;
        }
        told++;
        int64_t enter = atomic_load_explicit(&t->enter, R), leave = atomic_load_explicit(&t->leave, R);
        int64_t inside = atomic_load_explicit(&t->inside, R), compute = atomic_load_explicit(&t->compute, R);
        int64_t in = atomic_load_explicit(&t->in, R), out = atomic_load_explicit(&t->out, R);
        int64_t dispatch = inside - compute - in - out;
        cost->compute += compute;
        cost->in += in;
        cost->out += out;
        cost->dispatch += dispatch > 0 ? dispatch : 0;
        cost->idle += enter - job->work.begun + atomic_load_explicit(&t->away, R) + (end > leave ? end - leave : 0);
        cost->items += atomic_load_explicit(&t->items, R);
        cost->chunks += atomic_load_explicit(&t->chunks, R);
        cost->steals += atomic_load_explicit(&t->steals, R);
        cost->bytes += atomic_load_explicit(&t->bytes, R);
    }
    struct pm_view v;
    if (!told && pm_round_read(job, atomic_load(job->head), &v) && v.lone && !atomic_load_explicit(&job->stop, R)) {
        /* its worker and its caller both spun: see work_lone() */
        cost->compute += wall;
        cost->idle -= wall;
        cost->items += job->work.count;
        cost->chunks++;
    }
    cost->deaths += atomic_load_explicit(&job->deaths, R);
    cost->retries += atomic_load_explicit(&job->retries, R);
    cost->failed += atomic_load_explicit(&job->logged, R);
}

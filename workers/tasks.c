/* The tables of tasks, and the workers' and the supervisor's side of them.  tasks.h has the protocol; desk.c is the application's side. */
#include "workers/tasks.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "shm/size.h"
#include "workers/job.h"

#define R memory_order_relaxed
#define PM_OVER 2u /* of spot.exact: the function has returned and its task has failed */

/* ---- Tables ---- */

static size_t up(size_t n) { return (n + 4095) & ~(size_t)4095; }
static size_t head_bytes(unsigned workers) { return up(sizeof(struct pm_tasks) + workers * sizeof(struct pm_hints)); }

size_t pm_tasks_bytes(unsigned most)
{
    return head_bytes(most) + PM_POSITIONS * sizeof(uint32_t) + PM_TASKS * sizeof(struct pm_entry);
}

int pm_tasks_open(struct pm_tasks **out, struct pm_arena *arena, size_t at, unsigned workers, unsigned most, struct pm_event *work)
{
    int e = pm_arena_commit(arena, at, head_bytes(workers));
    if (e) return e;
    char *base = arena->base + at;
    struct pm_tasks *t = (struct pm_tasks *)(void *)base;
    t->workers = workers;
    t->work = work;
    t->hints = (struct pm_hints *)(void *)(base + sizeof *t);
    t->ring = (_Atomic uint32_t *)(void *)(base + head_bytes(most));
    t->entry = (struct pm_entry *)(void *)(base + head_bytes(most) + PM_POSITIONS * sizeof(uint32_t));
    *out = t;
    return 0;
}

int pm_tasks_grow(struct pm_tasks *t, struct pm_arena *arena, unsigned workers)
{
    unsigned had = atomic_load(&t->workers);
    if (workers <= had) return 0;
    size_t at = (size_t)((char *)t - arena->base), from = head_bytes(had), to = head_bytes(workers);
    int e = to > from ? pm_arena_commit(arena, at + from, to - from) : 0;
    if (!e) atomic_store(&t->workers, workers);
    return e;
}

/* ---- The application ---- */

void pm_task_announce(struct pm_tasks *t, uint32_t index, uint32_t turn)
{
    uint64_t at = atomic_load_explicit(&t->tail, R);
    atomic_store_explicit(&t->entry[index].word, pm_word(PM_FREE, 0, 0, turn), memory_order_release);
    atomic_store_explicit(&t->ring[at % PM_POSITIONS], index, R);
    atomic_store_explicit(&t->tail, at + 1, memory_order_release); /* pairs with the acquire in find() */
    pm_event_notify(t->work, 1);
}

void pm_task_errand(struct pm_tasks *t, uint32_t index, uint32_t turn, unsigned worker)
{
    atomic_store_explicit(&t->entry[index].word, pm_word(PM_FREE, 0, 0, turn), memory_order_release);
    atomic_store(&t->hints[worker].errand, index + 1);
    atomic_fetch_add(&t->errands, 1);
    pm_event_notify(t->work, INT_MAX); /* one of them is meant, and which sleeper a wake-up reaches nobody knows */
}

bool pm_task_cancel(struct pm_tasks *t, uint32_t index, uint32_t turn)
{
    uint64_t w = atomic_load(&t->entry[index].word);
    while (pm_word_round(w) == turn && pm_word_state(w) == PM_FREE)
        if (atomic_compare_exchange_weak(&t->entry[index].word, &w, pm_word(PM_CANCELLED, pm_word_attempt(w), 0, turn))) return true;
    return pm_word_round(w) == turn && pm_word_state(w) == PM_CANCELLED;
}

bool pm_task_waiting(struct pm_tasks *t)
{
    return atomic_load(&t->orphans) || atomic_load(&t->errands) || atomic_load(&t->next) != atomic_load(&t->tail);
}

/* ---- A worker ---- */

void pm_hand_init(struct pm_hand *h, struct pm_tasks *tasks, unsigned index, uint32_t owner, struct pm_spot *spot, _Atomic uint64_t *progress)
{
    memset(h, 0, sizeof *h);
    h->tasks = tasks;
    h->hints = &tasks->hints[index];
    h->spot = spot;
    h->progress = progress;
    h->index = index;
    h->owner = owner;
    h->run.spot = spot;
    h->run.worker = index;
}

/* Says what it is about to take before it takes it, so that a death in between leaves a trace. */
static void reach_for(struct pm_hand *h, uint32_t k) { atomic_store_explicit(&h->spot->task, k, R); }

static bool adopt(struct pm_hand *h, uint32_t *index)
{
    struct pm_tasks *t = h->tasks;
    uint32_t mark = atomic_load(&t->orphans);
    if (!mark) return false;
    for (unsigned i = 0; i < t->workers; i++) {
        uint32_t k = atomic_load(&t->hints[i].orphan);
        if (!k) continue;
        reach_for(h, k);
        if (!atomic_compare_exchange_strong(&t->hints[i].orphan, &k, 0)) continue;
        *index = k - 1;
        return true;
    }
    (void)atomic_compare_exchange_strong(&t->orphans, &mark, 0); /* fails when the supervisor has marked another since */
    return false;
}

/* Nobody takes the mark of an errand back: when its task has ended the entry is the application's, and may already be this worker's next
 * one.  Whether it is still to be run its word says. */
static bool has_errand(struct pm_hand *h, uint32_t *index)
{
    uint32_t k = atomic_load(&h->hints->errand);
    if (!k) return false;
    struct pm_entry *e = &h->tasks->entry[k - 1];
    if (pm_word_state(atomic_load_explicit(&e->word, memory_order_acquire)) != PM_FREE) return false;
    if (atomic_load_explicit(&e->errand, R) != h->index + 1) return false;
    reach_for(h, k);
    *index = k - 1;
    return true;
}

static bool find(struct pm_hand *h, uint32_t *index)
{
    struct pm_tasks *t = h->tasks;
    if (adopt(h, index)) return true;
    if (atomic_load_explicit(&t->errands, memory_order_acquire) && has_errand(h, index)) return true;
    for (;;) {
        uint64_t at = atomic_load_explicit(&t->next, memory_order_acquire);
        if (at == atomic_load_explicit(&t->tail, memory_order_acquire)) return false;
        uint32_t k = atomic_load_explicit(&t->ring[at % PM_POSITIONS], R); /* an old one if `next` has moved on: then so fails the swap */
        reach_for(h, k + 1);
        if (!atomic_compare_exchange_strong_explicit(&t->next, &at, at + 1, memory_order_acq_rel, R)) continue;
        *index = k;
        return true;
    }
}

static void hint(struct pm_hints *hints, uint32_t index)
{
    uint32_t tail = atomic_load_explicit(&hints->tail, R);
    if (tail - atomic_load_explicit(&hints->head, memory_order_acquire) >= PM_HINTS) {
        atomic_store(&hints->lost, 1);
        return;
    }
    atomic_store_explicit(&hints->entry[tail % PM_HINTS], index, R);
    atomic_store_explicit(&hints->tail, tail + 1, memory_order_release);
}

static void tell(struct pm_hand *h, uint32_t index)
{
    struct pm_tasks *t = h->tasks;
    uint32_t wanted = 1;
    hint(h->hints, index);
    pm_event_notify(&t->done, INT_MAX);
    if (atomic_load(&t->bell) == 1 && atomic_compare_exchange_strong(&t->bell, &wanted, 2)) h->ring(h);
}

static void say(struct pm_entry *e, const char *text) /* over input and result, which a failed task needs no more */
{
    size_t n = text ? strnlen(text, PM_TEXT - 1) : 0;
    char *to = (char *)e + offsetof(struct pm_entry, small);
    if (n) memcpy(to, text, n);
    to[n] = 0;
}

/* It was to be ended while it ran. */
static enum pm_state refuse(struct pm_entry *e, unsigned attempts)
{
    e->cause = PM_CANCEL;
    e->value = 0;
    e->attempts = (uint8_t)attempts;
    say(e, NULL);
    return PM_FAILED;
}

/* Under a claim: everything in the entry is constant. */
static enum pm_state execute(struct pm_hand *h, struct pm_entry *e, unsigned attempt, uint32_t turn)
{
    struct pm_run *run = &h->run;
    run->arg = e->arg;
    run->seed = e->seed;
    run->timeout_ns = e->timeout_ns;
    run->attempt = attempt;
    run->retries = e->retries;
    run->once = e->once;
    run->stop = &e->doomed;
    e->cause = 0;
    e->out_bytes = 0;
    int code = e->run(run, e);
    if (run->timeout_ns) atomic_store_explicit(&h->spot->deadline, 0, R);
    if (code == 0) return PM_DONE;
    if (atomic_load(&e->doomed) == turn) return refuse(e, run->attempt + 1); /* it has seen that, and has given up */
    if (!e->cause) e->cause = PM_CODE;
    e->value = code;
    e->attempts = (uint8_t)(run->attempt + 1);
    /* The input is overwritten next: from here on the task cannot be run again, and a death leaves what it has come to. */
    atomic_store_explicit(&h->spot->exact, PM_OVER, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    say(e, h->spot->text);
    return PM_FAILED;
}

bool pm_task_work(struct pm_hand *h)
{
    struct pm_tasks *t = h->tasks;
    uint32_t index;
    if (!find(h, &index)) return false;
    struct pm_entry *e = &t->entry[index];
    uint64_t w = atomic_load_explicit(&e->word, memory_order_acquire);
    unsigned attempt = pm_word_attempt(w);
    uint32_t turn = pm_word_round(w);
    bool mine = false;
    uint32_t errand = atomic_load_explicit(&e->errand, R);
    bool meant = errand == 0 || errand == h->index + 1; /* an old orphan's mark may lead to another worker's errand */
    if (pm_word_state(w) == PM_FREE && meant) {
        atomic_store_explicit(&h->spot->exact, 0, R);
        atomic_store_explicit(&h->spot->again, 0, R);
        mine = atomic_compare_exchange_strong_explicit(&e->word, &w, pm_word(PM_CLAIMED, attempt, h->owner, turn), memory_order_acquire, R);
    }
    if (mine) {
        enum pm_state end = atomic_load(&e->doomed) == turn ? refuse(e, attempt) : execute(h, e, attempt, turn);
        atomic_store_explicit(&e->word, pm_word(end, 0, h->owner, turn), memory_order_release);
        if (h->spot->text[0]) h->spot->text[0] = 0;
        if (atomic_load_explicit(&h->spot->again, R)) atomic_store_explicit(&h->spot->again, 0, R); /* else the next item is charged with it */
        atomic_store_explicit(h->progress, atomic_load_explicit(h->progress, R) + 1, R);
        tell(h, index);
    }
    atomic_store_explicit(&h->spot->task, 0, memory_order_release);
    return true;
}

/* ---- The supervisor ---- */

static uint64_t verdict(struct pm_entry *e, uint64_t w, const struct pm_death *death, struct pm_spot *spot)
{
    uint32_t turn = pm_word_round(w);
    unsigned ran = pm_word_attempt(w) + 1 + atomic_load_explicit(&spot->again, R);
    uint32_t exact = atomic_load_explicit(&spot->exact, R);
    bool begun = exact != 0, doomed = atomic_load(&e->doomed) == turn;
    if (exact == PM_OVER) {
        say(e, spot->text);
        return pm_word(PM_FAILED, 0, 0, turn);
    }
    if (!doomed && (e->once ? !begun : !death->charged)) return pm_word(PM_FREE, pm_word_attempt(w), 0, turn);
    if (!doomed && !e->once && ran <= e->retries) return pm_word(PM_FREE, ran, 0, turn);
    e->cause = doomed ? PM_CANCEL : (uint8_t)death->cause;
    e->value = doomed ? 0 : death->value;
    e->attempts = (uint8_t)(ran < PM_ATTEMPTS ? ran : PM_ATTEMPTS);
    say(e, NULL);
    return pm_word(PM_FAILED, 0, 0, turn);
}

/* Every worker holds at most one task and takes orphans first, so there are never more of them than workers: there is room, if none
 * is marked twice, as one whose worker died while it reached for the mark would be. */
static void orphan(struct pm_tasks *t, unsigned slot, uint32_t k)
{
    bool marked = false;
    for (unsigned i = 0; i < t->workers; i++) marked |= atomic_load(&t->hints[i].orphan) == k;
    for (unsigned i = 0, n = t->workers; i < n && !marked; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&t->hints[(slot + i) % n].orphan, &none, k)) break;
    }
    uint32_t mark = (uint32_t)atomic_fetch_add(&t->retries, 1) + 1; /* never the same twice in a row */
    atomic_store(&t->orphans, mark ? mark : 1);
}

void pm_task_repair(struct pm_tasks *t, const struct pm_death *death, struct pm_spot *spot)
{
    uint32_t k = atomic_load(&spot->task);
    if (k == 0 || k > PM_TASKS || death->slot >= t->workers) return;
    struct pm_entry *e = &t->entry[k - 1];
    uint64_t w = atomic_load(&e->word);
    if (pm_word_state(w) == PM_CLAIMED && pm_word_owner(w) == pm_owner(death->slot, death->gen)) {
        uint64_t next = verdict(e, w, death, spot);
        if (atomic_compare_exchange_strong(&e->word, &w, next)) w = next;
    }
    if (pm_word_terminal(w, pm_word_round(w))) {
        if (pm_word_state(w) == PM_FAILED) atomic_fetch_add(&t->retries, 1);
        hint(&t->hints[death->slot], k - 1);
        uint32_t wanted = 1;
        atomic_compare_exchange_strong(&t->bell, &wanted, 2); /* the supervisor looks at it before it sleeps */
        pm_event_notify(&t->done, INT_MAX);
    } else if (pm_word_state(w) == PM_FREE && pm_word_round(w) && !atomic_load_explicit(&e->errand, R)) {
        orphan(t, death->slot, k);
    }
    atomic_store(&spot->task, 0);
}

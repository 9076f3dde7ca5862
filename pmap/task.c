/* Calls the user's function, one indirect call an item or chunk, and answers what it asks. */
#include "pmap/task.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- Questions ---- */

size_t pmap_task_index(const pmap_task *task) { return task->index; }
unsigned pmap_task_worker(const pmap_task *task) { return task->run->worker; }
unsigned pmap_task_attempt(const pmap_task *task) { return task->attempt; }
void *pmap_task_arg(const pmap_task *task) { return task->run->arg; }
void *pmap_task_state(const pmap_task *task) { return task->run->state; }
int pmap_task_cancelled(const pmap_task *task) { return pm_run_stopped(task->run); }

void pmap_task_item(pmap_task *task, size_t index)
{
    if (task->entry) return;
    const struct pm_call *call = task->run->self;
    if (call->unit == 0) { /* in a reduction the block is the item: it cannot be cut */
        uint64_t item = index - task->run->first;
        if (item < task->lo || item >= task->hi) return;
        pm_run_at(task->run, item);
    }
    task->index = index;
    task->seeded = false;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

uint64_t pmap_task_random(pmap_task *task)
{
    if (!task->seeded) {
        /* Two rounds of mixing, so that neighbouring seeds and neighbouring items start far apart. */
        task->random = mix(mix(task->run->seed + GOLDEN) ^ mix((uint64_t)task->index * GOLDEN + 1));
        task->seeded = true;
    }
    task->random += GOLDEN;
    return mix(task->random);
}

void pmap_task_error(pmap_task *task, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(task->run->spot->text, PM_TEXT, format, list);
    va_end(list);
}

/* ---- Bodies ---- */

static const char *input(const struct pm_run *run, uint64_t item) { return run->in ? run->in + item * run->in_size : NULL; }
static char *output(const struct pm_run *run, uint64_t item) { return run->out ? run->out + item * run->out_size : NULL; }

/* A text that was set and then not needed must not turn up at another item's failure. */
static void clear_text(struct pm_run *run)
{
    if (run->spot->text[0]) run->spot->text[0] = 0;
}

static bool again(pmap_task *task, int code)
{
    if (code != PMAP_RETRY || task->attempt >= task->run->retries) return false;
    task->attempt++;
    task->seeded = false;
    atomic_fetch_add_explicit(&task->run->spot->again, 1, memory_order_relaxed); /* a death now must not forget these runs */
    return true;
}

static void finish(pmap_task *task, int code, uint64_t item, uint64_t count)
{
    struct pm_spot *spot = task->run->spot;
    if (atomic_load_explicit(&spot->again, memory_order_relaxed)) atomic_store_explicit(&spot->again, 0, memory_order_relaxed);
    if (code) task->run->fail(task->run, item, count, code, task->attempt + 1);
    else clear_text(task->run);
}

/* Inlined, so that a map has one indirect call an item. */
static inline __attribute__((always_inline)) uint64_t each(struct pm_run *run, uint64_t lo, uint64_t hi,
                                                           int (*one)(pmap_task *, uint64_t, void *), void *state)
{
    pmap_task task = {.run = run, .lo = lo, .hi = hi};
    for (uint64_t i = lo; i < hi; i++) {
        if (pm_run_stopped(run)) return i;
        task.index = run->first + i;
        task.attempt = i == lo ? run->attempt : 0; /* only the first of them may have died before */
        task.seeded = false;
        int code;
        do {
            pm_run_at(run, i);
            code = one(&task, i, state);
        } while (again(&task, code));
        finish(&task, code, i, 1);
    }
    return hi;
}

static inline int call_item(pmap_task *task, uint64_t i, void *state)
{
    const struct pm_call *call = state;
    return call->fn.item(task, input(task->run, i), output(task->run, i));
}

uint64_t pm_call_items(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    uintptr_t call = (uintptr_t)run->self; /* the state is not const for others */
    return each(run, lo, hi, call_item, (void *)call);
}

uint64_t pm_call_each(struct pm_run *run, uint64_t lo, uint64_t hi, int (*one)(pmap_task *, uint64_t, void *), void *state)
{
    return each(run, lo, hi, one, state);
}

char *pm_task_output(const struct pm_run *run, uint64_t item) { return output(run, item); }

uint64_t pm_call_blocks(struct pm_run *run, uint64_t lo, uint64_t hi)
{
    const struct pm_call *call = run->self;
    pmap_task task = {.run = run, .lo = lo, .hi = hi};
    for (uint64_t b = lo; b < hi; b++) {
        if (pm_run_stopped(run)) return b;
        uint64_t first = (run->first + b) * call->unit, count = call->count - first < call->unit ? call->count - first : call->unit;
        task.attempt = b == lo ? run->attempt : 0;
        int code;
        do {
            task.index = first;
            task.seeded = false;
            pm_run_at(run, b);
            code = call->fn.chunk(&task, input(run, b), count, output(run, b));
        } while (again(&task, code));
        finish(&task, code, b, 1);
    }
    return hi;
}

/* A call for a whole chunk has reported a failure.  The items run one at a time, so that the chunk size does not decide who is blamed;
 * a call that must not run twice fails as a whole. */
static __attribute__((noinline)) uint64_t one_by_one(pmap_task *task, int code, int (*one)(pmap_task *, uint64_t, uint64_t))
{
    struct pm_run *run = task->run;
    uint64_t lo = task->lo, hi = task->hi;
    if (run->once && hi - lo > 1) {
        run->fail(run, lo, hi - lo, code, 1);
        return hi;
    }
    for (uint64_t i = lo; i < hi; i++) {
        if (hi - lo > 1) {
            if (pm_run_stopped(run)) return i;
            clear_text(run);
            *task = (pmap_task){.run = run, .lo = i, .hi = i + 1, .index = run->first + i, .attempt = 1};
            pm_run_at(run, i);
            code = one(task, i, i + 1);
        }
        while (again(task, code)) code = one(task, i, i + 1);
        finish(task, code, i, 1);
    }
    return hi;
}

static int call_chunk(pmap_task *task, uint64_t lo, uint64_t hi)
{
    const struct pm_call *call = task->run->self;
    return call->fn.chunk(task, input(task->run, lo), hi - lo, output(task->run, lo));
}

static int call_range(pmap_task *task, uint64_t lo, uint64_t hi)
{
    const struct pm_call *call = task->run->self;
    return call->fn.range(task, task->run->first + lo, task->run->first + hi);
}

static inline uint64_t bulk(struct pm_run *run, uint64_t lo, uint64_t hi, int (*one)(pmap_task *, uint64_t, uint64_t))
{
    pmap_task task;
    if (pm_run_stopped(run)) return lo;
    task.entry = NULL;
    task.run = run;
    task.lo = lo;
    task.hi = hi;
    task.index = run->first + lo;
    task.attempt = run->attempt;
    task.seeded = false;
    int code = one(&task, lo, hi);
    if (__builtin_expect(code != 0, 0)) return one_by_one(&task, code, one);
    clear_text(run);
    return hi;
}

uint64_t pm_call_chunk(struct pm_run *run, uint64_t lo, uint64_t hi) { return bulk(run, lo, hi, call_chunk); }
uint64_t pm_call_range(struct pm_run *run, uint64_t lo, uint64_t hi) { return bulk(run, lo, hi, call_range); }

/* ---- One task ---- */

void *pmap_task_result(pmap_task *task, size_t bytes)
{
    struct pm_entry *e = task->entry;
    if (!e) return NULL;
    e->out_bytes = bytes;
    return bytes <= e->out_max ? e->out : NULL;
}

int pm_call_work(struct pm_run *run, struct pm_entry *e)
{
    pmap_work_fn *function = (pmap_work_fn *)(void (*)(void))e->function;
    pmap_task task = {.run = run, .lo = e->index, .hi = e->index + 1, .index = e->index, .attempt = run->attempt, .entry = e};
    int code;
    do {
        e->out_bytes = 0;
        pm_run_at(run, e->index);
        code = function(&task, e->in, e->in_bytes);
    } while (again(&task, code));
    run->attempt = task.attempt;
    if (e->out_bytes > e->out_max) { /* whatever the function made of that: the result is not there */
        e->cause = PM_LARGE;
        clear_text(run);
        return e->out_bytes < INT_MAX ? (int)e->out_bytes : INT_MAX;
    }
    if (code == 0) clear_text(run);
    return code;
}

/* When and how many jobs of `parmap run` are started, when no more are, and what the program's exit status is. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/run.h"
#include "cli/words.h"

#define LOOK_S 0.1        /* how often a load, memory or a file with a number of jobs is looked at */
#define FILE_S 1.0
#define AHEAD 64u
#define AHEAD_BYTES ((size_t)1 << 20)
#define MEDIAN_FROM 3u
#define SHARE_FROM 3u     /* jobs that must have ended before a share of them says anything */

/* ---- How many ---- */

static void set_jobs(struct run *r)
{
    unsigned asked = batch_jobs(r->batch->jobs, r->cpus);
    if (asked == 0) return; /* a file that has become unreadable: it stays as it is */
    long n = (long)asked + r->extra;
    r->at_once = n < 1 ? 1 : n > (long)r->possible ? r->possible : (unsigned)n;
    if (r->set) (void)pmap_commands_resize(r->set, r->at_once);
}

int control_begin(struct run *r)
{
    const struct batch *b = r->batch;
    r->cpus = pmap_cpus();
    r->possible = batch_jobs("0", r->cpus);
    set_jobs(r);
    unsigned asked = batch_jobs(b->jobs, r->cpus);
    if (asked > r->possible) complain("-j %s: %u at once is what the limits of open files and of processes allow", b->jobs, r->possible);
    bool slots = b->pin || (r->words && template_uses_slot(r->words)) || (r->tag && template_uses_slot(r->tag));
    r->one_by_one = slots || b->filter || b->delay > 0 || b->load > 0 || b->memfree > 0 || b->timeout.percent ||
                    b->ask || b->trace || b->halt != HALT_NEVER;
    if (slots && !(r->slots = calloc(RUN_SLOTS, 1))) {
        complain("not enough memory");
        return -1;
    }
    errno = 0;
    if (b->nice && setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + b->nice)) {
        complain("--nice %d: %s", b->nice, strerror(errno));
        return -1;
    }
    return 0;
}

void control_end(struct run *r) { free(r->slots); }

void control_more(struct run *r, int change)
{
    if (change > 0 || r->at_once > 1) r->extra += change;
    set_jobs(r);
}

void control_look(struct run *r, double now)
{
    bool file = r->batch->jobs && strspn(r->batch->jobs, "0123456789+%") != strlen(r->batch->jobs);
    if (!file || now - r->last_look < FILE_S) return;
    r->last_look = now;
    set_jobs(r);
}

/* ---- Slots and CPUs ---- */

unsigned control_slot(struct run *r)
{
    for (unsigned i = 0; r->slots && i < RUN_SLOTS; i++)
        if (!r->slots[i]) {
            r->slots[i] = 1;
            return i + 1;
        }
    return 0;
}

void control_slot_back(struct run *r, unsigned slot)
{
    if (slot) r->slots[slot - 1] = 0;
}

unsigned control_cpu(const struct run *r, unsigned slot)
{
    cpu_set_t mine;
    if (!r->batch->pin || sched_getaffinity(0, sizeof mine, &mine)) return 0;
    unsigned n = (unsigned)CPU_COUNT(&mine), want = n ? (slot - 1) % n : 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mine) && want-- == 0) return cpu + 1;
    return 0;
}

/* ---- When ---- */

static bool loaded(const struct run *r)
{
    double load;
    return r->batch->load > 0 && getloadavg(&load, 1) == 1 && load > r->batch->load;
}

static uint64_t memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) return UINT64_MAX;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) break;
    (void)fclose(file);
    return kib ? kib * 1024 : UINT64_MAX;
}

/* Jobs that wait in the set for a place, so that a place that becomes free is filled without this thread, which then
 * learns of many ends at once.  Few until one has ended: it may tell that the others are not to be begun, and of large
 * ones, which are memory. */
static size_t ahead(const struct run *r)
{
    size_t few = r->at_once < AHEAD ? r->at_once : AHEAD;
    if (r->one_by_one) return 0;
    return r->done && r->set_bytes < AHEAD_BYTES ? AHEAD : few;
}

bool control_room(struct run *r, double now, double *again)
{
    const struct batch *b = r->batch;
    if (r->in_set >= r->at_once + ahead(r)) return false;
    if (b->delay > 0 && now < r->last_start + b->delay) {
        *again = r->last_start + b->delay;
        return false;
    }
    /* One job may always run: a gate that nothing of ours can open would be waited at for ever. */
    if (r->in_set && (loaded(r) || (b->memfree && memory_available() < b->memfree))) {
        *again = now + LOOK_S;
        return false;
    }
    return true;
}

static int compare(const void *a, const void *b) { return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b); }

double control_timeout(struct run *r)
{
    const struct batch_amount *t = &r->batch->timeout;
    if (!t->percent) return t->value;
    size_t n = r->medians < RUN_MEDIANS ? r->medians : RUN_MEDIANS;
    if (n < MEDIAN_FROM) return 0;
    if (!r->median_known) {
        float sorted[RUN_MEDIANS];
        memcpy(sorted, r->median_of, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare);
        r->median = sorted[n / 2];
        r->median_known = true;
    }
    double timeout = r->median * t->value / 100;
    return timeout > 0.001 ? timeout : 0.001;
}

/* ---- What comes of it ---- */

/* xargs' exit statuses: the gravest of what has happened. */
static void worse(struct run *r, unsigned status)
{
    static const unsigned order[] = {0, 123, 124, 125, 126, 127};
    unsigned now = 0, before = 0;
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        if (order[i] == status) now = i;
        if (order[i] == r->worst) before = i;
    }
    if (now > before) r->worst = status;
}

static bool reached(const struct run *r, size_t n)
{
    const struct batch_amount *at = &r->batch->halt_at;
    if (!at->percent) return (double)n >= at->value;
    size_t all = r->reader ? args_total(r->reader) : 0;
    if (all == 0) all = r->done < SHARE_FROM ? 0 : r->done;
    return all && 100.0 * (double)n >= at->value * (double)all;
}

void control_judge(struct run *r, const pmap_status *status, int error, bool ok)
{
    const struct batch *b = r->batch;
    r->done++;
    if (ok) {
        r->succeeded++;
        r->median_of[r->medians++ % RUN_MEDIANS] = (float)status->wall_s;
        r->median_known = false;
    } else r->failed++;
    int own = ok ? 0 : status->code > 0 ? status->code : 1;
    if (error == PMAP_ENOENT) own = 127;
    else if (error == PMAP_EACCES || error == PMAP_ESYSTEM) own = 126;
    if (!ok) worse(r, own == 126 || own == 127 ? (error == PMAP_ESTATUS ? 123 : (unsigned)own) :
                      status->cause != PMAP_CAUSE_EXIT ? 125 : status->value == 255 ? 124 : 123);
    /* The same program for all, and it cannot be run: nor can it for the others. */
    if ((error == PMAP_ENOENT || error == PMAP_EACCES) && !r->shell && r->words && !template_names_program(r->words) &&
        r->stopping == STOP_NOT)
        r->stopping = STOP_SOON;
    if (b->halt == HALT_NEVER || r->stopping != STOP_NOT) return;
    bool meant = b->halt_what == HALT_DONE || (b->halt_what == HALT_FAIL ? !ok : ok);
    if (!meant || !reached(r, b->halt_what == HALT_DONE ? r->done : ok ? r->succeeded : r->failed)) return;
    r->own_status = own;
    r->stopping = b->halt == HALT_NOW ? STOP_NOW : STOP_SOON;
}

int control_status(const struct run *r)
{
    if (r->signal) return 128 + r->signal;
    if (r->broken) return 1;
    if (r->own_status >= 0 && r->batch->halt == HALT_NOW) return r->own_status;
    if (r->batch->count_failures) return r->failed > 101 ? 101 : (int)r->failed;
    return (int)r->worst;
}

/* Input and output lie in the arena (or there is none): the workers work on them where they are, and nothing is copied. */
#include <errno.h>

#include "workers/processes.h"

static bool fits(struct pm_processes *p, const struct pm_work *work)
{
    bool in = !work->in || pm_arena_has(&p->arena, work->in, work->in_bytes);
    bool out = !work->out || pm_arena_has(&p->arena, work->out, work->out_size * work->count);
    return in && out;
}

static int run(struct pm_processes *p, const struct pm_work *work, struct pm_result *result)
{
    struct pm_ticket ticket;
    struct pm_failures failures = {0};
    int e = pm_ticket_open(p, work, &ticket, true);
    if (e) return e;
    e = pm_ticket_wait(p, &ticket);
    if (e == -ECANCELED && !pm_job_finished(ticket.job)) return e; /* the pool is gone and the descriptor with it */
    pm_ticket_close(p, &ticket, &failures, 0, &result->cost);
    result->cost.failed = failures.total;
    int t = pm_failures_take(&failures, &result->failures, &result->nfailures);
    return e ? e : t;
}

const struct pm_channel pm_channel_inplace = {"shm", fits, run};

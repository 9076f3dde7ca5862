/* The event that processes and threads share: a flag (shm/flag.h) to wait for. */
#include <errno.h>

#include "pmap/pool.h"
#include "pmap/shared.h"
#include "shm/flag.h"

struct pmap_event {
    struct pm_shared shared;
    alignas(64) struct pm_flag flag;
};

int pmap_event_open(pmap_event **event, const pmap_event_options *given)
{
    int e = 0;
    if (!event) return pm_error(PMAP_EINVAL, "pmap_event_open: event is NULL");
    *event = pm_shared_open_plain(given, sizeof **event, PM_KIND_EVENT, "pmap_event_open", &e);
    return e;
}

int pmap_event_close(pmap_event *event) { return event ? pm_shared_close(&event->shared, PM_KIND_EVENT, "pmap_event_close") : 0; }

static int put(pmap_event *event, bool set, const char *what)
{
    int e = pm_shared_check(event, PM_KIND_EVENT, what);
    if (!e) pm_flag_put(&event->flag, set);
    return e;
}

int pmap_event_set(pmap_event *event) { return put(event, true, "pmap_event_set"); }
int pmap_event_clear(pmap_event *event) { return put(event, false, "pmap_event_clear"); }

int pmap_event_is_set(pmap_event *event)
{
    int e = pm_shared_check(event, PM_KIND_EVENT, "pmap_event_is_set");
    return e ? e : pm_flag_is_set(&event->flag);
}

int pmap_event_wait(pmap_event *event, double timeout_s)
{
    static const char what[] = "pmap_event_wait";
    int64_t timeout_ns;
    int e = pm_shared_begin(event, PM_KIND_EVENT, timeout_s, &timeout_ns, what);
    if (e) return e;
    e = pm_flag_wait(&event->flag, timeout_ns);
    if (e == -ETIMEDOUT) return pm_error(PMAP_ETIMEDOUT, "%s: the event was not set within %g s", what, timeout_s);
    return e ? pm_error_system(e, what) : 0;
}

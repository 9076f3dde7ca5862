/* The application's end of its supervisor: starts it, gives it orders, finds it dead and starts another, reaps it.  All of these are called with
 * the executor's lock held, or while nobody else has the executor yet; used by processes.c. */
#ifndef PM_WORKERS_CONTROL_H
#define PM_WORKERS_CONTROL_H

#include <stdbool.h>

struct pm_order;
struct pm_processes;

/* Forks a supervisor and waits until it has forked its first workers.  `takeover`: one has died before it.  0 or -errno; -EPIPE: it died at once. */
int pm_control_start(struct pm_processes *p, bool takeover);
bool pm_control_starting(const struct pm_processes *p); /* is this thread about to fork this very one, or its child? */

/* false: there is none that takes it.  May wait for a second. */
bool pm_control_order(struct pm_processes *p, struct pm_order order);

/* Behind PM_ORDER_CLOSE: waits until nobody is left but the supervisor at the most, which has nothing to do any more.  0, or -ETIMEDOUT: it has been
 * killed, and its workers with it. */
int pm_control_finish(struct pm_processes *p, int timeout_ms);

bool pm_control_over(const struct pm_processes *p); /* Is that so, or is there none? */

/* Waits for its own end and reaps it; not in time: kills it first, and -ETIMEDOUT. */
int pm_control_bury(struct pm_processes *p, int timeout_ms);

/* What pm_executor_ops.watch promises: the descriptor, or -errno. */
int pm_control_watch(struct pm_processes *p);

#endif

/* Memory, checks and arguments of the objects that processes share: see pmap/shared.h. */
#include "pmap/shared.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "pmap/options.h"
#include "pmap/pool.h"

void *pm_shared_open(pmap_pool *pool, size_t bytes, enum pm_kind kind, const char *what, int *error)
{
    struct pm_shared *s;
    if (pool) {
        *error = pm_pool_enter(pool, what);
        if (*error) return NULL;
        s = pmap_alloc(pool, bytes);
        pm_pool_leave(pool);
        if (s) memset(s, 0, bytes);
    } else {
        s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (s == MAP_FAILED) s = NULL;
    }
    if (!s) {
        *error = pm_error(PMAP_ENOMEM, "%s: not enough memory for %zu bytes", what, bytes);
        return NULL;
    }
    *error = 0;
    s->kind = (uint32_t)kind;
    s->bytes = bytes;
    s->pool = pool;
    return s;
}

_Static_assert(sizeof(pmap_event_options) == sizeof(struct pm_plain_options), "an event's options are those");
_Static_assert(sizeof(pmap_condition_options) == sizeof(struct pm_plain_options), "and so are a condition's");

void *pm_shared_open_plain(const void *given, size_t bytes, enum pm_kind kind, const char *what, int *error)
{
    struct pm_plain_options o = {sizeof o, NULL};
    *error = pm_shared_options(&o, sizeof o, given, what);
    return *error ? NULL : pm_shared_open(o.pool, bytes, kind, what, error);
}

int pm_shared_close(struct pm_shared *s, enum pm_kind kind, const char *what)
{
    if (!s) return 0;
    int e = pm_shared_check(s, kind, what);
    if (e) return e;
    if (!s->pool) { /* others still use it */
        (void)munmap(s, s->bytes);
        return 0;
    }
    pmap_pool *pool = s->pool;
    e = pm_pool_enter(pool, what);
    if (e) return e;
    s->kind = 0;
    pmap_free(pool, s);
    pm_pool_leave(pool);
    return 0;
}

int pm_shared_undo(struct pm_shared *s, int error, const char *what)
{
    (void)pm_shared_close(s, (enum pm_kind)s->kind, what);
    return pm_error_system(error, what);
}

int pm_shared_refuse(const char *what) { return pm_error(PMAP_EINVAL, "%s: the object is NULL, closed, or of another kind", what); }

int pm_shared_options(void *full, size_t full_size, const void *given, const char *what)
{
    return pm_options(full, full_size, sizeof(struct pm_plain_options), given, what, "the options' INIT macro");
}

int pm_seconds(double timeout_s, int64_t *timeout_ns, const char *what)
{
    if (isnan(timeout_s)) return pm_error(PMAP_EINVAL, "%s: timeout_s is not a number", what);
    *timeout_ns = timeout_s < 0 || timeout_s > 9e9 ? -1 : (int64_t)(timeout_s * 1e9); /* beyond 285 years: for ever */
    return 0;
}

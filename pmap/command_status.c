/* How a command ended: its numbers and its words.  Used by the public calls only; changes nothing. */
#include "pmap/command.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmap/pool.h"
#include "shm/event.h"

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static void tell_member(const pmap_command *c, size_t i, pmap_status *s)
{
    const struct pm_member *m = &c->member[i];
    int signal = m->status >= 0 && WIFSIGNALED(m->status) ? WTERMSIG(m->status) : 0;
    *s = (pmap_status){.size = sizeof *s, .code = -1, .pid = m->pid};
    if (m->pid) s->wall_s = (double)((m->ended ? m->end_ns : pm_now()) - c->start_ns) / 1e9;
    if (!c->over) return;
    if (!m->pid) s->cause = PMAP_CAUSE_CANCELLED; /* it was never started; the text says why */
    else if (m->stopped) s->cause = m->stopped;
    else s->cause = signal ? PMAP_CAUSE_SIGNAL : PMAP_CAUSE_EXIT;
    if (s->cause == PMAP_CAUSE_TIMEOUT) s->code = 124; /* as timeout(1) */
    else if (m->status >= 0) s->code = signal ? 128 + signal : WEXITSTATUS(m->status);
    s->value = s->cause == PMAP_CAUSE_EXIT ? s->code : signal;
    s->user_s = seconds(m->usage.ru_utime);
    s->system_s = seconds(m->usage.ru_stime);
    s->maxrss = (uint64_t)m->usage.ru_maxrss * 1024;
}

static bool failed(const pmap_status *s, bool last)
{
    if (s->cause == PMAP_CAUSE_SIGNAL && s->value == SIGPIPE && !last) return false; /* the next one had read enough */
    return s->cause != PMAP_CAUSE_EXIT || s->code != 0;
}

/* Which process the whole is judged by. */
static size_t judged(const pmap_command *c)
{
    pmap_status s;
    for (size_t i = c->count; i-- > 0;) {
        tell_member(c, i, &s);
        if (failed(&s, i + 1 == c->count)) return i;
    }
    return c->count - 1;
}

int pmap_command_status(const pmap_command *c, int index, pmap_status *status)
{
    pmap_status s;
    if (!c) return pm_error(PMAP_EINVAL, "pmap_command_status: command is NULL");
    if (!status || status->size < offsetof(pmap_status, pid) || status->size > 4096)
        return pm_error(PMAP_EINVAL, "pmap_command_status: set status->size to sizeof(pmap_status) first");
    if (index < -1 || (index >= 0 && (size_t)index >= c->count))
        return pm_error(PMAP_EINVAL, "pmap_command_status: process %d of %zu", index, c->count);
    tell_member(c, index < 0 ? judged(c) : (size_t)index, &s);
    if (index < 0) {
        s.user_s = s.system_s = s.wall_s = 0;
        for (size_t i = 0; i < c->count; i++) {
            pmap_status one;
            tell_member(c, i, &one);
            s.user_s += one.user_s;
            s.system_s += one.system_s;
            if (one.wall_s > s.wall_s) s.wall_s = one.wall_s;
            if (one.maxrss > s.maxrss) s.maxrss = one.maxrss;
        }
    }
    size_t size = status->size;
    memcpy(status, &s, size < sizeof s ? size : sizeof s);
    status->size = size;
    return 0;
}

/* The command line, as far as there is room. */
static void name_of(const pmap_command_options *o, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    if (o->shell) {
        (void)snprintf(text, bytes, "%s", o->shell);
        return;
    }
    for (size_t i = 0; o->argv[i] && used < bytes; i++) {
        int n = snprintf(text + used, bytes - used, "%s%s", i ? " " : "", o->argv[i]);
        if (n > 0) used += (size_t)n;
    }
}

int pmap_command_check(const pmap_command *c)
{
    char name[160];
    pmap_status s;
    if (!c) return pm_error(PMAP_EINVAL, "pmap_command_check: command is NULL");
    if (!c->over) return pm_error(PMAP_EINVAL, "pmap_command_check: the command has not ended; wait for it first");
    const pmap_command_options *first = &c->plan->each[0];
    name_of(first, name, sizeof name);
    if (c->error) return pm_error(c->error, "%s", c->text ? c->text : "not enough memory for what the command wrote");
    for (int k = 0; k < 2; k++)
        if (c->out[k].cut)
            return pm_error(PMAP_ETOOBIG, "'%s' wrote more than the %zu bytes that options->most_output allows", name,
                            first->most_output);

    size_t i = judged(c);
    tell_member(c, i, &s);
    if (!failed(&s, i + 1 == c->count)) return 0;
    name_of(&c->plan->each[i], name, sizeof name);
    if (s.cause == PMAP_CAUSE_TIMEOUT)
        return pm_error(PMAP_ESTATUS, "'%s' was ended after its time-out of %g s", name, first->timeout_s);
    if (s.cause == PMAP_CAUSE_CANCELLED) return pm_error(PMAP_ESTATUS, "'%s' was terminated", name);
    if (s.cause == PMAP_CAUSE_SIGNAL) {
        const char *abbreviation = sigabbrev_np(s.value);
        return pm_error(PMAP_ESTATUS, "'%s' was ended by SIG%s (%s)", name, abbreviation ? abbreviation : "?",
                        strsignal(s.value));
    }
    if (s.code < 0)
        return pm_error(PMAP_ESTATUS,
                        "'%s' has ended, but its status was lost: this program waits for all its children, or ignores "
                        "SIGCHLD",
                        name);
    return pm_error(PMAP_ESTATUS, "'%s' exited with status %d", name, s.code);
}

/* Checks what a caller wants started, and keeps a copy of it, so that a command can be queued and told of after the
 * caller's own memory has gone.  Used by command.c and commands.c; opens and starts nothing. */
#include "pmap/command.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pmap/pool.h"
#include "pmap/spawn.h"
#include "shm/size.h"

#define MOST_MEMBERS 1024u
#define MOST_OUTPUT ((size_t)256 << 20)
#define GRACE_S 2.0

/* ---- The copy: the same walk twice, first to count the bytes, then to fill them ---- */

struct block {
    char *base; /* NULL while counting */
    size_t used;
};

static void *take(struct block *b, const void *from, size_t bytes)
{
    char *to = b->base ? b->base + b->used : NULL;
    b->used += (bytes + 15) & ~(size_t)15; /* lists and options begin aligned */
    if (to && from) memcpy(to, from, bytes);
    return to;
}

static const char *take_text(struct block *b, const char *text)
{
    return text ? take(b, text, strlen(text) + 1) : NULL;
}

static const char *const *take_list(struct block *b, const char *const *list)
{
    size_t n = 0, bytes = 0;
    bool together = true; /* they lie one behind the other, and are copied at once: there may be a hundred thousand */
    if (!list) return NULL;
    for (; list[n]; n++) {
        together &= list[n] == list[0] + bytes;
        bytes += strlen(list[n]) + 1;
    }
    const char **copy = take(b, NULL, (n + 1) * sizeof *copy);
    char *texts = take(b, together ? list[0] : NULL, bytes);
    if (!copy) return NULL;
    for (size_t i = 0; i < n; i++) {
        copy[i] = together ? texts + (list[i] - list[0]) : texts;
        if (!together) texts = stpcpy(texts, list[i]) + 1;
    }
    copy[n] = NULL;
    return copy;
}

static struct pm_plan *walk(struct block *b, const pmap_command_options *each, size_t count)
{
    struct pm_plan *plan = take(b, NULL, sizeof *plan);
    pmap_command_options *all = take(b, each, count * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        pmap_command_options o = each[i];
        o.argv = take_list(b, each[i].argv);
        o.env = take_list(b, each[i].env);
        o.shell = take_text(b, each[i].shell);
        o.cwd = take_text(b, each[i].cwd);
        o.in.path = take_text(b, each[i].in.path);
        o.out.path = take_text(b, each[i].out.path);
        o.err.path = take_text(b, each[i].err.path);
        o.keep = o.keeps ? take(b, each[i].keep, o.keeps * sizeof *o.keep) : NULL;
        if (all) all[i] = o;
    }
    if (plan) *plan = (struct pm_plan){.count = count, .each = all};
    return plan;
}

/* ---- The checks ---- */

static int check_redirect(const char *what, const char *name, const pmap_redirect *r, int stream)
{
    if ((int)r->to < 0 || r->to > PMAP_IO_STDOUT || (r->to == PMAP_IO_STDOUT && stream != 2) ||
        (r->to == PMAP_IO_APPEND && stream == 0))
        return pm_error(PMAP_EINVAL, "%s: options->%s.to is %d, which it cannot be", what, name, (int)r->to);
    if ((r->to == PMAP_IO_FILE || r->to == PMAP_IO_APPEND) && !r->path)
        return pm_error(PMAP_EINVAL, "%s: options->%s.path is NULL; expected the name of a file", what, name);
    if (r->to == PMAP_IO_FD && fcntl(r->fd, F_GETFD) < 0)
        return pm_error(PMAP_EINVAL, "%s: options->%s.fd is %d, which is not open", what, name, r->fd);
    return 0;
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static int check_keep(const char *what, const pmap_command_options *o)
{
    if (o->keeps && !o->keep) return pm_error(PMAP_EINVAL, "%s: options->keep is NULL, keeps is %zu", what, o->keeps);
    for (size_t i = 0; i < o->keeps; i++)
        if (o->keep[i] < 3 || fcntl(o->keep[i], F_GETFD) < 0)
            return pm_error(PMAP_EINVAL, "%s: options->keep[%zu] is %d; expected an open descriptor above 2", what, i,
                            o->keep[i]);
    return 0;
}

static int check_one(const char *what, const pmap_command_options *o, size_t i, size_t count)
{
    int error;
    if (!o->shell && (!o->argv || !o->argv[0]))
        return pm_error(PMAP_EINVAL, "%s: options->argv names no program", what);
    if ((error = check_redirect(what, "in", &o->in, 0)) || (error = check_redirect(what, "out", &o->out, 1)) ||
        (error = check_redirect(what, "err", &o->err, 2)) || (error = check_keep(what, o)))
        return error;
    if (i > 0 && o->in.to != PMAP_IO_DEFAULT && o->in.to != PMAP_IO_PIPE)
        return pm_error(PMAP_EINVAL, "%s: `in` of program %zu is redirected, but it reads from the one before", what,
                        i);
    if (i + 1 < count && o->out.to != PMAP_IO_DEFAULT && o->out.to != PMAP_IO_PIPE)
        return pm_error(PMAP_EINVAL, "%s: `out` of program %zu is redirected, but the next one reads it", what, i);
    if (i == 0 && o->input && o->in.to != PMAP_IO_DEFAULT && o->in.to != PMAP_IO_PIPE)
        return pm_error(PMAP_EINVAL, "%s: options->input needs `in` to be PMAP_IO_PIPE or PMAP_IO_DEFAULT", what);
    if (o->input_bytes && !o->input)
        return pm_error(PMAP_EINVAL, "%s: options->input is NULL, input_bytes is %zu", what, o->input_bytes);
    if (!(o->timeout_s >= 0))
        return pm_error(PMAP_EINVAL, "%s: options->timeout_s is %g; expected at least 0", what, o->timeout_s);
    if (o->cpu > PM_SPAWN_CPUS) return pm_error(PMAP_EINVAL, "%s: options->cpu is %u; expected at most %u", what, o->cpu, PM_SPAWN_CPUS);
    if (isnan(o->grace_s)) return pm_error(PMAP_EINVAL, "%s: options->grace_s is not a number", what);
    return 0;
}

int pm_plan_make(struct pm_plan **plan, const char *what, const pmap_command_options *options, size_t count)
{
    static const pmap_command_options init = PMAP_COMMAND_OPTIONS_INIT;
    *plan = NULL;
    if (!options) return pm_error(PMAP_EINVAL, "%s: options is NULL", what);
    if (count < 1 || count > MOST_MEMBERS)
        return pm_error(PMAP_EINVAL, "%s: %zu programs; expected 1 to %u", what, count, MOST_MEMBERS);
    size_t stride = options->size; /* the caller's header may be older or newer than this library */
    if (stride < offsetof(pmap_command_options, env) || stride > 4096 || stride % _Alignof(pmap_command_options) != 0)
        return pm_error(PMAP_EINVAL, "%s: options->size is %zu; start from PMAP_COMMAND_OPTIONS_INIT", what, stride);

    pmap_command_options *each = calloc(count, sizeof *each);
    if (!each) return pm_error(PMAP_ENOMEM, "%s: not enough memory", what);
    int error = 0;
    for (size_t i = 0; i < count && !error; i++) {
        const char *from = (const char *)options + i * stride;
        each[i] = init;
        memcpy(&each[i], from, pm_size_min(stride, sizeof *each));
        if (each[i].size != stride)
            error = pm_error(PMAP_EINVAL, "%s: options[%zu].size is %zu, not %zu", what, i, each[i].size, stride);
        else error = check_one(what, &each[i], i, count);
        if (each[i].most_output == 0) each[i].most_output = MOST_OUTPUT;
        if (each[i].grace_s == 0) each[i].grace_s = GRACE_S;
    }
    if (!error) {
        struct block b = {NULL, 0};
        (void)walk(&b, each, count);
        b = (struct block){malloc(b.used), 0};
        if (b.base) *plan = walk(&b, each, count);
        else error = pm_error(PMAP_ENOMEM, "%s: not enough memory", what);
    }
    free(each);
    for (size_t i = 0; *plan && i < count; i++)
        if ((*plan)->each[i].keeps)
            qsort((void *)(uintptr_t)(*plan)->each[i].keep, (*plan)->each[i].keeps, sizeof(int), compare);
    return error;
}

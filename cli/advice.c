/* What the figures mean, in plain words. See report.h. Every sentence is computed from this run and speaks of this
 * machine. */
#include "cli/report.h"

#include <stdarg.h>
#include <string.h>

#define WIDTH 100
#define MUCH (1u << 20) /* with less input than that, moving it costs too little to be measured */

struct paragraph {
    char text[2400];
    size_t length;
};

static void say(struct paragraph *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct paragraph *p, const char *format, ...)
{
    va_list list;
    int wrote;

    va_start(list, format);
    wrote = vsnprintf(p->text + p->length, sizeof p->text - p->length, format, list);
    va_end(list);
    if (wrote > 0) p->length += (size_t)wrote;
    if (p->length >= sizeof p->text) p->length = sizeof p->text - 1;
}

static void print_wrapped(FILE *file, const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t length = strcspn(text, " ");

        if (column && column + 1 + length > WIDTH) {
            fputc('\n', file);
            column = 0;
        }
        if (column) fputc(' ', file);
        fprintf(file, "%.*s", (int)length, text);
        column += (column ? 1 : 0) + length;
        text += length + (text[length] == ' ');
    }
    fputc('\n', file);
}

/* The fastest result of a path, or NULL. */
static const struct result *best_of(const struct result *results, unsigned count, enum path path)
{
    const struct result *best = NULL;

    for (const struct result *r = results; r < results + count; r++)
        if (r->path == path && (!best || r->median < best->median)) best = r;
    return best;
}

static void name(struct paragraph *p, const struct result *r)
{
    say(p, "%s with %u worker%s", path_names[r->path], r->workers, r->workers == 1 ? "" : "s");
}

static void winner(struct paragraph *p, const struct result *results, unsigned count)
{
    const struct result *best = results, *next = NULL, *serial = best_of(results, count, PATH_SERIAL);

    for (const struct result *r = results; r < results + count; r++)
        if (r->median < best->median) best = r;
    for (const struct result *r = results; r < results + count; r++)
        if (r != best && (!next || r->median < next->median)) next = r;
    name(p, best);
    say(p, " was fastest: %.3g ms", best->median);
    if (serial && serial != best) say(p, ", %.2f x as fast as serial", serial->median / best->median);
    if (next) {
        double ahead = next->median / best->median;

        say(p, ahead < 1.03 ? ", and no more than noise ahead of " : ", ahead of ");
        name(p, next);
        if (ahead >= 1.03) say(p, " by a factor of %.2f", ahead);
    }
    say(p, ".");
}

/* What a byte costs on a path that copies, and from how much compute a byte on that path beats one CPU. A copying path
 * with W workers takes t + c / W per byte (t: what it takes longer than a path that moves nothing), serial takes c: so
 * c > t W / (W - 1). */
static void copying(struct paragraph *p, const struct result *results, unsigned count, enum path path)
{
    const struct result *r = best_of(results, count, path), *shm = NULL, *serial = best_of(results, count, PATH_SERIAL);
    double bytes, cpu, longer, without;

    if (!r || !r->bytes_copied || r->input_bytes < MUCH) return;
    for (const struct result *other = results; other < results + count; other++)
        if (other->path == PATH_SHM && other->workers == r->workers) shm = other;
    bytes = (double)r->bytes_copied;
    cpu = (r->cost.transfer_in + r->cost.transfer_out) * 1e6 / bytes;
    say(p, " Moving data over %s took %.3g ns of CPU a byte", path_names[path], cpu);
    if (!shm && !serial) {
        say(p, ".");
        return;
    }
    without = shm ? shm->median : serial->median / r->workers;
    longer = (r->median - without) * 1e6 / (double)r->input_bytes;
    if (longer <= 0) {
        say(p, " and cost no time that could be measured.");
        return;
    }
    say(p, " and made the whole %.3g ns a byte longer than %s", longer, shm ? "shm" : "perfect speed-up");
    if (r->workers == 1) say(p, "; with one worker that never pays.");
    else {
        double pays = longer * r->workers / (r->workers - 1);

        say(p, "; with %u workers it pays from about %.3g ns of compute a byte on", r->workers, pays);
        if (serial) say(p, " (here: %.3g)", serial->median * 1e6 / (double)serial->input_bytes);
        say(p, ".");
    }
}

static void in_place(struct paragraph *p, const struct result *results, unsigned count)
{
    const struct result *shm = best_of(results, count, PATH_SHM), *openmp = best_of(results, count, PATH_OPENMP);

    if (!shm || !openmp) return;
    say(p, " Processes on shared memory took %.2f x the time of threads", shm->median / openmp->median);
    if (shm->input_bytes >= MUCH) say(p, ", as nothing is copied");
    say(p, "; they also survive a crash of their function.");
}

/* Without data, what a path costs is dispatch: per item where items are dispatched one at a time, else as a share of
 * the time. */
static void dispatch(struct paragraph *p, const struct result *results, unsigned count)
{
    bool any = false, each = results->chunk == 1;

    if (results->input_bytes >= MUCH) return;
    for (int path = PATH_OPENMP; path < PATHS; path++) {
        const struct result *r = best_of(results, count, (enum path)path);
        double all;

        if (!r || !r->items) continue;
        all = r->cost.transfer_in + r->cost.compute + r->cost.transfer_out + r->cost.dispatch + r->cost.idle;
        if (all <= 0) continue;
        if (!any)
            say(p, " Next to no data is moved here; %s",
                each ? "beside compute, an item cost" : "dispatch and waiting took");
        if (each)
            say(p, "%s %.3g ns of worker time on %s", any ? "," : "", (all - r->cost.compute) * 1e6 / (double)r->items,
                path_names[path]);
        else say(p, "%s %.1f%% and %.1f%% of worker time on %s", any ? "," : "", 100 * r->cost.dispatch / all,
                 100 * r->cost.idle / all, path_names[path]);
        any = true;
    }
    if (any) say(p, each ? "; ten times that of compute hides it." : ".");
}

void advice(FILE *file, const struct result *results, unsigned count)
{
    struct paragraph p = { .length = 0 };
    uint64_t deaths = 0, wrong = 0;

    if (!count) return;
    for (const struct result *r = results; r < results + count; r++) {
        deaths += r->deaths;
        wrong += !r->correct;
    }
    if (wrong) say(&p, "%llu WRONG among these results: the times mean nothing. ", (unsigned long long)wrong);
    if (count > 1) winner(&p, results, count);
    else say(&p, "Only one path was timed: there is nothing to compare.");
    in_place(&p, results, count);
    copying(&p, results, count, PATH_SHM_COPY);
    copying(&p, results, count, PATH_ZMQ);
    dispatch(&p, results, count);
    if (deaths)
        say(&p, " %llu workers died meanwhile%s.", (unsigned long long)deaths,
            wrong ? "" : ", and every result is right");
    print_wrapped(file, p.text);
}

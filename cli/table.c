/* The report as an aligned table for people.  See report.h. */
#include "cli/report.h"

#include <inttypes.h>
#include <string.h>

#define COLUMNS 16
#define CELL 24

static const char *const heads[COLUMNS] = { "path",    "workers", "min",     "median",   "max",  "speed-up",
                                            "in",      "compute", "out",     "dispatch", "idle", "copied",
                                            "ns/item", "deaths",  "retries", "correct" };
static const char *const units[COLUMNS] = { "",   "",   "ms", "ms",  "ms", "x", "ms", "ms",
                                            "ms", "ms", "ms", "MiB", "",   "",  "",   "" };

/* 12345678 as 12,345,678 */
static const char *grouped(uint64_t n, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;

    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

/* A time: three digits at least, and no more than a reader can use. */
static void figure(char cell[CELL], double ms)
{
    snprintf(cell, CELL, "%.*f", ms < 10 ? 3 : ms < 100 ? 2 : 1, ms);
}

static void row(char cells[COLUMNS][CELL], const struct result *r)
{
    const double times[] = { r->min, r->median, r->max, 0, r->cost.transfer_in, r->cost.compute, r->cost.transfer_out,
                             r->cost.dispatch, r->cost.idle };

    snprintf(cells[0], CELL, "%s", path_names[r->path]);
    snprintf(cells[1], CELL, "%u", r->workers);
    for (int i = 0; i < 9; i++) figure(cells[2 + i], times[i]);
    snprintf(cells[5], CELL, "%.2f", r->speedup);
    snprintf(cells[11], CELL, "%.1f", (double)r->bytes_copied / 1048576);
    figure(cells[12], r->items ? r->median * 1e6 / (double)r->items : 0);
    snprintf(cells[13], CELL, "%" PRIu64, r->deaths);
    snprintf(cells[14], CELL, "%" PRIu64, r->retries);
    snprintf(cells[15], CELL, "%s", r->correct ? "yes" : "NO");
}

static void head(FILE *file, const struct machine *m, const struct result *r)
{
    char items[32], bytes[32], result[40];

    fprintf(file, "%s: %s item%s%s%s", r->workload, grouped(r->items, items), r->items == 1 ? "" : "s",
            *r->dtype ? " of " : "", r->dtype);
    if (r->input_bytes) fprintf(file, ", %s bytes", grouped(r->input_bytes, bytes));
    fprintf(file, "; %u run%s after a warm-up; result %s\n", r->runs, r->runs == 1 ? "" : "s",
            value_text(&r->value, result));
    fprintf(file, "on %s, %u CPU%s, %s; built with %s\n", m->cpu, m->cpus, m->cpus == 1 ? "" : "s", m->kernel,
            m->compiler);
    fputs("wall time of a run, its cost split over all workers (sums to workers x wall), and what was copied:\n\n",
          file);
}

static void begin(FILE *file, const struct machine *machine)
{
    (void)file;
    (void)machine;
}

static void line(FILE *file, char cells[COLUMNS][CELL], const int *width)
{
    int last = COLUMNS - 1;

    while (last > 0 && !*cells[last]) last--; /* no blanks at the end of a line */
    fprintf(file, "%-*s", width[0], cells[0]);
    for (int c = 1; c <= last; c++) fprintf(file, "  %*s", width[c], cells[c]);
    fputc('\n', file);
}

static void workload(FILE *file, const struct machine *machine, const struct result *results, unsigned count,
                     bool first)
{
    char cells[COLUMNS][CELL];
    int width[COLUMNS] = { 0 };

    if (!count) return;
    if (!first) fputc('\n', file);
    head(file, machine, results);
    for (unsigned i = 0; i < count + 2; i++) {
        if (i < count) row(cells, &results[i]);
        for (int c = 0; c < COLUMNS; c++) {
            int length = (int)strlen(i < count ? cells[c] : i == count ? heads[c] : units[c]);

            if (length > width[c]) width[c] = length;
        }
    }
    for (int c = 0; c < COLUMNS; c++) snprintf(cells[c], CELL, "%s", heads[c]);
    line(file, cells, width);
    for (int c = 0; c < COLUMNS; c++) snprintf(cells[c], CELL, "%s", units[c]);
    line(file, cells, width);
    for (unsigned i = 0; i < count; i++) {
        row(cells, &results[i]);
        line(file, cells, width);
    }
    fputc('\n', file);
    advice(file, results, count);
}

static void end(FILE *file) { (void)file; }

const struct report report_table = { begin, workload, end };

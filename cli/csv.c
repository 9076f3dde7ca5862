/* The report as CSV: a head line, then a line per result.  The names are those of the JSON.  See report.h. */
#include "cli/report.h"

#include <inttypes.h>

static void begin(FILE *file, const struct machine *machine)
{
    (void)machine;
    fputs("workload,path,workers,items,input_bytes,chunk,runs,wall_ms_min,wall_ms_median,wall_ms_max,speedup,"
          "worker_ms_transfer_in,worker_ms_compute,worker_ms_transfer_out,worker_ms_dispatch,worker_ms_idle,"
          "bytes_copied,result,correct,deaths,retries\n", file);
}

static void workload(FILE *file, const struct machine *machine, const struct result *results, unsigned count,
                     bool first)
{
    (void)machine;
    (void)first;
    for (const struct result *r = results; r < results + count; r++) {
        char value[40];

        fprintf(file,
                "%s,%s,%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u,%.6f,%.6f,%.6f,%.4f,%.6f,%.6f,%.6f,%.6f,%.6f,%" PRIu64
                ",%s,%s,%" PRIu64 ",%" PRIu64 "\n",
                r->workload, path_names[r->path], r->workers, r->items, r->input_bytes, r->chunk, r->runs, r->min,
                r->median, r->max, r->speedup, r->cost.transfer_in, r->cost.compute, r->cost.transfer_out,
                r->cost.dispatch, r->cost.idle, r->bytes_copied, value_text(&r->value, value),
                r->correct ? "true" : "false", r->deaths, r->retries);
    }
}

static void end(FILE *file) { (void)file; }

const struct report report_csv = { begin, workload, end };

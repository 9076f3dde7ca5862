/* The report as one JSON object.  Its names are fixed: programs read them.  See report.h. */
#include "cli/report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A CPU's name may hold anything; what is neither ASCII nor harmless becomes '?', so that the text is valid whatever
 * it holds. */
static void quote(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', file);
        fputc(*text >= ' ' && *text <= '~' ? *text : '?', file);
    }
    fputc('"', file);
}

static void begin(FILE *file, const struct machine *m)
{
    fputs("{\n  \"parmap\": ", file);
    quote(file, PMAP_VERSION);
    fprintf(file, ",\n  \"machine\": {\"cpus\": %u, \"cpu\": ", m->cpus);
    quote(file, m->cpu);
    fputs(", \"kernel\": ", file);
    quote(file, m->kernel);
    fputs(", \"compiler\": ", file);
    quote(file, m->compiler);
    fputs("},\n  \"results\": [", file);
}

/* JSON has no infinity and no NaN. */
static const char *number(const struct value *value, char text[40])
{
    double real;

    memcpy(&real, &value->bits, sizeof real);
    return value->kind == VALUE_F64 && !isfinite(real) ? "null" : value_text(value, text);
}

static void workload(FILE *file, const struct machine *machine, const struct result *results, unsigned count,
                     bool first)
{
    (void)machine;
    for (const struct result *r = results; r < results + count; r++) {
        char value[40];

        fprintf(file,
                "%s\n    {\"workload\": \"%s\", \"path\": \"%s\", \"workers\": %u, \"items\": %" PRIu64
                ", \"input_bytes\": %" PRIu64 ", \"chunk\": %" PRIu64 ", \"runs\": %u,\n",
                first && r == results ? "" : ",", r->workload, path_names[r->path], r->workers, r->items,
                r->input_bytes, r->chunk, r->runs);
        fprintf(file, "     \"wall_ms\": {\"min\": %.6f, \"median\": %.6f, \"max\": %.6f}, \"speedup\": %.4f,\n",
                r->min, r->median, r->max, r->speedup);
        fprintf(file, "     \"worker_ms\": {\"transfer_in\": %.6f, \"compute\": %.6f, \"transfer_out\": %.6f, "
                "\"dispatch\": %.6f, \"idle\": %.6f},\n",
                r->cost.transfer_in, r->cost.compute, r->cost.transfer_out, r->cost.dispatch, r->cost.idle);
        fprintf(file, "     \"bytes_copied\": %" PRIu64 ", \"result\": %s, \"correct\": %s, \"deaths\": %" PRIu64
                ", \"retries\": %" PRIu64 "}",
                r->bytes_copied, number(&r->value, value), r->correct ? "true" : "false", r->deaths, r->retries);
    }
}

static void end(FILE *file) { fputs("\n  ]\n}\n", file); }

const struct report report_json = { begin, workload, end };

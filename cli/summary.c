/* Median, extremes and correctness of the runs of a path.  See summary.h. */
#include "cli/summary.h"

#include <stdlib.h>

static int by_wall(const void *a, const void *b)
{
    double x = ((const struct sample *)a)->wall_ms, y = ((const struct sample *)b)->wall_ms;

    return x < y ? -1 : x > y;
}

static bool same(const struct value *a, const struct value *b) { return a->kind == b->kind && a->bits == b->bits; }

void summarise(struct result *to, const struct runner *r, struct sample *samples, const struct sample *warm,
               const struct value *reference, const struct settings *settings, const struct input *file)
{
    const struct workload *w = workloads[r->workload];
    enum dtype dtype = file ? file->dtype : settings->dtype;
    unsigned n = (unsigned)settings->runs;
    const struct sample *a, *b;

    *to = (struct result){ .workload = w->name, .path = r->path, .workers = r->workers, .items = r->items, .runs = n };
    to->dtype = w->takes_input ? dtype_names[dtype] : "";
    to->input_bytes = r->items * w->item_bytes(dtype);
    to->chunk = settings->chunk ? settings->chunk : w->chunk;
    to->value = warm->result;
    to->correct = warm->right && same(&warm->result, reference);
    for (unsigned i = 0; i < n; i++) {
        to->correct = to->correct && samples[i].right && same(&samples[i].result, reference);
        to->deaths += samples[i].deaths;
        to->retries += samples[i].retries;
    }
    qsort(samples, n, sizeof *samples, by_wall);
    to->min = samples[0].wall_ms;
    to->max = samples[n - 1].wall_ms;
    /* The parts come from the same run (or the same two) as the median, so that they add up to it. */
    a = &samples[(n - 1) / 2];
    b = &samples[n / 2];
    to->median = (a->wall_ms + b->wall_ms) / 2;
    to->bytes_copied = a->bytes_copied;
    to->cost.transfer_in = (a->cost.transfer_in + b->cost.transfer_in) / 2;
    to->cost.compute = (a->cost.compute + b->cost.compute) / 2;
    to->cost.transfer_out = (a->cost.transfer_out + b->cost.transfer_out) / 2;
    to->cost.dispatch = (a->cost.dispatch + b->cost.dispatch) / 2;
    to->cost.idle = (a->cost.idle + b->cost.idle) / 2;
}

/* From the runs of one path to one line of the report.  Used by order.c. */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "cli/report.h"

/* Fills all of the result but `speedup`. Sorts the samples. It is correct when each run is right by the workload's own
 * check and has the bits of `reference`. */
void summarise(struct result *to, const struct runner *r, struct sample *samples, const struct sample *warm,
               const struct value *reference, const struct settings *settings, const struct input *file);

#endif

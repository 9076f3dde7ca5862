/* What the benchmark found, and the ways to write it: table, CSV, JSON, advice, plot.  Nothing here measures. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli/machine.h"
#include "cli/runner.h"

#include <stdio.h>

struct result {          /* one workload on one path with one number of workers; times in milliseconds */
    const char *workload;
    enum path path;
    unsigned workers;
    uint64_t items, input_bytes, chunk;
    const char *dtype;   /* of input that has one, or "" */
    unsigned runs;
    double min, median, max, speedup;
    struct part_costs cost;           /* of the median run, as is bytes_copied */
    uint64_t bytes_copied;
    uint64_t deaths, retries;         /* in all timed runs */
    struct value value;
    bool correct;
};

/* One table of operations per format.  `first`: no workload was written before. */
struct report {
    void (*begin)(FILE *file, const struct machine *machine);
    void (*workload)(FILE *file, const struct machine *machine, const struct result *results, unsigned count,
                     bool first);
    void (*end)(FILE *file);
};

extern const struct report report_table, report_csv, report_json;

/* A paragraph in plain words about one workload. */
void advice(FILE *file, const struct result *results, unsigned count);

/* A result's value as text: a number that reads back to the same bits.  Returns text. */
const char *value_text(const struct value *value, char text[40]);

/* Is there a gnuplot?  Then draws all results into a file.  0, or -1 after a message. */
int plot_check(void);
int plot(const char *file, const struct result *results, unsigned count);

#endif

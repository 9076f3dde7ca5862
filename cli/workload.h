/* What is timed: one table of operations per workload.  Used by runner.c, inside the process of one path. */
#ifndef CLI_WORKLOAD_H
#define CLI_WORKLOAD_H

#include "cli/input.h"

#include <pmap/pmap.h>

struct value { /* a result, compared bit by bit */
    enum { VALUE_F64, VALUE_I64, VALUE_U64 } kind;
    uint64_t bits;
};

struct job { /* one workload on one path, in the process of its runner */
    pmap_pool *pool;
    bool in_place;               /* the path `shm`: input is in memory that the workers share */
    const struct settings *settings;
    const struct input *file;    /* NULL: generated */
    uint64_t items;
    const void *in;              /* what prepare() placed, and run() maps */
    void *out, *expected;
};

struct workload {
    const char *name;
    size_t (*item_bytes)(enum dtype dtype); /* of input, per item */
    bool takes_input;                       /* --input and --dtype are for it */
    uint64_t chunk;                         /* what --chunk 0 means for it */
    /* Places input and room for results: 0, or a negative PMAP_E... with pmap_error() set. */
    int (*prepare)(struct job *job);
    /* What is timed; a pmap call's return. */
    int (*run)(struct job *job, const pmap_map_options *options);
    /* After a run: the result, and whether it is right by a way that has nothing to do with pmap. */
    bool (*check)(struct job *job, const struct pmap_stats *stats, struct value *result);
};

extern const struct workload workload_sum; /* sum.c */
extern const struct workload *const workloads[WORKLOADS];

/* How many items it has, and how many workers when --workers does not say. */
uint64_t workload_items(unsigned index, const struct settings *settings, const struct input *file);
unsigned workload_workers(unsigned index, uint64_t items);

/* Memory for a job: shared by the workers when it is to be mapped in place, else from malloc; never given back: the
 * process ends. */
void *workload_place(struct job *job, size_t bytes);

#endif

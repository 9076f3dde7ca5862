/* `parmap call` inside.  The program cuts inputs into blocks, one a slot; a worker runs a piece of one (all of it, unless a record before
 * has died) and leaves output and failures in the slot.  Slots lie in memory that is shared with the workers from before the fork, as are
 * the mapped files, so nothing is copied.  Between program and worker there is no lock: a slot is the program's until it has submitted the
 * piece, and again when the task has ended. */
#ifndef CLI_CALL_H
#define CLI_CALL_H

#include "cli/batch.h"

#include <pmap/call.h>
#include <pmap/pmap.h>

#include <stdatomic.h>
#include <sys/types.h>

#define CALL_FAILURES 32         /* of a piece; it ends early when they are full */
#define CALL_TEXT 112
#define CALL_NONE UINT64_MAX

enum call_phase { CALL_IDLE, CALL_SEARCH, CALL_RECORD, CALL_BLOCK, CALL_DONE }; /* search: for the first record */
enum call_cause { CALL_CODE, CALL_SIGNAL, CALL_EXIT, CALL_TIMEOUT, CALL_MEMORY, CALL_QUOTE, CALL_LARGE, CALL_LOST };

/* Where the worker is.  Offsets are in the slot's text. */
struct call_place {
    uint64_t begin;              /* of the record; when it is done: of the next one */
    _Atomic uint64_t next;       /* of the record behind it; CALL_NONE: its end is being looked for */
    uint64_t out;                /* how far the slot's output was before the record */
    uint32_t failures;           /* so many of slot->failure count */
    enum call_phase phase;
    _Atomic int64_t started;     /* with --timeout: CLOCK_MONOTONIC in ns, 0 = not yet */
};

struct call_failure {
    uint64_t number;             /* of the record in its piece, later in its block, from 1 on; 0 = the block's end */
    uint64_t begin;
    enum call_cause cause;
    int value;
    unsigned attempts;
    char text[CALL_TEXT];
};

/* Shared. */
struct call_slot {
    /* The program's: the block, then the piece. */
    struct call_input *input;
    const char *text;            /* the input, or what was read of it */
    uint64_t bytes, offset;      /* of text; offset of its first byte in the input */
    const char *header;          /* NULL: none */
    uint64_t header_bytes;
    uint64_t begin, end;         /* the piece: records that begin in between */
    uint64_t scan;               /* CALL_NONE: a record begins at `begin`; else it must be looked for from here on */
    bool quoted;                 /* ... and there CSV is inside of quotes */
    unsigned attempt;            /* of the first record */
    uint64_t out_from;           /* behind what earlier pieces wrote */
    char *out, *in;              /* areas of run->area bytes, of which only what is used is memory */
    /* The worker's.  A death leaves place[turn & 1] as it was when the record began: the worker fills the other one, and then names it
     * with a release store of turn.  The kernel's word about the death orders the program's loads behind it; for --timeout it looks while
     * the worker runs, and pairs with that store.  Turn 0 is before the first record, and there is one for each, one for NAME_block
     * and one for the end: so turn also says how many records are done. */
    _Alignas(64) struct call_place place[2];
    _Atomic uint64_t turn;
    struct call_failure failure[CALL_FAILURES];
    int64_t ns;                  /* that the piece took */
};

/* One for all workers; shared, written by the program. */
struct call_control {
    _Atomic bool stop;           /* end pieces early */
};

struct call_input {
    const char *name;
    const char *data;            /* mapped; NULL: it is read */
    uint64_t size;
    dev_t device;
    ino_t inode;
    unsigned index;
    bool begun, lost;            /* lost: a worker could not read it */
    uint64_t at, scan;           /* mapped: where the next block begins, and CSV has been looked through to */
    bool quoted;                 /* ... where it is inside of quotes */
    const char *header;
    uint64_t header_bytes;
    int fd;                      /* of what is read; -1: not opened yet */
    uint64_t taken;              /* bytes of it that are in blocks */
};

/* What was asked for and found out before the workers are forked; they see it as it was then. */
struct call_run {
    const struct batch *batch;
    const char *function;        /* its name */
    void *library;
    parmap_record_fn *record;
    parmap_init_fn *init;
    parmap_block_fn *block;
    parmap_exit_fn *exit;
    struct call_control *control;
    struct call_slot *slot;
    unsigned slots;
    uint64_t area, most_out;     /* bytes of a slot's areas; of output behind which a piece ends early */
    char *shared;                /* all of the above in one mapping */
    uint64_t shared_bytes;
    uint64_t seed;
    uint64_t even;               /* with NAME_block: all blocks begin at multiples of it; 0 = their size is adapted */
};

/* ---- call_worker.c: what a worker does ---- */
pmap_hook_fn call_worker_init, call_worker_exit; /* arg: the struct call_run */
pmap_work_fn call_worker_piece;                  /* in: a uint32_t, the slot; pmap_task_arg(): the struct call_run */

/* ---- call_csv.c: rows and fields.  Quotes begin where a field does, as RFC 4180 says; elsewhere they are letters. ---- */

/* Where the row that begins at `at` ends: at its newline, or at `bytes`.  *open: then it is inside of quotes. */
uint64_t call_csv_end(const char *text, uint64_t at, uint64_t bytes, bool *open);

struct call_scan {
    uint64_t at;                 /* looked through to here; perhaps one byte further than was asked for, between two quotes */
    bool quoted;
    uint64_t last;               /* behind the last newline that ends a row; 0 = none yet */
    uint64_t first;              /* the same of the first one at or behind `from` */
    uint64_t from;
};
/* Looks at bytes up to `to`.  Of text only `bytes` are there; `final`: more will not come, else it stops before what needs more. */
void call_csv_scan(struct call_scan *scan, const char *text, uint64_t to, uint64_t bytes, bool final);

struct call_fields {
    struct { uint64_t at, bytes; } *field;
    size_t count, room;
    char *text;                  /* the fields with zero bytes behind them */
    uint64_t text_room;
};
bool call_csv_split(struct call_fields *fields, const char *row, uint64_t bytes); /* false: no memory */

/* ---- call_input.c: where blocks come from ---- */
struct call_source;
enum call_took { CALL_BLOCK_TAKEN, CALL_LATER, CALL_END, CALL_ERROR };

/* Opens, maps and checks all files before anything runs.  NULL after a message. */
struct call_source *call_source_open(const struct call_run *run);
/* Puts the next block of about `bytes` into the slot; idle: rather a small one now than a full one later.  CALL_LATER: it would have to
 * wait for call_source_fd(). CALL_ERROR after a message; that input is then passed over. */
enum call_took call_source_take(struct call_source *source, struct call_slot *slot, uint64_t bytes, bool idle);
int call_source_fd(const struct call_source *source);
uint64_t call_source_left(const struct call_source *source); /* bytes of the mapped file that is cut; 0 where that is not known */
uint64_t call_source_all(const struct call_source *source);  /* the same of all files */
/* After a message true: a mapped file is no longer what it was. */
bool call_source_changed(const struct call_source *source);
bool call_source_has(const struct call_source *source, dev_t device, ino_t inode);
void call_source_close(struct call_source *source);

/* ---- call_block.c: the blocks under way ---- */
struct call_blocks;

struct call_totals {
    uint64_t records, failed, lost; /* lost: whose worker died, or was killed for their slowness */
    uint64_t unreadable, died, blocks, bytes_in, bytes_out; /* died: workers; all but that of what has been printed */
};

struct call_blocks *call_blocks_open(const struct call_run *run, pmap_pool *pool, int out, const char *out_name);
/* The slot for the next block, or NULL: all are taken.  call_blocks_add() begins it. */
struct call_slot *call_blocks_slot(struct call_blocks *blocks);
void call_blocks_add(struct call_blocks *blocks);
unsigned call_blocks_count(const struct call_blocks *blocks);   /* under way, or waiting for their turn */
unsigned call_blocks_running(const struct call_blocks *blocks);
uint64_t call_blocks_size(const struct call_blocks *blocks);    /* that the next block should have */
/* Prints what has its turn, in order. */
void call_blocks_print(struct call_blocks *blocks);
/* Kills what has exceeded its time.  How long until the next one may have, in ms; -1: nothing has a limit. */
int call_blocks_deadline(struct call_blocks *blocks);
bool call_blocks_error(const struct call_blocks *blocks);       /* after a message: nothing can go on */
const struct call_totals *call_blocks_totals(const struct call_blocks *blocks);
void call_blocks_close(struct call_blocks *blocks);

/* ---- call_report.c: a failure of the block that is in the slot, before which its input has had so many records ---- */
void call_report(const struct batch *batch, const struct call_slot *slot, uint64_t before, const struct call_failure *failure);

/* ---- call_show.c: what is said meanwhile, where --bar, --eta or --progress ask for it ---- */

/* all: bytes of all inputs, 0 = not known.  In how many seconds it wants to be called again; negative: never. */
double call_show(const struct batch *batch, const struct call_totals *totals, uint64_t all, double since_start, bool last);
void call_show_hide(void);                                      /* before anything else is written to a terminal */
void call_show_stats(const struct call_totals *totals, unsigned workers, double seconds);

#endif

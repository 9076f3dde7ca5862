/* For functions that `parmap call LIB.so:function` runs over the records of files: lines, records of a fixed size, rows of
 * comma-separated values.  Such a library links nothing of pmap: what it may ask comes with the call.  parmap_call(3) has an example.
 *
 * The program looks up these names, for a function NAME:
 *     NAME        a parmap_record_fn: called for each record
 *     NAME_init   a parmap_init_fn, optional: called when a worker begins, also one that replaces another
 *     NAME_block  a parmap_block_fn, optional: called behind the last record of each block of input
 *     NAME_exit   a parmap_exit_fn, optional: called when a worker leaves in order, not when it dies
 * Workers are processes with one thread; a function sees nothing of what other workers do.  It runs once for each record, but again
 * after it has failed (--retries), and for the records of a block before one that dies where there is a NAME_block. */
#ifndef PMAP_CALL_H
#define PMAP_CALL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct parmap_call parmap_call; /* valid during the call that it was given to */

/* `record` has `bytes` bytes, no zero byte behind them, and must not be written to.  The delimiter (and of CSV the \r before it) is not
 * part of it.  0: done; any other number: the record has failed with that code.  It is reported, and what it wrote is dropped. */
typedef int parmap_record_fn(parmap_call *call, const char *record, size_t bytes);
/* What it writes comes behind the output of the block's records.  Not 0: that is reported and dropped. */
typedef int parmap_block_fn(parmap_call *call);
/* What it leaves in *state is the worker's own: see parmap_state().  Not 0: the program ends with an error. */
typedef int parmap_init_fn(unsigned worker, void **state);
typedef void parmap_exit_fn(unsigned worker, void *state);

/* Use the functions below; later versions have more members at the end. */
struct parmap_call {
    size_t size;          /* of this struct in the program that runs */
    void *state;
    const char *file;
    uint64_t offset;
    unsigned worker, attempt;
    void (*write)(parmap_call *call, const void *data, size_t bytes);
    void (*error)(parmap_call *call, const char *format, va_list list);
    uint64_t (*random)(parmap_call *call);
    const char *(*header)(parmap_call *call, size_t *bytes);
    size_t (*fields)(parmap_call *call);
    const char *(*field)(parmap_call *call, size_t index, size_t *bytes);
    size_t (*column)(parmap_call *call, const char *name);
};

/* Appends to the record's output, which is printed in the order of the input when the record is done. */
static inline void parmap_write(parmap_call *call, const void *data, size_t bytes) { call->write(call, data, bytes); }

/* A text of up to 111 bytes for the report, for when the function then returns another number than 0. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3), unused))
#endif
static void parmap_error(parmap_call *call, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    call->error(call, format, list);
    va_end(list);
}

static inline void *parmap_state(const parmap_call *call) { return call->state; }        /* what NAME_init left; NULL without one */
static inline const char *parmap_file(const parmap_call *call) { return call->file; }    /* as it was named; "-" = standard input */
static inline uint64_t parmap_offset(const parmap_call *call) { return call->offset; }   /* of the record's (or block's) first byte in it */
static inline unsigned parmap_worker(const parmap_call *call) { return call->worker; }   /* from 0 on */
static inline unsigned parmap_attempt(const parmap_call *call) { return call->attempt; } /* 0 the first time */

/* The next 64 random bits of a stream that depends on --seed, the file's number and the offset only. */
static inline uint64_t parmap_random(parmap_call *call) { return call->random(call); }

/* With --header: the first record of this file, which is not handed to the function; else NULL.  bytes may be NULL. */
static inline const char *parmap_header(parmap_call *call, size_t *bytes) { return call->header(call, bytes); }

/* With --csv: how many fields the row has; an empty row has none.  0 without it, and in NAME_block. */
static inline size_t parmap_fields(parmap_call *call) { return call->fields(call); }
/* Field `index`, from 0 on, without its quotes and with a zero byte behind it; NULL when there is none.  bytes may be NULL.  Valid
 * until the function returns. */
static inline const char *parmap_field(parmap_call *call, size_t index, size_t *bytes) { return call->field(call, index, bytes); }
/* With --csv --header: the index of the field that the header calls so; (size_t)-1, which no row has: it names no such field.  Files may
 * differ in it. */
static inline size_t parmap_column(parmap_call *call, const char *name) { return call->column(call, name); }

#ifdef __cplusplus
}
#endif
#endif

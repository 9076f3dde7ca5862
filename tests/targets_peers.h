/* What `targets` compares: sides.  A side lives in a child process of its own, so it may keep its state in globals;
 * targets.c starts it, calls setup() once and run() whenever the parent says so.  targets_peers.c has the raw peers,
 * targets_pmap.c the pmap sides. */
#ifndef TESTS_TARGETS_PEERS_H
#define TESTS_TARGETS_PEERS_H

#include <pmap/pmap.h>

#include <stdint.h>

#define WORKERS 2
#define ACTIONS UINT64_C(400000000)
#define EMPTY_ITEMS 4000000u
#define SUM_ITEMS ((size_t)13107200) /* doubles: 100 MiB */
#define SUM_BYTES (SUM_ITEMS * sizeof(double))
#define FRAME ((size_t)1 << 20)
#define FRAMES 256u
#define TIMED_BATCHES 21u
#define ENDLESS 1000u     /* items that never end, each of which is given so much */
#define ENDLESS_MS 10
#define TIMEOUTS_MS (ENDLESS * ENDLESS_MS / WORKERS) /* of all of them, if a death and the next worker took no time */

struct side {
    const char *(*setup)(const struct side *side); /* NULL = ready, else why this side cannot run here */
    double (*run)(const struct side *side);        /* what the row shows: nanoseconds, or bytes */
    const char *(*note)(void);                     /* a remark on the last run; may be NULL */
    unsigned workers;
    int spin_us, no_huge_pages, huge_pages, empty, pinned, unordered;
};

/* ---- Kernels, the same code for both sides ---- */
double sum_block(const double *x, size_t n);
void fill(double *x, size_t n);
double filled_sum(size_t n);           /* exact: all partial sums are multiples of 1/4 below 2^51 */
void actions(uint64_t first, uint64_t last);
extern uint64_t ten_us;                /* actions that take 10 us; set by calibrate() before the sides are forked */
void calibrate(void);
pmap_range_fn nothing;

/* ---- Measuring ---- */
double now_ns(void);
double median(double *x, size_t n);    /* sorts */
double batches(unsigned each, void (*once)(void)); /* ns a call: the median of TIMED_BATCHES means */
double *frames_new(void);              /* FRAMES frames, each beginning with its number */
double *huge_new(size_t bytes, int huge);
void partner_new(void (*body)(void));  /* a second process of a peer, which ends with it */

/* In a side: tells the parent that the result is wrong, or that something broke, and ends the process. */
_Noreturn void side_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- The raw peers ---- */
extern const struct side sum_openmp, sum_huge_openmp, fresh_openmp, fresh_small_openmp, actions_openmp, actions_serial, empty_openmp;
extern const struct side futex_raw, futex_pinned, spin_raw, memcpy_raw, read_one, python_numpy, fork_one;
extern const struct side fork_two;
extern const struct side zmq_raw;      /* targets_zmq.c */

/* ---- Streams ---- */
extern const struct side imap_pmap, imap_unordered_pmap, imap_python;

/* ---- pmap ---- */
extern const struct side sum_pmap, fresh_pmap, fresh_small_pmap, actions_pmap, empty_pmap, wake_pmap, spin_pmap;
extern const struct side private_pmap, zmq_pmap, open_pmap, quiet_pmap, kill_pmap, timeout_pmap, words_pmap, worker_memory_pmap;
extern const struct side future_pmap, future_spin_pmap, recycle_pmap, few_pmap, many_pmap, few_empty_pmap, many_empty_pmap;

/* ---- Commands ---- */
extern const struct side command_pmap, command_spawn, commands_pmap, commands_spawn, commands_alone;

/* ---- The queue ---- */
extern const struct side queue_pmap, queue_small_pmap;
void queue_end(void);

void side_end(void); /* closes what a pmap side has open */

#endif

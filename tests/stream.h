/* What the tests of streams share: sources that count how far they were pulled, functions whose results are known, and a reader that
 * knows which result comes next.  Used by test_imap and test_imap_deaths. */
#ifndef PM_TESTS_STREAM_H
#define PM_TESTS_STREAM_H

#include "tests/deaths.h"

#define ON_STREAMS (PM_ON_SERIAL | PM_ON_THREADS | PM_ON_SHM) /* ZeroMQ takes maps only */
#define ON_HELD (PM_ON_THREADS | PM_ON_SHM)                   /* a serial pool's item cannot be held: it is the caller that runs it */

/* for EACH_ORDER(ordered) ...: first pmap_imap(), then pmap_imap_unordered() */
#define EACH_ORDER(ordered) (int o_ = 1; o_ >= 0; o_--) for (bool ordered = o_ == 1, once_ = true; once_; once_ = false)
#define NEVER ((size_t)-1)

/* A source of numbers input_of(0), input_of(1), ... */
struct numbers {
    size_t n;                      /* how many; NEVER = without an end */
    size_t error_at, null_at;      /* instead of this one */
    size_t pulled;                 /* handed to the stream */
    uint64_t value;
};

static inline int pull_number(void *arg, const void **in, size_t *bytes)
{
    struct numbers *s = arg;
    if (s->pulled == s->error_at) return -1234;
    if (s->pulled == s->n) return 0;
    s->value = input_of(s->pulled);
    *in = s->pulled == s->null_at ? NULL : &s->value;
    *bytes = sizeof s->value;
    s->pulled++;
    return 1;
}

static inline struct numbers numbers(size_t n) { return (struct numbers){.n = n, .error_at = NEVER, .null_at = NEVER}; }

static inline int answer(pmap_task *task, uint64_t value)
{
    void *room = pmap_task_result(task, sizeof value);
    if (!room) return 99;
    memcpy(room, &value, sizeof value);
    return 0;
}

static inline uint64_t number_in(const void *in, size_t bytes)
{
    uint64_t x = 0;
    if (bytes == sizeof x) memcpy(&x, in, sizeof x);
    return x;
}

static inline int compute(pmap_task *task, const void *in, size_t bytes) { return answer(task, right(number_in(in, bytes))); }

/* Items that wait until the test lets them go; lies in pmap_alloc() memory. */
struct hold {
    _Atomic uint64_t go, begun;
    size_t first, last;            /* items in [first, last) are held */
};

static inline struct hold *hold_new(pmap_pool *pool, size_t first, size_t last)
{
    struct hold *h = pmap_alloc(pool, sizeof *h);
    assert_non_null(h);
    memset(h, 0, sizeof *h);
    h->first = first;
    h->last = last;
    return h;
}

static inline int held(pmap_task *task, const void *in, size_t bytes)
{
    struct hold *h = pmap_task_arg(task);
    size_t i = pmap_task_index(task);
    if (i >= h->first && i < h->last) {
        atomic_fetch_add(&h->begun, 1);
        PM_HOLD(task, &h->go);
    }
    return compute(task, in, bytes);
}

static inline pmap_stream *stream_open(pmap_pool *pool, bool ordered, pmap_work_fn *function, pmap_source_fn *source, void *arg,
                                       const pmap_stream_options *options)
{
    pmap_stream *s = NULL;
    EXPECT((ordered ? pmap_imap : pmap_imap_unordered)(pool, function, source, arg, options, &s), 0);
    assert_non_null(s);
    return s;
}

/* What has come out of a stream of numbers so far. */
struct reader {
    pmap_stream *stream;
    bool ordered;
    size_t handed, n;
    unsigned char *seen;
};

static inline struct reader reader(pmap_stream *stream, bool ordered, size_t n)
{
    struct reader r = {.stream = stream, .ordered = ordered, .n = n, .seen = calloc(n + 1, 1)};
    assert_non_null(r.seen);
    return r;
}

/* The item that came last has not come before, and comes when it should. */
static inline size_t came(struct reader *r)
{
    size_t i = pmap_stream_index(r->stream);
    if (i >= r->n || r->seen[i]) fail_msg("item %zu of %zu %s", i, r->n, i < r->n ? "came twice" : "came");
    if (r->ordered && i != r->handed) fail_msg("item %zu came in place of item %zu", i, r->handed);
    r->seen[i] = 1;
    r->handed++;
    return i;
}

/* The next result, which is right: its item. */
static inline size_t read_right(struct reader *r)
{
    const void *result;
    size_t bytes;
    EXPECT(pmap_stream_next(r->stream, 30, &result, &bytes), 1);
    size_t i = came(r);
    if (bytes != 8 || number_in(result, bytes) != right(input_of(i))) fail_msg("item %zu is wrong: %zu bytes", i, bytes);
    return i;
}

static inline void read_end(struct reader *r)
{
    const void *result = r;
    size_t bytes = 1;
    for (int k = 0; k < 2; k++) {
        EXPECT(pmap_stream_next(r->stream, 30, &result, &bytes), 0);
        assert_null(result);
        assert_int_equal(bytes, 0);
    }
}

static inline void reader_close(struct reader *r)
{
    pmap_stream_close(r->stream);
    free(r->seen);
}

/* n numbers through a stream of its own, all of them right. */
static inline void stream_orderly(pmap_pool *pool, bool ordered, size_t n, const pmap_stream_options *options)
{
    struct numbers source = numbers(n);
    struct reader r = reader(stream_open(pool, ordered, compute, pull_number, &source, options), ordered, n);
    for (size_t k = 0; k < n; k++) (void)read_right(&r);
    read_end(&r);
    assert_int_equal(source.pulled, n);
    reader_close(&r);
}

#endif

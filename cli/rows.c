/* From the records of several sources to rows.  See rows.h.
 *
 * Sources that are read in step (:::+) are a dimension.  Rows are numbered; the last dimension varies fastest:
 *
 *     ::: a b :::+ 1 2 ::: x y z      dimension 0: (a,1) (b,2)   dimension 1: x y z      row 4 = (b,2) y
 *
 * The first dimension is read as it is needed, once for all combinations of the others, which are held.  What is on the command line is in
 * memory anyway and counts as held.  --link makes one dimension of all, in which a source that has ended begins again. */
#include "cli/rows.h"
#include "cli/columns.h"
#include "cli/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CHUNK ((size_t)1 << 20)
#define SOME 256u

struct chunk { /* texts that are held; they never move */
    struct chunk *before;
    size_t used, room;
    char text[];
};

struct input {
    struct source *source;
    struct columns columns;
    size_t dimension;
    bool held;               /* read to its end, all in `list` */
    bool ended;
    size_t taken;            /* which record is in `columns`; of a stream: how many it has given */
    struct record *list;
    size_t count, room;
    struct chunk *chunks;
    char *joined;            /* -L: lines that a blank at their ends ties together */
    size_t joined_bytes, joined_room;
    bool joining;
    struct record *names;    /* --header: copies */
    size_t nnames;
};

struct rows {
    const struct batch *batch;
    struct input *input;
    size_t inputs;
    size_t dimensions, *length; /* of the held ones */
    size_t inner;            /* combinations of all dimensions but the first */
    size_t longest;          /* --link: of those that are held */
    size_t next, total;      /* total 0: not known */
    size_t *order;           /* --shuf */
    bool empty;              /* a held dimension has no record: there is no combination */
    bool simple;             /* one stream, each record as it is: with -X millions of them are a command's */
    struct record whole[SOME]; /* then: the last ones, */
    size_t at, n;            /* of which so many have been given, and so many there are */
    int fd;
    struct record *cell;
    size_t room;
};

static int no_memory(void)
{
    complain("not enough memory to hold the arguments");
    return -1;
}

/* ---- Records of one input ---- */

static bool is_blank(const struct record *r)
{
    for (size_t i = 0; i < r->bytes; i++)
        if (!isspace((unsigned char)r->text[i])) return false;
    return true;
}

static bool goes_on(const char *text, size_t bytes) { return bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'); }

static int join(struct input *in, const struct record *r)
{
    size_t need = in->joined_bytes + r->bytes;

    if (need > in->joined_room) {
        char *larger = need <= SOURCE_MOST ? realloc(in->joined, 2 * need) : NULL;

        if (!larger) return no_memory();
        in->joined = larger;
        in->joined_room = 2 * need;
    }
    memcpy(in->joined + in->joined_bytes, r->text, r->bytes);
    in->joined_bytes = need;
    return 0;
}

/* The next record that counts: -r and -L leave out empty ones, -L ties lines together.  Results as of rows_next(); after 2 it goes on where
 * it was. */
static int input_next(struct rows *rows, struct input *in, bool wait, struct record *r)
{
    const struct batch *b = rows->batch;
    int result;

    for (;;) {
        if (!wait && !source_ready(in->source)) {
            rows->fd = source_fd(in->source);
            return 2;
        }
        result = source_next(in->source, r);
        if (in->joining) {
            if (result == 1 && join(in, r)) return -1;
            if (result == 1 && goes_on(in->joined, in->joined_bytes)) continue;
            if (result < 0) return result;
            in->joining = false;
            *r = (struct record){ in->joined, in->joined_bytes };
            return 1; /* at the end too: the next call meets that again */
        }
        if (result != 1) return result;
        if ((b->skip_empty || b->most_lines) && is_blank(r)) continue;
        if (!b->most_lines || !goes_on(r->text, r->bytes)) return 1;
        in->joined_bytes = 0;
        if (join(in, r)) return -1;
        in->joining = true;
    }
}

/* A copy that stays where it is until the input is closed. */
static const char *hold(struct input *in, const char *text, size_t bytes)
{
    struct chunk *c = in->chunks;

    if (!c || c->room - c->used < bytes) {
        size_t room = bytes > CHUNK / 4 ? bytes : CHUNK;

        c = malloc(sizeof *c + room);
        if (!c) return NULL;
        *c = (struct chunk){ .before = in->chunks, .room = room };
        in->chunks = c;
    }
    if (bytes) memcpy(c->text + c->used, text, bytes);
    c->used += bytes;
    return c->text + c->used - bytes;
}

static int remember(struct input *in, const struct record *r)
{
    const char *text = source_fd(in->source) < 0 && !in->joined ? r->text : hold(in, r->text, r->bytes);

    if (in->count == in->room) {
        size_t room = in->room ? 2 * in->room : 64;
        struct record *larger = realloc(in->list, room * sizeof *larger);

        if (!larger) return no_memory();
        in->list = larger;
        in->room = room;
    }
    if (!text) return no_memory();
    in->list[in->count++] = (struct record){ text, r->bytes };
    return 0;
}

static int split(struct input *in, const struct record *r)
{
    return columns_split(&in->columns, r, source_name(in->source), in->held ? in->taken + 1 : source_count(in->source));
}

/* ---- Opening ---- */

static int read_names(struct input *in)
{
    struct record r;
    int got = source_next(in->source, &r);

    if (got <= 0) return got;
    if (split(in, &r)) return -1;
    in->names = calloc(in->columns.count, sizeof *in->names);
    if (!in->names) return no_memory();
    for (; in->nnames < in->columns.count; in->nnames++) {
        const struct record *cell = &in->columns.cell[in->nnames];
        const char *text = hold(in, cell->text, cell->bytes);

        if (!text) return no_memory();
        in->names[in->nnames] = (struct record){ text, cell->bytes };
    }
    return 0;
}

static int open_input(struct rows *rows, struct input *in, const struct batch_source *s)
{
    const struct batch *b = rows->batch;

    if (columns_open(&in->columns, b)) return -1;
    if (s && s->words) in->source = source_words(s->words, s->nwords);
    else in->source = source_file(s ? s->file : "-", b->delimiter, columns_csv(&in->columns));
    if (!in->source) return -1;
    if (b->link || (s && s->linked && in > rows->input)) in->dimension = rows->dimensions - (in > rows->input);
    else in->dimension = rows->dimensions;
    rows->dimensions = in->dimension + 1;
    in->held = b->shuffle || (s && s->words) || in->dimension > 0 || (b->link && in > rows->input);
    return b->header ? read_names(in) : 0;
}

static int read_all(struct rows *rows, struct input *in)
{
    struct record r;
    int got;

    while ((got = input_next(rows, in, true, &r)) == 1)
        if (remember(in, &r)) return -1;
    in->ended = true;
    in->taken = SIZE_MAX;
    return got;
}

/* How long each dimension is, and how many rows that makes. */
static int measure(struct rows *rows)
{
    bool all = true;

    rows->length = malloc(rows->dimensions * sizeof *rows->length);
    if (!rows->length) return no_memory();
    for (size_t d = 0; d < rows->dimensions; d++) rows->length[d] = SIZE_MAX;
    for (struct input *in = rows->input; in < rows->input + rows->inputs; in++) {
        size_t *length = &rows->length[in->dimension];

        if (!in->held) {
            all = false;
            continue;
        }
        if (in->count < *length) *length = in->count;
        if (in->count > rows->longest) rows->longest = in->count;
        if (in->count == 0) rows->empty = true;
    }
    if (rows->batch->link && all) rows->length[0] = rows->longest;
    rows->inner = 1;
    for (size_t d = 1; d < rows->dimensions; d++)
        if (__builtin_mul_overflow(rows->inner, rows->length[d], &rows->inner)) goto too_many;
    if (rows->empty) return 0;
    if (all && __builtin_mul_overflow(rows->inner, rows->length[0], &rows->total)) goto too_many;
    return 0;
too_many:
    complain("the inputs have more than 2^64 combinations");
    return -1;
}

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Fisher and Yates: for i from the last row down to 1, row i changes places with row (next number modulo i + 1).  The numbers are Vigna's
 * splitmix64 from the seed on.  The manual says so: the order for a seed is a promise. */
static int shuffle(struct rows *rows)
{
    uint64_t state = rows->batch->seed;

    if (!rows->total) return 0;
    if (!rows->batch->has_seed && getrandom(&state, sizeof state, 0) != sizeof state) state = (uint64_t)(uintptr_t)rows;
    rows->order = calloc(rows->total, sizeof *rows->order);
    if (!rows->order) return no_memory();
    for (size_t i = 0; i < rows->total; i++) rows->order[i] = i;
    for (size_t i = rows->total - 1; i > 0; i--) {
        size_t other = splitmix64(&state) % (i + 1), moved = rows->order[i];

        rows->order[i] = rows->order[other];
        rows->order[other] = moved;
    }
    return 0;
}

struct rows *rows_open(const struct batch *batch)
{
    struct rows *rows = calloc(1, sizeof *rows);
    size_t n = batch->nsources ? batch->nsources : 1;

    if (!rows || !(rows->input = calloc(n, sizeof *rows->input))) {
        no_memory();
        free(rows);
        return NULL;
    }
    rows->batch = batch;
    for (; rows->inputs < n; rows->inputs++)
        if (open_input(rows, &rows->input[rows->inputs], batch->nsources ? &batch->sources[rows->inputs] : NULL)) {
            rows->inputs++; /* what it has opened is closed as well */
            goto fail;
        }
    for (size_t i = 0; i < n; i++)
        if (rows->input[i].held && read_all(rows, &rows->input[i])) goto fail;
    if (measure(rows) || (batch->shuffle && shuffle(rows))) goto fail;
    rows->simple = n == 1 && !rows->input->held && rows->input->columns.kind == COLUMNS_WHOLE && !batch->link && !batch->header;
    return rows;
fail:
    rows_close(rows);
    return NULL;
}

void rows_close(struct rows *rows)
{
    if (!rows) return;
    for (struct input *in = rows->input; in < rows->input + rows->inputs; in++) {
        source_close(in->source);
        columns_close(&in->columns);
        while (in->chunks) {
            struct chunk *c = in->chunks;

            in->chunks = c->before;
            free(c);
        }
        free(in->list);
        free(in->joined);
        free(in->names);
    }
    free(rows->input);
    free(rows->length);
    free(rows->order);
    free(rows->cell);
    free(rows);
}

/* ---- Rows ---- */

/* Parts record `which` of a held input, unless it is the one that the last row had. */
static int take_held(struct input *in, size_t which)
{
    if (in->taken == which) return 1;
    in->taken = which;
    return split(in, &in->list[which]) ? -1 : 1;
}

/* Sees to it that the stream has given `step` + 1 records. */
static int take_stream(struct rows *rows, struct input *in, size_t step, bool wait)
{
    struct record r;
    int got;

    if (in->taken > step) return 1;
    got = input_next(rows, in, wait, &r);
    if (got != 1) return got;
    /* It may have to begin again for the others, which are longer. */
    if (rows->batch->link && step < rows->longest && remember(in, &r)) return -1;
    in->taken = step + 1;
    return split(in, &r) ? -1 : 1;
}

/* --link: all in step, and what has ended begins again until the longest has. */
static int take_linked(struct rows *rows, struct input *in, size_t step, bool wait)
{
    if (!in->ended) {
        int got = take_stream(rows, in, step, wait);

        if (got != 0) return got;
        in->ended = true; /* its records are in the list now, as far as they can be needed */
    }
    if (in->count == 0 || (step >= rows->longest && rows->input[0].ended)) return 0;
    return take_held(in, step % in->count);
}

static int take(struct rows *rows, struct input *in, size_t row, bool wait)
{
    size_t inner = rows->inner, outer = inner == 1 ? row : row / inner, rest = inner == 1 ? 0 : row % inner;

    if (rows->batch->link) return take_linked(rows, in, row, wait);
    if (in->dimension == 0) {
        if (!in->held) return take_stream(rows, in, outer, wait);
        return outer < in->count ? take_held(in, outer) : 0;
    }
    for (size_t d = rows->dimensions - 1; d > in->dimension; d--) rest /= rows->length[d];
    return take_held(in, rest % rows->length[in->dimension]);
}

/* The cells of all inputs side by side.  Where names are known each has its place, though the record be short. */
static int gather(struct rows *rows, size_t *count)
{
    size_t n = 0;

    for (struct input *in = rows->input; in < rows->input + rows->inputs; in++) {
        size_t have = in->columns.count, want = have > in->nnames ? have : in->nnames;

        if (n + want > rows->room) {
            struct record *larger = realloc(rows->cell, 2 * (n + want) * sizeof *larger);

            if (!larger) return no_memory();
            rows->cell = larger;
            rows->room = 2 * (n + want);
        }
        memcpy(rows->cell + n, in->columns.cell, have * sizeof *rows->cell);
        memset(rows->cell + n + have, 0, (want - have) * sizeof *rows->cell);
        n += want;
    }
    *count = n;
    return 0;
}

int rows_next(struct rows *rows, bool wait, const struct record **cells, size_t *count)
{
    size_t row = rows->next;

    if (rows->empty) return 0;
    if (rows->simple) {
        if (rows->at == rows->n) {
            const struct batch *b = rows->batch;
            int got = input_next(rows, rows->input, wait, rows->whole);

            if (got != 1) return got;
            rows->at = 0;
            rows->n = 1;
            if (!b->skip_empty && !b->most_lines) rows->n += source_some(rows->input->source, rows->whole + 1, SOME - 1);
        }
        *cells = &rows->whole[rows->at++];
        *count = 1;
        return 1;
    }
    if (rows->order) {
        if (row == rows->total) return 0;
        row = rows->order[row];
    }
    for (struct input *in = rows->input; in < rows->input + rows->inputs; in++) {
        int got = take(rows, in, row, wait);

        if (got != 1) return got;
    }
    *cells = rows->input[0].columns.cell;
    *count = rows->input[0].columns.count;
    if (rows->inputs > 1) {
        if (gather(rows, count)) return -1;
        *cells = rows->cell;
    }
    rows->next++;
    return 1;
}

size_t rows_some(const struct rows *rows, const struct record **list)
{
    *list = rows->whole + rows->at;
    return rows->n - rows->at;
}

void rows_given(struct rows *rows, size_t n) { rows->at += n; }

bool rows_clean(const struct rows *rows)
{
    for (const struct input *in = rows->input; in < rows->input + rows->inputs; in++)
        if (!source_clean(in->source)) return false;
    return true;
}

int rows_fd(const struct rows *rows) { return rows->fd; }
size_t rows_total(const struct rows *rows) { return rows->total; }

int rows_column(const struct rows *rows, const char *name, size_t length)
{
    size_t before = 0;

    for (const struct input *in = rows->input; in < rows->input + rows->inputs; in++) {
        for (size_t i = 0; i < in->nnames; i++)
            if (in->names[i].bytes == length && memcmp(in->names[i].text, name, length) == 0) return (int)(before + i);
        before += in->nnames;
    }
    return -1;
}

size_t rows_names(const struct rows *rows)
{
    size_t n = 0;

    for (const struct input *in = rows->input; in < rows->input + rows->inputs; in++) n += in->nnames;
    return n;
}

const char *rows_source(const struct rows *rows, size_t column)
{
    if (rows->inputs == 1) return source_name(rows->input[0].source);
    if (column < rows->inputs && rows->input[column].columns.kind == COLUMNS_WHOLE) return source_name(rows->input[column].source);
    return NULL;
}

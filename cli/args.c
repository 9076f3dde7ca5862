/* Groups of rows.  See args.h.  A group grows in buffers that all groups use, and is given away as one block of
 * just its size, or with the buffers where it is large. */
#include "cli/args.h"
#include "cli/rows.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

#define LARGE ((size_t)64 << 10) /* bytes of text */

struct args_reader {
    struct rows *rows;
    size_t most;               /* rows of a group */
    bool exact;                /* every group but the last has so many */
    struct args group;         /* grows; its texts are in `text` */
    size_t cells, used, room;  /* cells that `group.value` has room for; bytes in `text` */
    char *text;                /* each value with a zero byte behind it */
    bool holes;                /* a value is missing */
    size_t length;             /* of the command, for a limit */
    const struct record *kept; /* the row that did not fit into the last group, still where rows.c has it */
    size_t nkept;
    bool over;
    int result;                /* when over: what every further call says, 0 or -1 */
};

struct args_reader *args_open(const struct batch *batch)
{
    struct args_reader *r = calloc(1, sizeof *r);

    if (!r) {
        complain("not enough memory");
        return NULL;
    }
    r->rows = rows_open(batch);
    if (!r->rows) {
        free(r);
        return NULL;
    }
    r->most = batch->most ? batch->most : SIZE_MAX;
    if (batch->most_lines && batch->most_lines < r->most) r->most = batch->most_lines;
    if (r->most == SIZE_MAX && batch->fill == FILL_NONE) r->most = 1;
    r->exact = batch->fill == FILL_NONE;
    return r;
}

void args_close(struct args_reader *r)
{
    if (!r) return;
    rows_close(r->rows);
    free(r->group.value);
    free(r->text);
    free(r);
}

int args_column(const struct args_reader *r, const char *name, size_t length) { return rows_column(r->rows, name, length); }
size_t args_columns(const struct args_reader *r) { return rows_names(r->rows); }
const char *args_source(const struct args_reader *r, size_t column) { return rows_source(r->rows, column); }
int args_fd(const struct args_reader *r) { return rows_fd(r->rows); }

size_t args_total(const struct args_reader *r)
{
    size_t rows = rows_total(r->rows);

    return r->exact ? rows / r->most + (rows % r->most != 0) : 0;
}

/* What pointed into the text's old place now points into its new one. */
static void moved(struct record *value, size_t n, const char *old, const char *new)
{
    for (size_t i = 0; i < n; i++)
        if (value[i].text) value[i].text = new + (value[i].text - old);
}

/* Room for one row more of `columns` columns and `bytes` bytes. */
static int make_room(struct args_reader *r, size_t columns, size_t bytes)
{
    struct args *g = &r->group;

    if ((g->rows + 1) * columns > r->cells) {
        size_t cells = 2 * (g->rows + 1) * columns;
        struct record *larger = realloc(g->value, cells * sizeof *larger);

        if (!larger) return -1;
        g->value = larger;
        r->cells = cells;
    }
    if (columns > g->columns) { /* a row is longer than all before it: they move apart, the last first */
        for (size_t row = g->rows; row-- > 0;) {
            memmove(g->value + row * columns, g->value + row * g->columns, g->columns * sizeof *g->value);
            memset(g->value + row * columns + g->columns, 0, (columns - g->columns) * sizeof *g->value);
        }
        g->columns = columns;
    }
    if (!r->text || bytes > r->room - r->used) {
        size_t room = 2 * (r->used + bytes) + 256;
        char *larger = malloc(room);

        if (!larger) return -1;
        if (r->used) memcpy(larger, r->text, r->used);
        moved(g->value, g->rows * g->columns, r->text, larger);
        free(r->text);
        r->text = larger;
        r->room = room;
    }
    return 0;
}

static inline void add_cell(struct args_reader *r, struct record *to, const struct record *cell)
{
    char *text = r->text + r->used;

    *to = (struct record){ text, cell->bytes };
    memcpy(text, cell->text, cell->bytes);
    text[cell->bytes] = '\0';
    r->used += cell->bytes + 1;
}

static int add_row(struct args_reader *r, const struct record *cell, size_t n)
{
    struct args *g = &r->group;
    struct record *row;
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++) bytes += cell[i].bytes + 1;
    if (make_room(r, n > g->columns ? n : g->columns, bytes)) {
        complain("not enough memory for the arguments of a command");
        return -1;
    }
    row = g->value + g->rows++ * g->columns;
    for (size_t i = 0; i < g->columns; i++) {
        row[i] = (struct record){ NULL, 0 };
        if (i < n && cell[i].text) add_cell(r, &row[i], &cell[i]);
        else r->holes = true;
    }
    return 0;
}

/* Rows of one column behind the first, as many as are at hand, fit and find room: with -X a command has a million of them. */
static void add_many(struct args_reader *r, const struct args_limit *limit)
{
    struct args *g = &r->group;
    const struct record *list;
    size_t n = rows_some(r->rows, &list), i = 0;

    for (; i < n && g->rows < r->most && g->rows < r->cells && list[i].bytes < r->room - r->used; i++) {
        size_t more = limit->each * (list[i].bytes + ARGS_WORD);

        if (more > limit->most - r->length) break;
        r->length += more;
        add_cell(r, &g->value[g->rows++], &list[i]);
    }
    rows_given(r->rows, i);
}

/* A large group is given away with the buffers that it grew in; the next ones begin as large. */
static bool give_buffers(struct args_reader *r, struct args *args)
{
    struct record *value = malloc(r->cells * sizeof *value);
    char *text = malloc(r->room);

    if (!value || !text) {
        free(value);
        free(text);
        return false;
    }
    *args = r->group;
    args->text = r->text;
    r->group = (struct args){ .value = value };
    r->text = text;
    return true;
}

/* The group as a block of its own. */
static bool give_copy(struct args_reader *r, struct args *args)
{
    size_t cells = r->group.rows * r->group.columns;
    struct record *value = malloc(cells * sizeof *value + r->used);
    char *text = (char *)(value + cells);

    if (!value) return false;
    memcpy(value, r->group.value, cells * sizeof *value);
    if (r->used) memcpy(text, r->text, r->used);
    moved(value, cells, r->text, text);
    *args = (struct args){ .rows = r->group.rows, .columns = r->group.columns, .value = value };
    r->group.rows = r->group.columns = 0;
    return true;
}

/* The buffers are empty again. */
static int give(struct args_reader *r, struct args *args)
{
    size_t columns = r->group.columns;

    if (!(r->used > LARGE && give_buffers(r, args)) && !give_copy(r, args)) {
        complain("not enough memory for the arguments of a command");
        return -1;
    }
    args->clean = rows_clean(r->rows);
    args->packed = columns == 1 && !r->holes ? r->used : 0;
    r->used = 0;
    r->holes = false;
    return 1;
}

/* With its last row: is the command short enough? */
static bool fits(struct args_reader *r, const struct args_limit *limit)
{
    const struct args *g = &r->group;
    size_t row = g->rows - 1;

    if (row == 0) r->length = 0;
    if (row > 0 && limit->each && g->columns == 1) r->length += limit->each * (g->value[row].bytes + ARGS_WORD);
    else r->length += limit->grows(limit->arg, g, row);
    return r->length <= limit->most;
}

int args_next(struct args_reader *r, struct args *args, bool wait, const struct args_limit *limit)
{
    while (!r->over && r->group.rows < r->most) {
        size_t used = r->used;

        if (!r->kept) {
            int got = rows_next(r->rows, wait, &r->kept, &r->nkept);

            if (got == 2) return 2;
            r->over = got != 1;
            r->result = got;
            if (r->over) break; /* what came before is given first */
        }
        if (add_row(r, r->kept, r->nkept)) return -1;
        if (limit && !fits(r, limit) && r->group.rows > 1) {
            r->group.rows--;
            r->used = used;
            break;
        }
        r->kept = NULL;
        if (limit && limit->each && r->group.columns == 1 && r->length <= limit->most) add_many(r, limit);
    }
    return r->group.rows ? give(r, args) : r->result;
}

void args_free(struct args *args)
{
    free(args->value);
    free(args->text);
    args->value = NULL;
    args->text = NULL;
}

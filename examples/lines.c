/* Functions for `parmap call`, over the lines or rows of any files.  A shared object:
 *
 *     cc -O2 -shared -fPIC -o lines.so lines.c
 *     parmap call lines.so:words book.txt
 *     COLUMN=price parmap call lines.so:sum --csv --header : orders.csv | awk '{ all += $1 } END { print all }' */
#include <pmap/call.h>
#include <stdio.h>
#include <stdlib.h>

/* How many words each line has. */
int words(parmap_call *call, const char *line, size_t bytes)
{
    char text[32];
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) count += line[i] != ' ' && (i == 0 || line[i - 1] == ' ');
    if (!count) {
        parmap_error(call, "an empty line");
        return 1;
    }
    parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%zu\n", count));
    return 0;
}

/* The sum of a column.  Each worker adds up a block of rows in its own state, and writes that sum at the block's end. */
struct sum {
    const char *column;
    double sum;
};

int sum_init(unsigned worker, void **state)
{
    struct sum *sum = calloc(1, sizeof *sum);
    (void)worker;
    if (!sum || !(sum->column = getenv("COLUMN"))) return 1;
    *state = sum;
    return 0;
}

int sum(parmap_call *call, const char *row, size_t bytes)
{
    struct sum *sum = parmap_state(call);
    const char *field = parmap_field(call, parmap_column(call, sum->column), NULL);
    char *end;
    double value;
    (void)row;
    (void)bytes;
    if (!field) {
        parmap_error(call, "no column %s", sum->column);
        return 1;
    }
    value = strtod(field, &end);
    if (end == field || *end) {
        parmap_error(call, "'%.80s' is no number", field);
        return 2;
    }
    sum->sum += value;
    return 0;
}

int sum_block(parmap_call *call)
{
    struct sum *sum = parmap_state(call);
    char text[40];
    parmap_write(call, text, (size_t)snprintf(text, sizeof text, "%.17g\n", sum->sum));
    sum->sum = 0;
    return 0;
}

void sum_exit(unsigned worker, void *state)
{
    (void)worker;
    free(state);
}

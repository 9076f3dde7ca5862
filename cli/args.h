/* The arguments of each command: from records to columns, from several sources to their combinations, from single ones to groups.
 * Used by run.c. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "cli/batch.h"
#include "cli/source.h"

/* One value of each column.  With most > 1, with fill, or with several lines a group has several rows. */
struct args {
    size_t rows, columns;
    struct record *value;  /* [row * columns + column]; belongs to this struct, texts and all.  text NULL: the row has no such column */
    char *text;            /* belongs to it, too; NULL = the texts are behind the values */
    bool clean;            /* no value has a zero byte; false = not known */
    size_t packed;         /* of one column, none missing: the texts lie one behind the other, a zero byte behind each, and are so many bytes;
                              else 0 */
};

/* How long a command may become. */
struct args_limit {
    size_t most;
    size_t (*grows)(const void *arg, const struct args *args, size_t row); /* by so much does this row make it longer; row 0: all of it */
    const void *arg;
    size_t each; /* not 0: of one column, a further row does so by `each` times (its bytes + ARGS_WORD) */
};
#define ARGS_WORD (1 + sizeof(char *)) /* what a word takes beyond its text */

struct args_reader;

/* Opens all sources of the batch (standard input when it names none), reads the names for --header, and to their ends all sources but the
 * first (with --shuf that too), for which it may wait.  The batch must live as long.  NULL after a message that names what is wrong. */
struct args_reader *args_open(const struct batch *batch);

/* The column's number from 0 that a name of --header stands for, or -1. */
int args_column(const struct args_reader *reader, const char *name, size_t length);
size_t args_columns(const struct args_reader *reader); /* named by --header; 0 = not known */
/* For messages: the file, "standard input" or "command line" that a column comes from; NULL: not sure. */
const char *args_source(const struct args_reader *reader, size_t column);

/* 1: *args is the next group, valid until args_free(); 0: the end; -1 after a message, when all that was read before has been given;
 * 2, only without `wait`: it would have to wait for a pipe or a terminal.  Then poll args_fd() for reading and call it again: what has
 * come so far is kept.  limit: for fill, as many rows as it allows, but one at least; NULL = no fill. */
int args_next(struct args_reader *reader, struct args *args, bool wait, const struct args_limit *limit);
int args_fd(const struct args_reader *reader);
void args_free(struct args *args);
void args_close(struct args_reader *reader);

/* How many groups there are in all, if that can be told without reading a stream to its end; else 0.  For progress and percentages. */
size_t args_total(const struct args_reader *reader);

#endif

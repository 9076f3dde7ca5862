/* The arguments of each command: from records to columns, from several sources to their combinations, from single ones to groups.
 * Used by run.c. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "cli/batch.h"
#include "cli/source.h"

/* One value of each column.  With most > 1, with fill, or with several lines a group has several rows. */
struct args {
    size_t rows, columns;
    struct record *value;  /* [row * columns + column]; belongs to this struct */
};

struct args_reader;

/* Opens all sources of the batch (standard input when it names none).  NULL after a message that names what is wrong. */
struct args_reader *args_open(const struct batch *batch);

/* The column's number from 0 that a name of --header stands for, or -1. */
int args_column(const struct args_reader *reader, const char *name, size_t length);
size_t args_columns(const struct args_reader *reader); /* named by --header; 0 = not known */

/* 1: *args is the next group, valid until args_free(); 0: the end; -1 after a message.  fits(args, arg): for fill, is the command with one
 * row more still short enough?  NULL = no fill. */
int args_next(struct args_reader *reader, struct args *args, bool (*fits)(const struct args *, void *), void *arg);
bool args_ready(const struct args_reader *reader); /* it will not wait for a pipe or a terminal */
void args_free(struct args *args);
void args_close(struct args_reader *reader);

/* How many groups there are in all, if that can be told without reading a stream to its end; else 0.  For progress and percentages. */
size_t args_total(const struct args_reader *reader);

#endif

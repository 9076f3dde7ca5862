/* Rows of columns: what the sources of a batch give together, record by record, combined, linked, shuffled.  Used by args.c, which makes
 * groups of them. */
#ifndef CLI_ROWS_H
#define CLI_ROWS_H

#include "cli/batch.h"
#include "cli/source.h"

struct rows;

/* Opens all sources, reads names where --header asks for them, and reads to their ends those that must be held: all but the first, and
 * with --shuf that one as well.  May wait as long as that takes.  NULL after a message. */
struct rows *rows_open(const struct batch *batch);
void rows_close(struct rows *rows);

/* 1: the next row's cells; one that the record was too short for has a text of NULL.  Valid until the next call.  0: the end; -1 after a
 * message; 2, only without `wait`: it would have to wait for what rows_fd() names. */
int rows_next(struct rows *rows, bool wait, const struct record **cells, size_t *count);
int rows_fd(const struct rows *rows);

/* Of the rows that rows_next() would give now those of one column that are there already: how many they are, often none.  With the second
 * call so many of them are given. */
size_t rows_some(const struct rows *rows, const struct record **list);
void rows_given(struct rows *rows, size_t n);

bool rows_clean(const struct rows *rows); /* no row that was given has a zero byte; false: not known */

int rows_column(const struct rows *rows, const char *name, size_t length); /* -1: no such name */
size_t rows_names(const struct rows *rows);   /* columns that --header names */
size_t rows_total(const struct rows *rows);   /* 0: not known, or none */
const char *rows_source(const struct rows *rows, size_t column); /* for messages; NULL: not sure */

#endif

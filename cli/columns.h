/* A record's columns: the pieces that --colsep parts, or those of comma-separated values, or the whole record.  Used by rows.c, one a
 * source. */
#ifndef CLI_COLUMNS_H
#define CLI_COLUMNS_H

#include "cli/batch.h"
#include "cli/source.h"

#include <regex.h>

struct columns {
    enum { COLUMNS_WHOLE, COLUMNS_BYTE, COLUMNS_REGEX, COLUMNS_CSV } kind;
    char separator;      /* BYTE, CSV */
    regex_t regex;
    struct record *cell; /* the last record's columns: in the record itself, or in `unquoted` */
    size_t count, room;
    char *unquoted;
    size_t unquoted_room;
};

/* 0, or -1 after a message that names a wrong --colsep. */
int columns_open(struct columns *columns, const struct batch *batch);
void columns_close(struct columns *columns);

/* Parts a record into columns->cell[0 .. count), at least one; they live as long as the record and until the next call.  `where` and
 * `number` name the record in messages.  0, or -1 after a message (no memory, quotes that are not closed). */
int columns_split(struct columns *columns, const struct record *record, const char *where, uint64_t number);

/* What parts the columns of comma-separated values, for source_file(); 0: they are none. */
char columns_csv(const struct columns *columns);

#endif

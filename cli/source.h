/* Records: the pieces of words, files and standard input that delimiters end, one after the other, whatever their size, holding one at a
 * time.  Used by args.c; knows nothing of columns and commands. */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

struct record {
    const char *text;  /* not ended by a zero byte; valid until the next call on the same source */
    size_t bytes;
};

struct source; /* an open one */

/* Words: the records are the words. */
struct source *source_words(char *const *words, size_t n);
/* A file, "-" standard input.  csv: a record ends at a newline that no quotes enclose.  NULL after a message that names the file. */
struct source *source_file(const char *file, char delimiter, bool csv);
/* 1: *record is the next; 0: the end; -1 after a message (cannot be read, a record beyond 1 GiB).  May block for as long as the file does. */
int source_next(struct source *source, struct record *record);
void source_close(struct source *source);
/* Will source_next() answer without waiting for more from a pipe or a terminal? */
bool source_ready(const struct source *source);

#endif

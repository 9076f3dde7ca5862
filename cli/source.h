/* Records: the pieces of words, files and standard input that delimiters end, one after the other, whatever their size, holding one at a
 * time.  Used by args.c; knows nothing of columns and commands. */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a record without its delimiter; a longer one is an error. */
#define SOURCE_MOST ((size_t)1 << 30)

struct record {
    const char *text;  /* not ended by a zero byte; valid until the next call on the same source */
    size_t bytes;
};

struct source; /* an open one */

/* Words: the records are the words, which must live as long as the source.  NULL: no memory, after a message. */
struct source *source_words(char *const *words, size_t n);

/* A file, "-" standard input.  The last record needs no delimiter; an empty file has no record.  csv: 0, or what parts the columns of
 * comma-separated values: then a record ends at a delimiter that no quotes enclose, and \r before a newline belongs to that.  Quotes begin
 * only where a column does, as RFC 4180 says.  NULL after a message that names the file.  Opening a FIFO waits for its writer. */
struct source *source_file(const char *file, char delimiter, char csv);

/* 1: *record is the next; 0: the end; -1 after a message that names the file and the record's number (cannot be read, longer than
 * SOURCE_MOST, no memory, quotes that nothing closes).  After 0 and -1 every further call says the same.  May wait for as long as the file
 * does; signals do not end that: who must not wait asks source_ready() first. */
int source_next(struct source *source, struct record *record);
void source_close(struct source *source); /* NULL: nothing */

/* Of the records that source_next() would give now those that have been read already, at most so many: how many they are, often none.  They
 * are given, and valid together with the one before. */
size_t source_some(struct source *source, struct record *list, size_t most);

/* Has no record that was given a zero byte?  false: it is not known. */
bool source_clean(const struct source *source);

/* Will source_next() answer at once, without waiting for more from a pipe or a terminal?  Takes in what is there already, as a call that
 * ends the last record's life.  Never waits, unless another process reads from the same pipe. */
bool source_ready(struct source *source);
/* What to poll for reading while source_ready() says no. */
int source_fd(const struct source *source);

/* For messages: the file's name, "standard input" or "command line"; and how many records source_next() has given. */
const char *source_name(const struct source *source);
uint64_t source_count(const struct source *source);

#endif

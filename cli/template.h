/* The command line of a job from its words with replacement strings: {} {.} {/} {//} {/.} {#} {%} {1} {1.} {1/} {1//} {1/.} {name} {name.} ...
 * Used by run.c, and by output.c for --tagstring and --results.
 *
 * A word that is nothing but a replacement string becomes a word a value: a column, a row, or none when the row has no such column.  In a
 * longer word the columns of {} are joined by blanks.  With several rows a longer word is repeated a row (-X, -L), or the values
 * stand side by side as words of their own (-n, -m), the first with the text before it and the last with the text behind.  {1} {2} ... are the
 * columns of each row; but with -n or -L and without fill they count all values of the group, as GNU parallel's -N does. */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include "cli/args.h"

struct template;

/* Reads the words once; they, the batch and the reader must live as long.  `batch->replace` stands for {} (NULL: {}).  `append`: {} is put
 * behind words without any replacement string.  With `batch->shell` the words are one line for sh, joined by blanks as they are, where
 * values are quoted; what blanks part there counts as words for the rules above.  What is in braces and means nothing stays as it is.
 * Without a word the values themselves are the line, as they are.
 * For a tag or a file's name give a copy of the batch without shell, and put blanks between the words that come.  NULL: no memory, after
 * a message. */
struct template *template_make(const struct batch *batch, char *const *words, size_t nwords, bool append, const struct args_reader *names);
/* For commands without values: only {#} and {%} mean something, so that the a{3} of a regular expression stays what it is. */
struct template *template_make_plain(const struct batch *batch, char *const *words, size_t nwords);
void template_free(struct template *t);

bool template_uses_slot(const struct template *t);      /* {%} */
bool template_names_program(const struct template *t);  /* the first word has a replacement string: each job may be another program */

/* The words of job `seq` (from 1) in slot `slot` (from 1): *argv, ended by NULL, in one block that the caller frees with free(*argv); with
 * shell: argv[0] is the line.  There is at least one word, though it may be empty.  *bytes: as execve() counts them, with 8 a word.  0;
 * -1 no memory, with a message; 1 a value has a zero byte, which no argument can have, with a message that names the job and where it is. */
int template_fill(const struct template *t, const struct args *args, size_t seq, unsigned slot, char ***argv, size_t *bytes);

/* By how many bytes row `row` makes the command longer: for row 0 all that it has with that row alone.  Their sum is at least *bytes of
 * template_fill(), and more only where {#} or {%} have few digits or columns are missing.  Adding up costs a row's time a row. */
size_t template_grows(const struct template *t, const struct args *args, size_t row);

/* For args_next(): so many bytes may a command have.  Valid as long as the template. */
struct args_limit template_limit(const struct template *t, size_t most);

/* Bytes of all arguments that the system takes at most for one command, with this environment; and of one argument, such as a line for
 * sh, without its zero byte. */
size_t template_most(void);
#define TEMPLATE_MOST_WORD (128u * 1024 - 1)

/* As text for people, joblog and -t: a line, words in quotes where a shell would need them (as $'...' when they have control characters).
 * With shell the line as it is.  The caller frees it; NULL: no memory. */
char *template_show(char *const *argv, bool shell);

#endif

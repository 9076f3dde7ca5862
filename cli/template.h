/* The command line of a job from its words with replacement strings: {} {.} {/} {//} {/.} {#} {%} {1} {1.} {1/} {1//} {1/.} {name} {name.} ...
 * Used by run.c, and by output.c for --tagstring and --results. */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include "cli/args.h"

struct template;

/* Reads the words once; `replace` stands for {} (NULL: {}), `append`: {} is put behind words without any replacement string.  `shell`: one
 * line for sh, of all words, where values are quoted and the words themselves are not.  `fill`: as of the batch.  NULL after a message
 * that names the word and what is wrong with it (no such column name). */
struct template *template_make(const struct batch *batch, char *const *words, size_t nwords, bool append, const struct args_reader *names);
void template_free(struct template *t);

bool template_uses_slot(const struct template *t);      /* {%} */
bool template_names_program(const struct template *t);  /* the first word has a replacement string: each job may be another program */

/* The words of job `seq` (from 1) in slot `slot` (from 1): *argv, ended by NULL, in one block that the caller frees with free(*argv); with
 * shell: argv[0] is the line.  *bytes: as execve() counts them, with 8 a word.  0; -1 no memory, with a message; 1 a value has a zero byte,
 * which no argument can have, with a message that names the job and where it is. */
int template_fill(const struct template *t, const struct args *args, size_t seq, unsigned slot, char ***argv, size_t *bytes);

/* What row `row` adds to a command line at most, in bytes as above; args NULL: what is there without any row.  For -X and -m, which ask for each
 * row once instead of filling the line again and again. */
size_t template_cost(const struct template *t, const struct args *args, size_t row);

/* Bytes of all arguments that the system takes at most for one command, with this environment; and of one argument. */
size_t template_most(void);
#define TEMPLATE_MOST_WORD (128u * 1024 - 1)

/* As text for people, joblog and -t: words in quotes where a shell would need them.  The caller frees it; NULL: no memory. */
char *template_show(char *const *argv, bool shell);

#endif

/* What a template is made of: words, of parts that stand for themselves or for values.  Written by template_read.c, read by template.c; nobody
 * else may know it. */
#ifndef CLI_TEMPLATE_PARTS_H
#define CLI_TEMPLATE_PARTS_H

#include "cli/template.h"

enum kind { TEXT, ALL, POSITION, COLUMN, SEQUENCE, SLOT };
enum shape { WHOLE, STEM, BASE, DIRECTORY, BASE_STEM }; /* {} {.} {/} {//} {/.} */

struct part {
    enum kind kind;
    enum shape shape;
    const char *text; /* TEXT */
    size_t bytes;
    long number;      /* POSITION: from 1, or from -1 backwards; COLUMN: from 0 */
    bool redirects;   /* its word has < or >, before which a bare number would be a descriptor's */
};

struct word {
    const char *gap;  /* shell: the blanks before it */
    size_t gap_bytes;
    size_t first, parts;
    bool varies;      /* it has a value of each row */
    bool alone;       /* it is one replacement string of values and nothing else */
};

struct template {
    const struct batch *batch;
    const struct args_reader *names;
    const char *replace; /* stands for {}, or NULL */
    struct part *part;
    struct word *word;
    size_t parts, words, part_room, word_room;
    bool counts_all;  /* {1} {2} ... count the values of the whole group */
    bool repeats;     /* longer words a row, not values side by side */
    bool plain;       /* there are no values */
    bool replaces, uses_slot;
    bool bare;        /* shell without a command: each value is one, and not quoted */
    size_t grows;     /* no shell, and a value of one column makes no word longer but is one itself, so many times; 0 = it is not so */
    char *line;       /* shell: what the parts point into */
};

/* A word that is {} and nothing else. */
static inline bool template_is_value(const struct template *t, const struct word *w)
{
    return w->alone && t->part[w->first].kind == ALL && t->part[w->first].shape == WHOLE;
}

#endif

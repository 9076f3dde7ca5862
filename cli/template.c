/* Puts the command line of a job together from a template's parts and the job's values.  See template.h; the parts are read in template_read.c.
 *
 * A job is put together twice by the same code: first it only counts, then there is a block of just that size. */
#include "cli/template.h"
#include "cli/template_parts.h"
#include "cli/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    const struct template *t;
    const struct args *args;
    char sequence[24], slot[12];
    char **argv;                /* NULL: only count */
    char *to;
    size_t bytes, words;
    bool checks;                /* for zero bytes; once a job is enough */
    const struct record *zero;  /* a value that has one */
};

static void put(struct line *l, const char *text, size_t bytes)
{
    if (l->argv) l->to = (char *)memcpy(l->to, text, bytes) + bytes;
    l->bytes += bytes;
}

/* In single quotes everything is itself but the quote, which is put between them with a backslash. */
static void put_quoted(struct line *l, const char *text, size_t bytes)
{
    const char *end = text + bytes, *quote;

    put(l, "'", 1);
    while ((quote = memchr(text, '\'', (size_t)(end - text)))) {
        put(l, text, (size_t)(quote - text));
        put(l, "'\\''", 4);
        text = quote + 1;
    }
    put(l, text, (size_t)(end - text));
    put(l, "'", 1);
}

/* Between two words. */
static void next_word(struct line *l)
{
    if (l->t->batch->shell) {
        put(l, " ", 1);
        return;
    }
    put(l, "", 1);
    l->words++;
    if (l->argv) l->argv[l->words] = l->to;
}

/* Behind the last one of those that a template's word has become; with shell the next one brings its blanks along. */
static void end_word(struct line *l)
{
    if (!l->t->batch->shell) next_word(l);
}

/* The directory as dirname(1) has it; else only the part behind the last slash loses something, as with GNU parallel. */
static struct record shaped(struct record r, enum shape shape)
{
    const char *slash = memrchr(r.text, '/', r.bytes), *base = slash ? slash + 1 : r.text, *end = r.text + r.bytes, *dot;

    if (shape == DIRECTORY) {
        size_t n = r.bytes;

        while (n > 1 && r.text[n - 1] == '/') n--;
        while (n > 0 && r.text[n - 1] != '/') n--;
        while (n > 1 && r.text[n - 1] == '/') n--;
        return n ? (struct record){ r.text, n } : (struct record){ ".", 1 };
    }
    if (shape == STEM || shape == BASE_STEM) {
        dot = memrchr(base, '.', (size_t)(end - base));
        if (dot) end = dot;
    }
    if (shape == STEM) base = r.text;
    return (struct record){ base, (size_t)(end - base) };
}

/* Digits, perhaps with a sign and a point: the shell does not do anything with them, and in quotes it could not reckon with them. */
static bool is_number(const char *text, size_t bytes)
{
    size_t i = bytes && *text == '-', digits = 0;

    for (; i < bytes && ((text[i] >= '0' && text[i] <= '9') || text[i] == '.'); i++) digits += text[i] != '.';
    return i == bytes && digits > 0;
}

static void put_value(struct line *l, const struct record *value, const struct part *p)
{
    struct record r = p->shape == WHOLE ? *value : shaped(*value, p->shape);

    if (l->checks && memchr(r.text, 0, r.bytes)) l->zero = value;
    if (l->t->batch->shell && !l->t->bare && (p->redirects || !is_number(r.text, r.bytes))) put_quoted(l, r.text, r.bytes);
    else put(l, r.text, r.bytes);
}

static void put_number(struct line *l, const char *digits, const struct part *p)
{
    if (l->t->batch->shell && p->redirects) put_quoted(l, digits, strlen(digits));
    else put(l, digits, strlen(digits));
}

/* The value number n (from 1, or from -1 backwards) of count cells, leaving out those that are missing; NULL: there is none. */
static const struct record *nth(const struct record *cell, size_t count, long n)
{
    if (n > 0) {
        for (size_t i = 0; i < count; i++)
            if (cell[i].text && --n == 0) return &cell[i];
        return NULL;
    }
    for (size_t i = count; i-- > 0;)
        if (cell[i].text && ++n == 0) return &cell[i];
    return NULL;
}

/* The one value of a part in a row; NULL: it has none. */
static const struct record *value_of(const struct line *l, const struct part *p, size_t row)
{
    const struct args *a = l->args;
    const struct record *cell = a->value + row * a->columns;

    if (p->kind == POSITION && l->t->counts_all) return nth(a->value, a->rows * a->columns, p->number);
    if (p->kind == POSITION && p->number < 0) return nth(cell, a->columns, p->number);
    {
        size_t column = (size_t)p->number - (p->kind == POSITION);

        return column < a->columns && cell[column].text ? &cell[column] : NULL;
    }
}

/* A part as it is in a row. */
static void put_part(struct line *l, const struct part *p, size_t row)
{
    const struct args *a = l->args;
    const struct record *value;
    bool more = false;

    switch (p->kind) {
    case TEXT: put(l, p->text, p->bytes); break;
    case SEQUENCE:
    case SLOT: put_number(l, p->kind == SEQUENCE ? l->sequence : l->slot, p); break;
    case ALL:
        for (value = a->value + row * a->columns; value < a->value + (row + 1) * a->columns; value++) {
            if (!value->text) continue;
            if (more) put(l, " ", 1);
            put_value(l, value, p);
            more = true;
        }
        break;
    case POSITION:
    case COLUMN:
        value = value_of(l, p, row);
        if (value) put_value(l, value, p);
        break;
    }
}

/* A word that is one replacement string, for a row: a word a value; `more`: there are some before.  Returns whether there are now. */
static bool put_alone(struct line *l, const struct part *p, size_t row, bool more)
{
    const struct args *a = l->args;
    const struct record *value = a->value + row * a->columns, *end = value + a->columns;

    if (p->kind != ALL) {
        value = value_of(l, p, row);
        end = value ? value + 1 : NULL;
    }
    for (; value < end; value++) {
        if (!value->text) continue;
        if (more) next_word(l);
        put_value(l, value, p);
        more = true;
    }
    return more;
}

/* A part of a word whose rows stand side by side. */
static void put_beside(struct line *l, const struct part *p)
{
    bool more = false;

    if (p->kind == TEXT || p->kind == SEQUENCE || p->kind == SLOT || (p->kind == POSITION && l->t->counts_all)) {
        put_part(l, p, 0);
        return;
    }
    for (size_t row = 0; row < l->args->rows; row++) {
        if (p->kind != ALL && !value_of(l, p, row)) continue;
        if (more) next_word(l);
        put_part(l, p, row);
        more = true;
    }
}

/* Of records with one column, no shell: with -X a million values go this way, so it is short. */
static bool is_plain(const struct line *l, const struct word *w)
{
    return template_is_value(l->t, w) && l->args->columns == 1 && !l->t->batch->shell;
}

static void put_plain(struct line *l)
{
    const struct args *a = l->args;

    if (a->packed && !l->checks) {
        for (size_t row = 0; l->argv && row < a->rows; row++) l->argv[l->words + row] = l->to + (a->value[row].text - a->value->text);
        if (l->argv) l->to = (char *)memcpy(l->to, a->value->text, a->packed) + a->packed;
        l->bytes += a->packed;
        l->words += a->rows;
        if (l->argv) l->argv[l->words] = l->to;
        return;
    }
    for (const struct record *value = l->args->value, *end = value + l->args->rows; value < end; value++) {
        if (!value->text) continue;
        if (l->checks && memchr(value->text, 0, value->bytes)) l->zero = value;
        l->bytes += value->bytes + 1;
        l->words++;
        if (!l->argv) continue;
        l->to = (char *)memcpy(l->to, value->text, value->bytes) + value->bytes;
        *l->to++ = '\0';
        l->argv[l->words] = l->to;
    }
}

static void put_word(struct line *l, const struct word *w)
{
    const struct part *part = l->t->part + w->first, *end = part + w->parts;
    bool some = false;

    if (w > l->t->word && is_plain(l, w)) {
        put_plain(l);
        return;
    }
    put(l, w->gap, w->gap_bytes);
    if (w->alone) {
        for (size_t row = 0; row < (w->varies ? l->args->rows : 1); row++) some = put_alone(l, part, row, some);
        /* A command has a name, be it an empty one that cannot be found. */
        if (!some && w > l->t->word) return;
    } else if (w->varies && l->t->repeats) {
        for (size_t row = 0; row < l->args->rows; row++) {
            if (row) next_word(l);
            for (const struct part *p = part; p < end; p++) put_part(l, p, row);
        }
    } else {
        for (const struct part *p = part; p < end; p++) put_beside(l, p);
    }
    end_word(l);
}

static void put_all(struct line *l)
{
    l->bytes = l->words = 0;
    for (size_t i = 0; i < l->t->words; i++) put_word(l, &l->t->word[i]);
    if (l->t->batch->shell) {
        put(l, "", 1);
        l->words++;
    }
}

static int complain_zero(const struct line *l)
{
    size_t column = (size_t)(l->zero - l->args->value) % l->args->columns;
    const char *source = l->t->names ? args_source(l->t->names, column) : NULL;

    complain("job %s: column %zu of a record%s%s has a zero byte, behind '%.40s': no argument can have one", l->sequence, column + 1,
             source ? " of " : "", source ? source : "", l->zero->text);
    return 1;
}

int template_fill(const struct template *t, const struct args *args, size_t seq, unsigned slot, char ***argv, size_t *bytes)
{
    struct line l = { .t = t, .args = args, .checks = !args->clean };
    size_t words;

    snprintf(l.sequence, sizeof l.sequence, "%zu", seq);
    snprintf(l.slot, sizeof l.slot, "%u", slot);
    put_all(&l);
    if (l.zero) return complain_zero(&l);
    words = l.words;
    l.argv = malloc((words + 1) * sizeof *l.argv + l.bytes);
    if (!l.argv) {
        complain("job %zu: not enough memory for its command", seq);
        return -1;
    }
    l.argv[0] = l.to = (char *)(l.argv + words + 1);
    l.checks = false;
    put_all(&l);
    l.argv[words] = NULL;
    *argv = l.argv;
    *bytes = l.bytes + words * sizeof(char *);
    return 0;
}

static size_t grows(const void *t, const struct args *args, size_t row) { return template_grows(t, args, row); }

struct args_limit template_limit(const struct template *t, size_t most) { return (struct args_limit){ most, grows, t, t->grows }; }

size_t template_grows(const struct template *t, const struct args *args, size_t row)
{
    struct args one = { .rows = 1, .columns = args->columns, .value = args->value };
    struct line l = { .t = t, .args = args, .sequence = "18446744073709551615", .slot = "4294967295" };

    if (row == 0) {
        l.args = &one;
        put_all(&l);
        return l.bytes + l.words * sizeof(char *);
    }
    for (const struct word *w = t->word; w < t->word + t->words; w++) {
        const struct part *part = t->part + w->first, *end = part + w->parts;

        if (!w->varies) continue; /* it is there already, from row 0 */
        if (w->alone) {
            put_alone(&l, part, row, true);
        } else if (t->repeats) {
            next_word(&l);
            for (const struct part *p = part; p < end; p++) put_part(&l, p, row);
        } else {
            for (const struct part *p = part; p < end; p++) {
                if (p->kind == TEXT || p->kind == SEQUENCE || p->kind == SLOT) continue;
                if (p->kind != ALL && !value_of(&l, p, row)) continue;
                next_word(&l);
                put_part(&l, p, row);
            }
        }
    }
    return l.bytes + l.words * sizeof(char *);
}

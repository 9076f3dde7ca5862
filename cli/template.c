/* Replacement strings: read once into parts, then put together for each job.  See template.h.
 *
 * A job is put together twice by the same code: first it only counts, then there is a block of just that size. */
#include "cli/template.h"
#include "cli/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    char *line;       /* shell: what the parts point into */
};

/* ---- Reading ---- */

static const struct { const char *text; size_t bytes; enum shape shape; } shapes[] = {
    { "//", 2, DIRECTORY }, { "/.", 2, BASE_STEM }, { "/", 1, BASE }, { ".", 1, STEM }, { "", 0, WHOLE },
};

/* What stands between braces; false: nothing that we know. */
static bool meaning(const struct template *t, const char *text, size_t bytes, struct part *part)
{
    if (bytes == 1 && (text[0] == '#' || text[0] == '%')) {
        part->kind = text[0] == '#' ? SEQUENCE : SLOT;
        return true;
    }
    if (t->plain) return false;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t n = bytes - shapes[s].bytes, digits = 0;
        bool minus;

        if (bytes < shapes[s].bytes || memcmp(text + n, shapes[s].text, shapes[s].bytes) != 0) continue;
        part->shape = shapes[s].shape;
        if (n == 0) {
            part->kind = ALL;
            return bytes > 0 || !t->replace;
        }
        minus = text[0] == '-';
        while (minus + digits < n && text[minus + digits] >= '0' && text[minus + digits] <= '9') digits++;
        if (digits > 0 && digits < 10 && minus + digits == n && text[minus] != '0') {
            part->kind = POSITION;
            part->number = strtol(text, NULL, 10);
            return true;
        }
    }
    /* A name may end like a shape, so that the whole is tried first. */
    for (size_t s = sizeof shapes / sizeof *shapes; s-- > 0;) {
        size_t n = bytes - shapes[s].bytes;
        int column;

        if (bytes <= shapes[s].bytes || memcmp(text + n, shapes[s].text, shapes[s].bytes) != 0) continue;
        column = t->names ? args_column(t->names, text, n) : -1;
        if (column < 0) continue;
        *part = (struct part){ .kind = COLUMN, .shape = shapes[s].shape, .number = column };
        return true;
    }
    return false;
}

/* The replacement string at `text`: how long it is; 0: none. */
static size_t replacement(const struct template *t, const char *text, struct part *part)
{
    const char *end;

    *part = (struct part){ .kind = ALL };
    if (t->replace && strncmp(text, t->replace, strlen(t->replace)) == 0) return strlen(t->replace);
    if (text[0] != '{' || !(end = strchr(text, '}'))) return 0;
    return meaning(t, text + 1, (size_t)(end - text) - 1, part) ? (size_t)(end - text) + 1 : 0;
}

static int add_part(struct template *t, const struct part *part)
{
    if (t->parts == t->part_room) {
        size_t room = t->part_room ? 2 * t->part_room : 16;
        struct part *larger = realloc(t->part, room * sizeof *larger);

        if (!larger) return -1;
        t->part = larger;
        t->part_room = room;
    }
    t->part[t->parts++] = *part;
    return 0;
}

static int add_text(struct template *t, const char *text, size_t bytes)
{
    return bytes ? add_part(t, &(struct part){ .kind = TEXT, .text = text, .bytes = bytes }) : 0;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

/* One word, or with shell what is up to the next blank.  Returns where it ends; NULL: no memory. */
static const char *read_word(struct template *t, const char *text)
{
    struct word *w;
    const char *from;

    if (t->words == t->word_room) {
        size_t room = t->word_room ? 2 * t->word_room : 8;
        struct word *larger = realloc(t->word, room * sizeof *larger);

        if (!larger) return NULL;
        t->word = larger;
        t->word_room = room;
    }
    w = &t->word[t->words++];
    *w = (struct word){ .gap = text, .first = t->parts };
    if (t->batch->shell)
        while (is_blank(*text)) text++;
    w->gap_bytes = (size_t)(text - w->gap);
    for (from = text; *text && !(t->batch->shell && is_blank(*text));) {
        struct part part;
        size_t n = replacement(t, text, &part);

        if (n == 0) {
            text++;
            continue;
        }
        if (add_text(t, from, (size_t)(text - from)) || add_part(t, &part)) return NULL;
        from = text += n;
        t->replaces = true;
        t->uses_slot |= part.kind == SLOT;
        w->varies |= part.kind == ALL || part.kind == COLUMN || (part.kind == POSITION && !t->counts_all);
    }
    if (add_text(t, from, (size_t)(text - from))) return NULL;
    w->parts = t->parts - w->first;
    for (const char *p = w->gap + w->gap_bytes; p < text; p++)
        if (*p == '<' || *p == '>')
            for (size_t i = w->first; i < t->parts; i++) t->part[i].redirects = true;
    w->alone = w->parts == 1 && (w->varies || t->part[w->first].kind == POSITION);
    return text;
}

static char *one_line(char *const *words, size_t n, const char *last)
{
    size_t bytes = strlen(last) + 2;
    char *line, *to;

    for (size_t i = 0; i < n; i++) bytes += strlen(words[i]) + 1;
    line = to = malloc(bytes);
    if (!line) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (i) *to++ = ' ';
        to = stpcpy(to, words[i]);
    }
    if (*last && n) *to++ = ' ';
    strcpy(to, last);
    return line;
}

static int read_line(struct template *t, char *const *words, size_t n, const char *last)
{
    char *line = one_line(words, n, last);
    const char *at = line;

    free(t->line);
    t->line = line;
    t->parts = t->words = 0;
    while (at && (*at || t->words == 0)) at = read_word(t, at);
    return at ? 0 : -1;
}

static struct template *make(const struct batch *batch, char *const *words, size_t nwords, bool append, const struct args_reader *names,
                             bool plain)
{
    struct template *t = calloc(1, sizeof *t);
    const char *all;

    if (!t) goto fail;
    t->plain = plain;
    if (batch->replace && *batch->replace) t->replace = batch->replace;
    all = t->replace ? t->replace : "{}";
    t->batch = batch;
    t->names = names;
    t->counts_all = batch->fill == FILL_NONE && (batch->most > 1 || batch->most_lines > 0);
    t->repeats = batch->fill == FILL_CONTEXT || (batch->fill == FILL_NONE && batch->most_lines > 0);
    t->bare = batch->shell && nwords == 0;
    if (batch->shell) {
        if (read_line(t, words, nwords, "")) goto fail;
        if (append && !t->replaces && read_line(t, words, nwords, all)) goto fail;
        return t;
    }
    for (size_t i = 0; i < nwords; i++)
        if (!read_word(t, words[i])) goto fail;
    if (append && !t->replaces && !read_word(t, all)) goto fail;
    return t;
fail:
    complain("not enough memory for the command");
    template_free(t);
    return NULL;
}

struct template *template_make(const struct batch *batch, char *const *words, size_t nwords, bool append, const struct args_reader *names)
{
    return make(batch, words, nwords, append, names, false);
}

struct template *template_make_plain(const struct batch *batch, char *const *words, size_t nwords)
{
    return make(batch, words, nwords, false, NULL, true);
}

void template_free(struct template *t)
{
    if (!t) return;
    free(t->part);
    free(t->word);
    free(t->line);
    free(t);
}

bool template_uses_slot(const struct template *t) { return t->uses_slot; }

bool template_names_program(const struct template *t)
{
    if (t->batch->shell || t->words == 0) return false;
    for (size_t i = 0; i < t->word[0].parts; i++)
        if (t->part[t->word[0].first + i].kind != TEXT) return true;
    return false;
}

/* ---- Putting together ---- */

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

/* A word that is {} and nothing else, of records with one column, no shell: with -X a million values go this way, so it is short. */
static bool is_plain(const struct line *l, const struct word *w)
{
    const struct part *part = l->t->part + w->first;

    return w->alone && part->kind == ALL && part->shape == WHOLE && l->args->columns == 1 && !l->t->batch->shell;
}

static void put_plain(struct line *l)
{
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
    struct line l = { .t = t, .args = args, .checks = true };
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

size_t template_grows(const struct template *t, const struct args *args, size_t row)
{
    struct args one = { 1, args->columns, args->value };
    struct line l = { .t = t, .args = args, .sequence = "18446744073709551615", .slot = "4294967295" };

    if (row == 0) {
        l.args = &one;
        put_all(&l);
        return l.bytes + l.words * sizeof(char *);
    }
    for (const struct word *w = t->word; w < t->word + t->words; w++) {
        const struct part *part = t->part + w->first, *end = part + w->parts;

        if (!w->varies) continue; /* it is there already, from row 0 */
        if (is_plain(&l, w)) {
            l.bytes += args->value[row].bytes + 1;
            l.words++;
        } else if (w->alone) {
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

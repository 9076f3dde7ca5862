/* Reads words with replacement strings into the parts of a template, once.  See template.h; jobs are put together in template.c. */
#include "cli/template.h"
#include "cli/template_parts.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

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
    for (const struct word *w = t->word; w < t->word + t->words; w++) {
        if (w->varies && !template_is_value(t, w)) {
            t->grows = 0;
            break;
        }
        t->grows += w->varies;
    }
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

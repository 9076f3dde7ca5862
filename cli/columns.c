/* Parts records into columns.  See columns.h.  Bytes are bytes: the program never leaves the C locale, so that a regular expression meets
 * invalid UTF-8 and zero bytes without a stumble. */
#include "cli/columns.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

int columns_open(struct columns *c, const struct batch *batch)
{
    const char *text = batch->colsep;
    char why[160];
    int error;

    memset(c, 0, sizeof *c);
    if (batch->csv) {
        c->kind = COLUMNS_CSV;
        c->separator = ',';
        return 0;
    }
    if (!text) return 0;
    /* One plain byte needs no regular expression, and is ten times faster without. */
    if (text[0] && !text[1] && !strchr("\\^$.[]|()*+?{}", text[0])) {
        c->kind = COLUMNS_BYTE;
        c->separator = text[0];
        return 0;
    }
    error = regcomp(&c->regex, text, REG_EXTENDED);
    if (error) {
        regerror(error, &c->regex, why, sizeof why);
        complain("--colsep: '%s' is not a regular expression: %s", text, why);
        return -1;
    }
    c->kind = COLUMNS_REGEX;
    return 0;
}

void columns_close(struct columns *c)
{
    if (c->kind == COLUMNS_REGEX) regfree(&c->regex);
    free(c->cell);
    free(c->unquoted);
}

char columns_csv(const struct columns *c) { return (char)(c->kind == COLUMNS_CSV ? c->separator : 0); }

static int add(struct columns *c, const char *text, size_t bytes)
{
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 8;
        struct record *larger = realloc(c->cell, room * sizeof *larger);

        if (!larger) return -1;
        c->cell = larger;
        c->room = room;
    }
    c->cell[c->count++] = (struct record){ text, bytes };
    return 0;
}

static int split_byte(struct columns *c, const char *at, const char *end)
{
    for (const char *next; (next = memchr(at, c->separator, (size_t)(end - at))); at = next + 1)
        if (add(c, at, (size_t)(next - at))) return -1;
    return add(c, at, (size_t)(end - at));
}

/* An empty match parts nothing: the search goes on behind it. */
static int split_regex(struct columns *c, const char *text, size_t bytes)
{
    size_t begin = 0, from = 0;

    while (from < bytes) {
        regmatch_t m = { (regoff_t)from, (regoff_t)bytes };

        if (regexec(&c->regex, text, 1, &m, REG_STARTEND | (from ? REG_NOTBOL : 0)) != 0) break;
        if (m.rm_so == m.rm_eo) {
            from = (size_t)m.rm_eo + 1;
            continue;
        }
        if (add(c, text + begin, (size_t)m.rm_so - begin)) return -1;
        begin = from = (size_t)m.rm_eo;
    }
    return add(c, text + begin, bytes - begin);
}

/* RFC 4180.  What stands behind closing quotes, which it does not allow, is taken as a part of the column.  1: quotes are not closed. */
static int split_csv(struct columns *c, const char *at, const char *end)
{
    char *to;

    if ((size_t)(end - at) > c->unquoted_room) {
        size_t room = (size_t)(end - at) + 256;

        free(c->unquoted);
        c->unquoted_room = 0;
        c->unquoted = malloc(room);
        if (!c->unquoted) return -1;
        c->unquoted_room = room;
    }
    to = c->unquoted; /* as long as the record: unquoting only shortens */
    for (;; at++) {
        const char *begin = to, *next;

        if (at < end && *at == '"') {
            for (at++;; at++) {
                const char *quote = memchr(at, '"', (size_t)(end - at));

                if (!quote) return 1;
                memcpy(to, at, (size_t)(quote - at));
                to += quote - at;
                at = quote + 1;
                if (at == end || *at != '"') break;
                *to++ = '"';
            }
        }
        next = at < end ? memchr(at, c->separator, (size_t)(end - at)) : NULL;
        if (!next) next = end;
        if (to == begin) { /* without quotes it stays where it is */
            if (add(c, at, (size_t)(next - at))) return -1;
        } else {
            memcpy(to, at, (size_t)(next - at));
            to += next - at;
            if (add(c, begin, (size_t)(to - begin))) return -1;
        }
        if (next == end) return 0;
        at = next;
    }
}

int columns_split(struct columns *c, const struct record *r, const char *where, uint64_t number)
{
    int error = 0;

    c->count = 0;
    switch (c->kind) {
    case COLUMNS_WHOLE: error = add(c, r->text, r->bytes); break;
    case COLUMNS_BYTE: error = split_byte(c, r->text, r->text + r->bytes); break;
    case COLUMNS_REGEX: error = split_regex(c, r->text, r->bytes); break;
    case COLUMNS_CSV: error = split_csv(c, r->text, r->text + r->bytes); break;
    }
    if (!error) return 0;
    complain("%s: record %llu: %s", where, (unsigned long long)number,
             error > 0 ? "its quotes (\") are not closed" : "not enough memory for its columns");
    return -1;
}

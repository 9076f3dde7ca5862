/* Comma-separated values for `parmap call`: where rows end, and their fields.  See call.h.  A row may be megabytes: everything goes from
 * quote to quote with memchr(). */
#include "cli/call.h"

#include <stdlib.h>
#include <string.h>

/* A quote at `q`, outside of quotes: does it open a field? */
static bool opens(const char *text, uint64_t q) { return q == 0 || text[q - 1] == ',' || text[q - 1] == '\n'; }

/* From inside of quotes at `at` to behind the quote that closes them; `bytes` and *open when there is none. */
static uint64_t close_quotes(const char *text, uint64_t at, uint64_t bytes, bool *open)
{
    while (at < bytes) {
        const char *q = memchr(text + at, '"', bytes - at);

        if (!q) break;
        at = (uint64_t)(q - text) + 1;
        if (at == bytes || text[at] != '"') return at;
        at++; /* two are a quote of the text */
    }
    *open = true;
    return bytes;
}

uint64_t call_csv_end(const char *text, uint64_t at, uint64_t bytes, bool *open)
{
    bool quoted = *open;

    *open = false;
    if (quoted) at = close_quotes(text, at, bytes, open);
    while (at < bytes) {
        const char *newline = memchr(text + at, '\n', bytes - at);
        uint64_t end = newline ? (uint64_t)(newline - text) : bytes;

        for (;;) {
            const char *q = memchr(text + at, '"', end - at);

            if (!q) return end;
            at = (uint64_t)(q - text) + 1;
            if (!opens(text, at - 1)) continue;
            at = close_quotes(text, at, bytes, open);
            if (at > end) break; /* that newline was inside */
        }
    }
    return bytes;
}

static void newlines(struct call_scan *scan, const char *text, uint64_t to)
{
    const char *last = memrchr(text + scan->at, '\n', to - scan->at), *first;
    uint64_t from = scan->from > scan->at + 1 ? scan->from - 1 : scan->at;

    if (!last) return;
    scan->last = (uint64_t)(last - text) + 1;
    if (scan->first || scan->last < scan->from || from >= to) return;
    first = memchr(text + from, '\n', to - from);
    if (first) scan->first = (uint64_t)(first - text) + 1;
}

void call_csv_scan(struct call_scan *scan, const char *text, uint64_t to, uint64_t bytes, bool final)
{
    while (scan->at < to) {
        const char *q = memchr(text + scan->at, '"', to - scan->at);
        uint64_t at = q ? (uint64_t)(q - text) : to;

        if (!scan->quoted) {
            newlines(scan, text, at);
            scan->quoted = q && opens(text, at);
            scan->at = at + (q != NULL);
        } else if (!q) {
            scan->at = to;
        } else if (at + 1 == bytes && !final) {
            scan->at = at; /* whether it closes depends on the next byte */
            return;
        } else {
            scan->quoted = at + 1 < bytes && text[at + 1] == '"';
            scan->at = at + 1 + scan->quoted;
        }
    }
}

static bool add(struct call_fields *f, uint64_t at)
{
    if (f->count == f->room) {
        size_t room = f->room ? 2 * f->room : 32;
        void *larger = realloc(f->field, room * sizeof *f->field);

        if (!larger) return false;
        f->field = larger;
        f->room = room;
    }
    f->field[f->count++].at = at;
    return true;
}

bool call_csv_split(struct call_fields *f, const char *row, uint64_t bytes)
{
    uint64_t from = 0, to = 0;

    f->count = 0;
    if (bytes + 1 > f->text_room) { /* a field's zero byte takes the place of its comma */
        char *larger = realloc(f->text, 2 * bytes + 256);

        if (!larger) return false;
        f->text = larger;
        f->text_room = 2 * bytes + 256;
    }
    if (bytes == 0) return true;
    for (;;) {
        const char *comma;
        uint64_t plain;

        if (!add(f, to)) return false;
        if (from < bytes && row[from] == '"') {
            for (from++; from < bytes; from++) {
                if (row[from] == '"' && (++from == bytes || row[from] != '"')) break;
                f->text[to++] = row[from];
            }
        }
        comma = from < bytes ? memchr(row + from, ',', bytes - from) : NULL;
        plain = comma ? (uint64_t)(comma - row) - from : bytes - from;
        memcpy(f->text + to, row + from, plain);
        to += plain;
        f->field[f->count - 1].bytes = to - f->field[f->count - 1].at;
        f->text[to++] = '\0';
        if (!comma) return true;
        from += plain + 1;
    }
}

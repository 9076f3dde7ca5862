/* Words and numbers that a user types.  See words.h. */
#include "cli/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LONGEST 32 /* a longer word resembles none of ours */

int words_find(const char *word, size_t length, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], word, length) == 0) return (int)i;
    return -1;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* How many letters must be changed, added, dropped or swapped with their neighbour (optimal string alignment). */
static size_t distance(const char *a, size_t m, const char *b, size_t n)
{
    size_t d[LONGEST + 1][LONGEST + 1];

    if (m > LONGEST || n > LONGEST) return LONGEST;
    for (size_t i = 0; i <= m; i++) d[i][0] = i;
    for (size_t j = 0; j <= n; j++) d[0][j] = j;
    for (size_t i = 1; i <= m; i++)
        for (size_t j = 1; j <= n; j++) {
            d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[m][n];
}

void complain(const char *format, ...)
{
    va_list list;

    fputs("parmap: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

int words_nearest(const char *word, size_t length, const char *const *names, size_t count)
{
    size_t best = 0, best_distance = LONGEST;

    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, length, names[i], strlen(names[i]));

        if (d < best_distance) {
            best = i;
            best_distance = d;
        }
    }
    /* Half of the letters wrong is no likeness any more. */
    return best_distance <= 3 && 2 * best_distance <= strlen(names[best]) ? (int)best : -1;
}

void words_complain(const char *what, const char *word, size_t length, const char *const *names, size_t count)
{
    int nearest = words_nearest(word, length, names, count);

    fprintf(stderr, "parmap: unknown %s '%.*s'", what, (int)length, word);
    if (nearest >= 0) fprintf(stderr, ", did you mean '%s'?", names[nearest]);
    fputs("\nexpected one of:", stderr);
    for (size_t i = 0; i < count; i++) fprintf(stderr, " %s", names[i]);
    fputc('\n', stderr);
}

bool words_number(const char *word, size_t length, uint64_t *number)
{
    static const struct { const char *text; uint64_t times; } suffixes[] = {
        { "", 1 }, { "k", 1000 }, { "K", 1000 }, { "M", 1000000 }, { "G", 1000000000 },
        { "Ki", 1u << 10 }, { "Mi", 1u << 20 }, { "Gi", 1u << 30 },
    };
    uint64_t n = 0;
    size_t i = 0;

    for (; i < length && word[i] >= '0' && word[i] <= '9'; i++)
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(word[i] - '0'), &n))
            return false;
    if (i == 0) return false;
    for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes; s++)
        if (strlen(suffixes[s].text) == length - i && memcmp(suffixes[s].text, word + i, length - i) == 0)
            return !__builtin_mul_overflow(n, suffixes[s].times, number);
    return false;
}

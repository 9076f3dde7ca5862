/* What an earlier run has left under --results.  See results_left.h. */
#include "cli/results_left.h"
#include "cli/journal_log.h"
#include "cli/results.h"
#include "cli/words.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* How a line of a job begins, as far as its number. */
struct start {
    char text[40];
    size_t n;
};

static int note(struct results_left *left, const struct start *start)
{
    uintmax_t seq = 0;

    if (sscanf(start->text, "{\"seq\": %" SCNuMAX ",", &seq) != 1 || seq > JOURNAL_MOST_SEQ) return 0;
    if (seq / 64 >= left->words) {
        size_t words = left->words;
        uint64_t *line;

        while (words <= seq / 64) words *= 2;
        line = realloc(left->line, words * sizeof *line);
        if (!line) return -1;
        memset(line + left->words, 0, (words - left->words) * sizeof *line);
        left->line = line;
        left->words = words;
    }
    left->line[seq / 64] |= (uint64_t)1 << seq % 64;
    return 0;
}

/* A line may be as long as what a job has written, so none is ever held whole. */
static int read_lines(struct results_left *left, FILE *file)
{
    static char part[1 << 16];
    struct start start = { .n = 0 };
    size_t n;

    while ((n = fread(part, 1, sizeof part, file)) > 0) {
        for (size_t at = 0; at < n;) {
            const char *newline = memchr(part + at, '\n', n - at);
            size_t length = (newline ? (size_t)(newline - part) : n) - at, room = sizeof start.text - 1 - start.n;

            memcpy(start.text + start.n, part + at, length < room ? length : room);
            start.n += length < room ? length : room;
            start.text[start.n] = 0;
            at += length + (newline != NULL);
            if (!newline) continue;
            if (note(left, &start)) return -1;
            start.n = 0;
        }
    }
    return ferror(file) ? -1 : 0;
}

int results_left_open(struct results_left *left, const char *name)
{
    FILE *file;
    int error = 0;

    *left = (struct results_left){ .name = name };
    if (!results_is_json(name)) return 0;
    left->words = 64;
    left->line = calloc(left->words, sizeof *left->line);
    file = left->line ? fopen(name, "re") : NULL;
    if (file) error = read_lines(left, file);
    if (!left->line || (!file && errno != ENOENT) || error) {
        complain("%s: cannot be read: %s", name, strerror(errno));
        error = -1;
    }
    if (file) (void)fclose(file);
    if (error) results_left_close(left);
    return error;
}

bool results_left_has(const struct results_left *left, size_t seq, uint64_t received)
{
    char path[4200];
    struct stat st;

    if (left->line) return seq / 64 < left->words && (left->line[seq / 64] >> seq % 64 & 1);
    /* Standard error's file is made behind it. */
    if ((size_t)snprintf(path, sizeof path, "%s/%zu/stdout", left->name, seq) >= sizeof path) return true;
    if (stat(path, &st) || (uint64_t)st.st_size != received) return false;
    (void)snprintf(path, sizeof path, "%s/%zu/stderr", left->name, seq);
    return stat(path, &st) == 0;
}

void results_left_close(struct results_left *left)
{
    free(left->line);
    left->line = NULL;
}

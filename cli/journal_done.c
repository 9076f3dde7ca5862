/* What an earlier run has done and what of it has failed, as the lines of its log tell; in memory only.  See journal.h and
 * journal_log.h; filled by journal_read.c. */
#include "cli/journal_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool journal_done(const struct journal *j, size_t seq)
{
    return seq / 64 < j->done_words && (j->done[seq / 64] >> seq % 64 & 1);
}

static int no_memory(struct journal *j)
{
    errno = ENOMEM;
    return journal_error(j, "read");
}

int journal_set_done(struct journal *j, size_t seq, bool done)
{
    if (seq / 64 >= j->done_words) {
        size_t words = j->done_words ? j->done_words : 64;
        uint64_t *bits;

        if (!done) return 0;
        while (words <= seq / 64) words *= 2;
        bits = realloc(j->done, words * sizeof *bits);
        if (!bits) return no_memory(j);
        memset(bits + j->done_words, 0, (words - j->done_words) * sizeof *bits);
        j->done = bits;
        j->done_words = words;
    }
    if (done) j->done[seq / 64] |= (uint64_t)1 << seq % 64;
    else j->done[seq / 64] &= ~((uint64_t)1 << seq % 64);
    return 0;
}

int journal_add_run(struct journal *j, size_t seq, bool failed, char *command)
{
    struct journal_failure *f;

    if (j->nfailures == j->failures_room) {
        size_t room = j->failures_room ? 2 * j->failures_room : 256;

        f = realloc(j->failures, room * sizeof *f);
        if (!f) {
            free(command);
            return no_memory(j);
        }
        j->failures = f;
        j->failures_room = room;
    }
    f = &j->failures[j->nfailures];
    *f = (struct journal_failure){ seq, j->nfailures, failed, command };
    j->nfailures++;
    return f->failed && !f->command ? no_memory(j) : 0;
}

static int by_seq(const void *a, const void *b)
{
    const struct journal_failure *x = a, *y = b;

    if (x->seq != y->seq) return x->seq < y->seq ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

void journal_keep_failures(struct journal *j)
{
    size_t kept = 0;

    if (j->nfailures) qsort(j->failures, j->nfailures, sizeof *j->failures, by_seq);
    for (size_t i = 0; i < j->nfailures; i++) {
        struct journal_failure *f = &j->failures[i];

        if (f->failed && (i + 1 == j->nfailures || f[1].seq != f->seq)) j->failures[kept++] = *f;
        else free(f->command);
    }
    j->nfailures = kept;
}

int journal_failed(struct journal *j, size_t *at, size_t *seq, const char **command)
{
    if (*at >= j->nfailures) return 0;
    *seq = j->failures[*at].seq;
    *command = j->failures[*at].command;
    (*at)++;
    return 1;
}

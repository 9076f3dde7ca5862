/* What `parmap call` tells the user on standard error: a line that is written over and over while it runs, and figures at the end. */
#include "cli/call.h"
#include "cli/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define OFTEN_S 0.1 /* on a terminal */
#define SELDOM_S 5.0 /* in a file or a pipe */
#define BAR 40u

static bool shown; /* there is a line on the terminal that is not ended */

void call_show_hide(void)
{
    if (shown) fputs("\r\033[K", stderr);
    shown = false;
}

double call_show(const struct batch *batch, const struct call_totals *t, uint64_t all, double since_start, bool last)
{
    static double next;
    bool terminal = isatty(STDERR_FILENO) == 1;
    double share = all ? (double)t->bytes_in / (double)all : 0;
    char text[200];
    size_t n;

    if (!batch->bar && !batch->eta && !batch->progress) return -1;
    if (!last && since_start < next) return next - since_start;
    next = since_start + (terminal ? OFTEN_S : SELDOM_S);
    n = (size_t)snprintf(text, sizeof text, "%" PRIu64 " records", t->records);
    if (all) n += (size_t)snprintf(text + n, sizeof text - n, " (%.0f %%)", 100 * share);
    if (t->failed + t->lost) n += (size_t)snprintf(text + n, sizeof text - n, ", %" PRIu64 " failed", t->failed + t->lost);
    if (!batch->progress && share > 0) n += (size_t)snprintf(text + n, sizeof text - n, ", %.0f s left", since_start / share * (1 - share));
    if (batch->bar && terminal && all && n + BAR + 4 < sizeof text) {
        text[n++] = ' ';
        text[n++] = '[';
        for (unsigned i = 0; i < BAR; i++) text[n++] = i < share * BAR ? '#' : ' ';
        text[n++] = ']';
        text[n] = '\0';
    }
    fprintf(stderr, terminal ? "\r%s\033[K" : "%s\n", text);
    shown = terminal;
    if (last && shown) fputc('\n', stderr);
    if (last) shown = false;
    return next - since_start;
}

void call_show_stats(const struct call_totals *t, unsigned workers, double seconds)
{
    call_show_hide();
    complain("%" PRIu64 " records in %.3f s (%.0f a second), %" PRIu64 " bytes in, %" PRIu64 " bytes out, %" PRIu64 " failed, %" PRIu64
             " lost with their worker; %u workers, %" PRIu64 " died, %" PRIu64 " blocks",
             t->records, seconds, seconds > 0 ? (double)t->records / seconds : 0, t->bytes_in, t->bytes_out, t->failed, t->lost, workers, t->died,
             t->blocks);
}

/* What `parmap run` tells the user on standard error while it runs: a line that is written over and over, or the commands themselves. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/run.h"
#include "cli/words.h"

#define OFTEN_S 0.1       /* on a terminal */
#define SELDOM_S 5.0      /* in a file or a pipe */

static bool wanted(const struct batch *b) { return b->bar || b->eta || b->progress; }

static unsigned terminal_columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void draw_bar(char *text, size_t room, double share, unsigned columns)
{
    size_t used = strlen(text), width = columns > used + 4 ? columns - used - 4 : 10;
    if (used + width + 4 > room) return;
    size_t full = (size_t)(share * (double)width);
    text[used++] = ' ';
    text[used++] = '[';
    for (size_t i = 0; i < width; i++) text[used++] = i < full ? '#' : ' ';
    text[used++] = ']';
    text[used] = 0;
}

/* Output makes the line go, and is not written over when its own last line has no end.  The line is back with the next turn of the loop. */
static void make_way(void *user, bool whole)
{
    struct run *r = user;
    progress_hide(r);
    r->in_line = !whole;
    r->last_shown = 0;
}

void progress_begin(struct run *r)
{
    if (wanted(r->batch) && isatty(STDERR_FILENO)) output_tell(r->output, make_way, r);
}

void progress_show(struct run *r, double now, bool last)
{
    const struct batch *b = r->batch;
    bool terminal = isatty(STDERR_FILENO);
    if (!wanted(b) || (!last && now - r->last_shown < (terminal ? OFTEN_S : SELDOM_S))) return;
    r->last_shown = now;
    char text[1024];
    size_t all = (r->reader || r->blocks) && r->read_all ? r->seq - r->skipped : r->reader ? args_total(r->reader) : 0, failed = r->failed;
    double share = all ? (double)r->done / (double)all : 0;
    int n = all ? snprintf(text, sizeof text, "%zu of %zu done (%.0f %%)", r->done, all, 100 * share)
                : snprintf(text, sizeof text, "%zu done", r->done);
    if (failed) n += snprintf(text + n, sizeof text - (size_t)n, ", %zu failed", failed);
    if (b->progress) n += snprintf(text + n, sizeof text - (size_t)n, ", %zu begun and not ended, %u at once",
                                    r->in_set < r->at_once ? r->in_set : r->at_once, r->at_once);
    if ((b->eta || b->bar) && all && r->done)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %.0f s left", ceil((now - r->begun) / (double)r->done * (double)(all - r->done)));
    if (b->bar && terminal && all) draw_bar(text, sizeof text, share, terminal_columns());
    if (r->in_line) fputc('\n', stderr);
    r->in_line = false;
    fprintf(stderr, terminal ? "\r%s\033[K" : "%s\n", text);
    r->line_shown = terminal;
    if (last && terminal) {
        fputc('\n', stderr);
        r->line_shown = false;
    }
}

void progress_hide(struct run *r)
{
    if (!r->line_shown) return;
    fputs("\r\033[K", stderr);
    r->line_shown = false;
}

static char *shown(const struct run *r, const struct job *job)
{
    char *text = template_show(job->argv, r->shell);
    if (!text) complain("job %zu: not enough memory to show it", job->seq);
    return text;
}

bool progress_can_ask(void)
{
    FILE *terminal = fopen("/dev/tty", "r+e");
    if (!terminal) {
        complain("-p: there is no terminal to ask at: %s", strerror(errno));
        return false;
    }
    (void)fclose(terminal);
    return true;
}

bool progress_ask(struct run *r, const struct job *job)
{
    FILE *terminal = fopen("/dev/tty", "r+e");
    char *text = shown(r, job), answer[64] = "";
    if (terminal && text) {
        progress_hide(r);
        fprintf(terminal, "%s ?...", text);
        (void)fflush(terminal);
        if (!fgets(answer, sizeof answer, terminal)) answer[0] = 0;
    } else if (!terminal) complain("-p: there is no terminal to ask at; job %zu is not run", job->seq);
    free(text);
    if (terminal) (void)fclose(terminal);
    return answer[0] == 'y' || answer[0] == 'Y';
}

void progress_trace(struct run *r, const struct job *job)
{
    char *text = r->batch->trace || r->batch->ask ? shown(r, job) : NULL;
    if (!text) return;
    progress_hide(r);
    if (r->batch->trace) fprintf(stderr, "%s\n", text);
    free(text);
}

int progress_dry(struct run *r, const struct job *job)
{
    char *text = shown(r, job);
    int e = text && puts(text) >= 0 ? 0 : -1;
    if (text && e) complain("standard output: cannot be written");
    free(text);
    return e;
}

/* What `parmap call` says of a record that has failed: where it is, and what became of it.  See call.h. */
#include "cli/call.h"
#include "cli/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void call_report(const struct batch *batch, const struct call_slot *slot, uint64_t before, const struct call_failure *f)
{
    const char *name = strcmp(slot->input->name, "-") ? slot->input->name : "standard input", *signal;
    char where[80], what[200], times[40] = "";

    if (f->number)
        snprintf(where, sizeof where, "%s %" PRIu64 " (byte %" PRIu64 ")", batch->record || batch->csv ? "record" : "line",
                 before + f->number, slot->offset + f->begin);
    else snprintf(where, sizeof where, "the block at byte %" PRIu64, slot->offset + f->begin);
    switch (f->cause) {
    case CALL_CODE: snprintf(what, sizeof what, "failed with %d%s%s", f->value, f->text[0] ? ": " : "", f->text); break;
    case CALL_EXIT: snprintf(what, sizeof what, "its worker exited with status %d", f->value); break;
    case CALL_TIMEOUT: snprintf(what, sizeof what, "took longer than %g s", batch->timeout.value); break;
    case CALL_MEMORY: snprintf(what, sizeof what, "its worker was ended for want of memory"); break;
    case CALL_QUOTE: snprintf(what, sizeof what, "has a quote that nothing closes"); break;
    case CALL_LARGE: snprintf(what, sizeof what, "there is not enough room for its output"); break;
    case CALL_LOST: snprintf(what, sizeof what, "cannot be read, nor what is behind it: SIGBUS"); break;
    case CALL_SIGNAL:
        signal = sigabbrev_np(f->value);
        snprintf(what, sizeof what, "its worker was ended by SIG%s (%s)", signal ? signal : "?", strsignal(f->value));
    }
    if (f->attempts > 1) snprintf(times, sizeof times, ", %u times", f->attempts);
    call_show_hide();
    complain("%s: %s: %s%s", name, where, what, times);
}

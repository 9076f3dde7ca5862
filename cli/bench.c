/* `parmap bench`: opens what it reads and writes, runs the workloads one after the other, and reports.  See bench.h. */
#include "cli/bench.h"
#include "cli/order.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int written(FILE *file, const char *name)
{
    errno = 0;
    if (fflush(file) == 0 && !ferror(file)) return 0;
    complain("%s: cannot be written: %s", name, errno ? strerror(errno) : "an earlier write failed");
    return -1;
}

/* Opened before the first run, so that a wrong name does not cost a benchmark; emptied only when there is something to
 * write. */
static FILE *open_output(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

    if (!file) {
        complain("%s: cannot be written: %s", name, strerror(errno));
        if (fd >= 0) close(fd);
    }
    return file;
}

static int empty_output(FILE *file, const char *name)
{
    struct stat st;

    if (fstat(fileno(file), &st) || !S_ISREG(st.st_mode) || ftruncate(fileno(file), 0) == 0) return 0;
    complain("%s: cannot be emptied: %s", name, strerror(errno));
    return -1;
}

/* Runs and writes.  0, or -1 after a message or a signal. */
static int run_workloads(struct order_of_runs *o, const struct settings *s, FILE *file, const char *name)
{
    static const struct report *const reports[FORMATS] = { &report_table, &report_csv, &report_json };
    static struct result results[WORKLOADS * MOST_RUNNERS];
    const struct report *report = reports[s->format];
    struct machine machine;
    unsigned total = 0;
    bool wrong = false;

    machine_look(&machine);
    for (unsigned i = 0; i < s->nworkloads; i++) {
        unsigned count;

        if (order_workload(o, s->workloads[i], results + total, &count)) return -1;
        if (i == 0) {
            if (file != stdout && empty_output(file, name)) return -1;
            report->begin(file, &machine);
        }
        report->workload(file, &machine, results + total, count, total == 0);
        if (written(file, name)) return -1;
        for (unsigned k = total; k < total + count; k++) {
            if (results[k].correct) continue;
            complain("%s on %s with %u workers: the result is WRONG", results[k].workload, path_names[results[k].path],
                     results[k].workers);
            wrong = true;
        }
        total += count;
    }
    report->end(file);
    if (written(file, name)) return -1;
    if (s->plot && total && plot(s->plot, results, total)) return -1;
    return wrong ? -1 : 0;
}

int bench(const struct settings *s)
{
    const char *name = s->output ? s->output : "standard output";
    FILE *file = stdout;
    struct order_of_runs order;
    struct input input = { 0 };
    int error;

    if (s->plot && plot_check()) return 1;
    if (s->input && input_open(&input, s)) return 1;
    if (s->output) file = open_output(s->output);
    if (!file) {
        input_close(&input);
        return 1;
    }
    error = order_open(&order, s, s->input ? &input : NULL);
    if (!error) {
        error = run_workloads(&order, s, file, name);
        order_close(&order);
    }
    input_close(&input);
    if (file != stdout && fclose(file) && !error) {
        complain("%s: cannot be written: %s", name, strerror(errno));
        error = -1;
    }
    if (order.stopped) return 128 + order.stopped;
    return error ? 1 : 0;
}

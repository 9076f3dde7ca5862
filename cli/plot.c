/* Draws the results with gnuplot: left the stacked cost of each path, right the speed-up by workers; a row per
 * workload. See report.h. Everything goes through gnuplot's standard input, the picture comes from its standard
 * output: no file name and no temporary file has to be quoted or removed. */
#include "cli/report.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Starts gnuplot with these as standard input and output (-1 = /dev/null). */
static int start(pid_t *pid, const char *argument, int in, int out)
{
    char program[] = "gnuplot", word[32];
    char *arguments[] = { program, argument ? word : NULL, NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t pipe_signal;
    int error;

    snprintf(word, sizeof word, "%s", argument ? argument : "");
    posix_spawn_file_actions_init(&files);
    if (in >= 0) posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    else posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (out >= 0) posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    else posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&how);
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    posix_spawnattr_setsigdefault(&how, &pipe_signal);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGDEF);
    error = posix_spawnp(pid, program, &files, &how, arguments, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    if (error == ENOENT) complain("--plot needs gnuplot, which is not installed (Debian's package: gnuplot-nox)");
    else if (error) complain("gnuplot cannot be started: %s", strerror(error));
    return error ? -1 : 0;
}

static int finish(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    if (status == 0) return 0;
    complain("gnuplot failed (%s %d)", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return -1;
}

int plot_check(void)
{
    pid_t pid;

    return start(&pid, "--version", -1, -1) || finish(pid) ? -1 : 0;
}

/* How many results at `r` belong to the same workload. */
static unsigned same_workload(const struct result *r, unsigned left)
{
    unsigned n = 1;

    while (n < left && r[n].workload == r->workload) n++;
    return n;
}

static void data(FILE *to, unsigned index, const struct result *r, unsigned count)
{
    fprintf(to, "$cost%u << EOD\n", index);
    for (unsigned i = 0; i < count; i++)
        fprintf(to, "\"%s %u\" %g %g %g %g %g\n", path_names[r[i].path], r[i].workers, r[i].cost.transfer_in,
                r[i].cost.compute, r[i].cost.transfer_out, r[i].cost.dispatch, r[i].cost.idle);
    fputs("EOD\n", to);
    for (int path = 0; path < PATHS; path++) {
        fprintf(to, "$speed%u_%d << EOD\n", index, path);
        for (unsigned i = 0; i < count; i++)
            if (r[i].path == (enum path)path) fprintf(to, "%u %g\n", r[i].workers, r[i].speedup);
        fputs("EOD\n", to);
    }
}

static void draw(FILE *to, unsigned index, const struct result *r, unsigned count)
{
    static const char *const parts[] = { "transfer in", "compute", "transfer out", "dispatch", "idle" };
    static const char *const colours[] = { "#d95f02", "#1b9e77", "#e6ab02", "#7570b3", "#cccccc" };
    bool first = true;

    fprintf(to,
            "set title '%s: cost over all workers'\nset ylabel 'ms'\nunset xlabel\nset yrange [0:*]\nset xrange [*:*]\n"
            "set style data histograms\nset style histogram rowstacked\nset style fill solid\nset boxwidth 0.7\n"
            "set xtics auto rotate by -45\nset key outside right top vertical\nplot",
            r->workload);
    for (int i = 0; i < 5; i++)
        fprintf(to, "%s $cost%u using %d%s title '%s' lc rgb '%s'", i ? "," : "", index, i + 2, i ? "" : ":xtic(1)",
                parts[i], colours[i]);
    fprintf(to,
            "\nset title '%s: speed-up'\nset ylabel 'times the first path'\nset xlabel 'workers'\n"
            "set xrange [0:*]\nset xtics auto norotate\nplot",
            r->workload);
    for (int path = 0; path < PATHS; path++) {
        bool any = false;

        for (unsigned i = 0; i < count; i++) any = any || r[i].path == (enum path)path;
        if (!any) continue;
        fprintf(to, "%s $speed%u_%d using 1:2:xtic(1) with linespoints pt %d title '%s'", first ? "" : ",", index, path,
                path + 4, path_names[path]);
        first = false;
    }
    fputc('\n', to);
}

static void script(FILE *to, bool svg, const struct result *results, unsigned count)
{
    unsigned rows = 0;

    for (unsigned i = 0, row = 0; i < count; row++) {
        unsigned n = same_workload(results + i, count - i);

        data(to, row, results + i, n);
        i += n;
        rows = row + 1;
    }
    fprintf(to, "set terminal %s size 1100,%u\nset multiplot layout %u,2\n", svg ? "svg" : "png",
            rows * 420, rows);
    for (unsigned i = 0, row = 0; i < count; row++) {
        unsigned n = same_workload(results + i, count - i);

        draw(to, row, results + i, n);
        i += n;
    }
    fputs("unset multiplot\n", to);
}

int plot(const char *file, const struct result *results, unsigned count)
{
    int out = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), ends[2], failed;
    pid_t pid;
    FILE *to;

    if (out < 0) {
        complain("%s: cannot be written: %s", file, strerror(errno));
        return -1;
    }
    if (pipe2(ends, O_CLOEXEC)) {
        complain("pipe: %s", strerror(errno));
        close(out);
        return -1;
    }
    failed = start(&pid, NULL, ends[0], out);
    close(ends[0]);
    close(out);
    to = failed ? NULL : fdopen(ends[1], "w");
    if (to) {
        script(to, strcmp(file + strlen(file) - 4, ".svg") == 0, results, count);
        fclose(to); /* if gnuplot left early, its status says so */
    } else {
        close(ends[1]);
    }
    if (failed) unlink(file);
    return failed || finish(pid) ? -1 : 0;
}

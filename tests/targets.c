/* targets: what pmap costs beside what a careful programmer would write by hand, as ratios taken in one run.  Run by
 * `make targets`; not a test: figures of a busy machine mean little, so a missed target is printed and does not fail,
 * while a wrong result does.
 *
 * How it is fair.  Each side (pmap or a peer) lives in a process of its own, forked by this one, which runs nothing
 * itself: libgomp's threads spin on after a region, and would take CPU from whatever is timed next.  The sides of a
 * group are warmed up, then run in turn, run by run, in alternating order; before each run this process waits until
 * every thread of every side sleeps.  Where memory's place matters the sides are replaced every few runs.  A ratio is
 * the median of the ratios of neighbouring runs, so that a machine that slows down for a while is unfair to nobody.
 *
 * This file has the parent, its table of rows, and the loop of a side's process; targets_peers.h says where the sides
 * are. */
#include "tests/targets_peers.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIDES 5
#define ROWS 5
#define MOST_RUNS 101
#define QUIET_NS 2e9     /* how long to wait for silence; then the run is made all the same, and counted */
#define ANSWER_MS 60000  /* a side that says nothing for so long is broken */

enum unit { NS, US, MS, GBS, MIB };

/* ratio = left / right, which must be <= target, or >= with at_least.  Left is pmap, except where >= is wanted. */
struct row {
    const char *what;
    int left, right;     /* sides of the group; right < 0: the value itself is held against the target */
    enum unit unit;
    bool at_least;
    double target;       /* 0 = none */
};

struct group {
    const char *name;
    int runs;            /* unless --runs says fewer */
    int warm;
    int fresh;           /* after so many runs each side begins anew: where its pages lie makes some per cent, and stays; 0 = never */
    const struct side *side[SIDES];
    struct row row[ROWS];
};

static const struct group groups[] = {
    {"sum", 60, 3, 3, {&sum_pmap, &sum_openmp, &sum_huge_openmp},
     {{"100 MiB in the arena, warm / OpenMP, pages alike", 0, 1, MS, false, 1.05},
      {"the same / OpenMP on private huge pages", 0, 2, MS, false, 0}}},
    {"fresh", 9, 1, 0, {&fresh_pmap, &fresh_openmp, &fresh_small_pmap, &fresh_small_openmp},
     {{"100 MiB just written, first map / OpenMP", 0, 1, MS, false, 1.3},
      {"the same, no huge pages / OpenMP", 2, 3, MS, false, 1.3}}},
    {"actions", 9, 1, 0, {&actions_pmap, &actions_openmp, &actions_serial},
     {{"4e8 actions / OpenMP static", 0, 1, MS, false, 1.03},
      {"speed-up: serial / pmap", 2, 0, MS, true, 1.95},
      {"speed-up: serial / OpenMP", 2, 1, MS, true, 1.95}}},
    {"empty", 9, 1, 0, {&empty_pmap, &empty_openmp},
     {{"4e6 items, chunk 1 / OpenMP dynamic,1 (an item)", 0, 1, NS, false, 1.0}}},
    {"wake", 9, 1, 0, {&wake_pmap, &futex_pinned, &spin_pmap, &spin_raw, &futex_raw},
     {{"smallest map, workers asleep / futex, two CPUs", 0, 1, US, false, 2},
      {"the same / futex, wherever the kernel puts them", 0, 4, US, false, 0},
      {"smallest map, 1 spinning / spin round trip", 2, 3, NS, false, 4}}},
    {"future", 9, 1, 0, {&future_pmap, &futex_pinned, &future_spin_pmap, &spin_raw, &futex_raw},
     {{"submit + get, workers asleep / futex, two CPUs", 0, 1, US, false, 1.6},
      {"the same / futex, wherever the kernel puts them", 0, 4, US, false, 0},
      {"submit + get, 1 spinning / spin round trip", 2, 3, NS, false, 6}}},
    {"private", 11, 2, 0, {&private_pmap, &memcpy_raw, &python_numpy},
     {{"sum of 100 MiB of private memory / memcpy", 0, 1, MS, false, 1.6},
      {"Python Pool.map(numpy.sum) / memcpy", 2, 1, MS, false, 0}}},
    {"zmq", 9, 1, 0, {&zmq_raw, &zmq_pmap}, {{"256 frames of 1 MiB: time of libzmq / of pmap", 0, 1, MS, true, 0.8}}},
    {"queue", 11, 2, 0, {&memcpy_raw, &queue_pmap, &queue_small_pmap},
     {{"100 MiB in 64 KiB messages: memcpy / queue", 0, 1, MS, true, 0.5},
      {"an 8-byte message, 1 producer, 1 consumer", 2, -1, NS, false, 0}}},
    {"open", 45, 1, 0, {&open_pmap, &fork_two},
     {{"open and close a pool of 2 / fork, exit, wait of 2", 0, 1, US, false, 3}}},
    {"kill", 3, 1, 0, {&kill_pmap, &quiet_pmap}, {{"10 us items, a SIGKILL every 5 ms / quiet", 0, 1, MS, false, 1.5}}},
    {"timeout", 3, 0, 0, {&timeout_pmap}, {{"1000 endless items, a time-out of 10 ms each", 0, -1, MS, false, 1.2 * TIMEOUTS_MS}}},
    {"life", 5, 1, 0, {&recycle_pmap, &fork_one},
     {{"a new worker for every item (an item)", 0, -1, US, false, 1000},
      {"the same / fork, exit, wait of 1 process", 0, 1, US, false, 0}}},
    {"memory", 3, 0, 0, {&words_pmap, &worker_memory_pmap},
     {{"1e9 items: pages of the arena", 0, -1, MIB, false, 16},
      {"1e9 items: private memory of a worker", 1, -1, MIB, false, 1}}},
    {"many", 3, 1, 0, {&many_pmap, &few_pmap, &many_empty_pmap, &few_empty_pmap},
     {{"1e5 items of 10 us: 1000 workers / 2", 0, 1, MS, false, 2},
      {"1e5 empty items, chunk 1: 1000 workers / 2", 2, 3, MS, false, 2}}},
    {"command", 9, 1, 0, {&command_pmap, &command_spawn, &commands_pmap, &commands_spawn, &commands_alone},
     {{"start and wait of true from 1 GiB / posix_spawn", 0, 1, US, false, 1.1},
      {"2 posix_spawn threads / pmap_commands, 2 spawners", 3, 2, US, true, 0.9},
      {"the same / pmap_commands without a spawner", 3, 4, US, true, 0}}},
    {"stream", 7, 1, 0, {&imap_pmap, &imap_unordered_pmap, &imap_python},
     {{"empty tasks, chunk 1: Python's imap_unordered / pmap", 2, 0, NS, true, 20},
      {"the same / pmap_imap_unordered", 2, 1, NS, true, 20}}},
    {"limits", 7, 1, 0, {&memcpy_raw, &read_one, &fork_one, &futex_raw, &futex_pinned},
     {{"memcpy of 100 MiB, one thread", 0, -1, GBS, false, 0}, {"reading 100 MiB, one thread", 1, -1, GBS, false, 0},
      {"fork, exit, wait of 1 process", 2, -1, US, false, 0}, {"futex round trip", 3, -1, US, false, 0},
      {"futex round trip, each on a CPU of its own", 4, -1, US, false, 0}}},
};
#define GROUPS (sizeof groups / sizeof *groups)

/* ---- A side's process ---- */

enum kind { READY, VALUE, CANNOT, FAILED };

struct answer {
    enum kind kind;
    double value;
    char text[240];
};

static int parent_fd = -1; /* in a side: to the parent */

static void answer(enum kind kind, double value, const char *text)
{
    struct answer a;
    memset(&a, 0, sizeof a); /* also what lies between the members */
    a.kind = kind;
    a.value = value;
    snprintf(a.text, sizeof a.text, "%s", text ? text : "");
    if (send(parent_fd, &a, sizeof a, MSG_NOSIGNAL) != (ssize_t)sizeof a) _exit(1);
}

_Noreturn void side_fail(const char *format, ...)
{
    char text[240];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    answer(FAILED, 0, text);
    _exit(1); /* a pool's supervisor sees that and takes its workers along */
}

static _Noreturn void live(const struct side *side, int fd, pid_t parent)
{
    char order;
    parent_fd = fd;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* the parent has one thread, to which this is bound */
    if (getppid() != parent) _exit(1);
    (void)setsid(); /* by the session the parent knows whatever a side starts */
    const char *cannot = side->setup ? side->setup(side) : NULL;
    answer(cannot ? CANNOT : READY, 0, cannot);
    while (recv(fd, &order, 1, 0) == 1) {
        double value = side->run(side);
        answer(VALUE, value, side->note ? side->note() : NULL);
    }
    side_end();
    queue_end();
    _exit(0); /* not exit(): what is in stdio's buffers is the parent's to write */
}

/* ---- The parent's view of its sides ---- */

struct child {
    const struct side *side;
    pid_t pid;           /* also its session; 0 = none */
    int fd;
    bool cannot;
    char text[240];      /* why not, or the last remark */
    double value[MOST_RUNS];
};

static struct child children[SIDES];
static unsigned noisy, all_runs;

static _Noreturn void die(const char *what, const char *why)
{
    fflush(stdout);
    fprintf(stderr, "targets: %s: %s\n", what, why);
    exit(1); /* the sides end with us */
}

static void hear(struct child *c, const char *group, struct answer *a)
{
    struct pollfd p = {c->fd, POLLIN, 0};
    int got = poll(&p, 1, ANSWER_MS);
    if (got == 0) die(group, "a side has not answered for a minute");
    if (got < 0 || recv(c->fd, a, sizeof *a, 0) != (ssize_t)sizeof *a) die(group, "a side ended without an answer");
    if (a->kind == FAILED) die(group, a->text);
    snprintf(c->text, sizeof c->text, "%s", a->text);
}

static void start(struct child *c, const struct side *side, const char *group)
{
    int pair[2];
    pid_t self = getpid();
    struct answer a;
    fflush(stdout);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) die(group, strerror(errno));
    pid_t pid = fork();
    if (pid < 0) die(group, strerror(errno));
    if (pid == 0) {
        for (int i = 0; i < SIDES; i++)
            if (children[i].pid) close(children[i].fd); /* else that one would not see the end of file */
        close(pair[0]);
        live(side, pair[1], self);
    }
    close(pair[1]);
    c->side = side, c->pid = pid, c->fd = pair[0]; /* the values of earlier lives stay */
    hear(c, group, &a);
    c->cannot = a.kind == CANNOT;
}

static void stop(struct child *c)
{
    close(c->fd);
    double end = now_ns() + 2e10;
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == 0 && now_ns() < end)
        (void)poll(NULL, 0, 1);
    if (info.si_pid == 0) (void)kill(c->pid, SIGKILL);
    (void)waitpid(c->pid, NULL, 0);
    c->pid = 0;
    if (info.si_pid == 0) die("the end", "a side did not end within 20 s and was killed");
}

/* ---- Silence ---- */

/* State and session of a stat file; false when that process or thread has gone meanwhile. */
static bool read_stat(const char *path, char *state, int *session)
{
    char line[512];
    FILE *file = fopen(path, "re");
    size_t got = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) fclose(file);
    line[got] = 0;
    const char *after = strrchr(line, ')'); /* the name before it may hold anything */
    return after && sscanf(after + 1, " %c %*d %*d %d", state, session) == 2;
}

static bool threads_sleep(const char *pid)
{
    char path[300], state;
    int session;
    bool sleep = true;
    snprintf(path, sizeof path, "/proc/%.20s/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e; tasks && sleep && (e = readdir(tasks));) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%.20s/task/%.20s/stat", pid, e->d_name);
        if (read_stat(path, &state, &session)) sleep = strchr("STtZX", state) != NULL;
    }
    if (tasks) closedir(tasks);
    return sleep;
}

static bool all_sleep(void)
{
    bool sleep = true;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && sleep && (e = readdir(proc));) {
        char path[300], state;
        int session;
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        if (!read_stat(path, &state, &session)) continue;
        for (int i = 0; i < SIDES; i++)
            if (children[i].pid == session && children[i].pid) sleep = threads_sleep(e->d_name);
    }
    if (proc) closedir(proc);
    return sleep;
}

static void silence(void)
{
    double end = now_ns() + QUIET_NS;
    while (!all_sleep()) {
        if (now_ns() > end) {
            noisy++;
            return;
        }
        (void)poll(NULL, 0, 1);
    }
}

static double run(struct child *c, const char *group)
{
    struct answer a;
    silence();
    all_runs++;
    if (send(c->fd, "r", 1, MSG_NOSIGNAL) != 1) die(group, "a side has ended");
    hear(c, group, &a);
    return a.value;
}

/* ---- Printing ---- */

static unsigned met, missed;

static double in_unit(double x, enum unit unit)
{
    static const double scale[] = {1, 1e-3, 1e-6, 0, 1 / 1048576.0};
    return unit == GBS ? (double)SUM_BYTES / x : x * scale[unit];
}

static void show_value(double x, enum unit unit)
{
    static const char *const names[] = {"ns", "us", "ms", "GB/s", "MiB"};
    printf(" %9.2f %-4s", in_unit(x, unit), names[unit]);
}

static void show(const struct group *g, const struct row *row, int runs)
{
    struct child *left = &children[row->left], *right = row->right < 0 ? NULL : &children[row->right];
    double ratio[MOST_RUNS], copy[MOST_RUNS], value;
    printf("%-8s %-52s", g->name, row->what);
    if (left->cannot || (right && right->cannot)) {
        printf(" %s\n", left->cannot ? left->text : right->text);
        return;
    }
    memcpy(copy, left->value, sizeof copy);
    value = median(copy, (size_t)runs); /* sorts: the last is the worst */
    if (row->unit == MIB) value = copy[runs - 1];
    show_value(value, row->unit);
    if (right) {
        for (int i = 0; i < runs; i++) ratio[i] = left->value[i] / right->value[i];
        memcpy(copy, right->value, sizeof copy);
        show_value(median(copy, (size_t)runs), row->unit);
        value = median(ratio, (size_t)runs);
        printf(" %7.3f", value);
    } else {
        printf(" %14s %7s", "", "");
        value = in_unit(value, row->unit);
    }
    if (row->target > 0) {
        bool good = row->at_least ? value >= row->target : value <= row->target;
        printf("  %s %-5g %s", row->at_least ? ">=" : "<=", row->target, good ? "met" : "MISSED");
        good ? met++ : missed++;
    }
    if (left->text[0]) printf("  (%s)", left->text);
    putchar('\n');
}

static void measure(const struct group *g, int runs)
{
    int n = 0;
    if (runs <= 0 || (runs > g->runs && g->runs <= 3)) runs = g->runs;
    while (n < SIDES && g->side[n]) n++;
    for (int from = 0, to, life = 0; from < runs; from = to, life++) {
        to = g->fresh && from + g->fresh < runs ? from + g->fresh : runs;
        for (int j = 0; j < n; j++) { /* in turn too, because the kernel gives away again what it got back last */
            int i = life & 1 ? n - 1 - j : j;
            start(&children[i], g->side[i], g->name);
        }
        for (int k = from - g->warm; k < to; k++)
            for (int j = 0; j < n; j++) {
                struct child *c = &children[k & 1 ? n - 1 - j : j];
                if (c->cannot) continue;
                double value = run(c, g->name);
                if (k >= from) c->value[k] = value;
            }
        for (int i = 0; i < n; i++) stop(&children[i]);
    }
    for (int r = 0; r < ROWS && g->row[r].what; r++) show(g, &g->row[r], runs);
    fflush(stdout);
}

static void help(FILE *to)
{
    fputs("usage: targets [--runs N] [NAME...]\n"
          "Measures pmap against hand-written peers, interleaved run by run, and prints for each target: both\n"
          "medians, the median of the pairwise ratios, the target, and whether it is met.\n"
          "Exit code 0 unless a result was wrong (1); a missed target is no error.\n"
          "  --runs N   timed runs of each side, 1 to 101 (default 3 to 60; the slow groups make at most 3)\n"
          "Groups of targets:",
          to);
    for (size_t i = 0; i < GROUPS; i++) fprintf(to, " %s", groups[i].name);
    fputs("\nThe last group has no targets: it says what this machine can do.\n"
          "Two workers on two idle CPUs are meant: anything else that runs meanwhile shows in the figures.\n", to);
}

static int usage(const char *word)
{
    fprintf(stderr, "targets: what is \"%s\"?\n", word);
    help(stderr);
    return 2;
}

int main(int argc, char **argv)
{
    bool wanted[GROUPS] = {false}, any = false;
    int runs = 0;
    for (int a = 1; a < argc; a++) {
        size_t g = 0;
        if (!strcmp(argv[a], "--help") || !strcmp(argv[a], "-h")) {
            help(stdout);
            return 0;
        }
        if (!strcmp(argv[a], "--runs")) {
            runs = a + 1 < argc ? atoi(argv[++a]) : 0;
            if (runs < 1 || runs > MOST_RUNS) return usage("--runs without a number from 1 to 101");
            continue;
        }
        while (g < GROUPS && strcmp(groups[g].name, argv[a]) != 0) g++;
        if (g == GROUPS) return usage(argv[a]);
        wanted[g] = any = true;
    }
    calibrate();
    printf("pmap %s, %u CPUs, %d workers. Left and right are medians; a ratio is the median of those run by run.\n\n",
           pmap_version(), pmap_cpus(), WORKERS);
    printf("%-8s %-52s %14s %14s %7s  %-8s\n", "group", "target", "left", "right", "ratio", "target");
    for (size_t g = 0; g < GROUPS; g++)
        if (!any || wanted[g]) measure(&groups[g], runs);
    printf("\n%u targets met, %u missed; %u of %u runs began while something of ours was not asleep.\n", met, missed,
           noisy, all_runs);
    if (pmap_cpus() < WORKERS) puts("This process may use one CPU only: the targets are meant for two.");
    return 0;
}

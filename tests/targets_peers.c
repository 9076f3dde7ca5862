/* The raw peers of `targets`, and the kernels that both sides run.  A peer is what a careful programmer writes with
 * OpenMP, futexes or fork alone, without any of pmap's guarantees: as quick as it gets.  Must not use pmap. */
#include "tests/targets_peers.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <omp.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS 1024u /* as pmap_reduce cuts its input */
#define HUGE_PAGE ((size_t)2 << 20)

/* ---- Kernels ---- */

/* Eight sums, so that the additions do not wait for each other and memory is the limit. */
__attribute__((noinline)) double sum_block(const double *x, size_t n)
{
    double s[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) s[k] += x[i + k];
    for (; i < n; i++) s[0] += x[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static double element(size_t i) { return (double)(i % 1000) * 0.25; }

void fill(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = element(i);
}

double filled_sum(size_t n)
{
    double whole = 0, rest = 0;
    for (size_t i = 0; i < 1000; i++) whole += element(i);
    for (size_t i = 0; i < n % 1000; i++) rest += element(i);
    return whole * (double)(n / 1000) + rest;
}

/* The compiler must believe that each action matters. */
__attribute__((noinline)) void actions(uint64_t first, uint64_t last)
{
    for (uint64_t x = first; x < last; x++) __asm__ volatile("" : "+r"(x));
}

__attribute__((noinline)) int nothing(pmap_task *task, size_t first, size_t last)
{
    (void)task, (void)first, (void)last;
    return 0;
}

uint64_t ten_us = 20000;

/* By counted actions and not by the clock: a worker that loses its CPU must not get its work done by that. */
void calibrate(void)
{
    const uint64_t n = 10000000;
    double best = 1e18;
    for (int i = 0; i < 7; i++) {
        double t = now_ns();
        actions(0, n);
        t = now_ns() - t;
        if (t < best) best = t;
    }
    ten_us = (uint64_t)((double)n * 1e4 / best) + 1;
}

/* ---- Measuring ---- */

double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

double batches(unsigned each, void (*once)(void))
{
    double mean[TIMED_BATCHES];
    for (unsigned b = 0; b < TIMED_BATCHES; b++) {
        double t = now_ns();
        for (unsigned i = 0; i < each; i++) once();
        mean[b] = (now_ns() - t) / each;
    }
    return median(mean, TIMED_BATCHES);
}

double *huge_new(size_t bytes, int huge)
{
    double *x = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (!x) side_fail("no memory for %zu bytes", bytes);
    /* Where the kernel has no huge pages both sides do without. */
    (void)madvise(x, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return x;
}

double *frames_new(void)
{
    double *frames = huge_new(FRAMES * FRAME, 1);
    for (size_t f = 0; f < FRAMES; f++)
        for (size_t i = 0; i < FRAME / sizeof *frames; i++) frames[f * (FRAME / sizeof *frames) + i] = (double)(f + 1);
    return frames;
}

/* ---- OpenMP ---- */

static double *data;

static double openmp_sum(const double *x)
{
    double total = 0;
    size_t unit = SUM_ITEMS / BLOCKS;
    double t = now_ns();
#pragma omp parallel for reduction(+ : total) schedule(static) num_threads(WORKERS)
    for (size_t b = 0; b < BLOCKS; b++) total += sum_block(x + b * unit, unit);
    t = now_ns() - t;
    if (total != filled_sum(SUM_ITEMS)) side_fail("OpenMP sum: %.17g instead of %.17g", total, filled_sum(SUM_ITEMS));
    return t;
}

/* Does shared memory get huge pages here?  Then both sides have them, else neither: the page size is the machine's business.  What
 * private huge pages would give is a row of its own. */
static int shared_huge(void)
{
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    if (!f) return 0;
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    fclose(f);
    return strstr(line, "[advise]") || strstr(line, "[always]") || strstr(line, "[within_size]") || strstr(line, "[force]");
}

static const char *openmp_data(const struct side *side)
{
    data = huge_new(SUM_BYTES, side->huge_pages || shared_huge());
    fill(data, SUM_ITEMS);
    return NULL;
}

static double openmp_sum_run(const struct side *side)
{
    (void)side;
    return openmp_sum(data);
}

static double openmp_fresh_run(const struct side *side)
{
    double *x = huge_new(SUM_BYTES, !side->no_huge_pages); /* so large that free() unmaps it: it is new each time */
    fill(x, SUM_ITEMS);
    double t = openmp_sum(x);
    free(x);
    return t;
}

static double openmp_actions_run(const struct side *side)
{
    uint64_t done = 0, each = ACTIONS / WORKERS;
    (void)side;
    double t = now_ns();
#pragma omp parallel for reduction(+ : done) schedule(static) num_threads(WORKERS)
    for (uint64_t w = 0; w < WORKERS; w++) {
        actions(w * each, (w + 1) * each);
        done += each;
    }
    t = now_ns() - t;
    if (done != ACTIONS) side_fail("OpenMP actions: %llu done", (unsigned long long)done);
    return t;
}

static double serial_actions_run(const struct side *side)
{
    (void)side;
    double t = now_ns();
    actions(0, ACTIONS);
    return now_ns() - t;
}

static double openmp_empty_run(const struct side *side)
{
    pmap_range_fn *function = nothing;
    (void)side;
    __asm__("" : "+r"(function)); /* a pointer, as pmap has it: nothing is known about the function */
    double t = now_ns();
#pragma omp parallel for schedule(dynamic, 1) num_threads(WORKERS)
    for (size_t i = 0; i < EMPTY_ITEMS; i++) (void)function(NULL, i, i + 1);
    return (now_ns() - t) / EMPTY_ITEMS;
}

const struct side sum_openmp = {.setup = openmp_data, .run = openmp_sum_run};
const struct side sum_huge_openmp = {.setup = openmp_data, .run = openmp_sum_run, .huge_pages = 1};
const struct side fresh_openmp = {.run = openmp_fresh_run};
const struct side fresh_small_openmp = {.run = openmp_fresh_run, .no_huge_pages = 1};
const struct side actions_openmp = {.run = openmp_actions_run};
const struct side actions_serial = {.run = serial_actions_run};
const struct side empty_openmp = {.run = openmp_empty_run};

/* ---- Two processes and one word ---- */

static struct court {
    alignas(128) _Atomic uint32_t ball;
    alignas(128) _Atomic uint32_t back;
    alignas(128) _Atomic uint32_t go; /* the spinning partner sleeps here between two runs */
} *court;

#define END UINT32_MAX

static void sleep_on(_Atomic uint32_t *word, uint32_t expected)
{
    (void)syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT, expected, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word) { (void)syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, 1, NULL, NULL, 0); }

static void futex_partner(void)
{
    for (;;) {
        while (atomic_load(&court->ball) != 1) sleep_on(&court->ball, 0);
        atomic_store(&court->ball, 0);
        wake(&court->ball);
    }
}

static void futex_once(void)
{
    atomic_store(&court->ball, 1);
    wake(&court->ball);
    while (atomic_load(&court->ball) != 0) sleep_on(&court->ball, 1);
}

static void spin_partner(void)
{
    for (uint32_t seen = 0, last = 0;;) {
        while (atomic_load(&court->go) == seen) sleep_on(&court->go, seen);
        seen = atomic_load(&court->go);
        for (uint32_t ball; (ball = atomic_load_explicit(&court->ball, memory_order_acquire)) != END;) {
            if (ball == last) continue;
            last = ball;
            atomic_store_explicit(&court->back, ball, memory_order_release);
        }
    }
}

static uint32_t served;

static void spin_once(void)
{
    atomic_store_explicit(&court->ball, ++served, memory_order_release);
    while (atomic_load_explicit(&court->back, memory_order_acquire) != served) {
    }
}

void partner_new(void (*body)(void))
{
    pid_t parent = getpid();
    court = mmap(NULL, sizeof *court, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (court == MAP_FAILED) side_fail("mmap: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0) side_fail("fork: %s", strerror(errno));
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        body();
        _exit(0);
    }
}

/* A CPU of its own for each of two processes: else the kernel may put both on one, which is quicker. */
static void pin(int second)
{
    cpu_set_t mine, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof mine, &mine)) return;
    int seen = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mine) && seen++ == second) CPU_SET(cpu, &one);
    if (CPU_COUNT(&one)) (void)sched_setaffinity(0, sizeof one, &one);
}

static void pinned_partner(void)
{
    pin(1);
    futex_partner();
}

static const char *futex_setup(const struct side *side)
{
    partner_new(side->pinned ? pinned_partner : futex_partner);
    if (side->pinned) pin(0);
    return NULL;
}

static double futex_run(const struct side *side)
{
    (void)side;
    return batches(200, futex_once);
}

static const char *spin_setup(const struct side *side)
{
    (void)side;
    partner_new(spin_partner);
    return NULL;
}

static double spin_run(const struct side *side)
{
    (void)side;
    atomic_store(&court->ball, served); /* instead of the END of the run before */
    atomic_fetch_add(&court->go, 1);
    wake(&court->go);
    double t = batches(5000, spin_once);
    atomic_store(&court->ball, END);
    return t;
}

const struct side futex_raw = {.setup = futex_setup, .run = futex_run};
const struct side futex_pinned = {.setup = futex_setup, .run = futex_run, .pinned = 1};
const struct side spin_raw = {.setup = spin_setup, .run = spin_run};

/* ---- Copying, reading, forking ---- */

static double *copy;

/* The source as the application of private_pmap has it, the target as good as memory gets. */
static const char *memcpy_setup(const struct side *side)
{
    (void)side;
    data = malloc(SUM_BYTES);
    copy = huge_new(SUM_BYTES, 1);
    if (!data) return "no memory";
    fill(data, SUM_ITEMS);
    memcpy(copy, data, SUM_BYTES);
    return NULL;
}

static double memcpy_run(const struct side *side)
{
    (void)side;
    double t = now_ns();
    memcpy(copy, data, SUM_BYTES);
    __asm__ volatile("" : : "r"(copy) : "memory");
    t = now_ns() - t;
    if (copy[SUM_ITEMS - 1] != data[SUM_ITEMS - 1]) side_fail("memcpy did not copy");
    return t;
}

static double read_run(const struct side *side)
{
    (void)side;
    double t = now_ns(), sum = sum_block(data, SUM_ITEMS);
    t = now_ns() - t;
    if (sum != filled_sum(SUM_ITEMS)) side_fail("serial sum: %.17g", sum);
    return t;
}

static void fork_some(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(0);
        if (pid < 0) side_fail("fork: %s", strerror(errno));
    }
    for (unsigned i = 0; i < n; i++)
        if (waitpid(-1, NULL, 0) < 0) side_fail("waitpid: %s", strerror(errno));
}

static void fork_one_once(void) { fork_some(1); }
static void fork_two_once(void) { fork_some(2); }

static double fork_run(const struct side *side)
{
    return batches(2, side->workers == 1 ? fork_one_once : fork_two_once);
}

const struct side memcpy_raw = {.setup = memcpy_setup, .run = memcpy_run};
const struct side read_one = {.setup = openmp_data, .run = read_run};
const struct side fork_one = {.run = fork_run, .workers = 1};
const struct side fork_two = {.run = fork_run, .workers = 2};

/* ---- Python ---- */

static const char *python_setup(const struct side *side)
{
    (void)side;
    return system("python3 -c 'import numpy' >/dev/null 2>&1") == 0 ? NULL : "not installed (python3 with numpy)";
}

static double python_run(const struct side *side)
{
    static const char script[] =
        "python3 -c \"\n"
        "import numpy, time\n"
        "from multiprocessing import Pool\n"
        "x = (numpy.arange(13107200) % 1000) * 0.25\n"
        "with Pool(2) as pool:\n"
        "    parts = numpy.array_split(x, 8)\n"
        "    pool.map(numpy.sum, parts[:2])\n"
        "    t = time.perf_counter_ns()\n"
        "    s = sum(pool.map(numpy.sum, parts))\n"
        "    print(time.perf_counter_ns() - t, float(s))\n\"";
    double ns, sum;
    (void)side;
    FILE *out = popen(script, "re");
    int got = out ? fscanf(out, "%lf %lf", &ns, &sum) : 0;
    if (out) pclose(out);
    if (got != 2 || sum != filled_sum(SUM_ITEMS)) side_fail("python3 gave no sum, or a wrong one");
    return ns;
}

const struct side python_numpy = {.setup = python_setup, .run = python_run};

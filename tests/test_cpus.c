/* workers/cpus.h: quotas of cgroups v1 and v2, read from a tree of files made here. */
#include "workers/cpus.h"
#include "tests/harness.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[256], groups[300];

static void put(const char *path, const char *text) /* below root; makes the folders */
{
    char full[600];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        (void)mkdir(full, 0700);
        *p = '/';
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void begin(const char *name, const char *self_cgroup)
{
    snprintf(root, sizeof root, "%s/%s", getenv("TMPDIR"), name);
    assert_int_equal(mkdir(root, 0700), 0);
    put("/self", self_cgroup);
    snprintf(groups, sizeof groups, "%s/self", root);
}

static int remove_all(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void expect(double quota)
{
    double found = pm_cpus_quota(root, groups);
    if (found < quota - 1e-9 || found > quota + 1e-9) fail_msg("a quota of %g, not %g", found, quota);
}

static void no_files_no_limit(void **state)
{
    (void)state;
    begin("none", "0::/a/b\n");
    expect(0);
    snprintf(groups, sizeof groups, "%s/not-there", root);
    expect(0);
}

static void version_2(void **state)
{
    (void)state;
    begin("two", "0::/slice/job\n");
    put("/sys/fs/cgroup/slice/job/cpu.max", "max 100000\n");
    expect(0);
    put("/sys/fs/cgroup/slice/job/cpu.max", "150000 100000\n");
    expect(1.5);
    put("/sys/fs/cgroup/slice/cpu.max", "300000 100000\n"); /* more above does not help */
    expect(1.5);
    put("/sys/fs/cgroup/slice/cpu.max", "20000 100000\n"); /* less above does hurt */
    expect(0.2);
    put("/sys/fs/cgroup/slice/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/cpu.max", "120000 100000\n"); /* a container's own root may have one */
    expect(1.2);
}

static void version_2_at_the_root(void **state)
{
    (void)state;
    begin("root", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "250000 100000\n");
    expect(2.5);
}

static void version_1(void **state)
{
    (void)state;
    begin("one", "11:memory:/m\n4:cpu,cpuacct:/docker/x\n3:cpuset:/docker/x\n0::/ignored\n");
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n");
    expect(0);
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "50000\n");
    expect(0.5);
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "25000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    expect(0.25);
}

static void cpuset_is_not_cpu(void **state)
{
    (void)state;
    begin("set", "3:cpuset,cpuacct:/x\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    expect(0);
}

/* Both at once: the smaller. */
static void hybrid(void **state)
{
    (void)state;
    begin("both", "5:cpuacct,cpu:/x\n0::/y\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/y/cpu.max", "200000 100000\n");
    expect(2);
    put("/sys/fs/cgroup/y/cpu.max", "400000 100000\n");
    expect(3);
}

static void nonsense_is_no_limit(void **state)
{
    (void)state;
    begin("bad", "\nx\n:\n::\n0:\n0::/a\n");
    static const char *const texts[] = {"", "\n", "150000", "150000 0\n", "-5 100000\n", "many 100000\n", "0 100000\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put("/sys/fs/cgroup/a/cpu.max", texts[i]);
        expect(0);
    }
}

static void very_long_paths(void **state)
{
    (void)state;
    char line[5000];
    memset(line, 'a', sizeof line);
    memcpy(line, "0::/", 4);
    for (size_t i = 20; i < sizeof line; i += 20) line[i] = '/';
    line[sizeof line - 2] = '\n';
    line[sizeof line - 1] = 0;
    begin("long", line);
    put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    double quota = pm_cpus_quota(root, groups);
    assert_true(quota >= 0 && quota < 2); /* whatever it makes of that, it comes back */
}

static void affinity_counts(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(pm_cpus_read().affinity, CPU_COUNT(&before));
    assert_true(pm_cpus() >= 1 && pm_cpus() <= (unsigned)CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned found = pm_cpus();
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(found, 1);
}

#define IN_A_TREE(test) cmocka_unit_test_teardown(test, remove_all)
static const struct CMUnitTest tests[] = {
    IN_A_TREE(no_files_no_limit), IN_A_TREE(version_2), IN_A_TREE(version_2_at_the_root), IN_A_TREE(version_1),
    IN_A_TREE(cpuset_is_not_cpu), IN_A_TREE(hybrid), IN_A_TREE(nonsense_is_no_limit), IN_A_TREE(very_long_paths),
    cmocka_unit_test(affinity_counts),
};

int main(void) { return PM_TEST_MAIN("cpus", tests); }

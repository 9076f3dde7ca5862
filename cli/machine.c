/* Looks at the machine.  See machine.h. */
#include "cli/machine.h"

#include <pmap/pmap.h>

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* The first "model name" of /proc/cpuinfo; not every architecture has one. */
static int cpu_name(char *name, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    int found = 0;

    while (file && !found && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(name, bytes, "%s", value);
        found = 1;
    }
    if (file) fclose(file);
    return found;
}

void machine_look(struct machine *m)
{
    struct utsname name;

    if (uname(&name)) memset(&name, 0, sizeof name);
    m->cpus = pmap_cpus();
    if (!cpu_name(m->cpu, sizeof m->cpu)) snprintf(m->cpu, sizeof m->cpu, "%s", name.machine);
    snprintf(m->kernel, sizeof m->kernel, "%.40s %.80s", name.sysname, name.release);
#if defined(__clang__)
    snprintf(m->compiler, sizeof m->compiler, "clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
    snprintf(m->compiler, sizeof m->compiler, "gcc %d.%d.%d", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

/* Walks /proc for the descendants of a process. See family.h. A list of children per process would be quicker to read,
 * but not every kernel has it; field 4 of stat has always been there. */
#include "cli/family.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct member {
    pid_t pid, parent;
    bool below;
};

/* State and parent from a stat file; false when the process has gone meanwhile. */
static bool read_stat(const char *path, char *state, pid_t *parent)
{
    char line[512];
    FILE *file = fopen(path, "re");
    size_t got = file ? fread(line, 1, sizeof line - 1, file) : 0;
    const char *after;
    int ppid;

    if (file) fclose(file);
    line[got] = '\0';
    after = strrchr(line, ')'); /* the name before it may hold anything, blanks and brackets too */
    if (!after || sscanf(after + 1, " %c %d", state, &ppid) != 2) return false;
    *parent = ppid;
    return true;
}

/* All processes, those below root marked; NULL without memory or /proc. */
static struct member *members(pid_t root, size_t *count)
{
    DIR *proc = opendir("/proc");
    struct member *list = NULL;
    size_t n = 0, room = 0;
    bool more = true;

    for (struct dirent *e; proc && (e = readdir(proc));) {
        char path[300], state;
        struct member m = { (pid_t)strtol(e->d_name, NULL, 10), 0, false };

        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        if (m.pid <= 0 || !read_stat(path, &state, &m.parent)) continue;
        if (n == room) {
            struct member *larger = realloc(list, (room = room * 2 + 256) * sizeof *list);

            if (!larger) break;
            list = larger;
        }
        list[n++] = m;
    }
    if (proc) closedir(proc);
    while (more) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            bool below = list[i].parent == root;

            if (list[i].below) continue;
            for (size_t k = 0; k < n && !below; k++) below = list[k].below && list[k].pid == list[i].parent;
            if (below) list[i].below = more = true;
        }
    }
    *count = n;
    return list;
}

static bool threads_asleep(pid_t pid)
{
    char path[300], state;
    bool asleep = true;
    pid_t parent;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    for (struct dirent *e; tasks && asleep && (e = readdir(tasks));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/stat", (int)pid, e->d_name);
        /* Stopped (T, t) and ended (Z, X) ones take no CPU either. */
        if (read_stat(path, &state, &parent)) asleep = strchr("STtZX", state) != NULL;
    }
    if (tasks) closedir(tasks);
    return asleep;
}

bool family_asleep(pid_t root)
{
    size_t count = 0;
    struct member *list = members(root, &count);
    bool asleep = threads_asleep(root);

    for (size_t i = 0; i < count && asleep; i++)
        if (list[i].below) asleep = threads_asleep(list[i].pid);
    free(list);
    return asleep;
}

unsigned family_kill(pid_t root)
{
    size_t count = 0;
    struct member *list = members(root, &count);
    unsigned found = 0;

    for (size_t i = 0; i < count; i++) {
        if (!list[i].below) continue;
        kill(list[i].pid, SIGKILL);
        found++;
    }
    free(list);
    return found;
}

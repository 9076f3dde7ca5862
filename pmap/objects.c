/* Remembers the executable segments of all loaded objects, by address and name, as dl_iterate_phdr gives them. */
#include "pmap/objects.h"

#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct segment {
    uintptr_t from, to;
    char *name;
    bool stays; /* the program itself: cannot be unloaded */
};

struct pm_objects {
    unsigned long long loads, unloads; /* ever, by the dynamic linker's count */
    size_t objects, n, room;
    struct segment *segment;
    bool no_memory;
};

static int collect(struct dl_phdr_info *info, size_t size, void *to)
{
    struct pm_objects *o = to;
    (void)size;
    o->loads = info->dlpi_adds;
    o->unloads = info->dlpi_subs;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X)) continue;
        if (o->n == o->room) {
            size_t room = o->room ? 2 * o->room : 32;
            struct segment *s = realloc(o->segment, room * sizeof *s);
            if (!s) {
                o->no_memory = true;
                return 1;
            }
            o->segment = s;
            o->room = room;
        }
        struct segment *s = &o->segment[o->n];
        s->from = info->dlpi_addr + h->p_vaddr;
        s->to = s->from + h->p_memsz;
        s->stays = o->objects == 0; /* the first that dl_iterate_phdr reports */
        s->name = strdup(info->dlpi_name ? info->dlpi_name : "");
        if (!s->name) {
            o->no_memory = true;
            return 1;
        }
        o->n++;
    }
    o->objects++;
    return 0;
}

struct pm_objects *pm_objects_now(void)
{
    struct pm_objects *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    (void)dl_iterate_phdr(collect, o);
    if (!o->no_memory) return o;
    pm_objects_free(o);
    return NULL;
}

void pm_objects_free(struct pm_objects *o)
{
    if (!o) return;
    for (size_t i = 0; i < o->n; i++) free(o->segment[i].name);
    free(o->segment);
    free(o);
}

static const struct segment *find(const struct pm_objects *o, uintptr_t at)
{
    for (size_t i = 0; i < o->n; i++)
        if (at >= o->segment[i].from && at < o->segment[i].to) return &o->segment[i];
    return NULL;
}

static int count_changes(struct dl_phdr_info *info, size_t size, void *to)
{
    struct pm_objects *o = to;
    (void)size;
    o->loads = info->dlpi_adds;
    o->unloads = info->dlpi_subs;
    return 1;
}

bool pm_objects_have(const struct pm_objects *o, const void *code)
{
    uintptr_t at = (uintptr_t)code;
    const struct segment *then = find(o, at);
    if (!then) return false;
    if (then->stays) return true;
    struct pm_objects changes = {0};
    (void)dl_iterate_phdr(count_changes, &changes);
    if (changes.unloads == o->unloads) return true; /* nothing has gone, so what is there now was there then */
    struct pm_objects *now = pm_objects_now();
    const struct segment *same = now ? find(now, at) : NULL;
    bool have = same && same->from == then->from && same->to == then->to && strcmp(same->name, then->name) == 0;
    pm_objects_free(now);
    return have;
}

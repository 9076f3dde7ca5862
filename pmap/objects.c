/* Remembers the executable segments of all loaded objects, by address, name and build-id, as dl_iterate_phdr gives them.  The last memory that
 * was given back is kept: while nothing is loaded or unloaded it is right for the next pool too. */
#include "pmap/objects.h"

#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/process.h"

struct segment {
    uintptr_t from, to;
    char *name;
    uint64_t build; /* its build-id, in short; 0 = it has none */
    bool stays; /* the program itself: cannot be unloaded */
};

struct pm_objects {
    struct pm_loads ever;
    size_t objects, n, room;
    struct segment *segment;
    bool no_memory;
};

/* The linker's build-id of an object, as a number: the same path and address may hold another build after a reload. */
static uint64_t build_of(const struct dl_phdr_info *info)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + h->p_vaddr), *end = at + h->p_memsz;
        while (end - at >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *name = at + sizeof *note, *text = name + ((note->n_namesz + 3u) & ~3u);
            at = text + ((note->n_descsz + 3u) & ~3u);
            if (at > end || note->n_type != NT_GNU_BUILD_ID || note->n_namesz != 4 || memcmp(name, "GNU", 4) != 0) continue;
            uint64_t sum = UINT64_C(14695981039346656037); /* FNV-1a */
            for (uint32_t k = 0; k < note->n_descsz; k++) sum = (sum ^ (unsigned char)text[k]) * UINT64_C(1099511628211);
            return sum ? sum : 1;
        }
    }
    return 0;
}

static int collect(struct dl_phdr_info *info, size_t size, void *to)
{
    struct pm_objects *o = to;
    (void)size;
    o->ever = (struct pm_loads){info->dlpi_adds, info->dlpi_subs};
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
        s->build = build_of(info);
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

static void forget(struct pm_objects *o)
{
    if (!o) return;
    for (size_t i = 0; i < o->n; i++) free(o->segment[i].name);
    free(o->segment);
    free(o);
}

static _Atomic(struct pm_objects *) kept;

struct pm_objects *pm_objects_now(void)
{
    struct pm_objects *o = atomic_exchange(&kept, NULL);
    struct pm_loads now = pm_process_loads();
    if (o && o->ever.loads == now.loads && o->ever.unloads == now.unloads) return o;
    forget(o);
    o = calloc(1, sizeof *o);
    if (!o) return NULL;
    (void)dl_iterate_phdr(collect, o);
    if (!o->no_memory) return o;
    forget(o);
    return NULL;
}

void pm_objects_free(struct pm_objects *o)
{
    if (o) forget(atomic_exchange(&kept, o));
}

__attribute__((destructor)) static void unloaded(void) { forget(atomic_exchange(&kept, NULL)); }

static const struct segment *find(const struct pm_objects *o, uintptr_t at)
{
    for (size_t i = 0; i < o->n; i++)
        if (at >= o->segment[i].from && at < o->segment[i].to) return &o->segment[i];
    return NULL;
}

bool pm_objects_have(const struct pm_objects *o, const void *code)
{
    uintptr_t at = (uintptr_t)code;
    const struct segment *then = find(o, at);
    if (!then) return false;
    if (then->stays) return true;
    if (pm_process_loads().unloads == o->ever.unloads) return true; /* nothing has gone, so what is there now was there then */
    struct pm_objects *now = pm_objects_now();
    const struct segment *same = now ? find(now, at) : NULL;
    bool have = same && same->from == then->from && same->to == then->to && strcmp(same->name, then->name) == 0 && same->build &&
                same->build == then->build; /* without an id nobody can tell */
    pm_objects_free(now);
    return have;
}

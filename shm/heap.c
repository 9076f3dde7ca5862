/* The heap of shm/heap.h.  Used by pmap/ and workers/ in the application only; must not write to the arena's memory.
 *
 * Blocks: the data part is cut into blocks without gaps; each has a node in private memory, linked to its neighbours in
 * address order.  Two free blocks are never neighbours.  Free nodes are in one list per size class (two bitmaps find
 * the first list that fits), used nodes in a hash by offset, which is how a pointer that is not ours is told.
 * Units: pages are committed in units of 64 KiB.  A unit is `committed`, and also `idle` when no used block touches it.
 * Up to 4 MiB stay idle, so that alloc and free in a loop make no system calls; then all idle units are given back.
 * What large blocks leave goes back at once. */
#include "shm/heap.h"

#include "shm/size.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GRAIN ((size_t)64)
#define UNIT ((size_t)64 << 10)
#define HUGE_PAGE ((size_t)2 << 20)
#define LARGE ((size_t)1 << 20)      /* from here on freed pages go back at once */
#define IDLE_UNITS (((size_t)4 << 20) / UNIT)

/* Size classes: sizes in grains below 16 have a class each; above, every power of two is cut into 16. */
#define SECOND 16u
#define FIRST 60u

struct node {
    size_t offset, bytes;
    struct node *before, *after;   /* neighbours in address order */
    struct node *next, *previous;  /* free: its class; used: `next` is its hash chain; spare: `next` */
    bool free;
};

#define SLAB_NODES 512
struct slab {
    struct slab *next;
    size_t cut;                    /* nodes in use or spare; those behind have never been touched */
    struct node nodes[SLAB_NODES];
};

struct pm_heap {
    pthread_mutex_t mutex;
    struct pm_arena *arena;
    uint64_t first_map;             /* bit f: second_map[f] is not 0 */
    uint16_t second_map[FIRST];     /* bit s: lists[f][s] is not empty */
    struct node *(*lists)[SECOND];
    struct node *spare;             /* nodes not in use */
    struct slab *slabs;
    struct node **buckets;          /* 2^bucket_bits chains of used nodes */
    unsigned bucket_bits;
    size_t used_nodes;
    uint64_t *committed, *idle;     /* a bit per unit; unit u is bytes [control + u*UNIT, ...) */
    size_t units, committed_units, idle_units;
    size_t used_bytes;
};

/* ---- Bits ---- */

/* The first bit in [from, to) that is `value`, or `to`. */
static size_t find_bit(const uint64_t *map, size_t from, size_t to, bool value)
{
    while (from < to) {
        uint64_t word = (value ? map[from / 64] : ~map[from / 64]) >> (from % 64);
        if (word) return pm_size_min(from + (size_t)__builtin_ctzll(word), to);
        from = (from / 64 + 1) * 64;
    }
    return to;
}

/* Sets the bits of [from, to) to `value`; returns how many changed. */
static size_t set_bits(uint64_t *map, size_t from, size_t to, bool value)
{
    size_t changed = 0;
    while (from < to) {
        size_t end = pm_size_min((from / 64 + 1) * 64, to), n = end - from;
        uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << (from % 64), *word = &map[from / 64];
        uint64_t change = (value ? ~*word : *word) & mask;
        *word ^= change;
        changed += (size_t)__builtin_popcountll(change);
        from = end;
    }
    return changed;
}

/* ---- Free lists ---- */

struct class {
    unsigned f, s;
};

static struct class class_of(size_t bytes)
{
    uint64_t grains = bytes / GRAIN;
    if (grains < SECOND) return (struct class){0, (unsigned)grains};
    unsigned top = 63u - (unsigned)__builtin_clzll(grains);
    return (struct class){top - 3, (unsigned)(grains >> (top - 4)) & (SECOND - 1)};
}

/* The first class at or above `c` that has a block; its list's head, or NULL. */
static struct node *first_list(const struct pm_heap *heap, struct class c)
{
    uint32_t second = heap->second_map[c.f] & (~UINT32_C(0) << c.s);
    if (!second) {
        uint64_t first = heap->first_map & (~UINT64_C(1) << c.f);
        if (!first) return NULL;
        c.f = (unsigned)__builtin_ctzll(first);
        second = heap->second_map[c.f];
    }
    return heap->lists[c.f][__builtin_ctz(second)];
}

static void list_add(struct pm_heap *heap, struct node *node)
{
    struct class c = class_of(node->bytes);
    struct node **head = &heap->lists[c.f][c.s];
    node->free = true;
    node->previous = NULL;
    node->next = *head;
    if (*head) (*head)->previous = node;
    *head = node;
    heap->second_map[c.f] = (uint16_t)(heap->second_map[c.f] | 1u << c.s);
    heap->first_map |= UINT64_C(1) << c.f;
}

static void list_remove(struct pm_heap *heap, struct node *node)
{
    struct class c = class_of(node->bytes);
    if (node->next) node->next->previous = node->previous;
    if (node->previous) {
        node->previous->next = node->next;
    } else {
        heap->lists[c.f][c.s] = node->next;
        if (!node->next) {
            heap->second_map[c.f] = (uint16_t)(heap->second_map[c.f] & ~(1u << c.s));
            if (!heap->second_map[c.f]) heap->first_map &= ~(UINT64_C(1) << c.f);
        }
    }
    node->free = false;
}

/* Where an aligned block of `bytes` would begin in this free block, or SIZE_MAX when it does not fit.  The arena's base
 * and its control part are multiples of 2 MiB, so aligning the offset aligns the pointer. */
static size_t place_in(const struct node *node, size_t bytes, size_t align)
{
    size_t at = (node->offset + align - 1) & ~(align - 1);
    size_t end = node->offset + node->bytes;
    return at <= end && bytes <= end - at ? at : SIZE_MAX;
}

static struct node *find_free(const struct pm_heap *heap, size_t bytes, size_t align)
{
    /* In the class above this size every block fits, wherever it begins.  One look. */
    size_t enough = bytes + align - GRAIN;
    size_t grains = enough / GRAIN;
    if (grains >= SECOND) enough += (((size_t)1 << (63u - (unsigned)__builtin_clzll(grains) - 4)) - 1) * GRAIN;
    struct node *node = first_list(heap, class_of(enough));
    if (node) return node;

    /* Nearly full.  A block that fits exactly may be in a class below, so look there before refusing: a few classes, a
     * bounded piece of each, which keeps even refusals at constant time. */
    struct class c = class_of(bytes), last = class_of(enough);
    while (c.f < last.f || (c.f == last.f && c.s <= last.s)) {
        int looks = 64;
        for (node = heap->lists[c.f][c.s]; node && looks > 0; node = node->next, looks--)
            if (place_in(node, bytes, align) != SIZE_MAX) return node;
        if (++c.s == SECOND) {
            c.s = 0;
            c.f++;
        }
    }
    return NULL;
}

/* ---- Used blocks by offset ---- */

static struct node **bucket(const struct pm_heap *heap, size_t offset)
{
    return &heap->buckets[(uint64_t)(offset / GRAIN) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - heap->bucket_bits)];
}

static void hash_add(struct pm_heap *heap, struct node *node)
{
    struct node **head = bucket(heap, node->offset);
    node->next = *head;
    *head = node;
}

/* Twice the chains when there is a node for each.  Without memory for them the chains only get longer. */
static void hash_grow(struct pm_heap *heap)
{
    size_t old = (size_t)1 << heap->bucket_bits;
    if (heap->used_nodes < old) return;
    struct node **before = heap->buckets, **buckets = calloc(2 * old, sizeof *buckets);
    if (!buckets) return;
    heap->buckets = buckets;
    heap->bucket_bits++;
    for (size_t i = 0; i < old; i++) {
        for (struct node *node = before[i], *next; node; node = next) {
            next = node->next;
            hash_add(heap, node);
        }
    }
    free(before);
}

/* Takes the node that begins at offset out of the hash; NULL when there is none. */
static struct node *hash_take(struct pm_heap *heap, size_t offset)
{
    for (struct node **link = bucket(heap, offset); *link; link = &(*link)->next) {
        struct node *node = *link;
        if (node->offset != offset) continue;
        *link = node->next;
        return node;
    }
    return NULL;
}

/* ---- Nodes ---- */

/* Makes sure of two spare nodes: one allocation cuts off a front and a rest at most. */
static bool nodes_ready(struct pm_heap *heap)
{
    while (!heap->spare || !heap->spare->next) {
        struct slab *slab = heap->slabs;
        if (!slab || slab->cut == SLAB_NODES) {
            slab = malloc(sizeof *slab);
            if (!slab) return false;
            slab->next = heap->slabs;
            slab->cut = 0;
            heap->slabs = slab;
        }
        struct node *node = &slab->nodes[slab->cut++];
        node->next = heap->spare;
        heap->spare = node;
    }
    return true;
}

/* Cuts `node` after `bytes`; returns the second part, in no list. */
static struct node *cut(struct pm_heap *heap, struct node *node, size_t bytes)
{
    struct node *rest = heap->spare;
    heap->spare = rest->next;
    *rest = (struct node){
        .offset = node->offset + bytes, .bytes = node->bytes - bytes, .before = node, .after = node->after};
    if (rest->after) rest->after->before = rest;
    node->after = rest;
    node->bytes = bytes;
    return rest;
}

/* Joins `node` with the block after it, whose node becomes spare.  Neither is in a list. */
static void join(struct pm_heap *heap, struct node *node)
{
    struct node *gone = node->after;
    node->bytes += gone->bytes;
    node->after = gone->after;
    if (node->after) node->after->before = node;
    gone->next = heap->spare;
    heap->spare = gone;
}

/* ---- Units ---- */

static size_t unit_offset(const struct pm_heap *heap, size_t unit) { return heap->arena->control + unit * UNIT; }

/* Gives the idle units of [from, to) back to the system. */
static void give_back(struct pm_heap *heap, size_t from, size_t to)
{
    while ((from = find_bit(heap->idle, from, to, true)) < to) {
        size_t end = find_bit(heap->idle, from, to, false);
        pm_arena_release(heap->arena, unit_offset(heap, from), (end - from) * UNIT);
        heap->idle_units -= set_bits(heap->idle, from, end, false);
        heap->committed_units -= set_bits(heap->committed, from, end, false);
        from = end;
    }
}

/* Commits the units that [offset, offset+bytes) touches.  On an error the books are as before. */
static int commit_units(struct pm_heap *heap, size_t offset, size_t bytes)
{
    size_t from = (offset - heap->arena->control) / UNIT, to = (offset + bytes - 1 - heap->arena->control) / UNIT + 1;
    /* A huge page needs all of its small ones to be absent. */
    if (bytes >= HUGE_PAGE) give_back(heap, from, to);
    for (size_t at = from; (at = find_bit(heap->committed, at, to, false)) < to;) {
        size_t end = find_bit(heap->committed, at, to, true);
        int error = pm_arena_commit(heap->arena, unit_offset(heap, at), (end - at) * UNIT);
        if (error) {
            /* What is not in the books yet but before `at` was committed by this loop. */
            for (size_t undo = from; (undo = find_bit(heap->committed, undo, at, false)) < at;) {
                size_t stop = find_bit(heap->committed, undo, at, true);
                pm_arena_release(heap->arena, unit_offset(heap, undo), (stop - undo) * UNIT);
                undo = stop;
            }
            return error;
        }
        at = end;
    }
    heap->committed_units += set_bits(heap->committed, from, to, true);
    heap->idle_units -= set_bits(heap->idle, from, to, false);
    return 0;
}

/* After the block [offset, offset+bytes) became part of the free block `whole`: units in which nothing is used any
 * more. */
static void retire_units(struct pm_heap *heap, const struct node *whole, size_t offset, size_t bytes)
{
    size_t control = heap->arena->control;
    /* The units that the freed block touched, as far as they lie wholly in free memory. */
    size_t from = (pm_size_max((offset - control) / UNIT * UNIT, whole->offset - control) + UNIT - 1) / UNIT;
    size_t end = (offset + bytes - control + UNIT - 1) / UNIT * UNIT;
    size_t to = pm_size_min(end, whole->offset + whole->bytes - control) / UNIT;
    if (from >= to) return;
    heap->idle_units += set_bits(heap->idle, from, to, true); /* all of them are committed: the block was used */
    if (bytes >= LARGE)
        give_back(heap, from, to);
    else if (heap->idle_units > IDLE_UNITS)
        give_back(heap, 0, heap->units);
}

/* ---- The calls ---- */

/* Of one map of units. */
static size_t map_bytes(const struct pm_heap *heap) { return sizeof(uint64_t) * (heap->units / 64 + 1); }

/* The lists, and behind them the two maps of units. */
static size_t books_bytes(const struct pm_heap *heap) { return FIRST * sizeof *heap->lists + 2 * map_bytes(heap); }

/* The books are opened by the first allocation: many pools have none.  By mmap(): of some fifty pages most are never touched. */
static bool books_ready(struct pm_heap *heap)
{
    if (heap->lists) return true;
    if (!heap->buckets && !(heap->buckets = calloc((size_t)1 << heap->bucket_bits, sizeof *heap->buckets))) return false;
    if (!nodes_ready(heap)) return false;
    char *books = mmap(NULL, books_bytes(heap), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (books == MAP_FAILED) return false;
    heap->lists = (struct node *(*)[SECOND])(void *)books;
    heap->committed = (uint64_t *)(void *)(books + FIRST * sizeof *heap->lists);
    heap->idle = heap->committed + map_bytes(heap) / sizeof *heap->idle;
    struct node *all = heap->spare;
    heap->spare = all->next;
    *all = (struct node){.offset = heap->arena->control, .bytes = heap->units * UNIT};
    list_add(heap, all);
    return true;
}

int pm_heap_open(struct pm_heap **out, struct pm_arena *arena)
{
    *out = NULL;
    struct pm_heap *heap = calloc(1, sizeof *heap);
    if (!heap) return -ENOMEM;
    heap->arena = arena;
    heap->units = (arena->size - arena->control) / UNIT;
    heap->bucket_bits = 8;
    if (!heap->units || pthread_mutex_init(&heap->mutex, NULL) != 0) {
        free(heap);
        return -ENOMEM;
    }
    *out = heap;
    return 0;
}

/* Takes no lock and does not destroy the mutex (which owns nothing): a forked child may have copied it while a thread
 * held it. */
void pm_heap_close(struct pm_heap *heap)
{
    if (!heap) return;
    for (struct slab *slab = heap->slabs, *next; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
    free(heap->buckets);
    if (heap->lists) munmap(heap->lists, books_bytes(heap));
    free(heap);
}

/* The books of an allocation: a used node of exactly `bytes`, committed; NULL with *error. */
static struct node *take(struct pm_heap *heap, size_t bytes, int *error)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : GRAIN;
    *error = -ENOMEM;
    struct node *node = books_ready(heap) ? find_free(heap, bytes, align) : NULL;
    if (!node || !nodes_ready(heap)) return NULL;
    size_t at = place_in(node, bytes, align);
    /* First what can fail: until it has succeeded, nothing is changed. */
    if ((*error = commit_units(heap, at, bytes)) != 0) return NULL;

    list_remove(heap, node);
    if (at > node->offset) {
        struct node *front = node;
        node = cut(heap, front, at - front->offset);
        list_add(heap, front);
    }
    if (node->bytes > bytes) list_add(heap, cut(heap, node, bytes));
    node->free = false;
    heap->used_nodes++;
    hash_grow(heap);
    hash_add(heap, node);
    heap->used_bytes += bytes;
    return node;
}

void *pm_heap_alloc(struct pm_heap *heap, size_t bytes, int *error)
{
    *error = -ENOMEM;
    /* Compared with the whole data part first, so that no sum below can overflow. */
    if (bytes > heap->units * UNIT || !pm_size_up(bytes ? bytes : 1, GRAIN, &bytes)) return NULL;
    pthread_mutex_lock(&heap->mutex);
    struct node *node = take(heap, bytes, error);
    void *p = node ? heap->arena->base + node->offset : NULL;
    pthread_mutex_unlock(&heap->mutex);
    return p;
}

int pm_heap_free(struct pm_heap *heap, void *p)
{
    if (!p) return 0;
    if (!pm_arena_has(heap->arena, p, 1)) return -EINVAL;
    pthread_mutex_lock(&heap->mutex);
    struct node *node = heap->lists ? hash_take(heap, (size_t)((char *)p - heap->arena->base)) : NULL;
    if (node) {
        size_t offset = node->offset, bytes = node->bytes;
        heap->used_nodes--;
        heap->used_bytes -= bytes;
        if (node->after && node->after->free) {
            list_remove(heap, node->after);
            join(heap, node);
        }
        if (node->before && node->before->free) {
            node = node->before;
            list_remove(heap, node);
            join(heap, node);
        }
        list_add(heap, node);
        retire_units(heap, node, offset, bytes);
    }
    pthread_mutex_unlock(&heap->mutex);
    return node ? 0 : -EINVAL;
}

void pm_heap_usage(struct pm_heap *heap, size_t *used, size_t *committed)
{
    pthread_mutex_lock(&heap->mutex);
    *used = heap->used_bytes;
    *committed = heap->committed_units * UNIT;
    pthread_mutex_unlock(&heap->mutex);
}

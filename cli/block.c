/* What is left of a job that waits for its turn.  See block.h. */
#include "cli/block.h"
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(void)
{
    complain("no memory for the output of jobs that wait");
    return -1;
}

/* Where the parts are: extents, then command and tag, then the streams' bytes. */
static size_t front_bytes(const struct block_head *h)
{
    return (h->extents[0] + h->extents[1]) * sizeof(struct extent) + h->command_bytes + h->tag_bytes;
}

static size_t all_bytes(const struct block_head *h) { return sizeof *h + front_bytes(h) + h->data[0] + h->data[1]; }

/* Appends a part to memory, or, where *at is NULL, to the file. */
static int part(struct store *store, char **at, const void *data, size_t bytes)
{
    if (!*at) return store_write(store, data, bytes);
    if (bytes) memcpy(*at, data, bytes);
    *at += bytes;
    return 0;
}

static int write_parts(struct store *store, char *at, const struct block_head *h, const char *command, const char *tag,
                       const struct piece piece[2])
{
    if (part(store, &at, h, sizeof *h)) return -1;
    for (int i = 0; i < 2; i++)
        if (part(store, &at, piece[i].extents, h->extents[i] * sizeof(struct extent))) return -1;
    if (part(store, &at, command, h->command_bytes) || part(store, &at, tag, h->tag_bytes)) return -1;
    for (int i = 0; i < 2; i++)
        if (part(store, &at, piece[i].data, h->data[i])) return -1;
    return 0;
}

int block_fold(struct store *store, const struct entry *entry, const char *command, const char *tag,
               struct piece piece[2], uint64_t *word)
{
    struct block_head h;
    char *memory = NULL;

    memset(&h, 0, sizeof h); /* its padding too goes to a file */
    h.entry = *entry;
    h.command_bytes = command ? strlen(command) + 1 : 0;
    h.tag_bytes = tag ? strlen(tag) + 1 : 0;
    for (int i = 0; i < 2; i++) {
        h.extents[i] = piece[i].nextents;
        h.data[i] = piece[i].used;
    }
    if (!store_over(store, all_bytes(&h)) && !(memory = store_alloc(store, all_bytes(&h)))) return no_memory();
    *word = memory ? (uint64_t)(uintptr_t)memory : store->end << 2 | BLOCK_FILED;
    if (write_parts(store, memory, &h, command, tag, piece)) return -1;
    for (int i = 0; i < 2; i++) {
        piece[i].nextents = 0;
        piece[i].spilled = 0;
    }
    return 0;
}

static void unfold_memory(struct block *b, char *memory)
{
    char *data;

    memcpy(&b->head, memory, sizeof b->head);
    b->extents = (struct extent *)(void *)(memory + sizeof b->head);
    data = memory + sizeof b->head + front_bytes(&b->head);
    for (int i = 0; i < 2; i++) {
        b->piece[i].extents = b->extents + (i ? b->head.extents[0] : 0);
        b->piece[i].nextents = b->head.extents[i];
        b->piece[i].data = data;
        b->piece[i].used = b->head.data[i];
        data += b->head.data[i];
    }
}

/* Here the streams' last bytes are one extent more of each. */
static int unfold_file(struct store *store, struct block *b, uint64_t offset)
{
    struct block_head *h = &b->head;
    uint64_t data;

    if (store_read(store, offset, h, sizeof *h)) return -1;
    offset += sizeof *h;
    data = offset + front_bytes(h);
    b->memory = b->extents = malloc(front_bytes(h) + 2 * sizeof *b->extents);
    if (!b->extents) return no_memory();
    for (int i = 0; i < 2; i++) {
        struct extent *extents = b->extents + (i ? h->extents[0] + 1 : 0);
        size_t bytes = h->extents[i] * sizeof *extents;

        if (store_read(store, offset, extents, bytes)) return -1;
        offset += bytes;
        extents[h->extents[i]] = (struct extent){ data, h->data[i] };
        data += h->data[i];
        b->piece[i].extents = extents;
        b->piece[i].nextents = h->extents[i] + 1;
    }
    return store_read(store, offset, b->extents + h->extents[0] + h->extents[1] + 2, h->command_bytes + h->tag_bytes);
}

int block_unfold(struct store *store, uint64_t word, struct block *b)
{
    const char *names;

    memset(b, 0, sizeof *b);
    if (!(word & BLOCK_FILED)) unfold_memory(b, (char *)(uintptr_t)word);
    else if (unfold_file(store, b, word >> 2)) {
        memset(&b->head, 0, sizeof b->head); /* for block_free(): there are no extents to look at */
        return -1;
    }
    names = (char *)(b->extents + b->piece[0].nextents + b->piece[1].nextents);
    b->entry = b->head.entry;
    b->entry.command = b->head.command_bytes ? names : "";
    b->tag = b->head.tag_bytes ? names + b->head.command_bytes : NULL;
    for (int i = 0; i < 2; i++)
        for (size_t e = 0; e < b->piece[i].nextents; e++) b->piece[i].spilled += b->piece[i].extents[e].bytes;
    return 0;
}

void block_free(struct store *store, uint64_t word, struct block *b)
{
    for (int i = 0; i < 2 && b; i++)
        for (size_t e = 0; e < b->head.extents[i]; e++)
            store_free(store, b->piece[i].extents[e].offset, b->piece[i].extents[e].bytes);
    if (!(word & BLOCK_FILED)) store_release(store, (void *)(uintptr_t)word);
    else if (b) store_free(store, word >> 2, all_bytes(&b->head));
    if (b) free(b->memory);
}

/* See workers/frame.h.  Pure functions on bytes. */
#include "workers/frame.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct pm_frame) == 72, "no padding: the header is compared and copied whole");

int pm_frame_get(struct pm_frame *frame, const void *data, size_t bytes, uint64_t nonce)
{
    if (bytes < sizeof *frame) return -EBADMSG;
    memcpy(frame, data, sizeof *frame); /* messages are not aligned */
    if (frame->magic != PM_FRAME_MAGIC || frame->version != PM_FRAME_VERSION || frame->lead >= PM_FRAME_ALIGN) return -EBADMSG;
    if (frame->kind < PM_FRAME_HELLO || frame->kind > PM_FRAME_BYE || frame->nonce != nonce) return -EBADMSG;
    if (frame->skips > frame->items || frame->skips != (bytes - sizeof *frame) / sizeof(uint32_t)) return -EBADMSG;
    if ((bytes - sizeof *frame) % sizeof(uint32_t) || (frame->kind != PM_FRAME_CHUNK && frame->skips)) return -EBADMSG;
    if (frame->reached > frame->items || (frame->suspect >= frame->items && frame->suspect != PM_FRAME_SUSPECT_NONE)) return -EBADMSG;
    return 0;
}

bool pm_frame_skips(const struct pm_frame *frame, const void *data, uint32_t *skips)
{
    if (frame->skips) memcpy(skips, (const char *)data + sizeof *frame, frame->skips * sizeof *skips);
    for (uint32_t i = 0; i < frame->skips; i++)
        if (skips[i] >= frame->items || (i && skips[i] <= skips[i - 1])) return false;
    return true;
}

bool pm_frame_answers(const struct pm_frame *a, const struct pm_frame *q, size_t out_size, size_t bytes)
{
    size_t expected;
    if (a->kind != PM_FRAME_RESULT || a->serial != q->serial || a->owner != q->owner || a->job != q->job || a->round != q->round) return false;
    if (a->chunk != q->chunk || a->attempt != q->attempt || a->items != q->items || a->reached > q->items) return false;
    return !__builtin_mul_overflow(a->reached, out_size, &expected) && a->bytes == expected && bytes == expected;
}

void pm_frame_id(unsigned char id[PM_FRAME_ID], uint32_t owner, uint64_t nonce)
{
    id[0] = 'P'; /* an id that begins with 0 is ZeroMQ's own */
    memcpy(id + 1, &owner, sizeof owner);
    memcpy(id + 5, &nonce, sizeof nonce);
}

bool pm_frame_owner(const void *data, size_t bytes, uint64_t nonce, uint32_t *owner)
{
    unsigned char own[PM_FRAME_ID];
    if (bytes != PM_FRAME_ID) return false;
    memcpy(owner, (const char *)data + 1, sizeof *owner);
    pm_frame_id(own, *owner, nonce);
    return memcmp(own, data, sizeof own) == 0;
}

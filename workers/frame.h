/* The header of every message of the ZeroMQ channel, and the names its workers go by.  A header that arrives is copied out of the
 * message first and judged afterwards: nothing is believed because of where it came from.  Native byte order: both ends are
 * processes of one machine.  Used by workers/zmq.c and workers/zmq_worker.c; knows no socket. */
#ifndef PM_WORKERS_FRAME_H
#define PM_WORKERS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PM_FRAME_MAGIC 0x504d4150u /* "PMAP" */
#define PM_FRAME_VERSION 1u
#define PM_FRAME_ALIGN 64u   /* the most that an input is aligned to */
#define PM_FRAME_SUSPECT_NONE UINT32_MAX

enum pm_frame_kind {
    PM_FRAME_HELLO = 1,  /* worker: here I am */
    PM_FRAME_CHUNK = 2,  /* application: run this; the input is the next part */
    PM_FRAME_RESULT = 3, /* worker: ran it as far as `reached`; the results are the next part */
    PM_FRAME_PROBE = 4,  /* application: nothing; it fails to be sent when the connection is gone */
    PM_FRAME_BYE = 5     /* application: end */
};

struct pm_frame {
    uint32_t magic;
    uint16_t version, kind;
    uint64_t nonce;   /* of the pool */
    uint64_t serial;  /* of the job */
    uint64_t bytes;   /* of input or results in the part that follows; 0 = there is none */
    uint32_t owner;   /* the worker, as in a chunk's word: (slot, gen) */
    uint32_t job;     /* number of the descriptor */
    uint32_t round, chunk, attempt;
    uint32_t items;   /* of the chunk */
    uint32_t suspect; /* its item that may be what killed a worker; NONE: the chunk runs for the first time */
    uint32_t reached; /* items of it that were run, or passed over: less than all when the job was stopped */
    uint32_t skips;   /* that many items of it (uint32_t each, ascending) follow the header: they have failed already */
    uint32_t lead;    /* question: bytes of the part before the input, which make it lie aligned at the other end; answer: how many
                       * would have done that */
};

/* Is this a header of this pool, with exactly the skips that it says?  Copies it out: 0, or -EBADMSG with *frame undefined. */
int pm_frame_get(struct pm_frame *frame, const void *data, size_t bytes, uint64_t nonce);

/* Copies out the skips of a header that pm_frame_get() took: true when they ascend and lie in the chunk. */
bool pm_frame_skips(const struct pm_frame *frame, const void *data, uint32_t *skips);

/* Does an answer belong to this question, to the last field?  `out_size` bytes a result. */
bool pm_frame_answers(const struct pm_frame *answer, const struct pm_frame *question, size_t out_size, size_t bytes);

/* A worker's routing id: who it is, and a proof that it belongs to the pool. */
#define PM_FRAME_ID 13u
void pm_frame_id(unsigned char id[PM_FRAME_ID], uint32_t owner, uint64_t nonce);
bool pm_frame_owner(const void *id, size_t bytes, uint64_t nonce, uint32_t *owner);

#endif

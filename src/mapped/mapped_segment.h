/* SPDX-License-Identifier: Apache-2.0 */
/* A mapped segment with its open group, as one process sees it. */
#ifndef TWL_MAPPED_SEGMENT_H
#define TWL_MAPPED_SEGMENT_H

#include "mapped/open_group.h"
#include "mapped/participants.h"
#include "walk/segment_iter.h"

/* In the header block of the segment, behind its header; shared by the participants. */
struct mapped_words {
    _Atomic uint64_t cursor;
    _Atomic uint64_t synced;   /* only goes up: bytes up to here are durable */
    _Atomic uint32_t is_named; /* the name of the file is durable */
    _Atomic uint32_t syncing; /* participants that are syncing the file, or died while they did (durable.c) */
};
#define MAPPED_WORDS_OFFSET 512u
_Static_assert(MAPPED_WORDS_OFFSET + sizeof(struct mapped_words) <= SEGMENT_HEADER_BYTES,
               "in the header block");

struct mapped_segment {
    struct mapped_words own; /* where no other is let in. First: the cursor has a cache line of its own */
    _Alignas(64) struct open_group group;
    struct mapped_words *words; /* [const] shared, or `own` */
    _Atomic uint32_t users;     /* threads that are inside */
    _Atomic uint64_t populated; /* pages are present up to this offset */

    struct segment segment;    /* [const] but its summary; its file is open as long as a thread is inside */
    uint64_t number;           /* [const] in the name of the segment */
    size_t bytes;              /* [const] that are mapped */
    struct group_header start; /* [const] its first group */

    struct open_walk walk; /* [looking] as far as records are known to be complete */
    uint64_t found; /* [syncing] where records ended when it was opened; 0: they were read back (durable.c) */
    bool is_doubtful; /* [syncing] an error may have been reported before it was opened (durable.c) */
    _Atomic(struct mapped_segment *) next;
};

/* Maps a segment that was not started, or was started by another participant. Its file has the writer's lock then,
 * shared, so that no other kind of writer takes it, and no participant removes it, nor one behind it. On failure the
 * file stays the caller's. -EBUSY: another process has it exclusively, for wait_ms. One that joins or trims does so
 * for a moment, when it looks whether a file is in use. */
int twl_mapped_segment_map(struct io *io, const struct segment *segment, unsigned wait_ms,
                           const struct participants *participants, struct mapped_segment **ret_segment);
void twl_mapped_segment_unmap(struct mapped_segment *seg); /* twice is harmless */
/* Makes those pages present and writable, so that puts meet no page faults. Only an offer to the kernel. */
void twl_mapped_segment_populate(struct mapped_segment *seg, uint64_t from, uint64_t to);

/* Writes the marker that begins an epoch, and with it the segment. */
void twl_mapped_segment_begin(struct mapped_segment *seg, const struct group_header *start);
/* Takes the marker of a segment that was started. TWINLOG_ECORRUPT: there is none. */
int twl_mapped_segment_enter(struct mapped_segment *seg);

/* The LSN behind all that were claimed. */
uint64_t twl_mapped_segment_next_lsn(const struct mapped_segment *seg);
/* What the next segment continues, once the group has ended. */
struct position twl_mapped_segment_end(const struct mapped_segment *seg);

#endif

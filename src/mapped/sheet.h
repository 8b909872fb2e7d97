/* SPDX-License-Identifier: Apache-2.0 */
/* A mapped segment with its open group, as one process sees it. */
#ifndef TWL_SHEET_H
#define TWL_SHEET_H

#include "mapped/open_group.h"
#include "segment/segment.h"

/* In the header block of the segment, behind its header, for those who write it together. All but the cursor are hints
 * that only go up. */
struct sheet_words {
    _Atomic uint64_t cursor;
    _Atomic uint64_t complete; /* records up to this walk are (twl_open_walk_pack()) */
    _Atomic uint64_t synced;   /* bytes up to here are durable */
    _Atomic uint32_t is_named; /* and so is the name */
};
#define SHEET_WORDS_OFFSET 512u
_Static_assert(SHEET_WORDS_OFFSET + sizeof(struct sheet_words) <= SEGMENT_HEADER_BYTES,
               "in the header block");

struct sheet {
    struct sheet_words own; /* first: the cursor has a cache line of its own. Of who writes alone */
    _Alignas(64) struct open_group group;
    struct sheet_words *words;  /* [const] shared, or `own` */
    _Atomic uint32_t users;     /* threads that are inside */
    _Atomic uint64_t populated; /* pages are there up to this offset */

    struct io *io;             /* [const] */
    struct io_file *file;      /* [const] open as long as somebody is inside */
    struct io_file *lock;      /* [const] until it is unlocked; NULL: who writes alone has locked `file` */
    struct segment segment;    /* its file until the keeper has it, with peers until the sheet goes */
    uint64_t sequence, number; /* [const] of the segment, and in its name */
    size_t bytes;              /* [const] that are mapped */
    struct group_header start; /* [const] its first group */
    struct group_header last;  /* [syncing] once it is closed: its last group */

    struct open_walk walk; /* [syncing] as far as records are known to be complete */
    uint64_t synced;       /* [syncing] bytes up to here are durable */
    uint64_t
        found; /* [syncing] records up to here were claimed before it was opened; 0: a sync speaks for all */
    bool is_closed; /* [syncing] its group has its header, if it has records */
    _Atomic(struct sheet *) next;
};

/* Of a segment that was not begun, or was by others. The file stays the caller's. `owner` is who will claim. One that is
 * shared is locked, so that no other kind of writer takes it; not on its file, which is mapped and which children have
 * (mapped/peers.h). -EBUSY: somebody else has it alone. */
int twl_sheet_map(struct io *io, const struct segment *segment, unsigned owner, bool is_shared,
                  struct sheet **ret_sheet);
void twl_sheet_unmap(struct sheet *sheet);  /* twice is harmless */
void twl_sheet_unlock(struct sheet *sheet); /* likewise; once nothing is written to the file any more */
void twl_sheet_free(struct sheet *sheet);   /* the memory alone */
/* Pages that were not written are zeros, and cost a fault each when they are. Only an offer to the kernel. */
void twl_sheet_populate(struct sheet *sheet, uint64_t to);

/* The mark that begins an epoch, and with it the segment. */
void twl_sheet_begin(struct sheet *sheet, const struct group_header *start);
/* It was begun: takes the mark as it is. TWINLOG_ECORRUPT: there is none. */
int twl_sheet_enter(struct sheet *sheet);
/* The mark of this segment behind another one that has ended, as everybody would make it. */
int twl_sheet_compose_next(const struct sheet *sheet, const struct sheet *before,
                           struct group_header *ret_start);

/* Behind all that was claimed. */
uint64_t twl_sheet_next_lsn(const struct sheet *sheet);
/* What a page of the file that could not be had has been replaced by is memory of this process. */
bool twl_sheet_is_lost(const struct sheet *sheet);

#endif

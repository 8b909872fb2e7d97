/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: which thread may write where. Moving one word, the cursor, gives a range of the file away. Each
 * range stays on record until it has been copied, so that it is known after a death at any instruction.
 * Nothing here makes a system call.
 *
 *     cursor = offset (48 bits) | owner (16)
 *
 * The owner is the slot that moved the cursor to this offset by its claim. That move puts the claim on record;
 * before another thread moves the cursor on, it confirms the claim in the slot. So a claim is always one of
 *
 *     INTENT, and the cursor names the slot and the intent's end     made by the cursor's move
 *     CLAIMED                                                        confirmed, by another thread
 *
 * and an INTENT that the cursor does not name was never made. The slot becomes FREE when the copy is done.
 *
 * A late confirmation is harmless. Every intent has another sequence, so a late one cannot confirm a later
 * intent. And a thread confirms only where start + size of the slot is the offset of a cursor that it has
 * read before. Every later intent of that slot begins at that offset or behind it, and is never empty, so it
 * ends at another offset, even if start and size are read while they change.
 */
#ifndef TWL_SINK_CLAIM_H
#define TWL_SINK_CLAIM_H

#include "sink/area.h"

enum claim_kind {
    CLAIM_FREE, /* the claim was copied, or there is none */
    CLAIM_INTENT,
    CLAIM_CLAIMED,
    CLAIM_FAILED,   /* it was made and cannot be copied: any process may fill it in */
    CLAIM_KINDS = 4 /* a state is sequence * CLAIM_KINDS + kind */
};

enum claim_result {
    CLAIM_MADE,
    CLAIM_NEEDS_ROOM, /* the file must become larger */
    CLAIM_NEEDS_NEXT, /* the bytes would exceed max_bytes: they belong in the next file */
    CLAIM_LOST        /* the area is lost: see area.h. A range that was claimed is not the caller's */
};

#define OFFSET_LIMIT (UINT64_C(1) << 48)

static inline uint64_t cursor_offset(uint64_t cursor)
{
    return cursor >> 16;
}
static inline unsigned cursor_owner(uint64_t cursor)
{
    return (unsigned)(cursor & 0xffff);
}
static inline uint64_t cursor_of(uint64_t offset, unsigned owner)
{
    return offset << 16 | owner;
}
static inline uint64_t area_offset(const struct area *area)
{
    return cursor_offset(atomic_load(&area->cursor));
}
static inline enum claim_kind slot_kind(uint64_t state)
{
    return (enum claim_kind)(state % CLAIM_KINDS);
}

/* Claims `size` bytes, at least one, through a free slot of the caller's. Only CLAIM_MADE gives the caller a
 * range. `max_bytes`: of a file that has others behind it; 0 = there is no limit. */
enum claim_result twl_claim(struct area *area, unsigned owner, uint64_t size, uint64_t max_bytes,
                            uint64_t *ret_start);
/* For the owner: CLAIM_FREE, the bytes of its claim are copied; or CLAIM_FAILED. */
void twl_claim_end(struct slot *slot, enum claim_kind kind);

/* Confirms the newest claim, the one that moved the cursor to its present offset. Call it before reading
 * slots: a slot that is an intent after that has made no claim. */
void twl_claim_settle(struct area *area);
/* All bytes below it are copied: the start of the first claim that is not, or the cursor. Stores nothing. */
uint64_t twl_claim_copied(struct area *area);

struct claim {
    enum claim_kind kind;
    uint64_t start, size;
};
static inline struct claim twl_claim_read(const struct slot *slot)
{
    const enum claim_kind kind = slot_kind(atomic_load(&slot->state)); /* first */
    return (struct claim){ kind, atomic_load(&slot->start), atomic_load(&slot->size) };
}

#endif

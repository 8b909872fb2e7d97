/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may write where: ranges of the file are given away by moving one word, the cursor, and each is on record until
 * it has been copied, so that a death at any instruction leaves no doubt. Nothing here makes a system call.
 *
 *     cursor = offset (48 bits) | owner (16)
 *
 * The owner is the slot whose claim moved the cursor to this offset. Its claim is on record by that; before
 * anybody moves the cursor on he confirms it in the slot. So a claim is always one of
 *
 *     INTENT, and the cursor names the slot and the intent's end     made by the cursor's move
 *     CLAIMED                                                        confirmed
 *
 * and an INTENT that the cursor does not name was never made. A copy that is done makes the slot FREE.
 *
 * A confirmation that comes late does no harm. Every intent has another sequence, so it can't meet a later one; and
 * it is tried only where start + size of the slot is the offset of a cursor that was seen before. What
 * the slot intends after that begins at that offset or behind it, and is never empty, so it ends somewhere else,
 * even if the two words are read while they change.
 */
#ifndef TWL_SINK_CLAIM_H
#define TWL_SINK_CLAIM_H

#include "sink/area.h"

enum claim_kind {
    CLAIM_FREE, /* the slot; a claim that was copied, or none */
    CLAIM_INTENT,
    CLAIM_CLAIMED,
    CLAIM_KINDS = 4 /* a state is sequence * CLAIM_KINDS + kind */
};

enum claim_result {
    CLAIM_MADE,
    CLAIM_NEEDS_ROOM, /* the file must become larger */
    CLAIM_NEEDS_NEXT, /* the limit says that this belongs into the next file */
    CLAIM_LOST /* there is no area any more: see area.h. What it claimed, if anything, is not the caller's */
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

/* Claims `size` bytes, more than none, through a slot that is the caller's and free. Nothing has happened unless
 * the result is CLAIM_MADE. */
enum claim_result twl_claim(struct area *area, unsigned owner, uint64_t size, uint64_t *ret_start);
/* The bytes are there. */
void twl_claim_done(struct area *area, unsigned owner);

/* The claim that moved the cursor to where it is gets its confirmation, if it has none. Before slots are looked
 * at: what is an intent after that has not been made. Returns the cursor. */
uint64_t twl_claim_settle(struct area *area);
/* Of a slot, after settle(): the claim that is not copied yet; false if there is none. */
bool twl_claim_is_open(const struct slot *slot, uint64_t *ret_state, uint64_t *ret_start, uint64_t *ret_size);
/* The slot of somebody who is dead is free again. */
void twl_claim_drop(struct slot *slot);

#endif

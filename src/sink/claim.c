/* SPDX-License-Identifier: Apache-2.0 */
/* See claim.h. */
#include "sink/claim.h"

#include "base/point.h"

static uint64_t state_of(uint64_t sequence, enum claim_kind kind)
{
    return sequence * CLAIM_KINDS + kind;
}

/* Confirms, in its slot, the claim that moved the cursor here. The cursor was read before the slot; the state
 * is read before start and size. claim.h says why that is enough. */
static void confirm(struct area *area, uint64_t cursor)
{
    if (cursor_owner(cursor) == 0)
        return;
    struct slot *slot = area_slot(area, cursor_owner(cursor));
    uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (slot_kind(state) != CLAIM_INTENT)
        return;
    const uint64_t start = atomic_load_explicit(&slot->start, memory_order_acquire);
    const uint64_t size = atomic_load_explicit(&slot->size, memory_order_acquire);
    if (start + size == cursor_offset(cursor))
        atomic_compare_exchange_strong(&slot->state, &state, state_of(state / CLAIM_KINDS, CLAIM_CLAIMED));
}

static enum claim_result look(const struct area *area, uint64_t cursor, uint64_t size)
{
    const uint64_t start = cursor_offset(cursor), end = start + size;
    if (area->max_bytes > 0 && start > 0 && end > area->max_bytes)
        return CLAIM_NEEDS_NEXT;
    if (end > atomic_load_explicit(&area->file_bytes, memory_order_acquire))
        return CLAIM_NEEDS_ROOM;
    return CLAIM_MADE;
}

enum claim_result twl_claim(struct area *area, unsigned owner, uint64_t size, uint64_t *ret_start)
{
    struct slot *slot = area_slot(area, owner);
    uint64_t sequence = atomic_load_explicit(&slot->state, memory_order_relaxed) / CLAIM_KINDS;
    uint64_t cursor = atomic_load_explicit(&area->cursor, memory_order_acquire);
    atomic_store_explicit(&slot->size, size, memory_order_relaxed);
    do {
        const enum claim_result result = look(area, cursor, size);
        if (result != CLAIM_MADE) {
            atomic_store_explicit(&slot->state, state_of(sequence, CLAIM_FREE), memory_order_release);
            return result;
        }
        if (cursor_owner(cursor) != owner) /* else it is an earlier claim of this slot, which is done */
            confirm(area, cursor);
        POINT("owner confirmed");
        /* release: a thread that reads the new start has also read that the cursor is beyond the old one */
        atomic_store_explicit(&slot->start, cursor_offset(cursor), memory_order_release);
        atomic_store_explicit(&slot->state, state_of(++sequence, CLAIM_INTENT), memory_order_release);
        POINT("intent stored");
        if (twl_area_is_lost(area)) /* no other process would see the intent */
            return CLAIM_LOST;
    } while (!atomic_compare_exchange_strong_explicit(&area->cursor, &cursor,
                                                      cursor_of(cursor_offset(cursor) + size, owner),
                                                      memory_order_seq_cst, memory_order_acquire));
    POINT("cursor moved");
    if (twl_area_is_lost(area))
        return CLAIM_LOST;
    *ret_start = cursor_offset(cursor);
    return CLAIM_MADE;
}

void twl_claim_done(struct area *area, unsigned owner)
{
    twl_claim_drop(area_slot(area, owner));
}

void twl_claim_drop(struct slot *slot)
{
    const uint64_t sequence = atomic_load_explicit(&slot->state, memory_order_relaxed) / CLAIM_KINDS;
    atomic_store_explicit(&slot->state, state_of(sequence, CLAIM_FREE), memory_order_release);
}

uint64_t twl_claim_settle(struct area *area)
{
    const uint64_t cursor = atomic_load(&area->cursor);
    confirm(area, cursor);
    return cursor;
}

bool twl_claim_is_open(const struct slot *slot, uint64_t *ret_state, uint64_t *ret_start, uint64_t *ret_size)
{
    *ret_state = atomic_load(&slot->state);
    *ret_start = atomic_load_explicit(&slot->start, memory_order_acquire);
    *ret_size = atomic_load_explicit(&slot->size, memory_order_acquire);
    return slot_kind(*ret_state) == CLAIM_CLAIMED;
}

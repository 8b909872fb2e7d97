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
    if (cursor_owner(cursor) - 1 >= PARTICIPANTS * SLOTS) /* none, or of another process's making */
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

static enum claim_result probe_claim(const struct area *area, uint64_t cursor, uint64_t size,
                                     uint64_t max_bytes)
{
    const uint64_t start = cursor_offset(cursor), end = start + size;
    if (max_bytes > 0 && start > 0 && end > max_bytes)
        return CLAIM_NEEDS_NEXT;
    if (end > atomic_load_explicit(&area->file_bytes, memory_order_acquire))
        return CLAIM_NEEDS_ROOM;
    return CLAIM_MADE;
}

enum claim_result twl_claim(struct area *area, unsigned owner, uint64_t size, uint64_t max_bytes,
                            uint64_t *ret_start)
{
    struct slot *slot = area_slot(area, owner);
    uint64_t sequence = atomic_load_explicit(&slot->state, memory_order_relaxed) / CLAIM_KINDS;
    uint64_t cursor = atomic_load_explicit(&area->cursor, memory_order_acquire);

    /* release: a thread that reads the new size has also read that the cursor is beyond the claim before */
    atomic_store_explicit(&slot->size, size, memory_order_release);
    do {
        const enum claim_result result = probe_claim(area, cursor, size, max_bytes);
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
        if (twl_mapping_is_lost(area)) /* no other process would see the intent */
            return CLAIM_LOST;
    } while (!atomic_compare_exchange_strong_explicit(&area->cursor, &cursor,
                                                      cursor_of(cursor_offset(cursor) + size, owner),
                                                      memory_order_seq_cst, memory_order_acquire));
    POINT("cursor moved");
    if (twl_mapping_is_lost(area))
        return CLAIM_LOST;

    *ret_start = cursor_offset(cursor);
    return CLAIM_MADE;
}

void twl_claim_end(struct slot *slot, enum claim_kind kind)
{
    const uint64_t sequence = atomic_load_explicit(&slot->state, memory_order_relaxed) / CLAIM_KINDS;
    atomic_store_explicit(&slot->state, state_of(sequence, kind), memory_order_release);
}

void twl_claim_settle(struct area *area)
{
    confirm(area, atomic_load(&area->cursor));
}

/* The cursor is read before the slots, so every open claim below it is on record there, confirmed or named by the
 * cursor. */
uint64_t twl_claim_copied(struct area *area)
{
    const uint64_t cursor = atomic_load(&area->cursor);
    uint64_t end = cursor_offset(cursor);

    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        for (unsigned i = 0; atomic_load(&area->is_used[n]) && i < SLOTS; i++) {
            const struct claim claim = twl_claim_read(&area_participant(area, n)->slots[i]);
            const bool is_named =
                cursor_owner(cursor) == area_owner(n, i) && claim.start + claim.size == cursor_offset(cursor);
            if (claim.kind >= CLAIM_CLAIMED || (claim.kind == CLAIM_INTENT && is_named))
                end = min_u64(end, claim.start);
        }

    return end;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See open_group.h. */
#define _GNU_SOURCE
#include "mapped/open_group.h"

#include "base/bytes.h"
#include "base/point.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define UNIT 8u /* of offsets in the cursor */

static _Atomic uint64_t *word_at(const struct open_group *group, uint64_t offset)
{
    return (_Atomic uint64_t *)(void *)(group->bytes + offset);
}

static uint64_t load_word(const struct open_group *group, uint64_t offset)
{
    return le64toh(atomic_load_explicit(word_at(group, offset), memory_order_acquire));
}

/* Does a record of that size lie in the group? Sizes and offsets are in the file: any process may have stored them. */
static bool is_inside(const struct open_group *group, uint64_t offset, uint32_t size)
{
    return offset <= group->end && twl_record_bytes(size) <= group->end - offset;
}

/* ---- the cursor ---------------------------------------------------------------------------------- */

static uint64_t pack(uint64_t offset, uint32_t count)
{
    return offset / UNIT << 32 | count;
}

static uint64_t offset_of(uint64_t cursor)
{
    return (cursor >> 32) * UNIT;
}

void twl_open_group_begin(struct open_group *group)
{
    uint64_t none = 0;
    atomic_compare_exchange_strong(group->cursor, &none, pack(OPEN_RECORDS_OFFSET, 0));
}

/* Moves the cursor behind a record of that size, unless another thread has moved it. */
static void move_on(const struct open_group *group, uint64_t cursor, uint32_t size)
{
    const uint64_t next = pack(offset_of(cursor) + twl_record_bytes(size), (uint32_t)cursor + 1);
    atomic_compare_exchange_strong(group->cursor, &cursor, next);
}

uint32_t twl_open_group_count(const struct open_group *group)
{
    return (uint32_t)atomic_load_explicit(group->cursor, memory_order_acquire);
}

uint64_t twl_open_group_offset(const struct open_group *group)
{
    return offset_of(atomic_load_explicit(group->cursor, memory_order_acquire));
}

/* Moves the cursor behind the place where it stands: -EAGAIN; not behind the claim that ends the group: 0. A claim
 * there means that its owner has not moved the cursor yet; a complete record, that the kernel found no room on the disk
 * for the page of the cursor, and dropped it. -EIO: there is neither. No place passes through such a state, so another
 * try is useless. */
static int pass_place(const struct open_group *group, uint64_t cursor)
{
    struct open_walk walk = { offset_of(cursor), (uint32_t)cursor };
    struct record_header record;
    uint32_t size;

    if (twl_open_group_owner(group, &walk, &size) == 0) {
        if (!twl_open_group_pass(group, &walk, &record))
            return -EIO;

        size = record.size;
    }

    if (size == CLAIM_END)
        return 0;

    move_on(group, cursor, size);
    return -EAGAIN;
}

void twl_open_group_help(const struct open_group *group)
{
    (void)pass_place(group, atomic_load(group->cursor));
}

/* ---- claims -------------------------------------------------------------------------------------- */

/* Claims the place at the cursor: 1 = claimed. Otherwise as pass_place(). */
static int try_claim(struct open_group *group, uint64_t cursor, uint32_t size)
{
    const uint64_t offset = offset_of(cursor), lsn = group->first_lsn + (uint32_t)cursor;
    const uint64_t claim = htole64(twl_claim_encode(group->epoch_seed, lsn, size, group->owner));
    uint64_t none = 0;

    if (load_word(group, offset) != 0 ||
        !atomic_compare_exchange_strong(word_at(group, offset), &none, claim))
        return pass_place(group, cursor);

    POINT(size == CLAIM_END ? "end-claimed" : "place-claimed");
    if (size != CLAIM_END)
        move_on(group, cursor, size);
    POINT("cursor-moved");
    return 1;
}

int twl_open_group_claim(struct open_group *group, uint32_t size, struct place *ret_place)
{
    for (;;) {
        const uint64_t cursor = atomic_load_explicit(group->cursor, memory_order_acquire);
        if (offset_of(cursor) > group->end)
            return -EIO;

        const bool fits = is_inside(group, offset_of(cursor), size) && (uint32_t)cursor < UINT32_MAX;
        int claimed;
        if (fits)
            claimed = try_claim(group, cursor, size);
        else
            claimed = try_claim(group, cursor, CLAIM_END);

        if (claimed == -EAGAIN)
            continue;
        if (claimed <= 0)
            return claimed;
        if (!fits) /* the claim ends the group */
            return 0;

        ret_place->at = group->bytes + offset_of(cursor);
        ret_place->lsn = group->first_lsn + (uint32_t)cursor;
        return 1;
    }
}

bool twl_open_group_is_lost(const struct open_group *group)
{
    return group->io->ops->check_map(group->io, group->bytes) < 0;
}

int twl_open_group_complete(struct open_group *group, const struct place *place,
                            const struct record_header *record)
{
    POINT("record-copied");
    const uint64_t word = twl_record_encode_open(place->at, group->epoch_seed, place->lsn, record);
    POINT("record-encoded");
    if (twl_open_group_is_lost(group))
        return -EIO;

    atomic_store_explicit((_Atomic uint64_t *)(void *)place->at, htole64(word), memory_order_release);
    POINT("record-complete");
    if (twl_open_group_is_lost(group))
        return -EIO;
    return 0; /* again, because the store may have lost the page */
}

/* ---- walking ------------------------------------------------------------------------------------- */

int twl_open_group_pass(const struct open_group *group, struct open_walk *walk,
                        struct record_header *ret_record)
{
    const uint64_t lsn = group->first_lsn + walk->count;
    uint32_t size;
    uint8_t owner;

    if (!is_inside(group, walk->offset, 0))
        return 0;

    const uint64_t word = load_word(group, walk->offset), stored = htole64(word);
    if (word == 0 || twl_claim_decode(word, group->epoch_seed, lsn, &size, &owner))
        return 0;

    unsigned char header[RECORD_HEADER_BYTES];
    memcpy(header, &stored, sizeof(stored));
    memcpy(header + sizeof(stored), group->bytes + walk->offset + sizeof(stored),
           sizeof(header) - sizeof(stored));
    if (!twl_record_header_decode(header, group->epoch_seed, lsn, ret_record) ||
        !is_inside(group, walk->offset, ret_record->size))
        return 0;

    twl_open_group_skip(walk, ret_record->size);
    return 1;
}

bool twl_open_group_is_gone(const struct open_group *group, const struct open_walk *walk)
{
    struct open_walk behind = *walk;
    struct record_header record;
    uint32_t size;
    /* a claim that becomes a record between the two reads is found by the second one */
    return twl_open_group_owner(group, walk, &size) == 0 && !twl_open_group_pass(group, &behind, &record);
}

/* ---- dead participants --------------------------------------------------------------------------- */

unsigned twl_open_group_owner(const struct open_group *group, const struct open_walk *walk,
                              uint32_t *ret_size)
{
    const uint64_t lsn = group->first_lsn + walk->count;
    uint8_t owner;

    if (walk->offset > group->end ||
        !twl_claim_decode(load_word(group, walk->offset), group->epoch_seed, lsn, ret_size, &owner))
        return 0;
    if (*ret_size == CLAIM_END || is_inside(group, walk->offset, *ret_size))
        return owner;
    return 0;
}

void twl_open_group_skip(struct open_walk *walk, uint32_t size)
{
    walk->offset += twl_record_bytes(size);
    walk->count++;
}

/* All participants store the same bytes here, so one that was stopped in the middle may go on at any time. */
bool twl_open_group_fill(const struct open_group *group, const struct open_walk *walk, uint32_t size,
                         int64_t time_ns)
{
    const struct record_header record = { .kind = RECORD_FILLER, .size = size, .time_ns = time_ns };
    const uint64_t lsn = group->first_lsn + walk->count;
    unsigned char *at = group->bytes + walk->offset;
    uint64_t word = load_word(group, walk->offset), claimed = htole64(word);
    uint32_t claimed_size;
    uint8_t owner;

    if (!twl_claim_decode(word, group->epoch_seed, lsn, &claimed_size, &owner)) /* another was faster */
        return true;

    memset(at + RECORD_HEADER_BYTES, 0, (size_t)twl_record_bytes(size) - RECORD_HEADER_BYTES);
    POINT("dead-cleared");
    word = htole64(twl_record_encode_open(at, group->epoch_seed, lsn, &record));
    POINT("dead-encoded");
    if (twl_open_group_is_lost(group))
        return false;

    atomic_compare_exchange_strong(word_at(group, walk->offset), &claimed, word);
    POINT("dead-filled");
    return true;
}

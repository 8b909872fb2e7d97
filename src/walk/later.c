/* SPDX-License-Identifier: Apache-2.0 */
/* What lies behind the place where a walk stopped. */
#include "walk/segment_iter_inside.h"

#include "base/bytes.h"

#define MOST_AT_ONCE (UINT64_C(1) << 20)

bool twl_group_proves(const struct group_header *group, struct position stop)
{
    /* Either the group names the missing record as durable, or nothing was in flight when it was written,
     * so that everything in front of it was durable, markers without records included. */
    return group->durable_lsn >= stop.next_lsn || group->durable_lsn == group->first_lsn - 1;
}

/* What a crash discards comes behind a torn group. That one was never durable, and none of those behind it names it.
 * What was written later lies behind the place of the torn group, and nothing discarded is in between. A group that was
 * open is the first with records in its segment, and gets its header when they are durable. */
static bool confirms(const struct group_header *group, const struct later_groups *later)
{
    const uint64_t named_lsn = group->durable_lsn + 1;
    return (group->flags & GROUP_MAPPED) || named_lsn == group->first_lsn ||
           (is_same_epoch(group->epoch, later->epoch) && named_lsn >= later->first_lsn);
}

static int look_for_group(const struct segment_iter *cursor, const unsigned char *bytes, uint64_t offset,
                          struct position stop, struct later_groups *later)
{
    struct group_header group;
    enum decoded decoded = twl_group_header_maybe(bytes)
                               ? twl_group_header_judge(bytes, cursor->segment->seed, offset, &group)
                               : DECODED_NONE;
    if (decoded == DECODED_NONE)
        return 0;
    bool is_stale = group.epoch.number < stop.epoch.number ||
                    (group.epoch.number == stop.epoch.number && group.epoch.salt != stop.epoch.salt);
    /* The torn group itself would have continued here. */
    bool is_it = group.first_lsn == stop.next_lsn && group.chain == stop.chain;
    if (is_stale || is_it || group.first_lsn < stop.next_lsn)
        return 0;
    if (later->offset == 0) {
        later->offset = offset;
        later->first_lsn = group.first_lsn;
        later->epoch = group.epoch;
    }
    later->end = max_u64(later->end, offset + group.bytes);
    later->last_lsn = max_u64(later->last_lsn, group.first_lsn + group.count - 1);
    later->named_lsn = max_u64(later->named_lsn, group.durable_lsn);
    if (is_same_epoch(group.epoch, later->epoch))
        later->sure_lsn = max_u64(later->sure_lsn, group.durable_lsn);
    later->is_confirmed = later->is_confirmed || confirms(&group, later);
    later->is_proof = later->is_proof || twl_group_proves(&group, stop);
    return decoded == DECODED_NEWER ? TWINLOG_EVERSION : 0;
}

/* A search begins in a block if its first bytes are less than the gap away. */
static size_t left_to_search(uint64_t at, uint64_t gap_end, uint64_t end)
{
    return (size_t)(min_u64(align_up(gap_end, BLOCK_BYTES) + GROUP_HEADER_BYTES, end) - at);
}

int twl_iter_find_later(struct segment_iter *cursor, uint64_t from, uint64_t gap, struct position stop,
                        struct later_groups *ret_later)
{
    *ret_later = (struct later_groups){ 0 };
    const uint64_t end = cursor->segment->data_end;
    uint64_t at = align_up(from, 8);
    while (at + GROUP_HEADER_BYTES <= end &&
           (at <= ret_later->end || at - max_u64(from, ret_later->end) < gap)) {
        /* Up to the end of the block; a header may reach into the next one. */
        uint64_t block_end = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
        uint64_t last = min_u64(block_end - 8, end - GROUP_HEADER_BYTES);
        size_t size = (size_t)(last - at) + GROUP_HEADER_BYTES;
        int error;
        if (gap < MOST_AT_ONCE &&
            !is_inside(&cursor->window, at, size)) /* what is left, and no more than that */
            (void)twl_iter_bytes(cursor, at, left_to_search(at, max_u64(from, ret_later->end) + gap, end),
                                 &error);
        const unsigned char *bytes = twl_iter_bytes(cursor, at, size, &error);
        if (!bytes)
            return error;
        uint64_t offset = are_zeros(bytes, size) ? last + 8 : at;
        for (; error == 0 && offset <= last; offset += 8)
            error = look_for_group(cursor, bytes + (offset - at), offset, stop, ret_later);
        if (error < 0)
            return error;
        at = block_end;
    }
    return 0;
}

int twl_iter_enter_later(struct segment_iter *cursor, struct later_groups *ret_later)
{
    struct position stop = cursor->position;
    uint64_t from = cursor->offset;
    for (;;) {
        int rc = twl_iter_find_later(cursor, from, UINT64_MAX, stop, ret_later);
        if (rc < 0 || ret_later->offset == 0)
            return rc;
        twl_iter_place_at(cursor, ret_later->offset, (struct position){ 0 });
        rc = twl_iter_enter_at(cursor, ret_later->offset, PLACE_ANY);
        if (rc != 0)
            return rc;
        from = ret_later->offset + 8; /* a group can't be here */
    }
}

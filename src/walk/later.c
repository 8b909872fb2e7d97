/* SPDX-License-Identifier: Apache-2.0 */
/* What lies behind the place where a walk stopped. */
#include "walk/segment_iter_inside.h"

#include "base/bytes.h"

#define SMALL_GAP_BYTES (UINT64_C(1) << 20)

bool twl_group_proves(const struct group_header *group, struct position stop)
{
    const bool names_stop = group->durable_lsn >= stop.next_lsn;
    /* Then everything in front of it was durable when it was written, markers without records included. */
    const bool nothing_was_in_flight = group->durable_lsn == group->first_lsn - 1;

    return names_stop || nothing_was_in_flight;
}

/* Does the group prove that no crash has discarded the first one of those that were found?
 *
 * What a crash discards comes behind a torn group. That one was never durable, and none of those behind it names it.
 * What was written later lies behind the place of the torn group, and nothing discarded is in between. A group that was
 * open is the first with records in its segment, and gets its header when they are durable. */
static bool confirms(const struct group_header *group, const struct later_groups *later)
{
    const uint64_t named_lsn = group->durable_lsn + 1;

    if (group->flags & GROUP_MAPPED)
        return true;
    if (named_lsn == group->first_lsn)
        return true;
    return is_same_epoch(group->epoch, later->epoch) && named_lsn >= later->first_lsn;
}

/* Does the group tell anything of what is missing at the stop? What is older does not, nor does the group that was torn
 * there. */
static bool counts(const struct group_header *group, struct position stop)
{
    const struct epoch *epoch = &group->epoch;
    const bool is_older = epoch->number < stop.epoch.number;
    const bool is_of_other_history = epoch->number == stop.epoch.number && epoch->salt != stop.epoch.salt;
    /* The torn group itself would have continued here. */
    const bool is_torn_one = group->first_lsn == stop.next_lsn && group->chain == stop.chain;

    if (is_older || is_of_other_history || is_torn_one)
        return false;
    return group->first_lsn >= stop.next_lsn;
}

static void add_group(struct later_groups *later, uint64_t offset, const struct group_header *group,
                      struct position stop)
{
    if (later->offset == 0) {
        later->offset = offset;
        later->first_lsn = group->first_lsn;
        later->epoch = group->epoch;
    }
    later->end = max_u64(later->end, offset + group->bytes);
    later->last_lsn = max_u64(later->last_lsn, group->first_lsn + group->count - 1);
    later->named_lsn = max_u64(later->named_lsn, group->durable_lsn);
    if (is_same_epoch(group->epoch, later->epoch))
        later->sure_lsn = max_u64(later->sure_lsn, group->durable_lsn);
    if (confirms(group, later))
        later->is_confirmed = true;
    if (twl_group_proves(group, stop))
        later->is_proof = true;
}

static int look_for_group(const struct segment_iter *iter, const unsigned char *bytes, uint64_t offset,
                          struct position stop, struct later_groups *later)
{
    struct group_header group;

    if (!twl_group_header_maybe(bytes))
        return 0;
    const enum decoded decoded = twl_group_header_judge(bytes, iter->segment->seed, offset, &group);
    if (decoded == DECODED_NONE || !counts(&group, stop))
        return 0;
    add_group(later, offset, &group, stop);
    return decoded == DECODED_NEWER ? TWINLOG_EVERSION : 0;
}

/* A search of so many bytes behind a place, or behind a group that was found. */
struct later_search {
    uint64_t from, gap;
    uint64_t end; /* of the segment's data */
    struct position stop;
};

/* Is a group that begins there still near enough? */
static bool is_within_gap(const struct later_search *search, uint64_t at, const struct later_groups *later)
{
    if (at <= later->end)
        return true;
    return at - max_u64(search->from, later->end) < search->gap;
}

/* Reads what is left to search, and no more than that. A search begins in a block if its first bytes are within the
 * gap. What can't be read is told when it is looked at. */
static void read_ahead(struct segment_iter *iter, const struct later_search *search, uint64_t at,
                       const struct later_groups *later)
{
    const uint64_t gap_end = max_u64(search->from, later->end) + search->gap;
    const uint64_t end = min_u64(align_up(gap_end, BLOCK_BYTES) + GROUP_HEADER_BYTES, search->end);
    int error;

    (void)twl_iter_bytes(iter, at, (size_t)(end - at), &error);
}

/* Looks for groups that begin there or behind it, up to the end of the block; a header may reach into the next one. */
static int search_block(struct segment_iter *iter, const struct later_search *search, uint64_t at,
                        uint64_t block_end, struct later_groups *later)
{
    const uint64_t last = min_u64(block_end - 8, search->end - GROUP_HEADER_BYTES);
    const size_t size = (size_t)(last - at) + GROUP_HEADER_BYTES;
    int error;

    if (search->gap < SMALL_GAP_BYTES && !is_inside(&iter->window, at, size))
        read_ahead(iter, search, at, later);
    const unsigned char *bytes = twl_iter_bytes(iter, at, size, &error);
    if (!bytes)
        return error;
    if (are_zeros(bytes, size))
        return 0;

    for (uint64_t offset = at; offset <= last; offset += 8) {
        const int rc = look_for_group(iter, bytes + (offset - at), offset, search->stop, later);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Where the data ends that the file has: a header may claim any size, and behind the file there is no group. */
static int find_end_of_data(const struct segment *segment, uint64_t *ret_end)
{
    uint64_t file_bytes;

    const int rc = io_size(segment->file, &file_bytes);
    if (rc < 0)
        return rc;
    *ret_end = min_u64(segment->data_end, align_up(file_bytes, BLOCK_BYTES));
    return 0;
}

int twl_iter_find_later(struct segment_iter *iter, uint64_t from, uint64_t gap, struct position stop,
                        struct later_groups *ret_later)
{
    struct later_search search = { .from = from, .gap = gap, .stop = stop };
    uint64_t at = align_up(from, 8);

    *ret_later = (struct later_groups){ 0 };
    const int found = find_end_of_data(iter->segment, &search.end);
    if (found < 0)
        return found;

    while (at + GROUP_HEADER_BYTES <= search.end && is_within_gap(&search, at, ret_later)) {
        const uint64_t block_end = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, search.end);

        const int rc = search_block(iter, &search, at, block_end, ret_later);
        if (rc < 0)
            return rc;
        at = block_end;
    }
    return 0;
}

int twl_iter_enter_later(struct segment_iter *iter, struct later_groups *ret_later)
{
    const struct position stop = iter->position;
    uint64_t from = iter->offset;

    for (;;) {
        const int rc = twl_iter_find_later(iter, from, UINT64_MAX, stop, ret_later);
        if (rc < 0 || ret_later->offset == 0)
            return rc;

        twl_iter_place_at(iter, ret_later->offset, (struct position){ 0 });
        const int result = twl_iter_enter_at(iter, ret_later->offset, PLACE_ANY);
        if (result != 0)
            return result;
        from = ret_later->offset + 8; /* a group can't be here */
    }
}

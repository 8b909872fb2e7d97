/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completes the open groups that a dead writer has left, by the steps of docs/recovery.md (Open groups).
 *
 * A mapped log writes records into a group that has no header yet: the group is open. In the place of each record there
 * is first a claim, which says how large it is to be. Recovery finds where the log ends, as a rule in one of the open
 * groups. Here each open group up to that end gets its header, so that the log is an ordinary one:
 *
 *  - Claims of records that were never finished become fillers, which readers skip.
 *  - The file is synced, and its records are read once more, from the disk.
 *  - The header is written over the place that was kept for it, and synced. Now the group is closed.
 *
 * In the segment with the end this comes last. The footer of that segment and all later segments are removed before:
 * no record that counts is in them.
 *
 * Segments are completed oldest first, because recovery begins at the oldest open group and does not ask a closed one
 * whether the next segment continues it. A crash leaves fewer open groups, or fewer later segments, and the same end.
 *
 * Bytes behind the last record of a group stay where they are. No walk goes beyond a group that has a header. A group
 * of which no record is whole gets none. It is settled again, or the marker of the next epoch overwrites its first
 * bytes before any append. Only in the segment with the end, the rest of the block in which the records end becomes
 * zero: the next marker goes there, and recovery takes zeros for an end.
 */
#include "recover/recover.h"

#include "base/bytes.h"
#include "base/point.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (1024u * 1024)

/* The first bytes of a record. A process writes them last, in one store: then the record is complete. */
#define WORD_BYTES sizeof(uint64_t)

/* What was found in an open group. */
struct open_records {
    struct group_header group; /* the header that it is to get; a count of 0: no record is whole */
    uint64_t end;              /* where its records end */
    bool is_last;              /* no other group comes behind it in the segment */
};

/* Overwrites the claim that the iterator has just passed. */
static int write_filler(const struct segment *segment, const struct segment_iter *iter, int64_t time_ns)
{
    const uint64_t at = iter->entered_offset;
    const size_t bytes = (size_t)(iter->offset - at);
    const struct record_header record = { .kind = RECORD_FILLER,
                                          .size = (uint32_t)(bytes - RECORD_HEADER_BYTES),
                                          .time_ns = time_ns };

    unsigned char *filler = calloc(1, bytes);
    if (!filler)
        return -ENOMEM;
    twl_record_encode(filler, iter->epoch_seed, iter->position.next_lsn - 1, &record, NULL);

    int rc = io_write_at(segment->file, filler + WORD_BYTES, bytes - WORD_BYTES, at + WORD_BYTES);
    POINT("void-half-written");
    if (rc == 0)
        rc = io_write_at(segment->file, filler, WORD_BYTES, at);
    POINT("void-written");
    free(filler);
    return rc;
}

/* Goes through the records of the open group, behind the marker that the iterator is in. Claims that the iterator
 * passes are overwritten by fillers, with the time of the marker: it is not newer than what follows. */
static int fill_claims_behind_marker(struct segment_iter *iter, struct open_records *ret_records)
{
    const int64_t began_ns = iter->group.time_ns;

    for (;;) {
        const int accepted = twl_iter_accept_group(iter);
        if (accepted < 0)
            return accepted;

        const bool is_record = accepted > 0 && iter->is_open;
        if (!is_record) {
            ret_records->is_last = accepted == 0;
            return 0;
        }

        if (iter->is_claim) {
            const int rc = write_filler(iter->segment, iter, began_ns);
            if (rc < 0)
                return rc;
        }
        ret_records->group = iter->group;
        ret_records->end = iter->offset;
    }
}

/* Walks the open group of the segment. If `fills_claims`, each claim among its records becomes a filler. Else nothing
 * is written, and the first claim ends the records. */
static int walk_open_group(const struct segment *segment, bool fills_claims, struct open_records *ret_records)
{
    struct segment_iter iter = { .window_bytes = WINDOW_BYTES, .passes_claims = fills_claims };
    int rc = 0;

    twl_iter_begin(&iter, segment, twl_position_before(&segment->header));
    const int accepted = twl_iter_accept_group(&iter); /* the marker */
    *ret_records = (struct open_records){ .end = iter.offset, .is_last = accepted == 0 };
    if (accepted > 0)
        rc = fill_claims_behind_marker(&iter, ret_records);
    else
        rc = accepted;

    twl_iter_free(&iter);
    return rc;
}

static int write_zeros(const struct segment *segment, uint64_t from, uint64_t to)
{
    static const unsigned char zeros[BLOCK_BYTES];

    if (from >= to)
        return 0;
    return io_write_at(segment->file, zeros, (size_t)(to - from), from);
}

/* The rest of the last block of the log becomes zero. */
static int clean_end(const struct segment *segment, const struct open_records *records)
{
    const uint64_t block_end = align_up(records->end, BLOCK_BYTES);

    return write_zeros(segment, records->end, min_u64(block_end, segment->data_end));
}

/* Reads the records once more. They were synced: if they end elsewhere now, something has failed without an error. */
static int check_records(const struct segment *segment, const struct open_records *records)
{
    struct open_records again;

    const int rc = walk_open_group(segment, false, &again);
    if (rc < 0)
        return rc;
    if (again.end != records->end)
        return -EIO;
    return 0;
}

static int write_header(const struct segment *segment, struct group_header *group)
{
    struct io_file *file = segment->file;
    unsigned char bytes[GROUP_HEADER_BYTES];

    group->durable_lsn = group->first_lsn - 1; /* everything in front was settled before */
    group->time_ns = file->io->ops->now_ns(file->io);
    twl_group_header_encode(group, segment->seed, OPEN_GROUP_OFFSET, bytes);

    int rc = io_write_at(file, bytes, sizeof(bytes), OPEN_GROUP_OFFSET);
    POINT("settled-closed");
    if (rc == 0)
        rc = io_sync(file);
    POINT("settled-close-synced");
    return rc;
}

/* `has_end`: the log ends in this segment. */
static int close_group(const struct segment *segment, bool has_end)
{
    struct open_records records;

    int rc = walk_open_group(segment, true, &records);
    if (rc == 0 && has_end && records.is_last)
        rc = clean_end(segment, &records);
    POINT("end-cleaned");

    if (rc == 0)
        rc = io_sync(segment->file);
    POINT("settled-synced");

    if (rc == 0)
        rc = check_records(segment, &records);
    if (rc < 0)
        return rc;

    if (records.group.count == 0) /* a group without a record gets no header */
        return 0;
    return write_header(segment, &records.group);
}

static int refuse_to_remove(struct twinlog_report *ret_report, const struct segment_entry *entry, int error)
{
    twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot remove %s: %s",
               entry->name, twinlog_strerror(error));
    twl_report_place(ret_report, entry->name, entry->header.sequence, 0, 0);
    return error;
}

/* Removes the segments behind `index`, spares too. Newest first: a gap in the sequence would count as damage. */
static int remove_later(struct io *io, const struct segment_set *set, size_t index,
                        struct twinlog_report *ret_report)
{
    for (size_t i = set->started + set->spares; i > index + 1; i--) {
        int rc = io->ops->unlink(io, set->entries[i - 1].name);
        if (rc == 0 || rc == -ENOENT)
            rc = io->ops->sync_dir(io);
        POINT("later-removed");
        if (rc < 0)
            return refuse_to_remove(ret_report, &set->entries[i - 1], rc);
    }
    return 0;
}

/* The log will go on in the segment with the end. A footer would say that something came behind it. */
static int remove_footer_and_later(struct io *io, const struct segment_set *set, size_t index,
                                   struct segment *segment, struct twinlog_report *ret_report)
{
    const int rc = twl_segment_unseal(segment);
    if (rc < 0)
        return rc;
    return remove_later(io, set, index, ret_report);
}

static int settle_segment(struct io *io, const struct segment_set *set, size_t index,
                          const struct recovery *end, struct twinlog_report *ret_report)
{
    const bool has_end = index == end->index;
    const bool is_newest = index + 1 >= set->started;
    const bool has_open_group = index >= end->open_from; /* the log may end in front of all open groups */
    struct segment segment;

    int rc = twl_segment_open(io, set->entries[index].name, 0, DEAD_WRITER_WAIT_MS, &segment, NULL);
    if (rc < 0)
        return rc;

    if (has_end && !is_newest)
        rc = remove_footer_and_later(io, set, index, &segment, ret_report);
    if (rc == 0 && has_open_group)
        rc = close_group(&segment, has_end);
    twl_segment_close(&segment);
    return rc;
}

/* Oldest first. */
static int settle_segments(struct io *io, const struct segment_set *set, const struct recovery *end,
                           struct twinlog_report *ret_report)
{
    int rc = io->ops->sync_dir(io); /* what an opening that was killed has removed must not come back later */

    for (size_t i = min_u64(end->open_from, end->index); rc == 0 && i <= end->index; i++)
        rc = settle_segment(io, set, i, end, ret_report);
    return rc;
}

static int refuse_to_settle(struct twinlog_report *ret_report, int error)
{
    /* What was called has reported it already, with the name of the file. */
    if (ret_report->error == error)
        return error;

    twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error,
               "cannot complete the open groups of the newest segments: %s", twinlog_strerror(error));
    return error;
}

int twl_settle(struct io *io, const struct segment_set *set, struct twinlog_report *ret_report)
{
    struct recovery end;
    bool is_newest_open;

    if (set->started == 0)
        return 0;

    /* If the newest segment has no open group, none has. */
    int rc = twl_segment_is_open(io, &set->entries[set->started - 1], &is_newest_open, ret_report);
    if (rc < 0)
        return refuse_to_settle(ret_report, rc);
    if (!is_newest_open)
        return 0;

    rc = twl_recover(io, set, false, NULL, &end);
    *ret_report = end.report;
    if (rc < 0)
        return rc;

    rc = settle_segments(io, set, &end, ret_report);
    if (rc < 0)
        return refuse_to_settle(ret_report, rc);
    return 1;
}

int twl_settle_remove_spares(struct io *io, struct segment_set *set, struct twinlog_report *ret_report)
{
    struct segment_entry *spares = set->entries + set->started;

    const int rc = remove_later(io, set, set->started - 1, ret_report);
    if (rc < 0)
        return rc;

    memmove(spares, spares + set->spares, set->retired * sizeof(*spares));
    set->spares = 0;
    return 0;
}

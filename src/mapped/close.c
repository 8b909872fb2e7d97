/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives groups their headers. See inside.h.
 *
 * A crash leaves a valid log because a group gets its header only when its records are durable. So a header
 * never covers a record that may be missing, and a group without one is valid as far as its records check
 * (segment/settle.h).
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/bytes.h"
#include "base/point.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- a group ----------------------------------------------------------------------------------- */

/* Without records the marker is the segment's last group. In shared mode, every participant composes the same
 * bytes. */
static void compose_last(struct mapped *m, struct mapped_segment *seg,
                         unsigned char bytes[GROUP_HEADER_BYTES]) REQUIRES(m->syncing)
{
    seg->last = seg->start;
    if (seg->walk.count == 0)
        return;
    seg->last =
        (struct group_header){ .first_lsn = seg->group.first_lsn,
                               .count = seg->walk.count,
                               .bytes = (uint32_t)(seg->walk.offset - OPEN_GROUP_OFFSET),
                               .durable_lsn = seg->start.durable_lsn,
                               .chain = seg->start.checksum,
                               .epoch = seg->start.epoch,
                               .kind = GROUP_RECORDS,
                               .flags = GROUP_MAPPED,
                               .time_ns = m->participants ? seg->start.time_ns : m->io->ops->now_ns(m->io) };
    twl_group_header_encode(&seg->last, seg->segment.seed, OPEN_GROUP_OFFSET, bytes);
}

/* Through the mapping. */
static int close_group(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    int rc = twl_mapped_sync_up_to(m, seg);
    if (rc < 0 || seg->is_closed)
        return rc;
    compose_last(m, seg, header);
    if (seg->walk.count > 0) {
        POINT("last-group-open");
        memcpy(seg->group.bytes + OPEN_GROUP_OFFSET, header, sizeof(header));
        POINT("last-group-closed");
        seg->synced = SEGMENT_DATA_OFFSET;
        rc = twl_mapped_sync_bytes(m, seg, seg->walk.offset);
    }
    seg->is_closed = rc == 0;
    return rc;
}

/* Through the file, not the mapping: while a page is mapped, the kernel protects it against writing before it
 * writes it to the disk, and interrupts the other processors for that. */
static int close_file(struct mapped *m, struct mapped_segment *seg, struct io_file *file,
                      const unsigned char header[GROUP_HEADER_BYTES]) REQUIRES(m->syncing)
{
    atomic_fetch_add(&m->syncs, 2);
    int rc = io_sync_data(file);
    POINT("left-synced");
    if (rc == 0)
        twl_mapped_tell_durable(m, seg->group.first_lsn + seg->walk.count - 1);
    if (rc == 0 && seg->walk.count > 0)
        rc = io_write_at(file, header, GROUP_HEADER_BYTES, OPEN_GROUP_OFFSET);
    POINT("left-closed");
    if (rc == 0)
        rc = io_sync_data(file);
    POINT("left-close-synced");
    return rc < 0 ? twl_mapped_fail(m, rc) : 0;
}

static int summarise(struct mapped *m, struct mapped_segment *seg, struct summary *summary,
                     uint64_t *ret_payload_bytes) REQUIRES(m->syncing)
{
    const uint32_t count = twl_open_group_count(&seg->group);
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    uint64_t payload_bytes = 0;
    int rc = 0;
    twl_summary_begin(summary, INT64_MIN);
    twl_summary_end_group(summary, &seg->start, SEGMENT_DATA_OFFSET);
    while (walk.count < count) {
        const uint64_t lsn = seg->group.first_lsn + walk.count, offset = walk.offset - OPEN_GROUP_OFFSET;
        rc = twl_mapped_await_copy(m, seg, &walk, &record);
        if (rc < 0)
            break;
        twl_summary_add_record(summary, lsn, OPEN_GROUP_OFFSET, (uint32_t)offset, record.time_ns);
        payload_bytes += record.size;
    }
    seg->walk = walk;
    *ret_payload_bytes = payload_bytes;
    return rc;
}

static void end_summary(const struct mapped_segment *seg, struct summary *summary)
{
    if (seg->last.count > 0)
        twl_summary_end_group(summary, &seg->last, OPEN_GROUP_OFFSET);
    summary->chain = seg->start.checksum; /* the group of records is not in the chain */
}

/* Waits until the segment, which was left, is not active any more and no thread is inside; neither takes
 * long. */
static void await_users(const struct mapped *m, const struct mapped_segment *seg)
{
    while (atomic_load(&m->active) == seg || atomic_load(&seg->users) > 0)
        twl_yield();
}

/* ---- by the keeper ----------------------------------------------------------------------------- */

static struct mapped_segment *find(struct mapped *m, uint64_t sequence) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    while (seg && (seg->sequence != sequence || seg->is_placeholder))
        seg = atomic_load(&seg->next);
    return seg;
}

/* Drops the segments before this one that the keeper did not ask for: their files were trimmed. And a
 * placeholder, whose segment has no open group of ours. */
static void drop_trimmed(struct mapped *m, const struct mapped_segment *before) REQUIRES(m->syncing)
{
    for (; m->oldest != before; m->oldest = atomic_load(&m->oldest->next)) {
        await_users(m, m->oldest);
        twl_mapped_segment_unmap(m->oldest);
    }
}

static int close_left(struct mapped *m, struct mapped_segment *seg, struct segment *segment)
    REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    uint64_t payload_bytes;
    int rc = twl_mapped_poison(m);
    const int found = summarise(m, seg, segment->summary, &payload_bytes);
    await_users(m, seg);
    if (rc == 0 && (found < 0 || twl_mapped_segment_is_lost(seg)))
        rc = twl_mapped_fail(m, -EIO);
    const bool is_closed = seg->is_closed;
    if (!is_closed)
        compose_last(m, seg, header);
    end_summary(seg, segment->summary);
    twl_mapped_see_past(m, seg, payload_bytes);
    drop_trimmed(m, seg);
    twl_mapped_segment_unmap(seg);
    if (rc == 0 && !is_closed)
        rc = close_file(m, seg, segment->file, header);
    m->oldest = atomic_load(&seg->next);
    atomic_fetch_add(&m->let_go, 1);
    return rc;
}

int twl_mapped_close_group(void *context, struct segment *segment)
{
    struct mapped *m = context;
    twl_mutex_lock(&m->syncing);
    struct mapped_segment *seg = find(m, segment->header.sequence);
    const int rc = seg ? close_left(m, seg, segment) : 0; /* NULL: from before the opening */
    twl_mutex_unlock(&m->syncing);
    return rc;
}

/* ---- in shared mode -------------------------------------------------------------------------------- */

/* Drops the oldest segment, whose group a participant has closed. */
static void let_go(struct mapped *m) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    twl_mapped_see_through(m, seg);
    await_users(m, seg);
    m->oldest = atomic_load(&seg->next);
    twl_mapped_segment_unmap(seg);
    twl_segment_close(&seg->segment);
    twl_mapped_segment_unlock(seg);
    atomic_fetch_add(&m->let_go, 1);
}

void twl_mapped_let_go_of_closed(struct mapped *m)
{
    while (m->oldest->number < atomic_load(&m->participants->common->oldest) && atomic_load(&m->oldest->next))
        let_go(m);
}

static int give_header(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    if (!twl_participants_try(m->participants, LOCK_TO_SYNC))
        return -EAGAIN;
    m->wanted_lsn = 0;
    int rc = twl_mapped_sync_up_to(m, seg);
    if (rc == 0) {
        compose_last(m, seg, header);
        rc = close_file(m, seg, seg->segment.file, header);
    }
    twl_participants_release(m->participants, LOCK_TO_SYNC);
    return rc;
}

/* An index only makes finding records faster, so a failure to write it is no error. */
static void give_index(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    struct common *common = m->participants->common;
    struct segment *segment = &seg->segment;
    struct segment_footer footer;
    uint64_t payload_bytes;
    int64_t max_time_so_far_ns = INT64_MAX;
    if (!segment->summary && !seg->is_placeholder)
        segment->summary = malloc(sizeof(*segment->summary));
    if (segment->summary && !seg->is_placeholder &&
        summarise(m, seg, segment->summary, &payload_bytes) == 0) {
        end_summary(seg, segment->summary);
        segment->summary->next_lsn = seg->group.first_lsn + seg->walk.count;
        if (twl_segment_seal(segment, atomic_load(&common->max_time_so_far_ns), &footer) == 0)
            max_time_so_far_ns = footer.max_time_so_far_ns;
    }
    atomic_store(&common->max_time_so_far_ns, max_time_so_far_ns);
    POINT("left-sealed");
}

static bool close_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    struct common *common = m->participants->common;
    const bool is_left = atomic_load(&seg->next) != NULL && seg->number == atomic_load(&common->oldest);
    if (!is_left || twl_mapped_poison(m) != 0 || !twl_participants_try(m->participants, LOCK_TO_CLOSE))
        return false;
    bool is_closed = seg->number == atomic_load(&common->oldest) && give_header(m, seg) == 0;
    if (is_closed) {
        give_index(m, seg);
        raise_u64(&common->oldest, seg->number + 1);
        POINT("left-told");
    }
    twl_participants_release(m->participants, LOCK_TO_CLOSE);
    return is_closed;
}

bool twl_mapped_tend(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    twl_mapped_let_go_of_closed(m);
    const bool is_closed = close_oldest(m);
    twl_mapped_let_go_of_closed(m);
    twl_mutex_unlock(&m->syncing);
    return is_closed;
}

/* ---- the log ----------------------------------------------------------------------------------- */

/* The marker of a close is right behind the last record, and is written when all records are durable. */
static int close_log(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    struct group_header marker = { .first_lsn = twl_mapped_segment_next_lsn(seg),
                                   .bytes = GROUP_HEADER_BYTES,
                                   .durable_lsn = twl_mapped_segment_next_lsn(seg) - 1,
                                   .chain = seg->start.checksum,
                                   .epoch = seg->start.epoch,
                                   .kind = GROUP_CLOSE,
                                   .time_ns = m->io->ops->now_ns(m->io) };
    const uint64_t offset = seg->walk.count > 0 ? seg->walk.offset : OPEN_GROUP_OFFSET;
    if (seg->is_placeholder)
        return 0; /* the next opening needs the room more than the marker */
    unsigned char bytes[GROUP_HEADER_BYTES];
    twl_group_header_encode(&marker, seg->segment.seed, offset, bytes);
    POINT("close-unmarked");
    memcpy(seg->group.bytes + offset, bytes, sizeof(bytes));
    POINT("close-marked");
    int rc = twl_mapped_sync_bytes(m, seg, offset + GROUP_HEADER_BYTES);
    twl_mapped_segment_unmap(seg);
    if (rc == 0)
        rc = twl_segment_truncate(&seg->segment, offset + GROUP_HEADER_BYTES);
    if (rc == 0)
        rc = io_sync(seg->segment.file);
    POINT("close-cut");
    return rc;
}

int twl_mapped_close_all(struct mapped *m)
{
    int rc = 0;
    while (m->participants && twl_mapped_tend(m))
        continue;
    twl_mutex_lock(&m->syncing);
    for (struct mapped_segment *seg = m->oldest; rc == 0 && seg; seg = atomic_load(&seg->next))
        rc = close_group(m, seg);
    if (rc == 0)
        rc = close_log(m, atomic_load(&m->active));
    twl_mutex_unlock(&m->syncing);
    return rc;
}

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

#include <string.h>

/* ---- a group ----------------------------------------------------------------------------------- */

/* Without records the marker is the segment's last group. In shared mode, every participant composes the same
 * one. */
static void compose_last(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    if (seg->last.bytes > 0)
        return;
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
}

/* Through the mapping. */
static int close_group(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    int rc = twl_mapped_sync_up_to(m, seg);
    if (rc < 0 || seg->is_closed)
        return rc;
    compose_last(m, seg);
    if (seg->walk.count > 0) {
        twl_group_header_encode(&seg->last, seg->segment.seed, OPEN_GROUP_OFFSET, header);
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
int twl_mapped_close_file(struct mapped *m, struct mapped_segment *seg, struct io_file *file)
{
    unsigned char header[GROUP_HEADER_BYTES];
    atomic_fetch_add(&m->syncs, 2);
    compose_last(m, seg);
    twl_group_header_encode(&seg->last, seg->segment.seed, OPEN_GROUP_OFFSET, header);
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

int twl_mapped_summarise(struct mapped *m, struct mapped_segment *seg, struct summary *summary,
                         uint64_t *ret_payload_bytes)
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
    compose_last(m, seg);
    if (seg->last.count > 0)
        twl_summary_end_group(summary, &seg->last, OPEN_GROUP_OFFSET);
    summary->chain = seg->start.checksum; /* the group of records is not in the chain */
    return rc;
}

void twl_mapped_await_users(const struct mapped *m, const struct mapped_segment *seg)
{
    while (atomic_load(&m->active) == seg || atomic_load(&seg->users) > 0)
        twl_yield();
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
    twl_mutex_lock(&m->syncing);
    for (struct mapped_segment *seg = m->oldest; rc == 0 && seg; seg = atomic_load(&seg->next))
        rc = close_group(m, seg);
    if (rc == 0)
        rc = close_log(m, atomic_load(&m->active));
    twl_mutex_unlock(&m->syncing);
    return rc;
}

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

/* Without records the mark is the sheet's last group. With peers, every participant composes the same
 * bytes. */
static void compose_last(struct mapped *m, struct sheet *sheet, unsigned char bytes[GROUP_HEADER_BYTES])
    REQUIRES(m->syncing)
{
    sheet->last = sheet->start;
    if (sheet->walk.count == 0)
        return;
    sheet->last =
        (struct group_header){ .first_lsn = sheet->group.first_lsn,
                               .count = sheet->walk.count,
                               .bytes = (uint32_t)(sheet->walk.offset - OPEN_GROUP_OFFSET),
                               .durable_lsn = sheet->start.durable_lsn,
                               .chain = sheet->start.checksum,
                               .epoch = sheet->start.epoch,
                               .kind = GROUP_RECORDS,
                               .flags = GROUP_MAPPED,
                               .time_ns = m->peers ? sheet->start.time_ns : m->io->ops->now_ns(m->io) };
    twl_group_header_encode(&sheet->last, sheet->segment.seed, OPEN_GROUP_OFFSET, bytes);
}

/* Through the mapping. */
static int close_group(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    int rc = twl_mapped_sync_up_to(m, sheet);
    if (rc < 0 || sheet->is_closed)
        return rc;
    compose_last(m, sheet, header);
    if (sheet->walk.count > 0) {
        POINT("last-group-open");
        memcpy(sheet->group.bytes + OPEN_GROUP_OFFSET, header, sizeof(header));
        POINT("last-group-closed");
        sheet->synced = SEGMENT_DATA_OFFSET;
        rc = twl_mapped_sync_bytes(m, sheet, sheet->walk.offset);
    }
    sheet->is_closed = rc == 0;
    return rc;
}

/* Through the file, not the mapping: while a page is mapped, the kernel protects it against writing before it
 * writes it to the disk, and interrupts the other processors for that. */
static int close_file(struct mapped *m, struct sheet *sheet, struct io_file *file,
                      const unsigned char header[GROUP_HEADER_BYTES]) REQUIRES(m->syncing)
{
    atomic_fetch_add(&m->syncs, 2);
    int rc = io_sync_data(file);
    POINT("left-synced");
    if (rc == 0)
        twl_mapped_tell_durable(m, sheet->group.first_lsn + sheet->walk.count - 1);
    if (rc == 0 && sheet->walk.count > 0)
        rc = io_write_at(file, header, GROUP_HEADER_BYTES, OPEN_GROUP_OFFSET);
    POINT("left-closed");
    if (rc == 0)
        rc = io_sync_data(file);
    POINT("left-close-synced");
    return rc < 0 ? twl_mapped_fail(m, rc) : 0;
}

static int summarise(struct mapped *m, struct sheet *sheet, struct summary *summary,
                     uint64_t *ret_payload_bytes) REQUIRES(m->syncing)
{
    const uint32_t count = twl_open_group_count(&sheet->group);
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    uint64_t payload_bytes = 0;
    int rc = 0;
    twl_summary_begin(summary, INT64_MIN);
    twl_summary_end_group(summary, &sheet->start, SEGMENT_DATA_OFFSET);
    while (walk.count < count) {
        const uint64_t lsn = sheet->group.first_lsn + walk.count, offset = walk.offset - OPEN_GROUP_OFFSET;
        rc = twl_mapped_await_copy(m, sheet, &walk, &record);
        if (rc < 0)
            break;
        twl_summary_add_record(summary, lsn, OPEN_GROUP_OFFSET, (uint32_t)offset, record.time_ns);
        payload_bytes += record.size;
    }
    sheet->walk = walk;
    *ret_payload_bytes = payload_bytes;
    return rc;
}

static void end_summary(const struct sheet *sheet, struct summary *summary)
{
    if (sheet->last.count > 0)
        twl_summary_end_group(summary, &sheet->last, OPEN_GROUP_OFFSET);
    summary->chain = sheet->start.checksum; /* the group of records is not in the chain */
}

/* Waits until the sheet, which was left, is not active any more and no thread is inside; neither takes
 * long. */
static void await_users(const struct mapped *m, const struct sheet *sheet)
{
    while (atomic_load(&m->active) == sheet || atomic_load(&sheet->users) > 0)
        twl_yield();
}

/* ---- by the keeper ----------------------------------------------------------------------------- */

static struct sheet *find(struct mapped *m, uint64_t sequence) REQUIRES(m->syncing)
{
    struct sheet *sheet = m->oldest;
    while (sheet && sheet->sequence != sequence)
        sheet = atomic_load(&sheet->next);
    return sheet;
}

/* Drops the segments before this one that the keeper did not ask for: their files were trimmed. */
static void drop_trimmed(struct mapped *m, const struct sheet *before) REQUIRES(m->syncing)
{
    for (; m->oldest != before; m->oldest = atomic_load(&m->oldest->next)) {
        await_users(m, m->oldest);
        twl_sheet_unmap(m->oldest);
    }
}

static int close_left(struct mapped *m, struct sheet *sheet, struct segment *segment) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    uint64_t payload_bytes;
    int rc = atomic_load(m->poison);
    const int found = summarise(m, sheet, segment->summary, &payload_bytes);
    await_users(m, sheet);
    if (rc == 0 && (found < 0 || twl_sheet_is_lost(sheet)))
        rc = twl_mapped_fail(m, -EIO);
    const bool is_closed = sheet->is_closed;
    if (!is_closed)
        compose_last(m, sheet, header);
    end_summary(sheet, segment->summary);
    twl_mapped_see_past(m, sheet, payload_bytes);
    drop_trimmed(m, sheet);
    twl_sheet_unmap(sheet);
    if (rc == 0 && !is_closed)
        rc = close_file(m, sheet, segment->file, header);
    m->oldest = atomic_load(&sheet->next);
    return rc;
}

int twl_mapped_close_group(void *context, struct segment *segment)
{
    struct mapped *m = context;
    twl_mutex_lock(&m->syncing);
    struct sheet *sheet = find(m, segment->header.sequence);
    const int rc = sheet ? close_left(m, sheet, segment) : 0; /* NULL: from before the opening */
    twl_mutex_unlock(&m->syncing);
    return rc;
}

/* ---- with peers -------------------------------------------------------------------------------- */

/* Drops the oldest sheet, whose group a participant has closed. */
static void let_go(struct mapped *m) REQUIRES(m->syncing)
{
    struct sheet *sheet = m->oldest;
    twl_mapped_see_through(m, sheet);
    await_users(m, sheet);
    m->oldest = atomic_load(&sheet->next);
    twl_sheet_unmap(sheet);
    twl_segment_close(&sheet->segment);
    twl_sheet_unlock(sheet);
}

void twl_mapped_let_go_of_closed(struct mapped *m)
{
    while (m->oldest->number < atomic_load(&m->peers->common->oldest) && atomic_load(&m->oldest->next))
        let_go(m);
}

static int give_header(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    if (!twl_peers_try(m->peers, IO_LOCK_SYNC))
        return -EAGAIN;
    m->wanted_lsn = 0;
    int rc = twl_mapped_sync_up_to(m, sheet);
    if (rc == 0) {
        compose_last(m, sheet, header);
        rc = close_file(m, sheet, sheet->segment.file, header);
    }
    twl_peers_release(m->peers, IO_LOCK_SYNC);
    return rc;
}

/* An index only makes finding records faster, so a failure to write it is no error. */
static void give_index(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    struct common *common = m->peers->common;
    struct segment *segment = &sheet->segment;
    struct segment_footer footer;
    uint64_t payload_bytes;
    int64_t peak_ns = INT64_MAX;
    if (!segment->summary)
        segment->summary = malloc(sizeof(*segment->summary));
    if (segment->summary && summarise(m, sheet, segment->summary, &payload_bytes) == 0) {
        end_summary(sheet, segment->summary);
        segment->summary->next_lsn = sheet->group.first_lsn + sheet->walk.count;
        if (twl_segment_seal(segment, atomic_load(&common->peak_ns), &footer) == 0)
            peak_ns = footer.peak_ns;
    }
    atomic_store(&common->peak_ns, peak_ns);
    POINT("left-sealed");
}

static bool close_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    struct sheet *sheet = m->oldest;
    struct common *common = m->peers->common;
    const bool is_left = atomic_load(&sheet->next) != NULL && sheet->number == atomic_load(&common->oldest);
    if (!is_left || atomic_load(m->poison) != 0 || !twl_peers_try(m->peers, IO_LOCK_CLOSE))
        return false;
    bool is_closed = sheet->number == atomic_load(&common->oldest) && give_header(m, sheet) == 0;
    if (is_closed) {
        give_index(m, sheet);
        raise_u64(&common->oldest, sheet->number + 1);
        POINT("left-told");
    }
    twl_peers_release(m->peers, IO_LOCK_CLOSE);
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

/* Cuts the file. A process that reads it through a mapping holds IO_LOCK_USE and would lose the end of it:
 * then the file keeps its length. */
static int cut(const struct segment *segment, uint64_t bytes)
{
    if (io_lock(segment->file, IO_LOCK_USE, true) < 0)
        return 0;
    const int rc = io_cut(segment->file, bytes);
    io_unlock(segment->file, IO_LOCK_USE);
    return rc < 0 ? rc : io_sync(segment->file);
}

/* The mark of a close is right behind the last record, and is written when all records are durable. */
static int close_log(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    struct group_header mark = { .first_lsn = twl_sheet_next_lsn(sheet),
                                 .bytes = GROUP_HEADER_BYTES,
                                 .durable_lsn = twl_sheet_next_lsn(sheet) - 1,
                                 .chain = sheet->start.checksum,
                                 .epoch = sheet->start.epoch,
                                 .kind = GROUP_CLOSE,
                                 .time_ns = m->io->ops->now_ns(m->io) };
    const uint64_t offset = sheet->walk.count > 0 ? sheet->walk.offset : OPEN_GROUP_OFFSET;
    if (sheet->group.end - offset < GROUP_HEADER_BYTES)
        return 0; /* no room: the next opening does without the mark */
    unsigned char bytes[GROUP_HEADER_BYTES];
    twl_group_header_encode(&mark, sheet->segment.seed, offset, bytes);
    POINT("close-unmarked");
    memcpy(sheet->group.bytes + offset, bytes, sizeof(bytes));
    POINT("close-marked");
    int rc = twl_mapped_sync_bytes(m, sheet, offset + GROUP_HEADER_BYTES);
    twl_sheet_unmap(sheet);
    if (rc == 0)
        rc = cut(&sheet->segment, offset + GROUP_HEADER_BYTES);
    POINT("close-cut");
    return rc;
}

int twl_mapped_close_all(struct mapped *m)
{
    int rc = 0;
    while (m->peers && twl_mapped_tend(m))
        continue;
    twl_mutex_lock(&m->syncing);
    for (struct sheet *sheet = m->oldest; rc == 0 && sheet; sheet = atomic_load(&sheet->next))
        rc = close_group(m, sheet);
    if (rc == 0)
        rc = close_log(m, atomic_load(&m->active));
    twl_mutex_unlock(&m->syncing);
    return rc;
}

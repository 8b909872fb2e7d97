/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds how far records are complete, syncs them to the disk, and gives groups their headers. See inside.h.
 *
 * A crash leaves a valid log because a group gets its header only when its records are durable. So a header
 * never covers a record that may be missing, and a group without one is valid as far as its records check
 * (recover/settle.c).
 *
 * Older segments come first, so that the durable records are always a prefix. A sync ends with the segment
 * that had no next one before its records were counted, because a segment without a next one may still get
 * records.
 *
 * The kernel reports a disk error once to each open file, and not at all to a file that is opened after the error was
 * reported to another one. Then it takes the pages for clean, and on ext4 even what is stored there later is not found
 * on the disk. So a participant counts itself in `syncing` of the segment before a sync, until it has stored the error
 * in the page. A process that finds the count above zero when it has opened the segment cannot know whether there was
 * an error. Until the count has been zero, which it never is again if a participant was killed in a sync, each of its
 * syncs reads the records back past the page cache first. So does the first sync of records found in the segment.
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/bytes.h"
#include "base/point.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define READ_BACK_BYTES ((size_t)256 << 10)

/* ---- dead participants ------------------------------------------------------------------------- */

/* True: the next record has become a filler, because its owner is dead. */
static bool fill_abandoned(struct mapped *m, const struct mapped_segment *seg, const struct open_walk *walk)
{
    uint32_t size;
    const unsigned owner = twl_open_group_owner(&seg->group, walk, &size);
    if (owner == 0 || size == CLAIM_END || twl_participants_is_alive(m->participants, owner))
        return false;
    const bool is_filled = twl_open_group_fill(&seg->group, walk, size, seg->start.time_ns);
    twl_page_nudge(m->shared);
    return is_filled;
}

/* ---- which records are complete ---------------------------------------------------------------- */

static void see_rest(struct mapped *m) REQUIRES(m->looking)
{
    struct record_header record;
    while (twl_open_group_pass(&m->seen_segment->group, &m->seen, &record)) {
        m->seen_bytes += record.size;
    }
    raise_u64(&m->seen_segment->words->complete, twl_open_walk_pack(&m->seen));
}

static void see_next(struct mapped *m, struct mapped_segment *next) REQUIRES(m->looking)
{
    m->seen_segment = next;
    m->seen = (struct open_walk)OPEN_WALK_INIT;
}

/* If the record was not complete at the last look either, makes it a filler if its owner is dead: true. */
static bool get_unstuck(struct mapped *m) REQUIRES(m->looking)
{
    const uint64_t lsn = m->seen_segment->group.first_lsn + m->seen.count;
    const bool was_stuck = m->stuck_lsn == lsn;
    m->stuck_lsn = lsn;
    return was_stuck && fill_abandoned(m, m->seen_segment, &m->seen);
}

/* 0, or -EIO when a record is lost, and with it all records behind it. */
static int see_all(struct mapped *m) REQUIRES(m->looking)
{
    for (;;) {
        const struct mapped_segment *seg = m->seen_segment;
        struct mapped_segment *next =
            atomic_load(&seg->next); /* first: if there is one, no more records are put here */
        see_rest(m);
        if (m->seen.count < twl_open_group_count(&seg->group)) {
            if (get_unstuck(m))
                continue;
            return twl_open_group_is_lost(&seg->group) || twl_open_group_is_gone(&seg->group, &m->seen) ? -EIO
                                                                                                        : 0;
        }
        if (!next)
            return 0;
        see_next(m, next);
    }
}

/* Moves the walk to this segment, or leaves it behind. The records before it are complete, or lost. */
static void see_up_to(struct mapped *m, const struct mapped_segment *seg) REQUIRES(m->looking)
{
    while (m->seen_segment->segment.header.sequence < seg->segment.header.sequence) {
        see_rest(m);
        see_next(m, atomic_load(&m->seen_segment->next));
    }
}

void twl_mapped_see_through(struct mapped *m, const struct mapped_segment *seg)
{
    twl_mutex_lock(&m->looking);
    see_up_to(m, atomic_load(&seg->next));
    twl_mutex_unlock(&m->looking);
}

int twl_mapped_find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes)
{
    int rc = twl_mapped_catch_up(m);
    twl_mutex_lock(&m->looking);
    const int seen = see_all(m);
    *ret_lsn = m->seen_segment->group.first_lsn + m->seen.count - 1;
    *ret_payload_bytes = m->seen_bytes;
    twl_mutex_unlock(&m->looking);
    return seen < 0 ? twl_mapped_fail(m, seen) : rc;
}

/* ---- copies ------------------------------------------------------------------------------------ */

/* Passes the next record, which is claimed: waits until its owner has completed it, or makes it a filler if
 * that process is dead. -EIO: the record is lost; -EAGAIN: another process takes too long to complete it. */
static int await_copy(struct mapped *m, const struct mapped_segment *seg, struct open_walk *walk,
                      struct record_header *ret_record) REQUIRES(m->syncing)
{
    for (uint64_t turns = 0; !twl_open_group_pass(&seg->group, walk, ret_record); turns++) {
        const bool is_wanted = seg->group.first_lsn + walk->count <= m->wanted_lsn;
        if (twl_open_group_is_lost(&seg->group) || twl_open_group_is_gone(&seg->group, walk))
            return -EIO;
        if (turns < TURNS_TO_YIELD)
            twl_yield();
        else if ((!is_wanted || turns >= TURNS_TO_YIELD + COPY_MS) && !fill_abandoned(m, seg, walk))
            return -EAGAIN;
        else
            m->io->ops->sleep_ms(m->io, 1);
    }
    return 0;
}

static int await_copies(struct mapped *m, struct mapped_segment *seg, uint32_t count) REQUIRES(m->syncing)
{
    struct record_header record;
    int rc = 0;
    while (rc == 0 && seg->walk.count < count)
        rc = await_copy(m, seg, &seg->walk, &record);
    raise_u64(&seg->words->complete, twl_open_walk_pack(&seg->walk));
    return rc == -EIO ? twl_mapped_fail(m, rc) : rc;
}

/* ---- bytes that others may have written ----------------------------------------------------------- */

/* Is each place up to `to` a claim or a complete record, and each payload from `from` on valid? */
static bool is_sound(const struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    while (walk.offset < to) {
        const uint64_t at = walk.offset;
        uint32_t size;
        if (twl_open_group_pass(&seg->group, &walk, &record)) {
            if (at >= from &&
                !twl_record_payload_is_valid(&record, seg->group.bytes + at + RECORD_HEADER_BYTES))
                return false;
        } else if (twl_open_group_owner(&seg->group, &walk, &size) != 0) {
            twl_open_group_skip(&walk, size);
        } else if (!twl_open_group_pass(&seg->group, &walk, &record)) { /* nor completed meanwhile */
            return false;
        }
    }
    return true;
}

/* -EIO: the disk does not have the bytes that the mapping has. */
static int compare_with_disk(const struct mapped_segment *seg, struct io_file *file, unsigned char *bytes,
                             uint64_t from, uint64_t to)
{
    size_t size;
    int rc = 0;
    for (uint64_t at = align_down(from, BLOCK_BYTES); rc == 0 && at < to; at += size) {
        rc = io_read(file, bytes, READ_BACK_BYTES, at, &size);
        const uint64_t begin = max_u64(at, from), end = min_u64(at + size, to);
        if (rc == 0 &&
            (begin >= end || memcmp(bytes + (begin - at), seg->group.bytes + begin, end - begin) != 0))
            rc = -EIO;
    }
    return rc;
}

/* Reads the complete records up to `to` that are not durable yet past the page cache. Only a sync that comes behind
 * makes durable what was found. */
static int read_back(struct mapped *m, const struct mapped_segment *seg, uint64_t to)
{
    const uint64_t from = max_u64(seg->synced, SEGMENT_DATA_OFFSET);
    unsigned char *bytes = aligned_alloc(BLOCK_BYTES, READ_BACK_BYTES);
    struct io_file *file;
    if (!bytes)
        return -ENOMEM;
    int rc = m->io->ops->open(m->io, seg->segment.name, IO_READ_ONLY | IO_FROM_DISK, &file);
    if (rc == 0) {
        rc = is_sound(seg, from, seg->found) ? compare_with_disk(seg, file, bytes, from, to) : -EIO;
        rc = rc < 0 ? twl_mapped_fail(m, rc) : 0;
        io_close(file);
    }
    free(bytes);
    return rc;
}

/* May the kernel have reported an error of this file to another process, and not to this one? */
static bool is_in_doubt(struct mapped_segment *seg)
{
    if (atomic_load(&seg->words->syncing) == 0)
        seg->is_doubtful = false;
    return seg->is_doubtful || seg->found > seg->synced;
}

/* ---- syncing ----------------------------------------------------------------------------------- */

static void tell_durable(struct mapped *m, uint64_t lsn)
{
    const bool is_news = lsn > atomic_load(m->durable);
    raise_u64(&m->own_durable, lsn);
    if (is_news)
        twl_page_publish_durable(m->shared, lsn);
}

/* Around all that may be told of an error. What it was told is stored before others are told that it has ended. */
static void begin_sync(const struct mapped_segment *seg)
{
    atomic_fetch_add(&seg->words->syncing, 1);
}

static int end_sync(struct mapped *m, const struct mapped_segment *seg, int rc)
{
    if (rc < 0)
        rc = twl_mapped_fail(m, rc);
    atomic_fetch_sub(&seg->words->syncing, 1);
    return rc;
}

/* Syncs the bytes up to `to` that are not durable yet. */
static int sync_bytes(struct mapped *m, struct mapped_segment *seg, uint64_t to) REQUIRES(m->syncing)
{
    const uint64_t from = align_down(seg->synced, LARGEST_PAGE_BYTES); /* msync() needs a page boundary */
    int rc = is_in_doubt(seg) ? read_back(m, seg, to) : 0;
    if (rc < 0)
        return rc;
    atomic_fetch_add(&m->statistics->syncs, 1);
    begin_sync(seg);
    if (!seg->group.bytes) /* the mapping was taken away */
        rc = io_sync_data(seg->segment.file);
    else if (msync(seg->group.bytes + from, to - from, MS_SYNC) < 0)
        rc = -errno;
    else if (twl_open_group_is_lost(&seg->group))
        rc = -EIO;
    if (rc == 0 && !atomic_load(&seg->words->is_named)) {
        rc = m->io->ops->sync_dir(m->io);
        if (rc == 0)
            atomic_store(&seg->words->is_named, 1);
    }
    if (rc == 0) {
        seg->found = 0;
        seg->synced = to;
        raise_u64(&seg->words->synced, to);
    }
    rc = end_sync(m, seg, rc);
    POINT("segment-synced");
    return rc;
}

static int sync_mapped_segment(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    const int awaited = await_copies(m, seg, twl_open_group_count(&seg->group));
    int rc = awaited == -EAGAIN ? 0 : awaited; /* the records in front of that copy can be synced */
    seg->synced = max_u64(seg->synced, atomic_load(&seg->words->synced));
    if (rc == 0 && seg->synced < seg->walk.offset)
        rc = sync_bytes(m, seg, seg->walk.offset);
    if (rc == 0)
        rc = twl_mapped_poison(m); /* of a participant that was told of an error meanwhile */
    if (rc == 0)
        tell_durable(m, seg->group.first_lsn + seg->walk.count - 1);
    return rc < 0 ? rc : awaited;
}

int twl_mapped_sync_up_to(struct mapped *m, const struct mapped_segment *last)
{
    int rc = twl_mapped_poison(m);
    for (struct mapped_segment *seg = m->oldest, *next; rc == 0 && seg; seg = next) {
        next = seg == last ? NULL : atomic_load(&seg->next); /* first, as in see_all() */
        rc = sync_mapped_segment(m, seg);
    }
    return rc;
}

/* ---- a group ----------------------------------------------------------------------------------- */

/* Without records the marker is the segment's last group. Every participant composes the same one. */
static void compose_last(struct mapped_segment *seg)
{
    if (seg->last.bytes > 0)
        return;
    seg->last = seg->start;
    if (seg->walk.count == 0)
        return;
    seg->last = (struct group_header){ .first_lsn = seg->group.first_lsn,
                                       .count = seg->walk.count,
                                       .bytes = (uint32_t)(seg->walk.offset - OPEN_GROUP_OFFSET),
                                       .durable_lsn = seg->start.durable_lsn,
                                       .chain = seg->start.checksum,
                                       .epoch = seg->start.epoch,
                                       .kind = GROUP_RECORDS,
                                       .flags = GROUP_MAPPED,
                                       .time_ns = seg->start.time_ns };
}

/* Through the mapping. */
static int close_group(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    int rc = twl_mapped_sync_up_to(m, seg);
    if (rc < 0 || seg->is_closed)
        return rc;
    compose_last(seg);
    if (seg->walk.count > 0) {
        twl_group_header_encode(&seg->last, seg->segment.seed, OPEN_GROUP_OFFSET, header);
        POINT("last-group-open");
        memcpy(seg->group.bytes + OPEN_GROUP_OFFSET, header, sizeof(header));
        POINT("last-group-closed");
        seg->synced = SEGMENT_DATA_OFFSET;
        rc = sync_bytes(m, seg, seg->walk.offset);
    }
    seg->is_closed = rc == 0;
    return rc;
}

/* Through the file: the mapping may have been taken away. */
int twl_mapped_close_file(struct mapped *m, struct mapped_segment *seg)
{
    unsigned char header[GROUP_HEADER_BYTES];
    struct io_file *file = seg->segment.file;
    atomic_fetch_add(&m->statistics->syncs, 1);
    compose_last(seg);
    twl_group_header_encode(&seg->last, seg->segment.seed, OPEN_GROUP_OFFSET, header);
    begin_sync(seg);
    int rc = seg->walk.count > 0 ? io_write_at(file, header, GROUP_HEADER_BYTES, OPEN_GROUP_OFFSET) : 0;
    POINT("left-closed");
    if (rc == 0)
        rc = io_sync_data(file);
    POINT("left-close-synced");
    return end_sync(m, seg, rc);
}

int twl_mapped_summarise(struct mapped *m, struct mapped_segment *seg, struct summary *summary)
{
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    int rc = await_copies(m, seg, twl_open_group_count(&seg->group));
    if (rc < 0 || !summary)
        return rc;
    twl_summary_begin(summary);
    twl_summary_end_group(summary, &seg->start, SEGMENT_DATA_OFFSET);
    while (walk.count < seg->walk.count) {
        const uint64_t lsn = seg->group.first_lsn + walk.count, offset = walk.offset - OPEN_GROUP_OFFSET;
        if (!twl_open_group_pass(&seg->group, &walk, &record))
            return twl_mapped_fail(m, -EIO);
        twl_summary_add_record(summary, lsn, OPEN_GROUP_OFFSET, (uint32_t)offset, record.time_ns);
    }
    compose_last(seg);
    if (seg->last.count > 0)
        twl_summary_end_group(summary, &seg->last, OPEN_GROUP_OFFSET);
    summary->chain = seg->start.checksum; /* the group of records is not in the chain */
    return twl_open_group_is_lost(&seg->group) ? twl_mapped_fail(m, -EIO) : 0;
}

void twl_mapped_await_users(const struct mapped *m, const struct mapped_segment *seg)
{
    while (atomic_load(&m->active) == seg || atomic_load(&seg->users) > 0)
        twl_yield();
}

/* ---- the log as a whole ------------------------------------------------------------------------ */

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
    unsigned char bytes[GROUP_HEADER_BYTES];
    twl_group_header_encode(&marker, seg->segment.seed, offset, bytes);
    POINT("close-unmarked");
    memcpy(seg->group.bytes + offset, bytes, sizeof(bytes));
    POINT("close-marked");
    int rc = sync_bytes(m, seg, offset + GROUP_HEADER_BYTES);
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

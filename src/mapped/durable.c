/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds how far records are complete, syncs them to the disk, and gives groups their headers. See inside.h.
 *
 * A group gets its header only when its records are durable, so a header never covers a record that may be missing; a
 * group without one is valid as far as its records check (recover/settle.c). Older segments are synced first, so that
 * the durable records are always a prefix.
 *
 * An error of the disk may have been reported to another participant only, and have died with it. "Syncs" in
 * docs/design.md says when records are read back past the page cache because of that.
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/bytes.h"
#include "base/point.h"
#include "io/mapping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BACK_BYTES ((size_t)256 << 10)
#define YIELDS_FOR_COPY 1000u

/* ---- dead participants ------------------------------------------------------------------------- */

/* True: the next record has become a filler, because its owner is dead. */
static bool fill_abandoned(struct mapped *m, const struct mapped_segment *seg)
{
    uint32_t size;

    const unsigned owner = twl_open_group_owner(&seg->group, &seg->walk, &size);
    if (owner == 0 || size == CLAIM_END || twl_participants_is_alive(m->participants, owner))
        return false;

    const bool is_filled = twl_open_group_fill(&seg->group, &seg->walk, size, seg->start.time_ns);
    twl_page_nudge(m->shared);
    return is_filled;
}

/* ---- which records are complete ---------------------------------------------------------------- */

static void see_rest(struct mapped *m) REQUIRES(m->looking)
{
    struct mapped_segment *seg = m->seen_segment;
    struct record_header record;
    while (twl_open_group_pass(&seg->group, &seg->walk, &record))
        m->seen_bytes += record.size;
}

/* 0, or -EIO when a record is lost, and with it all records behind it. */
static int see_all(struct mapped *m) REQUIRES(m->looking)
{
    for (;;) {
        const struct mapped_segment *seg = m->seen_segment;
        /* First the next one: if there is one, no more records are put here. */
        struct mapped_segment *next = atomic_load(&seg->next);

        see_rest(m);
        if (seg->walk.count < twl_open_group_count(&seg->group)) {
            if (fill_abandoned(m, seg))
                continue;
            if (twl_open_group_is_lost(&seg->group) || twl_open_group_is_gone(&seg->group, &seg->walk))
                return -EIO;
            return 0;
        }

        if (!next)
            return 0;

        m->seen_segment = next;
    }
}

/* How far records are complete in the segments that this handle has gone on to. */
static int see_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes)
{
    twl_mutex_lock(&m->looking);
    const int seen = see_all(m);
    *ret_lsn = m->seen_segment->group.first_lsn + m->seen_segment->walk.count - 1;
    *ret_payload_bytes = m->seen_bytes;
    twl_mutex_unlock(&m->looking);
    if (seen < 0)
        return twl_mapped_fail(m, seen);
    return 0;
}

int twl_mapped_find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes)
{
    const int caught_up = twl_mapped_catch_up(m, &twl_mapped_patient);
    const int seen = see_written(m, ret_lsn, ret_payload_bytes);
    if (seen < 0)
        return seen;
    return caught_up;
}

int twl_mapped_wait_written(struct mapped *m, uint64_t lsn, const struct terms *terms)
{
    for (unsigned turns = 0;;) {
        uint64_t written_lsn, payload_bytes;
        int rc = see_written(m, &written_lsn, &payload_bytes);
        if (written_lsn >= lsn)
            return 0;
        if (rc == 0)
            rc = twl_terms_ended(terms);
        if (rc < 0)
            return rc;
        twl_nap(m->io, YIELDS_FOR_COPY, &turns);
    }
}

/* ---- bytes that others may have written ----------------------------------------------------------- */

/* Passes one place, and checks the payload if the place is at `from` or behind it. False: it is neither a claim nor a
 * complete record, or its payload does not check. */
static bool pass_sound_place(const struct mapped_segment *seg, uint64_t from, struct open_walk *walk)
{
    const uint64_t at = walk->offset;
    struct record_header record;
    uint32_t size;

    if (twl_open_group_pass(&seg->group, walk, &record)) {
        const bool must_check = at >= from;
        return !must_check ||
               twl_record_payload_is_valid(&record, seg->group.bytes + at + RECORD_HEADER_BYTES);
    }

    if (twl_open_group_owner(&seg->group, walk, &size) != 0) {
        twl_open_group_skip(walk, size);
        return true;
    }

    /* The claim may have been completed between the two looks. */
    return twl_open_group_pass(&seg->group, walk, &record) > 0;
}

/* Is each place up to `to` a claim or a complete record, and each payload from `from` on valid? */
static bool is_sound(const struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    struct open_walk walk = OPEN_WALK_INIT;

    while (walk.offset < to)
        if (!pass_sound_place(seg, from, &walk))
            return false;
    return true;
}

/* -EIO: the disk does not have the bytes that the mapping has. */
static int compare_with_disk(const struct mapped_segment *seg, struct io_file *file, unsigned char *bytes,
                             uint64_t from, uint64_t to)
{
    size_t size;

    for (uint64_t at = align_down(from, BLOCK_BYTES); at < to; at += size) {
        const int rc = io_read(file, bytes, READ_BACK_BYTES, at, &size);
        if (rc < 0)
            return rc;

        const uint64_t begin = max_u64(at, from), end = min_u64(at + size, to);
        const bool has_file_ended = begin >= end;
        if (has_file_ended)
            return -EIO;
        if (memcmp(bytes + (begin - at), seg->group.bytes + begin, end - begin) != 0)
            return -EIO;
    }

    return 0;
}

/* Reads the complete records from `from` up to `to` past the page cache. Only a sync that comes behind
 * makes durable what was found. */
static int read_back(struct mapped *m, const struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    unsigned char *bytes = aligned_alloc(BLOCK_BYTES, READ_BACK_BYTES);
    struct io_file *file;

    if (!bytes)
        return -ENOMEM;

    int rc = m->io->ops->open(m->io, seg->segment.name, IO_READ_ONLY | IO_FROM_DISK, &file);
    if (rc == 0) {
        from = max_u64(from, SEGMENT_DATA_OFFSET);
        rc = -EIO;
        if (is_sound(seg, from, seg->found))
            rc = compare_with_disk(seg, file, bytes, from, to);
        if (rc < 0)
            rc = twl_mapped_fail(m, rc);
        io_close(file);
    }

    free(bytes);
    return rc;
}

/* May the kernel have reported an error of this file to another process, and not to this one? */
static bool is_in_doubt(struct mapped_segment *seg, uint64_t synced)
{
    if (atomic_load(&seg->words->syncing) == 0)
        seg->is_doubtful = false;
    return seg->is_doubtful || seg->found > synced;
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
    POINT("sync-told");
    atomic_fetch_sub(&seg->words->syncing, 1);
    return rc;
}

/* Writes the bytes to the disk; all of the file once its mapping was taken away. -EIO: a page of that is lost. */
static int write_back(const struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    if (!seg->group.bytes)
        return io_sync_data(seg->segment.file);

    const int rc = twl_mapping_sync(seg->group.bytes + from, to - from);
    if (rc < 0)
        return rc;
    if (twl_open_group_is_lost(&seg->group))
        return -EIO;
    return 0;
}

/* A participant that makes a segment for all leaves its name to the first sync of its records. */
static int make_name_durable(struct mapped *m, const struct mapped_segment *seg)
{
    if (atomic_load(&seg->words->is_named))
        return 0;

    const int rc = m->io->ops->sync_dir(m->io);
    if (rc == 0)
        atomic_store(&seg->words->is_named, 1);
    return rc;
}

/* Syncs the bytes up to `to`, of which those up to `synced` are durable. */
static int sync_bytes(struct mapped *m, struct mapped_segment *seg, uint64_t synced, uint64_t to)
    REQUIRES(m->syncing)
{
    const uint64_t from = align_down(synced, LARGEST_PAGE_BYTES); /* msync() needs a page boundary */

    int rc = 0;
    if (is_in_doubt(seg, synced))
        rc = read_back(m, seg, synced, to);
    if (rc < 0)
        return rc;

    atomic_fetch_add(&m->statistics->syncs, 1);
    begin_sync(seg);
    rc = write_back(seg, from, to);
    if (rc == 0)
        rc = make_name_durable(m, seg);
    if (rc == 0) {
        seg->found = 0;
        raise_u64(&seg->words->synced, to);
    }

    rc = end_sync(m, seg, rc);
    POINT("segment-synced");
    return rc;
}

/* -EAGAIN: a record was claimed and is not complete. The records in front of it are synced. */
static int sync_mapped_segment(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    const uint32_t count = twl_open_group_count(&seg->group);

    twl_mutex_lock(&m->looking);
    int rc = see_all(m);
    const struct open_walk walk = seg->walk;
    twl_mutex_unlock(&m->looking);
    if (rc < 0)
        return twl_mapped_fail(m, rc);

    const uint64_t synced = atomic_load(&seg->words->synced);
    if (synced < walk.offset)
        rc = sync_bytes(m, seg, synced, walk.offset);
    if (rc == 0)
        rc = twl_mapped_check_poison(m); /* of a participant that was told of an error meanwhile */
    if (rc == 0)
        tell_durable(m, seg->group.first_lsn + walk.count - 1);
    if (rc < 0 || walk.count >= count)
        return rc;
    return -EAGAIN;
}

/* NULL: there is none, or it is behind the last one that is wanted. */
static struct mapped_segment *next_up_to(const struct mapped_segment *seg, const struct mapped_segment *last)
{
    if (seg == last)
        return NULL;
    return atomic_load(&seg->next);
}

int twl_mapped_sync_up_to(struct mapped *m, const struct mapped_segment *last)
{
    int rc = twl_mapped_check_poison(m);

    for (struct mapped_segment *seg = m->oldest, *next; rc == 0 && seg; seg = next) {
        next = next_up_to(seg, last); /* first, as in see_all() */
        rc = sync_mapped_segment(m, seg);
    }

    return rc;
}

/* ---- closing ----------------------------------------------------------------------------------- */

/* The group of the records. Every participant composes the same one. */
static struct group_header compose_group(const struct mapped_segment *seg)
{
    return (struct group_header){ .first_lsn = seg->group.first_lsn,
                                  .count = seg->walk.count,
                                  .bytes = (uint32_t)(seg->walk.offset - OPEN_GROUP_OFFSET),
                                  .durable_lsn = seg->start.durable_lsn,
                                  .chain = seg->start.checksum,
                                  .epoch = seg->start.epoch,
                                  .kind = GROUP_RECORDS,
                                  .flags = GROUP_MAPPED,
                                  .time_ns = seg->start.time_ns };
}

/* Through the file: the mapping may have been taken away. */
static int write_group(const struct mapped_segment *seg, struct group_header *group, uint64_t offset)
{
    unsigned char header[GROUP_HEADER_BYTES];
    twl_group_header_encode(group, seg->segment.seed, offset, header);
    return io_write_at(seg->segment.file, header, sizeof(header), offset);
}

static int write_header(const struct mapped_segment *seg)
{
    struct group_header group = compose_group(seg);
    int rc = 0;

    if (group.count > 0)
        rc = write_group(seg, &group, OPEN_GROUP_OFFSET);
    POINT("group-closed");
    return rc;
}

/* All records are complete. */
static int summarise(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;

    if (!seg->segment.summary)
        seg->segment.summary = malloc(sizeof(*seg->segment.summary));
    struct summary *summary = seg->segment.summary;
    if (!summary)
        return -ENOMEM;

    twl_summary_begin(summary);
    twl_summary_end_group(summary, &seg->start, SEGMENT_DATA_OFFSET);
    while (walk.count < seg->walk.count) {
        const uint64_t lsn = seg->group.first_lsn + walk.count, offset = walk.offset - OPEN_GROUP_OFFSET;
        if (!twl_open_group_pass(&seg->group, &walk, &record))
            return twl_mapped_fail(m, -EIO);

        twl_summary_add_record(summary, lsn, OPEN_GROUP_OFFSET, (uint32_t)offset, record.time_ns);
    }

    const struct group_header group = compose_group(seg);
    if (group.count > 0)
        twl_summary_end_group(summary, &group, OPEN_GROUP_OFFSET);
    summary->chain = seg->start.checksum; /* the group of records is not in the chain */
    if (twl_open_group_is_lost(&seg->group))
        return twl_mapped_fail(m, -EIO);
    return 0;
}

/* A crash may leave the footer without the header: the group counts as open then, with the same records. */
static int seal(struct mapped *m, struct mapped_segment *seg)
{
    struct common *common = m->participants->common;
    struct segment_footer footer = { .max_time_so_far_ns = INT64_MAX };

    atomic_fetch_add(&m->statistics->syncs, 1);
    begin_sync(seg);
    int rc = write_header(seg);
    if (rc == 0)
        rc = twl_segment_seal(&seg->segment, atomic_load(&common->max_time_so_far_ns), &footer);
    POINT("left-sealed");
    if (is_own_refusal(rc)) { /* the next try, or another participant, does all of it again */
        (void)end_sync(m, seg, 0);
        return rc;
    }

    if (rc == 0)
        atomic_store(&common->max_time_so_far_ns, footer.max_time_so_far_ns);
    return end_sync(m, seg, rc);
}

/* Where no other is let in, the mapping goes first: while a page is mapped, the kernel protects it against writing
 * before it writes it to the disk, and interrupts the other processors for that. */
int twl_mapped_close_segment(struct mapped *m, struct mapped_segment *seg)
{
    const struct terms brief = { .deadline_ns = twinlog_deadline(COPY_MS) };
    const bool is_summarised = !seg->group.bytes; /* an earlier try came as far as to take the mapping away */

    int rc = twl_mapped_wait_written(m, twl_mapped_segment_next_lsn(seg) - 1, &brief);
    if (rc == 0 && !is_summarised)
        rc = summarise(m, seg);
    if (rc == 0 && !participants_let_others_in(m->participants))
        twl_mapped_take_mapping_away(m, seg);
    if (rc == 0)
        rc = twl_mapped_sync_up_to(m, seg);
    if (rc == 0)
        return seal(m, seg);
    return rc;
}

/* The segment was left, and its records are complete, or a participant has closed it. */
void twl_mapped_take_mapping_away(struct mapped *m, struct mapped_segment *seg)
{
    unsigned turns = 0;

    twl_mutex_lock(&m->looking);
    while (m->seen_segment->number <= seg->number) {
        see_rest(m);
        m->seen_segment = atomic_load(&m->seen_segment->next);
    }

    twl_mutex_unlock(&m->looking);
    while (atomic_load(&m->active) == seg || atomic_load(&seg->users) > 0)
        twl_nap(m->io, YIELDS_FOR_COPY, &turns);
    twl_mapped_segment_unmap(seg);
}

/* ---- the log as a whole ------------------------------------------------------------------------ */

/* The marker of a close is in a block of its own: one bad sector cannot take the last record and its proof. */
static int write_close(struct mapped *m, struct mapped_segment *seg)
{
    struct group_header marker = { .first_lsn = twl_mapped_segment_next_lsn(seg),
                                   .bytes = GROUP_HEADER_BYTES,
                                   .durable_lsn = twl_mapped_segment_next_lsn(seg) - 1,
                                   .chain = seg->start.checksum,
                                   .epoch = seg->start.epoch,
                                   .kind = GROUP_CLOSE,
                                   .time_ns = m->io->ops->now_ns(m->io) };
    uint64_t end = OPEN_GROUP_OFFSET;

    if (seg->walk.count > 0)
        end = seg->walk.offset;
    const uint64_t offset = align_up(end, BLOCK_BYTES);

    twl_mapped_segment_unmap(seg);
    int rc = write_group(seg, &marker, offset);
    POINT("close-marked");
    if (rc == 0)
        rc = twl_segment_truncate(&seg->segment, offset + GROUP_HEADER_BYTES);
    POINT("close-cut");
    return rc;
}

/* All records are durable, and there is no other participant. */
static int close_file(struct mapped *m, struct mapped_segment *seg)
{
    atomic_fetch_add(&m->statistics->syncs, 1);
    int rc = write_header(seg);
    if (rc == 0 && !atomic_load(&seg->next))
        rc = write_close(m, seg);
    if (rc == 0)
        rc = io_sync(seg->segment.file);
    if (rc < 0)
        return twl_mapped_fail(m, rc);
    return 0;
}

int twl_mapped_close_all(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    int rc = twl_mapped_sync_up_to(m, NULL);
    for (struct mapped_segment *seg = m->oldest; rc == 0 && seg; seg = atomic_load(&seg->next))
        rc = close_file(m, seg);
    twl_mutex_unlock(&m->syncing);
    return rc;
}

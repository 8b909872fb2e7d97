/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a log in another directory, made beside its writer.
 *
 *     an empty file "state"    from here on every opening of the directory is refused
 *     the segments             oldest first: sealed ones linked, else copied; the newest one as far as it is durable
 *     the state file           makes it a log
 *
 * Each step is durable before the next. A segment is held while it is linked or copied, so it gets no new incarnation
 * meanwhile, and a file with two names never gets one. If a trim or a truncation overtakes the copy, everything starts
 * again with the segments that exist now.
 */
#include "check/check.h"

#include "log/log_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPENING_MS 30000u /* as long as an opening waits for a dead writer */
#define VIEWS 10u
#define CHUNK_BYTES (1024u * 1024)

struct backup {
    struct io *io, *to;
    const struct twinlog_backup_options *options;
    struct twinlog_backup_result result;
    unsigned char *chunk;
    struct segment_iter cursor;

    struct log_snapshot snapshot;
    uint64_t limit_lsn; /* newest record of the copy */
    size_t last;        /* index in the set of the newest segment of the copy */
    size_t made;        /* segments of the set with a file in the copy; the last file may be incomplete */
    struct position position; /* what the next segment must continue; next_lsn 0 = unknown */
    uint64_t done_bytes, total_bytes;
    bool is_ending; /* the copy may have a state */
};

static void show_progress(struct backup *b, uint64_t bytes)
{
    b->done_bytes += bytes;
    if (b->options->progress)
        b->options->progress(b->options->context, b->done_bytes, b->total_bytes);
}

/* ---- where the copy ends ----------------------------------------------------------------------- */

/* Syncs what recovery found: the copy must not hold more than the log does after a power cut. */
static int find_end_alone(struct backup *b)
{
    const struct segment_set *set = &b->snapshot.set;
    struct recovery recovery;
    int rc = twl_recover(b->io, set, false, NULL, &recovery);
    if (rc < 0)
        return rc;
    b->limit_lsn = recovery.position.next_lsn - 1;
    b->last = recovery.index;
    /* The segment was started by a group that was torn: the copy does not have it. */
    if (recovery.last_group == 0 && set->entries[b->last].header.start_lsn == 0 && b->last > 0)
        b->last--;
    return twl_recover_sync(b->io, set, min_u64(recovery.open_from, recovery.index), recovery.index);
}

static int find_end_beside_writer(struct backup *b)
{
    struct segment_set *set = &b->snapshot.set;
    int rc = twl_log_snapshot_find_durable(b->io, &b->snapshot, &b->limit_lsn);
    for (b->last = set->started - 1; rc == 0 && b->last > 0; b->last--) {
        struct segment_entry *entry = &set->entries[b->last];
        rc = twl_segment_look(b->io, entry);
        if (entry->header.start_lsn > 0 || entry->first_lsn <= b->limit_lsn)
            break;
    }
    return rc;
}

static int find_end(struct backup *b)
{
    int rc = b->snapshot.has_writer ? find_end_beside_writer(b) : find_end_alone(b);
    b->cursor.passes_claims = !b->snapshot.has_writer;
    b->total_bytes = 0;
    for (size_t i = 0; rc == 0 && i <= b->last; i++)
        b->total_bytes += segment_entry_bytes(&b->snapshot.set.entries[i]);
    return rc;
}

/* ---- a file of the copy ------------------------------------------------------------------------ */

static int copy_range(struct backup *b, struct io_file *from, struct io_file *to, uint64_t at, uint64_t end)
{
    int rc = 0;
    while (rc == 0 && at < end) {
        size_t want = (size_t)min_u64(CHUNK_BYTES, end - at), size;
        rc = io_read(from, b->chunk, want, at, &size);
        if (rc == 0)
            rc = size == want ? io_write_at(to, b->chunk, want, at) : TWINLOG_ECORRUPT;
        show_progress(b, want);
        at += want;
    }
    return rc;
}

/* Syncs the file in the copy, if it is of the same incarnation. Its name is not durable yet. */
static int check_file(struct backup *b, const struct segment *segment, struct segment *ret_copy)
{
    struct segment copy;
    int rc = twl_segment_open_valid(b->to, segment->name, &copy);
    if (rc < 0)
        return rc;
    if (copy.header.segment_id != segment->header.segment_id ||
        (copy.file_bytes < copy.header.bytes && !segment_is_mapped(&copy.header)))
        rc = TWINLOG_ECORRUPT;
    if (rc == 0)
        rc = io_sync(copy.file);
    copy.head_lsn = segment->head_lsn;
    if (rc < 0)
        twl_segment_close(&copy);
    else
        *ret_copy = copy;
    return rc;
}

/* To the end that the original has. */
static int check_records(struct backup *b, const struct segment *copy, struct position position,
                         uint64_t data_end, uint32_t chain)
{
    struct segment_iter *cursor = &b->cursor;
    int rc = 1;
    twl_iter_begin(cursor, copy, position);
    for (uint64_t end = SEGMENT_DATA_OFFSET; rc > 0 && end != data_end; end = cursor->offset)
        rc = twl_iter_accept_group(cursor);
    if (rc < 0)
        return rc;
    return rc > 0 && cursor->position.chain == chain ? 0 : TWINLOG_ECORRUPT;
}

/* Which bytes of a segment count. */
struct extent {
    bool is_open; /* the group in the copy is open, too, though the original may have its header by now */
    uint64_t data_end;    /* header and groups: from the start of the file up to here */
    uint64_t index_start; /* index and footer: from here to the end of the file; its end if there are none */
    uint64_t bytes;       /* of the file */
    uint32_t chain;       /* of the last group */
};

static int copy_file(struct backup *b, const struct segment *segment, struct position position,
                     const struct extent *extent)
{
    static const unsigned char no_header[GROUP_HEADER_BYTES];
    struct segment copy;
    struct io_file *file;
    const uint64_t bytes = extent->bytes;
    int rc = io_open(b->to, segment->name, IO_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = io_allocate(file, bytes, IO_ALLOCATE_SPACE);
    if (rc == 0)
        rc = copy_range(b, segment->file, file, 0, extent->data_end);
    if (rc == 0)
        rc = copy_range(b, segment->file, file, extent->index_start, bytes);
    if (rc == 0 && extent->index_start == bytes && !segment_is_mapped(&segment->header))
        rc = twl_segment_write_second_header(file, &segment->header);
    if (rc == 0 && extent->is_open)
        rc = io_write_at(file, no_header, sizeof(no_header), OPEN_GROUP_OFFSET);
    io_close(file);
    if (rc == 0)
        rc = check_file(b, segment, &copy);
    if (rc < 0)
        return rc;
    rc = check_records(b, &copy, position, extent->data_end, extent->chain);
    twl_segment_close(&copy);
    b->result.copied_bytes += bytes;
    show_progress(b, extent->index_start - extent->data_end);
    return rc;
}

/* ---- sealed segments --------------------------------------------------------------------------- */

/* 1 = done, 0 = not possible, for whatever reason, or not wanted. */
static int link_file(struct backup *b, const struct segment *segment)
{
    struct segment copy;
    if (b->options->flags & TWINLOG_BACKUP_COPY ||
        b->io->ops->link(b->io, segment->name, b->to, segment->name) < 0)
        return 0;
    int rc = check_file(b, segment, &copy);
    if (rc < 0)
        return rc;
    twl_segment_close(&copy);
    b->result.linked_bytes += copy.file_bytes;
    show_progress(b, copy.file_bytes);
    return 1;
}

static int back_up_sealed(struct backup *b, const struct segment *segment,
                          const struct segment_footer *footer)
{
    struct position position = b->cursor.position;
    uint64_t index_bytes = (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
    const struct extent extent = { .data_end = footer->data_end,
                                   .index_start = footer->offset - index_bytes,
                                   .bytes = footer->offset + SEGMENT_FOOTER_BYTES,
                                   .chain = footer->chain };
    int rc = twl_iter_enter_group(&b->cursor);
    if (rc <= 0 || (b->cursor.group.first_lsn != footer->first_lsn && !b->cursor.has_passed))
        return rc < 0 ? rc : TWINLOG_ECORRUPT;
    rc = link_file(b, segment);
    if (rc == 0)
        rc = copy_file(b, segment, position, &extent);
    b->position =
        (struct position){ .next_lsn = footer->last_lsn + 1, .chain = footer->chain, .epoch = footer->epoch };
    return rc < 0 ? rc : 0;
}

/* ---- segments that are not sealed -------------------------------------------------------------- */

/* A group is durable as a whole. That matters if the limit is inside a group, because the head is, and for an open
 * group that was closed after the watermark was read. */
static int find_data_end(struct backup *b, bool is_last, struct extent *extent)
{
    struct segment_iter *cursor = &b->cursor;
    int rc;
    extent->data_end = SEGMENT_DATA_OFFSET;
    while ((rc = twl_iter_accept_group(cursor)) > 0) {
        bool was_open = (cursor->group.flags & GROUP_MAPPED) && !cursor->is_open;
        bool has_limit = cursor->group.first_lsn <= b->limit_lsn && !cursor->is_open;
        if (is_last && (was_open || has_limit))
            b->limit_lsn = max_u64(b->limit_lsn, cursor->position.next_lsn - 1);
        if (is_last && cursor->position.next_lsn - 1 > b->limit_lsn) {
            twl_iter_back_out(cursor);
            return 0;
        }
        extent->data_end = cursor->offset;
        extent->is_open = cursor->is_open;
    }
    return rc;
}

/* Did the walk meet everything that it had to? */
static int check_end(const struct backup *b, size_t index, uint64_t data_end)
{
    const struct segment_set *set = &b->snapshot.set;
    uint64_t next_lsn = b->cursor.position.next_lsn;
    bool is_empty = data_end == SEGMENT_DATA_OFFSET && set->entries[index].header.start_lsn == 0;
    if (index < b->last)
        return is_empty || (twl_segment_set_bound(set, index) < UINT64_MAX &&
                            next_lsn < twl_segment_set_bound(set, index))
                   ? TWINLOG_ECORRUPT
                   : 0;
    /* Everything before it was trimmed, and its first group is on its way to the disk. */
    if (is_empty && b->snapshot.has_writer)
        return -EAGAIN;
    return !is_empty && next_lsn == b->limit_lsn + 1 ? 0 : TWINLOG_ECORRUPT;
}

static int back_up_unsealed(struct backup *b, const struct segment *segment, size_t index)
{
    struct position position = b->cursor.position;
    struct extent extent = { 0 };
    int rc = find_data_end(b, index == b->last, &extent);
    if (rc == 0)
        rc = check_end(b, index, extent.data_end);
    if (rc < 0)
        return rc;
    b->position = b->cursor.position;
    extent.chain = b->position.chain;
    extent.bytes = segment_is_mapped(&segment->header)
                       ? twl_segment_end_with_markers(segment, extent.data_end)
                       : segment->header.bytes;
    extent.index_start = extent.bytes;
    return copy_file(b, segment, position, &extent);
}

static int back_up_segment(struct backup *b, size_t index)
{
    struct segment segment;
    struct segment_footer footer;
    int rc = twl_log_snapshot_open_segment(b->io, &b->snapshot.set.entries[index], &segment);
    if (rc < 0)
        return rc;
    b->made = index + 1;
    bool is_fixed = segment.header.start_lsn > 0;
    twl_iter_begin(&b->cursor, &segment, is_fixed ? twl_position_before(&segment.header) : b->position);
    rc = index < b->last ? twl_segment_read_footer(&segment, &footer) : 0;
    if (rc > 0)
        rc = back_up_sealed(b, &segment, &footer);
    else if (rc >= 0)
        rc = back_up_unsealed(b, &segment, index);
    twl_segment_close(&segment);
    return rc;
}

/* ---- the log ----------------------------------------------------------------------------------- */

static int begin_copy(struct backup *b)
{
    struct io_file *file;
    int rc = io_open(b->to, STATE_NAME, IO_CREATE, &file);
    if (rc < 0)
        return rc == -EEXIST ? -ENOTEMPTY : rc;
    rc = io_sync(file);
    io_close(file);
    return rc < 0 ? rc : b->to->ops->sync_dir(b->to);
}

/* From here on nothing in the copy is written again. */
static int end_copy(struct backup *b)
{
    b->is_ending = true;
    struct state *state = &b->snapshot.state;
    const uint64_t least_lsn = b->snapshot.set.first_lsn - 1;
    int rc = b->to->ops->sync_dir(b->to);
    if (rc < 0)
        return rc;
    /* The cursors may have moved since the end of the copy was chosen. */
    twl_state_clamp_cursors(state, least_lsn, max_u64(b->limit_lsn, least_lsn));
    return twl_state_write(b->to, state);
}

/* While a writer opens the log it has not published what is durable, and the markers may be one group behind. */
static int load_snapshot(struct backup *b)
{
    for (unsigned waited_ms = 0;; waited_ms++) {
        int rc = twl_log_snapshot_load(b->io, SNAPSHOT_READS_DISK | SNAPSHOT_SYNCS, &b->snapshot, NULL);
        bool is_opening =
            rc == 0 && b->snapshot.has_writer && b->snapshot.shared.page && b->snapshot.epoch == 0;
        if (!is_opening || !b->io->has_threads)
            return rc;
        twl_log_snapshot_free(&b->snapshot);
        if (waited_ms == OPENING_MS)
            return -EBUSY;
        b->io->ops->sleep_ms(b->io, 1);
    }
}

static int try_once(struct backup *b)
{
    int rc = load_snapshot(b);
    if (rc == 0)
        rc = find_end(b);
    for (size_t i = 0; rc == 0 && i <= b->last; i++)
        rc = back_up_segment(b, i);
    return rc == 0 ? end_copy(b) : rc;
}

static void discard(struct backup *b)
{
    for (size_t i = 0; i < b->made; i++)
        b->to->ops->unlink(b->to, b->snapshot.set.entries[i].name);
    twl_log_snapshot_free(&b->snapshot);
    b->made = 0;
    b->done_bytes = 0;
    b->position = (struct position){ 0 };
    b->result = (struct twinlog_backup_result){ .size = b->result.size };
}

static bool is_outrun(struct backup *b, int error)
{
    bool may_be = error == TWINLOG_ECORRUPT || error == -ENOENT;
    if (b->is_ending)
        return false;
    return error == -EAGAIN ||
           (may_be && b->snapshot.set.started > 0 && !twl_log_snapshot_is_current(b->io, &b->snapshot));
}

static int try_until_it_fits(struct backup *b)
{
    for (unsigned views = 0; views < VIEWS; views++) {
        const int rc = try_once(b);
        if (!is_outrun(b, rc))
            return rc;
        discard(b);
    }
    return -EBUSY;
}

static void describe_copy(struct backup *b, struct twinlog_backup_result *ret_result)
{
    const struct segment_set *set = &b->snapshot.set;
    b->result.segments = (uint32_t)b->last + 1;
    if (b->limit_lsn >= set->first_lsn) {
        b->result.first_lsn = set->first_lsn;
        b->result.last_lsn = b->limit_lsn;
    }
    *ret_result = b->result;
}

int twl_backup(struct io *io, struct io *to, const struct twinlog_backup_options *options,
               struct twinlog_backup_result *ret_result)
{
    struct backup b = { .io = io,
                        .to = to,
                        .options = options,
                        .result = { .size = ret_result->size },
                        .chunk = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES) };
    int rc = b.chunk ? begin_copy(&b) : -ENOMEM;
    if (rc == 0) {
        rc = try_until_it_fits(&b);
        if (rc == 0) {
            describe_copy(&b, ret_result);
        } else {
            /* a state without segments could be taken for a new log */
            if (to->ops->unlink(to, STATE_NAME) == 0 && to->ops->sync_dir(to) == 0)
                discard(&b);
        }
    }
    twl_log_snapshot_free(&b.snapshot);
    twl_iter_free(&b.cursor);
    free(b.chunk);
    io->ops->destroy(io);
    to->ops->destroy(to);
    return rc;
}

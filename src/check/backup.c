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
    struct segment_iter iter;

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

    const int rc = twl_recover(b->io, set, false, NULL, &recovery);
    if (rc < 0)
        return rc;

    b->limit_lsn = recovery.position.next_lsn - 1;
    b->last = recovery.index;
    const bool is_fixed = set->entries[b->last].header.start_lsn > 0;
    const bool was_started_by_torn_group = recovery.last_group == 0 && !is_fixed;
    if (was_started_by_torn_group && b->last > 0) /* the copy does not have that segment */
        b->last--;
    return twl_recover_sync(b->io, set, min_u64(recovery.open_from, recovery.index), recovery.index);
}

/* The newest segment that has something durable, or is there for certain: its header says where it starts. */
static int find_end_beside_writer(struct backup *b)
{
    struct segment_set *set = &b->snapshot.set;

    int rc = twl_log_snapshot_find_durable(b->io, &b->snapshot, &b->limit_lsn);
    for (b->last = set->started - 1; rc == 0 && b->last > 0; b->last--) {
        struct segment_entry *entry = &set->entries[b->last];

        rc = twl_segment_look(b->io, entry);
        if (rc < 0 || entry->header.start_lsn > 0 || entry->first_lsn <= b->limit_lsn)
            break;
    }
    return rc;
}

static int find_end(struct backup *b)
{
    const int rc = b->snapshot.has_writer ? find_end_beside_writer(b) : find_end_alone(b);
    if (rc < 0)
        return rc;

    b->iter.passes_claims = !b->snapshot.has_writer;
    b->total_bytes = 0;
    for (size_t i = 0; i <= b->last; i++)
        b->total_bytes += segment_entry_bytes(&b->snapshot.set.entries[i]);
    return 0;
}

/* ---- a file of the copy ------------------------------------------------------------------------ */

static int copy_range(struct backup *b, struct io_file *from, struct io_file *to, uint64_t at, uint64_t end)
{
    while (at < end) {
        const size_t want = (size_t)min_u64(CHUNK_BYTES, end - at);
        size_t size;

        int rc = io_read(from, b->chunk, want, at, &size);
        if (rc == 0 && size < want) /* the file was cut meanwhile */
            rc = TWINLOG_ECORRUPT;
        if (rc == 0)
            rc = io_write_at(to, b->chunk, want, at);
        show_progress(b, want);
        if (rc < 0)
            return rc;
        at += want;
    }
    return 0;
}

/* Is it of the same incarnation, and as long as its header says? */
static bool is_copy_of(const struct segment *copy, const struct segment *segment)
{
    const bool is_cut = copy->file_bytes < copy->header.bytes && !segment_is_mapped(&copy->header);

    return copy->header.segment_id == segment->header.segment_id && !is_cut;
}

/* Opens the file in the copy, and syncs it. Its name is not durable yet. */
static int open_copy(struct backup *b, const struct segment *segment, struct segment *ret_copy)
{
    int rc = twl_segment_open_valid(b->to, segment->name, ret_copy);
    if (rc < 0)
        return rc;

    rc = is_copy_of(ret_copy, segment) ? io_sync(ret_copy->file) : TWINLOG_ECORRUPT;
    ret_copy->head_lsn = segment->head_lsn;
    if (rc < 0)
        twl_segment_close(ret_copy);
    return rc;
}

/* To the end that the original has. */
static int check_records(struct backup *b, const struct segment *copy, struct position position,
                         uint64_t data_end, uint32_t chain)
{
    struct segment_iter *iter = &b->iter;
    uint64_t end = SEGMENT_DATA_OFFSET;

    twl_iter_begin(iter, copy, position);
    while (end != data_end) {
        const int result = twl_iter_accept_group(iter);
        if (result < 0)
            return result;
        if (result == 0)
            return TWINLOG_ECORRUPT;
        end = iter->offset;
    }
    return iter->position.chain == chain ? 0 : TWINLOG_ECORRUPT;
}

/* Which bytes of a segment count. */
struct extent {
    bool is_open; /* the group in the copy is open, too, though the original may have its header by now */
    uint64_t data_end;    /* header and groups: from the start of the file up to here */
    uint64_t index_start; /* index and footer: from here to the end of the file; its end if there are none */
    uint64_t bytes;       /* of the file */
    uint32_t chain;       /* of the last group */
};

/* The second header has a place of its own in a file without a footer. */
static int write_second_header(struct io_file *file, const struct segment *segment,
                               const struct extent *extent)
{
    const bool has_footer = extent->index_start < extent->bytes;

    if (has_footer || segment_is_mapped(&segment->header))
        return 0;
    return twl_segment_write_second_header(file, &segment->header);
}

static int write_copy(struct backup *b, const struct segment *segment, const struct extent *extent,
                      struct io_file *file)
{
    static const unsigned char no_header[GROUP_HEADER_BYTES];

    int rc = io_allocate(file, extent->bytes, IO_ALLOCATE_SPACE);
    if (rc == 0)
        rc = copy_range(b, segment->file, file, 0, extent->data_end);
    if (rc == 0)
        rc = copy_range(b, segment->file, file, extent->index_start, extent->bytes);
    if (rc == 0)
        rc = write_second_header(file, segment, extent);
    if (rc == 0 && extent->is_open)
        rc = io_write_at(file, no_header, sizeof(no_header), OPEN_GROUP_OFFSET);
    return rc;
}

static int copy_file(struct backup *b, const struct segment *segment, struct position position,
                     const struct extent *extent)
{
    struct segment copy;
    struct io_file *file;

    int rc = io_open(b->to, segment->name, IO_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = write_copy(b, segment, extent, file);
    io_close(file);
    if (rc == 0)
        rc = open_copy(b, segment, &copy);
    if (rc < 0)
        return rc;

    rc = check_records(b, &copy, position, extent->data_end, extent->chain);
    twl_segment_close(&copy);
    b->result.copied_bytes += extent->bytes;
    show_progress(b, extent->index_start - extent->data_end);
    return rc;
}

/* ---- sealed segments --------------------------------------------------------------------------- */

/* False: that is not possible here, for whatever reason, or not wanted. */
static bool try_to_link(struct backup *b, const struct segment *segment)
{
    if (b->options->flags & TWINLOG_BACKUP_COPY)
        return false;
    return b->io->ops->link(b->io, segment->name, b->to, segment->name) == 0;
}

static int check_link(struct backup *b, const struct segment *segment)
{
    struct segment copy;

    const int rc = open_copy(b, segment, &copy);
    if (rc < 0)
        return rc;
    twl_segment_close(&copy);
    b->result.linked_bytes += copy.file_bytes;
    show_progress(b, copy.file_bytes);
    return 0;
}

/* Its first group must be there, and be the one that the footer counts from; what was removed need not. */
static int check_front(struct backup *b, const struct segment_footer *footer)
{
    const int result = twl_iter_enter_group(&b->iter);
    if (result < 0)
        return result;
    if (result == 0)
        return TWINLOG_ECORRUPT;
    const bool is_counted = b->iter.group.first_lsn == footer->first_lsn;
    return is_counted || b->iter.has_passed ? 0 : TWINLOG_ECORRUPT;
}

static int back_up_sealed(struct backup *b, const struct segment *segment,
                          const struct segment_footer *footer)
{
    const struct position position = b->iter.position;
    const uint64_t index_bytes = (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
    const struct extent extent = { .data_end = footer->data_end,
                                   .index_start = footer->offset - index_bytes,
                                   .bytes = footer->offset + SEGMENT_FOOTER_BYTES,
                                   .chain = footer->chain };

    int rc = check_front(b, footer);
    if (rc < 0)
        return rc;
    if (try_to_link(b, segment))
        rc = check_link(b, segment);
    else
        rc = copy_file(b, segment, position, &extent);
    b->position =
        (struct position){ .next_lsn = footer->last_lsn + 1, .chain = footer->chain, .epoch = footer->epoch };
    return rc;
}

/* ---- segments that are not sealed -------------------------------------------------------------- */

/* A group is durable as a whole. That matters if the limit is inside a group, because the head is, and for an open
 * group that was closed after the watermark was read. */
static uint64_t limit_with_group(const struct backup *b)
{
    const struct segment_iter *iter = &b->iter;
    const bool was_open = (iter->group.flags & GROUP_MAPPED) && !iter->is_open;
    const bool has_limit = iter->group.first_lsn <= b->limit_lsn && !iter->is_open;

    if (!was_open && !has_limit)
        return b->limit_lsn;
    return max_u64(b->limit_lsn, iter->position.next_lsn - 1);
}

/* Walks up to the last group of the copy that is in this segment. */
static int find_data_end(struct backup *b, bool is_last, struct extent *extent)
{
    struct segment_iter *iter = &b->iter;
    int result;

    extent->data_end = SEGMENT_DATA_OFFSET;
    while ((result = twl_iter_accept_group(iter)) > 0) {
        if (is_last)
            b->limit_lsn = limit_with_group(b);
        if (is_last && iter->position.next_lsn - 1 > b->limit_lsn) {
            twl_iter_back_out(iter);
            return 0;
        }
        extent->data_end = iter->offset;
        extent->is_open = iter->is_open;
    }
    return result;
}

/* Did the walk meet everything that it had to? */
static int check_end(const struct backup *b, size_t index, uint64_t data_end)
{
    const struct segment_set *set = &b->snapshot.set;
    const uint64_t next_lsn = b->iter.position.next_lsn, bound = twl_segment_set_bound(set, index);
    const bool is_fixed = set->entries[index].header.start_lsn > 0;
    const bool is_empty = data_end == SEGMENT_DATA_OFFSET && !is_fixed;

    if (index < b->last) {
        const bool ends_early = bound < UINT64_MAX && next_lsn < bound;
        return is_empty || ends_early ? TWINLOG_ECORRUPT : 0;
    }

    /* Everything before it was trimmed, and nothing says yet that its first group is durable: the writer's page cannot
     * be seen, or was looked at before. A segment without any group is not in the set, and that is damage. */
    if (is_empty && b->snapshot.has_writer)
        return -EAGAIN;
    return !is_empty && next_lsn == b->limit_lsn + 1 ? 0 : TWINLOG_ECORRUPT;
}

static int back_up_unsealed(struct backup *b, const struct segment *segment, size_t index)
{
    const struct position position = b->iter.position;
    struct extent extent = { 0 };

    int rc = find_data_end(b, index == b->last, &extent);
    if (rc == 0)
        rc = check_end(b, index, extent.data_end);
    if (rc < 0)
        return rc;

    b->position = b->iter.position;
    extent.chain = b->position.chain;
    extent.bytes = segment->header.bytes;
    if (segment_is_mapped(&segment->header))
        extent.bytes = twl_segment_end_with_markers(segment, extent.data_end);
    extent.index_start = extent.bytes;
    return copy_file(b, segment, position, &extent);
}

static int back_up_segment(struct backup *b, size_t index)
{
    struct segment_footer footer;
    struct segment segment;
    int has_footer = 0;

    int rc = twl_log_snapshot_open_segment(b->io, &b->snapshot.set.entries[index], &segment);
    if (rc < 0)
        return rc;
    b->made = index + 1;
    const bool is_fixed = segment.header.start_lsn > 0;
    twl_iter_begin(&b->iter, &segment, is_fixed ? twl_position_before(&segment.header) : b->position);

    if (index < b->last) /* that of the last one may be of a later end */
        has_footer = twl_segment_read_footer(&segment, &footer);
    if (has_footer < 0)
        rc = has_footer;
    else if (has_footer > 0)
        rc = back_up_sealed(b, &segment, &footer);
    else
        rc = back_up_unsealed(b, &segment, index);
    twl_segment_close(&segment);
    return rc;
}

/* ---- the log ----------------------------------------------------------------------------------- */

static int begin_copy(struct backup *b)
{
    struct io_file *file;

    int rc = io_open(b->to, STATE_NAME, IO_CREATE, &file);
    if (rc == -EEXIST)
        return -ENOTEMPTY;
    if (rc < 0)
        return rc;
    rc = io_sync(file);
    io_close(file);
    if (rc == 0)
        rc = b->to->ops->sync_dir(b->to);
    if (rc < 0) /* the directory is as empty as it was, for the next backup */
        b->to->ops->unlink(b->to, STATE_NAME);
    return rc;
}

/* From here on nothing in the copy is written again. */
static int end_copy(struct backup *b)
{
    struct state *state = &b->snapshot.state;
    const uint64_t least_lsn = b->snapshot.set.first_lsn - 1;

    b->is_ending = true;
    const int rc = b->to->ops->sync_dir(b->to);
    if (rc < 0)
        return rc;

    /* The cursors may have moved since the end of the copy was chosen. */
    twl_state_clamp_cursors(state, least_lsn, max_u64(b->limit_lsn, least_lsn));
    state->header.generation = GENERATION_WITH_SEGMENTS;
    return twl_state_write(b->to, state);
}

/* While a writer opens the log it has not published what is durable, and the markers may be one group behind. */
static bool is_being_opened(const struct log_snapshot *snapshot)
{
    return snapshot->has_writer && snapshot->shared.page && snapshot->epoch == 0;
}

static int load_snapshot(struct backup *b)
{
    const unsigned flags = SNAPSHOT_READS_DISK | SNAPSHOT_SYNCS;

    for (unsigned waited_ms = 0; waited_ms <= OPENING_MS; waited_ms++) {
        const int rc = twl_log_snapshot_load(b->io, flags, &b->snapshot, NULL);
        if (rc < 0)
            return rc;
        if (!is_being_opened(&b->snapshot) || !b->io->has_threads)
            return 0;

        twl_log_snapshot_free(&b->snapshot);
        if (waited_ms < OPENING_MS)
            b->io->ops->sleep_ms(b->io, 1);
    }
    return -EBUSY;
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

/* Has the log changed under the copy, so that this may not be its fault? 1 or 0; or an error, where that cannot be
 * seen. */
static int is_outrun(struct backup *b, int error)
{
    const bool may_be = error == TWINLOG_ECORRUPT || error == -ENOENT;
    const bool has_snapshot = b->snapshot.set.started > 0;

    if (b->is_ending)
        return 0;
    if (error == -EAGAIN)
        return 1;
    if (!may_be || !has_snapshot)
        return 0;

    const int is_current = twl_log_snapshot_is_current(b->io, &b->snapshot);
    return is_current < 0 ? is_current : is_current == 0;
}

static int try_until_it_fits(struct backup *b)
{
    for (unsigned views = 0; views < VIEWS; views++) {
        const int rc = try_once(b);
        const int is_behind = is_outrun(b, rc);
        if (is_behind < 0)
            return is_behind;
        if (is_behind == 0)
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

/* A state without segments could be taken for a new log, so it goes first. */
static void remove_copy(struct backup *b)
{
    struct io *to = b->to;

    if (to->ops->unlink(to, STATE_NAME) == 0 && to->ops->sync_dir(to) == 0)
        discard(b);
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
        if (rc == 0)
            describe_copy(&b, ret_result);
        else
            remove_copy(&b);
    }
    twl_log_snapshot_free(&b.snapshot);
    twl_iter_free(&b.iter);
    free(b.chunk);
    io->ops->destroy(io);
    to->ops->destroy(to);
    return rc;
}

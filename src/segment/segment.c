/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment file.
 *
 * A segment is made under a temporary name: it gets its full size and its header, is synced and renamed, and the
 * directory is synced. So a file with a segment's name has always had a durable header.
 *
 * A file of records that are gone for good can get a new incarnation: a new header overwrites the old one. That
 * is one sector, so a crash leaves one or the other. Every checksum in the file is seeded by the identity in
 * its header, so nothing of the old incarnation can be read in the new one (I8).
 *
 * The second header, for repair, is replaced before the first one, durably. A crash in between leaves a second header
 * that no group was written under, so it does not count. The other way round the second header of the old incarnation
 * could stay, and with it the old groups.
 */
#define _GNU_SOURCE
#include "segment/segment.h"

#include "base/bytes.h"
#include "base/point.h"
#include "format/checksum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_DIGITS 16u
#define NAME_SUFFIX ".twl"
#define TEMPORARY_SUFFIX ".twl.new"

void twl_segment_name(uint64_t number, char ret_name[SEGMENT_NAME_BYTES])
{
    snprintf(ret_name, SEGMENT_NAME_BYTES, "%016llx" NAME_SUFFIX, (unsigned long long)number);
}

static bool is_named(const char *name, const char *suffix)
{
    return strspn(name, "0123456789abcdef") == NAME_DIGITS && strcmp(name + NAME_DIGITS, suffix) == 0;
}

bool twl_segment_name_is_ours(const char *name)
{
    return is_named(name, NAME_SUFFIX);
}

bool twl_segment_name_is_temporary(const char *name)
{
    return is_named(name, TEMPORARY_SUFFIX);
}

uint64_t twl_segment_name_number(const char *name)
{
    return strtoull(name, NULL, 16);
}

/* ---- incarnations ------------------------------------------------------------------------------ */

/* The header of a new incarnation, with a random identity of its own. */
static int compose_header(struct io *io, const struct segment_plan *plan, struct segment_header *ret_header)
{
    struct segment_header header = {
        .sequence = plan->sequence,
        .bytes = plan->bytes,
        .after_lsn = plan->after_lsn,
        .created_ns = io->ops->now_ns(io),
        .epoch = plan->epoch,
        .start_lsn = plan->start_lsn,
        .previous = plan->previous,
        .start_chain = plan->start_chain,
        .writer = twl_writer(),
    };

    if (plan->is_mapped)
        header.incompatible = FEATURE_MAPPED;
    memcpy(header.log_id, plan->log_id, LOG_ID_BYTES);

    const int rc = io->ops->random(io, &header.segment_id, sizeof(header.segment_id));
    if (rc == 0)
        *ret_header = header;
    return rc;
}

static void take_header(struct segment *segment, const struct segment_header *header)
{
    segment->header = *header;
    segment->seed = twl_segment_seed(header);
    segment->data_end = twl_segment_data_end(header->bytes);
    segment->write_end = segment->data_end;
}

static int write_header(struct io_file *file, const struct segment_header *header)
{
    _Alignas(BLOCK_BYTES) unsigned char block[SEGMENT_HEADER_BYTES];

    twl_segment_header_encode(header, block);
    return io_write_at(file, block, SEGMENT_HEADER_BYTES, 0);
}

int twl_segment_write_second_header(struct io_file *file, const struct segment_header *header)
{
    _Alignas(BLOCK_BYTES) unsigned char block[SEGMENT_FOOTER_BYTES] = { 0 };

    twl_second_header_encode(header, block);
    return io_write_at(file, block, SEGMENT_FOOTER_BYTES, twl_segment_data_end(header->bytes));
}

int twl_segment_give_summary(struct segment *segment)
{
    segment->summary = malloc(sizeof(*segment->summary));
    if (!segment->summary)
        return -ENOMEM;

    twl_summary_begin(segment->summary);
    return 0;
}

/* Hands the segment over, or closes it after a failure. */
static int hand_over(int rc, struct segment *segment, struct segment *ret_segment)
{
    if (rc < 0)
        twl_segment_close(segment);
    else
        *ret_segment = *segment;
    return rc;
}

/* Everything except the rename to the final name. */
static int fill_file(struct segment *segment, const struct segment_plan *plan)
{
    struct segment_header header;

    int rc = io_lock(segment->file, IO_LOCK_WRITER, true);
    if (rc == 0)
        rc = twl_segment_give_summary(segment);
    if (rc == 0)
        rc = io_allocate(segment->file, plan->bytes, plan->allocation);
    if (rc == 0)
        rc = compose_header(segment->file->io, plan, &header);

    if (rc == 0 && !plan->is_mapped)
        rc = twl_segment_write_second_header(segment->file, &header);
    if (rc == 0)
        rc = write_header(segment->file, &header);
    if (rc == 0)
        rc = io_sync(segment->file);
    if (rc < 0)
        return rc;

    take_header(segment, &header);
    segment->file_bytes = plan->bytes;
    return 0;
}

static void temporary_name(uint64_t number, char ret_name[SEGMENT_NAME_BYTES])
{
    snprintf(ret_name, SEGMENT_NAME_BYTES, "%016llx" TEMPORARY_SUFFIX, (unsigned long long)number);
}

static void set_in_doubt(bool *ret_is_in_doubt, bool is_in_doubt)
{
    if (ret_is_in_doubt)
        *ret_is_in_doubt = is_in_doubt;
}

/* Makes the file under its temporary name, which it loses again after a failure. */
static int make_temporary(struct io *io, const char *temporary, const struct segment_plan *plan,
                          struct segment *segment)
{
    int rc = io->ops->unlink(io, temporary); /* left by a failed attempt */
    if (rc < 0 && rc != -ENOENT)
        return rc;

    rc = io_open(io, temporary, IO_CREATE | plan->open_flags, &segment->file);
    if (rc < 0)
        return rc;

    rc = fill_file(segment, plan);
    if (rc == 0)
        rc = io->ops->rename(io, temporary, segment->name);
    if (rc < 0)
        io->ops->unlink(io, temporary);
    return rc;
}

int twl_segment_create(struct io *io, const struct segment_plan *plan, struct segment *ret_segment,
                       bool *ret_is_in_doubt)
{
    struct segment segment = { 0 };
    char temporary[SEGMENT_NAME_BYTES];

    set_in_doubt(ret_is_in_doubt, false);
    twl_segment_name(plan->number, segment.name);
    temporary_name(plan->number, temporary);

    int rc = make_temporary(io, temporary, plan, &segment);
    if (rc < 0)
        return hand_over(rc, &segment, ret_segment);

    rc = io->ops->sync_dir(io);
    if (rc < 0) { /* a crash may remove the file or bring it back */
        io->ops->unlink(io, segment.name);
        set_in_doubt(ret_is_in_doubt, true);
    }

    return hand_over(rc, &segment, ret_segment);
}

/* A random number, so no other process uses the same temporary name. */
static int random_temporary(struct io *io, char ret_name[SEGMENT_NAME_BYTES])
{
    uint64_t number = 0;

    const int rc = io->ops->random(io, &number, sizeof(number));
    temporary_name(number, ret_name);
    return rc;
}

int twl_segment_create_first_of_all(struct io *io, const struct segment_plan *plan,
                                    struct segment *ret_segment)
{
    const unsigned mode = plan->predecessor ? 0600u : 0666u; /* until it has inherited its own */
    struct segment segment = { 0 };
    char temporary[SEGMENT_NAME_BYTES];

    twl_segment_name(plan->number, segment.name);
    int rc = random_temporary(io, temporary);
    if (rc == 0)
        rc = io_open(io, temporary, IO_CREATE | mode * IO_MODE, &segment.file);
    if (rc < 0)
        return rc;

    if (plan->predecessor)
        rc = io->ops->inherit(segment.file, plan->predecessor, false);
    if (rc == 0)
        rc = fill_file(&segment, plan);
    if (rc == 0) /* until the temporary name is gone, for twl_segment_remove_dead() */
        rc = io_lock(segment.file, IO_LOCK_WRITER, false);
    if (rc == 0) /* else a crash may leave a gap */
        rc = io->ops->sync_dir(io);

    POINT("next-unnamed");
    if (rc == 0)
        rc = io->ops->link(io, temporary, io, segment.name);
    POINT("next-named");

    io->ops->unlink(io, temporary);
    return hand_over(rc, &segment, ret_segment);
}

/* Did the process die that made this file? It had locked the file before it gave it any bytes. False if that cannot be
 * found out. */
static bool is_left(struct io_file *file)
{
    uint64_t bytes = 0;

    if (io_size(file, &bytes) < 0 || bytes == 0)
        return false;
    return io_lock(file, IO_LOCK_WRITER, true) == 0;
}

/* What cannot be removed now stays for the next process that makes a segment. */
static int remove_if_dead(void *context, const char *name)
{
    struct io *io = context;
    struct io_file *file;

    if (!twl_segment_name_is_temporary(name))
        return 0;
    if (io_open(io, name, 0, &file) < 0)
        return 0;

    if (is_left(file))
        io->ops->unlink(io, name);
    io_close(file);
    return 0;
}

void twl_segment_remove_dead(struct io *io)
{
    io->ops->list(io, remove_if_dead, io);
}

int twl_segment_check_links(struct io *io, const char *name)
{
    char temporary[SEGMENT_NAME_BYTES];

    int rc = random_temporary(io, temporary);
    if (rc == 0)
        rc = io->ops->link(io, name, io, temporary);
    if (rc == 0)
        io->ops->unlink(io, temporary);

    switch (rc) {
    case -EPERM:
    case -EOPNOTSUPP:
    case -ENOSYS:
    case -EMLINK:
        return -ENOTSUP;
    default:
        return rc;
    }
}

/* Claims the file for overwriting. It must not be mapped or about to be linked by any process, must have
 * one name, and must share no blocks with a clone, so that writing takes no space. */
static int claim(struct segment *segment)
{
    uint32_t links;

    int rc = io_lock(segment->file, IO_LOCK_USE, true);
    if (rc == -EAGAIN)
        return -EBUSY;
    if (rc < 0)
        return rc;

    rc = io_links(segment->file, segment->name, &links);
    if (rc < 0)
        return rc;
    if (links != 1)
        return -EBUSY;

    /* Where it cannot be found out which file has the blocks, they may be shared. */
    if (io_allocate(segment->file, segment->header.bytes, IO_ALLOCATE_OWN) < 0)
        return -EBUSY;
    return 0;
}

/* The header of the next incarnation. */
static int compose_next_header(const struct segment *segment, const struct segment_plan *plan,
                               struct segment_header *ret_header)
{
    struct segment_plan next = *plan;

    next.bytes = segment->header.bytes;
    const int rc = compose_header(segment->file->io, &next, ret_header);
    if (rc < 0)
        return rc;

    ret_header->incarnations = segment->header.incarnations;
    if (ret_header->incarnations < UINT32_MAX)
        ret_header->incarnations++;
    return 0;
}

/* While the file is claimed. */
static int begin_incarnation(struct segment *segment, const struct segment_plan *plan, bool *ret_is_in_doubt)
{
    struct segment_header header;

    int rc = compose_next_header(segment, plan, &header);
    if (rc == 0) /* also where it does not belong: what the old incarnation left there must not stay */
        rc = twl_segment_write_second_header(segment->file, &header);
    if (rc == 0) /* also that it has lost its other names: a crash would bring them back */
        rc = io_sync(segment->file);
    if (rc < 0)
        return rc;

    rc = write_header(segment->file, &header);
    if (rc == 0)
        rc = io_sync_data(segment->file);
    if (rc < 0) {
        set_in_doubt(ret_is_in_doubt, true);
        return rc;
    }

    take_header(segment, &header);
    return 0;
}

/* The file of a mapped segment may have holes. */
static bool is_recyclable(const struct segment *segment, enum header_state state)
{
    if (state != HEADER_VALID || segment_is_mapped(&segment->header))
        return false;
    return segment->file_bytes >= segment->header.bytes;
}

int twl_segment_recycle(struct io *io, const char *name, const struct segment_plan *plan,
                        struct segment *ret_segment, bool *ret_is_in_doubt)
{
    struct segment segment;
    enum header_state state;

    set_in_doubt(ret_is_in_doubt, false);
    int rc = twl_segment_open(io, name, plan->open_flags, 0, &segment, &state);
    if (rc < 0)
        return rc;

    if (!is_recyclable(&segment, state))
        rc = TWINLOG_ECORRUPT;
    if (rc == 0)
        rc = twl_lock_patiently(segment.file, IO_LOCK_WRITER, true, 0);
    if (rc == 0) /* changes nothing, but asks whether the file may be this long */
        rc = io_allocate(segment.file, segment.header.bytes, IO_ALLOCATE_NOTHING);
    if (rc == 0)
        rc = twl_segment_give_summary(&segment);

    if (rc == 0) {
        rc = claim(&segment);
        if (rc == 0)
            rc = begin_incarnation(&segment, plan, ret_is_in_doubt);
        io_unlock(segment.file, IO_LOCK_USE);
    }

    return hand_over(rc, &segment, ret_segment);
}

/* ---- opening ----------------------------------------------------------------------------------- */

int twl_segment_open(struct io *io, const char *name, unsigned open_flags, unsigned lock_timeout_ms,
                     struct segment *ret_segment, enum header_state *ret_state)
{
    struct io_file *file;

    const int rc = io_open(io, name, open_flags, &file);
    if (rc < 0)
        return rc;
    return twl_segment_take(file, name, lock_timeout_ms, ret_segment, ret_state);
}

static int read_header(struct io_file *file, enum header_state *ret_state, struct segment_header *ret_header)
{
    _Alignas(HEADER_SECTOR_BYTES) unsigned char sector[HEADER_SECTOR_BYTES];
    size_t size = 0;

    *ret_state = HEADER_FOREIGN;
    const int rc = io_read(file, sector, sizeof(sector), 0, &size);
    if (rc == 0 && size == sizeof(sector))
        *ret_state = twl_segment_header_decode(sector, ret_header);
    return rc;
}

int twl_segment_take(struct io_file *file, const char *name, unsigned lock_timeout_ms,
                     struct segment *ret_segment, enum header_state *ret_state)
{
    struct segment segment = { .file = file };
    struct segment_header header;
    enum header_state state = HEADER_FOREIGN;
    int rc = 0;

    snprintf(segment.name, sizeof(segment.name), "%s", name);
    if (lock_timeout_ms > 0)
        rc = twl_lock_patiently(file, IO_LOCK_WRITER, true, lock_timeout_ms);
    if (rc == 0)
        rc = read_header(file, &state, &header);
    if (lock_timeout_ms == 0) /* else the file may have got another size meanwhile */
        segment.file_bytes = file->opened_bytes;
    if (rc == 0 && segment.file_bytes == 0)
        rc = io_size(file, &segment.file_bytes);

    if (segment.file_bytes < SEGMENT_HEADER_BYTES)
        state = HEADER_FOREIGN;
    if (rc == 0 && state == HEADER_VALID)
        take_header(&segment, &header);
    if (rc == 0 && state != HEADER_VALID && !ret_state)
        rc = TWINLOG_ECORRUPT;

    if (ret_state)
        *ret_state = state;
    return hand_over(rc, &segment, ret_segment);
}

int twl_segment_check_incarnation(const struct segment *segment, const struct segment_header *header)
{
    struct segment_header now;
    enum header_state state;

    const int rc = read_header(segment->file, &state, &now);
    if (rc < 0)
        return rc;

    const bool is_same = state == HEADER_VALID && twl_is_same_incarnation(&now, header);
    if (!is_same)
        return -EAGAIN;
    return 0;
}

int twl_segment_open_valid(struct io *io, const char *name, struct segment *ret_segment)
{
    return twl_segment_open(io, name, IO_READ_ONLY, 0, ret_segment, NULL);
}

void twl_segment_close(struct segment *segment)
{
    io_close(segment->file);
    free(segment->summary);
    segment->file = NULL;
    segment->summary = NULL;
}

/* ---- the end ----------------------------------------------------------------------------------- */

/* Entries grow downwards from the footer. */
static void encode_index(const struct sparse_index *index, uint32_t step, uint32_t count,
                         unsigned char *footer_at)
{
    unsigned char *at = footer_at;

    for (uint32_t i = 0; i < count; i++) {
        at -= INDEX_ENTRY_BYTES;
        twl_index_entry_encode(&index->entries[i * step], at);
    }
}

/* A process that reads the file through a mapping holds IO_LOCK_USE, and would lose the end of it. A file that is
 * shorter than its header says is never mapped to be read, so it needs no lock. */
static int shorten(struct segment *segment, uint64_t bytes)
{
    const bool may_be_mapped = segment->file_bytes >= segment->header.bytes;

    if (segment->file_bytes <= bytes)
        return 0;
    if (may_be_mapped && io_lock(segment->file, IO_LOCK_USE, true) < 0)
        return 0;

    const int rc = io_truncate(segment->file, bytes);
    if (may_be_mapped)
        io_unlock(segment->file, IO_LOCK_USE);
    if (rc == 0)
        segment->file_bytes = bytes;
    return rc;
}

/* The second header, which is behind the footer, stays as it is. A mapped segment has none there. */
static int read_footer_block(const struct segment *segment, uint64_t offset,
                             unsigned char block[SEGMENT_FOOTER_BYTES])
{
    size_t size;

    memset(block, 0, SEGMENT_FOOTER_BYTES);
    if (segment_is_mapped(&segment->header))
        return 0;
    return io_read(segment->file, block, SEGMENT_FOOTER_BYTES, offset, &size);
}

/* Where the index may begin. The word behind the groups of a mapped segment may be a claim that ends the group
 * (format.h). It stays for processes that still have the segment mapped. */
static uint64_t index_start(const struct segment *segment, uint64_t data_end)
{
    uint64_t end = data_end;

    if (segment_is_mapped(&segment->header))
        end += CLAIM_BYTES;
    return min_u64(align_up(end, BLOCK_BYTES), segment->data_end);
}

/* In one write. `is_at_end`: behind the data, where the file ends by now. */
static int write_seal(const struct segment *segment, struct segment_footer *footer, uint32_t step,
                      bool is_at_end)
{
    const size_t index_bytes = (size_t)footer->index_entries * INDEX_ENTRY_BYTES;
    const size_t index_blocks = (size_t)align_up(index_bytes, BLOCK_BYTES);
    const size_t size = index_blocks + SEGMENT_FOOTER_BYTES;

    footer->offset = segment->data_end;
    if (is_at_end)
        footer->offset = index_start(segment, footer->data_end) + index_blocks;

    unsigned char *bytes = aligned_alloc(BLOCK_BYTES, size);
    if (!bytes)
        return -ENOMEM;

    memset(bytes, 0, size);
    unsigned char *footer_at = bytes + index_blocks;
    int rc = read_footer_block(segment, footer->offset, footer_at);
    encode_index(&segment->summary->index, step, footer->index_entries, footer_at);
    footer->index_checksum = twl_crc32c(0, footer_at - index_bytes, index_bytes);
    twl_segment_footer_encode(footer, segment->seed, footer->offset, footer_at);

    if (rc == 0)
        rc = io_write_at(segment->file, bytes, size, footer->offset - index_blocks);
    if (rc == 0)
        rc = io_sync_data(segment->file);
    free(bytes);
    return rc;
}

static void compose_footer(const struct segment *segment, int64_t max_time_so_far_ns,
                           struct segment_footer *ret_footer, uint32_t *ret_step)
{
    struct io *io = segment->file->io;
    const uint64_t room = segment->data_end - index_start(segment, segment->summary->data_end);

    twl_summary_footer(segment->summary, room, io->ops->now_ns(io), ret_footer, ret_step);
    if (ret_footer->max_time_so_far_ns < max_time_so_far_ns)
        ret_footer->max_time_so_far_ns = max_time_so_far_ns;
}

int twl_segment_seal(const struct segment *segment, int64_t max_time_so_far_ns,
                     struct segment_footer *ret_footer)
{
    struct segment_footer footer;
    uint32_t step;

    compose_footer(segment, max_time_so_far_ns, &footer, &step);
    const int rc = write_seal(segment, &footer, step, false);
    if (rc == 0)
        *ret_footer = footer;
    return rc;
}

/* Would a mapped segment be shorter with index and footer behind its data? */
static bool is_worth_cutting(const struct segment *segment, const struct segment_footer *footer)
{
    const uint64_t index_bytes = (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
    const uint64_t start = index_start(segment, footer->data_end);
    const uint64_t bytes = start + align_up(index_bytes, BLOCK_BYTES) + SEGMENT_FOOTER_BYTES;

    return segment_is_mapped(&segment->header) && bytes < segment->header.bytes;
}

/* Cuts the file where the index will begin, durably. Not if a process reads it through a mapping. */
static int cut_durably(struct segment *segment, const struct segment_footer *footer, bool *ret_is_cut)
{
    const uint64_t start = index_start(segment, footer->data_end);

    *ret_is_cut = false;
    const int rc = shorten(segment, start);
    if (rc < 0 || segment->file_bytes > start)
        return rc;

    *ret_is_cut = true;
    return io_sync(segment->file);
}

/* The file is cut first, durably: so at no time is there a footer in the middle of a file, of which a later length
 * could make the last block. A crash in between leaves a segment without a footer, which is walked. */
int twl_segment_seal_and_cut(struct segment *segment, int64_t max_time_so_far_ns,
                             struct segment_footer *ret_footer)
{
    struct segment_footer footer;
    uint32_t step;
    bool is_cut = false;
    int rc = 0;

    compose_footer(segment, max_time_so_far_ns, &footer, &step);
    if (is_worth_cutting(segment, &footer))
        rc = cut_durably(segment, &footer, &is_cut);

    POINT("left-cut");

    if (rc == 0)
        rc = write_seal(segment, &footer, step, is_cut);
    if (rc < 0)
        return rc;

    segment->file_bytes = footer.offset + SEGMENT_FOOTER_BYTES;
    *ret_footer = footer;
    return 0;
}

uint64_t twl_segment_footer_offset(const struct segment *segment)
{
    const uint64_t bytes = segment->file_bytes;
    const bool is_cut = segment_is_mapped(&segment->header) && bytes < segment->header.bytes;
    const bool has_room = bytes > SEGMENT_DATA_OFFSET + BLOCK_BYTES;

    if (is_cut && has_room && bytes % BLOCK_BYTES == 0)
        return bytes - SEGMENT_FOOTER_BYTES;
    return segment->data_end;
}

int twl_segment_read_footer(const struct segment *segment, struct segment_footer *ret_footer)
{
    _Alignas(FOOTER_SECTOR_BYTES) unsigned char sector[FOOTER_SECTOR_BYTES];
    const uint64_t offset = twl_segment_footer_offset(segment);
    size_t size = 0;

    const int rc = io_read(segment->file, sector, sizeof(sector), offset, &size);
    if (rc < 0)
        return rc;
    return size == sizeof(sector) && twl_segment_footer_decode(sector, segment->seed, offset, ret_footer);
}

/* A footer that is behind the data: the file is cut in front of the index. */
static int cut_footer_off(struct segment *segment, const struct segment_footer *footer)
{
    const uint64_t bytes = index_start(segment, footer->data_end);

    const int rc = io_truncate(segment->file, bytes);
    if (rc == 0)
        segment->file_bytes = bytes;
    return rc;
}

/* A footer at the end of the whole file. The index stays: nothing relies on one without a footer. */
static int clear_footer(const struct segment *segment, const struct segment_footer *footer)
{
    _Alignas(BLOCK_BYTES) unsigned char block[SEGMENT_FOOTER_BYTES];

    const int rc = read_footer_block(segment, footer->offset, block);
    if (rc < 0)
        return rc;

    memset(block, 0, FOOTER_SECTOR_BYTES);
    return io_write_at(segment->file, block, SEGMENT_FOOTER_BYTES, footer->offset);
}

int twl_segment_unseal(struct segment *segment)
{
    struct segment_footer footer;
    int rc;

    const int found = twl_segment_read_footer(segment, &footer);
    if (found <= 0)
        return found;

    if (footer.offset < segment->data_end)
        rc = cut_footer_off(segment, &footer);
    else
        rc = clear_footer(segment, &footer);
    if (rc < 0)
        return rc;
    return io_sync(segment->file);
}

/* ---- space ------------------------------------------------------------------------------------- */

uint64_t twl_segment_end_with_markers(const struct segment *segment, uint64_t end)
{
    return min_u64(align_up(end, BLOCK_BYTES) + SEGMENT_MARKER_BYTES, segment->data_end);
}

int twl_segment_truncate(struct segment *segment, uint64_t end)
{
    return shorten(segment, twl_segment_end_with_markers(segment, end));
}

static int reserve_all(struct segment *segment, uint64_t end)
{
    const uint64_t bytes = segment->header.bytes;

    /* A sync writes a length only if it has changed: the disk may lack the one that an earlier, failed opening gave. */
    int rc = twl_segment_truncate(segment, end);
    if (rc == 0)
        rc = io_allocate(segment->file, bytes, IO_ALLOCATE_SPACE);
    if (is_no_space(rc))
        segment->file_bytes = bytes; /* the file may have got longer before the disk was full */
    return rc;
}

/* What marker groups need, or as much of that as there is. */
static int reserve_for_markers(struct segment *segment, uint64_t end, uint64_t *ret_bytes)
{
    const uint64_t least = align_up(end, BLOCK_BYTES);
    uint64_t bytes = twl_segment_end_with_markers(segment, end);

    int rc = io_allocate(segment->file, bytes, IO_ALLOCATE_SPACE);
    while (is_no_space(rc) && bytes >= least + BLOCK_BYTES) {
        bytes -= BLOCK_BYTES;
        rc = io_allocate(segment->file, bytes, IO_ALLOCATE_SPACE);
    }

    *ret_bytes = bytes;
    return rc;
}

int twl_segment_reserve(struct segment *segment, uint64_t end, bool is_whole)
{
    uint64_t bytes = segment->header.bytes;
    int rc = -ENOSPC;

    if (is_whole)
        rc = reserve_all(segment, end);
    if (is_no_space(rc))
        rc = reserve_for_markers(segment, end, &bytes);
    if (rc < 0)
        return rc;

    segment->file_bytes = max_u64(segment->file_bytes, bytes);
    segment->write_end = min_u64(bytes, segment->data_end);
    return shorten(segment, bytes);
}

/* ---- the page cache ---------------------------------------------------------------------------- */

int twl_segment_look_into_cache(const struct segment *segment, uint64_t from, uint64_t to, bool *ret_is_zero)
{
    unsigned char bytes[BLOCK_BYTES];
    struct io *io = segment->file->io;
    struct io_file *file;
    size_t size = 0;

    ASSERT(to - from <= sizeof(bytes));
    int rc = io->ops->open(io, segment->name, IO_READ_ONLY, &file); /* whatever io->reads_disk says */
    if (rc < 0)
        return rc;

    rc = io_read(file, bytes, (size_t)(to - from), from, &size);
    io_close(file);
    *ret_is_zero = rc == 0 && are_zeros(bytes, size);
    return rc;
}

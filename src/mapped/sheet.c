/* SPDX-License-Identifier: Apache-2.0 */
/* See sheet.h. */
#define _GNU_SOURCE
#include "mapped/sheet.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The keeper of the first participant made the segment, and has it locked exclusively. Turns that into a
 * shared lock, and takes that of `lock` before it gives up the first one, so that no other writer can take
 * the segment in between. */
static int share(const struct segment *segment, struct io_file *lock)
{
    int rc = io_lock(segment->file, IO_LOCK_WRITER, false);
    if (rc == 0)
        rc = io_lock(lock, IO_LOCK_WRITER, false);
    io_unlock(segment->file, IO_LOCK_WRITER);
    return rc == -EAGAIN ? -EBUSY : rc;
}

static int lock_shared(struct io *io, const struct segment *segment, struct io_file **ret_lock)
{
    struct io_file *lock;
    int rc = io_open(io, segment->name, IO_READ_ONLY | IO_NOT_IN_CHILDREN, &lock);
    if (rc < 0)
        return rc;
    rc = io_lock(lock, IO_LOCK_WRITER, false);
    if (rc == -EAGAIN)
        rc = share(segment, lock);
    if (rc < 0)
        io_close(lock);
    else
        *ret_lock = lock;
    return rc;
}

int twl_sheet_map(struct io *io, const struct segment *segment, unsigned owner, bool is_shared,
                  struct sheet **ret_sheet)
{
    void *bytes;
    struct sheet *sheet = aligned_alloc(64, align_up(sizeof(*sheet), 64));
    if (!sheet)
        return -ENOMEM;
    memset(sheet, 0, sizeof(*sheet));
    int rc = is_shared ? lock_shared(io, segment, &sheet->lock) : 0;
    if (rc == 0)
        rc = io->ops->map(segment->file, (size_t)segment->header.bytes, &bytes);
    if (rc < 0) {
        twl_sheet_unlock(sheet);
        free(sheet);
        return rc;
    }
    sheet->io = io;
    sheet->segment = *segment;
    sheet->file = segment->file;
    sheet->sequence = segment->header.sequence;
    sheet->number = twl_segment_name_number(segment->name);
    sheet->bytes = (size_t)segment->header.bytes;
    sheet->words = is_shared ? (void *)((unsigned char *)bytes + SHEET_WORDS_OFFSET) : &sheet->own;
    sheet->group = (struct open_group){ .io = io,
                                        .bytes = bytes,
                                        .end = segment->data_end,
                                        .owner = (uint8_t)owner,
                                        .cursor = &sheet->words->cursor };
    sheet->walk = (struct open_walk)OPEN_WALK_INIT;
    sheet->found = twl_open_group_offset(&sheet->group);
    *ret_sheet = sheet;
    return 0;
}

void twl_sheet_unmap(struct sheet *sheet)
{
    if (sheet->group.bytes)
        sheet->io->ops->unmap(sheet->io, sheet->group.bytes, sheet->bytes);
    sheet->group.bytes = NULL;
}

void twl_sheet_unlock(struct sheet *sheet)
{
    io_close(sheet->lock);
    sheet->lock = NULL;
}

void twl_sheet_free(struct sheet *sheet)
{
    free(sheet);
}

void twl_sheet_populate(struct sheet *sheet, uint64_t to)
{
    const uint64_t from = atomic_load(&sheet->populated),
                   end = min_u64(align_up(to, BLOCK_BYTES), sheet->bytes);
    if (from >= end)
        return;
    madvise(sheet->group.bytes + from, end - from, MADV_POPULATE_WRITE);
    atomic_store(&sheet->populated, end);
}

static void take_start(struct sheet *sheet)
{
    sheet->group.first_lsn = sheet->start.first_lsn;
    sheet->group.epoch_seed = twl_epoch_seed(sheet->segment.header.log_id, sheet->start.epoch);
    twl_open_group_begin(&sheet->group);
}

void twl_sheet_begin(struct sheet *sheet, const struct group_header *start)
{
    unsigned char mark[GROUP_HEADER_BYTES];
    sheet->start = *start;
    twl_group_header_encode(&sheet->start, sheet->segment.seed, SEGMENT_DATA_OFFSET, mark);
    /* encoded elsewhere first: an existing mark has the same bytes, and must not differ even for a moment */
    memcpy(sheet->group.bytes + SEGMENT_DATA_OFFSET, mark, sizeof(mark));
    take_start(sheet);
}

int twl_sheet_enter(struct sheet *sheet)
{
    const unsigned char *mark = sheet->group.bytes + SEGMENT_DATA_OFFSET;
    if (!twl_group_header_decode(mark, sheet->segment.seed, SEGMENT_DATA_OFFSET, &sheet->start) ||
        sheet->start.kind != GROUP_START || sheet->start.bytes != GROUP_HEADER_BYTES)
        return TWINLOG_ECORRUPT;
    take_start(sheet);
    return 0;
}

int twl_sheet_compose_next(const struct sheet *sheet, const struct sheet *before,
                           struct group_header *ret_start)
{
    const struct segment_header *header = &sheet->segment.header;
    if (before->start.epoch.number == UINT32_MAX)
        return -EOVERFLOW;
    *ret_start = (struct group_header){
        .first_lsn = twl_sheet_next_lsn(before),
        .bytes = GROUP_HEADER_BYTES,
        .durable_lsn = header->after_lsn,
        .chain = before->start.checksum,
        .epoch = { .number = before->start.epoch.number + 1,
                   .salt = (uint32_t)(header->segment_id ^ header->segment_id >> 32) },
        .kind = GROUP_START,
        .flags = GROUP_FIRST,
        .time_ns = header->created_ns,
    };
    return 0;
}

uint64_t twl_sheet_next_lsn(const struct sheet *sheet)
{
    return sheet->group.first_lsn + twl_open_group_count(&sheet->group);
}

bool twl_sheet_is_lost(const struct sheet *sheet)
{
    return twl_open_group_is_lost(&sheet->group);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* See mapped_segment.h. */
#define _GNU_SOURCE
#include "mapped/mapped_segment.h"

#include "base/bytes.h"
#include "base/libc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int twl_mapped_segment_map(struct io *io, const struct segment *segment, unsigned wait_ms,
                           const struct participants *participants, struct mapped_segment **ret_segment)
{
    void *bytes;

    struct mapped_segment *seg = aligned_alloc(64, align_up(sizeof(*seg), 64));
    if (!seg)
        return -ENOMEM;

    int rc = twl_lock_patiently(segment->file, IO_LOCK_WRITER, false, wait_ms);
    if (rc == 0)
        rc = io->ops->map(segment->file, (size_t)segment->header.bytes, &bytes);
    if (rc < 0) {
        free(seg);
        return rc;
    }

    memset(seg, 0, sizeof(*seg));
    seg->segment = *segment;
    seg->walk = (struct open_walk)OPEN_WALK_INIT;
    seg->own.is_named = 1; /* twl_segment_create() has seen to that */
    seg->number = twl_segment_name_number(segment->name);
    seg->bytes = (size_t)segment->header.bytes;
    if (participants_let_others_in(participants))
        seg->words = (void *)((unsigned char *)bytes + MAPPED_WORDS_OFFSET);
    else
        seg->words = &seg->own;
    seg->group = (struct open_group){ .io = io,
                                      .bytes = bytes,
                                      .end = segment->data_end - SEGMENT_MARKER_BYTES,
                                      .owner = (uint8_t)participants->number,
                                      .cursor = &seg->words->cursor };
    seg->found = twl_open_group_offset(&seg->group);
    seg->is_doubtful = atomic_load(&seg->words->syncing) > 0;
    *ret_segment = seg;
    return 0;
}

void twl_mapped_segment_unmap(struct mapped_segment *seg)
{
    if (seg->group.bytes)
        seg->group.io->ops->unmap(seg->group.io, seg->group.bytes, seg->bytes);
    seg->group.bytes = NULL;
}

void twl_mapped_segment_populate(struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    const uint64_t end = min_u64(align_up(to, BLOCK_BYTES), seg->bytes);

    from = max_u64(align_down(from, BLOCK_BYTES), atomic_load(&seg->populated));
    if (from >= end)
        return;

    madvise(seg->group.bytes + from, end - from, MADV_POPULATE_WRITE);
    atomic_store(&seg->populated, end);
}

static void take_start(struct mapped_segment *seg)
{
    seg->group.first_lsn = seg->start.first_lsn;
    seg->group.epoch_seed = twl_epoch_seed(seg->segment.header.log_id, seg->start.epoch);
    twl_open_group_begin(&seg->group);
}

void twl_mapped_segment_begin(struct mapped_segment *seg, const struct group_header *start)
{
    unsigned char header[GROUP_HEADER_BYTES];

    seg->start = *start;
    twl_group_header_encode(&seg->start, seg->segment.seed, SEGMENT_DATA_OFFSET, header);
    /* encoded elsewhere first: the bytes of an existing marker must not change even for a moment */
    memcpy(seg->group.bytes + SEGMENT_DATA_OFFSET, header, sizeof(header));
    take_start(seg);
}

int twl_mapped_segment_enter(struct mapped_segment *seg)
{
    const unsigned char *header = seg->group.bytes + SEGMENT_DATA_OFFSET;

    if (!twl_group_header_decode(header, seg->segment.seed, SEGMENT_DATA_OFFSET, &seg->start))
        return TWINLOG_ECORRUPT;
    if (seg->start.kind != GROUP_START)
        return TWINLOG_ECORRUPT;

    take_start(seg);
    return 0;
}

uint64_t twl_mapped_segment_next_lsn(const struct mapped_segment *seg)
{
    return seg->group.first_lsn + twl_open_group_count(&seg->group);
}

struct position twl_mapped_segment_end(const struct mapped_segment *seg)
{
    return (struct position){ twl_mapped_segment_next_lsn(seg), seg->start.checksum, seg->start.epoch };
}

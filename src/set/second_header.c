/* SPDX-License-Identifier: Apache-2.0 */
/* See second_header.h. */
#include "set/second_header.h"

#include "walk/segment_iter.h"

#include <errno.h>
#include <string.h>

int twl_second_header_read(struct io *io, const char *name, struct segment_header *ret_header)
{
    _Alignas(BLOCK_BYTES) unsigned char blocks[2][BLOCK_BYTES] = { { 0 } };
    enum header_state state = HEADER_FOREIGN;
    struct io_file *file;
    uint64_t file_bytes = 0;
    size_t size;
    int rc = io_open(io, name, IO_READ_ONLY, &file);
    if (rc < 0)
        return rc;
    rc = io_size(file, &file_bytes);
    if (rc == 0)
        rc = io_read(file, blocks[0], BLOCK_BYTES, 0, &size);
    if (rc == 0 && file_bytes >= SEGMENT_MIN_BYTES)
        rc = io_read(file, blocks[1], BLOCK_BYTES, twl_segment_data_end(align_down(file_bytes, BLOCK_BYTES)),
                     &size);
    io_close(file);
    if (rc == 0)
        state = twl_second_header_decode(blocks[0], blocks[1], file_bytes, ret_header);
    if (rc < 0 || state == HEADER_NEWER)
        return rc < 0 ? rc : TWINLOG_EVERSION;
    return state == HEADER_VALID;
}

int twl_second_header_is_used(struct io *io, const struct segment_entry *entry)
{
    struct later_groups any;
    struct segment_footer footer;
    struct segment segment;
    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;
    struct segment_iter cursor = { 0 };
    twl_iter_begin(&cursor, &segment, (struct position){ 0 });
    rc = twl_segment_read_footer(&segment, &footer);
    if (rc == 0) {
        rc = twl_iter_find_later(&cursor, SEGMENT_DATA_OFFSET, UINT64_MAX, cursor.position, &any);
        rc = rc == 0 ? any.offset > 0 : rc;
    }
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
    return rc;
}

static void add_group(const struct group_header *group, uint64_t *first_lsn, uint64_t *last_lsn)
{
    const uint64_t last = group->first_lsn + group->count - 1;
    *first_lsn = *first_lsn == 0 ? group->first_lsn : min_u64(*first_lsn, group->first_lsn);
    *last_lsn = max_u64(*last_lsn, last);
}

int twl_second_header_find_lost(struct io *io, const char *name, const uint8_t log_id[LOG_ID_BYTES],
                                uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    struct segment segment = { 0 };
    struct group_header group;
    int rc = io_open(io, name, IO_READ_ONLY, &segment.file);
    *ret_first_lsn = *ret_last_lsn = 0;
    if (rc == 0)
        rc = io_size(segment.file, &segment.file_bytes);
    segment.header.bytes = min_u64(segment.file_bytes, SEGMENT_MAX_BYTES);
    struct segment_iter cursor = { 0 };
    if (rc == 0)
        twl_iter_begin(&cursor, &segment, (struct position){ 0 });
    const size_t size = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
    for (uint64_t at = SEGMENT_DATA_OFFSET; rc == 0 && at + size <= segment.header.bytes; at += 8) {
        const unsigned char *bytes = twl_iter_bytes(&cursor, at, size, &rc);
        if (bytes && twl_group_header_guess(bytes, log_id, &group))
            add_group(&group, ret_first_lsn, ret_last_lsn);
    }
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
    return rc;
}

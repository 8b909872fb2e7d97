/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule of a sealed segment: a file that has a footer, durably, is never written again. A process that has copied
 * it, or linked it, or is in the middle of reading it, relies on that. Three things may be done to such a file:
 *
 *   a whole header at its start    it becomes a segment of another incarnation, to which the footer does not belong
 *   zeros in the footer's sector   the log continues in it, because a crash took what came behind it
 *   it is cut                      the same, where the footer is behind the data
 *
 * One sync covers the footer of a mapped segment and the header of its group. A crash may leave only the footer;
 * then the next opening settles the segment, so without that header it does not count as sealed. Stores to mapped
 * pages are not looked at.
 */
#include "format/format.h"
#include "simdisk_state.h"

static bool is_group_open(const struct content *content, const struct segment_header *header)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group;
    if (!segment_is_mapped(header))
        return false;

    content_read(content, OPEN_GROUP_OFFSET, bytes, sizeof(bytes));
    return !twl_group_header_decode(bytes, twl_segment_seed(header), OPEN_GROUP_OFFSET, &group);
}

/* False: the bytes are no segment with a footer. */
static bool find_footer(const struct content *content, uint64_t bytes, uint64_t *ret_offset)
{
    unsigned char sector[HEADER_SECTOR_BYTES], last[FOOTER_SECTOR_BYTES];
    struct segment_header header;
    struct segment_footer footer;
    if (bytes < SEGMENT_DATA_OFFSET + SEGMENT_FOOTER_BYTES)
        return false;

    content_read(content, 0, sector, sizeof(sector));
    if (twl_segment_header_decode(sector, &header) != HEADER_VALID)
        return false;
    if (is_group_open(content, &header))
        return false;

    *ret_offset = bytes - SEGMENT_FOOTER_BYTES;
    content_read(content, *ret_offset, last, sizeof(last));
    return twl_segment_footer_decode(last, twl_segment_seed(&header), *ret_offset, &footer);
}

static bool is_footer_removed(const unsigned char *data, size_t size, uint64_t offset, uint64_t footer_offset)
{
    if (offset != footer_offset || size < FOOTER_SECTOR_BYTES)
        return false;

    for (size_t i = 0; i < FOOTER_SECTOR_BYTES; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

/* Reads see the footer that is durable. */
static bool has_footer(const struct inode *inode, uint64_t *ret_offset)
{
    uint64_t durable_offset;
    if (!find_footer(inode->durable, inode->durable_bytes, &durable_offset))
        return false;
    if (!find_footer(inode->view, inode->view_bytes, ret_offset))
        return false;
    return durable_offset == *ret_offset;
}

void sim_check_sealed(const struct simdisk *disk, const struct inode *inode, const unsigned char *data,
                      size_t size, uint64_t offset)
{
    uint64_t footer_offset;
    const bool is_header = offset == 0 && size == SEGMENT_HEADER_BYTES;

    if (!disk->options.is_sealed_final || is_header)
        return;
    if (!has_footer(inode, &footer_offset))
        return;
    if (!is_footer_removed(data, size, offset, footer_offset))
        sim_misuse("a sealed segment was written again");
}

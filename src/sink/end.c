/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a file end: "Opening and closing" in docs/design.md. An open file ends in zeros, so a file that
 * ends in zeros may not have been closed. The record in the area outlives the system.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "sink/sink.h"

#include <errno.h>

#define PIECE 65536u

static size_t length_without_zeros(const unsigned char *bytes, size_t size)
{
    if (are_zeros(bytes, size)) /* the usual case; faster than byte by byte */
        return 0;
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size;
}

int twl_end_of_text(struct io_file *data, uint64_t from, uint64_t *ret_end)
{
    unsigned char piece[PIECE];
    uint64_t end;
    int rc = io_size(data, &end);
    while (rc == 0 && end > from) {
        size_t size = (size_t)min_u64(PIECE, end - from);
        end -= size;
        rc = io_read(data, piece, size, end, &size);
        const size_t length = rc == 0 ? length_without_zeros(piece, size) : 0;
        if (length > 0) {
            *ret_end = end + length;
            return 0;
        }
    }
    *ret_end = from;
    return rc;
}

/* Two files that nothing tells apart may have had the same area. */
static bool is_believed(const struct area *area, const struct identity *identity)
{
    return area && twl_area_is_for(area, identity) && (identity->born_s != 0 || identity->born_ns != 0) &&
           !twl_mapping_is_lost(area);
}

bool twl_end_is_exact(struct io_file *data, const struct area *area, const struct identity *identity)
{
    uint64_t bytes, text;
    if (!is_believed(area, identity) || !twl_boot_is(area->boot))
        return false;
    const uint64_t cursor = atomic_load(&area->cursor), end = cursor_offset(cursor);
    return cursor_owner(cursor) <= PARTICIPANTS * SLOTS && io_size(data, &bytes) == 0 && end <= bytes &&
           (end == bytes || !atomic_load(&area->is_closed)) && twl_end_of_text(data, end, &text) == 0 &&
           text == end;
}

int twl_end_find(struct io_file *data, const struct area *area, const struct identity *identity,
                 uint32_t flags, uint64_t *ret_end)
{
    char last = 1;
    size_t got = 0;
    int rc = io_size(data, ret_end);
    const uint64_t size = rc == 0 ? *ret_end : 0;
    if (size > 0)
        rc = io_read(data, &last, 1, size - 1, &got);
    if (rc < 0 || last != 0)
        return rc;
    const bool is_recorded = is_believed(area, identity);
    const uint64_t recorded = is_recorded ? atomic_load(&area->recorded) : 0;
    /* else these zeros are another program's */
    const bool is_ours = is_recorded && (!atomic_load(&area->is_closed) || !twl_boot_is(area->boot));
    rc = twl_end_of_text(data, min_u64(recorded, size), ret_end); /* a close may record more than there is */
    if (rc < 0 || (is_ours && *ret_end == recorded) || (flags & TWINLOG_SINK_DROP_ZEROS))
        return rc;
    return -EUCLEAN;
}

/* ---- for a process that is no participant: it stores nothing in the area ------------------------------- */

static int find_text_end(struct io_file *data, uint64_t *ret_end)
{
    char name[NAME_ROOM];
    struct identity identity;
    struct io_file *file;
    struct area *area = NULL;
    int rc = twl_identity_of(data, &identity);
    if (rc < 0)
        return rc;
    if (twl_exact_has(data))
        return io_size(data, ret_end);
    bool is_known = false; /* one has it open, or all were killed, or have closed it */
    twl_area_name(identity.inode, name);
    if (io_open(data->io, name, IO_READ_ONLY, &file) == 0) {
        if (twl_beside_check(file, data, true) == 0 && twl_area_map(file, &area) == 0 && area &&
            twl_area_is_for(area, &identity) && twl_boot_is(area->boot))
            is_known = (twl_area_has_others(file, 1, PARTICIPANTS, &is_known) == 0 && is_known) ||
                       twl_end_is_exact(data, area, &identity);
        io_close(file);
    }
    const uint64_t end = is_known ? twl_claim_copied(area) : 0;
    if (is_known && !twl_mapping_is_lost(area))
        *ret_end = end;
    else
        rc = twl_end_find(data, area, &identity, 0, ret_end);
    if (area)
        twl_mapping_close(area, AREA_BYTES);
    return rc;
}

int twinlog_sink_end(const char *path, uint64_t *ret_end)
{
    char name[NAME_MAX + 1];
    struct io *io;
    struct io_file *data;
    if (!path || !ret_end)
        return -EINVAL;
    int rc = twl_sink_find_place(path, &io, name);
    if (rc < 0)
        return rc;
    rc = io_open(io, name, IO_READ_ONLY, &data);
    if (rc == 0) {
        rc = find_text_end(data, ret_end);
        io_close(data);
    }
    io->ops->destroy(io);
    return rc;
}

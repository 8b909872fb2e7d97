/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a file end. While it is open, its area says that. If it has no valid area, it was closed, or was
 * never a sink's file, or the system has crashed. An open file ends in zeros, so a file that ends in zeros may not have
 * been closed:
 *
 *     it is empty, or its last byte is not zero     its size
 *     a record says where, and behind that there    that; later bytes were never synced, and nothing is left
 *     are only zeros                                of them
 *     anything else                                 not known; the caller decides whether the zeros are data:
 *         TWINLOG_SINK_KEEP_ZEROS                   its size
 *         TWINLOG_SINK_DROP_ZEROS                    behind the last byte that is none, not before what was synced
 *
 * The record is in the area, which outlives the system in that. Each sync writes it, after it has synced the data. The
 * last participant to close the file leaves the area there if the last byte is a zero, and removes it otherwise.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE 65536u

/* ---- the bytes ----------------------------------------------------------------------------------- */

/* The end of the last extent, from `from` on, that is no hole. Where that can't be told, the end of the
 * file. */
static uint64_t end_of_extents(int fd, uint64_t from, uint64_t size)
{
    uint64_t end = from;
    while (end < size) {
        const off_t data = lseek(fd, (off_t)end, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? end : size;
        const off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole <= data)
            return size;
        end = (uint64_t)hole;
    }
    return min_u64(end, size);
}

static size_t length_without_zeros(const unsigned char *bytes, size_t size)
{
    if (are_zeros(bytes, size)) /* the usual case; faster than byte by byte */
        return 0;
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size;
}

int twl_end_of_text(int fd, uint64_t from, uint64_t *ret_end)
{
    unsigned char piece[PIECE];
    struct stat about;
    if (fstat(fd, &about) < 0)
        return -errno;
    uint64_t end = max_u64(from, end_of_extents(fd, from, (uint64_t)about.st_size));
    while (end > from) {
        const size_t size = (size_t)min_u64(PIECE, end - from);
        const ssize_t n = pread(fd, piece, size, (off_t)(end - size));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        const size_t length = length_without_zeros(piece, (size_t)n);
        end -= size - length;
        if (length > 0)
            break;
    }
    *ret_end = end;
    return 0;
}

int twl_end_result(int rc)
{
    if (rc == FOUND_UNKNOWN_END)
        return -EUCLEAN;
    return rc == -EUCLEAN ? -EIO : rc; /* the file system is damaged */
}

int twl_end_find(int fd, const struct area *area, const struct identity *identity, uint32_t flags,
                 uint64_t *ret_end)
{
    struct stat about;
    uint64_t text;
    char last = 1;
    if (fstat(fd, &about) < 0)
        return -errno;
    const uint64_t size = *ret_end = (uint64_t)about.st_size;
    if (size > 0 && pread(fd, &last, 1, about.st_size - 1) < 0)
        return -errno;
    if (last != 0 || (flags & TWINLOG_SINK_KEEP_ZEROS))
        return 0;
    uint64_t recorded = area && twl_area_is_for(area, identity) ? atomic_load(&area->recorded) : UINT64_MAX;
    if (area && twl_mapping_is_lost(area))
        recorded = UINT64_MAX;
    const bool is_recorded = recorded <= size;
    recorded = is_recorded ? recorded : 0;
    const int rc = twl_end_of_text(fd, recorded, &text);
    if (rc < 0)
        return rc;
    *ret_end = text;
    return (is_recorded && text == recorded) || (flags & TWINLOG_SINK_DROP_ZEROS) ? 0 : FOUND_UNKNOWN_END;
}

/* ---- for a process that is no participant: it stores nothing in the area ------------------------------- */

/* NULL: there is none that can be believed. */
static struct area *look_at_area(int dir, const struct stat *data)
{
    char name[NAME_ROOM];
    struct area *area = NULL;
    twl_area_name(data->st_ino, name);
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    if (twl_area_check(dir, fd, data) < 0 || !twl_area_is_whole(fd) || twl_area_map(fd, 0, &area) < 0)
        area = NULL;
    close(fd);
    return area;
}

static int tell(int dir, int fd, uint64_t *ret_end)
{
    struct identity identity;
    struct stat data;
    const int rc = fstat(fd, &data) < 0 ? -errno : twl_identity_of(fd, &identity);
    if (rc < 0)
        return rc;
    struct area *area = look_at_area(dir, &data);
    const bool is_known = area && twl_area_is_of(area, &identity);
    const uint64_t end = is_known ? twl_claim_copied(area) : 0;
    int found = 0;
    if (is_known && !twl_mapping_is_lost(area))
        *ret_end = end;
    else
        found = twl_end_find(fd, area, &identity, 0, ret_end);
    if (area)
        twl_mapping_close(area, AREA_BYTES);
    return found;
}

int twinlog_sink_end(const char *path, uint64_t *ret_end)
{
    char name[NAME_MAX + 1];
    int dir;
    if (!path || !ret_end)
        return -EINVAL;
    int rc = twl_sink_find_place(path, &dir, name);
    if (rc < 0)
        return rc;
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    rc = fd < 0 ? -errno : twl_end_result(tell(dir, fd, ret_end));
    if (fd >= 0)
        close(fd);
    close(dir);
    return rc;
}

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
 * The record is the file `.NAME.INODE.end`, a line of text: the identity of the data file, and the end. Each
 * sync writes it, after it has synced the data. The last participant to close the file writes it if the last
 * byte is a zero, and removes it otherwise. A new record is synced, then renamed over the old one, so there
 * is always a whole one.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/fork.h"
#include "base/point.h"
#include "io/limit.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE 65536u
#define RECORD_FORMAT "twinlog sink 1: inode %" PRIu64 " born %" PRId64 " %" PRIu64 " end %" PRIu64 "\n"
#define RECORD_SCAN "twinlog sink 1: inode %" SCNu64 " born %" SCNd64 " %" SCNu64 " end %" SCNu64 "%n"
#define RECORD_BYTES 160u

/* ---- the record ---------------------------------------------------------------------------------- */

static int write_synced(int dir, const char *name, const struct stat *data, const char *text, size_t size)
{
    const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    twl_beside_give(fd, data);
    int rc = twl_limited_write(fd, text, size, 0);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int twl_end_write(struct twinlog_sink *sink, const struct sink_file *file, uint64_t end)
{
    char name[NAME_ROOM], new_name[NAME_ROOM], text[RECORD_BYTES];
    struct stat about;
    const struct identity *id = &file->identity;
    const int size = snprintf(text, sizeof(text), RECORD_FORMAT, id->inode, id->born_s, id->born_ns, end);
    twl_sink_name(sink->name, id->inode, "end", name);
    twl_sink_name(sink->name, id->inode, "new", new_name);
    if ((unlinkat(sink->dir, new_name, 0) < 0 && errno != ENOENT) || fstat(file->data_fd, &about) < 0)
        return -errno;
    int rc = write_synced(sink->dir, new_name, &about, text, (size_t)size);
    POINT("record written");
    if (rc == 0 && renameat(sink->dir, new_name, sink->dir, name) < 0)
        rc = -errno;
    if (rc < 0)
        unlinkat(sink->dir, new_name, 0);
    else if (fsync(sink->dir) < 0 && errno != EBADF && errno != EINVAL) /* unreadable, or cannot be synced */
        rc = -errno;
    POINT("record named");
    return rc;
}

void twl_end_remove(struct twinlog_sink *sink, uint64_t inode)
{
    char name[NAME_ROOM];
    twl_sink_name(sink->name, inode, "end", name);
    unlinkat(sink->dir, name, 0);
    twl_sink_name(sink->name, inode, "new", name);
    unlinkat(sink->dir, name, 0);
}

/* 1, or 0: there is no record, or it is of another file. One that cannot be read is an error. */
static int read_record(int dir, const char *sink_name, const struct identity *id, const struct stat *data,
                       uint64_t *ret_end)
{
    char name[NAME_ROOM], text[RECORD_BYTES] = "";
    struct identity found;
    int used = 0;
    twl_sink_name(sink_name, id->inode, "end", name);
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -errno;
    const bool is_refused = twl_beside_check(dir, fd, data) < 0;
    const ssize_t size = is_refused ? 0 : pread(fd, text, sizeof(text) - 1, 0);
    const int error = size < 0 ? errno : 0;
    close(fd);
    if (error != 0)
        return error == EISDIR || error == ESPIPE ? 0 : -error;
    return size > 0 &&
           sscanf(text, RECORD_SCAN, &found.inode, &found.born_s, &found.born_ns, ret_end, &used) == 4 &&
           text[used] == '\n' && used + 1 == size && twl_identity_is_same(&found, id);
}

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

int twl_end_find(int dir, const char *name, int fd, uint32_t flags, uint64_t *ret_end)
{
    struct identity identity;
    struct stat about;
    uint64_t recorded = 0, text;
    char last = 1;
    int rc = twl_identity_of(fd, &identity);
    if (rc < 0 || fstat(fd, &about) < 0)
        return rc < 0 ? rc : -errno;
    const uint64_t size = (uint64_t)about.st_size;
    if (size > 0 && pread(fd, &last, 1, about.st_size - 1) < 0)
        return -errno;
    *ret_end = size;
    if (last != 0 || (flags & TWINLOG_SINK_KEEP_ZEROS))
        return 0;
    rc = read_record(dir, name, &identity, &about, &recorded);
    const bool is_recorded = rc > 0 && recorded <= size;
    recorded = is_recorded ? recorded : 0;
    if (rc >= 0)
        rc = twl_end_of_text(fd, recorded, &text);
    if (rc < 0)
        return rc;
    *ret_end = text;
    return (is_recorded && text == recorded) || (flags & TWINLOG_SINK_DROP_ZEROS) ? 0 : FOUND_UNKNOWN_END;
}

/* ---- for a process that is no participant: it stores nothing in the area ------------------------------- */

static bool look_at_area(int fd, const struct identity *identity, uint64_t *ret_end)
{
    struct area *area;
    if (!twl_area_is_whole(fd) || twl_area_map(fd, 0, &area) < 0)
        return false;
    const bool is_known = twl_area_is_of(area, identity);
    *ret_end = is_known ? twl_claim_copied(area) : 0;
    const bool is_there = is_known && !twl_mapping_is_lost(area);
    twl_mapping_close(area, AREA_BYTES);
    return is_there;
}

static int tell(int dir, const char *name, uint64_t *ret_end)
{
    char area_name[NAME_ROOM];
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    struct identity identity = { 0 };
    struct stat data;
    int rc = fstat(fd, &data) < 0 ? -errno : twl_identity_of(fd, &identity);
    twl_sink_name(name, identity.inode, "sink", area_name);
    const int area_fd = rc < 0 ? -1 : openat(dir, area_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (rc == 0 && (area_fd < 0 || twl_beside_check(dir, area_fd, &data) < 0 ||
                    !look_at_area(area_fd, &identity, ret_end)))
        rc = twl_end_find(dir, name, fd, 0, ret_end);
    if (area_fd >= 0)
        close(area_fd);
    close(fd);
    return rc;
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
    rc = twl_end_result(tell(dir, name, ret_end));
    close(dir);
    return rc;
}

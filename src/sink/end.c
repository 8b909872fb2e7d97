/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a file end: "Opening and closing" in docs/design.md. An open file ends in zeros, so a file that
 * ends in zeros may not have been closed. The record in the area outlives the system.
 *
 * There are three answers, from the best one down: the area's cursor, if the area is of this file and boot
 * (twl_end_is_exact()); the size, or what a sync has recorded (twl_end_find()); and for a file that is open, what is
 * copied so far, or the first zero. A better one is passed over only if it is known that there is none: a look that
 * fails ends the call, because a worse answer may cut off bytes.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/libc.h"
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE 4096u /* on the stack of any thread */

/* Behind the last byte that is not zero. */
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
        if (rc < 0)
            break;

        const size_t length = length_without_zeros(piece, size);
        if (length > 0) {
            *ret_end = end + length;
            return 0;
        }
    }

    *ret_end = from;
    return rc;
}

/* May what this area says of the file be used at all? */
static bool is_believed(const struct area *area, const struct identity *identity)
{
    if (!area || !twl_area_is_for(area, identity))
        return false;

    /* Two files that no time of birth tells apart may have had the same area. */
    if (identity->born_s == 0 && identity->born_ns == 0)
        return false;
    return !twl_mapping_is_lost(area);
}

int twl_end_is_exact(struct io_file *data, const struct area *area, const struct identity *identity,
                     bool *ret_is)
{
    uint64_t bytes, text;
    bool is_current;

    *ret_is = false;
    if (!is_believed(area, identity))
        return 0;
    int rc = twl_boot_ask(area->boot, &is_current);
    if (rc < 0 || !is_current)
        return rc;

    const uint64_t cursor = atomic_load(&area->cursor);
    const uint64_t end = cursor_offset(cursor);
    if (cursor_owner(cursor) > PARTICIPANTS * SLOTS)
        return 0;

    rc = io_size(data, &bytes);
    if (rc < 0 || end > bytes)
        return rc;

    /* A close makes the file as long as its text. */
    if (atomic_load(&area->is_closed) && end != bytes)
        return 0;

    rc = twl_end_of_text(data, end, &text);
    *ret_is = rc == 0 && text == end;
    return rc;
}

int twl_end_find(struct io_file *data, const struct area *area, const struct identity *identity,
                 uint32_t flags, uint64_t *ret_end)
{
    char last = 1;
    size_t got = 0;
    uint64_t recorded = 0;
    bool is_ours = false;

    int rc = io_size(data, ret_end);
    if (rc < 0 || *ret_end == 0)
        return rc;

    const uint64_t size = *ret_end;
    rc = io_read(data, &last, 1, size - 1, &got);
    if (rc < 0 || last != 0)
        return rc;

    /* The zeros are the sink's own if no close came behind what is recorded. Otherwise another program wrote them. */
    if (is_believed(area, identity)) {
        recorded = atomic_load(&area->recorded);
        is_ours = !atomic_load(&area->is_closed) || twl_boot_has_ended(area->boot);
    }

    rc = twl_end_of_text(data, min_u64(recorded, size), ret_end); /* a close may record more than there is */
    if (rc < 0)
        return rc;
    if (is_ours && *ret_end == recorded)
        return 0;
    if (flags & TWINLOG_SINK_DROP_ZEROS)
        return 0;
    return -EUCLEAN;
}

/* ---- for a process that is no participant: it stores nothing in the area ------------------------------- */

/* An area is its owner's, so what this process may not open is none if it is another user's. */
static bool is_of_another_user(struct io *io, const char *name)
{
    struct stat about;

    if (fstatat(io_directory_fd(io), name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    return about.st_uid != geteuid();
}

/* Opens what has the area's name, in *ret_file. NULL: there is none, or another user has put something else there. */
static int open_area_to_read(struct io_file *data, const struct identity *identity, struct io_file **ret_file)
{
    char name[NAME_ROOM];

    *ret_file = NULL;
    int rc = twl_owner_check(data);
    if (rc == -EPERM) /* only the owner of the file gets one */
        return 0;
    if (rc < 0)
        return rc;

    twl_area_name(identity->inode, name);
    rc = io_open(data->io, name, IO_READ_ONLY, ret_file);
    if (rc == 0)
        return 0;

    *ret_file = NULL;
    const bool is_no_file = rc == -EISDIR || rc == -ELOOP || rc == -EINVAL;
    const bool is_planted = rc == -EACCES && is_of_another_user(data->io, name);
    if (rc == -ENOENT || is_no_file || is_planted)
        return 0;
    return rc;
}

/* The area in *ret_area, NULL if there is none for this file. The file in *ret_file is for the caller to close, also
 * after an error, which means that it is not known whether there is an area. */
static int area_to_read(struct io_file *data, const struct identity *identity, struct area **ret_area,
                        struct io_file **ret_file)
{
    struct area *area = NULL;

    *ret_area = NULL;
    int rc = open_area_to_read(data, identity, ret_file);
    if (rc < 0 || !*ret_file)
        return rc;

    rc = twl_area_check(*ret_file);
    if (rc == -EPERM) /* no sink has left it so */
        return 0;
    if (rc == 0)
        rc = twl_area_map(*ret_file, &area);
    if (rc < 0 || !area)
        return rc;

    if (twl_area_is_for(area, identity))
        *ret_area = area;
    else
        twl_mapping_close(area, AREA_BYTES);
    return 0;
}

/* The first zero byte from there on, where a copy may be under way, or the end of the file. */
static int find_zero(struct io_file *data, uint64_t from, uint64_t *ret_end)
{
    unsigned char piece[PIECE];
    size_t size = PIECE;

    while (size == PIECE) {
        const int rc = io_read(data, piece, PIECE, from, &size);
        if (rc < 0)
            return rc;

        const unsigned char *zero = memchr(piece, 0, size);
        if (zero) {
            from += (uint64_t)(zero - piece);
            break;
        }
        from += size;
    }

    *ret_end = from;
    return 0;
}

/* 1: a process has the file open, which the locks tell, and here its bytes end now. 0: no process has. */
static int find_live_end(struct io_file *data, struct area *area, struct io_file *area_file, uint64_t from,
                         uint64_t *ret_end)
{
    bool is_open = false;

    int rc = 0;
    if (area)
        rc = twl_area_has_others(area_file, 1, PARTICIPANTS, &is_open);
    if (rc < 0)
        return rc;
    if (is_open) {
        *ret_end = twl_claim_copied(area);
        if (!twl_mapping_is_lost(area))
            return 1;
    }

    rc = twl_data_is_locked(data, &is_open);
    if (rc < 0 || !is_open)
        return rc;

    rc = find_zero(data, from, ret_end);
    if (rc < 0)
        return rc;
    return 1;
}

/* Of a file that no process has open. -EUCLEAN: not known, and *ret_end is behind the last byte that is not zero. */
static int find_left_end(struct io_file *data, struct area *area, const struct identity *identity,
                         uint64_t *ret_end)
{
    bool is_exact;

    const int rc = twl_end_is_exact(data, area, identity, &is_exact);
    if (rc < 0)
        return rc;
    if (is_exact) {
        *ret_end = twl_claim_copied(area);
        if (!twl_mapping_is_lost(area))
            return 0;
    }
    return twl_end_find(data, area, identity, 0, ret_end);
}

/* The end of a file that no process has open counts only if none has opened it meanwhile, and made it longer. */
static int find_present_end(struct io_file *data, struct area *area, struct io_file *area_file,
                            const struct identity *identity, uint64_t from, uint64_t *ret_end)
{
    uint64_t live_end;

    int rc = find_live_end(data, area, area_file, from, ret_end);
    if (rc != 0)
        return rc;

    const int left = find_left_end(data, area, identity, ret_end);
    POINT("end read");
    rc = find_live_end(data, area, area_file, from, &live_end);
    if (rc == 0)
        return left;
    if (rc > 0)
        *ret_end = live_end;
    return rc;
}

/* Where the bytes end; 1: a process has the file open. */
static int find_text_end(struct io_file *data, uint64_t from, uint64_t *ret_end)
{
    struct identity identity;
    struct io_file *area_file;
    struct area *area;
    bool is_exact;

    int rc = twl_identity_of(data, &identity);
    if (rc == 0)
        rc = twl_sink_has(data, EXACT_LOCK, &is_exact);
    if (rc < 0)
        return rc;
    if (is_exact) {
        rc = io_size(data, ret_end);
        if (rc < 0)
            return rc;
        return 1;
    }

    rc = area_to_read(data, &identity, &area, &area_file);
    if (rc == 0)
        rc = find_present_end(data, area, area_file, &identity, from, ret_end);
    if (area)
        twl_mapping_close(area, AREA_BYTES);
    io_close(area_file);
    return rc;
}

int twinlog_sink_end(const char *path, uint64_t *ret_end)
{
    NOT_CANCELLED;
    char name[NAME_MAX + 1];
    struct io *io = NULL;
    struct io_file *data;
    if (!path || !ret_end)
        return -EINVAL;

    int rc = twl_sink_find_place(path, &io, name);
    if (rc < 0)
        return rc;

    rc = io_open(io, name, IO_READ_ONLY, &data);
    if (rc == 0) {
        rc = find_text_end(data, 0, ret_end);
        io_close(data);
    }

    io->ops->destroy(io);
    if (rc > 0)
        return 0;
    return rc;
}

/* The directory of an open file, where its area may be: a hint, as an area says which file it is for. */
static int open_directory_of(int fd, struct io **ret_io)
{
    char link[64], path[PATH_MAX];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size < 0)
        size = 0;
    path[size] = '\0';

    char *slash = strrchr(path, '/');
    if (slash) {
        slash[1] = '\0';
        if (twl_io_posix_create(path, false, ret_io) == 0)
            return 0;
    }
    return twl_io_posix_create("/", false, ret_io);
}

int twinlog_sink_end_of(int fd, uint64_t from, uint64_t *ret_end)
{
    NOT_CANCELLED;
    struct stat about;
    struct io *io;
    if (!ret_end)
        return -EINVAL;
    if (fstat(fd, &about) < 0)
        return -errno;
    if (!S_ISREG(about.st_mode))
        return -ENOTSUP;

    int rc = open_directory_of(fd, &io);
    if (rc < 0)
        return rc;

    struct disk_file data = { .file.io = io, .fd = fd, .is_read_only = true, .disk_fd = -1 };
    rc = find_text_end(&data.file, from, ret_end);
    io->ops->destroy(io);
    return rc;
}

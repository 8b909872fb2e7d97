/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a file end: "Opening and closing" in docs/design.md has the table. While a mapped sink has a file
 * open, the file is longer than its bytes and ends in zeros; a close cuts them off. So a file that ends in zeros may
 * not have been closed.
 *
 * For a file that no process has open there are three answers. The first one that there is counts:
 *
 * 1. The area's cursor, if the area is of this file and of this boot, and the file agrees (twl_end_is_exact()).
 * 2. The size of the file, if its last byte is not zero (twl_end_find()).
 * 3. What the last sync has recorded in the area, on the disk, if only zeros follow it (twl_end_find(), too).
 *
 * For a file that is open, an end is only true for a moment: all bytes in front of it are copied.
 *
 * An answer is passed over only if it is known that there is none. A look that fails ends the call, because the next
 * answer may cut off bytes.
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

/* Backwards from the end of the file, piece by piece. */
int twl_end_of_text(struct io_file *data, uint64_t from, uint64_t *ret_end)
{
    unsigned char piece[PIECE];
    uint64_t end;

    *ret_end = from;
    int rc = io_size(data, &end);
    if (rc < 0)
        return rc;

    while (end > from) {
        size_t size = (size_t)min_u64(PIECE, end - from);
        end -= size;
        rc = io_read(data, piece, size, end, &size);
        if (rc < 0)
            return rc;

        const size_t length = length_without_zeros(piece, size);
        if (length > 0) {
            *ret_end = end + length;
            return 0;
        }
    }
    return 0;
}

/* ---- a file that no process has open ------------------------------------------------------------------ */

/* May what this area says of the file be used at all? */
static bool is_believed(const struct area *area, const struct identity *identity)
{
    if (!area || !twl_area_is_for(area, identity))
        return false;

    /* Two files that no time of birth tells apart may have had the same area. */
    const bool has_birth = identity->born_s != 0 || identity->born_ns != 0;
    if (!has_birth)
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

    /* A cursor that names an owner that cannot exist is damaged. */
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

int twl_ends_in_zero(struct io_file *data, uint64_t end, bool *ret_does)
{
    char last = 1;
    size_t got = 0;

    *ret_does = false;
    if (end == 0)
        return 0;

    const int rc = io_read(data, &last, 1, end - 1, &got);
    *ret_does = last == 0;
    return rc;
}

int twl_end_find(struct io_file *data, const struct area *area, const struct identity *identity,
                 uint32_t flags, uint64_t *ret_end)
{
    bool has_zeros, are_zeros_ours = false;
    uint64_t recorded = 0;

    int rc = io_size(data, ret_end);
    if (rc < 0 || *ret_end == 0)
        return rc;

    const uint64_t size = *ret_end;
    rc = twl_ends_in_zero(data, size, &has_zeros);
    if (rc < 0 || !has_zeros)
        return rc;

    /* The sink has left the zeros if the file was not closed after that record was made. A close of a
     * boot that has ended counts for nothing: the shorter size may not have reached the disk. Otherwise another program
     * has written the zeros. */
    if (is_believed(area, identity)) {
        recorded = atomic_load(&area->recorded);
        are_zeros_ours = !atomic_load(&area->is_closed) || twl_boot_has_ended(area->boot);
    }

    rc = twl_end_of_text(data, min_u64(recorded, size), ret_end); /* a close may record more than there is */
    if (rc < 0)
        return rc;
    if (are_zeros_ours && *ret_end == recorded)
        return 0;
    if (flags & TWINLOG_SINK_DROP_ZEROS)
        return 0;
    return -EUCLEAN;
}

/* ---- the area, for a process that is no participant: it stores nothing there --------------------------- */

static bool is_of_another_user(struct io *io, const char *name)
{
    struct stat about;

    if (fstatat(io_directory_fd(io), name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    return about.st_uid != geteuid();
}

/* Does this error of an opening mean that there is no area? An area belongs to the owner of its file, which this
 * process is: what another user has put under the name is no area. */
static bool means_no_area(struct io *io, const char *name, int error)
{
    switch (error) {
    case -ENOENT:
    case -EISDIR: /* it is something else than a file */
    case -ELOOP:
    case -EINVAL:
        return true;
    case -EACCES:
        return is_of_another_user(io, name);
    default:
        return false;
    }
}

/* Opens what has the area's name, in *ret_file; NULL if there is no area. */
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
    if (means_no_area(data->io, name, rc))
        return 0;
    return rc;
}

/* Maps the area in *ret_area; NULL if there is none for this file. Its file in *ret_file is for the caller to close,
 * also after an error. An error: it is not known whether there is an area. */
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

/* ---- the end for a process that is no participant ----------------------------------------------------- */

/* The offset of the first zero byte from there on, where a copy may be under way; else the end of the file. */
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

/* The same by the area: the end of what is copied. */
static int find_copied_end(struct area *area, struct io_file *area_file, uint64_t *ret_end)
{
    bool has_participant;

    const int rc = twl_area_has_others(area_file, 1, PARTICIPANTS, &has_participant);
    if (rc < 0 || !has_participant)
        return rc;

    *ret_end = twl_claim_copied(area);
    if (twl_mapping_is_lost(area)) /* what was read there means nothing */
        return 0;
    return 1;
}

/* The locks tell whether a process has the file open. 1: it is open, and here its bytes end now. 0: it is not. */
static int find_live_end(struct io_file *data, struct area *area, struct io_file *area_file, uint64_t from,
                         uint64_t *ret_end)
{
    bool is_open;
    int rc = 0;

    if (area)
        rc = find_copied_end(area, area_file, ret_end);
    if (rc != 0)
        return rc;

    /* Without the area, the bytes tell as much as they can. */
    rc = twl_data_is_locked(data, &is_open);
    if (rc < 0 || !is_open)
        return rc;
    rc = find_zero(data, from, ret_end);
    if (rc < 0)
        return rc;
    return 1;
}

/* The end of a file that no process has open. -EUCLEAN: it is not known, and *ret_end is behind the last byte that is
 * not zero. */
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

/* 1: a process has the file open. If none has, its end counts only if none has opened the file meanwhile, and made it
 * longer. */
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
    bool has_exact_sink;

    int rc = twl_identity_of(data, &identity);
    if (rc == 0)
        rc = twl_sink_has(data, EXACT_LOCK, &has_exact_sink);
    if (rc < 0)
        return rc;

    /* A sink without a mapping leaves no zeros. */
    if (has_exact_sink) {
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
    const struct sink_path given = { .text = (char *)(uintptr_t)path };
    struct io *io = NULL;
    struct io_file *data;
    if (!path || !ret_end)
        return -EINVAL;

    int rc = twl_sink_resolve_path(&given, &io, name);
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
    if (size < 0) /* without /proc */
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

    /* The descriptor stays the caller's: the file is not closed here. */
    struct disk_file data = { .file.io = io, .fd = fd, .is_read_only = true, .disk_fd = -1 };
    rc = find_text_end(&data.file, from, ret_end);
    io->ops->destroy(io);
    return rc;
}

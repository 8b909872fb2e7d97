/* SPDX-License-Identifier: Apache-2.0 */
/* See area.h. */
#define _GNU_SOURCE
#include "sink/area.h"

#include "base/libc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- which file it is for ---------------------------------------------------------------------- */

int twl_identity_of(struct io_file *data, struct identity *ret_identity)
{
    const int fd = io_file_fd(data);
    struct statx about;
    struct stat plain;
    unsigned generation = 0; /* an int, whatever the definition of the request says */

    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &about) < 0) {
        if (!is_no_such_call(errno) || fstat(fd, &plain) < 0)
            return -errno;

        about.stx_mask = 0;
        about.stx_ino = plain.st_ino;
    }

    *ret_identity = (struct identity){ .inode = about.stx_ino };
    if (about.stx_mask & STATX_BTIME) {
        ret_identity->born_s = about.stx_btime.tv_sec;
        ret_identity->born_ns = about.stx_btime.tv_nsec;
    } else if (ioctl(fd, IOCTL_REQUEST(FS_IOC_GETVERSION), &generation) == 0) {
        ret_identity->born_ns = generation;
    }
    return 0;
}

bool twl_area_is_known(const struct area *area)
{
    return area->magic == AREA_MAGIC && area->version == AREA_VERSION && atomic_load(&area->is_ready) == 1;
}

bool twl_area_is_for(const struct area *area, const struct identity *identity)
{
    const struct identity *known = &area->identity;

    if (!twl_area_is_known(area) || known->inode != identity->inode)
        return false;
    return known->born_s == identity->born_s && known->born_ns == identity->born_ns;
}

/* ---- its file ---------------------------------------------------------------------------------- */

void twl_area_name(uint64_t inode, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".twinlog.%" PRIu64 ".sink", inode);
}

int twl_owner_check(struct io_file *file)
{
    struct stat about;

    if (fstat(io_file_fd(file), &about) < 0)
        return -errno;
    if (about.st_uid == geteuid())
        return 0;
    return -EPERM;
}

int twl_area_check(struct io_file *file)
{
    struct stat about;

    const int rc = twl_owner_check(file);
    if (rc < 0)
        return rc;
    if (fstat(io_file_fd(file), &about) < 0)
        return -errno;

    const bool is_others = about.st_mode & (S_IWGRP | S_IWOTH);
    if (about.st_nlink > 1 || is_others)
        return -EPERM;
    return 0;
}

/* ---- locks ------------------------------------------------------------------------------------- */

/* The first lock that keeps this one from being taken. l_type is F_UNLCK if there is none. */
static int find_range(struct io_file *file, short type, off_t start, off_t length, struct flock *ret_range)
{
    *ret_range = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    if (fcntl(io_file_fd(file), F_OFD_GETLK, ret_range) < 0)
        return -errno;
    return 0;
}

int twl_area_has_others(struct io_file *file, unsigned first, unsigned count, bool *ret_has)
{
    struct flock found;
    const int rc = find_range(file, F_RDLCK, first, count, &found);
    *ret_has = rc == 0 && found.l_type != F_UNLCK;
    return rc;
}

/* The kernel joins locks of one open file that lie side by side: an exact sink that rotates has one range of EXACT_LOCK
 * and ROTATE_LOCK. So the range of a sink may begin before the lock that was asked for, but not before the first one
 * that sinks have, nor end behind the last one. */
static bool is_range_of_sink(const struct flock *range)
{
    const off_t first = ENTER_LOCK, last = DATA_LOCK;

    return range->l_start >= first && range->l_len > 0 && range->l_start + range->l_len <= last + 1;
}

int twl_find_lock(struct io_file *data, enum io_lock which, enum lock_holder *ret_holder)
{
    struct flock found;
    const int rc = find_range(data, F_WRLCK, which, 1, &found);
    if (rc < 0)
        return rc;

    if (found.l_type == F_UNLCK)
        *ret_holder = HELD_BY_NOBODY;
    else if (is_range_of_sink(&found))
        *ret_holder = HELD_BY_SINK;
    else
        *ret_holder = HELD_BY_STRANGER;
    return 0;
}

int twl_data_has_others(struct io_file *data, bool *ret_has)
{
    enum lock_holder holder;
    struct stat about;

    const int rc = twl_find_lock(data, DATA_LOCK, &holder);
    if (rc < 0)
        return rc;
    if (fstat(io_file_fd(data), &about) < 0)
        return -errno;

    const bool may_be_hidden = holder == HELD_BY_STRANGER && about.st_nlink > 1;
    *ret_has = holder == HELD_BY_SINK || may_be_hidden;
    return 0;
}

int twl_data_is_locked(struct io_file *data, bool *ret_is)
{
    enum lock_holder holder;

    const int rc = twl_find_lock(data, DATA_LOCK, &holder);
    *ret_is = rc == 0 && holder != HELD_BY_NOBODY;
    return rc;
}

int twl_sink_has(struct io_file *data, enum io_lock which, bool *ret_has)
{
    enum lock_holder holder;

    const int rc = twl_find_lock(data, which, &holder);
    *ret_has = rc == 0 && holder == HELD_BY_SINK;
    return rc;
}

int twl_refuse_other_kind(struct io_file *data, enum io_lock which)
{
    bool has;

    const int rc = twl_sink_has(data, which, &has);
    if (has)
        return -EMEDIUMTYPE;
    return rc;
}

int twl_data_is_in_use(struct io_file *data, bool *ret_is)
{
    bool is_exact = false;

    int rc = twl_data_has_others(data, ret_is);
    if (rc == 0)
        rc = twl_sink_has(data, EXACT_LOCK, &is_exact);
    if (is_exact)
        *ret_is = true;
    return rc;
}

/* ---- the mapping, and making it ---------------------------------------------------------------- */

int twl_area_map(struct io_file *file, struct area **ret_area)
{
    uint64_t bytes;
    void *page = NULL;

    int rc = io_size(file, &bytes);
    if (rc == 0 &&
        (bytes == AREA_BYTES || bytes == AREA_PAGE)) /* what an opening that was cut short has kept */
        rc = file->io->ops->map(file, AREA_BYTES, &page);
    *ret_area = page;
    return rc;
}

int twl_area_prepare(struct io_file *file, uint64_t kept)
{
    int rc = io_truncate(file, kept);
    if (rc == 0)
        rc = io_allocate(file, AREA_BYTES, IO_ALLOCATE_NOTHING);
    if (rc < 0)
        return rc;
    return io_allocate(file, AREA_PAGE, IO_ALLOCATE_SPACE);
}

void twl_area_finish(struct area *area, const uint8_t boot[BOOT_ID_BYTES])
{
    area->magic = AREA_MAGIC;
    area->version = AREA_VERSION;
    memcpy(area->boot, boot, BOOT_ID_BYTES);
    atomic_store(&area->is_ready, 1);
}

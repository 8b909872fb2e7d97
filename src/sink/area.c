/* SPDX-License-Identifier: Apache-2.0 */
/* See area.h. */
#define _GNU_SOURCE
#include "sink/area.h"

#include "base/libc.h"
#include "base/process.h"
#include "base/sync.h"
#include "io/limit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* ---- which file it is for ---------------------------------------------------------------------- */

int twl_identity_of(int fd, struct identity *ret_identity)
{
    struct statx about;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &about) < 0)
        return -errno;
    *ret_identity = (struct identity){ .inode = about.stx_ino };
    unsigned generation = 0;
    if (about.stx_mask & STATX_BTIME) {
        ret_identity->born_s = about.stx_btime.tv_sec;
        ret_identity->born_ns = about.stx_btime.tv_nsec;
    } else if (ioctl(fd, IOCTL_REQUEST(FS_IOC_GETVERSION), &generation) ==
               0) { /* of an int, whatever its definition says */
        ret_identity->born_ns = generation;
    }
    return 0;
}

bool twl_identity_is_same(const struct identity *a, const struct identity *b)
{
    const bool is_known = a->born_s != 0 || a->born_ns != 0;
    return is_known && a->inode == b->inode && a->born_s == b->born_s && a->born_ns == b->born_ns;
}

bool twl_area_is_known(const struct area *area)
{
    return area->magic == AREA_MAGIC && area->version == AREA_VERSION && area->participants == PARTICIPANTS &&
           area->slots == SLOTS && atomic_load(&area->is_ready) == 1;
}

bool twl_area_is_for(const struct area *area, const struct identity *identity)
{
    return twl_area_is_known(area) && twl_identity_is_same(&area->identity, identity);
}

bool twl_area_is_of(const struct area *area, const struct identity *identity)
{
    return twl_area_is_for(area, identity) && twl_boot_is(area->boot);
}

/* ---- its file ---------------------------------------------------------------------------------- */

void twl_area_name(uint64_t inode, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".twinlog.%" PRIu64 ".sink", inode);
}

void twl_area_give(int fd, const struct stat *data)
{
    if (fchown(fd, data->st_uid, data->st_gid) < 0) /* only root may */
        (void)!fchown(fd, (uid_t)-1, data->st_gid);
    (void)!fchmod(fd, data->st_mode & 0666);
}

int twl_area_check(int dir, int fd, const struct stat *data)
{
    struct stat about;
    if (fstat(fd, &about) < 0)
        return -errno;
    return S_ISREG(about.st_mode) && about.st_nlink == 1 ? twl_beside_check(dir, fd, data) : -EPERM;
}

int twl_beside_check(int dir, int fd, const struct stat *data)
{
    struct stat about, around;
    if (fstat(fd, &about) < 0 || fstat(dir, &around) < 0)
        return -errno;
    const bool is_open = around.st_mode & (S_ISVTX | S_IWGRP | S_IWOTH);
    const bool is_of_group = (data->st_mode & S_IWGRP) && about.st_gid == data->st_gid &&
                             !((around.st_mode & S_ISGID) && (around.st_mode & S_IWOTH));
    const bool is_of_friend = about.st_uid == geteuid() || about.st_uid == 0 ||
                              about.st_uid == data->st_uid || is_of_group || (data->st_mode & S_IWOTH);
    return !is_open || (is_of_friend && about.st_nlink == 1) ? 0 : -EPERM;
}

/* ---- locks ------------------------------------------------------------------------------------- */

static int lock_bytes(int fd, short type, off_t start, off_t length)
{
    struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(fd, F_OFD_SETLK, &range) < 0 ? -errno : 0;
}

/* The first lock that keeps this one from being taken. l_type is F_UNLCK if there is none. */
static int find_lock(int fd, short type, off_t start, off_t length, struct flock *ret_range)
{
    *ret_range = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(fd, F_OFD_GETLK, ret_range) < 0 ? -errno : 0;
}

int twl_area_try_lock(int fd, short type, off_t byte)
{
    const int rc = lock_bytes(fd, type, byte, 1);
    return rc == -EAGAIN || rc == -EACCES ? -EBUSY : rc;
}

int twl_area_lock(int fd)
{
    int rc;
    const uint64_t until_ns = twl_monotonic_ns() + UINT64_C(1000000) * LOCK_WAIT_MS;
    while ((rc = twl_area_try_lock(fd, F_WRLCK, 0)) == -EBUSY && twl_monotonic_ns() < until_ns)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    return rc;
}

void twl_area_unlock(int fd, off_t byte)
{
    lock_bytes(fd, F_UNLCK, byte, 1);
}

void twl_area_close(int fd)
{
    lock_bytes(fd, F_UNLCK, 0, 0); /* length 0: to the end of the file */
    close(fd);
}

bool twl_area_is_whole(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && (uint64_t)about.st_size == AREA_BYTES;
}

int twl_area_has_others(int fd, bool *ret_has)
{
    struct flock found;
    const int rc = find_lock(fd, F_RDLCK, 1, PARTICIPANTS, &found);
    *ret_has = rc == 0 && found.l_type != F_UNLCK;
    return rc;
}

int twl_data_has_others(int fd, bool *ret_has)
{
    struct flock found;
    struct stat about;
    const int rc = find_lock(fd, F_WRLCK, DATA_BYTE, 1, &found);
    if (rc < 0 || fstat(fd, &about) < 0)
        return rc < 0 ? rc : -errno;
    const bool is_participant = found.l_start == DATA_BYTE && found.l_len == 1;
    *ret_has = found.l_type != F_UNLCK && (is_participant || about.st_nlink > 1);
    return 0;
}

/* ---- the mapping ------------------------------------------------------------------------------- */

int twl_area_map(int fd, unsigned flags, struct area **ret_area)
{
    void *page;
    const int rc = twl_mapping_open(fd, 0, AREA_BYTES, flags, &page);
    if (rc == 0)
        *ret_area = page;
    return rc;
}

/* ---- making it --------------------------------------------------------------------------------- */

int twl_area_prepare(int fd, uint64_t kept)
{
    int rc = twl_limited_resize(fd, kept);
    if (rc == 0)
        rc = twl_limited_resize(fd, AREA_BYTES);
    return rc < 0 ? rc : twl_area_reserve_participant(fd, 0);
}

int twl_area_reserve_participant(int fd, unsigned number)
{
    const uint64_t from = (uint64_t)number * AREA_PAGE;
    return twl_limited_reserve(fd, FALLOC_FL_KEEP_SIZE, from, from + AREA_PAGE);
}

void twl_area_finish(struct area *area)
{
    area->magic = AREA_MAGIC;
    area->version = AREA_VERSION;
    area->participants = PARTICIPANTS;
    area->slots = SLOTS;
    twl_boot_id(area->boot);
    atomic_store(&area->is_ready, 1);
}

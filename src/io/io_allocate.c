/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a file gets its size and its blocks, in the four ways of enum io_allocation.
 *
 * Each way has a second one for file systems that lack a call: what cannot reserve space writes zeros, and what cannot
 * say which blocks are shared with other files has no clones. All that makes a file longer looks at the limit of the
 * process first (RLIMIT_FSIZE), as the kernel answers what goes beyond it with a signal that by default ends the
 * process.
 */
#define _GNU_SOURCE
#include "io/io_files.h"

#include "base/base.h"
#include "base/libc.h"
#include "io/file_status.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXTENTS_AT_ONCE 64u

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80 /* Linux 6.17 */
#endif

/* ---- the limit of the process -------------------------------------------------------------------- */

uint64_t twl_size_limit(void)
{
    struct rlimit limit;
    const bool is_known = getrlimit(RLIMIT_FSIZE, &limit) == 0;

    return is_known && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : UINT64_MAX;
}

int twl_check_size_limit(uint64_t bytes)
{
    return bytes > twl_size_limit() ? -EFBIG : 0;
}

/* ---- size and space ------------------------------------------------------------------------------ */

int twl_io_reserve(struct io_file *file, int mode, uint64_t from, uint64_t to)
{
    int error = twl_check_size_limit(to); /* the kernel does not, for blocks behind the end of the file */

    if (error < 0)
        return error;
    do
        error = error_of(fallocate(io_file_fd(file), mode, (off_t)from, (off_t)(to - from)));
    while (error == -EINTR);
    return error;
}

/* Makes the file `bytes` long with a hole at its end, unless it is as long already. */
static int lengthen(struct io_file *file, uint64_t old_bytes, uint64_t bytes)
{
    if (old_bytes >= bytes)
        return 0;
    return error_of(ftruncate(io_file_fd(file), (off_t)bytes));
}

static int write_zeros(struct io_file *file, uint64_t from, uint64_t to)
{
    static _Alignas(BLOCK_BYTES) unsigned char zeros[256 * 1024]; /* never written */

    for (uint64_t at = from; at < to; at += sizeof(zeros)) {
        const size_t part = min_u64(sizeof(zeros), to - at);
        const int error = io_write_at(file, zeros, part, at);
        if (error < 0)
            return error;
    }
    return 0;
}

/* The block that contains the old end is written already. */
static int write_zeros_behind(struct io_file *file, const struct file_status *old, uint64_t bytes)
{
    const uint64_t unit = min_u64(old->block_bytes, BLOCK_BYTES);

    return write_zeros(file, align_up(old->bytes, unit), bytes);
}

static int reserve_space(struct io_file *file, const struct file_status *old, uint64_t bytes)
{
    int error = twl_io_reserve(file, 0, 0, bytes);
    if (error != -EOPNOTSUPP)
        return error;

    /* This file system reserves nothing. Written blocks have their space. */
    error = lengthen(file, old->bytes, bytes);
    if (error < 0)
        return error;
    return write_zeros_behind(file, old, bytes);
}

static int reserve_written(struct io_file *file, const struct file_status *old, uint64_t bytes)
{
    /* The device may write the zeros itself. */
    const bool becomes_longer = old->bytes < bytes;
    if (becomes_longer && twl_io_reserve(file, FALLOC_FL_WRITE_ZEROES, old->bytes, bytes) == 0)
        return 0;

    int error = twl_io_reserve(file, 0, 0, bytes);
    if (error == -EOPNOTSUPP)
        error = lengthen(file, old->bytes, bytes);
    if (error < 0)
        return error;
    return write_zeros_behind(file, old, bytes);
}

/* ---- blocks that other files have, too ----------------------------------------------------------- */

enum sharing {
    SHARING_NONE, /* up to the end; or the file system cannot say, so it has no clones */
    SHARING_SOME,
    SHARING_NONE_YET, /* there are more extents to look at */
};

static bool has_no_extents(int error)
{
    return error == -EOPNOTSUPP || error == -ENOTTY;
}

/* Looks at the next extents from *at on, and sets *at behind them. An enum sharing, or an error: it is not known. */
static int look_at_extents(struct io_file *file, struct fiemap *map, uint64_t bytes, uint64_t *at)
{
    *map = (struct fiemap){ .fm_start = *at, .fm_length = bytes - *at, .fm_extent_count = EXTENTS_AT_ONCE };
    const int error = error_of(ioctl(io_file_fd(file), IOCTL_REQUEST(FS_IOC_FIEMAP), map));
    if (has_no_extents(error))
        return SHARING_NONE;
    if (error < 0)
        return error;
    if (map->fm_mapped_extents == 0)
        return SHARING_NONE;

    for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
        const struct fiemap_extent *extent = &map->fm_extents[i];
        if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
            return SHARING_SOME;
        *at = extent->fe_logical + extent->fe_length;
    }
    return *at < bytes ? SHARING_NONE_YET : SHARING_NONE;
}

/* SHARING_NONE, SHARING_SOME, or an error: it is not known. */
static int find_sharing(struct io_file *file, uint64_t bytes)
{
    struct fiemap *map = calloc(1, sizeof(*map) + EXTENTS_AT_ONCE * sizeof(map->fm_extents[0]));
    int sharing = SHARING_NONE_YET;
    uint64_t at = 0;

    if (!map)
        return -ENOMEM;
    while (sharing == SHARING_NONE_YET)
        sharing = look_at_extents(file, map, bytes, &at);
    free(map);
    return sharing;
}

/* If it is not known whether blocks are shared, they may be. */
static int own_all_blocks(struct io_file *file, uint64_t bytes)
{
    if (find_sharing(file, bytes) == SHARING_NONE)
        return 0;
    return twl_io_reserve(file, FALLOC_FL_UNSHARE_RANGE, 0, bytes);
}

/* ---- the four ways ------------------------------------------------------------------------------- */

int twl_io_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    struct file_status old;

    int error = twl_check_size_limit(bytes);
    if (error == 0)
        error = twl_file_status(io_file_fd(file), &old);
    if (error < 0)
        return error;

    switch (how) {
    case IO_ALLOCATE_OWN:
        return own_all_blocks(file, bytes);
    case IO_ALLOCATE_NOTHING:
        return lengthen(file, old.bytes, bytes);
    case IO_ALLOCATE_SPACE:
        return reserve_space(file, &old, bytes);
    case IO_ALLOCATE_WRITTEN:
        break;
    }
    return reserve_written(file, &old, bytes);
}

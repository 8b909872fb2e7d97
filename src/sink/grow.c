/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The length of the file. Any thread makes it longer, with blocks, before they are needed, and without a
 * lock: several threads may call fallocate() at once. The last participant to close the file truncates it to
 * what was given away.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "io/limit.h"
#include "sink/sink.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- longer ------------------------------------------------------------------------------------ */

static int make_longer(struct sink_file *file, uint64_t from, uint64_t to)
{
    if (to >= OFFSET_LIMIT)
        return -EFBIG;
    /* from the page of the last byte on, which may be a hole */
    const int rc = twl_limited_reserve(file->data_fd, 0, align_down(from, AREA_PAGE), to);
    POINT("file grown");
    if (rc == 0 && area_raise(&file->area->file_bytes, to))
        atomic_fetch_add(&file->area->growths, 1);
    POINT("growth told");
    return rc;
}

int twl_sink_check_length(struct sink_file *file)
{
    const uint64_t expected = atomic_load(&file->area->file_bytes);
    struct stat about;
    if (fstat(file->data_fd, &about) < 0)
        return -errno;
    return (uint64_t)about.st_size >= expected && !twl_mapping_is_lost(file->area) ? 0 : -EIO;
}

static uint64_t wanted_bytes(const struct area *area, uint64_t now, uint64_t end)
{
    const uint64_t most = area->max_bytes > 0 ? area->max_bytes : UINT64_MAX;
    const uint64_t step = min_u64(now, area->growth_bytes);
    return align_up(max_u64(end, min_u64(now + step, most)), AREA_PAGE);
}

int twl_sink_grow(struct sink_file *file, uint64_t end)
{
    const uint64_t now = atomic_load(&file->area->file_bytes);
    const uint64_t wanted = wanted_bytes(file->area, now, end);
    int rc = twl_sink_check_length(file);
    if (rc < 0 || now >= end) /* another thread was faster */
        return rc;
    POINT("about to grow");
    rc = make_longer(file, now, wanted);
    end = align_up(end, AREA_PAGE);
    if (rc < 0 && end < wanted) /* the disk may have room for less */
        rc = make_longer(file, now, end);
    return rc;
}

int twl_sink_grow_to(struct sink_file *file, uint64_t bytes)
{
    const uint64_t now = atomic_load(&file->area->file_bytes);
    return now < bytes ? make_longer(file, now, align_up(bytes, AREA_PAGE)) : 0;
}

/* ---- shorter ----------------------------------------------------------------------------------- */

int twl_sink_truncate_to(int fd, uint64_t end)
{
    struct stat about;
    if (fstat(fd, &about) < 0)
        return -errno;
    return (uint64_t)about.st_size > end && ftruncate(fd, (off_t)end) < 0 ? -errno : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the file is. It is made longer before that is needed, with its blocks, by anybody and without a lock:
 * fallocate() does no harm when others do the same. Once sealed it is cut to what was given away; who was about to
 * make it longer at that moment looks again afterwards, and cuts it again.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536u

/* ---- SIGXFSZ ----------------------------------------------------------------------------------- */

/* A full quota of file size is an error here, no signal, and threads are not cancelled. Around calls that write or make
 * a file longer. */
struct quiet {
    bool was_pending, is_blocked_here;
    int cancel_state;
};

static sigset_t only_xfsz(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    return set;
}

static bool is_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGXFSZ) == 1;
}

static void be_quiet(struct quiet *quiet)
{
    const sigset_t set = only_xfsz();
    sigset_t before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &quiet->cancel_state);
    quiet->was_pending = is_pending();
    pthread_sigmask(SIG_BLOCK, &set, &before);
    quiet->is_blocked_here = sigismember(&before, SIGXFSZ) == 0;
}

static void end_quiet(const struct quiet *quiet)
{
    const sigset_t set = only_xfsz();
    const struct timespec now = { 0, 0 };
    if (!quiet->was_pending && is_pending())
        sigtimedwait(&set, NULL, &now);
    if (quiet->is_blocked_here)
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_setcancelstate(quiet->cancel_state, NULL);
}

int twl_sink_write_at(int fd, const unsigned char *bytes, size_t size, uint64_t offset)
{
    struct quiet quiet;
    int rc = 0;
    be_quiet(&quiet);
    while (size > 0 && rc == 0) {
        const ssize_t n = pwrite(fd, bytes, size, (off_t)offset);
        if (n > 0)
            bytes += n, size -= (size_t)n, offset += (uint64_t)n;
        else if (n == 0 || errno != EINTR)
            rc = n < 0 ? -errno : -EIO;
    }
    end_quiet(&quiet);
    return rc;
}

/* ---- longer ------------------------------------------------------------------------------------ */

/* For file systems that can't reserve. Unlike fallocate() this must not happen twice in the same place, so it needs
 * the lock; what a dead one wrote in part is written again, nobody has claimed there. */
static int write_zeros(struct sink_file *file, uint64_t to)
{
    static const unsigned char zeros[PIECE];
    twl_mutex_lock(&file->sweep_lock);
    int rc = twl_area_lock_growth(file->area_fd);
    uint64_t at = atomic_load(&file->area->file_bytes);
    for (; rc == 0 && at < to && !area_is_sealed(file->area); at += PIECE)
        rc = twl_sink_write_at(file->data_fd, zeros, (size_t)min_u64(PIECE, to - at), at);
    twl_area_unlock_growth(file->area_fd);
    twl_mutex_unlock(&file->sweep_lock);
    return rc;
}

static int reserve(struct sink_file *file, uint64_t from, uint64_t to)
{
    struct quiet quiet;
    int rc;
    if (to >= OFFSET_LIMIT)
        return -EFBIG;
    from = align_down(from, AREA_PAGE); /* the page of the last byte may be a hole */
    be_quiet(&quiet);
    do
        rc = fallocate(file->data_fd, 0, (off_t)from, (off_t)(to - from)) < 0 ? -errno : 0;
    while (rc == -EINTR);
    end_quiet(&quiet);
    return rc;
}

static void raise_to(struct area *area, uint64_t bytes)
{
    uint64_t now = atomic_load(&area->file_bytes);
    while (now < bytes)
        if (atomic_compare_exchange_weak(&area->file_bytes, &now, bytes)) {
            atomic_fetch_add(&area->growths, 1);
            return;
        }
}

static int make_longer(struct sink_file *file, uint64_t from, uint64_t to)
{
    int rc = reserve(file, from, to);
    POINT("file grown");
    if (rc == -EOPNOTSUPP)
        rc = write_zeros(file, to);
    if (area_is_sealed(file->area)) {
        twl_sink_cut(file);
        return 0; /* the claim finds out */
    }
    if (rc == 0)
        raise_to(file->area, to);
    POINT("growth told");
    return rc;
}

int twl_sink_check_length(struct sink_file *file)
{
    const uint64_t expected = atomic_load(&file->area->file_bytes);
    struct stat about;
    if (fstat(file->data_fd, &about) < 0)
        return -errno;
    if ((uint64_t)about.st_size >= expected)
        return 0;
    return area_is_sealed(file->area) && (uint64_t)about.st_size >= area_offset(file->area) ? 0 : -EIO;
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
    if (rc < 0 || now >= end) /* somebody was quicker */
        return rc;
    POINT("about to grow");
    rc = make_longer(file, now, wanted);
    end = align_up(end, AREA_PAGE);
    if (rc < 0 && end < wanted) /* perhaps there is room for less */
        rc = make_longer(file, now, end);
    return rc;
}

int twl_sink_grow_to(struct sink_file *file, uint64_t bytes)
{
    const uint64_t now = atomic_load(&file->area->file_bytes);
    return now < bytes ? make_longer(file, now, align_up(bytes, AREA_PAGE)) : 0;
}

/* ---- shorter ----------------------------------------------------------------------------------- */

/* Behind the last piece from `from` on that is no hole. Where that can't be told, the end of the file. */
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
    if (are_zeros(bytes, size)) /* mostly, and quicker than byte by byte */
        return 0;
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size;
}

int twl_sink_end_of_data(int fd, uint64_t from, uint64_t *ret_end)
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

int twl_sink_cut(struct sink_file *file)
{
    uint64_t end;
    struct stat about;
    int rc = twl_sink_end_of_data(file->data_fd, area_offset(file->area), &end);
    if (rc == 0 && fstat(file->data_fd, &about) < 0)
        rc = -errno;
    if (rc < 0 || (uint64_t)about.st_size <= end)
        return rc;
    return ftruncate(file->data_fd, (off_t)end) < 0 ? -errno : 0;
}

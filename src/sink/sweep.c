/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeps dead participants: those in the area that have not locked their byte. The sweeper locks the byte itself, so
 * no two sweep the same participant. If the sweeper dies meanwhile, the next one begins again.
 *
 * A range that a dead participant has claimed and not copied is a hole in the file, of zeros, perhaps with
 * part of the data. Its zeros become spaces, and its last byte a newline, so that the lines before and after
 * it stay lines.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "io/limit.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE 65536u

static int read_at(int fd, unsigned char *bytes, size_t size, uint64_t offset)
{
    while (size > 0) {
        const ssize_t n = pread(fd, bytes, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes += n, size -= (size_t)n, offset += (uint64_t)n;
    }
    return 0;
}

int twl_sink_fill_hole(int fd, uint64_t start, uint64_t size)
{
    unsigned char piece[PIECE];
    int rc = 0;
    for (uint64_t at = start, end = start + size; at < end && rc == 0; at += PIECE) {
        const size_t n = (size_t)min_u64(PIECE, end - at);
        rc = read_at(fd, piece, n, at);
        for (size_t i = 0; i < n; i++)
            piece[i] = piece[i] == 0 ? ' ' : piece[i];
        if (at + n == end)
            piece[n - 1] = '\n';
        if (rc == 0)
            rc = twl_limited_write(fd, piece, n, at);
    }
    return rc;
}

static int sweep_slot(struct sink_file *file, struct slot *slot)
{
    const struct claim claim = twl_claim_read(slot);
    if (twl_mapping_is_lost(file->area))
        return -EIO;
    if (claim.kind == CLAIM_CLAIMED) {
        const int rc = twl_sink_fill_hole(file->data_fd, claim.start, claim.size);
        POINT("hole filled");
        if (rc < 0)
            return rc; /* another process may be able to */
        atomic_fetch_add(&file->area->fillers, 1);
    }
    if (claim.kind != CLAIM_FREE)
        twl_claim_free(slot);
    return 0;
}

void twl_sink_take_sync_of(struct area *area, unsigned number)
{
    int32_t none = 0;
    if (!atomic_load(&area->is_in_sync[number]))
        return;
    atomic_compare_exchange_strong(&area->sync_error, &none, -EIO);
    atomic_store(&area->is_in_sync[number], false);
}

int twl_sink_sweep_participant(struct sink_file *file, unsigned number)
{
    struct participant *dead = area_participant(file->area, number);
    int rc = 0;
    if (!atomic_load(&file->area->is_used[number]))
        return 0;
    POINT("about to sweep");
    twl_sink_take_sync_of(file->area, number);
    twl_claim_settle(file->area);
    for (unsigned i = 0; i < SLOTS && rc == 0; i++)
        rc = sweep_slot(file, &dead->slots[i]);
    if (rc == 0)
        atomic_store(&file->area->is_used[number], false);
    POINT("swept");
    return rc;
}

int twl_sink_sweep(struct sink_file *file)
{
    int rc = 0;
    twl_mutex_lock(&file->sweep_lock);
    for (unsigned n = 1; n <= PARTICIPANTS && rc == 0; n++) {
        if (n == file->number || !atomic_load(&file->area->is_used[n]) ||
            twl_area_try_lock(file->area_fd, F_WRLCK, n) < 0)
            continue;
        rc = twl_sink_sweep_participant(file, n);
        twl_area_unlock(file->area_fd, n);
    }
    twl_mutex_unlock(&file->sweep_lock);
    return rc;
}

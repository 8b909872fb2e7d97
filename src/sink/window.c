/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file as memory: the few chunks around the cursor are mapped, so that mapped memory and page tables stay small
 * however large the file becomes. What is large or can't be mapped is written. "Length" in docs/design.md has the rest.
 *
 * A chunk that is to be unmapped loses its number first, so that no thread begins to use it. It is unmapped when every
 * lane has been empty since. Lanes are memory of this process alone: whatever other processes store in the area, no
 * thread copies into memory that is not the file's.
 */
#define _GNU_SOURCE
#include "sink/sink.h"

#include "base/libc.h"
#include "base/point.h"
#include "io/io_files.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* ---- mapping ----------------------------------------------------------------------------------- */

/* Under the lock. False: the mapped chunk has to stay, because it is a later one, or in use. The caller's thread, in
 * that lane, uses none. */
static bool make_place(struct sink_file *file, unsigned lane, struct chunk *chunk, uint64_t number)
{
    unsigned char *bytes = atomic_load(&chunk->bytes);
    if (!bytes)
        return true;
    if (atomic_load(&chunk->number) > number || chunk->populating > 0)
        return false;
    if (atomic_load(&chunk->number) != 0) {
        atomic_store(&chunk->number, 0);
        twl_lanes_look(file->lanes, chunk->turns); /* after the number is gone */
        chunk->turns[lane] = 0;
    }

    if (!twl_lanes_have_passed(file->lanes, chunk->turns))
        return false;

    atomic_store(&chunk->bytes, NULL);
    twl_mapping_close(bytes, CHUNK_BYTES);
    return true;
}

/* Under the lock. NULL: it can't be mapped. */
static unsigned char *chunk_to_use(struct sink_file *file, unsigned lane, uint64_t number)
{
    struct chunk *chunk = &file->chunks[number % CHUNKS];

    if (atomic_load(&chunk->number) == number)
        return atomic_load(&chunk->bytes);
    if (!make_place(file, lane, chunk, number))
        return NULL;

    void *bytes;
    if (twl_mapping_open(io_file_fd(file->data), (number - 1) * CHUNK_BYTES, CHUNK_BYTES, true, &bytes) < 0)
        return NULL;

    atomic_store(&chunk->bytes, bytes);
    atomic_store(&chunk->number, number);
    return bytes;
}

/* It stays mapped until the lane is left, or looks for another one. */
static unsigned char *chunk_of(struct sink_file *file, unsigned lane, uint64_t number)
{
    struct chunk *chunk = &file->chunks[number % CHUNKS];

    if (atomic_load(&chunk->number) == number) /* after the lane was taken */
        return atomic_load_explicit(&chunk->bytes, memory_order_acquire);

    twl_mutex_lock(&file->lock);
    unsigned char *bytes = chunk_to_use(file, lane, number);
    twl_mutex_unlock(&file->lock);
    return bytes;
}

void twl_window_close(struct sink_file *file)
{
    for (struct chunk *chunk = file->chunks; chunk < file->chunks + CHUNKS; chunk++)
        if (atomic_load(&chunk->bytes))
            twl_mapping_close(atomic_load(&chunk->bytes), CHUNK_BYTES);
}

/* ---- storing ----------------------------------------------------------------------------------- */

static void copy_bytes(unsigned char *to, const unsigned char *from, size_t size)
{
#ifdef TWL_POINTS
    memcpy(to, from, size / 2);
    POINT("copy half done");
    memcpy(to + size / 2, from + size / 2, size - size / 2);
#else
    memcpy(to, from, size);
#endif
}

static int write_bytes(struct sink_file *file, uint64_t start, const unsigned char *bytes, size_t size)
{
    NOT_CANCELLED;
    if (io_write_at(file->data, bytes, size, start) < 0)
        return -EIO;
    return 0;
}

/* Many bytes are written, if that works: 1; but not to a file that is too short, as that would hide it. */
static int store_in_chunk(struct sink_file *file, unsigned lane, uint64_t start, const unsigned char *bytes,
                          size_t size)
{
    if (size >= WRITTEN_BYTES && twl_sink_check_length(file) == 0 &&
        write_bytes(file, start, bytes, size) == 0)
        return 1;

    unsigned char *chunk = chunk_of(file, lane, start / CHUNK_BYTES + 1);
    if (!chunk)
        return write_bytes(file, start, bytes, size);

    copy_bytes(chunk + start % CHUNK_BYTES, bytes, size);
    if (twl_mapping_is_lost(chunk))
        return -EIO;
    return 0;
}

int twl_window_store(struct sink_file *file, unsigned lane, uint64_t start, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    int rc = 0;

    while (size > 0 && rc >= 0) {
        const size_t n = (size_t)min_u64(size, CHUNK_BYTES - start % CHUNK_BYTES);
        const int part = store_in_chunk(file, lane, start, bytes, n);
        if (part < 0)
            rc = part;
        else
            rc |= part;
        bytes += n;
        size -= n;
        start += n;
    }

    return rc;
}

/* ---- pages ahead of the writes ----------------------------------------------------------------- */

/* The range lies in one chunk. Best effort: pages that are not present come with the copies. */
static void populate(struct sink_file *file, unsigned lane, uint64_t from, uint64_t to)
{
    struct chunk *chunk = &file->chunks[(from / CHUNK_BYTES + 1) % CHUNKS];

    twl_mutex_lock(&file->lock);
    unsigned char *bytes = chunk_to_use(file, lane, from / CHUNK_BYTES + 1);
    chunk->populating += bytes != NULL;
    twl_mutex_unlock(&file->lock);
    if (!bytes)
        return;

    madvise(bytes + from % CHUNK_BYTES, to - from, MADV_POPULATE_WRITE);
    twl_mutex_lock(&file->lock);
    chunk->populating--;
    twl_mutex_unlock(&file->lock);
}

void twl_window_populate(struct sink_file *file, unsigned lane, uint64_t from, uint64_t to)
{
    _Atomic uint64_t *populated = &file->area->populated;
    uint64_t done = atomic_load(populated);

    from = align_down(from, STEP_BYTES);
    to = align_down(min_u64(to, atomic_load(&file->area->file_bytes)), AREA_PAGE);
    while (done < to) {
        const uint64_t start = max_u64(done, from);
        const uint64_t end = min_u64(to, align_down(start, STEP_BYTES) + STEP_BYTES);
        if (!atomic_compare_exchange_strong(populated, &done, end))
            continue; /* another thread has that step */
        populate(file, lane, start, end);
        done = end;
    }
}

/* ---- the file's time --------------------------------------------------------------------------- */

void twl_window_touch(struct sink_file *file)
{
    const struct timespec times[] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
    (void)!futimens(io_file_fd(file->data), times);
}

/* ---- growth ------------------------------------------------------------------------------------ */

static int make_longer(struct sink_file *file, uint64_t from, uint64_t to)
{
    if (to >= OFFSET_LIMIT)
        return -EFBIG;

    /* from the page of the last byte on, which may be a hole */
    const int rc = twl_io_reserve(file->data, 0, align_down(from, AREA_PAGE), to);
    POINT("file grown");
    if (rc == 0)
        raise_u64(&file->area->file_bytes, to);
    POINT("growth told");
    return rc;
}

int twl_sink_check_length(struct sink_file *file)
{
    const uint64_t expected = atomic_load(&file->area->file_bytes);
    uint64_t bytes;

    const int rc = io_size(file->data, &bytes);
    if (rc < 0 || (bytes >= expected && !twl_mapping_is_lost(file->area)))
        return rc;
    return -EIO;
}

static uint64_t wanted_bytes(const struct sink_file *file, uint64_t now, uint64_t end)
{
    uint64_t wanted = now + min_u64(now, file->area->growth_bytes);

    if (file->max_bytes > 0)
        wanted = min_u64(wanted, file->max_bytes);
    return align_up(max_u64(end, wanted), AREA_PAGE);
}

int twl_sink_grow(struct sink_file *file, uint64_t end)
{
    const uint64_t now = atomic_load(&file->area->file_bytes);
    const uint64_t wanted = wanted_bytes(file, now, end);

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

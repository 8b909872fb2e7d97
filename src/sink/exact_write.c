/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of an exact sink. Nearly always a write is one call. The rest of this file is for the one that was cut short:
 * by a full disk, a quota, a limit of the process, or a file system that a signal interrupts.
 *
 * What such a write has left at the end of the file is taken back at once, if it is still the end and no other sink has
 * the file. Otherwise others may have written behind it, or are about to. Then it stays: the same bytes again complete
 * it, if it is still the end; other bytes begin with a newline, so that every whole line stays one.
 *
 * A reader that has seen a file get shorter may read it all again. So after a full disk a write reserves its space
 * first, and a process that tries again and again leaves nothing to take back.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/point.h"
#include "sink/exact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define COMPARED_BYTES 4096u
#define QUICK_TRIES 100u
#define TURN_NS UINT64_C(1000000000)
#define TURN_AGAIN_NS (10 * TURN_NS)

static int fd_of(const struct exact_sink *sink) REQUIRES(sink->lock)
{
    return io_file_fd(sink->file->data);
}

/* ---- the limit of the process ---------------------------------------------------------------------- */

void twl_exact_limit(struct exact_sink *sink)
{
    sink->size_limit = twl_size_limit();
}

/* A write behind the limit raises SIGXFSZ, which by default ends the process. */
static int check_limit(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    uint64_t bytes;

    if (sink->size_limit == UINT64_MAX)
        return 0;

    const int rc = io_size(sink->file->data, &bytes);
    if (rc == 0 && bytes + size > sink->size_limit)
        return -EFBIG;
    return rc;
}

/* ---- what a write that was cut short has left ------------------------------------------------------ */

/* No other sink has the file, and none opens it meanwhile. Strangers are not asked. */
static bool begin_alone(struct exact_sink *sink) REQUIRES(sink->lock)
{
    return !(sink->options.flags & TWINLOG_SINK_SHARED) || io_lock(sink->file->data, EXACT_LOCK, true) == 0;
}

static void end_alone(struct exact_sink *sink) REQUIRES(sink->lock)
{
    if (sink->options.flags & TWINLOG_SINK_SHARED)
        io_lock(sink->file->data, EXACT_LOCK, false);
}

static bool is_at_end(const struct exact_sink *sink) REQUIRES(sink->lock)
{
    uint64_t bytes;

    return io_size(sink->file->data, &bytes) == 0 && bytes == sink->torn_end;
}

static void take_back(struct exact_sink *sink) REQUIRES(sink->lock)
{
    if (!begin_alone(sink))
        return;
    if (is_at_end(sink) && io_truncate(sink->file->data, sink->torn_end - sink->torn_bytes) == 0)
        sink->torn_bytes = 0;
    end_alone(sink);
}

/* Does the end of the file have the beginning of these bytes? */
static bool is_begun(const struct exact_sink *sink, const unsigned char *bytes, size_t size)
    REQUIRES(sink->lock)
{
    unsigned char there[COMPARED_BYTES];
    const uint64_t start = sink->torn_end - sink->torn_bytes;
    size_t got = 0;

    if (sink->torn_bytes >= size || !is_at_end(sink))
        return false;

    for (uint64_t done = 0; done < sink->torn_bytes; done += got) {
        const size_t part = (size_t)min_u64(sizeof(there), sink->torn_bytes - done);
        if (io_read(sink->file->data, there, part, start + done, &got) < 0 || got == 0 ||
            memcmp(there, bytes + done, got) != 0)
            return false;
    }

    return true;
}

/* Others that have written behind it have ended the line. */
static bool needs_newline(const struct exact_sink *sink) REQUIRES(sink->lock)
{
    char last = 0;
    size_t got = 0;

    return is_at_end(sink) && io_read(sink->file->data, &last, 1, sink->torn_end - 1, &got) == 0 &&
           last != '\n';
}

/* ---- one write, and the one that goes on ----------------------------------------------------------- */

/* Reserves the space, after a full disk. File systems that cannot do so try the write. */
static int reserve(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    uint64_t bytes;
    int rc = io_size(sink->file->data, &bytes);
    if (rc == 0 && fallocate(fd_of(sink), FALLOC_FL_KEEP_SIZE, (off_t)bytes, (off_t)size) < 0)
        rc = -errno;
    if (!is_no_space(rc))
        sink->is_full = false;
    if (is_no_space(rc))
        return rc;
    return 0;
}

/* The bytes that the kernel took, or an error. */
static ssize_t write_once(struct exact_sink *sink, const struct iovec *pieces, int count) REQUIRES(sink->lock)
{
    ssize_t written;

    do {
        if (count == 1)
            written = write(fd_of(sink), pieces->iov_base, pieces->iov_len);
        else
            written = writev(fd_of(sink), pieces, count);
    } while (written < 0 && errno == EINTR);
    if (written < 0)
        return -errno;
    return written;
}

/* Writes the bytes from `done` on; those before are at the end of the file. */
static int go_on(struct exact_sink *sink, const unsigned char *bytes, size_t size, size_t done)
    REQUIRES(sink->lock)
{
    while (done < size) {
        const struct iovec rest = { (void *)(uintptr_t)(bytes + done), size - done };
        const ssize_t written = write_once(sink, &rest, 1);
        if (written <= 0) {
            int rc = (int)written;
            if (rc == 0)
                rc = -EIO;
            sink->torn_bytes = done;
            sink->is_full = is_no_space(rc);
            if (done > 0)
                take_back(sink);
            return rc;
        }

        done += (size_t)written;
        sink->torn_end = (uint64_t)lseek(fd_of(sink), 0, SEEK_CUR);
    }

    sink->torn_bytes = 0;
    return 0;
}

/* All pieces in one, with a newline in front. NULL: no memory. */
static unsigned char *join(const struct iovec *pieces, int count, size_t size)
{
    unsigned char *bytes = malloc(size + 1);
    size_t at = 1;

    if (!bytes)
        return NULL;

    bytes[0] = '\n';
    for (int i = 0; i < count; i++) {
        if (pieces[i].iov_len > 0)
            memcpy(bytes + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }

    return bytes;
}

/* For a write that finds a torn one, has more pieces than a call takes, or was cut short itself after `done` bytes. */
static int append_slowly(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                         size_t done) REQUIRES(sink->lock)
{
    unsigned char *room = join(pieces, count, size);
    int rc;

    if (!room && done > 0) { /* as above */
        sink->torn_bytes = done;
        take_back(sink);
    }

    if (!room)
        return -ENOMEM;

    const unsigned char *bytes = room + 1;
    if (done == 0 && sink->torn_bytes > 0 && is_begun(sink, bytes, size)) {
        done = (size_t)sink->torn_bytes;
    } else if (done == 0 && sink->torn_bytes > 0 && needs_newline(sink)) {
        bytes = room;
        size++;
    }

    rc = go_on(sink, bytes, size, done);
    free(room);
    return rc;
}

static int append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    int rc = check_limit(sink, size);
    if (rc == 0 && sink->is_full)
        rc = reserve(sink, size);
    if (rc < 0)
        return rc;
    if (sink->torn_bytes > 0 || count > IOV_MAX)
        return append_slowly(sink, pieces, count, size, 0);

    const ssize_t written = write_once(sink, pieces, count);
    POINT("exact write done");
    if (written < 0) {
        sink->is_full = is_no_space((int)written);
        return (int)written;
    }

    if ((size_t)written == size)
        return 0;

    sink->torn_end = (uint64_t)lseek(fd_of(sink), 0, SEEK_CUR);
    return append_slowly(sink, pieces, count, size, (size_t)written);
}

/* ---- turns of sinks of lines ------------------------------------------------------------------------- */

static int lock_until(struct exact_sink *sink, enum io_lock which, uint64_t until_ns) REQUIRES(sink->lock)
{
    struct io *io = sink->file->data->io;
    int rc = io_lock(sink->file->data, which, true);

    for (unsigned tries = 0; rc == -EAGAIN && twl_monotonic_ns() < until_ns; tries++) {
        if (tries < QUICK_TRIES)
            twl_yield();
        else
            io->ops->sleep_ms(io, 1);
        rc = io_lock(sink->file->data, which, true);
    }

    return rc;
}

/* Takes both locks of a turn in one call: they lie side by side. Nobody writes then, and nobody waits. */
static bool take_both(struct exact_sink *sink) REQUIRES(sink->lock)
{
    struct flock both = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NEXT_LOCK, .l_len = 2 };

    return fcntl(fd_of(sink), F_OFD_SETLK, &both) == 0;
}

static int wait_for_both(struct exact_sink *sink, uint64_t until_ns) REQUIRES(sink->lock)
{
    int rc = lock_until(sink, NEXT_LOCK, until_ns);
    if (rc < 0)
        return rc;

    rc = lock_until(sink, TURN_LOCK, until_ns);
    if (rc < 0)
        io_unlock(sink->file->data, NEXT_LOCK);
    return rc;
}

/* Only a writer that is alone can tell a line without an end from one that is on its way. While it writes, another one
 * may become the next: that one has waited, and keeps those that come back at once from taking the turn again. */
static bool take_turn(struct exact_sink *sink) REQUIRES(sink->lock)
{
    const uint64_t now_ns = twl_monotonic_ns();

    if (now_ns < sink->turn_ns)
        return false;
    if (!take_both(sink) && wait_for_both(sink, now_ns + TURN_NS) < 0) {
        /* a process that is stopped, another program's lock, or a file system without locks */
        sink->turn_ns = now_ns + TURN_AGAIN_NS;
        return false;
    }

    io_unlock(sink->file->data, NEXT_LOCK);
    return true;
}

/* Does the file end where this sink expects it to, and in a newline? One call, of two bytes, tells: others that have
 * written would have put the second one there. */
static bool ends_as_expected(const struct exact_sink *sink) REQUIRES(sink->lock)
{
    char last[2];
    size_t got = 0;

    if (sink->expected_end == 0 ||
        io_read(sink->file->data, last, sizeof(last), sink->expected_end - 1, &got) < 0)
        return false;
    return got == 1 && last[0] == '\n';
}

/* Leaves the present end of the file in expected_end. */
static bool ends_in_part_of_line(struct exact_sink *sink) REQUIRES(sink->lock)
{
    char last = '\n';
    size_t got = 0;

    if (ends_as_expected(sink))
        return false;

    sink->expected_end = 0;
    if (io_size(sink->file->data, &sink->expected_end) < 0 || sink->expected_end == 0)
        return false;
    return io_read(sink->file->data, &last, 1, sink->expected_end - 1, &got) == 0 && last != '\n';
}

/* What this process has left there itself is dealt with as in any sink. */
static int append_lines(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    if (sink->torn_bytes > 0)
        return append(sink, pieces, count, size);
    if (!ends_in_part_of_line(sink)) {
        sink->expected_end += size; /* the next write looks whether it is so */
        return append(sink, pieces, count, size);
    }

    unsigned char *room = join(pieces, count, size);
    if (!room)
        return -ENOMEM;

    const struct iovec whole = { room, size + 1 };
    const int rc = append(sink, &whole, 1, size + 1);
    free(room);
    return rc;
}

int twl_exact_append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
{
    if (!(sink->options.flags & TWINLOG_SINK_LINES))
        return append(sink, pieces, count, size);

    const bool has_turn = take_turn(sink);
    const int rc = append_lines(sink, pieces, count, size);
    if (has_turn)
        io_unlock(sink->file->data, TURN_LOCK);
    return rc;
}

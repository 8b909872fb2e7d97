/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of an exact sink. Nearly always a write is one call. The rest of this file is for the one that was cut short:
 * by a full disk, a quota, a limit of the process, or a file system that a signal interrupts.
 *
 * Such a write leaves a torn part at the end of the file. If no other sink has the file, the part is cut off at once.
 * Otherwise others may have written behind it, or are about to. Then it stays, and the file remembers it (torn_bytes
 * before torn_end). The next append completes the part if it is of the same bytes and the part is still the end of the
 * file; else it begins with a newline, so that every whole line stays one. The part is forgotten when it was completed,
 * ended by a newline or cut off, or when others have written behind it. A sink that goes on in another file, or is
 * closed, ends the part first (twl_exact_end_line()).
 *
 * Only the system can say whether the part still is the end. If it cannot be asked, the call ends with the error, and
 * nothing is written.
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
#define YIELDS_FOR_LOCK 100u
#define MOST_RESTARTS 10u /* of one write, as others have written behind a part of it */
#define TURN_WAIT_NS UINT64_C(1000000000)
#define NO_TURN_NS (10 * TURN_WAIT_NS)

static int fd_of(const struct exact_sink *sink) REQUIRES(sink->lock)
{
    return io_file_fd(sink->file->data);
}

/* ---- the limit of the process ---------------------------------------------------------------------- */

void twl_exact_limit(struct exact_sink *sink)
{
    sink->size_limit = twl_size_limit();
}

/* A write at the limit or beyond raises SIGXFSZ, which by default ends the process. */
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

/* True: no other sink has the file, and none opens it until end_alone(). A shared sink has EXACT_LOCK shared, and
 * makes it exclusive here, without waiting; one that is not shared has it exclusively all the time. Programs that take
 * no such lock are not kept out. Where the file system has no locks, a sink that is not shared is taken for alone. */
static bool begin_alone(const struct exact_sink *sink, struct exact_file *file)
{
    if (!file->has_locks)
        return !(sink->options.flags & TWINLOG_SINK_SHARED);
    return io_lock(file->data, EXACT_LOCK, true) == 0;
}

static void end_alone(const struct exact_sink *sink, struct exact_file *file)
{
    if (sink->options.flags & TWINLOG_SINK_SHARED)
        io_lock(file->data, EXACT_LOCK, false);
}

/* Is the torn part the end of the file? 1, 0 or an error. 0 also where its place is not known. */
static int is_torn_part_last(struct exact_file *file)
{
    uint64_t bytes;

    if (file->torn_end == END_UNKNOWN)
        return 0;

    const int rc = io_size(file->data, &bytes);
    if (rc < 0)
        return rc;
    return bytes == file->torn_end;
}

/* Cuts the torn part off, if nobody can have written behind it. Otherwise it stays, and so does torn_bytes. */
static void take_back(const struct exact_sink *sink, struct exact_file *file)
{
    if (file->torn_bytes == 0 || !begin_alone(sink, file))
        return;
    if (is_torn_part_last(file) > 0 && io_truncate(file->data, file->torn_end - file->torn_bytes) == 0)
        file->torn_bytes = 0;
    end_alone(sink, file);
}

/* Is the torn part the beginning of these bytes, and the end of the file? 1, 0 or an error. */
static int is_begun(struct exact_file *file, const unsigned char *bytes, size_t size)
{
    unsigned char there[COMPARED_BYTES];
    const uint64_t start = file->torn_end - file->torn_bytes;
    size_t got = 0;

    if (file->torn_bytes >= size)
        return 0;

    const int is_end = is_torn_part_last(file);
    if (is_end <= 0)
        return is_end;

    for (uint64_t done = 0; done < file->torn_bytes; done += got) {
        const size_t part = (size_t)min_u64(sizeof(there), file->torn_bytes - done);
        const int rc = io_read(file->data, there, part, start + done, &got);
        if (rc < 0)
            return rc;
        if (got == 0 || memcmp(there, bytes + done, got) != 0)
            return 0;
    }

    return 1;
}

/* Does the file end in a part of a line? 1, 0 or an error. *ret_end is the size that it has. */
static int ends_in_part(struct exact_file *file, uint64_t *ret_end)
{
    char last = '\n';
    size_t got = 0;

    int rc = io_size(file->data, ret_end);
    if (rc < 0 || *ret_end == 0)
        return rc;

    rc = io_read(file->data, &last, 1, *ret_end - 1, &got);
    if (rc < 0)
        return rc;
    return last != '\n';
}

/* Must a newline come before the next line? 1, 0 or an error. Others that have written behind what is left have ended
 * the line; where the place of it is not known, the end of the file decides. */
static int needs_newline(struct exact_file *file)
{
    uint64_t end;

    if (file->torn_end != END_UNKNOWN) {
        const int is_end = is_torn_part_last(file);
        if (is_end <= 0)
            return is_end;
    }

    return ends_in_part(file, &end);
}

/* Not at the limit of the process or beyond, where a write raises SIGXFSZ. */
static bool write_newline(struct exact_file *file)
{
    uint64_t bytes;

    if (io_size(file->data, &bytes) < 0 || bytes >= twl_size_limit())
        return false;
    return write(io_file_fd(file->data), "\n", 1) == 1;
}

void twl_exact_end_line(const struct exact_sink *sink, struct exact_file *file)
{
    take_back(sink, file);
    if (file->torn_bytes == 0)
        return;

    const int needs = needs_newline(file);
    if (needs == 0 || (needs > 0 && write_newline(file)))
        file->torn_bytes = 0;
}

/* ---- one write, and the one that goes on ----------------------------------------------------------- */

/* Reserves the space, after a full disk. File systems that cannot do so try the write. */
static int reserve(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    uint64_t bytes;
    int rc = io_size(sink->file->data, &bytes);

    if (rc == 0 && fallocate(fd_of(sink), FALLOC_FL_KEEP_SIZE, (off_t)bytes, (off_t)size) < 0)
        rc = -errno;
    if (is_no_space(rc))
        return rc;

    sink->is_full = false;
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
    if (written == 0)
        return -EIO;
    return written;
}

int twl_exact_tell(const struct exact_file *file, uint64_t *ret_end)
{
    const off_t end = lseek(io_file_fd(file->data), 0, SEEK_CUR);

    *ret_end = END_UNKNOWN;
    if (end < 0)
        return -errno;
    *ret_end = (uint64_t)end;
    return 0;
}

/* Bytes that are to be written, and how far that is done. */
struct rest {
    const unsigned char *bytes; /* a newline, and behind it the bytes of the caller */
    size_t size;                /* with the newline */
    size_t done; /* the next one to be written; it begins with 0, or with 1 where no newline is needed */
    unsigned restarts; /* how often it began anew */
};

/* After a write: the file remembers what it has of the caller's bytes, and where they end. A newline alone has ended an
 * older part of a line. An error: where they end could not be asked. */
static int remember(struct exact_sink *sink, const struct rest *rest) REQUIRES(sink->lock)
{
    struct exact_file *file = sink->file;

    file->torn_bytes = rest->done - 1;
    return twl_exact_tell(file, &file->torn_end);
}

/* Other processes may have written behind the part that is there: then all bytes come once more, in one piece. */
static int look_behind(struct exact_sink *sink, struct rest *rest) REQUIRES(sink->lock)
{
    uint64_t end;

    const int is_end = is_torn_part_last(sink->file);
    if (is_end < 0)
        return is_end;
    if (is_end > 0)
        return 0;

    rest->restarts++;
    if (rest->restarts > MOST_RESTARTS)
        return -EIO;

    const int is_part = ends_in_part(sink->file, &end);
    if (is_part < 0)
        return is_part;
    rest->done = 1;
    if (is_part > 0)
        rest->done = 0; /* with the newline */
    return 0;
}

/* One call for the rest. Where the kernel takes a part of it, the file remembers that part, and it is found out whether
 * the rest may follow. */
static int write_next(struct exact_sink *sink, struct rest *rest) REQUIRES(sink->lock)
{
    const struct iovec piece = { (void *)(uintptr_t)(rest->bytes + rest->done), rest->size - rest->done };
    const ssize_t written = write_once(sink, &piece, 1);
    if (written < 0)
        return (int)written;

    rest->done += (size_t)written;
    if (rest->done == rest->size)
        return 0;

    const int rc = remember(sink, rest);
    if (rc < 0)
        return rc;
    return look_behind(sink, rest);
}

/* Writes the rest. On return all of it is in the file, and nothing is torn; or there is an error, and the file
 * remembers the part that it has, if that could not be taken back. */
static int go_on(struct exact_sink *sink, struct rest *rest) REQUIRES(sink->lock)
{
    int rc = 0;

    while (rc == 0 && rest->done < rest->size)
        rc = write_next(sink, rest);

    sink->is_full = is_no_space(rc);
    if (rc == 0)
        sink->file->torn_bytes = 0;
    else
        take_back(sink, sink->file);
    return rc;
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

/* Where to begin, behind what an earlier write has left: with the bytes that are missing, with a newline, or with the
 * first byte. */
static int choose_begin(struct exact_sink *sink, struct rest *rest) REQUIRES(sink->lock)
{
    struct exact_file *file = sink->file;

    rest->done = 1;
    if (file->torn_bytes == 0)
        return 0;

    const int is_same = is_begun(file, rest->bytes + 1, rest->size - 1);
    if (is_same < 0)
        return is_same;
    if (is_same > 0) {
        rest->done += (size_t)file->torn_bytes;
        return 0;
    }

    const int needs = needs_newline(file);
    if (needs < 0)
        return needs;
    if (needs > 0)
        rest->done = 0;
    return 0;
}

/* For a write that the kernel has cut short after `written` bytes: appends the others, or all of them once more. */
static int append_rest(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                       size_t written) REQUIRES(sink->lock)
{
    unsigned char *joined = join(pieces, count, size);
    struct rest rest = { .bytes = joined, .size = size + 1, .done = 1 + written };

    int rc = remember(sink, &rest); /* also where there is no memory to go on */
    if (!joined)
        rc = -ENOMEM;
    if (rc == 0)
        rc = look_behind(sink, &rest);

    if (rc == 0)
        rc = go_on(sink, &rest);
    else
        take_back(sink, sink->file);
    free(joined);
    return rc;
}

/* For a write that finds a torn part, has more pieces than a call takes, or is to begin with a newline: all of it is
 * one piece of memory first. */
static int append_joined(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                         bool has_newline) REQUIRES(sink->lock)
{
    unsigned char *joined = join(pieces, count, size);
    struct rest rest = { .bytes = joined, .size = size + 1 };
    int rc = 0;

    if (!joined)
        return -ENOMEM;

    if (!has_newline)
        rc = choose_begin(sink, &rest);
    if (rc == 0)
        rc = go_on(sink, &rest);
    free(joined);
    return rc;
}

/* Appends the pieces in one piece; with `has_newline` behind a newline. On an error nothing of them is in the file, or
 * it remembers what is. */
static int append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                  bool has_newline) REQUIRES(sink->lock)
{
    const bool is_simple = sink->file->torn_bytes == 0 && count <= IOV_MAX && !has_newline;
    size_t most = size + 1;
    if (is_simple)
        most = size;

    int rc = check_limit(sink, most);
    if (rc == 0 && sink->is_full)
        rc = reserve(sink, most);
    if (rc < 0)
        return rc;
    if (!is_simple)
        return append_joined(sink, pieces, count, size, has_newline);

    const ssize_t written = write_once(sink, pieces, count);
    POINT("exact write done");
    if (written < 0) {
        sink->is_full = is_no_space((int)written);
        return (int)written;
    }

    if ((size_t)written == size)
        return 0;
    return append_rest(sink, pieces, count, size, (size_t)written);
}

/* ---- turns of sinks of lines ------------------------------------------------------------------------- */

/* Tries for one of the two locks of a turn until that time: -EAGAIN then. */
static int lock_until(struct exact_sink *sink, enum io_lock which, uint64_t until_ns) REQUIRES(sink->lock)
{
    struct io_file *data = sink->file->data;
    unsigned turns = 0;
    int rc = io_lock(data, which, true);

    while (rc == -EAGAIN && twl_monotonic_ns() < until_ns) {
        twl_nap(data->io, YIELDS_FOR_LOCK, &turns);
        rc = io_lock(data, which, true);
    }

    return rc;
}

/* Takes both locks of a turn in one call, as they lie side by side: only if nobody writes and nobody waits. */
static bool take_both(struct exact_sink *sink) REQUIRES(sink->lock)
{
    struct flock both = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NEXT_LOCK, .l_len = 2 };

    return fcntl(fd_of(sink), F_OFD_SETLK, &both) == 0;
}

/* Becomes the next one, and then takes the turn. After an error neither lock is held. */
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

/* Only a writer that is alone can tell a line without an end from one that is on its way: TURN_LOCK is for the one that
 * writes. NEXT_LOCK is for the first of those that wait, so that none that comes back at once takes the turn before it.
 * True: TURN_LOCK is held, and NEXT_LOCK is free for another one. False: this write goes on without a turn, as somebody
 * has kept the locks for a second; then none is tried for ten. */
static bool take_turn(struct exact_sink *sink) REQUIRES(sink->lock)
{
    const uint64_t now_ns = twl_monotonic_ns();

    if (now_ns < sink->no_turn_until_ns)
        return false;
    if (!take_both(sink) && wait_for_both(sink, now_ns + TURN_WAIT_NS) < 0) {
        /* a process that is stopped, another program's lock, or a file system without locks */
        sink->no_turn_until_ns = now_ns + NO_TURN_NS;
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

/* Has somebody left a line without its end? 1, 0 or an error. Leaves the present end of the file in expected_end, 0 if
 * that is not known. */
static int ends_in_part_of_line(struct exact_sink *sink) REQUIRES(sink->lock)
{
    uint64_t end;

    if (ends_as_expected(sink))
        return 0;

    sink->expected_end = 0;
    const int is_part = ends_in_part(sink->file, &end);
    if (is_part >= 0)
        sink->expected_end = end;
    return is_part;
}

/* Others that have written behind the torn part have ended it, and it is forgotten. */
static int forget_if_ended(struct exact_file *file)
{
    if (file->torn_bytes == 0 || file->torn_end == END_UNKNOWN)
        return 0;

    const int is_last = is_torn_part_last(file);
    if (is_last < 0)
        return is_last;
    if (is_last == 0)
        file->torn_bytes = 0;
    return 0;
}

/* In the turn of this sink: a line without an end is nobody's any more, and gets its newline first. A torn part of this
 * process is dealt with as in any sink, as long as it is the end of the file. */
static int append_lines(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    const int rc = forget_if_ended(sink->file);
    if (rc < 0)
        return rc;
    if (sink->file->torn_bytes > 0)
        return append(sink, pieces, count, size, false);

    const int is_part = ends_in_part_of_line(sink);
    if (is_part < 0)
        return is_part;
    if (is_part == 0)
        sink->expected_end += size; /* the next write looks whether it is so */
    return append(sink, pieces, count, size, is_part > 0);
}

/* sink->file is the same when the turn is given back: sink->lock is held, under which alone it changes. */
int twl_exact_append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
{
    if (!(sink->options.flags & TWINLOG_SINK_LINES))
        return append(sink, pieces, count, size, false);

    const bool has_turn = take_turn(sink);
    const int rc = append_lines(sink, pieces, count, size);
    if (has_turn)
        io_unlock(sink->file->data, TURN_LOCK);
    return rc;
}

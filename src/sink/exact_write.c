/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of an exact sink. Nearly always a write is one call. The rest of this file is for the one that was cut short:
 * by a full disk, a quota, a limit of the process, or a file system that a signal interrupts.
 *
 * Such a write leaves a part of its bytes at the end of the file. If no other sink has the file, the part is cut off at
 * once. Otherwise others may have written behind it, or are about to. Then it stays, and this process remembers that
 * (has_part). It is never completed: a process that asks whether its part is still the end, and then writes the rest,
 * may find that another one has written in between. All bytes come once more, in one call, behind a newline that ends
 * the part. So a reader may see the beginning of a write, cut off, but no write with bytes of another one inside.
 *
 * The newline is left out where the file ends in one, because others have ended the part, or it was cut just behind a
 * newline. If they end it after this process has looked, and before it writes, an empty line is left: no line is lost,
 * cut or joined by it.
 *
 * The second try is the last one of a call. Before it the sink asks whether there is room, as it does after each full
 * disk. So a process that tries again and again mostly leaves one part. A sink that goes on in another file, or is
 * closed, ends its part with a newline alone (twl_exact_end_line()).
 *
 * If the end of the file has to be looked at, and the system does not say what it is, the call ends with the error, and
 * nothing is written.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/point.h"
#include "io/io_files.h"
#include "sink/exact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define YIELDS_FOR_LOCK 100u
#define WAS_CUT 1 /* the result of a write of which the kernel took only a part */
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

/* A write that begins at the limit raises SIGXFSZ, which by default ends the process. To ask for the size of the file
 * first is not enough, as others make it longer. So the signal is kept from the thread meanwhile. */
struct held_signal {
    bool was_pending; /* before: then it is the program's own, and stays so */
    sigset_t before;  /* what the thread has blocked */
};

static sigset_t limit_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    return set;
}

static void hold_signal(struct held_signal *held)
{
    const sigset_t signal = limit_signal();
    sigset_t pending;

    *held = (struct held_signal){ 0 };
    pthread_sigmask(SIG_BLOCK, &signal, &held->before);
    if (sigismember(&held->before, SIGXFSZ) && sigpending(&pending) == 0)
        held->was_pending = sigismember(&pending, SIGXFSZ);
}

/* `rc`: the result of the calls in between. Only -EFBIG may have come with the signal, which is taken back then. */
static void release_signal(const struct held_signal *held, int rc)
{
    const sigset_t signal = limit_signal();
    const struct timespec no_time = { 0 };

    if (rc == -EFBIG && !held->was_pending)
        sigtimedwait(&signal, NULL, &no_time);
    pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

/* -EFBIG: the write does not fit below the limit. It is refused before the kernel takes a part of it. */
static int refuse_above_limit(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    uint64_t bytes;

    if (sink->size_limit == UINT64_MAX)
        return 0;

    const int rc = io_size(sink->file->data, &bytes);
    if (rc < 0)
        return rc;
    if (bytes + size > sink->size_limit)
        return -EFBIG;
    return 0;
}

/* ---- what a write that was cut short has left ------------------------------------------------------ */

/* True: no other sink has the file, and none opens it until unlock_alone(). A shared sink has EXACT_LOCK shared, and
 * makes it exclusive here, without waiting; one that is not shared has it exclusively all the time. Programs that take
 * no such lock are not kept out: what one of them appends between the look at the end and the cut is lost. Where the
 * file system has no locks, a sink that is not shared is taken for alone. */
static bool try_lock_alone(const struct exact_sink *sink, struct exact_file *file)
{
    if (!file->has_locks)
        return !(sink->options.flags & TWINLOG_SINK_SHARED);
    return io_lock(file->data, EXACT_LOCK, true) == 0;
}

static void unlock_alone(const struct exact_sink *sink, struct exact_file *file)
{
    if (sink->options.flags & TWINLOG_SINK_SHARED)
        io_lock(file->data, EXACT_LOCK, false);
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

static bool write_newline(struct exact_file *file)
{
    struct held_signal held;
    int rc = 0;

    hold_signal(&held);
    const ssize_t written = write(io_file_fd(file->data), "\n", 1);
    if (written < 0)
        rc = -errno;
    release_signal(&held, rc);
    return written == 1;
}

void twl_exact_end_line(struct exact_file *file)
{
    uint64_t end;

    if (!file->has_part)
        return;

    const int is_part = ends_in_part(file, &end);
    if (is_part < 0)
        return;
    if (is_part == 0 || write_newline(file))
        file->has_part = false;
}

/* ---- one write ------------------------------------------------------------------------------------- */

/* False: surely less is free than the write needs. A file system that does not say how much is free may have enough. */
static bool has_free_blocks(const struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    struct statvfs about;

    if (fstatvfs(fd_of(sink), &about) < 0 || about.f_blocks == 0)
        return true;
    return about.f_bfree >= size / about.f_frsize;
}

/* Does the file system give so much space to this process? An unnamed file reserves it, and gives it back at once. In
 * the sink's own file a part of the space would stay where the rest is refused, and to cut that part off would take
 * what other programs append meanwhile. 0: it does, or it cannot be asked so. -ENOSPC and its like: it does not. */
static int try_reserving_space(const struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    struct io_file *unnamed;

    int rc = twl_io_open_unnamed(sink->file->io, 0, &unnamed);
    if (rc < 0)
        return 0;

    if (fallocate(io_file_fd(unnamed), FALLOC_FL_KEEP_SIZE, 0, (off_t)size) < 0)
        rc = -errno;
    io_close(unnamed);
    return is_no_space(rc) ? rc : 0;
}

/* Behind a write that has met a full disk the next one asks for room first: of one that does not fit the kernel would
 * take a part. */
static int refuse_while_full(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    if (!sink->is_full)
        return 0;
    if (!has_free_blocks(sink, size))
        return -ENOSPC;

    const int rc = try_reserving_space(sink, size);
    if (rc == 0)
        sink->is_full = false;
    return rc;
}

/* Returns how many bytes the kernel took, or an error. A call that a signal has interrupted before the first byte is
 * made again. */
static ssize_t call_writev(struct exact_sink *sink, const struct iovec *pieces, int count)
    REQUIRES(sink->lock)
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

/* Cuts off what the last write of this process has put at the end of the file, if no other sink can have written behind
 * it. False: it stays. */
static bool take_back(const struct exact_sink *sink, struct exact_file *file, size_t written)
{
    uint64_t end, there;
    bool is_done = false;

    if (twl_exact_tell(file, &end) < 0 || !try_lock_alone(sink, file))
        return false;

    if (io_size(file->data, &there) == 0 && there == end)
        is_done = io_truncate(file->data, end - written) == 0;
    unlock_alone(sink, file);
    return is_done;
}

/* One call for all pieces. 0: they are in the file, in one piece. WAS_CUT: the kernel took only a part of them, which
 * was cut off again, or has stayed (has_part). An error: none of them is there. */
static int write_or_take_back(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    const ssize_t written = call_writev(sink, pieces, count);

    POINT("exact write done");
    if (written < 0) {
        sink->is_full = is_no_space((int)written);
        return (int)written;
    }

    if ((size_t)written == size) {
        sink->file->has_part = false;
        return 0;
    }

    sink->is_full = true;
    if (!take_back(sink, sink->file, (size_t)written))
        sink->file->has_part = true;
    return WAS_CUT;
}

/* The same for a write that fits, as far as that can be told before. One that does not is refused. */
static int write_if_it_fits(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    int rc = refuse_above_limit(sink, size);

    POINT("exact limit seen");
    if (rc == 0)
        rc = refuse_while_full(sink, size);
    if (rc < 0)
        return rc;
    return write_or_take_back(sink, pieces, count, size);
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

/* For a write that is to begin with a newline, or has more pieces than a call takes: it becomes one piece first. */
static int write_joined(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                        bool has_newline) REQUIRES(sink->lock)
{
    unsigned char *joined = join(pieces, count, size);
    struct iovec piece = { joined, size + 1 };

    if (!joined)
        return -ENOMEM;

    if (!has_newline)
        piece = (struct iovec){ joined + 1, size };
    const int rc = write_if_it_fits(sink, &piece, 1, piece.iov_len);
    free(joined);
    return rc;
}

/* ---- turns of sinks of lines ------------------------------------------------------------------------- */

/* Tries to take one of the two locks of a turn until that time. -EAGAIN: another process has had it all the while. */
static int wait_for_turn_lock(struct exact_sink *sink, enum io_lock which, uint64_t until_ns)
    REQUIRES(sink->lock)
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

/* Takes both locks of a turn in one call, as they lie side by side. False: a process writes, or one waits. */
static bool try_take_turn(struct exact_sink *sink) REQUIRES(sink->lock)
{
    struct flock both = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NEXT_LOCK, .l_len = 2 };

    return fcntl(fd_of(sink), F_OFD_SETLK, &both) == 0;
}

/* Becomes the first of those that wait, and then takes the turn. After an error neither lock is held. */
static int wait_in_line(struct exact_sink *sink, uint64_t until_ns) REQUIRES(sink->lock)
{
    int rc = wait_for_turn_lock(sink, NEXT_LOCK, until_ns);
    if (rc < 0)
        return rc;

    rc = wait_for_turn_lock(sink, TURN_LOCK, until_ns);
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

    const bool has_both = try_take_turn(sink) || wait_in_line(sink, now_ns + TURN_WAIT_NS) == 0;
    if (!has_both) { /* a process that is stopped, another program's lock, or a file system without locks */
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
static int look_for_part_of_line(struct exact_sink *sink) REQUIRES(sink->lock)
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

/* Must a newline come before the next line? 1, 0 or an error. A sink of lines looks each time, in its turn; other ones
 * only where a write of theirs was cut short. */
static int needs_newline(struct exact_sink *sink) REQUIRES(sink->lock)
{
    uint64_t end;

    if (sink->options.flags & TWINLOG_SINK_LINES)
        return look_for_part_of_line(sink);
    if (sink->file->has_part)
        return ends_in_part(sink->file, &end);
    return 0;
}

/* Appends the pieces, behind a newline where the file ends in a part of a line. The result is that of
 * write_or_take_back(). */
static int append_behind_whole_line(struct exact_sink *sink, const struct iovec *pieces, int count,
                                    size_t size) REQUIRES(sink->lock)
{
    const int needs = needs_newline(sink);
    if (needs < 0)
        return needs;

    POINT("exact end seen");
    if (needs == 0)
        sink->expected_end += size; /* the next write of a sink of lines looks whether it is so */

    const bool must_join = needs > 0 || count > IOV_MAX;
    if (must_join)
        return write_joined(sink, pieces, count, size, needs > 0);
    return write_if_it_fits(sink, pieces, count, size);
}

/* The same. Where the process has a limit, its signal is kept from the thread meanwhile. */
static int append_holding_signal(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    struct held_signal held;

    if (sink->size_limit == UINT64_MAX)
        return append_behind_whole_line(sink, pieces, count, size);

    hold_signal(&held);
    const int rc = append_behind_whole_line(sink, pieces, count, size);
    release_signal(&held, rc);
    return rc;
}

/* The second try asks for room before it writes, so it mostly returns the reason as an error. If the kernel takes only
 * a part once more, the error is that of a full disk, for which a caller can wait. */
static int append_trying_twice(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock)
{
    int rc = append_holding_signal(sink, pieces, count, size);
    if (rc != WAS_CUT)
        return rc;

    twl_exact_limit(sink); /* it may be lower since it was looked at */
    rc = append_holding_signal(sink, pieces, count, size);
    if (rc == WAS_CUT)
        return -ENOSPC;
    return rc;
}

/* sink->file is the same when the turn is given back: sink->lock is held, under which alone it changes. */
int twl_exact_append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
{
    const bool has_turn = (sink->options.flags & TWINLOG_SINK_LINES) && take_turn(sink);
    const int rc = append_trying_twice(sink, pieces, count, size);

    if (has_turn)
        io_unlock(sink->file->data, TURN_LOCK);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable writes through io_uring: one write that carries RWF_DSYNC, or one write linked to one
 * fdatasync. submit() only fills in the entries; reap() hands them to the kernel and waits for them in
 * the same system call. So the kernel's refusal to take them comes out of reap() as well, as a write
 * that failed and a barrier that did not run, and an entry it did not take is withdrawn: it must not
 * ride along with the next group, and a barrier must not run without the write it was linked to.
 *
 * Leaders change from group to group, so the ring belongs to no thread. Files are not registered with
 * it: a request then holds its file, and with it the writer's lock, exactly as long as it runs (I9).
 *
 * A forked child has the ring's memory and descriptor, too. What it does on destroy, unmap and close,
 * leaves the parent's ring as it was; an entry that was not handed over when it forked it never sends.
 *
 * This is the only file that knows liburing.
 */
#define _GNU_SOURCE
#include "io/io_files.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_ENTRIES 8u

struct uring_io {
    struct io_files files;        /* must be first */
    struct io_uring ring;         /* [leader] */
    const unsigned char *adopted; /* [const] registered with the ring; NULL = nothing is */
    size_t adopted_bytes;         /* [const] */
};

/* What a completion tells about the group: the user_data of its entry. */
enum part {
    PART_WRITE = 1,
    PART_SYNC,
    PART_WRITE_AND_SYNC
};

static struct uring_io *uring_of(struct io *io)
{
    return (struct uring_io *)io;
}

/* ---- submit ------------------------------------------------------------------------------------ */

static struct io_uring_sqe *next_entry(struct uring_io *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);

    ASSERT(entry); /* reap() leaves the queue empty */
    return entry;
}

/* Untorn writes are refused from registered memory: -EINVAL (Linux 6.18). */
static bool is_adopted(const struct uring_io *uring, const struct io_write *write)
{
    return uring->adopted && !write->is_untorn && write->data >= uring->adopted &&
           write->data + write->size <= uring->adopted + uring->adopted_bytes;
}

static struct io_uring_sqe *queue_write(struct uring_io *uring, const struct io_write *write, int flags,
                                        enum part part)
{
    struct io_uring_sqe *entry = next_entry(uring);
    int fd = io_file_fd(write->file);

    ASSERT(write->size <= UINT32_MAX);
    if (is_adopted(uring, write))
        io_uring_prep_write_fixed(entry, fd, write->data, (unsigned)write->size, write->offset, 0);
    else
        io_uring_prep_write(entry, fd, write->data, (unsigned)write->size, write->offset);
    entry->rw_flags = io_write_flags(write, flags);
    io_uring_sqe_set_data64(entry, part);
    return entry;
}

static int submit_dsync(struct io *io, struct io_write *write)
{
    queue_write(uring_of(io), write, RWF_DSYNC, PART_WRITE_AND_SYNC);
    return 0;
}

/* A write that fails or falls short breaks the link and thereby cancels the sync. */
static int submit_linked(struct io *io, struct io_write *write)
{
    struct io_uring_sqe *entry = queue_write(uring_of(io), write, 0, PART_WRITE);

    io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
    entry = next_entry(uring_of(io));
    io_uring_prep_fsync(entry, io_file_fd(write->file), IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data64(entry, PART_SYNC);
    return 0;
}

/* ---- reap -------------------------------------------------------------------------------------- */

/* Without a polling kernel thread, the kernel looks at the queue only while we are in a call. */
static void withdraw_entries(struct io_uring *ring)
{
    ring->sq.sqe_head = ring->sq.sqe_tail = *ring->sq.khead;
    *ring->sq.ktail = *ring->sq.khead;
}

/* There is no giving up: until it has completed, the kernel reads the buffer. */
static struct io_uring_cqe *wait_completion(struct io_uring *ring)
{
    struct io_uring_cqe *completion;

    while (io_uring_wait_cqe(ring, &completion) < 0)
        sched_yield(); /* a signal; or the system call was forbidden meanwhile, so watch the memory */
    return completion;
}

static void take_result(struct io_write *write, const struct io_uring_cqe *completion)
{
    switch ((enum part)completion->user_data) {
    case PART_WRITE:
        write->ret_written = completion->res;
        break;
    case PART_SYNC:
        write->ret_synced = completion->res;
        break;
    case PART_WRITE_AND_SYNC:
        write->ret_written = completion->res;
        write->ret_synced = completion->res < 0 ? -ECANCELED : 0;
        break;
    }
}

static void reap(struct io *io, struct io_write *write)
{
    struct io_uring *ring = &uring_of(io)->ring;
    unsigned queued = io_uring_sq_ready(ring);
    int result = io_uring_submit_and_wait(ring, queued);
    unsigned in_flight = queued - io_uring_sq_ready(ring);

    withdraw_entries(ring);
    write->ret_written = result < 0 ? result : -EAGAIN;
    write->ret_synced = -ECANCELED;
    for (; in_flight > 0; in_flight--) {
        struct io_uring_cqe *completion = wait_completion(ring);

        take_result(write, completion);
        io_uring_cqe_seen(ring, completion);
    }
}

/* ---- buffers, create, destroy ------------------------------------------------------------------ */

/* Registered memory stays pinned, which saves the kernel looking it up for each write. Kernels before
 * 6.0 could, after a fork, leave the parent with copies of pinned pages and the ring with the
 * originals; there, and where the limit on locked memory forbids it, plain writes do. */
static int adopt_buffers(struct io *io, void *bytes, size_t size)
{
    struct uring_io *uring = uring_of(io);
    struct iovec buffer = { .iov_base = bytes, .iov_len = size };

    ASSERT(!uring->adopted);
    if (!(uring->ring.features & IORING_FEAT_LINKED_FILE)) /* came with 6.0 */
        return 0;
    if (io_uring_register_buffers(&uring->ring, &buffer, 1) == 0) {
        uring->adopted = bytes;
        uring->adopted_bytes = size;
    }
    return 0;
}

/* Does once, on a file in memory, what every group will do. A sandbox may allow a ring to be set up
 * and then refuse its use, and an old kernel does not know the operations. */
static int rehearse(struct io *io)
{
    static const unsigned char byte;
    struct disk_file memory = { .file.io = io, .fd = memfd_create("twinlog", MFD_CLOEXEC) };
    struct io_write write = { .file = &memory.file, .data = &byte, .size = sizeof(byte) };

    if (memory.fd < 0)
        return -errno;
    io->ops->submit(io, &write);
    io->ops->reap(io, &write);
    close(memory.fd);
    if (write.ret_written == -EINVAL)
        return -EOPNOTSUPP;
    if (write.ret_written < 0)
        return (int)write.ret_written;
    return write.ret_synced;
}

static void destroy(struct io *io)
{
    io_uring_queue_exit(&uring_of(io)->ring);
    twl_io_files_destroy(&uring_of(io)->files);
    free(io);
}

static const struct io_ops dsync_ops = {
    IO_FILES_OPS,           .name = "uring", .adopt_buffers = adopt_buffers,
    .submit = submit_dsync, .reap = reap,    .destroy = destroy,
};

static const struct io_ops linked_ops = {
    IO_FILES_OPS, .name = "uring-linked", .adopt_buffers = adopt_buffers, .submit = submit_linked,
    .reap = reap, .destroy = destroy,
};

int twl_io_uring_create(const char *path, bool is_linked, struct io **ret_io)
{
    struct uring_io *uring = calloc(1, sizeof(*uring));
    int error;

    if (!uring)
        return -ENOMEM;
    error = twl_io_files_init(&uring->files, AT_FDCWD, path, is_linked ? &linked_ops : &dsync_ops);
    if (error < 0)
        goto free_uring;
    error = io_uring_queue_init(RING_ENTRIES, &uring->ring, 0);
    if (error < 0)
        goto close_directory;
    error = rehearse(&uring->files.io);
    if (error < 0)
        goto exit_queue;
    *ret_io = &uring->files.io;
    return 0;

exit_queue:
    io_uring_queue_exit(&uring->ring);
close_directory:
    twl_io_files_destroy(&uring->files);
free_uring:
    free(uring);
    return error;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable writes through io_uring: one write that carries RWF_DSYNC, or one write linked to one fdatasync. submit()
 * only fills in the entries; reap() hands them to the kernel and waits for them in the same system call. So if the
 * kernel does not take the entries, reap() reports it, as a write that failed and a barrier that did not run. An
 * entry that the kernel did not take is withdrawn: it must not go out with the next group, and a barrier must not
 * run without the write that it was linked to.
 *
 * The leader changes from group to group, so the ring belongs to no thread. Files are not registered with the ring:
 * a request then holds its file, and with it the writer's lock, exactly as long as it runs (I9).
 *
 * The ring of many directories (ring.h) never waits for one write alone. It does not link a sync, but queues it when
 * the write has completed in full. Other threads wake the ring through an eventfd that the ring polls.
 *
 * Linux 6.18 was once seen to take a request that needs a worker thread and to start no worker, so that the request
 * never completed. Another request for a worker starts one, which then finds both requests. So after a second of
 * waiting the ring adds a nudge, a request for a worker that does nothing, and keeps waiting.
 *
 * This is the only file that knows liburing.
 */
#define _GNU_SOURCE
#include "io/io_files.h"
#include "io/path_selector.h"
#include "io/ring.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_ENTRIES 8u
#define NUDGE_NS UINT64_C(1000000000) /* disks rarely take so long, and nudges are harmless */
#define NUDGE_DATA UINT64_C(0)        /* user_data of a nudge: no part of a write, and no address of one */

struct uring_io {
    struct io_files files;         /* must be first */
    struct io_uring ring;          /* [leader] */
    bool is_nudged;                /* [leader] a nudge is in flight */
    bool may_call;                 /* [leader] pwritev2() may be taken instead: it is not refused */
    struct path_selector selector; /* [leader] the first way is the ring, the second one is the call */
    uint64_t began_ns;             /* [leader] the write of a trial */
    const unsigned char *adopted;  /* [const] registered with the ring; NULL = nothing is */
    size_t adopted_bytes;          /* [const] */
};

/* The part of a group that a completion is for: the user_data of its entry. */
enum part {
    PART_WRITE = 1,
    PART_SYNC,
    PART_WRITE_AND_SYNC,
    PART_WRITE_ALONE
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

static bool is_adopted(const struct uring_io *uring, const struct io_write *write)
{
    return uring->adopted && write->data >= uring->adopted &&
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
    entry->rw_flags = flags;
    io_uring_sqe_set_data64(entry, part);
    return entry;
}

/* A write that fails or falls short breaks the link and thereby cancels the sync. */
static int submit_linked(struct io *io, struct io_write *write)
{
    if (write->barrier ==
        IO_BARRIER_NONE) { /* a trip through the ring costs more than a copy to the page cache */
        twl_io_posix_write(write);
        return 0;
    }
    struct io_uring_sqe *entry = queue_write(uring_of(io), write, 0, PART_WRITE);

    io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
    entry = next_entry(uring_of(io));
    io_uring_prep_fsync(entry, io_file_fd(write->file), IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data64(entry, PART_SYNC);
    return 0;
}

/* A write with RWF_DSYNC does the same by pwritev2(). The ring leaves its end to a worker of the kernel, which has to
 * get a processor first; the call leaves it to the leader. Which is quicker depends on the disk and on the load, so it
 * is measured. False: the ring has to write. */
static bool write_by_call(struct uring_io *uring, struct io_write *write)
{
    if (!uring->may_call)
        return false;
    uring->began_ns = is_trial(&uring->selector) ? twl_monotonic_ns() : 0;
    if (!twl_path_selector_is_second(&uring->selector))
        return false;
    twl_io_posix_write_dsync(write);
    uring->may_call = !twl_io_posix_dsync_is_refused(write); /* by a sandbox that came after opening */
    if (!uring->may_call)
        atomic_store_explicit(&uring->files.io.is_by_call, false, memory_order_relaxed);
    return uring->may_call;
}

/* RWF_DSYNC covers only the write that carries it. */
static int submit_dsync(struct io *io, struct io_write *write)
{
    if (write->barrier != IO_BARRIER_WRITE)
        return submit_linked(io, write);
    if (write_by_call(uring_of(io), write))
        return 0;
    queue_write(uring_of(io), write, RWF_DSYNC, PART_WRITE_AND_SYNC);
    return 0;
}

/* ---- reap -------------------------------------------------------------------------------------- */

/* Possible because the ring has no polling kernel thread: the kernel reads the queue only during a system call. */
static void withdraw_entries(struct io_uring *ring)
{
    ring->sq.sqe_head = ring->sq.sqe_tail = *ring->sq.khead;
    *ring->sq.ktail = *ring->sq.khead;
}

static struct __kernel_timespec timespec_of(uint64_t ns)
{
    return (struct __kernel_timespec){ .tv_sec = (int64_t)(ns / 1000000000),
                                       .tv_nsec = (long long)(ns % 1000000000) };
}

/* Before Linux 5.11 a time limit takes an entry of its own; waits for a write then have no limit, and no nudge. */
static bool has_limits(const struct io_uring *ring)
{
    return (ring->features & IORING_FEAT_EXT_ARG) != 0;
}

/* Sends a nudge, unless one is in flight. The queue must be empty. */
static void nudge(struct io_uring *ring, bool *is_nudged)
{
    struct io_uring_sqe *entry = *is_nudged ? NULL : io_uring_get_sqe(ring);

    if (!entry)
        return;
    io_uring_prep_nop(entry);
    io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
    io_uring_sqe_set_data64(entry, NUDGE_DATA);
    io_uring_submit(ring);
    *is_nudged = io_uring_sq_ready(ring) == 0;
    withdraw_entries(ring);
}

/* Waits for a completion, up to `left_ns` (0 = no limit). While something is in flight, a wait ends after NUDGE_NS and
 * leaves a nudge behind. False: look again. */
static bool wait_once(struct io_uring *ring, uint64_t left_ns, bool is_in_flight, bool *is_nudged,
                      struct io_uring_cqe **ret_completion)
{
    const bool may_nudge = is_in_flight && has_limits(ring);
    struct __kernel_timespec limit =
        timespec_of(may_nudge && (left_ns == 0 || left_ns > NUDGE_NS) ? NUDGE_NS : left_ns);
    const int result = left_ns > 0 || may_nudge ? io_uring_wait_cqe_timeout(ring, ret_completion, &limit)
                                                : io_uring_wait_cqe(ring, ret_completion);

    if (result == -ETIME && may_nudge)
        nudge(ring, is_nudged);
    else if (result < 0 && result != -ETIME)
        sched_yield(); /* a signal; or a sandbox now forbids the system call: poll the shared memory */
    return result == 0;
}

/* Never gives up: the kernel reads the buffer until the request completes. */
static struct io_uring_cqe *wait_completion(struct uring_io *uring)
{
    struct io_uring_cqe *completion;

    for (;;) {
        if (!wait_once(&uring->ring, 0, true, &uring->is_nudged, &completion))
            continue;
        if (completion->user_data != NUDGE_DATA)
            return completion;
        uring->is_nudged = false;
        io_uring_cqe_seen(&uring->ring, completion);
    }
}

/* The number of entries that the kernel took, or an error; -ETIME: it may have taken some, which are not done yet. */
static int submit_and_wait(struct io_uring *ring, unsigned queued)
{
    struct __kernel_timespec limit = timespec_of(NUDGE_NS);
    struct io_uring_cqe *completion;

    return has_limits(ring) ? io_uring_submit_and_wait_timeout(ring, &completion, queued, &limit, NULL)
                            : io_uring_submit_and_wait(ring, queued);
}

static void take_result(struct io_write *write, enum part part, int result)
{
    switch (part) {
    case PART_WRITE:
        write->ret_written = result;
        break;
    case PART_SYNC:
        write->ret_synced = result;
        break;
    case PART_WRITE_AND_SYNC:
    case PART_WRITE_ALONE:
        write->ret_written = result;
        write->ret_synced = result < 0 ? -ECANCELED : 0;
        break;
    }
}

static void reap(struct io *io, struct io_write *write)
{
    struct uring_io *uring = uring_of(io);
    struct io_uring *ring = &uring->ring;
    unsigned queued = io_uring_sq_ready(ring);
    if (queued == 0)
        return;
    int result = submit_and_wait(ring, queued);
    unsigned in_flight = queued - io_uring_sq_ready(ring);
    const bool is_split = in_flight > 0 && in_flight < queued; /* a write was taken, and its sync was not */

    withdraw_entries(ring);
    write->ret_written = result < 0 ? result : -EAGAIN;
    write->ret_synced = -ECANCELED;
    for (; in_flight > 0; in_flight--) {
        struct io_uring_cqe *completion = wait_completion(uring);

        take_result(write, (enum part)completion->user_data, completion->res);
        io_uring_cqe_seen(ring, completion);
    }
    if (is_split && write->ret_written >= 0)
        write->ret_written = -EAGAIN;
}

static void reap_dsync(struct io *io, struct io_write *write)
{
    struct uring_io *uring = uring_of(io);

    reap(io, write); /* of a call there is nothing to reap */
    if (!uring->may_call || write->barrier != IO_BARRIER_WRITE)
        return;
    twl_path_selector_next(&uring->selector, uring->began_ns > 0 ? twl_monotonic_ns() - uring->began_ns : 0);
    atomic_store_explicit(&io->is_by_call, uring->selector.is_second, memory_order_relaxed);
}

/* ---- buffers, create, destroy ------------------------------------------------------------------ */

/* Registered memory stays pinned, so the kernel need not look it up for each write. After a fork, kernels before 6.0
 * could leave the parent with copies of pinned pages and the ring with the originals. On these kernels, and where
 * the limit on locked memory forbids pinning, plain writes are used. */
static int adopt_buffers(struct io *io, void *bytes, size_t size)
{
    struct uring_io *uring = uring_of(io);
    struct iovec buffer = { .iov_base = bytes, .iov_len = size };

    ASSERT(!uring->adopted);
    if (!(uring->ring.features & IORING_FEAT_LINKED_FILE)) /* new in Linux 6.0 */
        return 0;
    if (io_uring_register_buffers(&uring->ring, &buffer, 1) == 0) {
        uring->adopted = bytes;
        uring->adopted_bytes = size;
    }
    return 0;
}

/* Does once, on a file in memory, what every group will do. A sandbox may allow a ring to be created and then refuse
 * its use, and an old kernel lacks the operations. */
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

static void destroy_ring(struct io *io)
{
    io_uring_queue_exit(&uring_of(io)->ring);
    twl_io_files_destroy(&uring_of(io)->files);
    free(io);
}

static const struct io_ops dsync_ops = {
    IO_FILES_OPS,           .name = "uring",    .adopt_buffers = adopt_buffers,
    .submit = submit_dsync, .reap = reap_dsync, .destroy = destroy_ring,
};

static const struct io_ops linked_ops = {
    IO_FILES_OPS, .name = "uring-linked",  .adopt_buffers = adopt_buffers, .submit = submit_linked,
    .reap = reap, .destroy = destroy_ring,
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

int twl_io_uring_create_quicker(const char *path, struct io **ret_io)
{
    const int rc = twl_io_uring_create(path, false, ret_io);

    if (rc == 0)
        uring_of(*ret_io)->may_call = true;
    return rc;
}

/* ---- a ring for many directories --------------------------------------------------------------- */

#define SPARE_ENTRIES 8u /* for the poll, and for a time limit on kernels before 5.11 */
#define PART_MASK UINT64_C(7)
#define CALL_DATA PART_MASK /* user_data of the poll: no part */

struct io_ring {
    struct io_uring ring;
    int call_fd;              /* [const] an eventfd */
    bool is_polled;           /* a poll of call_fd is in flight */
    unsigned queued;          /* entries that the kernel has not taken yet */
    unsigned in_flight;       /* entries that it has taken, without the poll and the nudge */
    bool is_nudged;           /* a nudge is in flight */
    unsigned refused;         /* writes that the kernel did not take */
    struct io_write **queue;  /* [queued] the write of each entry; NULL = the poll */
    struct io_write **refuse; /* [refused] */
};

_Static_assert(_Alignof(struct io_write) > PART_MASK, "an address leaves room for the part");

static struct io_uring_sqe *add_entry(struct io_ring *ring, struct io_write *write)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);

    ASSERT(entry); /* the ring has one for each write, and a few more */
    ring->queue[ring->queued++] = write;
    return entry;
}

static void set_owner(struct io_uring_sqe *entry, struct io_write *write, enum part part)
{
    io_uring_sqe_set_data64(entry, (uint64_t)(uintptr_t)write | part);
}

static void add_sync(struct io_ring *ring, struct io_write *write)
{
    struct io_uring_sqe *entry = add_entry(ring, write);

    io_uring_prep_fsync(entry, io_file_fd(write->file), IORING_FSYNC_DATASYNC);
    set_owner(entry, write, PART_SYNC);
}

void twl_io_ring_submit(struct io_ring *ring, struct io_write *write)
{
    enum part part = write->barrier == IO_BARRIER_WRITE  ? PART_WRITE_AND_SYNC
                     : write->barrier == IO_BARRIER_FILE ? PART_WRITE
                                                         : PART_WRITE_ALONE;

    write->ret_written = 0;
    write->ret_synced = -ECANCELED;
    if (write->size == 0) {
        add_sync(ring, write);
        return;
    }
    struct io_uring_sqe *entry = add_entry(ring, write);
    ASSERT(write->size <= UINT32_MAX);
    io_uring_prep_write(entry, io_file_fd(write->file), write->data, (unsigned)write->size, write->offset);
    entry->rw_flags = part == PART_WRITE_AND_SYNC ? RWF_DSYNC : 0;
    set_owner(entry, write, part);
}

/* Entries that the kernel does not take now are withdrawn for good: a sync that came later would cover nothing. */
static void hand_over(struct io_ring *ring)
{
    if (ring->queued == 0)
        return;
    io_uring_submit(&ring->ring);
    unsigned taken = ring->queued - io_uring_sq_ready(&ring->ring);
    withdraw_entries(&ring->ring);
    for (unsigned i = 0; i < taken; i++)
        ring->in_flight += ring->queue[i] != NULL;
    for (unsigned i = taken; i < ring->queued; i++) {
        if (ring->queue[i])
            ring->refuse[ring->refused++] = ring->queue[i];
        else
            ring->is_polled = false;
    }
    ring->queued = 0;
}

static void take_call(struct io_ring *ring)
{
    uint64_t calls;

    ring->is_polled = false;
    while (read(ring->call_fd, &calls, sizeof(calls)) < 0 && errno == EINTR)
        continue;
}

/* The write that this completion ends, or NULL. */
static struct io_write *take_completion(struct io_ring *ring, uint64_t user_data, int result)
{
    struct io_write *write = (struct io_write *)(uintptr_t)(user_data & ~PART_MASK);
    enum part part = (enum part)(user_data & PART_MASK);

    if (user_data == CALL_DATA) {
        take_call(ring);
        return NULL;
    }
    if (user_data == NUDGE_DATA) {
        ring->is_nudged = false;
        return NULL;
    }
    ring->in_flight--;
    take_result(write, part, result);
    if (part != PART_WRITE || write->ret_written != (int64_t)write->size)
        return write;
    add_sync(ring, write);
    return NULL;
}

struct io_write *twl_io_ring_reap(struct io_ring *ring)
{
    struct io_uring_cqe *completion;

    for (;;) {
        hand_over(ring);
        if (ring->refused > 0) {
            struct io_write *write = ring->refuse[--ring->refused];
            if (write->ret_written >= 0) /* else the limit was the reason */
                write->ret_written = -EAGAIN;
            return write;
        }
        if (io_uring_peek_cqe(&ring->ring, &completion) < 0)
            return NULL;
        uint64_t user_data = completion->user_data;
        int result = completion->res;
        io_uring_cqe_seen(&ring->ring, completion);
        struct io_write *write = take_completion(ring, user_data, result);
        if (write)
            return write;
    }
}

static void poll_calls(struct io_ring *ring)
{
    struct io_uring_sqe *entry;

    if (ring->is_polled)
        return;
    entry = add_entry(ring, NULL);
    io_uring_prep_poll_add(entry, ring->call_fd, POLLIN);
    io_uring_sqe_set_data64(entry, CALL_DATA);
    ring->is_polled = true;
}

void twl_io_ring_wait(struct io_ring *ring, uint64_t deadline_ns)
{
    struct io_uring_cqe *completion;
    uint64_t now_ns = deadline_ns > 0 ? twl_monotonic_ns() : 0, left_ns = deadline_ns - now_ns;

    if (deadline_ns > 0 && deadline_ns <= now_ns)
        return;
    poll_calls(ring);
    hand_over(ring);
    if (ring->refused > 0)
        return;
    if (!ring->is_polled) { /* wake() could not end a wait */
        sched_yield();
        return;
    }
    (void)wait_once(&ring->ring, left_ns, ring->in_flight > 0, &ring->is_nudged, &completion);
}

void twl_io_ring_wake(struct io_ring *ring)
{
    const uint64_t one = 1;

    while (write(ring->call_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* As rehearse(), but with each kind of barrier. */
static int rehearse_ring(struct io_ring *ring)
{
    static const unsigned char byte;
    static const enum io_barrier barriers[] = { IO_BARRIER_WRITE, IO_BARRIER_FILE, IO_BARRIER_NONE };
    struct disk_file memory = { .fd = memfd_create("twinlog", MFD_CLOEXEC) };
    int error = 0;

    if (memory.fd < 0)
        return -errno;
    for (unsigned i = 0; error == 0 && i < sizeof(barriers) / sizeof(barriers[0]); i++) {
        struct io_write write = {
            .file = &memory.file, .data = &byte, .size = sizeof(byte), .barrier = barriers[i]
        };
        twl_io_ring_submit(ring, &write);
        while (!twl_io_ring_reap(ring))
            twl_io_ring_wait(ring, 0);
        error = write.ret_written < 0 ? (int)write.ret_written : write.ret_synced;
    }
    close(memory.fd);
    return error == -EINVAL ? -EOPNOTSUPP : error;
}

int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring)
{
    const unsigned entries = writes + SPARE_ENTRIES;
    struct io_ring *ring = calloc(1, sizeof(*ring));
    int error = -ENOMEM;

    if (!ring)
        return -ENOMEM;
    ring->queue = calloc(entries, sizeof(struct io_write *));
    ring->refuse = calloc(entries, sizeof(struct io_write *));
    if (!ring->queue || !ring->refuse)
        goto free_ring;
    ring->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = ring->call_fd < 0 ? -errno : 0;
    if (error < 0)
        goto free_ring;
    error = io_uring_queue_init(entries, &ring->ring, 0);
    if (error < 0)
        goto close_fd;
    error = rehearse_ring(ring);
    if (error < 0)
        goto exit_queue;
    *ret_ring = ring;
    return 0;

exit_queue:
    io_uring_queue_exit(&ring->ring);
close_fd:
    close(ring->call_fd);
free_ring:
    free(ring->queue);
    free(ring->refuse);
    free(ring);
    return error;
}

void twl_io_ring_destroy(struct io_ring *ring)
{
    if (!ring)
        return;
    io_uring_queue_exit(&ring->ring);
    close(ring->call_fd);
    free(ring->queue);
    free(ring->refuse);
    free(ring);
}

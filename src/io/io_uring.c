/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of io_uring: that of one log, which waits for each write, and that of a shared committer (ring.h), which has
 * several in flight and which other threads wake, through an eventfd that the ring polls.
 *
 * A write carries RWF_DSYNC, or a sync follows it: linked to it (TWINLOG_IO_URING_LINKED), or queued when it has
 * completed in full. An entry that the kernel did not take is withdrawn: it must not go out with the next write, and a
 * sync must not run without the write that it was to cover.
 *
 * The leader changes from group to group, so the ring belongs to no thread. Files are not registered with the ring:
 * a request then holds its file, and with it the writer's lock, exactly as long as it runs (I9).
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

#include "base/descriptor.h"
#include "base/fork.h"
#include "base/sync.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FEW_ENTRIES 8u /* for a write and its sync, the poll, and a time limit on kernels before 5.11 */
#define NUDGE_NS UINT64_C(1000000000) /* disks rarely take so long, and nudges are harmless */
#define REHEARSALS 100u               /* of one barrier, when signals come in between */
#define YIELDS_WHEN_REFUSED 100u

struct io_ring {
    struct io_uring ring;
    bool is_linked; /* [const] */
    int wake_fd;    /* [const] an eventfd; -1: the ring of a log, which nobody wakes */
    struct child_file in_child, wake_in_child; /* of the two descriptors */
    bool is_polled;                            /* a poll of wake_fd is in flight */
    bool is_nudged;                            /* a nudge is in flight */
    unsigned unfinished;                       /* entries of writes, queued or in flight */
    unsigned refused_waits;                    /* in a row */
    struct io_write *refused;                  /* what the kernel did not take, by `next` */
};

/* What an entry is for: its user_data is the address of the write and one of these. */
enum part {
    PART_WRITE = 1,  /* when it has completed, its sync is queued */
    PART_LINKED,     /* the next entry is its sync */
    PART_WRITE_ONLY, /* it carries its sync, or needs none */
    PART_SYNC,
};
#define PART_MASK UINT64_C(7)
#define NUDGE_DATA UINT64_C(0) /* user_data of a nudge, and of the poll: neither is a part of a write */
#define POLL_DATA PART_MASK

_Static_assert(_Alignof(struct io_write) > PART_MASK, "an address leaves room for the part");

static struct io_write *write_of(uint64_t user_data)
{
    return (struct io_write *)(uintptr_t)(user_data & ~PART_MASK);
}

/* ---- submit ------------------------------------------------------------------------------------ */

static struct io_uring_sqe *next_entry(struct io_ring *ring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);

    ASSERT(entry); /* the ring has one for each write of a committer, and a few more */
    return entry;
}

static void set_owner(struct io_ring *ring, struct io_uring_sqe *entry, struct io_write *write,
                      enum part part)
{
    io_uring_sqe_set_data64(entry, (uint64_t)(uintptr_t)write | part);
    ring->unfinished++;
}

static void add_sync(struct io_ring *ring, struct io_write *write)
{
    struct io_uring_sqe *entry = next_entry(ring);

    io_uring_prep_fsync(entry, io_file_fd(write->file), IORING_FSYNC_DATASYNC);
    set_owner(ring, entry, write, PART_SYNC);
}

/* Is the entry of the write all of it, or does a sync follow, linked to it or when it has completed? */
static enum part part_of_write(const struct io_ring *ring, const struct io_write *write, bool carries_sync)
{
    if (carries_sync || write->barrier == IO_BARRIER_NONE)
        return PART_WRITE_ONLY;
    if (ring->is_linked)
        return PART_LINKED;
    return PART_WRITE;
}

void twl_io_ring_submit(struct io_ring *ring, struct io_write *write)
{
    const bool carries_sync = write->barrier == IO_BARRIER_WRITE && !ring->is_linked;
    const enum part part = part_of_write(ring, write, carries_sync);

    write->ret_written = 0;
    write->ret_synced = -ECANCELED;
    if (write->size == 0) {
        add_sync(ring, write);
        return;
    }

    ASSERT(write->size <= UINT32_MAX);
    twl_io_choose_cache(write);
    struct io_uring_sqe *entry = next_entry(ring);
    io_uring_prep_write(entry, io_file_fd(write->file), write->data, (unsigned)write->size, write->offset);
    entry->rw_flags = carries_sync ? RWF_DSYNC : 0;
    set_owner(ring, entry, write, part);

    /* A write that fails or falls short cancels the sync that is linked to it. */
    if (part == PART_LINKED) {
        io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
        add_sync(ring, write);
    }
}

/* ---- to the kernel ----------------------------------------------------------------------------- */

/* The result of a write that never began. -EAGAIN: it is tried again, by the log itself if it is one of a committer. */
static int result_of_refused(const struct io_ring *ring, int error)
{
    const bool is_of_committer = ring->wake_fd >= 0;

    return error < 0 && !is_of_committer ? error : -EAGAIN;
}

/* The kernel did not take this entry. */
static void take_back(struct io_ring *ring, uint64_t user_data, int error)
{
    struct io_write *write = write_of(user_data);
    const uint64_t part = user_data & PART_MASK;

    if (user_data == NUDGE_DATA) {
        ring->is_nudged = false;
        return;
    }
    if (part == POLL_DATA) { /* or a time limit of liburing's, of which all bits are set */
        ring->is_polled = false;
        return;
    }

    ring->unfinished--;
    write->ret_written = result_of_refused(ring, error);
    /* The next entry is the sync of this write, and is refused, too. The write is handed out once, with that one. If
     * the kernel took the write and not its sync, the write completes later as one without a sync. */
    if (part == PART_LINKED)
        return;
    write->next = ring->refused;
    ring->refused = write;
}

/* Withdraws what the kernel has not taken: a sync that came later would cover nothing. Possible because the ring has no
 * polling kernel thread: the kernel reads the queue only during a system call. */
static void withdraw(struct io_ring *ring, int error)
{
    struct io_uring_sq *queue = &ring->ring.sq;

    for (unsigned at = *queue->khead; at != *queue->ktail; at++)
        take_back(ring, queue->sqes[at & *queue->kring_mask].user_data, error);
    queue->sqe_head = queue->sqe_tail = *queue->ktail = *queue->khead;
}

static struct __kernel_timespec timespec_of(uint64_t ns)
{
    return (struct __kernel_timespec){ .tv_sec = (int64_t)(ns / 1000000000),
                                       .tv_nsec = (long long)(ns % 1000000000) };
}

/* Before Linux 5.11 a time limit takes an entry of its own; waits for a write then have no limit, and no nudge. */
static bool has_limits(const struct io_ring *ring)
{
    return (ring->ring.features & IORING_FEAT_EXT_ARG) != 0;
}

/* Sends a nudge, unless one is in flight. The queue must be empty. */
static void nudge(struct io_ring *ring)
{
    struct io_uring_sqe *entry = ring->is_nudged ? NULL : io_uring_get_sqe(&ring->ring);

    if (!entry)
        return;

    io_uring_prep_nop(entry);
    io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
    io_uring_sqe_set_data64(entry, NUDGE_DATA);
    ring->is_nudged = true;
    withdraw(ring, io_uring_submit(&ring->ring));
}

/* How long a wait may last: until a nudge is due, if that is earlier than `left_ns`. 0 = no limit. */
static uint64_t limit_of_wait(uint64_t left_ns, bool may_nudge)
{
    if (!may_nudge)
        return left_ns;
    return left_ns == 0 ? NUDGE_NS : min_u64(left_ns, NUDGE_NS);
}

static int submit_and_wait(struct io_ring *ring, unsigned count, uint64_t limit_ns)
{
    struct __kernel_timespec limit = timespec_of(limit_ns);
    struct io_uring_cqe *completion;

    if (limit_ns == 0)
        return io_uring_submit_and_wait(&ring->ring, count);
    return io_uring_submit_and_wait_timeout(&ring->ring, &completion, count, &limit, NULL);
}

/* A sandbox forbids the call by now, so completions are found by looking at the shared memory. A write may be done at
 * any moment, but a committer with no work would take a processor. */
static void rest_unless_disturbed(struct io_ring *ring, int result)
{
    const struct timespec moment = { .tv_nsec = 1000000 };
    const bool is_refused = result < 0 && result != -ETIME && result != -EINTR;

    ring->refused_waits = is_refused ? ring->refused_waits + 1 : 0;
    if (ring->refused_waits > YIELDS_WHEN_REFUSED)
        nanosleep(&moment, NULL);
    else if (ring->refused_waits > 0)
        sched_yield();
}

/* Hands over what is queued, and waits for a completion, up to `left_ns` (0 = no limit). While a write is in flight, a
 * wait ends after NUDGE_NS and leaves a nudge behind. The ring of a log waits for all that is in flight: the write and
 * its sync. */
static void hand_over_and_wait(struct io_ring *ring, uint64_t left_ns)
{
    const bool may_nudge = ring->unfinished > 0 && has_limits(ring);
    const unsigned count = ring->wake_fd < 0 ? ring->unfinished : 1;
    const int result = submit_and_wait(ring, count, limit_of_wait(left_ns, may_nudge));

    withdraw(ring, result);
    if (result == -ETIME && may_nudge)
        nudge(ring);

    rest_unless_disturbed(ring, result);
}

/* ---- completions --------------------------------------------------------------------------------- */

/* The next twl_io_ring_wake() then ends a wait. */
static void add_poll(struct io_ring *ring)
{
    struct io_uring_sqe *entry = next_entry(ring);

    io_uring_prep_poll_add(entry, ring->wake_fd, POLLIN);
    io_uring_sqe_set_data64(entry, POLL_DATA);
    ring->is_polled = true;
}

/* The poll has seen a twl_io_ring_wake(), or several. */
static void take_wakes(struct io_ring *ring)
{
    uint64_t wakes;

    ring->is_polled = false;
    while (read(ring->wake_fd, &wakes, sizeof(wakes)) < 0 && errno == EINTR)
        continue;
}

/* A part of a write has completed. Returns the write if that was the last part, else NULL. */
static struct io_write *take_part(struct io_ring *ring, struct io_write *write, enum part part, int result)
{
    ring->unfinished--;
    if (part == PART_SYNC) {
        write->ret_synced = result;
        return write;
    }

    write->ret_written = result;
    if (part == PART_LINKED) /* the completion of its sync follows in any case */
        return NULL;
    if (part == PART_WRITE && result == (int64_t)write->size) {
        add_sync(ring, write);
        return NULL;
    }
    if (part == PART_WRITE_ONLY && result >= 0)
        write->ret_synced = 0;
    return write;
}

/* The write that this completion ends, or NULL. */
static struct io_write *take_completion(struct io_ring *ring, uint64_t user_data, int result)
{
    if (user_data == POLL_DATA) {
        take_wakes(ring);
        return NULL;
    }
    if (user_data == NUDGE_DATA) {
        ring->is_nudged = false;
        return NULL;
    }
    return take_part(ring, write_of(user_data), (enum part)(user_data & PART_MASK), result);
}

bool twl_io_ring_hand_over(struct io_ring *ring)
{
    if (io_uring_sq_ready(&ring->ring) > 0)
        withdraw(ring, io_uring_submit(&ring->ring));
    return !ring->refused;
}

struct io_write *twl_io_ring_reap(struct io_ring *ring)
{
    struct io_uring_cqe *completion;
    struct io_write *write = NULL;

    if (!twl_io_ring_hand_over(ring)) {
        write = ring->refused;
        ring->refused = write->next;
    }

    while (!write && io_uring_peek_cqe(&ring->ring, &completion) == 0) {
        const uint64_t user_data = completion->user_data;
        const int result = completion->res;
        io_uring_cqe_seen(&ring->ring, completion);
        write = take_completion(ring, user_data, result);
    }
    return write;
}

void twl_io_ring_wait(struct io_ring *ring, uint64_t deadline_ns)
{
    uint64_t left_ns = 0;

    if (deadline_ns > 0) {
        const uint64_t now_ns = twl_monotonic_ns();
        if (deadline_ns <= now_ns)
            return;
        left_ns = deadline_ns - now_ns;
    }
    if (!ring->is_polled)
        add_poll(ring);
    hand_over_and_wait(ring, left_ns);
}

void twl_io_ring_wake(struct io_ring *ring)
{
    const uint64_t one = 1;

    while (write(ring->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* ---- for a thread that waits elsewhere ------------------------------------------------------------- */

int twl_io_ring_fd(const struct io_ring *ring)
{
    return ring->ring.ring_fd;
}

void twl_io_ring_nudge(struct io_ring *ring)
{
    nudge(ring);
}

/* ---- create, destroy ----------------------------------------------------------------------------- */

/* Never gives up: the kernel reads the buffer until the request completes. */
static void write_and_wait(struct io_ring *ring, struct io_write *write)
{
    twl_io_ring_submit(ring, write);
    do {
        hand_over_and_wait(ring, 0);
        while (twl_io_ring_reap(ring))
            continue;
    } while (ring->unfinished > 0);
}

/* Did a signal keep the kernel from starting the write, or the lack of a thread? Then the kernel has refused nothing,
 * and the rehearsal is tried again. */
static bool was_disturbed(const struct io_write *write)
{
    const int64_t written = write->ret_written;

    if (written == -EINTR || written == -EAGAIN || written == -ECANCELED)
        return true;
    return written >= 0 && write->ret_synced == -ECANCELED;
}

static int rehearse_one(struct io_ring *ring, struct io_file *file, enum io_barrier barrier)
{
    static const unsigned char byte;
    struct io_write write = { .file = file, .data = &byte, .size = sizeof(byte), .barrier = barrier };
    unsigned tries = 0;

    do {
        write_and_wait(ring, &write);
        tries++;
    } while (was_disturbed(&write) && tries < REHEARSALS);

    if (write.ret_written < 0)
        return (int)write.ret_written;
    return write.ret_synced;
}

/* A new ring is empty, and has room; a forked child of user mode Linux 6.1 sees that of its parent. */
static bool looks_new(const struct io_ring *ring)
{
    return io_uring_sq_ready(&ring->ring) == 0 && io_uring_sq_space_left(&ring->ring) >= FEW_ENTRIES;
}

/* -EINVAL would say that a caller is wrong. */
static int without_einval(int error)
{
    return error == -EINVAL ? -EOPNOTSUPP : error;
}

/* Does once, on a file in memory, what every group will do, up to this barrier. A sandbox may allow a ring to be
 * created and then refuse its use, and an old kernel lacks the operations. */
static int rehearse(struct io_ring *ring, enum io_barrier last)
{
    if (!looks_new(ring))
        return -EOPNOTSUPP;

    struct disk_file memory = { .fd = twl_descriptor_memory("twinlog") };
    if (memory.fd < 0)
        return without_einval(memory.fd);

    int error = 0;
    for (enum io_barrier barrier = IO_BARRIER_WRITE; error == 0 && barrier <= last; barrier++)
        error = rehearse_one(ring, &memory.file, barrier);
    close(memory.fd);
    return without_einval(error);
}

/* The kernel's half of the ring, and its memory, of which no child gets anything: a child that had it would keep the
 * ring. */
static int init_ring(struct io_ring *ring, unsigned entries)
{
    twl_child_hold();
    const bool is_taken = twl_low_descriptors_take();
    const int error = io_uring_queue_init(entries, &ring->ring, 0);
    twl_low_descriptors_release(is_taken);
    if (error == 0) {
        io_uring_ring_dontfork(&ring->ring);
        twl_child_register(&ring->in_child, &ring->ring.ring_fd);
    }
    twl_child_release();
    return error;
}

static int make_wake_fd(struct io_ring *ring)
{
    twl_child_hold();
    const int fd = twl_descriptor_event(0);
    if (fd < 0) {
        twl_child_release();
        return fd;
    }
    ring->wake_fd = fd;
    twl_child_register(&ring->wake_in_child, &ring->wake_fd);
    twl_child_release();
    return 0;
}

static int create_ring(unsigned entries, bool is_linked, bool can_be_woken, struct io_ring **ret_ring)
{
    struct io_ring *ring = calloc(1, sizeof(*ring));

    if (!ring)
        return -ENOMEM;
    ring->is_linked = is_linked;
    ring->wake_fd = -1;
    int error = init_ring(ring, entries);
    if (error < 0) {
        free(ring);
        return error;
    }

    error = rehearse(ring, can_be_woken ? IO_BARRIER_NONE : IO_BARRIER_WRITE);
    if (error == 0 && can_be_woken)
        error = make_wake_fd(ring);
    if (error < 0) {
        twl_io_ring_destroy(ring);
        return error;
    }
    *ret_ring = ring;
    return 0;
}

int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring)
{
    return create_ring(writes + FEW_ENTRIES, false, true, ret_ring);
}

void twl_io_ring_destroy(struct io_ring *ring)
{
    if (!ring)
        return;
    twl_child_unregister(&ring->in_child);
    io_uring_queue_exit(&ring->ring);
    twl_child_close(&ring->wake_in_child, &ring->wake_fd);
    free(ring);
}

/* ---- the directory of one log -------------------------------------------------------------------- */

struct uring_io {
    struct io_files files;         /* must be first */
    bool may_call;                 /* [leader] pwritev2() may be taken instead: it is not refused */
    struct path_selector selector; /* [leader] the first way is the ring, the second one is the call */
};

static void write_by_ring(struct io_files *files, struct io_write *write)
{
    if (write->barrier == IO_BARRIER_NONE) /* the ring costs more than a copy to the page cache */
        twl_io_posix_write(write);
    else
        write_and_wait(files->ring, write);
}

/* False: a sandbox that came after opening refuses the call, and nothing was written. */
static bool write_by_call(struct uring_io *uring, struct io_write *write)
{
    twl_io_posix_write_dsync(write);
    uring->may_call = !twl_io_posix_dsync_is_refused(write);
    return uring->may_call;
}

/* A write with RWF_DSYNC does the same by pwritev2(). The ring leaves its end to a worker of the kernel, which has to
 * get a processor first; the call leaves it to the leader. Which is quicker depends on the disk and on the load, so it
 * is measured. */
static void write_by_the_quicker(struct io_files *files, struct io_write *write)
{
    struct uring_io *uring = (struct uring_io *)files;

    if (!uring->may_call || write->barrier != IO_BARRIER_WRITE) {
        write_by_ring(files, write);
        return;
    }
    if (write->is_for_cache) { /* the ring would hand it to a worker of the kernel in any case */
        if (!write_by_call(uring, write))
            write_by_ring(files, write);
        return;
    }

    const bool is_timed = is_trial(&uring->selector);
    const uint64_t began_ns = is_timed ? twl_monotonic_ns() : 0;
    const bool is_by_call = twl_path_selector_is_second(&uring->selector);
    if (!is_by_call || !write_by_call(uring, write))
        write_by_ring(files, write);

    const uint64_t took_ns = is_timed ? twl_monotonic_ns() - began_ns : 0;
    twl_path_selector_next(&uring->selector, took_ns);
    atomic_store_explicit(&files->io.is_by_call, uring->may_call && uring->selector.is_second,
                          memory_order_relaxed);
}

int twl_io_uring_create(const char *path, enum ring_use use, struct io **ret_io)
{
    struct uring_io *uring = calloc(1, sizeof(*uring));

    if (!uring)
        return -ENOMEM;
    struct io_files *files = &uring->files;
    files->write_durably = use == RING_OR_CALL ? write_by_the_quicker : write_by_ring;
    uring->may_call = true;
    int error = twl_io_files_init(files, AT_FDCWD, path);
    if (error < 0) {
        free(uring);
        return error;
    }

    error = create_ring(FEW_ENTRIES, use == RING_LINKED, false, &files->ring);
    if (error < 0) {
        files->io.ops->destroy(&files->io);
        return error;
    }
    *ret_io = &files->io;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable writes through io_uring, by two kinds of rings:
 *
 * - The ring of one log (twl_io_uring_create()) has one write in flight, and the thread that writes waits for it.
 * - The ring of a shared committer (ring.h) has several in flight. Other threads wake the one that waits, through an
 *   eventfd that the ring polls.
 *
 * A write is queued as one entry, or as two if its sync has an entry of its own. The entries are handed over to the
 * kernel by a system call, and the kernel answers each with a completion. A write is done when the completion of its
 * last entry has come. With RWF_DSYNC the write carries its sync. Otherwise the sync is linked to it
 * (TWINLOG_IO_URING_LINKED), or queued when the write has completed in full.
 *
 * What can fail: the kernel refuses an entry, because it does not take it from the queue. Then the entry is withdrawn:
 * it must not go out with the next write, and a sync must not run without the write that it was to cover.
 *
 * The leader changes from group to group, so the ring belongs to no thread. Files are not registered with the ring:
 * a request then holds its file, and with it the writer's lock, exactly as long as it runs (I9).
 *
 * Linux 6.18 was once seen to take a request that needs a worker thread and to start no worker, so that the request
 * never completed. Another request for a worker starts one, which then finds both requests. So when a second of waiting
 * has brought no completion, or a signal has ended it, the ring adds a nudge, a request for a worker that does nothing,
 * and keeps waiting.
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

/* For one write and its sync, the poll, a nudge, and a time limit on kernels before 5.11. */
#define FEW_ENTRIES 8u
#define NUDGE_NS UINT64_C(1000000000) /* disks rarely take so long, and nudges are harmless */
#define MOST_REHEARSALS 100u          /* of one barrier, when signals come in between */
#define YIELDS_WHEN_REFUSED 100u

struct io_ring {
    struct io_uring ring;
    bool is_linked; /* [const] a sync is linked to its write */
    int wake_fd;    /* [const] an eventfd; -1: the ring of a log, which nobody wakes */
    struct child_file in_child, wake_in_child; /* of the two descriptors */
    bool is_polled;                            /* a poll of wake_fd is queued or in flight */
    bool is_nudged;                            /* a nudge is queued or in flight */
    unsigned unfinished;                       /* entries of writes, queued or in flight */
    unsigned refused_waits;                    /* in a row */
    struct io_write *refused;                  /* writes that the kernel did not take, by `next` */
};

/* ---- entries ----------------------------------------------------------------------------------- */

/* What an entry is for. The user_data of an entry, which its completion repeats, is the address of its write and one of
 * these in the lowest bits. */
enum entry_kind {
    ENTRY_NUDGE = 0,         /* belongs to no write */
    ENTRY_WRITE_BEFORE_SYNC, /* when it has completed in full, its sync is queued */
    ENTRY_WRITE_LINKED,      /* the next entry is its sync */
    ENTRY_WRITE_ALONE,       /* it carries its sync, or needs none */
    ENTRY_SYNC,
    ENTRY_POLL,           /* belongs to no write */
    ENTRY_TIME_LIMIT = 7, /* made by liburing before Linux 5.11: LIBURING_UDATA_TIMEOUT has all bits */
};
#define KIND_MASK UINT64_C(7)

_Static_assert(_Alignof(struct io_write) > KIND_MASK, "an address leaves room for the kind");

static uint64_t user_data_of(const struct io_write *write, enum entry_kind kind)
{
    return (uint64_t)(uintptr_t)write | kind;
}

static enum entry_kind kind_of(uint64_t user_data)
{
    return (enum entry_kind)(user_data & KIND_MASK);
}

static struct io_write *write_of(uint64_t user_data)
{
    return (struct io_write *)(uintptr_t)(user_data & ~KIND_MASK);
}

static struct io_uring_sqe *next_entry(struct io_ring *ring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);

    ASSERT(entry); /* the ring has one for each write of a committer, and a few more */
    return entry;
}

/* ---- queue ------------------------------------------------------------------------------------- */

static void set_write(struct io_ring *ring, struct io_uring_sqe *entry, struct io_write *write,
                      enum entry_kind kind)
{
    io_uring_sqe_set_data64(entry, user_data_of(write, kind));
    ring->unfinished++;
}

static void queue_sync(struct io_ring *ring, struct io_write *write)
{
    struct io_uring_sqe *entry = next_entry(ring);

    io_uring_prep_fsync(entry, io_file_fd(write->file), IORING_FSYNC_DATASYNC);
    set_write(ring, entry, write, ENTRY_SYNC);
}

static enum entry_kind kind_for_write(const struct io_ring *ring, const struct io_write *write,
                                      bool carries_sync)
{
    if (carries_sync || write->barrier == IO_BARRIER_NONE)
        return ENTRY_WRITE_ALONE;
    if (ring->is_linked)
        return ENTRY_WRITE_LINKED;
    return ENTRY_WRITE_BEFORE_SYNC;
}

void twl_io_ring_submit(struct io_ring *ring, struct io_write *write)
{
    const bool carries_sync = write->barrier == IO_BARRIER_WRITE && !ring->is_linked;
    const enum entry_kind kind = kind_for_write(ring, write, carries_sync);

    write->ret_written = 0;
    write->ret_synced = -ECANCELED;
    if (write->size == 0) {
        queue_sync(ring, write);
        return;
    }

    ASSERT(write->size <= UINT32_MAX);
    twl_io_choose_cache(write);
    struct io_uring_sqe *entry = next_entry(ring);
    io_uring_prep_write(entry, io_file_fd(write->file), write->data, (unsigned)write->size, write->offset);
    entry->rw_flags = carries_sync ? RWF_DSYNC : 0;
    set_write(ring, entry, write, kind);

    /* A write that fails or falls short cancels the sync that is linked to it. */
    if (kind == ENTRY_WRITE_LINKED) {
        io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
        queue_sync(ring, write);
    }
}

/* The next twl_io_ring_wake() then completes the poll, and so ends a wait. */
static void queue_poll(struct io_ring *ring)
{
    struct io_uring_sqe *entry = next_entry(ring);

    io_uring_prep_poll_add(entry, ring->wake_fd, POLLIN);
    io_uring_sqe_set_data64(entry, user_data_of(NULL, ENTRY_POLL));
    ring->is_polled = true;
}

static void queue_nudge(struct io_ring *ring)
{
    struct io_uring_sqe *entry = next_entry(ring);

    io_uring_prep_nop(entry);
    io_uring_sqe_set_flags(entry, IOSQE_ASYNC); /* needs a worker thread */
    io_uring_sqe_set_data64(entry, user_data_of(NULL, ENTRY_NUDGE));
    ring->is_nudged = true;
}

/* ---- withdraw what the kernel did not take ------------------------------------------------------ */

/* A new ring has no eventfd yet, so it counts as that of a log during its rehearsal, which asks for the kernel's own
 * errors. */
static bool is_of_committer(const struct io_ring *ring)
{
    return ring->wake_fd >= 0;
}

/* The result of a write of which the kernel did not take an entry. `result` is that of the system call: an error, or
 * the number of entries that were taken before this one. With -EAGAIN the log tries the write again. A log of a
 * committer can do that even where the ring is refused: it then writes without the ring. */
static int error_of_refused(const struct io_ring *ring, int result)
{
    if (result < 0 && !is_of_committer(ring))
        return result;
    return -EAGAIN;
}

static void end_refused_write(struct io_ring *ring, struct io_write *write, enum entry_kind kind, int error)
{
    ring->unfinished--;
    write->ret_written = error;

    /* The next entry is the sync of this write, and is refused, too. The write is handed out once, with that one. */
    if (kind == ENTRY_WRITE_LINKED)
        return;

    /* If this is a linked sync, the kernel may have taken its write alone. That completes later, as a write without a
     * sync, and write_and_wait() waits for it. */
    write->next = ring->refused;
    ring->refused = write;
}

static void end_refused_entry(struct io_ring *ring, uint64_t user_data, int error)
{
    const enum entry_kind kind = kind_of(user_data);

    if (kind == ENTRY_NUDGE) {
        ring->is_nudged = false;
        return;
    }
    if (kind == ENTRY_POLL) {
        ring->is_polled = false;
        return;
    }
    if (kind == ENTRY_TIME_LIMIT) /* no test: only kernels before 5.11 have it */
        return;
    end_refused_write(ring, write_of(user_data), kind, error);
}

/* After each system call that hands over, with its result: empties the queue of what the kernel has not taken. That is
 * possible because the ring has no polling kernel thread: the kernel reads the queue only during a system call. */
static void withdraw_refused(struct io_ring *ring, int result)
{
    struct io_uring_sq *queue = &ring->ring.sq;
    const unsigned taken = *queue->khead;
    const int error = error_of_refused(ring, result);

    for (unsigned at = taken; at != *queue->ktail; at++)
        end_refused_entry(ring, queue->sqes[at & *queue->kring_mask].user_data, error);

    *queue->ktail = taken;
    queue->sqe_head = taken;
    queue->sqe_tail = taken;
}

bool twl_io_ring_hand_over(struct io_ring *ring)
{
    if (io_uring_sq_ready(&ring->ring) > 0)
        withdraw_refused(ring, io_uring_submit(&ring->ring));
    return ring->refused == NULL;
}

/* Unless one is in flight. */
void twl_io_ring_nudge(struct io_ring *ring)
{
    if (ring->is_nudged)
        return;
    queue_nudge(ring);
    twl_io_ring_hand_over(ring);
}

/* ---- wait -------------------------------------------------------------------------------------- */

/* Before Linux 5.11 a time limit takes an entry of its own; waits for a write then have no limit, and no nudge. */
static bool has_time_limits(const struct io_ring *ring)
{
    return (ring->ring.features & IORING_FEAT_EXT_ARG) != 0;
}

/* How long one system call may wait: until a nudge is due, if that is earlier than `left_ns`. 0 = no limit. */
static uint64_t limit_of_wait(uint64_t left_ns, bool may_nudge)
{
    if (!may_nudge)
        return left_ns;
    if (left_ns == 0)
        return NUDGE_NS;
    return min_u64(left_ns, NUDGE_NS);
}

static struct __kernel_timespec timespec_of(uint64_t ns)
{
    return (struct __kernel_timespec){ .tv_sec = (int64_t)(ns / 1000000000),
                                       .tv_nsec = (long long)(ns % 1000000000) };
}

/* The number of entries that the kernel took, or an error. It is -ETIME or -EINTR only if there was nothing to hand
 * over: a wait that has handed over and then brought nothing returns the number. */
static int hand_over_and_wait_for(struct io_ring *ring, unsigned completions, uint64_t limit_ns)
{
    struct __kernel_timespec limit = timespec_of(limit_ns);
    struct io_uring_cqe *first;

    if (limit_ns == 0)
        return io_uring_submit_and_wait(&ring->ring, completions);
    return io_uring_submit_and_wait_timeout(&ring->ring, &first, completions, &limit, NULL);
}

/* Did the kernel, or a sandbox, refuse to wait? */
static bool is_refused_wait(int result)
{
    const bool has_waited = result >= 0 || result == -ETIME || result == -EINTR;

    return !has_waited;
}

/* A sandbox forbids the call by now, so completions are found by looking at the shared memory. A write may be done at
 * any moment, but a committer with no work would take a processor. */
static void pause_instead_of_wait(struct io_ring *ring)
{
    const struct timespec moment = { .tv_nsec = 1000000 };

    ring->refused_waits++;
    if (ring->refused_waits > YIELDS_WHEN_REFUSED)
        nanosleep(&moment, NULL);
    else
        sched_yield();
}

/* Hands over what is queued, and waits for a completion, up to `left_ns` (0 = no limit). May return early. The ring of
 * a log waits for all that is in flight: the write and its sync.
 *
 * While a write is in flight, a wait ends after NUDGE_NS, and leaves a nudge behind if it has brought no completion. So
 * does one that a signal ended: where signals come all the time, no wait lasts as long as NUDGE_NS. */
static void hand_over_and_wait(struct io_ring *ring, uint64_t left_ns)
{
    const bool may_nudge = ring->unfinished > 0 && has_time_limits(ring);
    const unsigned completions = is_of_committer(ring) ? 1 : ring->unfinished;
    const int result = hand_over_and_wait_for(ring, completions, limit_of_wait(left_ns, may_nudge));

    withdraw_refused(ring, result);
    if (is_refused_wait(result)) {
        pause_instead_of_wait(ring);
        return;
    }

    ring->refused_waits = 0;
    const bool is_in_vain = io_uring_cq_ready(&ring->ring) == 0; /* the time is over, or a signal came */
    if (may_nudge && is_in_vain)
        twl_io_ring_nudge(ring);
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
        queue_poll(ring);
    hand_over_and_wait(ring, left_ns);
}

void twl_io_ring_wake(struct io_ring *ring)
{
    const uint64_t one = 1;

    while (write(ring->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* ---- completions --------------------------------------------------------------------------------- */

/* The poll has seen a twl_io_ring_wake(), or several. The next poll must see only those that come later. */
static void consume_wakes(struct io_ring *ring)
{
    uint64_t wakes;

    while (read(ring->wake_fd, &wakes, sizeof(wakes)) < 0 && errno == EINTR)
        continue;
}

/* The entry of the write itself has completed. Returns the write if it is done; NULL if its sync is still to come. */
static struct io_write *complete_write(struct io_ring *ring, struct io_write *write, enum entry_kind kind,
                                       int result)
{
    const bool is_whole = result == (int64_t)write->size;

    write->ret_written = result;
    if (kind == ENTRY_WRITE_LINKED) /* the completion of its sync follows in any case */
        return NULL;
    if (kind == ENTRY_WRITE_BEFORE_SYNC && is_whole) {
        queue_sync(ring, write);
        return NULL;
    }

    if (kind == ENTRY_WRITE_ALONE && result >= 0)
        write->ret_synced = 0;
    return write;
}

/* Returns the write that is done with this completion, or NULL. */
static struct io_write *complete_entry(struct io_ring *ring, uint64_t user_data, int result)
{
    const enum entry_kind kind = kind_of(user_data);
    struct io_write *write = write_of(user_data);

    if (kind == ENTRY_POLL) {
        ring->is_polled = false;
        consume_wakes(ring);
        return NULL;
    }
    if (kind == ENTRY_NUDGE) {
        ring->is_nudged = false;
        return NULL;
    }

    /* liburing keeps the completion of an ENTRY_TIME_LIMIT to itself, so this one is a write's. */
    ring->unfinished--;
    if (kind == ENTRY_SYNC) {
        write->ret_synced = result;
        return write;
    }
    return complete_write(ring, write, kind, result);
}

static struct io_write *pop_refused(struct io_ring *ring)
{
    struct io_write *write = ring->refused;

    ring->refused = write->next;
    return write;
}

struct io_write *twl_io_ring_reap(struct io_ring *ring)
{
    struct io_uring_cqe *completion;
    struct io_write *write = NULL;

    if (!twl_io_ring_hand_over(ring))
        return pop_refused(ring);

    while (!write && io_uring_peek_cqe(&ring->ring, &completion) == 0) {
        const uint64_t user_data = completion->user_data;
        const int result = completion->res;
        io_uring_cqe_seen(&ring->ring, completion); /* from here on the kernel may overwrite it */
        write = complete_entry(ring, user_data, result);
    }
    return write;
}

int twl_io_ring_fd(const struct io_ring *ring)
{
    return ring->ring.ring_fd;
}

/* ---- rehearse: does this kernel let a new ring do its work? ---------------------------------------- */

/* Never gives up: the kernel reads the bytes until the request completes. */
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

static int rehearse_barrier(struct io_ring *ring, struct io_file *file, enum io_barrier barrier)
{
    static const unsigned char byte;
    struct io_write write = { .file = file, .data = &byte, .size = sizeof(byte), .barrier = barrier };
    unsigned tries = 0;

    do {
        write_and_wait(ring, &write);
        tries++;
    } while (was_disturbed(&write) && tries < MOST_REHEARSALS);

    if (was_disturbed(&write)) /* each time, as where the kernel may start no thread for the ring */
        return -EOPNOTSUPP;
    if (write.ret_written < 0)
        return (int)write.ret_written;
    return write.ret_synced;
}

static int rehearse_all_barriers(struct io_ring *ring, struct io_file *file)
{
    int rc = rehearse_barrier(ring, file, IO_BARRIER_WRITE);

    if (rc == 0)
        rc = rehearse_barrier(ring, file, IO_BARRIER_FILE);
    if (rc == 0)
        rc = rehearse_barrier(ring, file, IO_BARRIER_NONE);
    return rc;
}

/* A new ring is empty, and has room. User mode Linux 6.1 gives a forked child that of its parent instead. */
static bool looks_new(const struct io_ring *ring)
{
    return io_uring_sq_ready(&ring->ring) == 0 && io_uring_sq_space_left(&ring->ring) >= FEW_ENTRIES;
}

/* -EINVAL would say that a caller is wrong. */
static int without_einval(int error)
{
    return error == -EINVAL ? -EOPNOTSUPP : error;
}

/* Does once, on a file in memory, what the groups will do. A sandbox may allow a ring to be created and then refuse its
 * use, and an old kernel lacks the operations. A log tries only the write that nearly all of its groups are. */
static int rehearse(struct io_ring *ring, bool is_for_committer)
{
    if (!looks_new(ring))
        return -EOPNOTSUPP;

    struct disk_file memory = { .fd = twl_descriptor_memory("twinlog") };
    if (memory.fd < 0)
        return without_einval(memory.fd);

    int rc;
    if (is_for_committer)
        rc = rehearse_all_barriers(ring, &memory.file);
    else
        rc = rehearse_barrier(ring, &memory.file, IO_BARRIER_WRITE);

    close(memory.fd);
    return without_einval(rc);
}

/* ---- create, destroy ----------------------------------------------------------------------------- */

/* Makes the kernel's half of the ring, and the memory that both share. A forked child gets neither: with one of them it
 * would keep the ring. */
static int init_ring(struct io_ring *ring, unsigned entries)
{
    twl_child_hold();
    const bool is_taken = twl_low_descriptors_take();
    const int rc = io_uring_queue_init(entries, &ring->ring, 0);
    twl_low_descriptors_release(is_taken);
    if (rc == 0) {
        io_uring_ring_dontfork(&ring->ring);
        twl_child_register(&ring->in_child, &ring->ring.ring_fd);
    }
    twl_child_release();
    return rc;
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

static int create_ring(unsigned entries, bool is_linked, bool is_for_committer, struct io_ring **ret_ring)
{
    struct io_ring *ring = calloc(1, sizeof(*ring));

    if (!ring)
        return -ENOMEM;
    ring->is_linked = is_linked;
    ring->wake_fd = -1;
    int rc = init_ring(ring, entries);
    if (rc < 0) {
        free(ring);
        return rc;
    }

    rc = rehearse(ring, is_for_committer);
    if (rc == 0 && is_for_committer)
        rc = make_wake_fd(ring);
    if (rc < 0) {
        twl_io_ring_destroy(ring);
        return rc;
    }
    *ret_ring = ring;
    return 0;
}

int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring)
{
    return create_ring(writes + FEW_ENTRIES, false, true, ret_ring);
}

/* A poll or a nudge may be in flight still: the kernel ends them when the ring is closed. */
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
    struct io_files files; /* must be first */
    bool may_call;         /* [leader] pwritev2() may be taken instead of the ring: no sandbox refuses it */
    struct path_selector selector; /* [leader] the first way is the ring, the second one is the call */
};

static void write_by_ring(struct io_files *files, struct io_write *write)
{
    if (write->barrier == IO_BARRIER_NONE) /* the ring costs more than a copy to the page cache */
        twl_io_posix_write(write);
    else
        write_and_wait(files->ring, write);
}

static void write_by_call(struct uring_io *uring, struct io_write *write)
{
    twl_io_posix_write_dsync(write);
    if (!twl_io_posix_dsync_is_refused(write))
        return;

    /* A sandbox that came after opening refuses the call, and nothing was written. */
    uring->may_call = false;
    write_by_ring(&uring->files, write);
}

static void write_by_selected(struct uring_io *uring, struct io_write *write)
{
    if (twl_path_selector_is_second(&uring->selector))
        write_by_call(uring, write);
    else
        write_by_ring(&uring->files, write);
}

/* Returns the time that the write took, which counts in a trial only; else 0. */
static uint64_t write_and_time(struct uring_io *uring, struct io_write *write)
{
    if (!is_trial(&uring->selector)) {
        write_by_selected(uring, write);
        return 0;
    }

    const uint64_t began_ns = twl_monotonic_ns();
    write_by_selected(uring, write);
    return twl_monotonic_ns() - began_ns;
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
        write_by_call(uring, write);
        return;
    }

    const uint64_t took_ns = write_and_time(uring, write);
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
    int rc = twl_io_files_init(files, AT_FDCWD, path);
    if (rc < 0) {
        free(uring);
        return rc;
    }

    rc = create_ring(FEW_ENTRIES, use == RING_LINKED, false, &files->ring);
    if (rc < 0) {
        files->io.ops->destroy(&files->io);
        return rc;
    }
    *ret_io = &files->io;
    return 0;
}

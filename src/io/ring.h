/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of a shared committer (io_uring.c): it carries the writes of many logs, several at a time, to any files of
 * io_files.c. One thread at a time calls these functions; twl_io_ring_wake() is for all threads. The files and the
 * bytes stay the caller's, and stay as they are until the write is done. */
#ifndef TWL_IO_RING_H
#define TWL_IO_RING_H

#include "io/io.h"

struct io_ring;

/* For at most `writes` writes at a time. -ENOSYS, -EPERM, -ENOMEM, ... where the kernel refuses. */
int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring);
/* Requires that no write is queued or in flight. NULL: does nothing. */
void twl_io_ring_destroy(struct io_ring *ring);

/* Queues a write, which reap() returns when it is done. A write of no bytes is only a barrier. */
void twl_io_ring_submit(struct io_ring *ring, struct io_write *write);
/* Hands what is queued to the kernel, and returns one write that is done, with its ret_ fields; NULL = none now. It may
 * have queued syncs then, which go out with the next call. ret_written is -EAGAIN if the kernel did not take the write,
 * or did not take the sync that was to follow it: the caller does all of it again. */
struct io_write *twl_io_ring_reap(struct io_ring *ring);

/* Hands what is queued to the kernel, and waits until a write can be reaped or wake() was called since the last wait,
 * at most until `deadline_ns` on CLOCK_MONOTONIC, 0 = no limit. May return early. */
void twl_io_ring_wait(struct io_ring *ring, uint64_t deadline_ns);
/* Any thread may call it. */
void twl_io_ring_wake(struct io_ring *ring);

/* For a thread that waits elsewhere: a descriptor that is readable while a write can be reaped. */
int twl_io_ring_fd(const struct io_ring *ring);
/* Before such a wait: hands what is queued to the kernel. False: it did not take a write, which reap() returns now. */
bool twl_io_ring_hand_over(struct io_ring *ring);
/* A write is late. Gets the kernel to look at it again, should it have forgotten it. Hands over what is queued, too. */
void twl_io_ring_nudge(struct io_ring *ring);

#endif

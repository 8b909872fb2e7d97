/* SPDX-License-Identifier: Apache-2.0 */
/* One ring that carries the writes of many directories: several writes in flight, to any files of io_files.c. One
 * thread at a time submits, waits and reaps; the caller keeps the files and the bytes. */
#ifndef TWL_IO_RING_H
#define TWL_IO_RING_H

#include "io/io.h"

struct io_ring;

/* For at most `writes` writes at a time. -ENOSYS, -EPERM, -ENOMEM, ... where the kernel refuses. */
int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring);
/* Requires that nothing is in flight. NULL: does nothing. */
void twl_io_ring_destroy(struct io_ring *ring);

/* Queues a write, which reap() returns when it is done. A write of no bytes is only a barrier. */
void twl_io_ring_submit(struct io_ring *ring, struct io_write *write);
/* Hands the queued writes to the kernel, and returns one that is done, with its ret_ fields; NULL = none now. A write
 * that the kernel did not take has ret_written = -EAGAIN: it never began. */
struct io_write *twl_io_ring_reap(struct io_ring *ring);

/* Waits until a write can be reaped or wake() was called since the last wait, at most until `deadline_ns` on
 * CLOCK_MONOTONIC, 0 = no limit. May return early. */
void twl_io_ring_wait(struct io_ring *ring, uint64_t deadline_ns);
/* Any thread may call it. */
void twl_io_ring_wake(struct io_ring *ring);

/* For a thread that waits elsewhere: a descriptor that is readable while a write can be reaped. */
int twl_io_ring_fd(const struct io_ring *ring);
/* Before such a wait: hands the queued writes to the kernel. False: it did not take one, which reap() returns now. */
bool twl_io_ring_hand_over(struct io_ring *ring);
/* A write is late. Gets the kernel to look at it again, should it have forgotten it. */
void twl_io_ring_nudge(struct io_ring *ring);

#endif

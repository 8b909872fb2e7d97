/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring that carries the writes of many directories: any number in flight, of any files of io_posix.c and
 * io_uring.c. One thread submits, waits and reaps; the files and the bytes stay the caller's.
 *
 * Implemented in io_uring.c, which knows the kernel's interface.
 */
#ifndef TWL_IO_RING_H
#define TWL_IO_RING_H

#include "io/io.h"

struct io_ring;

/* For so many writes at a time. -ENOSYS, -EPERM, -ENOMEM, ... where the kernel refuses. */
int twl_io_ring_create(unsigned writes, struct io_ring **ret_ring);
/* Nothing is in flight; or in a forked child, whose parent's ring stays as it is. */
void twl_io_ring_destroy(struct io_ring *ring);

/* Takes a write, or one of no bytes, which is a barrier alone; reap() returns it when it is done. */
void twl_io_ring_submit(struct io_ring *ring, struct io_write *write);
/* Hands over to the kernel what was submitted, and returns one that is done, with its ret_ fields; NULL = none now.
 * One that the kernel would not take has -EAGAIN as the result of its write: it never began. */
struct io_write *twl_io_ring_reap(struct io_ring *ring);

/* Waits until something may be reaped or wake() was called since the last wait; at the longest until
 * `deadline_ns` on CLOCK_MONOTONIC, 0 = no limit. May return early. */
void twl_io_ring_wait(struct io_ring *ring, uint64_t deadline_ns);
/* Any thread. */
void twl_io_ring_wake(struct io_ring *ring);

#endif

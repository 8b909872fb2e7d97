/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment behind another one, for those who write a log together: the file of the next number. Whoever needs it
 * first makes it; link(2) decides between several. Nobody has to wait for anybody.
 */
#ifndef TWL_NEXT_H
#define TWL_NEXT_H

#include "mapped/peers.h"
#include "segment/segment.h"

/* A segment of the log that peers write, opened. -ENOENT. */
int twl_next_open(struct io *io, uint64_t number, struct segment *ret_segment);
/* The one behind `segment`, opened, or made if there is none. `room` is what the groups of a new one must have at
 * least; LSN and epoch go into its header. */
int twl_next_make(const struct peers *peers, const struct segment *segment, uint64_t room,
                  uint64_t durable_lsn, uint32_t epoch, struct segment *ret_segment);
/* For the last one: the segment behind this one, which nobody has begun, and what those have left who died while they made
 * one. What can't be removed now the next opening finds. */
void twl_next_remove(struct io *io, const struct segment *segment);

#endif

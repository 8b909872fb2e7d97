/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The next segment of a shared log: the file with the next number. The first participant that needs it makes
 * it; link(2) decides between several that do so. No participant waits for another.
 */
#ifndef TWL_NEXT_H
#define TWL_NEXT_H

#include "mapped/participants.h"
#include "segment/segment.h"

/* Opens a segment of a shared log. -ENOENT. */
int twl_next_open(struct io *io, uint64_t number, struct segment *ret_segment);
/* Opens the segment with that number, behind `segment`, or makes it if there is none, with at least `room` bytes
 * for groups; LSN and epoch go into the header of a new one. */
int twl_next_make(const struct participants *participants, const struct segment *segment, uint64_t number,
                  uint64_t room, uint64_t durable_lsn, uint32_t epoch, struct segment *ret_segment);
/* For the last participant: removes the segment with that number, which was not started, and temporary files of
 * participants that died while they made one. The next opening finds what can't be removed now. */
void twl_next_remove(struct io *io, uint64_t number);

#endif

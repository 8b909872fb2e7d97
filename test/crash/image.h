/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the power may leave of a mapped log. All that a dead writer has stored is still there; of what no sync came
 * behind, each sector either has got to the disk or still has what it had before, zeros, or a part of each.
 *
 * What a sync came behind is known from below: by the LSN that the writer noted, and by what the log itself says. A
 * thread that stores a durable LSN anywhere, or gives a group its header, has had a sync return before.
 */
#ifndef TWL_CRASH_IMAGE_H
#define TWL_CRASH_IMAGE_H

#include "../sim/rng.h"

/* Copies the log of the dead to `to`, without some of what no sync came behind, as after another boot. Returns how
 * many sectors were left out. */
uint64_t make_image(const char *from, const char *to, uint64_t durable_lsn, struct rng *rng);
/* Changes a byte of the first record of a segment that is not closed, or was. False if there is none. */
bool tear_record(const char *dir);

#endif

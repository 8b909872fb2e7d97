/* SPDX-License-Identifier: Apache-2.0 */
/* Completes the open groups that a dead writer has left. Afterwards the log is like any other. */
#ifndef TWL_SETTLE_H
#define TWL_SETTLE_H

#include "segment/recover.h"

/* For a caller that has the writer's lock and is about to recover. 1 = something was settled, and the set
 * must be loaded again; the report is then the one of the recovery before. 0 = nothing is open. Negative:
 * an error, or damage, with the report. Can be repeated after a crash in the middle. */
int twl_settle(struct io *io, const struct segment_set *set, unsigned lock_wait_ms,
               struct twinlog_report *ret_report);

/* Removes the spares. A crash in the middle leaves the set without a gap. */
int twl_settle_without_spares(struct io *io, struct segment_set *set);

#endif

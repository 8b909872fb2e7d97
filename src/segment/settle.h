/* SPDX-License-Identifier: Apache-2.0 */
/* What a dead writer has left open is made whole: from there on the log is one like any other. */
#ifndef TWL_SETTLE_H
#define TWL_SETTLE_H

#include "segment/recover.h"

/* For who has the writer's lock and is about to recover. 1 = something was settled, and the set has to be loaded again;
 * the report is then what recovery found before. 0 = nothing is open. Negative: an error, or damage, in the report as
 * well. After a crash in the middle it can be done again. */
int twl_settle(struct io *io, const struct segment_set *set, unsigned lock_wait_ms,
               struct twinlog_report *ret_report);

/* Removes the spares. A crash in the middle leaves the set without a gap. */
int twl_settle_without_spares(struct io *io, struct segment_set *set);

#endif

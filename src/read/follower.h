/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that becomes readable when a reader has something to read, and the thread that sees to it. The
 * thread looks at the page of the writer and at nothing of the reader's. In a child that was forked later all
 * of it does nothing.
 */
#ifndef TWL_FOLLOWER_H
#define TWL_FOLLOWER_H

#include "segment/live.h"

struct follower;

/* What the reader waits for, having found nothing when the page was at `pulse`. */
struct interest {
    uint64_t lsn;
    uint32_t pulse;
    uint32_t epoch; /* the one it knows; any other one is news */
    uint32_t ignored_epoch;
};

/* `live` NULL: watches by itself. Not readable before it is told something. */
int twl_follower_create(struct io *io, struct live *live, struct follower **ret_follower);
void twl_follower_destroy(struct follower *follower); /* NULL is allowed */
int twl_follower_fd(const struct follower *follower);

void twl_follower_arm(struct follower *follower,
                      const struct interest *interest); /* not readable until then */
void twl_follower_tell(struct follower *follower);      /* readable now */

#endif

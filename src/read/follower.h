/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that becomes readable when a reader has something to read, and the thread behind it. The
 * thread looks at the writer's shared page and at no data of the reader.
 */
#ifndef TWL_FOLLOWER_H
#define TWL_FOLLOWER_H

#include "control/shared_page.h"

struct follower;

/* What the reader waits for. It had found nothing when the sequence of the page was `page_sequence`. */
struct interest {
    uint64_t lsn;
    uint32_t page_sequence;
    uint32_t epoch; /* the epoch that the reader knows; any other epoch is news */
    uint32_t ignored_epoch;
    bool is_durable; /* of a mapped log, too, only durable records are news */
    bool is_untold;  /* records of a mapped log may come that the writer does not announce */
};

/* `shared` NULL: the follower opens the page itself. The descriptor is not readable until the first arm or tell. */
int twl_follower_create(struct io *io, struct shared_page *shared, struct follower **ret_follower);
void twl_follower_destroy(struct follower *follower); /* NULL is allowed */
int twl_follower_fd(const struct follower *follower);

/* The descriptor is not readable until there is news. */
void twl_follower_arm(struct follower *follower, const struct interest *interest);
/* The descriptor is readable now. NULL is allowed. */
void twl_follower_tell(struct follower *follower);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errands: calls that wait for the disk, made by a thread of the log for a loop that must not wait. The first one
 * starts the thread. It makes one after the other, in their order, and hands each request to its queue.
 */
#ifndef TWL_ERRAND_H
#define TWL_ERRAND_H

#include "base/sync.h"

#include <pthread.h>

struct errands {
    struct twl_mutex lock;
    struct errand *first, *last; /* [lock] */
    bool is_over;                /* [lock] none comes any more */
    bool has_thread;             /* [lock] */
    uint32_t truncations;        /* [lock] that are not over: no record is accepted meanwhile */
    pthread_t thread;            /* [const once it is there] */
    struct twl_event changed;    /* notified when there is another one, and at the end */
};

void twl_errands_init(struct errands *errands);
/* For the close, when every call has returned: makes those that are left, and takes no more. */
void twl_errands_end(struct errands *errands);
void twl_errands_destroy(struct errands *errands);

#endif

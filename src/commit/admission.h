/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a writer gets a place in the filling buffer now, and if not, what it does instead; see admission.c. */
#ifndef TWL_ADMISSION_H
#define TWL_ADMISSION_H

#include <stdbool.h>

struct admission_facts {
    bool is_placed;   /* a leader has given the waiter its place */
    bool is_poisoned; /* the log has failed */
    bool is_queued;   /* the writer has looked before, and is in the queue */
    bool must_grow;   /* it had its turn, and needs the next segment */
    bool is_empty;    /* the filling buffer has no records */
    bool fits;        /* the records fit into the filling buffer */
    bool has_failed; /* an attempt to make the next segment began after the writer's first look, and failed */
    bool is_over;    /* the deadline has passed, or the call was canceled */
    bool is_making;  /* an attempt to make the next segment is going on */
    bool is_try;     /* the call does not wait */
    bool had_failed; /* it has had the next segment made, and the attempt before that had failed */
};

enum admission {
    ADMISSION_PLACED,        /* the writer has its place */
    ADMISSION_TAKE,          /* it takes a place */
    ADMISSION_POISONED,      /* the log accepts no more records */
    ADMISSION_REFUSED,       /* no next segment can be made: the error of the attempt */
    ADMISSION_OVER,          /* the error of the terms */
    ADMISSION_AGAIN,         /* -EAGAIN */
    ADMISSION_MAKE,          /* it has the next segment made, and looks again; a try only orders it */
    ADMISSION_AWAIT_SEGMENT, /* another writer has the next segment made */
    ADMISSION_AWAIT_COMMIT   /* the buffer must be written first: queue, help, sleep */
};

enum admission twl_admission_decide(const struct admission_facts *facts);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a reader sees: from which LSN to which, in which segments, and whether that has changed.
 *
 * Where the LSNs come from:
 *   - attached: the page of the writer in this process;
 *   - a live writer in another process: the same page, shared; or, where the file system can't share memory,
 *     the newest durable mark in the log itself;
 *   - where that writer writes through a mapping: every record that is complete and has only such before it;
 *   - no writer, or one that is opening the log: what recovery finds sound, made durable by a sync before
 *     anybody is told of it. If a writer comes later, its page tells.
 */
#ifndef TWL_HORIZON_H
#define TWL_HORIZON_H

#include "read/reader.h"
#include "segment/cursor.h"
#include "segment/live.h"
#include "segment/segment_set.h"

#include <sys/types.h>

struct horizon {
    struct io *io;               /* [const] */
    struct live *live;           /* [const] the writer's, or `watched` */
    struct live watched;         /* detached: another process's */
    struct reader_source source; /* [const] attached; else .set is NULL */
    pid_t pid;                   /* [const] who attached */

    uint64_t first_lsn;     /* oldest that is kept, or the one that comes first */
    uint64_t limit_lsn;     /* newest that may be returned */
    struct segment_set set; /* where they are */
    uint32_t generation;    /* of the set: changes whenever it is loaded; 0 = not yet */
    bool is_known;          /* the limit was found, and it goes with the set */
    /* What recovery says where it found damage: where the log ends is not known then, and the limit is the newest LSN
     * that is known to be lost, or in front of it. .error is 0 otherwise. */
    struct twinlog_report damage;

    uint32_t pulse;         /* of the page, before the rest of it was looked at */
    uint32_t sound_pulse;   /* when the limit was last found in the files, if there is a page */
    uint32_t epoch;         /* of the page when the set was loaded; 0 = it did not count */
    uint32_t ignored_epoch; /* as a dead writer left it in the page */
    bool follows_marks;     /* there is a writer, and no page */
    uint32_t cut_epoch;     /* of the writer that made the newest cut in the set; 0 = there is none */
    uint64_t cut_lsn;       /* where that begins */
    bool passes_claims;     /* what was found is what a dead writer has left, claims included */

    /* beside a writer that writes through a mapping: a walk that goes as far as records are complete */
    struct cursor tail;
    struct segment tail_segment; /* open if it has a file */
    size_t tail_index;           /* of it, in the set of `tail_generation` */
    uint32_t tail_generation;
};

/* Looks at everything once. `horizon` must stay where it is. On failure there is nothing to close. */
int twl_horizon_open(struct horizon *horizon, struct io *io, struct twinlog_report *ret_report);
void twl_horizon_attach(struct horizon *horizon, const struct reader_source *source);
void twl_horizon_close(struct horizon *horizon);

/* Something was published since it was looked at, or it could not be looked at then. One load. */
static inline bool twl_horizon_is_old(const struct horizon *horizon)
{
    const struct live_page *page = horizon->live->page;
    return !horizon->is_known ||
           (page && atomic_load_explicit(&page->pulse, memory_order_acquire) != horizon->pulse);
}

/* Brings it up to date; loads the set only if the writer is another one than before or has cut the log. */
int twl_horizon_look(struct horizon *horizon, struct twinlog_report *ret_report);
/* The same for who asks where the log ends: beside a writer that is opening it, what was seen before may be less
 * than what others were told. */
int twl_horizon_find_end(struct horizon *horizon, struct twinlog_report *ret_report);
/* As twl_horizon_look(), and loads the set in any case. */
int twl_horizon_reload(struct horizon *horizon, struct twinlog_report *ret_report);

#endif

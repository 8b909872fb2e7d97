/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log as it is found from outside: who writes it, how far it is durable, its state, its segments. What
 * verify, inspect, segments and backup begin with.
 *
 * Beside a live writer a view gets old: segments are trimmed, cut off and recycled. Whoever holds a segment (see
 * below) has nothing to fear from that; whoever finds something that does not fit asks whether the view is
 * current, and takes a new one if not, before calling it damage.
 */
#ifndef TWL_VIEW_H
#define TWL_VIEW_H

#include "segment/live.h"
#include "segment/recover.h"

struct log_view {
    struct live live;
    bool has_writer;
    uint32_t epoch;       /* of the writer, or of the last one; a cut begins another one */
    uint64_t durable_lsn; /* as the writer says, from before the set was looked at; 0 = it says nothing */
    struct state state;   /* generation 0 = there is none */
    struct segment_set set;
};

/* -ENOENT also when there is no log in the directory. The report is filled in on failure. */
int twl_view_load(struct io *io, struct log_view *ret_view, struct twinlog_report *ret_report);
/* The same for those who have `io` for themselves, and judge: unless there is a writer, all is read from the disk, also
 * what they open afterwards. */
int twl_view_load_from_disk(struct io *io, struct log_view *ret_view, struct twinlog_report *ret_report);
void twl_view_free(struct log_view *view); /* twice is harmless */

/* Since it was loaded no writer came or went, and no segment of it was trimmed or cut off. */
bool twl_view_is_current(struct io *io, struct log_view *view);

/* Newest LSN that is durable for certain beside a writer: by its word, else by the marks on disk. */
int twl_view_find_durable(struct io *io, const struct log_view *view, uint64_t *ret_lsn);

/* Opens a segment of the set for reading, and holds it: nobody gives it another life until it is closed.
 * -EAGAIN: it has another life, or is gone. -EBUSY: for two seconds it was about to have one. */
int twl_view_open_segment(struct io *io, const struct segment_entry *entry, struct segment *ret_segment);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log as found from outside: verify, inspect, segments and backup begin with it. Beside a live writer a snapshot gets
 * old: segments are trimmed, truncated and recycled, unless the caller holds them (see below). A caller that finds
 * something that does not fit takes a new snapshot, if this one is not current, before it reports damage.
 */
#ifndef TWL_LOG_SNAPSHOT_H
#define TWL_LOG_SNAPSHOT_H

#include "control/shared_page.h"
#include "recover/recover.h"

struct log_snapshot {
    struct shared_page shared;
    bool has_writer;
    uint32_t epoch;       /* of the writer, or of the last one; a truncation begins a new one */
    uint64_t durable_lsn; /* as published before the set was loaded; 0 = nothing was published */
    struct state state;   /* generation 0 = there is none */
    struct segment_set set;
};

enum snapshot_flags {
    /* For a caller that owns `io` and judges the log: without a writer all is read from the disk, also what the caller
     * opens later. Beside one the cache is as good. */
    SNAPSHOT_READS_DISK = 1u << 0,
    SNAPSHOT_SYNCS = 1u << 1,           /* then the log is synced, so what is found is durable */
    SNAPSHOT_COLLECTS_FAULTS = 1u << 2, /* see enum segment_set_use */
};
/* -ENOENT also if there is no log in the directory. -EBUSY: a hundred times writers came, went or truncated the log
 * while it was loaded; a writer of a mapped mode goes on meanwhile. Fills in the report on failure. */
int twl_log_snapshot_load(struct io *io, unsigned flags, struct log_snapshot *ret_snapshot,
                          struct twinlog_report *ret_report);
void twl_log_snapshot_free(struct log_snapshot *snapshot); /* may be called twice */

/* 1 if, since the snapshot was loaded, no writer came or went, and none of its segments was trimmed or truncated; also
 * if the log is damaged now. A writer of a mapped mode may have come, because it keeps what was durable. Else 0, or an
 * error where that cannot be seen. What does not fit is then no damage. */
int twl_log_snapshot_is_current(struct io *io, struct log_snapshot *snapshot);

/* Newest LSN that is certainly durable beside a writer: as the writer published it, else by the markers on
 * disk. Without a writer nothing is in the making: UINT64_MAX. -EAGAIN: the set is older than the files. */
int twl_log_snapshot_find_durable(struct io *io, const struct log_snapshot *snapshot, uint64_t *ret_lsn);

/* Opens a segment of the set for reading and holds it: it gets no new incarnation until it is closed. -EAGAIN: it has
 * one already, or is gone. -EBUSY: for two seconds another process was about to give it one. */
int twl_log_snapshot_open_segment(struct io *io, const struct segment_entry *entry,
                                  struct segment *ret_segment);

#endif

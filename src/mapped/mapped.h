/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapped modes: records are copied straight into a mapped segment, and every reader sees them at once. The
 * kernel writes them to the disk at a time of its choice, or when a sync asks for it.
 *
 *     append()  takes a place in the open group and copies the record into it
 *     wait()    waits for the records before it, and for the disk if the level asks for that
 *
 * A full segment is left at once, without a wait for the disk; a thread closes its group once the records are durable.
 * Another one prepares the next segment, and pages. In the mapped mode one process does so; in the shared mode several
 * do, each through mappings of its own.
 *
 * Any thread may call anything here at any time between create and destroy.
 */
#ifndef TWL_MAPPED_H
#define TWL_MAPPED_H

#include "commit/commit.h"
#include "keeper/keeper.h"

struct mapped;
struct participants;
extern const struct engine_ops twl_mapped_engine;

struct mapped_config {
    struct io *io;
    struct shared_page *shared;            /* the shared page, to publish in; outlives the mapped */
    struct participants *participants;     /* outlive the mapped */
    const struct twinlog_options *options; /* normalised; copied */
    void (*retain)(void *context); /* without locks, after a segment was closed and when trim_is_due() */
    void *retain_context;

    /* For twl_mapped_create(): */
    struct keeper *keeper;    /* has made the first segment, and gets `left`; not used afterwards */
    struct segment *left;     /* the active segment so far, durable up to its end */
    struct position position; /* behind `left` */
};

/* Makes the first segment of twl_mapped_create() ahead. -ENOSPC, and what else twl_keeper_wait() says. */
int twl_mapped_make_room(struct keeper *keeper, uint32_t max_record_bytes, uint64_t durable_lsn,
                         uint32_t epoch);
/* Begins the epoch, by a marker behind the log; *position is then behind that. Durable on return. */
int twl_mapped_write_start(const struct segment *segment, uint64_t offset, bool is_started,
                           struct epoch epoch, struct position *position);
/* Makes the threads, which sleep until twl_mapped_start(): where none can be had, nothing has been written yet. */
int twl_mapped_prepare(const struct mapped_config *config, struct mapped **ret_mapped);
/* Of one that was prepared. On failure `left` stays the caller's. -ENOTSUP: nothing can be mapped here. */
int twl_mapped_create(const struct mapped_config *config, struct mapped *mapped);
/* Joins the participants that have the log open. */
int twl_mapped_join(const struct mapped_config *config, struct mapped **ret_mapped);
/* For the first participant, before others are let in. `max_time_so_far_ns` is the newest time of a record in closed
 * segments. */
void twl_mapped_begin(struct mapped *mapped, int64_t max_time_so_far_ns);
/* Lets the threads begin, and makes them unless twl_mapped_prepare() has: one prepares segments and pages ahead, one
 * syncs every flush_interval_ms, and closes segments. */
int twl_mapped_start(struct mapped *mapped);
void twl_mapped_destroy(struct mapped *mapped);
/* A token was set: the calls that have it look at it. */
void twl_mapped_wake_all(struct mapped *mapped);

uint32_t twl_mapped_epoch(const struct mapped *mapped);
const uint8_t *twl_mapped_log_id(const struct mapped *mapped);

/* For a trim: closes the groups of segments that were left, as far as that can be done now. */
void twl_mapped_close_left(struct mapped *mapped);
/* Removes the files of segments before this sequence, which the state file does not need any more. One that a process
 * has open stays, and all behind it; a later call removes them. Changes the order of the set. */
struct keeper_freed twl_mapped_remove(struct mapped *mapped, struct segment_set *set,
                                      uint64_t first_sequence);

#endif

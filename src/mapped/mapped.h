/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapped mode: records are copied straight into a mapped segment, and every reader sees them at once. The
 * kernel writes them to the disk at a time of its choice, or when a sync asks for it.
 *
 *     append()  takes a place in the open group and copies the record into it
 *     wait()    waits for the records before it, and for the disk if the level asks for that
 *
 * A full segment is left at once, without a wait for the disk; the keeper's thread closes its group once the
 * records are durable. A thread of the mapped log prepares the next segment, and pages.
 *
 * Any thread may call anything here at any time between create and destroy.
 */
#ifndef TWL_MAPPED_H
#define TWL_MAPPED_H

#include "commit/commit.h"

struct mapped;
struct participants;
extern const struct engine_ops twl_mapped_engine;

struct mapped_config {
    struct io *io;
    struct keeper *keeper; /* makes mapped segments; calls twl_mapped_close_group(). Outlives the mapped */
    struct shared_page *shared; /* the shared page, to publish in; outlives the mapped */
    struct participants
        *participants;        /* NULL, or the participants; outlives the mapped. `shared` is then theirs */
    struct segment left;      /* the active segment so far, durable up to its end; goes to the keeper */
    struct position position; /* behind `left` */
    const struct twinlog_options *options; /* normalised; copied */
};

/* Makes the first segment of twl_mapped_create() ahead. -ENOSPC, and what else twl_keeper_wait() says. */
int twl_mapped_make_room(struct keeper *keeper, uint32_t max_record_bytes, uint64_t durable_lsn,
                         uint32_t epoch);
/* On failure `left` stays the caller's. -ENOTSUP: nothing can be mapped here. */
int twl_mapped_create(const struct mapped_config *config, struct mapped **ret_mapped);
/* Joins the participants that have the log open. Ignores keeper, `left`, position and number. */
int twl_mapped_join(const struct mapped_config *config, struct mapped **ret_mapped);
/* For the first participant, once the keeper has finished its work and is not needed any more: writes into
 * the shared page where the log goes on. `max_time_so_far_ns` is the newest time of a record in closed segments. */
void twl_mapped_let_in(struct mapped *mapped, int64_t max_time_so_far_ns);
/* Starts the thread that prepares segments and pages ahead, and syncs every flush_interval_ms. */
int twl_mapped_start(struct mapped *mapped);
/* Gives `left` to the keeper, and lets its thread begin. Before the first put. */
void twl_mapped_begin(struct mapped *mapped);
/* After the keeper is destroyed, because it may be closing a group. */
void twl_mapped_destroy(struct mapped *mapped);

/* Called by the keeper's thread for a segment that was left: makes the records of its open group durable,
 * gives the group its header, and completes the summary. */
int twl_mapped_close_group(void *mapped, struct segment *segment);

uint32_t twl_mapped_epoch(const struct mapped *mapped);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapped mode: records are copied straight into a mapped segment, and are there for everybody at once. The kernel
 * writes them to the disk when it likes, or when a sync asks for it.
 *
 *     put()   a place in the open group, a copy, done
 *     wait()  for those that were put before, and for the disk if that is asked for
 *
 * A segment that is full is left at once, without a look at the disk; the keeper's thread closes its group once the
 * records are on it. A thread of our own prepares what comes: the next segment, and pages.
 *
 * Any thread may call anything here at any time between create and destroy.
 */
#ifndef TWL_MAPPED_H
#define TWL_MAPPED_H

#include "commit/commit.h"

struct mapped;
struct peers;

struct mapped_config {
    struct io *io;
    struct keeper *keeper;    /* makes mapped segments; calls twl_mapped_close_group(). Outlives the mapped */
    struct live *live;        /* where to publish; outlives it */
    struct peers *peers;      /* NULL, or who write it with us; outlives it. `live` is theirs then */
    struct segment left;      /* the active segment, durable up to its end; the keeper's from here */
    struct position position; /* behind it */
    const struct twinlog_options *options; /* normalised; copied */
};

/* On failure `left` stays the caller's. -ENOTSUP: nothing can be mapped here. */
int twl_mapped_create(const struct mapped_config *config, struct mapped **ret_mapped);
/* For one who joins peers that have the log open; keeper, `left` and position are not looked at. */
int twl_mapped_join(const struct mapped_config *config, struct mapped **ret_mapped);
/* For the first one, once all that the keeper had to do is done: it is not needed any more, and the others find in
 * what is shared where the log goes on. `peak_ns` is the newest time of a record in what is closed. */
void twl_mapped_let_in(struct mapped *mapped, int64_t peak_ns);
/* From now on segments and pages are prepared ahead, and the interval between syncs is kept. */
int twl_mapped_start(struct mapped *mapped);
/* Gives `left` to the keeper, whose thread may begin. Before the first put. */
void twl_mapped_begin(struct mapped *mapped);
/* Everything that was put becomes durable, the group and the log are closed, the file is cut to its last byte. Nobody
 * else is inside. */
int twl_mapped_finish(struct mapped *mapped);
/* After the keeper, which may be closing a group. */
void twl_mapped_destroy(struct mapped *mapped, bool is_forked);

/* Puts one record: it survives the process on return. -EMSGSIZE, -ENOSPC, -EAGAIN (a try, and the next segment is not
 * ready), TWINLOG_EPOISONED: nothing happened. */
int twl_mapped_put(struct mapped *mapped, const struct twinlog_entry *entry, bool is_try, uint64_t *ret_lsn);
/* Until every record up to `lsn`, which was put, is at that level; UINT64_MAX: all that were put. A deadline that has
 * passed only looks: -ETIMEDOUT; one that passes while the disk works is not kept. */
int twl_mapped_wait(struct mapped *mapped, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns);

/* For the keeper, whose thread it is: makes durable what the open group of a segment that was left holds, gives the
 * group its header, and completes the summary. */
int twl_mapped_close_group(void *mapped, struct segment *segment);

uint32_t twl_mapped_epoch(const struct mapped *mapped);
uint64_t twl_mapped_last_lsn(struct mapped *mapped); /* newest that was put, or is being put */
uint64_t twl_mapped_told_lsn(
    const struct mapped *mapped); /* the same, for a forked child: as it was, with peers as it is */
uint64_t twl_mapped_written_lsn(struct mapped *mapped);       /* newest up to which all are complete */
uint64_t twl_mapped_durable_lsn(const struct mapped *mapped); /* newest up to which all are durable */
int twl_mapped_poison(const struct mapped *mapped);
void twl_mapped_count(struct mapped *mapped, struct twinlog_stat *stat);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the keeper, for the files of this folder. */
#ifndef TWL_KEEPER_INSIDE_H
#define TWL_KEEPER_INSIDE_H

#include "base/sync.h"
#include "keeper/keeper.h"

#define MAX_SPARES 64u
#define MAX_LEFT 64u
#define RETIRED_TO_KEEP 4u
#define LARGE_GROUP_BYTES (256u * 1024) /* zeros for larger groups take longer than a commit of the journal */
#define GROUPS_IN_SEGMENT 16u           /* large ones, at least */

struct retired {
    char name[SEGMENT_NAME_BYTES];
    uint64_t bytes;
    bool is_whole; /* it has all its space; mapped segments may be shorter, or have holes */
};

struct keeper {
    struct keeper_config config; /* [const] but for the plan */
    struct twl_mutex lock;
    struct segment_plan plan;           /* [lock] of the next segment to make */
    struct segment ready[MAX_SPARES];   /* [lock] by sequence */
    uint32_t count;                     /* [lock] number of ready segments */
    uint32_t wanted;                    /* [lock] number of ready segments to have */
    uint64_t wanted_bytes;              /* [lock] a writer waits for a segment so large; 0 = none does */
    struct segment_entry *started;      /* [lock] oldest first; the last one is active */
    size_t started_count, started_room; /* [lock] */
    size_t sealed;                      /* [lock] leading entries of `started` that are sealed, or can't be */
    struct retired *retired;            /* [lock] */
    size_t retired_count, retired_room;
    struct segment left[MAX_LEFT]; /* [lock] waiting to be sealed, oldest first, with their summaries */
    size_t left_count;             /* [lock] */
    int64_t max_time_so_far_ns;    /* [lock] newest in the sealed ones; INT64_MAX: one could not be sealed */
    uint64_t ready_bytes;          /* [lock] of the files */
    uint64_t attempts;             /* [lock] to make a segment, so far */
    uint64_t failed;               /* [lock] number of the latest attempt that failed; 0 = none */
    uint64_t failed_bytes;         /* [lock] the size that it was for, at least */
    uint64_t failed_ns;            /* [lock] when that was */
    int error;                     /* [lock] why it failed */
    bool has_failed;               /* [lock] it was the latest attempt, and no spare was asked for since */
    bool is_busy;                  /* [lock] a segment is being made or sealed, or is not to be */
    bool is_growing;               /* [lock] the segment that is being made replaces the first ready one */
    bool is_log_open;              /* [lock] until then nothing is sealed or trimmed */
    bool has_thread;               /* [lock] */
    bool is_stopping;              /* [lock] */
    bool must_tend;                /* [lock] */
    pthread_t thread;              /* [lock] */

    struct twl_event work; /* the thread sleeps on it */
    struct twl_event done; /* threads that wait for a segment, or for the end of sealing, sleep on it */
    const struct keeper_listener *listener; /* [lock] told of the next attempt, too; NULL = none */
};

/* keeper.c */
/* There is work: for the thread, or to be done now. */
void twl_keeper_get_going(struct keeper *k) REQUIRES(k->lock);
/* Starts the thread, unless it runs. False: there is none. */
bool twl_keeper_has_thread(struct keeper *k) REQUIRES(k->lock);
/* An attempt to make a segment is over. */
void twl_keeper_tell_over(struct keeper *k) REQUIRES(k->lock);
/* Other work is over. Where there is no thread, a call that waits for a segment has to make the attempt now. */
void twl_keeper_tell_idle(struct keeper *k) REQUIRES(k->lock);
/* Sleeps until a segment is made, or sealing has ended. */
void twl_keeper_rest(struct keeper *k) REQUIRES(k->lock);
struct segment_entry *twl_keeper_find(struct keeper *k, uint64_t sequence) REQUIRES(k->lock);
struct segment_entry twl_keeper_entry(const struct segment *segment, uint64_t first_lsn);

/* spares.c */
/* Allocates in advance what beginning `count` more segments takes. */
int twl_keeper_stock_up(struct keeper *k, uint32_t count) REQUIRES(k->lock);
void twl_keeper_put_ready(struct keeper *k, const struct segment *segment) REQUIRES(k->lock);
struct segment twl_keeper_pop_ready(struct keeper *k) REQUIRES(k->lock);
/* Makes the segment that a writer waits for, or the next spare; false if there is nothing to make. */
bool twl_keeper_make_next(struct keeper *k) REQUIRES(k->lock);
/* Makes a segment as planned if possible; on a full disk smaller, down to least_bytes, or of a smaller file that was
 * retired. One with a fixed start counts as soon as it has its header. So a file that failed to become one must not
 * remain beside it: no retired file is tried before a new one, and nothing after a failure other than a full disk. Only
 * then ret_is_in_doubt is not NULL. */
int twl_keeper_make(struct keeper *k, const struct segment_plan *plan, uint64_t least_bytes,
                    struct segment *ret_segment, bool *ret_is_in_doubt) REQUIRES(k->lock);

/* If this fails, the file stays until the next opening. */
void twl_keeper_retire_file(struct keeper *k, const char *name, const struct segment_header *header,
                            uint64_t file_bytes) REQUIRES(k->lock);
/* Removes the next retired file that will not be needed; false if there is none. */
bool twl_keeper_remove_surplus(struct keeper *k) REQUIRES(k->lock);

/* trim.c */
void twl_keeper_count_files(struct keeper *k) REQUIRES(k->lock);

/* seal.c */
/* Takes a segment off the list of those that were left; false if it is not there. */
bool twl_keeper_take_left(struct keeper *k, uint64_t sequence, struct segment *ret_segment) REQUIRES(k->lock);
/* Seals the oldest unsealed segment; false if all but the active one are sealed, or the log is still being opened:
 * until the marker of the start is there, the next segment's group, which a footer proves, may be torn. */
bool twl_keeper_seal_next(struct keeper *k) REQUIRES(k->lock);

#endif

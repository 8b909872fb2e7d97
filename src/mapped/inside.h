/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct mapped, for the files that work on it. docs/design.md has the order of the locks.
 *
 * The segments without a closed group form a list, oldest first, with the active one at its end; each participant has
 * a list of its own. When a record does not fit, one thread rolls to the next segment, under `rolling`; other threads
 * that need room wait for it. A thread inside a segment counts itself among its users, so that the mapping stays. The
 * list grows under `rolling` and shrinks under `syncing`. Its entries live until the log is closed, so reading an
 * entry that has left the list is harmless. How far records are complete must be known without a wait for the disk, so
 * that walk has a lock of its own, `looking`.
 */
#ifndef TWL_MAPPED_INSIDE_H
#define TWL_MAPPED_INSIDE_H

#include "mapped/mapped.h"
#include "mapped/mapped_segment.h"

#include "base/sync.h"

#include <errno.h>

#define LOCKED_MS 1000u /* to wait for a process that looks whether a segment is in use */
#define COPY_MS 2       /* to wait for copies, before records in front of them are synced */

/* What this handle has seen of the other participant that has LOCK_TO_SYNC. All zero: this handle had the lock last. */
struct leader_watch {
    uint64_t since_ns;    /* it has been seen with the lock since then, and nothing has become durable */
    uint64_t durable_lsn; /* at that time */
    bool is_late; /* it may be stopped: it is not waited for until this handle has had the lock itself */
};

struct mapped {
    struct io *io;                     /* [const] */
    struct shared_page *shared;        /* [const] */
    struct participants *participants; /* [const] */
    void (*retain)(void *context);     /* [const] see struct mapped_config */
    void *retain_context;              /* [const] */
    struct twinlog_options options;    /* [const] */
    _Atomic uint32_t flush_interval_ms;

    _Atomic(struct mapped_segment *) active;
    _Atomic int *poison;       /* [const pointer] to `own_poison`, or to that of all participants */
    _Atomic uint64_t *durable; /* [const pointer] likewise: newest LSN up to which all records are durable */
    _Atomic int own_poison;    /* shared mode: what this process may not do */
    /* As far as this process has synced. Only this one is promised on the disk: a recovery takes what is
     * promised and missing for damage, and the page may hold anything. */
    _Atomic uint64_t own_durable;
    struct statistics *statistics; /* [const pointer] those of the page */
    uint64_t began_lsn;            /* [const] first LSN that was free when this handle was opened */
    uint64_t room; /* [const] bytes a segment must have for groups, so that the largest record fits */

    struct twl_mutex rolling;
    _Atomic(struct mapped_segment *) spare; /* the next segment, not started; stored under `rolling` */
    _Atomic int spare_error; /* that kept the thread from preparing a spare; the next try returns it */
    struct twl_event moved;  /* notified when a try may find a spare, or an error, and of a cancellation */
    struct twl_mutex making; /* held while the next segment is made */

    struct twl_mutex syncing;
    struct leader_watch leader;    /* [syncing] */
    struct mapped_segment *oldest; /* [syncing] that is not closed */
    twl_flag must_retain;       /* a sync has closed a segment, and left the retention to twl_mapped_tend() */
    struct mapped_segment *all; /* [const once the first one is active] every segment, oldest first */

    struct twl_mutex looking;
    struct mapped_segment *seen_segment; /* [looking] records in front of this segment are complete */
    uint64_t seen_bytes;                 /* [looking] payload of all these records */

    _Alignas(64) _Atomic uint64_t last_own; /* shared mode: this handle's newest record; each put stores it */

    _Alignas(64) pthread_t threads[2];
    unsigned thread_count;   /* that were made, and are to be joined */
    _Atomic bool is_started; /* the threads may begin */
    _Atomic bool must_stop;
    _Atomic bool is_written; /* the last record was, instead of copied: no pages need be present */
    struct twl_event wake;   /* the threads sleep on it */
};

/* May a call leave work to the threads of this handle? Before they start, only patient calls ask. */
static inline bool has_threads(const struct mapped *m)
{
    return m->io->has_engine_threads && !atomic_load(&m->must_stop);
}

extern const struct terms twl_mapped_patient; /* they end no wait */
static inline bool is_patient(const struct terms *terms)
{
    return terms->deadline_ns == 0 && !terms->cancel;
}

int twl_mapped_fail(struct mapped *m,
                    int error); /* poisons the log or the handle, unless it is; returns `error` */
/* 0, or what has poisoned the log or the handle; a page that was lost poisons now. */
int twl_mapped_check_poison(struct mapped *m);
/* Newest that was put, or is being put, in the segments that this handle has gone on to. */
uint64_t twl_mapped_last_lsn(struct mapped *m);

struct mapped *twl_mapped_new(const struct mapped_config *config, uint32_t max_record_bytes);

/* Returns the active segment, which stays mapped until twl_mapped_leave(). */
struct mapped_segment *twl_mapped_enter(struct mapped *m);
void twl_mapped_leave(struct mapped_segment *seg);

/* Rolls as far as the other participants have. -ETIMEDOUT, -ECANCELED: the terms ended while a file was waited for. */
int twl_mapped_catch_up(struct mapped *m, const struct terms *terms);
/* The same, unless this handle has gone on to the segment of that record; and waits for files. */
int twl_mapped_catch_up_to(struct mapped *m, uint64_t lsn, const struct terms *terms);
void twl_mapped_free_segments(struct mapped *m);

/* ---- together.c: what participants do for each other --------------------------------------------------- */

/* Opens the segment behind the active one, or makes it. -EAGAIN: there is none, and it may not wait for one to be
 * made. */
int twl_mapped_get_next(struct mapped *m, const struct mapped_segment *active, bool may_wait,
                        struct segment *ret_segment);
/* Closes the oldest segment that is left, if it can, and drops those that a participant has closed: true if it has
 * dropped one. Then calls retention. */
bool twl_mapped_tend(struct mapped *m);
/* Waits until a descriptor was given back since `oldest_before` was the oldest segment that was not closed: 0. -EMFILE:
 * no segment is left, or the oldest one cannot be closed now. */
int twl_mapped_await_file(struct mapped *m, uint64_t oldest_before, const struct terms *terms);
/* For the thread of the handle: closes, drops and completes what there is. Returns when it has to look again, a time on
 * CLOCK_MONOTONIC; UINT64_MAX: when it is woken. */
uint64_t twl_mapped_look_after(struct mapped *m);
/* Makes records durable that were claimed before the call; those up to `lsn` are enough. -ETIMEDOUT, -ECANCELED:
 * another process took too long to complete its record, or another thread to sync. */
int twl_mapped_sync(struct mapped *m, uint64_t lsn, const struct terms *terms);
int twl_mapped_finish(struct mapped *m);

/* ---- durable.c: complete, durable, closed ------------------------------------------------------------- */

/* Makes the complete records of this segment and those before it durable; NULL: of all segments. -EAGAIN: up to one
 * that was claimed and is not complete. */
int twl_mapped_sync_up_to(struct mapped *m, const struct mapped_segment *last) REQUIRES(m->syncing);
/* Gives a segment that was left its header, index and footer, durably, when its records are. -ETIMEDOUT: one of them is
 * not complete. */
int twl_mapped_close_segment(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing);
/* Unmaps a segment that was left, when no thread is inside. All its records are complete. */
void twl_mapped_take_mapping_away(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing);
/* Closes all groups and the log; called by the only, or the last, writer. All records are complete. */
int twl_mapped_close_all(struct mapped *m);

/* How far records are complete, without a wait for a sync. On an error of twl_mapped_catch_up(): in the segments that
 * this handle has gone on to. */
int twl_mapped_find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes);
/* Waits until the records up to `lsn` are complete, which are in those segments. -ETIMEDOUT, -ECANCELED: they are not
 * when the terms end. */
int twl_mapped_wait_written(struct mapped *m, uint64_t lsn, const struct terms *terms);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct mapped, for the files that work on it: mapped.c, roll.c, durable.c, look.c, close.c.
 *
 * Segments form a list, oldest first: those whose group is not closed yet, the active one at its end. They are left
 * when a record does not fit, by one thread, under `rolling`; the others who need room wait for that one. A thread that
 * is inside a segment counts itself among its users, so that the mapping stays. The list grows under `rolling`, shrinks
 * under `syncing`, and its entries live until the log is closed: a look at one that is gone is harmless. How far
 * records are complete is asked without a wait for the disk, so that has a walk and a lock of its own, `looking`.
 *
 * Locks, those that are taken first first: syncing, rolling, looking.
 *
 * Who writes alone has the keeper make and close segments. Who writes with others, `peers`, does that with them
 * (next.h, close.c), and each has a list of its own: that of one who has not needed room lately ends earlier.
 */
#ifndef TWL_MAPPED_INSIDE_H
#define TWL_MAPPED_INSIDE_H

#include "mapped/mapped.h"
#include "mapped/sheet.h"

#include "base/sync.h"
#include "mapped/peers.h"

#define OUR_NAME 1u          /* in claims, where there is one process */
#define TURNS_TO_YIELD 1000u /* until a wait sleeps, or asks whether peers live */

struct mapped {
    struct io *io;                  /* [const] */
    struct keeper *keeper;          /* [const] NULL with peers */
    struct live *live;              /* [const] */
    struct peers *peers;            /* [const] NULL: there are none */
    struct twinlog_options options; /* [const] */

    _Atomic(struct sheet *) active;
    _Atomic int *poison;       /* [const] where it is: `own_poison`, or the one of all */
    _Atomic uint64_t *durable; /* [const] the newest LSN up to which all are; likewise */
    _Atomic int own_poison;
    _Atomic uint64_t own_durable;
    uint64_t began_lsn; /* [const] the first one behind what was there when we came */
    uint64_t room;      /* [const] that a segment must have for groups: for the largest record */

    struct twl_mutex rolling;
    struct segment first_left;    /* until twl_mapped_begin() */
    struct segment spare_segment; /* [rolling] the next one, not begun, if it has a file */
    struct sheet *spare;          /* [rolling] the same, mapped; NULL also while it can't be */
    _Atomic bool has_spare;
    _Atomic int spare_error; /* that kept the thread from preparing one; for a try to come */
    _Atomic uint64_t rolls, roll_waits, full_refusals;

    struct twl_mutex syncing;
    struct sheet *oldest; /* [syncing] not closed */
    struct sheet *all;    /* [syncing, or nobody else is there] every one, oldest first */
    uint64_t wanted_lsn; /* [syncing] records behind it are not waited for, if others have to complete them */
    _Atomic uint64_t syncs;

    struct twl_mutex looking;
    struct sheet *seen_sheet; /* [looking] records before this one are complete */
    struct open_walk seen;    /* [looking] and in it up to here */
    uint64_t seen_bytes;      /* [looking] payload of all of them */
    uint64_t seen_here;       /* [looking] of those in it */
    uint64_t stuck_lsn;       /* [looking] not complete, and not when it was looked at before either */

    _Alignas(64) _Atomic uint64_t
        last_own; /* with peers: the newest record that was put here. Each put stores it */

    _Alignas(64) pthread_t thread;
    bool has_thread;
    _Atomic bool must_stop;
    struct twl_event wake; /* the thread sleeps on it */
};

int twl_mapped_fail(struct mapped *m, int error); /* poisons the log, unless it is; returns the error */
static inline bool is_over(uint64_t deadline_ns)
{
    return deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns;
}

/* The active one, which stays mapped until it is left. */
struct sheet *twl_mapped_enter(struct mapped *m);
void twl_mapped_leave(struct sheet *sheet);

/* ---- roll.c: from one segment to the next --------------------------------------------------------- */

/* Has one made, if there is none, and waits for that: the thread. */
int twl_mapped_prepare_ahead(struct mapped *m);
/* One that is ready to be begun, in `spare`. A try (not may_wait): -EAGAIN, or what kept the thread from making one. */
int twl_mapped_prepare(struct mapped *m, bool may_wait) REQUIRES(m->rolling);
/* Goes on in the spare. */
int twl_mapped_move_on(struct mapped *m, const struct position *position) REQUIRES(m->rolling);
/* Somebody who needs room found that the group of `full` has ended. Whoever has the lock may wait for a file. */
int twl_mapped_roll(struct mapped *m, const struct sheet *full, bool is_try);
/* As far as others have gone on. Without any it has nothing to do. */
int twl_mapped_catch_up(struct mapped *m);

/* ---- durable.c: to the disk -------------------------------------------------------------------------- */

/* Every record that was claimed before; those up to `lsn` are enough. -ETIMEDOUT: a copy that another process has to make
 * took too long. */
int twl_mapped_sync(struct mapped *m, uint64_t lsn, uint64_t deadline_ns);
/* All records of this one and of those before it that were claimed are complete and durable, of all of them if it is
 * NULL. -EAGAIN: but for those that another process has to complete. */
int twl_mapped_sync_up_to(struct mapped *m, const struct sheet *last) REQUIRES(m->syncing);
/* Passes the next record, which was claimed: whoever has claimed it is copying, and done soon, or dead. -EIO: it is lost;
 * -EAGAIN: another process takes its time. */
int twl_mapped_await_copy(struct mapped *m, const struct sheet *sheet, struct open_walk *walk,
                          struct record_header *ret_record) REQUIRES(m->syncing);
/* What is new up to there. */
int twl_mapped_sync_bytes(struct mapped *m, struct sheet *sheet, uint64_t to) REQUIRES(m->syncing);
void twl_mapped_tell_durable(struct mapped *m, uint64_t lsn);

/* ---- look.c: how far records are complete ---------------------------------------------------------- */

int twl_mapped_find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes);
/* The sheet goes, with all its records complete or lost, and so much payload. Those before it went, too. */
void twl_mapped_see_past(struct mapped *m, const struct sheet *sheet, uint64_t payload_bytes);
/* The same, of one in which all records are known to be complete. */
void twl_mapped_see_through(struct mapped *m, const struct sheet *sheet);
/* If its owner is dead the next record becomes a void: true. */
bool twl_mapped_bury(struct mapped *m, const struct sheet *sheet, const struct open_walk *walk);
/* What a dead peer that had our number has claimed becomes voids. */
void twl_mapped_bury_our_number(struct mapped *m);

/* ---- close.c: groups get their headers ------------------------------------------------------------- */

/* With peers: segments that somebody has closed are not needed any more. */
void twl_mapped_let_go_of_closed(struct mapped *m) REQUIRES(m->syncing);
/* With peers: those are let go of, and the oldest one that was left is closed, if that can be done now. True: it was. */
bool twl_mapped_tend(struct mapped *m);
/* Everything is closed, the log too, by the last one who has it. */
int twl_mapped_close_all(struct mapped *m);

#endif

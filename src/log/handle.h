/* SPDX-License-Identifier: Apache-2.0 */
/* struct twinlog, for the files that work on an open log: log.c, trim.c, cut.c, names.c. */
#ifndef TWL_HANDLE_H
#define TWL_HANDLE_H

#include "base/fork.h"
#include "base/sync.h"
#include "log/log.h"
#include "mapped/mapped.h"
#include "mapped/peers.h"
#include "segment/keeper.h"
#include "segment/live.h"
#include "segment/state.h"

#include <stdatomic.h>

struct twinlog {
    struct io *io;                  /* [const] */
    struct fork_guard guard;        /* [const] */
    struct twinlog_options options; /* [const] normalised */
    struct live *live;              /* [const] `own_live`, or that of the peers */
    struct live own_live;           /* [const] */
    struct peers peers;             /* [const] .file is NULL unless the mode is TWINLOG_MODE_SHARED */
    struct keeper *keeper;          /* [const] NULL if read-only, or shared */
    struct commit *commit;          /* [const] NULL if read-only, or mapped */
    struct mapped *mapped;          /* [const] NULL in TWINLOG_MODE_DURABLE */
    uint32_t io_kind;               /* [const] */
    char io_reason[160];            /* [const] */
    struct epoch epoch;             /* [paused] of this writer; a cut begins a new one */
    struct shared_copy *copy;       /* [const] see watch.c; NULL if nothing is shared */
    _Atomic uint64_t first_lsn;     /* [front to store] oldest that is kept, or the one that comes first */

    /* One trim, cut or change of the state file at a time, among the threads here. */
    struct twl_mutex front;
    bool
        is_cut_in_doubt; /* [front] the segment of a cut may be there or not: nothing in front of it may go */

    /* read-only: */
    struct twl_mutex looking;
    struct twinlog_reader *looker;                      /* [looking] tells how far the log goes */
    struct twinlog_report look_report;                  /* [looking] what it says of an error */
    _Atomic uint64_t looked_first_lsn, looked_last_lsn; /* what it told last */

    _Atomic uint32_t inside; /* calls that have not returned; see enter() */
};

/*
 * Every call is counted, so that close can let it finish, and can't be cancelled: a leader that disappears
 * would leave everybody waiting. Those that use the commit path are counted apart, so that a cut can let
 * them finish and hold up new ones.
 */
enum inside {
    INSIDE_COMMIT = 1u, /* 32,767 at a time, and as many of the others */
    INSIDE_OTHER = 1u << 15,
};

#define CLOSING (1u << 31) /* in `inside`: close has begun */

/* -EINVAL without a log, TWINLOG_EFORKED; with INSIDE_COMMIT also -EROFS. Else leave() must follow. */
struct visit {
    struct twinlog *log;
    enum inside how;
    int cancel_state;
    struct visit *outer; /* a call of this thread in which this one is made */
};
static inline bool is_read_only(const struct twinlog *log)
{
    return !log->commit && !log->mapped;
}
int twl_enter(struct twinlog *log, enum inside how, struct visit *visit);
void twl_leave(struct visit *visit);

/* Takes `front`. Who is in a callback of a shared committer goes on committing meanwhile: whoever has it may wait for
 * somebody who waits for that. */
void twl_take_front(struct twinlog *log) ACQUIRES(log->front);

/* Between the two nobody uses the commit path. The caller is inside as INSIDE_OTHER and holds `front`. */
void twl_pause(struct twinlog *log);
void twl_resume(struct twinlog *log);

/* Newest durable LSN by our own word: the page that twinlog_durable_lsn() looks at is shared. */
uint64_t twl_durable_lsn(const struct twinlog *log);
/* Newest one that any reader may have been told. Looks at the files if the log is read-only. */
int twl_find_told_lsn(struct twinlog *log, uint64_t *ret_lsn);

/* Makes certain where the front is: after a trim that failed it may have moved. The caller holds `front`. */
int twl_learn_front(struct twinlog *log);

/* What twinlog_stat() tells of a log that is open for writing. */
void twl_stat_writer(struct twinlog *log, struct twinlog_stat *ret_stat);

/* For those in other processes who watch: offers copies of what is counted, before the log is published; and
 * makes one, for the commit, who has nothing in hand at that moment. */
void twl_offer_copies(struct twinlog *log);
void twl_share_copy(void *log);

/* Retention, for the keeper. */
void twl_retain(void *log);

#endif

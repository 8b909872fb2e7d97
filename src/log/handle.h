/* SPDX-License-Identifier: Apache-2.0 */
/* struct twinlog, for the files of this folder that work on an open log. */
#ifndef TWL_HANDLE_H
#define TWL_HANDLE_H

#include "base/fork.h"
#include "base/sync.h"
#include "control/shared_page.h"
#include "control/state.h"
#include "keeper/keeper.h"
#include "log/errand.h"
#include "log/log.h"
#include "mapped/mapped.h"
#include "mapped/participants.h"

#include <errno.h>
#include <stdatomic.h>

#define IDLE_LOOKUPS 8u
#define RECENT_LOOKUPS 16u

/* One of the log's own readers. */
struct lookup {
    struct twinlog_reader *reader;
    uint64_t next_lsn;   /* it stands in front of this record; 0: of none that is known */
    uint32_t generation; /* of the log's readers, when it was taken */
    bool reads_on;       /* the record that it read last is the one behind the record before that */
};

/* Those that no thread uses now. */
struct lookups {
    struct lookup idle[IDLE_LOOKUPS]; /* [lock] the one that was used last is the last one */
    uint32_t idle_count;              /* [lock] */
    uint32_t generation;              /* [lock] a reader of an older one is not kept */
    uint64_t recent[RECENT_LOOKUPS];  /* [lock] the LSNs that were read last, by any of them */
    uint32_t recent_turn;             /* [lock] */
    struct twl_mutex lock;            /* behind them: gcc 14 warns of writes beyond a lock in front */
};

struct twinlog {
    struct io *io;                    /* [const] */
    struct fork_guard guard;          /* [const] */
    struct twinlog_options options;   /* [const] normalised */
    struct shared_page *shared;       /* [const] `own_shared`, or that of the participants */
    struct shared_page own_shared;    /* [const] */
    struct counters counters;         /* of the durable mode; the others count in the page */
    struct participants participants; /* [const] of a mapped log; .file is NULL unless it is shared */
    struct keeper *keeper;            /* [const] NULL if read-only, or mapped; but while it is opened */
    struct commit *commit;            /* [const] NULL if read-only, or mapped */
    struct mapped *mapped;            /* [const] NULL in TWINLOG_MODE_DURABLE */
    const struct engine_ops *ops;     /* [const] NULL if read-only */
    void *engine;                     /* [const] `commit` or `mapped`, for `ops` */
    char io_reason[160];              /* [const] */
    struct epoch epoch;               /* [paused] epoch of this writer; a truncation begins a new one */
    _Atomic uint64_t first_lsn;       /* [head_lock to store] oldest LSN that is kept, or first to come */

    /* Serialises trims, truncations and changes of the state file among the threads of this process. */
    struct twl_mutex head_lock;
    /* [head_lock] the segment of a truncation may exist or not: nothing in front of it may leave */
    bool is_truncation_in_doubt;

    struct state_memory state_memory; /* [head_lock to change by it] */

    struct errands errands;
    _Atomic uint32_t readers; /* that the caller has attached to it */
    struct lookups lookups;

    _Atomic uint64_t looked_first_lsn, looked_last_lsn; /* of a read-only log, when they were found last */

    _Atomic uint32_t inside;  /* calls that have not returned; see twl_enter() */
    struct twl_event resumed; /* calls that a truncation holds up sleep on it */
};

/*
 * Every call is counted, so that a close can wait for it. No call can be cancelled (see gate.c). Calls that use the
 * commit path are counted separately, so that a truncation can wait for them and hold up new ones.
 */
enum inside {
    INSIDE_COMMIT = 1u, /* at most 32,767 at a time, and 16,383 of the others */
    INSIDE_OTHER = 1u << 15,
};

#define CONSUMERS_NAME "consumers" /* the file with the locks of consumers */

/* In `inside`, above the two counts: */
#define CLOSING (1u << 31) /* a close has started */
#define PAUSED (1u << 30)  /* a truncation holds up calls that use the commit path */
#define SHUT (1u << 29)    /* one that was submitted holds up calls that accept records */
#define EVERYBODY (SHUT - 1)
#define OTHERS_IN(inside) (((inside)&EVERYBODY) / INSIDE_OTHER)

struct call {
    struct twinlog *log;
    enum inside how;
    int cancel_state; /* before the call, which has disabled cancellation */
};

static inline bool is_read_only(const struct twinlog *log)
{
    return !log->ops;
}
/* Where calls on the log count: see struct counters. */
static inline struct counters *twl_counters(struct twinlog *log)
{
    return log->mapped ? &log->shared->statistics->counters : &log->counters;
}
/* 0, or the answer to a call that only the durable mode has. */
static inline int check_durable(const struct twinlog *log)
{
    if (is_read_only(log))
        return -EROFS;
    return log->commit ? 0 : -ENOTSUP;
}
/* -EINVAL without a log, TWINLOG_EFORKED; with INSIDE_COMMIT also -EROFS. After success twl_leave() must follow. */
int twl_enter(struct twinlog *log, enum inside how, struct call *call);
/* The same for a call with terms, which end its wait for a truncation, too: -EAGAIN, -ETIMEDOUT, -ECANCELED. */
int twl_enter_on_terms(struct twinlog *log, enum inside how, const struct terms *terms, struct call *call);
/* The same for a call that accepts records, as INSIDE_COMMIT: it also waits for the truncations that were submitted. */
int twl_enter_to_append(struct twinlog *log, const struct terms *terms, struct call *call);
void twl_leave(struct call *call);
/* Frees the log, also a partly opened one. */
void twl_log_destroy(struct twinlog *log);

/* Between these two calls no thread uses the commit path. The caller is inside as INSIDE_OTHER and holds
 * `head_lock`. */
void twl_pause(struct twinlog *log);
void twl_resume(struct twinlog *log);

/* Between these two no record is accepted, and other calls go on; neither waits. */
void twl_shut(struct twinlog *log);
void twl_unshut(struct twinlog *log);

/* Newest durable LSN from the writer's own memory; twinlog_durable_lsn() reads the shared page. */
uint64_t twl_durable_lsn(struct twinlog *log);
/* Of a log that is opened for reading: finds how far it goes; if it can't be read now, as it was found last.
 * TWINLOG_ECORRUPT: the end is damaged, so there may be more. */
int twl_look(struct twinlog *log, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn);
/* Newest LSN that any reader may have been told. Reads the files if the log is read-only. */
int twl_find_told_lsn(struct twinlog *log, uint64_t *ret_lsn);

/* As twinlog_cursor_set(), but not if records that this reader has passed were removed: TWINLOG_ETRUNCATED,
 * TWINLOG_ETRIMMED. */
int twl_cursor_set_after(struct twinlog *log, const char *name, uint64_t lsn, struct twinlog_reader *reader);
/* Closes the idle readers: after records were removed, or when the log is closed. */
void twl_forget_lookups(struct twinlog *log);

/* The retention; called by the keeper, or by the mapped log. */
void twl_retain(void *log);
/* What a value says that is a limit; 0 if it is no number. */
uint64_t twl_limit_parse(const void *text, size_t size);

#endif

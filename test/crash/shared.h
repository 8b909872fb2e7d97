/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of crash-shared share. Members have one log open and append to it, each with one or more
 * threads, a pen for each; they come, leave and come again, are stopped and are killed. Followers read along. The judge,
 * which started them, reads the log while they write it, and again when nobody is left, and compares it with what the
 * pens noted.
 *
 * The notes are in memory that outlives its writers: that a record was started before it is handed over, its LSN
 * after the call has returned. Killed in between, a pen has claimed too little and never too much.
 */
#ifndef TWL_CRASH_SHARED_H
#define TWL_CRASH_SHARED_H

#include "kill.h"
#include "points.h"
#include "reading.h"

#define MEMBERS_MAX 5u     /* that are there at a time */
#define MEMBER_PENS_MAX 3u /* threads */
#define PENS_MAX 512u      /* of all members of a log */
#define RECORDS_MAX 2048u  /* of a pen */
#define RECORD_MAX_BYTES (300u << 10)
#define FOLLOWERS 2u

/* One thing done wrong on purpose, to see that it is found. */
enum fib {
    FIB_NONE,
    FIB_LOST,    /* a pen notes a record that it did not append */
    FIB_GARBLED, /* one bit of a record is wrong */
    FIB_TWICE,   /* a record is appended twice */
    FIB_SWAPPED, /* two records change places */
    FIB_SEEN,    /* a follower notes a record that it was not given */
    FIB_DURABLE, /* a pen notes that a record is durable which is not there yet */
    FIB_STALL,   /* a pen does not go on after a death */
    FIBS
};

struct pen {
    uint32_t max_bytes;               /* [const while it lives] of its records */
    _Atomic uint32_t begun, returned; /* records */
    _Atomic bool is_idle;             /* it has written enough for now, or its process is leaving */
    _Atomic bool may_wait;     /* it is in a call that waits for the disk, and for the copies of others */
    bool is_dead;              /* [judge] its process was killed */
    uint64_t lsn[RECORDS_MAX]; /* 0 = it was refused, as too large */
};

struct member {
    struct twinlog_options options; /* [const while it lives] and so is the rest of this part */
    struct rng rng;
    uint32_t first_pen, pens;
    uint32_t openings;                                  /* it closes the log and comes again so often */
    uint32_t sync_one_in, durable_one_in, pause_one_in; /* records; 0 = never */
    bool has_reader;                                    /* one that is attached to its log */
    struct fate fate;

    _Atomic bool is_open, is_closed, must_stop;
    _Atomic uint32_t opened;          /* so often */
    _Atomic uint64_t written;         /* what its log says */
    _Atomic uint32_t asked, answered; /* for a sync */
};

struct scene {
    enum fib fib;
    struct shared *complaints; /* [const] of processes that found a violation */
    _Atomic bool has_fibbed;
    struct point points[POINTS_MAX];
    struct member members[MEMBERS_MAX];
    struct follower followers[FOLLOWERS], inside[MEMBERS_MAX];
    struct seen seen;

    uint64_t name;            /* of this log */
    uint32_t least_max_bytes; /* what the first opening allows at least */
    uint32_t pens;            /* that were given out */
    _Atomic uint64_t told;    /* newest LSN that an append has returned */
    _Atomic uint64_t durable; /* newest LSN that somebody was told is durable */
    struct pen pen[PENS_MAX];

    uint32_t guest_mode; /* of an opening that should fail */
    int32_t guest_result;
    uint32_t heir_mode;    /* in which somebody opens a copy */
    uint32_t heir_records; /* that it appends */
    struct fate heir_fate;
    uint64_t opened_last; /* LSN that it finds */
};
extern struct scene *scene;

/* True once, for the process that tells the lie. */
bool tells(enum fib fib);

struct payload payload_of(uint32_t pen, uint32_t sequence);
/* Some are appended with a tag, the others with 0. */
uint16_t tag_of(const struct payload *payload);
/* In TWINLOG_MODE_SHARED, or alone in another mode. */
void choose_shared_options(struct twinlog_options *options, uint32_t mode, struct rng *rng);

/* ---- processes (shared_member.c) ----------------------------------------------------------------- */

void run_member(void *member);
/* Opens the log in a mode that its members do not allow. */
void run_guest(void *member);
/* Opens a copy, appends to it and closes it. */
void run_heir(void *member);

/* ---- the judge (shared_judge.c) ------------------------------------------------------------------ */

/* What is known of the log. */
struct ledger {
    uint64_t *digest;   /* of record lsn; 0 = a filler, or none */
    uint64_t last;      /* newest LSN with a record when the log was last judged */
    uint32_t in_doubt;  /* LSNs behind `last` that the dead may have taken */
    uint32_t first_pen; /* that was not judged yet */
    uint64_t records, fillers, found;
    uint64_t checked; /* records, each time */
};

/* While members write: all that was told up to `least` is there, and seen by a reader within `patience_ms`. Returns the
 * number of fillers that are new, with what was in doubt. */
uint64_t judge_living(struct ledger *book, uint64_t least, int64_t patience_ms);
/* Appends of killed members that may have left a filler. */
uint32_t count_unfinished(const struct ledger *book);
/* When nobody has the log open. */
void judge_left(struct ledger *book);
/* How the last one has closed it. */
struct ending {
    bool is_cut, may_have_spares;
    bool had_deaths; /* before */
};
void judge_closed(const struct ledger *book, const struct ending *ending);
/* A copy, which has all up to `least` and maybe more, before anybody opens it. */
void judge_copy(struct ledger *book, uint64_t least);
/* What an heir has made of it. */
void judge_heir(struct ledger *book, uint64_t least);

#endif

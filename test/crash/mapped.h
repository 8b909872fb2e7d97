/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of crash-mapped share. A log goes through lives: in each of them a writer opens it, mostly in the
 * mapped mode, appends from several hands, and is killed, or closes it. Followers read along all the time. The judge,
 * which started them, reads the log after each death, and compares it with their notes.
 *
 * The notes are in memory that outlives its writers: that a record was started before it is handed over, its LSN
 * after the call has returned. Killed in between, a hand has claimed too little and never too much.
 */
#ifndef TWL_CRASH_MAPPED_H
#define TWL_CRASH_MAPPED_H

#include "image.h"
#include "kill.h"
#include "points.h"
#include "reading.h"

#define HANDS_MAX 6u              /* threads of a writer */
#define RECORDS_MAX 4096u         /* of a hand in one life */
#define HAND_MAX_BYTES (1u << 20) /* it appends no more in one life */
#define FOLLOWERS 2u

/* One thing done wrong on purpose, to see that it is found. */
enum fib {
    FIB_NONE,
    FIB_LOST,    /* a hand notes a record that it did not append */
    FIB_GARBLED, /* one bit of a record is wrong */
    FIB_TWICE,   /* a record is appended twice */
    FIB_SWAPPED, /* two records change places */
    FIB_SEEN,    /* a follower notes a record that it was not given */
    FIB_TORN,    /* a byte of the newest segment is changed after a death */
    FIB_DURABLE, /* a writer notes a sync that it did not make; with --power */
    FIBS
};

struct hand_notes {
    _Atomic uint32_t begun, returned; /* records */
    uint64_t lsn[RECORDS_MAX];
};

struct writer_life {
    uint64_t name; /* [const while it lives] and so is the rest of this part */
    struct twinlog_options options;
    struct rng rng;
    uint32_t hands;
    uint32_t sync_one_in, pause_one_in; /* 0 = never */
    bool has_reader;                    /* one that is attached to its log */
    struct fate fate;

    _Atomic bool is_open, is_closed, must_stop;
    _Atomic uint64_t opened_last; /* LSN */
    _Atomic uint64_t durable;     /* LSN that a sync is said to have returned for */
    _Atomic uint64_t synced;      /* the same, without the lie */
    struct hand_notes hand[HANDS_MAX];
};

struct stage {
    enum fib fib;
    struct shared *complaints; /* [const] of processes that found a violation */
    _Atomic bool has_fibbed;
    struct point points[POINTS_MAX];
    struct writer_life life;
    struct follower followers[FOLLOWERS + 1]; /* the last one is inside the writer */
    struct seen seen;
};
extern struct stage *stage;

/* True once, for the process that tells the lie. */
bool tells(enum fib fib);

struct payload payload_of(const struct writer_life *life, uint32_t hand, uint32_t sequence);

/* ---- processes (mapped_writer.c) ----------------------------------------------------------------- */

void run_writer(void *life);
/* Opens that log and closes it, and may meet its fate on the way. */
void run_opening(void *dir);

/* ---- the judge (mapped_judge.c) ------------------------------------------------------------------ */

/* What is known of the log. */
struct ledger {
    uint64_t *digest;   /* of record lsn; 0 = a filler, or none */
    uint64_t last;      /* LSN that is certainly given away; the log may go on with the next one */
    uint64_t last_read; /* of a record */
    uint64_t in_sight;  /* LSN of a record in front of the first filler that the dead writer has left */
    bool has_claims;    /* that the next opening will find: a rare case */
    uint32_t in_doubt;  /* LSNs behind `last` that the dead may have given away */
    uint64_t records, fillers, found;
};

/* After the writer's death, or close. */
void judge_death(struct ledger *book, const struct writer_life *life);
/* A copy of the log as the power may have left it: what is there, is it all that has to be, can it go on? Returns its
 * records. */
uint64_t judge_image(const char *dir, const struct ledger *book, const struct writer_life *life,
                     struct rng *rng);
/* Makes a backup of the dead writer's log, which has all that the log has. Returns its records. */
uint64_t judge_copy(const char *dir, const struct ledger *book, const struct writer_life *life);

#endif

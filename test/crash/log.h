/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of the policies mapped and shared share, besides their crew (crew.h). Followers read along. The
 * judge reads the log while members write it, and again when nobody is left.
 */
#ifndef TWL_CRASH_LOG_H
#define TWL_CRASH_LOG_H

#include "crew.h"
#include "reading.h"

#define FOLLOWERS 2u

struct scene {
    struct follower followers[FOLLOWERS];
    struct sightings seen; /* by readers in all processes */

    bool has_power;           /* copies are looked at as power cuts may have left them */
    bool is_alone;            /* one process has the log at a time, and not in the shared mode */
    uint64_t name;            /* of this log */
    uint32_t least_max_bytes; /* what the first opening allows at least */
    _Atomic uint64_t told;    /* newest LSN that an append has returned */
    _Atomic uint64_t durable; /* newest LSN that somebody was told is durable */
    _Atomic uint64_t
        found; /* last LSN of the first opening since the log was judged; NOTHING: none was seen */

    uint32_t heir_mode;    /* in which somebody opens a copy */
    uint32_t heir_records; /* that it appends */
    struct fate heir_fate;
    uint64_t opened_last; /* LSN that it finds */
};
extern struct scene *scene;

struct payload payload_of(uint32_t pen, uint32_t sequence);
/* Some are appended with a tag, the others with 0. */
uint16_t tag_of(const struct payload *payload);
/* In TWINLOG_MODE_SHARED, or alone in another mode. */
void choose_log_options(struct twinlog_options *options, uint32_t mode, struct rng *rng);

/* ---- processes (log_member.c) -------------------------------------------------------------------- */

void *open_log(struct member *member);
void watch_log(void *log);
void close_log(void *log);
/* In a mode that its members do not allow. */
int open_log_as_guest(const struct member *member);
uint64_t append(struct hand *hand, uint32_t sequence, bool may_lie);
void sync_or_wait(struct hand *hand);
bool is_record_distinct(uint32_t pen, uint32_t sequence);
/* Opens a copy, appends to it and closes it. */
void run_heir(void *unused);

/* ---- power cuts (image.c) ------------------------------------------------------------------------- */

/* Copies the log of the dead to `to`, without some of what no sync came behind, as after another boot. Returns how
 * many sectors were left out. */
uint64_t make_image(const char *from, const char *to, uint64_t durable_lsn, struct rng *rng);
/* Changes a byte of the first record of a segment that is not closed, or was. False if there is none. */
bool tear_record(const char *dir);

/* ---- the judge (log_judge.c) --------------------------------------------------------------------- */

/* What is known of the log. */
struct ledger {
    struct book book;   /* by LSN; a digest of 0 is a filler, or none */
    uint64_t in_sight;  /* of a record in front of the first filler that the dead have left */
    uint32_t in_doubt;  /* LSNs behind `last` that the dead may have taken */
    bool has_claims;    /* that the next opening will find: a rare case */
    uint32_t first_pen; /* that was not judged yet */
    uint64_t records, fillers, found;
    uint64_t checked;   /* records, each time */
    uint64_t inherited; /* records of the copy that was judged last */
};

/* The newest one up to that LSN; 0: there is none. */
uint64_t find_record(const struct ledger *book, uint64_t lsn);
/* While members write: all that was told up to `least` is there, and seen by a reader in time. Returns the number of
 * fillers that are new, with what was in doubt. */
uint64_t judge_living(struct ledger *book, uint64_t least);
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

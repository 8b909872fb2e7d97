/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of the policies mapped, shared and sink share. Members have one log or sink open and write to it,
 * each with one or more threads, a pen for each; they come, leave and come again, are stopped and are killed, at random
 * moments and at named places. All that are not killed must go on. The judge, which started them, reads what they left,
 * and compares it with what the pens noted.
 *
 * The notes are in memory that outlives its writers: that a record or line was started before it is handed over, where
 * it is after the call has returned. Killed in between, a pen has claimed too little and never too much.
 */
#ifndef TWL_CRASH_CREW_H
#define TWL_CRASH_CREW_H

#include "kill.h"
#include "points.h"

#include <twinlog_sink.h>

#define MEMBERS_MAX 6u           /* that are there at a time */
#define MEMBER_PENS_MAX 6u       /* threads */
#define PENS_MAX 512u            /* of all members, until what they write begins anew */
#define WRITES_MAX 8192u         /* of a pen */
#define PEN_MAX_BYTES (1u << 20) /* it writes no more */

struct pen {
    uint32_t max_bytes;               /* [const while it lives] of its records */
    _Atomic uint32_t begun, returned; /* records or lines */
    _Atomic bool is_idle;             /* it has written enough for now, or its process is leaving */
    _Atomic bool may_wait;      /* it is in a call that waits for the disk, and for the copies of others */
    bool is_dead;               /* [judge] its process was killed */
    uint64_t where[WRITES_MAX]; /* LSNs, or offsets. LSN 0: it was refused, as too large */
};

struct member {
    struct twinlog_options options; /* [const while it lives] and so is the rest of this part */
    struct twinlog_sink_options sink_options;
    struct rng rng;
    uint32_t first_pen, pens;
    uint32_t openings; /* it closes what it writes to and comes again so often */
    uint32_t sync_one_in, durable_one_in, reopen_one_in, pause_one_in; /* writes; 0 = never */
    bool has_reader;                                                   /* one that is attached to its log */
    struct fate fate;

    _Atomic bool is_open, is_closed, must_stop;
    _Atomic uint32_t opened;          /* so often */
    _Atomic uint64_t written;         /* what its log says */
    _Atomic uint32_t asked, answered; /* for a sync */
};

struct crew {
    _Atomic bool has_lied;
    struct point points[POINTS_MAX];
    struct member members[MEMBERS_MAX];
    uint32_t guest_mode;
    int32_t guest_result;  /* of an opening that should fail */
    bool has_let_guest_in; /* which came when the others had just died */
    uint32_t pens;         /* that were given out */
    struct pen pen[PENS_MAX];
};
extern struct crew *crew;

/* A thread that writes, with a pen. */
struct hand {
    void *to; /* a log or a sink */
    struct rng rng;
    uint32_t number;
    struct pen *pen;
    uint64_t bytes;
    pthread_t thread;
    unsigned char record[WRITTEN_MAX_BYTES];
};

/* What members do, and how. */
struct craft {
    uint32_t most_pens, most_writes; /* of a member, of a pen */
    uint64_t moments_ns[4];          /* between events at most, one as often as the other */
    uint64_t most_stop_ms;
    uint64_t most_deaths; /* between two judgements */

    /* In the judge's process. */
    void (*prepare)(struct member *member, struct rng *rng);
    void (*choose_guest)(struct rng *rng);     /* NULL: none comes */
    void (*do_between)(struct rng *rng);       /* NULL, or something else, between two events */
    void (*look)(void);                        /* NULL, or at what the living have written */
    void (*see_others_go_on)(struct rng *rng); /* NULL, or besides their writing, after a death */
    bool (*waits)(const struct member *member,
                  const struct pen *pen); /* for those that are stopped, and for the disk */

    /* In a member's. */
    void *(*open)(struct member *member);
    void (*keep_watch)(void *to); /* until it leaves; NULL: nothing is to be watched */
    void (*close)(void *to);
    int (*open_as_guest)(const struct member *member);
    uint64_t (*write)(struct hand *hand, uint32_t sequence, bool may_lie); /* returns where */
    void (*do_something_else)(struct hand *hand);
    bool (*is_distinct)(uint32_t pen, uint32_t sequence); /* a lie about it can be found; NULL: always */
};

/* ---- the judge's process (crew.c) ------------------------------------------------------------------ */

extern uint64_t
    patience_ms; /* within which the living go on; DISK_TIMES as large where they wait for the disk */
#define DISK_TIMES 6
extern const char *only_point; /* where all die or stop that do so at a place; NULL: anywhere */
extern unsigned point_tries;   /* of so many that are chosen, the place that has met the fewest deaths */

extern struct totals {
    uint64_t members, joins, killed, stopped, closed, guests;
    int64_t longest_wait_ns;
} totals;

void begin_crew(const struct craft *craft);
void forget_pens(void);
bool can_invite(void);
bool is_there(unsigned index); /* it has the log open, and is not about to leave */
bool is_anybody_there(void);   /* then what the dead have left becomes fillers, without being asked for */
bool is_somebody_stopped(void);
void bury_the_dead(void);
void note_wait(int64_t start); /* one that has ended */

/* Until some have died. At most so many members at a time. */
void run_events(unsigned most, struct rng *rng);
/* Members come and go, and nobody dies. */
void run_peaceful_events(unsigned most, struct rng *rng);
/* All die or leave; where nobody died they leave. True if the last one to go has closed the log, whichever it was. */
bool end_all(struct rng *rng);
/* The first lines of a summary. `copies`: deaths at a place that were those of no member. */
void summarise_crew(uint64_t copies);

/* ---- a member's process (crew_member.c) ------------------------------------------------------------ */

extern const struct craft *craft;
extern struct member *self;

/* True once, for the process that tells the lie. */
bool tells(enum lie lie);
bool is_leaving(void); /* when it is watched */
void run_member(void *member);
void run_guest(void *member);

#endif

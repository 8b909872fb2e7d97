/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share a log: a member does what the test tells it, one order after the other. What a process leaves
 * that dies at one certain instruction is made by hand: a claim that is as far as that, and then a kill.
 *
 * An order runs in the member, and returns 0 or an error. Functions that return something else, or are given a member,
 * are for the test's own process; they assert.
 */
#ifndef TEST_UNIT_MEMBERS_H
#define TEST_UNIT_MEMBERS_H

#include "logdir.h"
#include "mapped/inside.h"

#include <stdatomic.h>

#define SEGMENT_BYTES 65536u
#define MODES 3
#define SOON_NS UINT64_C(60000000000) /* what takes a tenth of a second, on a machine that does much else */

/* ---- opening ------------------------------------------------------------------------------------ */

struct twinlog_options small(uint32_t mode);
struct twinlog_options shared_options(uint32_t flags);
struct twinlog *open_shared(uint32_t flags);
struct twinlog *open_mode(uint32_t mode);

/* For TEST_EACH(). */
static const struct log_mode {
    const char *name;
    uint32_t mode;
} log_modes[MODES] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "mapped", TWINLOG_MODE_MAPPED },
    { "shared", TWINLOG_MODE_SHARED },
};

/* ---- members ------------------------------------------------------------------------------------ */

#define MEMBERS 6u

struct member {
    int (*_Atomic order)(void); /* NULL: done */
    _Atomic uint32_t with;      /* what the order is about */
    _Atomic int result;
    _Atomic uint32_t appended; /* its records; they returned */
    _Atomic uint32_t number;   /* that it has in claims */
    _Atomic uint64_t lsn;      /* of the newest */
    _Atomic uint64_t syncs;
    _Atomic pid_t pid, child;
};

extern struct sharing {
    _Atomic unsigned expected, arrived; /* at a meeting */
    _Atomic uint32_t flags;             /* of members that open the log from now on */
    struct member members[MEMBERS];
} * sharing;

extern struct member *self;     /* in a member's process: itself, */
extern struct twinlog *own_log; /* and its log */

uint32_t writer_of(const struct member *member);
/* Before the test has threads, but for those that come after one that has ended. */
struct member *start_member(unsigned which);
void post(struct member *member, int (*order)(void), uint32_t with);
bool is_done(struct member *member);
int answer(struct member *member);
int ask(struct member *member, int (*order)(void), uint32_t with);
void end_member(struct member *member);
void stop_member(struct member *member);
void continue_member(struct member *member);

/* ---- sleeps ------------------------------------------------------------------------------------- */

/* Of this process, in twl_page_sleep(), where a sync waits for others. */
extern _Atomic unsigned page_sleeps;
extern _Atomic bool stops_in_page_sleep; /* in the next one */

/* ---- orders ------------------------------------------------------------------------------------- */

int open_log(void);
int open_together(void);
int close_log(void);
int close_together(void);
int append_next(void);
int append_some(void);
int sync_log(void);
int append_durable(void);
int ask_for_durable(void);
int count_syncs(void);

#define AHEAD_LSN 150u /* its time is ahead of all */

int64_t time_of(uint64_t lsn);
/* No other process appends. */
int append_timed(void);

/* How far the process that dies has come. */
enum stage {
    CLAIMED,
    CURSOR_MOVED,
    HALF_COPIED,
    COPIED,
    HALF_ENCODED,
    ENCODED
};

int claim(void);
int complete(void);
/* A child that outlives it. */
int leave_a_child(void);
struct member *come(unsigned which);
void append_by(struct member *member, uint32_t count);
void close_by(struct member *member);

/* ---- what is there ------------------------------------------------------------------------------ */

/* What a reader has found so far. LSNs that are passed are fillers. */
struct found {
    struct tally tally;
    uint64_t fillers;
};

void look_on(struct found *found, struct twinlog_reader *reader);
/* Whole, in order, and at least what was acknowledged. */
struct found look_at_all(void);
/* All that was acknowledged and nothing else. Returns the last LSN. */
uint64_t expect_all(uint32_t own, uint64_t fillers);
/* Those, and no others. */
void expect_kept(uint64_t first_lsn, uint64_t last_lsn);
bool has_found(struct found *found, struct twinlog_reader *reader, uint64_t last_lsn);
uint64_t size_of_segment(uint64_t number);
bool has_segment(uint64_t number);
/* What participants share beside the segments, as it stands in the file. */
struct common *map_common(void);
void expect_clean_opening(uint32_t mode, uint64_t last_lsn);
/* The log goes on behind what is there. */
void expect_going_on(uint32_t mode, uint32_t own, uint64_t fillers);
void set_up_members(void);

#endif

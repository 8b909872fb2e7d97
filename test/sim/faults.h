/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside sim-faults: one run of a script on a disk that fails, and what the log may be meanwhile.
 *
 * A call that failed has happened or not, and nobody is told which. So a run keeps what is possible: the
 * heads that trims may have reached, a truncation or reset that may have been made, and for each name the
 * values it may have. A call that succeeds, and an opening, settles what it is about.
 */
#ifndef TWL_SIM_FAULTS_H
#define TWL_SIM_FAULTS_H

#include "check/check.h"
#include "history.h"
#include "log/log.h"
#include "names.h"

struct run;

struct scenario {
    const char *name;
    void (*script)(struct run *run);
    bool is_torn;   /* begins with a log with a last group that was torn by a power cut */
    bool is_killed; /* ... and its writer was killed before its last group was synced */
    bool is_padded;
    bool is_buffered;
    bool is_barrier_narrow;
    bool is_target;           /* the disk that fails is the one that a backup goes to */
    uint64_t segment_records; /* 0: no limit */
};

enum {
    MAX_POSSIBLE = 12,
    MAX_REQUESTS = 8,
};

struct pending {
    struct twinlog_request request;
    struct run *run;
    uint32_t level;
    bool is_pending;
};

struct run {
    const struct scenario *scenario;
    const char *stage; /* of the case, in words */
    bool is_cut_again;
    bool is_second_crash; /* in the opening behind the first one */
    struct simdisk_fault fault;
    struct simdisk *disk;
    struct simdisk *target; /* of backups, where that is the one that fails; else NULL */
    struct rng rng;
    struct twinlog_options options;
    struct twinlog *log; /* NULL: it could not be opened */
    struct history history;
    uint64_t acked;
    bool exists;      /* the log was opened once */
    uint64_t to_copy; /* durable when the backup began */

    struct pending pending[MAX_REQUESTS];
    struct twinlog_queue *queue; /* of all requests; NULL: none came yet */

    /* what may be */
    uint64_t head[MAX_POSSIBLE];
    unsigned heads;
    struct {
        uint64_t head, last;
    } cut[MAX_POSSIBLE];
    unsigned cuts;
    struct {
        struct named may_be[MAX_POSSIBLE];
        unsigned count;
    } name[NAMES];

    bool is_poisoned;        /* a write or sync failed */
    uint64_t poisoned_lsn;   /* durable then */
    bool has_barrier_failed; /* of this opening */
    uint64_t faults;         /* noticed by the hook */
    uint64_t submits;        /* so far, when the barrier failed */
};

/* ---- faults.c ------------------------------------------------------------------------------------ */

extern uint64_t refused_opens, recovered_disks, completed_requests;
extern const struct run *current;

/* The disk on which the faults strike. */
struct simdisk *failing_disk(const struct run *run);

/* ---- faults_calls.c: calls of the library, and what they must and may return --------------------- */

void begin_run(struct run *run); /* an empty log is all that is possible */

void open_log(struct run *run);
void close_log(struct run *run);
void append_record(struct run *run, size_t max_bytes);
void enqueue_record(struct run *run);
void sync_log(struct run *run);
void acknowledge(struct run *run, uint64_t lsn, const char *call);
/* A call returned that which the fault explains. */
void expect_honest(const struct run *run, int result, const char *call);
/* Before anything is made of what a call returned. */
void notice_poison(struct run *run);
void expect_told(const struct run *run, int result, const char *call);
/* What a call that appended has returned, and the LSN that it gave; 0: none. */
void settle_append(struct run *run, int result, uint64_t lsn, const char *call);

void trim_log(struct run *run, uint64_t before_lsn, uint32_t flags);
void truncate_log(struct run *run, uint64_t last_lsn);
void reset_log(struct run *run, uint64_t next_lsn);

void set_cursor(struct run *run, unsigned cursor, uint64_t lsn);
void set_value(struct run *run, unsigned value, size_t size);
/* By another process, which only reads. */
void set_value_outside(struct run *run, unsigned value, size_t size);
void remove_name(struct run *run, unsigned name);

void read_attached(struct run *run);
void read_outside(struct run *run);
void seek_around(struct run *run);
void inspect_log(struct run *run);
void verify_log(struct run *run);
void list_log(struct run *run);
void back_up(struct run *run);
/* A copy is refused as a log, or has everything that is durable; a finished one is not refused. */
void check_copy(struct run *run, struct simdisk *copy, bool is_finished);

/* ---- faults_append.c ----------------------------------------------------------------------------- */

void append_batch(struct run *run, uint32_t level);
void commit_requests(struct run *run);
void script_of_requests(struct run *run);

/* ---- faults_script.c ----------------------------------------------------------------------------- */

void use_log(struct run *run);
void script_of_appends(struct run *run);
void script_of_removals(struct run *run);
void script_of_names(struct run *run);
void script_of_copies(struct run *run);

/* Opens the disk as another machine would, reads, appends, opens and reads again. */
void check_recovery(const struct run *run, struct simdisk *disk, const char *stage);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside sim-crash: one machine with a log on a simulated disk, what it does, what is true of it, its crash
 * images, the readers beside it, copies of it. See crash.c.
 *
 * What a machine's log must be is known at any moment: its records, its head, its names, and how far it
 * was acknowledged. Only two things are open, and only until they are settled: a call that is in progress
 * may have happened or not, and a crash image is one of several outlooks until it was opened.
 */
#ifndef TWL_SIM_CRASH_H
#define TWL_SIM_CRASH_H

#include "check/check.h"
#include "history.h"
#include "log/log.h"
#include "names.h"

enum {
    MAX_DEPTH = 3,
    MAX_OUTLOOKS = 2,
    WATCHERS = 3,
    MAX_PENDING = 6, /* requests */
    CUTS = SIM_KILL + 1,
    FINDINGS = TWINLOG_FOUND_LOST + 1,
};

/* What it does most. */
enum mood {
    MOOD_EVEN,
    MOOD_ROLLING, /* many segments come and go */
    MOOD_CUTTING,
    MOOD_NAMING,
    MOODS
};

/* What a log may be found as: records from `head` to somewhere between `least` and `most`. */
struct outlook {
    uint64_t head, least, most;
    uint64_t written;  /* at least, as long as nothing but processes die */
    bool is_end_fixed; /* by a truncation: what was acknowledged before does not count */
    struct names names;
};

/* What a look has found. */
struct answer {
    bool is_known;
    bool is_empty; /* then first and last are not known, maybe */
    uint64_t first, last;
    uint64_t sure; /* what was seen up to there stays; behind it are places that may be fillers */
};

/* A reader that lives beside the writer while it goes on. */
struct watcher {
    struct twinlog_reader *reader; /* NULL: nobody */
    bool is_attached;
    bool is_stuck;   /* it returned an error, and must seek */
    uint64_t from;   /* it was told to return nothing before */
    uint64_t next;   /* LSN behind its cursor */
    bool is_at_head; /* the cursor was placed before the oldest record, whichever that is at the next move */
    uint64_t seen;   /* newest LSN it returned since it was placed */
    uint64_t truncation_lsn; /* since then everything behind this was truncated */
};

struct copy;

struct pending {
    struct twinlog_request request;
    struct machine *machine;
    uint32_t level;
    bool is_pending;
};

/* One machine with a log. At depth 0 it lives through a workload; below, it is a crash image of the machine
 * one level up, and is recovered. */
struct machine {
    struct simdisk *disk;
    struct rng rng;
    struct twinlog_options options;
    enum mood mood;
    unsigned
        keeper_pace; /* the keeper and the writer take turns every so many operations; 0: it has no thread */
    bool may_map, is_mapped; /* some openings are mapped; this one, or the last */
    bool may_garble; /* a sector may hold anything after a power cut: only where no block is written twice */

    struct twinlog *log; /* NULL while it opens, and when it is closed */
    bool is_closing;
    bool exists;                   /* the log was opened once, so it must be there */
    struct history history;        /* with the head */
    struct names names;            /* as the last call left them that returned */
    uint64_t acked;                /* the crash must not take these */
    uint64_t written;              /* the end of the process must not take these */
    const struct outlook *attempt; /* what the call in progress will have made of it; NULL: no such call */

    struct outlook outlook[MAX_OUTLOOKS]; /* of a log that is not open: one of these */
    unsigned outlooks;
    struct answer answer; /* of the looks since it was last open */
    struct answer found;  /* by the last opening */
    bool is_haunted;      /* a killed process's write may land while somebody looks */

    bool is_full;      /* nothing can be created or allocated */
    bool was_full;     /* at some time since the log was opened */
    bool is_failing;   /* a write or a sync may fail, or has failed since the log was opened */
    uint64_t faults;   /* of the disk before that */
    uint64_t failures; /* times that the log was opened again because of one */
    unsigned openings; /* since a record was accepted */
    bool may_hide; /* the log was opened on a full disk, so the file in which it publishes may be too short */
    struct watcher watcher[WATCHERS];
    bool is_watching;  /* one of them is in a call */
    struct copy *copy; /* a backup in progress; NULL: none */

    struct pending pending[MAX_PENDING];
    struct twinlog_queue *queue; /* NULL: not opened yet */
    uint64_t fetched;            /* newest LSN of a request that was, since the last truncation */

    unsigned depth;
    bool is_deep; /* crashes again */
    enum simdisk_cut cut;
    uint64_t image_seed;
    uint64_t points;
    const struct machine *parent;
};

/* ---- crash.c ------------------------------------------------------------------------------------- */

enum lie {
    LIE_NONE,
    LIE_SYNC,
    LIE_BARRIER,
    LIE_SYNC_DIR,
    LIE_MSYNC,
    LIE_RECYCLE, /* a new header over an old one is not synced */
    LIE_LOST,    /* crash_lies.c has these */
    LIE_TWICE,
    LIE_TORN,
    LIE_SWAPPED,
    LIE_FOREIGN,
    LIE_END,
    LIE_DURABLE,
    LIE_VERDICT,
};

struct settings {
    uint64_t seed;
    uint64_t images;  /* to check; 0: no limit */
    uint64_t seconds; /* 0: no limit */
    bool is_replay;   /* one workload only */
    bool is_mapped;   /* all logs are */
    bool is_sink;     /* no logs but sinks */
    bool is_verbose;
    enum lie lie; /* then a violation is what we want */
};
extern struct settings settings;

struct totals {
    uint64_t workloads, points, images, cut[CUTS], depth[MAX_DEPTH + 1], finding[FINDINGS];
    uint64_t records, watched, trimmed, cut_under, ghosts;
    uint64_t trims, cuts, resets, names, refusals, rolls, recycled, retired, copies, copy_images;
    uint64_t batches, requests, fillers;
    uint64_t failures, failed_openings, mapped_workloads, mapped_images, lies, sink_workloads, sink_images;
};
extern struct totals totals;

extern const struct machine *current; /* the deepest one */

/* ---- crash_judge.c: what must be true ------------------------------------------------------------ */

/* Retention may have moved the head of a log of which records up to `durable` were there. */
void notice_head(struct machine *machine, uint64_t durable);
/* The log is closed as it is known to be: the next opening must find just that. */
void expect_no_change(struct machine *machine);
/* The same, but that only what was acknowledged must be there. */
void expect_no_less(struct machine *machine);
/* Records up to `lsn` must not go away any more. */
void acknowledge(struct machine *machine, uint64_t lsn);
/* Anywhere, the log open or not: takes note of what became durable, and what retention removed. */
void notice_progress(struct machine *machine);

/* What the machine's log may be found as, were it to crash now. */
unsigned list_outlooks(const struct machine *machine, struct outlook ret_outlooks[MAX_OUTLOOKS]);

/* Recovery, and every other look at a disk at rest, must agree. That it may be so was judged where it was found. */
void compare_answer(struct machine *machine, const struct answer *answer, const char *name);

/* `log` was opened on it: settles which outlook came true. */
void judge_opened(struct machine *machine, struct twinlog *log, const struct twinlog_report *report);
/* Looks at a disk without a writer, by all means but opening the log. */
void look_at_rest(struct machine *machine);
/* Looks from another process in the middle of whatever the machine does. */
void look_beside(struct machine *machine);
/* Reads from `from` on inside the writer's process: all that is durable. */
void read_attached(struct machine *machine, uint64_t from);
/* The same from some place, mostly near the end, where changes were made. */
void read_back(struct machine *machine);

struct listing {
    struct twinlog_segment segment[256];
    unsigned count;
};
void list_segments(struct machine *machine, struct listing *ret_listing);
bool is_started(const struct twinlog_segment *segment);
/* LSN with which the records of a started segment end; those of the next one begin there. `next_lsn`: of the log. */
uint64_t end_of_segment(const struct listing *listing, unsigned index, uint64_t next_lsn);

bool has_retention(const struct machine *machine);

/* ---- crash_watch.c: readers beside the writer ---------------------------------------------------- */

/* One of them moves, or comes, or goes. Anywhere, also in the middle of a call. */
void watch(struct machine *machine);
/* Everything behind `last` was truncated. */
void tell_watchers(struct machine *machine, uint64_t last);
/* Those that are attached go before the log is closed. */
void dismiss_watchers(struct machine *machine, bool only_attached);
/* A new reader makes a few moves of every kind. */
void try_seeks(struct machine *machine);

/* ---- crash_work.c: what a machine does ----------------------------------------------------------- */

void change_options(struct machine *machine); /* while the log is closed */
void open_log(struct machine *machine);
void close_log(struct machine *machine);
void work(struct machine *machine, uint64_t steps);
/* The log is read and closed, its disk looked at, and all of it freed. */
void end_workload(struct machine *machine);
bool takes_large_records(const struct machine *machine);
void append_large_record(struct machine *machine);
/* True if the call did what it was asked for; false if it was refused for want of space. */
bool expect_done(const struct machine *machine, int result, const char *call);
/* Beside a backup: a few calls that change what is being copied. */
void work_beside_copy(struct machine *machine);
/* What was lost is given to the log again, as an application would. */
void give_lost_records_again(struct machine *machine);
void begin_shortage(struct machine *machine);
void end_shortage(struct machine *machine);

/* ---- crash_append.c: batches, levels, requests, skipped LSNs ------------------------------------- */

void append_batch(struct machine *machine);
void wait_at_level(struct machine *machine);
void submit_requests(struct machine *machine);
void commit_requests(struct machine *machine);
void skip_some(struct machine *machine);
/* Accepts a record if it need not wait, as a second thread can while the first one is in the middle of a commit. */
void try_to_give(struct machine *machine);
/* After a truncation, of which the attempt is still known. */
void begin_to_count_again(struct machine *machine);
/* The log is closed, or was driven: nothing may be left. */
void expect_no_requests(struct machine *machine, const char *call);
void close_queue(struct machine *machine);
/* None is left that could fail. */
void finish_requests(struct machine *machine);

/* ---- crash_keeper.c: the keeper's thread --------------------------------------------------------- */

/* The log that is opened with `io` has a keeper, if the machine is to have one. */
void keeper_begin(struct machine *machine, struct io *io);
/* Until it has nothing left to do. */
void keeper_finish_work(struct machine *machine);

/* ---- crash_mapped.c: logs that are written through a mapping -------------------------------------- */

/* The machine is to have a mapped log. */
void choose_mapping(struct machine *machine);
/* For the next opening. */
void choose_mode(struct machine *machine);
/* There are so many stores. */
bool is_passed_over(struct machine *machine, enum simdisk_op op);
/* Readers return so much: in a mapped log also what is only written. */
uint64_t visible_lsn(const struct machine *machine);
/* The machine's log was left by `writer` in a crash, or by a failed close. */
void expect_voids(struct machine *machine, const struct machine *writer);
/* It was opened, with these LSNs. */
void settle_voids(struct machine *machine, struct twinlog *log, uint64_t head, uint64_t last);

/* ---- crash_sink.c: plain files of several processes ------------------------------------------------- */

/* What processes do with a sink on that disk, which it destroys. */
void run_sinks(uint64_t seed, struct simdisk *disk);
/* In crash_lies.c: a record at a place is lost, or the like; behind it is one of `next` bytes. */
void lie_of_text(unsigned char *bytes, uint64_t *size, uint64_t at, uint64_t part, uint64_t next);

/* ---- crash_fault.c: a disk that fails -------------------------------------------------------------- */

/* A write or a sync fails. The log is closed and opened again, by the same machine. */
void fail_log(struct machine *machine);
/* Has something failed since? */
bool has_failed(const struct machine *machine);

/* ---- crash_copy.c: backups ----------------------------------------------------------------------- */

/* Backs the log up to another disk, which crashes at each step. */
void back_up(struct machine *machine);
/* The machine is about to truncate: a test that compares with its history wants a copy first. */
void tell_copy(struct machine *machine);

/* ---- crash_image.c: crashes ---------------------------------------------------------------------- */

/* Recovers an image of `parent` as it is now, in the middle of whatever it does, and judges it. */
void check_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed);
/* After each operation that changed a machine's disk. */
void crash_hook(void *context, enum simdisk_op op);

#endif

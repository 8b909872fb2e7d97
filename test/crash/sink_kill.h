/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of crash-sink share. Members have one sink open and write lines from one or more threads, a
 * pen for each; they come, leave, are stopped and are killed. The judge, which started them, reads the files when
 * nobody is left, and compares them with what the pens noted.
 *
 * The notes are in memory that outlives its writers: that a line was started before it is handed over, that
 * the call has returned afterwards. Killed in between, a pen has claimed too little and never too much.
 */
#ifndef TWL_CRASH_SINK_KILL_H
#define TWL_CRASH_SINK_KILL_H

#include "kill.h"
#include "points.h"

#include <twinlog_sink.h>

#define PENS_MAX 512u      /* of all members, between two beginnings of the file */
#define LINES_MAX 8192u    /* of a pen */
#define MEMBER_PENS_MAX 3u /* threads */
#define MEMBERS_MAX 6u     /* that are there at a time */
#define LINE_MAX_BYTES ((size_t)100 << 10)
#define LINE_LABEL_BYTES 5u /* at the beginning of every line but the empty ones */

/* One thing done wrong on purpose, to see that it is found. */
enum fib {
    FIB_NONE,
    FIB_LOST,    /* a pen notes a line that it did not write */
    FIB_GARBLED, /* one bit of a line is wrong */
    FIB_TWICE,   /* a line is written twice */
    FIB_SWAPPED, /* two lines change places */
    FIB_OFFSET,  /* a pen notes another place than it was told */
    FIB_END,     /* there is one byte more at the end */
    FIB_ZERO,    /* a byte in the middle is zero again */
    FIB_AREA,    /* the second file is still there */
    FIB_STALL,   /* a pen does not go on after a death */
    FIBS
};

struct pen {
    _Atomic uint32_t begun, returned; /* lines */
    _Atomic bool is_idle;             /* it has written enough, or its process is leaving */
    _Atomic bool may_wait;            /* it is in a call that may wait for others */
    uint64_t offset[LINES_MAX];       /* where the library says a line is, in its file */
};

struct member {
    struct twinlog_sink_options options;
    struct rng rng;
    uint32_t first_pen, pens;
    bool does_sync, does_rotate, does_reopen;
    uint32_t pause_one_in; /* writes; 0 = never */
    struct fate fate;
    _Atomic bool is_open, must_stop, is_closed;
};

struct scene {
    enum fib fib;
    struct shared *complaints; /* [const] of processes that found a violation */
    _Atomic bool has_fibbed;
    struct point points[POINTS_MAX];
    struct member members[MEMBERS_MAX];
    int32_t guest_result; /* of an opening that should fail */
    uint64_t opened_bytes, fillers;
    _Atomic uint32_t pens; /* that were given out */
    struct pen pen[PENS_MAX];
};
extern struct scene *scene;

/* True once, for the process that tells the lie. */
bool tells(enum fib fib);

/* ---- lines (sink_line.c): pen and sequence decide their length and every byte -------------------- */

size_t line_size(uint32_t pen, uint32_t sequence);
/* Writes line_size() bytes, the last one a newline, the others neither that nor spaces nor zeros. */
void line_fill(uint32_t pen, uint32_t sequence, unsigned char *bytes);
/* What the label at the beginning of these bytes says; false if there is none. */
bool line_read_label(const unsigned char *bytes, size_t size, uint32_t *ret_pen, uint32_t *ret_sequence);

/* ---- processes (sink_member.c) ------------------------------------------------------------------- */

void sink_path(char ret_path[400]);
void run_member(void *member);
/* Opens the sink after everybody was killed, and closes it. */
void run_opener(void *member);
/* Opens it where that is not allowed. */
void run_guest(void *member);

/* ---- the judge (sink_oracle.c) ------------------------------------------------------------------- */

struct sink_verdict {
    uint64_t lines, fillers, files, bytes;
    uint64_t last_file_bytes;
};
/* Reads all the files. Nobody has them open, and the last one to have them closed them. */
struct sink_verdict judge_files(uint64_t max_bytes);

#endif

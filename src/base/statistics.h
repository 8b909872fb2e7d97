/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a log counts and times while it is open for writing. It is a part of the file of the shared page
 * (control/shared_page.h), so other processes read it as it is, whatever the writer does; or private memory of the
 * writer where the file has no room. Nothing depends on what is in it.
 *
 * A store to a page of a file waits while its file system is frozen. So in the durable mode no call of the log stores
 * here, but threads that wait for the disk anyway: the leader behind its write, and the keeper's thread. Other calls
 * count in private memory: struct counters, which the keeper's thread copies here, and struct samples (gauge.h), which
 * the leader adds to the gauges. In the mapped modes an append stores to the file system itself, and all is counted
 * here.
 *
 * All fields are [atomic]. In the mapped modes several threads, or processes, count; else one thread at a time.
 */
#ifndef TWL_STATISTICS_H
#define TWL_STATISTICS_H

#include "base/gauge.h"

#include <stdbool.h>

#define STATISTICS_VERSION 3u /* to be raised if the struct changes but its size does not */
#define STATISTICS_LAYOUT (STATISTICS_VERSION << 24 | (uint32_t)sizeof(struct statistics))

/* Why an append failed, as an operator asks: each kind has another cure. */
enum failure_kind {
    FAILURE_FULL,      /* no space on the disk */
    FAILURE_READ_ONLY, /* the file system takes no writes */
    FAILURE_LIMIT,     /* a quota, a limit on the size of files, or on open ones */
    FAILURE_POISONED,  /* a write or sync failed, for no such cause; or one of an earlier append did */
    FAILURE_OTHER,
    FAILURE_KINDS,
};

/* What calls count that must not wait for the disk, under a lock of the log or after a failure. */
struct counters {
    /* the keeper, under its lock */
    _Atomic uint32_t segments, spare_segments;
    _Atomic uint64_t file_bytes, trimmed_segments, recycled_segments;

    /* the commit path under its lock, or threads of the mapped modes */
    _Atomic uint64_t roll_waits;

    /* any thread, after an append or a trim that failed; by enum failure_kind */
    _Atomic uint64_t append_failures[FAILURE_KINDS];
    _Atomic uint64_t trim_failures;
};

struct statistics {
    _Atomic uint32_t layout; /* STATISTICS_LAYOUT; 0: the writer is opening the log */
    _Atomic uint32_t io;     /* enum twinlog_io; the writer may prefer pwritev2() at times */
    _Atomic uint32_t is_direct;
    /* LSN of the first record that is counted; after a truncation so many less as were removed. So `appends` tells the
     * newest LSN. */
    _Atomic uint64_t began_lsn;

    struct counters counters; /* in the durable mode a copy */

    /* the leader, or threads of the mapped modes */
    _Atomic uint64_t appends, append_bytes, requests; /* when their group was written */
    _Atomic uint64_t written_lsn;
    _Atomic uint64_t groups, group_bytes, written_bytes, rolls, syncs, completed_requests;

    struct gauge queue, copy, write, sync, wake, total, group_records, group_bytes_each;
};

/* Counts an append that returns `error`, unless the caller has caused it or asked for it: wrong arguments, a record
 * that is too large, and the end of a wait are no failures of the log. An append that was accepted fails only with the
 * error that poisons the log: it counts as its cause where that is known, as a read-only file system is. Returns
 * whether it was counted. */
bool twl_counters_add_failure(struct counters *counters, int error, bool was_accepted);

/* Copies the counters for other processes; by the keeper's thread. Stores only what has changed. */
void twl_counters_tell(const struct counters *counters, struct statistics *statistics);

/* Each fills in what it has of it. */
void twl_counters_count(const struct counters *counters, struct twinlog_stat *ret_stat);
void twl_statistics_count(const struct statistics *statistics, struct twinlog_stat *ret_stat);
void twl_statistics_time(const struct statistics *statistics, struct twinlog_timings *ret_timings);

#endif

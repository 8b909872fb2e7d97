/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a whole, over any directory that it is given: options, opening, what repair needs, watching. */
#ifndef TWL_LOG_H
#define TWL_LOG_H

#include "commit/commit.h"
#include "io/io.h"
#include "read/reader.h"
#include "twinlog_admin.h"

/* Fills in the defaults. -EINVAL: the caller's report says which option is wrong. */
int twl_options_normalise(const struct twinlog_options *options, struct twinlog_options *ret_options);

/* Is this error the limit on the size of files that this process has (RLIMIT_FSIZE)? The file system has one, too. */
bool twl_log_is_limited(int error);
/* "cannot ..." because of it. `segment_bytes`: of the segment that it forbids; 0 = another file. */
void twl_log_report_limit(struct twinlog_report *ret_report, const char *doing, uint64_t segment_bytes);

/* As twinlog_open(), for one I/O path. Owns `io` from here on, also on failure. */
int twl_log_open(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log);

/* Sets what twinlog_stat() says of why the log has its I/O path, which is the `io` of its options. */
void twl_log_set_io_reason(struct twinlog *log, const char *reason);

/* For repair. The first record of a log without records will be `next_lsn`. -EOVERFLOW if that leaves too few LSNs. */
int twl_log_begin_at(struct twinlog *log, uint64_t next_lsn);
/* Accepts a record as it is, without waiting for the disk. */
int twl_log_put(struct twinlog *log, enum record_kind kind, const struct twinlog_entry *entry,
                uint64_t *ret_lsn);

/* Do the options ask for anything, and only for what there is? */
bool twl_trim_is_valid(const struct twinlog_trim_options *options);
/* What twinlog_trim() would do to the log in the directory of `io`, of which records up to `durable_lsn` may go. */
int twl_trim_plan(struct io *io, const struct twinlog_trim_options *options, uint64_t durable_lsn,
                  struct twinlog_trim_result *ret_result);

/* As twinlog_watch(). Owns `io` from here on, also on failure. */
int twl_ask_trim(struct io *io, const struct twinlog_trim_options *options, int timeout_ms,
                 uint64_t *ret_first_lsn);
int twl_watch(struct io *io, struct twinlog_stat *ret_stat, struct twinlog_timings *ret_timings);

/* As twinlog_consumer_open(). Owns `io` from here on, also on failure. `name` and the options were checked. */
int twl_consumer_open(struct io *io, const char *name, const struct twinlog_consumer_options *options,
                      struct twinlog_consumer **ret_consumer);

#endif

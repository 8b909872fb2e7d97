/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of the public interface, over any directory that it is given. */
#ifndef TWL_READER_H
#define TWL_READER_H

#include "control/shared_page.h"
#include "io/io.h"
#include "set/segment_set.h"
#include "twinlog.h"

#define READER_FLAGS ((uint32_t)(TWINLOG_READER_MMAP | TWINLOG_READER_DURABLE))

/* For a log of another process, or one without a writer. Owns `io` from here on, also on failure. */
int twl_reader_open(struct io *io, const struct twinlog_reader_options *options,
                    struct twinlog_reader **ret_reader);

/* Reads that record: 0. -ENOENT: it is a filler. -ERANGE: it is behind the newest one that this reader may return.
 * Other errors as for twinlog_reader_next(). The reader has no other range from then on. */
int twl_reader_get(struct twinlog_reader *reader, uint64_t lsn, struct twinlog_record *ret_record);

/* For a consumer. Goes behind `lsn`, or behind the newest record if the log ends before; *ret_lsn is where. The reader
 * reports if the records up to there are truncated later, as if it had returned them. `is_new`: the reader was made
 * after `lsn` was known, so it needs no other look at the segments. */
int twl_reader_resume(struct twinlog_reader *reader, uint64_t lsn, bool is_new, uint64_t *ret_lsn);
/* After TWINLOG_ETRUNCATED or TWINLOG_ETRIMMED: returns and reports it again, as the log is now, and goes on with the
 * record that the report names; *ret_lsn is the one before. */
int twl_reader_pass_gap(struct twinlog_reader *reader, uint64_t *ret_lsn);
/* TWINLOG_ETRUNCATED or TWINLOG_ETRIMMED if that is what the next move will return. Looks at the log as it is now. */
int twl_reader_check(struct twinlog_reader *reader);

/* For the writer's process: `io` and `shared` belong to the writer and outlive the reader. */
struct reader_source {
    struct io *io;
    struct shared_page *shared;
    /* Copies the segments that are started, oldest first, with first_lsn. Any thread may call it, but not
     * after a fork. */
    int (*set)(void *context, struct segment_set *ret_set);
    void *context;
};
int twl_reader_attach(const struct reader_source *source, const struct twinlog_reader_options *options,
                      struct twinlog_reader **ret_reader);

/* The reader is counted in `readers`, which must outlive it, and takes itself out when it is closed. */
void twl_reader_is_counted(struct twinlog_reader *reader, _Atomic uint32_t *readers);

#endif

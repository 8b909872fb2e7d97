/* SPDX-License-Identifier: Apache-2.0 */
/* One segment file: its name, its birth, its header. And the set of them that makes a log. */
#ifndef TWL_SEGMENT_H
#define TWL_SEGMENT_H

#include "format/format.h"
#include "io/io.h"
#include "twinlog.h"

#define SEGMENT_NAME_BYTES 32u

struct segment {
    struct io_file *file;
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    uint32_t seed;     /* of its group headers */
    uint64_t data_end; /* groups end here at the latest */
    uint64_t file_bytes;
};

/* "0000000000000001.twl" for 1. */
void twl_segment_name(uint64_t number, char ret_name[SEGMENT_NAME_BYTES]);
bool twl_segment_name_is_ours(const char *name);
bool twl_segment_name_is_temporary(const char *name);

/* What a new segment is made of; the rest of its header is chosen here. */
struct segment_plan {
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t sequence;
    uint64_t bytes;
    uint64_t after_lsn;
    uint32_t epoch;
    uint32_t max_group_bytes;
    unsigned open_flags; /* IO_DIRECT or 0 */
};

/* Locks, trying again for wait_ms: a dead writer's last write may still be in flight, and its lock goes
 * when that has landed (I9). -EBUSY when the time is over. */
int twl_lock_patiently(struct io_file *file, unsigned wait_ms);

/* Makes a full-size, zero-written, locked segment under its final name. On return it is durable with
 * its directory entry; a crash at any moment leaves a temporary name at most. */
int twl_segment_create(struct io *io, const struct segment_plan *plan, struct segment *ret_segment);

/* Opens a file of the log. *ret_state tells what the header is; unless it is HEADER_VALID only the
 * file and the name are filled in. A file too short for a header is HEADER_FOREIGN. With lock_wait_ms > 0
 * it is locked before it is read, so that a dead writer's last write has landed; -EBUSY when that takes
 * longer. */
int twl_segment_open(struct io *io, const char *name, unsigned open_flags, unsigned lock_wait_ms,
                     struct segment *ret_segment, enum header_state *ret_state);
/* Writes the blocks that hold [from, to) again, unchanged; not durable before a sync. */
int twl_segment_rewrite(const struct segment *segment, uint64_t from, uint64_t to);

/* For reading, where the header is known to be valid: TWINLOG_ECORRUPT if it no longer is. */
int twl_segment_open_valid(struct io *io, const char *name, struct segment *ret_segment);
void twl_segment_close(struct segment *segment); /* twice is harmless */

/* ---- the set ----------------------------------------------------------------------------------- */

struct segment_entry {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    uint64_t first_lsn; /* of its first group; 0 = no group begins it: a spare, or torn */
};

struct segment_set {
    struct segment_entry *entries; /* by sequence, without gaps */
    size_t count;
};

struct segment_set_options {
    unsigned open_flags;
    unsigned lock_wait_ms; /* as for twl_segment_open() */
    bool remove_temporaries;
};

/* Reads the header and the first group of every segment. A gap, a header that does not check, a file
 * of another log: TWINLOG_ECORRUPT, TWINLOG_EFOREIGN or TWINLOG_EVERSION, described in the report. */
int twl_segment_set_load(struct io *io, const struct segment_set_options *options,
                         struct segment_set *ret_set, struct twinlog_report *ret_report);
void twl_segment_set_free(struct segment_set *set);

/* Index of the newest segment that has a group, -1 if none has. */
int64_t twl_segment_set_newest(const struct segment_set *set);

/* Fills in a report; `format` and what follows say it in words. */
void twl_report(struct twinlog_report *ret_report, enum twinlog_finding finding, enum twinlog_action action,
                int error, const char *format, ...) __attribute__((format(printf, 5, 6)));
void twl_report_place(struct twinlog_report *report, const char *file, uint64_t sequence, uint64_t offset,
                      uint64_t bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* One segment file: its name, its incarnations, its header and its footer. */
#ifndef TWL_SEGMENT_H
#define TWL_SEGMENT_H

#include "base/report.h"
#include "format/format.h"
#include "io/io.h"
#include "segment/index.h"
#include "twinlog.h"

#define SEGMENT_NAME_BYTES 32u
#define FIRST_SEGMENT_BYTES (512u * 1024) /* of a log's first one; each next one doubles, up to a limit */
/* Kept for marker groups behind the records, so that a log can be opened and closed on a full disk. */
#define SEGMENT_MARKER_BYTES (4u * BLOCK_BYTES)

#define DEAD_WRITER_WAIT_MS 30000u /* for the last writes of a writer that died */

struct segment {
    struct io_file *file;
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    uint32_t seed;      /* seed of its group headers */
    uint64_t data_end;  /* groups end here at the latest; the footer is here */
    uint64_t write_end; /* groups that are still to be written end here: data_end, or where the space ends */
    uint64_t file_bytes;
    uint64_t head_lsn;       /* records before it were removed, and need not check; 0 = all are kept */
    struct summary *summary; /* owned; NULL unless the segment is being written or will be */
};

/* "0000000000000001.twl" for 1. */
void twl_segment_name(uint64_t number, char ret_name[SEGMENT_NAME_BYTES]);
bool twl_segment_name_is_ours(const char *name);
bool twl_segment_name_is_temporary(const char *name);
uint64_t twl_segment_name_number(const char *name); /* the name must be ours */

/* What a new segment, or a new incarnation of one, is made of. The rest of its header is chosen by these functions. */
struct segment_plan {
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t number; /* number in the file's name, if a file is made */
    uint64_t sequence;
    uint64_t bytes;
    uint64_t after_lsn;
    uint32_t epoch;
    uint64_t start_lsn, previous; /* see struct segment_header; 0 for most */
    uint32_t start_chain;
    unsigned open_flags; /* IO_DIRECT or 0 */
    enum io_allocation allocation;
    bool is_mapped; /* with FEATURE_MAPPED */
    /* Of a file that several processes may make: the one before it, of which it gets the permissions, and the owner if
     * that can be given. NULL: it is as this process makes files. */
    struct io_file *predecessor;
};

/* Makes a full-size, locked segment under its final name, with a summary. On return the file and its
 * directory entry are durable; a crash before leaves at most a temporary name. After a failure
 * *ret_is_in_doubt (may be NULL) says that a crash may bring the segment back nevertheless. */
int twl_segment_create(struct io *io, const struct segment_plan *plan, struct segment *ret_segment,
                       bool *ret_is_in_doubt);

/* The second header, in a footer block without a footer. For segments without FEATURE_MAPPED: the others have it in the
 * block of the first one. */
int twl_segment_write_second_header(struct io_file *file, const struct segment_header *header);

/* The same where several processes make the segment at once: -EEXIST if another process was faster, and nothing has
 * happened. The segment stays locked, shared: another process that takes its temporary name for one of a dead process
 * would else have it exclusively for a moment, when it is to be mapped. Its name is not durable yet, but all names that
 * existed before are. */
int twl_segment_create_first_of_all(struct io *io, const struct segment_plan *plan,
                                    struct segment *ret_segment);
/* Removes the files that processes left that died while they made a segment. Other processes may be making theirs. */
void twl_segment_remove_dead(struct io *io);
/* For a caller that is about to make one so: -ENOTSUP if this file can't have a second name here. */
int twl_segment_check_links(struct io *io, const char *name);

/* Gives a retired file, or a spare without groups, a new incarnation: opens and locks it, and overwrites
 * the header; durable on return (I8). The header is one sector, so a crash leaves the old incarnation or
 * the new one. -EBUSY: the file is mapped by a process, has a second name, or shares blocks with a clone:
 * then it must not be written, only removed. */
int twl_segment_recycle(struct io *io, const char *name, const struct segment_plan *plan,
                        struct segment *ret_segment, bool *ret_is_in_doubt);

/* Opens a file of the log. *ret_state tells what the header is; unless it is HEADER_VALID, only the file
 * and the name are filled in; if ret_state is NULL, TWINLOG_ECORRUPT is returned instead. A file too short for
 * a header is HEADER_FOREIGN. With lock_timeout_ms > 0 the file is locked before it is read, so that a dead
 * writer's last write has landed; -EBUSY if that takes longer. */
int twl_segment_open(struct io *io, const char *name, unsigned open_flags, unsigned lock_timeout_ms,
                     struct segment *ret_segment, enum header_state *ret_state);
/* The same with a file that is open; a failure closes it. */
int twl_segment_take(struct io_file *file, const char *name, unsigned lock_timeout_ms,
                     struct segment *ret_segment, enum header_state *ret_state);

/* An empty one. 0 or -ENOMEM. */
int twl_segment_give_summary(struct segment *segment);

/* Writes index and footer, from segment->summary, to the end of the size that the header gives; durable on return.
 * `max_time_so_far_ns` is the newest time of a record in any earlier segment; INT64_MAX = not known. */
int twl_segment_seal(const struct segment *segment, int64_t max_time_so_far_ns,
                     struct segment_footer *ret_footer);
/* The same for a segment that no process writes. The file of a mapped one ends behind its groups then, with index and
 * footer, so that it is as long as what is in it; unless a process that reads it has all of it mapped. */
int twl_segment_seal_and_cut(struct segment *segment, int64_t max_time_so_far_ns,
                             struct segment_footer *ret_footer);
/* Where the footer is, if there is one: in the last block of the file, or of the size in the header. */
uint64_t twl_segment_footer_offset(const struct segment *segment);
/* Reads the footer: 1. 0 = there is none, or it is not valid. */
int twl_segment_read_footer(const struct segment *segment, struct segment_footer *ret_footer);
/* Removes the footer, if there is one, of a segment that is written again because a crash took what came behind it.
 * Durable on return. */
int twl_segment_unseal(struct segment *segment);

/* Does the page cache show only zeros there, within one block? After a failed sync it may show what the disk lacks, as
 * long as a process has the page mapped, and so do reads of processes that do not read from the disk. */
int twl_segment_look_into_cache(const struct segment *segment, uint64_t from, uint64_t to, bool *ret_is_zero);

/* How long a file is that has groups up to `end` and room for marker groups. */
uint64_t twl_segment_end_with_markers(const struct segment *segment, uint64_t end);

/* For a segment with FEATURE_MAPPED that has no groups from `end` on: gives back the space behind it, except
 * for marker groups. While another process maps the file, it keeps its length. The caller syncs. */
int twl_segment_truncate(struct segment *segment, uint64_t end);
/* For a segment like that which is to be written: reserves its space, all of it if `is_whole`. On a full disk, or
 * without `is_whole`, only what marker groups need, or as much of that as there is; the rest is given back. Sets
 * write_end. The caller syncs. */
int twl_segment_reserve(struct segment *segment, uint64_t end, bool is_whole);

/* Opens for reading. TWINLOG_ECORRUPT if the header is not valid. */
int twl_segment_open_valid(struct io *io, const char *name, struct segment *ret_segment);
static inline bool twl_is_same_incarnation(const struct segment_header *a, const struct segment_header *b)
{
    return a->segment_id == b->segment_id && a->sequence == b->sequence;
}
/* Is the file still, or again, the incarnation of that header? -EAGAIN: no. While it is locked (IO_LOCK_USE), no
 * process overwrites its header. */
int twl_segment_check_incarnation(const struct segment *segment, const struct segment_header *header);
void twl_segment_close(struct segment *segment); /* may be called twice */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The set of segment files that makes a log, as found on disk. */
#ifndef TWL_SEGMENT_SET_H
#define TWL_SEGMENT_SET_H

#include "control/shared_page.h"
#include "control/state.h"
#include "walk/segment_iter.h"

/* In the order of the set. */
enum segment_role {
    SEGMENT_STARTED,
    SEGMENT_SPARE,
    SEGMENT_RETIRED,
};

struct segment_entry {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    uint64_t file_bytes;    /* see segment_entry_bytes() */
    uint64_t head_lsn;      /* the head of the log, if it is in this segment; else 0 */
    enum segment_role role; /* when it was loaded */
    bool has_second_header; /* `header` is the second one, because the first one is not that of the file */
    bool has_both_headers; /* they say the same, in different blocks; only known where faults are collected */

    /* Valid after twl_segment_look(): */
    bool is_known;
    uint64_t first_lsn; /* the fixed start; else of the first group; else of the footer; 0 = not started */
    struct group_header first_group; /* if it was read, and checks; else all zero */
    bool is_sealed;
    struct segment_footer footer; /* if it is sealed */
};

/* Of its file that count. That of a mapped segment may be shorter than its header says, and any may be longer. */
static inline uint64_t segment_entry_bytes(const struct segment_entry *entry)
{
    return min_u64(entry->header.bytes, entry->file_bytes);
}

struct set_fault {
    struct twinlog_report report;
    bool may_hide_records; /* records may be lost, and no walk through what is there tells */
};

struct segment_set {
    struct segment_entry *entries;
    size_t started;      /* entries[0 .. started) are the log, oldest first; each continues the last */
    size_t spares;       /* then the segments without a group, by sequence, to be used next */
    size_t retired;      /* then the segments that were trimmed or truncated; their contents do not count */
    uint64_t first_lsn;  /* oldest LSN that is kept, or the first one to come */
    uint64_t passed_lsn; /* a cursor proves that everything up to here was durable; 0 = none does */
    uint32_t truncation_epoch; /* the log was last truncated, or reset, at the end of this epoch; 0 = never */
    uint64_t max_number;       /* of the file names; 0 = there are none */
    uint64_t max_sequence;
    bool is_state_lost;       /* there should be a state file, and there is no usable one */
    struct set_fault *faults; /* if they are collected; else the first one is an error */
    size_t fault_count;
    struct note note; /* set after loading; none: the end is looked for from the segment's start */
};

static inline size_t segment_set_files(const struct segment_set *set)
{
    return set->started + set->spares + set->retired;
}

/* A log with more can't be opened. A few are reserved for processes that open the log. */
#define MOST_SEGMENTS (1u << 20)
#define MOST_SEGMENTS_TO_MAKE (MOST_SEGMENTS - 64)

enum segment_set_use {
    SET_FOR_READING,
    SET_FOR_CHECKING, /* faults of the set are collected; second headers count; the path may have gaps */
    SET_FOR_WRITING,  /* by the only writer: removes temporary files, and waits for writes of a dead writer */
};

/* Sequence of the segment that it continues; 0 = none. */
static inline uint64_t twl_sequence_before(const struct segment_header *header)
{
    return header->start_lsn > 0 ? header->previous : header->sequence - 1;
}

void twl_segment_set_free(struct segment_set *set);

/* Loads the state file, then the header of every segment and the first group of the newest. Tries again if a trim came
 * in between. An empty directory is no error here. Without a state file *ret_state is empty (generation 0). ret_state
 * and ret_report may be NULL. */
int twl_segment_set_open(struct io *io, enum segment_set_use use, struct state *ret_state,
                         struct segment_set *ret_set, struct twinlog_report *ret_report);

/* May what looks like such a fault be a change of the log that is going on? */
bool twl_set_may_be_moving(int error);

/* For reading, as far as the file goes. -ENOENT: it is gone, or has another incarnation by now. TWINLOG_ECORRUPT: its
 * header does not check. */
int twl_segment_open_entry(struct io *io, const struct segment_entry *entry, struct segment *ret_segment);

/* Fills in the fields that is_known covers, unless it is set. Errors as for twl_segment_open_entry(). */
int twl_segment_look(struct io *io, struct segment_entry *entry);
/* All zero if it does not check. */
int twl_segment_first_group(struct io *io, const struct segment_entry *entry, struct group_header *ret_group);
/* All groups of its incarnation, in whatever order of the log. */
int twl_segment_find_groups(struct io *io, const struct segment_entry *entry,
                            struct later_groups *ret_groups);
/* As twl_segment_look(), but a file that is gone or does not check is no error: nothing is known of it then. */
int twl_segment_try_look(struct io *io, struct segment_entry *entry);

/* The LSN that was durable before entries[index] was made, in the epoch of its header; 0 = none, or it may have been
 * truncated since. */
uint64_t twl_segment_set_promise(const struct segment_set *set, size_t index);
/* The newest LSN that later segments promise, spares included. */
uint64_t twl_segment_set_promise_behind(const struct segment_set *set, size_t index);

/* A later segment is fixed to start there: what entries[index] holds of that LSN is dead. UINT64_MAX: none is. */
uint64_t twl_segment_set_bound(const struct segment_set *set, size_t index);

/* The records up to `lsn`, the last of them in that segment or an older one: from which LSN on are they truncated? 0 =
 * none is; 1 = where the truncation began is not known, because its segment may be trimmed by now. */
uint64_t twl_segment_set_truncation(const struct segment_set *set, uint64_t lsn, uint64_t sequence);

/* The started entry that holds `lsn`, or would hold it. Looks at O(log n) entries and skips those of which
 * nothing is known. Negative: an error. */
int64_t twl_segment_set_find(struct io *io, struct segment_set *set, uint64_t lsn);
/* The first started entry that has, or has before it, a record of `time_ns` or later; the newest entry if none
 * is known to have one. */
int64_t twl_segment_set_find_time(struct io *io, struct segment_set *set, int64_t time_ns);

/* ---- the second header, for verify and repair: it was durable before the first group, and does not change ---- */

/* 1; 0 = there is none that checks and fits the file. */
int twl_second_header_read(struct io *io, const char *name, struct segment_header *ret_header);
/* Was a group, or a footer, written under it? 1 = yes. Not where a crash came between the two new headers of a recycled
 * file. */
int twl_second_header_is_used(struct io *io, const struct segment_entry *entry);
/* For a file without any header: the LSNs of records of this log that its groups lead to; 0 = none. */
int twl_second_header_find_lost(struct io *io, const char *name, const uint8_t log_id[LOG_ID_BYTES],
                                uint64_t *ret_first_lsn, uint64_t *ret_last_lsn);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The set of segment files that makes a log, as it is found on disk. */
#ifndef TWL_SEGMENT_SET_H
#define TWL_SEGMENT_SET_H

#include "segment/segment.h"
#include "segment/state.h"

struct segment_entry {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    uint64_t file_bytes;

    /* after twl_segment_look() */
    bool is_known;
    uint64_t first_lsn; /* the fixed start, or as the first group, or else the footer says; 0 = not begun */
    bool is_sealed;
    struct segment_footer footer; /* if it is sealed */
};

struct segment_set {
    struct segment_entry *entries;
    size_t begun;       /* entries[0 .. begun) make the log, oldest first: each continues the one before it */
    size_t spares;      /* then so many without a group, by sequence, to be used next */
    size_t retired;     /* then so many that were trimmed or cut off: nothing in them counts */
    uint64_t first_lsn; /* oldest LSN that is kept, or the one that comes first */
    uint64_t passed_lsn; /* a cursor says that everything up to here was durable; 0 = none does */
    uint32_t cut_epoch;  /* the log was last cut, or reset, at the end of this epoch; 0 = never */
    uint64_t max_number; /* of the names, 0 = there are none */
    uint64_t max_sequence;
    bool is_managed; /* a header has FEATURE_MANAGED, so that there must be a state file */
};

/* Names of segment files, in their order: the directory has none that anybody could rely on. */
struct segment_names {
    char (*names)[SEGMENT_NAME_BYTES];
    size_t count, room;
};
/* With more of them no log can be opened, and nobody makes more; a few are left for those who open it. */
#define MOST_SEGMENTS (1u << 20)
#define MOST_SEGMENTS_TO_MAKE (MOST_SEGMENTS - 64)
/* -EMFILE: there are more. Free the names. */
int twl_segment_names(struct io *io, struct segment_names *ret_names);

struct segment_set_options {
    unsigned open_flags;
    unsigned lock_wait_ms; /* > 0: lock those that a dead writer may still write, and let go of them again */
    bool remove_temporaries;
    uint64_t first_sequence, first_lsn; /* from the state file; 0 and 0 where there is none */
    uint64_t passed_lsn;                /* from there as well: the cursor that is furthest ahead, */
    uint32_t passed_epoch; /* and an epoch in which its record was durable; 0 = it may not have been */
};

/* Reads the header of every segment, and the first group of the newest. A gap, a header that does not check, a
 * file that was cut, a file of another log: TWINLOG_ECORRUPT, TWINLOG_EFOREIGN or TWINLOG_EVERSION, described
 * in the report. Retired files are not looked at any closer. An empty set is no error here. */
int twl_segment_set_load(struct io *io, const struct segment_set_options *options,
                         struct segment_set *ret_set, struct twinlog_report *ret_report);
void twl_segment_set_free(struct segment_set *set);

/* What everybody begins with: the state file, then the set, its front taken from there. Again when a trim came
 * in between. Without a state file *ret_state is empty (generation 0), which is damage if the set is managed
 * (TWINLOG_FOUND_BAD_STATE). ret_state may be NULL. */
int twl_segment_set_open(struct io *io, const struct segment_set_options *options, struct state *ret_state,
                         struct segment_set *ret_set, struct twinlog_report *ret_report);

/* Fills in what is_known stands for, if it is not. TWINLOG_ECORRUPT: the file has another life meanwhile. */
int twl_segment_look(struct io *io, struct segment_entry *entry);
/* The same, but a file that is gone or does not check is no error: nothing is known of it then. */
int twl_segment_try_look(struct io *io, struct segment_entry *entry);

/* What the header of entries[index] says was durable before it was made, 0 = nothing. It was so in the epoch that is in
 * there, too; if the log was cut in that epoch or later, it may be what was cut off. */
uint64_t twl_segment_set_promise(const struct segment_set *set, size_t index);

/* Records of entries[index] end before this LSN, whatever it holds: a later segment is fixed to start there.
 * UINT64_MAX if none is. */
uint64_t twl_segment_set_bound(const struct segment_set *set, size_t index);

/* The begun entry that holds `lsn`, or where it would be: looks at O(log n) of them, and passes over those of which
 * nothing is known. Negative: an error. */
int64_t twl_segment_set_find(struct io *io, struct segment_set *set, uint64_t lsn);
/* The first begun entry whose records up to its end include one of `time_ns` or later; the newest one if none
 * is known to. */
int64_t twl_segment_set_find_time(struct io *io, struct segment_set *set, int64_t time_ns);

#endif

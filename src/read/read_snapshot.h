/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read snapshot: from which LSN to which a reader may return records, in which segments, and whether that
 * has changed.
 *
 * Sources of the LSNs:
 *  - attached reader: the page of the writer in this process;
 *  - live writer in another process: the same page, shared; or, where the file system can't share memory, the
 *    newest durable marker in the log itself;
 *  - live writer that writes through a mapping: additionally every complete record that has only complete
 *    records before it, unless only durable ones are wanted;
 *  - no writer, or a writer that is opening the log: what recovery finds sound, made durable by a sync before
 *    it is returned. A writer that comes later publishes in its page.
 */
#ifndef TWL_READ_SNAPSHOT_H
#define TWL_READ_SNAPSHOT_H

#include "control/shared_page.h"
#include "read/reader.h"
#include "set/segment_set.h"
#include "walk/segment_iter.h"

struct read_snapshot {
    struct io *io;                 /* [const] */
    struct shared_page *shared;    /* [const] the writer's, or `watched` */
    struct shared_page watched;    /* detached: another process's */
    struct reader_source source;   /* [const] attached; else .set is NULL */
    struct twinlog_report *report; /* [const] filled in with every error */
    bool is_durable;               /* [const] nothing above the durable LSN, also of a mapped log */

    uint64_t first_lsn;     /* oldest LSN that is kept, or the first one to come */
    uint64_t limit_lsn;     /* newest LSN that may be returned */
    struct segment_set set; /* the segments that hold them */
    uint32_t generation;    /* of the set: changes whenever it is loaded; 0 = not loaded yet */
    bool is_known;          /* the limit was found and belongs to this set */
    /* Recovery's report if it found damage. Then the end of the log is not known, and the limit is the
     * newest LSN that is known to be lost, or the one in front of it. .error is 0 otherwise. */
    struct twinlog_report damage;

    uint32_t page_sequence;       /* sequence of the page, read before the rest of the page */
    uint32_t sound_page_sequence; /* when the limit was last found in the files, if there is a page */
    uint32_t epoch;               /* of the page, in which the set is true; 0 = the page did not count */
    uint32_t ignored_epoch;       /* epoch that a dead writer has left in the page */
    bool follows_markers;         /* there is a writer, but no page */
    bool passes_claims;           /* there was no writer: claims are those of a dead writer */
    size_t from_disk; /* index of the first segment that a dead writer has left open; SIZE_MAX = none */

    /* Beside a writer that writes through a mapping: a walk that goes as far as records are complete. */
    struct segment_iter tail;
    struct segment tail_segment; /* open if it has a file */
    size_t tail_index;           /* its index in the set of `tail_generation` */
    uint32_t tail_generation;
};

/* Reports that the log cannot be read, and returns the error. */
int twl_read_snapshot_fail(const struct read_snapshot *snapshot, int error);

/* Loads everything once. `snapshot` must not be moved afterwards. On failure there is nothing to close. */
int twl_read_snapshot_open(struct read_snapshot *snapshot, struct io *io, uint32_t flags,
                           struct twinlog_report *report);
void twl_read_snapshot_attach(struct read_snapshot *snapshot, const struct reader_source *source,
                              uint32_t flags, struct twinlog_report *report);
void twl_read_snapshot_close(struct read_snapshot *snapshot);

/* Was something published since the last look, or did that look fail? One load. */
static inline bool twl_read_snapshot_is_old(const struct read_snapshot *snapshot)
{
    const _Atomic uint32_t *sequence = page_sequence_word(snapshot->shared);
    return !snapshot->is_known ||
           (sequence && atomic_load_explicit(sequence, memory_order_acquire) != snapshot->page_sequence);
}

/* Are there, or may there come, records that the writer does not announce? */
static inline bool twl_read_snapshot_has_tail(const struct read_snapshot *snapshot)
{
    return !snapshot->is_durable && twl_page_is_mapped(snapshot->shared);
}

/* Brings the snapshot up to date. Loads the set only if there is another writer, or if the writer has
 * truncated the log. */
int twl_read_snapshot_look(struct read_snapshot *snapshot);
/* As twl_read_snapshot_look(), but believes a page only if its writer still lives, for which it asks the kernel: one
 * that was killed has published nothing of that, and the files may have more than its page says. */
int twl_read_snapshot_look_for_writer(struct read_snapshot *snapshot);
/* As twl_read_snapshot_look_for_writer(), for a caller that asks where the log ends: while a writer is opening the
 * log, an older snapshot may have less than other callers were told. */
int twl_read_snapshot_find_end(struct read_snapshot *snapshot);
/* As twl_read_snapshot_look(), but always loads the set. */
int twl_read_snapshot_reload(struct read_snapshot *snapshot);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments prepared ahead, so that rolling costs the commit path nothing.
 *
 * A helper thread is started when the first one is wanted and lives until the pool is destroyed. Where
 * there are no threads (the simulated disk) a segment is made when it is taken.
 */
#ifndef TWL_SPARES_H
#define TWL_SPARES_H

#include "segment/segment.h"

struct spares;

struct spares_config {
    struct io *io;
    struct segment_plan plan; /* sequence and bytes of the next segment to prepare */
    uint64_t max_bytes;       /* segments double up to here */
};

int twl_spares_create(const struct spares_config *config, struct spares **ret_spares);
/* Ends the thread; closes what was not taken and leaves it on disk for the next opening. `is_forked`: in a
 * child of the process that created it, where there is no thread to end. */
void twl_spares_destroy(struct spares *spares, bool is_forked);

/* A prepared segment found at open; in the order of their sequence, before anything else is asked. False
 * when the pool is full: the caller keeps the segment, whose file will be replaced in its turn. */
bool twl_spares_adopt(struct spares *spares, const struct segment *segment);

/* Asks for `count` ready segments, all of the largest size if `is_large`; does not wait. The LSN and
 * epoch go into their headers. */
void twl_spares_want(struct spares *spares, uint32_t count, bool is_large, uint64_t after_lsn,
                     uint32_t epoch);

/* The next segment, with room for min_bytes of groups. Waits for one that is being prepared, makes one
 * if need be; *ret_waited tells. */
int twl_spares_take(struct spares *spares, uint64_t min_bytes, struct segment *ret_segment, bool *ret_waited);

struct spares_count {
    uint32_t ready;
    uint64_t made_bytes; /* file bytes of all segments made since it was created */
};
void twl_spares_count(struct spares *spares, struct spares_count *ret_count);

#endif

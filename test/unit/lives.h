/* SPDX-License-Identifier: Apache-2.0 */
/* Logs on a simulated disk, what a crash leaves of them and what opening finds; for recover, evidence and search. */
#ifndef TEST_UNIT_LIVES_H
#define TEST_UNIT_LIVES_H

#include "../sim/simdisk.h"
#include "check/check.h"
#include "hooked.h"
#include "keeper/keeper.h"
#include "log/handle.h"
#include "log/log.h"
#include "recover/recover.h"

#define BLOCK_RECORD_BYTES 4008u /* a group of one record of that size is a block */
#define FIRST_RECORD_BYTES (BLOCK_RECORD_BYTES - GROUP_HEADER_BYTES) /* behind the marker of the opening */

extern struct simdisk *disk;

enum shape {
    SHORT,    /* one segment */
    ROLLED,   /* several segments */
    RECYCLED, /* the same; the newest one is another incarnation of one that was trimmed */
    LARGE,    /* segments as large as they become, the newest is more than a window */
    SHAPES
};

/* Records that end where a block ends, a spare, and the end of its writer. */
void make_log(enum shape shape);
void remove_log(void);
void load_set(struct io *io, struct segment_set *set);

extern uint64_t read_bytes; /* by the newest open_and_count() */
/* Opens the log for writing and closes it. */
int open_and_count(struct simdisk *machine, const struct twinlog_options *options);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Logs of several segments, their copies, and the list of their files, for the suites copy and repair. */
#ifndef TEST_UNIT_COPIES_H
#define TEST_UNIT_COPIES_H

#include "../sim/rng.h"
#include "../sim/simdisk.h"
#include "check/check.h"
#include "control/state.h"
#include "format/checksum.h"
#include "gate.h"
#include "hooked.h"
#include "log/log.h"
#include "logdir.h"
#include "set/segment_set.h"

#define KIB UINT64_C(1024)

extern char copy_dir[320];
extern const unsigned char garbage[SEGMENT_HEADER_BYTES];

void make_place(void);
/* Calls what is meant for the log's own directory on another one. */
void in_copy(void (*check)(void));
struct twinlog_options small_segments(uint32_t flags);
struct twinlog *open_small(void);
struct twinlog *open_at(const char *dir);
void remove_copy(void);

extern struct tally copy_tally;

void take_tally(void);
/* Seven segments and a bit. */
void fill(struct twinlog *log, uint32_t from);
struct twinlog *open_filled(void);

struct listing {
    struct twinlog_segment list[64];
    unsigned count;
};

int keep_segment(void *context, const struct twinlog_segment *segment);
struct listing list_segments(void);
struct listing list_started(const char *dir); /* spares and retired ones left out */
/* As the file has it; 0 = there is none. */
uint64_t cursor_in_copy(const char *name);

extern char reference_dir[320]; /* the log as it was before it was damaged */

/* Three hundred records in several segments, head at 1, with a cursor and a value; and a copy to compare with. */
void make_damageable(void);
/* Where a record is in the file of its segment. */
off_t find_record(const char *path, uint32_t sequence, size_t *ret_size);
/* What a cursor has passed was not torn. */
void make_torn_tail(uint64_t consumed);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Damage, and what all that look at a log say of it; for the suites verdict and discarded. */
#ifndef TEST_UNIT_VERDICTS_H
#define TEST_UNIT_VERDICTS_H

#include "base/base.h"
#include "format/format.h"
#include "gate.h"
#include "io/io.h"
#include "logdir.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>

#define SMALL_SEGMENT 65536u
#define RECORDS 300u
#define PAYLOAD_BYTES 1000u
#define BATCH 4u /* the records from LSN 10 n + 1 on; the others are alone in their groups */

extern char sound_dir[320], repaired_dir[320];
extern struct twinlog_segment segments[32];
extern unsigned segment_count; /* those with records */
extern uint64_t first_lsn;     /* the head of the log */
extern uint64_t last_lsn;      /* that every answer must end with */

void make_payload(uint64_t lsn, unsigned char bytes[PAYLOAD_BYTES]);
int keep_sound_segment(void *context, const struct twinlog_segment *segment);
struct twinlog_options options_with(uint32_t flags);
/* Returns the LSN behind what was appended. */
uint64_t append_group(struct twinlog *log, uint64_t lsn);
void append_batch(struct twinlog *log, uint64_t lsn);
/* Without the writer's note, so that all of the newest segment is walked. */
void forget_note(void);
void put_sound_log(void);
void verdict_set_up(void);

enum what {
    NOTHING,
    HEADER,
    TEXT,
    FIRST_GROUP,
    RECORD,
    FOOTER,
    INDEX,
    SHORTER,
    MISSING,
    ONE_STATE,
    BOTH_STATES,
    NO_STATE,
    FOREIGN,
    SECOND_COPY
};

enum where {
    NEWEST,
    MIDDLE,
    OLDEST
};

/* The index in `segments`. */
unsigned segment_at(enum where where);

void flip(const char *path, off_t offset);
off_t find_bytes(const char *path, const void *bytes, size_t size);
/* A byte so far behind the beginning of its payload, or in front of it. */
void flip_near(const struct twinlog_segment *segment, uint64_t lsn, int distance);

#define IN_PAYLOAD 100
#define IN_RECORD_HEADER (-(int)RECORD_HEADER_BYTES + 4)
#define IN_GROUP_HEADER (-(int)RECORD_HEADER_BYTES - (int)GROUP_HEADER_BYTES + 20) /* of the first record */

void flip_record(const struct twinlog_segment *segment, uint64_t lsn);
void damage(enum what what, const struct twinlog_segment *segment);

struct told {
    struct twinlog_report list[64];
    unsigned count, errors;
};

int keep(void *context, const struct twinlog_report *report);

struct answers {
    int stat, read, read_outside, verify, open;
    uint64_t stat_lsn, read_lsn, read_outside_lsn, open_lsn; /* that the report names; 0 = none */
    uint64_t verified, lost;
    struct told found, losses;
};

int look(uint64_t *ret_lsn);
int read_from_outside(uint64_t *ret_lsn);
bool is_lost(const struct told *losses, uint64_t lsn);
/* Opening for writing comes last: it alone changes the log, if it takes it. */
void ask_all(struct answers *ret);
/* Also if it is told of the state file or of an index: these tell of no record. */
uint64_t first_verified_lsn(const struct told *found);

#define MUST(condition) ck_assert_msg(condition, "%s, segment %u: not so: %s", name, at, #condition)

/* Whatever the damage is. An LSN that opening names is the first one that is missed. */
void check_agreement(const char *name, unsigned at, const struct answers *said);

#endif

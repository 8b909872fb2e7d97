/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that say their LSN and the life they belong to, which is one more after each truncation, and readers of four
 * kinds that are asked for them: from outside or attached, each reading or mapping.
 *
 * Functions that return nothing, or a handle, assert, but for those that say "any thread".
 */
#ifndef TEST_UNIT_LIFE_RECORDS_H
#define TEST_UNIT_LIFE_RECORDS_H

#include "logdir.h"

#define SMALL_SEGMENT 65536u
#define PAYLOAD_ROOM 6000u
#define MANY 3000u

extern struct twinlog_report reader_report; /* of the reader that was opened last */

/* ---- records ----------------------------------------------------------------------------------- */

size_t make_life_payload(uint64_t lsn, uint32_t life, unsigned char bytes[PAYLOAD_ROOM]);
/* NULL if the record is what was appended in some life; else what is wrong. Any thread. */
const char *check_record(const struct twinlog_record *record, uint32_t *ret_life);
int put_one(struct twinlog *log, uint32_t life);
/* In groups of several. */
void put_many(struct twinlog *log, uint32_t life, unsigned count);
struct twinlog *open_life_log(void);
struct twinlog *make_life_log(unsigned count);

/* ---- readers ----------------------------------------------------------------------------------- */

struct reader_kind {
    const char *name;
    bool is_attached;
    uint32_t flags;
};
extern const struct reader_kind reader_kinds[4];
extern const struct reader_kind outside_kinds[2];
#define OUTSIDE (&outside_kinds[0])
#define OUTSIDE_MAPPING (&outside_kinds[1])
/* The kind from outside that maps if that one does. */
const struct reader_kind *kind_from_outside(const struct reader_kind *kind);

struct twinlog_reader *open_reader(struct twinlog *log, const struct reader_kind *kind, uint64_t from,
                                   uint64_t to);
/* The same, with a report of its own and the result. Any thread. */
int try_reader(struct twinlog *log, const struct reader_kind *kind,
               const struct twinlog_reader_options *options, struct twinlog_reader **ret_reader);
void expect_it(int result, const struct twinlog_record *record, uint64_t lsn, uint32_t life);
void expect_next(struct twinlog_reader *reader, uint64_t lsn, uint32_t life);
void expect_previous(struct twinlog_reader *reader, uint64_t lsn, uint32_t life);
/* Records `from` to `to`, and down from `from` to `to`. */
void expect_run(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life);
void expect_run_back(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life);
void expect_no_next(struct twinlog_reader *reader, int result);
void expect_no_previous(struct twinlog_reader *reader, int result);
/* What a cursor in a list of `last` records would do. */
void wander(struct twinlog_reader *reader, uint64_t last, unsigned steps);
void put_void(struct twinlog *log);
bool is_readable(int fd);
void expect_readable(int fd);

#endif

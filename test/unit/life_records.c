/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "life_records.h"
#include "suites.h"

#include "../sim/rng.h"
#include "log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

/* ---- records ----------------------------------------------------------------------------------- */

struct label {
    uint64_t lsn;
    uint32_t life, size;
};

size_t make_life_payload(uint64_t lsn, uint32_t life, unsigned char bytes[PAYLOAD_ROOM])
{
    struct rng rng = { lsn << 8 | life };
    const uint64_t room = rng_one_in(&rng, 40) ? PAYLOAD_ROOM : 200;
    const struct label label = { lsn, life,
                                 (uint32_t)(sizeof(label) + rng_below(&rng, room - sizeof(label))) };

    memcpy(bytes, &label, sizeof(label));
    memset(bytes + sizeof(label), (int)(lsn + life), label.size - sizeof(label));
    return label.size;
}

const char *check_record(const struct twinlog_record *record, uint32_t *ret_life)
{
    unsigned char expected[PAYLOAD_ROOM];
    struct label label;

    if (record->size < sizeof(label))
        return "too short";
    memcpy(&label, record->data, sizeof(label));
    *ret_life = label.life;
    if (label.lsn != record->lsn)
        return "another record's bytes";
    if (make_life_payload(label.lsn, label.life, expected) != record->size ||
        memcmp(expected, record->data, record->size) != 0)
        return "not what was appended";
    if ((uintptr_t)record->data % 8 != 0)
        return "not aligned";
    return NULL;
}

int put_one(struct twinlog *log, uint32_t life)
{
    unsigned char bytes[PAYLOAD_ROOM];
    uint64_t expected = twinlog_last_lsn(log) + 1, lsn = 0;
    int rc = twinlog_enqueue(log, bytes, make_life_payload(expected, life, bytes), &lsn);

    return rc == 0 && lsn != expected ? -EILSEQ : rc;
}

void put_many(struct twinlog *log, uint32_t life, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(put_one(log, life), 0);
        if (i % 13 == 12)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }

    ck_assert_int_eq(twinlog_sync(log), 0);
}

struct twinlog *open_life_log(void)
{
    return log_open(&LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT));
}

struct twinlog *make_life_log(unsigned count)
{
    struct twinlog *log = open_life_log();

    put_many(log, 0, count);
    return log;
}

/* ---- readers ----------------------------------------------------------------------------------- */

struct twinlog_report reader_report;

const struct reader_kind reader_kinds[4] = {
    { "from outside", false, 0 },
    { "from outside, mapping", false, TWINLOG_READER_MMAP },
    { "attached", true, 0 },
    { "attached, mapping", true, TWINLOG_READER_MMAP },
};

const struct reader_kind outside_kinds[2] = {
    { "from outside", false, 0 },
    { "from outside, mapping", false, TWINLOG_READER_MMAP },
};

const struct reader_kind *kind_from_outside(const struct reader_kind *kind)
{
    if (kind->flags & TWINLOG_READER_MMAP)
        return OUTSIDE_MAPPING;
    return OUTSIDE;
}

int try_reader(struct twinlog *log, const struct reader_kind *kind,
               const struct twinlog_reader_options *options, struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own = *options;

    own.flags = kind->flags;
    if (kind->is_attached)
        return twinlog_reader_attach(log, &own, ret_reader);
    return twinlog_reader_open(log_dir, &own, ret_reader);
}

struct twinlog_reader *open_reader(struct twinlog *log, const struct reader_kind *kind, uint64_t from,
                                   uint64_t to)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .from_lsn = from, .to_lsn = to, .ret_report = &reader_report);
    struct twinlog_reader *reader = NULL;

    memset(&reader_report, 0, sizeof(reader_report));
    ck_assert_int_eq(try_reader(log, kind, &options, &reader), 0);
    return reader;
}

void expect_it(int result, const struct twinlog_record *record, uint64_t lsn, uint32_t life)
{
    uint32_t found;

    ck_assert_msg(result == 1, "%s instead of record %" PRIu64 "; %s",
                  result ? twinlog_strerror(result) : "nothing", lsn, reader_report.text);
    ck_assert_uint_eq(record->lsn, lsn);
    ck_assert_pstr_eq(check_record(record, &found), NULL);
    ck_assert_uint_eq(found, life);
}

void expect_next(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    struct twinlog_record record;
    int result = twinlog_reader_next(reader, &record);

    expect_it(result, &record, lsn, life);
}

void expect_previous(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    struct twinlog_record record;
    int result = twinlog_reader_previous(reader, &record);

    expect_it(result, &record, lsn, life);
}

void expect_run(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life)
{
    for (uint64_t lsn = from; lsn <= to; lsn++)
        expect_next(reader, lsn, life);
}

void expect_run_back(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life)
{
    for (uint64_t lsn = from; lsn >= to; lsn--)
        expect_previous(reader, lsn, life);
}

void expect_no_next(struct twinlog_reader *reader, int result)
{
    struct twinlog_record record;

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(twinlog_reader_next(reader, &record), result);
}

void expect_no_previous(struct twinlog_reader *reader, int result)
{
    struct twinlog_record record;

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), result);
}

void wander(struct twinlog_reader *reader, uint64_t last, unsigned steps)
{
    struct rng rng = { test_seed() };
    uint64_t next = 1;

    for (unsigned i = 0; i < steps; i++) {
        switch (rng_below(&rng, 12)) {
        case 0:
            next = 1 + rng_below(&rng, last + 3);
            ck_assert_int_eq(twinlog_reader_seek(reader, next), 0);
            break;
        case 1:
            next = last + 1;
            ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
            break;
        case 2:
            next = 1;
            ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
            break;
        case 3: /* near */
            next = next > 20 ? next - rng_below(&rng, 20) : next;
            ck_assert_int_eq(twinlog_reader_seek(reader, next), 0);
            break;
        default:
            for (uint64_t run = rng_below(&rng, 30), back = i % 2; run > 0; run--) {
                if (back)
                    next = next > last + 1 ? last + 1 : next;
                if (back && next > 1)
                    expect_previous(reader, --next, 0);
                else if (back)
                    expect_no_previous(reader, 0);
                else if (next <= last)
                    expect_next(reader, next++, 0);
                else
                    expect_no_next(reader, 0);
            }
        }
    }
}

void put_void(struct twinlog *log)
{
    const struct twinlog_entry entry = { .time_ns = INT64_MAX };
    uint64_t lsn;

    ck_assert_int_eq(twl_log_put(log, RECORD_FILLER, &entry, &lsn), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
}

bool is_readable(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    int result = poll(&ready, 1, 0);

    ck_assert_int_ge(result, 0);
    return result > 0;
}

void expect_readable(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };

    ck_assert_int_eq(poll(&ready, 1, -1), 1);
    ck_assert_int_eq(ready.revents, POLLIN);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the suites of the mapped mode have in common: logs with small segments, in the mode that is tested. */
#ifndef TEST_UNIT_MAPPED_LIFE_H
#define TEST_UNIT_MAPPED_LIFE_H

#include "gate.h"
#include "logdir.h"
#include "members.h"
#include "suites.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

/* test_alone.c and test_alone_faults.c are the tests in the shared mode, by one process with no other beside it. */
#ifndef ALONE
#define ALONE 0
#endif
static const uint32_t tested_mode = ALONE ? TWINLOG_MODE_SHARED : TWINLOG_MODE_MAPPED;
/* Only some of each loop, for the second time and for sanitizers. */
#define FEW(some, all) (ALONE || HAS_SANITIZER ? (some) : (all))

static inline struct twinlog_options large(void)
{
    const struct twinlog_options options = LOG_OPTIONS(.mode = tested_mode);

    return options;
}

static inline struct twinlog *open_large(void)
{
    const struct twinlog_options options = large();

    return log_open(&options);
}

static inline struct twinlog_reader *open_reader(uint32_t flags)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = flags };
    struct twinlog_reader *reader;

    ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    return reader;
}

static inline void expect_rest(struct tally *tally, struct twinlog_reader *reader, uint64_t last_lsn)
{
    const char *wrong;
    const int64_t count = tally_rest(tally, reader, &wrong);

    ck_assert_msg(count >= 0, "record %" PRIu64 ": %s", tally->last_lsn + 1,
                  wrong ? wrong : twinlog_strerror((int)count));
    ck_assert_uint_eq(tally->last_lsn, last_lsn);
}

/* By every kind of reader, beside the writer. */
static inline void expect_live(struct twinlog *log, uint64_t last_lsn)
{
    for (int which = 0; which < LOG_READER_KINDS; which++) {
        struct twinlog_reader *reader = log_reader_of_kind(log, &log_reader_kinds[which]);
        struct tally tally = { 0 };
        uint64_t first, last;
        expect_rest(&tally, reader, last_lsn);
        ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
        ck_assert_uint_eq(first, last_lsn > 0 ? 1 : 0);
        ck_assert_uint_eq(last, last_lsn);
        twinlog_reader_close(reader);
    }
}

/* Beside a writer what is not durable is not verified. */
static inline void expect_count(uint64_t records, bool is_durable)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    uint64_t found;

    reader_expect_last(reader, 1, records);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &found), 0);
    ck_assert_uint_le(found, records);
    ck_assert(found == records || !is_durable);
}

static inline int append_on_terms(struct twinlog *log, uint32_t size, const struct twinlog_terms *terms,
                                  uint64_t *ret_lsn)
{
    static const unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = size };

    return twinlog_append_batch(log, &entry, 1, terms, ret_lsn);
}

static struct shared {
    _Atomic uint64_t acked; /* records */
    _Atomic int step;
} * shared;

static inline void set_up(void)
{
    gate_set_up();
    shared = shared_page();
}

/* ---- threads --------------------------------------------------------------------------------- */

static struct twinlog *threads_log;

struct worker {
    pthread_t thread;
    uint32_t writer, from, count;
    const struct log_reader_kind *kind; /* of a reader */
    uint64_t last_lsn;
    const char *wrong;
    int64_t result;
};

static inline void *append_many(void *argument)
{
    struct worker *worker = argument;
    uint64_t lsn, before = 0;

    for (uint32_t i = worker->from; i < worker->from + worker->count && worker->result == 0; i++) {
        worker->result = append_record(threads_log, worker->writer, i, &lsn);
        if (worker->result == 0 && lsn <= before)
            worker->result = -EILSEQ;
        before = lsn;
    }
    return NULL;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle. After one or more lives it looks at the log from outside, opens it, reads all of it and
 * compares every byte with what the writers noted:
 *   O1 every acknowledged record is there, byte for byte
 *   O2 what is there is a gap-free prefix of the order in which it was accepted
 *   O3 nothing that was never appended, nothing twice, nothing of an older generation
 *   O4 a record that was not acknowledged is wholly there or wholly absent
 *   O5 looking, reading, verifying and opening again give the same answer
 *   O6 what is appended now is there the next time, with all that was there before
 *   O8 what the witness was given is there
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE_WAIT_MS 20000u
#define NAME_OF_JUDGE UINT64_C(0xffffffff00000000)

struct owner { /* who has an LSN, by the writers' notes */
    const struct life *life;
    uint32_t writer;
    uint64_t sequence;
};

struct court {
    const char *dir;
    struct book *book;
    const struct shared *shared;
    unsigned lives;
    struct rng *rng;
    struct twinlog *log;
    uint64_t start[MAX_LIVES], end[MAX_LIVES]; /* a life's records are start + 1 ... end */
    struct owner *owner;                       /* of book->last + 1, ... */
    uint64_t taken[MAX_LIVES][MAX_WRITERS];    /* 1: its unnoted record was found */
    struct verdict verdict;
};

void choose_options(struct rng *rng, struct twinlog_options *options)
{
    static const uint64_t segment_bytes[] = { 64u << 10, 128u << 10, 512u << 10, 2u << 20 };
    const uint64_t largest_buffer = UINT64_C(1) << 20;
    uint64_t room;

    options->segment_bytes = segment_bytes[rng_below(rng, 4)];
    room = options->segment_bytes - 8192 < largest_buffer ? options->segment_bytes - 8192 : largest_buffer;
    options->buffer_bytes = (uint32_t)(16384 + rng_below(rng, (room - 16384) / 4096 + 1) * 4096);
    options->max_record_bytes = options->buffer_bytes - 8192;
    if (options->max_record_bytes > PAYLOAD_MAX_BYTES)
        options->max_record_bytes = PAYLOAD_MAX_BYTES;
    options->spare_segments = rng_one_in(rng, 3) ? (uint32_t)rng_below(rng, 3) : 0;
}

/* ---- from outside ------------------------------------------------------------------------------ */

static void check_known(const struct book *book, const struct twinlog_record *record)
{
    char text[128];

    if (payload_digest(record->data, record->size, record->time_ns) == book->digest[record->lsn])
        return;
    payload_describe(record->data, record->size, text, sizeof(text));
    violation("O1: record %" PRIu64 " is not what it was when it was read before; now it has %s", record->lsn,
              text);
}

/* Calls `each` for every record from LSN 1; returns the last one. */
static uint64_t read_all(struct court *court, struct twinlog *log,
                         void (*each)(struct court *court, const struct twinlog_record *record))
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t last = 0;
    int result;

    options.ret_report = &report;
    result = log ? twinlog_reader_attach(log, &options, &reader)
                 : twinlog_reader_open(court->dir, &options, &reader);
    if (result == -ENOENT && !log && !court->book->exists)
        return 0;
    if (result < 0)
        violation("a reader cannot be opened: %s; %s", twinlog_strerror(result), report.text);
    while ((result = twinlog_reader_next(reader, &record)) > 0) {
        if (record.lsn != last + 1)
            violation("O2: a reader returned record %" PRIu64 " after %" PRIu64, record.lsn, last);
        last = record.lsn;
        each(court, &record);
    }
    if (result < 0)
        violation("reading record %" PRIu64 " failed: %s; %s", last + 1, twinlog_strerror(result),
                  report.text);
    twinlog_reader_close(reader);
    return last;
}

static void only_known(struct court *court, const struct twinlog_record *record)
{
    if (record->lsn <= court->book->last)
        check_known(court->book, record);
}

static uint64_t verify_all(struct court *court)
{
    uint64_t records = 0;
    const int result = twinlog_verify(court->dir, NULL, &records);

    if (result == -ENOENT && !court->book->exists)
        return 0;
    if (result < 0)
        violation("verify: %s", twinlog_strerror(result));
    return records;
}

static uint64_t inspect(struct court *court, struct twinlog_inspection *ret_inspection)
{
    const int result = twinlog_inspect(court->dir, ret_inspection);

    if (result == -ENOENT && !court->book->exists)
        return 0;
    if (result < 0 || ret_inspection->report.error != 0)
        violation("inspect: %s; %s", twinlog_strerror(result), ret_inspection->report.text);
    if (ret_inspection->has_writer)
        violation("inspect: nobody writes the log, but it says so");
    return ret_inspection->last_lsn;
}

/* Each of them sees the same log, unless a dead writer's last write lands in between; then the later sees
 * more. */
static uint64_t look_from_outside(struct court *court)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const uint64_t inspected = inspect(court, &inspection);
    const uint64_t read = read_all(court, NULL, only_known);
    const uint64_t verified = verify_all(court);

    if (read < inspected || verified < read)
        violation("O5: inspect found %" PRIu64 " records, a reader after it %" PRIu64
                  ", verify after that %" PRIu64,
                  inspected, read, verified);
    return verified;
}

/* ---- the lives --------------------------------------------------------------------------------- */

static bool was_open(const struct life *life)
{
    return atomic_load(&life->opened_last) != NOT_OPEN;
}

/* Which LSNs belong to which life: its own opening tells where it began, the next one where it ended. */
static void bound_lives(struct court *court, uint64_t last)
{
    uint64_t end = last;

    for (unsigned i = court->lives; i-- > 0;) {
        const struct life *life = &court->shared->lives[i];

        court->end[i] = end;
        court->start[i] = was_open(life) ? atomic_load(&life->opened_last) : end;
        if (court->start[i] > end)
            violation("O1: life %u of the cycle began with %" PRIu64 " records, %" PRIu64 " are left of them",
                      i, court->start[i], end);
        end = court->start[i];
    }
    if (end != court->book->last)
        violation("O1, O6: the log had %" PRIu64 " records when it was closed, and %" PRIu64
                  " when it was opened again",
                  court->book->last, end);
}

static void own(struct court *court, uint64_t lsn, const struct owner *owner)
{
    struct owner *place = &court->owner[lsn - court->book->last - 1];

    if (place->life)
        violation("O3: LSN %" PRIu64 " was given to writer %" PRIu32 " and to writer %" PRIu32, lsn,
                  place->writer, owner->writer);
    *place = *owner;
}

static void take_notes(struct court *court, unsigned index, uint32_t writer)
{
    const struct life *life = &court->shared->lives[index];
    const struct notes *notes = &life->notes[writer];
    const uint64_t accepted = atomic_load(&notes->accepted), acked = atomic_load(&notes->acked);
    const uint64_t durable = atomic_load(&notes->durable);
    uint64_t before = court->start[index];

    for (uint64_t i = 0; i < accepted; i++) {
        const uint64_t lsn = notes->lsn[i];

        if (lsn <= before)
            violation("O2: writer %" PRIu32 " was given LSN %" PRIu64 " after %" PRIu64, writer, lsn, before);
        before = lsn;
        if (i < acked && lsn > court->end[index])
            violation("O1: record %" PRIu64 " of writer %" PRIu32
                      " in life %u was acknowledged as LSN %" PRIu64 ", but the log ends at %" PRIu64,
                      i, writer, index, lsn, court->end[index]);
        if (lsn <= court->end[index])
            own(court, lsn, &(struct owner){ life, writer, i });
    }
    if (durable > court->end[index])
        violation("O1: LSN %" PRIu64 " was durable in life %u, but the log ends at %" PRIu64, durable, index,
                  court->end[index]);
    court->verdict.acked += acked;
}

static bool is_record(const struct twinlog_record *record, const struct life *life, uint32_t writer,
                      uint64_t sequence)
{
    static unsigned char expected[PAYLOAD_MAX_BYTES];
    const struct payload payload = { .life = life->name,
                                     .sequence = sequence,
                                     .writer = writer,
                                     .max_bytes = life->options.max_record_bytes };

    if (record->size != payload_size(&payload))
        return false;
    payload_fill(&payload, expected);
    return record->size == 0 || memcmp(record->data, expected, record->size) == 0;
}

/* A record nobody noted: the writer was killed before it could. Each had one at most. */
static bool was_in_flight(struct court *court, unsigned index, const struct twinlog_record *record)
{
    const struct life *life = &court->shared->lives[index];

    for (uint32_t writer = 0; writer < life->writers; writer++) {
        const uint64_t sequence = atomic_load(&life->notes[writer].accepted);

        if (!court->taken[index][writer] && atomic_load(&life->notes[writer].begun) > sequence &&
            is_record(record, life, writer, sequence)) {
            court->taken[index][writer] = 1;
            return true;
        }
    }
    return false;
}

static void check_record(struct court *court, const struct twinlog_record *record)
{
    const struct owner *owner;
    unsigned index = 0;
    char text[128];

    if (record->lsn <= court->book->last) {
        check_known(court->book, record);
        return;
    }
    while (record->lsn > court->end[index])
        index++;
    owner = &court->owner[record->lsn - court->book->last - 1];
    payload_describe(record->data, record->size, text, sizeof(text));
    if (owner->life && !is_record(record, owner->life, owner->writer, owner->sequence))
        violation("O1, O4: record %" PRIu64 " should be %" PRIu64 " of writer %" PRIu32 " in life %" PRIx64
                  " but has %s",
                  record->lsn, owner->sequence, owner->writer, owner->life->name, text);
    if (!owner->life && !was_in_flight(court, index, record))
        violation("O3, O4: nobody appended record %" PRIu64 ", which has %s", record->lsn, text);
    court->book->digest[record->lsn] = payload_digest(record->data, record->size, record->time_ns);
}

static void check_lives(struct court *court)
{
    const uint64_t last = twinlog_last_lsn(court->log);

    if (last > SEEN_MAX)
        violation("the log has %" PRIu64 " records, too many for this test", last);
    if (twinlog_durable_lsn(court->log) != last)
        violation("the log was opened with %" PRIu64 " records, but %" PRIu64 " durable", last,
                  twinlog_durable_lsn(court->log));
    bound_lives(court, last);
    court->owner = calloc(last - court->book->last + 1, sizeof(*court->owner));
    if (!court->owner)
        violation("out of memory");
    for (unsigned i = 0; i < court->lives; i++)
        for (uint32_t writer = 0; writer < court->shared->lives[i].writers; writer++)
            take_notes(court, i, writer);
    if (read_all(court, rng_one_in(court->rng, 2) ? court->log : NULL, check_record) != last)
        violation("O1: the log has %" PRIu64 " records, a reader stopped before the last one", last);
    free(court->owner);
    court->verdict.unacked = last - court->book->last - court->verdict.acked;
    court->book->last = last;
    court->book->exists = true;
}

/* ---- opening, appending, closing --------------------------------------------------------------- */

static void open_log(struct court *court, bool is_at_once)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    int result;

    choose_options(court->rng, &options);
    options.lock_wait_ms = is_at_once ? AT_ONCE_WAIT_MS : 0;
    options.ret_report = &report;
    if (rng_one_in(court->rng, 2))
        options.io = TWINLOG_IO_FDATASYNC;
    result = twinlog_open(court->dir, &options, &court->log);
    if (result < 0)
        violation("the log cannot be opened: %s; %s", twinlog_strerror(result), report.text);
    court->verdict.finding = report.finding;
}

/* The judge's own records, the last of them only accepted: closing makes them durable. */
static void append_some(struct court *court)
{
    unsigned char record[4096];
    const uint64_t count = rng_below(court->rng, 20), enqueued = rng_below(court->rng, count + 1);

    for (uint64_t i = 0; i < count; i++) {
        const struct payload payload = { .life = NAME_OF_JUDGE, .sequence = i, .max_bytes = sizeof(record) };
        uint64_t lsn;
        int result;

        payload_fill(&payload, record);
        result = (i < enqueued ? twinlog_append : twinlog_enqueue)(court->log, record, payload_size(&payload),
                                                                   &lsn);
        if (result < 0 || lsn != court->book->last + i + 1)
            violation("O6: appending record %" PRIu64 " failed: %s", court->book->last + i + 1,
                      twinlog_strerror(result));
    }
}

static void expect_own(struct court *court, const struct twinlog_record *record)
{
    static unsigned char expected[4096];
    const struct payload payload = { .life = NAME_OF_JUDGE,
                                     .sequence = record->lsn - court->book->last - 1,
                                     .max_bytes = sizeof(expected) };

    if (record->lsn <= court->book->last) {
        check_known(court->book, record);
        return;
    }
    payload_fill(&payload, expected);
    if (record->size != payload_size(&payload) ||
        (record->size > 0 && memcmp(record->data, expected, record->size) != 0))
        violation("O6: record %" PRIu64 ", appended after recovery, is not what was appended", record->lsn);
    court->book->digest[record->lsn] = payload_digest(record->data, record->size, record->time_ns);
}

static void append_and_close(struct court *court)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    uint64_t last, inspected;
    int result;

    append_some(court);
    last = twinlog_last_lsn(court->log);
    result = twinlog_close(court->log);
    if (result < 0)
        violation("closing the log failed: %s", twinlog_strerror(result));
    if (read_all(court, NULL, expect_own) != last)
        violation("O6: the log was closed with %" PRIu64 " records, a reader finds other ones", last);
    court->book->last = last;
    inspected = inspect(court, &inspection);
    if (inspected != last || verify_all(court) != last)
        violation("O5: the log was closed with %" PRIu64 " records, inspect or verify find other ones", last);
    if (inspection.report.finding != TWINLOG_FOUND_CLEAN_CLOSE)
        violation("the log was closed, but inspect says: %s", inspection.report.text);
    court->verdict.last = last;
    court->verdict.file_bytes = inspection.file_bytes;
}

struct verdict judge(const char *dir, struct book *book, const struct shared *shared, unsigned lives,
                     bool is_at_once, struct rng *rng)
{
    struct court court = { .dir = dir, .book = book, .shared = shared, .lives = lives, .rng = rng };
    uint64_t seen = 0;

    if (!is_at_once && rng_one_in(rng, 2))
        seen = look_from_outside(&court);
    open_log(&court, is_at_once);
    if (twinlog_last_lsn(court.log) < seen)
        violation("O5: %" PRIu64 " records were seen before the log was opened, now it has %" PRIu64, seen,
                  twinlog_last_lsn(court.log));
    check_lives(&court);
    append_and_close(&court);
    return court.verdict;
}

void check_witness(const struct book *book, const struct witness *witness)
{
    const int error = atomic_load(&witness->error);
    const uint64_t wrong_lsn = atomic_load(&witness->wrong_lsn);

    if (wrong_lsn != 0)
        violation("O8: the reader beside the writer was given another record %" PRIu64 " than before",
                  wrong_lsn);
    if (error < 0)
        violation("the reader beside the writer failed at record %" PRIu64 ": %s; %s", witness->last_lsn + 1,
                  twinlog_strerror(error), witness->report.text);
    for (uint64_t lsn = 1; lsn <= book->last; lsn++) {
        const uint64_t digest = atomic_load(&witness->digest[lsn]);

        if (digest != 0 && digest != book->digest[lsn])
            violation("O8: the reader beside the writer was given another record %" PRIu64, lsn);
    }
    if (witness->last_lsn > book->last)
        violation("O8: the reader beside the writer was given record %" PRIu64 ", the log ends at %" PRIu64,
                  witness->last_lsn, book->last);
    if (witness->last_lsn < book->last)
        violation("the reader beside the writer stopped at record %" PRIu64 ", the log ends at %" PRIu64,
                  witness->last_lsn, book->last);
}

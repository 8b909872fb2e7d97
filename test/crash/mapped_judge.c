/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge of crash-mapped. After a death, read by somebody else, the log has:
 *   - every record that an append had returned for, with its LSN, whole, once, nothing else but what was in flight;
 *   - each LSN given away: what was in flight is there whole, or it is a filler, and there is at most one such for each
 *     hand of the dead writer;
 *   - whatever was there before, and whatever a follower has seen.
 * After a power cut: the first records of these, at least up to the LSN that a sync had returned for, and fillers where
 * the dead had claims.
 */
#define _GNU_SOURCE
#include "mapped.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct court {
    const struct writer_life *life;
    struct ledger *book;
    uint32_t *hand_of; /* of the dead writer's LSNs, hand + 1; 0 = nobody noted it */
    uint32_t *sequence_of;
    bool is_found[HANDS_MAX]; /* the record that was in flight */
    uint32_t in_flight;
    bool has_void;
    unsigned char expected[PAYLOAD_MAX_BYTES];
};

/* ---- notes --------------------------------------------------------------------------------------- */

static uint32_t *table(void)
{
    uint32_t *table = calloc(WINDOW, sizeof(*table));

    if (!table)
        give_up("calloc");
    return table;
}

static void take_note(struct court *court, uint32_t hand, uint32_t sequence)
{
    const struct hand_notes *notes = &court->life->hand[hand];
    const uint64_t lsn = notes->lsn[sequence];

    if (lsn >= WINDOW || lsn <= court->book->last)
        violation("hand %" PRIu32 " was given LSN %" PRIu64 ", which was there before", hand, lsn);
    if (sequence > 0 && lsn <= notes->lsn[sequence - 1])
        violation("hand %" PRIu32 " was given LSN %" PRIu64 " after %" PRIu64, hand, lsn,
                  notes->lsn[sequence - 1]);
    if (court->hand_of[lsn] > 0)
        violation("LSN %" PRIu64 " was given to hands %" PRIu32 " and %" PRIu32, lsn, court->hand_of[lsn] - 1,
                  hand);
    court->hand_of[lsn] = hand + 1;
    court->sequence_of[lsn] = sequence;
}

static bool is_in_flight(const struct writer_life *life, uint32_t hand)
{
    return atomic_load(&life->hand[hand].begun) > atomic_load(&life->hand[hand].returned);
}

/* Fillers that it has found at the end of the log are behind the last record, where no reader could tell. */
static void take_notes(struct court *court)
{
    const struct writer_life *life = court->life;
    struct ledger *book = court->book;
    const uint64_t opened_last = atomic_load(&life->opened_last);

    if (!atomic_load(&life->is_open))
        return;
    if (opened_last < book->last || opened_last > book->last + book->in_doubt)
        violation("the log was opened with last LSN %" PRIu64 ", but had %" PRIu64
                  " before, and at most %" PRIu32 " voids behind it",
                  opened_last, book->last, book->in_doubt);
    book->fillers += opened_last - book->last;
    book->last = opened_last;
    book->in_doubt = 0;
    for (uint32_t hand = 0; hand < life->hands; hand++) {
        court->in_flight += is_in_flight(life, hand);
        for (uint32_t i = 0; i < atomic_load(&life->hand[hand].returned); i++)
            take_note(court, hand, i);
    }
}

/* ---- records ------------------------------------------------------------------------------------- */

static bool is_record(struct court *court, const struct twinlog_record *record, uint32_t hand,
                      uint32_t sequence)
{
    const struct payload payload = payload_of(court->life, hand, sequence);

    if (record->size != payload_size(&payload))
        return false;
    payload_fill(&payload, court->expected);
    return memcmp(record->data, court->expected, record->size) == 0;
}

static bool find_in_flight(struct court *court, const struct twinlog_record *record)
{
    for (uint32_t hand = 0; hand < court->life->hands; hand++) {
        const struct hand_notes *notes = &court->life->hand[hand];
        const uint32_t returned = atomic_load(&notes->returned);

        if (!is_in_flight(court->life, hand) || court->is_found[hand] ||
            (returned > 0 && notes->lsn[returned - 1] > record->lsn) ||
            !is_record(court, record, hand, returned))
            continue;
        court->is_found[hand] = true;
        court->in_flight--;
        court->book->found++;
        return true;
    }
    return false;
}

/* Nobody can read them any more. */
static void pass_voids(struct court *court, uint64_t end)
{
    struct ledger *book = court->book;

    for (uint64_t lsn = book->last + 1; lsn < end; lsn++) {
        if (court->hand_of[lsn] > 0)
            violation("LSN %" PRIu64 " is lost: hand %" PRIu32 " was told that it is there", lsn,
                      court->hand_of[lsn] - 1);
        if (court->in_flight == 0)
            violation("LSN %" PRIu64 " is a void, and nobody can have left it", lsn);
        court->in_flight--;
        court->has_void = true;
        book->fillers++;
        book->digest[lsn] = 0;
    }
}

static void see_new(struct court *court, const struct twinlog_record *record)
{
    struct ledger *book = court->book;
    const uint64_t lsn = record->lsn;

    if (lsn >= WINDOW)
        violation("the log has too many records for this test");
    pass_voids(court, lsn);
    if (court->hand_of[lsn] > 0) {
        if (!is_record(court, record, court->hand_of[lsn] - 1, court->sequence_of[lsn]))
            complain_of_record(record, "is not what was appended");
    } else if (!find_in_flight(court, record)) {
        complain_of_record(record, "was appended by nobody");
    }
    book->digest[lsn] = payload_digest(record->data, record->size, record->time_ns);
    book->last = lsn;
    book->records++;
}

static void see(void *context, const struct twinlog_record *record)
{
    struct court *court = context;
    struct ledger *book = court->book;

    for (uint64_t lsn = book->last_read + 1; lsn < record->lsn && lsn <= book->last; lsn++)
        if (book->digest[lsn] != 0)
            violation("record %" PRIu64 " was there before, and is gone", lsn);
    if (record->lsn > book->last)
        see_new(court, record);
    else if (book->digest[record->lsn] != payload_digest(record->data, record->size, record->time_ns))
        complain_of_record(record, "was another one before");
    book->last_read = record->lsn;
    if (!court->has_void)
        book->in_sight = record->lsn;
}

static void check_end(const struct court *court)
{
    const struct ledger *book = court->book;

    for (uint64_t lsn = book->last_read + 1; lsn <= book->last; lsn++)
        if (book->digest[lsn] != 0)
            violation("record %" PRIu64 " was there before, and the log ends at %" PRIu64, lsn,
                      book->last_read);
    for (uint32_t hand = 0; atomic_load(&court->life->is_open) && hand < court->life->hands; hand++) {
        const struct hand_notes *notes = &court->life->hand[hand];
        const uint32_t returned = atomic_load(&notes->returned);

        if (returned > 0 && notes->lsn[returned - 1] > book->last)
            violation("LSN %" PRIu64 " is lost: hand %" PRIu32
                      " was told that it is there, and the log ends at %" PRIu64,
                      notes->lsn[returned - 1], hand, book->last);
    }
}

static void check_seen(const struct ledger *book)
{
    for (uint64_t lsn = 1; lsn <= atomic_load(&stage->seen.max_lsn); lsn++) {
        const uint64_t digest = atomic_load(&stage->seen.digest[lsn]);

        if (digest != 0 && (lsn > book->last || digest != book->digest[lsn]))
            violation("a follower has seen record %" PRIu64 ", which is %s", lsn,
                      lsn > book->last || book->digest[lsn] == 0 ? "not there" : "another one");
    }
}

void judge_death(struct ledger *book, const struct writer_life *life)
{
    struct court *court = calloc(1, sizeof(*court));
    const uint64_t before = verify(place.log);

    if (!court)
        give_up("calloc");
    *court = (struct court){ .life = life, .book = book, .hand_of = table(), .sequence_of = table() };
    book->last_read = 0;
    take_notes(court);
    read_log(place.log, life->name % 2 ? TWINLOG_READER_MMAP : 0, see, court);
    check_end(court);
    check_seen(book);
    if (before < book->records)
        violation("verify has counted %" PRIu64 " records, a reader %" PRIu64, before, book->records);
    if (atomic_load(&life->is_open)) {
        book->in_doubt = court->in_flight;
        book->has_claims = court->has_void || court->in_flight > 0;
    }
    free(court->hand_of);
    free(court->sequence_of);
    free(court);
}

/* ---- what the power has left --------------------------------------------------------------------- */

struct image {
    const struct ledger *book;
    const struct writer_life *life;
    uint64_t last, records;
    uint64_t appended_from; /* 0 = nothing was */
};

static void see_left(void *context, const struct twinlog_record *record)
{
    struct image *image = context;
    const struct ledger *book = image->book;

    if (image->appended_from > 0 && record->lsn >= image->appended_from)
        return;
    if (record->lsn > book->last)
        complain_of_record(record, "was not there before");
    if (book->digest[record->lsn] != payload_digest(record->data, record->size, record->time_ns))
        complain_of_record(record, "was another one before the power cut, or the copy");
    for (uint64_t lsn = image->last + 1; lsn < record->lsn; lsn++)
        if (book->digest[lsn] != 0)
            violation("there is record %" PRIu64 ", but not %" PRIu64 " before it any more", record->lsn,
                      lsn);
    image->last = record->lsn;
    image->records++;
}

static void append_some(const char *dir, struct image *image, struct rng *rng)
{
    struct twinlog_options options = image->life->options;
    struct twinlog_report report = { 0 };
    struct twinlog *log;
    uint64_t lsn = 0;
    int rc;

    options.mode = rng_one_in(rng, 2) ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE;
    options.ret_report = &report;
    rc = twinlog_open(dir, &options, &log);
    if (rc < 0)
        violation("after a power cut the log cannot be opened: %s; %s", twinlog_strerror(rc), report.text);
    image->appended_from = twinlog_last_lsn(log) + 1;
    for (uint64_t i = 0; rc == 0 && i < 10; i++) {
        rc = twinlog_append(log, "behind", 6, &lsn);
        if (rc == 0 && lsn != image->appended_from + i)
            violation("after a power cut LSN %" PRIu64 " comes in the place of %" PRIu64, lsn,
                      image->appended_from + i);
    }
    rc = rc < 0 ? rc : twinlog_close(log);
    if (rc < 0)
        violation("after a power cut nothing can be appended: %s", twinlog_strerror(rc));
}

/* Of a record. */
static uint64_t find_durable(const struct image *image)
{
    uint64_t lsn = atomic_load(&image->life->durable);

    while (lsn > 0 && image->book->digest[lsn] == 0)
        lsn--;
    return lsn;
}

static void check_left(const char *dir, struct image *image, uint32_t flags)
{
    const uint64_t records = image->records, durable = find_durable(image);

    image->last = image->records = 0;
    read_log(dir, flags, see_left, image);
    if (image->last < durable)
        violation("after a power cut the log ends at %" PRIu64 ", but %" PRIu64 " was durable", image->last,
                  durable);
    if (records > 0 && image->records != records)
        violation("after a power cut there were %" PRIu64 " records, then %" PRIu64, records, image->records);
    verify(dir);
}

uint64_t judge_copy(const char *dir, const struct ledger *book, const struct writer_life *life)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct image image = { .book = book, .life = life };
    int rc;

    remove_directory(dir);
    rc = twinlog_backup(place.log, dir, NULL, &result);
    if (rc < 0 && rc != -ENOENT)
        violation("a dead writer's log cannot be copied: %s", twinlog_strerror(rc));
    if (rc < 0)
        return 0;
    read_log(dir, 0, see_left, &image);
    verify(dir);
    if (image.last != book->last_read)
        violation("a copy of a dead writer's log ends at %" PRIu64 ", the log at %" PRIu64, image.last,
                  book->last_read);
    return image.records;
}

uint64_t judge_image(const char *dir, const struct ledger *book, const struct writer_life *life,
                     struct rng *rng)
{
    struct image image = { .book = book, .life = life };

    check_left(dir, &image, rng_one_in(rng, 2) ? TWINLOG_READER_MMAP : 0);
    append_some(dir, &image, rng);
    if (image.appended_from > book->last + book->in_doubt + 1)
        violation("after a power cut the log goes on with LSN %" PRIu64 ", but it had %" PRIu64
                  " and %" PRIu32 " claims at most",
                  image.appended_from, book->last, book->in_doubt);
    check_left(dir, &image, 0);
    return image.records;
}

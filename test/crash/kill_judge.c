/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle. After one or more lives it looks at the log from outside, opens it, reads all of it and compares every
 * byte with what the writers noted, by the rules O1 to O6 and O8 of docs/testing.md, and so the head of the log, the
 * cursors and the values. After a mapped life there may be fillers where nothing was acknowledged.
 */
#define _GNU_SOURCE
#include "reading.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <twinlog_admin.h>

#define AT_ONCE_WAIT_MS 20000u
#define JUDGES_MAX_BYTES 4096u
#define NAME_OF_JUDGE UINT64_C(0xffffffff00000000)

/* A record that may have an LSN, by the writers' notes. */
struct candidate {
    const struct life *life;
    uint32_t writer;
    bool is_certain; /* acknowledged, and no truncation can have removed it */
    uint64_t sequence;
    size_t next; /* of the same LSN: index + 1 */
};

struct court {
    unsigned incarnations;
    struct rng *rng;
    struct twinlog *log;
    uint64_t first, last; /* of the log; last = first - 1 if it is empty */
    struct candidate *candidates;
    size_t count;
    size_t *by_lsn; /* of first, first + 1, ...: index + 1 of a candidate */
    struct {
        uint32_t is_taken;  /* one bit for each of its unnoted records: it was found */
        uint64_t first_lsn; /* of the first of them, by the others */
    } unnoted[MAX_LIVES][MAX_WRITERS];
    uint64_t holes;        /* that the last reader passed */
    uint64_t judges_first; /* LSN of the judge's own first record */
    uint64_t acked;        /* found of those that were acknowledged in these lives */
};

static struct book *const book = &lives.book;

/* ---- reading ----------------------------------------------------------------------------------- */

/* What of the book must still be what it was. */
static uint64_t book_end(void)
{
    return min_u64(book->last, world_keeps(book->since));
}

static bool is_in_book(uint64_t lsn)
{
    return book->exists && lsn >= book->first && lsn <= book_end();
}

static void check_known(const struct twinlog_record *record)
{
    if (payload_digest(record) != book->digest[record->lsn % WINDOW])
        complain_of_record(record, "is not what it was when it was read before (O1)");
}

static uint32_t choose_flags(const struct court *court)
{
    return rng_one_in(court->rng, 2) ? TWINLOG_READER_MMAP : 0;
}

static bool had_mapped_life(const struct court *court)
{
    for (unsigned i = 0; i < court->incarnations; i++)
        if (shared->incarnations[i].options.mode == TWINLOG_MODE_MAPPED)
            return true;
    return false;
}

static bool has_candidates(const struct court *court, uint64_t lsn)
{
    return court->by_lsn && lsn >= court->first && lsn <= court->last;
}

/* The power may have left the claim of a record, and not the record. */
static void pass_hole(struct court *court, uint64_t lsn)
{
    uint64_t *digest = &book->digest[lsn % WINDOW];
    const bool is_known = is_in_book(lsn);

    court->holes++;
    if (is_known ? *digest != 0 : !had_mapped_life(court))
        violation("O2: there is no record %" PRIu64, lsn);
    if (is_known)
        return;
    *digest = 0;
    for (size_t i = has_candidates(court, lsn) ? court->by_lsn[lsn - court->first] : 0; i > 0;
         i = court->candidates[i - 1].next)
        if (court->candidates[i - 1].is_certain)
            violation("O1: record %" PRIu64 " was acknowledged, and is not there", lsn);
}

static void pass_holes(struct court *court, uint64_t lsn, uint64_t end)
{
    while (lsn < end)
        pass_hole(court, lsn++);
}

static void read_back(struct court *court, struct twinlog_reader *reader, uint64_t first, uint64_t last)
{
    struct twinlog_record record;
    int result;

    for (; (result = twinlog_reader_previous(reader, &record)) > 0; last--) {
        for (; last > record.lsn; last--)
            pass_hole(court, last);
        if (record.lsn != last)
            violation("O2: going back a reader returned record %" PRIu64 " in the place of %" PRIu64,
                      record.lsn, last);
        check_known(&record);
    }
    for (; result == 0 && last >= first; last--)
        pass_hole(court, last);
    if (result < 0 || last != first - 1)
        violation("going back a reader stopped before record %" PRIu64 ", the first is %" PRIu64 ": %s", last,
                  first, twinlog_strerror(result));
}

struct range {
    uint64_t first, last; /* 0 and 0: no records */
};

/* A reader goes through the log. */
struct pass {
    struct court *court;
    struct range range;
    void (*each)(struct court *court, const struct twinlog_record *record);
};

static void pass_record(void *context, const struct twinlog_record *record)
{
    struct pass *pass = context;

    if (pass->range.first == 0)
        pass->range.first = record->lsn;
    else
        pass_holes(pass->court, pass->range.last + 1, record->lsn);
    pass->range.last = record->lsn;
    pass->each(pass->court, record);
}

static struct range read_all(struct court *court, struct twinlog *log,
                             void (*each)(struct court *court, const struct twinlog_record *record))
{
    struct pass pass = { .court = court, .each = each };

    court->holes = 0;
    if (!read_log(place.log, log, choose_flags(court), pass_record, &pass) && book->exists)
        violation("O1: there is no log");
    return pass.range;
}

/* ---- from outside ------------------------------------------------------------------------------ */

static void only_known(struct court *court, const struct twinlog_record *record)
{
    (void)court;
    if (is_in_book(record->lsn))
        check_known(record);
}

static struct range inspect(struct twinlog_inspection *ret_inspection)
{
    const int result = twinlog_inspect(place.log, ret_inspection);

    if (result == -ENOENT && !book->exists)
        return (struct range){ 0 };
    if (result < 0 || ret_inspection->report.error != 0)
        violation("inspect: %s; %s", twinlog_strerror(result), ret_inspection->report.text);
    if (ret_inspection->has_writer)
        violation("inspect: nobody writes the log, but it says so");
    return (struct range){ ret_inspection->first_lsn,
                           ret_inspection->first_lsn > 0 ? ret_inspection->last_lsn : 0 };
}

static uint64_t records_in(struct range range)
{
    return range.first > 0 ? range.last + 1 - range.first : 0;
}

static bool goes_on(struct range now, struct range before)
{
    return now.last >= before.last && (before.first == 0 || now.first == before.first);
}

/* A reader is not given what is a filler in front of its first record and behind its last one. */
static void take_in_holes(struct court *court, struct range *range, struct range all)
{
    if (all.first == 0 || (range->first == 0 && !had_mapped_life(court)))
        return;
    if (range->first == 0)
        *range = (struct range){ .first = all.first, .last = all.first - 1 };
    pass_holes(court, all.first, range->first);
    pass_holes(court, range->last + 1, all.last + 1);
    range->first = min_u64(range->first, all.first);
    range->last = range->last > all.last ? range->last : all.last;
}

/* Each of them sees the same log, unless a dead writer's last write lands in between; then the later sees more. */
static struct range look_from_outside(struct court *court)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const struct range inspected = inspect(&inspection);
    struct range read = read_all(court, NULL, only_known);

    take_in_holes(court, &read, inspected);
    const uint64_t verified = verify(place.log);

    if (!goes_on(read, inspected) || verified + court->holes < records_in(read))
        violation("O5: inspect found records %" PRIu64 " to %" PRIu64 ", a reader after it %" PRIu64
                  " to %" PRIu64 ", verify after that %" PRIu64 " records",
                  inspected.first, inspected.last, read.first, read.last, verified);
    return read;
}

/* ---- the lives --------------------------------------------------------------------------------- */

/* What was durable once is there, if no truncation can have removed it. */
static void check_end(const struct court *court, uint64_t stamped, const char *what)
{
    const uint64_t lsn = stamp_lsn(stamped);

    if (lsn > court->last && lsn <= world_keeps(stamp_since(stamped)))
        violation("O1: LSN %" PRIu64 " was %s, but the log ends at %" PRIu64, lsn, what, court->last);
}

static void add_candidate(struct court *court, uint64_t lsn, const struct candidate *candidate)
{
    size_t *first = &court->by_lsn[lsn - court->first];

    for (size_t i = *first; candidate->is_certain && i > 0; i = court->candidates[i - 1].next)
        if (court->candidates[i - 1].is_certain)
            violation("O3: LSN %" PRIu64 " was given to writer %" PRIu32 " and to writer %" PRIu32, lsn,
                      court->candidates[i - 1].writer, candidate->writer);
    if (candidate->is_certain && is_in_book(lsn))
        violation("O3: LSN %" PRIu64 " was given to writer %" PRIu32 ", but it was there before", lsn,
                  candidate->writer);
    court->candidates[court->count] = *candidate;
    court->candidates[court->count].next = *first;
    *first = ++court->count;
}

static void take_note(struct court *court, const struct candidate *taken, const struct record_note *note,
                      bool is_acked)
{
    const bool may_be_cut = note->lsn > world_keeps(note->since);
    const bool is_cut = note->lsn > world_keeps(note->until);
    struct candidate candidate = *taken;

    candidate.is_certain = is_acked && !may_be_cut;
    lives.cut += is_acked && is_cut;
    lives.trimmed += candidate.is_certain && note->lsn < court->first;
    court->acked += candidate.is_certain && note->lsn >= court->first;
    if (candidate.is_certain && note->lsn > court->last)
        violation("O1: record %" PRIu64 " of writer %" PRIu32 " was acknowledged as LSN %" PRIu64
                  ", but the log ends at %" PRIu64,
                  candidate.sequence, candidate.writer, note->lsn, court->last);
    if (!is_cut && note->lsn >= court->first && note->lsn <= court->last)
        add_candidate(court, note->lsn, &candidate);
}

static void take_notes(struct court *court, unsigned index, uint32_t writer)
{
    const struct life *life = &shared->incarnations[index];
    const struct notes *notes = &life->notes[writer];
    const uint64_t accepted = atomic_load(&notes->accepted), acked = atomic_load(&notes->acked);
    const struct record_note *before = NULL;

    for (uint64_t i = 0; i < accepted; i++) {
        const struct record_note *note = &notes->record[i];

        if (before && note->lsn <= before->lsn && note->until == before->since)
            violation("O2: writer %" PRIu32 " was given LSN %" PRIu64 " after %" PRIu64, writer, note->lsn,
                      before->lsn);
        take_note(court, &(struct candidate){ .life = life, .writer = writer, .sequence = i }, note,
                  i < acked);
        before = note;
    }
    check_end(court, atomic_load(&notes->durable), "durable");
}

static uint64_t count_notes(const struct court *court)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < court->incarnations; i++)
        for (uint32_t writer = 0; writer < shared->incarnations[i].writers; writer++)
            count += atomic_load(&shared->incarnations[i].notes[writer].accepted);
    return count;
}

static struct payload payload_of(const struct life *life, uint32_t writer, uint64_t sequence)
{
    return (struct payload){ .life = life->name,
                             .sequence = sequence,
                             .writer = writer,
                             .max_bytes = life->options.max_record_bytes };
}

static bool has_label(const struct life *life, uint32_t writer, uint64_t sequence)
{
    const struct payload payload = payload_of(life, writer, sequence);

    return payload_has_label(&payload);
}

/* Exactly, its tag too: two small ones of the same bytes may be in flight, and each must find its own. */
static bool is_record(const struct twinlog_record *record, const struct life *life, uint32_t writer,
                      uint64_t sequence)
{
    const struct payload payload = payload_of(life, writer, sequence);
    const uint16_t tag = life->notes[writer].record[sequence].is_tagged ? payload_tag(&payload) : 0;

    return record->tag == tag && record->type == (uint8_t)tag && payload_matches(&payload, record);
}

/* Of the writer's records that were not noted: it had one call in progress at most, with one batch. */
static bool take_unnoted(struct court *court, unsigned index, uint32_t writer,
                         const struct twinlog_record *record)
{
    const struct life *life = &shared->incarnations[index];
    const uint64_t accepted = atomic_load(&life->notes[writer].accepted);
    const uint64_t begun = atomic_load(&life->notes[writer].begun);

    for (uint64_t i = 0; accepted + i < begun; i++)
        if (!(court->unnoted[index][writer].is_taken & 1u << i) &&
            is_record(record, life, writer, accepted + i)) {
            court->unnoted[index][writer].is_taken |= 1u << i;
            if (has_label(life, writer, accepted + i)) /* no other record is like it */
                court->unnoted[index][writer].first_lsn = record->lsn - i;
            return true;
        }
    return false;
}

/* A record nobody noted: the writer was killed before it could. */
static bool was_in_flight(struct court *court, const struct twinlog_record *record)
{
    for (unsigned i = 0; i < court->incarnations; i++)
        for (uint32_t writer = 0; writer < shared->incarnations[i].writers; writer++)
            if (take_unnoted(court, i, writer, record))
                return true;
    return false;
}

/* Those that are like no others are there, or none is; but for what was trimmed. */
static void check_unnoted_batch(const struct court *court, unsigned index, uint32_t writer)
{
    const struct life *life = &shared->incarnations[index];
    const struct notes *notes = &life->notes[writer];
    const uint64_t accepted = atomic_load(&notes->accepted), begun = atomic_load(&notes->begun);
    uint32_t labelled = 0;

    for (uint64_t i = 0; accepted + i < begun; i++)
        if (has_label(life, writer, accepted + i) &&
            court->unnoted[index][writer].first_lsn + i >= court->first)
            labelled |= 1u << i;
    labelled = court->unnoted[index][writer].is_taken & labelled ? labelled : 0;
    if ((court->unnoted[index][writer].is_taken & labelled) != labelled &&
        world_keeps(notes->record[accepted].since) == NOTHING)
        violation("O4: of a batch of writer %" PRIu32 ", from its record %" PRIu64
                  " on, only a part is there: %#" PRIx32 " of %#" PRIx32,
                  writer, accepted, court->unnoted[index][writer].is_taken, labelled);
}

static void check_unnoted_batches(const struct court *court)
{
    for (unsigned i = 0; i < court->incarnations; i++)
        for (uint32_t writer = 0; writer < shared->incarnations[i].writers; writer++)
            check_unnoted_batch(court, i, writer);
}

static bool was_noted(const struct court *court, const struct twinlog_record *record)
{
    bool is_found = false, is_other = false;

    for (size_t i = court->by_lsn[record->lsn - court->first]; i > 0; i = court->candidates[i - 1].next) {
        const struct candidate *candidate = &court->candidates[i - 1];
        const bool is_it = is_record(record, candidate->life, candidate->writer, candidate->sequence);

        is_found = is_found || is_it;
        is_other = is_other || (candidate->is_certain && !is_it);
    }
    if (is_other)
        complain_of_record(record, "was acknowledged, but it is another one (O1, O4)");
    return is_found;
}

static void check_record(struct court *court, const struct twinlog_record *record)
{
    if (record->lsn < court->first || record->lsn > court->last)
        violation("O2: a reader returned record %" PRIu64 " of a log from %" PRIu64 " to %" PRIu64,
                  record->lsn, court->first, court->last);
    if (is_in_book(record->lsn)) {
        check_known(record);
        return;
    }
    if (!was_noted(court, record) && !was_in_flight(court, record))
        complain_of_record(record, "was appended by nobody, or was cut off (O3, O4)");
    book->digest[record->lsn % WINDOW] = payload_digest(record);
}

static void check_range(struct court *court, struct range range)
{
    const uint64_t records = court->last + 1 - court->first;

    if (records > 0)
        take_in_holes(court, &range, (struct range){ court->first, court->last });
    if (records_in(range) != records || (records > 0 && range.first != court->first))
        violation("O1: the log has records %" PRIu64 " to %" PRIu64 ", a reader returned %" PRIu64
                  " to %" PRIu64,
                  court->first, court->last, range.first, range.last);
}

static void check_notes(struct court *court)
{
    for (unsigned i = 0; i < court->incarnations; i++) {
        const struct life *life = &shared->incarnations[i];

        if (atomic_load(&life->is_open))
            check_end(court, atomic_load(&life->opened_last), "there when a writer opened it");
        for (uint32_t writer = 0; writer < life->writers; writer++)
            take_notes(court, i, writer);
    }
    if (book->exists)
        check_end(court, stamp(book->last, book->since), "there before");
}

static void check_lives(struct court *court)
{
    const uint64_t end = book_end();
    uint64_t old;

    court->first = atomic_load(&world->head_least);
    court->last = twinlog_last_lsn(court->log);
    if (court->last + 1 - court->first >= WINDOW)
        violation("the log has %" PRIu64 " records, too many for this test", court->last + 1 - court->first);
    if (twinlog_durable_lsn(court->log) != court->last)
        violation("the log was opened with the last LSN %" PRIu64 ", but %" PRIu64 " durable", court->last,
                  twinlog_durable_lsn(court->log));
    court->candidates = calloc(count_notes(court) + 1, sizeof(*court->candidates));
    court->by_lsn = calloc(court->last + 2 - court->first, sizeof(*court->by_lsn));
    if (!court->candidates || !court->by_lsn)
        violation("out of memory");
    check_notes(court);
    check_range(court, read_all(court, rng_one_in(court->rng, 2) ? court->log : NULL, check_record));
    check_unnoted_batches(court);
    free(court->candidates);
    free(court->by_lsn);
    court->by_lsn = NULL;
    old = book->exists && end >= court->first ? end + 1 - court->first : 0;
    lives.acked += court->acked;
    lives.unacked += court->last + 1 - court->first - old - court->acked;
}

static void write_book(const struct court *court)
{
    *book = (struct book){ .digest = book->digest,
                           .first = court->first,
                           .last = court->last,
                           .since = atomic_load(&world->truncations_done),
                           .exists = true };
}

/* ---- opening, appending, closing --------------------------------------------------------------- */

static void open_log(struct court *court, bool is_at_once)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    choose_options(court->rng, false, &options);
    options.lock_timeout_ms = is_at_once ? AT_ONCE_WAIT_MS : 0;
    options.ret_report = &report;
    if (rng_one_in(court->rng, 2))
        options.io = TWINLOG_IO_FDATASYNC;
    court->log = open_or_fail(place.log, &options, "the log");
    lives.findings[report.finding]++;
}

/* The judge's own records, the last of them only accepted: closing makes them durable. */
static void append_some(struct court *court)
{
    unsigned char record[JUDGES_MAX_BYTES];
    const uint64_t count = rng_below(court->rng, 20), enqueued = rng_below(court->rng, count + 1);

    court->judges_first = court->last + 1;
    for (uint64_t i = 0; i < count; i++) {
        const struct payload payload = { .life = NAME_OF_JUDGE,
                                         .sequence = i,
                                         .max_bytes = JUDGES_MAX_BYTES };
        uint64_t lsn;
        int result;

        payload_fill(&payload, record);
        result = (i < enqueued ? twinlog_append : twinlog_enqueue)(court->log, record, payload_size(&payload),
                                                                   &lsn);
        if (result < 0 || lsn != court->judges_first + i)
            violation("O6: appending record %" PRIu64 " failed: %s", court->judges_first + i,
                      twinlog_strerror(result));
    }
}

static void expect_own(struct court *court, const struct twinlog_record *record)
{
    if (record->lsn < court->judges_first) {
        check_known(record);
        return;
    }
    const struct payload payload = { .life = NAME_OF_JUDGE,
                                     .sequence = record->lsn - court->judges_first,
                                     .max_bytes = JUDGES_MAX_BYTES };
    if (!payload_matches(&payload, record))
        complain_of_record(record, "appended after recovery, is not what was appended (O6)");
    book->digest[record->lsn % WINDOW] = payload_digest(record);
}

static void go_back(struct court *court)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader = open_reader(place.log, NULL, choose_flags(court), &report);

    if (!reader)
        violation("there is no log any more");
    check_call(twinlog_reader_seek_end(reader), "going to the end");
    read_back(court, reader, court->first, court->last);
    twinlog_reader_close(reader);
}

static void append_and_close(struct court *court)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct range range;

    append_some(court);
    court->last = twinlog_last_lsn(court->log);
    check_call(twinlog_close(court->log), "closing the log");
    check_range(court, read_all(court, NULL, expect_own));
    const uint64_t records = court->last + 1 - court->first - court->holes;
    write_book(court);
    go_back(court);
    range = inspect(&inspection);
    if (records_in(range) != court->last + 1 - court->first || verify(place.log) != records)
        violation("O5: the log was closed with records %" PRIu64 " to %" PRIu64
                  ", inspect or verify find other ones",
                  court->first, court->last);
    if (inspection.report.finding != TWINLOG_FOUND_CLEAN_CLOSE)
        violation("the log was closed, but inspect says: %s", inspection.report.text);
    lives.file_bytes = inspection.file_bytes;
}

void judge(unsigned incarnations, bool is_at_once, struct rng *rng)
{
    struct court court = { .incarnations = incarnations, .rng = rng };
    struct range seen = { 0 };
    const bool has_looked = !is_at_once && rng_one_in(rng, 2);

    if (has_looked)
        seen = look_from_outside(&court);
    open_log(&court, is_at_once);
    world_settle(court.log, false);
    check_consumer(court.log);
    if (has_looked &&
        !goes_on((struct range){ twinlog_first_lsn(court.log), twinlog_last_lsn(court.log) }, seen))
        violation("O5: records %" PRIu64 " to %" PRIu64
                  " were seen before the log was opened, now it has %" PRIu64 " to %" PRIu64,
                  seen.first, seen.last, twinlog_first_lsn(court.log), twinlog_last_lsn(court.log));
    check_lives(&court);
    write_book(&court);
    append_and_close(&court);
}

void forget_sightings(struct sightings *sightings)
{
    const uint64_t most = atomic_load(&sightings->max_lsn);

    memset(sightings->seen, 0, (most < WINDOW ? most + 1 : WINDOW) * sizeof(sightings->seen[0]));
    atomic_store(&sightings->max_lsn, 0);
}

void note_sighting(struct sightings *sightings, const struct twinlog_record *record, uint32_t since,
                   const char *name)
{
    struct sighting *seen = &sightings->seen[record->lsn % WINDOW];
    const uint64_t before = atomic_load(&seen->digest), stamped = atomic_load(&seen->stamp),
                   digest = payload_digest(record);

    if (before != 0 && before != digest && stamp_lsn(stamped) == record->lsn &&
        record->lsn <= world_keeps(stamp_since(stamped)))
        violation("O8: %s was given another record %" PRIu64 " than before, when %" PRIu32
                  " cuts were done; now it is %" PRIu32 ", before the call %" PRIu32,
                  name, record->lsn, stamp_since(stamped), atomic_load(&world->truncations_done), since);
    atomic_store(&seen->digest, 0);
    atomic_store(&seen->stamp, stamp(record->lsn, since));
    atomic_store(&seen->digest, digest);
    raise_to(&sightings->max_lsn, record->lsn);
}

void check_sightings(const struct sightings *sightings, const struct book *known, const char *name)
{
    const uint64_t most = atomic_load(&sightings->max_lsn);

    for (uint64_t lsn = known->first; lsn <= most; lsn++) {
        const struct sighting *seen = &sightings->seen[lsn % WINDOW];
        const uint64_t digest = atomic_load(&seen->digest), stamped = atomic_load(&seen->stamp);

        if (digest == 0 || stamp_lsn(stamped) != lsn || lsn > world_keeps(stamp_since(stamped)) ||
            atomic_load(&seen->digest) != digest)
            continue;
        if (lsn > known->last)
            violation("O8: %s was given record %" PRIu64 ", the log ends at %" PRIu64, name, lsn,
                      known->last);
        if (digest != known->digest[lsn % WINDOW])
            violation("O8: %s was given another record %" PRIu64, name, lsn);
    }
}

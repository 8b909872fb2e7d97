/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge of the policies mapped and shared, by the same rules as kill_judge.c. What was in flight when its process
 * was killed is there whole, or it is a filler, or it is not there; there is at most one such for each pen of the dead,
 * and none of the living. While members write, all of that for what they were told before the judge began to read.
 * After a close by the last one there is nothing left to settle, and nothing behind the last record.
 */
#define _GNU_SOURCE
#include "log.h"

#include "base/bytes.h"
#include "segment/segment.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <twinlog_admin.h>

struct court {
    struct ledger *book;
    struct told {
        uint32_t pen, sequence; /* pen + 1; 0 = nobody was told it */
    } * told;                   /* by LSN */
    uint64_t last_of[PENS_MAX]; /* newest LSN that a pen was told */
    bool is_found[PENS_MAX];    /* the record that was in flight */
    uint64_t last_read, last_told, fillers;
    uint32_t in_flight;
};

/* ---- notes --------------------------------------------------------------------------------------- */

static bool is_in_flight(uint32_t pen)
{
    return atomic_load(&crew->pen[pen].begun) > atomic_load(&crew->pen[pen].returned);
}

static void take_note(struct court *court, uint32_t pen, uint32_t sequence)
{
    const uint64_t lsn = crew->pen[pen].where[sequence];

    if (lsn == 0)
        return;
    if (lsn >= WINDOW || lsn <= court->book->book.last)
        violation("pen %" PRIu32 " was told LSN %" PRIu64 ", which was there before", pen, lsn);
    if (lsn <= court->last_of[pen])
        violation("pen %" PRIu32 " was told LSN %" PRIu64 " after %" PRIu64, pen, lsn, court->last_of[pen]);
    if (court->told[lsn].pen > 0)
        violation("LSN %" PRIu64 " was told to pens %" PRIu32 " and %" PRIu32, lsn, court->told[lsn].pen - 1,
                  pen);
    court->told[lsn] = (struct told){ pen + 1, sequence };
    court->last_of[pen] = lsn;
    court->last_told = lsn > court->last_told ? lsn : court->last_told;
}

/* Fillers that an opening has found at the end of the log are behind the last record, where no reader could tell. */
static void take_found(struct ledger *book)
{
    const uint64_t found = atomic_load(&scene->found);

    if (found == NOTHING)
        return;
    if (found < book->book.last || found > book->book.last + book->in_doubt)
        violation("the log was opened with last LSN %" PRIu64 ", but had %" PRIu64
                  " before, and at most %" PRIu32 " voids behind it",
                  found, book->book.last, book->in_doubt);
    book->fillers += found - book->book.last;
    book->book.last = found;
    book->in_doubt = 0;
}

static struct court *open_court(struct ledger *book)
{
    struct court *court = calloc(1, sizeof(*court));

    if (!court || !(court->told = calloc(WINDOW, sizeof(*court->told))))
        give_up("calloc");
    court->book = book;
    court->in_flight = book->in_doubt;
    for (uint32_t pen = book->first_pen; pen < crew->pens; pen++) {
        const uint32_t returned = atomic_load(&crew->pen[pen].returned);

        for (uint32_t i = 0; i < returned; i++)
            take_note(court, pen, i);
        court->in_flight += is_in_flight(pen);
    }
    return court;
}

static void close_court(struct court *court)
{
    free(court->told);
    free(court);
}

/* ---- records ------------------------------------------------------------------------------------- */

static bool is_record(const struct twinlog_record *record, uint32_t pen, uint32_t sequence)
{
    const struct payload payload = payload_of(pen, sequence);
    const uint16_t tag = tag_of(&payload);

    return record->tag == tag && record->type == (uint8_t)tag && payload_matches(&payload, record);
}

static bool find_in_flight(struct court *court, const struct twinlog_record *record)
{
    for (uint32_t pen = court->book->first_pen; pen < crew->pens; pen++) {
        if (!is_in_flight(pen) || court->is_found[pen] || court->last_of[pen] > record->lsn ||
            !is_record(record, pen, atomic_load(&crew->pen[pen].returned)))
            continue;
        court->is_found[pen] = true;
        court->in_flight--;
        court->book->found++;
        return true;
    }
    return false;
}

static void see_told(struct court *court, const struct twinlog_record *record)
{
    if (!is_record(record, court->told[record->lsn].pen - 1, court->told[record->lsn].sequence))
        complain_of_record(record, "is not what was appended");
}

static void see_old(const struct court *court, const struct twinlog_record *record)
{
    if (court->book->book.digest[record->lsn] != payload_digest(record))
        complain_of_record(record, "was another one before");
}

/* Those between the last record that was read and this one. */
static void pass_voids(struct court *court, uint64_t end)
{
    const struct ledger *book = court->book;

    for (uint64_t lsn = court->last_read + 1; lsn < end; lsn++) {
        if (lsn <= book->book.last && book->book.digest[lsn] != 0)
            violation("record %" PRIu64 " was there before, and is gone", lsn);
        if (court->told[lsn].pen > 0)
            violation("LSN %" PRIu64 " is lost: pen %" PRIu32 " was told that it is there", lsn,
                      court->told[lsn].pen - 1);
        court->fillers += lsn > book->book.last;
    }
}

static void check_window(const struct twinlog_record *record)
{
    if (record->lsn >= WINDOW)
        violation("the log has too many records for this test");
}

/* ---- while members write ------------------------------------------------------------------------- */

static void see_living(void *context, const struct twinlog_record *record)
{
    struct court *court = context;

    check_window(record);
    pass_voids(court, record->lsn);
    if (court->told[record->lsn].pen > 0)
        see_told(court, record);
    else if (record->lsn <= court->book->book.last)
        see_old(court, record);
    note_sighting(&scene->seen, record, 0, "the judge, while it was written,");
    court->last_read = record->lsn;
    court->book->checked++;
}

uint64_t judge_living(struct ledger *book, uint64_t least)
{
    struct court *court = open_court(book);
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader =
        open_reader(place.log, NULL, least % 2 ? TWINLOG_READER_MMAP : 0, &report);
    const int64_t start = now_ns();
    uint64_t last = 0, fillers;

    if (!reader)
        violation("there is no log, and it is being written");
    pass_records(reader, &report, see_living, court, &last, "the judge, while it was written,");
    while (last < least) {
        if (is_too_long(start, patience_ms))
            violation("a reader stands at LSN %" PRIu64 ", but an append has returned %" PRIu64, last, least);
        twinlog_reader_wait(reader, 1);
        pass_records(reader, &report, see_living, court, &last, "the judge, while it was written,");
    }
    twinlog_reader_close(reader);
    fillers = court->fillers;
    close_court(court);
    return fillers;
}

uint32_t count_unfinished(const struct ledger *book)
{
    uint32_t count = book->in_doubt;

    for (uint32_t pen = book->first_pen; pen < crew->pens; pen++)
        count += crew->pen[pen].is_dead && is_in_flight(pen);
    return count;
}

/* ---- when nobody is left ------------------------------------------------------------------------- */

static void see_left(void *context, const struct twinlog_record *record)
{
    struct court *court = context;
    struct ledger *book = court->book;

    check_window(record);
    pass_voids(court, record->lsn);
    if (record->lsn <= book->book.last) {
        see_old(court, record);
    } else {
        if (court->told[record->lsn].pen > 0)
            see_told(court, record);
        else if (!find_in_flight(court, record))
            complain_of_record(record, "was appended by nobody");
        book->book.digest[record->lsn] = payload_digest(record);
        book->records++;
    }
    court->last_read = record->lsn;
    if (court->fillers == 0)
        book->in_sight = record->lsn;
    book->checked++;
}

uint64_t find_record(const struct ledger *book, uint64_t lsn)
{
    while (lsn > 0 && book->book.digest[lsn] == 0)
        lsn--;
    return lsn;
}

static void check_end(const struct court *court)
{
    const struct ledger *book = court->book;
    const uint64_t before = find_record(book, book->book.last);

    if (court->last_read < before)
        violation("record %" PRIu64 " was there before, and the log ends at %" PRIu64, before,
                  court->last_read);
    if (court->last_told > court->last_read)
        violation("LSN %" PRIu64 " is lost: pen %" PRIu32
                  " was told that it is there, and the log ends at %" PRIu64,
                  court->last_told, court->told[court->last_told].pen - 1, court->last_read);
    if (court->fillers > court->in_flight)
        violation("there are %" PRIu64 " voids, but only %" PRIu32 " appends were left unfinished",
                  court->fillers, court->in_flight);
}

void judge_left(struct ledger *book)
{
    const uint64_t verified = verify(place.log);
    struct court *court;

    take_found(book);
    court = open_court(book);
    read_log(place.log, NULL, crew->pens % 2 ? TWINLOG_READER_MMAP : 0, see_left, court);
    check_end(court);
    book->book.last = max_u64(book->book.last, court->last_read);
    check_sightings(&scene->seen, &book->book, "a reader");
    if (verified < book->records)
        violation("verify has counted %" PRIu64 " records, a reader %" PRIu64, verified, book->records);
    book->fillers += court->fillers;
    book->in_doubt = court->in_flight - (uint32_t)court->fillers;
    book->has_claims = court->in_flight > 0;
    book->first_pen = crew->pens;
    close_court(court);
}

/* ---- closed -------------------------------------------------------------------------------------- */

struct leftovers {
    uint64_t spares, newest, file_bytes, data_bytes;
    char name[64];
};

static int look_at_segment(void *context, const struct twinlog_segment *segment)
{
    struct leftovers *files = context;

    files->spares += segment->state == TWINLOG_SEGMENT_SPARE || segment->state == TWINLOG_SEGMENT_RETIRED;
    if (segment->state == TWINLOG_SEGMENT_ACTIVE) {
        files->newest = segment->sequence;
        files->file_bytes = segment->file_bytes;
        files->data_bytes = segment->data_bytes;
        snprintf(files->name, sizeof(files->name), "%s", segment->file);
    }
    return 0;
}

/* What the dead had not yet given its name is removed when the log is opened the next time. */
static void check_names(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;

    while (list && (entry = readdir(list))) {
        const size_t digits = strspn(entry->d_name, "0123456789abcdef");

        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "writer.lock") != 0 &&
            strcmp(entry->d_name, "state") != 0 &&
            !(digits == 16 && strcmp(entry->d_name + digits, ".twl") == 0))
            violation("the last one has closed the log, and there is a file %s in %s", entry->d_name, dir);
    }
    if (list)
        closedir(list);
}

void judge_closed(const struct ledger *book, const struct ending *ending)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct leftovers files = { 0 };
    int rc = twinlog_inspect(place.log, &inspection);

    if (rc == 0)
        rc = twinlog_segments(place.log, look_at_segment, &files);
    if (rc < 0)
        violation("a closed log cannot be looked at: %s", twinlog_strerror(rc));
    if (inspection.has_writer || inspection.report.finding != TWINLOG_FOUND_CLEAN_CLOSE)
        violation("the last one has closed the log, and it has %s: finding %" PRIu32 ", %s",
                  inspection.has_writer ? "a writer" : "no mark of a close", inspection.report.finding,
                  inspection.report.text);
    if (inspection.last_lsn < book->book.last || inspection.durable_lsn < inspection.last_lsn)
        violation("a closed log has last LSN %" PRIu64 ", durable %" PRIu64 ", and record %" PRIu64,
                  inspection.last_lsn, inspection.durable_lsn, book->book.last);
    if (!ending->had_deaths)
        check_names(place.log);
    if (files.spares > 0 && !ending->may_have_spares)
        violation("the last one has closed the log, and left %" PRIu64 " spare segments", files.spares);
    const uint64_t used = SEGMENT_DATA_OFFSET + files.data_bytes;
    if (ending->is_cut && files.newest > 0 &&
        files.file_bytes > align_up(used, BLOCK_BYTES) + SEGMENT_MARKER_BYTES)
        violation("the last one has closed the log, and %s has %" PRIu64 " bytes, but only %" PRIu64
                  " are used",
                  files.name, files.file_bytes, used);
}

/* ---- copies -------------------------------------------------------------------------------------- */

struct inheritance {
    struct ledger *book;
    uint64_t last, last_read, records;
    uint64_t own; /* behind `last` */
};

static void see_inherited(void *context, const struct twinlog_record *record)
{
    struct inheritance *inheritance = context;
    struct ledger *book = inheritance->book;
    const uint64_t end = record->lsn <= inheritance->last ? record->lsn : inheritance->last + 1;

    for (uint64_t lsn = inheritance->last_read + 1; lsn < end && lsn <= book->book.last; lsn++)
        if (book->book.digest[lsn] != 0)
            violation("record %" PRIu64 " is not in a copy, but %" PRIu64 " is", lsn, record->lsn);
    if (record->lsn > inheritance->last)
        inheritance->own++;
    else if (record->lsn > book->book.last || book->book.digest[record->lsn] != payload_digest(record))
        complain_of_record(record, "is another one in a copy");
    inheritance->last_read = record->lsn;
    inheritance->records++;
    book->checked++;
}

void judge_copy(struct ledger *book, uint64_t least)
{
    struct inheritance inheritance = { .book = book, .last = UINT64_MAX - 1 };

    read_log(place.copy, NULL, least % 2 ? TWINLOG_READER_MMAP : 0, see_inherited, &inheritance);
    least = find_record(book, least);
    if (inheritance.last_read < least)
        violation("a copy ends at LSN %" PRIu64 ", but it has to have %" PRIu64, inheritance.last_read,
                  least);
    verify(place.copy);
    book->inherited = inheritance.records;
}

void judge_heir(struct ledger *book, uint64_t least)
{
    struct inheritance inheritance = { .book = book, .last = scene->opened_last };

    if (scene->opened_last < least || scene->opened_last > book->book.last + book->in_doubt)
        violation("a copy was opened with last LSN %" PRIu64 ", but it has to have %" PRIu64 ", and %" PRIu64
                  " at most",
                  scene->opened_last, least, book->book.last + book->in_doubt);
    check_names(place.copy);
    verify(place.copy);
    read_log(place.copy, NULL, 0, see_inherited, &inheritance);
    if (inheritance.last_read != scene->opened_last + scene->heir_records ||
        inheritance.own != scene->heir_records)
        violation("a copy that was opened in mode %" PRIu32 " ends at %" PRIu64 ", but %" PRIu64
                  " was appended",
                  scene->heir_mode, inheritance.last_read, scene->opened_last + scene->heir_records);
    if (inheritance.records - inheritance.own != book->inherited)
        violation("a copy had %" PRIu64 " records before it was opened, and has %" PRIu64 " of them",
                  book->inherited, inheritance.records - inheritance.own);
}

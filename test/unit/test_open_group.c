/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open groups: how they are read, and what becomes of those that a dead writer leaves.
 *
 * The segments are made by hand, as format.h says, behind a log that was closed.
 */
#define _GNU_SOURCE
#include "suites.h"

#include "../sim/simdisk.h"
#include "base/bytes.h"
#include "check/check.h"
#include "control/shared_page.h"
#include "hooked.h"
#include "log/log.h"
#include "logdir.h"
#include "read/reader.h"
#include "recover/recover.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define BYTES SEGMENT_MIN_BYTES
#define FIRST_RECORDS 5u /* of the log that was closed */

/* ---- segments ---------------------------------------------------------------------------------- */

/* A mapped segment, as a writer leaves it that dies: a header, a marker, and an open group of records and claims. */
static struct image {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    unsigned char bytes[BYTES];
    uint64_t at;        /* of the next record */
    uint64_t first_lsn; /* of the open group */
    uint64_t next_lsn;
    struct group_header mark;
    uint32_t seed, epoch_seed;
} images[3];

static struct io *images_io;
static uint8_t log_id[LOG_ID_BYTES];
static struct position closed_end; /* of the log that was closed */
static uint64_t closed_offset;     /* of what comes behind it, in its segment */

static size_t size_of(uint64_t lsn)
{
    return (size_t)(lsn * 37 % 600);
}

static void fill_payload(unsigned char *payload, uint64_t lsn)
{
    for (size_t i = 0; i < size_of(lsn); i++)
        payload[i] = (unsigned char)(lsn + i * 7);
}

static bool is_payload(const void *data, size_t size, uint64_t lsn)
{
    unsigned char payload[600];
    fill_payload(payload, lsn);
    return size == size_of(lsn) && memcmp(data, payload, size) == 0;
}

static int64_t image_time(uint64_t lsn)
{
    return INT64_C(1000000000000000000) + (int64_t)lsn * 1000;
}

static void begin_image(struct image *image, uint64_t sequence, const struct position *position)
{
    memset(image, 0, sizeof(*image));
    twl_segment_name(sequence, image->name);
    image->header = (struct segment_header){ .incompatible = FEATURE_MAPPED,
                                             .sequence = sequence,
                                             .segment_id = 1000 + sequence,
                                             .bytes = BYTES,
                                             .epoch = position->epoch.number };
    memcpy(image->header.log_id, log_id, sizeof(log_id));
    twl_segment_header_encode(&image->header, image->bytes);
    image->seed = twl_segment_seed(&image->header);
    image->mark = (struct group_header){ .first_lsn = position->next_lsn,
                                         .bytes = GROUP_HEADER_BYTES,
                                         .durable_lsn = FIRST_RECORDS,
                                         .chain = position->chain,
                                         .epoch = { .number = position->epoch.number + 1, .salt = 77 },
                                         .kind = GROUP_START,
                                         .flags = GROUP_FIRST };
    twl_group_header_encode(&image->mark, image->seed, SEGMENT_DATA_OFFSET,
                            image->bytes + SEGMENT_DATA_OFFSET);
    image->epoch_seed = twl_epoch_seed(log_id, image->mark.epoch);
    image->first_lsn = image->next_lsn = position->next_lsn;
    image->at = OPEN_RECORDS_OFFSET;
}

static struct position behind(const struct image *image)
{
    return (struct position){ .next_lsn = image->next_lsn,
                              .chain = image->mark.checksum,
                              .epoch = image->mark.epoch };
}

static void add_record(struct image *image)
{
    const uint64_t lsn = image->next_lsn++;
    const struct record_header record = { .size = (uint32_t)size_of(lsn), .time_ns = image_time(lsn) };
    unsigned char *at = image->bytes + image->at;
    fill_payload(at + RECORD_HEADER_BYTES, lsn);
    store_le64(at, twl_record_encode_open(at, image->epoch_seed, lsn, &record));
    image->at += twl_record_bytes(record.size);
}

static void add_records(struct image *image, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add_record(image);
}

static void add_claim(struct image *image, uint32_t size)
{
    unsigned char *at = image->bytes + image->at;
    store_le64(at, twl_claim_encode(image->epoch_seed, image->next_lsn, size, 9));
    if (size == CLAIM_END)
        return;
    memset(at + 8, 0xee, 16 + size); /* whatever its writer came to */
    image->at += twl_record_bytes(size);
    image->next_lsn++;
}

/* The group's header, as its writer puts it when everything is durable. */
static struct group_header close_image(struct image *image)
{
    struct group_header group = { .first_lsn = image->first_lsn,
                                  .count = (uint32_t)(image->next_lsn - image->first_lsn),
                                  .bytes = (uint32_t)(image->at - OPEN_GROUP_OFFSET),
                                  .durable_lsn = image->first_lsn - 1,
                                  .chain = image->mark.checksum,
                                  .epoch = image->mark.epoch,
                                  .flags = GROUP_MAPPED };
    twl_group_header_encode(&group, image->seed, OPEN_GROUP_OFFSET, image->bytes + OPEN_GROUP_OFFSET);
    return group;
}

/* A marker behind the records. */
static void add_close_mark(struct image *image)
{
    struct group_header mark = { .first_lsn = image->next_lsn,
                                 .bytes = GROUP_HEADER_BYTES,
                                 .durable_lsn = image->next_lsn - 1,
                                 .chain = image->mark.checksum,
                                 .epoch = image->mark.epoch,
                                 .kind = GROUP_CLOSE };
    uint64_t offset = image->next_lsn == image->first_lsn ? OPEN_GROUP_OFFSET : image->at;
    twl_group_header_encode(&mark, image->seed, offset, image->bytes + offset);
    image->at = offset + GROUP_HEADER_BYTES;
}

static void write_image(const struct image *image, size_t size)
{
    put_file(log_file(image->name), image->bytes, size);
}

/* ---- the log in front --------------------------------------------------------------------------- */

static int remove_other(void *context, const char *name)
{
    struct io *there = context;
    char first[SEGMENT_NAME_BYTES];
    twl_segment_name(1, first);
    bool is_other = twl_segment_name_is_ours(name) && strcmp(name, first) != 0;
    return is_other ? there->ops->unlink(there, name) : 0;
}

/* What continues the log, in place of its spare segments. */
static void find_closed_end(struct io *there)
{
    struct segment_set set;
    struct recovery recovery;
    struct twinlog_report report;
    ck_assert_int_eq(twl_segment_set_open(there, SET_FOR_READING, NULL, &set, &report), 0);
    ck_assert_int_eq(twl_recover(there, &set, false, NULL, &recovery), 0);
    memcpy(log_id, set.entries[0].header.log_id, sizeof(log_id));
    closed_end = recovery.position;
    closed_offset = recovery.offset;
    twl_segment_set_free(&set);
    ck_assert_int_eq(there->ops->list(there, remove_other, there), 0);
    ck_assert_int_eq(there->ops->sync_dir(there), 0);
}

static void make_closed_log(void)
{
    unsigned char payload[600];
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= FIRST_RECORDS; lsn++) {
        fill_payload(payload, lsn);
        ck_assert_int_eq(twinlog_append(log, payload, (uint32_t)size_of(lsn), NULL), 0);
    }
    log_close(log);
    images_io = log_io(false);
    find_closed_end(images_io);
}

/* In the first segment behind it. */
static struct image *first_image(unsigned records)
{
    begin_image(&images[0], 2, &closed_end);
    add_records(&images[0], records);
    return &images[0];
}

static void set_up(void)
{
    logdir_make();
    make_closed_log();
}

static void leave(void)
{
    images_io->ops->destroy(images_io);
    logdir_remove();
}

CASE("walks", set_up, leave);

static struct segment segment;
static struct segment_iter iter;

static void begin_walk(const struct image *image)
{
    ck_assert_int_eq(twl_segment_open_valid(images_io, image->name, &segment), 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    ck_assert_int_eq(twl_iter_enter_group(&iter), 1);
    ck_assert_int_eq(iter.group.kind, GROUP_START);
}

static void end_walk(void)
{
    twl_iter_free(&iter);
    twl_segment_close(&segment);
}

TEST(no_record_of_an_open_group_is_behind_the_last_lsn)
{
    const struct position last = { .next_lsn = LAST_LSN, .epoch = closed_end.epoch };
    begin_image(&images[0], 2, &last);
    add_records(&images[0], 3);
    write_image(&images[0], BYTES);
    begin_walk(&images[0]);
    ck_assert_int_eq(twl_iter_enter_group(&iter), 1);
    ck_assert_int_eq(twl_iter_enter_group(&iter), 0);
    ck_assert_uint_eq(iter.position.next_lsn, LAST_LSN + 1);
    end_walk();
}

static void expect_record(uint64_t lsn)
{
    struct iter_record record;
    ck_assert_int_eq(twl_iter_next_record(&iter, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    ck_assert(is_payload(record.payload, record.header.size, lsn));
}

TEST(what_a_file_lacks_is_zeros)
{
    struct image *image = first_image(4);
    size_t sizes[] = { (size_t)image->at, OPEN_GROUP_OFFSET, BYTES };
    for (size_t i = 0; i < 3; i++) {
        write_image(image, sizes[i]);
        for (int maps = 0; maps < 2; maps++) {
            unsigned count = 0;
            iter.maps = maps;
            begin_walk(image);
            while (twl_iter_accept_group(&iter) > 0)
                count++;
            ck_assert_uint_eq(count, i == 1 ? 0 : 4);
            ck_assert_int_eq(twl_iter_check(&iter), 0);
            end_walk();
        }
    }
}

/* With the claims of dead writers, which count as fillers. */
static unsigned count_records_and_claims(const struct image *image)
{
    unsigned count = 0;

    iter.passes_claims = true;
    begin_walk(image);
    while (twl_iter_accept_group(&iter) > 0)
        count++;
    end_walk();
    iter.passes_claims = false;
    return count;
}

/* Its zeros would be read into memory, and written by an opening: as much as an attacker likes, of a file of 8 KiB. */
TEST(a_claim_that_ends_behind_the_file_is_none)
{
    struct image *image = first_image(4);
    const uint64_t claim = image->at;

    add_claim(image, 20000);
    write_image(image, BYTES);
    ck_assert_uint_eq(count_records_and_claims(image), 5);
    write_image(image, (size_t)image->at);
    ck_assert_uint_eq(count_records_and_claims(image), 5);
    write_image(image, (size_t)align_up(claim + RECORD_HEADER_BYTES, BLOCK_BYTES));
    ck_assert_uint_eq(count_records_and_claims(image), 4);
}

TEST(places_in_an_open_group_are_found_also_beyond_what_was_walked)
{
    struct index_entry places[40];
    struct image *image = first_image(0);
    for (size_t i = 0; i < 40; i++) {
        places[i] = (struct index_entry){ .lsn = image->next_lsn,
                                          .group_offset = OPEN_GROUP_OFFSET,
                                          .record_offset = (uint32_t)(image->at - OPEN_GROUP_OFFSET) };
        add_record(image);
    }
    write_image(image, BYTES);
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        begin_walk(image);
        for (size_t i = 0; i < 200; i++) {
            size_t at = i * 17 % 40;
            ck_assert_int_eq(twl_iter_place(&iter, &places[at]), 1);
            expect_record(places[at].lsn);
            ck_assert_int_eq(twl_iter_seek(&iter, NULL, places[39 - at].lsn), 1);
            expect_record(places[39 - at].lsn);
        }
        struct index_entry wrong = places[7];
        wrong.lsn++;
        twl_iter_place_at(&iter, 0, (struct position){ 0 });
        ck_assert_int_eq(twl_iter_place(&iter, &wrong), 0);
        ck_assert_int_eq(twl_iter_seek_time(&iter, NULL, 1, image_time(places[11].lsn)), 1);
        expect_record(places[11].lsn);
        ck_assert_int_eq(twl_iter_seek(&iter, NULL, image->next_lsn), 0);
        end_walk();
        close_image(image);
        write_image(image, BYTES);
    }
}

TEST(a_summary_of_an_open_group_is_gone_on_with)
{
    static struct summary summary;
    struct image *image = first_image(30);
    write_image(image, BYTES);
    begin_walk(image);
    twl_iter_place_at(&iter, 0, twl_position_before(&segment.header));
    iter.summary = &summary;
    twl_summary_begin(&summary);
    for (unsigned i = 0; i < 11; i++)
        ck_assert_int_eq(twl_iter_accept_group(&iter), 1);
    twl_iter_place_at(&iter, 0, (struct position){ 0 });
    twl_iter_resume(&iter);
    ck_assert_uint_eq(twl_iter_next_lsn(&iter), image->first_lsn + 10);
    add_close_mark(image);
    close_image(image);
    write_image(image, BYTES);
    twl_iter_refresh(&iter);
    while (twl_iter_accept_group(&iter) > 0)
        continue;
    ck_assert_int_eq(iter.group.kind, GROUP_CLOSE);
    ck_assert_uint_eq(summary.next_lsn, image->next_lsn);
    ck_assert_uint_eq(summary.open_lsn, 0);
    ck_assert_int_eq(summary.max_ns, image_time(image->next_lsn - 1));
    end_walk();
}

CASE("readers", set_up, leave);

/* Three segments: the first full, with a header or without, the second full and open, the third in the making. */
static uint64_t make_three_images(bool is_first_closed, unsigned records)
{
    struct position position = closed_end;
    for (size_t i = 0; i < 3; i++) {
        struct image *image = &images[i];
        begin_image(image, 2 + i, &position);
        add_records(image, records + (unsigned)i);
        if (i < 2)
            add_claim(image, CLAIM_END);
        if (i == 0 && is_first_closed)
            close_image(image);
        position = behind(image);
    }
    return position.next_lsn - 1;
}

static uint64_t make_three(bool is_first_closed, unsigned records)
{
    uint64_t last_lsn = make_three_images(is_first_closed, records);
    for (size_t i = 0; i < 3; i++)
        write_image(&images[i], BYTES);
    return last_lsn;
}

/* One of its records was never finished. */
static uint64_t put_claim_in_second(unsigned before)
{
    const struct position position = behind(&images[0]);
    begin_image(&images[1], 3, &position);
    add_records(&images[1], before);
    uint64_t filler_lsn = images[1].next_lsn;
    add_claim(&images[1], 3000);
    add_records(&images[1], (unsigned)(images[2].first_lsn - images[1].next_lsn));
    add_claim(&images[1], CLAIM_END);
    ck_assert_uint_eq(images[1].next_lsn, images[2].first_lsn);
    ck_assert_uint_eq(images[1].mark.checksum, images[2].mark.chain);
    return filler_lsn;
}

static void expect_all(uint64_t last_lsn, uint64_t filler_lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;
    for (uint64_t lsn = 1; lsn <= last_lsn; lsn++) {
        if (lsn == filler_lsn)
            continue;
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert(is_payload(record.data, record.size, lsn));
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    for (uint64_t lsn = last_lsn; lsn > 0; lsn--) {
        if (lsn == filler_lsn)
            continue;
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
    }
    for (uint64_t lsn = FIRST_RECORDS + 1; lsn <= last_lsn; lsn += 7) {
        if (lsn == filler_lsn)
            continue;
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
    }
    twinlog_reader_close(reader);
}

static int count_damage(void *context, const struct twinlog_report *report)
{
    *(unsigned *)context += report->error != 0;
    return 0;
}

static void expect_sound(uint64_t records)
{
    unsigned findings = 0;
    uint64_t found = 0;
    struct twinlog_verify_options options = { .size = sizeof(options),
                                              .each = count_damage,
                                              .context = &findings };
    ck_assert_int_eq(twinlog_verify(log_dir, &options, &found), 0);
    ck_assert_uint_eq(findings, 0);
    ck_assert_uint_eq(found, records);
}

/* Opens the log, appends to it, and reads everything. */
static void expect_to_go_on(uint64_t last_lsn, uint64_t filler_lsn)
{
    unsigned char payload[600];
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    uint64_t lsn = 0;
    for (int again = 0; again < 2; again++) {
        struct twinlog *log = log_open(&options);
        fill_payload(payload, ++last_lsn);
        ck_assert_int_eq(twinlog_append(log, payload, (uint32_t)size_of(last_lsn), &lsn), 0);
        ck_assert_uint_eq(lsn, last_lsn);
        log_close(log);
    }
    expect_sound(last_lsn - (filler_lsn > 0));
    expect_all(last_lsn, filler_lsn);
}

TEST(readers_without_a_writer_see_what_is_complete)
{
    for (int is_first_closed = 0; is_first_closed < 2; is_first_closed++) {
        uint64_t last_lsn = make_three(is_first_closed, 60);
        expect_all(last_lsn, 0);
        expect_sound(last_lsn);
    }
}

TEST_LOOP(claims_of_a_dead_writer_are_fillers_for_readers_and_openings, 5)
{
    static const unsigned befores[] = { 0, 1, 20, 50, 60 };
    uint64_t last_lsn = make_three(false, 60), filler_lsn = put_claim_in_second(befores[_i]);
    write_image(&images[1], BYTES);
    expect_all(last_lsn, filler_lsn);
    expect_sound(last_lsn - 1);
    expect_to_go_on(last_lsn, filler_lsn);
}

TEST(a_claim_at_the_end_takes_nothing)
{
    struct image *image = first_image(10);
    uint64_t last_lsn = image->next_lsn - 1;
    add_claim(image, 100);
    write_image(image, BYTES);
    expect_all(last_lsn, 0);
    expect_to_go_on(last_lsn + 1, last_lsn + 1);
}

/* After a power cut, too: what is behind a claim has to check, as everything else. */
TEST(behind_a_claim_a_record_that_does_not_check_is_the_end)
{
    struct image *image = first_image(10);
    add_claim(image, 100);
    uint64_t filler_lsn = image->next_lsn - 1;
    add_records(image, 5);
    uint64_t torn = image->at, last_lsn = image->next_lsn - 1;
    add_records(image, 5);
    image->bytes[torn + RECORD_HEADER_BYTES] ^= 1;
    write_image(image, BYTES);
    expect_all(last_lsn, filler_lsn);
    expect_to_go_on(last_lsn, filler_lsn);
}

static int keep_damage(void *context, const struct twinlog_report *report)
{
    struct twinlog_report *damage = context;
    if (report->error == TWINLOG_ECORRUPT)
        *damage = *report;
    return 0;
}

/* Where the last segment of three says how far the log was durable. */
static void prove_in_mark(struct image *last, uint64_t lsn)
{
    last->mark.durable_lsn = lsn;
    twl_group_header_encode(&last->mark, last->seed, SEGMENT_DATA_OFFSET, last->bytes + SEGMENT_DATA_OFFSET);
}

static void prove_in_header(struct image *last, uint64_t lsn)
{
    last->header.after_lsn = lsn;
    twl_segment_header_encode(&last->header, last->bytes);
}

/* One more segment was prepared, in which there is nothing else. */
static void prove_in_spare(struct image *last, uint64_t lsn)
{
    const struct position position = behind(last);

    write_image(last, BYTES);
    begin_image(last, 5, &position);
    memset(last->bytes + SEGMENT_DATA_OFFSET, 0, BYTES - SEGMENT_DATA_OFFSET);
    prove_in_header(last, lsn);
}

static const struct proof {
    const char *name;
    void (*prove)(struct image *last, uint64_t durable_lsn);
} proofs[] = {
    { "in the mark", prove_in_mark },
    { "in the header", prove_in_header },
    { "in a spare", prove_in_spare },
};

/* Three segments, the second one with a claim. Returns its LSN. What proves it was durable is not written yet. */
static uint64_t make_three_with_claim(void)
{
    make_three(false, 60);
    return put_claim_in_second(20);
}

static void write_last_two(void)
{
    write_image(&images[1], BYTES);
    write_image(&images[2], BYTES);
}

static struct twinlog_report damage;

static int verify_for_damage(void)
{
    damage = (struct twinlog_report){ 0 };
    return twinlog_verify(log_dir, &WITH_SIZE(verify_options, .each = keep_damage, .context = &damage), NULL);
}

/* Before anybody says that a record is durable it is complete: the disk has lost what it had confirmed. */
TEST_EACH(a_claim_on_what_was_durable_is_damage, proofs)
{
    const struct twinlog_options options = LOG_OPTIONS(.io = TWINLOG_IO_FDATASYNC, .flags = TWINLOG_BUFFERED);
    const uint64_t filler_lsn = make_three_with_claim();
    struct twinlog *log;

    row->prove(&images[2], filler_lsn);
    write_last_two();
    ck_assert_int_eq(verify_for_damage(), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(damage.first_lsn, filler_lsn);
    ck_assert_int_eq(twinlog_open(log_dir, &options, &log), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_report.first_lsn, filler_lsn);
}

TEST_EACH(a_claim_behind_what_was_durable_is_no_damage, proofs)
{
    const uint64_t filler_lsn = make_three_with_claim();

    row->prove(&images[2], filler_lsn - 1);
    write_last_two();
    ck_assert_int_eq(verify_for_damage(), 0);
    ck_assert_uint_eq(damage.first_lsn, 0);
    log_close(log_open(&LOG_OPTIONS(.io = TWINLOG_IO_FDATASYNC, .flags = TWINLOG_BUFFERED)));
}

TEST(a_log_that_was_closed_short_is_gone_on_with)
{
    for (unsigned records = 0; records < 3; records++) {
        struct image *image = &images[0];
        begin_image(image, 2, &closed_end);
        add_records(image, records);
        if (records > 0)
            close_image(image);
        add_close_mark(image);
        write_image(image, (size_t)image->at);
        expect_all(FIRST_RECORDS + records, 0);
        expect_sound(FIRST_RECORDS + records);
        uint64_t last_lsn = image->next_lsn - 1;
        if (records == 2)
            expect_to_go_on(last_lsn, 0);
    }
}

TEST(a_group_whose_end_was_claimed_is_no_torn_one)
{
    struct image *image = first_image(10);
    add_claim(image, CLAIM_END);
    write_image(image, BYTES);
    struct twinlog_inspection inspection = { .size = sizeof(inspection) };
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_int_eq(inspection.report.finding, TWINLOG_FOUND_CLEAN_END);
    ck_assert_uint_eq(inspection.last_lsn, image->next_lsn - 1);
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    log_close(log_open(&options));
    ck_assert_int_eq(log_report.finding, TWINLOG_FOUND_CLEAN_END);
}

enum cut_place {
    CUT_IN_THE_SEVENTH,
    CUT_BEHIND_ALL,
    ONE_BIT_OF_THE_SEVENTH
};

static const struct cut {
    const char *name;
    enum cut_place place;
    bool has_header;
    enum twinlog_finding finding;
} cuts[] = {
    { "in a group with a header", CUT_IN_THE_SEVENTH, true, TWINLOG_FOUND_DAMAGE },
    { "a bit in a group with a header", ONE_BIT_OF_THE_SEVENTH, true, TWINLOG_FOUND_DAMAGE },
    { "behind a group with a header", CUT_BEHIND_ALL, true, TWINLOG_FOUND_CLEAN_END },
    { "in an open group", CUT_IN_THE_SEVENTH, false, TWINLOG_FOUND_TORN_TAIL },
    { "a bit in an open group", ONE_BIT_OF_THE_SEVENTH, false, TWINLOG_FOUND_TORN_TAIL },
    { "behind an open group", CUT_BEHIND_ALL, false, TWINLOG_FOUND_CLEAN_END },
};

/* A group gets its header when its records are durable, so no crash leaves the header without them. */
TEST_EACH(a_header_proves_the_records_of_a_group_that_was_open, cuts)
{
    const struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct image *image = first_image(6);
    const uint64_t seventh_lsn = image->next_lsn, seventh = image->at;

    add_records(image, 4);
    if (row->has_header)
        close_image(image);
    if (row->place == ONE_BIT_OF_THE_SEVENTH)
        image->bytes[seventh + RECORD_HEADER_BYTES] ^= 1;
    if (row->place == CUT_IN_THE_SEVENTH)
        write_image(image, (size_t)seventh + RECORD_HEADER_BYTES);
    else
        write_image(image, (size_t)align_up(image->at, BLOCK_BYTES));

    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_int_eq(inspection.report.finding, row->finding);
    const bool is_refused = row->finding == TWINLOG_FOUND_DAMAGE;
    if (is_refused) {
        ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
        ck_assert_uint_eq(log_report.first_lsn, seventh_lsn);
        return;
    }

    log_close(log_open(&options));
    const uint64_t kept = row->place == CUT_BEHIND_ALL ? image->next_lsn : seventh_lsn;
    ck_assert_uint_eq(log_report.finding, row->finding);
    expect_sound(kept - 1);
}

TEST(a_power_cut_over_several_segments_is_told)
{
    make_three(true, 60);
    images[1].bytes[OPEN_RECORDS_OFFSET] ^= 1;
    write_image(&images[1], BYTES);
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    log_close(log_open(&options));
    ck_assert_int_eq(log_report.finding, TWINLOG_FOUND_TORN_TAIL);
    ck_assert_int_eq(log_report.action, TWINLOG_DID_TRUNCATE);
    ck_assert_uint_eq(log_report.first_lsn, images[1].first_lsn);
    ck_assert(!log_has_file(images[2].name));
}

TEST(repair_finds_what_an_open_group_holds)
{
    char repaired[400];
    uint64_t last_lsn = make_three(true, 60), filler_lsn = put_claim_in_second(20);
    write_image(&images[1], BYTES);
    struct twinlog_repair_options options = { .size = sizeof(options) };
    struct twinlog_repair_result result = { .size = sizeof(result) };
    snprintf(repaired, sizeof(repaired), "%s/repaired", log_parent);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired, &options, &result), 0);
    strcpy(log_dir, repaired);
    expect_all(last_lsn, filler_lsn);
}

TEST(a_live_log_is_read_as_far_as_records_are_complete)
{
    struct shared_page shared;
    struct twinlog_record record;
    begin_image(&images[0], 2, &closed_end);
    write_image(&images[0], BYTES);
    ck_assert_int_eq(twl_page_lock(images_io, 0, &shared), 0);
    twl_page_publish(&shared, TWINLOG_MODE_MAPPED, images[0].mark.epoch.number, 1, FIRST_RECORDS);
    struct twinlog_reader *reader = log_reader(FIRST_RECORDS + 1, 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    for (size_t i = 0; i < 3; i++) {
        struct image *image = &images[i];
        for (unsigned n = 0; n < 50; n++) {
            uint64_t lsn = image->next_lsn, at = image->at;
            add_record(image);
            patch_file(log_file(image->name), (off_t)at + 8, image->bytes + at + 8,
                       (size_t)(image->at - at - 8));
            ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
            patch_file(log_file(image->name), (off_t)at, image->bytes + at, 8);
            ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
            ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
            ck_assert_uint_eq(record.lsn, lsn);
            ck_assert(is_payload(record.data, record.size, lsn));
        }
        uint64_t at = image->at;
        add_claim(image, i < 2 ? CLAIM_END : 24);
        patch_file(log_file(image->name), (off_t)at, image->bytes + at, 8);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
        if (i < 2) {
            struct position position = behind(image);
            begin_image(&images[i + 1], 3 + i, &position);
            if (i == 0) /* told before the marker is there, or after */
                twl_page_publish(&shared, TWINLOG_MODE_MAPPED, images[i + 1].mark.epoch.number, 1,
                                 FIRST_RECORDS);
            ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
            write_image(&images[i + 1], BYTES);
        }
    }
    uint64_t first, last;
    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(last, images[2].next_lsn - 2);
    twinlog_reader_close(reader);
    twl_page_unwatch(&shared);
}

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static int lock_error;

/* As for another user, or on a mount that is read-only. */
static int open_lock_to_read(const struct hooked_call *call)
{
    const bool is_page = call->op == SIM_OPEN && strcmp(call->name, PAGE_FILE_NAME) == 0;

    return is_page && !(call->flags & IO_READ_ONLY) ? lock_error : 0;
}

static const struct page_row {
    const char *name;
    int lock_error;
} page_rows[] = {
    { "it may write the page", 0 },
    { "the page of another user", -EACCES },
    { "a mount that is read-only", -EROFS },
};

/* The writer hears that a reader waits, unless that may not write the page. */
TEST_EACH(the_descriptor_tells_of_records_that_are_complete, page_rows)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct shared_page shared;
    struct image *image = first_image(0);
    write_image(image, BYTES);
    ck_assert_int_eq(twl_page_lock(images_io, 0, &shared), 0);
    twl_page_publish(&shared, TWINLOG_MODE_MAPPED, image->mark.epoch.number, 1, FIRST_RECORDS);
    lock_error = row->lock_error;
    struct io *other = hooked_log_dir(open_lock_to_read);
    options.from_lsn = FIRST_RECORDS + 1;
    ck_assert_int_eq(twl_reader_open(other, &options, &reader), 0);
    int fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(fd, 0);
    const uint32_t page_sequence = atomic_load(&shared.page->page_sequence);
    for (unsigned n = 0; n < 10; n++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
        ck_assert(lock_error != 0 || !is_readable(fd, 0));
        uint64_t at = image->at;
        add_record(image);
        patch_file(log_file(image->name), (off_t)at, image->bytes + at, (size_t)(image->at - at));
        if (lock_error == 0)
            twl_page_publish_durable(&shared, FIRST_RECORDS); /* a page_sequence, and no more */
        int rc = 0;
        while (rc == 0) { /* it may be told to look before there is something, and no more than that */
            ck_assert(is_readable(fd, 20000));
            rc = twinlog_reader_next(reader, &record);
        }
        ck_assert_int_eq(rc, 1);
        ck_assert_uint_eq(record.lsn, image->next_lsn - 1);
    }
    ck_assert(lock_error == 0 || atomic_load(&shared.page->page_sequence) == page_sequence);
    twinlog_reader_close(reader);
    twl_page_unwatch(&shared);
}

TEST(a_backup_has_what_an_open_group_holds)
{
    char copy[400];
    uint64_t last_lsn = make_three(true, 60);
    struct twinlog_backup_options options = { .size = sizeof(options) };
    struct twinlog_backup_result result = { .size = sizeof(result) };
    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    ck_assert_int_eq(twinlog_backup(log_dir, copy, &options, &result), 0);
    ck_assert_uint_eq(result.last_lsn, last_lsn);
    strcpy(log_dir, copy);
    expect_all(last_lsn, 0);
    expect_to_go_on(last_lsn, 0);
}

/* ---- what a segment does not tell --------------------------------------------------------------- */

CASE("walks", set_up, leave);

static void load_images(struct segment_set *set)
{
    struct twinlog_report report;
    ck_assert_int_eq(twl_segment_set_open(images_io, SET_FOR_READING, NULL, set, &report), 0);
    ck_assert_uint_eq(set->started, 4);
}

/* As behind a trim, without a segment that is known to begin the log. */
static void forget_first(struct segment_set *set)
{
    set->started--;
    memmove(set->entries, set->entries + 1, set->started * sizeof(*set->entries));
    set->first_lsn = images[0].first_lsn;
}

/* No LSN is behind all others: one that is not known is none. */
TEST(where_nothing_tells_an_lsn_the_log_does_not_end_behind_all_lsns)
{
    struct segment_set set;
    struct recovery recovery;

    make_three(false, 60);
    memset(images[0].bytes + SEGMENT_DATA_OFFSET, 0, GROUP_HEADER_BYTES);
    write_image(&images[0], BYTES);
    load_images(&set);
    forget_first(&set);
    set.entries[0].is_known = false;
    set.entries[0].first_lsn = 0;
    ck_assert_int_eq(twl_recover(images_io, &set, false, NULL, &recovery), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(recovery.position.next_lsn, images[0].first_lsn);
    ck_assert_uint_eq(recovery.report.first_lsn, images[0].first_lsn);
    twl_segment_set_free(&set);
}

static void seal_image(struct image *image)
{
    const uint64_t offset = twl_segment_data_end(BYTES);
    const struct segment_footer footer = { .first_lsn = image->first_lsn,
                                           .last_lsn = image->next_lsn - 1,
                                           .data_end = image->at,
                                           .offset = offset,
                                           .epoch = image->mark.epoch };
    twl_segment_footer_encode(&footer, image->seed, offset, image->bytes + offset);
}

/* The segments in the middle of a set are not looked at when it is loaded. */
TEST(what_the_footer_counts_is_told_as_lost_also_where_the_set_did_not_know_it)
{
    struct segment_set set;
    struct recovery recovery;

    make_three(false, 60);
    images[1].bytes[OPEN_RECORDS_OFFSET] ^= 1;
    seal_image(&images[1]);
    images[2].header.after_lsn = images[1].first_lsn;
    twl_segment_header_encode(&images[2].header, images[2].bytes);
    write_image(&images[1], BYTES);
    write_image(&images[2], BYTES);
    load_images(&set);
    ck_assert(!set.entries[2].is_known);
    ck_assert_int_eq(twl_recover(images_io, &set, false, NULL, &recovery), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(recovery.report.first_lsn, images[1].first_lsn);
    ck_assert_uint_eq(recovery.report.last_lsn, images[1].next_lsn - 1);
    twl_segment_set_free(&set);
}

static unsigned reads_of_tebibyte;

static int count_reads(const struct hooked_call *call)
{
    reads_of_tebibyte += call->op == SIM_READ;
    return 0;
}

/* A header may say anything; what is not in the file is not searched. */
TEST(a_header_that_claims_a_tebibyte_makes_no_look_longer)
{
    char repaired[320];
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;

    begin_image(&images[0], 2, &closed_end);
    images[0].header.bytes = SEGMENT_MAX_BYTES;
    twl_segment_header_encode(&images[0].header, images[0].bytes);
    add_records(&images[0], 20);
    write_image(&images[0], BYTES);
    ck_assert_int_eq(twl_inspect(hooked_log_dir(count_reads), &inspection), 0);
    ck_assert_uint_eq(inspection.last_lsn, images[0].next_lsn - 1);
    ck_assert_uint_lt(reads_of_tebibyte, 1000);

    images[0].bytes[OPEN_RECORDS_OFFSET + 1] ^=
        1; /* then all behind it is searched, by a repair for each record */
    write_image(&images[0], BYTES);
    snprintf(repaired, sizeof(repaired), "%s/repaired", log_parent);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired, NULL, &result), 0);
    ck_assert_uint_ge(result.last_lsn, FIRST_RECORDS);
}

/* ---- what a newer version has written ------------------------------------------------------------- */

static void make_newer_marker(struct image *image)
{
    image->mark.kind = 3;
    twl_group_header_encode(&image->mark, image->seed, SEGMENT_DATA_OFFSET,
                            image->bytes + SEGMENT_DATA_OFFSET);
}

static void make_newer_group(struct image *image)
{
    struct group_header group = close_image(image);
    group.flags |= 4;
    twl_group_header_encode(&group, image->seed, OPEN_GROUP_OFFSET, image->bytes + OPEN_GROUP_OFFSET);
}

static void make_newer_record(struct image *image)
{
    const struct record_header record = { .size = 8, .kind = 31 };
    unsigned char *at = image->bytes + image->at;
    store_le64(at, twl_record_encode_open(at, image->epoch_seed, image->next_lsn, &record));
}

static const struct newer_row {
    const char *name;
    void (*make)(struct image *image);
} newer_rows[] = {
    { "the first marker", make_newer_marker },
    { "the header of the group", make_newer_group },
    { "a record of the open group", make_newer_record },
};

static unsigned told_newer;

static int count_newer(void *context, const struct twinlog_report *finding)
{
    (void)context;
    told_newer +=
        finding->finding == TWINLOG_FOUND_NEWER_FORMAT && strcmp(finding->file, images[2].name) == 0;
    return 0;
}

static void expect_newer(const struct twinlog_report *found)
{
    ck_assert_uint_eq(found->finding, TWINLOG_FOUND_NEWER_FORMAT);
    ck_assert_str_eq(found->file, images[2].name);
    ck_assert_uint_ge(found->offset, SEGMENT_DATA_OFFSET);
    ck_assert_uint_ge(found->first_lsn, images[2].first_lsn);
}

/* It is no damage and no torn tail, and the newest segment is the one that is newer. */
TEST_EACH(what_a_newer_version_wrote_into_the_newest_segment_is_told_as_newer, newer_rows)
{
    const struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    const struct twinlog_verify_options verifying = WITH_SIZE(verify_options, .each = count_newer);
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader;

    make_three_images(false, 60);
    row->make(&images[2]);
    for (size_t i = 0; i < 3; i++)
        write_image(&images[i], BYTES);
    const uint64_t before = log_fingerprint(false);

    ck_assert_int_eq(log_open_error(&options), TWINLOG_EVERSION);
    expect_newer(&log_report);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), TWINLOG_EVERSION);
    expect_newer(&inspection.report);
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, NULL), TWINLOG_EVERSION);
    ck_assert_uint_eq(told_newer, 1);
    ck_assert_int_eq(twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .ret_report = &report), &reader),
                     TWINLOG_EVERSION);
    expect_newer(&report);
    ck_assert(log_fingerprint(false) == before);
}

static int refuse_to_remove(const struct hooked_call *call)
{
    return call->op == SIM_UNLINK ? -EROFS : 0;
}

/* The segments behind the end are removed before the group in front is completed. */
TEST(a_segment_that_cannot_be_removed_is_named)
{
    const struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    struct twinlog *log;

    make_three(true, 60);
    images[1].bytes[OPEN_RECORDS_OFFSET] ^= 1;
    write_image(&images[1], BYTES);
    ck_assert_int_eq(log_try_on(hooked_log_dir(refuse_to_remove), &options, &log), -EROFS);
    ck_assert_str_eq(log_report.file, images[2].name);
    ck_assert(strstr(log_report.text, "cannot remove"));
}

/* ---- what a failed opening leaves ------------------------------------------------------------------ */

/* What a test does at each operation of an opening, also of a thread that trims, and what has happened so far. */
static struct {
    _Atomic unsigned calls;
    _Atomic unsigned fails_at; /* the number of the operation that fails; 0: none */
    _Atomic unsigned syncs;
    _Atomic unsigned spoils_at; /* the number of the sync in front of which the disk loses a record */
} steps;

static int fail_one(const struct hooked_call *call)
{
    (void)call;
    const unsigned number = atomic_fetch_add(&steps.calls, 1) + 1;
    return number == atomic_load(&steps.fails_at) ? -EIO : 0;
}

/* What the log holds behind a sound opening. */
struct left {
    uint64_t last_lsn, filler_lsn;
};

static struct left leave_claim(void)
{
    struct left left = { .last_lsn = make_three(false, 60) };
    left.filler_lsn = put_claim_in_second(20);
    write_image(&images[1], BYTES);
    return left;
}

/* The power took a record of the second segment, so the third one is dead. */
static struct left leave_dead_segment(void)
{
    make_three_images(true, 60);
    const struct position position = behind(&images[0]);
    begin_image(&images[1], 3, &position);
    add_records(&images[1], 20);
    const struct left left = { .last_lsn = images[1].next_lsn - 1 };
    const uint64_t lost = images[1].at;
    add_records(&images[1], 20);
    images[1].bytes[lost + RECORD_HEADER_BYTES] ^= 1;
    for (size_t i = 0; i < 3; i++)
        write_image(&images[i], BYTES);
    return left;
}

/* That of the log in front, which is not mapped. */
static void seal_first_segment(void)
{
    unsigned char block[SEGMENT_FOOTER_BYTES] = { 0 };

    ck_assert_int_eq(twl_segment_open_valid(images_io, "0000000000000001.twl", &segment), 0);
    const struct segment_footer footer = { .first_lsn = 1,
                                           .last_lsn = FIRST_RECORDS,
                                           .data_end = closed_offset,
                                           .offset = segment.data_end,
                                           .chain = closed_end.chain,
                                           .epoch = closed_end.epoch };
    twl_segment_footer_encode(&footer, segment.seed, footer.offset, block);
    patch_file(log_segment(1), (off_t)footer.offset, block, sizeof(block));
    twl_segment_close(&segment);
}

/* The same, of the marker that begins the first mapped segment, and the one in front is sealed already. */
static struct left leave_sealed_segment(void)
{
    make_three_images(true, 60);
    seal_first_segment();
    images[0].bytes[SEGMENT_DATA_OFFSET] ^= 1;
    memset(images[0].bytes + OPEN_GROUP_OFFSET, 0, GROUP_HEADER_BYTES);
    for (size_t i = 0; i < 2; i++)
        write_image(&images[i], BYTES);
    return (struct left){ .last_lsn = FIRST_RECORDS };
}

/* The power took the header of the group, and left the marker of the close behind it. */
static struct left leave_mark_without_header(void)
{
    struct image *image = first_image(30);
    const struct left left = { .last_lsn = image->next_lsn - 1 };
    add_close_mark(image);
    write_image(image, BYTES);
    return left;
}

static const struct leaving {
    const char *name;
    struct left (*leave)(void);
} leavings[] = {
    { "a claim", leave_claim },
    { "a segment that does not count", leave_dead_segment },
    { "a sealed segment in front of one that does not count", leave_sealed_segment },
    { "the marker of a close behind a group without a header", leave_mark_without_header },
};

static struct twinlog_options opening_alone(void)
{
    return log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED | LOG_NO_THREADS);
}

/* False: the opening has fewer operations. */
static bool open_with_failure(unsigned number)
{
    const struct twinlog_options options = opening_alone();
    struct twinlog *log;

    steps.calls = 0;
    steps.fails_at = number;
    const int rc = log_try_on(hooked_log_dir(fail_one), &options, &log);
    steps.fails_at = 0;
    if (rc == 0) {
        (void)twinlog_close(log);
        return steps.calls >= number;
    }
    ck_assert_msg(rc != TWINLOG_ECORRUPT && rc != TWINLOG_EFOREIGN && rc != TWINLOG_EVERSION,
                  "operation %u: told as: %s", number, twinlog_strerror(rc));
    ck_assert_int_eq(log_report.error, rc);
    ck_assert_str_ne(log_report.text, "");
    ck_assert_uint_ge(steps.calls, number);
    return true;
}

static void keep_template(char template_dir[320])
{
    snprintf(template_dir, 320, "%s/template", log_parent);
    copy_directory(log_dir, template_dir);
}

static void take_template(const char *template_dir)
{
    remove_tree(log_dir);
    copy_directory(template_dir, log_dir);
}

/* Whatever it was, the next opening finds what the first one would have found. */
TEST_EACH(an_opening_that_failed_at_any_step_is_made_up_for_by_the_next_one, leavings)
{
    const struct twinlog_options options = opening_alone();
    char template_dir[320];
    unsigned number = 0;
    bool has_failed;

    const struct left left = row->leave();
    keep_template(template_dir);
    do {
        number += REPEATS(1, 5);
        take_template(template_dir);
        has_failed = open_with_failure(number);
        log_close(log_open(&options));
        expect_all(left.last_lsn, left.filler_lsn);
    } while (has_failed);
    ck_assert_uint_gt(number, 40);
}

/* As the page cache loses what the disk did not take: without an error to the one that syncs. */
static int lose_a_record(const struct hooked_call *call)
{
    if (call->op != SIM_SYNC)
        return 0;
    const unsigned number = atomic_fetch_add(&steps.syncs, 1) + 1;
    if (number == atomic_load(&steps.spoils_at))
        patch_file(log_file(images[0].name), OPEN_RECORDS_OFFSET, "\xff", 1);
    return 0;
}

/* Nothing may say that such a group is complete. */
TEST(a_record_that_is_lost_while_its_group_is_completed_is_an_error)
{
    const struct twinlog_options options = opening_alone();
    char template_dir[320];
    struct twinlog *log;
    int rc;

    write_image(first_image(30), BYTES);
    keep_template(template_dir);
    steps.spoils_at = 0;
    do {
        take_template(template_dir);
        steps.syncs = 0;
        steps.spoils_at++;
        rc = log_try_on(hooked_log_dir(lose_a_record), &options, &log);
        if (rc == 0) /* it was lost before anybody looked */
            log_close(log);
    } while (rc == 0 && steps.syncs >= steps.spoils_at);
    ck_assert_int_eq(rc, -EIO);
    ck_assert(strstr(log_report.text, "cannot complete the open groups"));
    log_close(log_open(&options));
    expect_all(FIRST_RECORDS, 0);
}

static int remove_it_first(const struct hooked_call *call)
{
    if (call->op == SIM_UNLINK)
        remove(log_file(images[2].name));
    return 0;
}

TEST(a_segment_that_is_gone_before_it_is_removed_is_no_error)
{
    const struct twinlog_options options = opening_alone();
    struct twinlog *log;

    const struct left left = leave_dead_segment();
    ck_assert_int_eq(log_try_on(hooked_log_dir(remove_it_first), &options, &log), 0);
    log_close(log);
    expect_all(left.last_lsn, 0);
}

/* The next start puts its marker there. */
TEST(a_record_that_was_lost_may_begin_where_a_block_does)
{
    struct image *image = first_image(10);
    uint64_t behind_claim = 0;
    for (uint64_t lsn = image->next_lsn + 1; lsn <= image->next_lsn + 5; lsn++)
        behind_claim += twl_record_bytes(size_of(lsn));
    const uint64_t least = image->at + RECORD_HEADER_BYTES + 8 + behind_claim;
    const uint64_t edge = align_up(least, BLOCK_BYTES);
    const uint64_t filler_lsn = image->next_lsn;
    add_claim(image, (uint32_t)(edge - least + 8));
    add_records(image, 5);
    ck_assert_uint_eq(image->at, edge);
    const uint64_t last_lsn = image->next_lsn - 1;

    add_records(image, 5);
    image->bytes[edge + RECORD_HEADER_BYTES] ^= 1;
    write_image(image, BYTES);
    expect_all(last_lsn, filler_lsn);
    expect_to_go_on(last_lsn, filler_lsn);
}

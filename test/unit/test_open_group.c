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
#include "open_images.h"
#include "read/reader.h"
#include "recover/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
static struct segment_iter cursor;

static void begin_walk(const struct image *image)
{
    ck_assert_int_eq(twl_segment_open_valid(images_io, image->name, &segment), 0);
    twl_iter_begin(&cursor, &segment, twl_position_before(&segment.header));
    ck_assert_int_eq(twl_iter_enter_group(&cursor), 1);
    ck_assert_int_eq(cursor.group.kind, GROUP_START);
}

static void end_walk(void)
{
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
}

static void expect_record(uint64_t lsn)
{
    struct cursor_record record;
    ck_assert_int_eq(twl_iter_next_record(&cursor, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    ck_assert(is_payload(record.payload, record.header.size, lsn));
}

TEST(an_open_group_is_walked_record_by_record_and_grows)
{
    struct image *image = first_image(20);
    write_image(image, BYTES);
    begin_walk(image);
    for (uint64_t lsn = image->first_lsn; lsn < image->next_lsn; lsn++) {
        ck_assert_int_eq(twl_iter_enter_group(&cursor), 1);
        ck_assert_uint_eq(cursor.records_left, 1);
        expect_record(lsn);
    }
    ck_assert_int_eq(twl_iter_enter_group(&cursor), 0);
    ck_assert_uint_eq(cursor.group.count, 20);
    ck_assert_uint_eq(cursor.position.chain, image->mark.checksum);

    uint64_t lsn = image->next_lsn, at = image->at;
    add_record(image);
    patch_file(log_file(image->name), (off_t)at + 8, image->bytes + at + 8, (size_t)(image->at - at - 8));
    twl_iter_refresh(&cursor);
    ck_assert_msg(twl_iter_enter_group(&cursor) == 0, "the word that makes it complete is missing");
    patch_file(log_file(image->name), (off_t)at, image->bytes + at, 8);
    twl_iter_refresh(&cursor);
    ck_assert_int_eq(twl_iter_enter_group(&cursor), 1);
    expect_record(lsn);
    end_walk();
}

TEST(a_claim_ends_the_walk_unless_it_is_passed)
{
    struct image *image = first_image(3);
    add_claim(image, 1000);
    add_records(image, 2);
    add_claim(image, CLAIM_END);
    write_image(image, BYTES);
    for (int passes = 0; passes < 2; passes++) {
        unsigned count = 0, fillers = 0;
        begin_walk(image);
        cursor.passes_claims = passes;
        while (twl_iter_enter_group(&cursor) > 0) {
            struct cursor_record record;
            ck_assert_int_eq(twl_iter_next_record(&cursor, &record), 1);
            fillers += record.header.kind == RECORD_FILLER;
            count++;
        }
        ck_assert_uint_eq(count, passes ? 6 : 3);
        ck_assert_uint_eq(fillers, passes ? 1 : 0);
        ck_assert_int_eq(twl_iter_has_ended(&cursor), passes);
        end_walk();
    }
}

TEST(what_a_file_lacks_is_zeros)
{
    struct image *image = first_image(4);
    size_t sizes[] = { (size_t)image->at, OPEN_GROUP_OFFSET, BYTES };
    for (size_t i = 0; i < 3; i++) {
        write_image(image, sizes[i]);
        for (int maps = 0; maps < 2; maps++) {
            unsigned count = 0;
            cursor.maps = maps;
            begin_walk(image);
            while (twl_iter_accept_group(&cursor) > 0)
                count++;
            ck_assert_uint_eq(count, i == 1 ? 0 : 4);
            ck_assert_int_eq(twl_iter_check(&cursor), 0);
            end_walk();
        }
    }
}

TEST(a_group_that_was_open_stands_outside_the_chain)
{
    struct image *image = &images[0];
    for (int has_header = 0; has_header < 2; has_header++)
        for (unsigned records = 0; records < 3; records++) {
            begin_image(image, 2, &closed_end);
            add_records(image, records);
            if (has_header && records > 0)
                close_image(image);
            add_close_mark(image);
            write_image(image, (size_t)image->at);
            begin_walk(image);
            unsigned count = 0;
            while (twl_iter_accept_group(&cursor) > 0 && cursor.group.kind == GROUP_RECORDS)
                count += cursor.entered;
            ck_assert_uint_eq(count, records);
            ck_assert_int_eq(cursor.group.kind, GROUP_CLOSE);
            ck_assert_uint_eq(cursor.offset, image->at);
            end_walk();
        }
}

TEST(a_record_that_does_not_check_is_not_accepted_and_the_rest_is)
{
    struct image *image = first_image(10);
    uint64_t torn = image->at, torn_lsn = image->next_lsn;
    add_records(image, 3);
    image->bytes[torn + RECORD_HEADER_BYTES] ^= 1;
    write_image(image, BYTES);
    begin_walk(image);
    while (twl_iter_accept_group(&cursor) > 0)
        continue;
    ck_assert_uint_eq(cursor.offset, torn);
    ck_assert_uint_eq(cursor.position.next_lsn, torn_lsn);
    ck_assert_int_eq(twl_iter_accept_group(&cursor), 0);
    ck_assert_uint_eq(cursor.position.next_lsn, torn_lsn);
    end_walk();
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
            ck_assert_int_eq(twl_iter_place(&cursor, &places[at]), 1);
            expect_record(places[at].lsn);
            ck_assert_int_eq(twl_iter_seek(&cursor, NULL, places[39 - at].lsn), 1);
            expect_record(places[39 - at].lsn);
        }
        struct index_entry wrong = places[7];
        wrong.lsn++;
        twl_iter_place_at(&cursor, 0, (struct position){ 0 });
        ck_assert_int_eq(twl_iter_place(&cursor, &wrong), 0);
        ck_assert_int_eq(twl_iter_seek_time(&cursor, NULL, image_time(places[11].lsn)), 1);
        expect_record(places[11].lsn);
        ck_assert_int_eq(twl_iter_seek(&cursor, NULL, image->next_lsn), 0);
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
    twl_iter_place_at(&cursor, 0, twl_position_before(&segment.header));
    cursor.summary = &summary;
    twl_summary_begin(&summary);
    for (unsigned i = 0; i < 11; i++)
        ck_assert_int_eq(twl_iter_accept_group(&cursor), 1);
    twl_iter_place_at(&cursor, 0, (struct position){ 0 });
    twl_iter_resume(&cursor);
    ck_assert_uint_eq(twl_iter_next_lsn(&cursor), image->first_lsn + 10);
    add_close_mark(image);
    close_image(image);
    write_image(image, BYTES);
    twl_iter_refresh(&cursor);
    while (twl_iter_accept_group(&cursor) > 0)
        continue;
    ck_assert_int_eq(cursor.group.kind, GROUP_CLOSE);
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

/* Before anybody says that a record is durable it is complete: the disk has lost what it had confirmed. */
TEST_LOOP(a_claim_on_what_was_durable_is_damage, 6)
{
    enum {
        IN_MARK,
        IN_HEADER,
        IN_SPARE
    };
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    struct twinlog_report damage = { 0 };
    struct twinlog_verify_options verify = { .size = sizeof(verify),
                                             .each = keep_damage,
                                             .context = &damage };
    struct twinlog *log;
    const int place = _i % 3;
    const bool is_proof = _i / 3;
    make_three(false, 60);
    uint64_t filler_lsn = put_claim_in_second(20), lsn = is_proof ? filler_lsn : filler_lsn - 1;
    struct image *last = &images[2];
    if (place == IN_SPARE) {
        const struct position position = behind(last);
        write_image(last, BYTES);
        begin_image(last, 5, &position);
        memset(last->bytes + SEGMENT_DATA_OFFSET, 0, BYTES - SEGMENT_DATA_OFFSET);
    }
    if (place != IN_MARK) {
        last->header.after_lsn = lsn;
        twl_segment_header_encode(&last->header, last->bytes);
    } else {
        last->mark.durable_lsn = lsn;
        twl_group_header_encode(&last->mark, last->seed, SEGMENT_DATA_OFFSET,
                                last->bytes + SEGMENT_DATA_OFFSET);
    }
    write_image(&images[1], BYTES);
    write_image(last, BYTES);
    const int rc = twinlog_verify(log_dir, &verify, NULL);
    ck_assert_int_eq(rc, is_proof ? TWINLOG_ECORRUPT : 0);
    ck_assert_uint_eq(damage.first_lsn, is_proof ? filler_lsn : 0);
    options.ret_report = &log_report;
    ck_assert_int_eq(twinlog_open(log_dir, &options, &log), rc);
    if (is_proof)
        ck_assert_uint_eq(log_report.first_lsn, filler_lsn);
    else
        log_close(log);
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
    twl_page_unlock(&shared);
}

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

TEST(the_descriptor_tells_of_records_that_are_complete)
{
    struct shared_page shared;
    struct twinlog_record record;
    struct image *image = first_image(0);
    write_image(image, BYTES);
    ck_assert_int_eq(twl_page_lock(images_io, 0, &shared), 0);
    twl_page_publish(&shared, TWINLOG_MODE_MAPPED, image->mark.epoch.number, 1, FIRST_RECORDS);
    struct twinlog_reader *reader = log_reader(FIRST_RECORDS + 1, 0);
    int fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(fd, 0);
    for (unsigned n = 0; n < 10; n++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
        ck_assert(!is_readable(fd, 0));
        uint64_t at = image->at;
        add_record(image);
        patch_file(log_file(image->name), (off_t)at, image->bytes + at, (size_t)(image->at - at));
        ck_assert_msg(atomic_load(&shared.page->awaited_sequence) == atomic_load(&shared.page->page_sequence),
                      "its writer would not know that a thread waits");
        twl_page_publish_durable(&shared, FIRST_RECORDS); /* a page_sequence, and no more */
        ck_assert(is_readable(fd, 5000));
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    }
    twinlog_reader_close(reader);
    twl_page_unlock(&shared);
}

static int lock_error;

/* As for another user, or on a mount that is read-only. */
static int open_lock_to_read(const struct hooked_call *call)
{
    const bool is_page = call->op == SIM_OPEN && strcmp(call->name, PAGE_FILE_NAME) == 0;

    return is_page && !(call->flags & IO_READ_ONLY) ? lock_error : 0;
}

/* Its writer never hears that it waits. */
TEST_LOOP(the_descriptor_of_a_reader_that_may_not_write_tells_as_well, 2)
{
    static const int errors[] = { -EACCES, -EROFS };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct shared_page shared;
    struct image *image = first_image(0);
    write_image(image, BYTES);
    ck_assert_int_eq(twl_page_lock(images_io, 0, &shared), 0);
    twl_page_publish(&shared, TWINLOG_MODE_MAPPED, image->mark.epoch.number, 1, FIRST_RECORDS);
    lock_error = errors[_i];
    struct io *other = hooked_log_dir(open_lock_to_read);
    options.from_lsn = FIRST_RECORDS + 1;
    ck_assert_int_eq(twl_reader_open(other, &options, &reader), 0);
    int fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(fd, 0);
    const uint32_t page_sequence = atomic_load(&shared.page->page_sequence);
    for (unsigned n = 0; n < 10; n++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
        uint64_t at = image->at;
        add_record(image);
        patch_file(log_file(image->name), (off_t)at, image->bytes + at, (size_t)(image->at - at));
        int rc = 0;
        while (rc == 0) { /* it may be told to look before there is something, and no more than that */
            ck_assert(is_readable(fd, 20000));
            rc = twinlog_reader_next(reader, &record);
        }
        ck_assert_int_eq(rc, 1);
        ck_assert_uint_eq(record.lsn, image->next_lsn - 1);
    }
    ck_assert_uint_eq(atomic_load(&shared.page->page_sequence), page_sequence);
    twinlog_reader_close(reader);
    twl_page_unlock(&shared);
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

CASE("crashes", NULL, NULL);

#define POWER_CUTS REPEATS(3000u, 400u)
#define KILLS REPEATS(40u, 10u)
#define LOST_PAGES REPEATS(400u, 80u)

static struct rng chance;

static struct simdisk *make_disk(void)
{
    const struct simdisk_options machine = { .seed = rng_next(&chance), .has_direct = true };
    struct simdisk *disk = simdisk_create(&machine);
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    unsigned char payload[600];
    struct twinlog *log = log_on(simdisk_connect(disk), &options);
    for (uint64_t lsn = 1; lsn <= FIRST_RECORDS; lsn++) {
        fill_payload(payload, lsn);
        ck_assert_int_eq(twinlog_append(log, payload, (uint32_t)size_of(lsn), NULL), 0);
    }
    ck_assert_int_eq(twinlog_close(log), 0);
    struct io *on_disk = simdisk_connect(disk);
    find_closed_end(on_disk);
    on_disk->ops->destroy(on_disk);
    return disk;
}

/* Its header is durable and so is a closed group; the rest of it may be lost. */
static void write_to_disk(struct simdisk *disk, const struct image *image, bool is_closed)
{
    struct io *on_disk = simdisk_connect(disk);
    struct io_file *file;
    ck_assert_int_eq(io_open(on_disk, image->name, IO_CREATE, &file), 0);
    ck_assert_int_eq(io_allocate(file, BYTES, IO_ALLOCATE_SPACE), 0);
    ck_assert_int_eq(io_write_at(file, image->bytes, SEGMENT_HEADER_BYTES, 0), 0);
    ck_assert_int_eq(io_sync(file), 0);
    ck_assert_int_eq(on_disk->ops->sync_dir(on_disk), 0);
    ck_assert_int_eq(io_write_at(file, image->bytes + SEGMENT_DATA_OFFSET, BYTES - SEGMENT_DATA_OFFSET,
                                 SEGMENT_DATA_OFFSET),
                     0);
    if (is_closed)
        ck_assert_int_eq(io_sync(file), 0);
    io_close(file);
    on_disk->ops->destroy(on_disk);
}

/* LSN of the last record that a reader finds; all before it are there. */
static uint64_t read_disk(struct simdisk *disk, uint64_t filler_lsn)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t lsn = 0;
    struct twinlog_report report = { 0 };
    int rc =
        twl_reader_open(simdisk_connect(disk), &WITH_SIZE(reader_options, .ret_report = &report), &reader);
    ck_assert_msg(rc == 0, "%s: %s", twinlog_strerror(rc), report.text);
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        lsn += lsn + 1 == filler_lsn ? 2 : 1;
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert(is_payload(record.data, record.size, lsn));
    }
    ck_assert_int_eq(rc, 0);
    twinlog_reader_close(reader);
    return lsn;
}

/* Opens the log and appends a record; its LSN. */
static uint64_t go_on(struct simdisk *disk, uint64_t after_lsn)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    unsigned char payload[600];
    uint64_t lsn;
    struct twinlog *log = log_on(simdisk_connect(disk), &options);
    fill_payload(payload, after_lsn + 1);
    ck_assert_int_eq(twinlog_append(log, payload, (uint32_t)size_of(after_lsn + 1), &lsn), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    return lsn;
}

static void expect_nothing_open(struct simdisk *disk)
{
    struct io *on_disk = simdisk_connect(disk);
    struct segment_set set;
    struct twinlog_report report;
    bool is_open;
    ck_assert_int_eq(twl_segment_set_open(on_disk, SET_FOR_READING, NULL, &set, &report), 0);
    for (size_t i = 0; i < set.started; i++) {
        ck_assert_int_eq(twl_segment_is_open(on_disk, &set.entries[i], &is_open), 0);
        ck_assert(!is_open);
    }
    twl_segment_set_free(&set);
    on_disk->ops->destroy(on_disk);
}

/* What is left of the log after a crash: these records, and others can follow. */
static void expect_prefix(struct simdisk *disk, uint64_t last_lsn, uint64_t filler_lsn)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records;
    unsigned findings = 0;
    ck_assert_uint_eq(read_disk(disk, filler_lsn), last_lsn);
    ck_assert_uint_eq(go_on(disk, last_lsn), last_lsn + 1);
    expect_nothing_open(disk);
    ck_assert_uint_eq(go_on(disk, last_lsn + 1), last_lsn + 2);
    ck_assert_uint_eq(read_disk(disk, filler_lsn), last_lsn + 2);
    options.each = count_damage;
    options.context = &findings;
    ck_assert_int_eq(twl_verify(simdisk_connect(disk), &options, &records), 0);
    ck_assert_uint_eq(findings, 0);
    ck_assert_uint_eq(records, last_lsn + 2 - (filler_lsn > 0));
}

/* While a process opens the log: at any moment there may be a crash. */
struct opening {
    struct simdisk *disk;
    enum simdisk_cut cut;
    uint64_t last_lsn, filler_lsn;
    bool is_over; /* it appends by now */
    unsigned crashes;
};

static void crash(void *context, enum simdisk_op op)
{
    struct opening *opening = context;
    (void)op;
    if (opening->is_over)
        return;
    struct simdisk *image = simdisk_crash_image(opening->disk, opening->cut, rng_next(&chance));
    expect_prefix(image, opening->last_lsn, opening->filler_lsn);
    simdisk_destroy(image);
    opening->crashes++;
}

static void open_with_crashes(struct simdisk *disk, enum simdisk_cut cut, uint64_t last_lsn,
                              uint64_t filler_lsn)
{
    struct opening opening = { .disk = disk, .cut = cut, .last_lsn = last_lsn, .filler_lsn = filler_lsn };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    simdisk_set_hook(disk, crash, &opening);
    struct twinlog *log = log_on(simdisk_connect(disk), &options);
    opening.is_over = true;
    simdisk_set_hook(disk, NULL, NULL);
    ck_assert_uint_gt(opening.crashes, 8);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_prefix(disk, last_lsn, filler_lsn);
}

TEST(a_power_cut_leaves_a_prefix_and_a_log_that_goes_on)
{
    chance.state = test_seed();
    for (unsigned run = 0; run < POWER_CUTS; run++) {
        struct simdisk *disk = make_disk();
        bool is_first_closed = rng_below(&chance, 2) == 0;
        uint64_t most = make_three_images(is_first_closed, 30 + (unsigned)rng_below(&chance, 60));
        for (size_t i = 0; i < 3; i++)
            write_to_disk(disk, &images[i], i == 0 && is_first_closed);
        static const enum simdisk_cut cuts[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_GARBAGE };
        enum simdisk_cut cut = cuts[rng_below(&chance, 4)];
        struct simdisk *left = simdisk_crash_image(disk, cut, rng_next(&chance));
        uint64_t last_lsn = read_disk(left, 0);
        ck_assert_uint_ge(last_lsn, is_first_closed ? images[0].next_lsn - 1 : FIRST_RECORDS);
        ck_assert_uint_le(last_lsn, most);
        if (cut == SIM_CUT_ALL)
            ck_assert_uint_eq(last_lsn, most);
        if (run % 50 == 0)
            open_with_crashes(left, SIM_CUT_RANDOM, last_lsn, 0);
        else
            expect_prefix(left, last_lsn, 0);
        simdisk_destroy(left);
        simdisk_destroy(disk);
    }
}

/* Reads through the page cache go on to show them, as long as they are there. */
static void lose_pages(struct simdisk *disk, const struct image *image)
{
    const struct simdisk_fault fault = { .op = SIM_SYNC, .nth = 1, .error = -EIO };
    struct io *on_disk = simdisk_connect(disk);
    struct io_file *file;
    ck_assert_int_eq(io_open(on_disk, image->name, 0, &file), 0);
    simdisk_inject(disk, &fault);
    ck_assert_int_eq(io_sync(file), -EIO);
    io_close(file);
    on_disk->ops->destroy(on_disk);
}

static uint64_t last_after_power_cut(struct simdisk *disk)
{
    struct simdisk *image = simdisk_crash_image(disk, SIM_CUT_NONE, 0);
    uint64_t lsn = read_disk(image, 0);
    simdisk_destroy(image);
    return lsn;
}

TEST(what_only_the_page_cache_has_is_neither_shown_nor_counted)
{
    chance.state = test_seed();
    for (unsigned run = 0; run < LOST_PAGES; run++) {
        struct simdisk *disk = make_disk();
        bool is_first_closed = rng_below(&chance, 2) == 0;
        uint64_t most = make_three_images(is_first_closed, 30 + (unsigned)rng_below(&chance, 60));
        for (size_t i = 0; i < 3; i++)
            write_to_disk(disk, &images[i], i == 0 && is_first_closed);
        for (size_t i = rng_below(&chance, 3); i < 3; i++)
            lose_pages(disk, &images[i]);
        uint64_t last_lsn = read_disk(disk, 0);
        ck_assert_uint_le(last_lsn, most);
        if (run % 2 == 0)
            ck_assert_uint_ge(last_after_power_cut(disk), last_lsn);
        if (run % 10 == 0)
            open_with_crashes(disk, SIM_CUT_NONE, last_lsn, 0);
        else
            expect_prefix(disk, last_lsn, 0);
        ck_assert_uint_eq(last_after_power_cut(disk), last_lsn + 2);
        simdisk_destroy(disk);
    }
}

TEST(a_kill_takes_nothing_whenever_the_next_one_comes)
{
    chance.state = test_seed();
    for (unsigned run = 0; run < KILLS; run++) {
        struct simdisk *disk = make_disk();
        uint64_t last_lsn = make_three_images(false, 20);
        uint64_t filler_lsn = put_claim_in_second(5 + (unsigned)rng_below(&chance, 10));
        for (size_t i = 0; i < 3; i++)
            write_to_disk(disk, &images[i], false);
        open_with_crashes(disk, SIM_KILL, last_lsn, filler_lsn);
        simdisk_destroy(disk);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The commit path where segments end: full disks, limits, seals and records of all sizes, seen at its seam. */
#include "gate.h"
#include "logdir.h"
#include "seam.h"
#include "suites.h"

#include "commit/inside.h"
#include "io/io_files.h"
#include "keeper/inside.h"
#include "log/log.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

static void wait_for_spare(struct twinlog *log)
{
    AWAIT(log_stat(log).spare_segments > 0);
}

static void expect_refusal(struct twinlog *log, size_t size)
{
    uint64_t lsn = 1;

    ck_assert_int_eq(twinlog_append(log, payload, size, &lsn), -ENOSPC);
    ck_assert_uint_eq(lsn, 0);
}

CASE("a full disk", seam_set_up, logdir_remove);

static const struct maker {
    const char *name;
    bool has_no_threads; /* a thread that needs a segment makes it */
    uint32_t flags;
} makers[] = {
    { "the keeper makes segments", false, 0 },
    { "the keeper makes segments, groups are padded", false, TWINLOG_PAD },
    { "a writer that needs a segment makes it", true, 0 },
    { "a writer that needs a segment makes it, groups are padded", true, TWINLOG_PAD },
};

TEST_EACH(a_full_disk_refuses_records_and_nothing_happens, makers)
{
    const struct twinlog_options options = small_options(row->flags);

    seam.has_no_threads = row->has_no_threads;
    struct twinlog *log = open_with(&options);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    uint64_t records = fill_up(log, 1000);
    ck_assert_uint_gt(records, 8);

    const unsigned writes = atomic_load(&seam.writes);
    expect_refusal(log, 1000);
    expect_refusal(log, 8000);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);

    ck_assert_uint_eq(twinlog_last_lsn(log), records);
    ck_assert_uint_eq(twinlog_durable_lsn(log), records);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_int_eq(stat.poison, 0);
    ck_assert_uint_eq(stat.full_failures, 3);
    ck_assert_uint_eq(stat.appends, records);
    ck_assert_uint_eq(stat.rolls, 0);

    atomic_store(&seam.largest_file, UINT64_MAX);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(twinlog_append(log, payload, 1000, NULL), 0);
    ck_assert_uint_gt(log_stat(log).rolls, 0);
    ck_assert_uint_eq(log_stat(log).full_failures, 3);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records + 100);
}

TEST(what_was_accepted_before_the_disk_was_full_becomes_durable)
{
    const struct twinlog_options options = small_options(0);
    struct twinlog *log = open_with(&options);
    uint64_t lsn, records = 0;

    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    int rc = twinlog_enqueue(log, payload, 100, &lsn);
    while (rc == 0) {
        records++;
        ck_assert_uint_eq(lsn, records);
        rc = twinlog_enqueue(log, payload, 100, &lsn);
    }

    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_int_eq(twinlog_wait(log, records, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), records);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records);
}

static int try_to_append(struct twinlog *log)
{
    const struct twinlog_entry entry = { .data = payload, .size = 1000 };
    const struct twinlog_terms terms = WITH_SIZE(terms, .flags = TWINLOG_TRY);

    return twinlog_append_batch(log, &entry, 1, &terms, NULL);
}

/* The disk has space again, and nobody has looked since. */
TEST(a_try_gets_no_error_of_an_old_attempt)
{
    const struct twinlog_options options = small_options(0);
    struct twinlog *log = open_with(&options);

    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    const uint64_t records = fill_up(log, 1000);
    AWAIT(try_to_append(log) == -ENOSPC);

    usleep(300 * 1000);
    atomic_store(&seam.largest_file, UINT64_MAX);
    int rc = try_to_append(log);
    while (rc == -EAGAIN) {
        usleep(1000);
        rc = try_to_append(log);
    }

    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records + 1);
}

/* A loop waits for news, or for a timer of its own. */
static bool has_news_within(struct twinlog_queue *queue, int timeout_ms)
{
    struct pollfd event = { .fd = twinlog_queue_fd(queue), .events = POLLIN };
    struct twinlog_request *none;

    if (poll(&event, 1, timeout_ms) == 0)
        return false;
    ck_assert_int_eq(twinlog_queue_poll(queue, &none, 1, 0), 0);
    return true;
}

/* Else the loop would come back as fast as attempts fail: a refusal orders the next one. */
TEST_EACH(on_a_full_disk_a_loop_hears_only_of_what_was_to_be_tried_again, makers)
{
    const struct twinlog_options options = small_options(row->flags);
    struct twinlog_queue *queue;
    unsigned wakes = 0, again = 0;

    seam.has_no_threads = row->has_no_threads;
    struct twinlog *log = open_with(&options);
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_eq(twinlog_queue_listen(queue, log), 0);
    ck_assert(has_news_within(queue, 0)); /* of the beginning */
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    fill_up(log, 1000);

    for (unsigned full = 0; full < 5;) {
        const int rc = try_to_append(log);
        if (rc == -EAGAIN) {
            again++;
            ck_assert(has_news_within(queue, 60000));
            wakes++;
            continue;
        }
        ck_assert_int_eq(rc, -ENOSPC);
        full++;
        wakes += has_news_within(queue, 150);
    }

    ck_assert_uint_eq(wakes, again);
    log_close(log);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

static const struct maker unpadded_makers[] = {
    { "the keeper makes segments", false, 0 },
    { "a writer that needs a segment makes it", true, 0 },
};

/* The first segment is of 512 KiB; later ones can't be larger than 128 KiB, which is less than a buffer. */
TEST_EACH(a_large_record_is_refused_where_small_ones_still_find_room, unpadded_makers)
{
    struct twinlog_options options = small_options(row->flags);

    options.segment_bytes = SHADOW_BYTES;
    options.buffer_bytes = 262144;
    seam.has_no_threads = row->has_no_threads;
    struct twinlog *log = open_with(&options);
    atomic_store(&seam.largest_file, 131072);
    uint64_t records = fill_up(log, 150000);
    ck_assert_uint_eq(records, 3);

    for (unsigned i = 0; i < 1000; i++)
        ck_assert_int_eq(twinlog_enqueue(log, payload, 1000, NULL), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_ge(stat.rolls, 7);
    ck_assert_uint_eq(stat.full_failures, 1);
    expect_refusal(log, 150000);

    atomic_store(&seam.largest_file, UINT64_MAX);
    ck_assert_int_eq(twinlog_append(log, payload, 150000, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records + 1000 + 1);
}

/* A spare is ready, but too small; its place is taken by a larger one. */
TEST(a_large_record_gets_a_larger_segment_than_the_one_that_was_prepared)
{
    struct twinlog_options options = small_options(0);

    options.segment_bytes = SHADOW_BYTES;
    options.buffer_bytes = 262144;
    struct twinlog *log = open_with(&options);
    atomic_store(&seam.largest_file, 131072);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(twinlog_append(log, payload, 140000, NULL), 0);
    wait_for_spare(log);
    expect_refusal(log, 200000);
    ck_assert_uint_eq(log_stat(log).spare_segments, 1);
    atomic_store(&seam.largest_file, UINT64_MAX);
    ck_assert_int_eq(twinlog_append(log, payload, 200000, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(4);
}

/* Zeros for them would take longer than what they save. */
TEST(blocks_for_large_groups_are_reserved_and_those_for_small_ones_are_written)
{
    static const char large[300000];
    struct twinlog_options options = small_options(0);

    options.segment_bytes = SHADOW_BYTES;
    options.buffer_bytes = 524288;
    options.max_record_bytes = sizeof(large);
    struct twinlog *log = open_with(&options);
    ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0);
    wait_for_spare(log);
    while (log_stat(log).rolls < 2)
        ck_assert_int_eq(twinlog_append(log, large, 20000, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(seam.allocated[0], IO_ALLOCATE_WRITTEN);
    ck_assert_int_eq(seam.allocated[1], IO_ALLOCATE_SPACE);
    ck_assert_int_eq(seam.allocated[2], IO_ALLOCATE_WRITTEN);
}

TEST(a_segment_has_room_for_many_large_groups)
{
    static const char large[300000];
    struct twinlog_options options = small_options(0);

    options.segment_bytes = 8 * SHADOW_BYTES;
    options.buffer_bytes = 524288;
    options.max_record_bytes = sizeof(large);
    struct twinlog *log = open_with(&options);
    ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0);
    wait_for_spare(log);
    ck_assert_uint_gt(log_stat(log).file_bytes, 16 * sizeof(large));

    uint64_t records = 1;
    while (log_stat(log).rolls < 1) {
        ck_assert_int_eq(twinlog_append(log, large, 100000, NULL), 0);
        records++;
    }

    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records);
}

/* A record may be so large that it fills a segment alone: then nothing is kept back for markers in it. */
TEST(a_record_as_large_as_a_segment_is_accepted)
{
    struct twinlog_options options = small_options(0);

    options.buffer_bytes = SEGMENT_MIN_BYTES - SEGMENT_HEADER_BYTES - SEGMENT_FOOTER_BYTES;
    options.max_record_bytes = options.buffer_bytes - 8192;
    struct twinlog *log = open_with(&options);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(twinlog_append(log, payload, options.max_record_bytes, NULL), 0);
        ck_assert_int_eq(twinlog_append(log, payload, i * 700, NULL), 0);
    }

    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(12);
}

/* Opens a log on a full disk again and again, until there is no room for a marker of a start: how often. */
static unsigned open_until_refused(const struct twinlog_options *options, uint64_t records)
{
    struct twinlog *log;
    unsigned times = 0;

    int rc = twl_log_open(watch(), options, &log);
    while (rc == 0) {
        times++;
        ck_assert_uint_eq(twinlog_last_lsn(log), records);
        expect_refusal(log, 1000);
        ck_assert_int_eq(twinlog_close(log), 0);
        rc = twl_log_open(watch(), options, &log);
    }

    ck_assert_int_eq(rc, -ENOSPC);
    return times;
}

/* Each opening takes the room of a marker, which is a block where groups are padded. */
static const struct room {
    const char *name;
    uint32_t flags;
    unsigned least; /* openings that there is room for */
} rooms[] = {
    { "packed", 0, 100 },
    { "padded", TWINLOG_PAD, 3 },
};

TEST_EACH(a_full_log_can_be_opened_many_times, rooms)
{
    const struct twinlog_options options = small_options(row->flags);
    struct twinlog *log = open_with(&options);

    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    uint64_t records = fill_up(log, 1000);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_ge(open_until_refused(&options, records), row->least);
    expect_sound(records);

    atomic_store(&seam.largest_file, UINT64_MAX);
    log = open_with(&options);
    ck_assert_int_eq(twinlog_append(log, payload, 1000, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records + 1);
}

/* The disk takes a segment for the largest record and no more than the least for markers. */
TEST(a_log_that_is_full_of_large_records_can_be_opened)
{
    struct twinlog_options options = small_options(TWINLOG_PAD);

    options.segment_bytes = 262144;
    options.buffer_bytes = 98304;
    seam.has_no_threads = true;
    struct twinlog *log = open_with(&options);
    atomic_store(&seam.largest_file, 98304 + 4 * BLOCK_BYTES + SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES);
    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(twinlog_append(log, payload, 98304 - 8192, NULL), 0);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    uint64_t records = fill_up(log, 1000);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_ge(open_until_refused(&options, records), 3);
    expect_sound(records);
}

static struct {
    _Atomic bool is_shut;
    _Atomic unsigned waiting;
} files_gate;

static int allocate_behind_gate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    atomic_fetch_add(&files_gate.waiting, 1);
    AWAIT(!atomic_load(&files_gate.is_shut));
    return seam.real->allocate(file, bytes, how);
}

static void *append_beyond_segment(void *context)
{
    struct twinlog *log = context;
    int rc = 0;

    while (rc == 0 && atomic_load(&files_gate.is_shut))
        rc = twinlog_append(log, payload, 1000, NULL);
    return rc == 0 ? NULL : context;
}

/* Where no thread can be started, a call that needs a segment makes it, and no other one waits for that. */
TEST(a_segment_that_a_call_makes_holds_up_no_other_call)
{
    const struct twinlog_options options = small_options(0);
    const struct twinlog_entry large = { .data = payload, .size = 8192 };
    const struct twinlog_terms hasty = WITH_SIZE(terms, .flags = TWINLOG_TRY);
    void *failed;

    seam.has_no_threads = true;
    struct io *io = watch();
    seam.ops.allocate = allocate_behind_gate;
    struct twinlog *log = log_on(io, &options);
    atomic_store(&files_gate.waiting, 0);
    atomic_store(&files_gate.is_shut, true);
    const pthread_t thread = start_thread(append_beyond_segment, log);
    AWAIT(atomic_load(&files_gate.waiting) > 0);

    ck_assert_uint_gt(log_stat(log).appends, 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
    ck_assert_int_eq(twinlog_append_batch(log, &large, 1, &hasty, NULL), -EAGAIN);
    const struct twinlog_terms brief = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(10));
    ck_assert_int_eq(twinlog_append_batch(log, &large, 1, &brief, NULL), -ETIMEDOUT);

    atomic_store(&files_gate.is_shut, false);
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    ck_assert_int_eq(twinlog_append_batch(log, &large, 1, NULL, NULL), 0);
    log_close(log);
}

/* Not even for the page that is shared with readers is there room: they go by the markers. */
TEST(a_full_disk_takes_no_lock_file_and_the_log_can_be_opened)
{
    const struct twinlog_options options = small_options(0);
    struct twinlog *log = open_with(&options);

    ck_assert_int_eq(twinlog_append(log, payload, 1000, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(truncate(log_file("writer.lock"), 0), 0);
    atomic_store(&seam.largest_file, 0);
    log = open_with(&options);
    ck_assert_int_eq(twinlog_append(log, payload, 1000, NULL), 0);
    ck_assert_int_eq(twinlog_append(log, payload, 1000, NULL), 0);
    ck_assert_uint_eq(count_records(), 2); /* the next marker tells of the third */
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(3);
}

CASE("rolling", seam_set_up, logdir_remove);

/* Two of these fill a buffer of 16 KiB to the last byte. Of the 14 blocks of a segment 4 are kept back, so that
 * two such groups fit, in the first segment behind the marker of the start. */
TEST(a_group_that_fills_its_buffer_rolls_as_a_whole)
{
    const struct twinlog_options options = small_options(TWINLOG_PAD);
    const size_t half = (16384 - GROUP_HEADER_BYTES) / 2 - RECORD_HEADER_BYTES;
    struct twinlog *log = open_with(&options);

    for (unsigned i = 0; i < 12; i++)
        ck_assert_int_eq(twinlog_enqueue(log, payload, half, NULL), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(stat.groups, 1 + 6);
    ck_assert_uint_eq(stat.rolls, 2);
    ck_assert_uint_eq(stat.segments, 3);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(12);
}

static const struct buffer {
    const char *name;
    uint32_t bytes;
    uint32_t flags;
} buffers[] = {
    { "16 KiB", 16384, 0 }, { "16 KiB, padded", 16384, TWINLOG_PAD },
    { "28 KiB", 28672, 0 }, { "28 KiB, padded", 28672, TWINLOG_PAD },
    { "56 KiB", 57344, 0 }, { "56 KiB, padded", 57344, TWINLOG_PAD },
};

/* Whatever sizes come: no group reaches beyond its segment, none is lost at a roll. */
TEST_EACH(records_of_all_sizes_find_their_place, buffers)
{
    struct twinlog_options options = small_options(row->flags);
    const uint32_t largest = row->bytes - 8192;
    uint64_t records = 0;

    options.buffer_bytes = row->bytes;
    struct twinlog *log = open_with(&options);
    for (uint32_t size = 0; size <= largest; size += 1 + size / 9) {
        ck_assert_int_eq(twinlog_enqueue(log, payload, size, NULL), 0);
        ck_assert_int_eq(twinlog_enqueue(log, payload, largest - size, NULL), 0);
        records += 2;
        if (size % 5 == 0) {
            ck_assert_int_eq(twinlog_append(log, payload, 3, NULL), 0);
            records++;
        }
    }

    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_ge(log_stat(log).rolls, 5);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(records);
}

TEST(a_segment_is_left_when_it_has_enough_records)
{
    struct twinlog_options options = small_options(0);

    options.segment_records = 10;
    struct twinlog *log = open_with(&options);
    for (unsigned rolls = 0; rolls < 3; rolls++) {
        for (unsigned i = 0; i < 10; i++)
            ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
        ck_assert_uint_eq(log_stat(log).rolls, rolls);
        wait_for_spare(log); /* asked for by the tenth */
    }

    ck_assert_int_eq(twinlog_close(log), 0);

    log = open_with(&options); /* the records that were there count */
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(31);
}

/* Of any time of its own, as in a copy of another log. */
static void append_of_time(struct twinlog *log, int64_t time_ns)
{
    const struct twinlog_entry entry = { .data = payload, .size = 10, .time_ns = time_ns };

    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);
}

TEST(a_segment_is_left_when_its_first_record_was_written_long_ago)
{
    const int64_t second = 1000000000, begin = 1700000000 * second;
    struct twinlog_options options = small_options(0);

    options.segment_age_ms = 5000;
    options.spare_segments = 1;
    atomic_store(&seam.clock_ns, begin - 100 * second);
    struct twinlog *log = open_with(&options);
    wait_for_spare(log);

    /* The first record counts, not the one when the clock was set back, nor what they say of their time. */
    static const struct {
        int64_t at, says; /* seconds since the beginning */
    } records[] = { { 0, -1000 }, { 4, 1000 }, { -50, -1000 }, { 4, 1000 } };
    for (unsigned i = 0; i < ROWS(records); i++) {
        atomic_store(&seam.clock_ns, begin + records[i].at * second);
        append_of_time(log, begin + records[i].says * second);
        ck_assert_uint_eq(log_stat(log).rolls, 0);
    }

    ck_assert_int_eq(twinlog_close(log), 0);

    log = open_with(&options);
    wait_for_spare(log);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 0);
    atomic_store(&seam.clock_ns, begin + 5 * second);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);

    atomic_store(&seam.clock_ns, begin + 9 * second); /* of a segment that this process has begun */
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    wait_for_spare(log);
    atomic_store(&seam.clock_ns, begin + 10 * second);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 2);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(9);
}

/* Whether the segment has one. The log is not open. */
static bool read_footer(uint64_t sequence, struct segment_footer *ret_footer)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment segment;
    struct io *io = watch();

    twl_segment_name(sequence, name);
    ck_assert_int_eq(twl_segment_open_valid(io, name, &segment), 0);
    int rc = twl_segment_read_footer(&segment, ret_footer);
    ck_assert_int_ge(rc, 0);
    twl_segment_close(&segment);
    io->ops->destroy(io);
    return rc == 1;
}

/* Ten records, a second apart but for one that is older than all, and a spare in hand for the eleventh. */
static struct twinlog *open_before_roll(void)
{
    struct twinlog_options options = small_options(0);

    options.segment_records = 10;
    struct twinlog *log = open_with(&options);
    static const int64_t seconds[] = { 101, 102, 103, 104, 105, 50, 107, 108, 109, 110 };
    for (unsigned i = 0; i < ROWS(seconds); i++) {
        atomic_store(&seam.clock_ns, seconds[i] * INT64_C(1000000000));
        ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    }

    wait_for_spare(log);
    return log;
}

TEST(a_segment_that_was_left_is_sealed_with_what_is_in_it)
{
    struct segment_footer footer;
    struct twinlog *log = open_before_roll();

    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert(read_footer(1, &footer));
    ck_assert_uint_eq(footer.first_lsn, 1);
    ck_assert_uint_eq(footer.last_lsn, 10);
    ck_assert_int_eq(footer.min_ns, INT64_C(50000000000));
    ck_assert_int_eq(footer.max_ns, INT64_C(110000000000));
    expect_sound(11);
}

/* The keeper seals nothing as long as the log counts as being opened. */
static void let_seal(struct keeper *k, bool may_seal)
{
    twl_mutex_lock(&k->lock);
    k->is_log_open = may_seal;
    twl_mutex_unlock(&k->lock);
}

/* It keeps 64 of them open, and walks the others. */
TEST(more_segments_wait_to_be_sealed_than_the_keeper_keeps_open)
{
    const unsigned most = MAX_LEFT + 2;
    struct segment_footer footer;
    struct twinlog_options options = small_options(0);

    options.segment_records = 1;
    struct twinlog *log = open_with(&options);
    let_seal(log->keeper, false);
    for (unsigned i = 0; i <= most; i++) {
        ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
        ck_assert_uint_eq(log_stat(log).rolls, i);
        wait_for_spare(log);
    }

    ck_assert_uint_eq(log->keeper->left_count, MAX_LEFT);
    let_seal(log->keeper, true);
    ck_assert_int_eq(twinlog_close(log), 0);
    for (unsigned sequence = 1; sequence <= most; sequence++) {
        ck_assert(read_footer(sequence, &footer));
        ck_assert_uint_eq(footer.first_lsn, sequence);
    }

    expect_sound(most + 1);
}

/* The log goes on in the old segment when it is opened again, so that must not be sealed. */
TEST(a_segment_is_not_sealed_before_the_next_one_has_a_group)
{
    struct segment_footer footer;
    struct twinlog *log = open_before_roll();

    atomic_store(&seam.fail_written, -EIO);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert(!read_footer(1, &footer));

    const struct twinlog_options options = small_options(0);
    log = open_with(&options);
    ck_assert_uint_eq(twinlog_last_lsn(log), 10);
    ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(11);
}

/* Also where no call asks for it: the segment in front of it is sealed as soon as it is there. */
TEST(the_first_group_of_a_segment_is_durable)
{
    const struct twinlog_entry entry = { .data = payload, .size = 3000 };
    const struct twinlog_options options = small_options(0);
    struct twinlog *log = open_with(&options);
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    uint64_t lsn, rolls = log_stat(log).rolls;

    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, &lsn), 0);
        if (log_stat(log).rolls > rolls)
            ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
        else
            ck_assert_uint_lt(twinlog_durable_lsn(log), lsn);
        rolls = log_stat(log).rolls;
    }

    ck_assert_uint_gt(rolls, 2);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(100);
}

TEST(a_limit_is_passed_where_no_segment_can_be_made)
{
    struct twinlog_options options = small_options(0);

    options.segment_records = 2;
    options.segment_age_ms = 1;
    struct twinlog *log = open_with(&options);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_append(log, payload, 10, NULL), 0);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(stat.rolls, 0);
    ck_assert_uint_eq(stat.full_failures, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    expect_sound(20);
}

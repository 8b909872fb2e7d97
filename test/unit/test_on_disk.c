/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is vouched for is on the disk, not in the page cache alone.
 *
 * On a simulated disk a sync fails, and some of the pages that it should have written are lost, while reads through the
 * page cache go on to show them, and the next sync says that all is well. The machine goes on. What is said from then
 * on, to a writer or to a reader, must still be true after a power cut.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "check/check.h"
#include "log/log.h"
#include "log/log_snapshot.h"
#include "read/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEDS 24u
#define BEFORE 3u /* records */

static const struct {
    const char *name;
    uint32_t flags;
} ways[] = {
    { "direct", 0 },
    { "buffered", TWINLOG_BUFFERED },
    { "padded", TWINLOG_PAD },
    { "padded, buffered", TWINLOG_PAD | TWINLOG_BUFFERED },
};
enum {
    WAY_COUNT = sizeof(ways) / sizeof(ways[0])
};

/* The writer of which a sync failed, and the one that opens the log then. */
#define THEN_EACH_WAY(name, flags)                                                                           \
    { name ", then direct", flags, 0 }, { name ", then buffered", flags, TWINLOG_BUFFERED },                 \
        { name ", then padded", flags, TWINLOG_PAD },                                                        \
    {                                                                                                        \
        name ", then padded, buffered", flags, TWINLOG_PAD | TWINLOG_BUFFERED                                \
    }
static const struct {
    const char *name;
    uint32_t before, then; /* flags */
} two_ways[] = {
    THEN_EACH_WAY("direct", 0),
    THEN_EACH_WAY("buffered", TWINLOG_BUFFERED),
    THEN_EACH_WAY("padded", TWINLOG_PAD),
    THEN_EACH_WAY("padded, buffered", TWINLOG_PAD | TWINLOG_BUFFERED),
};

static struct simdisk *make_disk(uint64_t seed)
{
    const struct simdisk_options options = {
        .seed = seed, .keeps_pages = seed % 4 == 1, .has_direct = true, .is_barrier_narrow = seed % 2 == 0
    };
    return simdisk_create(&options);
}

static struct twinlog *open_on(struct simdisk *disk, uint32_t flags)
{
    return log_on(simdisk_connect(disk), &WITH_SIZE(options, .flags = flags, .segment_bytes = 65536));
}

static void append(struct twinlog *log, unsigned count)
{
    static const unsigned char bytes[1500] = "record";
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, 100 + 700 * (i % 3), NULL), 0);
}

static void fail_sync(struct simdisk *disk, enum simdisk_op op, uint64_t nth)
{
    const struct simdisk_fault fault = { .op = op, .nth = nth, .error = -EIO };
    simdisk_inject(disk, &fault);
}

/* A log without an acknowledgement of its last group. */
static struct simdisk *make_log(uint64_t seed, uint32_t flags)
{
    static const unsigned char bytes[9000] = "lost?";
    struct simdisk *disk = make_disk(seed);
    struct twinlog *log = open_on(disk, flags);

    append(log, BEFORE);
    fail_sync(disk, SIM_BARRIER, 1);
    ck_assert_int_eq(twinlog_append(log, bytes, seed % 3 == 0 ? sizeof(bytes) : 10, NULL), TWINLOG_EPOISONED);
    simdisk_inject(disk, NULL);
    ck_assert_int_lt(twinlog_close(log), 0);
    return disk;
}

static void expect_after_power_cut(struct simdisk *disk, uint32_t flags, uint64_t first, uint64_t last)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct simdisk *image = simdisk_crash_image(disk, SIM_CUT_NONE, 0);
    uint64_t records;
    struct twinlog *log = open_on(image, flags);

    ck_assert_uint_ge(twinlog_last_lsn(log), last);
    ck_assert_uint_eq(twinlog_first_lsn(log), first);
    append(log, 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(twl_verify(simdisk_connect(image), &options, &records), 0);
    simdisk_destroy(image);
}

CASE("opening", NULL, NULL);

TEST_EACH(opening_goes_on_behind_what_the_disk_has, two_ways)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct simdisk *disk = make_log(seed, row->before);
        struct twinlog *log = open_on(disk, row->then);
        const uint64_t found = twinlog_last_lsn(log);
        ck_assert_uint_ge(found, BEFORE);
        ck_assert_uint_le(found, BEFORE + 1);
        expect_after_power_cut(disk, row->before, 1, found);

        append(log, 3);
        expect_after_power_cut(disk, row->before, 1, found + 3);
        ck_assert_int_eq(twinlog_close(log), 0);
        expect_after_power_cut(disk, row->then, 1, found + 3);
        simdisk_destroy(disk);
    }
}

/* An opening makes a file longer that a mapped log has cut, and fails. The next one finds that length in the page
 * cache, and a sync writes it only if it has changed. */
TEST(records_are_behind_a_length_that_the_disk_has)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .mode = TWINLOG_MODE_MAPPED, .segment_bytes = 65536);
    struct twinlog *log;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct simdisk *disk = make_disk(seed);
        ck_assert_int_eq(twl_log_open(simdisk_connect(disk), &options, &log), 0);
        append(log, BEFORE);
        ck_assert_int_eq(twinlog_close(log), 0);
        fail_sync(disk, SIM_SYNC, 1);
        ck_assert_int_eq(
            twl_log_open(simdisk_connect(disk), &WITH_SIZE(options, .segment_bytes = 65536), &log), -EIO);
        simdisk_inject(disk, NULL);
        log = open_on(disk, 0);
        append(log, 30);
        expect_after_power_cut(disk, 0, 1, BEFORE + 30);
        ck_assert_int_eq(twinlog_close(log), 0);
        simdisk_destroy(disk);
    }
}

/* Only the record at `lost_lsn` is one of which the sync failed. */
static void expect_records(struct twinlog_reader *reader, uint64_t from, uint64_t lost_lsn, uint64_t last)
{
    struct twinlog_record record;

    for (uint64_t lsn = from; lsn <= last; lsn++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_int_eq(memcmp(record.data, "record", 6) == 0, lsn != lost_lsn);
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
}

/* Readers beside a writer read through the page cache, where a group that the disk has lost may still be. */
static void check_readers(struct simdisk *disk, uint32_t flags, uint64_t before)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog *log = open_on(disk, flags);
    const uint64_t found = twinlog_last_lsn(log), lost = found > before ? found : 0;

    append(log, 3);
    for (options.from_lsn = 1; options.from_lsn <= before + 1; options.from_lsn += before) {
        ck_assert_int_eq(twinlog_reader_attach(log, &options, &reader), 0);
        expect_records(reader, options.from_lsn, lost, found + 3);
        ck_assert_int_eq(twl_reader_open(simdisk_connect(disk), &options, &reader), 0);
        expect_records(reader, options.from_lsn, lost, found + 3);
    }
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
}

static unsigned disk_opens;
static bool hides_third;

static int watch_opens(const struct hooked_call *call)
{
    if (call->op != SIM_OPEN || !strstr(call->name, ".twl"))
        return 0;
    if (call->flags & IO_FROM_DISK) {
        disk_opens++;
        return 0;
    }

    const bool is_hidden = hides_third && strstr(call->name, "03.twl");
    return is_hidden ? -ENOENT : 0;
}

/* Number of segment files that an opening asks the disk for, in a log of so many records. */
static unsigned open_and_count(unsigned records)
{
    struct simdisk *disk = make_disk(2);
    struct twinlog *log = open_on(disk, 0);

    append(log, records);
    ck_assert_int_eq(twinlog_close(log), 0);
    disk_opens = 0;
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = 65536);
    log = log_on(hooked(simdisk_connect(disk), watch_opens), &options);
    const unsigned opens = disk_opens;
    ck_assert_uint_eq(twinlog_last_lsn(log), records);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
    return opens;
}

TEST(an_opening_asks_the_disk_for_a_few_segments_unless_the_page_cache_does_not_fit)
{
    hides_third = false;
    const unsigned few = open_and_count(400);
    ck_assert_uint_gt(few, 0);
    ck_assert_uint_eq(open_and_count(4000), few);
    hides_third = true;
    ck_assert_uint_gt(open_and_count(2000), few + 10);
}

TEST_EACH(readers_beside_the_next_writer_are_shown_what_it_has_found, two_ways)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        check_readers(make_log(seed, row->before), row->then, BEFORE);
}

/* A group is lost that should have started the second segment, which is a spare then. */
TEST_EACH(readers_beside_the_next_writer_know_a_spare_from_a_segment, two_ways)
{
    static const unsigned char most[15000] = "record", lost[15000] = "lost?";

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct simdisk *disk = make_disk(seed);
        struct twinlog *log = open_on(disk, row->before);
        ck_assert_int_eq(twinlog_append(log, most, sizeof(most), NULL), 0);
        ck_assert_int_eq(twinlog_append(log, most, sizeof(most), NULL), 0);
        fail_sync(disk, SIM_BARRIER, 1);
        ck_assert_int_eq(twinlog_append(log, lost, sizeof(lost), NULL), TWINLOG_EPOISONED);
        simdisk_inject(disk, NULL);
        ck_assert(simdisk_has_file(disk, "0000000000000002.twl"));
        ck_assert_int_lt(twinlog_close(log), 0);
        check_readers(disk, row->then, 2);
    }
}

TEST_EACH(a_trim_or_a_truncation_right_after_opening_is_one_of_what_the_disk_has, two_ways)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct simdisk *disk = make_log(seed, row->before);
        struct twinlog *log = open_on(disk, row->then);
        const uint64_t last = twinlog_last_lsn(log);
        ck_assert_int_eq(twinlog_trim(log, &WITH_SIZE(trim_options, .before_lsn = last), NULL), 0);
        expect_after_power_cut(disk, row->before, last, last);

        append(log, 2);
        ck_assert_int_eq(twinlog_truncate(log, last), 0);
        expect_after_power_cut(disk, row->before, last, last);
        ck_assert_int_eq(twinlog_close(log), 0);
        simdisk_destroy(disk);
    }
}

CASE("showing", NULL, NULL);

static unsigned cached_opens;

static int watch_cache(const struct hooked_call *call)
{
    const bool is_segment = call->op == SIM_OPEN && strstr(call->name, ".twl");
    if (is_segment && !(call->flags & (IO_FROM_DISK | IO_FROM_CACHE)))
        cached_opens++;
    return 0;
}

static const struct {
    const char *name;
    bool was_killed;
    uint32_t reader_flags;
} ends_of_mapped_writers[] = {
    { "killed", true, 0 },
    { "killed, a mapping reader", true, TWINLOG_READER_MMAP },
    { "closed", false, 0 },
    { "closed, a mapping reader", false, TWINLOG_READER_MMAP },
};

/* The writer of a mapped log was killed. Where the page cache has a whole record the disk may have the claim of one, if
 * a sync has failed. After an orderly end no record can be in such a doubt. */
TEST_EACH(what_a_dead_mapped_writer_left_open_is_read_from_the_disk, ends_of_mapped_writers)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .mode = TWINLOG_MODE_MAPPED, .segment_bytes = 65536);
    struct twinlog_reader_options how = TWINLOG_READER_OPTIONS_INIT;
    struct simdisk *disk = make_disk(1), *left;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct twinlog *log;

    ck_assert_int_eq(twl_log_open(simdisk_connect(disk), &options, &log), 0);
    append(log, BEFORE);
    if (!row->was_killed)
        ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_notice_stores(disk, "appended");
    left = simdisk_crash_image(disk, SIM_KILL, 1);

    how.flags = row->reader_flags;
    ck_assert_int_eq(twl_reader_open(hooked(simdisk_connect(left), watch_cache), &how, &reader), 0);
    cached_opens = 0;
    for (unsigned i = 0; i < BEFORE; i++)
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_int_eq(cached_opens == 0, row->was_killed);
    twinlog_reader_close(reader);
    simdisk_destroy(left);
    if (row->was_killed)
        ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
}

static uint64_t last_of_copy(struct simdisk *disk)
{
    struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct simdisk *copy = make_disk(1);

    ck_assert_int_eq(twl_backup(simdisk_connect(disk), simdisk_connect(copy), &options, &result), 0);
    struct twinlog *log = open_on(copy, 0);
    const uint64_t last = twinlog_last_lsn(log);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(copy);
    return last;
}

static uint64_t last_inspected(struct simdisk *disk)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    ck_assert_int_eq(twl_inspect(simdisk_connect(disk), &inspection), 0);
    return inspection.last_lsn;
}

static uint64_t last_verified(struct simdisk *disk)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records;

    ck_assert_int_eq(twl_verify(simdisk_connect(disk), &options, &records), 0);
    return records;
}

static uint64_t last_read(struct simdisk *disk)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record = { 0 };

    ck_assert_int_eq(twl_reader_open(simdisk_connect(disk), &options, &reader), 0);
    while (twinlog_reader_next(reader, &record) == 1)
        ;
    const uint64_t last = record.lsn;
    twinlog_reader_close(reader);
    return last;
}

static uint64_t last_of_handle(struct simdisk *disk)
{
    struct twinlog *log = open_on(disk, TWINLOG_READ_ONLY);
    const uint64_t last = twinlog_last_lsn(log);

    ck_assert_int_eq(twinlog_close(log), 0);
    return last;
}

/* Each tells the newest LSN that it sees. */
static const struct {
    const char *name;
    uint64_t (*look)(struct simdisk *disk);
} looks[] = {
    { "a reader", last_read },           { "a handle that only reads", last_of_handle },
    { "a backup", last_of_copy },        { "an inspection", last_inspected },
    { "a verification", last_verified },
};

TEST_EACH(what_is_shown_from_outside_is_what_the_disk_has, looks)
{
    for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
        const uint32_t flags = ways[seed % WAY_COUNT].flags;
        struct simdisk *disk = make_log(seed, flags);
        const uint64_t last = row->look(disk);
        ck_assert_uint_ge(last, BEFORE);
        expect_after_power_cut(disk, flags, 1, last);
        simdisk_destroy(disk);
    }
}

#define LOOK_AT_EACH_WAY(name, look)                                                                         \
    { name ", direct", look, 0 }, { name ", buffered", look, TWINLOG_BUFFERED },                             \
        { name ", padded", look, TWINLOG_PAD },                                                              \
    {                                                                                                        \
        name ", padded, buffered", look, TWINLOG_PAD | TWINLOG_BUFFERED                                      \
    }
static const struct {
    const char *name;
    uint64_t (*look)(struct simdisk *disk);
    uint32_t flags;
} looks_at_ways[] = {
    LOOK_AT_EACH_WAY("a reader", last_read),
    LOOK_AT_EACH_WAY("a handle that only reads", last_of_handle),
    LOOK_AT_EACH_WAY("a backup", last_of_copy),
    LOOK_AT_EACH_WAY("an inspection", last_inspected),
    LOOK_AT_EACH_WAY("a verification", last_verified),
};

/* The writer was killed before it synced. What is told of its records must stay so. */
TEST_EACH(what_is_shown_from_outside_is_durable, looks_at_ways)
{
    const struct twinlog_entry entry = { .data = "written", .size = 7 };
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);

    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct simdisk *disk = make_disk(seed);
        struct twinlog *log = open_on(disk, row->flags);
        append(log, BEFORE);
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);

        struct simdisk *killed = simdisk_crash_image(disk, SIM_KILL, seed);
        ck_assert_uint_eq(row->look(killed), BEFORE + 1);
        expect_after_power_cut(killed, row->flags, 1, BEFORE + 1);
        simdisk_destroy(killed);
        ck_assert_int_eq(twinlog_close(log), 0);
        simdisk_destroy(disk);
    }
}

/* Nor did a mapped writer that had a record in the next segment before the one that it had left was closed. */
struct left_open {
    struct simdisk *disk;
    struct twinlog *log;
    uint64_t (*look)(struct simdisk *disk);
    bool is_looking, has_looked;
};

/* Before an operation of the disk: the one that closes the segment is the first before which a record fits. */
static void look_at_two_open_segments(void *context)
{
    static const struct twinlog_entry entry = { .data = "in the next segment", .size = 19 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct left_open *left = context;
    uint64_t lsn;

    terms.level = TWINLOG_LEVEL_BUFFERED;
    terms.flags = TWINLOG_TRY;
    if (left->is_looking || left->has_looked)
        return;
    left->is_looking = true;
    const int rc = twinlog_append_batch(left->log, &entry, 1, &terms, &lsn);
    left->is_looking = false;
    if (rc < 0)
        return;
    left->has_looked = true;
    simdisk_notice_stores(left->disk, "appended");
    struct simdisk *killed = simdisk_crash_image(left->disk, SIM_KILL, 3);
    ck_assert_uint_eq(left->look(killed), lsn);
    struct simdisk *cut = simdisk_crash_image(killed, SIM_CUT_NONE, 0);
    ck_assert_uint_eq(last_read(cut), lsn);
    simdisk_destroy(cut);
    simdisk_destroy(killed);
}

/* Looks, once, when a mapped writer has two segments that are not closed, and some records in the second. */
static void look_beside_two_open_segments(uint64_t (*how)(struct simdisk *disk))
{
    const struct twinlog_options options =
        WITH_SIZE(options, .mode = TWINLOG_MODE_MAPPED, .segment_bytes = 65536);
    static const unsigned char bytes[1000] = "record";
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct left_open left = { .disk = make_disk(3), .look = how };

    terms.level = TWINLOG_LEVEL_BUFFERED;
    ck_assert_int_eq(twl_log_open(simdisk_connect(left.disk), &options, &left.log), 0);

    for (unsigned i = 0; i < 40; i++)
        ck_assert_int_eq(twinlog_append_batch(left.log, &entry, 1, &terms, NULL), 0);
    simdisk_set_turn(left.disk, look_at_two_open_segments, &left);
    for (unsigned i = 0; i < 40; i++)
        ck_assert_int_eq(twinlog_append_batch(left.log, &entry, 1, &terms, NULL), 0);
    simdisk_set_turn(left.disk, NULL, NULL);
    ck_assert(left.has_looked);

    ck_assert_int_eq(twinlog_close(left.log), 0);
    simdisk_destroy(left.disk);
}

TEST_EACH(what_a_dead_mapped_writer_left_in_two_open_segments_is_durable_when_it_is_shown, looks)
{
    look_beside_two_open_segments(row->look);
}

/* ---- what is only a snapshot of a log that is written ------------------------------------------------- */

static int list_error; /* 0 = the directory can be listed */

static int refuse_to_list(const struct hooked_call *call)
{
    return call->op == SIM_LIST ? list_error : 0;
}

static void load_beside_writer(struct io *io, struct log_snapshot *ret_snapshot)
{
    list_error = 0;
    ck_assert_int_eq(twl_log_snapshot_load(io, 0, ret_snapshot, NULL), 0);
    ck_assert(ret_snapshot->has_writer);
    ck_assert_int_eq(twl_log_snapshot_is_current(io, ret_snapshot), 1);
}

/* Else what does not fit, because it was truncated meanwhile, would be told as damage. */
TEST(whether_a_snapshot_is_current_is_not_known_where_the_system_refuses_to_look)
{
    struct simdisk *disk = make_disk(1);
    struct twinlog *log = open_on(disk, 0);
    struct io *io = hooked(simdisk_connect(disk), refuse_to_list);
    struct log_snapshot snapshot;

    append(log, 3);
    load_beside_writer(io, &snapshot);
    list_error = -EMFILE;
    ck_assert_int_eq(twl_log_snapshot_is_current(io, &snapshot), -EMFILE);

    list_error = 0;
    ck_assert_int_eq(twl_log_snapshot_is_current(io, &snapshot), 1);
    twl_log_snapshot_free(&snapshot);
    io->ops->destroy(io);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
}

TEST(a_snapshot_is_not_current_behind_a_truncation)
{
    struct simdisk *disk = make_disk(1);
    struct twinlog *log = open_on(disk, 0);
    struct io *io = hooked(simdisk_connect(disk), refuse_to_list);
    struct log_snapshot snapshot;

    append(log, 3);
    load_beside_writer(io, &snapshot);
    ck_assert_int_eq(twinlog_truncate(log, 1), 0);
    ck_assert_int_eq(twl_log_snapshot_is_current(io, &snapshot), 0);
    twl_log_snapshot_free(&snapshot);
    io->ops->destroy(io);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
}

/* ---- openings that are killed ------------------------------------------------------------------------ */

struct killed_opening {
    struct simdisk *disk, *left;
    unsigned removals_left; /* before it is killed */
};

static void open_after(struct simdisk *disk, enum simdisk_op op, enum simdisk_cut kind, uint64_t seed)
{
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = 65536);
    const struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog *log;
    struct simdisk *cut = simdisk_crash_image(disk, kind, seed);
    int error = twl_log_open(simdisk_connect(cut), &options, &log);
    if (error == 0)
        error = twinlog_close(log);
    if (error == 0)
        error = twl_verify(simdisk_connect(cut), &verify, NULL);
    ck_assert_msg(error == 0, "a power cut behind %s: %s", simdisk_op_name(op), twinlog_strerror(error));
    simdisk_destroy(cut);
}

/* Behind each removal, of which a power cut may leave any that are not durable. */
static void kill_behind_removal(void *context, enum simdisk_op op)
{
    struct killed_opening *opening = context;
    if (op != SIM_UNLINK || opening->removals_left == 0)
        return;
    for (uint64_t seed = 1; seed <= 4; seed++)
        open_after(opening->disk, op, SIM_CUT_RANDOM, seed);
    if (--opening->removals_left == 0)
        opening->left = simdisk_crash_image(opening->disk, SIM_KILL, 0);
}

static void open_after_power_cut(void *context, enum simdisk_op op)
{
    open_after(context, op, SIM_CUT_NONE, 0);
}

/* 1 = it was killed behind that removal. The next opening goes on without what was removed. */
static unsigned kill_opening(struct simdisk *disk, uint64_t seed, unsigned removals)
{
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = 65536);
    struct killed_opening opening = { .disk = simdisk_crash_image(disk, SIM_CUT_RANDOM, seed),
                                      .removals_left = removals };
    struct twinlog *log;

    simdisk_set_hook(opening.disk, kill_behind_removal, &opening);
    ck_assert_int_eq(twl_log_open(simdisk_connect(opening.disk), &options, &log), 0);
    simdisk_set_hook(opening.disk, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(opening.disk);
    if (!opening.left)
        return 0;

    simdisk_set_hook(opening.left, open_after_power_cut, opening.left);
    ck_assert_int_eq(twl_log_open(simdisk_connect(opening.left), &options, &log), 0);
    simdisk_set_hook(opening.left, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(opening.left);
    return 1;
}

/* Some records of the first one are lost, so the opening removes the second. */
static uint64_t lose_some_of_two_open_segments(struct simdisk *disk)
{
    unsigned killed = 0;

    for (uint64_t seed = 1; seed <= 20; seed++)
        for (unsigned removals = 1; removals <= 4; removals++)
            killed += kill_opening(disk, seed, removals);
    ck_assert_uint_gt(killed, 10);
    return last_read(disk);
}

TEST(what_a_killed_opening_has_removed_does_not_come_back)
{
    look_beside_two_open_segments(lose_some_of_two_open_segments);
}

/* The marker of the close and the header of its group, too, not the records alone. */
TEST(a_mapped_log_that_was_closed_is_closed_after_a_power_cut)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .mode = TWINLOG_MODE_MAPPED, .segment_bytes = 65536);
    struct simdisk *disk = make_disk(3);
    struct twinlog *log;

    ck_assert_int_eq(twl_log_open(simdisk_connect(disk), &options, &log), 0);
    append(log, 3);
    ck_assert_int_eq(twinlog_close(log), 0);

    struct simdisk *cut = simdisk_crash_image(disk, SIM_CUT_NONE, 0);
    struct twinlog_report report;
    const struct twinlog_options again = WITH_SIZE(options, .segment_bytes = 65536, .ret_report = &report);
    log = log_on(simdisk_connect(cut), &again);
    ck_assert_int_eq(report.finding, TWINLOG_FOUND_CLEAN_CLOSE);

    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(cut);
    simdisk_destroy(disk);
}

/* It is not known what a power cut would leave. */
TEST_EACH(what_cannot_be_synced_is_not_told, ways)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct simdisk *disk = make_log(1, row->flags);

    fail_sync(disk, SIM_SYNC, 1);
    ck_assert_int_eq(twl_inspect(simdisk_connect(disk), &inspection), -EIO);
    ck_assert_int_eq(inspection.report.error, -EIO);
    fail_sync(disk, SIM_SYNC_DIR, 1);
    ck_assert_int_eq(twl_verify(simdisk_connect(disk), &options, NULL), -EIO);
    simdisk_inject(disk, NULL);
    expect_after_power_cut(disk, row->flags, 1, last_inspected(disk));
    simdisk_destroy(disk);
}

CASE("cursors and values", NULL, NULL);

static void print_names(struct twinlog *log, char text[40])
{
    char one, two;
    uint64_t lsn;
    size_t size;

    ck_assert_int_eq(twinlog_meta_get(log, "one", &one, 1, &size), 0);
    ck_assert_int_eq(twinlog_meta_get(log, "two", &two, 1, &size), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "cursor", &lsn), 0);
    snprintf(text, 40, "%c, %c, %llu", one, two, (unsigned long long)lsn);
}

static void expect_names(struct twinlog *log, const char *expected)
{
    char found[40];
    print_names(log, found);
    ck_assert_str_eq(found, expected);
}

static void expect_names_after_power_cut(struct simdisk *disk, const char *expected)
{
    struct simdisk *image = simdisk_crash_image(disk, SIM_CUT_NONE, 0);
    struct twinlog *log = open_on(image, 0);

    expect_names(log, expected);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(image);
}

/* The second change that fails meets what the first one has left. `nth`: the sync that fails. */
static void fail_two_changes(uint64_t seed, uint64_t nth, bool opens_again)
{
    struct simdisk *disk = make_disk(seed);
    struct twinlog *log = open_on(disk, 0);
    char seen[40], one;

    append(log, 3);
    ck_assert_int_eq(twinlog_meta_set(log, "one", "a", 1), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "two", "a", 1), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 1), 0);

    fail_sync(disk, SIM_SYNC, nth);
    ck_assert_int_eq(twinlog_meta_set(log, "one", "b", 1), -EIO);
    print_names(log, seen);
    one = seen[0];
    expect_names_after_power_cut(disk, seen);

    fail_sync(disk, SIM_SYNC, nth);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 2), -EIO);
    print_names(log, seen);
    ck_assert_int_eq(seen[0], one);
    expect_names_after_power_cut(disk, seen);

    if (opens_again) {
        ck_assert_int_eq(twinlog_close(log), 0);
        log = open_on(disk, 0);
    }
    expect_names(log, seen);
    ck_assert_int_eq(twinlog_meta_set(log, "two", "c", 1), 0);
    seen[3] = 'c';
    expect_names(log, seen);
    expect_names_after_power_cut(disk, seen);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(disk);
}

static const struct {
    const char *name;
    uint64_t nth;
    bool opens_again; /* as another process does */
} failed_changes[] = {
    { "the sync of the first slot fails", 1, false },
    { "the sync of the first slot fails, and the log is opened again", 1, true },
    { "the sync of the second slot fails", 2, false },
    { "the sync of the second slot fails, and the log is opened again", 2, true },
};

TEST_EACH(a_value_that_was_read_after_a_failed_change_stays, failed_changes)
{
    for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++)
        fail_two_changes(seed, row->nth, row->opens_again);
}

/* ---- what others have in the page cache ----------------------------------------------------------- */

enum {
    HOT_SEGMENTS = 4,
    HOT_BYTES = 256 << 10 /* of a segment */
};

CASE("beside a hot reader", logdir_make, logdir_remove);

/* Elsewhere a read past the cache drops what it reads. */
static bool reads_past_cache(const char *path)
{
#ifdef STATX_DIOALIGN
    struct statx about;
    return statx(AT_FDCWD, path, 0, STATX_DIOALIGN, &about) == 0 && (about.stx_mask & STATX_DIOALIGN) &&
           about.stx_dio_offset_align > 0;
#else
    (void)path;
    return false;
#endif
}

/* Pages of the file that are in the cache; reads all of it before, if `warms`. */
static unsigned count_cached(const char *path, bool warms)
{
    static unsigned char bytes[HOT_BYTES], pages[HOT_BYTES / 4096];
    unsigned cached = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    if (warms)
        ck_assert_int_eq(pread(fd, bytes, HOT_BYTES, 0), HOT_BYTES);
    void *view = mmap(NULL, HOT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(view != MAP_FAILED);
    ck_assert_int_eq(mincore(view, HOT_BYTES, pages), 0);
    for (unsigned i = 0; i < sizeof(pages); i++)
        cached += pages[i] & 1;
    munmap(view, HOT_BYTES);
    close(fd);
    return cached;
}

static void read_one(bool is_last)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), 0);
    if (is_last) {
        ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
    } else {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    }
    twinlog_reader_close(reader);
}

TEST(a_look_or_an_opening_leaves_in_the_cache_what_is_there)
{
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = HOT_BYTES,
                                                     .max_record_bytes = 32 << 10, .flags = TWINLOG_BUFFERED);
    static const unsigned char bytes[30000] = { 1 };
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog *log = log_open(&options);
    unsigned before[HOT_SEGMENTS];

    for (unsigned i = 0; i < 7 * HOT_SEGMENTS; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    log_close(log);

    if (!reads_past_cache(log_segment(1))) {
        fprintf(stderr, "SKIP a_look_or_an_opening_leaves_in_the_cache_what_is_there: no direct I/O\n");
        return;
    }
    for (unsigned i = 0; i < HOT_SEGMENTS; i++)
        before[i] = count_cached(log_segment(i + 1), true);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    read_one(false);
    read_one(true);
    log_close(log_open(&options));
    for (unsigned i = 0; i < HOT_SEGMENTS; i++) {
        ck_assert_uint_gt(before[i], 60);
        ck_assert_uint_ge(count_cached(log_segment(i + 1), false), before[i]);
    }
}

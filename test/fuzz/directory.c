/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-directory: arbitrary files (container.h) on a simulated disk, looked at, repaired and opened.
 *
 * Whatever they are, nothing crashes, nothing changes them but an opening, and a second look sees the same.
 * What verify calls sound can be read from both ends, can be opened and written, and holds afterwards what it held
 * before. What could be read of a damaged log is still there after an opening that worked, and is in the log that
 * repair makes of it, which is sound.
 */
#include "base/bytes.h"
#include "check/check.h"
#include "container.h"
#include "content.h"
#include "fuzz.h"
#include "log/log.h"
#include "recover/recover.h"
#include "simdisk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RECORDS (CONTAINER_FILES * CONTAINER_FILE_BYTES / RECORD_HEADER_BYTES)
#define MAX_LOSS 10000u
#define NOW_NS INT64_C(1767225600000000000)

/* ---- the disk ------------------------------------------------------------------------------------ */

static void must_write(struct io_file *file, const struct container *container, unsigned index)
{
    MUST(io_allocate(file, container->file[index].size, IO_ALLOCATE_NOTHING) == 0);
    for (unsigned i = 0; i < container->extents; i++) {
        const struct extent *extent = &container->extent[i];
        const unsigned char *bytes = container->file[index].bytes + extent->offset;
        if (extent->file == index && extent->size > 0)
            MUST(io_write_at(file, bytes, extent->size, extent->offset) == 0);
    }
    MUST(io_sync(file) == 0);
}

static struct simdisk *make_disk(const struct container *container)
{
    const struct simdisk_options options = { .clock_ns = NOW_NS, .has_direct = true };
    struct simdisk *disk = simdisk_create(&options);
    struct io *io = simdisk_connect(disk);
    for (unsigned i = 0; i < container->files; i++) {
        char name[CONTAINER_NAME_BYTES];
        struct io_file *file;
        container_file_name(&container->file[i], name);
        MUST(io_open(io, name, IO_CREATE, &file) == 0);
        must_write(file, container, i);
        io_close(file);
    }
    MUST(io->ops->sync_dir(io) == 0);
    io->ops->destroy(io);
    return disk;
}

/* The same files once more. */
static struct simdisk *copy_disk(const struct simdisk *disk)
{
    return simdisk_crash_image(disk, SIM_CUT_ALL, 0);
}

/* ---- what was read ------------------------------------------------------------------------------- */

struct seen {
    uint64_t lsn, sum;
    int64_t time_ns;
};
struct reading {
    int result; /* 0, or the error that ended it */
    size_t count;
    struct seen *seen;
};

static uint64_t add_up(uint64_t sum, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void note_record(struct reading *reading, const struct twinlog_record *record)
{
    uint64_t sum = add_up(record->size, record->data, record->size);
    MUST(reading->count < MAX_RECORDS);
    if ((reading->count & (reading->count - 1)) == 0)
        reading->seen = sim_reallocate(reading->seen, (2 * reading->count + 1) * sizeof(*reading->seen));
    reading->seen[reading->count++] = (struct seen){ .lsn = record->lsn,
                                                     .sum = sum * 31 + record->type * 7u + record->tag,
                                                     .time_ns = record->time_ns };
}

static void forget(struct reading *reading)
{
    free(reading->seen);
    *reading = (struct reading){ 0 };
}

static struct twinlog_reader *open_reader(struct simdisk *disk, int *ret_result)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    *ret_result = twl_reader_open(simdisk_connect(disk), &options, &reader);
    return *ret_result < 0 ? NULL : reader;
}

static struct reading read_all(struct simdisk *disk, bool is_back)
{
    struct reading reading = { 0 };
    struct twinlog_record record;
    struct twinlog_reader *reader = open_reader(disk, &reading.result);
    int (*const move)(struct twinlog_reader *, struct twinlog_record *) =
        is_back ? twinlog_reader_previous : twinlog_reader_next;
    if (reader && is_back)
        reading.result = twinlog_reader_seek_end(reader);
    while (reader && reading.result == 0 && (reading.result = move(reader, &record)) > 0) {
        const uint64_t before = reading.count > 0 ? reading.seen[reading.count - 1].lsn : record.lsn;
        MUST(reading.count == 0 || (is_back ? record.lsn < before : record.lsn > before));
        note_record(&reading, &record);
        reading.result = 0;
    }
    twinlog_reader_close(reader);
    return reading;
}

static bool is_same(const struct seen *a, const struct seen *b)
{
    return a->lsn == b->lsn && a->sum == b->sum && a->time_ns == b->time_ns;
}

/* `all` begins with what is in `first`. */
static bool begins_with(const struct reading *all, const struct reading *first)
{
    for (size_t i = 0; i < first->count; i++)
        if (i >= all->count || !is_same(&all->seen[i], &first->seen[i]))
            return false;
    return true;
}

static bool is_reverse(const struct reading *a, const struct reading *b)
{
    for (size_t i = 0; i < a->count && a->count == b->count; i++)
        if (!is_same(&a->seen[i], &b->seen[a->count - 1 - i]))
            return false;
    return a->count == b->count;
}

struct lsn_range {
    uint64_t first, last; /* 0 and 0: none */
};

/* Both go upwards. What is of one of the LSNs `but` does not count. */
static bool holds_all(const struct reading *all, const struct reading *some, struct lsn_range but)
{
    size_t at = 0;
    for (size_t i = 0; i < some->count; i++) {
        const struct seen *seen = &some->seen[i];
        while (at < all->count && all->seen[at].lsn < seen->lsn)
            at++;
        const bool is_there = at < all->count && is_same(&all->seen[at], seen);
        if (!is_there && (seen->lsn < but.first || seen->lsn > but.last))
            return false;
    }
    return true;
}

/* ---- looking ------------------------------------------------------------------------------------- */

struct look {
    int inspected, verified, listed, handle; /* results */
    unsigned findings;                       /* of verify, but for a torn tail */
    uint64_t told;                           /* all that verify tells, as one number */
    bool is_torn, has_retired;
    uint64_t records;
    struct twinlog_inspection inspection;
    uint64_t segments;         /* all that was listed, as one number */
    struct lsn_range disputed; /* segments contradict each other about these */
    uint64_t passed_lsn;       /* by a cursor */
    uint64_t names;            /* cursors and values, as one number */
    bool is_used_up;           /* a number is so large that an opening may refuse to count on (recovery.md) */
    struct reading forwards, backwards;
};

static uint64_t add_report(uint64_t sum, const struct twinlog_report *report)
{
    sum = add_up(sum, report->text, strlen(report->text));
    sum = add_up(sum, report->file, strlen(report->file));
    sum = add_up(sum, &report->offset, sizeof(report->offset));
    sum = add_up(sum, &report->bytes, sizeof(report->bytes));
    sum = add_up(sum, &report->first_lsn, sizeof(report->first_lsn));
    sum = add_up(sum, &report->last_lsn, sizeof(report->last_lsn));
    return sum * 31 + (uint64_t)report->finding * 7 + (uint64_t)report->action * 3 + (unsigned)report->error;
}

static int count_finding(void *context, const struct twinlog_report *finding)
{
    struct look *look = context;
    MUST(strnlen(finding->text, sizeof(finding->text)) < sizeof(finding->text));
    look->told = add_report(look->told, finding);
    if (finding->finding == TWINLOG_FOUND_TORN_TAIL)
        look->is_torn = true;
    else
        look->findings++;
    return 0;
}

/* No log gets there by counting. */
static bool is_large(uint64_t number)
{
    return number > INT64_MAX;
}

static bool is_used_up(const struct twinlog_segment *segment)
{
    return is_large(segment->sequence) || is_large(strtoull(segment->file, NULL, 16)) ||
           segment->epoch >= UINT32_MAX - 1;
}

static int add_segment(void *context, const struct twinlog_segment *segment)
{
    struct look *look = context;
    uint64_t *sum = &look->segments;
    look->is_used_up = look->is_used_up || is_used_up(segment);
    look->has_retired = look->has_retired || segment->state == TWINLOG_SEGMENT_RETIRED;
    *sum = add_up(*sum, &segment->sequence, sizeof(segment->sequence));
    *sum = add_up(*sum, &segment->first_lsn, 2 * sizeof(segment->first_lsn));
    *sum = add_up(*sum, segment->file, strlen(segment->file));
    return 0;
}

/* An opening moves those that are beyond the end. */
static int add_cursor(void *context, const char *name, uint64_t lsn)
{
    uint64_t *sum = context;
    (void)lsn;
    *sum = add_up(*sum, name, strlen(name));
    return 0;
}

static int add_value(void *context, const char *name, const void *data, size_t size)
{
    uint64_t *sum = context;
    *sum = add_up(*sum, name, strlen(name));
    *sum = add_up(*sum, data, size);
    return 0;
}

static void add_names(struct twinlog *log, uint64_t *sum)
{
    *sum = 1;
    MUST(twinlog_cursor_each(log, add_cursor, sum) <= 0);
    MUST(twinlog_meta_each(log, add_value, sum) <= 0);
}

static void look_through_handle(struct simdisk *disk, struct look *look)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog *log;
    options.flags = TWINLOG_READ_ONLY;
    look->handle = twl_log_open(simdisk_connect(disk), &options, &log);
    if (look->handle < 0)
        return;
    add_names(log, &look->names);
    twinlog_stat(log, &stat);
    twinlog_close(log);
}

/* Where a cursor stands, not where an opening moves it to. */
static uint64_t find_passed(struct simdisk *disk)
{
    struct io *io = simdisk_connect(disk);
    struct state state = { 0 };
    struct twinlog_report report;
    uint64_t lsn = 0;
    if (twl_state_read(io, &state, &report) == 0)
        lsn = twl_state_furthest(&state);
    twl_state_free(&state);
    io->ops->destroy(io);
    return lsn;
}

/* Behind the last record that any group of the segment has, also one that nothing sound leads to. */
static uint64_t find_end_lsn(const struct segment *segment)
{
    struct segment_iter iter = { 0 };
    struct group_header group;
    const unsigned char *bytes;
    uint64_t lsn = 0;
    int error;
    twl_iter_begin(&iter, segment, (struct position){ 0 });
    iter.passes_claims = true;
    while (twl_iter_enter_group(&iter) > 0)
        lsn = iter.position.next_lsn;
    for (uint64_t at = SEGMENT_DATA_OFFSET; at + GROUP_HEADER_BYTES <= segment->data_end; at += 8) {
        bytes = twl_iter_bytes(&iter, at, GROUP_HEADER_BYTES, &error);
        if (bytes && twl_group_header_maybe(bytes) &&
            twl_group_header_decode(bytes, segment->seed, at, &group))
            lsn = max_u64(lsn, group.first_lsn + group.count);
    }
    twl_iter_free(&iter);
    return lsn;
}

/* From where a segment begins in front of the end of an earlier one. Of one LSN there may then be two records, which
 * both check, and a reader may come to the one, repair to the other. */
static void find_disputed(struct simdisk *disk, struct lsn_range *ret_disputed)
{
    struct io *io = simdisk_connect(disk);
    struct twinlog_report report;
    struct segment_set set = { 0 };
    struct segment segment;
    uint64_t end_lsn = 0, first_lsn = UINT64_MAX, last_lsn = 0;
    int error = twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report);
    for (size_t i = 0; error == 0 && i < set.started; i++) {
        MUST(twl_segment_look(io, &set.entries[i]) == 0);
        MUST(twl_segment_open_valid(io, set.entries[i].name, &segment) == 0);
        if (set.entries[i].first_lsn < end_lsn) {
            first_lsn = min_u64(first_lsn, set.entries[i].first_lsn);
            last_lsn = end_lsn - 1;
        }
        end_lsn = max_u64(end_lsn, min_u64(find_end_lsn(&segment), twl_segment_set_bound(&set, i)));
        twl_segment_close(&segment);
    }
    *ret_disputed = last_lsn > 0 ? (struct lsn_range){ first_lsn, last_lsn } : (struct lsn_range){ 0 };
    if (error == 0)
        twl_segment_set_free(&set);
    io->ops->destroy(io);
}

static void look_at(struct simdisk *disk, struct look *ret_look)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    *ret_look = (struct look){ .inspection = TWINLOG_INSPECTION_INIT };
    options.each = count_finding;
    options.context = ret_look;
    ret_look->inspected = twl_inspect(simdisk_connect(disk), &ret_look->inspection);
    ret_look->is_used_up = is_large(ret_look->inspection.last_lsn);
    ret_look->verified = twl_verify(simdisk_connect(disk), &options, &ret_look->records);
    ret_look->listed = twl_segments(simdisk_connect(disk), add_segment, ret_look);
    look_through_handle(disk, ret_look);
    find_disputed(disk, &ret_look->disputed);
    ret_look->passed_lsn = find_passed(disk);
    ret_look->forwards = read_all(disk, false);
    ret_look->backwards = read_all(disk, true);
}

static void forget_look(struct look *look)
{
    forget(&look->forwards);
    forget(&look->backwards);
}

/* A second look finds the same, to the letter: the disk lists its files in no order, and nothing may depend on it. */
static bool is_same_look(const struct look *a, const struct look *b)
{
    return a->inspected == b->inspected && a->verified == b->verified && a->listed == b->listed &&
           a->handle == b->handle && a->told == b->told && a->findings == b->findings &&
           a->records == b->records &&
           add_report(0, &a->inspection.report) == add_report(0, &b->inspection.report) &&
           a->inspection.first_lsn == b->inspection.first_lsn &&
           a->inspection.last_lsn == b->inspection.last_lsn && a->segments == b->segments &&
           a->names == b->names && a->forwards.result == b->forwards.result &&
           a->forwards.count == b->forwards.count && begins_with(&a->forwards, &b->forwards) &&
           a->backwards.result == b->backwards.result && a->backwards.count == b->backwards.count;
}

/* Nobody has changed anything. */
static void must_look_the_same(struct simdisk *disk, const struct look *before)
{
    struct look now;
    look_at(disk, &now);
    MUST(is_same_look(before, &now));
    forget_look(&now);
}

/* ---- what is sound ------------------------------------------------------------------------------- */

/* Not where segments contradict each other, which only a fuzzer makes: then everybody is right to stop somewhere
 * else, and a torn tail is what verify calls the place where it did. */
static bool is_sound(const struct look *look)
{
    const uint32_t segments = look->inspection.segments + look->inspection.spare_segments;
    return look->verified == 0 && (!look->is_torn || segments == 1);
}

/* Footers and indexes are right as well. Only then do searches by time find what is there. What a footer says of
 * an end that was truncated is not known to be right. */
static bool is_flawless(const struct look *look)
{
    return is_sound(look) && look->findings == 0 && !look->has_retired;
}

static void check_time(struct simdisk *disk, const struct reading *all, int64_t time_ns)
{
    struct twinlog_record record;
    int result;
    size_t expected = 0;
    struct twinlog_reader *reader = open_reader(disk, &result);
    while (expected < all->count && all->seen[expected].time_ns < time_ns)
        expected++;
    MUST(reader && twinlog_reader_seek_time(reader, time_ns) == 0);
    result = twinlog_reader_next(reader, &record);
    if (result != (expected < all->count))
        FUZZ_FAIL("a search for time %" PRId64 " returns %d, record %zu of %zu is the one", time_ns, result,
                  expected, all->count);
    MUST(result == 0 || record.lsn == all->seen[expected].lsn);
    twinlog_reader_close(reader);
}

static void check_seek(struct simdisk *disk, const struct reading *all, size_t which)
{
    struct twinlog_record record;
    int result;
    struct twinlog_reader *reader = open_reader(disk, &result);
    MUST(reader && twinlog_reader_seek(reader, all->seen[which].lsn) == 0);
    MUST(twinlog_reader_next(reader, &record) == 1 && record.lsn == all->seen[which].lsn);
    MUST(twinlog_reader_previous(reader, &record) == 1 && record.lsn == all->seen[which].lsn);
    twinlog_reader_close(reader);
}

static void check_sound(struct simdisk *disk, const struct look *look, size_t choice)
{
    const struct reading *all = &look->forwards;
    if (look->inspected != 0 || look->inspection.report.error != 0)
        FUZZ_FAIL("verify calls it sound, inspect does not: %d, %s", look->inspected,
                  look->inspection.report.text);
    MUST(look->listed == 0 && look->handle == 0);
    if (all->result != 0 || all->count != look->records)
        FUZZ_FAIL("verify found %" PRIu64 " records, a reader %zu: %d", look->records, all->count,
                  all->result);
    MUST(look->backwards.result == 0 && is_reverse(&look->backwards, all));
    if (all->count == 0)
        return;
    choice %= all->count;
    check_seek(disk, all, choice);
    if (!is_flawless(look))
        return;
    check_time(disk, all, all->seen[choice].time_ns);
    check_time(disk, all, INT64_MIN);
    check_time(disk, all, INT64_MAX);
}

/* ---- opening ------------------------------------------------------------------------------------- */

static struct twinlog_options choose_options(const unsigned char *bytes)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = bytes[0] & 1 ? 131072 : 65536;
    options.buffer_bytes = 16384;
    options.flags = TWINLOG_MUST_EXIST;
    if (bytes[0] & 2)
        options.flags |= TWINLOG_PAD;
    if (bytes[0] & 4)
        options.flags |= TWINLOG_BUFFERED;
    if (bytes[0] & 8)
        options.flags |= TWINLOG_NO_RECYCLE;
    if (bytes[0] & 16)
        options.segment_records = 2;
    options.prepare = bytes[1] % 2;
    options.spare_segments = bytes[0] & 32 ? 1 : 0;
    return options;
}

/* One more record, or several, then the log is closed. */
static void append_and_close(struct twinlog *log, unsigned count, uint64_t *ret_last)
{
    const uint64_t last = twinlog_last_lsn(log);
    for (unsigned i = 1; i <= count; i++) {
        uint64_t lsn = 0;
        MUST(twinlog_append(log, "appended", 8, &lsn) == 0);
        MUST(lsn == last + i && twinlog_durable_lsn(log) == lsn);
    }
    *ret_last = last + count;
    MUST(twinlog_close(log) == 0);
}

/* What was there before it was opened, and what was appended since. */
static void check_appended(struct simdisk *disk, const struct look *before, unsigned count)
{
    struct reading now = read_all(disk, false);
    MUST(begins_with(&now, &before->forwards));
    if (is_sound(before))
        MUST(now.result == 0 && now.count == before->forwards.count + count);
    if (is_sound(before)) {
        struct look after;
        look_at(disk, &after);
        MUST(is_sound(&after) && after.names == before->names);
        check_sound(disk, &after, count);
        forget_look(&after);
    }
    forget(&now);
}

static void check_opening(const struct simdisk *original, const struct look *before,
                          const unsigned char *choices)
{
    struct simdisk *disk = copy_disk(original);
    struct twinlog_options options = choose_options(choices);
    const unsigned count = choices[2] % 8;
    struct twinlog_report report;
    struct twinlog *log;
    options.ret_report = &report;
    int result = twl_log_open(simdisk_connect(disk), &options, &log);
    const bool is_for_readers = result == TWINLOG_EVERSION && strstr(report.text, "can read the log") != NULL;
    if (is_sound(before) && result != 0 && !is_for_readers && !(result == -EOVERFLOW && before->is_used_up))
        FUZZ_FAIL("verify calls it sound, opening it fails: %d, %s", result, report.text);
    if (result < 0) {
        MUST(report.error == result);
        must_look_the_same(disk, before);
        MUST(twl_log_open(simdisk_connect(disk), &options, &log) == result);
    } else {
        uint64_t last;
        append_and_close(log, count, &last);
        check_appended(disk, before, count);
        MUST(twl_log_open(simdisk_connect(disk), &options, &log) == 0);
        MUST(twinlog_last_lsn(log) == last);
        append_and_close(log, 1, &last);
        check_appended(disk, before, count + 1);
    }
    simdisk_destroy(disk);
}

/* ---- repair -------------------------------------------------------------------------------------- */

static void check_repaired(struct simdisk *disk, const struct look *before,
                           const struct twinlog_repair_result *result)
{
    struct look after;
    look_at(disk, &after);
    if (after.verified < 0 || after.records != result->records)
        FUZZ_FAIL("a repaired log of %" PRIu64 " records is verified: %d, %" PRIu64 " records",
                  result->records, after.verified, after.records);
    check_sound(disk, &after, 0);
    MUST(holds_all(&after.forwards, &before->forwards,
                   is_sound(before) ? (struct lsn_range){ 0 } : before->disputed));
    if (is_sound(before) && !before->is_torn) /* of what was torn it may save more than an opening */
        MUST(after.forwards.count == before->forwards.count);
    forget_look(&after);
}

/* In the place of each record that is lost there will be a filler. */
static int refuse_large_loss(void *context, const struct twinlog_report *lost)
{
    struct lsn_range *refused = context;
    *refused = (struct lsn_range){ lost->first_lsn, lost->last_lsn };
    return lost->last_lsn - lost->first_lsn > MAX_LOSS;
}

/* Every record that checks is copied (recovery.md), also one that lies far behind a torn one. And what a cursor has
 * passed was there, also if nothing else says so. */
static bool may_lose(const struct look *look, struct lsn_range lost)
{
    return look->is_torn || (lost.first > look->inspection.last_lsn && lost.last == look->passed_lsn);
}

static void check_repair(const struct simdisk *original, const struct look *before)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    const struct simdisk_options empty = { .clock_ns = NOW_NS, .has_direct = true };
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct simdisk *from = copy_disk(original), *to = simdisk_create(&empty);
    struct lsn_range lost = { 0 };
    options.each = refuse_large_loss;
    options.context = &lost;
    const int error = twl_repair(simdisk_connect(from), simdisk_connect(to), &options, &result);
    const bool is_refused = error == -EOVERFLOW ? before->is_used_up : error == 1 && may_lose(before, lost);
    if (error != 0 && is_sound(before) && !is_refused)
        FUZZ_FAIL("verify calls it sound, repair fails: %d", error);
    if (error == 0)
        check_repaired(to, before, &result);
    must_look_the_same(from, before);
    simdisk_destroy(from);
    simdisk_destroy(to);
}

/* ---- the target ---------------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct container container;
    struct look look;
    if (!container_unpack(data, size, &container)) {
        container_free(&container);
        return 0;
    }
    struct simdisk *disk = make_disk(&container);
    look_at(disk, &look);
    if (is_sound(&look))
        check_sound(disk, &look, container.options[3]);
    check_opening(disk, &look, container.options);
    check_repair(disk, &look);
    forget_look(&look);
    simdisk_destroy(disk);
    container_free(&container);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What looks at a whole log and what copies it: verify, inspect, segments and backup. Backups beside writers that trim
 * and truncate, and those that are interrupted, are those of crash-kill and sim-crash.
 */
#define _GNU_SOURCE
#include "../sim/simdisk.h"
#include "copies.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "check/check.h"
#include "control/shared_page.h"
#include "format/format.h"
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- logs and copies --------------------------------------------------------------------------- */

static struct twinlog_backup_result back_up(uint32_t flags)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;

    int error = twinlog_backup(log_dir, copy_dir, &WITH_SIZE(backup_options, .flags = flags), &result);
    ck_assert_msg(error == 0, "backup: %s", twinlog_strerror(error));
    return result;
}

static int back_up_error(void)
{
    return twinlog_backup(log_dir, copy_dir, &WITH_SIZE(backup_options, .flags = TWINLOG_BACKUP_COPY), NULL);
}

/* Names in a directory but . and .., those of writer.lock left out. */
static unsigned count_files(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    unsigned count = 0;

    ck_assert_ptr_nonnull(list);
    while ((entry = readdir(list)))
        count += entry->d_name[0] != '.' && strcmp(entry->d_name, "writer.lock") != 0;
    closedir(list);
    return count;
}

static uint64_t copy_print;

static void take_print(void)
{
    copy_print = log_fingerprint(false);
}

/* ---- the files of a log ------------------------------------------------------------------------ */

static unsigned count_state(const struct listing *listing, enum twinlog_segment_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < listing->count; i++)
        count += listing->list[i].state == (uint32_t)state;
    return count;
}

static uint64_t newest_lsn(const struct listing *listing)
{
    uint64_t lsn = 0;

    for (unsigned i = 0; i < listing->count; i++)
        lsn = listing->list[i].last_lsn > lsn ? listing->list[i].last_lsn : lsn;
    return lsn;
}

CASE("look", make_place, logdir_remove);

TEST(segments_are_listed_in_the_order_of_the_log)
{
    struct twinlog *log = open_small();
    uint64_t next = 100;

    fill(log, 0);
    log_trim_before(log, 100);
    log_close(log);
    struct listing listing = list_segments();
    ck_assert_uint_ge(count_state(&listing, TWINLOG_SEGMENT_SEALED), 2);
    ck_assert_uint_eq(count_state(&listing, TWINLOG_SEGMENT_UNSEALED), 0);
    ck_assert_uint_eq(count_state(&listing, TWINLOG_SEGMENT_ACTIVE), 1);
    for (unsigned i = 0; i < listing.count; i++) {
        const struct twinlog_segment *segment = &listing.list[i];

        ck_assert_uint_eq(segment->size, sizeof(*segment));
        ck_assert_uint_eq(segment->file_bytes, 64 * KIB);
        ck_assert(log_has_file(segment->file));
        if (i > 0)
            ck_assert_uint_ge(segment->state + 1, listing.list[i - 1].state);
        if (segment->state > TWINLOG_SEGMENT_ACTIVE) {
            ck_assert_uint_eq(segment->first_lsn, 0);
            continue;
        }
        ck_assert_uint_eq(segment->first_lsn, next);
        next = segment->last_lsn + 1;
        ck_assert_uint_ge(segment->data_bytes, 24 * (segment->last_lsn - segment->first_lsn + 1));
        ck_assert_int_le(segment->first_time_ns, segment->last_time_ns);
        ck_assert_int_gt(segment->first_time_ns, 0);
        if (segment->state == TWINLOG_SEGMENT_ACTIVE)
            ck_assert_msg(segment->first_time_ns < segment->last_time_ns, "it has many groups");
    }
    ck_assert_uint_eq(next, 301);
}

static int stop_at_second(void *context, const struct twinlog_segment *segment)
{
    (void)segment;
    return ++*(int *)context == 2 ? 17 : 0;
}

TEST(a_listing_ends_when_the_caller_says_so)
{
    struct twinlog *log = open_small();
    int calls = 0;

    fill(log, 0);
    log_close(log);
    ck_assert_int_eq(twinlog_segments(log_dir, stop_at_second, &calls), 17);
    ck_assert_int_eq(calls, 2);
}

static int print_finding(void *context, const struct twinlog_report *report)
{
    (void)context;
    if (report->error != 0)
        fprintf(stderr, "%s at %" PRIu64 ": %s\n", report->file, report->offset, report->text);
    return 0;
}

/* Called while the first segment is walked: everything behind it gets another incarnation, or is gone. */
static void change_all(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct twinlog **log = context;

    (void)done_bytes;
    (void)total_bytes;
    if (!*log)
        return;
    log_trim_before(*log, 290);
    append_records(*log, 0, 300, 300);
    ck_assert_uint_ge(log_stat(*log).recycled_segments, 1);
    *log = NULL;
}

TEST(verify_goes_on_in_what_is_left)
{
    struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog *log = open_small(), *to_change = log;
    uint64_t records = 0;

    fill(log, 0);
    verify.each = print_finding;
    verify.progress = change_all;
    verify.context = &to_change;
    ck_assert_int_eq(twinlog_verify(log_dir, &verify, &records), 0);
    ck_assert_ptr_null(to_change);
    ck_assert_uint_ge(records, 300);
    log_close(log);
}

/* Called when the end of the log has been read, and not been judged yet. */
static void go_on_writing(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct twinlog **log = context;
    struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);

    (void)done_bytes;
    (void)total_bytes;
    if (*log)
        return;
    options.segment_bytes = 8 * KIB * KIB;
    *log = log_open(&options);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(twinlog_append(*log, garbage, sizeof(garbage), NULL), 0);
}

TEST(a_writer_that_comes_while_verify_looks_is_no_damage)
{
    struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog *log = log_open(NULL), *later = NULL;
    uint64_t records = 0;

    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    log_close(log);
    verify.each = print_finding;
    verify.progress = go_on_writing;
    verify.context = &later;
    ck_assert_int_eq(twinlog_verify(log_dir, &verify, &records), 0);
    ck_assert_uint_ge(records, 10);
    log_close(later);
}

static struct {
    char file[SEGMENT_NAME_BYTES];
    unsigned opened, nth;
    bool is_torn;
} tear;

/* As if the header was just being overwritten when the file is opened for the nth time. */
static int tear_header(const struct hooked_call *call)
{
    static const unsigned char other = 0xff, version = 1;

    if (tear.is_torn && call->op != SIM_READ) {
        patch_file(log_file(tear.file), 8, &version, 1);
        tear.is_torn = false;
    }
    if (call->op == SIM_OPEN && strcmp(call->name, tear.file) == 0 && ++tear.opened == tear.nth) {
        patch_file(log_file(tear.file), 8, &other, 1);
        tear.is_torn = true;
    }
    return hooked_refuse_map(call);
}

TEST(what_changes_just_now_is_no_end_to_verify_without_a_page)
{
    const struct twinlog_verify_options verify = WITH_SIZE(verify_options, .each = print_finding);
    const struct twinlog_options options = small_segments(0);
    uint64_t records;

    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    struct twinlog *log = log_on(hooked_log_dir(hooked_refuse_map), &options);
    fill(log, 0);
    const struct listing listing = list_segments();
    const struct twinlog_segment *newest = listing.list;
    while (newest->state != TWINLOG_SEGMENT_ACTIVE)
        newest++;
    memcpy(tear.file, newest->file, sizeof(tear.file));
    do {
        tear.opened = 0;
        tear.nth++;
        ck_assert_int_eq(twl_verify(hooked_log_dir(tear_header), &verify, &records), 0);
        ck_assert_uint_ge(records, 299);
    } while (tear.opened >= tear.nth);
    ck_assert_uint_gt(tear.nth, 5);
    log_close(log);
}

CASE("backup", make_place, logdir_remove);

/* ---- what a backup holds ----------------------------------------------------------------------- */

/* Of the files of a copy, how many are links? */
static unsigned count_links(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    unsigned count = 0;
    struct stat about;

    ck_assert_ptr_nonnull(list);
    while ((entry = readdir(list)))
        if (fstatat(dirfd(list), entry->d_name, &about, 0) == 0 && S_ISREG(about.st_mode))
            count += about.st_nlink > 1;
    closedir(list);
    return count;
}

TEST(neither_log_changes_the_other_through_a_link)
{
    struct twinlog *log = open_small(), *copy;

    fill(log, 0);
    log_close(log);
    struct twinlog_backup_result result = back_up(0);
    ck_assert_uint_ge(count_links(copy_dir), 3);
    ck_assert_uint_eq(result.linked_bytes, count_links(copy_dir) * 64 * KIB);
    ck_assert_uint_eq(result.copied_bytes, 64 * KIB);
    ck_assert_uint_eq(result.segments, count_links(copy_dir) + 1);
    in_copy(take_print);
    uint64_t before = copy_print;

    log = open_small();
    fill(log, 300);
    ck_assert_int_eq(twinlog_truncate(log, 150), 0);
    fill(log, 150);
    log_trim_before(log, 400);
    append_records(log, 0, 450, 500); /* into recycled files, where there are any */
    log_close(log);
    in_copy(take_print);
    ck_assert_uint_eq(copy_print, before);
    in_copy(take_tally);
    ck_assert_uint_eq(copy_tally.last_lsn, 300);

    before = log_fingerprint(false);
    copy = open_at(copy_dir);
    ck_assert_uint_eq(twinlog_last_lsn(copy), 300);
    append_records(copy, 0, 300, 200);
    log_trim_before(copy, 400);
    append_records(copy, 0, 500, 400);
    ck_assert_int_eq(twinlog_truncate(copy, 600), 0);
    ck_assert_int_eq(twinlog_close(copy), 0);
    ck_assert_uint_eq(log_fingerprint(false), before);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
    ck_assert_int_eq(twinlog_verify(copy_dir, NULL, NULL), 0);
}

/* Segments of the log that no process may give another incarnation now, by the lock that says so. */
static unsigned count_held(void)
{
    DIR *list = opendir(log_dir);
    const struct dirent *entry;
    unsigned held = 0;

    if (!list)
        return 0;
    while ((entry = readdir(list))) {
        struct flock use = {
            .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)IO_LOCK_USE, .l_len = 1
        };
        int fd = strstr(entry->d_name, ".twl") ? openat(dirfd(list), entry->d_name, O_RDWR | O_CLOEXEC) : -1;

        if (fd >= 0 && fcntl(fd, F_OFD_GETLK, &use) == 0)
            held += use.l_type != F_UNLCK;
        if (fd >= 0)
            close(fd);
    }
    closedir(list);
    return held;
}

static void note_held(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    unsigned *least = context;
    const unsigned held = done_bytes < total_bytes ? count_held() : 1;

    if (held < *least)
        *least = held;
}

static bool are_left_ones_sealed(void)
{
    const struct listing listing = list_segments();

    return count_state(&listing, TWINLOG_SEGMENT_UNSEALED) == 0;
}

static const struct held_row {
    const char *name;
    uint32_t flags;
    bool are_links;
} held_rows[] = {
    { "linked", 0, true },
    { "copied", TWINLOG_BACKUP_COPY, false },
};

TEST_EACH(what_is_being_copied_is_held, held_rows)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    unsigned least = 100;
    const struct twinlog_backup_options options =
        WITH_SIZE(backup_options, .flags = row->flags, .progress = note_held, .context = &least);

    struct twinlog *log = open_filled();
    AWAIT(are_left_ones_sealed());
    ck_assert_int_eq(twinlog_backup(log_dir, copy_dir, &options, &result), 0);

    ck_assert_uint_eq(least, 1);
    ck_assert_uint_eq(result.copied_bytes, (row->are_links ? 1 : result.segments) * 64 * KIB);
    ck_assert_int_eq(count_links(copy_dir) > 0, row->are_links);
    ck_assert_uint_eq(count_held(), 0);
    log_close(log);
}

TEST(a_backup_goes_to_another_file_system)
{
    struct stat here, there;

    if (stat("/dev/shm", &there) != 0 || stat(log_parent, &here) != 0 || here.st_dev == there.st_dev ||
        access("/dev/shm", W_OK) != 0) {
        fprintf(stderr, "SKIP copy a_backup_goes_to_another_file_system: /dev/shm is none\n");
        return;
    }
    snprintf(copy_dir, sizeof(copy_dir), "/dev/shm/twinlog-test-copy-%d", (int)getpid());
    struct twinlog *log = open_filled();
    log_close(log);
    ck_assert_uint_eq(back_up(0).linked_bytes, 0);
    in_copy(take_tally);
    ck_assert_uint_eq(copy_tally.last_lsn, 300);
    remove_copy();
}

TEST(cursors_values_the_head_and_a_truncation_are_in_the_backup)
{
    struct twinlog *log = open_small(), *copy;
    char value[8] = "";
    uint64_t lsn = 0;

    fill(log, 0);
    ck_assert_int_eq(twinlog_truncate(log, 210), 0);
    log_trim_before(log, 111);
    ck_assert_int_eq(twinlog_cursor_set(log, "behind", 130), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "at the end", 210), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "vote", "node 3", 6), 0);
    struct twinlog_backup_result result = back_up(0);
    ck_assert_uint_eq(result.first_lsn, 111);
    ck_assert_uint_eq(result.last_lsn, 210);
    log_close(log);

    copy = open_at(copy_dir);
    ck_assert_uint_eq(twinlog_first_lsn(copy), 111);
    ck_assert_uint_eq(twinlog_last_lsn(copy), 210);
    ck_assert_int_eq(twinlog_cursor_get(copy, "behind", &lsn), 0);
    ck_assert_uint_eq(lsn, 130);
    ck_assert_int_eq(twinlog_cursor_get(copy, "at the end", &lsn), 0);
    ck_assert_uint_eq(lsn, 210);
    ck_assert_int_eq(twinlog_meta_get(copy, "vote", value, sizeof(value), NULL), 0);
    ck_assert_str_eq(value, "node 3");
    ck_assert_int_eq(twinlog_append(copy, "on", 2, &lsn), 0);
    ck_assert_uint_eq(lsn, 211);
    ck_assert_int_eq(twinlog_close(copy), 0);
}

TEST(an_empty_log_and_one_that_was_reset_can_be_backed_up)
{
    struct twinlog *log = open_small(), *copy;
    struct twinlog_backup_result result = back_up(0);
    uint64_t lsn = 0;

    ck_assert_uint_eq(result.first_lsn, 0);
    ck_assert_uint_eq(result.last_lsn, 0);
    remove_copy();
    fill(log, 0);
    ck_assert_int_eq(twinlog_reset(log, 5000), 0);
    result = back_up(0);
    ck_assert_uint_eq(result.last_lsn, 0);
    log_close(log);
    copy = open_at(copy_dir);
    ck_assert_int_eq(twinlog_append(copy, "on", 2, &lsn), 0);
    ck_assert_uint_eq(lsn, 5000);
    ck_assert_int_eq(twinlog_close(copy), 0);
}

/* ---- backups that do not come about ------------------------------------------------------------- */

TEST(damage_is_not_copied)
{
    struct twinlog *log = open_filled();

    log_close(log);
    patch_file(log_segment(2), 20000, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    ck_assert_int_eq(back_up_error(), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(count_files(copy_dir), 0);
}

TEST(a_backup_needs_a_log_and_an_empty_place)
{
    ck_assert_int_eq(back_up_error(), -ENOENT);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    ck_assert_int_eq(back_up_error(), -ENOENT);
    ck_assert_uint_eq(count_files(copy_dir), 0);
    log_close(log_open(NULL));
    back_up(0);
    ck_assert_int_eq(back_up_error(), -ENOTEMPTY);
    in_copy(take_tally);
}

/* ---- on simulated disks -------------------------------------------------------------------------- */

/* What a look from another process finds between any two operations of a writer. */
struct looking {
    struct simdisk *disk;
    unsigned looks, empty, busy;
};

static void copy_and_look(struct looking *looking, const struct twinlog_inspection *inspection)
{
    const struct simdisk_options disk_options = { .seed = 4, .has_direct = true };
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct simdisk *to = simdisk_create(&disk_options);
    int error = twl_backup(simdisk_connect(looking->disk), simdisk_connect(to), &options, &result);

    ck_assert_msg(error == 0, "backup: %s", twinlog_strerror(error));
    ck_assert_uint_eq(result.first_lsn, inspection->first_lsn);
    ck_assert_uint_eq(result.last_lsn, inspection->first_lsn ? inspection->last_lsn : 0);
    simdisk_destroy(to);
}

static void look_now(void *context, enum simdisk_op op)
{
    const struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct looking *looking = context;
    struct listing listing = { 0 };
    uint64_t records = 0;
    int error = twl_inspect(simdisk_connect(looking->disk), &inspection);

    looking->looks++;
    if (error == -ENOENT) { /* it is being made */
        looking->empty++;
        return;
    }
    ck_assert_int_eq(error, 0);
    ck_assert_msg(inspection.report.error == 0, "inspect after %s: %s", simdisk_op_name(op),
                  inspection.report.text);
    error = twl_verify(simdisk_connect(looking->disk), &options, &records);
    if (error == -EBUSY) { /* a file is getting its next incarnation, and time stands still meanwhile */
        looking->busy++;
        return;
    }
    ck_assert_msg(error == 0, "verify after %s: %s", simdisk_op_name(op), twinlog_strerror(error));
    ck_assert_uint_eq(records, inspection.first_lsn ? inspection.last_lsn - inspection.first_lsn + 1 : 0);
    error = twl_segments(simdisk_connect(looking->disk), keep_segment, &listing);
    ck_assert_msg(error == 0, "segments after %s: %s", simdisk_op_name(op), twinlog_strerror(error));
    ck_assert_uint_eq(newest_lsn(&listing), inspection.first_lsn ? inspection.last_lsn : 0);
    if (looking->looks % 4 == 0)
        copy_and_look(looking, &inspection);
}

static void append_sim(struct twinlog *log, unsigned count)
{
    static const unsigned char bytes[1500];

    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq((i % 3 ? twinlog_enqueue : twinlog_append)(log, bytes, sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
}

CASE("look", make_place, logdir_remove);

/* With that fault of the disk, NULL for none. */
static void look_all_the_time(const struct simdisk_fault *fault)
{
    const struct simdisk_options disk_options = { .seed = 5, .has_direct = true };
    const struct twinlog_options options = small_segments(0);
    struct looking looking = { .disk = simdisk_create(&disk_options) };

    simdisk_inject(looking.disk, fault);
    simdisk_set_hook(looking.disk, look_now, &looking);
    struct twinlog *log = log_on(simdisk_connect(looking.disk), &options);
    append_sim(log, 100);
    ck_assert_int_eq(twinlog_truncate(log, 59), 0); /* inside a group, segments ago */
    append_sim(log, 70);
    log_trim_before(log, 50);
    append_sim(log, 60); /* in recycled files */
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 100), 0);
    ck_assert_int_eq(twinlog_truncate(log, 101), 0);
    ck_assert_int_eq(twinlog_truncate(log, 100), 0);
    log_trim_before(log, 101);
    ck_assert_int_eq(twinlog_reset(log, 1000), 0);
    append_sim(log, 40);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_set_hook(looking.disk, NULL, NULL);
    ck_assert_uint_ge(looking.looks, 200);
    ck_assert_uint_lt(looking.empty, 40);
    ck_assert_uint_lt(looking.busy, 10);
    simdisk_destroy(looking.disk);
}

TEST(at_any_moment_a_log_looks_sound_and_can_be_copied)
{
    look_all_the_time(NULL);
}

TEST(at_any_moment_a_log_without_a_page_looks_sound_and_can_be_copied)
{
    const struct simdisk_fault no_room_for_page = { .op = SIM_ALLOCATE, .nth = 1, .error = -ENOSPC };

    look_all_the_time(&no_room_for_page);
}

CASE("backup", make_place, logdir_remove);

/* The file through which a writer says what is durable does not fit on the disk. */
TEST(a_backup_ends_no_earlier_than_the_head)
{
    const struct simdisk_options disk_options = { .seed = 6, .has_direct = true };
    const struct simdisk_fault fault = { .op = SIM_ALLOCATE, .nth = 1, .error = -ENOSPC };
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct twinlog_options small = small_segments(0);
    struct simdisk *from = simdisk_create(&disk_options), *to = simdisk_create(&disk_options);
    struct twinlog *log, *copy;
    uint64_t lsn = 0;

    simdisk_inject(from, &fault);
    log = log_on(simdisk_connect(from), &small);
    append_sim(log, 10);
    log_trim_before(log, 11);
    ck_assert_int_eq(twl_backup(simdisk_connect(from), simdisk_connect(to), &options, &result), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    copy = log_on(simdisk_connect(to), &small);
    ck_assert_int_eq(twinlog_append(copy, "next", 4, &lsn), 0);
    ck_assert_uint_eq(lsn, 11);
    ck_assert_uint_eq(twinlog_first_lsn(copy), 11);
    ck_assert_int_eq(twinlog_close(copy), 0);
    simdisk_destroy(to);
    simdisk_destroy(from);
}

/* What another process does to the log while it is being copied. */
static struct {
    struct simdisk *disk;
    struct twinlog *writer;
    unsigned reads_left, opens_left; /* until it comes */
    uint64_t newest_lsn;             /* with which its newest segment begins */
} beside;

static int come_and_write(const struct hooked_call *call)
{
    const struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);

    if (call->op == SIM_READ && beside.reads_left > 0 && --beside.reads_left == 0) {
        beside.writer = log_on(simdisk_connect(beside.disk), &options);
        append_sim(beside.writer, 100);
    }
    return 0;
}

/* What it writes between the walk and the search behind it looks as if something in between was lost. */
TEST(a_writer_that_comes_while_a_backup_looks_is_no_damage)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    const struct twinlog_options writing = log_options(0, TWINLOG_BUFFERED);
    unsigned reads = 0;

    do {
        struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
        struct simdisk *to = make_simdisk();
        beside.disk = make_simdisk();
        beside.writer = NULL;
        beside.reads_left = ++reads;
        struct twinlog *log = log_on(simdisk_connect(beside.disk), &writing);
        append_sim(log, 10);
        ck_assert_int_eq(twinlog_close(log), 0);
        struct io *from = hooked(simdisk_connect(beside.disk), come_and_write);
        ck_assert_int_eq(twl_backup(from, simdisk_connect(to), &options, &result), 0);
        ck_assert_uint_ge(result.last_lsn, 10);
        ck_assert_int_eq(twinlog_close(beside.writer), 0);
        simdisk_destroy(beside.disk);
        simdisk_destroy(to);
    } while (beside.reads_left == 0);
    ck_assert_uint_gt(reads, 10);
}

static int consume_more(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN && strcmp(call->name, STATE_NAME) == 0) {
        append_sim(beside.writer, 10);
        ck_assert_int_eq(twinlog_cursor_set(beside.writer, "cursor", twinlog_durable_lsn(beside.writer)), 0);
    }
    return 0;
}

/* Where the copy ends is chosen before its cursors are. One behind the end would say that records are missing. */
TEST(a_backup_has_no_cursor_behind_its_end)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    const struct twinlog_options small = small_segments(0);
    struct simdisk *disk = make_simdisk(), *to = make_simdisk();
    uint64_t lsn = 0;

    beside.writer = log_on(simdisk_connect(disk), &small);
    append_sim(beside.writer, 10);
    struct io *from = hooked(simdisk_connect(disk), consume_more);
    ck_assert_int_eq(twl_backup(from, simdisk_connect(to), &options, &result), 0);
    ck_assert_uint_gt(twinlog_last_lsn(beside.writer), result.last_lsn);
    ck_assert_int_eq(twinlog_close(beside.writer), 0);
    struct twinlog *copy = log_on(simdisk_connect(to), &small);
    ck_assert_uint_eq(twinlog_last_lsn(copy), result.last_lsn);
    ck_assert_int_eq(twinlog_cursor_get(copy, "cursor", &lsn), 0);
    ck_assert_uint_eq(lsn, result.last_lsn);
    ck_assert_int_eq(twinlog_close(copy), 0);
    simdisk_destroy(to);
    simdisk_destroy(disk);
}

/* Between any two calls to the disk of the copy. */
static void cut_power_of_copy(void *context, enum simdisk_op op)
{
    struct simdisk *to = context;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
        struct simdisk *cut = simdisk_crash_image(to, SIM_CUT_RANDOM, seed);
        const int error = twl_inspect(simdisk_connect(cut), &inspection);
        if (error == 0)
            ck_assert_msg(inspection.report.error == 0 && inspection.last_lsn == 100,
                          "after %s the copy ends with LSN %" PRIu64 ": %s", simdisk_op_name(op),
                          inspection.last_lsn, inspection.report.text);
        simdisk_destroy(cut);
    }
}

/* Its state makes it one. */
TEST(a_copy_is_a_log_only_when_all_of_it_is_durable)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    const struct twinlog_options small = small_segments(0);
    struct simdisk *disk = make_simdisk(), *to = make_simdisk();

    struct twinlog *log = log_on(simdisk_connect(disk), &small);
    append_sim(log, 100);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_set_hook(to, cut_power_of_copy, to);
    ck_assert_int_eq(twl_backup(simdisk_connect(disk), simdisk_connect(to), &options, &result), 0);
    simdisk_set_hook(to, NULL, NULL);

    struct simdisk *cut = simdisk_crash_image(to, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twl_inspect(simdisk_connect(cut), &inspection), 0);
    ck_assert_uint_eq(inspection.last_lsn, 100);
    simdisk_destroy(cut);
    simdisk_destroy(to);
    simdisk_destroy(disk);
}

static int trim_once(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN && beside.opens_left > 0 && --beside.opens_left == 0)
        log_trim_before(beside.writer, beside.newest_lsn);
    return 0;
}

/* The LSN with which the newest segment begins. */
static uint64_t find_newest_start(void)
{
    struct listing listing = { 0 };
    uint64_t lsn = 0;

    ck_assert_int_eq(twl_segments(simdisk_connect(beside.disk), keep_segment, &listing), 0);
    for (unsigned i = 0; i < listing.count; i++)
        if (listing.list[i].state == TWINLOG_SEGMENT_ACTIVE)
            lsn = listing.list[i].first_lsn;
    return lsn;
}

/* It begins again with the segments that there are then, whatever it has copied. Nothing but the one group that is left
 * says where that is. */
TEST(a_backup_that_a_trim_overtakes_begins_again)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    const struct twinlog_options small = small_segments(0);
    unsigned opens = 0;

    do {
        struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
        struct simdisk *to = make_simdisk();
        beside.disk = make_simdisk();
        beside.writer = log_on(simdisk_connect(beside.disk), &small);
        append_sim(beside.writer, 200);
        do {
            append_sim(beside.writer, 1);
            beside.newest_lsn = find_newest_start();
        } while (beside.newest_lsn < twinlog_last_lsn(beside.writer));
        beside.opens_left = ++opens;
        struct io *from = hooked(simdisk_connect(beside.disk), trim_once);
        ck_assert_int_eq(twl_backup(from, simdisk_connect(to), &options, &result), 0);
        ck_assert_uint_eq(result.last_lsn, beside.newest_lsn);
        ck_assert_int_eq(twinlog_close(beside.writer), 0);
        simdisk_destroy(beside.disk);
        simdisk_destroy(to);
    } while (beside.opens_left == 0);
    ck_assert_uint_gt(opens, 5);
}

static int cut_source(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN && strcmp(call->name, "0000000000000001.twl") == 0)
        ck_assert_int_eq(truncate(log_segment(1), 20000), 0);
    return 0;
}

static const struct cut_row {
    const char *name;
    uint32_t flags;
} cut_rows[] = {
    { "the bytes are copied", TWINLOG_BACKUP_COPY },
    { "the file is a link", 0 },
};

TEST_EACH(a_file_that_is_cut_while_it_is_copied_is_damage, cut_rows)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *to;

    log_close(open_filled());
    ck_assert_int_eq(mkdir(copy_dir, 0777), 0);
    ck_assert_int_eq(twl_io_posix_create(copy_dir, true, &to), 0);
    ck_assert_int_eq(twl_backup(log_io(true), hooked(to, cut_source),
                                &WITH_SIZE(backup_options, .flags = row->flags), &result),
                     TWINLOG_ECORRUPT);
    ck_assert_uint_eq(count_files(copy_dir), 0);
}

static void change_chain(struct segment_footer *footer)
{
    footer->chain ^= 1;
}

static void count_from_later(struct segment_footer *footer)
{
    footer->first_lsn++;
}

static const struct footer_row {
    const char *name;
    void (*change)(struct segment_footer *footer);
} footer_rows[] = {
    { "the checksum of the last group is another", change_chain },
    { "it counts from another record than its first group", count_from_later },
};

/* The footer checks, but it is not that of these groups. */
TEST_EACH(a_segment_is_not_copied_with_the_footer_of_another, footer_rows)
{
    const uint64_t sequence = 2;
    unsigned char block[SEGMENT_FOOTER_BYTES];
    struct segment segment;
    struct segment_footer footer;

    log_close(open_filled());
    struct io *io = log_io(true);
    const char *path = log_segment(sequence);
    ck_assert_int_eq(twl_segment_open_valid(io, strrchr(path, '/') + 1, &segment), 0);
    ck_assert_int_eq(twl_segment_read_footer(&segment, &footer), 1);
    row->change(&footer);
    twl_segment_footer_encode(&footer, segment.seed, footer.offset, block);
    patch_file(path, (off_t)footer.offset, block, sizeof(block));
    twl_segment_close(&segment);
    io->ops->destroy(io);

    ck_assert_int_eq(back_up_error(), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(count_files(copy_dir), 0);
}

TEST(a_backup_has_no_torn_tail)
{
    make_torn_tail(7);
    ck_assert_uint_eq(back_up(0).last_lsn, 7);
    ck_assert_uint_eq(cursor_in_copy("consumer"), 7);
    in_copy(take_tally);
    ck_assert_uint_eq(copy_tally.last_lsn, 7);
}

/* A segment that was begun with a group of which a crash has left nothing is not in the copy. The footer of the one in
 * front of it goes, too: where the keeper has written it late, it proves that the group was durable. */
TEST(a_backup_ends_in_front_of_a_segment_whose_only_group_is_torn)
{
    static const unsigned char nothing[2 * BLOCK_BYTES];
    struct twinlog *log = open_small();
    uint32_t count = 0;

    do {
        append_records(log, 0, count, 1);
        count++;
    } while (log_stat(log).segments == 1);
    log_kill(log);
    patch_file(log_segment(2), SEGMENT_DATA_OFFSET, nothing, sizeof(nothing));
    patch_file(log_segment(1), (off_t)twl_segment_data_end(65536), nothing, SEGMENT_FOOTER_BYTES);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);

    const struct twinlog_backup_result result = back_up(0);
    ck_assert_uint_eq(result.last_lsn, count - 1);
    ck_assert_uint_eq(result.segments, 1);
    in_copy(take_tally);
    ck_assert_uint_eq(copy_tally.last_lsn, count - 1);
}

static int say_23(void *context, const struct twinlog_report *finding)
{
    ++*(unsigned *)context;
    return finding->error != 0 ? 23 : 0;
}

CASE("look", make_place, logdir_remove);

TEST(the_caller_can_end_verify)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    unsigned calls = 0;

    make_damageable();
    patch_file(log_segment(2), 20000, garbage, sizeof(garbage));
    patch_file(log_segment(3), 20000, garbage, sizeof(garbage));
    options.each = say_23;
    options.context = &calls;
    ck_assert_int_eq(twinlog_verify(log_dir, &options, NULL), 23);
    ck_assert_uint_eq(calls, 1);
}

/* ---- where the system refuses a look ------------------------------------------------------------- */

CASE("backup", make_place, logdir_remove);

static enum simdisk_op failing_op;

static int fail_op(const struct hooked_call *call)
{
    return call->op == failing_op ? -EIO : 0;
}

static const struct first_step {
    const char *name;
    enum simdisk_op op;
} first_steps[] = { { "the state file is not made", SIM_OPEN },
                    { "the state file is not synced", SIM_SYNC },
                    { "its name is not synced", SIM_SYNC_DIR } };

TEST_EACH(a_backup_that_cannot_begin_leaves_an_empty_directory, first_steps)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *from, *to;

    log_close(open_filled());
    ck_assert_int_eq(mkdir(copy_dir, 0777), 0);
    ck_assert_int_eq(twl_io_posix_create(log_dir, false, &from), 0);
    ck_assert_int_eq(twl_io_posix_create(copy_dir, false, &to), 0);
    failing_op = row->op;
    ck_assert_int_eq(twl_backup(from, hooked(to, fail_op), &options, &result), -EIO);
    ck_assert_uint_eq(count_files(copy_dir), 0);
    back_up(0);
    in_copy(take_tally);
}

/* As two that begin at once: the state file is made by one of them only. */
TEST(a_backup_leaves_alone_what_another_one_has_begun)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *from, *to;
    char state[400];

    log_close(open_filled());
    ck_assert_int_eq(mkdir(copy_dir, 0777), 0);
    snprintf(state, sizeof(state), "%s/%s", copy_dir, STATE_NAME);
    put_file(state, "", 0);
    ck_assert_int_eq(twl_io_posix_create(log_dir, false, &from), 0);
    ck_assert_int_eq(twl_io_posix_create(copy_dir, false, &to), 0);
    ck_assert_int_eq(twl_backup(from, to, &options, &result), -ENOTEMPTY);
    ck_assert_uint_eq(count_files(copy_dir), 1);
}

CASE("look", make_place, logdir_remove);

static enum simdisk_op moving_op;

/* As writers do that come and go: each leaves another epoch in the page. */
static int leave_another_epoch(const struct hooked_call *call)
{
    static uint32_t epoch = 1000;

    if (call->op != moving_op)
        return 0;
    epoch++;
    patch_file(log_file("writer.lock"), offsetof(struct page_words, epoch), &epoch, sizeof(epoch));
    return 0;
}

static void damage_a_record(void)
{
    patch_file(log_segment(2), 20000, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
}

static const struct moving {
    const char *name;
    enum simdisk_op op;
} movings[] = { { "while the set is loaded", SIM_LIST }, { "behind that", SIM_SYNC_DIR } };

/* The last of many looks is as old as the others. */
TEST_EACH(what_changes_at_each_look_is_no_result_of_the_last_one, movings)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const uint64_t no_note = 0; /* all groups are looked at */

    struct twinlog *log = open_small();
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_append(log, garbage, 1000, NULL), 0);
    log_kill(log);
    patch_file(log_segment(1), 10000, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    patch_file(log_file("writer.lock"), offsetof(struct page_words, noted_segment), &no_note,
               sizeof(no_note));
    moving_op = row->op;
    ck_assert_int_eq(twl_inspect(hooked_log_dir(leave_another_epoch), &inspection), -EBUSY);
    ck_assert_int_eq(inspection.report.error, -EBUSY);
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_SYSTEM_ERROR);

    moving_op = SIM_ANY; /* nothing moves any more */
    ck_assert_int_eq(twl_inspect(hooked_log_dir(leave_another_epoch), &inspection), 0);
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_DAMAGE);
}

static unsigned state_opens, most_state_opens;

static int refuse_state_later(const struct hooked_call *call)
{
    const bool is_state = call->op == SIM_OPEN && strcmp(call->name, STATE_NAME) == 0;

    if (!is_state)
        return 0;
    state_opens++;
    return state_opens > most_state_opens ? -EIO : 0;
}

static unsigned told_of_state, told_of_damage;

static int note_finding(void *context, const struct twinlog_report *report)
{
    (void)context;
    if (report->error == -EIO && strcmp(report->file, STATE_NAME) == 0)
        told_of_state++;
    if (report->error == TWINLOG_ECORRUPT)
        told_of_damage++;
    return 0;
}

/* The last opening of the state file is refused while a log is verified. */
static int verify_without_state(void)
{
    const struct twinlog_verify_options options = WITH_SIZE(verify_options, .each = note_finding);
    uint64_t records = 0;

    most_state_opens = UINT_MAX;
    twl_verify(hooked_log_dir(refuse_state_later), &options, &records);
    most_state_opens = state_opens - 1;
    state_opens = told_of_state = told_of_damage = 0;
    return twl_verify(hooked_log_dir(refuse_state_later), &options, &records);
}

static void make_log_with_damaged_state(void)
{
    log_close(open_filled());
    patch_file(log_file(STATE_NAME), STATE_MIN_SLOT_BYTES, "\xff\xff\xff\xff", 4);
}

TEST(a_state_file_that_cannot_be_looked_at_is_told)
{
    make_log_with_damaged_state();
    ck_assert_int_eq(verify_without_state(), -EIO);
    ck_assert_uint_eq(told_of_state, 1);
    ck_assert_uint_eq(told_of_damage, 0);
}

TEST(records_are_looked_at_although_the_state_file_cannot_be)
{
    make_log_with_damaged_state();
    damage_a_record();
    ck_assert_int_eq(verify_without_state(), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(told_of_state, 1);
    ck_assert_uint_eq(told_of_damage, 1);
}

/* ---- a head that nothing vouches for ------------------------------------------------------------- */

CASE("a bare head", make_place, logdir_remove);

static uint64_t append_one(struct twinlog *log)
{
    uint64_t lsn;

    ck_assert_int_eq(twinlog_append(log, garbage, 1000, &lsn), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    return lsn;
}

/* The last append began a segment, and all in front of it is trimmed. Its writer writes nothing by itself. */
static struct twinlog *open_bare(uint32_t mode, uint64_t *ret_lsn)
{
    struct twinlog_options options = small_segments(LOG_NO_THREADS);
    uint64_t removed_segments = 0;

    options.mode = mode;
    if (mode != TWINLOG_MODE_DURABLE)
        options.mapped_bytes = options.segment_bytes;
    struct twinlog *log = log_open(&options);
    while (removed_segments == 0) {
        *ret_lsn = append_one(log);
        removed_segments = log_trim_before(log, *ret_lsn).removed_segments;
    }
    return log;
}

/* Whatever lies in the segment. */
static void lose_groups(void)
{
    static const unsigned char zeros[32 * KIB];
    const struct listing listing = list_started(log_dir);

    ck_assert_uint_eq(listing.count, 1);
    patch_file(log_file(listing.list[0].file), SEGMENT_DATA_OFFSET, zeros, sizeof(zeros));
}

static int see_all(const struct hooked_call *call)
{
    (void)call;
    return 0;
}

static const struct {
    const char *name;
    uint32_t mode;
    hooked_before *before; /* what the copier can see */
    void (*damage)(void);  /* NULL: none */
    int expected;          /* of a copy */
} bare_heads[] = {
    { "a durable log", TWINLOG_MODE_DURABLE, see_all, NULL, 0 },
    { "of which the page cannot be seen", TWINLOG_MODE_DURABLE, hooked_refuse_map, NULL, -EBUSY },
    { "of which the group is lost", TWINLOG_MODE_DURABLE, see_all, lose_groups, TWINLOG_ECORRUPT },
    { "both", TWINLOG_MODE_DURABLE, hooked_refuse_map, lose_groups, TWINLOG_ECORRUPT },
    { "a mapped log", TWINLOG_MODE_MAPPED, see_all, NULL, 0 },
    { "of which the marker is lost", TWINLOG_MODE_MAPPED, see_all, lose_groups, TWINLOG_ECORRUPT },
};

static int back_up_seeing(hooked_before *before)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *from = hooked(log_io(true), before), *to;

    remove_tree(copy_dir);
    ck_assert_int_eq(mkdir(copy_dir, 0777), 0);
    ck_assert_int_eq(twl_io_posix_create(copy_dir, false, &to), 0);
    return twl_backup(from, to, &WITH_SIZE(backup_options, .flags = TWINLOG_BACKUP_COPY), &result);
}

/* Beside a writer. What is lost is damage; what only is not known to be durable yet is not. */
TEST_EACH(a_head_that_cannot_be_copied_is_damaged_or_not_vouched_for, bare_heads)
{
    uint64_t lsn = 0;
    struct twinlog *log = open_bare(row->mode, &lsn);

    if (row->damage)
        row->damage();
    ck_assert_int_eq(back_up_seeing(row->before), row->expected);
    const int verified = twinlog_verify(log_dir, NULL, NULL);
    ck_assert_int_eq(verified, row->damage ? TWINLOG_ECORRUPT : 0);

    if (!row->damage) { /* the next group says that this one is durable */
        append_one(log);
        ck_assert_int_eq(back_up_seeing(row->before), 0);
    }
    log_kill(log);
}

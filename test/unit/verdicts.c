/* SPDX-License-Identifier: Apache-2.0 */
/* See verdicts.h. */
#define _GNU_SOURCE
#include "verdicts.h"
#include "logdir.h"
#include "suites.h"

#include "base/base.h"
#include "format/format.h"
#include "io/io.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char sound_dir[320], repaired_dir[320];
struct twinlog_segment segments[32];
unsigned segment_count;
uint64_t first_lsn;
uint64_t last_lsn;

void make_payload(uint64_t lsn, unsigned char bytes[PAYLOAD_BYTES])
{
    memset(bytes, (int)(lsn % 251), PAYLOAD_BYTES);
    memcpy(bytes, &lsn, sizeof(lsn));
}

int keep_sound_segment(void *context, const struct twinlog_segment *segment)
{
    (void)context;
    if (segment->state > TWINLOG_SEGMENT_ACTIVE)
        return 0;
    ck_assert_uint_lt(segment_count, sizeof(segments) / sizeof(segments[0]));
    segments[segment_count++] = *segment;
    return 0;
}

unsigned segment_at(enum where where)
{
    switch (where) {
    case NEWEST:
        return segment_count - 1;
    case MIDDLE:
        return segment_count / 2;
    case OLDEST:
        break;
    }
    return 0;
}

struct twinlog_options options_with(uint32_t flags)
{
    const struct twinlog_options options = LOG_OPTIONS(.flags = flags, .segment_bytes = SMALL_SEGMENT);

    return options;
}

uint64_t append_group(struct twinlog *log, uint64_t lsn)
{
    static unsigned char bytes[BATCH][PAYLOAD_BYTES];
    struct twinlog_entry entries[BATCH];
    const uint32_t count = lsn % 10 == 1 ? BATCH : 1;

    for (uint32_t i = 0; i < count; i++) {
        make_payload(lsn + i, bytes[i]);
        entries[i] = (struct twinlog_entry){ .data = bytes[i], .size = PAYLOAD_BYTES };
    }
    ck_assert_int_eq(twinlog_append_batch(log, entries, count, NULL, NULL), 0);
    return lsn + count;
}

void append_batch(struct twinlog *log, uint64_t lsn)
{
    static unsigned char bytes[BATCH][PAYLOAD_BYTES];
    struct twinlog_entry entries[BATCH];

    for (uint32_t i = 0; i < BATCH; i++) {
        make_payload(lsn + i, bytes[i]);
        entries[i] = (struct twinlog_entry){ .data = bytes[i], .size = PAYLOAD_BYTES };
    }
    ck_assert_int_eq(twinlog_append_batch(log, entries, BATCH, NULL, NULL), 0);
}

/* Closed, with a cursor at its end. */
static void make_sound_log(void)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);

    for (uint64_t lsn = 1; lsn <= RECORDS;)
        lsn = append_group(log, lsn);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", RECORDS), 0);
    log_close(log);
    segment_count = 0;
    first_lsn = 1;
    last_lsn = RECORDS;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_sound_segment, NULL), 0);
    ck_assert_uint_ge(segment_count, 5);
    snprintf(sound_dir, sizeof(sound_dir), "%s/sound", log_parent);
    snprintf(repaired_dir, sizeof(repaired_dir), "%s/repaired", log_parent);
    ck_assert_int_eq(rename(log_dir, sound_dir), 0);
}

void forget_note(void)
{
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
}

void put_sound_log(void)
{
    copy_directory(sound_dir, log_dir);
    forget_note();
}

void verdict_set_up(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    logdir_make();
    make_sound_log();
}

void flip(const char *path, off_t offset)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

off_t find_bytes(const char *path, const void *bytes, size_t size)
{
    static unsigned char file[SMALL_SEGMENT];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    close(fd);
    const unsigned char *at =
        memmem(file + SEGMENT_DATA_OFFSET, sizeof(file) - SEGMENT_DATA_OFFSET, bytes, size);
    ck_assert_ptr_nonnull(at);
    return at - file;
}

void flip_near(const struct twinlog_segment *segment, uint64_t lsn, int distance)
{
    unsigned char bytes[PAYLOAD_BYTES];

    make_payload(lsn, bytes);
    const char *path = log_file(segment->file);
    flip(path, find_bytes(path, bytes, sizeof(bytes)) + distance);
}

void flip_record(const struct twinlog_segment *segment, uint64_t lsn)
{
    flip_near(segment, lsn, IN_PAYLOAD);
}

static void add_foreign_segment(void)
{
    char own[sizeof(log_dir)], from[600];

    memcpy(own, log_dir, sizeof(own));
    snprintf(log_dir, sizeof(log_dir), "%.200s/other", log_parent);
    log_close(log_open(NULL));
    snprintf(from, sizeof(from), "%s", log_segment(1));
    memcpy(log_dir, own, sizeof(own));
    ck_assert_int_eq(rename(from, log_file("00000000000000ff.twl")), 0);
}

void damage(enum what what, const struct twinlog_segment *segment)
{
    static const char text[8192] = "Dear diary,";
    const char *path = log_file(segment->file), *state = log_file("state");
    struct stat state_file;

    ck_assert_int_eq(stat(state, &state_file), 0);
    switch (what) {
    case NOTHING:
        break;
    case HEADER:
        flip(path, 40);
        break;
    case TEXT: /* another file in its place, which a header that was written over may look like */
        put_file(path, text, sizeof(text));
        break;
    case FIRST_GROUP:
        flip(path, find_bytes(path, "1TWG", 4) + 4);
        break;
    case RECORD:
        flip_record(segment, segment->first_lsn + 2);
        break;
    case FOOTER:
        flip(path, SMALL_SEGMENT - SEGMENT_FOOTER_BYTES + 20);
        break;
    case INDEX:
        flip(path, SMALL_SEGMENT - SEGMENT_FOOTER_BYTES - INDEX_ENTRY_BYTES + 3);
        break;
    case SHORTER:
        ck_assert_int_eq(truncate(path, 3 * BLOCK_BYTES + 1), 0);
        break;
    case MISSING:
        ck_assert_int_eq(unlink(path), 0);
        break;
    case ONE_STATE:
        flip(state, 20);
        break;
    case BOTH_STATES:
        flip(state, 20);
        flip(state, state_file.st_size / 2 + 20);
        break;
    case NO_STATE:
        ck_assert_int_eq(unlink(state), 0);
        break;
    case FOREIGN:
        add_foreign_segment();
        break;
    case SECOND_COPY:
        ck_assert_int_eq(link(path, log_file("00000000000000ff.twl")), 0);
        break;
    }
}

int keep(void *context, const struct twinlog_report *report)
{
    struct told *told = context;

    if (told->count < 64)
        told->list[told->count] = *report;
    told->count++;
    told->errors += report->error != 0;
    return 0;
}

int look(uint64_t *ret_lsn)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int error = twinlog_inspect(log_dir, &inspection);

    ck_assert(error == 0 || inspection.report.error == error);
    *ret_lsn = inspection.report.error < 0 ? inspection.report.first_lsn : 0;
    return inspection.report.error;
}

static int try_open(void)
{
    const struct twinlog_options options = options_with(0);
    struct twinlog *log;
    const int error = twinlog_open(log_dir, &options, &log);

    if (error == 0) {
        ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
        log_close(log);
    }
    ck_assert_int_eq(log_report.error, error);
    return error;
}

static int read_to_end(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    int error;

    while ((error = twinlog_reader_next(reader, &record)) > 0)
        continue;
    twinlog_reader_close(reader);
    return error;
}

/* Such a handle shows what is sound; the end of its readers tells the rest. */
static int read_all(uint64_t *ret_lsn)
{
    const struct twinlog_options options = options_with(TWINLOG_READ_ONLY);
    struct twinlog_reader_options reading = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog *log;
    int error = twinlog_open(log_dir, &options, &log);

    *ret_lsn = error < 0 ? log_report.first_lsn : 0;
    if (error < 0)
        return error;
    reading.ret_report = &log_report;
    error = twinlog_reader_attach(log, &reading, &reader);
    if (error == 0)
        error = read_to_end(reader);
    *ret_lsn = error < 0 ? log_report.first_lsn : 0;
    log_close(log);
    return error;
}

int read_from_outside(uint64_t *ret_lsn)
{
    struct twinlog_reader *reader;
    int error = twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .ret_report = &log_report), &reader);

    if (error == 0)
        error = read_to_end(reader);
    *ret_lsn = error < 0 ? log_report.first_lsn : 0;
    return error;
}

bool is_lost(const struct told *losses, uint64_t lsn)
{
    for (unsigned i = 0; i < losses->count; i++)
        if (losses->list[i].first_lsn <= lsn && lsn <= losses->list[i].last_lsn)
            return true;
    return false;
}

/* All records but those that were told lost. */
static void check_repaired(const struct told *losses)
{
    unsigned char bytes[PAYLOAD_BYTES];
    struct twinlog_reader *reader;
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_verify(repaired_dir, NULL, NULL), 0);
    ck_assert_int_eq(twinlog_reader_open(repaired_dir, NULL, &reader), 0);
    for (uint64_t lsn = first_lsn; lsn <= last_lsn; lsn++) {
        if (is_lost(losses, lsn))
            continue;
        make_payload(lsn, bytes);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_mem_eq(record.data, bytes, sizeof(bytes));
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
}

static uint64_t repair(struct told *losses)
{
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    const struct twinlog_repair_options options = WITH_SIZE(repair_options, .each = keep, .context = losses);

    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, &options, &result), 0);
    ck_assert_uint_eq(result.last_lsn, last_lsn);
    ck_assert_uint_eq(result.records + result.lost_records, last_lsn - first_lsn + 1);
    check_repaired(losses);
    return result.lost_records;
}

/* The exit status; 127 if there is no such program. */
static int run(const char *program, const char *command, const char *output)
{
    char *arguments[] = { (char *)program, (char *)command,
                          log_dir,         output ? "--output" : NULL,
                          (char *)output,  NULL };

    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    ck_assert_int_eq(posix_spawn(&child, program, &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return wait_child(child);
}

static int status_of(int error)
{
    if (error == 0)
        return 0;
    return error == TWINLOG_ECORRUPT ? 3 : 1;
}

/* A writer has a status of its own for a log that it is refused: starting it again does not help. */
static int status_of_writer(int error)
{
    return error == TWINLOG_EVERSION || error == TWINLOG_EFOREIGN ? 7 : status_of(error);
}

/* The commands say what the calls have said. An append without lines opens the log and closes it. */
static void ask_commands(const struct answers *said)
{
    const char *program = getenv("TWINLOG_COMMAND");

    if (!program)
        return;
    ck_assert_int_eq(run(program, "stat", NULL), status_of(said->stat));
    ck_assert_int_eq(run(program, "cat", NULL), status_of(said->read_outside));
    ck_assert_int_eq(run(program, "verify", NULL), status_of(said->verify));
    ck_assert_int_eq(run(program, "repair", repaired_dir), said->losses.count > 0 ? 3 : 0);
    remove_tree(repaired_dir);
    ck_assert_int_eq(run(program, "append", NULL), status_of_writer(said->open));
}

void ask_all(struct answers *ret)
{
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;

    *ret = (struct answers){ 0 };
    ret->stat = look(&ret->stat_lsn);
    ret->read = read_all(&ret->read_lsn);
    ret->read_outside = read_from_outside(&ret->read_outside_lsn);
    verifying.each = keep;
    verifying.context = &ret->found;
    ret->verify = twinlog_verify(log_dir, &verifying, &ret->verified);
    const uint64_t before = log_fingerprint(false);
    ret->lost = repair(&ret->losses);
    ck_assert(log_fingerprint(false) == before);
    remove_tree(repaired_dir);
    ret->open = try_open();
    ret->open_lsn = ret->open < 0 ? log_report.first_lsn : 0;
    ask_commands(ret);
    remove_tree(log_dir);
}

uint64_t first_verified_lsn(const struct told *found)
{
    for (unsigned i = 0; i < found->count && i < 64; i++)
        if (found->list[i].error != 0 && found->list[i].first_lsn > 0)
            return found->list[i].first_lsn;
    return 0;
}

void check_agreement(const char *name, unsigned at, const struct answers *said)
{
    MUST(said->open == said->stat && said->open_lsn == said->stat_lsn);
    MUST(said->read == said->read_outside && said->read_lsn == said->read_outside_lsn);
    MUST(said->stat_lsn == 0 || said->stat == 0 || said->stat_lsn == first_verified_lsn(&said->found));
    MUST(said->stat_lsn == 0 || said->stat == 0 || said->stat_lsn == said->read_lsn);
    MUST((said->found.errors > 0) == (said->verify != 0));
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) /* verify has told of what repair has lost */
        MUST(!is_lost(&said->losses, lsn) || is_lost(&said->found, lsn));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fault, one answer: stat, opening, reading, verify and repair are asked of the same damaged log. A table
 * has a row for each kind of damage, and each is done to the newest, a middle and the oldest segment.
 *
 * Opening refuses what it looks at: headers, files, the state, and the newest segment. Verify and a reader of the
 * whole log find that and damage in older segments. Repair loses exactly the records that are gone.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include "base/base.h"
#include "format/format.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL_SEGMENT 65536u
#define RECORDS 250u
#define PAYLOAD_BYTES 1000u

static char sound_dir[320], repaired_dir[320];
static struct twinlog_segment segments[32];
static unsigned segment_count; /* those with records */

static void make_payload(uint64_t lsn, unsigned char bytes[PAYLOAD_BYTES])
{
    memset(bytes, (int)(lsn % 251), PAYLOAD_BYTES);
    memcpy(bytes, &lsn, sizeof(lsn));
}

static int keep_segment(void *context, const struct twinlog_segment *segment)
{
    (void)context;
    if (segment->state > TWINLOG_SEGMENT_ACTIVE)
        return 0;
    ck_assert_uint_lt(segment_count, sizeof(segments) / sizeof(segments[0]));
    segments[segment_count++] = *segment;
    return 0;
}

static struct twinlog_options options_with(uint32_t flags)
{
    struct twinlog_options options = log_options(0, flags);
    options.segment_bytes = SMALL_SEGMENT;
    return options;
}

/* Closed, with a cursor at its end. */
static void make_sound_log(void)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    unsigned char bytes[PAYLOAD_BYTES];
    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        make_payload(lsn, bytes);
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    }
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", RECORDS), 0);
    log_close(log);
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, NULL), 0);
    ck_assert_uint_ge(segment_count, 5);
    snprintf(sound_dir, sizeof(sound_dir), "%s/sound", log_parent);
    snprintf(repaired_dir, sizeof(repaired_dir), "%s/repaired", log_parent);
    ck_assert_int_eq(rename(log_dir, sound_dir), 0);
}

static void set_up(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    logdir_make();
    make_sound_log();
}

/* ---- damage ------------------------------------------------------------------------------------- */

enum what {
    NOTHING,
    HEADER,
    FIRST_GROUP,
    RECORD,
    FOOTER,
    INDEX,
    SHORTER,
    MISSING,
    ONE_STATE,
    BOTH_STATES,
    NO_STATE,
    FOREIGN
};

enum where {
    NEWEST,
    MIDDLE,
    OLDEST,
    WHERES
};

static void flip(const char *path, off_t offset)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static off_t find_bytes(const char *path, const void *bytes, size_t size)
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

static void flip_record(const struct twinlog_segment *segment, uint64_t lsn)
{
    unsigned char bytes[PAYLOAD_BYTES];
    make_payload(lsn, bytes);
    const char *path = log_file(segment->file);
    flip(path, find_bytes(path, bytes, sizeof(bytes)) + 100);
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

static void damage(enum what what, const struct twinlog_segment *segment)
{
    const char *path = log_file(segment->file), *state = log_file("state");
    struct stat state_file;
    ck_assert_int_eq(stat(state, &state_file), 0);
    switch (what) {
    case NOTHING:
        break;
    case HEADER:
        flip(path, 40);
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
    }
}

/* ---- what each of them says ---------------------------------------------------------------------- */

struct told {
    struct twinlog_report list[64];
    unsigned count, errors;
};

static int keep(void *context, const struct twinlog_report *report)
{
    struct told *told = context;
    if (told->count < 64)
        told->list[told->count] = *report;
    told->count++;
    told->errors += report->error != 0;
    return 0;
}

static const struct twinlog_report *find_told(const struct told *told, enum twinlog_finding finding,
                                              uint64_t lsn)
{
    for (unsigned i = 0; i < told->count && i < 64; i++)
        if (told->list[i].finding == finding &&
            (lsn == 0 || (told->list[i].first_lsn <= lsn && lsn <= told->list[i].last_lsn)))
            return &told->list[i];
    return NULL;
}

struct answers {
    int stat, read, verify, open;
    uint64_t verified, lost;
    struct told found, losses;
};

static int look(void)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int error = twinlog_inspect(log_dir, &inspection);
    ck_assert(error == 0 || inspection.report.error == error);
    return inspection.report.error;
}

static int try_open(void)
{
    const struct twinlog_options options = options_with(0);
    struct twinlog *log;
    const int error = twinlog_open(log_dir, &options, &log);
    if (error == 0) {
        ck_assert_uint_eq(twinlog_last_lsn(log), RECORDS);
        log_close(log);
    }
    ck_assert_int_eq(log_report.error, error);
    return error;
}

/* Such a handle shows what is sound; the end of its readers tells the rest. */
static int read_all(void)
{
    const struct twinlog_options options = options_with(TWINLOG_READ_ONLY);
    struct twinlog_record record;
    struct twinlog *log;
    int error = twinlog_open(log_dir, &options, &log);
    if (error < 0)
        return error;
    struct twinlog_reader *reader = log_attach(log, 0, 0);
    while ((error = twinlog_reader_next(reader, &record)) > 0)
        continue;
    twinlog_reader_close(reader);
    log_close(log);
    return error;
}

static bool is_lost(const struct told *losses, uint64_t lsn)
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
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
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
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    options.each = keep;
    options.context = losses;
    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, &options, &result), 0);
    ck_assert_uint_eq(result.last_lsn, RECORDS);
    ck_assert_uint_eq(result.records + result.lost_records, RECORDS);
    check_repaired(losses);
    return result.lost_records;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_all(const char *dir)
{
    ck_assert_int_eq(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* Opening for writing comes last: it alone changes the log, if it takes it. */
static void ask_all(struct answers *ret)
{
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    *ret = (struct answers){ .stat = look() };
    ret->read = read_all();
    verifying.each = keep;
    verifying.context = &ret->found;
    ret->verify = twinlog_verify(log_dir, &verifying, &ret->verified);
    const uint64_t before = log_fingerprint(false);
    ret->lost = repair(&ret->losses);
    ck_assert(log_fingerprint(false) == before);
    ret->open = try_open();
    remove_all(log_dir);
    remove_all(repaired_dir);
}

/* ---- the table ----------------------------------------------------------------------------------- */

enum loss {
    NONE,
    ONE,
    SOME, /* of the segment's */
    ALL   /* of the segment's */
};

#define SOUND                                                                                                \
    {                                                                                                        \
        0, 0, 0                                                                                              \
    }
#define IN_NEWEST                                                                                            \
    {                                                                                                        \
        TWINLOG_ECORRUPT, 0, 0                                                                               \
    }
#define ANYWHERE                                                                                             \
    {                                                                                                        \
        TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT                                                 \
    }

static const struct row {
    const char *name;
    enum what what;
    int open[WHERES]; /* what opening says, and stat */
    int verify;       /* what verify says, and reading through a handle for reading */
    uint32_t finding; /* that verify tells; TWINLOG_FOUND_NOTHING = it tells nothing */
    enum loss loss;
    bool is_not_in_newest; /* that has no such thing */
    bool has_no_place;     /* it is no matter of a segment */
} rows[] = {
    { "nothing", NOTHING, SOUND, 0, TWINLOG_FOUND_NOTHING, NONE, false, true },
    { "a header", HEADER, ANYWHERE, TWINLOG_ECORRUPT, TWINLOG_FOUND_BAD_HEADER, NONE, false, false },
    { "a group's header", FIRST_GROUP, IN_NEWEST, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE, NONE, false,
      false },
    { "a record", RECORD, IN_NEWEST, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE, ONE, false, false },
    { "a footer", FOOTER, SOUND, 0, TWINLOG_FOUND_BAD_INDEX, NONE, true, false },
    { "an index", INDEX, SOUND, 0, TWINLOG_FOUND_BAD_INDEX, NONE, true, false },
    { "a shorter file", SHORTER, ANYWHERE, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE, SOME, false, false },
    { "a missing file", MISSING, ANYWHERE, TWINLOG_ECORRUPT, TWINLOG_FOUND_MISSING_SEGMENT, ALL, false,
      false },
    { "one copy of the state", ONE_STATE, SOUND, 0, TWINLOG_FOUND_BAD_STATE, NONE, false, true },
    { "both copies of the state", BOTH_STATES, ANYWHERE, TWINLOG_ECORRUPT, TWINLOG_FOUND_BAD_STATE, NONE,
      false, true },
    { "a missing state", NO_STATE, ANYWHERE, TWINLOG_ECORRUPT, TWINLOG_FOUND_BAD_STATE, NONE, false, true },
    { "a foreign file",
      FOREIGN,
      { TWINLOG_EFOREIGN, TWINLOG_EFOREIGN, TWINLOG_EFOREIGN },
      TWINLOG_EFOREIGN,
      TWINLOG_FOUND_FOREIGN_FILE,
      NONE,
      false,
      true },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

#define MUST(condition) ck_assert_msg(condition, "%s, segment %u: not so: %s", row->name, at, #condition)

static void check_cell(const struct row *row, enum where where)
{
    const unsigned at = where == NEWEST ? segment_count - 1 : where == MIDDLE ? segment_count / 2 : 0;
    const struct twinlog_segment *segment = &segments[at];
    const uint64_t most = segment->last_lsn - segment->first_lsn + 1;
    struct answers said;
    copy_directory(sound_dir, log_dir);
    damage(row->what, segment);
    ask_all(&said);
    MUST(said.stat == row->open[where]);
    MUST(said.open == said.stat);
    MUST(said.verify == row->verify);
    MUST(said.read == said.verify);
    MUST((said.found.count == 0) == (row->finding == TWINLOG_FOUND_NOTHING));
    /* If the newest file is missing, only a cursor tells that something is. */
    MUST(said.found.count == 0 || (row->what == MISSING && where == NEWEST) ||
         find_told(&said.found, row->finding, 0));
    MUST((said.found.errors > 0) == (row->verify != 0));
    MUST(said.lost >= (row->loss == NONE ? 0 : row->loss == ALL ? most : 1));
    MUST(said.lost <= (row->loss == NONE ? 0 : row->loss == ONE ? 1 : most));
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) /* verify has told of what repair has lost */
        MUST(!is_lost(&said.losses, lsn) || is_lost(&said.found, lsn));
    if (row->finding == TWINLOG_FOUND_BAD_HEADER) /* and what it could place it has walked through */
        MUST(said.verified == RECORDS && said.found.errors == 1);
}

START_TEST(all_give_the_same_answer)
{
    const struct row *row = &rows[_i];
    for (int where = row->is_not_in_newest ? MIDDLE : NEWEST; where < WHERES; where++) {
        check_cell(row, (enum where)where);
        if (row->has_no_place)
            break;
    }
}
END_TEST

/* A file that is missing, then a record, then a header; and a file that does not belong here. */
START_TEST(one_bad_place_hides_no_other)
{
    const struct twinlog_segment *missing = &segments[1], *behind = &segments[2], *headless = &segments[3];
    struct answers said;
    copy_directory(sound_dir, log_dir);
    damage(HEADER, headless);
    flip_record(behind, behind->first_lsn + 3);
    damage(FOREIGN, missing);
    damage(MISSING, missing);
    ask_all(&said);
    ck_assert_int_eq(said.verify, said.stat);
    ck_assert_ptr_nonnull(find_told(&said.found, TWINLOG_FOUND_FOREIGN_FILE, 0));
    const struct twinlog_report *header = find_told(&said.found, TWINLOG_FOUND_BAD_HEADER, 0);
    ck_assert_ptr_nonnull(header);
    ck_assert_str_eq(header->file, headless->file);
    ck_assert_ptr_nonnull(find_told(&said.found, TWINLOG_FOUND_MISSING_SEGMENT, missing->first_lsn));
    ck_assert_ptr_nonnull(find_told(&said.found, TWINLOG_FOUND_DAMAGE, behind->first_lsn + 3));
    const uint64_t lost = missing->last_lsn - missing->first_lsn + 2;
    ck_assert_uint_eq(said.lost, lost);
    ck_assert_uint_eq(said.verified, RECORDS - lost);
}
END_TEST

Suite *verdict_suite(void)
{
    Suite *suite = suite_create("verdict");
    TCase *tests = logdir_case(suite, "table", set_up);
    tcase_add_loop_test(tests, all_give_the_same_answer, 0, (int)ROWS);
    tcase_add_test(tests, one_bad_place_hides_no_other);
    return suite;
}

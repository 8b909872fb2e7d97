/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fault, one answer: stat, opening, reading, verify and repair are asked of the same damaged log, as calls and
 * as commands. A table has a row for each kind of damage, and each is done to the newest, a middle and the oldest
 * segment. A second table has a log with its head inside of a group, and damage in front of the head and behind it, a
 * third the end that a killed writer leaves. The last tests have a log that a crash has torn, and damage in the place
 * where the next epoch began.
 *
 * Opening refuses what it looks at: headers, files, the state, and the newest segment. Verify and a reader of the
 * whole log find that and damage in older segments. All name the same LSN. Repair loses exactly the records that are
 * gone. What was removed is missed by none of them.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "base/base.h"
#include "format/format.h"
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_SEGMENT 65536u
#define RECORDS 300u
#define PAYLOAD_BYTES 1000u
#define BATCH 4u /* the records from LSN 10 n + 1 on; the others are alone in their groups */

static char sound_dir[320], repaired_dir[320];
static struct twinlog_segment segments[32];
static unsigned segment_count; /* those with records */
static uint64_t first_lsn;     /* the head of the log */
static uint64_t last_lsn;      /* that every answer must end with */

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
    const struct twinlog_options options = LOG_OPTIONS(.flags = flags, .segment_bytes = SMALL_SEGMENT);
    return options;
}

/* Returns the LSN behind what was appended. */
static uint64_t append_group(struct twinlog *log, uint64_t lsn)
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

static void append_batch(struct twinlog *log, uint64_t lsn)
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
    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, NULL), 0);
    ck_assert_uint_ge(segment_count, 5);
    snprintf(sound_dir, sizeof(sound_dir), "%s/sound", log_parent);
    snprintf(repaired_dir, sizeof(repaired_dir), "%s/repaired", log_parent);
    ck_assert_int_eq(rename(log_dir, sound_dir), 0);
}

/* Without the writer's note, so that all of the newest segment is walked. */
static void forget_note(void)
{
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
}

static void put_sound_log(void)
{
    copy_directory(sound_dir, log_dir);
    forget_note();
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

/* A byte so far behind the beginning of its payload, or in front of it. */
static void flip_near(const struct twinlog_segment *segment, uint64_t lsn, int distance)
{
    unsigned char bytes[PAYLOAD_BYTES];
    make_payload(lsn, bytes);
    const char *path = log_file(segment->file);
    flip(path, find_bytes(path, bytes, sizeof(bytes)) + distance);
}

#define IN_PAYLOAD 100
#define IN_RECORD_HEADER (-(int)RECORD_HEADER_BYTES + 4)
#define IN_GROUP_HEADER (-(int)RECORD_HEADER_BYTES - (int)GROUP_HEADER_BYTES + 20) /* of the first record */

static void flip_record(const struct twinlog_segment *segment, uint64_t lsn)
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
    int stat, read, read_outside, verify, open;
    uint64_t stat_lsn, read_lsn, read_outside_lsn, open_lsn; /* that the report names; 0 = none */
    uint64_t verified, lost;
    struct told found, losses;
};

static int look(uint64_t *ret_lsn)
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
    ck_assert_int_eq(twinlog_reader_attach(log, &reading, &reader), 0);
    error = read_to_end(reader);
    *ret_lsn = error < 0 ? log_report.first_lsn : 0;
    log_close(log);
    return error;
}

static int read_from_outside(uint64_t *ret_lsn)
{
    struct twinlog_reader *reader;
    int error = twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .ret_report = &log_report), &reader);
    if (error == 0)
        error = read_to_end(reader);
    *ret_lsn = error < 0 ? log_report.first_lsn : 0;
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
    int status;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    ck_assert_int_eq(posix_spawn(&child, program, &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int status_of(int error)
{
    return error == 0 ? 0 : error == TWINLOG_ECORRUPT ? 3 : 1;
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
    ck_assert_int_eq(run(program, "append", NULL), status_of(said->open));
}

/* Opening for writing comes last: it alone changes the log, if it takes it. */
static void ask_all(struct answers *ret)
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

/* Also if it is told of the state file or of an index: these tell of no record. */
static uint64_t first_verified_lsn(const struct told *found)
{
    for (unsigned i = 0; i < found->count && i < 64; i++)
        if (found->list[i].error != 0 && found->list[i].first_lsn > 0)
            return found->list[i].first_lsn;
    return 0;
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

#define MUST(condition) ck_assert_msg(condition, "%s, segment %u: not so: %s", name, at, #condition)

/* Whatever the damage is. An LSN that opening names is the first one that is missed. */
static void check_agreement(const char *name, unsigned at, const struct answers *said)
{
    MUST(said->open == said->stat && said->open_lsn == said->stat_lsn);
    MUST(said->read == said->read_outside && said->read_lsn == said->read_outside_lsn);
    MUST(said->stat_lsn == 0 || said->stat == 0 || said->stat_lsn == first_verified_lsn(&said->found));
    MUST(said->stat_lsn == 0 || said->stat == 0 || said->stat_lsn == said->read_lsn);
    MUST((said->found.errors > 0) == (said->verify != 0));
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) /* verify has told of what repair has lost */
        MUST(!is_lost(&said->losses, lsn) || is_lost(&said->found, lsn));
}

static void check_cell(const struct row *row, enum where where)
{
    const unsigned at = where == NEWEST ? segment_count - 1 : where == MIDDLE ? segment_count / 2 : 0;
    const struct twinlog_segment *segment = &segments[at];
    const char *name = row->name;
    const uint64_t most = segment->last_lsn - segment->first_lsn + 1;
    struct answers said;
    put_sound_log();
    damage(row->what, segment);
    ask_all(&said);
    MUST(said.stat == row->open[where]);
    MUST(said.verify == row->verify);
    MUST(said.read == said.verify);
    check_agreement(name, at, &said);
    MUST((said.found.count == 0) == (row->finding == TWINLOG_FOUND_NOTHING));
    /* If the newest file is missing, only a cursor tells that something is. */
    MUST(said.found.count == 0 || (row->what == MISSING && where == NEWEST) ||
         find_told(&said.found, row->finding, 0));
    MUST(said.lost >= (row->loss == NONE ? 0 : row->loss == ALL ? most : 1));
    MUST(said.lost <= (row->loss == NONE ? 0 : row->loss == ONE ? 1 : most));
    if (row->finding == TWINLOG_FOUND_BAD_HEADER) /* and what it could place it has walked through */
        MUST(said.verified == RECORDS && said.found.errors == 1);
}

CASE("table", set_up, logdir_remove);

TEST_LOOP(all_give_the_same_answer, ROWS)
{
    const struct row *row = &rows[_i];
    for (int where = row->is_not_in_newest ? MIDDLE : NEWEST; where < WHERES; where++) {
        check_cell(row, (enum where)where);
        if (row->has_no_place)
            break;
    }
}

struct opening {
    struct told found;
    int lock;
};

/* A process begins to open the log, and has only got its lock yet. */
static int begin_to_open(void *context, const struct twinlog_report *finding)
{
    struct opening *opening = context;
    keep(&opening->found, finding);
    if (opening->lock < 0)
        opening->lock = hold_lock(log_file("writer.lock"), IO_LOCK_WRITER, F_WRLCK);
    return 0;
}

/* That all records are missing is told last. */
TEST(missing_records_are_told_also_if_a_process_opens_the_log_meanwhile)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct opening opening = { .lock = -1 };
    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, 5);
    ck_assert_int_eq(twinlog_cursor_set(log, "consumer", 4), 0);
    log_close(log);
    ck_assert_int_eq(truncate(log_file("0000000000000001.twl"), 0), 0);
    options.each = begin_to_open;
    options.context = &opening;
    ck_assert_int_eq(twinlog_verify(log_dir, &options, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_ge(opening.lock, 0);
    for (uint64_t lsn = 1; lsn <= 4; lsn++)
        ck_assert(is_lost(&opening.found, lsn));
    close(opening.lock);
}

/* ---- left by a kill ------------------------------------------------------------------------------- */

/* The directory as a kill would leave it. */
static void kill_log(struct twinlog *log)
{
    copy_directory(log_dir, repaired_dir);
    log_close(log);
    remove_tree(log_dir);
    ck_assert_int_eq(rename(repaired_dir, log_dir), 0);
}

/* The last record is alone in its group, and was synced. Only what has told somebody of it proves that. */
static const struct killed_row {
    const char *name;
    int distance;      /* of the byte from the last payload */
    uint64_t consumed; /* the cursor */
    int error;
    uint64_t last_lsn;
    uint64_t lost; /* repair finds a record without its group */
} killed_rows[] = {
    { "bytes behind the end", PAYLOAD_BYTES + 200, RECORDS - 10, 0, RECORDS, 0 },
    { "a torn record", IN_PAYLOAD, RECORDS - 10, 0, RECORDS - 1, 0 },
    { "the header of a torn record", IN_RECORD_HEADER, RECORDS - 10, 0, RECORDS - 1, 0 },
    { "the header of a torn group", IN_GROUP_HEADER, RECORDS - 10, 0, RECORDS - 1, 0 },
    { "a record that a cursor has passed", IN_PAYLOAD, RECORDS, TWINLOG_ECORRUPT, RECORDS, 1 },
    { "the header of such a group", IN_GROUP_HEADER, RECORDS, TWINLOG_ECORRUPT, RECORDS, 0 },
};
#define KILLED_ROWS (sizeof(killed_rows) / sizeof(killed_rows[0]))

CASE("killed", set_up, logdir_remove);

TEST_LOOP(what_a_kill_leaves_gets_one_answer, KILLED_ROWS)
{
    const struct killed_row *row = &killed_rows[_i];
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    const char *name = row->name;
    const unsigned at = segment_count - 1;
    struct answers said;
    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= RECORDS;)
        lsn = append_group(log, lsn);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", row->consumed), 0);
    kill_log(log);
    flip_near(&segments[at], RECORDS, row->distance);
    last_lsn = row->last_lsn;
    ask_all(&said);
    check_agreement(name, at, &said);
    MUST(said.stat == row->error);
    MUST(said.verify == row->error);
    MUST(said.read == row->error);
    MUST(said.verified == (row->error ? RECORDS - 1 : last_lsn));
    MUST(said.lost == row->lost);
    MUST(row->error == 0 || said.stat_lsn == RECORDS);
}

static bool is_sealed(unsigned at)
{
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, NULL), 0);
    return segments[at].state == TWINLOG_SEGMENT_SEALED;
}

/* The segment in front is sealed, so the newest one had a group that was durable: nothing else proves it. */
TEST(a_lone_group_is_searched_without_its_header)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    struct answers said;
    for (last_lsn = 0; log_stat(log).segments < 3; last_lsn += BATCH)
        append_batch(log, last_lsn + 1);
    AWAIT(is_sealed(1));
    kill_log(log);
    flip_near(&segments[2], last_lsn - BATCH + 1, IN_GROUP_HEADER);
    ask_all(&said);
    check_agreement("a lone group", 2, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.verified, last_lsn - BATCH);
    ck_assert_uint_eq(said.lost, 0);
}

/* The same proof holds where the header is sound and a record behind it is not. */
TEST(a_lone_group_with_a_damaged_record_is_damage)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    struct answers said;
    for (last_lsn = 0; log_stat(log).segments < 3; last_lsn += BATCH)
        append_batch(log, last_lsn + 1);
    AWAIT(is_sealed(1));
    kill_log(log);
    flip_near(&segments[2], last_lsn - BATCH + 2, IN_PAYLOAD);
    ask_all(&said);
    check_agreement("a lone group", 2, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.open, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.stat_lsn, last_lsn - BATCH + 2);
    ck_assert_uint_eq(said.verified, last_lsn - 1);
    ck_assert_uint_eq(said.lost, 1);
}

/* ---- in front of the head ------------------------------------------------------------------------- */

/* Moves the head into that segment, to the third record of a batch. */
static void remove_front(const struct twinlog_segment *segment)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    first_lsn = (segment->first_lsn + 14) / 10 * 10 + 3;
    ck_assert_uint_lt(first_lsn + BATCH, segment->last_lsn);
    put_sound_log();
    struct twinlog *log = log_open(&options);
    trim.before_lsn = first_lsn;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), 0);
    log_close(log);
    remove_tree(sound_dir);
    ck_assert_int_eq(rename(log_dir, sound_dir), 0);
}

#define FAR (-7)     /* from the head: alone in its group */
#define FIRST (-999) /* the first group of the segment */

static const struct front_row {
    const char *name;
    int from_head; /* which record */
    int distance;
    int verify;      /* opening says the same if it is the newest segment */
    unsigned lost;   /* records */
    bool may_be_led; /* the index of a sealed segment may lead readers past it */
} front_rows[] = {
    { "a removed record", FAR, IN_PAYLOAD, 0, 0, false },
    { "the header of a removed record", FAR, IN_RECORD_HEADER, 0, 0, false },
    { "the header of a removed group", FAR, IN_GROUP_HEADER, 0, 0, false },
    { "the header of the first group", FIRST, IN_GROUP_HEADER, 0, 0, false },
    { "a removed record of the head's group", -1, IN_PAYLOAD, 0, 0, false },
    { "the header of such a record", -1, IN_RECORD_HEADER, TWINLOG_ECORRUPT, 0, true },
    { "the header of the head's group", -2, IN_GROUP_HEADER, TWINLOG_ECORRUPT, 0, false },
    { "the head", 0, IN_PAYLOAD, TWINLOG_ECORRUPT, 1, false },
    { "the record behind it", 1, IN_PAYLOAD, TWINLOG_ECORRUPT, 1, false },
};
#define FRONT_ROWS (sizeof(front_rows) / sizeof(front_rows[0]))

static int back_up(void)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    return twinlog_backup(log_dir, repaired_dir, &WITH_SIZE(backup_options, .flags = TWINLOG_BACKUP_COPY),
                          &result);
}

static void check_front(const struct front_row *row, unsigned at)
{
    const bool is_newest = at + 1 == segment_count;
    const char *name = row->name;
    const uint64_t lsn = first_lsn + (row->from_head > 0 ? (uint64_t)row->from_head : 0);
    struct answers said;
    if (row->may_be_led && !is_newest)
        return;
    put_sound_log();
    if (row->from_head == FIRST)
        damage(FIRST_GROUP, &segments[at]);
    else
        flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)row->from_head, row->distance);
    MUST(back_up() == row->verify);
    remove_tree(repaired_dir);
    ask_all(&said);
    check_agreement(name, at, &said);
    MUST(said.stat == (is_newest ? row->verify : 0));
    MUST(said.verify == row->verify);
    MUST(said.read == row->verify);
    MUST(row->verify == 0 || (said.read_lsn == lsn && first_verified_lsn(&said.found) == lsn));
    MUST(said.lost == row->lost);
    MUST(row->verify != 0 || (said.found.count == 0 && said.verified == RECORDS - first_lsn + 1));
}

CASE("front", set_up, logdir_remove);

TEST_RANGE(what_was_removed_is_not_missed, NEWEST, MIDDLE + 1)
{
    const unsigned at = _i == NEWEST ? segment_count - 1 : segment_count / 2;
    remove_front(&segments[at]);
    for (unsigned i = 0; i < FRONT_ROWS; i++)
        check_front(&front_rows[i], at);
}

/* The state file has the head, also if the segment of it has lost its header. */
TEST_RANGE(what_was_removed_does_not_come_back, NEWEST, MIDDLE + 1)
{
    const unsigned at = _i == NEWEST ? segment_count - 1 : segment_count / 2;
    struct answers said;
    remove_front(&segments[at]);
    put_sound_log();
    damage(HEADER, &segments[at]);
    ask_all(&said);
    check_agreement("a header", at, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.verified, RECORDS - first_lsn + 1);
    ck_assert_uint_eq(said.lost, 0);
}

/* There no other segment tells which one this is, and it begins with the first group of the log. */
TEST(what_was_removed_does_not_come_back_in_one_segment)
{
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log = log_open(NULL);
    uint64_t records;
    append_records(log, 0, 0, 30);
    trim.before_lsn = 23;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), 0);
    log_close(log);
    flip(log_segment(1), 40);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(records, 8);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, NULL, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 23);
    ck_assert_uint_eq(result.records, 8);
}

static void append_more(struct twinlog *log, uint64_t count)
{
    for (uint64_t end = twinlog_last_lsn(log) + count, lsn = end - count + 1; lsn <= end;)
        lsn = append_group(log, lsn);
}

/* A log with damage in front of its head is written, sealed, truncated and copied as any other. */
TEST_RANGE(damage_in_front_of_the_head_hinders_nothing, NEWEST, MIDDLE + 1)
{
    const unsigned at = _i == NEWEST ? segment_count - 1 : segment_count / 2;
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    struct told found = { 0 };
    uint64_t records;
    remove_front(&segments[at]);
    put_sound_log();
    for (unsigned i = at; i + 1 < segment_count; i++) /* they are walked and sealed again */
        damage(FOOTER, &segments[i]);
    damage(FIRST_GROUP, &segments[at]);
    flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)FAR, IN_GROUP_HEADER);
    flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)FAR + 1, IN_RECORD_HEADER);
    flip_near(&segments[at], first_lsn - 1, IN_PAYLOAD);

    struct twinlog *log = log_open(&options);
    if (_i == NEWEST)
        ck_assert_int_eq(twinlog_truncate(log, first_lsn + 1), 0);
    append_more(log, 100);
    const uint64_t end_lsn = twinlog_last_lsn(log);
    log_close(log);

    verifying.each = keep;
    verifying.context = &found;
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, &records), 0);
    ck_assert_msg(found.count == 0, "%s", found.list[0].text);
    ck_assert_uint_eq(records, end_lsn - first_lsn + 1);
    ck_assert_int_eq(back_up(), 0);
    ck_assert_int_eq(twinlog_verify(repaired_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, end_lsn - first_lsn + 1);
}

/* Groups that a crash left behind a torn one, dead since the next opening. Sound, but not in the history. */
static void leave_groups(uint64_t first, uint64_t last, uint64_t at)
{
    static unsigned char file[SMALL_SEGMENT];
    struct segment_header header;
    struct group_header last_group = { 0 }, group;
    const char *path = log_segment(1);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    ck_assert_int_eq(twl_segment_header_decode(file, &header), HEADER_VALID);
    const uint32_t seed = twl_segment_seed(&header);
    for (uint64_t place = SEGMENT_DATA_OFFSET; place < sizeof(file) - GROUP_HEADER_BYTES; place += 8)
        if (twl_group_header_decode(file + place, seed, place, &group))
            last_group = group;
    group = last_group;
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        const struct record_header record = { .kind = RECORD_DATA, .size = 4, .time_ns = group.time_ns };
        group.chain = group.checksum;
        group.first_lsn = lsn;
        group.flags = 0;
        group.durable_lsn = last_group.first_lsn + last_group.count - 1;
        group.bytes = GROUP_HEADER_BYTES + (uint32_t)twl_record_bytes(record.size);
        group.count = 1;
        twl_group_header_encode(&group, seed, at, file + at);
        twl_record_encode(file + at + GROUP_HEADER_BYTES, twl_epoch_seed(header.log_id, group.epoch), lsn,
                          &record, "dead");
        at += group.bytes;
    }
    ck_assert_int_eq(pwrite(fd, file, sizeof(file), 0), sizeof(file));
    close(fd);
}

TEST(what_a_crash_left_does_not_come_back)
{
    static const unsigned char zeros[BLOCK_BYTES];
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_entry entries[5];
    struct twinlog *log = log_open(&options);
    uint64_t lsn, records = 0;
    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(twinlog_append(log, "live", 4, NULL), 0);
    kill_log(log);
    leave_groups(10, 29, 3 * BLOCK_BYTES);
    log = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(log), 8);
    for (unsigned i = 0; i < 5; i++)
        entries[i] = (struct twinlog_entry){ .data = "live", .size = 4 };
    ck_assert_int_eq(twinlog_append_batch(log, entries, 5, NULL, NULL), 0);
    trim.before_lsn = 12;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), 0);
    kill_log(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, 2);
    patch_file(log_segment(1), SEGMENT_DATA_OFFSET, zeros, sizeof(zeros));
    ck_assert_int_eq(read_from_outside(&lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
}

/* A group at the head may be torn, unless one behind it tells more. */
TEST_LOOP(the_way_to_the_head_must_be_told_durable, 2)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    const int expected = _i == 0 ? 0 : TWINLOG_ECORRUPT;
    unsigned char bytes[PAYLOAD_BYTES];
    struct twinlog *log = log_open(&options);
    uint64_t lsn;
    for (lsn = 1; lsn <= 8; lsn++) {
        make_payload(lsn, bytes);
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    }
    trim.before_lsn = _i == 0 ? 7 : 8;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), 0);
    kill_log(log);
    forget_note();
    make_payload(trim.before_lsn - 1, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_GROUP_HEADER);
    ck_assert_int_eq(read_from_outside(&lsn), expected);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), expected);
    ck_assert_int_eq(look(&lsn), expected);
}

/* The head is in the first group of a segment; footer and index count all records of that group. */
TEST(what_was_removed_is_not_missed_by_a_footer)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct told found = { 0 };
    struct twinlog *log = log_open(&options);
    uint64_t records;
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn += BATCH)
        append_batch(log, lsn);
    log_close(log);
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, NULL), 0);
    const struct twinlog_segment *segment = &segments[segment_count / 2];
    ck_assert_uint_eq(segment->state, TWINLOG_SEGMENT_SEALED);
    log = log_open(&options);
    trim.before_lsn = segment->first_lsn + 2;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), 0);
    log_close(log);
    flip_record(segment, segment->first_lsn);
    verifying.each = keep;
    verifying.context = &found;
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, &records), 0);
    ck_assert_msg(found.count == 0, "%s", found.list[0].text);
    ck_assert_uint_eq(records, RECORDS - trim.before_lsn + 1);
}

/* A segment without a header, behind the one of the head, is not taken for that one. */
TEST(what_is_missing_at_the_head_is_told)
{
    const unsigned at = segment_count / 2;
    struct answers said;
    remove_front(&segments[at]);
    put_sound_log();
    damage(MISSING, &segments[at]);
    damage(HEADER, &segments[at + 1]);
    ask_all(&said);
    check_agreement("both", at, &said);
    ck_assert_uint_eq(said.lost, segments[at + 1].first_lsn - first_lsn);
}

/* ---- what a crash may have discarded ---------------------------------------------------------------- */

/* Zeros from the marker of the second epoch on to there, so that nothing is left of it. */
static void wipe_second_epoch(uint64_t end)
{
    static unsigned char file[SMALL_SEGMENT];
    static const unsigned char zeros[SMALL_SEGMENT];
    struct segment_header header;
    struct group_header group;
    const char *path = log_segment(1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    close(fd);
    ck_assert_int_eq(twl_segment_header_decode(file, &header), HEADER_VALID);
    uint64_t at = SEGMENT_DATA_OFFSET;
    while (at < end && !(twl_group_header_decode(file + at, twl_segment_seed(&header), at, &group) &&
                         group.epoch.number == 2))
        at += 8;
    ck_assert_uint_lt(at, end);
    patch_file(path, (off_t)at, zeros, (size_t)(end - at));
}

/* Records 1 to 8; then a crash that leaves 10 to 29, sound and dead, at that place of the file. */
static struct twinlog *open_after_crash(uint64_t at)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(twinlog_append(log, "live", 4, NULL), 0);
    kill_log(log);
    leave_groups(10, 29, at);
    return log_open(&options);
}

static const struct twinlog_report *find_doubt(const struct told *told)
{
    for (unsigned i = 0; i < told->count && i < 64; i++)
        if (strstr(told->list[i].text, "may have discarded"))
            return &told->list[i];
    return NULL;
}

static struct twinlog_repair_result repair_what_is_left(struct told *found, struct told *losses)
{
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    *found = *losses = (struct told){ 0 };
    verifying.each = options.each = keep;
    verifying.context = found;
    options.context = losses;
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, &options, &result), 0);
    ck_assert_int_eq(twinlog_verify(repaired_dir, NULL, NULL), 0);
    return result;
}

CASE("discarded", set_up, logdir_remove);

/* A cursor proves that the second epoch had records; nothing tells whether those behind its place are dead. Without
 * the headers of their groups they are searched one by one, up to the cursor. */
TEST_LOOP(what_a_crash_may_have_discarded_is_not_saved, 2)
{
    static const unsigned char zeros[GROUP_HEADER_BYTES];
    const bool has_groups = _i == 0;
    struct told found, losses;
    struct twinlog *log = open_after_crash(4 * BLOCK_BYTES);
    append_batch(log, 9);
    append_batch(log, 13);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 14), 0);
    kill_log(log);
    wipe_second_epoch(4 * BLOCK_BYTES);
    for (unsigned i = 0; !has_groups && i < 20; i++)
        patch_file(log_segment(1), 4 * BLOCK_BYTES + (off_t)(i * (sizeof(zeros) + twl_record_bytes(4))),
                   zeros, sizeof(zeros));
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, 8);
    ck_assert_uint_eq(result.last_lsn, 14);
    ck_assert_uint_eq(result.lost_records, 6);
    ck_assert(is_lost(&losses, 9) && is_lost(&losses, 14) && is_lost(&found, 9) && is_lost(&found, 14));
    const struct twinlog_report *doubts[] = { find_doubt(&found), find_doubt(&losses) };
    for (unsigned i = has_groups ? 0 : 1; i < 2; i++) {
        ck_assert_ptr_nonnull(doubts[i]);
        ck_assert_int_eq(doubts[i]->error, TWINLOG_ECORRUPT);
        ck_assert_uint_eq(doubts[i]->first_lsn, 10);
        ck_assert_uint_eq(doubts[i]->last_lsn, has_groups ? 29 : 14);
        ck_assert_uint_eq(doubts[i]->offset, 4 * BLOCK_BYTES + (has_groups ? 0 : GROUP_HEADER_BYTES));
    }
}

/* The second epoch goes on in the next segment. The footer of the first one says where its groups end; without the
 * footer nothing does. */
TEST_LOOP(what_a_crash_may_have_discarded_is_not_saved_in_front_of_a_segment, 2)
{
    static const unsigned char large[18000];
    const bool has_footer = _i == 0;
    struct told found, losses;
    struct twinlog *log = open_after_crash(13 * BLOCK_BYTES);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0);
    log_close(log);
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, NULL), 0);
    ck_assert_uint_eq(segments[0].state, TWINLOG_SEGMENT_SEALED);
    ck_assert_uint_eq(segments[1].first_lsn, 11);
    wipe_second_epoch(13 * BLOCK_BYTES);
    if (!has_footer)
        damage(FOOTER, &segments[0]);
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, 10);
    ck_assert_uint_eq(result.last_lsn, 12);
    ck_assert_uint_eq(result.lost_records, 2);
    ck_assert(is_lost(&losses, 9) && is_lost(&losses, 10));
    ck_assert((find_doubt(&losses) == NULL) == has_footer);
    ck_assert((find_doubt(&found) == NULL) == has_footer);
}

/* Nothing but the cursor proves these: it was set in their epoch. No other one can have begun in front of them. */
TEST(what_no_crash_can_have_discarded_is_saved)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    unsigned char bytes[PAYLOAD_BYTES];
    struct told found, losses;
    struct twinlog *log = log_open(&options);
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    for (uint64_t lsn = 1; lsn <= 28; lsn++) {
        make_payload(lsn, bytes);
        const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 20), 0);
    kill_log(log);
    make_payload(9, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_PAYLOAD);
    make_payload(12, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_GROUP_HEADER);
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, 27);
    ck_assert_uint_eq(result.last_lsn, 28);
    ck_assert_uint_eq(losses.count, 1);
    ck_assert(is_lost(&losses, 9));
}

/* Records 5 to 11 are damaged. That of 12 may have been discarded, but it names 8 as durable: so far all is saved, or
 * lost. */
TEST_LOOP(what_a_discarded_group_names_as_durable_is_not_forgotten, 2)
{
    static const unsigned char zeros[PAYLOAD_BYTES];
    const bool has_records = _i == 0;
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    unsigned char bytes[PAYLOAD_BYTES];
    struct told found, losses;
    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= 12; lsn++) {
        make_payload(lsn, bytes);
        const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
        if (lsn == 8)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    kill_log(log);
    for (uint64_t lsn = 5; lsn <= 11; lsn++) {
        make_payload(lsn, bytes);
        const off_t at = find_bytes(log_segment(1), bytes, sizeof(bytes));
        flip(log_segment(1), at + IN_GROUP_HEADER);
        if (!has_records)
            patch_file(log_segment(1), at, zeros, sizeof(zeros));
    }
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, has_records ? 8 : 4);
    ck_assert_uint_eq(result.last_lsn, 8);
    ck_assert(is_lost(&found, 5) && is_lost(&found, 8));
    ck_assert(is_lost(&losses, 5) == !has_records && is_lost(&losses, 8) == !has_records);
    ck_assert_ptr_nonnull(find_doubt(&losses));
}

CASE("table", set_up, logdir_remove);

/* A file that is missing, then a record, then a header; and a file that does not belong here. */
TEST(one_bad_place_hides_no_other)
{
    const struct twinlog_segment *missing = &segments[1], *behind = &segments[2], *headless = &segments[3];
    struct answers said;
    put_sound_log();
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

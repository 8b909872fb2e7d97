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
#include "verdicts.h"

#include "base/base.h"
#include "format/format.h"
#include "io/io.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what each of them says ---------------------------------------------------------------------- */

static const struct twinlog_report *find_told(const struct told *told, enum twinlog_finding finding,
                                              uint64_t lsn)
{
    for (unsigned i = 0; i < told->count && i < 64; i++)
        if (told->list[i].finding == finding &&
            (lsn == 0 || (told->list[i].first_lsn <= lsn && lsn <= told->list[i].last_lsn)))
            return &told->list[i];
    return NULL;
}

/* ---- the table ----------------------------------------------------------------------------------- */

enum loss {
    NONE,
    ONE,
    SOME, /* of the segment's */
    ALL   /* of the segment's */
};

static const struct row {
    const char *name;
    enum what what;
    int open_newest, open_others; /* what opening and stat say, by the segment it is in */
    int verify;                   /* what verify says, and reading through a handle for reading */
    uint32_t finding;             /* that verify tells; TWINLOG_FOUND_NOTHING = it tells nothing */
    enum loss loss;
    bool is_not_in_newest; /* that has no such thing */
    bool has_no_place;     /* it is no matter of a segment */
} rows[] = {
    { "nothing", NOTHING, 0, 0, 0, TWINLOG_FOUND_NOTHING, NONE, false, true },
    { "a header", HEADER, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_FOUND_BAD_HEADER,
      NONE, false, false },
    { "another file", TEXT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_FOUND_BAD_HEADER,
      ALL, false, false },
    { "a group's header", FIRST_GROUP, TWINLOG_ECORRUPT, 0, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE, NONE,
      false, false },
    { "a record", RECORD, TWINLOG_ECORRUPT, 0, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE, ONE, false, false },
    { "a footer", FOOTER, 0, 0, 0, TWINLOG_FOUND_BAD_INDEX, NONE, true, false },
    { "an index", INDEX, 0, 0, 0, TWINLOG_FOUND_BAD_INDEX, NONE, true, false },
    { "a shorter file", SHORTER, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_FOUND_DAMAGE,
      SOME, false, false },
    { "a missing file", MISSING, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT,
      TWINLOG_FOUND_MISSING_SEGMENT, ALL, false, false },
    { "one copy of the state", ONE_STATE, 0, 0, 0, TWINLOG_FOUND_BAD_STATE, NONE, false, true },
    { "both copies of the state", BOTH_STATES, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT,
      TWINLOG_FOUND_BAD_STATE, NONE, false, true },
    { "a missing state", NO_STATE, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT, TWINLOG_ECORRUPT,
      TWINLOG_FOUND_BAD_STATE, NONE, false, true },
    { "a foreign file", FOREIGN, TWINLOG_EFOREIGN, TWINLOG_EFOREIGN, TWINLOG_EFOREIGN,
      TWINLOG_FOUND_FOREIGN_FILE, NONE, false, true },
    { "a second copy of a file", SECOND_COPY, TWINLOG_EFOREIGN, TWINLOG_EFOREIGN, TWINLOG_EFOREIGN,
      TWINLOG_FOUND_FOREIGN_FILE, NONE, false, false },
};
/* So many records of a segment may a repair lose. */
struct bounds {
    uint64_t least, most;
};

static struct bounds bounds_of(enum loss loss, const struct twinlog_segment *segment)
{
    const uint64_t all = segment->last_lsn - segment->first_lsn + 1;

    switch (loss) {
    case NONE:
        return (struct bounds){ 0, 0 };
    case ONE:
        return (struct bounds){ 1, 1 };
    case SOME:
        return (struct bounds){ 1, all };
    case ALL:
        break;
    }
    return (struct bounds){ all, all };
}

/* Verify tells of it, and where it is. */
static void check_told(const struct row *row, enum where where, unsigned at, const struct answers *said)
{
    const struct twinlog_report *told = find_told(&said->found, row->finding, 0);

    /* If the newest file is missing, only a cursor tells that something is. */
    const bool is_told_by_cursor = row->what == MISSING && where == NEWEST;
    const bool has_file = !row->has_no_place && row->what != MISSING && row->what != SECOND_COPY;
    const char *name = row->name;

    MUST((said->found.count == 0) == (row->finding == TWINLOG_FOUND_NOTHING));
    MUST(said->found.count == 0 || is_told_by_cursor || told);
    MUST(!has_file || strcmp(told->file, segments[at].file) == 0);
}

static void check_cell(const struct row *row, enum where where)
{
    const unsigned at = segment_at(where);
    const struct bounds bounds = bounds_of(row->loss, &segments[at]);
    const int opening = where == NEWEST ? row->open_newest : row->open_others;
    const char *name = row->name;
    struct answers said;

    put_sound_log();
    damage(row->what, &segments[at]);
    ask_all(&said);

    MUST(said.stat == opening);
    MUST(said.verify == row->verify);
    MUST(said.read == said.verify);
    check_agreement(name, at, &said);
    check_told(row, where, at, &said);
    MUST(said.lost >= bounds.least && said.lost <= bounds.most);
    if (row->what == HEADER) /* and what it could place it has walked through */
        MUST(said.verified == RECORDS && said.found.errors == 1);
}

CASE("table", verdict_set_up, logdir_remove);

TEST_EACH(all_give_the_same_answer, rows)
{
    if (!row->is_not_in_newest)
        check_cell(row, NEWEST);
    if (row->has_no_place)
        return;
    check_cell(row, MIDDLE);
    check_cell(row, OLDEST);
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

CASE("killed", verdict_set_up, logdir_remove);

TEST_EACH(what_a_kill_leaves_gets_one_answer, killed_rows)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    const char *name = row->name;
    const unsigned at = segment_at(NEWEST);
    struct answers said;

    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= RECORDS;)
        lsn = append_group(log, lsn);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", row->consumed), 0);
    log_kill(log);
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
    ck_assert_int_eq(twinlog_segments(log_dir, keep_sound_segment, NULL), 0);
    return segments[at].state == TWINLOG_SEGMENT_SEALED;
}

/* The segment in front is sealed, so the newest one had a group that was durable: nothing else proves it. Returns the
 * first LSN of that group. */
static uint64_t make_lone_group(void)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);

    for (last_lsn = 0; log_stat(log).segments < 3; last_lsn += BATCH)
        append_batch(log, last_lsn + 1);
    AWAIT(is_sealed(1));
    log_kill(log);
    return last_lsn - BATCH + 1;
}

/* Repair finds the records without it. */
TEST(a_lone_group_without_its_header_is_damage)
{
    const uint64_t group_lsn = make_lone_group();
    struct answers said;

    flip_near(&segments[2], group_lsn, IN_GROUP_HEADER);
    ask_all(&said);

    check_agreement("a lone group", 2, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.verified, group_lsn - 1);
    ck_assert_uint_eq(said.lost, 0);
}

TEST(a_record_of_a_lone_group_that_is_damaged_is_damage)
{
    const uint64_t group_lsn = make_lone_group();
    struct answers said;

    flip_near(&segments[2], group_lsn + 1, IN_PAYLOAD);
    ask_all(&said);

    check_agreement("a lone group", 2, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.stat_lsn, group_lsn + 1);
    ck_assert_int_eq(said.open, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.verified, last_lsn - 1);
    ck_assert_uint_eq(said.lost, 1);
}

CASE("table", verdict_set_up, logdir_remove);

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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader in another process, step by step: whatever a writer does between any two of them, and whatever a
 * reader looks at between any two steps of the writer. A log that is sound is never called damaged, what was truncated
 * is not returned any more, and a moment later the reader sees the log as it is.
 *
 * The processes share a simulated disk. Every record says its LSN and the life it belongs to, which is one more
 * after each truncation.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "suites.h"

#include "check/check.h"
#include "log/log.h"
#include "read/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define RECORD_BYTES 6000u /* ten to a segment */
#define MANY 45u

/* ---- the log ----------------------------------------------------------------------------------- */

struct label {
    uint64_t lsn;
    uint32_t life;
};

static struct simdisk *disk;
static struct twinlog *log_; /* the writer's; NULL = closed */
static uint32_t life;
static uint32_t incarnations[2000]; /* of each record that is there; 0 = there is none */
static uint64_t first_kept, last_kept;

/* With files that go at once when they are not needed, with files that are used again, or through a mapping. */
static struct {
    uint32_t flags;
    uint32_t mode;
} writer;

static void open_writer(struct io *io)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = 65536, .flags = writer.flags, .mode = writer.mode);

    log_ = log_on(io, &options);
}

static void close_writer(void)
{
    ck_assert_int_eq(twinlog_close(log_), 0);
    log_ = NULL;
}

static void append(unsigned count)
{
    static unsigned char bytes[RECORD_BYTES];

    for (unsigned i = 0; i < count; i++) {
        const struct label label = { last_kept + 1, life };
        uint64_t lsn = 0;

        memcpy(bytes, &label, sizeof(label));
        ck_assert_int_eq(twinlog_append(log_, bytes, sizeof(bytes), &lsn), 0);
        last_kept++;
        ck_assert_uint_eq(lsn, last_kept);
        incarnations[lsn] = life;
    }
}

static void cut(uint64_t last)
{
    ck_assert_int_eq(twinlog_truncate(log_, last), 0);
    memset(incarnations + last + 1, 0, (last_kept - last) * sizeof(incarnations[0]));
    last_kept = last;
    life++;
}

static void reset(uint64_t next)
{
    ck_assert_int_eq(twinlog_reset(log_, next), 0);
    memset(incarnations, 0, sizeof(incarnations));
    first_kept = next;
    last_kept = next - 1;
    life++;
}

static void trim(uint64_t first)
{
    ck_assert_int_eq(twinlog_trim(log_, &WITH_SIZE(trim_options, .before_lsn = first), NULL), 0);
    memset(incarnations, 0, first * sizeof(incarnations[0]));
    first_kept = first;
}

static void make_log(void)
{
    disk = make_simdisk();
    memset(incarnations, 0, sizeof(incarnations));
    life = 1;
    first_kept = 1;
    last_kept = 0;
    open_writer(simdisk_connect(disk));
    append(MANY);
}

static void remove_log(void)
{
    if (log_)
        close_writer();
    simdisk_destroy(disk);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static struct {
    void (*before)(bool is_list); /* each operation, but not those that it makes itself */
    bool is_inside;
    bool has_no_map;
    unsigned calls;                       /* that could be refused */
    unsigned first_refused, last_refused; /* of these; 0 = none */
} stepping;

/* A page that cannot be mapped is one that is not shared, so that is left alone. */
static bool is_refused(const struct hooked_call *call)
{
    if (stepping.first_refused == 0 || stepping.is_inside || call->op == SIM_MAP)
        return false;

    stepping.calls++;
    return stepping.calls >= stepping.first_refused && stepping.calls <= stepping.last_refused;
}

static int step(const struct hooked_call *call)
{
    if (call->op == SIM_MAP && stepping.has_no_map)
        return -ENODEV;
    if (is_refused(call))
        return -EMFILE;
    if (!stepping.before || stepping.is_inside)
        return 0;

    stepping.is_inside = true;
    stepping.before(call->op == SIM_LIST);
    stepping.is_inside = false;
    return 0;
}

static struct io *step_by_step(void)
{
    return hooked(simdisk_connect(disk), step);
}

/* ---- the reader -------------------------------------------------------------------------------- */

static struct twinlog_report report;
static const char *what; /* is going on, for messages */
static unsigned at_step;

static int open_reader(struct io *io, struct twinlog_reader **ret_reader)
{
    return twl_reader_open(io, &WITH_SIZE(reader_options, .ret_report = &report), ret_reader);
}

static struct twinlog_reader *open_good_reader(struct io *io)
{
    struct twinlog_reader *reader = NULL;
    const int result = open_reader(io, &reader);

    ck_assert_msg(result == 0, "%s, step %u: no reader: %s; %s", what, at_step, twinlog_strerror(result),
                  report.text);
    return reader;
}

/* `is_known`: nothing of the log changed since the call began. */
static void check_result(int result, const struct twinlog_record *record, bool is_known)
{
    struct label label;

    ck_assert_msg(result >= 0 || result == TWINLOG_ETRUNCATED || result == TWINLOG_ETRIMMED,
                  "%s, step %u: %s; %s", what, at_step, twinlog_strerror(result), report.text);
    if (result != 1)
        return;

    memcpy(&label, record->data, sizeof(label));
    ck_assert_uint_eq(label.lsn, record->lsn);
    ck_assert_msg(!is_known || incarnations[label.lsn] == label.life,
                  "%s, step %u: record %" PRIu64 " of life %" PRIu32 " was returned, it is of %" PRIu32
                  " now",
                  what, at_step, label.lsn, label.life, incarnations[label.lsn]);
}

enum {
    READ_NEXT,
    READ_BACK,
    READ_BY_TIME,
    READ_FRESH, /* by a new reader */
    WAYS
};

static int seek_and_read(struct twinlog_reader *reader, int way, uint64_t lsn,
                         struct twinlog_record *ret_record)
{
    switch (way) {
    case READ_BY_TIME:
        ck_assert_int_eq(twinlog_reader_seek_time(reader, 1), 0);
        return twinlog_reader_next(reader, ret_record);
    case READ_BACK:
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn + 1), 0);
        return twinlog_reader_previous(reader, ret_record);
    default:
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        return twinlog_reader_next(reader, ret_record);
    }
}

static void read_one(struct twinlog_reader *reader, int way, uint64_t lsn, bool is_known)
{
    struct twinlog_record record;

    const int result = seek_and_read(reader, way, lsn, &record);
    check_result(result, &record, is_known);
}

/* With no process beside it, it sees all of the log and nothing else. */
static void expect_all(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    uint64_t first, last;

    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    for (uint64_t lsn = first_kept; lsn <= last_kept; lsn++) {
        const int result = twinlog_reader_next(reader, &record);
        check_result(result, &record, true);
        ck_assert_msg(result == 1 && record.lsn == lsn, "%s, step %u: nothing at %" PRIu64 " of %" PRIu64,
                      what, at_step, lsn, last_kept);
    }

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(last, last_kept >= first_kept ? last_kept : 0);
}

/* ---- what a writer does ------------------------------------------------------------------------ */

static void do_roll(void)
{
    append(25);
}

static void do_cut(void)
{
    cut(max_u64(last_kept, first_kept + 25) - 25);
}

static void do_trim(void)
{
    trim(min_u64(first_kept + 12, last_kept));
    append(25);
}

static void do_cut_a_little(void)
{
    cut(max_u64(last_kept - 3, first_kept));
    append(15);
}

static void do_cut_far(void)
{
    cut(max_u64(last_kept, first_kept + 33) - 33);
    append(45);
}

static void do_cut_and_trim(void)
{
    cut(max_u64(last_kept, first_kept + 20) - 20);
    append(30);
    trim(last_kept - 5);
}

static void do_reset_ahead(void)
{
    reset(last_kept + 20);
    append(30);
}

static void do_reset_back(void)
{
    reset(4);
    append(50);
}

static void do_reopen(void)
{
    close_writer();
    open_writer(simdisk_connect(disk));
    append(3);
}

static void do_close(void)
{
    if (log_)
        close_writer();
    else
        open_writer(simdisk_connect(disk));
}

static void do_come(void)
{
    if (!log_)
        open_writer(simdisk_connect(disk));
}

static void do_cut_and_close(void)
{
    do_come();
    do_cut_far();
    close_writer();
}

static void do_everything(void)
{
    do_come();
    do_cut_far();
    do_reopen();
    do_cut_and_trim();
    append(20);
    close_writer();
}

struct deed {
    const char *name;
    void (*what)(void);
    uint32_t flags; /* of the writer */
};

/* With files that go at once when they are not needed, and with files that are used again. */
#define DEED(name, what)                                                                                     \
    { name " of files that go at once", what, TWINLOG_NO_RECYCLE },                                          \
    {                                                                                                        \
        name " of files that are used again", what, 0                                                        \
    }
#define VISITS                                                                                               \
    DEED("a close", do_close), DEED("a cut and a close", do_cut_and_close), DEED("everything", do_everything)

static const struct deed deeds[] = {
    DEED("a roll", do_roll),
    DEED("a trim", do_trim),
    DEED("a cut", do_cut),
    DEED("a small cut", do_cut_a_little),
    DEED("a large cut", do_cut_far),
    DEED("a cut and a trim", do_cut_and_trim),
    DEED("a reset ahead", do_reset_ahead),
    DEED("a reset back", do_reset_back),
    DEED("an opening", do_reopen),
    VISITS,
};

/* Those that are also possible where the log is closed. */
static const struct deed visits[] = { VISITS };

/* A log with a writer that will do that. */
static void make_log_for(const struct deed *deed)
{
    what = deed->name;
    writer.flags = deed->flags;
    make_log();
}

/* ---- between the steps of a reader --------------------------------------------------------------- */

static struct {
    void (*what)(void);
    unsigned steps;    /* so far, or since the directory was listed */
    unsigned at, left; /* times to do it */
    bool is_after_list;
} beside;

static void act(bool is_list)
{
    if (beside.is_after_list && is_list) {
        beside.steps = 0;
        return;
    }

    beside.steps++;
    if (beside.steps == beside.at && beside.left > 0) {
        beside.left--;
        beside.what();
    }
}

/* To be done by act() at step `at_step`, so many times. */
static void prepare_deed(void (*deed)(void), bool is_after_list, unsigned times)
{
    beside.what = deed;
    beside.is_after_list = is_after_list;
    beside.at = at_step;
    beside.left = times;
    beside.steps = 0;
}

/* False: there are not so many steps. */
static bool read_beside(const struct deed *deed, int way, bool is_after_list)
{
    const unsigned times = is_after_list ? 5 : 1;

    make_log_for(deed);
    prepare_deed(deed->what, is_after_list, times);
    stepping.before = way == READ_FRESH ? act : NULL;
    struct twinlog_reader *reader = open_good_reader(step_by_step());
    if (is_after_list && way != READ_FRESH) /* what it knows is wrong already */
        deed->what();

    stepping.before = act;
    read_one(reader, way, 35, false);
    read_one(reader, way, max_u64(last_kept, 1), false);
    const bool has_acted = beside.left < times;
    stepping.before = NULL;

    expect_all(reader);
    twinlog_reader_close(reader);
    remove_log();
    return has_acted;
}

/* From step to step: all of them, or by turns one in so many. */
static unsigned by_turns(unsigned parts)
{
    return takes_turns() ? parts : 1;
}

/* The others have been tried without the sanitizer. */
#define NEXT_STEP REPEATS(by_turns(3), 9u)
#define NEXT_OF_FEW REPEATS(by_turns(3), 15u)  /* steps for which each look takes long */
#define NEXT_OF_MANY REPEATS(by_turns(7), 37u) /* a check has hundreds */
#define FIRST_STEP(next) (1 + REPEATS(turn_of(next), 0))

CASE("beside a writer", NULL, NULL);

TEST_EACH(whatever_a_writer_does_between_two_steps_of_a_reader_a_sound_log_is_sound, deeds)
{
    unsigned most = 0;

    for (int way = 0; way < WAYS; way++)
        for (at_step = FIRST_STEP(NEXT_STEP); read_beside(row, way, false); at_step += NEXT_STEP)
            most = at_step;
    ck_assert_uint_gt(most, 20);
}

TEST_EACH(also_when_the_writer_does_so_after_each_look_at_the_log, deeds)
{
    for (int way = 0; way < WAYS; way++)
        for (at_step = FIRST_STEP(NEXT_OF_FEW); at_step < 30; at_step += NEXT_OF_FEW)
            read_beside(row, way, true);
}

/* As far as it gets. */
static void read_rest(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    int result;

    do {
        result = twinlog_reader_next(reader, &record);
        check_result(result, &record, false);
    } while (result > 0);
}

/* Without a writer a reader finds the end by itself; then one comes, and it may be gone at once. Where they can't share
 * a page, the reader may not hear of that. */
static bool come_beside(const struct deed *visit, bool has_page)
{
    make_log_for(visit);
    close_writer();
    prepare_deed(visit->what, false, 1);
    stepping.before = act;
    stepping.has_no_map = !has_page;
    struct twinlog_reader *reader = open_good_reader(step_by_step());
    read_one(reader, READ_NEXT, 35, false);
    stepping.before = NULL;

    read_rest(reader);
    if (has_page)
        expect_all(reader);
    twinlog_reader_close(reader);
    remove_log();
    return beside.left == 0;
}

TEST_EACH(a_writer_may_come_and_go_while_a_reader_looks_for_the_end, visits)
{
    at_step = FIRST_STEP(NEXT_STEP);
    while (come_beside(row, true))
        at_step += NEXT_STEP;
    ck_assert_uint_gt(at_step, 20);
}

TEST_EACH(it_may_do_so_where_it_cannot_share_its_page, visits)
{
    at_step = FIRST_STEP(NEXT_STEP);
    while (come_beside(row, false))
        at_step += NEXT_STEP;
    ck_assert_uint_gt(at_step, 20);
}

static int tell_report(void *context, const struct twinlog_report *found)
{
    (void)context;
    report = *found;
    return 0;
}

/* False: there are not so many steps. */
static bool check_beside(const struct deed *deed, bool has_page)
{
    make_log_for(deed);
    prepare_deed(deed->what, false, 1);
    stepping.before = act;
    stepping.has_no_map = !has_page;
    report.text[0] = 0;
    const int result = twl_verify(step_by_step(), &WITH_SIZE(verify_options, .each = tell_report), NULL);
    stepping.before = NULL;
    stepping.has_no_map = false;

    ck_assert_msg(result == 0, "%s, step %u: %s; %s", what, at_step, twinlog_strerror(result), report.text);
    remove_log();
    return beside.left == 0;
}

TEST_EACH(a_check_finds_no_damage_whatever_a_writer_does_between_two_steps, deeds)
{
    at_step = FIRST_STEP(NEXT_OF_MANY);
    while (check_beside(row, true))
        at_step += NEXT_OF_MANY;
    ck_assert_uint_gt(at_step, 20);
}

/* The writer tells nobody of these records: they are found by a walk, which has to be begun first. */
TEST_EACH(nor_does_it_where_the_writer_cannot_share_its_page, deeds)
{
    at_step = FIRST_STEP(NEXT_OF_MANY);
    while (check_beside(row, false))
        at_step += NEXT_OF_MANY;
    ck_assert_uint_gt(at_step, 20);
}

static int unlink_segment(void *context, const char *name)
{
    struct io *io = context;

    if (!twl_segment_name_is_ours(name))
        return 0;
    return io->ops->unlink(io, name);
}

static void do_remove_all(void)
{
    struct io *io = simdisk_connect(disk);

    ck_assert_int_eq(io->ops->list(io, unlink_segment, io), 0);
    io->ops->destroy(io);
}

static bool repair_beside(void (*deed)(void))
{
    struct simdisk *other = make_simdisk();
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;

    what = "a removal";
    make_log();
    close_writer();
    prepare_deed(deed, false, 1);
    stepping.before = act;
    twl_repair(step_by_step(), simdisk_connect(other), &WITH_SIZE(repair_options, .flags = 0), &result);
    stepping.before = NULL;
    remove_log();
    simdisk_destroy(other);
    return beside.left == 0;
}

TEST(a_repair_of_a_log_that_is_removed_meanwhile_ends)
{
    at_step = FIRST_STEP(NEXT_STEP);
    while (repair_beside(do_remove_all))
        at_step += NEXT_STEP;
    ck_assert_uint_gt(at_step, 20);
}

/* ---- between the steps of a writer --------------------------------------------------------------- */

#define MOST_STEPS 120u

/* One reader for each step, which does not know what the writer has done since it was opened. */
static struct {
    struct twinlog_reader *reader[MOST_STEPS];
    uint64_t lsn;
    int way;
} watching;

static void look(bool is_list)
{
    (void)is_list;
    ck_assert_uint_lt(at_step, MOST_STEPS);
    if (watching.way == READ_FRESH) {
        twinlog_reader_close(watching.reader[at_step]);
        watching.reader[at_step] = open_good_reader(simdisk_connect(disk));
    }

    read_one(watching.reader[at_step], watching.way, watching.lsn, true);
    at_step++;
}

/* While the writer opens the log nothing of it changes. */
static void look_at_opening(const struct deed *deed, int way, uint64_t lsn)
{
    make_log_for(deed);
    watching.way = way;
    watching.lsn = lsn;
    for (at_step = 0; at_step < MOST_STEPS; at_step++)
        watching.reader[at_step] = open_good_reader(simdisk_connect(disk));
    deed->what();
    if (log_)
        close_writer();

    at_step = 0;
    stepping.before = look;
    open_writer(step_by_step());
    stepping.before = NULL;
    ck_assert_uint_gt(at_step, 20);

    append(15);
    for (at_step = 0; at_step < MOST_STEPS; at_step++) {
        expect_all(watching.reader[at_step]);
        twinlog_reader_close(watching.reader[at_step]);
    }
    remove_log();
}

TEST_EACH(a_reader_that_was_away_meets_a_writer_that_opens_the_log, deeds)
{
    for (int way = 0; way < WAYS; way++)
        look_at_opening(row, way, 31);
}

TEST_LOOP(it_does_so_at_the_end_of_the_log, REPEATS(ROWS(deeds), 1))
{
    const struct deed *deed = &deeds[_i];

    for (int way = 0; way < WAYS; way++)
        look_at_opening(deed, way, 44);
}

/* ---- where the system refuses to look ------------------------------------------------------------ */

static void expect_right_or_refused(struct twinlog_reader *reader, int way, uint64_t lsn)
{
    struct twinlog_record record;

    const int result = seek_and_read(reader, way, lsn, &record);
    if (result == -EMFILE)
        ck_assert_int_eq(report.error, -EMFILE);
    else
        check_result(result, &record, true);
}

/* The reader knows the log as it was; then the writer has done that. So many calls of the reader are refused, the first
 * of them at `at_step`. False: it makes not so many. */
static bool read_refused(const struct deed *deed, int way, unsigned refusals)
{
    make_log_for(deed);
    struct twinlog_reader *reader = open_good_reader(step_by_step());
    read_one(reader, READ_NEXT, 5, true);
    read_one(reader, READ_NEXT, 35, true);
    deed->what();

    stepping.calls = 0;
    stepping.first_refused = at_step;
    stepping.last_refused = at_step + refusals - 1;
    expect_right_or_refused(reader, way, 35);
    expect_right_or_refused(reader, way, max_u64(last_kept, 1));
    const bool was_refused = stepping.calls >= at_step;
    stepping.first_refused = 0;

    read_one(reader, way, 35, true);
    read_one(reader, way, max_u64(last_kept, 1), true);
    expect_all(reader);
    twinlog_reader_close(reader);
    remove_log();
    return was_refused;
}

static void refuse_at_each_step(const struct deed *deed, unsigned refusals)
{
    unsigned most = 0;

    for (int way = 0; way < READ_FRESH; way++)
        for (at_step = FIRST_STEP(NEXT_STEP); read_refused(deed, way, refusals); at_step += NEXT_STEP)
            most = at_step;
    ck_assert_uint_gt(most, 5);
}

CASE("where a look is refused", NULL, NULL);

/* What it knew is not taken for what is there, nor what it could not look at for damage. */
TEST_EACH(a_reader_that_could_not_look_looks_again, deeds)
{
    refuse_at_each_step(row, 1);
}

TEST_EACH(so_does_one_that_was_refused_everything_for_a_while, deeds)
{
    refuse_at_each_step(row, 1000000);
}

static void do_append(void)
{
    append(3);
}

static const struct deed mapped_deeds[] = {
    { "an append through a mapping", do_append, 0 },
    { "a roll of mapped segments", do_roll, 0 },
};

/* The writer tells nobody of these records: they are found by a walk, which has to be begun first. */
TEST_EACH(nor_does_a_refusal_hide_what_a_mapping_shows, mapped_deeds)
{
    writer.mode = TWINLOG_MODE_MAPPED;
    refuse_at_each_step(row, 1);
    refuse_at_each_step(row, 1000000);
}

/* ---- a truncation that was trimmed since ---------------------------------------------------------------- */

static void pass_all(struct twinlog_reader *reader)
{
    struct twinlog_record record;

    for (uint64_t lsn = first_kept; lsn <= last_kept; lsn++)
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
}

/* The truncation's own segment is gone, and with it where the truncation began. */
TEST(a_truncation_is_told_also_when_what_came_behind_it_was_trimmed)
{
    struct twinlog_record record;

    what = "cut and trim";
    make_log();
    struct twinlog_reader *reader = open_good_reader(simdisk_connect(disk));
    pass_all(reader);
    cut(10);
    append(60);
    trim(32);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), TWINLOG_ETRUNCATED);
    ck_assert_int_eq(report.error, TWINLOG_ETRUNCATED);
    ck_assert_uint_eq(report.first_lsn, 1);
    ck_assert_uint_eq(report.last_lsn, MANY);
    expect_all(reader);
    twinlog_reader_close(reader);
    remove_log();
}

TEST(no_truncation_is_told_where_a_trim_took_all_that_was_passed)
{
    struct twinlog_record record;

    what = "trim";
    make_log();
    struct twinlog_reader *reader = open_good_reader(simdisk_connect(disk));
    pass_all(reader);
    append(60);
    trim(MANY + 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    check_result(1, &record, true);
    ck_assert_uint_eq(record.lsn, MANY + 1);
    trim(MANY + 30);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), TWINLOG_ETRIMMED);
    expect_all(reader);
    twinlog_reader_close(reader);
    remove_log();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The decision table is complete and says what docs/recovery.md says; what it is asked with is read from a disk. */
#define _GNU_SOURCE
#include "hooked.h"
#include "lives.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "base/bytes.h"
#include "keeper/keeper.h"
#include "log/log.h"
#include "recover/recover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

CASE("table", NULL, NULL);

/* As docs/recovery.md has them. */
static enum recover_decision expected_decision(unsigned facts)
{
    if (facts & (FACT_LATER_DURABLE | FACT_SEALED | FACT_PASSED))
        return DECIDE_DAMAGE;
    if (!(facts & FACT_NEWEST))
        return facts & FACT_JOINS ? DECIDE_NEXT_SEGMENT : DECIDE_TRUNCATE;
    if (!(facts & FACT_ZERO))
        return DECIDE_TRUNCATE;
    return facts & FACT_CLOSED ? DECIDE_CLEAN_CLOSE : DECIDE_CLEAN_END;
}

TEST(every_combination_of_facts_has_exactly_one_decision)
{
    for (unsigned facts = 0; facts < 1u << RECOVER_FACTS; facts++) {
        unsigned matches = 0;
        for (size_t i = 0; i < twl_recover_rows; i++)
            matches += (facts & twl_recover_table[i].care) == twl_recover_table[i].value;
        ck_assert_msg(matches == 1, "facts %#x match %u rows", facts, matches);
        ck_assert_int_eq(twl_recover_decide(facts)->decision, expected_decision(facts));
    }
}

static struct group_header group(uint64_t first_lsn, uint64_t durable_lsn)
{
    return (struct group_header){ .first_lsn = first_lsn, .durable_lsn = durable_lsn };
}

TEST(a_marker_proves_what_it_names_and_what_was_before_it)
{
    struct position stop = { .next_lsn = 10 };
    struct group_header names_it = group(15, 10), names_later = group(15, 12), too_early = group(15, 9);

    ck_assert(twl_group_proves(&names_it, stop));
    ck_assert(twl_group_proves(&names_later, stop));
    ck_assert_msg(!twl_group_proves(&too_early, stop), "both may have been in flight together");
    struct group_header nothing_in_flight = group(10, 9);
    ck_assert_msg(twl_group_proves(&nothing_in_flight, stop), "a mark without records is missing");
}

/* ---- on a disk --------------------------------------------------------------------------------- */

/* The same, until a file gets another incarnation: its writer dies when that header is written and not yet synced. */
struct recycling {
    struct simdisk *living, *left;
    char name[SEGMENT_NAME_BYTES];
};

static void kill_between_header_and_sync(void *context, enum simdisk_op op)
{
    struct recycling *recycling = context;
    const char *last = simdisk_last(recycling->living);
    unsigned long long offset;
    size_t size;
    char name[40];

    if (op != SIM_WRITE || recycling->left ||
        sscanf(last, "write %39s %llu+%zu", name, &offset, &size) != 3 || offset != 0 ||
        !twl_segment_name_is_ours(name))
        return;
    recycling->left = simdisk_crash_image(recycling->living, SIM_KILL, 0);
    snprintf(recycling->name, sizeof(recycling->name), "%.*s", (int)sizeof(recycling->name) - 1, name);
}

static void make_recycling(struct recycling *ret_recycling)
{
    static const unsigned char payload[BLOCK_RECORD_BYTES] = { 1, 2, 3 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    *ret_recycling = (struct recycling){ .living = make_simdisk() };
    options.segment_bytes = SEGMENT_MIN_BYTES;
    options.keep_records = 1;
    options.spare_segments = 1;
    struct twinlog *log = log_on(simdisk_connect(ret_recycling->living), &options);
    simdisk_set_hook(ret_recycling->living, kill_between_header_and_sync, ret_recycling);
    for (unsigned i = 0; i < 58; i++)
        ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), NULL), 0);
    simdisk_set_hook(ret_recycling->living, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(ret_recycling->living);
    ck_assert_ptr_nonnull(ret_recycling->left);
}

static uint64_t life_of(struct simdisk *machine, const char *name)
{
    struct io *io = simdisk_connect(machine);
    struct segment segment;

    ck_assert_int_eq(twl_segment_open_valid(io, name, &segment), 0);
    const uint64_t life = segment.header.segment_id;
    twl_segment_close(&segment);
    io->ops->destroy(io);
    return life;
}

static uint64_t durable_life_of(const struct simdisk *machine, const char *name)
{
    struct simdisk *image = simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    const uint64_t life = life_of(image, name);

    simdisk_destroy(image);
    return life;
}

/* A read that fails, or finds the end of the file where it should not be. */
static const struct io_ops *sound;

static struct io_ops failing;
static unsigned reads_left; /* 0: none will fail */
static int read_error;

static int read_or_fail(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    if (reads_left == 0 || --reads_left > 0)
        return sound->read(file, buffer, size, offset, ret_size);
    *ret_size = 0;
    return read_error;
}

static struct io *io; /* of the log of a test, */
static struct segment_set set;

static void load_log(void)
{
    io = simdisk_connect(disk);
    sound = io->ops;
    failing = *sound;
    failing.read = read_or_fail;
    io->ops = &failing;
    reads_left = 0;
    load_set(io, &set);
}

static void forget_log(void)
{
    twl_segment_set_free(&set);
    io->ops->destroy(io);
    remove_log();
}

/* With each read failing in turn. Returns how many there are. */
static unsigned fail_each_read(int error, int other_error)
{
    for (unsigned nth = 1;; nth++) {
        struct recovery recovery;
        reads_left = nth;
        read_error = error;
        int rc = twl_recover(io, &set, false, NULL, &recovery);
        if (reads_left > 0) {
            ck_assert_int_eq(rc, 0);
            reads_left = 0;
            return nth - 1;
        }
        ck_assert_msg(rc == error || rc == other_error, "read %u: %d", nth, rc);
        if (rc < 0)
            ck_assert_int_eq(recovery.report.error, rc);
    }
}

CASE("disk", NULL, NULL);

TEST(a_read_that_fails_is_no_end)
{
    for (enum shape shape = SHORT; shape < SHAPES; shape++) {
        make_log(shape);
        load_log();
        ck_assert_uint_ge(fail_each_read(-EIO, -EIO), 1);
        ck_assert_uint_ge(fail_each_read(0, TWINLOG_ECORRUPT), 1);
        forget_log();
    }
}

TEST(what_an_earlier_incarnation_left_behind_a_full_block_is_no_torn_group)
{
    struct recovery recovery;

    make_log(RECYCLED);
    load_log();
    ck_assert_uint_gt(set.entries[set.started - 1].header.incarnations, 0);
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &recovery), 0);
    ck_assert_uint_eq(recovery.offset % BLOCK_BYTES, 0);
    ck_assert_uint_eq(recovery.position.next_lsn, 59);
    ck_assert_int_eq(recovery.report.finding, TWINLOG_FOUND_CLEAN_END);
    ck_assert(!recovery.has_junk);
    set.entries[set.started - 1].header.incarnations = 0; /* the same bytes, where there was none */
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &recovery), 0);
    ck_assert_int_eq(recovery.report.finding, TWINLOG_FOUND_TORN_TAIL);
    forget_log();
}

/* Nothing is valid under the identity of another one (I8). */
TEST(a_segment_that_has_another_incarnation_meanwhile_is_gone)
{
    struct recovery recovery;

    make_log(ROLLED);
    load_log();
    struct segment_entry *newest = &set.entries[set.started - 1];
    newest->header.segment_id++;
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &recovery), -ENOENT);
    ck_assert_int_eq(recovery.report.finding, TWINLOG_FOUND_SYSTEM_ERROR);
    /* but a spare may go at any time, as long as nothing was left for it */
    set.started--;
    set.spares++;
    set.entries[set.started - 1].is_sealed = false;
    set.entries[set.started - 1].is_known = true;
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &recovery), 0);
    ck_assert_uint_eq(recovery.index, set.started - 1);
    forget_log();
}

/* The next group would go to that file (I8). */
TEST(a_header_that_a_killed_writer_left_is_durable_when_the_log_is_open)
{
    struct recycling recycling;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    make_recycling(&recycling);
    const uint64_t life = life_of(recycling.left, recycling.name);
    ck_assert_uint_ne(durable_life_of(recycling.left, recycling.name), life);
    struct twinlog *log = log_on(simdisk_connect(recycling.left), &options);
    ck_assert_uint_eq(durable_life_of(recycling.left, recycling.name), life);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(recycling.left);
}

/* ---- asked where a walk of the whole log may stop -------------------------------------------------- */

/* Judges a place in the oldest segment, with the nth read failing, if that is not 0. */
struct place {
    uint64_t offset;
    struct position stop;
    unsigned failing_read;
    int error;
};

static int judge(const struct place *place, struct recover_judgement *ret_judgement)
{
    struct segment segment;
    struct segment_iter iter = { 0 };

    ck_assert_int_eq(twl_segment_open_valid(io, set.entries[0].name, &segment), 0);
    twl_iter_begin(&iter, &segment, place->stop);
    iter.offset = place->offset;
    reads_left = place->failing_read;
    read_error = place->error;
    const int rc = twl_recover_judge(io, &set, 0, &iter, NULL, ret_judgement);
    const bool has_failed = place->failing_read > 0 && reads_left == 0;
    reads_left = 0;
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    ck_assert(rc == 0 || has_failed);
    return rc;
}

/* Nothing in any of them is about records that far away. */
TEST(all_later_segments_are_asked)
{
    const struct place place = { .offset = SEGMENT_DATA_OFFSET, .stop.next_lsn = 1u << 30 };
    struct recover_judgement judgement;

    make_log(ROLLED);
    load_log();
    ck_assert_uint_ge(set.started, 4);
    set.started--;
    set.spares++;
    ck_assert_int_eq(judge(&place, &judgement), 0);
    ck_assert_uint_eq(judgement.facts, FACT_LATER_DURABLE | FACT_SEALED);
    ck_assert_int_eq(judgement.row->decision, DECIDE_DAMAGE);
    forget_log();
}

/* Of the spares the next one is searched, the others are asked for their promise. What can't be read is no answer. */
TEST(spares_behind_the_next_one_are_asked_for_their_promise_only)
{
    struct place place = { .offset = SEGMENT_DATA_OFFSET, .stop.next_lsn = 1u << 30, .error = -EIO };
    struct recover_judgement judgement;

    make_log(ROLLED);
    load_log();
    set.spares += set.started - 1;
    set.started = 1;
    ck_assert_uint_ge(set.spares, 3);
    do
        place.failing_read++;
    while (judge(&place, &judgement) == -EIO);
    ck_assert_uint_gt(place.failing_read, 5);
    ck_assert_uint_eq(judgement.facts, FACT_NEWEST | FACT_SEALED);
    set.entries[3].header.after_lsn = place.stop.next_lsn;
    place.failing_read = 0;
    ck_assert_int_eq(judge(&place, &judgement), 0);
    ck_assert_uint_eq(judgement.facts & FACT_LATER_DURABLE, FACT_LATER_DURABLE);
    forget_log();
}

/* Where no group was found it is not known which record comes next; that one is missing every other one proves. */
TEST(an_unknown_place_is_continued_by_nothing)
{
    const struct place place = { .offset = twl_segment_data_end(SEGMENT_MIN_BYTES) };
    struct recover_judgement judgement;

    make_log(ROLLED);
    load_log();
    ck_assert_int_eq(judge(&place, &judgement), 0);
    ck_assert_uint_eq(judgement.facts & FACT_JOINS, 0);
    ck_assert(!judgement.is_followed);
    ck_assert_int_eq(judgement.row->decision, DECIDE_DAMAGE);
    forget_log();
}

/* The walk has mostly read that block a moment before; here it has not. */
TEST(what_cannot_be_read_is_neither_zero_nor_stale)
{
    struct place place = { .offset = SEGMENT_DATA_OFFSET, .stop.next_lsn = 1u << 30, .failing_read = 1 };
    struct recover_judgement judgement;

    make_log(RECYCLED);
    load_log();
    ck_assert_uint_gt(set.entries[0].header.incarnations, 0);
    place.error = -EIO;
    ck_assert_int_eq(judge(&place, &judgement), -EIO);
    place.error = 0;
    ck_assert_int_eq(judge(&place, &judgement), TWINLOG_ECORRUPT);
    forget_log();
}

/* Groups that were written without a sync prove nothing of each other; the header of the next segment does. */
TEST(a_later_segment_proves_what_a_later_group_does_not)
{
    struct simdisk *living = make_simdisk();
    static const unsigned char payload[BLOCK_RECORD_BYTES];
    const struct twinlog_entry entry = { .data = payload, .size = sizeof(payload) };
    struct place place = { 0 };
    struct recover_judgement judgement;
    struct segment segment;
    struct segment_iter iter = { 0 };
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    struct twinlog *log =
        log_on(simdisk_connect(living), &WITH_SIZE(options, .segment_bytes = SEGMENT_MIN_BYTES));

    for (unsigned i = 0; i < 20; i++) /* more than the first segment holds */
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    disk = simdisk_crash_image(living, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(living);
    load_log();
    ck_assert_int_eq(twl_segment_open_valid(io, set.entries[0].name, &segment), 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    for (unsigned i = 0; i < 3; i++) /* the marker, and two records */
        ck_assert_int_eq(twl_iter_enter_group(&iter), 1);
    place.offset = iter.group_offset + 8;
    place.stop = iter.before;
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    ck_assert_int_eq(judge(&place, &judgement), 0);
    ck_assert(judgement.is_followed);
    ck_assert_int_eq(judgement.row->decision, DECIDE_DAMAGE);
    ck_assert(judgement.later.is_proof);
    set.started = 1; /* nothing else knows */
    set.spares = 0;
    set.entries[0].is_sealed = false;
    ck_assert_int_eq(judge(&place, &judgement), 0);
    ck_assert(!judgement.later.is_proof);
    ck_assert_int_eq(judgement.row->decision, DECIDE_TRUNCATE);
    forget_log();
}

/* More could not be opened again. */
TEST(no_more_segments_are_made_than_can_be_opened)
{
    struct keeper *keeper;

    make_log(ROLLED);
    load_log();
    struct statistics statistics = { 0 };
    struct counters counters = { 0 };
    struct keeper_config config = {
        .io = io,
        .counters = &counters,
        .statistics = &statistics,
        .set = &set,
        .max_bytes = SEGMENT_MIN_BYTES,
        .can_recycle = true,
        .most_segments = set.started + set.spares + set.retired + 1,
        .plan = { .number = set.max_number + 1, .sequence = set.max_sequence + 1, .bytes = SEGMENT_MIN_BYTES }
    };
    memcpy(config.plan.log_id, set.entries[0].header.log_id, LOG_ID_BYTES);
    ck_assert_int_eq(twl_keeper_create(&config, &keeper), 0);
    ck_assert_int_eq(twl_keeper_wait(keeper, 1, 0, 1), 0);
    ck_assert_int_eq(twl_keeper_wait(keeper, 2 * SEGMENT_MIN_BYTES, 0, 1), -EMFILE);
    ck_assert_int_eq(twl_keeper_wait(keeper, 1, 0, 1), 0); /* that one is still there */
    bool is_in_doubt;
    struct segment segment;
    ck_assert_int_eq(twl_keeper_restart(keeper, 1000, 0, 0, 1, &segment, &is_in_doubt), -EMFILE);
    ck_assert_uint_eq(twl_keeper_retire(keeper, 2).segments, 1);
    ck_assert_int_eq(twl_keeper_restart(keeper, 1000, 0, 0, 1, &segment, &is_in_doubt), 0);
    ck_assert_uint_eq(segment.header.incarnations, 1); /* of the file that was retired */
    twl_segment_close(&segment);
    twl_keeper_destroy(keeper);
    forget_log();
}

/* ---- the state file ---------------------------------------------------------------------------- */

/* Of an opening: a killed writer's image, taken at its first group behind a truncation; and what comes first
 * afterwards. */
struct sequence {
    struct simdisk *machine, *left;
    bool has_written_state, has_marked;
};

static void kill_at_mark(void *context, enum simdisk_op op)
{
    struct sequence *sequence = context;

    if (op == SIM_SUBMIT && !sequence->left)
        sequence->left = simdisk_crash_image(sequence->machine, SIM_KILL, 0);
}

static void note_sequence(void *context, enum simdisk_op op)
{
    struct sequence *sequence = context;
    const bool is_state = strncmp(simdisk_last(sequence->machine), "write state", 11) == 0;

    sequence->has_marked = sequence->has_marked || op == SIM_SUBMIT;
    if (op == SIM_WRITE && is_state) {
        ck_assert_msg(!sequence->has_marked, "a caller may have acted on what was not settled");
        sequence->has_written_state = true;
    }
}

/* What the state file says may be in the page cache only. Once there is a keeper, files are removed by it. */
TEST(the_state_is_settled_before_anybody_acts_on_it)
{
    struct sequence sequence = { .machine = make_simdisk() };
    struct twinlog *log = log_on(simdisk_connect(sequence.machine), NULL);

    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "name", 5), 0);
    simdisk_set_hook(sequence.machine, kill_at_mark, &sequence);
    ck_assert_int_eq(twinlog_truncate(log, 2), 0); /* moves the cursor, behind the marker */
    simdisk_set_hook(sequence.machine, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(sequence.machine);
    ck_assert_ptr_nonnull(sequence.left);
    sequence.machine = sequence.left;
    simdisk_set_hook(sequence.machine, note_sequence, &sequence);
    log = log_on(simdisk_connect(sequence.machine), NULL);
    simdisk_set_hook(sequence.machine, NULL, NULL);
    ck_assert(sequence.has_written_state && sequence.has_marked);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(sequence.machine);
}

/* ---- open groups ------------------------------------------------------------------------------- */

#define CLAIMED_BYTES 500u

/* A mapped writer that is killed when it has begun its second segment, and the first one is still open. */
struct open_groups {
    struct simdisk *living, *left;
    struct twinlog *log;
    uint64_t last_lsn;
    bool is_looking;
};

/* Another thread gets into the next segment, while the first one sees to that of before. */
static void leave_when_two_are_open(void *context)
{
    static const struct twinlog_entry entry = { .data = "in the next segment", .size = 19 };
    const struct twinlog_terms terms =
        WITH_SIZE(terms, .level = TWINLOG_LEVEL_BUFFERED, .flags = TWINLOG_TRY);
    struct open_groups *groups = context;

    if (groups->is_looking || groups->left)
        return;
    groups->is_looking = true;
    const int rc = twinlog_append_batch(groups->log, &entry, 1, &terms, &groups->last_lsn);
    if (rc == 0) {
        simdisk_notice_stores(groups->living, "appended");
        groups->left = simdisk_crash_image(groups->living, SIM_KILL, 3);
    }
    groups->is_looking = false;
}

/* Walks through a segment up to that record, or behind the one in front of it. */
static void walk_to_record(struct segment_iter *iter, uint64_t lsn)
{
    while (iter->position.next_lsn < lsn + 1 && twl_iter_enter_group(iter) > 0)
        continue;
}

static void write_to_segment(struct io *own, const char *name, uint64_t at, const void *bytes, size_t size)
{
    struct io_file *file;

    ck_assert_int_eq(io_open(own, name, 0, &file), 0);
    ck_assert_int_eq(io_write_at(file, bytes, size, at), 0);
    io_close(file);
}

/* As if the writer had died in the middle of one more record. */
static void add_claim(struct simdisk *machine, uint64_t lsn)
{
    unsigned char claim[sizeof(uint64_t)];
    struct segment_iter iter = { 0 };
    struct segment segment;

    struct io *own = simdisk_connect(machine);
    load_set(own, &set);
    const char *newest = set.entries[set.started - 1].name;
    ck_assert_int_eq(twl_segment_open_valid(own, newest, &segment), 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    walk_to_record(&iter, lsn);
    ck_assert_uint_eq(iter.position.next_lsn, lsn);
    store_le64(claim, twl_claim_encode(iter.epoch_seed, lsn, CLAIMED_BYTES, 1));
    write_to_segment(own, newest, iter.offset, claim, sizeof(claim));
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    twl_segment_set_free(&set);
    own->ops->destroy(own);
}

/* A power cut has taken the payload of a record in the segment in front of the newest one. */
static void tear_record(struct simdisk *machine, uint64_t lsn)
{
    static const unsigned char other[8] = { 0xff, 0xff };
    struct segment_iter iter = { 0 };
    struct segment segment;

    struct io *own = simdisk_connect(machine);
    load_set(own, &set);
    const char *name = set.entries[set.started - 2].name;
    ck_assert_int_eq(twl_segment_open_valid(own, name, &segment), 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    walk_to_record(&iter, lsn);
    ck_assert_uint_eq(iter.position.next_lsn, lsn + 1);
    write_to_segment(own, name, iter.entered_offset + RECORD_HEADER_BYTES, other, sizeof(other));
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    twl_segment_set_free(&set);
    own->ops->destroy(own);
}

/* Two segments with open groups, and a claim at the end of the second. */
static struct simdisk *make_open_groups(uint64_t *ret_last_lsn)
{
    static const unsigned char bytes[1000] = { 1 };
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_BUFFERED);
    const struct twinlog_options options =
        WITH_SIZE(options, .mode = TWINLOG_MODE_MAPPED, .segment_bytes = SEGMENT_MIN_BYTES);
    struct open_groups groups = { .living = make_simdisk() };

    groups.log = log_on(simdisk_connect(groups.living), &options);
    for (unsigned i = 0; i < 40; i++)
        ck_assert_int_eq(twinlog_append_batch(groups.log, &entry, 1, &terms, NULL), 0);
    simdisk_set_turn(groups.living, leave_when_two_are_open, &groups);
    for (unsigned i = 0; i < 40; i++)
        ck_assert_int_eq(twinlog_append_batch(groups.log, &entry, 1, &terms, NULL), 0);
    simdisk_set_turn(groups.living, NULL, NULL);
    ck_assert_int_eq(twinlog_close(groups.log), 0);
    simdisk_destroy(groups.living);

    ck_assert_ptr_nonnull(groups.left);
    add_claim(groups.left, groups.last_lsn + 1);
    *ret_last_lsn = groups.last_lsn + 1;
    return groups.left;
}

static void expect_settled(struct simdisk *machine, uint64_t last_lsn)
{
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = SEGMENT_MIN_BYTES);

    struct twinlog *log = log_on(simdisk_connect(machine), &options);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
    ck_assert_int_eq(twinlog_close(log), 0);
}

CASE("open groups", NULL, NULL);

static const struct settling_row {
    const char *name;
    uint64_t torn_lsn; /* 0: none */
} settling_rows[] = {
    { "all records are there", 0 },
    { "the log ends in the first of two segments", 60 },
};

/* It is told, or was no matter; and what a refused opening has done of the settling the next one goes on with. */
TEST_EACH(whatever_fails_while_open_groups_are_settled_the_next_opening_settles_them, settling_rows)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = SEGMENT_MIN_BYTES, .ret_report = &log_report);
    unsigned refused = 0;
    uint64_t last_lsn;
    bool has_failed;

    struct simdisk *left = make_open_groups(&last_lsn);
    if (row->torn_lsn > 0) {
        tear_record(left, row->torn_lsn);
        last_lsn = row->torn_lsn - 1;
    }
    struct simdisk_fault fault = { .op = SIM_ANY, .error = -EIO };
    do {
        struct simdisk *image = simdisk_crash_image(left, SIM_CUT_ALL, 0);
        struct twinlog *log;

        fault.nth++;
        simdisk_inject(image, &fault);
        const int rc = log_try_on(simdisk_connect(image), &options, &log);
        has_failed = simdisk_faults(image) > 0;
        simdisk_inject(image, NULL);
        ck_assert_int_eq(log_report.error, rc);
        if (rc < 0) {
            ck_assert_int_eq(rc, -EIO);
            refused++;
        } else {
            ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
            ck_assert_int_eq(twinlog_close(log), 0);
        }
        expect_settled(image, last_lsn);
        simdisk_destroy(image);
    } while (has_failed);
    ck_assert_uint_gt(refused, 40);
    simdisk_destroy(left);
}

/* ---- torn in the same place twice -------------------------------------------------------------- */

CASE("disk", NULL, NULL);

#define RECORDS_PER_SEGMENT 10u /* of a block each; the rest is kept for markers */
#define SEGMENTS_BEFORE 4u      /* from then on files are written over that are full of other bytes */
#define OFFSET_TO_ROLL 968u     /* in a block: of the header there the last 8 bytes are in the next sector */
#define SECTORS_PER_BLOCK 8u

static struct twinlog_options options_to_roll(void)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = SEGMENT_MIN_BYTES, .keep_records = 1);

    return options;
}

/* Leaves the log where the next record begins a segment, in a file that had other incarnations. */
static void append_up_to_a_roll(struct twinlog *log)
{
    unsigned char payload[BLOCK_RECORD_BYTES];
    const unsigned whole = SEGMENTS_BEFORE * RECORDS_PER_SEGMENT - 3;
    const size_t around = BLOCK_BYTES - BLOCK_RECORD_BYTES;

    memset(payload, 0x5a, sizeof(payload));
    for (unsigned i = 0; i < whole; i++)
        ck_assert_int_eq(twinlog_append(log, payload, i == 0 ? FIRST_RECORD_BYTES : BLOCK_RECORD_BYTES, NULL),
                         0);
    ck_assert_int_eq(twinlog_append(log, payload, OFFSET_TO_ROLL - around, NULL), 0);
}

/* Cuts the power while the first group of a segment is being written. No more than its first block gets to the disk. */
struct tearing {
    struct simdisk *machine;
    bool keeps_one_sector; /* at the most; else every combination of them is there once */
    void (*each)(struct simdisk *image);
    unsigned images;
};

static void tear(void *context, enum simdisk_op op)
{
    struct tearing *tearing = context;
    unsigned long long offset;

    if (op != SIM_SUBMIT || sscanf(simdisk_last(tearing->machine), "submit %*s %llu", &offset) != 1 ||
        offset != SEGMENT_DATA_OFFSET)
        return;
    ck_assert_uint_ge(simdisk_choices(tearing->machine), SECTORS_PER_BLOCK);
    for (uint64_t mask = 0; mask < 1u << SECTORS_PER_BLOCK; mask++) {
        if (tearing->keeps_one_sector && (mask & (mask - 1)) != 0)
            continue;
        tearing->each(simdisk_crash_image(tearing->machine, SIM_CUT_MASK, mask));
        tearing->images++;
    }
}

static unsigned tear_next(struct simdisk *machine, struct twinlog *log, bool keeps_one_sector,
                          void (*each)(struct simdisk *image))
{
    static const unsigned char payload[12000] = { 1 }; /* more than there is room for, but for a small one */
    struct tearing tearing = { .machine = machine, .keeps_one_sector = keeps_one_sector, .each = each };

    simdisk_set_hook(machine, tear, &tearing);
    ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), NULL), 0);
    simdisk_set_hook(machine, NULL, NULL);
    return tearing.images;
}

static struct twinlog *open_torn(struct simdisk *image, uint32_t flags)
{
    struct twinlog_options options = options_to_roll();

    options.flags = flags;
    struct twinlog *log = log_on(simdisk_connect(image), &options);
    return log;
}

static unsigned torn_twice;
static uint32_t second_flags;
static uint64_t acknowledged_lsn;

static void expect_acknowledged(struct simdisk *image)
{
    struct twinlog *log = open_torn(image, 0);

    ck_assert_uint_ge(twinlog_last_lsn(log), acknowledged_lsn);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(image);
}

/* With a record in between that is acknowledged. */
static void tear_again(struct simdisk *image)
{
    struct twinlog *log = open_torn(image, second_flags);

    ck_assert_int_eq(twinlog_append(log, "small", 5, &acknowledged_lsn), 0);
    torn_twice += tear_next(image, log, false, expect_acknowledged);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(image);
}

static const struct torn_row {
    const char *name;
    uint32_t second_flags;
} torn_rows[] = {
    { "behind its place, because of what is between them", 0 },
    { "in front of its place, as the log is padded from then on", TWINLOG_PAD },
};

/* Zeros in the next one may complete a header of which all else is there. */
TEST_EACH(a_group_that_was_torn_is_not_completed_by_the_next_one, torn_rows)
{
    const struct twinlog_options options = options_to_roll();
    struct simdisk *living = make_simdisk();

    torn_twice = 0;
    second_flags = row->second_flags;
    struct twinlog *log = log_on(simdisk_connect(living), &options);
    append_up_to_a_roll(log);
    ck_assert_uint_eq(tear_next(living, log, true, tear_again), SECTORS_PER_BLOCK + 1);
    ck_assert_uint_eq(torn_twice, (SECTORS_PER_BLOCK + 1) << SECTORS_PER_BLOCK);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(living);
}

/* ---- how much is read ---------------------------------------------------------------------------- */

/* The group is larger than what is read at once, and looked at twice: checked, then indexed. */
TEST(opening_reads_the_newest_segment_once_or_what_the_note_leaves)
{
    enum {
        MIB = 1 << 20,
        RECORD = 1000
    };
    static const unsigned char bytes[RECORD];
    struct simdisk *living = make_simdisk();
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = 32 * MIB, .buffer_bytes = 12 * MIB);
    struct twinlog *log = log_on(simdisk_connect(living), &options);

    for (unsigned group = 0; group < 2; group++) { /* the first one is cut where a small segment ends */
        for (unsigned i = 0; i < 10 * MIB / RECORD; i++)
            ck_assert_int_eq(twinlog_enqueue(log, bytes, RECORD, NULL), 0);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_close(log), 0);

    ck_assert_int_eq(open_and_count(living, &options), 0);
    ck_assert_uint_lt(read_bytes, MIB);
    io = simdisk_connect(living);
    ck_assert_int_eq(io->ops->unlink(io, PAGE_FILE_NAME), 0);
    io->ops->destroy(io);
    ck_assert_int_eq(open_and_count(living, &options), 0);
    ck_assert_uint_gt(read_bytes, 10 * MIB); /* the groups of the newest segment; no spare */
    ck_assert_uint_lt(read_bytes, 33 * MIB); /* once, and what lies behind the end in it */
    simdisk_destroy(living);
}

/* ---- what cannot be looked at now --------------------------------------------------------------- */

CASE("what cannot be looked at", NULL, NULL);

TEST(an_index_that_could_not_be_read_once_is_not_empty)
{
    struct segment segment;
    struct segment_footer footer;
    struct segment_iter iter = { 0 };

    make_log(ROLLED);
    load_log();
    ck_assert_int_eq(twl_segment_open_entry(io, &set.entries[0], &segment), 0);
    ck_assert_int_eq(twl_segment_read_footer(&segment, &footer), 1);
    ck_assert_uint_gt(footer.index_entries, 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    reads_left = 1;
    read_error = -EIO;
    ck_assert_int_eq(twl_iter_load_index(&iter, &footer), -EIO);
    ck_assert_int_eq(twl_iter_load_index(&iter, &footer), 0);
    ck_assert_uint_eq(iter.index.count, footer.index_entries);
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    forget_log();
}

static struct keeper *keep(struct counters *counters, struct statistics *statistics)
{
    struct keeper *keeper;
    struct keeper_config config = {
        .io = io,
        .counters = counters,
        .statistics = statistics,
        .set = &set,
        .max_bytes = SEGMENT_MIN_BYTES,
        .can_recycle = true,
        .most_segments = MOST_SEGMENTS_TO_MAKE,
        .plan = { .number = set.max_number + 1, .sequence = set.max_sequence + 1, .bytes = SEGMENT_MIN_BYTES }
    };

    memcpy(config.plan.log_id, set.entries[0].header.log_id, LOG_ID_BYTES);
    ck_assert_int_eq(twl_keeper_create(&config, &keeper), 0);
    return keeper;
}

/* A process without descriptors has not as many segments as a log may have: no file takes the place of the new one. */
TEST(what_this_process_lacks_is_no_limit_of_the_log)
{
    const struct simdisk_fault no_new_file = {
        .op = SIM_CREATE, .nth = 1, .error = -EMFILE, .is_forever = true
    };
    const struct simdisk_fault no_file = { .op = SIM_OPEN, .nth = 1, .error = -EMFILE, .is_forever = true };
    struct statistics statistics = { 0 };
    struct counters counters = { 0 };
    struct segment segment;
    bool is_in_doubt;

    make_log(ROLLED);
    load_log();
    const char *name = set.entries[0].name;
    struct keeper *keeper = keep(&counters, &statistics);
    ck_assert_uint_eq(twl_keeper_retire(keeper, 2).segments, 1);
    simdisk_inject(disk, &no_new_file);
    ck_assert_int_eq(twl_keeper_restart(keeper, 1000, 0, 0, 1, &segment, &is_in_doubt), -EMFILE);
    simdisk_inject(disk, &no_file);
    ck_assert_int_eq(twl_keeper_wait(keeper, 1, 0, 1), 0);
    simdisk_inject(disk, NULL);
    ck_assert_int_eq(twl_segment_open_valid(io, name, &segment), 0);
    ck_assert_uint_eq(segment.header.incarnations, 0);
    twl_segment_close(&segment);
    twl_keeper_destroy(keeper);
    forget_log();
}

static const struct refused_row {
    const char *name;
    int error;
} refused_rows[] = {
    { "by its rights", -EACCES },
    { "by an attribute", -EPERM },
};

/* It is removed, and the next one is taken at once: a full disk may have room for no other. */
TEST_EACH(a_retired_file_that_may_not_be_written_is_passed_over, refused_rows)
{
    const struct simdisk_fault refused = { .op = SIM_OPEN, .nth = 1, .error = row->error };
    struct statistics statistics = { 0 };
    struct counters counters = { 0 };
    struct segment segment;

    make_log(ROLLED);
    load_log();
    const uint64_t newest = set.entries[set.started - 1].header.sequence;
    struct keeper *keeper = keep(&counters, &statistics);
    ck_assert_uint_ge(twl_keeper_retire(keeper, newest).segments, 2);
    simdisk_inject(disk, &refused);
    ck_assert_int_eq(twl_keeper_wait(keeper, 1, 0, 1), 0);
    simdisk_inject(disk, NULL);
    ck_assert_uint_eq(atomic_load(&counters.recycled_segments), 1);
    ck_assert(twl_keeper_take(keeper, 1, &segment));
    twl_segment_close(&segment);

    ck_assert_int_eq(twl_segment_open_valid(io, set.entries[0].name, &segment), -ENOENT);
    twl_keeper_destroy(keeper);
    forget_log();
}

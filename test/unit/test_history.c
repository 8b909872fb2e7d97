/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two histories of one log. A log is closed and copied, and the two go on by themselves, under the same LSNs. Each
 * record says which of them wrote it. Then files of the one are put among those of the other. No reader, in either
 * direction, passes from one history to the other without an error; verify calls the log damaged; repair tells that
 * it is not sure; opening refuses a newest segment that does not continue the one in front of it.
 */
#define _GNU_SOURCE
#include "../sim/rng.h"
#include "copies.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL_SEGMENT 65536u
#define PAYLOAD_BYTES 1000u

enum writer {
    NOBODY,
    OLD, /* before the copy was made */
    FIRST,
    SECOND,
};

static char second_dir[320], repaired_dir[320];

static void make_histories(void)
{
    logdir_make();
    snprintf(second_dir, sizeof(second_dir), "%s/second", log_parent);
    snprintf(repaired_dir, sizeof(repaired_dir), "%s/repaired", log_parent);
}

CASE("two histories", make_histories, logdir_remove);

/* ---- two logs ---------------------------------------------------------------------------------- */

static void append(const char *dir, enum writer writer, unsigned records)
{
    static unsigned char bytes[PAYLOAD_BYTES];
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = SMALL_SEGMENT, .flags = TWINLOG_BUFFERED);
    struct twinlog *log;

    ck_assert_int_eq(twinlog_open(dir, &options, &log), 0);
    for (unsigned i = 0; i < records; i++) {
        const struct twinlog_entry entry = { .data = bytes, .size = PAYLOAD_BYTES, .type = (uint8_t)writer };
        struct twinlog_terms terms = TWINLOG_TERMS_INIT;
        terms.level = i + 1 < records && i % 3 != 0 ? TWINLOG_LEVEL_BUFFERED : TWINLOG_LEVEL_DURABLE;
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
    }

    ck_assert_int_eq(twinlog_close(log), 0);
}

static void fork_history(unsigned old_records, unsigned first_records, unsigned second_records)
{
    append(log_dir, OLD, old_records);
    copy_directory(log_dir, second_dir);
    append(log_dir, FIRST, first_records);
    append(second_dir, SECOND, second_records);
}

static const struct twinlog_segment *find_segment(const struct listing *listing, uint64_t sequence)
{
    for (unsigned i = 0; i < listing->count; i++)
        if (listing->list[i].sequence == sequence)
            return &listing->list[i];
    return NULL;
}

/* Puts the second log's segment of that sequence in the place of the first log's. */
static void put_segment(uint64_t sequence)
{
    const struct listing first = list_started(log_dir), second = list_started(second_dir);
    const struct twinlog_segment *from = find_segment(&second, sequence);
    const struct twinlog_segment *to = find_segment(&first, sequence);
    char command[1400];

    ck_assert_ptr_nonnull(from);
    ck_assert_ptr_nonnull(to);
    snprintf(command, sizeof(command), "cp '%s/%s' '%s/%s'", second_dir, from->file, log_dir, to->file);
    ck_assert_int_eq(system(command), 0);
}

/* ---- what is asked of them --------------------------------------------------------------------- */

struct answers {
    int forwards, backwards, verify, open;
    unsigned losses; /* that repair tells */
    bool is_mixed;   /* the repaired log has records of both */
};

static int move(struct twinlog_reader *reader, bool is_back, struct twinlog_record *ret_record)
{
    if (is_back)
        return twinlog_reader_previous(reader, ret_record);
    return twinlog_reader_next(reader, ret_record);
}

/* Does one walk meet both of the two? The old one goes with either. */
static int walk(const char *dir, bool is_back, bool *ret_is_mixed)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    bool has[SECOND + 1] = { false };

    *ret_is_mixed = false;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;

    if (is_back)
        rc = twinlog_reader_seek_end(reader);
    if (rc == 0)
        rc = move(reader, is_back, &record);
    while (rc > 0) {
        has[record.type] = true;
        rc = move(reader, is_back, &record);
    }

    *ret_is_mixed = has[FIRST] && has[SECOND];
    twinlog_reader_close(reader);
    return rc;
}

static int count_loss(void *context, const struct twinlog_report *report)
{
    unsigned *losses = context;

    (void)report;
    (*losses)++;
    return 0;
}

static struct answers ask(void)
{
    struct answers answers = { 0 };
    bool is_mixed;

    answers.forwards = walk(log_dir, false, &is_mixed);
    ck_assert_msg(!is_mixed, "a reader went from one history to the other");
    answers.backwards = walk(log_dir, true, &is_mixed);
    ck_assert_msg(!is_mixed, "a reader went back from one history to the other");
    answers.verify = twinlog_verify(log_dir, NULL, NULL);

    const struct twinlog_repair_options options =
        WITH_SIZE(repair_options, .each = count_loss, .context = &answers.losses);
    if (twinlog_repair(log_dir, repaired_dir, &options, NULL) == 0)
        (void)walk(repaired_dir, false, &answers.is_mixed);
    else
        answers.losses++;
    remove_tree(repaired_dir);

    struct twinlog *log;
    answers.open = twinlog_open(log_dir, NULL, &log);
    if (answers.open == 0)
        ck_assert_int_eq(twinlog_close(log), 0);
    return answers;
}

static void expect_sound(struct answers answers)
{
    ck_assert_int_eq(answers.forwards, 0);
    ck_assert_int_eq(answers.backwards, 0);
    ck_assert_int_eq(answers.verify, 0);
    ck_assert_uint_eq(answers.losses, 0);
    ck_assert_int_eq(answers.open, 0);
    ck_assert(!answers.is_mixed);
}

static void expect_break(struct answers answers)
{
    ck_assert_int_eq(answers.forwards, TWINLOG_ECORRUPT);
    ck_assert_int_eq(answers.backwards, TWINLOG_ECORRUPT);
    ck_assert_int_eq(answers.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_gt(answers.losses, 0);
}

/* ---- tests ------------------------------------------------------------------------------------- */

TEST(each_history_by_itself_is_sound)
{
    fork_history(500, 700, 700);
    expect_sound(ask());
}

static const struct replaced {
    const char *name;
    unsigned newer; /* segments */
} replaced_segments[] = {
    { "the newest segment", 0 },
    { "the one before the newest", 1 },
    { "the third newest", 2 },
    { "the fourth newest", 3 },
};

/* The copies fill their segments in the same way, so that each LSN is where it would be. */
TEST_EACH(a_segment_of_the_other_history_is_a_break, replaced_segments)
{
    fork_history(500, 700, 700);
    const struct listing first = list_started(log_dir);
    put_segment(first.list[first.count - 1].sequence - row->newer);

    const struct answers answers = ask();
    expect_break(answers);
    if (row->newer == 0) /* opening looks at no older ones */
        ck_assert_int_eq(answers.open, TWINLOG_ECORRUPT);
}

TEST(a_segment_of_the_other_history_beside_that_of_the_log_is_refused)
{
    fork_history(500, 700, 700);
    const struct listing second = list_started(second_dir);
    char command[1400];
    snprintf(command, sizeof(command), "cp '%s/%s' '%s/00000000000000ff.twl'", second_dir,
             second.list[second.count - 1].file, log_dir);
    ck_assert_int_eq(system(command), 0);

    const struct answers answers = ask();
    ck_assert_int_eq(answers.open, TWINLOG_EFOREIGN);
    ck_assert_int_eq(answers.verify, TWINLOG_EFOREIGN);
}

TEST(a_truncation_behind_a_record_of_the_other_history_is_a_break)
{
    fork_history(10, 20, 20);
    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_truncate(log, 25), 0);
    log_close(log);
    append(log_dir, FIRST, 5);
    expect_sound(ask());

    put_segment(1);
    expect_break(ask());
}

/* Here both histories have a segment 2, and that of the other one has more records. Segment 3 begins, and is truncated
 * behind its first record, at LSNs that the longer segment has, too. */
TEST(a_longer_segment_in_front_of_a_truncated_one_is_a_break)
{
    append(log_dir, OLD, 60);
    copy_directory(log_dir, second_dir);
    for (unsigned i = 0; i < 12; i++) /* each opening takes space, so the segment has few records */
        append(log_dir, FIRST, 1);
    append(log_dir, FIRST, 40);
    append(second_dir, SECOND, 200);

    const struct listing first = list_started(log_dir), second = list_started(second_dir);
    const struct twinlog_segment *shorter = &first.list[1], *longer = &second.list[1];
    ck_assert_uint_eq(longer->sequence, shorter->sequence);
    ck_assert_uint_gt(longer->last_lsn, shorter->last_lsn + 1);

    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_truncate(log, shorter->last_lsn + 1), 0);
    log_close(log);
    append(log_dir, FIRST, 100);
    expect_sound(ask());

    put_segment(shorter->sequence);
    const struct answers answers = ask();
    ck_assert_int_eq(answers.verify, TWINLOG_ECORRUPT);
    ck_assert_int_eq(answers.backwards, TWINLOG_ECORRUPT);
    ck_assert_uint_gt(answers.losses, 0);
}

/* ---- which history ----------------------------------------------------------------------------- */

static struct twinlog_history ask_history(const char *dir, uint64_t lsn)
{
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    struct twinlog_reader *reader;

    ck_assert_int_eq(twinlog_reader_open(dir, NULL, &reader), 0);
    ck_assert_int_eq(twinlog_reader_history(reader, lsn, &history), 0);
    twinlog_reader_close(reader);
    return history;
}

static bool is_same(const struct twinlog_history *a, const struct twinlog_history *b)
{
    return memcmp(a->log_id, b->log_id, sizeof(a->log_id)) == 0 && a->epoch == b->epoch && a->salt == b->salt;
}

/* As twinlog_admin.h says. */
static uint64_t last_common_lsn(const char *one, const char *other, uint64_t lsn)
{
    while (lsn > 0) {
        const struct twinlog_history a = ask_history(one, lsn), b = ask_history(other, lsn);
        if (is_same(&a, &b))
            break;
        lsn = (a.first_lsn > b.first_lsn ? a.first_lsn : b.first_lsn) - 1;
    }

    return lsn;
}

TEST(the_epochs_tell_from_where_two_histories_differ)
{
    append(log_dir, OLD, 90);
    fork_history(200, 700, 700);
    append(log_dir, FIRST, 10);
    append(second_dir, SECOND, 100);
    ck_assert_uint_eq(last_common_lsn(log_dir, second_dir, 1000), 290);
    ck_assert_uint_eq(last_common_lsn(log_dir, second_dir, 290), 290);
    ck_assert_uint_eq(last_common_lsn(log_dir, second_dir, 120), 120);
    const struct twinlog_history newest = ask_history(log_dir, 0);
    ck_assert_uint_eq(newest.lsn, 1000);
    ck_assert_uint_eq(newest.first_lsn, 991);
    ck_assert_uint_eq(ask_history(log_dir, 91).first_lsn, 91);
    ck_assert_uint_eq(ask_history(log_dir, 90).first_lsn, 1);
}

static const struct way_to_read {
    const char *name;
    uint32_t flags;
} ways_to_read[] = {
    { "reading", 0 },
    { "mapping", TWINLOG_READER_MMAP },
};

TEST_EACH(each_record_tells_of_which_history_it_is, ways_to_read)
{
    static const uint64_t begins[] = { 1, 91, 291, 991, 1001 };
    const struct twinlog_reader_options options = WITH_SIZE(reader_options, .flags = row->flags);
    struct twinlog_reader *reader;
    struct twinlog_record record;

    append(log_dir, OLD, 90);
    fork_history(200, 700, 1);
    append(log_dir, FIRST, 10);

    ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t salt = ask_history(log_dir, begins[i]).salt;
        for (uint64_t lsn = begins[i]; lsn < begins[i + 1]; lsn++) {
            ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
            ck_assert_uint_eq(record.lsn, lsn);
            ck_assert_uint_eq(record.salt, salt);
        }
    }

    for (unsigned i = 4; i-- > 0;) {
        const uint32_t salt = ask_history(log_dir, begins[i]).salt;
        for (uint64_t lsn = begins[i + 1]; lsn-- > begins[i];) {
            ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
            ck_assert_uint_eq(record.lsn, lsn);
            ck_assert_uint_eq(record.salt, salt);
        }
    }

    twinlog_reader_close(reader);
}

TEST(a_truncation_begins_another_history)
{
    append(log_dir, OLD, 500);
    copy_directory(log_dir, second_dir);
    struct twinlog *log = log_open(NULL);
    log_trim_before(log, 60);
    ck_assert_int_eq(twinlog_truncate(log, 100), 0);
    log_close(log);
    append(log_dir, FIRST, 600);
    ck_assert_uint_eq(last_common_lsn(log_dir, second_dir, 500), 100);
    ck_assert_uint_eq(ask_history(log_dir, 100).first_lsn, 60);

    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    ck_assert_int_eq(twinlog_reader_history(reader, 59, &history), TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_reader_history(reader, 701, &history), -ERANGE);
    ck_assert_int_eq(twinlog_reader_history(reader, 650, &history), 0);

    struct twinlog_record record;
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1); /* its place stays */
    ck_assert_uint_eq(record.lsn, 60);
    twinlog_reader_close(reader);
}

/* ---- random schedules -------------------------------------------------------------------------- */

static struct rng rng;

/* As one that is killed; then a sector of its newest segment is lost. */
static void append_mapped(const char *dir, enum writer writer, unsigned records, bool is_cut)
{
    static unsigned char bytes[PAYLOAD_BYTES];
    const pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const struct twinlog_options options =
            WITH_SIZE(options, .segment_bytes = SMALL_SEGMENT, .mapped_bytes = SMALL_SEGMENT,
                      .max_record_bytes = 4096, .mode = TWINLOG_MODE_MAPPED);
        struct twinlog *log;
        int rc = twinlog_open(dir, &options, &log);
        for (unsigned i = 0; rc == 0 && i < records; i++) {
            const struct twinlog_entry entry = { .data = bytes,
                                                 .size = PAYLOAD_BYTES,
                                                 .type = (uint8_t)writer };
            rc = twinlog_append_batch(log, &entry, 1, NULL, NULL);
        }
        _exit(rc < 0);
    }

    ck_assert_int_eq(wait_child(child), 0);
    if (!is_cut)
        return;
    const struct listing listing = list_started(dir);
    const struct twinlog_segment *newest = &listing.list[listing.count - 1];
    char path[1000];
    snprintf(path, sizeof(path), "%s/%s", dir, newest->file);
    if (newest->data_bytes > 8 * PAYLOAD_BYTES)
        patch_file(path, 4096 + (off_t)newest->data_bytes / 2, (unsigned char[512]){ 0 }, 512);
}

static void change(const char *dir, enum writer writer)
{
    const unsigned records = 1 + (unsigned)rng_below(&rng, 200);
    const uint64_t what = rng_below(&rng, 6);

    if (what == 0 || what == 1) {
        struct twinlog *log;
        ck_assert_int_eq(twinlog_open(dir, NULL, &log), 0);
        const uint64_t first = twinlog_first_lsn(log), last = twinlog_last_lsn(log);
        if (what == 0 && last > first)
            ck_assert_int_eq(twinlog_truncate(log, first + rng_below(&rng, last - first)), 0);
        else if (rng_below(&rng, 4) == 0)
            ck_assert_int_eq(twinlog_reset(log, last + 1), 0);
        ck_assert_int_eq(twinlog_close(log), 0);
    } else if (what == 2) {
        append_mapped(dir, writer, records, rng_below(&rng, 2) == 0);
    }

    append(dir, writer, records);
}

/* Each record that can be read at all, by itself. */
static bool is_mixed(const char *dir)
{
    bool has[SECOND + 1] = { false };
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t first, last;

    if (twinlog_reader_open(dir, NULL, &reader) < 0)
        return false;
    (void)twinlog_reader_seek_end(reader);
    if (twinlog_reader_range(reader, &first, &last) == 0)
        for (uint64_t lsn = first; lsn <= last; lsn++)
            if (twinlog_reader_seek(reader, lsn) == 0 && twinlog_reader_next(reader, &record) > 0)
                has[record.type] = true;
    twinlog_reader_close(reader);
    return has[FIRST] && has[SECOND];
}

static void put_random_segments(void)
{
    const struct listing first = list_started(log_dir), second = list_started(second_dir);

    for (unsigned tries = 0; tries < 3; tries++) {
        const uint64_t sequence = first.list[rng_below(&rng, first.count)].sequence;
        for (unsigned i = 0; i < second.count; i++)
            if (second.list[i].sequence == sequence && twinlog_verify(log_dir, NULL, NULL) == 0)
                put_segment(sequence);
    }
}

static void run_schedule(void)
{
    append(log_dir, OLD, 50 + (unsigned)rng_below(&rng, 300));
    copy_directory(log_dir, second_dir);
    for (uint64_t i = 1 + rng_below(&rng, 4); i > 0; i--)
        change(log_dir, FIRST);
    for (uint64_t i = 1 + rng_below(&rng, 4); i > 0; i--)
        change(second_dir, SECOND);
    expect_sound(ask());

    put_random_segments();
    const bool was_mixed = is_mixed(log_dir);
    const struct answers answers = ask();
    if (was_mixed)
        ck_assert_int_eq(answers.verify, TWINLOG_ECORRUPT);
    if (was_mixed || answers.is_mixed)
        ck_assert_uint_gt(answers.losses, 0);
    remove_tree(log_dir);
    remove_tree(second_dir);
}

/* TWINLOG_SCHEDULES of them, else a few. */
TEST(no_schedule_mixes_them_in_silence)
{
    const char *given = getenv("TWINLOG_SCHEDULES");

    rng.state = test_seed();
    for (unsigned left = given ? (unsigned)strtoul(given, NULL, 0) : 6; left > 0; left--)
        run_schedule();
}

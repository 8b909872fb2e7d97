/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers: they go on where the last one ended, alone under their name, and miss no trim and no truncation. */
#define _GNU_SOURCE
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "base/bytes.h"
#include "control/state.h"
#include "log/log.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define NAME "mailer"

static struct twinlog_report report;

static int try_open(const char *name, uint32_t flags, struct twinlog_consumer **ret_consumer)
{
    const struct twinlog_consumer_options options =
        WITH_SIZE(consumer_options, .flags = flags, .ret_report = &report);

    memset(&report, 0, sizeof(report));
    return twinlog_consumer_open(log_dir, name, &options, ret_consumer);
}

static struct twinlog_consumer *open_consumer(uint32_t flags)
{
    struct twinlog_consumer *consumer;
    ck_assert_int_eq(try_open(NAME, flags, &consumer), 0);
    return consumer;
}

/* A record says its LSN, and the life that it belongs to, which is one more after a truncation. */
static void put(struct twinlog *log, unsigned life, unsigned count)
{
    char text[64];

    for (unsigned i = 0; i < count; i++) {
        const int size =
            snprintf(text, sizeof(text), "%u in life %u", (unsigned)twinlog_last_lsn(log) + 1, life);
        ck_assert_int_eq(twinlog_enqueue(log, text, (size_t)size, NULL), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
}

static void expect_next(struct twinlog_consumer *consumer, unsigned lsn, unsigned life)
{
    struct twinlog_record record;
    char text[64];
    const int size = snprintf(text, sizeof(text), "%u in life %u", lsn, life);

    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    ck_assert_uint_eq(record.size, (size_t)size);
    ck_assert_mem_eq(record.data, text, record.size);
}

static void expect_all(struct twinlog_consumer *consumer, unsigned from, unsigned to, unsigned life)
{
    for (unsigned lsn = from; lsn <= to; lsn++)
        expect_next(consumer, lsn, life);
}

static void expect_no_next(struct twinlog_consumer *consumer, int result)
{
    struct twinlog_record record;
    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), result);
}

static uint64_t cursor_of(struct twinlog *log)
{
    uint64_t lsn = 0;
    ck_assert_int_eq(twinlog_cursor_get(log, NAME, &lsn), 0);
    return lsn;
}

/* Also where the log goes on. */
static void expect_told(struct twinlog_consumer *consumer, int result, uint64_t first_lsn)
{
    expect_no_next(consumer, result);
    ck_assert_uint_eq(report.first_lsn, first_lsn);
}

/* What was returned ends with that record. */
static void commit_up_to(struct twinlog_consumer *consumer, struct twinlog *log, uint64_t lsn)
{
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    ck_assert_uint_eq(cursor_of(log), lsn);
}

static void close_both(struct twinlog_consumer *consumer, struct twinlog *log)
{
    twinlog_consumer_close(consumer);
    log_close(log);
}

static void trim(struct twinlog *log, uint64_t before_lsn, uint32_t flags)
{
    const struct twinlog_trim_options options =
        WITH_SIZE(trim_options, .before_lsn = before_lsn, .flags = flags);
    ck_assert_int_eq(twinlog_trim(log, &options, NULL), 0);
}

static struct twinlog *make_log(unsigned count)
{
    struct twinlog *log = log_open(NULL);
    put(log, 0, count);
    return log;
}

CASE("there and on", logdir_make, logdir_remove);

static const struct {
    const char *name;
    uint32_t mode;  /* of the log */
    uint32_t flags; /* of the consumer */
} modes[] = {
    { "durable", TWINLOG_MODE_DURABLE, 0 },
    { "mapped", TWINLOG_MODE_MAPPED, 0 },
    { "shared", TWINLOG_MODE_SHARED, 0 },
    { "durable, a mapping consumer", TWINLOG_MODE_DURABLE, TWINLOG_CONSUMER_MMAP },
    { "mapped, a mapping consumer", TWINLOG_MODE_MAPPED, TWINLOG_CONSUMER_MMAP },
    { "shared, a mapping consumer", TWINLOG_MODE_SHARED, TWINLOG_CONSUMER_MMAP },
};

TEST_EACH(a_consumer_goes_on_where_the_last_one_ended_in_every_mode, modes)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));

    put(log, 0, 100);
    struct twinlog_consumer *consumer = open_consumer(row->flags);
    expect_all(consumer, 1, 40, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 30), 0);
    ck_assert_uint_eq(cursor_of(log), 30);
    twinlog_consumer_close(consumer);

    consumer = open_consumer(row->flags);
    expect_all(consumer, 31, 100, 0);
    expect_no_next(consumer, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 101), -EINVAL);
    commit_up_to(consumer, log, 100);

    put(log, 0, 1);
    ck_assert_int_eq(twinlog_reader_wait(twinlog_consumer_reader(consumer), -1), 1);
    expect_next(consumer, 101, 0);
    twinlog_consumer_close(consumer);
    log_close(log);
}

TEST_EACH(a_consumer_goes_on_without_a_writer, modes)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));

    put(log, 0, 101);
    struct twinlog_consumer *consumer = open_consumer(row->flags);
    expect_all(consumer, 1, 100, 0);
    commit_up_to(consumer, log, 100);
    close_both(consumer, log);

    consumer = open_consumer(row->flags);
    expect_next(consumer, 101, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 50), 0); /* it stays where it is */
    twinlog_consumer_close(consumer);

    consumer = open_consumer(row->flags);
    expect_no_next(consumer, 0);
    twinlog_consumer_close(consumer);
}

TEST(no_trim_passes_a_new_consumer)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(0);

    trim(log, 101, 0);
    expect_all(consumer, 1, 60, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    trim(log, 101, 0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 61);
    expect_all(consumer, 61, 100, 0);
    close_both(consumer, log);
}

TEST(a_new_consumer_may_begin_at_the_end)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(TWINLOG_CONSUMER_FROM_END);

    ck_assert_uint_eq(cursor_of(log), 100);
    expect_no_next(consumer, 0);
    put(log, 0, 2);
    expect_next(consumer, 101, 0);
    twinlog_consumer_close(consumer);
    consumer = open_consumer(TWINLOG_CONSUMER_FROM_END); /* it is not new any more */
    expect_next(consumer, 101, 0);
    close_both(consumer, log);
}

CASE("one at a time", logdir_make, logdir_remove);

static struct {
    _Atomic unsigned step;
} * holder;

static int hold_for_ever(void)
{
    struct twinlog_consumer *consumer;

    EXPECT(twinlog_consumer_open(log_dir, NAME, NULL, &consumer) == 0);
    atomic_store(&holder->step, 1);
    for (;;)
        pause();
}

static void expect_busy(void)
{
    struct twinlog_consumer *consumer;

    ck_assert_int_eq(try_open(NAME, 0, &consumer), -EBUSY);
    ck_assert_int_eq(report.error, -EBUSY);
    ck_assert_ptr_nonnull(strstr(report.text, "a consumer of this name is open"));
}

TEST(a_second_consumer_of_a_name_is_refused)
{
    log_close(make_log(3));
    holder = shared_page();
    const pid_t child = start_child(hold_for_ever);
    while (atomic_load(&holder->step) == 0)
        usleep(1000);
    expect_busy();
    struct twinlog_consumer *other;
    ck_assert_int_eq(try_open("archiver", 0, &other), 0);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    struct twinlog_consumer *consumer = open_consumer(0);
    expect_busy();
    expect_next(consumer, 1, 0);
    expect_next(other, 1, 0);
    twinlog_consumer_close(other);
    twinlog_consumer_close(consumer);
    twinlog_consumer_close(open_consumer(0));
}

static struct twinlog_consumer *parents;

static int consume_in_child(void)
{
    struct twinlog_record record;

    EXPECT(twinlog_consumer_next(parents, &record) == TWINLOG_EFORKED);
    EXPECT(twinlog_consumer_commit(parents, 1) == TWINLOG_EFORKED);
    twinlog_consumer_close(parents);
    return 0;
}

TEST(a_forked_child_neither_consumes_nor_keeps_the_name)
{
    log_close(make_log(3));
    parents = open_consumer(0);
    expect_next(parents, 1, 0);
    ck_assert_int_eq(run_child(consume_in_child), 0);
    expect_busy();
    ck_assert_int_eq(twinlog_consumer_commit(parents, 0), 0);
    twinlog_consumer_close(parents);
    struct twinlog_consumer *consumer = open_consumer(0);
    expect_next(consumer, 2, 0);
    twinlog_consumer_close(consumer);
}

static int wait_for_ever(void *context)
{
    (void)context;
    while (pause() < 0)
        continue;
    return 0;
}

/* As posix_spawn() does in another thread: the child has the parent's open files until it runs its program. */
TEST(a_child_that_is_about_to_run_a_program_does_not_keep_the_name)
{
    static _Alignas(64) char stack[65536];

    log_close(make_log(1));
    struct twinlog_consumer *consumer = open_consumer(0);
    const pid_t child = clone(wait_for_ever, stack + sizeof(stack), SIGCHLD, NULL);
    ck_assert_int_gt(child, 0);
    twinlog_consumer_close(consumer);
    const int rc = try_open(NAME, 0, &consumer);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(rc, 0);
    twinlog_consumer_close(consumer);
}

TEST(what_is_no_consumer_is_refused)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    char name[TWINLOG_NAME_BYTES + 1];

    ck_assert_int_eq(try_open(NAME, 0, &consumer), -ENOENT);
    log_close(make_log(1));
    memset(name, 'n', sizeof(name));
    name[TWINLOG_NAME_BYTES] = '\0';
    ck_assert_int_eq(try_open(name, 0, &consumer), -EINVAL);
    ck_assert_int_eq(try_open("", 0, &consumer), -EINVAL);
    ck_assert_int_eq(try_open(NAME, 8, &consumer), -EINVAL);
    ck_assert_int_eq(twinlog_consumer_open(log_dir, NAME, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_consumer_open(log_dir, NULL, NULL, &consumer), -EINVAL);
    ck_assert_int_eq(twinlog_consumer_next(NULL, &record), -EINVAL);
    ck_assert_int_eq(twinlog_consumer_commit(NULL, 0), -EINVAL);
    ck_assert_ptr_null(twinlog_consumer_reader(NULL));
    twinlog_consumer_close(NULL);
    name[TWINLOG_NAME_BYTES - 1] = '\0';
    ck_assert_int_eq(try_open(name, 0, &consumer), 0);
    ck_assert_int_eq(twinlog_consumer_next(consumer, NULL), -EINVAL);
    twinlog_consumer_close(consumer);
}

CASE("what is removed", logdir_make, logdir_remove);

TEST(a_trim_that_passes_the_cursor_is_told_once)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 20, 0);
    trim(log, 51, TWINLOG_TRIM_PAST_CURSORS);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 20), TWINLOG_ETRIMMED);
    ck_assert_uint_eq(cursor_of(log), 50);
    expect_told(consumer, TWINLOG_ETRIMMED, 51);
    expect_all(consumer, 51, 100, 0);
    commit_up_to(consumer, log, 100);
    close_both(consumer, log);
}

/* Has returned 80 of 100 records, and committed so many. */
static struct twinlog_consumer *finish_with(uint64_t committed_lsn)
{
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 80, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, committed_lsn), 0);
    return consumer;
}

/* Of a truncation to 50, behind which 100 records were appended in the second life. */
static void expect_truncation_told_once(struct twinlog_consumer *consumer, struct twinlog *log)
{
    ck_assert_uint_eq(cursor_of(log), 50);
    expect_told(consumer, TWINLOG_ETRUNCATED, 51);

    expect_all(consumer, 51, 60, 1);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 61), -EINVAL);
    commit_up_to(consumer, log, 60); /* although it was further in the first life */
    expect_all(consumer, 61, 150, 1);
    close_both(consumer, log);
}

TEST(a_truncation_of_what_was_finished_with_is_told_by_the_next_move)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = finish_with(70);

    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    put(log, 1, 100);
    expect_truncation_told_once(consumer, log);
}

TEST(a_truncation_of_what_was_finished_with_is_told_by_a_commit)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = finish_with(70);

    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    put(log, 1, 100);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), TWINLOG_ETRUNCATED);
    expect_truncation_told_once(consumer, log);
}

/* The truncation has moved the cursor back since. */
TEST(a_truncation_is_told_by_a_commit_of_what_was_committed_before)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = finish_with(80);

    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 80), TWINLOG_ETRUNCATED);
    put(log, 1, 100);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), TWINLOG_ETRUNCATED);
    expect_truncation_told_once(consumer, log);
}

TEST(a_truncation_is_told_to_a_consumer_that_has_returned_nothing_since_its_opening)
{
    struct twinlog *log = make_log(100);

    twinlog_consumer_close(finish_with(70));
    struct twinlog_consumer *consumer = open_consumer(0);

    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    put(log, 1, 100);
    expect_truncation_told_once(consumer, log);
}

TEST(a_reset_is_told_also_when_all_was_finished_with_and_trimmed)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 100, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    trim(log, 101, 0);
    twinlog_consumer_close(consumer);
    consumer = open_consumer(0);
    ck_assert_int_eq(twinlog_reset(log, 10), 0);
    put(log, 1, 200);
    expect_no_next(consumer, TWINLOG_ETRUNCATED);
    expect_all(consumer, 10, 209, 1);
    close_both(consumer, log);
}

static int put_cursor(void *context, struct state *state)
{
    unsigned char value[8];

    store_le64(value, *(const uint64_t *)context);
    const int rc = twl_state_put(state, STATE_CURSOR, NAME, value, sizeof(value));
    return rc < 0 ? rc : 1;
}

/* The truncation has its segment, and has not moved the cursor yet. */
TEST(a_consumer_that_comes_in_the_middle_of_a_truncation_begins_at_the_end)
{
    struct twinlog *log = make_log(100);
    uint64_t lsn = 70;

    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    struct io *io = log_io(true);
    ck_assert_int_eq(twl_state_change(io, put_cursor, &lsn), 0);
    io->ops->destroy(io);
    struct twinlog_consumer *consumer = open_consumer(0);
    put(log, 1, 50);
    expect_all(consumer, 51, 60, 1);
    commit_up_to(consumer, log, 60);
    expect_all(consumer, 61, 100, 1);
    close_both(consumer, log);
}

static void notice_nothing(struct twinlog_consumer *consumer)
{
    (void)consumer;
}

static void notice_by_a_commit(struct twinlog_consumer *consumer)
{
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), TWINLOG_ETRUNCATED);
}

static void notice_by_a_wait(struct twinlog_consumer *consumer)
{
    ck_assert_int_eq(twinlog_reader_wait(twinlog_consumer_reader(consumer), -1), 1);
}

static const struct {
    const char *name;
    void (*notice)(struct twinlog_consumer *consumer); /* the first one */
} first_truncations[] = {
    { "the next move would tell of the first one", notice_nothing },
    { "a commit has told of the first one", notice_by_a_commit },
    { "a wait has found the first one", notice_by_a_wait },
};

TEST_EACH(the_second_of_two_truncations_is_not_missed, first_truncations)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 80, 0);
    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    row->notice(consumer);
    ck_assert_int_eq(twinlog_truncate(log, 20), 0);
    put(log, 1, 100);
    expect_told(consumer, TWINLOG_ETRUNCATED, 21);
    expect_all(consumer, 21, 120, 1);
    commit_up_to(consumer, log, 120);
    close_both(consumer, log);
}

/* The consumer opens while the newest segment is one that the second truncation removes. */
TEST(a_truncation_behind_what_was_finished_with_is_not_told)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 50, 0);
    commit_up_to(consumer, log, 50);
    twinlog_consumer_close(consumer);
    ck_assert_int_eq(twinlog_truncate(log, 80), 0);
    put(log, 1, 10);
    consumer = open_consumer(0);
    ck_assert_int_eq(twinlog_truncate(log, 80), 0);
    put(log, 2, 10);
    expect_all(consumer, 51, 80, 0);
    expect_all(consumer, 81, 90, 2);
    close_both(consumer, log);
}

/* A truncation to 50 behind a consumer, and 50 records in its place. */
static struct twinlog_consumer *truncate_behind_consumer(struct twinlog *log)
{
    struct twinlog_consumer *consumer = open_consumer(0);

    expect_all(consumer, 1, 80, 0);
    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    put(log, 1, 50);
    return consumer;
}

static void expect_next_lsn(struct twinlog_consumer *consumer, uint64_t lsn)
{
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
}

TEST(a_trim_that_leaves_the_segment_which_begins_a_truncation_does_not_hide_it)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = truncate_behind_consumer(log);

    put(log, 2, 100);
    trim(log, 91, TWINLOG_TRIM_PAST_CURSORS);
    expect_told(consumer, TWINLOG_ETRUNCATED, 51);
    expect_told(consumer, TWINLOG_ETRIMMED, 91);
    expect_next_lsn(consumer, 91);
    close_both(consumer, log);
}

/* So it is not known where the first one began. */
TEST(a_trim_that_leaves_only_the_segment_of_a_second_truncation_does_not_hide_the_first)
{
    struct twinlog *log = make_log(100);
    struct twinlog_consumer *consumer = truncate_behind_consumer(log);

    ck_assert_int_eq(twinlog_truncate(log, 70), 0);
    put(log, 2, 100);
    trim(log, 71, TWINLOG_TRIM_PAST_CURSORS);
    expect_told(consumer, TWINLOG_ETRUNCATED, 1);
    expect_told(consumer, TWINLOG_ETRIMMED, 71);
    expect_next_lsn(consumer, 71);
    close_both(consumer, log);
}

static void spoil(const char *words)
{
    static char bytes[1024 * 1024];
    FILE *file = fopen(log_segment(1), "r");

    ck_assert_ptr_nonnull(file);
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    const char *found = memmem(bytes, size, words, strlen(words));
    ck_assert_ptr_nonnull(found);
    patch_file(log_segment(1), found - bytes, "?", 1);
}

TEST(what_is_in_front_of_damage_can_be_committed)
{
    struct twinlog *log = make_log(100);

    put(log, 0, 100);
    spoil("150 in life 0");
    struct twinlog_consumer *consumer = open_consumer(0);
    struct twinlog_record record;
    int rc;
    while ((rc = twinlog_consumer_next(consumer, &record)) > 0)
        continue;
    ck_assert_int_eq(rc, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(record.lsn, 149);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    ck_assert_uint_eq(cursor_of(log), 149);
    expect_no_next(consumer, TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_truncate(log, 120), 0);
    put(log, 1, 1);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), TWINLOG_ETRUNCATED);
    expect_told(consumer, TWINLOG_ETRUNCATED, 121);
    expect_next(consumer, 121, 1);
    twinlog_consumer_close(consumer);
    log_close(log);
}

static struct twinlog *writer;
static unsigned locks;

/* The locks of an opening: the name, then the state file, for the cursor. */
static int truncate_before_lock(const struct hooked_call *call)
{
    if (call->op == SIM_LOCK && ++locks == 2)
        ck_assert_int_eq(twinlog_truncate(writer, 50), 0);
    return 0;
}

static struct twinlog_consumer *faster;

/* Another consumer of the name has it in a new file. */
static int replace_before_lock(const struct hooked_call *call)
{
    if (call->op != SIM_LOCK || ++locks > 1)
        return 0;
    ck_assert_int_eq(unlink(log_file("consumers")), 0);
    faster = open_consumer(0);
    return 0;
}

static int remove_before_lock(const struct hooked_call *call)
{
    if (call->op == SIM_LOCK && ++locks == 1)
        ck_assert_int_eq(unlink(log_file("consumers")), 0);
    return 0;
}

TEST(a_name_is_taken_in_the_file_that_others_find)
{
    const struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;
    struct twinlog_consumer *consumer, *later;

    log_close(make_log(10));
    locks = 0;
    ck_assert_int_eq(twl_consumer_open(hooked_log_dir(replace_before_lock), NAME, &options, &consumer),
                     -EBUSY);
    twinlog_consumer_close(faster);

    locks = 0;
    ck_assert_int_eq(twl_consumer_open(hooked_log_dir(remove_before_lock), NAME, &options, &consumer), 0);
    ck_assert_int_eq(try_open(NAME, 0, &later), -EBUSY);
    twinlog_consumer_close(consumer);
}

TEST(a_truncation_while_a_cursor_is_made_at_the_end_is_no_error)
{
    const struct twinlog_consumer_options options =
        WITH_SIZE(consumer_options, .flags = TWINLOG_CONSUMER_FROM_END);
    struct twinlog_consumer *consumer;

    writer = make_log(100);
    ck_assert_int_eq(twl_consumer_open(hooked_log_dir(truncate_before_lock), NAME, &options, &consumer), 0);
    ck_assert_uint_eq(twinlog_last_lsn(writer), 50);
    ck_assert_uint_eq(cursor_of(writer), 50);
    put(writer, 1, 1);
    expect_next(consumer, 51, 1);
    twinlog_consumer_close(consumer);
    log_close(writer);
}

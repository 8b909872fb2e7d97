/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_SHARED: several processes append to one log. What one process sees of it is what the suite "mapped" is
 * about; here they come, go and trim beside each other.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "control/state.h"
#include "format/format.h"
#include "gate.h"
#include "hooked.h"
#include "log/handle.h"
#include "mapped/participants.h"
#include "members.h"
#include "suites.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

CASE("coming and going", set_up_members, logdir_remove);

TEST_LOOP(all_may_make_a_new_log_at_once, 3)
{
    struct member *members[4];

    atomic_store(&sharing->expected, 4);
    for (unsigned i = 0; i < 4; i++) {
        members[i] = start_member(i);
        post(members[i], open_together, 0);
    }
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(answer(members[i]), 0);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < i; k++)
            ck_assert_uint_ne(atomic_load(&members[i]->number), atomic_load(&members[k]->number));
        post(members[i], append_some, 150);
    }
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(answer(members[i]), 0);
    ck_assert_int_eq(ask(members[_i], sync_log, 0), 0); /* a check goes as far as a live log is durable */
    ck_assert_uint_eq(expect_all(0, 0), 600);
    for (unsigned i = 0; i < 4; i++)
        close_by(members[i]);
    ck_assert_uint_eq(expect_all(0, 0), 600);
    expect_clean_opening(TWINLOG_MODE_SHARED, 600);
}

static uint64_t bytes_of_all(void)
{
    unsigned char bytes[RECORD_ROOM];
    uint64_t sum = 0;

    for (unsigned i = 0; i < MEMBERS; i++)
        for (uint32_t k = 0; k < atomic_load(&sharing->members[i].appended); k++)
            sum += twl_record_bytes((uint32_t)make_record(writer_of(&sharing->members[i]), k, bytes));
    return sum;
}

/* The process that opened it goes first. */
TEST_EACH(the_last_one_to_leave_closes_the_log, log_modes)
{
    struct member *members[3];

    for (unsigned i = 0; i < 3; i++)
        members[i] = come(i);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = i; k < 3; k++)
            append_by(members[k], 5);
        ck_assert_uint_eq(size_of_segment(2), SEGMENT_BYTES);
        close_by(members[i]);
    }
    const uint64_t end = align_up(OPEN_RECORDS_OFFSET + bytes_of_all(), BLOCK_BYTES);
    ck_assert_uint_eq(size_of_segment(2), end + BLOCK_BYTES + SEGMENT_MARKER_BYTES);
    ck_assert(!has_segment(3));
    ck_assert_uint_eq(log_count_files(), 4); /* with the state and the lock */
    ck_assert_uint_eq(expect_all(0, 0), 30);
    expect_clean_opening(row->mode, 30);
    expect_going_on(row->mode, 0, 0);
}

#define ROUNDS 25u

TEST(one_of_two_that_leave_at_once_closes_the_log)
{
    struct member *members[2] = { start_member(0), start_member(1) };

    atomic_store(&sharing->expected, 2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 2; i++) {
            ck_assert_int_eq(ask(members[i], open_log, 0), 0);
            append_by(members[i], 2);
        }
        atomic_store(&sharing->arrived, 0);
        for (unsigned i = 0; i < 2; i++)
            post(members[i], close_together, 0);
        for (unsigned i = 0; i < 2; i++)
            ck_assert_int_eq(answer(members[i]), 0);
        expect_clean_opening(round & 1 ? TWINLOG_MODE_SHARED : TWINLOG_MODE_MAPPED, (round + 1) * 4);
    }
    ck_assert_uint_eq(expect_all(0, 0), ROUNDS * 4);
}

static int begin_to_leave(void)
{
    return twl_participants_become_last(&own_log->participants);
}

static int end_leaving(void)
{
    twl_log_destroy(own_log);
    return 0;
}

static int before_writers_lock(const struct hooked_call *call)
{
    static bool was_stopped;

    if (call->op == SIM_LOCK && call->lock == IO_LOCK_WRITER && atomic_load(&self->with) && !was_stopped) {
        was_stopped = true;
        raise(SIGSTOP);
    }
    return 0;
}

static int open_to_be_stopped(void)
{
    struct twinlog_options options = shared_options(LOG_NO_THREADS);

    return log_try_on(hooked_log_dir(before_writers_lock), &options, &own_log);
}

static struct member *start_one_to_be_stopped(void)
{
    struct member *member = start_member(1);

    ck_assert_int_eq(ask(member, open_to_be_stopped, 0), 0);
    append_by(member, 3);
    return member;
}

/* Beside one that is stopped while it leaves. */
static void go_on_in_shared_mode(void)
{
    const struct twinlog_options durable = small(TWINLOG_MODE_DURABLE);
    struct twinlog *log;

    ck_assert_int_eq(log_try(&durable, &log), -EBUSY);
    log = open_shared(0);
    append_records(log, 0, 0, 300);
    log_close(log);
}

/* Then none is the last one. The others go on beside it, and it is in no later log. */
TEST(one_that_is_stopped_before_it_looks_whether_it_is_the_last_is_there)
{
    struct member *second = come(0), *stopped = start_one_to_be_stopped();

    post(stopped, close_log, 1);
    wait_until_stopped(atomic_load(&stopped->pid));
    append_by(second, 600);
    close_by(second);
    go_on_in_shared_mode();

    continue_member(stopped);
    ck_assert_int_eq(answer(stopped), 0);
    expect_clean_opening(TWINLOG_MODE_SHARED, 903);
    expect_going_on(TWINLOG_MODE_DURABLE, 300, 0);
}

TEST(one_that_is_stopped_when_it_has_looked_whether_it_is_the_last_is_there)
{
    struct member *second = come(0), *stopped = start_one_to_be_stopped();

    ck_assert_int_eq(ask(stopped, begin_to_leave, 0), false);
    append_by(second, 600);
    end_member(second);
    go_on_in_shared_mode();

    ck_assert_int_eq(ask(stopped, end_leaving, 0), 0);
    expect_going_on(TWINLOG_MODE_DURABLE, 300, 0);
}

/* One comes while the other one goes: it finds the log open, closed or on the way, and is there in the end. */
TEST(one_comes_while_the_last_one_goes)
{
    struct member *members[2] = { come(0), start_member(1) };

    atomic_store(&sharing->expected, 2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_store(&sharing->arrived, 0);
        post(members[0], close_together, 0);
        post(members[1], open_together, 0);
        for (unsigned i = 0; i < 2; i++)
            ck_assert_int_eq(answer(members[i]), 0);
        append_by(members[1], 3);
        struct member *const last = members[0];
        members[0] = members[1];
        members[1] = last;
    }
    close_by(members[0]);
    ck_assert_uint_eq(expect_all(0, 0), ROUNDS * 3);
}

static const struct joiner {
    const char *name;
    uint32_t flags;
} joiners[] = {
    { "with threads", 0 },
    { "without threads", LOG_NO_THREADS },
};

TEST_EACH(a_joiner_begins_with_the_oldest_open_segment, joiners)
{
    struct member *first = come(0);

    append_by(first, 600);
    struct common *common = map_common();
    AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    ck_assert_uint_gt(atomic_load(&common->newest), 5);

    struct twinlog *log = open_shared(row->flags);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NOTHING);
    ck_assert_uint_eq(log->mapped->all->number, atomic_load(&common->newest));
    ck_assert_uint_eq(twinlog_last_lsn(log), 600);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    ck_assert_uint_eq(append_records(log, 0, 0, 1), 601);
    append_by(first, 300);
    ck_assert_uint_eq(append_records(log, 0, 1, 300), 1201);
    log_close(log);
    append_by(first, 300);
    close_by(first);
    ck_assert_uint_eq(expect_all(301, 0), 1501);
}

CASE("trims", set_up_members, logdir_remove);

static int ask_for_first(void)
{
    atomic_store(&self->lsn, twinlog_first_lsn(own_log));
    return 0;
}

static int come_and_go(void)
{
    for (uint32_t i = 0; i < atomic_load(&self->with); i++) {
        EXPECT(open_log() == 0);
        EXPECT(append_next() == 0);
        EXPECT(close_log() == 0);
    }
    return 0;
}

/* One that does not append has its segment open, and goes on from there: it has to find the next ones. */
TEST(a_trim_removes_nothing_that_a_process_has_in_front_of_it)
{
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct member *slow = come(0);
    struct twinlog *log = open_shared(0);
    struct common *common = map_common();

    append_by(slow, 1);
    append_records(log, 0, 0, 600);
    ck_assert_int_eq(twinlog_sync(log), 0);
    AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    struct twinlog_trim_result result = log_trim_before(log, 500);
    ck_assert_uint_eq(result.first_lsn, 500);
    ck_assert_uint_eq(result.removed_records, 499);
    ck_assert_uint_eq(result.removed_segments, 1); /* in front of the one that `slow` has open */
    ck_assert_int_eq(ask(slow, ask_for_first, 0), 0);
    ck_assert_uint_eq(atomic_load(&slow->lsn), 500);
    expect_kept(500, 601);
    append_by(slow, 1);
    ck_assert_uint_eq(atomic_load(&slow->lsn), 602);
    ck_assert_int_eq(ask(slow, sync_log, 0), 0); /* without a thread it lets go then, or when it goes on */
    result = log_trim_before(log, 500);
    ck_assert_uint_eq(result.removed_records, 0);
    ck_assert_uint_ge(result.removed_segments, 5);
    append_by(slow, 300);
    log_close(log);
    expect_kept(500, 902);
    close_by(slow);
    expect_kept(500, 902);
}

TEST(processes_trim_and_append_and_come_and_go)
{
    struct member *trimmed = come(0), *guest = start_member(1);
    struct twinlog *log = open_shared(0);
    uint64_t lsn = 1;

    post(trimmed, append_some, REPEATS(6000, 1000));
    post(guest, come_and_go, REPEATS(60, 10));
    while (!is_done(trimmed) || !is_done(guest)) {
        append_records(log, 0, 0, 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
        lsn = log_trim_before(log, twinlog_durable_lsn(log)).first_lsn;
    }
    ck_assert_int_eq(answer(trimmed), 0);
    ck_assert_int_eq(answer(guest), 0);
    ck_assert_uint_gt(log_stat(log).trimmed_segments, 0);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    close_by(trimmed);
    log_close(log);
    expect_kept(lsn, last_lsn);
    log = open_mode(TWINLOG_MODE_DURABLE);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_first_lsn(log), lsn);
    log_close(log);
}

TEST(each_process_keeps_to_its_own_limits)
{
    struct twinlog_options options = shared_options(0);
    struct member *other = come(0);

    options.keep_records = 300;
    struct twinlog *log = log_open(&options);
    for (unsigned round = 0; round < 5; round++) {
        append_by(other, 300);
        ck_assert_int_eq(twinlog_sync(log), 0);
        append_records(log, 0, round * 300, 300);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }
    AWAIT(twinlog_first_lsn(log) > 2000);
    log_close(log);
    const uint64_t first_lsn = log_inspect().first_lsn;
    ck_assert_uint_le(first_lsn, 2701);
    append_by(other, 600);
    close_by(other);
    expect_kept(first_lsn, 3600);
}

static int ask_trim(uint64_t before_lsn, int timeout_ms, uint64_t *ret_first_lsn)
{
    const struct twinlog_trim_options options = { .size = sizeof(options), .before_lsn = before_lsn };

    return twinlog_ask_trim(log_dir, &options, timeout_ms, ret_first_lsn);
}

static bool is_trim_wished(void)
{
    struct twinlog_report report;
    struct state_entry entry;
    struct state state;
    struct io *io;

    ck_assert_int_eq(twl_io_posix_create(log_dir, true, &io), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), 0);
    const bool is_wished = twl_state_find(&state, STATE_VALUE, STATE_TRIM_NAME, &entry);
    twl_state_free(&state);
    io->ops->destroy(io);
    return is_wished;
}

/* One is stopped, and one has no thread that looks. */
TEST(any_process_does_what_another_one_asks_for)
{
    struct member *stopped = come(0);
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct member *idle = come(1);
    uint64_t first_lsn = 0;

    append_by(idle, 600);
    ck_assert_int_eq(ask(idle, sync_log, 0), 0);
    stop_member(stopped);
    ck_assert_int_eq(ask_trim(300, 0, &first_lsn), -ETIMEDOUT);
    struct twinlog *log = open_shared(0);
    ck_assert_int_eq(ask_trim(500, -1, &first_lsn), 0);
    ck_assert_uint_eq(first_lsn, 500);
    AWAIT(!is_trim_wished());
    continue_member(stopped);
    ck_assert_int_eq(ask(idle, ask_for_first, 0), 0);
    ck_assert_uint_eq(atomic_load(&idle->lsn), 500);
    close_by(stopped);
    close_by(idle);
    log_close(log);
    expect_kept(500, 600);
    ck_assert_int_eq(ask_trim(600, -1, &first_lsn), -ESRCH);
}

static const struct io_ops *real_ops;
static bool has_asked;

static void ask_behind_the_first(struct io_file *file)
{
    real_ops->close(file);
    if (!has_asked && is_trim_wished()) {
        has_asked = true;
        ck_assert_int_eq(ask_trim(100, 0, NULL), -ETIMEDOUT);
    }
}

/* The second comes when the first has just let go of the state file. */
TEST(of_two_that_ask_at_once_neither_takes_the_wish_of_the_other)
{
    const struct twinlog_trim_options options = { .size = sizeof(options), .before_lsn = 300 };
    struct io *io;

    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct member *idle = come(0);
    append_by(idle, 600);
    ck_assert_int_eq(ask(idle, sync_log, 0), 0);
    ck_assert_int_eq(twl_io_posix_create(log_dir, true, &io), 0);
    real_ops = io->ops;
    struct io_ops ops = *real_ops;
    ops.close = ask_behind_the_first;
    io->ops = &ops;
    has_asked = false;
    ck_assert_int_eq(twl_ask_trim(io, &options, 0, NULL), -ETIMEDOUT);
    ck_assert(has_asked);
    struct twinlog *log = open_shared(0);
    AWAIT(!is_trim_wished());
    ck_assert_uint_eq(twinlog_first_lsn(log), 300);
    close_by(idle);
    log_close(log);
    expect_kept(300, 600);
}

static struct member *first_writer;
static struct twinlog *next_writer;

static void change_writer(void)
{
    if (next_writer)
        return;
    close_by(first_writer);
    next_writer = open_shared(0);
}

static void change_while_it_waits(struct io *io, unsigned ms)
{
    (void)io;
    (void)ms;
    change_writer();
    ck_assert_int_eq(ask_trim(2, -1, NULL), 0);
}

static int change_before_it_asks(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    if (strcmp(name, STATE_NAME) == 0)
        change_writer();
    return real_ops->open(io, name, flags, ret_file);
}

static struct io *connect_beside_writer(void)
{
    struct io *io;

    atomic_store(&sharing->flags, LOG_NO_THREADS);
    first_writer = come(0);
    append_by(first_writer, 600);
    ck_assert_int_eq(twl_io_posix_create(log_dir, true, &io), 0);
    real_ops = io->ops;
    return io;
}

/* Another writer comes in place of the one that is asked. What it has trimmed for others leaves this LSN. */
static void expect_no_answer(struct io *io, uint64_t first_lsn)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = 300);

    ck_assert_int_eq(twl_ask_trim(io, &options, 1000, NULL), -ESRCH);
    ck_assert_uint_eq(twinlog_first_lsn(next_writer), first_lsn);
    AWAIT(!is_trim_wished()); /* the next writer removes a wish when it has answered it */
    log_close(next_writer);
    expect_kept(first_lsn, 600);
}

/* The next writer has not done it, even if it has answered others as often. */
TEST(no_later_writer_answers_for_the_one_that_was_asked)
{
    struct io *io = connect_beside_writer();
    struct io_ops ops = *real_ops;

    ops.sleep_ms = change_while_it_waits;
    io->ops = &ops;
    expect_no_answer(io, 2);
}

TEST(no_later_writer_answers_for_one_that_goes_before_it_is_asked)
{
    struct io *io = connect_beside_writer();
    struct io_ops ops = *real_ops;

    ops.open = change_before_it_asks;
    io->ops = &ops;
    expect_no_answer(io, 1);
}

static int lock_state(void)
{
    struct io_file *file;
    struct io *io;

    EXPECT(twl_io_posix_create(log_dir, true, &io) == 0);
    EXPECT(io_open(io, STATE_NAME, 0, &file) == 0);
    return io_lock(file, IO_LOCK_WRITER, true);
}

/* As one that is stopped in a trim. */
TEST(one_that_is_stopped_while_it_changes_the_state_holds_up_no_append)
{
    struct twinlog_options options = shared_options(LOG_NO_THREADS);
    struct member *stopped = come(0);

    options.keep_records = 100;
    struct twinlog *log = log_open(&options);
    ck_assert_int_eq(ask(stopped, lock_state, 0), 0);
    stop_member(stopped);
    const uint64_t began_ns = twl_monotonic_ns();
    append_records(log, 0, 0, 600);
    ck_assert_uint_lt(twl_monotonic_ns() - began_ns, SOON_NS);
    end_member(stopped);
    append_records(log, 0, 600, 600);
    ck_assert_uint_gt(twinlog_first_lsn(log), 600);
    log_close(log);
    expect_kept(log_inspect().first_lsn, 1200);
}

/* It would trim a later log, of which its process knows nothing. */
TEST_EACH(a_wish_ends_with_its_writer, log_modes)
{
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct member *writer = come(0);

    append_by(writer, 10);
    ck_assert_int_eq(ask(writer, sync_log, 0), 0);
    ck_assert_int_eq(ask_trim(9, 0, NULL), -ETIMEDOUT);
    ck_assert(is_trim_wished());
    end_member(writer);
    ck_assert_int_eq(ask_trim(9, 0, NULL), -ESRCH);

    struct twinlog *log = open_mode(row->mode);
    ck_assert(!is_trim_wished());
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    log_close(log);
    expect_kept(1, 10);
}

CASE("what else a log can do", set_up_members, logdir_remove);

#define TURNS 60u

/* A wake-up that is lost costs a second: so many of them take longer than a test may. */
TEST_EACH(readers_are_woken_by_records_of_others, log_reader_kinds)
{
    struct twinlog *log = open_shared(0);
    struct member *member = come(0);
    struct twinlog_reader *reader = log_reader_of_kind(log, row);
    struct found found = { 0 };

    for (uint32_t n = 1; n <= TURNS; n++) {
        post(member, append_some, n % 10 ? 1 : 20);
        ck_assert_int_eq(twinlog_reader_wait(reader, 120000), 1);
        ck_assert_int_eq(answer(member), 0);
        AWAIT(has_found(&found, reader, atomic_load(&member->lsn)));
    }
    ck_assert_uint_eq(found.tally.next[1], atomic_load(&member->appended));

    if (row->is_attached)
        twinlog_reader_close(reader);
    log_close(log);
    append_by(member, 5);
    if (!row->is_attached) {
        AWAIT(has_found(&found, reader, atomic_load(&member->lsn)));
        twinlog_reader_close(reader);
    }
    close_by(member);
    expect_all(0, 0);
}

static bool is_sealed(struct io *io, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment segment;
    struct segment_footer footer;

    twl_segment_name(number, name);
    ck_assert_int_eq(twl_segment_open_valid(io, name, &segment), 0);
    const bool has_footer = twl_segment_read_footer(&segment, &footer) == 1;
    twl_segment_close(&segment);
    return has_footer;
}

static unsigned count_mapped(pid_t pid)
{
    char path[64], line[600];
    unsigned count = 0;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "r");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, ".twl") != NULL;
    fclose(maps);
    return count;
}

/* The active one, and the one that is prepared. */
TEST(segments_are_sealed_and_idle_participants_let_go_of_them)
{
    if (!can_look_into_proc("segments_are_sealed_and_idle_participants_let_go_of_them"))
        return;
    struct member *idle = come(0), *busy = come(1);
    struct common *common = map_common();

    append_by(busy, 600);
    const uint64_t newest = atomic_load(&common->newest);
    ck_assert_uint_gt(newest, 6);
    AWAIT(atomic_load(&common->oldest) == newest);
    AWAIT(count_mapped(atomic_load(&idle->pid)) <= 2);
    AWAIT(count_mapped(atomic_load(&busy->pid)) <= 2);
    struct twinlog *log = open_shared(0);
    for (uint64_t number = 2; number < newest; number++)
        ck_assert_msg(is_sealed(log->io, number), "segment %" PRIu64, number);
    append_by(idle, 5);
    log_close(log);
    close_by(busy);
    close_by(idle);
    ck_assert_uint_eq(expect_all(0, 0), 605);
}

static void expect_found(struct twinlog_reader *reader, uint64_t last_lsn)
{
    struct twinlog_record record;

    for (uint64_t i = 0; i < 60; i++) {
        uint64_t lsn = 1 + i * 997 % last_lsn;
        if (i & 1) {
            ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        } else {
            ck_assert_int_eq(twinlog_reader_seek_time(reader, 1000 * (int64_t)lsn - 500), 0);
            lsn = lsn < AHEAD_LSN ? lsn : AHEAD_LSN;
        }
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_int_eq(record.time_ns, time_of(lsn));
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), lsn > 1);
    }
    ck_assert_int_eq(twinlog_reader_seek_time(reader, INT64_MAX), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
}

TEST(records_are_found_by_lsn_and_by_time)
{
    struct twinlog *log = open_shared(0);
    struct member *members[2] = { come(0), come(1) };

    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(ask(members[i % 2], append_timed, 100), 0);
    const struct common *common = log->participants.common;
    for (unsigned round = 0; round < 2; round++) {
        for (int i = 0; i < LOG_READER_KINDS; i++) {
            struct twinlog_reader *reader = log_reader_of_kind(log, &log_reader_kinds[i]);
            expect_found(reader, 800);
            twinlog_reader_close(reader);
        }
        AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    }
    close_by(members[0]);
    close_by(members[1]);
    log_close(log);
    struct twinlog_reader *reader = log_reader(0, 0);
    expect_found(reader, 800);
    twinlog_reader_close(reader);
}

static struct twinlog *beside; /* NULL: nothing is appended beside a roll */
static int beside_rc;

/* In the place of twl_page_publish_epoch(), which tells readers of the segment that a roll has begun. */
void __wrap_twl_page_publish_epoch(struct shared_page *page, uint32_t epoch);
void __real_twl_page_publish_epoch(struct shared_page *page, uint32_t epoch);
void __wrap_twl_page_publish_epoch(struct shared_page *page, uint32_t epoch)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .flags = TWINLOG_TRY };
    const struct twinlog_entry entry = { .size = 0 };

    if (beside)
        beside_rc = twinlog_append_batch(beside, &entry, 1, &terms, NULL);
    __real_twl_page_publish_epoch(page, epoch);
}

TEST(no_record_is_in_a_segment_of_which_readers_cannot_know)
{
    beside = open_shared(0);
    while (log_stat(beside).rolls == 0)
        append_records(beside, 0, 0, 1);
    ck_assert_int_eq(beside_rc, -EAGAIN);
    log_close(beside);
    beside = NULL;
}

TEST(a_live_log_is_backed_up)
{
    struct twinlog *log = open_shared(0);
    struct member *member = come(0);
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    char copy[400];

    append_by(member, 300);
    append_records(log, 0, 0, 100);
    append_by(member, 5);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(expect_all(100, 0), 405);
    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    ck_assert_int_eq(twinlog_backup(log_dir, copy, NULL, &result), 0);
    ck_assert_uint_eq(result.last_lsn, 405);
    append_by(member, 100);
    append_records(log, 0, 100, 100);
    close_by(member);
    log_close(log);
    ck_assert_uint_eq(expect_all(200, 0), 605);
    memcpy(log_dir, copy, sizeof(log_dir));
    ck_assert_uint_eq(look_at_all().tally.last_lsn, result.last_lsn);
    log = open_shared(0);
    ck_assert_uint_eq(twinlog_last_lsn(log), result.last_lsn);
    log_close(log);
}

#define MARKINGS 200000u

static struct mapped_segment *marked;
static const struct group_header start_mark = {
    .first_lsn = 1, .bytes = GROUP_HEADER_BYTES, .kind = GROUP_START, .epoch.number = 1
};

static void *mark_again(void *ret_is_done)
{
    for (unsigned i = 0; i < MARKINGS; i++)
        twl_mapped_segment_begin(marked, &start_mark);
    atomic_store((atomic_bool *)ret_is_done, true);
    return NULL;
}

/* By one that comes late to a segment that others have started, and may be killed while it does that. */
TEST(a_marker_that_is_made_again_is_there_all_the_time)
{
    const struct segment_plan plan = {
        .number = 1, .sequence = 1, .bytes = SEGMENT_BYTES, .allocation = IO_ALLOCATE_SPACE, .is_mapped = true
    };
    const struct participants own = { .number = 1 };
    struct segment segment;
    struct group_header found;
    struct io *io;
    atomic_bool is_done = false;
    uint64_t looks = 0, wrong = 0;
    void *bytes; /* another mapping, as in another process */

    ck_assert_int_eq(twl_io_posix_create(log_parent, false, &io), 0);
    ck_assert_int_eq(twl_segment_create(io, &plan, &segment, NULL), 0);
    ck_assert_int_eq(io->ops->map(segment.file, SEGMENT_BYTES, &bytes), 0);
    ck_assert_int_eq(twl_mapped_segment_map(io, &segment, 0, &own, &marked), 0);
    twl_mapped_segment_begin(marked, &start_mark);
    pthread_t thread = start_thread(mark_again, &is_done);
    for (; !atomic_load(&is_done); looks++)
        wrong += !twl_group_header_decode((unsigned char *)bytes + SEGMENT_DATA_OFFSET, segment.seed,
                                          SEGMENT_DATA_OFFSET, &found);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(wrong == 0, "%" PRIu64 " of %" PRIu64 " looks found no mark", wrong, looks);
    io->ops->unmap(io, bytes, SEGMENT_BYTES);
    twl_mapped_segment_unmap(marked);
    free(marked);
    twl_segment_close(&segment);
    io->ops->destroy(io);
}

/* ---- asking a writer that has just begun --------------------------------------------------------- */

static atomic_bool is_opening;

static int open_slowly(const struct hooked_call *call)
{
    if (call->op == SIM_SYNC && !atomic_exchange(&is_opening, true))
        usleep(300000);
    return 0;
}

static void *open_one(void *ret_log)
{
    *(struct twinlog **)ret_log = log_on(hooked_log_dir(open_slowly), NULL);
    return NULL;
}

CASE("rights", logdir_make, logdir_remove);

/* A process that others share the log with may be another user's, or root's, or have another umask. Without threads, of
 * which one would make the next segment at any time. */
TEST(a_segment_gets_the_owner_and_the_permissions_of_the_one_before)
{
    const uid_t owner = geteuid() == 0 ? 65534 : geteuid();
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct stat about;

    append_records(log, 0, 0, 1);
    for (uint64_t sequence = 1; access(log_segment(sequence), F_OK) == 0; sequence++) {
        ck_assert_int_eq(chmod(log_segment(sequence), 0646), 0);
        ck_assert_int_eq(chown(log_segment(sequence), owner, (gid_t)-1), 0);
    }

    const mode_t before = umask(077);
    append_records(log, 0, 1, 200);
    umask(before);
    for (uint64_t sequence = 1; access(log_segment(sequence), F_OK) == 0; sequence++) {
        ck_assert_int_eq(stat(log_segment(sequence), &about), 0);
        ck_assert_uint_eq(about.st_mode & 0777, 0646);
        ck_assert_uint_eq(about.st_uid, owner);
    }
    log_close(log);
}

CASE("asking", logdir_make, logdir_remove);

TEST(a_trim_that_is_asked_for_waits_for_the_opening)
{
    struct twinlog *log = log_open(NULL);
    uint64_t first_lsn = 0;
    pthread_t opener;
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    log_close(log);
    atomic_store(&is_opening, false);
    ck_assert_int_eq(pthread_create(&opener, NULL, open_one, &log), 0);
    AWAIT(atomic_load(&is_opening));
    const int at_once = ask_trim(11, 0, NULL);
    ck_assert(at_once == -EAGAIN ||
              at_once == -ETIMEDOUT); /* on a busy machine it may have opened the log by then */
    ck_assert_int_eq(ask_trim(11, 20000, &first_lsn), 0);
    ck_assert_uint_eq(first_lsn, 11);
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    log_close(log);
}

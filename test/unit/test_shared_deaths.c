/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share a log, when some of them die or stand still.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "forbid.h"
#include "format/format.h"
#include "gate.h"
#include "log/handle.h"
#include "mapped/participants.h"
#include "members.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

CASE("death", set_up_members, logdir_remove);

static bool are_lost; /* pages of the group */

static int check_map(struct io *io, const unsigned char *bytes)
{
    (void)io;
    (void)bytes;
    return are_lost ? -EIO : 0;
}

static const struct io_ops some_are_lost = { .check_map = check_map };

static struct io group_io = { .ops = &some_are_lost };
static const struct record_header some_record = { .size = 100 };
static const struct open_walk group_start = OPEN_WALK_INIT;

/* A new group. A record of 3 is claimed in it, and its bytes are there. Returns the size of the claim. */
static uint32_t claim_record(struct open_group *group, struct place *ret_place)
{
    _Alignas(64) static unsigned char bytes[SEGMENT_BYTES];
    static _Atomic uint64_t cursor;
    uint32_t size;

    atomic_store(&cursor, 0);
    memset(bytes, 0, sizeof(bytes));
    *group = (struct open_group){
        .io = &group_io, .bytes = bytes, .end = SEGMENT_BYTES, .first_lsn = 1, .owner = 3, .cursor = &cursor
    };
    twl_open_group_begin(group);
    ck_assert_int_eq(twl_open_group_claim(group, some_record.size, ret_place), 1);
    ck_assert_uint_eq(twl_open_group_owner(group, &group_start, &size), 3);
    memset(ret_place->at + RECORD_HEADER_BYTES, 'x', some_record.size);
    return size;
}

/* Its owner has completed it and left, between a look at the claim and one at the owner. */
TEST(a_record_that_is_complete_is_not_buried)
{
    struct open_walk walk = OPEN_WALK_INIT;
    struct open_group group;
    struct record_header found;
    struct place place;

    are_lost = false;
    const uint32_t size = claim_record(&group, &place);
    ck_assert_int_eq(twl_open_group_complete(&group, &place, &some_record), 0);
    ck_assert(twl_open_group_fill(&group, &group_start, size, 0));

    ck_assert_int_eq(twl_open_group_pass(&group, &walk, &found), 1);
    ck_assert_int_eq(found.kind, RECORD_DATA);
    ck_assert(twl_record_payload_is_valid(&found, place.at + RECORD_HEADER_BYTES));
    ck_assert_int_eq(place.at[RECORD_HEADER_BYTES], 'x');

    /* and of one that is not, nothing is left */
    ck_assert_int_eq(twl_open_group_claim(&group, some_record.size, &place), 1);
    memset(place.at + RECORD_HEADER_BYTES, 'x', some_record.size / 2);
    ck_assert(twl_open_group_fill(&group, &walk, size, 0));
    ck_assert_int_eq(twl_open_group_pass(&group, &walk, &found), 1);
    ck_assert_int_eq(found.kind, RECORD_FILLER);
    ck_assert_int_eq(place.at[RECORD_HEADER_BYTES], 0);
}

/* That it is complete is told to nobody then, nor that it is not. */
TEST(a_record_in_lost_pages_is_neither_complete_nor_buried)
{
    struct open_group group;
    struct place place;
    uint32_t size;

    are_lost = true;
    size = claim_record(&group, &place);
    ck_assert_int_eq(twl_open_group_complete(&group, &place, &some_record), -EIO);
    ck_assert(!twl_open_group_fill(&group, &group_start, size, 0));
    ck_assert_uint_eq(twl_open_group_owner(&group, &group_start, &size), 3);
}

static const struct stage_row {
    const char *name;
    enum stage stage;
} stages[] = {
    { "claimed", CLAIMED }, { "the cursor moved", CURSOR_MOVED }, { "half copied", HALF_COPIED },
    { "copied", COPIED },   { "half encoded", HALF_ENCODED },     { "encoded", ENCODED },
};

/* One that dies at that stage, beside two that open the log with these flags. Without threads a sync sees to it. */
static void expect_filler_for(enum stage stage, uint32_t flags)
{
    const bool has_threads = (flags & LOG_NO_THREADS) == 0;
    struct found found[LOG_READER_KINDS] = { 0 };
    struct twinlog_reader *readers[LOG_READER_KINDS];

    atomic_store(&sharing->flags, flags);
    struct twinlog *log = open_shared(flags);
    struct member *victim = come(0), *other = come(1);
    for (int i = 0; i < LOG_READER_KINDS; i++)
        readers[i] = log_reader_of_kind(log, &log_reader_kinds[i]);
    append_by(victim, 3);
    append_by(other, 3);
    ck_assert_int_eq(ask(victim, claim, stage), 0);
    ck_assert_uint_eq(atomic_load(&victim->lsn), 7);
    append_by(other, 4);
    ck_assert_uint_eq(append_records(log, 0, 0, 4), 15);
    ck_assert_uint_eq(twinlog_written_lsn(log), 6);
    ck_assert_int_eq(twinlog_wait(log, 6, TWINLOG_LEVEL_DURABLE, 0), 0);

    end_member(victim);
    const uint64_t began_ns = twl_monotonic_ns();
    if (!has_threads)
        ck_assert_int_eq(ask(other, sync_log, 0), 0);
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        AWAIT(has_found(&found[i], readers[i], 15));
        ck_assert_uint_eq(found[i].fillers, 1);
        twinlog_reader_close(readers[i]);
    }

    ck_assert_int_eq(ask(other, sync_log, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_lt(twl_monotonic_ns() - began_ns, SOON_NS);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 15);
    append_by(other, 200);
    close_by(other);
    log_close(log);
    ck_assert_uint_eq(expect_all(4, 1), 215);
}

/* Readers hear of it by the threads of those that live. */
TEST_EACH(what_a_dead_one_has_claimed_becomes_a_filler, stages)
{
    expect_filler_for(row->stage, 0);
}

TEST_EACH(without_threads_what_a_dead_one_has_claimed_becomes_a_filler_in_a_sync, stages)
{
    expect_filler_for(row->stage, LOG_NO_THREADS);
}

/* A process that may only read the files can lock bytes of them, too, but not exclusively. */
TEST(a_lock_for_reading_keeps_no_dead_one_alive)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *victim = come(0);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, CLAIMED), 0);
    ck_assert_uint_eq(append_records(log, 0, 0, 4), 8);
    end_member(victim);
    const int held =
        hold_lock(log_file(PAGE_FILE_NAME), LOCK_OF_NUMBER + atomic_load(&victim->number), F_RDLCK);
    ck_assert_int_eq(twinlog_wait(log, 8, TWINLOG_LEVEL_DURABLE, twinlog_deadline(20000)), 0);
    close(held);
    log_close(log);
    ck_assert_uint_eq(expect_all(4, 1), 8);
}

/* No process has looked after it before another one gets the number. */
TEST_EACH(a_newcomer_buries_what_its_number_had_claimed, stages)
{
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct twinlog *log = open_shared(atomic_load(&sharing->flags));
    struct member *victim = come(0);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, row->stage), 0);
    end_member(victim);

    struct member *newcomer = come(1);
    ck_assert_uint_eq(atomic_load(&newcomer->number), atomic_load(&victim->number));
    ck_assert_uint_eq(twinlog_written_lsn(log), 4);
    append_by(newcomer, 2);
    ck_assert_uint_eq(atomic_load(&newcomer->lsn), 6);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 6);

    end_member(newcomer);
    ck_assert_uint_eq(append_records(log, 0, 0, 200), 206);
    log_close(log);
    ck_assert_uint_eq(expect_all(200, 1), 206);
}

/* Those that open the log again settle it, as they do behind any writer. */
static void expect_settled_by_opening(enum stage stage, uint32_t mode)
{
    struct member *victim = come(0), *other = come(1);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, stage), 0);
    stop_member(victim); /* so that no other participant makes a filler of it */
    append_by(other, 4);
    end_member(other);
    end_member(victim);
    expect_going_on(mode, 0, 1);
}

TEST_EACH(a_claim_is_settled_by_an_opening_in_the_durable_mode, stages)
{
    expect_settled_by_opening(row->stage, TWINLOG_MODE_DURABLE);
}

TEST_EACH(a_claim_is_settled_by_an_opening_in_the_mapped_mode, stages)
{
    expect_settled_by_opening(row->stage, TWINLOG_MODE_MAPPED);
}

TEST_EACH(a_claim_is_settled_by_an_opening_in_the_shared_mode, stages)
{
    expect_settled_by_opening(row->stage, TWINLOG_MODE_SHARED);
}

TEST(a_child_does_not_keep_its_parent_alive)
{
    struct twinlog *log = open_shared(0);
    struct member *victim = come(0), *other = come(1);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, HALF_COPIED), 0);
    ck_assert_int_eq(ask(victim, leave_a_child, 0), 0);
    ck_assert_uint_eq(append_records(log, 0, 0, 3), 7);
    ck_assert_int_eq(twinlog_wait(log, 7, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(300)), -ETIMEDOUT);
    end_member(victim);
    ck_assert_int_eq(kill(atomic_load(&victim->child), 0), 0);
    ck_assert_int_eq(ask(other, sync_log, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, 7, TWINLOG_LEVEL_WRITTEN, 0), 0);
    struct member *newcomer = come(2);
    ck_assert_uint_eq(atomic_load(&newcomer->number), atomic_load(&victim->number));
    append_by(newcomer, 3);
    close_by(newcomer);
    close_by(other);
    log_close(log);
    kill(atomic_load(&victim->child), SIGKILL);
    expect_clean_opening(TWINLOG_MODE_SHARED, 10);
    expect_all(3, 1);
}

static int forbid_msync(void)
{
    return forbid(SYS_msync, EIO) ? 0 : -1;
}

/* It has failed, and others may know, but this process has not told them that it is over. */
static int stop_in_a_failed_sync(void)
{
    shared = shared_page();
    signal_there = SIGSTOP;
    wanted_point = "sync-told";
    return twinlog_sync(own_log);
}

static const struct end_of_failed {
    const char *name;
    bool is_killed;
} ends_of_failed[] = {
    { "it stands still", false },
    { "it is killed", true },
};

/* The kernel told the error to that process alone. */
TEST_EACH(an_error_is_told_to_others_before_the_sync_is_over, ends_of_failed)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *victim = come(0);

    append_by(victim, 3);
    append_records(log, 0, 0, 3);
    if (ask(victim, forbid_msync, 0) != 0) {
        puts("SKIP shared_deaths: no filter of system calls may be loaded");
        log_close(log);
        return;
    }
    post(victim, stop_in_a_failed_sync, 0);
    wait_until_stopped(atomic_load(&victim->pid));
    if (row->is_killed)
        end_member(victim);

    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

CASE("standing still", set_up_members, logdir_remove);

static int append_until(struct twinlog *log, uint32_t sequence, uint64_t deadline_ns, uint64_t *ret_lsn)
{
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .level = TWINLOG_LEVEL_DURABLE,
                                         .deadline_ns = deadline_ns };
    unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = (uint32_t)make_record(0, sequence, bytes) };

    return twinlog_append_batch(log, &entry, 1, &terms, ret_lsn);
}

/* One is stopped in an append. What comes behind its record waits for it, if it asks to; nothing else does. */
static void append_behind_stopped(struct twinlog *log, struct member *stopped, struct member *other)
{
    uint64_t lsn;

    append_by(stopped, 3);
    ck_assert_uint_eq(append_records(log, 0, 0, 3), 6);
    ck_assert_int_eq(ask(stopped, claim, HALF_COPIED), 0);
    stop_member(stopped);
    append_by(other, 2);
    ck_assert_int_eq(twinlog_wait(log, 6, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, 6, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(log), 6);

    ck_assert_int_eq(append_until(log, 3, twinlog_deadline(200), &lsn), -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 10);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(200)), -ETIMEDOUT);
    ck_assert_int_eq(twinlog_wait(log, 7, TWINLOG_LEVEL_DURABLE, twinlog_deadline(200)), -ETIMEDOUT);

    ck_assert_uint_eq(append_records(log, 0, 4, 200), 210); /* through several segments */
    append_by(other, 200);
    ck_assert_uint_eq(twinlog_written_lsn(log), 6);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 6);
}

static void expect_wait_is_over(struct twinlog *log, struct member *other)
{
    ck_assert_int_eq(twinlog_wait(log, 410, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(ask(other, sync_log, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
}

TEST(one_that_is_stopped_in_an_append_is_waited_for_until_it_goes_on)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0), *other = come(1);

    append_behind_stopped(log, stopped, other);
    continue_member(stopped);
    ck_assert_int_eq(ask(stopped, complete, 0), 0);
    expect_wait_is_over(log, other);

    close_by(stopped);
    close_by(other);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 410);
    expect_all(204, 0);
}

TEST(one_that_is_stopped_in_an_append_is_waited_for_until_it_is_killed)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0), *other = come(1);

    append_behind_stopped(log, stopped, other);
    end_member(stopped);
    expect_wait_is_over(log, other);

    close_by(other);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 410);
    expect_all(204, 1);
}

static void *close_in_thread(void *log)
{
    const intptr_t rc = twinlog_close(log);

    atomic_store(&sharing->arrived, 1);
    return (void *)rc;
}

/* What is its own lies before the claim of the stopped one. Meanwhile an interval is over. */
TEST(one_that_leaves_waits_only_for_what_is_in_front_of_its_own)
{
    struct twinlog_options options = shared_options(0);
    options.flush_interval_ms = 1;
    struct twinlog *log = log_open(&options);
    struct member *stopped = come(0);
    void *result;

    append_records(log, 0, 0, 1);
    ck_assert_int_eq(ask(stopped, claim, CURSOR_MOVED), 0);
    stop_member(stopped);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(100)), -ETIMEDOUT);
    pthread_t thread = start_thread(close_in_thread, log);
    AWAIT(atomic_load(&sharing->arrived) == 1);
    pthread_join(thread, &result);
    ck_assert_int_eq((intptr_t)result, 0);
    continue_member(stopped);
    ck_assert_int_eq(ask(stopped, complete, 0), 0);
    close_by(stopped);
    expect_all(1, 0);
}

static void *sync_in_thread(void *log)
{
    return (void *)(intptr_t)twinlog_sync(log);
}

/* Another thread of the process waits, without a limit, for what the stopped one has claimed. */
TEST(a_deadline_is_kept_beside_a_thread_that_has_none)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0);
    void *result;

    ck_assert_int_eq(ask(stopped, claim, CURSOR_MOVED), 0);
    stop_member(stopped);
    append_records(log, 0, 0, 1);
    pthread_t thread = start_thread(sync_in_thread, log);
    AWAIT(!twl_mutex_try_lock(&log->mapped->syncing) || (twl_mutex_unlock(&log->mapped->syncing), false));
    const uint64_t began_ns = twl_monotonic_ns();
    post(stopped, complete, 0);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(200)), -ETIMEDOUT);
    ck_assert_uint_lt(twl_monotonic_ns() - began_ns, SOON_NS);
    continue_member(stopped);
    ck_assert_int_eq(answer(stopped), 0);
    pthread_join(thread, &result);
    ck_assert_int_eq((intptr_t)result, 0);
    close_by(stopped);
    log_close(log);
    expect_all(1, 0);
}

static struct behind {
    struct twinlog *log;
    struct twinlog_cancel cancel;
    uint64_t lsn; /* of another participant, in a segment that this handle has not gone on to */
    int result;
    _Atomic bool is_over, must_end;
} behind;

static void *append_until_told(void *context CK_ATTRIBUTE_UNUSED)
{
    static const unsigned char bytes[RECORD_ROOM];
    int rc = 0;

    while (rc == 0 && !atomic_load(&behind.must_end))
        rc = twinlog_append(behind.log, bytes, sizeof(bytes), NULL);
    return (void *)(intptr_t)rc;
}

/* A thread has the lock for going on, and waits for the file of the next segment, which the gate holds back. */
static bool is_rolling(struct mapped *m)
{
    const bool is_file_awaited = atomic_load(&gate.waiting) > 0 && !atomic_load(&m->spare);

    if (!is_file_awaited)
        return false;
    if (!twl_mutex_try_lock(&m->rolling))
        return true;
    twl_mutex_unlock(&m->rolling);
    return false;
}

static int wait_until_written(void)
{
    return twinlog_wait(behind.log, behind.lsn, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(200));
}

static int wait_until_durable(void)
{
    return twinlog_wait(behind.log, behind.lsn, TWINLOG_LEVEL_DURABLE, twinlog_deadline(200));
}

static int sync_until_canceled(void)
{
    const struct terms terms = { .cancel = &behind.cancel };

    return twl_mapped_sync(behind.log->mapped, UINT64_MAX, &terms);
}

static int sync_of_a_try(void)
{
    const struct terms terms = { .is_try = true, .deadline_ns = twinlog_deadline(200) };

    return twl_mapped_sync(behind.log->mapped, UINT64_MAX, &terms);
}

static const struct call_beside_roll {
    const char *name;
    bool is_synced; /* by the other participant */
    int (*call)(void);
    int result;
} calls_beside_roll[] = {
    { "wait until written", false, wait_until_written, -ETIMEDOUT },
    { "wait until durable", false, wait_until_durable, -ETIMEDOUT },
    { "wait until what is durable is written", true, wait_until_written, 0 },
    { "wait until what is durable is durable", true, wait_until_durable, 0 },
    { "sync with a token", false, sync_until_canceled, -ECANCELED },
    { "sync of a try", false, sync_of_a_try, -ETIMEDOUT },
};

static void *call_beside_roll(void *row)
{
    behind.result = ((const struct call_beside_roll *)row)->call();
    atomic_store(&behind.is_over, true);
    return NULL;
}

/* Another participant has gone on. To follow it takes the lock that another thread of this process has. */
TEST_EACH(terms_hold_while_another_thread_waits_for_a_file, calls_beside_roll)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *other = open_shared(LOG_NO_THREADS);
    void *result;

    behind = (struct behind){ .log = gate_log(&options) };
    struct mapped *mapped = behind.log->mapped;
    atomic_store(&gate.is_shut_for_files, true);
    const pthread_t appending = start_thread(append_until_told, NULL);
    AWAIT(is_rolling(mapped));
    for (uint32_t i = 0; atomic_load(&other->mapped->active)->number <= atomic_load(&mapped->active)->number;)
        append_records(other, 0, i++, 1);
    behind.lsn = twinlog_last_lsn(other);
    if (row->is_synced)
        ck_assert_int_eq(twinlog_sync(other), 0);

    const pthread_t calling = start_thread(call_beside_roll, (void *)row);
    ck_assert_int_eq(twinlog_cancel(behind.log, &behind.cancel), 0);
    AWAIT(atomic_load(&behind.is_over));
    ck_assert_int_eq(behind.result, row->result);
    ck_assert(is_rolling(mapped));

    atomic_store(&behind.must_end, true);
    gate_open();
    pthread_join(calling, NULL);
    pthread_join(appending, &result);
    ck_assert_int_eq((int)(intptr_t)result, 0);
    ck_assert_int_eq(twinlog_wait(behind.log, behind.lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    log_close(other);
    log_close(behind.log);
}

static struct durable_append {
    struct twinlog *log;
    struct twinlog_cancel cancel;
    uint64_t lsn;
    int result;
    _Atomic bool is_over;
} durable_append;

static void *append_durably(void *context CK_ATTRIBUTE_UNUSED)
{
    const struct twinlog_terms terms =
        WITH_SIZE(terms, .level = TWINLOG_LEVEL_DURABLE, .cancel = &durable_append.cancel);
    const struct twinlog_entry entry = { .data = "waits", .size = 5 };

    durable_append.result = twinlog_append_batch(durable_append.log, &entry, 1, &terms, &durable_append.lsn);
    atomic_store(&durable_append.is_over, true);
    return NULL;
}

/* It waits for what the stopped one has claimed. Its own record stays. */
TEST(a_token_ends_a_wait_for_one_that_is_stopped)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0);

    ck_assert_int_eq(ask(stopped, claim, CURSOR_MOVED), 0);
    stop_member(stopped);
    durable_append = (struct durable_append){ .log = log };
    const pthread_t thread = start_thread(append_durably, NULL);
    AWAIT(twinlog_last_lsn(log) == 2);
    ck_assert_int_eq(twinlog_cancel(log, &durable_append.cancel), 0);
    AWAIT(atomic_load(&durable_append.is_over));
    pthread_join(thread, NULL);
    ck_assert_int_eq(durable_append.result, -ECANCELED);
    ck_assert_uint_eq(durable_append.lsn, 2);
    end_member(stopped);
    log_close(log);
}

/* One that makes the next segment has a lock, which the others do not need. */
TEST(a_try_finds_room_beside_one_that_is_stopped_while_it_makes_a_segment)
{
    const struct twinlog_terms hasty = WITH_SIZE(terms, .flags = TWINLOG_TRY);
    static const unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };

    struct twinlog *log = open_shared(0);
    const int stopped = hold_lock(log_file("writer.lock"), LOCK_TO_MAKE, F_WRLCK);
    const uint64_t rolls = log_stat(log).rolls;
    while (log_stat(log).rolls < rolls + 4)
        AWAIT(twinlog_append_batch(log, &entry, 1, &hasty, NULL) == 0);
    close(stopped);
    log_close(log);
}

/* Its child has the segments that it had, and nothing to do with them. */
TEST_EACH(a_child_does_not_keep_the_log_from_being_opened, log_modes)
{
    struct member *victim = come(0);

    append_by(victim, 300);
    ck_assert_int_eq(ask(victim, leave_a_child, 0), 0);
    end_member(victim);
    struct twinlog *log = open_mode(row->mode);
    ck_assert_int_eq(kill(atomic_load(&victim->child), SIGKILL), 0);
    log_close(log);
    expect_all(0, 0);
}

TEST(a_sync_does_not_wait_for_a_leader_that_stands_still)
{
    struct twinlog *log = open_shared(0);
    struct member *other = come(0);

    append_by(other, 5);
    append_records(log, 0, 0, 5);
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
    const uint64_t began_ns = twl_monotonic_ns();
    ck_assert_int_eq(ask(other, append_durable, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_lt(twl_monotonic_ns() - began_ns, SOON_NS);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 11);
    close_by(other);
    log_close(log);
    close(held);
    expect_clean_opening(TWINLOG_MODE_SHARED, 11);
    expect_all(5, 0);
}

static const struct stop_in_sync {
    const char *name;
    const char *point;
} stops_in_sync[] = {
    { "its records are durable", "segment-synced" },
    { "nobody has been told", "sync-told" },
};

/* In the child. */
static int sync_and_stop(void)
{
    shared = shared_page();
    signal_there = SIGSTOP;
    wanted_point = stops_in_sync[atomic_load(&self->with)].point;
    return twinlog_sync(own_log);
}

/* It has the lock for syncs, and none of its records is in front of any other. */
static void stop_in_sync(struct member *member, const struct stop_in_sync *where)
{
    append_by(member, 1);
    post(member, sync_and_stop, (uint32_t)(where - stops_in_sync));
    wait_until_stopped(atomic_load(&member->pid));
}

/* Without threads, so that nothing but these calls waits. */
TEST_EACH(a_leader_that_stands_still_is_waited_for_once, stops_in_sync)
{
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *stopped = come(0);

    stop_in_sync(stopped, row);
    append_records(log, 0, 0, 1);
    atomic_store(&page_sleeps, 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_gt(atomic_load(&page_sleeps), 0);

    atomic_store(&page_sleeps, 0);
    for (uint32_t i = 1; i <= 5; i++) {
        append_records(log, 0, i, 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), 2 + i);
    }
    ck_assert_uint_eq(atomic_load(&page_sleeps), 0);

    continue_member(stopped);
    ck_assert_int_eq(answer(stopped), 0);
    close_by(stopped);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 7);
    expect_all(6, 0);
}

/* Each of them waits for less than what the leader is given, all of them for more. */
TEST(calls_with_near_deadlines_wait_together_for_a_leader_that_stands_still)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *stopped = come(0);
    uint32_t appended = 0;
    uint64_t lsn;

    stop_in_sync(stopped, &stops_in_sync[0]);
    AWAIT(append_until(log, appended++, twinlog_deadline(100), &lsn) == 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    continue_member(stopped);
    ck_assert_int_eq(answer(stopped), 0);
    close_by(stopped);
    log_close(log);
    expect_all(appended, 0);
}

/* One that had the lock is waited for again when another one has it, as it may be at work. */
TEST(a_leader_is_waited_for_again_behind_one_that_went_on)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);

    append_records(log, 0, 0, 1);
    for (unsigned round = 0; round < 2; round++) {
        const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
        append_records(log, 0, 1 + 2 * round, 1);
        atomic_store(&page_sleeps, 0);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_gt(atomic_load(&page_sleeps), 0);
        close(held);
        append_records(log, 0, 2 + 2 * round, 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }
    log_close(log);
    expect_all(5, 0);
}

struct beside_closer {
    struct member *members[2];
    struct common *common;
    int held; /* the lock of one that closes segments and stands still; until this descriptor is closed */
};

/* Groups stay open meanwhile, as many as there are. */
static struct beside_closer leave_segments_open(void)
{
    struct beside_closer beside;

    beside.members[0] = come(0);
    beside.members[1] = come(1);
    beside.common = map_common();
    beside.held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);

    for (unsigned i = 0; i < 8; i++)
        append_by(beside.members[i % 2], 100);
    ck_assert_int_eq(ask(beside.members[0], sync_log, 0), 0);
    ck_assert_uint_eq(atomic_load(&beside.common->oldest), 2);
    ck_assert_uint_gt(atomic_load(&beside.common->newest), 6);
    ck_assert_uint_eq(expect_all(0, 0), 800);
    return beside;
}

TEST_EACH(segments_are_left_for_the_last_one_while_a_closer_stands_still, log_modes)
{
    const struct beside_closer beside = leave_segments_open();

    close_by(beside.members[0]);
    close_by(beside.members[1]);
    close(beside.held);
    expect_clean_opening(row->mode, 800);
    expect_going_on(row->mode, 0, 0);
}

TEST_EACH(segments_are_left_for_the_next_opening_while_a_closer_stands_still, log_modes)
{
    const struct beside_closer beside = leave_segments_open();

    end_member(beside.members[0]);
    end_member(beside.members[1]);
    close(beside.held);
    expect_going_on(row->mode, 0, 0);
}

TEST_EACH(segments_are_left_until_a_closer_goes_on, log_modes)
{
    const struct beside_closer beside = leave_segments_open();

    close(beside.held);
    AWAIT(atomic_load(&beside.common->oldest) == atomic_load(&beside.common->newest));
    close_by(beside.members[0]);
    close_by(beside.members[1]);
    expect_clean_opening(row->mode, 800);
    expect_going_on(row->mode, 0, 0);
}

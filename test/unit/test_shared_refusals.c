/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share a log: what the disk refuses them, and what they refuse each other.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "format/format.h"
#include "gate.h"
#include "hooked.h"
#include "log/handle.h"
#include "mapped/participants.h"
#include "members.h"
#include "suites.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t promised_by_segment(uint64_t number)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header;
    const int fd = open(log_segment(number), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, block, sizeof(block)), sizeof(block));
    close(fd);
    ck_assert_int_eq(twl_segment_header_decode(block, &header), HEADER_VALID);
    return header.after_lsn;
}

CASE("what is refused", set_up_members, logdir_remove);

static const struct told_durable {
    const char *name;
    uint64_t lsn;
} told_durable[] = {
    { "what is there", 10 },
    { "what no log reaches", UINT64_MAX / 2 },
};

/* Any process may write to the page. On the disk it would be proof that records were there. */
TEST_EACH(what_the_page_alone_calls_durable_is_not_promised, told_durable)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK); /* a close syncs, too */

    append_records(log, 0, 0, 10);
    watermark_store(&log->shared->page->durable, row->lsn);
    append_records(log, 0, 10, 400);
    const uint64_t number = atomic_load(&log->mapped->active)->number;
    ck_assert_uint_gt(number, 4);
    ck_assert_uint_eq(promised_by_segment(number), 0);
    close(held);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 410);
}

TEST(no_segment_is_made_because_the_page_calls_it_started)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    append_records(log, 0, 0, 10);
    const unsigned files = log_count_files();
    atomic_store(&log->participants.common->newest, 1000);
    ck_assert_int_eq(twinlog_sync(log), -EIO);
    ck_assert_uint_le(log_count_files(), files + 1); /* one may have been ready */
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert_uint_eq(log_check().next[0], 10);
}

/* A sync that began earlier may end later, and covers less. */
TEST(the_durable_lsn_never_goes_back)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    twl_page_publish_durable(log->shared, 9);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 10);
    log_close(log);
}

/* What this process has synced is promised, for that proves damage. */
TEST(what_was_synced_is_promised)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    append_records(log, 0, 10, 400);
    ck_assert_uint_eq(promised_by_segment(atomic_load(&log->mapped->active)->number), 10);
    close(held);
    log_close(log);
}

#define TOO_MANY_BYTES (64u << 20)
#define OWNER_NOBODY 200

static unsigned char *next_place(const struct open_group *group)
{
    return group->bytes + twl_open_group_offset(group);
}

static uint64_t next_lsn(const struct open_group *group)
{
    return group->first_lsn + twl_open_group_count(group);
}

static void put_word(struct open_group *group, uint64_t word)
{
    atomic_store((_Atomic uint64_t *)(void *)next_place(group), htole64(word));
}

static void claim_for_nobody(struct open_group *group)
{
    put_word(group, twl_claim_encode(group->epoch_seed, next_lsn(group), TOO_MANY_BYTES, OWNER_NOBODY));
}

static void claim_too_much(struct open_group *group)
{
    put_word(group, twl_claim_encode(group->epoch_seed, next_lsn(group), TOO_MANY_BYTES, group->owner));
}

static void write_too_much(struct open_group *group)
{
    const struct record_header record = { .size = TOO_MANY_BYTES, .kind = RECORD_DATA, .time_ns = 1 };
    unsigned char *bytes = calloc(1, RECORD_HEADER_BYTES + record.size);
    const uint64_t word = twl_record_encode_open(bytes, group->epoch_seed, next_lsn(group), &record);

    memcpy(next_place(group), bytes, RECORD_HEADER_BYTES);
    free(bytes);
    put_word(group, word);
}

static void move_on_by_a_part(struct open_group *group)
{
    atomic_store(group->cursor, atomic_load(group->cursor) + 5);
}

static void move_on_from_the_end(struct open_group *group)
{
    put_word(group, twl_claim_encode(group->epoch_seed, next_lsn(group), CLAIM_END, group->owner));
    move_on_by_a_part(group);
}

static void move_on_beyond_all(struct open_group *group)
{
    atomic_store(group->cursor, (UINT64_MAX << 32) + 5);
}

static const struct overstatement {
    const char *name;
    void (*put)(struct open_group *group);
} overstatements[] = {
    { "a claim of nobody", claim_for_nobody },
    { "a claim", claim_too_much },
    { "a record", write_too_much },
    { "the next place, behind the end", move_on_from_the_end },
    { "the next place", move_on_by_a_part },
    { "the next place, behind all segments", move_on_beyond_all },
};

/* Any process with the right to write the log may put it there. */
TEST_EACH(no_size_in_a_segment_leads_out_of_it, overstatements)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS), *joined = NULL;
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);

    append_records(log, 0, 0, 3);
    ck_assert_int_eq(twinlog_sync(log), 0);
    row->put(&atomic_load(&log->mapped->active)->group);
    if (log_try(&options, &joined) == 0)
        twinlog_append(joined, "x", 1, NULL);
    twinlog_append(log, "x", 1, NULL);
    twinlog_wait(log, 4, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(200));
    twinlog_sync(log);
    twinlog_close(joined);
    twinlog_close(log);

    log = open_shared(LOG_NO_THREADS);
    ck_assert_uint_ge(twinlog_last_lsn(log), 3);
    log_close(log);
}

CASE("to the disk", set_up_members, logdir_remove);

/* They count together. */
static uint64_t synced_by_all(struct member *const members[4])
{
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(ask(members[i], count_syncs, 0), 0);
        ck_assert_uint_eq(atomic_load(&members[i]->syncs), atomic_load(&members[0]->syncs));
    }
    return atomic_load(&members[0]->syncs);
}

/* All four wait for one that leads; then one of them leads for the others. */
TEST(one_syncs_for_all)
{
    struct twinlog *log = open_shared(0);
    struct member *members[4];
    for (unsigned i = 0; i < 4; i++)
        members[i] = come(i);
    for (uint32_t round = 0; round < 10; round++) {
        const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
        for (unsigned i = 0; i < 4; i++)
            post(members[i], append_durable, 0);
        AWAIT(twinlog_written_lsn(log) == (round + 1) * 4);
        close(held);
        for (unsigned i = 0; i < 4; i++)
            ck_assert_int_eq(answer(members[i]), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), (round + 1) * 4);
        for (unsigned i = 0; i < 4; i++) {
            ck_assert_int_eq(ask(members[i], ask_for_durable, 0), 0);
            ck_assert_uint_eq(atomic_load(&members[i]->lsn), (round + 1) * 4);
        }
    }
    ck_assert_uint_lt(synced_by_all(members), 35);
    for (unsigned i = 0; i < 4; i++)
        close_by(members[i]);
    log_close(log);
    ck_assert_uint_eq(expect_all(0, 0), 40);
}

static int open_gated(void)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    return gate_try_log(&options, &own_log);
}

static void die(void)
{
    raise(SIGKILL);
}

static int die_in_sync(void)
{
    atomic_store(&gate.when_checked, die);
    return twinlog_sync(own_log);
}

static unsigned read_backs;

static int count_read_backs(const struct hooked_call *call)
{
    read_backs += call->op == SIM_OPEN && (call->flags & IO_FROM_DISK) && strstr(call->name, ".twl");
    return 0;
}

static unsigned sync_and_count(struct twinlog *log, uint32_t sequence)
{
    append_records(log, 0, sequence, 5);
    read_backs = 0;
    ck_assert_int_eq(twinlog_sync(log), 0);
    return read_backs;
}

static struct member *start_gated_member(void)
{
    struct member *member = start_member(0);

    ck_assert_int_eq(ask(member, open_gated, 0), 0);
    append_by(member, 5);
    return member;
}

/* A process joins. It reads the records back that it has found, and what it syncs itself, or not. */
static void expect_read_backs(unsigned of_each_sync)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);

    struct twinlog *log = log_on(hooked_log_dir(count_read_backs), &options);
    ck_assert_uint_eq(sync_and_count(log, 0), 1);
    ck_assert_uint_eq(sync_and_count(log, 5), of_each_sync);
    ck_assert_uint_eq(sync_and_count(log, 10), of_each_sync);
    log_close(log);
}

/* It may have been told of an error, which the kernel does not tell those that open the file later. */
TEST(behind_one_that_died_in_a_sync_each_sync_is_read_back)
{
    struct member *host = come(1), *victim = start_gated_member();

    post(victim, die_in_sync, 0);
    ck_assert_int_eq(wait_child(atomic_load(&victim->pid)), 128 + SIGKILL);
    atomic_store(&victim->pid, 0);

    expect_read_backs(1);
    close_by(host);
    expect_clean_opening(TWINLOG_MODE_SHARED, 20);
}

TEST(behind_one_that_died_after_a_sync_only_what_was_found_is_read_back)
{
    struct member *host = come(1), *victim = start_gated_member();

    ck_assert_int_eq(ask(victim, sync_log, 0), 0);
    append_by(victim, 5);
    end_member(victim);

    expect_read_backs(0);
    close_by(host);
    expect_clean_opening(TWINLOG_MODE_SHARED, 25);
}

static const struct lost_bytes {
    const char *name;
    int refusal;       /* of reads */
    bool is_truncated; /* the file, before it is read */
} lost_bytes[] = {
    { "a read is refused", -EIO, false },
    { "the file ends in front of the records", 0, true },
};

static const struct lost_bytes *to_lose; /* NULL: nothing yet */

static int lose_bytes(const struct hooked_call *call)
{
    if (!to_lose || call->op != SIM_READ)
        return 0;
    if (to_lose->is_truncated)
        ck_assert_int_eq(truncate(log_segment(2), SEGMENT_DATA_OFFSET), 0);
    return to_lose->refusal;
}

/* What another process has written may be in the memory alone. */
TEST_EACH(a_sync_that_does_not_find_the_records_on_the_disk_fails, lost_bytes)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    struct twinlog *other = open_shared(LOG_NO_THREADS);

    append_records(other, 0, 0, 5);
    to_lose = NULL;
    struct twinlog *log = log_on(hooked_log_dir(lose_bytes), &options);
    to_lose = row;
    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    to_lose = NULL;
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_int_eq(twinlog_append(other, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert_int_eq(twinlog_close(other), -EIO);
}

static const struct first_group {
    const char *name;
    unsigned kind;
    uint32_t bytes;
    unsigned char flipped; /* in the checksum */
    int result;
} first_groups[] = {
    { "a start", GROUP_START, GROUP_HEADER_BYTES, 0, 0 },
    { "a start that does not check", GROUP_START, GROUP_HEADER_BYTES, 1, TWINLOG_ECORRUPT },
    { "a close", GROUP_CLOSE, GROUP_HEADER_BYTES, 0, TWINLOG_ECORRUPT },
    { "a start with room for records", GROUP_START, GROUP_HEADER_BYTES + 64, 0, TWINLOG_ECORRUPT },
};

/* Of the oldest open segment, with which one that joins begins. */
TEST_EACH(only_a_segment_with_the_marker_of_a_start_is_entered, first_groups)
{
    static unsigned char bytes[SEGMENT_MIN_BYTES];
    struct mapped_segment seg = { .group.bytes = bytes, .segment.seed = 77 };
    struct group_header first = { .first_lsn = 5,
                                  .bytes = row->bytes,
                                  .kind = (uint8_t)row->kind,
                                  .flags = GROUP_FIRST,
                                  .epoch.number = 1 };

    seg.group.cursor = &seg.own.cursor;
    twl_group_header_encode(&first, seg.segment.seed, SEGMENT_DATA_OFFSET, bytes + SEGMENT_DATA_OFFSET);
    bytes[SEGMENT_DATA_OFFSET] ^= row->flipped;
    ck_assert_int_eq(twl_mapped_segment_enter(&seg), row->result);
    if (row->result == 0)
        ck_assert_uint_eq(seg.group.first_lsn, 5);
}

static _Atomic unsigned made, names_synced;

/* Lets three segments be made: the first one of the log, the first mapped one, the next one. */
static int count_names_synced(const struct hooked_call *call)
{
    const bool makes = call->op == SIM_OPEN && twl_segment_name_is_temporary(call->name);
    names_synced += call->op == SIM_SYNC_DIR;
    return makes && made++ > 2 ? -ENOSPC : 0;
}

/* Making the segment behind it would sync its name, too. */
TEST(the_name_of_a_new_segment_is_synced_with_its_first_records)
{
    const struct twinlog_options options = shared_options(0);
    uint32_t number = 0;
    ck_assert_int_eq(mkdir(log_dir, 0700), 0);
    struct twinlog *log = log_on(hooked_log_dir(count_names_synced), &options);
    append_records(log, 0, number++, 1);
    ck_assert_int_eq(twinlog_sync(log), 0); /* and the name of the segment that it begins with */
    while (log_stat(log).rolls == 0)
        append_records(log, 0, number++, 1);
    names_synced = 0;
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(names_synced, 1);
    log_close(log);
}

TEST_EACH(a_poison_is_that_of_all, log_modes)
{
    struct twinlog *log = open_shared(0);
    struct member *others[2] = { come(0), come(1) };
    uint64_t lsn;
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    append_by(others[0], 5);
    append_by(others[1], 5);
    append_records(log, 0, 0, 5);
    atomic_store(&log->shared->page->poison, -EIO);
    ck_assert_int_eq(append_record(log, 0, 5, &lsn), TWINLOG_EPOISONED);
    ck_assert_int_eq(log_stat(log).poison, -EIO);
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_int_eq(inspection.poison, -EIO);
    ck_assert_int_lt(twinlog_sync(log), 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(ask(others[i], append_some, 1), TWINLOG_EPOISONED);
        ck_assert_int_lt(ask(others[i], sync_log, 0), 0);
    }
    struct member *newcomer = come(2); /* is no better off */
    ck_assert_int_eq(ask(newcomer, append_some, 1), TWINLOG_EPOISONED);
    ck_assert_int_lt(ask(newcomer, close_log, 0), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_lt(ask(others[i], close_log, 0), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(expect_all(5, 0), 15);
    expect_going_on(row->mode, 5, 0);
}

static bool is_refused(struct member *member)
{
    return ask(member, append_some, 1) < 0;
}

static bool takes_handler_for_a_race(const char *test)
{
    if (HAS_THREAD_SANITIZER)
        fprintf(stderr,
                "SKIP shared %s: the thread sanitizer takes the mmap() of a signal handler for a race\n",
                test);
    return HAS_THREAD_SANITIZER;
}

/* What they share is gone. No process dies of it, and nothing is lost. */
TEST_EACH(a_page_that_is_truncated_is_an_error, log_modes)
{
    if (takes_handler_for_a_race("a_page_that_is_truncated_is_an_error"))
        return;
    struct twinlog *log = open_shared(0);
    struct member *other = come(0);

    append_by(other, 200);
    append_records(log, 0, 0, 5);
    ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);
    AWAIT(is_refused(other));
    ck_assert_int_eq(ask(other, append_some, 1), TWINLOG_EPOISONED);
    ck_assert_int_lt(ask(other, sync_log, 0), 0);
    ck_assert_int_lt(ask(other, close_log, 0), 0);
    AWAIT(log_stat(log).poison < 0);
    ck_assert_int_lt(twinlog_sync(log), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    expect_all(5, 0);
    expect_going_on(row->mode, 5, 0);
}

/* Whatever ended the log for others, it would not see that. */
TEST(a_sync_sees_that_the_page_was_truncated)
{
    if (takes_handler_for_a_race("a_sync_sees_that_the_page_was_truncated"))
        return;
    struct twinlog *log = open_shared(LOG_NO_THREADS);

    append_records(log, 0, 0, 5);
    ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);
    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    ck_assert_int_eq(append_record(log, 0, 5, NULL), TWINLOG_EPOISONED);
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(expect_all(5, 0), 5);
    expect_going_on(0, 5, 0);
}

/* It has no thread that would see it. Others have gone on to segments that it has not heard of. */
TEST_EACH(one_that_is_behind_does_not_close_a_log_whose_page_was_truncated, log_modes)
{
    if (takes_handler_for_a_race("one_that_is_behind_does_not_close_a_log_whose_page_was_truncated"))
        return;
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *other = come(0);

    append_by(other, 300);
    close_by(other);
    ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(expect_all(0, 0), 300);
    expect_going_on(row->mode, 0, 0);
}

/* For one of them. The other one has room, and what it makes is there for both. */
TEST(a_disk_that_is_full_for_one_is_not_for_another)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = gate_log(&options);
    uint32_t own = 0;
    uint64_t lsn;
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    struct member *other = come(0);
    for (unsigned round = 0; round < 3; round++) {
        atomic_store(&gate.largest_file, 0);
        for (unsigned refused = 0; refused < 2;) { /* its thread may have had a segment half made */
            const int rc = append_record(log, 0, own, &lsn);
            own += rc == 0;
            refused = rc == 0 ? 0 : refused + 1;
            ck_assert(rc == 0 || (rc == -ENOSPC && lsn == 0));
        }
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_int_eq(log_stat(log).poison, 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), own + atomic_load(&other->appended));
        ck_assert_uint_eq(expect_all(own, 0), own + atomic_load(&other->appended));
        if (round < 2)
            append_by(other, 1);
        else
            atomic_store(&gate.largest_file, UINT64_MAX);
        append_records(log, 0, own++, 1);
    }
    atomic_store(&gate.largest_file, UINT64_MAX);
    append_records(log, 0, own, 50);
    append_by(other, 50);
    close_by(other);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, own + 50 + 52);
    expect_all(own + 50, 0);
}

/* ---- what one process may not do ------------------------------------------------------------------ */

static int limit_files(uint64_t bytes)
{
    const struct rlimit limit = { bytes, RLIM_INFINITY };
    return setrlimit(RLIMIT_FSIZE, &limit);
}

static int limit_own_files(void)
{
    return limit_files(atomic_load(&self->with));
}

TEST(a_process_whose_limit_is_below_the_size_of_a_segment_does_not_join)
{
    struct twinlog *log = open_shared(0);
    struct member *limited = start_member(0);
    append_records(log, 0, 0, 200);

    ck_assert_int_eq(ask(limited, limit_own_files, SEGMENT_BYTES - 1), 0);
    ck_assert_int_eq(ask(limited, open_log, 0), -EFBIG);
    ck_assert_int_eq(ask(limited, limit_own_files, SEGMENT_BYTES), 0);
    ck_assert_int_eq(ask(limited, open_log, 0), 0);

    append_by(limited, 5);
    close_by(limited);
    log_close(log);
    ck_assert_uint_eq(expect_all(200, 0), 205);
}

static int open_without_own_thread(void)
{
    atomic_store(&sharing->flags, LOG_NO_THREADS);
    return open_log();
}

/* Returns what poisons its handle. */
static int close_left_segments(void)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    twl_mapped_close_left(own_log->mapped);
    return twinlog_stat(own_log, &stat) < 0 ? -1 : stat.poison;
}

static int lower_limit(void)
{
    return limit_files(BLOCK_BYTES);
}

static int forbid_writes(void)
{
    return forbid(SYS_pwrite64, EPERM) ? 0 : -1;
}

static int forbid_syncs(void)
{
    return forbid(SYS_fdatasync, EPERM) && forbid(SYS_fsync, EPERM) ? 0 : -1;
}

static int forbid_syncs_for_memory(void)
{
    return forbid(SYS_fdatasync, ENOMEM) && forbid(SYS_fsync, ENOMEM) ? 0 : -1;
}

static int forbid_msync(void)
{
    return forbid(SYS_msync, EACCES) ? 0 : -1;
}

static int forbid_msync_as_unknown(void)
{
    return forbid(SYS_msync, ENOSYS) ? 0 : -1;
}

static const struct own_refusal {
    const char *name;
    int (*begin)(void);
    int poison, close; /* what the process is told: a refused write can wait for another one, a sync cannot */
} own_refusals[] = {
    { "a lower limit on files", lower_limit, 0, 0 },
    { "a filter of writes", forbid_writes, 0, 0 },
    { "a filter of syncs", forbid_syncs, -EPERM, -EPERM },
    { "a filter of syncs that speaks of memory", forbid_syncs_for_memory, -ENOMEM, -ENOMEM },
    { "a filter of msync()", forbid_msync, -EACCES, -EACCES },
    { "a filter that does not know msync()", forbid_msync_as_unknown, -ENOSYS, -ENOSYS },
};

/* It tries to close a segment that others have left, and to sync. The others do it for it. */
TEST_EACH(what_one_process_may_not_do_is_not_told_to_others, own_refusals)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *refused = start_member(0);
    ck_assert_int_eq(ask(refused, open_without_own_thread, 0), 0);
    append_by(refused, 1);

    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK); /* so none is closed yet */
    append_records(log, 0, 0, 400);
    close(held);
    if (ask(refused, row->begin, 0) != 0) {
        printf("SKIP shared %s: no filter of system calls may be loaded\n", row->name);
        log_close(log);
        return;
    }
    const int poison = ask(refused, close_left_segments, 0);
    ck_assert_int_eq(poison, row->poison);
    if (row->poison < 0)
        ck_assert_int_eq(ask(refused, append_some, 1), TWINLOG_EPOISONED);

    ck_assert_int_eq(twinlog_sync(log), 0);
    append_records(log, 0, 400, 400);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(log_stat(log).poison, 0);
    ck_assert_int_eq(log_inspect().poison, 0);

    ck_assert_int_eq(ask(refused, close_log, 0), row->close);
    log_close(log);
    ck_assert_uint_eq(expect_all(800, 0), 801);
    expect_clean_opening(TWINLOG_MODE_SHARED, 801);
}

/* Without another one, closing the log is left to the next opening. */
TEST(the_last_one_that_may_not_write_says_so)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *limited = start_member(0);
    ck_assert_int_eq(ask(limited, open_without_own_thread, 0), 0);
    append_by(limited, 10);
    append_records(log, 0, 0, 10);
    log_close(log);

    ck_assert_int_eq(ask(limited, lower_limit, 0), 0);
    ck_assert_int_eq(ask(limited, close_log, 0), -EFBIG);
    ck_assert_uint_eq(expect_all(10, 0), 20);
    expect_going_on(TWINLOG_MODE_SHARED, 10, 0);
}

/* ---- segments ------------------------------------------------------------------------------------- */

/* None of them is closed. */
static void leave_segments(struct twinlog *log)
{
    const uint64_t before = atomic_load(&log->mapped->active)->number;
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
    append_records(log, 0, 3, 800);
    close(held);
    ck_assert_uint_gt(atomic_load(&log->mapped->active)->number, before + 8);
}

#define CLOSED_BY_A_SYNC 2u
#define LEFT_TO_THREADS 4u

static uint64_t segments_left(const struct common *common)
{
    return atomic_load(&common->newest) - atomic_load(&common->oldest);
}

/* A few, as it has a caller that waits. The retention is for the thread, which may never get the lock to close anything
 * itself. */
TEST(a_sync_closes_segments_where_many_are_open)
{
    struct twinlog_options options = shared_options(LOG_NO_THREADS);
    options.keep_records = 1;
    struct twinlog *log = log_open(&options);
    const struct common *common = map_common();
    append_records(log, 0, 0, 3);
    leave_segments(log);

    const uint64_t oldest = atomic_load(&common->oldest), many = segments_left(common);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(atomic_load(&common->oldest), oldest + CLOSED_BY_A_SYNC);

    for (uint64_t syncs = 0; segments_left(common) > LEFT_TO_THREADS; syncs++) {
        ck_assert_uint_lt(syncs, many);
        append_records(log, 0, 803 + (unsigned)syncs, 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }

    ck_assert_uint_eq(segments_left(common), LEFT_TO_THREADS);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);

    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);
    ck_assert(!twl_mapped_tend(log->mapped));
    ck_assert_uint_gt(twinlog_first_lsn(log), 1);
    close(held);
    log_close(log);
}

/* It has no thread, and appends nothing. */
TEST(one_that_only_syncs_keeps_no_segments_that_others_have_closed)
{
    if (!can_look_into_proc("one_that_only_syncs_keeps_no_segments_that_others_have_closed"))
        return;
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *other = come(0);
    const struct common *common = map_common();
    for (unsigned round = 0; round < 10; round++) {
        append_by(other, 300);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }
    AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    ck_assert_uint_gt(atomic_load(&common->oldest), 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_count_open_segments(), 1);
    append_records(log, 0, 0, 3000); /* neither does one that appends */
    ck_assert_uint_eq(log_count_open_segments(), 1);
    close_by(other);
    log_close(log);
    ck_assert_uint_eq(expect_all(3000, 0), 6000);
}

/* The page of a record is as the kernel leaves it that could not write it, and drops it. Returns its LSN. */
static uint64_t lose_record(struct twinlog *log)
{
    static const unsigned char zeros[RECORD_HEADER_BYTES];
    const uint64_t lsn = append_records(log, 0, 0, 1);

    patch_file(log_segment(2), OPEN_RECORDS_OFFSET, zeros, sizeof(zeros));
    return lsn;
}

static void expect_poisoned(struct twinlog *log)
{
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

TEST(a_record_that_is_gone_poisons_in_a_sync)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);

    lose_record(log);
    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    expect_poisoned(log);
}

TEST(a_record_that_is_gone_is_not_waited_for)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    const uint64_t lsn = lose_record(log);

    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_WRITTEN, 0), TWINLOG_EPOISONED);
    expect_poisoned(log);
}

TEST(a_record_that_is_gone_poisons_in_a_sync_of_another_process)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);

    lose_record(log);
    struct twinlog *other = open_shared(LOG_NO_THREADS);
    ck_assert_int_eq(twinlog_sync(other), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(other), -EIO);
    expect_poisoned(log);
}

TEST(a_sync_that_cannot_follow_says_so)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    struct twinlog *log = open_shared(LOG_NO_THREADS), *behind = gate_log(&options);
    append_records(log, 0, 0, 1);
    ck_assert_int_eq(twinlog_sync(behind), 0);
    atomic_store(&gate.map_error, -ENOMEM);
    append_records(log, 0, 1, 300); /* beyond what it has mapped */
    ck_assert_int_eq(twinlog_sync(log), 0);
    append_records(log, 0, 301, 99);
    ck_assert_int_eq(twinlog_sync(behind), -ENOMEM);
    ck_assert_int_eq(twinlog_wait(behind, twinlog_written_lsn(behind), TWINLOG_LEVEL_WRITTEN, 0), 0);
    atomic_store(&gate.map_error, 0);
    ck_assert_int_eq(twinlog_sync(behind), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(behind), 400);
    log_close(behind);
    log_close(log);
}

/* ---- with few descriptors ------------------------------------------------------------------------- */

static struct rlimit all_descriptors; /* of a member */

#define FEW_DESCRIPTORS 5u

/* So many more than it has. */
static int limit_descriptors(void)
{
    const uint32_t more = atomic_load(&self->with);
    int taken[FEW_DESCRIPTORS + 1];
    EXPECT(more <= FEW_DESCRIPTORS && getrlimit(RLIMIT_NOFILE, &all_descriptors) == 0);
    for (uint32_t i = 0; i <= more; i++) /* each is the lowest one that is free */
        EXPECT((taken[i] = open("/", O_PATH | O_CLOEXEC)) >= 0);
    struct rlimit limit = all_descriptors;
    limit.rlim_cur = (rlim_t)taken[more];
    for (uint32_t i = 0; i <= more; i++)
        close(taken[i]);
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static int take_limit_away(void)
{
    return setrlimit(RLIMIT_NOFILE, &all_descriptors);
}

/* It joins behind records that are not synced: it has to read them back, with two descriptors. */
static struct member *come_with_few_descriptors(struct twinlog *log, uint32_t descriptors)
{
    struct member *limited = start_member(0);
    append_records(log, 0, 0, 3);
    ck_assert_int_eq(ask(limited, open_without_own_thread, 0), 0);
    append_by(limited, 1);
    ck_assert_int_eq(ask(limited, limit_descriptors, descriptors), 0);
    return limited;
}

static void close_both(struct twinlog *log, struct member *limited, uint32_t appended)
{
    ck_assert_int_eq(ask(limited, take_limit_away, 0), 0);
    close_by(limited);
    log_close(log);
    expect_all(appended, 0);
}

static int wait_for_own(void)
{
    return twinlog_wait(own_log, atomic_load(&self->lsn), TWINLOG_LEVEL_DURABLE, 0);
}

static const struct few_descriptors {
    const char *name;
    uint32_t count;
    int (*call)(void);
} few_descriptors[] = {
    { "for its own record", 2, wait_for_own },
    { "to follow the others, closing what it has", 3, sync_log },
    { "the same with one more", 4, sync_log },
    { "the same with two more", 5, sync_log },
};

/* The others have left more segments than it may have files. */
TEST_EACH(a_sync_needs_few_descriptors, few_descriptors)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *limited = come_with_few_descriptors(log, row->count);
    leave_segments(log);
    ck_assert_int_eq(ask(limited, row->call, 0), 0);
    close_both(log, limited, 803);
}

static int append_and_stop_behind_refusal(void)
{
    atomic_store(&stops_in_page_sleep, true);
    const int rc = append_durable();
    if (atomic_exchange(&stops_in_page_sleep, false)) /* it has not waited for others */
        kill(getpid(), SIGSTOP);
    return rc;
}

/* It is refused once. Then another one syncs its record. */
TEST(a_sync_that_lacks_a_descriptor_is_left_to_others)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *limited = come_with_few_descriptors(log, 0);
    post(limited, append_and_stop_behind_refusal, 0);
    wait_until_stopped(atomic_load(&limited->pid));
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    continue_member(limited);
    ck_assert_int_eq(answer(limited), 0);
    close_both(log, limited, 3);
}

/* Returns what it is told, and notes the LSN. */
static int append_unsynced(void)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_DURABLE };
    unsigned char bytes[RECORD_ROOM];
    const uint32_t sequence = atomic_fetch_add(&self->appended, 1);
    const struct twinlog_entry entry = { .data = bytes,
                                         .size = (uint32_t)make_record(writer_of(self), sequence, bytes) };
    uint64_t lsn;
    const int rc = twinlog_append_batch(own_log, &entry, 1, &terms, &lsn);
    atomic_store(&self->lsn, lsn);
    return rc;
}

TEST(a_record_that_cannot_be_synced_for_lack_of_a_descriptor_has_its_lsn)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    struct member *limited = come_with_few_descriptors(log, 0);
    ck_assert_int_eq(ask(limited, append_unsynced, 0), -EMFILE);
    ck_assert_uint_eq(atomic_load(&limited->lsn), 5);
    ck_assert_int_eq(ask(limited, take_limit_away, 0), 0);
    ck_assert_int_eq(ask(limited, wait_for_own, 0), 0);
    close_both(log, limited, 3);
}

CASE("what is refused", set_up_members, logdir_remove);

static void expect_refusal(const struct twinlog_options *options, int error, const char *word)
{
    ck_assert_int_eq(log_open_error(options), error);
    ck_assert_msg(strstr(log_report.text, word) != NULL, "%s", log_report.text);
    ck_assert_int_eq(log_report.error, error);
}

/* As an opening tries to get its newest segments, for longer. */
static int try_segment(struct io *io, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment segment;
    enum header_state state;
    twl_segment_name(number, name);
    const int rc = twl_segment_open(io, name, 0, 1, &segment, &state);
    if (rc == 0)
        twl_segment_close(&segment);
    return rc;
}

static const struct end_of_last {
    const char *name;
    bool is_closed;
} ends_of_last[] = {
    { "the last one closes it", true },
    { "the last one is killed", false },
};

/* The file by which they know of each other was removed. Those that were there go on, and no other one joins. */
TEST_EACH(no_process_opens_a_shared_log_whose_lock_was_removed, ends_of_last)
{
    struct member *members[] = { come(0), come(1) };
    const struct common *common = map_common();
    struct io *io = log_io(false);

    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0);
    const uint64_t first = atomic_load(&common->newest);
    ck_assert_int_eq(try_segment(io, first), -EBUSY);
    append_by(members[0], 100);
    append_by(members[1], 100);
    ck_assert_uint_gt(atomic_load(&common->newest), first);
    ck_assert_int_eq(try_segment(io, atomic_load(&common->newest)), -EBUSY);
    close_by(members[0]);
    ck_assert_int_eq(try_segment(io, atomic_load(&common->newest)), -EBUSY);

    ck_assert_int_eq(ask(members[1], leave_a_child, 0), 0); /* it keeps nothing */
    const pid_t child = atomic_load(&members[1]->child);
    const uint64_t newest = atomic_load(&common->newest);
    if (row->is_closed)
        ck_assert_int_eq(ask(members[1], close_log, 0), 0);
    end_member(members[1]);
    ck_assert_int_eq(try_segment(io, newest), 0);
    kill(child, SIGKILL);
    io->ops->destroy(io);
    ck_assert_uint_eq(expect_all(0, 0), 200);
    expect_going_on(TWINLOG_MODE_SHARED, 0, 0);
}

TEST(writers_of_other_modes_stay_out)
{
    struct member *member = come(0);
    struct twinlog_options options = small(TWINLOG_MODE_DURABLE);
    expect_refusal(&options, -EBUSY, "another writer has this log open;"); /* it is not one process */
    options = small(TWINLOG_MODE_MAPPED);
    options.lock_timeout_ms = 20;
    expect_refusal(&options, -EBUSY, "another writer");
    append_by(member, 5);
    close_by(member);
    for (uint32_t mode = 0; mode < 2; mode++) {
        struct twinlog *log = open_mode(mode);
        options = shared_options(0);
        expect_refusal(&options, -EBUSY, "another mode");
        append_records(log, 0, 5 * mode, 5);
        log_close(log);
    }
    ck_assert_uint_eq(expect_all(10, 0), 15);
}

#define FILES_OF_ALL (7 * PARTICIPANTS_MAX)

TEST(as_many_as_there_are_numbers_share_a_log)
{
    static struct twinlog *logs[PARTICIPANTS_MAX];
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    if (!allow_files(FILES_OF_ALL, "as_many_as_there_are_numbers_share_a_log"))
        return;
    for (uint32_t i = 0; i < PARTICIPANTS_MAX; i++) {
        logs[i] = log_open(&options);
        append_records(logs[i], 0, i, 1);
    }
    expect_refusal(&options, -EUSERS, "as many as can");
    for (uint32_t i = PARTICIPANTS_MAX; i-- > 0;) {
        ck_assert_uint_eq(append_records(logs[i], 0, PARTICIPANTS_MAX + PARTICIPANTS_MAX - 1 - i, 1),
                          PARTICIPANTS_MAX + PARTICIPANTS_MAX - i);
        if (i % 50 == 0)
            ck_assert_int_eq(twinlog_sync(logs[i]), 0);
    }
    log_close(logs[77]);
    logs[77] = log_open(&options);
    for (uint32_t i = 0; i < PARTICIPANTS_MAX; i++)
        log_close(logs[i]);
    ck_assert_uint_eq(expect_all(2 * PARTICIPANTS_MAX, 0), 2 * PARTICIPANTS_MAX);
    expect_clean_opening(TWINLOG_MODE_SHARED, 2 * PARTICIPANTS_MAX);
}

static const struct log_mode other_modes[] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "mapped", TWINLOG_MODE_MAPPED },
};

/* Or a process could join a log that another kind of writer has gone on with. */
TEST_EACH(another_writer_takes_back_that_the_log_is_open, other_modes)
{
    struct member *member = come(0);
    struct common *common = map_common();
    append_by(member, 3);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_OPEN);
    end_member(member);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_OPEN);
    struct twinlog *log = open_mode(row->mode);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_NONE);
    ck_assert_uint_eq(common->version, 0);
    log_close(log);
}

/* Both halves: without /proc only the second one is known. Again: back to what it was. */
static void change_boot(struct common *common)
{
    common->boot_id[3] ^= 1;
    common->boot_id[BOOT_ID_BYTES / 2 + 3] ^= 1;
}

TEST(those_that_share_it_in_another_way_are_not_joined)
{
    struct member *member = come(0);
    const struct twinlog_options options = shared_options(0);
    struct common *common = map_common();
    common->version++;
    expect_refusal(&options, TWINLOG_EVERSION, "another version");
    ADVISES(log_report.text, "another version of twinlog has this log open; close it there");
    common->version--;
    change_boot(common);
    expect_refusal(&options, -EBUSY, "another container");
    ADVISES(log_report.text, "let all containers see that of the host, or close it there");
    change_boot(common);
    struct twinlog *log = open_shared(0);
    append_records(log, 0, 0, 5);
    append_by(member, 5);
    log_close(log);
    end_member(member);
    common->version++; /* and no participant lives */
    expect_going_on(TWINLOG_MODE_SHARED, 5, 0);
    change_boot(common);
    expect_going_on(TWINLOG_MODE_SHARED, 35, 0);
}

#define LARGE_RECORD 100000u

static int append_size(struct twinlog *log, size_t size)
{
    static const unsigned char bytes[LARGE_RECORD];
    return twinlog_append(log, bytes, size, NULL);
}

/* Another process has the lock for a look, so this one is not the first; and no participant is there. */
TEST(a_log_that_is_closed_is_not_joined)
{
    const struct twinlog_options options = shared_options(0);
    struct member *member = come(0);
    append_by(member, 5);
    close_by(member);
    struct common *common = map_common();
    ck_assert_uint_ne(atomic_load(&common->state), COMMON_OPEN);
    atomic_store(&common->state, COMMON_NONE); /* which is waited for the shortest time */
    const int held = hold_lock(log_file(PAGE_FILE_NAME), IO_LOCK_WRITER, F_RDLCK);
    expect_refusal(&options, -EBUSY, "another mode");
    close(held);
    expect_clean_opening(TWINLOG_MODE_SHARED, 5);
}

static const struct dead_writer {
    const char *name;
    bool has_claim;
    uint64_t fillers;
} dead_writers[] = {
    { "it has claimed nothing", false, 0 },
    { "it has claimed a record", true, 1 },
};

/* Another process has the lock for a look here, too. A process that came now would go on in an epoch that readers have
 * done with. */
TEST_EACH(a_log_whose_writers_are_dead_is_opened_anew, dead_writers)
{
    const struct twinlog_options options = shared_options(0);
    struct member *member = come(0);
    struct found found = { 0 };

    append_by(member, 5);
    if (row->has_claim)
        ck_assert_int_eq(ask(member, claim, CURSOR_MOVED), 0);
    end_member(member);
    struct common *common = map_common();
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_OPEN);

    const int held = hold_lock(log_file(PAGE_FILE_NAME), IO_LOCK_WRITER, F_RDLCK);
    struct twinlog_reader *reader = log_reader(0, 0);
    look_on(&found, reader);
    expect_refusal(&options, -EBUSY, "another mode");
    close(held);
    look_on(&found, reader);

    struct twinlog *log = open_shared(0);
    ck_assert_uint_eq(log->participants.number, 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
    for (unsigned round = 0; round < 3; round++) {
        append_records(log, 0, round, 1);
        AWAIT(has_found(&found, reader, twinlog_last_lsn(log)));
    }
    twinlog_reader_close(reader);
    log_close(log);
    expect_all(3, row->fillers);
}

static const struct link_error {
    const char *name;
    int error;
} link_errors[] = {
    { "EPERM", -EPERM },
    { "EOPNOTSUPP", -EOPNOTSUPP },
};

TEST_EACH(a_file_system_without_hard_links_is_refused_at_once, link_errors)
{
    struct twinlog_options options = shared_options(0);
    struct twinlog *log = NULL;

    atomic_store(&gate.link_error, row->error);
    ck_assert_int_eq(gate_try_log(&options, &log), -ENOTSUP);
    ADVISES(log_report.text,
            "or there are no hard links, or no /proc; mount it, or choose another file system or mode");

    options = small(TWINLOG_MODE_MAPPED);
    log = gate_log(&options);
    append_records(log, 0, 0, 300);
    log_close(log);
    atomic_store(&gate.link_error, 0);
    expect_going_on(TWINLOG_MODE_SHARED, 300, 0);
}

/* Those that died while they made a segment, as others may be doing now. */
TEST(one_that_joins_removes_what_is_left_of_the_dead)
{
    static const char *const names[] = { "1122334455667788.twl.new", "1122334455667789.twl.new",
                                         "112233445566778a.twl.new" };
    static const unsigned char bytes[4 * BLOCK_BYTES];
    struct member *member = come(0);
    for (unsigned i = 0; i < 3; i++)
        put_file(log_file(names[i]), bytes, i < 2 ? sizeof(bytes) : 0);
    const int fd = hold_lock(log_file(names[1]), IO_LOCK_WRITER, F_RDLCK);
    struct twinlog *log = open_shared(0);
    ck_assert(!log_has_file(names[0]));
    ck_assert_msg(log_has_file(names[1]), "a process is making it");
    ck_assert_msg(log_has_file(names[2]), "its maker may not have come to lock it");
    close(fd);
    append_records(log, 0, 0, 100);
    append_by(member, 100);
    log_close(log);
    close_by(member);
    for (unsigned i = 0; i < 2; i++)
        ck_assert(!log_has_file(names[i]));
    expect_going_on(TWINLOG_MODE_SHARED, 100, 0);
    ck_assert_msg(!log_has_file(names[2]), "an opening removes it");
}

/* The lock that keeps others away is held until then; the page says what its holder does. */
static struct {
    uint64_t until_ns;
    int held;
} holder;

static int let_go_in_time(const struct hooked_call *call)
{
    const bool is_over = twl_monotonic_ns() >= holder.until_ns;

    if (call->op == SIM_LOCK && holder.held >= 0 && is_over) {
        close(holder.held);
        holder.held = -1;
    }
    return 0;
}

#define MEETING_NS UINT64_C(1000000000) /* how long one waits where the page says nothing of an opening */

static const struct meeting_row {
    const char *name;
    uint32_t state;
    bool has_page;
    uint64_t held_ns;
} meeting_rows[] = {
    { "another one opens it", COMMON_OPENING, true, MEETING_NS + MEETING_NS / 4 },
    { "another one closes it", COMMON_CLOSING, true, MEETING_NS + MEETING_NS / 4 },
    { "another one has not made its page yet", COMMON_NONE, false, MEETING_NS / 10 },
};

TEST_EACH(one_that_comes_in_the_middle_of_an_opening_or_a_close_waits_for_its_end, meeting_rows)
{
    struct twinlog_options options = shared_options(0);
    struct twinlog *log = NULL;

    struct member *member = come(0);
    append_by(member, 5);
    close_by(member);
    atomic_store(&map_common()->state, row->state);
    holder.held = hold_lock(log_file(PAGE_FILE_NAME), IO_LOCK_WRITER, F_RDLCK);
    if (!row->has_page)
        ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);

    holder.until_ns = twl_monotonic_ns() + row->held_ns;
    options.lock_timeout_ms = 0;
    ck_assert_int_eq(log_try_on(hooked_log_dir(let_go_in_time), &options, &log), 0);
    ck_assert_int_eq(holder.held, -1);
    ck_assert_uint_eq(log->participants.number, 1);
    append_records(log, 0, 0, 5);
    log_close(log);
    ck_assert_uint_eq(expect_all(5, 0), 10);
}

TEST(one_that_cannot_join_leaves_no_trace)
{
    struct member *member = come(0);
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = NULL;
    append_by(member, 5);
    const unsigned files = log_count_files();
    for (unsigned i = 0; i < 5; i++) {
        atomic_store(&gate.map_error, -ENOMEM);
        ck_assert_int_eq(gate_try_log(&options, &log), -ENOMEM);
        ck_assert_ptr_null(log);
        ck_assert_ptr_nonnull(strstr(log_report.text, "join"));
        AWAIT(log_count_files() <=
              files + 1); /* the one that is prepared, which has two names for a moment */
        append_by(member, 5);
    }
    atomic_store(&gate.map_error, 0);
    log = gate_log(&options);
    ck_assert_uint_eq(log->participants.number, atomic_load(&member->number) + 1);
    append_records(log, 0, 0, 5);
    close_by(member);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 35);
    expect_all(5, 0);
}

TEST(options_of_the_first_one_count)
{
    struct twinlog_options options = shared_options(0);
    options.segment_bytes = 2 * SEGMENT_BYTES;
    options.max_record_bytes = 4096;
    struct twinlog *first = log_open(&options);
    options = shared_options(0);
    options.max_record_bytes = 100;
    struct twinlog *smaller = log_open(&options);
    options.max_record_bytes = RECORD_ROOM;
    struct twinlog *larger = log_open(&options);
    ck_assert_int_eq(append_size(smaller, 100), 0);
    ck_assert_int_eq(append_size(smaller, 101), -EMSGSIZE);
    ck_assert_int_eq(append_size(larger, 4096), 0);
    ck_assert_int_eq(append_size(larger, 4097), -EMSGSIZE);
    ck_assert_int_eq(append_size(first, 4096), 0);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(append_size(larger, 4000), 0);
    ck_assert_uint_eq(size_of_segment(2), SEGMENT_BYTES);
    ck_assert_uint_eq(size_of_segment(3), 2 * SEGMENT_BYTES);
    ck_assert_uint_eq(size_of_segment(4), 2 * SEGMENT_BYTES);
    log_close(first);
    for (unsigned i = 0; i < 2000; i++) /* the room of a next one is for the records of all */
        ck_assert_int_eq(append_size(smaller, 100), 0);
    ck_assert_int_eq(append_size(larger, 4096), 0);
    log_close(larger);
    log_close(smaller);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* As small as there is still room for, but for the records of all. */
TEST(a_segment_has_room_for_the_largest_record_of_all)
{
    struct twinlog_options options = shared_options(LOG_NO_THREADS);
    options.segment_bytes = 4 * SEGMENT_BYTES;
    options.mapped_bytes = 0;
    options.max_record_bytes = LARGE_RECORD;
    struct twinlog *first = log_open(&options);
    options.max_record_bytes = 100;
    struct twinlog *smaller = gate_log(&options);
    atomic_store(&gate.largest_file, LARGE_RECORD);
    int rc;
    while ((rc = append_size(smaller, 100)) == 0)
        continue;
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert(!has_segment(3));
    ck_assert_int_eq(append_size(first, LARGE_RECORD), 0);
    atomic_store(&gate.largest_file, UINT64_MAX);
    ck_assert_int_eq(append_size(smaller, 100), 0);
    log_close(first);
    log_close(smaller);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* ---- what cannot be asked ------------------------------------------------------------------------- */

static enum io_lock first_refused_lock;

static int refuse_locks(const struct hooked_call *call)
{
    return call->op == SIM_LOCK && call->lock >= first_refused_lock ? -ENOLCK : 0;
}

/* Not: as many as there are numbers share it. */
TEST(a_lock_that_the_system_refuses_is_no_number_of_another_participant)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    struct twinlog *log = NULL;

    log_close(open_shared(LOG_NO_THREADS));
    first_refused_lock = (enum io_lock)LOCK_OF_NUMBER;
    ck_assert_int_eq(log_try_on(hooked_log_dir(refuse_locks), &options, &log), -ENOLCK);
    ck_assert_int_eq(log_report.finding, TWINLOG_FOUND_SYSTEM_ERROR);
    log_close(open_shared(LOG_NO_THREADS));
}

static bool is_joined;
static unsigned locks_of_new, collisions;

/* As one that joins, and looks whether the new file is one of a dead participant; not while it is made, when its maker
 * has locked it. */
static int collide_with_one_that_joins(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN && (call->flags & IO_CREATE))
        locks_of_new = 0;
    if (!is_joined || call->op != SIM_LOCK || call->lock != IO_LOCK_WRITER)
        return 0;

    locks_of_new++;
    const bool collides = locks_of_new > 2 && locks_of_new < 6;
    collisions += collides;
    return collides ? -EAGAIN : 0;
}

TEST(an_append_waits_for_one_that_joins)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    struct twinlog *log = NULL;

    log_close(open_shared(LOG_NO_THREADS));
    ck_assert_int_eq(log_try_on(hooked_log_dir(collide_with_one_that_joins), &options, &log), 0);
    append_records(log, 0, 0, 1);
    const uint64_t number = atomic_load(&log->mapped->active)->number;
    is_joined = true;
    for (uint32_t i = 1; atomic_load(&log->mapped->active)->number < number + 3; i++)
        append_records(log, 0, i, 1);
    is_joined = false;
    ck_assert_uint_gt(collisions, 0);
    log_close(log);
}

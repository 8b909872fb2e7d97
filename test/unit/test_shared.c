/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_SHARED: several processes append to one log. What one process sees of it is what the suite "mapped" is
 * about; here they come, go, stop and die beside each other.
 *
 * A member is a process that does what the test tells it, one order after the other. What a process leaves that dies at
 * one certain instruction is made by hand: a claim that is as far as that, and then a kill.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "control/state.h"
#include "format/format.h"
#include "gate.h"
#include "hooked.h"
#include "log/handle.h"
#include "logdir.h"
#include "mapped/inside.h"
#include "mapped/participants.h"
#include "suites.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT_BYTES 65536u
#define MODES 3
#define SOON_NS UINT64_C(60000000000) /* what takes a tenth of a second, on a machine that does much else */

/* ---- opening ------------------------------------------------------------------------------------ */

static struct twinlog_options small(uint32_t mode)
{
    struct twinlog_options options =
        LOG_OPTIONS(.mode = mode, .segment_bytes = SEGMENT_BYTES, .max_record_bytes = RECORD_ROOM);

    if (mode != TWINLOG_MODE_DURABLE)
        options.mapped_bytes = SEGMENT_BYTES;
    return options;
}

static struct twinlog_options shared_options(uint32_t flags)
{
    struct twinlog_options options = small(TWINLOG_MODE_SHARED);

    options.flags = flags;
    return options;
}

static struct twinlog *open_shared(uint32_t flags)
{
    const struct twinlog_options options = shared_options(flags);

    return log_open(&options);
}

static struct twinlog *open_mode(uint32_t mode)
{
    const struct twinlog_options options = small(mode);

    return log_open(&options);
}

/* ---- members ------------------------------------------------------------------------------------ */

#define MEMBERS 6u

struct member {
    int (*_Atomic order)(void); /* NULL: done */
    _Atomic uint32_t with;      /* what the order is about */
    _Atomic int result;
    _Atomic uint32_t appended; /* its records; they returned */
    _Atomic uint32_t number;   /* that it has in claims */
    _Atomic uint64_t lsn;      /* of the newest */
    _Atomic uint64_t syncs;
    _Atomic pid_t pid, child;
};

static struct shared {
    _Atomic unsigned expected, arrived; /* at a meeting */
    _Atomic uint32_t flags;             /* of members that open the log from now on */
    struct member members[MEMBERS];
} * shared;

static struct member *self;                /* in a member's process: itself, */
static struct twinlog *own_log;            /* its log, */
static struct place own_place;             /* and its claim */
static struct mapped_segment *own_segment; /* where it is: counted among the users, as by an append */

static uint32_t writer_of(const struct member *member)
{
    return 1 + (uint32_t)(member - shared->members); /* 0 is the test */
}

/* While others have something to do, of which there may be more than processors. */
static void nap(void)
{
    const struct timespec time = { .tv_nsec = 100000 };

    nanosleep(&time, NULL);
}

static int serve(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int (*const order)(void) = atomic_load(&self->order);
        if (order) {
            atomic_store(&self->result, order());
            atomic_store(&self->order, NULL);
        } else {
            nap();
        }
    }
    return 0;
}

/* Before the test has threads, but for those that come after one that has ended. */
static struct member *start_member(unsigned which)
{
    self = &shared->members[which];
    if (atomic_load(&self->pid) == 0) {
        atomic_store(&self->order, NULL);
        atomic_store(&self->pid, start_child(serve));
    }
    return self;
}

static void post(struct member *member, int (*order)(void), uint32_t with)
{
    atomic_store(&member->with, with);
    atomic_store(&member->order, order);
}

static bool is_done(struct member *member)
{
    int status;

    if (!atomic_load(&member->order))
        return true;
    ck_assert_msg(waitpid(atomic_load(&member->pid), &status, WNOHANG) == 0,
                  "member %u has died of signal %d", writer_of(member), WTERMSIG(status));
    nap();
    return false;
}

static int answer(struct member *member)
{
    AWAIT(is_done(member));
    return atomic_load(&member->result);
}

static int ask(struct member *member, int (*order)(void), uint32_t with)
{
    post(member, order, with);
    return answer(member);
}

static void end_member(struct member *member)
{
    kill(atomic_load(&member->pid), SIGKILL);
    ck_assert_int_eq(wait_child(atomic_load(&member->pid)), 128 + SIGKILL);
    atomic_store(&member->pid, 0);
}

static void stop_member(struct member *member)
{
    int status;

    kill(atomic_load(&member->pid), SIGSTOP);
    ck_assert_int_eq(waitpid(atomic_load(&member->pid), &status, WUNTRACED), atomic_load(&member->pid));
    ck_assert(WIFSTOPPED(status));
}

static void continue_member(struct member *member)
{
    kill(atomic_load(&member->pid), SIGCONT);
}

/* ---- orders ------------------------------------------------------------------------------------- */

static int meet(void)
{
    uint64_t began_ns = 0;

    atomic_fetch_add(&shared->arrived, 1);
    while (atomic_load(&shared->arrived) < atomic_load(&shared->expected))
        EXPECT(still_in_time(&began_ns));
    return 0;
}

static int open_log(void)
{
    struct twinlog_options options = shared_options(atomic_load(&shared->flags));
    const int rc = twinlog_open(log_dir, &options, &own_log);

    if (rc == 0)
        atomic_store(&self->number, own_log->participants.number);
    return rc;
}

static int open_together(void)
{
    EXPECT(meet() == 0);
    return open_log();
}

static int close_log(void)
{
    return twinlog_close(own_log);
}

static int close_together(void)
{
    EXPECT(meet() == 0);
    return close_log();
}

static int append_next(void)
{
    uint64_t lsn;
    const int rc = append_record(own_log, writer_of(self), atomic_load(&self->appended), &lsn);

    if (rc == 0) {
        atomic_store(&self->lsn, lsn);
        atomic_fetch_add(&self->appended, 1);
    }
    return rc;
}

static int append_some(void)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < atomic_load(&self->with); i++)
        rc = append_next();
    return rc;
}

/* Until it is killed, or told why not. */
static int append_on(void)
{
    int rc;

    do
        rc = append_next();
    while (rc == 0);
    return rc;
}

static int sync_log(void)
{
    return twinlog_sync(own_log);
}

static int append_durable(void)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_DURABLE };
    unsigned char bytes[RECORD_ROOM];
    const uint32_t size = (uint32_t)make_record(writer_of(self), atomic_load(&self->appended), bytes);
    const struct twinlog_entry entry = { .data = bytes, .size = size };
    uint64_t lsn;
    const int rc = twinlog_append_batch(own_log, &entry, 1, &terms, &lsn);

    EXPECT(rc < 0 || twinlog_durable_lsn(own_log) >= lsn);
    if (rc == 0) {
        atomic_store(&self->lsn, lsn);
        atomic_fetch_add(&self->appended, 1);
    }
    return rc;
}

static int ask_for_durable(void)
{
    atomic_store(&self->lsn, twinlog_durable_lsn(own_log));
    return 0;
}

static int count_syncs(void)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    const int rc = twinlog_stat(own_log, &stat);

    atomic_store(&self->syncs, stat.syncs);
    return rc;
}

#define AHEAD_LSN 150u /* its time is ahead of all */

static int64_t time_of(uint64_t lsn)
{
    return lsn == AHEAD_LSN ? 100000000 : 1000 * (int64_t)lsn;
}

/* No other process appends. */
static int append_timed(void)
{
    unsigned char bytes[RECORD_ROOM];

    for (uint32_t i = 0; i < atomic_load(&self->with); i++) {
        const uint32_t sequence = atomic_fetch_add(&self->appended, 1);
        const uint32_t size = (uint32_t)make_record(writer_of(self), sequence, bytes);
        const struct twinlog_entry entry = { .data = bytes,
                                             .size = size,
                                             .time_ns = time_of(twinlog_last_lsn(own_log) + 1) };
        const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_WRITTEN };
        EXPECT(twinlog_append_batch(own_log, &entry, 1, &terms, NULL) == 0);
    }
    return 0;
}

/* How far the process that dies has come. */
enum stage {
    CLAIMED,
    CURSOR_MOVED,
    HALF_COPIED,
    COPIED,
    HALF_ENCODED,
    ENCODED,
    STAGES
};

static bool claim_place(struct open_group *group, uint32_t size, bool moves_cursor)
{
    const uint64_t offset = twl_open_group_offset(group),
                   lsn = group->first_lsn + twl_open_group_count(group);
    uint64_t none = 0;

    if (moves_cursor)
        return twl_open_group_claim(group, size, &own_place) == 1;
    own_place = (struct place){ .at = group->bytes + offset, .lsn = lsn };
    return atomic_compare_exchange_strong(
        (_Atomic uint64_t *)(void *)own_place.at, &none,
        htole64(twl_claim_encode(group->epoch_seed, lsn, size, group->owner)));
}

static struct record_header next_record(unsigned char bytes[RECORD_ROOM])
{
    return (struct record_header){ .size = (uint32_t)make_record(writer_of(self),
                                                                 atomic_load(&self->appended), bytes),
                                   .kind = RECORD_DATA,
                                   .time_ns = 1 };
}

static int claim(void)
{
    own_segment = twl_mapped_enter(own_log->mapped);
    struct open_group *group = &own_segment->group;
    const enum stage stage = (enum stage)atomic_load(&self->with);
    unsigned char bytes[RECORD_ROOM], header[RECORD_HEADER_BYTES];
    const struct record_header record = next_record(bytes);

    EXPECT(claim_place(group, record.size, stage != CLAIMED));
    atomic_store(&self->lsn, own_place.lsn);
    if (stage < HALF_COPIED)
        return 0;
    memcpy(own_place.at + RECORD_HEADER_BYTES, bytes, stage == HALF_COPIED ? record.size / 2 : record.size);
    if (stage < HALF_ENCODED)
        return 0;
    memcpy(header, own_place.at, sizeof(header));
    twl_record_encode_open(own_place.at, group->epoch_seed, own_place.lsn, &record);
    if (stage == HALF_ENCODED)
        memcpy(own_place.at + sizeof(header) / 2, header + sizeof(header) / 2, sizeof(header) / 2);
    return 0;
}

static int complete(void)
{
    unsigned char bytes[RECORD_ROOM];
    const struct record_header record = next_record(bytes);

    memcpy(own_place.at + RECORD_HEADER_BYTES, bytes, record.size);
    EXPECT(twl_open_group_complete(&own_segment->group, &own_place, &record) == 0);
    twl_mapped_leave(own_segment);
    atomic_fetch_add(&self->appended, 1);
    return 0;
}

static int use_after_fork(void)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    uint64_t lsn;

    EXPECT(twinlog_append(own_log, "x", 1, &lsn) == TWINLOG_EFORKED);
    EXPECT(twinlog_sync(own_log) == TWINLOG_EFORKED);
    EXPECT(twinlog_stat(own_log, &stat) == TWINLOG_EFORKED);
    return 0;
}

static int linger(void)
{
    atomic_store(&self->result, use_after_fork());
    for (;;)
        pause();
    return 0;
}

/* A child that outlives it. */
static int leave_a_child(void)
{
    uint64_t began_ns = 0;

    atomic_store(&self->result, -1);
    const pid_t child = fork_quietly();
    if (child == 0)
        _exit(linger());
    atomic_store(&self->child, child);
    while (atomic_load(&self->result) < 0)
        EXPECT(still_in_time(&began_ns));
    return atomic_load(&self->result);
}

static struct member *come(unsigned which)
{
    struct member *member = start_member(which);

    ck_assert_int_eq(ask(member, open_log, 0), 0);
    return member;
}

static void append_by(struct member *member, uint32_t count)
{
    ck_assert_int_eq(ask(member, append_some, count), 0);
}

static void close_by(struct member *member)
{
    ck_assert_int_eq(ask(member, close_log, 0), 0);
    end_member(member);
}

/* ---- what is there ------------------------------------------------------------------------------ */

/* What a reader has found so far. LSNs that are passed are fillers. */
struct found {
    struct tally tally;
    uint64_t fillers;
};

static void look_on(struct found *found, struct twinlog_reader *reader)
{
    struct twinlog_record record;
    int rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        ck_assert_uint_gt(record.lsn, found->tally.last_lsn);
        found->fillers += record.lsn - found->tally.last_lsn - 1;
        found->tally.last_lsn = record.lsn - 1;
        const char *wrong = tally_record(&found->tally, &record);
        ck_assert_msg(!wrong, "record %" PRIu64 ": %s", record.lsn, wrong);
    }
    ck_assert_int_eq(rc, 0);
}

/* Whole, in order, and at least what was acknowledged. */
static struct found look_at_all(void)
{
    struct found found = { 0 };
    struct twinlog_reader *reader = log_reader(0, 0);
    uint64_t verified;

    look_on(&found, reader);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, found.tally.last_lsn - found.fillers);
    return found;
}

/* All that was acknowledged and nothing else. Returns the last LSN. */
static uint64_t expect_all(uint32_t own, uint64_t fillers)
{
    const struct found found = look_at_all();

    ck_assert_uint_eq(found.tally.next[0], own);
    for (unsigned i = 0; i < MEMBERS; i++)
        ck_assert_uint_eq(found.tally.next[1 + i], atomic_load(&shared->members[i].appended));
    ck_assert_uint_eq(found.fillers, fillers);
    return found.tally.last_lsn;
}

static bool has_found(struct found *found, struct twinlog_reader *reader, uint64_t last_lsn)
{
    look_on(found, reader);
    return found->tally.last_lsn >= last_lsn;
}

static uint64_t size_of_segment(uint64_t number)
{
    struct stat about;

    ck_assert_int_eq(stat(log_segment(number), &about), 0);
    return (uint64_t)about.st_size;
}

static bool has_segment(uint64_t number)
{
    return access(log_segment(number), F_OK) == 0;
}

/* What participants share beside the segments, as it stands in the file. */
static struct common *map_common(void)
{
    const int fd = open(log_file(PAGE_FILE_NAME), O_RDWR | O_CLOEXEC);
    unsigned char *page = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ck_assert_ptr_ne(page, MAP_FAILED);
    close(fd);
    return (struct common *)(void *)(page + PAGE_COMMON_OFFSET);
}

static void expect_clean_opening(uint32_t mode, uint64_t last_lsn)
{
    struct twinlog *log = open_mode(mode);

    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
    ck_assert_uint_eq(twinlog_durable_lsn(log), last_lsn);
    log_close(log);
}

/* The log goes on behind what is there. */
static void expect_going_on(uint32_t mode, uint32_t own, uint64_t fillers)
{
    struct twinlog *log = open_mode(mode);

    append_records(log, 0, own, 30);
    log_close(log);
    expect_all(own + 30, fillers);
}

static void set_up(void)
{
    gate_set_up();
    shared = shared_page();
    for (unsigned i = 0; i < MEMBERS; i++)
        start_member(i);
}

CASE("coming and going", set_up, logdir_remove);

TEST_LOOP(all_may_make_a_new_log_at_once, 3)
{
    struct member *members[4];

    atomic_store(&shared->expected, 4);
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
        for (uint32_t k = 0; k < atomic_load(&shared->members[i].appended); k++)
            sum += twl_record_bytes((uint32_t)make_record(writer_of(&shared->members[i]), k, bytes));
    return sum;
}

/* The process that opened it goes first. */
TEST_LOOP(the_last_one_to_leave_closes_the_log, MODES)
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
    const uint64_t end = OPEN_RECORDS_OFFSET + bytes_of_all() + GROUP_HEADER_BYTES;
    ck_assert_uint_eq(size_of_segment(2), align_up(end, BLOCK_BYTES) + SEGMENT_MARKER_BYTES);
    ck_assert(!has_segment(3));
    ck_assert_uint_eq(log_count_files(), 4); /* with the state and the lock */
    ck_assert_uint_eq(expect_all(0, 0), 30);
    expect_clean_opening((uint32_t)_i, 30);
    expect_going_on((uint32_t)_i, 0, 0);
}

#define ROUNDS 25u

TEST(one_of_two_that_leave_at_once_closes_the_log)
{
    struct member *members[2] = { start_member(0), start_member(1) };

    atomic_store(&shared->expected, 2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 2; i++) {
            ck_assert_int_eq(ask(members[i], open_log, 0), 0);
            append_by(members[i], 2);
        }
        atomic_store(&shared->arrived, 0);
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
    return twl_participants_are_gone(&own_log->participants);
}

/* One that has looked and was not the last is in nobody's way, whenever it goes. */
TEST(one_that_leaves_does_not_wait_for_one_that_is_about_to)
{
    struct member *first = come(0), *second = come(1);

    append_by(first, 3);
    append_by(second, 3);
    ck_assert_int_eq(ask(first, begin_to_leave, 0), false);
    ck_assert_int_eq(ask(second, close_log, 0), 0);
    end_member(first);
    expect_clean_opening(TWINLOG_MODE_SHARED, 6);
}

/* One comes while the other one goes: it finds the log open, closed or on the way, and is there in the end. */
TEST(one_comes_while_the_last_one_goes)
{
    struct member *members[2] = { come(0), start_member(1) };

    atomic_store(&shared->expected, 2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_store(&shared->arrived, 0);
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

TEST_LOOP(a_joiner_begins_with_the_oldest_open_segment, 2)
{
    struct member *first = come(0);

    append_by(first, 600);
    struct common *common = map_common();
    AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    ck_assert_uint_gt(atomic_load(&common->newest), 5);
    struct twinlog *log = open_shared(_i ? TWINLOG_NO_THREAD : 0);
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

CASE("trims", set_up, logdir_remove);

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

static void expect_kept(uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);

    reader_expect_last(reader, first_lsn, last_lsn);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* One that does not append has its segment open, and goes on from there: it has to find the next ones. */
TEST(a_trim_removes_nothing_that_a_process_has_in_front_of_it)
{
    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
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
    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
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

    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
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
    struct twinlog_options options = shared_options(TWINLOG_NO_THREAD);
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
TEST_LOOP(a_wish_ends_with_its_writer, MODES)
{
    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
    struct member *writer = come(0);

    append_by(writer, 10);
    ck_assert_int_eq(ask(writer, sync_log, 0), 0);
    ck_assert_int_eq(ask_trim(9, 0, NULL), -ETIMEDOUT);
    ck_assert(is_trim_wished());
    end_member(writer);
    ck_assert_int_eq(ask_trim(9, 0, NULL), -ESRCH);
    struct twinlog *log = open_mode((uint32_t)_i);
    ck_assert(!is_trim_wished());
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    log_close(log);
    expect_kept(1, 10);
}

CASE("death", set_up, logdir_remove);

static uint64_t acknowledged(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MEMBERS; i++)
        sum += atomic_load(&shared->members[i].appended);
    return sum;
}

TEST_LOOP(what_was_acknowledged_survives_the_death_of_all, MODES)
{
    struct member *members[3];
    struct found found;
    uint32_t own = 0;

    for (unsigned round = 0; round < 3; round++) {
        const uint64_t before = acknowledged();
        for (unsigned i = 0; i < 3; i++)
            members[i] = come(i);
        for (unsigned i = 0; i < 3; i++)
            post(members[i], append_on, 0);
        AWAIT(acknowledged() >= before + 300);
        for (unsigned i = 0; i < 3; i++)
            end_member(members[i]);
        ck_assert_uint_eq(atomic_load(&map_common()->state), COMMON_OPEN);
        struct twinlog *log = open_mode((uint32_t)_i);
        ck_assert(log_report.finding == TWINLOG_FOUND_CLEAN_END ||
                  log_report.finding == TWINLOG_FOUND_TORN_TAIL);
        const uint64_t last_lsn = twinlog_last_lsn(log);
        ck_assert_uint_eq(append_records(log, 0, own++, 1), last_lsn + 1);
        log_close(log);
        found = look_at_all();
        ck_assert_uint_eq(found.tally.last_lsn, last_lsn + 1);
        ck_assert_uint_eq(found.tally.next[0], own);
        ck_assert_uint_le(found.fillers, 3 * (round + 1));
        for (unsigned i = 0; i < 3; i++) {
            const uint32_t acked = atomic_load(&members[i]->appended), there = found.tally.next[1 + i];
            ck_assert(there == acked || there == acked + 1);
            atomic_store(&members[i]->appended, there);
        }
    }
}

/* Readers hear of it by the threads of those that live; without threads a sync sees to it. */
static bool are_lost; /* pages of the group */

static int check_view(struct io *io, const unsigned char *bytes)
{
    (void)io;
    (void)bytes;
    return are_lost ? -EIO : 0;
}

static const struct io_ops some_are_lost = { .check_view = check_view };

/* Its owner has completed it and left, between a look at the claim and one at the owner. */
TEST_LOOP(a_record_that_is_complete_is_not_buried, 2)
{
    _Alignas(64) static unsigned char bytes[SEGMENT_BYTES];
    _Atomic uint64_t cursor = 0;
    struct io io = { .ops = &some_are_lost };
    struct open_group group = {
        .io = &io, .bytes = bytes, .end = SEGMENT_BYTES, .first_lsn = 1, .owner = 3, .cursor = &cursor
    };
    const struct open_walk start = OPEN_WALK_INIT;
    const struct record_header record = { .size = 100 };
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header found;
    struct place place;
    uint32_t size;

    twl_open_group_begin(&group);
    ck_assert_int_eq(twl_open_group_claim(&group, record.size, &place), 1);
    ck_assert_uint_eq(twl_open_group_owner(&group, &start, &size), 3);
    memset(place.at + RECORD_HEADER_BYTES, 'x', record.size);
    are_lost = _i;
    ck_assert_int_eq(twl_open_group_complete(&group, &place, &record), are_lost ? -EIO : 0);
    ck_assert(twl_open_group_fill(&group, &start, size, 0) != are_lost);
    if (are_lost) { /* neither of the two is told to anybody */
        ck_assert_uint_eq(twl_open_group_owner(&group, &start, &size), 3);
        return;
    }
    ck_assert_int_eq(twl_open_group_pass(&group, &walk, &found), 1);
    ck_assert_int_eq(found.kind, RECORD_DATA);
    ck_assert(twl_record_payload_is_valid(&found, place.at + RECORD_HEADER_BYTES));
    ck_assert_int_eq(place.at[RECORD_HEADER_BYTES], 'x');
}

TEST_LOOP(what_a_dead_one_has_claimed_becomes_a_filler, STAGES * 2)
{
    struct found found[LOG_READER_KINDS] = { 0 };
    struct twinlog_reader *readers[LOG_READER_KINDS];

    atomic_store(&shared->flags, _i & 1 ? TWINLOG_NO_THREAD : 0);
    struct twinlog *log = open_shared(atomic_load(&shared->flags));
    struct member *victim = come(0), *other = come(1);
    for (int i = 0; i < LOG_READER_KINDS; i++)
        readers[i] = log_reader_of_kind(log, i);
    append_by(victim, 3);
    append_by(other, 3);
    ck_assert_int_eq(ask(victim, claim, (uint32_t)_i / 2), 0);
    ck_assert_uint_eq(atomic_load(&victim->lsn), 7);
    append_by(other, 4);
    ck_assert_uint_eq(append_records(log, 0, 0, 4), 15);
    ck_assert_uint_eq(twinlog_written_lsn(log), 6);
    ck_assert_int_eq(twinlog_wait(log, 6, TWINLOG_LEVEL_DURABLE, 0), 0);
    end_member(victim);
    const uint64_t began_ns = twl_monotonic_ns();
    if (_i & 1)
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

/* No process has looked after it before another one gets the number. */
TEST_LOOP(a_newcomer_buries_what_its_number_had_claimed, STAGES)
{
    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
    struct twinlog *log = open_shared(atomic_load(&shared->flags));
    struct member *victim = come(0);
    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, (uint32_t)_i), 0);
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
TEST_LOOP(a_claim_is_settled_by_the_next_opening, STAGES *MODES)
{
    struct member *victim = come(0), *other = come(1);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, claim, (uint32_t)_i / MODES), 0);
    stop_member(victim); /* so that no other participant makes a filler of it */
    append_by(other, 4);
    end_member(other);
    end_member(victim);
    expect_going_on((uint32_t)_i % MODES, 0, 1);
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

CASE("standing still", set_up, logdir_remove);

TEST(one_that_is_stopped_holds_up_no_other)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0), *other = come(1);

    append_by(stopped, 50);
    stop_member(stopped);
    append_by(other, 300);
    append_records(log, 0, 0, 300);
    ck_assert_int_eq(ask(other, append_durable, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 651);
    ck_assert_uint_eq(expect_all(300, 0), 651);
    close_by(other);
    continue_member(stopped);
    append_by(stopped, 1);
    ck_assert_uint_eq(atomic_load(&stopped->lsn), 652);
    ck_assert_int_eq(ask(stopped, sync_log, 0), 0);
    log_close(log);
    append_by(stopped, 100);
    close_by(stopped);
    expect_clean_opening(TWINLOG_MODE_SHARED, 752);
    expect_all(300, 0);
}

static int append_until(struct twinlog *log, uint32_t sequence, uint64_t deadline_ns, uint64_t *ret_lsn)
{
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .level = TWINLOG_LEVEL_DURABLE,
                                         .deadline_ns = deadline_ns };
    unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = (uint32_t)make_record(0, sequence, bytes) };

    return twinlog_append_batch(log, &entry, 1, &terms, ret_lsn);
}

/* What comes behind its record waits for it, if it asks to; nothing else does. In the end it goes on, or is killed. */
TEST_LOOP(one_that_is_stopped_in_an_append_is_waited_for_by_those_that_ask, 2)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0), *other = come(1);
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
    if (_i) {
        end_member(stopped);
    } else {
        continue_member(stopped);
        ck_assert_int_eq(ask(stopped, complete, 0), 0);
    }
    ck_assert_int_eq(twinlog_wait(log, 410, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(ask(other, sync_log, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    if (_i == 0)
        close_by(stopped);
    close_by(other);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 410);
    expect_all(204, _i ? 1 : 0);
}

static void *close_in_thread(void *log)
{
    const intptr_t rc = twinlog_close(log);

    atomic_store(&shared->arrived, 1);
    return (void *)rc;
}

/* What is its own lies before the claim of the stopped one. */
TEST(one_that_leaves_waits_only_for_what_is_in_front_of_its_own)
{
    struct twinlog *log = open_shared(0);
    struct member *stopped = come(0);
    void *result;

    append_records(log, 0, 0, 1);
    ck_assert_int_eq(ask(stopped, claim, CURSOR_MOVED), 0);
    stop_member(stopped);
    pthread_t thread = start_thread(close_in_thread, log);
    AWAIT(atomic_load(&shared->arrived) == 1);
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

/* Its child has the segments that it had, and nothing to do with them. */
TEST_LOOP(a_child_does_not_keep_the_log_from_being_opened, MODES)
{
    struct member *victim = come(0);

    append_by(victim, 3);
    ck_assert_int_eq(ask(victim, leave_a_child, 0), 0);
    end_member(victim);
    struct twinlog *log = open_mode((uint32_t)_i);
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

/* Groups stay open meanwhile, as many as there are. In the end the last one closes them, or all are killed, or the one
 * that stood still goes on. */
TEST_LOOP(segments_are_left_while_a_closer_stands_still, 3 * MODES)
{
    struct member *members[2] = { come(0), come(1) };
    const unsigned end = (unsigned)_i / MODES;
    struct common *common = map_common();
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);

    for (unsigned i = 0; i < 8; i++)
        append_by(members[i % 2], 100);
    ck_assert_int_eq(ask(members[0], sync_log, 0), 0);
    ck_assert_uint_eq(atomic_load(&common->oldest), 2);
    ck_assert_uint_gt(atomic_load(&common->newest), 6);
    ck_assert_uint_eq(expect_all(0, 0), 800);
    if (end == 2) {
        close(held);
        AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    }
    for (unsigned i = 0; i < 2; i++)
        (end == 1 ? end_member : close_by)(members[i]);
    if (end != 2)
        close(held);
    if (end != 1)
        expect_clean_opening((uint32_t)_i % MODES, 800);
    expect_going_on((uint32_t)_i % MODES, 0, 0);
}

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

CASE("what is refused", set_up, logdir_remove);

/* Any process may write to the page. On the disk it would be proof that records were there. */
TEST_LOOP(what_the_page_alone_calls_durable_is_not_promised, 2)
{
    struct twinlog *log = open_shared(TWINLOG_NO_THREAD);
    const int held =
        hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK); /* closing a segment syncs it */

    append_records(log, 0, 0, 10);
    watermark_store(&log->shared->page->durable, _i ? UINT64_MAX / 2 : 10);
    append_records(log, 0, 10, 400);
    const uint64_t number = atomic_load(&log->mapped->active)->number;
    ck_assert_uint_gt(number, 4);
    ck_assert_uint_eq(promised_by_segment(number), 0);
    close(held);
    log_close(log);
    expect_clean_opening(TWINLOG_MODE_SHARED, 410);
}

/* A sync that began earlier may end later, and covers less. */
TEST(the_durable_lsn_never_goes_back)
{
    struct twinlog *log = open_shared(TWINLOG_NO_THREAD);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    twl_page_publish_durable(log->shared, 9);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 10);
    log_close(log);
}

/* What this process has synced is promised, for that proves damage. */
TEST(what_was_synced_is_promised)
{
    struct twinlog *log = open_shared(TWINLOG_NO_THREAD);
    const int held = hold_lock(log_file(PAGE_FILE_NAME), LOCK_TO_SYNC, F_WRLCK);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    append_records(log, 0, 10, 400);
    ck_assert_uint_eq(promised_by_segment(atomic_load(&log->mapped->active)->number), 10);
    close(held);
    log_close(log);
}

CASE("to the disk", set_up, logdir_remove);

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
    const struct twinlog_options options = shared_options(TWINLOG_NO_THREAD);

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

/* It may have been told of an error, which the kernel does not tell those that open the file later. */
TEST_LOOP(behind_one_that_died_in_a_sync_each_sync_is_read_back, 2)
{
    struct member *host = come(1), *victim = start_member(0);
    const struct twinlog_options options = shared_options(TWINLOG_NO_THREAD);
    const bool dies_in_sync = _i == 0;

    ck_assert_int_eq(ask(victim, open_gated, 0), 0);
    append_by(victim, 5);
    if (dies_in_sync) {
        post(victim, die_in_sync, 0);
        ck_assert_int_eq(wait_child(atomic_load(&victim->pid)), 128 + SIGKILL);
        atomic_store(&victim->pid, 0);
    } else {
        ck_assert_int_eq(ask(victim, sync_log, 0), 0);
        append_by(victim, 5);
        end_member(victim);
    }
    struct twinlog *log = log_on(hooked_log_dir(count_read_backs), &options);
    ck_assert_uint_eq(sync_and_count(log, 0), 1); /* the records that were found there */
    ck_assert_uint_eq(sync_and_count(log, 5), dies_in_sync);
    ck_assert_uint_eq(sync_and_count(log, 10), dies_in_sync);
    log_close(log);
    close_by(host);
    expect_clean_opening(TWINLOG_MODE_SHARED, dies_in_sync ? 20 : 25);
}

TEST_LOOP(a_poison_is_that_of_all, MODES)
{
    struct twinlog *log = open_shared(0);
    struct member *others[2] = { come(0), come(1) };
    uint64_t lsn;

    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
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
    expect_going_on((uint32_t)_i, 5, 0);
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
TEST_LOOP(a_page_that_is_truncated_is_an_error, MODES)
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
    expect_going_on((uint32_t)_i, 5, 0);
}

/* It has no thread that would see it. Others have gone on to segments that it has not heard of. */
TEST_LOOP(one_that_is_behind_does_not_close_a_log_whose_page_was_truncated, MODES)
{
    if (takes_handler_for_a_race("one_that_is_behind_does_not_close_a_log_whose_page_was_truncated"))
        return;
    struct twinlog *log = open_shared(TWINLOG_NO_THREAD);
    struct member *other = come(0);

    append_by(other, 300);
    close_by(other);
    ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(expect_all(0, 0), 300);
    expect_going_on((uint32_t)_i, 0, 0);
}

/* For one of them. The other one has room, and what it makes is there for both. */
TEST(a_disk_that_is_full_for_one_is_not_for_another)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = gate_log(&options);
    uint32_t own = 0;
    uint64_t lsn;

    atomic_store(&shared->flags, TWINLOG_NO_THREAD);
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

/* It has no thread, and appends nothing. */
TEST(one_that_only_syncs_keeps_no_segments_that_others_have_closed)
{
    struct twinlog *log = open_shared(TWINLOG_NO_THREAD);
    struct member *other = come(0);
    const struct common *common = map_common();

    for (unsigned round = 0; round < 10; round++) {
        append_by(other, 300);
        ck_assert_int_eq(twinlog_sync(log), 0);
    }
    AWAIT(atomic_load(&common->oldest) == atomic_load(&common->newest));
    ck_assert_uint_gt(atomic_load(&common->oldest), 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_count_open_segments(), 2); /* with its lock */
    close_by(other);
    log_close(log);
    ck_assert_uint_eq(expect_all(0, 0), 3000);
}

CASE("what is refused", set_up, logdir_remove);

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

/* The file by which they know of each other was removed. Those that were there go on, and no other one joins. */
TEST_LOOP(no_process_opens_a_shared_log_whose_lock_was_removed, 2)
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
    if (_i == 0)
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

TEST(what_is_not_there_says_so)
{
    struct twinlog *log = open_shared(0);
    struct member *other = come(0);
    const struct twinlog_entry entries[2] = { { .data = "a", .size = 1 }, { .data = "b", .size = 1 } };
    struct twinlog_request request = { 0 };
    uint64_t lsn = 77;

    append_by(other, 5);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, &lsn), -ENOTSUP);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_truncate(log, 2), -ENOTSUP);
    ck_assert_int_eq(twinlog_reset(log, 100), -ENOTSUP);
    ck_assert_int_eq(twinlog_skip(log, 10), -ENOTSUP);
    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    ck_assert_int_eq(twinlog_submit(log, entries, 1, NULL, &request), -ENOTSUP);
    ck_assert_int_eq(twinlog_queue_close(request.queue), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 5);
    append_by(other, 5);
    append_records(log, 0, 0, 5);
    log_close(log);
    close_by(other);
    ck_assert_uint_eq(expect_all(5, 0), 15);
}

static void allow_many_files(void)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST(as_many_as_there_are_numbers_share_a_log)
{
    static struct twinlog *logs[PARTICIPANTS_MAX];
    const struct twinlog_options options = shared_options(TWINLOG_NO_THREAD);

    allow_many_files();
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

/* Or a process could join a log that another kind of writer has gone on with. */
TEST_LOOP(another_writer_takes_back_that_the_log_is_open, TWINLOG_MODE_SHARED)
{
    struct member *member = come(0);
    struct common *common = map_common();

    append_by(member, 3);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_OPEN);
    end_member(member);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_OPEN);
    struct twinlog *log = open_mode((uint32_t)_i);
    ck_assert_uint_eq(atomic_load(&common->state), COMMON_NONE);
    ck_assert_uint_eq(common->version, 0);
    log_close(log);
}

TEST(those_that_share_it_in_another_way_are_not_joined)
{
    struct member *member = come(0);
    const struct twinlog_options options = shared_options(0);
    struct common *common = map_common();

    common->version++;
    expect_refusal(&options, TWINLOG_EVERSION, "another version");
    common->version--;
    common->boot_id[3] ^= 1;
    expect_refusal(&options, -EBUSY, "another container");
    common->boot_id[3] ^= 1;
    struct twinlog *log = open_shared(0);
    append_records(log, 0, 0, 5);
    append_by(member, 5);
    log_close(log);
    end_member(member);
    common->version++; /* and no participant lives */
    expect_going_on(TWINLOG_MODE_SHARED, 5, 0);
    common->boot_id[3] ^= 1;
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

/* Another process has the lock for a look here, too. A process that came now would go on in an epoch that readers have
 * done with. */
TEST_LOOP(a_log_whose_writers_are_dead_is_opened_anew, 2)
{
    const struct twinlog_options options = shared_options(0);
    struct member *member = come(0);
    struct found found = { 0 };

    append_by(member, 5);
    if (_i == 1)
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
    expect_all(3, _i == 1);
}

TEST_LOOP(a_file_system_without_hard_links_is_refused_at_once, 2)
{
    static const int errors[] = { -EPERM, -EOPNOTSUPP };
    struct twinlog_options options = shared_options(0);
    struct twinlog *log = NULL;

    atomic_store(&gate.link_error, errors[_i]);
    ck_assert_int_eq(gate_try_log(&options, &log), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(log_report.text, "hard links"));
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

TEST_LOOP(an_opening_that_fails_leaves_it_to_the_next, MODES)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = NULL;

    for (unsigned i = 0; i < 3; i++) {
        struct member *member = come(0);
        append_by(member, 5);
        close_by(member);
        atomic_store(&gate.map_error, -ENOMEM);
        ck_assert_int_eq(gate_try_log(&options, &log), -ENOMEM);
        ck_assert_ptr_null(log);
        ck_assert_uint_eq(expect_all(0, 0), (i + 1) * 5);
        atomic_store(&gate.map_error, 0);
    }
    expect_going_on((uint32_t)_i, 0, 0);
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
    struct twinlog_options options = shared_options(TWINLOG_NO_THREAD);

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

CASE("what else a log can do", set_up, logdir_remove);

#define TURNS 60u

/* A wake-up that is lost costs a second: so many of them take longer than a test may. */
TEST_LOOP(readers_are_woken_by_records_of_others, LOG_READER_KINDS)
{
    struct twinlog *log = open_shared(0);
    struct member *member = come(0);
    struct twinlog_reader *reader = log_reader_of_kind(log, _i);
    struct found found = { 0 };

    for (uint32_t n = 1; n <= TURNS; n++) {
        post(member, append_some, n % 10 ? 1 : 20);
        ck_assert_int_eq(twinlog_reader_wait(reader, 120000), 1);
        ck_assert_int_eq(answer(member), 0);
        AWAIT(has_found(&found, reader, atomic_load(&member->lsn)));
    }
    ck_assert_uint_eq(found.tally.next[1], atomic_load(&member->appended));
    if (_i >= 2) /* attached */
        twinlog_reader_close(reader);
    log_close(log);
    append_by(member, 5);
    if (_i < 2) {
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

static unsigned count_open(pid_t pid)
{
    char path[64], target[600];
    unsigned count = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    ck_assert_ptr_nonnull(directory);
    for (const struct dirent *entry; (entry = readdir(directory));) {
        const ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        target[size < 0 ? 0 : size] = '\0';
        count += strstr(target, ".twl") != NULL;
    }
    closedir(directory);
    return count;
}

/* The active one, and the one that is prepared. */
TEST(segments_are_sealed_and_idle_participants_let_go_of_them)
{
    struct member *idle = come(0), *busy = come(1);
    struct common *common = map_common();

    append_by(busy, 600);
    const uint64_t newest = atomic_load(&common->newest);
    ck_assert_uint_gt(newest, 6);
    AWAIT(atomic_load(&common->oldest) == newest);
    AWAIT(count_mapped(atomic_load(&idle->pid)) <= 2);
    AWAIT(count_mapped(atomic_load(&busy->pid)) <= 2);
    AWAIT(count_open(atomic_load(&idle->pid)) <= 4); /* and their locks */
    AWAIT(count_open(atomic_load(&busy->pid)) <= 4);
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
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        struct twinlog_reader *reader = log_reader_of_kind(log, i);
        expect_found(reader, 800);
        twinlog_reader_close(reader);
    }
    AWAIT(atomic_load(&log->participants.common->oldest) == atomic_load(&log->participants.common->newest));
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        struct twinlog_reader *reader = log_reader_of_kind(log, i);
        expect_found(reader, 800);
        twinlog_reader_close(reader);
    }
    close_by(members[0]);
    close_by(members[1]);
    log_close(log);
    struct twinlog_reader *reader = log_reader(0, 0);
    expect_found(reader, 800);
    twinlog_reader_close(reader);
}

static int set_cursor(void)
{
    uint64_t lsn;

    EXPECT(twinlog_cursor_get(own_log, "ours", &lsn) == 0);
    EXPECT(lsn == 3);
    return twinlog_cursor_set(own_log, "theirs", atomic_load(&self->with));
}

static int move_cursors(void)
{
    char name[16];
    int rc = 0;

    snprintf(name, sizeof(name), "of-%" PRIu32, writer_of(self));
    for (uint32_t lsn = 1; rc == 0 && lsn <= atomic_load(&self->with); lsn++)
        rc = twinlog_cursor_set(own_log, name, lsn);
    return rc;
}

TEST(cursors_are_those_of_all)
{
    struct twinlog *log = open_shared(0);
    struct member *members[2] = { come(0), come(1) };
    uint64_t lsn;

    append_by(members[0], 20);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "ours", 3), 0);
    ck_assert_int_eq(ask(members[0], set_cursor, 7), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "theirs", &lsn), 0);
    ck_assert_uint_eq(lsn, 7);
    for (unsigned i = 0; i < 2; i++)
        post(members[i], move_cursors, 20);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(answer(members[i]), 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_cursor_get(log, i ? "of-2" : "of-1", &lsn), 0);
        ck_assert_uint_eq(lsn, 20);
        close_by(members[i]);
    }
    log_close(log);
    log = open_mode(TWINLOG_MODE_DURABLE);
    ck_assert_int_eq(twinlog_cursor_get(log, "theirs", &lsn), 0);
    ck_assert_uint_eq(lsn, 7);
    ck_assert_int_eq(twinlog_cursor_get(log, "of-2", &lsn), 0);
    ck_assert_uint_eq(lsn, 20);
    log_close(log);
}

TEST(a_live_log_is_looked_at_and_backed_up)
{
    struct twinlog *log = open_shared(0);
    struct member *member = come(0);
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    char copy[400];

    append_by(member, 300);
    append_records(log, 0, 0, 100);
    ck_assert_int_eq(twinlog_sync(log), 0);
    append_by(member, 5);
    const struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(stat.mode, TWINLOG_MODE_SHARED);
    ck_assert_uint_eq(stat.mode, 2);
    ck_assert_uint_eq(stat.first_lsn, 1);
    ck_assert_uint_eq(stat.last_lsn, 405);
    ck_assert_uint_ge(stat.durable_lsn, 400);
    ck_assert_uint_ge(stat.segments, 4);
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

/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "members.h"
#include "format/format.h"
#include "gate.h"
#include "log/handle.h"
#include "mapped/participants.h"
#include "suites.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- opening ------------------------------------------------------------------------------------ */

struct twinlog_options small(uint32_t mode)
{
    struct twinlog_options options =
        LOG_OPTIONS(.mode = mode, .segment_bytes = SEGMENT_BYTES, .max_record_bytes = RECORD_ROOM);

    if (mode != TWINLOG_MODE_DURABLE)
        options.mapped_bytes = SEGMENT_BYTES;
    return options;
}

struct twinlog_options shared_options(uint32_t flags)
{
    struct twinlog_options options = small(TWINLOG_MODE_SHARED);

    options.flags = flags;
    return options;
}

struct twinlog *open_shared(uint32_t flags)
{
    const struct twinlog_options options = shared_options(flags);

    return log_open(&options);
}

struct twinlog *open_mode(uint32_t mode)
{
    const struct twinlog_options options = small(mode);

    return log_open(&options);
}

/* ---- members ------------------------------------------------------------------------------------ */

struct sharing *sharing;

struct member *self;
struct twinlog *own_log;
static struct place own_place;             /* and its claim */
static struct mapped_segment *own_segment; /* where it is: counted among the users, as by an append */

uint32_t writer_of(const struct member *member)
{
    return 1 + (uint32_t)(member - sharing->members); /* 0 is the test */
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

struct member *start_member(unsigned which)
{
    self = &sharing->members[which];
    if (atomic_load(&self->pid) == 0) {
        atomic_store(&self->order, NULL);
        atomic_store(&self->pid, start_child(serve));
    }
    return self;
}

void post(struct member *member, int (*order)(void), uint32_t with)
{
    atomic_store(&member->with, with);
    atomic_store(&member->order, order);
}

bool is_done(struct member *member)
{
    int status;

    if (!atomic_load(&member->order))
        return true;
    ck_assert_msg(waitpid(atomic_load(&member->pid), &status, WNOHANG) == 0,
                  "member %u has died of signal %d", writer_of(member), WTERMSIG(status));
    nap();
    return false;
}

int answer(struct member *member)
{
    AWAIT(is_done(member));
    return atomic_load(&member->result);
}

int ask(struct member *member, int (*order)(void), uint32_t with)
{
    post(member, order, with);
    return answer(member);
}

void end_member(struct member *member)
{
    kill(atomic_load(&member->pid), SIGKILL);
    ck_assert_int_eq(wait_child(atomic_load(&member->pid)), 128 + SIGKILL);
    atomic_store(&member->pid, 0);
}

void stop_member(struct member *member)
{
    kill(atomic_load(&member->pid), SIGSTOP);
    wait_until_stopped(atomic_load(&member->pid));
}

void continue_member(struct member *member)
{
    kill(atomic_load(&member->pid), SIGCONT);
}

/* ---- sleeps ------------------------------------------------------------------------------------- */

_Atomic unsigned page_sleeps;
_Atomic bool stops_in_page_sleep;

void __wrap_twl_page_sleep(struct shared_page *page, uint32_t seen, int timeout_ms, bool is_announced);
void __real_twl_page_sleep(struct shared_page *page, uint32_t seen, int timeout_ms, bool is_announced);
void __wrap_twl_page_sleep(struct shared_page *page, uint32_t seen, int timeout_ms, bool is_announced)
{
    atomic_fetch_add(&page_sleeps, 1);
    if (atomic_exchange(&stops_in_page_sleep, false))
        kill(getpid(), SIGSTOP);
    __real_twl_page_sleep(page, seen, timeout_ms, is_announced);
}

/* ---- orders ------------------------------------------------------------------------------------- */

static int meet(void)
{
    uint64_t began_ns = 0;

    atomic_fetch_add(&sharing->arrived, 1);
    while (atomic_load(&sharing->arrived) < atomic_load(&sharing->expected))
        EXPECT(still_in_time(&began_ns));
    return 0;
}

int open_log(void)
{
    struct twinlog_options options = shared_options(atomic_load(&sharing->flags));
    const int rc = log_try(&options, &own_log);

    if (rc == 0)
        atomic_store(&self->number, own_log->participants.number);
    return rc;
}

int open_together(void)
{
    EXPECT(meet() == 0);
    return open_log();
}

int close_log(void)
{
    return twinlog_close(own_log);
}

int close_together(void)
{
    EXPECT(meet() == 0);
    return close_log();
}

int append_next(void)
{
    uint64_t lsn;
    const int rc = append_record(own_log, writer_of(self), atomic_load(&self->appended), &lsn);

    if (rc == 0) {
        atomic_store(&self->lsn, lsn);
        atomic_fetch_add(&self->appended, 1);
    }
    return rc;
}

int append_some(void)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < atomic_load(&self->with); i++)
        rc = append_next();
    return rc;
}

int sync_log(void)
{
    return twinlog_sync(own_log);
}

int append_durable(void)
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

int ask_for_durable(void)
{
    atomic_store(&self->lsn, twinlog_durable_lsn(own_log));
    return 0;
}

int count_syncs(void)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    const int rc = twinlog_stat(own_log, &stat);

    atomic_store(&self->syncs, stat.syncs);
    return rc;
}

int64_t time_of(uint64_t lsn)
{
    return lsn == AHEAD_LSN ? 100000000 : 1000 * (int64_t)lsn;
}

int append_timed(void)
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

int claim(void)
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

int complete(void)
{
    unsigned char bytes[RECORD_ROOM];
    const struct record_header record = next_record(bytes);

    memcpy(own_place.at + RECORD_HEADER_BYTES, bytes, record.size);
    EXPECT(twl_open_group_complete(&own_segment->group, &own_place, &record) == 0);
    twl_mapped_leave(own_segment);
    atomic_fetch_add(&self->appended, 1);
    return 0;
}

static int linger(void)
{
    atomic_store(&self->result, log_use_forked(own_log));
    for (;;)
        pause();
    return 0;
}

int leave_a_child(void)
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

struct member *come(unsigned which)
{
    struct member *member = start_member(which);

    ck_assert_int_eq(ask(member, open_log, 0), 0);
    return member;
}

void append_by(struct member *member, uint32_t count)
{
    ck_assert_int_eq(ask(member, append_some, count), 0);
}

void close_by(struct member *member)
{
    ck_assert_int_eq(ask(member, close_log, 0), 0);
    end_member(member);
}

/* ---- what is there ------------------------------------------------------------------------------ */

void look_on(struct found *found, struct twinlog_reader *reader)
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

struct found look_at_all(void)
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

uint64_t expect_all(uint32_t own, uint64_t fillers)
{
    const struct found found = look_at_all();

    ck_assert_uint_eq(found.tally.next[0], own);
    for (unsigned i = 0; i < MEMBERS; i++)
        ck_assert_uint_eq(found.tally.next[1 + i], atomic_load(&sharing->members[i].appended));
    ck_assert_uint_eq(found.fillers, fillers);
    return found.tally.last_lsn;
}

void expect_kept(uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);

    reader_expect_last(reader, first_lsn, last_lsn);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

bool has_found(struct found *found, struct twinlog_reader *reader, uint64_t last_lsn)
{
    look_on(found, reader);
    return found->tally.last_lsn >= last_lsn;
}

uint64_t size_of_segment(uint64_t number)
{
    struct stat about;

    ck_assert_int_eq(stat(log_segment(number), &about), 0);
    return (uint64_t)about.st_size;
}

bool has_segment(uint64_t number)
{
    return access(log_segment(number), F_OK) == 0;
}

struct common *map_common(void)
{
    const int fd = open(log_file(PAGE_FILE_NAME), O_RDWR | O_CLOEXEC);
    unsigned char *page = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ck_assert_ptr_ne(page, MAP_FAILED);
    close(fd);
    return (struct common *)(void *)(page + PAGE_COMMON_OFFSET);
}

void expect_clean_opening(uint32_t mode, uint64_t last_lsn)
{
    struct twinlog *log = open_mode(mode);

    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
    ck_assert_uint_eq(twinlog_durable_lsn(log), last_lsn);
    log_close(log);
}

void expect_going_on(uint32_t mode, uint32_t own, uint64_t fillers)
{
    struct twinlog *log = open_mode(mode);

    append_records(log, 0, own, 30);
    log_close(log);
    expect_all(own + 30, fillers);
}

void set_up_members(void)
{
    gate_set_up();
    sharing = shared_page();
    for (unsigned i = 0; i < MEMBERS; i++)
        start_member(i);
}

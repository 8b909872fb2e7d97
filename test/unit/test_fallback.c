/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the library does where the system does not give it what it wants: io_uring refused by a seccomp
 * filter, a file system without direct I/O, a file that may not grow, a full disk, one that is read-only.
 *
 * Each test does it in a forked process, because filters, limits and mounts can't be taken back. What
 * this process may not do (no root, no filter) is skipped by name.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "logdir.h"
#include "seam.h"
#include "suites.h"
#include "unscanned.h"

#include "commit/inside.h"
#include "io/path_selector.h"
#include "log/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define RECORDS 50u

/* What the child found out. */
struct notes {
    int error; /* of twinlog_open() */
    struct twinlog_stat stat;
    struct twinlog_report report;
    _Atomic uint32_t acked; /* records 0, 1, ... of writer 0 that were acknowledged */
    int append_error, later_error, sync_error, close_error;
};

static struct notes *notes;
static uint32_t wanted_io, wanted_flags;
static uint64_t wanted_segment_bytes;
static uint32_t wanted_mode, wanted_records;

static void prepare(void)
{
    logdir_make();
    notes = shared_page();
    wanted_io = TWINLOG_IO_AUTO;
    wanted_flags = 0;
    wanted_segment_bytes = 0;
    wanted_mode = TWINLOG_MODE_DURABLE;
    wanted_records = RECORDS;
}

static void skip(const char *test, const char *why)
{
    fprintf(stderr, "SKIP fallback %s: %s\n", test, why);
}

/* ---- in the child ------------------------------------------------------------------------------ */

static struct twinlog *open_and_note(struct twinlog_options *options)
{
    struct twinlog *log = NULL;

    options->ret_report = &notes->report;
    notes->error = twinlog_open(log_dir, options, &log);
    if (notes->error == 0) {
        notes->stat = (struct twinlog_stat)TWINLOG_STAT_INIT;
        twinlog_stat(log, &notes->stat);
    }
    return log;
}

/* Until `count` are acknowledged or one fails. */
static void append_and_note(struct twinlog *log, uint32_t count)
{
    while (notes->append_error == 0 && notes->acked < count) {
        notes->append_error = append_record(log, 0, notes->acked, NULL);
        if (notes->append_error == 0)
            notes->acked++;
    }
}

static void fail_and_note(struct twinlog *log)
{
    append_and_note(log, 1u << 20);
    notes->later_error = append_record(log, 0, notes->acked + 1, NULL);
    notes->sync_error = twinlog_sync(log);
    notes->stat = (struct twinlog_stat)TWINLOG_STAT_INIT;
    twinlog_stat(log, &notes->stat);
    notes->close_error = twinlog_close(log);
}

static struct twinlog_options wanted_options(void)
{
    struct twinlog_options options = LOG_OPTIONS(.io = wanted_io, .flags = wanted_flags,
                                                 .segment_bytes = wanted_segment_bytes, .mode = wanted_mode);

    if (wanted_mode != TWINLOG_MODE_DURABLE) {
        options.mapped_bytes = wanted_segment_bytes;
        options.max_record_bytes = RECORD_ROOM;
    }
    return options;
}

static int open_append_and_die(void)
{
    struct twinlog_options options = wanted_options();
    struct twinlog *log = open_and_note(&options);

    EXPECT(log);
    append_and_note(log, wanted_records);
    EXPECT(notes->append_error == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

static int only_open(void)
{
    struct twinlog_options options = wanted_options();
    struct twinlog *log = open_and_note(&options);
    return log ? twinlog_close(log) : 0;
}

/* ---- in the test ------------------------------------------------------------------------------- */

/* Everything acknowledged is there; of the rest at most the one record that was on its way. */
static void expect_acknowledged(void)
{
    const struct tally tally = log_check();
    ck_assert_uint_ge(tally.next[0], notes->acked);
    ck_assert_uint_le(tally.next[0], notes->acked + 1);
}

static void expect_log_goes_on(void)
{
    const struct twinlog_options options = wanted_options();
    struct twinlog *log = log_open(&options);
    const uint32_t there = (uint32_t)twinlog_last_lsn(log);

    ck_assert_uint_ge(there, notes->acked);
    append_records(log, 0, there, 20);
    log_close(log);
    ck_assert_uint_eq(log_check().next[0], there + 20);
}

static void expect_poisoned(int error)
{
    ck_assert_int_eq(notes->error, 0);
    ck_assert_msg(notes->append_error == TWINLOG_EPOISONED, "append: %s",
                  twinlog_strerror(notes->append_error));
    ck_assert_int_eq(notes->later_error, TWINLOG_EPOISONED);
    ck_assert_int_eq(notes->sync_error, TWINLOG_EPOISONED);
    ck_assert_int_eq(notes->stat.poison, error);
    ck_assert_int_eq(notes->close_error, error);
    ck_assert_uint_gt(notes->acked, 0);
}

/* ---- io_uring refused -------------------------------------------------------------------------- */

#define MAX_REFUSED 2

static const struct refusal {
    const char *name;
    int calls[MAX_REFUSED]; /* 0 = none */
    int error;
    uint32_t io; /* what is left */
} refusals[] = {
    { "io_uring_setup: EPERM", { SYS_io_uring_setup }, EPERM, TWINLOG_IO_DSYNC },
    { "io_uring_setup: ENOSYS", { SYS_io_uring_setup }, ENOSYS, TWINLOG_IO_DSYNC },
    { "io_uring_setup: ENOMEM", { SYS_io_uring_setup }, ENOMEM, TWINLOG_IO_DSYNC },
    { "io_uring_enter: EPERM", { SYS_io_uring_enter }, EPERM, TWINLOG_IO_DSYNC },
    { "io_uring_setup and pwritev2: ENOSYS",
      { SYS_io_uring_setup, SYS_pwritev2 },
      ENOSYS,
      TWINLOG_IO_FDATASYNC },
    { "io_uring_setup and pwritev2: EPERM",
      { SYS_io_uring_setup, SYS_pwritev2 },
      EPERM,
      TWINLOG_IO_FDATASYNC },
};

static const struct refusal *refusal;

static bool forbid_all(const int calls[MAX_REFUSED], int error)
{
    bool is_loaded = true;

    for (int i = 0; is_loaded && i < MAX_REFUSED && calls[i] != 0; i++)
        is_loaded = forbid(calls[i], error);
    return is_loaded;
}

static int refused_open_append_and_die(void)
{
    return forbid_all(refusal->calls, refusal->error) ? open_append_and_die() : CANNOT_RUN;
}

static int refused_only_open(void)
{
    return forbid_all(refusal->calls, refusal->error) ? only_open() : CANNOT_RUN;
}

CASE("refusals", prepare, logdir_remove);

TEST_EACH(a_refused_path_is_replaced_by_the_next_one, refusals)
{
    refusal = row;
    wanted_flags = TWINLOG_BUFFERED; /* for file systems without the other */
    const int result = run_child(refused_open_append_and_die);
    if (result == CANNOT_RUN) {
        skip("a_refused_path_is_replaced_by_the_next_one", "no seccomp filter may be loaded");
        return;
    }
    ck_assert_int_eq(result, 128 + SIGKILL);
    ck_assert_uint_eq(notes->stat.io, refusal->io);
    const char *reason = notes->stat.io_reason;
    ck_assert_msg(strstr(reason, "io_uring") && strstr(reason, twinlog_strerror(-refusal->error)),
                  "the reason is: %s", reason);
    ck_assert_uint_eq(notes->acked, RECORDS);
    expect_acknowledged();
    expect_log_goes_on();
}

TEST_EACH(a_path_that_was_asked_for_is_not_replaced, refusals)
{
    refusal = row;
    for (wanted_io = TWINLOG_IO_URING; wanted_io <= TWINLOG_IO_FDATASYNC; wanted_io++) {
        const bool is_uring = wanted_io == TWINLOG_IO_URING || wanted_io == TWINLOG_IO_URING_LINKED;
        const bool is_refused =
            is_uring || (wanted_io == TWINLOG_IO_DSYNC && refusal->calls[1] == SYS_pwritev2);

        memset(notes, 0, sizeof(*notes));
        if (!expect_success_or_skip(run_child(refused_only_open), "a_path_that_was_asked_for_is_not_replaced",
                                    "no seccomp filter may be loaded"))
            return;
        ck_assert_msg(notes->error == (is_refused ? -ENOTSUP : 0), "%s, %s: %s", refusal->name,
                      log_io_name(wanted_io), twinlog_strerror(notes->error));
        if (is_refused)
            ck_assert_msg(strstr(notes->report.text, is_uring ? "io_uring" : "RWF_DSYNC") &&
                              strstr(notes->report.text, "was refused"),
                          "%s: the report is: %s", refusal->name, notes->report.text);
        else
            ck_assert_uint_eq(notes->stat.io, wanted_io);
    }
}

/* While the log is open. */
static int lose_the_path(void)
{
    struct twinlog_options options = wanted_options();
    struct twinlog *log = open_and_note(&options);

    EXPECT(log);
    append_and_note(log, RECORDS);
    if (!forbid(SYS_io_uring_enter, EPERM))
        return CANNOT_RUN;
    fail_and_note(log);
    return 0;
}

static int idle_in_sandbox(void)
{
    const struct timespec while_idle = { .tv_nsec = 300000000 };
    struct twinlog_committer *committer;

    EXPECT(twinlog_committer_open(NULL, &committer) == 0);
    if (!forbid_to_all(SYS_io_uring_enter, EPERM))
        return CANNOT_RUN;
    twl_committer_wake(committer); /* it may sleep in that call */
    const unsigned before = atomic_load(&yields_of_all);
    nanosleep(&while_idle, NULL);
    EXPECT(atomic_load(&yields_of_all) - before <= 1000);
    return twinlog_committer_close(committer);
}

/* However little of it the thread gets: it yields a few times, and then sleeps. */
TEST(a_committer_without_work_takes_no_processor_where_its_path_went_away)
{
    expect_success_or_skip(run_child(idle_in_sandbox),
                           "a_committer_without_work_takes_no_processor_where_its_path_went_away",
                           "no seccomp filter may be loaded");
}

static const struct {
    const char *name;
    uint32_t io;
} rings[] = {
    { "uring", TWINLOG_IO_URING },
    { "uring-linked", TWINLOG_IO_URING_LINKED },
};

TEST_EACH(a_path_that_goes_away_poisons_the_log, rings)
{
    static const char name[] = "a_path_that_goes_away_poisons_the_log";

    wanted_io = row->io;
    if (!log_can_use(name, wanted_io, wanted_flags))
        return;
    if (!expect_success_or_skip(run_child(lose_the_path), name, "no seccomp filter may be loaded"))
        return;
    expect_poisoned(-EPERM);
    expect_acknowledged();
    expect_log_goes_on();
}

static const struct {
    const char *name;
    int error;
} call_errors[] = {
    { "EPERM", EPERM },
    { "ENOSYS", ENOSYS },
    { "EOPNOTSUPP", EOPNOTSUPP },
    { "EINVAL", EINVAL },
};
static int call_error;

/* The trials of pwritev2() find that it is refused, and the ring goes on. */
static int append_where_calls_are_refused(void)
{
    struct twinlog_options options = wanted_options();
    struct twinlog *log = open_and_note(&options);

    EXPECT(log);
    if (notes->stat.io != TWINLOG_IO_URING || !forbid(SYS_pwritev2, call_error))
        return CANNOT_RUN;
    append_and_note(log, LEAST_PAUSE + 2 * TRIALS);
    twinlog_stat(log, &notes->stat);
    notes->close_error = twinlog_close(log);
    return 0;
}

TEST_EACH(a_log_that_may_choose_does_without_a_call_that_is_refused, call_errors)
{
    call_error = row->error;
    if (!expect_success_or_skip(run_child(append_where_calls_are_refused),
                                "a_log_that_may_choose_does_without_a_call_that_is_refused",
                                "no io_uring, or no seccomp filter may be loaded"))
        return;
    ck_assert_int_eq(notes->append_error, 0);
    ck_assert_int_eq(notes->close_error, 0);
    ck_assert_uint_eq(notes->stat.io, TWINLOG_IO_URING);
    expect_acknowledged();
    expect_log_goes_on();
}

TEST(the_path_that_is_taken_at_present_is_told)
{
    struct twinlog *log = log_open(NULL);
    const struct twinlog_stat before = log_stat(log);

    atomic_store(&log->io->is_by_call, true);
    const struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(stat.io, TWINLOG_IO_DSYNC);
    ck_assert_ptr_nonnull(strstr(stat.io_reason, "quicker than io_uring"));
    ck_assert_ptr_null(strstr(before.io_reason, "quicker than io_uring"));
    ck_assert_int_eq(strncmp(stat.io_reason, before.io_reason, strlen(before.io_reason)), 0);
    log_close(log);
}

/* ---- other file systems ------------------------------------------------------------------------ */

/* Seen by this process and its children only. */
static bool has_own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static const char *mount_point(void)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s/disk", log_parent);
    mkdir(path, 0777);
    snprintf(log_dir, sizeof(log_dir), "%s/disk/log", log_parent);
    return path;
}

static bool mount_there(const char *test, const char *type, const char *options)
{
    const bool is_there = has_own_mounts() && mount("none", mount_point(), type, 0, options) == 0;
    if (!is_there)
        skip(test, "no such file system can be mounted");
    return is_there;
}

/* An ext4 file system in a file, through a loop device that goes away with it. */
static bool mount_small_ext4(const char *test)
{
    char command[512];

    mount_point();
    snprintf(command, sizeof(command),
             "{ cd '%s' && truncate -s 16M image && mkfs.ext4 -q -F image && mount -o loop image disk; } "
             ">/dev/null 2>&1",
             log_parent);
    const bool is_there = has_own_mounts() && system(command) == 0;
    if (!is_there)
        skip(test, "no ext4 through a loop device");
    return is_there;
}

static void unmount(void)
{
    umount2(mount_point(), MNT_DETACH);
}

TEST(without_direct_files_buffered_ones_do)
{
    if (!mount_there("without_direct_files_buffered_ones_do", "ramfs", NULL))
        return;
    ck_assert_int_eq(run_child(open_append_and_die), 128 + SIGKILL);
    ck_assert_uint_eq(notes->stat.is_direct, 0);
    ck_assert_msg(strstr(notes->stat.io_reason, "direct I/O was refused"), "the reason is: %s",
                  notes->stat.io_reason);
    expect_acknowledged();
    expect_log_goes_on();
    const struct twinlog_options asked =
        log_options(TWINLOG_IO_DSYNC, 0); /* for a path, not for direct files */
    struct twinlog *log = log_open(&asked);
    ck_assert_uint_eq(log_stat(log).io, TWINLOG_IO_DSYNC);
    ck_assert_uint_eq(log_stat(log).is_direct, 0);
    ck_assert_ptr_nonnull(strstr(log_stat(log).io_reason, "direct I/O was refused"));
    log_close(log);
    unmount();
}

/* ---- a limit on the size of files -------------------------------------------------------------- */

#define LIMIT_BYTES (128u << 10)

/* A write across the limit is short, the next one fails with EFBIG: a real short write, in the middle of a
 * segment that was allocated long before. */
static int append_to_the_limit(void)
{
    const struct rlimit limit = { LIMIT_BYTES, LIMIT_BYTES };
    struct twinlog_options options = wanted_options();
    struct twinlog *log = open_and_note(&options);

    EXPECT(log);
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    /* as if another process lowered it after each look at it; without a filter it is seen */
    (void)(forbid(SYS_prlimit64, EPERM) && forbid(SYS_getrlimit, EPERM));
    fail_and_note(log);
    return 0;
}

/* ---- what a file system makes of flags ----------------------------------------------------------- */

static _Atomic long assumed_type; /* 0 = as it is */
static _Atomic int statfs_error;  /* 0 = there is none */

/* In place of the C library's. */
int statfs(const char *path, struct statfs *ret_status)
{
    const int error = atomic_load(&statfs_error);
    if (error != 0) {
        errno = error;
        return -1;
    }

    const int rc = (int)syscall(SYS_statfs, path, ret_status);
    if (rc == 0 && atomic_load(&assumed_type) != 0)
        ret_status->f_type = (__typeof__(ret_status->f_type))atomic_load(&assumed_type);
    return rc;
}

static void open_where(long type, uint32_t io)
{
    remove_tree(log_dir);
    wanted_io = io;
    atomic_store(&assumed_type, type);
    ck_assert_int_eq(only_open(), 0);
    atomic_store(&assumed_type, 0);
}

TEST(a_flag_of_a_write_counts_only_where_it_is_known_to_sync)
{
    static const long known[] = { 0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x858458f6 };
    static const long others[] = {
        0x65735546, /* FUSE, virtiofs */
        0x794c7630, /* overlay */
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB */
        0x01021997, /* 9p */
        0xf2f52010, /* f2fs */
        0x2fc12fc1, /* zfs */
        0x12345678, /* of later */
    };
    static const uint32_t refused[] = { TWINLOG_IO_URING, TWINLOG_IO_DSYNC, TWINLOG_IO_URING_LINKED };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        open_where(known[i], TWINLOG_IO_AUTO);
        ck_assert_int_eq(notes->error, 0);
        ck_assert_uint_ne(notes->stat.io, TWINLOG_IO_FDATASYNC);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        open_where(others[i], TWINLOG_IO_AUTO);
        ck_assert_int_eq(notes->error, 0);
        ck_assert_uint_eq(notes->stat.io, TWINLOG_IO_FDATASYNC);
        ck_assert_ptr_nonnull(
            strstr(notes->stat.io_reason, "is only for file systems that are known to sync"));
        for (size_t j = 0; j < sizeof(refused) / sizeof(refused[0]); j++) {
            open_where(others[i], refused[j]);
            ck_assert_int_eq(notes->error, -ENOTSUP);
            ck_assert_ptr_nonnull(strstr(notes->report.text, "known to sync"));
        }
    }
}

/* What is not known does not count as one that syncs. */
TEST(a_file_system_that_cannot_be_asked_gets_an_fdatasync)
{
    atomic_store(&statfs_error, EACCES);
    ck_assert_int_eq(only_open(), 0);
    atomic_store(&statfs_error, 0);

    ck_assert_int_eq(notes->error, 0);
    ck_assert_uint_eq(notes->stat.io, TWINLOG_IO_FDATASYNC);
    ck_assert_ptr_nonnull(strstr(notes->stat.io_reason, "is only for file systems that are known to sync"));
}

CASE("limits", prepare, logdir_remove);

WAYS_TEST(a_short_write_is_a_failure_and_loses_nothing, LOG_WAYS)
{
    wanted_io = options.io;
    wanted_flags = options.flags;
    ck_assert_int_eq(run_child(append_to_the_limit), 0);
    expect_poisoned(-EFBIG);
    expect_acknowledged();
    expect_log_goes_on();
}

/* As in a container that has as many processes as it may: the kernel can start no thread for a ring. */
static int open_without_a_thread_for_the_ring(void)
{
    const struct rlimit itself = { 1, 1 };
    const struct twinlog_options options = LOG_OPTIONS(.io = TWINLOG_IO_AUTO);
    struct twinlog *log;

    EXPECT(become_nobody());
    EXPECT(setrlimit(RLIMIT_NPROC, &itself) == 0);
    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    EXPECT(log_stat(log).io == TWINLOG_IO_DSYNC || log_stat(log).io == TWINLOG_IO_FDATASYNC);
    EXPECT(twinlog_append(log, "record", 6, NULL) == 0);
    return twinlog_close(log);
}

TEST(the_limit_of_processes_is_no_reason_to_refuse_a_log)
{
    if (geteuid() != 0) {
        fprintf(stderr, "SKIP unit %s: only root can become another user\n", __func__);
        return;
    }
    if (!can_nobody_enter(__func__))
        return;

    ck_assert_int_eq(chmod(log_parent, 0777), 0);
    ck_assert_int_eq(run_child(open_without_a_thread_for_the_ring), 0);
}

static int limit_files(uint64_t bytes)
{
    const struct rlimit limit = { bytes, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_DFL);
    return setrlimit(RLIMIT_FSIZE, &limit);
}

/* Segments are made as large as they may be; what fits in none is refused, and nothing else is. */
static int append_below_the_limit(void)
{
    static const unsigned char bytes[640u << 10];
    struct twinlog *log;
    uint64_t lsn;
    const struct twinlog_options options =
        LOG_OPTIONS(.io = wanted_io, .flags = wanted_flags, .mode = wanted_mode,
                    .mapped_bytes = wanted_mode == TWINLOG_MODE_DURABLE ? 0 : 512u << 10,
                    .max_record_bytes = wanted_mode == TWINLOG_MODE_DURABLE ? 0 : 128u << 10,
                    .segment_bytes = 16u << 20);

    EXPECT(limit_files(600u << 10) == 0);
    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    for (unsigned i = 0; i < 40; i++)
        EXPECT(twinlog_append(log, bytes, 100000, NULL) == 0);
    if (wanted_mode == TWINLOG_MODE_DURABLE) {
        EXPECT(twinlog_append(log, bytes, sizeof(bytes), &lsn) == -EFBIG && lsn == 0);
        EXPECT(log_stat(log).poison == 0);
        EXPECT(log_stat(log).limit_failures == 1);
    }
    EXPECT(twinlog_append(log, bytes, 1000, NULL) == 0);
    EXPECT(twinlog_sync(log) == 0);
    /* in the other modes the keeper may still have to write to segments that were left */
    if (wanted_mode == TWINLOG_MODE_DURABLE) {
        EXPECT(limit_files(0) == 0);
        EXPECT(twinlog_meta_set(log, "name", bytes, 100) == -EFBIG);
        EXPECT(limit_files(600u << 10) == 0);
    }
    EXPECT(twinlog_meta_set(log, "name", bytes, 100) == 0);
    EXPECT(twinlog_close(log) == 0);
    return 0;
}

static void expect_all_below_the_limit(void)
{
    uint64_t records = 0;

    ck_assert_int_eq(run_child(append_below_the_limit), 0);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, 41);
}

WAYS_TEST(a_limit_on_files_is_met_like_a_full_disk, LOG_WAYS)
{
    wanted_io = options.io;
    wanted_flags = options.flags;
    wanted_mode = TWINLOG_MODE_DURABLE;
    expect_all_below_the_limit();
}

TEST(a_limit_on_files_is_met_in_mapped_logs)
{
    wanted_io = TWINLOG_IO_AUTO;
    wanted_flags = 0;
    wanted_mode = TWINLOG_MODE_MAPPED;
    expect_all_below_the_limit();
}

enum what_was_left {
    NOTHING,
    CLOSED_LOG,
    LOG_OF_DEAD_WRITER,
};

struct opening_below {
    const char *name;
    enum twinlog_mode mode;
    enum what_was_left left;
    uint64_t limit;
};
static const struct opening_below *opening;

static struct twinlog_options options_of_opening(void)
{
    return LOG_OPTIONS(.mode = opening->mode, .segment_bytes = 16u << 20);
}

/* Its newest segment is above 600 KiB. */
static int leave_log(void)
{
    static const unsigned char bytes[100000];
    const struct twinlog_options options = options_of_opening();
    struct twinlog *log;

    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    for (unsigned i = 0; i < 40; i++)
        EXPECT(twinlog_append(log, bytes, sizeof(bytes), NULL) == 0);
    if (opening->left == LOG_OF_DEAD_WRITER)
        _exit(0);
    return twinlog_close(log);
}

static int open_below_the_limit(void)
{
    const struct twinlog_options options = options_of_opening();
    struct twinlog *log;
    char digits[32];

    snprintf(digits, sizeof(digits), " %llu bytes", (unsigned long long)opening->limit);
    EXPECT(limit_files(opening->limit) == 0);
    EXPECT(twinlog_open(log_dir, &options, &log) == -EFBIG);
    EXPECT(log_report.finding == TWINLOG_FOUND_SYSTEM_ERROR);
    EXPECT(log_report.action == TWINLOG_DID_REFUSE);
    EXPECT(log_report.error == -EFBIG);
    EXPECT(strstr(log_report.text, "RLIMIT_FSIZE"));
    EXPECT(strstr(log_report.text, digits));

    EXPECT(limit_files(RLIM_INFINITY) == 0);
    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    EXPECT(twinlog_append(log, "goes on", 7, NULL) == 0);
    return twinlog_close(log);
}

/* Else an append would fail in the middle of the newest segment, and poison the log. */
static const struct opening_below openings_below[] = {
    { "a new log without a byte", TWINLOG_MODE_DURABLE, NOTHING, 0 },
    { "a new log, its state file", TWINLOG_MODE_DURABLE, NOTHING, 4096 },
    { "a new log, its first segment", TWINLOG_MODE_DURABLE, NOTHING, 64u << 10 },
    { "a closed log, its newest segment", TWINLOG_MODE_DURABLE, CLOSED_LOG, 600u << 10 },
    { "the log of a dead writer, its newest segment", TWINLOG_MODE_DURABLE, LOG_OF_DEAD_WRITER, 600u << 10 },

    { "a new mapped log, its first segment", TWINLOG_MODE_MAPPED, NOTHING, 64u << 10 },
    { "a new mapped log, its second segment", TWINLOG_MODE_MAPPED, NOTHING, 600u << 10 },
    { "a closed mapped log, its newest segment", TWINLOG_MODE_MAPPED, CLOSED_LOG, 3u << 20 },
    { "the mapped log of a dead writer, its open groups", TWINLOG_MODE_MAPPED, LOG_OF_DEAD_WRITER,
      600u << 10 },

    { "a new shared log, any segment", TWINLOG_MODE_SHARED, NOTHING, (16u << 20) - 1 },
    { "a closed shared log, any segment", TWINLOG_MODE_SHARED, CLOSED_LOG, (16u << 20) - 1 },
};

TEST_EACH(an_opening_that_a_limit_on_files_forbids_says_so, openings_below)
{
    opening = row;
    if (opening->left != NOTHING)
        ck_assert_int_eq(run_child(leave_log), 0);
    ck_assert_int_eq(run_child(open_below_the_limit), 0);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

static int make_what_is_too_long(void)
{
    char copy[300];
    struct twinlog *log;

    EXPECT(limit_files(64u << 10) == 0);
    EXPECT(twinlog_open(log_dir, NULL, &log) == -EFBIG);
    EXPECT(limit_files(RLIM_INFINITY) == 0);
    EXPECT(twinlog_open(log_dir, NULL, &log) == 0);
    EXPECT(twinlog_append(log, "one", 3, NULL) == 0);
    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    EXPECT(limit_files(64u << 10) == 0);
    EXPECT(twinlog_backup(log_dir, copy, NULL, NULL) == -EFBIG);
    EXPECT(limit_files(RLIM_INFINITY) == 0);
    return twinlog_close(log);
}

TEST(no_log_and_no_copy_is_made_beyond_a_limit)
{
    ck_assert_int_eq(run_child(make_what_is_too_long), 0);
}

/* ---- a full disk ------------------------------------------------------------------------------- */

static bool mount_small_tmpfs(const char *test)
{
    return mount_there(test, "tmpfs", "size=16m");
}

static const struct small_disk {
    const char *name;
    bool (*mount)(const char *test);
} small_disks[] = {
    { "tmpfs", mount_small_tmpfs },
    { "ext4", mount_small_ext4 },
};

static const char *ballast(void)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/disk/ballast", log_parent);
    return path;
}

static unsigned count_temporaries(void)
{
    char name[64];
    unsigned temporaries = 0;

    for (unsigned i = 1; i < 64; i++) {
        snprintf(name, sizeof(name), "%016x.twl.new", i);
        temporaries += log_has_file(name);
    }
    return temporaries;
}

#define BALLAST_BYTES (4u << 20)
UNSCANNED_BYTES(megabytes, BALLAST_BYTES)

static struct twinlog *fill_the_disk(void)
{
    const struct twinlog_options options = wanted_options();

    put_file(ballast(), megabytes, BALLAST_BYTES);
    struct twinlog *log = log_open(&options);
    append_and_note(log, 1u << 20);
    ck_assert_int_eq(notes->append_error, -ENOSPC);
    ck_assert_uint_gt(notes->acked, 0);
    return log;
}

CASE("full disks", prepare, logdir_remove);

TEST_EACH(a_full_disk_is_an_error_that_ends_with_it, small_disks)
{
    if (!row->mount("a_full_disk_is_an_error_that_ends_with_it"))
        return;
    wanted_segment_bytes = 1u << 20;
    struct twinlog *log = fill_the_disk();
    ck_assert_uint_eq(twinlog_last_lsn(log), notes->acked); /* nothing happened */
    ck_assert_int_eq(twinlog_sync(log), 0);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_int_eq(stat.poison, 0);
    ck_assert_uint_gt(stat.full_failures, 0);
    AWAIT(count_temporaries() == 0); /* what did not fit does not stay; the keeper may be trying once more */

    ck_assert_int_eq(unlink(ballast()), 0);
    append_records(log, 0, notes->acked, 1000);
    log_close(log);
    ck_assert_uint_eq(log_check().next[0], notes->acked + 1000);
    unmount();
}

/* The keeper's thread may still be removing what was trimmed. */
static void append_as_space_returns(struct twinlog *log, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        AWAIT(append_record(log, 0, from + i, NULL) == 0);
}

static void fill_the_rest(void)
{
    static const unsigned char some[4096];
    int fd = open(ballast(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    ck_assert_int_ge(fd, 0);
    while (write(fd, some, sizeof(some)) > 0)
        continue;
    ck_assert_int_eq(errno, ENOSPC);
    close(fd);
}

#define FULL_RECORDS 600u

/* Opened, and all that is still possible: the number of records then. */
static uint32_t expect_possible_on_a_full_disk(uint32_t count)
{
    const struct twinlog_options options = wanted_options();
    struct twinlog *log = log_open(&options);
    int rc;

    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    ck_assert_uint_eq(twinlog_durable_lsn(log), count);
    while ((rc = append_record(log, 0, count, NULL)) == 0)
        count++;
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(log_stat(log).poison, 0);
    log_close(log);
    ck_assert_uint_eq(log_check().next[0], count);
    return count;
}

/* A log that is to be mapped needs a new segment first. One that was killed may have left a spare. */
static void expect_refused_on_a_full_disk(uint32_t count, bool is_killed)
{
    const struct twinlog_options options = wanted_options();
    struct twinlog *log = NULL;
    const int rc = twinlog_open(log_dir, &options, &log);
    if (rc == 0 && is_killed) {
        log_close(log);
    } else {
        ck_assert_int_eq(rc, -ENOSPC);
        ck_assert_ptr_null(log);
        ck_assert_ptr_nonnull(strstr(log_report.text, "in the durable mode"));
    }
    ck_assert_uint_eq(log_check().next[0], count);
}

/* Closed or killed in the mode that is wanted, when the disk was not full yet. */
static void leave_full_records(bool is_killed)
{
    const struct twinlog_options options = wanted_options();

    if (is_killed) {
        wanted_records = FULL_RECORDS;
        ck_assert_int_eq(run_child(open_append_and_die), 128 + SIGKILL);
        return;
    }
    struct twinlog *log = log_open(&options);
    append_records(log, 0, 0, FULL_RECORDS);
    log_close(log);
}

/* Again and again: no opening takes what the next one needs. */
static uint32_t open_on_a_full_disk(bool is_killed)
{
    uint32_t count = FULL_RECORDS;

    for (unsigned openings = 0; openings < 3; openings++) {
        if (wanted_mode == TWINLOG_MODE_DURABLE)
            count = expect_possible_on_a_full_disk(count);
        else
            expect_refused_on_a_full_disk(count, is_killed);
    }
    return count;
}

static void trim_half_and_go_on(uint32_t count)
{
    const struct twinlog_options options = wanted_options();
    const struct twinlog_trim_options half = WITH_SIZE(trim_options, .before_lsn = count / 2);
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct twinlog *log = log_open(&options);

    ck_assert_int_eq(twinlog_trim(log, &half, &result), 0);
    ck_assert_uint_gt(result.removed_segments, 0);
    append_as_space_returns(log, count, 100);
    log_close(log);
}

static void expect_room_again(uint32_t count)
{
    const struct twinlog_options options = wanted_options();
    struct twinlog *log = log_open(&options);

    append_as_space_returns(log, count, 100);
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

#define OPENED_IN_EACH_MODE(was, mode, is_killed)                                                            \
    { was ", then durable", mount_small_tmpfs, mode, is_killed, TWINLOG_MODE_DURABLE },                      \
        { was ", then mapped", mount_small_tmpfs, mode, is_killed, TWINLOG_MODE_MAPPED },                    \
    {                                                                                                        \
        was ", then shared", mount_small_tmpfs, mode, is_killed, TWINLOG_MODE_SHARED                         \
    }
static const struct {
    const char *name;
    bool (*mount)(const char *test);
    uint32_t mode; /* in which it was closed, or its writer was killed */
    bool is_killed;
    uint32_t then; /* in which it is opened on the full disk */
} full_disks[] = {
    OPENED_IN_EACH_MODE("durable, closed", TWINLOG_MODE_DURABLE, false),
    OPENED_IN_EACH_MODE("mapped, closed", TWINLOG_MODE_MAPPED, false),
    OPENED_IN_EACH_MODE("shared, closed", TWINLOG_MODE_SHARED, false),
    OPENED_IN_EACH_MODE("durable, killed", TWINLOG_MODE_DURABLE, true),
    OPENED_IN_EACH_MODE("mapped, killed", TWINLOG_MODE_MAPPED, true),
    OPENED_IN_EACH_MODE("shared, killed", TWINLOG_MODE_SHARED, true),
    { "mapped, closed, then durable, on ext4", mount_small_ext4, TWINLOG_MODE_MAPPED, false,
      TWINLOG_MODE_DURABLE },
    { "mapped, closed, then mapped, on ext4", mount_small_ext4, TWINLOG_MODE_MAPPED, false,
      TWINLOG_MODE_MAPPED },
    { "mapped, closed, then shared, on ext4", mount_small_ext4, TWINLOG_MODE_MAPPED, false,
      TWINLOG_MODE_SHARED },
};

TEST_EACH(a_log_of_any_mode_can_be_trimmed_on_a_full_disk, full_disks)
{
    if (!row->mount("a_log_of_any_mode_can_be_trimmed_on_a_full_disk"))
        return;
    wanted_segment_bytes = 64u << 10;
    wanted_mode = row->mode;
    leave_full_records(row->is_killed);
    fill_the_rest();

    wanted_mode = row->then;
    const uint32_t count = open_on_a_full_disk(row->is_killed);
    wanted_mode = TWINLOG_MODE_DURABLE;
    trim_half_and_go_on(count);

    ck_assert_int_eq(unlink(ballast()), 0);
    wanted_mode = row->then;
    expect_room_again(count + 100);
    unmount();
}

TEST(a_log_that_does_not_fit_is_not_started)
{
    const struct twinlog_options options = log_options(0, 0);
    struct stat about;

    if (!mount_there("a_log_that_does_not_fit_is_not_started", "tmpfs", "size=256k"))
        return;
    ck_assert_int_eq(log_open_error(&options), -ENOSPC);
    ck_assert_str_ne(log_report.text, "");
    AWAIT(count_temporaries() == 0);
    ck_assert_int_eq(stat(log_segment(1), &about), -1);
    ck_assert_int_eq(mount("none", mount_point(), NULL, MS_REMOUNT, "size=4m"), 0);
    notes->acked = 0;
    expect_log_goes_on();
    unmount();
}

/* ---- nothing may be written -------------------------------------------------------------------- */

static void expect_refused_and_readable(int error)
{
    ck_assert_int_eq(log_open_error(NULL), error);
    ck_assert_msg(strstr(log_report.text, twinlog_strerror(error)), "the report is: %s", log_report.text);
    ck_assert_uint_eq(log_check().next[0], RECORDS);
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_uint_eq(inspection.last_lsn, RECORDS);
}

CASE("read only", prepare, logdir_remove);

TEST(a_read_only_file_system_is_for_readers)
{
    if (!mount_there("a_read_only_file_system_is_for_readers", "tmpfs", NULL))
        return;
    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, RECORDS);
    log_close(log);
    ck_assert_int_eq(mount("none", mount_point(), NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    expect_refused_and_readable(-EROFS);
    unmount();
}

/* As a user that may read what is there. */
static int read_as_nobody(void)
{
    struct twinlog *log = NULL;
    struct twinlog_options options = log_options(0, 0);
    if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        return CANNOT_RUN;
    EXPECT(twinlog_open(log_dir, &options, &log) == -EACCES);
    EXPECT(strstr(log_report.text, twinlog_strerror(-EACCES)));
    log_check();
    return 0;
}

TEST(a_user_that_may_not_write_may_read)
{
    struct twinlog *log = log_open(NULL);

    append_records(log, 0, 0, RECORDS);
    log_close(log);
    ck_assert_int_eq(chmod(log_parent, 0755), 0);
    ck_assert_int_eq(chmod(log_dir, 0755), 0);
    expect_success_or_skip(run_child(read_as_nobody), "a_user_that_may_not_write_may_read", "not root");
}

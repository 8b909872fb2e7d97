/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public calls that take the directory of a log: they check the arguments and choose the I/O path.
 *
 * Opening takes the first rung of the ladder that opens the log. A kernel, a sandbox or a file system refuses a rung
 * at the latest when the marker group of the new epoch is written, so the next rung can try again.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/descriptor.h"
#include "base/report.h"
#include "base/versioned.h"
#include "check/check.h"
#include "io/io.h"
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The paths by which a group can reach stable storage, best first: all of them with direct I/O, then all without. Where
 * io_uring works, a log may change to pwritev2 and back while it is open. */
static const struct path {
    enum twinlog_io io;
    const char *name;
} ladder[] = {
    { TWINLOG_IO_URING, "io_uring" },
    { TWINLOG_IO_DSYNC, "RWF_DSYNC" },
    { TWINLOG_IO_FDATASYNC, "fdatasync" },
    { TWINLOG_IO_URING_LINKED, "io_uring linked to fdatasync" },
};
#define PATHS (sizeof(ladder) / sizeof(ladder[0]))

/* Does a write that carries RWF_DSYNC reach stable storage, without another call? These pass the flag on to
 * generic_write_sync() or iomap_dio_complete(), which sync before the write returns; in memory there is nothing to
 * sync. All others get an fdatasync: FUSE drops the flag, overlayfs says nothing of what is below, and for network
 * file systems it depends on the server. */
static bool syncs_writes(const char *dir)
{
    static const unsigned long known[] = {
        0xef53,     /* ext2, ext3, ext4 */
        0x58465342, /* xfs */
        0x9123683e, /* btrfs */
        0x01021994, /* tmpfs */
        0x858458f6, /* ramfs */
    };
    struct statfs fs;
    if (statfs(dir, &fs) != 0)
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i] == (unsigned long)fs.f_type)
            return true;
    return false;
}

static int refuse_directory(const struct twinlog_options *options, int error, const char *doing)
{
    const bool is_made_if_missing = !(options->flags & TWINLOG_MUST_EXIST);
    const char *advice = "";

    if (twl_log_is_limited(error)) {
        twl_log_report_limit(options->ret_report, doing, 0);
        return error;
    }
    if (error == -ENOENT && is_made_if_missing)
        advice = "; its parent must exist";
    twl_report(options->ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot %s: %s%s",
               doing, twinlog_strerror(error), advice);
    return error;
}

/* A parent that is not readable cannot be synced. */
static int sync_parent(int fd)
{
    const int parent = twl_descriptor_open(fd, "..", O_DIRECTORY | O_RDONLY, 0);
    if (parent == -EACCES)
        return 0;
    if (parent < 0)
        return parent;

    const int rc = fsync(parent) == 0 ? 0 : -errno;
    close(parent);
    return rc;
}

/* Makes the directory, unless it has to exist, and its name durable by a sync of its parent: even if it exists, because
 * the process that made it may have died before this. *ret_doing: "cannot ..." */
static int make_directory(const char *dir, bool must_exist, const char **ret_doing)
{
    *ret_doing = "create the log's directory";
    if (!must_exist && mkdir(dir, 0777) < 0 && errno != EEXIST)
        return -errno;

    *ret_doing = "open the log's directory";
    const int fd = twl_descriptor_open(AT_FDCWD, dir, O_DIRECTORY | O_RDONLY, 0);
    if (fd < 0)
        return fd;

    *ret_doing = "sync the parent of the log's directory";
    const int rc = sync_parent(fd);
    close(fd);
    return rc;
}

/* The groups of a log with a shared committer go through the ring of the committer, which syncs with the write. So the
 * log has no ring, and what the committer does not write it writes itself in the same way. */
static int create_io(const char *dir, enum twinlog_io kind, const struct twinlog_options *options,
                     struct io **ret_io)
{
    const bool has_ring = !options->committer;
    const bool may_change = options->io == TWINLOG_IO_AUTO;

    /* -ECANCELED of a linked sync counts as one that never ran: no known file system answers with it */
    if (has_ring && kind == TWINLOG_IO_URING_LINKED)
        return twl_io_uring_create(dir, RING_LINKED, ret_io);
    if (has_ring && kind == TWINLOG_IO_URING)
        return twl_io_uring_create(dir, may_change ? RING_OR_CALL : RING_DSYNC, ret_io);
    return twl_io_posix_create(dir, kind != TWINLOG_IO_FDATASYNC, ret_io);
}

static int open_on(const char *dir, enum twinlog_io kind, bool is_direct,
                   const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct twinlog_options own = *options;
    struct io *io;

    own.io = kind;
    if (!is_direct)
        own.flags |= TWINLOG_BUFFERED;
    const int rc = create_io(dir, kind, options, &io);
    if (rc < 0)
        return refuse_directory(options, rc, "open the log's directory");
    return twl_log_open(io, &own, ret_log);
}

/* The linked form is not automatic because it was measured to be slower than a write that carries its own sync: the
 * kernel hands the fdatasync to another thread. */
static bool is_wanted(enum twinlog_io kind, bool is_direct, const struct twinlog_options *options)
{
    if (is_direct && (options->flags & TWINLOG_BUFFERED))
        return false;
    if (options->io == TWINLOG_IO_AUTO)
        return kind != TWINLOG_IO_URING_LINKED;
    return kind == options->io;
}

#define REASON_BYTES 160u

/* Why the log is on the path that it has, if no path in front of that was refused. */
static const char *reason_without_refusal(const struct twinlog_options *options)
{
    if (options->io != TWINLOG_IO_AUTO)
        return "as asked for";
    if (options->committer)
        return "shared committer";
    return "nothing was refused";
}

/* `may_sync`: the path is for this file system; if not, it was not even tried. */
static void describe_refusal(char reason[REASON_BYTES], const struct path *path, bool is_direct,
                             bool may_sync, int error)
{
    const char *with = is_direct ? "direct I/O" : "buffered";

    if (may_sync)
        snprintf(reason, REASON_BYTES, "%s, %s was refused: %s", path->name, with, twinlog_strerror(error));
    else
        snprintf(reason, REASON_BYTES,
                 "%s, %s is only for file systems that are known to sync; fdatasync works everywhere",
                 path->name, with);
}

/* Opens the log on the first path that works: all of them with direct I/O, then all without. The reason that is kept is
 * the first refusal. */
static int open_on_first_path(const char *dir, const struct twinlog_options *options,
                              struct twinlog **ret_log)
{
    const bool syncs = syncs_writes(dir);
    bool has_refusal = false;
    int rc = -ENOTSUP;
    char reason[REASON_BYTES];

    snprintf(reason, sizeof(reason), "%s", reason_without_refusal(options));
    for (size_t i = 0; i < 2 * PATHS; i++) {
        const struct path *path = &ladder[i % PATHS];
        const bool is_direct = i < PATHS;
        const bool may_sync = syncs || path->io == TWINLOG_IO_FDATASYNC;
        if (!is_wanted(path->io, is_direct, options))
            continue;

        rc = -EOPNOTSUPP;
        if (may_sync)
            rc = open_on(dir, path->io, is_direct, options, ret_log);
        if (rc == 0)
            twl_log_set_io_reason(*ret_log, reason);
        if (!io_is_refusal(rc))
            return rc;

        if (!has_refusal)
            describe_refusal(reason, path, is_direct, may_sync, rc);
        has_refusal = true;
    }
    if (options->io == TWINLOG_IO_AUTO) /* the last rung needs nothing special: a real failure */
        return rc;
    twl_report(options->ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, -ENOTSUP, "%s", reason);
    return -ENOTSUP;
}

static int open_to_read(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct io *io;
    const int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return refuse_directory(options, rc, "open the log's directory");
    return twl_log_open(io, options, ret_log);
}

static int open_to_write(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log)
{
    const bool must_exist = options->flags & TWINLOG_MUST_EXIST;
    const char *doing;

    /* Before the threads of the log have work for the disk, which the sync would wait for. */
    const int rc = make_directory(dir, must_exist, &doing);
    if (rc < 0)
        return refuse_directory(options, rc, doing);
    return open_on_first_path(dir, options, ret_log);
}

int twinlog_open(const char *dir, const struct twinlog_options *given, struct twinlog **ret_log)
{
    struct twinlog_options options;
    struct twinlog *log;
    int rc = twl_options_normalise(given, &options);
    if (rc < 0)
        return rc;
    twl_report_clear(options.ret_report);
    if (!dir || !ret_log)
        return twl_report_failure(options.ret_report, -EINVAL, "open a log");

    if (options.flags & TWINLOG_READ_ONLY)
        rc = open_to_read(dir, &options, &log);
    else
        rc = open_to_write(dir, &options, &log);
    if (rc == 0)
        *ret_log = log;
    return twl_report_failure(options.ret_report, rc, "open a log");
}

int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader)
{
    NOT_CANCELLED; /* its descriptors would stay open */
    struct twinlog_reader_options own;
    struct io *io;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);
    const bool has_unknown_flag = own.flags & ~READER_FLAGS;
    if (!dir || !ret_reader || has_unknown_flag)
        return twl_report_failure(own.ret_report, -EINVAL, "open a reader");

    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return twl_report_failure(own.ret_report, rc, "open the log's directory");
    rc = twl_reader_open(io, &own, ret_reader);
    return twl_report_failure(own.ret_report, rc, "open a reader");
}

static bool can_name_consumer(const char *name)
{
    return name && strlen(name) > 0 && strlen(name) < TWINLOG_NAME_BYTES;
}

int twinlog_consumer_open(const char *dir, const char *name, const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer)
{
    NOT_CANCELLED;
    const uint32_t flags = TWINLOG_CONSUMER_FROM_END | TWINLOG_CONSUMER_MMAP | TWINLOG_CONSUMER_DURABLE;
    struct twinlog_consumer_options own;
    struct io *io;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);
    const bool has_unknown_flag = own.flags & ~flags;
    if (!dir || !can_name_consumer(name) || !ret_consumer || has_unknown_flag)
        return twl_report_failure(own.ret_report, -EINVAL, "open a consumer");

    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return twl_report_failure(own.ret_report, rc, "open the log's directory");
    rc = twl_consumer_open(io, name, &own, ret_consumer);
    return twl_report_failure(own.ret_report, rc, "open a consumer");
}

int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection)
{
    NOT_CANCELLED;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct io *io;
    if (!dir || !ret_inspection || !twl_versioned_is_set(ret_inspection))
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;

    rc = twl_inspect(io, &inspection);
    twl_versioned_give(ret_inspection, &inspection, sizeof(inspection));
    return rc;
}

int twinlog_watch(const char *dir, struct twinlog_stat *ret_stat, struct twinlog_timings *ret_timings)
{
    NOT_CANCELLED;
    struct io *io;
    if (!dir || !twl_versioned_is_set(ret_stat) || !twl_versioned_is_set(ret_timings))
        return -EINVAL;

    const int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    return twl_watch(io, ret_stat, ret_timings);
}

int twinlog_verify(const char *dir, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    NOT_CANCELLED;
    struct twinlog_verify_options own;
    struct io *io;
    if (!dir || twl_versioned_take(&own, sizeof(own), options) < 0 || own.flags != 0)
        return -EINVAL;

    const int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    return twl_verify(io, &own, ret_records);
}

int twinlog_segments(const char *dir, int (*each)(void *context, const struct twinlog_segment *segment),
                     void *context)
{
    NOT_CANCELLED;
    struct io *io;
    if (!dir || !each)
        return -EINVAL;

    const int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    return twl_segments(io, each, context);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static int check_empty(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "lost+found") == 0 ? 0 : -ENOTEMPTY;
}

/* Makes the directory for the copy, or takes one that is empty. */
static int open_new(const char *dir, struct io **ret_io)
{
    struct io *io;
    const char *doing;
    int rc = make_directory(dir, false, &doing);
    if (rc == 0)
        rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;

    rc = io->ops->list(io, check_empty, NULL);
    if (rc < 0) {
        io->ops->destroy(io);
        return rc;
    }
    *ret_io = io;
    return 0;
}

/* Opens the old log, and a new, empty directory for the copy. */
static int open_both(const char *dir, const char *new_dir, struct io **ret_io, struct io **ret_to)
{
    struct io *io;
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;

    rc = open_new(new_dir, ret_to);
    if (rc < 0) {
        io->ops->destroy(io);
        return rc;
    }
    *ret_io = io;
    return 0;
}

int twinlog_backup(const char *dir, const char *new_dir, const struct twinlog_backup_options *options,
                   struct twinlog_backup_result *ret_result)
{
    NOT_CANCELLED;
    struct twinlog_backup_options own;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *io, *to;
    if (!dir || !new_dir || twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    const bool has_unknown_flag = own.flags & ~(uint32_t)TWINLOG_BACKUP_COPY;
    if (has_unknown_flag || !twl_versioned_is_set(ret_result))
        return -EINVAL;

    int rc = open_both(dir, new_dir, &io, &to);
    if (rc == 0)
        rc = twl_backup(io, to, &own, &result);
    if (rc == 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    return rc;
}

int twinlog_repair(const char *dir, const char *new_dir, const struct twinlog_repair_options *options,
                   struct twinlog_repair_result *ret_result)
{
    NOT_CANCELLED;
    struct twinlog_repair_options own;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct io *io, *to;
    if (!dir || !new_dir || twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    if (own.flags != 0 || !twl_versioned_is_set(ret_result))
        return -EINVAL;

    int rc = open_both(dir, new_dir, &io, &to);
    if (rc == 0)
        rc = twl_repair(io, to, &own, &result);
    if (rc == 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    return rc;
}

/* ---- a trim from outside, and its plan ---------------------------------------------------- */

/* Only what a wish in the state file can say. */
static bool can_be_asked(const struct twinlog_trim_options *options)
{
    const bool has_limits =
        options->keep_bytes > 0 || options->keep_records > 0 || options->before_time_ns != 0;
    const bool has_unknown_flag = options->flags & ~(uint32_t)TWINLOG_TRIM_PAST_CURSORS;

    return options->before_lsn > 0 && !has_limits && !has_unknown_flag;
}

int twinlog_ask_trim(const char *dir, const struct twinlog_trim_options *options, int timeout_ms,
                     uint64_t *ret_first_lsn)
{
    struct twinlog_trim_options own;
    struct io *io;
    if (!dir || !options || twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    if (!can_be_asked(&own))
        return -EINVAL;

    const int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    return twl_ask_trim(io, &own, timeout_ms, ret_first_lsn);
}

int twinlog_plan_trim(const char *dir, const struct twinlog_trim_options *options,
                      struct twinlog_trim_result *ret_result)
{
    NOT_CANCELLED;
    struct twinlog_trim_options own;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct io *io;
    if (!dir || !ret_result || twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    if (!twl_trim_is_valid(&own) || !twl_versioned_is_set(ret_result))
        return -EINVAL;

    int rc = twl_io_posix_create(dir, false, &io);
    if (rc == 0)
        rc = twl_plan_trim(io, &own, &result);
    if (rc == 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    return rc;
}

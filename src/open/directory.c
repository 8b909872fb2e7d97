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
    const bool lacks_parent = error == -ENOENT && !(options->flags & TWINLOG_MUST_EXIST);
    if (twl_log_is_limited(error)) {
        twl_log_report_limit(options->ret_report, doing, 0);
        return error;
    }
    twl_report(options->ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot %s: %s%s",
               doing, twinlog_strerror(error), lacks_parent ? "; its parent must exist" : "");
    return error;
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
    const int parent = twl_descriptor_open(fd, "..", O_DIRECTORY | O_RDONLY, 0);
    const int rc = parent < 0 ? parent : fsync(parent) == 0 ? 0 : -errno;
    if (parent >= 0)
        close(parent);
    close(fd);
    return rc == -EACCES ? 0 : rc; /* the parent is not readable, so it cannot be synced */
}

/* The groups of a log with a shared committer go through the ring of the committer, which syncs with the write. So the
 * log has no ring, and what the committer does not write it writes itself in the same way. */
static int create_io(const char *dir, enum twinlog_io kind, const struct twinlog_options *options,
                     struct io **ret_io)
{
    /* -ECANCELED of a linked sync counts as one that never ran: no known file system answers with it */
    if (kind == TWINLOG_IO_URING_LINKED && !options->committer)
        return twl_io_uring_create(dir, RING_LINKED, ret_io);
    if (kind == TWINLOG_IO_URING && !options->committer)
        return twl_io_uring_create(dir, options->io == TWINLOG_IO_AUTO ? RING_OR_CALL : RING_DSYNC, ret_io);
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
    return rc == 0 ? twl_log_open(io, &own, ret_log)
                   : refuse_directory(options, rc, "open the log's directory");
}

/* The linked form is not automatic because it was measured to be slower than a write that carries its own sync: the
 * kernel hands the fdatasync to another thread. */
static bool is_wanted(enum twinlog_io kind, bool is_direct, const struct twinlog_options *options)
{
    if (is_direct && (options->flags & TWINLOG_BUFFERED))
        return false;
    return options->io == TWINLOG_IO_AUTO ? kind != TWINLOG_IO_URING_LINKED : kind == options->io;
}

#define REASON_BYTES 160u

/* Why the log is on the path that it has, if no path in front of that was refused. */
static const char *reason_without_refusal(const struct twinlog_options *options)
{
    if (options->io != TWINLOG_IO_AUTO)
        return "as asked for";
    return options->committer ? "shared committer" : "nothing was refused";
}

/* `may_sync`: the path is for this file system; else it was not even tried. */
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
static int climb(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log)
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

        rc = may_sync ? open_on(dir, path->io, is_direct, options, ret_log) : -EOPNOTSUPP;
        if (rc == 0)
            twl_log_name_path(*ret_log, reason);
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

int twinlog_open(const char *dir, const struct twinlog_options *given, struct twinlog **ret_log)
{
    struct twinlog_options options;
    struct twinlog *log;
    struct io *io;
    const char *doing;
    int rc = twl_options_normalise(given, &options);
    if (rc < 0)
        return rc;
    twl_report_clear(options.ret_report);
    if (!dir || !ret_log)
        return twl_report_failure(options.ret_report, -EINVAL, "open a log");
    if (options.flags & TWINLOG_READ_ONLY) {
        rc = twl_io_posix_create(dir, false, &io);
        if (rc < 0)
            return refuse_directory(&options, rc, "open the log's directory");
        rc = twl_log_open(io, &options, ret_log);
        return twl_report_failure(options.ret_report, rc, "open a log");
    }
    /* before the threads of the log have work for the disk, which the sync would wait for */
    rc = make_directory(dir, options.flags & TWINLOG_MUST_EXIST, &doing);
    if (rc < 0)
        return refuse_directory(&options, rc, doing);
    rc = climb(dir, &options, &log);
    if (rc == 0)
        *ret_log = log;
    return twl_report_failure(options.ret_report, rc, "open a log");
}

int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    struct io *io;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);
    if (!dir || !ret_reader || (own.flags & ~READER_FLAGS))
        return twl_report_failure(own.ret_report, -EINVAL, "open a reader");
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return twl_report_failure(own.ret_report, rc, "open the log's directory");
    rc = twl_reader_open(io, &own, ret_reader);
    return twl_report_failure(own.ret_report, rc, "open a reader");
}

int twinlog_consumer_open(const char *dir, const char *name, const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer)
{
    const uint32_t flags = TWINLOG_CONSUMER_FROM_END | TWINLOG_CONSUMER_MMAP | TWINLOG_CONSUMER_DURABLE;
    struct twinlog_consumer_options own;
    struct io *io;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);
    if (!dir || !name || !ret_consumer || (own.flags & ~flags) || strlen(name) == 0 ||
        strlen(name) >= TWINLOG_NAME_BYTES)
        return twl_report_failure(own.ret_report, -EINVAL, "open a consumer");
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return twl_report_failure(own.ret_report, rc, "open the log's directory");
    rc = twl_consumer_open(io, name, &own, ret_consumer);
    return twl_report_failure(own.ret_report, rc, "open a consumer");
}

int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection)
{
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
    struct io *io;
    if (!dir || !twl_versioned_is_set(ret_stat) || !twl_versioned_is_set(ret_timings))
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_watch(io, ret_stat, ret_timings);
}

int twinlog_verify(const char *dir, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    struct twinlog_verify_options own;
    struct io *io;
    if (!dir || twl_versioned_take(&own, sizeof(own), options) < 0 || own.flags != 0)
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_verify(io, &own, ret_records);
}

int twinlog_segments(const char *dir, int (*each)(void *context, const struct twinlog_segment *segment),
                     void *context)
{
    struct io *io;
    if (!dir || !each)
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_segments(io, each, context);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static int check_empty(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "lost+found") == 0 ? 0 : -ENOTEMPTY;
}

/* Opens the old log, and a new, empty directory for the copy. */
static int open_both(const char *dir, const char *new_dir, struct io **ret_io, struct io **ret_to)
{
    struct io *io, *to;
    const char *doing;
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    rc = make_directory(new_dir, false, &doing);
    if (rc == 0)
        rc = twl_io_posix_create(new_dir, false, &to);
    if (rc == 0) {
        rc = to->ops->list(to, check_empty, NULL);
        if (rc < 0)
            to->ops->destroy(to);
    }
    if (rc < 0) {
        io->ops->destroy(io);
        return rc;
    }
    *ret_io = io;
    *ret_to = to;
    return 0;
}

int twinlog_backup(const char *dir, const char *new_dir, const struct twinlog_backup_options *options,
                   struct twinlog_backup_result *ret_result)
{
    struct twinlog_backup_options own;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    struct io *io, *to;
    if (!dir || !new_dir || twl_versioned_take(&own, sizeof(own), options) < 0 ||
        (own.flags & ~(uint32_t)TWINLOG_BACKUP_COPY) || !twl_versioned_is_set(ret_result))
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
    struct twinlog_repair_options own;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct io *io, *to;
    if (!dir || !new_dir || twl_versioned_take(&own, sizeof(own), options) < 0 || own.flags != 0 ||
        !twl_versioned_is_set(ret_result))
        return -EINVAL;
    int rc = open_both(dir, new_dir, &io, &to);
    if (rc == 0)
        rc = twl_repair(io, to, &own, &result);
    if (rc == 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    return rc;
}

int twinlog_ask_trim(const char *dir, const struct twinlog_trim_options *options, int timeout_ms,
                     uint64_t *ret_first_lsn)
{
    struct twinlog_trim_options own;
    struct io *io;
    if (!dir || !options || twl_versioned_take(&own, sizeof(own), options) < 0 || own.before_lsn == 0 ||
        own.keep_bytes > 0 || own.keep_records > 0 || own.before_time_ns != 0 ||
        (own.flags & ~(uint32_t)TWINLOG_TRIM_PAST_CURSORS))
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_ask_trim(io, &own, timeout_ms, ret_first_lsn);
}

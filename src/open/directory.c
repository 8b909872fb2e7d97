/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public calls that take the directory of a log: they check the arguments and choose the I/O path.
 *
 * Opening takes the first rung of the ladder that opens the log. A kernel, a sandbox or a file system refuses a rung
 * when the ring is made, when the segment is opened, or when the marker group of the new epoch is written. At that
 * moment no record has been accepted yet, so the next rung can try again.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/versioned.h"
#include "check/check.h"
#include "log/log.h"
#include "open/ladder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_wanted(const struct rung *rung, const struct twinlog_options *options)
{
    if (rung->is_direct && (options->flags & TWINLOG_BUFFERED))
        return false;
    return options->io == TWINLOG_IO_AUTO ? rung->is_automatic : rung->io == options->io;
}

static void tell(const struct twinlog_options *options, enum twinlog_finding finding, int error,
                 const char *words)
{
    struct twinlog_report *ret_report = twl_options_report(options);
    if (!ret_report)
        return;
    struct twinlog_report report = { .finding = finding, .action = TWINLOG_DID_REFUSE, .error = error };
    snprintf(report.text, sizeof(report.text), "%s", words);
    *ret_report = report;
}

/* The name of a directory is durable once its parent is synced. */
static int sync_parent(const char *dir)
{
    int fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    int parent = fd < 0 ? -1 : openat(fd, "..", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    int rc = parent >= 0 && fsync(parent) == 0 ? 0 : -errno;
    if (parent >= 0)
        close(parent);
    if (fd >= 0)
        close(fd);
    return rc == -EACCES ? 0 : rc; /* the parent is not readable, so it cannot be synced */
}

static int make_directory(const char *dir, const struct twinlog_options *options,
                          const struct twinlog_options *normal)
{
    if (normal->flags & TWINLOG_MUST_EXIST)
        return 0;
    if (mkdir(dir, 0777) == 0 || errno == EEXIST)
        return 0;
    int rc = -errno;
    char words[128];
    snprintf(words, sizeof(words), "cannot create the log's directory: %s; %s", twinlog_strerror(rc),
             rc == -ENOENT ? "its parent must exist" : "choose another place");
    tell(options, TWINLOG_FOUND_SYSTEM_ERROR, rc, words);
    return rc;
}

static int climb(const char *dir, const struct twinlog_options *given, const struct twinlog_options *options,
                 struct twinlog **ret_log)
{
    char reason[160];
    snprintf(reason, sizeof(reason), "%s",
             options->committer ? "shared committer" : "the best path there is");
    int rc = -ENOTSUP;
    bool has_refusal = false, is_told = false;
    for (size_t i = 0; i < LADDER_RUNGS; i++) {
        if (!is_wanted(&twl_ladder[i], options))
            continue;
        struct io *io;
        struct twinlog_options rung_options = *options;
        if (!twl_ladder[i].is_direct)
            rung_options.flags |= TWINLOG_BUFFERED;
        rung_options.io = twl_ladder[i].io;
        rc = options->committer
                 ? twl_ladder_create_shared_io(dir, twl_ladder[i].io, &io)
                 : twl_ladder_create_io(dir, twl_ladder[i].io, options->io == TWINLOG_IO_AUTO, &io);
        if (rc < 0 && !io_is_refusal(rc)) {
            char words[128];
            snprintf(words, sizeof(words), "cannot open the log's directory: %s", twinlog_strerror(rc));
            tell(given, TWINLOG_FOUND_SYSTEM_ERROR, rc, words);
            return rc;
        }
        is_told = rc == 0;
        if (rc == 0)
            rc = twl_log_open(io, &rung_options, ret_log);
        if (rc == 0) {
            twl_log_name_path(*ret_log, twl_ladder[i].io,
                              options->io != TWINLOG_IO_AUTO && !has_refusal ? "as asked for" : reason);
            return 0;
        }
        if (!io_is_refusal(rc))
            return rc;
        if (!has_refusal)
            snprintf(reason, sizeof(reason), "%s was refused: %s", twl_ladder[i].name, twinlog_strerror(rc));
        has_refusal = true;
    }
    if (options->io == TWINLOG_IO_AUTO && is_told) /* the last rung needs nothing special: a real failure */
        return rc;
    tell(given, TWINLOG_FOUND_SYSTEM_ERROR, options->io == TWINLOG_IO_AUTO ? rc : -ENOTSUP, reason);
    return options->io == TWINLOG_IO_AUTO ? rc : -ENOTSUP;
}

static int open_read_only(const char *dir, const struct twinlog_options *given,
                          const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct io *io;
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0) {
        tell(given, TWINLOG_FOUND_SYSTEM_ERROR, rc, "cannot open the log's directory");
        return rc;
    }
    return twl_log_open(io, options, ret_log);
}

int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct twinlog_options normal;
    struct twinlog *log;
    const char *why;
    if (!dir || !ret_log)
        return -EINVAL;
    int rc = twl_options_normalise(options, &normal, &why);
    if (rc < 0) {
        tell(options, TWINLOG_FOUND_NOTHING, rc, why);
        return rc;
    }
    if (normal.flags & TWINLOG_READ_ONLY)
        return open_read_only(dir, options, &normal, ret_log);
    rc = make_directory(dir, options, &normal);
    if (rc == 0)
        rc = climb(dir, options, &normal, &log);
    if (rc == 0) {
        rc = sync_parent(dir); /* even if it exists: the process that made it may have died before this */
        if (rc < 0) {
            tell(options, TWINLOG_FOUND_SYSTEM_ERROR, rc, "cannot sync the parent of the log's directory");
            twinlog_close(log);
        }
    }
    if (rc == 0)
        *ret_log = log;
    return rc;
}

int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    struct io *io;
    if (!dir || !ret_reader || twl_versioned_take(&own, sizeof(own), options) < 0 ||
        (own.flags & ~(uint32_t)TWINLOG_READER_MMAP))
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_reader_open(io, &own, ret_reader);
}

int twinlog_consumer_open(const char *dir, const char *name, const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer)
{
    const uint32_t flags = TWINLOG_CONSUMER_FROM_END | TWINLOG_CONSUMER_MMAP;
    struct twinlog_consumer_options own;
    struct io *io;
    if (!dir || !name || !ret_consumer || twl_versioned_take(&own, sizeof(own), options) < 0 ||
        (own.flags & ~flags) || strlen(name) == 0 || strlen(name) >= TWINLOG_NAME_BYTES)
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_consumer_open(io, name, &own, ret_consumer);
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

int twinlog_watch(const char *dir, int timeout_ms, struct twinlog_stat *ret_stat,
                  struct twinlog_timings *ret_timings)
{
    struct io *io;
    if (!dir || timeout_ms < 0 || !twl_versioned_is_set(ret_stat) || !twl_versioned_is_set(ret_timings))
        return -EINVAL;
    int rc = twl_io_posix_create(dir, false, &io);
    return rc < 0 ? rc : twl_watch(io, timeout_ms, ret_stat, ret_timings);
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
    int rc = twl_io_posix_create(dir, false, &io);
    if (rc < 0)
        return rc;
    if (mkdir(new_dir, 0777) < 0 && errno != EEXIST)
        rc = -errno;
    if (rc == 0)
        rc = sync_parent(new_dir);
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

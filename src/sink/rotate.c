/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a sink that follow each other: "The next file" in docs/design.md.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* ---- names --------------------------------------------------------------------------------------- */

static bool find_number(const struct twinlog_sink *sink, unsigned number, char ret_name[NAME_ROOM],
                        struct stat *ret_about)
{
    snprintf(ret_name, NAME_ROOM, "%s.%u", sink->name, number);
    return fstatat(io_directory_fd(sink->io), ret_name, ret_about, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Renames NAME to NAME.1, after the numbers up to the first one that is free, which is `keep_files` at most. */
static int shift(const struct twinlog_sink *sink)
{
    struct io *io = sink->io;
    struct io_file *last;
    struct stat about;
    char from[NAME_ROOM], to[NAME_ROOM];
    unsigned gap = 1;
    int rc = 0;
    while (find_number(sink, gap, to, &about) && gap < sink->options.keep_files)
        gap++;
    if (gap == sink->options.keep_files && io_open(io, to, IO_READ_ONLY, &last) == 0) {
        if (io->ops->unlink(io, to) == 0) {
            twl_area_name(about.st_ino, from);
            io->ops->unlink(io, from); /* is left where the file ends in a zero, or its process was killed */
            POINT("file dropped");
        }
        io_close(last); /* from now on another program's sink may get its number */
    }
    for (; gap > 0 && rc == 0; gap--) {
        find_number(sink, gap, to, &about);
        find_number(sink, gap - 1, from, &about);
        rc = io->ops->rename(io, gap > 1 ? from : sink->name, to);
        rc = rc == -ENOENT ? 0 : rc; /* another program has taken it away meanwhile */
        if (gap > 1)
            POINT("name shifted");
    }
    POINT("old file named");
    return rc;
}

/* ---- the next file ------------------------------------------------------------------------------- */

static int move_to_next(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
{
    struct sink_file *next;
    int rc = 0;
    if (is_rotating && twl_sink_has_name(file->data, sink->name))
        rc = shift(sink);
    if (rc == 0)
        rc = twl_sink_enter(sink, &next);
    if (rc < 0)
        return rc;
    twl_sink_grow(next, sink->options.initial_bytes); /* may fail: the next write may need less */
    atomic_store(&sink->file, next);
    file->next = sink->old;
    sink->old = file;
    twl_lanes_look(sink, file->turns); /* after the next file was published */
    twl_event_notify_all(&sink->wake);
    return 0;
}

int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
{
    int rc = 0;
    twl_mutex_lock(&sink->lock);
    if (atomic_load(&sink->file) == file)
        rc = move_to_next(sink, file, is_rotating);
    twl_mutex_unlock(&sink->lock);
    return rc;
}

int twl_sink_look_at_name(struct twinlog_sink *sink)
{
    struct sink_file *file = atomic_load(&sink->file);
    uint32_t links;
    int rc = io_links(file->data, sink->name, &links);
    if (rc < 0 || links > 0)
        return rc;
    rc = twl_sink_move_on(sink, file, false);
    return rc < 0 ? rc : 1;
}

/* ---- leaving old files --------------------------------------------------------------------------- */

struct sink_file *twl_sink_old(struct twinlog_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    struct sink_file *old = sink->old;
    twl_mutex_unlock(&sink->lock);
    return old;
}

static void take_out(struct twinlog_sink *sink, const struct sink_file *file) REQUIRES(sink->retiring)
{
    twl_mutex_lock(&sink->lock);
    struct sink_file **link = &sink->old;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    twl_mutex_unlock(&sink->lock);
}

/* A later sync of this sink also covers the old file. So the process leaves it only when all of it was copied and
 * synced, or when a sync of it has failed, and every later one returns that error. It may wait in the list for a
 * process that is stopped, or for room on the disk. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing)
{
    int first = 0, none = 0;
    if (!twl_mutex_try_lock(&sink->retiring)) /* a thread that syncs has it */
        return 0;
    for (struct sink_file *file = twl_sink_old(sink), *next; file; file = next) {
        next = file->next;
        if (!twl_lanes_have_passed(sink, file->turns))
            continue;
        const int rc = is_closing ? 0 : twl_sink_sync_file(file, false);
        if (rc < 0 && rc != -EIO && rc != lasting_error(atomic_load(&file->area->sync_error)))
            continue;
        if (rc < 0)
            atomic_compare_exchange_strong(&sink->past_error, &none, rc);
        take_out(sink, file);
        const int left = twl_sink_leave(file);
        first = first < 0 ? first : left;
    }
    twl_mutex_unlock(&sink->retiring);
    return first;
}

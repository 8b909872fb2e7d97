/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a sink that follow each other. A process moves on to another file once it has that file open. It
 * leaves the old file when none of its threads is inside, and all of the file is copied and synced. Several
 * processes may move on at different times, since the name of each area has the inode number.
 *
 * Rotation is for a sink of one process. It renames NAME.3 to NAME.4, ... NAME.1 to NAME.2, upwards from the first
 * number that is free, and NAME to NAME.1. Then it goes on as if another program had renamed the file.
 *
 * If the process dies before it has left an old file, that stays as it is, with its area, until a process opens it by
 * the name that it has then.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names --------------------------------------------------------------------------------------- */

static void numbered(const struct twinlog_sink *sink, unsigned number, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, "%s.%u", sink->name, number);
}

static bool inode_of(const struct twinlog_sink *sink, const char *name, uint64_t *ret_inode)
{
    struct stat about;
    if (fstatat(sink->dir, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    *ret_inode = about.st_ino;
    return true;
}

bool twl_sink_has_name(const struct twinlog_sink *sink, const char *name, int fd)
{
    struct stat named, opened;
    return fstatat(sink->dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &opened) == 0 &&
           named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

/* Removes files from number `keep` on, each with its area. A process that still has such a file open does not need
 * those names. */
static void drop_beyond(struct twinlog_sink *sink, unsigned keep)
{
    char name[NAME_ROOM], area[NAME_ROOM];
    uint64_t inode;
    for (unsigned k = keep;; k++) {
        numbered(sink, k, name);
        if (!inode_of(sink, name, &inode) || unlinkat(sink->dir, name, 0) < 0)
            return;
        twl_area_name(inode, area);
        unlinkat(sink->dir, area, 0);
        POINT("file dropped");
    }
}

/* Makes NAME.1 free. */
static int shift(struct twinlog_sink *sink, unsigned keep)
{
    char from[NAME_ROOM], to[NAME_ROOM];
    uint64_t inode;
    unsigned gap = 1;
    while (numbered(sink, gap, to), gap < keep && inode_of(sink, to, &inode))
        gap++;
    if (gap == keep)
        drop_beyond(sink, keep);
    for (; gap > 1; gap--) {
        numbered(sink, gap - 1, from);
        numbered(sink, gap, to);
        if (renameat(sink->dir, from, sink->dir, to) < 0)
            return -errno;
        POINT("name shifted");
    }
    return 0;
}

static int give_number(struct twinlog_sink *sink)
{
    char first[NAME_ROOM];
    numbered(sink, 1, first);
    const int rc = shift(sink, sink->options.keep_files);
    if (rc == 0 && renameat(sink->dir, sink->name, sink->dir, first) < 0)
        return -errno;
    POINT("old file named");
    return rc;
}

/* ---- going on ------------------------------------------------------------------------------------ */

static int go_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
{
    struct sink_file *next;
    int rc = 0;
    if (is_rotating && twl_sink_has_name(sink, sink->name, file->data_fd))
        rc = give_number(sink);
    if (rc == 0)
        rc = twl_sink_enter(sink, O_CREAT, &next);
    if (rc < 0)
        return rc;
    twl_sink_grow_to(next, sink->options.initial_bytes); /* may fail: the next write may need less */
    atomic_store(&sink->file, next);
    atomic_fetch_add(&sink->rotations, 1);
    file->next = sink->old;
    sink->old = file;
    twl_lanes_look(sink, file->turns); /* after the next file was published */
    return 0;
}

int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
{
    int rc = 0;
    twl_mutex_lock(&sink->lock);
    if (atomic_load(&sink->file) == file)
        rc = go_on(sink, file, is_rotating);
    twl_mutex_unlock(&sink->lock);
    return rc;
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

/* -EAGAIN: the file can't be left now. Otherwise all of it was copied and synced, or never will be. */
static int settle_old(struct twinlog_sink *sink, struct sink_file *file) REQUIRES(sink->retiring)
{
    int none = 0;
    const bool is_copied = twl_claim_copied(file->area) == area_offset(file->area);
    const int rc = is_copied ? twl_sink_sync_file(sink, file, false) : -EAGAIN;
    if (rc < 0 && rc != -EAGAIN)
        atomic_compare_exchange_strong(&sink->past_error, &none, rc);
    return rc;
}

/* A later sync of this sink also covers the old file. So the process leaves the old file only when all of it
 * was copied and synced, or when that has failed and every later sync returns the error. The file may wait in
 * the list for a process that is stopped. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing, unsigned own_lane)
{
    int first = 0;
    if (!twl_mutex_try_lock(&sink->retiring)) /* a thread that syncs has it, and retires them afterwards */
        return 0;
    for (struct sink_file *file = twl_sink_old(sink), *next; file; file = next) {
        next = file->next;
        if (!twl_lanes_have_passed(sink, file->turns, own_lane))
            continue;
        twl_sink_sweep(file);
        int rc = is_closing ? 0 : settle_old(sink, file);
        if (rc == -EAGAIN)
            continue;
        take_out(sink, file);
        const int left = twl_sink_leave(sink, file);
        rc = rc < 0 ? rc : left;
        first = first < 0 ? first : rc;
    }
    twl_mutex_unlock(&sink->retiring);
    return first;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that follow each other. A file that is sealed gets no more claims, so its length is final and it is cut at
 * once, also while the last copies are still on their way. Its name is then given to the next one, in steps that
 * whoever comes next can go on with if their maker dies between two of them:
 *
 *     seal; cut
 *     NAME.3 -> NAME.4, ... NAME -> NAME.1      upwards from the first number that is free, so a gap that a dead
 *                                               one left is where the next one begins
 *     .NAME.<inode>.sink                        a second name of the area
 *     .NAME.sink.new                            the next file's area, with its maker in it
 *     .NAME.sink.new -> .NAME.sink              in place of the old one, and that ends it
 *
 * All of it under the lock of the area that has the name. A process that dies between two steps leaves a sealed area there.
 * The last one to leave the old file removes its area. If everybody dies before, whoever opens NAME next finds it by
 * the inodes of NAME.1, NAME.2 and so on. A stranger who renames NAME, as logrotate does, has done the second step.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names --------------------------------------------------------------------------------------- */

void twl_sink_area_name(const struct twinlog_sink *sink, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".%s.sink", sink->name);
}

void twl_sink_old_area_name(const struct twinlog_sink *sink, uint64_t inode, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".%s.%" PRIu64 ".sink", sink->name, inode);
}

void twl_sink_next_area_name(const struct twinlog_sink *sink, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".%s.sink.new", sink->name);
}

static void numbered(const struct twinlog_sink *sink, unsigned number, char ret_name[NAME_ROOM])
{
    if (number == 0)
        snprintf(ret_name, NAME_ROOM, "%s", sink->name);
    else
        snprintf(ret_name, NAME_ROOM, "%s.%u", sink->name, number);
}

static bool exists(const struct twinlog_sink *sink, unsigned number)
{
    char name[NAME_ROOM];
    struct stat about;
    numbered(sink, number, name);
    return fstatat(sink->dir, name, &about, AT_SYMLINK_NOFOLLOW) == 0;
}

bool twl_sink_has_name(const struct twinlog_sink *sink, const char *name, int fd)
{
    struct stat named, opened;
    return fstatat(sink->dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &opened) == 0 &&
           named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

/* ---- giving the names away ----------------------------------------------------------------------- */

/* With their areas: who still has such a file open does not need the name of its area. */
static void drop_beyond(struct twinlog_sink *sink, unsigned keep)
{
    char name[NAME_ROOM], area[NAME_ROOM];
    struct stat about;
    for (unsigned k = keep;; k++) {
        numbered(sink, k, name);
        if (fstatat(sink->dir, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
            return;
        twl_sink_old_area_name(sink, about.st_ino, area);
        unlinkat(sink->dir, area, 0);
        if (unlinkat(sink->dir, name, 0) < 0)
            return;
        POINT("file dropped");
    }
}

/* NAME becomes NAME.1. */
static int shift(struct twinlog_sink *sink, unsigned keep)
{
    char from[NAME_ROOM], to[NAME_ROOM];
    unsigned gap = 1;
    while (gap < keep && exists(sink, gap))
        gap++;
    if (gap == keep)
        drop_beyond(sink, keep);
    for (; gap > 0; gap--) {
        numbered(sink, gap - 1, from);
        numbered(sink, gap, to);
        if (renameat(sink->dir, from, sink->dir, to) < 0)
            return -errno;
        POINT("name shifted");
    }
    return 0;
}

/* The area's second name. On a file system without links it loses its first one, and for a moment nobody has that. */
static int name_old_area(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM], old[NAME_ROOM];
    twl_sink_area_name(sink, name);
    twl_sink_old_area_name(sink, file->area->identity.inode, old);
    if (twl_sink_has_name(sink, old, file->area_fd))
        return 0;
    if (unlinkat(sink->dir, old, 0) < 0 && errno != ENOENT) /* of another life of the inode */
        return -errno;
    if (linkat(sink->dir, name, sink->dir, old, 0) == 0)
        return 0;
    return renameat(sink->dir, name, sink->dir, old) < 0 ? -errno : 0;
}

int twl_sink_hand_over(struct twinlog_sink *sink, struct sink_file *file)
{
    struct identity identity;
    int rc = twl_identity_of(file->data_fd, &identity);
    twl_claim_seal(file->area);
    POINT("sealed");
    if (rc == 0 && twl_identity_is_same(&identity, &file->area->identity)) {
        twl_sink_cut(file); /* whoever leaves it last tries again */
        POINT("sealed file cut");
        if (twl_sink_has_name(sink, sink->name, file->data_fd))
            rc = shift(sink, file->area->keep_files);
    }
    if (rc == 0)
        rc = name_old_area(sink, file);
    POINT("area handed over");
    return rc;
}

/* ---- what was left lying ------------------------------------------------------------------------- */

static int open_old(struct twinlog_sink *sink, struct sink_file *file, const char *name, const char *area)
{
    struct identity identity;
    bool has_others;
    file->area_fd = openat(sink->dir, area, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    file->data_fd = openat(sink->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file->area_fd < 0 || file->data_fd < 0 || twl_area_lock(file->area_fd) < 0 ||
        !twl_area_is_whole(file->area_fd) || twl_area_has_others(file->area_fd, &has_others) < 0 ||
        has_others || twl_area_map(file->area_fd, &file->area) < 0)
        return -EBUSY;
    return twl_area_is_known(file->area) && twl_area_is_of_this_boot(file->area) &&
                   twl_identity_of(file->data_fd, &identity) == 0 &&
                   twl_identity_is_same(&identity, &file->area->identity)
               ? 0
               : -ESTALE;
}

static void finish_one(struct twinlog_sink *sink, const char *name, const char *area)
{
    struct sink_file *file = twl_sink_new_file();
    if (!file)
        return;
    int rc = open_old(sink, file, name, area);
    if (rc == 0 && (rc = twl_sink_sweep(file)) == 0)
        rc = twl_sink_cut(file);
    if (rc == 0 || rc == -ESTALE)
        unlinkat(sink->dir, area, 0);
    twl_sink_forget(file, false);
}

void twl_sink_finish_old(struct twinlog_sink *sink, unsigned keep_files)
{
    char name[NAME_ROOM], area[NAME_ROOM];
    struct stat about;
    for (unsigned k = 0; k <= keep_files; k++) {
        numbered(sink, k, name);
        if (fstatat(sink->dir, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        twl_sink_old_area_name(sink, about.st_ino, area);
        if (faccessat(sink->dir, area, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            finish_one(sink, name, area);
    }
}

bool twl_sink_is_moving(struct twinlog_sink *sink)
{
    char name[NAME_ROOM], area_name[NAME_ROOM];
    struct stat about;
    struct area *area = NULL;
    bool has_others = false;
    numbered(sink, 1, name);
    if (fstatat(sink->dir, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    twl_sink_old_area_name(sink, about.st_ino, area_name);
    const int fd = openat(sink->dir, area_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    if (twl_area_is_whole(fd) && twl_area_has_others(fd, &has_others) == 0 && has_others &&
        twl_area_map(fd, &area) == 0) {
        has_others = !area->is_shared || !(sink->options.flags & TWINLOG_SINK_SHARED);
        twl_area_unmap(area);
    }
    close(fd);
    return area && has_others;
}

/* ---- moving on ----------------------------------------------------------------------------------- */

static void put_aside(struct twinlog_sink *sink, struct sink_file *file)
{
    file->next = sink->old;
    sink->old = file;
    twl_lanes_look(sink, file->turns); /* after the next one was published */
}

int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file)
{
    struct sink_file *next;
    int rc = 0;
    twl_mutex_lock(&sink->lock);
    if (atomic_load(&sink->file) == file) {
        rc = twl_sink_enter_next(sink, file, &next);
        if (rc == 0) {
            atomic_store(&sink->file, next);
            atomic_fetch_add(&sink->rotations, 1);
            put_aside(sink, file);
        }
    }
    twl_mutex_unlock(&sink->lock);
    return rc;
}

/* ---- leaving what was moved on from -------------------------------------------------------------- */

/* Takes one out of the list that nobody of this process uses any more. */
static struct sink_file *take_old(struct twinlog_sink *sink, unsigned own_lane)
{
    twl_mutex_lock(&sink->lock);
    struct sink_file **link = &sink->old;
    while (*link && !twl_lanes_have_passed(sink, (*link)->turns, own_lane))
        link = &(*link)->next;
    struct sink_file *file = *link;
    if (file)
        *link = file->next;
    twl_mutex_unlock(&sink->lock);
    return file;
}

static void put_back(struct twinlog_sink *sink, struct sink_file *file)
{
    twl_mutex_lock(&sink->lock);
    file->next = sink->old;
    sink->old = file;
    twl_mutex_unlock(&sink->lock);
}

bool twl_sink_take_retiring(struct twinlog_sink *sink, bool is_patient)
{
    if (is_patient)
        twl_mutex_lock(&sink->retiring);
    return is_patient || twl_mutex_try_lock(&sink->retiring);
}

/* -EAGAIN: not now. Else all of it is there and was synced, or will never be. */
static int settle_old(struct twinlog_sink *sink, struct sink_file *file)
{
    int none = 0;
    twl_sink_sweep(file);
    const int rc = twl_sink_has_open_claims(file, UINT64_MAX) ? -EAGAIN : twl_sink_flush(sink, file, false);
    if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM)
        return -EAGAIN;
    if (rc < 0 && rc != -EAGAIN)
        atomic_compare_exchange_strong(&sink->past_error, &none, rc);
    return rc;
}

/* Who syncs this sink later has what is in the old file synced by that. So it is left only when all of it is there
 * and was synced, or when that has failed and every later sync will say so; the last one to leave it may have to wait
 * for a process that is stopped. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing, unsigned own_lane)
{
    struct sink_file *file, *waiting = NULL;
    int first = 0;
    if (!twl_sink_take_retiring(sink, is_closing)) /* somebody waits in a sync, and retires them then */
        return 0;
    while ((file = take_old(sink, own_lane))) {
        int rc = 0;
        if (is_closing)
            twl_sink_sweep(file);
        else
            rc = settle_old(sink, file);
        if (rc == -EAGAIN) {
            file->next = waiting;
            waiting = file;
            continue;
        }
        const int left = twl_sink_leave(sink, file);
        rc = rc < 0 ? rc : left;
        first = first < 0 ? first : rc;
    }
    while ((file = waiting)) {
        waiting = file->next;
        put_back(sink, file);
    }
    twl_mutex_unlock(&sink->retiring);
    return first;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a mapped sink that follow each other: "The next file" in docs/design.md.
 *
 * Two things make another file the present one: the name leads to another file, or a write does not fit below
 * max_bytes. In the second case this sink is the only one of its file, and first renames it: NAME becomes NAME.1, that
 * NAME.2 and so on. The names move from the last one to the first, so that a kill in the middle leaves a gap, which the
 * next rotation fills. Files that another sink has, or that cannot be looked at, are neither renamed nor removed. No
 * name is given that a file has by then: it would be removed.
 *
 * The file before stays open as an old one until all lanes have been empty once, all claims in it are copied, and it is
 * synced. Two locks: sink->lock is held while the present file changes, and never over a sync; sink->retiring by a
 * thread that syncs, or leaves old files.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MOST_TRIES 100u

/* ---- names --------------------------------------------------------------------------------------- */

static void number_name(const struct twinlog_sink *sink, unsigned number, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, "%s.%u", sink->name, number);
}

/* Is it an old file that this sink has not left yet? */
static int is_own(const struct twinlog_sink *sink, struct io_file *file, bool *ret_is)
{
    struct identity identity;

    *ret_is = false;
    const int rc = twl_identity_of(file, &identity);
    for (const struct sink_file *old = sink->old; old && rc == 0; old = old->next)
        if (old->identity.inode == identity.inode)
            *ret_is = true;
    return rc;
}

/* May the file with that name be renamed or removed? 1: yes; 0: there is none; -EBUSY: another sink has it open, of
 * whichever kind. Any other error: it is not known, or it is no file. */
static int is_movable(const struct twinlog_sink *sink, const char *name)
{
    struct io_file *file;
    bool is_used = false, is_ours = false;

    int rc = io_open(sink->io, name, IO_READ_ONLY, &file);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;

    rc = is_own(sink, file, &is_ours);
    if (rc == 0)
        rc = twl_data_is_in_use(file, &is_used);
    if (rc == 0 && is_used && !is_ours)
        rc = -EBUSY;
    io_close(file);
    if (rc < 0)
        return rc;
    return 1;
}

/* The same; a sink that leaves the file within LOCK_WAIT_MS is no obstacle. */
static int wait_until_movable(const struct twinlog_sink *sink, const char *name)
{
    int rc = is_movable(sink, name);

    for (unsigned ms = 0; rc == -EBUSY && ms < LOCK_WAIT_MS; ms++) {
        sink->io->ops->sleep_ms(sink->io, 1);
        rc = is_movable(sink, name);
    }

    return rc;
}

/* Locks a file that is to be removed, so that no sink opens it meanwhile. A lock of another program is no sink's.
 * -EBUSY: another sink has it. */
static int lock_to_drop(const struct twinlog_sink *sink, struct io_file *last)
{
    bool is_used = false, is_ours;

    int rc = is_own(sink, last, &is_ours);
    if (rc < 0 || is_ours)
        return rc;

    rc = io_lock(last, DATA_LOCK, true);
    if (rc < 0 && rc != -EAGAIN)
        return rc;

    rc = twl_data_is_in_use(last, &is_used);
    if (rc == 0 && is_used)
        return -EBUSY;
    return rc;
}

/* Removes the file of that name, and its area. It stays locked until both are gone. */
static int drop(const struct twinlog_sink *sink, const char *name)
{
    char area_name[NAME_ROOM];
    struct identity identity;
    struct io_file *last;
    struct io *io = sink->io;

    int rc = io_open(io, name, 0, &last);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;

    rc = lock_to_drop(sink, last);
    if (rc == 0)
        rc = twl_identity_of(last, &identity);
    if (rc == 0)
        rc = io->ops->unlink(io, name);
    if (rc == 0) { /* there is an area if the file ends in a zero, or its process was killed */
        twl_area_name(identity.inode, area_name);
        io->ops->unlink(io, area_name);
        POINT("file dropped");
    }

    io_close(last); /* from now on another file may get its inode number */
    return rc;
}

/* Those that an earlier, larger `keep_files` has left, the oldest first. What cannot be removed stays for the next
 * time. */
static void drop_surplus(const struct twinlog_sink *sink)
{
    const unsigned kept = sink->options.keep_files;
    char name[NAME_ROOM];
    unsigned number = kept + 1;

    number_name(sink, number, name);
    while (is_movable(sink, name) > 0) {
        number++;
        number_name(sink, number, name);
    }

    for (number--; number > kept; number--) {
        number_name(sink, number, name);
        drop(sink, name);
    }
}

/* Another program may have taken the file away meanwhile. -EEXIST: another rotation has given the new name. */
static int rename_if_there(struct io *io, const char *from, const char *to)
{
    const int rc = io->ops->rename_unless_taken(io, from, to);
    if (rc == -ENOENT)
        return 0;
    return rc;
}

/* How far the names move, in *ret_number: to the first number that is free: 0; or to the last one that is kept: 1, and
 * its file is in the way. Each file that would be renamed or removed is looked at before the first one is. */
static int find_last_to_shift(const struct twinlog_sink *sink, unsigned *ret_number)
{
    char name[NAME_ROOM];

    for (unsigned number = 1;; number++) {
        *ret_number = number;
        number_name(sink, number, name);
        const int is_taken = wait_until_movable(sink, name);
        if (is_taken <= 0)
            return is_taken;
        if (number == sink->options.keep_files)
            return 1;
    }
}

/* Renames NAME to NAME.1, after the older ones; the last one goes, if it is in the way. */
static int shift(const struct twinlog_sink *sink)
{
    struct io *io = sink->io;
    char from[NAME_ROOM], to[NAME_ROOM];
    unsigned number;

    int rc = find_last_to_shift(sink, &number);
    if (rc > 0) {
        number_name(sink, number, to);
        rc = drop(sink, to);
    }

    for (; number > 1 && rc == 0; number--) {
        number_name(sink, number, to);
        number_name(sink, number - 1, from);
        rc = rename_if_there(io, from, to);
        POINT("name shifted");
    }

    if (rc < 0)
        return rc;

    number_name(sink, 1, to);
    rc = rename_if_there(io, sink->name, to);
    POINT("old file named");
    if (rc == 0)
        drop_surplus(sink);
    return rc;
}

/* ---- the next file ------------------------------------------------------------------------------- */

/* After a directory was left: destroys it when no file of this sink is open there. */
static void leave_directory(struct twinlog_sink *sink, struct io *io) REQUIRES(sink->lock)
{
    bool is_used = io == sink->io;
    for (const struct sink_file *old = sink->old; old && !is_used; old = old->next)
        is_used = old->data->io == io;
    if (!is_used)
        io->ops->destroy(io);
}

/* The path may lead to another directory by now: it was renamed, or a link in the path leads elsewhere. */
static int enter_by_path(struct twinlog_sink *sink, struct sink_file **ret_next) REQUIRES(sink->lock)
{
    struct io *const former = sink->io;
    char former_name[NAME_MAX + 1];

    memcpy(former_name, sink->name, sizeof(former_name));
    int rc = twl_sink_resolve_path(&sink->path, &sink->io, sink->name);
    if (rc == 0)
        rc = twl_sink_enter(sink, ret_next);
    if (rc == 0)
        return 0;

    if (sink->io != former)
        sink->io->ops->destroy(sink->io);
    sink->io = former;
    memcpy(sink->name, former_name, sizeof(former_name));
    return rc;
}

/* Where the path leads to the file by a hard link in another directory, the name in the open one may be that of another
 * program's file. */
static int shift_if_at_path(struct twinlog_sink *sink, struct sink_file *file) REQUIRES(sink->lock)
{
    bool has_name;

    const int end = twl_sink_look(&sink->path, file->data, sink->name);
    if (end < 0)
        return end;
    if (end != PATH_LEADS_HERE)
        return 0;

    const int rc = twl_sink_has_name(file->data, sink->name, &has_name);
    if (rc < 0)
        return rc;
    return has_name ? shift(sink) : 0;
}

/* Where a program renames the file of a sink that rotates, the next file of that name may be rotated at the same time.
 * Each rotation stops in front of a name that the other one has given, and looks again. */
static int shift_beside_others(struct twinlog_sink *sink, struct sink_file *file) REQUIRES(sink->lock)
{
    int rc = -EEXIST;

    for (unsigned tries = 0; rc == -EEXIST && tries < MOST_TRIES; tries++)
        rc = shift_if_at_path(sink, file);
    if (rc == -EEXIST)
        return -EBUSY;
    return rc;
}

/* Do new files begin faster than old ones are synced? Each old file keeps two descriptors, and its space. */
static bool has_many_old(const struct twinlog_sink *sink) REQUIRES(sink->lock)
{
    unsigned count = 0;

    for (const struct sink_file *old = sink->old; old; old = old->next)
        count++;
    return count >= MOST_OPEN;
}

/* With `is_rotating` the file is renamed first, if it still has the name. On return with 0 another file is the present
 * one, and `file` is in the list of old ones, with the turns that the lanes had when the next one was already there.
 * After an error `file` is still the present one; it may have got the name NAME.1, and then the next call only opens
 * the next. -EAGAIN: many old files wait for their syncs, and no name has changed. */
static int move_to_next(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
    REQUIRES(sink->lock)
{
    struct sink_file *next;
    int rc = 0;

    if (has_many_old(sink))
        return -EAGAIN;
    if (is_rotating)
        rc = shift_beside_others(sink, file);
    if (rc == 0)
        rc = enter_by_path(sink, &next);
    if (rc < 0)
        return rc;

    twl_sink_grow(next, sink->options.initial_bytes); /* may fail: the next write may need less */
    atomic_store(&sink->file, next);
    file->next = sink->old;
    sink->old = file;
    twl_lanes_look(sink->lanes, file->turns); /* after the next file was published */
    twl_event_notify_all(&sink->wake);
    return 0;
}

/* Several threads may meet the end of a file at a time: the first one moves on, and the others find that done. */
int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating)
{
    int rc = 0;

    twl_mutex_lock(&sink->lock);
    if (atomic_load(&sink->file) == file)
        rc = move_to_next(sink, file, is_rotating);
    twl_mutex_unlock(&sink->lock);
    return rc;
}

int twl_sink_follow_path(struct twinlog_sink *sink, bool may_make)
{
    int rc = 0;

    twl_mutex_lock(&sink->lock);
    struct sink_file *file = atomic_load(&sink->file);
    const int end = twl_sink_look(&sink->path, file->data, sink->name);
    const bool must_move = end == PATH_LEADS_ELSEWHERE || (end == PATH_LEADS_NOWHERE && may_make);
    if (must_move)
        rc = move_to_next(sink, file, false);
    twl_mutex_unlock(&sink->lock);

    if (end < 0)
        return end;
    if (rc < 0)
        return rc;
    if (must_move || end == PATH_LEADS_HERE)
        atomic_store(&sink->news.path_error, 0);
    return must_move;
}

/* ---- leaving old files --------------------------------------------------------------------------- */

bool twl_sink_has_many_old(struct twinlog_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    const bool are_many = has_many_old(sink);
    twl_mutex_unlock(&sink->lock);
    return are_many;
}

struct sink_file *twl_sink_old(struct twinlog_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    struct sink_file *old = sink->old;
    twl_mutex_unlock(&sink->lock);
    return old;
}

/* Takes it out of the list, and closes it. */
static int leave_old(struct twinlog_sink *sink, struct sink_file *file) REQUIRES(sink->retiring)
{
    struct io *io = file->data->io;

    twl_mutex_lock(&sink->lock);
    struct sink_file **link = &sink->old;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    twl_mutex_unlock(&sink->lock);

    const int rc = twl_sink_leave(file);

    twl_mutex_lock(&sink->lock);
    leave_directory(sink, io);
    twl_mutex_unlock(&sink->lock);
    return rc;
}

/* May another try succeed, as the sync was refused, or waits for another process? */
static bool may_still_sync(const struct sink_file *file, int rc)
{
    return rc < 0 && rc != -EIO && rc != lasting_error(atomic_load(&file->area->sync_error));
}

/* Every later sync of this sink returns the first error of a file that was left. */
static void remember_error(struct twinlog_sink *sink, int rc)
{
    int none = 0;

    atomic_compare_exchange_strong(&sink->past_error, &none, lasting_error(rc));
}

/* Syncs an old file. False: it waits in the list, for a process that is stopped, or for room on the disk. True: it is
 * synced, or every later sync of this sink returns the error. */
static bool sync_for_good(struct twinlog_sink *sink, struct sink_file *file, bool may_wait)
{
    const int rc = twl_sink_sync_file(file, false);

    if (may_wait && may_still_sync(file, rc))
        return false;
    if (rc < 0)
        remember_error(sink, rc);
    return true;
}

/* A later sync of this sink also covers the old files. So the process leaves one only when all of it was copied and
 * synced, or when its error is remembered. Not all of them may wait without limit, as each keeps two descriptors, and
 * its space when its name is gone: of more files than MOST_OLD the oldest are left. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing)
{
    unsigned waiting = 0;
    int first = 0;

    if (!twl_mutex_try_lock(&sink->retiring)) /* a thread that syncs has it */
        return 0;

    for (struct sink_file *file = twl_sink_old(sink), *next; file; file = next) {
        next = file->next;
        if (!twl_lanes_have_passed(sink->lanes, file->turns))
            continue;

        const bool must_wait = !is_closing && !sync_for_good(sink, file, waiting < MOST_OLD);
        if (must_wait) {
            waiting++;
            continue;
        }

        const int left = leave_old(sink, file);
        if (first == 0)
            first = left;
    }

    twl_mutex_unlock(&sink->retiring);
    return first;
}

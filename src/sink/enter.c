/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a file of a sink. Both happen under the lock of the area, byte 0. A process that gets
 * this lock and finds that the name of the area or of the file leads elsewhere by now begins again. One that
 * opens the file finds:
 *
 *     a live participant         the process joins
 *     none, an area of this file and this boot, and zeros behind its cursor
 *                                all were killed: the cursor is the end; swept, truncated, the area used again
 *     none, and no such area     the file or its record says where it ends: see end.c; the area is new
 *
 * The data file itself is locked by each participant, too, and only one that is alone in it begins. So
 * there are never two areas for one file, not even if it has two names or a program has removed an area that
 * is in use.
 *
 * Closing does not clear the error of a failed sync: the area stays, with the error, until the system starts
 * again.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DYING_MS 1000u /* longer than a dying process takes to close all its files */

/* ---- opening ----------------------------------------------------------------------------------- */

static struct sink_file *new_file(void)
{
    struct sink_file *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->area_fd = file->data_fd = -1;
    twl_mutex_init(&file->map_lock);
    twl_mutex_init(&file->sweep_lock);
    file->in_child = (struct child_files){ .fds = { &file->area_fd, &file->data_fd } };
    return file;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        twl_area_close(*fd);
    *fd = -1;
}

void twl_sink_forget(struct sink_file *file)
{
    twl_window_close(file);
    if (file->area)
        twl_mapping_close(file->area, AREA_BYTES);
    twl_mutex_destroy(&file->map_lock);
    twl_mutex_destroy(&file->sweep_lock);
    close_fd(&file->data_fd);
    close_fd(&file->area_fd);
    twl_child_unregister(&file->in_child);
    free(file);
}

static int open_at(const struct twinlog_sink *sink, struct sink_file *file, const char *name, int flags,
                   int *ret_fd)
{
    return twl_child_open(&file->in_child, sink->dir, name,
                          flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, sink->options.mode,
                          ret_fd);
}

/* Not with O_CREAT at once: in a directory with the sticky bit that is refused for another user's file. */
static int open_or_make(const struct twinlog_sink *sink, struct sink_file *file, const char *name, int flags,
                        int *ret_fd, bool *ret_is_made)
{
    int rc = open_at(sink, file, name, 0, ret_fd);
    *ret_is_made = false;
    if (rc != -ENOENT || !(flags & O_CREAT))
        return rc;
    rc = open_at(sink, file, name, O_CREAT | O_EXCL, ret_fd);
    *ret_is_made = rc == 0;
    return rc == -EEXIST ? FOUND_OTHER_FILE : rc; /* another process was faster */
}

static int open_data(struct twinlog_sink *sink, struct sink_file *file, int flags)
{
    struct stat about, before;
    const struct sink_file *present = atomic_load(&sink->file);
    const int rc = open_or_make(sink, file, sink->name, flags, &file->data_fd, &file->is_made);
    if (rc != 0) /* errors for files that are not regular: a directory, a socket, a device without a driver */
        return rc == -EISDIR || rc == -ENXIO || rc == -ENODEV ? -ENOTSUP : rc;
    if (fstat(file->data_fd, &about) < 0)
        return -errno;
    if (!S_ISREG(about.st_mode))
        return -ENOTSUP;
    /* Between two files the name is nobody's, and a stranger may make a file of that name. */
    if (present &&
        (fstat(present->data_fd, &before) < 0 || twl_beside_check(sink->dir, file->data_fd, &before) < 0))
        return -EPERM;
    POINT("data opened");
    return twl_identity_of(file->data_fd, &file->identity);
}

/* Opens the area's file, or makes an empty one, and locks it. */
static int open_area(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM];
    struct stat area, data;
    bool is_made;
    twl_area_name(file->identity.inode, name);
    int rc = open_or_make(sink, file, name, O_CREAT, &file->area_fd, &is_made);
    if (rc == 0 && fstat(file->data_fd, &data) < 0)
        rc = -errno;
    if (rc == 0 && is_made)
        twl_area_give(file->area_fd, &data);
    if (rc == 0)
        rc = twl_area_check(sink->dir, file->area_fd, &data);
    if (rc == 0)
        rc = twl_area_lock(file->area_fd);
    if (rc != 0)
        return rc;
    if (!twl_sink_has_name(sink, name, file->area_fd))
        return FOUND_OTHER_FILE;
    if (fstat(file->area_fd, &area) < 0)
        return -errno;
    file->is_area_new = area.st_size == 0;
    POINT("area locked");
    return 0;
}

/* Under the area's lock, by its last participant or by the process that has just made it. */
static void remove_area(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM];
    twl_area_name(file->identity.inode, name);
    if (twl_sink_has_name(sink, name, file->area_fd))
        unlinkat(sink->dir, name, 0);
}

/* Under the area's lock, after a failure: removes what this call has made. A process that waits for the lock finds
 * that the names are gone, and begins again. */
static void remove_made(struct twinlog_sink *sink, struct sink_file *file)
{
    struct stat about;
    if (!file->is_area_new) /* another process has the file open, or had */
        return;
    if (file->is_made && twl_sink_has_name(sink, sink->name, file->data_fd) &&
        fstat(file->data_fd, &about) == 0 && about.st_size == 0)
        unlinkat(sink->dir, sink->name, 0);
    remove_area(sink, file);
}

/* Locks the data file, when no other participant is alive. A process that is killed closes its files one by
 * one: its participant's lock may be gone while it still has the data file locked, and makes that longer. */
static int lock_data_alone(int fd)
{
    bool has_others;
    int rc = -EBUSY;
    for (unsigned i = 0; rc == -EBUSY && i < DYING_MS; i++) {
        if (i > 0)
            twl_sink_pause();
        rc = twl_area_try_lock(fd, F_RDLCK, DATA_BYTE);
        if (rc == 0)
            rc = twl_data_has_others(fd, &has_others);
        if (rc == 0 && has_others) {
            twl_area_unlock(fd, DATA_BYTE);
            rc = -EBUSY;
        }
    }
    return rc;
}

/* ---- the first participant ----------------------------------------------------------------------- */

/* Is the area's cursor the end? It is of this file and this boot, and the file has only zeros behind it. */
static bool is_exact(struct sink_file *file, uint64_t *ret_end)
{
    struct stat about;
    uint64_t text;
    const uint64_t cursor = atomic_load(&file->area->cursor), end = cursor_offset(cursor);
    *ret_end = end;
    return twl_area_is_of(file->area, &file->identity) && cursor_owner(cursor) <= PARTICIPANTS * SLOTS &&
           fstat(file->data_fd, &about) == 0 && end <= (uint64_t)about.st_size &&
           twl_end_of_text(file->data_fd, end, &text) == 0 && text == end;
}

static int32_t error_of_dead(struct area *area)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        twl_sink_take_sync_of(area, n);
    return atomic_load(&area->sync_error);
}

/* The error of a failed sync outlives an area of this boot, also one with an end that no longer fits the file. What is
 * recorded outlives any area of this file, until the next sync: the page that has it is not given up. */
static int make_area(struct sink_file *file, uint64_t end)
{
    struct area *area = file->area;
    const bool is_for = area && twl_area_is_for(area, &file->identity);
    const int32_t error = is_for && twl_area_is_of(area, &file->identity) ? error_of_dead(area) : 0;
    if (is_for)
        memset(area->boot, 0, sizeof(area->boot)); /* what follows is not believed until all of it is there */
    int rc = twl_area_prepare(file->area_fd, is_for ? AREA_PAGE : 0);
    if (rc == 0 && !area)
        rc = twl_area_map(file->area_fd, MAPPING_WRITABLE, &file->area);
    if (rc < 0)
        return rc;
    area = file->area;
    memset((unsigned char *)area + offsetof(struct area, cursor), 0,
           sizeof(*area) - offsetof(struct area, cursor));
    area->identity = file->identity;
    atomic_store(&area->recorded, end);
    atomic_store(&area->sync_error, error);
    atomic_store(&area->cursor, cursor_of(end, 0));
    return 0;
}

/* Opens the file when no other participant is alive. */
static int begin(struct twinlog_sink *sink, struct sink_file *file)
{
    const struct twinlog_sink_options *o = &sink->options;
    uint64_t end;
    int rc = lock_data_alone(file->data_fd);
    if (rc < 0)
        return rc;
    const bool is_same = file->area && is_exact(file, &end);
    if (is_same)
        rc = twl_sink_sweep(file);
    else
        rc = twl_end_find(file->data_fd, file->area, &file->identity, o->flags, &end);
    if (rc == 0 && end >= OFFSET_LIMIT)
        rc = -EFBIG;
    if (rc == 0)
        rc = twl_sink_truncate_to(file->data_fd, end);
    if (rc == 0 && !is_same)
        rc = make_area(file, end);
    if (rc != 0)
        return rc;
    file->area->is_shared = (o->flags & TWINLOG_SINK_SHARED) != 0;
    file->area->growth_bytes = o->growth_bytes;
    file->area->max_bytes = o->max_bytes;
    atomic_store(&file->area->file_bytes, end);
    atomic_store(&file->area->populated, align_down(end, AREA_PAGE));
    atomic_store(&file->area->growths, 0);
    POINT("area filled in");
    if (!is_same)
        twl_area_finish(file->area);
    POINT("area ready");
    return 0;
}

static int join(struct twinlog_sink *sink, struct sink_file *file)
{
    if (!file->area || !twl_area_is_known(file->area))
        return TWINLOG_EVERSION;
    if (!file->area->is_shared || !(sink->options.flags & TWINLOG_SINK_SHARED))
        return -EBUSY;
    return twl_area_try_lock(file->data_fd, F_RDLCK, DATA_BYTE);
}

static int take_place(struct sink_file *file)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++) {
        if (twl_area_try_lock(file->area_fd, F_WRLCK, n) < 0)
            continue;
        int rc = twl_area_reserve_participant(file->area_fd, n);
        if (rc == 0)
            rc = twl_sink_sweep_participant(file, n); /* a former owner of the number is dead */
        if (rc < 0) {
            twl_area_unlock(file->area_fd, n);
            return rc;
        }
        file->number = n;
        atomic_store(&area_participant(file->area, n)->pid, (int32_t)getpid());
        atomic_store(&file->area->is_used[n], true);
        POINT("place taken");
        return twl_mapping_is_lost(file->area) ? -ENOSPC : 0;
    }
    return -EUSERS;
}

/* ---- opening, the area locked -------------------------------------------------------------------- */

static int settle(struct twinlog_sink *sink, struct sink_file *file)
{
    bool has_others;
    int rc = twl_area_has_others(file->area_fd, &has_others);
    if (rc == 0 && twl_area_is_whole(file->area_fd))
        rc = twl_area_map(file->area_fd, MAPPING_WRITABLE, &file->area);
    if (rc == 0)
        rc = has_others ? join(sink, file) : begin(sink, file);
    if (rc == 0)
        rc = take_place(file);
    return rc;
}

/* Opens the file, and leaves its area locked. */
static int try_to_enter(struct twinlog_sink *sink, int flags, struct sink_file *file)
{
    int rc = open_data(sink, file, flags);
    if (rc == 0)
        rc = open_area(sink, file);
    if (rc != 0)
        return rc;
    rc = twl_sink_has_name(sink, sink->name, file->data_fd) ? settle(sink, file) : FOUND_OTHER_FILE;
    if (rc != 0)
        remove_made(sink, file);
    return rc;
}

int twl_sink_enter(struct twinlog_sink *sink, int flags, struct sink_file **ret_file)
{
    struct sink_file *file;
    int rc;
    do {
        if (!(file = new_file()))
            return -ENOMEM;
        rc = try_to_enter(sink, flags, file);
        if (rc != 0)
            twl_sink_forget(file);
    } while (rc == FOUND_OTHER_FILE);
    if (rc != 0)
        return twl_end_result(rc);
    twl_area_unlock(file->area_fd, 0);
    POINT("entered");
    *ret_file = file;
    return 0;
}

/* ---- closing ------------------------------------------------------------------------------------- */

/* The area stays with the error of a failed sync, and where the file ends in a zero, as if it had not been closed. */
static int leave_last(struct twinlog_sink *sink, struct sink_file *file)
{
    char last = 1;
    int rc = lock_data_alone(file->data_fd);
    if (rc == 0)
        rc = twl_sink_sweep(file);
    const uint64_t end = area_offset(file->area);
    if (rc == 0 && twl_mapping_is_lost(file->area))
        rc = -EIO; /* its values are wrong; the next process that opens the file has the real area */
    if (rc == 0)
        rc = twl_sink_truncate_to(file->data_fd, end);
    POINT("last one has cut");
    if (rc == 0 && end > 0 && pread(file->data_fd, &last, 1, (off_t)end - 1) < 0)
        rc = -errno;
    if (rc == 0)
        atomic_store(&file->area->recorded, end);
    if (rc == 0 && last != 0 && atomic_load(&file->area->sync_error) == 0)
        remove_area(sink, file);
    return rc;
}

int twl_sink_leave(struct twinlog_sink *sink, struct sink_file *file)
{
    bool has_others = false;
    int rc = twl_area_lock(file->area_fd);
    POINT("about to leave");
    if (rc == 0) /* a write that failed may have left its claim */
        rc = twl_sink_sweep_participant(file, file->number);
    if (rc == 0)
        rc = twl_area_has_others(file->area_fd, &has_others);
    if (rc == 0 && !has_others)
        rc = leave_last(sink, file);
    atomic_fetch_add(&sink->past_growths, atomic_load(&file->area->growths));
    atomic_fetch_add(&sink->past_fillers, atomic_load(&file->area->fillers));
    POINT("left");
    twl_sink_forget(file);
    return rc;
}

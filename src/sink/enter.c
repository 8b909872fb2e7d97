/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coming and going. All of it happens under the lock of the area, byte 0, taken on the file that has the area's name:
 * who gets the lock and finds that the name leads elsewhere by now begins again.
 *
 * Who comes finds one of these:
 *
 *     nobody alive, no area      what the file has is all there is; a new area
 *     nobody alive, one that is of this file and this boot
 *                                everybody was killed: its cursor is the end; swept, cut, made anew
 *     nobody alive, another one  the system crashed, or it was never finished: the end is the last byte
 *                                that is not zero; made anew
 *     somebody alive             joins; or is too late, because the file is sealed or its name leads to
 *                                another file: then finishes the rotation, and is the first one in the next file
 *
 * From the first opening to the last closing the area's name always leads to an area: that of the next file takes its
 * place in one step, made by somebody who is in both. So at any time there is one lock for all who come, go and
 * rotate, and nobody finds the name free between two files.
 *
 * The data file itself is locked, too, shared by all who have it open and exclusively by who makes an area. So there
 * are never two areas for one file, not even if it has two names or somebody removed an area that is in use.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEEDS_NEXT 1 /* beside 0 and the errors: the file that was found has come to its end */
#define DATA_LOCK_BYTE ((off_t)1 << 62)
#define DYING_MS 1000u /* more than a process takes from closing its first file to closing its last one */

/* ---- opening ----------------------------------------------------------------------------------- */

struct sink_file *twl_sink_new_file(void)
{
    struct sink_file *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->area_fd = file->data_fd = -1;
    twl_mutex_init(&file->map_lock);
    twl_mutex_init(&file->sweep_lock);
    file->in_child = (struct child_files){ .fds = { &file->area_fd, &file->data_fd } };
    twl_child_register(&file->in_child);
    return file;
}

/* The child of a process leaves the locks of its parent alone. */
static void close_fd(int fd, bool is_child)
{
    if (fd >= 0 && is_child)
        close(fd);
    else if (fd >= 0)
        twl_area_close(fd);
}

void twl_sink_forget(struct sink_file *file, bool is_child)
{
    twl_child_unregister(&file->in_child);
    twl_window_close(file, is_child);
    if (file->area && !is_child)
        twl_area_unmap(file->area);
    close_fd(file->data_fd, is_child);
    close_fd(file->area_fd, is_child);
    if (!is_child) {
        twl_mutex_destroy(&file->map_lock);
        twl_mutex_destroy(&file->sweep_lock);
    }
    free(file);
}

static bool is_empty(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && about.st_size == 0;
}

/* Opens the area's file, or makes an empty one, and locks it. */
static int open_area(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM];
    twl_sink_area_name(sink, name);
    for (;;) {
        const int fd = openat(sink->dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                              sink->options.mode);
        if (fd < 0)
            return -errno;
        file->area_fd = fd; /* before it is locked: a child must not keep the lock */
        const int rc = twl_area_lock(fd);
        if (rc == 0 && twl_sink_has_name(sink, name, fd)) {
            file->is_area_new = is_empty(fd);
            POINT("area locked");
            return 0;
        }
        file->area_fd = -1;
        twl_area_close(fd);
        if (rc < 0)
            return rc;
    }
}

/* A way of saying what kind of file it is. */
static int error_of_kind(int error)
{
    return error == EISDIR || error == ENXIO || error == ENODEV ? -ENOTSUP : -error;
}

static int open_data(struct twinlog_sink *sink, struct sink_file *file, bool must_exist)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | (must_exist ? 0 : O_CREAT);
    struct stat about;
    file->data_fd = openat(sink->dir, sink->name, flags, sink->options.mode);
    if (file->data_fd < 0)
        return error_of_kind(errno);
    if (fstat(file->data_fd, &about) < 0)
        return -errno;
    if (!S_ISREG(about.st_mode))
        return -ENOTSUP;
    if (file->is_area_new) /* who may write the one may write the other */
        (void)!fchmod(file->area_fd, about.st_mode & 0666);
    POINT("data opened");
    return 0;
}

static int lock_data(int fd, short type)
{
    struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_start = DATA_LOCK_BYTE, .l_len = 1 };
    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* For the one who makes an area. A process that is killed closes its files one by one: its participant may be gone while
 * it still has the data. */
static int lock_data_alone(int fd)
{
    const struct timespec pause = { .tv_nsec = 1000000 };
    int rc = lock_data(fd, F_WRLCK);
    for (unsigned i = 0; rc == -EBUSY && i < DYING_MS; i++) {
        nanosleep(&pause, NULL);
        rc = lock_data(fd, F_WRLCK);
    }
    return rc;
}

/* ---- what is there ------------------------------------------------------------------------------- */

/* Its cursor can be believed: it is of this file, in this boot, and nobody has cut the file since. */
static bool is_exact(struct sink_file *file)
{
    struct identity identity;
    struct stat about;
    const uint64_t cursor = atomic_load(&file->area->cursor);
    return twl_area_is_known(file->area) && twl_area_is_of_this_boot(file->area) &&
           cursor_owner(cursor) <= PARTICIPANTS * SLOTS && twl_identity_of(file->data_fd, &identity) == 0 &&
           twl_identity_is_same(&identity, &file->area->identity) && fstat(file->data_fd, &about) == 0 &&
           cursor_offset(cursor) <= (uint64_t)about.st_size;
}

static int make_area(struct twinlog_sink *sink, struct sink_file *file, const struct area *like, uint64_t end,
                     uint64_t voids)
{
    const struct twinlog_sink_options *o = &sink->options;
    int rc = twl_area_prepare(file->area_fd);
    if (rc == 0 && !file->area)
        rc = twl_area_map(file->area_fd, &file->area);
    if (rc < 0)
        return rc;
    struct area *area = file->area;
    rc = twl_identity_of(file->data_fd, &area->identity);
    file->is_maker = true;
    area->is_shared = (o->flags & TWINLOG_SINK_SHARED) != 0;
    area->keep_files = like ? like->keep_files : o->keep_files;
    area->initial_bytes = like ? like->initial_bytes : o->initial_bytes;
    area->growth_bytes = like ? like->growth_bytes : o->growth_bytes;
    area->max_bytes = like ? like->max_bytes : o->max_bytes;
    atomic_store(&area->cursor, cursor_of(end, 0));
    atomic_store(&area->file_bytes, end);
    atomic_store(&area->voids, voids);
    POINT("area filled in");
    if (rc == 0)
        twl_area_finish(area);
    POINT("area ready");
    return rc;
}

/* Everybody was killed. The cursor is exact. */
static int recover(struct sink_file *file, uint64_t *ret_end, uint64_t *ret_voids)
{
    struct stat about;
    int rc = twl_sink_sweep(file);
    if (rc == 0)
        rc = twl_sink_cut(file);
    if (rc == 0 && area_is_sealed(file->area))
        return NEEDS_NEXT;
    if (rc == 0 && fstat(file->data_fd, &about) < 0)
        rc = -errno;
    if (rc < 0)
        return rc;
    *ret_end = (uint64_t)about.st_size;
    *ret_voids = atomic_load(&file->area->voids);
    return 0;
}

/* The system crashed, or the area was never finished: zeros at the end are not data. */
static int search_end(struct sink_file *file, uint64_t *ret_end)
{
    struct stat about;
    int rc = twl_sink_end_of_data(file->data_fd, 0, ret_end);
    if (rc == 0 && fstat(file->data_fd, &about) < 0)
        rc = -errno;
    if (rc == 0 && (uint64_t)about.st_size > *ret_end && ftruncate(file->data_fd, (off_t)*ret_end) < 0)
        rc = -errno;
    return rc;
}

/* Nobody else is alive here. */
static int begin_anew(struct twinlog_sink *sink, struct sink_file *file, const struct area *like)
{
    struct stat about;
    uint64_t end = 0, voids = 0;
    if (!like && twl_sink_is_moving(sink))
        return -EBUSY;
    int rc = lock_data_alone(file->data_fd);
    if (rc < 0)
        return rc;
    if (file->area && is_exact(file)) {
        rc = recover(file, &end, &voids);
    } else if (file->is_area_new) {
        rc = fstat(file->data_fd, &about) < 0 ? -errno : 0;
        end = rc == 0 ? (uint64_t)about.st_size : 0;
    } else {
        rc = search_end(file, &end);
    }
    if (rc == 0 && end >= OFFSET_LIMIT)
        rc = -EFBIG;
    if (rc == 0)
        rc = make_area(sink, file, like, end, voids);
    return rc == 0 ? lock_data(file->data_fd, F_RDLCK) : rc;
}

static int join(struct twinlog_sink *sink, struct sink_file *file)
{
    struct identity identity;
    const int rc = twl_identity_of(file->data_fd, &identity);
    if (rc < 0)
        return rc;
    if (!file->area->is_shared || !(sink->options.flags & TWINLOG_SINK_SHARED))
        return -EBUSY;
    if (area_is_sealed(file->area) || !twl_identity_is_same(&identity, &file->area->identity))
        return NEEDS_NEXT; /* also if a stranger has renamed the file while it was in use */
    return lock_data(file->data_fd, F_RDLCK);
}

/* It is of another file, which nobody has open. */
static bool is_of_another(struct sink_file *file)
{
    struct identity identity;
    return twl_area_is_known(file->area) && twl_area_is_of_this_boot(file->area) &&
           twl_identity_of(file->data_fd, &identity) == 0 &&
           !twl_identity_is_same(&identity, &file->area->identity);
}

static int settle(struct twinlog_sink *sink, struct sink_file *file, const struct area *like)
{
    bool has_others;
    int rc = twl_area_has_others(file->area_fd, &has_others);
    if (rc == 0 && twl_area_is_whole(file->area_fd))
        rc = twl_area_map(file->area_fd, &file->area);
    if (rc < 0)
        return rc;
    if (has_others)
        return file->area && twl_area_is_known(file->area) ? join(sink, file) : TWINLOG_EVERSION;
    if (file->area && is_of_another(file))
        return NEEDS_NEXT;
    return begin_anew(sink, file, like);
}

/* ---- a place ------------------------------------------------------------------------------------- */

static int take_place(struct sink_file *file)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++) {
        if (!twl_area_try_lock_participant(file->area_fd, n))
            continue;
        int rc = twl_area_reserve_participant(file->area_fd, n);
        if (rc == 0)
            rc = twl_sink_sweep_participant(file, n); /* who had it is dead */
        if (rc < 0) {
            twl_area_unlock_participant(file->area_fd, n);
            return rc;
        }
        file->number = n;
        atomic_store(&area_participant(file->area, n)->pid, (int32_t)getpid());
        atomic_store(&file->area->is_used[n], true);
        POINT("place taken");
        return 0;
    }
    return -EUSERS;
}

/* ---- the next file ------------------------------------------------------------------------------- */

/* Its area is made under a name of its own. Whoever does this has the lock of the present one, so what is found
 * there is of somebody who died. */
static int open_next_area(struct twinlog_sink *sink, struct sink_file *file, const char *name)
{
    if (unlinkat(sink->dir, name, 0) < 0 && errno != ENOENT)
        return -errno;
    file->area_fd =
        openat(sink->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, sink->options.mode);
    file->is_area_new = true;
    return file->area_fd < 0 ? -errno : twl_area_lock(file->area_fd);
}

static int make_next(struct twinlog_sink *sink, const struct area *like, struct sink_file *file)
{
    char next_name[NAME_ROOM], name[NAME_ROOM];
    twl_sink_next_area_name(sink, next_name);
    twl_sink_area_name(sink, name);
    int rc = open_next_area(sink, file, next_name);
    if (rc == 0)
        rc = open_data(sink, file, false);
    if (rc == 0)
        rc = begin_anew(sink, file, like);
    if (rc == 0)
        rc = take_place(file);
    POINT("next area made");
    if (rc == 0 && renameat(sink->dir, next_name, sink->dir, name) < 0)
        rc = -errno;
    POINT("next area named");
    if (rc < 0)
        unlinkat(sink->dir, next_name, 0);
    return rc;
}

/* The caller has the lock of `file`, whose area has the name. What comes back is locked, too. */
static int replace(struct twinlog_sink *sink, struct sink_file *file, const struct area *like,
                   struct sink_file **ret_next)
{
    int rc = twl_sink_hand_over(sink, file);
    if (rc < 0)
        return rc;
    struct sink_file *next = twl_sink_new_file();
    if (!next)
        return -ENOMEM;
    rc = make_next(sink, like, next);
    if (rc < 0) {
        twl_sink_forget(next, false);
        return rc;
    }
    *ret_next = next;
    return 0;
}

/* ---- in ------------------------------------------------------------------------------------------ */

/* What did not become an area goes away again. */
static void give_up(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM];
    twl_sink_area_name(sink, name);
    bool has_others = true;
    if (file->area_fd >= 0 && file->is_area_new && twl_sink_has_name(sink, name, file->area_fd) &&
        twl_area_has_others(file->area_fd, &has_others) == 0 && !has_others)
        unlinkat(sink->dir, name, 0);
    twl_sink_forget(file, false);
}

/* What is found under the name, and locked. */
static int find(struct twinlog_sink *sink, struct sink_file *file, const struct area *like)
{
    const bool must_exist = !like && (sink->options.flags & TWINLOG_SINK_MUST_EXIST);
    int rc = open_area(sink, file);
    if (rc == 0)
        rc = open_data(sink, file, must_exist);
    if (rc == 0)
        rc = settle(sink, file, like);
    return rc == 0 ? take_place(file) : rc;
}

/* The next file takes the place of the one that was found. Whoever lives in that one has chosen the options. */
static int go_on_to_next(struct twinlog_sink *sink, const struct area *like, struct sink_file **file)
{
    struct sink_file *found = *file;
    bool has_others;
    int rc = twl_area_has_others(found->area_fd, &has_others);
    if (rc == 0)
        rc = replace(sink, found, !like && has_others ? found->area : like, file);
    if (rc == 0)
        twl_sink_forget(found, false);
    return rc;
}

/* Under the lock, but not under that of the file before it: others lock the older one of two last. */
static int settle_in(struct twinlog_sink *sink, struct sink_file *file)
{
    if (file->is_maker)
        twl_sink_finish_old(sink, file->area->keep_files);
    twl_area_unlock(file->area_fd);
    const int rc = twl_sink_grow_to(file, file->area->initial_bytes);
    POINT("entered");
    return rc;
}

int twl_sink_enter(struct twinlog_sink *sink, const struct area *like, struct sink_file **ret_file)
{
    struct sink_file *file = twl_sink_new_file();
    if (!file)
        return -ENOMEM;
    int rc = find(sink, file, like);
    if (rc == NEEDS_NEXT)
        rc = go_on_to_next(sink, like, &file);
    if (rc < 0) {
        give_up(sink, file);
        return rc;
    }
    rc = settle_in(sink, file);
    if (rc < 0 && !like) { /* in a rotation the write that is next may need less */
        twl_sink_leave(sink, file);
        return rc;
    }
    *ret_file = file;
    return 0;
}

int twl_sink_enter_next(struct twinlog_sink *sink, struct sink_file *file, struct sink_file **ret_next)
{
    char name[NAME_ROOM];
    twl_sink_area_name(sink, name);
    int rc = twl_area_lock(file->area_fd);
    if (rc < 0)
        return rc;
    const bool is_first = twl_sink_has_name(sink, name, file->area_fd);
    if (is_first)
        rc = replace(sink, file, file->area, ret_next);
    twl_area_unlock(file->area_fd);
    if (!is_first)
        return twl_sink_enter(sink, file->area, ret_next);
    if (rc == 0)
        settle_in(sink, *ret_next);
    return rc;
}

/* ---- out ----------------------------------------------------------------------------------------- */

/* One that is sealed and could not be replaced keeps the first of its names, so that who comes next goes on. */
static void remove_area(struct twinlog_sink *sink, struct sink_file *file)
{
    char name[NAME_ROOM];
    if (area_is_sealed(file->area))
        twl_sink_old_area_name(sink, file->area->identity.inode, name);
    else
        twl_sink_area_name(sink, name);
    if (twl_sink_has_name(sink, name, file->area_fd))
        unlinkat(sink->dir, name, 0);
}

static int leave_last(struct twinlog_sink *sink, struct sink_file *file)
{
    int rc = twl_sink_sweep(file);
    if (rc == 0)
        rc = twl_sink_cut(file);
    POINT("last one has cut");
    if (rc < 0)
        return rc;
    if (!area_is_sealed(file->area))
        twl_sink_finish_old(sink, file->area->keep_files); /* in which somebody died alone */
    remove_area(sink, file);
    return 0;
}

/* With the lock, which goes with the file. */
static int leave(struct twinlog_sink *sink, struct sink_file *file)
{
    struct area *area = file->area;
    bool has_others = false;
    POINT("about to leave");
    atomic_fetch_add(&sink->past_growths, atomic_load(&area->growths));
    int rc = twl_area_has_others(file->area_fd, &has_others);
    if (rc == 0 && !has_others)
        rc = leave_last(sink, file);
    atomic_fetch_add(&sink->past_voids, atomic_load(&area->voids));
    atomic_store(&area->is_used[file->number], false);
    POINT("left");
    twl_sink_forget(file, false);
    return rc;
}

int twl_sink_leave(struct twinlog_sink *sink, struct sink_file *file)
{
    const int rc = twl_area_lock(file->area_fd);
    if (rc == 0)
        return leave(sink, file);
    twl_sink_forget(file, false);
    return rc;
}

int twl_sink_leave_present(struct twinlog_sink *sink, struct sink_file *file)
{
    if (twl_area_lock(file->area_fd) < 0 || !area_is_sealed(file->area))
        return twl_sink_leave(sink, file);
    twl_area_unlock(file->area_fd);
    return TWL_SINK_HAS_NEXT;
}

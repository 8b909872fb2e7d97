/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of an exact sink: how one is opened beside sinks of the other kind, and how the next one gets its name.
 *
 * An exact sink appends by write(), so the size of its file is the end of its bytes. A mapped sink writes through a
 * mapping into a file that is longer than its bytes; its area, a second file beside it, says where they end. A file
 * that it has left after a kill -9 still ends in zeros, and the area is there. Opening finishes such a file as a
 * mapped sink would, and then goes on behind its bytes. An area also stays beside a file that was closed, if that ends
 * in a zero. It tells mapped sinks that the zero is data. An exact sink removes such an area when it has EXACT_LOCK,
 * before it writes anything. The area would not speak of what is written then: behind the next start of the system,
 * which ends what it says about a closed file, a mapped sink would cut zeros off that are data.
 *
 * Locks of the file: EXACT_LOCK while an exact sink has it, and DATA_LOCK while a mapped one has; ENTER_LOCK while
 * it is opened; ROTATE_LOCK while it is renamed.
 *
 * The next file has the owner, the mode and the access list of the one before, and gets them before it gets the
 * name. So nobody opens it with other rights, not even for a moment. Where the system has files without a name, it
 * is made and locked before the names move: if it cannot be made, nothing has been renamed. Of the processes that
 * share the file one renames it, and the others find the path changed.
 *
 * NAME becomes NAME.1, that NAME.2 and so on. The names move from the last one to the first, so that a kill in the
 * middle leaves a gap, which the next rotation fills; no file loses its last name but the one that has the last number
 * that is kept, which is removed first. All files that would be moved or removed are looked at before: one that another
 * sink has stops the rotation, and so does one that cannot be looked at.
 */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/point.h"
#include "sink/exact.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DYING_MS 1000u /* longer than a dying process takes to close all its files */
#define MOST_TRIES 100u

/* Is there anything of that name, and what? 1, 0 or an error. Only -ENOENT says that there is not. */
static int is_there(struct io *io, const char *name, struct stat *ret_about)
{
    if (fstatat(io_directory_fd(io), name, ret_about, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    if (errno == ENOENT)
        return 0;
    return -errno;
}

/* ---- which kind of sink has the file ---------------------------------------------------------------- */

/* Does that result of a call for a lock say that the file system knows no locks? A network file system may know none.
 * Then sinks are not kept apart from each other, as they are not from other programs that append. */
static bool has_no_locks(int rc)
{
    return rc == -ENOLCK || rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL;
}

/* Takes EXACT_LOCK, unless a mapped sink has the file: -EMEDIUMTYPE. That is asked first, because those that come to
 * join a mapped sink are refused while somebody has EXACT_LOCK, be it for a moment. -EAGAIN: another process has the
 * lock. */
static int try_exact_lock(const struct exact_sink *sink, struct io_file *data)
{
    const bool is_exclusive = !(sink->options.flags & TWINLOG_SINK_SHARED);

    const int rc = twl_refuse_other_kind(data, DATA_LOCK);
    if (rc < 0)
        return rc;
    return io_lock(data, EXACT_LOCK, is_exclusive);
}

/* The first file of a sink may still be that of a process that dies. None of the later ones is waited for. */
static int wait_for_exact_lock(const struct exact_sink *sink, bool is_first, struct io_file *data)
{
    const unsigned wait_ms = is_first ? DYING_MS : 0;
    int rc = try_exact_lock(sink, data);

    for (unsigned ms = 0; rc == -EAGAIN && ms < wait_ms; ms++) {
        data->io->ops->sleep_ms(data->io, 1);
        rc = try_exact_lock(sink, data);
    }

    return rc;
}

/* Takes the lock of exact sinks, and looks for that of mapped ones when it has it. A mapped sink takes its lock, and
 * looks for this one then. So of two that come at a time at least one sees the other. On return with 0 the lock is
 * held, or the file system knows none. */
static int take_exact_lock(const struct exact_sink *sink, bool is_first, struct exact_file *file)
{
    const int rc = wait_for_exact_lock(sink, is_first, file->data);

    if (rc == -EAGAIN)
        return -EBUSY;

    file->has_locks = !has_no_locks(rc);
    if (!file->has_locks)
        return 0;
    if (rc < 0)
        return rc;
    return twl_refuse_other_kind(file->data, DATA_LOCK);
}

/* Another user may have made a file of that name. What a sink has left belongs to the owner of the data file. */
static bool is_left_by_owner(const struct stat *area, const struct stat *data)
{
    return S_ISREG(area->st_mode) && area->st_uid == data->st_uid;
}

/* Is the area neither root's nor this user's, in a directory in which others may make files? Then no sink has left it.
 * Where the directory cannot be looked at, a sink may have. */
static bool is_strangers(const struct exact_file *file, const struct stat *area)
{
    struct stat around;

    if (fstat(io_directory_fd(file->io), &around) < 0)
        return false;

    const bool is_trusted = area->st_uid == 0 || area->st_uid == geteuid();
    return may_others_make_files(&around) && !is_trusted;
}

/* The area is of another user than the data file. The data file was given to another user since; or somebody has put
 * the area there. If anybody may have done that, the area counts for nothing, as else any user could keep sinks from
 * the file. Otherwise a mapped sink may have been killed, if the file ends in a zero: -EPERM. But where an exact sink
 * has the file, the zero is data. 0: the size of the file is the end of its bytes. */
static int refuse_if_maybe_unfinished(const struct exact_file *file, const struct stat *area, uint64_t size)
{
    bool is_exact, is_doubtful;

    if (size == 0 || is_strangers(file, area))
        return 0;

    int rc = twl_sink_has(file->data, EXACT_LOCK, &is_exact);
    if (rc < 0 || is_exact)
        return rc;

    rc = twl_ends_in_zero(file->data, size, &is_doubtful);
    if (rc == 0 && is_doubtful)
        return -EPERM;
    return rc;
}

/* What the name of the area leads to, seen under EXACT_LOCK. */
enum left_area {
    NO_AREA,       /* the size of the file is the end of its bytes */
    CLOSED_AREA,   /* the same, as the file was closed since the system has started */
    AREA_IN_DOUBT, /* a mapped sink may have been killed, or the area cannot be read */
};

/* Reads the words of the area about its file, and about how that was left. Words that it does not have, and those of
 * an area that may not be read, are zeros, and say nothing. *ret_is_sound is false if no sink leaves an area so: if it
 * has a second name, or others may write it; and if it may not be read. */
static int read_area(const struct exact_file *file, const char *name, struct area *ret_area,
                     bool *ret_is_sound)
{
    const size_t size = offsetof(struct area, is_shared);
    struct io_file *opened;
    size_t got;

    memset(ret_area, 0, sizeof(*ret_area));
    *ret_is_sound = false;

    int rc = io_open(file->io, name, IO_READ_ONLY, &opened);
    if (rc == -EACCES)
        return 0;
    if (rc < 0)
        return rc;

    rc = io_read(opened, ret_area, size, 0, &got);
    *ret_is_sound = twl_area_check(opened) == 0;
    io_close(opened);
    return rc;
}

/* Has a mapped sink closed the file, so that its size is the end of its bytes? A close in a boot that has ended counts
 * for nothing: the shorter size may not have reached the disk. If finish_mapped() has closed it in an earlier try of
 * this opening, that was in this boot, also where nothing tells which boot this is. */
static int is_of_closed_file(const struct exact_file *file, const struct area *area, bool *ret_is)
{
    *ret_is = false;
    if (!twl_area_is_known(area) || !atomic_load(&area->is_closed))
        return 0;

    *ret_is = file->finished_inode == file->inode;
    if (*ret_is)
        return 0;
    return twl_boot_ask(area->boot, ret_is);
}

/* Reads the area, and judges by its words how the file was left. */
static int judge_area(const struct exact_file *file, const char *name, struct area *ret_area,
                      enum left_area *ret_left)
{
    struct identity identity;
    bool is_sound, is_closed;

    int rc = read_area(file, name, ret_area, &is_sound);
    if (rc == -ENOENT) /* it is gone by now */
        return 0;
    if (rc == 0)
        rc = twl_identity_of(file->data, &identity);
    if (rc < 0)
        return rc;
    if (twl_area_is_known(ret_area) &&
        !twl_area_is_for(ret_area, &identity)) /* another one had the inode number */
        return 0;

    rc = is_of_closed_file(file, ret_area, &is_closed);
    *ret_left = AREA_IN_DOUBT;
    if (is_sound && is_closed)
        *ret_left = CLOSED_AREA;
    return rc;
}

/* Is there an area that a mapped sink has left for the file? */
static int find_area(const struct exact_file *file, const char *name, struct area *ret_area,
                     enum left_area *ret_left)
{
    struct stat area, data;

    *ret_left = NO_AREA;
    if (fstatat(io_directory_fd(file->io), name, &area, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(io_file_fd(file->data), &data) < 0)
        return -errno;

    if (!is_left_by_owner(&area, &data))
        return refuse_if_maybe_unfinished(file, &area, (uint64_t)data.st_size);
    return judge_area(file, name, ret_area, ret_left);
}

/* A mapped sink has cut the file when it closed it. That is on the disk before the area is gone: else a power cut may
 * leave zeros that nothing tells from data. The removal itself is not synced here. The next sync of the sink syncs the
 * directory, too: so an area that a power cut brings back leads to no cut of what a sync has said to be on the disk. */
static int take_area_away(const struct exact_file *file, const char *name)
{
    int rc = io_sync_data(file->data);
    POINT("closed file synced");
    if (rc == 0)
        rc = file->io->ops->unlink(file->io, name);
    POINT("area taken away");
    if (rc == -ENOENT)
        return 0;
    return rc;
}

/* Opens the file as the mapped sink would that has left it, and closes it, so that it ends behind its bytes. That
 * takes EXACT_LOCK away, as a mapped sink opens no file that an exact one has; ENTER_LOCK keeps others out.
 * FOUND_OTHER_FILE: begin the opening anew. 0: another exact sink has the file, so it was finished before, and
 * EXACT_LOCK is still held. */
static int finish_mapped(const struct exact_sink *sink, struct exact_file *file)
{
    bool is_had_by_exact;

    int rc = twl_sink_has(file->data, EXACT_LOCK, &is_had_by_exact);
    if (rc < 0 || is_had_by_exact)
        return rc;

    io_unlock(file->data, EXACT_LOCK);
    rc = twl_sink_finish(file->data, file->name, sink->options.flags & TWINLOG_SINK_DROP_ZEROS);

    /* A mapped sink was faster. */
    if (rc == -EBUSY && twl_refuse_other_kind(file->data, DATA_LOCK) == -EMEDIUMTYPE)
        return -EMEDIUMTYPE;
    if (rc < 0)
        return rc;

    if (rc == 0)
        file->finished_inode = file->inode; /* the next try finds the same file, closed */
    return FOUND_OTHER_FILE;
}

/* Under EXACT_LOCK and ENTER_LOCK. On return with 0 the file ends behind its bytes, and no area says anything else. One
 * that remembers that a sync has failed stays, as the next mapped sink has to know that. */
static int settle_area(const struct exact_sink *sink, struct exact_file *file)
{
    char name[NAME_ROOM];
    enum left_area left;
    struct area area;

    twl_area_name(file->inode, name);
    const int rc = find_area(file, name, &area, &left);
    if (rc < 0 || left == NO_AREA)
        return rc;

    POINT("area found");
    if (left == AREA_IN_DOUBT)
        return finish_mapped(sink, file);
    if (atomic_load(&area.sync_error) < 0)
        return 0;
    return take_area_away(file, name);
}

/* ---- opening --------------------------------------------------------------------------------------- */

/* Opens the file of that name, or makes it: with the rights of `before`; see twl_sink_open_first().
 * FOUND_OTHER_FILE: it was made, by this process or another, and is to be opened by its name. */
static int open_or_make(struct io *io, const char *name, const struct exact_file *before,
                        struct io_file **ret_data)
{
    if (!before)
        return twl_sink_open_first(io, name, IO_APPEND, true, ret_data);

    const int rc = io_open(io, name, IO_APPEND, ret_data);
    if (rc != -ENOENT)
        return rc;
    return twl_sink_make_next(io, name, before->data);
}

/* A sink goes on in a file that another process has made. In a directory in which others may make files, that may have
 * been another user. There the file must be one of this user, of root, or of the owner of the file before, and have no
 * second name. -EPERM: it is another one. Any other error: that is not known. */
static int refuse_next_of_stranger(struct io_file *data, struct io_file *before)
{
    struct stat about, owner, around;

    if (fstat(io_file_fd(data), &about) < 0 || fstat(io_file_fd(before), &owner) < 0 ||
        fstat(io_directory_fd(data->io), &around) < 0)
        return -errno;

    if (!may_others_make_files(&around))
        return 0;

    const bool is_trusted = about.st_uid == geteuid() || about.st_uid == 0 || about.st_uid == owner.st_uid;
    const bool has_second_name = about.st_nlink > 1;
    if (!is_trusted || has_second_name)
        return -EPERM;
    return 0;
}

/* When the file was made. Where the file system does not know that: when the file was written last, as it was there
 * then. */
static int find_time_made(struct io_file *data, int64_t *ret_ns)
{
    const int64_t second = 1000000000;
    struct statx about = { 0 };
    struct stat plain;

    if (statx(io_file_fd(data), "", AT_EMPTY_PATH, STATX_BTIME, &about) < 0 && !is_no_such_call(errno))
        return -errno;
    if (about.stx_mask & STATX_BTIME) {
        *ret_ns = about.stx_btime.tv_sec * second + about.stx_btime.tv_nsec;
        return 0;
    }

    if (fstat(io_file_fd(data), &plain) < 0)
        return -errno;
    *ret_ns = plain.st_mtim.tv_sec * second + plain.st_mtim.tv_nsec;
    return 0;
}

/* What is known of a file that is open. */
static int describe(struct exact_file *file)
{
    struct stat about;

    if (fstat(io_file_fd(file->data), &about) < 0)
        return -errno;
    file->inode = about.st_ino;
    return find_time_made(file->data, &file->made_ns);
}

/* Where the path leads to: the directory and the name of the file there. Each file has an opened directory of its own,
 * which is closed with the file. */
static int resolve_path(const struct exact_sink *sink, const struct exact_file *before, struct io **ret_io,
                        char ret_name[NAME_MAX + 1])
{
    struct io *io = NULL;

    if (before) {
        io = before->io;
        snprintf(ret_name, NAME_MAX + 1, "%s", before->name);
    }

    const int rc = twl_sink_resolve_path(&sink->path, &io, ret_name);
    if (rc < 0)
        return rc;
    if (before && io == before->io)
        return io->ops->again(io, ret_io);
    *ret_io = io;
    return 0;
}

/* Resolves the path anew, directories and all, and opens what is there. Fills in what is const in `file`; without a
 * lock so far. After an error, and after FOUND_OTHER_FILE, twl_exact_leave() frees what it has. */
static int open_data(const struct exact_sink *sink, const struct exact_file *before, struct exact_file *file)
{
    const bool is_first_to_rotate = !before && sink->options.max_bytes > 0;
    char name[NAME_MAX + 1];

    int rc = resolve_path(sink, before, &file->io, name);
    if (rc == 0 && is_first_to_rotate)
        rc = twl_sink_check_number(file->io, name, sink->options.keep_files);
    if (rc == 0) {
        file->name = strdup(name);
        if (!file->name)
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = open_or_make(file->io, name, before, &file->data);
    if (rc == -EISDIR || rc == -EINVAL || rc == -ELOOP) /* of a file that is not regular */
        return -ENOTSUP;
    if (rc != 0)
        return rc;

    if (before)
        rc = refuse_next_of_stranger(file->data, before->data);
    if (rc == 0)
        rc = describe(file);
    POINT("data opened");
    return rc;
}

/* Only one exact sink at a time opens a file: two that finish what a mapped one has left would take each other for
 * mapped ones. -EBUSY: another one has been about it for LOCK_WAIT_MS. */
static int lock_to_enter(struct io_file *data)
{
    const int rc = twl_lock_patiently(data, ENTER_LOCK, true, LOCK_WAIT_MS);

    if (has_no_locks(rc))
        return 0;
    return rc;
}

/* Opens the file and takes EXACT_LOCK. With the lock it looks whether the path still leads there: another process may
 * have renamed the file before it was locked. FOUND_OTHER_FILE: try again. */
static int try_to_enter(const struct exact_sink *sink, const struct exact_file *before,
                        struct exact_file *file)
{
    int rc = open_data(sink, before, file);
    if (rc == 0)
        rc = lock_to_enter(file->data);
    if (rc == 0)
        rc = take_exact_lock(sink, !before, file);
    if (rc == 0)
        rc = settle_area(sink, file);
    if (rc != 0)
        return rc;

    io_unlock(file->data, ENTER_LOCK);
    const int end = twl_sink_look(&sink->path, file->data, file->name);
    if (end < 0)
        return end;
    if (end == PATH_LEADS_HERE)
        return 0;
    return FOUND_OTHER_FILE;
}

/* On return with 0 the file is open at the path and EXACT_LOCK is held. -EBUSY: the path led elsewhere each time. */
int twl_exact_enter(const struct exact_sink *sink, const struct exact_file *before,
                    struct exact_file **ret_file)
{
    struct exact_file *file;
    ino_t finished_inode = 0;
    int rc = FOUND_OTHER_FILE;

    for (unsigned tries = 0; rc == FOUND_OTHER_FILE && tries < MOST_TRIES; tries++) {
        file = calloc(1, sizeof(*file));
        if (!file)
            return -ENOMEM;

        file->finished_inode = finished_inode;
        rc = try_to_enter(sink, before, file);
        finished_inode = file->finished_inode;
        if (rc != 0)
            twl_exact_leave(file);
    }

    if (rc == 0)
        *ret_file = file;
    if (rc == FOUND_OTHER_FILE)
        return -EBUSY;
    return rc;
}

/* Fills in `next`, a file without a name, which nobody else has. Its data is NULL where the system has no such file. */
static int open_unnamed(const struct exact_sink *sink, const struct exact_file *before,
                        struct exact_file *next)
{
    int rc = before->io->ops->again(before->io, &next->io);
    if (rc == 0) {
        next->name = strdup(before->name);
        if (!next->name)
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = twl_sink_make_unnamed(next->io, IO_APPEND, before->data, &next->data);
    if (rc < 0 || !next->data)
        return rc;

    rc = describe(next);
    if (rc == 0)
        rc = take_exact_lock(sink, false, next);
    return rc;
}

/* The file that follows `before`; it gets the name later. NULL in *ret_next: the system has no such files. */
static int make_unnamed(const struct exact_sink *sink, const struct exact_file *before,
                        struct exact_file **ret_next)
{
    struct exact_file *next = calloc(1, sizeof(*next));

    if (!next)
        return -ENOMEM;

    const int rc = open_unnamed(sink, before, next);
    if (rc == 0 && next->data)
        *ret_next = next;
    else
        twl_exact_leave(next);
    return rc;
}

/* Writes the newline behind a line of which the file has only a part. The sink has given EXACT_LOCK back when it went
 * on to another file, so the lock is taken for this, shared with other exact sinks. A mapped one may have the file by
 * now: then it stays as it is. */
void twl_exact_end_old_line(struct exact_file *file)
{
    if (!file->has_part)
        return;

    const int rc = io_lock(file->data, EXACT_LOCK, false);
    const bool may_write = has_no_locks(rc) || (rc == 0 && twl_refuse_other_kind(file->data, DATA_LOCK) == 0);
    if (may_write)
        twl_exact_end_line(file);
    io_unlock(file->data, EXACT_LOCK);
}

/* Closes the file, which ends its locks. It may be one of which only a part was opened. */
void twl_exact_leave(struct exact_file *file)
{
    io_close(file->data);
    if (file->io)
        file->io->ops->destroy(file->io);
    free(file->name);
    free(file);
}

/* ---- names ----------------------------------------------------------------------------------------- */

/* NAME.1, NAME.2, ...; 0: NAME. */
static void number_name(const struct exact_file *file, unsigned number, char ret_name[NAME_ROOM])
{
    if (number > 0)
        snprintf(ret_name, NAME_ROOM, "%s.%u", file->name, number);
    else
        snprintf(ret_name, NAME_ROOM, "%s", file->name);
}

/* -EBUSY: another sink, of either kind, has the file open. */
static int refuse_if_sink_has(struct io_file *other)
{
    bool is_used = false;

    const int rc = twl_data_is_in_use(other, &is_used);
    if (rc == 0 && is_used)
        return -EBUSY;
    return rc;
}

/* -EBUSY: a sink has the file of that name; it may be another sink, with a file that is called NAME.1. 0: none has, or
 * there is no such file, or the file system has no locks that would tell. Any other error: it is not known, or it is no
 * file. */
static int refuse_if_sink_has_name(const struct exact_file *file, const char *name)
{
    struct io_file *other;

    if (!file->has_locks)
        return 0;

    int rc = io_open(file->io, name, IO_READ_ONLY, &other);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;

    rc = refuse_if_sink_has(other);
    io_close(other);
    return rc;
}

/* Takes the lock that each sink looks for when it opens the file. Another program's lock is no sink's. */
static int lock_against_sinks(struct io_file *last)
{
    const int rc = io_lock(last, EXACT_LOCK, true);

    if (rc < 0 && rc != -EAGAIN)
        return rc;
    return refuse_if_sink_has(last);
}

/* As refuse_if_sink_has_name(), of a file that is about to be replaced or removed: no sink opens it until the caller
 * closes *ret_last, which may be NULL. One that this process may only read is looked at, and not locked. */
static int lock_name_against_sinks(const struct exact_file *file, const char *name, struct io_file **ret_last)
{
    struct io_file *last;

    *ret_last = NULL;
    if (!file->has_locks)
        return 0;

    int rc = io_open(file->io, name, 0, &last);
    if (rc == -EACCES)
        return refuse_if_sink_has_name(file, name);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;

    rc = lock_against_sinks(last);
    POINT("sinks kept out");
    *ret_last = last;
    return rc;
}

/* The file that has the last number that is kept. It goes, as the one in front gets that number. */
struct last_file {
    bool is_there;
    struct stat about;
    struct io_file *opened; /* keeps sinks out of it until it is closed; it may be NULL */
};

/* Finds how far the names move, in *ret_number: to the first number without a file, or to the last one that is kept.
 * The caller closes ret_last->opened, also after an error. Each file that would be moved or removed is looked at first.
 * -EBUSY: a sink has one of them. */
static int find_last_to_shift(const struct exact_sink *sink, const struct exact_file *file,
                              unsigned *ret_number, struct last_file *ret_last)
{
    char name[NAME_ROOM];

    *ret_last = (struct last_file){ .opened = NULL };
    for (unsigned number = 1;; number++) {
        *ret_number = number;
        number_name(file, number, name);
        const int is_taken = is_there(file->io, name, &ret_last->about);
        if (is_taken <= 0)
            return is_taken;

        ret_last->is_there = number >= sink->options.keep_files;
        if (ret_last->is_there)
            return lock_name_against_sinks(file, name, &ret_last->opened);

        const int rc = refuse_if_sink_has_name(file, name);
        if (rc < 0)
            return rc;
    }
}

/* Removes the file that has the last number, if it is still the one that was looked at. -EBUSY: another process has
 * given the number to another file. */
static int remove_last(const struct exact_file *file, unsigned number, const struct last_file *last)
{
    char name[NAME_ROOM];
    struct stat about;

    if (!last->is_there)
        return 0;

    number_name(file, number, name);
    int rc = is_there(file->io, name, &about);
    if (rc <= 0)
        return rc;
    if (!is_same_file(&about, &last->about))
        return -EBUSY;

    rc = file->io->ops->unlink(file->io, name);
    if (rc == -ENOENT)
        return 0;
    return rc;
}

/* Gives each file the number behind its own, from the last one on; the present file is NAME.1 at the end. No rename
 * replaces a file. ROTATE_LOCK is of the present file and not of the directory. So where a program has renamed the
 * present file, the next one of that name may be rotated at the same time, by another sink: -EBUSY if that has given
 * one of the names meanwhile. A file that another program has taken away leaves a gap. */
static int move_names(const struct exact_file *file, unsigned last_number)
{
    char from[NAME_ROOM], to[NAME_ROOM];

    for (unsigned number = last_number; number > 0; number--) {
        number_name(file, number - 1, from);
        number_name(file, number, to);
        const int rc = file->io->ops->rename_unless_taken(file->io, from, to);
        if (rc == -EEXIST)
            return -EBUSY;
        if (rc < 0 && rc != -ENOENT)
            return rc;
        POINT("exact name shifted");
    }

    return 0;
}

/* The caller has ROTATE_LOCK of the file, so no other process that shares it renames it meanwhile. With 0 *ret_next may
 * stay NULL: the system has no files without a name, or the next one got none, as where another program has made a file
 * of that name. Then the caller opens, or makes, what the path leads to. */
static int shift_names(const struct exact_sink *sink, const struct exact_file *file,
                       struct exact_file **ret_next)
{
    unsigned number;
    struct last_file last;
    struct exact_file *next = NULL;
    int rc = find_last_to_shift(sink, file, &number, &last);

    if (rc == 0)
        rc = make_unnamed(sink, file, &next);
    if (rc == 0)
        rc = remove_last(file, number, &last);
    if (rc == 0)
        rc = move_names(file, number);
    io_close(last.opened); /* until here no sink could open the file that was removed */
    if (!next)
        return rc;

    const bool has_name = rc == 0 && twl_io_name_unnamed(next->data, next->name) == 0;
    if (has_name)
        *ret_next = next;
    else
        twl_exact_leave(next);
    return rc;
}

/* Removes the numbers above the limit, which are of a time when more were kept, up to the first one that is missing,
 * that a sink has, or that cannot be looked at. What stays is for the next rotation. */
static void drop_older(const struct exact_sink *sink, const struct exact_file *file)
{
    char name[NAME_ROOM];

    for (unsigned number = sink->options.keep_files + 1;; number++) {
        struct io_file *surplus = NULL;
        struct stat about;

        number_name(file, number, name);
        const bool may_go =
            is_there(file->io, name, &about) > 0 && lock_name_against_sinks(file, name, &surplus) == 0;
        const bool is_gone = may_go && file->io->ops->unlink(file->io, name) == 0;
        io_close(surplus);
        if (!is_gone)
            return;
    }
}

/* The caller holds sink->moving, and EXACT_LOCK of the file. ROTATE_LOCK is held from before the look whether the file
 * still has the name, so of several processes one renames it, and the others find that done: 0. -EBUSY: another one is
 * about it, or has one of the files. */
int twl_exact_shift(const struct exact_sink *sink, const struct exact_file *file,
                    struct exact_file **ret_next)
{
    uint32_t links;

    int rc = io_lock(file->data, ROTATE_LOCK, true);
    if (rc == -EAGAIN)
        return -EBUSY;
    if (rc < 0 && !has_no_locks(rc))
        return rc;

    rc = io_links(file->data, file->name, &links);
    const bool has_name = rc == 0 && links > 0;
    if (has_name)
        rc = shift_names(sink, file, ret_next);
    if (has_name && rc == 0)
        drop_older(sink, file);
    io_unlock(file->data, ROTATE_LOCK);
    return rc;
}

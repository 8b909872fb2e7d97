/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a file of a sink, both under the lock of the area, byte 0. A process that gets this lock and
 * finds that the name of the area or of the file leads elsewhere by now begins again. "Opening and closing" in
 * docs/design.md says what may be found, and where the file then ends. Only a process that is alone in the data file,
 * by its lock there, makes an area.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DYING_MS 1000u /* longer than a dying process takes to close all its files */

/* ---- opening ----------------------------------------------------------------------------------- */

static void forget(struct sink_file *file)
{
    twl_window_close(file);
    if (file->area)
        twl_mapping_close(file->area, AREA_BYTES);
    twl_mutex_destroy(&file->lock);
    io_close(file->data);
    io_close(file->area_file);
    free(file);
}

static int open_by_name(const struct twinlog_sink *sink, struct io_file **ret_file)
{
    const struct sink_file *present = atomic_load(&sink->file);
    if (!present)
        return twl_sink_open_first(sink->io, sink->name, 0, false, ret_file);

    const int rc = io_open(sink->io, sink->name, 0, ret_file);
    if (rc == -ENOENT)
        return twl_sink_make_next(sink->io, sink->name, present->data);
    return rc;
}

static int open_data(const struct twinlog_sink *sink, struct sink_file *file)
{
    int rc = open_by_name(sink, &file->data);
    if (rc == -EISDIR || rc == -EINVAL || rc == -ELOOP) /* of a file that is not regular */
        return -ENOTSUP;
    if (rc != 0)
        return rc;

    rc = twl_owner_check(file->data);
    POINT("data opened");
    if (rc < 0)
        return rc;
    return twl_identity_of(file->data, &file->identity);
}

/* Opens the area's file, or makes an empty one, and locks it. */
static int open_area(struct sink_file *file)
{
    char name[NAME_ROOM];
    uint64_t bytes;

    twl_area_name(file->identity.inode, name);
    int rc = twl_sink_open_or_make(file->data->io, name, 0, AREA_MODE, &file->area_file);
    if (rc == 0)
        rc = twl_area_check(file->area_file);
    if (rc == 0)
        rc = twl_lock_patiently(file->area_file, IO_LOCK_WRITER, true, LOCK_WAIT_MS);
    if (rc == 0)
        rc = io_size(file->area_file, &bytes);
    if (rc != 0)
        return rc;

    bool has_name;
    rc = twl_sink_has_name(file->area_file, name, &has_name);
    if (rc < 0)
        return rc;
    if (!has_name)
        return FOUND_OTHER_FILE;

    file->is_area_new = bytes == 0;
    POINT("area locked");
    return 0;
}

/* Waits until no other participant has the data file locked. A process that is killed closes its files one by one: its
 * participant's lock may be gone while it still has that of the data file. -EBUSY: another one is alive. */
static int wait_until_alone(struct io_file *data)
{
    for (unsigned ms = 0; ms < DYING_MS; ms++) {
        bool has_others;
        const int rc = twl_data_has_others(data, &has_others);
        if (rc < 0)
            return rc;
        if (!has_others)
            return 0;
        data->io->ops->sleep_ms(data->io, 1);
    }

    return -EBUSY;
}

/* The lock first, and then the look for an exact sink, which does it the other way round. */
static int lock_data(struct io_file *data)
{
    const int rc = io_lock(data, DATA_LOCK, false);
    const int refused = twl_refuse_other_kind(data, EXACT_LOCK);

    if (refused < 0)
        return refused;
    if (rc == -EAGAIN)
        return -EBUSY;
    return rc;
}

/* ---- the first participant ----------------------------------------------------------------------- */

static int32_t error_of_dead(struct area *area)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        twl_sink_take_sync_of(area, n);
    return atomic_load(&area->sync_error);
}

/* What an area of this file says stays in its first page, whatever else is given up: what is recorded, until the next
 * sync; and the error of a failed sync, until the system has certainly started again: a boot that is not known proves
 * nothing. */
static void keep_what_is_recorded(struct area *area)
{
    int32_t error = 0;

    if (!twl_boot_has_ended(area->boot))
        error = error_of_dead(area);
    atomic_store(&area->sync_error, error);
    atomic_store(&area->cursor, UINT64_MAX); /* nobody believes it until all that follows is there */
}

static int make_area(struct sink_file *file, uint64_t end)
{
    uint64_t kept_bytes = 0;

    if (file->area && twl_area_is_for(file->area, &file->identity)) {
        keep_what_is_recorded(file->area);
        kept_bytes = AREA_PAGE;
    }

    int rc = twl_area_prepare(file->area_file, kept_bytes);
    if (rc == 0 && !file->area)
        rc = twl_area_map(file->area_file, &file->area);
    if (rc < 0)
        return rc;

    struct area *area = file->area;
    memset((unsigned char *)area + offsetof(struct area, file_bytes), 0,
           sizeof(*area) - offsetof(struct area, file_bytes));
    area->identity = file->identity;
    atomic_store(&area->recorded, end);
    atomic_store(&area->cursor, cursor_of(end, 0));
    return 0;
}

/* Cuts off what is behind the bytes. From now on the file is not a closed one, whatever its area says. */
static int cut(struct sink_file *file, uint64_t end)
{
    if (end >= OFFSET_LIMIT)
        return -EFBIG;

    const int rc = io_truncate(file->data, end);
    if (rc == 0 && file->area)
        atomic_store(&file->area->is_closed, false);
    return rc;
}

static void fill_in(const struct twinlog_sink_options *options, struct area *area, uint64_t end)
{
    area->is_shared = (options->flags & TWINLOG_SINK_SHARED) != 0;
    area->growth_bytes = options->growth_bytes;
    atomic_store(&area->file_bytes, end);
    atomic_store(&area->populated, align_down(end, AREA_PAGE));
    POINT("area filled in");
}

/* The area has the end of the file, which nobody has closed since. */
static int go_on_with_area(const struct twinlog_sink_options *options, struct sink_file *file)
{
    const uint64_t end = area_offset(file->area);

    int rc = twl_sink_sweep(file);
    if (rc == 0)
        rc = cut(file, end);
    if (rc < 0)
        return rc;

    fill_in(options, file->area, end);
    return 0;
}

/* The boot is asked for before anything changes: an area of an unknown boot is of no use after a death. */
static int begin_area(const struct twinlog_sink_options *options, struct sink_file *file)
{
    uint8_t boot[BOOT_ID_BYTES];
    uint64_t end = 0;

    int rc = twl_boot_id(boot);
    if (rc == 0)
        rc = twl_end_find(file->data, file->area, &file->identity, options->flags, &end);
    if (rc == 0)
        rc = cut(file, end);
    if (rc == 0)
        rc = make_area(file, end);
    if (rc < 0)
        return rc;

    fill_in(options, file->area, end);
    twl_area_finish(file->area, boot);
    return 0;
}

/* Have the file and its area their names, now that no exact sink has the file? One that had it before may have taken
 * the area away, and a rotation may have replaced the file. */
static int check_names(const struct sink_file *file, const char *name)
{
    char area_name[NAME_ROOM];
    bool has_name = false;

    int rc = twl_sink_has_name(file->data, name, &has_name);
    if (rc == 0 && has_name) {
        twl_area_name(file->identity.inode, area_name);
        rc = twl_sink_has_name(file->area_file, area_name, &has_name);
    }
    if (rc < 0)
        return rc;
    if (!has_name)
        return FOUND_OTHER_FILE;
    return 0;
}

/* Opens the file of that name when no other participant is alive. */
static int begin(const struct twinlog_sink_options *options, struct sink_file *file, const char *name)
{
    bool has_end = false;

    POINT("file found");
    int rc = lock_data(file->data);
    if (rc == 0)
        rc = wait_until_alone(file->data);
    if (rc == 0)
        rc = check_names(file, name);
    if (rc == 0)
        rc = twl_end_is_exact(file->data, file->area, &file->identity, &has_end);
    if (rc != 0)
        return rc;

    if (has_end)
        rc = go_on_with_area(options, file);
    else
        rc = begin_area(options, file);
    if (rc == 0)
        POINT("area ready");
    return rc;
}

static int join(const struct twinlog_sink_options *options, struct sink_file *file)
{
    if (!file->area || !twl_area_is_known(file->area))
        return TWINLOG_EVERSION;
    if (!file->area->is_shared || !(options->flags & TWINLOG_SINK_SHARED))
        return -EBUSY;
    return lock_data(file->data);
}

static int take_place(struct sink_file *file)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++) {
        int rc = io_lock(file->area_file, n, true);
        if (rc == -EAGAIN)
            continue;
        if (rc < 0)
            return rc;

        /* blocks for its page, so that storing there can't meet a full disk */
        rc = io_allocate(file->area_file, (1 + (uint64_t)n) * AREA_PAGE, IO_ALLOCATE_SPACE);
        if (rc == 0)
            rc = twl_sink_sweep_participant(file, n, true); /* a former owner of the number is dead */
        if (rc < 0)
            return rc;

        file->number = n;
        atomic_store(&file->area->is_used[n], true);
        POINT("place taken");
        if (twl_mapping_is_lost(file->area))
            return -ENOSPC;
        return 0;
    }

    return -EUSERS;
}

/* ---- opening, the area locked -------------------------------------------------------------------- */

static void remove_area(const struct sink_file *file)
{
    char name[NAME_ROOM];
    struct io *io = file->data->io;
    bool has_name = false;

    twl_area_name(file->identity.inode, name);
    if (twl_sink_has_name(file->area_file, name, &has_name) == 0 && has_name)
        io->ops->unlink(io, name);
}

static int recover_file(const struct twinlog_sink_options *options, struct sink_file *file, const char *name)
{
    bool has_others;

    int rc = twl_area_has_others(file->area_file, 1, PARTICIPANTS, &has_others);
    if (rc == 0)
        rc = twl_area_map(file->area_file, &file->area);
    if (rc < 0)
        return rc;

    if (has_others)
        rc = join(options, file);
    else
        rc = begin(options, file, name);
    if (rc == 0)
        return take_place(file);
    return rc;
}

/* Becomes a participant of a file that is open, and leaves its area locked. `name` is that of the file. */
static int take_part(const struct twinlog_sink_options *options, struct sink_file *file, const char *name)
{
    bool has_name = false;

    int rc = open_area(file);
    if (rc != 0)
        return rc;

    rc = twl_sink_has_name(file->data, name, &has_name);
    if (rc == 0 && has_name)
        rc = recover_file(options, file, name);
    else if (rc == 0)
        rc = FOUND_OTHER_FILE;
    if (rc != 0 && file->is_area_new)
        remove_area(file);
    return rc;
}

static int try_to_enter(const struct twinlog_sink *sink, struct sink_file *file)
{
    const int rc = open_data(sink, file);
    if (rc != 0)
        return rc;
    return take_part(&sink->options, file, sink->name);
}

static struct sink_file *new_file(struct lane *lanes, uint64_t max_bytes)
{
    struct sink_file *file = calloc(1, sizeof(*file));

    if (!file)
        return NULL;

    file->max_bytes = max_bytes;
    file->lanes = lanes;
    twl_mutex_init(&file->lock);
    return file;
}

/* The names may change while it looks, again and again where many open and close the file. -EBUSY: they have for
 * LOCK_WAIT_MS, or the file system tells another tale at each call, as one that knows a name and does not open it. */
int twl_sink_enter(struct twinlog_sink *sink, struct sink_file **ret_file)
{
    const uint64_t until_ns = twl_monotonic_ns() + LOCK_WAIT_MS * UINT64_C(1000000);
    struct sink_file *file;
    int rc;

    do {
        file = new_file(sink->lanes, sink->options.max_bytes);
        if (!file)
            return -ENOMEM;

        rc = try_to_enter(sink, file);
        if (rc != 0)
            forget(file);
    } while (rc == FOUND_OTHER_FILE && twl_monotonic_ns() < until_ns);
    if (rc == FOUND_OTHER_FILE)
        return -EBUSY;
    if (rc != 0)
        return rc;

    io_unlock(file->area_file, IO_LOCK_WRITER);
    POINT("entered");
    file->touched = area_offset(file->area);
    *ret_file = file;
    return 0;
}

/* ---- closing ------------------------------------------------------------------------------------- */

/* Under the area's lock. The area stays with the error of a failed sync, and where the file, or what is synced of it,
 * ends in a zero, as if it had not been closed. */
static int leave_last(struct sink_file *file)
{
    bool has_zero = false, has_recorded_zero = false;

    int rc = twl_sink_sweep(file);
    const uint64_t end = area_offset(file->area);
    const uint64_t recorded = atomic_load(&file->area->recorded);
    if (rc == 0) /* in a lost area the end is wrong; the next opening has the real one */
        rc = twl_sink_check_length(file);
    if (rc == 0)
        rc = io_truncate(file->data, end);
    POINT("last one has cut");
    if (rc == 0)
        rc = twl_ends_in_zero(file->data, end, &has_zero);
    if (rc == 0)
        rc = twl_ends_in_zero(file->data, recorded, &has_recorded_zero);
    if (rc < 0)
        return rc;

    if (has_zero)
        atomic_store(&file->area->recorded, end);
    atomic_store(&file->area->is_closed, true);
    if (!has_zero && !has_recorded_zero && error_of_dead(file->area) == 0)
        remove_area(file);
    return 0;
}

int twl_sink_leave(struct sink_file *file)
{
    bool has_others = true;
    int rc = twl_lock_patiently(file->area_file, IO_LOCK_WRITER, true, LOCK_WAIT_MS);

    POINT("about to leave");
    if (rc == 0) /* a write that failed may have left its claim */
        rc = twl_sink_sweep_participant(file, file->number, true);
    if (rc == 0)
        rc = twl_area_has_others(file->area_file, 1, PARTICIPANTS, &has_others);
    if (rc == 0 && !has_others)
        rc = leave_last(file);
    POINT("left");
    forget(file);
    return rc;
}

/* ---- for an exact sink -------------------------------------------------------------------------------- */

/* Opens the same file once more: a participant stores into it, and its locks are those of one opening. */
static int open_again(struct io_file *data, const char *name, struct io_file **ret_data)
{
    struct stat given, found;

    const int rc = io_open(data->io, name, 0, ret_data);
    if (rc == -ENOENT)
        return FOUND_OTHER_FILE;
    if (rc < 0)
        return rc;

    if (fstat(io_file_fd(data), &given) < 0 || fstat(io_file_fd(*ret_data), &found) < 0)
        return -errno;
    if (given.st_ino != found.st_ino)
        return FOUND_OTHER_FILE;
    return twl_owner_check(*ret_data);
}

int twl_sink_finish(struct io_file *data, const char *name, uint32_t flags)
{
    const struct twinlog_sink_options options = { .flags = flags, .growth_bytes = 1 };
    struct sink_file *file = new_file(NULL, 0);

    if (!file)
        return -ENOMEM;

    int rc = open_again(data, name, &file->data);
    if (rc == 0)
        rc = twl_identity_of(file->data, &file->identity);
    if (rc == 0)
        rc = take_part(&options, file, name);
    if (rc != 0) {
        forget(file);
        return rc;
    }

    io_unlock(file->area_file, IO_LOCK_WRITER);
    return twl_sink_leave(file);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of an exact sink, its move to another file, its syncs, and its thread. The thread looks where the path
 * leads to, syncs at intervals, and leaves old files when they are synced; no write depends on it.
 */
#define _GNU_SOURCE
#include "sink/exact.h"
#include "base/base.h"
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define LOOK_NS (200 * MS)
#define ROTATE_AGAIN_NS (1000 * MS)
#define ROTATE_SOON_NS (10 * MS)
#define LEAVING_NS (500 * MS) /* longer than the thread of a sink takes to see that the path has changed */

static bool is_shared(const struct exact_sink *sink)
{
    return sink->options.flags & TWINLOG_SINK_SHARED;
}

static struct exact_file *present_file(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    struct exact_file *file = sink->file;
    twl_mutex_unlock(&sink->lock);
    return file;
}

/* ---- moving on to another file --------------------------------------------------------------------- */

/* Makes a file the present one. The one before becomes an old one: a line that it has in part is ended first, as other
 * processes may go on with it; this one writes no more lines there, and gives back its lock. */
static void put_in_place(struct exact_sink *sink, struct exact_file *next) REQUIRES(sink->moving)
{
    struct exact_file *before = NULL;

    twl_mutex_lock(&sink->lock);
    before = sink->file;
    sink->file = next;
    sink->end = next->data->opened_bytes;
    if (is_shared(sink)) /* the one that has made the file may be about to write its first bytes */
        sink->end = END_UNKNOWN;
    sink->expected_end = 0;
    sink->rotate_ns = 0;
    sink->is_full = false;
    if (before) {
        before->next = sink->old;
        sink->old = before;
        sink->old_files++;
        twl_exact_end_line(before);
        io_unlock(before->data, EXACT_LOCK);
    }

    twl_mutex_unlock(&sink->lock);
    sink->busy_since_ns = 0;
    atomic_store(&sink->rotation_error, 0); /* both were of the file before */
    twl_event_notify_all(&sink->wake);
}

/* Do new files begin faster than old ones are synced? Each old file keeps a descriptor, and its space. */
static bool has_many_old(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    const bool are_many = sink->old_files >= MOST_OPEN;
    twl_mutex_unlock(&sink->lock);
    return are_many;
}

static int move_on(struct exact_sink *sink, const struct exact_file *before) REQUIRES(sink->moving)
{
    struct exact_file *next;

    if (has_many_old(sink))
        return -EAGAIN;
    const int rc = twl_exact_enter(sink, before, &next);
    if (rc == 0)
        put_in_place(sink, next);
    return rc;
}

/* Where the path leads to, seen from the present file: see twl_sink_look(). Under `moving` that stays open. */
static int look_at_path(struct exact_sink *sink) REQUIRES(sink->moving)
{
    const struct exact_file *file = present_file(sink);

    return twl_sink_look(&sink->path, file->data, file->name);
}

/* Goes on in the file that the path leads to, if it is another one: 1. Without `may_make` there must be one. */
static int follow_path(struct exact_sink *sink, bool may_make)
{
    int rc = 0;

    twl_mutex_lock(&sink->moving);
    const int end = look_at_path(sink);
    const bool must_move = end == PATH_LEADS_ELSEWHERE || (end == PATH_LEADS_NOWHERE && may_make);
    if (must_move)
        rc = move_on(sink, present_file(sink));
    twl_mutex_unlock(&sink->moving);

    if (end < 0)
        return end;
    if (rc < 0)
        return rc;
    if (must_move || end == PATH_LEADS_HERE)
        atomic_store(&sink->news.path_error, 0);
    return must_move;
}

/* ---- rotation -------------------------------------------------------------------------------------- */

/* Would the file get too large? A larger write has a file of its own. */
static bool exceeds(const struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    const uint64_t most = sink->options.max_bytes;

    if (most == 0 || sink->end == 0)
        return false;
    return sink->end == END_UNKNOWN || sink->end + size > most;
}

/* Must the write go to the next file? 1, 0 or an error. What other programs have done to the file is asked only
 * here. */
static int needs_next(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    if (!exceeds(sink, size))
        return 0;

    const int rc = io_size(sink->file->data, &sink->end);
    if (rc < 0)
        return rc;
    return exceeds(sink, size) && twl_monotonic_ns() >= sink->rotate_ns;
}

/* Gives the present file the name NAME.1, if the path still leads to it, and goes on in the next one. */
static int shift_and_move_on(struct exact_sink *sink) REQUIRES(sink->moving)
{
    if (has_many_old(sink))
        return -EAGAIN;

    const struct exact_file *file = present_file(sink);
    struct exact_file *next = NULL;
    const int end = look_at_path(sink);
    int rc = 0;

    if (end < 0)
        return end;
    if (end == PATH_LEADS_HERE)
        rc = twl_exact_shift(sink, file, &next);
    if (rc < 0)
        return rc;
    if (!next)
        return move_on(sink, file);

    put_in_place(sink, next);
    return 0;
}

/* Another process that shares the sink may be about to rename the file itself, which this one may not be allowed to do,
 * or to leave the one before; or the old files are about to be synced. */
static bool may_pass_soon(const struct exact_sink *sink, int rc)
{
    const bool may_others_rotate = rc == -EBUSY || rc == -EPERM;

    return rc == -EAGAIN || (may_others_rotate && is_shared(sink));
}

/* Behind the try of a write, before another thread goes on. What may pass is no error before it has lasted for a
 * second, and is tried again soon. */
static void note_result(struct exact_sink *sink, int rc) REQUIRES(sink->moving)
{
    const uint64_t now_ns = twl_monotonic_ns();
    const bool is_busy = may_pass_soon(sink, rc);
    uint64_t wait_ns = ROTATE_AGAIN_NS;

    if (!is_busy)
        sink->busy_since_ns = 0;
    else if (sink->busy_since_ns == 0)
        sink->busy_since_ns = now_ns;

    const bool may_pass = is_busy && now_ns - sink->busy_since_ns < ROTATE_AGAIN_NS;
    if (may_pass)
        wait_ns = ROTATE_SOON_NS;
    else
        atomic_store(&sink->rotation_error, rc);
    if (rc == 0)
        return;

    twl_mutex_lock(&sink->lock);
    sink->rotate_ns = now_ns + wait_ns;
    twl_mutex_unlock(&sink->lock);
}

static bool is_too_early(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    const bool is_early = twl_monotonic_ns() < sink->rotate_ns;
    twl_mutex_unlock(&sink->lock);
    return is_early;
}

/* Where that cannot be done, the lines go into the present file, and it is tried again later: threads that have met the
 * same full file find that tried. With `is_wanted` it is tried at any time, and the caller alone is told. */
static int rotate(struct exact_sink *sink, struct exact_file *full, bool is_wanted)
{
    int rc = 0;

    POINT("full file found");
    twl_mutex_lock(&sink->moving);
    const bool must_try = present_file(sink) == full && (is_wanted || !is_too_early(sink));
    if (must_try) {
        rc = shift_and_move_on(sink);
        if (!is_wanted)
            note_result(sink, rc);
    }

    twl_mutex_unlock(&sink->moving);
    return rc;
}

/* For a call that is no write, and may wait for another process, or a sync. */
static int rotate_patiently(struct exact_sink *sink, struct exact_file *full)
{
    const uint64_t until_ns = twl_monotonic_ns() + LEAVING_NS;
    unsigned turns = 0;
    int rc = rotate(sink, full, true);

    while ((rc == -EBUSY || rc == -EAGAIN) && twl_monotonic_ns() < until_ns) {
        twl_wait_turn(&turns);
        rc = rotate(sink, full, true);
    }

    return rc;
}

/* A time that is still to come is of a clock that was ahead, and says nothing. The file was there when it was written
 * last, or, where that is still to come as well, is so now. */
static int correct_time_made(struct exact_file *file)
{
    const int64_t second = 1000000000, now_ns = file->io->ops->now_ns(file->io);
    struct stat about;

    if (file->made_ns <= now_ns)
        return 0;
    if (fstat(io_file_fd(file->data), &about) < 0)
        return -errno;

    file->made_ns = about.st_mtim.tv_sec * second + about.st_mtim.tv_nsec;
    if (file->made_ns > now_ns)
        file->made_ns = now_ns;
    return 0;
}

/* 1, 0 or an error. */
static int is_due(struct exact_file *file, int64_t made_before_ns)
{
    uint64_t bytes;

    int rc = correct_time_made(file);
    if (rc < 0)
        return rc;
    if (file->made_ns >= made_before_ns)
        return 0;

    rc = io_size(file->data, &bytes);
    if (rc < 0)
        return rc;
    return bytes > 0;
}

/* The present file in *ret_file, and whether it is due. */
static int look_whether_due(struct exact_sink *sink, int64_t made_before_ns, struct exact_file **ret_file)
{
    twl_mutex_lock(&sink->moving); /* so that the file stays the present one, which nobody leaves */
    *ret_file = present_file(sink);
    const int due = is_due(*ret_file, made_before_ns);
    twl_mutex_unlock(&sink->moving);
    return due;
}

static int rotate_if_due(struct exact_sink *sink, int64_t made_before_ns)
{
    struct exact_file *file;
    int moved = 0;

    if (is_shared(sink)) /* another process may have done it already */
        moved = follow_path(sink, false);
    if (moved < 0)
        return moved;

    const int due = look_whether_due(sink, made_before_ns, &file);
    if (due < 0)
        return due;
    if (due == 0)
        return moved;

    const int rc = rotate_patiently(sink, file);
    if (rc < 0)
        return rc;
    return 1;
}

int twl_exact_rotate(struct exact_sink *sink, int64_t made_before_ns)
{
    atomic_fetch_add(&sink->inside, 1);
    const int rc = rotate_if_due(sink, made_before_ns);
    atomic_fetch_sub(&sink->inside, 1);
    return rc;
}

/* ---- write ----------------------------------------------------------------------------------------- */

/* Goes on in the next file, if the write belongs there. Where that cannot be done, or found out, the file grows on. */
static void make_way(struct exact_sink *sink, size_t size) REQUIRES(sink->lock)
{
    int needs = needs_next(sink, size);

    while (needs > 0) {
        struct exact_file *full = sink->file;
        twl_mutex_unlock(&sink->lock);
        rotate(sink, full, false);
        twl_mutex_lock(&sink->lock);
        needs = needs_next(sink, size);
    }

    if (needs < 0)
        atomic_store(&sink->rotation_error, needs);
}

static int write_pieces(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                        bool is_offset_wanted) REQUIRES(sink->lock)
{
    if (size == 0)
        return io_size(sink->file->data, &sink->end);

    sink->is_dirty = true;
    const int rc = twl_exact_append(sink, pieces, count, size);
    if (rc < 0)
        return rc;
    if (!is_offset_wanted && sink->options.max_bytes == 0)
        return 0;

    const int found = twl_exact_tell(sink->file, &sink->end);
    if (is_offset_wanted)
        return found;
    return 0; /* a later write asks for the size of the file */
}

int twl_exact_write(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                    uint64_t *ret_offset)
{
    NOT_CANCELLED;
    atomic_fetch_add(&sink->inside, 1);
    twl_mutex_lock(&sink->lock);
    make_way(sink, size);
    const int rc = write_pieces(sink, pieces, count, size, ret_offset != NULL);
    if (rc == 0 && ret_offset)
        *ret_offset = sink->end - size;
    twl_mutex_unlock(&sink->lock);
    atomic_fetch_sub(&sink->inside, 1);
    return rc;
}

/* ---- sync ------------------------------------------------------------------------------------------ */

/* Syncs the bytes and, once, the name. An error that the kernel tells once is remembered. A sync that never ran, as
 * this process may not make it, is none, and may be tried again. */
static int sync_file(struct exact_sink *sink, struct exact_file *file) REQUIRES(sink->syncing)
{
    struct io *io = file->io;
    int rc = io_sync_data(file->data);

    POINT("exact sync done");
    if (rc == 0 && !file->has_durable_name) {
        rc = io->ops->sync_dir(io);
        if (rc == -EINVAL) /* such a directory cannot be synced */
            rc = 0;
        file->has_durable_name = rc == 0;
    }

    if (is_own_refusal(rc))
        return rc;
    if (rc < 0 && sink->sync_error == 0)
        sink->sync_error = lasting_error(rc);
    return sink->sync_error;
}

static struct exact_file *take_old(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    struct exact_file *old = sink->old;
    sink->old = NULL;
    twl_mutex_unlock(&sink->lock);
    return old;
}

static void keep_old(struct exact_sink *sink, struct exact_file *file)
{
    twl_mutex_lock(&sink->lock);
    file->next = sink->old;
    sink->old = file;
    twl_mutex_unlock(&sink->lock);
}

/* A file without a name is found by nobody after a power cut. What a rotation has removed may not be back after it: the
 * present file is newer, and the directory is synced with that. */
static bool has_name(const struct exact_file *file)
{
    struct stat about;

    return fstat(io_file_fd(file->data), &about) < 0 || about.st_nlink > 0;
}

/* Returns the error of its sync. *ret_must_stay: for another try, as the sync never ran, or as the file has a part of a
 * line that could not be ended. */
static int finish_old(struct exact_sink *sink, struct exact_file *file, bool *ret_must_stay)
    REQUIRES(sink->syncing)
{
    *ret_must_stay = false;
    if (!has_name(file))
        return 0;

    twl_exact_end_old_line(file);
    const int rc = sync_file(sink, file);
    *ret_must_stay = is_own_refusal(rc) || file->has_part;
    return rc;
}

static void leave_one(struct exact_sink *sink, struct exact_file *file)
{
    twl_exact_leave(file);
    twl_mutex_lock(&sink->lock);
    sink->old_files--;
    twl_mutex_unlock(&sink->lock);
}

/* Old files are synced and left: a later sync also covers them. One that must stay is kept in the list, but not without
 * limit, as it keeps a descriptor: of more files than MOST_OLD the refusal is remembered. Returns the first error of a
 * sync; none keeps the other files from being synced. */
static int leave_old(struct exact_sink *sink) REQUIRES(sink->syncing)
{
    struct exact_file *file = take_old(sink);
    unsigned kept = 0;
    int first = 0;

    while (file) {
        struct exact_file *const next = file->next;
        bool must_stay;

        const int rc = finish_old(sink, file, &must_stay);
        if (first == 0)
            first = rc;

        if (must_stay && kept < MOST_OLD) {
            keep_old(sink, file);
            kept++;
        } else {
            if (sink->sync_error == 0)
                sink->sync_error = rc;
            leave_one(sink, file);
        }

        file = next;
    }

    return first;
}

/* The present file, and in *ret_must whether it is to be synced: this process has written to it, or the caller wants to
 * have it synced in any case. What is written from now on is for a later sync. */
static struct exact_file *take_dirty(struct exact_sink *sink, bool is_wanted, bool *ret_must)
    REQUIRES(sink->syncing)
{
    twl_mutex_lock(&sink->lock);
    struct exact_file *file = sink->file;
    *ret_must = sink->is_dirty || is_wanted;
    sink->is_dirty = false;
    twl_mutex_unlock(&sink->lock);
    return file;
}

static void mark_dirty(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->lock);
    sink->is_dirty = true;
    twl_mutex_unlock(&sink->lock);
}

/* All files. A file that becomes an old one meanwhile was named before, and stays open, as its syncs are made under
 * `syncing`; one that had become so before is in the list. Returns the first error that was ever met. */
static int sync_all(struct exact_sink *sink, bool is_wanted) REQUIRES(sink->syncing)
{
    bool must_sync;
    int present = 0;

    struct exact_file *file = take_dirty(sink, is_wanted, &must_sync);
    if (must_sync)
        present = sync_file(sink, file);
    if (is_own_refusal(present))
        mark_dirty(sink); /* the next interval tries again */

    const int old = leave_old(sink);
    if (sink->sync_error < 0)
        return sink->sync_error;
    if (old < 0)
        return old;
    return present;
}

/* `is_wanted`: also what this process has not written. */
static int flush(struct exact_sink *sink, bool is_wanted)
{
    twl_mutex_lock(&sink->syncing);
    const int rc = sync_all(sink, is_wanted);
    twl_mutex_unlock(&sink->syncing);
    return rc;
}

static void retire(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->syncing);
    leave_old(sink);
    twl_mutex_unlock(&sink->syncing);
}

int twl_exact_sync(struct exact_sink *sink)
{
    int moved = 0;

    atomic_fetch_add(&sink->inside, 1);
    if (has_many_old(sink)) /* else it could not move on */
        retire(sink);
    if (is_shared(sink)) /* others may have written to the next file already */
        moved = follow_path(sink, false);
    const int rc = flush(sink, true);
    atomic_fetch_sub(&sink->inside, 1);
    if (rc < 0)
        return rc;
    if (moved < 0)
        return moved;
    return 0;
}

int twl_exact_reopen(struct exact_sink *sink)
{
    atomic_fetch_add(&sink->inside, 1);
    const int rc = follow_path(sink, true);
    sink_news_of_reopen(&sink->news, rc);
    atomic_fetch_sub(&sink->inside, 1);
    return rc;
}

/* ---- the thread ------------------------------------------------------------------------------------ */

static bool is_missing_now(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->moving);
    const int end = look_at_path(sink);
    twl_mutex_unlock(&sink->moving);
    return end == PATH_LEADS_NOWHERE;
}

static void look(struct exact_sink *sink, bool *was_missing)
{
    const bool is_missing = is_missing_now(sink);

    /* a program that renames the file may be about to make the next one itself */
    sink_news_of_look(&sink->news, follow_path(sink, is_missing && *was_missing));
    *was_missing = is_missing;
    twl_mutex_lock(&sink->lock);
    twl_exact_limit(sink);
    twl_mutex_unlock(&sink->lock);
}

/* Lets the kernel begin to write what was written to its cache, so that a sync has little to wait for: with 200 MB a
 * second and a sync each second, the longest write took 10 ms, and 37 without. This tells no error, and takes none from
 * a sync. */
static void write_out(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->syncing); /* so that nobody leaves the file meanwhile */
    twl_mutex_lock(&sink->lock);
    const struct exact_file *file = sink->file;
    const bool is_dirty = sink->is_dirty;
    twl_mutex_unlock(&sink->lock);
    if (is_dirty)
        sync_file_range(io_file_fd(file->data), 0, 0, SYNC_FILE_RANGE_WRITE);
    twl_mutex_unlock(&sink->syncing);
}

static void *run(void *context)
{
    struct exact_sink *sink = context;
    const uint64_t interval_ns = sink->options.flush_interval_ms * MS;
    uint64_t look_ns = 0, flush_ns = UINT64_MAX;
    bool was_missing = false;

    if (interval_ns > 0)
        flush_ns = twl_monotonic_ns() + interval_ns;

    for (;;) {
        const uint32_t seen = twl_event_value(&sink->wake);
        if (atomic_load(&sink->must_stop))
            return NULL;

        const uint64_t now_ns = twl_monotonic_ns();
        if (now_ns >= look_ns) {
            look(sink, &was_missing);
            if (interval_ns > LOOK_NS)
                write_out(sink);
            look_ns = now_ns + LOOK_NS;
        }

        if (now_ns >= flush_ns) {
            sink_news_of_flush(&sink->news, flush(sink, false));
            flush_ns = now_ns + interval_ns;
        }

        retire(sink);
        twl_event_sleep_until(&sink->wake, seen, min_u64(look_ns, flush_ns));
    }
}

/* ---- open and close -------------------------------------------------------------------------------- */

/* A part of a line that is still there is ended, if that can be done now. */
static void free_sink(struct exact_sink *sink)
{
    for (struct exact_file *file = sink->old, *next; file; file = next) {
        next = file->next;
        twl_exact_end_old_line(file);
        twl_exact_leave(file);
    }

    if (sink->file) {
        twl_exact_end_line(sink->file);
        twl_exact_leave(sink->file);
    }
    twl_mutex_destroy(&sink->moving);
    twl_mutex_destroy(&sink->syncing);
    twl_mutex_destroy(&sink->lock);
    free(sink->path.text);
    free(sink);
}

static int start(struct exact_sink *sink, struct sink_path absolute)
{
    twl_mutex_lock(&sink->moving);
    int rc = move_on(sink, NULL);
    twl_mutex_unlock(&sink->moving);
    free(sink->path.text);
    sink->path = absolute;
    twl_mutex_lock(&sink->lock);
    twl_exact_limit(sink);
    twl_mutex_unlock(&sink->lock);
    if (rc == 0)
        rc = twl_thread_start(&sink->thread, run, sink);
    return rc;
}

int twl_exact_open(const char *path, const struct twinlog_sink_options *options, struct exact_sink **ret_sink)
{
    struct exact_sink *sink = calloc(1, sizeof(*sink));
    int rc;

    if (!sink)
        return -ENOMEM;

    sink->options = *options;
    twl_mutex_init(&sink->moving);
    twl_mutex_init(&sink->syncing);
    twl_mutex_init(&sink->lock);
    struct sink_path absolute = { 0 };
    rc = twl_sink_take_path(path, &absolute);
    sink->path.text = strdup(path);
    if (rc == 0 && sink->path.text) {
        rc = start(sink, absolute);
    } else {
        free(absolute.text);
        rc = -ENOMEM;
    }

    if (rc < 0)
        free_sink(sink);
    else
        *ret_sink = sink;
    return rc;
}

int twl_exact_close(struct exact_sink *sink)
{
    unsigned turns = 0;

    atomic_store(&sink->must_stop, true);
    while (atomic_load(&sink->inside) > 0)
        twl_wait_turn(&turns);
    twl_event_notify_all(&sink->wake);
    pthread_join(sink->thread, NULL);
    free_sink(sink);
    return 0;
}

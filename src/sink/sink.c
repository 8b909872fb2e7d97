/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions of sinks, their options, the lanes and the thread of a mapped one. If the file has too little
 * room for a write, or the next file is due, the write sees to that and tries to claim again.
 */
#define _GNU_SOURCE
#include "sink/sink.h"
#include "base/point.h"
#include "base/versioned.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_WRITE (UINT64_C(1) << 30)
#define AHEAD_BYTES (UINT64_C(2) << 20)
#define MS UINT64_C(1000000)
#define LOOK_NS (200 * MS)

#define DEFAULT_INITIAL_BYTES (UINT64_C(10) << 20)
#define DEFAULT_GROWTH_BYTES (UINT64_C(64) << 20)
#define DEFAULT_KEEP_FILES 5u
#define MAX_KEEP_FILES 9999u
#define ALL_FLAGS                                                                                            \
    ((uint32_t)(TWINLOG_SINK_SHARED | TWINLOG_SINK_DROP_ZEROS | TWINLOG_SINK_MAPPED | TWINLOG_SINK_LINES))

/* ---- lanes: taken with one atomic operation on a line that is mostly the thread's own --------------- */

static _Atomic unsigned threads;           /* that ever took a lane of a sink */
static _Thread_local unsigned thread_lane; /* the first lane to try, from 1; 0 = not chosen yet */

static bool try_take(_Atomic uint64_t *lane)
{
    uint64_t turn = atomic_load_explicit(lane, memory_order_relaxed);
    return turn % 2 == 0 && atomic_compare_exchange_strong(lane, &turn, turn + 1);
}

static unsigned wait_for_lane(struct twinlog_sink *sink)
{
    unsigned turns = 0;

    atomic_fetch_add(&sink->without_lane, 1);
    for (unsigned tries = 1; !try_take(&sink->lanes[thread_lane - 1].turn); tries++) {
        thread_lane = thread_lane % SLOTS + 1;
        if (tries % SLOTS == 0)
            twl_wait_turn(&turns);
    }

    atomic_fetch_sub(&sink->without_lane, 1);
    return thread_lane - 1;
}

unsigned twl_lane_take(struct twinlog_sink *sink)
{
    if (thread_lane == 0)
        thread_lane = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % SLOTS + 1;
    if (try_take(&sink->lanes[thread_lane - 1].turn))
        return thread_lane - 1;
    return wait_for_lane(sink);
}

void twl_lane_leave(struct twinlog_sink *sink, unsigned lane)
{
    _Atomic uint64_t *turn = &sink->lanes[lane].turn;
    atomic_store_explicit(turn, atomic_load_explicit(turn, memory_order_relaxed) + 1, memory_order_release);
}

void twl_lanes_look(struct lane lanes[SLOTS], uint64_t ret_turns[SLOTS])
{
    for (unsigned i = 0; i < SLOTS; i++)
        ret_turns[i] = atomic_load(&lanes[i].turn);
}

bool twl_lanes_have_passed(struct lane lanes[SLOTS], const uint64_t turns[SLOTS])
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (turns[i] % 2 == 1 && atomic_load(&lanes[i].turn) == turns[i])
            return false;
    return true;
}

/* ---- write --------------------------------------------------------------------------------------- */

static int check(const struct twinlog_sink *sink)
{
    if (!sink)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&sink->guard))
        return TWINLOG_EFORKED;
    return 0;
}

/* Removes what kept the claim from being made, if that can be done. */
static int make_way(struct twinlog_sink *sink, struct sink_file *file, enum claim_result result, size_t size)
{
    NOT_CANCELLED;
    if (result == CLAIM_NEEDS_NEXT)
        return twl_sink_move_on(sink, file, true);

    int rc = -EIO; /* the area is lost */
    if (result == CLAIM_NEEDS_ROOM)
        rc = twl_sink_grow(file, area_offset(file->area) + size);
    twl_event_notify_all(&sink->wake);
    if (rc == -EIO)
        return twl_sink_fail(sink, rc);
    return rc;
}

/* Copies the pieces into the range. 1: some of them were written instead; an error: the range is not all there. */
static int copy_pieces(struct sink_file *file, unsigned lane, uint64_t start, const struct iovec *pieces,
                       int count)
{
    int has_written = 0;

    for (int i = 0; i < count; i++) {
        const int rc = twl_window_store(file, lane, start, pieces[i].iov_base, pieces[i].iov_len);
        if (rc < 0)
            return rc;
        if (rc > 0)
            has_written = 1;
        start += pieces[i].iov_len;
    }

    return has_written;
}

/* The range becomes spaces and a newline, now or in a later sweep of any process. */
static int fail(struct twinlog_sink *sink, struct sink_file *file, struct slot *slot)
{
    NOT_CANCELLED;
    twl_claim_end(slot, CLAIM_FAILED);
    twl_sink_sweep(file);
    return twl_sink_fail(sink, -EIO);
}

/* Behind a write that has begun a step: the thread makes the pages of the next ones present, and so does this write in
 * case that the thread gets no processor. What was written, not copied, needs no pages. */
static void prepare_next_step(struct twinlog_sink *sink, struct sink_file *file, unsigned lane, uint64_t end,
                              bool was_written)
{
    NOT_CANCELLED;
    atomic_store(&sink->is_written, was_written);
    twl_event_notify_all(&sink->wake);
    if (!was_written)
        twl_window_populate(file, lane, end, align_down(end, STEP_BYTES) + 2 * STEP_BYTES);
}

static int append(struct twinlog_sink *sink, unsigned lane, const struct iovec *pieces, int count,
                  size_t size, uint64_t *ret_start)
{
    for (;;) {
        struct sink_file *file = atomic_load(&sink->file);
        const unsigned owner = area_owner(file->number, lane);
        const enum claim_result result = twl_claim(file->area, owner, size, file->max_bytes, ret_start);
        if (result != CLAIM_MADE) {
            const int rc = make_way(sink, file, result, size);
            if (rc < 0)
                return rc;
            continue;
        }

        const int rc = copy_pieces(file, lane, *ret_start, pieces, count);
        POINT("copy done");
        if (rc < 0)
            return fail(sink, file, area_slot(file->area, owner));

        twl_claim_end(area_slot(file->area, owner), CLAIM_FREE);
        POINT("claim done");
        const uint64_t end = *ret_start + size;
        const bool has_begun_step = (*ret_start ^ end) >= STEP_BYTES;
        if (has_begun_step)
            prepare_next_step(sink, file, lane, end, rc > 0);
        return 0;
    }
}

/* Lets the thread leave old files for a moment. It waits for the lanes, so this is done without one. */
static void wait_without_lane(struct twinlog_sink *sink, unsigned *lane, unsigned *turns)
{
    atomic_fetch_add(&sink->without_lane, 1);
    twl_lane_leave(sink, *lane);
    twl_event_notify_all(&sink->wake);
    twl_wait_turn(turns);
    *lane = twl_lane_take(sink);
    atomic_fetch_sub(&sink->without_lane, 1);
}

/* Tries again while the old files wait for their syncs, which the disk may be slower to make than threads fill files.
 * -EAGAIN: none was left for so long. */
static int append_patiently(struct twinlog_sink *sink, unsigned *lane, const struct iovec *pieces, int count,
                            size_t size, uint64_t *ret_start)
{
    NOT_CANCELLED;
    const uint64_t until_ns = twl_monotonic_ns() + LOCK_WAIT_MS * MS;
    unsigned turns = 0;
    int rc = -EAGAIN;

    while (rc == -EAGAIN && twl_monotonic_ns() < until_ns) {
        wait_without_lane(sink, lane, &turns);
        rc = append(sink, *lane, pieces, count, size, ret_start);
    }

    return rc;
}

static int write_pieces(struct twinlog_sink *sink, const struct iovec *pieces, int count, size_t size,
                        uint64_t *ret_offset)
{
    uint64_t start = 0;
    unsigned lane = twl_lane_take(sink);
    /* relaxed: a thread that failed in this lane has left it since */
    int rc = atomic_load_explicit(&sink->error, memory_order_relaxed);

    if (size == 0)
        start = area_offset(atomic_load(&sink->file)->area);
    else if (rc == 0)
        rc = append(sink, lane, pieces, count, size, &start);
    if (rc == -EAGAIN)
        rc = append_patiently(sink, &lane, pieces, count, size, &start);
    twl_lane_leave(sink, lane);
    if (rc == 0 && ret_offset)
        *ret_offset = start;
    return rc;
}

int twinlog_sink_writev(struct twinlog_sink *sink, const struct iovec *pieces, int count,
                        uint64_t *ret_offset)
{
    size_t size = 0;

    const int rc = check(sink);
    if (rc < 0)
        return rc;
    if (count < 0 || (!pieces && count > 0))
        return -EINVAL;

    for (int i = 0; i < count; i++) {
        if (!pieces[i].iov_base && pieces[i].iov_len > 0)
            return -EINVAL;
        if (pieces[i].iov_len > MAX_WRITE - size)
            return -EMSGSIZE;

        size += pieces[i].iov_len;
    }

    if (sink->exact)
        return twl_exact_write(sink->exact, pieces, count, size, ret_offset);
    return write_pieces(sink, pieces, count, size, ret_offset);
}

int twinlog_sink_write(struct twinlog_sink *sink, const void *data, size_t size, uint64_t *ret_offset)
{
    const struct iovec piece = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
    return twinlog_sink_writev(sink, &piece, 1, ret_offset);
}

/* ---- sync, reopen, end --------------------------------------------------------------------------- */

int twinlog_sink_sync(struct twinlog_sink *sink)
{
    NOT_CANCELLED;
    int rc = check(sink);
    if (rc < 0)
        return rc;
    if (sink->exact)
        return twl_exact_sync(sink->exact);

    atomic_fetch_add(&sink->without_lane, 1); /* instead of a lane, because a sync may wait */
    rc = atomic_load(&sink->error);
    if (twl_sink_has_many_old(sink)) /* else it could not move on */
        twl_sink_retire(sink, false);
    if (rc == 0)
        rc = twl_sink_flush_all(sink, true);
    atomic_fetch_sub(&sink->without_lane, 1);
    return rc;
}

int twinlog_sink_reopen(struct twinlog_sink *sink)
{
    NOT_CANCELLED;
    int rc = check(sink);
    if (rc < 0)
        return rc;
    if (sink->exact)
        return twl_exact_reopen(sink->exact);

    const unsigned lane = twl_lane_take(sink);
    rc = twl_sink_follow_path(sink, true);
    sink_news_of_reopen(&sink->news, rc);
    twl_lane_leave(sink, lane);
    return rc;
}

int twinlog_sink_rotate(struct twinlog_sink *sink, int64_t made_before_ns)
{
    NOT_CANCELLED;
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    if (sink->exact)
        return twl_exact_rotate(sink->exact, made_before_ns);
    return -ENOTSUP;
}

static const struct sink_news *news_of(const struct twinlog_sink *sink)
{
    return sink->exact ? &sink->exact->news : &sink->news;
}

int twinlog_sink_rotation_error(const struct twinlog_sink *sink)
{
    int rc = check(sink);
    if (rc < 0)
        return rc;

    rc = atomic_load(&news_of(sink)->path_error);
    if (rc == 0 && sink->exact)
        rc = atomic_load(&sink->exact->rotation_error);
    return rc;
}

int twinlog_sink_sync_error(const struct twinlog_sink *sink)
{
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    return atomic_load(&news_of(sink)->flush_error);
}

/* ---- the thread: no write depends on it; what it meets is told to a caller that asks ---------------------- */

/* A close waits for this, and what it has made present by then is thrown away. */
static void prepare_ahead(struct twinlog_sink *sink, struct sink_file *file, unsigned lane)
{
    const uint64_t offset = area_offset(file->area), bytes = atomic_load(&file->area->file_bytes);
    const uint64_t step = min_u64(bytes / 2, file->area->growth_bytes); /* about the size of the last step */
    const bool is_full_grown = file->max_bytes > 0 && bytes >= file->max_bytes;

    if (!is_full_grown && bytes - min_u64(offset, bytes) < step / 2)
        twl_sink_grow(file, bytes + 1);
    if (atomic_load(&sink->is_written))
        return;

    for (uint64_t ahead = STEP_BYTES; ahead <= AHEAD_BYTES; ahead += STEP_BYTES) {
        if (atomic_load(&sink->must_stop))
            return;
        twl_window_populate(file, lane, offset, offset + ahead);
    }
}

/* Other programs see by the time of a file that it has changed: copies, builds, those that follow it. */
static void touch_if_written(struct sink_file *file)
{
    const uint64_t offset = area_offset(file->area);
    if (offset != file->touched)
        twl_window_touch(file);
    file->touched = offset;
}

static void *run(void *context)
{
    struct twinlog_sink *sink = context;
    const uint64_t interval_ns = sink->options.flush_interval_ms * MS;
    uint64_t look_ns = 0, flush_ns = UINT64_MAX;

    if (interval_ns > 0)
        flush_ns = twl_monotonic_ns() + interval_ns;

    for (;;) {
        const uint32_t seen = twl_event_value(&sink->wake);
        if (atomic_load(&sink->must_stop))
            return NULL;

        const uint64_t now_ns = twl_monotonic_ns();
        const unsigned lane = twl_lane_take(sink);
        prepare_ahead(sink, atomic_load(&sink->file), lane);
        if (now_ns >= look_ns) {
            touch_if_written(atomic_load(&sink->file));
            twl_sink_sweep(atomic_load(&sink->file));
            sink_news_of_look(&sink->news, twl_sink_follow_path(sink, true));
            look_ns = now_ns + LOOK_NS;
        }

        twl_lane_leave(sink, lane);
        if (now_ns >= flush_ns) {
            sink_news_of_flush(&sink->news, twl_sink_flush_all(sink, false));
            flush_ns = now_ns + interval_ns;
        }

        twl_sink_retire(sink, false);
        twl_event_sleep_until(&sink->wake, seen, min_u64(look_ns, flush_ns));
    }
}

/* ---- options --------------------------------------------------------------------------- */

static bool are_right(const struct twinlog_sink_options *o)
{
    const bool is_mapped = o->flags & TWINLOG_SINK_MAPPED;
    const bool has_sizes = o->initial_bytes > 0 || o->growth_bytes > 0;

    if ((o->flags & ~ALL_FLAGS) != 0)
        return false;
    if (o->keep_files > MAX_KEEP_FILES)
        return false;
    if (o->initial_bytes >= OFFSET_LIMIT || o->growth_bytes >= OFFSET_LIMIT)
        return false;

    /* Only mapped files are made longer ahead of the writes. */
    if (has_sizes && !is_mapped)
        return false;

    /* Only exact files hold back what is no whole line. */
    if ((o->flags & TWINLOG_SINK_LINES) && is_mapped)
        return false;

    /* Processes that share a mapped file do not rotate it. */
    return o->max_bytes == 0 || !(o->flags & TWINLOG_SINK_SHARED) || !is_mapped;
}

static int normalise(const struct twinlog_sink_options *options, struct twinlog_sink_options *ret_options)
{
    struct twinlog_sink_options o;

    if (twl_versioned_take(&o, sizeof(o), options) < 0 || !are_right(&o))
        return -EINVAL;

    if (o.initial_bytes == 0)
        o.initial_bytes = DEFAULT_INITIAL_BYTES;
    if (o.growth_bytes == 0)
        o.growth_bytes = DEFAULT_GROWTH_BYTES;
    if (o.keep_files == 0)
        o.keep_files = DEFAULT_KEEP_FILES;
    if (o.max_bytes > 0)
        o.initial_bytes = min_u64(o.initial_bytes, o.max_bytes);
    *ret_options = o;
    return 0;
}

/* ---- open and close ------------------------------------------------------------------------------ */

static void free_sink(struct twinlog_sink *sink)
{
    if (sink->io)
        sink->io->ops->destroy(sink->io);
    free(sink->path.text);
    twl_mutex_destroy(&sink->lock);
    twl_mutex_destroy(&sink->retiring);
    free(sink);
}

static int start(struct twinlog_sink *sink, const char *path)
{
    const struct sink_path given = { .text = (char *)(uintptr_t)path };
    struct sink_file *file = NULL;

    int rc = twl_sink_take_path(path, &sink->path);
    if (rc == 0)
        rc = twl_sink_resolve_path(&given, &sink->io, sink->name);
    if (rc == 0 && sink->options.max_bytes > 0)
        rc = twl_sink_check_number(sink->io, sink->name, sink->options.keep_files);
    if (rc == 0)
        rc = twl_sink_enter(sink, &file);
    if (rc < 0)
        return rc;

    atomic_store(&sink->file, file);
    rc = twl_sink_grow(file, sink->options.initial_bytes);
    twl_mapping_install();
    if (rc == 0)
        rc = twl_thread_start(&sink->thread, run, sink);
    if (rc < 0)
        twl_sink_leave(file);
    return rc;
}

static int open_kind(struct twinlog_sink *sink, const char *path)
{
    if (sink->options.flags & TWINLOG_SINK_MAPPED)
        return start(sink, path);
    return twl_exact_open(path, &sink->options, &sink->exact);
}

int twinlog_sink_open(const char *path, const struct twinlog_sink_options *options,
                      struct twinlog_sink **ret_sink)
{
    NOT_CANCELLED;
    struct twinlog_sink_options normal;
    if (!path || !ret_sink || normalise(options, &normal) < 0)
        return -EINVAL;
    if (path[0] == '\0')
        return -ENOENT;

    struct twinlog_sink *sink = aligned_alloc(_Alignof(struct twinlog_sink), sizeof(*sink));
    if (!sink)
        return -ENOMEM;

    memset(sink, 0, sizeof(*sink));
    sink->options = normal;
    twl_mutex_init(&sink->lock);
    twl_mutex_init(&sink->retiring);
    int rc = twl_fork_guard_init(&sink->guard);
    if (rc == 0)
        rc = open_kind(sink, path);
    if (rc < 0)
        free_sink(sink);
    else
        *ret_sink = sink;
    return rc;
}

static void wait_for_calls(struct twinlog_sink *sink)
{
    uint64_t lane_turns[SLOTS];
    unsigned turns = 0;

    while (atomic_load(&sink->without_lane) > 0)
        twl_wait_turn(&turns);
    twl_lanes_look(sink->lanes, lane_turns); /* after the threads that waited for a lane have one */
    while (!twl_lanes_have_passed(sink->lanes, lane_turns))
        twl_wait_turn(&turns);
}

int twinlog_sink_close(struct twinlog_sink *sink)
{
    NOT_CANCELLED;
    if (!sink)
        return 0;
    if (check(sink) == TWINLOG_EFORKED)
        return TWINLOG_EFORKED;
    if (sink->exact) {
        const int rc = twl_exact_close(sink->exact);
        free_sink(sink);
        return rc;
    }

    atomic_store(&sink->must_stop, true); /* one of the calls may be of the thread */
    wait_for_calls(sink);
    twl_event_notify_all(&sink->wake);
    pthread_join(sink->thread, NULL);
    const int retired = twl_sink_retire(sink, true), left = twl_sink_leave(atomic_load(&sink->file));
    free_sink(sink);
    if (retired < 0)
        return retired;
    return left;
}

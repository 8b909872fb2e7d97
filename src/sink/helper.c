/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work beside the writes: reserves room ahead of the cursor, makes pages present before they are needed,
 * syncs at intervals, sweeps dead participants, and checks whether the file was renamed. No write depends on
 * it, so an error here is left to the write that needs the result.
 */
#define _GNU_SOURCE
#include "sink/sink.h"

#include "io/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#define MS UINT64_C(1000000)
#define SWEEP_NS (200 * MS)
#define LOOK_NS (1000 * MS)
#define AHEAD_BYTES (UINT64_C(2) << 20)

static uint64_t coarse_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what there is to do ------------------------------------------------------------------------- */

int twl_sink_look_at_name(struct twinlog_sink *sink)
{
    struct sink_file *file = atomic_load(&sink->file);
    struct stat named;
    if (twl_sink_has_name(sink, sink->name, file->data_fd))
        return 0;
    if (fstatat(sink->dir, sink->name, &named, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
        return -errno;
    const int rc = twl_sink_move_on(sink, file, false);
    return rc < 0 ? rc : 1;
}

/* A close waits for this, and what it has made present by then is thrown away. */
static void prepare_ahead(struct twinlog_sink *sink, struct sink_file *file)
{
    const uint64_t offset = area_offset(file->area), bytes = atomic_load(&file->area->file_bytes);
    const uint64_t step = min_u64(bytes / 2, file->area->growth_bytes); /* about the size of the last step */
    const bool is_full_grown = file->area->max_bytes > 0 && bytes >= file->area->max_bytes;
    if (!is_full_grown && bytes - min_u64(offset, bytes) < step / 2)
        twl_sink_grow(file, bytes + 1);
    for (uint64_t ahead = STEP_BYTES; ahead <= AHEAD_BYTES && !atomic_load(&sink->must_stop);
         ahead += STEP_BYTES)
        twl_window_populate(file, offset, offset + ahead);
}

/* True if the time has come, and no other thread has taken the work. */
static bool is_due(_Atomic uint64_t *due_ns, uint64_t now_ns, uint64_t interval_ns)
{
    uint64_t due = atomic_load_explicit(due_ns, memory_order_relaxed);
    return now_ns >= due && atomic_compare_exchange_strong(due_ns, &due, now_ns + interval_ns);
}

static void look_around(struct twinlog_sink *sink, uint64_t now_ns)
{
    struct sink_file *file = atomic_load(&sink->file);
    if (is_due(&sink->sweep_ns, now_ns, SWEEP_NS))
        twl_sink_sweep(file);
    if (is_due(&sink->flush_ns, now_ns, sink->options.flush_interval_ms * MS))
        twl_sink_flush_all(sink, false);
    if (is_due(&sink->look_ns, now_ns, LOOK_NS)) {
        twl_sink_look_at_name(sink);
        if (twl_sink_check_length(atomic_load(&sink->file)) == -EIO)
            twl_sink_fail(sink, -EIO);
    }
}

void twl_sink_tend(struct twinlog_sink *sink, unsigned lane)
{
    const uint64_t now_ns = coarse_ns();
    if (now_ns < atomic_load_explicit(&sink->look_ns, memory_order_relaxed) &&
        now_ns < atomic_load_explicit(&sink->flush_ns, memory_order_relaxed))
        return;
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    look_around(sink, now_ns);
    twl_sink_retire(sink, false, lane);
    pthread_setcancelstate(cancel_state, NULL);
}

/* ---- the thread ---------------------------------------------------------------------------------- */

static void *run(void *context)
{
    struct twinlog_sink *sink = context;
    for (;;) {
        const uint32_t seen = twl_event_value(&sink->wake);
        if (atomic_load(&sink->must_stop))
            return NULL;
        const unsigned lane = twl_lane_take(sink);
        prepare_ahead(sink, atomic_load(&sink->file));
        look_around(sink, twl_monotonic_ns());
        twl_lane_leave(sink, lane);
        twl_sink_retire(sink, false, SLOTS);
        twl_event_sleep_until(&sink->wake, seen,
                              min_u64(atomic_load(&sink->sweep_ns), atomic_load(&sink->flush_ns)));
    }
}

int twl_helper_start(struct twinlog_sink *sink)
{
    twl_mapping_install();
    return twl_thread_start(&sink->thread, run, sink);
}

void twl_helper_stop(struct twinlog_sink *sink)
{
    if (!sink->has_thread)
        return;
    twl_event_notify_all(&sink->wake);
    pthread_join(sink->thread, NULL);
}

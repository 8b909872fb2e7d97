/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of a sink, for work beside the writes: reserves room ahead of the cursor, makes pages present before they
 * are needed, syncs at intervals, sweeps dead participants, checks whether the file was renamed, and leaves old files.
 * No write depends on it, so an error here is left to the write that needs the result.
 */
#define _GNU_SOURCE
#include "sink/sink.h"

#define MS UINT64_C(1000000)
#define LOOK_NS (200 * MS)
#define AHEAD_BYTES (UINT64_C(2) << 20)

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

void *twl_helper_run(void *context)
{
    struct twinlog_sink *sink = context;
    const uint64_t interval_ns = sink->options.flush_interval_ms * MS;
    uint64_t look_ns = 0, flush_ns = interval_ns > 0 ? twl_monotonic_ns() + interval_ns : UINT64_MAX;
    for (;;) {
        const uint32_t seen = twl_event_value(&sink->wake);
        if (atomic_load(&sink->must_stop))
            return NULL;
        const uint64_t now_ns = twl_monotonic_ns();
        const unsigned lane = twl_lane_take(sink);
        prepare_ahead(sink, atomic_load(&sink->file));
        if (now_ns >= look_ns) {
            twl_sink_sweep(atomic_load(&sink->file));
            twl_sink_look_at_name(sink);
            look_ns = now_ns + LOOK_NS;
        }
        twl_lane_leave(sink, lane);
        if (now_ns >= flush_ns) {
            twl_sink_flush_all(sink, false);
            flush_ns = now_ns + interval_ns;
        }
        twl_sink_retire(sink, false);
        twl_event_sleep_until(&sink->wake, seen, min_u64(look_ns, flush_ns));
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog itself: blocking appends on one log.
 *
 * Unless it is to be fresh, the log asks for enough full-size segments to hold the whole round and
 * open waits until they are there, as they would be in a log that has run for a while; otherwise the
 * first second measures the preparation of segments as well.
 */
#include "peer.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <twinlog.h>

#define DEFAULT_SEGMENT_BYTES (UINT64_C(64) << 20)
#define MAX_SPARES 64u
#define DEFAULT_MAX_RECORD (4u << 20)
#define PATIENCE_TRIES 6000 /* pauses without a new segment: half a minute */
#define PAUSE_NS 5000000

static void read_stat(struct twinlog *log, struct twinlog_stat *ret_stat)
{
    *ret_stat = (struct twinlog_stat)TWINLOG_STAT_INIT;
    twinlog_stat(log, ret_stat);
}

static uint32_t spares_for(const struct peer_setup *setup)
{
    if (setup->twinlog.is_fresh)
        return 0;
    if (setup->twinlog.spares)
        return setup->twinlog.spares;
    uint64_t segment = setup->twinlog.segment_bytes ? setup->twinlog.segment_bytes : DEFAULT_SEGMENT_BYTES;
    uint64_t wanted = setup->expected_bytes / segment + 1;
    return wanted < MAX_SPARES ? (uint32_t)wanted : MAX_SPARES;
}

static int wait_for_spares(struct twinlog *log, uint32_t wanted)
{
    const struct timespec pause = { 0, PAUSE_NS };
    struct twinlog_stat stat;
    uint32_t seen = 0;

    for (unsigned tries = 0; tries < PATIENCE_TRIES; tries++) {
        read_stat(log, &stat);
        if (stat.spare_segments >= wanted)
            return 0;
        if (stat.spare_segments > seen)
            tries = 0;
        seen = stat.spare_segments;
        nanosleep(&pause, NULL);
    }
    return -ENOSPC; /* the library tells why only when it needs the segment; room is the likely one */
}

static int open_log(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    (void)peer;
    const struct twinlog_setup *wanted = &setup->twinlog;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    options.flags = (wanted->is_padded ? (uint32_t)TWINLOG_PAD : 0) |
                    (wanted->is_buffered ? (uint32_t)TWINLOG_BUFFERED : 0) |
                    (wanted->is_not_recycling ? (uint32_t)TWINLOG_NO_RECYCLE : 0) |
                    (wanted->is_threadless ? (uint32_t)TWINLOG_NO_THREAD : 0);
    options.io = wanted->io;
    options.segment_bytes = wanted->segment_bytes;
    options.buffer_bytes = wanted->buffer_bytes;
    options.max_record_bytes = setup->largest_record > DEFAULT_MAX_RECORD ? setup->largest_record : 0;
    options.spare_segments = spares_for(setup);
    options.keep_bytes = wanted->keep_bytes;

    int error = twinlog_open(setup->dir, &options, &log);
    if (error)
        return error;
    error = wait_for_spares(log, options.spare_segments);
    *ret_state = log;
    if (error)
        twinlog_close(log);
    return error;
}

static int append(void *state, unsigned thread, const struct twinlog_entry *records, unsigned count,
                  enum append_level level)
{
    const struct twinlog_terms written = { .size = sizeof(written), .level = TWINLOG_LEVEL_WRITTEN };
    (void)thread;
    switch (level) {
    case APPEND_BATCH:
        return twinlog_append_batch(state, records, count, NULL, NULL);
    case APPEND_WRITTEN:
        return twinlog_append_batch(state, records, count, &written, NULL);
    case APPEND_BUFFERED:
        return twinlog_enqueue(state, records->data, records->size, NULL);
    default:
        return twinlog_append(state, records->data, records->size, NULL);
    }
}

static void count(void *state, struct peer_counters *ret_counters)
{
    struct twinlog_stat stat;
    read_stat(state, &stat);
    *ret_counters = (struct peer_counters){
        .appends = stat.appends,
        .append_bytes = stat.append_bytes,
        .syncs = stat.groups,
        .framed_bytes = stat.group_bytes,
        .written_bytes = stat.written_bytes,
        .rolls = stat.rolls,
        .roll_waits = stat.roll_waits,
        .recycled = stat.recycled_segments,
    };
}

static int close_log(void *state)
{
    return twinlog_close(state);
}

const struct peer peer_twinlog = {
    .name = "twinlog",
    .what = "twinlog_append()",
    .open = open_log,
    .append = append,
    .count = count,
    .close = close_log,
    .explain = twinlog_strerror,
};

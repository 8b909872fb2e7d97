/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog itself: blocking appends on one log; and among the plain files, in the mapped mode or shared by processes.
 *
 * Unless it is to be fresh, the log asks for enough full-size segments to hold the whole round and
 * open waits until they are there, as they would be in a log that has run for a while; otherwise the
 * first second measures the preparation of segments as well.
 */
#include "peer.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <twinlog_admin.h>

#define DEFAULT_SEGMENT_BYTES (UINT64_C(64) << 20)
#define MAX_SPARES 64u
#define DEFAULT_MAX_RECORD (4u << 20)
#define PATIENCE_TRIES 6000 /* pauses without a new segment: half a minute */
#define PAUSE_NS 5000000
#define OPEN_WAIT_MS 10000 /* for another process that is opening it, too */

static void read_stat(struct twinlog *log, struct twinlog_stat *ret_stat)
{
    *ret_stat = (struct twinlog_stat)TWINLOG_STAT_INIT;
    twinlog_stat(log, ret_stat);
}

static uint32_t spares_for(const struct peer_setup *setup)
{
    if (setup->twinlog.is_fresh || setup->peer->kind)
        return 0;
    if (setup->twinlog.spares)
        return setup->twinlog.spares;

    uint64_t segment_bytes = DEFAULT_SEGMENT_BYTES;
    if (setup->twinlog.segment_bytes)
        segment_bytes = setup->twinlog.segment_bytes;
    const uint64_t wanted = setup->expected_bytes / segment_bytes + 1;
    if (wanted > MAX_SPARES)
        return MAX_SPARES;
    return (uint32_t)wanted;
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

static int open_log(const struct peer_setup *setup, void **ret_state)
{
    const struct twinlog_setup *wanted = &setup->twinlog;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    /* Among the plain files a log has a setup of its own. */
    if (setup->peer->kind)
        wanted = setup->peer->kind;
    options.flags = wanted->flags;
    options.io = wanted->io;
    options.mode = wanted->mode;
    if (wanted->mode == TWINLOG_MODE_SHARED)
        options.lock_timeout_ms = OPEN_WAIT_MS;
    options.segment_bytes = wanted->segment_bytes;
    if (setup->largest_record > DEFAULT_MAX_RECORD)
        options.max_record_bytes = setup->largest_record;
    options.spare_segments = spares_for(setup);
    options.keep_bytes = wanted->keep_bytes;

    struct twinlog *log = NULL;
    const int error = twinlog_open(setup->dir, &options, &log);
    *ret_state = log;
    if (error)
        return error;
    return wait_for_spares(log, options.spare_segments);
}

static int append(void *state, const struct append *append)
{
    const struct twinlog_terms written = { .size = sizeof(written), .level = TWINLOG_LEVEL_WRITTEN };
    const struct twinlog_entry *records = append->records;
    switch (append->level) {
    case APPEND_BATCH:
        return twinlog_append_batch(state, records, append->count, NULL, NULL);
    case APPEND_WRITTEN:
        return twinlog_append_batch(state, records, append->count, &written, NULL);
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
    *ret_counters = (struct peer_counters){ .appends = stat.appends, .syncs = stat.groups };
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

/* The processes that wait share a sync. */
static int append_durable(void *state, const struct append *append)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_DURABLE };
    return twinlog_append_batch(state, append->records, 1, &terms, NULL);
}

/* They are what was put, by the count of each process. */
static bool are_as_many(const char *path, uint64_t count)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    return twinlog_inspect(path, &inspection) == 0 && inspection.report.error == 0 &&
           inspection.first_lsn == 1 && inspection.last_lsn == count && inspection.durable_lsn == count;
}

/* A log in the mapped mode gives a message its time, size and checksum, which the others carry in a frame. Closing it
 * makes everything durable, which no other contender does. So there are two: one has its close behind the clock. */
static const struct twinlog_setup mapped = { .mode = TWINLOG_MODE_MAPPED };
static const struct twinlog_setup shared = { .mode = TWINLOG_MODE_SHARED };
#define AS_FILE(setup, its_append)                                                                           \
    .kind = &setup, .open = open_log, .append = its_append, .close = close_log, .are_all_there = are_as_many
const struct peer peer_log = { AS_FILE(mapped, append), .makes_frames = true, .closes_behind_clock = true };
const struct peer peer_log_durable = { AS_FILE(mapped, append), .makes_frames = true };
const struct peer peer_shared_log = { AS_FILE(shared, append) };
const struct peer peer_shared_log_durable = { AS_FILE(shared, append_durable) };

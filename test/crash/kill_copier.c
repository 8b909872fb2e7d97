/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that makes backups of the log while others write, trim and truncate it. Each of them must be a
 * log that holds what was durable when it was started. Then it is opened and written to: the judge, which looks
 * at the original later, would see if that had changed it.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <twinlog_admin.h>

struct copying {
    struct shared *shared;
    struct copier *copier;
    const char *from;
    uint32_t since; /* cuts that were done before */
    uint64_t durable_lsn;
    uint64_t versions[VALUES];
    struct twinlog_backup_result result;
};

/* ---- before ------------------------------------------------------------------------------------ */

static int note_what_is(struct copying *copying)
{
    struct twinlog_reader *reader;
    uint64_t first;
    int result;

    copying->since = atomic_load(&copying->shared->world.truncations_done);
    world_versions(&copying->shared->world, copying->versions);
    result = twinlog_reader_open(copying->from, NULL, &reader);
    if (result < 0)
        return result;
    result = twinlog_reader_range(reader, &first, &copying->durable_lsn);
    twinlog_reader_close(reader);
    return result;
}

/* ---- after ------------------------------------------------------------------------------------- */

static void verify(const struct copying *copying)
{
    const int result = twinlog_verify(copying->copier->dir, NULL, NULL);

    if (result < 0)
        violation("verify finds a fault in a backup: %s", twinlog_strerror(result));
}

static bool is_uncut(const struct copying *copying)
{
    return atomic_load(&copying->shared->world.truncations_started) == copying->since;
}

/* Maybe all of it was. */
static bool was_trimmed(const struct copying *copying)
{
    const struct world *world = &copying->shared->world;

    return atomic_load(&world->head_most) >= UNKNOWN ||
           atomic_load(&world->head_highest) > copying->durable_lsn;
}

/* Reads all of it, from `first` to `last`. */
static void read_copy(const struct copying *copying, uint64_t first, uint64_t last)
{
    struct sightings *sightings = &copying->copier->sightings;
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t next = first;
    int result;

    options.ret_report = &report;
    result = twinlog_reader_open(copying->copier->dir, &options, &reader);
    if (result < 0)
        violation("a backup cannot be read: %s; %s", twinlog_strerror(result), report.text);
    for (; (result = twinlog_reader_next(reader, &record)) > 0; next++) {
        if (record.lsn != next)
            violation("in a backup LSN %" PRIu64 " is in the place of %" PRIu64, record.lsn, next);
        atomic_store(&sightings->seen[next % WINDOW].digest, 0);
        atomic_store(&sightings->seen[next % WINDOW].stamp, stamp(next, copying->since));
        atomic_store(&sightings->seen[next % WINDOW].digest,
                     payload_digest(record.data, record.size, record.time_ns));
        atomic_fetch_add(&copying->copier->records, 1);
    }
    if (result < 0)
        violation("reading LSN %" PRIu64 " of a backup failed: %s; %s", next, twinlog_strerror(result),
                  report.text);
    if (next != last + 1)
        violation("a backup says that it holds LSN %" PRIu64 " to %" PRIu64
                  ", a reader stops before %" PRIu64,
                  first, last, next);
    if (last > atomic_load(&sightings->max_lsn))
        atomic_store(&sightings->max_lsn, last);
    twinlog_reader_close(reader);
}

static int append_some(struct twinlog *log)
{
    int result = 0;

    for (unsigned i = 0; i < 20 && result == 0; i++)
        result = twinlog_append(log, "twinlog", i % 8, NULL);
    return result;
}

/* As a log of its own, which may be truncated and trimmed, and writes over what it no longer needs. */
static int write_to_copy(const struct copying *copying, struct twinlog *log)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    const uint64_t first = twinlog_first_lsn(log), last = twinlog_last_lsn(log);
    int result;

    if (first != copying->result.first_lsn || (first > 0 && last != copying->result.last_lsn))
        violation("a backup says that it holds LSN %" PRIu64 " to %" PRIu64 ", it has %" PRIu64
                  " to %" PRIu64,
                  copying->result.first_lsn, copying->result.last_lsn, first, last);
    world_check_copy(&copying->shared->world, copying->versions, log);
    trim.before_lsn = last + 1;
    trim.flags = TWINLOG_TRIM_PAST_CURSORS;
    result = append_some(log);
    if (result == 0)
        result = twinlog_truncate(log, last + 10);
    if (result == 0)
        result = twinlog_trim(log, &trim, NULL);
    if (result == 0)
        result = append_some(log);
    if (result == 0 && twinlog_last_lsn(log) != last + 30)
        violation("a backup with the last LSN %" PRIu64
                  ", then 20 records, 10 of them cut, then 20 more, ends "
                  "with %" PRIu64,
                  last, twinlog_last_lsn(log));
    return result;
}

static void use_copy(const struct copying *copying)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    int result, closed;

    options.flags = TWINLOG_MUST_EXIST;
    options.segment_bytes = 1u << 20;
    options.ret_report = &report;
    result = twinlog_open(copying->copier->dir, &options, &log);
    if (result < 0)
        violation("a backup cannot be opened: %s; %s", twinlog_strerror(result), report.text);
    result = write_to_copy(copying, log);
    closed = twinlog_close(log);
    if (result < 0 || closed < 0)
        violation("a backup cannot be written to: %s", twinlog_strerror(result < 0 ? result : closed));
}

static void examine(const struct copying *copying)
{
    const uint64_t first = copying->result.first_lsn, last = copying->result.last_lsn;

    if (is_uncut(copying) && last < copying->durable_lsn && !(first == 0 && was_trimmed(copying)))
        violation("a backup ends with LSN %" PRIu64 ", %" PRIu64 " was durable before", last,
                  copying->durable_lsn);
    verify(copying);
    if (first > 0)
        read_copy(copying, first, last);
    use_copy(copying);
    verify(copying);
}

/* ---- over and over ----------------------------------------------------------------------------- */

static void copy_once(struct copying *copying)
{
    struct copier *copier = copying->copier;
    struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    int result = note_what_is(copying);

    copying->result = (struct twinlog_backup_result)TWINLOG_BACKUP_RESULT_INIT;
    options.flags = rng_one_in(&copier->rng, 3) ? TWINLOG_BACKUP_COPY : 0;
    if (result == 0)
        result = twinlog_backup(copying->from, copier->dir, &options, &copying->result);
    if (result == 0) {
        examine(copying);
        atomic_fetch_add(&copier->copies, 1);
        atomic_fetch_add(&copier->linked_bytes, copying->result.linked_bytes);
        atomic_fetch_add(&copier->copied_bytes, copying->result.copied_bytes);
    } else if (result == -EBUSY || result == -ENOENT) { /* trims outran it; there is no log yet */
        atomic_fetch_add(&copier->refusals, 1);
    } else {
        violation("a backup failed: %s", twinlog_strerror(result));
    }
    remove_directory(copier->dir);
}

struct call {
    const char *dir;
    struct shared *shared;
};

static void run_copier(void *context)
{
    const struct call *call = context;
    struct copier *copier = &call->shared->copier;
    struct copying copying = { .shared = call->shared, .copier = copier, .from = call->dir };

    for (uint32_t round = 0; round < copier->rounds && !atomic_load(&copier->must_stop); round++) {
        const long ms = (long)rng_below(&copier->rng, copier->pause_ms + 1);

        nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
        copy_once(&copying);
    }
}

pid_t fork_copier(const char *dir, struct shared *shared)
{
    return fork_child(shared, run_copier, &(struct call){ dir, shared });
}

void check_broken_copy(const struct copier *copier)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    int result;

    options.flags = TWINLOG_MUST_EXIST;
    result = twinlog_open(copier->dir, &options, &log);
    if (result == 0) {
        result = twinlog_close(log);
        if (result == 0)
            result = twinlog_verify(copier->dir, NULL, NULL);
        if (result < 0)
            violation("an interrupted backup can be opened, but it is no sound log: %s",
                      twinlog_strerror(result));
    }
    remove_directory(copier->dir);
}

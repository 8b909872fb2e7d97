/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that makes backups of the log while others write, trim and truncate it. Each of them must be a
 * log that holds what was durable when it was started. Then it is opened and written to: the judge, which looks
 * at the original later, would see if that had changed it.
 */
#define _GNU_SOURCE
#include "reading.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <twinlog_admin.h>

/* Of the copy that is made. */
static uint32_t since; /* cuts that were done before */
static uint64_t durable_lsn, versions[VALUES];
static struct twinlog_backup_result copied;

/* ---- before ------------------------------------------------------------------------------------ */

static int note_what_is(void)
{
    struct twinlog_reader *reader;
    uint64_t first;
    int result;

    since = atomic_load(&world->truncations_done);
    world_versions(versions);
    result = twinlog_reader_open(place.log, NULL, &reader);
    if (result < 0)
        return result;
    result = twinlog_reader_range(reader, &first, &durable_lsn);
    twinlog_reader_close(reader);
    return result;
}

/* ---- after ------------------------------------------------------------------------------------- */

static void see_copied(void *context, const struct twinlog_record *record)
{
    uint64_t *next = context;

    if (record->lsn != *next)
        violation("in a backup LSN %" PRIu64 " is in the place of %" PRIu64, record->lsn, *next);
    note_sighting(&shared->copier.sightings, record, since, "a backup");
    atomic_fetch_add(&shared->copier.records, 1);
    ++*next;
}

static int append_some(struct twinlog *log)
{
    int result = 0;

    for (unsigned i = 0; i < 20 && result == 0; i++)
        result = twinlog_append(log, "twinlog", i % 8, NULL);
    return result;
}

/* As a log of its own, which may be truncated and trimmed, and writes over what it no longer needs. */
static int write_to_copy(struct twinlog *log)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    const uint64_t first = twinlog_first_lsn(log), last = twinlog_last_lsn(log);
    int result;

    if (first != copied.first_lsn || (first > 0 && last != copied.last_lsn))
        violation("a backup says that it holds LSN %" PRIu64 " to %" PRIu64 ", it has %" PRIu64
                  " to %" PRIu64,
                  copied.first_lsn, copied.last_lsn, first, last);
    world_check_copy(versions, log);
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

static void use_copy(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    options.flags = TWINLOG_MUST_EXIST;
    options.segment_bytes = 1u << 20;
    log = open_or_fail(place.copy, &options, "a backup");
    check_call(write_to_copy(log), "writing to a backup");
    check_call(twinlog_close(log), "closing a backup");
}

static void examine(void)
{
    const uint64_t first = copied.first_lsn, last = copied.last_lsn;
    const bool is_uncut = atomic_load(&world->truncations_started) == since;
    uint64_t next = first;

    if (is_uncut && last < durable_lsn && !(first == 0 && world_may_be_trimmed(durable_lsn)))
        violation("a backup ends with LSN %" PRIu64 ", %" PRIu64 " was durable before", last, durable_lsn);
    verify(place.copy);
    if (first > 0 && !read_log(place.copy, NULL, 0, see_copied, &next))
        violation("there is no log in a backup");
    if (first > 0 && next != last + 1)
        violation("a backup says that it holds LSN %" PRIu64 " to %" PRIu64
                  ", a reader stops before %" PRIu64,
                  first, last, next);
    use_copy();
    verify(place.copy);
}

/* ---- over and over ----------------------------------------------------------------------------- */

static void copy_once(void)
{
    struct copier *copier = &shared->copier;
    struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    int result = note_what_is();

    copied = (struct twinlog_backup_result)TWINLOG_BACKUP_RESULT_INIT;
    options.flags = rng_one_in(&copier->rng, 3) ? TWINLOG_BACKUP_COPY : 0;
    if (result == 0)
        result = twinlog_backup(place.log, place.copy, &options, &copied);
    if (result == 0) {
        examine();
        atomic_fetch_add(&copier->copies, 1);
    } else if (result != -EBUSY && result != -ENOENT) { /* trims outran it; there is no log yet */
        violation("a backup failed: %s", twinlog_strerror(result));
    }
    remove_directory(place.copy);
}

void run_copier(void *unused)
{
    struct copier *copier = &shared->copier;

    (void)unused;
    for (uint32_t round = 0; round < copier->rounds && !atomic_load(&copier->must_stop); round++) {
        const long ms = (long)rng_below(&copier->rng, copier->pause_ms + 1);

        nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
        copy_once();
    }
}

void check_broken_copy(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    options.flags = TWINLOG_MUST_EXIST;
    if (twinlog_open(place.copy, &options, &log) == 0) {
        check_call(twinlog_close(log), "closing an interrupted backup");
        verify(place.copy);
    }
    remove_directory(place.copy);
}

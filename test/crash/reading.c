/* SPDX-License-Identifier: Apache-2.0 */
/* See reading.h. */
#define _GNU_SOURCE
#include "reading.h"

#include <errno.h>
#include <inttypes.h>
#include <twinlog_admin.h>

#define WAIT_MS 20
#define LIE_LSN 20u

void raise_to(_Atomic uint64_t *value, uint64_t to)
{
    uint64_t before = atomic_load(value);

    while (before < to && !atomic_compare_exchange_strong(value, &before, to))
        ;
}

/* ---- followers ----------------------------------------------------------------------------------- */

void forget_seen(struct seen *seen)
{
    for (uint64_t lsn = 0; lsn <= atomic_load(&seen->max_lsn) && lsn < WINDOW; lsn++)
        atomic_store(&seen->digest[lsn], 0);
    atomic_store(&seen->max_lsn, 0);
}

static void note_digest(struct seen *seen, uint64_t lsn, uint64_t digest, const char *name)
{
    const uint64_t before = atomic_exchange(&seen->digest[lsn % WINDOW], digest);

    if (before != 0 && before != digest)
        violation("%s was given another record %" PRIu64 " than was given before", name, lsn);
    raise_to(&seen->max_lsn, lsn);
}

void note_seen(struct seen *seen, const struct twinlog_record *record, const char *name)
{
    note_digest(seen, record->lsn, payload_digest(record->data, record->size, record->time_ns), name);
    if (record->lsn > LIE_LSN && atomic_load(&seen->shall_lie) && atomic_exchange(&seen->shall_lie, false))
        note_digest(seen, record->lsn + 1, 1, name);
}

void follow(struct follower *follower, struct twinlog_reader *reader, const struct twinlog_report *report,
            const _Atomic bool *must_stop, const char *name)
{
    struct twinlog_record record;
    int rc;

    while (!must_stop || !atomic_load(must_stop)) {
        while ((rc = twinlog_reader_next(reader, &record)) > 0) {
            if (record.lsn <= atomic_load(&follower->last_lsn))
                violation("%s was given LSN %" PRIu64 " after %" PRIu64, name, record.lsn,
                          atomic_load(&follower->last_lsn));
            note_seen(follower->seen, &record, name);
            atomic_store(&follower->last_lsn, record.lsn);
            atomic_fetch_add(&follower->records, 1);
        }
        if (rc == 0)
            rc = twinlog_reader_wait(reader, WAIT_MS);
        if (rc < 0)
            violation("%s failed behind LSN %" PRIu64 ": %s; %s (%s, offset %" PRIu64 ")", name,
                      atomic_load(&follower->last_lsn), twinlog_strerror(rc), report->text, report->file,
                      report->offset);
    }
}

static void follow_log(void *context)
{
    struct follower *follower = context;
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader;
    int rc;

    options.flags = follower->flags;
    options.ret_report = &report;
    while ((rc = twinlog_reader_open(place.log, &options, &reader)) == -ENOENT)
        pause_a_moment(); /* the first writer has not started */
    if (rc < 0)
        violation("a follower cannot open the log: %s; %s", twinlog_strerror(rc), report.text);
    follow(follower, reader, &report, NULL, options.flags ? "a follower that maps" : "a follower");
}

pid_t start_follower(struct follower *follower, struct seen *seen, uint32_t flags, struct shared *complaints)
{
    follower->seen = seen;
    follower->flags = flags;
    atomic_store(&follower->last_lsn, 0);
    atomic_store(&follower->records, 0);
    return fork_child(complaints, follow_log, follower);
}

void end_follower(pid_t *pid)
{
    kill(*pid, SIGKILL);
    reap(*pid, "a follower");
    *pid = 0;
}

/* ---- for a judge --------------------------------------------------------------------------------- */

void read_log(const char *dir, uint32_t flags, record_seen *each, void *context)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t last = 0;
    int rc;

    options.flags = flags;
    options.ret_report = &report;
    rc = twinlog_reader_open(dir, &options, &reader);
    if (rc == -ENOENT)
        return; /* it was killed before there was a log */
    if (rc < 0)
        violation("the log cannot be read: %s; %s", twinlog_strerror(rc), report.text);
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        if (record.lsn <= last)
            violation("LSN %" PRIu64 " comes after %" PRIu64, record.lsn, last);
        last = record.lsn;
        each(context, &record);
    }
    if (rc < 0)
        violation("reading stops behind LSN %" PRIu64 ": %s; %s (%s, offset %" PRIu64 ")", last,
                  twinlog_strerror(rc), report.text, report.file, report.offset);
    twinlog_reader_close(reader);
}

_Noreturn void complain_of_record(const struct twinlog_record *record, const char *what)
{
    char words[200];

    payload_describe(record->data, record->size, words, sizeof(words));
    violation("record %" PRIu64 " %s; it has %s", record->lsn, what, words);
}

static int find_fault(void *context, const struct twinlog_report *finding)
{
    (void)context;
    if (finding->error != 0)
        violation("verify: %s (%s, offset %" PRIu64 ")", finding->text, finding->file, finding->offset);
    return 0;
}

uint64_t verify(const char *dir)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records = 0;
    int rc;

    options.each = find_fault;
    rc = twinlog_verify(dir, &options, &records);
    if (rc < 0 && rc != -ENOENT)
        violation("verify: %s", twinlog_strerror(rc));
    return records;
}

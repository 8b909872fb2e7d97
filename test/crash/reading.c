/* SPDX-License-Identifier: Apache-2.0 */
/* See reading.h. */
#define _GNU_SOURCE
#include "reading.h"

#include <errno.h>
#include <inttypes.h>
#include <twinlog_admin.h>

#define WAIT_MS 20
#define LIE_LSN 20u

/* ---- followers ----------------------------------------------------------------------------------- */

static void see_followed(void *context, const struct twinlog_record *record)
{
    struct follower *follower = context;

    note_sighting(follower->seen, record, 0, "a follower");
    if (place.lie == LIE_SEEN && record->lsn > LIE_LSN)
        note_sighting(follower->seen, &(struct twinlog_record){ .lsn = record->lsn + 1 }, 0, "a follower");
    atomic_store(&follower->last_lsn, record->lsn);
    atomic_fetch_add(&follower->records, 1);
}

void follow(struct follower *follower, struct twinlog_reader *reader, const struct twinlog_report *report,
            const _Atomic bool *must_stop, const char *name)
{
    uint64_t last = 0;

    while (!must_stop || !atomic_load(must_stop)) {
        pass_records(reader, report, see_followed, follower, &last, name);
        check_call(twinlog_reader_wait(reader, WAIT_MS), name);
    }
}

static void follow_log(void *context)
{
    struct follower *follower = context;
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader;

    while (!(reader = open_reader(place.log, NULL, follower->flags, &report)))
        pause_a_moment(); /* the first writer has not started */
    follow(follower, reader, &report, NULL, follower->flags ? "a follower that maps" : "a follower");
}

pid_t start_follower(struct follower *follower, struct sightings *seen, uint32_t flags)
{
    follower->seen = seen;
    follower->flags = flags;
    atomic_store(&follower->last_lsn, 0);
    atomic_store(&follower->records, 0);
    return fork_child(follow_log, follower);
}

void end_follower(pid_t *pid)
{
    kill(*pid, SIGKILL);
    reap(*pid, "a follower");
    *pid = 0;
}

/* ---- for a judge --------------------------------------------------------------------------------- */

struct twinlog *open_or_fail(const char *dir, const struct twinlog_options *options, const char *name)
{
    static struct twinlog_report report;
    struct twinlog_options reported = *options;
    struct twinlog *log;
    int rc;

    reported.ret_report = options->ret_report ? options->ret_report : &report;
    rc = twinlog_open(dir, &reported, &log);
    if (rc < 0)
        violation("%s cannot be opened: %s; %s", name, twinlog_strerror(rc), reported.ret_report->text);
    return log;
}

struct twinlog_reader *open_reader(const char *dir, struct twinlog *log, uint32_t flags,
                                   struct twinlog_report *report)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    int rc;

    options.flags = flags;
    options.ret_report = report;
    rc = log ? twinlog_reader_attach(log, &options, &reader) : twinlog_reader_open(dir, &options, &reader);
    if (rc == -ENOENT && !log)
        return NULL;
    if (rc < 0)
        violation("a reader cannot be opened: %s; %s", twinlog_strerror(rc), report->text);
    return reader;
}

void pass_records(struct twinlog_reader *reader, const struct twinlog_report *report, record_seen *each,
                  void *context, uint64_t *last, const char *name)
{
    struct twinlog_record record;
    int rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        if (record.lsn <= *last)
            violation("O2: %s was given LSN %" PRIu64 " after %" PRIu64, name, record.lsn, *last);
        *last = record.lsn;
        each(context, &record);
    }
    if (rc < 0)
        violation("%s failed behind LSN %" PRIu64 ": %s; %s (%s, offset %" PRIu64 ")", name, *last,
                  twinlog_strerror(rc), report->text, report->file, report->offset);
}

bool read_log(const char *dir, struct twinlog *log, uint32_t flags, record_seen *each, void *context)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader = open_reader(dir, log, flags, &report);
    uint64_t last = 0;

    if (reader)
        pass_records(reader, &report, each, context, &last, "a reader");
    twinlog_reader_close(reader);
    return reader != NULL;
}

_Noreturn void complain_of_record(const struct twinlog_record *record, const char *what)
{
    char words[200];

    payload_describe(record->data, record->size, words, sizeof(words));
    violation("record %" PRIu64 " %s; it has tag %" PRIu16 " and %s", record->lsn, what, record->tag, words);
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

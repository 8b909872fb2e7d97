/* SPDX-License-Identifier: Apache-2.0 */
/* Opens an existing log. See opening.h. */
#define _GNU_SOURCE
#include "opening.h"

#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <twinlog_admin.h>

static const char busy_advice[] =
    "Only the writer can remove records: stop it and try again. It trims when 'twinlog trim' asks, and one that does "
    "not share the log can call twinlog_truncate() or twinlog_reset() itself.";

const char advice_beside_writer[] =
    "A process is writing it, and could not open it again once it has ended: do not stop it. Copy the directory "
    "('cp -r'), and save what is sound in the copy ('twinlog repair').";

/* A log that another process writes may be damaged all the same; the writer does not look at what it has written. */
static int fail_beside_writer(const char *dir, int error, const struct twinlog_report *report)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;

    int damage = twinlog_inspect(dir, &log);
    if (damage >= 0)
        damage = log.report.error;
    if (damage == TWINLOG_ECORRUPT || damage == TWINLOG_EFOREIGN)
        return fail("change the log", dir, damage, &log.report, advice_beside_writer);
    return fail("open the log", dir, error, report, busy_advice);
}

int open_to_remove(const char *dir, struct twinlog **ret_log)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    options.flags = TWINLOG_MUST_EXIST | TWINLOG_NO_RECYCLE;
    options.ret_report = &report;
    int error = twinlog_open(dir, &options, ret_log);
    if (error == -EBUSY)
        return fail_beside_writer(dir, error, &report);
    if (error)
        return fail("open the log", dir, error, &report, NULL);
    if (report.action == TWINLOG_DID_TRUNCATE)
        complain("note: %s", report.text);
    return STATUS_FINE;
}

int open_beside_writer(const char *dir, struct twinlog **ret_log)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    options.flags = TWINLOG_READ_ONLY;
    options.ret_report = &report;
    int error = twinlog_open(dir, &options, ret_log);
    if (error)
        return fail("open the log", dir, error, &report, NULL);
    return STATUS_FINE;
}

void report_removal(bool is_json, bool is_dry_run, uint64_t records, uint64_t next_lsn)
{
    if (!is_json) {
        if (records)
            printf("%s %" PRIu64 " record%s.", is_dry_run ? "Would remove" : "Removed", records,
                   plural(records));
        else
            printf("Nothing %s removed.", is_dry_run ? "would be" : "was");
        printf(" The next record %s LSN %" PRIu64 ".\n", is_dry_run ? "would get" : "gets", next_lsn);
        return;
    }

    json_begin_object(NULL);
    if (is_dry_run)
        json_boolean("is_dry_run", true);
    json_number("removed_records", records);
    json_number("next_lsn", next_lsn);
    json_end_object();
    json_end_line();
}

int close_log(struct twinlog *log, const char *dir, int status)
{
    int error = twinlog_close(log);

    if (error && status == STATUS_FINE)
        return fail("close the log", dir, error, NULL, NULL);
    return status;
}

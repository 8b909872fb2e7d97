/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a report, and the place that it is about. */
#include "base/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

void twl_report(struct twinlog_report *ret_report, enum twinlog_finding finding, enum twinlog_action action,
                int error, const char *format, ...)
{
    if (!ret_report)
        return;
    *ret_report = (struct twinlog_report){ .finding = finding, .action = action, .error = error };
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_report->text, sizeof(ret_report->text), format, arguments);
    va_end(arguments);
}

void twl_report_clear(struct twinlog_report *report)
{
    if (report)
        *report = (struct twinlog_report){ 0 };
}

/* A call that was wrong has found nothing, and a code of the library says itself what was found. */
static bool is_of_the_system(int error)
{
    return error > TWINLOG_ECORRUPT && error != -EINVAL && error != -ERANGE;
}

int twl_report_failure(struct twinlog_report *report, int error, const char *doing)
{
    const enum twinlog_finding finding =
        is_of_the_system(error) ? TWINLOG_FOUND_SYSTEM_ERROR : TWINLOG_FOUND_NOTHING;

    if (error < 0 && report && report->error != error)
        twl_report(report, finding, TWINLOG_DID_NOTHING, error, "cannot %s: %s", doing,
                   twinlog_strerror(error));
    return error;
}

void twl_report_place(struct twinlog_report *report, const char *file, uint64_t sequence, uint64_t offset,
                      uint64_t bytes)
{
    if (!report)
        return;
    snprintf(report->file, sizeof(report->file), "%s", file);
    report->segment = sequence;
    report->offset = offset;
    report->bytes = bytes;
}

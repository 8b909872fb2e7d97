/* SPDX-License-Identifier: Apache-2.0 */
/* Builds struct twinlog_report for open, verify, repair and readers. */
#ifndef TWL_REPORT_H
#define TWL_REPORT_H

#include "twinlog.h"

/* Fills in a report, unless it is NULL; `format` and the arguments give its text. */
void twl_report(struct twinlog_report *ret_report, enum twinlog_finding finding, enum twinlog_action action,
                int error, const char *format, ...) __attribute__((format(printf, 5, 6)));
void twl_report_clear(struct twinlog_report *report); /* NULL is allowed */
/* A call that was to do `doing` returns `error`. Unless its report has that error already, from something below that
 * knew more, the report is filled in with it: "cannot DOING: ...". So a report is cleared, or its error is 0, when the
 * call begins. Returns `error`; 0 or more leaves the report alone. NULL is allowed. */
int twl_report_failure(struct twinlog_report *report, int error, const char *doing);
void twl_report_place(struct twinlog_report *report, const char *file, uint64_t sequence, uint64_t offset,
                      uint64_t bytes);

#endif

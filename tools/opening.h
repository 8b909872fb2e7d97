/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens an existing log: to remove something from it, which takes the writer's lock, or to use its cursors
 * and values, which works beside a writer. Functions that can fail report their errors themselves, and return
 * the exit status.
 */
#ifndef TOOLS_OPENING_H
#define TOOLS_OPENING_H

#include "common.h"

/* Retired segments are removed, not kept for reuse. */
int open_to_remove(const char *dir, struct twinlog **ret_log);
int open_beside_writer(const char *dir, struct twinlog **ret_log);

/* What to do about a damaged log that a process writes. */
extern const char advice_beside_writer[];

/* After a truncation or a reset: prints how many records were removed, and the next LSN. */
void report_removal(bool is_json, bool is_dry_run, uint64_t records, uint64_t next_lsn);

/* Closes the log. Returns `status`, or that of an error in closing. */
int close_log(struct twinlog *log, const char *dir, int status);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a log that is there: to remove something from it, which takes the writer's lock, or to use
 * its cursors and values, which goes beside a writer. What goes wrong has been reported when a function
 * here returns; its result is the exit status.
 */
#ifndef TOOLS_OPENING_H
#define TOOLS_OPENING_H

#include "common.h"

/* Its retired segments are given back to the file system, not kept for reuse. */
int open_to_remove(const char *dir, struct twinlog **ret_log);
int open_beside_writer(const char *dir, struct twinlog **ret_log);

/* How many records are gone, and what the next one gets: for a cut and a reset. */
void report_removal(bool is_json, uint64_t records, uint64_t next_lsn);

/* `status`, or what closing adds to it. */
int close_log(struct twinlog *log, const char *dir, int status);

#endif

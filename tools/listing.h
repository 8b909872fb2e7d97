/* SPDX-License-Identifier: Apache-2.0 */
/* Named cursors and values as JSON arrays, for the commands that show them. */
#ifndef TOOLS_LISTING_H
#define TOOLS_LISTING_H

#include <twinlog.h>

#include <stdbool.h>
#include <stdint.h>

/* The state of a walk over the cursors. */
struct cursor_list {
    uint64_t first_lsn, last_lsn; /* of the log */
    uint64_t count;
};

/* Number of records behind a cursor at `lsn`. A consumer may have moved the cursor beyond last_lsn
 * meanwhile. */
uint64_t records_behind(const struct cursor_list *list, uint64_t lsn);

/* "cursors": name, lsn, behind. "values": name, size, and the contents if asked for. The arrays are closed
 * also when the result is an error. */
int json_cursors(struct twinlog *log, struct cursor_list *list);
int json_values(struct twinlog *log, bool has_contents);

#endif

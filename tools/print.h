/* SPDX-License-Identifier: Apache-2.0 */
/* How 'twinlog cat' prints a record. */
#ifndef TOOLS_PRINT_H
#define TOOLS_PRINT_H

#include "common.h"

struct printer {
    int format;     /* OPTION_NUL, OPTION_FRAMED, OPTION_RAW, OPTION_JSON or OPTION_EXPORT; 0 = lines */
    bool with_time; /* in front of each line */
    /* Lines go to a terminal: control characters are shown, so that no record acts upon it. */
    bool is_visible;
    /* An export that another log is to go on with tells of each change of the history. */
    bool tells_salt;
    uint32_t salt; /* of the record before */
};

void print_record(struct printer *printer, const struct twinlog_record *record);

/* What stands before the first record of an export and behind the last one: it shows that nothing is missing. Behind
 * the first line may stand "history LOG_ID EPOCH SALT FIRST_LSN LAST_LSN": where the epoch of the first record begins,
 * and the newest LSN of the log. Behind it may stand "origin LOG_ID SALT LSN": that record was imported from that log,
 * where it has that salt. Then "salt SALT" stands before a record with which another epoch begins. */
#define EXPORT_BEGIN "twinlog export 1\n"
#define EXPORT_END "end\n"

#endif

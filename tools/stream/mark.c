/* SPDX-License-Identifier: Apache-2.0 */
/* See mark.h. */
#define _GNU_SOURCE
#include "mark.h"

#include "../common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MARK_BYTES 512u

int load_ship_mark(struct twinlog *log, const char *cursor, const char *name, struct ship_mark *ret_mark)
{
    char text[MARK_BYTES];
    struct ship_mark mark = { .is_there = true };
    int length = 0;

    *ret_mark = (struct ship_mark){ 0 };
    int error = load_text(log, cursor, text, sizeof(text));
    if (error == -ENOENT)
        return 0;
    if (error)
        return error;

    if (sscanf(text,
               "twinlog ship 2 %" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64 " %n",
               &mark.position, &mark.lsn, &mark.salt, &mark.newest_salt, &mark.first_lsn, &mark.passed_lsn,
               &mark.whole_from, &mark.whole_removed, &length) != 8 ||
        length == 0)
        return -EEXIST;
    if (strcmp(text + length, name) == 0)
        *ret_mark = mark;
    return 0;
}

int save_ship_mark(struct twinlog *log, const char *cursor, const char *name, const struct ship_mark *mark)
{
    char text[MARK_BYTES];

    int length = snprintf(text, sizeof(text),
                          "twinlog ship 2 %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32 " %" PRIu64
                          " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s",
                          mark->position, mark->lsn, mark->salt, mark->newest_salt, mark->first_lsn,
                          mark->passed_lsn, mark->whole_from, mark->whole_removed, name);
    return twinlog_meta_set(log, cursor, text, (size_t)length);
}

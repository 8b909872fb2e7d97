/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an archiver or a shipper tells of its failures to those that look at the log from outside: a file of its
 * cursor's name in the directory "failures" of the log. It is not synced, and a backup does not copy it.
 */
#ifndef TOOLS_FAILURES_H
#define TOOLS_FAILURES_H

#include <stdint.h>

#define FAILURE_TEXT_BYTES 400u

struct failures {
    uint64_t count;  /* since it last got on */
    int64_t last_ns; /* when the last of them was */
    char text[FAILURE_TEXT_BYTES];
};

/* None where there is no file, or it cannot be read. */
void load_failures(const char *dir, const char *cursor, struct failures *ret_failures);
/* Complains where that cannot be noted. */
void note_failure(const char *dir, const char *cursor, struct failures *failures, const char *text);
void clear_failures(const char *dir, const char *cursor, struct failures *failures);

#endif

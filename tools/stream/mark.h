/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What 'twinlog ship' keeps beside its cursor, as a value of the log with the cursor's name: what was in the stream
 * when the cursor was moved last. A stream that has no message any more, or other ones, is compared with that.
 */
#ifndef TOOLS_STREAM_MARK_H
#define TOOLS_STREAM_MARK_H

#include <twinlog.h>

#include <stdbool.h>
#include <stdint.h>

struct ship_mark {
    bool is_there;
    uint64_t position;    /* of a message in the stream, or 0 */
    uint64_t lsn;         /* the stream had every record up to this one; that of the message */
    uint32_t salt;        /* of that record; 0: not known */
    uint32_t newest_salt; /* of a record that was published since, or was to be; 0: none */
    uint64_t first_lsn;   /* the stream's first message had it, or was to have it */
    uint64_t passed_lsn;  /* --skip-trimmed has passed what is missing between messages up to here */
    /* Where the stream begins at this position, and so many positions have no message, it was read and lacks nothing
     * else. What is removed never comes back. */
    uint64_t whole_from, whole_removed;
};

/* Not there: there is none, or it is of another stream than `name`. -EEXIST: the value is somebody else's. */
int load_ship_mark(struct twinlog *log, const char *cursor, const char *name, struct ship_mark *ret_mark);
int save_ship_mark(struct twinlog *log, const char *cursor, const char *name, const struct ship_mark *mark);

#endif

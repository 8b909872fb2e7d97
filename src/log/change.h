/* SPDX-License-Identifier: Apache-2.0 */
/* A change of cursors, values and the head of an open log: the calls for one of them, and twinlog_change(). */
#ifndef TWL_CHANGE_H
#define TWL_CHANGE_H

#include "log/handle.h"

#define MOST_EDITS 1024u /* of a change */

struct change {
    struct twinlog *log;
    const struct twinlog_edit *edits;
    uint32_t edit_count;
    uint64_t durable_lsn;          /* the log must be durable up to here when the change is made */
    bool must_exist;               /* -ENOENT where an edit removes a name that is not there */
    struct twinlog_reader *reader; /* that has passed the records up to the cursor, or NULL */
};

/* Makes the edits in `state`, for twl_state_change(): `context` is a struct change. 1 = something changed; 0 = nothing
 * did; negative: `state` may hold a part of the change, and must not be written. */
int twl_change_edit(void *context, struct state *state);

/* Moves the head in front of `before_lsn`, as far as cursors allow, and makes `change` in the same change of the state
 * file. The caller holds `head_lock`. */
int twl_trim_with_change(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors,
                         struct change *change, struct twinlog_trim_result *ret_result);

/* As another process wants it (trim_wish.c). -EBUSY: another process is stopped in a change of the state file. The
 * caller holds `head_lock`. */
int twl_trim_as_wished(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors);
/* Makes the trims that other processes have asked for, and answers. The caller holds `head_lock`. */
void twl_grant_trim_wishes(struct twinlog *log);

#endif

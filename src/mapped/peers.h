/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that write one log together: who is there, and what all of them share beside the segments.
 *
 * A peer is a handle of a process; it has a number, and that byte of "writer.lock" is locked as long as it lives. All
 * have the writer's lock shared, so that no other kind of writer comes; who opens the log and who closes it has it alone.
 * The locks are on an open file that is used for nothing else, is not mapped, and is closed in forked children: the kernel
 * gives them back at any death, and nobody waits for one of them without a limit.
 *
 * What is shared stands in the page of "writer.lock" (segment/live.h), behind what readers look at. It outlives everybody,
 * but counts only while the log is open, under the kernel that ran then.
 */
#ifndef TWL_PEERS_H
#define TWL_PEERS_H

#include "base/boot.h"
#include "segment/live.h"

#define PEERS 255u /* numbers from 1; 0 is nobody */

enum common_state {
    COMMON_NONE = 0,
    COMMON_OPENING, /* by somebody who has the lock alone, or had it and died */
    COMMON_OPEN,
    COMMON_CLOSING, /* like opening */
};

/* [const] while the log is open, unless [atomic]. Numbers are those in the names of segments. */
struct common {
    uint32_t version;       /* of all that peers have to agree on */
    _Atomic uint32_t state; /* enum common_state; stored by who has the lock alone */
    uint8_t boot_id[BOOT_ID_BYTES];
    uint64_t segment_bytes; /* of whoever opened the log, for all */
    uint32_t max_record_bytes;
    _Atomic int poison;
    _Atomic uint64_t oldest; /* segment whose group is not closed; only goes up */
    _Atomic uint64_t newest; /* that has its mark, if anybody has used it; only goes up */
    _Atomic int64_t peak_ns; /* newest time of a record in segments that are closed; INT64_MAX: not known */
};

struct peers {
    struct io *io;
    struct io_file *file; /* with all the locks */
    struct live live;
    struct common *common; /* in the page */
    unsigned number;       /* ours, 0 as long as we have none */
};

/* Comes in. *ret_is_first: nobody is there, and nobody else can come before twl_peers_open(); there is no page yet. Else
 * the log is open, and this is one more. -EBUSY: another kind of writer has the log after wait_ms; -EUSERS: there are
 * PEERS already; -ENOTSUP: no memory can be shared here; TWINLOG_EVERSION: those who are there share it in another way. */
int twl_peers_come(struct io *io, unsigned wait_ms, struct peers *ret_peers, bool *ret_is_first);
/* For the first one: there is a page that says that somebody is opening the log. -ENOTSUP: no memory can be shared here, or
 * no file can have two names. */
int twl_peers_begin(struct peers *peers);
/* Others may come, and find `common` filled in, but for what this does itself. */
int twl_peers_open(struct peers *peers);

/* Does whoever has that number live? */
bool twl_peers_is_alive(const struct peers *peers, unsigned number);
/* False: somebody else has it, or an error. */
bool twl_peers_try(struct peers *peers, enum io_lock which);
void twl_peers_release(struct peers *peers, enum io_lock which);

/* Is about to leave: true if this is the last one, who then has the log alone, and nobody can come. */
bool twl_peers_are_gone(struct peers *peers);
/* Gives back whatever is held, the page too. `is_forked`: only what a child has. */
void twl_peers_leave(struct peers *peers, bool is_forked);

#endif

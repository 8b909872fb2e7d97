/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The participants of a shared log: which of them are alive, and what they share beside the segments ("Shared logs" in
 * docs/design.md). A log in the mapped mode has a single participant, which lets no other in: it has no locks but that
 * of the page, and shares nothing.
 *
 * The locks are on an open file that is used for nothing else; no participant waits for one of them without a limit.
 * The shared data is in the page of "writer.lock", behind the part for readers. It outlives all participants, but is
 * valid only while the log is open, under the kernel that ran then.
 */
#ifndef TWL_PARTICIPANTS_H
#define TWL_PARTICIPANTS_H

#include "base/process.h"
#include "control/shared_page.h"
#include "walk/segment_iter.h"

#define PARTICIPANTS_MAX 255u /* numbers from 1; 0 is none */

/* The bytes of the file that participants lock, behind those that any file of a log has. */
enum participant_lock {
    LOCK_TO_SYNC = IO_LOCK_OTHER, /* held while a participant syncs for all, or closes a segment */
    LOCK_TO_MAKE,                 /* held while one makes the next segment ahead */
    LOCK_TO_LEAVE,                /* held by one that leaves */
    LOCK_OF_NUMBER = 16 /* 16 + n is held by the participant that has number n, as long as it is there */
};

enum common_state {
    COMMON_NONE = 0,
    COMMON_OPENING, /* a participant that has the writer's lock exclusively opens the log, or has died in it */
    COMMON_OPEN,
    COMMON_CLOSING, /* likewise: it closes the log */
};

/* [const] while the log is open, unless [atomic]. Numbers are those in the names of segments. */
struct common {
    uint32_t version;       /* of everything that participants have to agree on */
    _Atomic uint32_t state; /* enum common_state; stored under the exclusive writer's lock */
    uint8_t boot_id[BOOT_ID_BYTES];
    uint64_t segment_bytes; /* of the participant that opened the log, for all */
    uint32_t max_record_bytes;
    _Atomic uint64_t oldest;            /* segment without a closed group; only goes up */
    _Atomic uint64_t newest;            /* segment that a participant has started; only goes up */
    _Atomic int64_t max_time_so_far_ns; /* newest time of a record in closed segments; INT64_MAX: not known */
};

struct participants {
    struct io *io;
    struct io_file *file; /* holds all the locks; NULL: this participant lets no other in */
    struct shared_page shared;
    struct common *common;    /* in the page, or `own_common` */
    struct common own_common; /* of one that lets no other in; it does not depend on the file of the page */
    unsigned number;          /* of this participant; 0 = none yet */
    /* After -EBUSY: live participants see another boot identity, in a container or on another machine. */
    bool is_of_other_boot;
};

static inline bool participants_let_others_in(const struct participants *participants)
{
    return participants->file != NULL;
}

/* The only participant, which has the lock of the page and lets no other in. */
void twl_participants_be_alone(struct io *io, struct participants *ret_participants);
/* Enters. *ret_is_first: there is no other participant, none can enter before twl_participants_open(), and there is no
 * page yet. Otherwise the log is open, and this participant has joined. -EBUSY: another kind of writer has the log
 * after wait_ms, or participants that see another boot identity; -EUSERS: there are PARTICIPANTS_MAX participants;
 * -ENOTSUP: no memory can be shared here; TWINLOG_EVERSION: the participants share the log in another way. */
int twl_participants_come(struct io *io, unsigned wait_ms, struct participants *ret_participants,
                          bool *ret_is_first);
/* For the first participant: makes the page, which says that the log is being opened. -ENOTSUP: no memory can
 * be shared here, or no file can have two names. */
int twl_participants_begin(struct participants *participants);
/* Lets other participants in, if this one does; the caller has filled in `common`, except `state`. */
int twl_participants_open(struct participants *participants);

/* Is the participant with that number alive? Also true on an error. */
bool twl_participants_is_alive(const struct participants *participants, unsigned number);
/* Takes a lock without a wait. False: it is taken, or an error. */
bool twl_participants_try(struct participants *participants, enum participant_lock which);
void twl_participants_release(struct participants *participants, enum participant_lock which);

/* Before leaving, when all claims of this participant are complete. True: it is the last one, has the log alone now,
 * and lets no other in. False: others have the log open, or may have. */
bool twl_participants_become_last(struct participants *participants);
/* Releases all locks that are held, and the page: this participant does nothing to the log any more. */
void twl_participants_leave(struct participants *participants);

#endif

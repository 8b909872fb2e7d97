/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a log: a judge does so from its beginning to its end, a follower on and on, and notes what it was given. */
#ifndef TWL_CRASH_READING_H
#define TWL_CRASH_READING_H

#include "kill.h"

/* What readers were given in all processes. */
struct seen {
    _Atomic uint64_t max_lsn;
    _Atomic uint64_t digest[WINDOW]; /* 0 = none */
    _Atomic bool shall_lie; /* one record is to be noted that nobody was given, to see that this is found */
};

struct follower {
    struct seen *seen;         /* [const while it lives] where it notes what it was given */
    uint32_t flags;            /* the same, of its reader */
    _Atomic uint64_t last_lsn; /* that it was given */
    _Atomic uint64_t records;
};

void raise_to(_Atomic uint64_t *value, uint64_t to);

void forget_seen(struct seen *seen);
/* It is the same one that others were given. `reader` has it. */
void note_seen(struct seen *seen, const struct twinlog_record *record, const char *name);

/* Until *must_stop, or for ever. */
void follow(struct follower *follower, struct twinlog_reader *reader, const struct twinlog_report *report,
            const _Atomic bool *must_stop, const char *name);
/* A process that reads place.log, once it is there, for ever. In the parent: its id. */
pid_t start_follower(struct follower *follower, struct seen *seen, uint32_t flags, struct shared *complaints);
void end_follower(pid_t *pid); /* which becomes 0 */

/* ---- for a judge --------------------------------------------------------------------------------- */

typedef void record_seen(void *context, const struct twinlog_record *record);

/* The whole log, if there is one. */
void read_log(const char *dir, uint32_t flags, record_seen *each, void *context);
/* No record is what it should be. */
_Noreturn void complain_of_record(const struct twinlog_record *record, const char *what);
/* Returns the number of its records. */
uint64_t verify(const char *dir);

#endif

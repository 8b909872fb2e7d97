/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a log: a judge does so from its beginning to its end, a follower on and on, and notes what it was given. */
#ifndef TWL_CRASH_READING_H
#define TWL_CRASH_READING_H

#include "kill.h"

struct follower {
    struct sightings *seen;    /* [const while it lives] where it notes what it was given, as others do */
    uint32_t flags;            /* the same, of its reader */
    _Atomic uint64_t last_lsn; /* that it was given */
    _Atomic uint64_t records;
};

/* Until *must_stop, or for ever. */
void follow(struct follower *follower, struct twinlog_reader *reader, const struct twinlog_report *report,
            const _Atomic bool *must_stop, const char *name);
/* A process that reads place.log, once it is there, for ever. In the parent: its id. */
pid_t start_follower(struct follower *follower, struct sightings *seen, uint32_t flags);
void end_follower(pid_t *pid); /* which becomes 0 */

/* ---- for a judge --------------------------------------------------------------------------------- */

/* Ends the program if it cannot. `name` is what is opened. */
struct twinlog *open_or_fail(const char *dir, const struct twinlog_options *options, const char *name);
/* A reader of `log`, or where that is NULL of the log in `dir`; NULL: there is none. */
struct twinlog_reader *open_reader(const char *dir, struct twinlog *log, uint32_t flags,
                                   struct twinlog_report *report);

typedef void record_seen(void *context, const struct twinlog_record *record);
/* As far as the reader goes; *last is the LSN of the last one. */
void pass_records(struct twinlog_reader *reader, const struct twinlog_report *report, record_seen *each,
                  void *context, uint64_t *last, const char *name);
/* The whole log, by such a reader. False: there is none. */
bool read_log(const char *dir, struct twinlog *log, uint32_t flags, record_seen *each, void *context);
/* No record is what it should be. */
_Noreturn void complain_of_record(const struct twinlog_record *record, const char *what);
/* Returns the number of its records. */
uint64_t verify(const char *dir);

#endif

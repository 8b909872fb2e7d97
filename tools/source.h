/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of which history of which other log the newest records of a log are: a value of the log, kept by 'twinlog receive'
 * and by an import. A record with the same time and bytes in another history is told apart by it. What else was
 * appended is known by its epoch: nothing is said of that.
 *
 * Nothing said is no agreement. That a record of this log is the other one's, with all in front of it, is proved by
 *
 *   the value              it was imported, or received, from that history
 *   its own salt           it is of that log itself: this one, or the other one, was made of it by a backup
 *   what the other says    the other log has imported it from this one: see struct origin
 */
#ifndef TOOLS_SOURCE_H
#define TOOLS_SOURCE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <twinlog.h>

#define LOG_ID_BYTES 33u /* 32 hexadecimal digits, and a NUL */

struct noted {
    uint32_t salt;  /* that the records have in the other log */
    uint32_t epoch; /* that they have in this one; 0: nothing is known */
};

/* A record that an exported log has of another log: that one's id, and the salt that it has there. */
struct origin {
    char id[LOG_ID_BYTES]; /* empty: none is known */
    uint32_t salt;
    uint64_t lsn;
};

enum agreement {
    AGREEMENT_DENIED,  /* the record is of another history */
    AGREEMENT_UNKNOWN, /* nothing is known: that is no agreement */
    AGREEMENT_PROVED
};

struct source {
    const char *name;      /* of the value */
    char id[LOG_ID_BYTES]; /* of the other log; empty: not known */
    /* Of the records from `lsn` on, and of the one in front. The value is set before a record is appended, so a crash
     * may leave it ahead of the records, but by no more than one. */
    struct noted now, before;
    uint64_t lsn;

    /* Not in the value: */
    uint64_t next_lsn; /* if that record comes next, its epoch is `epoch` */
    uint32_t epoch;
    struct noted asked;        /* salt and epoch, both of this log, of a record that was asked for */
    char own_id[LOG_ID_BYTES]; /* of this log, with `asked` */
};

/* Of twinlog_read(): there is no record under that LSN, for good. */
static inline bool is_no_record(int error)
{
    return error == -ENOENT || error == -ENODATA;
}

/* -EEXIST: the value is something else. */
int load_source(struct twinlog *log, struct source *source);
/* The record `lsn` comes next: it is of that log and has that salt. */
int note_source(struct twinlog *log, struct source *source, const char *id, uint32_t salt, uint64_t lsn);
/* Is this record of the log the one that the log `id` has under that salt? */
enum agreement judge_record(struct twinlog *log, struct source *source, const char *id, uint32_t salt,
                            const struct twinlog_record *record);
/* The same of a record that the other log says to have from a log. */
enum agreement judge_origin(struct twinlog *log, struct source *source, const struct origin *origin,
                            const struct twinlog_record *record);
/* A record from `from_lsn` on that this log has of another one; none: the id is empty. */
void find_origin(struct twinlog *log, struct source *source, uint64_t from_lsn, struct origin *ret_origin);
/* True: the last record of the log, which has that LSN, is of that history. Fillers may be behind it. */
bool ends_in_source(struct twinlog *log, struct source *source, uint32_t salt, uint64_t lsn);

#endif

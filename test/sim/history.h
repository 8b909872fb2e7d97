/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a log was given, so that what it gives back can be judged.
 *
 * A history is the list of records that were accepted, by LSN. That of a recovered image begins with what it
 * inherited from the history of the disk it was taken from. A record's payload says which writer wrote it, as which
 * LSN, in which generation and how long it is, followed by bytes made from that; but some payloads are zeros,
 * nothing, or a copy of what was on the disk, to confuse a search for frames.
 *
 * A truncation takes records from the end, and the LSNs are given again to others: a generation. A trim moves the
 * head; what lies before it is still known, for readers that were not there in time.
 *
 * The rules O1 to O8 are in docs/testing.md. Nothing of an older generation is there (I4).
 */
#ifndef TWL_SIM_HISTORY_H
#define TWL_SIM_HISTORY_H

#include "simdisk.h"
#include "twinlog.h"

enum {
    MAX_BATCH = 20
};

struct fact {
    unsigned char *data;
    size_t size;
    int64_t time_ns;
    uint16_t tag;
    uint8_t type;
    bool is_void;  /* it has an LSN, and readers pass over it */
    unsigned rest; /* records that follow it in its batch */
};

struct history {
    const struct history *past; /* what is known of LSNs before `start`; NULL: nothing */
    uint64_t start;             /* LSN of fact[0] */
    uint64_t head;              /* oldest LSN that is kept, or the one that comes first */
    struct fact *fact;
    size_t facts, room;
    struct fact offer[MAX_BATCH]; /* a batch in a call that has not returned */
    unsigned offers;              /* 0: there is none, or it was accepted */
    uint64_t offer_lsn;           /* of its first record; 0: not accepted yet, as far as we know */
    uint64_t open_from;           /* after a crash records from there on may be voids, or not: 0: none */
    uint64_t settled;   /* the log ended here once, truncated or by a crash; maybe in the middle of a batch */
    size_t usual_bytes; /* most records have that size, so that new ones fit exactly over old ones; 0: any */
    uint64_t writer;    /* different for every history, so that no record is like a truncated one */
    uint64_t generation; /* one more with each truncation, for the same reason */
};

struct history history_begin(uint64_t writer);
struct history history_inherit(const struct history *past, uint64_t writer);
/* A copy with records of its own, which stays as it is while the original goes on. */
struct history history_copy(const struct history *history);
void history_free(struct history *history);
struct fact history_copy_fact(const struct fact *fact);

uint64_t history_last(const struct history *history);
/* The head, as the log itself sees it. */
uint64_t head_of(struct twinlog *log);
/* NULL: no such record, or nothing is known of it any more. */
const struct fact *history_fact(const struct history *history, uint64_t lsn);
/* That LSN, or the next one, or the one before, which is no filler. */
uint64_t history_next(const struct history *history, uint64_t lsn);
uint64_t history_before(const struct history *history, uint64_t lsn);
/* Records that are no fillers. */
uint64_t history_count(const struct history *history, uint64_t first, uint64_t last);
/* A log that ends here has a part of a batch. */
bool history_splits_batch(const struct history *history, uint64_t lsn);

/* Makes up a record of `size` bytes, or of a size up to `max_bytes`; `disk` lends bytes to copy. */
struct fact history_make_sized(const struct history *history, const struct simdisk *disk, struct rng *rng,
                               size_t size);
struct fact history_make(const struct history *history, const struct simdisk *disk, struct rng *rng,
                         size_t max_bytes);
void history_accept(struct history *history, struct fact fact);

/* A record is part of the history as soon as the log has accepted it, which is in the middle of the call
 * that appends it. So: offer it before the call; notice the log's last LSN whenever it matters; and settle
 * when the call has returned and it is known whether it was accepted. Returns its LSN, 0 if it was not. */
void history_offer(struct history *history, struct fact fact); /* in one batch with those before */
void history_notice(struct history *history, uint64_t last_lsn);
uint64_t history_settle(struct history *history, bool is_accepted);
/* May a sector have been all zeros in which there was something of these records? */
bool history_has_zeros(const struct history *history, uint64_t first, uint64_t last);

/* The log begins at `head` and ends at `last`: after a trim, a truncation, a reset, or as it was recovered. What
 * lies behind `last` is gone for good. */
void history_move(struct history *history, uint64_t head, uint64_t last);

/* Is `record` the one of that LSN? If not, *ret_why says what is wrong with it. */
bool history_knows(const struct history *history, const struct twinlog_record *record, const char **ret_why);

/* Ends the test unless `record` is the one of that LSN. `name` returned it. */
void history_check(const struct history *history, const struct twinlog_record *record, const char *name);

/* From `open_from` on: a void, if the log says so. */
bool history_may_skip(const struct history *history, uint64_t first, uint64_t end);
/* The log was opened: of the records from `open_from` to `last` those that `reader` does not return are voids for
 * good. */
void history_settle_voids(struct history *history, struct twinlog_reader *reader, uint64_t head,
                          uint64_t last);

/* Reads on from `reader` as far as it goes, checking each record; the first must be `next`. Returns the
 * LSN of the last one, or next - 1. *ret_sure: up to there none is missing that may be a void. */
uint64_t history_check_rest(const struct history *history, struct twinlog_reader *reader, uint64_t next,
                            const char *name, uint64_t *ret_sure);

/* The first LSN in [from, to] with time `time_ns` or later; to + 1 if there is none. */
uint64_t history_find_time(const struct history *history, uint64_t from, uint64_t to, int64_t time_ns);

/* Each test program has its own: prints the message and how to do it again, ends the program. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a log was given, so that what it gives back can be judged.
 *
 * A history is the list of records that were accepted, by LSN from 1. That of a recovered image begins
 * with what it inherited from the history of the disk it was taken from. A record's payload says who
 * wrote it, as which LSN and how long it is, followed by bytes made from that; but some payloads are
 * zeros, nothing, or a copy of what was on the disk, to confuse whoever looks for frames.
 *
 * The rules are those of every crash test here:
 *   O1 every acknowledged record is there, byte for byte
 *   O2 what is there is a gap-free prefix of the order in which it was accepted
 *   O3 nothing that was never appended, nothing twice, nothing of an older generation
 *   O4 a record that was not acknowledged is wholly there or wholly absent
 *   O5 opening again gives the same answer, also after a crash inside recovery
 *   O6 append after recovery, crash again: both parts are there
 *   O8 no reader ever returns a record above the durable LSN
 */
#ifndef TWL_SIM_HISTORY_H
#define TWL_SIM_HISTORY_H

#include "simdisk.h"
#include "twinlog.h"

struct fact {
    unsigned char *data;
    size_t size;
    int64_t time_ns;
};

struct history {
    const struct history *past; /* its records 1 ... kept begin this history; NULL: none */
    uint64_t kept;
    struct fact *fact; /* those from kept + 1 on */
    size_t facts, room;
    struct fact offer;  /* a record in a call that has not returned; data NULL: none */
    uint64_t offer_lsn; /* 0: not accepted yet, as far as we know */
    size_t usual_bytes; /* most records have that size, so that new ones fit exactly over old ones; 0: any */
    uint64_t writer; /* different for every history, so that no record is like one of a past that was cut */
};

void history_free(struct history *history);
uint64_t history_last(const struct history *history);
const struct fact *history_fact(const struct history *history, uint64_t lsn);

/* Makes up a record of `size` bytes, or of a size up to `max_bytes`; `disk` lends bytes to copy. */
struct fact history_make_sized(const struct history *history, const struct simdisk *disk, struct rng *rng,
                               size_t size);
struct fact history_make(const struct history *history, const struct simdisk *disk, struct rng *rng,
                         size_t max_bytes);
void history_accept(struct history *history, struct fact fact);

/* A record is part of the history as soon as the log has accepted it, which is in the middle of the call
 * that appends it. So: offer it before the call; notice the log's last LSN whenever it matters; and settle
 * when the call has returned and it is known whether it was accepted. Returns its LSN, 0 if it was not. */
void history_offer(struct history *history, struct fact fact);
void history_notice(struct history *history, uint64_t last_lsn);
uint64_t history_settle(struct history *history, bool is_accepted);

/* Recovery found records up to `last` only: the rest is gone for good. */
void history_cut(struct history *history, uint64_t last);

/* Aborts the test unless `record` is the one of that LSN. `who` returned it. */
void history_check(const struct history *history, const struct twinlog_record *record, const char *who);

/* Reads on from `reader` as far as it goes, checking each record; the first must be `next`. Returns the
 * LSN of the last one, or next - 1. */
uint64_t history_check_rest(const struct history *history, struct twinlog_reader *reader, uint64_t next,
                            const char *who);

/* Each test program has its own: prints the message and how to do it again, ends the program. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of crash-kill share. Three kinds of them:
 *   - a writer lives, appends from many threads, and is killed. A log goes through several lives;
 *   - a witness reads along, beside the writers, the dead and the living;
 *   - the judge, who started them, opens the log afterwards and compares it with their notes.
 *
 * The notes are in memory that outlives those who write it. A writer notes that a record was begun
 * before it hands it over, that it was accepted with which LSN, and that it was acknowledged, afterwards:
 * killed in between, it has claimed too little and never too much.
 */
#ifndef TWL_CRASH_KILL_H
#define TWL_CRASH_KILL_H

#include "../sim/rng.h"
#include "payload.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <twinlog.h>

#define MAX_WRITERS 64u
#define MAX_LIVES 3u         /* in one cycle, between two judgements */
#define NOTES_MAX (1u << 15) /* records of one writer in one life */
#define SEEN_MAX (1u << 20)  /* highest LSN the witness can note */
#define NOT_OPEN UINT64_MAX

/* Of one writer thread in one life. [that thread writes; the judge reads when the process is dead] */
struct notes {
    _Atomic uint64_t begun;    /* records that may be there */
    _Atomic uint64_t accepted; /* valid entries of `lsn` */
    _Atomic uint64_t acked;    /* of them, those that must be there */
    _Atomic uint64_t durable;  /* newest durable LSN that the log admitted to */
    uint64_t lsn[NOTES_MAX];   /* of record 0, 1, 2, ... */
};

struct life {
    uint64_t name; /* [const while it lives] different for every life */
    struct twinlog_options options;
    uint32_t writers;
    _Atomic uint64_t opened_last; /* last LSN when the log was open, NOT_OPEN before */
    _Atomic bool must_stop;       /* the judge asks for a clean close */
    _Atomic int error;            /* why it gave up */
    struct twinlog_report report; /* of its opening */
    struct notes notes[MAX_WRITERS];
};

struct witness {
    _Atomic bool must_stop; /* nothing more will be appended: read to the end, then leave */
    _Atomic int error;
    _Atomic uint64_t wrong_lsn; /* a record that was not the same when it was read again */
    uint64_t last_lsn;
    uint64_t openings, records;
    struct twinlog_report report;
    _Atomic uint64_t digest[SEEN_MAX + 1]; /* of each record it was given, by LSN; 0 = none */
};

struct shared {
    struct life lives[MAX_LIVES];
    struct witness witness;
};

/* One thing done wrong on purpose, to see that it is found. */
enum lie {
    LIE_NONE,
    LIE_ACK,    /* a writer takes an accepted record for an acknowledged one */
    LIE_BYTES,  /* a writer hands over a record with one bit changed */
    LIE_READER, /* the witness notes a record it was not given */
};

pid_t fork_writer(const char *dir, struct life *life, enum lie lie);
pid_t fork_witness(const char *dir, struct witness *witness, struct rng rng, enum lie lie);

/* ---- the judge --------------------------------------------------------------------------------- */

/* What is known of a log. */
struct book {
    uint64_t *digest; /* of record lsn at [lsn]; room for SEEN_MAX */
    uint64_t last;
    bool exists;
};

struct verdict {
    uint64_t acked, unacked; /* found of this cycle's records */
    uint64_t last, file_bytes;
    uint32_t finding; /* of the first opening after the lives */
};

/* Opens the log after `lives` lives, checks it against their notes and the witness's, appends some more
 * and closes. `is_at_once`: the last writer may still be on its way out. The witness is told to stop when
 * the last record is appended, and awaited. */
struct verdict judge(const char *dir, struct book *book, const struct shared *shared, unsigned lives,
                     bool is_at_once, struct rng *rng);
void check_witness(const struct book *book, const struct witness *witness);

/* Options as a life may have them, but for the I/O path. */
void choose_options(struct rng *rng, struct twinlog_options *options);

/* Prints what happened and how to do it again; ends the program. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
